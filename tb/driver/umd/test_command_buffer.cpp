// Packet lists that are recorded once, on the simulated card.
#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "driver/umd/command_buffer.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/driver/transport/served_card.hpp"
#include "tb/driver/umd/launch.hpp"

using namespace cx;

namespace {

constexpr uint32_t kElements = 64;
constexpr uint64_t kBytes = kElements * 4;

std::unique_ptr<Device> open_card() { return tb::open_test_card("configs/chips/tiny.yaml"); }

// Input copy, launch, output copy: what a run of a program is.
struct Run {
  explicit Run(Device &device)
      : launch(device, test::sample_program(device.target().arch_hash, kElements, 1.5f).image, kBytes),
        x(device.allocate_host(kBytes, false)),
        y(device.allocate_host(kBytes)),
        commands(device) {
    commands.copy_to_device(launch.in.address(), x.iova(), kBytes);
    launch_index =
        commands.launch(launch.image.address(), static_cast<uint32_t>(launch.image.size()), launch.table.address(), 4);
    commands.copy_to_host(y.iova(), launch.out.address(), kBytes);
  }
  void put(const std::vector<float> &values) const { std::memcpy(x.data(), values.data(), kBytes); }
  std::vector<float> take() const {
    std::vector<float> values(kElements);
    std::memcpy(values.data(), y.data(), kBytes);
    std::memset(y.data(), 0xff, kBytes);
    return values;
  }
  tb::Launch launch;
  HostBuffer x, y;
  CommandBuffer commands;
  uint32_t launch_index;
};

}  // namespace

TEST_CASE("A replay encodes nothing and gives what the packets one by one give") {
  const uint32_t seed = 3;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-4, 4);
  const auto device = open_card();
  Run run(*device);
  Queue &queue = device->queue();
  run.commands.finish();
  REQUIRE(run.commands.size() == 3);
  for (int round = 0; round < 20; ++round) {
    std::vector<float> x(kElements);
    for (float &value : x) value = uniform(random);
    run.put(x);
    queue.copy_to_device(run.launch.in.address(), run.x.iova(), kBytes);
    run.launch.submit(queue);
    queue.copy_to_host(run.y.iova(), run.launch.out.address(), kBytes).wait();
    const std::vector<float> expected = run.take();

    const Queue::Stats before = queue.stats();
    const Counters counters = device->counters();
    const Completion &completion = queue.execute(run.commands, {.interrupt = true}).wait();
    const Counters cost = device->counters_since(counters);
    REQUIRE(run.take() == expected);
    REQUIRE(queue.stats().encoded == before.encoded);
    REQUIRE(queue.stats().submitted == before.submitted + 1);
    REQUIRE(queue.stats().doorbells == before.doorbells + 1);
    REQUIRE(cost.packets == 4);  // the list's and the one that runs it
    REQUIRE(cost.interrupts == 1);
    REQUIRE(completion.end > completion.start);
    REQUIRE(completion.entry == 0);
  }
}

TEST_CASE("Every kind of packet can be recorded") {
  const auto device = open_card();
  const DeviceBuffer a = device->allocate(4096), b = device->allocate(4096);
  const HostBuffer host = device->allocate_host(4096), words = device->allocate_host(64),
                   record = device->allocate_host(64);
  const auto word = [&](size_t index) {
    uint64_t value = 0;
    std::memcpy(&value, words.data() + 8 * index, sizeof value);
    return value;
  };
  CommandBuffer commands(*device);
  commands.fill(a.address(), 4096, 0x01020304);
  commands.copy_on_device(b.address(), a.address(), 4096);
  commands.copy_2d(CX_DIRECTION_DEVICE_TO_HOST, host.iova(), 128, b.address(), 64, 32, 16);
  commands.signal(words.iova(), 7, CX_SIGNAL_OP_ADD);
  commands.wait_value(words.iova(), CX_COMPARE_GE, 7);
  commands.signal(words.iova() + 8, 5, CX_SIGNAL_OP_MAX);
  commands.timestamp(words.iova() + 16);
  const uint32_t last = commands.signal(words.iova() + 24, 1, CX_SIGNAL_OP_SET);
  commands.set_record(last, record.iova(), 99);
  commands.finish();
  const Completion run = device->queue().execute(commands).wait();
  REQUIRE(word(0) == 7);
  REQUIRE(word(1) == 5);
  REQUIRE(word(2) >= run.start);
  REQUIRE(word(2) <= run.end);
  REQUIRE(word(3) == 1);
  cx_completion seen;
  std::memcpy(&seen, record.data(), sizeof seen);
  REQUIRE(seen.value == 99);
  REQUIRE(seen.status == CX_STATUS_OK);
  for (size_t at = 0; at < 2048; ++at) {
    const bool copied = at % 128 < 32;
    REQUIRE(host.data()[at] == std::byte{static_cast<uint8_t>(copied ? 4 - at % 4 : 0)});
  }
  device->queue().execute(commands).wait();
  REQUIRE(word(0) == 14);
}

TEST_CASE("What may change in a finished list, and when") {
  const auto device = open_card();
  Run run(*device);
  REQUIRE_THROWS_AS(device->queue().execute(run.commands), UsageError);
  REQUIRE_THROWS_AS(run.commands.patch_launch(run.launch_index, 0, 4), UsageError);
  const HostBuffer flag = device->allocate_host(64);
  const uint32_t wait = run.commands.wait_value(flag.iova(), CX_COMPARE_EQ, 1);
  run.commands.finish();
  REQUIRE_THROWS_AS(run.commands.finish(), UsageError);
  REQUIRE_THROWS_AS(run.commands.timestamp(flag.iova()), UsageError);
  REQUIRE_THROWS_AS(run.commands.set_record(0, flag.iova(), 1), UsageError);
  REQUIRE_THROWS_AS(CommandBuffer(*device).finish(), UsageError);

  Queue &other = device->create_queue();
  const Fence fence = device->queue().execute(run.commands);
  REQUIRE(run.commands.running());
  REQUIRE_THROWS_AS(run.commands.patch_value(wait, 2), UsageError);
  other.signal(flag.iova(), 1).wait();
  fence.wait();
  REQUIRE_FALSE(run.commands.running());

  // Another input buffer, another program's arguments, another value to wait for.
  const tb::Launch second(*device, test::sample_program(device->target().arch_hash, kElements, -2.0f).image, kBytes);
  const HostBuffer x = device->allocate_host(kBytes, false);
  const std::vector<float> ones(kElements, 1.0f), fours(kElements, 4.0f);
  run.put(ones);
  std::memcpy(x.data(), fours.data(), kBytes);
  run.commands.patch_copy(0, run.launch.in.address(), x.iova());
  run.commands.patch_value(wait, 0);
  other.signal(flag.iova(), 0).wait();
  device->queue().execute(run.commands).wait();
  REQUIRE(run.take() == std::vector<float>(kElements, 5.5f));
  device->upload(second.in.address(), std::as_bytes(std::span(fours)));
  const cx_segment segments[4] = {{run.launch.image.address(), run.launch.image.size()},
                                  {0, 0},
                                  {second.in.address(), second.in.size()},
                                  {run.launch.out.address(), run.launch.out.size()}};
  const DeviceBuffer table = device->allocate(sizeof segments);
  device->upload(table.address(), std::as_bytes(std::span(segments)));
  run.commands.patch_launch(run.launch_index, table.address(), 4);
  run.commands.patch_copy(0, run.launch.in.address(), run.x.iova());
  device->queue().execute(run.commands).wait();
  REQUIRE(run.take() == std::vector<float>(kElements, 5.5f));  // of the second input, 4
  REQUIRE_THROWS_AS(run.commands.patch_copy(run.launch_index, 0, 0), UsageError);
  REQUIRE_THROWS_AS(run.commands.patch_launch(0, 0, 4), UsageError);
  REQUIRE_THROWS_AS(run.commands.patch_value(0, 0), UsageError);
  REQUIRE_THROWS_AS(run.commands.patch_value(run.commands.size(), 0), UsageError);
}

TEST_CASE("The packet of a list that fails is named, and the list runs again") {
  const auto device = open_card();
  const HostBuffer words = device->allocate_host(64);
  CommandBuffer commands(*device);
  commands.signal(words.iova(), 1, CX_SIGNAL_OP_ADD);
  const uint32_t bad = commands.signal(0x5000, 1, CX_SIGNAL_OP_SET);
  commands.signal(words.iova() + 8, 1, CX_SIGNAL_OP_ADD);
  commands.finish();
  for (uint64_t round = 1; round <= 2; ++round) {
    const Fence fence = device->queue().execute(commands);
    const Completion &completion = fence.wait_status();
    REQUIRE(completion.status == CX_STATUS_IOMMU_FAULT);
    REQUIRE(completion.entry == bad + 1);
    REQUIRE(fence.fault()->address == 0x5000);
    REQUIRE_THROWS_WITH(fence.wait(), Catch::Contains("packet 1 of its list: SIGNAL"));
    uint64_t seen[2];
    std::memcpy(seen, words.data(), sizeof seen);
    REQUIRE(seen[0] == round);
    REQUIRE(seen[1] == 0);
  }
  device->queue().nop().wait();
}

TEST_CASE("A list outlives its command buffer until its runs have ended") {
  const auto device = open_card();
  const auto before = device->iova_stats().live;
  {
    const HostBuffer words = device->allocate_host(64);
    Queue &other = device->create_queue();
    Fence first, second;
    {
      CommandBuffer commands(*device);
      commands.wait_value(words.iova(), CX_COMPARE_GE, 1);
      for (int i = 0; i < 20; ++i) commands.signal(words.iova() + 8, 1, CX_SIGNAL_OP_ADD);
      commands.finish();
      first = device->queue().execute(commands);
      second = device->queue().execute(commands);
    }
    other.signal(words.iova(), 1).wait();
    second.wait();
    REQUIRE(first.done());
    uint64_t count = 0;
    std::memcpy(&count, words.data() + 8, sizeof count);
    REQUIRE(count == 40);
    device->destroy_queue(other);
  }
  REQUIRE(device->iova_stats().live == before);
}
