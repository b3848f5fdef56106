#include "driver/compiler/backend/patch.hpp"

#include <algorithm>
#include <array>
#include <tuple>

namespace cx::compiler::backend {

namespace {

const std::vector<int> kChannelsLast{0, 2, 3, 1};

uint32_t minus_infinity(Dtype dtype) {
  switch (dtype) {
    case Dtype::FP16:
      return 0xFC00;
    case Dtype::BF16:
      return 0xFF80;
    default:
      return 0xFF800000;
  }
}

/// How many of `count` indices from `start` lie before 0, and how many at or after `size`.
std::pair<int64_t, int64_t> outside(int64_t start, int64_t count, int64_t size) {
  const int64_t before = std::clamp<int64_t>(-start, 0, count);
  const int64_t after = std::clamp<int64_t>(start + count - size, 0, count - before);
  return {before, after};
}

/// One load that pads. `order` is how source and patch nest; rows and columns are its second and third dimension.
void load_padded(Context &context, const SpmView &patch, const MemView &source, const Padding &padding,
                 const std::array<std::size_t, 4> &order) {
  Descriptor dst;
  MemDescriptor src;
  dst.dtype = patch.dtype;
  dst.base = static_cast<uint32_t>(patch.base);
  src.segment = static_cast<uint8_t>(source.segment);
  src.offset = static_cast<uint64_t>(source.offset);
  for (std::size_t slot = 0; slot < 4; ++slot) {
    const std::size_t d = order[slot];
    dst.dims[slot] = static_cast<uint16_t>(patch.dims[d]);
    dst.strides[slot] = static_cast<int32_t>(patch.strides[d]);
    src.strides[slot] = static_cast<int32_t>(source.strides[d]);
  }
  context.emitter.load_padded(dst, src, padding);
}

/// Brings the part of the map that exists and fills the rest.
void fetch(Context &context, const SpmView &patch, TensorId input, const Box &box, const Padding &padding,
           bool planar) {
  if (context.emitter.dry()) return;
  if (box.size[2] == 0 || box.size[3] == 0) {
    context.emitter.fill(patch, padding.fill);
    return;
  }
  const MemView source = context.layout.view(input, box);
  const bool fits = *std::max_element(patch.dims.begin(), patch.dims.end()) <= 65535;
  const bool channels_last = patch.dims[1] == 1 || source.strides[1] == element_bytes(patch.dtype);
  if (padding.any() && fits && planar) {
    load_padded(context, patch, source, padding, {1, 2, 3, 0});
  } else if (padding.any() && fits && channels_last) {
    load_padded(context, patch, source, padding, {0, 2, 3, 1});
  } else {
    if (padding.any()) context.emitter.fill(patch, padding.fill);
    SpmView inside = patch;
    inside.base += padding.top * patch.strides[2] + padding.left * patch.strides[3];
    inside.dims = box.size;
    context.emitter.load(inside, source);
  }
}

}  // namespace

WindowShape window_shape(const Node &node, int64_t kernel_y, int64_t kernel_x) {
  const auto strides = node.integers("strides", {1, 1});
  const auto pads = node.integers("pads", {0, 0, 0, 0});
  const auto dilations = node.integers("dilations", {1, 1});
  return {kernel_y, kernel_x, strides[0], strides[1], dilations[0], dilations[1], pads[0], pads[1]};
}

SpmView load_patch(Context &context, Arena &arena, TensorId input, const WindowShape &window, const Box &box,
                   int64_t first_channel, int64_t channels, bool fill_with_minus_infinity, Dtype wanted) {
  const Shape &map = context.graph[input].shape;
  const Dtype stored = context.layout.dtype(input);
  const Dims dims{1, channels, window.rows(box.size[2]), window.columns(box.size[3])};
  // Channels that lie apart in memory come plane by plane in long runs; the VPU brings them together.
  const Dims &strides = context.layout.value(input).strides;
  const bool planar = channels > 1 && map[3] > 1 && strides[3] == 1;
  const std::vector<int> rows_first{0, 1, 2, 3};
  const SpmView patch = allocate(arena, stored, dims, planar ? rows_first : kChannelsLast);
  const int64_t top = box.start[2] * window.stride_y - window.pad_top;
  const int64_t left = box.start[3] * window.stride_x - window.pad_left;
  Padding padding;
  std::tie(padding.top, padding.bottom) = outside(top, dims[2], map[2]);
  std::tie(padding.left, padding.right) = outside(left, dims[3], map[3]);
  padding.fill = fill_with_minus_infinity ? minus_infinity(stored) : 0;
  const Box part{{box.start[0], first_channel, top + padding.top, left + padding.left},
                 {1, channels, dims[2] - padding.top - padding.bottom, dims[3] - padding.left - padding.right}};
  fetch(context, patch, input, part, padding, planar);
  if (wanted == stored && !planar) return patch;
  const SpmView gathered = allocate(arena, wanted, dims, kChannelsLast);
  context.emitter.unary(isa::Unary::COPY, gathered, patch);
  return gathered;
}

}  // namespace cx::compiler::backend
