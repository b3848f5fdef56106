// What each pass must do, must not do, and that values stay the same.
#include <catch2/catch.hpp>
#include <cmath>

#include "tb/driver/compiler/onnx_case.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx::compiler;

namespace {

Graph import_model(const OnnxModel &model, const ImportOptions &options = {}) {
  const TemporaryFile file(model.bytes());
  return import_onnx(file.path(), options);
}

std::vector<std::string> operators(const Graph &graph) {
  std::vector<std::string> names;
  for (const Node &node : graph.nodes) {
    const std::string func = node.text("func", "");
    names.push_back(func.empty() ? node.op : node.op + ":" + func);
  }
  return names;
}

using Names = std::vector<std::string>;

Values ramp(Shape shape, double first, double step) {
  Values values{std::move(shape), {}};
  for (int64_t i = 0; i < elements(values.shape); ++i) values.data.push_back(first + step * static_cast<double>(i));
  return values;
}

std::vector<float> floats(std::size_t count, float first, float step) {
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(first + step * static_cast<float>(i));
  return values;
}

void set_integers(onnx::NodeProto &node, const std::string &name, const std::vector<int64_t> &values) {
  auto &attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INTS);
  for (int64_t value : values) attribute.add_ints(value);
}

void set_integer(onnx::NodeProto &node, const std::string &name, int64_t value) {
  auto &attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
}

// A 1x1 convolution x[1,2,3,3] -> c with weights [3,2,1,1].
OnnxModel convolution() {
  OnnxModel model;
  model.input("x", {1, 2, 3, 3});
  model.constant("w", {3, 2, 1, 1}, {1, 2, 3, 4, 5, 6});
  model.node("Conv", {"x", "w"}, {"c"}, "conv");
  return model;
}

}  // namespace

TEST_CASE("Batch normalisation after a convolution becomes weights and bias") {
  OnnxModel model = convolution();
  model.constant("scale", {3}, {1, 2, 3});
  model.constant("bias", {3}, {0.5, 0, -0.5});
  model.constant("mean", {3}, {1, -1, 0});
  model.constant("var", {3}, {4, 1, 0.25});
  model.node("BatchNormalization", {"c", "scale", "bias", "mean", "var"}, {"n"}, "norm");
  model.node("Relu", {"n"}, {"y"});
  model.output("y");
  const Graph graph = import_model(model);
  CHECK(operators(graph) == Names{"Conv", "Unary:relu"});
  const auto y = evaluate_reference(graph, {{"x", ramp({1, 2, 3, 3}, -1, 0.25)}}).at("y");
  // Channel 1 at position 0: w = [3, 4], x = [-1, 1.25].
  const double c = 3 * -1 + 4 * 1.25;
  CHECK(y.data[9] == Approx((c + 1) / std::sqrt(1 + 1e-5) * 2).epsilon(1e-6));
}

TEST_CASE("Constants after a product are folded only where that is allowed") {
  SECTION("scalars and per-channel values, both orders") {
    OnnxModel model = convolution();
    model.constant("k", {3, 1, 1}, {1, 2, 4});
    model.constant("s", {}, {2});
    model.node("Mul", {"k", "c"}, {"a"});
    model.node("Sub", {"s", "a"}, {"b"});
    model.node("Div", {"b", "s"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"Conv"});
    const auto y = evaluate_reference(graph, {{"x", ramp({1, 2, 3, 3}, 0, 1)}}).at("y");
    // Channel 2 at position 0: c = 5 * 0 + 6 * 9.
    CHECK(y.data[18] == Approx((2 - 4 * 54.0) / 2));
  }
  SECTION("not when the product has another consumer") {
    OnnxModel model = convolution();
    model.constant("k", {3, 1, 1}, {1, 2, 4});
    model.node("Mul", {"c", "k"}, {"y"});
    model.output("y");
    model.output("c");
    CHECK(operators(import_model(model)) == Names{"Conv", "Binary:mul"});
  }
  SECTION("not along another axis") {
    OnnxModel model = convolution();
    model.constant("k", {3}, {1, 2, 4});
    model.node("Mul", {"c", "k"}, {"y"});
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Conv", "Binary:mul"});
  }
  SECTION("not when infinite") {
    OnnxModel model = convolution();
    model.constant("k", {}, {INFINITY});
    model.node("Mul", {"c", "k"}, {"y"});
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Conv", "Binary:mul"});
  }
  SECTION("bias of a matrix product, behind which a view moves") {
    OnnxModel model;
    model.input("x", {2, 3});
    model.constant("w", {3, 4}, floats(12, -1, 0.5));
    model.constant("b", {4}, {1, 2, 3, 4});
    model.integers("shape", {1, 2, 4});
    model.node("MatMul", {"x", "w"}, {"m"});
    model.node("Add", {"m", "b"}, {"s"});
    model.node("Reshape", {"s", "shape"}, {"r"});
    model.node("Relu", {"r"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"MatMul", "Unary:relu", "Reshape"});
    CHECK(graph.nodes[0].inputs.size() == 3);
  }
}

TEST_CASE("Spelled-out functions become one operation") {
  OnnxModel model;
  model.input("x", {5});
  const Values x{{5}, {-4, -1, 0, 1.5, 7}};
  SECTION("hard swish, divided at the end") {
    model.constant("3", {1}, {3});
    model.constant("0", {}, {0});
    model.constant("6", {}, {6});
    model.node("Add", {"x", "3"}, {"a"});
    model.node("Clip", {"a", "0", "6"}, {"b"});
    model.node("Mul", {"x", "b"}, {"c"});
    model.node("Div", {"c", "6"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"Unary:hard_swish"});
    CHECK(evaluate_reference(graph, {{"x", x}}).at("y").data[3] == Approx(1.5 * 4.5 / 6));
  }
  SECTION("hard swish by HardSigmoid") {
    auto &node = model.node("HardSigmoid", {"x"}, {"g"});
    auto &alpha = *node.add_attribute();
    alpha.set_name("alpha");
    alpha.set_type(onnx::AttributeProto::FLOAT);
    alpha.set_f(1.0F / 6);
    model.node("Mul", {"g", "x"}, {"y"});
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Unary:hard_swish"});
  }
  SECTION("silu") {
    model.node("Sigmoid", {"x"}, {"g"});
    model.node("Mul", {"x", "g"}, {"y"});
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Unary:silu"});
  }
  SECTION("gelu in three spellings") {
    model.constant("r", {}, {1.41421356F});
    model.constant("1", {}, {1});
    model.constant("h", {}, {0.5F});
    model.node("Div", {"x", "r"}, {"a"});
    model.node("Erf", {"a"}, {"b"});
    model.node("Add", {"b", "1"}, {"c"});
    const int spelling = GENERATE(0, 1, 2);
    if (spelling == 0) {
      model.node("Mul", {"x", "c"}, {"d"});
      model.node("Mul", {"d", "h"}, {"y"});
    } else if (spelling == 1) {
      model.node("Mul", {"x", "h"}, {"d"});
      model.node("Mul", {"d", "c"}, {"y"});
    } else {
      model.node("Mul", {"h", "c"}, {"d"});
      model.node("Mul", {"x", "d"}, {"y"});
    }
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Unary:gelu"});
  }
  SECTION("another gate stays as it is") {
    model.input("z", {5});
    model.node("Sigmoid", {"z"}, {"g"});
    model.node("Mul", {"x", "g"}, {"y"});
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Unary:sigmoid", "Binary:mul"});
  }
  SECTION("affine") {
    model.constant("a", {}, {3});
    model.constant("b", {}, {-2});
    model.node("Mul", {"a", "x"}, {"m"});
    model.node("Add", {"m", "b"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"Unary:affine"});
    CHECK(evaluate_reference(graph, {{"x", x}}).at("y").data == std::vector<double>{-14, -5, -2, 2.5, 19});
  }
}

TEST_CASE("Views and moves are merged or vanish") {
  OnnxModel model;
  model.input("x", {2, 3, 4});
  SECTION("transposes that cancel") {
    set_integers(model.node("Transpose", {"x"}, {"a"}), "perm", {2, 0, 1});
    set_integers(model.node("Transpose", {"a"}, {"b"}), "perm", {1, 2, 0});
    model.node("Relu", {"b"}, {"y"});
    model.output("y");
    CHECK(operators(import_model(model)) == Names{"Unary:relu"});
  }
  SECTION("a transpose of dimensions of size 1 is a view, and views merge") {
    model.integers("axes", {0});
    model.integers("flat", {-1});
    model.node("Unsqueeze", {"x", "axes"}, {"a"});
    set_integers(model.node("Transpose", {"a"}, {"b"}), "perm", {1, 0, 2, 3});
    model.node("Reshape", {"b", "flat"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"Reshape"});
    CHECK(graph[graph.outputs[0]].shape == Shape{24});
  }
  SECTION("a transposed second operand") {
    model.input("z", {2, 5, 4});
    set_integers(model.node("Transpose", {"z"}, {"t"}), "perm", {0, 2, 1});
    model.node("MatMul", {"x", "t"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"MatMul"});
    CHECK(graph.nodes[0].integer("trans_b", -1) == 1);
  }
  SECTION("gathering every other index is a slice") {
    model.integers("i", {2, 0});
    set_integer(model.node("Gather", {"x", "i"}, {"y"}), "axis", 1);
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"Slice"});
    CHECK(graph.nodes[0].integers("steps") == std::vector<int64_t>{1, -2, 1});
  }
  SECTION("padding before a convolution") {
    model.input("p", {1, 1, 4, 4});
    model.integers("pads", {0, 0, 1, 0, 0, 0, 2, 1});
    model.constant("w", {1, 1, 3, 3}, std::vector<float>(9, 1));
    model.node("Pad", {"p", "pads"}, {"a"});
    model.node("Conv", {"a", "w"}, {"y"});
    model.output("y");
    const Graph graph = import_model(model);
    CHECK(operators(graph) == Names{"Conv"});
    CHECK(graph.nodes[0].integers("pads") == std::vector<int64_t>{1, 0, 2, 1});
  }
}

TEST_CASE("Shape arithmetic is folded") {
  OnnxModel model;
  model.symbolic_input("x", {"N", "6"});
  model.integers("zero", {0});
  model.integers("rest", {2, -1});
  model.node("Shape", {"x"}, {"s"});
  model.node("Gather", {"s", "zero"}, {"n"});
  set_integer(model.node("Concat", {"n", "rest"}, {"target"}), "axis", 0);
  model.node("Reshape", {"x", "target"}, {"y"});
  model.output("y");
  ImportOptions options;
  options.input_shapes["x"] = {5, 6};
  const Graph graph = import_model(model, options);
  CHECK(operators(graph) == Names{"Reshape"});
  CHECK(graph[graph.outputs[0]].shape == Shape{5, 2, 3});
}

TEST_CASE("Every graph output has a node of its own and keeps its name") {
  OnnxModel model;
  model.input("x", {2});
  model.constant("k", {2}, {1, 2});
  model.node("Identity", {"x"}, {"same"});
  model.node("Relu", {"x"}, {"r"});
  model.node("Identity", {"r"}, {"first"});
  model.node("Identity", {"r"}, {"second"});
  model.node("Neg", {"r"}, {"third"});
  for (const char *name : {"same", "k", "first", "second", "third"}) model.output(name);
  const Graph graph = import_model(model);
  Names names;
  for (TensorId id : graph.outputs) {
    names.push_back(graph[id].name);
    CHECK(graph.producer(id).has_value());
  }
  CHECK(names == Names{"same", "k", "first", "second", "third"});
  const auto outputs = evaluate_reference(graph, {{"x", {{2}, {-1, 3}}}});
  CHECK(outputs.at("same").data == std::vector<double>{-1, 3});
  CHECK(outputs.at("k").data == std::vector<double>{1, 2});
  CHECK(outputs.at("first").data == std::vector<double>{0, 3});
  CHECK(outputs.at("second").data == std::vector<double>{0, 3});
  CHECK(outputs.at("third").data == std::vector<double>{0, -3});
}

TEST_CASE("Equal constants are shared and dead nodes are gone") {
  OnnxModel model;
  model.input("x", {2});
  model.input("z", {2});
  model.constant("a", {2}, {1, 2});
  model.constant("b", {2}, {1, 2});
  model.node("Mul", {"x", "a"}, {"p"});
  model.node("Mul", {"z", "b"}, {"q"});
  model.node("Exp", {"p"}, {"unused"});
  model.node("Add", {"p", "q"}, {"y"});
  model.output("y");
  const Graph graph = import_model(model);
  CHECK(operators(graph) == Names{"Binary:mul", "Binary:mul", "Binary:add"});
  CHECK(graph.nodes[0].inputs[1] == graph.nodes[1].inputs[1]);
}

TEST_CASE("A selection with a constant mask becomes bounds") {
  OnnxModel model;
  model.input("x", {4});
  model.constant("c", {4}, {1, 0, 1, 0});
  model.constant("low", {}, {-1e9F});
  model.node("Cast", {"c"}, {"mask"}).add_attribute()->set_name("to");
  auto &to = *model.proto().mutable_graph()->mutable_node(0)->mutable_attribute(0);
  to.set_type(onnx::AttributeProto::INT);
  to.set_i(onnx::TensorProto::BOOL);
  model.node("Where", {"mask", "x", "low"}, {"y"});
  model.output("y");
  const auto y = evaluate_reference(import_model(model), {{"x", {{4}, {1, 2, -3, 4}}}}).at("y");
  CHECK(y.data == std::vector<double>{1, -1e9, -3, -1e9});
}

TEST_CASE("A conversion and its way back vanish only if nothing is lost between") {
  auto there_and_back = [](int type, int through) {
    OnnxModel model;
    model.input("x", {2}, type);
    set_integer(model.node("Cast", {"x"}, {"between"}), "to", through);
    set_integer(model.node("Cast", {"between"}, {"y"}), "to", type);
    model.output("y");
    return operators(import_model(model));
  };
  using onnx::TensorProto;
  CHECK(there_and_back(TensorProto::FLOAT, TensorProto::DOUBLE) == Names{"Copy"});
  CHECK(there_and_back(TensorProto::UINT8, TensorProto::INT16) == Names{"Copy"});
  CHECK(there_and_back(TensorProto::INT16, TensorProto::FLOAT) == Names{"Copy"});
  CHECK(there_and_back(TensorProto::BOOL, TensorProto::INT64) == Names{"Copy"});
  CHECK(there_and_back(TensorProto::FLOAT, TensorProto::FLOAT16) == Names{"Cast", "Cast"});
  CHECK(there_and_back(TensorProto::INT32, TensorProto::FLOAT) == Names{"Cast", "Cast"});
  CHECK(there_and_back(TensorProto::INT8, TensorProto::UINT16) == Names{"Cast", "Cast"});
  CHECK(there_and_back(TensorProto::INT64, TensorProto::DOUBLE) == Names{"Cast", "Cast"});
  CHECK(there_and_back(TensorProto::INT32, TensorProto::BOOL) == Names{"Cast", "Cast"});
}

namespace {

void constant_scalar(OnnxModel &model, const std::string &name, float value) { model.constant(name, {}, {value}); }

onnx::NodeProto &mean_of(OnnxModel &model, const std::string &op, const std::string &x, const std::string &y) {
  auto &node = model.node(op, {x}, {y});
  set_integers(node, "axes", {1});
  return node;
}

}  // namespace

TEST_CASE("Decomposed layer normalisation sums squares and divides once a row") {
  OnnxModel model(12);
  model.input("x", {3, 8});
  constant_scalar(model, "two", 2);
  constant_scalar(model, "epsilon", 1e-5F);
  mean_of(model, "ReduceMean", "x", "mean");
  model.node("Sub", {"x", "mean"}, {"centred"});
  model.node("Pow", {"centred", "two"}, {"square"});
  mean_of(model, "ReduceMean", "square", "variance");
  model.node("Add", {"variance", "epsilon"}, {"safe"});
  model.node("Sqrt", {"safe"}, {"deviation"});
  model.node("Div", {"centred", "deviation"}, {"y"});
  model.output("y");
  const Graph graph = import_model(model);
  CHECK(operators(graph) ==
        Names{"Reduce", "Binary:sub", "Reduce", "Unary:affine", "Unary:sqrt", "Unary:recip", "Binary:mul"});
  const Values x = ramp({3, 8}, -1, 0.37);
  const Values y = evaluate_reference(graph, {{"x", x}}).at("y");
  double variance = 0;
  for (int i = 0; i < 8; ++i) variance += std::pow((i - 3.5) * 0.37, 2) / 8;
  for (std::size_t i = 0; i < 24; ++i) {
    const double expected = (static_cast<double>(i % 8) - 3.5) * 0.37 / std::sqrt(variance + 1e-5);
    CHECK(y.data[i] == Approx(expected).epsilon(1e-5));
  }
}

TEST_CASE("A square that is used elsewhere too stays") {
  OnnxModel model(12);
  model.input("x", {3, 8});
  model.node("Mul", {"x", "x"}, {"square"});
  mean_of(model, "ReduceMean", "square", "m");
  model.node("Add", {"square", "m"}, {"y"});
  model.output("y");
  CHECK(operators(import_model(model)) == Names{"Binary:mul", "Reduce", "Binary:add"});
}

TEST_CASE("Spelled-out softmax is recognised along one axis of one tensor") {
  auto softmax = [](bool same_axis) {
    OnnxModel model(12);
    model.input("x", {8, 8});
    set_integers(model.node("ReduceMax", {"x"}, {"maximum"}), "axes", {1});
    model.node("Sub", {"x", "maximum"}, {"shifted"});
    model.node("Exp", {"shifted"}, {"e"});
    set_integers(model.node("ReduceSum", {"e"}, {"sum"}), "axes", {same_axis ? 1 : 0});
    model.node("Div", {"e", "sum"}, {"y"});
    model.output("y");
    return import_model(model);
  };
  const Graph graph = softmax(true);
  CHECK(operators(graph) == Names{"Softmax"});
  const Values y = evaluate_reference(graph, {{"x", ramp({8, 8}, 0, 0.1)}}).at("y");
  double sum = 0;
  for (int i = 0; i < 8; ++i) sum += std::exp(0.1 * i);
  for (int i = 0; i < 8; ++i) CHECK(y.data[static_cast<std::size_t>(i)] == Approx(std::exp(0.1 * i) / sum));
  // Along another axis the maximum belongs to the argument.
  const Graph other = softmax(false);
  CHECK(operators(other) == Names{"Reduce", "Binary:sub", "Softmax"});
}

TEST_CASE("GELU by tanh becomes a sigmoid, wherever its half stands") {
  for (int form = 0; form < 3; ++form) {
    OnnxModel model(13);
    model.input("x", {64});
    constant_scalar(model, "three", 3);
    constant_scalar(model, "k", 0.044715F);
    constant_scalar(model, "root", 0.7978845608F);
    constant_scalar(model, "one", 1);
    constant_scalar(model, "half", 0.5F);
    model.node("Pow", {"x", "three"}, {"cube"});
    model.node("Mul", {"k", "cube"}, {"part"});
    model.node("Add", {"x", "part"}, {"sum"});
    model.node("Mul", {"sum", "root"}, {"inner"});
    model.node("Tanh", {"inner"}, {"t"});
    model.node("Add", {"t", "one"}, {"gate"});
    if (form == 0) {
      model.node("Mul", {"x", "half"}, {"left"});
      model.node("Mul", {"left", "gate"}, {"y"});
    } else if (form == 1) {
      model.node("Mul", {"gate", "half"}, {"right"});
      model.node("Mul", {"right", "x"}, {"y"});
    } else {
      model.node("Mul", {"x", "gate"}, {"both"});
      model.node("Mul", {"half", "both"}, {"y"});
    }
    model.output("y");
    const Graph graph = import_model(model);
    INFO("form " << form);
    CHECK(operators(graph) == Names{"Binary:mul", "Unary:affine", "Binary:mul", "Unary:sigmoid", "Binary:mul"});
    const Values x = ramp({64}, -6, 0.19);
    const Values y = evaluate_reference(graph, {{"x", x}}).at("y");
    for (std::size_t i = 0; i < 64; ++i) {
      const double v = x.data[i];
      const double expected = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
      CHECK(y.data[i] == Approx(expected).epsilon(1e-4).margin(1e-6));
    }
  }
}
