// Operators that find elements by index: gathering, scattering, orders, one-hot codes.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/host_operators.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

std::size_t index_of(int64_t value) { return static_cast<std::size_t>(value); }

int64_t product(const Shape &shape, std::size_t first, std::size_t last) {
  return elements(Shape(shape.begin() + static_cast<long>(first), shape.begin() + static_cast<long>(last)));
}

TensorId checked_indices(NodeContext &n, std::size_t input) {
  const TensorId id = n.input(input);
  const Tensor &indices = n.b[id];
  if (indices.type != Type::I32 && indices.type != Type::I64) {
    throw InputError("indices '" + printable(indices.name) + "' are " + name_of(indices.type) +
                     ", expected int32 or int64");
  }
  return id;
}

// [0, length) as a constant along one axis of `rank` dimensions.
TensorId counted(Builder &b, int64_t length, int64_t axis, std::size_t rank, Type type = Type::I64) {
  Builder::check_table(length);
  Integers values(index_of(length));
  std::iota(values.begin(), values.end(), 0);
  Shape shape(rank, 1);
  shape[index_of(axis)] = length;
  return b.constant(make_constant("", type, shape, values));
}

// Indices that count from the end are made to count from the start.
TensorId from_start(Builder &b, TensorId indices, int64_t size) {
  const Type type = b[indices].type;
  return b.select(b.compare("lt", indices, b.scalar(type, 0)), b.binary("add", indices, static_cast<double>(size)),
                  indices);
}

Ids gather(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape own = b.shape(x);
  const int64_t axis = NodeContext::axis(n.integer("axis", 0), b.rank(x));
  const auto at = index_of(axis);
  const TensorId indices = checked_indices(n, 1);
  const Shape shape = b.shape(indices);
  Shape target(own.begin(), own.begin() + axis);
  target.insert(target.end(), shape.begin(), shape.end());
  target.insert(target.end(), own.begin() + axis + 1, own.end());
  if (b.is_constant(indices)) {
    Integers flat = to_integers(b[indices]);
    for (int64_t &index : flat) index = index < 0 ? index + own[at] : index;
    return {b.reshape(b.gather(x, axis, std::move(flat)), target)};
  }
  const TensorId lanes = b.reshape(x, {product(own, 0, at), own[at], product(own, at + 1, own.size())});
  return {b.reshape(b.take_along(lanes, b.reshape(indices, {1, elements(shape), 1}), 1), target)};
}

// x cut, outside the axis, to the size of the indices.
TensorId cut_to(Builder &b, TensorId x, const Shape &shape, int64_t axis) {
  if (shape.size() != b.shape(x).size()) {
    throw InputError("indices of shape " + to_text(shape) + " must have the rank of " + to_text(b.shape(x)));
  }
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (static_cast<int64_t>(d) == axis || shape[d] == b.shape(x)[d]) continue;
    if (shape[d] > b.shape(x)[d]) {
      throw InputError("indices of shape " + to_text(shape) + " are larger than " + to_text(b.shape(x)));
    }
    x = b.slice_axis(x, static_cast<int64_t>(d), 0, shape[d]);
  }
  return x;
}

Ids gather_elements(NodeContext &n) {
  Builder &b = n.b;
  const int64_t axis = NodeContext::axis(n.integer("axis", 0), b.rank(n.input(0)));
  const TensorId indices = checked_indices(n, 1);
  return {b.take_along(cut_to(b, n.input(0), b.shape(indices), axis), indices, axis)};
}

// Tuples in the last dimension of `indices`, which address the dimensions of `sizes`, become offsets: [batch, tuples].
TensorId flat_indices(Builder &b, TensorId indices, const Integers &sizes, int64_t batch) {
  const int64_t width = b.shape(indices).back();
  const int64_t tuples = elements(b.shape(indices)) / std::max<int64_t>(width * batch, 1);
  const TensorId table = b.reshape(indices, {batch, tuples, width});
  TensorId sum = kNoTensor;
  int64_t pitch = 1;
  for (int64_t k = width; k-- > 0;) {
    const int64_t size = sizes[index_of(k)];
    TensorId part = b.reshape(b.slice_axis(table, 2, k, 1), {batch, tuples});
    // A single index may count from the end as it is.
    if (width > 1) part = from_start(b, part, size);
    if (pitch != 1) part = b.binary("mul", part, static_cast<double>(pitch));
    sum = sum == kNoTensor ? part : b.binary("add", sum, part);
    pitch *= size;
  }
  return sum;
}

int64_t tuple_width(Builder &b, TensorId x, TensorId indices, int64_t batch_dims) {
  const Shape shape = b.shape(indices);
  const std::string what = "indices of shape " + to_text(shape) + " do not fit " + to_text(b.shape(x));
  if (shape.empty()) throw InputError(what);
  const int64_t width = shape.back();
  const int64_t rank = static_cast<int64_t>(shape.size());
  if (width < 1 || batch_dims < 0 || batch_dims >= rank || batch_dims + width > b.rank(x)) throw InputError(what);
  for (int64_t d = 0; d < batch_dims; ++d) {
    if (shape[index_of(d)] != b.shape(x)[index_of(d)]) throw InputError(what);
  }
  return width;
}

Ids gather_nd(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId indices = checked_indices(n, 1);
  const int64_t batch_dims = n.integer("batch_dims", 0);
  const int64_t width = tuple_width(b, x, indices, batch_dims);
  const Shape own = b.shape(x);
  const Shape shape = b.shape(indices);
  const auto first = index_of(batch_dims);
  const auto rest = index_of(batch_dims + width);
  Shape target(shape.begin(), shape.end() - 1);
  target.insert(target.end(), own.begin() + static_cast<long>(rest), own.end());
  const int64_t batch = product(own, 0, first);
  if (elements(target) == 0) {
    return {b.constant(Tensor{"", b[x].type, target, std::vector<std::byte>()})};
  }
  const Integers sizes(own.begin() + batch_dims, own.begin() + static_cast<long>(rest));
  const TensorId flat = flat_indices(b, indices, sizes, batch);
  const TensorId table = b.reshape(x, {batch, product(own, first, rest), product(own, rest, own.size())});
  const TensorId taken = b.take_along(table, b.reshape(flat, {batch, b.shape(flat)[1], 1}), 1);
  return {b.reshape(taken, target)};
}

std::string reduction_of(NodeContext &n) {
  const std::string reduction = n.text("reduction", "none");
  static const std::set<std::string> known = {"add", "mul", "max", "min"};
  if (reduction == "none") return "set";
  if (known.count(reduction) == 0) throw InputError("attribute 'reduction' is '" + reduction + "'");
  return reduction;
}

Ids scatter_elements(NodeContext &n) {
  const TensorId x = n.input(0);
  const int64_t axis = NodeContext::axis(n.integer("axis", 0), n.b.rank(x));
  const TensorId indices = checked_indices(n, 1);
  if (n.b.shape(indices) != n.b.shape(n.input(2))) throw InputError("indices and updates have different shapes");
  if (elements(n.b.shape(indices)) == 0) return {x};
  return {n.b.scatter_along(x, indices, n.input(2), axis, reduction_of(n))};
}

Ids scatter_nd(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId indices = checked_indices(n, 1);
  const int64_t width = tuple_width(b, x, indices, 0);
  const Shape own = b.shape(x);
  const auto rest = index_of(width);
  const Shape shape = b.shape(indices);
  Shape expected(shape.begin(), shape.end() - 1);
  expected.insert(expected.end(), own.begin() + width, own.end());
  if (b.shape(n.input(2)) != expected) {
    throw InputError("updates of shape " + to_text(b.shape(n.input(2))) + " must have shape " + to_text(expected));
  }
  if (elements(expected) == 0) return {x};
  const TensorId flat = flat_indices(b, indices, Integers(own.begin(), own.begin() + width), 1);
  const int64_t tuples = b.shape(flat)[1];
  const int64_t slice = product(own, rest, own.size());
  const TensorId result = b.scatter_along(b.reshape(x, {product(own, 0, rest), slice}), b.reshape(flat, {tuples, 1}),
                                          b.reshape(n.input(2), {tuples, slice}), 0, reduction_of(n));
  return {b.reshape(result, own)};
}

Lowering arg_extreme(const std::string &kind) {
  return [kind](NodeContext &n) {
    Builder &b = n.b;
    const TensorId x = n.input(0);
    const int64_t axis = NodeContext::axis(n.integer("axis", 0), b.rank(x));
    const TensorId found = b.arg_reduce(kind, x, axis, n.integer("select_last_index", 0) != 0);
    if (n.integer("keepdims", 1) != 0) return Ids{found};
    Shape shape = b.shape(found);
    shape.erase(shape.begin() + axis);
    return Ids{b.reshape(found, shape)};
  };
}

Ids top_k(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const int64_t axis = NodeContext::axis(n.integer("axis", -1), b.rank(x));
  int64_t k = n.integer("k", 0);
  if (n.opset >= 10) {
    const Integers given = n.integer_input(1, "k");
    if (given.size() != 1) throw InputError("k must have one element");
    k = given[0];
  }
  const TensorId indices = b.top_k(x, axis, k, n.integer("largest", 1) != 0);
  return {n.output_used(0) ? b.take_along(x, indices, axis) : kNoTensor, indices};
}

Ids hardmax(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape own = b.shape(x);
  const Type type = b[x].type;
  auto mark = [&](TensorId lanes, int64_t axis) {
    const Shape shape = b.shape(lanes);
    const TensorId positions = counted(b, shape[index_of(axis)], axis, shape.size());
    const TensorId first = b.arg_reduce("max", lanes, axis, false);
    return b.select(b.compare("eq", positions, first), b.scalar(type, 1), b.scalar(type, 0));
  };
  if (n.opset >= 13) return {mark(x, NodeContext::axis(n.integer("axis", -1), b.rank(x)))};
  const auto axis = index_of(NodeContext::axis(n.integer("axis", 1), b.rank(x) + 1));
  return {b.reshape(mark(b.reshape(x, {product(own, 0, axis), product(own, axis, own.size())}), 1), own)};
}

Ids one_hot(NodeContext &n) {
  Builder &b = n.b;
  TensorId indices = n.input(0);
  const Tensor &given = n.constant_input(1, "depth");
  if (elements(given.shape) != 1) throw InputError("depth must be a scalar");
  const int64_t depth = to_integers(given)[0];
  if (depth < 1 || depth > kMaxElements) throw InputError("depth is " + std::to_string(depth));
  if (b[indices].type != Type::I32) indices = b.cast(indices, Type::I64);
  const Type type = b[indices].type;
  const int64_t rank = b.rank(indices) + 1;
  const int64_t axis = NodeContext::axis(n.integer("axis", -1), rank);
  Shape shape = b.shape(indices);
  shape.insert(shape.begin() + axis, 1);
  const TensorId chosen = b.reshape(from_start(b, indices, depth), shape);
  const TensorId here = b.compare("eq", counted(b, depth, axis, index_of(rank), type), chosen);
  const TensorId values = n.input(2);
  if (b.shape(values) != Shape{2}) throw InputError("values must have shape [2]");
  return {b.select(here, b.slice_axis(values, 0, 1, 1), b.slice_axis(values, 0, 0, 1))};
}

Ids cumulative_sum(NodeContext &n) {
  const TensorId x = n.input(0);
  const Integers given = n.integer_input(1, "axis");
  if (given.size() != 1) throw InputError("axis must have one element");
  const int64_t axis = NodeContext::axis(given[0], n.b.rank(x));
  return {n.b.cumulative_sum(x, axis, n.integer("exclusive", 0) != 0, n.integer("reverse", 0) != 0)};
}

// Element [.., r, c] of a constant mask: whether c - r lies on the wanted side of k.
Ids trilu(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape own = b.shape(x);
  if (own.size() < 2) throw InputError("input " + to_text(own) + " must have rank 2 or more");
  int64_t k = 0;
  if (n.has_input(1)) {
    const Integers given = n.integer_input(1, "k");
    if (given.size() != 1) throw InputError("k must have one element");
    k = given[0];
  }
  const bool upper = n.integer("upper", 1) != 0;
  const int64_t rows = own[own.size() - 2];
  const int64_t columns = own.back();
  if (rows > kMaxElements / std::max<int64_t>(columns, 1)) throw InputError("the mask is too large");
  Builder::check_table(rows * columns);
  Integers mask;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) mask.push_back((upper ? c - r >= k : c - r <= k) ? 1 : 0);
  }
  const TensorId kept = b.constant(make_constant("", Type::Bool, {rows, columns}, mask));
  return {b.select(kept, x, b.scalar(b[x].type, 0))};
}

Ids eye_like(NodeContext &n) {
  Builder &b = n.b;
  const Shape shape = b.shape(n.input(0));
  if (shape.size() != 2) throw InputError("input " + to_text(shape) + " must have rank 2");
  const Type type = n.has_attribute("dtype")
                        ? type_from_onnx(static_cast<int>(n.integer("dtype", 0)), "attribute 'dtype'")
                        : b[n.input(0)].type;
  Builder::check_table(elements(shape));
  const int64_t k = n.integer("k", 0);
  Integers values(index_of(elements(shape)), 0);
  for (int64_t r = 0; r < shape[0]; ++r) {
    if (k > -r - 1 && k < shape[1] - r) values[index_of(r * shape[1] + r + k)] = 1;
  }
  return {b.constant(make_constant("", type, shape, values))};
}

Ids reverse_sequence(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const int64_t rank = b.rank(x);
  const int64_t time = NodeContext::axis(n.integer("time_axis", 0), rank);
  const int64_t batch = NodeContext::axis(n.integer("batch_axis", 1), rank);
  if (time == batch || time > 1 || batch > 1) throw InputError("time_axis and batch_axis must be 0 and 1");
  Shape shape(index_of(rank), 1);
  shape[index_of(batch)] = b.shape(x)[index_of(batch)];
  const TensorId lengths = b.reshape(b.cast(n.input(1), Type::I64), shape);
  const TensorId step = counted(b, b.shape(x)[index_of(time)], time, index_of(rank));
  const TensorId mirrored = b.binary("sub", b.binary("sub", lengths, 1.0), step);
  return {b.take_along(x, b.select(b.compare("lt", step, lengths), mirrored, step), time)};
}

Ids compress_elements(NodeContext &n) {
  Builder &b = n.b;
  TensorId x = n.input(0);
  const std::optional<int64_t> axis =
      n.has_attribute("axis") ? std::optional(NodeContext::axis(n.integer("axis", 0), b.rank(x))) : std::nullopt;
  // A flag list that is an input of the model itself is fixed in the program; one that is computed is the host's.
  const std::string name = b[n.input(1)].name;
  const bool is_input = !b.is_constant(n.input(1)) && b.sources(n.input(1)) == std::vector<std::string>{name};
  if (!is_input) n.require_constants({1});
  const Tensor &condition = n.constant_input(1, "condition");
  if (b.is_constant(x)) return {b.constant(compress(b[x], condition, axis))};
  if (condition.type != Type::Bool || condition.shape.size() != 1) {
    throw InputError("the condition must be a list of bool");
  }
  const Integers flags = to_integers(condition);
  if (!axis) x = b.reshape(x, {elements(b.shape(x))});
  if (static_cast<int64_t>(flags.size()) > b.shape(x)[index_of(axis.value_or(0))]) {
    throw InputError("the condition is longer than the axis");
  }
  Integers kept;
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i] != 0) kept.push_back(static_cast<int64_t>(i));
  }
  return {b.gather(x, axis.value_or(0), kept)};
}

Ids non_zero_positions(NodeContext &n) {
  n.require_constants({0});
  return {n.b.constant(non_zero(n.b[n.input(0)]))};
}

Ids unique_elements(NodeContext &n) {
  Builder &b = n.b;
  n.require_constants({0});
  const TensorId x = n.input(0);
  const std::optional<int64_t> axis =
      n.has_attribute("axis") ? std::optional(NodeContext::axis(n.integer("axis", 0), b.rank(x))) : std::nullopt;
  UniqueResult result = unique(b[x], axis, n.integer("sorted", 1) != 0);
  return {b.constant(std::move(result.values)), b.integers(result.first), b.integers(result.inverse),
          b.integers(result.counts)};
}

std::optional<double> optional_number(NodeContext &n, std::size_t index, const char *role) {
  if (!n.has_input(index)) return std::nullopt;
  const std::vector<double> values = to_doubles(n.b[n.input(index)]);
  if (values.size() != 1) throw InputError(std::string(role) + " must be one number");
  return values[0];
}

Ids suppress(NodeContext &n) {
  n.require_constants({0, 1, 2, 3, 4});
  SuppressionLimits limits;
  limits.center_point_box = n.integer("center_point_box", 0) != 0;
  limits.boxes_per_class = static_cast<int64_t>(optional_number(n, 2, "max_output_boxes_per_class").value_or(0));
  limits.overlap = static_cast<float>(optional_number(n, 3, "iou_threshold").value_or(0));
  if (const auto score = optional_number(n, 4, "score_threshold")) limits.score = static_cast<float>(*score);
  return {n.b.constant(non_max_suppression(n.b[n.input(0)], n.b[n.input(1)], limits))};
}

}  // namespace

void register_indexing(LoweringTable &table) {
  table["Gather"] = gather;
  table["GatherElements"] = gather_elements;
  table["GatherND"] = gather_nd;
  table["Scatter"] = scatter_elements;
  table["ScatterElements"] = scatter_elements;
  table["ScatterND"] = scatter_nd;
  table["ArgMax"] = arg_extreme("max");
  table["ArgMin"] = arg_extreme("min");
  table["TopK"] = top_k;
  table["Hardmax"] = hardmax;
  table["OneHot"] = one_hot;
  table["CumSum"] = cumulative_sum;
  table["Trilu"] = trilu;
  table["EyeLike"] = eye_like;
  table["ReverseSequence"] = reverse_sequence;
  table["Compress"] = compress_elements;
  table["NonZero"] = non_zero_positions;
  table["Unique"] = unique_elements;
  table["NonMaxSuppression"] = suppress;
}

}  // namespace cx::compiler
