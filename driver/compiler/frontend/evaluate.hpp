// Values of nodes whose operands are all constant.
#pragma once

#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// Elementary operations that evaluate() would take, for limits on folding.
double evaluation_cost(const Node &node, const std::vector<const Tensor *> &inputs, const Shape &output);

/// The node's output, of the type and shape that infer() gave. Floating point is computed in double and rounded once to
/// the output's type; integers wrap. Throws InputError where ONNX leaves the result undefined (integer division by 0)
/// and UnsupportedError for functions that a type does not have.
Tensor evaluate(const Node &node, const std::vector<const Tensor *> &inputs, Type type, const Shape &output);

}  // namespace cx::compiler
