// From an ONNX file to a graph of canonical operators with static shapes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"
#include "driver/compiler/observer.hpp"
#include "driver/include/cx/error.hpp"

namespace onnx {
class ModelProto;
}

namespace cx::compiler {

class Initializers;

/// A tensor that is given like a graph input.
struct GivenTensor {
  Type type = Type::F32;
  Shape shape;
};

struct ImportOptions {
  /// Shapes of graph inputs by name. Needed where the model leaves a dimension open; a fixed dimension must agree.
  /// A symbolic dimension that one input binds is bound for all.
  std::map<std::string, Shape> input_shapes;

  /// Shapes of the tensors of graph inputs that are sequences. Tensor i of a sequence is the input item_name(name, i).
  /// An input that is optional is absent if it is named neither here nor in the other two.
  std::map<std::string, std::vector<Shape>> item_shapes;

  /// Graph inputs whose values are fixed at compile time: shapes, axes, slice bounds, weights. They become constants.
  std::map<std::string, Tensor> bound_inputs;

  /// A part of the model in place of the whole: it computes these tensors of the main graph (its outputs, in this
  /// order), from those that are given, by name, and from graph inputs. bound_inputs may hold values of given ones.
  std::vector<std::string> wanted;
  std::map<std::string, GivenTensor> given;

  /// Sees the model, the graph as lowered and the graph after every pass.
  StepObserver *observer = nullptr;
};

/// "name[2]": the graph input or output for one tensor of a sequence.
std::string item_name(const std::string &name, std::size_t index);

/// The import needs a value that follows from graph inputs: a shape, a count, an axis. It may succeed with those inputs
/// in ImportOptions::bound_inputs.
class ValueNeededError : public UnsupportedError {
 public:
  ValueNeededError(const std::string &op, const std::string &message, std::vector<std::string> inputs, int node = -1)
      : UnsupportedError(op, message), inputs_(std::move(inputs)), node_(node) {}
  const std::vector<std::string> &inputs() const { return inputs_; }  ///< names, at least one
  int node() const { return node_; }  ///< of the main graph that needs the value: its place in the file; -1 unknown

 private:
  std::vector<std::string> inputs_;
  int node_;
};

/// A node whose result has a shape that follows from values known only at run time, and which only the host computes:
/// see evaluate_node(). Inside the body of another node it is a plain UnsupportedError.
class HostOperatorError : public UnsupportedError {
 public:
  HostOperatorError(const std::string &op, const std::string &message, int node)
      : UnsupportedError(op, message), node_(node) {}
  int node() const { return node_; }  ///< of the main graph: its place in the file

 private:
  int node_;
};

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

/// A model's file, read and parsed once; copies share it. One thread at a time.
class Model {
 public:
  /// Throws InputError for a file that is missing, damaged or no ONNX model.
  explicit Model(const std::filesystem::path &path);

  const std::filesystem::path &path() const;
  /// Graph inputs that have no initializer, and outputs, as declared, in order. Throws UnsupportedError for one that no
  /// graph can have.
  std::vector<InputInfo> inputs() const;
  std::vector<InputInfo> outputs() const;

  /// Frees what was parsed and the initializers; whoever asks for them again reads the file again.
  void release();
  /// The parsed file, without the raw bytes of initializers that were read already.
  const onnx::ModelProto &proto() const;
  Initializers &initializers() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Reads, checks and lowers a model, then runs all passes. The result satisfies verify() and holds only the operators
/// of docs/compiler.md. Opsets 7 to 24 of the default domain, older ones for operators that have not changed since. An
/// output that is a sequence becomes one output for each of its tensors, named by item_name().
/// Throws InputError for a file or a model that is missing, damaged or inconsistent (naming node and tensor),
/// UnsupportedError for what is valid ONNX but not supported (naming node and operator), ValueNeededError where the
/// value of a graph input is missing, HostOperatorError.
Graph import_onnx(const Model &model, const ImportOptions &options = {});
Graph import_onnx(const std::filesystem::path &path, const ImportOptions &options = {});

/// The outputs of one node of the main graph, named by its outputs that have a name, from the values of all tensors
/// that it reads and that are not constants of the model. Throws as import_onnx().
std::vector<Tensor> evaluate_node(const Model &model, int node, const std::map<std::string, Tensor> &values);

/// Model::inputs() and outputs() of a file.
std::vector<InputInfo> inspect_onnx(const std::filesystem::path &path);
std::vector<InputInfo> inspect_outputs(const std::filesystem::path &path);

/// The ONNX operators that import_onnx() accepts, sorted.
std::vector<std::string> supported_operators();

}  // namespace cx::compiler
