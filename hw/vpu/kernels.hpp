// Internal: arithmetic on packed FP32 rows, in variants with equal bits.
#pragma once

#include <cstddef>

#include "hw/regs/gen/isa.hpp"

namespace cx::hw::vpu {

/// Lanes over which a reduction along the innermost dimension is spread.
inline constexpr size_t kPartials = 16;

/// `out` may equal an operand exactly. Maximum and minimum are NaN if either operand is, and order -0 below +0.
struct Kernels {
  /// The functions that are not in vmath (see vpu_ops.cpp); COPY is not among them.
  void (*unary)(isa::Unary f, const float *x, float *out, size_t n, float imm0, float imm1);
  /// All but DIV and POW.
  void (*binary)(isa::Binary f, const float *a, const float *b, float *out, size_t n);
  void (*activate)(isa::Activation act, float *x, size_t n, float lo, float hi);
  /// Copies; every NaN becomes 0x7FC00000.
  void (*canonicalise)(const float *x, float *out, size_t n);
  /// acc[i] = f(acc[i], x[i])
  void (*accumulate)(isa::Reduce f, float *acc, const float *x, size_t n);
  /// acc[i % 16] = f(acc[i % 16], x[i]) for i from 0 up
  void (*partials)(isa::Reduce f, float *acc, const float *x, size_t n);
  /// out[c] over taps: MAX, SUM of taps[t][c]; MAC of taps[t][c] * w[t * channels + c] from +0
  void (*window)(isa::Window f, const float *const *taps, size_t tap_count, const float *w, float *out,
                 size_t channels);
};

/// The fastest variant of this host. Tests ask for one by name.
const Kernels &kernels();
const Kernels &portable_kernels();
/// nullptr where the host has no AVX2 and FMA.
const Kernels *avx2_kernels();

}  // namespace cx::hw::vpu
