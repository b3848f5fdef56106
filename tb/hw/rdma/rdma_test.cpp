// Two cards on one link: verbs, keys, recovery from loss, reordering and duplication.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "hw/rdma/nic.hpp"
#include "tb/common/seed.hpp"

using namespace cx::hw::net;

namespace {

// Every vertex has one port.
struct OnePort final : Router {
  std::uint32_t egress(std::uint32_t, const Packet &) const override { return 0; }
};

constexpr unsigned kAll = kLocalWrite | kRemoteRead | kRemoteWrite | kRemoteAtomic;

struct Card {
  Card(EventQueue &queue, PacketPool &pool, const Router &router, std::uint32_t number, const RdmaParams &params,
       std::size_t bytes)
      : nic(queue, pool, router, number, number, params), sent(1 << 16), received(1 << 16), memory(bytes) {
    nic.add_port();
    qp = nic.create_qp(sent, received);
    key = nic.memory().add(memory.data(), kBase, memory.size(), kAll);
  }
  static constexpr std::uint64_t kBase = 0x10000;
  std::vector<Completion> take(CompletionQueue &queue) {
    std::vector<Completion> out;
    for (Completion c; queue.poll(c);) out.push_back(c);
    return out;
  }
  void receive(std::uint64_t id, std::uint64_t offset, std::uint64_t bytes) {
    nic.post_receive(qp, {id, {{kBase + offset, key, bytes}}});
  }
  SendRequest request(Verb verb, std::uint64_t id, std::uint64_t offset, std::uint64_t bytes) const {
    SendRequest r;
    r.verb = verb;
    r.id = id;
    r.ranges = {{kBase + offset, key, bytes}};
    return r;
  }
  Nic nic;
  CompletionQueue sent, received;
  std::vector<std::byte> memory;
  std::uint32_t qp = 0, key = 0;
};

struct Pair {
  explicit Pair(const RdmaParams &params = {}, const LinkParams &link = {}, std::uint64_t seed = 1,
                std::size_t bytes = 1 << 20)
      : a(queue, pool, router, 0, params, bytes),
        b(queue, pool, router, 1, params, bytes),
        ab(queue, pool, "a-b", link, a.nic, 0, b.nic, 0, seed),
        ba(queue, pool, "b-a", link, b.nic, 0, a.nic, 0, seed + 1000) {
    a.nic.connect_port(0, &ab, &ba);
    b.nic.connect_port(0, &ba, &ab);
    a.nic.connect_qp(a.qp, b.nic, b.qp, 1);
    b.nic.connect_qp(b.qp, a.nic, a.qp, 1);
  }
  void run() { queue.run_until(kNever); }
  EventQueue queue;
  PacketPool pool;
  OnePort router;
  Card a, b;
  Link ab, ba;
};

void fill(std::vector<std::byte> &memory, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::byte &byte : memory) byte = static_cast<std::byte>(random());
}

}  // namespace

TEST_CASE("send and receive move bytes and complete in order") {
  Pair pair;
  fill(pair.a.memory, 3);
  const std::vector<std::uint64_t> sizes = {0, 1, 4095, 4096, 4097, 100'000};
  std::uint64_t offset = 0;
  for (std::uint64_t i = 0; i < sizes.size(); ++i) {
    pair.b.receive(100 + i, offset, sizes[i] + 5);
    SendRequest send = pair.a.request(Verb::send, i, offset, sizes[i]);
    send.has_immediate = i % 2 == 1;
    send.immediate = static_cast<std::uint32_t>(i * 7);
    pair.a.nic.post_send(pair.a.qp, send);
    offset += sizes[i] + 8;
  }
  pair.run();
  const auto sent = pair.a.take(pair.a.sent), received = pair.b.take(pair.b.received);
  REQUIRE(sent.size() == sizes.size());
  REQUIRE(received.size() == sizes.size());
  offset = 0;
  for (std::uint64_t i = 0; i < sizes.size(); ++i) {
    CHECK(sent[i].id == i);
    CHECK(sent[i].status == Status::success);
    CHECK(received[i].id == 100 + i);
    CHECK(received[i].bytes == sizes[i]);
    CHECK(received[i].has_immediate == (i % 2 == 1));
    if (received[i].has_immediate) CHECK(received[i].immediate == i * 7);
    CHECK(std::memcmp(pair.a.memory.data() + offset, pair.b.memory.data() + offset, sizes[i]) == 0);
    for (std::size_t gap = 0; gap < 8; ++gap) CHECK(pair.b.memory[offset + sizes[i] + gap] == std::byte{0});
    offset += sizes[i] + 8;
  }
  CHECK(pair.pool.live() == 0);
}

TEST_CASE("write, read and atomics reach the other's memory") {
  Pair pair;
  fill(pair.a.memory, 4);
  SendRequest write = pair.a.request(Verb::write, 1, 0, 50'000);
  write.remote_address = Card::kBase + 1000;
  write.remote_key = pair.b.key;
  pair.a.nic.post_send(pair.a.qp, write);
  SendRequest read = pair.a.request(Verb::read, 2, 100'000, 50'000);
  read.remote_address = Card::kBase + 1000;
  read.remote_key = pair.b.key;
  pair.a.nic.post_send(pair.a.qp, read);
  const std::uint64_t start = 40;
  std::memcpy(pair.b.memory.data() + 800'000, &start, 8);
  for (std::uint64_t i = 0; i < 3; ++i) {
    SendRequest add = pair.a.request(Verb::fetch_add, 10 + i, 200'000 + 8 * i, 8);
    add.remote_address = Card::kBase + 800'000;
    add.remote_key = pair.b.key;
    add.operand = 5;
    pair.a.nic.post_send(pair.a.qp, add);
  }
  for (std::uint64_t i = 0; i < 2; ++i) {  // the first matches, the second does not
    SendRequest swap = pair.a.request(Verb::compare_swap, 20 + i, 200'100 + 12 + 8 * i, 8);
    swap.remote_address = Card::kBase + 800'000;
    swap.remote_key = pair.b.key;
    swap.compare = 55;
    swap.operand = 1234;
    pair.a.nic.post_send(pair.a.qp, swap);
  }
  pair.run();
  const auto sent = pair.a.take(pair.a.sent);
  REQUIRE(sent.size() == 7);
  const std::vector<std::uint64_t> order = {1, 2, 10, 11, 12, 20, 21};
  for (std::size_t i = 0; i < order.size(); ++i) {
    CHECK(sent[i].id == order[i]);
    CHECK(sent[i].status == Status::success);
  }
  CHECK(std::memcmp(pair.b.memory.data() + 1000, pair.a.memory.data(), 50'000) == 0);
  CHECK(std::memcmp(pair.a.memory.data() + 100'000, pair.a.memory.data(), 50'000) == 0);
  const auto word = [](const std::vector<std::byte> &memory, std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, memory.data() + at, 8);
    return value;
  };
  for (std::uint64_t i = 0; i < 3; ++i) CHECK(word(pair.a.memory, 200'000 + 8 * i) == 40 + 5 * i);
  CHECK(word(pair.a.memory, 200'112) == 55);
  CHECK(word(pair.a.memory, 200'120) == 1234);
  CHECK(word(pair.b.memory, 800'000) == 1234);
}

TEST_CASE("time of an idle link is the stated sum") {
  RdmaParams params;
  params.message_time = 500'000;
  params.completion_time = 300'000;
  LinkParams link;
  link.latency = 1'000'000;
  Pair pair(params, link);
  pair.b.receive(1, 0, 1 << 20);
  pair.run();
  const Ps start = pair.queue.now();
  pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, 1, 0, 40'960));
  Ps arrived = 0;
  pair.b.received.listen([&](const Completion &) { arrived = pair.queue.now(); });
  pair.run();
  // Ten packets of 4178 bytes at 12.5 GB/s.
  CHECK(arrived - start == 500'000 + 10 * 334'240 + 1'000'000 + 300'000);
}

TEST_CASE("wrong keys, ranges and rights fail on the right side") {
  struct Case {
    const char *name;
    std::function<void(Pair &, SendRequest &)> change;
    Status status;
  };
  const std::vector<Case> cases = {
      {"remote key", [](Pair &, SendRequest &r) { r.remote_key ^= 1; }, Status::remote_access},
      {"key zero", [](Pair &, SendRequest &r) { r.remote_key = 0; }, Status::remote_access},
      {"below the region", [](Pair &, SendRequest &r) { r.remote_address = Card::kBase - 1; }, Status::remote_access},
      {"beyond the region", [](Pair &p, SendRequest &r) { r.remote_address = Card::kBase + p.b.memory.size() - 99; },
       Status::remote_access},
      {"address wraps", [](Pair &, SendRequest &r) { r.remote_address = ~std::uint64_t{0} - 10; },
       Status::remote_access},
      {"removed region", [](Pair &p, SendRequest &) { REQUIRE(p.b.nic.memory().remove(p.b.key)); },
       Status::remote_access},
      {"no right",
       [](Pair &p, SendRequest &r) {
         r.remote_key = p.b.nic.memory().add(p.b.memory.data(), Card::kBase, p.b.memory.size(), kLocalWrite);
       },
       Status::remote_access},
      {"local key", [](Pair &, SendRequest &r) { r.ranges[0].key += 256; }, Status::local_protection},
      {"local range", [](Pair &p, SendRequest &r) { r.ranges[0].address = Card::kBase + p.a.memory.size() - 50; },
       Status::local_protection},
  };
  for (const Verb verb : {Verb::write, Verb::read}) {
    for (const Case &c : cases) {
      INFO(c.name << " verb " << static_cast<int>(verb));
      Pair pair;
      SendRequest request = pair.a.request(verb, 7, 0, 100);
      request.remote_address = Card::kBase;
      request.remote_key = pair.b.key;
      c.change(pair, request);
      const std::vector<std::byte> before = pair.b.memory;
      pair.a.nic.post_send(pair.a.qp, request);
      pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, 8, 0, 10));
      pair.run();
      const auto sent = pair.a.take(pair.a.sent);
      REQUIRE(sent.size() == 2);
      CHECK(sent[0].id == 7);
      CHECK(sent[0].status == c.status);
      CHECK(sent[1].status == Status::flushed);
      CHECK(pair.a.nic.state(pair.a.qp).failed);
      CHECK(pair.b.memory == before);
      // What comes later fails at once.
      pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, 9, 0, 10));
      pair.run();
      const auto late = pair.a.take(pair.a.sent);
      REQUIRE(late.size() == 1);
      CHECK(late[0].status == Status::flushed);
      CHECK(pair.pool.live() == 0);
    }
  }
}

TEST_CASE("atomics need alignment and their right") {
  for (const bool aligned : {true, false}) {
    Pair pair;
    SendRequest add = pair.a.request(Verb::fetch_add, 1, 0, 8);
    add.remote_address = Card::kBase + (aligned ? 0 : 4);
    add.remote_key =
        aligned ? pair.b.nic.memory().add(pair.b.memory.data(), Card::kBase, 64, kRemoteWrite) : pair.b.key;
    pair.a.nic.post_send(pair.a.qp, add);
    pair.run();
    const auto sent = pair.a.take(pair.a.sent);
    REQUIRE(sent.size() == 1);
    CHECK(sent[0].status == (aligned ? Status::remote_access : Status::remote_invalid));
  }
}

TEST_CASE("a message longer than its receive fails on both sides") {
  Pair pair;
  pair.b.receive(5, 0, 99);
  pair.b.receive(6, 1000, 99);
  pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, 1, 0, 100));
  pair.run();
  const auto sent = pair.a.take(pair.a.sent), received = pair.b.take(pair.b.received);
  REQUIRE(sent.size() == 1);
  CHECK(sent[0].status == Status::remote_invalid);
  REQUIRE(received.size() == 2);
  CHECK(received[0].status == Status::local_length);
  CHECK(received[1].status == Status::flushed);
}

TEST_CASE("a send waits for its receive and says so") {
  Pair pair;
  pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, 1, 0, 12'345));
  pair.run();
  CHECK(pair.a.take(pair.a.sent).empty());
  const QueuePairState state = pair.a.nic.state(pair.a.qp);
  CHECK(state.waits_for_receive);
  CHECK(state.peer == 1);
  CHECK(state.bytes_outstanding == 12'345);
  CHECK(state.bytes_unsent == 12'345);
  pair.b.receive(2, 0, 20'000);
  pair.run();
  CHECK(pair.a.take(pair.a.sent).size() == 1);
  CHECK(pair.b.take(pair.b.received).size() == 1);
  CHECK(pair.a.nic.state(pair.a.qp).bytes_outstanding == 0);
}

TEST_CASE("nothing is lost, reordered or doubled on a bad link") {
  const std::uint64_t base = cx::test::fresh_seed();
  for (const Recovery recovery : {Recovery::go_back_n, Recovery::selective_repeat}) {
    for (std::uint64_t round = 0; round < 40; ++round) {
      const std::uint64_t seed = base + round;
      INFO("seed " << seed << " recovery " << static_cast<int>(recovery));
      std::mt19937_64 random(seed);
      RdmaParams params;
      params.recovery = recovery;
      params.mtu = 256u << random() % 5;
      params.retransmit = 200'000'000;
      params.retries = 1000;
      params.ack_packets = 1 + static_cast<std::uint32_t>(random() % 16);
      params.window_bytes = params.mtu * (1 + random() % 64);
      LinkParams link;
      link.latency = random() % 2'000'000;
      link.loss = 0.01 * static_cast<double>(random() % 20);
      link.duplicate = 0.01 * static_cast<double>(random() % 10);
      link.reorder = 0.01 * static_cast<double>(random() % 20);
      link.reorder_delay = 5'000'000;
      link.bit_error_rate = random() % 2 == 0 ? 0 : 1e-6;
      Pair pair(params, link, seed);
      fill(pair.a.memory, seed);
      fill(pair.b.memory, seed + 1);
      const std::vector<std::byte> others = pair.b.memory;
      // Sends of a to b, writes and atomics of b to a, reads by both.
      const unsigned count = 20;
      std::uint64_t offset = 0;
      std::vector<std::pair<std::uint64_t, std::uint64_t>> places;
      for (unsigned i = 0; i < count; ++i) {
        const std::uint64_t bytes = random() % 20'000;
        places.emplace_back(offset, bytes);
        pair.b.receive(i, offset, bytes);
        pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, i, offset, bytes));
        SendRequest add = pair.b.request(Verb::fetch_add, i, 1'000'000 + 8 * i, 8);
        add.remote_address = Card::kBase + 1'040'000;
        add.remote_key = pair.a.key;
        add.operand = 1;
        pair.b.nic.post_send(pair.b.qp, add);
        SendRequest read = pair.b.request(Verb::read, 1000 + i, 500'000 + 1000 * i, 1000);
        read.remote_address = Card::kBase + 700'000 + 1000 * i;
        read.remote_key = pair.a.key;
        pair.b.nic.post_send(pair.b.qp, read);
        offset += bytes;
      }
      std::uint64_t counter = 0;
      std::memcpy(pair.a.memory.data() + 1'040'000, &counter, 8);
      pair.run();
      const auto sent = pair.a.take(pair.a.sent), received = pair.b.take(pair.b.received),
                 done = pair.b.take(pair.b.sent);
      REQUIRE(sent.size() == count);
      REQUIRE(received.size() == count);
      REQUIRE(done.size() == 2 * count);
      for (unsigned i = 0; i < count; ++i) {
        CHECK(sent[i].id == i);
        CHECK(sent[i].status == Status::success);
        CHECK(received[i].id == i);
        CHECK(received[i].bytes == places[i].second);
        CHECK(done[2 * i].id == i);
        CHECK(done[2 * i + 1].id == 1000 + i);
        CHECK(done[2 * i + 1].status == Status::success);
        std::uint64_t former = 0;  // exactly once, in order
        std::memcpy(&former, pair.b.memory.data() + 1'000'000 + 8 * i, 8);
        CHECK(former == i);
      }
      std::memcpy(&counter, pair.a.memory.data() + 1'040'000, 8);
      CHECK(counter == count);
      CHECK(std::memcmp(pair.a.memory.data(), pair.b.memory.data(), offset) == 0);
      CHECK(std::memcmp(others.data() + offset, pair.b.memory.data() + offset, 500'000 - offset) == 0);
      CHECK(std::memcmp(pair.a.memory.data() + 700'000, pair.b.memory.data() + 500'000, 1000 * count) == 0);
      if (link.loss > 0.05) CHECK(pair.a.nic.counters().retransmitted > 0);
      CHECK(pair.pool.live() == 0);
    }
  }
}

TEST_CASE("selective repeat sends less again than go-back-N") {
  std::uint64_t again[2] = {0, 0};
  Ps took[2] = {0, 0};
  for (const Recovery recovery : {Recovery::go_back_n, Recovery::selective_repeat}) {
    RdmaParams params;
    params.recovery = recovery;
    params.retransmit = 50'000'000;
    LinkParams link;
    link.latency = 5'000'000;
    link.loss = 0.01;
    Pair pair(params, link, 5);
    for (unsigned i = 0; i < 20; ++i) {
      pair.b.receive(i, 0, 1 << 20);
      pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, i, 0, 1 << 20));
    }
    pair.run();
    CHECK(pair.b.take(pair.b.received).size() == 20);
    again[static_cast<int>(recovery)] = pair.a.nic.counters().retransmitted;
    took[static_cast<int>(recovery)] = pair.queue.now();
  }
  CHECK(again[1] * 4 < again[0]);
  CHECK(took[1] < took[0]);
}

TEST_CASE("a card that does not answer fails its peer after the stated retries") {
  RdmaParams params;
  params.retransmit = 10'000'000;
  params.retries = 3;
  Pair pair(params);
  pair.b.receive(1, 0, 100'000);
  pair.run();
  const Ps start = pair.queue.now();
  pair.b.nic.die();
  pair.a.nic.post_send(pair.a.qp, pair.a.request(Verb::send, 1, 0, 100'000));
  pair.run();
  const auto sent = pair.a.take(pair.a.sent);
  REQUIRE(sent.size() == 1);
  CHECK(sent[0].status == Status::retry_exceeded);
  CHECK(pair.a.nic.counters().timeouts == 4);
  CHECK(pair.queue.now() - start < 5 * params.retransmit);
}

TEST_CASE("rate control follows the published algorithm") {
  DcqcnParams params;
  params.on = true;
  Dcqcn rate(params, 12.5e9);
  CHECK_FALSE(rate.limited());
  Ps now = 40 * params.alpha_timer;
  CHECK(rate.alpha(now) == Approx(1.0));  // before the first notification nothing decays
  rate.notified(now);                     // half the rate
  CHECK(rate.rate() == Approx(6.25e9));
  CHECK(rate.alpha(now) == Approx(1.0));
  CHECK(rate.alpha(now + params.alpha_timer - 1) == Approx(1.0));
  now += params.alpha_timer;
  CHECK(rate.alpha(now) == Approx(255.0 / 256));
  CHECK(rate.alpha(now + 9 * params.alpha_timer) == Approx(std::pow(255.0 / 256, 10)));
  for (unsigned i = 0; i < 5; ++i) {  // fast recovery halves the distance to the former rate
    const double before = rate.rate();
    rate.increase_expired();
    CHECK(rate.rate() == Approx((before + 12.5e9) / 2));
  }
  const double cut = rate.rate();
  rate.notified(now);
  CHECK(rate.rate() == Approx(cut * (1 - 255.0 / 512)));
  // Additive increase of the target begins after five steps, hyper when bytes have made as many.
  for (unsigned i = 0; i < 5; ++i) rate.increase_expired();
  const double before = rate.rate();
  rate.increase_expired();
  CHECK(rate.rate() == Approx((std::min(12.5e9, cut + params.additive) + before) / 2));
  for (unsigned i = 0; i < 100000 && rate.limited(); ++i) rate.sent(params.increase_bytes);
  CHECK_FALSE(rate.limited());
  for (unsigned i = 0; i < 1000; ++i) rate.notified(now);
  CHECK(rate.rate() == Approx(params.least));
}

TEST_CASE("a burst of notifications takes the target with it as published, only once without") {
  for (const bool clamp : {true, false}) {
    DcqcnParams params;
    params.on = true;
    params.clamp_target = clamp;
    Dcqcn rate(params, 8e9);
    rate.notified(1);
    rate.notified(2);
    CHECK(rate.rate() == Approx(2e9));
    rate.increase_expired();
    CHECK(rate.rate() == Approx(clamp ? 3e9 : 5e9));
    rate.notified(3);  // after an increase the target falls in any case
    const double cut = rate.rate();
    rate.increase_expired();
    CHECK(rate.rate() == Approx((cut + (clamp ? 3e9 : 5e9)) / 2));
  }
}

TEST_CASE("misuse is refused") {
  EventQueue queue;
  PacketPool pool;
  OnePort router;
  Card card(queue, pool, router, 0, {}, 4096);
  CHECK_THROWS_AS(card.nic.post_send(card.qp, card.request(Verb::send, 1, 0, 1)), RdmaUsageError);
  CHECK_THROWS_AS(card.nic.post_send(99, card.request(Verb::send, 1, 0, 1)), RdmaUsageError);
  CHECK_THROWS_AS(card.nic.state(99), RdmaUsageError);
  CHECK_THROWS_AS(card.nic.rate_control(card.qp), RdmaUsageError);
  CHECK_FALSE(card.nic.memory().remove(0));
  card.nic.post_receive(card.qp, {3, {{Card::kBase, card.key + 256, 10}}});
  queue.run_until(kNever);
  const auto received = card.take(card.received);
  REQUIRE(received.size() == 1);
  CHECK(received[0].status == Status::local_protection);
}

TEST_CASE("a completion queue that is full loses the rest and says so") {
  CompletionQueue queue(2);
  for (std::uint64_t i = 0; i < 3; ++i) queue.add({i, Status::success, false, 0, 0, false, 0});
  CHECK(queue.size() == 2);
  CHECK(queue.overrun());
}
