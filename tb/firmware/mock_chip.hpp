// The firmware's surroundings without SystemC: register files with the generated access rules, a system DMA that takes
// time, engines that do what the test says, host memory with holes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "hw/cp/rv32_core.hpp"
#include "hw/regs/gen/dev_regs.hpp"
#include "hw/regs/gen/engine_regs.hpp"
#include "hw/regs/gen/intc_regs.hpp"
#include "hw/regs/gen/msix_regs.hpp"
#include "hw/regs/gen/queue_regs.hpp"
#include "hw/regs/gen/ras_regs.hpp"
#include "hw/regs/gen/sdma_regs.hpp"

namespace cx::tb {

inline constexpr unsigned kEngines = 5;
inline constexpr uint64_t kDramBase = 0x1000000000;
inline constexpr uint64_t kDramBytes = 8u << 20;
inline constexpr uint64_t kArchHash = 0x0123456789abcdef;

class MockChip : public hw::Rv32Bus {
 public:
  // What an engine does when it is started.
  struct Plan {
    enum class End { kDone, kFault, kHang } end = End::kDone;
    uint64_t cycles = 1000;
    uint32_t code = 0;
    uint32_t pc = 0;
    uint64_t address = 0;
    int sem = -1;       // kHang: the semaphore waited for; -1: it does not wait
    bool busy = false;  // kHang: its unit works on
    bool ignores_reset = false;
  };
  // An event that the firmware posted.
  struct Event {
    uint32_t kind, status, source, packet, pc;
    uint64_t address;
  };
  // One transfer of the system DMA as it began.
  struct Transfer {
    unsigned channel;
    uint32_t kind;  // CTRL
    uint64_t src, dst;
    uint32_t row_bytes, rows;
    uint64_t start;
  };

  MockChip();

  // Runs until the condition holds (checked whenever the core stops) or `cycles` have passed. False: time is up, or
  // nothing is scheduled and the core sleeps.
  bool run_until(const std::function<bool()> &condition, uint64_t cycles = 10'000'000);
  // Runs until the core sleeps and nothing is scheduled.
  void run_to_idle();

  uint64_t now() const { return core.cycles() + slept_; }
  bool crashed() const { return core.locked(); }

  // Host side of a register.
  uint32_t read(uint64_t page, uint32_t offset);
  void write(uint64_t page, uint32_t offset, uint32_t value);
  uint64_t read64(uint64_t page, uint32_t offset);

  // Host memory: [iova, iova + bytes) exists from now on.
  void map_host(uint64_t iova, size_t bytes) { host_[iova].resize(bytes); }
  void unmap_host(uint64_t iova) { host_.erase(iova); }
  uint8_t *host(uint64_t iova, uint64_t bytes);
  uint8_t *device(uint64_t address, uint64_t bytes);

  std::vector<uint8_t> tcm;
  std::vector<uint8_t> dram;
  hw::Rv32Core core;
  regs::DevRegs dev;
  regs::QueueRegs queue;
  regs::MsixRegs msix;
  regs::IntcRegs intc;
  regs::SdmaRegs sdma;
  regs::RasRegs ras;
  std::array<regs::EngineRegs, kEngines> engines;

  std::array<Plan, kEngines> plans;
  std::vector<unsigned> vectors;        // raised, in order
  std::vector<Transfer> transfers;      // in order of their start
  std::vector<unsigned> engine_starts;  // engine numbers
  std::vector<unsigned> timing_only_starts;
  unsigned semaphore_clears = 0;
  unsigned engine_resets = 0;
  std::vector<Event> events;
  std::string trace;
  std::function<void(unsigned)> on_vector;
  uint64_t discard_bytes = 0;  // fills from kDramBase to here succeed without effect where there is no memory
  unsigned sdma_channels = 4;
  uint64_t sdma_latency = 400;
  double sdma_bytes_per_cycle = 16;

  // Rv32Bus
  bool load(uint32_t address, unsigned size, uint32_t &value) override;
  bool store(uint32_t address, unsigned size, uint32_t value) override;
  uint64_t time() override { return now(); }

 private:
  regs::RegFile *find(uint64_t page);
  void schedule(uint64_t delay, std::function<void()> action);
  void update_lines();
  void start_transfer(unsigned channel);
  void finish_transfer(unsigned channel, unsigned generation);
  void start_engine(unsigned engine);

  uint64_t slept_ = 0;
  std::map<uint64_t, std::vector<uint8_t>> host_;
  std::multimap<uint64_t, std::function<void()>> events_;
  std::array<unsigned, 4> sdma_generation_{};
  std::array<unsigned, kEngines> engine_generation_{};
};

}  // namespace cx::tb
