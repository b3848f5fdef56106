// The card with the most of everything: 384 tiles, 64 GiB.
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/runtime/executable.hpp"
#include "tb/driver/runtime/sample_program.hpp"

using namespace cx;

namespace {

constexpr uint32_t kElements = 64;
constexpr int64_t kGiB = int64_t{1} << 30;

}  // namespace

TEST_CASE("registers of the large card hold what its configuration says") {
  const auto device = Device::open("configs/chips/x1.yaml");
  const Target &target = device->target();
  CHECK(target.tiles == 384);
  CHECK(target.dram_bytes == uint64_t{64} << 30);
  CHECK(target.dram_mbps == 3276800);
  CHECK(target.spm_bytes == 48u << 20);
  CHECK(target.spm_bytes_per_cycle == 16384);
  CHECK(target.vpu_lanes == 4096);
  CHECK(target.semaphores == 256);
}

TEST_CASE("a program runs in the last of 64 GiB") {
  const auto device = Device::open("configs/chips/x1.yaml");
  // Nothing of it is touched, so that the host has no memory for it.
  const DeviceTensor below = DeviceTensor::allocate(*device, "uint8", {63, kGiB});
  Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
  const DeviceTensor x = DeviceTensor::allocate(*device, "float32", {1, kElements});
  REQUIRE(x.address() >= below.address() + below.bytes());
  HostTensor input{"x", "float32", {1, kElements}, std::vector<std::byte>(kElements * 4)};
  for (uint32_t i = 0; i < kElements; ++i) {
    const float value = static_cast<float>(i) - 30;
    std::memcpy(input.bytes.data() + 4 * i, &value, 4);
  }
  const std::vector<HostTensor> outputs = executable.run({&input, 1});
  for (uint32_t i = 0; i < kElements; ++i) {
    float value = 0;
    std::memcpy(&value, outputs.at(0).bytes.data() + 4 * i, 4);
    CHECK(value == std::max(static_cast<float>(i) - 30 + 1.5f, 0.0f));
  }
}
