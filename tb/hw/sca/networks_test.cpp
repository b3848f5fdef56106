// Magnitude-pruned weights of real networks on the sparse tile: model and RTL agree in bits, cycles and counters, and
// give the bits of the dense product of the same weights.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "driver/tools/prune.hpp"
// After the header above: onnx's macros.
#include "driver/compiler/frontend/onnx_file.hpp"
#include "tb/common/data.hpp"
#include "tb/rtl/sca_products.hpp"

namespace {

using namespace cx;
using hw::ScaShape;
using hw::SparseColumns;
using num::DType;
using tools::WeightLayer;

// Shapes that every build has; the larger one takes whole layers.
const ScaShape kSmall{8, 8, 32, 256}, kLarge{32, 32, 64, 2048};
constexpr const char *kPatterns[] = {"unstructured:0.4", "unstructured:0.875", "2:4", "block:4x4:0.7"};
constexpr size_t kLayers = 4;  // of a model

struct Sizes {
  uint32_t k, n;
};

/// The first k rows and n columns; INT8 by the largest magnitude of each column. What rounds to zero is no non-zero.
SparseColumns quantise(const std::vector<float> &matrix, int64_t row_length, Sizes size, DType dtype) {
  SparseColumns w;
  w.dtype = dtype;
  w.k = size.k;
  w.n = size.n;
  w.starts.push_back(0);
  const auto at = [&](uint32_t r, uint32_t c) { return matrix[r * static_cast<size_t>(row_length) + c]; };
  for (uint32_t c = 0; c < size.n; ++c) {
    float largest = 0;
    for (uint32_t r = 0; r < size.k; ++r) largest = std::max(largest, std::fabs(at(r, c)));
    const float scale = dtype == DType::INT8 && largest > 0 ? 127 / largest : 1;
    for (uint32_t r = 0; r < size.k; ++r) {
      uint16_t raw = 0;
      num::encode(dtype, at(r, c) * scale, reinterpret_cast<std::byte *>(&raw));
      float value = 0;
      num::widen(dtype, reinterpret_cast<const std::byte *>(&raw), &value, 1);
      if (value == 0) continue;
      w.rows.push_back(static_cast<uint16_t>(r));
      w.raw.push_back(raw);
    }
    w.starts.push_back(static_cast<uint32_t>(w.rows.size()));
  }
  return w;
}

void check_product(test::Random &random, const ScaShape &shape, const SparseColumns &w) {
  const test::Finite a(random, w.dtype, random.between(1, shape.rows), w.k);
  const test::SparseProduct model = test::sparse_product(shape, false, a.operand, w);
  const test::SparseProduct rtl = test::sparse_product(shape, true, a.operand, w, false, random.one_in(2) ? 1 : 0);
  INFO(rtl.first_difference);
  CHECK(rtl.cycle_differences == 0);
  CHECK(model.cycles == rtl.cycles);
  CHECK(model.counters == rtl.counters);
  CHECK((model.words == rtl.words));
  CHECK((model.words == test::dense_product(a.operand, w)));
  CHECK(model.counters.issued == w.nonzeros());
}

/// Layers that are products, spread over the model.
std::vector<WeightLayer> choose_layers(const tools::PruneReport &report) {
  std::vector<WeightLayer> usable, chosen;
  for (const WeightLayer &layer : report.layers) {
    if (layer.left_alone.empty() && layer.k > 1 && layer.n > 1) usable.push_back(layer);
  }
  const size_t count = std::min(kLayers, usable.size());
  for (size_t i = 0; i < count; ++i) chosen.push_back(usable[i * usable.size() / count]);
  return chosen;
}

void check_model(const std::filesystem::path &file, test::Random &random) {
  for (const char *text : kPatterns) {
    onnx::ModelProto model = compiler::read_model(file);
    const tools::PruneReport report =
        tools::prune(model, file.parent_path(), tools::PrunePattern::parse(text), std::nullopt);
    const std::vector<WeightLayer> layers = choose_layers(report);
    REQUIRE(!layers.empty());
    for (const WeightLayer &layer : layers) {
      const std::vector<float> matrix = tools::weight_matrix(model, file.parent_path(), layer, 0);
      for (const ScaShape &shape : {kSmall, kLarge}) {
        const Sizes size{static_cast<uint32_t>(std::min<int64_t>(layer.k, shape.depth)),
                         static_cast<uint32_t>(std::min<int64_t>(layer.n, 8 * shape.cols))};
        for (DType dtype : {DType::FP16, DType::BF16, DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
          INFO(file.string() << ", " << text << ", " << layer.name << ", " << size.k << " x " << size.n << " "
                             << num::name_of(dtype) << " on " << rtl::to_string(shape));
          check_product(random, shape, quantise(matrix, layer.n, size, dtype));
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("pruned weights of real networks: RTL and dense product agree with the model") {
  test::Random random(test::logged_seed(17));
  const std::filesystem::path models = tb::data_dir() / "models";
  const std::filesystem::path files[] = {tb::ocr_models() / "ch_PP-OCRv4_rec_infer.onnx",
                                         models / "gpt_shakespeare_char/model.onnx",
                                         models / "super_resolution/model.onnx",
                                         models / "ultraface/version-RFB-320.onnx", models / "fashion_mlp/model.onnx"};
  size_t found = 0;
  for (const std::filesystem::path &file : files) {
    if (!std::filesystem::exists(file)) {
      WARN("skipped: no " << file.string());
      continue;
    }
    ++found;
    check_model(file, random);
  }
  if (found == 0) WARN("no network was there: nothing was compared");
}
