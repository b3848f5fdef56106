// Canonical operators on typed elements, one element at a time: integers of 64 bits exactly, floats in double and
// rounded to their type. Knows what bench.hpp's evaluators may not: integers, selection, indices.
#pragma once

#include <map>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::tb {

/// Every tensor of the graph. Operators that only move elements, and float operators that are older than those above,
/// are left to the front-end's evaluator. Throws std::runtime_error for what it does not know.
std::vector<compiler::Tensor> evaluate_typed(const compiler::Graph &graph,
                                             const std::map<compiler::TensorId, compiler::Tensor> &inputs);

}  // namespace cx::tb
