// Element types of the chip: names, sizes, and conversions from and to FP32. Both sides of the PCIe line use these.
//
// Rules that hold for every path (scalar, portable vector, AVX2), bit for bit:
//  - Small formats widen exactly. A NaN of a 16- or 8-bit format widens to 0x7FC00000. FP32 is copied unchanged.
//  - Narrowing rounds to nearest even and keeps subnormals and the sign of zero.
//  - A NaN narrows to the positive quiet NaN (FP16 7E00, BF16 7FC0, E4M3 7F, E5M2 7E) and to 0 for integers.
//  - FP16 and BF16 overflow to infinity. FP8 follows OCP OFP8 in the chosen Overflow mode. Integers saturate.
//  - Integers of 32 and 64 bits and FP64 widen to the nearest FP32, ties to even; FP64 beyond FP32 to infinity. FP32
//    becomes FP64 exactly, its NaN 7FF8000000000000.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace cx::num {

/// Values as in hw/isa/isa.yaml.
enum class DType : uint8_t {
  FP32 = 0,
  FP16 = 1,
  BF16 = 2,
  FP8_E4M3 = 3,
  FP8_E5M2 = 4,
  INT8 = 5,
  UINT8 = 6,
  INT32 = 7,
  INT64 = 8,
  INT16 = 9,
  UINT16 = 10,
  UINT32 = 11,
  UINT64 = 12,
  FP64 = 13,
};
inline constexpr unsigned kDTypes = 14;

/// What FP8 does beyond its largest value: saturating clamps (infinities too, NaN stays NaN); otherwise E4M3 becomes
/// NaN and E5M2 infinity. Has no influence on other formats.
enum class Overflow : uint8_t { kSaturate, kSpecial };

inline constexpr uint32_t kCanonicalNan = 0x7FC00000u;

constexpr bool is_valid(DType type) { return static_cast<unsigned>(type) < kDTypes; }

/// Bytes of one element; 0 for values outside the enumeration.
constexpr size_t bytes_of(DType type) {
  constexpr uint8_t kBytes[kDTypes] = {4, 2, 2, 1, 1, 1, 1, 4, 8, 2, 2, 4, 8, 8};
  return is_valid(type) ? kBytes[static_cast<unsigned>(type)] : 0;
}

/// "FP32", "FP8_E4M3", ...; "?" for values outside the enumeration.
constexpr std::string_view name_of(DType type) {
  constexpr std::string_view kNames[kDTypes] = {"FP32",  "FP16",  "BF16",  "FP8_E4M3", "FP8_E5M2", "INT8",   "UINT8",
                                                "INT32", "INT64", "INT16", "UINT16",   "UINT32",   "UINT64", "FP64"};
  return is_valid(type) ? kNames[static_cast<unsigned>(type)] : std::string_view("?");
}

std::optional<DType> dtype_from_name(std::string_view name);

constexpr bool is_float(DType type) {
  return static_cast<unsigned>(type) <= static_cast<unsigned>(DType::FP8_E5M2) || type == DType::FP64;
}
constexpr bool is_integer(DType type) { return is_valid(type) && !is_float(type); }
constexpr bool is_unsigned(DType type) {
  return type == DType::UINT8 || type == DType::UINT16 || type == DType::UINT32 || type == DType::UINT64;
}

/// Scalar conversions, written for clarity.
float decode_fp16(uint16_t bits);
float decode_bf16(uint16_t bits);
float decode_e4m3(uint8_t bits);
float decode_e5m2(uint8_t bits);
uint16_t encode_fp16(float value);
uint16_t encode_bf16(float value);
uint8_t encode_e4m3(float value, Overflow overflow = Overflow::kSaturate);
uint8_t encode_e5m2(float value, Overflow overflow = Overflow::kSaturate);
int8_t encode_int8(float value);
uint8_t encode_uint8(float value);
int32_t encode_int32(float value);

/// One element at `source` (any alignment) as FP32. Throws std::invalid_argument for values outside the enumeration,
/// as all below.
float decode(DType type, const void *source);
/// Stores one element at `target` (any alignment).
void encode(DType type, float value, void *target, Overflow overflow = Overflow::kSaturate);

/// n contiguous elements to FP32 and back, any alignment; source and target do not overlap.
void widen(DType type, const void *source, float *target, size_t n);
void narrow(DType type, const float *source, void *target, size_t n, Overflow overflow = Overflow::kSaturate);

/// The implementations behind widen, narrow and the MAC kernels. kScalar is the clear reference, kPortable needs
/// nothing beyond the base instruction set, kAvx2 needs AVX2, FMA and F16C. All give the same bits.
enum class Path : uint8_t { kScalar, kPortable, kAvx2 };
bool path_available(Path path);
/// What the functions without a Path argument use on this host. CX_NUM_PATH=scalar|portable|avx2 in the environment
/// overrides it (an unavailable or unknown choice throws std::runtime_error).
Path best_path();
void widen(Path path, DType type, const void *source, float *target, size_t n);
void narrow(Path path, DType type, const float *source, void *target, size_t n, Overflow overflow);

}  // namespace cx::num
