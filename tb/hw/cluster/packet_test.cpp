// Clusters packet by packet: every topology carries every pair; congestion, flow control, faults.
#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "hw/cluster/packet_cluster.hpp"

using namespace cx::hw::net;

namespace {

ClusterConfig cluster(const std::string &text, std::vector<std::string> sets = {}) {
  return load_cluster_text("name: test\n" + text, "test.yaml", sets);
}

// Queue pairs between cards as they are asked for, one key for each card's memory.
struct Cluster {
  explicit Cluster(const ClusterConfig &config, std::size_t bytes = 1 << 16) : topology(config), packets(topology) {
    for (std::uint32_t r = 0; r < topology.ranks(); ++r) {
      memory.emplace_back(bytes);
      keys.push_back(packets.nic(r).memory().add(memory[r].data(), 0, bytes, kLocalWrite));
      sent.push_back(std::make_unique<CompletionQueue>(1 << 16));
      received.push_back(std::make_unique<CompletionQueue>(1 << 16));
    }
  }
  // The queue pair of `from` to `to`.
  std::uint32_t pair(std::uint32_t from, std::uint32_t to) {
    const auto found = pairs.find({from, to});
    if (found != pairs.end()) return found->second;
    const std::uint32_t a = packets.nic(from).create_qp(*sent[from], *received[from]);
    const std::uint32_t b = packets.nic(to).create_qp(*sent[to], *received[to]);
    const auto flow = static_cast<std::uint32_t>(pairs.size());
    packets.nic(from).connect_qp(a, packets.nic(to), b, flow);
    packets.nic(to).connect_qp(b, packets.nic(from), a, flow);
    pairs[{from, to}] = a;
    pairs[{to, from}] = b;
    return a;
  }
  void transfer(std::uint32_t from, std::uint32_t to, std::uint64_t bytes, std::uint64_t id) {
    const std::uint32_t a = pair(from, to);
    packets.nic(to).post_receive(pair(to, from), {id, {{0, keys[to], bytes}}}, true);
    SendRequest send;
    send.id = id;
    send.ranges = {{0, keys[from], bytes}};
    packets.nic(from).post_send(a, send);
  }
  Ps run() {
    packets.queue().run_until(kNever);
    return packets.queue().now();
  }
  Topology topology;
  PacketCluster packets;
  std::vector<std::vector<std::byte>> memory;
  std::vector<std::uint32_t> keys;
  std::vector<std::unique_ptr<CompletionQueue>> sent, received;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t> pairs;
};

std::vector<Completion> take(CompletionQueue &queue) {
  std::vector<Completion> out;
  for (Completion c; queue.poll(c);) out.push_back(c);
  return out;
}

const std::vector<std::string> kTopologies = {
    "nodes: 5\ntopology: {kind: switch}\n",
    "nodes: 7\ntopology: {kind: ring}\n",
    "nodes: 2\ntopology: {kind: ring}\n",
    "nodes: 12\ntopology: {kind: torus, dims: [3, 4]}\n",
    "nodes: 24\ntopology: {kind: torus, dims: [2, 3, 4]}\n",
    "nodes: 12\ntopology: {kind: fat_tree, down: 4, up: 2}\n",
    "nodes: 16\ntopology: {kind: fat_tree, tiers: 3, down: 2, up: 2, pod_leaves: 2, core_up: 2}\n",
    "nodes: 24\ntopology: {kind: dragonfly, routers: 4, ports: 2, global_links: 1}\n",
    "nodes: 3\nnode: {cards: 4, nic: pcie, nics: 4}\ntopology: {kind: rail}\n",
    "nodes: 3\nnode: {cards: 4, nic: pcie, nics: 2}\ntopology: {kind: rail, spines: 2}\n",
    "nodes: 4\nnode: {cards: 4, nic: pcie, nics: 1}\ntopology: {kind: fat_tree, down: 2, up: 2}\n",
    "nodes: 3\nnode: {cards: 3}\ntopology: {kind: switch}\n",
};

}  // namespace

TEST_CASE("every pair of every topology exchanges a message") {
  for (const std::string &text : kTopologies) {
    INFO(text);
    Cluster c(cluster(text));
    const std::uint32_t ranks = c.topology.ranks();
    std::uint64_t pairs = 0;
    for (std::uint32_t a = 0; a < ranks; ++a) {
      for (std::uint32_t b = 0; b < ranks; ++b) {
        if (a == b) continue;
        const auto path = c.topology.path(a, b, a * ranks + b);
        REQUIRE_FALSE(path.empty());
        CHECK(c.topology.from(path.front()) == a);
        CHECK(c.topology.to(path.back()) == b);
        std::set<std::uint32_t> seen;
        for (std::size_t i = 0; i < path.size(); ++i) {
          CHECK(seen.insert(c.topology.to(path[i])).second);
          if (i > 0) CHECK(c.topology.from(path[i]) == c.topology.to(path[i - 1]));
        }
        c.transfer(a, b, 5000, a * ranks + b);
        ++pairs;
      }
    }
    c.run();
    std::uint64_t got = 0;
    for (std::uint32_t r = 0; r < ranks; ++r) {
      for (const Completion &done : take(*c.received[r])) {
        CHECK(done.status == Status::success);
        ++got;
      }
    }
    CHECK(got == pairs);
  }
}

TEST_CASE("routes of a torus are shortest") {
  const Topology torus(cluster("nodes: 24\ntopology: {kind: torus, dims: [2, 3, 4]}\n"));
  const auto ring = [](int a, int b, int n) { return std::min((a - b + n) % n, (b - a + n) % n); };
  for (std::uint32_t a = 0; a < 24; ++a) {
    for (std::uint32_t b = 0; b < 24; ++b) {
      if (a == b) continue;
      const int hops = ring(a % 2, b % 2, 2) + ring(a / 2 % 3, b / 2 % 3, 3) + ring(a / 6, b / 6, 4);
      CHECK(torus.path(a, b, 1).size() == static_cast<std::size_t>(hops + 2));
    }
  }
}

TEST_CASE("flows spread over equal-cost links") {
  const Topology tree(cluster("nodes: 8\ntopology: {kind: fat_tree, down: 4, up: 4}\n"));
  std::map<std::uint32_t, int> uses;
  const int flows = 4000;
  for (int flow = 0; flow < flows; ++flow) ++uses[tree.path(0, 7, static_cast<std::uint32_t>(flow))[1]];
  CHECK(uses.size() == 4);
  for (const auto &[link, count] : uses) CHECK(std::abs(count - flows / 4) < 150);
}

TEST_CASE("cards of a node use their own adapter") {
  const Topology rail(cluster("nodes: 2\nnode: {cards: 8, nic: pcie, nics: 4}\ntopology: {kind: rail, spines: 1}\n"));
  for (std::uint32_t card = 0; card < 8; ++card) {
    const auto path = rail.path(card, 8 + card, 3);
    REQUIRE(path.size() == 6);
    CHECK(rail.vertices()[rail.to(path[1])].name == "node0.nic" + std::to_string(card / 2));
    CHECK(rail.vertices()[rail.to(path[3])].name == "node1.nic" + std::to_string(card / 2));
  }
}

TEST_CASE("cuts hold what crosses them") {
  const auto find = [](const std::vector<Cut> &cuts, const std::string &name) {
    for (const Cut &cut : cuts) {
      if (cut.name == name) return cut;
    }
    FAIL("no cut " << name);
    return Cut{};
  };
  const double link = 12.5e9 * 4096 / 4178;
  const auto tree = Topology(cluster("nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 2}\n")).cuts();
  CHECK(find(tree, "card3").out == Approx(link));
  CHECK(find(tree, "leaf2").out == Approx(2 * link));
  const auto ring = Topology(cluster("nodes: 6\ntopology: {kind: ring}\n")).cuts();
  CHECK(find(ring, "half0").out == Approx(2 * link));
  CHECK(find(ring, "card0").in == Approx(2 * link));
  const auto nodes =
      Topology(cluster("nodes: 2\nnode: {cards: 4, nic: pcie, nics: 2}\ntopology: {kind: switch}\n")).cuts();
  CHECK(find(nodes, "node1").in == Approx(2 * link));
  const double pcie = 0.96 * 16e9 * 128 / 130 * 16 / 8 * 4096 / (4096 + 16 * 24);  // 4 % for the link layer
  CHECK(find(nodes, "card5").in == Approx(pcie));
  const auto torus = Topology(cluster("nodes: 16\ntopology: {kind: torus, dims: [4, 4]}\n")).cuts();
  CHECK(find(torus, "half1").out == Approx(8 * link));
}

TEST_CASE("time over a switch is the stated sum") {
  Cluster c(cluster(
      "nodes: 2\nlink: {latency_ns: 100}\nswitch: {latency_ns: 400}\nrdma: {message_ns: 500, completion_ns: 300}\n"
      "topology: {kind: switch}\n"));
  c.transfer(0, 1, 40'960, 1);
  Ps arrived = 0;
  c.received[1]->listen([&](const Completion &) { arrived = c.packets.queue().now(); });
  c.run();
  // Ten packets on the first link, the last one again on the second.
  CHECK(arrived == 500'000 + 11 * 334'240 + 2 * 100'000 + 400'000 + 300'000);
}

TEST_CASE("many to one: pauses lose nothing, without them packets drop, and all arrives") {
  const std::string base =
      "nodes: 17\nswitch: {buffer_kib: 8192}\ntopology: {kind: switch}\nrdma: {retransmit_us: 1000}\n";
  for (const bool pfc : {true, false}) {
    INFO("pfc " << pfc);
    Cluster c(cluster(base, {pfc ? "pfc.on=true" : "switch.buffer_kib=256"}), 1 << 20);
    const std::uint64_t bytes = 1 << 20;
    for (std::uint32_t r = 1; r < 17; ++r) c.transfer(r, 0, bytes, r);
    const Ps took = c.run();
    const auto done = take(*c.received[0]);
    CHECK(done.size() == 16);
    for (const Completion &completion : done) CHECK(completion.status == Status::success);
    const SwitchCounters &counters = c.packets.switch_at(17)->counters();
    const double ideal = 16.0 * bytes / 4096 * 4178 / 12.5e9;
    CHECK(static_cast<double>(took) * 1e-12 >= ideal);
    if (pfc) {
      CHECK(counters.dropped == 0);
      CHECK(counters.pauses > 0);
      CHECK(static_cast<double>(took) * 1e-12 < 1.02 * ideal + 5e-3);  // what is left at the end are timers
    } else {
      CHECK(counters.dropped > 0);
    }
  }
}

TEST_CASE("rate control keeps queues short") {
  const std::string base = "nodes: 9\npfc: {on: true}\nswitch: {buffer_kib: 65536}\ntopology: {kind: switch}\n";
  std::uint64_t pauses[2], peak[2];
  for (const bool control : {false, true}) {
    const std::vector<std::string> sets =
        control ? std::vector<std::string>{"ecn.on=true", "dcqcn.on=true"} : std::vector<std::string>{};
    Cluster c(cluster(base, sets), 16 << 20);
    for (std::uint32_t r = 1; r < 9; ++r) c.transfer(r, 0, 16 << 20, r);
    c.run();
    CHECK(take(*c.received[0]).size() == 8);
    const SwitchCounters &counters = c.packets.switch_at(9)->counters();
    CHECK((counters.marked > 0) == control);
    CHECK(counters.dropped == 0);
    pauses[control] = counters.pauses;
    peak[control] = counters.peak_buffer;
    std::uint64_t notified = 0;
    notified += c.packets.nic(0).counters().notifications;
    CHECK((notified > 0) == control);
  }
  CHECK(pauses[1] * 2 < pauses[0]);
  CHECK(peak[1] <= peak[0]);
}

TEST_CASE("eight to one: rate control of the shipped cluster is fair, fills the port and seldom pauses") {
  constexpr std::uint64_t kBytes = 64 << 20;
  const double ideal = 8.0 * kBytes / 4096 * 4178 / 12.5e9;
  std::uint64_t pauses[2] = {0, 0};
  for (const bool control : {false, true}) {
    const std::string on = control ? "true" : "false";
    // Windows of 1 MiB: the buffer would fill.
    const std::vector<std::string> sets = {"rdma.window_kib=1024", "ecn.on=" + on, "dcqcn.on=" + on};
    Cluster c(load_cluster("configs/clusters/cx-trainer-16.yaml", sets), kBytes);
    for (std::uint32_t r = 4; r < 12; ++r) c.transfer(r, 0, kBytes, r);
    c.packets.queue().run_until(static_cast<Ps>(0.6 * ideal * 1e12));
    // Jain's index of what everyone has sent by then: 1 is fair, 1/8 one sender alone.
    double sum = 0, squares = 0;
    for (std::uint32_t r = 4; r < 12; ++r) {
      const auto sent = static_cast<double>(c.packets.nic(r).counters().data_packets);
      sum += sent;
      squares += sent * sent;
    }
    if (control) CHECK(sum * sum / (8 * squares) > 0.97);
    std::vector<Completion> done;
    while (done.size() < 8 && c.packets.queue().run_one()) {
      for (const Completion &completion : take(*c.received[0])) done.push_back(completion);
    }
    REQUIRE(done.size() == 8);
    INFO("control " << control << ": " << static_cast<double>(c.packets.queue().now()) * 1e-12 / ideal << " of ideal");
    CHECK(static_cast<double>(c.packets.queue().now()) * 1e-12 < (control ? 1.15 : 1.01) * ideal);
    for (std::uint32_t v = 0; v < c.topology.vertices().size(); ++v) {
      const Switch *device = c.packets.switch_at(v);
      if (device == nullptr) continue;
      CHECK(device->counters().dropped == 0);
      CHECK(device->counters().peak_buffer < std::uint64_t{c.topology.config().switch_.buffer_kib} * 1024 / 2);
      pauses[control] += device->counters().pauses;
    }
  }
  INFO("pauses " << pauses[0] << " without, " << pauses[1] << " with");
  CHECK(pauses[0] > 100);
  CHECK(pauses[1] * 10 < pauses[0]);
}

TEST_CASE("a link that goes down is routed around") {
  Cluster c(cluster("nodes: 8\ntopology: {kind: fat_tree, down: 4, up: 2}\nrdma: {retransmit_us: 200}\n"), 4 << 20);
  for (std::uint32_t r = 0; r < 4; ++r) c.transfer(r, 4 + r, 4 << 20, r);
  c.packets.inject(parse_cluster_fault(c.topology, "link_down@link=leaf0-spine0,at_us=50"));
  c.run();
  for (std::uint32_t r = 0; r < 4; ++r) {
    const auto done = take(*c.received[4 + r]);
    REQUIRE(done.size() == 1);
    CHECK(done[0].status == Status::success);
  }
  const std::size_t edge = c.topology.find_edge("leaf0-spine0");
  for (std::uint32_t flow = 0; flow < 50; ++flow) {
    for (const std::uint32_t link : c.topology.path(0, 7, flow)) CHECK(link / 2 != edge);
  }
}

TEST_CASE("an adapter that loses its link is replaced by another of the node") {
  Cluster c(
      cluster("nodes: 2\nnode: {cards: 2, nic: pcie, nics: 2}\ntopology: {kind: switch}\nrdma: {retransmit_us: 200}\n"),
      1 << 20);
  c.transfer(0, 2, 1 << 20, 1);
  c.packets.inject(parse_cluster_fault(c.topology, "link_down@link=node0.nic0-switch,at_us=20"));
  c.run();
  const auto done = take(*c.received[2]);
  REQUIRE(done.size() == 1);
  CHECK(done[0].status == Status::success);
}

TEST_CASE("a dead node fails its peers") {
  Cluster c(cluster("nodes: 3\ntopology: {kind: switch}\nrdma: {retransmit_us: 100, retries: 2}\n"), 1 << 20);
  c.transfer(0, 1, 1 << 20, 1);
  c.transfer(0, 2, 1 << 20, 2);
  c.packets.inject(parse_cluster_fault(c.topology, "dead_node@node=1,at_us=20"));
  c.run();
  std::map<std::uint64_t, Status> outcome;
  for (const Completion &done : take(*c.sent[0])) outcome[done.id] = done.status;
  CHECK(outcome.at(1) == Status::retry_exceeded);
  CHECK(outcome.at(2) == Status::success);
}

TEST_CASE("the same seed gives the same run") {
  const auto run = [](const std::string &seed) {
    Cluster c(
        cluster("nodes: 4\nlink: {bit_error_rate: 1.0e-6}\nrdma: {retransmit_us: 300}\ntopology: {kind: switch}\n",
                {"seed=" + seed}),
        1 << 20);
    for (std::uint32_t r = 0; r < 4; ++r) c.transfer(r, (r + 1) % 4, 1 << 20, r);
    c.run();
    return c.packets.queue().executed();
  };
  CHECK(run("3") == run("3"));
  CHECK(run("3") != run("4"));
}

TEST_CASE("faults are read or refused") {
  const Topology topology(cluster("nodes: 4\ntopology: {kind: switch}\n"));
  const ClusterFault slow = parse_cluster_fault(topology, "slow_link@link=switch-node2,factor=0.25,at_us=3,until_us=9");
  CHECK(slow.kind == ClusterFault::Kind::slow_link);
  CHECK(slow.edge == 2);
  CHECK(slow.factor == 0.25);
  CHECK(slow.at == 3'000'000);
  CHECK(slow.until == 9'000'000);
  for (const char *text : {"", "link_up@link=node0-switch", "link_down", "link_down@link=node9-switch",
                           "link_down@link=node0-switch,at_us=-1", "link_down@link=node0-switch,at_us=5,until_us=5",
                           "link_down@link=node0-switch,colour=1", "link_down@link", "slow_link@link=node0-switch",
                           "slow_link@link=node0-switch,factor=0", "slow_link@link=node0-switch,factor=2",
                           "lossy_link@link=node0-switch,loss=1.5", "lossy_link@link=node0-switch", "dead_node@node=4",
                           "dead_node", "dead_node@node=0.5", "dead_node@node=1,until_us=3",
                           "link_down@link=node0-switch,link=node1-switch", "link_down@link=node0-switch,at_us=x"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_cluster_fault(topology, text), ClusterFaultError);
  }
}
