// Folding on the host against the reference evaluator: every operator and type that run-time values may have.
#include <catch2/catch.hpp>
#include <iostream>
#include <random>

#include "driver/compiler/frontend/builder.hpp"
#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/reference_eval.hpp"

using namespace cx::compiler;

namespace {

using Emit = std::function<TensorId(Builder &, const std::vector<TensorId> &)>;

constexpr Type kIntegers[] = {Type::I8, Type::U8, Type::I16, Type::U16, Type::I32, Type::U32, Type::I64, Type::U64};

bool is_signed(Type type) { return type == Type::I8 || type == Type::I16 || type == Type::I32 || type == Type::I64; }

// Numbers whose products still are exact in double; with the ends of narrow types, so that results wrap.
Tensor random_tensor(std::mt19937_64 &random, Type type, const Shape &shape, int64_t low, int64_t high) {
  std::vector<double> values;
  for (int64_t i = 0; i < elements(shape); ++i) {
    const auto whole =
        static_cast<double>(low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1)));
    values.push_back(type == Type::F32 ? whole / 8 : whole);
  }
  return make_constant("", type, shape, values);
}

// One node over the given values: folded, because all are constant, and evaluated, because all are inputs.
void compare(const std::string &what, const std::vector<Tensor> &values, const Emit &emit) {
  Graph folded;
  Builder folding(folded);
  std::vector<TensorId> constants;
  for (const Tensor &value : values) constants.push_back(folded.add(value));
  const TensorId result = emit(folding, constants);
  REQUIRE(folding.is_constant(result));

  Graph graph;
  Builder builder(graph);
  std::vector<TensorId> ids;
  std::map<std::string, Values> inputs;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::string name = "x" + std::to_string(i);
    ids.push_back(graph.add(Tensor{name, values[i].type, values[i].shape, std::nullopt}));
    graph.inputs.push_back(ids.back());
    inputs[name] = values_of(values[i]);
  }
  graph.outputs = {emit(builder, ids)};
  graph[graph.outputs[0]].name = "y";
  verify(graph);
  verify_shapes(graph);
  INFO(what);
  CHECK(folded[result].type == graph[graph.outputs[0]].type);
  const Values expected = evaluate_reference(graph, inputs).at("y");
  const Values actual = values_of(folded[result]);
  REQUIRE(actual.shape == expected.shape);
  for (std::size_t i = 0; i < actual.data.size(); ++i) {
    const bool same =
        actual.data[i] == expected.data[i] || (std::isnan(actual.data[i]) && std::isnan(expected.data[i]));
    INFO("element " << i << ": " << actual.data[i] << ", expected " << expected.data[i]);
    CHECK(same);
  }
}

}  // namespace

TEST_CASE("Folded integer arithmetic and comparisons agree with the reference") {
  const unsigned seed = 11;
  std::cout << "integer seed " << seed << '\n';
  std::mt19937_64 random(seed);
  for (Type type : kIntegers) {
    const int64_t low = is_signed(type) ? -100 : 0;
    for (const char *func : {"add", "sub", "mul", "max", "min", "and", "or", "xor", "eq", "ne", "lt", "le"}) {
      // The ends of 64-bit types are no doubles.
      if (type == Type::U64 && std::string(func) == "sub") continue;
      const std::vector<Tensor> values = {random_tensor(random, type, {3, 1, 4}, low, 120),
                                          random_tensor(random, type, {2, 4}, low, 120)};
      compare(std::string(func) + " " + name_of(type), values,
              [&](Builder &b, const std::vector<TensorId> &x) { return b.binary(func, x[0], x[1]); });
    }
    for (const char *func : {"div", "mod", "fmod"}) {
      Tensor divisor = random_tensor(random, type, {24}, 1, 9);
      const std::vector<Tensor> values = {random_tensor(random, type, {24}, low, 120), divisor};
      compare(std::string(func) + " " + name_of(type), values,
              [&](Builder &b, const std::vector<TensorId> &x) { return b.binary(func, x[0], x[1]); });
    }
    for (const char *func : {"shl", "shr", "pow"}) {
      const std::vector<Tensor> values = {random_tensor(random, type, {24}, 0, 20),
                                          random_tensor(random, type, {24}, 0, 5)};
      compare(std::string(func) + " " + name_of(type), values,
              [&](Builder &b, const std::vector<TensorId> &x) { return b.binary(func, x[0], x[1]); });
    }
    for (const char *func : {"neg", "abs", "relu", "sign", "not"}) {
      if (type == Type::U64) continue;
      compare(std::string(func) + " " + name_of(type), {random_tensor(random, type, {30}, low, 120)},
              [&](Builder &b, const std::vector<TensorId> &x) { return b.unary(func, x[0]); });
    }
    for (const char *kind : {"sum", "max", "min", "prod", "sumsq", "abssum"}) {
      compare(std::string(kind) + " " + name_of(type), {random_tensor(random, type, {3, 4, 2}, low / 20, 6)},
              [&](Builder &b, const std::vector<TensorId> &x) { return b.reduce(kind, x[0], {1}); });
    }
  }
  compare("not bool", {random_tensor(random, Type::Bool, {10}, 0, 1)},
          [](Builder &b, const std::vector<TensorId> &x) { return b.unary("not", x[0]); });
}

TEST_CASE("Folded conversions agree with the reference") {
  std::mt19937_64 random(12);
  std::vector<Type> types(std::begin(kIntegers), std::end(kIntegers));
  types.insert(types.end(), {Type::F32, Type::F16, Type::Bool});
  for (Type from : types) {
    for (Type to : types) {
      if (from == to) continue;
      const int64_t low = is_signed(from) || from == Type::F32 ? -3000 : 0;
      if (low < 0 && to == Type::U64 && from != Type::F32) continue;  // 2^64 - 1 is no double
      const int64_t high = from == Type::Bool ? 1 : 3000;
      compare(std::string(name_of(from)) + " to " + name_of(to), {random_tensor(random, from, {40}, low, high)},
              [&](Builder &b, const std::vector<TensorId> &x) { return b.cast(x[0], to); });
    }
  }
  const double huge[] = {std::nan(""), 1e30, -1e30, INFINITY, -INFINITY, -0.5, 0.99, 255.5};
  for (Type to : {Type::I8, Type::U8, Type::I16, Type::U16, Type::I32, Type::U32}) {
    compare(name_of(to), {make_constant("", Type::F32, {8}, std::vector<double>(std::begin(huge), std::end(huge)))},
            [&](Builder &b, const std::vector<TensorId> &x) { return b.cast(x[0], to); });
  }
}

TEST_CASE("Folded selection, indices, running sums and orders agree with the reference") {
  std::mt19937_64 random(13);
  for (Type type : {Type::F32, Type::I8, Type::I32, Type::I64, Type::U16}) {
    const int64_t low = is_signed(type) || type == Type::F32 ? -9 : 0;
    const Tensor x = random_tensor(random, type, {2, 5, 3}, low, 9);
    compare("select", {random_tensor(random, Type::Bool, {5, 1}, 0, 1), x, random_tensor(random, type, {3}, low, 9)},
            [](Builder &b, const std::vector<TensorId> &v) { return b.select(v[0], v[1], v[2]); });
    for (int64_t axis = 0; axis < 3; ++axis) {
      const int64_t size = x.shape[static_cast<std::size_t>(axis)];
      Shape shape = {2, 5, 1};
      shape[static_cast<std::size_t>(axis)] = 4;
      compare("take along", {x, random_tensor(random, Type::I64, shape, -size, size - 1)},
              [&](Builder &b, const std::vector<TensorId> &v) { return b.take_along(v[0], v[1], axis); });
      Shape updated = {1, 4, 2};
      for (const char *func : {"set", "add", "mul", "max", "min"}) {
        Shape index_shape = updated;
        if (axis != 1) index_shape[1] = 1;
        compare(
            std::string("scatter ") + func,
            {x, random_tensor(random, Type::I32, index_shape, -size, size - 1),
             random_tensor(random, type, updated, low, 9)},
            [&](Builder &b, const std::vector<TensorId> &v) { return b.scatter_along(v[0], v[1], v[2], axis, func); });
      }
      for (int flags = 0; flags < 4; ++flags) {
        compare("running sum", {x}, [&](Builder &b, const std::vector<TensorId> &v) {
          return b.cumulative_sum(v[0], axis, (flags & 1) != 0, (flags & 2) != 0);
        });
        compare("extreme", {x}, [&](Builder &b, const std::vector<TensorId> &v) {
          return b.arg_reduce((flags & 1) != 0 ? "max" : "min", v[0], axis, (flags & 2) != 0);
        });
        compare("top k", {x}, [&](Builder &b, const std::vector<TensorId> &v) {
          return b.top_k(v[0], axis, std::max<int64_t>(1, size - flags), (flags & 1) != 0);
        });
      }
    }
  }
}

TEST_CASE("Operands that an operator does not take are refused") {
  Graph graph;
  Builder b(graph);
  const TensorId floats = b.constant(make_constant("f", Type::F32, {2}, std::vector<double>{1, 2}));
  const TensorId whole = b.constant(make_constant("i", Type::I32, {2}, std::vector<double>{1, 2}));
  const TensorId flags = b.constant(make_constant("b", Type::Bool, {2}, std::vector<double>{1, 0}));
  CHECK_THROWS_AS(b.binary("and", floats, floats), cx::InputError);
  CHECK_THROWS_AS(b.binary("shl", flags, flags), cx::InputError);
  CHECK_THROWS_AS(b.binary("add", flags, flags), cx::InputError);
  CHECK_THROWS_AS(b.binary("add", whole, floats), cx::InputError);
  CHECK_THROWS_AS(b.unary("exp", whole), cx::InputError);
  CHECK_THROWS_AS(b.unary("not", floats), cx::InputError);
  CHECK_THROWS_AS(b.select(whole, floats, floats), cx::InputError);
  CHECK_THROWS_AS(b.take_along(floats, floats, 0), cx::InputError);
  CHECK_THROWS_AS(b.take_along(floats, b.integers({2}), 0), cx::InputError);
  CHECK_THROWS_AS(b.scatter_along(floats, b.integers({0, 1}), b.slice_axis(floats, 0, 0, 1), 0), cx::InputError);
  CHECK_THROWS_AS(b.top_k(floats, 0, 3, true), cx::InputError);
  CHECK_THROWS_AS(b.arg_reduce("mean", floats, 0, false), cx::InputError);
  CHECK_THROWS_AS(b.emit("MatMul", {b.reshape(whole, {1, 2}), b.reshape(whole, {2, 1})}, {{"trans_b", int64_t{0}}}),
                  cx::InputError);
}
