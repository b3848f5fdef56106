// Reading ONNX protobuf files, with every size checked.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <string>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// Parses a model. Throws InputError for a file that is missing, empty, too large or no ONNX model.
onnx::ModelProto read_model(const std::filesystem::path &path);

/// A tensor's constant. External data is read from files in `folder` (inside it only). Throws InputError when the
/// number of elements, the data and the type disagree, UnsupportedError for element types that a Graph cannot carry.
Tensor read_tensor(const onnx::TensorProto &proto, const std::filesystem::path &folder);

/// Throws UnsupportedError naming `what` for types that a Graph cannot carry.
Type type_from_onnx(int data_type, const std::string &what);

/// Opsets, inputs, initializers, nodes and outputs as the file states them, a line each.
std::string to_text(const onnx::ModelProto &model);

/// Text from a model, safe to print: control bytes become '?', long text is cut.
std::string printable(const std::string &text);

}  // namespace cx::compiler
