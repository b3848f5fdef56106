// Independent values of the vector unit's functions in double precision, and the distance to them.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hw/common/vmath/vmath.hpp"

namespace cx::vmath::reference {

inline double value(Unary f, double x) {
  switch (f) {
    case Unary::EXP:
      return std::exp(x);
    case Unary::LOG:
      return std::log(x);
    case Unary::SQRT:
      return std::sqrt(x);
    case Unary::RECIP:
      return 1.0 / x;
    case Unary::SIGMOID:
      return 1.0 / (1.0 + std::exp(-x));
    case Unary::TANH:
      return std::tanh(x);
    case Unary::ERF:
      return std::erf(x);
    case Unary::SILU:
      return x / (1.0 + std::exp(-x));
    case Unary::GELU:
      return 0.5 * x * std::erfc(-x * 0.70710678118654752440);
    case Unary::SOFTPLUS:
      return x != x ? x : std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
    case Unary::SIN:
      return std::sin(x);
    case Unary::COS:
      return std::cos(x);
    case Unary::ATAN:
      return std::atan(x);
  }
  return std::numeric_limits<double>::quiet_NaN();
}

inline double value(Binary f, double a, double b) { return f == Binary::POW ? std::pow(a, b) : a / b; }

/// |got - exact| in units of the last place of an FP32 number of exact's size (2^-149 for subnormals). Beyond the
/// largest finite number counts as 2^128, which is what infinity stands for. A NaN must be the canonical one; infinite
/// distance for NaN against number, and for a wrong sign of zero.
inline double ulps(float got, double exact) {
  const uint64_t biased = std::bit_cast<uint64_t>(exact) >> 52 & 0x7FF;
  if (biased >= 1023 - 126 && biased < 1023 + 127 && std::fabs(got) <= std::numeric_limits<float>::max()) {
    const double places = std::bit_cast<double>((2 * 1023 + 23 - biased) << 52);  // 2^(23 - exponent)
    return std::fabs(got - exact) * places;
  }
  constexpr double kWrong = std::numeric_limits<double>::infinity();
  if (std::isnan(exact)) return std::bit_cast<uint32_t>(got) == kCanonicalNan ? 0.0 : kWrong;
  if (std::isnan(got)) return kWrong;
  if (exact == 0.0 && (got != 0.0f || std::signbit(got) != std::signbit(exact))) return kWrong;
  const auto limited = [](double v) { return std::clamp(v, -0x1p128, 0x1p128); };
  const double e = limited(exact);
  const int exponent = e == 0.0 ? -126 : std::max(std::ilogb(e), -126);
  return std::ldexp(std::fabs(limited(got) - e), 23 - std::min(exponent, 127));
}

}  // namespace cx::vmath::reference
