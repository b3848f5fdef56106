// Conversion loops without branches, which the compiler turns into vector code for the flags of the including file.
// Included once per variant inside an unnamed namespace. Uses nothing inline from the standard library: an inline
// function compiled here for a newer host could replace the one that the rest of the program runs.

inline float as_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
inline uint32_t as_bits(float value) { return __builtin_bit_cast(uint32_t, value); }

/// Unaligned element access that the vectoriser understands.
template <typename T>
struct __attribute__((packed)) Unaligned {
  T value;
};

template <typename T, typename F>
inline void widen_loop(const void *source, float *target, size_t n, F convert) {
  const auto *from = static_cast<const Unaligned<T> *>(source);
  for (size_t i = 0; i < n; ++i) target[i] = convert(from[i].value);
}

template <typename T, typename F>
inline void narrow_loop(const float *source, void *target, size_t n, F convert) {
  auto *to = static_cast<Unaligned<T> *>(target);
  for (size_t i = 0; i < n; ++i) to[i].value = static_cast<T>(convert(source[i]));
}

inline float widen_fp16(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7FFFu;
  // The shifted code is an FP32 number 2^112 too small, subnormals included; the product is exact.
  const uint32_t finite = as_bits(as_float(magnitude << 13) * 0x1p112f);
  const uint32_t special = magnitude > 0x7C00u ? kCanonicalNan : (0x7F800000u | sign);
  return as_float(magnitude >= 0x7C00u ? special : (finite | sign));
}

inline float widen_bf16(uint32_t bits) { return as_float((bits & 0x7FFFu) > 0x7F80u ? kCanonicalNan : bits << 16); }

inline float widen_e4m3(uint32_t bits) {
  const uint32_t sign = (bits & 0x80u) << 24;
  const uint32_t finite = as_bits(as_float((bits & 0x7Fu) << 20) * 0x1p120f);
  return as_float((bits & 0x7Fu) == 0x7Fu ? kCanonicalNan : (finite | sign));
}

/// condition ? yes : no by masks: of a nest of selections the compiler would make branches.
inline uint32_t pick(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = uint32_t{0} - static_cast<uint32_t>(condition);
  return no ^ ((yes ^ no) & mask);
}

/// Code of |value| in a format of kMantissa stored bits, as if its exponent had no upper end.
template <unsigned kMantissa, int kBias>
inline uint32_t magnitude_code(uint32_t magnitude) {
  constexpr uint32_t kShift = 23 - kMantissa;
  constexpr uint32_t kRebias = static_cast<uint32_t>(127 - kBias);
  // Adding this constant makes the FP32 adder round at the subnormal step of the target.
  constexpr uint32_t kAlign = (kRebias + 1 - kMantissa + 23) << 23;
  const uint32_t normal =
      ((magnitude + (1u << (kShift - 1)) - 1 + ((magnitude >> kShift) & 1)) >> kShift) - (kRebias << kMantissa);
  const uint32_t subnormal = as_bits(as_float(magnitude) + as_float(kAlign)) - kAlign;
  return pick(magnitude < ((kRebias + 1) << 23), subnormal, normal);
}

template <unsigned kMantissa, int kBias, unsigned kBits>
inline uint32_t narrow_float(float value, uint32_t largest, uint32_t beyond, uint32_t nan) {
  const uint32_t bits = as_bits(value);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  const uint32_t sign = (bits >> 31) << (kBits - 1);
  // Infinity and the values whose code would wrap are far above every `largest`.
  const uint32_t code = magnitude_code<kMantissa, kBias>(magnitude);
  const uint32_t number = sign | pick(code > largest, beyond, code);
  return pick(magnitude > 0x7F800000u, nan, number);
}

inline uint32_t narrow_bf16(float value) {
  const uint32_t bits = as_bits(value);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16;
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded;
}

/// Nearest even for |value| < 2^22.
inline int32_t round_small(float value) {
  return static_cast<int32_t>(as_bits(value + 12582912.0f)) - static_cast<int32_t>(as_bits(12582912.0f));
}

inline int32_t narrow_integer(float value, float low, float high) {
  const float number = value == value ? value : 0.0f;
  const float raised = number < low ? low : number;
  return round_small(raised > high ? high : raised);
}

inline int32_t narrow_int32(float value) {
  const float number = value == value ? value : 0.0f;
  const bool above = number >= 0x1p31f;
  const float floor_limited = number < -0x1p31f ? -0x1p31f : number;
  const float inside = above ? 0.0f : floor_limited;
  // Beyond 2^23 every value is an integer; below, adding and subtracting 2^23 with the value's sign rounds.
  const float magic = as_float((as_bits(inside) & 0x80000000u) | 0x4B000000u);
  const bool fraction = (as_bits(inside) & 0x7FFFFFFFu) < 0x4B000000u;
  const float rounded = fraction ? (inside + magic) - magic : inside;
  return above ? INT32_MAX : static_cast<int32_t>(rounded);
}

/// Nearest even for |value| < 2^64. Beyond 2^23 every value is an integer; below, adding and subtracting 2^23 with the
/// value's sign rounds.
inline float round_whole(float value) {
  const float magic = as_float((as_bits(value) & 0x80000000u) | 0x4B000000u);
  const bool fraction = (as_bits(value) & 0x7FFFFFFFu) < 0x4B000000u;
  return fraction ? (value + magic) - magic : value;
}

/// The type's range is [low, 2^bits).
template <typename T>
inline T narrow_wide(float value, float low, float above) {
  const float number = round_whole(value == value ? value : 0.0f);
  if (number >= above) return static_cast<T>(~uint64_t{0} >> (64 - 8 * sizeof(T) + (low < 0.0f ? 1 : 0)));
  return number <= low ? static_cast<T>(low) : static_cast<T>(number);
}

inline float widen_fp64(double value) { return value == value ? static_cast<float>(value) : as_float(kCanonicalNan); }
inline double narrow_fp64(float value) {
  return value == value ? static_cast<double>(value) : __builtin_bit_cast(double, 0x7FF8000000000000ull);
}

/// FP32 copies; FP16 is the including file's.
inline void widen_common(DType type, const void *source, float *target, size_t n) {
  switch (type) {
    case DType::FP32:
      __builtin_memcpy(target, source, n * sizeof(float));
      return;
    case DType::BF16:
      return widen_loop<uint16_t>(source, target, n, [](uint16_t v) { return widen_bf16(v); });
    case DType::FP8_E4M3:
      return widen_loop<uint8_t>(source, target, n, [](uint8_t v) { return widen_e4m3(v); });
    case DType::FP8_E5M2:
      return widen_loop<uint8_t>(source, target, n, [](uint8_t v) { return widen_fp16(uint32_t{v} << 8); });
    case DType::INT8:
      return widen_loop<int8_t>(source, target, n, [](int8_t v) { return static_cast<float>(v); });
    case DType::UINT8:
      return widen_loop<uint8_t>(source, target, n, [](uint8_t v) { return static_cast<float>(v); });
    case DType::INT32:
      return widen_loop<int32_t>(source, target, n, [](int32_t v) { return static_cast<float>(v); });
    case DType::INT64:
      return widen_loop<int64_t>(source, target, n, [](int64_t v) { return static_cast<float>(v); });
    case DType::INT16:
      return widen_loop<int16_t>(source, target, n, [](int16_t v) { return static_cast<float>(v); });
    case DType::UINT16:
      return widen_loop<uint16_t>(source, target, n, [](uint16_t v) { return static_cast<float>(v); });
    case DType::UINT32:
      return widen_loop<uint32_t>(source, target, n, [](uint32_t v) { return static_cast<float>(v); });
    case DType::UINT64:
      return widen_loop<uint64_t>(source, target, n, [](uint64_t v) { return static_cast<float>(v); });
    case DType::FP64:
      return widen_loop<double>(source, target, n, [](double v) { return widen_fp64(v); });
    case DType::FP16:
      return;
  }
}

inline void narrow_common(DType type, const float *source, void *target, size_t n, Overflow overflow) {
  const bool saturate = overflow == Overflow::kSaturate;
  switch (type) {
    case DType::FP32:
      __builtin_memcpy(target, source, n * sizeof(float));
      return;
    case DType::BF16:
      return narrow_loop<uint16_t>(source, target, n, [](float v) { return narrow_bf16(v); });
    case DType::FP8_E4M3: {
      const uint32_t beyond = saturate ? 0x7Eu : 0x7Fu;
      return narrow_loop<uint8_t>(source, target, n,
                                  [beyond](float v) { return narrow_float<3, 7, 8>(v, 0x7E, beyond, 0x7F); });
    }
    case DType::FP8_E5M2: {
      const uint32_t beyond = saturate ? 0x7Bu : 0x7Cu;
      return narrow_loop<uint8_t>(source, target, n,
                                  [beyond](float v) { return narrow_float<2, 15, 8>(v, 0x7B, beyond, 0x7E); });
    }
    case DType::INT8:
      return narrow_loop<int8_t>(source, target, n, [](float v) { return narrow_integer(v, -128.0f, 127.0f); });
    case DType::UINT8:
      return narrow_loop<uint8_t>(source, target, n, [](float v) { return narrow_integer(v, 0.0f, 255.0f); });
    case DType::INT32:
      return narrow_loop<int32_t>(source, target, n, [](float v) { return narrow_int32(v); });
    case DType::INT64:
      return narrow_loop<int64_t>(source, target, n,
                                  [](float v) { return narrow_wide<int64_t>(v, -0x1p63f, 0x1p63f); });
    case DType::INT16:
      return narrow_loop<int16_t>(source, target, n, [](float v) { return narrow_integer(v, -32768.0f, 32767.0f); });
    case DType::UINT16:
      return narrow_loop<uint16_t>(source, target, n, [](float v) { return narrow_integer(v, 0.0f, 65535.0f); });
    case DType::UINT32:
      return narrow_loop<uint32_t>(source, target, n, [](float v) { return narrow_wide<uint32_t>(v, 0.0f, 0x1p32f); });
    case DType::UINT64:
      return narrow_loop<uint64_t>(source, target, n, [](float v) { return narrow_wide<uint64_t>(v, 0.0f, 0x1p64f); });
    case DType::FP64:
      return narrow_loop<double>(source, target, n, [](float v) { return narrow_fp64(v); });
    case DType::FP16:
      return;
  }
}
