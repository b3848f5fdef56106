// One-node models for tests: import, reference evaluation, comparison.
#pragma once

#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "tb/common/seed.hpp"
#include "tb/driver/compiler/onnx_case.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

namespace cx::compiler {

using Numbers = std::vector<double>;

inline void attribute(onnx::NodeProto &node, const std::string &name, int64_t value) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::INT);
  entry.set_i(value);
}
inline void attribute(onnx::NodeProto &node, const std::string &name, float value) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::FLOAT);
  entry.set_f(value);
}
inline void attribute(onnx::NodeProto &node, const std::string &name, const std::string &value) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::STRING);
  entry.set_s(value);
}
inline void attribute(onnx::NodeProto &node, const std::string &name, const std::vector<std::string> &values) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::STRINGS);
  for (const auto &value : values) entry.add_strings(value);
}
inline void attribute(onnx::NodeProto &node, const std::string &name, const std::vector<float> &values) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(onnx::AttributeProto::FLOATS);
  for (float value : values) entry.add_floats(value);
}

/// A model of a few nodes and its inputs: random floats unless values are given.
class Case {
 public:
  explicit Case(int opset, uint32_t seed) : model_(opset), random_(seed) {}

  /// Random values in [low, high].
  Numbers input(const std::string &name, const Shape &shape, double low = -1, double high = 1) {
    std::uniform_real_distribution<float> draw(static_cast<float>(low), static_cast<float>(high));
    Numbers values(static_cast<std::size_t>(elements(shape)));
    for (double &value : values) value = draw(random_);
    return given(name, shape, values, onnx::TensorProto::FLOAT);
  }
  Numbers given(const std::string &name, const Shape &shape, const Numbers &values, int type) {
    model_.input(name, shape, type);
    inputs_[name] = {shape, values};
    return values;
  }
  /// A node whose outputs are graph outputs.
  onnx::NodeProto &node(const std::string &op, const std::vector<std::string> &inputs,
                        const std::vector<std::string> &outputs, const std::string &domain = "") {
    for (const auto &name : outputs) {
      if (!name.empty()) model_.output(name);
    }
    auto &node = model_.node(op, inputs, outputs, "the_node");
    node.set_domain(domain);
    if (!domain.empty()) {
      auto &entry = *model_.proto().add_opset_import();
      entry.set_domain(domain);
      entry.set_version(1);
    }
    return node;
  }
  OnnxModel &model() { return model_; }
  std::mt19937 &random() { return random_; }

  Graph import() {
    const TemporaryFile file(model_.bytes());
    return import_onnx(file.path());
  }
  std::map<std::string, Values> run() { return evaluate_reference(import(), inputs_, true); }
  /// Compares an output, within 1e-4 relative and 1e-6 absolute unless given.
  void check(const std::string &output, const Shape &shape, const Numbers &expected, double relative = 1e-4,
             double absolute = 1e-6) {
    const auto outputs = run();
    const std::string wrong = difference(outputs.at(output), {shape, expected}, relative, absolute);
    INFO(output << ": " << wrong);
    CHECK(wrong.empty());
  }
  /// Of the error that the import throws.
  std::string message() {
    try {
      run();
    } catch (const cx::InputError &error) {
      return error.what();
    }
    return "no error";
  }

 private:
  OnnxModel model_;
  std::mt19937 random_;
  std::map<std::string, Values> inputs_;
};

inline uint32_t seed() { return test::fresh_seed(); }

}  // namespace cx::compiler
