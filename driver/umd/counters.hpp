// Performance counters of a card.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace cx {

constexpr int kEngines = 5;  ///< isa engine numbers 0..4
constexpr const char *kEngineNames[kEngines] = {"load", "store", "dmmu", "vpu", "sca"};

struct EngineCounters {
  uint64_t busy_cycles = 0;   ///< the datapath worked
  uint64_t stall_cycles = 0;  ///< blocked on semaphores while running
  uint64_t instructions = 0;
  uint64_t ops = 0;  ///< dmmu, sca: useful multiply-accumulates; vpu: element operations; load, store: elements
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
};

/// DRAM of a chip that models a part (dram.preset); else all 0. Times are of the data buses, summed over the channels.
struct DramCounters {
  uint64_t row_hits = 0, row_misses = 0, row_conflicts = 0;  ///< bursts
  uint64_t refreshes = 0;
  uint64_t turnarounds = 0;
  uint64_t code_bytes = 0;  ///< of inline ECC
  uint64_t busy_ns = 0;
  uint64_t row_ns = 0, activate_ns = 0, bank_group_ns = 0, turnaround_ns = 0, refresh_ns = 0;  ///< lost

  static constexpr int kCount = 12;
  static const std::array<uint64_t DramCounters::*, kCount> members;  ///< in the order above
  static const std::array<const char *, kCount> names;
};

/// Up to this load of a link the network's timing was compared with routers (docs/validation.md).
constexpr double kValidatedLinkLoad = 0.6;

/// A link of the network on chip.
struct NocLinkCounters {
  std::string from, to;  ///< "router 5", or a block: "load", "dram0"
  uint64_t bytes = 0;    ///< payload
  uint64_t busy_cycles = 0;
  uint64_t waited_cycles = 0;  ///< that pieces of transfers waited for it
  /// In stretches in which several streams took it for more than kValidatedLinkLoad of the time.
  uint64_t crowded_cycles = 0;
};

/// Totals since reset. The difference of two snapshots is the cost of what lay between.
struct Counters {
  uint64_t cycles = 0;  ///< device time, core cycles
  std::array<EngineCounters, kEngines> engines;
  uint64_t dram_read = 0, dram_written = 0;  ///< bytes
  DramCounters dram;
  uint64_t spm_read = 0, spm_written = 0;         ///< bytes
  uint64_t noc = 0;                               ///< bytes
  std::vector<NocLinkCounters> noc_links;         ///< none with a crossbar
  uint64_t pcie_to_device = 0, pcie_to_host = 0;  ///< payload bytes
  uint64_t array_cycles = 0;  ///< weights were written into a MAC tile's array or an element multiplied; sum of tiles
  uint64_t packets = 0;
  uint64_t interrupts = 0;
  uint64_t firmware_instructions = 0, firmware_cycles = 0;
};

Counters operator+(const Counters &a, const Counters &b);  ///< of two runs
Counters operator-(const Counters &later, const Counters &earlier);

}  // namespace cx
