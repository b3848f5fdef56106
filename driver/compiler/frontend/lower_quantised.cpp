// Quantised models. Device products take int8: uint8 elements and their zero points are moved by 128 first, and zero
// points become sums of the other operand that are added to the products.
#include <algorithm>
#include <cmath>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/quantised.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

bool is_byte(Type type) { return type == Type::I8 || type == Type::U8; }

// ---- Elements of 8 bits as int8

// Elements as int8: those of uint8 less 128.
TensorId as_int8(Builder &b, TensorId x) {
  if (b[x].type == Type::I8) return x;
  if (b[x].type != Type::U8) {
    throw UnsupportedError("product",
                           std::string("products of ") + name_of(b[x].type) + "; int8 and uint8 are supported");
  }
  // What was just rounded is converted to int8 at once.
  if (auto found = b.rounded.find(x); found != b.rounded.end()) {
    const TensorId zero = b.binary("sub", found->second.zero_point, 128.0);
    return b.cast(b.binary("add", found->second.value, zero), Type::I8);
  }
  return b.binary("xor", b.cast(x, Type::I8), b.scalar(Type::I8, -128));
}

// A zero point in the same sense, as I32 of one element or a list; kNoTensor for 0.
TensorId moved_zero_point(Builder &b, TensorId zero_point, Type type) {
  const int64_t move = type == Type::U8 ? 128 : 0;
  if (zero_point == kNoTensor) return move == 0 ? kNoTensor : b.scalar(Type::I32, static_cast<double>(-move));
  TensorId moved = b.cast(zero_point, Type::I32);
  if (move != 0) moved = b.binary("sub", moved, static_cast<double>(move));
  if (!b.is_constant(moved)) return moved;
  const Integers values = to_integers(b[moved]);
  return std::all_of(values.begin(), values.end(), [](int64_t v) { return v == 0; }) ? kNoTensor : moved;
}

struct IntegerOperand {
  TensorId x = kNoTensor;     // I8
  TensorId zero = kNoTensor;  // I32, or kNoTensor
};

IntegerOperand integer_operand(Builder &b, TensorId x, TensorId zero_point) {
  if (!is_byte(b[x].type)) {
    throw UnsupportedError("product", std::string("products of ") + name_of(b[x].type) + " tensor '" +
                                          printable(b[x].name) + "'; int8 and uint8 are supported");
  }
  if (zero_point != kNoTensor && b[zero_point].type != b[x].type) {
    throw InputError("zero point '" + printable(b[zero_point].name) + "' must have the type of '" +
                     printable(b[x].name) + "'");
  }
  return {as_int8(b, x), moved_zero_point(b, zero_point, b[x].type)};
}

// Constant weights less their zero points, where that fits int8. The zero point lies along `axis` of the weights.
void absorb_zero_point(Builder &b, IntegerOperand &w, std::size_t axis) {
  if (w.zero == kNoTensor || !b.is_constant(w.x) || !b.is_constant(w.zero)) return;
  Shape along(b.shape(w.x).size(), 1);
  const int64_t count = elements(b.shape(w.zero));
  if (count != 1) along[axis] = count;
  const TensorId difference = b.binary("sub", b.cast(w.x, Type::I32), b.reshape(w.zero, along));
  const Integers values = to_integers(b[difference]);
  const bool fits = std::all_of(values.begin(), values.end(), [](int64_t v) { return v >= -128 && v <= 127; });
  if (!fits) return;
  w.x = b.cast(difference, Type::I8);
  w.zero = kNoTensor;
}

TensorId integer_sum(Builder &b, TensorId x, const Integers &axes) {
  return b.reduce("sum", b.cast(x, Type::I32), axes);
}

// ---- Convolutions of two dimensions

struct Convolution {
  Window window;
  int64_t group = 1;
};

TensorId convolve(Builder &b, TensorId x, TensorId w, const Convolution &c, int64_t pad_value,
                  const Ids &epilogue = {}) {
  Ids inputs = {x, w};
  inputs.insert(inputs.end(), epilogue.begin(), epilogue.end());
  return b.emit("Conv", inputs,
                {{"strides", c.window.strides},
                 {"pads", Integers{c.window.begin[0], c.window.begin[1], c.window.end[0], c.window.end[1]}},
                 {"dilations", c.window.dilations},
                 {"group", c.group},
                 {"pad_value", pad_value}});
}

bool padded(const Window &window) {
  auto any = [](const Integers &values) {
    return std::any_of(values.begin(), values.end(), [](int64_t v) { return v != 0; });
  };
  return any(window.begin) || any(window.end);
}

TensorId ones(Builder &b, const Shape &shape) { return b.expand(b.scalar(Type::I8, 1), shape); }

// sum of (x - zx)(w - zw) over each window, I32 and exact. Padding holds zx.
TensorId exact_convolution(Builder &b, const IntegerOperand &x, const IntegerOperand &w, const Convolution &c) {
  const Shape xs = b.shape(x.x);
  const Shape ws = b.shape(w.x);
  const bool pads = padded(c.window);
  // A zero point that is known only at run time pads with 0 and counts the elements that are there.
  const bool known = x.zero == kNoTensor || b.is_constant(x.zero);
  const bool counting = pads && !known;
  const int64_t pad_value = known && x.zero != kNoTensor ? to_integers(b[x.zero])[0] : 0;
  TensorId sum = convolve(b, x.x, w.x, c, pad_value);
  // A convolution's map is no constant on the device unless all of it is: ones of x's shape come from x itself.
  TensorId map_of_ones = kNoTensor;
  if (counting && b.is_constant(w.x)) map_of_ones = ones(b, {1, xs[1], xs[2], xs[3]});
  if (counting && !b.is_constant(w.x)) {
    map_of_ones = b.binary("or", b.binary("and", x.x, b.scalar(Type::I8, 0)), b.scalar(Type::I8, 1));
  }
  if (x.zero != kNoTensor) {
    const TensorId weights =
        counting ? convolve(b, map_of_ones, w.x, c, 0) : b.reshape(integer_sum(b, w.x, {1, 2, 3}), {1, ws[0], 1, 1});
    sum = b.binary("sub", sum, b.binary("mul", weights, b.reshape(x.zero, {1, 1, 1, 1})));
  }
  if (w.zero == kNoTensor) return sum;
  // Sums of x in each window are convolutions with ones, one for each group.
  const TensorId kernel = ones(b, {c.group, ws[1], ws[2], ws[3]});
  TensorId inputs = convolve(b, x.x, kernel, c, pad_value);
  if (x.zero != kNoTensor) {
    const TensorId zero = b.reshape(x.zero, {1, 1, 1, 1});
    const TensorId count = counting ? convolve(b, map_of_ones, kernel, c, 0)
                                    : b.scalar(Type::I32, static_cast<double>(ws[1] * ws[2] * ws[3]));
    inputs = b.binary("sub", inputs, b.binary("mul", count, zero));
  }
  const Shape is = b.shape(inputs);
  const int64_t per_group = ws[0] / c.group;
  const TensorId spread =
      b.expand(b.reshape(inputs, {is[0], c.group, 1, is[2], is[3]}), {is[0], c.group, per_group, is[2], is[3]});
  const int64_t zeros = elements(b.shape(w.zero));
  const TensorId zero = b.reshape(w.zero, {1, zeros, 1, 1});
  return b.binary("sub", sum, b.binary("mul", b.reshape(spread, {is[0], ws[0], is[2], is[3]}), zero));
}

// Operands of a node with 1 or 2 spatial dimensions as maps of two.
struct Maps {
  TensorId x = kNoTensor;
  TensorId w = kNoTensor;
  Convolution convolution;
  bool flat = false;  // the result loses its height again
};

Maps as_maps(Builder &b, TensorId x, TensorId w, Window window, int64_t group) {
  Maps maps{x, w, {std::move(window), group}, false};
  Window &own = maps.convolution.window;
  if (own.rank() != 1) return maps;
  maps.flat = true;
  for (Integers *values : {&own.kernel, &own.strides, &own.dilations}) values->insert(values->begin(), 1);
  for (Integers *values : {&own.begin, &own.end}) values->insert(values->begin(), 0);
  const Shape xs = b.shape(x);
  const Shape ws = b.shape(w);
  maps.x = b.reshape(x, {xs[0], xs[1], 1, xs[2]});
  maps.w = b.reshape(w, {ws[0], ws[1], 1, ws[2]});
  return maps;
}

TensorId without_height(Builder &b, const Maps &maps, TensorId y) {
  if (!maps.flat) return y;
  const Shape ys = b.shape(y);
  return b.reshape(y, {ys[0], ys[1], ys[3]});
}

// Reads the node's window and checks operands against each other.
Maps read_convolution(NodeContext &n, TensorId x, TensorId w) {
  Builder &b = n.b;
  const Shape xs = b.shape(x);
  const Shape ws = b.shape(w);
  if (xs.size() < 3 || ws.size() != xs.size()) {
    throw InputError("input " + to_text(xs) + " and weights " + to_text(ws) + " must have the same rank, 3 or more");
  }
  if (xs.size() > 4) throw UnsupportedError(n.op(), "integer convolutions of 3 or more spatial dimensions");
  const Integers kernel(ws.begin() + 2, ws.end());
  if (n.integers("kernel_shape", kernel) != kernel) {
    throw InputError("attribute 'kernel_shape' " + to_text(n.integers("kernel_shape")) + " differs from the weights " +
                     to_text(ws));
  }
  const int64_t group = n.integer("group", 1);
  if (group < 1 || xs[1] % group != 0 || xs[1] / group != ws[1] || ws[0] % group != 0) {
    throw InputError("weights " + to_text(ws) + " with group " + std::to_string(group) +
                     " do not fit the channels of " + to_text(xs));
  }
  return as_maps(b, x, w, read_window(n, kernel, Integers(xs.begin() + 2, xs.end())), group);
}

// ---- Matrix products

// sum of (a - za)(w - zw), I32 and exact. za has one element or one per row, zw one or one per column.
TensorId exact_matmul(Builder &b, const IntegerOperand &a, const IntegerOperand &w) {
  const int64_t depth = b.shape(a.x).back();
  TensorId sum = b.emit("MatMul", {a.x, w.x}, {{"trans_b", int64_t{0}}});
  const int64_t rank_a = b.rank(a.x);
  const int64_t rank_w = b.rank(w.x);
  TensorId rows = kNoTensor;  // za along the rows
  if (a.zero != kNoTensor) {
    const Shape zs = b.shape(a.zero);
    rows = elements(zs) == 1 ? b.reshape(a.zero, {1, 1}) : (zs.size() == 1 ? b.reshape(a.zero, {zs[0], 1}) : a.zero);
    sum = b.binary("sub", sum, b.binary("mul", integer_sum(b, w.x, {rank_w - 2}), rows));
  }
  if (w.zero == kNoTensor) return sum;
  const TensorId columns = elements(b.shape(w.zero)) == 1 ? b.reshape(w.zero, {1, 1}) : w.zero;
  TensorId inputs = integer_sum(b, a.x, {rank_a - 1});
  if (rows != kNoTensor) inputs = b.binary("sub", inputs, b.binary("mul", rows, static_cast<double>(depth)));
  return b.binary("sub", sum, b.binary("mul", inputs, columns));
}

// ---- Quantising

void check_parameter(Builder &b, TensorId parameter, const Shape &shape, int64_t axis, const char *role) {
  const Shape ps = b.shape(parameter);
  const bool fits =
      elements(ps) == 1 || (ps.size() == 1 && axis >= 0 && ps[0] == shape[static_cast<std::size_t>(axis)]);
  if (!fits) {
    throw InputError(std::string(role) + " has shape " + to_text(ps) + ", expected one element" +
                     (axis < 0 ? "" : " or " + std::to_string(shape[static_cast<std::size_t>(axis)])));
  }
}

// How scale and zero point lie against a tensor: for the whole, along an axis, or in blocks along an axis.
class Scaling {
 public:
  Scaling(NodeContext &n, const Shape &shape) : b_(n.b), shape_(shape) {
    const Shape scale = b_.shape(n.input(1));
    const auto rank = static_cast<int64_t>(shape.size());
    block_ = n.integer("block_size", 0);
    if (block_ < 0) throw InputError("attribute 'block_size' is " + std::to_string(block_));
    if (block_ > 0 && elements(shape) == 0) throw UnsupportedError(n.op(), "blocks of a tensor without elements");
    if (block_ == 0 && elements(scale) == 1 && scale.size() <= 1) return;
    axis_ = NodeContext::axis(n.integer("axis", 1), rank);
    const auto position = static_cast<std::size_t>(axis_);
    Shape expected = {shape[position]};
    if (block_ > 0) {
      expected = shape;
      expected[position] = (shape[position] + block_ - 1) / block_;
    }
    if (scale != expected) {
      throw InputError("scale has shape " + to_text(scale) + ", expected " + to_text(expected) + " for axis " +
                       std::to_string(axis_) + " of " + to_text(shape));
    }
  }

  bool blocked() const { return block_ > 0; }
  int64_t axis() const { return axis_; }

  // A parameter as it broadcasts to the tensor.
  TensorId spread(TensorId parameter) const {
    if (axis_ < 0) return b_.reshape(parameter, {});
    const auto position = static_cast<std::size_t>(axis_);
    if (block_ > 0) {
      Integers indices;
      for (int64_t i = 0; i < shape_[position]; ++i) indices.push_back(i / block_);
      return b_.gather(parameter, axis_, indices);
    }
    Shape along(shape_.size(), 1);
    along[position] = shape_[position];
    return b_.reshape(parameter, along);
  }

 private:
  Builder &b_;
  const Shape shape_;
  int64_t axis_ = -1;
  int64_t block_ = 0;
};

Type quantised_type(const NodeContext &n, TensorId zero_point) {
  Type type = Type::U8;
  if (zero_point != kNoTensor) {
    type = n.b[zero_point].type;
  } else if (const int64_t stated = n.integer("output_dtype", 0); stated != 0) {
    type = type_from_onnx(static_cast<int>(stated), "attribute 'output_dtype'");
  }
  if (type != Type::U8 && type != Type::I8 && type != Type::U16 && type != Type::I16) {
    throw UnsupportedError(
        n.op(), std::string("results of type ") + name_of(type) + "; int8, uint8, int16 and uint16 are supported");
  }
  return type;
}

// Whole numbers of FP32 plus a zero point, saturated.
TensorId saturated(Builder &b, TensorId whole, TensorId zero_point, Type type) {
  const TensorId zero = zero_point == kNoTensor ? b.scalar(Type::F32, 0) : b.cast(zero_point, Type::F32);
  const TensorId y = b.cast(b.binary("add", whole, zero), type);
  b.rounded[y] = {whole, zero};
  return y;
}

TensorId dequantised(Builder &b, TensorId x, TensorId scale, TensorId zero_point) {
  TensorId y = b.cast(x, Type::F32);
  if (zero_point != kNoTensor) y = b.binary("sub", y, b.cast(zero_point, Type::F32));
  return b.binary("mul", y, scale);
}

Ids quantize_linear(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = b.cast(n.input(0), Type::F32);
  const Scaling scaling(n, b.shape(x));
  const Type type = quantised_type(n, n.optional_input(2));
  TensorId zero = n.optional_input(2);
  if (zero != kNoTensor && b.shape(zero) != b.shape(n.input(1)) && elements(b.shape(zero)) != 1) {
    throw InputError("zero point has shape " + to_text(b.shape(zero)) + ", expected that of the scale, " +
                     to_text(b.shape(n.input(1))));
  }
  if (zero != kNoTensor) zero = elements(b.shape(zero)) == 1 ? b.reshape(zero, {}) : scaling.spread(zero);
  const TensorId scale = b.cast(scaling.spread(n.input(1)), Type::F32);
  return {saturated(b, b.unary("round", b.binary("div", x, scale)), zero, type)};
}

Ids dequantize_linear(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  if (!is_integer(b[x].type)) {
    throw UnsupportedError(n.op(), std::string("input of type ") + name_of(b[x].type) + "; integers are supported");
  }
  const Scaling scaling(n, b.shape(x));
  const TensorId zero = n.optional_input(2);
  if (zero != kNoTensor && (b[zero].type != b[x].type || b.shape(zero) != b.shape(n.input(1)))) {
    throw InputError("zero point is " + std::string(name_of(b[zero].type)) + to_text(b.shape(zero)) +
                     ", expected the type of the input and the shape of the scale, " + name_of(b[x].type) +
                     to_text(b.shape(n.input(1))));
  }
  const TensorId y = dequantised(b, x, scaling.spread(b.cast(n.input(1), Type::F32)),
                                 zero == kNoTensor ? kNoTensor : scaling.spread(zero));
  if (is_byte(b[x].type) && !scaling.blocked()) b.dequantised[y] = {x, n.input(1), zero, scaling.axis()};
  return {y};
}

Ids dynamic_quantize_linear(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  Integers axes;
  for (int64_t d = 0; d < b.rank(x); ++d) axes.push_back(d);
  const TensorId high = b.binary("max", b.reshape(b.reduce("max", x, axes), {}), 0.0);
  const TensorId low = b.binary("min", b.reshape(b.reduce("min", x, axes), {}), 0.0);
  const TensorId width = b.binary("div", b.binary("sub", high, low), 255.0);
  // All zeros: any scale is right, but 0.
  const TensorId scale = b.select(b.compare("eq", width, b.scalar(Type::F32, 0)), b.scalar(Type::F32, 1), width);
  const TensorId zero =
      b.cast(b.unary("round", b.unary("clamp", b.unary("neg", b.binary("div", low, scale)), 0, 255)), Type::U8);
  const TensorId y = saturated(b, b.unary("round", b.binary("div", x, scale)), zero, Type::U8);
  return {y, scale, zero};
}

// ---- Operators on quantised tensors

// Both operands of a product, the right one with its zero point absorbed where that is possible.
struct IntegerOperands {
  IntegerOperand a, w;
};

IntegerOperands matrices(NodeContext &n, TensorId a, TensorId a_zero, TensorId w, TensorId w_zero) {
  Builder &b = n.b;
  if (b.rank(a) < 2 || b.rank(w) < 2) {
    throw UnsupportedError(n.op(), "operands of rank 1; matrices are supported");
  }
  IntegerOperands operands{integer_operand(b, a, a_zero), integer_operand(b, w, w_zero)};
  absorb_zero_point(b, operands.w, b.shape(operands.w.x).size() - 1);
  return operands;
}

IntegerOperands map_and_kernel(Builder &b, TensorId x, TensorId x_zero, TensorId w, TensorId w_zero) {
  IntegerOperands operands{integer_operand(b, x, x_zero), integer_operand(b, w, w_zero)};
  const TensorId zero = operands.a.zero;
  if (zero != kNoTensor && elements(b.shape(zero)) != 1) throw InputError("x_zero_point must be a scalar");
  absorb_zero_point(b, operands.w, 0);
  return operands;
}

Ids matmul_integer(NodeContext &n) {
  const auto [a, w] = matrices(n, n.input(0), n.optional_input(2), n.input(1), n.optional_input(3));
  return {exact_matmul(n.b, a, w)};
}

Ids conv_integer(NodeContext &n) {
  Builder &b = n.b;
  const auto [x, w] = map_and_kernel(b, n.input(0), n.optional_input(2), n.input(1), n.optional_input(3));
  const Maps maps = read_convolution(n, x.x, w.x);
  const TensorId y = exact_convolution(b, {maps.x, x.zero}, {maps.w, w.zero}, maps.convolution);
  return {without_height(b, maps, y)};
}

// An output's scale and zero point of a QLinear operator: inputs `first` and `first` + 1.
struct Result {
  TensorId scale;
  TensorId zero;
};

Result result_of(NodeContext &n, std::size_t first) {
  Builder &b = n.b;
  for (std::size_t i : {first, first + 1}) {
    if (elements(b.shape(n.input(i))) != 1)
      throw UnsupportedError(n.op(), "a scale or zero point of y that is no scalar");
  }
  return {b.reshape(n.input(first), {}), b.reshape(n.input(first + 1), {})};
}

// The scales of a product's operands over that of its result; w's may be a list, which lies along `axis` from the end.
TensorId multiplier(Builder &b, TensorId x_scale, TensorId w_scale, TensorId y_scale, int64_t from_end) {
  const Shape ws = b.shape(w_scale);
  if (elements(ws) == 1) {
    w_scale = b.reshape(w_scale, {});
  } else if (ws.size() == 1) {
    Shape along(static_cast<std::size_t>(from_end), 1);
    along[0] = ws[0];
    w_scale = b.reshape(w_scale, along);
  }
  const Shape xs = b.shape(x_scale);
  x_scale = elements(xs) == 1 ? b.reshape(x_scale, {}) : (xs.size() == 1 ? b.reshape(x_scale, {xs[0], 1}) : x_scale);
  return b.binary("div", b.binary("mul", x_scale, w_scale), y_scale);
}

TensorId requantised(Builder &b, TensorId sum, TensorId factor, const Result &y) {
  const TensorId value = b.binary("mul", b.cast(sum, Type::F32), factor);
  return saturated(b, b.unary("round", value), y.zero, b[y.zero].type);
}

Ids qlinear_matmul(NodeContext &n) {
  Builder &b = n.b;
  const auto [a, w] = matrices(n, n.input(0), n.input(2), n.input(3), n.input(5));
  const Result y = result_of(n, 6);
  return {requantised(b, exact_matmul(b, a, w), multiplier(b, n.input(1), n.input(4), y.scale, 1), y)};
}

// Sums of an x of any int8 with these weights, less x's zero point, plus the bias: FP32 that is exact, by the drain of
// the DMMU. Nothing where zero points are not constant or a sum may leave the 24 bits of FP32.
std::optional<TensorId> exact_floats(Builder &b, const IntegerOperand &x, const IntegerOperand &w, TensorId bias,
                                     const Convolution &c) {
  const bool known = b.is_constant(w.x) && w.zero == kNoTensor && (x.zero == kNoTensor || b.is_constant(x.zero)) &&
                     (bias == kNoTensor || b.is_constant(bias));
  if (!known) return std::nullopt;
  const Integers weights = to_integers(b[w.x]);
  const auto channels = static_cast<std::size_t>(b.shape(w.x)[0]);
  const std::size_t depth = weights.size() / std::max<std::size_t>(channels, 1);
  const int64_t zero = x.zero == kNoTensor ? 0 : to_integers(b[x.zero])[0];
  const Integers added = bias == kNoTensor ? Integers(channels, 0) : to_integers(b[bias]);
  std::vector<double> offsets;
  for (std::size_t m = 0; m < channels; ++m) {
    int64_t sum = 0;
    int64_t magnitude = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      const int64_t value = weights[m * depth + k];
      sum += value;
      magnitude += std::abs(value);
    }
    const int64_t offset = added[m] - zero * sum;
    if (magnitude * 128 + std::abs(offset) > (int64_t{1} << 24)) return std::nullopt;
    offsets.push_back(static_cast<double>(offset));
  }
  const Shape shape = {static_cast<int64_t>(channels)};
  const TensorId offset = b.constant(make_constant("", Type::F32, shape, offsets));
  const TensorId one = b.constant(make_constant("", Type::F32, shape, std::vector<double>(channels, 1.0)));
  return convolve(b, x.x, w.x, c, zero, {offset, one});
}

Ids qlinear_conv(NodeContext &n) {
  Builder &b = n.b;
  const auto [x, w] = map_and_kernel(b, n.input(0), n.input(2), n.input(3), n.input(5));
  const Maps maps = read_convolution(n, x.x, w.x);
  const int64_t channels = b.shape(maps.w)[0];
  const TensorId bias = n.optional_input(8);
  if (bias != kNoTensor && (b[bias].type != Type::I32 || b.shape(bias) != Shape{channels})) {
    throw InputError("B is " + std::string(name_of(b[bias].type)) + to_text(b.shape(bias)) + ", expected int32" +
                     to_text(Shape{channels}));
  }
  check_parameter(b, n.input(4), b.shape(w.x), 0, "w_scale");
  const Result y = result_of(n, 6);
  const TensorId factor = multiplier(b, n.input(1), n.input(4), y.scale, 3);
  const IntegerOperand map{maps.x, x.zero};
  const IntegerOperand kernel{maps.w, w.zero};
  TensorId sum = kNoTensor;
  if (const auto floats = exact_floats(b, map, kernel, bias, maps.convolution)) {
    sum = *floats;
  } else {
    sum = exact_convolution(b, map, kernel, maps.convolution);
    if (bias != kNoTensor) sum = b.binary("add", sum, b.reshape(bias, {channels, 1, 1}));
  }
  const TensorId result = requantised(b, sum, factor, y);
  const TensorId flat = without_height(b, maps, result);
  if (flat != result) {
    const Rounded before = b.rounded.at(result);
    b.rounded[flat] = {without_height(b, maps, before.value), before.zero_point};
  }
  return {flat};
}

// com.microsoft: dequantise, compute, quantise.
Lowering qlinear_unary(const std::string &func) {
  return [func](NodeContext &n) {
    Builder &b = n.b;
    auto scalar = [&](std::size_t i) {
      if (elements(b.shape(n.input(i))) != 1) throw UnsupportedError(n.op(), "a scale or zero point that is no scalar");
      return b.reshape(n.input(i), {});
    };
    const TensorId zero = n.has_input(2) ? scalar(2) : kNoTensor;
    const TensorId x = dequantised(b, n.input(0), scalar(1), zero);
    const TensorId y = func == "leaky_relu" ? b.unary(func, x, n.real("alpha", 0.01F)) : b.unary(func, x);
    const TensorId y_zero = n.has_input(4) ? scalar(4) : kNoTensor;
    return Ids{saturated(b, b.unary("round", b.binary("div", y, scalar(3))), y_zero, b[n.input(0)].type)};
  };
}

Lowering qlinear_binary(const std::string &func) {
  return [func](NodeContext &n) {
    Builder &b = n.b;
    auto scalar = [&](std::size_t i) {
      if (elements(b.shape(n.input(i))) != 1) throw UnsupportedError(n.op(), "a scale or zero point that is no scalar");
      return b.reshape(n.input(i), {});
    };
    auto zero = [&](std::size_t i) { return n.has_input(i) ? scalar(i) : kNoTensor; };
    const TensorId x = dequantised(b, n.input(0), scalar(1), zero(2));
    const TensorId y = dequantised(b, n.input(3), scalar(4), zero(5));
    const TensorId result = b.unary("round", b.binary("div", b.binary(func, x, y), scalar(6)));
    return Ids{saturated(b, result, zero(7), b[n.input(0)].type)};
  };
}

// ---- Products of dequantised tensors

// int8 weights without zero point and the scale of each channel.
struct Weights {
  TensorId x = kNoTensor;
  std::vector<double> scales;
};

std::optional<Weights> channel_weights(Builder &b, TensorId id, int64_t axis) {
  const auto found = b.dequantised.find(id);
  if (found == b.dequantised.end()) return std::nullopt;
  const Dequantised q = found->second;
  const bool constant =
      b.is_constant(q.x) && b.is_constant(q.scale) && (q.zero_point == kNoTensor || b.is_constant(q.zero_point));
  if (!constant || (q.axis >= 0 && q.axis != axis)) return std::nullopt;
  IntegerOperand w = integer_operand(b, q.x, q.zero_point);
  absorb_zero_point(b, w, static_cast<std::size_t>(axis));
  if (w.zero != kNoTensor) return std::nullopt;
  const auto channels = static_cast<std::size_t>(b.shape(q.x)[static_cast<std::size_t>(axis)]);
  std::vector<double> scales = to_doubles(b[q.scale]);
  if (scales.size() == 1) scales.assign(channels, scales[0]);
  if (scales.size() != channels) return std::nullopt;
  return Weights{w.x, std::move(scales)};
}

// An operand at run time with one constant scale and zero point.
struct Activations {
  IntegerOperand operand;
  double scale = 0;
  int64_t zero = 0;
};

std::optional<Activations> activations(Builder &b, TensorId id) {
  const auto found = b.dequantised.find(id);
  if (found == b.dequantised.end()) return std::nullopt;
  const Dequantised q = found->second;
  const bool plain = q.axis < 0 && !b.is_constant(q.x) && b.is_constant(q.scale) &&
                     (q.zero_point == kNoTensor || b.is_constant(q.zero_point));
  if (!plain) return std::nullopt;
  Activations result;
  result.operand = integer_operand(b, q.x, q.zero_point);
  result.scale = to_doubles(b[q.scale])[0];
  if (result.operand.zero != kNoTensor) result.zero = to_integers(b[result.operand.zero])[0];
  return result;
}

// Bias and scale of the drain: (sum - zero * column) * scale + bias. Nothing if the bias is not constant.
std::optional<Ids> drain_operands(Builder &b, const Activations &a, const Weights &w,
                                  const std::vector<double> &columns, TensorId bias) {
  const std::size_t channels = w.scales.size();
  std::vector<double> offsets(channels, 0.0);
  if (bias != kNoTensor) {
    if (!b.is_constant(bias) || b[bias].type != Type::F32 || b.shape(bias) != Shape{static_cast<int64_t>(channels)}) {
      return std::nullopt;
    }
    offsets = to_doubles(b[bias]);
  }
  std::vector<double> scales;
  for (std::size_t m = 0; m < channels; ++m) {
    scales.push_back(static_cast<float>(a.scale * w.scales[m]));
    offsets[m] -= static_cast<double>(a.zero) * columns[m] * scales[m];
  }
  const Shape shape = {static_cast<int64_t>(channels)};
  return Ids{b.constant(make_constant("", Type::F32, shape, offsets)),
             b.constant(make_constant("", Type::F32, shape, scales))};
}

}  // namespace

std::optional<TensorId> dequantised_convolution(Builder &b, TensorId x, TensorId w, TensorId bias, const Window &window,
                                                int64_t group) {
  if (window.rank() > 2 || b.dequantised.count(x) == 0 || b.dequantised.count(w) == 0) return std::nullopt;
  const Shape xs = b.shape(x);
  const Shape ws = b.shape(w);
  const bool fits = group >= 1 && xs[1] == ws[1] * group && ws[0] % group == 0;
  if (!fits) return std::nullopt;
  const std::optional<Weights> weights = channel_weights(b, w, 0);
  if (!weights) return std::nullopt;
  const std::optional<Activations> a = activations(b, x);
  if (!a) return std::nullopt;
  Integers axes;
  for (int64_t d = 1; d < b.rank(w); ++d) axes.push_back(d);
  const std::vector<double> columns = to_doubles(b[integer_sum(b, weights->x, axes)]);
  const std::optional<Ids> drain = drain_operands(b, *a, *weights, columns, bias);
  if (!drain) return std::nullopt;
  const Maps maps = as_maps(b, a->operand.x, weights->x, window, group);
  return without_height(b, maps, convolve(b, maps.x, maps.w, maps.convolution, a->zero, *drain));
}

std::optional<TensorId> dequantised_matmul(Builder &b, TensorId a, TensorId w, TensorId bias, bool trans_b) {
  if (b.dequantised.count(a) == 0 || b.dequantised.count(w) == 0) return std::nullopt;
  const int64_t rank = b.rank(w);
  if (b.rank(a) < 2 || rank != 2) return std::nullopt;
  const int64_t axis = trans_b ? 0 : 1;
  const std::optional<Weights> weights = channel_weights(b, w, axis);
  if (!weights) return std::nullopt;
  const std::optional<Activations> rows = activations(b, a);
  if (!rows) return std::nullopt;
  const std::vector<double> columns = to_doubles(b[integer_sum(b, weights->x, {1 - axis})]);
  const std::optional<Ids> drain = drain_operands(b, *rows, *weights, columns, bias);
  if (!drain) return std::nullopt;
  return b.emit("MatMul", {rows->operand.x, weights->x, (*drain)[0], (*drain)[1]},
                {{"trans_b", int64_t{trans_b ? 1 : 0}}});
}

void register_quantised(LoweringTable &table) {
  const std::string microsoft = "com.microsoft.";
  table["QuantizeLinear"] = quantize_linear;
  table["DequantizeLinear"] = dequantize_linear;
  table[microsoft + "QuantizeLinear"] = quantize_linear;
  table[microsoft + "DequantizeLinear"] = dequantize_linear;
  table["DynamicQuantizeLinear"] = dynamic_quantize_linear;
  table["MatMulInteger"] = matmul_integer;
  table["ConvInteger"] = conv_integer;
  table["QLinearMatMul"] = qlinear_matmul;
  table["QLinearConv"] = qlinear_conv;
  table[microsoft + "QLinearAdd"] = qlinear_binary("add");
  table[microsoft + "QLinearMul"] = qlinear_binary("mul");
  table[microsoft + "QLinearSigmoid"] = qlinear_unary("sigmoid");
  table[microsoft + "QLinearLeakyRelu"] = qlinear_unary("leaky_relu");
}

}  // namespace cx::compiler
