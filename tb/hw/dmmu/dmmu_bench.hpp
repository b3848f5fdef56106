// DMMUs of model and RTL tiles at one memory system, instructions for them, and runs that compare the two.
#pragma once

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "hw/dmmu/dmmu.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/engine/bench.hpp"
#include "tb/hw/engine/views.hpp"

namespace cx::tb {

inline constexpr uint32_t kTiles = 4, kRows = 8, kCols = 8;
inline constexpr uint8_t kNone = 0xFF;
/// START has arrived, and the interrupt of the launch before is gone; the first instruction is still being fetched.
inline constexpr Cycles kStart = 12;

inline bool rtl_built(const rtl::TileShape &shape) {
  for (const auto &built : rtl::built_tiles()) {
    if (built.serves(shape)) return true;
  }
  WARN(rtl::to_string(shape) << " is not in CX_RTL_TILES: RTL is not compared");
  return false;
}

/// A DMMU and its driver.
struct Unit {
  static config::Chip::DmmuSection section(const rtl::TileShape &shape, bool rtl, bool overlap, uint32_t tiles) {
    config::Chip::DmmuSection section;
    section.tiles = tiles;
    section.tile = {shape.rows, shape.cols, shape.acc_rows, shape.pack, shape.stages};
    section.rtl_tiles.all = rtl && rtl_built(shape);
    section.overlap_folds = overlap;
    return section;
  }

  Unit(Memories &memories, const char *name, unsigned number, const rtl::TileShape &shape, bool rtl,
       bool overlap = true, uint32_t tiles = kTiles)
      : dmmu(name, memories.context(), section(shape, rtl, overlap, tiles)), driver(memories, dmmu, number) {}

  hw::Dmmu dmmu;
  EngineDriver driver;
};

/// The same tiles as model and as RTL.
struct Pair {
  rtl::TileShape shape;
  Unit model, rtl;
};

// The bench's scratchpad has 64 KiB, a port of 32 bytes a cycle, and a latency of 3.
struct Chip {
  static constexpr uint32_t kMany = 384;
  static constexpr rtl::TileShape kPlain{kRows, kCols, 256}, kPacked{kRows, kCols, 64, 2, 2};

  Memories memories;
  Pair plain{kPlain, {memories, "dmmu", 2, kPlain, false}, {memories, "dmmu_rtl", 4, kPlain, true}};
  Pair packed{kPacked, {memories, "packed", 5, kPacked, false}, {memories, "packed_rtl", 6, kPacked, true}};
  Unit serial{memories, "dmmu_serial", 3, kPlain, false, false};
  Unit many{memories, "dmmu_many", 7, {1, 1, 4}, false, true, kMany};
  Unit large{memories, "dmmu_large", 8, {256, 256, 4}, false, true, 1};
};

inline Chip &chip() {
  static Chip &instance = *new Chip;  // lives as long as SystemC
  return instance;
}

// ---- instructions ----

inline isa::Inst ldw(uint8_t w, uint16_t m_split = 1, uint16_t n_split = 1, uint8_t scale = kNone) {
  isa::MmLdw in;
  in.w = w;
  in.scale = scale;
  in.m_split = m_split;
  in.n_split = n_split;
  return in.encode();
}

inline isa::Inst mul(uint8_t a, uint16_t n, bool accumulate = false, uint16_t acc_row = 0, uint16_t m_split = 1,
                     uint16_t n_split = 1, uint8_t scale = kNone) {
  isa::MmMul in;
  in.a = a;
  in.accumulate = accumulate;
  in.m_split = m_split;
  in.n_split = n_split;
  in.n = n;
  in.acc_row = acc_row;
  in.scale = scale;
  return in.encode();
}

inline isa::Inst mul_os(uint8_t a, uint8_t w, bool accumulate = false, uint16_t acc_row = 0, uint16_t m_split = 1,
                        uint16_t n_split = 1) {
  isa::MmMulOs in;
  in.a = a;
  in.w = w;
  in.m_split = m_split;
  in.n_split = n_split;
  in.accumulate = accumulate;
  in.acc_row = acc_row;
  return in.encode();
}

inline isa::Inst drain(uint8_t dst, uint16_t acc_row = 0, uint16_t m_split = 1, uint16_t n_split = 1,
                       uint8_t scale = kNone, uint8_t bias = kNone, isa::Activation act = isa::Activation::NONE,
                       float lo = 0, float hi = 0) {
  isa::MmDrain in;
  in.dst = dst;
  in.scale = scale;
  in.bias = bias;
  in.act = act;
  in.m_split = m_split;
  in.n_split = n_split;
  in.acc_row = acc_row;
  in.lo = lo;
  in.hi = hi;
  return in.encode();
}

// ---- runs ----

/// From reset with `memory` in the scratchpad.
inline void launch(Unit &unit, std::vector<isa::Inst> program, const std::vector<uint8_t> &memory) {
  chip().memories.reset();
  unit.dmmu.reset();
  Memories::run(1);  // the interrupt line falls
  if (!memory.empty()) std::memcpy(chip().memories.spm.data(), memory.data(), memory.size());
  program.push_back(isa::End{}.encode());
  unit.driver.launch(program);
}

/// To the end without a fault; `memory` receives the scratchpad's contents.
inline Counters finish(Unit &unit, std::vector<uint8_t> &memory) {
  EngineDriver &driver = unit.driver;
  driver.finish();
  INFO(unit.dmmu.dump() << " code " << driver.read(EngineDriver::Reg::FAULT_CODE) << " at "
                        << driver.read64(EngineDriver::Reg::FAULT_ADDR_LO));
  REQUIRE(driver.done());
  memory.resize(chip().memories.spm.bytes());
  std::memcpy(memory.data(), chip().memories.spm.data(), memory.size());
  using Reg = EngineDriver::Reg;
  return {driver.read64(Reg::BUSY_LO), driver.read64(Reg::OPS_LO), driver.read64(Reg::RD_LO),
          driver.read64(Reg::WR_LO)};
}

inline Counters run(Unit &unit, const std::vector<isa::Inst> &program, std::vector<uint8_t> &memory) {
  launch(unit, program, memory);
  return finish(unit, memory);
}

/// On model and RTL, which must agree in memory, engine counters and the counters of every tile.
inline Counters run(Pair &pair, const std::vector<isa::Inst> &program, std::vector<uint8_t> &memory) {
  std::vector<uint8_t> rtl_memory = memory;
  const Counters model = run(pair.model, program, memory);
  const Counters rtl = run(pair.rtl, program, rtl_memory);
  REQUIRE(model == rtl);
  REQUIRE((memory == rtl_memory));
  for (uint32_t tile = 0; tile < kTiles; ++tile) {
    REQUIRE((pair.model.dmmu.counters(tile) == pair.rtl.dmmu.counters(tile)));
  }
  return model;
}

inline Counters time_of(Pair &pair, const std::vector<isa::Inst> &program, std::vector<uint8_t> memory = {}) {
  return run(pair, program, memory);
}

/// The last instruction faults, on model and RTL.
inline void expect_fault(Pair &pair, const std::vector<isa::Inst> &program, uint32_t status, uint64_t address) {
  for (Unit *unit : {&pair.model, &pair.rtl}) {
    launch(*unit, program, {});
    unit->driver.expect_fault(status, static_cast<uint32_t>(program.size()) - 1, address);
  }
}

inline void expect_illegal(Pair &pair, const std::vector<isa::Inst> &program, uint64_t address) {
  expect_fault(pair, program, CX_STATUS_ILLEGAL_INSTRUCTION, address);
}

}  // namespace cx::tb
