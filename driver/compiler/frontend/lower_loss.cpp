// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss.
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

TensorId sum_all(Builder &b, TensorId x) {
  Integers axes(b.shape(x).size());
  std::iota(axes.begin(), axes.end(), 0);
  return b.reshape(b.reduce("sum", x, axes), {});
}

// -scores[n, target[n, ...], ...] * weight[target], by the node's reduction. Scores are [N, C, ...].
TensorId likelihood_loss(NodeContext &n, TensorId scores) {
  Builder &b = n.b;
  const TensorId target = n.input(1);
  const Shape shape = b.shape(scores);
  if (shape.size() < 2) throw InputError("scores of shape " + to_text(shape) + " must have rank 2 or more");
  if (!is_integer(b[target].type)) throw InputError("the target must hold integers");
  Shape expected = shape;
  expected.erase(expected.begin() + 1);
  if (b.shape(target) != expected) {
    throw InputError("the target has shape " + to_text(b.shape(target)) + ", expected " + to_text(expected));
  }
  const std::string reduction = n.text("reduction", "mean");
  if (reduction != "none" && reduction != "sum" && reduction != "mean") {
    throw InputError("attribute 'reduction' is '" + reduction + "', expected none, sum or mean");
  }
  const Type type = b[scores].type;
  const TensorId zero = b.scalar(type, 0);
  Shape with_class = shape;
  with_class[1] = 1;
  TensorId index = b.reshape(target, with_class);
  // An ignored class may be out of range: it reads class 0 and counts nothing.
  TensorId ignored = kNoTensor;
  if (n.has_attribute("ignore_index")) {
    const TensorId marker = b.constant(make_constant("", b[target].type, {}, Integers{n.integer("ignore_index", 0)}));
    ignored = b.compare("eq", index, marker);
    index = b.select(ignored, b.scalar(b[target].type, 0), index);
  }
  auto unless_ignored = [&](TensorId x) { return ignored == kNoTensor ? x : b.select(ignored, zero, x); };
  TensorId loss = b.unary("neg", b.take_along(scores, index, 1));
  TensorId weights = kNoTensor;
  if (n.has_input(2)) {
    if (b.shape(n.input(2)) != Shape{shape[1]}) {
      throw InputError("weights have shape " + to_text(b.shape(n.input(2))) + ", expected " + to_text(Shape{shape[1]}));
    }
    const TensorId flat = b.reshape(index, {elements(with_class)});
    weights = unless_ignored(b.reshape(b.take_along(n.input(2), flat, 0), with_class));
    loss = b.binary("mul", loss, weights);
  } else if (ignored != kNoTensor) {
    weights = b.select(ignored, zero, b.scalar(type, 1));
  }
  loss = unless_ignored(loss);
  if (reduction == "none") return b.reshape(loss, expected);
  const TensorId total = sum_all(b, loss);
  if (reduction == "sum") return total;
  if (weights == kNoTensor) return b.binary("div", total, static_cast<double>(elements(expected)));
  return b.binary("div", total, sum_all(b, weights));
}

Ids negative_log_likelihood(NodeContext &n) { return {likelihood_loss(n, n.input(0))}; }

Ids softmax_cross_entropy(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  if (b.rank(x) < 2) throw InputError("scores of shape " + to_text(b.shape(x)) + " must have rank 2 or more");
  const TensorId shifted = b.binary("sub", x, b.reduce("max", x, {1}));
  const TensorId total = b.unary("log", b.reduce("sum", b.unary("exp", shifted), {1}));
  const TensorId scores = b.binary("sub", shifted, total);
  return {likelihood_loss(n, scores), scores};
}

}  // namespace

void register_loss(LoweringTable &table) {
  table["NegativeLogLikelihoodLoss"] = negative_log_likelihood;
  table["SoftmaxCrossEntropyLoss"] = softmax_cross_entropy;
}

}  // namespace cx::compiler
