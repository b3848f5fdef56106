// Element types of the graph on the device: arithmetic, comparison, selection and conversion of every type, alone and
// fused, against typed_reference.hpp.
#include <catch2/catch.hpp>

#include "tb/driver/compiler/backend/typed_bench.hpp"

using namespace cx;
using namespace cx::compiler;
using namespace cx::tb;

namespace {

TensorId compare_node(GraphMaker &m, const std::string &func, TensorId a, TensorId b) {
  return typed_binary(m, func, a, b, Type::Bool);
}

/// A value of the type that the group can use: an input, a constant or a scalar.
TensorId random_operand(GraphMaker &m, const Shape &shape, Type type) {
  Shape part = shape;
  if (m.pick(0, 2) == 0) {
    for (int64_t &size : part) size = m.pick(0, 1) == 1 ? 1 : size;
  }
  switch (m.pick(0, 3)) {
    case 0:
      return m.graph.add(random_tensor(m, "k", type, part));
    case 1:
      return m.graph.add(random_tensor(m, "s", type, {1}));
    default:
      return m.input(part, type);
  }
}

}  // namespace

TEST_CASE("integer arithmetic of every type") {
  const char *funcs[] = {"add", "sub", "mul", "max", "min", "and", "or", "xor"};
  repeat_typed(2000, 40, [&](GraphMaker &m) {
    const Type type = kIntegers[static_cast<std::size_t>(m.pick(0, 7))];
    const Shape shape = typed_shape(m, m.pick(1, 5), 8);
    TensorId y = m.input(shape, type);
    for (int64_t n = m.pick(1, 6); n > 0; --n) {
      const TensorId b = random_operand(m, shape, type);
      const char *func = funcs[m.pick(0, 7)];
      y = m.pick(0, 1) == 0 ? typed_binary(m, func, y, b, type) : typed_binary(m, func, b, y, type);
      if (m.pick(0, 2) == 0) y = m.unary("not", y);
      if (m.pick(0, 3) == 0)
        y = m.unary("clamp", y, m.pick(0, 1) == 0 ? -INFINITY : 3, m.pick(0, 1) == 0 ? INFINITY : 90);
    }
    if (m.shape(y) != shape) return;
    m.output(y);
    check_typed(m, 0);
  });
}

TEST_CASE("integer division, remainders, shifts and powers") {
  const char *funcs[] = {"div", "mod", "fmod", "shl", "shr", "pow"};
  repeat_typed(2100, 48, [&](GraphMaker &m) {
    const std::string func = funcs[m.pick(0, 5)];
    const Type type = kIntegers[static_cast<std::size_t>(m.pick(0, 7))];
    const Shape shape{m.pick(1, 40), m.pick(1, 40)};
    const TensorId a = m.input(shape, type);
    const TensorId b = m.input(shape, type);
    m.output(typed_binary(m, func, a, b, type));
    auto inputs = typed_inputs(m);
    // Divisors are not 0; shifts and exponents are small.
    Tensor &right = inputs.at(b);
    const auto size = static_cast<std::ptrdiff_t>(bytes_of(type));
    const bool division = func == "div" || func == "mod" || func == "fmod";
    std::vector<std::byte> &divisors = right.data.own();
    for (auto at = divisors.begin(); at != divisors.end(); at += size) {
      if (division) {
        *at |= std::byte{1};
      } else {
        std::fill(at, at + size, std::byte{0});
        *at = static_cast<std::byte>(m.pick(0, 8 * static_cast<int64_t>(size) + 3));
      }
    }
    check_typed(m, inputs, 0);
  });
}

TEST_CASE("integer functions of one operand") {
  const char *funcs[] = {"neg", "abs", "relu", "sign", "not", "floor", "round"};
  for (Type type : kIntegers) {
    GraphMaker m(2200);
    for (const char *func : funcs) m.output(m.unary(func, m.input({5, 33}, type)));
    check_typed(m, 0);
  }
}

TEST_CASE("comparisons of every type give Bool, logic works on it") {
  const char *funcs[] = {"eq", "ne", "lt", "le"};
  const char *logic[] = {"and", "or", "xor"};
  repeat_typed(2300, 60, [&](GraphMaker &m) {
    const Type type = m.pick(0, 1) == 0 ? kFloats[static_cast<std::size_t>(m.pick(0, 3))]
                                        : kIntegers[static_cast<std::size_t>(m.pick(0, 7))];
    const Shape shape = typed_shape(m, m.pick(1, 5), 9);
    const TensorId x = m.input(shape, type);
    const TensorId y = m.input(shape, type);
    const TensorId p = compare_node(m, funcs[m.pick(0, 3)], x, y);
    const TensorId q = compare_node(m, funcs[m.pick(0, 3)], random_operand(m, shape, type), x);
    const TensorId r = typed_binary(m, logic[m.pick(0, 2)], p, m.unary("not", q), Type::Bool);
    m.output(r);
    if (m.pick(0, 1) == 0) m.output(p);
    check_typed(m, 0);
  });
}

TEST_CASE("integers of 64 bits that floats cannot tell apart") {
  GraphMaker m(2400);
  const std::vector<int64_t> big{(int64_t{1} << 53) + 1, (int64_t{1} << 53), -(int64_t{1} << 62) - 1, INT64_MAX,
                                 INT64_MIN};
  const std::vector<int64_t> near{(int64_t{1} << 53), (int64_t{1} << 53), -(int64_t{1} << 62), INT64_MAX - 1,
                                  INT64_MAX};
  const TensorId a = m.input({5}, Type::I64);
  const TensorId b = m.graph.add(Tensor::constant<int64_t>("near", {5}, near));
  const TensorId one = m.graph.add(Tensor::constant<int64_t>("one", {1}, {(int64_t{1} << 53) + 1}));
  m.output(compare_node(m, "eq", a, b));
  m.output(compare_node(m, "lt", a, b));
  m.output(compare_node(m, "eq", a, one));
  m.output(typed_binary(m, "add", a, one, Type::I64));
  check_typed(m, {{a, Tensor::constant<int64_t>("in0", {5}, big)}}, 0);
}

TEST_CASE("conversion between all pairs of types") {
  for (Type from : kAllTypes) {
    GraphMaker m(2500 + static_cast<uint32_t>(from));
    const TensorId x = m.input({3, 50}, from);
    for (Type to : kAllTypes) {
      if (to != from) m.output(m.node("Cast", {x}, {{"to", std::string(name_of(to))}}, {3, 50}, to));
    }
    check_typed(m, 1e-2);
  }
}

TEST_CASE("floats to integers go toward zero and saturate") {
  GraphMaker m(2600);
  const std::vector<float> values{2.9F,      -2.9F, 0.5F, -0.5F, 1e30F,    -1e30F, INFINITY,
                                  -INFINITY, NAN,   300,  -300,  65535.5F, 4e9F};
  const Shape shape{static_cast<int64_t>(values.size())};
  const TensorId x = m.input(shape);
  for (Type to : {Type::I8, Type::U8, Type::I16, Type::U16, Type::I32, Type::U32, Type::I64, Type::U64, Type::Bool}) {
    m.output(m.node("Cast", {x}, {{"to", std::string(name_of(to))}}, shape, to));
  }
  check_typed(m, {{x, Tensor::constant<float>("in0", shape, values)}}, 0);
}

TEST_CASE("selection of every type, fused with what makes its condition") {
  repeat_typed(2700, 60, [&](GraphMaker &m) {
    const Type type = kAllTypes[static_cast<std::size_t>(m.pick(0, 12))];
    const Shape shape = typed_shape(m, m.pick(1, 5), 8);
    const TensorId x = m.input(shape);
    TensorId cond = compare_node(m, "lt", x, m.pick(0, 1) == 0 ? m.scalar(0.25F) : m.input(shape));
    if (m.pick(0, 2) == 0) {
      Shape part = shape;
      part[0] = 1;
      cond = m.input(part, Type::Bool);
    }
    TensorId a = random_operand(m, shape, type);
    TensorId b = random_operand(m, shape, type);
    if (type == Type::F32 && m.pick(0, 1) == 0) a = m.unary("neg", x);
    const TensorId both = typed_select(m, cond, a, b);
    if (m.shape(both) != shape) return;
    m.output(typed_select(m, compare_node(m, "le", x, m.scalar(-0.25F)), both, b));
    if (m.pick(0, 1) == 0) m.output(both);
    check_typed(m, 0);
  });
}

TEST_CASE("mixed groups: counts, masks and floats in one run") {
  repeat_typed(2800, 20, [&](GraphMaker &m) {
    const Shape shape{m.pick(1, 3), m.pick(1, 30), m.pick(1, 30)};
    const TensorId x = m.input(shape);
    const TensorId n = m.input(shape, Type::I64);
    const TensorId mask = compare_node(m, "lt", x, m.scalar(0.0F));
    const TensorId as_int = m.node("Cast", {mask}, {{"to", std::string("int64")}}, shape, Type::I64);
    const TensorId sum = typed_binary(m, "add", n, as_int, Type::I64);
    const TensorId even = compare_node(
        m, "eq", typed_binary(m, "and", sum, m.graph.add(Tensor::constant<int64_t>("one", {1}, {1})), Type::I64),
        m.graph.add(Tensor::constant<int64_t>("zero", {}, {0})));
    const TensorId picked = typed_select(m, even, m.unary("relu", x), m.scalar(-1.0F));
    m.output(m.binary("mul", picked, m.scalar(2.0F)));
    m.output(sum);
    check_typed(m, 0);
  });
}

TEST_CASE("float functions: trunc, atan, remainders, tests for NaN and infinity") {
  GraphMaker m(2900);
  const TensorId x = m.input({8});
  const TensorId y = m.input({8});
  m.output(m.unary("trunc", x));
  m.output(m.unary("atan", x));
  m.output(m.node("Unary", {x}, {{"func", std::string("is_nan")}, {"alpha", 0.0F}, {"beta", 0.0F}}, {8}, Type::Bool));
  for (float sign : {0.0F, 1.0F, -1.0F}) {
    m.output(m.node("Unary", {x}, {{"func", std::string("is_inf")}, {"alpha", sign}, {"beta", 0.0F}}, {8}, Type::Bool));
  }
  const std::vector<float> a{1.5F, -1.5F, INFINITY, -INFINITY, NAN, 0, 7.25F, -0.75F};
  check_typed(m, {{x, Tensor::constant<float>("in0", {8}, a)}, {y, Tensor::constant<float>("in1", {8}, a)}}, 1e-6);
  GraphMaker r(2901);
  const TensorId u = r.input({6});
  const TensorId v = r.input({6});
  r.output(r.binary("mod", u, v));
  r.output(r.binary("fmod", u, v));
  const std::vector<float> left{5.5F, -5.5F, 5.5F, -5.5F, 6, 0.25F};
  const std::vector<float> right{2, 2, -2, -2, 3, 4};
  check_typed(r, {{u, Tensor::constant<float>("in0", {6}, left)}, {v, Tensor::constant<float>("in1", {6}, right)}}, 0);
}

TEST_CASE("doubles are stored, their arithmetic is FP32") {
  GraphMaker m(2950);
  const TensorId x = m.input({2, 6, 9, 9}, Type::F64);
  const TensorId w = m.graph.add(random_tensor(m, "w", Type::F64, {4, 6, 3, 3}));
  const TensorId y = m.node("Conv", {x, w},
                            {{"strides", std::vector<int64_t>{1, 1}},
                             {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                             {"dilations", std::vector<int64_t>{1, 1}},
                             {"group", int64_t{1}}},
                            {2, 4, 9, 9}, Type::F64);
  m.output(y);
  m.output(m.node("Pool", {x},
                  {{"kind", std::string("max")},
                   {"kernel", std::vector<int64_t>{3, 3}},
                   {"strides", std::vector<int64_t>{2, 2}},
                   {"pads", std::vector<int64_t>{1, 1, 1, 1}},
                   {"dilations", std::vector<int64_t>{1, 1}},
                   {"count_include_pad", int64_t{1}}},
                  {2, 6, 5, 5}, Type::F64));
  m.output(m.node("Reduce", {x},
                  {{"kind", std::string("sum")}, {"axes", std::vector<int64_t>{1, 3}}, {"keepdims", int64_t{1}}},
                  {2, 1, 9, 1}, Type::F64));
  m.output(m.node("Pad", {x}, {{"pads", std::vector<int64_t>{0, 0, 1, 0, 0, 0, 0, 2}}, {"value", 0.1F}}, {2, 6, 10, 11},
                  Type::F64));
  check_typed(m, 5e-2);
}
