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

/// Splits values by when they are needed: integer and boolean tensors (shapes, axes, bounds), scalars (ratios, limits)
/// and tensors without elements are bound when the model is compiled, the others when it runs; of those the shapes are
/// bound. What depends on nothing but bound inputs is computed by the compiler. Throws UnsupportedError when that would
/// be the whole model: the device would only copy a result that the host has computed.
struct SplitInputs {
  compiler::ImportOptions import;
  std::vector<HostTensor> runtime;
  std::vector<std::string> bound;  ///< names of the inputs with elements that are fixed in the program
};
SplitInputs split_inputs(const std::vector<HostTensor> &values);

}  // namespace cx::tools
