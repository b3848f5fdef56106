// The C++ wrapper against the shared library. Reference values are computed here.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "driver/include/cx/cx.hpp"

extern "C" int write_sample_program(const char *path, uint64_t arch_hash);
extern "C" int write_layer_model(const char *path, const char *op);

namespace {

constexpr int kElements = 64;

// y = max(x + 1.5, 0), as the sample program does.
std::vector<float> expected(const std::vector<float> &x) {
  std::vector<float> y;
  for (const float value : x) y.push_back(value + 1.5F > 0 ? value + 1.5F : 0);
  return y;
}

std::vector<float> ramp(float from) {
  std::vector<float> x;
  for (int i = 0; i < kElements; ++i) x.push_back(from + static_cast<float>(i));
  return x;
}

std::string scratch(const std::string &name) {
  return std::filesystem::temp_directory_path() / ("cx_hpp_" + std::to_string(getpid()) + name);
}

cx::Program sample(const cx::Device &device) {
  const std::string path = scratch(".cxb");
  REQUIRE(write_sample_program(path.c_str(), device.info().arch_hash) == 0);
  auto program = cx::Program::load(path);
  std::filesystem::remove(path);
  return program;
}

cx::Tensor x_of(const std::vector<float> &values) { return cx::Tensor::of("x", {1, kElements}, values); }

}  // namespace

TEST_CASE("tensors keep values, and give them in their own type only") {
  const auto tensor = cx::Tensor::of<int16_t>("a", {2, 2}, {1, -2, 3, -4});
  CHECK(tensor.type == "int16");
  CHECK(tensor.data.size() == 8);
  CHECK(tensor.values<int16_t>() == std::vector<int16_t>{1, -2, 3, -4});
  CHECK_THROWS_AS(tensor.values<uint16_t>(), cx::UsageError);
  CHECK(cx::Tensor::of<bool>("b", {2}, {true, false}).values<bool>() == std::vector<bool>{true, false});
  CHECK(std::string(cx::type_name<unsigned long>()) == "uint64");
  CHECK(std::string(cx::type_name<double>()) == "float64");
}

TEST_CASE("programs run with values of the host and of the device") {
  const auto device = cx::Device::open("tiny", {"spm.kib=256"});
  CHECK(device.info().spm_bytes == 256 * 1024);
  const cx::Program program = sample(device);
  CHECK(std::string(program.info().name) == "sample");
  REQUIRE(program.inputs().size() == 1);
  CHECK(program.inputs()[0].shape == std::vector<int64_t>{1, kElements});
  CHECK(program.outputs().at(0).name == "y");

  cx::Executable executable(device, program);
  const std::vector<float> x = ramp(-32);
  const auto outputs = executable.run({x_of(x)});
  REQUIRE(outputs.size() == 1);
  CHECK(outputs[0].values<float>() == expected(x));
  CHECK(executable.run_info().packets == 3);
  CHECK(executable.run_info().latency_us > 0);
  CHECK(executable.report_json().find("\"latency_us\"") != std::string::npos);
  CHECK(executable.run({x_of(x)}, {}).empty());

  cx::DeviceTensor resident(device, "float32", {1, kElements}), result(device, "float32", {kElements});
  resident.write(ramp(-8));
  executable.bind_input("x", resident);
  executable.bind_output("y", result);
  CHECK(executable.run({}, {}).empty());
  CHECK(result.read<float>() == expected(ramp(-8)));
  CHECK_THROWS_AS(result.read<int32_t>(), cx::UsageError);
  executable.unbind_input("x");
  executable.unbind_output("y");
  CHECK(executable.run({x_of(x)}).at(0).values<float>() == expected(x));
}

TEST_CASE("streams, timelines, markers and command buffers") {
  const auto device = cx::Device::open("tiny", {"spm.kib=256"});
  cx::Executable executable(device, sample(device));
  cx::DeviceTensor x(device, "float32", {1, kElements}), y(device, "float32", {kElements});
  x.write(ramp(-8));
  executable.bind_input("x", x);
  executable.bind_output("y", y);
  cx::CommandBuffer commands(device);
  commands.launch(executable);
  commands.copy(x, y);
  commands.finish();
  CHECK_THROWS_AS(commands.fill(x, 0), cx::UsageError);

  cx::Timeline timeline(device, 3);
  cx::Marker begin(device), end(device);
  int calls = 0;
  {
    cx::Stream first(device, 0), second(device, 3);
    first.record(begin);
    first.execute(commands);
    first.execute(commands);
    first.signal(timeline, 4);
    second.wait(timeline, 4);
    second.launch(executable);
    second.call([](void *context) { ++*static_cast<int *>(context); }, &calls);
    second.record(end);
    first.wait(end);
    CHECK_FALSE(first.done());
    CHECK_FALSE(end.done());
    first.synchronize();
  }
  CHECK(calls == 1);
  CHECK(timeline.value() == 4);
  CHECK(end.us_since(begin) > 0);
  CHECK(y.read<float>() == expected(expected(expected(ramp(-8)))));
  timeline.signal(5);
  timeline.wait(5);
  CHECK_THROWS_AS(timeline.wait(6), cx::TimeoutError);
  cx::Stream stream(device);
  stream.fill(y, 0);
  stream.synchronize();
  stream.clear_error();
  CHECK(y.read<float>() == std::vector<float>(kElements, 0.0F));
}

TEST_CASE("host memory, transfers, pools, lists and copies between cards") {
  cx::DeviceOptions options;
  options.sets = {"spm.kib=256"};
  options.link_read_request_bytes = 256;
  options.link_extended_tags = CX_SWITCH_OFF;
  std::string leaks;
  options.on_leak = [](const char *report, void *context) { *static_cast<std::string *>(context) += report; };
  options.leak_context = &leaks;
  {
    const auto device = cx::Device::open_with("tiny", options), other = cx::Device::open("tiny");
    CHECK(device.info().spm_bytes == 256 * 1024);
    CHECK(device.info().link_read_request_bytes == 256);
    CHECK(device.info().link_extended_tags == 0);
    constexpr uint64_t kBytes = kElements * sizeof(float);
    std::vector<float> pageable = ramp(1), registered(kElements), back(kElements);
    cx::HostMemory pinned(device, 2 * kBytes, "pinned"), memory(device, registered.data(), kBytes, true, "memory");
    CHECK(pinned.bytes() == 2 * kBytes);
    CHECK(memory.data() == registered.data());
    CHECK(device.memory_report().find("  memory: ") != std::string::npos);
    auto *values = static_cast<float *>(pinned.data());

    cx::DevicePool pool(device, "cache");
    cx::Stream stream(device);
    cx::Timeline timeline(device);
    cx::DeviceTensor target(other, "float32", {kElements}), of_pool(pool, "float32", {kElements});
    cx::DeviceTensor tensor = stream.create_tensor(pool, "float32", {kElements});
    stream.wait(timeline, 1);
    stream.upload(tensor, pageable.data(), kBytes);
    stream.download(tensor, registered.data(), kBytes);
    stream.copy_peer(target, tensor);
    CHECK_THROWS_AS(memory.release(), cx::UsageError);
    timeline.signal(1);
    stream.synchronize();
    CHECK(registered == pageable);
    CHECK(target.read<float>() == pageable);
    CHECK(of_pool.copy_from(target).path == CX_COPY_DIRECT);
    CHECK(of_pool.read<float>() == pageable);
    memory.release();

    cx::CommandBuffer commands(device);
    std::copy_n(ramp(5).begin(), kElements, values);
    commands.wait(timeline, 2);
    commands.upload(tensor, values, kBytes);
    commands.copy(of_pool, tensor);
    commands.download(of_pool, values + kElements, kBytes);
    const uint32_t signal = commands.count();
    commands.signal(timeline, 3);
    commands.finish();
    CHECK_THROWS_AS(commands.timestamp(static_cast<uint64_t *>(pinned.data())), cx::UsageError);
    commands.set_value(signal, 7);
    commands.set_copy(2, of_pool, tensor);
    timeline.signal(2);
    stream.execute(commands);
    timeline.wait(7);
    CHECK(std::vector<float>(values + kElements, values + 2 * kElements) == ramp(5));
    stream.synchronize();

    stream.free_tensor(std::move(tensor));
    CHECK(pool.info().free_blocks == 1);
    CHECK(pool.trim() > 0);
    CHECK_THROWS_AS(stream.free_tensor(cx::DeviceTensor(device, "float32", {1})), cx::UsageError);
  }
  CHECK(leaks.empty());
}

TEST_CASE("models run in sessions") {
  const auto device = cx::Device::open("tiny", {"spm.kib=256"});
  const std::string path = scratch(".onnx");
  REQUIRE(write_layer_model(path.c_str(), "Relu") == 0);
  cx::Session session(device, path, {"fp16", {}, 4});
  CHECK(std::string(session.info().precision) == "fp16");
  REQUIRE(session.inputs().size() == 1);
  CHECK(session.inputs()[0].shape == std::vector<int64_t>{-1, 3});
  CHECK(session.inputs()[0].symbols == std::vector<std::string>{"rows", ""});
  CHECK(session.outputs().size() == 2);

  const auto x = cx::Tensor::of<float>("x", {2, 3}, {1, 2, 3, -1, -2, -3});
  const auto outputs = session.run({x}, {"y"});
  REQUIRE(outputs.size() == 1);
  CHECK(outputs[0].shape == std::vector<int64_t>{2, 2});
  CHECK(outputs[0].values<float>() == std::vector<float>{14, 0, 0, 14});
  CHECK(session.run({x}).size() == 2);
  CHECK(session.run({x}, {}).empty());
  CHECK(session.run_info().cycles > 0);
  CHECK(session.info().runs == 3);

  cx::DeviceTensor resident(device, "float32", {1, 3});
  resident.write(std::vector<float>{0, 0, 1});
  session.bind_input("x", resident);
  CHECK(session.run({}, {"product"}).at(0).values<float>() == std::vector<float>{3, -3});
  session.unbind_input("x");
  CHECK_THROWS_AS(session.run({}), cx::InputError);
  CHECK(session.report_json().find("\"cycles\"") != std::string::npos);
  std::filesystem::remove(path);
}

TEST_CASE("a device lives as long as what was made from it") {
  auto executable = [] {
    const auto device = cx::Device::open("tiny", {"spm.kib=256"});
    return std::make_unique<cx::Executable>(device, sample(device));
  }();
  CHECK(executable->run({x_of(ramp(0))}).at(0).values<float>() == expected(ramp(0)));
  cx::Executable copy = *executable;
  executable.reset();
  CHECK(copy.run({x_of(ramp(1))}).at(0).values<float>() == expected(ramp(1)));
}

TEST_CASE("several cards in a process") {
  const auto one = cx::Device::open("tiny"), two = cx::Device::open("tiny");
  cx::Executable first(one, sample(one)), second(two, sample(two));
  CHECK(first.run({x_of(ramp(0))}).at(0).values<float>() == expected(ramp(0)));
  CHECK(second.run({x_of(ramp(1))}).at(0).values<float>() == expected(ramp(1)));
  CHECK(first.run({x_of(ramp(2))}).at(0).values<float>() == expected(ramp(2)));
}

TEST_CASE("events and recovery") {
  auto device = cx::Device::open("tiny", {"spm.kib=256"});
  CHECK_FALSE(device.next_event());
  CHECK(device.event_fd() >= 0);
  CHECK(device.recover() == CX_RECOVERY_NONE);
  CHECK_NOTHROW(device.set_event_mask(1u << CX_EVENT_ECC_CORRECTED));
  CHECK_THROWS_AS(device.inject_fault("no-such-fault"), cx::InputError);
}

TEST_CASE("results are exceptions of their kind, with the library's text") {
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_BUSY), cx::UsageError);
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_OUT_OF_MEMORY), cx::OutOfMemoryError);
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_UNSUPPORTED), cx::UnsupportedError);
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_TIMEOUT), cx::TimeoutError);
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_DEVICE_LOST), cx::DeviceLostError);
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_DEVICE_FAULT), cx::DeviceFault);
  CHECK_THROWS_AS(cx::throw_result(CX_ERROR_INTERNAL), cx::Error);
  CHECK_THROWS_WITH(cx::Device::open("no-such-card"), Catch::Contains("CX_ERROR_INPUT: no-such-card: no such "
                                                                      "configuration file"));
  CHECK_THROWS_AS(cx::Device::connect("elsewhere:1"), cx::InputError);
  CHECK_THROWS_AS(cx::Program::load("/nonexistent.cxb"), cx::InputError);

  const auto device = cx::Device::open("tiny", {"spm.kib=256"});
  CHECK_THROWS_AS(cx::Session(device, "/nonexistent.onnx"), cx::InputError);
  const std::string path = scratch("_bad.onnx");
  REQUIRE(write_layer_model(path.c_str(), "NoSuchOperator") == 0);
  CHECK_THROWS_AS(cx::Session(device, path).run({cx::Tensor::of<float>("x", {1, 3}, {1, 2, 3})}), cx::UnsupportedError);
  std::filesystem::remove(path);
  cx::Executable executable(device, sample(device));
  CHECK_THROWS_AS(executable.run({}), cx::InputError);
  CHECK_THROWS_AS(executable.run({x_of({1, 2, 3})}), cx::InputError);
  CHECK_THROWS_AS(executable.run({x_of(ramp(0))}, {"z"}), cx::InputError);
  CHECK_THROWS_AS(cx::DeviceTensor(device, "float33", {1}), cx::InputError);
  cx::DeviceTensor wrong(device, "float32", {3});
  CHECK_THROWS_AS(executable.bind_input("x", wrong), cx::InputError);
  CHECK_THROWS_AS(wrong.write(std::vector<float>(4)), cx::InputError);
}
