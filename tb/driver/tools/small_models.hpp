// ONNX files of a few nodes, made for a test.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"

// After the graph header: onnx's macros.
#include <onnx/onnx_pb.h>

namespace cx::tb {

/// A model of one node on a float input x[1, 4] with output y.
inline std::string write_model(const std::string &path, const std::string &op, const std::string &domain = "") {
  onnx::ModelProto model;
  model.set_ir_version(8);
  auto *opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(13);
  auto *graph = model.mutable_graph();
  graph->set_name("g");
  auto *node = graph->add_node();
  node->set_name("the_node");
  node->set_op_type(op);
  node->set_domain(domain);
  node->add_input("x");
  node->add_output("y");
  for (auto *info : {graph->add_input(), graph->add_output()}) {
    auto *type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    type->mutable_shape()->add_dim()->set_dim_value(1);
    type->mutable_shape()->add_dim()->set_dim_value(4);
  }
  graph->mutable_input(0)->set_name("x");
  graph->mutable_output(0)->set_name("y");
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  return path;
}

/// y = -Unique(relu(x[1, 4])).
inline std::string write_cut_model(const std::string &path) {
  onnx::ModelProto model;
  std::ifstream file(write_model(path, "Relu"), std::ios::binary);
  model.ParseFromIstream(&file);
  auto *graph = model.mutable_graph();
  graph->mutable_node(0)->set_name("before");
  graph->mutable_node(0)->set_output(0, "positive");
  const char *const others[][4] = {{"the_cut", "Unique", "positive", "parts"}, {"after", "Neg", "parts", "y"}};
  for (const auto &[name, op, input, output] : others) {
    auto *node = graph->add_node();
    node->set_name(name);
    node->set_op_type(op);
    node->add_input(input);
    node->add_output(output);
  }
  auto *shape = graph->mutable_output(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
  shape->clear_dim();
  shape->add_dim()->set_dim_param("n");
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  return path;
}

inline void describe_float(onnx::ValueInfoProto &info, const std::string &name, const std::vector<int64_t> &shape) {
  info.set_name(name);
  auto *type = info.mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx::TensorProto::FLOAT);
  for (int64_t size : shape) type->mutable_shape()->add_dim()->set_dim_value(size);
}

/// y[1, 3] = x[1, 4] times constant weights.
inline std::string write_product(const std::string &path) {
  onnx::ModelProto model;
  model.set_ir_version(8);
  auto *opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(13);
  auto *graph = model.mutable_graph();
  graph->set_name("product");
  auto *node = graph->add_node();
  node->set_name("the_product");
  node->set_op_type("MatMul");
  node->add_input("x");
  node->add_input("w");
  node->add_output("y");
  describe_float(*graph->add_input(), "x", {1, 4});
  describe_float(*graph->add_output(), "y", {1, 3});
  auto *weights = graph->add_initializer();
  weights->set_name("w");
  weights->set_data_type(onnx::TensorProto::FLOAT);
  weights->add_dims(4);
  weights->add_dims(3);
  for (int i = 0; i < 12; ++i) weights->add_float_data(0.25F * static_cast<float>(i - 5));
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  return path;
}

}  // namespace cx::tb
