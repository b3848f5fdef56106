#include "driver/umd/energy.hpp"

#include <algorithm>

namespace cx {

static_assert(CX_POWER_DOMAINS_LAST_DMMU == 0 && CX_POWER_DOMAINS_LAST_SCA == 1 && CX_POWER_DOMAINS_LAST_VPU == 2 &&
              CX_POWER_DOMAINS_LAST_SCRATCHPAD == 3 && CX_POWER_DOMAINS_LAST_DRAM == 4 &&
              CX_POWER_DOMAINS_LAST_NOC == 5 && CX_POWER_DOMAINS_LAST_DMA == 6 && CX_POWER_DOMAINS_LAST_PCIE == 7 &&
              CX_POWER_DOMAINS_LAST_CP == 8 && CX_POWER_DOMAINS_LAST_LEAKAGE == 9);

EnergyAmount Energy::total() const {
  EnergyAmount sum;
  for (const EnergyAmount &domain : domains) {
    sum.value += domain.value;
    sum.least += domain.least;
    sum.most += domain.most;
  }
  return sum;
}

Energy operator-(const Energy &later, const Energy &earlier) {
  Energy d;
  d.cycles = later.cycles - earlier.cycles;
  d.heat = later.heat;
  if (d.heat && earlier.heat) d.heat->throttled_cycles -= earlier.heat->throttled_cycles;
  for (int i = 0; i < kEnergyDomains; ++i) {
    const EnergyAmount &a = later.domains[i], &b = earlier.domains[i];
    d.domains[i] = {a.value - b.value, a.least - b.least, a.most - b.most};
  }
  return d;
}

Energy operator+(const Energy &a, const Energy &b) {
  Energy sum;
  sum.cycles = a.cycles + b.cycles;
  sum.heat = b.heat ? b.heat : a.heat;
  if (a.heat && b.heat) {
    sum.heat->peak_c = std::max(a.heat->peak_c, b.heat->peak_c);
    sum.heat->throttled_cycles += a.heat->throttled_cycles;
  }
  for (int i = 0; i < kEnergyDomains; ++i) {
    const EnergyAmount &x = a.domains[i], &y = b.domains[i];
    sum.domains[i] = {x.value + y.value, x.least + y.least, x.most + y.most};
  }
  return sum;
}

}  // namespace cx
