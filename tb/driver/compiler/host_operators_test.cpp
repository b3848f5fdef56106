// Operators that the host computes: ONNX's own cases, random values against plain loops, and what is refused.
#include "driver/compiler/frontend/host_operators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/partition.hpp"
#include "tb/driver/compiler/node_case.hpp"

using namespace cx::compiler;
namespace fs = std::filesystem;

namespace {

using Integers = std::vector<int64_t>;

const fs::path kNodes = "/usr/share/libonnx-testdata/data/node";
const std::vector<std::string> kFamilies = {"compress", "nonmaxsuppression", "nonzero", "unique"};

/// Values of few kinds, so that equal ones are common.
Tensor coarse(std::mt19937 &random, const Shape &shape, Type type = Type::F32) {
  std::uniform_int_distribution<int64_t> draw(is_float(type) ? -2 : 0, 2);
  Integers values(static_cast<std::size_t>(elements(shape)));
  for (int64_t &value : values) value = draw(random);
  return make_constant("x", type, shape, values);
}

Shape random_shape(std::mt19937 &random) {
  Shape shape(std::uniform_int_distribution<std::size_t>(1, 3)(random));
  for (int64_t &size : shape) size = std::uniform_int_distribution<int64_t>(1, 5)(random);
  return shape;
}

/// Slice i of x along an axis, as numbers in row-major order; of the list of all elements without one.
Numbers slice_of(const Tensor &x, std::optional<int64_t> axis, int64_t i) {
  const Numbers all = to_doubles(x);
  if (!axis) return {all[static_cast<std::size_t>(i)]};
  Numbers result;
  for (std::size_t flat = 0; flat < all.size(); ++flat) {
    auto rest = static_cast<int64_t>(flat);
    int64_t place = 0;
    for (auto d = static_cast<int64_t>(x.shape.size()) - 1; d >= 0; --d) {
      const int64_t size = x.shape[static_cast<std::size_t>(d)];
      if (d == *axis) place = rest % size;
      rest /= size;
    }
    if (place == i) result.push_back(all[flat]);
  }
  return result;
}

int64_t slices_of(const Tensor &x, std::optional<int64_t> axis) {
  return axis ? x.shape[static_cast<std::size_t>(*axis)] : elements(x.shape);
}

std::optional<int64_t> random_axis(std::mt19937 &random, const Tensor &x) {
  const auto axis = std::uniform_int_distribution<int64_t>(-1, static_cast<int64_t>(x.shape.size()) - 1)(random);
  return axis < 0 ? std::nullopt : std::optional(axis);
}

/// Every quantity of ONNX's definition, found by looking at all pairs of slices.
void check_unique(const Tensor &x, std::optional<int64_t> axis, bool sorted) {
  const UniqueResult result = unique(x, axis, sorted);
  std::vector<Numbers> slices;
  for (int64_t i = 0; i < slices_of(x, axis); ++i) slices.push_back(slice_of(x, axis, i));
  std::vector<Numbers> expected;
  for (const Numbers &slice : slices) {
    if (std::find(expected.begin(), expected.end(), slice) == expected.end()) expected.push_back(slice);
  }
  if (sorted) std::sort(expected.begin(), expected.end());
  REQUIRE(result.first.size() == expected.size());
  REQUIRE(result.inverse.size() == slices.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(slice_of(result.values, axis, static_cast<int64_t>(i)) == expected[i]);
    CHECK(result.first[i] == std::find(slices.begin(), slices.end(), expected[i]) - slices.begin());
    CHECK(result.counts[i] == std::count(slices.begin(), slices.end(), expected[i]));
  }
  for (std::size_t i = 0; i < slices.size(); ++i) {
    CHECK(expected[static_cast<std::size_t>(result.inverse[i])] == slices[i]);
  }
}

/// Cells of a grid that a box with corners at whole numbers covers.
std::set<std::pair<int, int>> cells_of(const float *corners) {
  std::set<std::pair<int, int>> cells;
  for (int y = static_cast<int>(std::min(corners[0], corners[2])); y < std::max(corners[0], corners[2]); ++y) {
    for (int x = static_cast<int>(std::min(corners[1], corners[3])); x < std::max(corners[1], corners[3]); ++x) {
      cells.emplace(y, x);
    }
  }
  return cells;
}

/// Overlaps counted in cells; the best box that is left is searched each time.
Integers suppress_by_cells(const std::vector<float> &boxes, std::vector<float> scores, int64_t batches, int64_t classes,
                           int64_t count, const SuppressionLimits &limits) {
  Integers result;
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (int64_t label = 0; label < classes; ++label) {
      float *line = scores.data() + (batch * classes + label) * count;
      for (int64_t chosen = 0; chosen < limits.boxes_per_class; ++chosen) {
        const int64_t best = std::max_element(line, line + count) - line;
        if (!(line[best] > limits.score.value_or(-std::numeric_limits<float>::infinity()))) break;
        line[best] = -std::numeric_limits<float>::infinity();
        result.insert(result.end(), {batch, label, best});
        const auto mine = cells_of(boxes.data() + (batch * count + best) * 4);
        for (int64_t i = 0; i < count; ++i) {
          const auto other = cells_of(boxes.data() + (batch * count + i) * 4);
          const auto common = static_cast<float>(
              std::count_if(other.begin(), other.end(), [&](const auto &cell) { return mine.count(cell) != 0; }));
          const float both = static_cast<float>(mine.size() + other.size()) - common;
          if (both > 0 && common / both > limits.overlap) line[i] = -std::numeric_limits<float>::infinity();
        }
      }
    }
  }
  return result;
}

}  // namespace

TEST_CASE("ONNX's cases of operators whose shape depends on values") {
  if (!fs::exists(kNodes)) {
    WARN(kNodes << " is absent: skipped");
    return;
  }
  int cases = 0;
  for (const auto &entry : fs::directory_iterator(kNodes)) {
    const std::string name = entry.path().filename().string();
    const bool ours = std::any_of(kFamilies.begin(), kFamilies.end(),
                                  [&](const std::string &family) { return name.rfind("test_" + family, 0) == 0; });
    if (!ours) continue;
    INFO(name);
    const Model model(entry.path() / "model.onnx");
    const DataSet data = read_data_set(entry.path() / "test_data_set_0");
    const std::vector<InputInfo> infos = model.inputs();
    std::map<std::string, Tensor> values;
    for (std::size_t i = 0; i < infos.size(); ++i) values[infos[i].name] = data.inputs.at(i);
    const std::vector<Tensor> results = evaluate_node(model, 0, values);
    REQUIRE(results.size() == data.outputs.size());
    for (std::size_t i = 0; i < results.size(); ++i) {
      CHECK(results[i].type == data.outputs[i].type);
      CHECK(difference(values_of(results[i]), values_of(data.outputs[i]), 0, 0).empty());
    }
    ++cases;
  }
  CHECK(cases == 19);
}

TEST_CASE("non-zero positions are those that a scan finds") {
  std::mt19937 random(seed());
  for (int round = 0; round < 50; ++round) {
    const Tensor x = coarse(random, random_shape(random), round % 2 == 0 ? Type::F32 : Type::I64);
    const Numbers values = to_doubles(x);
    std::vector<Integers> expected;
    Integers position(x.shape.size(), 0);
    for (const double value : values) {
      if (value != 0) expected.push_back(position);
      for (std::size_t d = position.size(); d-- > 0;) {
        if (++position[d] < x.shape[d]) break;
        position[d] = 0;
      }
    }
    const Tensor result = non_zero(x);
    const auto count = static_cast<int64_t>(expected.size());
    REQUIRE(result.type == Type::I64);
    REQUIRE(result.shape == Shape{static_cast<int64_t>(x.shape.size()), count});
    const Integers found = to_integers(result);
    for (std::size_t d = 0; d < x.shape.size(); ++d) {
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK(found[d * expected.size() + i] == expected[i][d]);
    }
  }
}

TEST_CASE("NaN is not zero, -0 is") {
  const Tensor x = make_constant("x", Type::F32, {4}, Numbers{0, -0.0, std::nan(""), 1e-45});
  CHECK(to_integers(non_zero(x)) == Integers{2, 3});
}

TEST_CASE("unique elements and slices are those that comparing all pairs finds") {
  std::mt19937 random(seed());
  for (int round = 0; round < 60; ++round) {
    constexpr Type kTypes[] = {Type::F32, Type::I64, Type::U8, Type::I8};
    const Tensor x = coarse(random, random_shape(random), kTypes[round % 4]);
    check_unique(x, random_axis(random, x), round % 3 != 0);
  }
}

TEST_CASE("unique tells 64-bit integers apart that no double tells apart") {
  const int64_t large = int64_t{1} << 60;
  const Tensor x = make_constant("x", Type::I64, {4}, Integers{large + 1, large, large + 1, -large});
  const UniqueResult result = unique(x, std::nullopt, true);
  CHECK(to_integers(result.values) == Integers{-large, large, large + 1});
  CHECK(result.inverse == Integers{2, 1, 2, 0});
  CHECK(result.counts == Integers{1, 1, 2});
}

TEST_CASE("NaNs are one element and the last, -0 is 0") {
  const double nan = std::nan("");
  const Tensor x = make_constant("x", Type::F32, {6}, Numbers{nan, 0, 3, -0.0, -nan, -INFINITY});
  const UniqueResult result = unique(x, std::nullopt, true);
  CHECK(result.first == Integers{5, 1, 2, 0});
  CHECK(result.counts == Integers{1, 2, 1, 2});
  CHECK(result.inverse == Integers{3, 1, 2, 1, 3, 0});
}

TEST_CASE("compress keeps the slices at which the condition is true") {
  std::mt19937 random(seed());
  for (int round = 0; round < 40; ++round) {
    const Tensor x = coarse(random, random_shape(random), round % 2 == 0 ? Type::F32 : Type::I16);
    const auto axis = random_axis(random, x);
    const int64_t count = slices_of(x, axis);
    Integers flags(static_cast<std::size_t>(std::uniform_int_distribution<int64_t>(0, count)(random)));
    for (int64_t &flag : flags) flag = std::uniform_int_distribution<int64_t>(0, 1)(random);
    const Tensor result =
        compress(x, make_constant("c", Type::Bool, {static_cast<int64_t>(flags.size())}, flags), axis);
    int64_t kept = 0;
    for (std::size_t i = 0; i < flags.size(); ++i) {
      if (flags[i] == 0) continue;
      CHECK(slice_of(result, axis, kept++) == slice_of(x, axis, static_cast<int64_t>(i)));
    }
    CHECK(slices_of(result, axis) == kept);
  }
  const Tensor x = make_constant("x", Type::F32, {2, 2}, Numbers{1, 2, 3, 4});
  const Tensor flags = make_constant("c", Type::Bool, {3}, Integers{1, 0, 1});
  CHECK_THROWS_WITH(compress(x, flags, 0), Catch::Contains("longer than the axis"));
  CHECK_THROWS_WITH(compress(x, flags, 2), Catch::Contains("axis 2 is out of range"));
  CHECK_THROWS_WITH(compress(x, x, 0), Catch::Contains("list of bool"));
}

TEST_CASE("suppression chooses the boxes that counting cells chooses") {
  std::mt19937 random(seed());
  for (int round = 0; round < 60; ++round) {
    const int64_t batches = 1 + round % 2, classes = 1 + round % 3, count = 1 + round % 11;
    std::vector<float> boxes(static_cast<std::size_t>(batches * count * 4));
    for (float &corner : boxes) corner = static_cast<float>(std::uniform_int_distribution<int>(0, 6)(random));
    std::vector<float> scores(static_cast<std::size_t>(batches * classes * count));
    for (float &score : scores) score = static_cast<float>(std::uniform_int_distribution<int>(-4, 12)(random)) / 8;
    SuppressionLimits limits;
    limits.boxes_per_class = round % 5;
    limits.overlap = static_cast<float>(std::uniform_int_distribution<int>(0, 4)(random)) / 4;
    if (round % 2 == 0) limits.score = 0.25F;
    const auto constant = [](const Shape &shape, const std::vector<float> &values) {
      return make_constant("", Type::F32, shape, Numbers(values.begin(), values.end()));
    };
    const Tensor result =
        non_max_suppression(constant({batches, count, 4}, boxes), constant({batches, classes, count}, scores), limits);
    CHECK(to_integers(result) == suppress_by_cells(boxes, scores, batches, classes, count, limits));
    // The same boxes by centre and size.
    std::vector<float> centred;
    for (std::size_t i = 0; i < boxes.size(); i += 4) {
      const float *b = boxes.data() + i;
      centred.insert(centred.end(),
                     {(b[1] + b[3]) / 2, (b[0] + b[2]) / 2, std::fabs(b[3] - b[1]), std::fabs(b[2] - b[0])});
    }
    limits.center_point_box = true;
    CHECK(to_integers(non_max_suppression(constant({batches, count, 4}, centred),
                                          constant({batches, classes, count}, scores), limits)) == to_integers(result));
  }
}

TEST_CASE("suppression refuses operands that do not fit, and never chooses NaN") {
  const Tensor boxes = make_constant("b", Type::F32, {1, 2, 4}, Numbers{0, 0, 1, 1, 5, 5, 6, 6});
  const Tensor scores = make_constant("s", Type::F32, {1, 1, 2}, Numbers{std::nan(""), 0.5});
  SuppressionLimits limits;
  limits.boxes_per_class = 5;
  CHECK(to_integers(non_max_suppression(boxes, scores, limits)) == Integers{0, 0, 1});
  limits.overlap = 1.5F;
  CHECK_THROWS_WITH(non_max_suppression(boxes, scores, limits), Catch::Contains("iou_threshold"));
  limits.overlap = 0.5F;
  CHECK_THROWS_WITH(non_max_suppression(scores, scores, limits), Catch::Contains("do not fit"));
  CHECK_THROWS_WITH(non_max_suppression(boxes, boxes, limits), Catch::Contains("do not fit"));
  Tensor whole = make_constant("s", Type::I64, {1, 1, 2}, Integers{1, 2});
  CHECK_THROWS_WITH(non_max_suppression(boxes, whole, limits), Catch::Contains("float32"));
}

TEST_CASE("an import names the node that is the host's") {
  OnnxModel model;
  model.input("x", {4});
  model.node("Neg", {"x"}, {"negative"});
  model.node("NonZero", {"negative"}, {"places"}, "finder");
  model.output("places");
  const TemporaryFile file(model.bytes());
  try {
    import_onnx(file.path());
    FAIL("no error");
  } catch (const HostOperatorError &error) {
    CHECK(error.op() == "NonZero");
    CHECK(error.node() == 1);
    CHECK_THAT(error.what(), Catch::Contains("finder"));
  }
}

TEST_CASE("a model is cut at its host nodes") {
  // x -> Neg -> NonZero -> Add(places, x) -> Unique -> y, and a branch that needs no host.
  OnnxModel model;
  model.input("x", {4});
  model.node("Neg", {"x"}, {"negative"});
  model.node("NonZero", {"negative"}, {"places"});
  model.node("Add", {"places", "places"}, {"sums"});
  model.node("Unique", {"sums"}, {"y"});
  model.node("Abs", {"negative"}, {"z"});
  model.output("y");
  model.output("z");
  const TemporaryFile file(model.bytes());
  Partition partition{Model(file.path())};
  CHECK(partition.empty());
  const std::vector<std::string> outputs{"y", "z"};
  CHECK(partition.next({"x"}, outputs).wanted == outputs);
  CHECK(partition.next({"x"}, outputs).host_nodes.empty());
  partition.add_host_node(1);
  CHECK_FALSE(partition.empty());
  CHECK_THROWS_AS(partition.add_host_node(1), cx::Error);
  CHECK_THROWS_AS(partition.add_host_node(-1), cx::Error);
  partition.add_host_node(3);
  const auto names = [](std::vector<std::string> list) { return std::set<std::string>(list.begin(), list.end()); };
  Part part = partition.next({"x"}, outputs);
  CHECK(names(part.wanted) == std::set<std::string>{"negative", "z"});
  REQUIRE(part.host_nodes.size() == 1);
  CHECK(part.host_nodes[0].op == "NonZero");
  CHECK(part.host_nodes[0].inputs == std::vector<std::string>{"negative"});
  part = partition.next({"x", "negative", "z", "places"}, outputs);
  CHECK(part.wanted == std::vector<std::string>{"sums"});
  REQUIRE(part.host_nodes.size() == 1);
  CHECK(part.host_nodes[0].name == "y");
  part = partition.next({"x", "negative", "z", "places", "sums", "y"}, outputs);
  CHECK(part.wanted.empty());
  CHECK(part.host_nodes.empty());
  // What is not asked for is not computed.
  part = partition.next({"x"}, {"z"});
  CHECK(part.wanted == std::vector<std::string>{"z"});
  CHECK(part.host_nodes.empty());
}
