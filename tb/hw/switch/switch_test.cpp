// A switch alone: order, shares of the buffer, marks, pauses.
#include "hw/switch/switch.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

using namespace cx::hw::net;

namespace {

struct ByTarget final : Router {
  std::uint32_t egress(std::uint32_t, const Packet &packet) const override {
    return packet.target < 4 ? packet.target : kNone;
  }
};

struct End final : PacketSource, PacketReceiver {
  End(EventQueue &queue, PacketPool &pool) : queue_(queue), pool_(pool) {}
  Packet *peek(std::uint32_t, bool paused) override {
    return waiting.empty() || (paused && waiting.front()->is_data()) ? nullptr : waiting.front();
  }
  Packet *take(std::uint32_t) override { return waiting.pop(); }
  void receive(Packet *packet, std::uint32_t) override {
    got.push_back(*packet);
    times.push_back(queue_.now());
    pool_.drop(packet);
  }
  EventQueue &queue_;
  PacketPool &pool_;
  PacketQueue waiting;
  std::vector<Packet> got;
  std::vector<Ps> times;
};

// Four ends on a switch.
struct Bench {
  explicit Bench(const SwitchParams &params, double slow_factor = 1) : device(pool, router, 0, params, 1) {
    for (std::uint32_t i = 0; i < 4; ++i) {
      ends.push_back(std::make_unique<End>(queue, pool));
      device.add_port();
    }
    for (std::uint32_t i = 0; i < 4; ++i) {
      LinkParams link;
      in.push_back(std::make_unique<Link>(queue, pool, "in", link, *ends[i], 0, device, i, i));
      if (i == 0) link.bytes_per_second *= slow_factor;
      out.push_back(std::make_unique<Link>(queue, pool, "out", link, device, i, *ends[i], 0, i));
      device.connect(i, out[i].get(), in[i].get());
    }
  }
  void send(std::uint32_t from, std::uint32_t to, std::uint64_t sequence, Packet::Kind kind = Packet::Kind::data) {
    Packet *packet = pool.make();
    packet->kind = kind;
    packet->source = from;
    packet->target = to;
    packet->sequence = sequence;
    packet->payload = kind == Packet::Kind::data ? 4096 : 0;
    ends[from]->waiting.push(packet);
    in[from]->wake();
  }
  void run() { queue.run_until(kNever); }
  EventQueue queue;
  PacketPool pool;
  ByTarget router;
  Switch device;
  std::vector<std::unique_ptr<End>> ends;
  std::vector<std::unique_ptr<Link>> in, out;
};

}  // namespace

TEST_CASE("packets of one source keep their order, control passes data") {
  Bench bench({});
  for (std::uint64_t i = 0; i < 20; ++i) bench.send(1, 0, i);
  for (std::uint64_t i = 0; i < 20; ++i) bench.send(2, 0, 100 + i);
  bench.send(3, 0, 999, Packet::Kind::acknowledge);
  bench.run();
  const auto &got = bench.ends[0]->got;
  REQUIRE(got.size() == 41);
  std::uint64_t next[2] = {0, 100};
  std::size_t control_at = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!got[i].is_data()) {
      control_at = i;
      continue;
    }
    CHECK(got[i].sequence == next[got[i].source - 1]++);
  }
  CHECK(control_at <= 1);
  CHECK(bench.device.buffered() == 0);
  CHECK(bench.pool.live() == 0);
}

TEST_CASE("without pauses a queue stops at its share of the free buffer") {
  for (const double share : {0.25, 1.0, 4.0}) {
    SwitchParams params;
    params.buffer_bytes = 100 * 4178;
    params.share = share;
    Bench bench(params, 1e-3);
    for (std::uint64_t i = 0; i < 200; ++i) bench.send(1, 0, i);
    bench.run();
    // A queue q with free buffer B - q stops where q = share (B - q).
    const double most = 100 * share / (1 + share);
    CHECK(bench.ends[0]->got.size() + bench.device.counters().dropped == 200);
    CHECK(static_cast<double>(bench.device.counters().peak_buffer) / 4178 == Approx(most).margin(1.5));
    CHECK(bench.device.counters().dropped > 0);
  }
}

TEST_CASE("pauses keep every packet and the buffer bounded") {
  SwitchParams params;
  params.buffer_bytes = 100 * 4178;
  params.pfc = true;
  params.xoff_bytes = 10 * 4178;
  params.xon_bytes = 5 * 4178;
  Bench bench(params, 0.1);
  for (std::uint64_t i = 0; i < 300; ++i) {
    bench.send(1, 0, i);
    bench.send(2, 0, i);
  }
  bench.run();
  CHECK(bench.ends[0]->got.size() == 600);
  CHECK(bench.device.counters().dropped == 0);
  CHECK(bench.device.counters().pauses > 10);
  CHECK(bench.device.counters().peak_buffer <= 2 * (params.xoff_bytes + 2 * 4178));
  CHECK(bench.in[1]->counters().paused > 0);
  // The slow egress never waited.
  const double ideal = 600 * 4178 / 1.25e9;
  CHECK(static_cast<double>(bench.ends[0]->times.back()) * 1e-12 < ideal * 1.01);
}

TEST_CASE("marks rise with the queue") {
  SwitchParams params;
  params.ecn = true;
  params.ecn_low = 20 * 4178;
  params.ecn_high = 60 * 4178;
  params.ecn_chance = 0.5;
  Bench bench(params, 1e-6);
  for (std::uint64_t i = 0; i < 100; ++i) bench.send(1, 0, i);
  bench.queue.run_until(100'000'000);  // all have come, one is leaving
  bench.out[0]->set_speed(1e6);
  bench.run();
  const auto &got = bench.ends[0]->got;
  REQUIRE(got.size() == 100);
  unsigned middle = 0;
  for (const Packet &packet : got) {
    if (packet.sequence <= 20) CHECK_FALSE(packet.marked);
    if (packet.sequence > 62) CHECK(packet.marked);
    if (packet.sequence > 20 && packet.sequence <= 60) middle += packet.marked ? 1 : 0;
  }
  CHECK(middle > 1);  // 10 of 40 on average
  CHECK(middle < 22);
}

TEST_CASE("what has no way is dropped and counted") {
  Bench bench({});
  bench.send(1, 9, 0);
  bench.run();
  CHECK(bench.device.counters().unroutable == 1);
  CHECK(bench.pool.live() == 0);
}
