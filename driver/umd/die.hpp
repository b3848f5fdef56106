// What a card's configuration would be as silicon, as its power block gives it.
#pragma once

#include <array>

#include "hw/regs/gen/power_regs.h"

namespace cx {

/// An estimate and the range in which the energy table sees it.
struct Estimate {
  double value = 0, least = 0, most = 0;
};

constexpr int kDieParts = CX_POWER_AREAS_RESET + 1;
/// In the order of the numbers of power.AREAS.
constexpr std::array<const char *, kDieParts> kDiePartNames = {"dmmu",    "sca", "vpu",  "scratchpad", "noc",
                                                               "engines", "cp",  "dram", "pcie",       "other"};

struct Die {
  std::array<Estimate, kDieParts> parts;  ///< mm2
  /// By isa data type: watts at rest and of the DMMU at its peak; 0 for one that it does not multiply.
  std::array<Estimate, CX_POWER_FULL_RATE_COUNT> full_rate;

  /// mm2 of the whole die.
  Estimate area() const {
    Estimate sum;
    for (const Estimate &part : parts) {
      sum.value += part.value;
      sum.least += part.least;
      sum.most += part.most;
    }
    return sum;
  }
};

}  // namespace cx
