#include "hw/power/power.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "hw/noc/register_target.hpp"
#include "hw/regs/gen/power_regs.h"

namespace cx::hw {

using regs::PowerReg;

namespace {

constexpr double kFemtojoulesPerPicojoule = 1000;
constexpr unsigned kSlotStride = CX_POWER_ENERGY_LO_COUNT / 2;

static_assert(Areas::kBlocks == CX_POWER_AREAS_RESET + 1);
static_assert(static_cast<unsigned>(AreaBlock::scratchpad) == CX_POWER_AREAS_LAST_SCRATCHPAD);
static_assert(static_cast<unsigned>(AreaBlock::cp) == CX_POWER_AREAS_LAST_CP);
static_assert(Power::kDomains == CX_POWER_DOMAINS_RESET + 1);
static_assert(static_cast<unsigned>(PowerDomain::scratchpad) == CX_POWER_DOMAINS_LAST_SCRATCHPAD);
static_assert(static_cast<unsigned>(PowerDomain::dma) == CX_POWER_DOMAINS_LAST_DMA);
static_assert(static_cast<unsigned>(PowerDomain::leakage) == CX_POWER_DOMAINS_LAST_LEAKAGE);

std::uint64_t femtojoules(double picojoules) {
  return static_cast<std::uint64_t>(std::llround(picojoules * kFemtojoulesPerPicojoule));
}

// The largest word stands for all that is larger: 4295 mm2, 4.3 MW.
std::uint32_t word(double value) {
  return static_cast<std::uint32_t>(
      std::min<long long>(std::llround(value), std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

Power::Power(sc_core::sc_module_name name, const Clock &clock, const Price &leakage)
    : sc_module(name), registers("registers"), clock_(clock) {
  registers.register_b_transport(this, &Power::b_transport);
  setup_registers(leakage);
  // mW times picoseconds are femtojoules.
  add(PowerDomain::leakage, leakage * (static_cast<double>(clock.period_ps()) / kFemtojoulesPerPicojoule),
      [this] { return clock_.floor(sc_core::sc_time_stamp() + access_delay_); });
}

void Power::add(PowerDomain domain, const Price &price, std::function<std::uint64_t()> count) {
  sources_.push_back({domain, price, std::move(count)});
  sources_.back().offset = sources_.back().count();
}

void Power::set_area(AreaBlock block, const Price &mm2) {
  constexpr double kUm2 = 1e6;
  const auto index = static_cast<unsigned>(block);
  regs_.set(PowerReg::AREA, word(mm2.value * kUm2), index);
  regs_.set(PowerReg::AREA_LEAST, word(mm2.least * kUm2), index);
  regs_.set(PowerReg::AREA_MOST, word(mm2.most * kUm2), index);
}

void Power::set_full_rate(unsigned dtype, const Price &milliwatts) {
  regs_.set(PowerReg::FULL_RATE, word(milliwatts.value), dtype);
  regs_.set(PowerReg::FULL_RATE_LEAST, word(milliwatts.least), dtype);
  regs_.set(PowerReg::FULL_RATE_MOST, word(milliwatts.most), dtype);
}

void Power::set_operating_point(unsigned number, unsigned count, double volts) {
  constexpr double kMillivolts = 1000;
  regs_.set(regs::PowerRegs::POINT_NUMBER, number);
  regs_.set(regs::PowerRegs::POINT_COUNT, count);
  regs_.set(PowerReg::CORE_MV, word(volts * kMillivolts));
}

void Power::set_thermal(const ThermalReadings &readings) {
  thermal_ = &readings;
  regs_.set(regs::PowerRegs::THERMAL_MODELLED, 1);
  regs_.on_read(PowerReg::THERMAL, [this](unsigned) {
    regs_.set(regs::PowerRegs::THERMAL_SKIPPED, thermal_->skipped_edges());
    return regs_.get(PowerReg::THERMAL);
  });
}

Power::Work Power::work() const {
  constexpr double kJoules = 1e-12;  // of a pJ
  Work work;
  for (const Source &source : sources_) {
    if (source.domain == PowerDomain::dram || source.domain == PowerDomain::leakage) continue;
    (source.domain <= PowerDomain::scratchpad ? work.units : work.traffic) +=
        kJoules * source.price.value * static_cast<double>(source.total());
  }
  return work;
}

Power::Energy Power::energy(PowerDomain domain) const {
  Price sum;
  for (const Source &source : sources_) {
    if (source.domain == domain) sum = sum + source.price * static_cast<double>(source.total());
  }
  return {femtojoules(sum.value), femtojoules(sum.least), femtojoules(sum.most)};
}

std::array<double, Power::kDomains> Power::femtojoules_by_domain() const {
  constexpr double kPicojoule = 1000;
  std::array<double, kDomains> sums{};
  for (const Source &source : sources_) {
    sums[static_cast<unsigned>(source.domain)] += kPicojoule * source.price.value * static_cast<double>(source.total());
  }
  return sums;
}

void Power::before_reset() {
  for (Source &source : sources_) {
    source.kept = source.total();
    source.offset = source.count();
  }
}

void Power::after_reset() {
  for (Source &source : sources_) source.offset = source.count();
}

void Power::reset() {
  for (Source &source : sources_) {
    source.kept = 0;
    source.offset = source.count();
  }
  slots_ = {};
}

void Power::latch(unsigned slot) {
  slots_[slot].time = clock_.floor(sc_core::sc_time_stamp() + access_delay_);
  for (unsigned domain = 0; domain < kDomains; ++domain) {
    slots_[slot].energy[domain] = energy(static_cast<PowerDomain>(domain));
  }
  if (thermal_ != nullptr) slots_[slot].thermal = thermal_->read(slots_[slot].time);
}

void Power::setup_registers(const Price &leakage) {
  regs_.set(PowerReg::LEAKAGE_MW, word(leakage.value));
  regs_.on_write(PowerReg::LATCH, [this](unsigned, std::uint32_t, std::uint32_t written, std::uint32_t) {
    latch(written & CX_POWER_LATCH_SLOT_MASK);
  });
  const auto pair = [this](PowerReg low, auto value) {
    const auto high = static_cast<PowerReg>(static_cast<unsigned>(low) + 1);
    regs_.on_read(low, [value](unsigned index) { return static_cast<std::uint32_t>(value(index)); });
    regs_.on_read(high, [value](unsigned index) { return static_cast<std::uint32_t>(value(index) >> 32); });
  };
  const auto field = [this](std::uint64_t Energy::*member) {
    return [this, member](unsigned index) {
      const unsigned domain = index % kSlotStride;
      return domain < kDomains ? slots_[index / kSlotStride].energy[domain].*member : 0;
    };
  };
  constexpr double kMillidegrees = 1000;
  regs_.on_read(PowerReg::JUNCTION_MC,
                [this](unsigned slot) { return word(slots_[slot].thermal.celsius * kMillidegrees); });
  regs_.on_read(PowerReg::PEAK_MC, [this](unsigned slot) { return word(slots_[slot].thermal.peak * kMillidegrees); });
  pair(PowerReg::THROTTLED_LO, [this](unsigned slot) { return slots_[slot].thermal.throttled; });
  pair(PowerReg::TIME_LO, [this](unsigned slot) { return slots_[slot].time; });
  pair(PowerReg::NOW_LO,
       [this](unsigned domain) { return domain < kDomains ? energy(static_cast<PowerDomain>(domain)).value : 0; });
  pair(PowerReg::ENERGY_LO, field(&Energy::value));
  pair(PowerReg::LEAST_LO, field(&Energy::least));
  pair(PowerReg::MOST_LO, field(&Energy::most));
}

void Power::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_delay_ = delay;
  access_registers(regs_, transaction);
  access_delay_ = sc_core::SC_ZERO_TIME;
  delay += clock_.period();
}

}  // namespace cx::hw
