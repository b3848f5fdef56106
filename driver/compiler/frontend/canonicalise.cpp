#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/rewriter.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"

namespace cx::compiler {
namespace {

using Integers = std::vector<int64_t>;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Canonicaliser {
 public:
  explicit Canonicaliser(Graph &graph) : graph_(graph), rewriter_(graph) {}

  void run() {
    rewriter_.run([this](Node node) { visit(std::move(node)); });
  }

 private:
  const Shape &shape(TensorId id) const { return graph_[id].shape; }
  const Shape &result(const Node &node) const { return shape(node.outputs[0]); }

  void visit(Node node) {
    if (node.op == "Binary") return binary(std::move(node));
    if (node.op == "Unary") return unary(std::move(node));
    if (node.op == "Reshape") return reshape(std::move(node));
    if (node.op == "Transpose") return transpose(std::move(node));
    if (node.op == "Gather") return gather(std::move(node));
    if (node.op == "Slice") return slice(std::move(node));
    if (node.op == "Reduce") return reduce(std::move(node));
    if (node.op == "MatMul") return matmul(std::move(node));
    if (node.op == "Conv" || node.op == "Pool") return absorb_pad(std::move(node));
    if (node.op == "Cast") return cast(std::move(node));
    const bool same_shape = !node.inputs.empty() && node.inputs[0] != kNoTensor &&
                            shape(node.inputs[0]) == result(node) &&
                            graph_[node.inputs[0]].type == graph_[node.outputs[0]].type;
    const bool trivial = (node.op == "Expand" || node.op == "Pad") || (node.op == "Concat" && node.inputs.size() == 1);
    if (trivial && same_shape) return rewriter_.replace(node.outputs[0], node.inputs[0]);
    rewriter_.keep(std::move(node));
  }

  // Whether every value of one type is one of the other.
  static bool holds_all(Type wide, Type narrow) {
    if (wide == Type::F64) return narrow != Type::I64 && narrow != Type::U64;
    if (wide == Type::F32) return (is_float(narrow) && narrow != Type::F64) || bytes_of(narrow) <= 2;
    if (is_float(wide) || is_float(narrow)) return false;
    const bool is_signed = wide == Type::I8 || wide == Type::I16 || wide == Type::I32 || wide == Type::I64;
    if (narrow == Type::Bool) return wide != Type::Bool;
    const bool from_signed = narrow == Type::I8 || narrow == Type::I16 || narrow == Type::I32 || narrow == Type::I64;
    if (from_signed && !is_signed) return false;
    return is_signed == from_signed ? bytes_of(wide) >= bytes_of(narrow) : bytes_of(wide) > bytes_of(narrow);
  }

  // There and back again through a type that loses nothing.
  void cast(Node node) {
    const Type to = graph_[node.outputs[0]].type;
    if (graph_[node.inputs[0]].type == to) return rewriter_.replace(node.outputs[0], node.inputs[0]);
    if (const Node *before = rewriter_.producer(node.inputs[0], "Cast")) {
      const Type from = graph_[before->inputs[0]].type;
      if (from == to && holds_all(graph_[node.inputs[0]].type, from)) {
        return rewriter_.replace(node.outputs[0], before->inputs[0]);
      }
    }
    rewriter_.keep(std::move(node));
  }

  void become_view(Node node) {
    node.op = "Reshape";
    node.attributes.clear();
    reshape(std::move(node));
  }

  void reshape(Node node) {
    // A view of a view is a view.
    while (const Node *before = rewriter_.producer(node.inputs[0], "Reshape")) node.inputs[0] = before->inputs[0];
    if (shape(node.inputs[0]) == result(node)) return rewriter_.replace(node.outputs[0], node.inputs[0]);
    rewriter_.keep(std::move(node));
  }

  void transpose(Node node) {
    Integers perm = node.integers("perm");
    if (const Node *before = rewriter_.producer(node.inputs[0], "Transpose")) {
      const Integers inner = before->integers("perm");
      for (int64_t &axis : perm) axis = inner[static_cast<std::size_t>(axis)];
      node.inputs[0] = before->inputs[0];
      node.attributes["perm"] = perm;
    }
    // Moving dimensions of size 1 only renames positions.
    Integers moved;
    for (int64_t axis : perm) {
      if (shape(node.inputs[0])[static_cast<std::size_t>(axis)] != 1) moved.push_back(axis);
    }
    if (std::is_sorted(moved.begin(), moved.end())) return become_view(std::move(node));
    rewriter_.keep(std::move(node));
  }

  void gather(Node node) {
    const Integers indices = node.integers("indices");
    const int64_t step = indices.size() < 2 ? 1 : indices[1] - indices[0];
    bool even = step != 0;
    for (std::size_t i = 1; even && i < indices.size(); ++i) even = indices[i] - indices[i - 1] == step;
    if (!even) return rewriter_.keep(std::move(node));
    const auto axis = static_cast<std::size_t>(node.integer("axis", 0));
    Integers starts(result(node).size(), 0);
    Integers steps(result(node).size(), 1);
    starts[axis] = indices[0];
    steps[axis] = step;
    node.op = "Slice";
    node.attributes = {{"starts", starts}, {"steps", steps}};
    slice(std::move(node));
  }

  void slice(Node node) {
    const Integers starts = node.integers("starts");
    const Integers steps = node.integers("steps");
    const bool from_zero = std::all_of(starts.begin(), starts.end(), [](int64_t start) { return start == 0; });
    const bool forward = std::all_of(steps.begin(), steps.end(), [](int64_t step) { return step == 1; });
    if (from_zero && forward && shape(node.inputs[0]) == result(node)) {
      return rewriter_.replace(node.outputs[0], node.inputs[0]);
    }
    rewriter_.keep(std::move(node));
  }

  void reduce(Node node) {
    const std::string kind = node.text("kind", "");
    const bool single = shape(node.inputs[0]) == result(node);
    if (single && kind != "sumsq" && kind != "abssum") return rewriter_.replace(node.outputs[0], node.inputs[0]);
    rewriter_.keep(std::move(node));
  }

  void matmul(Node node) {
    if (const Node *before = rewriter_.producer(node.inputs[1], "Transpose")) {
      Integers expected(shape(node.inputs[1]).size());
      std::iota(expected.begin(), expected.end(), 0);
      std::swap(expected[expected.size() - 1], expected[expected.size() - 2]);
      if (before->integers("perm") == expected) {
        node.inputs[1] = before->inputs[0];
        node.attributes["trans_b"] = int64_t{1} - node.integer("trans_b", 0);
      }
    }
    rewriter_.keep(std::move(node));
  }

  // Padding with the operator's own padding value becomes its pads.
  void absorb_pad(Node node) {
    const Node *before = rewriter_.producer(node.inputs[0], "Pad");
    if (before == nullptr) return rewriter_.keep(std::move(node));
    const Integers extra = before->integers("pads");
    const float own = node.op == "Pool" && node.text("kind", "") == "max"
                          ? -kInfinity
                          : static_cast<float>(node.integer("pad_value", 0));
    const bool only_spatial = extra[0] == 0 && extra[1] == 0 && extra[4] == 0 && extra[5] == 0;
    if (!only_spatial || before->real("value", 0) != own) return rewriter_.keep(std::move(node));
    Integers pads = node.integers("pads");
    const std::size_t from[] = {2, 3, 6, 7};
    for (std::size_t i = 0; i < 4; ++i) pads[i] += extra[from[i]];
    node.attributes["pads"] = pads;
    node.inputs[0] = before->inputs[0];
    rewriter_.keep(std::move(node));
  }

  void unary(Node node) {
    const std::string func = node.text("func", "");
    const float low = node.real("alpha", 0);
    const float high = node.real("beta", 0);
    if (func == "copy" || (func == "clamp" && low == -kInfinity && high == kInfinity)) {
      return rewriter_.replace(node.outputs[0], node.inputs[0]);
    }
    if (func == "clamp" && low == 0 && high == kInfinity) {
      node.attributes = {{"func", std::string("relu")}, {"alpha", 0.0F}, {"beta", 0.0F}};
    }
    // A view between a Conv or MatMul and its activation moves behind the activation, so that the two meet.
    const Node *view = rewriter_.producer(node.inputs[0], "Reshape");
    if (view != nullptr && rewriter_.other_uses(node.inputs[0]) == 0) {
      const TensorId source = view->inputs[0];
      if (rewriter_.producer(source, "Conv") != nullptr || rewriter_.producer(source, "MatMul") != nullptr) {
        Node before{node.name, "Unary", {source}, {}, node.attributes};
        Node after{node.name, "Reshape", {rewriter_.emit(std::move(before))}, node.outputs, {}};
        return reshape(std::move(after));
      }
    }
    rewriter_.keep(std::move(node));
  }

  void become_clamp(Node node, float low, float high) {
    node.op = "Unary";
    node.inputs.pop_back();
    node.attributes = {{"func", std::string("clamp")}, {"alpha", low}, {"beta", high}};
    unary(std::move(node));
  }

  void binary(Node node) {
    std::string func = node.text("func", "");
    const bool commutes = func == "add" || func == "mul" || func == "max" || func == "min";
    if (commutes && graph_[node.inputs[0]].is_constant()) std::swap(node.inputs[0], node.inputs[1]);
    const Tensor &b = graph_[node.inputs[1]];
    if (!b.is_constant()) return rewriter_.keep(std::move(node));
    if (func == "sub" && b.type == Type::F32) {
      std::vector<float> values = b.values<float>();
      for (float &value : values) value = -value;
      node.inputs[1] = rewriter_.constant(Tensor::constant(b.name, b.shape, values));
      node.attributes["func"] = func = "add";
    }
    float value = 0;
    if (!rewriter_.is_scalar(node.inputs[1], &value)) return rewriter_.keep(std::move(node));
    if (func == "div" && std::isnormal(value)) {
      int exponent = 0;
      const float inverse = 1 / value;
      if (std::fabs(std::frexp(value, &exponent)) == 0.5F && std::isnormal(inverse)) {
        const Shape own = shape(node.inputs[1]);
        node.inputs[1] = rewriter_.constant(Tensor::constant(node.name, own, std::vector<float>{inverse}));
        node.attributes["func"] = func = "mul";
        value = inverse;
      }
    }
    // Rank may still grow by the constant's dimensions of size 1.
    if (shape(node.inputs[0]) == result(node)) {
      const bool nothing = (value == 0 && func == "add") || (value == 1 && (func == "mul" || func == "div"));
      if (nothing) return rewriter_.replace(node.outputs[0], node.inputs[0]);
      if (func == "max" && !std::isnan(value)) return become_clamp(std::move(node), value, kInfinity);
      if (func == "min" && !std::isnan(value)) return become_clamp(std::move(node), -kInfinity, value);
    }
    rewriter_.keep(std::move(node));
  }

  Graph &graph_;
  Rewriter rewriter_;
};

}  // namespace

void canonicalise(Graph &graph) { Canonicaliser(graph).run(); }

}  // namespace cx::compiler
