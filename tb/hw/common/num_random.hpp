// Random operands that reach the corners of every format. The seed is logged; CX_TEST_SEED repeats a run.
#pragma once

#include <cstdint>
#include <random>

#include "hw/common/num/formats.hpp"
#include "tb/common/seed.hpp"

namespace cx::test {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint32_t bits() { return static_cast<uint32_t>(engine_() >> 32); }
  /// Uniform in [low, high].
  uint32_t between(uint32_t low, uint32_t high) { return low + static_cast<uint32_t>(engine_() % (high - low + 1)); }
  bool one_in(uint32_t n) { return engine_() % n == 0; }

  /// FP32 bits: mostly of like magnitude so that sums cancel, sometimes anything, zeros, subnormals, infinities or NaN.
  uint32_t fp32() {
    const uint32_t r = bits();
    switch (between(0, 15)) {
      case 0:
        return r;
      case 1:
        return r & 0x80000000u;
      case 2:
        return r & 0x807FFFFFu;
      case 3:
        return one_in(4) ? (r & 0x80000000u) | 0x7F800000u : (r & 0x8FFFFFFFu) | 0x70000000u;
      case 4:
        return one_in(16) ? r | 0x7F800000u : (r & 0x80FFFFFFu);
      default:
        return (r & 0x807FFFFFu) | (between(120, 134) << 23);
    }
  }

  /// Raw element of a format in the low bits; 8-bit formats take every code.
  uint32_t element(num::DType dtype) {
    switch (dtype) {
      case num::DType::FP32:
        return fp32();
      case num::DType::FP16:
        if (one_in(12)) return bits() & 0xFFFFu;
        return (bits() & 0x83FFu) | (between(11, 18) << 10);
      case num::DType::BF16:
        return fp32() >> 16;
      case num::DType::FP8_E4M3:
      case num::DType::FP8_E5M2: {
        // NaN and infinities are a large part of all codes; too many of them hide everything else.
        const uint32_t code = bits() & 0xFFu;
        const bool special = dtype == num::DType::FP8_E4M3 ? (code & 0x7F) == 0x7F : (code & 0x7F) >= 0x7C;
        return special && !one_in(16) ? code & 0x8Fu : code;
      }
      default:
        return bits() & 0xFFu;
    }
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace cx::test
