#include "hw/common/num/gathered.hpp"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace cx::num::avx2 {
namespace {

/// Lanes [j, j + 8 * kVectors).
template <int kVectors>
inline void fp_block(const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc,
                     bool accumulate) {
  __m256 sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = _mm256_setzero_ps();
  for (size_t e = 0; e < column.count; ++e) {
    const float *row = a + column.rows[e] * a_stride;
    const __m256 value = _mm256_set1_ps(column.values[e]);
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm256_fmadd_ps(_mm256_loadu_ps(row + 8 * v), value, sum[v]);
  }
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(kCanonicalNan)));
  for (int v = 0; v < kVectors; ++v) {
    __m256 result = sum[v];
    if (accumulate) result = _mm256_add_ps(_mm256_loadu_ps(acc + 8 * v), result);
    result = _mm256_blendv_ps(result, nan, _mm256_cmp_ps(result, result, _CMP_UNORD_Q));
    _mm256_storeu_ps(acc + 8 * v, result);
  }
}

/// Lanes [j, j + 16 * kBlocks). Two weights at a time; the halves of a block's sums lie crossed until the end.
template <int kBlocks>
inline void int8_block(const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride, int32_t *acc,
                       bool accumulate) {
  __m256i low[kBlocks], high[kBlocks];
  for (int b = 0; b < kBlocks; ++b) low[b] = high[b] = _mm256_setzero_si256();
  for (size_t e = 0; e < column.count; e += 2) {
    const bool paired = e + 1 < column.count;
    const int16_t *first = a + column.rows[e] * a_stride;
    const int16_t *second = paired ? a + column.rows[e + 1] * a_stride : first;
    const auto upper = static_cast<uint16_t>(paired ? column.values[e + 1] : int16_t{0});
    const __m256i values =
        _mm256_set1_epi32(static_cast<int>(uint32_t{upper} << 16 | static_cast<uint16_t>(column.values[e])));
    for (int b = 0; b < kBlocks; ++b) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(first + 16 * b));
      const __m256i y = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(second + 16 * b));
      low[b] = _mm256_add_epi32(low[b], _mm256_madd_epi16(_mm256_unpacklo_epi16(x, y), values));
      high[b] = _mm256_add_epi32(high[b], _mm256_madd_epi16(_mm256_unpackhi_epi16(x, y), values));
    }
  }
  for (int b = 0; b < kBlocks; ++b) {
    const __m256i halves[2] = {_mm256_permute2x128_si256(low[b], high[b], 0x20),
                               _mm256_permute2x128_si256(low[b], high[b], 0x31)};
    for (int h = 0; h < 2; ++h) {
      auto *const to = reinterpret_cast<__m256i *>(acc + 16 * b + 8 * h);
      _mm256_storeu_si256(to, accumulate ? _mm256_add_epi32(_mm256_loadu_si256(to), halves[h]) : halves[h]);
    }
  }
}

}  // namespace

void mac_fp_gathered(const GatheredColumn<float> &column, const float *a, size_t a_stride, float *acc, size_t n,
                     bool accumulate) {
  size_t j = 0;
  for (; j + 32 <= n; j += 32) fp_block<4>(column, a + j, a_stride, acc + j, accumulate);
  for (; j < n; j += 16) fp_block<2>(column, a + j, a_stride, acc + j, accumulate);
}

void mac_int8_gathered(const GatheredColumn<int16_t> &column, const int16_t *a, size_t a_stride, int32_t *acc, size_t n,
                       bool accumulate) {
  size_t j = 0;
  for (; j + 32 <= n; j += 32) int8_block<2>(column, a + j, a_stride, acc + j, accumulate);
  for (; j < n; j += 16) int8_block<1>(column, a + j, a_stride, acc + j, accumulate);
}

}  // namespace cx::num::avx2

#else
namespace cx::num::avx2 {
void mac_fp_gathered(const GatheredColumn<float> &, const float *, size_t, float *, size_t, bool) {
  __builtin_unreachable();
}
void mac_int8_gathered(const GatheredColumn<int16_t> &, const int16_t *, size_t, int32_t *, size_t, bool) {
  __builtin_unreachable();
}
}  // namespace cx::num::avx2
#endif
