#include "hw/common/num/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

namespace cx::num::avx2 {
namespace {
#include "hw/common/num/convert_loops.inl"

inline __m256i first_lanes(size_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline __m256 canonical(__m256 value) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(kCanonicalNan)));
  return _mm256_blendv_ps(value, nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}

/// kRows x (8 * kVectors) outputs held in registers over the whole chain. `last` masks the last vector of columns when
/// kMasked.
template <int kRows, int kVectors, bool kMasked>
inline void fp_block(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
                     size_t k, bool accumulate, __m256i last) {
  __m256 sum[kRows][kVectors];
  for (auto &row : sum) {
    for (auto &value : row) value = _mm256_setzero_ps();
  }
  for (size_t r = 0; r < k; ++r) {
    __m256 weight[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const float *from = w + r * w_stride + 8 * v;
      weight[v] = kMasked && v == kVectors - 1 ? _mm256_maskload_ps(from, last) : _mm256_loadu_ps(from);
    }
    for (int i = 0; i < kRows; ++i) {
      const __m256 activation = _mm256_broadcast_ss(a + i * a_stride + r);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = _mm256_fmadd_ps(activation, weight[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      float *to = acc + i * acc_stride + 8 * v;
      const bool masked = kMasked && v == kVectors - 1;
      __m256 value = sum[i][v];
      if (accumulate) value = _mm256_add_ps(masked ? _mm256_maskload_ps(to, last) : _mm256_loadu_ps(to), value);
      value = canonical(value);
      if (masked) {
        _mm256_maskstore_ps(to, last, value);
      } else {
        _mm256_storeu_ps(to, value);
      }
    }
  }
}

template <int kVectors, bool kMasked>
inline void fp_columns(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride,
                       size_t m, size_t k, bool accumulate, __m256i last) {
  size_t i = 0;
  for (; i + 6 <= m; i += 6) {
    fp_block<6, kVectors, kMasked>(a + i * a_stride, a_stride, w, w_stride, acc + i * acc_stride, acc_stride, k,
                                   accumulate, last);
  }
  for (; i + 2 <= m; i += 2) {
    fp_block<2, kVectors, kMasked>(a + i * a_stride, a_stride, w, w_stride, acc + i * acc_stride, acc_stride, k,
                                   accumulate, last);
  }
  if (i < m) {
    fp_block<1, kVectors, kMasked>(a + i * a_stride, a_stride, w, w_stride, acc + i * acc_stride, acc_stride, k,
                                   accumulate, last);
  }
}

/// One row against 32 columns: with few rows the chain's latency is hidden by columns instead.
inline size_t fp_single_row(const float *a, const float *w, size_t w_stride, float *acc, size_t n, size_t k,
                            bool accumulate) {
  size_t j = 0;
  for (; j + 32 <= n; j += 32) {
    fp_block<1, 4, false>(a, 0, w + j, w_stride, acc + j, 0, k, accumulate, _mm256_setzero_si256());
  }
  return j;
}

template <int kRows, bool kMasked>
inline void int8_block(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
                       size_t acc_stride, size_t pairs, bool accumulate, __m256i mask) {
  __m256i sum[kRows];
  for (auto &value : sum) value = _mm256_setzero_si256();
  for (size_t r = 0; r < pairs; ++r) {
    const int *from = reinterpret_cast<const int *>(w2 + r * w2_stride);
    const __m256i weight =
        kMasked ? _mm256_maskload_epi32(from, mask) : _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    for (int i = 0; i < kRows; ++i) {
      int32_t pair;
      __builtin_memcpy(&pair, a + i * a_stride + 2 * r, sizeof pair);
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_set1_epi32(pair), weight));
    }
  }
  for (int i = 0; i < kRows; ++i) {
    int32_t *to = acc + i * acc_stride;
    __m256i value = sum[i];
    if (accumulate) {
      const __m256i present =
          kMasked ? _mm256_maskload_epi32(to, mask) : _mm256_loadu_si256(reinterpret_cast<const __m256i *>(to));
      value = _mm256_add_epi32(present, value);
    }
    if (kMasked) {
      _mm256_maskstore_epi32(to, mask, value);
    } else {
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), value);
    }
  }
}

template <bool kMasked>
inline void int8_columns(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc,
                         size_t acc_stride, size_t m, size_t pairs, bool accumulate, __m256i mask) {
  size_t i = 0;
  for (; i + 8 <= m; i += 8) {
    int8_block<8, kMasked>(a + i * a_stride, a_stride, w2, w2_stride, acc + i * acc_stride, acc_stride, pairs,
                           accumulate, mask);
  }
  for (; i < m; ++i) {
    int8_block<1, kMasked>(a + i * a_stride, a_stride, w2, w2_stride, acc + i * acc_stride, acc_stride, pairs,
                           accumulate, mask);
  }
}

inline void widen_fp16_bulk(const void *source, float *target, size_t n) {
  const auto *from = static_cast<const Unaligned<uint16_t> *>(source);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i));
    _mm256_storeu_ps(target + i, canonical(_mm256_cvtph_ps(bits)));
  }
  for (; i < n; ++i) target[i] = widen_fp16(from[i].value);
}

inline void narrow_fp16_bulk(const float *source, void *target, size_t n) {
  auto *to = static_cast<Unaligned<uint16_t> *>(target);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 value = canonical(_mm256_loadu_ps(source + i));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; ++i) {
    to[i].value = static_cast<uint16_t>(narrow_float<10, 15, 16>(source[i], 0x7BFF, 0x7C00, 0x7E00));
  }
}

}  // namespace

bool compiled_in() { return true; }

void widen(DType type, const void *source, float *target, size_t n) {
  if (type == DType::FP16) return widen_fp16_bulk(source, target, n);
  widen_common(type, source, target, n);
}

void narrow(DType type, const float *source, void *target, size_t n, Overflow overflow) {
  if (type == DType::FP16) return narrow_fp16_bulk(source, target, n);
  narrow_common(type, source, target, n, overflow);
}

void mac_fp(const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc, size_t acc_stride, size_t m,
            size_t n, size_t k, bool accumulate) {
  size_t j = m == 1 ? fp_single_row(a, w, w_stride, acc, n, k, accumulate) : 0;
  const __m256i all = _mm256_set1_epi32(-1);
  for (; j + 16 <= n; j += 16) {
    fp_columns<2, false>(a, a_stride, w + j, w_stride, acc + j, acc_stride, m, k, accumulate, all);
  }
  const size_t rest = n - j;
  if (rest == 0) return;
  const __m256i last = first_lanes(rest & 7);
  if (rest > 8) {
    fp_columns<2, true>(a, a_stride, w + j, w_stride, acc + j, acc_stride, m, k, accumulate, last);
  } else if (rest == 8) {
    fp_columns<1, false>(a, a_stride, w + j, w_stride, acc + j, acc_stride, m, k, accumulate, all);
  } else {
    fp_columns<1, true>(a, a_stride, w + j, w_stride, acc + j, acc_stride, m, k, accumulate, last);
  }
}

void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, bool accumulate) {
  const size_t pairs = (k + 1) / 2;
  size_t j = 0;
  for (; j + 8 <= n; j += 8) {
    int8_columns<false>(a, a_stride, w2 + j, w2_stride, acc + j, acc_stride, m, pairs, accumulate,
                        _mm256_setzero_si256());
  }
  if (j < n) {
    int8_columns<true>(a, a_stride, w2 + j, w2_stride, acc + j, acc_stride, m, pairs, accumulate, first_lanes(n - j));
  }
}

}  // namespace cx::num::avx2

#else
namespace cx::num::avx2 {
bool compiled_in() { return false; }
void widen(DType, const void *, float *, size_t) { __builtin_unreachable(); }
void narrow(DType, const float *, void *, size_t, Overflow) { __builtin_unreachable(); }
void mac_fp(const float *, size_t, const float *, size_t, float *, size_t, size_t, size_t, size_t, bool) {
  __builtin_unreachable();
}
void mac_int8(const int16_t *, size_t, const uint32_t *, size_t, int32_t *, size_t, size_t, size_t, size_t, bool) {
  __builtin_unreachable();
}
}  // namespace cx::num::avx2
#endif
