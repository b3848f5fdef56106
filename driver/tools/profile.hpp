// Where the time of a run went: what the card's trace unit recorded, by the groups of the program, against a lower
// bound.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/program.hpp"
#include "driver/runtime/report.hpp"
#include "driver/umd/target.hpp"
#include "hw/regs/gen/trace.h"

namespace cx::tools {

double dram_bytes_per_cycle(const Target &target);

/// One engine's share of a group, of a trace. Cycles.
struct EngineShare {
  uint64_t instructions = 0;  ///< data instructions
  uint64_t busy = 0;          ///< from the issue of each until the engine could take the next
  uint64_t waited = 0;        ///< blocked on semaphores before them
  uint64_t operations = 0;
  uint64_t bytes_read = 0, bytes_written = 0;
  uint64_t busy_in_time = 0;  ///< of `busy`, what lies in the group's time (from window_begin to window_end)
};

/// Finds the group of an instruction by the program's debug map. Throws Error for a map that names no group, and for an
/// instruction that it lacks.
class GroupFinder {
 public:
  GroupFinder(const Program &program, const std::vector<compiler::GroupStatistics> &groups);
  std::size_t operator()(uint32_t engine, uint32_t pc) const;

 private:
  std::map<std::pair<uint32_t, uint32_t>, std::pair<uint32_t, std::size_t>> ranges_;
};

/// Where the time of the sparse unit went for a group, in cycles from the end of the product before to that of its own
/// last one (of the last group: to the end of its drain). These add up over the groups.
struct SparseTime {
  uint64_t products = 0;  ///< a product ran
  uint64_t waited = 0;    ///< none ran, and the unit was blocked on semaphores
  uint64_t rest = 0;      ///< neither: loads of activations, drains
  int waited_for = -1;    ///< the engine that was busy for most of `waited`; -1: none was
  double limit = 0;       ///< of `products`: what stored weights take with all multipliers at work
  /// More than the limit: zeros are not spread evenly, tiles, lanes or columns have no work.
  double uneven() const { return std::max(static_cast<double>(products) - limit, 0.0); }
};

struct GroupProfile {
  compiler::GroupStatistics group;
  uint64_t first_issue = 0;    ///< cycles from the first issue of the run; 0 for a group without instructions
  uint64_t last_complete = 0;  ///< the same
  /// By how much the group moved the end of the run on: from the latest completion of the groups before it to its own.
  /// These add up to the whole.
  uint64_t cycles = 0;
  /// The part of the run in which the group moved the end on; of a group that did not, from first to last.
  uint64_t window_begin = 0, window_end = 0;
  uint64_t memory_bytes = 0;  ///< that DRAM moved for it
  EngineShare engines[kEngines];
  double bound_cycles = 0;     ///< of the group alone
  bool bound_by_macs = false;  ///< else by bytes
  SparseTime sparse;
  uint64_t copying = 0;  ///< of copies between launches: cycles in which one was under way; else 0
  bool has_instructions() const;
  uint32_t busiest() const;    ///< engine that was busy for most of the window
  const char *engine() const;  ///< its name; of copies between launches "sdma"
  double utilisation() const;  ///< share of the window in which that engine was busy with the group
};

struct Profile {
  std::vector<GroupProfile> groups;
  uint64_t macs = 0;  ///< of the DMMU's products
  uint64_t peak_macs_per_cycle = 0;
  uint64_t minimum_bytes = 0;     ///< see CompileStatistics
  uint64_t memory_bytes = 0;      ///< that DRAM moved for data
  uint64_t work_cycles = 0;       ///< from the first issue of a data instruction to the last completion
  uint64_t estimated_cycles = 0;  ///< the same by the compiler's cost model
  uint64_t launch_cycles = 0;     ///< of the LAUNCH packet, which contains them
  uint64_t move_cycles = 0;       ///< of copies between launches (DeviceCopies), whole
  /// Of launches what they took around the work, of copies the time in which none was under way.
  uint64_t around_cycles = 0;
  uint64_t sparse_macs = 0;  ///< of the SCA's products, without skipped ones
  uint64_t peak_sparse_macs_per_cycle = 0;
  /// The longer of what the DMMU and what the SCA multiply, each at its array's peak.
  double mac_cycles = 0;
  double byte_cycles = 0;  ///< minimum_bytes at DRAM's bandwidth
  /// max(mac_cycles, byte_cycles) of each launch and of the copies behind it + around_cycles
  double bound_cycles = 0;
  std::string violation;  ///< not empty: the run was faster than the bound, so one of the two is wrong
  /// bound / (launch + moves)
  double ratio() const {
    const uint64_t all = launch_cycles + move_cycles;
    return all == 0 ? 0 : bound_cycles / static_cast<double>(all);
  }
};

/// A data instruction of a trace. Cycles count from the first issue.
struct TracedInstruction {
  uint32_t engine = 0;
  uint32_t pc = 0;
  uint64_t issue = 0, accept = 0, complete = 0;
  uint64_t waited = 0, operations = 0, bytes_read = 0, bytes_written = 0, memory_bytes = 0;
  uint64_t id = 0, cause = 0;
  uint32_t limit = 0;  ///< value `limit` of the record
};

/// The instructions of a trace, in the order in which they started. Throws Error when one is of no engine.
std::vector<TracedInstruction> instructions_of(std::span<const cx_trace_record> trace, const Target &target);

/// Attributes a trace of one launch. Throws cx::Error when the trace is not of this program.
Profile make_profile(std::span<const TracedInstruction> trace, const Program &program,
                     const compiler::CompileStatistics &statistics, const RunReport &report, const Target &target);
Profile make_profile(std::span<const cx_trace_record> trace, const Program &program,
                     const compiler::CompileStatistics &statistics, const RunReport &report, const Target &target);

/// Launches one after the other: groups follow one another, work and bounds add up.
Profile joined(std::span<const Profile> launches);

nlohmann::ordered_json profile_json(const Profile &profile, const Target &target);
/// Where the sparse unit's time went, by product; empty without any.
std::string sparse_table(const Profile &profile, const Target &target);

}  // namespace cx::tools
