#include "driver/compiler/frontend/evaluate.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Operands = std::vector<const Tensor *>;
using std::size_t;

size_t index_of(int64_t value) { return static_cast<size_t>(value); }

// Calls visit(output index, source offset) over a shape in row-major order; offset starts at base and follows strides.
template <typename Visit>
void walk(const Shape &shape, const Shape &strides, int64_t base, Visit visit) {
  const int64_t count = elements(shape);
  Shape position(shape.size(), 0);
  int64_t offset = base;
  for (int64_t i = 0; i < count; ++i) {
    visit(index_of(i), offset);
    for (size_t d = shape.size(); d-- > 0;) {
      offset += strides[d];
      if (++position[d] < shape[d]) break;
      offset -= strides[d] * shape[d];
      position[d] = 0;
    }
  }
}

// Strides that read a tensor of shape `from` as if broadcast to shape `to`.
Shape broadcast_strides(const Shape &from, const Shape &to) {
  const Shape own = row_major_strides(from);
  Shape strides(to.size(), 0);
  const size_t shift = to.size() - from.size();
  for (size_t d = 0; d < from.size(); ++d) strides[shift + d] = from[d] == 1 ? 0 : own[d];
  return strides;
}

template <typename T>
std::vector<T> load(const Tensor &tensor) {
  if constexpr (std::is_same_v<T, double>) {
    return to_doubles(tensor);
  } else {
    return to_integers(tensor);
  }
}

template <typename T>
std::vector<T> load_broadcast(const Tensor &tensor, const Shape &shape) {
  const std::vector<T> own = load<T>(tensor);
  if (tensor.shape == shape) return own;
  std::vector<T> result(index_of(elements(shape)));
  walk(shape, broadcast_strides(tensor.shape, shape), 0,
       [&](size_t i, int64_t offset) { result[i] = own[index_of(offset)]; });
  return result;
}

// Element movers work on bytes, whatever the type.
template <size_t kWidth>
void move_plane(std::byte *to, const std::byte *from, int64_t rows, int64_t columns, int64_t row_stride,
                int64_t column_stride) {
  constexpr int64_t kBlock = 32;  // of a transposition: rows and columns whose cache lines are used to the end
  if (column_stride == 1) {
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(to + index_of(r * columns) * kWidth, from + r * row_stride * static_cast<int64_t>(kWidth),
                  index_of(columns) * kWidth);
    }
    return;
  }
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock) {
    const int64_t r1 = std::min(rows, r0 + kBlock);
    for (int64_t c0 = 0; c0 < columns; c0 += kBlock) {
      const int64_t c1 = std::min(columns, c0 + kBlock);
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) {
          std::memcpy(to + index_of(r * columns + c) * kWidth,
                      from + (r * row_stride + c * column_stride) * static_cast<int64_t>(kWidth), kWidth);
        }
      }
    }
  }
}

Tensor move(const Tensor &x, const Shape &shape, const Shape &strides, int64_t base) {
  const size_t width = bytes_of(x.type);
  std::vector<std::byte> data(index_of(elements(shape)) * width);
  if (!data.empty()) {
    // The last two axes as planes.
    const size_t outer = shape.size() - std::min<size_t>(shape.size(), 2);
    const int64_t rows = shape.size() > 1 ? shape[outer] : 1;
    const int64_t columns = shape.empty() ? 1 : shape.back();
    const int64_t row_stride = shape.size() > 1 ? strides[outer] : 0;
    const int64_t column_stride = shape.empty() ? 1 : strides.back();
    const size_t plane = index_of(rows * columns) * width;
    walk(Shape(shape.begin(), shape.begin() + static_cast<long>(outer)),
         Shape(strides.begin(), strides.begin() + static_cast<long>(outer)), base, [&](size_t i, int64_t offset) {
           std::byte *const to = data.data() + i * plane;
           const std::byte *const from = x.data->data() + index_of(offset) * width;
           switch (width) {
             case 1:
               return move_plane<1>(to, from, rows, columns, row_stride, column_stride);
             case 2:
               return move_plane<2>(to, from, rows, columns, row_stride, column_stride);
             case 4:
               return move_plane<4>(to, from, rows, columns, row_stride, column_stride);
             default:
               return move_plane<8>(to, from, rows, columns, row_stride, column_stride);
           }
         });
  }
  return {"", x.type, shape, std::move(data)};
}

Tensor transpose(const Node &node, const Tensor &x, const Shape &shape) {
  const Shape own = row_major_strides(x.shape);
  Shape strides;
  for (int64_t axis : node.integers("perm")) strides.push_back(own[index_of(axis)]);
  return move(x, shape, strides, 0);
}

Tensor slice(const Node &node, const Tensor &x, const Shape &shape) {
  const Shape own = row_major_strides(x.shape);
  const auto starts = node.integers("starts");
  const auto steps = node.integers("steps");
  Shape strides;
  int64_t base = 0;
  for (size_t d = 0; d < own.size(); ++d) {
    strides.push_back(own[d] * steps[d]);
    base += own[d] * starts[d];
  }
  return move(x, shape, strides, base);
}

// Copies `x` into `result` as blocks: `outer` repetitions, each placing `block` bytes at `offset` within `pitch` bytes.
void place(const Tensor &x, Tensor &result, size_t outer, size_t block, size_t offset, size_t pitch) {
  if (block == 0) return;
  std::byte *const to = result.data.own().data();
  for (size_t i = 0; i < outer; ++i) {
    std::memcpy(to + i * pitch + offset, x.data->data() + i * block, block);
  }
}

Tensor concat(const Node &node, const Operands &inputs, const Shape &shape) {
  const Tensor &first = *inputs[0];
  const size_t width = bytes_of(first.type);
  const size_t axis = index_of(node.integer("axis", 0));
  Tensor result{"", first.type, shape, std::vector<std::byte>(index_of(elements(shape)) * width)};
  const size_t outer = index_of(elements(Shape(shape.begin(), shape.begin() + static_cast<long>(axis))));
  const size_t pitch = index_of(elements(Shape(shape.begin() + static_cast<long>(axis), shape.end()))) * width;
  size_t offset = 0;
  for (const Tensor *x : inputs) {
    const size_t block = index_of(elements(Shape(x->shape.begin() + static_cast<long>(axis), x->shape.end()))) * width;
    place(*x, result, outer, block, offset, pitch);
    offset += block;
  }
  return result;
}

Tensor gather(const Node &node, const Tensor &x, const Shape &shape) {
  const size_t width = bytes_of(x.type);
  const size_t axis = index_of(node.integer("axis", 0));
  const auto indices = node.integers("indices");
  const size_t outer = index_of(elements(Shape(shape.begin(), shape.begin() + static_cast<long>(axis))));
  const size_t inner = index_of(elements(Shape(shape.begin() + static_cast<long>(axis) + 1, shape.end()))) * width;
  const size_t length = index_of(x.shape[axis]);
  Tensor result{"", x.type, shape, std::vector<std::byte>(index_of(elements(shape)) * width)};
  std::byte *out = result.data.own().data();
  for (size_t o = 0; o < outer && inner > 0; ++o) {
    for (int64_t index : indices) {
      std::memcpy(out, x.data->data() + (o * length + index_of(index)) * inner, inner);
      out += inner;
    }
  }
  return result;
}

Tensor pad(const Node &node, const Tensor &x, const Shape &shape) {
  const auto pads = node.integers("pads");
  Tensor result =
      make_constant("", x.type, shape, std::vector<double>(index_of(elements(shape)), node.real("value", 0.0F)));
  const Shape strides = row_major_strides(shape);
  const size_t width = bytes_of(x.type);
  int64_t base = 0;
  for (size_t d = 0; d < shape.size(); ++d) base += pads[d] * strides[d];
  std::byte *const to = result.data.own().data();
  walk(x.shape, strides, base, [&](size_t i, int64_t offset) {
    std::memcpy(to + index_of(offset) * width, x.data->data() + i * width, width);
  });
  return result;
}

double unary(const std::string &func, double x, double alpha, double beta) {
  if (func == "copy") return x;
  if (func == "neg") return -x;
  if (func == "abs") return std::fabs(x);
  if (func == "relu") return x > 0 || std::isnan(x) ? x : 0;
  if (func == "leaky_relu") return x < 0 ? alpha * x : x;
  if (func == "clamp") return std::isnan(x) ? x : std::min(std::max(x, alpha), beta);
  if (func == "affine") return static_cast<double>(static_cast<float>(x * alpha)) + beta;
  if (func == "exp") return std::exp(x);
  if (func == "log") return std::log(x);
  if (func == "sqrt") return std::sqrt(x);
  if (func == "recip") return 1 / x;
  if (func == "sigmoid") return 1 / (1 + std::exp(-x));
  if (func == "tanh") return std::tanh(x);
  if (func == "erf") return std::erf(x);
  if (func == "hard_sigmoid") return std::isnan(x) ? x : std::max(0.0, std::min(1.0, alpha * x + beta));
  if (func == "floor") return std::floor(x);
  if (func == "ceil") return std::ceil(x);
  if (func == "round") return std::nearbyint(x);
  if (func == "sign") return std::isnan(x) ? x : (x > 0 ? 1 : (x < 0 ? -1 : 0));
  if (func == "hard_swish") return std::isnan(x) ? x : x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
  if (func == "silu") return x / (1 + std::exp(-x));
  if (func == "gelu") return 0.5 * x * (1 + std::erf(x * 0.70710678118654752440));
  if (func == "softplus") return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)));
  if (func == "sin") return std::sin(x);
  if (func == "cos") return std::cos(x);
  if (func == "trunc") return std::trunc(x);
  if (func == "atan") return std::atan(x);
  if (func == "is_nan") return std::isnan(x) ? 1 : 0;
  if (func == "is_inf") return std::isinf(x) && (alpha == 0 || (alpha > 0) == (x > 0)) ? 1 : 0;
  throw UnsupportedError("Unary", "function '" + func + "' of a floating-point constant");
}

int64_t negated(int64_t value) { return static_cast<int64_t>(0 - static_cast<uint64_t>(value)); }

int64_t unary(const std::string &func, int64_t x, double alpha, double beta) {
  if (func == "copy") return x;
  if (func == "neg") return negated(x);
  if (func == "abs") return x < 0 ? negated(x) : x;
  if (func == "relu") return std::max<int64_t>(x, 0);
  if (func == "sign") return (x > 0 ? 1 : 0) - (x < 0 ? 1 : 0);
  if (func == "not") return ~x;
  if (func == "clamp") {
    if (static_cast<double>(x) < alpha) return static_cast<int64_t>(alpha);
    return static_cast<double>(x) > beta ? static_cast<int64_t>(beta) : x;
  }
  throw UnsupportedError("Unary", "function '" + func + "' of an integer constant");
}

template <typename T>
bool compare(const std::string &func, T a, T b) {
  if (func == "eq") return a == b;
  if (func == "ne") return a != b;
  if (func == "lt") return a < b;
  return a <= b;
}

bool is_comparison(const std::string &func) { return func == "eq" || func == "ne" || func == "lt" || func == "le"; }

double binary(const std::string &func, double a, double b) {
  if (func == "add") return a + b;
  if (func == "sub") return a - b;
  if (func == "mul") return a * b;
  if (func == "div") return a / b;
  if (func == "max") return std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::quiet_NaN() : std::max(a, b);
  if (func == "min") return std::isnan(a) || std::isnan(b) ? std::numeric_limits<double>::quiet_NaN() : std::min(a, b);
  if (func == "pow") return std::pow(a, b);
  if (func == "prelu") return a < 0 ? a * b : a;
  if (func == "fmod") return std::fmod(a, b);
  if (func == "mod") {
    const double remainder = std::fmod(a, b);
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
  }
  throw UnsupportedError("Binary", "function '" + func + "' of floating-point constants");
}

int64_t power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    return 0;
  }
  uint64_t result = 1;
  auto factor = static_cast<uint64_t>(base);
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) result *= factor;
    factor *= factor;
  }
  return static_cast<int64_t>(result);
}

int64_t binary(const std::string &func, int64_t a, int64_t b) {
  const auto ua = static_cast<uint64_t>(a);
  const auto ub = static_cast<uint64_t>(b);
  if (func == "add") return static_cast<int64_t>(ua + ub);
  if (func == "sub") return static_cast<int64_t>(ua - ub);
  if (func == "mul") return static_cast<int64_t>(ua * ub);
  if (func == "max") return std::max(a, b);
  if (func == "min") return std::min(a, b);
  if (func == "pow") return power(a, b);
  if (func == "prelu") return a < 0 ? static_cast<int64_t>(ua * ub) : a;
  if (func == "and") return a & b;
  if (func == "or") return a | b;
  if (func == "xor") return a ^ b;
  if (func == "shl") return ub < 64 ? static_cast<int64_t>(ua << ub) : 0;
  if (func == "shr") return a >> std::min<uint64_t>(ub, 63);
  if (b == 0) throw InputError("integer division by 0");
  if (func == "div") return b == -1 ? negated(a) : a / b;
  if (func == "fmod") return b == -1 ? 0 : a % b;
  if (func == "mod") {
    const int64_t remainder = b == -1 ? 0 : a % b;
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
  }
  throw UnsupportedError("Binary", "function '" + func + "' of integer constants");
}

// Where the order of unsigned numbers of 64 bits, which are kept as int64_t, matters.
int64_t binary_u64(const std::string &func, int64_t a, int64_t b) {
  const auto ua = static_cast<uint64_t>(a);
  const auto ub = static_cast<uint64_t>(b);
  if (func == "max") return static_cast<int64_t>(std::max(ua, ub));
  if (func == "min") return static_cast<int64_t>(std::min(ua, ub));
  if (func == "shr") return ub < 64 ? static_cast<int64_t>(ua >> ub) : 0;
  if (func == "prelu") return a;
  if (func != "div" && func != "mod" && func != "fmod") return binary(func, a, b);
  if (b == 0) throw InputError("integer division by 0");
  return static_cast<int64_t>(func == "div" ? ua / ub : ua % ub);
}

template <typename T>
Tensor elementwise(const Node &node, const Operands &inputs, Type type, const Shape &shape) {
  const std::string func = node.text("func", "");
  std::vector<T> a = load_broadcast<T>(*inputs[0], shape);
  if (node.op == "Unary") {
    const double alpha = node.real("alpha", 0);
    const double beta = node.real("beta", 0);
    const bool logical = inputs[0]->type == Type::Bool && func == "not";
    const bool unsigned_64 = inputs[0]->type == Type::U64 && (func == "abs" || func == "relu" || func == "clamp");
    if (unsigned_64 && func == "clamp") throw UnsupportedError("Unary", "function 'clamp' of a uint64 constant");
    for (T &value : a) {
      if (logical) {
        value = value == 0 ? T{1} : T{0};
      } else if (!unsigned_64) {
        value = unary(func, value, alpha, beta);
      }
    }
    return make_constant("", type, shape, a);
  }
  const std::vector<T> b = load_broadcast<T>(*inputs[1], shape);
  const bool unsigned_64 = inputs[0]->type == Type::U64;
  if (is_comparison(func)) {
    for (size_t i = 0; i < a.size(); ++i) {
      const bool holds = unsigned_64 ? compare(func, static_cast<uint64_t>(a[i]), static_cast<uint64_t>(b[i]))
                                     : compare(func, a[i], b[i]);
      a[i] = holds ? T{1} : T{0};
    }
  } else if (unsigned_64) {
    for (size_t i = 0; i < a.size(); ++i) {
      a[i] = static_cast<T>(binary_u64(func, static_cast<int64_t>(a[i]), static_cast<int64_t>(b[i])));
    }
  } else {
    for (size_t i = 0; i < a.size(); ++i) a[i] = binary(func, a[i], b[i]);
  }
  return make_constant("", type, shape, a);
}

// Row-major views of a tensor along one axis: element (o, l, i) lies at (o * length + l) * inner + i.
struct Lanes {
  Lanes(const Node &node, const Shape &shape) {
    const auto axis = static_cast<long>(node.integer("axis", 0));
    outer = index_of(elements(Shape(shape.begin(), shape.begin() + axis)));
    length = index_of(shape[static_cast<size_t>(axis)]);
    inner = index_of(elements(Shape(shape.begin() + axis + 1, shape.end())));
  }
  size_t at(size_t o, size_t l, size_t i) const { return (o * length + l) * inner + i; }

  // Calls visit(o, i) for every lane.
  template <typename Visit>
  void each(Visit visit) const {
    for (size_t o = 0; o < outer; ++o) {
      for (size_t i = 0; i < inner; ++i) visit(o, i);
    }
  }

  size_t outer, length, inner;
};

// Offset, in elements, along the axis for each index; negative ones count from the end.
int64_t resolved(int64_t index, int64_t size) {
  const int64_t result = index < 0 ? index + size : index;
  if (result < 0 || result >= size) {
    throw InputError("index " + std::to_string(index) + " is out of range of " + std::to_string(size) + " elements");
  }
  return result;
}

Tensor take_along(const Node &node, const Operands &inputs, const Shape &shape) {
  const Tensor &x = *inputs[0];
  const size_t axis = index_of(node.integer("axis", 0));
  const std::vector<int64_t> indices = load_broadcast<int64_t>(*inputs[1], shape);
  Shape strides = broadcast_strides(x.shape, shape);
  const int64_t pitch = row_major_strides(x.shape)[axis];
  strides[axis] = 0;
  const size_t width = bytes_of(x.type);
  Tensor result{"", x.type, shape, std::vector<std::byte>(index_of(elements(shape)) * width)};
  std::byte *const to = result.data.own().data();
  walk(shape, strides, 0, [&](size_t i, int64_t offset) {
    const int64_t source = offset + resolved(indices[i], x.shape[axis]) * pitch;
    std::memcpy(to + i * width, x.data->data() + index_of(source) * width, width);
  });
  return result;
}

template <typename T>
Tensor scatter_along(const Node &node, const Operands &inputs, Type type, const Shape &shape) {
  const std::string func = node.text("func", "");
  const size_t axis = index_of(node.integer("axis", 0));
  const Shape &from = inputs[2]->shape;
  std::vector<T> result = load<T>(*inputs[0]);
  const std::vector<int64_t> indices = load_broadcast<int64_t>(*inputs[1], from);
  const std::vector<T> updates = load<T>(*inputs[2]);
  Shape strides = row_major_strides(shape);
  const int64_t pitch = strides[axis];
  strides[axis] = 0;
  walk(from, strides, 0, [&](size_t i, int64_t offset) {
    T &target = result[index_of(offset + resolved(indices[i], shape[axis]) * pitch)];
    if (func == "set") {
      target = updates[i];
    } else if (type == Type::U64) {
      target = static_cast<T>(binary_u64(func, static_cast<int64_t>(target), static_cast<int64_t>(updates[i])));
    } else {
      target = binary(func, target, updates[i]);
    }
  });
  return make_constant("", type, shape, result);
}

template <typename T>
Tensor scan(const Node &node, const Tensor &x, Type type, const Shape &shape) {
  const std::vector<T> values = load<T>(x);
  std::vector<T> result(values.size());
  const bool exclusive = node.integer("exclusive", 0) != 0;
  const bool reverse = node.integer("reverse", 0) != 0;
  const Lanes lanes(node, shape);
  lanes.each([&](size_t o, size_t i) {
    T sum{0};
    for (size_t step = 0; step < lanes.length; ++step) {
      const size_t at = lanes.at(o, reverse ? lanes.length - 1 - step : step, i);
      const T next = binary("add", sum, values[at]);
      result[at] = exclusive ? sum : next;
      sum = next;
    }
  });
  return make_constant("", type, shape, result);
}

// Whether a comes before b; NaN comes first of all in the order of the largest, last in that of the smallest.
template <typename T>
bool precedes(T a, T b, bool largest) {
  if constexpr (std::is_floating_point_v<T>) {
    if (std::isnan(a) || std::isnan(b))
      return largest ? std::isnan(a) && !std::isnan(b) : std::isnan(b) && !std::isnan(a);
  }
  return largest ? a > b : a < b;
}

// Indices in order along each lane: ArgReduce takes the first, or the last of those equal to it; TopK the first k.
template <typename T>
Tensor order(const Node &node, const Tensor &x, const Shape &shape) {
  std::vector<T> values;
  if constexpr (std::is_same_v<T, uint64_t>) {
    values = x.values<uint64_t>();
  } else {
    values = load<T>(x);
  }
  const bool top_k = node.op == "TopK";
  const bool largest = top_k ? node.integer("largest", 1) != 0 : node.text("kind", "") == "max";
  const bool last = !top_k && node.integer("last", 0) != 0;
  const Lanes lanes(node, x.shape);
  const Lanes results(node, shape);
  std::vector<int64_t> result(index_of(elements(shape)));
  std::vector<int64_t> ranked(lanes.length);
  lanes.each([&](size_t o, size_t i) {
    std::iota(ranked.begin(), ranked.end(), 0);
    auto before = [&](int64_t a, int64_t b) {
      const T va = values[lanes.at(o, index_of(a), i)];
      const T vb = values[lanes.at(o, index_of(b), i)];
      if (precedes(va, vb, largest)) return true;
      return !precedes(vb, va, largest) && (last ? a > b : a < b);
    };
    const auto middle = ranked.begin() + static_cast<long>(results.length);
    std::partial_sort(ranked.begin(), middle, ranked.end(), before);
    for (size_t l = 0; l < results.length; ++l) result[results.at(o, l, i)] = ranked[l];
  });
  return make_constant("", Type::I64, shape, result);
}

template <typename T>
Tensor select(const Operands &inputs, Type type, const Shape &shape) {
  const auto condition = load_broadcast<int64_t>(*inputs[0], shape);
  auto x = load_broadcast<T>(*inputs[1], shape);
  const auto y = load_broadcast<T>(*inputs[2], shape);
  for (size_t i = 0; i < x.size(); ++i) x[i] = condition[i] != 0 ? x[i] : y[i];
  return make_constant("", type, shape, x);
}

template <typename T>
Tensor reduce(const Node &node, const Tensor &x, Type type, const Shape &shape) {
  const std::string kind = node.text("kind", "");
  const std::vector<T> values = load<T>(x);
  std::vector<T> result(index_of(elements(shape)), kind == "prod" ? T{1} : T{0});
  std::vector<bool> started(result.size(), false);
  walk(x.shape, broadcast_strides(shape, x.shape), 0, [&](size_t i, int64_t offset) {
    const size_t o = index_of(offset);
    const T value = values[i];
    T &total = result[o];
    if (kind == "max" || kind == "min") {
      if (x.type == Type::U64 && started[o]) {
        total = static_cast<T>(binary_u64(kind, static_cast<int64_t>(total), static_cast<int64_t>(value)));
      } else {
        total = started[o] ? binary(kind, total, value) : value;
      }
    } else if (kind == "prod") {
      total = binary("mul", total, value);
    } else if (kind == "sumsq") {
      total = binary("add", total, binary("mul", value, value));
    } else if (kind == "abssum") {
      total = binary("add", total, unary("abs", value, 0, 0));
    } else {
      total = binary("add", total, value);
    }
    started[o] = true;
  });
  if (kind == "mean" && !result.empty()) {
    const int64_t divisor = elements(x.shape) / elements(shape);
    for (T &value : result) value = binary("div", value, static_cast<T>(divisor));
  }
  return make_constant("", type, shape, result);
}

Tensor matmul(const Node &node, const Operands &inputs, Type type, const Shape &shape) {
  const size_t rank = shape.size();
  const int64_t m = shape[rank - 2];
  const int64_t n = shape[rank - 1];
  const int64_t k = inputs[0]->shape.back();
  const bool trans_b = node.integer("trans_b", 0) != 0;
  const Shape batch(shape.begin(), shape.end() - 2);
  auto operand = [&](const Tensor &tensor) {
    Shape full = batch;
    full.insert(full.end(), tensor.shape.end() - 2, tensor.shape.end());
    return load_broadcast<double>(tensor, full);
  };
  const std::vector<double> a = operand(*inputs[0]);
  const std::vector<double> b = operand(*inputs[1]);
  std::vector<double> result(index_of(elements(shape)), 0.0);
  const int64_t batches = elements(batch);
  for (int64_t s = 0; s < batches; ++s) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t l = 0; l < k; ++l) {
        const double factor = a[index_of((s * m + i) * k + l)];
        for (int64_t j = 0; j < n; ++j) {
          const int64_t at = trans_b ? (s * n + j) * k + l : (s * k + l) * n + j;
          result[index_of((s * m + i) * n + j)] += factor * b[index_of(at)];
        }
      }
    }
  }
  if (inputs.size() > 3 && inputs[3] != nullptr) {
    const std::vector<double> scale = load_broadcast<double>(*inputs[3], shape);
    for (size_t i = 0; i < result.size(); ++i) result[i] *= scale[i];
  }
  if (inputs.size() > 2 && inputs[2] != nullptr) {
    const std::vector<double> bias = load_broadcast<double>(*inputs[2], shape);
    for (size_t i = 0; i < result.size(); ++i) result[i] += bias[i];
  }
  return make_constant("", type, shape, result);
}

Tensor softmax(const Node &node, const Tensor &x, Type type, const Shape &shape) {
  std::vector<double> values = to_doubles(x);
  const size_t axis = index_of(node.integer("axis", 0));
  const size_t length = index_of(shape[axis]);
  const size_t inner = index_of(elements(Shape(shape.begin() + static_cast<long>(axis) + 1, shape.end())));
  const size_t outer = length * inner == 0 ? 0 : values.size() / (length * inner);
  for (size_t o = 0; o < outer; ++o) {
    for (size_t i = 0; i < inner; ++i) {
      auto at = [&](size_t l) -> double & { return values[(o * length + l) * inner + i]; };
      double maximum = at(0);
      for (size_t l = 1; l < length; ++l) maximum = std::max(maximum, at(l));
      double sum = 0;
      for (size_t l = 0; l < length; ++l) sum += at(l) = std::exp(at(l) - maximum);
      for (size_t l = 0; l < length; ++l) at(l) /= sum;
    }
  }
  return make_constant("", type, shape, values);
}

struct Window {
  explicit Window(const Node &node)
      : strides(node.integers("strides")), pads(node.integers("pads")), dilations(node.integers("dilations")) {}

  // Calls visit(ky, kx, y, x) for the kernel positions of one window that lie inside the source, row by row.
  template <typename Visit>
  void each(const Shape &source, int64_t kernel_y, int64_t kernel_x, int64_t oy, int64_t ox, Visit visit) const {
    for (int64_t ky = 0; ky < kernel_y; ++ky) {
      const int64_t y = oy * strides[0] - pads[0] + ky * dilations[0];
      if (y < 0 || y >= source[2]) continue;
      for (int64_t kx = 0; kx < kernel_x; ++kx) {
        const int64_t x = ox * strides[1] - pads[1] + kx * dilations[1];
        if (x >= 0 && x < source[3]) visit(ky, kx, y, x);
      }
    }
  }

  std::vector<int64_t> strides, pads, dilations;
};

Tensor conv(const Node &node, const Operands &inputs, Type type, const Shape &shape) {
  const Shape &xs = inputs[0]->shape;
  const Shape &ws = inputs[1]->shape;
  const std::vector<double> x = to_doubles(*inputs[0]);
  const std::vector<double> w = to_doubles(*inputs[1]);
  std::vector<double> bias(index_of(ws[0]), 0.0);
  if (inputs.size() > 2 && inputs[2] != nullptr) bias = to_doubles(*inputs[2]);
  std::vector<double> scale(index_of(ws[0]), 1.0);
  if (inputs.size() > 3 && inputs[3] != nullptr) scale = to_doubles(*inputs[3]);
  const auto pad_value = static_cast<double>(node.integer("pad_value", 0));
  const Window window(node);
  const int64_t per_group = ws[0] / node.integer("group", 1);
  std::vector<double> result;
  result.reserve(index_of(elements(shape)));
  for (int64_t n = 0; n < shape[0]; ++n) {
    for (int64_t m = 0; m < shape[1]; ++m) {
      for (int64_t oy = 0; oy < shape[2]; ++oy) {
        for (int64_t ox = 0; ox < shape[3]; ++ox) {
          double sum = 0;
          double in_padding = 0;  // weights that meet the padding
          for (int64_t c = 0; c < ws[1]; ++c) {
            const int64_t plane = (n * xs[1] + m / per_group * ws[1] + c) * xs[2];
            const int64_t kernel = (m * ws[1] + c) * ws[2];
            if (pad_value != 0) {
              for (int64_t k = kernel * ws[3]; k < (kernel + ws[2]) * ws[3]; ++k) in_padding += w[index_of(k)];
            }
            window.each(xs, ws[2], ws[3], oy, ox, [&](int64_t ky, int64_t kx, int64_t iy, int64_t ix) {
              const double weight = w[index_of((kernel + ky) * ws[3] + kx)];
              sum += x[index_of((plane + iy) * xs[3] + ix)] * weight;
              in_padding -= weight;
            });
          }
          if (pad_value != 0) sum += pad_value * in_padding;
          result.push_back(sum * scale[index_of(m)] + bias[index_of(m)]);
        }
      }
    }
  }
  return make_constant("", type, shape, result);
}

Tensor pool(const Node &node, const Tensor &source, Type type, const Shape &shape) {
  const std::vector<double> x = to_doubles(source);
  const auto kernel = node.integers("kernel");
  const Window window(node);
  const std::string kind = node.text("kind", "");
  const bool maximum = kind == "max";
  std::vector<double> result;
  result.reserve(index_of(elements(shape)));
  for (int64_t plane = 0; plane < shape[0] * shape[1]; ++plane) {
    for (int64_t oy = 0; oy < shape[2]; ++oy) {
      for (int64_t ox = 0; ox < shape[3]; ++ox) {
        double total = maximum ? -std::numeric_limits<double>::infinity() : 0;
        window.each(source.shape, kernel[0], kernel[1], oy, ox, [&](int64_t, int64_t, int64_t iy, int64_t ix) {
          const double value = x[index_of((plane * source.shape[2] + iy) * source.shape[3] + ix)];
          total = binary(maximum ? "max" : "add", total, value);
        });
        result.push_back(kind == "avg" ? total / static_cast<double>(kernel[0] * kernel[1]) : total);
      }
    }
  }
  return make_constant("", type, shape, result);
}

Tensor dispatch(const Node &node, const Operands &inputs, Type type, const Shape &shape) {
  const Tensor &x = *inputs.at(0);
  if (node.op == "Reshape" || node.op == "Copy") return Tensor{"", type, shape, x.data};
  if (node.op == "Transpose") return transpose(node, x, shape);
  if (node.op == "Slice") return slice(node, x, shape);
  if (node.op == "Concat") return concat(node, inputs, shape);
  if (node.op == "Gather") return gather(node, x, shape);
  if (node.op == "Expand") return move(x, shape, broadcast_strides(x.shape, shape), 0);
  if (node.op == "Pad") return pad(node, x, shape);
  if (node.op == "Softmax") return softmax(node, x, type, shape);
  if (node.op == "MatMul") return matmul(node, inputs, type, shape);
  if (node.op == "Conv") return conv(node, inputs, type, shape);
  if (node.op == "Pool") return pool(node, x, type, shape);
  const bool floating = is_float(x.type);
  if (node.op == "Cast") {
    return floating ? make_constant("", type, shape, to_doubles(x)) : make_constant("", type, shape, to_integers(x));
  }
  if (node.op == "Unary" || node.op == "Binary") {
    return floating ? elementwise<double>(node, inputs, type, shape) : elementwise<int64_t>(node, inputs, type, shape);
  }
  if (node.op == "Reduce") {
    return floating ? reduce<double>(node, x, type, shape) : reduce<int64_t>(node, x, type, shape);
  }
  if (node.op == "Select") {
    return is_float(type) ? select<double>(inputs, type, shape) : select<int64_t>(inputs, type, shape);
  }
  if (node.op == "TakeAlong") return take_along(node, inputs, shape);
  if (node.op == "ScatterAlong") {
    return floating ? scatter_along<double>(node, inputs, type, shape)
                    : scatter_along<int64_t>(node, inputs, type, shape);
  }
  if (node.op == "Scan") {
    return floating ? scan<double>(node, x, type, shape) : scan<int64_t>(node, x, type, shape);
  }
  if (node.op == "ArgReduce" || node.op == "TopK") {
    if (x.type == Type::U64) return order<uint64_t>(node, x, shape);
    return floating ? order<double>(node, x, shape) : order<int64_t>(node, x, shape);
  }
  throw UnsupportedError(node.op, "operator '" + node.op + "' of constants");
}

}  // namespace

double evaluation_cost(const Node &node, const std::vector<const Tensor *> &inputs, const Shape &output) {
  double cost = static_cast<double>(elements(output));
  if (node.op == "MatMul") {
    cost *= static_cast<double>(inputs[0]->shape.back());
  } else if (node.op == "Conv") {
    const Shape &w = inputs[1]->shape;
    cost *= static_cast<double>(w[1]) * static_cast<double>(w[2]) * static_cast<double>(w[3]);
  } else if (node.op == "Pool") {
    for (int64_t size : node.integers("kernel")) cost *= static_cast<double>(size);
  }
  for (const Tensor *input : inputs) {
    if (input != nullptr) cost += static_cast<double>(elements(input->shape));
  }
  // Functions are looked up per element.
  constexpr double kPerFunction = 16;
  if (node.op == "Unary" || node.op == "Binary" || node.op == "Reduce" || node.op == "ArgReduce" || node.op == "TopK" ||
      node.op == "ScatterAlong") {
    cost *= kPerFunction;
  }
  return cost;
}

Tensor evaluate(const Node &node, const std::vector<const Tensor *> &inputs, Type type, const Shape &output) {
  return dispatch(node, inputs, type, output);
}

}  // namespace cx::compiler
