#include "hw/cp/rv32_core.hpp"

#include <bit>
#include <cstring>

namespace cx::hw {

static_assert(std::endian::native == std::endian::little, "RAM is accessed as little-endian words");

namespace {

enum Op : uint8_t {
  kIllegal,  // 0: a cleared cache entry is the decoding of the word 0
  kLui,
  kAuipc,
  kJal,
  kJalr,
  kBeq,
  kBne,
  kBlt,
  kBge,
  kBltu,
  kBgeu,
  kLb,
  kLh,
  kLw,
  kLbu,
  kLhu,
  kSb,
  kSh,
  kSw,
  kAddi,
  kSlti,
  kSltiu,
  kXori,
  kOri,
  kAndi,
  kSlli,
  kSrli,
  kSrai,
  kAdd,
  kSub,
  kSll,
  kSlt,
  kSltu,
  kXor,
  kSrl,
  kSra,
  kOr,
  kAnd,
  kMul,
  kMulh,
  kMulhsu,
  kMulhu,
  kDiv,
  kDivu,
  kRem,
  kRemu,
  kFence,
  kEcall,
  kEbreak,
  kMret,
  kWfi,
  kCsrrw,
  kCsrrs,
  kCsrrc,
  kCsrrwi,
  kCsrrsi,
  kCsrrci,
};

namespace csr {
constexpr uint32_t kMstatus = 0x300, kMisa = 0x301, kMie = 0x304, kMtvec = 0x305, kMstatush = 0x310;
constexpr uint32_t kMcountinhibit = 0x320, kMhpmevent3 = 0x323, kMhpmevent31 = 0x33f;
constexpr uint32_t kMscratch = 0x340, kMepc = 0x341, kMcause = 0x342, kMtval = 0x343, kMip = 0x344;
constexpr uint32_t kTselect = 0x7a0, kTdata1 = 0x7a1, kTdata2 = 0x7a2, kTdata3 = 0x7a3;  // no trigger: type 0
constexpr uint32_t kMcycle = 0xb00, kMinstret = 0xb02, kMhpmcounter3 = 0xb03, kMhpmcounter31 = 0xb1f;
constexpr uint32_t kMcycleh = 0xb80, kMinstreth = 0xb82, kMhpmcounter3h = 0xb83, kMhpmcounter31h = 0xb9f;
constexpr uint32_t kCycle = 0xc00, kTime = 0xc01, kInstret = 0xc02;
constexpr uint32_t kCycleh = 0xc80, kTimeh = 0xc81, kInstreth = 0xc82;
constexpr uint32_t kMvendorid = 0xf11, kMarchid = 0xf12, kMimpid = 0xf13, kMhartid = 0xf14, kMconfigptr = 0xf15;
}  // namespace csr

constexpr uint32_t kMstatusMie = 1u << 3;
constexpr uint32_t kMstatusMpie = 1u << 7;
constexpr uint32_t kMstatusMpp = 3u << 11;  // only machine mode exists
constexpr uint32_t kMisaValue = (1u << 30) | (1u << ('I' - 'A')) | (1u << ('M' - 'A'));
constexpr uint32_t kImplementation = 0x00010000;
constexpr uint32_t kInterruptBits = (1u << 3) | (1u << 7) | (1u << 11);
constexpr uint32_t kInhibitBits = 0x5;  // CY, IR

constexpr bool csr_is_read_only(uint32_t number) { return (number >> 10) == 3; }

constexpr uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
constexpr uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }
constexpr uint64_t with_low(uint64_t value, uint32_t word) { return (value & ~uint64_t{0xffffffff}) | word; }
constexpr uint64_t with_high(uint64_t value, uint32_t word) { return (uint64_t{word} << 32) | low(value); }

constexpr int32_t as_signed(uint32_t value) { return static_cast<int32_t>(value); }
constexpr uint32_t sign_extend(uint32_t value, unsigned bits) {
  return static_cast<uint32_t>(as_signed(value << (32 - bits)) >> (32 - bits));
}

constexpr uint32_t divide(uint32_t a, uint32_t b) {
  if (b == 0) return ~0u;
  if (a == 0x80000000u && b == ~0u) return a;
  return static_cast<uint32_t>(as_signed(a) / as_signed(b));
}
constexpr uint32_t remainder(uint32_t a, uint32_t b) {
  if (b == 0) return a;
  if (a == 0x80000000u && b == ~0u) return 0;
  return static_cast<uint32_t>(as_signed(a) % as_signed(b));
}
constexpr uint32_t multiply_high(int64_t a, int64_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a * b) >> 32);
}

}  // namespace

Rv32Core::Rv32Core(const Ram &ram, Rv32Bus &bus, const Rv32CycleModel &cycles)
    : ram_(ram), bus_(bus), model_(cycles), cache_(new Decoded[kCacheEntries]()) {}

void Rv32Core::reset(uint32_t pc) {
  x_.fill(0);
  pc_ = pc;
  cycles_ = retired_ = 0;
  mstatus_ = mie_ = mtvec_ = mscratch_ = mepc_ = mcause_ = mtval_ = inhibit_ = 0;
  mcycle_base_ = minstret_base_ = 0;
  exception_retired_ = ~uint64_t{0};
  asleep_ = locked_ = false;
}

void Rv32Core::set_interrupt(Rv32Interrupt interrupt, bool level) {
  const uint32_t bit = 1u << static_cast<uint32_t>(interrupt);
  mip_ = level ? mip_ | bit : mip_ & ~bit;
}

Rv32Core::Decoded Rv32Core::decode(uint32_t word) {
  const uint32_t funct3 = (word >> 12) & 7;
  const uint32_t funct7 = word >> 25;
  Decoded d{};
  d.word = word;
  d.rd = static_cast<uint8_t>((word >> 7) & 31);
  if (d.rd == 0) d.rd = kDiscard;
  d.rs1 = static_cast<uint8_t>((word >> 15) & 31);
  d.rs2 = static_cast<uint8_t>((word >> 20) & 31);
  d.op = kIllegal;
  const auto set = [&d](Op op, uint32_t imm = 0) {
    d.op = op;
    d.imm = as_signed(imm);
  };
  const uint32_t imm_i = sign_extend(word >> 20, 12);
  switch (word & 0x7f) {
    case 0x37:
      set(kLui, word & 0xfffff000);
      break;
    case 0x17:
      set(kAuipc, word & 0xfffff000);
      break;
    case 0x6f:
      set(kJal, sign_extend(((word >> 31) << 20) | (((word >> 12) & 0xff) << 12) | (((word >> 20) & 1) << 11) |
                                (((word >> 21) & 0x3ff) << 1),
                            21));
      break;
    case 0x67:
      if (funct3 == 0) set(kJalr, imm_i);
      break;
    case 0x63: {
      static constexpr Op kOps[8] = {kBeq, kBne, kIllegal, kIllegal, kBlt, kBge, kBltu, kBgeu};
      set(kOps[funct3], sign_extend(((word >> 31) << 12) | (((word >> 7) & 1) << 11) | (((word >> 25) & 0x3f) << 5) |
                                        (((word >> 8) & 0xf) << 1),
                                    13));
      break;
    }
    case 0x03: {
      static constexpr Op kOps[8] = {kLb, kLh, kLw, kIllegal, kLbu, kLhu, kIllegal, kIllegal};
      set(kOps[funct3], imm_i);
      break;
    }
    case 0x23: {
      static constexpr Op kOps[8] = {kSb, kSh, kSw, kIllegal, kIllegal, kIllegal, kIllegal, kIllegal};
      set(kOps[funct3], sign_extend((funct7 << 5) | ((word >> 7) & 31), 12));
      break;
    }
    case 0x13: {
      static constexpr Op kOps[8] = {kAddi, kSlli, kSlti, kSltiu, kXori, kSrli, kOri, kAndi};
      if (funct3 == 1) {
        if (funct7 == 0) set(kSlli, d.rs2);
      } else if (funct3 == 5) {
        if (funct7 == 0) set(kSrli, d.rs2);
        if (funct7 == 0x20) set(kSrai, d.rs2);
      } else {
        set(kOps[funct3], imm_i);
      }
      break;
    }
    case 0x33: {
      static constexpr Op kBase[8] = {kAdd, kSll, kSlt, kSltu, kXor, kSrl, kOr, kAnd};
      static constexpr Op kMuldiv[8] = {kMul, kMulh, kMulhsu, kMulhu, kDiv, kDivu, kRem, kRemu};
      if (funct7 == 0) set(kBase[funct3]);
      if (funct7 == 1) set(kMuldiv[funct3]);
      if (funct7 == 0x20 && funct3 == 0) set(kSub);
      if (funct7 == 0x20 && funct3 == 5) set(kSra);
      break;
    }
    case 0x0f:
      if (funct3 <= 1) set(kFence);
      break;
    case 0x73: {
      static constexpr Op kOps[8] = {kIllegal, kCsrrw, kCsrrs, kCsrrc, kIllegal, kCsrrwi, kCsrrsi, kCsrrci};
      if (funct3 != 0) {
        set(kOps[funct3], word >> 20);
      } else if (word == 0x00000073) {
        set(kEcall);
      } else if (word == 0x00100073) {
        set(kEbreak);
      } else if (word == 0x30200073) {
        set(kMret);
      } else if (word == 0x10500073) {
        set(kWfi);
      }
      break;
    }
    default:
      break;
  }
  return d;
}

// As the calling convention has it: calls link in ra, and a jump to ra is a return.
void Rv32Core::report_jump(const Decoded &jump, uint32_t pc, uint32_t target, uint64_t cycles, uint64_t instructions) {
  constexpr uint8_t kRa = 1;
  if (jump.rd == kRa) {
    calls_->called(target, pc + 4, cycles, instructions);
  } else if (jump.op == kJalr && jump.rs1 == kRa && jump.rd == kDiscard) {
    calls_->returned(target, cycles, instructions);
  } else {
    calls_->jumped(target, cycles, instructions);
  }
}

void Rv32Core::enter_trap(uint32_t cause, uint32_t tval) {
  const bool interrupt = (cause >> 31) != 0;
  mepc_ = pc_;
  mcause_ = cause;
  mtval_ = tval;
  mstatus_ = (mstatus_ & kMstatusMie) ? kMstatusMpie : 0;
  pc_ = mtvec_ & ~3u;
  if (interrupt && (mtvec_ & 1)) pc_ += 4 * (cause & 0x7fffffff);
  cycles_ += model_.trap;
  if (calls_ != nullptr) calls_->jumped(pc_, cycles_, retired_);
}

void Rv32Core::take_exception(Rv32Cause cause, uint32_t tval) {
  // An exception since which nothing retired put the core where it is now: the handler would fault for ever.
  if (exception_retired_ == retired_) locked_ = true;
  exception_retired_ = retired_;
  enter_trap(static_cast<uint32_t>(cause), tval);
}

bool Rv32Core::take_interrupt() {
  const uint32_t ready = (mstatus_ & kMstatusMie) ? mip_ & mie_ : 0;
  if (ready == 0) return false;
  for (auto interrupt : {Rv32Interrupt::kExternal, Rv32Interrupt::kSoftware, Rv32Interrupt::kTimer}) {
    const auto number = static_cast<uint32_t>(interrupt);
    if (ready & (1u << number)) {
      enter_trap(0x80000000u | number, 0);
      return true;
    }
  }
  return false;
}

bool Rv32Core::read_csr(uint32_t number, uint32_t &value) const {
  using namespace csr;
  switch (number) {
    case kMstatus:
      value = mstatus_ | kMstatusMpp;
      return true;
    case kMisa:
      value = kMisaValue;
      return true;
    case kMie:
      value = mie_;
      return true;
    case kMtvec:
      value = mtvec_;
      return true;
    case kMcountinhibit:
      value = inhibit_;
      return true;
    case kMscratch:
      value = mscratch_;
      return true;
    case kMepc:
      value = mepc_;
      return true;
    case kMcause:
      value = mcause_;
      return true;
    case kMtval:
      value = mtval_;
      return true;
    case kMip:
      value = mip_;
      return true;
    case kMcycle:
    case kCycle:
      value = low(mcycle());
      return true;
    case kMcycleh:
    case kCycleh:
      value = high(mcycle());
      return true;
    case kMinstret:
    case kInstret:
      value = low(minstret());
      return true;
    case kMinstreth:
    case kInstreth:
      value = high(minstret());
      return true;
    case kTime:
      value = low(bus_.time());
      return true;
    case kTimeh:
      value = high(bus_.time());
      return true;
    case kMimpid:
      value = kImplementation;
      return true;
    case kMstatush:
    case kMvendorid:
    case kMarchid:
    case kMhartid:
    case kMconfigptr:
    case kTselect:
    case kTdata1:
    case kTdata2:
    case kTdata3:
      value = 0;
      return true;
    default:
      value = 0;
      return (number >= kMhpmevent3 && number <= kMhpmevent31) ||
             (number >= kMhpmcounter3 && number <= kMhpmcounter31) ||
             (number >= kMhpmcounter3h && number <= kMhpmcounter31h);
  }
}

bool Rv32Core::write_csr(uint32_t number, uint32_t value) { return write_csr(number, value, minstret()); }

bool Rv32Core::write_csr(uint32_t number, uint32_t value, uint64_t instret_before) {
  using namespace csr;
  uint32_t old = 0;
  if (csr_is_read_only(number) || !read_csr(number, old)) return false;
  switch (number) {
    case kMstatus:
      mstatus_ = value & (kMstatusMie | kMstatusMpie);
      break;
    case kMie:
      mie_ = value & kInterruptBits;
      break;
    case kMtvec:
      mtvec_ = value & ~2u;
      break;
    case kMcountinhibit: {
      const uint64_t cycle = mcycle();
      const uint64_t instret = minstret();
      inhibit_ = value & kInhibitBits;
      set_mcycle(cycle);
      set_minstret(instret);
      break;
    }
    case kMscratch:
      mscratch_ = value;
      break;
    case kMepc:
      mepc_ = value & ~3u;
      break;
    case kMcause:
      mcause_ = value;
      break;
    case kMtval:
      mtval_ = value;
      break;
    case kMcycle:
      set_mcycle(with_low(mcycle(), value));
      break;
    case kMcycleh:
      set_mcycle(with_high(mcycle(), value));
      break;
    // The other half is what it was before the writing instruction, whose own count the write replaces.
    case kMinstret:
      set_minstret(with_low(instret_before, value));
      break;
    case kMinstreth:
      set_minstret(with_high(instret_before, value));
      break;
    default:  // misa, mip, mstatush and the hardware performance monitors are fixed
      break;
  }
  return true;
}

bool Rv32Core::execute_csr(const Decoded &d) {
  const uint32_t number = static_cast<uint32_t>(d.imm);
  const bool immediate = d.op >= kCsrrwi;
  const bool exchange = d.op == kCsrrw || d.op == kCsrrwi;
  const bool writes = exchange || d.rs1 != 0;
  uint32_t old = 0;
  if (!read_csr(number, old) || (writes && csr_is_read_only(number))) return false;
  const uint32_t operand = immediate ? d.rs1 : x_[d.rs1];
  // A counter that is written holds the written value when the next instruction starts.
  const uint64_t minstret_before = minstret();
  cycles_ += model_.csr;
  ++retired_;
  if (writes) {
    const bool set_bits = d.op == kCsrrs || d.op == kCsrrsi;
    write_csr(number, exchange ? operand : set_bits ? old | operand : old & ~operand, minstret_before);
  }
  x_[d.rd] = old;
  pc_ += 4;
  return true;
}

Rv32Stop Rv32Core::run(uint64_t cycle_limit) {
  if (locked_) return Rv32Stop::kLocked;
  if (asleep_) {
    if (!wakeup_pending()) return Rv32Stop::kSleep;
    asleep_ = false;
  }
  limit_ = cycle_limit;

  uint8_t *const ram = ram_.data;
  const uint32_t ram_base = ram_.base;
  const uint32_t ram_bytes = ram_.bytes;
  uint32_t *const x = x_.data();
  Decoded *const cache = cache_.get();

  // Working copies; the members are current only between `flush` points and at `boundary`.
  uint32_t pc;
  uint64_t cycles, retired;
  uint32_t word, address, offset, value, target;
  unsigned size;
  Rv32Cause cause;
  uint32_t tval;

boundary:
  // Everything that can change the interrupt state or the limit comes through here.
  if (cycles_ >= limit_) return Rv32Stop::kBudget;
  if (take_interrupt()) goto boundary;
  pc = pc_;
  cycles = cycles_;
  retired = retired_;

  for (; cycles < limit_;) {
    offset = pc - ram_base;
    if (offset < ram_bytes) {
      std::memcpy(&word, ram + offset, 4);
    } else if (!bus_.fetch(pc, word)) {
      cause = Rv32Cause::kFetchFault;
      tval = pc;
      goto raise;
    }
    Decoded &d = cache[(pc >> 2) & (kCacheEntries - 1)];
    if (d.word != word) d = decode(word);
    const uint32_t a = x[d.rs1];
    const uint32_t b = x[d.rs2];
    const uint32_t imm = static_cast<uint32_t>(d.imm);

    switch (static_cast<Op>(d.op)) {
      case kLui:
        x[d.rd] = imm;
        goto next_alu;
      case kAuipc:
        x[d.rd] = pc + imm;
        goto next_alu;
      case kAddi:
        x[d.rd] = a + imm;
        goto next_alu;
      case kSlti:
        x[d.rd] = as_signed(a) < d.imm;
        goto next_alu;
      case kSltiu:
        x[d.rd] = a < imm;
        goto next_alu;
      case kXori:
        x[d.rd] = a ^ imm;
        goto next_alu;
      case kOri:
        x[d.rd] = a | imm;
        goto next_alu;
      case kAndi:
        x[d.rd] = a & imm;
        goto next_alu;
      case kSlli:
        x[d.rd] = a << imm;
        goto next_alu;
      case kSrli:
        x[d.rd] = a >> imm;
        goto next_alu;
      case kSrai:
        x[d.rd] = static_cast<uint32_t>(as_signed(a) >> imm);
        goto next_alu;
      case kAdd:
        x[d.rd] = a + b;
        goto next_alu;
      case kSub:
        x[d.rd] = a - b;
        goto next_alu;
      case kSll:
        x[d.rd] = a << (b & 31);
        goto next_alu;
      case kSlt:
        x[d.rd] = as_signed(a) < as_signed(b);
        goto next_alu;
      case kSltu:
        x[d.rd] = a < b;
        goto next_alu;
      case kXor:
        x[d.rd] = a ^ b;
        goto next_alu;
      case kSrl:
        x[d.rd] = a >> (b & 31);
        goto next_alu;
      case kSra:
        x[d.rd] = static_cast<uint32_t>(as_signed(a) >> (b & 31));
        goto next_alu;
      case kOr:
        x[d.rd] = a | b;
        goto next_alu;
      case kAnd:
        x[d.rd] = a & b;
        goto next_alu;
      case kFence:
        goto next_alu;

      case kMul:
        x[d.rd] = a * b;
        cycles += model_.mul;
        goto next;
      case kMulh:
        x[d.rd] = multiply_high(as_signed(a), as_signed(b));
        cycles += model_.mul;
        goto next;
      case kMulhsu:
        x[d.rd] = multiply_high(as_signed(a), static_cast<int64_t>(b));
        cycles += model_.mul;
        goto next;
      case kMulhu:
        x[d.rd] = static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
        cycles += model_.mul;
        goto next;
      case kDiv:
        x[d.rd] = divide(a, b);
        cycles += model_.div;
        goto next;
      case kDivu:
        x[d.rd] = b == 0 ? ~0u : a / b;
        cycles += model_.div;
        goto next;
      case kRem:
        x[d.rd] = remainder(a, b);
        cycles += model_.div;
        goto next;
      case kRemu:
        x[d.rd] = b == 0 ? a : a % b;
        cycles += model_.div;
        goto next;

      case kJal:
        target = pc + imm;
        if (target & 3) goto misaligned_target;
        x[d.rd] = pc + 4;
        goto jump;
      case kJalr:
        target = (a + imm) & ~1u;
        if (target & 3) goto misaligned_target;
        x[d.rd] = pc + 4;
        goto jump;
      case kBeq:
        if (a == b) goto taken;
        goto not_taken;
      case kBne:
        if (a != b) goto taken;
        goto not_taken;
      case kBlt:
        if (as_signed(a) < as_signed(b)) goto taken;
        goto not_taken;
      case kBge:
        if (as_signed(a) >= as_signed(b)) goto taken;
        goto not_taken;
      case kBltu:
        if (a < b) goto taken;
        goto not_taken;
      case kBgeu:
        if (a >= b) goto taken;
        goto not_taken;

      case kLw:
        address = a + imm;
        if (address & 3) goto misaligned_load;
        offset = address - ram_base;
        size = 4;
        if (offset >= ram_bytes) goto bus_load;
        std::memcpy(&value, ram + offset, 4);
        x[d.rd] = value;
        cycles += model_.load;
        goto next;
      case kLh:
      case kLhu: {
        address = a + imm;
        if (address & 1) goto misaligned_load;
        offset = address - ram_base;
        size = 2;
        if (offset >= ram_bytes) goto bus_load;
        uint16_t half;
        std::memcpy(&half, ram + offset, 2);
        x[d.rd] = d.op == kLh ? sign_extend(half, 16) : half;
        cycles += model_.load;
        goto next;
      }
      case kLb:
      case kLbu:
        address = a + imm;
        offset = address - ram_base;
        size = 1;
        if (offset >= ram_bytes) goto bus_load;
        x[d.rd] = d.op == kLb ? sign_extend(ram[offset], 8) : ram[offset];
        cycles += model_.load;
        goto next;
      case kSw:
        address = a + imm;
        if (address & 3) goto misaligned_store;
        offset = address - ram_base;
        size = 4;
        if (offset >= ram_bytes) goto bus_store;
        std::memcpy(ram + offset, &b, 4);
        goto stored;
      case kSh: {
        address = a + imm;
        if (address & 1) goto misaligned_store;
        offset = address - ram_base;
        size = 2;
        if (offset >= ram_bytes) goto bus_store;
        const uint16_t half = static_cast<uint16_t>(b);
        std::memcpy(ram + offset, &half, 2);
        goto stored;
      }
      case kSb:
        address = a + imm;
        offset = address - ram_base;
        size = 1;
        if (offset >= ram_bytes) goto bus_store;
        ram[offset] = static_cast<uint8_t>(b);
        goto stored;

      case kCsrrw:
      case kCsrrs:
      case kCsrrc:
      case kCsrrwi:
      case kCsrrsi:
      case kCsrrci:
        pc_ = pc;
        cycles_ = cycles;
        retired_ = retired;
        if (execute_csr(d)) goto boundary;
        cause = Rv32Cause::kIllegal;
        tval = word;
        goto raise;
      case kEcall:
        cause = Rv32Cause::kEcallM;
        tval = 0;
        goto raise;
      case kEbreak:
        cause = Rv32Cause::kBreakpoint;
        tval = pc;
        goto raise;
      case kMret:
        mstatus_ = ((mstatus_ & kMstatusMpie) ? kMstatusMie : 0) | kMstatusMpie;
        pc_ = mepc_;
        cycles_ = cycles + model_.alu + model_.taken_penalty;
        retired_ = retired + 1;
        goto boundary;
      case kWfi:
        pc_ = pc + 4;
        cycles_ = cycles + model_.alu;
        retired_ = retired + 1;
        if (wakeup_pending()) goto boundary;
        asleep_ = true;
        return Rv32Stop::kSleep;
      case kIllegal:
      default:
        cause = Rv32Cause::kIllegal;
        tval = word;
        goto raise;
    }

  bus_load:
    pc_ = pc;
    cycles_ = cycles;
    retired_ = retired;
    if (!bus_.load(address, size, value)) {
      cycles = cycles_;
      cause = Rv32Cause::kLoadFault;
      tval = address;
      goto raise;
    }
    if (d.op == kLb) value = sign_extend(value, 8);
    if (d.op == kLh) value = sign_extend(value, 16);
    x[d.rd] = value;
    cycles_ += model_.load;
    ++retired_;
    pc_ += 4;
    goto boundary;

  bus_store:
    pc_ = pc;
    cycles_ = cycles;
    retired_ = retired;
    if (!bus_.store(address, size, size == 4 ? b : b & ((1u << (8 * size)) - 1))) {
      cycles = cycles_;
      cause = Rv32Cause::kStoreFault;
      tval = address;
      goto raise;
    }
    cycles_ += model_.store;
    ++retired_;
    pc_ += 4;
    if (watching_ && (address & ~3u) == watch_) return Rv32Stop::kWatch;
    goto boundary;

  stored:
    cycles += model_.store;
    pc += 4;
    ++retired;
    if (__builtin_expect(watching_ && (address & ~3u) == watch_, 0)) {
      pc_ = pc;
      cycles_ = cycles;
      retired_ = retired;
      return Rv32Stop::kWatch;
    }
    continue;

  taken:
    target = pc + imm;
    if (target & 3) goto misaligned_target;
    cycles += model_.branch + model_.taken_penalty;
    pc = target;
    ++retired;
    continue;

  jump:
    cycles += model_.alu + model_.taken_penalty;
    ++retired;
    if (__builtin_expect(calls_ != nullptr, 0)) report_jump(d, pc, target, cycles, retired);
    pc = target;
    continue;

  not_taken:
    cycles += model_.branch;
    goto next;

  next_alu:
    cycles += model_.alu;
  next:
    pc += 4;
    ++retired;
    continue;
  }

  pc_ = pc;
  cycles_ = cycles;
  retired_ = retired;
  return Rv32Stop::kBudget;

misaligned_target:
  cause = Rv32Cause::kFetchMisaligned;
  tval = target;
  goto raise;
misaligned_load:
  cause = Rv32Cause::kLoadMisaligned;
  tval = address;
  goto raise;
misaligned_store:
  cause = Rv32Cause::kStoreMisaligned;
  tval = address;
  goto raise;

raise:
  pc_ = pc;
  cycles_ = cycles;
  retired_ = retired;
  take_exception(cause, tval);
  if (locked_) return Rv32Stop::kLocked;
  goto boundary;
}

}  // namespace cx::hw
