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

inline float scale_of(const BlockScale &scale, size_t i, size_t j) {
  return (scale.row != nullptr ? scale.row[i] : 1.0f) * (scale.column != nullptr ? scale.column[j] : 1.0f);
}

/// fma(a, b, c) from double arithmetic. The product is exact; the sum is rounded to odd (its last bit set if anything
/// was cut off), after which rounding to any format of 51 bits or fewer gives what one rounding of the exact sum gives.
/// Neither product nor sum leaves the normal range of double unless a or b is infinite or NaN; those make `error` NaN,
/// which compares false. |error * sum| is at least 2^-596 when not 0.
inline float fused(double a, double b, double c) {
  const double product = a * b;
  const double sum = product + c;
  const double added = sum - product;
  const double error = (product - (sum - added)) + (c - added);
  const double direction = error * sum;
  const int64_t above = direction < 0 ? -1 : 0;  // |sum| is too large: step down to the truncated value
  const int64_t below = direction > 0 ? -1 : 0;
  const int64_t bits = (__builtin_bit_cast(int64_t, sum) + above) | ((above | below) & 1);
  return static_cast<float>(__builtin_bit_cast(double, bits));
}

/// The end of one chain into FP32 accumulators; `count` values.
inline void finish(const float *chain, float *to, size_t count, size_t i, size_t j, const Epilogue &epilogue) {
  const bool scaled = epilogue.scale.row != nullptr || epilogue.scale.column != nullptr;
  for (size_t c = 0; c < count; ++c) {
    float value = chain[c];
    if (scaled) {
      const float scale = scale_of(epilogue.scale, i, j + c);
      value = epilogue.accumulate ? fused(value, scale, to[c]) : value * scale;
    } else if (epilogue.accumulate) {
      value = to[c] + value;
    }
    to[c] = value == value ? value : as_float(kCanonicalNan);
  }
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
  for (int row = 0; row < kRows; ++row) {
    float chain[2 * kLanes];
    __builtin_memcpy(chain, sum[row], sizeof chain);
    finish(chain, task.acc + (i + row) * task.acc_stride + j, width, i + row, j, task.epilogue);
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

/// kRows x kColumns outputs of full FP32 operands. A double sum that is no midpoint of two floats converts as the exact
/// sum does; the rare steps with a midpoint or a result near or below the smallest normal float are done again.
template <int kRows, int kColumns>
inline void rounded_block(const FpTask &task, size_t i, size_t j, size_t width) {
  float sum[kRows][kColumns] = {};
  double weight[kColumns] = {};
  for (size_t r = 0; r < task.k; ++r) {
    const float *w = task.w + r * task.w_stride + j;
    if (width == kColumns) {
      for (int c = 0; c < kColumns; ++c) weight[c] = w[c];
    } else {
      for (size_t c = 0; c < width; ++c) weight[c] = w[c];
    }
    for (int row = 0; row < kRows; ++row) {
      const double activation = task.a[(i + row) * task.a_stride + r];
      float next[kColumns];
      uint32_t doubtful = 0;
      for (int c = 0; c < kColumns; ++c) {
        const double exact = activation * weight[c] + static_cast<double>(sum[row][c]);
        const auto bits = __builtin_bit_cast(uint64_t, exact);
        const auto low = static_cast<uint32_t>(bits), high = static_cast<uint32_t>(bits >> 32) & 0x7FFFFFFFu;
        doubtful |= (low << 3) == 0x80000000u;
        doubtful |= high - 1 < ((1023u - 125) << 20) - 1;
        next[c] = static_cast<float>(exact);
      }
      if (doubtful != 0) {
        for (int c = 0; c < kColumns; ++c) next[c] = fused(activation, weight[c], sum[row][c]);
      }
      for (int c = 0; c < kColumns; ++c) sum[row][c] = next[c];
    }
  }
  for (int row = 0; row < kRows; ++row) {
    finish(sum[row], task.acc + (i + row) * task.acc_stride + j, width, i + row, j, task.epilogue);
  }
}

void rounded_products(const FpTask &task) {
  constexpr size_t kColumns = 8;
  for (size_t j = 0; j < task.n; j += kColumns) {
    const size_t width = task.n - j < kColumns ? task.n - j : kColumns;
    size_t i = 0;
    for (; i + 4 <= task.m; i += 4) rounded_block<4, kColumns>(task, i, j, width);
    for (; i < task.m; ++i) rounded_block<1, kColumns>(task, i, j, width);
  }
}

/// sum + low halves' product + high halves' product, per lane.
inline Ints multiply_pairs(Ints sum, int32_t pair, Ints weight) {
#if defined(__SSE2__)
  return sum + reinterpret_cast<Ints>(_mm_madd_epi16(_mm_set1_epi32(pair), reinterpret_cast<__m128i>(weight)));
#else
  const int32_t low = static_cast<int16_t>(pair), high = pair >> 16;
  return sum + low * ((weight << 16) >> 16) + high * (weight >> 16);
#endif
}

struct Int8Task {
  const int16_t *a;
  size_t a_stride;
  const uint32_t *w2;
  size_t w2_stride, m, n, k;
};

/// Hands the sums of up to 8 columns of one row to store(sums, i, j, count).
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
  for (int row = 0; row < kRows; ++row) {
    int32_t out[2 * kLanes];
    __builtin_memcpy(out, sum[row], sizeof out);
    store(out, i + row, j, width);
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
  int8_all(Int8Task{a, a_stride, w2, w2_stride, m, n, k}, [=](const int32_t *sums, size_t i, size_t j, size_t count) {
    int32_t *to = acc + i * acc_stride + j;
    for (size_t c = 0; c < count; ++c) {
      const uint32_t present = accumulate ? static_cast<uint32_t>(to[c]) : 0;
      to[c] = static_cast<int32_t>(present + static_cast<uint32_t>(sums[c]));
    }
  });
}

void mac_int8_scaled(const int16_t *a, size_t a_stride, const uint32_t *w2, size_t w2_stride, float *acc,
                     size_t acc_stride, size_t m, size_t n, size_t k, const Epilogue &epilogue) {
  int8_all(Int8Task{a, a_stride, w2, w2_stride, m, n, k}, [&](const int32_t *sums, size_t i, size_t j, size_t count) {
    float chain[2 * kLanes] = {};
    for (size_t c = 0; c < count; ++c) chain[c] = static_cast<float>(sums[c]);
    finish(chain, acc + i * acc_stride + j, count, i, j, epilogue);
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
