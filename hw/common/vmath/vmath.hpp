// The vector unit's functions on FP32. Each is defined as a fixed sequence of IEEE 754 binary32 operations (and integer
// operations on the bits), so every host computes the same bits; README.md states the definitions and the errors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cx::vmath {

inline constexpr uint32_t kCanonicalNan = 0x7FC00000u;

enum class Unary : uint8_t { EXP, LOG, SQRT, RECIP, SIGMOID, TANH, ERF, SILU, GELU, SOFTPLUS, SIN, COS, ATAN };
inline constexpr size_t kUnaryCount = 13;
enum class Binary : uint8_t { POW, DIV };
inline constexpr size_t kBinaryCount = 2;

/// Implementations of the same definition. AVX2 needs a host with AVX2 and FMA.
enum class Backend : uint8_t { PORTABLE, AVX2 };

using UnaryFn = void (*)(const float *x, float *out, size_t n);
using BinaryFn = void (*)(const float *a, const float *b, float *out, size_t n);

/// Kernels of one backend. n elements; out may equal an operand exactly but not overlap it otherwise.
/// Every NaN result is 0x7FC00000. The host must be in its default mode: round to nearest even, subnormals kept.
struct Kernels {
  UnaryFn unary[kUnaryCount];
  BinaryFn binary[kBinaryCount];
};

/// True when this host can run the backend.
bool available(Backend backend);
/// Kernels of a backend that is available; throws std::runtime_error otherwise.
const Kernels &kernels(Backend backend);
/// The fastest available.
const Kernels &kernels();

inline void apply(Unary f, const float *x, float *out, size_t n) { kernels().unary[static_cast<size_t>(f)](x, out, n); }
inline void apply(Binary f, const float *a, const float *b, float *out, size_t n) {
  kernels().binary[static_cast<size_t>(f)](a, b, out, n);
}
inline float apply(Unary f, float x) {
  apply(f, &x, &x, 1);
  return x;
}
inline float apply(Binary f, float a, float b) {
  apply(f, &a, &b, &a, 1);
  return a;
}

const char *name(Unary f);
const char *name(Binary f);

}  // namespace cx::vmath
