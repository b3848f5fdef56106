#include "driver/compiler/frontend/shape_inference.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Operands = std::vector<const Tensor *>;

[[noreturn]] void fail(const std::string &message) { throw InputError(message); }

std::string described(const Tensor &tensor) {
  return "'" + tensor.name + "' " + name_of(tensor.type) + to_text(tensor.shape);
}

const Tensor &operand(const Operands &inputs, std::size_t index, const char *role) {
  if (index >= inputs.size() || inputs[index] == nullptr) fail(std::string("operand ") + role + " is missing");
  return *inputs[index];
}

const Tensor *optional_operand(const Operands &inputs, std::size_t index) {
  return index < inputs.size() ? inputs[index] : nullptr;
}

std::vector<int64_t> list(const Node &node, const std::string &key, std::size_t length, int64_t lowest) {
  std::vector<int64_t> values = node.integers(key);
  if (values.size() != length) {
    fail(key + " has " + std::to_string(values.size()) + " entries, expected " + std::to_string(length));
  }
  for (int64_t value : values) {
    // The upper bound keeps all window arithmetic far from overflow.
    if (value < lowest || value > (int64_t{1} << 31)) fail(key + " holds " + std::to_string(value));
  }
  return values;
}

void same_type(const Tensor &a, const Tensor &b) {
  if (a.type != b.type) fail("operands have different types: " + described(a) + " and " + described(b));
}

void require_float(const Tensor &tensor) {
  if (!is_float(tensor.type)) fail("operand " + described(tensor) + " must hold floats");
}

int64_t window_outputs(int64_t size, int64_t begin, int64_t end, int64_t kernel, int64_t stride, int64_t dilation,
                       const Tensor &x) {
  const int64_t extent = (kernel - 1) * dilation + 1;
  const int64_t padded = size + begin + end;
  if (padded < extent) {
    fail("window of " + std::to_string(extent) + " does not fit into " + std::to_string(padded) +
         " padded elements of " + described(x));
  }
  return (padded - extent) / stride + 1;
}

// Type of a product of operands of x's type with a bias and a scale for each of the `channels`, checked.
Type product_type(const Operands &inputs, const Tensor &x, int64_t channels) {
  const Tensor *bias = optional_operand(inputs, 2);
  const Tensor *scale = optional_operand(inputs, 3);
  for (const Tensor *each : {bias, scale}) {
    if (each != nullptr && each->shape != Shape{channels}) {
      fail((each == bias ? "bias " : "scale ") + described(*each) + " must have shape " + to_text(Shape{channels}));
    }
  }
  if (x.type != Type::I8) {
    require_float(x);
    if (bias != nullptr) same_type(x, *bias);
    if (scale != nullptr) fail("scale " + described(*scale) + " needs int8 operands");
    return x.type;
  }
  if (scale == nullptr && bias != nullptr) fail("bias " + described(*bias) + " of int8 operands needs a scale");
  for (const Tensor *each : {bias, scale}) {
    if (each != nullptr && each->type != Type::F32) fail("operand " + described(*each) + " must be float32");
  }
  return scale == nullptr ? Type::I32 : Type::F32;
}

TensorType infer_conv(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const Tensor &w = operand(inputs, 1, "w");
  same_type(x, w);
  if (x.shape.size() != 4) fail("input " + described(x) + " must have rank 4");
  if (w.shape.size() != 4) fail("weights " + described(w) + " must have rank 4");
  const auto strides = list(node, "strides", 2, 1);
  const auto pads = list(node, "pads", 4, 0);
  const auto dilations = list(node, "dilations", 2, 1);
  const int64_t group = node.integer("group", 1);
  if (group < 1) fail("group is " + std::to_string(group));
  const int64_t m = w.shape[0];
  if (x.shape[1] % group != 0 || x.shape[1] / group != w.shape[1]) {
    fail("weights " + described(w) + " with group " + std::to_string(group) + " do not fit the channels of input " +
         described(x));
  }
  if (m % group != 0)
    fail("weights " + described(w) + ": outputs are not a multiple of group " + std::to_string(group));
  if (w.shape[2] < 1 || w.shape[3] < 1) fail("weights " + described(w) + " have an empty kernel");
  const int64_t pad_value = node.integer("pad_value", 0);
  if (pad_value != 0 && (x.type != Type::I8 || pad_value < -128 || pad_value > 127)) {
    fail("pad_value is " + std::to_string(pad_value) + " for input " + described(x));
  }
  return {product_type(inputs, x, m),
          {x.shape[0], m, window_outputs(x.shape[2], pads[0], pads[2], w.shape[2], strides[0], dilations[0], x),
           window_outputs(x.shape[3], pads[1], pads[3], w.shape[3], strides[1], dilations[1], x)}};
}

TensorType infer_pool(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  if (x.shape.size() != 4) fail("input " + described(x) + " must have rank 4");
  require_float(x);
  const std::string kind = node.text("kind", "");
  if (kind != "max" && kind != "avg" && kind != "sum") fail("kind '" + kind + "'");
  const auto kernel = list(node, "kernel", 2, 1);
  const auto strides = list(node, "strides", 2, 1);
  const auto pads = list(node, "pads", 4, 0);
  const auto dilations = list(node, "dilations", 2, 1);
  return {x.type,
          {x.shape[0], x.shape[1], window_outputs(x.shape[2], pads[0], pads[2], kernel[0], strides[0], dilations[0], x),
           window_outputs(x.shape[3], pads[1], pads[3], kernel[1], strides[1], dilations[1], x)}};
}

TensorType infer_matmul(const Node &node, const Operands &inputs) {
  const Tensor &a = operand(inputs, 0, "a");
  const Tensor &b = operand(inputs, 1, "b");
  same_type(a, b);
  const std::size_t ra = a.shape.size();
  const std::size_t rb = b.shape.size();
  if (ra < 2 || rb < 2) fail("operands " + described(a) + " and " + described(b) + " must have rank 2 or more");
  const bool trans_b = node.integer("trans_b", 0) != 0;
  const int64_t k = trans_b ? b.shape[rb - 1] : b.shape[rb - 2];
  const int64_t n = trans_b ? b.shape[rb - 2] : b.shape[rb - 1];
  if (a.shape[ra - 1] != k) {
    fail("inner dimensions of " + described(a) + " and " + described(b) + (trans_b ? " (transposed)" : "") + " differ");
  }
  Shape shape = broadcast(Shape(a.shape.begin(), a.shape.end() - 2), Shape(b.shape.begin(), b.shape.end() - 2));
  shape.push_back(a.shape[ra - 2]);
  shape.push_back(n);
  return {product_type(inputs, a, n), shape};
}

int64_t checked_axis(const Node &node, const Tensor &x) {
  const int64_t axis = node.integer("axis", 0);
  if (axis < 0 || axis >= static_cast<int64_t>(x.shape.size())) {
    fail("axis " + std::to_string(axis) + " is out of range for " + described(x));
  }
  return axis;
}

TensorType infer_reduce(const Node &node, const Operands &inputs) {
  static const std::set<std::string> kinds = {"sum", "mean", "max", "min", "prod", "sumsq", "abssum"};
  const Tensor &x = operand(inputs, 0, "x");
  if (kinds.count(node.text("kind", "")) == 0) fail("kind '" + node.text("kind", "") + "'");
  if (x.type == Type::Bool) fail("a reduction does not take " + described(x));
  Shape shape = x.shape;
  int64_t previous = -1;
  for (int64_t axis : node.integers("axes")) {
    if (axis <= previous || axis >= static_cast<int64_t>(shape.size())) {
      fail("axes " + to_text(node.integers("axes")) + " are not ascending dimensions of " + described(x));
    }
    previous = axis;
    shape[static_cast<std::size_t>(axis)] = 1;
  }
  return {x.type, shape};
}

TensorType infer_softmax(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  checked_axis(node, x);
  require_float(x);
  return {x.type, x.shape};
}

TensorType infer_unary(const Node &node, const Operands &inputs) {
  static const std::set<std::string> functions = {
      "copy",  "neg",     "abs",      "relu", "leaky_relu",   "clamp", "affine", "exp",   "log",    "sqrt",
      "recip", "sigmoid", "tanh",     "erf",  "hard_sigmoid", "floor", "ceil",   "round", "sign",   "hard_swish",
      "silu",  "gelu",    "softplus", "sin",  "cos",          "not",   "trunc",  "atan",  "is_nan", "is_inf"};
  static const std::set<std::string> of_integers = {"copy", "neg", "abs", "relu", "clamp", "sign", "not"};
  const Tensor &x = operand(inputs, 0, "x");
  const std::string func = node.text("func", "");
  if (functions.count(func) == 0) fail("function '" + func + "'");
  const bool fits = func == "copy" || (is_float(x.type)       ? func != "not"
                                       : x.type == Type::Bool ? func == "not"
                                                              : of_integers.count(func) != 0);
  if (!fits) fail("function '" + func + "' does not take " + described(x));
  return {func == "is_nan" || func == "is_inf" ? Type::Bool : x.type, x.shape};
}

TensorType infer_binary(const Node &node, const Operands &inputs) {
  static const std::set<std::string> arithmetic = {"add", "sub", "mul", "div", "max", "min", "pow", "mod", "fmod"};
  static const std::set<std::string> logic = {"and", "or", "xor"};
  static const std::set<std::string> comparisons = {"eq", "ne", "lt", "le"};
  const Tensor &a = operand(inputs, 0, "a");
  const Tensor &b = operand(inputs, 1, "b");
  const std::string func = node.text("func", "");
  same_type(a, b);
  bool fits = false;
  if (comparisons.count(func) != 0) {
    fits = true;
  } else if (logic.count(func) != 0) {
    fits = !is_float(a.type);
  } else if (func == "shl" || func == "shr") {
    fits = is_integer(a.type);
  } else if (func == "prelu" || arithmetic.count(func) != 0) {
    fits = a.type != Type::Bool;
  } else {
    fail("function '" + func + "'");
  }
  if (!fits) fail("function '" + func + "' does not take " + described(a));
  return {comparisons.count(func) != 0 ? Type::Bool : a.type, broadcast(a.shape, b.shape)};
}

TensorType infer_select(const Node &, const Operands &inputs) {
  const Tensor &condition = operand(inputs, 0, "condition");
  const Tensor &x = operand(inputs, 1, "x");
  const Tensor &y = operand(inputs, 2, "y");
  if (condition.type != Type::Bool) fail("condition " + described(condition) + " must be bool");
  same_type(x, y);
  return {x.type, broadcast(condition.shape, broadcast(x.shape, y.shape))};
}

void require_index(const Tensor &indices) {
  if (indices.type != Type::I32 && indices.type != Type::I64) {
    fail("indices " + described(indices) + " must be int32 or int64");
  }
}

TensorType infer_take_along(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const Tensor &indices = operand(inputs, 1, "indices");
  require_index(indices);
  const auto axis = static_cast<std::size_t>(checked_axis(node, x));
  const std::string what = described(indices) + " cannot index " + described(x) + " along " + std::to_string(axis);
  if (indices.shape.size() != x.shape.size()) fail(what);
  Shape shape = indices.shape;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (d == axis) continue;
    if (x.shape[d] != shape[d] && x.shape[d] != 1 && shape[d] != 1) fail(what);
    shape[d] = shape[d] == 1 ? x.shape[d] : shape[d];
  }
  if (x.shape[axis] == 0 && elements(shape) != 0) fail(what + ", which is empty");
  return {x.type, shape};
}

TensorType infer_scatter_along(const Node &node, const Operands &inputs) {
  static const std::set<std::string> functions = {"set", "add", "mul", "max", "min"};
  const Tensor &x = operand(inputs, 0, "x");
  const Tensor &indices = operand(inputs, 1, "indices");
  const Tensor &updates = operand(inputs, 2, "updates");
  require_index(indices);
  same_type(x, updates);
  const std::string func = node.text("func", "");
  if (functions.count(func) == 0) fail("function '" + func + "'");
  if (x.type == Type::Bool && func != "set") fail("function '" + func + "' does not take " + described(x));
  const auto axis = static_cast<std::size_t>(checked_axis(node, x));
  bool fits = updates.shape.size() == x.shape.size() && indices.shape.size() == x.shape.size();
  for (std::size_t d = 0; fits && d < x.shape.size(); ++d) {
    fits = (d == axis || updates.shape[d] <= x.shape[d]) &&
           (indices.shape[d] == updates.shape[d] || indices.shape[d] == 1);
  }
  if (!fits || (x.shape[axis] == 0 && elements(updates.shape) != 0)) {
    fail("updates " + described(updates) + " at indices " + described(indices) + " do not fit " + described(x));
  }
  return {x.type, x.shape};
}

TensorType infer_scan(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  if (node.text("kind", "") != "sum") fail("kind '" + node.text("kind", "") + "'");
  if (x.type == Type::Bool) fail("a running sum does not take " + described(x));
  checked_axis(node, x);
  return {x.type, x.shape};
}

TensorType infer_arg_reduce(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const std::string kind = node.text("kind", "");
  if (kind != "max" && kind != "min") fail("kind '" + kind + "'");
  if (x.type == Type::Bool) fail("an extreme does not exist of " + described(x));
  Shape shape = x.shape;
  int64_t &size = shape[static_cast<std::size_t>(checked_axis(node, x))];
  if (size == 0) fail("an extreme does not exist along the empty axis of " + described(x));
  size = 1;
  return {Type::I64, shape};
}

TensorType infer_top_k(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  if (x.type == Type::Bool) fail("an order does not exist of " + described(x));
  Shape shape = x.shape;
  int64_t &size = shape[static_cast<std::size_t>(checked_axis(node, x))];
  const int64_t k = node.integer("k", -1);
  if (k < 0 || k > size) fail("k is " + std::to_string(k) + " of " + std::to_string(size) + " elements");
  size = k;
  return {Type::I64, shape};
}

TensorType infer_transpose(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const auto perm = node.integers("perm");
  std::vector<bool> seen(x.shape.size(), false);
  if (perm.size() != x.shape.size()) fail("perm " + to_text(perm) + " does not fit " + described(x));
  Shape shape;
  for (int64_t axis : perm) {
    if (axis < 0 || axis >= static_cast<int64_t>(perm.size()) || seen[static_cast<std::size_t>(axis)]) {
      fail("perm " + to_text(perm) + " is not a permutation");
    }
    seen[static_cast<std::size_t>(axis)] = true;
    shape.push_back(x.shape[static_cast<std::size_t>(axis)]);
  }
  return {x.type, shape};
}

TensorType infer_concat(const Node &node, const Operands &inputs) {
  const Tensor &first = operand(inputs, 0, "0");
  const auto axis = static_cast<std::size_t>(checked_axis(node, first));
  Shape shape = first.shape;
  for (std::size_t i = 1; i < inputs.size(); ++i) {
    const Tensor &next = operand(inputs, i, std::to_string(i).c_str());
    same_type(first, next);
    bool fits = next.shape.size() == shape.size();
    for (std::size_t d = 0; fits && d < shape.size(); ++d) fits = d == axis || next.shape[d] == shape[d];
    if (!fits) {
      fail(described(first) + " and " + described(next) + " cannot be joined along axis " + std::to_string(axis));
    }
    shape[axis] += next.shape[axis];
  }
  return {first.type, shape};
}

TensorType infer_reshape(const Operands &inputs, const Shape &requested) {
  const Tensor &x = operand(inputs, 0, "x");
  if (elements(requested) != elements(x.shape)) {
    fail(described(x) + " cannot be viewed as " + to_text(requested) + ": the number of elements differs");
  }
  return {x.type, requested};
}

TensorType infer_slice(const Node &node, const Operands &inputs, const Shape &requested) {
  const Tensor &x = operand(inputs, 0, "x");
  const auto starts = node.integers("starts");
  const auto steps = node.integers("steps");
  const std::size_t rank = x.shape.size();
  if (starts.size() != rank || steps.size() != rank || requested.size() != rank) {
    fail("starts and steps must have one entry per dimension of " + described(x));
  }
  for (std::size_t d = 0; d < rank; ++d) {
    if (steps[d] == 0) fail("steps holds 0");
    if (requested[d] == 0) continue;
    int64_t last = 0;
    const bool overflow =
        __builtin_mul_overflow(requested[d] - 1, steps[d], &last) || __builtin_add_overflow(last, starts[d], &last);
    if (overflow || starts[d] < 0 || starts[d] >= x.shape[d] || last < 0 || last >= x.shape[d]) {
      fail("slice leaves dimension " + std::to_string(d) + " of " + described(x));
    }
  }
  return {x.type, requested};
}

TensorType infer_gather(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const auto axis = static_cast<std::size_t>(checked_axis(node, x));
  const auto indices = node.integers("indices");
  for (int64_t index : indices) {
    if (index < 0 || index >= x.shape[axis]) {
      fail("index " + std::to_string(index) + " is out of range for axis " + std::to_string(axis) + " of " +
           described(x));
    }
  }
  Shape shape = x.shape;
  shape[axis] = static_cast<int64_t>(indices.size());
  return {x.type, shape};
}

TensorType infer_expand(const Operands &inputs, const Shape &requested) {
  const Tensor &x = operand(inputs, 0, "x");
  bool fits = requested.size() == x.shape.size();
  for (std::size_t d = 0; fits && d < requested.size(); ++d) fits = x.shape[d] == requested[d] || x.shape[d] == 1;
  if (!fits) fail(described(x) + " cannot be expanded to " + to_text(requested));
  return {x.type, requested};
}

TensorType infer_pad(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const std::size_t rank = x.shape.size();
  const auto pads = list(node, "pads", 2 * rank, 0);
  Shape shape = x.shape;
  for (std::size_t d = 0; d < rank; ++d) shape[d] += pads[d] + pads[rank + d];
  return {x.type, shape};
}

TensorType infer_cast(const Node &node, const Operands &inputs) {
  const Tensor &x = operand(inputs, 0, "x");
  const std::string to = node.text("to", "");
  for (int i = 0; i <= static_cast<int>(Type::Bool); ++i) {
    if (to == name_of(static_cast<Type>(i))) return {static_cast<Type>(i), x.shape};
  }
  fail("type '" + to + "'");
}

TensorType infer_unchecked(const Node &node, const Operands &inputs, const Shape *requested) {
  using Infer = TensorType (*)(const Node &, const Operands &);
  using InferShaped = TensorType (*)(const Operands &, const Shape &);
  static const std::map<std::string, Infer> by_operands = {{"Conv", infer_conv},
                                                           {"Pool", infer_pool},
                                                           {"MatMul", infer_matmul},
                                                           {"Reduce", infer_reduce},
                                                           {"Softmax", infer_softmax},
                                                           {"Unary", infer_unary},
                                                           {"Binary", infer_binary},
                                                           {"Select", infer_select},
                                                           {"Transpose", infer_transpose},
                                                           {"Concat", infer_concat},
                                                           {"Gather", infer_gather},
                                                           {"Pad", infer_pad},
                                                           {"Cast", infer_cast},
                                                           {"TakeAlong", infer_take_along},
                                                           {"ScatterAlong", infer_scatter_along},
                                                           {"Scan", infer_scan},
                                                           {"ArgReduce", infer_arg_reduce},
                                                           {"TopK", infer_top_k}};
  static const std::map<std::string, InferShaped> by_request = {{"Reshape", infer_reshape}, {"Expand", infer_expand}};
  if (auto it = by_operands.find(node.op); it != by_operands.end()) return it->second(node, inputs);
  if (node.op == "Copy") {
    const Tensor &x = operand(inputs, 0, "x");
    return {x.type, x.shape};
  }
  if (requested == nullptr) throw Error("operator '" + node.op + "' needs an output shape or does not exist");
  if (auto it = by_request.find(node.op); it != by_request.end()) return it->second(inputs, *requested);
  if (node.op == "Slice") return infer_slice(node, inputs, *requested);
  throw Error("operator '" + node.op + "' does not exist");
}

}  // namespace

Shape broadcast(const Shape &a, const Shape &b) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape shape(rank);
  for (std::size_t i = 0; i < rank; ++i) {
    const int64_t da = i < rank - a.size() ? 1 : a[i - (rank - a.size())];
    const int64_t db = i < rank - b.size() ? 1 : b[i - (rank - b.size())];
    if (da != db && da != 1 && db != 1) {
      fail("shapes " + to_text(a) + " and " + to_text(b) + " cannot be broadcast to each other");
    }
    shape[i] = da == 1 ? db : da;
  }
  return shape;
}

Shape row_major_strides(const Shape &shape) {
  Shape strides(shape.size());
  int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

TensorType infer(const Node &node, const std::vector<const Tensor *> &inputs, const Shape *requested) {
  TensorType result = infer_unchecked(node, inputs, requested);
  if (elements(result.shape) > kMaxElements) {
    fail("result of shape " + to_text(result.shape) + " has more than " + std::to_string(kMaxElements) + " elements");
  }
  return result;
}

void verify_shapes(const Graph &graph) {
  for (const Node &node : graph.nodes) {
    std::vector<const Tensor *> inputs;
    for (TensorId id : node.inputs) inputs.push_back(id == kNoTensor ? nullptr : &graph[id]);
    const Tensor &output = graph[node.outputs.at(0)];
    const TensorType expected = infer(node, inputs, &output.shape);
    if (expected.type != output.type || expected.shape != output.shape) {
      throw Error("node '" + node.name + "' (" + node.op + "): output " + described(output) + " should be " +
                  name_of(expected.type) + to_text(expected.shape));
    }
  }
}

}  // namespace cx::compiler
