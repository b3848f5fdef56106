#include "driver/tools/model_inputs.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

using compiler::Type;

// Doubles are stored as such, but computed in FP32: what that cannot hold would become infinite without a word.
void check_range(const HostTensor &value) {
  for (std::size_t at = 0; at + sizeof(double) <= value.bytes.size(); at += sizeof(double)) {
    double element = 0;
    std::memcpy(&element, value.bytes.data() + at, sizeof(double));
    if (std::isfinite(element) && std::fabs(element) > std::numeric_limits<float>::max()) {
      throw UnsupportedError("float64", "input " + value.name + " holds " + std::to_string(element) +
                                            ", which FP32, in which doubles are computed, cannot hold");
    }
  }
}

}  // namespace

std::string numpy_name(Type type) { return compiler::name_of(type); }

Type type_from(const std::string &numpy_name) { return compiler::type_from(numpy_name); }

void check_values(const std::vector<HostTensor> &values) {
  for (const HostTensor &value : values) {
    if (type_from(value.type) == Type::F64) check_range(value);
  }
}

SplitInputs split_inputs(const std::vector<HostTensor> &values) {
  check_values(values);
  SplitInputs split;
  for (const HostTensor &value : values) {
    split.import.input_shapes.emplace(value.name, value.shape);
    // A tensor without elements has nothing to send.
    if (element_count(value.shape) == 0) {
      split.has_empty = true;
    } else {
      split.runtime.push_back(value);
    }
  }
  return split;
}

void SplitInputs::bind(const compiler::ValueNeededError &error) {
  for (const std::string &name : error.inputs()) {
    const auto value =
        std::find_if(runtime.begin(), runtime.end(), [&name](const HostTensor &tensor) { return tensor.name == name; });
    if (value == runtime.end()) throw InputError("input " + name + " has no value; " + error.what());
    compiler::Tensor tensor;
    tensor.name = name;
    tensor.type = type_from(value->type);
    tensor.shape = value->shape;
    tensor.data = value->bytes;
    import.bound_inputs.emplace(name, std::move(tensor));
    import.input_shapes.erase(name);
    bound.push_back(name);
    runtime.erase(value);
  }
  if (runtime.empty() && !has_empty) {
    throw UnsupportedError(error.op(), std::string("the compiler and not the device would compute the model, because "
                                                   "the value of every input is needed to compile it: ") +
                                           error.what());
  }
}

}  // namespace cx::tools
