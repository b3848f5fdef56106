// The multiply-accumulate chain of a tile (docs/architecture.md, "DMMU and its tiles") on host vectors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/common/num/formats.hpp"

namespace cx::num {

/// acc[i][j] (=, or += if accumulate) chain over r = 0..k-1 of fma(a[i][r], w[r][j], previous), started at +0.
/// Each step rounds once to nearest even; the addition to the accumulator is one more rounded FP32 addition.
/// NaN results are stored as kCanonicalNan. i < m, j < n; strides are in elements; columns at and beyond n of acc are
/// left alone. a, w and acc do not overlap.
void mac_fp(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride, size_t m,
            size_t n, size_t k, bool accumulate);
void mac_fp(Path path, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
            size_t m, size_t n, size_t k, bool accumulate);

/// Two rows of INT8 weights packed for mac_int8: w2[i][j] holds row 2i in its low and row 2i+1 in its high half
/// (0 when 2i+1 == k), each sign-extended to 16 bits. ceil(k / 2) rows of n entries are written.
void pack_int8_weights(const int8_t *w, ptrdiff_t w_stride, size_t k, size_t n, uint32_t *w2, size_t w2_stride);

/// acc[i][j] (=, or += if accumulate) sum over r of a[i][r] * w[r][j], wrapping modulo 2^32.
/// a holds INT8 values sign-extended to 16 bits; a_stride is even and a row holds a 0 at index k when k is odd.
void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, bool accumulate);
void mac_int8(Path path, const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
              size_t acc_stride, size_t m, size_t n, size_t k, bool accumulate);

}  // namespace cx::num
