// Pruning against a plain second computation on the matrices that a product or a convolution means.
#include "driver/tools/prune.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "driver/include/cx/error.hpp"

using cx::tools::check_pattern;
using cx::tools::prune;
using cx::tools::PrunePattern;

namespace {

struct Layer {
  std::string op;
  std::vector<int64_t> shape;
  int64_t group = 1;
};

onnx::ModelProto model_of(const Layer &layer, uint32_t seed) {
  onnx::ModelProto model;
  auto *graph = model.mutable_graph();
  auto *node = graph->add_node();
  node->set_name("layer");
  node->set_op_type(layer.op);
  node->add_input("x");
  node->add_input("w");
  node->add_output("y");
  if (layer.group > 1) {
    auto *attribute = node->add_attribute();
    attribute->set_name("group");
    attribute->set_type(onnx::AttributeProto::INT);
    attribute->set_i(layer.group);
  }
  auto *weights = graph->add_initializer();
  weights->set_name("w");
  weights->set_data_type(onnx::TensorProto::FLOAT);
  std::mt19937 random(seed);
  std::normal_distribution<float> value;
  int64_t count = 1;
  for (const int64_t size : layer.shape) {
    weights->add_dims(size);
    count *= size;
  }
  for (int64_t i = 0; i < count; ++i) weights->add_float_data(value(random));
  return model;
}

std::vector<float> weights_of(const onnx::ModelProto &model) {
  const auto &tensor = model.graph().initializer(0);
  if (!tensor.has_raw_data()) return {tensor.float_data().begin(), tensor.float_data().end()};
  std::vector<float> values(tensor.raw_data().size() / sizeof(float));
  std::copy_n(tensor.raw_data().data(), tensor.raw_data().size(), reinterpret_cast<char *>(values.data()));
  return values;
}

/// Elements in the order of k of column n of a matrix: [K, N], or [M, C, kh, kw] by kernel row, kernel column, channel.
std::vector<std::size_t> column(const Layer &layer, int64_t n) {
  std::vector<std::size_t> places;
  const auto &s = layer.shape;
  if (layer.op == "MatMul") {
    for (int64_t k = 0; k < s[0]; ++k) places.push_back(static_cast<std::size_t>(k * s[1] + n));
  } else {
    for (int64_t y = 0; y < s[2]; ++y)
      for (int64_t x = 0; x < s[3]; ++x)
        for (int64_t c = 0; c < s[1]; ++c)
          places.push_back(static_cast<std::size_t>(((n * s[1] + c) * s[2] + y) * s[3] + x));
  }
  return places;
}

int64_t columns(const Layer &layer) { return layer.op == "MatMul" ? layer.shape[1] : layer.shape[0]; }

/// Every value that is kept is the original one; the others are +0.
void require_subset(const std::vector<float> &before, const std::vector<float> &after) {
  REQUIRE(before.size() == after.size());
  for (std::size_t i = 0; i < before.size(); ++i)
    if (after[i] != 0)
      REQUIRE(after[i] == before[i]);
    else
      REQUIRE_FALSE(std::signbit(after[i]));
}

int64_t zeros(const std::vector<float> &values) { return std::count(values.begin(), values.end(), 0.0F); }

}  // namespace

TEST_CASE("unstructured: the share of least magnitude goes") {
  const uint32_t seed = GENERATE(1U, 2U);
  INFO("seed " << seed);
  auto model = model_of({"MatMul", {37, 11}}, seed);
  const auto before = weights_of(model);
  const auto report = prune(model, ".", PrunePattern::parse("unstructured:0.4"), {});
  const auto after = weights_of(model);
  require_subset(before, after);
  CHECK(zeros(after) == std::llround(0.4 * 37 * 11));
  float kept = INFINITY, gone = 0;
  double energy = 0, all = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (after[i] != 0)
      kept = std::min(kept, std::fabs(before[i]));
    else
      gone = std::max(gone, std::fabs(before[i]));
    all += double(before[i]) * before[i];
    energy += double(after[i]) * after[i];
  }
  CHECK(gone <= kept);
  REQUIRE(report.layers.size() == 1);
  CHECK(report.layers[0].zeros == zeros(after));
  CHECK(report.layers[0].kept_energy == Approx(energy / all));
  CHECK(check_pattern(model, ".", PrunePattern::parse("unstructured:0.4"), {}).violations() == 0);
  CHECK(check_pattern(model, ".", PrunePattern::parse("unstructured:0.5"), {}).violations() == 1);
}

TEST_CASE("structured: of m neighbours along K the n largest stay") {
  const Layer layer = GENERATE(Layer{"MatMul", {38, 7}}, Layer{"Conv", {6, 5, 3, 3}});
  const auto [text, n, m] =
      GENERATE(table<std::string, std::size_t, std::size_t>({{"2:4", 2, 4}, {"1:4", 1, 4}, {"1:8", 1, 8}}));
  INFO(layer.op << " " << text);
  auto model = model_of(layer, 7);
  const auto before = weights_of(model);
  const auto pattern = PrunePattern::parse(text);
  CHECK(check_pattern(model, ".", pattern, {}).violations() == 1);
  prune(model, ".", pattern, {});
  const auto after = weights_of(model);
  require_subset(before, after);
  for (int64_t c = 0; c < columns(layer); ++c) {
    const auto places = column(layer, c);
    for (std::size_t first = 0; first < places.size(); first += m) {
      const std::size_t size = std::min(m, places.size() - first);
      std::vector<float> magnitudes;
      for (std::size_t i = 0; i < size; ++i) magnitudes.push_back(std::fabs(before[places[first + i]]));
      std::sort(magnitudes.rbegin(), magnitudes.rend());
      const float least = magnitudes[std::min(n, size) - 1];
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t at = places[first + i];
        REQUIRE((after[at] != 0) == (std::fabs(before[at]) >= least));
      }
    }
  }
  CHECK(check_pattern(model, ".", pattern, {}).violations() == 0);
}

TEST_CASE("block: whole blocks of least energy go") {
  const Layer layer{"MatMul", {20, 12}};
  auto model = model_of(layer, 9);
  const auto before = weights_of(model);
  const auto pattern = PrunePattern::parse("block:8x4:0.5");
  prune(model, ".", pattern, {});
  const auto after = weights_of(model);
  require_subset(before, after);
  int64_t gone = 0, blocks = 0;
  double least_kept = INFINITY, most_gone = 0;
  for (int64_t row = 0; row < 20; row += 8) {
    for (int64_t col = 0; col < 12; col += 4) {
      double energy = 0;
      int64_t empty = 0, count = 0;
      for (int64_t k = row; k < std::min<int64_t>(row + 8, 20); ++k) {
        for (int64_t n = col; n < col + 4; ++n) {
          const auto at = static_cast<std::size_t>(k * 12 + n);
          energy += double(before[at]) * before[at];
          empty += after[at] == 0 ? 1 : 0;
          ++count;
        }
      }
      REQUIRE((empty == 0 || empty == count));
      ++blocks;
      gone += empty == count ? 1 : 0;
      (empty == count ? most_gone : least_kept) =
          empty == count ? std::max(most_gone, energy) : std::min(least_kept, energy);
    }
  }
  CHECK(gone == std::llround(0.5 * static_cast<double>(blocks)));
  CHECK(most_gone <= least_kept);
  CHECK(check_pattern(model, ".", pattern, {}).violations() == 0);
}

TEST_CASE("a violation says where and by how much") {
  auto model = model_of({"MatMul", {8, 2}}, 3);
  prune(model, ".", PrunePattern::parse("2:4"), {});
  auto values = weights_of(model);
  for (std::size_t k = 4; k < 8; ++k) values[k * 2 + 1] = 1;
  model.mutable_graph()->mutable_initializer(0)->set_raw_data(values.data(), values.size() * sizeof(float));
  const auto report = check_pattern(model, ".", PrunePattern::parse("2:4"), {});
  REQUIRE(report.violations() == 1);
  CHECK(report.layers[0].violation == "1 of 4 groups of 4 have more than 2 non-zeros; column 1, k 4 to 7 has 4");
}

TEST_CASE("what is no matrix product of its own is left alone, with a reason") {
  auto depthwise = model_of({"Conv", {4, 1, 3, 3}, 4}, 1);
  const auto before = weights_of(depthwise);
  const auto report = prune(depthwise, ".", PrunePattern::parse("1:4"), {});
  REQUIRE(report.layers.size() == 1);
  CHECK_THAT(report.layers[0].left_alone, Catch::Contains("depthwise"));
  CHECK(weights_of(depthwise) == before);

  auto chosen = model_of({"MatMul", {8, 2}}, 1);
  CHECK(prune(chosen, ".", PrunePattern::parse("2:4"), std::regex("other")).layers.empty());
  CHECK(zeros(weights_of(chosen)) == 0);
}

TEST_CASE("patterns that are none are refused with what was expected") {
  for (const char *text :
       {"", "2", "4:4", "5:4", "0:4", "2:x", "unstructured", "unstructured:1.5", "unstructured:-0.1",
        "unstructured:nan", "block:16:0.5", "block:0x4:0.5", "block:4x4", "block:4x4:2", "2:4:0.5"}) {
    INFO(text);
    CHECK_THROWS_AS(PrunePattern::parse(text), cx::UsageError);
  }
  for (const char *text : {"unstructured:0.4", "2:4", "1:8", "block:16x16:0.5"}) {
    CHECK(PrunePattern::parse(text).text() == text);
  }
}

TEST_CASE("the matrix of a layer has its columns in the order of K") {
  const Layer layer = GENERATE(Layer{"MatMul", {38, 7}}, Layer{"Conv", {6, 5, 3, 3}});
  INFO(layer.op);
  auto model = model_of(layer, 9);
  const auto values = weights_of(model);
  const auto report = check_pattern(model, ".", PrunePattern::parse("2:4"), {});
  REQUIRE(report.layers.size() == 1);
  const std::vector<float> matrix = cx::tools::weight_matrix(model, ".", report.layers[0], 0);
  const int64_t n = columns(layer);
  REQUIRE(report.layers[0].n == n);
  for (int64_t c = 0; c < n; ++c) {
    const auto places = column(layer, c);
    REQUIRE(matrix.size() == places.size() * static_cast<std::size_t>(n));
    for (std::size_t k = 0; k < places.size(); ++k)
      REQUIRE(matrix[k * static_cast<std::size_t>(n) + static_cast<std::size_t>(c)] == values[places[k]]);
  }
  CHECK_THROWS_AS(cx::tools::weight_matrix(model, ".", report.layers[0], 1), cx::InputError);
}
