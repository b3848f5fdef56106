// Gathering, scattering, running sums, indices of extremes and integer reductions, of every type, small and larger than
// the scratchpad, against typed_reference.hpp.
#include <algorithm>
#include <catch2/catch.hpp>

#include "driver/compiler/frontend/elements.hpp"
#include "tb/driver/compiler/backend/typed_bench.hpp"
#include "tb/driver/compiler/backend/typed_reference.hpp"
#include "tb/driver/compiler/program_sim.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

Type random_type(GraphMaker &m) { return kAllTypes[static_cast<std::size_t>(m.pick(0, 12))]; }

/// Inputs whose indices, in tensors that `limits` names, count from either end.
std::map<TensorId, Tensor> inputs_with_indices(GraphMaker &m, const std::map<TensorId, int64_t> &limits) {
  auto inputs = typed_inputs(m);
  for (const auto &[id, limit] : limits) {
    Tensor &tensor = inputs.at(id);
    std::vector<int64_t> values(static_cast<std::size_t>(elements(tensor.shape)));
    for (int64_t &value : values) value = m.pick(-limit, limit - 1);
    tensor = make_constant(tensor.name, tensor.type, tensor.shape, values);
  }
  return inputs;
}

Type index_type(GraphMaker &m) { return m.pick(0, 1) == 0 ? Type::I32 : Type::I64; }

struct Along {
  Shape shape;
  std::size_t axis = 0;
  int64_t axis_attribute() const { return static_cast<int64_t>(axis); }
};

Along random_along(GraphMaker &m, int64_t most) {
  Along along;
  const int64_t rank = m.pick(1, 6);
  along.shape = typed_shape(m, rank, rank > 4 ? 4 : most);
  along.axis = static_cast<std::size_t>(m.pick(0, rank - 1));
  return along;
}

TensorId reduce_node(GraphMaker &m, TensorId x, const std::string &kind, const std::vector<int64_t> &axes) {
  Shape out = m.shape(x);
  for (int64_t axis : axes) out[static_cast<std::size_t>(axis)] = 1;
  return m.node("Reduce", {x}, {{"kind", kind}, {"axes", axes}, {"keepdims", int64_t{1}}}, out, m.graph[x].type);
}

TensorId scan_node(GraphMaker &m, TensorId x, int64_t axis, int64_t exclusive, int64_t reverse) {
  return m.node("Scan", {x},
                {{"kind", std::string("sum")}, {"axis", axis}, {"exclusive", exclusive}, {"reverse", reverse}},
                m.shape(x), m.graph[x].type);
}

TensorId arg_node(GraphMaker &m, TensorId x, const std::string &kind, int64_t axis, int64_t last) {
  Shape out = m.shape(x);
  out[static_cast<std::size_t>(axis)] = 1;
  return m.node("ArgReduce", {x}, {{"kind", kind}, {"axis", axis}, {"last", last}}, out, Type::I64);
}

}  // namespace

namespace {

/// On the small target in FP32 only: large graphs take the simulator long.
void check_small(GraphMaker &m, const std::map<TensorId, Tensor> &inputs, double tolerance) {
  const Comparison result =
      compare(m.graph, tiny_target(), Precision::fp32, inputs, evaluate_typed(m.graph, inputs), false);
  CHECK(result.worst <= tolerance);
}

}  // namespace

TEST_CASE("taking along an axis") {
  repeat_typed(3000, 60, [](GraphMaker &m) {
    const Type type = random_type(m);
    const Along along = random_along(m, 9);
    Shape x = along.shape;
    Shape indices = along.shape;
    Shape out = along.shape;
    for (std::size_t d = 0; d < out.size(); ++d) {
      if (d == along.axis) continue;
      const int64_t which = m.pick(0, 3);
      if (which == 0) x[d] = 1;
      if (which == 1) indices[d] = 1;
    }
    x[along.axis] = m.pick(1, 40);
    const TensorId table = m.pick(0, 2) == 0 ? m.graph.add(random_tensor(m, "table", type, x)) : m.input(x, type);
    const TensorId at = m.input(indices, index_type(m));
    TensorId y = m.node("TakeAlong", {table, at}, {{"axis", along.axis_attribute()}}, out, type);
    m.output(y);
    if (type == Type::F32) m.output(m.unary("relu", y));
    check_typed(m, inputs_with_indices(m, {{at, x[along.axis]}}), 1e-2);
  });
}

TEST_CASE("rows of a table that is larger than the scratchpad") {
  for (const bool constant : {false, true}) {
    GraphMaker m(3100);
    const Shape table{20000, 16};
    const TensorId x = constant ? m.graph.add(random_tensor(m, "table", Type::F32, table)) : m.input(table);
    const TensorId at = m.input({5, 1}, Type::I64);
    const TensorId y = m.node("TakeAlong", {x, at}, {{"axis", int64_t{0}}}, {5, 16});
    m.output(m.binary("add", y, m.scalar(1)));
    const TensorId line = m.node("Reshape", {x}, {}, {320000});
    const TensorId from_line = m.input({70000}, Type::I32);
    m.output(m.node("TakeAlong", {line, from_line}, {{"axis", int64_t{0}}}, {70000}));
    check_typed(m, inputs_with_indices(m, {{at, 20000}, {from_line, 320000}}), 1e-2);
  }
}

TEST_CASE("scattering along an axis") {
  const char *funcs[] = {"set", "add", "mul", "max", "min"};
  repeat_typed(3200, 80, [&](GraphMaker &m) {
    const std::string func = funcs[m.pick(0, 4)];
    Type type = random_type(m);
    if (type == Type::Bool && func != "set") type = Type::U8;
    const Along along = random_along(m, 8);
    Shape updates = along.shape;
    for (std::size_t d = 0; d < updates.size(); ++d) {
      if (d != along.axis) updates[d] = m.pick(1, updates[d]);
    }
    updates[along.axis] = m.pick(1, 12);
    Shape indices = updates;
    for (std::size_t d = 0; d < indices.size(); ++d) {
      if (d != along.axis && m.pick(0, 2) == 0) indices[d] = 1;
    }
    const TensorId x =
        m.pick(0, 3) == 0 ? m.graph.add(random_tensor(m, "x", type, along.shape)) : m.input(along.shape, type);
    const TensorId at = m.input(indices, index_type(m));
    const TensorId u = m.pick(0, 3) == 0 ? m.graph.add(random_tensor(m, "u", type, updates)) : m.input(updates, type);
    TensorId y =
        m.node("ScatterAlong", {x, at, u}, {{"axis", along.axis_attribute()}, {"func", func}}, along.shape, type);
    m.output(y);
    if (type == Type::F32) m.output(m.unary("neg", y));
    check_typed(m, inputs_with_indices(m, {{at, along.shape[along.axis]}}), 3e-2);
  });
}

TEST_CASE("scattering into lines that are longer than a descriptor or the scratchpad") {
  for (const char *func : {"set", "add"}) {
    GraphMaker m(3300);
    const TensorId x = m.input({2, 70000});
    const TensorId at = m.input({1, 6000}, Type::I64);
    const TensorId u = m.input({2, 6000});
    m.output(m.node("ScatterAlong", {x, at, u}, {{"axis", int64_t{1}}, {"func", std::string(func)}}, {2, 70000}));
    check_small(m, inputs_with_indices(m, {{at, 70000}}), 0);
  }
}

TEST_CASE("an index out of range is for the device to report, in pieces too") {
  for (const int64_t size : {int64_t{10}, int64_t{150000}}) {
    GraphMaker m(3400);
    const TensorId x = m.input({size}, Type::I32);
    const TensorId at = m.input({3}, Type::I64);
    m.output(m.node("ScatterAlong", {x, at, m.input({3}, Type::I32)},
                    {{"axis", int64_t{0}}, {"func", std::string("set")}}, {size}, Type::I32));
    m.output(m.node("TakeAlong", {x, at}, {{"axis", int64_t{0}}}, {3}, Type::I32));
    auto inputs = inputs_with_indices(m, {{at, 3}});
    const auto expected = evaluate_typed(m.graph, inputs);
    CHECK_NOTHROW(compare(m.graph, tiny_target(), Precision::fp32, inputs, expected));
    inputs[at] = Tensor::constant<int64_t>("in1", {3}, {0, size, 1});
    CHECK_THROWS_AS(compare(m.graph, tiny_target(), Precision::fp32, inputs, expected), SimulationError);
  }
}

TEST_CASE("running sums") {
  repeat_typed(3500, 50, [](GraphMaker &m) {
    const Type type = kAllTypes[static_cast<std::size_t>(m.pick(0, 11))];
    const Along along = random_along(m, 9);
    TensorId y = scan_node(m, m.input(along.shape, type), along.axis_attribute(), m.pick(0, 1), m.pick(0, 1));
    m.output(y);
    if (type == Type::I32) m.output(m.unary("neg", y));
    check_typed(m, 3e-2);
  });
}

TEST_CASE("running sums, extremes and reductions piece by piece") {
  for (const Type type : {Type::F32, Type::I64}) {
    GraphMaker m(3600 + static_cast<uint32_t>(type));
    const TensorId x = m.input({2, 70000}, type);
    for (int64_t way = 0; way < 4; ++way) m.output(scan_node(m, x, 1, way & 1, way >> 1));
    for (int64_t last : {0, 1}) {
      m.output(arg_node(m, x, "max", 1, last));
      m.output(arg_node(m, x, "min", 1, last));
    }
    m.output(reduce_node(m, x, "max", {1}));
    for (const auto &[k, largest] : {std::pair<int64_t, int64_t>{1, 1}, {300, 1}, {300, 0}, {3000, 1}}) {
      m.output(m.node("TopK", {x}, {{"axis", int64_t{1}}, {"k", k}, {"largest", largest}}, {2, k}, Type::I64));
    }
    if (type == Type::I64) {
      for (const char *kind : {"sum", "mean", "min", "prod", "sumsq"}) m.output(reduce_node(m, x, kind, {1}));
    }
    check_small(m, typed_inputs(m), 1e-4);
  }
}

TEST_CASE("float reductions larger than the scratchpad") {
  GraphMaker m(3650);
  const TensorId x = m.input({3, 500, 400});
  const char *kinds[] = {"sum", "mean", "max", "min", "sumsq", "abssum"};
  for (const char *kind : kinds) m.output(m.binary("mul", reduce_node(m, x, kind, {1, 2}), m.scalar(0.5F)));
  m.output(reduce_node(m, x, "mean", {0, 2}));
  const auto inputs = random_inputs(m.graph, m.random());
  const auto expected = evaluate_graph(m.graph, inputs);
  CHECK(compare(m.graph, tiny_target(), Precision::fp32, inputs, expected).worst < 1e-3);
  CHECK(compare(m.graph, tiny_target(), Precision::fp16, inputs, expected).worst < 1e-2);
}

TEST_CASE("indices of extremes and of the largest") {
  repeat_typed(3700, 60, [](GraphMaker &m) {
    const Type type = random_type(m);
    const Along along = random_along(m, 12);
    const TensorId x = m.input(along.shape, type);
    if (m.pick(0, 1) == 0) {
      const TensorId y = arg_node(m, x, m.pick(0, 1) == 0 ? "max" : "min", along.axis_attribute(), m.pick(0, 1));
      m.output(y);
      if (m.pick(0, 1) == 0) m.output(m.unary("neg", y));
    } else {
      Shape out = along.shape;
      out[along.axis] = m.pick(1, out[along.axis]);
      const TensorId order =
          m.node("TopK", {x}, {{"axis", along.axis_attribute()}, {"k", out[along.axis]}, {"largest", m.pick(0, 1)}},
                 out, Type::I64);
      m.output(order);
      m.output(m.node("TakeAlong", {x, order}, {{"axis", along.axis_attribute()}}, out, type));
    }
    check_typed(m, 1e-2);
  });
}

TEST_CASE("integer reductions wrap and are exact") {
  const char *kinds[] = {"sum", "mean", "max", "min", "prod", "sumsq", "abssum"};
  repeat_typed(3800, 60, [&](GraphMaker &m) {
    const Type type = kIntegers[static_cast<std::size_t>(m.pick(0, 7))];
    const Shape in = typed_shape(m, m.pick(1, 6), 6);
    std::vector<int64_t> axes;
    for (std::size_t d = 0; d < in.size(); ++d) {
      if (m.pick(0, 1) == 1 || d == 0) axes.push_back(static_cast<int64_t>(d));
    }
    m.output(reduce_node(m, m.input(in, type), kinds[m.pick(0, 6)], axes));
    check_typed(m, 0);
  });
}

TEST_CASE("ranks above four and dimensions above 65535") {
  GraphMaker m(3900);
  const TensorId x = m.input({2, 3, 2, 3, 2, 3, 2, 2}, Type::I16);
  const TensorId turned = m.node("Transpose", {x}, {{"perm", std::vector<int64_t>{7, 0, 6, 1, 5, 2, 4, 3}}},
                                 {2, 2, 2, 3, 3, 2, 2, 3}, Type::I16);
  m.output(typed_binary(m, "add", turned, m.input({2, 1, 2, 1, 3, 1, 2, 1}, Type::I16), Type::I16));
  m.output(scan_node(m, turned, 3, 0, 0));
  m.output(arg_node(m, turned, "max", 4, 0));
  m.output(reduce_node(m, turned, "max", {1, 3, 5, 7}));
  m.output(reduce_node(m, turned, "max", {0, 2, 4, 6}));
  const TensorId wide = m.input({3, 70000}, Type::U8);
  m.output(typed_binary(m, "xor", wide, m.input({70000}, Type::U8), Type::U8));
  m.output(m.node("Cast", {wide}, {{"to", std::string("float32")}}, {3, 70000}));
  check_typed(m, 0);
}
