// Products of 8-bit formats, packed K and output-stationary products: compiled, simulated, and compared with the exact
// products of the rounded operands.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "driver/compiler/backend/constants.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"
#include "tb/driver/compiler/backend/bench.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

constexpr Precision kEightBit[] = {Precision::int8, Precision::fp8_e4m3, Precision::fp8_e5m2};

struct Mode {
  uint32_t pack;
  bool output_stationary;
};
constexpr Mode kModes[] = {{1, false}, {2, false}, {4, false}, {1, true}, {4, true}};

Target in_mode(Target target, Mode mode) {
  target.tile_pack = mode.pack;
  target.output_stationary = mode.output_stationary;
  return target;
}

num::DType format_of(Precision precision) {
  return precision == Precision::int8       ? num::DType::INT8
         : precision == Precision::fp8_e4m3 ? num::DType::FP8_E4M3
                                            : num::DType::FP8_E5M2;
}

/// The value that stands for x when the largest magnitude is `range`.
double rounded(Precision precision, float x, float range) {
  const num::DType format = format_of(precision);
  const double largest = precision == Precision::int8 ? 127 : precision == Precision::fp8_e4m3 ? 448 : 57344;
  float factor = static_cast<float>(largest / range);
  if (precision != Precision::int8) factor = static_cast<float>(std::exp2(std::floor(std::log2(largest / range))));
  uint8_t byte = 0;
  num::encode(format, x * factor, &byte);
  return static_cast<double>(num::decode(format, &byte)) / factor;
}

/// `axis` -1: one range for the tensor.
Tensor rounded(Precision precision, const Tensor &tensor, int axis, std::optional<float> range) {
  Tensor result = tensor;
  std::vector<float> values = tensor.values<float>();
  std::size_t inner = 1;
  std::size_t count = 1;
  if (axis >= 0) {
    count = static_cast<std::size_t>(tensor.shape[static_cast<std::size_t>(axis)]);
    for (std::size_t d = static_cast<std::size_t>(axis) + 1; d < tensor.shape.size(); ++d) inner *= tensor.shape[d];
  }
  std::vector<float> ranges(count, range.value_or(0));
  if (!range) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      float &most = ranges[i / inner % count];
      most = std::max(most, std::fabs(values[i]));
    }
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float most = ranges[i / inner % count];
    if (most > 0) values[i] = static_cast<float>(rounded(precision, values[i], most));
  }
  std::memcpy(result.data.own().data(), values.data(), values.size() * sizeof(float));
  return result;
}

/// Compiles a graph whose first node is its only product, with operands that are inputs or constants, and compares with
/// the product of the rounded operands. Ranges below the real magnitudes make operands saturate.
void check_product(GraphMaker &maker, double tolerance,
                   const std::vector<Target> &targets = {tiny_target(), card_target()}) {
  const Graph &graph = maker.graph;
  const auto inputs = random_inputs(graph, maker.random());
  const Node &product = graph.nodes.front();
  const bool saturates = maker.pick(0, 3) == 0;
  INFO(to_text(graph));
  for (Precision precision : kEightBit) {
    std::map<std::string, float> ranges;
    for (const RangedTensor &tensor : ranged_tensors(graph)) ranges[tensor.name] = saturates ? 0.6F : 1.0F;
    Graph exact = graph;
    std::map<TensorId, Tensor> exact_inputs = inputs;
    for (std::size_t i = 0; i < 2; ++i) {
      const TensorId id = product.inputs[i];
      if (!graph[id].is_constant()) {
        exact_inputs[id] = rounded(precision, inputs.at(id), -1, ranges.at(graph[id].name));
        continue;
      }
      const auto rank = static_cast<int>(graph[id].shape.size());
      const int axis = i == 0 ? -1 : product.op == "Conv" ? 0 : rank - (product.integer("trans_b", 0) != 0 ? 2 : 1);
      exact[id] = rounded(precision, graph[id], axis, std::nullopt);
    }
    const auto expected = evaluate_graph(exact, exact_inputs);
    CompileOptions options;
    options.precision = precision;
    options.ranges = ranges;
    for (const Target &shape : targets) {
      for (const Mode &mode : kModes) {
        INFO(name_of(precision) << " tiles " << shape.tiles << " pack " << mode.pack << " os "
                                << mode.output_stationary);
        const Comparison result = compare(graph, in_mode(shape, mode), options, inputs, expected, mode.pack == 4);
        CHECK(result.same_for_all_orders);
        CHECK(result.worst < tolerance);
      }
    }
  }
}

template <typename Body>
void repeat(uint32_t first_seed, int count, Body body) {
  for (uint32_t seed = first_seed; seed < first_seed + static_cast<uint32_t>(count); ++seed) {
    INFO("seed " << seed);
    GraphMaker maker(seed);
    try {
      body(maker);
    } catch (const std::exception &error) {
      FAIL(error.what());
    }
  }
}

/// A convolution whose weights are a constant or an input.
TensorId add_conv(GraphMaker &m, TensorId x, int64_t outputs, int64_t kernel, int64_t group, int64_t stride,
                  int64_t dilation, int64_t pad, bool constant = true, bool bias = true) {
  const Shape in = m.shape(x);
  const Shape shape{outputs, in[1] / group, kernel, kernel};
  const float bound = 2.0F / static_cast<float>(shape[1] * kernel * kernel);
  std::vector<TensorId> operands{x, constant ? m.constant(shape, -bound, bound) : m.input(shape)};
  if (bias) operands.push_back(m.constant({outputs}));
  const int64_t height = (in[2] + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1;
  const int64_t width = (in[3] + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1;
  return m.node("Conv", operands,
                {{"strides", std::vector<int64_t>{stride, stride}},
                 {"pads", std::vector<int64_t>{pad, pad, pad, pad}},
                 {"dilations", std::vector<int64_t>{dilation, dilation}},
                 {"group", group}},
                {in[0], outputs, height, width});
}

TensorId random_conv(GraphMaker &m, bool may_be_dynamic) {
  const int64_t group = m.pick(0, 3) == 0 ? m.pick(2, 4) : 1;
  const int64_t channels = group * m.pick(2, 20);
  const TensorId x = m.input({m.pick(1, 2), channels, m.pick(8, 16), m.pick(8, 16)});
  const bool constant = !may_be_dynamic || m.pick(0, 3) != 0;
  return add_conv(m, x, group * m.pick(1, 40 / group), m.pick(1, 3), group, m.pick(1, 2), m.pick(1, 2), m.pick(0, 1),
                  constant, m.pick(0, 1) == 1);
}

TensorId random_product(GraphMaker &m) {
  const int64_t rank = m.pick(2, 4);
  Shape a, b, out;
  for (int64_t d = 2; d < rank; ++d) out.push_back(m.pick(1, 3));
  a = out;
  b = out;
  for (std::size_t d = 0; d < out.size(); ++d) {
    const int64_t which = m.pick(0, 3);
    if (which == 0) a[d] = 1;
    if (which == 1) b[d] = 1;
    out[d] = std::max(a[d], b[d]);
  }
  if (m.pick(0, 1) == 1) {
    b.clear();
    out = a;
  }
  const int64_t rows = m.pick(1, 40);
  const int64_t depth = m.pick(1, 90);
  const int64_t columns = m.pick(1, 70);
  const bool transposed = m.pick(0, 1) == 1;
  a.insert(a.end(), {rows, depth});
  b.insert(b.end(), {transposed ? columns : depth, transposed ? depth : columns});
  out.insert(out.end(), {rows, columns});
  const int64_t constant = m.pick(0, 2);
  const TensorId left = constant == 1 ? m.constant(a) : m.input(a);
  std::vector<TensorId> operands{left, constant == 2 ? m.constant(b) : m.input(b)};
  if (m.pick(0, 1) == 1) operands.push_back(m.constant({columns}));
  return m.node("MatMul", operands, {{"trans_b", int64_t{transposed}}}, out);
}

/// Two convolutions, a gate, a residual sum and a classifier's head.
void make_network(GraphMaker &m) {
  const TensorId x = m.input({1, 3, 24, 32});
  const TensorId y = m.unary("hard_swish", add_conv(m, x, 16, 3, 1, 2, 1, 1));
  TensorId z = m.unary("relu", add_conv(m, y, 16, 3, 16, 1, 1, 1));
  z = m.binary("add", add_conv(m, z, 16, 1, 1, 1, 1, 0), y);
  const TensorId mean = m.node(
      "Reduce", {z}, {{"kind", std::string("mean")}, {"axes", std::vector<int64_t>{2, 3}}, {"keepdims", int64_t{1}}},
      {1, 16, 1, 1});
  const TensorId flat = m.node("Reshape", {mean}, {}, {1, 16});
  m.output(m.node("MatMul", {flat, m.constant({16, 10}), m.constant({10})}, {{"trans_b", int64_t{0}}}, {1, 10}));
  m.output(m.unary("sigmoid", z));
}

}  // namespace

TEST_CASE("convolutions of 8-bit formats are those of the rounded operands") {
  repeat(2100, 10, [](GraphMaker &m) {
    TensorId y = random_conv(m, true);
    if (m.pick(0, 1) == 1) y = m.unary("relu", y);
    m.output(y);
    check_product(m, 2e-5);
  });
}

TEST_CASE("grouped convolutions of 8-bit formats take each channel's own scale") {
  repeat(2150, 4, [](GraphMaker &m) {
    const int64_t group = m.pick(2, 4);
    const TensorId x = m.input({1, group * m.pick(2, 9), m.pick(5, 12), m.pick(5, 12)});
    m.output(add_conv(m, x, group * m.pick(2, 12), m.pick(1, 3), group, 1, m.pick(1, 2), 1));
    check_product(m, 2e-5);
  });
}

TEST_CASE("matrix products of 8-bit formats are those of the rounded operands") {
  repeat(2200, 15, [](GraphMaker &m) {
    TensorId y = random_product(m);
    if (m.pick(0, 1) == 1) y = m.unary("relu", y);
    m.output(y);
    check_product(m, 1e-4);
  });
}

TEST_CASE("weights that come in several passes keep their scales") {
  Target target = tiny_target();
  target.spm_bytes = 48 << 10;
  GraphMaker conv(2250);
  conv.output(add_conv(conv, conv.input({1, 64, 6, 7}), 96, 3, 1, 1, 1, 1));
  check_product(conv, 2e-5, {target});
  GraphMaker product(2251);
  const TensorId x = product.input({20, 300});
  product.output(product.node("MatMul", {x, product.constant({300, 310}), product.constant({310})},
                              {{"trans_b", int64_t{0}}}, {20, 310}));
  check_product(product, 1e-4, {target});
}

TEST_CASE("output-stationary products of the other formats") {
  repeat(2300, 12, [](GraphMaker &m) {
    m.output(m.pick(0, 1) == 1 ? random_conv(m, true) : random_product(m));
    const auto inputs = random_inputs(m.graph, m.random());
    const auto expected = evaluate_graph(m.graph, inputs);
    INFO(to_text(m.graph));
    for (Target target : {tiny_target(), card_target()}) {
      target.output_stationary = true;
      for (Precision precision : {Precision::fp32, Precision::fp16, Precision::bf16}) {
        for (const uint32_t acc_rows : {3U, 8U, 40U, 256U}) {
          INFO(name_of(precision) << " tiles " << target.tiles << " accumulator rows " << acc_rows);
          target.tile_acc_rows = acc_rows;
          const Comparison result = compare(m.graph, target, precision, inputs, expected);
          CHECK(result.same_for_all_orders);
          CHECK(result.worst < (precision == Precision::fp32 ? 1e-4 : precision == Precision::fp16 ? 3e-2 : 0.25));
        }
      }
    }
  });
}

TEST_CASE("K beyond what a descriptor holds") {
  GraphMaker m(2400);
  const TensorId x = m.input({2, 70000});
  m.output(m.node("MatMul", {x, m.constant({70000, 3}, -1e-3F, 1e-3F)}, {{"trans_b", int64_t{0}}}, {2, 3}));
  check_product(m, 2e-4, {card_target()});
  const auto inputs = random_inputs(m.graph, m.random());
  const auto expected = evaluate_graph(m.graph, inputs);
  for (const bool output_stationary : {false, true}) {
    const Target target = in_mode(card_target(), {1, output_stationary});
    CHECK(compare(m.graph, target, Precision::fp32, inputs, expected, false).worst < 2e-4);
  }
}

TEST_CASE("the graph that measures ranges finds the largest magnitudes and keeps the outputs") {
  repeat(2500, 6, [](GraphMaker &m) {
    make_network(m);
    const auto inputs = random_inputs(m.graph, m.random());
    const auto values = evaluate_graph(m.graph, inputs);
    const auto expected = ranges_of(m.graph, values);
    CHECK(expected.size() == 3);  // the depthwise convolution runs on the VPU
    for (const Target &target : {tiny_target(), in_mode(card_target(), {1, true})}) {
      const auto found = simulated_ranges(m.graph, target, inputs);
      REQUIRE(found.size() == expected.size());
      for (const auto &[name, range] : expected) {
        INFO(name);
        CHECK(found.at(name) == Approx(range).epsilon(1e-5));
      }
    }
    const Graph measured = with_ranges(m.graph);
    verify(measured);
    CHECK(std::equal(m.graph.outputs.begin(), m.graph.outputs.end(), measured.outputs.begin()));
  });
}

TEST_CASE("tensors of one name have ranges of their own") {
  GraphMaker m(2600);
  const TensorId x = m.input({4, 8});
  const TensorId y = m.input({8, 4});
  m.graph[x].name = m.graph[y].name = "same";
  m.output(m.node("MatMul", {x, y}, {{"trans_b", int64_t{0}}}, {4, 4}));
  const auto tensors = ranged_tensors(m.graph);
  REQUIRE(tensors.size() == 2);
  CHECK(tensors[0].name == "same");
  CHECK(tensors[1].name == "same#2");
}

TEST_CASE("small networks in 8-bit formats stay near FP32") {
  repeat(2700, 5, [](GraphMaker &m) {
    make_network(m);
    const auto inputs = random_inputs(m.graph, m.random());
    const auto expected = evaluate_graph(m.graph, inputs);
    CompileOptions options;
    options.ranges = simulated_ranges(m.graph, card_target(), inputs);
    for (Precision precision : kEightBit) {
      options.precision = precision;
      for (const Mode &mode : kModes) {
        for (const Target &shape : {tiny_target(), card_target()}) {
          INFO(name_of(precision) << " tiles " << shape.tiles << " pack " << mode.pack << " os "
                                  << mode.output_stationary);
          const Comparison result = compare(m.graph, in_mode(shape, mode), options, inputs, expected);
          CHECK(result.same_for_all_orders);
          // Both operands of a product may be wrong by half a unit in the last place.
          CHECK(result.worst < (precision == Precision::int8 ? 0.03 : precision == Precision::fp8_e4m3 ? 0.125 : 0.25));
        }
      }
    }
  });
}

TEST_CASE("small integers are exact when the ranges say so") {
  for (Precision precision : kEightBit) {
    for (const Mode &mode : kModes) {
      GraphMaker m(2800);
      const TensorId x = m.input({37, 100});
      const TensorId w = m.constant({100, 45});
      std::vector<float> weights(4500);
      for (float &value : weights) value = static_cast<float>(m.pick(-2, 2));
      std::memcpy(m.graph[w].data.own().data(), weights.data(), 4 * weights.size());
      m.output(m.node("MatMul", {x, w}, {{"trans_b", int64_t{0}}}, {37, 45}));
      auto inputs = random_inputs(m.graph, m.random());
      std::vector<float> values(3700);
      for (float &value : values) value = static_cast<float>(m.pick(-2, 2));
      std::memcpy(inputs[x].data.own().data(), values.data(), 4 * values.size());
      CompileOptions options;
      options.precision = precision;
      options.ranges = {{m.graph[x].name, 127.0F}};
      options.constant_range = 127.0F;
      const auto expected = evaluate_graph(m.graph, inputs);
      CHECK(compare(m.graph, in_mode(tiny_target(), mode), options, inputs, expected).worst == 0);
    }
  }
}

TEST_CASE("packing shortens products and output-stationary programs hold no weights") {
  GraphMaker m(2900);
  const TensorId x = m.input({64, 512});
  m.output(m.node("MatMul", {x, m.constant({512, 32})}, {{"trans_b", int64_t{0}}}, {64, 32}));
  CompileOptions options;
  options.precision = Precision::int8;
  options.ranges = {{m.graph[x].name, 1.0F}};
  options.search_tilings = false;  // which may take more and shorter products
  const auto count = [&](Mode mode, const std::string &mnemonic) {
    const std::string text = disassemble(compile(m.graph, in_mode(tiny_target(), mode), options));
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(mnemonic + " ", at)) != std::string::npos; ++at) ++found;
    return found;
  };
  const std::size_t plain = count({1, false}, "MM_MUL");
  CHECK(plain > 0);
  CHECK(count({2, false}, "MM_MUL") * 2 == plain);
  CHECK(count({4, false}, "MM_MUL") * 4 == plain);
  CHECK(count({4, true}, "MM_MUL") == 0);
  CHECK(count({4, true}, "MM_LDW") == 0);
  CHECK(count({4, true}, "MM_MUL_OS") > 0);
}

TEST_CASE("8-bit precisions without what they need are refused") {
  GraphMaker m(3000);
  const TensorId x = m.input({4, 8});
  m.output(m.node("MatMul", {x, m.constant({8, 8})}, {{"trans_b", int64_t{0}}}, {4, 8}));
  CompileOptions options;
  for (Precision precision : kEightBit) {
    options.precision = precision;
    options.ranges.clear();
    CHECK_THROWS_AS(compile(m.graph, tiny_target(), options), InputError);
    CHECK_THROWS_WITH(compile(m.graph, tiny_target(), options), Catch::Contains("in0") && Catch::Contains("range"));
    for (float range : {-1.0F, INFINITY, NAN}) {
      options.ranges["in0"] = range;
      CHECK_THROWS_AS(compile(m.graph, tiny_target(), options), InputError);
    }
    options.ranges["in0"] = 0;
    CHECK_NOTHROW(compile(m.graph, tiny_target(), options));
    Target target = tiny_target();
    target.formats = 0b000110;
    CHECK_THROWS_WITH(compile(m.graph, target, options),
                      Catch::Contains(name_of(precision)) && Catch::Contains("fp16, bf16"));
  }
  CHECK_THROWS_WITH(precision_from("int4"), Catch::Contains("int4") && Catch::Contains("int8"));
  for (Precision precision : kEightBit) CHECK(precision_from(name_of(precision)) == precision);
}

TEST_CASE("sums that INT32 may not hold are refused in INT8 and allowed in FP8") {
  GraphMaker m(3100);
  const TensorId x = m.input({1, 140000});
  m.output(m.node("MatMul", {x, m.constant({140000, 1})}, {{"trans_b", int64_t{0}}}, {1, 1}));
  CompileOptions options;
  options.ranges = {{m.graph[x].name, 1.0F}};
  options.precision = Precision::int8;
  CHECK_THROWS_AS(compile(m.graph, card_target(), options), UnsupportedError);
  CHECK_THROWS_WITH(compile(m.graph, card_target(), options), Catch::Contains("MatMul0"));
  options.precision = Precision::fp8_e4m3;
  CHECK_NOTHROW(compile(m.graph, card_target(), options));
}

namespace {

/// To nearest even with 10 bits of mantissa, by exact arithmetic on the value.
float with_ten_bits(float value) {
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(value), &exponent);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11));
}

Tensor with_ten_bits(const Tensor &tensor) {
  std::vector<float> values = tensor.values<float>();
  for (float &value : values) value = with_ten_bits(value);
  Tensor result = Tensor::constant(tensor.name, tensor.shape, values);
  return result;
}

}  // namespace

TEST_CASE("tf32 rounds the operands of products to 10 bits, constants and others, and nothing else") {
  const bool constant = GENERATE(false, true);
  const bool convolution = GENERATE(false, true);
  GraphMaker m(constant ? 901 : 902);
  const Shape xs = convolution ? Shape{1, 5, 9, 8} : Shape{2, 9, 30};
  const Shape ws = convolution ? Shape{7, 5, 3, 3} : Shape{30, 11};
  const Shape ys = convolution ? Shape{1, 7, 9, 8} : Shape{2, 9, 11};
  const TensorId x = m.input(xs);
  const TensorId w = constant ? m.constant(ws) : m.input(ws);
  const TensorId addend = m.input(ys);
  TensorId y = kNoTensor;
  if (convolution) {
    y = m.node("Conv", {x, w},
               {{"strides", std::vector<int64_t>{1, 1}},
                {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                {"dilations", std::vector<int64_t>{1, 1}},
                {"group", int64_t{1}}},
               ys);
  } else {
    y = m.node("MatMul", {x, w}, {{"trans_b", int64_t{0}}}, ys);
  }
  m.output(m.binary("add", y, addend));
  auto inputs = random_inputs(m.graph, m.random());
  auto rounded_inputs = inputs;
  rounded_inputs[x] = with_ten_bits(inputs.at(x));
  Graph rounded_graph = m.graph;
  if (constant) {
    rounded_graph[w].data = with_ten_bits(m.graph[w]).data;
  } else {
    rounded_inputs[w] = with_ten_bits(inputs.at(w));
  }
  const auto expected = evaluate_model(rounded_graph, rounded_inputs);
  for (const Target &target : {tiny_target(), card_target()}) {
    const Comparison result = compare(m.graph, target, Precision::tf32, inputs, expected);
    CHECK(result.worst < 2e-6);
    CHECK(result.same_for_all_orders);
    // The same inputs without rounding are further away than all accumulation errors.
    CHECK(compare(m.graph, target, Precision::fp32, inputs, expected).worst > 1e-5);
  }
}
