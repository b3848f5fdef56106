// RV32IM_Zicsr_Zicntr core with machine mode: an interpreter with a cycle count. No SystemC in here.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

namespace cx::hw {

/// What the core reaches outside its RAM window. Addresses are naturally aligned to `size` (1, 2 or 4 bytes).
/// Implementations charge the time of an access with Rv32Core::add_cycles().
class Rv32Bus {
 public:
  virtual ~Rv32Bus() = default;
  /// Returns false for an access fault. `value` is zero-extended.
  virtual bool load(uint32_t address, unsigned size, uint32_t &value) = 0;
  virtual bool store(uint32_t address, unsigned size, uint32_t value) = 0;
  /// Instruction word at a 4-byte aligned address outside RAM; false is an instruction access fault.
  virtual bool fetch(uint32_t address, uint32_t &word) {
    static_cast<void>(address);
    static_cast<void>(word);
    return false;
  }
  /// Value of the `time` CSR.
  virtual uint64_t time() = 0;
};

/// Told where control goes besides to the next instruction or a branch's target. Cycles and instructions are the totals
/// of the core, the jump included.
class Rv32CallWatch {
 public:
  virtual ~Rv32CallWatch() = default;
  virtual void called(uint32_t target, uint32_t return_address, uint64_t cycles, uint64_t instructions) = 0;
  virtual void returned(uint32_t target, uint64_t cycles, uint64_t instructions) = 0;
  /// A jump that keeps no return address, or a trap.
  virtual void jumped(uint32_t target, uint64_t cycles, uint64_t instructions) = 0;
};

/// Cycles of each instruction class. Stores take one cycle (write buffer), as do fences and wfi.
struct Rv32CycleModel {
  uint32_t alu = 1;
  uint32_t load = 2;
  uint32_t store = 1;
  uint32_t branch = 1;         ///< not taken
  uint32_t taken_penalty = 2;  ///< added by a taken branch, jal, jalr and mret
  uint32_t mul = 3;
  uint32_t div = 34;
  uint32_t csr = 1;
  uint32_t trap = 4;  ///< from the trapping instruction (or interrupt) to the handler's first instruction
};

/// Exception causes and interrupt numbers of the privileged specification.
enum class Rv32Cause : uint32_t {
  kFetchMisaligned = 0,
  kFetchFault = 1,
  kIllegal = 2,
  kBreakpoint = 3,
  kLoadMisaligned = 4,
  kLoadFault = 5,
  kStoreMisaligned = 6,
  kStoreFault = 7,
  kEcallM = 11,
};

enum class Rv32Interrupt : uint32_t { kSoftware = 3, kTimer = 7, kExternal = 11 };

enum class Rv32Stop {
  kBudget,  ///< the cycle limit is reached
  kSleep,   ///< wfi with no enabled interrupt pending; run() resumes once one is pending
  kWatch,   ///< a store touched the watched word; the store is done
  kLocked,  ///< exception on the first instruction of the exception handler; only reset() helps
};

class Rv32Core {
 public:
  /// The window that is accessed by pointer. Others may write to it at any time: the core sees it at once, code
  /// included.
  struct Ram {
    uint32_t base = 0;   ///< 4-byte aligned
    uint32_t bytes = 0;  ///< multiple of 4
    uint8_t *data = nullptr;
  };

  Rv32Core(const Ram &ram, Rv32Bus &bus, const Rv32CycleModel &cycles = {});

  /// All registers and CSRs to zero, pc to `pc` (4-byte aligned). Total cycle and instruction counts restart at 0.
  void reset(uint32_t pc);

  /// Runs until cycles() >= cycle_limit or another reason to stop. Every step costs at least one cycle, so
  /// run(cycles() + 1) executes exactly one instruction or enters one trap.
  Rv32Stop run(uint64_t cycle_limit);
  /// Lowers the limit of the run() in progress: for bus callbacks that learn of an earlier event. 0 stops at once.
  void shorten_run(uint64_t cycle_limit) { limit_ = cycle_limit < limit_ ? cycle_limit : limit_; }

  /// Level of an interrupt input. May be called from inside bus callbacks.
  void set_interrupt(Rv32Interrupt interrupt, bool level);
  /// An interrupt is pending and enabled in mie (mstatus.MIE does not matter): what ends wfi.
  bool wakeup_pending() const { return (mip_ & mie_) != 0; }

  /// Lets time pass: called by the bus for its accesses. Counted in mcycle.
  void add_cycles(uint64_t cycles) { cycles_ += cycles; }

  /// Cycles since reset in which the core was not asleep.
  uint64_t cycles() const { return cycles_; }
  /// Instructions retired since reset, whatever software wrote to minstret.
  uint64_t instructions() const { return retired_; }

  uint32_t reg(unsigned index) const { return index == 0 ? 0 : x_[index]; }
  void set_reg(unsigned index, uint32_t value) {
    if (index != 0) x_[index] = value;
  }
  uint32_t pc() const { return pc_; }
  void set_pc(uint32_t pc) { pc_ = pc; }

  /// CSR as csrr reads it. False: no such CSR.
  bool read_csr(uint32_t number, uint32_t &value) const;
  /// CSR as csrw writes it (WARL rules apply). False: no such CSR, or read-only.
  bool write_csr(uint32_t number, uint32_t value);

  /// Stores to the aligned word at `address` stop run() with kWatch.
  void watch_stores(uint32_t address) {
    watch_ = address & ~3u;
    watching_ = true;
  }

  /// From here on; nullptr ends it. Costs a test a jump.
  void watch_calls(Rv32CallWatch *watch) { calls_ = watch; }

  bool locked() const { return locked_; }

 private:
  struct Decoded {
    uint32_t word;  // doubles as the cache tag: decoding depends on nothing else
    uint8_t op;
    uint8_t rd;  // kDiscard for x0
    uint8_t rs1;
    uint8_t rs2;
    int32_t imm;
    uint32_t unused;
  };
  static constexpr uint32_t kCacheEntries = 8192;
  static constexpr unsigned kDiscard = 32;

  static Decoded decode(uint32_t word);
  void report_jump(const Decoded &jump, uint32_t pc, uint32_t target, uint64_t cycles, uint64_t instructions);
  void enter_trap(uint32_t cause, uint32_t tval);
  void take_exception(Rv32Cause cause, uint32_t tval);
  bool take_interrupt();
  bool execute_csr(const Decoded &instruction);
  uint64_t mcycle() const { return (inhibit_ & 1) ? mcycle_base_ : mcycle_base_ + cycles_; }
  bool write_csr(uint32_t number, uint32_t value, uint64_t instret_before);
  uint64_t minstret() const { return (inhibit_ & 4) ? minstret_base_ : minstret_base_ + retired_; }
  void set_mcycle(uint64_t value) { mcycle_base_ = (inhibit_ & 1) ? value : value - cycles_; }
  void set_minstret(uint64_t value) { minstret_base_ = (inhibit_ & 4) ? value : value - retired_; }

  Ram ram_;
  Rv32Bus &bus_;
  Rv32CycleModel model_;
  std::array<uint32_t, 33> x_{};
  uint32_t pc_ = 0;
  uint64_t cycles_ = 0;
  uint64_t retired_ = 0;
  uint32_t mstatus_ = 0;  // MIE and MPIE only
  uint32_t mie_ = 0;
  uint32_t mip_ = 0;
  uint32_t mtvec_ = 0;
  uint32_t mscratch_ = 0;
  uint32_t mepc_ = 0;
  uint32_t mcause_ = 0;
  uint32_t mtval_ = 0;
  uint32_t inhibit_ = 0;
  uint64_t mcycle_base_ = 0;  // counter minus total; the counter itself while inhibited
  uint64_t minstret_base_ = 0;
  uint64_t limit_ = 0;
  uint64_t exception_retired_ = ~uint64_t{0};  // value of retired_ at the last exception
  bool asleep_ = false;
  bool locked_ = false;
  bool watching_ = false;
  Rv32CallWatch *calls_ = nullptr;
  uint32_t watch_ = 0;
  std::unique_ptr<Decoded[]> cache_;
};

}  // namespace cx::hw
