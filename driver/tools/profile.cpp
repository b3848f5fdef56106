#include "driver/tools/profile.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <map>

#include "driver/include/cx/error.hpp"
#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

double microseconds(double cycles, const Target &target) { return cycles * 1e3 / target.clock_khz; }

const char *limit(bool by_macs) { return by_macs ? "macs" : "bytes"; }

constexpr uint32_t kSca = 4;

/// A span in which the sparse unit had nothing to multiply and waited.
struct Wait {
  uint64_t begin = 0, end = 0;
  std::size_t group = 0;
};

/// Fills GroupProfile::sparse but for the limit. Cycles are those of the trace, `origin` its first.
void attribute_sparse(std::span<const TracedInstruction> trace, const GroupFinder &group_of, uint64_t origin,
                      std::vector<GroupProfile> &groups) {
  std::vector<Wait> waits;    // rising, disjoint
  std::vector<Wait> pending;  // since the last product
  uint64_t reached = origin;  // all before is attributed
  uint64_t end = origin;
  std::size_t last = 0;
  for (const TracedInstruction &record : trace) {
    if (record.engine != kSca) continue;
    last = group_of(record.engine, record.pc);
    end = std::max(end, record.complete);
    pending.push_back({record.issue - record.waited, record.issue, last});
    if (record.operations == 0) continue;  // a load or a drain
    SparseTime &time = groups[last].sparse;
    const uint64_t start = std::max(reached, record.accept - 1);
    uint64_t waited = 0;
    for (Wait wait : pending) {
      wait.begin = std::max(wait.begin, reached);
      wait.end = std::min(wait.end, start);
      if (wait.end <= wait.begin) continue;
      waited += wait.end - wait.begin;
      waits.push_back({wait.begin, wait.end, last});
    }
    pending.clear();
    time.waited += waited;
    time.rest += start - reached - waited;
    time.products += std::max(start, record.complete) - start;
    reached = std::max(start, record.complete);
  }
  if (end > reached) groups[last].sparse.rest += end - reached;

  std::vector<std::array<uint64_t, kEngines>> busy(groups.size());
  for (const TracedInstruction &record : trace) {
    if (record.engine == kSca) continue;
    auto wait = std::upper_bound(waits.begin(), waits.end(), record.issue,
                                 [](uint64_t cycle, const Wait &w) { return cycle < w.end; });
    for (; wait != waits.end() && wait->begin < record.accept; ++wait) {
      busy[wait->group][record.engine] += std::min(wait->end, record.accept) - std::max(wait->begin, record.issue);
    }
  }
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto most = std::max_element(busy[g].begin(), busy[g].end());
    if (*most != 0) groups[g].sparse.waited_for = static_cast<int>(most - busy[g].begin());
  }
}

}  // namespace

double dram_bytes_per_cycle(const Target &target) {
  return static_cast<double>(target.dram_mbps) * 1e3 / static_cast<double>(target.clock_khz);
}

GroupFinder::GroupFinder(const Program &program, const std::vector<compiler::GroupStatistics> &groups) {
  std::map<std::string, std::size_t> by_name;
  for (std::size_t g = 0; g < groups.size(); ++g) by_name.emplace(groups[g].name, g);
  for (const DebugEntry &entry : program.debug) {
    const auto found = by_name.find(entry.node);
    if (found == by_name.end()) throw Error("the debug map names " + entry.node + ", which is no group");
    ranges_[{entry.engine, entry.first}] = {entry.first + entry.count, found->second};
  }
}

std::size_t GroupFinder::operator()(uint32_t engine, uint32_t pc) const {
  auto it = ranges_.upper_bound({engine, pc});
  if (it != ranges_.begin()) {
    --it;
    if (it->first.first == engine && pc < it->second.first) return it->second.second;
  }
  throw Error(fmt::format("the trace has instruction {} of engine {}, which the program lacks", pc, engine));
}

bool GroupProfile::has_instructions() const {
  return std::any_of(std::begin(engines), std::end(engines),
                     [](const EngineShare &share) { return share.instructions != 0; });
}

uint32_t GroupProfile::busiest() const {
  const auto less = [](const EngineShare &a, const EngineShare &b) {
    return a.busy_in_time != b.busy_in_time ? a.busy_in_time < b.busy_in_time : a.busy < b.busy;
  };
  return static_cast<uint32_t>(std::max_element(std::begin(engines), std::end(engines), less) - std::begin(engines));
}

const char *GroupProfile::engine() const { return copying != 0 ? "sdma" : kEngineNames[busiest()]; }

double GroupProfile::utilisation() const {
  if (copying != 0) return static_cast<double>(copying) / static_cast<double>(std::max<uint64_t>(cycles, 1));
  return window_end > window_begin
             ? static_cast<double>(engines[busiest()].busy_in_time) / static_cast<double>(window_end - window_begin)
             : 0;
}

std::vector<TracedInstruction> instructions_of(std::span<const cx_trace_record> trace, const Target &target) {
  // The card's clock has a period of whole picoseconds.
  const uint64_t period_ps = (1'000'000'000 + target.clock_khz / 2) / std::max(target.clock_khz, 1U);
  uint64_t origin = UINT64_MAX;
  for (const cx_trace_record &record : trace) {
    if (record.kind == CX_TRACE_INSTRUCTION) origin = std::min(origin, record.begin);
  }
  std::vector<TracedInstruction> instructions;
  for (const cx_trace_record &record : trace) {
    if (record.kind != CX_TRACE_INSTRUCTION) continue;
    if (record.unit >= kEngines) throw Error(fmt::format("the trace names engine {}", record.unit));
    TracedInstruction instruction;
    instruction.engine = record.unit;
    instruction.pc = static_cast<uint32_t>(record.values[CX_TRACE_INSTRUCTION_PC]);
    instruction.issue = (record.begin - origin) / period_ps;
    instruction.accept = (record.values[CX_TRACE_INSTRUCTION_ACCEPT] - origin) / period_ps;
    instruction.complete = (record.end - origin) / period_ps;
    instruction.waited = record.values[CX_TRACE_INSTRUCTION_WAITED];
    instruction.operations = record.values[CX_TRACE_INSTRUCTION_OPERATIONS];
    instruction.bytes_read = record.values[CX_TRACE_INSTRUCTION_BYTES_READ];
    instruction.bytes_written = record.values[CX_TRACE_INSTRUCTION_BYTES_WRITTEN];
    instruction.memory_bytes = record.values[CX_TRACE_INSTRUCTION_MEMORY_BYTES];
    instruction.id = record.id;
    instruction.cause = record.cause;
    instruction.limit = static_cast<uint32_t>(record.values[CX_TRACE_INSTRUCTION_LIMIT]);
    instructions.push_back(instruction);
  }
  return instructions;
}

Profile make_profile(std::span<const TracedInstruction> trace, const Program &program,
                     const compiler::CompileStatistics &statistics, const RunReport &report, const Target &target) {
  Profile profile;
  const GroupFinder group_of(program, statistics.details);
  for (const compiler::GroupStatistics &group : statistics.details) profile.groups.emplace_back().group = group;

  uint64_t origin = UINT64_MAX, end = 0;
  for (const TracedInstruction &record : trace) {
    origin = std::min(origin, record.issue);
    end = std::max({end, record.accept, record.complete});
  }
  for (const TracedInstruction &record : trace) {
    GroupProfile &group = profile.groups[group_of(record.engine, record.pc)];
    const uint64_t issue = record.issue - origin;
    group.first_issue = group.has_instructions() ? std::min(group.first_issue, issue) : issue;
    group.last_complete = std::max(group.last_complete, std::max(record.accept, record.complete) - origin);
    group.memory_bytes += record.memory_bytes;
    EngineShare &share = group.engines[record.engine];
    ++share.instructions;
    share.busy += record.accept - record.issue;
    share.waited += record.waited;
    share.operations += record.operations;
    share.bytes_read += record.bytes_read;
    share.bytes_written += record.bytes_written;
  }

  attribute_sparse(trace, group_of, origin, profile.groups);

  const auto peak = static_cast<double>(std::max<uint64_t>(report.peak_macs_per_cycle, 1));
  const double bandwidth = dram_bytes_per_cycle(target);
  profile.peak_sparse_macs_per_cycle = uint64_t{statistics.sca_tiles} * target.sca_rows * target.sca_cols;
  const auto sparse_peak = static_cast<double>(std::max<uint64_t>(profile.peak_sparse_macs_per_cycle, 1));
  uint64_t reached = 0;
  for (GroupProfile &group : profile.groups) {
    group.window_begin = group.first_issue;
    group.window_end = group.last_complete;
    if (group.last_complete > reached) {
      group.cycles = group.last_complete - reached;
      group.window_begin = reached;
      reached = group.last_complete;
    }
    const bool sparse = group.group.product.engine == "sca";
    const uint64_t multiplied = group.group.macs - group.group.product.macs_skipped;
    const double macs = static_cast<double>(multiplied) / (sparse ? sparse_peak : peak);
    const double bytes = static_cast<double>(group.group.minimum_bytes) / bandwidth;
    group.bound_cycles = std::max(macs, bytes);
    group.bound_by_macs = macs > bytes;
    if (sparse) group.sparse.limit = macs;
    (sparse ? profile.sparse_macs : profile.macs) += multiplied;
    profile.minimum_bytes += group.group.minimum_bytes;
    profile.memory_bytes += group.memory_bytes;
  }
  for (const TracedInstruction &record : trace) {
    GroupProfile &group = profile.groups[group_of(record.engine, record.pc)];
    const uint64_t from = std::max(record.issue - origin, group.window_begin);
    const uint64_t to = std::min(record.accept - origin, group.window_end);
    if (from < to) group.engines[record.engine].busy_in_time += to - from;
  }
  profile.peak_macs_per_cycle = report.peak_macs_per_cycle;
  profile.work_cycles = trace.empty() ? 0 : end - origin;
  profile.estimated_cycles = statistics.estimated_cycles;
  profile.launch_cycles = report.launch_cycles;
  if (profile.work_cycles > profile.launch_cycles) throw Error("the trace is longer than the launch");
  profile.mac_cycles =
      std::max(static_cast<double>(profile.macs) / peak, static_cast<double>(profile.sparse_macs) / sparse_peak);
  profile.byte_cycles = static_cast<double>(profile.minimum_bytes) / bandwidth;
  const double work = std::max(profile.mac_cycles, profile.byte_cycles);
  if (work > static_cast<double>(profile.work_cycles)) {
    profile.violation = fmt::format(
        "the run took {} cycles, less than its lower bound of {:.1f}: {:.1f} for {} multiply-accumulates and {} sparse "
        "ones, {:.1f} for {} bytes",
        profile.work_cycles, work, profile.mac_cycles, profile.macs, profile.sparse_macs, profile.byte_cycles,
        profile.minimum_bytes);
  }
  profile.around_cycles = profile.launch_cycles - profile.work_cycles;
  profile.bound_cycles = work + static_cast<double>(profile.around_cycles);
  return profile;
}

Profile make_profile(std::span<const cx_trace_record> trace, const Program &program,
                     const compiler::CompileStatistics &statistics, const RunReport &report, const Target &target) {
  return make_profile(std::span<const TracedInstruction>(instructions_of(trace, target)), program, statistics, report,
                      target);
}

Profile joined(std::span<const Profile> launches) {
  Profile all;
  for (const Profile &part : launches) {
    for (GroupProfile group : part.groups) {
      for (uint64_t GroupProfile::*place : {&GroupProfile::first_issue, &GroupProfile::last_complete,
                                            &GroupProfile::window_begin, &GroupProfile::window_end}) {
        group.*place += all.work_cycles + all.move_cycles;
      }
      all.groups.push_back(std::move(group));
    }
    for (uint64_t Profile::*sum : {&Profile::macs, &Profile::minimum_bytes, &Profile::memory_bytes,
                                   &Profile::work_cycles, &Profile::estimated_cycles, &Profile::launch_cycles,
                                   &Profile::move_cycles, &Profile::around_cycles, &Profile::sparse_macs}) {
      all.*sum += part.*sum;
    }
    for (double Profile::*sum : {&Profile::mac_cycles, &Profile::byte_cycles, &Profile::bound_cycles}) {
      all.*sum += part.*sum;
    }
    all.peak_macs_per_cycle = std::max(all.peak_macs_per_cycle, part.peak_macs_per_cycle);
    all.peak_sparse_macs_per_cycle = std::max(all.peak_sparse_macs_per_cycle, part.peak_sparse_macs_per_cycle);
    if (all.violation.empty()) all.violation = part.violation;
  }
  return all;
}

nlohmann::ordered_json profile_json(const Profile &profile, const Target &target) {
  using Json = nlohmann::ordered_json;
  Json json;
  json["macs"] = profile.macs;
  json["sparse_macs"] = profile.sparse_macs;
  json["bytes"] = profile.minimum_bytes;
  json["memory_bytes"] = profile.memory_bytes;
  json["launch_us"] = microseconds(static_cast<double>(profile.launch_cycles), target);
  json["work_us"] = microseconds(static_cast<double>(profile.work_cycles), target);
  json["cache_moves_us"] = microseconds(static_cast<double>(profile.move_cycles), target);
  json["estimated_work_us"] = microseconds(static_cast<double>(profile.estimated_cycles), target);
  json["bound_us"] = microseconds(profile.bound_cycles, target);
  json["bound_macs_us"] = microseconds(profile.mac_cycles, target);
  json["bound_bytes_us"] = microseconds(profile.byte_cycles, target);
  json["bound_ratio"] = profile.ratio();
  json["groups"] = Json::array();
  for (const GroupProfile &group : profile.groups) {
    Json engines;
    for (int e = 0; e < kEngines; ++e) {
      const EngineShare &share = group.engines[e];
      engines[kEngineNames[e]] = {{"instructions", share.instructions}, {"busy_cycles", share.busy},
                                  {"waited_cycles", share.waited},      {"ops", share.operations},
                                  {"bytes_read", share.bytes_read},     {"bytes_written", share.bytes_written}};
    }
    json["groups"].push_back({{"name", group.group.name},
                              {"op", group.group.op},
                              {"nodes", group.group.nodes},
                              {"us", microseconds(static_cast<double>(group.cycles), target)},
                              {"estimated_us", microseconds(static_cast<double>(group.group.estimated_cycles), target)},
                              {"start_us", microseconds(static_cast<double>(group.first_issue), target)},
                              {"end_us", microseconds(static_cast<double>(group.last_complete), target)},
                              {"macs", group.group.macs},
                              {"bytes", group.group.minimum_bytes},
                              {"memory_bytes", group.memory_bytes},
                              {"bound_us", microseconds(group.bound_cycles, target)},
                              {"bound_by", limit(group.bound_by_macs)},
                              {"busiest", group.engine()},
                              {"engines", std::move(engines)}});
    if (group.group.product.engine != "sca") continue;
    const SparseTime &time = group.sparse;
    json["groups"].back()["sca"] = {{"limit_us", microseconds(time.limit, target)},
                                    {"uneven_us", microseconds(time.uneven(), target)},
                                    {"loads_and_drains_us", microseconds(static_cast<double>(time.rest), target)},
                                    {"waiting_us", microseconds(static_cast<double>(time.waited), target)},
                                    {"waiting_for", time.waited_for < 0 ? "" : kEngineNames[time.waited_for]}};
  }
  return json;
}

std::string sparse_table(const Profile &profile, const Target &target) {
  std::string out;
  for (const GroupProfile &group : profile.groups) {
    if (group.group.product.engine != "sca") continue;
    if (out.empty()) {
      out = fmt::format("\n{:<28}{:>10}{:>10}{:>16}{:>14}{:>12} {}\n", "sparse unit, us", "all", "limit",
                        "uneven weights", "loads, drains", "waiting", "for");
    }
    const SparseTime &time = group.sparse;
    std::string name = group.group.name;
    if (name.size() > 27) name = name.substr(0, 24) + "...";
    out += fmt::format("{:<28}{:>10.2f}{:>10.2f}{:>16.2f}{:>14.2f}{:>12.2f} {}\n", name,
                       microseconds(static_cast<double>(time.products + time.waited + time.rest), target),
                       microseconds(time.limit, target), microseconds(time.uneven(), target),
                       microseconds(static_cast<double>(time.rest), target),
                       microseconds(static_cast<double>(time.waited), target),
                       time.waited_for < 0 ? "" : kEngineNames[time.waited_for]);
  }
  return out;
}

}  // namespace cx::tools
