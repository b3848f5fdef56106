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
  int8_t pad_value = 0;  ///< of int8 maps
};

WindowShape window_shape(const Node &node, int64_t kernel_y, int64_t kernel_x);

struct Patch {
  SpmView view;  ///< dims [maps, channels, rows, columns]
  int64_t dilation_y = 1;
  int64_t dilation_x = 1;
};

/// What all windows of a map together see beyond its edge. outputs: [.., .., OH, OW]; map: [.., .., H, W].
Border window_border(const WindowShape &window, const Shape &map, const Shape &outputs, bool minus_infinity);

/// Whether windows can read the map where it is: it stays in the scratchpad, channels last, with a border that is wide
/// enough. adjacent: the channels of neighbouring columns have to follow one another.
bool reads_in_place(const Context &context, TensorId input, const WindowShape &window, const Shape &outputs,
                    bool minus_infinity, bool adjacent);

/// Loads the patch of channels [first, first + count) for the windows of `box` (in the output's [N, C, OH, OW]).
/// Outside the map: minus infinity, or the window's pad_value. Where the box is one output high or wide, only rows or
/// columns that the kernel meets are loaded, and the dilation in the scratchpad is 1. Elements come as wanted.dtype,
/// times its tensor factor. in_place: reads_in_place(); a map that needs no conversion either is its own patch.
Patch load_patch(Context &context, Arena &arena, TensorId input, const WindowShape &window, const Box &box,
                 int64_t first_channel, int64_t channels, bool fill_with_minus_infinity, const Quantiser &wanted,
                 bool in_place);

}  // namespace cx::compiler::backend
