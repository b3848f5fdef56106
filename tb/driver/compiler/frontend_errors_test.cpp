// Files and models that are wrong: every one gives a typed error that says where, and none brings the process down.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <iostream>
#include <limits>
#include <random>

#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/compiler/onnx_case.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx::compiler;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

std::string bytes_of_file(const fs::path &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Imports bytes as a model. Returns whether that worked; throws what is no typed error of the caller's input.
bool import_bytes(const std::string &bytes, const ImportOptions &options = {}) {
  const TemporaryFile file(bytes);
  try {
    import_onnx(file.path(), options);
    return true;
  } catch (const cx::InputError &) {
    return false;
  }
}

std::string message_of(const OnnxModel &model, const ImportOptions &options = {}) {
  const TemporaryFile file(model.bytes());
  try {
    import_onnx(file.path(), options);
  } catch (const cx::InputError &error) {
    return error.what();
  }
  return "no error";
}

void set_window(onnx::NodeProto &node, int64_t size) {
  auto &attribute = *node.add_attribute();
  attribute.set_name("kernel_shape");
  attribute.set_type(onnx::AttributeProto::INTS);
  for (int d = 0; d < 2; ++d) attribute.add_ints(size);
}

}  // namespace

TEST_CASE("Files that are no models are refused") {
  CHECK_THROWS_AS(import_onnx("/nonexistent/model.onnx"), cx::InputError);
  CHECK_THROWS_AS(import_onnx("/tmp"), cx::InputError);
  CHECK_FALSE(import_bytes(""));
  CHECK_FALSE(import_bytes("this is not a protobuf"));
  CHECK_FALSE(import_bytes(std::string(1000, '\xFF')));
  CHECK_THROWS_AS(inspect_onnx("/nonexistent/model.onnx"), cx::InputError);
}

TEST_CASE("An unsupported operator is named with its node and the list of those supported") {
  OnnxModel model;
  model.input("x", {1, 4});
  model.node("MaxRoiPool", {"x"}, {"y"}, "my_node");
  model.output("y");
  const TemporaryFile file(model.bytes());
  try {
    import_onnx(file.path());
    FAIL("no error");
  } catch (const cx::UnsupportedError &error) {
    CHECK(error.op() == "MaxRoiPool");
    CHECK_THAT(error.what(), Contains("my_node") && Contains("MaxRoiPool") && Contains("Conv, ") && Contains("MatMul"));
  }
}

TEST_CASE("Inconsistent graphs are refused with the node and the tensor") {
  SECTION("unknown opset") {
    OnnxModel model(99);
    model.input("x", {1});
    model.node("Relu", {"x"}, {"y"});
    model.output("y");
    CHECK_THAT(message_of(model), Contains("opset 99"));
  }
  SECTION("unknown domain") {
    OnnxModel model;
    model.input("x", {1});
    model.node("Relu", {"x"}, {"y"}, "n").set_domain("com.example");
    model.output("y");
    CHECK_THAT(message_of(model), Contains("com.example"));
  }
  SECTION("missing tensor") {
    OnnxModel model;
    model.input("x", {1});
    model.node("Add", {"x", "ghost"}, {"y"}, "sum");
    model.output("y");
    CHECK_THAT(message_of(model), Contains("sum") && Contains("ghost"));
  }
  SECTION("cycle") {
    OnnxModel model;
    model.input("x", {1});
    model.node("Add", {"x", "b"}, {"a"}, "one");
    model.node("Relu", {"a"}, {"b"}, "two");
    model.output("b");
    CHECK_THAT(message_of(model), Contains("cycle"));
  }
  SECTION("tensor defined twice") {
    OnnxModel model;
    model.input("x", {1});
    model.node("Relu", {"x"}, {"y"});
    model.node("Abs", {"x"}, {"y"}, "again");
    model.output("y");
    CHECK_THAT(message_of(model), Contains("again") && Contains("twice"));
  }
  SECTION("output never computed") {
    OnnxModel model;
    model.input("x", {1});
    model.output("y");
    CHECK_THAT(message_of(model), Contains("'y'"));
  }
  SECTION("no outputs") {
    OnnxModel model;
    model.input("x", {1});
    CHECK_THAT(message_of(model), Contains("no outputs"));
  }
  SECTION("shapes that do not fit") {
    OnnxModel model;
    model.input("x", {2, 3});
    model.constant("w", {4, 5}, std::vector<float>(20));
    model.node("MatMul", {"x", "w"}, {"y"}, "product");
    model.output("y");
    CHECK_THAT(message_of(model), Contains("product") && Contains("[2, 3]") && Contains("[4, 5]") && Contains("'w'"));
  }
  SECTION("bias of wrong length") {
    OnnxModel model;
    model.input("x", {1, 1, 4, 4});
    model.constant("w", {2, 1, 3, 3}, std::vector<float>(18));
    model.constant("b", {3}, std::vector<float>(3));
    model.node("Conv", {"x", "w", "b"}, {"y"}, "convolution");
    model.output("y");
    CHECK_THAT(message_of(model), Contains("convolution") && Contains("'b'") && Contains("[2]"));
  }
  SECTION("attribute of wrong type") {
    OnnxModel model;
    model.input("x", {1, 2});
    auto &attribute = *model.node("Flatten", {"x"}, {"y"}, "flat").add_attribute();
    attribute.set_name("axis");
    attribute.set_type(onnx::AttributeProto::FLOAT);
    attribute.set_f(1);
    model.output("y");
    CHECK_THAT(message_of(model), Contains("flat") && Contains("axis") && Contains("INT"));
  }
  SECTION("raw data of wrong size") {
    OnnxModel model;
    model.input("x", {2});
    model.constant("w", {2}, {1, 2});
    model.proto().mutable_graph()->mutable_initializer(0)->clear_float_data();
    model.proto().mutable_graph()->mutable_initializer(0)->set_raw_data("12345");
    model.node("Add", {"x", "w"}, {"y"});
    model.output("y");
    CHECK_THAT(message_of(model), Contains("'w'") && Contains("5 bytes") && Contains("8"));
  }
  SECTION("negative and huge dimensions") {
    for (int64_t dimension : {int64_t{-3}, int64_t{1} << 62}) {
      OnnxModel model;
      model.input("x", {2});
      model.constant("w", {2}, {1, 2});
      model.proto().mutable_graph()->mutable_initializer(0)->set_dims(0, dimension);
      model.node("Add", {"x", "w"}, {"y"});
      model.output("y");
      CHECK_THAT(message_of(model), Contains("'w'"));
    }
  }
  SECTION("constant expression that would not fit into memory") {
    OnnxModel model;
    model.input("x", {1});
    model.integers("shape", {1 << 15, 1 << 15});
    model.node("ConstantOfShape", {"shape"}, {"big"}, "big");
    model.node("Add", {"x", "big"}, {"y"});
    model.output("y");
    CHECK_THAT(message_of(model), Contains("big") && Contains("too large"));
  }
  SECTION("shape that depends on run-time values") {
    OnnxModel model;
    model.input("x", {4});
    model.input("shape", {2}, onnx::TensorProto::INT64);
    model.node("Reshape", {"x", "shape"}, {"y"}, "view");
    model.output("y");
    CHECK_THAT(message_of(model), Contains("view") && Contains("'shape'") && Contains("compile time"));
    ImportOptions options;
    options.bound_inputs["shape"] = Tensor::constant<int64_t>("shape", {2}, {2, 2});
    CHECK(message_of(model, options) == "no error");
  }
  SECTION("external data outside the folder") {
    OnnxModel model;
    model.input("x", {2});
    auto *tensor = model.proto().mutable_graph()->add_initializer();
    tensor->set_name("w");
    tensor->add_dims(2);
    tensor->set_data_type(onnx::TensorProto::FLOAT);
    tensor->set_data_location(onnx::TensorProto::EXTERNAL);
    auto *entry = tensor->add_external_data();
    entry->set_key("location");
    entry->set_value("../../etc/passwd");
    model.node("Add", {"x", "w"}, {"y"});
    model.output("y");
    CHECK_THAT(message_of(model), Contains("'w'") && Contains("folder"));
    entry->set_value("missing.bin");
    CHECK_THAT(message_of(model), Contains("'w'") && Contains("missing.bin"));
  }
}

TEST_CASE("Element types that are newer than libonnx are named") {
  for (const auto &[type, name] : std::map<int, std::string>{{17, "FLOAT8E4M3FN"}, {22, "INT4"}, {99, "99"}}) {
    OnnxModel model;
    model.input("x", {2}, type);
    model.node("Relu", {"x"}, {"y"});
    model.output("y");
    const TemporaryFile file(model.bytes());
    try {
      import_onnx(file.path());
      FAIL("no error");
    } catch (const cx::UnsupportedError &error) {
      CHECK_THAT(error.what(), Contains("'x'") && Contains(name));
    }
  }
}

TEST_CASE("Tables that would exhaust the host are refused") {
  OnnxModel model;
  model.input("x", {1, 1, 4096, 4096});
  set_window(model.node("MaxPool", {"x"}, {"y", "i"}, "pool"), 64);
  model.output("i");
  CHECK_THAT(message_of(model), Contains("pool") && Contains("table"));
}

TEST_CASE("External data is read from the model's folder") {
  const TemporaryFile data(std::string("\0\0\x80\x3F\0\0\0\x40", 8));
  OnnxModel model;
  model.input("x", {2});
  auto *tensor = model.proto().mutable_graph()->add_initializer();
  tensor->set_name("w");
  tensor->add_dims(1);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  tensor->set_data_location(onnx::TensorProto::EXTERNAL);
  for (const auto &[key, value] :
       std::map<std::string, std::string>{{"location", data.path().filename()}, {"offset", "4"}, {"length", "4"}}) {
    auto *entry = tensor->add_external_data();
    entry->set_key(key);
    entry->set_value(value);
  }
  model.node("Mul", {"x", "w"}, {"y"});
  model.output("y");
  const TemporaryFile file(model.bytes());
  const auto outputs = evaluate_reference(import_onnx(file.path()), {{"x", {{2}, {3, 4}}}});
  CHECK(outputs.at("y").data == std::vector<double>{6, 8});
}

TEST_CASE("Inputs are checked against the model") {
  OnnxModel model;
  model.symbolic_input("a", {"N", "4"});
  model.symbolic_input("b", {"N", "4"});
  model.node("Add", {"a", "b"}, {"y"});
  model.output("y");
  CHECK_THAT(message_of(model), Contains("'a'") && Contains("open"));
  ImportOptions options;
  options.input_shapes["a"] = {3, 4};
  CHECK(message_of(model, options) == "no error");
  options.input_shapes["b"] = {2, 4};
  CHECK_THAT(message_of(model, options), Contains("'b'") && Contains("'N'"));
  options.input_shapes["b"] = {3, 5};
  CHECK_THAT(message_of(model, options), Contains("'b'") && Contains("[N, 4]"));
  options.input_shapes.erase("b");
  options.input_shapes["c"] = {1};
  CHECK_THAT(message_of(model, options), Contains("'c'"));
  ImportOptions wrong_type;
  wrong_type.bound_inputs["a"] = Tensor::constant<int64_t>("a", {1, 4}, {1, 2, 3, 4});
  CHECK_THAT(message_of(model, wrong_type), Contains("'a'") && Contains("int64"));
  const TemporaryFile file(model.bytes());
  const auto infos = inspect_onnx(file.path());
  REQUIRE(infos.size() == 2);
  CHECK(infos[0].name == "a");
  CHECK(infos[0].shape[0].value == -1);
  CHECK(infos[0].shape[0].symbol == "N");
  CHECK(infos[0].shape[1].value == 4);
}

TEST_CASE("Damaged models give a typed error or a graph") {
  std::vector<std::string> sources;
  for (const std::string &path :
       {(cx::tb::data_dir() / "models/mnist/mnist.onnx").string(),
        (cx::tb::onnx_suites() / "node/test_conv_with_strides_padding/model.onnx").string(),
        (cx::tb::onnx_suites() / "node/test_layer_normalization_4d_axis2_expanded/model.onnx").string(),
        (cx::tb::onnx_suites() / "node/test_averagepool_2d_ceil/model.onnx").string(),
        (cx::tb::onnx_suites() / "node/test_gemm_all_attributes/model.onnx").string(),
        (cx::tb::onnx_suites() / "node/test_convtranspose_output_shape/model.onnx").string()}) {
    std::string bytes = bytes_of_file(path);
    if (!bytes.empty()) sources.push_back(std::move(bytes));
  }
  REQUIRE(sources.size() >= 5);
  const unsigned seed = 20240517;
  std::cout << "mutation seed " << seed << '\n';
  std::mt19937 random(seed);
  int accepted = 0;
  constexpr int kRounds = 600;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = sources[static_cast<std::size_t>(round) % sources.size()];
    const auto pick = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
    switch (round / 6 % 4) {
      case 0:
        bytes.resize(pick(bytes.size()));
        break;
      case 1:
        bytes[pick(bytes.size())] = static_cast<char>(random());
        break;
      case 2:
        for (int i = 0; i < 8; ++i)
          bytes[pick(std::min<std::size_t>(bytes.size(), 2000))] = static_cast<char>(random());
        break;
      default:
        bytes.insert(pick(bytes.size()), bytes.substr(pick(bytes.size()), pick(40)));
        break;
    }
    INFO("round " << round);
    accepted += import_bytes(bytes) ? 1 : 0;
  }
  std::cout << accepted << " of " << kRounds << " damaged models still import\n";
  CHECK(accepted < kRounds);
}

TEST_CASE("Hostile attribute values give a typed error or a graph") {
  const int64_t extremes[] = {0,
                              -1,
                              1,
                              2,
                              7,
                              -7,
                              1 << 20,
                              int64_t{1} << 31,
                              int64_t{1} << 40,
                              std::numeric_limits<int64_t>::max(),
                              std::numeric_limits<int64_t>::min()};
  const fs::path root = "/usr/share/libonnx-testdata/data/node";
  const unsigned seed = 7;
  std::cout << "attribute seed " << seed << '\n';
  std::mt19937_64 random(seed);
  std::vector<fs::path> folders;
  for (const auto &entry : fs::directory_iterator(root)) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  const auto supported = supported_operators();
  int refused = 0;
  int total = 0;
  for (const fs::path &folder : folders) {
    const auto used = operators_of(folder / "model.onnx");
    if (used.size() != 1 || !std::binary_search(supported.begin(), supported.end(), used[0])) continue;
    onnx::ModelProto model = read_model(folder / "model.onnx");
    ImportOptions options;
    try {
      const auto infos = inspect_onnx(folder / "model.onnx");
      const DataSet data = read_data_set(folder / "test_data_set_0");
      for (std::size_t i = 0; i < data.inputs.size(); ++i) {
        Tensor value = data.inputs[i];
        if (value.type == Type::F32) continue;
        if (value.type == Type::I64 && random() % 2 == 0) {
          std::vector<int64_t> values = value.values<int64_t>();
          if (!values.empty()) values[random() % values.size()] = extremes[random() % std::size(extremes)];
          value = Tensor::constant("", value.shape, values);
        }
        options.bound_inputs[infos.at(i).name] = value;
      }
    } catch (const cx::InputError &) {
      continue;
    }
    for (auto &node : *model.mutable_graph()->mutable_node()) {
      for (auto &attribute : *node.mutable_attribute()) {
        if (attribute.type() == onnx::AttributeProto::INT && random() % 2 == 0) {
          attribute.set_i(extremes[random() % std::size(extremes)]);
        } else if (attribute.ints_size() > 0) {
          attribute.set_ints(static_cast<int>(random() % static_cast<unsigned>(attribute.ints_size())),
                             extremes[random() % std::size(extremes)]);
        }
      }
    }
    INFO(folder);
    ++total;
    refused += import_bytes(model.SerializeAsString(), options) ? 0 : 1;
  }
  std::cout << refused << " of " << total << " hostile models refused\n";
  CHECK(refused > 0);
}
