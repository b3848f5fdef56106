// Links alone: bytes on the wire, time, errors, credits, pauses.
#include "hw/link/link.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "hw/pcie/link.hpp"
#include "tb/common/csv_columns.hpp"
#include "tb/common/data.hpp"

using namespace cx::hw::net;
using cx::tb::read_csv;

namespace {

// Sends `left` packets of `payload` bytes as fast as the link takes them.
struct Sender final : PacketSource {
  Sender(PacketPool &pool, std::uint64_t count, std::uint32_t payload) : pool_(pool), left(count), payload_(payload) {}
  Packet *peek(std::uint32_t, bool paused) override {
    if (staged_ == nullptr && left > 0 && !paused) {
      --left;
      staged_ = pool_.make();
      staged_->payload = payload_;
      staged_->sequence = next_++;
    }
    return paused ? nullptr : staged_;
  }
  Packet *take(std::uint32_t) override { return std::exchange(staged_, nullptr); }
  PacketPool &pool_;
  std::uint64_t left, next_ = 0;
  std::uint32_t payload_;
  Packet *staged_ = nullptr;
};

struct Sink final : PacketReceiver {
  Sink(EventQueue &queue, PacketPool &pool) : queue_(queue), pool_(pool) {}
  void receive(Packet *packet, std::uint32_t) override {
    if (first == kNever) first = queue_.now();
    last = queue_.now();
    ++count;
    bytes += packet->payload;
    if (credit_link != nullptr && packet->charged != 0) credit_link->return_credits(packet->charged);
    pool_.drop(packet);
  }
  EventQueue &queue_;
  PacketPool &pool_;
  Link *credit_link = nullptr;
  Ps first = kNever, last = 0;
  std::uint64_t count = 0, bytes = 0;
};

struct Bench {
  Bench(const LinkParams &params, std::uint64_t packets, std::uint32_t payload, std::uint64_t seed = 1)
      : sender(pool, packets, payload), sink(queue, pool), link(queue, pool, "link", params, sender, 0, sink, 0, seed) {
    if (params.credit_bytes != 0) sink.credit_link = &link;
  }
  void run() {
    link.wake();
    queue.run_until(kNever);
  }
  EventQueue queue;
  PacketPool pool;
  Sender sender;
  Sink sink;
  Link link;
};

LinkParams pcie(unsigned gen, unsigned mps) {
  LinkParams params;
  params.framing = {Framing::Kind::pcie, mps, gen < 6 ? 24u : 16u};
  params.bytes_per_second = cx::hw::PcieLink::bytes_per_second(gen, 16);
  return params;
}

}  // namespace

TEST_CASE("RoCEv2 efficiency is that of the published header sizes") {
  const auto rows = read_csv(cx::tb::data_dir() / "network/rocev2_efficiency.csv");
  if (rows.empty()) WARN("no reference table: skipped");
  for (const auto &row : rows) {
    const auto mtu = static_cast<std::uint32_t>(std::stoul(row.at("MTU")));
    INFO("MTU " << mtu);
    for (const double gbps : {100.0, 200.0, 400.0, 800.0}) {
      LinkParams params;
      params.bytes_per_second = gbps * 1e9 / 8;
      Bench bench(params, 2000, mtu);
      bench.run();
      const double measured = static_cast<double>(bench.sink.bytes) / (static_cast<double>(bench.sink.last) * 1e-12);
      const double expected = std::stod(row.at(std::to_string(static_cast<int>(gbps)) + "GbE_GBps")) * 1e9;
      CHECK(measured == Approx(expected).epsilon(0.001));
    }
    CHECK(mtu / static_cast<double>(Framing{}.wire_bytes(mtu, 0)) ==
          Approx(std::stod(row.at("efficiency"))).epsilon(1e-4));
  }
}

TEST_CASE("PCIe efficiency by generation and payload") {
  const auto rows = read_csv(cx::tb::data_dir() / "network/pcie_efficiency.csv");
  if (rows.empty()) WARN("no reference table: skipped");
  for (const auto &row : rows) {
    const auto gen = static_cast<unsigned>(std::stoul(row.at("gen")));
    const auto mps = static_cast<unsigned>(std::stoul(row.at("MPS")));
    INFO("gen " << gen << " MPS " << mps);
    Bench bench(pcie(gen, mps), 500, 4096);
    bench.run();
    const double measured = static_cast<double>(bench.sink.bytes) / (static_cast<double>(bench.sink.last) * 1e-12);
    CHECK(measured * 1e-9 == Approx(std::stod(row.at("MWr_GBps"))).epsilon(0.002));
  }
}

TEST_CASE("a packet takes its bytes over the rate, and the latencies") {
  LinkParams params;
  params.bytes_per_second = 10e9;
  params.latency = 500'000;
  params.receiver_delay = 100'000;
  Bench bench(params, 3, 1000);
  bench.run();
  const Ps one = 108'200;  // 1082 bytes
  CHECK(bench.sink.first == one + 600'000);
  CHECK(bench.sink.last == 3 * one + 600'000);
  CHECK(bench.link.counters().busy == 3 * one);
  CHECK(bench.link.counters().wire_bytes == 3 * 1082);
}

TEST_CASE("bit errors lose the share of packets that they make wrong") {
  LinkParams params;
  params.bit_error_rate = 1e-6;
  const std::uint64_t count = 200'000;
  Bench bench(params, count, 4096, 7);
  bench.run();
  const double share = -std::expm1(8 * 4178 * std::log1p(-1e-6));  // 3.29 %
  const double deviation = std::sqrt(share * (1 - share) * count);
  CHECK(std::abs(static_cast<double>(bench.link.counters().dropped) - share * count) < 5 * deviation);
  CHECK(bench.sink.count + bench.link.counters().dropped == count);
  CHECK(bench.pool.live() == 0);

  Bench same(params, count, 4096, 7), other(params, count, 4096, 8);
  same.run();
  other.run();
  CHECK(same.sink.count == bench.sink.count);
  CHECK(other.sink.count != bench.sink.count);
}

TEST_CASE("credits bound what is on the way") {
  LinkParams params = pcie(4, 256);
  params.latency = 1'000'000;
  const std::uint64_t wire = 4096 + 16 * 24;
  const double full = params.bytes_per_second;
  for (const std::uint64_t packets_of_credit : {1, 2, 4, 8, 64}) {
    params.credit_bytes = packets_of_credit * wire;
    Bench bench(params, 3000, 4096);
    bench.run();
    const double rate = 3000.0 * static_cast<double>(wire) / (static_cast<double>(bench.sink.last) * 1e-12);
    // A credit comes back a packet's time and two latencies after the packet began.
    const double round = static_cast<double>(wire) / full + 2e-6;
    const double expected = std::min(full, static_cast<double>(params.credit_bytes) / round);
    CHECK(rate == Approx(expected).epsilon(0.01));
    CHECK(bench.sink.count == 3000);
  }
}

TEST_CASE("a pause stops data one latency later and loses nothing") {
  LinkParams params;
  params.bytes_per_second = 10e9;
  params.latency = 200'000;
  Bench bench(params, 100, 4096);
  bench.link.wake();
  bench.queue.run_until(1'000'000);
  bench.link.pause_from_receiver(true);
  bench.queue.run_until(5'000'000);
  const std::uint64_t stopped = bench.sink.count;
  bench.queue.run_until(50'000'000);
  CHECK(bench.sink.count == stopped);
  CHECK(stopped < 5);
  bench.link.pause_from_receiver(false);
  bench.queue.run_until(kNever);
  CHECK(bench.sink.count == 100);
  CHECK(bench.link.counters().paused == 49'000'000);
}

TEST_CASE("what a link that is down carries is lost") {
  LinkParams params;
  params.bytes_per_second = 10e9;
  params.latency = 10'000'000;
  Bench bench(params, 100, 4096);
  bench.link.wake();
  bench.queue.run_until(5'000'000);  // 11 packets are sent, none has arrived
  bench.link.set_up(false);
  bench.queue.run_until(20'000'000);
  CHECK(bench.sink.count == 0);
  bench.link.set_up(true);
  bench.queue.run_until(kNever);
  CHECK(bench.sink.count + bench.link.counters().dropped == 100);
  CHECK(bench.sink.count > 40);
  CHECK(bench.pool.live() == 0);
}

TEST_CASE("a slower link takes longer in proportion") {
  LinkParams params;
  Bench full(params, 1000, 4096), half(params, 1000, 4096);
  half.link.set_speed(0.5);
  full.run();
  half.run();
  CHECK(static_cast<double>(half.sink.last) == Approx(2.0 * static_cast<double>(full.sink.last)).epsilon(1e-6));
}

TEST_CASE("events of one time run in the order of scheduling") {
  struct Recorder final : EventQueue::Handler {
    void on_event(std::uint32_t what, std::uint64_t argument) override { seen.emplace_back(what, argument); }
    std::vector<std::pair<std::uint32_t, std::uint64_t>> seen;
  } recorder;
  EventQueue queue;
  for (std::uint64_t i = 0; i < 50; ++i) queue.at(i % 5 * 10, recorder, static_cast<std::uint32_t>(i % 5), i);
  CHECK(queue.run_until(kNever));
  REQUIRE(recorder.seen.size() == 50);
  for (std::size_t i = 1; i < recorder.seen.size(); ++i) CHECK(recorder.seen[i - 1] < recorder.seen[i]);
  CHECK(queue.now() == 40);
}
