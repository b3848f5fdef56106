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

/// Values of a model's inputs by when they are needed. All belong to the run, only their shapes to the compiler, until
/// bind() moves those that the import asks for.
struct SplitInputs {
  compiler::ImportOptions import;
  std::vector<HostTensor> runtime;
  std::vector<std::string> bound;  ///< names of the inputs that are fixed in the program
  bool has_empty = false;          ///< an input has no elements: there may be nothing to compute

  /// Fixes the values that the error names. What depends on nothing but those is computed by the compiler. Throws
  /// UnsupportedError when that would be the whole model: the device would only copy a result that the host computed.
  void bind(const compiler::ValueNeededError &error);
};
/// Throws UnsupportedError for a double that FP32 cannot hold.
void check_values(const std::vector<HostTensor> &values);
/// Checks them too.
SplitInputs split_inputs(const std::vector<HostTensor> &values);

/// Calls import() until it has all the values that it asks for by ValueNeededError; it must use inputs.import.
template <typename Import>
auto bind_as_needed(SplitInputs &inputs, Import import) {
  for (;;) {
    try {
      return import();
    } catch (const compiler::ValueNeededError &error) {
      inputs.bind(error);
    }
  }
}

}  // namespace cx::tools
