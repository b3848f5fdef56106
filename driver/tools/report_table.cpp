#include "driver/tools/report_table.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

namespace cx::tools {

std::string grouped(uint64_t value) {
  std::string text = std::to_string(value);
  for (int at = static_cast<int>(text.size()) - 3; at > 0; at -= 3) text.insert(at, ",");
  return text;
}

nlohmann::ordered_json report_json(const RunReport &report) {
  nlohmann::json json = report;
  json.erase("wall_s");
  json.erase("simulated_cycles_per_wall_s");
  json["not_modelled"] = energy_not_modelled();
  return json;
}

std::string energy_table(const RunReport &report) {
  const EnergyAmount total = report.energy.total();
  std::string out = fmt::format("\n  {:<16}{:>16}{:>10}{:>16}{:>16}\n", "energy", "uJ", "share", "least", "most");
  const auto line = [&](const char *name, const EnergyAmount &amount) {
    const double share = total.value != 0 ? static_cast<double>(amount.value) / static_cast<double>(total.value) : 0;
    out += fmt::format("  {:<16}{:>16.3f}{:>8.2f} %{:>16.3f}{:>16.3f}\n", name, microjoules(amount.value), 100 * share,
                       microjoules(amount.least), microjoules(amount.most));
  };
  for (int i = 0; i < kEnergyDomains; ++i) line(kEnergyDomainNames[i], report.energy.domains[i]);
  line("total", total);
  out += fmt::format("  {:.3f} W on average over {:.2f} us; {:.3f} TOPS/W effective\n", average_watts(report),
                     report.energy_span_us, tera_operations_per_joule(report));
  out += fmt::format("  core at {:.0f} MHz and {:.3f} V (point {})\n", report.point.mhz, report.point.volts,
                     report.point.number);
  if (const auto &heat = report.energy.heat) {
    out += fmt::format("  junction at {:.1f} degrees Celsius, {:.1f} at most; clock edges skipped for {:.2f} us\n",
                       heat->junction_c, heat->peak_c, throttled_us(report));
  }
  return out;
}

std::string noc_table(const RunReport &report) {
  constexpr size_t kShown = 6;
  std::vector<NocLinkCounters> links = report.counters.noc_links;
  if (links.empty()) return {};
  std::stable_sort(links.begin(), links.end(),
                   [](const NocLinkCounters &a, const NocLinkCounters &b) { return a.busy_cycles > b.busy_cycles; });
  std::string out =
      fmt::format("\n  {:<26}{:>16}{:>10}{:>16}\n", "busiest links of the NoC", "bytes", "busy", "waited cycles");
  for (size_t i = 0; i < std::min(kShown, links.size()); ++i) {
    out += fmt::format("  {:<26}{:>16}{:>8.2f} %{:>16}\n", links[i].from + " > " + links[i].to, grouped(links[i].bytes),
                       100 * link_utilisation(report, links[i]), grouped(links[i].waited_cycles));
  }
  if (const std::string note = noc_beyond_validation(report); !note.empty()) out += "\nWARNING: " + note + "\n";
  return out;
}

std::string report_table(const RunReport &report, const compiler::CompileStatistics &statistics, double prepare_s,
                         double wall_s) {
  const Counters &c = report.counters;
  std::string out;
  const auto row = [&](const std::string &name, const std::string &value) {
    out += fmt::format("  {:<34}{:>20}\n", name, value);
  };
  out += "simulated\n";
  row("latency (copies and launch)", fmt::format("{:.2f} us", report.latency_us));
  row("  of which the launch", fmt::format("{:.2f} us", report.launch_us));
  if (report.reconfigurations != 0) {
    row("  of which changes of the split", fmt::format("{} cycles", grouped(report.reconfiguration_cycles)));
  }
  row("cycles", grouped(report.cycles));
  row("multiply-accumulates", grouped(report.macs));
  row("MAC utilisation of the launch", fmt::format("{:.2f} %", 100 * report.mac_utilisation));
  row("packets", grouped(c.packets));
  row("interrupts", grouped(c.interrupts));
  row("firmware instructions", grouped(c.firmware_instructions));
  out += fmt::format("\n  {:<8}{:>12}{:>14}{:>14}{:>14}{:>16}{:>14}{:>14}\n", "engine", "busy", "busy cycles",
                     "stall cycles", "instructions", "operations", "bytes read", "bytes written");
  for (int i = 0; i < kEngines; ++i) {
    const EngineCounters &e = c.engines[i];
    out += fmt::format("  {:<8}{:>10.2f} %{:>14}{:>14}{:>14}{:>16}{:>14}{:>14}\n", kEngineNames[i],
                       100 * report.utilisation[i], grouped(e.busy_cycles), grouped(e.stall_cycles),
                       grouped(e.instructions), grouped(e.ops), grouped(e.bytes_read), grouped(e.bytes_written));
  }
  out += fmt::format("\n  {:<16}{:>16}{:>16}\n", "bytes moved", "read", "written");
  out += fmt::format("  {:<16}{:>16}{:>16}   (read: host to device)\n", "PCIe", grouped(c.pcie_to_device),
                     grouped(c.pcie_to_host));
  out += fmt::format("  {:<16}{:>16}{:>16}\n", "DRAM", grouped(c.dram_read), grouped(c.dram_written));
  out += fmt::format("  {:<16}{:>16}{:>16}\n", "scratchpad", grouped(c.spm_read), grouped(c.spm_written));
  out += fmt::format("  {:<16}{:>16}\n", "NoC", grouped(c.noc));
  if (c.dram.busy_ns != 0) {
    out += fmt::format("\n  {:<16}{:>16}{:>16}{:>16}\n", "DRAM rows", "hits", "misses", "conflicts");
    out += fmt::format("  {:<16}{:>16}{:>16}{:>16}\n", "", grouped(c.dram.row_hits), grouped(c.dram.row_misses),
                       grouped(c.dram.row_conflicts));
    out += fmt::format("  {:<16}{:>16}{:>16}{:>16}{:>16}{:>16}{:>16}\n", "DRAM buses, ns", "with data", "row",
                       "activate", "bank group", "turnaround", "refresh");
    out += fmt::format("  {:<16}{:>16}{:>16}{:>16}{:>16}{:>16}{:>16}\n", "", grouped(c.dram.busy_ns),
                       grouped(c.dram.row_ns), grouped(c.dram.activate_ns), grouped(c.dram.bank_group_ns),
                       grouped(c.dram.turnaround_ns), grouped(c.dram.refresh_ns));
  }
  out += noc_table(report);
  out += energy_table(report);
  out += "\nprogram\n";
  row("instructions", grouped(statistics.instructions));
  row("fused groups", grouped(statistics.groups));
  row("workspace / without reuse",
      grouped(statistics.workspace_bytes) + " / " + grouped(statistics.workspace_bytes_no_reuse));
  out += "\nthis computer\n";
  row("boot and compile", fmt::format("{:.2f} s", prepare_s));
  row("wall time", fmt::format("{:.2f} s", wall_s));
  row("simulated cycles per wall second", grouped(static_cast<uint64_t>(report.simulated_cycles_per_wall_s)));
  out += fmt::format("\nnot modelled in energy: {}\n", fmt::join(energy_not_modelled(), ", "));
  return out;
}

}  // namespace cx::tools
