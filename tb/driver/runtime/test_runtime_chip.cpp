// Programs on the simulated card.
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/runtime/executable.hpp"
#include "driver/umd/command_buffer.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/driver/transport/served_card.hpp"

using namespace cx;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";
constexpr uint32_t kElements = 64;

HostTensor input_tensor(float offset) {
  HostTensor tensor{"x", "float32", {1, kElements}, std::vector<std::byte>(kElements * 4)};
  for (uint32_t i = 0; i < kElements; ++i) {
    const float value = static_cast<float>(i) + offset;
    std::memcpy(tensor.bytes.data() + 4 * i, &value, 4);
  }
  return tensor;
}

void require_output(const HostTensor &y, float offset) {
  for (uint32_t i = 0; i < kElements; ++i) {
    float value = 0;
    std::memcpy(&value, y.bytes.data() + 4 * i, 4);
    REQUIRE(value == std::max(static_cast<float>(i) + offset + 1.5f, 0.0f));
  }
}

}  // namespace

TEST_CASE("a program runs on the card again and again") {
  const auto device = tb::open_test_card(kChip);
  Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
  uint64_t launch_cycles = 0;
  for (int round = 0; round < 4; ++round) {
    const float offset = static_cast<float>(-10 * round);
    const HostTensor input = input_tensor(offset);
    const auto outputs = executable.run({&input, 1});
    require_output(outputs[0], offset);
    const RunReport &report = executable.report();
    REQUIRE(report.counters.packets == 3);
    REQUIRE(report.counters.interrupts == 1);
    REQUIRE(report.launch_cycles > 0);
    REQUIRE(report.cycles > report.launch_cycles);
    REQUIRE(report.latency_us == Approx(static_cast<double>(report.cycles) / 500.0));
    REQUIRE(report.counters.engines[0].ops == kElements + 16);
    REQUIRE(report.counters.engines[3].instructions == 8);
    REQUIRE(report.counters.firmware_instructions > 0);
    // Input, ring and programs go in; outputs and records come out. Reading registers is not counted with them.
    REQUIRE(report.counters.pcie_to_device >= kElements * 4 + 3 * 64);
    REQUIRE(report.counters.pcie_to_host >= kElements * 4 + 3 * 32);
    REQUIRE(report.counters.pcie_to_host < kElements * 4 + 3 * 32 + 512);
    REQUIRE(report.counters.dram_read >= kElements * 4);
    // The span holds the packets and little else; no DRAM moves but for them, at 40 pJ a byte.
    REQUIRE(report.energy.cycles > report.cycles);
    REQUIRE(report.energy.cycles < report.cycles + 5000);
    REQUIRE(report.energy.domains[CX_POWER_DOMAINS_LAST_DRAM].value ==
            40'000 * (report.counters.dram_read + report.counters.dram_written));
    REQUIRE(report.energy.domains[CX_POWER_DOMAINS_LAST_VPU].value > 0);
    REQUIRE(report.energy.domains[CX_POWER_DOMAINS_LAST_SCA].value == 0);
    for (const double share : report.utilisation) REQUIRE((share >= 0 && share <= 1));
    if (round > 1) REQUIRE(report.launch_cycles == launch_cycles);
    launch_cycles = report.launch_cycles;
  }
}

TEST_CASE("two programs share the card") {
  const auto device = tb::open_test_card(kChip);
  Executable first(*device, test::sample_program(device->target().arch_hash, kElements));
  Executable second(*device, test::sample_program(device->target().arch_hash, kElements));
  for (int round = 0; round < 2; ++round) {
    const HostTensor a = input_tensor(1), b = input_tensor(-20);
    require_output(first.run({&a, 1})[0], 1);
    require_output(second.run({&b, 1})[0], -20);
  }
}

TEST_CASE("the device refuses a program of another architecture") {
  const auto device = tb::open_test_card(kChip);
  REQUIRE_THROWS_AS(Executable(*device, test::sample_program(3, kElements)), InputError);
  Executable executable(*device, test::sample_program(3, kElements), {.skip_arch_check = true});
  const HostTensor input = input_tensor(0);
  try {
    executable.run({&input, 1});
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    REQUIRE(fault.record().status == CX_STATUS_WRONG_ARCH);
  }
  Executable good(*device, test::sample_program(device->target().arch_hash, kElements));
  require_output(good.run({&input, 1})[0], 0);
}

TEST_CASE("a launch that leaves its segment names the node") {
  const auto device = tb::open_test_card(kChip);
  // The program moves 64 elements, the binding holds 32.
  Program program = test::sample_program(device->target().arch_hash, kElements);
  program.inputs[0].shape = {1, kElements / 2};
  program.inputs[0].bytes = kElements * 2;
  Executable executable(*device, program);
  HostTensor input = input_tensor(0);
  input.shape = program.inputs[0].shape;
  input.bytes.resize(program.inputs[0].bytes);
  try {
    executable.run({&input, 1});
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    REQUIRE(fault.record().status == CX_STATUS_SEGMENT_FAULT);
    REQUIRE(fault.record().engine == 0);
    REQUIRE(fault.record().pc == 4);
    REQUIRE_THAT(fault.what(), Catch::Contains("load #4 node input"));
  }
}

TEST_CASE("the array's split follows the programs") {
  constexpr uint32_t kSwitchCycles = 3000;
  const auto device =
      tb::open_test_card(kChip, {.overrides = {"array.shared=true", "array.sca_tiles=1",
                                               "array.switch_cycles=" + std::to_string(kSwitchCycles)}});
  const Target &target = device->target();
  REQUIRE(target.shared_array);
  REQUIRE(target.array_switch_cycles == kSwitchCycles);
  REQUIRE(target.sca_tiles == 2);
  CHECK(device->array_split() == 1);
  const auto program = [&](uint32_t sca_tiles) {
    return test::sample_program(target.arch_hash, kElements, 1.5f, false, nullptr, sca_tiles);
  };
  Executable dense(*device, program(0)), sparse(*device, program(2));
  const HostTensor input = input_tensor(-3);
  const auto run = [&](Executable &executable, uint32_t sca_tiles, uint64_t changes) {
    require_output(executable.run({&input, 1})[0], -3);
    CHECK(device->array_split() == sca_tiles);
    const RunReport &report = executable.report();
    CHECK(report.reconfigurations == changes);
    CHECK(report.counters.packets == 3 + changes);
    CHECK((report.reconfiguration_cycles >= kSwitchCycles) == (changes != 0));
    CHECK(report.reconfiguration_cycles < kSwitchCycles + 2000);
    CHECK(report.cycles > report.launch_cycles + report.reconfiguration_cycles);
  };
  run(dense, 0, 1);
  run(dense, 0, 0);
  run(sparse, 2, 1);
  run(sparse, 2, 0);
  run(dense, 0, 1);

  Executable beyond(*device, program(3));
  try {
    beyond.run({&input, 1});
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    CHECK(fault.record().status == CX_STATUS_BAD_FIELD);
    REQUIRE_THAT(fault.what(), Catch::Contains("change of the array's split"));
  }
  run(sparse, 2, 1);

  // Without the runtime in between: a launch for another split.
  const ImageInfo info = parse_image(program(0).image);
  CHECK(info.sca_tiles == 0);
  const auto image = program(1).image;
  CHECK(parse_image(image).sca_tiles == 1);
  const DeviceBuffer place = device->allocate(image.size(), ImageBuilder::kMaxAlign);
  device->upload(place.address(), image);
  const DeviceBuffer table = device->allocate(4 * sizeof(cx_segment));
  const Fence fence = device->queue().launch(place.address(), static_cast<uint32_t>(image.size()), table.address(), 4);
  CHECK(fence.wait_status().status == CX_STATUS_WRONG_SPLIT);
  CHECK(fence.fault()->address == 2);
  run(dense, 0, 1);
}

TEST_CASE("a chip whose tiles stand side by side refuses a change") {
  const auto device = tb::open_test_card(kChip);
  CHECK_FALSE(device->target().shared_array);
  CHECK(device->queue().reconfigure(0).wait_status().status == CX_STATUS_UNSUPPORTED);
  Executable executable(*device, test::sample_program(device->target().arch_hash, kElements, 1.5f, false, nullptr, 1));
  const HostTensor input = input_tensor(0);
  try {
    executable.run({&input, 1});
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    CHECK(fault.record().status == CX_STATUS_BAD_PROGRAM);
  }
}

TEST_CASE("runs are repeatable to the cycle") {
  const auto run = [] {
    const auto device = tb::open_test_card(kChip);
    Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
    const HostTensor input = input_tensor(0);
    std::vector<uint64_t> numbers;
    for (int i = 0; i < 2; ++i) {
      executable.run({&input, 1});
      const RunReport &r = executable.report();
      numbers.insert(numbers.end(), {r.cycles, r.launch_cycles, r.counters.cycles, r.counters.firmware_instructions,
                                     r.counters.noc, r.energy.cycles});
      for (const EnergyAmount &domain : r.energy.domains) {
        numbers.insert(numbers.end(), {domain.value, domain.least, domain.most});
      }
    }
    numbers.push_back(device->time_ps());
    return numbers;
  };
  REQUIRE(run() == run());
}

namespace {

// In and out of one shape, so that a result can be the next input.
Program loop_program(const Device &device, bool in_place, const std::shared_ptr<SharedConstants> &shared = nullptr,
                     float addend = 1.5f, uint32_t sca_tiles = 0) {
  Program program = test::sample_program(device.target().arch_hash, kElements, addend, in_place, shared, sca_tiles);
  program.outputs[0].shape = program.inputs[0].shape;
  return program;
}

}  // namespace

TEST_CASE("results stay on the device and become the next inputs") {
  const auto device = tb::open_test_card(kChip);
  ExecutableOptions options;
  options.device_bound = {"x", "y"};
  Executable executable(*device, loop_program(*device, false), options);
  DeviceTensor a = DeviceTensor::from_host(*device, input_tensor(0));
  DeviceTensor b = DeviceTensor::allocate(*device, "float32", {1, kElements});
  for (int step = 0; step < 5; ++step) {
    executable.bind_input("x", a);
    executable.bind_output("y", b);
    REQUIRE(executable.run({}).empty());
    const RunReport &report = executable.report();
    REQUIRE(report.input_bytes == 0);
    REQUIRE(report.output_bytes == 0);
    REQUIRE(report.resident_bytes == 2 * kElements * 4);
    // The segment table, the launch, and the driver's reads of the counters; nothing of the tensors crosses PCIe.
    REQUIRE(report.counters.packets == 2);
    REQUIRE(report.counters.pcie_to_host < kElements * 4);
    std::swap(a, b);
  }
  require_output(a.download(), 4 * 1.5f);
  // Bound tensors that do not change cost no table.
  executable.bind_input("x", a);
  executable.bind_output("y", b);
  executable.run({});
  executable.run({});
  REQUIRE(executable.report().counters.packets == 1);
  // A bound output can be asked for.
  const std::vector<std::string> names{"y"};
  const auto outputs = executable.run({}, names);
  REQUIRE(outputs.size() == 1);
  require_output(outputs[0], 5 * 1.5f);
  REQUIRE(executable.report().output_bytes == kElements * 4);
}

TEST_CASE("launches in streams and command buffers ask for their split of a shared array") {
  const auto device = tb::open_test_card(kChip, {.overrides = {"array.shared=true", "array.sca_tiles=1"}});
  ExecutableOptions options;
  options.device_bound = {"x", "y"};
  const auto program = [&](uint32_t sca_tiles) { return loop_program(*device, false, nullptr, 1.5f, sca_tiles); };
  Executable there(*device, program(0), options), back(*device, program(2), options);
  const DeviceTensor a = DeviceTensor::from_host(*device, input_tensor(0));
  const DeviceTensor b = DeviceTensor::allocate(*device, "float32", {1, kElements});
  there.bind_input("x", a);
  there.bind_output("y", b);
  back.bind_input("x", b);
  back.bind_output("y", a);
  const auto stream = device->streams().create();
  there.launch(*stream);
  stream->synchronize();
  CHECK(device->array_split() == 0);
  back.launch(*stream);
  there.launch(*stream);
  back.launch(*stream);
  stream->synchronize();
  CHECK(device->array_split() == 2);
  require_output(a.download(), 4 * 1.5f - 1.5f);

  CommandBuffer commands(*device);
  CHECK(there.record(commands) == 1);
  CHECK(back.record(commands, false) == 3);
  CHECK(commands.size() == 4);
  commands.finish();
  for (int step = 0; step < 2; ++step) stream->execute(commands);
  stream->synchronize();
  CHECK(device->array_split() == 2);
  require_output(a.download(), 8 * 1.5f - 1.5f);
}

TEST_CASE("launches go into streams and command buffers when everything is bound") {
  const auto device = tb::open_test_card(kChip);
  ExecutableOptions options;
  options.device_bound = {"x", "y"};
  Executable there(*device, loop_program(*device, false), options),
      back(*device, loop_program(*device, false), options);
  const DeviceTensor a = DeviceTensor::from_host(*device, input_tensor(0));
  const DeviceTensor b = DeviceTensor::allocate(*device, "float32", {1, kElements});
  const auto stream = device->streams().create();
  REQUIRE_THROWS_AS(there.launch(*stream), InputError);
  there.bind_input("x", a);
  CommandBuffer commands(*device);
  REQUIRE_THROWS_AS(there.record(commands), InputError);
  REQUIRE(commands.size() == 0);
  there.bind_output("y", b);
  back.bind_input("x", b);
  back.bind_output("y", a);
  there.launch(*stream);
  back.launch(*stream);
  stream->synchronize();
  require_output(a.download(), 2 * 1.5f - 1.5f);
  REQUIRE(there.record(commands) == 0);
  REQUIRE(back.record(commands) == 1);
  commands.finish();
  const uint64_t encoded = device->queue().stats().encoded;
  for (int step = 0; step < 4; ++step) stream->execute(commands);
  stream->synchronize();
  REQUIRE(device->queue().stats().encoded == encoded);
  require_output(a.download(), 10 * 1.5f - 1.5f);
  there.run({});
  require_output(b.download(), 11 * 1.5f - 1.5f);
}

TEST_CASE("an input is updated in place over many runs") {
  const auto device = tb::open_test_card(kChip);
  Executable executable(*device, loop_program(*device, true));
  const HostTensor input = input_tensor(-3);
  require_output(executable.run({&input, 1})[0], -3);  // copied in, updated, copied out
  DeviceTensor state = DeviceTensor::from_host(*device, input);
  executable.bind_input("x", state);
  for (int step = 0; step < 8; ++step) {
    REQUIRE(executable.run({}).empty());
    REQUIRE(executable.report().counters.packets == (step == 0 ? 2 : 1));
    REQUIRE(executable.report().resident_bytes == kElements * 4);
  }
  const std::vector<std::string> names{"y"};
  const auto outputs = executable.run({}, names);
  for (uint32_t i = 0; i < kElements; ++i) {
    // The first step cuts at 0, later ones only add.
    const float first = std::max(static_cast<float>(i) - 3 + 1.5f, 0.0f);
    float value = 0;
    std::memcpy(&value, outputs[0].bytes.data() + 4 * i, 4);
    REQUIRE(value == first + 8 * 1.5f);
  }
  REQUIRE(state.download().bytes == outputs[0].bytes);
  executable.bind_input("x", {});
  require_output(executable.run({&input, 1})[0], -3);
}

TEST_CASE("programs share constants that are uploaded once") {
  const auto device = tb::open_test_card(kChip);
  const auto constants = std::make_shared<SharedConstants>();
  ExecutableOptions options;
  options.constants = std::make_shared<ResidentConstants>(*device, constants);
  Executable first(*device, loop_program(*device, false, constants), options);
  Executable second(*device, loop_program(*device, true, constants), options);
  REQUIRE(constants->bytes().size() == 64);
  REQUIRE(constants->reused_bytes() == 64);
  REQUIRE(options.constants->uploaded_bytes() == 64);
  // A third program brings a constant of its own: the copy grows, and moves under the other programs.
  const uint64_t before = options.constants->address();
  const DeviceBuffer blocker = device->allocate(1 << 16);
  Executable third(*device, loop_program(*device, false, constants, -4.0f), options);
  REQUIRE(options.constants->uploaded_bytes() == 128);
  REQUIRE(options.constants->address() != before);
  const HostTensor input = input_tensor(0);
  for (int round = 0; round < 2; ++round) {
    require_output(first.run({&input, 1})[0], 0);
    require_output(second.run({&input, 1})[0], 0);
    require_output(third.run({&input, 1})[0], -5.5f);
    REQUIRE(third.report().counters.packets == 3);
  }
  REQUIRE_THROWS_WITH(Executable(*device, loop_program(*device, false, constants)),
                      Catch::Contains("needs the device copy of its shared constants"));
}

TEST_CASE("the first shared constants leave room for a few more where memory is plenty") {
  const auto device = tb::open_test_card(kChip);
  const auto constants = std::make_shared<SharedConstants>();
  constants->place(std::vector<std::byte>(8192, std::byte{1}));
  ExecutableOptions options;
  options.constants = std::make_shared<ResidentConstants>(*device, constants);
  Executable first(*device, loop_program(*device, false, constants), options);
  const uint64_t address = options.constants->address();
  const DeviceBuffer blocker = device->allocate(1 << 16);
  Executable second(*device, loop_program(*device, false, constants, -4.0f), options);
  REQUIRE(options.constants->address() == address);
  REQUIRE(options.constants->size() == 8192 + 2 * 64);
  REQUIRE(options.constants->uploaded_bytes() == options.constants->size());
  const HostTensor input = input_tensor(0);
  require_output(second.run({&input, 1})[0], -5.5f);
  require_output(first.run({&input, 1})[0], 0);

  // More than half of what is free: not a byte beyond what is needed.
  const auto many = std::make_shared<SharedConstants>();
  const uint64_t free = device->memory_stats().largest_free;
  many->place(std::vector<std::byte>(free / 2, std::byte{2}));
  ResidentConstants large(*device, many);
  large.update();
  REQUIRE(device->memory_stats().largest_free >= free - free / 2 - 4096);
}

TEST_CASE("bindings to device tensors are checked") {
  const auto device = tb::open_test_card(kChip);
  Executable executable(*device, loop_program(*device, false));
  Executable updating(*device, loop_program(*device, true));
  const HostTensor input = input_tensor(0);
  const DeviceTensor good = DeviceTensor::from_host(*device, input);
  const DeviceTensor flat = DeviceTensor::allocate(*device, "float32", {kElements});
  const DeviceTensor half = DeviceTensor::allocate(*device, "float16", {1, kElements});
  REQUIRE_THROWS_WITH(executable.bind_input("z", good), Catch::Contains("'z' is not an input of program 'sample'"));
  REQUIRE_THROWS_WITH(executable.bind_output("x", good), Catch::Contains("'x' is not an output of program 'sample'"));
  REQUIRE_THROWS_WITH(executable.bind_input("x", flat),
                      Catch::Contains("is float32 [1, 64], the device tensor is float32 [64]"));
  REQUIRE_THROWS_WITH(executable.bind_output("y", half), Catch::Contains("the device tensor is float16 [1, 64]"));
  REQUIRE_THROWS_WITH(updating.bind_output("y", good), Catch::Contains("bind the input"));
  executable.bind_input("x", good);
  REQUIRE_THROWS_WITH(executable.run({&input, 1}), Catch::Contains("bound to a device tensor and is given as well"));
  executable.bind_output("y", good);
  REQUIRE_THROWS_WITH(executable.run({}), Catch::Contains("bound to the same memory"));
  executable.bind_output("y", {});
  const std::vector<std::string> twice{"y", "y"}, unknown{"x"};
  REQUIRE_THROWS_WITH(executable.run({}, twice), Catch::Contains("asked for twice"));
  REQUIRE_THROWS_WITH(executable.run({}, unknown), Catch::Contains("'x' is not an output"));
  require_output(executable.run({})[0], 0);
  ExecutableOptions options;
  options.device_bound = {"x"};
  Executable waiting(*device, loop_program(*device, false), options);
  REQUIRE_THROWS_WITH(waiting.run({}), Catch::Contains("input 'x' has no memory"));
  options.device_bound = {"z"};
  REQUIRE_THROWS_WITH(Executable(*device, loop_program(*device, false), options), Catch::Contains("'z' is neither"));
  REQUIRE_THROWS_WITH(DeviceTensor::allocate(*device, "float32", {0, 3}), Catch::Contains("has no elements"));
  DeviceTensor odd = DeviceTensor::allocate(*device, "int8", {7});
  odd.upload(std::vector<std::byte>(7, std::byte{9}));
  odd.clear();
  REQUIRE(odd.download().bytes == std::vector<std::byte>(7));
  REQUIRE_THROWS_WITH(odd.upload(std::vector<std::byte>(8)), Catch::Contains("upload of 8 bytes"));
}

TEST_CASE("a run that faults leaves bindings as they were") {
  const auto device = tb::open_test_card(kChip);
  Program program = loop_program(*device, false);
  program.arch_hash = 3;
  program.image = test::sample_program(3, kElements).image;
  Executable executable(*device, program, {.skip_arch_check = true});
  const DeviceTensor a = DeviceTensor::from_host(*device, input_tensor(0));
  executable.bind_input("x", a);
  REQUIRE_THROWS_AS(executable.run({}), DeviceFault);
  REQUIRE_THROWS_AS(executable.run({}), DeviceFault);
  REQUIRE(a.download().bytes == input_tensor(0).bytes);
}
