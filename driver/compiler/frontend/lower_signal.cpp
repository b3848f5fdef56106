// Fourier transforms as products with constant matrices; window functions and mel filters as constants.
#include <cmath>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;
// Elements of a constant that a node may ask for.
constexpr int64_t kLargestConstant = int64_t{1} << 26;

int64_t scalar_input(NodeContext &n, std::size_t index, const std::string &role) {
  const Integers values = n.integer_input(index, role);
  if (values.size() != 1) throw InputError(role + " must be a scalar");
  return values[0];
}

// cos and sin of 2 pi k n / length, with the product reduced exactly first.
struct Phase {
  double cosine;
  double sine;
};
Phase phase(int64_t k, int64_t n, int64_t length) {
  const double angle = 2 * M_PI * static_cast<double>(k * n % length) / static_cast<double>(length);
  return {std::cos(angle), std::sin(angle)};
}

void check_length(const NodeContext &n, int64_t length, int64_t samples, int64_t bins, int64_t parts) {
  if (length < 1) throw InputError("the transform has length " + std::to_string(length));
  if (length > (1 << 20) || samples * parts * bins * 2 > kLargestConstant) {
    throw UnsupportedError(n.op(), "a transform of length " + std::to_string(length) + ", whose matrix is too large");
  }
}

// [samples * parts, bins * 2]: row (t, re or im), column (k, re or im); `parts` is 1 for a real signal. The signal is
// zero beyond `samples`.
TensorId transform_matrix(Builder &b, Type type, int64_t samples, int64_t length, int64_t bins, int64_t parts,
                          bool inverse) {
  const double sign = inverse ? 1 : -1;
  const double scale = inverse ? 1 / static_cast<double>(length) : 1;
  std::vector<double> values(static_cast<std::size_t>(samples * parts * bins * 2));
  const std::size_t row = static_cast<std::size_t>(bins * 2);
  for (int64_t t = 0; t < samples; ++t) {
    for (int64_t k = 0; k < bins; ++k) {
      const Phase p = phase(k, t, length);
      const std::size_t real = static_cast<std::size_t>(t * parts) * row + static_cast<std::size_t>(k * 2);
      values[real] = scale * p.cosine;
      values[real + 1] = scale * sign * p.sine;
      if (parts == 1) continue;
      values[real + row] = -scale * sign * p.sine;
      values[real + row + 1] = scale * p.cosine;
    }
  }
  return b.constant(make_constant("", type, {samples * parts, bins * 2}, values));
}

// 1 for a real signal, 2 for a complex one: the last dimension.
int64_t parts_of(const Shape &shape) {
  if (shape.size() < 2 || (shape.back() != 1 && shape.back() != 2)) {
    throw InputError("the signal has shape " + to_text(shape) +
                     "; its last dimension must be 1 (real) or 2 (real and imaginary)");
  }
  return shape.back();
}

Ids dft(NodeContext &n) {
  Builder &b = n.b;
  TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  const int64_t rank = b.rank(x);
  const int64_t parts = parts_of(shape);
  int64_t axis = n.opset >= 20 ? -2 : n.integer("axis", 1);
  if (n.opset >= 20 && n.has_input(2)) axis = scalar_input(n, 2, "axis");
  axis = NodeContext::axis(axis, rank);
  if (axis == rank - 1) throw InputError("axis " + std::to_string(axis) + " is that of real and imaginary parts");
  const bool inverse = n.integer("inverse", 0) != 0;
  const bool onesided = n.integer("onesided", 0) != 0;
  if (onesided && inverse) throw UnsupportedError("DFT", "attributes 'onesided' and 'inverse' together");
  const int64_t samples = shape[static_cast<std::size_t>(axis)];
  const int64_t length = n.has_input(1) ? scalar_input(n, 1, "dft_length") : samples;
  const int64_t used = std::min(samples, length);
  const int64_t bins = onesided ? length / 2 + 1 : length;
  check_length(n, length, used, bins, parts);
  // The transformed axis next to the parts, both as one.
  Integers perm;
  for (int64_t d = 0; d < rank - 1; ++d) {
    if (d != axis) perm.push_back(d);
  }
  perm.insert(perm.end(), {axis, rank - 1});
  x = b.transpose(b.slice_axis(x, axis, 0, used), perm);
  Shape moved = b.shape(x);
  Shape back = moved;
  moved.resize(moved.size() - 2);
  const int64_t rows = elements(moved);
  const TensorId matrix = transform_matrix(b, b[x].type, used, length, bins, parts, inverse);
  const TensorId y = b.emit("MatMul", {b.reshape(x, {rows, used * parts}), matrix}, {{"trans_b", int64_t{0}}});
  back[back.size() - 2] = bins;
  back.back() = 2;
  Integers inverse_perm(perm.size());
  for (std::size_t d = 0; d < perm.size(); ++d)
    inverse_perm[static_cast<std::size_t>(perm[d])] = static_cast<int64_t>(d);
  return {b.transpose(b.reshape(y, back), inverse_perm)};
}

// Frames are windows of a convolution whose channels are the bins.
Ids stft(NodeContext &n) {
  Builder &b = n.b;
  const TensorId signal = n.input(0);
  Shape shape = b.shape(signal);
  if (shape.size() == 2) shape.push_back(1);
  if (shape.size() != 3) throw InputError("the signal has shape " + to_text(shape) + ", expected three dimensions");
  const int64_t parts = parts_of(shape);
  const int64_t step = scalar_input(n, 1, "frame_step");
  const TensorId window = n.optional_input(2);
  if (window == kNoTensor && !n.has_input(3)) throw InputError("window or frame_length must be given");
  const int64_t length = n.has_input(3) ? scalar_input(n, 3, "frame_length") : elements(b.shape(window));
  if (step < 1 || step > kMaxElements) throw InputError("frame_step is " + std::to_string(step));
  if (length > shape[1]) {
    throw InputError("frames of " + std::to_string(length) + " are longer than the signal, " + to_text(shape));
  }
  if (window != kNoTensor && b.shape(window) != Shape{length}) {
    throw InputError("the window has shape " + to_text(b.shape(window)) + ", expected " + to_text(Shape{length}));
  }
  const bool onesided = n.integer("onesided", 1) != 0;
  if (onesided && parts == 2) throw UnsupportedError("STFT", "attribute 'onesided' of a complex signal");
  const int64_t bins = onesided ? length / 2 + 1 : length;
  check_length(n, length, length, bins, parts);
  const Type type = b[signal].type;
  const TensorId matrix = transform_matrix(b, type, length, length, bins, parts, false);
  // [length, parts, 1, bins * 2] -> [bins * 2, parts, 1, length]
  TensorId kernel = b.transpose(b.reshape(matrix, {length, parts, 1, bins * 2}), {3, 1, 2, 0});
  if (window != kNoTensor) kernel = b.binary("mul", kernel, b.reshape(window, {1, 1, 1, length}));
  const TensorId channels = b.transpose(b.reshape(signal, shape), {0, 2, 1});
  const TensorId y = b.emit("Conv", {b.reshape(channels, {shape[0], parts, 1, shape[1]}), kernel},
                            {{"strides", Integers{1, step}},
                             {"pads", Integers{0, 0, 0, 0}},
                             {"dilations", Integers{1, 1}},
                             {"group", int64_t{1}}});
  const int64_t frames = b.shape(y)[3];
  return {b.transpose(b.reshape(y, {shape[0], bins, 2, frames}), {0, 3, 1, 2})};
}

Type output_type(const NodeContext &n) {
  return type_from_onnx(static_cast<int>(n.integer("output_datatype", onnx::TensorProto::FLOAT)),
                        "attribute 'output_datatype'");
}

// a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N)
Lowering cosine_window(double a0, double a1, double a2) {
  return [=](NodeContext &n) {
    const int64_t size = scalar_input(n, 0, "size");
    if (size < 0 || size > kLargestConstant) throw InputError("size is " + std::to_string(size));
    const bool periodic = n.integer("periodic", 1) != 0;
    const double period = static_cast<double>(periodic ? size : std::max<int64_t>(size - 1, 1));
    std::vector<double> values;
    for (int64_t i = 0; i < size; ++i) {
      const double angle = 2 * M_PI * static_cast<double>(i) / period;
      values.push_back(a0 - a1 * std::cos(angle) + a2 * std::cos(2 * angle));
    }
    return Ids{n.b.constant(make_constant("", output_type(n), {size}, values))};
  };
}

// Triangles between mel-spaced frequencies, as ONNX's description of the operator defines them.
Ids mel_weight_matrix(NodeContext &n) {
  const int64_t bands = scalar_input(n, 0, "num_mel_bins");
  const int64_t length = scalar_input(n, 1, "dft_length");
  const int64_t rate = scalar_input(n, 2, "sample_rate");
  const double low = to_doubles(n.constant_input(3, "lower_edge_hertz")).at(0);
  const double high = to_doubles(n.constant_input(4, "upper_edge_hertz")).at(0);
  const int64_t bins = length / 2 + 1;
  if (bands < 1 || length < 1 || rate < 1 || bands > (1 << 20) || length > (1 << 24) || !(low > -700) ||
      !(high >= low) || std::isinf(high)) {
    throw InputError("num_mel_bins, dft_length, sample_rate and edges do not describe a set of filters");
  }
  auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double step = (mel(high) - mel(low)) / static_cast<double>(bands + 2);
  Integers edges;
  for (int64_t i = 0; i < bands + 2; ++i) {
    const double hertz = 700 * (std::pow(10, (static_cast<double>(i) * step + mel(low)) / 2595) - 1);
    const double bin = std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate));
    if (bin < 0 || bin >= static_cast<double>(bins)) {
      throw InputError("upper_edge_hertz or lower_edge_hertz lies outside the spectrum of " + std::to_string(bins) +
                       " bins");
    }
    edges.push_back(static_cast<int64_t>(bin));
  }
  if (bins * bands > kLargestConstant) throw UnsupportedError("MelWeightMatrix", "a matrix of this size");
  std::vector<double> values(static_cast<std::size_t>(bins * bands), 0.0);
  auto at = [&](int64_t bin, int64_t band) -> double & { return values[static_cast<std::size_t>(bin * bands + band)]; };
  for (int64_t i = 0; i < bands; ++i) {
    const int64_t left = edges[static_cast<std::size_t>(i)];
    const int64_t centre = edges[static_cast<std::size_t>(i) + 1];
    const int64_t right = edges[static_cast<std::size_t>(i) + 2];
    if (left == centre) at(centre, i) = 1;
    for (int64_t j = left; left != centre && j <= centre; ++j) {
      at(j, i) = static_cast<double>(j - left) / static_cast<double>(centre - left);
    }
    for (int64_t j = centre; j < right; ++j) {
      at(j, i) = static_cast<double>(right - j) / static_cast<double>(right - centre);
    }
  }
  return {n.b.constant(make_constant("", output_type(n), {bins, bands}, values))};
}

}  // namespace

void register_signal(LoweringTable &table) {
  table["DFT"] = dft;
  table["STFT"] = stft;
  table["HannWindow"] = cosine_window(0.5, 0.5, 0);
  table["HammingWindow"] = cosine_window(25.0 / 46, 21.0 / 46, 0);
  table["BlackmanWindow"] = cosine_window(0.42, 0.5, 0.08);
  table["MelWeightMatrix"] = mel_weight_matrix;
}

}  // namespace cx::compiler
