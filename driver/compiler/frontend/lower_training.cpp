// One step of an optimiser (ai.onnx.preview.training). Operands: learning rate, update count, then all tensors X, all
// gradients G, all first states and, but for Momentum and Adagrad, all second states.
#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;

class Optimiser {
 public:
  Optimiser(NodeContext &n, std::size_t operands_per_tensor) : n_(n), per_tensor_(operands_per_tensor) {
    const std::size_t rest = n.input_count() < 2 ? 0 : n.input_count() - 2;
    if (rest == 0 || rest % per_tensor_ != 0) {
      throw InputError(std::to_string(n.input_count()) + " inputs, expected 2 and a multiple of " +
                       std::to_string(per_tensor_));
    }
    count_ = rest / per_tensor_;
    rate_ = scalar(0, "learning rate");
    steps_ = n.b.cast(scalar(1, "update count"), n.b[rate_].type);
  }

  std::size_t count() const { return count_; }
  TensorId rate() const { return rate_; }
  TensorId steps() const { return steps_; }

  // Operand `kind` (0 for X, 1 for G, ...) of tensor i; all have the shape of X.
  TensorId operand(std::size_t kind, std::size_t i) const {
    const TensorId x = n_.input(2 + i);
    const TensorId id = n_.input(2 + kind * count_ + i);
    if (n_.b.shape(id) != n_.b.shape(x)) {
      throw InputError("input " + std::to_string(2 + kind * count_ + i) + " has shape " + to_text(n_.b.shape(id)) +
                       ", expected that of its tensor, " + to_text(n_.b.shape(x)));
    }
    return id;
  }

  // norm_coefficient * X + G
  TensorId gradient(std::size_t i) const {
    const float norm = n_.real("norm_coefficient", 0);
    if (norm == 0) return operand(1, i);
    return n_.b.binary("add", n_.b.binary("mul", operand(0, i), norm), operand(1, i));
  }

  // value where at least one update was made before, otherwise `first`
  TensorId after_first(TensorId value, TensorId first) const {
    Builder &b = n_.b;
    return b.select(b.compare("gt", steps_, b.scalar(b[steps_].type, 0)), value, first);
  }

 private:
  TensorId scalar(std::size_t index, const std::string &role) const {
    const Shape shape = n_.b.shape(n_.input(index));
    if (elements(shape) != 1) throw InputError(role + " has shape " + to_text(shape) + ", expected a scalar");
    return n_.b.reshape(n_.input(index), {});
  }

  NodeContext &n_;
  const std::size_t per_tensor_;
  std::size_t count_ = 0;
  TensorId rate_ = kNoTensor;
  TensorId steps_ = kNoTensor;
};

TensorId mixed(Builder &b, TensorId old, float weight, TensorId added, double factor) {
  return b.binary("add", b.binary("mul", old, weight), b.binary("mul", added, factor));
}

Ids adagrad(NodeContext &n) {
  Builder &b = n.b;
  const Optimiser o(n, 3);
  const TensorId decay = b.binary("add", b.binary("mul", o.steps(), n.real("decay_factor", 0)), 1.0);
  const TensorId rate = b.binary("div", o.rate(), decay);
  Ids tensors, squares;
  for (std::size_t i = 0; i < o.count(); ++i) {
    const TensorId g = o.gradient(i);
    squares.push_back(b.binary("add", o.operand(2, i), b.binary("mul", g, g)));
    const TensorId root = b.binary("add", b.unary("sqrt", squares.back()), n.real("epsilon", 1e-6F));
    tensors.push_back(b.binary("sub", o.operand(0, i), b.binary("div", b.binary("mul", g, rate), root)));
  }
  tensors.insert(tensors.end(), squares.begin(), squares.end());
  return tensors;
}

Ids adam(NodeContext &n) {
  Builder &b = n.b;
  const Optimiser o(n, 4);
  const float alpha = n.real("alpha", 0.9F);
  const float beta = n.real("beta", 0.999F);
  const float shrink = n.real("norm_coefficient_post", 0);
  const Type type = b[o.rate()].type;
  auto remaining = [&](float base) {  // 1 - base ^ steps
    return b.unary("affine", b.binary("pow", b.scalar(type, base), o.steps()), -1, 1);
  };
  const TensorId corrected =
      b.binary("div", b.binary("mul", o.rate(), b.unary("sqrt", remaining(beta))), remaining(alpha));
  const TensorId rate = o.after_first(corrected, o.rate());
  Ids tensors, momenta, squares;
  for (std::size_t i = 0; i < o.count(); ++i) {
    const TensorId g = o.gradient(i);
    momenta.push_back(mixed(b, o.operand(2, i), alpha, g, 1.0 - static_cast<double>(alpha)));
    squares.push_back(mixed(b, o.operand(3, i), beta, b.binary("mul", g, g), 1.0 - static_cast<double>(beta)));
    const TensorId root = b.binary("add", b.unary("sqrt", squares.back()), n.real("epsilon", 1e-6F));
    const TensorId step = b.binary("div", b.binary("mul", momenta.back(), rate), root);
    const TensorId moved = b.binary("sub", o.operand(0, i), step);
    tensors.push_back(shrink == 0 ? moved : b.binary("mul", moved, 1.0 - static_cast<double>(shrink)));
  }
  tensors.insert(tensors.end(), momenta.begin(), momenta.end());
  tensors.insert(tensors.end(), squares.begin(), squares.end());
  return tensors;
}

Ids momentum(NodeContext &n) {
  Builder &b = n.b;
  const Optimiser o(n, 3);
  const float alpha = n.real("alpha", 0);
  const std::string mode = n.text("mode", "");
  if (mode != "standard" && mode != "nesterov") {
    throw InputError("attribute 'mode' is '" + mode + "', expected standard or nesterov");
  }
  const Type type = b[o.rate()].type;
  const TensorId weight = o.after_first(b.scalar(type, n.real("beta", 0)), b.scalar(type, 1));
  Ids tensors, momenta;
  for (std::size_t i = 0; i < o.count(); ++i) {
    const TensorId g = o.gradient(i);
    momenta.push_back(b.binary("add", b.binary("mul", o.operand(2, i), alpha), b.binary("mul", g, weight)));
    TensorId step = momenta.back();
    if (mode == "nesterov") step = b.binary("add", g, b.binary("mul", step, alpha));
    tensors.push_back(b.binary("sub", o.operand(0, i), b.binary("mul", step, o.rate())));
  }
  tensors.insert(tensors.end(), momenta.begin(), momenta.end());
  return tensors;
}

}  // namespace

void register_training(LoweringTable &table) {
  const std::string domain = "ai.onnx.preview.training.";
  table[domain + "Adagrad"] = adagrad;
  table[domain + "Adam"] = adam;
  table[domain + "Momentum"] = momentum;
}

}  // namespace cx::compiler
