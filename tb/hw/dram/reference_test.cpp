// The channel model against the figures of an outside cycle-level simulator (reference/ramulator2.csv): the same parts,
// the same traffic. CX_DRAM_VALIDATION=FILE writes the table of docs/validation.md.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "hw/dram/channel.hpp"
#include "hw/dram/mapping.hpp"
#include "tb/hw/dram/traffic.hpp"

using namespace cx::hw;

namespace {

struct Part {
  DramTiming timing;
  DramGeometry geometry;
  std::string mapping;
  std::string hash;
};

struct Figures {
  double gbps = 0;
  double latency_ns = 0;
};

struct Case {
  bool single_refresh = false;
  std::string part;
  std::string traffic;
  std::uint32_t ticks_between = 0;
  std::uint32_t requests = 0;
  Figures reference;
};

// In percent. docs/validation.md says why one traffic is further apart.
struct Tolerance {
  double bandwidth = 5;
  double latency = 10;
};
const std::map<std::pair<std::string, std::string>, Tolerance> kFurtherApart = {
    {{"hbm2e_3200", "copy"}, {10, 10}},
    {{"hbm2e_3200", "copy, single"}, {8, 10}},
};

std::vector<std::string> split(const std::string &line, char separator) {
  std::vector<std::string> out;
  std::istringstream stream(line);
  for (std::string item; std::getline(stream, item, separator);) out.push_back(item);
  return out;
}

Part part_of(const std::vector<std::string> &fields) {
  REQUIRE(fields.size() == 5);
  Part part;
  DramTiming &t = part.timing;
  DramGeometry &g = part.geometry;
  const std::map<std::string, std::uint32_t *> members = {{"tick_ps", &t.tick_ps},
                                                          {"burst", &t.burst},
                                                          {"cl", &t.cl},
                                                          {"cwl", &t.cwl},
                                                          {"rcd_rd", &t.rcd_rd},
                                                          {"rcd_wr", &t.rcd_wr},
                                                          {"rp", &t.rp},
                                                          {"rp_all", &t.rp_all},
                                                          {"ras", &t.ras},
                                                          {"rc", &t.rc},
                                                          {"rtp", &t.rtp},
                                                          {"wr", &t.wr},
                                                          {"ccd_s", &t.ccd_s},
                                                          {"ccd_l", &t.ccd_l},
                                                          {"ccd_s_wr", &t.ccd_s_wr},
                                                          {"ccd_l_wr", &t.ccd_l_wr},
                                                          {"rrd_s", &t.rrd_s},
                                                          {"rrd_l", &t.rrd_l},
                                                          {"faw", &t.faw},
                                                          {"wtr_s", &t.wtr_s},
                                                          {"wtr_l", &t.wtr_l},
                                                          {"rtw", &t.rtw},
                                                          {"cs", &t.cs},
                                                          {"rfc", &t.rfc},
                                                          {"refi", &t.refi},
                                                          {"rfc_pb", &t.rfc_pb},
                                                          {"refi_pb", &t.refi_pb},
                                                          {"rrefd", &t.rrefd},
                                                          {"refresh_groups", &g.refresh_groups},
                                                          {"banks", &g.banks},
                                                          {"bank_groups", &g.bank_groups},
                                                          {"row_bytes", &g.row_bytes},
                                                          {"burst_bytes", &g.burst_bytes}};
  for (const std::string &assignment : split(fields[2], ' ')) {
    const auto pair = split(assignment, '=');
    REQUIRE(pair.size() == 2);
    *members.at(pair[0]) = static_cast<std::uint32_t>(std::stoul(pair[1]));
  }
  part.mapping = fields[3];
  part.hash = fields[4];
  return part;
}

Figures ours(const Part &whole, const TrafficCase &what, bool single_refresh) {
  Part part = whole;
  DramScheduling scheduling;
  if (single_refresh) {
    // The reference refreshes one bank at a time, so it does so more often for as many rows.
    scheduling.refresh = DramRefresh::per_bank;
    part.timing.refi_pb /= part.geometry.refresh_groups;
    part.geometry.refresh_groups = 1;
  }
  const AddressMapping mapping(part.mapping, part.hash, part.geometry);
  DramChannel channel(part.timing, part.geometry, scheduling, mapping.pattern());
  Traffic traffic(what, part.geometry);
  std::vector<AddressMapping::Part> parts;
  Ticks accepted = 0;
  Ticks end = 0;
  double latency = 0;
  std::uint64_t reads = 0;
  for (std::uint32_t i = 0; i < what.requests; ++i) {
    const TrafficRequest request = traffic.next();
    const Ticks arrival = std::max(request.arrival, accepted);
    mapping.parts(request.address, part.geometry.burst_bytes, part.geometry.burst_bytes, parts);
    const auto done =
        request.write ? channel.write(arrival, parts.at(0).strip) : channel.read(arrival, parts.at(0).strip);
    accepted = std::max(accepted, done.accepted);
    end = std::max(end, done.done);
    if (request.write) continue;
    latency += static_cast<double>(done.done - std::max(arrival, done.accepted));
    ++reads;
  }
  end = std::max(end, channel.drain());
  const double tick_ns = part.timing.tick_ps / 1000.0;
  return {static_cast<double>(what.requests) * part.geometry.burst_bytes / (static_cast<double>(end) * tick_ns),
          reads == 0 ? 0 : latency / static_cast<double>(reads) * tick_ns};
}

double percent(double value, double reference) { return 100 * (value / reference - 1); }

}  // namespace

TEST_CASE("bandwidth and latency are those of a cycle-level simulator") {
  std::ifstream file("tb/hw/dram/reference/ramulator2.csv");
  REQUIRE(file);
  std::map<std::string, Part> parts;
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    const auto fields = split(line, ';');
    if (fields.at(0) == "part") {
      parts[fields.at(1)] = part_of(fields);
    } else {
      REQUIRE(fields.size() == 7);
      REQUIRE((fields[0] == "case" || fields[0] == "single"));
      cases.push_back({fields[0] == "single",
                       fields[1],
                       fields[2],
                       static_cast<std::uint32_t>(std::stoul(fields[3])),
                       static_cast<std::uint32_t>(std::stoul(fields[4])),
                       {std::stod(fields[5]), std::stod(fields[6])}});
    }
  }
  REQUIRE(parts.size() == dram_presets().size());
  REQUIRE(cases.size() >= 80);
  std::map<bool, std::string> tables;  // by single_refresh
  double bandwidth_error = 0;
  double latency_error = 0;
  unsigned latencies = 0;
  for (const Case &row : cases) {
    std::string &table = tables[row.single_refresh];
    INFO(row.part << ", " << row.traffic << (row.single_refresh ? ", refresh of single banks" : ""));
    const DramPreset *preset = dram_preset(row.part);
    REQUIRE(preset != nullptr);
    // The presets are what was validated.
    REQUIRE(preset->timing == parts.at(row.part).timing);
    TrafficCase what;
    for (const TrafficCase &known : traffic_cases(*preset)) {
      if (known.name == row.traffic) what = known;
    }
    REQUIRE(what.requests == row.requests);
    REQUIRE(what.ticks_between == row.ticks_between);
    const Figures got = ours(parts.at(row.part), what, row.single_refresh);
    const double bandwidth = percent(got.gbps, row.reference.gbps);
    Tolerance tolerance;
    if (const auto other = kFurtherApart.find({row.part, row.traffic + (row.single_refresh ? ", single" : "")});
        other != kFurtherApart.end()) {
      tolerance = other->second;
    }
    CHECK(std::abs(bandwidth) <= tolerance.bandwidth);
    bandwidth_error += std::abs(bandwidth);
    char text[256];
    std::snprintf(text, sizeof text, "| %s | %s | %.2f | %.2f | %+.1f %% |", row.part.c_str(), row.traffic.c_str(),
                  got.gbps, row.reference.gbps, bandwidth);
    table += text;
    if (row.reference.latency_ns > 0) {
      const double latency = percent(got.latency_ns, row.reference.latency_ns);
      CHECK(std::abs(latency) <= tolerance.latency);
      latency_error += std::abs(latency);
      ++latencies;
      std::snprintf(text, sizeof text, " %.1f | %.1f | %+.1f %% |\n", got.latency_ns, row.reference.latency_ns,
                    latency);
      table += text;
    } else {
      table += " | | |\n";
    }
  }
  CHECK(bandwidth_error / static_cast<double>(cases.size()) < 1);
  CHECK(latency_error / latencies < 2);
  if (const char *out = std::getenv("CX_DRAM_VALIDATION")) {
    std::ofstream(out) << tables[false] << "\nsingle banks\n"
                       << tables[true] << "mean of the amounts: bandwidth "
                       << bandwidth_error / static_cast<double>(cases.size()) << " %, latency "
                       << latency_error / latencies << " %\n";
  }
}
