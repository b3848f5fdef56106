// Constants that programs share, and outputs that update inputs in place.
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/compiler/backend/in_place.hpp"
#include "tb/driver/compiler/backend/bench.hpp"
#include "tb/driver/compiler/program_sim.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

GraphMaker mlp(int64_t rows) {
  GraphMaker maker(7);  // the same weights for every number of rows
  const TensorId x = maker.input({rows, 24});
  const TensorId w1 = maker.constant({24, 40}), b1 = maker.constant({40}), w2 = maker.constant({40, 16});
  const TensorId hidden = maker.unary("relu", maker.node("MatMul", {x, w1, b1}, {{"trans_b", int64_t{0}}}, {rows, 40}));
  maker.output(maker.node("MatMul", {hidden, w2}, {{"trans_b", int64_t{0}}}, {rows, 16}));
  return maker;
}

/// cache[c, d] with updates[s, d] written at positions[s, 1]; the output is the cache as it is then.
struct Cache {
  GraphMaker maker{11};
  TensorId cache, updates, positions, result;
  Cache() {
    cache = maker.input({12, 6});
    updates = maker.input({2, 6});
    positions = maker.input({2, 1}, Type::I64);
    result = maker.node("ScatterAlong", {cache, positions, updates},
                        {{"axis", int64_t{0}}, {"func", std::string("set")}}, {12, 6});
  }
  std::map<std::string, std::string> names(TensorId output) const {
    return {{maker.graph[output].name, maker.graph[cache].name}};
  }
};

std::size_t position(const Graph &graph, const std::string &op) {
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    if (graph.nodes[n].op == op) return n;
  }
  throw std::runtime_error("no node " + op);
}

}  // namespace

TEST_CASE("programs with shared constants compute the same and store them once") {
  for (const Precision precision : {Precision::fp32, Precision::fp16}) {
    const auto constants = std::make_shared<SharedConstants>();
    uint64_t bytes = 0;
    for (int64_t rows : {17, 17, 1}) {
      GraphMaker maker = mlp(rows);
      const auto inputs = random_inputs(maker.graph, maker.random());
      const auto expected = evaluate_graph(maker.graph, inputs);
      CompileOptions options;
      options.precision = precision;
      const Program alone = compile(maker.graph, tiny_target(), options);
      options.constants = constants;
      const Comparison comparison = compare(maker.graph, tiny_target(), options, inputs, expected);
      REQUIRE(comparison.worst < (precision == Precision::fp32 ? 1e-5 : 1e-2));
      REQUIRE(comparison.same_for_all_orders);
      const Program sharing = compile(maker.graph, tiny_target(), options);
      REQUIRE(sharing.image.size() < alone.image.size());
      REQUIRE(sharing.constants_bytes == constants->bytes().size());
      if (bytes != 0 && rows == 17) REQUIRE(constants->bytes().size() == bytes);
      bytes = constants->bytes().size();
    }
    // Another number of rows has the same weights.
    REQUIRE(constants->bytes().size() < 2 * (24 * 40 + 40 + 40 * 16) * 4);
    REQUIRE(constants->reused_bytes() > 0);
  }
}

TEST_CASE("an output updates an input in place") {
  Cache c;
  const TensorId doubled = c.maker.binary("add", c.result, c.result);
  c.maker.output(c.result);
  c.maker.output(doubled);
  const TensorId before = c.maker.unary("neg", c.cache);  // stands after the update, and must run before it
  c.maker.output(before);
  const backend::Updates updates = backend::find_updates(c.maker.graph, c.names(c.result));
  REQUIRE(updates == backend::Updates{{c.result, c.cache}});
  const Graph ordered = backend::order_updates(c.maker.graph, updates);
  verify(ordered);
  REQUIRE(ordered.nodes.size() == c.maker.graph.nodes.size());
  REQUIRE(position(ordered, "Unary") < position(ordered, "ScatterAlong"));
  REQUIRE(position(ordered, "ScatterAlong") < position(ordered, "Binary"));
}

TEST_CASE("programs that update in place compute what those with memory of their own do") {
  for (const Precision precision : {Precision::fp32, Precision::fp16}) {
    Cache c;
    const TensorId before = c.maker.unary("neg", c.cache);
    const TensorId w = c.maker.constant({6, 10});
    const TensorId after = c.maker.node("MatMul", {c.result, w}, {{"trans_b", int64_t{0}}}, {12, 10});
    c.maker.output(c.result);
    c.maker.output(before);
    c.maker.output(after);
    auto inputs = random_inputs(c.maker.graph, c.maker.random());
    for (const std::vector<int64_t> &places : {std::vector<int64_t>{3, 11}, {0, 1}, {5, 5}, {-1, 2}}) {
      inputs[c.positions].data.own().assign(reinterpret_cast<const std::byte *>(places.data()),
                                            reinterpret_cast<const std::byte *>(places.data() + places.size()));
      const auto expected = evaluate_graph(c.maker.graph, inputs);
      CompileOptions options;
      options.precision = precision;
      for (const bool in_place : {false, true}) {
        if (in_place) options.in_place = c.names(c.result);
        const Comparison comparison = compare(c.maker.graph, tiny_target(), options, inputs, expected);
        REQUIRE(comparison.worst < (precision == Precision::fp32 ? 1e-5 : 1e-2));
        REQUIRE(comparison.same_for_all_orders);
        if (precision == Precision::fp32)
          REQUIRE(comparison.outputs[0].data == expected[static_cast<std::size_t>(c.result)].data);
      }
    }
  }
}

TEST_CASE("what cannot be updated in place is refused with the node that is in the way") {
  const auto refuse = [](Cache &c, TensorId output, const char *message) {
    c.maker.output(output);
    CompileOptions options;
    options.in_place = c.names(output);
    REQUIRE_THROWS_WITH(compile(c.maker.graph, tiny_target(), options), Catch::Contains(message));
  };
  {
    Cache c;  // the old cache is added to the new one
    const TensorId both = c.maker.binary("add", c.cache, c.result);
    c.maker.output(both);
    refuse(c, c.result, "node Binary1 (Binary) needs the input as it was after it is updated");
  }
  {
    Cache c;
    refuse(c, c.maker.unary("neg", c.result), "node Unary1 (Unary) is no ScatterAlong");
  }
  {
    Cache c;
    const TensorId other = c.maker.unary("neg", c.cache);
    refuse(c,
           c.maker.node("ScatterAlong", {other, c.positions, c.updates},
                        {{"axis", int64_t{0}}, {"func", std::string("set")}}, {12, 6}),
           "scatters into 't4'");
  }
  {
    Cache c;
    refuse(c, c.maker.node("Reshape", {c.result}, {}, {6, 12}), "is float32 [6, 12], the other float32 [12, 6]");
  }
  Cache c;
  c.maker.output(c.result);
  CompileOptions options;
  options.in_place = {{"nothing", "in0"}};
  REQUIRE_THROWS_WITH(compile(c.maker.graph, tiny_target(), options), Catch::Contains("has no output 'nothing'"));
  options.in_place = {{c.maker.graph[c.result].name, "in9"}};
  REQUIRE_THROWS_WITH(compile(c.maker.graph, tiny_target(), options), Catch::Contains("has no input 'in9'"));
}
