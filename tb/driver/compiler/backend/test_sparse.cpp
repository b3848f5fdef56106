// Products on the sparse unit: the same bits as dense ones of the same order, and the choice between the two.
#include <catch2/catch.hpp>
#include <cstring>
#include <sstream>

#include "driver/compiler/backend/operation.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "tb/common/seed.hpp"
#include "tb/driver/compiler/backend/bench.hpp"
#include "tb/driver/compiler/program_sim.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;
using Catch::Contains;

namespace {

/// With sparse tiles of as many multipliers as the dense ones, which keep sums in the array.
Target with_sca(Target target) {
  target.output_stationary = true;
  target.sca_tiles = target.tiles;
  target.sca_rows = target.tile_rows;
  target.sca_cols = target.tile_cols;
  target.sca_acc_rows = 32;
  target.sca_depth = 256;
  target.sca_window = 32;
  target.sca_queue = 4;
  return target;
}

std::vector<float> floats_of(const Tensor &tensor) {
  std::vector<float> values(tensor.data->size() / sizeof(float));
  std::memcpy(values.data(), tensor.data->data(), tensor.data->size());
  return values;
}

/// Zeroes elements of a constant of the graph: those for which `gone(index)`.
template <typename F>
void prune(GraphMaker &maker, TensorId id, F gone) {
  Tensor &tensor = maker.graph[id];
  std::vector<float> values = floats_of(tensor);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (gone(i)) values[i] = 0;
  }
  std::memcpy(tensor.data.own().data(), values.data(), tensor.data->size());
}

void prune_at_random(GraphMaker &maker, TensorId id, double sparsity) {
  std::bernoulli_distribution gone(sparsity);
  prune(maker, id, [&](std::size_t) { return gone(maker.random()); });
}

TensorId matmul(GraphMaker &maker, TensorId a, TensorId b, std::vector<TensorId> more = {}, bool transposed = false) {
  Shape shape = maker.shape(a);
  const Shape weights = maker.shape(b);
  shape.back() = transposed ? weights[weights.size() - 2] : weights.back();
  std::vector<TensorId> inputs{a, b};
  inputs.insert(inputs.end(), more.begin(), more.end());
  return maker.node("MatMul", inputs, {{"trans_b", Attribute{int64_t{transposed ? 1 : 0}}}}, shape);
}

struct Case {
  Program program;
  CompileStatistics statistics;
};

Case compiled(const Graph &graph, const Target &target, CompileOptions options, ScaUse use) {
  options.sca.use = use;
  Case result;
  result.program = compile(graph, target, options, &result.statistics);
  return result;
}

bool uses_sca(const Program &program) { return disassemble(program).find("SP_MUL") != std::string::npos; }

/// Compiles the graph for both units, requires equal bits and a small distance to the evaluator, under several orders
/// of the engines. Returns what the compiler says of the sparse program.
CompileStatistics require_same(const GraphMaker &maker, const Target &target, CompileOptions options, double tolerance,
                               bool same_bits = true) {
  std::mt19937 random(7);
  const auto inputs = random_inputs(maker.graph, random);
  const std::vector<Tensor> expected = evaluate_graph(maker.graph, inputs);
  if (needs_ranges(options.precision)) options.ranges = ranges_of(maker.graph, expected);
  options.sca.use = ScaUse::always;
  const Comparison sparse = compare(maker.graph, target, options, inputs, expected);
  CHECK(sparse.same_for_all_orders);
  CHECK(sparse.worst < tolerance);
  const Case chosen = compiled(maker.graph, target, options, ScaUse::always);
  CHECK(uses_sca(chosen.program));
  options.sca.use = ScaUse::never;
  const Comparison dense = compare(maker.graph, target, options, inputs, expected, false);
  CHECK_FALSE(uses_sca(compiled(maker.graph, target, options, ScaUse::never).program));
  if (same_bits) {
    for (std::size_t o = 0; o < dense.outputs.size(); ++o) {
      CHECK((sparse.outputs[o].data == dense.outputs[o].data));
    }
  }
  return chosen.statistics;
}

CompileOptions in_precision(Precision precision) {
  CompileOptions options;
  options.precision = precision;
  return options;
}

}  // namespace

TEST_CASE("A sparse matrix product has the bits of an output-stationary one") {
  struct Row {
    Precision precision;
    double tolerance;
  };
  for (const Row &row : {Row{Precision::fp16, 0.02}, Row{Precision::bf16, 0.1}, Row{Precision::fp8_e4m3, 0.6},
                         Row{Precision::fp8_e5m2, 1.2}, Row{Precision::int8, 0.3}}) {
    INFO(name_of(row.precision));
    for (const Target &target : {with_sca(tiny_target()), with_sca(card_target())}) {
      GraphMaker maker(11);
      const TensorId a = maker.input({37, 90});
      const TensorId b = maker.constant({90, 75}, -0.3F, 0.3F);
      prune_at_random(maker, b, 0.7);
      maker.output(matmul(maker, a, b));
      const CompileStatistics statistics = require_same(maker, target, in_precision(row.precision), row.tolerance);
      CHECK(statistics.sparse_products == 1);
      const ProductChoice &choice = statistics.details.at(0).product;
      CHECK(choice.weights == 90 * 75);
      CHECK(choice.macs_skipped == 37 * choice.zeros);
      CHECK(choice.bytes_saved() > 0);
    }
  }
}

TEST_CASE("Random shapes, patterns and tails of sparse matrix products") {
  const auto seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  GraphMaker dice(seed);
  for (int round = 0; round < 12; ++round) {
    GraphMaker maker(seed + static_cast<uint32_t>(round));
    const int64_t k = dice.pick(1, 256);
    const int64_t n = dice.pick(1, 300);
    const bool transposed = dice.pick(0, 1) != 0;
    const Shape shape =
        dice.pick(0, 1) != 0 ? Shape{dice.pick(1, 5), dice.pick(1, 40), k} : Shape{dice.pick(1, 200), k};
    INFO("round " << round << ": K " << k << ", N " << n << (transposed ? ", transposed" : ""));
    const TensorId a = maker.input(shape);
    const TensorId b = maker.constant(transposed ? Shape{n, k} : Shape{k, n}, -0.3F, 0.3F);
    const int pattern = static_cast<int>(dice.pick(0, 3));
    if (pattern == 0) {
      prune_at_random(maker, b, 0.01 * static_cast<double>(dice.pick(0, 100)));
    } else {
      const int64_t m = pattern == 1 ? 4 : 8;  // 1:4, 1:8, whole rows
      prune(maker, b, [&](std::size_t i) {
        const auto at = static_cast<int64_t>(i);
        const int64_t row = transposed ? at % k : at / n;
        return pattern == 3 ? row % 3 != 0 : row % m != (transposed ? at / k : at % n) % m;
      });
    }
    TensorId y = matmul(maker, a, b, dice.pick(0, 1) != 0 ? std::vector{maker.constant({n})} : std::vector<TensorId>{},
                        transposed);
    if (dice.pick(0, 1) != 0) y = maker.unary("relu", y);
    if (dice.pick(0, 1) != 0) y = maker.binary("add", y, maker.input(maker.shape(y)));
    maker.output(y);
    require_same(maker, with_sca(dice.pick(0, 1) != 0 ? tiny_target() : card_target()), in_precision(Precision::fp16),
                 0.02);
  }
}

TEST_CASE("A sparse convolution has the bits of an output-stationary one") {
  const auto seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  GraphMaker dice(seed);
  for (int round = 0; round < 14; ++round) {
    GraphMaker maker(seed + static_cast<uint32_t>(round));
    const int64_t channels = dice.pick(1, 40);
    const int64_t outputs = dice.pick(1, 90);
    const int64_t kernel = round < 4 ? 1 : dice.pick(1, 5);
    const int64_t stride = dice.pick(1, 2);
    const int64_t dilation = dice.pick(1, 2);
    const int64_t pad = dice.pick(0, kernel / 2);
    const int64_t size = dice.pick(10, 24);
    const int64_t reach = dilation * (kernel - 1) + 1;
    const int64_t out = (size + 2 * pad - reach) / stride + 1;
    INFO("round " << round << ": " << channels << " to " << outputs << " maps of " << size << ", kernel " << kernel
                  << ", stride " << stride << ", dilation " << dilation << ", pad " << pad);
    const TensorId x = maker.input({dice.pick(1, 4), channels, size, size});
    const TensorId w = maker.constant({outputs, channels, kernel, kernel}, -0.3F, 0.3F);
    prune_at_random(maker, w, 0.01 * static_cast<double>(dice.pick(0, 100)));
    std::vector<TensorId> inputs{x, w};
    if (dice.pick(0, 1) != 0) inputs.push_back(maker.constant({outputs}));
    TensorId y = maker.node("Conv", inputs,
                            {{"strides", std::vector<int64_t>{stride, stride}},
                             {"pads", std::vector<int64_t>{pad, pad, pad, pad}},
                             {"dilations", std::vector<int64_t>{dilation, dilation}},
                             {"group", int64_t{1}}},
                            {maker.shape(x)[0], outputs, out, out});
    if (dice.pick(0, 1) != 0) y = maker.unary("relu", y);
    maker.output(y);
    const bool int8 = dice.pick(0, 3) == 0;
    require_same(maker, with_sca(dice.pick(0, 1) != 0 ? tiny_target() : card_target()),
                 in_precision(int8 ? Precision::int8 : Precision::fp16), int8 ? 0.3 : 0.03);
  }
}

TEST_CASE("Convolutions of several groups stay dense") {
  GraphMaker maker(8);
  const TensorId x = maker.input({1, 8, 6, 6});
  const TensorId w = maker.constant({16, 4, 1, 1});
  prune_at_random(maker, w, 0.9);
  const TensorId y = maker.node("Conv", {x, w},
                                {{"strides", std::vector<int64_t>{1, 1}},
                                 {"pads", std::vector<int64_t>{0, 0, 0, 0}},
                                 {"dilations", std::vector<int64_t>{1, 1}},
                                 {"group", int64_t{2}}},
                                {1, 16, 6, 6});
  const TensorId depthwise = maker.constant({16, 1, 3, 3});
  maker.output(maker.node("Conv", {y, depthwise},
                          {{"strides", std::vector<int64_t>{1, 1}},
                           {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                           {"dilations", std::vector<int64_t>{1, 1}},
                           {"group", int64_t{16}}},
                          {1, 16, 6, 6}));
  const Case chosen = compiled(maker.graph, with_sca(tiny_target()), in_precision(Precision::fp16), ScaUse::always);
  CHECK_FALSE(uses_sca(chosen.program));
  CHECK(chosen.statistics.details.at(0).product.reason == "several groups of channels");
  CHECK(chosen.statistics.details.at(1).product.engine == "vpu");
}

TEST_CASE("K beyond the tiles' depth goes by in pieces") {
  GraphMaker maker(3);
  const TensorId a = maker.input({20, 700});
  const TensorId b = maker.constant({700, 40}, -0.2F, 0.2F);
  prune_at_random(maker, b, 0.8);
  maker.output(matmul(maker, a, b));
  // Chains of 240 instead of one of 700: other roundings than the dense product.
  require_same(maker, with_sca(tiny_target()), in_precision(Precision::fp16), 0.02, false);
  // Integers have none.
  require_same(maker, with_sca(tiny_target()), in_precision(Precision::int8), 0.3, true);
}

TEST_CASE("Columns beyond half of the accumulators go by in blocks") {
  Target target = with_sca(tiny_target());
  target.sca_acc_rows = 4;
  GraphMaker maker(5);
  const TensorId a = maker.input({50, 64});
  const TensorId b = maker.constant({64, 200}, -0.3F, 0.3F);
  prune_at_random(maker, b, 0.6);
  maker.output(matmul(maker, a, b));
  require_same(maker, target, in_precision(Precision::fp16), 0.02);
}

namespace {

/// Names of the sparse unit's data instructions, in the order of its stream.
std::vector<std::string> sparse_stream(const Program &program) {
  std::vector<std::string> names;
  std::istringstream words(disassemble(program));
  for (std::string word; words >> word;) {
    if (word == "SP_LDA" || word == "SP_MUL" || word == "SP_DRAIN") names.push_back(word);
  }
  return names;
}

}  // namespace

TEST_CASE("Activations of the next tile and layer are loaded in front of the drain that they do not need") {
  GraphMaker maker(21);
  Target target = with_sca(card_target());
  const int64_t rows = 20 * target.sca_rows * target.sca_tiles;
  TensorId x = maker.input({rows, 64});
  for (int layer = 0; layer < 3; ++layer) {
    const TensorId w = maker.constant({64, 64}, -0.3F, 0.3F);
    prune_at_random(maker, w, 0.8);
    x = matmul(maker, x, w);
  }
  maker.output(x);
  require_same(maker, target, in_precision(Precision::fp16), 0.02);
  const Case chosen = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::always);
  const std::vector<std::string> stream = sparse_stream(chosen.program);
  REQUIRE(stream.size() > 3 * 20);
  // The first layer's activations are the VPU's results, tile by tile.
  for (std::size_t i = stream.size() / 3 + 1; i < stream.size(); ++i) {
    INFO("sparse instruction " << i);
    CHECK_FALSE((stream[i - 1] == "SP_DRAIN" && stream[i] == "SP_LDA"));
  }
}

TEST_CASE("A load of activations stays behind the drain that it needs") {
  GraphMaker maker(22);
  TensorId x = maker.input({8, 64});  // a block of the tiles
  for (int layer = 0; layer < 2; ++layer) {
    const TensorId w = maker.constant({64, 64}, -0.3F, 0.3F);
    prune_at_random(maker, w, 0.8);
    x = matmul(maker, x, w);
  }
  maker.output(x);
  const Target target = with_sca(card_target());
  require_same(maker, target, in_precision(Precision::fp16), 0.02);
  const Case chosen = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::always);
  CHECK(sparse_stream(chosen.program) ==
        std::vector<std::string>{"SP_LDA", "SP_MUL", "SP_DRAIN", "SP_LDA", "SP_MUL", "SP_DRAIN"});
}

TEST_CASE("The order of issue keeps that of operations which touch the same bytes") {
  using backend::conflict, backend::issue_order, backend::Operation;
  const auto seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const std::vector<isa::Inst> sparse{isa::SpLda{}.encode(), isa::SpMul{}.encode(), isa::SpDrain{}.encode()};
  std::size_t moved = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<Operation> operations(static_cast<std::size_t>(pick(0, 60)));
    for (Operation &op : operations) {
      op.engine = static_cast<isa::Engine>(pick(0, backend::kEngines - 1));
      if (op.engine == isa::Engine::SCA) op.inst = sparse[static_cast<std::size_t>(pick(0, 2))];
      for (int64_t accesses = pick(1, 3); accesses > 0; --accesses) {
        const int64_t begin = pick(0, 300);
        op.accesses.push_back({static_cast<int>(pick(0, 1)), begin, begin + pick(1, 12), pick(0, 1) != 0});
      }
    }
    const std::vector<std::size_t> order = issue_order(operations);
    REQUIRE(order.size() == operations.size());
    std::vector<std::size_t> place(order.size(), order.size());
    for (std::size_t i = 0; i < order.size(); ++i) place.at(order[i]) = i;
    for (std::size_t a = 0; a < order.size(); ++a) {
      REQUIRE(place[a] < order.size());
      for (std::size_t b = a + 1; b < order.size(); ++b) {
        if (place[a] < place[b]) continue;
        ++moved;
        REQUIRE_FALSE(conflict(operations[a], operations[b]));
        // What goes forward is loads alone, and nothing that the array or the sparse tiles hold changes.
        const bool load = operations[b].engine == isa::Engine::LOAD;
        const bool activations = operations[b].engine == isa::Engine::SCA && operations[b].inst == sparse[0];
        REQUIRE((load || activations));
        if (operations[a].engine == isa::Engine::SCA && activations) REQUIRE(operations[a].inst == sparse[2]);
      }
    }
  }
  CHECK(moved > 0);
}

TEST_CASE("The estimate chooses the unit of each product") {
  GraphMaker maker(9);
  const TensorId a = maker.input({256, 256});
  const TensorId pruned = maker.constant({256, 256}, -0.1F, 0.1F);
  prune_at_random(maker, pruned, 0.9);
  const TensorId full = maker.constant({256, 256}, -0.1F, 0.1F);
  const TensorId runtime = maker.input({256, 64});
  maker.output(matmul(maker, matmul(maker, matmul(maker, a, pruned), full), runtime));
  const Target target = with_sca(card_target());
  const Case chosen = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::automatic);
  REQUIRE(chosen.statistics.details.size() == 3);
  const ProductChoice &first = chosen.statistics.details[0].product;
  CHECK(first.engine == "sca");
  CHECK(first.reason.empty());
  CHECK(first.sca_cycles < first.dense_cycles);
  CHECK(first.stream_bytes < first.dense_bytes);
  CHECK(chosen.statistics.details[1].product.engine == "dmmu");
  CHECK(chosen.statistics.details[1].product.reason == "few zeros");
  CHECK(chosen.statistics.details[2].product.reason == "weights are not constant");
  CHECK(chosen.statistics.sparse_products == 1);
  CHECK(chosen.statistics.macs_skipped == first.macs_skipped);
  CHECK(chosen.statistics.sparse_bytes_saved == first.bytes_saved());

  SECTION("fewer bytes must move than of a dense program") {
    const Case dense = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::never);
    CHECK(dense.statistics.details[0].product.reason == "not wanted");
    CHECK(dense.statistics.minimum_bytes - chosen.statistics.minimum_bytes ==
          static_cast<uint64_t>(first.bytes_saved()));
    CHECK(dense.statistics.dma_load_bytes > chosen.statistics.dma_load_bytes);
  }
  SECTION("always takes dense weights too") {
    const Case all = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::always);
    CHECK(all.statistics.details[1].product.engine == "sca");
    CHECK(all.statistics.details[2].product.engine == "dmmu");
  }
  SECTION("FP32 stays on the DMMU") {
    const Case wide = compiled(maker.graph, target, in_precision(Precision::fp32), ScaUse::always);
    CHECK_FALSE(uses_sca(wide.program));
    CHECK(wide.statistics.details[0].product.reason == "the SCA does not multiply this type");
  }
  SECTION("a target without sparse tiles") {
    const Case without = compiled(maker.graph, card_target(), in_precision(Precision::fp16), ScaUse::always);
    CHECK_FALSE(uses_sca(without.program));
    CHECK(without.statistics.details[0].product.reason == "the target has no SCA");
  }
  SECTION("an array whose slots are shared has sparse tiles where they are wanted") {
    Target shared = target;
    shared.shared_array = true;
    const Case always = compiled(maker.graph, shared, in_precision(Precision::fp16), ScaUse::always);
    CHECK(uses_sca(always.program));
    CHECK(always.statistics.sca_tiles > 0);
    const Case never = compiled(maker.graph, shared, in_precision(Precision::fp16), ScaUse::never);
    CHECK_FALSE(uses_sca(never.program));
    CHECK(never.statistics.sca_tiles == 0);
  }
  SECTION("semaphores for the fifth engine are only needed with it") {
    Target few = target;
    few.semaphores = 12;
    CHECK_NOTHROW(compiled(maker.graph, few, in_precision(Precision::fp16), ScaUse::never));
    CHECK_THROWS_WITH(compiled(maker.graph, few, in_precision(Precision::fp16), ScaUse::always),
                      Contains("a program needs 20"));
  }
}

namespace {

/// As many slots as MAC tiles, each of either kind; so small that products take longer than memory.
Target with_shared_array(Target target, uint32_t switch_cycles) {
  target.tile_rows = target.tile_cols = 8;
  target = with_sca(target);
  target.output_stationary = false;
  target.clock_khz = 1'000'000;
  target.dram_mbps = target.dram_stream_mbps = 102'400;
  target.dram_channels = 8;
  target.dram_stripe_bytes = 1024;
  target.spm_bytes_per_cycle = 1024;
  target.vpu_lanes = 256;
  target.shared_array = true;
  target.array_switch_cycles = switch_cycles;
  return target;
}

uint32_t split_of(const Program &program) { return parse_image(program.image).sca_tiles; }

/// A matrix product by pruned weights, then one by a matrix of the run, which only MAC tiles multiply.
GraphMaker pruned_and_full(double zeros, int64_t pruned_columns, int64_t full_columns) {
  GraphMaker maker(31);
  const TensorId x = maker.input({512, 256});
  const TensorId pruned = maker.constant({256, pruned_columns}, -0.1F, 0.1F);
  prune_at_random(maker, pruned, zeros);
  const TensorId full = maker.input({pruned_columns, full_columns});
  maker.output(matmul(maker, matmul(maker, x, pruned), full));
  return maker;
}

uint64_t cycles_of(const CompileStatistics &statistics, uint32_t sca_tiles) {
  for (const SplitEstimate &split : statistics.splits) {
    if (split.sca_tiles == sca_tiles) return split.cycles;
  }
  return 0;
}

}  // namespace

TEST_CASE("The split of a shared array follows the estimates of the whole program") {
  const Target target = with_shared_array(card_target(), 100);
  const CompileOptions options = in_precision(Precision::fp16);
  const GraphMaker sparse = pruned_and_full(0.95, 1024, 32);
  const Case mostly_sparse = compiled(sparse.graph, target, options, ScaUse::automatic);
  const uint32_t split = split_of(mostly_sparse.program);
  CHECK(split > 0);
  CHECK(split < target.tiles);
  CHECK(mostly_sparse.statistics.sca_tiles == split);
  CHECK(mostly_sparse.statistics.details.at(0).product.engine == "sca");
  CHECK(mostly_sparse.statistics.details.at(1).product.engine == "dmmu");
  for (const SplitEstimate &other : mostly_sparse.statistics.splits) {
    CHECK(cycles_of(mostly_sparse.statistics, split) <= other.cycles);
  }
  CHECK(cycles_of(mostly_sparse.statistics, 0) != 0);

  // Little to gain beside much full work; nothing to gain; not wanted.
  const GraphMaker mostly_full = pruned_and_full(0.3, 64, 1024);
  CHECK(split_of(compiled(mostly_full.graph, target, options, ScaUse::automatic).program) == 0);
  const GraphMaker full = pruned_and_full(0, 256, 256);
  CHECK(split_of(compiled(full.graph, target, options, ScaUse::automatic).program) == 0);
  CHECK(split_of(compiled(sparse.graph, target, options, ScaUse::never).program) == 0);
  CHECK(split_of(compiled(mostly_full.graph, target, options, ScaUse::always).program) > 0);
}

TEST_CASE("A change of the split has to pay") {
  const GraphMaker maker = pruned_and_full(0.95, 1024, 32);
  const CompileOptions options = in_precision(Precision::fp16);
  const Case free = compiled(maker.graph, with_shared_array(card_target(), 0), options, ScaUse::automatic);
  REQUIRE(split_of(free.program) > 0);
  // 5 % faster with the change.
  const uint64_t dense = cycles_of(free.statistics, 0);
  const uint64_t sparse = cycles_of(free.statistics, free.statistics.sca_tiles);
  const auto most = static_cast<uint64_t>(static_cast<double>(dense) / 1.05) - sparse;
  for (const uint64_t cycles : {most - 2, most + 2}) {
    const Target target = with_shared_array(card_target(), static_cast<uint32_t>(cycles));
    const Case chosen = compiled(maker.graph, target, options, ScaUse::automatic);
    CHECK(split_of(chosen.program) == (cycles < most ? free.statistics.sca_tiles : 0));
    CHECK(cycles_of(chosen.statistics, free.statistics.sca_tiles) == sparse + cycles);
    CHECK(cycles_of(chosen.statistics, 0) == dense);
  }
}

TEST_CASE("A program of sparse products alone may have all slots") {
  const Target target = with_shared_array(card_target(), 100);
  GraphMaker maker(32);
  const TensorId weights = maker.constant({256, 512}, -0.1F, 0.1F);
  prune_at_random(maker, weights, 0.9);
  maker.output(matmul(maker, maker.input({2048, 256}), weights));
  const Case chosen = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::automatic);
  CHECK(split_of(chosen.program) >= target.tiles - 1);
  CHECK(uses_sca(chosen.program));
  CHECK(cycles_of(chosen.statistics, target.tiles) != 0);
}

TEST_CASE("Programs of a shared array give the bits of separate arrays, on no more tiles than the split has") {
  const GraphMaker maker = pruned_and_full(0.9, 200, 40);
  std::mt19937 random(7);
  const auto inputs = random_inputs(maker.graph, random);
  const CompileOptions options = in_precision(Precision::fp16);
  Target shared = with_shared_array(card_target(), 100);
  shared.output_stationary = true;  // one order of sums, whichever unit multiplies
  const Case chosen = compiled(maker.graph, shared, options, ScaUse::automatic);
  const uint32_t split = split_of(chosen.program);
  REQUIRE(split > 0);
  Target present = shared;
  present.tiles -= split;
  present.sca_tiles = split;
  const auto result = [&](const Program &program, const Target &target) {
    ProgramSim sim(program, target);
    for (std::size_t i = 0; i < inputs.size(); ++i) sim.set_input(i, *inputs.at(maker.graph.inputs[i]).data);
    sim.run();
    return sim.output(0);
  };
  const Target separate = with_sca(card_target());
  const Case other = compiled(maker.graph, separate, options, ScaUse::automatic);
  CHECK((result(chosen.program, present) == result(other.program, separate)));
}

TEST_CASE("A product that does not fit as a sparse one is dense") {
  Target target = with_sca(tiny_target());
  target.spm_bytes = 64 << 10;
  GraphMaker maker(4);
  const TensorId a = maker.input({8, 40000});
  const TensorId b = maker.constant({40000, 8}, -0.1F, 0.1F);
  prune_at_random(maker, b, 0.5);
  maker.output(matmul(maker, a, b));
  const Case chosen = compiled(maker.graph, target, in_precision(Precision::fp16), ScaUse::always);
  CHECK_FALSE(uses_sca(chosen.program));
  CHECK(chosen.statistics.details[0].product.reason == "does not fit the scratchpad");
}

TEST_CASE("Weights that violate a stated pattern are refused with their place") {
  GraphMaker maker(6);
  const TensorId a = maker.input({64, 64});
  const TensorId b = maker.constant({64, 32}, 0.1F, 0.2F);
  prune(maker, b, [](std::size_t i) { return i / 32 % 4 >= 2 && i != 5 * 32 * 2 + 7; });  // row 10, column 7 stays
  maker.output(matmul(maker, a, b));
  CompileOptions options = in_precision(Precision::fp16);
  options.sca.format = sca_format_from("2:4");
  const Target target = with_sca(card_target());
  CHECK_THROWS_WITH(compiled(maker.graph, target, options, ScaUse::always), Contains(maker.graph[b].name) &&
                                                                                Contains("column 7, rows from 8") &&
                                                                                Contains("3 non-zeros do not fit 2:4"));
  prune(maker, b, [](std::size_t i) { return i / 32 % 4 >= 2; });
  const Case chosen = compiled(maker.graph, target, options, ScaUse::always);
  CHECK(chosen.statistics.details[0].product.format == "2:4");
  require_same(maker, target, options, 0.05);
  options.sca.format = sca_format_from("block:4x8");
  CHECK(compiled(maker.graph, target, options, ScaUse::always).statistics.details[0].product.format == "block 4x8");
  require_same(maker, target, options, 0.05);
}

TEST_CASE("Names of uses and formats") {
  for (const char *name : {"auto", "always", "never"}) CHECK(std::string(name_of(sca_use_from(name))) == name);
  CHECK_THROWS_AS(sca_use_from("maybe"), UsageError);
  CHECK(sca_format_from("bitmap") == sparse::bitmap());
  CHECK(sca_format_from("run-length") == sparse::run_length());
  CHECK(sca_format_from("1:8") == sparse::structured(1, 8));
  CHECK(sca_format_from("block:16x32") == sparse::block(16, 32));
  for (const char *text : {"", "dense", "2", "2:", ":4", "0:4", "9:16", "2:17", "3:2", "1:1", "2:4x",
                           "block:", "block:4", "block:0x4", "block:4x0", "block:4x1025", "block:4x4 "}) {
    INFO(text);
    CHECK_THROWS_AS(sca_format_from(text), UsageError);
  }
}
