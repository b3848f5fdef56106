// Trigonometric, hyperbolic and inverse functions, spelled out.
#include <cmath>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;

// log(1 + u) for u of 0 or more, accurate where u is small: the rounding of 1 + u is taken back by u / ((1 + u) - 1).
TensorId log_1p(Builder &b, TensorId u) {
  const TensorId sum = b.binary("add", u, 1.0);
  const TensorId rounded = b.binary("sub", sum, 1.0);
  const TensorId exact = b.binary("mul", b.unary("log", sum), b.binary("div", u, rounded));
  // Too small to change 1: u itself. Infinite: the quotient is no number.
  const Type type = b[u].type;
  const TensorId large = b.select(b.compare("gt", u, b.scalar(type, 1e8)), b.unary("log", u), exact);
  return b.select(b.compare("eq", rounded, b.scalar(type, 0)), u, large);
}

TensorId with_sign_of(Builder &b, TensorId magnitude, TensorId x) {
  return b.select(b.compare("lt", x, b.scalar(b[x].type, 0)), b.unary("neg", magnitude), magnitude);
}

// For x of 0 or more, squares of which may leave FP32: these functions are then log(2 x) to all digits.
TensorId or_log_2x(Builder &b, TensorId x, TensorId result) {
  const TensorId log = b.binary("add", b.unary("log", x), std::log(2.0));
  return b.select(b.compare("gt", x, b.scalar(b[x].type, 1e9)), log, result);
}

Ids sinh(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  // 2 t / (1 - t^2) with t = tanh(x / 2) keeps small values; exponentials, halved before they overflow, the others.
  const TensorId t = b.unary("tanh", b.binary("mul", x, 0.5));
  const TensorId below = b.binary("sub", b.scalar(b[x].type, 1), b.binary("mul", t, t));
  const TensorId small = b.binary("div", b.binary("mul", t, 2.0), below);
  const TensorId size = b.unary("abs", x);
  const TensorId root = b.unary("exp", b.binary("mul", size, 0.5));
  const TensorId half = b.binary("mul", root, 0.5);
  const TensorId grown = b.binary("sub", b.binary("mul", half, root),
                                  b.binary("div", b.binary("div", b.scalar(b[x].type, 0.5), root), root));
  const TensorId large = with_sign_of(b, grown, x);
  return {b.select(b.compare("lt", size, b.scalar(b[x].type, 1)), small, large)};
}

Ids cosh(NodeContext &n) {
  Builder &b = n.b;
  const TensorId root = b.unary("exp", b.binary("mul", b.unary("abs", n.input(0)), 0.5));
  const TensorId half = b.binary("mul", root, 0.5);
  const TensorId falling = b.binary("div", b.scalar(b[root].type, 0.5), root);
  return {b.binary("add", b.binary("mul", half, root), b.binary("div", falling, root))};
}

Ids asinh(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId size = b.unary("abs", x);
  const TensorId square = b.binary("mul", size, size);
  // |x| + sqrt(x^2 + 1) - 1 without the difference of near numbers
  const TensorId root = b.unary("sqrt", b.binary("add", square, 1.0));
  const TensorId u = b.binary("add", size, b.binary("div", square, b.binary("add", root, 1.0)));
  return {with_sign_of(b, or_log_2x(b, size, log_1p(b, u)), x)};
}

Ids acosh(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId t = b.binary("sub", x, 1.0);
  const TensorId root = b.unary("sqrt", b.binary("mul", t, b.binary("add", t, 2.0)));
  return {or_log_2x(b, x, log_1p(b, b.binary("add", t, root)))};
}

Ids atanh(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId size = b.unary("abs", x);
  const TensorId rest = b.binary("sub", b.scalar(b[x].type, 1), size);
  const TensorId u = b.binary("div", b.binary("mul", size, 2.0), rest);
  return {with_sign_of(b, b.binary("mul", log_1p(b, u), 0.5), x)};
}

Ids atan(NodeContext &n) { return {n.b.unary("atan", n.input(0))}; }

// atan(x / sqrt((1 - x) (1 + x))); at the ends the quotient is infinite, beyond them no number.
Ids asin(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId rest = b.binary("mul", b.binary("sub", b.scalar(b[x].type, 1), x), b.binary("add", x, 1.0));
  return {b.unary("atan", b.binary("div", x, b.unary("sqrt", rest)))};
}

// 2 atan(sqrt((1 - x) / (1 + x)))
Ids acos(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId ratio = b.binary("div", b.binary("sub", b.scalar(b[x].type, 1), x), b.binary("add", x, 1.0));
  return {b.binary("mul", b.unary("atan", b.unary("sqrt", ratio)), 2.0)};
}

}  // namespace

void register_trigonometry(LoweringTable &table) {
  table["Sinh"] = sinh;
  table["Cosh"] = cosh;
  table["Asinh"] = asinh;
  table["Acosh"] = acosh;
  table["Atanh"] = atanh;
  table["Asin"] = asin;
  table["Acos"] = acos;
  table["Atan"] = atan;
}

}  // namespace cx::compiler
