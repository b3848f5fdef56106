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

Ids max_pool(NodeContext &n) {
  n.only_outputs(1);
  const TensorId x = n.input(0);
  return {pool(n.b, x, "max", read_pooling(n, n.b.shape(x)).window)};
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
  return [kind](Builder &b, TensorId x, const Integers &axes) { return b.reduce(kind, x, axes); };
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
  table["ReduceL2"] = reduction(norm_2, 18);
  table["ReduceLogSum"] = reduction(log_sum, 18);
  table["ReduceLogSumExp"] = reduction(log_sum_exp, 18);
}

}  // namespace cx::compiler
