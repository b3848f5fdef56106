// The driver and a card in another process: the same run as in this process, and what happens when one side dies.
#include "driver/transport/vfio_user.hpp"

#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "driver/include/cx/cx.h"
#include "driver/include/cx/error.hpp"
#include "driver/umd/device.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"
#include "tb/driver/transport/served_card.hpp"

using namespace cx;
using cx::tb::ServedCard;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";

struct Trace {
  std::vector<uint64_t> times;
  std::vector<std::byte> bytes;
  bool operator==(const Trace &) const = default;
};

// Copies, fills, a failing packet: bytes and all times that the device states.
Trace exercise(Device &device) {
  Trace trace;
  std::mt19937 random(17);
  std::vector<std::byte> data(300'000);
  for (auto &byte : data) byte = static_cast<std::byte>(random());
  const DeviceBuffer a = device.allocate(data.size()), b = device.allocate(data.size());
  device.upload(a.address(), data);
  Queue &queue = device.queue();
  // Device time goes on when a card is used again; what counts is what passes.
  const uint64_t begin = device.time_cycles();
  const auto record = [&](const Fence &fence) {
    const Completion &c = fence.wait_status();
    trace.times.insert(trace.times.end(), {c.start - begin, c.end - begin, c.status, c.detail});
  };
  record(queue.copy_on_device(b.address(), a.address(), data.size()));
  record(queue.fill(b.address() + 4096, 8192, 0x12345678));
  record(queue.copy_on_device(0x1234, a.address(), 64));
  record(queue.copy_to_host(0x99'0000'0000, a.address(), 64));  // an address that is not mapped
  trace.bytes.resize(data.size());
  device.download(trace.bytes, b.address());
  const Counters counters = device.counters();
  trace.times.insert(trace.times.end(),
                     {device.time_cycles() - begin, device.time_ps(), counters.firmware_instructions});
  return trace;
}

/// BAR2 of a card in this process's memory.
struct Mapped {
  vfio::Fd file;
  uint64_t bytes = 0;
  uint8_t *data = nullptr;
  ~Mapped() {
    if (data != nullptr) munmap(data, bytes);
  }
};

/// A client without a driver.
class RawClient {
 public:
  explicit RawClient(const std::string &path) : channel_(vfio::connect_to(path.c_str())) {
    const std::string text = R"({"capabilities":{"cx_time":true}})";
    call(vfio::kVersion, vfio::Version{vfio::kMajor, vfio::kMinor},
         std::as_bytes(std::span(text.c_str(), text.size() + 1)));
  }
  template <class T>
  vfio::Message call(uint16_t command, const T &head, std::span<const std::byte> data = {}) {
    REQUIRE(channel_.send({1, command, 0, vfio::kTypeCommand, 0}, vfio::bytes_of(head), data));
    auto reply = channel_.receive(5000);
    REQUIRE(reply);
    REQUIRE((reply->header.flags & vfio::kError) == 0);
    return std::move(*reply);
  }
  std::unique_ptr<Mapped> map_bar2() {
    vfio::Message reply = call(vfio::kGetRegionInfo, vfio::RegionInfo{64, 0, 2, 0, 0, 0});
    REQUIRE(reply.payload.size() == sizeof(vfio::RegionInfo) + sizeof(vfio::SparseMmap));
    REQUIRE(reply.fds.size() == 1);
    vfio::SparseMmap area;
    std::memcpy(&area, reply.payload.data() + sizeof(vfio::RegionInfo), sizeof area);
    auto mapped = std::make_unique<Mapped>();
    mapped->file = std::move(reply.fds[0]);
    mapped->bytes = area.size;
    void *memory = mmap(nullptr, area.size, PROT_READ | PROT_WRITE, MAP_SHARED, mapped->file.get(), 0);
    REQUIRE(memory != MAP_FAILED);
    mapped->data = static_cast<uint8_t *>(memory);
    return mapped;
  }
  void enable_memory() { write(vfio::kConfig, 4, 6); }  // memory space and bus master
  uint32_t read(uint32_t region, uint64_t offset) {
    const vfio::Message reply = call(vfio::kRegionRead, vfio::RegionAccess{offset, region, 4});
    REQUIRE(reply.payload.size() == sizeof(vfio::RegionAccess) + 4);
    uint32_t value = 0;
    std::memcpy(&value, reply.payload.data() + sizeof(vfio::RegionAccess), 4);
    return value;
  }
  void write(uint32_t region, uint64_t offset, uint32_t value) {
    call(vfio::kRegionWrite, vfio::RegionAccess{offset, region, 4}, vfio::bytes_of(value));
  }

 private:
  vfio::Channel channel_;
};

double seconds_of(const std::function<void()> &action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

TEST_CASE("firmware memory is mapped by a client, and no longer its own when the client is gone") {
  const ServedCard card(kChip);
  std::vector<std::unique_ptr<Mapped>> kept;
  for (int round = 0; round < 2; ++round) {
    RawClient client(card.path());
    kept.push_back(client.map_bar2());
    Mapped &memory = *kept.back();
    REQUIRE(memory.bytes == 256 << 10);
    CHECK(std::all_of(memory.data, memory.data + memory.bytes, [](uint8_t byte) { return byte == 0; }));
    client.enable_memory();
    const uint32_t offset = 0x1234, stored = 0xcafe0001 + static_cast<uint32_t>(round);
    std::memcpy(memory.data + offset, &stored, sizeof stored);
    CHECK(client.read(2, offset) == stored);
    client.write(2, 0x2000, 0x1234567);
    CHECK(client.read(2, 0x2000) == 0x1234567);  // behind the posted write
    uint32_t seen = 0;
    std::memcpy(&seen, memory.data + 0x2000, sizeof seen);
    CHECK(seen == 0x1234567);
    CHECK(ftruncate(memory.file.get(), 0) != 0);  // would kill the card
    if (round == 1) {
      std::memset(kept.front()->data, 0x77, kept.front()->bytes);
      CHECK(client.read(2, offset) == stored);
    }
  }
  // A driver boots its firmware there.
  const auto device = Device::connect(card.address());
  CHECK(device->target().tiles == 2);
}

TEST_CASE("two cards in one process do not know of each other") {
  const ServedCard first(kChip), second(kChip, {"dmmu.tiles=4"});
  const auto a = Device::connect(first.address());
  const auto b = Device::connect(second.address());
  CHECK(a->target().tiles == 2);
  CHECK(b->target().tiles == 4);
  std::mt19937 random(3);
  std::vector<std::byte> data(50'000), back(data.size());
  for (auto &byte : data) byte = static_cast<std::byte>(random());
  const DeviceBuffer on_a = a->allocate(data.size()), on_b = b->allocate(data.size());
  a->upload(on_a.address(), data);
  a->download(back, on_a.address());
  b->upload(on_b.address(), back);
  std::fill(back.begin(), back.end(), std::byte{0});
  b->download(back, on_b.address());
  CHECK(back == data);
}

TEST_CASE("a device that is killed is lost within a second, whatever the client does then") {
  for (const bool waiting : {false, true}) {
    ServedCard card(kChip);
    const auto device = Device::connect(card.address());
    const DeviceBuffer buffer = device->allocate(1 << 20);
    const Fence fence = device->queue().fill(buffer.address(), 1 << 20, 1);
    std::thread killer;
    if (waiting) {
      killer = std::thread([&] { card.stop(); });
    } else {
      card.stop();
    }
    const double seconds = seconds_of([&] {
      // The fill may still have completed when the kill comes late; something after it fails.
      CHECK_THROWS_AS(
          [&] {
            for (;;) device->queue().fill(buffer.address(), 1 << 20, 1).wait();
          }(),
          DeviceLostError);
    });
    if (killer.joinable()) killer.join();
    CHECK(seconds < 10);  // a hang, not a speed
    CHECK_THROWS_AS(device->read_register(CX_MAP_DEV_OFFSET), DeviceLostError);
    CHECK_THROWS_AS(device->allocate_host(4096), DeviceLostError);
  }
}

TEST_CASE("the C API connects, and tells of a lost device") {
  ServedCard card(kChip);
  cx_device *device = nullptr;
  CHECK(cx_device_connect(nullptr, nullptr, 0, &device) == CX_ERROR_USAGE);
  CHECK(cx_device_connect("card", nullptr, 0, &device) == CX_ERROR_INPUT);
  CHECK(cx_device_connect("vfio-user:/nonexistent", nullptr, 0, &device) == CX_ERROR_INPUT);
  const char *set = "dmmu.tiles=4";
  CHECK(cx_device_connect(card.address().c_str(), &set, 1, &device) == CX_ERROR_INPUT);
  CHECK(device == nullptr);
  REQUIRE(cx_device_connect(card.address().c_str(), nullptr, 0, &device) == CX_SUCCESS);
  cx_device_info info{};
  info.struct_size = sizeof info;
  CHECK(cx_device_get_info(device, &info) == CX_SUCCESS);
  CHECK(info.tiles == 2);
  card.stop();
  CHECK(cx_device_get_info(device, &info) == CX_ERROR_DEVICE_LOST);
  CHECK(std::string(cx_last_error()).find("process is gone") != std::string::npos);
  CHECK(std::string(cx_result_string(CX_ERROR_DEVICE_LOST)) == "CX_ERROR_DEVICE_LOST");
  CHECK(cx_device_close(device) == CX_SUCCESS);
}

TEST_CASE("a client that is killed in its work leaves a card for the next one") {
  const ServedCard card(kChip);
  for (int round = 0; round < 3; ++round) {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    const pid_t client = fork();
    if (client == 0) {
      const auto device = Device::connect(card.address());
      const DeviceBuffer buffer = device->allocate(1 << 20);
      for (unsigned i = 0;; ++i) {
        device->queue().fill(buffer.address(), 1 << 20, i);
        if (i == 3) (void)!write(ready[1], "r", 1);
        if (i % 8 == 7) device->queue().drain();
      }
    }
    char byte = 0;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    REQUIRE(kill(client, SIGKILL) == 0);
    waitpid(client, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    const auto device = Device::connect(card.address());
    std::vector<std::byte> data(10'000, static_cast<std::byte>(round)), back(data.size());
    const DeviceBuffer buffer = device->allocate(data.size());
    device->upload(buffer.address(), data);
    device->download(back, buffer.address());
    CHECK(back == data);
    CHECK_FALSE(device->take_fault());
  }
}

TEST_CASE("memory that is not shared goes through messages") {
  const ServedCard card(kChip);
  auto owned = std::make_unique<VfioUserTransport>(card.path());
  VfioUserTransport *transport = owned.get();
  const auto device = Device::open(std::move(owned));
  constexpr size_t kBytes = 3 << 20;
  void *memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto *bytes = static_cast<std::byte *>(memory);
  std::mt19937 random(9);
  for (size_t i = 0; i < kBytes / 2; ++i) bytes[i] = static_cast<std::byte>(random());
  constexpr uint64_t kAt = 0x77'0000'0000;
  transport->dma_map(kAt, kBytes, memory, true);
  CHECK_THROWS_AS(transport->dma_map(kAt + 4096, 4096, memory, true), UsageError);
  const DeviceBuffer buffer = device->allocate(kBytes / 2);
  device->queue().copy_to_device(buffer.address(), kAt, kBytes / 2).wait();
  device->queue().copy_to_host(kAt + kBytes / 2, buffer.address(), kBytes / 2).wait();
  CHECK(std::memcmp(bytes, bytes + kBytes / 2, kBytes / 2) == 0);
  transport->dma_unmap(kAt, kBytes);
  CHECK(device->queue().copy_to_device(buffer.address(), kAt, 64).wait_status().status == CX_STATUS_IOMMU_FAULT);
  munmap(memory, kBytes);
}

TEST_CASE("a read-only mapping of the host is not written to") {
  const ServedCard card(kChip);
  const auto device = Device::connect(card.address());
  const HostBuffer shared = device->allocate_host(4096, false);
  const DeviceBuffer buffer = device->allocate(4096);
  CHECK(device->queue().copy_to_host(shared.iova(), buffer.address(), 64).wait_status().status ==
        CX_STATUS_IOMMU_FAULT);
}

TEST_CASE("accesses that the card refuses are errors to the one who made them") {
  const ServedCard card(kChip);
  const auto device = Device::connect(card.address());
  uint32_t value = 0;
  CHECK_THROWS_AS(device->transport().read(0, 0xffffc, &value, 4), DeviceFault);
  CHECK_THROWS_AS(device->transport().read(0, 2, &value, 2), DeviceFault);
  CHECK_THROWS_AS(device->transport().write(0, 1 << 20, &value, 4), DeviceFault);
  CHECK_THROWS_AS(device->transport().read(1, 0, &value, 4), DeviceFault);
  CHECK(device->read_register(CX_MAP_DEV_OFFSET) == 0x43585650);
}

TEST_CASE("addresses of devices") {
  using Catch::Matchers::Contains;
  CHECK_THROWS_WITH(Device::connect(""), Contains("expected inproc:FILE.yaml or vfio-user:SOCKET"));
  CHECK_THROWS_WITH(Device::connect("pci:0000:01:00.0"), Contains("pci:0000:01:00.0"));
  CHECK_THROWS_WITH(Device::connect("vfio-user:"), Contains("expected"));
  CHECK_THROWS_AS(Device::connect("vfio-user:/nonexistent/socket"), InputError);
  CHECK_THROWS_AS(Device::connect("vfio-user:" + std::string(200, 'x')), InputError);
  CHECK_THROWS_AS(Device::connect("inproc:/nonexistent.yaml"), InputError);
  const ServedCard card(kChip);
  DeviceOptions options;
  options.overrides = {"dmmu.tiles=4"};
  CHECK_THROWS_WITH(Device::connect(card.address(), options), Contains("cx device --set"));
}

TEST_CASE("a socket on which somebody listens is not taken over") {
  const ServedCard card(kChip);
  const auto listener = [&] { vfio::listen_at(card.path().c_str()); };
  CHECK_THROWS_WITH(listener(), Catch::Matchers::Contains("another process listens there"));
  CHECK(Device::connect(card.address())->target().tiles == 2);
}

// Last in the file: once this process has opened a card, its children cannot simulate another one.
TEST_CASE("a card behind a socket gives the same bytes and the same times as one in this process") {
  Trace served, again, here;
  {
    const ServedCard card(kChip);
    served = exercise(*Device::connect(card.address()));
    again = exercise(*Device::connect(card.address()));
  }
  here = exercise(*Device::connect(std::string("inproc:") + kChip));
  CHECK(served.bytes == here.bytes);
  CHECK(served.times == here.times);
  CHECK(again.bytes == here.bytes);
  CHECK(again.times == here.times);
}
