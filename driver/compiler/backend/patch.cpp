#include "driver/compiler/backend/patch.hpp"

#include <algorithm>
#include <array>

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

/// Positions of a patch along one dimension of the map: start, start + step, ...
struct Line {
  int64_t start = 0;
  int64_t count = 0;
  int64_t step = 1;
  int64_t before = 0;  ///< how many lie before 0
  int64_t after = 0;   ///< how many lie at or after the map's size

  void clip(int64_t size) {
    while (before < count && start + before * step < 0) ++before;
    while (after < count - before && start + (count - 1 - after) * step >= size) ++after;
  }
  int64_t inside() const { return count - before - after; }
  int64_t first() const { return start + before * step; }
};

Line line_of(int64_t outputs, int64_t first_output, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad,
             int64_t size) {
  Line line;
  line.start = first_output * stride - pad;
  if (outputs == 1) {
    line.count = kernel;
    line.step = dilation;
  } else {
    line.count = (outputs - 1) * stride + (kernel - 1) * dilation + 1;
  }
  line.clip(size);
  return line;
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

/// Brings the part of a map that exists and fills the rest; of several maps where channels lie together.
void fetch_part(Context &context, const SpmView &patch, const MemView &source, const Padding &padding, bool planar) {
  if (source.dims[2] == 0 || source.dims[3] == 0) {
    context.emitter.fill(patch, padding.fill);
    return;
  }
  const bool fits = *std::max_element(patch.dims.begin(), patch.dims.end()) <= 65535 && !in_scratchpad(source);
  const bool channels_last = patch.dims[1] == 1 || source.strides[1] == element_bytes(patch.dtype);
  if (padding.any() && fits && planar) {
    load_padded(context, patch, source, padding, {1, 2, 3, 0});
  } else if (padding.any() && fits && channels_last) {
    load_padded(context, patch, source, padding, {0, 2, 3, 1});
  } else {
    if (padding.any()) context.emitter.fill(patch, padding.fill);
    SpmView inside = patch;
    inside.base += padding.top * patch.strides[2] + padding.left * patch.strides[3];
    inside.dims = source.dims;
    context.emitter.load(inside, source);
  }
}

void fetch(Context &context, const SpmView &patch, const MemView &source, const Padding &padding, bool planar) {
  if (!planar) {
    fetch_part(context, patch, source, padding, false);
    return;
  }
  SpmView map = patch;
  MemView from = source;
  map.dims[0] = from.dims[0] = 1;
  for (int64_t n = 0; n < patch.dims[0]; ++n) {
    fetch_part(context, map, from, padding, true);
    map.base += patch.strides[0];
    from.offset += source.strides[0];
  }
}

}  // namespace

WindowShape window_shape(const Node &node, int64_t kernel_y, int64_t kernel_x) {
  const auto strides = node.integers("strides", {1, 1});
  const auto pads = node.integers("pads", {0, 0, 0, 0});
  const auto dilations = node.integers("dilations", {1, 1});
  return {kernel_y,   kernel_x,     strides[0],
          strides[1], dilations[0], dilations[1],
          pads[0],    pads[1],      static_cast<int8_t>(node.integer("pad_value", 0))};
}

Border window_border(const WindowShape &window, const Shape &map, const Shape &outputs, bool minus_infinity) {
  const auto beyond = [](int64_t count, int64_t stride, int64_t kernel, int64_t dilation, int64_t pad, int64_t size) {
    return std::max<int64_t>((count - 1) * stride + (kernel - 1) * dilation + 1 - pad - size, 0);
  };
  Border border;
  border.top = window.pad_top;
  border.left = window.pad_left;
  border.bottom = beyond(outputs[2], window.stride_y, window.kernel_y, window.dilation_y, window.pad_top, map[2]);
  border.right = beyond(outputs[3], window.stride_x, window.kernel_x, window.dilation_x, window.pad_left, map[3]);
  border.minus_infinity = minus_infinity;
  return border;
}

bool reads_in_place(const Context &context, TensorId input, const WindowShape &window, const Shape &outputs,
                    bool minus_infinity, bool adjacent) {
  if (!stays_in_scratchpad(context, input)) return false;
  const Storage &storage = context.layout.storage(input);
  const Shape &map = context.graph[input].shape;
  const Dims &strides = context.layout.value(input).strides;
  if (map[1] > 1 && strides[1] != 1) return false;
  if (adjacent && window.kernel_x > 1 && strides[3] != map[1]) return false;
  const Border need = window_border(window, map, outputs, minus_infinity);
  const Border &have = storage.border;
  if (!need.any()) return true;
  if (window.pad_value != 0) return false;
  return have.minus_infinity == need.minus_infinity && have.top >= need.top && have.bottom >= need.bottom &&
         have.left >= need.left && have.right >= need.right;
}

Patch load_patch(Context &context, Arena &arena, TensorId input, const WindowShape &window, const Box &box,
                 int64_t first_channel, int64_t channels, bool fill_with_minus_infinity, const Quantiser &wanted,
                 bool in_place) {
  const Shape &map = context.graph[input].shape;
  const Dtype stored = context.layout.dtype(input);
  const Line rows =
      line_of(box.size[2], box.start[2], window.kernel_y, window.stride_y, window.dilation_y, window.pad_top, map[2]);
  const Line columns =
      line_of(box.size[3], box.start[3], window.kernel_x, window.stride_x, window.dilation_x, window.pad_left, map[3]);
  const Dims dims{box.size[0], channels, rows.count, columns.count};
  Patch result{{}, box.size[2] == 1 ? 1 : window.dilation_y, box.size[3] == 1 ? 1 : window.dilation_x};
  if (in_place) {
    MemView source = context.layout.view(input);
    source.offset += box_offset({{box.start[0], first_channel, rows.start, columns.start}, {}}, source.strides);
    source.dims = dims;
    source.strides[2] *= rows.step;
    source.strides[3] *= columns.step;
    result.view = in_scratchpad(source).value();
    if (wanted.dtype == stored && wanted.tensor_factor() == 1 && !wanted.tf32) return result;
    const SpmView converted = allocate(arena, wanted.dtype, dims, kChannelsLast);
    convert(context, converted, result.view, wanted.tensor_factor());
    result.view = converted;
    if (wanted.tf32) round_to_tf32(context, arena, result.view);
    return result;
  }
  // Channels that lie apart in memory come plane by plane in long runs; the VPU brings them together.
  const bool planar = channels > 1 && map[3] > 1 && context.layout.value(input).strides[3] == 1;
  const std::vector<int> rows_first{0, 1, 2, 3};
  // A fill has 32 bits: what is wider is converted while it lies apart from the border.
  const bool wide = element_bytes(stored) > 4;
  const Dtype type = wide ? Dtype::FP32 : stored;
  const SpmView patch = allocate(arena, type, dims, planar ? rows_first : kChannelsLast);
  const Dims inside{box.size[0], channels, rows.inside(), columns.inside()};
  std::optional<SpmView> apart;
  if (wide && product(inside) > 0) apart = allocate(arena, stored, inside, planar ? rows_first : kChannelsLast);
  if (!context.emitter.dry()) {
    const Box part{{box.start[0], first_channel, rows.first(), columns.first()}, inside};
    MemView source = context.layout.view(input, part);
    source.strides[2] *= rows.step;
    source.strides[3] *= columns.step;
    const uint32_t fill = fill_with_minus_infinity ? minus_infinity(type) : static_cast<uint8_t>(window.pad_value);
    if (wide) {
      context.emitter.fill(patch, fill);
      if (apart) {
        context.emitter.load(*apart, source);
        SpmView window = patch;
        window.base += rows.before * patch.strides[2] + columns.before * patch.strides[3];
        window.dims = inside;
        convert(context, window, *apart, 1);
      }
    } else {
      fetch(context, patch, source, {rows.before, rows.after, columns.before, columns.after, fill}, planar);
    }
  }
  result.view = patch;
  if (wanted.dtype != type || wanted.tensor_factor() != 1 || planar) {
    result.view = allocate(arena, wanted.dtype, dims, kChannelsLast);
    convert(context, result.view, patch, wanted.tensor_factor());
  }
  if (wanted.tf32) round_to_tf32(context, arena, result.view);
  return result;
}

}  // namespace cx::compiler::backend
