// How often the vector unit's functions go through the units of special functions: what its time and energy depend on.
#ifndef HW_COMMON_VMATH_PASSES_HPP
#define HW_COMMON_VMATH_PASSES_HPP

#include "hw/regs/gen/isa.hpp"

namespace cx::vmath {

constexpr unsigned special_passes(isa::Unary func) {
  switch (func) {
    case isa::Unary::EXP:
    case isa::Unary::LOG:
    case isa::Unary::SQRT:
    case isa::Unary::RECIP:
    case isa::Unary::SIGMOID:
    case isa::Unary::TANH:
    case isa::Unary::ERF:
    case isa::Unary::HARD_SWISH:
    case isa::Unary::SILU:
    case isa::Unary::GELU:
    case isa::Unary::SOFTPLUS:
    case isa::Unary::SIN:
    case isa::Unary::COS:
    case isa::Unary::ATAN:
      return 1;
    default:
      return 0;
  }
}

constexpr unsigned special_passes(isa::Binary func) {
  switch (func) {
    case isa::Binary::DIV:
      return 1;
    case isa::Binary::POW:
    case isa::Binary::MOD:
    case isa::Binary::FMOD:
      return 2;
    default:
      return 0;
  }
}

}  // namespace cx::vmath

#endif
