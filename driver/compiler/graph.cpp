#include "driver/compiler/graph.hpp"

#include <array>
#include <cstring>
#include <limits>
#include <sstream>
#include <type_traits>

#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

struct TypeRow {
  const char *name;
  std::size_t bytes;
};

constexpr std::array<TypeRow, 13> kTypes = {{{"float32", 4},
                                             {"float16", 2},
                                             {"bfloat16", 2},
                                             {"float64", 8},
                                             {"int8", 1},
                                             {"uint8", 1},
                                             {"int16", 2},
                                             {"uint16", 2},
                                             {"int32", 4},
                                             {"uint32", 4},
                                             {"int64", 8},
                                             {"uint64", 8},
                                             {"bool", 1}}};

template <typename T>
constexpr Type type_of() {
  if constexpr (std::is_same_v<T, float>) return Type::F32;
  if constexpr (std::is_same_v<T, double>) return Type::F64;
  if constexpr (std::is_same_v<T, int8_t>) return Type::I8;
  if constexpr (std::is_same_v<T, uint8_t>) return Type::U8;
  if constexpr (std::is_same_v<T, int16_t>) return Type::I16;
  if constexpr (std::is_same_v<T, uint16_t>) return Type::U16;
  if constexpr (std::is_same_v<T, int32_t>) return Type::I32;
  if constexpr (std::is_same_v<T, uint32_t>) return Type::U32;
  if constexpr (std::is_same_v<T, int64_t>) return Type::I64;
  if constexpr (std::is_same_v<T, uint64_t>) return Type::U64;
}

template <typename T>
const T *find(const Node &node, const std::string &key) {
  auto it = node.attributes.find(key);
  if (it == node.attributes.end()) return nullptr;
  const T *value = std::get_if<T>(&it->second);
  if (value == nullptr)
    throw Error("node '" + node.name + "' (" + node.op + "): attribute '" + key + "' has another type");
  return value;
}

std::string describe(const Attribute &attribute) {
  std::ostringstream out;
  std::visit(
      [&out](const auto &value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string> || std::is_arithmetic_v<T>) {
          out << value;
        } else {
          out << '[';
          for (std::size_t i = 0; i < value.size(); ++i) out << (i == 0 ? "" : ", ") << value[i];
          out << ']';
        }
      },
      attribute);
  return out.str();
}

}  // namespace

std::size_t bytes_of(Type type) { return kTypes.at(static_cast<std::size_t>(type)).bytes; }

const char *name_of(Type type) { return kTypes.at(static_cast<std::size_t>(type)).name; }

Type type_from(const std::string &numpy_name) {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (numpy_name == kTypes[i].name) return static_cast<Type>(i);
  }
  throw UnsupportedError("tensor type", "element type " + numpy_name + " is not supported");
}

int64_t elements(const Shape &shape) {
  int64_t count = 1;
  for (int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(count, dimension, &count)) {
      throw InputError("shape " + to_text(shape) + " is not a valid tensor shape");
    }
  }
  return count;
}

std::string to_text(const Shape &shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

template <typename T>
std::vector<T> Tensor::values() const {
  if (!data) throw Error("tensor '" + name + "' is not a constant");
  const bool same_layout = type == type_of<T>() || (std::is_same_v<T, uint8_t> && type == Type::Bool);
  if (!same_layout) throw Error("tensor '" + name + "' holds " + name_of(type) + ", not " + name_of(type_of<T>()));
  std::vector<T> result(data->size() / sizeof(T));
  if (!result.empty()) std::memcpy(result.data(), data->data(), result.size() * sizeof(T));
  return result;
}

template <typename T>
Tensor Tensor::constant(std::string name, Shape shape, const std::vector<T> &values) {
  if (elements(shape) != static_cast<int64_t>(values.size())) {
    throw Error("tensor '" + name + "': " + std::to_string(values.size()) + " values for shape " + to_text(shape));
  }
  Tensor tensor{std::move(name), type_of<T>(), std::move(shape), std::vector<std::byte>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(tensor.data.own().data(), values.data(), tensor.data->size());
  return tensor;
}

#define CX_TENSOR_OF(T)                           \
  template std::vector<T> Tensor::values() const; \
  template Tensor Tensor::constant(std::string, Shape, const std::vector<T> &)
CX_TENSOR_OF(float);
CX_TENSOR_OF(double);
CX_TENSOR_OF(int8_t);
CX_TENSOR_OF(uint8_t);
CX_TENSOR_OF(int16_t);
CX_TENSOR_OF(uint16_t);
CX_TENSOR_OF(int32_t);
CX_TENSOR_OF(uint32_t);
CX_TENSOR_OF(int64_t);
CX_TENSOR_OF(uint64_t);
#undef CX_TENSOR_OF

int64_t Node::integer(const std::string &key, int64_t fallback) const {
  const auto *value = find<int64_t>(*this, key);
  return value == nullptr ? fallback : *value;
}

float Node::real(const std::string &key, float fallback) const {
  const auto *value = find<float>(*this, key);
  return value == nullptr ? fallback : *value;
}

std::vector<int64_t> Node::integers(const std::string &key, std::vector<int64_t> fallback) const {
  const auto *value = find<std::vector<int64_t>>(*this, key);
  return value == nullptr ? std::move(fallback) : *value;
}

std::string Node::text(const std::string &key, const std::string &fallback) const {
  const auto *value = find<std::string>(*this, key);
  return value == nullptr ? fallback : *value;
}

TensorId Graph::add(Tensor tensor) {
  if (tensors.size() >= static_cast<std::size_t>(std::numeric_limits<TensorId>::max())) throw Error("too many tensors");
  tensors.push_back(std::move(tensor));
  return static_cast<TensorId>(tensors.size() - 1);
}

std::vector<int> Graph::consumers(TensorId id) const {
  std::vector<int> result;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (TensorId input : nodes[i].inputs) {
      if (input == id) {
        result.push_back(static_cast<int>(i));
        break;
      }
    }
  }
  return result;
}

std::vector<std::vector<int>> Graph::consumers() const {
  std::vector<std::vector<int>> result(tensors.size());
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    for (TensorId id : nodes[n].inputs) {
      if (id == kNoTensor) continue;
      std::vector<int> &users = result[static_cast<std::size_t>(id)];
      if (users.empty() || users.back() != static_cast<int>(n)) users.push_back(static_cast<int>(n));
    }
  }
  return result;
}

std::optional<int> Graph::producer(TensorId id) const {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (TensorId output : nodes[i].outputs) {
      if (output == id) return static_cast<int>(i);
    }
  }
  return std::nullopt;
}

bool Graph::is_output(TensorId id) const {
  for (TensorId output : outputs) {
    if (output == id) return true;
  }
  return false;
}

void verify(const Graph &graph) {
  const auto count = static_cast<TensorId>(graph.tensors.size());
  auto in_range = [count](TensorId id) { return id >= 0 && id < count; };
  std::vector<bool> available(graph.tensors.size(), false);
  for (TensorId id = 0; id < count; ++id) {
    const Tensor &tensor = graph[id];
    const auto bytes = static_cast<std::size_t>(elements(tensor.shape)) * bytes_of(tensor.type);
    if (tensor.data) {
      if (tensor.data->size() != bytes) throw Error("constant '" + tensor.name + "' has a wrong number of bytes");
      available[static_cast<std::size_t>(id)] = true;
    }
  }
  auto define = [&](TensorId id, const std::string &where) {
    if (!in_range(id)) throw Error(where + ": tensor out of range");
    auto defined = available[static_cast<std::size_t>(id)];
    if (defined) throw Error(where + ": tensor '" + graph[id].name + "' is defined twice");
    available[static_cast<std::size_t>(id)] = true;
  };
  for (TensorId id : graph.inputs) define(id, "graph input");
  for (const Node &node : graph.nodes) {
    const std::string where = "node '" + node.name + "' (" + node.op + ")";
    for (TensorId id : node.inputs) {
      if (id == kNoTensor) continue;
      if (!in_range(id)) throw Error(where + ": tensor out of range");
      if (!available[static_cast<std::size_t>(id)]) {
        throw Error(where + ": tensor '" + graph[id].name + "' is used before it is defined");
      }
    }
    if (node.outputs.size() != 1) throw Error(where + ": has " + std::to_string(node.outputs.size()) + " outputs");
    define(node.outputs[0], where);
  }
  for (TensorId id : graph.outputs) {
    if (!in_range(id) || !available[static_cast<std::size_t>(id)]) throw Error("a graph output is not defined");
  }
}

std::string to_text(const Graph &graph) {
  std::ostringstream out;
  auto typed = [&graph](TensorId id) {
    if (id == kNoTensor) return std::string("-");
    const Tensor &tensor = graph[id];
    return "%" + std::to_string(id) + " " + tensor.name + ": " + name_of(tensor.type) + to_text(tensor.shape);
  };
  out << "graph " << graph.name << '\n';
  for (TensorId id : graph.inputs) out << "  input " << typed(id) << '\n';
  for (TensorId id = 0; id < static_cast<TensorId>(graph.tensors.size()); ++id) {
    if (graph[id].is_constant()) out << "  constant " << typed(id) << '\n';
  }
  for (const Node &node : graph.nodes) {
    out << "  ";
    for (TensorId id : node.outputs) out << typed(id) << " = ";
    out << node.op << '(';
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      out << (i == 0 ? "" : ", ") << (node.inputs[i] == kNoTensor ? "-" : "%" + std::to_string(node.inputs[i]));
    }
    out << ')';
    for (const auto &[key, value] : node.attributes) out << ' ' << key << '=' << describe(value);
    out << "  # " << node.name << '\n';
  }
  for (TensorId id : graph.outputs) out << "  output " << typed(id) << '\n';
  return out.str();
}

}  // namespace cx::compiler
