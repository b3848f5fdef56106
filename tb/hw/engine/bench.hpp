// A memory system with semaphores for engine tests, and a stand-in for the firmware. SystemC elaborates once: tests of
// one executable share one bench and reset it.
#ifndef TB_HW_ENGINE_BENCH_HPP
#define TB_HW_ENGINE_BENCH_HPP

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <systemc>
#include <vector>

#include "hw/dram/dram.hpp"
#include "hw/engine/engine.hpp"
#include "hw/noc/noc.hpp"
#include "hw/regs/gen/engine_regs.hpp"
#include "hw/regs/gen/packets.h"
#include "hw/spm/spm.hpp"
#include "hw/sync/semaphores.hpp"

namespace cx::tb {

using hw::Cycles;

inline constexpr std::uint64_t kSpmBase = 0x1'0000'0000;
inline constexpr std::uint64_t kDramBase = 0x10'0000'0000;
inline constexpr std::uint64_t kStreams = kDramBase + 0x10'0000;  // instruction streams, 64 KiB apart
inline constexpr std::uint64_t kSegmentTable = kDramBase + 0x8'0000;

struct Master : sc_core::sc_module {
  tlm_utils::simple_initiator_socket<Master> socket;
  explicit Master(sc_core::sc_module_name name) : sc_module(name), socket("socket") {}
};

// Clock 1000 MHz (1 cycle = 1 ns); links 64 bytes a cycle, hops of 4; DRAM 4 x 16 bytes a cycle, 80 cycles;
// scratchpad 64 KiB, ports of 32 bytes a cycle, latency 3; 16 semaphores.
struct Memories {
  hw::Clock clock{1000};
  hw::Noc noc{"noc", clock, hw::NocParams{64, 4}};
  hw::Spm spm{"spm", clock, hw::SpmParams{1 << 16, 8, 32, 3}};
  hw::Dram dram{"dram", clock, hw::DramParams{1 << 26, 4, 64, 80, 1024, 64}};
  hw::Semaphores semaphores{"semaphores", 16};
  Master firmware{"firmware"};
  Master host{"host"};

  Memories() {
    noc.add_target("dram", kDramBase, dram.bytes(), dram.socket, &dram, 4);
    noc.add_target("spm", kSpmBase, spm.bytes(), spm.socket, &spm);
    noc.add_initiator("firmware", firmware.socket);
    noc.add_initiator("host", host.socket, regs::Side::host);
  }

  hw::EngineContext context() { return {clock, noc, spm, semaphores}; }

  std::byte *dram_at(std::uint64_t address) { return dram.data() + (address - kDramBase); }

  void reset() {
    noc.reset();
    spm.reset();
    dram.reset();
    semaphores.clear_all();
  }

  Cycles now() const { return clock.floor(sc_core::sc_time_stamp()); }
  static void run(Cycles cycles) { sc_core::sc_start(sc_core::sc_time(static_cast<double>(cycles), sc_core::SC_NS)); }
};

// One engine with its register window.
struct EngineDriver {
  using Reg = regs::EngineReg;

  Memories &memories;
  hw::Engine &engine;
  std::uint64_t registers;
  std::uint64_t stream;
  sc_core::sc_signal<bool> irq;

  EngineDriver(Memories &m, hw::Engine &e, unsigned number)
      : memories(m),
        engine(e),
        registers(0x4005'0000 + number * 0x1'0000),
        stream(kStreams + number * 0x1'0000),
        irq((std::string(e.basename()) + "_irq").c_str()) {
    m.noc.add_target(std::string(e.basename()) + "_regs", registers, 0x1000, e.registers);
    e.irq(irq);
  }

  std::uint32_t access(Master &master, tlm::tlm_command command, Reg reg, std::uint32_t value) {
    tlm::tlm_generic_payload transaction;
    transaction.set_command(command);
    transaction.set_address(registers + regs::engine_detail::table[static_cast<unsigned>(reg)].offset);
    transaction.set_data_ptr(reinterpret_cast<unsigned char *>(&value));
    transaction.set_data_length(4);
    transaction.set_streaming_width(4);
    sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
    master.socket->b_transport(transaction, delay);
    REQUIRE(transaction.get_response_status() == tlm::TLM_OK_RESPONSE);
    return value;
  }
  std::uint32_t read(Reg reg) { return access(memories.firmware, tlm::TLM_READ_COMMAND, reg, 0); }
  std::uint64_t read64(Reg low) {
    return read(low) | std::uint64_t{read(static_cast<Reg>(static_cast<unsigned>(low) + 1))} << 32;
  }
  void write(Reg reg, std::uint32_t value) { access(memories.firmware, tlm::TLM_WRITE_COMMAND, reg, value); }
  void write64(Reg low, std::uint64_t value) {
    write(low, static_cast<std::uint32_t>(value));
    write(static_cast<Reg>(static_cast<unsigned>(low) + 1), static_cast<std::uint32_t>(value >> 32));
  }
  bool done() { return read(Reg::STATUS) & 1; }
  bool fault() { return read(Reg::STATUS) >> 1 & 1; }
  bool busy() { return read(Reg::STATUS) >> 8 & 1; }
  bool waiting() { return read(Reg::STATUS) >> 9 & 1; }

  // Puts the stream into DRAM and starts it. The write of CTRL reaches the engine 9 cycles from now (8 of hops and one
  // beat) if the links are free.
  void launch(const std::vector<isa::Inst> &program) {
    if (!program.empty()) std::memcpy(memories.dram_at(stream), program.data(), program.size() * sizeof(isa::Inst));
    write64(Reg::STREAM_LO, stream);
    write(Reg::STREAM_COUNT, static_cast<std::uint32_t>(program.size()));
    start();
  }
  void start() {
    memories.noc.reset();  // the accesses before leave no trace in the timing
    write(Reg::CTRL, 1);
  }
  void segments(const std::vector<hw::Segment> &table) {
    if (!table.empty()) std::memcpy(memories.dram_at(kSegmentTable), table.data(), table.size() * sizeof(hw::Segment));
    write64(Reg::SEGTAB_LO, kSegmentTable);
    write(Reg::SEGTAB_COUNT, static_cast<std::uint32_t>(table.size()));
  }

  // Lets time pass until the interrupt is up; the cycles from now to then. Fails after `limit`.
  Cycles finish(Cycles limit = 1'000'000) {
    const Cycles begin = memories.now();
    while (!irq.read()) {
      REQUIRE(memories.now() - begin < limit);
      if (!sc_core::sc_pending_activity()) FAIL("nothing left to do: " << engine.dump());
      const sc_core::sc_time next = sc_core::sc_time_to_pending_activity();
      sc_core::sc_start(next);
    }
    return memories.now() - begin;
  }

  void expect_fault(std::uint32_t status, std::uint32_t pc, std::uint64_t address) {
    finish();
    CHECK(read(Reg::STATUS) == 2);
    CHECK(read(Reg::FAULT_CODE) == status);
    CHECK(read(Reg::FAULT_PC) == pc);
    CHECK(read64(Reg::FAULT_ADDR_LO) == address);
    CHECK_FALSE(engine.busy());
  }
};

}  // namespace cx::tb

#endif
