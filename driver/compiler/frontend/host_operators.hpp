// Operators whose result's shape depends on values: computed on the host, when compiling or between parts of a model.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// Positions of the elements that are not 0 (NaN is not), I64 [rank, count], in row-major order.
Tensor non_zero(const Tensor &x);

struct UniqueResult {
  Tensor values;                                ///< of x's type: a list, or x with `axis` shortened
  std::vector<int64_t> first, inverse, counts;  ///< as ONNX's outputs 1 to 3
};
/// Unique elements, or slices along an axis in [0, rank), sorted ascending (slices lexicographically) or in the order
/// of their first occurrence. -0 equals 0; NaNs equal each other and come last. Throws InputError for an axis out of
/// range.
UniqueResult unique(const Tensor &x, std::optional<int64_t> axis, bool sorted);

/// Elements, or slices along an axis in [0, rank), at which the condition (Bool, one dimension, no longer than the
/// axis) is true. Without an axis x is taken as a list. Throws InputError for another condition.
Tensor compress(const Tensor &x, const Tensor &condition, std::optional<int64_t> axis);

struct SuppressionLimits {
  bool center_point_box = false;  ///< boxes are centre x, y, width, height; else y, x, y, x of two opposite corners
  int64_t boxes_per_class = 0;    ///< at most
  float overlap = 0;              ///< a box that overlaps a chosen one by more (intersection over union) is dropped
  std::optional<float> score;     ///< only boxes with higher scores are looked at
};
/// boxes F32 [B, N, 4], scores F32 [B, C, N]. I64 [chosen, 3]: batch, class, box; of each batch and class by falling
/// score, of equal scores the lower box first. NaN scores are never chosen. Throws InputError for other types or shapes
/// and for an overlap outside [0, 1].
Tensor non_max_suppression(const Tensor &boxes, const Tensor &scores, const SuppressionLimits &limits);

}  // namespace cx::compiler
