// Times of collectives: packets against flows, the algorithms among each other, the effect of every parameter.
#include <catch2/catch.hpp>

#include "driver/collective/collective.hpp"
#include "tb/driver/collective/test_clusters.hpp"

using namespace cx;
using namespace cx::collective;
using tb::cluster;
using tb::plain;
using tb::spec_of;

namespace {

struct Compared {
  unsigned pairs = 0, close = 0;  ///< close: within 5 %
};

/// Times of every algorithm at packet level against those at `fidelity`; `limit` is relative. A time that loss made is
/// no pair: flow level has no buffers that could overflow.
void compare_fidelities(const Cluster &c, const std::string &text, const std::vector<uint64_t> &sizes,
                        Fidelity fidelity, double limit, Compared &all) {
  for (const std::string &algorithm : algorithms(Operation::kAllReduce)) {
    for (const uint64_t bytes : sizes) {
      Spec spec = spec_of(Operation::kAllReduce, algorithm, bytes / 4, Fidelity::kPacket);
      spec.chunks = 1;
      const Outcome packets = run(c, spec);
      if (packets.job.dropped != 0) {
        WARN(text << packets.plan << ", " << bytes << " bytes: not compared, " << packets.job.dropped
                  << " packets dropped and sent again");
        continue;
      }
      spec.fidelity = fidelity;
      const Outcome flows = run(c, spec);
      INFO(text << packets.plan << ", " << bytes << " bytes: packet " << packets.job.time_s * 1e6 << " us, flow "
                << flows.job.time_s * 1e6 << " us, trains of " << flows.job.train_packets << " packets");
      CHECK((flows.job.train_packets != 0) == (fidelity == Fidelity::kFlow));
      CHECK(flows.job.time_s == Approx(packets.job.time_s).epsilon(limit));
      ++all.pairs;
      all.close += flows.job.time_s == Approx(packets.job.time_s).epsilon(0.05) ? 1 : 0;
    }
  }
}

const std::vector<std::string> kShortCredits = {"link.latency_ns=300", "pcie.credit_kib=256"};

}  // namespace

TEST_CASE("fidelities agree within 5 %") {
  const std::vector<uint64_t> sizes = {uint64_t{1} << 10, uint64_t{1} << 14, uint64_t{1} << 17, uint64_t{1} << 20,
                                       uint64_t{1} << 22};
  Compared all;
  for (const char *text :
       {"nodes: 16\ntopology: {kind: switch}\n", "nodes: 13\ntopology: {kind: switch}\n",
        "nodes: 4\nnode: {cards: 4, nic: pcie, nics: 4}\ntopology: {kind: rail}\n",
        "nodes: 4\nnode: {cards: 4, nic: pcie, nics: 1}\ntopology: {kind: switch}\n",
        "nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 4}\nrdma: {window_kib: 256}\n",
        "nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 2}\nrdma: {window_kib: 256}\n",
        "nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 1}\nrdma: {window_kib: 256}\n",
        "nodes: 16\nnode: {cards: 2}\ntopology: {kind: fat_tree, tiers: 3, down: 4, up: 4, pod_leaves: 2}\n",
        "nodes: 12\ntopology: {kind: torus, dims: [3, 4]}\n", "nodes: 24\ntopology: {kind: torus, dims: [4, 3, 2]}\n",
        "nodes: 9\ntopology: {kind: ring}\n",
        "nodes: 24\ntopology: {kind: dragonfly, routers: 4, ports: 2, global_links: 1}\n"}) {
    compare_fidelities(cluster(text, kShortCredits), text, sizes, Fidelity::kFlow, 0.05, all);
  }
  CHECK(all.pairs == 420);
}

TEST_CASE("fidelities agree within 5 % in trains of several packets, pauses among them") {
  Compared all;
  for (const char *text :
       {"nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 2}\nrdma: {window_kib: 256}\n",
        "nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 4}\npfc: {on: true, xoff_kib: 512, xon_kib: 448}\n",
        "nodes: 4\nnode: {cards: 4, nic: pcie, nics: 1}\ntopology: {kind: switch}\n"}) {
    compare_fidelities(cluster(text, kShortCredits), text, {uint64_t{1} << 24, uint64_t{1} << 25}, Fidelity::kFlow,
                       0.05, all);
  }
  CHECK(all.pairs == 42);
}

TEST_CASE("flows that share links agree with packets within 5 % but for ranks out of step on shared links") {
  struct Case {
    const char *text;
    double limit;  ///< relative
  };
  // Where messages that begin at different times meet on a link, packets wait for those before them and flows share.
  const std::vector<uint64_t> sizes = {uint64_t{1} << 10, uint64_t{1} << 17, uint64_t{1} << 20, uint64_t{1} << 22};
  Compared all;
  for (const Case &of :
       {Case{"nodes: 16\ntopology: {kind: switch}\n", 0.05},
        Case{"nodes: 4\nnode: {cards: 4, nic: pcie, nics: 4}\ntopology: {kind: rail}\n", 0.05},
        Case{"nodes: 13\ntopology: {kind: switch}\n", 0.08},
        Case{"nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 4}\nrdma: {window_kib: 256}\n", 0.07},
        Case{"nodes: 4\nnode: {cards: 4, nic: pcie, nics: 1}\ntopology: {kind: switch}\n", 0.08},
        Case{"nodes: 12\ntopology: {kind: torus, dims: [3, 4]}\n", 0.15},
        Case{"nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 2}\nrdma: {window_kib: 256}\n", 0.16}}) {
    compare_fidelities(cluster(of.text, kShortCredits), of.text, sizes, Fidelity::kShares, of.limit, all);
  }
  INFO(all.close << " of " << all.pairs << " within 5 %");
  CHECK(all.close >= all.pairs * 7 / 8);
}

TEST_CASE("messages are trains of packets while flow.steps allows, then flows that share links") {
  Spec spec = spec_of(Operation::kAllReduce, "halving", 1 << 20, Fidelity::kFlow);
  spec.chunks = 1;
  const auto packets = [&](const std::string &steps) { return run(plain(8, {"flow.steps=" + steps}), spec).job; };
  // 8 ranks send 2 x 1024 x (1/2 + 1/4 + 1/8) packets each over two links.
  CHECK(packets("28672").train_packets == 1);
  CHECK(packets("28671").train_packets == 2);
  CHECK(packets("0").train_packets == 0);
  spec.faults = {"slow_link@link=node2-switch,factor=0.5"};
  CHECK(packets("28672").train_packets == 0);
}

TEST_CASE("flows end in time when routes change under them") {
  const Cluster c = cluster("nodes: 8\ntopology: {kind: fat_tree, down: 4, up: 2}\n");
  const std::string spine = "link_down@link=leaf0-spine0,at_us=200";
  for (const uint64_t count : {uint64_t{4'000'000}, uint64_t{1'000'000}}) {
    Spec spec = spec_of(Operation::kAllReduce, "ring", count);
    spec.chunks = 1;
    spec.faults = {spine};
    spec.fidelity = Fidelity::kFlow;
    const double flows = run(c, spec).job.time_s;
    spec.faults.clear();
    const double healthy = run(c, spec).job.time_s;
    // The way is gone until the fault is detected, then at worst two flows of a leaf share the other spine.
    const double detection = 100e-6;
    INFO(count << " elements: " << flows * 1e6 << " us, healthy " << healthy * 1e6 << " us");
    CHECK(flows >= healthy);
    CHECK(flows <= healthy + detection + 5e-6);
  }
}

TEST_CASE("rate control of the shipped cluster costs a collective less than 5 %") {
  const Cluster on = Cluster::open("cx-trainer-16"), off = Cluster::open("cx-trainer-16", {"dcqcn.on=false"});
  uint64_t notified = 0;
  for (const std::string algorithm : {"ring", "hcp", "halving", "direct", "torus"}) {
    for (const uint64_t bytes : {uint64_t{1} << 20, uint64_t{1} << 24, uint64_t{1} << 26}) {
      Spec spec = spec_of(Operation::kAllReduce, algorithm, bytes / 4);
      spec.chunks = 1;
      const Outcome with = run(on, spec), without = run(off, spec);
      INFO(with.plan << ", " << bytes << " bytes: " << with.job.time_s * 1e6 << " us with, " << without.job.time_s * 1e6
                     << " us without, " << with.job.notifications << " notifications");
      CHECK(with.job.time_s < without.job.time_s / 0.95);
      // Neighbours of a ring have links of their own: nothing is marked.
      if (algorithm == "ring") CHECK(with.job.notifications == 0);
      CHECK(with.job.pauses <= without.job.pauses);
      notified += with.job.notifications;
    }
  }
  CHECK(notified > 100);
}

TEST_CASE("optical links carry a message from card to card in less than 1 us") {
  const Cluster c = Cluster::open("rca2-16");
  for (const uint32_t neighbour : {1u, 3u, 4u, 12u}) {
    const Cluster::Path way = c.path(0, neighbour, 0, 4096);
    INFO("rank " << neighbour);
    CHECK(way.latency_s + 4096 / c.links()[way.links[0]].payload_bytes_per_s < 1e-6);
  }
  Spec spec = spec_of(Operation::kAllReduce, "torus", 250'003);
  CHECK(run_checked(c, spec, 1).job.time_s > 0);
}

TEST_CASE("every parameter moves the time in its direction") {
  const auto time = [](const std::vector<std::string> &sets, uint32_t ranks = 8, uint64_t bytes = 1 << 20,
                       const std::string &algorithm = "ring", uint32_t chunks = 1) {
    Spec spec = spec_of(Operation::kAllReduce, algorithm, bytes / 4);
    spec.chunks = chunks;
    return run(plain(ranks, sets), spec).job.time_s;
  };
  const double base = time({});
  CHECK(time({"link.gbps=200"}) < base);
  CHECK(time({"link.gbps=50"}) > base);
  CHECK(time({"link.latency_ns=5000"}) > base);
  CHECK(time({"switch.latency_ns=5000"}) > base);
  CHECK(time({"link.medium=optical", "link.metres=500"}) > time({"link.medium=optical", "link.metres=5"}));
  CHECK(time({"rdma.message_ns=2000"}) > base);
  CHECK(time({"rdma.completion_ns=2000"}) > base);
  CHECK(time({"rdma.mtu=1024"}, 8, 64 << 20) > time({}, 8, 64 << 20));
  CHECK(time({"card.reduce_gbps=20"}) > base);
  CHECK(time({"card.command_ns=5000"}) > base);
  CHECK(time({"rdma.window_kib=8", "link.latency_ns=5000"}) > time({"link.latency_ns=5000"}));
  CHECK(time({}, 16) > base);
  CHECK(time({}, 8, 2 << 20) > base);
  // Chunks overlap the REDUCE of one with the transfer of another, and cost latency.
  CHECK(time({"card.reduce_gbps=20"}, 8, 64 << 20, "ring", 4) < time({"card.reduce_gbps=20"}, 8, 64 << 20, "ring", 1));
}

TEST_CASE("auto is within 3 % of the best algorithm, packet by packet") {
  const Cluster shipped = Cluster::open("cx-trainer-16");
  const Cluster rails = cluster("nodes: 4\nnode: {cards: 4, nic: pcie, nics: 4}\ntopology: {kind: rail}\n");
  const Cluster torus = cluster("nodes: 16\ntopology: {kind: torus, dims: [4, 4]}\n");
  const Cluster narrow =
      cluster("nodes: 4\nnode: {cards: 4, nic: pcie, nics: 1}\ntopology: {kind: switch}\nrdma: {window_kib: 256}\n");
  for (const Cluster *c : {&shipped, &rails, &torus, &narrow}) {
    for (uint64_t bytes = 1 << 10; bytes <= 1 << 24; bytes *= 16) {
      double best = 1e9;
      std::string name;
      for (const std::string &algorithm : algorithms(Operation::kAllReduce)) {
        const Outcome outcome = run(*c, spec_of(Operation::kAllReduce, algorithm, bytes / 4));
        if (outcome.job.time_s < best) {
          best = outcome.job.time_s;
          name = outcome.plan;
        }
      }
      const Outcome chosen = run(*c, spec_of(Operation::kAllReduce, "auto", bytes / 4));
      INFO(c->shape().kind << ", " << bytes << " bytes: chose " << chosen.plan << ", " << chosen.job.time_s * 1e6
                           << " us; best " << name << ", " << best * 1e6 << " us");
      CHECK(chosen.job.time_s <= 1.03 * best);
    }
  }
}
