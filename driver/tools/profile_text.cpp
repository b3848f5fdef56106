#include "driver/tools/profile_text.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

double us(uint64_t ps) { return static_cast<double>(ps) / 1e6; }

std::string shortened(const std::string &text, std::size_t most) {
  return text.size() <= most ? text : text.substr(0, most - 3) + "...";
}

/// Counts with a unit that leaves at most four digits: "1.25 M".
std::string scaled(double value, double step, const char *const *units, std::size_t count) {
  std::size_t unit = 0;
  for (; value >= 1000 && unit + 1 < count; ++unit) value /= step;
  const int digits = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return fmt::format("{:.{}f} {}", value, digits, units[unit]);
}
std::string bytes_text(uint64_t bytes) {
  static constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB"};
  return bytes == 0 ? "-" : scaled(static_cast<double>(bytes), 1024, kUnits, std::size(kUnits));
}
std::string count_text(uint64_t count) {
  static constexpr const char *kUnits[] = {" ", "k", "M", "G"};
  return count == 0 ? "-" : scaled(static_cast<double>(count), 1000, kUnits, std::size(kUnits));
}

std::string bar(double share, std::size_t width) {
  return std::string(static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(width) + 0.5), '#');
}

}  // namespace

std::string limits_text(const ProfiledRun &named) {
  const RecordedRun &run = named.recorded;
  const Profile &profile = run.profile;
  const double cycle_us = 1e3 / std::max(named.target.clock_khz, 1U);
  const auto sums = run.times.by_reason();
  const auto whole = static_cast<double>(std::max<uint64_t>(run.times.end - run.times.begin, 1));
  std::array<std::size_t, kReasons> order{};
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return sums[a] > sums[b]; });

  std::string out = fmt::format("{} on {}, {}: limited by {}\n{}\n\n", named.model, named.config, named.precision,
                                kReasonNames[order[0]], headline(named));
  out += fmt::format("{:<14}{:>10}{:>9}\n", "critical path", "us", "share");
  for (const std::size_t r : order) {
    if (sums[r] == 0) continue;
    const double share = static_cast<double>(sums[r]) / whole;
    out += fmt::format("  {:<12}{:>10.2f}{:>7.1f} %  {:<25}{}\n", kReasonNames[r], us(sums[r]), 100 * share,
                       bar(share, 24), explanation(static_cast<Reason>(r)));
  }
  out +=
      fmt::format("  {:<12}{:>10.2f}{:>11}launch: {}\n", "latency", run.report.latency_us, "", launch_text(run.times));

  const double work_us = static_cast<double>(profile.work_cycles) * cycle_us;
  const double around_us = static_cast<double>(profile.around_cycles) * cycle_us;
  const bool moves = profile.move_cycles != 0;
  out +=
      fmt::format("\nlower bound of the launch{} {:.2f} us, {:.1f} % of {} {:.2f} us: the longer of\n",
                  moves ? " and of moving cache entries" : "", profile.bound_cycles * cycle_us, 100 * profile.ratio(),
                  moves ? "their" : "its", static_cast<double>(profile.launch_cycles + profile.move_cycles) * cycle_us);
  out += fmt::format("  {:>10.2f} us  {} multiply-accumulates at {} a cycle", profile.mac_cycles * cycle_us,
                     grouped(profile.macs), grouped(profile.peak_macs_per_cycle));
  if (profile.sparse_macs != 0) {
    out += fmt::format(", {} sparse ones at {}", grouped(profile.sparse_macs),
                       grouped(profile.peak_sparse_macs_per_cycle));
  }
  out += fmt::format("\n  {:>10.2f} us  {} bytes that must move (of {} moved) at {:.1f} GB/s\n",
                     profile.byte_cycles * cycle_us, grouped(profile.minimum_bytes), grouped(profile.memory_bytes),
                     named.target.dram_mbps / 1e3);
  out += fmt::format("and {:.2f} us around the {}; the work took {:.2f} us, {:.2f} by the cost model\n", around_us,
                     moves ? "work and the moves" : "work", work_us,
                     static_cast<double>(profile.estimated_cycles) * cycle_us);
  return out;
}

std::string launch_text(const RunTimes &times, const std::array<const char *, kLaunchPartNames.size()> &names) {
  std::string out;
  for (std::size_t p = 0; p < names.size(); ++p) {
    if (times.launch[p] == 0) continue;
    out += fmt::format("{}{} {:.2f}", out.empty() ? "" : ", ", names[p], us(times.launch[p]));
  }
  return out.empty() ? "nothing" : out + " us";
}

std::string what_if_table(const std::vector<WhatIf> &what_if, double latency_us) {
  if (what_if.empty()) return {};
  std::vector<const WhatIf *> order;
  for (const WhatIf &variation : what_if) order.push_back(&variation);
  std::stable_sort(order.begin(), order.end(), [](const WhatIf *a, const WhatIf *b) {
    if (a->error.empty() != b->error.empty()) return a->error.empty();
    return a->error.empty() && a->latency_us < b->latency_us;
  });
  std::string out =
      fmt::format("{:<44}{:>10}{:>10}  {}\n", "what if, by simulating that chip", "us", "speedup", "then limited by");
  for (const WhatIf *variation : order) {
    out += variation->error.empty()
               ? fmt::format("  {:<42}{:>10.2f}{:>9.2f}x  {} {:.0f} %\n", variation->name, variation->latency_us,
                             variation->latency_us > 0 ? latency_us / variation->latency_us : 0, variation->limited_by,
                             100 * variation->limited_share)
               : fmt::format("  {:<42}  {}\n", variation->name, variation->error);
    if (!variation->remark.empty()) out += fmt::format("    {}\n", variation->remark);
  }
  return out;
}

std::string stall_table(const ProfiledRun &named) {
  constexpr std::size_t kShown = 10;
  const RecordedRun &run = named.recorded;
  if (run.times.stalls.empty()) return {};
  std::string out = fmt::format("{:<8}{:<12}{:<20}{:>10}{:>8}  {}\n", "stalled", "waiting for", "which was bound by",
                                "us", "times", "before");
  for (std::size_t i = 0; i < std::min(kShown, run.times.stalls.size()); ++i) {
    const Stall &stall = run.times.stalls[i];
    const std::string before =
        stall.node >= 0 ? run.profile.groups[static_cast<std::size_t>(stall.node)].group.name : "the end";
    out += fmt::format("  {:<6}{:<12}{:<20}{:>10.2f}{:>8}  {}\n", kEngineNames[stall.engine],
                       stall.waiting_for >= 0 ? kEngineNames[stall.waiting_for] : "-",
                       kReasonNames[static_cast<std::size_t>(stall.reason)], us(stall.ps), stall.count,
                       shortened(before, 56));
  }
  if (run.times.stalls.size() > kShown) {
    out += fmt::format("  and {} more kinds in --json and --html\n", run.times.stalls.size() - kShown);
  }
  return out;
}

std::string node_table(const ProfiledRun &named) {
  const RecordedRun &run = named.recorded;
  const double cycle_us = 1e3 / std::max(named.target.clock_khz, 1U);
  const uint64_t cycles = run.profile.work_cycles + run.profile.move_cycles;
  const auto work = static_cast<double>(std::max<uint64_t>(cycles, 1));
  const auto programs = std::count_if(run.launches.begin(), run.launches.end(),
                                      [](const RecordedLaunch &launch) { return !launch.copies; });
  int program = 0;
  std::string out = fmt::format("{:<28}{:<13}{:>9}{:>8}  {:<7}{:>5}  {:<17}{:>8}{:>10}{:>11}\n", "graph node",
                                "operator", "us", "share", "engine", "busy", "bound by", "MAC", "DRAM", "uJ");
  std::size_t number = 0;
  double energy = 0;
  for (std::size_t l = 0; l < run.launches.size(); ++l) {
    const RecordedLaunch &launch = run.launches[l];
    if (programs > 1 && !launch.copies) out += fmt::format("program {} of {}\n", ++program, programs);
    for (const GroupProfile &group : launch.profile.groups) {
      const std::size_t place = number++;
      const double uj = group_energy_uj(run, place);
      energy += uj;
      if (!group.has_instructions() && !launch.copies) continue;
      const auto part = run.times.by_reason(static_cast<int>(place));
      const uint64_t on_path = std::accumulate(part.begin(), part.end(), uint64_t{0});
      const Reason bound = bound_of(run, place);
      const std::string why = on_path != 0
                                  ? fmt::format("{} {:.0f} %", kReasonNames[static_cast<std::size_t>(bound)],
                                                100.0 * static_cast<double>(part[static_cast<std::size_t>(bound)]) /
                                                    static_cast<double>(on_path))
                                  : fmt::format("({})", kReasonNames[static_cast<std::size_t>(bound)]);
      std::string name = group.group.name;
      if (group.group.nodes.size() > 1 && !launch.copies)
        name = shortened(name, 22) + fmt::format(" +{}", group.group.nodes.size() - 1);
      out +=
          fmt::format("{:<28}{:<13}{:>9.2f}{:>6.1f} %  {:<7}{:>3.0f} %  {:<17}{:>8}{:>10}{:>11.3f}\n",
                      shortened(name, 27), shortened(group.group.op, 12), static_cast<double>(group.cycles) * cycle_us,
                      100 * static_cast<double>(group.cycles) / work, group.engine(), 100 * group.utilisation(), why,
                      count_text(group.group.macs), bytes_text(group.memory_bytes), uj);
    }
  }
  out += fmt::format("{:<41}{:>9.2f}{:>39}{:>8}{:>10}{:>11.3f}\n", "all", static_cast<double>(cycles) * cycle_us, "",
                     count_text(run.report.macs), bytes_text(run.profile.memory_bytes), energy);
  out +=
      "us: by which the node moved the end on; busy: of that time, the engine that had most to do; bound by: on the\n"
      "critical path, (in brackets) off it; +N: nodes that run with it; uJ: without leakage, PCIe and control "
      "processor\n";
  return out;
}

std::string comparison_text(const std::vector<std::string> &lines, const nlohmann::ordered_json &a,
                            const nlohmann::ordered_json &b) {
  constexpr std::size_t kShown = 15;
  std::string out;
  for (const std::string &line : lines) out += line + "\n";
  for (const auto *run : {&a, &b}) {
    out += fmt::format("\n{}: {}\n", (*run)["config"].get<std::string>(),
                       (*run)["summary"]["headline"].get<std::string>());
  }
  struct Pair {
    const nlohmann::ordered_json *a, *b;
    double difference_us;
  };
  std::map<std::string, const nlohmann::ordered_json *> known;
  for (const auto &node : a["nodes"]) known.emplace(node["name"], &node);
  std::vector<Pair> pairs;
  for (const auto &node : b["nodes"]) {
    const auto other = known.find(node["name"]);
    if (other == known.end()) continue;
    pairs.push_back(
        {other->second, &node, (node["time"].get<double>() - (*other->second)["time"].get<double>()) / 1e3});
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair &x, const Pair &y) { return std::abs(x.difference_us) > std::abs(y.difference_us); });
  const std::string from = shortened(a["config"], 20), to = shortened(b["config"], 20);
  out += fmt::format("\n{:<28}{:<11}{:>11}  {:<19}{:>11}  {:<19}{:>12}\n", "graph node", "operator", from + " us",
                     "bound by", to + " us", "bound by", "difference");
  const auto bound = [](const nlohmann::ordered_json &run, const nlohmann::ordered_json &node) {
    return node["engine"].get<std::string>() + ", " +
           run["reasons"][node["bound"].get<std::size_t>()].get<std::string>();
  };
  for (std::size_t i = 0; i < std::min(kShown, pairs.size()); ++i) {
    const Pair &pair = pairs[i];
    out += fmt::format("{:<28}{:<11}{:>11.2f}  {:<19}{:>11.2f}  {:<19}{:>+12.2f}\n", shortened((*pair.a)["name"], 27),
                       shortened((*pair.a)["op"], 10), (*pair.a)["time"].get<double>() / 1e3, bound(a, *pair.a),
                       (*pair.b)["time"].get<double>() / 1e3, bound(b, *pair.b), pair.difference_us);
  }
  if (pairs.size() > kShown) out += fmt::format("and {} more nodes in --json and --html\n", pairs.size() - kShown);
  return out;
}

}  // namespace cx::tools
