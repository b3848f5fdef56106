// Programs on the simulated card.
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/runtime/executable.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/driver/runtime/sample_program.hpp"

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
  const auto device = Device::open(kChip);
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
    for (const double share : report.utilisation) REQUIRE((share >= 0 && share <= 1));
    if (round > 1) REQUIRE(report.launch_cycles == launch_cycles);
    launch_cycles = report.launch_cycles;
  }
}

TEST_CASE("two programs share the card") {
  const auto device = Device::open(kChip);
  Executable first(*device, test::sample_program(device->target().arch_hash, kElements));
  Executable second(*device, test::sample_program(device->target().arch_hash, kElements));
  for (int round = 0; round < 2; ++round) {
    const HostTensor a = input_tensor(1), b = input_tensor(-20);
    require_output(first.run({&a, 1})[0], 1);
    require_output(second.run({&b, 1})[0], -20);
  }
}

TEST_CASE("the device refuses a program of another architecture") {
  const auto device = Device::open(kChip);
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
  const auto device = Device::open(kChip);
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

TEST_CASE("runs are repeatable to the cycle") {
  const auto run = [] {
    const auto device = Device::open(kChip);
    Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
    const HostTensor input = input_tensor(0);
    std::vector<uint64_t> numbers;
    for (int i = 0; i < 2; ++i) {
      executable.run({&input, 1});
      const RunReport &r = executable.report();
      numbers.insert(numbers.end(),
                     {r.cycles, r.launch_cycles, r.counters.cycles, r.counters.firmware_instructions, r.counters.noc});
    }
    numbers.push_back(device->time_ps());
    return numbers;
  };
  REQUIRE(run() == run());
}
