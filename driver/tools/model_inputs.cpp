#include "driver/tools/model_inputs.hpp"

#include <array>
#include <utility>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

using compiler::Type;

constexpr std::array<std::pair<Type, const char *>, 13> kNames = {{{Type::F32, "float32"},
                                                                   {Type::F16, "float16"},
                                                                   {Type::BF16, "bfloat16"},
                                                                   {Type::F64, "float64"},
                                                                   {Type::I8, "int8"},
                                                                   {Type::U8, "uint8"},
                                                                   {Type::I16, "int16"},
                                                                   {Type::U16, "uint16"},
                                                                   {Type::I32, "int32"},
                                                                   {Type::U32, "uint32"},
                                                                   {Type::I64, "int64"},
                                                                   {Type::U64, "uint64"},
                                                                   {Type::Bool, "bool"}}};

bool bound_when_compiled(Type type) {
  return type != Type::F32 && type != Type::F16 && type != Type::BF16 && type != Type::F64;
}

}  // namespace

std::string numpy_name(Type type) {
  for (const auto &[known, name] : kNames) {
    if (known == type) return name;
  }
  throw Error("an element type has no name");
}

Type type_from(const std::string &numpy_name) {
  for (const auto &[type, name] : kNames) {
    if (numpy_name == name) return type;
  }
  throw UnsupportedError("tensor type", "element type " + numpy_name + " is not supported");
}

SplitInputs split_inputs(const std::vector<HostTensor> &values) {
  SplitInputs split;
  for (const HostTensor &value : values) {
    const Type type = type_from(value.type);
    if (bound_when_compiled(type) || value.shape.empty() || element_count(value.shape) == 0) {
      compiler::Tensor tensor;
      tensor.name = value.name;
      tensor.type = type;
      tensor.shape = value.shape;
      tensor.data = value.bytes;
      split.import.bound_inputs.emplace(value.name, std::move(tensor));
      if (element_count(value.shape) != 0) split.bound.push_back(value.name);
    } else {
      split.import.input_shapes.emplace(value.name, value.shape);
      split.runtime.push_back(value);
    }
  }
  if (!split.bound.empty() && split.bound.size() == values.size()) {
    std::string names;
    for (const std::string &name : split.bound) names += (names.empty() ? "" : ", ") + name;
    throw UnsupportedError("integer inputs",
                           "every input (" + names +
                               ") is of a kind that is bound at compile time, so the compiler and not "
                               "the device would compute the model");
  }
  return split;
}

}  // namespace cx::tools
