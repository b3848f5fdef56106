// Reading ONNX protobuf files, with every size checked.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// Parses a model. Throws InputError for a file that is missing, empty, too large or no ONNX model.
onnx::ModelProto read_model(const std::filesystem::path &path);

/// A tensor's constant. External data is read from files in `folder` (inside it only). Throws InputError when the
/// number of elements, the data and the type disagree, UnsupportedError for element types that a Graph cannot carry.
Tensor read_tensor(const onnx::TensorProto &proto, const std::filesystem::path &folder);

/// The initializers of a model's main graph, each read once however often the model is imported. Its raw bytes leave
/// the parsed model then, so that they are not in memory twice. Any thread.
class Initializers {
 public:
  /// The graph outlives the object and is changed by it.
  Initializers(onnx::GraphProto &graph, std::filesystem::path folder);
  /// Tensor `index` of graph.initializer(), as read_tensor(). Shares its elements with the other results.
  Tensor read(int index);

 private:
  onnx::GraphProto &graph_;
  std::filesystem::path folder_;
  std::mutex mutex_;
  std::vector<std::optional<Tensor>> tensors_;
};

/// Throws UnsupportedError naming `what` for types that a Graph cannot carry.
Type type_from_onnx(int data_type, const std::string &what);

/// Opsets, inputs, initializers, nodes and outputs as the file states them, a line each.
std::string to_text(const onnx::ModelProto &model);

/// Text from a model, safe to print: control bytes become '?', long text is cut.
std::string printable(const std::string &text);

}  // namespace cx::compiler
