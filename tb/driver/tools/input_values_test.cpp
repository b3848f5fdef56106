// Sources of input values: which input takes what, and what is refused.
#include "driver/tools/input_values.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>

#include "driver/compiler/graph.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/tools/tensor_file.hpp"
#include "tb/driver/tools/cx_process.hpp"

// After the graph header: onnx's macros.
#include <onnx/onnx_pb.h>

using cx::HostTensor;
using cx::compiler::Model;
using cx::tb::Folder;
using cx::tools::input_values;
using cx::tools::InputOptions;
using Shape = std::vector<int64_t>;

namespace {

struct Input {
  std::string name;
  int type;
  std::vector<std::string> dims;  ///< numbers or symbols
};

std::string write_model(const std::string &path, const std::vector<Input> &inputs) {
  onnx::ModelProto model;
  for (const Input &input : inputs) {
    auto *info = model.mutable_graph()->add_input();
    info->set_name(input.name);
    auto *tensor = info->mutable_type()->mutable_tensor_type();
    tensor->set_elem_type(input.type);
    for (const std::string &dim : input.dims) {
      auto *entry = tensor->mutable_shape()->add_dim();
      if (std::isdigit(static_cast<unsigned char>(dim[0])) != 0) {
        entry->set_dim_value(std::stoll(dim));
      } else {
        entry->set_dim_param(dim);
      }
    }
  }
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  return path;
}

template <class T>
std::vector<T> elements(const HostTensor &tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

constexpr int kFloat = onnx::TensorProto::FLOAT;
constexpr int kInt64 = onnx::TensorProto::INT64;
constexpr int kInt32 = onnx::TensorProto::INT32;

}  // namespace

TEST_CASE("text becomes tokens, and its length that of the inputs that share it") {
  const Folder folder;
  const std::string model = write_model(folder / "m.onnx", {{"mask", kInt64, {"batch", "length"}},
                                                            {"ids", kInt64, {"batch", "length"}},
                                                            {"noise", kFloat, {"length", "2"}}});
  std::ofstream(folder / "set.json") << R"(["a", "b", "c"])";
  InputOptions options;
  options.inputs = {"ids=text:cab", "mask=fill:1"};
  options.tokenizer = folder / "set.json";
  options.seed = 3;
  const auto values = input_values(Model(model), options, nullptr);
  REQUIRE(values.size() == 3);
  CHECK(values[0].name == "mask");
  CHECK(values[0].shape == Shape{1, 3});
  CHECK(elements<int64_t>(values[0]) == std::vector<int64_t>{1, 1, 1});
  CHECK(values[1].shape == Shape{1, 3});
  CHECK(elements<int64_t>(values[1]) == std::vector<int64_t>{2, 0, 1});
  CHECK(values[2].shape == Shape{3, 2});

  std::ofstream(folder / "text.txt") << "bb";
  options.inputs = {"ids=" + (folder / "text.txt"), "mask=fill:1"};
  CHECK(elements<int64_t>(input_values(Model(model), options, nullptr)[1]) == std::vector<int64_t>{1, 1});

  options.inputs = {"ids=text:xyz", "mask=fill:1"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("'x'"));
  options.inputs = {"ids=text:ab", "mask=fill:0.5"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("mask=fill:0.5"));
  options.inputs = {"ids=text:ab", "noise=text:ab", "mask=fill:1"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr),
                    Catch::Contains("noise") && Catch::Contains("float32"));
  options.inputs = {"mask=fill:1"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("--shape"));
  options.tokenizer.clear();
  options.inputs = {"ids=text:ab", "mask=fill:1"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("--tokenizer"));
}

TEST_CASE("text has to fit an input of fixed length") {
  const Folder folder;
  const std::string model = write_model(folder / "m.onnx", {{"ids", kInt32, {"4"}}});
  std::ofstream(folder / "set.json") << R"(["a", "b"])";
  InputOptions options;
  options.tokenizer = folder / "set.json";
  options.inputs = {"ids=text:abba"};
  CHECK(elements<int32_t>(input_values(Model(model), options, nullptr)[0]) == std::vector<int32_t>{0, 1, 1, 0});
  options.inputs = {"ids=text:ab"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr),
                    Catch::Contains("2 tokens") && Catch::Contains("[4]"));
  options.inputs = {};
  options.seed = 1;
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("no input is text"));
}

TEST_CASE("pictures need no task, and several make a batch") {
  const Folder folder;
  const std::string model = write_model(folder / "m.onnx", {{"x", kFloat, {"n", "3", "h", "w"}}});
  InputOptions options;
  options.inputs = {"x=examples/text_line.png,examples/text_line.png"};
  options.pictures = {"x:size=20x10,range=1"};
  const auto values = input_values(Model(model), options, nullptr);
  CHECK(values[0].shape == Shape{2, 3, 10, 20});
  for (const float value : elements<float>(values[0])) CHECK((value >= 0 && value <= 1));
  options.pictures = {"y:range=1"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("it has x"));
  options.pictures = {"range=1"};
  options.inputs = {"x=absent.png"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("absent.png"));
  options.inputs = {};
  options.seed = 1;
  options.shapes = {"x=1,3,2,2"};
  CHECK_THROWS_WITH(input_values(Model(model), options, nullptr), Catch::Contains("no input is a picture"));
}

TEST_CASE("seeded values have the input's type and are the same every time") {
  const Folder folder;
  const std::string model = write_model(folder / "m.onnx", {{"f", kFloat, {"50"}},
                                                            {"i", kInt64, {"50"}},
                                                            {"b", onnx::TensorProto::BOOL, {"50"}},
                                                            {"h", onnx::TensorProto::FLOAT16, {"50"}}});
  InputOptions options;
  options.seed = 9;
  const auto values = input_values(Model(model), options, nullptr);
  for (const float value : elements<float>(values[0])) CHECK((value >= -1 && value < 1));
  for (const int64_t value : elements<int64_t>(values[1])) CHECK((value >= 0 && value < 8));
  for (const uint8_t value : elements<uint8_t>(values[2])) CHECK(value <= 1);
  CHECK(values[3].bytes.size() == 100);
  const auto again = input_values(Model(model), options, nullptr);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(again[i].bytes == values[i].bytes);
}
