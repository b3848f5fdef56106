// Models on the simulated card, run with shapes that are known at run time only.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>

#include "driver/session/session.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx;
using compiler::OnnxModel;
using compiler::TemporaryFile;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";

HostTensor tensor(const std::string &name, const std::vector<int64_t> &shape, const std::vector<float> &values) {
  HostTensor result{name, "float32", shape, std::vector<std::byte>(values.size() * 4)};
  std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

HostTensor whole(const std::string &name, const std::vector<int64_t> &values) {
  HostTensor result{name, "int64", {static_cast<int64_t>(values.size())}, std::vector<std::byte>(values.size() * 8)};
  std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

std::vector<float> floats(const HostTensor &tensor) {
  std::vector<float> values(tensor.bytes.size() / 4);
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

std::vector<float> random_floats(std::mt19937 &random, std::size_t count) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(count);
  for (float &value : values) value = uniform(random);
  return values;
}

constexpr int64_t kIn = 12, kOut = 20;

/// y[rows, 20] = relu(x[rows, 12] w), with weights of one seed.
struct Layer {
  Layer() {
    std::mt19937 random(3);
    w = random_floats(random, kIn * kOut);
    OnnxModel model;
    model.symbolic_input("x", {"rows", "12"});
    model.constant("w", {kIn, kOut}, w);
    model.node("MatMul", {"x", "w"}, {"product"});
    model.node("Relu", {"product"}, {"y"});
    model.typed_output("y");
    file.emplace(model.bytes());
  }
  void check(const std::vector<float> &x, const HostTensor &y) const {
    const auto rows = static_cast<int64_t>(x.size()) / kIn;
    REQUIRE(y.shape == std::vector<int64_t>{rows, kOut});
    const std::vector<float> got = floats(y);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < kOut; ++c) {
        double sum = 0;
        for (int64_t k = 0; k < kIn; ++k) {
          sum += double{x[static_cast<std::size_t>(r * kIn + k)]} * w[static_cast<std::size_t>(k * kOut + c)];
        }
        REQUIRE(got[static_cast<std::size_t>(r * kOut + c)] == Approx(std::max(sum, 0.0)).margin(1e-5));
      }
    }
  }
  std::vector<float> w;
  std::optional<TemporaryFile> file;
};

}  // namespace

TEST_CASE("a session compiles for each new shape once") {
  const auto device = Device::open(kChip);
  const Layer layer;
  Session session(*device, layer.file->path());
  REQUIRE(session.inputs().size() == 1);
  REQUIRE(signature_text(session.inputs()[0]) == "float32 [rows, 12]");
  REQUIRE(session.outputs().size() == 1);
  REQUIRE_THROWS_AS(session.report(), UsageError);
  std::mt19937 random(5);
  uint64_t constants = 0;
  for (int64_t rows : {4, 1, 9, 1, 4, 9, 4}) {
    const std::vector<float> x = random_floats(random, static_cast<std::size_t>(rows * kIn));
    const HostTensor input = tensor("x", {rows, kIn}, x);
    const auto outputs = session.run({&input, 1});
    REQUIRE(outputs.size() == 1);
    layer.check(x, outputs[0]);
    REQUIRE(session.report().input_bytes == input.bytes.size());
    if (constants == 0) constants = session.statistics().constant_bytes;
  }
  const SessionStatistics statistics = session.statistics();
  REQUIRE(statistics.runs == 7);
  REQUIRE(statistics.compilations == 3);
  REQUIRE(statistics.cache_hits == 4);
  REQUIRE(statistics.evictions == 0);
  // The weights are on the device once.
  REQUIRE(constants >= kIn * kOut * 4);
  REQUIRE(statistics.constant_bytes < constants + kIn * kOut * 4);
  REQUIRE(statistics.constant_bytes_reused >= kIn * kOut * 4);
}

TEST_CASE("programs beyond the limit make room and are compiled again") {
  const auto device = Device::open(kChip);
  const Layer layer;
  SessionOptions options;
  options.max_programs = 2;
  Session session(*device, layer.file->path(), options);
  const auto run = [&](int64_t rows) {
    const std::vector<float> x(static_cast<std::size_t>(rows * kIn), 0.5f);
    const HostTensor input = tensor("x", {rows, kIn}, x);
    layer.check(x, session.run({&input, 1})[0]);
  };
  for (int64_t rows : {1, 2, 1, 3, 1, 2}) run(rows);  // 3 takes the place of 2, which takes that of 3
  REQUIRE(session.statistics().compilations == 4);
  REQUIRE(session.statistics().cache_hits == 2);
  REQUIRE(session.statistics().evictions == 2);
  const uint64_t used = device->memory_stats().used;
  for (int64_t rows : {3, 2, 3, 2}) run(rows);
  REQUIRE(device->memory_stats().used <= used + 8192);
}

TEST_CASE("values that the compiler needs are part of what a program is made for") {
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.symbolic_input("x", {"n"});
  model.input("shape", {2}, onnx::TensorProto::INT64);
  model.node("Neg", {"x"}, {"negative"});
  model.node("Reshape", {"negative", "shape"}, {"y"});
  model.typed_output("y");
  const TemporaryFile file(model.bytes());
  Session session(*device, file.path());
  const std::vector<float> x{1, 2, 3, 4, 5, 6};
  const auto run = [&](const std::vector<int64_t> &shape) {
    const std::vector<HostTensor> inputs{tensor("x", {6}, x), whole("shape", shape)};
    const auto outputs = session.run(inputs);
    REQUIRE(outputs[0].shape == shape);
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(floats(outputs[0])[i] == -x[i]);
  };
  run({2, 3});
  run({3, 2});
  run({2, 3});
  REQUIRE(session.statistics().compilations == 2);
  REQUIRE(session.statistics().cache_hits == 1);
}

TEST_CASE("state of a session stays on the device") {
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.symbolic_input("state", {"n", "8"});
  model.symbolic_input("step", {"1", "8"});
  model.node("Add", {"state", "step"}, {"next"});
  model.typed_output("next");
  const TemporaryFile file(model.bytes());
  Session session(*device, file.path());
  const HostTensor step = tensor("step", {1, 8}, {1, 2, 3, 4, 5, 6, 7, 8});
  DeviceTensor a = DeviceTensor::from_host(*device, tensor("", {2, 8}, std::vector<float>(16, 0.25f)));
  DeviceTensor b = DeviceTensor::allocate(*device, "float32", {2, 8});
  for (int i = 0; i < 6; ++i) {
    session.bind_input("state", a);
    session.bind_output("next", b);
    REQUIRE(session.run({&step, 1}).empty());
    REQUIRE(session.report().input_bytes == 32);
    REQUIRE(session.report().output_bytes == 0);
    std::swap(a, b);
  }
  REQUIRE(session.statistics().compilations == 1);
  const std::vector<float> values = floats(a.download());
  for (std::size_t i = 0; i < 16; ++i) REQUIRE(values[i] == 0.25f + 6 * static_cast<float>(i % 8 + 1));
  // Back to the host.
  session.bind_input("state", {});
  session.bind_output("next", {});
  const std::vector<HostTensor> inputs{step, tensor("state", {3, 8}, std::vector<float>(24, 1.0f))};
  const auto outputs = session.run(inputs);
  REQUIRE(outputs[0].shape == std::vector<int64_t>{3, 8});
  REQUIRE(floats(outputs[0])[23] == 9);
}

TEST_CASE("a cache is updated in place at positions known at run time") {
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.input("past", {1, 10, 4});
  model.symbolic_input("entries", {"1", "s", "4"});
  model.symbolic_input("positions", {"1", "s", "4"}, onnx::TensorProto::INT64);
  auto &scatter = model.node("ScatterElements", {"past", "positions", "entries"}, {"present"});
  auto &axis = *scatter.add_attribute();
  axis.set_name("axis");
  axis.set_type(onnx::AttributeProto::INT);
  axis.set_i(1);
  model.node("Mul", {"present", "present"}, {"y"});
  model.typed_output("present");
  model.typed_output("y");
  const TemporaryFile file(model.bytes());
  SessionOptions options;
  options.in_place = {{"present", "past"}};
  Session session(*device, file.path(), options);
  DeviceTensor cache = DeviceTensor::allocate(*device, "float32", {1, 10, 4});
  cache.clear();
  session.bind_input("past", cache);
  std::vector<float> expected(40, 0.0f);
  std::mt19937 random(9);
  int64_t place = 0;
  for (int64_t count : {3, 1, 1, 2, 1}) {
    const std::vector<float> entries = random_floats(random, static_cast<std::size_t>(count * 4));
    HostTensor positions{"positions", "int64", {1, count, 4}, {}};
    for (int64_t i = 0; i < count * 4; ++i) {
      const int64_t at = place + i / 4;
      expected[static_cast<std::size_t>(at * 4 + i % 4)] = entries[static_cast<std::size_t>(i)];
      const auto *bytes = reinterpret_cast<const std::byte *>(&at);
      positions.bytes.insert(positions.bytes.end(), bytes, bytes + 8);
    }
    place += count;
    const std::vector<HostTensor> inputs{tensor("entries", {1, count, 4}, entries), positions};
    const auto outputs = session.run(inputs);
    REQUIRE(outputs.size() == 1);
    REQUIRE(outputs[0].name == "y");
    REQUIRE(floats(cache.download()) == expected);
    for (std::size_t i = 0; i < 40; ++i) REQUIRE(floats(outputs[0])[i] == expected[i] * expected[i]);
    REQUIRE(session.report().resident_bytes == 160);
  }
  REQUIRE(session.statistics().compilations == 3);
}

TEST_CASE("what does not fit the model is refused") {
  const auto device = Device::open(kChip);
  const Layer layer;
  Session session(*device, layer.file->path());
  const auto refuse = [&](const std::vector<HostTensor> &inputs, const char *message) {
    REQUIRE_THROWS_WITH(session.run(inputs), Catch::Contains(message));
  };
  const HostTensor good = tensor("x", {1, kIn}, std::vector<float>(kIn));
  HostTensor bad = good;
  refuse({}, "input 'x', float32 [rows, 12], is missing");
  refuse({good, good}, "given twice");
  bad.name = "z";
  refuse({good, bad}, "the model has no input 'z'; it has 'x'");
  bad = good;
  bad.type = "float16";
  refuse({bad}, "is float32 [rows, 12], got float16 [1, 12]");
  bad = good;
  bad.bytes.pop_back();
  refuse({bad}, "has 47 bytes");
  bad = tensor("x", {1, kIn + 1}, std::vector<float>(kIn + 1));
  refuse({bad}, "does not fit [rows, 12]");
  const std::vector<std::string> unknown{"q"};
  REQUIRE_THROWS_WITH(session.run({&good, 1}, unknown), Catch::Contains("has no output 'q'; it has 'y'"));
  REQUIRE_THROWS_WITH(session.bind_input("q", DeviceTensor::allocate(*device, "float32", {1})),
                      Catch::Contains("has no input 'q'"));
  REQUIRE_THROWS_WITH(session.bind_input("x", DeviceTensor::allocate(*device, "int8", {1, kIn})),
                      Catch::Contains("the device tensor is int8"));
  REQUIRE(session.statistics().compilations == 0);
  REQUIRE(session.run({&good, 1}).size() == 1);
  SessionOptions options;
  options.max_programs = 0;
  REQUIRE_THROWS_AS(Session(*device, layer.file->path(), options), UsageError);
  REQUIRE_THROWS_AS(Session(*device, "/nonexistent.onnx"), InputError);
}
