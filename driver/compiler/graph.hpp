// The compiler's graph: tensors with static shapes, nodes in topological order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace cx::compiler {

/// Element types of ONNX tensors that the graph can carry. Arithmetic runs on F32 (and the device's narrower formats);
/// integers and booleans appear in shape arithmetic, which is folded, and in tensors that are only moved.
enum class Type { F32, F16, BF16, F64, I8, U8, I16, U16, I32, U32, I64, U64, Bool };

std::size_t bytes_of(Type type);

/// The NumPy name: "float32", "int64", ...
const char *name_of(Type type);
/// Back; throws UnsupportedError for a type that graphs lack.
Type type_from(const std::string &numpy_name);

using Shape = std::vector<int64_t>;

/// Product of the dimensions; 1 for a scalar (empty shape).
int64_t elements(const Shape &shape);

/// "[1, 3, 48, 320]"
std::string to_text(const Shape &shape);

using TensorId = int;
constexpr TensorId kNoTensor = -1;  ///< an optional operand that is absent

/// Elements of a constant, or nothing. Copies share them until one is written.
class ConstantBytes {
 public:
  ConstantBytes() = default;
  ConstantBytes(std::nullopt_t) {}
  ConstantBytes(std::vector<std::byte> bytes) : bytes_(std::make_shared<std::vector<std::byte>>(std::move(bytes))) {}

  bool has_value() const { return bytes_ != nullptr; }
  explicit operator bool() const { return has_value(); }
  const std::vector<std::byte> &operator*() const { return *bytes_; }
  const std::vector<std::byte> *operator->() const { return bytes_.get(); }
  /// Throws std::bad_optional_access when there are none.
  const std::vector<std::byte> &value() const {
    if (!has_value()) throw std::bad_optional_access();
    return *bytes_;
  }
  /// For writing: its own. There must be elements.
  std::vector<std::byte> &own() {
    if (bytes_.use_count() > 1) bytes_ = std::make_shared<std::vector<std::byte>>(*bytes_);
    return *bytes_;
  }

  friend bool operator==(const ConstantBytes &a, const ConstantBytes &b) {
    return a.bytes_ == b.bytes_ || (a.bytes_ && b.bytes_ && *a.bytes_ == *b.bytes_);
  }

 private:
  std::shared_ptr<std::vector<std::byte>> bytes_;
};

struct Tensor {
  std::string name;
  Type type = Type::F32;
  Shape shape;
  ConstantBytes data;  ///< constant: row-major elements
  bool is_constant() const { return data.has_value(); }

  /// Elements of a constant as T, which must be the C++ type of the tensor's type. Throws cx::Error otherwise.
  template <typename T>
  std::vector<T> values() const;

  template <typename T>
  static Tensor constant(std::string name, Shape shape, const std::vector<T> &values);
};

using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>>;

struct Node {
  std::string name;  ///< of the ONNX node it came from, for messages and the debug map
  std::string op;    ///< canonical operator, see docs/compiler.md
  std::vector<TensorId> inputs;
  std::vector<TensorId> outputs;
  std::map<std::string, Attribute> attributes;

  /// An attribute's value, or the fallback when it is absent. Another type than asked for throws cx::Error.
  int64_t integer(const std::string &key, int64_t fallback) const;
  float real(const std::string &key, float fallback) const;
  std::vector<int64_t> integers(const std::string &key, std::vector<int64_t> fallback = {}) const;
  std::string text(const std::string &key, const std::string &fallback) const;
};

struct Graph {
  std::string name;
  std::vector<Tensor> tensors;
  std::vector<Node> nodes;       ///< topological order
  std::vector<TensorId> inputs;  ///< bound at run time
  std::vector<TensorId> outputs;

  TensorId add(Tensor tensor);
  std::vector<int> consumers(TensorId id) const;    ///< indices into nodes, ascending, each once
  std::vector<std::vector<int>> consumers() const;  ///< the same of every tensor, in the time of one
  std::optional<int> producer(TensorId id) const;
  bool is_output(TensorId id) const;

  const Tensor &operator[](TensorId id) const { return tensors.at(static_cast<std::size_t>(id)); }
  Tensor &operator[](TensorId id) { return tensors.at(static_cast<std::size_t>(id)); }
};

/// Throws cx::Error when the graph breaks an invariant: identifiers in range, one producer per tensor, topological
/// order, constants of the right size, no constant that is also produced, non-negative dimensions.
void verify(const Graph &graph);

/// One line per input, constant, node and output.
std::string to_text(const Graph &graph);

}  // namespace cx::compiler
