// Activations and normalisations spelled out, of the default domain and of com.microsoft.
#include <cmath>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

// x * sigmoid(alpha * x)
TensorId swish(Builder &b, TensorId x, float alpha) {
  if (alpha == 1) return b.unary("silu", x);
  return b.binary("mul", x, b.unary("sigmoid", b.binary("mul", x, alpha)));
}

Lowering swish_with(float alpha) {
  return [alpha](NodeContext &n) { return Ids{swish(n.b, n.input(0), n.real("alpha", alpha))}; };
}

// The last dimension's bias, or nothing.
TensorId biased(NodeContext &n, std::size_t index) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  if (!n.has_input(index)) return x;
  const TensorId bias = n.input(index);
  const Shape shape = b.shape(x);
  if (shape.empty() || b.shape(bias) != Shape{shape.back()}) {
    throw InputError("bias has shape " + to_text(b.shape(bias)) + ", expected the last dimension of " + to_text(shape));
  }
  return b.binary("add", x, bias);
}

// 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
Ids fast_gelu(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = biased(n, 1);
  const TensorId cube = b.binary("mul", b.binary("mul", x, x), x);
  const TensorId inner = b.binary("mul", b.binary("add", x, b.binary("mul", cube, 0.044715)), std::sqrt(2 / M_PI));
  return {b.binary("mul", b.binary("mul", x, 0.5), b.binary("add", b.unary("tanh", inner), 1.0))};
}

Ids bias_gelu(NodeContext &n) {
  n.input(1);
  return {n.b.unary("gelu", biased(n, 1))};
}

struct Moments {
  TensorId mean;
  TensorId centred;
  TensorId variance;
};

Moments moments(Builder &b, TensorId x, const Integers &axes) {
  const TensorId mean = b.reduce("mean", x, axes);
  const TensorId centred = b.binary("sub", x, mean);
  return {mean, centred, b.reduce("mean", b.binary("mul", centred, centred), axes)};
}

TensorId deviation(Builder &b, TensorId variance, float epsilon) {
  return b.unary("sqrt", b.binary("add", variance, epsilon));
}

Ids mean_variance_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Integers axes = NodeContext::axes(n.integers("axes", {0, 2, 3}), b.rank(x));
  const Moments m = moments(b, x, axes);
  return {b.binary("div", m.centred, b.binary("add", b.unary("sqrt", m.variance), 1e-9))};
}

// x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ^ beta
Ids local_response_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  if (shape.size() < 2) throw InputError("input " + to_text(shape) + " must have rank 2 or more");
  const int64_t size = n.integer("size", 0);
  if (size < 1 || size > kMaxElements) {
    throw InputError("attribute 'size' is " + std::to_string(size) + ", expected 1 or more");
  }
  const double alpha = n.real("alpha", 1e-4F);
  const float beta = n.real("beta", 0.75F);
  const int64_t inner = elements(Shape(shape.begin() + 2, shape.end()));
  const TensorId squares = b.reshape(b.binary("mul", x, x), {shape[0], 1, shape[1], inner});
  const TensorId sums = b.emit("Pool", {squares},
                               {{"kind", std::string("sum")},
                                {"kernel", Integers{size, 1}},
                                {"strides", Integers{1, 1}},
                                {"pads", Integers{(size - 1) / 2, 0, size - 1 - (size - 1) / 2, 0}},
                                {"dilations", Integers{1, 1}},
                                {"count_include_pad", int64_t{1}}});
  const TensorId scaled = b.unary("affine", b.reshape(sums, shape),
                                  static_cast<float>(alpha / static_cast<double>(size)), n.real("bias", 1));
  if (beta != 0.75F) return {b.binary("div", x, b.binary("pow", scaled, beta))};
  const TensorId root = b.unary("sqrt", scaled);
  return {b.binary("div", x, b.binary("mul", root, b.unary("sqrt", root)))};
}

// Scale and bias are per group up to opset 20, per channel from opset 21 on.
Ids group_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  const int64_t rank = b.rank(x);
  if (rank < 2) throw InputError("input " + to_text(shape) + " must have rank 2 or more");
  const int64_t groups = n.integer("num_groups", 0);
  if (groups < 1 || shape[1] % groups != 0) {
    throw InputError("attribute 'num_groups' is " + std::to_string(groups) + ", which does not divide the " +
                     std::to_string(shape[1]) + " channels");
  }
  if (elements(shape) == 0) return {x};
  const TensorId grouped = b.reshape(x, {shape[0], groups, elements(shape) / (shape[0] * groups)});
  const Moments m = moments(b, grouped, {2});
  TensorId y = b.binary("div", m.centred, deviation(b, m.variance, n.real("epsilon", 1e-5F)));
  if (n.opset >= 21) {
    y = b.reshape(y, shape);
    y = b.binary("mul", y, per_channel(b, n.input(1), rank, shape[1], "scale"));
    return {b.binary("add", y, per_channel(b, n.input(2), rank, shape[1], "bias"))};
  }
  y = b.binary("mul", y, per_channel(b, n.input(1), 3, groups, "scale"));
  return {b.reshape(b.binary("add", y, per_channel(b, n.input(2), 3, groups, "bias")), shape)};
}

struct RootMeanSquare {
  TensorId y;
  TensorId inverse;
};

// x / sqrt(mean(x^2) + epsilon) * scale over the dimensions from `axis` on
RootMeanSquare root_mean_square(NodeContext &n, TensorId x, TensorId scale, int64_t axis) {
  Builder &b = n.b;
  const Shape shape = b.shape(x);
  Integers axes(shape.size() - static_cast<std::size_t>(axis));
  std::iota(axes.begin(), axes.end(), axis);
  const TensorId root = deviation(b, b.reduce("mean", b.binary("mul", x, x), axes), n.real("epsilon", 1e-5F));
  const TensorId y = b.binary("mul", b.binary("div", x, root), scale);
  if (b.shape(y) != shape) throw InputError("scale must broadcast to " + to_text(shape));
  return {y, root};
}

// RMSNormalization and SimplifiedLayerNormalization, which also gives the reciprocal of the root.
Ids rms_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const int64_t axis = NodeContext::axis(n.integer("axis", -1), b.rank(x));
  const RootMeanSquare result = root_mean_square(n, x, n.input(1), axis);
  return {result.y, n.output_used(1) ? b.unary("recip", result.inverse) : kNoTensor};
}

// The sum of input, skip and bias that Skip*Normalization normalises.
TensorId skip_sum(NodeContext &n, std::size_t bias_index) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  TensorId sum = b.binary("add", x, n.input(1));
  if (n.has_input(bias_index)) sum = b.binary("add", sum, n.input(bias_index));
  if (b.shape(sum) != b.shape(x)) throw InputError("skip and bias must broadcast to " + to_text(b.shape(x)));
  return sum;
}

Ids skip_layer_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId sum = skip_sum(n, 4);
  const float epsilon = n.real("epsilon", 1e-12F);
  const Moments m = moments(b, sum, {b.rank(sum) - 1});
  const TensorId root = deviation(b, m.variance, epsilon);
  TensorId y = b.binary("mul", b.binary("div", m.centred, root), n.input(2));
  if (n.has_input(3)) y = b.binary("add", y, n.input(3));
  if (b.shape(y) != b.shape(sum)) throw InputError("gamma and beta must broadcast to " + to_text(b.shape(sum)));
  return {y, m.mean, n.output_used(2) ? b.unary("recip", root) : kNoTensor, sum};
}

Ids skip_rms_normalization(NodeContext &n) {
  Builder &b = n.b;
  const TensorId sum = skip_sum(n, 3);
  const RootMeanSquare result = root_mean_square(n, sum, n.input(2), b.rank(sum) - 1);
  return {result.y, kNoTensor, n.output_used(2) ? b.unary("recip", result.inverse) : kNoTensor, sum};
}

}  // namespace

void register_functions(LoweringTable &table) {
  const std::string microsoft = "com.microsoft.";
  table["Swish"] = swish_with(1);
  table[microsoft + "QuickGelu"] = swish_with(1.702F);
  table[microsoft + "FastGelu"] = fast_gelu;
  table[microsoft + "BiasGelu"] = bias_gelu;
  table["MeanVarianceNormalization"] = mean_variance_normalization;
  table["LRN"] = local_response_normalization;
  table["GroupNormalization"] = group_normalization;
  table["RMSNormalization"] = rms_normalization;
  // ONNX Runtime writes it without a domain as well.
  table["SimplifiedLayerNormalization"] = rms_normalization;
  table[microsoft + "SimplifiedLayerNormalization"] = rms_normalization;
  table[microsoft + "SkipLayerNormalization"] = skip_layer_normalization;
  table[microsoft + "SkipSimplifiedLayerNormalization"] = skip_rms_normalization;
}

}  // namespace cx::compiler
