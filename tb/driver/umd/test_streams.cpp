// Timelines, streams, events and threads on the simulated card.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <string>
#include <thread>

#include "driver/umd/device.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/driver/transport/served_card.hpp"

using namespace cx;

namespace {

constexpr unsigned kQueues = 4;  // of tiny

std::unique_ptr<Device> open_card() { return tb::open_test_card("configs/chips/tiny.yaml"); }

// Words of host memory that streams write to.
class Words {
 public:
  explicit Words(Device &device) : memory_(device.allocate_host(4096)) {}
  uint64_t iova(size_t index) const { return memory_.iova() + 8 * index; }
  uint64_t operator[](size_t index) const {
    uint64_t value = 0;
    std::memcpy(&value, memory_.data() + 8 * index, sizeof value);
    return value;
  }

 private:
  HostBuffer memory_;
};

void set(Stream &stream, const Words &words, size_t index, uint64_t value) {
  stream.enqueue([iova = words.iova(index), value](Queue &queue) { return queue.signal(iova, value); });
}

void fail(Stream &stream) {
  stream.enqueue([](Queue &queue) { return queue.signal(0x5000, 1); });
}

}  // namespace

TEST_CASE("A timeline only grows, whoever raises it") {
  const auto device = open_card();
  Timeline timeline(*device, 5);
  REQUIRE(timeline.value() == 5);
  REQUIRE(timeline.promised() == 5);
  timeline.wait(5);
  timeline.signal(3);
  REQUIRE(timeline.value() == 5);
  timeline.signal(8);
  REQUIRE(timeline.value() == 8);
  Queue &queue = device->create_queue();
  const Fence held = timeline.wait_in(queue, 10);
  const Fence behind = timeline.signal_in(queue, 1ull << 40);
  REQUIRE(timeline.promised() == 1ull << 40);
  REQUIRE_THROWS_AS(timeline.wait(11, 50), TimeoutError);
  REQUIRE_FALSE(behind.done());
  timeline.signal(10);
  timeline.wait(1ull << 40);
  REQUIRE(held.done());
  REQUIRE(timeline.value() == 1ull << 40);
}

TEST_CASE("A wait for what nobody signals runs out of simulated time, or finds the device idle") {
  const auto device = open_card();
  const Timeline timeline(*device);
  REQUIRE_THROWS_WITH(timeline.wait(1),
                      Catch::Contains("timeline value 1, which stands at 0") && Catch::Contains("idle"));
  timeline.wait_in(device->create_queue(), 7);
  REQUIRE_THROWS_WITH(timeline.wait(1, 100), Catch::Contains("no answer within 100 us"));
}

TEST_CASE("A timeline's memory lives until no packet names it") {
  const auto device = open_card();
  const auto before = device->iova_stats().live;
  Queue &queue = device->create_queue();
  {
    const Timeline gate(*device);
    {
      const Timeline inner(*device);
      gate.wait_in(queue, 1);
      inner.signal_in(queue, 1);
    }
    gate.signal(1);
  }
  queue.drain();
  device->destroy_queue(queue);
  REQUIRE(device->iova_stats().live == before);
}

TEST_CASE("Streams take a queue each, then share by priority; a queue is used again for another priority") {
  const auto device = open_card();
  REQUIRE(device->info().queues == kQueues);
  StreamSet &streams = device->streams();
  const auto high = streams.create(0);
  auto a = streams.create(2);
  auto b = streams.create(2);
  REQUIRE(high->queue_id() != a->queue_id());
  REQUIRE(a->queue_id() != b->queue_id());
  REQUIRE(device->free_queues() == 0);
  const auto c = streams.create(2), d = streams.create(2);
  REQUIRE((c->queue_id() == a->queue_id() || c->queue_id() == b->queue_id()));
  REQUIRE(d->queue_id() != c->queue_id());
  const auto near = streams.create(1);  // as far from 0 as from 2: the one with fewer streams
  REQUIRE(near->queue_id() == high->queue_id());
  REQUIRE(near->priority() == 1);
  REQUIRE_THROWS_AS(streams.create(4), UsageError);
}

TEST_CASE("A stream whose queue nobody uses any more makes room") {
  const auto device = open_card();
  std::vector<std::unique_ptr<Stream>> streams;
  for (unsigned i = 1; i < kQueues; ++i) streams.push_back(device->streams().create(3));
  streams.pop_back();
  const auto urgent = device->streams().create(0);
  for (const auto &stream : streams) REQUIRE(stream->queue_id() != urgent->queue_id());
  urgent->enqueue([](Queue &queue) {
    REQUIRE(queue.priority() == 0);
    return queue.nop();
  });
  urgent->synchronize();
}

TEST_CASE("Without a ring there is no stream") {
  const auto device = open_card();
  for (unsigned i = 1; i < kQueues; ++i) device->create_queue();
  REQUIRE_THROWS_AS(device->streams().create(), OutOfMemoryError);
}

TEST_CASE("Streams that share queues wait for each other in any order without blocking") {
  const uint32_t seed = 17;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto device = open_card();
  constexpr size_t kStreams = 9, kRounds = 12;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<Timeline> reached;
  for (size_t i = 0; i < kStreams; ++i) {
    streams.push_back(device->streams().create(static_cast<uint32_t>(i % 3)));
    reached.emplace_back(*device);
  }
  // In each round every stream waits for one that may be put in later: first the waits of all, then the signals.
  const Words words(*device);
  for (size_t round = 1; round <= kRounds; ++round) {
    for (size_t i = 0; i < kStreams; ++i) {
      const size_t other = random() % kStreams;
      streams[i]->signal(reached[i], 2 * round - 1);
      streams[i]->wait(reached[other], 2 * round - 1);
      set(*streams[i], words, i, round);
      streams[i]->signal(reached[i], 2 * round);
      if (i % 4 == 3) streams[i]->wait(reached[(i + 1) % kStreams], 2 * round - 1);
    }
  }
  for (size_t i = 0; i < kStreams; ++i) {
    streams[i]->synchronize();
    REQUIRE(words[i] == kRounds);
    REQUIRE(reached[i].value() == 2 * kRounds);
  }
}

TEST_CASE("A wait that is put in before its signal holds back its stream alone") {
  const auto device = open_card();
  const Words words(*device);
  const Timeline gate(*device);
  std::vector<std::unique_ptr<Stream>> streams;
  for (unsigned i = 0; i < 2 * (kQueues - 1); ++i) streams.push_back(device->streams().create(1));
  Stream &waits = *streams.front();
  Stream &neighbour = *streams[kQueues - 1];
  REQUIRE(waits.queue_id() == neighbour.queue_id());
  waits.wait(gate, 1);
  set(waits, words, 0, 1);
  set(neighbour, words, 1, 1);
  neighbour.synchronize();
  REQUIRE(words[1] == 1);
  REQUIRE(words[0] == 0);
  REQUIRE_FALSE(waits.done());
  neighbour.signal(gate, 1);
  waits.synchronize();
  REQUIRE(words[0] == 1);
}

TEST_CASE("Events order streams and measure by the device's clock") {
  const auto device = open_card();
  const auto a = device->streams().create(), b = device->streams().create();
  const DeviceBuffer memory = device->allocate(1 << 20);
  const Words words(*device);
  Event begin, end, never;
  REQUIRE(never.done());
  never.wait();
  b->wait(never);
  a->record(begin);
  a->enqueue([&](Queue &queue) { return queue.fill(memory.address(), 1 << 20, 0x11111111); });
  a->record(end);
  b->wait(end);
  b->enqueue([&](Queue &queue) { return queue.copy_to_host(words.iova(0), memory.address() + (1 << 20) - 8, 8); });
  REQUIRE_FALSE(end.done());
  REQUIRE_THROWS_AS(end.cycles_since(begin), UsageError);
  b->synchronize();
  REQUIRE(words[0] == 0x1111111111111111);
  REQUIRE(end.done());
  // DRAM of tiny takes 25.6 bytes a cycle.
  REQUIRE(end.cycles_since(begin) > (1 << 20) / 26);
  REQUIRE(begin.cycles_since(end) == -end.cycles_since(begin));
  REQUIRE_THROWS_AS(end.cycles_since(never), UsageError);
  const int64_t first = end.cycles_since(begin);
  a->record(end);
  end.wait();
  REQUIRE(end.cycles_since(begin) > first);
}

TEST_CASE("The host is called in a stream's order, and what follows waits for it") {
  const auto device = open_card();
  const auto stream = device->streams().create(), other = device->streams().create();
  const Words words(*device);
  std::vector<uint64_t> seen;
  Event after;
  for (uint64_t i = 1; i <= 5; ++i) {
    set(*stream, words, 0, i);
    stream->call([&] { seen.push_back(words[0]); });
  }
  stream->record(after);
  other->wait(after);
  other->call([&] { seen.push_back(100); });
  REQUIRE(seen.empty());
  other->synchronize();
  REQUIRE(seen == std::vector<uint64_t>{1, 2, 3, 4, 5, 100});
  set(*stream, words, 0, 6);
  stream->call([] { throw InputError("of the host"); });
  REQUIRE_THROWS_WITH(stream->synchronize(), "of the host");
}

TEST_CASE("An error stays with its stream, and others go on") {
  const auto device = open_card();
  const auto bad = device->streams().create(), good = device->streams().create();
  const Words words(*device);
  const Timeline timeline(*device);
  Event event;
  bool called = false;
  // Behind a call of the host, so that the driver holds back what follows the fault.
  fail(*bad);
  bad->call([&] { called = true; });
  set(*bad, words, 0, 1);
  bad->signal(timeline, 1);
  bad->record(event);
  good->wait(timeline, 1);
  good->wait(event);
  set(*good, words, 1, 1);
  good->synchronize();
  REQUIRE(words[1] == 1);
  REQUIRE(words[0] == 0);
  REQUIRE_FALSE(called);
  for (int i = 0; i < 2; ++i) {
    REQUIRE_THROWS_AS(bad->synchronize(), DeviceFault);
    REQUIRE_THROWS_AS(bad->check(), DeviceFault);
    REQUIRE_THROWS_AS(set(*bad, words, 0, 1), DeviceFault);
  }
  try {
    bad->check();
  } catch (const DeviceFault &fault) {
    REQUIRE(fault.record().status == CX_STATUS_IOMMU_FAULT);
    REQUIRE(fault.record().address == 0x5000);
  }
  good->check();
  bad->clear_error();
  set(*bad, words, 0, 2);
  bad->synchronize();
  REQUIRE(words[0] == 2);
}

TEST_CASE("What a destroyed stream had pending is done") {
  const auto device = open_card();
  const Words words(*device);
  const Timeline gate(*device);
  bool called = false;
  {
    const auto stream = device->streams().create();
    stream->wait(gate, 1);
    set(*stream, words, 0, 1);
    stream->call([&] { called = true; });
    set(*stream, words, 1, 1);
  }
  const auto other = device->streams().create();
  other->signal(gate, 1);
  other->synchronize();
  device->wait_until([&] { return words[1] == 1; }, 1000, "the destroyed stream's work");
  REQUIRE(called);
  REQUIRE(words[0] == 1);
  // Work that never becomes possible ends with the device.
  device->streams().create()->wait(gate, 2);
}

TEST_CASE("A stream of high priority is served at the next packet while the others' rings are full") {
  const auto device = open_card();
  const DeviceBuffer memory = device->allocate(4 << 20);
  std::vector<std::unique_ptr<Stream>> low;
  const auto fill = [&](Queue &queue) { return queue.fill(memory.address(), 4 << 20, 1); };
  const auto high = device->streams().create(0);
  for (unsigned i = 0; i < 2; ++i) low.push_back(device->streams().create(3));
  Event begin, border;
  low[0]->record(begin);
  low[0]->enqueue(fill);
  low[0]->record(border);
  low[0]->synchronize();
  const int64_t packet = border.cycles_since(begin);
  for (const auto &stream : low) {
    for (int i = 0; i < 200; ++i) stream->enqueue(fill);
  }
  for (int round = 0; round < 3; ++round) {
    const uint64_t asked = device->time_cycles();
    Event done;
    high->record(done);
    done.wait();
    REQUIRE(device->time_cycles() - asked < static_cast<uint64_t>(packet));
    REQUIRE_FALSE(low[0]->done());
    REQUIRE_FALSE(low[1]->done());
  }
}

TEST_CASE("A stream runs command buffers") {
  const auto device = open_card();
  const Words words(*device);
  const auto stream = device->streams().create();
  {
    CommandBuffer commands(*device);
    REQUIRE_THROWS_AS(stream->execute(commands), UsageError);
    for (int i = 0; i < 10; ++i) commands.signal(words.iova(0), 1, CX_SIGNAL_OP_ADD);
    commands.finish();
    stream->call([] {});
    for (int i = 0; i < 7; ++i) stream->execute(commands);
  }
  stream->synchronize();
  REQUIRE(words[0] == 70);
}

TEST_CASE("Lists that a stream holds back stay as they are") {
  const auto device = open_card();
  const Words words(*device);
  const Timeline gate(*device);
  const auto stream = device->streams().create();
  CommandBuffer commands(*device);
  const uint32_t index = commands.signal(words.iova(0), 1, CX_SIGNAL_OP_SET);
  commands.finish();
  stream->wait(gate, 1);
  stream->execute(commands);
  REQUIRE(commands.running());
  REQUIRE_THROWS_WITH(commands.patch_value(index, 2), Catch::Contains("a stream holds a run back"));
  gate.signal(1);
  stream->synchronize();
  REQUIRE(words[0] == 1);
  REQUIRE_FALSE(commands.running());
  commands.patch_value(index, 2);
  stream->execute(commands);
  stream->synchronize();
  REQUIRE(words[0] == 2);
  // A run that is dropped holds nothing back any more.
  fail(*stream);
  stream->wait(gate, 2);
  REQUIRE_NOTHROW(stream->execute(commands));
  REQUIRE_THROWS_AS(stream->synchronize(), DeviceFault);
  commands.patch_value(index, 3);
}

TEST_CASE("Lists signal timelines and wait for them; a run waits at the driver for what nobody has submitted") {
  const auto device = open_card();
  const Words words(*device);
  Timeline ping(*device), pong(*device);
  const auto a = device->streams().create(), b = device->streams().create();
  CommandBuffer first(*device), second(*device);
  const uint32_t wait = first.wait(ping, 1);
  first.signal(words.iova(0), 1, CX_SIGNAL_OP_ADD);
  const uint32_t raise = first.signal(pong, 1);
  first.finish();
  second.signal(ping, 7);
  second.wait(ping, 7);  // its own signal, so it can run
  second.signal(words.iova(1), 1, CX_SIGNAL_OP_ADD);
  second.finish();
  a->execute(first);
  b->wait(pong, 1);
  b->call([&] { REQUIRE(words[0] == 1); });
  REQUIRE_THROWS_AS(a->synchronize(50), TimeoutError);
  REQUIRE(pong.promised() == 0);
  b->clear_error();
  const auto c = device->streams().create();
  c->execute(second);
  REQUIRE(ping.promised() == 7);
  for (auto *stream : {a.get(), b.get(), c.get()}) stream->synchronize();
  REQUIRE(words[1] == 1);
  REQUIRE(pong.value() == 1);
  first.patch_value(wait, 9);
  first.patch_value(raise, 5);
  a->execute(first);
  REQUIRE_FALSE(a->done());
  ping.signal(9);
  pong.wait(5);
  REQUIRE(words[0] == 2);
}

TEST_CASE("A list that fails signals what others wait for all the same") {
  const auto device = open_card();
  const Timeline timeline(*device);
  const auto bad = device->streams().create(), good = device->streams().create();
  CommandBuffer commands(*device);
  commands.signal(0x5000, 1, CX_SIGNAL_OP_SET);
  commands.signal(timeline, 3);
  commands.finish();
  bad->execute(commands);
  good->wait(timeline, 3);
  good->synchronize();
  REQUIRE_THROWS_AS(bad->synchronize(), DeviceFault);
  REQUIRE(timeline.value() == 3);

  // One that is dropped before it ran; but not one that is refused.
  bad->clear_error();
  commands.patch_value(1, 5);
  fail(*bad);
  bad->call([] {});
  bad->execute(commands);
  good->wait(timeline, 5);
  good->synchronize();
  REQUIRE(timeline.value() == 5);
  commands.patch_value(1, 6);
  Event refused;
  REQUIRE_THROWS_AS(bad->execute(commands), DeviceFault);
  REQUIRE_THROWS_AS(bad->record(refused), DeviceFault);
  REQUIRE(timeline.promised() == 5);
  REQUIRE_FALSE(refused.recorded());
}

TEST_CASE("Threads work on streams of their own, and on one") {
  const auto device = open_card();
  constexpr size_t kThreads = 6;
  constexpr uint64_t kPackets = 60;
  const Words words(*device);
  const auto common = device->streams().create(0);
  std::vector<std::string> errors(kThreads);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      try {
        const auto stream = device->streams().create(static_cast<uint32_t>(1 + t % 2));
        const DeviceBuffer memory = device->allocate(4096);
        for (uint64_t i = 1; i <= kPackets; ++i) {
          set(*stream, words, t, i);
          common->enqueue([&](Queue &queue) { return queue.signal(words.iova(kThreads), 1, true); });
          if (i % 20 != 0) continue;
          stream->synchronize();
          if (words[t] != i) errors[t] = "its stream is behind";
          std::vector<std::byte> out(4096, static_cast<std::byte>(16 * t + i % 16)), in(4096);
          device->upload(memory.address(), out);
          device->download(in, memory.address());
          if (in != out) errors[t] = "its memory holds another's bytes";
        }
      } catch (const std::exception &error) {
        errors[t] = error.what();
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
  for (const std::string &error : errors) REQUIRE(error == "");
  common->synchronize();
  REQUIRE(words[kThreads] == kThreads * kPackets);
}

TEST_CASE("A thread waits for what another signals, while the device is idle") {
  const auto device = open_card();
  const Timeline ping(*device), pong(*device);
  constexpr uint64_t kRounds = 20;
  constexpr std::chrono::milliseconds kPatience(60'000);
  std::string error;
  std::thread other([&] {
    try {
      for (uint64_t i = 1; i <= kRounds; ++i) {
        ping.wait(i, 0, kPatience);
        pong.signal(i);
      }
    } catch (const std::exception &caught) {
      error = caught.what();
    }
  });
  std::string own;
  try {
    for (uint64_t i = 1; i <= kRounds; ++i) {
      ping.signal(i);
      pong.wait(i, 0, kPatience);
    }
  } catch (const std::exception &caught) {
    own = caught.what();
    ping.signal(kRounds);
  }
  other.join();
  REQUIRE(own == "");
  REQUIRE(error == "");
  REQUIRE(pong.value() == kRounds);
}
