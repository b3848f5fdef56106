// Tensors that stay in the scratchpad: networks of several layers, compiled, simulated, compared.
#include <algorithm>
#include <catch2/catch.hpp>

#include "tb/driver/compiler/backend/bench.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

constexpr uint32_t kDmmu = 2;
constexpr uint32_t kVpu = 3;

CompileStatistics compiled(const Graph &graph, const Target &target, Precision precision) {
  CompileStatistics statistics;
  CompileOptions options;
  options.precision = precision;
  compile(graph, target, options, &statistics);
  return statistics;
}

/// Instructions of one engine for one node.
uint64_t instructions(const Program &program, uint32_t engine, const std::string &node) {
  uint64_t count = 0;
  for (const DebugEntry &entry : program.debug) {
    if (entry.engine == engine && entry.node == node) count += entry.count;
  }
  return count;
}

/// Compares with the evaluator, and the bytes of the results for several scratchpad sizes with each other.
void check(GraphMaker &maker, double tolerance_fp32, double tolerance_fp16) {
  const auto inputs = random_inputs(maker.graph, maker.random());
  verify(maker.graph);
  const auto expected = evaluate_graph(maker.graph, inputs);
  INFO(to_text(maker.graph));
  for (const Target &target : {tiny_target(), card_target()}) {
    for (Precision precision : {Precision::fp32, Precision::fp16}) {
      INFO("tiles " << target.tiles << " precision " << name_of(precision));
      const Comparison result = compare(maker.graph, target, precision, inputs, expected);
      CHECK(result.same_for_all_orders);
      CHECK(result.worst < (precision == Precision::fp32 ? tolerance_fp32 : tolerance_fp16));
      for (uint32_t kib : {128, 3000}) {
        Target other = target;
        other.spm_bytes = kib << 10;
        const Comparison same = compare(maker.graph, other, precision, inputs, expected, false);
        for (std::size_t o = 0; o < result.outputs.size(); ++o) {
          CHECK(same.outputs[o].data == result.outputs[o].data);
        }
      }
    }
  }
}

/// Makes random layers on maps of [N, C, H, W].
class MapNetwork {
 public:
  explicit MapNetwork(GraphMaker &maker) : m_(maker) {}

  void run(int layers) {
    maps_.push_back(m_.input({m_.pick(1, 2), m_.pick(1, 6), m_.pick(9, 16), m_.pick(9, 16)}));
    // The input is bound; what stays are results.
    maps_.push_back(convolution(maps_[0], false));
    for (int i = 0; i < layers; ++i) maps_.push_back(layer(maps_[pick_map()]));
    for (const TensorId id : maps_) {
      if (m_.graph.consumers(id).empty()) m_.output(m_.unary("neg", id));
    }
  }

 private:
  std::size_t pick_map() { return static_cast<std::size_t>(m_.pick(1, static_cast<int64_t>(maps_.size()) - 1)); }

  TensorId layer(TensorId x) {
    switch (m_.pick(0, 6)) {
      case 0:
        return pool(x, "max");
      case 1:
        return pool(x, "avg");
      case 2:
        return convolution(x, true);
      case 3:
        return join(x);
      case 4:
        return m_.binary("add", convolution(x, false, true), x);
      default:
        return m_.unary(m_.pick(0, 1) == 1 ? "relu" : "hard_swish", convolution(x, false));
    }
  }

  TensorId pool(TensorId x, const std::string &kind) {
    const Shape in = m_.shape(x);
    const int64_t ky = m_.pick(1, std::min<int64_t>(3, in[2]));
    const int64_t kx = m_.pick(1, std::min<int64_t>(3, in[3]));
    const int64_t stride = in[2] > 6 && in[3] > 6 ? m_.pick(1, 2) : 1;
    const std::vector<int64_t> pads{m_.pick(0, ky / 2), m_.pick(0, kx / 2), m_.pick(0, ky / 2), m_.pick(0, kx / 2)};
    return m_.node(
        "Pool", {x},
        {{"kind", kind},
         {"kernel", std::vector<int64_t>{ky, kx}},
         {"strides", std::vector<int64_t>{stride, stride}},
         {"pads", pads},
         {"dilations", std::vector<int64_t>{1, 1}},
         {"count_include_pad", int64_t{1}}},
        {in[0], in[1], (in[2] + pads[0] + pads[2] - ky) / stride + 1, (in[3] + pads[1] + pads[3] - kx) / stride + 1});
  }

  TensorId convolution(TensorId x, bool depthwise, bool same = false) {
    const Shape in = m_.shape(x);
    const int64_t dilation = m_.pick(1, 2);
    const int64_t ky = same ? 3 : m_.pick(1, 3);
    const int64_t kx = same ? 3 : m_.pick(1, 3);
    const int64_t reach_y = (ky - 1) * dilation;
    const int64_t reach_x = (kx - 1) * dilation;
    std::vector<int64_t> pads{dilation, dilation, dilation, dilation};
    if (!same) {
      for (std::size_t i = 0; i < 4; ++i) pads[i] = m_.pick(0, 2);
      // Windows have to fit.
      pads[0] = std::max(pads[0], reach_y + 1 - in[2]);
      pads[1] = std::max(pads[1], reach_x + 1 - in[3]);
    }
    const int64_t stride = same || in[2] < 7 || in[3] < 7 ? 1 : m_.pick(1, 2);
    const int64_t outputs = same || depthwise ? in[1] : m_.pick(1, 12);
    const int64_t channels = depthwise ? 1 : in[1];
    const float bound = 1.0F / static_cast<float>(channels * ky * kx);
    std::vector<TensorId> operands{x, m_.constant({outputs, channels, ky, kx}, -2 * bound, 2 * bound)};
    if (m_.pick(0, 1) == 1) operands.push_back(m_.constant({outputs}));
    return m_.node("Conv", operands,
                   {{"strides", std::vector<int64_t>{stride, stride}},
                    {"pads", pads},
                    {"dilations", std::vector<int64_t>{dilation, dilation}},
                    {"group", depthwise ? in[1] : int64_t{1}}},
                   {in[0], outputs, (in[2] + pads[0] + pads[2] - reach_y - 1) / stride + 1,
                    (in[3] + pads[1] + pads[3] - reach_x - 1) / stride + 1});
  }

  /// With a map of the same size, if there is one.
  TensorId join(TensorId x) {
    const Shape a = m_.shape(x);
    for (std::size_t i = 1; i < maps_.size(); ++i) {
      const Shape b = m_.shape(maps_[i]);
      if (maps_[i] == x || a[2] != b[2] || a[3] != b[3] || a[1] + b[1] > 24) continue;
      return m_.node("Concat", {x, maps_[i]}, {{"axis", int64_t{1}}}, {a[0], a[1] + b[1], a[2], a[3]});
    }
    return m_.unary("abs", x);
  }

  GraphMaker &m_;
  std::vector<TensorId> maps_;
};

TensorId convolution(GraphMaker &m, TensorId x, int64_t outputs, int64_t kernel, int64_t pad) {
  const Shape in = m.shape(x);
  const float bound = 1.0F / static_cast<float>(in[1] * kernel * kernel);
  return m.node("Conv", {x, m.constant({outputs, in[1], kernel, kernel}, -2 * bound, 2 * bound), m.constant({outputs})},
                {{"strides", std::vector<int64_t>{1, 1}},
                 {"pads", std::vector<int64_t>(4, pad)},
                 {"dilations", std::vector<int64_t>{1, 1}},
                 {"group", int64_t{1}}},
                {in[0], outputs, in[2] + 2 * pad - kernel + 1, in[3] + 2 * pad - kernel + 1});
}

}  // namespace

TEST_CASE("random networks of windows") {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    INFO("seed " << seed);
    GraphMaker m(seed);
    MapNetwork(m).run(static_cast<int>(m.pick(3, 8)));
    check(m, 1e-4, 6e-2);
  }
}

TEST_CASE("residual blocks need no memory but for weights, input and output") {
  GraphMaker m(50);
  const TensorId x = m.input({1, 3, 20, 24});
  TensorId y = m.unary("relu", convolution(m, x, 40, 3, 1));
  for (int block = 0; block < 3; ++block) {
    const TensorId narrow = m.unary("relu", convolution(m, y, 20, 1, 0));
    const TensorId wide = convolution(m, m.unary("relu", convolution(m, narrow, 20, 3, 1)), 40, 1, 0);
    y = m.unary("relu", m.binary("add", wide, y));
  }
  m.output(m.node("Reduce", {y},
                  {{"kind", std::string("mean")}, {"axes", std::vector<int64_t>{2, 3}}, {"keepdims", int64_t{1}}},
                  {1, 40, 1, 1}));
  const CompileStatistics statistics = compiled(m.graph, card_target(), Precision::fp16);
  CHECK(statistics.workspace_bytes == 0);
  CHECK(statistics.workspace_bytes_no_reuse > 0);
  CHECK(statistics.scratchpad_bytes > 0);
  CHECK(statistics.scratchpad_bytes < statistics.workspace_bytes_no_reuse);
  CHECK(statistics.dma_store_bytes == 40 * 4);
  // Constants come once, biases in FP32; the padded input may be loaded with overlapping rows.
  CHECK(statistics.dma_load_bytes < 1.5 * static_cast<double>(statistics.minimum_bytes));
  check(m, 1e-4, 3e-2);
}

TEST_CASE("a map that windows want with different padding") {
  GraphMaker m(51);
  const TensorId x = m.input({2, 5, 9, 11});
  const TensorId map = m.unary("neg", convolution(m, x, 12, 3, 1));
  m.output(m.node("Pool", {map},
                  {{"kind", std::string("max")},
                   {"kernel", std::vector<int64_t>{3, 3}},
                   {"strides", std::vector<int64_t>{2, 2}},
                   {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                   {"dilations", std::vector<int64_t>{1, 1}},
                   {"count_include_pad", int64_t{1}}},
                  {2, 12, 5, 6}));
  m.output(convolution(m, map, 7, 3, 1));
  check(m, 1e-4, 3e-2);
}

TEST_CASE("tensors above the scratchpad stay in memory beside small ones") {
  GraphMaker m(52);
  const TensorId x = m.input({1, 2, 96, 100});
  const TensorId large = m.unary("relu", convolution(m, x, 24, 3, 1));
  const TensorId small = convolution(m, large, 3, 3, 1);
  m.output(convolution(m, m.unary("relu", small), 5, 3, 1));
  const CompileStatistics statistics = compiled(m.graph, tiny_target(), Precision::fp32);
  CHECK(statistics.workspace_bytes >= 24 * 96 * 100 * 4);
  CHECK(statistics.workspace_bytes < statistics.workspace_bytes_no_reuse);
  CHECK(statistics.scratchpad_bytes > 3 * 96 * 100 * 4);
  check(m, 1e-4, 3e-2);
}

TEST_CASE("drains scale, add biases and apply activations") {
  for (uint32_t seed = 60; seed < 70; ++seed) {
    INFO("seed " << seed);
    GraphMaker m(seed);
    const int64_t rows = m.pick(1, 30);
    const int64_t depth = m.pick(1, 40);
    const int64_t columns = m.pick(2, 50);
    const TensorId x = m.input({2, rows, depth});
    TensorId y = m.node("MatMul", {x, m.constant({depth, columns})}, {{"trans_b", int64_t{0}}}, {2, rows, columns});
    const int64_t order = m.pick(0, 2);
    if (order != 1) {
      y = m.pick(0, 1) == 1 ? m.binary("div", y, m.scalar(8)) : m.binary("mul", m.scalar(0.3F), y);
    }
    if (order != 0) {
      const TensorId bias = m.constant(m.pick(0, 1) == 1 ? Shape{columns} : Shape{1, 1, columns});
      y = m.pick(0, 1) == 1 ? m.binary("add", y, bias) : m.binary("add", bias, y);
    }
    if (m.pick(0, 1) == 1) y = m.unary("relu", y);
    m.output(y);
    CompileOptions options;
    options.precision = Precision::fp32;
    const Program program = compile(m.graph, card_target(), options);
    CHECK(std::none_of(program.debug.begin(), program.debug.end(),
                       [](const DebugEntry &entry) { return entry.engine == kVpu; }));
    check(m, 1e-4, 3e-2);
  }
}

TEST_CASE("what a drain cannot do stays on the vector unit") {
  GraphMaker m(70);
  const TensorId x = m.input({6, 10});
  const auto product = [&] { return m.node("MatMul", {x, m.constant({10, 7})}, {{"trans_b", int64_t{0}}}, {6, 7}); };
  m.output(m.binary("div", product(), m.scalar(3)));                                    // its reciprocal is not exact
  m.output(m.binary("div", m.scalar(4), product()));                                    // the wrong way round
  m.output(m.binary("add", product(), m.constant({6, 1})));                             // for each row
  m.output(m.binary("mul", m.binary("add", product(), m.constant({7})), m.scalar(2)));  // scale after bias
  const TensorId twice = product();
  m.output(m.binary("add", twice, m.constant({7})));
  m.output(m.unary("neg", twice));
  check(m, 1e-4, 3e-2);
}

TEST_CASE("attention moves nothing") {
  for (uint32_t seed = 80; seed < 84; ++seed) {
    INFO("seed " << seed);
    GraphMaker m(seed);
    const int64_t tokens = m.pick(3, 40), heads = m.pick(2, 5), depth = m.pick(2, 20), width = heads * depth;
    const auto linear = [&](TensorId in) {
      const float bound = 1.0F / static_cast<float>(width);
      const TensorId out = m.node("MatMul", {in, m.constant({width, width}, -2 * bound, 2 * bound)},
                                  {{"trans_b", int64_t{0}}}, {1, tokens, width});
      return m.binary("add", out, m.constant({width}));
    };
    const auto split = [&](TensorId in, const std::vector<int64_t> &perm) {
      const TensorId four = m.node("Reshape", {in}, {}, {1, tokens, heads, depth});
      const Shape shape{1, tokens, heads, depth};
      Shape result;
      for (int64_t d : perm) result.push_back(shape[static_cast<std::size_t>(d)]);
      return m.node("Transpose", {four}, {{"perm", perm}}, result);
    };
    const TensorId x = m.input({1, tokens, width});
    const TensorId q = split(linear(x), {0, 2, 1, 3}), k = split(linear(x), {0, 2, 3, 1}),
                   v = split(linear(x), {0, 2, 1, 3});
    TensorId scores = m.node("MatMul", {q, k}, {{"trans_b", int64_t{0}}}, {1, heads, tokens, tokens});
    scores = m.node("Softmax", {m.binary("mul", scores, m.scalar(0.25F))}, {{"axis", int64_t{3}}},
                    {1, heads, tokens, tokens});
    TensorId mixed = m.node("MatMul", {scores, v}, {{"trans_b", int64_t{0}}}, {1, heads, tokens, depth});
    mixed = m.node("Transpose", {mixed}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}}, {1, tokens, heads, depth});
    mixed = m.node("Reshape", {mixed}, {}, {1, tokens, width});
    m.output(linear(mixed));
    CompileOptions options;
    options.precision = Precision::fp16;
    const Program program = compile(m.graph, card_target(), options);
    CHECK(program.workspace_bytes == 0);
    // The input is loaded once for its three readers.
    const CompileStatistics statistics = compiled(m.graph, card_target(), Precision::fp16);
    CHECK(statistics.dma_load_bytes <= statistics.constant_bytes + static_cast<uint64_t>(tokens * width) * 4);
    // The last product before the softmax's result is needed runs while the softmax does.
    std::vector<std::string> products;
    for (const Node &node : m.graph.nodes) {
      if (node.op == "MatMul") products.push_back(node.name);
    }
    const auto place = [&](const std::string &name) {
      return std::find_if(program.debug.begin(), program.debug.end(),
                          [&](const DebugEntry &entry) { return entry.engine == kDmmu && entry.node == name; });
    };
    CHECK(place(products[3]) < place(products[2]));
    CHECK(place(products[0]) < place(products[3]));
    for (const Node &node : m.graph.nodes) {
      if (node.op != "Reshape" && node.op != "Transpose") continue;
      for (uint32_t engine = 0; engine < 4; ++engine) CHECK(instructions(program, engine, node.name) == 0);
    }
    check(m, 1e-4, 3e-2);
  }
}
