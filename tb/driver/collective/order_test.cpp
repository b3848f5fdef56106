// Sums of non-integers against a plain evaluation of the stated order, every plan of every algorithm; operations by
// hierarchies of every shape; who waits when a rank is missing.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "driver/collective/collective.hpp"
#include "hw/common/num/formats.hpp"
#include "tb/common/seed.hpp"
#include "tb/driver/collective/test_clusters.hpp"

using namespace cx;
using namespace cx::collective;
using tb::cluster;

namespace {

const std::vector<std::string> kShapes = {
    "nodes: 4\nnode: {cards: 4}\ntopology: {kind: switch}\n",
    "nodes: 3\nnode: {cards: 3, nic: pcie, nics: 1}\ntopology: {kind: switch}\n",
    "nodes: 4\nnode: {cards: 2, nic: pcie, nics: 2}\ntopology: {kind: rail}\n",
    "nodes: 5\nnode: {cards: 6, nic: pcie, nics: 3}\ntopology: {kind: switch}\n",
    "nodes: 16\ntopology: {kind: fat_tree, down: 4, up: 4}\n",
    "nodes: 16\nnode: {cards: 2}\ntopology: {kind: fat_tree, tiers: 3, down: 4, up: 4, pod_leaves: 2}\n",
    "nodes: 24\ntopology: {kind: dragonfly, routers: 4, ports: 2, global_links: 1}\n",
    "nodes: 12\ntopology: {kind: torus, dims: [3, 4]}\n",
    "nodes: 24\ntopology: {kind: torus, dims: [4, 3, 2]}\n",
    "nodes: 9\ntopology: {kind: ring}\n"};

// ---- reference ----

/// To the nearest number of `digits` significant bits, ties to even; exact in double.
double rounded(double value, int digits, int least_exponent) {
  if (value == 0 || !std::isfinite(value)) return value;
  int exponent;
  std::frexp(value, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent, least_exponent + 1) - digits);
  return std::nearbyint(value / unit) * unit;
}

/// One addition of a type: the exact sum, rounded once. (Of FP16 and BF16 a double's sum rounds the same.)
double add(ElementType type, double a, double b) {
  switch (type) {
    case ElementType::kFp32:
      return static_cast<float>(a) + static_cast<float>(b);
    case ElementType::kFp16:
      return rounded(a + b, 11, -14);
    case ElementType::kBf16:
      return rounded(a + b, 8, -126);
    case ElementType::kInt32:
      return static_cast<int32_t>(static_cast<uint32_t>(static_cast<int32_t>(a)) +
                                  static_cast<uint32_t>(static_cast<int32_t>(b)));
  }
  return 0;
}

/// Elements in the order in which a rank holds them; blocks after a sort.
struct Range {
  std::vector<std::vector<uint64_t>> blocks;
  bool sorted = false;
  std::vector<Range> parts(uint32_t k) const {
    std::vector<Range> out(k);
    if (sorted) {
      for (std::size_t b = 0; b < blocks.size(); ++b) out[b / (blocks.size() / k)].blocks.push_back(blocks[b]);
    } else {
      const std::vector<uint64_t> &all = blocks[0];
      std::size_t at = 0;
      for (uint32_t i = 0; i < k; ++i) {
        const std::size_t size = all.size() / k + (i < all.size() % k ? 1 : 0);
        out[i].blocks.push_back(
            {all.begin() + static_cast<std::ptrdiff_t>(at), all.begin() + static_cast<std::ptrdiff_t>(at + size)});
        at += size;
      }
    }
    for (Range &part : out) part.sorted = sorted;
    return out;
  }
  std::vector<uint64_t> elements() const {
    std::vector<uint64_t> out;
    for (const auto &block : blocks) out.insert(out.end(), block.begin(), block.end());
    return out;
  }
};

class Reference {
 public:
  /// x[rank][element]
  Reference(ElementType type, std::vector<std::vector<double>> x) : type_(type), x(std::move(x)) {}

  void run(const Plan &plan) {
    const uint64_t count = x[0].size();
    const Split by_part{count, static_cast<uint32_t>(plan.parts.size())};
    for (uint32_t p = 0; p < plan.parts.size(); ++p) {
      const Split by_chunk{by_part.size(p), plan.chunks};
      for (uint32_t c = 0; c < plan.chunks; ++c) {
        std::vector<uint64_t> all(by_chunk.size(c));
        for (uint64_t i = 0; i < all.size(); ++i) all[i] = by_part.begin(p) + by_chunk.begin(c) + i;
        held_.assign(x.size(), {{all}, false});
        outer_.assign(x.size(), {});
        active_.assign(x.size(), true);
        for (const Phase &phase : plan.parts[p]) {
          for (const auto &group : phase.groups) step(phase, group);
        }
      }
    }
  }

  std::vector<uint64_t> holds(uint32_t rank) const { return held_[rank].elements(); }

 private:
  using Kind = Phase::Kind;
  using Algorithm = Phase::Algorithm;

  double pairs(const std::vector<double> &values, bool farthest_first) const {
    std::vector<double> v = values;
    while (v.size() > 1) {
      const std::size_t half = v.size() / 2;
      std::vector<double> next;
      for (std::size_t i = 0; i < half; ++i) {
        next.push_back(farthest_first ? add(type_, v[i], v[i + half]) : add(type_, v[2 * i], v[2 * i + 1]));
      }
      v = next;
    }
    return v[0];
  }

  double in_turn(const std::vector<double> &values, std::size_t first) const {
    double sum = values[first % values.size()];
    for (std::size_t d = 1; d < values.size(); ++d) sum = add(type_, sum, values[(first + d) % values.size()]);
    return sum;
  }

  std::vector<double> of(const std::vector<uint32_t> &group, uint64_t element) const {
    std::vector<double> values;
    for (const uint32_t rank : group) values.push_back(x[rank][element]);
    return values;
  }

  void step(const Phase &phase, const std::vector<uint32_t> &all) {
    std::vector<uint32_t> group;
    for (const uint32_t rank : all) {
      if (active_[rank]) group.push_back(rank);
    }
    const auto k = static_cast<uint32_t>(group.size());
    const uint32_t extra = static_cast<uint32_t>(all.size()) - std::bit_floor(static_cast<uint32_t>(all.size()));
    switch (phase.kind) {
      case Kind::kReduceScatter: {
        if (k < 2) return;
        const std::vector<Range> parts = held_[group[0]].parts(k);
        std::map<uint64_t, double> sums;
        for (uint32_t c = 0; c < k; ++c) {
          for (const uint64_t e : parts[c].elements()) {
            const std::vector<double> values = of(group, e);
            sums[e] = phase.algorithm == Algorithm::kRing     ? in_turn(values, c + 1)
                      : phase.algorithm == Algorithm::kDirect ? in_turn(values, c)
                                                              : pairs(values, phase.in_order);
          }
        }
        for (uint32_t i = 0; i < k; ++i) {
          const Range whole = held_[group[i]];
          outer_[group[i]].push_back(whole);
          if (phase.algorithm == Algorithm::kHalving) {
            // The half that a position keeps at each bit, in the order of the steps.
            uint32_t members = k;
            for (uint32_t step = 0; members > 1; ++step) {
              const uint32_t bit = phase.in_order ? members / 2 : 1u << step;
              const std::vector<Range> pieces = held_[group[i]].parts(members);
              Range kept;
              kept.sorted = whole.sorted;
              const uint32_t from = (i & bit) != 0 ? members / 2 : 0;
              for (uint32_t m = from; m < from + members / 2; ++m) {
                kept.blocks.insert(kept.blocks.end(), pieces[m].blocks.begin(), pieces[m].blocks.end());
              }
              if (!kept.sorted) kept.blocks = {kept.elements()};
              held_[group[i]] = kept;
              members /= 2;
            }
          } else {
            held_[group[i]] = parts[i];
          }
          for (const uint64_t e : held_[group[i]].elements()) x[group[i]][e] = sums[e];
        }
        return;
      }
      case Kind::kAllGather: {
        if (k < 2) return;
        std::map<uint64_t, double> values;
        for (const uint32_t rank : group) {
          for (const uint64_t e : held_[rank].elements()) values[e] = x[rank][e];
        }
        for (const uint32_t rank : group) {
          held_[rank] = outer_[rank].back();
          outer_[rank].pop_back();
          for (const uint64_t e : held_[rank].elements()) x[rank][e] = values.at(e);
        }
        return;
      }
      case Kind::kAllReduce:
        for (const uint64_t e : held_[group[0]].elements()) {
          const double sum = pairs(of(group, e), false);
          for (const uint32_t rank : group) x[rank][e] = sum;
        }
        return;
      case Kind::kReduce:
        for (const uint64_t e : held_[group[0]].elements()) {
          std::vector<double> v = of(group, e);
          for (uint32_t bit = 1; bit < k; bit *= 2) {
            for (uint32_t i = 0; i + bit < k; i += 2 * bit) v[i] = add(type_, v[i], v[i + bit]);
          }
          x[group[0]][e] = v[0];
        }
        return;
      case Kind::kBroadcast:
        for (const uint64_t e : held_[group[0]].elements()) {
          for (const uint32_t rank : group) x[rank][e] = x[group[phase.root]][e];
        }
        return;
      case Kind::kFold:
      case Kind::kUnfold:
        for (uint32_t i = 0; i < 2 * extra; i += 2) {
          for (const uint64_t e : held_[all[i]].elements()) {
            double &odd = x[all[i + 1]][e], &even = x[all[i]][e];
            phase.kind == Kind::kFold ? odd = add(type_, odd, even) : even = odd;
          }
          active_[all[i]] = phase.kind == Kind::kUnfold;
        }
        return;
      case Kind::kSort:
        for (const uint32_t rank : group) {
          const std::vector<Range> natural = held_[rank].parts(k);
          Range sorted;
          sorted.sorted = true;
          sorted.blocks.resize(k);
          for (uint32_t i = 0; i < k; ++i) {
            uint32_t place = 0, digits = i;
            for (const uint32_t size : phase.levels) {
              place = place * size + digits % size;
              digits /= size;
            }
            sorted.blocks[place] = natural[i].elements();
          }
          held_[rank] = sorted;
        }
        return;
      case Kind::kUnsortPart:
        return;
      default:
        FAIL("not a sum");
    }
  }

  ElementType type_;

 public:
  std::vector<std::vector<double>> x;

 private:
  std::vector<Range> held_;
  std::vector<std::vector<Range>> outer_;
  std::vector<bool> active_;
};

double draw(std::mt19937_64 &random, ElementType type) {
  const double mantissa = static_cast<double>(random() % 200001) - 1e5;
  switch (type) {
    case ElementType::kFp32:
      return static_cast<float>(std::ldexp(mantissa, static_cast<int>(random() % 40) - 30));
    case ElementType::kFp16:
      return rounded(std::ldexp(mantissa, static_cast<int>(random() % 12) - 20), 11, -14);
    case ElementType::kBf16:
      return rounded(std::ldexp(mantissa, static_cast<int>(random() % 20) - 20), 8, -126);
    case ElementType::kInt32:
      return static_cast<int32_t>(random());
  }
  return 0;
}

std::vector<std::byte> encoded(ElementType type, double value) {
  std::vector<std::byte> out(bytes_of(type));
  if (type == ElementType::kInt32) {
    const auto whole = static_cast<int32_t>(value);
    std::memcpy(out.data(), &whole, 4);
    return out;
  }
  const auto real = static_cast<float>(value);
  if (type == ElementType::kFp32) {
    std::memcpy(out.data(), &real, 4);
  } else {
    const uint16_t half = type == ElementType::kFp16 ? num::encode_fp16(real) : num::encode_bf16(real);
    std::memcpy(out.data(), &half, 2);
  }
  return out;
}

/// Every element that a rank ends with, bit by bit. Returns how many there were.
uint64_t compare(const Cluster &c, Operation operation, const Plan &plan, uint64_t count, ElementType type,
                 Fidelity fidelity, std::mt19937_64 &random) {
  const uint32_t ranks = c.ranks();
  const uint64_t size = bytes_of(type);
  std::vector<std::vector<double>> x(ranks, std::vector<double>(count));
  Memory memory;
  const Schedule schedule = build(plan, ranks, count, type);
  for (uint32_t r = 0; r < ranks; ++r) {
    memory.emplace_back(schedule.memory_bytes[r]);
    for (uint64_t i = 0; i < count; ++i) {
      x[r][i] = draw(random, type);
      const auto bytes = encoded(type, x[r][i]);
      std::copy(bytes.begin(), bytes.end(), memory[r].begin() + static_cast<std::ptrdiff_t>(i * size));
    }
  }
  Spec spec;
  spec.operation = operation;
  spec.count = count;
  spec.type = type;
  spec.fidelity = fidelity;
  run_plan(c, spec, plan, &memory);
  Reference reference(type, x);
  reference.run(plan);
  uint64_t checked = 0, wrong = 0;
  const Split parts{count, ranks};
  for (uint32_t r = 0; r < ranks; ++r) {
    const bool own = operation == Operation::kReduceScatter;
    const uint64_t first = own ? parts.begin(r) : 0, last = own ? first + parts.size(r) : count;
    if (own) {
      const std::vector<uint64_t> holds = reference.holds(r);
      CHECK(holds.size() == last - first);
      if (!holds.empty()) CHECK(holds[0] == first);
    }
    for (uint64_t i = first; i < last; ++i, ++checked) {
      wrong += std::memcmp(encoded(type, reference.x[r][i]).data(), &memory[r][i * size], size) != 0 ? 1 : 0;
    }
  }
  INFO(ranks << " ranks, " << plan.name << ", " << count << " elements, type " << static_cast<int>(type)
             << ", fidelity " << static_cast<int>(fidelity));
  CHECK(wrong == 0);
  return checked;
}

constexpr ElementType kTypes[] = {ElementType::kFp32, ElementType::kFp16, ElementType::kBf16, ElementType::kInt32};

}  // namespace

TEST_CASE("sums of every algorithm and type are those of the stated order, for 2 to 33 ranks") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const uint32_t ranks : {2u, 3u, 5u, 8u, 12u, 16u, 33u}) {
    const Cluster c = cluster("nodes: " + std::to_string(ranks) + "\ntopology: {kind: switch}\n");
    for (const Operation operation : {Operation::kAllReduce, Operation::kReduceScatter}) {
      for (const std::string &algorithm : algorithms(operation)) {
        if (operation == Operation::kReduceScatter && algorithm == "halving" && !std::has_single_bit(ranks)) continue;
        for (Plan &plan : candidates(c, operation, algorithm, 0)) {
          for (const ElementType type : kTypes) {
            if (operation == Operation::kAllReduce) plan.chunks = static_cast<uint32_t>(random() % 3) + 1;
            compare(c, operation, plan, random() % 700 + 1, type,
                    random() % 2 == 0 ? Fidelity::kPacket : Fidelity::kFlow, random);
          }
        }
      }
    }
  }
}

TEST_CASE("sums of every hierarchy and torus are those of the stated order") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const std::string &text : kShapes) {
    const Cluster c = cluster(text);
    for (const Operation operation : {Operation::kAllReduce, Operation::kReduceScatter}) {
      for (const std::string algorithm : {"hcp", "torus"}) {
        if (operation == Operation::kReduceScatter && algorithm == "torus") continue;
        for (Plan &plan : candidates(c, operation, algorithm, 0)) {
          INFO(text << plan.name);
          const ElementType type = kTypes[random() % 3];
          if (operation == Operation::kAllReduce) plan.chunks = static_cast<uint32_t>(random() % 2) + 1;
          compare(c, operation, plan, random() % 500 + 1, type, random() % 4 == 0 ? Fidelity::kPacket : Fidelity::kFlow,
                  random);
        }
      }
    }
  }
}

TEST_CASE("every operation by every plan of a hierarchy gives the right result") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const std::string &text : kShapes) {
    const Cluster c = cluster(text);
    for (const Operation operation :
         {Operation::kReduceScatter, Operation::kAllGather, Operation::kBroadcast, Operation::kAllToAll}) {
      const auto root = static_cast<uint32_t>(random() % c.ranks());
      for (Plan &plan : candidates(c, operation, "hcp", root)) {
        for (const uint64_t base : {uint64_t{1}, random() % 5000 + 1}) {
          Spec spec;
          spec.operation = operation;
          spec.count = operation == Operation::kAllToAll ? base * c.ranks() : base;
          spec.type = kTypes[random() % 4];
          spec.root = root;
          spec.fidelity = random() % 2 == 0 ? Fidelity::kPacket : Fidelity::kFlow;
          if (operation == Operation::kBroadcast) plan.chunks = static_cast<uint32_t>(random() % 3) + 1;
          INFO(text << to_string(operation) << " by " << plan.name << ", root " << root << ", " << spec.count
                    << " elements");
          run_checked(c, spec, seed, &plan);
        }
      }
    }
  }
}

TEST_CASE("a hierarchy sends less between nodes, or fewer messages, or by every port") {
  const Cluster c = cluster("nodes: 4\nnode: {cards: 4, nic: pcie, nics: 4}\ntopology: {kind: rail}\n");
  Spec spec;
  spec.fidelity = Fidelity::kPacket;
  const auto run_by = [&](Operation operation, const std::string &algorithm, uint64_t count) {
    spec.operation = operation;
    spec.algorithm = algorithm;
    spec.count = count;
    return run(c, spec);
  };
  const uint64_t large = 4'000'000;
  // A card has 4 MB from every other card of its node; between nodes goes a quarter of what a flat exchange sends.
  const Outcome scatter = run_by(Operation::kReduceScatter, "hcp", large);
  CHECK(scatter.job.network_bytes == 16 * (large / 4) * 4 * 3 / 4);
  CHECK(run_by(Operation::kReduceScatter, "direct", large).job.network_bytes == 4 * scatter.job.network_bytes);
  const Outcome gather = run_by(Operation::kAllGather, "hcp", large);
  CHECK(gather.job.network_bytes == scatter.job.network_bytes);
  // By four ports instead of one.
  const Outcome tree = run_by(Operation::kBroadcast, "tree", large),
                by_parts = run_by(Operation::kBroadcast, "hcp", large);
  INFO("broadcast: tree " << tree.job.time_s * 1e6 << " us, " << by_parts.plan << ' ' << by_parts.job.time_s * 1e6);
  CHECK(by_parts.job.time_s < 0.5 * tree.job.time_s);
  // 12 messages of 4 cards each become 3.
  const Outcome flat = run_by(Operation::kAllToAll, "direct", 160), by_node = run_by(Operation::kAllToAll, "hcp", 160);
  CHECK(by_node.job.network_bytes == flat.job.network_bytes);
  CHECK(by_node.job.data_packets < flat.job.data_packets);
}

TEST_CASE("a rank that does not take part is named in every operation by every algorithm") {
  for (const char *text : {"nodes: 4\ntopology: {kind: switch}\n",
                           "nodes: 2\nnode: {cards: 2, nic: pcie, nics: 1}\ntopology: {kind: switch}\n"}) {
    const Cluster c = cluster(text, {"watchdog_us=2000"});
    for (const Operation operation : {Operation::kAllReduce, Operation::kReduceScatter, Operation::kAllGather,
                                      Operation::kBroadcast, Operation::kAllToAll}) {
      for (const std::string &algorithm : algorithms(operation)) {
        for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
          const Plan plan = make_plan(c, operation, algorithm, 40'000, ElementType::kFp32, 1);
          INFO(text << to_string(operation) << " by " << plan.name << ", fidelity " << static_cast<int>(fidelity));
          const Schedule schedule = build(plan, 4, 40'000, ElementType::kFp32);
          std::vector<cx_comm_program> all = programs(schedule, 1, nullptr);
          all[3].count = 0;
          try {
            c.run(all, ElementType::kFp32, fidelity);
            FAIL("no error");
          } catch (const CollectiveError &error) {
            INFO(error.what());
            const std::string message = error.what();
            CHECK(error.kind == CollectiveError::Kind::kWatchdog);
            CHECK(error.time_s <= 0.0041);
            CHECK(error.bytes_outstanding > 0);
            // Somebody waits for it, and says with how much.
            const std::size_t sends = message.find(" waits in SEND to rank 3, queue pair ");
            const std::size_t receives = message.find(" waits in RECV from rank 3, queue pair ");
            REQUIRE((sends != std::string::npos || receives != std::string::npos));
            const std::size_t at = message.find(", ", message.find("queue pair ", std::min(sends, receives)));
            CHECK(std::stoull(message.substr(at + 2)) > 0);
            CHECK(message.find("rank 3 waits") == std::string::npos);
            if (sends != std::string::npos) CHECK(message.find("(no receive is posted there)") != std::string::npos);
          }
        }
      }
    }
  }
}

TEST_CASE("PERMUTE sorts blocks by their digits and back; wrong ones are refused") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const Cluster c = cluster("nodes: 2\ntopology: {kind: switch}\n");
  const auto run_one = [&](const std::vector<cx_comm_command> &list, std::vector<std::byte> &memory, ElementType type) {
    std::vector<std::byte> other(memory.size());
    try {
      c.run({{list.data(), list.size(), memory.data(), memory.size(), 0}, {nullptr, 0, other.data(), other.size(), 0}},
            type, Fidelity::kFlow);
    } catch (const UsageError &error) {
      return std::string(error.what());
    }
    return std::string();
  };
  cx_comm_command command{};
  command.op = CX_COMM_PERMUTE;
  command.after[0] = command.after[1] = CX_COMM_NONE;
  for (const std::vector<uint32_t> &digits :
       std::vector<std::vector<uint32_t>>{{1}, {7}, {2, 3}, {3, 2}, {4, 3, 2}, {2, 2, 3, 2}, {1, 5, 1}}) {
    for (const ElementType type : {ElementType::kFp32, ElementType::kBf16}) {
      const uint64_t size = bytes_of(type), count = random() % 60;
      uint32_t blocks = 1;
      command.third = 0;
      for (std::size_t d = 0; d < digits.size(); ++d) {
        blocks *= digits[d];
        command.third |= uint64_t{digits[d]} << 16 * d;
      }
      std::vector<std::byte> memory(3 * 256);
      for (std::byte &byte : memory) byte = static_cast<std::byte>(random());
      cx_comm_command forth = command, back = command;
      forth.bytes = back.bytes = count * size;
      forth.target = 256;
      back.source = 256;
      back.target = 512;
      back.peer = 1;
      back.after[0] = 0;
      const std::vector<std::byte> before = memory;
      REQUIRE(run_one({forth, back}, memory, type).empty());
      // All digits, the first one slowest.
      std::vector<std::byte> expected;
      const Split split{count, blocks};
      std::vector<uint32_t> at(digits.size(), 0);
      for (uint32_t place = 0; place < blocks; ++place) {
        uint32_t block = 0;
        for (std::size_t d = digits.size(); d-- > 0;) block = block * digits[d] + at[d];
        const auto first = before.begin() + static_cast<std::ptrdiff_t>(split.begin(block) * size);
        expected.insert(expected.end(), first, first + static_cast<std::ptrdiff_t>(split.size(block) * size));
        for (std::size_t d = digits.size(); d-- > 0 && ++at[d] == digits[d];) at[d] = 0;
      }
      CHECK(std::memcmp(&memory[256], expected.data(), expected.size()) == 0);
      CHECK(std::memcmp(&memory[512], before.data(), count * size) == 0);
      CHECK(std::memcmp(&memory[0], before.data(), 256) == 0);
      CHECK(std::memcmp(&memory[256 + count * size], &before[256 + count * size], 256 - count * size) == 0);
    }
  }
  std::vector<std::byte> memory(1024);
  command.third = 2 | 3 << 16;
  command.target = 512;
  command.bytes = 24;
  CHECK(run_one({command}, memory, ElementType::kFp32).empty());
  const auto refused = [&](auto change, const char *why) {
    cx_comm_command wrong = command;
    change(wrong);
    const std::string text = run_one({wrong}, memory, ElementType::kFp32);
    INFO(text);
    CHECK(text.find(why) != std::string::npos);
  };
  refused([](auto &k) { k.bytes = 22; }, "whole elements");
  refused([](auto &k) { k.source = 1020; }, "source 1020");
  refused([](auto &k) { k.target = 1020; }, "target 1020");
  refused([](auto &k) { k.target = 20; }, "overlap");
  refused([](auto &k) { k.source = 530; }, "overlap");
  refused([](auto &k) { k.peer = 2; }, "peer 2");
  refused([](auto &k) { k.third = 0; }, "digits 0");
  refused([](auto &k) { k.third = 2ull << 16; }, "digits");
  refused([](auto &k) { k.third = 65535ull | 65535ull << 16; }, "blocks");
  refused([](auto &k) { k.third = ~0ull; }, "blocks");
}
