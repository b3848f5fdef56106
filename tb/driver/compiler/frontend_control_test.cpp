// Values that the import asks for, subgraphs, functions and sequences.
#include <catch2/catch.hpp>

#include "driver/compiler/frontend/frontend.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/onnx_model.hpp"
#include "tb/driver/compiler/reference_eval.hpp"

using namespace cx::compiler;

namespace {

Graph import(const OnnxModel &model, const ImportOptions &options = {}) {
  const TemporaryFile file(model.bytes());
  return import_onnx(file.path(), options);
}

onnx::NodeProto &add_node(onnx::GraphProto &graph, const std::string &op, const std::vector<std::string> &inputs,
                          const std::string &output) {
  auto &node = *graph.add_node();
  node.set_op_type(op);
  for (const auto &input : inputs) node.add_input(input);
  node.add_output(output);
  return node;
}

onnx::GraphProto &add_graph(onnx::NodeProto &node, const std::string &name) {
  auto &attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::GRAPH);
  return *attribute.mutable_g();
}

// y = x + x or x * x, by a condition.
OnnxModel branching() {
  OnnxModel model;
  model.input("x", {2});
  model.input("c", {}, onnx::TensorProto::BOOL);
  auto &node = model.node("If", {"c"}, {"y"}, "choice");
  auto &then_graph = add_graph(node, "then_branch");
  add_node(then_graph, "Add", {"x", "x"}, "a");
  then_graph.add_output()->set_name("a");
  auto &else_graph = add_graph(node, "else_branch");
  add_node(else_graph, "Mul", {"x", "x"}, "m");
  else_graph.add_output()->set_name("m");
  model.output("y");
  return model;
}

// y = x doubled n times, as long as y is below 10.
OnnxModel doubling(bool stop) {
  OnnxModel model;
  model.input("x", {});
  model.input("n", {}, onnx::TensorProto::INT64);
  model.constant("limit", {}, {10});
  auto &node = model.node("Loop", {"n", "", "x"}, {"y"}, "doubling");
  auto &body = add_graph(node, "body");
  for (const char *name : {"i", "go", "before"}) body.add_input()->set_name(name);
  add_node(body, "Add", {"before", "before"}, "after");
  if (stop) {
    add_node(body, "Less", {"after", "limit"}, "more");
  } else {
    add_node(body, "Identity", {"go"}, "more");
  }
  body.add_output()->set_name("more");
  body.add_output()->set_name("after");
  model.output("y");
  return model;
}

}  // namespace

TEST_CASE("The import names the inputs whose value it needs") {
  OnnxModel model;
  model.input("x", {4});
  model.input("a", {1}, onnx::TensorProto::INT64);
  model.input("b", {1}, onnx::TensorProto::INT64);
  model.input("other", {1}, onnx::TensorProto::INT64);
  model.node("Add", {"b", "a"}, {"shape"});
  model.node("Expand", {"x", "shape"}, {"y"}, "wide");
  model.output("y");
  try {
    import(model);
    FAIL("no error");
  } catch (const ValueNeededError &error) {
    CHECK(error.inputs() == std::vector<std::string>{"a", "b"});
    CHECK(error.op() == "Expand");
    CHECK_THAT(error.what(), Catch::Contains("wide") && Catch::Contains("'shape'") && Catch::Contains("'a', 'b'"));
  }
  ImportOptions options;
  options.bound_inputs["a"] = Tensor::constant<int64_t>("a", {1}, {1});
  options.bound_inputs["b"] = Tensor::constant<int64_t>("b", {1}, {3});
  CHECK(import(model, options).inputs.size() == 2);
}

TEST_CASE("A condition of run time computes both branches and chooses") {
  const Graph graph = import(branching());
  CHECK(evaluate_reference(graph, {{"x", {{2}, {3, 4}}}, {"c", {{}, {1}}}}).at("y").data == std::vector<double>{6, 8});
  CHECK(evaluate_reference(graph, {{"x", {{2}, {3, 4}}}, {"c", {{}, {0}}}}).at("y").data == std::vector<double>{9, 16});
  ImportOptions options;
  options.bound_inputs["c"] = Tensor{"c", Type::Bool, {}, std::vector<std::byte>{std::byte{0}}};
  const Graph fixed = import(branching(), options);
  CHECK(fixed.nodes.size() == 1);
  CHECK(evaluate_reference(fixed, {{"x", {{2}, {3, 4}}}}).at("y").data == std::vector<double>{9, 16});
}

TEST_CASE("Loops unroll; a condition of run time keeps values from where it is false") {
  ImportOptions options;
  CHECK_THROWS_AS(import(doubling(false)), ValueNeededError);
  options.bound_inputs["n"] = Tensor::constant<int64_t>("n", {}, {5});
  CHECK(evaluate_reference(import(doubling(false), options), {{"x", {{}, {3}}}}).at("y").data ==
        std::vector<double>{96});
  CHECK(evaluate_reference(import(doubling(true), options), {{"x", {{}, {3}}}}).at("y").data ==
        std::vector<double>{12});
  CHECK(evaluate_reference(import(doubling(true), options), {{"x", {{}, {0.25}}}}).at("y").data ==
        std::vector<double>{8});
  options.bound_inputs["n"] = Tensor::constant<int64_t>("n", {}, {int64_t{1} << 40});
  try {
    import(doubling(false), options);
    FAIL("no error");
  } catch (const cx::UnsupportedError &error) {
    CHECK_THAT(error.what(), Catch::Contains("doubling") && Catch::Contains("65536"));
  }
}

TEST_CASE("Functions of a model are written into its graph, attributes of the call in place") {
  OnnxModel model;
  auto &function = *model.proto().add_functions();
  function.set_domain("own");
  function.set_name("Scaled");
  function.add_input("v");
  function.add_output("w");
  function.add_attribute("slope");
  auto &version = *function.add_opset_import();
  version.set_version(13);
  auto &inner = *function.add_node();
  inner.set_op_type("LeakyRelu");
  inner.add_input("v");
  inner.add_output("w");
  auto &reference = *inner.add_attribute();
  reference.set_name("alpha");
  reference.set_ref_attr_name("slope");
  reference.set_type(onnx::AttributeProto::FLOAT);
  model.proto().add_opset_import()->set_domain("own");
  model.proto().mutable_opset_import(1)->set_version(1);
  model.input("x", {2});
  auto &call = model.node("Scaled", {"x"}, {"y"}, "call");
  call.set_domain("own");
  auto &slope = *call.add_attribute();
  slope.set_name("slope");
  slope.set_type(onnx::AttributeProto::FLOAT);
  slope.set_f(0.5F);
  model.output("y");
  CHECK(evaluate_reference(import(model), {{"x", {{2}, {-4, 4}}}}).at("y").data == std::vector<double>{-2, 4});

  SECTION("a function that calls itself ends with an error") {
    function.mutable_node(0)->set_op_type("Scaled");
    function.mutable_node(0)->set_domain("own");
    CHECK_THROWS_AS(import(model), cx::InputError);
  }
}

TEST_CASE("Sequences are resolved; an input that is one has an input for each tensor") {
  OnnxModel model;
  auto &value = *model.proto().mutable_graph()->add_input();
  value.set_name("s");
  value.mutable_type()->mutable_sequence_type()->mutable_elem_type()->mutable_tensor_type()->set_elem_type(
      onnx::TensorProto::FLOAT);
  model.input("x", {2});
  model.node("SequenceInsert", {"s", "x"}, {"longer"});
  auto &node = model.node("ConcatFromSequence", {"longer"}, {"y"});
  auto &axis = *node.add_attribute();
  axis.set_name("axis");
  axis.set_type(onnx::AttributeProto::INT);
  axis.set_i(0);
  model.node("SequenceErase", {"longer"}, {"z"});
  model.output("y");
  model.output("z");
  CHECK_THROWS_AS(import(model), cx::InputError);
  ImportOptions options;
  options.item_shapes["s"] = {{1}, {3}};
  const Graph graph = import(model, options);
  const auto outputs =
      evaluate_reference(graph, {{"s[0]", {{1}, {1}}}, {"s[1]", {{3}, {2, 3, 4}}}, {"x", {{2}, {5, 6}}}});
  CHECK(outputs.at("y").data == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(outputs.at("z[1]").data == std::vector<double>{2, 3, 4});
  CHECK(outputs.size() == 3);
  options.item_shapes["x"] = {};
  CHECK_THROWS_AS(import(model, options), cx::InputError);
}

TEST_CASE("Floats of other types are computed in FP32 and keep their type outside") {
  OnnxModel model;
  model.input("x", {1}, onnx::TensorProto::FLOAT16);
  model.node("Mul", {"x", "x"}, {"square"});
  model.node("Sub", {"square", "x"}, {"y"});
  model.output("y");
  const Graph graph = import(model);
  CHECK(graph[graph.outputs.at(0)].type == Type::F16);
  for (const Node &node : graph.nodes) {
    if (node.op == "Binary") CHECK(graph[node.outputs[0]].type == Type::F32);
  }
  // 300 * 300 is beyond FP16, 300 * 300 - 300 too; the product alone is not rounded.
  CHECK(evaluate_reference(graph, {{"x", {{1}, {200}}}}).at("y").data == std::vector<double>{39808});
}
