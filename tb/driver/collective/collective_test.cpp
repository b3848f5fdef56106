// Collectives over simulated clusters: results bit by bit, times not below their bounds, errors on the right rank.
#include "driver/collective/collective.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "tb/common/seed.hpp"
#include "tb/driver/collective/test_clusters.hpp"

using namespace cx;
using namespace cx::collective;
using tb::cluster;
using tb::plain;
using tb::spec_of;

namespace {

const std::vector<Operation> kOperations = {Operation::kAllReduce, Operation::kReduceScatter, Operation::kAllGather,
                                            Operation::kBroadcast, Operation::kAllToAll};

/// FP32 sums in the order that plan.hpp states, from x[rank][element].
using Values = std::vector<std::vector<float>>;

float ring_sum(const Values &x, const std::vector<uint32_t> &group, uint32_t part, uint64_t element) {
  const auto k = static_cast<uint32_t>(group.size());
  float sum = x[group[(part + 1) % k]][element];
  for (uint32_t d = 2; d <= k; ++d) sum = sum + x[group[(part + d) % k]][element];
  return sum;
}

float direct_sum(const Values &x, uint32_t k, uint32_t part, uint64_t element) {
  float sum = x[part][element];
  for (uint32_t d = 1; d < k; ++d) sum = sum + x[(part + d) % k][element];
  return sum;
}

/// Pairs by rising distance.
float pair_sum(std::vector<float> values) {
  while (values.size() > 1) {
    std::vector<float> next;
    for (std::size_t i = 0; i < values.size(); i += 2) next.push_back(values[i] + values[i + 1]);
    values = next;
  }
  return values[0];
}

std::vector<float> folded(const Values &x, uint64_t element) {
  const auto k = static_cast<uint32_t>(x.size());
  const uint32_t extra = k - std::bit_floor(k);
  std::vector<float> out;
  for (uint32_t i = 0; i < k; ++i) {
    if (i < 2 * extra) {
      if (i % 2 == 1) out.push_back(x[i][element] + x[i - 1][element]);
    } else {
      out.push_back(x[i][element]);
    }
  }
  return out;
}

float tree_sum(const Values &x, uint64_t element) {
  const auto k = static_cast<uint32_t>(x.size());
  std::vector<float> values(k);
  for (uint32_t i = 0; i < k; ++i) values[i] = x[i][element];
  for (uint32_t bit = 1; bit < k; bit *= 2) {
    for (uint32_t v = 0; v + bit < k; v += 2 * bit) values[v] = values[v] + values[v + bit];
  }
  return values[0];
}

}  // namespace

TEST_CASE("every collective by every algorithm for 2 to 33 ranks and odd sizes") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (uint32_t ranks = 2; ranks <= 33; ++ranks) {
    const Cluster c = plain(ranks);
    for (const Operation operation : kOperations) {
      for (const std::string &algorithm : algorithms(operation)) {
        for (const uint64_t base : {uint64_t{1}, uint64_t{997}, random() % 8000 + 1}) {
          uint64_t count = base;
          if (operation == Operation::kAllToAll) count = (count + ranks - 1) / ranks * ranks;
          Spec spec = spec_of(operation, algorithm, count, random() % 2 == 0 ? Fidelity::kPacket : Fidelity::kFlow);
          spec.type = static_cast<ElementType>(random() % 4);
          spec.root = static_cast<uint32_t>(random() % ranks);
          const bool chunked = operation == Operation::kAllReduce || operation == Operation::kBroadcast;
          spec.chunks = chunked ? static_cast<uint32_t>(random() % 4) : 1;
          INFO(ranks << " ranks, " << to_string(operation) << " by " << algorithm << ", " << count << " elements, type "
                     << static_cast<int>(spec.type) << ", chunks " << spec.chunks);
          const bool halving = algorithm == "halving" && operation != Operation::kAllReduce;
          if (halving && !std::has_single_bit(ranks)) {
            CHECK_THROWS_AS(run_checked(c, spec, seed), UnsupportedError);
            continue;
          }
          const Outcome outcome = run_checked(c, spec, seed);
          CHECK(outcome.job.time_s >= outcome.bound.time_s * (1 - 1e-6));
        }
      }
    }
  }
}

TEST_CASE("hierarchies and tori of every shape give right sums") {
  for (const char *text :
       {"nodes: 4\nnode: {cards: 4}\ntopology: {kind: switch}\n",
        "nodes: 3\nnode: {cards: 3, nic: pcie, nics: 1}\ntopology: {kind: switch}\n",
        "nodes: 4\nnode: {cards: 2, nic: pcie, nics: 2}\ntopology: {kind: rail}\n",
        "nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 4}\n",
        "nodes: 16\nnode: {cards: 2}\ntopology: {kind: fat_tree, tiers: 3, down: 4, up: 4, pod_leaves: 2}\n",
        "nodes: 24\ntopology: {kind: dragonfly, routers: 4, ports: 2, global_links: 1}\n",
        "nodes: 12\ntopology: {kind: torus, dims: [3, 4]}\n", "nodes: 24\ntopology: {kind: torus, dims: [4, 3, 2]}\n",
        "nodes: 9\ntopology: {kind: ring}\n"}) {
    const Cluster c = cluster(text);
    for (const std::string algorithm : {"hcp", "torus", "auto", "ring"}) {
      for (const uint64_t count : {uint64_t{1}, uint64_t{1013}, uint64_t{50'021}}) {
        for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
          INFO(text << algorithm << ", " << count << " elements, fidelity " << static_cast<int>(fidelity));
          run_checked(c, spec_of(Operation::kAllReduce, algorithm, count, fidelity), 5);
        }
      }
    }
  }
}

TEST_CASE("sums are those of the stated order, bit by bit") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const uint32_t ranks : {2u, 3u, 5u, 8u, 12u, 16u, 33u}) {
    const Cluster c = plain(ranks);
    const uint64_t count = 301;
    for (const std::string algorithm : {"ring", "tree", "halving", "doubling", "direct", "hcp"}) {
      Spec spec = spec_of(Operation::kAllReduce, algorithm, count);
      spec.chunks = 1;
      if (algorithm == "hcp") spec.chunks = 1;
      Memory memory;
      Values x(ranks);
      const auto needed = memory_needed(c, spec);
      for (uint32_t r = 0; r < ranks; ++r) {
        memory.emplace_back(needed[r]);
        for (uint64_t i = 0; i < count; ++i) {
          x[r].push_back(
              std::ldexp(static_cast<float>(random() % 2000000) - 1e6f, static_cast<int>(random() % 40) - 20));
        }
        std::memcpy(memory[r].data(), x[r].data(), count * 4);
      }
      const Outcome outcome = run(c, spec, &memory);
      std::vector<uint32_t> group;
      for (uint32_t r = 0; r < ranks; ++r) group.push_back(r);
      const Split parts{count, ranks};
      uint64_t differences = 0;
      for (uint64_t i = 0; i < count; ++i) {
        uint32_t part = 0;
        while (i >= parts.begin(part) + parts.size(part)) ++part;
        float expected = 0;
        if (algorithm == "ring") expected = ring_sum(x, group, part, i);
        if (algorithm == "tree") expected = tree_sum(x, i);
        if (algorithm == "direct") expected = direct_sum(x, ranks, part, i);
        if (algorithm == "halving" || algorithm == "doubling") expected = pair_sum(folded(x, i));
        if (algorithm == "hcp") std::memcpy(&expected, &memory[0][4 * i], 4);  // equal on all ranks
        for (uint32_t r = 0; r < ranks; ++r) differences += std::memcmp(&memory[r][4 * i], &expected, 4) != 0 ? 1 : 0;
      }
      INFO(ranks << " ranks by " << outcome.plan);
      CHECK(differences == 0);
    }
  }
}

TEST_CASE("loss, marks and pauses change times, never results") {
  const Cluster lossy =
      plain(6, {"link.bit_error_rate=1e-6", "rdma.retransmit_us=300", "rdma.recovery=selective_repeat"});
  const Cluster bursty = cluster("nodes: 8\ntopology: {kind: fat_tree, down: 4, up: 1}\nswitch: {buffer_kib: 4096}\n",
                                 {"pfc.on=true", "ecn.on=true", "dcqcn.on=true"});
  const Cluster small = cluster("nodes: 8\ntopology: {kind: fat_tree, down: 4, up: 1}\nswitch: {buffer_kib: 64}\n",
                                {"rdma.retransmit_us=300"});
  for (const std::string algorithm : {"ring", "halving", "tree", "hcp"}) {
    INFO(algorithm);
    const Spec spec = spec_of(Operation::kAllReduce, algorithm, 300'007);
    CHECK(run_checked(lossy, spec, 1).job.retransmitted > 0);
    run_checked(bursty, spec, 1);
    run_checked(small, spec, 1);
    Spec exchange = spec_of(Operation::kAllToAll, "direct", 8 * 20'000);
    CHECK(run_checked(small, exchange, 2).job.dropped > 0);
    CHECK(run_checked(bursty, exchange, 2).job.dropped == 0);
  }
}

TEST_CASE("ranks that do not run the same collective get an error, on a rank that sees it") {
  const Cluster c = plain(4, {"watchdog_us=2000"});
  const Spec right = spec_of(Operation::kAllReduce, "ring", 4000);
  std::vector<std::pair<Spec, const char *>> others;
  Spec other = right;
  other.count = 3000;
  others.emplace_back(other, "count");
  other = right;
  other.type = ElementType::kInt32;
  others.emplace_back(other, "type");
  other = right;
  other.operation = Operation::kReduceScatter;
  others.emplace_back(other, "operation");
  other = right;
  other.algorithm = "tree";
  others.emplace_back(other, "algorithm");
  other = spec_of(Operation::kAllGather, "ring", 4000);
  others.emplace_back(other, "gather");
  for (const auto &[odd, name] : others) {
    for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
      INFO(name << ", fidelity " << static_cast<int>(fidelity));
      std::vector<Spec> specs(4, right);
      specs[2] = odd;
      specs[0].fidelity = fidelity;
      try {
        run_each(c, specs);
        FAIL("no error");
      } catch (const CollectiveError &error) {
        INFO(error.what());
        const bool typed = error.kind == CollectiveError::Kind::kMismatch ||
                           error.kind == CollectiveError::Kind::kLength ||
                           error.kind == CollectiveError::Kind::kWatchdog;
        CHECK(typed);
        // Rank 2 or one that it talks to.
        const bool concerned = error.rank == 2 || error.peer == 2 || error.kind == CollectiveError::Kind::kWatchdog;
        CHECK(concerned);
        CHECK(error.time_s < 0.01);
      }
    }
  }
}

TEST_CASE("a rank that does not take part is named by the watchdog") {
  const Cluster c = plain(4, {"watchdog_us=2000"});
  std::vector<Spec> specs(4, spec_of(Operation::kAllReduce, "ring", 40'000));
  specs[3] = spec_of(Operation::kAllReduce, "ring", 0);  // has nothing to do: not the same, but nothing to compare with
  for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
    specs[0].fidelity = fidelity;
    try {
      // Commands of rank 3 are for no bytes: drop them as a rank that never called would.
      const Schedule schedule = build(make_plan(c, Operation::kAllReduce, "ring", 40'000, ElementType::kFp32, 1), 4,
                                      40'000, ElementType::kFp32);
      std::vector<cx_comm_program> programs(4);
      for (std::size_t r = 0; r < 4; ++r) {
        programs[r] = {schedule.ranks[r].data(), r == 3 ? 0 : schedule.ranks[r].size(), nullptr,
                       schedule.memory_bytes[r], 1};
      }
      c.run(programs, ElementType::kFp32, fidelity);
      FAIL("no error");
    } catch (const CollectiveError &error) {
      INFO(error.what());
      CHECK(error.kind == CollectiveError::Kind::kWatchdog);
      CHECK(error.time_s <= 0.0041);
      CHECK(std::string(error.what()).find("rank 0 waits in RECV from rank 3, queue pair ") != std::string::npos);
      CHECK(std::string(error.what()).find("rank 2 waits in SEND to rank 3") != std::string::npos);
      CHECK(std::string(error.what()).find("120000 bytes outstanding (no receive is posted there)") !=
            std::string::npos);
      CHECK(error.bytes_outstanding == 40'000);
    }
  }
}

TEST_CASE("faults: detected, routed around or a typed error in time") {
  const std::string tree =
      "nodes: 8\ntopology: {kind: fat_tree, down: 4, up: 2}\nrdma: {retransmit_us: 200, retries: 4}\n";
  const Cluster c = cluster(tree);
  for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
    INFO("fidelity " << static_cast<int>(fidelity));
    Spec spec = spec_of(Operation::kAllReduce, "ring", 1'000'003, fidelity);
    const double healthy = run_checked(c, spec, 3).job.time_s;
    spec.faults = {"link_down@link=leaf0-spine0,at_us=100", "link_down@link=leaf1-spine0,at_us=100"};
    CHECK(run_checked(c, spec, 3).job.time_s > healthy * 0.999);
    spec.faults = {"slow_link@link=node2-leaf0,factor=0.25"};
    const double slow = run_checked(c, spec, 3).job.time_s;
    CHECK(slow > 3 * healthy);
    spec.faults = {"dead_node@node=5,at_us=100"};
    try {
      run(c, spec);
      FAIL("no error");
    } catch (const CollectiveError &error) {
      INFO(error.what());
      CHECK(error.kind == CollectiveError::Kind::kPeerLost);
      CHECK(error.peer == 5);
      CHECK(error.bytes_outstanding > 0);
      CHECK(error.time_s < 100e-6 + 2 * c.shape().detection_s);
    }
    spec.faults = {"link_down@link=node5-leaf1,at_us=100"};  // its only one
    CHECK_THROWS_AS(run(c, spec), CollectiveError);
    spec.faults = {"link_down@link=node99-leaf1"};
    CHECK_THROWS_AS(run(c, spec), UsageError);
  }
  Spec lossy = spec_of(Operation::kAllReduce, "ring", 1'000'003);
  lossy.faults = {"lossy_link@link=node2-leaf0,loss=0.01"};
  CHECK(run_checked(c, lossy, 3).job.retransmitted > 0);
  lossy.fidelity = Fidelity::kFlow;
  CHECK_THROWS_AS(run(c, lossy), UsageError);
}

TEST_CASE("wrong use is refused") {
  const Cluster c = plain(4);
  CHECK_THROWS_AS(run(c, spec_of(Operation::kAllReduce, "fastest", 10)), UsageError);
  CHECK_THROWS_AS(run(c, spec_of(Operation::kAllToAll, "ring", 12)), UnsupportedError);
  CHECK_THROWS_AS(run(c, spec_of(Operation::kAllToAll, "direct", 13)), UsageError);
  Spec spec = spec_of(Operation::kBroadcast, "tree", 10);
  spec.root = 4;
  CHECK_THROWS_AS(run(c, spec), UsageError);
  spec = spec_of(Operation::kReduceScatter, "ring", 10);
  spec.chunks = 2;
  CHECK_THROWS_AS(run(c, spec), UsageError);
  Memory small(4, std::vector<std::byte>(8));
  CHECK_THROWS_AS(run(c, spec_of(Operation::kAllReduce, "ring", 10), &small), UsageError);
  CHECK_THROWS_AS(Cluster::open("no-such-cluster"), InputError);
}

TEST_CASE("command lists are checked") {
  const Cluster c = plain(2);
  const auto refused = [&](const cx_comm_command &command, ElementType type = ElementType::kFp32) {
    std::vector<cx_comm_program> programs(2);
    programs[0] = {&command, 1, nullptr, 1024, 0};
    programs[1] = {nullptr, 0, nullptr, 1024, 0};
    try {
      c.run(programs, type, Fidelity::kPacket);
    } catch (const UsageError &error) {
      return std::string(error.what());
    }
    return std::string();
  };
  cx_comm_command right{};
  right.op = CX_COMM_REDUCE;
  right.after[0] = right.after[1] = CX_COMM_NONE;
  right.bytes = 16;
  CHECK(refused(right).empty());
  const auto with = [&](auto change) {
    cx_comm_command command = right;
    change(command);
    return command;
  };
  CHECK(refused(with([](auto &k) { k.op = 99; })).find("no operation 99") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.bytes = 15; })).find("whole elements") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.source = 1020; })).find("source 1020") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.target = ~uint64_t{0}; })).find("target") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.after[1] = 0; })).find("earlier command") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.op = CX_COMM_SEND; })).find("peer 0") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.op = CX_COMM_RECV, k.peer = 2; })).find("peer 2") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.op = CX_COMM_TOPK, k.peer = 5; })).find("count 5") != std::string::npos);
  CHECK(refused(with([](auto &k) { k.op = CX_COMM_TOPK, k.peer = 1, k.third = 2; })).find("multiples of 4") !=
        std::string::npos);
  CHECK(refused(with([](auto &k) { k.op = CX_COMM_TOPK, k.peer = 1; }), ElementType::kInt32).find("FP32") !=
        std::string::npos);
  CHECK(refused(with([](auto &k) { k.op = CX_COMM_SCATTER_ADD, k.bytes = 12; })).find("whole elements") !=
        std::string::npos);
}
