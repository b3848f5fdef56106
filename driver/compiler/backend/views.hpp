// Strided views of device memory and the loops that break them into what one instruction can hold.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "driver/compiler/graph.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::compiler::backend {

using Dtype = isa::DType;
using Dims = std::vector<int64_t>;

int64_t element_bytes(Dtype dtype);
/// INT8 to UINT64; Bool is UINT8.
bool is_integer(Dtype dtype);
int64_t product(const Dims &dims);

/// Strides (in elements) of dense memory in row-major order.
Dims row_major_strides(const Dims &dims);

/// Strides (in elements) of dense memory whose dimensions nest in `order`, outermost first.
Dims ordered_strides(const Dims &dims, const std::vector<int> &order);

/// Dimensions by falling stride, ties and dimensions of size 1 in their own order: how memory nests.
std::vector<int> nesting_order(const Dims &dims, const Dims &strides);

/// Strides of the same elements under another shape (row-major reinterpretation). False if the memory does not allow
/// it.
bool reshape_strides(const Dims &dims, const Dims &strides, const Dims &new_dims, Dims &new_strides);

/// A box of a tensor: first index and size in every dimension.
struct Box {
  Dims start;
  Dims size;
};

/// Elements in the scratchpad. Strides in bytes.
struct SpmView {
  Dtype dtype{};
  int64_t base = 0;
  Dims dims;
  Dims strides;
};

/// Elements in a segment. Strides in bytes.
struct MemView {
  Dtype dtype{};
  int segment = 0;  ///< segment number of the launch
  int64_t offset = 0;
  Dims dims;
  Dims strides;
};

/// Segment number of views whose memory is the scratchpad itself: tensors that stay there between groups. Their offset
/// is a scratchpad address.
constexpr int kScratchpadSegment = -1;

/// The view as one of the scratchpad; empty if its memory is elsewhere.
inline std::optional<SpmView> in_scratchpad(const MemView &view) {
  if (view.segment != kScratchpadSegment) return std::nullopt;
  return SpmView{view.dtype, view.offset, view.dims, view.strides};
}

/// At most four dimensions, each at most 65535: what descriptors hold. dims[3] is innermost.
struct Block {
  std::array<int64_t, 4> dims{};
  std::vector<std::array<int64_t, 4>> strides;  ///< bytes, one per operand
  std::vector<int64_t> offsets;                 ///< bytes from the operand's base, one per operand
};

/// Calls `emit` for blocks that together cover `dims`. Dimensions are sorted by the strides of operand `leader`
/// (falling), merged where every operand allows it, and looped over where more than `rank` (at most four) remain; the
/// last `rank` entries of a block are used.
void for_each_block(const Dims &dims, const std::vector<Dims> &strides, std::size_t leader,
                    const std::function<void(const Block &)> &emit, std::size_t rank = 4);

/// The same for operations along one dimension, in which operands may have different sizes: it is never merged, looped
/// over or split. `emit` gets its place in the block, where dims is 1 (the caller sets each operand's) and strides are
/// those of the operands. It is the innermost one if axis_last, else where it nests in `leader`.
void for_each_axis_block(const Dims &dims, std::size_t axis, const std::vector<Dims> &strides, std::size_t leader,
                         const std::function<void(const Block &, std::size_t)> &emit, bool axis_last = false);

/// A view of `box`; `strides` and `base` as of the whole.
int64_t box_offset(const Box &box, const Dims &strides);

}  // namespace cx::compiler::backend
