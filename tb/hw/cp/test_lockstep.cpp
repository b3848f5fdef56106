// Random programs on the core and on Unicorn (QEMU's RISC-V) at once: every register, pc, trap state and memory.
//
// Unicorn 2.0.1 is not the judge of the following, which `special()` lists one by one. There the core alone executes
// and this file states the expected result:
//  - Unicorn enters no traps: it calls a hook with the cause and advances pc by 4. Cause, pc and the address come from
//    Unicorn; what mepc, mcause, mtval, mstatus and pc become is stated in check_trap(). ecall is cause 8 in every
//    mode.
//  - No CPU model of it is plain RV32IM: instructions of C, A, F, D and S mode exist, and jumps to 2 modulo 4 succeed.
//  - Misaligned loads and stores succeed.
//  - ebreak ends emulation with "invalid instruction"; wfi does not sleep.
//  - CSRs with fields that a machine with U and S modes keeps (mstatus, mie, mip, mtvec, mepc, misa), the counters
//    (Unicorn counts host time) and CSRs that only one of the two has.
//  - A store into the block of code that is running is not seen before fence.i.
#include <unicorn/unicorn.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <sstream>
#include <vector>

#include "hw/cp/rv32_core.hpp"

namespace {

using cx::hw::Rv32Bus;
using cx::hw::Rv32Core;
using cx::hw::Rv32Stop;

constexpr uint32_t kBase = 0x80000000, kBytes = 0x10000;
constexpr uint32_t kCodeBytes = 0x4000, kData = kBase + 0x8000;
constexpr uint32_t kMstatus = 0x300, kMisa = 0x301, kMie = 0x304, kMtvec = 0x305, kMscratch = 0x340, kMepc = 0x341,
                   kMcause = 0x342, kMtval = 0x343, kMip = 0x344;

struct NoBus : Rv32Bus {
  bool load(uint32_t, unsigned, uint32_t &) override { return false; }
  bool store(uint32_t, unsigned, uint32_t) override { return false; }
  uint64_t time() override { return 0x123456789abcdefull; }
};

// The machine state that both sides have.
struct State {
  std::array<uint32_t, 32> x{};
  uint32_t mscratch = 0, mepc = 0, mcause = 0, mtval = 0;
  bool operator==(const State &) const = default;
};

std::string describe(const State &a, const State &b) {
  std::ostringstream out;
  out << std::hex;
  for (unsigned i = 0; i < 32; ++i) {
    if (a.x[i] != b.x[i]) out << " x" << std::dec << i << std::hex << " " << a.x[i] << " unicorn " << b.x[i];
  }
  out << " mscratch " << a.mscratch << "/" << b.mscratch << " mepc " << a.mepc << "/" << b.mepc << " mcause "
      << a.mcause << "/" << b.mcause << " mtval " << a.mtval << "/" << b.mtval;
  return out.str();
}

int32_t sext(uint32_t value, unsigned bits) { return static_cast<int32_t>(value << (32 - bits)) >> (32 - bits); }

// What the core must do with an instruction that Unicorn is not asked about.
struct Expected {
  enum class Kind {
    kUnicorn,  // nothing special: Unicorn judges
    kTrap,     // cause, tval
    kCsr,      // CSR instruction on a register with rules of its own
    kNext,     // pc + 4, nothing else
    kStore     // memory at tval gets `value`, of `size` bytes
  } kind = Kind::kUnicorn;
  uint32_t cause = 0, tval = 0, value = 0, size = 0;
};

class Lockstep {
 public:
  explicit Lockstep(uint32_t seed) : random_(seed), memory_(kBytes), core_({kBase, kBytes, memory_.data()}, bus_) {
    REQUIRE(uc_open(UC_ARCH_RISCV, UC_MODE_RISCV32, &uc_) == UC_ERR_OK);
    REQUIRE(uc_mem_map(uc_, kBase, kBytes, UC_PROT_ALL) == UC_ERR_OK);
    REQUIRE(uc_hook_add(uc_, &code_hook_, UC_HOOK_CODE, reinterpret_cast<void *>(&Lockstep::on_code), this, 1, 0) ==
            UC_ERR_OK);
    REQUIRE(uc_hook_add(uc_, &trap_hook_, UC_HOOK_INTR, reinterpret_cast<void *>(&Lockstep::on_trap), this, 1, 0) ==
            UC_ERR_OK);
    for (int i = 0; i < 32; ++i) ids_[i] = UC_RISCV_REG_X0 + i;
    ids_[32] = UC_RISCV_REG_MSCRATCH;
    ids_[33] = UC_RISCV_REG_MEPC;
    ids_[34] = UC_RISCV_REG_MCAUSE;
    ids_[35] = UC_RISCV_REG_MTVAL;
    for (unsigned i = 0; i < 36; ++i) pointers_[i] = &raw_[i];
  }
  ~Lockstep() { uc_close(uc_); }
  Lockstep(const Lockstep &) = delete;
  Lockstep &operator=(const Lockstep &) = delete;

  // One random program of at most `steps` instructions and traps.
  void run_program(uint64_t steps);

  uint64_t judged = 0;   // instructions that Unicorn executed too
  uint64_t special = 0;  // that it was not asked about
  uint64_t traps = 0;    // that both took
  std::string failure;

 private:
  static void on_code(uc_engine *, uint64_t address, uint32_t, void *self) {
    static_cast<Lockstep *>(self)->code(static_cast<uint32_t>(address));
  }
  static void on_trap(uc_engine *uc, uint32_t cause, void *self) {
    static_cast<Lockstep *>(self)->unicorn_cause_ = cause;
    uc_emu_stop(uc);
  }

  uint32_t pick(uint32_t count) { return static_cast<uint32_t>(random_() % count); }
  uint32_t instruction();
  void generate();

  State core_state() const {
    State s;
    for (unsigned i = 0; i < 32; ++i) s.x[i] = core_.reg(i);
    core_.read_csr(kMscratch, s.mscratch);
    core_.read_csr(kMepc, s.mepc);
    core_.read_csr(kMcause, s.mcause);
    core_.read_csr(kMtval, s.mtval);
    return s;
  }
  State unicorn_state() {
    uc_reg_read_batch(uc_, ids_.data(), pointers_.data(), 36);
    State s;
    for (unsigned i = 0; i < 32; ++i) s.x[i] = static_cast<uint32_t>(raw_[i]);
    s.mscratch = static_cast<uint32_t>(raw_[32]);
    s.mepc = static_cast<uint32_t>(raw_[33]);
    s.mcause = static_cast<uint32_t>(raw_[34]);
    s.mtval = static_cast<uint32_t>(raw_[35]);
    return s;
  }
  // Unicorn continues from the core's state.
  void adopt() {
    const State s = core_state();
    for (unsigned i = 0; i < 32; ++i) raw_[i] = s.x[i];
    raw_[32] = s.mscratch;
    raw_[33] = s.mepc;
    raw_[34] = s.mcause;
    raw_[35] = s.mtval;
    uc_reg_write_batch(uc_, ids_.data(), pointers_.data(), 36);
    uint32_t mstatus = 0;
    core_.read_csr(kMstatus, mstatus);
    uc_reg_write(uc_, UC_RISCV_REG_MSTATUS, &mstatus);
  }

  uint32_t word_at(uint32_t address) const {
    uint32_t word = 0;
    if (address - kBase < kBytes) std::memcpy(&word, memory_.data() + (address - kBase), 4);
    return word;
  }
  uint32_t csr(uint32_t number) const {
    uint32_t value = 0;
    core_.read_csr(number, value);
    return value;
  }

  Expected classify(uint32_t pc) const;
  void code(uint32_t pc);
  void step() {
    core_.run(core_.cycles() + 1);
    ++steps_;
  }
  void execute_special(const Expected &expected);
  void check_csr(uint32_t pc, uint32_t word, const State &before);
  void check_trap(uint32_t pc, uint32_t cause, uint32_t tval, uint32_t mstatus_before);
  void fail(const std::string &text) {
    if (!failure.empty()) return;
    std::ostringstream out;
    out << std::hex << "pc " << at_ << " word " << word_at(at_) << ": " << text;
    failure = out.str();
  }

  std::mt19937 random_;
  std::vector<uint8_t> memory_;
  NoBus bus_;
  Rv32Core core_;
  uc_engine *uc_ = nullptr;
  uc_hook code_hook_{}, trap_hook_{};
  std::array<int, 36> ids_{};
  std::array<uint64_t, 36> raw_{};
  std::array<void *, 36> pointers_{};
  int64_t unicorn_cause_ = -1;
  bool stopped_ = false;
  Expected pending_;
  uint64_t steps_ = 0, limit_ = 0;
  uint32_t at_ = 0;  // pc of the last instruction
  uint32_t mstatus_before_ = 0;
};

// ---- programs ----

uint32_t r_type(uint32_t f7, uint32_t rs2, uint32_t rs1, uint32_t f3, uint32_t rd, uint32_t op) {
  return f7 << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op;
}
uint32_t i_type(uint32_t imm, uint32_t rs1, uint32_t f3, uint32_t rd, uint32_t op) {
  return (imm & 0xfff) << 20 | rs1 << 15 | f3 << 12 | rd << 7 | op;
}
uint32_t s_type(uint32_t imm, uint32_t rs2, uint32_t rs1, uint32_t f3) {
  return (imm >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (imm & 31) << 7 | 0x23;
}
uint32_t b_type(uint32_t imm, uint32_t rs2, uint32_t rs1, uint32_t f3) {
  return (imm >> 12 & 1) << 31 | (imm >> 5 & 0x3f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (imm >> 1 & 0xf) << 8 |
         (imm >> 11 & 1) << 7 | 0x63;
}
uint32_t j_type(uint32_t imm, uint32_t rd) {
  return (imm >> 20 & 1) << 31 | (imm >> 1 & 0x3ff) << 21 | (imm >> 11 & 1) << 20 | (imm >> 12 & 0xff) << 12 | rd << 7 |
         0x6f;
}

// x8 and x9 point into the data, x30 and x31 belong to the trap handler; a few instructions break that.
uint32_t Lockstep::instruction() {
  static constexpr uint32_t kCsrs[] = {kMscratch, kMscratch, kMcause, kMtval, kMepc, kMstatus, kMie,  kMip,  kMisa,
                                       0xf11,     0xf12,     0xf13,   0xf14,  0xf15, 0x310,    0xb00, 0xb02, 0xb80,
                                       0xc00,     0xc01,     0xc02,   0xc80,  0xc81, 0xc82,    0x323, 0xb03, 0xb9f,
                                       0x306,     0x302,     0x303,   0x100,  0x180, 0x3a0,    0x3b0, 0x001, 0x7b0};
  const auto any = [this] { return pick(32); };
  const auto destination = [this] {
    const uint32_t rd = pick(30);
    return rd == 8 || rd == 9 ? (pick(50) == 0 ? rd : 10) : rd;
  };
  const uint32_t kind = pick(100);
  if (kind < 25)
    return i_type(static_cast<uint32_t>(random_()), any(), pick(8) & ~(pick(2) ? 5u : 0u), destination(), 0x13);
  if (kind < 28) return r_type(pick(4) == 0 ? 0x20 : 0, pick(32), any(), pick(2) ? 5 : 1, destination(), 0x13);
  if (kind < 42) return r_type(pick(3) == 0 ? 0x20 : 0, any(), any(), pick(8), destination(), 0x33);
  if (kind < 54) return r_type(1, any(), any(), pick(8), destination(), 0x33);
  if (kind < 58) return static_cast<uint32_t>(random_()) << 12 | destination() << 7 | (pick(2) ? 0x37 : 0x17);
  if (kind < 68) {
    const uint32_t f3 = pick(20) == 0 ? pick(8) : std::array<uint32_t, 5>{0, 1, 2, 4, 5}[pick(5)];
    uint32_t imm = static_cast<uint32_t>(random_());
    if (pick(10) != 0) imm &= ~3u;
    return i_type(imm, pick(30) == 0 ? any() : 8 + pick(2), f3, destination(), 0x03);
  }
  if (kind < 78) {
    uint32_t imm = static_cast<uint32_t>(random_());
    if (pick(10) != 0) imm &= ~3u;
    return s_type(imm, any(), pick(30) == 0 ? any() : 8 + pick(2), pick(20) == 0 ? pick(8) : pick(3));
  }
  if (kind < 88) {
    uint32_t imm = (pick(64) + 1) * 4 * (pick(4) == 0 ? -1 : 1);
    if (pick(30) == 0) imm += 2;
    return b_type(imm, any(), any(), pick(20) == 0 ? pick(8) : std::array<uint32_t, 6>{0, 1, 4, 5, 6, 7}[pick(6)]);
  }
  if (kind < 91) return j_type((pick(128) + 1) * 4 * (pick(4) == 0 ? -1 : 1) + (pick(30) == 0 ? 2 : 0), destination());
  if (kind < 92) return i_type(pick(4096), any(), pick(8) == 0 ? 1 : 0, destination(), 0x67);
  if (kind < 96) {
    return i_type(kCsrs[pick(std::size(kCsrs))], any(), 1 + pick(3) + 4 * pick(2), destination(), 0x73);
  }
  if (kind < 97)
    return std::array<uint32_t, 6>{0x00000073, 0x00100073, 0x10500073, 0x30200073, 0x0ff0000f, 0x0000100f}[pick(6)];
  if (kind < 98) return i_type(pick(4096), any(), pick(8), destination(), 0x73);
  return static_cast<uint32_t>(random_()) | (pick(2) ? 3 : 0);
}

void Lockstep::generate() {
  for (uint32_t i = 0; i < kBytes; i += 4) {
    const auto word = static_cast<uint32_t>(random_());
    std::memcpy(memory_.data() + i, &word, 4);
  }
  // The handler returns to the instruction after the one that trapped.
  const uint32_t handler[] = {i_type(kMepc, 0, 2, 30, 0x73), i_type(4, 30, 0, 30, 0x13), i_type(kMepc, 30, 1, 0, 0x73),
                              0x30200073};
  std::memcpy(memory_.data(), handler, sizeof handler);
  for (uint32_t i = sizeof handler; i < kCodeBytes; i += 4) {
    const uint32_t word = instruction();
    std::memcpy(memory_.data() + i, &word, 4);
  }
  // Operand pairs that chance would not bring together: the largest negative value and -1, and zero divisors.
  for (unsigned n = 0; n < 40; ++n) {
    const uint32_t divisor = pick(3) == 0 ? 0 : 0xfff;
    const uint32_t triple[] = {0x80000u << 12 | 5 << 7 | 0x37, i_type(divisor, 0, 0, 6, 0x13),
                               r_type(1, 6, 5, pick(8), 10 + pick(8), 0x33)};
    std::memcpy(memory_.data() + 16 + 4 * pick(kCodeBytes / 4 - 8), triple, sizeof triple);
  }
  core_.reset(kBase + 16 + 4 * pick(kCodeBytes / 4 - 8));
  static constexpr uint32_t kEdges[] = {0, 1, 0xffffffff, 0x80000000, 0x7fffffff, 2, 0xfffffffe};
  for (unsigned i = 1; i < 32; ++i) {
    core_.set_reg(i, pick(3) == 0 ? kEdges[pick(std::size(kEdges))] : static_cast<uint32_t>(random_()));
  }
  core_.set_reg(8, kData);
  core_.set_reg(9, kData + 0x4000);
  core_.write_csr(kMtvec, kBase);
  REQUIRE(uc_mem_write(uc_, kBase, memory_.data(), kBytes) == UC_ERR_OK);
  uc_ctl_remove_cache(uc_, kBase, kBase + kBytes);
  adopt();
}

// ---- what Unicorn is not asked about ----

Expected Lockstep::classify(uint32_t pc) const {
  using Kind = Expected::Kind;
  const uint32_t word = word_at(pc), opcode = word & 0x7f, f3 = word >> 12 & 7;
  const uint32_t a = core_.reg(word >> 15 & 31), b = core_.reg(word >> 20 & 31);
  const auto illegal = [word] { return Expected{Kind::kTrap, 2, word, 0, 0}; };
  if ((word & 3) != 3) return illegal();
  switch (opcode) {
    case 0x2f:  // A
    case 0x07:  // F, D
    case 0x27:
    case 0x43:
    case 0x47:
    case 0x4b:
    case 0x4f:
    case 0x53:
    case 0x57:  // V
      return illegal();
    case 0x6f: {
      const uint32_t target = pc + static_cast<uint32_t>(sext((word >> 31) << 20 | (word >> 12 & 0xff) << 12 |
                                                                  (word >> 20 & 1) << 11 | (word >> 21 & 0x3ff) << 1,
                                                              21));
      if (target & 3) return {Kind::kTrap, 0, target, 0, 0};
      return {};
    }
    case 0x67: {
      const uint32_t target = (a + static_cast<uint32_t>(sext(word >> 20, 12))) & ~1u;
      if (f3 == 0 && (target & 3)) return {Kind::kTrap, 0, target, 0, 0};
      return {};
    }
    case 0x63: {
      const auto sa = static_cast<int32_t>(a), sb = static_cast<int32_t>(b);
      const bool taken[8] = {a == b, a != b, false, false, sa < sb, sa >= sb, a < b, a >= b};
      const uint32_t target =
          pc + static_cast<uint32_t>(sext(
                   (word >> 31) << 12 | (word >> 7 & 1) << 11 | (word >> 25 & 0x3f) << 5 | (word >> 8 & 0xf) << 1, 13));
      if (taken[f3] && (target & 3)) return {Kind::kTrap, 0, target, 0, 0};
      return {};
    }
    case 0x03: {
      static constexpr uint32_t kSize[8] = {1, 2, 4, 0, 1, 2, 0, 0};
      const uint32_t address = a + static_cast<uint32_t>(sext(word >> 20, 12));
      if (kSize[f3] != 0 && address % kSize[f3] != 0) return {Kind::kTrap, 4, address, 0, 0};
      return {};
    }
    case 0x23: {
      static constexpr uint32_t kSize[8] = {1, 2, 4, 0, 0, 0, 0, 0};
      const uint32_t address = a + static_cast<uint32_t>(sext((word >> 25) << 5 | (word >> 7 & 31), 12));
      if (kSize[f3] == 0) return {};
      if (address % kSize[f3] != 0) return {Kind::kTrap, 6, address, 0, 0};
      const bool code = address - kBase < kCodeBytes || address - (pc & ~0xfffu) < 0x2000;
      if (code && address - kBase < kBytes) return {Kind::kStore, 0, address, b, kSize[f3]};
      return {};
    }
    case 0x73: {
      if (f3 == 0) {
        if (word == 0x00000073 || word == 0x30200073) return {};
        if (word == 0x00100073) return {Kind::kTrap, 3, pc, 0, 0};
        if (word == 0x10500073) return {Kind::kNext, 0, 0, 0, 0};
        return illegal();
      }
      if (f3 == 4) return illegal();
      const uint32_t number = word >> 20;
      if (number == kMscratch || number == kMcause || number == kMtval) return {};
      return {Kind::kCsr, 0, 0, 0, 0};
    }
    default:
      return {};
  }
}

void Lockstep::check_trap(uint32_t pc, uint32_t cause, uint32_t tval, uint32_t mstatus_before) {
  const uint32_t mie_before = mstatus_before >> 3 & 1;
  if (csr(kMcause) != cause || csr(kMepc) != pc || csr(kMtval) != tval || core_.pc() != (csr(kMtvec) & ~3u) ||
      csr(kMstatus) != (0x1800u | mie_before << 7)) {
    std::ostringstream out;
    out << std::hex << "expected trap " << cause << " with tval " << tval << " from " << pc << ", the core has cause "
        << csr(kMcause) << " tval " << csr(kMtval) << " mepc " << csr(kMepc) << " mstatus " << csr(kMstatus) << " pc "
        << core_.pc();
    fail(out.str());
  }
}

// CSRs whose rules are this chip's own.
void Lockstep::check_csr(uint32_t pc, uint32_t word, const State &before) {
  const uint32_t number = word >> 20, f3 = word >> 12 & 7, rs1 = word >> 15 & 31, rd = word >> 7 & 31;
  const bool writes = (f3 & 3) == 1 || rs1 != 0;
  struct Rule {
    uint32_t first, last, writable, fixed;
  };
  static constexpr Rule kRules[] = {{kMstatus, kMstatus, 0x88, 0x1800},
                                    {kMisa, kMisa, 0, 0x40001100},
                                    {kMie, kMie, 0x888, 0},
                                    {kMtvec, kMtvec, ~2u, 0},
                                    {0x310, 0x310, 0, 0},
                                    {0x320, 0x320, 5, 0},
                                    {0x323, 0x33f, 0, 0},
                                    {kMepc, kMepc, ~3u, 0},
                                    {kMip, kMip, 0, 0},
                                    {0xb03, 0xb1f, 0, 0},
                                    {0xb83, 0xb9f, 0, 0},
                                    {0xf11, 0xf12, 0, 0},
                                    {0xf13, 0xf13, 0, 0x00010000},
                                    {0xf14, 0xf15, 0, 0}};
  static constexpr uint32_t kCounters[] = {0xb00, 0xb02, 0xb80, 0xb82, 0xc00, 0xc01, 0xc02, 0xc80, 0xc81, 0xc82};
  const Rule *rule = nullptr;
  for (const Rule &r : kRules) {
    if (number >= r.first && number <= r.last) rule = &r;
  }
  bool counter = false;
  for (uint32_t c : kCounters) counter |= c == number;
  const bool exists = rule != nullptr || counter;
  const uint32_t mstatus = csr(kMstatus), old = csr(number);
  step();
  if (!exists || (writes && number >> 10 == 3)) {
    check_trap(pc, 2, word, mstatus);
    return;
  }
  if (core_.pc() != pc + 4) return fail("CSR instruction did not go on");
  State expected = before;
  if (rd != 0) expected.x[rd] = old;
  uint32_t value = old;
  if (writes) {
    const uint32_t operand = f3 >= 4 ? rs1 : before.x[rs1];
    value = (f3 & 3) == 1 ? operand : (f3 & 3) == 2 ? old | operand : old & ~operand;
  }
  if (rule) {
    if (!writes && (old & ~rule->writable) != rule->fixed) return fail("CSR reads bits that do not exist");
    if (writes) value = (value & rule->writable) | rule->fixed;
    if (csr(number) != value) return fail("CSR holds another value than its rule says");
    if (number == kMepc) expected.mepc = value;
  } else if (writes && csr(number) != value) {
    return fail("a counter does not hold the value written");
  }
  if (!(core_state() == expected)) fail("CSR instruction changed more:" + describe(core_state(), expected));
  // Programs cannot go on without their handler.
  if (number == kMtvec) core_.write_csr(kMtvec, kBase);
}

void Lockstep::execute_special(const Expected &expected) {
  using Kind = Expected::Kind;
  const uint32_t pc = core_.pc(), word = word_at(pc), mstatus = csr(kMstatus);
  const State before = core_state();
  at_ = pc;
  ++special;
  switch (expected.kind) {
    case Kind::kTrap:
      step();
      check_trap(pc, expected.cause, expected.tval, mstatus);
      break;
    case Kind::kCsr:
      check_csr(pc, word, before);
      break;
    case Kind::kNext:
      // Nothing wakes the core but an enabled pending interrupt, of which there is none: resume by hand.
      if (core_.run(core_.cycles() + 1) != Rv32Stop::kSleep || core_.pc() != pc + 4) fail("wfi");
      ++steps_;
      core_.set_interrupt(cx::hw::Rv32Interrupt::kSoftware, true);
      {
        const uint32_t mie = csr(kMie), status = csr(kMstatus);
        core_.write_csr(kMstatus, 0);
        core_.write_csr(kMie, 8);
        core_.run(core_.cycles());
        core_.write_csr(kMie, mie);
        core_.write_csr(kMstatus, status);
      }
      core_.set_interrupt(cx::hw::Rv32Interrupt::kSoftware, false);
      if (!(core_state() == before)) fail("wfi changed registers");
      break;
    case Kind::kStore: {
      step();
      if (std::memcmp(memory_.data() + (expected.tval - kBase), &expected.value, expected.size) != 0) fail("store");
      if (core_.pc() != pc + 4 || !(core_state() == before)) fail("store changed registers");
      uc_mem_write(uc_, expected.tval, memory_.data() + (expected.tval - kBase), expected.size);
      uc_ctl_remove_cache(uc_, expected.tval & ~0xfffu, (expected.tval & ~0xfffu) + 0x1000);
      break;
    }
    case Kind::kUnicorn:
      break;
  }
}

// ---- lock step ----

void Lockstep::code(uint32_t pc) {
  if (stopped_) return;
  const auto stop = [this] {
    stopped_ = true;
    uc_emu_stop(uc_);
  };
  if (pc != core_.pc()) {
    std::ostringstream out;
    out << std::hex << "the core goes to " << core_.pc() << ", unicorn to " << pc;
    fail(out.str());
    return stop();
  }
  const State mine = core_state(), theirs = unicorn_state();
  if (!(mine == theirs)) {
    fail(describe(mine, theirs));
    return stop();
  }
  pending_ = classify(pc);
  if (pending_.kind != Expected::Kind::kUnicorn || steps_ >= limit_) return stop();
  if (word_at(pc) == 0x30200073) {
    // Unicorn's mret left mstatus.MPP at U mode, which does not exist here.
    uint32_t mstatus = csr(kMstatus);
    uc_reg_write(uc_, UC_RISCV_REG_MSTATUS, &mstatus);
  }
  at_ = pc;
  mstatus_before_ = csr(kMstatus);
  ++judged;
  step();
}

void Lockstep::run_program(uint64_t steps) {
  generate();
  steps_ = 0;
  limit_ = steps;
  while (steps_ < limit_ && failure.empty() && !core_.locked()) {
    stopped_ = false;
    unicorn_cause_ = -1;
    pending_ = {};
    const uint32_t start = core_.pc();
    at_ = start;
    const uc_err error = uc_emu_start(uc_, start, kBase - 4, 0, 0);
    if (!failure.empty()) break;
    if (stopped_) {
      if (pending_.kind != Expected::Kind::kUnicorn) execute_special(pending_);
    } else if (unicorn_cause_ >= 0) {
      ++traps;
      const auto cause = static_cast<uint32_t>(unicorn_cause_ == 8 ? 11 : unicorn_cause_);
      check_trap(at_, cause, cause == 2 ? word_at(at_) : 0, mstatus_before_);
    } else if (error == UC_ERR_READ_UNMAPPED || error == UC_ERR_WRITE_UNMAPPED) {
      ++traps;
      const uint32_t word = word_at(at_);
      const bool load = error == UC_ERR_READ_UNMAPPED;
      const uint32_t offset = load ? word >> 20 : (word >> 25) << 5 | (word >> 7 & 31);
      const uint32_t address = unicorn_state().x[word >> 15 & 31] + static_cast<uint32_t>(sext(offset, 12));
      check_trap(at_, load ? 5 : 7, address, mstatus_before_);
    } else if (error == UC_ERR_FETCH_UNMAPPED) {
      ++traps;
      const uint32_t pc = core_.pc(), mstatus = csr(kMstatus);
      if (pc - kBase < kBytes) fail("unicorn cannot fetch where the core can");
      at_ = pc;
      step();
      check_trap(pc, 1, pc, mstatus);
      // The handler would come back to the next address outside memory, for ever.
      core_.set_pc(kBase + 16 + 4 * pick(kCodeBytes / 4 - 8));
    } else {
      fail(std::string("unicorn: ") + uc_strerror(error));
    }
    adopt();
  }
  if (!failure.empty()) return;
  std::vector<uint8_t> theirs(kBytes);
  uc_mem_read(uc_, kBase, theirs.data(), kBytes);
  if (theirs != memory_) fail("memories differ at the end of the program");
}

}  // namespace

TEST_CASE("Random programs in lock step with Unicorn") {
  const unsigned seed = Catch::rngSeed() != 0 ? Catch::rngSeed() : 1;
  INFO("seed " << seed);
  std::mt19937 seeds(seed);
  uint64_t judged = 0, special = 0, traps = 0;
  Lockstep lockstep(seeds());
  while (lockstep.judged < 1'000'000 && lockstep.failure.empty()) lockstep.run_program(4000);
  judged = lockstep.judged;
  special = lockstep.special;
  traps = lockstep.traps;
  INFO("after " << judged << " instructions judged by unicorn, " << special << " by rule, " << traps
                << " traps of both");
  CHECK(lockstep.failure == "");
  CHECK(special > 10'000);
  CHECK(traps > 10'000);
}
