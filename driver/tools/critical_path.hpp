// Why a run took as long as it did: the chain of what waited for what, from its end to its begin, by a trace.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "driver/tools/profile.hpp"
#include "hw/regs/gen/trace.h"

namespace cx::tools {

/// What time is spent on. `engine`: fixed times of an engine (setup, address generation, fetch of instructions).
enum class Reason : uint8_t { compute, dram, scratchpad, noc, pcie, launch, dependency, engine };
constexpr int kReasons = 8;
constexpr std::array<const char *, kReasons> kReasonNames = {"compute", "dram",   "scratchpad", "noc",
                                                             "pcie",    "launch", "dependency", "engine"};

/// Of value `limit` of a record of an instruction or a transfer.
Reason reason_of_limit(uint32_t limit);

struct PathSegment {
  uint64_t begin = 0, end = 0;  ///< ps since the card's power-on
  Reason reason{};
  int node = -1;        ///< group of the program; -1: none
  uint64_t record = 0;  ///< id of the record; 0: none
  int engine = -1;      ///< of the instruction; -1: none
};

/// Engine time that was lost in waits for another engine.
struct Stall {
  uint32_t engine = 0;
  int node = -1;  ///< of the instruction that waited
  int waiting_for = -1;
  Reason reason{};  ///< of the instruction that was waited for
  uint64_t ps = 0, count = 0;
};

/// What the launch reason consists of: the control processor at work, with its accesses to registers; transfers that it
/// has made of its own, and what it did meanwhile: packets (and lists, values that packets wait for) from the host,
/// programs' headers and tables of streams from device memory, completion records (and signals) to the host; the rest,
/// in which it slept.
enum class LaunchPart : uint8_t { firmware, packets, programs, records, asleep };
constexpr std::array<const char *, 5> kLaunchPartNames = {"firmware", "packets", "programs", "records", "asleep"};

struct RunTimes {
  uint64_t begin = 0, end = 0;    ///< ps: first packet's begin, last packet's end
  std::vector<PathSegment> path;  ///< by begin, without gaps from begin to end
  std::vector<Stall> stalls;      ///< longest first
  /// Of the path, by LaunchPart, ps; needs records of functions, sleeps and transfers.
  std::array<uint64_t, kLaunchPartNames.size()> launch{};
  std::array<uint64_t, kReasons> by_reason() const;
  /// The reason for most of it.
  Reason limited_by() const;
  /// The same as by_reason() of one group.
  std::array<uint64_t, kReasons> by_reason(int node) const;
};

/// Of the records of one run with one launch. `node_of(engine, pc)` is the group of an instruction. Throws Error when
/// the trace holds no packet or no instruction.
RunTimes run_times(std::span<const cx_trace_record> trace, const std::function<int(uint32_t, uint32_t)> &node_of);

/// Of the records of copies of packets, without a launch; all of the path is `node`'s. Throws Error when the trace
/// holds no packet.
RunTimes copy_times(std::span<const cx_trace_record> trace, int node);

/// The launches of a run, one after the other from time 0, without what lay between them. `nodes`: groups of each,
/// which follow one another too.
RunTimes joined(std::span<const RunTimes> launches, std::span<const std::size_t> nodes);

}  // namespace cx::tools
