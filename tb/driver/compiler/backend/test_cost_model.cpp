// The cost model's cycles against those of the simulated chip.
#include <catch2/catch.hpp>
#include <cstddef>

#include "driver/include/cx/error.hpp"
#include "hw/regs/gen/isa.hpp"
#include "tb/driver/compiler/backend/bench.hpp"
#include "tb/driver/compiler/backend/timed_run.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

/// Error of an estimate: relative (latencies that a device does not tell of make the most of it), and what the launch's
/// first fetches may differ by.
constexpr double kError = CX_ESTIMATE_ERROR;
constexpr double kCycles = 60;

Graph matmul(const Shape &a, const Shape &b, bool activation) {
  GraphMaker maker(1);
  Shape result = a;
  result.back() = b.back();
  const TensorId x = maker.input(a);
  TensorId y = maker.node("MatMul", {x, maker.constant(b)}, {{"trans_b", int64_t{0}}}, result);
  if (activation) y = maker.unary("gelu", y);
  maker.output(y);
  return maker.graph;
}

Graph convolution(const Shape &x, int64_t outputs, int64_t kernel, int64_t stride, int64_t group) {
  GraphMaker maker(1);
  const int64_t pad = kernel / 2;
  const auto out = [&](int64_t size) { return (size + 2 * pad - kernel) / stride + 1; };
  const TensorId w = maker.constant({outputs, x[1] / group, kernel, kernel});
  const TensorId y = maker.node("Conv", {maker.input(x), w},
                                {{"strides", std::vector<int64_t>{stride, stride}},
                                 {"pads", std::vector<int64_t>{pad, pad, pad, pad}},
                                 {"dilations", std::vector<int64_t>{1, 1}},
                                 {"group", group}},
                                {x[0], outputs, out(x[2]), out(x[3])});
  maker.output(y);
  return maker.graph;
}

Graph softmax(const Shape &shape) {
  GraphMaker maker(1);
  maker.output(maker.node("Softmax", {maker.input(shape)}, {{"axis", static_cast<int64_t>(shape.size()) - 1}}, shape));
  return maker.graph;
}

Graph elementwise(const Shape &shape) {
  GraphMaker maker(1);
  const TensorId x = maker.input(shape);
  maker.output(maker.unary("tanh", maker.binary("mul", x, maker.input(shape))));
  return maker.graph;
}

struct Case {
  const char *name;
  Graph graph;
};

std::vector<Case> cases() {
  std::vector<Case> result;
  result.push_back({"product of 128 x 256 x 64", matmul({128, 256}, {256, 64}, false)});
  result.push_back({"product of 65 x 300 x 97", matmul({65, 300}, {300, 97}, false)});
  result.push_back({"product of 1 x 512 x 512", matmul({1, 512}, {512, 512}, false)});
  result.push_back({"product of 512 x 512 x 512", matmul({512, 512}, {512, 512}, false)});
  result.push_back({"product of 256 x 64 x 384 with GELU", matmul({256, 64}, {64, 384}, true)});
  result.push_back({"convolution of 32 maps of 28 x 28, 3 x 3", convolution({1, 32, 28, 28}, 64, 3, 1, 1)});
  result.push_back({"convolution of 3 maps of 64 x 64, 7 x 7", convolution({1, 3, 64, 64}, 32, 7, 2, 1)});
  result.push_back({"convolution of 128 maps of 14 x 14, 1 x 1", convolution({1, 128, 14, 14}, 128, 1, 1, 1)});
  result.push_back({"depthwise convolution of 48 maps of 24 x 24", convolution({1, 48, 24, 24}, 48, 3, 1, 48)});
  result.push_back({"softmax of 64 x 384", softmax({64, 384})});
  result.push_back({"two elementwise operations on 64 x 1000", elementwise({64, 1000})});
  result.push_back({"convolution of 64 maps of 7 x 7 of a batch of 6", convolution({6, 64, 7, 7}, 64, 3, 1, 1)});
  return result;
}

}  // namespace

TEST_CASE("estimates of single groups are near what the chip takes") {
  const auto device = Device::open(CX_CHIP);
  for (const Precision precision : {Precision::fp32, Precision::fp16}) {
    if (precision == Precision::fp32 && (device->target().formats >> static_cast<unsigned>(isa::DType::FP32) & 1U) == 0)
      continue;
    for (const Case &one : cases()) {
      CompileOptions options;
      options.precision = precision;
      CompileStatistics statistics;
      const tools::Profile profile = timed_run(*device, one.graph, options, statistics);
      INFO(name_of(precision) << ", " << one.name);
      const auto simulated = static_cast<double>(profile.work_cycles);
      REQUIRE(simulated > 0);
      CHECK(static_cast<double>(statistics.estimated_cycles) == Approx(simulated).epsilon(kError).margin(kCycles));
    }
  }
}

TEST_CASE("groups of a program are estimated each, and add up") {
  GraphMaker maker(2);
  const TensorId x = maker.input({256, 128});
  TensorId y = x;
  for (int layer = 0; layer < 3; ++layer) {
    y = maker.node("MatMul", {y, maker.constant({128, 128})}, {{"trans_b", int64_t{0}}}, {256, 128});
    y = maker.node("Softmax", {y}, {{"axis", int64_t{1}}}, {256, 128});
  }
  maker.output(y);
  const auto device = Device::open(CX_CHIP);
  CompileOptions options;
  options.precision = Precision::fp16;
  CompileStatistics statistics;
  const tools::Profile profile = timed_run(*device, maker.graph, options, statistics);
  uint64_t sum = 0;
  REQUIRE(profile.groups.size() == 6);
  for (const tools::GroupProfile &group : profile.groups) {
    INFO(group.group.name);
    sum += group.group.estimated_cycles;
    CHECK(static_cast<double>(group.group.estimated_cycles) ==
          Approx(static_cast<double>(group.cycles)).epsilon(kError).margin(kCycles));
  }
  CHECK(sum == statistics.estimated_cycles);
}

TEST_CASE("no other tiling is faster on the chip than the one that is taken by more than a few per cent") {
  constexpr double kBeaten = 0.04;
  const auto device = Device::open(CX_CHIP);
  std::size_t alternatives = 0;
  for (const Case &one : cases()) {
    CompileOptions options;
    options.precision = Precision::fp16;
    CompileStatistics statistics;
    const auto cycles = [&] {
      return static_cast<double>(timed_run(*device, one.graph, options, statistics).work_cycles);
    };
    const double taken = cycles();
    const compiler::GroupStatistics group = statistics.details.front();
    for (std::size_t number = 0; number < group.alternatives; ++number) {
      options.tilings[group.name] = number;
      INFO(one.name << ", alternative " << number);
      CHECK(taken <= cycles() * (1 + kBeaten) + kCycles);
      ++alternatives;
    }
  }
  CHECK(alternatives > 2 * cases().size());
}

TEST_CASE("all tilings give the same bits") {
  const auto device = Device::open(CX_CHIP);
  for (const Case &one : cases()) {
    CompileOptions options;
    options.precision = Precision::fp16;
    CompileStatistics statistics;
    const auto outputs = [&] {
      std::vector<HostTensor> result;
      timed_run(*device, one.graph, options, statistics, &result);
      return result.front().bytes;
    };
    options.search_tilings = false;
    const std::vector<std::byte> by_rule = outputs();
    CHECK(statistics.details.front().alternatives == 0);
    options.search_tilings = true;
    CHECK(outputs() == by_rule);
    const compiler::GroupStatistics group = statistics.details.front();
    for (std::size_t number = 0; number < group.alternatives; ++number) {
      options.tilings[group.name] = number;
      INFO(one.name << ", alternative " << number);
      CHECK(outputs() == by_rule);
    }
  }
}

TEST_CASE("an alternative that is not there is refused") {
  CompileOptions options;
  const Graph graph = matmul({128, 256}, {256, 64}, false);
  CompileStatistics statistics;
  compile(graph, tiny_target(), options, &statistics);
  REQUIRE(statistics.details.front().alternatives > 0);
  options.tilings[statistics.details.front().name] = statistics.details.front().alternatives;
  CHECK_THROWS_AS(compile(graph, tiny_target(), options), InputError);
}

TEST_CASE("estimates of sparse products are near what the chip takes") {
  const auto device = Device::open(CX_CHIP);
  if (device->target().sca_tiles == 0) return;
  struct Size {
    int64_t m, k, n;
    double zeros;
  };
  for (const Size &size : {Size{128, 256, 64, 0.5}, Size{65, 300, 97, 0.9}, Size{512, 256, 256, 0.7},
                           Size{1024, 128, 512, 0.2}, Size{16, 256, 1024, 0.8}}) {
    GraphMaker maker(4);
    const TensorId b = maker.constant({size.k, size.n});
    std::vector<std::byte> &bytes = maker.graph[b].data.own();
    std::bernoulli_distribution gone(size.zeros);
    for (std::size_t at = 0; at < bytes.size(); at += 4) {
      if (gone(maker.random())) std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), 4, std::byte{});
    }
    maker.output(maker.node("MatMul", {maker.input({size.m, size.k}), b}, {{"trans_b", int64_t{0}}}, {size.m, size.n}));
    CompileOptions options;
    options.precision = Precision::fp16;
    options.sca.use = ScaUse::always;
    CompileStatistics statistics;
    const tools::Profile profile = timed_run(*device, maker.graph, options, statistics);
    INFO(size.m << " x " << size.k << " x " << size.n << ", zeros " << size.zeros);
    REQUIRE(statistics.sparse_products == 1);
    CHECK(static_cast<double>(statistics.estimated_cycles) ==
          Approx(static_cast<double>(profile.work_cycles)).epsilon(kError).margin(kCycles));
  }
}

TEST_CASE("a graph without instructions takes no time") {
  GraphMaker maker(3);
  const TensorId x = maker.input({4, 0});
  maker.output(maker.unary("tanh", x));
  CompileStatistics statistics;
  compile(maker.graph, tiny_target(), {}, &statistics);
  CHECK(statistics.estimated_cycles == 0);
}
