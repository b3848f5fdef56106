// Convolutions and matrix products.
#include <algorithm>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/quantised.hpp"
#include "driver/compiler/frontend/window.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

Shape spatial_of(const Shape &shape) { return Shape(shape.begin() + 2, shape.end()); }

TensorId convolve_2d(Builder &b, TensorId x, TensorId w, TensorId bias, const Window &window, int64_t group) {
  Ids inputs = {x, w};
  if (bias != kNoTensor) inputs.push_back(bias);
  return b.emit("Conv", inputs,
                {{"strides", window.strides},
                 {"pads", Integers{window.begin[0], window.begin[1], window.end[0], window.end[1]}},
                 {"dilations", window.dilations},
                 {"group", group}});
}

// The last two of three window dimensions.
Window without_depth(const Window &window) {
  auto tail = [](const Integers &values) { return Integers(values.begin() + 1, values.end()); };
  return {tail(window.kernel), tail(window.strides), tail(window.dilations), tail(window.begin), tail(window.end)};
}

// The kernel's depth becomes channels: for each of its kD slices the fitting slices of x are laid side by side, and one
// 2-D convolution over C * kD channels, with the output's depth as part of the batch, adds them up.
TensorId convolve_3d(Builder &b, TensorId x, TensorId w, TensorId bias, const Window &window, int64_t group) {
  x = b.pad(x, {0, 0, window.begin[0], 0, 0, 0, 0, window.end[0], 0, 0}, 0);
  const Shape s = b.shape(x);
  const Shape ws = b.shape(w);
  const int64_t depth_kernel = window.kernel[0];
  if (depth_kernel > 1024) throw UnsupportedError("Conv", "a kernel deeper than 1024");
  if (s[2] < window.extent(0)) throw InputError("kernel is deeper than the padded input " + to_text(s));
  const int64_t depth = (s[2] - window.extent(0)) / window.strides[0] + 1;
  const TensorId by_depth = b.transpose(x, {0, 2, 1, 3, 4});
  Ids parts;
  for (int64_t i = 0; i < depth_kernel; ++i) {
    const TensorId part = b.slice(by_depth, {0, i * window.dilations[0], 0, 0, 0},
                                  {1, depth == 1 ? 1 : window.strides[0], 1, 1, 1}, {s[0], depth, s[1], s[3], s[4]});
    parts.push_back(b.reshape(part, {s[0], depth, s[1], 1, s[3] * s[4]}));
  }
  const TensorId stacked = b.reshape(b.concat(parts, 3), {s[0] * depth, s[1] * depth_kernel, s[3], s[4]});
  const TensorId flat_w = b.reshape(w, {ws[0], ws[1] * ws[2], ws[3], ws[4]});
  const TensorId y = convolve_2d(b, stacked, flat_w, bias, without_depth(window), group);
  const Shape ys = b.shape(y);
  return b.transpose(b.reshape(y, {s[0], depth, ys[1], ys[2], ys[3]}), {0, 2, 1, 3, 4});
}

TensorId convolve(Builder &b, TensorId x, TensorId w, TensorId bias, Window window, int64_t group) {
  const Shape xs = b.shape(x);
  const Shape ws = b.shape(w);
  if (group < 1 || xs[1] % group != 0 || xs[1] / group != ws[1]) {
    throw InputError("weights " + to_text(ws) + " with group " + std::to_string(group) +
                     " do not fit the channels of " + to_text(xs));
  }
  switch (window.rank()) {
    case 1: {
      for (Integers *values : {&window.kernel, &window.strides, &window.dilations}) values->insert(values->begin(), 1);
      for (Integers *values : {&window.begin, &window.end}) values->insert(values->begin(), 0);
      const TensorId y = convolve_2d(b, b.reshape(x, {xs[0], xs[1], 1, xs[2]}), b.reshape(w, {ws[0], ws[1], 1, ws[2]}),
                                     bias, window, group);
      const Shape ys = b.shape(y);
      return b.reshape(y, {ys[0], ys[1], ys[3]});
    }
    case 2:
      return convolve_2d(b, x, w, bias, window, group);
    case 3:
      return convolve_3d(b, x, w, bias, window, group);
    default:
      throw UnsupportedError("Conv", std::to_string(window.rank()) + " spatial dimensions; 1 to 3 are supported");
  }
}

// Weights' spatial dimensions, checked against kernel_shape.
Integers kernel_of(const NodeContext &n, const Shape &x, const Shape &w) {
  if (x.size() < 3 || w.size() != x.size()) {
    throw InputError("input " + to_text(x) + " and weights " + to_text(w) + " must have the same rank, 3 or more");
  }
  const Integers kernel = spatial_of(w);
  if (n.integers("kernel_shape", kernel) != kernel) {
    throw InputError("attribute 'kernel_shape' " + to_text(n.integers("kernel_shape")) + " differs from the weights " +
                     to_text(w));
  }
  return kernel;
}

Ids conv(NodeContext &n) {
  const TensorId x = n.input(0);
  const TensorId w = n.input(1);
  const Shape xs = n.b.shape(x);
  const Integers kernel = kernel_of(n, xs, n.b.shape(w));
  const Window window = read_window(n, kernel, spatial_of(xs));
  if (const auto y = dequantised_convolution(n.b, x, w, n.optional_input(2), window, n.integer("group", 1)))
    return {*y};
  return {convolve(n.b, x, w, n.optional_input(2), window, n.integer("group", 1))};
}

// Puts stride - 1 zeros between the elements of every spatial dimension.
TensorId spread(Builder &b, TensorId x, const Integers &strides) {
  if (std::all_of(strides.begin(), strides.end(), [](int64_t stride) { return stride == 1; })) return x;
  const Shape s = b.shape(x);
  Shape apart = {s[0], s[1]};
  Shape target = apart;
  Shape spread_shape = apart;
  Integers pads = {0, 0};
  for (std::size_t d = 0; d < strides.size(); ++d) {
    apart.insert(apart.end(), {s[d + 2], 1});
    pads.insert(pads.end(), {0, strides[d] - 1});
    target.push_back((s[d + 2] - 1) * strides[d] + 1);
    spread_shape.push_back(s[d + 2] * strides[d]);
  }
  Integers both(pads.size(), 0);
  both.insert(both.end(), pads.begin(), pads.end());
  const TensorId wide = b.reshape(b.pad(b.reshape(x, apart), both, 0), spread_shape);
  return b.slice(wide, Integers(s.size(), 0), Integers(s.size(), 1), target);
}

// Kernel rows up to which a transposed convolution is one product for each of them.
constexpr int64_t kMostRows = 64;

// Where a kernel is as large as its strides, every element of the result belongs to one of the input: each kernel row
// is a product whose channels are (kernel column, output channel), written to every kH-th row of the result.
TensorId disjoint_transpose(Builder &b, TensorId x, TensorId w, TensorId bias, const Window &window) {
  const Shape xs = b.shape(x);
  const Shape ws = b.shape(w);
  const int64_t maps = ws[1];
  const int64_t rows = window.kernel[0];
  const int64_t columns = window.kernel[1];
  if (bias != kNoTensor) bias = b.reshape(b.expand(bias, {columns, maps}), {columns * maps});
  const Window point{{1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}};
  Ids lines;
  for (int64_t row = 0; row < rows; ++row) {
    const TensorId part = b.transpose(b.slice_axis(w, 2, row, 1), {3, 1, 0, 2});
    const TensorId y = convolve_2d(b, x, b.reshape(part, {columns * maps, xs[1], 1, 1}), bias, point, 1);
    const TensorId apart = b.reshape(y, {xs[0], columns, maps, xs[2], xs[3]});
    lines.push_back(b.reshape(b.transpose(apart, {0, 2, 3, 4, 1}), {xs[0], maps, xs[2], 1, xs[3] * columns}));
  }
  return b.reshape(b.concat(lines, 3), {xs[0], maps, xs[2] * rows, xs[3] * columns});
}

// Another transposed convolution is a convolution of the spread input with the mirrored kernel.
Ids conv_transpose(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const TensorId w = n.input(1);
  const Shape xs = b.shape(x);
  const Shape ws = b.shape(w);
  const Integers kernel = kernel_of(n, xs, ws);
  const Shape spatial = spatial_of(xs);
  const std::size_t rank = spatial.size();
  Window window = read_window(n, kernel, spatial);
  const int64_t group = n.integer("group", 1);
  if (group < 1 || xs[1] != ws[0] || ws[0] % group != 0) {
    throw InputError("weights " + to_text(ws) + " with group " + std::to_string(group) + " do not fit " + to_text(xs));
  }
  for (int64_t size : spatial) {
    if (size == 0) throw InputError("input " + to_text(xs) + " is empty");
  }
  const Integers extra = n.integers("output_padding", Integers(rank, 0));
  Integers wanted = n.integers("output_shape");
  const std::string automatic = n.text("auto_pad", "NOTSET");
  const bool same = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
  if (extra.size() != rank || (!wanted.empty() && wanted.size() != rank && wanted.size() != rank + 2)) {
    throw InputError("output_padding or output_shape do not fit spatial dimensions " + to_text(spatial));
  }
  if (wanted.size() == rank + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
  Integers begin(2, 0);
  Integers end(2, 0);
  for (std::size_t d = 0; d < rank; ++d) {
    if (extra[d] < 0 || extra[d] > (1 << 20)) throw InputError("output_padding is out of range");
    const int64_t full = window.strides[d] * (spatial[d] - 1) + window.extent(d) + extra[d];
    int64_t low = window.begin[d];
    int64_t high = window.end[d];
    if (same || !wanted.empty()) {
      const int64_t target = wanted.empty() ? spatial[d] * window.strides[d] : wanted[d];
      if (target < 1 || target > (int64_t{1} << 31)) throw InputError("output_shape is out of range");
      const int64_t total = full - target;
      // A negative total asks for more than the product has; the rest is appended at the end.
      low = total < 0 ? 0 : (automatic == "SAME_UPPER" ? total / 2 : total - total / 2);
      high = total - low;
    }
    begin.push_back(window.extent(d) - 1 - low);
    end.push_back(window.extent(d) - 1 - high + extra[d]);
  }
  const bool disjoint = rank == 2 && group == 1 && kernel == window.strides && window.dilations == Integers{1, 1} &&
                        begin == Integers{0, 0, kernel[0] - 1, kernel[1] - 1} && end == begin && kernel[0] <= kMostRows;
  if (disjoint) return {disjoint_transpose(b, x, w, n.optional_input(2), window)};
  Integers pads = begin;
  pads.insert(pads.end(), end.begin(), end.end());
  const TensorId padded = b.pad(spread(b, x, window.strides), pads, 0);
  // [C, M/g, k] -> [g, C/g, M/g, k] -> [g, M/g, C/g, k] -> [M, C/g, k], then mirrored.
  Shape grouped = {group, ws[0] / group, ws[1]};
  Integers perm = {0, 2, 1};
  Shape target = {ws[1] * group, ws[0] / group};
  Integers starts = {0, 0};
  Integers steps = {1, 1};
  for (std::size_t d = 0; d < rank; ++d) {
    grouped.push_back(kernel[d]);
    perm.push_back(static_cast<int64_t>(d) + 3);
    target.push_back(kernel[d]);
    starts.push_back(kernel[d] - 1);
    steps.push_back(kernel[d] == 1 ? 1 : -1);
  }
  const TensorId turned = b.reshape(b.transpose(b.reshape(w, grouped), perm), target);
  const TensorId mirrored = b.slice(turned, starts, steps, target);
  window.strides.assign(rank, 1);
  window.begin.assign(rank, 0);
  window.end.assign(rank, 0);
  return {convolve(b, padded, mirrored, n.optional_input(2), window, group)};
}

TensorId product(Builder &b, TensorId a, TensorId w, TensorId bias, int64_t trans_b) {
  if (const auto y = dequantised_matmul(b, a, w, bias, trans_b == 1)) return *y;
  Ids operands = {a, w};
  if (bias != kNoTensor) operands.push_back(bias);
  return b.emit("MatMul", operands, {{"trans_b", trans_b}});
}

Ids matmul(NodeContext &n) {
  Builder &b = n.b;
  TensorId a = n.input(0);
  TensorId w = n.input(1);
  const Shape as = b.shape(a);
  const Shape ws = b.shape(w);
  if (as.empty() || ws.empty()) throw InputError("operands must not be scalars");
  if (as.size() == 1) a = b.reshape(a, {1, as[0]});
  if (ws.size() == 1) w = b.reshape(w, {ws[0], 1});
  const TensorId y = product(b, a, w, kNoTensor, 0);
  Shape target = b.shape(y);
  if (ws.size() == 1) target.pop_back();
  if (as.size() == 1) target.erase(target.end() - (ws.size() == 1 ? 1 : 2));
  return {b.reshape(y, target)};
}

// beta * C, or none when it does not count.
TensorId gemm_bias(NodeContext &n) {
  if (!n.has_input(2)) return kNoTensor;
  const float beta = n.real("beta", 1);
  if (beta == 0) return kNoTensor;
  return beta == 1 ? n.input(2) : n.b.binary("mul", n.input(2), beta);
}

Ids gemm(NodeContext &n) {
  Builder &b = n.b;
  TensorId a = n.input(0);
  TensorId w = n.input(1);
  if (b.rank(a) != 2 || b.rank(w) != 2) {
    throw InputError("operands " + to_text(b.shape(a)) + " and " + to_text(b.shape(w)) + " must be matrices");
  }
  if (n.integer("transA", 0) != 0) a = b.transpose(a, {1, 0});
  int64_t trans_b = n.integer("transB", 0) != 0 ? 1 : 0;
  if (trans_b == 1 && b.is_constant(w)) {
    w = b.transpose(w, {1, 0});
    trans_b = 0;
  }
  const float alpha = n.real("alpha", 1);
  const bool scale_operand = alpha != 1 && (b.is_constant(a) || b.is_constant(w));
  if (scale_operand) (b.is_constant(w) ? w : a) = b.binary("mul", b.is_constant(w) ? w : a, alpha);
  const bool scale_result = alpha != 1 && !scale_operand;
  TensorId bias = gemm_bias(n);
  const int64_t columns = b.shape(w)[trans_b == 1 ? 0 : 1];
  if (bias != kNoTensor && !scale_result) {
    const Shape cs = b.shape(bias);
    const bool row = elements(cs) == columns && (cs.empty() || cs.back() == columns);
    if (b.is_constant(bias) && elements(cs) == 1) bias = b.expand(b.reshape(bias, {1}), {columns});
    if (row || b.shape(bias) == Shape{columns}) {
      bias = b.reshape(bias, {columns});
      return {product(b, a, w, bias, trans_b)};
    }
  }
  TensorId y = product(b, a, w, kNoTensor, trans_b);
  if (scale_result) y = b.binary("mul", y, alpha);
  if (bias == kNoTensor) return {y};
  const TensorId sum = b.binary("add", y, bias);
  if (b.shape(sum) != b.shape(y)) {
    throw InputError("C of shape " + to_text(b.shape(bias)) + " must broadcast to " + to_text(b.shape(y)));
  }
  return {sum};
}

}  // namespace

void register_linear(LoweringTable &table) {
  table["Conv"] = conv;
  table["ConvTranspose"] = conv_transpose;
  table["MatMul"] = matmul;
  table["Gemm"] = gemm;
}

}  // namespace cx::compiler
