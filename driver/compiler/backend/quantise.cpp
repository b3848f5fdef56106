#include "driver/compiler/backend/quantise.hpp"

#include <algorithm>
#include <cmath>

#include "driver/compiler/backend/tile.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

/// Smaller magnitudes count as 0: their factors would leave FP32.
constexpr float kSmallest = 1e-30F;

double largest_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::INT8:
      return 127;
    case Dtype::FP8_E4M3:
      return 448;
    default:
      return 57344;
  }
}

double factor_for(Dtype dtype, float range) {
  if (range < kSmallest) return 1;
  const double factor = largest_of(dtype) / range;
  // The device multiplies by an FP32 factor.
  if (dtype == Dtype::INT8) return static_cast<float>(factor);
  return std::ldexp(1.0, std::clamp(std::ilogb(factor), -126, 126));
}

/// Largest magnitude of each index of the axis; of the whole tensor if it is -1.
std::vector<float> constant_ranges(const Tensor &tensor, int axis) {
  int64_t inner = 1;
  int64_t count = 1;
  if (axis >= 0) {
    count = tensor.shape[static_cast<std::size_t>(axis)];
    for (std::size_t d = static_cast<std::size_t>(axis) + 1; d < tensor.shape.size(); ++d) inner *= tensor.shape[d];
  }
  std::vector<float> ranges(static_cast<std::size_t>(count), 0.0F);
  const std::vector<float> values = constant_as_floats(tensor);
  std::size_t index = 0;
  const auto run = axis < 0 ? static_cast<int64_t>(values.size()) : inner;
  for (auto at = values.begin(); at != values.end(); at += run) {
    const auto [least, most] = std::minmax_element(at, at + run);
    if (std::any_of(at, at + run, [](float value) { return !std::isfinite(value); })) {
      throw InputError("constant " + tensor.name + " holds values that are not finite");
    }
    ranges[index] = std::max({ranges[index], -*least, *most});
    index = (index + 1) % ranges.size();
  }
  return ranges;
}

}  // namespace

bool is_8_bit(Dtype dtype) { return dtype == Dtype::INT8 || dtype == Dtype::FP8_E4M3 || dtype == Dtype::FP8_E5M2; }

Dtype product_dtype(const Context &context, const Node &node) {
  if (context.graph[node.inputs[0]].type != Type::I8) return context.product;
  if ((context.target.formats >> static_cast<unsigned>(Dtype::INT8) & 1U) == 0) {
    throw InputError("node " + node.name + " (" + node.op + "): the target's DMMU does not multiply int8");
  }
  return Dtype::INT8;
}

TensorId scale_operand(const Node &node) { return node.inputs.size() > 3 ? node.inputs[3] : kNoTensor; }

Quantiser quantiser_of(Context &context, TensorId id, int channel_axis) {
  Quantiser result;
  const Tensor &tensor = context.graph[id];
  if (tensor.type == Type::I8) {
    result.dtype = Dtype::INT8;
    return result;
  }
  result.dtype = context.product;
  result.tf32 = context.tf32;
  if (!is_8_bit(context.product)) return result;
  if (!tensor.is_constant()) {
    result.factors = {factor_for(context.product, context.ranges.at(id))};
    return result;
  }
  const auto [known, is_new] = context.quantisers.try_emplace({id, channel_axis});
  if (!is_new) return known->second;
  result.axis = channel_axis;
  std::vector<float> ranges = constant_ranges(tensor, channel_axis);
  if (context.constant_range) std::fill(ranges.begin(), ranges.end(), *context.constant_range);
  for (float range : ranges) result.factors.push_back(factor_for(context.product, range));
  known->second = result;
  return result;
}

std::vector<float> drain_scales(const Quantiser &activations, const Quantiser &weights, float scale, int64_t first,
                                int64_t count) {
  std::vector<float> scales;
  if (weights.factors.empty()) {
    if (scale != 1) scales.assign(static_cast<std::size_t>(count), scale);
    return scales;
  }
  for (int64_t n = first; n < first + count; ++n) {
    scales.push_back(static_cast<float>(scale / (activations.factor(0) * weights.factor(n))));
  }
  return scales;
}

void require_exact_sums(const Context &context, const Node &node, int64_t depth) {
  // Factors never give -128, int8 tensors may hold it.
  const bool given = context.graph[node.inputs[0]].type == Type::I8;
  const int64_t deepest = 2147483647 / (given ? 128 * 128 : 127 * 127);
  if ((!given && context.product != Dtype::INT8) || depth <= deepest) return;
  throw UnsupportedError(node.op, "node " + node.name + ": sums of " + std::to_string(depth) +
                                      " products of INT8 may leave 32 bits; at most " + std::to_string(deepest) +
                                      " cannot");
}

}  // namespace cx::compiler::backend
