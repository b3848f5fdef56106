// Pooling and reductions.
#include <algorithm>
#include <limits>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/window.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

TensorId pool_2d(Builder &b, TensorId x, const std::string &kind, const Window &window) {
  return b.emit("Pool", {x},
                {{"kind", kind},
                 {"kernel", window.kernel},
                 {"strides", window.strides},
                 {"pads", Integers{window.begin[0], window.begin[1], window.end[0], window.end[1]}},
                 {"dilations", window.dilations},
                 {"count_include_pad", int64_t{1}}});
}

// Dimensions `first` and `second` of a window; one beyond its rank is a dimension of size 1.
Window pair_of(const Window &window, std::size_t first, std::size_t second) {
  Window result;
  for (std::size_t d : {first, second}) {
    const bool present = d < window.rank();
    result.kernel.push_back(present ? window.kernel[d] : 1);
    result.strides.push_back(present ? window.strides[d] : 1);
    result.dilations.push_back(present ? window.dilations[d] : 1);
    result.begin.push_back(present ? window.begin[d] : 0);
    result.end.push_back(present ? window.end[d] : 0);
  }
  return result;
}

// Windows of any rank from 1 to 3; maxima and sums of more than two dimensions are taken one after the other.
TensorId pool(Builder &b, TensorId x, const std::string &kind, const Window &window) {
  constexpr std::size_t kAbsent = std::numeric_limits<std::size_t>::max();
  const Shape s = b.shape(x);
  switch (window.rank()) {
    case 1: {
      const TensorId y = pool_2d(b, b.reshape(x, {s[0], s[1], 1, s[2]}), kind, pair_of(window, kAbsent, 0));
      return b.reshape(y, {s[0], s[1], b.shape(y)[3]});
    }
    case 2:
      return pool_2d(b, x, kind, window);
    case 3: {
      const TensorId planes = pool_2d(b, b.reshape(x, {s[0], s[1] * s[2], s[3], s[4]}), kind, pair_of(window, 1, 2));
      const Shape p = b.shape(planes);
      const TensorId y =
          pool_2d(b, b.reshape(planes, {s[0], s[1], s[2], p[2] * p[3]}), kind, pair_of(window, 0, kAbsent));
      return b.reshape(y, {s[0], s[1], b.shape(y)[2], p[2], p[3]});
    }
    default:
      throw UnsupportedError("Pool", std::to_string(window.rank()) + " spatial dimensions; 1 to 3 are supported");
  }
}

// Number of windows along a dimension. With ceil_mode the last one may reach beyond the padding but not start there.
int64_t window_count(const Window &window, std::size_t d, int64_t size, bool ceil_mode) {
  const int64_t room = size + window.begin[d] + window.end[d] - window.extent(d);
  if (room < 0) {
    throw InputError("a window of " + std::to_string(window.extent(d)) + " does not fit into dimension " +
                     std::to_string(d + 2) + " of " + std::to_string(size));
  }
  int64_t count = room / window.strides[d] + 1;
  if (ceil_mode && room % window.strides[d] != 0 && count * window.strides[d] < size + window.begin[d]) ++count;
  return count;
}

struct Pooling {
  Window window;                ///< end pads reach as far as the last window
  Window stated;                ///< end pads as in the model
  std::vector<int64_t> counts;  ///< windows per dimension
};

Pooling read_pooling(const NodeContext &n, const Shape &shape) {
  if (shape.size() < 3) throw InputError("input " + to_text(shape) + " must have rank 3 or more");
  if (!n.has_attribute("kernel_shape")) throw InputError("attribute 'kernel_shape' is missing");
  const Shape spatial(shape.begin() + 2, shape.end());
  Pooling pooling;
  pooling.stated = read_window(n, n.integers("kernel_shape"), spatial);
  pooling.window = pooling.stated;
  const bool ceil_mode = n.integer("ceil_mode", 0) != 0;
  for (std::size_t d = 0; d < spatial.size(); ++d) {
    const Window &window = pooling.stated;
    pooling.counts.push_back(window_count(window, d, spatial[d], ceil_mode));
    const int64_t reach = (pooling.counts[d] - 1) * window.strides[d] + window.extent(d);
    pooling.window.end[d] = std::max<int64_t>(0, reach - spatial[d] - window.begin[d]);
  }
  return pooling;
}

// Position of each maximum among the elements of x in row-major order (or with the spatial dimensions the other way
// around): the elements of a window side by side, of which the first largest is found.
TensorId max_positions(Builder &b, TensorId x, const Pooling &pooling, bool column_major) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Shape shape = b.shape(x);
  const std::size_t rank = pooling.window.rank();
  const Window &window = pooling.window;
  Integers pads(2 * shape.size(), 0);
  for (std::size_t d = 0; d < rank; ++d) {
    pads[d + 2] = window.begin[d];
    pads[shape.size() + d + 2] = window.end[d];
  }
  const TensorId padded = b.pad(x, pads, -kInfinity);
  Shape part_shape = {shape[0], shape[1], 1};
  part_shape.insert(part_shape.end(), pooling.counts.begin(), pooling.counts.end());
  const int64_t volume = elements(window.kernel);
  const int64_t windows = elements(pooling.counts);
  if (volume > 4096) throw UnsupportedError("MaxPool", "indices of windows with more than 4096 elements");
  Builder::check_table(windows);
  Builder::check_table(volume * windows);
  Builder::check_table(shape[0] * shape[1]);
  Integers strides(rank);  // of the positions
  int64_t pitch = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    const std::size_t d = column_major ? i : rank - 1 - i;
    strides[d] = pitch;
    pitch *= shape[d + 2];
  }
  Ids parts;
  Integers table;  // [volume, windows]
  for (int64_t k = 0; k < volume; ++k) {
    Integers offset(rank);
    int64_t rest = k;
    for (std::size_t d = rank; d-- > 0; rest /= window.kernel[d]) {
      offset[d] = rest % window.kernel[d] * window.dilations[d];
    }
    Integers starts = {0, 0};
    Integers steps = {1, 1};
    Shape taken = {shape[0], shape[1]};
    for (std::size_t d = 0; d < rank; ++d) {
      starts.push_back(offset[d]);
      steps.push_back(pooling.counts[d] == 1 ? 1 : window.strides[d]);
      taken.push_back(pooling.counts[d]);
    }
    parts.push_back(b.reshape(b.slice(padded, starts, steps, taken), part_shape));
    for (int64_t o = 0; o < windows; ++o) {
      int64_t left = o;
      int64_t place = 0;
      for (std::size_t d = rank; d-- > 0; left /= pooling.counts[d]) {
        place += (left % pooling.counts[d] * window.strides[d] - window.begin[d] + offset[d]) * strides[d];
      }
      table.push_back(place);
    }
  }
  const TensorId chosen = b.arg_reduce("max", b.concat(parts, 2), 2, false);
  Shape table_shape = {1, 1, volume};
  table_shape.insert(table_shape.end(), pooling.counts.begin(), pooling.counts.end());
  const TensorId places = b.take_along(b.constant(make_constant("", Type::I64, table_shape, table)), chosen, 2);
  Integers planes;
  for (int64_t i = 0; i < shape[0] * shape[1]; ++i) planes.push_back(i * pitch);
  Shape plane_shape(shape.size(), 1);
  plane_shape[0] = shape[0];
  plane_shape[1] = shape[1];
  Shape target(shape.begin(), shape.begin() + 2);
  target.insert(target.end(), pooling.counts.begin(), pooling.counts.end());
  return b.binary("add", b.reshape(places, target), b.constant(make_constant("", Type::I64, plane_shape, planes)));
}

Ids max_pool(NodeContext &n) {
  Builder &b = n.b;
  n.only_outputs(2);
  const Type type = b[n.input(0)].type;
  if (is_integer(type) && bytes_of(type) > 2)
    throw UnsupportedError("MaxPool", std::string("elements of ") + name_of(type));
  // FP32 holds 8-bit integers exactly.
  const TensorId x = b.cast(n.input(0), is_float(type) ? type : Type::F32);
  const Pooling pooling = read_pooling(n, b.shape(x));
  Ids outputs = {b.cast(pool(b, x, "max", pooling.window), type)};
  if (n.output_used(1)) outputs.push_back(max_positions(b, x, pooling, n.integer("storage_order", 0) != 0));
  return outputs;
}

// The p-th root of the sum of p-th powers of magnitudes, as `sum` adds them up.
TensorId power_mean(Builder &b, TensorId x, int64_t p, const std::function<TensorId(TensorId)> &sum) {
  if (p < 1) throw InputError("attribute 'p' is " + std::to_string(p));
  if (p == 1) return sum(b.unary("abs", x));
  if (p == 2) return b.unary("sqrt", sum(b.binary("mul", x, x)));
  const TensorId powers = b.binary("pow", b.unary("abs", x), static_cast<double>(p));
  return b.binary("pow", sum(powers), 1.0 / static_cast<double>(p));
}

Ids lp_pool(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Pooling pooling = read_pooling(n, b.shape(x));
  return {power_mean(b, x, n.integer("p", 2), [&](TensorId id) { return pool(b, id, "sum", pooling.window); })};
}

Ids global_lp_pool(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  if (b.rank(x) < 3) throw InputError("input " + to_text(b.shape(x)) + " must have rank 3 or more");
  Integers axes(static_cast<std::size_t>(b.rank(x)) - 2);
  std::iota(axes.begin(), axes.end(), 2);
  return {power_mean(b, x, n.integer("p", 2), [&](TensorId id) { return b.reduce("sum", id, axes); })};
}

Ids lp_normalisation(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const int64_t axis = NodeContext::axis(n.integer("axis", -1), b.rank(x));
  const TensorId norm = power_mean(b, x, n.integer("p", 2), [&](TensorId id) { return b.reduce("sum", id, {axis}); });
  // A vector of zeros stays one.
  const TensorId zero = b.compare("eq", norm, b.scalar(b[x].type, 0));
  return {b.binary("div", x, b.select(zero, b.scalar(b[x].type, 1), norm))};
}

// For each window along a dimension: how many of its elements count as divisor.
std::vector<double> divisors(const Pooling &pooling, std::size_t d, int64_t size, bool include_pad) {
  const Window &window = pooling.stated;
  const int64_t low = include_pad ? -window.begin[d] : 0;
  const int64_t high = include_pad ? size + window.end[d] : size;
  if (pooling.counts[d] > (1 << 24)) throw UnsupportedError("AveragePool", "more than 2^24 windows with padding");
  // Kernel elements that lie before `limit`: those k with start + k * dilation < limit.
  auto before = [&](int64_t start, int64_t limit) {
    const int64_t room = limit - start;
    return room <= 0 ? 0 : std::min(window.kernel[d], (room - 1) / window.dilations[d] + 1);
  };
  std::vector<double> result;
  for (int64_t i = 0; i < pooling.counts[d]; ++i) {
    const int64_t start = i * window.strides[d] - window.begin[d];
    const int64_t count = before(start, high) - before(start, low);
    // A window without elements has sum 0; a divisor of 1 keeps it.
    result.push_back(static_cast<double>(std::max<int64_t>(count, 1)));
  }
  return result;
}

Ids average_pool(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  const Pooling pooling = read_pooling(n, shape);
  const bool include_pad = n.integer("count_include_pad", 0) != 0;
  const std::size_t rank = pooling.window.rank();
  bool uniform = true;
  double volume = 1;
  std::vector<std::vector<double>> counts;
  for (std::size_t d = 0; d < rank; ++d) {
    const auto kernel = static_cast<double>(pooling.window.kernel[d]);
    const bool inside = pooling.window.begin[d] == 0 && pooling.window.end[d] == 0;
    counts.push_back(inside ? std::vector<double>{kernel} : divisors(pooling, d, shape[d + 2], include_pad));
    uniform = uniform && std::all_of(counts[d].begin(), counts[d].end(), [&](double count) { return count == kernel; });
    volume *= kernel;
  }
  if (uniform && rank <= 2) return {pool(b, x, "avg", pooling.window)};
  const TensorId sum = pool(b, x, "sum", pooling.window);
  if (uniform) return {b.binary("div", sum, volume)};
  TensorId divisor = b.scalar(Type::F32, 1);
  for (std::size_t d = 0; d < rank; ++d) {
    Shape along(rank + 2, 1);
    along[d + 2] = static_cast<int64_t>(counts[d].size());
    divisor = b.binary("mul", divisor, b.constant(make_constant("", Type::F32, along, counts[d])));
  }
  return {b.binary("div", sum, divisor)};
}

Lowering global_pool(const std::string &kind) {
  return [kind](NodeContext &n) {
    const TensorId x = n.input(0);
    if (n.b.rank(x) < 3) throw InputError("input " + to_text(n.b.shape(x)) + " must have rank 3 or more");
    Integers axes(static_cast<std::size_t>(n.b.rank(x)) - 2);
    std::iota(axes.begin(), axes.end(), 2);
    return Ids{n.b.reduce(kind, x, axes)};
  };
}

using Reduction = std::function<TensorId(Builder &, TensorId, const Integers &)>;

Reduction simple(const std::string &kind) {
  return [kind](Builder &b, TensorId x, const Integers &axes) {
    if (kind == "mean" && is_integer(b[x].type)) {
      const TensorId sum = b.reduce("sum", x, axes);
      const int64_t count = elements(b.shape(x)) / std::max<int64_t>(elements(b.shape(sum)), 1);
      return b.binary("div", sum, static_cast<double>(count));
    }
    return b.reduce(kind, x, axes);
  };
}

// Functions of integers are computed in FP32.
Reduction in_floats(Reduction reduce) {
  return [reduce = std::move(reduce)](Builder &b, TensorId x, const Integers &axes) {
    const Type type = b[x].type;
    return is_float(type) ? reduce(b, x, axes) : b.cast(reduce(b, b.cast(x, Type::F32), axes), type);
  };
}

TensorId norm_2(Builder &b, TensorId x, const Integers &axes) { return b.unary("sqrt", b.reduce("sumsq", x, axes)); }

TensorId log_sum(Builder &b, TensorId x, const Integers &axes) { return b.unary("log", b.reduce("sum", x, axes)); }

TensorId log_sum_exp(Builder &b, TensorId x, const Integers &axes) {
  // The maximum is taken out so that no exponential overflows; clamped, so that infinities do not become NaN.
  constexpr float kLargest = std::numeric_limits<float>::max();
  const TensorId maximum = b.unary("clamp", b.reduce("max", x, axes), -kLargest, kLargest);
  const TensorId sum = b.reduce("sum", b.unary("exp", b.binary("sub", x, maximum)), axes);
  return b.binary("add", b.unary("log", sum), maximum);
}

// axes_since: the opset from which the axes are an input.
Lowering reduction(Reduction reduce, int axes_since) {
  return [reduce = std::move(reduce), axes_since](NodeContext &n) {
    Builder &b = n.b;
    const TensorId x = n.input(0);
    const Shape shape = b.shape(x);
    const auto rank = static_cast<int64_t>(shape.size());
    Integers axes;
    if (n.opset < axes_since) {
      axes = n.integers("axes");
    } else if (n.has_input(1)) {
      axes = n.integer_input(1, "axes");
    }
    axes = NodeContext::axes(axes, rank);
    if (axes.empty()) {
      if (n.opset >= axes_since && n.integer("noop_with_empty_axes", 0) != 0) return Ids{x};
      axes.resize(shape.size());
      std::iota(axes.begin(), axes.end(), 0);
    }
    if (rank == 0) return Ids{b.reshape(reduce(b, b.reshape(x, {1}), {0}), {})};
    Shape target;
    const bool keep = n.integer("keepdims", 1) != 0;
    for (int64_t d = 0; d < rank; ++d) {
      const bool reduced = std::binary_search(axes.begin(), axes.end(), d);
      if (reduced && keep) target.push_back(1);
      if (!reduced) target.push_back(shape[static_cast<std::size_t>(d)]);
    }
    return Ids{b.reshape(reduce(b, x, axes), target)};
  };
}

}  // namespace

void register_pooling(LoweringTable &table) {
  table["MaxPool"] = max_pool;
  table["LpPool"] = lp_pool;
  table["GlobalLpPool"] = global_lp_pool;
  table["LpNormalization"] = lp_normalisation;
  table["AveragePool"] = average_pool;
  table["GlobalAveragePool"] = global_pool("mean");
  table["GlobalMaxPool"] = global_pool("max");
  table["ReduceSum"] = reduction(simple("sum"), 13);
  table["ReduceMean"] = reduction(simple("mean"), 18);
  table["ReduceMax"] = reduction(simple("max"), 18);
  table["ReduceMin"] = reduction(simple("min"), 18);
  table["ReduceProd"] = reduction(simple("prod"), 18);
  table["ReduceSumSquare"] = reduction(simple("sumsq"), 18);
  table["ReduceL1"] = reduction(simple("abssum"), 18);
  table["ReduceL2"] = reduction(in_floats(norm_2), 18);
  table["ReduceLogSum"] = reduction(in_floats(log_sum), 18);
  table["ReduceLogSumExp"] = reduction(in_floats(log_sum_exp), 18);
}

}  // namespace cx::compiler
