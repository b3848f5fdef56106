// Performance counters of a card.
#pragma once

#include <array>
#include <cstdint>

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

/// Totals since reset. The difference of two snapshots is the cost of what lay between.
struct Counters {
  uint64_t cycles = 0;  ///< device time, core cycles
  std::array<EngineCounters, kEngines> engines;
  uint64_t dram_read = 0, dram_written = 0;       ///< bytes
  uint64_t spm_read = 0, spm_written = 0;         ///< bytes
  uint64_t noc = 0;                               ///< bytes
  uint64_t pcie_to_device = 0, pcie_to_host = 0;  ///< payload bytes
  uint64_t packets = 0;
  uint64_t interrupts = 0;
  uint64_t firmware_instructions = 0, firmware_cycles = 0;
};

Counters operator+(const Counters &a, const Counters &b);  ///< of two runs
Counters operator-(const Counters &later, const Counters &earlier);

}  // namespace cx
