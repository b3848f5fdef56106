// Interpreter of canonical graphs on the host, in plain double loops. It shares no arithmetic with the compiler.
#pragma once

#include <map>
#include <string>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// A tensor's values. 64-bit integers beyond 2^53 are rounded.
struct Values {
  Shape shape;
  std::vector<double> data;
};

/// Runs the graph on inputs by name and returns the outputs by name. Every node's result is rounded to its type
/// (FP32, FP16, BF16) if round_to_fp32, so that the sequence of operations matters as on the device. Throws cx::Error
/// for a missing input, for an operator outside docs/compiler.md and for operands that break that table.
std::map<std::string, Values> evaluate_reference(const Graph &graph, const std::map<std::string, Values> &inputs,
                                                 bool round_to_fp32 = true);

/// Elements of a constant.
Values values_of(const Tensor &constant);

}  // namespace cx::compiler
