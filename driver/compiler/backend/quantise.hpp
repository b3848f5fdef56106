// How operands of products become elements of an 8-bit format: element times factor, rounded to nearest even,
// saturated. Factors are powers of two for FP8, so that only the conversion itself rounds.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/compiler/backend/emitter.hpp"
#include "driver/compiler/graph.hpp"

namespace cx::compiler::backend {

struct Context;

bool is_8_bit(Dtype dtype);

/// Device type and factors of an operand. Formats of 16 and 32 bits have the factor 1.
struct Quantiser {
  Dtype dtype{};
  int axis = -1;                ///< of the tensor; -1: one factor for the whole tensor
  std::vector<double> factors;  ///< one for each index of the axis, or one; empty: 1
  bool tf32 = false;            ///< FP32 elements keep 10 bits of mantissa

  double factor(int64_t index) const {
    return factors.empty() ? 1 : factors[axis < 0 ? 0 : static_cast<size_t>(index)];
  }
  /// The factor of a tensor that is converted on the device.
  float tensor_factor() const { return static_cast<float>(factor(0)); }
};

/// What the DMMU multiplies for a node: INT8 where the operands are int8, else the context's format. Throws InputError
/// naming the node when the target does not multiply INT8.
Dtype product_dtype(const Context &context, const Node &node);

/// Of a product's operand in the node's format; int8 tensors go as they are. In the context's format: A constant with a
/// channel axis gets a factor for each channel, other tensors one. Throws InputError naming a constant that is not
/// finite.
Quantiser quantiser_of(Context &context, TensorId id, int channel_axis = -1);

/// What a sum of products of output channels [first, first + count) is multiplied with: what undoes the factors of its
/// operands, times `scale`; empty where that is 1.
std::vector<float> drain_scales(const Quantiser &activations, const Quantiser &weights, float scale, int64_t first,
                                int64_t count);

/// The scale of a node with int8 operands, or kNoTensor.
TensorId scale_operand(const Node &node);

/// Throws UnsupportedError naming the node when a sum of `depth` products may leave the accumulator.
void require_exact_sums(const Context &context, const Node &node, int64_t depth);

}  // namespace cx::compiler::backend
