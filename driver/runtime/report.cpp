#include "driver/runtime/report.hpp"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace cx {

double average_watts(const RunReport &report) {
  return report.energy_span_us > 0 ? microjoules(report.energy.total().value) / report.energy_span_us : 0;
}

double tera_operations_per_joule(const RunReport &report) {
  const double energy_uj = microjoules(report.energy.total().value);
  return energy_uj > 0 ? 2e-6 * static_cast<double>(report.macs) / energy_uj : 0;
}

nlohmann::json energy_json(const RunReport &report) {
  const auto amounts = [&](uint64_t EnergyAmount::*member) {
    nlohmann::json json = {{"total", microjoules(report.energy.total().*member)}};
    for (int i = 0; i < kEnergyDomains; ++i) {
      json[kEnergyDomainNames[i]] = microjoules(report.energy.domains[i].*member);
    }
    return json;
  };
  nlohmann::json json = {
      {"energy_uj", amounts(&EnergyAmount::value)},
      {"energy_least_uj", amounts(&EnergyAmount::least)},
      {"energy_most_uj", amounts(&EnergyAmount::most)},
      {"energy_span_us", report.energy_span_us},
      {"average_w", average_watts(report)},
      {"tops_per_w", tera_operations_per_joule(report)},
      {"operating_point", {{"number", report.point.number}, {"mhz", report.point.mhz}, {"volts", report.point.volts}}}};
  if (const auto &heat = report.energy.heat) {
    json["thermal"] = {
        {"junction_c", heat->junction_c}, {"peak_c", heat->peak_c}, {"throttled_us", throttled_us(report)}};
  }
  return json;
}

double throttled_us(const RunReport &report) {
  const bool known = report.energy.heat && report.point.mhz > 0;
  return known ? static_cast<double>(report.energy.heat->throttled_cycles) / report.point.mhz : 0;
}

double link_utilisation(const RunReport &report, const NocLinkCounters &link) {
  return report.cycles != 0 ? static_cast<double>(link.busy_cycles) / static_cast<double>(report.cycles) : 0;
}

std::string noc_beyond_validation(const RunReport &report) {
  const NocLinkCounters *worst = nullptr;
  std::size_t crowded = 0;
  for (const NocLinkCounters &link : report.counters.noc_links) {
    if (link.crowded_cycles == 0) continue;
    ++crowded;
    if (worst == nullptr || link.crowded_cycles > worst->crowded_cycles) worst = &link;
  }
  if (worst == nullptr) return {};
  const double part = 100 * static_cast<double>(worst->crowded_cycles) /
                      static_cast<double>(std::max<uint64_t>({report.cycles, worst->crowded_cycles, 1}));
  char text[512];
  std::snprintf(text, sizeof text,
                "%zu link%s of the network on chip carried several streams for more than %.0f %% of the time, at most "
                "%.1f %% of the run (%s > %s): beyond what its model was compared with routers for, it may price "
                "these phases up to a third too fast (docs/validation.md)",
                crowded, crowded == 1 ? "" : "s", 100 * kValidatedLinkLoad, part, worst->from.c_str(),
                worst->to.c_str());
  return text;
}

std::vector<std::string> energy_not_modelled() {
  return {"clock tree and pipeline registers", "switching by data", "gating of idle blocks", "host and board",
          "leakage by temperature"};
}

RunReport operator+(const RunReport &a, const RunReport &b) {
  RunReport r;
  r.latency_us = a.latency_us + b.latency_us;
  r.cycles = a.cycles + b.cycles;
  r.launch_us = a.launch_us + b.launch_us;
  r.launch_cycles = a.launch_cycles + b.launch_cycles;
  r.timing_only = a.timing_only && b.timing_only;
  r.timing_obstacle = a.timing_obstacle.empty() ? b.timing_obstacle : a.timing_obstacle;
  r.macs = a.macs + b.macs;
  r.peak_macs_per_cycle = std::max(a.peak_macs_per_cycle, b.peak_macs_per_cycle);
  const auto launch = static_cast<double>(r.launch_cycles);
  if (launch > 0) {
    const auto share = [&](double x, double y) {
      return (x * static_cast<double>(a.launch_cycles) + y * static_cast<double>(b.launch_cycles)) / launch;
    };
    r.mac_utilisation = share(a.mac_utilisation, b.mac_utilisation);
    for (int i = 0; i < kEngines; ++i) r.utilisation[i] = share(a.utilisation[i], b.utilisation[i]);
  }
  r.input_bytes = a.input_bytes + b.input_bytes;
  r.output_bytes = a.output_bytes + b.output_bytes;
  r.resident_bytes = a.resident_bytes + b.resident_bytes;
  r.counters = a.counters + b.counters;
  r.energy = a.energy + b.energy;
  r.energy_span_us = a.energy_span_us + b.energy_span_us;
  r.point = b.point;
  r.reconfigurations = a.reconfigurations + b.reconfigurations;
  r.reconfiguration_cycles = a.reconfiguration_cycles + b.reconfiguration_cycles;
  r.workspace_bytes = a.workspace_bytes + b.workspace_bytes;
  r.image_bytes = a.image_bytes + b.image_bytes;
  r.device_peak_bytes = std::max(a.device_peak_bytes, b.device_peak_bytes);
  r.wall_s = a.wall_s + b.wall_s;
  if (r.wall_s > 0) r.simulated_cycles_per_wall_s = static_cast<double>(r.cycles) / r.wall_s;
  return r;
}

void to_json(nlohmann::json &json, const RunReport &report) {
  const Counters &c = report.counters;
  nlohmann::json engines = nlohmann::json::object();
  for (int i = 0; i < kEngines; ++i) {
    const EngineCounters &engine = c.engines[i];
    engines[kEngineNames[i]] = {{"busy_cycles", engine.busy_cycles},   {"stall_cycles", engine.stall_cycles},
                                {"instructions", engine.instructions}, {"ops", engine.ops},
                                {"bytes_read", engine.bytes_read},     {"bytes_written", engine.bytes_written},
                                {"utilisation", report.utilisation[i]}};
  }
  json = {{"latency_us", report.latency_us},
          {"cycles", report.cycles},
          {"launch_us", report.launch_us},
          {"launch_cycles", report.launch_cycles},
          {"reconfigurations", report.reconfigurations},
          {"reconfiguration_cycles", report.reconfiguration_cycles},
          {"macs", report.macs},
          {"peak_macs_per_cycle", report.peak_macs_per_cycle},
          {"mac_utilisation", report.mac_utilisation},
          {"engines", std::move(engines)},
          {"bytes",
           {{"inputs", report.input_bytes},
            {"outputs", report.output_bytes},
            {"resident", report.resident_bytes},
            {"pcie_to_device", c.pcie_to_device},
            {"pcie_to_host", c.pcie_to_host},
            {"dram_read", c.dram_read},
            {"dram_written", c.dram_written},
            {"spm_read", c.spm_read},
            {"spm_written", c.spm_written},
            {"noc", c.noc},
            {"image", report.image_bytes},
            {"workspace", report.workspace_bytes},
            {"device_peak", report.device_peak_bytes}}},
          {"packets", c.packets},
          {"interrupts", c.interrupts},
          {"firmware_instructions", c.firmware_instructions},
          {"firmware_cycles", c.firmware_cycles},
          {"wall_s", report.wall_s},
          {"simulated_cycles_per_wall_s", report.simulated_cycles_per_wall_s}};
  if (c.dram.busy_ns != 0) {
    nlohmann::json dram;
    for (int i = 0; i < DramCounters::kCount; ++i) dram[DramCounters::names[i]] = c.dram.*DramCounters::members[i];
    json["dram"] = std::move(dram);
  }
  if (!c.noc_links.empty()) {
    nlohmann::json links = nlohmann::json::array();
    for (const NocLinkCounters &link : c.noc_links) {
      if (link.busy_cycles == 0) continue;
      links.push_back({{"from", link.from},
                       {"to", link.to},
                       {"bytes", link.bytes},
                       {"busy_cycles", link.busy_cycles},
                       {"waited_cycles", link.waited_cycles},
                       {"crowded_cycles", link.crowded_cycles},
                       {"utilisation", link_utilisation(report, link)}});
    }
    json["noc"] = {{"links", c.noc_links.size()}, {"links_used", std::move(links)}};
    if (const std::string note = noc_beyond_validation(report); !note.empty()) json["noc"]["beyond_validation"] = note;
  }
  json.update(energy_json(report));
  if (report.timing_only || !report.timing_obstacle.empty()) {
    json["timing_only"] = {{"applied", report.timing_only}, {"obstacle", report.timing_obstacle}};
  }
}

}  // namespace cx
