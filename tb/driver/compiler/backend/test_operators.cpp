// Every operator over random shapes, attributes, targets and precisions: compiled, simulated, compared.
#include <catch2/catch.hpp>

#include "driver/compiler/observer.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/backend/bench.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

void check(GraphMaker &maker, double tolerance_fp32 = 2e-5, double tolerance_fp16 = 1e-2) {
  const auto inputs = random_inputs(maker.graph, maker.random());
  verify(maker.graph);
  const auto expected = evaluate_graph(maker.graph, inputs);
  INFO(to_text(maker.graph));
  for (const Target &target : {tiny_target(), card_target()}) {
    for (Precision precision : {Precision::fp32, Precision::fp16, Precision::bf16}) {
      INFO("tiles " << target.tiles << " precision " << name_of(precision));
      const Comparison result = compare(maker.graph, target, precision, inputs, expected);
      CHECK(result.same_for_all_orders);
      const double tolerance = precision == Precision::fp32   ? tolerance_fp32
                               : precision == Precision::fp16 ? tolerance_fp16
                                                              : 8 * tolerance_fp16;
      CHECK(result.worst < tolerance);
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

struct ConvOptions {
  int64_t channels, outputs, group, kernel_y, kernel_x, stride, dilation;
};

TensorId add_conv(GraphMaker &maker, TensorId x, const ConvOptions &o, const std::vector<int64_t> &pads, bool bias) {
  const Shape in = maker.shape(x);
  const float bound = 1.0F / static_cast<float>(o.channels / o.group * o.kernel_y * o.kernel_x);
  const TensorId w = maker.constant({o.outputs, o.channels / o.group, o.kernel_y, o.kernel_x}, -2 * bound, 2 * bound);
  std::vector<TensorId> operands{x, w};
  if (bias) operands.push_back(maker.constant({o.outputs}));
  const int64_t height = (in[2] + pads[0] + pads[2] - (o.kernel_y - 1) * o.dilation - 1) / o.stride + 1;
  const int64_t width = (in[3] + pads[1] + pads[3] - (o.kernel_x - 1) * o.dilation - 1) / o.stride + 1;
  return maker.node("Conv", operands,
                    {{"strides", std::vector<int64_t>{o.stride, o.stride}},
                     {"pads", pads},
                     {"dilations", std::vector<int64_t>{o.dilation, o.dilation}},
                     {"group", o.group}},
                    {in[0], o.outputs, height, width});
}

Shape random_shape(GraphMaker &maker, int64_t rank, int64_t most) {
  Shape shape;
  for (int64_t d = 0; d < rank; ++d) shape.push_back(maker.pick(1, most));
  return shape;
}

/// What the compiler says about the tiles of its groups.
class TilingText : public StepObserver {
 public:
  void step(const std::string &name, const std::string &lines) override {
    if (name == "tiling") text = lines;
  }
  std::string text;
};

}  // namespace

TEST_CASE("convolution") {
  repeat(100, 25, [](GraphMaker &m) {
    ConvOptions o{m.pick(1, 20), m.pick(1, 40), 1, m.pick(1, 4), m.pick(1, 4), m.pick(1, 3), m.pick(1, 2)};
    const TensorId x = m.input({m.pick(1, 2), o.channels, m.pick(8, 20), m.pick(8, 20)});
    TensorId y = add_conv(m, x, o, {m.pick(0, 2), m.pick(0, 2), m.pick(0, 2), m.pick(0, 2)}, m.pick(0, 1) == 1);
    if (m.pick(0, 1) == 1) y = m.unary("relu", y);
    m.output(y);
    check(m);
  });
}

TEST_CASE("small maps of a batch share passes") {
  repeat(150, 25, [](GraphMaker &m) {
    const int64_t group = m.pick(0, 3) == 0 ? m.pick(2, 4) : 1;
    ConvOptions o{group * m.pick(1, 12), group * m.pick(1, 12), group,       m.pick(1, 3),
                  m.pick(1, 3),          m.pick(1, 2),          m.pick(1, 2)};
    const TensorId x = m.input({m.pick(3, 17), o.channels, m.pick(5, 9), m.pick(5, 9)});
    TensorId y = add_conv(m, x, o, {m.pick(0, 2), m.pick(0, 2), m.pick(0, 2), m.pick(0, 2)}, m.pick(0, 1) == 1);
    if (m.pick(0, 1) == 1) y = m.unary("relu", y);
    // Maps that stay in the scratchpad, and one that is added to others.
    const TensorId z = m.unary("hard_swish", add_conv(m, y, {o.outputs, o.outputs, 1, 3, 3, 1, 1}, {1, 1, 1, 1}, true));
    m.output(m.binary("add", add_conv(m, z, {o.outputs, o.outputs, 1, 1, 1, 1, 1}, {0, 0, 0, 0}, false), y));
    if (m.pick(0, 1) == 1) m.output(z);
    check(m);
  });
}

namespace {

/// Of the card with memory and vector unit that do not keep the array waiting.
template <typename Body>
double estimated_cycles(Body body) {
  GraphMaker m(7);
  body(m);
  Target target = card_target();
  target.dram_mbps = target.dram_stream_mbps = 1'200'000;
  target.vpu_lanes = 512;
  target.spm_bytes_per_cycle = 1024;
  CompileStatistics statistics;
  CompileOptions options;
  options.precision = Precision::fp16;
  compile(m.graph, target, options, &statistics);
  return static_cast<double>(statistics.estimated_cycles);
}

}  // namespace

TEST_CASE("a batch of small maps takes less time than its maps one by one") {
  const auto cycles = [](int64_t maps) {
    return estimated_cycles([maps](GraphMaker &m) {
      m.output(add_conv(m, m.input({maps, 256, 7, 7}), {256, 256, 1, 3, 3, 1, 1}, {1, 1, 1, 1}, true));
    });
  };
  // Rows of one map are not enough for the array: their passes take as long as those of several.
  CHECK(cycles(8) < 5 * cycles(1));
}

TEST_CASE("a batch of rows whose passes leave little room for them takes no longer than its parts one by one") {
  const auto cycles = [](int64_t batch) {
    return estimated_cycles([batch](GraphMaker &m) {
      const TensorId x = m.input({batch, 128, 768});
      TensorId y = x;
      for (int block = 0; block < 2; ++block) {
        const auto product = [&](TensorId in, int64_t from, int64_t to) {
          return m.node("MatMul", {in, m.constant({from, to}), m.constant({to})}, {{"trans_b", int64_t{0}}},
                        {batch, 128, to});
        };
        y = m.binary("add", product(m.unary("gelu", product(y, 768, 3072)), 3072, 768), y);
      }
      m.output(y);
    });
  };
  CHECK(cycles(8) < 8.5 * cycles(1));
}

TEST_CASE("grouped and depthwise convolution") {
  repeat(200, 20, [](GraphMaker &m) {
    const int64_t group = m.pick(2, 9);
    const bool depthwise = m.pick(0, 1) == 1;
    const int64_t channels = depthwise ? group : group * m.pick(1, 3);
    ConvOptions o{
        channels,    depthwise ? group : group * m.pick(1, 3), group, m.pick(1, 5), m.pick(1, 3), m.pick(1, 2),
        m.pick(1, 2)};
    const TensorId x = m.input({m.pick(1, 2), o.channels, m.pick(10, 20), m.pick(10, 20)});
    TensorId y = add_conv(m, x, o, {m.pick(0, 2), m.pick(0, 2), m.pick(0, 2), m.pick(0, 2)}, m.pick(0, 1) == 1);
    if (m.pick(0, 1) == 1) y = m.unary("clamp", y, -0.1F, 0.3F);
    m.output(y);
    check(m);
  });
}

TEST_CASE("convolution chains keep channels last and pass through element-wise tails") {
  repeat(300, 10, [](GraphMaker &m) {
    const TensorId x = m.input({1, 3, 24, 32});
    TensorId y = m.unary("hard_swish", add_conv(m, x, {3, 16, 1, 3, 3, 2, 1}, {1, 1, 1, 1}, true));
    TensorId z = m.unary("relu", add_conv(m, y, {16, 16, 16, 3, 3, 1, 1}, {1, 1, 1, 1}, true));
    const TensorId mean = m.node(
        "Reduce", {z}, {{"kind", std::string("mean")}, {"axes", std::vector<int64_t>{2, 3}}, {"keepdims", int64_t{1}}},
        {1, 16, 1, 1});
    const TensorId gate =
        m.unary("hard_sigmoid", add_conv(m, mean, {16, 16, 1, 1, 1, 1, 1}, {0, 0, 0, 0}, true), 0.2F, 0.5F);
    z = m.binary("mul", z, gate);
    const TensorId residual = m.binary("add", add_conv(m, z, {16, 16, 1, 1, 1, 1, 1}, {0, 0, 0, 0}, true), y);
    const TensorId joined = m.node("Concat", {residual, z, y}, {{"axis", int64_t{1}}}, {1, 48, 12, 16});
    m.output(add_conv(m, joined, {48, 10, 1, 3, 3, 1, 1}, {1, 1, 1, 1}, false));
    m.output(m.unary("sigmoid", joined));
    check(m);
  });
}

TEST_CASE("large convolutions on a small scratchpad") {
  GraphMaker m(5);
  const TensorId x = m.input({1, 130, 12, 21});
  m.output(m.unary("relu", add_conv(m, x, {130, 200, 1, 3, 3, 1, 1}, {1, 1, 1, 1}, true)));
  check(m);
}

namespace {

void check_large(GraphMaker &m, double tolerance) {
  const auto inputs = random_inputs(m.graph, m.random());
  const auto expected = evaluate_graph(m.graph, inputs);
  for (const bool output_stationary : {false, true}) {
    for (const Precision precision : {Precision::fp32, Precision::fp16}) {
      Target target = tiny_target();
      target.output_stationary = output_stationary;
      INFO("output stationary " << output_stationary << " precision " << name_of(precision));
      const Comparison result = compare(m.graph, target, precision, inputs, expected);
      CHECK(result.same_for_all_orders);
      CHECK(result.worst < (precision == Precision::fp32 ? tolerance : 3e-2));
    }
  }
}

}  // namespace

TEST_CASE("products whose K does not fit the scratchpad") {
  for (const int64_t transposed : {0, 1}) {
    GraphMaker m(50 + static_cast<uint32_t>(transposed));
    const Shape weights = transposed != 0 ? Shape{20, 40000} : Shape{40000, 20};
    const TensorId x = m.input({2, 3, 40000});
    const TensorId w = m.constant(weights, -0.01F, 0.01F);
    const TensorId y = m.node("MatMul", {x, w, m.constant({20})}, {{"trans_b", transposed}}, {2, 3, 20});
    m.output(m.unary("relu", y));
    check_large(m, 1e-3);
  }
}

TEST_CASE("convolutions whose channels do not fit the scratchpad") {
  GraphMaker m(60);
  const TensorId x = m.input({1, 3000, 4, 5});
  m.output(m.unary("relu", add_conv(m, x, {3000, 20, 1, 3, 3, 1, 1}, {1, 1, 1, 1}, true)));
  check_large(m, 1e-3);
}

TEST_CASE("groups of a convolution that do not fit the scratchpad together") {
  GraphMaker m(70);
  const TensorId x = m.input({1, 384, 5, 6});
  m.output(m.unary("relu", add_conv(m, x, {384, 768, 6, 3, 3, 1, 1}, {1, 1, 1, 1}, true)));
  check_large(m, 1e-3);
}

TEST_CASE("rows of softmax that do not fit the scratchpad") {
  GraphMaker m(80);
  const TensorId x = m.input({2, 90000});
  m.output(m.binary("mul", m.node("Softmax", {x}, {{"axis", int64_t{1}}}, {2, 90000}), m.scalar(90000)));
  check_large(m, 1e-3);
}

TEST_CASE("pooling") {
  repeat(400, 20, [](GraphMaker &m) {
    const char *kinds[] = {"max", "avg", "sum"};
    const int64_t ky = m.pick(1, 4);
    const int64_t kx = m.pick(1, 4);
    const int64_t stride = m.pick(1, 3);
    const std::vector<int64_t> pads{m.pick(0, ky / 2), m.pick(0, kx / 2), m.pick(0, ky / 2), m.pick(0, kx / 2)};
    const Shape in{m.pick(1, 2), m.pick(1, 20), m.pick(6, 20), m.pick(6, 20)};
    const Shape out{in[0], in[1], (in[2] + pads[0] + pads[2] - ky) / stride + 1,
                    (in[3] + pads[1] + pads[3] - kx) / stride + 1};
    const TensorId x = m.input(in);
    m.output(m.node("Pool", {x},
                    {{"kind", std::string(kinds[m.pick(0, 2)])},
                     {"kernel", std::vector<int64_t>{ky, kx}},
                     {"strides", std::vector<int64_t>{stride, stride}},
                     {"pads", pads},
                     {"dilations", std::vector<int64_t>{1, 1}},
                     {"count_include_pad", int64_t{1}}},
                    out));
    check(m);
  });
}

TEST_CASE("windows larger than the scratchpad load only what the kernel meets") {
  GraphMaker m(6);
  const TensorId x = m.input({1, 2, 700, 700});
  m.output(m.node("Pool", {x},
                  {{"kind", std::string("max")},
                   {"kernel", std::vector<int64_t>{5, 4}},
                   {"strides", std::vector<int64_t>{30, 40}},
                   {"pads", std::vector<int64_t>{150, 130, 160, 100}},
                   {"dilations", std::vector<int64_t>{150, 170}},
                   {"count_include_pad", int64_t{1}}},
                  {1, 2, (700 + 310 - 4 * 150 - 1) / 30 + 1, (700 + 230 - 3 * 170 - 1) / 40 + 1}));
  m.output(add_conv(m, x, {2, 3, 1, 3, 3, 1, 349}, {0, 0, 0, 0}, true));
  check(m);
}

TEST_CASE("matrix product") {
  repeat(500, 40, [](GraphMaker &m) {
    const int64_t rank = m.pick(2, 4);
    Shape a = random_shape(m, rank - 2, 3);
    Shape b = a;
    Shape out = a;
    for (std::size_t d = 0; d < a.size(); ++d) {
      const int64_t which = m.pick(0, 3);
      if (which == 0) a[d] = 1;
      if (which == 1) b[d] = 1;
    }
    if (m.pick(0, 1) == 1) b.clear();
    for (std::size_t d = 0; d < out.size(); ++d) out[d] = std::max(a[d], b.empty() ? 1 : b[d]);
    const int64_t rows = m.pick(1, 40);
    const int64_t depth = m.pick(1, 50);
    const int64_t columns = m.pick(1, 70);
    const bool transposed = m.pick(0, 1) == 1;
    a.insert(a.end(), {rows, depth});
    if (transposed) {
      b.insert(b.end(), {columns, depth});
    } else {
      b.insert(b.end(), {depth, columns});
    }
    out.insert(out.end(), {rows, columns});
    const int64_t constant = m.pick(0, 2);
    std::vector<TensorId> operands{constant == 1 ? m.constant(a) : m.input(a),
                                   constant == 2 ? m.constant(b) : m.input(b)};
    if (m.pick(0, 1) == 1) operands.push_back(m.constant({columns}));
    TensorId y = m.node("MatMul", operands, {{"trans_b", int64_t{transposed}}}, out);
    if (m.pick(0, 1) == 1) y = m.unary("relu", y);
    m.output(y);
    check(m, 1e-4, 3e-2);
  });
}

TEST_CASE("reduction") {
  repeat(600, 30, [](GraphMaker &m) {
    const char *kinds[] = {"sum", "mean", "max", "min", "sumsq", "abssum"};
    const Shape in = random_shape(m, m.pick(1, 5), 9);
    Shape out = in;
    std::vector<int64_t> axes;
    for (std::size_t d = 0; d < in.size(); ++d) {
      if (m.pick(0, 1) == 0) continue;
      axes.push_back(static_cast<int64_t>(d));
      out[d] = 1;
    }
    if (axes.empty()) {
      axes.push_back(0);
      out[0] = 1;
    }
    const TensorId x = m.input(in);
    m.output(m.node("Reduce", {x},
                    {{"kind", std::string(kinds[m.pick(0, 5)])}, {"axes", axes}, {"keepdims", int64_t{1}}}, out));
    check(m, 1e-4, 3e-2);
  });
}

TEST_CASE("reductions that keep the innermost dimensions go by in pieces of whole runs") {
  struct Case {
    Shape in;
    std::vector<int64_t> axes;
    const char *kind;
  };
  const Case cases[] = {
      {{3000, 50}, {0}, "sum"},          {{3000, 50}, {0}, "max"},         {{40, 90, 40}, {0, 1}, "mean"},
      {{2, 1700, 3, 20}, {1}, "abssum"}, {{60, 3, 70, 24}, {0, 2}, "min"}, {{1100, 600}, {0}, "sumsq"},
  };
  uint32_t seed = 650;
  for (const Case &c : cases) {
    INFO("seed " << seed << " kind " << c.kind << " of " << to_text(c.in));
    GraphMaker m(seed++);
    Shape out = c.in;
    for (int64_t axis : c.axes) out[static_cast<std::size_t>(axis)] = 1;
    const TensorId x = m.input(c.in);
    m.output(m.node("Reduce", {x}, {{"kind", std::string(c.kind)}, {"axes", c.axes}, {"keepdims", int64_t{1}}}, out));
    check(m, 1e-4, 3e-2);
  }
}

TEST_CASE("the mean of each channel of a large map reads whole pixels") {
  GraphMaker m(690);
  const TensorId x = m.input({1, 6, 72, 60});
  const TensorId y = add_conv(m, x, {6, 48, 1, 1, 1, 1, 1}, {0, 0, 0, 0}, true);
  const TensorId mean = m.node(
      "Reduce", {y}, {{"kind", std::string("mean")}, {"axes", std::vector<int64_t>{2, 3}}, {"keepdims", int64_t{1}}},
      {1, 48, 1, 1});
  m.output(m.binary("mul", y, mean));
  check(m, 1e-4, 3e-2);
  TilingText tilings;
  CompileOptions options;
  options.precision = Precision::fp16;
  options.observer = &tilings;
  for (const Target &target : {tiny_target(), card_target()}) {
    tilings.text.clear();
    compile(m.graph, target, options);
    INFO(tilings.text);
    const std::string shape = to_text(Shape{1, 48, 1, 1});
    CHECK(tilings.text.find(": " + shape + " in tiles of " + shape + ", 1 in a pass") != std::string::npos);
  }
}

TEST_CASE("softmax") {
  repeat(700, 15, [](GraphMaker &m) {
    const Shape in = random_shape(m, m.pick(1, 5), 12);
    const TensorId x = m.input(in);
    m.output(m.node("Softmax", {x}, {{"axis", m.pick(0, static_cast<int64_t>(in.size()) - 1)}}, in));
    check(m);
  });
}

TEST_CASE("element-wise graphs") {
  repeat(800, 40, [](GraphMaker &m) {
    const Shape shape = random_shape(m, m.pick(1, 5), 11);
    std::vector<TensorId> values{m.input(shape), m.input(shape)};
    const char *unaries[] = {"relu", "sigmoid", "tanh", "neg", "abs", "hard_swish", "silu"};
    const char *binaries[] = {"add", "sub", "mul", "max", "min"};
    for (int64_t n = m.pick(1, 12); n > 0; --n) {
      const TensorId a = values[static_cast<std::size_t>(m.pick(0, static_cast<int64_t>(values.size()) - 1))];
      const int64_t kind = m.pick(0, 4);
      if (kind == 0) {
        values.push_back(m.unary(unaries[m.pick(0, 6)], a));
      } else if (kind == 1) {
        const TensorId s = m.scalar(0.75F);
        values.push_back(m.pick(0, 1) == 1 ? m.binary(binaries[m.pick(0, 4)], a, s)
                                           : m.binary(binaries[m.pick(0, 4)], s, a));
      } else if (kind == 2) {
        Shape part = shape;
        for (int64_t &size : part) size = m.pick(0, 1) == 1 ? 1 : size;
        if (part.size() > 1 && part[0] == 1 && m.pick(0, 1) == 1) part.erase(part.begin());
        const TensorId c = m.pick(0, 1) == 1 ? m.constant(part) : m.input(part);
        const char *func = binaries[m.pick(0, 4)];
        values.push_back(m.pick(0, 1) == 1 ? m.binary(func, a, c) : m.binary(func, c, a));
      } else {
        const TensorId b = values[static_cast<std::size_t>(m.pick(0, static_cast<int64_t>(values.size()) - 1))];
        values.push_back(m.binary(binaries[m.pick(0, 4)], a, b));
      }
    }
    m.output(values.back());
    if (values.size() > 4 && !m.graph.is_output(values[values.size() - 2])) m.output(values[values.size() - 2]);
    check(m, 1e-4, 5e-2);
  });
}

TEST_CASE("large element-wise tensors are tiled") {
  GraphMaker m(7);
  const TensorId x = m.input({3, 70000});
  const TensorId y = m.input({70000});
  m.output(m.binary("add", m.unary("sigmoid", x), y));
  check(m);
}

namespace {

/// A random node that only moves elements.
TensorId random_move(GraphMaker &m, TensorId x) {
  const Shape in = m.shape(x);
  const Type type = m.graph[x].type;
  const auto rank = static_cast<int64_t>(in.size());
  switch (m.pick(0, 5)) {
    case 0: {
      std::vector<int64_t> perm(in.size());
      for (std::size_t d = 0; d < in.size(); ++d) perm[d] = static_cast<int64_t>(d);
      std::shuffle(perm.begin(), perm.end(), m.random());
      Shape out;
      for (int64_t d : perm) out.push_back(in[static_cast<std::size_t>(d)]);
      return m.node("Transpose", {x}, {{"perm", perm}}, out, type);
    }
    case 1: {
      Shape out{elements(in)};
      for (int64_t f : {2, 3, 5}) {
        if (out[0] % f == 0 && m.pick(0, 1) == 1) {
          out[0] /= f;
          out.push_back(f);
        }
      }
      return m.node("Reshape", {x}, {}, out, type);
    }
    case 2: {
      std::vector<int64_t> starts;
      std::vector<int64_t> steps;
      Shape out;
      for (int64_t size : in) {
        const int64_t count = m.pick(1, size);
        const int64_t step = count > 1 ? m.pick(1, (size - 1) / (count - 1)) : 1;
        const int64_t start = m.pick(0, size - 1 - (count - 1) * step);
        const bool back = m.pick(0, 3) == 0;
        starts.push_back(back ? start + (count - 1) * step : start);
        steps.push_back(back ? -step : step);
        out.push_back(count);
      }
      return m.node("Slice", {x}, {{"starts", starts}, {"steps", steps}}, out, type);
    }
    case 3: {
      const int64_t axis = m.pick(0, rank - 1);
      std::vector<int64_t> indices;
      for (int64_t n = m.pick(1, 6); n > 0; --n) indices.push_back(m.pick(0, in[static_cast<std::size_t>(axis)] - 1));
      Shape out = in;
      out[static_cast<std::size_t>(axis)] = static_cast<int64_t>(indices.size());
      return m.node("Gather", {x}, {{"indices", indices}, {"axis", axis}}, out, type);
    }
    case 4: {
      std::vector<int64_t> pads(2 * in.size());
      Shape out = in;
      for (std::size_t d = 0; d < in.size(); ++d) {
        pads[d] = m.pick(0, 2);
        pads[d + in.size()] = m.pick(0, 2);
        out[d] += pads[d] + pads[d + in.size()];
      }
      return m.node("Pad", {x}, {{"pads", pads}, {"value", type == Type::F32 ? 0.5F : 0.0F}}, out, type);
    }
    default: {
      const int64_t axis = m.pick(0, rank - 1);
      Shape out = in;
      out[static_cast<std::size_t>(axis)] *= 2;
      return m.node("Concat", {x, x}, {{"axis", axis}}, out, type);
    }
  }
}

}  // namespace

TEST_CASE("moves of every element type") {
  repeat(900, 60, [](GraphMaker &m) {
    const Type types[] = {Type::F32, Type::I64, Type::U8, Type::I32, Type::F64};
    const Type type = types[m.pick(0, 4)];
    const TensorId x = m.input(random_shape(m, m.pick(1, 4), 8), type);
    TensorId y = x;
    std::vector<TensorId> seen;
    for (int64_t n = m.pick(1, 5); n > 0; --n) {
      if (elements(m.shape(y)) > 20000) break;
      y = random_move(m, y);
      seen.push_back(y);
    }
    m.output(y);
    if (seen.size() > 1 && m.pick(0, 1) == 1) m.output(seen[seen.size() / 2 - 1]);
    check(m, 1e-6, 1e-2);
  });
}

TEST_CASE("moves between operators") {
  repeat(1000, 30, [](GraphMaker &m) {
    TensorId y = m.input({1, 6, 10, 10});
    y = m.unary("relu", add_conv(m, y, {6, 8, 1, 3, 3, 1, 1}, {1, 1, 1, 1}, true));
    for (int64_t n = m.pick(1, 4); n > 0; --n) {
      if (elements(m.shape(y)) > 20000) break;
      y = random_move(m, y);
      if (m.pick(0, 1) == 1) y = m.unary("tanh", y);
    }
    if (m.pick(0, 1) == 1) y = m.node("Softmax", {y}, {{"axis", int64_t{0}}}, m.shape(y));
    m.output(y);
    check(m);
  });
}

TEST_CASE("a constant as an output, and an input as an output") {
  GraphMaker m(3);
  const TensorId c = m.constant({2, 3});
  const TensorId x = m.input({4});
  m.output(m.node("Copy", {c}, {}, {2, 3}));
  m.output(m.node("Copy", {x}, {}, {4}));
  check(m);
}

TEST_CASE("a model without elements still makes an image") {
  GraphMaker m(8);
  m.graph.inputs.push_back(m.graph.add({"x", Type::F32, {0, 3}, std::nullopt}));
  m.output(m.unary("relu", m.graph.inputs[0]));
  check(m);
}

TEST_CASE("what the device lacks for a type is refused") {
  GraphMaker m(9);
  m.output(m.unary("exp", m.input({4}, Type::I64)));
  CHECK_THROWS_AS(compile(m.graph, tiny_target()), UnsupportedError);
  GraphMaker p(10);
  const TensorId x = p.input({4, 4}, Type::I32);
  p.output(p.node("MatMul", {x, x}, {{"trans_b", int64_t{0}}}, {4, 4}, Type::I32));
  CHECK_THROWS_WITH(compile(p.graph, tiny_target()), Catch::Contains("MatMul0") && Catch::Contains("int32"));
}

TEST_CASE("a layer that cannot fit names the node and both sizes") {
  GraphMaker m(4);
  const TensorId x = m.input({1, 65000}, Type::I64);
  m.output(m.node("TopK", {x}, {{"axis", int64_t{1}}, {"k", int64_t{60000}}, {"largest", int64_t{1}}}, {1, 60000},
                  Type::I64));
  CHECK_THROWS_WITH(compile(m.graph, tiny_target()), Catch::Contains("TopK0") && Catch::Contains("524288"));
  Target target = tiny_target();
  target.formats = 1;
  CompileOptions options;
  options.precision = Precision::fp16;
  CHECK_THROWS_AS(compile(m.graph, target, options), InputError);
}
