// Pinned and pageable host memory, pools, several devices and copies between them, on simulated cards.
#include <catch2/catch.hpp>
#include <cstring>
#include <list>
#include <random>
#include <thread>

#include "driver/umd/device.hpp"
#include "driver/umd/device_pool.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"
#include "tb/driver/transport/served_card.hpp"

using namespace cx;

namespace {

constexpr const char *kChip = "configs/chips/tiny.yaml";

std::vector<std::byte> random_bytes(size_t size) {
  static std::mt19937 random(20240611);
  std::vector<std::byte> bytes(size);
  for (std::byte &byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

bool over_socket() {
  const char *transport = std::getenv("CX_TEST_TRANSPORT");
  return transport != nullptr && std::string(transport) == "vfio-user";
}

// Several cards at once, of the kind that the environment names. Processes are started before there is a connection
// that they could inherit, and serve all cases.
std::unique_ptr<Device> open_another(unsigned number, DeviceOptions options = {}) {
  if (!over_socket()) return Device::open(kChip, options);
  static std::list<tb::ServedCard> cards;
  while (cards.size() < 2) cards.emplace_back(kChip);
  return Device::connect(std::next(cards.begin(), number)->address(), options);
}

std::unique_ptr<Device> open_one(const DeviceOptions &options = {}) { return open_another(0, options); }

template <class F>
std::string message_of(F &&action) {
  try {
    action();
  } catch (const Error &error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("registered memory is reached where it lies") {
  const auto device = open_one();
  const DeviceBuffer buffer = device->allocate(64 << 10);
  std::vector<std::byte> memory = random_bytes((64 << 10) + 4096);
  // An odd place: neither the first byte nor the last is at a page boundary.
  const std::span<std::byte> part(memory.data() + 123, 40'001);
  CHECK_FALSE(device->pinned_address(part.data(), part.size()));
  {
    HostRegistration registration = device->register_host(part, true, "input");
    CHECK(registration.iova() % 4096 == reinterpret_cast<uintptr_t>(part.data()) % 4096);
    CHECK(device->pinned_address(part.data() + 5, 100) == registration.iova() + 5);
    CHECK_FALSE(device->pinned_address(part.data() + 1, part.size()));
    CHECK_FALSE(device->pinned_address(part.data() - 1, 1));

    Transfer up = device->upload_async(device->queue(), buffer.address(), part);
    CHECK(up.pinned());
    up.wait();
    std::vector<std::byte> back(part.size());
    device->download(back, buffer.address());
    CHECK(std::equal(back.begin(), back.end(), part.begin()));

    device->fill(buffer.address(), 4096, 0x01020304);
    device->download(part.first(4096), buffer.address());
    CHECK(part[0] == std::byte{4});
    CHECK(part[4095] == std::byte{1});
    CHECK(std::equal(back.begin() + 4096, back.end(), part.begin() + 4096));

    // Overlaps, in every way; a neighbour in the same page is no overlap.
    CHECK_THROWS_AS(device->register_host(part), UsageError);
    CHECK_THROWS_AS(device->register_host(part.first(1)), UsageError);
    CHECK_THROWS_AS(device->register_host(part.last(1)), UsageError);
    CHECK_THROWS_AS(device->register_host({memory.data(), memory.size()}), UsageError);
    CHECK_THROWS_AS(device->register_host({}), UsageError);
    const HostRegistration before = device->register_host({memory.data(), 123});
    const HostRegistration after = device->register_host({memory.data() + 123 + part.size(), 10}, false);
    CHECK(message_of([&] { device->register_host({memory.data() + 100, 10}); }).find("overlap") != std::string::npos);

    // The device may not write to what was registered for reading.
    const Fence refused = device->queue().copy_to_host(after.iova(), buffer.address(), 4, {.interrupt = true});
    CHECK(refused.wait_status().status == CX_STATUS_IOMMU_FAULT);

    // Not while a packet uses it.
    const Fence copy = device->queue().copy_to_device(buffer.address(), registration.iova(), 4096, {.interrupt = true});
    CHECK(message_of([&] { registration.release(); }).find("outstanding") != std::string::npos);
    CHECK(registration);
    copy.wait();
    const uint64_t iova = registration.iova();
    registration.release();
    CHECK_FALSE(registration);
    CHECK_FALSE(device->pinned_address(part.data(), 1));
    const Fence late = device->queue().copy_to_device(buffer.address(), iova, 64, {.interrupt = true});
    CHECK(late.wait_status().status == CX_STATUS_IOMMU_FAULT);
    device->take_fault();
  }
  CHECK_NOTHROW(device->register_host(part));
}

TEST_CASE("pageable copies go on in two halves while the host polls") {
  DeviceOptions options;
  options.staging_bytes = 16 << 10;
  const auto device = open_one(options);
  Queue &other = device->create_queue();
  const DeviceBuffer a = device->allocate(200'000), b = device->allocate(200'000);
  const std::vector<std::byte> first = random_bytes(200'000), second = random_bytes(150'001);
  std::vector<std::byte> back_a(first.size()), back_b(second.size());
  {
    Transfer one = device->upload_async(device->queue(), a.address(), first);
    Transfer two = device->upload_async(other, b.address(), second);
    CHECK_FALSE(one.pinned());
    unsigned turns = 0;
    const auto done = [&] {
      ++turns;
      const bool first_done = one.poll(), second_done = two.poll();
      return first_done && second_done;
    };
    device->wait_until(done, 0, "both transfers");
    CHECK(turns > 5);
    CHECK(one.end_cycles() > one.start_cycles());
  }
  Transfer one = device->download_async(other, back_a, a.address());
  Transfer two = device->download_async(device->queue(), back_b, b.address());
  two.wait();
  one.wait();
  CHECK(one.poll());
  CHECK(back_a == first);
  CHECK(back_b == second);
  CHECK(Transfer().poll());

  CHECK_THROWS_AS(device->upload_async(other, a.address() + 1, first), UsageError);
  CHECK_THROWS_AS(device->download_async(other, back_a, a.address() + 1), UsageError);
  // A transfer that nobody waits for leaves nothing behind.
  { const Transfer dropped = device->upload_async(other, a.address(), first); }
  device->download(back_b, b.address());
  CHECK(back_b == second);
}

TEST_CASE("pools reuse blocks, trim, and count") {
  const auto device = open_one();
  const uint64_t before = device->memory_stats().used;
  for (const auto &[bytes, size] : std::vector<std::pair<uint64_t, uint64_t>>{{1, 64},
                                                                              {64, 64},
                                                                              {65, 128},
                                                                              {256, 256},
                                                                              {257, 320},
                                                                              {320, 320},
                                                                              {321, 384},
                                                                              {512, 512},
                                                                              {513, 640},
                                                                              {1 << 20, 1 << 20},
                                                                              {(1 << 20) + 1, (1 << 20) + (1 << 18)}}) {
    CHECK(DevicePool::class_bytes(bytes) == size);
  }
  {
    DevicePool pool(*device, "activations");
    uint64_t address = 0;
    {
      const PoolBuffer a = pool.allocate(1000);
      address = a.address();
      CHECK(pool.stats().used == 1024);
      CHECK(pool.stats().asked == 1000);
      CHECK(pool.stats().fragmentation() == Approx(24.0 / 1024));
    }
    CHECK(pool.stats().blocks == 1);
    CHECK(pool.stats().used == 0);
    CHECK(pool.stats().reserved == 1024);
    PoolBuffer b = pool.allocate(900);
    CHECK(b.address() == address);
    CHECK(pool.stats().reused == 1);
    const PoolBuffer c = pool.allocate(1024);
    CHECK(c.address() != address);
    CHECK(pool.stats().peak_used == 2048);

    // Given back with a packet that is still to come: at once for its queue, later for others.
    Queue &queue = device->queue(), &other = device->create_queue();
    const Fence last = queue.fill(b.address(), 512, 7, {.interrupt = true, .ring = false});
    b.release_after(queue, last);
    CHECK_FALSE(b);
    CHECK_THROWS_AS(b.release_after(queue, last), UsageError);
    {
      const PoolBuffer d = pool.allocate(1000, &other);
      CHECK(d.address() != address);
    }
    CHECK(pool.trim() == 1024);  // the one of `other`; the device may still use the first
    PoolBuffer e = pool.allocate(1000, &queue);
    CHECK(e.address() == address);
    e.release_after(queue, last);
    last.wait();
    const PoolBuffer f = pool.allocate(1000, &other);
    CHECK(f.address() == address);
    CHECK_THROWS_AS(pool.allocate(0), UsageError);
  }
  CHECK(device->memory_stats().used == before);

  // Out of memory: what the pool keeps is given back first, and the error names who holds memory.
  DevicePool pool(*device, "cache");
  const uint64_t most = device->memory_stats().largest_free / 2 / 64 * 64;
  const DeviceBuffer weights = device->allocate(most, 64, "weights");
  const DeviceBuffer rest = device->allocate(1 << 20);
  { const PoolBuffer big = pool.allocate(most / 2); }
  const PoolBuffer large = pool.allocate(most - (2 << 20) > most / 4 * 3 ? most / 4 * 3 : most / 2);
  const std::string text = message_of([&] { pool.allocate(most); });
  CHECK(text.find("largest free range") != std::string::npos);
  CHECK(text.find("weights " + std::to_string(most) + " bytes in 1") != std::string::npos);
  CHECK(device->memory_report().find("  cache: ") != std::string::npos);
}

TEST_CASE("a device that is closed says what it still holds") {
  std::vector<std::string> reports;
  DeviceOptions options;
  options.on_leak = [&](const std::string &report) { reports.push_back(report); };
  open_one(options).reset();
  CHECK(reports.empty());
  std::vector<std::byte> memory(5000);
  DeviceBuffer buffer, unnamed;
  HostBuffer host;
  HostRegistration registration;
  {
    const auto device = open_one(options);
    device->create_queue();
    buffer = device->allocate(1000, 64, "weights");
    unnamed = device->allocate(10);
    host = device->allocate_host(100, true, "counters");
    registration = device->register_host(memory, true, "input");
    const DeviceBuffer gone = device->allocate(1 << 20, 64, "gone");
  }
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].find("weights 1000 bytes in 1") != std::string::npos);
  CHECK(reports[0].find("unnamed 10 bytes in 1") != std::string::npos);
  CHECK(reports[0].find("counters") != std::string::npos);
  CHECK(reports[0].find("input") != std::string::npos);
  CHECK(reports[0].find("gone") == std::string::npos);
  CHECK(reports[0].find("ring") == std::string::npos);
  // What outlives the device is harmless.
  buffer = DeviceBuffer();
  registration.release();
}

TEST_CASE("copies between two devices go from card to card") {
  const auto one = open_another(0), two = open_another(1);
  const std::vector<std::byte> data = random_bytes(1'000'003);
  const DeviceBuffer source = one->allocate(data.size()), target = two->allocate(data.size() + 64);
  one->upload(source.address(), data);
  const Counters before_one = one->counters(), before_two = two->counters();
  const PeerCopy copy = Device::copy_peer(*two, target.address() + 5, *one, source.address(), data.size());
  CHECK(copy.path == PeerCopy::Path::direct);
  const Counters cost_one = one->counters_since(before_one), cost_two = two->counters_since(before_two);
  CHECK(cost_one.pcie_to_host >= data.size());  // both links carried it
  CHECK(cost_two.pcie_to_device >= data.size());
  CHECK(cost_two.dram_written >= data.size());
  std::vector<std::byte> back(data.size());
  two->download(back, target.address() + 5);
  CHECK(back == data);
  // Near the slower of link and memory; never faster than the link.
  const double rate = static_cast<double>(data.size()) / static_cast<double>(copy.duration_ps) * 1000;  // GB/s
  WARN("copy between cards: " << rate << " GB/s");
  CHECK(rate < 31.6);

  // The other way, inside one, and through host memory where a range is not behind BAR4.
  CHECK(Device::copy_peer(*one, source.address(), *two, target.address() + 5, 1000).path == PeerCopy::Path::direct);
  CHECK(Device::copy_peer(*one, source.address(), *one, source.address() + 4096, 4096).path == PeerCopy::Path::device);
  const PeerCopy staged = Device::copy_peer(*two, CX_MEM_SPM_BASE, *one, source.address() + 8192, 10'000);
  CHECK(staged.path == PeerCopy::Path::staged);
  CHECK(staged.duration_ps > 0);
  std::vector<std::byte> scratch(10'000);
  two->download(scratch, CX_MEM_SPM_BASE);
  CHECK(std::equal(scratch.begin(), scratch.end(), data.begin() + 8192));
  CHECK_THROWS_AS(Device::copy_peer(*two, target.address() + 64, *one, source.address(), data.size() + 64), UsageError);
  CHECK_THROWS_AS(Device::copy_peer(*two, target.address(), *one, source.address() + 1, data.size()), UsageError);
  CHECK(Device::copy_peer(*two, target.address(), *one, source.address(), 0).duration_ps == 0);
}

TEST_CASE("a device that is gone is no target any more") {
  const auto one = open_another(0);
  auto two = open_another(1);
  const DeviceBuffer source = one->allocate(4096);
  {
    const DeviceBuffer target = two->allocate(4096);
    CHECK(Device::copy_peer(*two, target.address(), *one, source.address(), 4096).path == PeerCopy::Path::direct);
  }
  two.reset();
  two = open_another(1);
  const DeviceBuffer target = two->allocate(4096);
  one->fill(source.address(), 4096, 99);
  CHECK(Device::copy_peer(*two, target.address(), *one, source.address(), 4096).path == PeerCopy::Path::direct);
  uint32_t word = 0;
  two->download(std::as_writable_bytes(std::span(&word, 1)), target.address());
  CHECK(word == 99);
}

TEST_CASE("limits of the link that the driver programs take effect") {
  const auto duration = [](const DeviceOptions &options) {
    const auto device = open_one(options);
    const DeviceBuffer buffer = device->allocate(1 << 20);
    const HostBuffer host = device->allocate_host(1 << 20);
    const auto copy = [&](bool up) {
      const Completion done = up ? device->queue().copy_to_device(buffer.address(), host.iova(), 1 << 20).wait()
                                 : device->queue().copy_to_host(host.iova(), buffer.address(), 1 << 20).wait();
      return done.end - done.start;
    };
    return std::pair{copy(true), copy(false)};
  };
  const auto info = open_one()->info();
  CHECK(info.link_generation >= 1);
  CHECK(info.link_width >= 1);
  CHECK(info.payload_bytes >= 128);
  CHECK(info.relaxed_ordering);
  CHECK(info.extended_tags);
  CHECK(info.bar4_bytes >= 1 << 20);
  const auto usual = duration({});
  DeviceOptions small;
  small.link.payload_bytes = 128;
  const auto narrow = duration(small);
  CHECK(narrow.first > usual.first);
  CHECK(narrow.second > usual.second);
  DeviceOptions few;
  few.link.extended_tags = false;
  few.link.read_request_bytes = 128;
  const auto slow = duration(few);
  CHECK(slow.first > usual.first + usual.first / 16);  // 32 requests of 128 bytes under way
  CHECK(slow.second == usual.second);
  DeviceOptions strict;
  strict.link.relaxed_ordering = false;
  CHECK_FALSE(open_one(strict)->info().relaxed_ordering);
  for (const uint32_t wrong : {0u, 64u, 200u, 8192u}) {
    DeviceOptions bad;
    bad.link.payload_bytes = wrong;
    CHECK_THROWS_AS(open_one(bad), InputError);
    bad = {};
    bad.link.read_request_bytes = wrong;
    CHECK_THROWS_AS(open_one(bad), InputError);
  }
}

TEST_CASE("link settings and registered memory outlive a function reset") {
  DeviceOptions options;
  options.link.payload_bytes = 128;
  const auto device = open_one(options);
  const DeviceBuffer buffer = device->allocate(1 << 20);
  std::vector<std::byte> data = random_bytes(1 << 20);
  const HostRegistration registration = device->register_host(data);
  const auto cycles = [&] {
    const Completion done = device->queue().copy_to_host(registration.iova(), buffer.address(), 1 << 20).wait();
    return done.end - done.start;
  };
  device->upload(buffer.address(), data);
  const uint64_t before = cycles();
  if (over_socket()) {
    device->recover();
  } else {
    device->inject("firmware_crash");
    CHECK_THROWS_AS(device->queue().nop().wait(), FirmwareCrashError);
    CHECK(device->recover().level == Recovery::Level::kFunctionReset);
  }
  CHECK(cycles() == before);
  std::vector<std::byte> back(data.size());
  device->download(back, buffer.address());
  CHECK(back == data);
}

TEST_CASE("threads at two cards of one process") {
  const auto work = [](Device &device, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> data(100'000), back(data.size());
    const DeviceBuffer buffer = device.allocate(data.size());
    unsigned wrong = 0;
    for (int round = 0; round < 10; ++round) {
      for (std::byte &byte : data) byte = static_cast<std::byte>(random());
      device.upload(buffer.address(), data);
      device.download(back, buffer.address());
      wrong += back != data;
    }
    return wrong;
  };
  const auto one = open_another(0), two = open_another(1);
  unsigned wrong_one = 1, wrong_two = 1;
  std::thread other([&] { wrong_two = work(*two, 2); });
  wrong_one = work(*one, 1);
  other.join();
  CHECK(wrong_one == 0);
  CHECK(wrong_two == 0);
}

TEST_CASE("device memory is seen through BAR4") {
  const auto device = open_one();
  const DeviceBuffer buffer = device->allocate(8192);
  const std::vector<std::byte> data = random_bytes(5001);
  const uint64_t offset = buffer.address() - CX_MEM_DRAM_BASE + 3;
  device->transport().write(4, offset, data.data(), data.size());
  std::vector<std::byte> back(data.size());
  device->transport().read(4, offset, back.data(), back.size());
  CHECK(back == data);
  std::fill(back.begin(), back.end(), std::byte{0});
  device->download(back, buffer.address() + 3);
  CHECK(back == data);
  const uint64_t end = device->target().dram_bytes;
  CHECK_THROWS_AS(device->transport().read(4, end - 4, back.data(), 8), DeviceFault);
  CHECK_THROWS_AS(device->transport().write(4, end, back.data(), 1), DeviceFault);
  CHECK_NOTHROW(device->transport().read(4, end - 8, back.data(), 8));
}

TEST_CASE("copies of a stream are in its order, whatever memory they are of") {
  DeviceOptions options;
  options.staging_bytes = 64 << 10;
  const auto device = open_one(options);
  const uint32_t seed = 11;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  constexpr size_t kMost = 200'000, kBuffers = 4;
  struct Memory {
    std::vector<std::byte> pageable = random_bytes(kMost);
    HostBuffer pinned;
    HostRegistration registered;
    std::vector<std::byte> expected;
  };
  std::vector<Memory> memories(kBuffers);
  for (size_t i = 0; i < kBuffers; ++i) {
    if (i % 2 == 1) memories[i].registered = device->register_host(memories[i].pageable);
    memories[i].expected = memories[i].pageable;
  }
  const DeviceBuffer target = device->allocate(kMost);
  device->upload(target.address(), memories[0].pageable);
  std::vector<std::byte> model = memories[0].pageable;
  const auto stream = device->streams().create();
  for (int round = 0; round < 40; ++round) {
    Memory &memory = memories[random() % kBuffers];
    const size_t bytes = 1 + random() % kMost, at = random() % (kMost - bytes + 1),
                 from = random() % (kMost - bytes + 1);
    if (random() % 2 == 0) {
      stream->upload(target.address() + at, std::span(memory.pageable).subspan(from, bytes));
      std::copy_n(memory.expected.begin() + from, bytes, model.begin() + at);
    } else {
      stream->download(std::span(memory.pageable).subspan(from, bytes), target.address() + at);
      std::copy_n(model.begin() + at, bytes, memory.expected.begin() + from);
    }
    if (random() % 4 == 0) {
      stream->enqueue([&](Queue &queue) { return queue.fill(target.address(), 4096, 7); });
      for (size_t i = 0; i < 4096; ++i) model[i] = static_cast<std::byte>(i % 4 == 0 ? 7 : 0);
    }
  }
  stream->synchronize();
  for (const Memory &memory : memories) CHECK(memory.pageable == memory.expected);
  std::vector<std::byte> back(kMost);
  device->download(back, target.address());
  CHECK(back == model);
  CHECK_THROWS_AS(stream->upload(target.address() + 1, std::span(std::as_const(memories[0].pageable))), UsageError);
  CHECK_THROWS_AS(stream->download(memories[0].pageable, target.address() + 1), UsageError);
}

TEST_CASE("a stream's copy that fails ends, and its memory is free") {
  DeviceOptions options;
  options.staging_bytes = 64 << 10;
  const auto device = open_one(options);
  std::vector<std::byte> data = random_bytes(300'000), pinned = random_bytes(5000);
  const DeviceBuffer target = device->allocate(data.size());
  const HostBuffer flag = device->allocate_host(64);
  const auto stream = device->streams().create();
  Timeline gate(*device);
  stream->upload(target.address(), data);
  stream->synchronize();
  // An error of an earlier packet stops a copy that has begun.
  const auto before = device->iova_stats().live;
  stream->enqueue([&](Queue &queue) { return queue.wait_value(flag.iova(), CX_COMPARE_EQ, 1); });
  stream->enqueue([](Queue &queue) { return queue.signal(0x5000, 1); });
  stream->upload(target.address(), data);
  CHECK_FALSE(stream->done());
  device->queue().signal(flag.iova(), 1).wait();
  CHECK_THROWS_AS(stream->synchronize(), DeviceFault);
  CHECK(stream->done());
  stream->clear_error();
  CHECK(device->iova_stats().live == before);

  // Registered memory is in use while a copy of it is held back.
  HostRegistration registration = device->register_host(pinned);
  stream->wait(gate, 1);
  stream->upload(target.address(), pinned);
  CHECK(device->in_use(pinned));
  CHECK_FALSE(device->in_use(data));
  CHECK_THROWS_AS(registration.release(), UsageError);
  gate.signal(1);
  stream->synchronize();
  CHECK_FALSE(device->in_use(pinned));
  registration.release();

  // So it is while a list that names it runs.
  const HostBuffer memory = device->allocate_host(4096);
  CommandBuffer commands(*device);
  commands.wait_value(flag.iova(), CX_COMPARE_EQ, 2);
  commands.copy_to_device(target.address(), memory.iova(), 4096);
  commands.finish();
  const Fence run = device->queue().execute(commands);
  CHECK(device->in_use({memory.data(), memory.size()}));
  device->create_queue().signal(flag.iova(), 2).wait();
  run.wait();
  CHECK_FALSE(device->in_use({memory.data(), memory.size()}));
  // Numbers that look like its addresses are none.
  const Fence held = device->queue().wait_value(flag.iova(), CX_COMPARE_EQ, 3);
  const Fence looks = device->queue().fill(target.address(), memory.iova(), 0);
  const Fence far = device->queue().copy_to_host(memory.iova() - 100, target.address(), 100);
  CHECK_FALSE(device->in_use({memory.data(), memory.size()}));
  const Fence near = device->queue().copy_to_host(memory.iova() - 100, target.address(), 101);
  CHECK(device->in_use({memory.data(), memory.size()}));
  device->create_queue().signal(flag.iova(), 3).wait();
  for (const Fence &fence : {looks, far, near}) CHECK(fence.wait_status().status != CX_STATUS_OK);
  // Copies that are pending when the device is closed end with it.
  stream->upload(target.address(), data);
  stream->wait(gate, 5);
  stream->upload(target.address(), data);
}

TEST_CASE("streams copy from card to card in their order") {
  const auto one = open_another(0);
  auto two = open_another(1);
  const std::vector<std::byte> data = random_bytes(100'000);
  const DeviceBuffer source = one->allocate(data.size()), target = two->allocate(data.size());
  const auto stream = one->streams().create();
  stream->upload(source.address(), data);
  stream->copy_peer(*two, target.address(), source.address(), data.size());
  stream->enqueue([&](Queue &queue) { return queue.fill(source.address(), data.size(), 0); });
  stream->copy_peer(*two, CX_MEM_SPM_BASE, source.address(), 4096);  // through host memory
  stream->upload(source.address(), data);
  stream->copy_peer(*one, source.address() + 8192, source.address(), 4096);  // inside
  stream->copy_peer(*two, target.address(), source.address(), 0);
  stream->synchronize();
  std::vector<std::byte> back(data.size()), scratch(4096, std::byte{1}), inside(4096);
  two->download(back, target.address());
  two->download(scratch, CX_MEM_SPM_BASE);
  one->download(inside, source.address() + 8192);
  CHECK(back == data);
  CHECK(scratch == std::vector<std::byte>(4096));
  CHECK(std::equal(inside.begin(), inside.end(), data.begin()));
  CHECK_THROWS_AS(stream->copy_peer(*two, target.address() + 1, source.address(), data.size()), UsageError);
  CHECK_THROWS_AS(stream->copy_peer(*two, target.address(), source.address() + 1, data.size()), UsageError);

  // A target that goes while the copy is held back.
  Timeline gate(*one);
  stream->wait(gate, 1);
  stream->copy_peer(*two, target.address(), source.address(), 4096);
  two.reset();
  gate.signal(1);
  CHECK_THROWS_AS(stream->synchronize(), UsageError);
}

TEST_CASE("two threads copy between two cards in both directions") {
  const auto one = open_another(0), two = open_another(1);
  const std::vector<std::byte> a = random_bytes(30'000), b = random_bytes(30'000);
  const DeviceBuffer of_one = one->allocate(60'000), of_two = two->allocate(60'000);
  one->upload(of_one.address(), a);
  two->upload(of_two.address(), b);
  const auto copy = [](Device &from, const DeviceBuffer &source, Device &to, const DeviceBuffer &target) {
    const auto stream = from.streams().create();
    for (int i = 0; i < 5; ++i) {
      stream->copy_peer(to, target.address() + 30'000, source.address(), 30'000);
      stream->copy_peer(to, CX_MEM_SPM_BASE, source.address(), 1000);
    }
    stream->synchronize();
  };
  std::thread other([&] { copy(*two, of_two, *one, of_one); });
  copy(*one, of_one, *two, of_two);
  other.join();
  std::vector<std::byte> back(30'000);
  one->download(back, of_one.address() + 30'000);
  CHECK(back == b);
  two->download(back, of_two.address() + 30'000);
  CHECK(back == a);
}
