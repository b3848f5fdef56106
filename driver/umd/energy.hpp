// Energy of a card by domain, as its power block gives it.
#pragma once

#include <array>
#include <cstdint>

#include "hw/regs/gen/power_regs.h"

namespace cx {

constexpr int kEnergyDomains = CX_POWER_DOMAINS_RESET + 1;
/// In the order of the numbers of power.DOMAINS.
constexpr std::array<const char *, kEnergyDomains> kEnergyDomainNames = {
    "dmmu", "sca", "vpu", "scratchpad", "dram", "noc", "dma", "pcie", "cp", "leakage"};

/// Femtojoules; `least` and `most` take the ends of the range that the energy table gives for each of its figures.
struct EnergyAmount {
  uint64_t value = 0, least = 0, most = 0;
  bool operator==(const EnergyAmount &) const = default;
};

/// What a span of device time took.
struct Energy {
  std::array<EnergyAmount, kEnergyDomains> domains;
  uint64_t cycles = 0;  ///< length of the span, core cycles

  EnergyAmount total() const;
  bool operator==(const Energy &) const = default;
};

Energy operator-(const Energy &later, const Energy &earlier);
Energy operator+(const Energy &a, const Energy &b);

/// Femtojoules in microjoules.
constexpr double microjoules(uint64_t femtojoules) { return 1e-9 * static_cast<double>(femtojoules); }

}  // namespace cx
