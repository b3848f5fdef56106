// Graphs of ten thousand nodes and networks of a thousand layers: compilation completes, and its work grows with the
// graph.
#include <catch2/catch.hpp>

#include "driver/compiler/backend/fusion.hpp"
#include "tb/driver/compiler/backend/bench.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

/// y = f(y), with moves between so that groups stay small.
Graph chain(int64_t nodes) {
  GraphMaker m(1);
  TensorId y = m.input({4, 6});
  const TensorId x = y;
  for (int64_t n = 0; n < nodes; n += 4) {
    y = m.unary("relu", y);
    y = m.node("Transpose", {y}, {{"perm", std::vector<int64_t>{1, 0}}}, {6, 4});
    y = m.node("Reshape", {y}, {}, {4, 6});
    // What was made first is needed to the end.
    y = m.binary("add", y, x);
  }
  m.output(y);
  return m.graph;
}

/// Branches from one value that come together in one Concat and in a tree of sums.
Graph fan(int64_t nodes) {
  GraphMaker m(2);
  const TensorId x = m.unary("neg", m.input({4, 6}));
  std::vector<TensorId> branches;
  for (int64_t n = 0; n < nodes; n += 4) {
    const TensorId y = m.binary("mul", x, m.scalar(static_cast<float>(n)));
    branches.push_back(m.unary("tanh", m.node("Reshape", {m.unary("relu", y)}, {}, {24})));
  }
  m.output(m.node("Concat", branches, {{"axis", int64_t{0}}}, {24 * static_cast<int64_t>(branches.size())}));
  while (branches.size() > 1) {
    std::vector<TensorId> sums;
    for (std::size_t i = 0; i + 1 < branches.size(); i += 2)
      sums.push_back(m.binary("add", branches[i], branches[i + 1]));
    if (branches.size() % 2 != 0) sums.push_back(branches.back());
    branches = sums;
  }
  m.output(branches.front());
  return m.graph;
}

/// Layers of a product, a bias, an activation and a sum with an older layer, joined by concatenations.
Graph layers(int64_t count) {
  GraphMaker m(3);
  TensorId y = m.input({8, 16});
  TensorId older = y;
  for (int64_t n = 0; n < count; ++n) {
    const TensorId z =
        m.node("MatMul", {y, m.constant({16, 16}, -0.1F, 0.1F), m.constant({16})}, {{"trans_b", int64_t{0}}}, {8, 16});
    y = m.binary("add", m.unary("gelu", z), older);
    if (n % 8 == 7) {
      const TensorId joined = m.node("Concat", {y, older}, {{"axis", int64_t{1}}}, {8, 32});
      y = m.node("Slice", {joined}, {{"starts", std::vector<int64_t>{0, 8}}, {"steps", std::vector<int64_t>{1, 1}}},
                 {8, 16});
      older = y;
    }
  }
  m.output(y);
  return m.graph;
}

/// Each Concat is an operand of the next one.
Graph nested(int64_t count) {
  GraphMaker m(4);
  TensorId y = m.input({1, 2});
  for (int64_t n = 0; n < count; ++n) {
    const int64_t width = m.shape(y)[1];
    y = m.node("Concat", {y, m.unary("neg", m.input({1, 1}))}, {{"axis", int64_t{1}}}, {1, width + 1});
    if (m.graph.inputs.size() > 50) break;
  }
  for (int64_t n = 0; n < count; ++n) {
    y = m.node("Reshape", {y}, {}, {1, 1, m.shape(y).back()});
    y = m.node("Reshape", {y}, {}, {1, m.shape(y).back()});
  }
  m.output(y);
  return m.graph;
}

}  // namespace

TEST_CASE("graphs of ten thousand nodes compile, with code in proportion") {
  using Maker = Graph (*)(int64_t);
  for (const auto &[make, size] :
       {std::pair<Maker, int64_t>{chain, 10000}, {fan, 10000}, {layers, 1000}, {nested, 5000}}) {
    INFO("size " << size);
    CompileStatistics large;
    CompileStatistics small;
    CHECK_FALSE(compile(make(size), tiny_target(), {}, &large).image.empty());
    compile(make(size / 4), tiny_target(), {}, &small);
    CHECK(large.nodes > 3 * small.nodes);
    CHECK(large.instructions <= 5 * small.instructions);
    CHECK(large.groups <= 5 * small.groups);
  }
}
