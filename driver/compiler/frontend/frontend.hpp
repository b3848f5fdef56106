// From an ONNX file to a graph of canonical operators with static shapes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"
#include "driver/compiler/observer.hpp"

namespace cx::compiler {

struct ImportOptions {
  /// Shapes of graph inputs by name. Needed where the model leaves a dimension open; a fixed dimension must agree.
  /// A symbolic dimension that one input binds is bound for all.
  std::map<std::string, Shape> input_shapes;

  /// Graph inputs whose values are fixed at compile time: shapes, axes, slice bounds, weights. They become constants.
  std::map<std::string, Tensor> bound_inputs;

  /// Sees the model, the graph as lowered and the graph after every pass.
  StepObserver *observer = nullptr;
};

/// Reads, checks and lowers a model, then runs all passes. The result satisfies verify() and holds only the operators
/// of docs/compiler.md. Opsets 7 to 20 of the default domain, older ones for operators that have not changed since.
/// Throws InputError for a file or a model that is missing, damaged or inconsistent (naming node and tensor),
/// UnsupportedError for what is valid ONNX but not supported (naming node and operator).
Graph import_onnx(const std::filesystem::path &path, const ImportOptions &options = {});

struct Dimension {
  int64_t value = -1;  ///< -1: open
  std::string symbol;  ///< of an open dimension; may be empty
};

struct InputInfo {
  std::string name;
  Type type = Type::F32;
  std::vector<Dimension> shape;
};

/// What a model asks for, without compiling it: graph inputs that have no initializer, in order.
std::vector<InputInfo> inspect_onnx(const std::filesystem::path &path);

/// The ONNX operators that import_onnx() accepts, sorted.
std::vector<std::string> supported_operators();

}  // namespace cx::compiler
