// Energy of a card by domain, as its power block gives it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

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

/// Of a chip with thermal.model.
struct Heat {
  double junction_c = 0;          ///< at the end of the span
  double peak_c = 0;              ///< since power-on
  uint64_t throttled_cycles = 0;  ///< of the span, in which engines skipped clock edges
  bool operator==(const Heat &) const = default;
};

/// What a span of device time took.
struct Energy {
  std::array<EnergyAmount, kEnergyDomains> domains;
  uint64_t cycles = 0;       ///< length of the span, core cycles
  std::optional<Heat> heat;  ///< none: temperature is not modelled

  EnergyAmount total() const;
  bool operator==(const Energy &) const = default;
};

/// A core clock and the voltage that it is run at, since power-on.
struct OperatingPoint {
  uint32_t number = 0;  ///< 0: nominal
  uint32_t count = 0;   ///< points besides the nominal one
  double mhz = 0, volts = 0;
};

Energy operator-(const Energy &later, const Energy &earlier);
Energy operator+(const Energy &a, const Energy &b);

/// Femtojoules in microjoules.
constexpr double microjoules(uint64_t femtojoules) { return 1e-9 * static_cast<double>(femtojoules); }

}  // namespace cx
