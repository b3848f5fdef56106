// Integer arithmetic of quantised models: an element x of 8 bits stands for (x - zero point) * scale.
#pragma once

#include <optional>

#include "driver/compiler/frontend/builder.hpp"
#include "driver/compiler/frontend/window.hpp"

namespace cx::compiler {

/// The convolution of two dequantised tensors as a product of their int8 elements: x by one scale and zero point,
/// constant weights by one or one for each output channel. Nothing where that is not what x and w are; the caller
/// then computes with floats. Windows have two dimensions.
std::optional<TensorId> dequantised_convolution(Builder &b, TensorId x, TensorId w, TensorId bias, const Window &window,
                                                int64_t group);

/// The same for a MatMul; bias is FP32[N] or kNoTensor.
std::optional<TensorId> dequantised_matmul(Builder &b, TensorId a, TensorId w, TensorId bias, bool trans_b);

}  // namespace cx::compiler
