// The chains of a sparse tile (hw/sca/README.md) on host vectors: a column of weights, of which only the non-zeros are
// there, times activations that are stored k by k. All paths give the same bits. NaN results are kCanonicalNan.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/common/num/formats.hpp"

namespace cx::num {

/// What the rows of activations and the results have as a multiple; all of it is read and written.
inline constexpr size_t kGatheredLanes = 16;

/// `count` weights of a column and the rows of `a` that they meet.
template <typename Value>
struct GatheredColumn {
  const Value *values = nullptr;
  const uint16_t *rows = nullptr;
  size_t count = 0;
};

/// For lanes j below n, a multiple of kGatheredLanes: a sum that starts at +0 takes fma(a[rows[e] * a_stride + j],
/// values[e], sum) for e = 0, 1, ... and is written to (accumulate: added to, rounded once) acc[j].
void mac_fp_gathered(const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc, size_t n,
                     bool accumulate);
void mac_fp_gathered(Path path, const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc,
                     size_t n, bool accumulate);

/// The same with INT8 values sign-extended to 16 bits and sums modulo 2^32.
void mac_int8_gathered(const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride, int32_t *acc, size_t n,
                       bool accumulate);
void mac_int8_gathered(Path path, const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride,
                       int32_t *acc, size_t n, bool accumulate);

namespace avx2 {
void mac_fp_gathered(const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc, size_t n,
                     bool accumulate);
void mac_int8_gathered(const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride, int32_t *acc, size_t n,
                       bool accumulate);
}  // namespace avx2

}  // namespace cx::num
