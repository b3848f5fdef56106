// Verbs from user space: bytes that move, the status of every error on the right rank, waits that are named, times
// against the network's own bounds.
#include "driver/rdma/verbs.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>

#include "tb/common/seed.hpp"
#include "tb/driver/collective/test_clusters.hpp"

using namespace cx;
using namespace cx::rdma;
using tb::plain;

namespace {

constexpr unsigned kAll = kLocalWrite | kRemoteRead | kRemoteWrite | kRemoteAtomic;

/// One end of a connection with memory of its own.
struct End {
  End(Network &network, uint32_t rank, std::size_t bytes, unsigned access = kAll, const QueuePairOptions &options = {},
      std::size_t completions = 256)
      : port(network.open(rank)),
        memory(bytes),
        region(port.register_memory(memory.data(), bytes, access)),
        queue(port.create_completion_queue(completions)),
        pair(port.create_queue_pair(queue, queue, options)) {}
  Port port;
  std::vector<std::byte> memory;
  MemoryRegion region;
  CompletionQueue queue;
  QueuePair pair;

  uint64_t word(std::size_t at) const {
    uint64_t value;
    std::memcpy(&value, memory.data() + at, 8);
    return value;
  }
  void set_word(std::size_t at, uint64_t value) { std::memcpy(memory.data() + at, &value, 8); }
};

void fill(std::vector<std::byte> &memory, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::byte &byte : memory) byte = static_cast<std::byte>(random());
}

void expect(const Completion &got, uint64_t id, Status status, bool receive = false) {
  INFO("request " << got.id << ": " << to_string(got.status) << ", expected " << id << ": " << to_string(status));
  CHECK(got.id == id);
  CHECK(got.status == status);
  CHECK(got.receive == receive);
}

}  // namespace

TEST_CASE("send and receive, write, read and atomics move real bytes") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4097}, std::size_t{1'000'003}}) {
    const Cluster c = plain(2);
    Network network(c);
    End a(network, 0, bytes + 64), b(network, 1, bytes + 64);
    a.pair.connect(b.pair);
    fill(a.memory, random());
    b.pair.post_receive(1, b.region.local(32, bytes));
    a.pair.post_send(2, a.region.local(5, bytes), 77);
    const Completion received = b.queue.wait();
    expect(received, 1, Status::kSuccess, true);
    CHECK(received.bytes == bytes);
    CHECK(received.immediate == 77u);
    CHECK(received.qp == b.pair.number());
    CHECK(std::memcmp(&b.memory[32], &a.memory[5], bytes) == 0);
    expect(a.queue.wait(), 2, Status::kSuccess);

    fill(b.memory, random());
    a.pair.post_read(3, a.region.local(7, bytes), b.region.remote(11));
    expect(a.queue.wait(), 3, Status::kSuccess);
    CHECK(std::memcmp(&a.memory[7], &b.memory[11], bytes) == 0);

    fill(a.memory, random());
    const std::vector<std::byte> before = b.memory;
    a.pair.post_write(4, a.region.local(3, bytes), b.region.remote(1));
    expect(a.queue.wait(), 4, Status::kSuccess);
    CHECK(std::memcmp(&b.memory[1], &a.memory[3], bytes) == 0);
    CHECK(b.memory[0] == before[0]);
    CHECK(std::memcmp(&b.memory[1 + bytes], &before[1 + bytes], 63) == 0);
    CHECK_FALSE(b.queue.poll());  // the other end hears nothing of it

    b.pair.post_receive(5, b.region.local(0, 0));
    a.pair.post_write(6, a.region.local(3, bytes), b.region.remote(1), 99);
    const Completion told = b.queue.wait();
    expect(told, 5, Status::kSuccess, true);
    CHECK(told.immediate == 99u);
    expect(a.queue.wait(), 6, Status::kSuccess);
  }
  // Requests name memory by any address that it was registered with.
  const Cluster c = plain(2);
  Network network(c);
  End a(network, 0, 64), b(network, 1, 64);
  a.pair.connect(b.pair);
  const MemoryRegion other = b.port.register_memory(b.memory.data(), 64, kAll, 0x1000);
  CHECK(other.address() == 0x1000);
  b.set_word(8, 40);
  a.pair.post_fetch_add(1, a.region.local(0, 8), other.remote(8), 2);
  a.pair.post_compare_swap(2, a.region.local(8, 8), {other.rkey(), 0x1008}, 42, 7);
  a.pair.post_compare_swap(3, a.region.local(16, 8), other.remote(8), 42, 9);
  for (const uint64_t id : {1, 2, 3}) expect(a.queue.wait(), id, Status::kSuccess);
  CHECK(a.word(0) == 40);
  CHECK(a.word(8) == 42);
  CHECK(a.word(16) == 7);  // not 42: nothing was swapped
  CHECK(b.word(8) == 7);
}

TEST_CASE("counters that several cards add to lose nothing") {
  const Cluster c = plain(5, {"link.bit_error_rate=1e-5", "rdma.retransmit_us=200"});
  Network network(c);
  End home(network, 0, 64);
  std::vector<std::unique_ptr<End>> others;
  std::vector<QueuePair> ends;
  for (uint32_t rank = 1; rank < 5; ++rank) {
    others.push_back(std::make_unique<End>(network, rank, 8 * 50));
    ends.push_back(home.port.create_queue_pair(home.queue, home.queue));
    others.back()->pair.connect(ends.back());
  }
  for (uint64_t i = 0; i < 50; ++i) {
    for (auto &other : others) other->pair.post_fetch_add(i, other->region.local(8 * i, 8), home.region.remote(), 1);
  }
  std::vector<bool> seen(200, false);
  for (auto &other : others) {
    for (uint64_t i = 0; i < 50; ++i) {
      expect(other->queue.wait(), i, Status::kSuccess);
      const uint64_t former = other->word(8 * i);
      REQUIRE(former < 200);
      CHECK_FALSE(seen[former]);
      seen[former] = true;
    }
  }
  CHECK(home.word(0) == 200);
}

TEST_CASE("every wrong key, range and right has its status on its rank, and the rest goes on") {
  const Cluster c = plain(3);
  Network network(c);
  End bystander(network, 0, 256), other(network, 2, 256);
  bystander.pair.connect(other.pair);
  struct Case {
    const char *what;
    std::function<void(End &a, End &b)> post;  ///< request 1 at a
    Status here;                               ///< of request 1, on rank 0
    std::optional<Status> there;               ///< of receive 10, on rank 1, if one was posted
  };
  std::deque<MemoryRegion> kept;  // until their requests are done
  const auto receive = [](End &b, uint64_t bytes) { b.pair.post_receive(10, b.region.local(0, bytes)); };
  const std::vector<Case> cases = {
      {"unknown lkey of a send",
       [&](End &a, End &b) {
         receive(b, 64), a.pair.post_send(1, {a.region.lkey() + 1000, a.region.address(), 8});
       },
       Status::kLocalProtection,
       {}},
      {"local range of a write",
       [](End &a, End &b) { a.pair.post_write(1, a.region.local(250, 8), b.region.remote()); },
       Status::kLocalProtection,
       {}},
      {"local range that ends beyond the last address",
       [](End &a, End &b) {
         a.pair.post_write(1, {a.region.lkey(), ~0ull - 3, 8}, b.region.remote());
       },
       Status::kLocalProtection,
       {}},
      {"read into memory without the right to write",
       [](End &a, End &b) {
         const MemoryRegion only = a.port.register_memory(a.memory.data(), 256, kRemoteRead);
         a.pair.post_read(1, only.local(0, 8), b.region.remote());
       },
       Status::kLocalProtection,
       {}},
      {"unknown rkey of a write",
       [](End &a, End &b) {
         a.pair.post_write(1, a.region.local(0, 8), {b.region.rkey() + 1000, b.region.address()});
       },
       Status::kRemoteAccess,
       {}},
      {"rkey of a region that was removed",
       [](End &a, End &b) {
         const uint32_t gone = b.port.register_memory(b.memory.data(), 256, kAll).rkey();
         a.pair.post_write(1, a.region.local(0, 8), {gone, b.region.address()});
       },
       Status::kRemoteAccess,
       {}},
      {"remote range of a write",
       [](End &a, End &b) { a.pair.post_write(1, a.region.local(0, 8), b.region.remote(249)); },
       Status::kRemoteAccess,
       {}},
      {"remote range below the region of a read",
       [](End &a, End &b) {
         a.pair.post_read(1, a.region.local(0, 8), {b.region.rkey(), b.region.address() - 1});
       },
       Status::kRemoteAccess,
       {}},
      {"write without the right",
       [&](End &a, End &b) {
         const MemoryRegion &only =
             kept.emplace_back(b.port.register_memory(b.memory.data(), 256, kLocalWrite | kRemoteRead));
         a.pair.post_write(1, a.region.local(0, 8), only.remote());
       },
       Status::kRemoteAccess,
       {}},
      {"read without the right",
       [&](End &a, End &b) {
         const MemoryRegion &only = kept.emplace_back(b.port.register_memory(b.memory.data(), 256, kRemoteWrite));
         a.pair.post_read(1, a.region.local(0, 8), only.remote());
       },
       Status::kRemoteAccess,
       {}},
      {"atomic without the right",
       [&](End &a, End &b) {
         const MemoryRegion &only =
             kept.emplace_back(b.port.register_memory(b.memory.data(), 256, kRemoteWrite | kRemoteRead));
         a.pair.post_fetch_add(1, a.region.local(0, 8), only.remote(), 1);
       },
       Status::kRemoteAccess,
       {}},
      {"atomic that is not aligned",
       [](End &a, End &b) { a.pair.post_fetch_add(1, a.region.local(0, 8), b.region.remote(4), 1); },
       Status::kRemoteInvalid,
       {}},
      {"message longer than its receive",
       [&](End &a, End &b) { receive(b, 7), a.pair.post_send(1, a.region.local(0, 8)); }, Status::kRemoteInvalid,
       Status::kLocalLength},
      {"receive outside of its region", [](End &, End &b) { b.pair.post_receive(10, b.region.local(250, 8)); },
       Status::kFlushed, Status::kLocalProtection},
      {"receive into memory without the right to write",
       [](End &, End &b) {
         const MemoryRegion only = b.port.register_memory(b.memory.data(), 256, kRemoteWrite);
         b.pair.post_receive(10, only.local(0, 8));
       },
       Status::kFlushed, Status::kLocalProtection}};
  for (const Case &of : cases) {
    INFO(of.what);
    End a(network, 0, 256), b(network, 1, 256);
    a.pair.connect(b.pair);
    const std::vector<std::byte> clean = b.memory;
    of.post(a, b);
    if (of.there) expect(b.queue.wait(), 10, *of.there, true);
    if (of.here != Status::kFlushed) {
      a.pair.post_write(2, a.region.local(0, 8), b.region.remote());
      expect(a.queue.wait(), 1, of.here);
      expect(a.queue.wait(), 2, Status::kFlushed);
      CHECK(a.pair.state().failed);
      a.pair.post_send(3, a.region.local(0, 8));
      expect(a.queue.wait(), 3, Status::kFlushed);
    }
    CHECK(b.memory == clean);
    // Others of the same ports are not concerned.
    fill(bystander.memory, 3);
    bystander.pair.post_write(4, bystander.region.local(), other.region.remote());
    expect(bystander.queue.wait(), 4, Status::kSuccess);
    CHECK(other.memory == bystander.memory);
  }
}

TEST_CASE("a card that is dead: retries exceeded, within the stated time; what waited is flushed") {
  const Cluster c = plain(3, {"rdma.retransmit_us=100", "rdma.retries=3"});
  Network network(c);
  End a(network, 0, 1 << 20), b(network, 1, 1 << 20), third(network, 2, 1 << 20);
  a.pair.connect(b.pair);
  QueuePair to_third = a.port.create_queue_pair(a.queue, a.queue);
  to_third.connect(third.pair);
  network.inject("dead_node@node=1,at_us=10");
  a.pair.post_write(1, a.region.local(), b.region.remote());
  a.pair.post_write(2, a.region.local(0, 8), b.region.remote());
  a.pair.post_receive(3, a.region.local(0, 8));
  expect(a.queue.wait(), 1, Status::kRetryExceeded);
  CHECK(network.time_s() <= 10e-6 + c.shape().detection_s + 1e-6);
  CHECK(network.time_s() >= 4 * 100e-6);
  expect(a.queue.wait(), 2, Status::kFlushed);
  expect(a.queue.wait(), 3, Status::kFlushed, true);
  to_third.post_write(4, a.region.local(), third.region.remote());
  expect(a.queue.wait(), 4, Status::kSuccess);
}

TEST_CASE("a send without a receive: waits, is named, fails after its limit, goes on if one comes in time") {
  const Cluster c = plain(2);
  for (const double limit : {0.0, 50e-6}) {
    Network network(c);
    End a(network, 0, 4096, kAll, {16, 16, limit}), b(network, 1, 4096);
    a.pair.connect(b.pair);
    a.pair.post_write(1, a.region.local(0, 100), b.region.remote());
    a.pair.post_send(2, a.region.local(0, 3000));
    a.pair.post_send(3, a.region.local(0, 70));
    expect(a.queue.wait(), 1, Status::kSuccess);
    if (limit == 0) {
      try {
        a.queue.wait(100e-6);
        FAIL("no error");
      } catch (const BlockedError &error) {
        INFO(error.what());
        REQUIRE(error.pairs.size() == 1);
        CHECK(error.pairs[0].rank == 0);
        CHECK(error.pairs[0].peer == 1);
        CHECK(error.pairs[0].qp == a.pair.number());
        CHECK(error.pairs[0].bytes_outstanding == 3070);
        CHECK(error.pairs[0].waits_for_receive);
        CHECK(std::string(error.what())
                  .find("rank 0 waits in a send to rank 1, queue pair 0, 3070 bytes outstanding "
                        "(no receive is posted there)") != std::string::npos);
      }
    } else {
      expect(a.queue.wait(), 2, Status::kReceiverNotReady);
      CHECK(network.time_s() == Approx(50e-6 + c.shape().message_s + c.shape().completion_s).epsilon(0.2));
      expect(a.queue.wait(), 3, Status::kFlushed);
      continue;
    }
    b.pair.post_receive(4, b.region.local());
    b.pair.post_receive(5, b.region.local());
    expect(a.queue.wait(), 2, Status::kSuccess);
    expect(a.queue.wait(), 3, Status::kSuccess);
  }
  // Each send has the whole limit to itself.
  Network network(c);
  End a(network, 0, 4096, kAll, {16, 16, 50e-6}), b(network, 1, 4096);
  a.pair.connect(b.pair);
  for (uint64_t i = 0; i < 5; ++i) {
    a.pair.post_send(i, a.region.local(0, 64));
    network.run(30e-6);
    b.pair.post_receive(i, b.region.local());
    expect(a.queue.wait(), i, Status::kSuccess);
  }
}

TEST_CASE("a receive that nothing comes for is named, with all others that wait") {
  const Cluster c = plain(3);
  Network network(c);
  End a(network, 0, 4096), b(network, 1, 4096), third(network, 2, 4096);
  a.pair.connect(b.pair);
  QueuePair from_third = a.port.create_queue_pair(a.queue, a.queue);
  from_third.connect(third.pair);
  a.pair.post_receive(1, a.region.local(0, 500));
  from_third.post_receive(2, a.region.local(500, 600));
  third.pair.post_send(3, third.region.local(0, 100));
  expect(a.queue.wait(), 2, Status::kSuccess, true);
  expect(third.queue.wait(), 3, Status::kSuccess);
  third.pair.post_send(4, third.region.local(0, 200));
  try {
    a.queue.wait();
    FAIL("no error");
  } catch (const BlockedError &error) {
    const std::string text = error.what();
    INFO(text);
    CHECK(text.find("rank 0, completion queue 0: nothing is under way any more") == 0);
    CHECK(text.find("rank 0 waits in a receive from rank 1, queue pair 0, 500 bytes outstanding") != std::string::npos);
    CHECK(text.find("rank 2 waits in a send to rank 0, queue pair 0, 200 bytes outstanding (no receive is posted "
                    "there)") != std::string::npos);
    CHECK(error.pairs.size() == 2);
    // When the last timer has run out, not after the limit.
    CHECK(network.time_s() < 1.1 * c.shape().detection_s);
  }
}

TEST_CASE("queues that are full refuse, and go on when there is room") {
  const Cluster c = plain(2);
  Network network(c);
  End a(network, 0, 4096, kAll, {4, 2}), b(network, 1, 4096, kAll, {1, 3});
  a.pair.connect(b.pair);
  for (uint64_t i = 0; i < 4; ++i) a.pair.post_send(i, a.region.local(0, 8));
  CHECK_THROWS_AS(a.pair.post_send(9, a.region.local(0, 8)), QueueFullError);
  CHECK_THROWS_AS(a.pair.post_write(9, a.region.local(0, 8), b.region.remote()), QueueFullError);
  for (uint64_t i = 0; i < 3; ++i) b.pair.post_receive(i, b.region.local());
  CHECK_THROWS_AS(b.pair.post_receive(9, b.region.local()), QueueFullError);
  for (uint64_t i = 0; i < 3; ++i) expect(a.queue.wait(), i, Status::kSuccess);
  b.pair.post_receive(3, b.region.local());
  a.pair.post_send(4, a.region.local(0, 8));
  expect(a.queue.wait(), 3, Status::kSuccess);
}

TEST_CASE("a completion queue that overruns says so after what it holds; others go on") {
  const Cluster c = plain(2);
  Network network(c);
  End a(network, 0, 4096, kAll, {}, 2), b(network, 1, 4096);
  a.pair.connect(b.pair);
  for (uint64_t i = 0; i < 3; ++i) {
    b.pair.post_receive(i, b.region.local());
    a.pair.post_send(i, a.region.local(0, 8));
  }
  network.run(1e-3);
  expect(*a.queue.poll(), 0, Status::kSuccess);
  expect(*a.queue.poll(), 1, Status::kSuccess);
  CHECK_THROWS_AS(a.queue.poll(), OverrunError);
  CHECK_THROWS_AS(a.queue.wait(), OverrunError);
  for (uint64_t i = 0; i < 3; ++i) expect(*b.queue.poll(), i, Status::kSuccess, true);
}

namespace {

/// Random ranges of `bytes` in all that lie in any order in a region and do not overlap.
Ranges random_ranges(const MemoryRegion &region, uint64_t bytes, std::mt19937_64 &random) {
  const std::size_t count = 1 + random() % kMaxRanges;
  std::vector<uint64_t> cuts = {0, bytes};
  for (std::size_t i = 1; i < count; ++i) cuts.push_back(random() % (bytes + 1));
  std::sort(cuts.begin(), cuts.end());
  const uint64_t gap = (region.bytes() - bytes) / (count + 1);
  std::vector<std::size_t> places(count);
  for (std::size_t i = 0; i < count; ++i) places[i] = i;
  std::shuffle(places.begin(), places.end(), random);
  // The range at each place of the region, from the lowest address.
  Ranges ranges(count);
  uint64_t at = 0;
  for (const std::size_t i : places) {
    at += random() % (gap + 1);
    ranges[i] = region.local(at, cuts[i + 1] - cuts[i]);
    at += ranges[i].bytes;
  }
  return ranges;
}

std::vector<std::byte> gathered(const End &end, const Ranges &ranges) {
  std::vector<std::byte> out;
  for (const Local &range : ranges) {
    const auto from = end.memory.begin() + static_cast<std::ptrdiff_t>(range.address - end.region.address());
    out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(range.bytes));
  }
  return out;
}

void scatter(std::vector<std::byte> &memory, const MemoryRegion &region, const Ranges &ranges,
             const std::vector<std::byte> &bytes) {
  std::size_t done = 0;
  for (const Local &range : ranges) {
    const std::size_t part = std::min<std::size_t>(range.bytes, bytes.size() - done);
    if (part != 0) std::memcpy(&memory[range.address - region.address()], &bytes[done], part);
    done += part;
  }
}

/// Overrides of a cluster: no packet is lost, or some are, with both ways of recovery.
const std::vector<std::vector<std::string>> kWithAndWithoutLoss = {
    {},
    {"link.bit_error_rate=1e-6", "rdma.retransmit_us=200"},
    {"link.bit_error_rate=1e-6", "rdma.retransmit_us=200", "rdma.recovery=selective_repeat"}};

}  // namespace

TEST_CASE("messages are gathered from and scattered to lists of ranges, packets lost or not") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const std::vector<std::string> &sets : kWithAndWithoutLoss) {
    const Cluster c = plain(2, sets);
    for (int round = 0; round < 20; ++round) {
      const uint64_t bytes = round == 0 ? 0 : random() % (round % 2 == 0 ? 100'000 : 9'000);
      Network network(c);
      End a(network, 0, 2 * bytes + 1000), b(network, 1, 2 * bytes + 1000);
      a.pair.connect(b.pair);
      fill(a.memory, random());
      fill(b.memory, random());
      INFO(bytes << " bytes");
      std::vector<std::byte> expected = b.memory;
      const Ranges from = random_ranges(a.region, bytes, random), to = random_ranges(b.region, bytes + 7, random);
      scatter(expected, b.region, to, gathered(a, from));
      b.pair.post_receive(1, to);
      a.pair.post_send(2, from);
      const Completion received = b.queue.wait();
      expect(received, 1, Status::kSuccess, true);
      CHECK(received.bytes == bytes);
      expect(a.queue.wait(), 2, Status::kSuccess);
      CHECK(b.memory == expected);

      const Ranges sources = random_ranges(a.region, bytes, random);
      const std::vector<std::byte> written = gathered(a, sources);
      if (bytes != 0) std::memcpy(&expected[3], written.data(), bytes);
      a.pair.post_write(3, sources, b.region.remote(3));
      expect(a.queue.wait(), 3, Status::kSuccess);
      CHECK(b.memory == expected);

      const Ranges targets = random_ranges(a.region, bytes, random);
      std::vector<std::byte> filled = a.memory;
      scatter(filled, a.region, targets, {b.memory.begin() + 5, b.memory.begin() + 5 + static_cast<long>(bytes)});
      a.pair.post_read(4, targets, b.region.remote(5));
      expect(a.queue.wait(), 4, Status::kSuccess);
      CHECK(a.memory == filled);
    }
  }
}

TEST_CASE("lists of ranges: more than the limit are refused, every field of every range is checked") {
  const Cluster c = plain(2);
  {
    Network network(c);
    End a(network, 0, 4096), b(network, 1, 4096);
    a.pair.connect(b.pair);
    SharedReceiveQueue shared = a.port.create_shared_receive_queue();
    const Ranges many(kMaxRanges + 1, a.region.local(0, 8)), most(kMaxRanges, a.region.local(0, 8));
    CHECK_THROWS_AS(a.pair.post_send(1, many), TooManyRangesError);
    CHECK_THROWS_AS(a.pair.post_write(1, many, b.region.remote()), TooManyRangesError);
    CHECK_THROWS_AS(a.pair.post_read(1, many, b.region.remote()), TooManyRangesError);
    CHECK_THROWS_AS(a.pair.post_receive(1, many), TooManyRangesError);
    CHECK_THROWS_AS(shared.post_receive(1, many), TooManyRangesError);
    CHECK_THROWS_AS(a.pair.post_send(1, {a.region.local(0, 8), {a.region.lkey(), 0, ~0ull}}), UsageError);
    CHECK(a.pair.state().sends + a.pair.state().receives + shared.waiting() == 0);
    a.pair.post_write(2, most, b.region.remote());
    expect(a.queue.wait(), 2, Status::kSuccess);
  }
  const std::vector<std::pair<const char *, std::function<void(const End &, Local &)>>> changes = {
      {"lkey", [](const End &, Local &range) { range.lkey += 256; }},
      {"address", [](const End &end, Local &range) { range.address = end.region.address() - 1; }},
      {"bytes", [](const End &, Local &range) { range.bytes = 4097; }}};
  for (const auto &[field, change] : changes) {
    for (const std::size_t place : {0, 1, 3}) {
      for (const int verb : {0, 1, 2, 3}) {
        INFO(field << " of range " << place << ", verb " << verb);
        Network network(c);
        End a(network, 0, 4096), b(network, 1, 4096);
        a.pair.connect(b.pair);
        Ranges ranges;
        for (uint64_t i = 0; i < 4; ++i) ranges.push_back(a.region.local(100 * i, 50));
        change(a, ranges[place]);
        const std::vector<std::byte> clean = b.memory;
        if (verb == 0) a.pair.post_send(1, ranges);
        if (verb == 1) a.pair.post_write(1, ranges, b.region.remote());
        if (verb == 2) a.pair.post_read(1, ranges, b.region.remote());
        if (verb == 3) a.pair.post_receive(1, ranges);
        expect(a.queue.wait(), 1, Status::kLocalProtection, verb == 3);
        CHECK(b.memory == clean);
      }
    }
  }
  // A message that is longer than all ranges of its receive together.
  Network network(c);
  End a(network, 0, 4096), b(network, 1, 4096);
  a.pair.connect(b.pair);
  b.pair.post_receive(1, {b.region.local(0, 10), b.region.local(20, 10)});
  a.pair.post_send(2, a.region.local(0, 21));
  expect(b.queue.wait(), 1, Status::kLocalLength, true);
  expect(a.queue.wait(), 2, Status::kRemoteInvalid);
}

TEST_CASE("a shared receive queue serves several queue pairs; every receive is taken once") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const std::vector<std::string> &sets : kWithAndWithoutLoss) {
    constexpr uint32_t kSenders = 3;
    constexpr uint64_t kMessages = 12, kBytes = 10'000;
    const Cluster c = plain(kSenders + 1, sets);
    Network network(c);
    Port home = network.open(0);
    std::vector<std::byte> memory(kSenders * kMessages * kBytes);
    const MemoryRegion region = home.register_memory(memory.data(), memory.size(), kLocalWrite);
    CompletionQueue queue = home.create_completion_queue();
    SharedReceiveQueue shared = home.create_shared_receive_queue(kSenders * kMessages);
    std::vector<std::unique_ptr<End>> senders;
    std::vector<QueuePair> pairs;
    for (uint32_t s = 0; s < kSenders; ++s) {
      senders.push_back(std::make_unique<End>(network, s + 1, kMessages * kBytes));
      fill(senders[s]->memory, random());
      QueuePairOptions options;
      options.shared = &shared;
      pairs.push_back(home.create_queue_pair(queue, queue, options));
      pairs[s].connect(senders[s]->pair);
      CHECK_THROWS_AS(pairs[s].post_receive(1, region.local(0, 8)), UsageError);
      for (uint64_t m = 0; m < kMessages; ++m) {
        senders[s]->pair.post_send(m, senders[s]->region.local(m * kBytes, kBytes - m), static_cast<uint32_t>(m));
      }
    }
    // Fewer receives than messages: the others wait for the next ones.
    std::vector<uint64_t> next(kSenders, 0);
    std::vector<bool> taken(kSenders * kMessages, false);
    uint64_t posted = 0;
    for (uint64_t done = 0; done < kSenders * kMessages; ++done) {
      while (posted < kSenders * kMessages && posted < done + 2) {
        shared.post_receive(posted, region.local(posted * kBytes, kBytes));
        ++posted;
      }
      const Completion got = queue.wait();
      REQUIRE(got.status == Status::kSuccess);
      REQUIRE(got.receive);
      REQUIRE(got.id < posted);
      CHECK_FALSE(taken[got.id]);
      taken[got.id] = true;
      uint32_t s = 0;
      while (pairs[s].number() != got.qp) ++s;
      CHECK(got.immediate == next[s]);  // messages of a connection stay in order
      CHECK(got.bytes == kBytes - next[s]);
      CHECK(std::memcmp(&memory[got.id * kBytes], &senders[s]->memory[next[s] * kBytes], got.bytes) == 0);
      ++next[s];
    }
    for (auto &sender : senders) {
      for (uint64_t m = 0; m < kMessages; ++m) expect(sender->queue.wait(), m, Status::kSuccess);
    }
    CHECK(shared.waiting() == 0);
    CHECK_THROWS_AS(shared.destroy(), UsageError);
    for (QueuePair &pair : pairs) pair.destroy();
    shared.destroy();
    CHECK_THROWS_AS(shared.post_receive(1, region.local(0, 8)), UsageError);
  }
}

TEST_CASE("shared receive queues: limits, waits and errors are those of the queue pair that is concerned") {
  const Cluster c = plain(3);
  Network network(c), another(c);
  Port home = network.open(0);
  std::vector<std::byte> memory(4096);
  const MemoryRegion region = home.register_memory(memory.data(), memory.size(), kLocalWrite);
  CompletionQueue queue = home.create_completion_queue();
  SharedReceiveQueue shared = home.create_shared_receive_queue(2);
  CHECK_THROWS_AS(home.create_shared_receive_queue(0), UsageError);
  QueuePairOptions options;
  options.shared = &shared;
  End patient(network, 1, 4096), limited(network, 2, 4096, kAll, {16, 16, 100e-6});
  CHECK_THROWS_AS(patient.port.create_queue_pair(patient.queue, patient.queue, options), UsageError);
  Port far = another.open(0);
  CompletionQueue far_queue = far.create_completion_queue();
  CHECK_THROWS_AS(far.create_queue_pair(far_queue, far_queue, options), UsageError);
  QueuePair to_patient = home.create_queue_pair(queue, queue, options),
            to_limited = home.create_queue_pair(queue, queue, options);
  to_patient.connect(patient.pair);
  to_limited.connect(limited.pair);
  // Nobody posts: one gives up after its limit, the other is named.
  patient.pair.post_send(1, patient.region.local(0, 64));
  limited.pair.post_send(2, limited.region.local(0, 64));
  expect(limited.queue.wait(), 2, Status::kReceiverNotReady);
  CHECK(network.time_s() >= 100e-6);
  CHECK(network.time_s() < 130e-6);
  try {
    patient.queue.wait(1e-3);
    FAIL("no error");
  } catch (const BlockedError &error) {
    INFO(error.what());
    REQUIRE(error.pairs.size() == 1);
    CHECK(error.pairs[0].rank == 1);
    CHECK(error.pairs[0].waits_for_receive);
    CHECK(error.pairs[0].bytes_outstanding == 64);
  }
  shared.post_receive(3, region.local(0, 64));
  expect(queue.wait(), 3, Status::kSuccess, true);
  expect(patient.queue.wait(), 1, Status::kSuccess);
  // A write with an immediate takes one at its end.
  patient.region = patient.port.register_memory(patient.memory.data(), 4096, kAll);
  const MemoryRegion open = home.register_memory(memory.data(), memory.size(), kRemoteWrite);
  fill(patient.memory, 9);
  patient.pair.post_write(4, patient.region.local(), open.remote(), 44);
  network.run(50e-6);
  shared.post_receive(5, region.local(0, 0));
  const Completion told = queue.wait();
  expect(told, 5, Status::kSuccess, true);
  CHECK(told.immediate == 44u);
  CHECK(memory == patient.memory);
  expect(patient.queue.wait(), 4, Status::kSuccess);
  // As many as it holds; one of a wrong key fails the queue pair whose message takes it, no other.
  shared.post_receive(6, {region.lkey() + 256, region.address(), 64});
  shared.post_receive(7, region.local(0, 64));
  CHECK_THROWS_AS(shared.post_receive(8, region.local(0, 64)), QueueFullError);
  patient.pair.post_send(9, patient.region.local(0, 64));
  expect(queue.wait(), 6, Status::kLocalProtection, true);
  expect(patient.queue.wait(), 9, Status::kRemoteInvalid);
  CHECK(shared.waiting() == 1);
  QueuePair fresh = home.create_queue_pair(queue, queue, options);
  End third(network, 2, 4096);
  fresh.connect(third.pair);
  third.pair.post_send(10, third.region.local(0, 64));
  expect(queue.wait(), 7, Status::kSuccess, true);
  expect(third.queue.wait(), 10, Status::kSuccess);
}

TEST_CASE("a queue pair with work that is destroyed: everything is flushed once, its memory may go, nothing hangs") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    const Cluster c = plain(3, {"rdma.retransmit_us=50", "rdma.retries=2"});
    Network network(c);
    End other(network, 1, 1 << 16), bystander(network, 0, 4096), third(network, 2, 4096);
    bystander.pair.connect(third.pair);
    auto gone = std::make_unique<End>(network, 0, 1 << 16);
    gone->pair.connect(other.pair);
    const unsigned sends = random() % 12, receives = 1 + random() % 5;
    for (unsigned i = 0; i < receives; ++i) gone->pair.post_receive(100 + i, gone->region.local(0, 1 << 16));
    for (unsigned i = 0; i < sends; ++i) {
      const Local all = gone->region.local(0, random() % (1 << 16));
      const auto kind = random() % 4;
      if (kind == 0) gone->pair.post_send(i, all);
      if (kind == 1) gone->pair.post_write(i, all, other.region.remote());
      if (kind == 2) gone->pair.post_read(i, all, other.region.remote());
      if (kind == 3) gone->pair.post_fetch_add(i, gone->region.local(0, 8), other.region.remote(), 1);
    }
    other.pair.post_receive(200, other.region.local());
    other.pair.post_send(201, other.region.local(0, 30'000));
    other.pair.post_read(202, other.region.local(0, 30'000), gone->region.remote());
    network.run(1e-6 * static_cast<double>(random() % 30));
    const bool only_flushed = round % 2 == 0;
    if (only_flushed) {
      gone->pair.flush();
      CHECK(gone->pair.state().failed);
      gone->pair.post_send(50, gone->region.local(0, 8));
    }
    gone->pair.destroy();
    CHECK_THROWS_AS(gone->pair.post_send(60, gone->region.local(0, 8)), UsageError);
    CHECK_THROWS_AS(gone->pair.post_receive(60, gone->region.local(0, 8)), UsageError);
    CHECK_THROWS_AS(gone->pair.state(), UsageError);
    CHECK_THROWS_AS(gone->pair.destroy(), UsageError);
    // Each request once, in order: first what was complete, then what was not.
    std::vector<uint64_t> sent, received;
    bool flushed = false;
    const unsigned late = only_flushed ? 1 : 0;
    while (sent.size() + received.size() < sends + receives + late) {
      const Completion got = gone->queue.wait();
      (got.receive ? received : sent).push_back(got.id);
      if (!got.receive) {
        if (flushed) CHECK(got.status == Status::kFlushed);
        flushed = got.status == Status::kFlushed;
      }
      CHECK((got.status == Status::kFlushed || got.status == Status::kSuccess));
    }
    CHECK_FALSE(gone->queue.poll());
    for (unsigned i = 0; i < sends; ++i) CHECK(sent[i] == i);
    for (unsigned i = 0; i < receives; ++i) CHECK(received[i] == 100 + i);
    // Packets that are still under way do not touch what is freed here.
    gone.reset();
    // The other end: what it waits for ends by its retries, in order.
    std::vector<Status> ends;
    for (const uint64_t id : {201, 202}) {
      Completion got = other.queue.wait();
      while (got.receive) got = other.queue.wait();
      CHECK(got.id == id);
      ends.push_back(got.status);
    }
    CHECK((ends[1] == Status::kSuccess || ends[1] == Status::kFlushed || ends[1] == Status::kRetryExceeded));
    CHECK((ends[0] == Status::kSuccess || ends[0] == Status::kRetryExceeded || ends[1] != Status::kSuccess));
    fill(bystander.memory, 3);
    bystander.pair.post_write(4, bystander.region.local(), third.region.remote());
    expect(bystander.queue.wait(), 4, Status::kSuccess);
    CHECK(bystander.memory == third.memory);
  }
}

TEST_CASE("misuse is refused") {
  const Cluster c = plain(3);
  Network network(c), another(c);
  End a(network, 0, 64), b(network, 1, 64), third(network, 2, 64), far(another, 1, 64);
  CHECK_THROWS_AS(network.open(3), UsageError);
  CHECK_THROWS_AS(a.port.register_memory(nullptr, 8, kAll), UsageError);
  CHECK_THROWS_AS(a.port.register_memory(a.memory.data(), 0, kAll), UsageError);
  CHECK_THROWS_AS(a.port.register_memory(a.memory.data(), 8, 16), UsageError);
  CHECK_THROWS_AS(a.port.register_memory(a.memory.data(), 64, kAll, ~0ull - 3), UsageError);
  CHECK_THROWS_AS(a.port.create_completion_queue(0), UsageError);
  CHECK_THROWS_AS(a.port.create_queue_pair(a.queue, b.queue), UsageError);
  CHECK_THROWS_AS(a.port.create_queue_pair(a.queue, far.queue), UsageError);
  CHECK_THROWS_AS(a.port.create_queue_pair(a.queue, a.queue, {0, 1}), UsageError);
  CHECK_THROWS_AS(a.port.create_queue_pair(a.queue, a.queue, {1, 0}), UsageError);
  CHECK_THROWS_AS(a.port.create_queue_pair(a.queue, a.queue, {1, 1, -1.0}), UsageError);
  CHECK_THROWS_AS(a.pair.post_send(1, a.region.local()), UsageError);  // not connected
  CHECK_THROWS_AS(a.pair.connect(far.pair), UsageError);
  CHECK_THROWS_AS(a.pair.connect(a.pair), UsageError);
  a.pair.connect(b.pair);
  CHECK_THROWS_AS(a.pair.connect(third.pair), UsageError);
  CHECK_THROWS_AS(third.pair.connect(b.pair), UsageError);
  CHECK_THROWS_AS(network.inject("dead_node@node=9"), UsageError);
  CHECK_THROWS_AS(network.run(-1), UsageError);
  CHECK_THROWS_AS(a.queue.wait(-1), UsageError);
  CHECK(a.pair.state().peer == 1);
  CHECK(third.pair.state().peer == 2);
}

TEST_CASE("ping-pong and streams are as fast as the links allow, and not faster") {
  for (const char *rate : {"link.gbps=100", "link.gbps=400"}) {
    const Cluster c = plain(2, {rate});
    const auto link = [&] {
      double slowest = 1e300;
      for (const Cluster::Link &of : c.links()) slowest = std::min(slowest, of.payload_bytes_per_s);
      return slowest;
    }();
    for (const uint64_t bytes : {uint64_t{8}, uint64_t{4096}, uint64_t{1} << 20}) {
      Network network(c);
      End a(network, 0, bytes), b(network, 1, bytes);
      a.pair.connect(b.pair);
      fill(a.memory, bytes);
      const std::vector<std::byte> sent = a.memory;
      constexpr int kRounds = 10;
      for (int round = 0; round < kRounds; ++round) {
        b.pair.post_receive(1, b.region.local());
        a.pair.post_receive(2, a.region.local());
        network.run(5e-6);  // the other ends know of the receives
      }
      const double begin = network.time_s();
      for (int round = 0; round < kRounds; ++round) {
        a.pair.post_send(3, a.region.local(), 0);  // the bound counts an immediate's header
        while (!b.queue.wait().receive) {
        }
        b.pair.post_send(4, b.region.local(), 0);
        while (!a.queue.wait().receive) {
        }
      }
      const double one_way = (network.time_s() - begin) / (2 * kRounds);
      const double bound = c.path(0, 1, 0, bytes).latency_s + static_cast<double>(bytes) / link;
      INFO(rate << ", " << bytes << " bytes: " << one_way * 1e6 << " us, bound " << bound * 1e6 << " us");
      CHECK(one_way >= bound * (1 - 1e-6));
      CHECK(one_way <= bound * 1.05);
      CHECK(a.memory == sent);
      CHECK(b.memory == sent);
    }
    // Writes and reads, as many at a time as there is room for.
    for (const bool reads : {false, true}) {
      Network network(c);
      constexpr uint64_t kBytes = 1 << 20, kCount = 64;
      End a(network, 0, kBytes), b(network, 1, kBytes);
      a.pair.connect(b.pair);
      for (uint64_t i = 0; i < kCount; ++i) {
        reads ? a.pair.post_read(i, a.region.local(), b.region.remote())
              : a.pair.post_write(i, a.region.local(), b.region.remote());
      }
      for (uint64_t i = 0; i < kCount; ++i) expect(a.queue.wait(), i, Status::kSuccess);
      const double achieved = static_cast<double>(kBytes * kCount) / network.time_s();
      INFO(rate << (reads ? ", reads: " : ", writes: ") << achieved * 1e-9 << " GB/s of " << link * 1e-9);
      CHECK(achieved <= link);
      CHECK(achieved >= 0.98 * link);
    }
  }
}

TEST_CASE("the example of docs/verbs.md") {
  const Cluster cluster = Cluster::open("cx-trainer-16");
  rdma::Network network(cluster);
  rdma::Port here = network.open(0), there = network.open(5);
  std::vector<char> out(1 << 20, 'x'), in(1 << 20);
  rdma::MemoryRegion source = here.register_memory(out.data(), out.size(), 0);
  rdma::MemoryRegion target = there.register_memory(in.data(), in.size(), rdma::kLocalWrite | rdma::kRemoteWrite);
  rdma::CompletionQueue done = here.create_completion_queue(), done_there = there.create_completion_queue();
  rdma::QueuePair pair = here.create_queue_pair(done, done);
  rdma::QueuePair pair_there = there.create_queue_pair(done_there, done_there);
  pair.connect(pair_there);
  pair.post_write(1, source.local(), target.remote());
  const rdma::Completion completion = done.wait();
  CHECK(completion.status == rdma::Status::kSuccess);
  CHECK(in == out);
  CHECK(network.time_s() > 1e6 / 12.5e9);
}
