// Resize and Upsample: a linear map along each axis that changes.
#include <algorithm>
#include <cmath>
#include <map>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

// Larger interpolation matrices would cost more than any model gains by them.
constexpr int64_t kLongestAxis = 1 << 12;

struct Interpolation {
  std::string mode = "nearest";
  std::string coordinates = "half_pixel";
  std::string rounding = "round_prefer_floor";
  double cubic_a = -0.75;
  bool exclude_outside = false;
  bool antialias = false;  // a kernel that is as wide in the result as it otherwise is in the source
  // Of tf_crop_and_resize: the region, one entry per axis in [0, 1] of its length, and what lies outside the source.
  std::vector<double> region_start, region_end;
  double extrapolation = 0;

  bool crops() const { return coordinates == "tf_crop_and_resize"; }
};

// One axis on its way from `in` to `out` elements.
struct AxisMap {
  int64_t in = 0;
  int64_t out = 0;
  double scale = 1;
  double start = 0;  // of the region
  double end = 1;
};

// Position in the source of index `x` of the result. The resized length is scale * in before it is rounded down.
double source_position(const Interpolation &how, int64_t x, const AxisMap &axis) {
  const auto at = static_cast<double>(x);
  const auto in = static_cast<double>(axis.in);
  const double scale = axis.scale;
  const double length = scale * in;
  const std::string &mode = how.coordinates;
  if (mode == "half_pixel") return (at + 0.5) / scale - 0.5;
  if (mode == "pytorch_half_pixel") return length > 1 ? (at + 0.5) / scale - 0.5 : 0;
  if (mode == "align_corners") return length > 1 ? at * (in - 1) / (length - 1) : 0;
  if (mode == "asymmetric") return at / scale;
  if (mode == "tf_half_pixel_for_nn") return (at + 0.5) / scale;
  if (mode == "half_pixel_symmetric") {
    const double offset = in / 2 * (1 - static_cast<double>(axis.out) / length);
    return offset + (at + 0.5) / scale - 0.5;
  }
  if (mode == "tf_crop_and_resize") {
    if (axis.out == 1) return 0.5 * (axis.start + axis.end) * (in - 1);
    return axis.start * (in - 1) + at * (axis.end - axis.start) * (in - 1) / static_cast<double>(axis.out - 1);
  }
  throw UnsupportedError("Resize", "coordinate_transformation_mode '" + mode + "'");
}

int64_t nearest_index(const std::string &rounding, double position) {
  if (rounding == "round_prefer_floor") return static_cast<int64_t>(std::ceil(position - 0.5));
  if (rounding == "round_prefer_ceil") return static_cast<int64_t>(std::floor(position + 0.5));
  if (rounding == "floor") return static_cast<int64_t>(std::floor(position));
  if (rounding == "ceil") return static_cast<int64_t>(std::ceil(position));
  throw InputError("nearest_mode '" + rounding + "'");
}

double cubic(double a, double distance) {
  const double d = std::fabs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

// Source elements and their weights for one element of the result, edges repeated.
std::map<int64_t, double> taps(const Interpolation &how, double position, const AxisMap &axis) {
  const int64_t in = axis.in;
  std::map<int64_t, double> result;
  auto clamped = [in](int64_t index) { return std::clamp<int64_t>(index, 0, in - 1); };
  if (how.mode == "nearest") {
    result[clamped(nearest_index(how.rounding, position))] = 1;
    return result;
  }
  const auto left = static_cast<int64_t>(std::floor(position));
  const double fraction = position - static_cast<double>(left);
  double total = 0;
  auto add = [&](int64_t index, double weight) {
    if (weight == 0 || (how.exclude_outside && index != clamped(index))) return;
    result[clamped(index)] += weight;
    total += weight;
  };
  if (how.antialias && axis.scale < 1) {
    const double s = axis.scale;
    const auto reach = static_cast<int64_t>(std::ceil((how.mode == "linear" ? 1 : 2) / s));
    for (int64_t k = -reach; k <= reach + 1; ++k) {
      const double distance = (static_cast<double>(k) - fraction) * s;
      add(left + k, how.mode == "linear" ? std::max(0.0, 1 - std::fabs(distance)) : cubic(how.cubic_a, distance));
    }
  } else if (how.mode == "linear") {
    add(left, 1 - fraction);
    add(left + 1, fraction);
  } else {
    for (int64_t k = -1; k <= 2; ++k) add(left + k, cubic(how.cubic_a, fraction - static_cast<double>(k)));
  }
  if ((how.exclude_outside || how.antialias) && total != 0) {
    for (auto &[index, weight] : result) weight /= total;
  }
  return result;
}

TensorId resize_axis(Builder &b, TensorId x, std::size_t axis, const AxisMap &map, const Interpolation &how) {
  const Shape shape = b.shape(x);
  const int64_t in = map.in;
  const int64_t out = map.out;
  if (in < 1 || in > kLongestAxis || out > kLongestAxis) {
    throw UnsupportedError("Resize", "axis of " + std::to_string(in) + " to " + std::to_string(out) + " elements");
  }
  std::vector<double> matrix(static_cast<std::size_t>(in * out), 0.0);  // [in, out]
  Integers single;
  for (int64_t o = 0; o < out; ++o) {
    const auto weights = taps(how, source_position(how, o, map), map);
    if (weights.size() == 1 && weights.begin()->second == 1) single.push_back(weights.begin()->first);
    for (const auto &[index, weight] : weights) matrix[static_cast<std::size_t>(index * out + o)] = weight;
  }
  if (static_cast<int64_t>(single.size()) == out) return b.gather(x, static_cast<int64_t>(axis), std::move(single));
  // The axis goes last: one product of all rows with a constant matrix.
  const int64_t outer = elements(Shape(shape.begin(), shape.begin() + static_cast<long>(axis)));
  const int64_t inner = elements(Shape(shape.begin() + static_cast<long>(axis) + 1, shape.end()));
  const TensorId weights = b.constant(make_constant("", Type::F32, {in, out}, matrix));
  const TensorId rows = b.transpose(b.reshape(x, {outer, in, inner}), {0, 2, 1});
  const TensorId y = b.emit("MatMul", {rows, weights}, {{"trans_b", int64_t{0}}});
  Shape target = shape;
  target[axis] = out;
  return b.reshape(b.transpose(y, {0, 2, 1}), target);
}

TensorId resize_all(NodeContext &n, const std::vector<double> &scales, const Integers &sizes, const Integers &axes,
                    const Interpolation &how) {
  TensorId x = n.input(0);
  const Shape shape = n.b.shape(x);
  TensorId outside = kNoTensor;  // of the source, along any axis
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<std::size_t>(axes[i]);
    const auto in = static_cast<double>(shape[axis]);
    if (sizes.empty() && !(scales[i] > 0 && in * scales[i] < 1e9)) {
      throw InputError("scale " + std::to_string(scales[i]) + " is out of range");
    }
    const int64_t out = sizes.empty() ? static_cast<int64_t>(std::floor(in * scales[i])) : sizes[i];
    if (out < 1) throw InputError("size " + std::to_string(out) + " is out of range");
    const double scale = sizes.empty() ? scales[i] : static_cast<double>(out) / in;
    AxisMap map{shape[axis], out, scale, 0, 1};
    if (how.crops()) {
      map.start = how.region_start[i];
      map.end = how.region_end[i];
    }
    const bool whole = map.start == 0 && map.end == 1;
    if (out == shape[axis] && scale == 1 && whole) continue;
    x = resize_axis(n.b, x, axis, map, how);
    if (whole) continue;
    Integers beyond;
    for (int64_t o = 0; o < out; ++o) {
      const double position = source_position(how, o, map);
      beyond.push_back(position < 0 || position > in - 1 ? 1 : 0);
    }
    Shape along(shape.size(), 1);
    along[axis] = out;
    const TensorId here = n.b.constant(make_constant("", Type::Bool, along, beyond));
    outside = outside == kNoTensor ? here : n.b.binary("or", outside, here);
  }
  if (outside == kNoTensor) return x;
  return n.b.select(outside, n.b.scalar(n.b[x].type, how.extrapolation), x);
}

Integers all_axes(NodeContext &n) {
  Integers axes;
  for (int64_t axis = 0; axis < n.b.rank(n.input(0)); ++axis) axes.push_back(axis);
  return axes;
}

std::vector<double> float_input(NodeContext &n, std::size_t index) {
  if (!n.has_input(index)) return {};
  return to_doubles(n.constant_input(index, "scales"));
}

void check_mode(const std::string &mode) {
  if (mode != "nearest" && mode != "linear" && mode != "cubic") throw UnsupportedError("Resize", "mode '" + mode + "'");
}

// One scale for all axes, so that the result is not larger, or not smaller, than the sizes.
void keep_aspect(NodeContext &n, const Integers &axes, Integers &sizes) {
  const std::string policy = n.text("keep_aspect_ratio_policy", "stretch");
  if (policy == "stretch" || sizes.empty()) return;
  if (policy != "not_larger" && policy != "not_smaller") throw InputError("keep_aspect_ratio_policy '" + policy + "'");
  const Shape shape = n.b.shape(n.input(0));
  double scale = 0;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const double own = static_cast<double>(sizes[i]) / static_cast<double>(shape[static_cast<std::size_t>(axes[i])]);
    scale = i == 0 ? own : policy == "not_larger" ? std::min(scale, own) : std::max(scale, own);
  }
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto in = static_cast<double>(shape[static_cast<std::size_t>(axes[i])]);
    sizes[i] = static_cast<int64_t>(std::floor(scale * in + 0.5));
  }
}

Ids resize(NodeContext &n) {
  Interpolation how;
  how.mode = n.text("mode", "nearest");
  check_mode(how.mode);
  Integers axes = all_axes(n);
  Integers sizes;
  std::vector<double> scales;
  if (n.opset < 11) {
    how.coordinates = "asymmetric";
    how.rounding = "floor";
    scales = float_input(n, 1);
  } else {
    how.coordinates = n.text("coordinate_transformation_mode", "half_pixel");
    how.rounding = n.text("nearest_mode", "round_prefer_floor");
    how.cubic_a = n.real("cubic_coeff_a", -0.75F);
    how.exclude_outside = n.integer("exclude_outside", 0) != 0;
    how.antialias = n.integer("antialias", 0) != 0;
    axes = n.integers("axes", axes);
    for (int64_t &axis : axes) axis = NodeContext::axis(axis, n.b.rank(n.input(0)));
    scales = float_input(n, 2);
    // An absent input is also written as an empty tensor.
    if (n.has_input(3)) sizes = n.integer_input(3, "sizes");
    if (how.crops()) {
      const std::vector<double> region = to_doubles(n.constant_input(1, "roi"));
      if (region.size() != 2 * axes.size()) throw InputError("roi must have two entries for each axis");
      const auto middle = region.begin() + static_cast<long>(axes.size());
      how.region_start.assign(region.begin(), middle);
      how.region_end.assign(middle, region.end());
      how.extrapolation = n.real("extrapolation_value", 0);
    }
  }
  if (sizes.empty() ? scales.size() != axes.size() : sizes.size() != axes.size()) {
    throw InputError("scales or sizes must have one entry for each of " + std::to_string(axes.size()) + " axes");
  }
  keep_aspect(n, axes, sizes);
  return {resize_all(n, scales, sizes, axes, how)};
}

Ids upsample(NodeContext &n) {
  Interpolation how;
  how.mode = n.text("mode", "nearest");
  check_mode(how.mode);
  how.coordinates = "asymmetric";
  how.rounding = "floor";
  std::vector<double> scales;
  if (n.opset >= 9) {
    scales = float_input(n, 1);
  } else if (const auto *given = n.attribute("scales"); given != nullptr) {
    scales.assign(given->floats().begin(), given->floats().end());
  }
  const Integers axes = all_axes(n);
  if (scales.size() != axes.size()) throw InputError("scales must have one entry per dimension");
  return {resize_all(n, scales, {}, axes, how)};
}

}  // namespace

void register_resize(LoweringTable &table) {
  table["Resize"] = resize;
  table["Upsample"] = upsample;
}

}  // namespace cx::compiler
