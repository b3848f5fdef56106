// What a card's dense unit does at most.
#pragma once

#include <vector>

#include "driver/umd/die.hpp"
#include "driver/umd/target.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::tools {

/// That the DMMU multiplies, in the order of the instruction set's numbers.
std::vector<isa::DType> formats_of(const Target &target);

/// 10^12 operations a second of the dense unit at its peak, two for each product.
double peak_tops(const Target &target, isa::DType format);

/// 10^12 operations a joule at a rate and a power; what takes the least does the most.
Estimate tops_per_watt(double tops, const Estimate &watts);

}  // namespace cx::tools
