// What a tile does to accumulator words on their way out (MM_DRAIN in hw/isa/isa.yaml; rtl/tile/cx_post.sv): INT32 to
// FP32, scale, bias, activation, conversion to the destination's type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hw/common/num/formats.hpp"

namespace cx::num {

/// Every operation rounds once to nearest even. Comparisons with NaN are false: a NaN value passes both activations, a
/// NaN limit never takes effect. Conversion saturates as narrow() does; a NaN leaves as the canonical one of `out`.
/// INT32 accumulators with out = INT32 and neither scale, bias nor activation are copied.
struct DrainStage {
  /// Values as in hw/isa/isa.yaml. kRelu: v <= 0 ? +0 : v. kClamp: r = v < lo ? lo : v, then r > hi ? hi : r.
  enum class Act : uint8_t { kNone = 0, kRelu = 1, kClamp = 2 };

  const float *scale = nullptr;  ///< one factor per column; null: none
  const float *bias = nullptr;   ///< one summand per column; null: none
  Act act = Act::kNone;
  float lo = 0;  ///< limits of kClamp
  float hi = 0;
  DType out = DType::FP32;
  bool integer = false;  ///< accumulator words are INT32, else FP32
};

/// n words of one row to n contiguous elements at `out` (any alignment). scale and bias hold n values. The arrays do
/// not overlap. Throws std::invalid_argument for INT64 and for values outside the enumerations.
void drain_row(const DrainStage &stage, const uint32_t *words, void *out, size_t n);
void drain_row(Path path, const DrainStage &stage, const uint32_t *words, void *out, size_t n);

/// m such rows with the same scale and bias. word_stride is in words, out_stride in bytes (negative ones go backwards).
void drain_rows(const DrainStage &stage, const uint32_t *words, size_t word_stride, void *out, ptrdiff_t out_stride,
                size_t m, size_t n);
void drain_rows(Path path, const DrainStage &stage, const uint32_t *words, size_t word_stride, void *out,
                ptrdiff_t out_stride, size_t m, size_t n);

}  // namespace cx::num
