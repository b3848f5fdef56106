#include "tb/driver/compiler/onnx_model.hpp"

/// product[rows, 2] = x[rows, 3] w, y = relu(product); `op` takes the place of Relu.
extern "C" int write_layer_model(const char *path, const char *op) {
  try {
    cx::compiler::OnnxModel model;
    model.symbolic_input("x", {"rows", "3"});
    model.constant("w", {3, 2}, {1, -1, 2, -2, 3, -3});
    model.node("MatMul", {"x", "w"}, {"product"});
    model.node(op, {"product"}, {"y"});
    model.typed_output("product");
    model.typed_output("y");
    std::ofstream out(path, std::ios::binary);
    out << model.bytes();
    return out.flush() ? 0 : 1;
  } catch (const std::exception &) {
    return 1;
  }
}
