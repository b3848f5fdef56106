#include "tb/firmware/mock_chip.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "firmware/image.h"
#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.h"
#include "hw/regs/gen/queue_regs.h"
#include "hw/regs/gen/sdma_regs.h"

namespace cx::tb {

namespace {

using regs::DevReg;
using regs::DevRegs;
using regs::EngineReg;
using regs::EngineRegs;
using regs::IntcReg;
using regs::MsixReg;
using regs::QueueReg;
using regs::RasReg;
using regs::SdmaReg;
using regs::SdmaRegs;
using regs::Side;

constexpr uint32_t kTcmBytes = 64 * 1024;
constexpr uint64_t kAccessCycles = 8;
constexpr uint64_t kQuantum = 64;
constexpr uint64_t kEnginePages[kEngines] = {CX_MAP_LOAD_OFFSET, CX_MAP_STORE_OFFSET, CX_MAP_DMMU_OFFSET,
                                             CX_MAP_VPU_OFFSET, CX_MAP_SCA_OFFSET};

}  // namespace

MockChip::MockChip()
    : tcm(kTcmBytes), dram(kDramBytes), core({static_cast<uint32_t>(CX_MEM_TCM_BASE), kTcmBytes, tcm.data()}, *this) {
  std::memcpy(tcm.data(), cx_firmware_image, cx_firmware_image_size);
  // What the image does not cover is not zero after power-on.
  std::fill(tcm.begin() + cx_firmware_image_size, tcm.end(), uint8_t{0xa5});
  dev.set(DevReg::NUM_QUEUES, 8);
  dev.set64(DevReg::ARCH_HASH_LO, kArchHash);
  dev.set(DevReg::DRAM_MIB, static_cast<uint32_t>(kDramBytes >> 20));
  dev.set(DevReg::TCM_BYTES, kTcmBytes);
  dev.on_write(DevReg::FAULT_ACK, [this](unsigned, uint32_t, uint32_t, uint32_t) {
    for (auto reg : {DevReg::FAULT_COUNT, DevReg::FAULT_CODE, DevReg::FAULT_SOURCE, DevReg::FAULT_PACKET,
                     DevReg::FAULT_PC, DevReg::FAULT_ADDR_LO, DevReg::FAULT_ADDR_HI}) {
      dev.set(reg, 0);
    }
  });
  queue.on_write(QueueReg::DOORBELL, [this](unsigned n, uint32_t, uint32_t, uint32_t) {
    queue.set(QueueReg::DB_PENDING, queue.get(QueueReg::DB_PENDING) | (1u << n));
  });
  msix.on_write(MsixReg::TRIGGER, [this](unsigned, uint32_t, uint32_t written, uint32_t) {
    vectors.push_back(written);
    if (on_vector) on_vector(written);
  });
  ras.on_write(RasReg::POST, [this](unsigned, uint32_t, uint32_t written, uint32_t) {
    events.push_back({written, ras.get(RasReg::POST_STATUS), ras.get(RasReg::POST_SOURCE), ras.get(RasReg::POST_PACKET),
                      ras.get(RasReg::POST_PC), ras.get64(RasReg::POST_ADDR_LO)});
  });
  intc.on_write(IntcReg::TRACE,
                [this](unsigned, uint32_t, uint32_t written, uint32_t) { trace += static_cast<char>(written); });
  sdma.on_write(SdmaReg::CTRL, [this](unsigned channel, uint32_t, uint32_t written, uint32_t) {
    if (written & CX_SDMA_CTRL_ABORT_MASK) {
      ++sdma_generation_[channel];
      sdma.set(SdmaReg::STATUS, CX_STATUS_ABORTED << CX_SDMA_STATUS_ERROR_SHIFT, channel);
      sdma.set(SdmaReg::DONE, sdma.get(SdmaReg::DONE) | (1u << channel));
    }
    if (written & CX_SDMA_CTRL_START_MASK) start_transfer(channel);
  });
  for (unsigned engine = 0; engine < kEngines; ++engine) {
    engines[engine].on_write(EngineReg::CTRL, [this, engine](unsigned, uint32_t, uint32_t written, uint32_t) {
      if (written & CX_ENGINE_CTRL_RESET_MASK) {
        ++engine_generation_[engine];
        ++engine_resets;
        const bool stays = plans[engine].ignores_reset && !(written & CX_ENGINE_CTRL_HARD_RESET_MASK);
        engines[engine].set(EngineReg::STATUS, stays ? CX_ENGINE_STATUS_BUSY_MASK : 0);
      }
      if (written & CX_ENGINE_CTRL_SEM_CLEAR_MASK) ++semaphore_clears;
      if (written & CX_ENGINE_CTRL_TIMING_ONLY_MASK) timing_only_starts.push_back(engine);
      if (written & CX_ENGINE_CTRL_START_MASK) start_engine(engine);
      engines[engine].set(EngineReg::CTRL, 0);
    });
  }
  core.reset(static_cast<uint32_t>(CX_MEM_TCM_BASE));
}

void MockChip::schedule(uint64_t delay, std::function<void()> action) {
  events_.emplace(now() + delay, std::move(action));
  core.shorten_run(core.cycles() + delay);
}

bool MockChip::run_until(const std::function<bool()> &condition, uint64_t cycles) {
  const uint64_t end = now() + cycles;
  for (;;) {
    while (!events_.empty() && events_.begin()->first <= now()) {
      auto action = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      action();
    }
    update_lines();
    if (condition()) return true;
    if (now() >= end || core.locked()) return false;
    const auto compare_in_future = [this] { return intc.get64(IntcReg::MTIMECMP_LO) > now(); };
    uint64_t next = compare_in_future() ? intc.get64(IntcReg::MTIMECMP_LO) : ~uint64_t{0};
    if (!events_.empty()) next = std::min(next, events_.begin()->first);
    const uint64_t limit = std::min({next - now(), kQuantum, end - now()});
    if (core.run(core.cycles() + limit) != hw::Rv32Stop::kSleep) continue;
    // Asleep: time jumps to the next event.
    update_lines();
    if (core.wakeup_pending()) continue;
    next = events_.empty() ? ~uint64_t{0} : events_.begin()->first;
    // A deadline that has passed would have ended the sleep if its interrupt were enabled.
    if (compare_in_future()) next = std::min(next, intc.get64(IntcReg::MTIMECMP_LO));
    if (next == ~uint64_t{0}) return condition();
    next = std::min(next, end);
    if (next > now()) slept_ += next - now();
  }
}

void MockChip::run_to_idle() {
  run_until([] { return false; }, 100'000'000);
}

void MockChip::update_lines() {
  uint32_t lines = 0;
  if (queue.get(QueueReg::DB_PENDING)) lines |= 1u << CX_IRQ_DOORBELL;
  if (sdma.get(SdmaReg::DONE)) lines |= 1u << CX_IRQ_SDMA;
  if (dev.get(DevReg::HOST_CMD)) lines |= 1u << CX_IRQ_HOST;
  for (unsigned engine = 0; engine < kEngines; ++engine) {
    constexpr uint32_t kRaise = CX_ENGINE_STATUS_DONE_MASK | CX_ENGINE_STATUS_FAULT_MASK;
    if (engines[engine].get(EngineReg::STATUS) & kRaise) lines |= 1u << (CX_IRQ_LOAD + engine);
  }
  intc.set(IntcReg::PENDING, lines);
  core.set_interrupt(hw::Rv32Interrupt::kExternal, (lines & intc.get(IntcReg::ENABLE)) != 0);
  core.set_interrupt(hw::Rv32Interrupt::kTimer, now() >= intc.get64(IntcReg::MTIMECMP_LO));
}

// ---- accesses ----

regs::RegFile *MockChip::find(uint64_t page) {
  switch (page) {
    case CX_MAP_DEV_OFFSET:
      return &dev;
    case CX_MAP_QUEUE_OFFSET:
      return &queue;
    case CX_MAP_MSIX_OFFSET:
      return &msix;
    case CX_MAP_INTC_OFFSET:
      return &intc;
    case CX_MAP_SDMA_OFFSET:
      return &sdma;
    case CX_MAP_RAS_OFFSET:
      return &ras;
    default:
      for (unsigned engine = 0; engine < kEngines; ++engine) {
        if (page == kEnginePages[engine]) return &engines[engine];
      }
      return nullptr;
  }
}

bool MockChip::load(uint32_t address, unsigned size, uint32_t &value) {
  if (size != 4 || address < CX_PERIPHERAL_BASE || address >= CX_MEM_TCM_BASE) return false;
  const uint32_t offset = address - static_cast<uint32_t>(CX_PERIPHERAL_BASE);
  regs::RegFile *file = find(offset & ~0xffffu);
  core.add_cycles(kAccessCycles);
  update_lines();
  return file != nullptr && file->read(Side::firmware, offset & 0xffff, value) == regs::Result::ok;
}

bool MockChip::store(uint32_t address, unsigned size, uint32_t value) {
  if (size != 4 || address < CX_PERIPHERAL_BASE || address >= CX_MEM_TCM_BASE) return false;
  const uint32_t offset = address - static_cast<uint32_t>(CX_PERIPHERAL_BASE);
  regs::RegFile *file = find(offset & ~0xffffu);
  core.add_cycles(kAccessCycles);
  const bool ok = file != nullptr && file->write(Side::firmware, offset & 0xffff, value) == regs::Result::ok;
  update_lines();
  return ok;
}

uint32_t MockChip::read(uint64_t page, uint32_t offset) {
  uint32_t value = 0;
  if (find(page)->read(Side::host, offset, value) != regs::Result::ok) throw std::runtime_error("no such register");
  return value;
}

void MockChip::write(uint64_t page, uint32_t offset, uint32_t value) {
  if (find(page)->write(Side::host, offset, value) != regs::Result::ok) throw std::runtime_error("no such register");
}

uint64_t MockChip::read64(uint64_t page, uint32_t offset) {
  return read(page, offset) | (static_cast<uint64_t>(read(page, offset + 4)) << 32);
}

uint8_t *MockChip::host(uint64_t iova, uint64_t bytes) {
  auto above = host_.upper_bound(iova);
  if (above == host_.begin()) return nullptr;
  auto &[base, memory] = *std::prev(above);
  if (iova - base > memory.size() || bytes > memory.size() - (iova - base)) return nullptr;
  return memory.data() + (iova - base);
}

uint8_t *MockChip::device(uint64_t address, uint64_t bytes) {
  const auto inside = [&](uint64_t base, std::vector<uint8_t> &memory) -> uint8_t * {
    if (address < base || address - base > memory.size() || bytes > memory.size() - (address - base)) return nullptr;
    return memory.data() + (address - base);
  };
  if (uint8_t *memory = inside(CX_MEM_TCM_BASE, tcm)) return memory;
  return inside(kDramBase, dram);
}

// ---- system DMA ----

void MockChip::start_transfer(unsigned channel) {
  if (channel >= sdma_channels) {
    sdma.set(SdmaReg::STATUS, CX_STATUS_UNSUPPORTED << CX_SDMA_STATUS_ERROR_SHIFT, channel);
    sdma.set(SdmaReg::DONE, sdma.get(SdmaReg::DONE) | (1u << channel));
    return;
  }
  const Transfer transfer = {channel,
                             sdma.get(SdmaReg::CTRL, channel),
                             sdma.get64(SdmaReg::SRC_LO, channel),
                             sdma.get64(SdmaReg::DST_LO, channel),
                             sdma.get(SdmaReg::ROW_BYTES, channel),
                             sdma.get(SdmaReg::ROWS, channel),
                             now()};
  transfers.push_back(transfer);
  sdma.set(SdmaReg::STATUS, CX_SDMA_STATUS_BUSY_MASK, channel);
  sdma.set(SdmaReg::CTRL, transfer.kind & ~CX_SDMA_CTRL_START_MASK, channel);
  const double bytes = double(transfer.row_bytes) * transfer.rows;
  const unsigned generation = ++sdma_generation_[channel];
  // Transfers beyond all memory fail early.
  schedule(sdma_latency + static_cast<uint64_t>(std::min(bytes, 16e6) / sdma_bytes_per_cycle),
           [this, channel, generation] { finish_transfer(channel, generation); });
}

void MockChip::finish_transfer(unsigned channel, unsigned generation) {
  if (generation != sdma_generation_[channel]) return;
  const uint32_t kind = sdma.get(SdmaReg::CTRL, channel);
  const uint64_t row_bytes = sdma.get(SdmaReg::ROW_BYTES, channel);
  const auto reach = [this](bool in_host, uint64_t address, uint64_t bytes) {
    return in_host ? host(address, bytes) : device(address, bytes);
  };
  const auto fail = [&](bool in_host, uint64_t address) {
    const uint32_t status = in_host ? CX_STATUS_IOMMU_FAULT : CX_STATUS_BAD_ADDRESS;
    sdma.set(SdmaReg::STATUS, status << CX_SDMA_STATUS_ERROR_SHIFT, channel);
    sdma.set64(SdmaReg::FAULT_LO, address, channel);
  };
  sdma.set(SdmaReg::STATUS, 0, channel);
  sdma.set(SdmaReg::DONE, sdma.get(SdmaReg::DONE) | (1u << channel));
  const bool src_host = kind & CX_SDMA_CTRL_SRC_HOST_MASK, dst_host = kind & CX_SDMA_CTRL_DST_HOST_MASK;
  for (uint64_t row = 0; row < sdma.get(SdmaReg::ROWS, channel); ++row) {
    const uint64_t src = sdma.get64(SdmaReg::SRC_LO, channel) + row * sdma.get(SdmaReg::SRC_PITCH, channel);
    const uint64_t dst = sdma.get64(SdmaReg::DST_LO, channel) + row * sdma.get(SdmaReg::DST_PITCH, channel);
    uint8_t *to = reach(dst_host, dst, row_bytes);
    const bool fill = kind & CX_SDMA_CTRL_FILL_MASK;
    if (to == nullptr && fill && dst >= kDramBase && dst - kDramBase + row_bytes <= discard_bytes) continue;
    if (to == nullptr) return fail(dst_host, dst);
    if (fill) {
      const uint32_t pattern = sdma.get(SdmaReg::PATTERN, channel);
      for (uint64_t i = 0; i < row_bytes; i += 4) std::memcpy(to + i, &pattern, 4);
      continue;
    }
    const uint8_t *from = reach(src_host, src, row_bytes);
    if (from == nullptr) return fail(src_host, src);
    std::memmove(to, from, row_bytes);
  }
}

// ---- engines ----

void MockChip::start_engine(unsigned engine) {
  engine_starts.push_back(engine);
  engines[engine].set(EngineReg::STATUS, CX_ENGINE_STATUS_BUSY_MASK);
  const Plan plan = plans[engine];
  if (plan.end == Plan::End::kHang) {
    engines[engine].set(EngineReg::PC, plan.pc);
    if (plan.sem >= 0) {
      engines[engine].set(EngineReg::STATUS, CX_ENGINE_STATUS_BUSY_MASK | CX_ENGINE_STATUS_WAITING_MASK);
      engines[engine].set(EngineReg::WAIT_SEM, 1u << 16 | static_cast<uint32_t>(plan.sem));
    }
    if (plan.busy)
      engines[engine].on_read(EngineReg::BUSY_LO, [this](unsigned) { return static_cast<uint32_t>(now()); });
    return;
  }
  const unsigned generation = ++engine_generation_[engine];
  schedule(plan.cycles, [this, engine, generation, plan] {
    if (generation != engine_generation_[engine]) return;
    const bool fault = plan.end == Plan::End::kFault;
    engines[engine].set(EngineReg::STATUS, fault ? CX_ENGINE_STATUS_FAULT_MASK : CX_ENGINE_STATUS_DONE_MASK);
    if (!fault) return;
    engines[engine].set(EngineReg::FAULT_CODE, plan.code);
    engines[engine].set(EngineReg::FAULT_PC, plan.pc);
    engines[engine].set64(EngineReg::FAULT_ADDR_LO, plan.address);
  });
}

}  // namespace cx::tb
