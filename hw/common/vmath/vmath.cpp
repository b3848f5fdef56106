#include "hw/common/vmath/vmath.hpp"

#include <bit>
#include <cmath>
#include <stdexcept>

#include "hw/common/vmath/payne_hanek.hpp"

namespace cx::vmath {
namespace detail {

const Kernels &portable_kernels();
#ifdef CX_VMATH_AVX2
const Kernels &avx2_kernels();
#endif

Reduced payne_hanek(float x) {
  // 2 / pi = 0.A2F9836E..., after one word of zeros so that a window can start before the point.
  static constexpr uint32_t kTwoOverPi[] = {0,           0xA2F9836Eu, 0x4E441529u, 0xFC2757D1u, 0xF534DDC0u,
                                            0xDB629599u, 0x3C439041u, 0xFE5163ABu, 0xDEBBC561u};
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint64_t mantissa = (bits & 0x7FFFFFu) | 0x800000u;
  const uint32_t exponent = (bits >> 23) & 0xFFu;
  // |x| = mantissa * 2^(exponent - 150). Bits of 2 / pi that weigh 4 or more in the product are left out.
  const uint32_t start = exponent - 150 - 2 + 32;
  const uint32_t word = start / 32;
  const uint32_t shift = start % 32;
  const auto window = [&](uint32_t i) {
    const uint64_t pair = (uint64_t{kTwoOverPi[word + i]} << 32) | kTwoOverPi[word + i + 1];
    return static_cast<uint32_t>((pair << shift) >> 32);
  };
  const uint64_t high = (uint64_t{window(0)} << 32) | window(1);
  const uint64_t product =
      mantissa * high + ((mantissa * window(2)) >> 32);  // |x| * 2 / pi modulo 4, in units of 2^-62
  uint32_t quadrant = static_cast<uint32_t>((product + (uint64_t{1} << 61)) >> 62);
  int64_t fraction = static_cast<int64_t>(product - (uint64_t{quadrant} << 62));
  if (bits >> 31) {
    quadrant = -quadrant;
    fraction = -fraction;
  }
  const float f_hi = static_cast<float>(fraction);
  const float f_lo = static_cast<float>(fraction - static_cast<int64_t>(f_hi));
  constexpr float kHi = 0x1.921fb6p-62f;  // pi / 2 * 2^-62
  constexpr float kLo = -0x1.777a5cp-87f;
  const float hi = f_hi * kHi;
  const float lo = std::fma(f_hi, kHi, -hi) + std::fma(f_hi, kLo, f_lo * kHi);
  return {quadrant & 3u, hi, lo};
}

}  // namespace detail

bool available(Backend backend) {
  if (backend == Backend::PORTABLE) return true;
#ifdef CX_VMATH_AVX2
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

const Kernels &kernels(Backend backend) {
  if (!available(backend)) throw std::runtime_error("vmath: this host cannot run the AVX2 kernels");
#ifdef CX_VMATH_AVX2
  if (backend == Backend::AVX2) return detail::avx2_kernels();
#endif
  return detail::portable_kernels();
}

const Kernels &kernels() {
  static const Kernels &best = kernels(available(Backend::AVX2) ? Backend::AVX2 : Backend::PORTABLE);
  return best;
}

const char *name(Unary f) {
  static constexpr const char *kNames[kUnaryCount] = {"EXP",  "LOG",  "SQRT",     "RECIP", "SIGMOID", "TANH", "ERF",
                                                      "SILU", "GELU", "SOFTPLUS", "SIN",   "COS",     "ATAN"};
  return kNames[static_cast<size_t>(f)];
}

const char *name(Binary f) { return f == Binary::POW ? "POW" : "DIV"; }

}  // namespace cx::vmath
