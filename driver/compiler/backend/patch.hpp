// The part of a feature map that a tile's windows see, with its border, as [rows][columns][channels] in the scratchpad.
#pragma once

#include <cstdint>

#include "driver/compiler/backend/tile.hpp"

namespace cx::compiler::backend {

/// Windows over the last two dimensions of [N, C, H, W].
struct WindowShape {
  int64_t kernel_y = 1;
  int64_t kernel_x = 1;
  int64_t stride_y = 1;
  int64_t stride_x = 1;
  int64_t dilation_y = 1;
  int64_t dilation_x = 1;
  int64_t pad_top = 0;
  int64_t pad_left = 0;
};

WindowShape window_shape(const Node &node, int64_t kernel_y, int64_t kernel_x);

struct Patch {
  SpmView view;  ///< dims [1, channels, rows, columns]
  int64_t dilation_y = 1;
  int64_t dilation_x = 1;
};

/// Loads the patch of channels [first, first + count) for the windows of `box` (in the output's [N, C, OH, OW]; one
/// image). Outside the map: fill, 0 or minus infinity. Where the box is one output high or wide, only rows or columns
/// that the kernel meets are loaded, and the dilation in the scratchpad is 1. Elements come as wanted.dtype, times its
/// tensor factor.
Patch load_patch(Context &context, Arena &arena, TensorId input, const WindowShape &window, const Box &box,
                 int64_t first_channel, int64_t channels, bool fill_with_minus_infinity, const Quantiser &wanted);

}  // namespace cx::compiler::backend
