#include "hw/common/num/drain_kernels.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

// Nothing inline from the standard library here: compiled for a newer host, it could replace the program's own.
namespace cx::num::avx2 {
namespace {

inline __m256i all(uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }

inline __m256 select(__m256 mask, __m256 yes, __m256 no) { return _mm256_blendv_ps(no, yes, mask); }
inline __m256i select(__m256i mask, __m256i yes, __m256i no) { return _mm256_blendv_epi8(no, yes, mask); }

inline __m256 is_number(__m256 value) { return _mm256_cmp_ps(value, value, _CMP_ORD_Q); }

inline __m256 canonical(__m256 value) {
  return select(is_number(value), value, _mm256_castsi256_ps(all(kCanonicalNan)));
}

/// The low 16 bits of each lane, in order.
inline __m128i pack16(__m256i lanes) {
  const __m256i packed = _mm256_packus_epi32(lanes, lanes);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}

/// Eight lanes of 16 bits to 8 bytes, which the caller knows to fit.
inline void store8(__m128i words, void *to) { _mm_storel_epi64(static_cast<__m128i *>(to), words); }

/// Code of |value| in a format of kMantissa stored bits, as if its exponent had no upper end; 8 or 16 bits with the
/// sign.
template <int kMantissa, int kBias, int kBits>
inline __m256i float_code(__m256 value, uint32_t largest, uint32_t nan) {
  constexpr int kShift = 23 - kMantissa;
  constexpr uint32_t kRebias = 127 - kBias;
  // Adding this constant makes the FP32 adder round at the subnormal step of the target.
  constexpr uint32_t kAlign = (kRebias + 1 - kMantissa + 23) << 23;
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i magnitude = _mm256_and_si256(bits, all(0x7FFFFFFFu));
  const __m256i lsb = _mm256_and_si256(_mm256_srli_epi32(magnitude, kShift), all(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(magnitude, lsb), all((1u << (kShift - 1)) - 1));
  const __m256i normal = _mm256_sub_epi32(_mm256_srli_epi32(rounded, kShift), all(kRebias << kMantissa));
  const __m256 aligned = _mm256_add_ps(_mm256_castsi256_ps(magnitude), _mm256_castsi256_ps(all(kAlign)));
  const __m256i subnormal = _mm256_sub_epi32(_mm256_castps_si256(aligned), all(kAlign));
  const __m256i small = _mm256_cmpgt_epi32(all((kRebias + 1) << 23), magnitude);
  const __m256i code = _mm256_min_epi32(select(small, subnormal, normal), all(largest));
  const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(bits, 31), kBits - 1);
  return select(_mm256_cmpgt_epi32(magnitude, all(0x7F800000u)), all(nan), _mm256_or_si256(code, sign));
}

inline __m256i integer_between(__m256 value, float low, float high) {
  // A false comparison with NaN takes the second operand; NaN becomes 0 first.
  const __m256 number = _mm256_and_ps(value, is_number(value));
  return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(number, _mm256_set1_ps(low)), _mm256_set1_ps(high)));
}

template <DType kOut>
inline void store(__m256 value, void *to) {
  if constexpr (kOut == DType::FP32) {
    _mm256_storeu_ps(static_cast<float *>(to), canonical(value));
  } else if constexpr (kOut == DType::FP16) {
    _mm_storeu_si128(static_cast<__m128i *>(to), _mm256_cvtps_ph(canonical(value), _MM_FROUND_TO_NEAREST_INT));
  } else if constexpr (kOut == DType::BF16) {
    const __m256i bits = _mm256_castps_si256(canonical(value));
    const __m256i lsb = _mm256_and_si256(_mm256_srli_epi32(bits, 16), all(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, lsb), all(0x7FFF));
    _mm_storeu_si128(static_cast<__m128i *>(to), pack16(_mm256_srli_epi32(rounded, 16)));
  } else if constexpr (kOut == DType::FP8_E4M3) {
    const __m128i codes = pack16(float_code<3, 7, 8>(value, 0x7E, 0x7F));
    store8(_mm_packus_epi16(codes, codes), to);
  } else if constexpr (kOut == DType::FP8_E5M2) {
    const __m128i codes = pack16(float_code<2, 15, 8>(value, 0x7B, 0x7E));
    store8(_mm_packus_epi16(codes, codes), to);
  } else if constexpr (kOut == DType::INT8) {
    const __m256i integers = integer_between(value, -128.0f, 127.0f);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(integers, integers), 0x08);
    const __m128i words = _mm256_castsi256_si128(packed);
    store8(_mm_packs_epi16(words, words), to);
  } else if constexpr (kOut == DType::UINT8) {
    const __m128i words = pack16(integer_between(value, 0.0f, 255.0f));
    store8(_mm_packus_epi16(words, words), to);
  } else {
    static_assert(kOut == DType::INT32);
    const __m256 number = _mm256_and_ps(value, is_number(value));
    // Out of range converts to INT32_MIN; all bits flipped it is INT32_MAX.
    const __m256 above = _mm256_cmp_ps(number, _mm256_set1_ps(0x1p31f), _CMP_GE_OQ);
    const __m256i integers = _mm256_xor_si256(_mm256_cvtps_epi32(number), _mm256_castps_si256(above));
    _mm256_storeu_si256(static_cast<__m256i *>(to), integers);
  }
}

/// The stages in registers. The branches go the same way for a whole row.
struct Finish {
  explicit Finish(const DrainStage &stage)
      : scale(stage.scale),
        bias(stage.bias),
        lo(_mm256_set1_ps(stage.lo)),
        hi(_mm256_set1_ps(stage.hi)),
        act(stage.act),
        integer(stage.integer) {}

  template <typename Load>
  inline __m256 operator()(__m256i words, size_t column, Load load) const {
    __m256 value = integer ? _mm256_cvtepi32_ps(words) : _mm256_castsi256_ps(words);
    if (scale != nullptr) value = _mm256_mul_ps(value, load(scale + column));
    if (bias != nullptr) value = _mm256_add_ps(value, load(bias + column));
    if (act == DrainStage::Act::kRelu) {
      value = _mm256_andnot_ps(_mm256_cmp_ps(value, _mm256_setzero_ps(), _CMP_LE_OQ), value);
    } else if (act == DrainStage::Act::kClamp) {
      // max(lo, v) is lo > v ? lo : v, and v where either is NaN.
      value = _mm256_min_ps(hi, _mm256_max_ps(lo, value));
    }
    return value;
  }

  const float *scale;
  const float *bias;
  __m256 lo, hi;
  DrainStage::Act act;
  bool integer;
};

template <DType kOut>
void drain(const DrainStage &stage, const uint32_t *words, uint8_t *out, size_t n) {
  constexpr size_t kBytes = bytes_of(kOut);
  const Finish finish(stage);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(words + i));
    store<kOut>(finish(row, i, [](const float *from) { return _mm256_loadu_ps(from); }), out + i * kBytes);
  }
  if (i == n) return;
  const size_t rest = n - i;
  const __m256i mask =
      _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(rest)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const __m256i row = _mm256_maskload_epi32(reinterpret_cast<const int *>(words + i), mask);
  uint8_t last[8 * kBytes];
  store<kOut>(finish(row, i, [mask](const float *from) { return _mm256_maskload_ps(from, mask); }), last);
  __builtin_memcpy(out + i * kBytes, last, rest * kBytes);
}

}  // namespace

void drain_row(const DrainStage &stage, const uint32_t *words, void *out, size_t n) {
  auto *to = static_cast<uint8_t *>(out);
  switch (stage.out) {
    case DType::FP32:
      return drain<DType::FP32>(stage, words, to, n);
    case DType::FP16:
      return drain<DType::FP16>(stage, words, to, n);
    case DType::BF16:
      return drain<DType::BF16>(stage, words, to, n);
    case DType::FP8_E4M3:
      return drain<DType::FP8_E4M3>(stage, words, to, n);
    case DType::FP8_E5M2:
      return drain<DType::FP8_E5M2>(stage, words, to, n);
    case DType::INT8:
      return drain<DType::INT8>(stage, words, to, n);
    case DType::UINT8:
      return drain<DType::UINT8>(stage, words, to, n);
    case DType::INT32:
      return drain<DType::INT32>(stage, words, to, n);
    default:
      __builtin_unreachable();
  }
}

}  // namespace cx::num::avx2

#else
namespace cx::num::avx2 {
void drain_row(const DrainStage &, const uint32_t *, void *, size_t) { __builtin_unreachable(); }
}  // namespace cx::num::avx2
#endif
