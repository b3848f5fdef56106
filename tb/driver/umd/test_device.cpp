#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "driver/umd/device.hpp"
#include "firmware/image.h"
#include "tb/driver/umd/mock_card.hpp"

using namespace cx;
using cx::test::MockCard;

namespace {

struct Bench {
  explicit Bench(const std::function<void(MockCard &)> &prepare = {}, const DeviceOptions &options = {}) {
    auto owned = std::make_unique<MockCard>();
    card = owned.get();
    if (prepare) prepare(*card);
    card->apply();
    device = Device::open(std::move(owned), options);
  }
  MockCard *card;
  std::unique_ptr<Device> device;
};

std::vector<std::byte> random_bytes(std::mt19937 &random, size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::byte &byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

}  // namespace

TEST_CASE("a card is found, set up and booted") {
  Bench bench;
  const DeviceInfo &info = bench.device->info();
  REQUIRE(info.vendor_id == CX_PCI_VENDOR_ID);
  REQUIRE(info.device_id == CX_PCI_DEVICE_ID);
  REQUIRE(info.bar0_bytes == CX_BAR0_SIZE);
  REQUIRE(info.bar2_bytes == MockCard::kTcmBytes);
  REQUIRE(info.msix_vectors == CX_PCI_MSIX_VECTORS);
  REQUIRE(info.queues == MockCard::kQueues);
  REQUIRE(info.firmware_protocol == CX_PACKET_PROTOCOL);
  REQUIRE(bench.card->bus_master());
  REQUIRE(bench.card->msix_enabled());
  REQUIRE(std::memcmp(bench.card->tcm().data(), cx_firmware_image, cx_firmware_image_size) == 0);
  const Target &target = bench.device->target();
  REQUIRE(target.arch_hash == MockCard::kArchHash);
  REQUIRE(target.clock_khz == 1'000'000);
  REQUIRE(target.tiles == 2);
  REQUIRE(target.tile_rows == 16);
  REQUIRE(target.tile_pack == 4);
  REQUIRE(target.output_stationary);
  REQUIRE(target.dram_bytes == MockCard::kDramBytes);
  REQUIRE(bench.device->memory_stats().capacity == MockCard::kDramBytes);
}

TEST_CASE("what is not the expected card is refused") {
  const auto open = [](const std::function<void(MockCard &)> &prepare) { Bench bench(prepare); };
  REQUIRE_THROWS_WITH(open([](MockCard &card) { card.faults.vendor = 0xffff; }), Catch::Contains("is not a CXVP card"));
  REQUIRE_THROWS_WITH(open([](MockCard &card) { card.faults.magic = 1; }), Catch::Contains("dev.MAGIC is 0x1"));
  REQUIRE_THROWS_WITH(open([](MockCard &card) { card.faults.protocol = 9; }), Catch::Contains("protocol 9"));
  REQUIRE_THROWS_WITH(open([](MockCard &card) { card.faults.boot_state = 3; }), Catch::Contains("crashed"));
  REQUIRE_THROWS_AS(open([](MockCard &card) { card.faults.boot_state = 1; }), TimeoutError);
}

TEST_CASE("copies and fills of all shapes arrive") {
  const uint32_t seed = 7;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  DeviceOptions options;
  options.staging_bytes = 8192;
  Bench bench({}, options);
  Device &device = *bench.device;
  for (const size_t size : {1u, 3u, 64u, 4095u, 4096u, 4097u, 8192u, 8193u, 100'001u}) {
    const DeviceBuffer buffer = device.allocate(size), other = device.allocate(size);
    const auto data = random_bytes(random, size);
    device.upload(buffer.address(), data);
    REQUIRE(std::memcmp(bench.card->dram(buffer.address(), size), data.data(), size) == 0);
    device.copy(other.address(), buffer.address(), size);
    std::vector<std::byte> back(size);
    device.download(back, other.address());
    REQUIRE(back == data);
  }
  for (const auto &[row_bytes, rows, pitch] :
       {std::tuple{16u, 1u, 16u}, {17u, 50u, 33u}, {4096u, 5u, 5000u}, {9000u, 3u, 9001u}, {1u, 9000u, 2u}}) {
    const uint64_t extent = uint64_t{pitch} * (rows - 1) + row_bytes;
    const DeviceBuffer buffer = device.allocate(extent);
    const auto clean = random_bytes(random, extent);
    device.upload(buffer.address(), clean);
    const auto data = random_bytes(random, extent);
    device.upload_2d(buffer.address(), pitch, data.data(), pitch, row_bytes, rows);
    std::vector<std::byte> all(extent), expected = clean;
    for (uint32_t r = 0; r < rows; ++r) std::memcpy(expected.data() + r * pitch, data.data() + r * pitch, row_bytes);
    device.download(all, buffer.address());
    REQUIRE(all == expected);
    std::vector<std::byte> packed(uint64_t{row_bytes} * rows);
    device.download_2d(packed.data(), row_bytes, buffer.address(), pitch, row_bytes, rows);
    for (uint32_t r = 0; r < rows; ++r)
      REQUIRE(std::memcmp(packed.data() + r * row_bytes, data.data() + r * pitch, row_bytes) == 0);
    REQUIRE_THROWS_AS(device.upload_2d(buffer.address() + 1, pitch, data.data(), pitch, row_bytes, rows), UsageError);
  }
  const DeviceBuffer buffer = device.allocate(4096);
  device.fill(buffer.address(), 4096, 0xdeadbeef);
  uint32_t word = 0;
  std::memcpy(&word, bench.card->dram(buffer.address() + 4092, 4), 4);
  REQUIRE(word == 0xdeadbeef);
  REQUIRE_THROWS_AS(device.fill(buffer.address() + 2, 4, 0), UsageError);
  REQUIRE_THROWS_AS(device.fill(buffer.address(), 4100, 0), UsageError);
  REQUIRE_THROWS_AS(device.upload(buffer.address() + 4096, std::vector<std::byte>(1)), UsageError);
  device.upload(CX_MEM_SPM_BASE, std::vector<std::byte>(64));
  REQUIRE_THROWS_AS(device.upload(CX_MEM_SPM_BASE + MockCard::kSpmBytes, std::vector<std::byte>(1)), UsageError);
}

TEST_CASE("memory returns when its owner goes") {
  Bench bench;
  Device &device = *bench.device;
  const auto mappings = bench.card->mappings();
  {
    const DeviceBuffer a = device.allocate(1000, 4096);
    REQUIRE(a.address() % 4096 == 0);
    DeviceBuffer b = device.allocate(10);
    const DeviceBuffer c = std::move(b);
    REQUIRE_FALSE(b);
    REQUIRE(device.memory_stats().live == 2);
    const HostBuffer h = device.allocate_host(5000);
    REQUIRE(reinterpret_cast<uintptr_t>(h.data()) % 4096 == 0);
    REQUIRE(h.data()[4999] == std::byte{0});
    REQUIRE(bench.card->mappings() == mappings + 1);
  }
  REQUIRE(device.memory_stats().live == 0);
  REQUIRE(device.memory_stats().peak >= 1010);
  REQUIRE(bench.card->mappings() == mappings);
  REQUIRE_THROWS_AS(device.allocate(MockCard::kDramBytes + 1), OutOfMemoryError);
  REQUIRE_THROWS_AS(device.allocate_host(0), UsageError);
}

TEST_CASE("a ring wraps around and waits when it is full") {
  for (const uint32_t log2 : {1u, 2u, 5u}) {
    Bench bench;
    Queue &queue = bench.device->create_queue({log2, 0});
    const HostBuffer counter = bench.device->allocate_host(8);
    std::vector<Fence> fences;
    constexpr uint32_t kPackets = 100;
    for (uint32_t i = 0; i < kPackets; ++i) {
      fences.push_back(queue.signal(counter.iova(), 1, true, {.ring = i % 3 == 0}));
      REQUIRE(queue.outstanding() <= queue.capacity());
    }
    queue.drain();
    REQUIRE(queue.outstanding() == 0);
    uint64_t value = 0;
    std::memcpy(&value, counter.data(), 8);
    REQUIRE(value == kPackets);
    REQUIRE(queue.stats().full_waits > 0);
    REQUIRE(queue.stats().completed == kPackets);
    for (uint32_t i = 0; i < kPackets; ++i) {
      REQUIRE(fences[i].done());
      REQUIRE(fences[i].index() == i);
      if (i) REQUIRE(fences[i].wait().start >= fences[i - 1].wait().start);
    }
    REQUIRE(bench.card->doorbells.back() == kPackets);
  }
}

TEST_CASE("queues come and go") {
  Bench bench;
  Device &device = *bench.device;
  std::vector<Queue *> queues;
  for (uint32_t i = 1; i < MockCard::kQueues; ++i) queues.push_back(&device.create_queue({4, i % 4}));
  REQUIRE_THROWS_AS(device.create_queue(), OutOfMemoryError);
  REQUIRE_THROWS_AS(device.create_queue({0, 0}), UsageError);
  REQUIRE_THROWS_AS(device.create_queue({17, 0}), UsageError);
  REQUIRE_THROWS_AS(device.create_queue({4, 4}), UsageError);
  REQUIRE_THROWS_AS(device.destroy_queue(device.queue()), UsageError);
  const Fence fence = queues[1]->nop();
  REQUIRE_THROWS_AS(device.destroy_queue(*queues[1]), UsageError);
  fence.wait();
  device.destroy_queue(*queues[1]);
  REQUIRE(fence.done());
  REQUIRE(device.create_queue().id() == 2);
}

TEST_CASE("fences raise interrupts when they are asked to") {
  Bench bench;
  Queue &queue = bench.device->queue();
  queue.nop().wait();
  REQUIRE(bench.device->interrupts(1) == 0);
  queue.nop({.interrupt = true}).wait();
  REQUIRE(bench.device->interrupts(1) == 1);
  REQUIRE_THROWS_AS(Fence().wait(), UsageError);
}

TEST_CASE("a failed packet is a typed fault and the next one works") {
  Bench bench;
  Device &device = *bench.device;
  Queue &queue = device.queue();
  const DeviceBuffer buffer = device.allocate(64);
  const Fence bad = queue.copy_to_device(buffer.address(), 0x1000, 64, {.interrupt = true});
  try {
    bad.wait();
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    REQUIRE(fault.record().status == CX_STATUS_IOMMU_FAULT);
    REQUIRE(fault.record().queue == 0);
    REQUIRE(fault.record().packet == bad.index());
    REQUIRE(fault.record().address == 0x1000);
    REQUIRE_THAT(fault.what(),
                 Catch::Contains("IOMMU_FAULT") && Catch::Contains("address 0x1000") && Catch::Contains("COPY"));
  }
  REQUIRE_THROWS_AS(bad.wait(), DeviceFault);
  REQUIRE_FALSE(device.take_fault());
  queue.fill(buffer.address(), 64, 1).wait();
  REQUIRE(device.interrupts(0) == 1);
}

TEST_CASE("several faults in flight are told apart") {
  Bench bench;
  Queue &queue = bench.device->queue();
  std::vector<Fence> fences;
  for (uint64_t i = 0; i < 6; ++i) {
    fences.push_back(i % 2 ? queue.copy_to_device(CX_MEM_DRAM_BASE, 0x1000 * i, 64, {.ring = false})
                           : queue.fill(CX_MEM_DRAM_BASE + 64 * i, 64, 0, {.ring = false}));
  }
  queue.flush();
  REQUIRE_THROWS_AS(queue.drain(), DeviceFault);
  REQUIRE_NOTHROW(queue.drain());
  for (uint64_t i = 0; i < 6; ++i) {
    const Completion &completion = fences[i].wait_status();
    REQUIRE((completion.status == CX_STATUS_IOMMU_FAULT) == (i % 2 == 1));
    REQUIRE(fences[i].fault().has_value() == (i % 2 == 1));
    if (i % 2) REQUIRE(fences[i].fault()->packet == fences[i].index());
  }
  REQUIRE(queue.stats().failed == 3);
}

TEST_CASE("raw packets go out as they are") {
  Bench bench;
  Device &device = *bench.device;
  Queue &queue = device.queue();
  Queue::RawPacket packet{};
  packet[0] = 200;
  const Fence patched = queue.submit_raw(packet, true);
  REQUIRE(patched.wait_status().status == CX_STATUS_BAD_TYPE);
  const Fence bare = queue.submit_raw(packet, false);
  REQUIRE(bare.wait_status().status == CX_STATUS_BAD_TYPE);
  packet[0] = CX_PKT_NOP;
  packet[63] = 1;
  const Fence reserved = queue.submit_raw(packet, true);
  const Completion &completion = reserved.wait_status();
  REQUIRE(completion.status == CX_STATUS_RESERVED_BITS);
  REQUIRE(completion.detail == 63);
  packets::Nop nop;
  nop.vector = 5;
  const Fence good = queue.submit_raw(nop.to_bytes(), false);
  REQUIRE(good.wait_status().status == CX_STATUS_OK);
  REQUIRE(device.interrupts(5) == 1);
  queue.nop().wait();
}

TEST_CASE("a device that does not answer is a timeout, not a hang") {
  Bench bench;
  bench.card->faults.silent = true;
  const Fence fence = bench.device->queue().nop();
  REQUIRE_THROWS_AS(fence.wait(1000), TimeoutError);
  REQUIRE_FALSE(fence.done());
  Queue &queue = bench.device->queue();
  while (queue.outstanding() < queue.capacity()) queue.nop({.ring = false});
  REQUIRE_THROWS_AS(queue.nop(), TimeoutError);
  bench.card->faults.silent = false;
  fence.wait();
  queue.drain();
}

TEST_CASE("accesses that the card refuses are typed") {
  Bench bench;
  REQUIRE_THROWS_AS(bench.device->read_register(0xff000), DeviceFault);
  REQUIRE_THROWS_AS(bench.device->write_register(0x2, 1), DeviceFault);
  bench.device->queue().nop().wait();
}
