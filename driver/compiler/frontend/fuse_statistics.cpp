#include <cmath>
#include <set>

#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/rewriter.hpp"

namespace cx::compiler {
namespace {

using Integers = std::vector<int64_t>;

class Fuser {
 public:
  explicit Fuser(Graph &graph) : rewriter_(graph) {
    for (const Node &node : graph.nodes) {
      if (node.op == "Unary" && node.text("func", "") == "round") rounded_.insert(node.inputs[0]);
    }
  }

  void run() {
    rewriter_.run([this](Node node) { visit(std::move(node)); });
  }

 private:
  const Tensor &result(const Node &node) const { return rewriter_[node.outputs[0]]; }

  void visit(Node node) {
    const std::string func = node.text("func", "");
    if (node.op == "Reduce") return reduce(std::move(node));
    if (node.op == "Binary" && func == "div" && result(node).type == Type::F32) return quotient(std::move(node));
    if (node.op == "Binary" && func == "mul") tanh_gelu(node);
    rewriter_.keep(std::move(node));
  }

  const Node *function(TensorId id, const std::string &op, const std::string &func) const {
    const Node *node = rewriter_.producer(id, op);
    return node != nullptr && node->text("func", "") == func ? node : nullptr;
  }

  const Node *reduction(TensorId id, const std::string &kind) const {
    const Node *node = rewriter_.producer(id, "Reduce");
    return node != nullptr && node->text("kind", "") == kind ? node : nullptr;
  }

  // Sums and means of squares and sums of magnitudes need no tensor of those.
  void reduce(Node node) {
    const std::string kind = node.text("kind", "");
    const TensorId x = node.inputs[0];
    if (rewriter_[x].type != Type::F32 || rewriter_.other_uses(x) != 0) return rewriter_.keep(std::move(node));
    const Node *square = function(x, "Binary", "mul");
    if (square != nullptr && square->inputs[0] == square->inputs[1] && (kind == "sum" || kind == "mean")) {
      const TensorId source = square->inputs[0];
      const int64_t count = elements(rewriter_[source].shape) / elements(result(node).shape);
      node.inputs = {source};
      node.attributes["kind"] = std::string("sumsq");
      if (kind == "sum") return rewriter_.keep(std::move(node));
      const TensorId factor = rewriter_.constant(
          Tensor::constant(node.name, {}, std::vector<float>{static_cast<float>(1.0 / static_cast<double>(count))}));
      Node scaled{node.name, "Binary", {kNoTensor, factor}, node.outputs, {{"func", std::string("mul")}}};
      node.outputs.clear();
      scaled.inputs[0] = rewriter_.emit(std::move(node));
      return rewriter_.keep(std::move(scaled));
    }
    if (const Node *magnitude = function(x, "Unary", "abs"); magnitude != nullptr && kind == "sum") {
      node.inputs = {magnitude->inputs[0]};
      node.attributes["kind"] = std::string("abssum");
    }
    rewriter_.keep(std::move(node));
  }

  // exp(x - max x) / sum of the same, along one axis; also without the maximum.
  bool softmax(const Node &node, TensorId *x, int64_t *axis) const {
    const Node *exponential = function(node.inputs[0], "Unary", "exp");
    const Node *sum = reduction(node.inputs[1], "sum");
    if (exponential == nullptr || sum == nullptr || sum->inputs[0] != node.inputs[0]) return false;
    const Integers axes = sum->integers("axes");
    if (axes.size() != 1) return false;
    *axis = axes[0];
    *x = exponential->inputs[0];
    if (const Node *shifted = function(*x, "Binary", "sub"); shifted != nullptr) {
      const Node *maximum = reduction(shifted->inputs[1], "max");
      if (maximum != nullptr && maximum->inputs[0] == shifted->inputs[0] && maximum->integers("axes") == axes) {
        *x = shifted->inputs[0];
      }
    }
    return rewriter_[*x].shape == result(node).shape;
  }

  void quotient(Node node) {
    TensorId x = kNoTensor;
    int64_t axis = 0;
    if (softmax(node, &x, &axis)) {
      node.op = "Softmax";
      node.inputs = {x};
      node.attributes = {{"axis", axis}};
      return rewriter_.keep(std::move(node));
    }
    // A quotient costs several products: one reciprocal for all elements that share a divisor. Not where whole numbers
    // are made of it, as by quantisers: a quotient that was rounded once decides halves.
    constexpr int64_t kShared = 4;
    const Tensor &divisor = rewriter_[node.inputs[1]];
    if (rewriter_.producer(node.inputs[1]) != nullptr && rounded_.count(node.outputs[0]) == 0 &&
        elements(divisor.shape) * kShared <= elements(result(node).shape)) {
      Node inverse{
          node.name, "Unary", {node.inputs[1]}, {}, {{"func", std::string("recip")}, {"alpha", 0.0F}, {"beta", 0.0F}}};
      node.inputs[1] = rewriter_.emit(std::move(inverse));
      node.attributes["func"] = std::string("mul");
    }
    rewriter_.keep(std::move(node));
  }

  // The scalar constant that a product or sum has beside `x`, which is returned too; none: kNoTensor.
  TensorId beside_scalar(TensorId id, const std::string &func, float *value) const {
    const Node *node = function(id, "Binary", func);
    if (node == nullptr) return kNoTensor;
    for (std::size_t side = 0; side < 2; ++side) {
      if (rewriter_.is_scalar(node->inputs[1 - side], value)) return node->inputs[side];
    }
    return kNoTensor;
  }

  static bool near(double value, double expected) { return std::fabs(value - expected) <= 1e-4 * std::fabs(expected); }

  // x of sqrt(2 / pi) (x + 0.044715 x^3), the cube as (x x) x
  TensorId inner_argument(TensorId id) const {
    float factor = 0;
    const TensorId sum = beside_scalar(id, "mul", &factor);
    if (sum == kNoTensor || !near(factor, std::sqrt(2 / M_PI))) return kNoTensor;
    const Node *add = function(sum, "Binary", "add");
    if (add == nullptr) return kNoTensor;
    for (std::size_t side = 0; side < 2; ++side) {
      const TensorId x = add->inputs[side];
      float weight = 0;
      const TensorId cube = beside_scalar(add->inputs[1 - side], "mul", &weight);
      if (cube == kNoTensor || !near(weight, 0.044715)) continue;
      const Node *outer = function(cube, "Binary", "mul");
      if (outer == nullptr) continue;
      for (std::size_t k = 0; k < 2; ++k) {
        const Node *square = function(outer->inputs[k], "Binary", "mul");
        if (outer->inputs[1 - k] == x && square != nullptr && square->inputs[0] == x && square->inputs[1] == x)
          return x;
      }
    }
    return kNoTensor;
  }

  // x of 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))
  TensorId gate_argument(TensorId id) const {
    float one = 0;
    const TensorId curve = beside_scalar(id, "add", &one);
    if (curve == kNoTensor || one != 1) return kNoTensor;
    const Node *tanh = function(curve, "Unary", "tanh");
    return tanh == nullptr ? kNoTensor : inner_argument(tanh->inputs[0]);
  }

  // x of x (1 + tanh ...) / 2, wherever the half stands
  TensorId gelu_argument(const Node &node) const {
    float half = 0;
    if (rewriter_.is_scalar(node.inputs[1], &half) && half == 0.5F) {
      const Node *inner = function(node.inputs[0], "Binary", "mul");
      if (inner == nullptr) return kNoTensor;
      for (std::size_t side = 0; side < 2; ++side) {
        if (gate_argument(inner->inputs[1 - side]) == inner->inputs[side]) return inner->inputs[side];
      }
      return kNoTensor;
    }
    for (std::size_t side = 0; side < 2; ++side) {
      const TensorId x = node.inputs[side];
      const TensorId other = node.inputs[1 - side];
      const TensorId halved = beside_scalar(x, "mul", &half);
      if (halved != kNoTensor && half == 0.5F && gate_argument(other) == halved) return halved;
      const TensorId gate = beside_scalar(other, "mul", &half);
      if (gate != kNoTensor && half == 0.5F && gate_argument(gate) == x) return x;
    }
    return kNoTensor;
  }

  // (1 + tanh u) / 2 is sigmoid(2 u): x sigmoid(x (a x^2 + b)) with a sum and products less.
  void tanh_gelu(Node &node) {
    const TensorId x = gelu_argument(node);
    if (x == kNoTensor || rewriter_[x].shape != result(node).shape) return;
    const double scale = 2 * std::sqrt(2 / M_PI);
    auto unary = [&](const std::string &func, TensorId id, double alpha, double beta) {
      return rewriter_.emit(
          {node.name,
           "Unary",
           {id},
           {},
           {{"func", func}, {"alpha", static_cast<float>(alpha)}, {"beta", static_cast<float>(beta)}}});
    };
    auto product = [&](TensorId a, TensorId b) {
      return rewriter_.emit({node.name, "Binary", {a, b}, {}, {{"func", std::string("mul")}}});
    };
    const TensorId slope = unary("affine", product(x, x), 0.044715 * scale, scale);
    node.inputs = {x, unary("sigmoid", product(x, slope), 0, 0)};
  }

  Rewriter rewriter_;
  std::set<TensorId> rounded_;  ///< what goes to the next whole number
};

}  // namespace

void fuse_statistics(Graph &graph) { Fuser(graph).run(); }

}  // namespace cx::compiler
