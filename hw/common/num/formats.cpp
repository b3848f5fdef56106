#include "hw/common/num/formats.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "hw/common/num/kernels.hpp"

namespace cx::num {
namespace {

/// Decodes a format with `mantissa` stored bits and the given exponent bias; infinities and NaN are the caller's.
float decode_finite(bool negative, unsigned exponent, unsigned significand, unsigned mantissa, int bias) {
  const int lsb = (exponent == 0 ? 1 : static_cast<int>(exponent)) - bias - static_cast<int>(mantissa);
  const unsigned full = significand | (exponent == 0 ? 0u : 1u << mantissa);
  const float magnitude = std::ldexp(static_cast<float>(full), lsb);
  return negative ? -magnitude : magnitude;
}

/// Magnitude code of a finite value in a format without regard to its largest value: the code continues upwards as if
/// the exponent had more bits, so the caller finds overflow by comparison.
uint32_t round_to_code(float magnitude, unsigned mantissa, int bias) {
  if (magnitude == 0) return 0;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int biased = std::max(exponent - 1 + bias, 1);
  const int lsb = biased - bias - static_cast<int>(mantissa);
  // Exact: scaling by a power of two, then nearbyint rounds to nearest even.
  const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(static_cast<double>(magnitude), -lsb)));
  return (static_cast<uint32_t>(biased - 1) << mantissa) + units;
}

uint8_t encode_fp8(float value, unsigned mantissa, int bias, uint8_t largest, uint8_t special, uint8_t nan,
                   Overflow overflow) {
  if (std::isnan(value)) return nan;
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  const uint8_t beyond = overflow == Overflow::kSaturate ? largest : special;
  if (std::isinf(value)) return sign | beyond;
  const uint32_t code = round_to_code(std::fabs(value), mantissa, bias);
  return sign | (code > largest ? beyond : static_cast<uint8_t>(code));
}

template <typename T>
T encode_integer(float value) {
  if (std::isnan(value)) return 0;
  const double rounded = std::nearbyint(static_cast<double>(value));
  if (rounded <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
  if (rounded >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(rounded);
}

template <typename T>
T load(const void *source) {
  T value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

template <typename T>
void store(void *target, T value) {
  std::memcpy(target, &value, sizeof value);
}

[[noreturn]] void refuse(DType type) {
  throw std::invalid_argument("no FP32 conversion for data type " + std::string(name_of(type)));
}

void widen_scalar(DType type, const void *source, float *target, size_t n) {
  const size_t step = bytes_of(type);
  for (size_t i = 0; i < n; ++i) target[i] = decode(type, static_cast<const uint8_t *>(source) + i * step);
}

void narrow_scalar(DType type, const float *source, void *target, size_t n, Overflow overflow) {
  const size_t step = bytes_of(type);
  for (size_t i = 0; i < n; ++i) encode(type, source[i], static_cast<uint8_t *>(target) + i * step, overflow);
}

#if defined(__x86_64__)
// clang 14 has no name for it in __builtin_cpu_supports().
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

Path choose_path() {
  const char *name = std::getenv("CX_NUM_PATH");
  if (name == nullptr || *name == '\0') return path_available(Path::kAvx2) ? Path::kAvx2 : Path::kPortable;
  const std::string_view wanted(name);
  const Path path = wanted == "scalar" ? Path::kScalar : wanted == "portable" ? Path::kPortable : Path::kAvx2;
  if ((path == Path::kAvx2 && wanted != "avx2") || !path_available(path)) {
    throw std::runtime_error("CX_NUM_PATH=" + std::string(name) +
                             ": expected scalar, portable or (where the host has it) avx2");
  }
  return path;
}

}  // namespace

std::optional<DType> dtype_from_name(std::string_view name) {
  for (unsigned i = 0; i < kDTypes; ++i) {
    if (name_of(static_cast<DType>(i)) == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

float decode_fp16(uint16_t bits) {
  const bool negative = (bits & 0x8000) != 0;
  const unsigned exponent = (bits >> 10) & 0x1F;
  const unsigned significand = bits & 0x3FF;
  if (exponent == 0x1F) {
    if (significand != 0) return std::bit_cast<float>(kCanonicalNan);
    return negative ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
  }
  return decode_finite(negative, exponent, significand, 10, 15);
}

float decode_bf16(uint16_t bits) {
  if ((bits & 0x7FFF) > 0x7F80) return std::bit_cast<float>(kCanonicalNan);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

float decode_e4m3(uint8_t bits) {
  if ((bits & 0x7F) == 0x7F) return std::bit_cast<float>(kCanonicalNan);
  return decode_finite((bits & 0x80) != 0, (bits >> 3) & 0xF, bits & 7, 3, 7);
}

float decode_e5m2(uint8_t bits) { return decode_fp16(static_cast<uint16_t>(bits << 8)); }

uint16_t encode_fp16(float value) {
  if (std::isnan(value)) return 0x7E00;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isinf(value)) return sign | 0x7C00;
  return static_cast<uint16_t>(sign | std::min(round_to_code(std::fabs(value), 10, 15), 0x7C00u));
}

uint16_t encode_bf16(float value) {
  if (std::isnan(value)) return 0x7FC0;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isinf(value)) return sign | 0x7F80;
  return static_cast<uint16_t>(sign | round_to_code(std::fabs(value), 7, 127));
}

uint8_t encode_e4m3(float value, Overflow overflow) { return encode_fp8(value, 3, 7, 0x7E, 0x7F, 0x7F, overflow); }
uint8_t encode_e5m2(float value, Overflow overflow) { return encode_fp8(value, 2, 15, 0x7B, 0x7C, 0x7E, overflow); }
int8_t encode_int8(float value) { return encode_integer<int8_t>(value); }
uint8_t encode_uint8(float value) { return encode_integer<uint8_t>(value); }
int32_t encode_int32(float value) { return encode_integer<int32_t>(value); }

float decode(DType type, const void *source) {
  switch (type) {
    case DType::FP32:
      return load<float>(source);
    case DType::FP16:
      return decode_fp16(load<uint16_t>(source));
    case DType::BF16:
      return decode_bf16(load<uint16_t>(source));
    case DType::FP8_E4M3:
      return decode_e4m3(load<uint8_t>(source));
    case DType::FP8_E5M2:
      return decode_e5m2(load<uint8_t>(source));
    case DType::INT8:
      return load<int8_t>(source);
    case DType::UINT8:
      return load<uint8_t>(source);
    case DType::INT32:
      return static_cast<float>(load<int32_t>(source));
    case DType::INT64:
      return static_cast<float>(load<int64_t>(source));
    case DType::INT16:
      return load<int16_t>(source);
    case DType::UINT16:
      return load<uint16_t>(source);
    case DType::UINT32:
      return static_cast<float>(load<uint32_t>(source));
    case DType::UINT64:
      return static_cast<float>(load<uint64_t>(source));
    case DType::FP64: {
      const auto value = load<double>(source);
      return std::isnan(value) ? std::bit_cast<float>(kCanonicalNan) : static_cast<float>(value);
    }
  }
  refuse(type);
}

void encode(DType type, float value, void *target, Overflow overflow) {
  switch (type) {
    case DType::FP32:
      return store(target, value);
    case DType::FP16:
      return store(target, encode_fp16(value));
    case DType::BF16:
      return store(target, encode_bf16(value));
    case DType::FP8_E4M3:
      return store(target, encode_e4m3(value, overflow));
    case DType::FP8_E5M2:
      return store(target, encode_e5m2(value, overflow));
    case DType::INT8:
      return store(target, encode_int8(value));
    case DType::UINT8:
      return store(target, encode_uint8(value));
    case DType::INT32:
      return store(target, encode_int32(value));
    case DType::INT64:
      return store(target, encode_integer<int64_t>(value));
    case DType::INT16:
      return store(target, encode_integer<int16_t>(value));
    case DType::UINT16:
      return store(target, encode_integer<uint16_t>(value));
    case DType::UINT32:
      return store(target, encode_integer<uint32_t>(value));
    case DType::UINT64:
      return store(target, encode_integer<uint64_t>(value));
    case DType::FP64:
      return store(target, std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(value));
  }
  refuse(type);
}

bool path_available(Path path) {
  switch (path) {
    case Path::kScalar:
    case Path::kPortable:
      return true;
    case Path::kAvx2:
#if defined(__x86_64__)
      return avx2::compiled_in() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#else
      return false;
#endif
  }
  return false;
}

Path best_path() {
  static const Path path = choose_path();
  return path;
}

void widen(Path path, DType type, const void *source, float *target, size_t n) {
  if (!is_valid(type)) refuse(type);
  if (n == 0) return;
  switch (path) {
    case Path::kScalar:
      return widen_scalar(type, source, target, n);
    case Path::kPortable:
      return portable::widen(type, source, target, n);
    case Path::kAvx2:
      return avx2::widen(type, source, target, n);
  }
}

void narrow(Path path, DType type, const float *source, void *target, size_t n, Overflow overflow) {
  if (!is_valid(type)) refuse(type);
  if (n == 0) return;
  switch (path) {
    case Path::kScalar:
      return narrow_scalar(type, source, target, n, overflow);
    case Path::kPortable:
      return portable::narrow(type, source, target, n, overflow);
    case Path::kAvx2:
      return avx2::narrow(type, source, target, n, overflow);
  }
}

void widen(DType type, const void *source, float *target, size_t n) { widen(best_path(), type, source, target, n); }

void narrow(DType type, const float *source, void *target, size_t n, Overflow overflow) {
  narrow(best_path(), type, source, target, n, overflow);
}

}  // namespace cx::num
