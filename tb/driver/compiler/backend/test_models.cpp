// Whole models: compiled, simulated and compared with the evaluator, in FP32 and FP16, and what the compiler made of
// them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <iostream>

#include "driver/compiler/compiler.hpp"
#include "driver/compiler/frontend/frontend.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/compiler/backend/bench.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;
namespace fs = std::filesystem;

namespace {

const fs::path kModels = cx::tb::data_dir() / "models";
const fs::path kTextModels = cx::tb::ocr_models();

struct Case {
  fs::path file;
  ImportOptions import;
  uint32_t seed = 1;
};

void check_model(const Case &model, const Target &target, double tolerance_fp32, double tolerance_fp16) {
  if (!fs::exists(model.file)) {
    WARN("no model " << model.file);
    return;
  }
  INFO(model.file << ", seed " << model.seed << ", tiles " << target.tiles);
  const Graph graph = import_onnx(model.file, model.import);
  std::mt19937 random(model.seed);
  const auto inputs = random_inputs(graph, random);
  const auto expected = evaluate_model(graph, inputs);
  const Comparison exact = compare(graph, target, Precision::fp32, inputs, expected, false);
  const Comparison half = compare(graph, target, Precision::fp16, inputs, expected, false);
  std::cout << model.file.filename() << ": " << half.instructions << " instructions, error fp32 " << exact.worst
            << ", fp16 " << half.worst << ", largest FP16 value " << half.largest_half << "\n";
  CHECK(exact.worst < tolerance_fp32);
  CHECK(half.worst < tolerance_fp16);
  CHECK(half.largest_half < 60000);
}

/// Every 8-bit precision is near exact arithmetic and, if asked, finds the same class; ranges come from simulating the
/// measuring graph.
void check_eight_bit(const Case &model, const Target &target, double tolerance, bool same_class) {
  if (!fs::exists(model.file)) {
    WARN("no model " << model.file);
    return;
  }
  const Graph graph = import_onnx(model.file, model.import);
  std::mt19937 random(model.seed);
  const auto inputs = random_inputs(graph, random);
  const auto expected = evaluate_model(graph, inputs);
  const auto class_of = [](const Tensor &tensor) {
    const std::vector<float> values = tensor.values<float>();
    return std::max_element(values.begin(), values.end()) - values.begin();
  };
  CompileOptions options;
  options.ranges = simulated_ranges(graph, target, inputs);
  for (Precision precision : {Precision::int8, Precision::fp8_e4m3, Precision::fp8_e5m2}) {
    options.precision = precision;
    INFO(model.file << ", seed " << model.seed << ", tiles " << target.tiles << ", pack " << target.tile_pack << ", os "
                    << target.output_stationary << ", " << name_of(precision));
    const Comparison result = compare(graph, target, options, inputs, expected, false);
    std::cout << model.file.filename() << ": " << name_of(precision) << ", pack " << target.tile_pack << ", error "
              << result.worst << "\n";
    CHECK(result.worst < tolerance);
    if (!same_class) continue;
    CHECK(class_of(result.outputs[0]) == class_of(expected[static_cast<std::size_t>(graph.outputs[0])]));
  }
}

Case text_model(const std::string &name, int64_t width) {
  Case model{kTextModels / name, {}, 1};
  model.import.input_shapes["x"] = {1, 3, 48, width};
  return model;
}

}  // namespace

TEST_CASE("MNIST") {
  for (const Target &target : {tiny_target(), card_target()})
    check_model({kModels / "mnist/mnist.onnx", {}, 1}, target, 1e-4, 2e-2);
}

// The program simulator takes minutes for the two larger models; tb/driver/tools runs them on the chip in every test
// run.
TEST_CASE("face detector", "[.slow]") {
  check_model({kModels / "ultraface/version-RFB-320.onnx", {}, 2}, card_target(), 1e-4, 2e-2);
}

TEST_CASE("text direction") {
  for (const Target &target : {tiny_target(), card_target()}) {
    check_model(text_model("ch_ppocr_mobile_v2.0_cls_infer.onnx", 192), target, 1e-4, 3e-2);
  }
}

// Noise is no digit and no class stands out for it; tb/driver/tools runs MNIST on digits.
TEST_CASE("classifiers in 8-bit precisions") {
  for (Target target : {tiny_target(), card_target()}) {
    for (const bool output_stationary : {false, true}) {
      target.tile_pack = 4;
      target.output_stationary = output_stationary;
      check_eight_bit({kModels / "mnist/mnist.onnx", {}, 1}, target, 0.5, false);
      check_eight_bit(text_model("ch_ppocr_mobile_v2.0_cls_infer.onnx", 192), target, 0.3, true);
    }
  }
}

TEST_CASE("text recognition", "[.slow]") {
  check_model(text_model("ch_PP-OCRv4_rec_infer.onnx", 320), card_target(), 1e-3, 5e-2);
}

TEST_CASE("the compiler reuses memory, keeps views free of copies and is fast") {
  const Case model = text_model("ch_PP-OCRv4_rec_infer.onnx", 320);
  if (!fs::exists(model.file)) return;
  CompileStatistics statistics;
  const Program program = compile_onnx(model.file, model.import, card_target(), {}, &statistics);
  CHECK(statistics.workspace_bytes * 4 < statistics.workspace_bytes_no_reuse);
  CHECK(statistics.groups < statistics.nodes);
  CHECK(program.macs > 600'000'000);
  // Heads of the attention are views of the product that makes them: no instruction belongs to their Transpose.
  for (const DebugEntry &entry : program.debug) CHECK(entry.node.find("Transpose") == std::string::npos);
}
