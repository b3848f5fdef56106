#include "hw/ras/ras.hpp"

#include <utility>

#include "hw/noc/register_target.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {

using regs::RasReg;
using regs::RasRegs;

namespace {

constexpr std::uint32_t bit(unsigned kind) { return 1u << kind; }

static_assert(bit(static_cast<unsigned>(EventClass::iommu)) == RasRegs::PENDING_IOMMU.mask());
static_assert(bit(static_cast<unsigned>(EventClass::packet)) == RasRegs::PENDING_PACKET.mask());
static_assert(bit(static_cast<unsigned>(EventClass::instruction)) == RasRegs::PENDING_INSTRUCTION.mask());
static_assert(bit(static_cast<unsigned>(EventClass::program)) == RasRegs::PENDING_PROGRAM.mask());
static_assert(bit(static_cast<unsigned>(EventClass::ecc_corrected)) == RasRegs::PENDING_ECC_CORRECTED.mask());
static_assert(bit(static_cast<unsigned>(EventClass::ecc_uncorrected)) == RasRegs::PENDING_ECC_UNCORRECTED.mask());
static_assert(bit(static_cast<unsigned>(EventClass::hang)) == RasRegs::PENDING_HANG.mask());
static_assert(bit(static_cast<unsigned>(EventClass::firmware_crash)) == RasRegs::PENDING_FIRMWARE_CRASH.mask());
static_assert(bit(static_cast<unsigned>(EventClass::link_down)) == RasRegs::PENDING_LINK_DOWN.mask());
static_assert(bit(static_cast<unsigned>(EventClass::thermal)) == RasRegs::PENDING_THERMAL.mask());
static_assert(bit(static_cast<unsigned>(EventClass::engine)) == RasRegs::PENDING_ENGINE.mask());

constexpr unsigned kClasses = static_cast<unsigned>(EventClass::engine) + 1;
constexpr std::uint32_t kNoVector = 0xffff;

std::uint32_t info_of(const MemoryErrors::Report &report) {
  return std::uint32_t{report.syndrome} << RasRegs::EVENT_INFO_SYNDROME.lsb |
         (report.channel & 0xffu) << RasRegs::EVENT_INFO_CHANNEL.lsb |
         std::uint32_t{report.bit} << RasRegs::EVENT_INFO_BIT.lsb;
}

}  // namespace

Ras::Ras(sc_core::sc_module_name name, const Clock &clock, Hooks hooks)
    : sc_module(name), registers("registers"), clock_(clock), hooks_(std::move(hooks)) {
  registers.register_b_transport(this, &Ras::b_transport);
  setup_registers();
}

void Ras::setup_registers() {
  regs_.on_write(RasReg::PENDING, [this](unsigned, std::uint32_t old, std::uint32_t, std::uint32_t now) {
    for (unsigned kind = 0; kind < kClasses; ++kind) {
      if ((old & ~now & bit(kind)) != 0) clear(kind);
    }
  });
  regs_.on_write(RasReg::MASK, [this](unsigned, std::uint32_t old, std::uint32_t, std::uint32_t now) {
    if ((regs_.get(RasReg::PENDING) & old & ~now) != 0) raise();
  });
  regs_.on_write(RasReg::THERMAL_ACK, [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t) {
    regs_.set(RasReg::THERMAL_ACK, 0);
    release();
  });
  regs_.on_write(RasReg::POST, [this](unsigned, std::uint32_t, std::uint32_t written, std::uint32_t) {
    regs_.set(RasReg::POST, 0);
    post_prepared(written);
  });
}

void Ras::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

void Ras::clear(unsigned kind) {
  for (const RasReg reg : {RasReg::EVENT_ORDER, RasReg::EVENT_STATUS, RasReg::EVENT_COUNT, RasReg::EVENT_SOURCE,
                           RasReg::EVENT_PACKET, RasReg::EVENT_PC, RasReg::EVENT_ADDR_LO, RasReg::EVENT_ADDR_HI,
                           RasReg::EVENT_INFO, RasReg::EVENT_TIME_LO, RasReg::EVENT_TIME_HI}) {
    regs_.set(reg, 0, kind);
  }
}

void Ras::raise() {
  const std::uint32_t vector = regs_.get(RasRegs::VECTOR_INDEX);
  if (vector != kNoVector) hooks_.raise(vector);
}

void Ras::post(EventClass kind, const Event &event) {
  const auto n = static_cast<unsigned>(kind);
  regs_.set(RasReg::EVENT_COUNT, regs_.get(RasReg::EVENT_COUNT, n) + 1, n);
  const std::uint32_t pending = regs_.get(RasReg::PENDING);
  if ((pending & bit(n)) == 0) {
    regs_.set(RasReg::EVENT_ORDER, ++order_, n);
    regs_.set(RasReg::EVENT_STATUS, event.status, n);
    regs_.set(RasReg::EVENT_SOURCE, event.source, n);
    regs_.set(RasReg::EVENT_PACKET, event.packet, n);
    regs_.set(RasReg::EVENT_PC, event.pc, n);
    regs_.set64(RasReg::EVENT_ADDR_LO, event.address, n);
    regs_.set(RasReg::EVENT_INFO, event.info, n);
    regs_.set64(RasReg::EVENT_TIME_LO, clock_.floor(sc_core::sc_time_stamp()), n);
    regs_.set(RasReg::PENDING, pending | bit(n));
    if ((regs_.get(RasReg::MASK) & bit(n)) == 0) raise();
  }
  if (hooks_.seen) hooks_.seen(kind);
}

void Ras::post_prepared(std::uint32_t kind) {
  if (kind >= kClasses) return;
  Event event;
  event.status = regs_.get(RasReg::POST_STATUS);
  event.source = regs_.get(RasReg::POST_SOURCE);
  event.packet = regs_.get(RasReg::POST_PACKET);
  event.pc = regs_.get(RasReg::POST_PC);
  event.address = regs_.get64(RasReg::POST_ADDR_LO);
  if (event.status == CX_STATUS_ECC_UNCORRECTED) event.info = info_of(uncorrected_);
  post(static_cast<EventClass>(kind), event);
}

void Ras::corrected(const MemoryErrors::Report &report) {
  regs_.set(RasReg::CORRECTED, regs_.get(RasReg::CORRECTED) + 1);
  Event event;
  event.address = report.address;
  event.info = info_of(report);
  post(EventClass::ecc_corrected, event);
}

void Ras::trip(std::uint32_t celsius) {
  regs_.set(RasRegs::THERMAL_TRIPPED, 1);
  regs_.set(RasRegs::THERMAL_CELSIUS, celsius);
  Event event;
  event.status = CX_STATUS_THERMAL_TRIP;
  event.info = celsius;
  // The event comes before its effects.
  post(EventClass::thermal, event);
  if (hooks_.trip) hooks_.trip(true);
}

void Ras::release() {
  if (!tripped()) return;
  regs_.set(RasRegs::THERMAL_TRIPPED, 0);
  if (hooks_.trip) hooks_.trip(false);
}

void Ras::reset(bool function, bool power_on) {
  regs_.set(RasReg::STUCK, 0);
  if (function) {
    regs_.set(RasReg::MASK, 0);
    regs_.set(RasReg::VECTOR, kNoVector);
  }
  if (!power_on) return;
  release();
  regs_.reset();
  order_ = 0;
  uncorrected_ = {};
}

}  // namespace cx::hw
