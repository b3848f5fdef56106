#include "driver/compiler/frontend/lowering.hpp"

#include <algorithm>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/frontend.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {

NodeContext::NodeContext(Builder &builder, const onnx::NodeProto &proto, int node_opset, std::vector<TensorId> inputs,
                         std::vector<bool> used_outputs, std::filesystem::path folder)
    : b(builder),
      opset(node_opset),
      proto_(proto),
      inputs_(std::move(inputs)),
      used_outputs_(std::move(used_outputs)),
      folder_(std::move(folder)) {}

TensorId NodeContext::input(std::size_t index) const {
  if (!has_input(index)) throw InputError("input " + std::to_string(index) + " is missing");
  return inputs_[index];
}

TensorId NodeContext::optional_input(std::size_t index) const { return has_input(index) ? inputs_[index] : kNoTensor; }

std::vector<TensorId> NodeContext::all_inputs() const {
  if (inputs_.empty()) throw InputError("inputs are missing");
  for (std::size_t i = 0; i < inputs_.size(); ++i) input(i);
  return inputs_;
}

void NodeContext::only_outputs(std::size_t count) const {
  for (std::size_t i = count; i < used_outputs_.size(); ++i) {
    if (used_outputs_[i]) throw UnsupportedError(op(), "output " + std::to_string(i) + " is not supported");
  }
}

const onnx::AttributeProto *NodeContext::attribute(const std::string &name) const {
  for (const auto &candidate : proto_.attribute()) {
    if (candidate.name() == name) return &candidate;
  }
  return nullptr;
}

bool NodeContext::has_attribute(const std::string &name) const { return attribute(name) != nullptr; }

const onnx::AttributeProto *NodeContext::typed_attribute(const std::string &name,
                                                         onnx::AttributeProto::AttributeType type) const {
  const onnx::AttributeProto *found = attribute(name);
  // Very old files leave the type open.
  if (found != nullptr && found->type() != type && found->type() != onnx::AttributeProto::UNDEFINED) {
    throw InputError("attribute '" + name + "' must be of type " + onnx::AttributeProto::AttributeType_Name(type));
  }
  return found;
}

int64_t NodeContext::integer(const std::string &name, int64_t fallback) const {
  const auto *found = typed_attribute(name, onnx::AttributeProto::INT);
  return found == nullptr ? fallback : found->i();
}

float NodeContext::real(const std::string &name, float fallback) const {
  const auto *found = typed_attribute(name, onnx::AttributeProto::FLOAT);
  return found == nullptr ? fallback : found->f();
}

std::string NodeContext::text(const std::string &name, const std::string &fallback) const {
  const auto *found = typed_attribute(name, onnx::AttributeProto::STRING);
  return found == nullptr ? fallback : printable(found->s());
}

std::vector<int64_t> NodeContext::integers(const std::string &name, std::vector<int64_t> fallback) const {
  const auto *found = typed_attribute(name, onnx::AttributeProto::INTS);
  if (found == nullptr) return fallback;
  return {found->ints().begin(), found->ints().end()};
}

const Tensor &NodeContext::constant_input(std::size_t index, const std::string &role) const {
  const TensorId id = input(index);
  const Tensor &tensor = b[id];
  if (!tensor.is_constant()) {
    std::vector<std::string> sources = b.sources(id);
    std::string names;
    for (const std::string &name : sources) names += (names.empty() ? "'" : ", '") + printable(name) + "'";
    throw ValueNeededError(op(),
                           role + " '" + printable(tensor.name) +
                               "' must be known at compile time; bind the graph inputs that it depends on: " + names,
                           std::move(sources));
  }
  return tensor;
}

void NodeContext::require_constants(const std::vector<std::size_t> &indices) const {
  for (const std::size_t index : indices) {
    if (!has_input(index) || b.is_constant(inputs_[index])) continue;
    throw HostOperatorError(op(), "the shape of the result depends on values that are known only at run time", -1);
  }
}

std::vector<int64_t> NodeContext::integer_input(std::size_t index, const std::string &role) const {
  const Tensor &tensor = constant_input(index, role);
  if (!is_integer(tensor.type)) throw InputError(role + " '" + printable(tensor.name) + "' must hold integers");
  if (tensor.shape.size() > 1) {
    throw InputError(role + " '" + printable(tensor.name) + "' has shape " + to_text(tensor.shape) +
                     ", expected one dimension");
  }
  return to_integers(tensor);
}

int64_t NodeContext::axis(int64_t value, int64_t limit) {
  if (value < -limit || value >= limit) {
    throw InputError("axis " + std::to_string(value) + " is out of range [" + std::to_string(-limit) + ", " +
                     std::to_string(limit - 1) + "]");
  }
  return value < 0 ? value + limit : value;
}

std::vector<int64_t> NodeContext::axes(std::vector<int64_t> values, int64_t rank) {
  for (int64_t &value : values) value = axis(value, rank);
  std::sort(values.begin(), values.end());
  if (std::adjacent_find(values.begin(), values.end()) != values.end()) throw InputError("an axis is listed twice");
  return values;
}

TensorId per_channel(Builder &b, TensorId values, int64_t rank, int64_t channels, const char *role) {
  if (b.shape(values) != Shape{channels}) {
    throw InputError(std::string(role) + " has shape " + to_text(b.shape(values)) + ", expected " +
                     to_text(Shape{channels}));
  }
  Shape shape(static_cast<std::size_t>(std::max<int64_t>(rank - 1, 1)), 1);
  shape[0] = channels;
  return b.reshape(values, shape);
}

}  // namespace cx::compiler
