// Quantised operators against integer arithmetic, and QDQ models: what they compute and that they compute it in int8.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>

#include "tb/driver/compiler/node_case.hpp"

using namespace cx::compiler;
using Catch::Matchers::Contains;

namespace {

constexpr int kInt8 = onnx::TensorProto::INT8;
constexpr int kUint8 = onnx::TensorProto::UINT8;
constexpr int kInt32 = onnx::TensorProto::INT32;
constexpr int kFloat = onnx::TensorProto::FLOAT;

struct Range {
  double low, high;
};
Range range_of(int type) {
  switch (type) {
    case kInt8:
      return {-128, 127};
    case kUint8:
      return {0, 255};
    case onnx::TensorProto::INT16:
      return {-32768, 32767};
    default:
      return {0, 65535};
  }
}

double saturate(double value, int type) {
  const Range range = range_of(type);
  return std::min(std::max(value, range.low), range.high);
}

Numbers whole(std::mt19937 &random, std::size_t count, double low, double high) {
  std::uniform_int_distribution<int64_t> draw(static_cast<int64_t>(low), static_cast<int64_t>(high));
  Numbers values(count);
  for (double &value : values) value = static_cast<double>(draw(random));
  return values;
}

Numbers bytes(std::mt19937 &random, std::size_t count, int type) {
  return whole(random, count, range_of(type).low, range_of(type).high);
}

void initializer(Case &c, const std::string &name, const Shape &shape, const Numbers &values, int type) {
  auto &tensor = *c.model().proto().mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  for (int64_t dimension : shape) tensor.add_dims(dimension);
  for (double value : values) {
    if (type == kFloat) {
      tensor.add_float_data(static_cast<float>(value));
    } else {
      tensor.add_int32_data(static_cast<int32_t>(value));
    }
  }
}

// A parameter in the model's file, or an input at run time.
void parameter(Case &c, bool fixed, const std::string &name, const Shape &shape, const Numbers &values, int type) {
  if (fixed) {
    initializer(c, name, shape, values, type);
  } else {
    c.given(name, shape, values, type);
  }
}

struct Convolution {
  std::size_t batch = 2, channels = 4, height = 6, width = 5, outputs = 6, group = 2, kernel = 3, stride = 2, pad = 1;
  std::size_t rows() const { return (height + 2 * pad - kernel) / stride + 1; }
  std::size_t columns() const { return (width + 2 * pad - kernel) / stride + 1; }
  Shape x_shape() const { return shape(batch, channels, height, width); }
  Shape w_shape() const { return shape(outputs, channels / group, kernel, kernel); }
  Shape y_shape() const { return shape(batch, outputs, rows(), columns()); }

  static Shape shape(std::size_t a, std::size_t b, std::size_t c, std::size_t d) {
    return {static_cast<int64_t>(a), static_cast<int64_t>(b), static_cast<int64_t>(c), static_cast<int64_t>(d)};
  }

  // Sums of (x - x_zero)(w - w_zero); padding counts nothing.
  Numbers sums(const Numbers &x, double x_zero, const Numbers &w, const Numbers &w_zero) const {
    Numbers result;
    const std::size_t per_group = channels / group;
    for (std::size_t n = 0; n < batch; ++n) {
      for (std::size_t m = 0; m < outputs; ++m) {
        for (std::size_t oy = 0; oy < rows(); ++oy) {
          for (std::size_t ox = 0; ox < columns(); ++ox) {
            double sum = 0;
            for (std::size_t c = 0; c < per_group; ++c) {
              for (std::size_t ky = 0; ky < kernel; ++ky) {
                for (std::size_t kx = 0; kx < kernel; ++kx) {
                  const std::size_t y = oy * stride + ky;
                  const std::size_t at = ox * stride + kx;
                  if (y < pad || y - pad >= height || at < pad || at - pad >= width) continue;
                  const std::size_t channel = m / (outputs / group) * per_group + c;
                  sum += (x[((n * channels + channel) * height + y - pad) * width + at - pad] - x_zero) *
                         (w[((m * per_group + c) * kernel + ky) * kernel + kx] - w_zero[w_zero.size() == 1 ? 0 : m]);
                }
              }
            }
            result.push_back(sum);
          }
        }
      }
    }
    return result;
  }

  void attributes(onnx::NodeProto &node) const {
    attribute(node, "group", static_cast<int64_t>(group));
    for (const auto &[name, value, count] : {std::tuple{"strides", stride, 2}, std::tuple{"pads", pad, 4}}) {
      auto &entry = *node.add_attribute();
      entry.set_name(name);
      entry.set_type(onnx::AttributeProto::INTS);
      for (int i = 0; i < count; ++i) entry.add_ints(static_cast<int64_t>(value));
    }
  }
};

int64_t products_of_int8(const Graph &graph) {
  return std::count_if(graph.nodes.begin(), graph.nodes.end(), [&](const Node &node) {
    return (node.op == "Conv" || node.op == "MatMul") && graph[node.inputs[0]].type == Type::I8;
  });
}

int64_t products(const Graph &graph) {
  return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                       [&](const Node &node) { return node.op == "Conv" || node.op == "MatMul"; });
}

}  // namespace

TEST_CASE("QuantizeLinear rounds half to even and saturates: whole tensors, axes, blocks") {
  const int type = GENERATE(as<int>{}, kInt8, kUint8, onnx::TensorProto::INT16, onnx::TensorProto::UINT16);
  const int form = GENERATE(0, 1, 2);
  Case c(21, seed());
  const bool narrow = type == kInt8 || type == kUint8;
  Numbers x = c.input("x", {3, 4, 5}, narrow ? -200 : -50000, narrow ? 200 : 50000);
  const Shape shape = form == 0 ? Shape{} : (form == 1 ? Shape{4} : Shape{3, 2, 5});
  const Numbers scale = c.input("scale", shape, 0.5, 2);
  const Numbers zero = bytes(c.random(), scale.size(), type);
  c.given("zero", shape, zero, type);
  auto &node = c.node("QuantizeLinear", {"x", "scale", "zero"}, {"y"});
  if (form == 2) attribute(node, "block_size", int64_t{3});
  Numbers expected;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t channel = i / 5 % 4;
    const std::size_t at = form == 0 ? 0 : (form == 1 ? channel : (i / 20 * 2 + channel / 3) * 5 + i % 5);
    const float quotient = static_cast<float>(x[i]) / static_cast<float>(scale[at]);
    expected.push_back(saturate(std::nearbyint(quotient) + zero[at], type));
  }
  c.check("y", {3, 4, 5}, expected, 0, 1e-9);
}

TEST_CASE("QuantizeLinear of values halfway between two whole numbers") {
  Case c(13, 1);
  c.given("x", {8}, {-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300, -300}, kFloat);
  initializer(c, "scale", {}, {1}, kFloat);
  initializer(c, "zero", {}, {1}, kInt8);
  attribute(c.node("QuantizeLinear", {"x", "scale", "zero"}, {"y"}), "axis", int64_t{0});
  c.check("y", {8}, {-1, -1, 1, 1, 3, 3, 127, -128}, 0, 1e-9);
}

TEST_CASE("DynamicQuantizeLinear of zeros alone") {
  Case c(13, 1);
  c.given("x", {3}, {0, 0, 0}, kFloat);
  c.node("DynamicQuantizeLinear", {"x"}, {"y", "scale", "zero"});
  c.check("y", {3}, {0, 0, 0}, 0, 1e-9);
}

TEST_CASE("MatMulInteger and QLinearMatMul are exact, with zero points of rows and columns") {
  const int type_a = GENERATE(as<int>{}, kInt8, kUint8);
  const int type_b = GENERATE(as<int>{}, kInt8, kUint8);
  const bool fixed = GENERATE(false, true);
  Case c(13, seed());
  const std::size_t rows = 3, depth = 7, columns = 4;
  const Numbers a = bytes(c.random(), 2 * rows * depth, type_a);
  const Numbers w = bytes(c.random(), depth * columns, type_b);
  const Numbers a_zero = bytes(c.random(), fixed ? 1 : rows, type_a);
  const Numbers w_zero = bytes(c.random(), columns, type_b);
  c.given("a", {2, 3, 7}, a, type_a);
  parameter(c, fixed, "w", {7, 4}, w, type_b);
  parameter(c, fixed, "a_zero", fixed ? Shape{} : Shape{3}, a_zero, type_a);
  parameter(c, fixed, "w_zero", {4}, w_zero, type_b);
  Numbers sums;
  for (std::size_t i = 0; i < 2 * rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < depth; ++k) {
        sum += (a[i * depth + k] - a_zero[fixed ? 0 : i % rows]) * (w[k * columns + j] - w_zero[j]);
      }
      sums.push_back(sum);
    }
  }
  c.node("MatMulInteger", {"a", "w", "a_zero", "w_zero"}, {"y"});
  c.check("y", {2, 3, 4}, sums, 0, 1e-9);
  CHECK(products(c.import()) == products_of_int8(c.import()));
  if (!fixed) return;
  parameter(c, true, "a_scale", {}, {0.02}, kFloat);
  parameter(c, true, "w_scale", {4}, {0.01, 0.02, 0.03, 0.04}, kFloat);
  parameter(c, true, "y_scale", {}, {0.5}, kFloat);
  parameter(c, true, "y_zero", {}, {3}, kInt8);
  c.node("QLinearMatMul", {"a", "a_scale", "a_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"}, {"q"});
  Numbers expected;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const float scales[] = {0.01F, 0.02F, 0.03F, 0.04F};
    const float factor = 0.02F * scales[i % columns] / 0.5F;
    expected.push_back(saturate(std::nearbyint(static_cast<float>(sums[i]) * factor) + 3, kInt8));
  }
  c.check("q", {2, 3, 4}, expected, 0, 1e-9);
}

TEST_CASE("ConvInteger and QLinearConv are exact, whatever is known at compile time") {
  const int type_x = GENERATE(as<int>{}, kInt8, kUint8);
  const int type_w = GENERATE(as<int>{}, kInt8, kUint8);
  const bool fixed = GENERATE(false, true);
  const bool channels = GENERATE(false, true);
  Case c(13, seed());
  const Convolution conv;
  const Numbers x = bytes(c.random(), static_cast<std::size_t>(elements(conv.x_shape())), type_x);
  const Numbers w = bytes(c.random(), static_cast<std::size_t>(elements(conv.w_shape())), type_w);
  const std::size_t count = channels ? conv.outputs : 1;
  const Shape list = channels ? Shape{static_cast<int64_t>(count)} : Shape{};
  const Numbers x_zero = bytes(c.random(), 1, type_x);
  const Numbers w_zero = bytes(c.random(), count, type_w);
  const Numbers bias = whole(c.random(), conv.outputs, -5000, 5000);
  Numbers w_scale(count);
  for (double &value : w_scale) value = std::uniform_real_distribution<float>(0.01F, 0.02F)(c.random());
  c.given("x", conv.x_shape(), x, type_x);
  parameter(c, fixed, "w", conv.w_shape(), w, type_w);
  parameter(c, fixed, "x_zero", {}, x_zero, type_x);
  parameter(c, fixed, "w_zero", list, w_zero, type_w);
  parameter(c, fixed, "x_scale", {}, {0.03}, kFloat);
  parameter(c, fixed, "w_scale", list, w_scale, kFloat);
  parameter(c, fixed, "y_scale", {}, {0.4}, kFloat);
  parameter(c, fixed, "y_zero", {}, {100}, kUint8);
  parameter(c, fixed, "bias", {static_cast<int64_t>(conv.outputs)}, bias, kInt32);
  const Numbers sums = conv.sums(x, x_zero[0], w, w_zero);
  conv.attributes(c.node("ConvInteger", {"x", "w", "x_zero", "w_zero"}, {"sum"}));
  conv.attributes(
      c.node("QLinearConv", {"x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias"}, {"y"}));
  Numbers expected;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const std::size_t m = i / (conv.rows() * conv.columns()) % conv.outputs;
    const float factor = 0.03F * static_cast<float>(w_scale[channels ? m : 0]) / 0.4F;
    const float value = static_cast<float>(sums[i] + bias[m]) * factor;
    expected.push_back(saturate(std::nearbyint(value) + 100, kUint8));
  }
  c.check("sum", conv.y_shape(), sums, 0, 1e-9);
  c.check("y", conv.y_shape(), expected, 0, 1e-9);
  const Graph graph = c.import();
  CHECK(products(graph) == products_of_int8(graph));
}

TEST_CASE("QLinearConv with weights around their zero point is one product with a drain that is exact") {
  Case c(13, seed());
  Convolution conv;
  conv.group = 1;
  const Numbers x = bytes(c.random(), static_cast<std::size_t>(elements(conv.x_shape())), kUint8);
  const Numbers w = whole(c.random(), static_cast<std::size_t>(elements(conv.w_shape())), 70, 190);
  c.given("x", conv.x_shape(), x, kUint8);
  initializer(c, "w", conv.w_shape(), w, kUint8);
  initializer(c, "zero", {}, {130}, kUint8);
  initializer(c, "scale", {}, {0.01}, kFloat);
  initializer(c, "y_scale", {}, {0.7}, kFloat);
  conv.attributes(c.node("QLinearConv", {"x", "scale", "zero", "w", "scale", "zero", "y_scale", "zero"}, {"y"}));
  Numbers expected;
  for (double sum : conv.sums(x, 130, w, {130})) {
    const float factor = 0.01F * 0.01F / 0.7F;
    expected.push_back(saturate(std::nearbyint(static_cast<float>(sum) * factor) + 130, kUint8));
  }
  c.check("y", conv.y_shape(), expected, 0, 1e-9);
  const Graph graph = c.import();
  REQUIRE(products(graph) == 1);
  for (const Node &node : graph.nodes) {
    if (node.op == "Conv") CHECK(graph[node.outputs[0]].type == Type::F32);
  }
}

namespace {

// Dequantised rounding of a value.
double rounded(double value, float scale, double zero, int type) {
  return (saturate(std::nearbyint(static_cast<float>(value) / scale) + zero, type) - zero) * static_cast<double>(scale);
}

// x -> Q, DQ -> Conv, Relu -> Q, Reshape, DQ -> MatMul, as quantisers write it; each channel of the convolution's
// weights has a scale.
struct QdqNet {
  explicit QdqNet(Case &c, int type) {
    zero = type == kUint8 ? 120 : -3;
    x = c.input("x", {1, 3, 6, 6});
    w = whole(c.random(), 4 * 3 * 3 * 3, -127, 127);
    v = whole(c.random(), 5 * 100, -127, 127);
    initializer(c, "zero", {}, {zero}, type);
    initializer(c, "x_scale", {}, {x_scale}, kFloat);
    initializer(c, "h_scale", {}, {h_scale}, kFloat);
    initializer(c, "h_zero", {}, {h_zero(type)}, type);
    initializer(c, "y_scale", {}, {y_scale}, kFloat);
    initializer(c, "w", {4, 3, 3, 3}, w, kInt8);
    initializer(c, "w_scale", {4}, {w_scale[0], w_scale[1], w_scale[2], w_scale[3]}, kFloat);
    initializer(c, "w_zero", {4}, {0, 0, 0, 0}, kInt8);
    initializer(c, "v", {5, 100}, v, kInt8);
    initializer(c, "v_scale", {}, {v_scale}, kFloat);
    initializer(c, "v_zero", {}, {0}, kInt8);
    initializer(c, "bias", {4}, {0.1, -0.2, 0.3, 0}, kFloat);
    auto &m = c.model();
    m.node("QuantizeLinear", {"x", "x_scale", "zero"}, {"xq"});
    m.node("DequantizeLinear", {"xq", "x_scale", "zero"}, {"xd"});
    attribute(m.node("DequantizeLinear", {"w", "w_scale", "w_zero"}, {"wd"}), "axis", int64_t{0});
    auto &conv = m.node("Conv", {"xd", "wd", "bias"}, {"h"});
    auto &pads = *conv.add_attribute();
    pads.set_name("pads");
    pads.set_type(onnx::AttributeProto::INTS);
    for (int64_t pad : {1, 1, 0, 0}) pads.add_ints(pad);
    auto &strides = *conv.add_attribute();
    strides.set_name("strides");
    strides.set_type(onnx::AttributeProto::INTS);
    strides.add_ints(1);
    strides.add_ints(1);
    m.node("Relu", {"h"}, {"r"});
    m.node("QuantizeLinear", {"r", "h_scale", "h_zero"}, {"hq"});
    m.integers("flat", {1, 100});
    m.node("Reshape", {"hq", "flat"}, {"hf"});
    m.node("DequantizeLinear", {"hf", "h_scale", "h_zero"}, {"hd"});
    // The second product's weights come transposed.
    m.node("DequantizeLinear", {"v", "v_scale", "v_zero"}, {"vd"});
    m.node("Transpose", {"vd"}, {"vt"});
    m.node("MatMul", {"hd", "vt"}, {"y"});
    m.output("y");
  }
  static double h_zero(int type) { return type == kUint8 ? 0 : -128; }

  double zero = 0;
  Numbers x, w, v;
  static constexpr float x_scale = 0.008F, h_scale = 0.02F, y_scale = 0.05F, v_scale = 0.003F;
  static constexpr float w_scale[4] = {0.004F, 0.006F, 0.002F, 0.005F};
};

}  // namespace

TEST_CASE("A QDQ model multiplies in int8 and gives what its float arithmetic gives") {
  const int type = GENERATE(as<int>{}, kUint8, kInt8);
  Case c(13, seed());
  const QdqNet net(c, type);
  const Graph graph = c.import();
  CHECK(products(graph) == 2);
  CHECK(products_of_int8(graph) == 2);
  // In double: what the model says, rounded where it rounds.
  const auto x_at = [&](std::size_t ch, long y, long x) {
    if (y < 0 || x < 0 || y >= 6 || x >= 6) return 0.0;
    return rounded(net.x[(ch * 6 + static_cast<std::size_t>(y)) * 6 + static_cast<std::size_t>(x)], QdqNet::x_scale,
                   net.zero, type);
  };
  const float bias[4] = {0.1F, -0.2F, 0.3F, 0};
  Numbers h;
  for (std::size_t o = 0; o < 4; ++o) {
    for (long y = 0; y < 5; ++y) {
      for (long x = 0; x < 5; ++x) {
        double sum = bias[o];
        for (std::size_t ch = 0; ch < 3; ++ch) {
          for (long ky = 0; ky < 3; ++ky) {
            for (long kx = 0; kx < 3; ++kx) {
              const double weight =
                  net.w[((o * 3 + ch) * 3 + static_cast<std::size_t>(ky)) * 3 + static_cast<std::size_t>(kx)] *
                  static_cast<double>(QdqNet::w_scale[o]);
              sum += x_at(ch, y - 1 + ky, x - 1 + kx) * weight;
            }
          }
        }
        h.push_back(rounded(std::max(sum, 0.0), QdqNet::h_scale, QdqNet::h_zero(type), type));
      }
    }
  }
  Numbers expected;
  double most = 0;
  for (std::size_t n = 0; n < 5; ++n) {
    double sum = 0;
    for (std::size_t k = 0; k < 100; ++k) sum += h[k] * net.v[n * 100 + k] * static_cast<double>(QdqNet::v_scale);
    expected.push_back(sum);
    most = std::max(most, std::fabs(sum));
  }
  // An element of h whose sum lies within rounding of a half may be one step off.
  c.check("y", {1, 5}, expected, 0, 127 * static_cast<double>(QdqNet::h_scale * QdqNet::v_scale) + 1e-4 * most);
}

TEST_CASE("A depthwise convolution of a QDQ model is one of int8") {
  constexpr float kInScale = 0.01F, kOutScale = 0.02F;
  constexpr std::array<float, 3> kScales = {0.004F, 0.006F, 0.002F};
  constexpr std::array<double, 3> kBias = {0.125, -0.25, 0};
  Case c(13, seed());
  const double zero = 5;
  const Numbers x = c.input("x", {1, 3, 5, 5});
  const Numbers w = whole(c.random(), 3 * 9, -127, 127);
  initializer(c, "x_scale", {}, {kInScale}, kFloat);
  initializer(c, "zero", {}, {zero}, kInt8);
  initializer(c, "w", {3, 1, 3, 3}, w, kInt8);
  initializer(c, "w_scale", {3}, {kScales[0], kScales[1], kScales[2]}, kFloat);
  initializer(c, "w_zero", {3}, {0, 0, 0}, kInt8);
  initializer(c, "bias", {3}, {kBias[0], kBias[1], kBias[2]}, kFloat);
  initializer(c, "y_scale", {}, {kOutScale}, kFloat);
  auto &m = c.model();
  m.node("QuantizeLinear", {"x", "x_scale", "zero"}, {"xq"});
  m.node("DequantizeLinear", {"xq", "x_scale", "zero"}, {"xd"});
  attribute(m.node("DequantizeLinear", {"w", "w_scale", "w_zero"}, {"wd"}), "axis", int64_t{0});
  attribute(m.node("Conv", {"xd", "wd", "bias"}, {"h"}), "group", int64_t{3});
  m.node("QuantizeLinear", {"h", "y_scale", "zero"}, {"hq"});
  m.node("DequantizeLinear", {"hq", "y_scale", "zero"}, {"y"});
  m.output("y");
  const Graph graph = c.import();
  CHECK(products(graph) == 1);
  CHECK(products_of_int8(graph) == 1);
  Numbers expected;
  for (std::size_t ch = 0; ch < 3; ++ch) {
    for (std::size_t y = 0; y < 3; ++y) {
      for (std::size_t column = 0; column < 3; ++column) {
        double sum = kBias[ch];
        for (std::size_t tap = 0; tap < 9; ++tap) {
          const double element = x[(ch * 5 + y + tap / 3) * 5 + column + tap % 3];
          sum += rounded(element, kInScale, zero, kInt8) * w[ch * 9 + tap] * static_cast<double>(kScales[ch]);
        }
        expected.push_back(rounded(sum, kOutScale, zero, kInt8));
      }
    }
  }
  // A sum within rounding of a half may be one step off.
  c.check("y", {1, 3, 3, 3}, expected, 0, 1.001 * static_cast<double>(kOutScale));
}

TEST_CASE("Products that are not of int8 stay with floats") {
  Case c(13, seed());
  c.input("x", {2, 8});
  initializer(c, "scale", {}, {0.01}, kFloat);
  initializer(c, "zero", {}, {3}, kInt8);
  SECTION("weights that were never quantised") {
    initializer(c, "w", {8, 4}, Numbers(32, 0.25), kFloat);
    c.model().node("QuantizeLinear", {"x", "scale", "zero"}, {"q"});
    c.model().node("DequantizeLinear", {"q", "scale", "zero"}, {"d"});
    c.node("MatMul", {"d", "w"}, {"y"});
  }
  SECTION("weights whose zero point does not fit") {
    initializer(c, "w", {8, 4}, bytes(c.random(), 31, kInt8), kInt8);
    auto &tensor = *c.model().proto().mutable_graph()->mutable_initializer(2);
    tensor.add_int32_data(-128);
    c.model().node("QuantizeLinear", {"x", "scale", "zero"}, {"q"});
    c.model().node("DequantizeLinear", {"q", "scale", "zero"}, {"d"});
    c.model().node("DequantizeLinear", {"w", "scale", "zero"}, {"wd"});
    c.node("MatMul", {"d", "wd"}, {"y"});
  }
  const Graph graph = c.import();
  CHECK(products(graph) == 1);
  CHECK(products_of_int8(graph) == 0);
}

TEST_CASE("Wrong quantisation parameters are named with node and operator") {
  Case c(13, 1);
  SECTION("length of the scale") {
    c.input("x", {2, 3});
    c.input("scale", {4});
    c.node("QuantizeLinear", {"x", "scale"}, {"y"});
    CHECK_THAT(c.message(), Contains("the_node") && Contains("QuantizeLinear") && Contains("scale has shape [4]") &&
                                Contains("[3]"));
  }
  SECTION("axis") {
    c.input("x", {2, 3});
    c.input("scale", {3});
    attribute(c.node("QuantizeLinear", {"x", "scale"}, {"y"}), "axis", int64_t{2});
    CHECK_THAT(c.message(), Contains("QuantizeLinear") && Contains("axis 2"));
  }
  SECTION("zero point of another type") {
    c.given("x", {2}, {1, 2}, kUint8);
    c.input("scale", {});
    c.given("zero", {}, {0}, kInt8);
    c.node("DequantizeLinear", {"x", "scale", "zero"}, {"y"});
    CHECK_THAT(c.message(), Contains("DequantizeLinear") && Contains("zero point") && Contains("uint8"));
  }
  SECTION("type of the result") {
    c.input("x", {2});
    c.input("scale", {});
    c.given("zero", {}, {0}, kInt32);
    c.node("QuantizeLinear", {"x", "scale", "zero"}, {"y"});
    CHECK_THAT(c.message(), Contains("QuantizeLinear") && Contains("int32"));
  }
  SECTION("operands of a product") {
    c.given("a", {2, 2}, {1, 2, 3, 4}, kInt32);
    c.given("b", {2, 2}, {1, 2, 3, 4}, kInt8);
    c.node("MatMulInteger", {"a", "b"}, {"y"});
    CHECK_THAT(c.message(), Contains("MatMulInteger") && Contains("int32"));
  }
  SECTION("bias") {
    c.given("x", {1, 1, 3, 3}, Numbers(9, 1), kUint8);
    c.given("w", {1, 1, 3, 3}, Numbers(9, 1), kUint8);
    c.input("s", {});
    c.given("z", {}, {0}, kUint8);
    c.given("bias", {2}, {0, 0}, kInt32);
    c.node("QLinearConv", {"x", "s", "z", "w", "s", "z", "s", "z", "bias"}, {"y"});
    CHECK_THAT(c.message(), Contains("QLinearConv") && Contains("B is int32[2]"));
  }
}
