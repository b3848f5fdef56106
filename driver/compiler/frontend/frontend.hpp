// From an ONNX file to a graph of canonical operators with static shapes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"
#include "driver/compiler/observer.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {

struct ImportOptions {
  /// Shapes of graph inputs by name. Needed where the model leaves a dimension open; a fixed dimension must agree.
  /// A symbolic dimension that one input binds is bound for all.
  std::map<std::string, Shape> input_shapes;

  /// Shapes of the tensors of graph inputs that are sequences. Tensor i of a sequence is the input item_name(name, i).
  /// An input that is optional is absent if it is named neither here nor in the other two.
  std::map<std::string, std::vector<Shape>> item_shapes;

  /// Graph inputs whose values are fixed at compile time: shapes, axes, slice bounds, weights. They become constants.
  std::map<std::string, Tensor> bound_inputs;

  /// Sees the model, the graph as lowered and the graph after every pass.
  StepObserver *observer = nullptr;
};

/// "name[2]": the graph input or output for one tensor of a sequence.
std::string item_name(const std::string &name, std::size_t index);

/// The import needs a value that follows from graph inputs: a shape, a count, an axis. It may succeed with those inputs
/// in ImportOptions::bound_inputs.
class ValueNeededError : public UnsupportedError {
 public:
  ValueNeededError(const std::string &op, const std::string &message, std::vector<std::string> inputs)
      : UnsupportedError(op, message), inputs_(std::move(inputs)) {}
  const std::vector<std::string> &inputs() const { return inputs_; }  ///< names, at least one

 private:
  std::vector<std::string> inputs_;
};

/// Reads, checks and lowers a model, then runs all passes. The result satisfies verify() and holds only the operators
/// of docs/compiler.md. Opsets 7 to 24 of the default domain, older ones for operators that have not changed since. An
/// output that is a sequence becomes one output for each of its tensors, named by item_name().
/// Throws InputError for a file or a model that is missing, damaged or inconsistent (naming node and tensor),
/// UnsupportedError for what is valid ONNX but not supported (naming node and operator), ValueNeededError where the
/// value of a graph input is missing.
Graph import_onnx(const std::filesystem::path &path, const ImportOptions &options = {});

struct Dimension {
  int64_t value = -1;  ///< -1: open
  std::string symbol;  ///< of an open dimension; may be empty
};

struct InputInfo {
  std::string name;
  Type type = Type::F32;
  std::vector<Dimension> shape;  ///< of a sequence: of its tensors
  bool has_shape = false;
  bool sequence = false;  ///< a sequence of tensors of this type
  bool optional = false;  ///< may be absent
};

/// What a model asks for, without compiling it: graph inputs that have no initializer, in order.
std::vector<InputInfo> inspect_onnx(const std::filesystem::path &path);

/// A model's outputs as it declares them, in order. Throws UnsupportedError for one that no graph can have.
std::vector<InputInfo> inspect_outputs(const std::filesystem::path &path);

/// The ONNX operators that import_onnx() accepts, sorted.
std::vector<std::string> supported_operators();

}  // namespace cx::compiler
