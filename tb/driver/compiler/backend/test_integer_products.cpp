// Conv and MatMul of int8 tensors: compiled for every target, dataflow and precision, simulated, and compared with sums
// of 64 bits.
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/compiler/backend/views.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/backend/typed_bench.hpp"
#include "tb/driver/compiler/node_case.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;
using Catch::Matchers::Contains;

namespace {

Target in_mode(Target target, uint32_t pack, bool output_stationary) {
  target.tile_pack = pack;
  target.output_stationary = output_stationary;
  return target;
}

/// An int8 tensor that is an input or a constant, and its elements.
struct Operand {
  TensorId id = kNoTensor;
  std::vector<int8_t> values;
};

class Products {
 public:
  explicit Products(GraphMaker &maker) : maker_(maker) {}

  Operand operand(const Shape &shape, bool constant) {
    Operand result;
    for (int64_t i = elements(shape); i > 0; --i) result.values.push_back(static_cast<int8_t>(maker_.pick(-128, 127)));
    Tensor tensor = Tensor::constant("t" + std::to_string(maker_.graph.tensors.size()), shape, result.values);
    if (constant) {
      result.id = maker_.graph.add(tensor);
    } else {
      result.id = maker_.input(shape, Type::I8);
      tensor.name = maker_.graph[result.id].name;
      inputs_[result.id] = tensor;
    }
    return result;
  }

  std::vector<float> floats(int64_t count, float most) {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) {
      values.push_back(std::uniform_real_distribution<float>(-most, most)(maker_.random()));
    }
    return values;
  }

  /// Emits the product, scaled or not, with a relu or not, and checks it everywhere.
  void check(const std::string &op, std::vector<TensorId> operands, std::map<std::string, Attribute> attributes,
             const Shape &shape, int64_t channels, const std::vector<int64_t> &sums,
             const std::function<int64_t(std::size_t)> &channel) {
    const bool scaled = maker_.pick(0, 2) != 0;
    if (!scaled) {
      std::vector<int32_t> expected(sums.begin(), sums.end());
      const TensorId y = maker_.node(op, operands, std::move(attributes), shape, Type::I32);
      maker_.output(y);
      return compare_everywhere(Tensor::constant("expected", shape, expected));
    }
    const bool biased = maker_.pick(0, 1) == 0;
    const std::vector<float> scale = floats(channels, 0.01F);
    const std::vector<float> bias = biased ? floats(channels, 5) : std::vector<float>(scale.size(), 0.0F);
    operands.push_back(biased ? maker_.graph.add(Tensor::constant("bias", {channels}, bias)) : kNoTensor);
    operands.push_back(maker_.graph.add(Tensor::constant("scale", {channels}, scale)));
    TensorId y = maker_.node(op, operands, std::move(attributes), shape, Type::F32);
    const bool relu = maker_.pick(0, 1) == 0;
    if (relu) y = maker_.unary("relu", y);
    maker_.output(y);
    std::vector<float> expected;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const auto n = static_cast<std::size_t>(channel(i));
      const float product = static_cast<float>(sums[i]) * scale[n];
      const float value = product + bias[n];
      expected.push_back(relu && value < 0 ? 0 : value);
    }
    compare_everywhere(Tensor::constant("expected", shape, expected));
  }

 private:
  void compare_everywhere(const Tensor &wanted) {
    std::vector<Tensor> expected = maker_.graph.tensors;
    expected[static_cast<std::size_t>(maker_.graph.outputs.at(0))] = wanted;
    for (const Target &base : {tiny_target(), card_target()}) {
      for (const auto &[pack, output_stationary] : {std::pair{1U, false}, {4U, false}, {2U, true}}) {
        for (Precision precision : {Precision::fp32, Precision::fp16, Precision::int8}) {
          if (precision != Precision::fp32 && pack != 4U) continue;
          const Comparison result =
              compare(maker_.graph, in_mode(base, pack, output_stationary), precision, inputs_, expected, false);
          INFO("pack " << pack << ", output stationary " << output_stationary << ", " << name_of(precision));
          CHECK(result.worst == 0);
          CHECK(result.same_for_all_orders);
        }
      }
    }
  }

  GraphMaker &maker_;
  std::map<TensorId, Tensor> inputs_;
};

/// A convolution of random size with `channels` inputs of each group.
void check_convolution(GraphMaker &m, int64_t group, int64_t channels, int64_t outputs) {
  Products products(m);
  const int64_t batch = m.pick(1, 2);
  const int64_t height = m.pick(4, 12), width = m.pick(4, 12);
  const int64_t ky = m.pick(1, 3), kx = m.pick(1, 4);
  const int64_t sy = m.pick(1, 2), sx = m.pick(1, 2), dy = m.pick(1, 2), dx = m.pick(1, 1 + (kx < 3 ? 1 : 0));
  const std::vector<int64_t> pads = {m.pick(0, 2), m.pick(0, 2), m.pick(0, 2), m.pick(0, 2)};
  const int64_t pad_value = m.pick(-128, 127);
  const int64_t room_y = height + pads[0] + pads[2] - (ky - 1) * dy - 1;
  const int64_t room_x = width + pads[1] + pads[3] - (kx - 1) * dx - 1;
  if (room_y < 0 || room_x < 0) return;
  const int64_t rows = room_y / sy + 1, columns = room_x / sx + 1;
  const Operand x = products.operand({batch, channels * group, height, width}, false);
  const Operand w = products.operand({outputs, channels, ky, kx}, m.pick(0, 2) != 0);
  std::vector<int64_t> sums;
  for (int64_t n = 0; n < batch; ++n) {
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t oy = 0; oy < rows; ++oy) {
        for (int64_t ox = 0; ox < columns; ++ox) {
          int64_t sum = 0;
          for (int64_t c = 0; c < channels; ++c) {
            const int64_t plane = (n * group + o / (outputs / group)) * channels + c;
            for (int64_t i = 0; i < ky; ++i) {
              for (int64_t j = 0; j < kx; ++j) {
                const int64_t iy = oy * sy + i * dy - pads[0];
                const int64_t ix = ox * sx + j * dx - pads[1];
                const bool inside = iy >= 0 && iy < height && ix >= 0 && ix < width;
                const int64_t value =
                    inside ? x.values[static_cast<std::size_t>((plane * height + iy) * width + ix)] : pad_value;
                sum += value * w.values[static_cast<std::size_t>(((o * channels + c) * ky + i) * kx + j)];
              }
            }
          }
          sums.push_back(sum);
        }
      }
    }
  }
  products.check("Conv", {x.id, w.id},
                 {{"strides", std::vector<int64_t>{sy, sx}},
                  {"pads", pads},
                  {"dilations", std::vector<int64_t>{dy, dx}},
                  {"group", group},
                  {"pad_value", pad_value}},
                 {batch, outputs, rows, columns}, outputs, sums,
                 [&](std::size_t i) { return static_cast<int64_t>(i) / (rows * columns) % outputs; });
}

}  // namespace

TEST_CASE("matrix products of int8 tensors are exact") {
  repeat_typed(5000, 14, [](GraphMaker &m) {
    Products products(m);
    const int64_t batch = m.pick(1, 3);
    const int64_t rows = m.pick(1, 40);
    const int64_t depth = m.pick(1, 90);
    const int64_t columns = m.pick(1, 50);
    const bool shared = m.pick(0, 1) == 0;
    const bool transposed = m.pick(0, 1) == 0;
    const Operand a = products.operand({batch, rows, depth}, false);
    Shape ws = transposed ? Shape{columns, depth} : Shape{depth, columns};
    if (!shared) ws.insert(ws.begin(), batch);
    const Operand w = products.operand(ws, m.pick(0, 1) == 0);
    std::vector<int64_t> sums;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) {
          int64_t sum = 0;
          for (int64_t k = 0; k < depth; ++k) {
            const int64_t own = transposed ? j * depth + k : k * columns + j;
            sum += a.values[static_cast<std::size_t>((b * rows + i) * depth + k)] *
                   w.values[static_cast<std::size_t>((shared ? 0 : b * depth * columns) + own)];
          }
          sums.push_back(sum);
        }
      }
    }
    products.check("MatMul", {a.id, w.id}, {{"trans_b", int64_t{transposed}}}, {batch, rows, columns}, columns, sums,
                   [&](std::size_t i) { return static_cast<int64_t>(i) % columns; });
  });
}

TEST_CASE("convolutions of int8 maps are exact, with padding that holds a value") {
  repeat_typed(5100, 14, [](GraphMaker &m) {
    const int64_t group = m.pick(0, 2) == 0 ? m.pick(2, 3) : 1;
    check_convolution(m, group, m.pick(1, 6), group * m.pick(1, 12 / group));
  });
}

TEST_CASE("depthwise convolutions of int8 maps are exact, with padding that holds a value") {
  repeat_typed(5200, 14, [](GraphMaker &m) {
    const int64_t channels = m.pick(2, 40);
    check_convolution(m, channels, 1, channels);
  });
}

TEST_CASE("the VPU takes depthwise convolutions of int8 whose sums FP32 holds, the DMMU the others") {
  const auto depthwise = [](int64_t kernel) {
    GraphMaker m(1);
    const TensorId x = m.input({1, 2, 40, 40}, Type::I8);
    const TensorId w = m.input({2, 1, kernel, kernel}, Type::I8);
    m.node("Conv", {x, w}, {{"group", int64_t{2}}}, {1, 2, 41 - kernel, 41 - kernel}, Type::I32);
    return !is_dmmu_product(m.graph, m.graph.nodes[0]);
  };
  CHECK(depthwise(3));
  CHECK(depthwise(32));
  CHECK_FALSE(depthwise(33));
}

TEST_CASE("a target without INT8 refuses products of int8 tensors, naming the node") {
  GraphMaker m(1);
  const TensorId a = m.input({2, 3}, Type::I8);
  const TensorId w = m.input({3, 4}, Type::I8);
  m.output(m.node("MatMul", {a, w}, {{"trans_b", int64_t{0}}}, {2, 4}, Type::I32));
  Target target = tiny_target();
  target.formats &= ~(1U << static_cast<unsigned>(backend::Dtype::INT8));
  CHECK_THROWS_WITH(compile(m.graph, target, {}), Contains("MatMul") && Contains("does not multiply int8"));
}

TEST_CASE("sums of int8 products that may leave 32 bits are refused") {
  GraphMaker m(1);
  const TensorId a = m.input({1, 131073}, Type::I8);
  const TensorId w = m.input({131073, 1}, Type::I8);
  m.output(m.node("MatMul", {a, w}, {{"trans_b", int64_t{0}}}, {1, 1}, Type::I32));
  CHECK_THROWS_WITH(compile(m.graph, tiny_target(), {}), Contains("131073") && Contains("131071"));
}

TEST_CASE("a QDQ model of ONNX multiplies in int8 and keeps its 8-bit results") {
  Case c(13, 77);
  c.input("x", {1, 8, 11, 10});
  const auto bytes = [&](const std::string &name, const Shape &shape) {
    auto &tensor = *c.model().proto().mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::INT8);
    for (int64_t dimension : shape) tensor.add_dims(dimension);
    for (int64_t i = elements(shape); i > 0; --i) {
      tensor.add_int32_data(std::uniform_int_distribution<int>(-127, 127)(c.random()));
    }
  };
  c.model().constant("x_scale", {}, {0.0078F});
  c.model().constant("w_scale", {6}, {0.002F, 0.003F, 0.004F, 0.005F, 0.006F, 0.001F});
  c.model().constant("y_scale", {}, {0.021F});
  c.model().constant("bias", {6}, {0.1F, -0.2F, 0.3F, -0.4F, 0.5F, 0});
  auto &zero = *c.model().proto().mutable_graph()->add_initializer();
  zero.set_name("zero");
  zero.set_data_type(onnx::TensorProto::UINT8);
  zero.add_int32_data(121);
  bytes("w", {6, 8, 3, 3});
  c.model().node("QuantizeLinear", {"x", "x_scale", "zero"}, {"xq"});
  c.model().node("DequantizeLinear", {"xq", "x_scale", "zero"}, {"xd"});
  attribute(c.model().node("DequantizeLinear", {"w", "w_scale"}, {"wd"}), "axis", int64_t{0});
  auto &conv = c.model().node("Conv", {"xd", "wd", "bias"}, {"h"});
  attribute(conv, "auto_pad", std::string("SAME_UPPER"));
  c.model().node("Relu", {"h"}, {"r"});
  c.model().node("QuantizeLinear", {"r", "y_scale", "zero"}, {"yq"});
  c.node("DequantizeLinear", {"yq", "y_scale", "zero"}, {"y"});
  const Graph graph = c.import();
  std::mt19937 random(78);
  const auto inputs = random_inputs(graph, random);
  const std::vector<Tensor> expected = evaluate_graph(graph, inputs);
  const std::vector<float> wanted = expected.at(static_cast<std::size_t>(graph.outputs.at(0))).values<float>();
  for (Precision precision : {Precision::fp32}) {
    const Comparison result = compare(graph, card_target(), precision, inputs, expected, false);
    const std::vector<float> actual = result.outputs.at(0).values<float>();
    int different = 0;
    float most = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const float off = std::fabs(actual[i] - wanted[i]);
      different += off > 0.0105F ? 1 : 0;
      most = std::max(most, off);
    }
    // A sum that lies within rounding of a half may be one step off.
    INFO(name_of(precision) << ": " << different << " of " << wanted.size() << " elements differ, by at most " << most);
    CHECK(most <= 0.022F);
    CHECK(different <= 3);
  }
}
