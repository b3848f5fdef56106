#include "driver/umd/counters.hpp"

namespace cx {

Counters operator-(const Counters &later, const Counters &earlier) {
  Counters d;
  d.cycles = later.cycles - earlier.cycles;
  for (int i = 0; i < kEngines; ++i) {
    const EngineCounters &a = later.engines[i], &b = earlier.engines[i];
    d.engines[i] = {a.busy_cycles - b.busy_cycles,   a.stall_cycles - b.stall_cycles,
                    a.instructions - b.instructions, a.ops - b.ops,
                    a.bytes_read - b.bytes_read,     a.bytes_written - b.bytes_written};
  }
  d.dram_read = later.dram_read - earlier.dram_read;
  d.dram_written = later.dram_written - earlier.dram_written;
  d.spm_read = later.spm_read - earlier.spm_read;
  d.spm_written = later.spm_written - earlier.spm_written;
  d.noc = later.noc - earlier.noc;
  d.pcie_to_device = later.pcie_to_device - earlier.pcie_to_device;
  d.pcie_to_host = later.pcie_to_host - earlier.pcie_to_host;
  d.packets = later.packets - earlier.packets;
  d.interrupts = later.interrupts - earlier.interrupts;
  d.firmware_instructions = later.firmware_instructions - earlier.firmware_instructions;
  d.firmware_cycles = later.firmware_cycles - earlier.firmware_cycles;
  return d;
}

}  // namespace cx
