// Operators that move elements or describe shapes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

std::size_t index_of(int64_t value) { return static_cast<std::size_t>(value); }

// An integer list that is an attribute in older opsets and an input from `since` on.
Integers listed(NodeContext &n, const std::string &name, std::size_t input, int since, Integers fallback = {}) {
  if (n.opset < since) return n.integers(name, std::move(fallback));
  return n.has_input(input) ? n.integer_input(input, name) : fallback;
}

Ids cast(NodeContext &n) {
  if (!n.has_attribute("to")) throw InputError("attribute 'to' is missing");
  return {n.b.cast(n.input(0), type_from_onnx(static_cast<int>(n.integer("to", 0)), "attribute 'to'"))};
}

Ids cast_like(NodeContext &n) { return {n.b.cast(n.input(0), n.b[n.input(1)].type)}; }

Ids shape_of(NodeContext &n) {
  const Shape shape = n.b.shape(n.input(0));
  const auto rank = static_cast<int64_t>(shape.size());
  auto clamped = [rank](int64_t value) { return std::clamp<int64_t>(value < 0 ? value + rank : value, 0, rank); };
  const int64_t start = clamped(n.integer("start", 0));
  const int64_t end = std::max(start, clamped(n.integer("end", rank)));
  return {n.b.integers(Integers(shape.begin() + start, shape.begin() + end))};
}

Ids size_of(NodeContext &n) {
  return {n.b.constant(make_constant("", Type::I64, {}, Integers{elements(n.b.shape(n.input(0)))}))};
}

Ids constant(NodeContext &n) {
  if (const auto *value = n.attribute("value"); value != nullptr) {
    if (!value->has_t()) throw InputError("attribute 'value' must be a tensor");
    return {n.b.stored(read_tensor(value->t(), n.folder()))};
  }
  if (n.has_attribute("value_float")) return {n.b.scalar(Type::F32, n.real("value_float", 0))};
  if (n.has_attribute("value_int")) {
    return {n.b.constant(make_constant("", Type::I64, {}, Integers{n.integer("value_int", 0)}))};
  }
  if (n.has_attribute("value_ints")) return {n.b.integers(n.integers("value_ints"))};
  if (const auto *value = n.attribute("value_floats"); value != nullptr) {
    const std::vector<float> values(value->floats().begin(), value->floats().end());
    return {n.b.constant(Tensor::constant("", {static_cast<int64_t>(values.size())}, values))};
  }
  throw UnsupportedError("Constant", "only dense numeric values are supported");
}

Ids constant_of_shape(NodeContext &n) {
  const Integers shape = n.integer_input(0, "shape");
  TensorId value = kNoTensor;
  if (const auto *given = n.attribute("value"); given != nullptr) {
    if (!given->has_t()) throw InputError("attribute 'value' must be a tensor");
    Tensor tensor = read_tensor(given->t(), n.folder());
    if (elements(tensor.shape) != 1) throw InputError("attribute 'value' must hold one element");
    value = n.b.reshape(n.b.constant(std::move(tensor)), {});
  } else {
    value = n.b.scalar(Type::F32, 0);
  }
  return {n.b.expand(value, shape)};
}

Ids range(NodeContext &n) {
  const Tensor &start = n.constant_input(0, "start");
  const Tensor &limit = n.constant_input(1, "limit");
  const Tensor &delta = n.constant_input(2, "delta");
  for (const Tensor *bound : {&start, &limit, &delta}) {
    if (elements(bound->shape) != 1) throw InputError("'" + printable(bound->name) + "' must be a scalar");
  }
  const double first = to_doubles(start)[0];
  const double step = to_doubles(delta)[0];
  const double count = std::ceil((to_doubles(limit)[0] - first) / step);
  // Written so that NaN is refused too.
  if (step == 0 || !(count < (1 << 24))) throw InputError("range is empty, endless or longer than 2^24");
  std::vector<double> values;
  for (int64_t i = 0; i < static_cast<int64_t>(std::max(count, 0.0)); ++i) {
    values.push_back(first + static_cast<double>(i) * step);
  }
  return {n.b.constant(make_constant("", start.type, {static_cast<int64_t>(values.size())}, values))};
}

Ids reshape(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape own = n.b.shape(x);
  Integers target = n.integer_input(1, "shape");
  const Integers asked = target;
  const bool keep_zero = n.integer("allowzero", 0) != 0;
  int64_t known = 1;
  int64_t open = -1;
  for (std::size_t d = 0; d < target.size(); ++d) {
    if (target[d] == 0 && !keep_zero) {
      if (d >= own.size()) throw InputError("shape " + to_text(asked) + " copies a dimension that the input lacks");
      target[d] = own[d];
    }
    if (target[d] == -1) {
      if (open >= 0) throw InputError("shape " + to_text(asked) + " leaves two dimensions open");
      open = static_cast<int64_t>(d);
    } else if (target[d] < 0 || __builtin_mul_overflow(known, target[d], &known)) {
      throw InputError("shape " + to_text(asked) + " is not valid");
    }
  }
  if (open >= 0) {
    if (known == 0 || elements(own) % known != 0) {
      throw InputError("input of shape " + to_text(own) + " cannot be viewed as " + to_text(asked));
    }
    target[index_of(open)] = elements(own) / known;
  }
  return {n.b.reshape(x, target)};
}

Ids squeeze(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape own = n.b.shape(x);
  const bool given = n.opset < 13 ? n.has_attribute("axes") : n.has_input(1);
  const Integers axes = NodeContext::axes(listed(n, "axes", 1, 13), static_cast<int64_t>(own.size()));
  Shape target;
  for (std::size_t d = 0; d < own.size(); ++d) {
    const bool named = std::binary_search(axes.begin(), axes.end(), static_cast<int64_t>(d));
    if (named && own[d] != 1) {
      throw InputError("axis " + std::to_string(d) + " of " + to_text(own) + " is not 1");
    }
    if (!(named || (!given && own[d] == 1))) target.push_back(own[d]);
  }
  return {n.b.reshape(x, target)};
}

Ids unsqueeze(NodeContext &n) {
  const TensorId x = n.input(0);
  Shape target = n.b.shape(x);
  const Integers given = listed(n, "axes", 1, 13);
  for (int64_t axis : NodeContext::axes(given, static_cast<int64_t>(target.size() + given.size()))) {
    target.insert(target.begin() + axis, 1);
  }
  return {n.b.reshape(x, target)};
}

Ids flatten(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape own = n.b.shape(x);
  const auto rank = static_cast<int64_t>(own.size());
  int64_t axis = n.integer("axis", 1);
  if (axis < -rank || axis > rank)
    throw InputError("axis " + std::to_string(axis) + " is out of range for " + to_text(own));
  if (axis < 0) axis += rank;
  return {n.b.reshape(
      x, {elements(Shape(own.begin(), own.begin() + axis)), elements(Shape(own.begin() + axis, own.end()))})};
}

Ids transpose(NodeContext &n) {
  const TensorId x = n.input(0);
  Integers reversed(n.b.shape(x).size());
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  return {n.b.transpose(x, n.integers("perm", reversed))};
}

Ids concat(NodeContext &n) {
  if (!n.has_attribute("axis")) throw InputError("attribute 'axis' is missing");
  const Ids parts = n.all_inputs();
  return {n.b.concat(parts, NodeContext::axis(n.integer("axis", 0), n.b.rank(parts[0])))};
}

Ids slice(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape own = n.b.shape(x);
  const auto rank = static_cast<int64_t>(own.size());
  const bool as_inputs = n.opset >= 10;
  const Integers starts = as_inputs ? n.integer_input(1, "starts") : n.integers("starts");
  const Integers ends = as_inputs ? n.integer_input(2, "ends") : n.integers("ends");
  Integers axes(starts.size());
  std::iota(axes.begin(), axes.end(), 0);
  axes = listed(n, "axes", 3, 10, axes);
  const Integers steps = as_inputs && n.has_input(4) ? n.integer_input(4, "steps") : Integers(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size()) {
    throw InputError("starts, ends, axes and steps have different lengths");
  }
  Integers first(own.size(), 0);
  Integers stride(own.size(), 1);
  Shape target = own;
  std::vector<bool> seen(own.size(), false);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto d = index_of(NodeContext::axis(axes[i], rank));
    if (seen[d]) throw InputError("an axis is listed twice");
    seen[d] = true;
    const int64_t size = own[d];
    const int64_t step = steps[i];
    if (step == 0) throw InputError("steps holds 0");
    // Any bound at or beyond an end means that end, so clamping first avoids overflow.
    auto resolve = [size](int64_t value, int64_t low, int64_t high) {
      if (value < 0) value = value < -size ? -1 - size : value;
      return std::clamp(value < 0 ? value + size : value, low, high);
    };
    const int64_t start = step > 0 ? resolve(starts[i], 0, size) : resolve(starts[i], -1, size - 1);
    const int64_t end = step > 0 ? resolve(ends[i], 0, size) : resolve(ends[i], -1, size - 1);
    const int64_t distance = step > 0 ? end - start : start - end;
    const int64_t pace = step > 0 ? step : -(std::max(step, -std::numeric_limits<int64_t>::max()));
    target[d] = distance <= 0 ? 0 : 1 + (distance - 1) / pace;
    first[d] = target[d] == 0 ? 0 : start;
    stride[d] = target[d] <= 1 ? 1 : step;
  }
  return {n.b.slice(x, first, stride, target)};
}

Ids split(NodeContext &n) {
  const TensorId x = n.input(0);
  const int64_t axis = NodeContext::axis(n.integer("axis", 0), n.b.rank(x));
  const int64_t size = n.b.shape(x)[index_of(axis)];
  const auto count = static_cast<int64_t>(n.output_count());
  Integers lengths = listed(n, "split", 1, 13);
  if (lengths.empty()) {
    if (count == 0) throw InputError("no outputs");
    const int64_t even = (size + count - 1) / count;
    if (n.opset < 18 && size % count != 0) {
      throw InputError("axis of " + std::to_string(size) + " cannot be split into " + std::to_string(count) +
                       " equal parts");
    }
    for (int64_t i = 0, left = size; i < count; ++i, left -= lengths.back()) lengths.push_back(std::min(even, left));
  }
  if (static_cast<int64_t>(lengths.size()) != count) throw InputError("split and the outputs differ in number");
  Ids parts;
  int64_t start = 0;
  for (int64_t length : lengths) {
    if (length < 0 || length > size - start) {
      throw InputError("split " + to_text(lengths) + " does not add up to " + std::to_string(size));
    }
    parts.push_back(n.b.slice_axis(x, axis, length == 0 ? 0 : start, length));
    start += length;
  }
  if (start != size) throw InputError("split " + to_text(lengths) + " does not add up to " + std::to_string(size));
  return parts;
}

Ids expand(NodeContext &n) {
  const TensorId x = n.input(0);
  const Integers asked = n.integer_input(1, "shape");
  elements(asked);
  return {n.b.expand(x, broadcast(n.b.shape(x), asked))};
}

Ids tile(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape own = n.b.shape(x);
  const Integers repeats = n.integer_input(1, "repeats");
  if (repeats.size() != own.size()) throw InputError("repeats must have one entry per dimension of " + to_text(own));
  // [d0, d1] -> [1, d0, 1, d1] -> [r0, d0, r1, d1] -> [r0 d0, r1 d1]
  Shape apart;
  Shape copied;
  Shape target;
  for (std::size_t d = 0; d < own.size(); ++d) {
    if (repeats[d] < 0 || repeats[d] > kMaxElements) throw InputError("repeats holds " + std::to_string(repeats[d]));
    if (repeats[d] != 1) {
      apart.push_back(1);
      copied.push_back(repeats[d]);
    }
    apart.push_back(own[d]);
    copied.push_back(own[d]);
    target.push_back(own[d] * repeats[d]);
  }
  return {n.b.reshape(n.b.expand(n.b.reshape(x, apart), copied), target)};
}

// Source index for each index of a padded axis; reflect mirrors without repeating the edge.
Integers padded_indices(int64_t size, int64_t begin, int64_t end, const std::string &mode) {
  if (begin + end + size > (1 << 24)) throw InputError("padding is too large");
  Integers indices;
  for (int64_t i = -begin; i < size + end; ++i) {
    int64_t index = std::clamp<int64_t>(i, 0, size - 1);
    if (mode == "wrap") {
      index = ((i % size) + size) % size;
    } else if (mode == "reflect" && size > 1) {
      const int64_t period = 2 * (size - 1);
      index = ((i % period) + period) % period;
      index = index < size ? index : period - index;
    }
    indices.push_back(index);
  }
  return indices;
}

Ids pad(NodeContext &n) {
  Builder &b = n.b;
  TensorId x = n.input(0);
  const auto rank = static_cast<std::size_t>(b.rank(x));
  const Integers given = listed(n, "pads", 1, 11);
  Integers pads(2 * rank, 0);
  Integers axes(rank);
  std::iota(axes.begin(), axes.end(), 0);
  if (n.opset >= 18 && n.has_input(3)) axes = n.integer_input(3, "axes");
  if (given.size() != 2 * axes.size()) throw InputError("pads must have two entries per padded dimension");
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto d = index_of(NodeContext::axis(axes[i], static_cast<int64_t>(rank)));
    pads[d] = given[i];
    pads[rank + d] = given[axes.size() + i];
  }
  const std::string mode = n.text("mode", "constant");
  if (mode == "constant") {
    float value = n.opset < 11 ? n.real("value", 0) : 0;
    if (n.opset >= 11 && n.has_input(2)) {
      const Tensor &constant = n.constant_input(2, "constant_value");
      if (elements(constant.shape) != 1) throw InputError("constant_value must be a scalar");
      value = to_floats(constant)[0];
    }
    return {b.pad(x, pads, value)};
  }
  if (mode != "reflect" && mode != "edge" && mode != "wrap") throw UnsupportedError("Pad", "mode '" + mode + "'");
  for (std::size_t d = 0; d < rank; ++d) {
    if (pads[d] == 0 && pads[rank + d] == 0) continue;
    if (pads[d] < 0 || pads[rank + d] < 0 || pads[d] > kMaxElements || pads[rank + d] > kMaxElements) {
      throw UnsupportedError("Pad", "negative or huge pads in mode '" + mode + "'");
    }
    if (b.shape(x)[d] == 0) throw InputError("an empty dimension cannot be padded in mode '" + mode + "'");
    x = b.gather(x, static_cast<int64_t>(d), padded_indices(b.shape(x)[d], pads[d], pads[rank + d], mode));
  }
  return {x};
}

Ids depth_to_space(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape s = n.b.shape(x);
  const int64_t block = n.integer("blocksize", 0);
  if (s.size() != 4 || block < 1 || block > 4096 || s[1] % (block * block) != 0) {
    throw InputError("blocksize " + std::to_string(block) + " does not fit input " + to_text(s));
  }
  const int64_t depth = s[1] / (block * block);
  const std::string mode = n.text("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") throw InputError("mode '" + mode + "'");
  const bool depth_last = mode == "DCR";
  const Shape apart =
      depth_last ? Shape{s[0], block, block, depth, s[2], s[3]} : Shape{s[0], depth, block, block, s[2], s[3]};
  const Integers perm = depth_last ? Integers{0, 3, 4, 1, 5, 2} : Integers{0, 1, 4, 2, 5, 3};
  return {n.b.reshape(n.b.transpose(n.b.reshape(x, apart), perm), {s[0], depth, s[2] * block, s[3] * block})};
}

Ids space_to_depth(NodeContext &n) {
  const TensorId x = n.input(0);
  const Shape s = n.b.shape(x);
  const int64_t block = n.integer("blocksize", 0);
  if (s.size() != 4 || block < 1 || block > 4096 || s[2] % block != 0 || s[3] % block != 0) {
    throw InputError("blocksize " + std::to_string(block) + " does not fit input " + to_text(s));
  }
  const TensorId apart = n.b.reshape(x, {s[0], s[1], s[2] / block, block, s[3] / block, block});
  return {
      n.b.reshape(n.b.transpose(apart, {0, 3, 5, 1, 2, 4}), {s[0], s[1] * block * block, s[2] / block, s[3] / block})};
}

}  // namespace

void register_shape(LoweringTable &table) {
  table["Cast"] = cast;
  table["CastLike"] = cast_like;
  table["Shape"] = shape_of;
  table["Size"] = size_of;
  table["Constant"] = constant;
  table["ConstantOfShape"] = constant_of_shape;
  table["Range"] = range;
  table["Reshape"] = reshape;
  table["Squeeze"] = squeeze;
  table["Unsqueeze"] = unsqueeze;
  table["Flatten"] = flatten;
  table["Transpose"] = transpose;
  table["Concat"] = concat;
  table["Slice"] = slice;
  table["Split"] = split;
  table["Expand"] = expand;
  table["Tile"] = tile;
  table["Pad"] = pad;
  table["DepthToSpace"] = depth_to_space;
  table["SpaceToDepth"] = space_to_depth;
}

}  // namespace cx::compiler
