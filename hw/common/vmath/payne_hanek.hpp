// Argument reduction of SIN and COS for arguments too large for subtracting multiples of pi / 2.
#pragma once

#include <cstdint>

namespace cx::vmath::detail {

struct Reduced {
  uint32_t quadrant;  ///< of x, modulo 4
  float hi, lo;       ///< x - quadrant * pi / 2 as a sum, |hi| <= pi / 4
};

/// x is finite and |x| >= 2^17. Integer product of the mantissa with 96 bits of 2 / pi.
Reduced payne_hanek(float x);

}  // namespace cx::vmath::detail
