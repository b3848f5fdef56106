// Whole models against their reference outputs, and what is left of them after the passes.
#include <catch2/catch.hpp>
#include <iostream>

#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/compiler/onnx_case.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx::compiler;
namespace fs = std::filesystem;

namespace {

const fs::path kModels = cx::tb::data_dir() / "models";

std::map<std::string, int> histogram(const Graph &graph) {
  std::map<std::string, int> count;
  for (const Node &node : graph.nodes) ++count[node.op];
  return count;
}

int count_functions(const Graph &graph, const std::string &func) {
  int count = 0;
  for (const Node &node : graph.nodes) count += node.text("func", "") == func ? 1 : 0;
  return count;
}

void check_model(const std::string &folder, const std::string &file, int sets, double absolute = 1e-7) {
  if (!fs::exists(kModels / folder / file)) {
    WARN("no model " << folder);
    return;
  }
  for (int i = 0; i < sets; ++i) {
    INFO(folder << "/" << file << " data set " << i);
    CHECK(run_case(kModels / folder / file, kModels / folder / ("test_data_set_" + std::to_string(i)), absolute) == "");
  }
}

}  // namespace

TEST_CASE("MNIST models agree with their references") {
  check_model("mnist", "mnist.onnx", 4);
  check_model("mnist_8", "model.onnx", 2);
  check_model("mnist_burn", "model.onnx", 2);
  check_model("fashion_mlp", "model.onnx", 1);
}

TEST_CASE("Detector, transformer and 1-D and 3-D models agree with their references") {
  // Coordinates are differences of sums in the tens: the order of FP32 additions shows near 0.
  check_model("blazeface_front", "model.onnx", 1, 1e-5);
  check_model("conv3d_direction", "model.onnx", 1);
  check_model("autoencoder1d", "model.onnx", 1);
  check_model("super_resolution", "model.onnx", 1);
  check_model("cct/CCT_1_16_16_128", "model.onnx", 1);
  check_model("cct/CCT_1_32_32_32", "model.onnx", 1);
}

TEST_CASE("A language model reads its characters at run time") {
  check_model("gpt_shakespeare_char", "model.onnx", 2, 1e-5);
  const fs::path model = kModels / "gpt_shakespeare_char/model.onnx";
  if (!fs::exists(model)) return;
  ImportOptions options;
  for (const InputInfo &info : inspect_onnx(model)) options.input_shapes = {{info.name, {1, 5}}};
  const Graph graph = import_onnx(model, options);
  CHECK(graph[graph.inputs.at(0)].type == Type::I64);
  const auto count = histogram(graph);
  CHECK(count.at("TakeAlong") == 1);
  CHECK(count.at("Softmax") == 4);
}

TEST_CASE("Every layer of a model is a model that imports") {
  const fs::path layers = kModels / "mnist_8/layers";
  if (!fs::exists(layers)) {
    WARN("no model layers");
    return;
  }
  int count = 0;
  for (const auto &entry : fs::directory_iterator(layers)) {
    const std::string name = entry.path().filename();
    INFO(name);
    CHECK(run_case(entry.path() / (name + ".onnx"), entry.path() / "test_data_set_0", 1e-4) == "");
    ++count;
  }
  CHECK(count == 12);
}

TEST_CASE("UltraFace agrees with its references and keeps no batch normalisation") {
  check_model("ultraface", "version-RFB-320.onnx", 2);
  const fs::path model = kModels / "ultraface/version-RFB-320.onnx";
  if (!fs::exists(model)) return;
  const Graph graph = import_onnx(model);
  const auto count = histogram(graph);
  CHECK(count.at("Conv") == 52);
  for (const Node &node : graph.nodes) {
    if (node.op != "Conv") continue;
    CHECK(node.inputs.size() == 3);
    CHECK(graph[node.inputs[1]].is_constant());
  }
  // What remains are three residual sums and the decoding of boxes.
  CHECK(count.at("Binary") < 20);
}

TEST_CASE("Text recognition and direction models import at several widths") {
  const fs::path folder = cx::tb::ocr_models();
  const fs::path recogniser = folder / "ch_PP-OCRv4_rec_infer.onnx";
  const fs::path classifier = folder / "ch_ppocr_mobile_v2.0_cls_infer.onnx";
  if (!fs::exists(recogniser) || !fs::exists(classifier)) {
    WARN("no OCR models in " << folder);
    return;
  }
  for (int64_t width : {int64_t{48}, int64_t{320}, int64_t{641}}) {
    ImportOptions options;
    options.input_shapes["x"] = {1, 3, 48, width};
    const Graph graph = import_onnx(recogniser, options);
    CHECK(graph[graph.outputs.at(0)].shape.size() == 3);
    CHECK(graph[graph.outputs.at(0)].shape[2] == 6625);
    CHECK(count_functions(graph, "clamp") == 0);
    CHECK(count_functions(graph, "hard_swish") == 28);
    CHECK(count_functions(graph, "silu") == 7);
  }
  ImportOptions options;
  options.input_shapes["x"] = {1, 3, 48, 192};
  const Graph graph = import_onnx(classifier, options);
  CHECK(graph[graph.outputs.at(0)].shape == Shape{1, 2});
  CHECK_THROWS_AS(import_onnx(classifier), cx::InputError);
}

TEST_CASE("Initializers are read once, and imports share them until one is written") {
  OnnxModel onnx;
  onnx.input("x", {2, 3});
  auto &raw = *onnx.proto().mutable_graph()->add_initializer();
  raw.set_name("w");
  raw.set_data_type(onnx::TensorProto::FLOAT);
  raw.add_dims(3);
  const float values[] = {1, 2, 3};
  raw.set_raw_data(values, sizeof values);
  onnx.node("Add", {"x", "w"}, {"y"});
  onnx.output("y");
  const TemporaryFile file(onnx.bytes());
  Model model(file.path());
  REQUIRE(model.proto().graph().initializer(0).has_raw_data());
  const auto weights = [](Graph &graph) -> Tensor & {
    for (Tensor &tensor : graph.tensors) {
      if (tensor.is_constant()) return tensor;
    }
    throw std::runtime_error("the graph has no constant");
  };
  Graph first = import_onnx(model), second = import_onnx(model);
  REQUIRE_FALSE(model.proto().graph().initializer(0).has_raw_data());
  REQUIRE(&*weights(first).data == &*weights(second).data);
  weights(first).data.own()[0] = std::byte{0xff};
  REQUIRE(weights(second).values<float>() == std::vector<float>{1, 2, 3});
  model.release();
  Graph third = import_onnx(model);
  REQUIRE(weights(third).values<float>() == std::vector<float>{1, 2, 3});
  REQUIRE(to_text(third) == to_text(second));
}
