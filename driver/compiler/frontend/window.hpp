// Kernel, strides, dilations and pads of convolutions and pooling, as ONNX states them.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/compiler/frontend/lowering.hpp"

namespace cx::compiler {

/// One entry per spatial dimension. Pads are resolved: auto_pad is gone.
struct Window {
  std::vector<int64_t> kernel, strides, dilations, begin, end;

  std::size_t rank() const { return kernel.size(); }
  /// Elements that one window spans along a dimension.
  int64_t extent(std::size_t d) const { return (kernel[d] - 1) * dilations[d] + 1; }
};

/// Reads strides, dilations, pads and auto_pad for a kernel over inputs of the given spatial shape. Throws InputError
/// for lists of wrong length and values out of range.
Window read_window(const NodeContext &n, std::vector<int64_t> kernel, const std::vector<int64_t> &spatial);

}  // namespace cx::compiler
