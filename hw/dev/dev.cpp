#include "hw/dev/dev.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "hw/config/config.hpp"
#include "hw/dram/configured.hpp"
#include "hw/noc/register_target.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {

using regs::DevReg;
using regs::DevRegs;

Dev::Dev(sc_core::sc_module_name name, const Clock &clock, const config::Chip &chip, Hooks hooks)
    : sc_module(name), registers("registers"), clock_(clock), chip_(chip), hooks_(std::move(hooks)) {
  registers.register_b_transport(this, &Dev::b_transport);
  setup_registers();
  set_capabilities();
}

namespace {

// Of a mesh or ring: hops between two routers chosen at random (Dally and Towles, "Principles and Practices of
// Interconnection Networks", 2004, 3.3.1: a quarter of a ring, a third of a row and of a column for many routers), a
// router more than hops, and the links of both blocks.
std::uint32_t noc_way_cycles(const config::Chip &chip) {
  const auto &noc = chip.noc;
  if (noc.topology == "crossbar") return 2 * noc.hop_cycles;
  const auto apart = [](double k) { return (k * k - 1) / (3 * k); };
  const double hops = noc.topology == "ring" ? noc.columns / 4.0 : apart(noc.columns) + apart(noc.rows);
  const double cycles = (hops + 1) * noc.router_cycles + (hops + 2) * noc.link_cycles;
  return static_cast<std::uint32_t>(
      std::lround(noc.clock_mhz > 0 ? cycles * chip.chip.clock_mhz / noc.clock_mhz : cycles));
}

}  // namespace

void Dev::set_capabilities() {
  regs_.set64(DevReg::ARCH_HASH_LO, config::arch_hash(chip_));
  regs_.set(DevReg::CLOCK_KHZ, static_cast<std::uint32_t>(std::lround(chip_.chip.clock_mhz * 1000)));
  regs_.set(DevReg::NUM_QUEUES, chip_.queues.count);
  regs_.set(DevReg::TILE_COUNT, chip_.dmmu.tiles);
  regs_.set(DevRegs::TILE_SHAPE_ROWS, chip_.dmmu.tile.rows);
  regs_.set(DevRegs::TILE_SHAPE_COLS, chip_.dmmu.tile.cols);
  regs_.set(DevReg::TILE_MODES,
            chip_.dmmu.tile.pack | chip_.dmmu.tile.stages << 8 | (chip_.dmmu.dataflow == "os" ? 1u << 16 : 0));
  regs_.set(DevReg::TILE_ACC_ROWS, chip_.dmmu.tile.acc_rows);
  regs_.set(DevReg::SCA_TILES, chip_.sca.tiles);
  regs_.set(DevReg::SCA_SHAPE, chip_.sca.tile.rows | chip_.sca.tile.cols << 16);
  regs_.set(DevReg::SCA_MEMORY, chip_.sca.tile.acc_rows | chip_.sca.tile.depth << 16);
  regs_.set(DevReg::SCA_QUEUES, chip_.sca.tile.window | chip_.sca.tile.queue << 16);
  regs_.set(DevReg::ARRAY, (chip_.array.shared ? 1u : 0u) | chip_.array.sca_tiles << 16);
  regs_.set(DevReg::ARRAY_SWITCH_CYCLES, chip_.array.switch_cycles);
  regs_.set(DevReg::VPU_LANES, chip_.vpu.lanes);
  regs_.set(DevReg::SPM_BYTES, chip_.spm.kib * 1024);
  regs_.set(DevReg::DRAM_MIB, chip_.dram.mib);
  regs_.set(DevReg::TCM_BYTES, chip_.cp.tcm_kib * 1024);
  regs_.set(DevReg::NUM_SEMAPHORES, chip_.semaphores.count);
  regs_.set(DevReg::FORMATS, config::formats_mask(chip_));
  regs_.set(DevReg::DRAM_MBPS, static_cast<std::uint32_t>(std::lround(chip_.dram.bandwidth_gbps * 1000)));
  regs_.set(DevReg::SPM_BYTES_PER_CYCLE, chip_.spm.bytes_per_cycle);
  const auto part = dram_model(chip_);
  regs_.set(DevReg::DRAM_STREAM_MBPS,
            static_cast<std::uint32_t>(std::lround(1000 * (part ? part->stream_gbps() : chip_.dram.bandwidth_gbps))));
  regs_.set(DevReg::DRAM_LATENCY_NS, static_cast<std::uint32_t>(std::lround(chip_.dram.latency_ns)));
  regs_.set(DevReg::DRAM_CHANNELS, part ? part->geometry.all_channels() : chip_.dram.channels);
  regs_.set(DevReg::NOC_WAY_CYCLES, noc_way_cycles(chip_));
  regs_.set(DevReg::DRAM_STRIPE_BYTES,
            part ? part->stripe_bytes() : static_cast<std::uint32_t>(chip_.dram.interleave_bytes));
}

void Dev::setup_registers() {
  regs_.on_write(DevReg::RESET_CTRL, [this](unsigned, std::uint32_t old, std::uint32_t written, std::uint32_t now) {
    if ((written & DevRegs::RESET_CTRL_SOFT_RESET.mask()) != 0) {
      hooks_.soft_reset();  // ends in reset(), which puts the control processor into reset, too
      return;
    }
    if (((old ^ now) & DevRegs::RESET_CTRL_CP_RESET.mask()) == 0) return;
    const bool asserted = regs_.get(DevRegs::RESET_CTRL_CP_RESET) != 0;
    if (asserted) regs_.set(DevReg::FW_STATUS, 0);
    hooks_.cp_reset(asserted);
  });
  regs_.on_write(DevReg::HOST_CMD, [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t) {
    hooks_.host_line(regs_.get(DevRegs::HOST_CMD_OP) != DevRegs::HOST_CMD_OP_NONE);
  });
  regs_.on_write(DevReg::FW_STATUS, [this](unsigned, std::uint32_t old, std::uint32_t, std::uint32_t now) {
    const auto state = [](std::uint32_t word) { return word & DevRegs::FW_STATUS_STATE.mask(); };
    if (state(now) == DevRegs::FW_STATUS_STATE_CRASHED && state(old) != state(now)) hooks_.firmware_crash();
  });
  regs_.on_write(DevReg::PACKETS,
                 [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t now) { hooks_.packets(now); });
  regs_.on_write(DevReg::FAULT_ACK, [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t) {
    for (const DevReg reg : {DevReg::FAULT_COUNT, DevReg::FAULT_CODE, DevReg::FAULT_SOURCE, DevReg::FAULT_PACKET,
                             DevReg::FAULT_PC, DevReg::FAULT_ADDR_LO, DevReg::FAULT_ADDR_HI, DevReg::FAULT_ACK}) {
      regs_.set(reg, 0);
    }
  });
  regs_.on_read(DevReg::TIME_LO, [this](unsigned) {
    const Cycles time = clock_.floor(sc_core::sc_time_stamp());
    regs_.set(DevReg::TIME_HI, static_cast<std::uint32_t>(time >> 32));
    return static_cast<std::uint32_t>(time);
  });
  const auto counter = [this](DevReg low, const std::function<std::uint64_t()> &value) {
    const auto high = static_cast<DevReg>(static_cast<unsigned>(low) + 1);
    regs_.on_read(low, [&value](unsigned) { return static_cast<std::uint32_t>(value()); });
    regs_.on_read(high, [&value](unsigned) { return static_cast<std::uint32_t>(value() >> 32); });
  };
  counter(DevReg::CP_CYCLES_LO, hooks_.cp_cycles);
  counter(DevReg::CP_INSTRET_LO, hooks_.cp_instructions);
  regs_.on_read(DevReg::HOST_ERRORS, [this](unsigned) { return static_cast<std::uint32_t>(hooks_.host_errors()); });
}

void Dev::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

void Dev::report_crash(std::uint32_t pc, std::uint32_t address) {
  regs_.set(DevRegs::FW_STATUS_STATE, DevRegs::FW_STATUS_STATE_CRASHED);
  regs_.set(DevReg::FAULT_COUNT, regs_.get(DevReg::FAULT_COUNT) + 1);
  if (regs_.get(DevReg::FAULT_CODE) != 0) return;
  regs_.set(DevReg::FAULT_CODE, CX_STATUS_FIRMWARE_CRASH);
  regs_.set(DevReg::FAULT_SOURCE, 0xffff);  // neither a queue nor an engine
  regs_.set(DevReg::FAULT_PC, pc);
  regs_.set64(DevReg::FAULT_ADDR_LO, address);
}

void Dev::reset() {
  regs_.reset();
  set_capabilities();
  hooks_.cp_reset(true);
  hooks_.host_line(false);
}

}  // namespace cx::hw
