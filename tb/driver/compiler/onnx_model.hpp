// Small ONNX models written in a test.
#pragma once

#include <onnx/onnx_pb.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace cx::compiler {

class OnnxModel {
 public:
  explicit OnnxModel(int opset = 13) {
    proto_.set_ir_version(8);
    proto_.add_opset_import()->set_version(opset);
  }

  onnx::ModelProto &proto() { return proto_; }
  std::string bytes() const { return proto_.SerializeAsString(); }

  void input(const std::string &name, const std::vector<int64_t> &shape, int type = onnx::TensorProto::FLOAT) {
    auto &tensor = add_input(name, type);
    tensor.mutable_shape();
    for (int64_t dimension : shape) tensor.mutable_shape()->add_dim()->set_dim_value(dimension);
  }

  /// Dimensions that are no number are symbols.
  void symbolic_input(const std::string &name, const std::vector<std::string> &shape,
                      int type = onnx::TensorProto::FLOAT) {
    auto &tensor = add_input(name, type);
    for (const std::string &dimension : shape) {
      auto &entry = *tensor.mutable_shape()->add_dim();
      if (dimension.find_first_not_of("0123456789") == std::string::npos) {
        entry.set_dim_value(std::stoll(dimension));
      } else {
        entry.set_dim_param(dimension);
      }
    }
  }

  void constant(const std::string &name, const std::vector<int64_t> &shape, const std::vector<float> &values) {
    auto &tensor = *proto_.mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    for (int64_t dimension : shape) tensor.add_dims(dimension);
    for (float value : values) tensor.add_float_data(value);
  }

  void integers(const std::string &name, const std::vector<int64_t> &values) {
    auto &tensor = *proto_.mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::INT64);
    tensor.add_dims(static_cast<int64_t>(values.size()));
    for (int64_t value : values) tensor.add_int64_data(value);
  }

  onnx::NodeProto &node(const std::string &op, const std::vector<std::string> &inputs,
                        const std::vector<std::string> &outputs, const std::string &name = "") {
    auto &node = *proto_.mutable_graph()->add_node();
    node.set_op_type(op);
    node.set_name(name);
    for (const auto &input : inputs) node.add_input(input);
    for (const auto &output : outputs) node.add_output(output);
    return node;
  }

  void output(const std::string &name) { proto_.mutable_graph()->add_output()->set_name(name); }
  void typed_output(const std::string &name, int type = onnx::TensorProto::FLOAT) {
    auto &output = *proto_.mutable_graph()->add_output();
    output.set_name(name);
    output.mutable_type()->mutable_tensor_type()->set_elem_type(type);
  }

 private:
  onnx::TypeProto::Tensor &add_input(const std::string &name, int type) {
    auto &value = *proto_.mutable_graph()->add_input();
    value.set_name(name);
    auto &tensor = *value.mutable_type()->mutable_tensor_type();
    tensor.set_elem_type(type);
    return tensor;
  }

  onnx::ModelProto proto_;
};

/// A file that lives as long as the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string &bytes) {
    std::string name = (std::filesystem::temp_directory_path() / "cx_test_XXXXXX").string();
    const int descriptor = mkstemp(name.data());
    if (descriptor < 0) throw std::runtime_error("cannot create a temporary file");
    close(descriptor);
    path_ = name;
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;

  const std::filesystem::path &path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace cx::compiler
