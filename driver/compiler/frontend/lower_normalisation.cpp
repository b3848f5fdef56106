// Normalisations and softmax.
#include <cmath>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

std::vector<int64_t> all_but_channels(int64_t rank) {
  Integers axes = {0};
  for (int64_t axis = 2; axis < rank; ++axis) axes.push_back(axis);
  return axes;
}

// (x - mean) / sqrt(variance + epsilon) * scale + bias
TensorId normalise(Builder &b, TensorId centred, TensorId variance, float epsilon, TensorId scale, TensorId bias) {
  const TensorId deviation = b.unary("sqrt", b.binary("add", variance, epsilon));
  const TensorId scaled = b.binary("mul", b.binary("div", centred, deviation), scale);
  return bias == kNoTensor ? scaled : b.binary("add", scaled, bias);
}

// With constant statistics: x * s + t, with s and t worked out in double.
TensorId constant_affine(Builder &b, TensorId x, const Ids &parameters, double epsilon) {
  const std::vector<double> scale = to_doubles(b[parameters[0]]);
  const std::vector<double> bias = to_doubles(b[parameters[1]]);
  const std::vector<double> mean = to_doubles(b[parameters[2]]);
  const std::vector<double> variance = to_doubles(b[parameters[3]]);
  std::vector<double> factor(scale.size());
  std::vector<double> offset(scale.size());
  for (std::size_t c = 0; c < scale.size(); ++c) {
    factor[c] = scale[c] / std::sqrt(variance[c] + epsilon);
    offset[c] = bias[c] - mean[c] * factor[c];
  }
  const Shape shape = b.shape(parameters[0]);
  const TensorId s = b.constant(make_constant("", Type::F32, shape, factor));
  const TensorId t = b.constant(make_constant("", Type::F32, shape, offset));
  return b.binary("add", b.binary("mul", x, s), t);
}

Ids batch_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  const int64_t rank = b.rank(x);
  if (rank < 2) throw InputError("input " + to_text(shape) + " must have rank 2 or more");
  if (n.opset < 9 && n.integer("spatial", 1) == 0) throw UnsupportedError("BatchNormalization", "spatial = 0");
  if (n.opset < 7 && n.integer("is_test", 0) == 0)
    throw UnsupportedError("BatchNormalization", "training before opset 14");
  const bool training = n.opset >= 14 && n.integer("training_mode", 0) != 0;
  if (!training) n.only_outputs(1);
  static const char *const roles[] = {"scale", "bias", "mean", "variance"};
  Ids parameters;
  bool constant = true;
  for (std::size_t i = 0; i < 4; ++i) {
    parameters.push_back(per_channel(b, n.input(i + 1), rank, shape[1], roles[i]));
    constant = constant && b.is_constant(n.input(i + 1)) && b[n.input(i + 1)].type == Type::F32;
  }
  const float epsilon = n.real("epsilon", 1e-5F);
  if (!training) {
    if (constant && b[x].type == Type::F32) return {constant_affine(b, x, parameters, epsilon)};
    const TensorId centred = b.binary("sub", x, parameters[2]);
    return {normalise(b, centred, parameters[3], epsilon, parameters[0], parameters[1])};
  }
  const Integers axes = all_but_channels(rank);
  const TensorId mean = b.reduce("mean", x, axes);
  const TensorId centred = b.binary("sub", x, mean);
  const TensorId variance = b.reduce("mean", b.binary("mul", centred, centred), axes);
  const float momentum = n.real("momentum", 0.9F);
  auto running = [&](TensorId before, TensorId current) {
    const TensorId kept = b.binary("mul", before, momentum);
    const TensorId added = b.binary("mul", b.reshape(current, {shape[1]}), 1.0 - static_cast<double>(momentum));
    return b.binary("add", kept, added);
  };
  Ids outputs = {normalise(b, centred, variance, epsilon, parameters[0], parameters[1])};
  outputs.push_back(n.output_used(1) ? running(n.input(3), mean) : kNoTensor);
  outputs.push_back(n.output_used(2) ? running(n.input(4), variance) : kNoTensor);
  return outputs;
}

Ids instance_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  const int64_t rank = b.rank(x);
  if (rank < 3) throw InputError("input " + to_text(shape) + " must have rank 3 or more");
  Integers axes(static_cast<std::size_t>(rank) - 2);
  std::iota(axes.begin(), axes.end(), 2);
  const TensorId centred = b.binary("sub", x, b.reduce("mean", x, axes));
  const TensorId variance = b.reduce("mean", b.binary("mul", centred, centred), axes);
  return {normalise(b, centred, variance, n.real("epsilon", 1e-5F), per_channel(b, n.input(1), rank, shape[1], "scale"),
                    per_channel(b, n.input(2), rank, shape[1], "bias"))};
}

Ids layer_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const int64_t rank = b.rank(x);
  const int64_t axis = NodeContext::axis(n.integer("axis", -1), rank);
  Integers axes(static_cast<std::size_t>(rank - axis));
  std::iota(axes.begin(), axes.end(), axis);
  const TensorId mean = b.reduce("mean", x, axes);
  const TensorId centred = b.binary("sub", x, mean);
  const TensorId variance = b.reduce("mean", b.binary("mul", centred, centred), axes);
  const float epsilon = n.real("epsilon", 1e-5F);
  const TensorId y = normalise(b, centred, variance, epsilon, n.input(1), n.optional_input(2));
  if (b.shape(y) != b.shape(x)) throw InputError("scale and bias must broadcast to " + to_text(b.shape(x)));
  Ids outputs = {y, mean};
  outputs.push_back(n.output_used(2) ? b.unary("recip", b.unary("sqrt", b.binary("add", variance, epsilon)))
                                     : kNoTensor);
  return outputs;
}

// Before opset 13 softmax runs over all dimensions from `axis` on, seen as one.
struct SoftmaxView {
  TensorId x;
  int64_t axis;
};

SoftmaxView softmax_view(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape shape = n.b.shape(x);
  const auto rank = static_cast<int64_t>(shape.size());
  if (n.opset >= 13) return {x, NodeContext::axis(n.integer("axis", -1), rank)};
  const int64_t axis = NodeContext::axis(n.integer("axis", 1), rank);
  const Shape flat(shape.begin() + axis, shape.end());
  if (axis == rank - 1) return {x, axis};
  Shape view(shape.begin(), shape.begin() + axis);
  view.push_back(elements(flat));
  return {n.b.reshape(x, view), axis};
}

Ids softmax(NodeContext &n) {
  const SoftmaxView view = softmax_view(n);
  return {n.b.reshape(n.b.emit("Softmax", {view.x}, {{"axis", view.axis}}), n.b.shape(n.input(0)))};
}

Ids log_softmax(NodeContext &n) {
  Builder &b = n.b;
  const SoftmaxView view = softmax_view(n);
  const TensorId shifted = b.binary("sub", view.x, b.reduce("max", view.x, {view.axis}));
  const TensorId total = b.unary("log", b.reduce("sum", b.unary("exp", shifted), {view.axis}));
  return {b.reshape(b.binary("sub", shifted, total), b.shape(n.input(0)))};
}

}  // namespace

void register_normalisation(LoweringTable &table) {
  table["BatchNormalization"] = batch_normalization;
  table["InstanceNormalization"] = instance_normalization;
  table["LayerNormalization"] = layer_normalization;
  table["Softmax"] = softmax;
  table["LogSoftmax"] = log_softmax;
}

}  // namespace cx::compiler
