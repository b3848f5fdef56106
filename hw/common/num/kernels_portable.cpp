#include <cfloat>
#include <cmath>

#include "hw/common/num/kernels.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

static_assert(FLT_EVAL_METHOD == 0, "float and double arithmetic must round to their own formats");

// Sums live in registers only if every loop over them disappears before the compiler decides what is memory.
#define CX_UNROLL _Pragma("GCC unroll 16")

namespace cx::num::portable {
namespace {
#include "hw/common/num/convert_loops.inl"

constexpr size_t kLanes = 4;
using Floats = float __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
using Doubles = double __attribute__((vector_size(16)));
using Longs = int64_t __attribute__((vector_size(16)));

/// The first `count` values at `from`, zeros behind them.
template <typename Vector, typename T>
inline Vector load(const T *from, size_t count) {
  Vector value{};
  switch (count) {
    case 1:
      __builtin_memcpy(&value, from, sizeof(T));
      break;
    case 2:
      __builtin_memcpy(&value, from, 2 * sizeof(T));
      break;
    case 3:
      __builtin_memcpy(&value, from, 3 * sizeof(T));
      break;
    default:
      if (count >= kLanes) __builtin_memcpy(&value, from, sizeof value);
  }
  return value;
}

#if defined(__SSE2__)
inline Doubles low_half(Floats v) { return _mm_cvtps_pd(v); }
inline Doubles high_half(Floats v) { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); }
inline Floats rounded(Doubles low, Doubles high) { return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)); }
inline Doubles rounded(Doubles v) { return _mm_cvtps_pd(_mm_cvtpd_ps(v)); }
#else
inline Doubles low_half(Floats v) { return Doubles{v[0], v[1]}; }
inline Doubles high_half(Floats v) { return Doubles{v[2], v[3]}; }
inline Floats rounded(Doubles low, Doubles high) {
  return Floats{static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
                static_cast<float>(high[1])};
}
/// Not by elements: g++ 12 then gives other results with -O3 than with -O0.
inline Doubles rounded(Doubles v) {
  using TwoFloats = float __attribute__((vector_size(8)));
  return __builtin_convertvector(__builtin_convertvector(v, TwoFloats), Doubles);
}
#endif

/// a * b + c, rounded to odd: cut off, with the last bit set if anything was lost. Rounding that to a format of 51 bits
/// or fewer, subnormal or not, gives what one rounding of the exact sum gives.
/// For a, b and c from FP32 the product is exact, and neither it nor the sum nor the error leaves the normal range of
/// double unless an operand is infinite or NaN; then the error is NaN and compares false. |error * sum| is 0 or at
/// least 2^-596.
inline Doubles round_to_odd(Doubles a, Doubles b, Doubles c) {
  const Doubles product = a * b;
  const Doubles sum = product + c;
  const Doubles added = sum - product;
  const Doubles error = (product - (sum - added)) + (c - added);
  const Doubles direction = error * sum;
  const Longs above = direction < 0.0;  // |sum| was rounded up: one step down is the cut-off value
  const Longs below = direction > 0.0;
  return reinterpret_cast<Doubles>((reinterpret_cast<Longs>(sum) + above) | ((above | below) & 1));
}

inline Floats fused(Floats a, Floats b, Floats c) {
  return rounded(round_to_odd(low_half(a), low_half(b), low_half(c)),
                 round_to_odd(high_half(a), high_half(b), high_half(c)));
}

/// The first `count` values to `to`.
inline void store(Floats value, float *to, size_t count) {
  if (count >= kLanes) {
    __builtin_memcpy(to, &value, sizeof value);
  } else {
    for (size_t c = 0; c < count; ++c) to[c] = value[c];
  }
}

/// The ends of up to 4 chains into FP32 accumulators.
inline void finish(Floats chain, float *to, size_t count, size_t i, size_t j, const Epilogue &epilogue) {
  const auto [row, column] = epilogue.scale;
  Floats value = chain;
  if (row == nullptr && column == nullptr) {
    if (epilogue.accumulate) value += load<Floats>(to, count);
  } else {
    const Floats ones = {1, 1, 1, 1};
    Floats scale = column != nullptr ? load<Floats>(column + j, count) : ones;
    if (row != nullptr) scale *= row[i];
    value = epilogue.accumulate ? fused(chain, scale, load<Floats>(to, count)) : chain * scale;
  }
  const Floats nan = reinterpret_cast<Floats>(Ints{} + static_cast<int32_t>(kCanonicalNan));
  store(value == value ? value : nan, to, count);
}

struct FpTask {
  const float *a;
  size_t a_stride;
  const float *w;
  size_t w_stride;
  float *acc;
  size_t acc_stride;
  size_t m, n, k;
  const Epilogue &epilogue;
};

/// kRows x `width` (at most 8) outputs whose products are exact in FP32, so that plain arithmetic rounds as wanted.
template <unsigned kPack, int kRows, bool kWhole>
inline void exact_block(const FpTask &task, size_t i, size_t j, size_t width) {
  Floats sum[kRows][2] = {};
  const size_t first = kWhole || width > kLanes ? kLanes : width;
  const size_t second = kWhole ? kLanes : width > kLanes ? width - kLanes : 0;
  const float *a = task.a + i * task.a_stride;
  const float *w = task.w + j;
  const auto step = [&](unsigned count) __attribute__((always_inline)) {
    Floats weight[kPack][2];
    CX_UNROLL for (unsigned p = 0; p < kPack; ++p) {
      if (p >= count) continue;
      weight[p][0] = load<Floats>(w + p * task.w_stride, first);
      weight[p][1] = load<Floats>(w + p * task.w_stride + kLanes, second);
    }
    CX_UNROLL for (int row = 0; row < kRows; ++row) {
      const float *from = a + row * task.a_stride;
      CX_UNROLL for (int v = 0; v < 2; ++v) {
        Floats group = from[0] * weight[0][v];
        if (count >= 2) group += from[1] * weight[1][v];
        if (count >= 3) {
          Floats other = from[2] * weight[2][v];
          if (count == 4) other += from[3] * weight[3][v];
          group += other;
        }
        sum[row][v] += group;
      }
    }
    a += kPack;
    w += kPack * task.w_stride;
  };
  size_t left = task.k;
  for (; left >= kPack; left -= kPack) step(kPack);
  if (kPack > 1 && left == 1) step(1);
  if (kPack > 2 && left == 2) step(2);
  if (kPack > 2 && left == 3) step(3);
  CX_UNROLL for (int row = 0; row < kRows; ++row) {
    float *to = task.acc + (i + row) * task.acc_stride + j;
    finish(sum[row][0], to, first, i + row, j, task.epilogue);
    if (second != 0) finish(sum[row][1], to + kLanes, second, i + row, j + kLanes, task.epilogue);
  }
}

template <unsigned kPack, bool kWhole>
inline void exact_rows(const FpTask &task, size_t j, size_t width) {
  constexpr int kRows = kPack == 4 ? 2 : 4;
  size_t i = 0;
  for (; i + kRows <= task.m; i += kRows) exact_block<kPack, kRows, kWhole>(task, i, j, width);
  for (; i < task.m; ++i) exact_block<kPack, 1, kWhole>(task, i, j, width);
}

template <unsigned kPack>
void exact_products(const FpTask &task) {
  size_t j = 0;
  for (; j + 2 * kLanes <= task.n; j += 2 * kLanes) exact_rows<kPack, true>(task, j, 2 * kLanes);
  if (j < task.n) exact_rows<kPack, false>(task, j, task.n - j);
}

/// True if every product of two such values is exact in FP32 or infinite or NaN for both: at most 12 significant bits,
/// magnitude 0, 2^-63 to 2^64, infinity or NaN. Widened FP16 and FP8 always are so.
inline bool short_values(const float *values, size_t stride, size_t rows, size_t columns) {
  constexpr uint32_t kLow = (127u - 63) << 23, kHigh = (127u + 64) << 23;
  for (size_t i = 0; i < rows; ++i) {
    uint32_t other = 0;
    for (size_t c = 0; c < columns; ++c) {
      const uint32_t bits = as_bits(values[i * stride + c]);
      const uint32_t magnitude = bits & 0x7FFFFFFFu;
      const uint32_t outside = (magnitude - kLow >= kHigh - kLow) & (magnitude != 0) & (magnitude < 0x7F800000u);
      other |= outside | (((bits & 0xFFFu) != 0) & (magnitude <= 0x7F800000u));
    }
    if (other != 0) return false;
  }
  return true;
}

/// All ones in each lane whose sum might convert to another float than the exact sum: the midpoints of two normal
/// floats, and everything below twice the smallest normal float but 0.
inline Ints doubtful(Doubles low, Doubles high) {
  constexpr int kLow = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 1, kHigh = 1 - kLow;
  const Ints first = reinterpret_cast<Ints>(low), second = reinterpret_cast<Ints>(high);
  const Ints tail = __builtin_shufflevector(first, second, kLow, kLow + 2, kLow + 4, kLow + 6);
  const Ints head = __builtin_shufflevector(first, second, kHigh, kHigh + 2, kHigh + 4, kHigh + 6) & INT32_MAX;
  return ((tail << 3) == INT32_MIN) | ((head < ((1023 - 125) << 20)) & (head > 0));
}

inline bool any(Ints mask) {
  const Longs halves = reinterpret_cast<Longs>(mask);
  return (halves[0] | halves[1]) != 0;
}

/// One row of `width` (at most 8) outputs of full FP32 operands, held as doubles. A double sum that is no midpoint of
/// two floats converts as the exact sum does; the few steps with a doubtful one are done again by round_to_odd.
template <bool kWhole>
inline void rounded_block(const FpTask &task, size_t i, size_t j, size_t width) {
  const size_t first = kWhole || width > kLanes ? kLanes : width;
  const size_t second = kWhole ? kLanes : width > kLanes ? width - kLanes : 0;
  const float *a = task.a + i * task.a_stride;
  const float *w = task.w + j;
  Doubles sum[4] = {};
  for (size_t r = 0; r < task.k; ++r, w += task.w_stride) {
    const double activation = a[r];
    const Floats narrow[2] = {load<Floats>(w, first), load<Floats>(w + kLanes, second)};
    const Doubles weight[4] = {low_half(narrow[0]), high_half(narrow[0]), low_half(narrow[1]), high_half(narrow[1])};
    Doubles next[4];
    CX_UNROLL for (int v = 0; v < 4; ++v) next[v] = activation * weight[v] + sum[v];
    if (any(doubtful(next[0], next[1]) | doubtful(next[2], next[3]))) [[unlikely]] {
      CX_UNROLL for (int v = 0; v < 4; ++v) next[v] = round_to_odd(Doubles{activation, activation}, weight[v], sum[v]);
    }
    CX_UNROLL for (int v = 0; v < 4; ++v) sum[v] = rounded(next[v]);
  }
  float *to = task.acc + i * task.acc_stride + j;
  finish(rounded(sum[0], sum[1]), to, first, i, j, task.epilogue);
  if (second != 0) finish(rounded(sum[2], sum[3]), to + kLanes, second, i, j + kLanes, task.epilogue);
}

void rounded_products(const FpTask &task) {
  for (size_t j = 0; j < task.n; j += 2 * kLanes) {
    const size_t width = task.n - j;
    for (size_t i = 0; i < task.m; ++i) {
      if (width >= 2 * kLanes) {
        rounded_block<true>(task, i, j, 2 * kLanes);
      } else {
        rounded_block<false>(task, i, j, width);
      }
    }
  }
}

inline Ints wrapping_sum(Ints a, Ints b) {
  return reinterpret_cast<Ints>(reinterpret_cast<Words>(a) + reinterpret_cast<Words>(b));
}

/// sum + low halves' product + high halves' product, per lane.
inline Ints multiply_pairs(Ints sum, int32_t pair, Ints weight) {
#if defined(__SSE2__)
  return wrapping_sum(sum,
                      reinterpret_cast<Ints>(_mm_madd_epi16(_mm_set1_epi32(pair), reinterpret_cast<__m128i>(weight))));
#else
  const int32_t low = static_cast<int16_t>(pair), high = pair >> 16;
  return wrapping_sum(sum, low * ((weight << 16) >> 16) + high * (weight >> 16));
#endif
}

struct Int8Task {
  const int16_t *a;
  size_t a_stride;
  const uint32_t *w2;
  size_t w2_stride, m, n, k;
};

/// Hands the sums of up to 4 columns of one row to store(sums, i, j, count).
template <int kRows, bool kWhole, typename Store>
inline void int8_block(const Int8Task &task, size_t i, size_t j, size_t width, Store store) {
  Ints sum[kRows][2] = {};
  const size_t first = kWhole || width > kLanes ? kLanes : width;
  const size_t second = kWhole ? kLanes : width > kLanes ? width - kLanes : 0;
  const int16_t *a = task.a + i * task.a_stride;
  const uint32_t *w = task.w2 + j;
  for (size_t r = 0; r < task.k; r += 2, a += 2, w += task.w2_stride) {
    const Ints weight[2] = {load<Ints>(w, first), load<Ints>(w + kLanes, second)};
    CX_UNROLL for (int row = 0; row < kRows; ++row) {
      int32_t pair;
      __builtin_memcpy(&pair, a + row * task.a_stride, sizeof pair);
      CX_UNROLL for (int v = 0; v < 2; ++v) sum[row][v] = multiply_pairs(sum[row][v], pair, weight[v]);
    }
  }
  CX_UNROLL for (int row = 0; row < kRows; ++row) {
    store(sum[row][0], i + row, j, first);
    if (second != 0) store(sum[row][1], i + row, j + kLanes, second);
  }
}

template <bool kWhole, typename Store>
inline void int8_rows(const Int8Task &task, size_t j, size_t width, Store store) {
  size_t i = 0;
  for (; i + 4 <= task.m; i += 4) int8_block<4, kWhole>(task, i, j, width, store);
  for (; i < task.m; ++i) int8_block<1, kWhole>(task, i, j, width, store);
}

template <typename Store>
inline void int8_all(const Int8Task &task, Store store) {
  size_t j = 0;
  for (; j + 2 * kLanes <= task.n; j += 2 * kLanes) int8_rows<true>(task, j, 2 * kLanes, store);
  if (j < task.n) int8_rows<false>(task, j, task.n - j, store);
}

inline uint32_t is_zero(float value) { return value == 0; }
inline uint32_t is_zero(int16_t value) { return value == 0; }

template <unsigned kPack, typename T>
uint64_t count_zero_groups(const T *a, size_t a_stride, size_t m, size_t k) {
  constexpr size_t kPiece = 4096;  // groups counted in 32 bits
  const size_t groups = k / kPack;
  uint64_t sum = 0;
  for (size_t i = 0; i < m; ++i, a += a_stride) {
    for (size_t begin = 0; begin < groups; begin += kPiece) {
      const size_t end = groups - begin < kPiece ? groups : begin + kPiece;
      uint32_t count = 0;
      for (size_t g = begin; g < end; ++g) {
        uint32_t zero = 1;
        CX_UNROLL for (unsigned p = 0; p < kPack; ++p) zero &= is_zero(a[g * kPack + p]);
        count += zero;
      }
      sum += count;
    }
    if (groups * kPack < k) {
      uint32_t zero = 1;
      for (size_t r = groups * kPack; r < k; ++r) zero &= is_zero(a[r]);
      sum += zero;
    }
  }
  return sum;
}
}  // namespace

void widen(DType type, const void *source, float *target, size_t n) {
  if (type == DType::FP16) {
    return widen_loop<uint16_t>(source, target, n, [](uint16_t v) { return widen_fp16(v); });
  }
  widen_common(type, source, target, n);
}

void narrow(DType type, const float *source, void *target, size_t n, Overflow overflow) {
  if (type == DType::FP16) {
    return narrow_loop<uint16_t>(source, target, n,
                                 [](float v) { return narrow_float<10, 15, 16>(v, 0x7BFF, 0x7C00, 0x7E00); });
  }
  narrow_common(type, source, target, n, overflow);
}

void mac_fp(unsigned pack, const float *a, size_t a_stride, const float *w, size_t w_stride, float *acc,
            size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  const FpTask task{a, a_stride, w, w_stride, acc, acc_stride, m, n, k, epilogue};
  if (pack == 4) return exact_products<4>(task);
  if (pack == 2) return exact_products<2>(task);
  if (short_values(a, a_stride, m, k) && short_values(w, w_stride, k, n)) return exact_products<1>(task);
  rounded_products(task);
}

void mac_int8(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, int32_t *acc, size_t acc_stride,
              size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  const bool accumulate = epilogue.accumulate;
  int8_all(Int8Task{a, a_stride, w2, w2_stride, m, n, k}, [=](Ints sums, size_t i, size_t j, size_t count) {
    int32_t *to = acc + i * acc_stride + j;
    if (accumulate) sums = wrapping_sum(sums, load<Ints>(to, count));
    if (count == kLanes) {
      __builtin_memcpy(to, &sums, sizeof sums);
    } else {
      for (size_t c = 0; c < count; ++c) to[c] = sums[c];
    }
  });
}

void mac_int8_scaled(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  int8_all(Int8Task{a, a_stride, w2, w2_stride, m, n, k}, [&](Ints sums, size_t i, size_t j, size_t count) {
    finish(__builtin_convertvector(sums, Floats), acc + i * acc_stride + j, count, i, j, epilogue);
  });
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

}  // namespace cx::num::portable
