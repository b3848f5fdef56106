// Small ONNX models, and changes at random that leave a file of the format, if seldom a valid model.
#pragma once

#include <onnx/onnx_pb.h>

#include <random>
#include <vector>

namespace cx::compiler {

using ModelRandom = std::mt19937_64;

/// Models of a few kilobytes that together have most kinds of operators.
std::vector<onnx::ModelProto> small_models();

/// Changes one thing: a type, dimension, constant, attribute, node or wire. Some changes take nodes of `others`, which
/// must not be empty.
void change_model(onnx::ModelProto &model, const std::vector<onnx::ModelProto> &others, ModelRandom &random);

}  // namespace cx::compiler
