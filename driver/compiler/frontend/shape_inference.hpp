// Result type and shape of a canonical node.
#pragma once

#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// No tensor may have more elements than this.
inline constexpr int64_t kMaxElements = int64_t{1} << 31;

/// NumPy broadcasting. Throws InputError when the shapes do not fit.
Shape broadcast(const Shape &a, const Shape &b);

/// Row-major distance, in elements, of each dimension.
Shape row_major_strides(const Shape &shape);

struct TensorType {
  Type type = Type::F32;
  Shape shape;
};

/// Checks operands and attributes of a node against docs/compiler.md and returns its output's type and shape.
/// inputs: one pointer per operand, null where absent. requested: the output shape, which Reshape, Slice and Expand
/// need.
/// Throws InputError naming the operand and what was expected.
TensorType infer(const Node &node, const std::vector<const Tensor *> &inputs, const Shape *requested = nullptr);

/// Runs infer() on every node and compares with the recorded output. Throws cx::Error on a difference.
void verify_shapes(const Graph &graph);

}  // namespace cx::compiler
