// Operators that read or write a picture at computed positions.
#include <algorithm>
#include <limits>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/compiler/frontend/window.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

using Ids = std::vector<TensorId>;
using Integers = std::vector<int64_t>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::size_t index_of(int64_t value) { return static_cast<std::size_t>(value); }

TensorId clamp(Builder &b, TensorId x, int64_t low, int64_t high) {
  return b.unary("clamp", x, static_cast<float>(low), static_cast<float>(high));
}

// Whether 0 <= x <= size - 1.
TensorId inside(Builder &b, TensorId x, int64_t size) {
  return b.binary("and", b.compare("ge", x, b.scalar(Type::F32, 0)),
                  b.compare("le", x, b.scalar(Type::F32, static_cast<double>(size - 1))));
}

class GridSampler {
 public:
  explicit GridSampler(NodeContext &n) : b_(n.b) {
    const Shape shape = b_.shape(n.input(0));
    const Shape grid = b_.shape(n.input(1));
    if (shape.size() != 4)
      throw UnsupportedError("GridSample", "input " + to_text(shape) + "; two spatial dimensions are supported");
    if (grid.size() != 4 || grid[0] != shape[0] || grid[3] != 2) {
      throw InputError("grid of shape " + to_text(grid) + " does not fit " + to_text(shape));
    }
    mode_ = n.text("mode", n.opset < 20 ? "bilinear" : "linear");
    padding_ = n.text("padding_mode", "zeros");
    align_ = n.integer("align_corners", 0) != 0;
    height_ = shape[2];
    width_ = shape[3];
    points_ = grid[1] * grid[2];
    target_ = {shape[0], shape[1], grid[1], grid[2]};
    table_ = b_.reshape(n.input(0), {shape[0], shape[1], height_ * width_});
    const TensorId list = b_.reshape(n.input(1), {grid[0], points_, 2});
    x_ = position(b_.reshape(b_.slice_axis(list, 2, 0, 1), {grid[0], 1, points_}), width_);
    y_ = position(b_.reshape(b_.slice_axis(list, 2, 1, 1), {grid[0], 1, points_}), height_);
  }

  TensorId run() {
    if (mode_ == "nearest") return b_.reshape(fetch(y_, x_), target_);
    if (mode_ == "bilinear" || mode_ == "linear") return b_.reshape(interpolate(0), target_);
    if (mode_ == "bicubic" || mode_ == "cubic") return b_.reshape(interpolate(1), target_);
    throw InputError("attribute mode is '" + mode_ + "'");
  }

 private:
  // From [-1, 1] to pixels, then into the picture as the padding asks.
  TensorId position(TensorId normalised, int64_t size) {
    const double scale = align_ ? static_cast<double>(size - 1) / 2 : static_cast<double>(size) / 2;
    const double offset = static_cast<double>(size - 1) / 2;
    TensorId x = b_.binary("add", b_.binary("mul", normalised, scale), offset);
    if (mode_ == "nearest") x = b_.unary("round", x);
    if (padding_ == "border") return clamp(b_, x, 0, size - 1);
    if (padding_ == "reflection") return reflect(x, size);
    if (padding_ != "zeros") throw InputError("attribute padding_mode is '" + padding_ + "'");
    return x;
  }

  TensorId reflect(TensorId x, int64_t size) {
    const double low = align_ ? 0 : -0.5;
    const double range = align_ ? static_cast<double>(size - 1) : static_cast<double>(size);
    if (range == 0) return b_.binary("mul", x, 0.0);
    const TensorId distance = b_.unary("abs", b_.binary("sub", x, low));
    const TensorId phase = b_.binary("fmod", distance, 2 * range);
    const TensorId falling = b_.binary("sub", b_.scalar(Type::F32, 2 * range), phase);
    return b_.binary("add", b_.binary("min", phase, falling), low);
  }

  // Elements at whole positions, each row and column [N, 1, points].
  TensorId fetch(TensorId y, TensorId x) {
    TensorId valid = kNoTensor;
    if (padding_ == "zeros") valid = b_.binary("and", inside(b_, y, height_), inside(b_, x, width_));
    if (padding_ == "reflection") {
      y = b_.unary("round", reflect(y, height_));
      x = b_.unary("round", reflect(x, width_));
    }
    const TensorId row = b_.cast(clamp(b_, y, 0, height_ - 1), Type::I64);
    const TensorId column = b_.cast(clamp(b_, x, 0, width_ - 1), Type::I64);
    const TensorId index = b_.binary("add", b_.binary("mul", row, static_cast<double>(width_)), column);
    const TensorId taken = b_.take_along(table_, index, 2);
    return valid == kNoTensor ? taken : b_.select(valid, taken, b_.scalar(Type::F32, 0));
  }

  // Weights of the neighbours floor(x) - before .. floor(x) + before + 1 for the fraction of a position.
  Ids weights(TensorId fraction, int64_t before) {
    const TensorId rest = b_.binary("sub", b_.scalar(Type::F32, 1), fraction);
    if (before == 0) return {rest, fraction};
    constexpr double a = -0.75;
    auto near = [&](TensorId d) {  // ((a + 2) d - (a + 3)) d^2 + 1
      const TensorId inner = b_.binary("sub", b_.binary("mul", d, a + 2), a + 3);
      return b_.binary("add", b_.binary("mul", inner, b_.binary("mul", d, d)), 1.0);
    };
    auto far = [&](TensorId t) {  // ((a d - 5a) d + 8a) d - 4a at d = t + 1
      const TensorId d = b_.binary("add", t, 1.0);
      const TensorId inner = b_.binary("sub", b_.binary("mul", d, a), 5 * a);
      const TensorId middle = b_.binary("add", b_.binary("mul", inner, d), 8 * a);
      return b_.binary("sub", b_.binary("mul", middle, d), 4 * a);
    };
    return {far(fraction), near(fraction), near(rest), far(rest)};
  }

  TensorId interpolate(int64_t before) {
    const TensorId top = b_.unary("floor", y_);
    const TensorId left = b_.unary("floor", x_);
    const Ids wy = weights(b_.binary("sub", y_, top), before);
    const Ids wx = weights(b_.binary("sub", x_, left), before);
    TensorId sum = kNoTensor;
    for (std::size_t i = 0; i < wy.size(); ++i) {
      const double dy = static_cast<double>(static_cast<int64_t>(i) - before);
      const TensorId row = dy == 0 ? top : b_.binary("add", top, dy);
      TensorId line = kNoTensor;
      for (std::size_t k = 0; k < wx.size(); ++k) {
        const double dx = static_cast<double>(static_cast<int64_t>(k) - before);
        const TensorId column = dx == 0 ? left : b_.binary("add", left, dx);
        const TensorId term = b_.binary("mul", fetch(row, column), wx[k]);
        line = line == kNoTensor ? term : b_.binary("add", line, term);
      }
      const TensorId term = b_.binary("mul", line, wy[i]);
      sum = sum == kNoTensor ? term : b_.binary("add", sum, term);
    }
    return sum;
  }

  Builder &b_;
  std::string mode_, padding_;
  bool align_ = false;
  int64_t height_ = 0, width_ = 0, points_ = 0;
  Shape target_;
  TensorId table_ = kNoTensor, x_ = kNoTensor, y_ = kNoTensor;
};

Ids grid_sample(NodeContext &n) { return {GridSampler(n).run()}; }

// Sample positions of one direction and what they need of it.
struct RoiAxis {
  TensorId low, high;  // neighbours, I64
  TensorId low_weight, high_weight;
  TensorId valid;
};

Ids roi_align(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape s = b.shape(x);
  const Shape rois = b.shape(n.input(1));
  if (s.size() != 4 || rois.size() != 2 || rois[1] != 4) {
    throw InputError("input " + to_text(s) + " must have rank 4, rois " + to_text(rois) + " shape [R, 4]");
  }
  const int64_t count = rois[0];
  const int64_t height = n.integer("output_height", 1);
  const int64_t width = n.integer("output_width", 1);
  const int64_t samples = n.integer("sampling_ratio", 0);
  if (height < 1 || width < 1 || height > 4096 || width > 4096 || samples < 0 || samples > 64) {
    throw InputError("output_height, output_width or sampling_ratio is out of range");
  }
  if (samples == 0) {
    throw UnsupportedError("RoiAlign",
                           "sampling_ratio 0, which takes as many samples as a region's size at run time asks");
  }
  const std::string transform =
      n.text("coordinate_transformation_mode", n.opset < 16 ? "output_half_pixel" : "half_pixel");
  if (transform != "half_pixel" && transform != "output_half_pixel") {
    throw InputError("attribute coordinate_transformation_mode is '" + transform + "'");
  }
  const bool half = transform == "half_pixel";
  const std::string mode = n.text("mode", "avg");
  if (mode != "avg" && mode != "max") throw InputError("attribute mode is '" + mode + "'");
  const double scale = n.real("spatial_scale", 1);

  auto edge = [&](int64_t column) {
    TensorId value = b.binary("mul", b.slice_axis(n.input(1), 1, column, 1), scale);
    return half ? b.binary("sub", value, 0.5) : value;
  };
  // One direction: bins * samples positions for each region, [count, positions].
  auto along = [&](int64_t column, int64_t bins, int64_t size) {
    const TensorId start = edge(column);
    TensorId extent = b.binary("sub", edge(column + 2), start);
    if (!half) extent = b.unary("clamp", extent, 1, kInfinity);
    std::vector<double> fractions;
    for (int64_t i = 0; i < bins * samples; ++i) {
      fractions.push_back((static_cast<double>(i) + 0.5) / static_cast<double>(bins * samples));
    }
    const TensorId steps = b.constant(make_constant("", Type::F32, {1, bins * samples}, fractions));
    const TensorId position = b.binary("add", start, b.binary("mul", extent, steps));
    RoiAxis axis;
    axis.valid = b.binary("and", b.compare("ge", position, b.scalar(Type::F32, -1)),
                          b.compare("le", position, b.scalar(Type::F32, static_cast<double>(size))));
    const TensorId held = clamp(b, position, 0, size - 1);
    const TensorId low = b.unary("floor", held);
    axis.high_weight = b.binary("sub", held, low);
    axis.low_weight = b.binary("sub", b.scalar(Type::F32, 1), axis.high_weight);
    axis.low = b.cast(low, Type::I64);
    axis.high = b.cast(clamp(b, b.binary("add", low, 1.0), 0, size - 1), Type::I64);
    return axis;
  };
  RoiAxis ys = along(1, height, s[2]);
  RoiAxis xs = along(0, width, s[3]);
  const int64_t rows = height * samples;
  const int64_t columns = width * samples;
  auto as_row = [&](TensorId id) { return b.reshape(id, {count, rows, 1}); };
  auto as_column = [&](TensorId id) { return b.reshape(id, {count, 1, columns}); };
  const TensorId pictures = b.reshape(b.cast(n.input(2), Type::I64), {count, 1, 1});
  const TensorId plane = b.binary("mul", pictures, static_cast<double>(s[2] * s[3]));
  const TensorId table = b.reshape(b.transpose(x, {1, 0, 2, 3}), {s[1], s[0] * s[2] * s[3]});
  const TensorId valid = b.binary("and", as_row(ys.valid), as_column(xs.valid));
  const int64_t points = count * rows * columns;
  TensorId sum = kNoTensor;
  for (int corner = 0; corner < 4; ++corner) {
    const bool below = (corner & 2) != 0;
    const bool right = (corner & 1) != 0;
    const TensorId row = b.binary("mul", as_row(below ? ys.high : ys.low), static_cast<double>(s[3]));
    const TensorId index = b.binary("add", b.binary("add", plane, row), as_column(right ? xs.high : xs.low));
    const TensorId product = b.binary("mul", as_row(below ? ys.high_weight : ys.low_weight),
                                      as_column(right ? xs.high_weight : xs.low_weight));
    const TensorId weight = b.select(valid, product, b.scalar(Type::F32, 0));
    const TensorId taken = b.take_along(table, b.reshape(index, {1, points}), 1);
    const TensorId term = b.binary("mul", taken, b.reshape(weight, {1, points}));
    sum = sum == kNoTensor ? term : b.binary("add", sum, term);
  }
  const TensorId apart = b.reshape(sum, {s[1] * count, height, samples, width, samples});
  const TensorId pooled = b.reduce(mode == "avg" ? "mean" : "max", apart, {2, 4});
  return {b.transpose(b.reshape(pooled, {s[1], count, height, width}), {1, 0, 2, 3})};
}

// Undoes a MaxPool: each maximum goes to the place that its index names in the picture it came from.
Ids max_unpool(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape s = b.shape(x);
  if (s.size() < 3) throw InputError("input " + to_text(s) + " must have rank 3 or more");
  const Shape spatial(s.begin() + 2, s.end());
  const Window window = read_window(n, n.integers("kernel_shape"), spatial);
  Shape natural(s.begin(), s.begin() + 2);
  for (std::size_t d = 0; d < spatial.size(); ++d) {
    const int64_t size = (spatial[d] - 1) * window.strides[d] + window.kernel[d] - window.begin[d] - window.end[d];
    if (size < 1) throw InputError("pads leave nothing of dimension " + std::to_string(d + 2));
    natural.push_back(size);
  }
  const int64_t total = elements(natural);
  if (total > kMaxElements) throw InputError("the result is too large");
  const TensorId empty = b.expand(b.scalar(b[x].type, 0), {total});
  const TensorId indices = b.reshape(b.cast(n.input(1), Type::I64), {elements(s)});
  TensorId result = b.reshape(b.scatter_along(empty, indices, b.reshape(x, {elements(s)}), 0), natural);
  if (n.has_input(2)) {
    const Integers asked = n.integer_input(2, "output_shape");
    if (asked.size() != natural.size()) throw InputError("output_shape has another rank than the input");
    Integers pads(2 * natural.size(), 0);
    for (std::size_t d = 0; d < natural.size(); ++d) pads[natural.size() + d] = asked[d] - natural[d];
    result = b.pad(result, pads, 0);
  }
  return {result};
}

// Adds up blocks that lie over each other: each element of a block goes to its place in the padded picture.
Ids col2im(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape s = b.shape(x);
  const Integers image = n.integer_input(1, "image_shape");
  const Integers block = n.integer_input(2, "block_shape");
  if (s.size() != 3) throw InputError("input " + to_text(s) + " must have rank 3");
  const Window window = read_window(n, block, image);
  const std::size_t rank = image.size();
  const int64_t volume = elements(block);
  Shape padded, counts;
  for (std::size_t d = 0; d < rank; ++d) {
    padded.push_back(image[d] + window.begin[d] + window.end[d]);
    if (padded[d] < window.extent(d)) throw InputError("block_shape does not fit into image_shape");
    counts.push_back((padded[d] - window.extent(d)) / window.strides[d] + 1);
  }
  if (volume < 1 || s[1] % volume != 0 || elements(counts) != s[2]) {
    throw InputError("input " + to_text(s) + " does not hold blocks " + to_text(block) + " of " + to_text(image));
  }
  const Integers pitch = row_major_strides(padded);
  const Integers block_pitch = row_major_strides(block);
  const Integers count_pitch = row_major_strides(counts);
  Builder::check_table(volume * s[2]);
  Integers places;
  for (int64_t k = 0; k < volume; ++k) {
    for (int64_t o = 0; o < s[2]; ++o) {
      int64_t place = 0;
      for (std::size_t d = 0; d < rank; ++d) {
        const int64_t inner = k / block_pitch[d] % block[d];
        const int64_t outer = o / count_pitch[d] % counts[d];
        place += (outer * window.strides[d] + inner * window.dilations[d]) * pitch[d];
      }
      places.push_back(place);
    }
  }
  const int64_t planes = s[0] * (s[1] / volume);
  const TensorId indices = b.constant(make_constant("", Type::I64, {1, volume * s[2]}, places));
  const TensorId empty = b.expand(b.scalar(b[x].type, 0), {planes, elements(padded)});
  const TensorId sums = b.scatter_along(empty, indices, b.reshape(x, {planes, volume * s[2]}), 1, "add");
  Shape full = {s[0], s[1] / volume};
  full.insert(full.end(), padded.begin(), padded.end());
  Integers crop(2 * full.size(), 0);
  for (std::size_t d = 0; d < rank; ++d) {
    crop[2 + d] = -window.begin[d];
    crop[full.size() + 2 + d] = -window.end[d];
  }
  return {b.pad(b.reshape(sums, full), crop, 0)};
}

Ids center_crop_pad(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape own = b.shape(x);
  const Integers asked = n.integer_input(1, "shape");
  Integers axes(own.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (n.has_attribute("axes")) axes = n.integers("axes");
  if (axes.size() != asked.size()) throw InputError("shape and axes have different lengths");
  Integers pads(2 * own.size(), 0);
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto d = index_of(NodeContext::axis(axes[i], static_cast<int64_t>(own.size())));
    if (asked[i] < 0 || asked[i] > kMaxElements) throw InputError("shape holds " + std::to_string(asked[i]));
    // Toward zero both ways: the odd element is padded or cropped at the end.
    const int64_t change = asked[i] - own[d];
    pads[d] = change / 2;
    pads[own.size() + d] = change - change / 2;
  }
  return {b.pad(x, pads, 0)};
}

// A grid for GridSample: places of the result's elements in [-1, 1], each mapped by a picture's matrix.
Ids affine_grid(NodeContext &n) {
  Builder &b = n.b;
  const TensorId theta = n.input(0);
  const Integers size = n.integer_input(1, "size");
  const bool align = n.integer("align_corners", 0) != 0;
  if (size.size() != 4 && size.size() != 5) throw InputError("size " + to_text(size) + " must have 4 or 5 entries");
  const auto rank = static_cast<int64_t>(size.size()) - 2;
  if (b.shape(theta) != Shape{size[0], rank, rank + 1}) {
    throw InputError("theta of shape " + to_text(b.shape(theta)) + " must have shape " +
                     to_text(Shape{size[0], rank, rank + 1}));
  }
  const Shape spatial(size.begin() + 2, size.end());
  const int64_t points = elements(spatial);
  Builder::check_table(points);
  const Integers pitch = row_major_strides(spatial);
  std::vector<double> places;  // [points, rank + 1]: x first, then 1
  for (int64_t i = 0; i < points; ++i) {
    for (auto d = index_of(rank); d-- > 0;) {
      const auto at = static_cast<double>(i / pitch[d] % spatial[d]);
      const auto length = static_cast<double>(spatial[d]);
      if (align) {
        places.push_back(length == 1 ? 0 : 2 * at / (length - 1) - 1);
      } else {
        places.push_back((2 * at + 1) / length - 1);
      }
    }
    places.push_back(1);
  }
  const TensorId table = b.constant(make_constant("", Type::F32, {points, rank + 1}, places));
  const TensorId mapped = b.emit("MatMul", {table, theta}, {{"trans_b", int64_t{1}}});
  Shape target = {size[0]};
  target.insert(target.end(), spatial.begin(), spatial.end());
  target.push_back(rank);
  return {b.reshape(mapped, target)};
}

// Laplace's expansion along the first row; minors of the rows from `row` on and the listed columns.
TensorId minor(Builder &b, TensorId x, int64_t row, const Integers &columns) {
  auto element = [&](int64_t column) {
    const int64_t rank = b.rank(x);
    return b.slice_axis(b.slice_axis(x, rank - 2, row, 1), rank - 1, column, 1);
  };
  if (columns.size() == 1) return element(columns[0]);
  TensorId sum = kNoTensor;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    Integers rest = columns;
    rest.erase(rest.begin() + static_cast<long>(i));
    const TensorId term = b.binary("mul", element(columns[i]), minor(b, x, row + 1, rest));
    sum = sum == kNoTensor ? term : b.binary(i % 2 == 0 ? "add" : "sub", sum, term);
  }
  return sum;
}

Ids determinant(NodeContext &n) {
  Builder &b = n.b;
  const TensorId x = n.input(0);
  const Shape shape = b.shape(x);
  if (shape.size() < 2 || shape.back() != shape[shape.size() - 2]) {
    throw InputError("input " + to_text(shape) + " holds no square matrices");
  }
  constexpr int64_t kLargest = 4;
  if (shape.back() > kLargest || shape.back() < 1) {
    throw UnsupportedError("Det", "matrices of " + std::to_string(shape.back()) + " rows; up to " +
                                      std::to_string(kLargest) + " are supported");
  }
  Integers columns(index_of(shape.back()));
  std::iota(columns.begin(), columns.end(), 0);
  return {b.reshape(minor(b, x, 0, columns), Shape(shape.begin(), shape.end() - 2))};
}

}  // namespace

void register_sampling(LoweringTable &table) {
  table["GridSample"] = grid_sample;
  table["AffineGrid"] = affine_grid;
  table["RoiAlign"] = roi_align;
  table["MaxUnpool"] = max_unpool;
  table["Col2Im"] = col2im;
  table["CenterCropPad"] = center_crop_pad;
  table["Det"] = determinant;
}

}  // namespace cx::compiler
