// Internal: arithmetic on packed rows of FP32 and of integers, in variants with equal bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/common/num/formats.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::hw::vpu {

/// Lanes over which a reduction along the innermost dimension is spread.
inline constexpr size_t kPartials = 16;

/// `out` may equal an operand exactly. Maximum and minimum are NaN if either operand is, and order -0 below +0.
struct Kernels {
  /// The functions that are not in vmath (see vpu_ops.cpp); COPY and NOT are not among them.
  void (*unary)(isa::Unary f, const float *x, float *out, size_t n, float imm0, float imm1);
  /// All but DIV, POW and those of integers only.
  void (*binary)(isa::Binary f, const float *a, const float *b, float *out, size_t n);
  void (*activate)(isa::Activation act, float *x, size_t n, float lo, float hi);
  /// Copies; every NaN becomes 0x7FC00000.
  void (*canonicalise)(const float *x, float *out, size_t n);
  /// acc[i] = f(acc[i], x[i])
  void (*accumulate)(isa::Reduce f, float *acc, const float *x, size_t n);
  /// acc[i % 16] = f(acc[i % 16], x[i]) for i from 0 up
  void (*partials)(isa::Reduce f, float *acc, const float *x, size_t n);
  /// Joins 16 partial results pairwise: i with i + 8, i + 4, i + 2, i + 1.
  float (*join)(isa::Reduce f, const float *acc);
  /// out[c] over taps: MAX, SUM of taps[t][c]; MAC of taps[t][c] * w[t * channels + c] from +0
  void (*window)(isa::Window f, const float *const *taps, size_t tap_count, const float *w, float *out,
                 size_t channels);

  // Integers are two's complement of 64 bits. is_unsigned: of UINT64 operands; narrower unsigned numbers are positive.

  /// Integer elements by their own sign to 64 bits, and the low `bytes` of them back. Any alignment.
  void (*extend)(num::DType type, const void *from, int64_t *to, size_t n);
  void (*truncate)(size_t bytes, const int64_t *from, void *to, size_t n);
  /// COPY NEG ABS RELU CLAMP SIGN NOT
  void (*integer_unary)(isa::Unary f, bool is_unsigned, const int64_t *x, int64_t *out, size_t n, int64_t imm0,
                        int64_t imm1);
  /// All but PRELU. width: bits of the operands' type, for shifts.
  void (*integer_binary)(isa::Binary f, bool is_unsigned, unsigned width, const int64_t *a, const int64_t *b,
                         int64_t *out, size_t n);
  /// acc[i] = f(acc[i], x[i])
  void (*integer_accumulate)(isa::Reduce f, bool is_unsigned, int64_t *acc, const int64_t *x, size_t n);

  /// out[i] = cond[i] != 0 ? a[i] : b[i], elements of `bytes`. Any alignment; out is none of the others.
  void (*select)(size_t bytes, const uint8_t *cond, const void *a, const void *b, void *out, size_t n);
  /// Numbers whose order is that of V_ARG and V_TOPK, the first of it largest.
  void (*keys_of_floats)(const float *x, bool smallest, int64_t *keys, size_t n);
  void (*keys_of_integers)(const int64_t *x, bool is_unsigned, bool smallest, int64_t *keys, size_t n);
  /// Where keys[i] is above best[i] (or equal, if `last`): best[i] = keys[i], where[i] = index.
  void (*extreme)(const int64_t *keys, int64_t index, bool last, int64_t *best, int64_t *where, size_t n);
};

/// The fastest variant of this host. Tests ask for one by name.
const Kernels &kernels();
const Kernels &portable_kernels();
/// nullptr where the host has no AVX2 and FMA.
const Kernels *avx2_kernels();

}  // namespace cx::hw::vpu
