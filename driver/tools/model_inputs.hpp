// From files and options to what the compiler and the runtime want for a model's inputs.
#pragma once

#include <string>
#include <vector>

#include "driver/compiler/frontend/frontend.hpp"
#include "driver/runtime/tensor.hpp"

namespace cx::tools {

/// NumPy's name of a graph element type, and back. type_from throws UnsupportedError for a type that graphs lack.
std::string numpy_name(compiler::Type type);
compiler::Type type_from(const std::string &numpy_name);

/// Splits values by when they are needed: integer and boolean tensors (shapes, axes, bounds) are bound when the model
/// is compiled, the others when it runs; of those the shapes are bound.
struct SplitInputs {
  compiler::ImportOptions import;
  std::vector<HostTensor> runtime;
};
SplitInputs split_inputs(const std::vector<HostTensor> &values);

}  // namespace cx::tools
