// The multiply-accumulate chain of a tile (docs/architecture.md, "DMMU and its tiles"; MM_MUL in hw/isa/isa.yaml) on
// host vectors. Every function exists per Path; all paths give the same bits. NaN results are kCanonicalNan.
//
// Common arguments: a is m x k, w is k x n, acc is m x n; strides are in elements. Nothing is read beyond k columns of
// a, k rows and n columns of w; columns at and beyond n of acc are left alone. Operands do not overlap. A chain starts
// at +0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/common/num/formats.hpp"

namespace cx::num {

/// Factors of a block: s = rn(row[i] * column[j]). A null pointer stands for ones.
struct BlockScale {
  const float *row = nullptr;     // m values
  const float *column = nullptr;  // n values
};

/// What happens to the end x of a chain: acc = accumulate ? fma(x, s, acc) : rn(x * s). Without scales that is
/// acc = accumulate ? rn(acc + x) : x. Converts from bool, so that mac_fp(..., accumulate) reads as it should.
struct Epilogue {
  Epilogue(bool accumulate_, BlockScale scale_ = {}) : accumulate(accumulate_), scale(scale_) {}
  bool accumulate;
  BlockScale scale;
};

/// Chain over r = 0..k-1 of fma(a[i][r], w[r][j], previous), each step rounded once to nearest even.
void mac_fp(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride, size_t m,
            size_t n, size_t k, Epilogue epilogue);
void mac_fp(Path path, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
            size_t m, size_t n, size_t k, Epilogue epilogue);

/// The chain of FP8 operands (widened to FP32; their products are exact) that takes `pack` products a step:
///   pack 1: as mac_fp
///   pack 2: chain = rn(chain + rn(a0*b0 + a1*b1))
///   pack 4: chain = rn(chain + rn(rn(a0*b0 + a1*b1) + rn(a2*b2 + a3*b3)))
/// Products at and beyond k are +0. Throws std::invalid_argument for another pack.
void mac_fp8_packed(unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc,
                    size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue);
void mac_fp8_packed(Path path, unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride,
                    float *acc, size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue);

/// Two rows of INT8 weights packed for mac_int8: w2[i][j] holds row 2i in its low and row 2i+1 in its high half
/// (0 when 2i+1 == k), each sign-extended to 16 bits. ceil(k / 2) rows of n entries are written.
void pack_int8_weights(const int8_t *w, ptrdiff_t w_stride, size_t k, size_t n, uint32_t *w2, size_t w2_stride);

/// acc[i][j] (=, or += if accumulate) sum over r of a[i][r] * w[r][j], wrapping modulo 2^32.
/// a holds INT8 values sign-extended to 16 bits; a_stride is even and a row holds a 0 at index k when k is odd.
void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, bool accumulate);
void mac_int8(Path path, const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
              size_t acc_stride, size_t m, size_t n, size_t k, bool accumulate);

/// INT8 operands as in mac_int8 under block scales: the end of the chain (INT32, from 0) is converted to FP32, rounded
/// to nearest even, and goes through the epilogue into FP32 accumulators.
void mac_int8_scaled(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue);
void mac_int8_scaled(Path path, const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, Epilogue epilogue);

/// Activation words without work: groups of `pack` (1, 2, 4) neighbours along k, the last of a row possibly shorter,
/// whose values are all zero (+0 or -0). At most m * ceil(k / pack). Throws std::invalid_argument for another pack.
uint64_t count_zeros(unsigned pack, const float *a, size_t a_stride, size_t m, size_t k);
uint64_t count_zeros(Path path, unsigned pack, const float *a, size_t a_stride, size_t m, size_t k);
uint64_t count_zeros(unsigned pack, const int16_t *a, size_t a_stride, size_t m, size_t k);
uint64_t count_zeros(Path path, unsigned pack, const int16_t *a, size_t a_stride, size_t m, size_t k);

}  // namespace cx::num
