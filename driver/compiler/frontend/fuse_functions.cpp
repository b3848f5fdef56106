#include <cmath>

#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/rewriter.hpp"

namespace cx::compiler {
namespace {

class Fuser {
 public:
  explicit Fuser(Graph &graph) : rewriter_(graph) {}

  void run() {
    rewriter_.run([this](Node node) { visit(std::move(node)); });
  }

 private:
  static bool near(float value, double expected) { return std::fabs(value - expected) <= 1e-5 * std::fabs(expected); }

  // The operand beside a scalar constant of the given value: x in func(x, value), either order if func commutes.
  TensorId beside_scalar(TensorId id, const std::string &func, double expected) const {
    const Node *node = rewriter_.producer(id, "Binary");
    if (node == nullptr || node->text("func", "") != func) return kNoTensor;
    float value = 0;
    if (rewriter_.is_scalar(node->inputs[1], &value) && near(value, expected)) return node->inputs[0];
    const bool commutes = func == "add" || func == "mul";
    if (commutes && rewriter_.is_scalar(node->inputs[0], &value) && near(value, expected)) return node->inputs[1];
    return kNoTensor;
  }

  // x of x * factor, also written as x / (1 / factor).
  TensorId scaled(TensorId id, double factor) const {
    const TensorId product = beside_scalar(id, "mul", factor);
    return product != kNoTensor ? product : beside_scalar(id, "div", 1 / factor);
  }

  TensorId argument(TensorId id, const std::string &func) const {
    const Node *node = rewriter_.producer(id, "Unary");
    return node != nullptr && node->text("func", "") == func ? node->inputs[0] : kNoTensor;
  }

  // x of clamp(x + 3, 0, 6)
  TensorId relu6_of_x_plus_3(TensorId id) const {
    const TensorId sum = argument(id, "clamp");
    if (sum == kNoTensor) return kNoTensor;
    const Node *clamp = rewriter_.producer(id);
    if (clamp->real("alpha", 0) != 0 || clamp->real("beta", 0) != 6) return kNoTensor;
    return beside_scalar(sum, "add", 3);
  }

  // x of clamp(x + 3, 0, 6) / 6 or of the equal hard_sigmoid
  TensorId gate_argument(TensorId id) const {
    if (const TensorId gate = scaled(id, 1.0 / 6); gate != kNoTensor) return relu6_of_x_plus_3(gate);
    const TensorId x = argument(id, "hard_sigmoid");
    if (x == kNoTensor) return kNoTensor;
    const Node *gate = rewriter_.producer(id);
    return near(gate->real("alpha", 0), 1.0 / 6) && gate->real("beta", 0) == 0.5F ? x : kNoTensor;
  }

  // x of 1 + erf(x / sqrt 2)
  TensorId gaussian_argument(TensorId id) const {
    const TensorId erf = beside_scalar(id, "add", 1);
    const TensorId inner = erf == kNoTensor ? kNoTensor : argument(erf, "erf");
    return inner == kNoTensor ? kNoTensor : scaled(inner, 0.70710678118654752);
  }

  // Both operands of a product.
  const Node *product(TensorId id) const {
    const Node *node = rewriter_.producer(id, "Binary");
    return node != nullptr && node->text("func", "") == "mul" ? node : nullptr;
  }

  // The function that a product or quotient spells out, and its argument.
  std::string match(const Node &node, TensorId *x) const {
    const std::string func = node.text("func", "");
    float constant = 0;
    if (rewriter_.is_scalar(node.inputs[1], &constant)) {
      const double factor = func == "div" ? 1.0 / constant : constant;
      if (func != "mul" && func != "div") return "";
      const Node *inner = product(node.inputs[0]);
      if (inner == nullptr) return "";
      for (int side = 0; side < 2; ++side) {
        *x = inner->inputs[static_cast<std::size_t>(side)];
        const TensorId other = inner->inputs[static_cast<std::size_t>(1 - side)];
        if (std::fabs(factor * 6 - 1) < 1e-5 && relu6_of_x_plus_3(other) == *x) return "hard_swish";
        if (factor == 0.5 && gaussian_argument(other) == *x) return "gelu";
      }
      return "";
    }
    if (func != "mul") return "";
    for (int side = 0; side < 2; ++side) {
      *x = node.inputs[static_cast<std::size_t>(side)];
      const TensorId other = node.inputs[static_cast<std::size_t>(1 - side)];
      if (argument(other, "sigmoid") == *x) return "silu";
      if (gate_argument(other) == *x) return "hard_swish";
      // 0.5 on either factor: (0.5 x) (1 + erf) or x (0.5 (1 + erf))
      if (const TensorId half = scaled(*x, 0.5); half != kNoTensor && gaussian_argument(other) == half) {
        *x = half;
        return "gelu";
      }
      if (const TensorId half = scaled(other, 0.5); half != kNoTensor && gaussian_argument(half) == *x) return "gelu";
    }
    return "";
  }

  void visit(Node node) {
    TensorId x = kNoTensor;
    const std::string func = node.op == "Binary" ? match(node, &x) : "";
    // Constants of higher rank could have changed the shape on the way.
    if (!func.empty() && rewriter_[x].shape == rewriter_[node.outputs[0]].shape) {
      node.op = "Unary";
      node.inputs = {x};
      node.attributes = {{"func", func}, {"alpha", 0.0F}, {"beta", 0.0F}};
    }
    rewriter_.keep(std::move(node));
  }

  Rewriter rewriter_;
};

}  // namespace

void fuse_functions(Graph &graph) { Fuser(graph).run(); }

}  // namespace cx::compiler
