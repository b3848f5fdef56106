#include "driver/tools/profile_document.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <unordered_map>

#include "driver/include/cx/error.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/packets.hpp"

namespace cx::tools {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::size_t kMostSpans = 200'000;
constexpr std::size_t kBins = 400;  // of utilisation over time

double ns(uint64_t ps) { return static_cast<double>(ps) / 1e3; }

/// When its first instruction was issued, ps; of copies their begin. Cycles of its profile count from there.
uint64_t work_begin(const RecordedLaunch &launch) {
  if (launch.copies) return launch.times.begin;
  uint64_t first = UINT64_MAX;
  for (const cx_trace_record &record : launch.trace) {
    if (record.kind == CX_TRACE_INSTRUCTION) first = std::min(first, record.begin);
  }
  return first;
}

/// Numbers of texts, in the order in which they come.
class Texts {
 public:
  std::size_t operator()(const std::string &text) {
    const auto [known, added] = numbers_.emplace(text, list_.size());
    if (added) list_.push_back(text);
    return known->second;
  }
  const std::vector<std::string> &list() const { return list_; }

 private:
  std::unordered_map<std::string, std::size_t> numbers_;
  std::vector<std::string> list_;
};

struct Span {
  double start = 0, duration = 0;
  std::size_t name = 0, track = 0;
  int64_t node = -1;
  uint64_t id = 0, cause = 0, bytes = 0, operations = 0;
  int64_t reason = -1;
};

class Document {
 public:
  Document(const ProfiledRun &named, const std::vector<WhatIf> &what_if)
      : named_(named),
        run_(named.recorded),
        target_(named.target),
        what_if_(what_if),
        functions_(firmware_functions()),
        cycle_ns_(1e6 / std::max(named.target.clock_khz, 1U)) {
    uint64_t offset = 0;
    std::size_t group = 0;
    for (const RecordedLaunch &launch : run_.launches) {
      Part part{launch, GroupFinder(launch.outline, launch.statistics.details), group,
                offset, offset + launch.times.end - launch.times.begin,         0};
      part.work_start = part.at(work_begin(launch));
      offset = part.end;
      group += launch.profile.groups.size();
      parts_.push_back(std::move(part));
    }
  }

  Json json() {
    Json json;
    json["model"] = named_.model;
    json["config"] = named_.config;
    json["precision"] = named_.precision;
    json["chip"] = chip();
    json["summary"] = summary();
    json["reasons"] = kReasonNames;
    collect_spans();
    const Json memory = memory_json();  // names its buffers
    json["names"] = names_.list();
    json["tracks"] = tracks_;
    json["spans"] = spans_json();
    json["counters"] = counters();
    json["nodes"] = profile_nodes(named_);
    json["critical_path"] = path();
    json["stalls"] = profile_stalls(named_);
    json["roofline"] = roofline();
    json["memory"] = memory;
    json["energy"] = energy();
    json["what_if"] = Json::array();
    for (const WhatIf &variation : what_if_) {
      Json entry = what_if_json(variation);
      if (variation.error.empty()) {
        entry["speedup"] = variation.latency_us > 0 ? run_.report.latency_us / variation.latency_us : 0;
      }
      json["what_if"].push_back(std::move(entry));
    }
    return json;
  }

 private:
  /// A launch, and where its time lies in the run's: from `begin` to `end`, ps.
  struct Part {
    const RecordedLaunch &launch;
    GroupFinder group_of;
    std::size_t first_group;
    uint64_t begin, end;
    double work_start;  // ns; cycles of its profile count from there

    double at(uint64_t ps) const {
      return (static_cast<double>(ps) - static_cast<double>(launch.times.begin) + static_cast<double>(begin)) / 1e3;
    }
  };

  double hertz() const { return 1e3 * target_.clock_khz; }
  /// Time that a record has within its launch: what precedes the first and follows the last launch is shown, what lies
  /// between launches is cut off. False where nothing is left.
  bool clip(const Part &part, const cx_trace_record &record, double &start, double &end) const {
    start = part.at(record.begin);
    end = part.at(record.end);
    if (&part != &parts_.front()) start = std::max(start, ns(part.begin));
    if (&part != &parts_.back()) end = std::min(end, ns(part.end));
    return end > start || (end == start && record.begin == record.end);
  }
  std::size_t records() const {
    std::size_t count = 0;
    for (const Part &part : parts_) count += part.launch.trace.size();
    return count;
  }
  template <typename Use>
  void each_record(Use use) const {
    for (const Part &part : parts_) {
      for (const cx_trace_record &record : part.launch.trace) use(part, record);
    }
  }

  Json chip() const {
    const Target &t = target_;
    return {{"clock_mhz", t.clock_khz / 1e3},
            {"tiles", t.tiles},
            {"tile_rows", t.tile_rows},
            {"tile_cols", t.tile_cols},
            {"sca_tiles", t.sca_tiles},
            {"vpu_lanes", t.vpu_lanes},
            {"scratchpad_bytes", t.spm_bytes},
            {"dram_bytes", t.dram_bytes},
            {"dram_bytes_per_s", 1e6 * t.dram_mbps},
            {"scratchpad_bytes_per_s", hertz() * t.spm_bytes_per_cycle},
            {"peak_macs_per_s", hertz() * static_cast<double>(run_.report.peak_macs_per_cycle)}};
  }

  Json summary() const {
    const RunReport &r = run_.report;
    const Counters &c = r.counters;
    const auto most = static_cast<std::size_t>(run_.times.limited_by());
    return {{"latency_us", r.latency_us},
            {"launch_us", r.launch_us},
            {"work_us", static_cast<double>(run_.profile.work_cycles) * cycle_ns_ / 1e3},
            {"cache_moves_us", static_cast<double>(run_.profile.move_cycles) * cycle_ns_ / 1e3},
            {"cycles", r.cycles},
            {"macs", r.macs},
            {"mac_utilisation", r.mac_utilisation},
            {"bound_us", run_.profile.bound_cycles * cycle_ns_ / 1e3},
            {"bound_ratio", run_.profile.ratio()},
            {"packets", c.packets},
            {"interrupts", c.interrupts},
            {"firmware_instructions", c.firmware_instructions},
            {"firmware_cycles", c.firmware_cycles},
            {"bytes",
             {{"pcie_to_device", c.pcie_to_device},
              {"pcie_to_host", c.pcie_to_host},
              {"dram_read", c.dram_read},
              {"dram_written", c.dram_written},
              {"spm_read", c.spm_read},
              {"spm_written", c.spm_written},
              {"noc", c.noc}}},
            {"energy_uj", microjoules(r.energy.total().value)},
            {"average_w", average_watts(r)},
            {"compile_s", run_.compile_s},
            {"wall_s", run_.wall_s},
            {"limited_by", kReasonNames[static_cast<std::size_t>(most)]},
            {"headline", headline(named_)}};
  }

  std::size_t track(const std::string &name, const char *group, const char *unit, bool nested,
                    const char *clock = "device") {
    const auto [known, added] = track_numbers_.emplace(std::string(group) + "/" + name, tracks_.size());
    if (added) {
      tracks_.push_back({{"name", name}, {"group", group}, {"clock", clock}, {"unit", unit}, {"nested", nested}});
    }
    return known->second;
  }

  void collect_spans() {
    for (int engine = 0; engine < kEngines; ++engine) track(kEngineNames[engine], "engines", "in flight", false);
    // Engine by engine, whatever comes first in the trace.
    for (const auto &[kind, suffix] : {std::pair{CX_TRACE_WAIT, " waits"}, std::pair{CX_TRACE_STREAM, " stream"}}) {
      for (uint16_t engine = 0; engine < kEngines; ++engine) {
        bool any = false;
        each_record([&, kind = kind](const Part &, const cx_trace_record &r) {
          any = any || (r.kind == kind && r.unit == engine);
        });
        if (any) track(std::string(kEngineNames[engine]) + suffix, "engines", "", true);
      }
    }
    std::size_t traffic = 0;
    const auto is_traffic = [](const cx_trace_record &r) { return r.kind == CX_TRACE_DRAM || r.kind == CX_TRACE_LINK; };
    each_record([&](const Part &, const cx_trace_record &record) { traffic += is_traffic(record) ? 1 : 0; });
    const bool with_traffic = records() <= kMostSpans || records() - traffic > kMostSpans || traffic < kMostSpans / 2;
    each_record([&](const Part &part, const cx_trace_record &record) {
      if (with_traffic || !is_traffic(record)) add(part, record);
    });
    if (!run_.host.empty()) {
      const std::size_t host = track("host", "host", "wall time", true, "host");
      const auto run = std::find_if(run_.host.begin(), run_.host.end(), [](const auto &s) { return s.name == "run"; });
      const auto origin = run != run_.host.end() ? run->begin : run_.host.front().begin;
      for (const HostSpans::Span &from : run_.host) {
        Span span;
        span.start = std::chrono::duration<double, std::nano>(from.begin - origin).count();
        span.duration = std::chrono::duration<double, std::nano>(from.end - from.begin).count();
        span.name = names_(from.name);
        span.track = host;
        spans_.push_back(span);
      }
    }
    std::stable_sort(spans_.begin(), spans_.end(), [](const Span &a, const Span &b) {
      return a.start < b.start || (a.start == b.start && a.duration > b.duration);
    });
  }

  void add(const Part &part, const cx_trace_record &record) {
    Span span;
    double end = 0;
    if (!clip(part, record, span.start, end)) return;
    span.duration = end - span.start;
    span.id = record.id;
    span.cause = record.cause;
    const std::string unit = std::to_string(record.unit);
    const auto values = [&](unsigned place) { return record.values[place]; };
    switch (record.kind) {
      case CX_TRACE_PACKET:
        span.name = names_(std::string(packets::type_name(static_cast<uint8_t>(record.what))));
        span.track = track("queue " + unit, "packets", "", false);
        break;
      case CX_TRACE_STREAM:
        span.name = names_("stream");
        span.track = track(std::string(kEngineNames[record.unit]) + " stream", "engines", "", true);
        break;
      case CX_TRACE_INSTRUCTION:
        span.name = names_(std::string(isa::to_string(static_cast<isa::Opcode>(record.what))));
        span.track = track(kEngineNames[record.unit], "engines", "in flight", false);
        span.node = static_cast<int64_t>(
            part.first_group + part.group_of(record.unit, static_cast<uint32_t>(values(CX_TRACE_INSTRUCTION_PC))));
        span.bytes = values(CX_TRACE_INSTRUCTION_BYTES_WRITTEN);
        span.operations = values(CX_TRACE_INSTRUCTION_OPERATIONS);
        span.reason = static_cast<int64_t>(reason_of_limit(static_cast<uint32_t>(values(CX_TRACE_INSTRUCTION_LIMIT))));
        break;
      case CX_TRACE_WAIT:
        span.name = names_("semaphore " + std::to_string(record.what));
        span.track = track(std::string(kEngineNames[record.unit]) + " waits", "engines", "", true);
        span.reason = static_cast<int64_t>(Reason::dependency);
        break;
      case CX_TRACE_TRANSFER:
        span.name = names_(record.what == 1 ? "host to device" : record.what == 2 ? "device to host" : "on the device");
        span.track = track("system DMA " + unit, "pcie", "", true);
        span.bytes = values(CX_TRACE_TRANSFER_BYTES);
        span.reason = static_cast<int64_t>(record.cause != 0
                                               ? reason_of_limit(static_cast<uint32_t>(values(CX_TRACE_TRANSFER_LIMIT)))
                                               : Reason::launch);
        break;
      case CX_TRACE_PCIE:
        span.name = names_("busy");
        span.track = track(record.unit == 0   ? "link to the card"
                           : record.unit == 1 ? "link to the host"
                                              : "the host's accesses",
                           "pcie", "", false);
        span.bytes = values(CX_TRACE_PCIE_WIRE_BYTES);
        break;
      case CX_TRACE_INTERRUPT:
        span.name = names_("vector " + unit);
        span.track = track("interrupts", "pcie", "", false);
        break;
      case CX_TRACE_DRAM:
        span.name = names_(values(CX_TRACE_DRAM_WRITTEN) == 0 ? "reads"
                           : values(CX_TRACE_DRAM_READ) == 0  ? "writes"
                                                              : "reads and writes");
        span.track = track("channel " + unit, "dram", "", false);
        span.bytes = values(CX_TRACE_DRAM_READ) + values(CX_TRACE_DRAM_WRITTEN);
        break;
      case CX_TRACE_LINK: {
        const std::string key = std::to_string(CX_TRACE_LINK) + "/" + unit + " ";
        const auto known = std::find_if(run_.units.begin(), run_.units.end(),
                                        [&](const std::string &name) { return name.starts_with(key); });
        span.name = names_("transfer");
        span.track = track(known != run_.units.end() ? known->substr(key.size()) : "link " + unit, "noc", "", false);
        span.bytes = values(CX_TRACE_LINK_BYTES);
        break;
      }
      case CX_TRACE_FUNCTION:
        span.name = names_(record.what < functions_.names.size() ? functions_.names[record.what] : "unknown function");
        span.track = track("functions", "firmware", "", true);
        span.operations = values(CX_TRACE_FUNCTION_OWN_INSTRUCTIONS);
        break;
      case CX_TRACE_SLEEP:
        span.name = names_("asleep");
        span.track = track("sleep", "firmware", "", true);
        break;
      default:
        return;
    }
    spans_.push_back(span);
  }

  Json spans_json() const {
    std::unordered_map<uint64_t, std::size_t> places;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      if (spans_[i].id != 0) places.emplace(spans_[i].id, i);
    }
    Json json;
    const auto column = [&](const char *key, auto value) {
      Json list = Json::array();
      for (const Span &span : spans_) list.push_back(value(span));
      json[key] = std::move(list);
    };
    const auto place_of = [&](uint64_t id) -> int64_t {
      const auto known = places.find(id);
      return id != 0 && known != places.end() ? static_cast<int64_t>(known->second) : -1;
    };
    column("start", [](const Span &s) { return s.start; });
    column("duration", [](const Span &s) { return s.duration; });
    column("name", [](const Span &s) { return s.name; });
    column("track", [](const Span &s) { return s.track; });
    column("node", [](const Span &s) { return s.node; });
    column("cause", [&](const Span &s) { return place_of(s.cause); });
    column("bytes", [](const Span &s) { return s.bytes; });
    column("operations", [](const Span &s) { return s.operations; });
    column("reason", [](const Span &s) { return s.reason; });
    return json;
  }

  Json counters() const {
    Json list = Json::array();
    const auto series = [&](const std::string &name, const char *unit, const char *group) -> Json & {
      list.push_back(
          {{"name", name}, {"unit", unit}, {"group", group}, {"time", Json::array()}, {"value", Json::array()}});
      return list.back();
    };
    static constexpr std::pair<unsigned, const char *> kRates[] = {
        {CX_TRACE_TRAFFIC_DRAM_READ, "DRAM read"},          {CX_TRACE_TRAFFIC_DRAM_WRITTEN, "DRAM written"},
        {CX_TRACE_TRAFFIC_SPM_READ, "scratchpad read"},     {CX_TRACE_TRAFFIC_SPM_WRITTEN, "scratchpad written"},
        {CX_TRACE_TRAFFIC_NOC, "network on chip"},          {CX_TRACE_TRAFFIC_PCIE_TO_DEVICE, "PCIe to the card"},
        {CX_TRACE_TRAFFIC_PCIE_TO_HOST, "PCIe to the host"}};
    constexpr double kPerSecond = 1e12;
    double start = 0, end = 0;
    for (const auto &[place, name] : kRates) {
      Json &entry = series(name, "bytes/s", "bandwidth");
      each_record([&, place = place](const Part &part, const cx_trace_record &record) {
        if (record.kind != CX_TRACE_TRAFFIC || record.end == record.begin || !clip(part, record, start, end)) return;
        entry["time"].push_back(start);
        entry["value"].push_back(kPerSecond * static_cast<double>(record.values[place]) /
                                 static_cast<double>(record.end - record.begin));
      });
    }
    // Energy of all domains of a sample.
    std::map<double, double> watts;
    bool heat = false;
    each_record([&](const Part &part, const cx_trace_record &record) {
      constexpr double kWatts = 1e-3;  // a femtojoule a picosecond
      heat = heat || record.kind == CX_TRACE_TEMPERATURE;
      if (record.kind != CX_TRACE_TRAFFIC && record.kind != CX_TRACE_ENERGY) return;
      if (record.end == record.begin || !clip(part, record, start, end)) return;
      double &sum = watts.emplace(start, 0).first->second;
      if (record.kind == CX_TRACE_ENERGY) {
        sum += kWatts * static_cast<double>(record.values[CX_TRACE_ENERGY_FEMTOJOULES]) /
               static_cast<double>(record.end - record.begin);
      }
    });
    Json &power = series("power", "W", "power");
    for (const auto &[time, value] : watts) {
      power["time"].push_back(time);
      power["value"].push_back(value);
    }
    if (heat) {
      Json &junction = series("junction", "Celsius", "temperature");
      each_record([&](const Part &part, const cx_trace_record &record) {
        if (record.kind != CX_TRACE_TEMPERATURE || !clip(part, record, start, end)) return;
        junction["time"].push_back(end);
        junction["value"].push_back(
            static_cast<double>(static_cast<int64_t>(record.values[CX_TRACE_TEMPERATURE_JUNCTION])) / 1e3);
      });
    }
    utilisation(series);
    return list;
  }

  /// Share of each bin in which an engine had an instruction incomplete.
  template <typename Series>
  void utilisation(Series series) const {
    const double length = ns(run_.times.end);
    const double bin = length / static_cast<double>(kBins);
    if (!(bin > 0)) return;
    for (uint32_t engine = 0; engine < kEngines; ++engine) {
      std::vector<double> busy(kBins, 0);
      double reached = 0;
      bool any = false;
      each_record([&](const Part &part, const cx_trace_record &record) {
        if (record.kind != CX_TRACE_INSTRUCTION || record.unit != engine) return;
        any = true;
        double from = std::max(part.at(record.begin), reached);
        const double to = std::min(part.at(record.end), length);
        reached = std::max(reached, to);
        for (; from < to;) {
          const auto place = std::min(static_cast<std::size_t>(from / bin), kBins - 1);
          const double next = place + 1 == kBins ? to : std::min(to, static_cast<double>(place + 1) * bin);
          busy[place] += std::max(next, from) - from;
          if (!(next > from)) break;
          from = next;
        }
      });
      if (!any) continue;
      Json &entry = series(kEngineNames[engine], "share", "utilisation");
      for (std::size_t i = 0; i < kBins; ++i) {
        entry["time"].push_back(static_cast<double>(i) * bin);
        entry["value"].push_back(std::min(busy[i] / bin, 1.0));
      }
    }
  }

  Json path() const {
    std::unordered_map<uint64_t, std::size_t> places;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      if (spans_[i].id != 0) places.emplace(spans_[i].id, i);
    }
    Json json;
    for (const char *key : {"span", "start", "duration", "reason", "node"}) json[key] = Json::array();
    for (const PathSegment &segment : run_.times.path) {
      const auto place = places.find(segment.record);
      json["span"].push_back(place != places.end() ? static_cast<int64_t>(place->second) : -1);
      json["start"].push_back(ns(segment.begin));
      json["duration"].push_back(ns(segment.end - segment.begin));
      json["reason"].push_back(static_cast<int>(segment.reason));
      json["node"].push_back(segment.node);
    }
    const auto sums = run_.times.by_reason();
    for (int r = 0; r < kReasons; ++r) json["by_reason"][kReasonNames[r]] = ns(sums[r]);
    for (std::size_t p = 0; p < kLaunchPartNames.size(); ++p) {
      json["launch_parts"][kLaunchPartNames[p]] = ns(run_.times.launch[p]);
    }
    return json;
  }

  Json roofline() const {
    Json points = {{"node", Json::array()}, {"macs", Json::array()}, {"bytes", Json::array()}, {"ns", Json::array()}};
    for (std::size_t g = 0; g < run_.profile.groups.size(); ++g) {
      const GroupProfile &group = run_.profile.groups[g];
      if (group.group.macs == 0) continue;
      // What other nodes' time hid counts as well: no engine of a node is done before it has been busy.
      uint64_t cycles = group.cycles;
      for (const EngineShare &share : group.engines) cycles = std::max(cycles, share.busy);
      points["node"].push_back(g);
      points["macs"].push_back(group.group.macs);
      points["bytes"].push_back(group.memory_bytes);
      points["ns"].push_back(static_cast<double>(cycles) * cycle_ns_);
    }
    const Json about = chip();
    Json ceilings = Json::array(), slopes = Json::array();
    ceilings.push_back({{"name", "MAC tiles"}, {"macs_per_s", about["peak_macs_per_s"]}});
    if (run_.profile.sparse_macs != 0) {
      ceilings.push_back({{"name", "sparse tiles"},
                          {"macs_per_s", hertz() * static_cast<double>(run_.profile.peak_sparse_macs_per_cycle)}});
    }
    slopes.push_back({{"name", "DRAM"}, {"bytes_per_s", about["dram_bytes_per_s"]}});
    slopes.push_back({{"name", "scratchpad, one port"}, {"bytes_per_s", about["scratchpad_bytes_per_s"]}});
    return {{"ceilings", std::move(ceilings)}, {"slopes", std::move(slopes)}, {"points", std::move(points)}};
  }

  Json memory_json() {
    static constexpr const char *kKinds[] = {"program", "constants", "workspace", "input", "output", "table", "tile"};
    enum Kind { program, constants, workspace, input, output };
    Json buffers;
    for (const char *key : {"space", "name", "kind", "address", "size", "first", "last"}) buffers[key] = Json::array();
    const auto add = [&](int space, const std::string &name, int kind, uint64_t address, uint64_t size, double first,
                         double last) {
      buffers["space"].push_back(space);
      buffers["name"].push_back(names_(name));
      buffers["kind"].push_back(kind);
      buffers["address"].push_back(address);
      buffers["size"].push_back(size);
      buffers["first"].push_back(first);
      buffers["last"].push_back(last);
    };
    for (const Part &part : parts_) {
      const RecordedLaunch &launch = part.launch;
      const double begin = ns(part.begin), end = ns(part.end);
      const auto cycle = [&](uint64_t count) { return part.work_start + static_cast<double>(count) * cycle_ns_; };
      if (launch.segments.empty()) continue;
      const uint64_t image = launch.segments[0].base;
      if (launch.outline.constants_bytes != 0) {
        add(0, "program", program, image, launch.report.image_bytes, begin, end);
        add(0, "constants", constants, launch.segments[launch.outline.constants_segment].base,
            launch.outline.constants_bytes, part.work_start, end);
      } else {
        const uint64_t code = launch.report.image_bytes - launch.statistics.constant_bytes;
        add(0, "program", program, image, code, begin, end);
        add(0, "constants", constants, image + code, launch.statistics.constant_bytes, part.work_start, end);
      }
      for (const auto *bindings : {&launch.outline.inputs, &launch.outline.outputs}) {
        for (const Binding &binding : *bindings) {
          if (binding.bytes == 0) continue;
          add(0, binding.name, bindings == &launch.outline.inputs ? input : output,
              launch.segments[binding.segment].base, binding.bytes, begin, end);
        }
      }
      for (const compiler::PlannedBuffer &buffer : launch.statistics.buffers) {
        const uint64_t base = buffer.scratchpad ? 0 : launch.segments[1].base;
        add(buffer.scratchpad ? 1 : 0, buffer.tensor, workspace, base + buffer.offset, buffer.bytes,
            cycle(launch.profile.groups.at(buffer.first_group).first_issue),
            cycle(launch.profile.groups.at(buffer.last_group).last_complete));
      }
    }
    Json spaces = Json::array();
    spaces.push_back({{"name", "DRAM"}, {"bytes", target_.dram_bytes}});
    spaces.push_back({{"name", "scratchpad"}, {"bytes", target_.spm_bytes}});
    return {{"spaces", std::move(spaces)}, {"kinds", kKinds}, {"buffers", std::move(buffers)}};
  }

  Json energy() const {
    const Energy &energy = run_.report.energy;
    Json domains = Json::array();
    for (int d = 0; d < kEnergyDomains; ++d) {
      const EnergyAmount &amount = energy.domains[d];
      domains.push_back({{"name", kEnergyDomainNames[d]},
                         {"uj", microjoules(amount.value)},
                         {"least_uj", microjoules(amount.least)},
                         {"most_uj", microjoules(amount.most)}});
    }
    return {{"total_uj", microjoules(energy.total().value)},
            {"span_us", run_.report.energy_span_us},
            {"domains", std::move(domains)}};
  }

  const ProfiledRun &named_;
  const RecordedRun &run_;
  const Target &target_;
  const std::vector<WhatIf> &what_if_;
  std::vector<Part> parts_;
  FirmwareFunctions functions_;
  double cycle_ns_;
  Texts names_;
  Json tracks_ = Json::array();
  std::map<std::string, std::size_t> track_numbers_;
  std::vector<Span> spans_;
};

}  // namespace

Json what_if_json(const WhatIf &variation) {
  Json entry = {{"name", variation.name}, {"sets", variation.sets}};
  if (!variation.error.empty()) {
    entry["error"] = variation.error;
    return entry;
  }
  entry["latency_us"] = variation.latency_us;
  entry["limited_by"] = variation.limited_by;
  entry["limited_share"] = variation.limited_share;
  if (!variation.remark.empty()) entry["remark"] = variation.remark;
  if (!variation.launch_parts_us.empty()) entry["launch_parts_us"] = variation.launch_parts_us;
  return entry;
}

Json profile_document(const ProfiledRun &run, const std::vector<WhatIf> &what_if) {
  return Document(run, what_if).json();
}

const char *explanation(Reason reason) {
  switch (reason) {
    case Reason::compute:
      return "computing";
    case Reason::dram:
      return "waiting for device memory";
    case Reason::scratchpad:
      return "waiting for the scratchpad";
    case Reason::noc:
      return "waiting for the network on chip";
    case Reason::pcie:
      return "copying over PCIe";
    case Reason::launch:
      return "launching: firmware, packets, completion";
    case Reason::dependency:
      return "handing over between engines";
    case Reason::engine:
      return "in fixed times of engines: setup, address generation, fetch";
  }
  return "";
}

namespace {

/// The launch that a group of the whole run belongs to, and its place there.
std::pair<const RecordedLaunch *, std::size_t> place_of(const RecordedRun &run, std::size_t group) {
  for (const RecordedLaunch &launch : run.launches) {
    if (group < launch.profile.groups.size()) return {&launch, group};
    group -= launch.profile.groups.size();
  }
  throw UsageError("the run has no such group");
}

Json in_ns(const std::array<uint64_t, kReasons> &sums) {
  Json list = Json::array();
  for (const uint64_t ps : sums) list.push_back(ns(ps));
  return list;
}

}  // namespace

Reason bound_of(const RecordedRun &run, std::size_t group) {
  auto sums = run.times.by_reason(static_cast<int>(group));
  if (std::all_of(sums.begin(), sums.end(), [](uint64_t ps) { return ps == 0; })) {
    const auto [launch, place] = place_of(run, group);
    const GroupFinder group_of(launch->outline, launch->statistics.details);
    for (const cx_trace_record &record : launch->trace) {
      if (record.kind != CX_TRACE_INSTRUCTION) continue;
      if (group_of(record.unit, static_cast<uint32_t>(record.values[CX_TRACE_INSTRUCTION_PC])) != place) continue;
      sums[static_cast<std::size_t>(reason_of_limit(
          static_cast<uint32_t>(record.values[CX_TRACE_INSTRUCTION_LIMIT])))] += record.end - record.begin;
    }
  }
  return static_cast<Reason>(std::max_element(sums.begin(), sums.end()) - sums.begin());
}

double group_energy_uj(const RecordedRun &run, std::size_t number) {
  const auto [launch, place] = place_of(run, number);
  const GroupProfile &group = launch->profile.groups[place];
  const Counters &c = launch->report.counters;
  const auto share = [](uint64_t part, uint64_t whole) {
    return whole != 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
  };
  double uj = 0;
  const auto add = [&, launch = launch](const char *domain, double part) {
    for (int d = 0; d < kEnergyDomains; ++d) {
      if (std::string_view(kEnergyDomainNames[d]) == domain) {
        uj += part * microjoules(launch->report.energy.domains[d].value);
      }
    }
  };
  if (launch->copies) {
    for (const char *domain : {"scratchpad", "dram", "noc", "dma"}) add(domain, 1);
    return uj;
  }
  constexpr int kStore = 1, kDmmu = 2, kVpu = 3, kSca = 4;
  add("dmmu", share(group.engines[kDmmu].operations, c.engines[kDmmu].ops));
  add("vpu", share(group.engines[kVpu].operations, c.engines[kVpu].ops));
  add("sca", share(group.engines[kSca].operations, c.engines[kSca].ops));
  uint64_t own = 0, all = 0;
  for (int e = 0; e < kEngines; ++e) {
    own += (e == 0 ? 0 : group.engines[e].bytes_read) + (e == kStore ? 0 : group.engines[e].bytes_written);
    all += (e == 0 ? 0 : c.engines[e].bytes_read) + (e == kStore ? 0 : c.engines[e].bytes_written);
  }
  add("scratchpad", share(own, all));
  add("dram", share(group.memory_bytes, c.dram_read + c.dram_written));
  add("noc", share(group.memory_bytes, c.dram_read + c.dram_written));
  add("dma", share(group.engines[0].bytes_written + group.engines[kStore].bytes_written,
                   c.engines[0].bytes_written + c.engines[kStore].bytes_written));
  return uj;
}

Json profile_nodes(const ProfiledRun &named) {
  const RecordedRun &run = named.recorded;
  const double cycle_ns = 1e6 / std::max(named.target.clock_khz, 1U);
  Json list = Json::array();
  std::size_t number = 0;
  uint64_t offset = 0;
  for (std::size_t l = 0; l < run.launches.size(); ++l) {
    const RecordedLaunch &launch = run.launches[l];
    const double start = ns(work_begin(launch) - launch.times.begin + offset);
    for (const GroupProfile &group : launch.profile.groups) {
      Json engines = Json::object();
      for (int e = 0; e < kEngines; ++e) {
        const EngineShare &share = group.engines[e];
        if (share.instructions == 0) continue;
        engines[kEngineNames[e]] = {{"instructions", share.instructions},
                                    {"busy_ns", static_cast<double>(share.busy) * cycle_ns},
                                    {"waited_ns", static_cast<double>(share.waited) * cycle_ns},
                                    {"operations", share.operations},
                                    {"bytes_read", share.bytes_read},
                                    {"bytes_written", share.bytes_written}};
      }
      const double time = static_cast<double>(group.cycles) * cycle_ns;
      const double mac_ns = static_cast<double>(group.group.macs) /
                            static_cast<double>(std::max<uint64_t>(launch.report.peak_macs_per_cycle, 1)) * cycle_ns;
      list.push_back({{"name", group.group.name},
                      {"op", group.group.op},
                      {"nodes", group.group.nodes},
                      {"launch", l},
                      {"start", start + static_cast<double>(group.first_issue) * cycle_ns},
                      {"end", start + static_cast<double>(group.last_complete) * cycle_ns},
                      {"time", time},
                      {"engine", group.engine()},
                      {"utilisation", group.utilisation()},
                      {"mac_utilisation", time > 0 ? mac_ns / time : 0},
                      {"bound", static_cast<int>(bound_of(run, number))},
                      {"by_reason", in_ns(run.times.by_reason(static_cast<int>(number)))},
                      {"macs", group.group.macs},
                      {"bytes", group.group.minimum_bytes},
                      {"memory_bytes", group.memory_bytes},
                      {"bound_ns", group.bound_cycles * cycle_ns},
                      {"energy_uj", group_energy_uj(run, number)},
                      {"engines", std::move(engines)}});
      ++number;
    }
    offset += launch.times.end - launch.times.begin;
  }
  return list;
}

Json profile_stalls(const ProfiledRun &named) {
  Json list = Json::array();
  // Tracks of a document begin with those of the engines.
  for (const Stall &stall : named.recorded.times.stalls) {
    list.push_back({{"track", stall.engine},
                    {"node", stall.node},
                    {"waiting_for", stall.waiting_for},
                    {"reason", static_cast<int>(stall.reason)},
                    {"ns", ns(stall.ps)},
                    {"count", stall.count}});
  }
  return list;
}

std::string headline(const ProfiledRun &named) {
  const RecordedRun &run = named.recorded;
  const auto sums = run.times.by_reason();
  const auto most = static_cast<std::size_t>(run.times.limited_by());
  const auto whole = static_cast<double>(std::max<uint64_t>(run.times.end - run.times.begin, 1));
  // On which engine most of that was, and in which node.
  std::array<uint64_t, kEngines> engines{};
  std::vector<uint64_t> nodes(run.profile.groups.size(), 0);
  uint64_t of_no_node = 0;
  for (const PathSegment &segment : run.times.path) {
    if (static_cast<std::size_t>(segment.reason) != most) continue;
    if (segment.engine >= 0) engines[static_cast<std::size_t>(segment.engine)] += segment.end - segment.begin;
    (segment.node >= 0 ? nodes[static_cast<std::size_t>(segment.node)] : of_no_node) += segment.end - segment.begin;
  }
  std::string text =
      fmt::format("{:.1f} us, of which {:.0f} % {}", whole / 1e6, 100.0 * static_cast<double>(sums[most]) / whole,
                  explanation(static_cast<Reason>(most)));
  const auto engine = std::max_element(engines.begin(), engines.end());
  if (*engine != 0) {
    text += fmt::format(", {:.0f} % on engine {}", 100.0 * static_cast<double>(*engine) / whole,
                        kEngineNames[engine - engines.begin()]);
  }
  const auto node = std::max_element(nodes.begin(), nodes.end());
  if (node != nodes.end() && *node > of_no_node) {
    const GroupProfile &group = run.profile.groups[static_cast<std::size_t>(node - nodes.begin())];
    text +=
        fmt::format("; most in {} ({}), {:.1f} us", group.group.name, group.group.op, static_cast<double>(*node) / 1e6);
  }
  return text;
}

std::vector<std::string> compare_runs(const Json &a, const Json &b) {
  std::vector<std::string> lines;
  const double before = a["summary"]["latency_us"], after = b["summary"]["latency_us"];
  const std::string from = a["config"], to = b["config"];
  lines.push_back(fmt::format("{} takes {:.2f} us, {} {:.2f} us: {:.2f} times as long", from, before, to, after,
                              before > 0 ? after / before : 0));
  // Reasons whose time differs most.
  std::vector<std::pair<double, std::string>> differences;
  for (const auto &[reason, time] : a["critical_path"]["by_reason"].items()) {
    const double x = time, y = b["critical_path"]["by_reason"][reason];
    differences.emplace_back((y - x) / 1e3, reason);
  }
  std::stable_sort(differences.begin(), differences.end(),
                   [](const auto &x, const auto &y) { return std::abs(x.first) > std::abs(y.first); });
  const double whole = after - before;
  for (const auto &[us, reason] : differences) {
    if (std::abs(us) < 0.01 * std::max(std::abs(whole), 0.01)) continue;
    const auto number =
        static_cast<std::size_t>(std::find(kReasonNames.begin(), kReasonNames.end(), reason) - kReasonNames.begin());
    std::string line = fmt::format("{:+.2f} us {}", us, explanation(static_cast<Reason>(number)));
    if (std::abs(whole) > 0.01) line += fmt::format(" ({:.0f} % of the difference)", 100 * us / whole);
    lines.push_back(line);
  }
  // What the chips have that tells them apart.
  const auto what = [&](const char *key, const char *name, double scale, const char *unit) {
    const double x = a["chip"][key], y = b["chip"][key];
    if (x != y) lines.push_back(fmt::format("{}: {:.6g} and {:.6g}{}", name, x / scale, y / scale, unit));
  };
  what("peak_macs_per_s", "multiply-accumulates a second at most", 1e9, " 10^9");
  what("dram_bytes_per_s", "device memory", 1e9, " GB/s");
  what("vpu_lanes", "lanes of the vector unit", 1, "");
  what("scratchpad_bytes", "scratchpad", 1 << 20, " MiB");
  what("scratchpad_bytes_per_s", "a port of the scratchpad", 1e9, " GB/s");
  what("clock_mhz", "clock", 1, " MHz");
  // Nodes that both have.
  std::map<std::string, double> times;
  for (const Json &node : a["nodes"]) times[node["name"]] = node["time"];
  std::vector<std::pair<double, std::string>> nodes;
  for (const Json &node : b["nodes"]) {
    const auto known = times.find(node["name"]);
    if (known != times.end()) nodes.emplace_back((node["time"].get<double>() - known->second) / 1e3, known->first);
  }
  std::stable_sort(nodes.begin(), nodes.end(),
                   [](const auto &x, const auto &y) { return std::abs(x.first) > std::abs(y.first); });
  constexpr std::size_t kShown = 3;
  for (std::size_t i = 0; i < std::min(kShown, nodes.size()); ++i) {
    if (nodes[i].first != 0) lines.push_back(fmt::format("{:+.2f} us in node {}", nodes[i].first, nodes[i].second));
  }
  return lines;
}

}  // namespace cx::tools
