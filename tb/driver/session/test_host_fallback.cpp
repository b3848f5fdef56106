// Models of which the host computes some nodes, on the simulated card, against plain loops.
#include <catch2/catch.hpp>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "driver/session/session.hpp"
#include "tb/common/seed.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx;
using compiler::OnnxModel;
using compiler::TemporaryFile;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";

template <typename T>
HostTensor tensor(const std::string &name, const char *type, const std::vector<int64_t> &shape,
                  const std::vector<T> &values) {
  HostTensor result{name, type, shape, std::vector<std::byte>(values.size() * sizeof(T))};
  std::memcpy(result.bytes.data(), values.data(), result.bytes.size());
  return result;
}

template <typename T>
std::vector<T> values_of(const HostTensor &tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

/// About half of the values are 0.
std::vector<float> sparse_floats(std::mt19937 &random, std::size_t count) {
  std::vector<float> values(count);
  for (float &value : values) value = static_cast<float>(std::uniform_int_distribution<int>(-4, 4)(random)) / 2;
  for (float &value : values) value = value < 0 ? 0 : value;
  return values;
}

std::mt19937 seeded() { return std::mt19937(cx::test::fresh_seed()); }

/// A graph output: name, type and the values that it has to have.
template <typename T>
void check(const HostTensor &got, const std::string &name, const std::vector<int64_t> &shape,
           const std::vector<T> &expected) {
  CHECK(got.name == name);
  CHECK(got.shape == shape);
  CHECK(values_of<T>(got) == expected);
}

/// x[n] -> Relu -> NonZero -> Mul by 3 -> y, and z = -x beside it.
OnnxModel node_in_the_middle() {
  OnnxModel model;
  model.symbolic_input("x", {"n"});
  model.integers("three", {3});
  model.node("Relu", {"x"}, {"positive"});
  model.node("NonZero", {"positive"}, {"places"}, "finder");
  model.node("Mul", {"places", "three"}, {"y"});
  model.node("Neg", {"x"}, {"z"});
  model.typed_output("y", onnx::TensorProto::INT64);
  model.typed_output("z");
  return model;
}

}  // namespace

TEST_CASE("a host node between two parts of the device") {
  std::mt19937 random = seeded();
  const auto device = Device::open(kChip);
  const TemporaryFile file(node_in_the_middle().bytes());
  Session session(*device, file.path());
  for (const int64_t n : {6, 17, 6}) {
    std::vector<float> x = sparse_floats(random, static_cast<std::size_t>(n));
    x[0] = 1;
    x[1] = -2;
    std::vector<int64_t> places;
    std::vector<float> negative;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (x[i] > 0) places.push_back(3 * static_cast<int64_t>(i));
      negative.push_back(-x[i]);
    }
    const HostTensor input = tensor("x", "float32", {n}, x);
    const auto outputs = session.run({&input, 1});
    REQUIRE(outputs.size() == 2);
    check(outputs[0], "y", {1, static_cast<int64_t>(places.size())}, places);
    check(outputs[1], "z", {n}, negative);
    CHECK(session.programs() == 2);
    REQUIRE(session.host_fallback().size() == 1);
    CHECK(session.host_fallback()[0].nodes == std::vector<std::string>{"finder"});
    CHECK(host_fallback_text(session.host_fallback()) == "host fallback: NonZero x1");
    CHECK(session.report().launch_cycles > 0);
    CHECK(session.compile_statistics().instructions > 0);
    CHECK_THROWS_AS(session.program(), UsageError);
    const nlohmann::json json = host_fallback_json(session);
    CHECK(json["programs"] == 2);
    CHECK(json["host_only"] == false);
    CHECK(json["host_fallback"][0]["op"] == "NonZero");
    CHECK(json["host_fallback"][0]["count"] == 1);
  }
  CHECK(session.statistics().runs == 3);
  // The part before the host node was compiled for two shapes.
  CHECK(session.statistics().cache_hits >= 1);
}

TEST_CASE("only what is asked for runs, on the device alone where that is enough") {
  const auto device = Device::open(kChip);
  const TemporaryFile file(node_in_the_middle().bytes());
  Session session(*device, file.path());
  const HostTensor input = tensor<float>("x", "float32", {3}, {1, -1, 2});
  REQUIRE(session.run({&input, 1}).size() == 2);
  const std::vector<std::string> names{"z"};
  const auto outputs = session.run({&input, 1}, names);
  REQUIRE(outputs.size() == 1);
  check<float>(outputs[0], "z", {3}, {-1, 1, -2});
  CHECK(session.host_fallback().empty());
  CHECK(session.programs() == 1);
  CHECK(host_fallback_json(session).empty());
}

TEST_CASE("nothing found: the part after the host node has no elements") {
  const auto device = Device::open(kChip);
  const TemporaryFile file(node_in_the_middle().bytes());
  Session session(*device, file.path());
  const HostTensor input = tensor<float>("x", "float32", {3}, {-1, -1, -2});
  const auto outputs = session.run({&input, 1});
  REQUIRE(outputs.size() == 2);
  check<int64_t>(outputs[0], "y", {1, 0}, {});
  check<float>(outputs[1], "z", {3}, {1, 1, 2});
}

TEST_CASE("a host node at the end, and at the start") {
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.symbolic_input("x", {"n"});
  model.symbolic_input("flags", {"n"}, onnx::TensorProto::BOOL);
  model.node("Compress", {"x", "flags"}, {"kept"});
  model.node("Mul", {"kept", "kept"}, {"squares"});
  model.node("Unique", {"squares"}, {"y", "", "", "counts"});
  model.typed_output("y");
  model.typed_output("counts", onnx::TensorProto::INT64);
  const TemporaryFile file(model.bytes());
  Session session(*device, file.path());
  const std::vector<HostTensor> inputs{tensor<float>("x", "float32", {6}, {3, -1, 7, 1, 3, 2}),
                                       tensor<uint8_t>("flags", "bool", {6}, {1, 1, 0, 1, 1, 1})};
  const auto outputs = session.run(inputs);
  REQUIRE(outputs.size() == 2);
  check<float>(outputs[0], "y", {3}, {1, 4, 9});
  check<int64_t>(outputs[1], "counts", {3}, {2, 1, 2});
  CHECK(session.programs() >= 1);
  CHECK(host_fallback_text(session.host_fallback()).find("Unique x1") != std::string::npos);
}

TEST_CASE("several host nodes one after the other and side by side") {
  std::mt19937 random = seeded();
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.symbolic_input("a", {"n"});
  model.symbolic_input("b", {"n"});
  model.node("Add", {"a", "b"}, {"sum"});
  model.node("NonZero", {"sum"}, {"in_sum"});
  model.node("NonZero", {"b"}, {"in_b"});
  model.node("Transpose", {"in_sum"}, {"rows"});
  model.node("GatherND", {"a", "rows"}, {"chosen"});
  model.node("Abs", {"chosen"}, {"sizes"});
  model.node("Unique", {"sizes"}, {"y"});
  model.node("Neg", {"in_b"}, {"z"});
  model.typed_output("y");
  model.typed_output("z", onnx::TensorProto::INT64);
  const TemporaryFile file(model.bytes());
  Session session(*device, file.path());
  const std::vector<float> a = sparse_floats(random, 20), b = sparse_floats(random, 20);
  std::set<float> sizes;
  std::vector<int64_t> in_b;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] + b[i] != 0) sizes.insert(std::abs(a[i]));
    if (b[i] != 0) in_b.push_back(-static_cast<int64_t>(i));
  }
  const std::vector<HostTensor> inputs{tensor("a", "float32", {20}, a), tensor("b", "float32", {20}, b)};
  const auto outputs = session.run(inputs);
  REQUIRE(outputs.size() == 2);
  check(outputs[0], "y", {static_cast<int64_t>(sizes.size())}, std::vector<float>(sizes.begin(), sizes.end()));
  check(outputs[1], "z", {1, static_cast<int64_t>(in_b.size())}, in_b);
  CHECK(host_fallback_text(session.host_fallback()) == "host fallback: NonZero x2, Unique x1");
}

TEST_CASE("boxes found by the device are suppressed by the host") {
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.input("corners", {1, 3, 4});
  model.input("logits", {1, 1, 3});
  model.integers("most", {2});
  model.constant("overlap", {1}, {0.5F});
  model.constant("two", {1}, {2});
  model.node("Mul", {"corners", "two"}, {"boxes"});
  model.node("Sigmoid", {"logits"}, {"scores"});
  model.node("NonMaxSuppression", {"boxes", "scores", "most", "overlap"}, {"y"});
  model.typed_output("y", onnx::TensorProto::INT64);
  const TemporaryFile file(model.bytes());
  Session session(*device, file.path());
  const std::vector<HostTensor> inputs{
      tensor<float>("corners", "float32", {1, 3, 4}, {0, 0, 2, 2, 0, 0, 2, 2.5, 4, 4, 5, 5}),
      tensor<float>("logits", "float32", {1, 1, 3}, {1, 2, -1})};
  check<int64_t>(session.run(inputs)[0], "y", {2, 3}, {0, 0, 1, 0, 0, 2});
  CHECK(session.programs() == 1);
}

TEST_CASE("a model of a host node alone says that the device computed nothing") {
  const auto device = Device::open(kChip);
  OnnxModel model;
  model.symbolic_input("x", {"n"});
  model.node("NonZero", {"x"}, {"y"});
  model.typed_output("y", onnx::TensorProto::INT64);
  const TemporaryFile file(model.bytes());
  Session session(*device, file.path());
  const HostTensor input = tensor<float>("x", "float32", {4}, {0, 5, 0, 6});
  check<int64_t>(session.run({&input, 1})[0], "y", {1, 2}, {1, 3});
  CHECK(session.programs() == 0);
  CHECK(host_fallback_json(session)["host_only"] == true);
  CHECK(session.report().cycles == 0);
}

TEST_CASE("an input on the device comes to the host for its node") {
  const auto device = Device::open(kChip);
  const TemporaryFile file(node_in_the_middle().bytes());
  Session session(*device, file.path());
  session.bind_input("x", DeviceTensor::from_host(*device, tensor<float>("", "float32", {4}, {0, 5, -1, 6})));
  const auto outputs = session.run({});
  check<int64_t>(outputs[0], "y", {1, 2}, {3, 9});
  check<float>(outputs[1], "z", {4}, {0, -5, 1, -6});
}

TEST_CASE("what host nodes exclude is refused") {
  const auto device = Device::open(kChip);
  const HostTensor input = tensor<float>("x", "float32", {4}, {0, 5, 0, 6});
  SECTION("outputs on the device") {
    const TemporaryFile file(node_in_the_middle().bytes());
    Session session(*device, file.path());
    session.bind_output("z", DeviceTensor::allocate(*device, "float32", {4}));
    CHECK_THROWS_WITH(session.run({&input, 1}), Catch::Contains("cannot be bound"));
    session.bind_output("z", {});
    CHECK(session.run({&input, 1}).size() == 2);
  }
  SECTION("a host node inside a branch") {
    OnnxModel model;
    model.symbolic_input("x", {"n"});
    model.input("c", {}, onnx::TensorProto::BOOL);
    auto &node = model.node("If", {"c"}, {"y"}, "chooser");
    for (const char *branch : {"then_branch", "else_branch"}) {
      auto &attribute = *node.add_attribute();
      attribute.set_name(branch);
      attribute.set_type(onnx::AttributeProto::GRAPH);
      attribute.mutable_g()->set_name(branch);
      auto &inner = *attribute.mutable_g()->add_node();
      inner.set_op_type("NonZero");
      inner.add_input("x");
      inner.add_output("places");
      attribute.mutable_g()->add_output()->set_name("places");
    }
    model.typed_output("y", onnx::TensorProto::INT64);
    const TemporaryFile file(model.bytes());
    Session session(*device, file.path());
    const std::vector<HostTensor> inputs{input, tensor<uint8_t>("c", "bool", {}, {1})};
    try {
      session.run(inputs);
      FAIL("no error");
    } catch (const UnsupportedError &error) {
      CHECK(error.op() == "NonZero");
      CHECK_THAT(error.what(), Catch::Contains("only nodes of the main graph") && Catch::Contains("chooser"));
    }
  }
  SECTION("operands that the host's operator refuses") {
    OnnxModel model;
    model.symbolic_input("x", {"n"});
    model.symbolic_input("flags", {"m"}, onnx::TensorProto::BOOL);
    model.node("Neg", {"x"}, {"negative"});
    model.node("Compress", {"negative", "flags"}, {"y"}, "packer");
    model.typed_output("y");
    const TemporaryFile file(model.bytes());
    Session session(*device, file.path());
    const std::vector<HostTensor> inputs{input, tensor<uint8_t>("flags", "bool", {5}, {1, 1, 1, 1, 1})};
    CHECK_THROWS_WITH(session.run(inputs), Catch::Contains("packer") && Catch::Contains("longer than the axis"));
  }
}
