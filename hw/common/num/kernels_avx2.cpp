#include "hw/common/num/kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

// Sums live in registers only if every loop over them disappears before the compiler decides what is memory.
#define CX_UNROLL _Pragma("GCC unroll 16")

namespace cx::num::avx2 {
namespace {
#include "hw/common/num/convert_loops.inl"

constexpr size_t kLanes = 8;
/// INT32 sums, wrapping. As __m256i (64-bit lanes to the compiler) they would be copied at every addition.
using Words = uint32_t __attribute__((vector_size(32)));

inline __m256i first_lanes(size_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline __m256 canonical(__m256 value) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(kCanonicalNan)));
  return _mm256_blendv_ps(value, nan, _mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}

template <bool kMasked>
inline __m256 load(const float *from, __m256i mask) {
  return kMasked ? _mm256_maskload_ps(from, mask) : _mm256_loadu_ps(from);
}

template <bool kMasked>
inline __m256i load(const int32_t *from, __m256i mask) {
  return kMasked ? _mm256_maskload_epi32(from, mask) : _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
}

template <bool kMasked>
inline __m256i load(const uint32_t *from, __m256i mask) {
  return load<kMasked>(reinterpret_cast<const int32_t *>(from), mask);
}

template <bool kMasked>
inline void store(float *to, __m256i mask, __m256 value) {
  if (kMasked) {
    _mm256_maskstore_ps(to, mask, value);
  } else {
    _mm256_storeu_ps(to, value);
  }
}

template <bool kMasked>
inline void store(int32_t *to, __m256i mask, __m256i value) {
  if (kMasked) {
    _mm256_maskstore_epi32(to, mask, value);
  } else {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), value);
  }
}

/// FP32 chains of kPack products a step.
template <unsigned kPack>
struct FpChain {
  using Activation = float;
  using Weight = float;
  using Accumulator = float;
  using Sum = __m256;
  static constexpr unsigned kStep = kPack;  // activations of one step
  static constexpr int kRows1 = 8, kRows2 = kPack == 1 ? 6 : 8 / static_cast<int>(kPack);

  static Sum zero() { return _mm256_setzero_ps(); }

  /// One step from `count` products, kPack but at the end of k.
  static Sum step(Sum sum, const float *a, const __m256 *weight, unsigned count) {
    if (kPack == 1) return _mm256_fmadd_ps(_mm256_broadcast_ss(a), weight[0], sum);
    // The products are exact, so that a fused one adds with the one rounding wanted.
    __m256 group = _mm256_mul_ps(_mm256_broadcast_ss(a + 0), weight[0]);
    if (count >= 2) group = _mm256_fmadd_ps(_mm256_broadcast_ss(a + 1), weight[1], group);
    if (count >= 3) {
      __m256 second = _mm256_mul_ps(_mm256_broadcast_ss(a + 2), weight[2]);
      if (count == 4) second = _mm256_fmadd_ps(_mm256_broadcast_ss(a + 3), weight[3], second);
      group = _mm256_add_ps(group, second);
    }
    return _mm256_add_ps(sum, group);
  }
};

/// INT32 sums of pairs of INT8 products (16-bit activations, weights in pairs).
template <typename Target>
struct Int8Chain {
  using Activation = int16_t;
  using Weight = uint32_t;
  using Accumulator = Target;
  using Sum = Words;
  static constexpr unsigned kStep = 2;
  static constexpr int kRows1 = 8, kRows2 = 4;

  static Sum zero() { return Sum{}; }

  static Sum step(Sum sum, const int16_t *a, const __m256i *weight, unsigned) {
    int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return sum + reinterpret_cast<Words>(_mm256_madd_epi16(_mm256_set1_epi32(pair), weight[0]));
  }
};

template <typename Chain>
struct Task {
  const typename Chain::Activation *a;
  size_t a_stride;
  const typename Chain::Weight *w;
  size_t w_stride;
  typename Chain::Accumulator *acc;
  size_t acc_stride;
  size_t m, n, k;
  const Epilogue &epilogue;
};

/// Rows of weights that one step takes.
template <typename Chain>
constexpr unsigned kWeightRows = sizeof(typename Chain::Activation) == 4 ? Chain::kStep : 1;

/// Applies `end` (value, present accumulators, row, vector) to all sums of a block and stores what it returns.
template <int kRows, int kVectors, bool kMasked, bool kPresent, typename T, typename Sum, typename End>
inline void store_block(Sum (&sum)[kRows][kVectors], T *acc, size_t acc_stride, __m256i last, End end) {
  CX_UNROLL for (int row = 0; row < kRows; ++row) {
    CX_UNROLL for (int v = 0; v < kVectors; ++v) {
      T *to = acc + row * acc_stride + kLanes * v;
      if (v == kVectors - 1) {
        store<kMasked>(
            to, last, end(sum[row][v], kPresent ? load<kMasked>(to, last) : decltype(load<false>(to, last)){}, row, v));
      } else {
        store<false>(to, last,
                     end(sum[row][v], kPresent ? load<false>(to, last) : decltype(load<false>(to, last)){}, row, v));
      }
    }
  }
}

inline __m256 as_floats(__m256 sum) { return sum; }
inline __m256 as_floats(Words sum) { return _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(sum)); }

/// The ends of the chains of a block into FP32 accumulators.
template <int kRows, int kVectors, bool kMasked, typename Sum>
inline void finish(Sum (&sum)[kRows][kVectors], float *acc, size_t acc_stride, size_t i, size_t j,
                   const Epilogue &epilogue, __m256i last) {
  const auto [row_scale, column_scale] = epilogue.scale;
  if (row_scale == nullptr && column_scale == nullptr) {
    if (epilogue.accumulate) {
      store_block<kRows, kVectors, kMasked, true>(sum, acc, acc_stride, last, [](Sum chain, __m256 present, int, int) {
        return canonical(_mm256_add_ps(present, as_floats(chain)));
      });
    } else {
      store_block<kRows, kVectors, kMasked, false>(
          sum, acc, acc_stride, last, [](Sum chain, __m256, int, int) { return canonical(as_floats(chain)); });
    }
    return;
  }
  const float *rows = row_scale != nullptr ? row_scale + i : nullptr;
  __m256 column[kVectors];
  CX_UNROLL for (int v = 0; v < kVectors; ++v) {
    column[v] = _mm256_set1_ps(1.0f);
    if (column_scale == nullptr) continue;
    const float *from = column_scale + j + kLanes * v;
    column[v] = v == kVectors - 1 ? load<kMasked>(from, last) : load<false>(from, last);
  }
  const auto scale = [&](int row, int v) {
    return rows == nullptr ? column[v] : _mm256_mul_ps(_mm256_broadcast_ss(rows + row), column[v]);
  };
  if (epilogue.accumulate) {
    store_block<kRows, kVectors, kMasked, true>(
        sum, acc, acc_stride, last, [&](Sum chain, __m256 present, int row, int v) {
          return canonical(_mm256_fmadd_ps(as_floats(chain), scale(row, v), present));
        });
  } else {
    store_block<kRows, kVectors, kMasked, false>(sum, acc, acc_stride, last, [&](Sum chain, __m256, int row, int v) {
      return canonical(_mm256_mul_ps(as_floats(chain), scale(row, v)));
    });
  }
}

/// INT32 sums into INT32 accumulators; there are no scales.
template <int kRows, int kVectors, bool kMasked>
inline void finish(Words (&sum)[kRows][kVectors], int32_t *acc, size_t acc_stride, size_t, size_t,
                   const Epilogue &epilogue, __m256i last) {
  if (epilogue.accumulate) {
    store_block<kRows, kVectors, kMasked, true>(sum, acc, acc_stride, last, [](Words chain, __m256i present, int, int) {
      return _mm256_add_epi32(present, reinterpret_cast<__m256i>(chain));
    });
  } else {
    store_block<kRows, kVectors, kMasked, false>(
        sum, acc, acc_stride, last, [](Words chain, __m256i, int, int) { return reinterpret_cast<__m256i>(chain); });
  }
}

/// kRows x (8 * kVectors) outputs from (i, j) on, held in registers over the whole chain. When kMasked, the last vector
/// of columns has `lanes` of them. Not inlined: a loop alone in its function gets all registers.
template <typename Chain, int kRows, int kVectors, bool kMasked>
__attribute__((noinline)) void block(const Task<Chain> &task, size_t i, size_t j, size_t lanes) {
  const __m256i last = kMasked ? first_lanes(lanes) : _mm256_setzero_si256();
  using Sum = typename Chain::Sum;
  constexpr unsigned kTaken = kWeightRows<Chain>;
  Sum sum[kRows][kVectors];
  CX_UNROLL for (int row = 0; row < kRows; ++row) {
    CX_UNROLL for (int v = 0; v < kVectors; ++v) sum[row][v] = Chain::zero();
  }
  const auto *a = task.a + i * task.a_stride;
  const auto *w = task.w + j;
  const auto step = [&](unsigned count) __attribute__((always_inline)) {
    decltype(load<false>(w, last)) weight[kVectors][kTaken];
    CX_UNROLL for (int v = 0; v < kVectors; ++v) {
      CX_UNROLL for (unsigned p = 0; p < kTaken; ++p) {
        if (kTaken > 1 && p >= count) continue;
        const auto *from = w + p * task.w_stride + kLanes * v;
        weight[v][p] = v == kVectors - 1 ? load<kMasked>(from, last) : load<false>(from, last);
      }
    }
    CX_UNROLL for (int row = 0; row < kRows; ++row) {
      CX_UNROLL for (int v = 0; v < kVectors; ++v) {
        sum[row][v] = Chain::step(sum[row][v], a + row * task.a_stride, weight[v], count);
      }
    }
    a += Chain::kStep;
    w += kTaken * task.w_stride;
  };
  size_t left = task.k;
  for (; left >= Chain::kStep; left -= Chain::kStep) step(Chain::kStep);
  if (Chain::kStep > 1) {
    if (left == 1) step(1);
    if (Chain::kStep > 2) {
      if (left == 2) step(2);
      if (left == 3) step(3);
    }
  }
  finish<kRows, kVectors, kMasked>(sum, task.acc + i * task.acc_stride + j, task.acc_stride, i, j, task.epilogue, last);
}

template <typename Chain, int kVectors, bool kMasked>
inline void all_rows(const Task<Chain> &task, size_t j, size_t lanes) {
  constexpr int kRows = kVectors == 1 ? Chain::kRows1 : Chain::kRows2;
  size_t i = 0;
  for (; i + kRows <= task.m; i += kRows) block<Chain, kRows, kVectors, kMasked>(task, i, j, lanes);
  if constexpr (kRows > 4) {
    if (i + 4 <= task.m) {
      block<Chain, 4, kVectors, kMasked>(task, i, j, lanes);
      i += 4;
    }
  }
  if (i + 2 <= task.m) {
    block<Chain, 2, kVectors, kMasked>(task, i, j, lanes);
    i += 2;
  }
  if (i < task.m) block<Chain, 1, kVectors, kMasked>(task, i, j, lanes);
}

template <typename Chain>
inline void multiply(const Task<Chain> &task) {
  constexpr bool kManyWeights = kWeightRows<Chain> == 4;  // two vectors of columns leave too few registers for sums
  const size_t m = task.m, n = task.n;
  size_t j = 0;
  // With one or two rows the latency of a chain is hidden by columns instead.
  if constexpr (!kManyWeights) {
    if (m == 1) {
      for (; j + 4 * kLanes <= n; j += 4 * kLanes) block<Chain, 1, 4, false>(task, 0, j, kLanes);
    } else if (m == 2 && kWeightRows<Chain> == 1) {
      for (; j + 4 * kLanes <= n; j += 4 * kLanes) block<Chain, 2, 4, false>(task, 0, j, kLanes);
    }
  }
  if (!kManyWeights || m <= 2) {
    for (; j + 2 * kLanes <= n; j += 2 * kLanes) all_rows<Chain, 2, false>(task, j, kLanes);
  } else {
    for (; j + kLanes <= n; j += kLanes) all_rows<Chain, 1, false>(task, j, kLanes);
  }
  const size_t rest = n - j;
  if (rest == 0) return;
  if (rest > kLanes) {
    all_rows<Chain, 2, true>(task, j, rest % kLanes);
  } else if (rest == kLanes) {
    all_rows<Chain, 1, false>(task, j, kLanes);
  } else {
    all_rows<Chain, 1, true>(task, j, rest % kLanes);
  }
}

inline uint64_t sum_lanes(__m256i counts) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i wide = _mm256_add_epi64(_mm256_unpacklo_epi32(counts, zero), _mm256_unpackhi_epi32(counts, zero));
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half))));
}

inline __m256i zeros(const float *a) {
  return _mm256_castps_si256(_mm256_cmp_ps(_mm256_loadu_ps(a), _mm256_setzero_ps(), _CMP_EQ_OQ));
}

/// Zero groups among the first `valid` of 8 lanes; the lanes behind them are zero.
template <unsigned kPack>
inline uint64_t zero_groups(__m256 values, size_t valid) {
  auto mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_EQ_OQ)));
  if (kPack >= 2) mask &= mask >> 1;
  if (kPack == 4) mask &= mask >> 2;
  constexpr unsigned kFirst = kPack == 1 ? 0xFF : kPack == 2 ? 0x55 : 0x11;
  return static_cast<uint64_t>(__builtin_popcount(mask & kFirst & ((1u << valid) - 1)));
}

/// Zero groups of a whole number of 32-value pieces.
template <unsigned kPack>
inline uint64_t zero_groups(const float *a, size_t pieces) {
  constexpr size_t kFold = size_t{1} << 24;  // pieces before a 32-bit count could wrap
  const __m256i all = _mm256_set1_epi32(-1);
  uint64_t sum = 0;
  while (pieces > 0) {
    __m256i count = _mm256_setzero_si256();
    const size_t now = pieces < kFold ? pieces : kFold;
    for (size_t piece = 0; piece < now; ++piece, a += 4 * kLanes) {
      const __m256i z0 = zeros(a), z1 = zeros(a + kLanes), z2 = zeros(a + 2 * kLanes), z3 = zeros(a + 3 * kLanes);
      if (kPack == 1) {
        count = _mm256_sub_epi32(count, _mm256_add_epi32(_mm256_add_epi32(z0, z1), _mm256_add_epi32(z2, z3)));
        continue;
      }
      // Saturating packs keep neighbours together: a group of 2 becomes one 32-bit lane, with two packs a group of 4.
      const __m256i low = _mm256_packs_epi32(z0, z1), high = _mm256_packs_epi32(z2, z3);
      if (kPack == 2) {
        count = _mm256_sub_epi32(count, _mm256_add_epi32(_mm256_cmpeq_epi32(low, all), _mm256_cmpeq_epi32(high, all)));
      } else {
        count = _mm256_sub_epi32(count, _mm256_cmpeq_epi32(_mm256_packs_epi16(low, high), all));
      }
    }
    sum += sum_lanes(count);
    pieces -= now;
  }
  return sum;
}

template <unsigned kPack>
inline uint64_t count_zero_groups(const float *a, size_t a_stride, size_t m, size_t k) {
  if (k == a_stride && k % kPack == 0) {
    k *= m;
    m = 1;
  }
  uint64_t sum = 0;
  const __m256i tail = first_lanes(k % kLanes);
  for (size_t i = 0; i < m; ++i, a += a_stride) {
    size_t r = k / (4 * kLanes) * (4 * kLanes);
    if (r > 0) sum += zero_groups<kPack>(a, r / (4 * kLanes));
    for (; r + kLanes <= k; r += kLanes) sum += zero_groups<kPack>(_mm256_loadu_ps(a + r), kLanes);
    if (r < k) sum += zero_groups<kPack>(_mm256_maskload_ps(a + r, tail), k - r);
  }
  return sum;
}

/// Minus the number of zero groups in each 32-bit lane (pack 4: in the upper half of each 64-bit lane).
template <unsigned kPack>
inline __m256i zero_groups(__m256i values) {
  const __m256i zero = _mm256_setzero_si256();
  if (kPack == 1) return _mm256_madd_epi16(_mm256_cmpeq_epi16(values, zero), _mm256_set1_epi16(1));
  if (kPack == 2) return _mm256_cmpeq_epi32(values, zero);
  return _mm256_slli_epi64(_mm256_cmpeq_epi64(values, zero), 32);
}

template <unsigned kPack>
inline uint64_t count_zero_groups(const int16_t *a, size_t a_stride, size_t m, size_t k) {
  if (k == a_stride && k % kPack == 0) {
    k *= m;
    m = 1;
  }
  constexpr size_t kVector = 16, kFold = size_t{1} << 24;  // vectors before a 32-bit count could wrap
  uint64_t sum = 0;
  for (size_t i = 0; i < m; ++i, a += a_stride) {
    size_t r = 0;
    while (r + kVector <= k) {
      const size_t vectors = (k - r) / kVector < kFold ? (k - r) / kVector : kFold;
      __m256i count = _mm256_setzero_si256();
      for (size_t v = 0; v < vectors; ++v, r += kVector) {
        const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a + r));
        count = _mm256_sub_epi32(count, zero_groups<kPack>(values));
      }
      sum += sum_lanes(count);
    }
    if (r + kVector / 2 <= k) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i *>(a + r));
      const __m256i values = _mm256_inserti128_si256(_mm256_set1_epi32(-1), half, 0);
      sum += sum_lanes(_mm256_sub_epi32(_mm256_setzero_si256(), zero_groups<kPack>(values)));
      r += kVector / 2;
    }
    for (; r < k; r += kPack) {
      bool zero = true;
      for (size_t p = r; p < r + kPack && p < k; ++p) zero = zero && a[p] == 0;
      sum += zero;
    }
  }
  return sum;
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

void mac_fp(unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc,
            size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  switch (pack) {
    case 1:
      return multiply(Task<FpChain<1>>{a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue});
    case 2:
      return multiply(Task<FpChain<2>>{a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue});
    default:
      return multiply(Task<FpChain<4>>{a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue});
  }
}

void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  multiply(Task<Int8Chain<int32_t>>{a, a_stride, w2, w2_stride, acc, acc_stride, m, n, (k + 1) / 2 * 2, epilogue});
}

void mac_int8_scaled(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  multiply(Task<Int8Chain<float>>{a, a_stride, w2, w2_stride, acc, acc_stride, m, n, (k + 1) / 2 * 2, epilogue});
}

uint64_t count_zeros(unsigned pack, const float *a, size_t a_stride, size_t m, size_t k) {
  return pack == 1   ? count_zero_groups<1>(a, a_stride, m, k)
         : pack == 2 ? count_zero_groups<2>(a, a_stride, m, k)
                     : count_zero_groups<4>(a, a_stride, m, k);
}

uint64_t count_zeros(unsigned pack, const int16_t *a, size_t a_stride, size_t m, size_t k) {
  return pack == 1   ? count_zero_groups<1>(a, a_stride, m, k)
         : pack == 2 ? count_zero_groups<2>(a, a_stride, m, k)
                     : count_zero_groups<4>(a, a_stride, m, k);
}

}  // namespace cx::num::avx2

#else
namespace cx::num::avx2 {
bool compiled_in() { return false; }
void widen(DType, const void *, float *, size_t) { __builtin_unreachable(); }
void narrow(DType, const float *, void *, size_t, Overflow) { __builtin_unreachable(); }
void mac_fp(unsigned, const float *, size_t, const float *, size_t, float *, size_t, size_t, size_t, size_t,
            const Epilogue &) {
  __builtin_unreachable();
}
void mac_int8(const int16_t *, size_t, const uint32_t *, size_t, int32_t *, size_t, size_t, size_t, size_t,
              const Epilogue &) {
  __builtin_unreachable();
}
void mac_int8_scaled(const int16_t *, size_t, const uint32_t *, size_t, float *, size_t, size_t, size_t, size_t,
                     const Epilogue &) {
  __builtin_unreachable();
}
uint64_t count_zeros(unsigned, const float *, size_t, size_t, size_t) { __builtin_unreachable(); }
uint64_t count_zeros(unsigned, const int16_t *, size_t, size_t, size_t) { __builtin_unreachable(); }
}  // namespace cx::num::avx2
#endif
