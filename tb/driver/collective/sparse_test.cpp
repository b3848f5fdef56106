// Sparse all-reduce: results and residuals against a plain reference, volumes, balance, errors on the right rank.
#include "driver/collective/sparse.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "tb/common/data.hpp"
#include "tb/common/seed.hpp"
#include "tb/driver/collective/test_clusters.hpp"

using namespace cx;
using namespace cx::collective;
using tb::cluster;
using tb::plain;

namespace {

SparseSpec spec_of(const std::string &method, uint64_t count, uint64_t k, Fidelity fidelity = Fidelity::kPacket) {
  SparseSpec spec;
  spec.method = method;
  spec.count = count;
  spec.k = k;
  spec.fidelity = fidelity;
  return spec;
}

// ---- reference: from the words of sparse.hpp, by sorting ----

using Vector = std::vector<float>;

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
bool same_bits(float a, float b) { return bits_of(a) == bits_of(b); }

/// Indices of the k largest magnitudes, of equal ones the lower; NaN as infinity.
std::vector<uint32_t> largest(const Vector &y, std::size_t k) {
  const auto size = [&](uint32_t i) {
    return std::isnan(y[i]) ? std::numeric_limits<float>::infinity() : std::fabs(y[i]);
  };
  std::vector<uint32_t> order(y.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return size(a) > size(b); });
  order.resize(k);
  return order;
}

struct Reference {
  Vector result;
  std::vector<Vector> residual;
};

/// y[r]: of the ranks that exchange, in their order.
Reference reference(bool gather, const std::vector<Vector> &y, std::size_t k) {
  const std::size_t n = y[0].size();
  Reference out;
  out.residual = y;
  Vector sum(n, 0.0f);
  std::vector<std::vector<bool>> offered(y.size(), std::vector<bool>(n, false));
  for (std::size_t r = 0; r < y.size(); ++r) {
    for (const uint32_t i : largest(y[r], k)) offered[r][i] = true;
    for (std::size_t i = 0; i < n; ++i) {
      if (offered[r][i]) sum[i] = sum[i] + y[r][i];
    }
  }
  std::vector<bool> taken(n, true);
  out.result = sum;
  if (!gather) {
    taken.assign(n, false);
    for (const uint32_t i : largest(sum, k)) taken[i] = sum[i] != 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (!taken[i]) out.result[i] = 0;
    }
  }
  for (std::size_t r = 0; r < y.size(); ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      if (offered[r][i] && taken[i]) out.residual[r][i] = 0;
    }
  }
  return out;
}

/// Sum of part c of the node's cards in the order that plan.hpp states.
float node_sum(const std::string &algorithm, const std::vector<Vector> &g, uint32_t c, std::size_t i) {
  const std::size_t k = g.size();
  if (algorithm == "halving") {
    Vector values;
    for (const Vector &of : g) values.push_back(of[i]);
    for (std::size_t half = k / 2; half > 0; half /= 2) {  // farthest first
      for (std::size_t j = 0; j < half; ++j) values[j] = values[j] + values[j + half];
    }
    return values[0];
  }
  const std::size_t first = algorithm == "ring" ? c + 1 : c;
  float sum = g[first % k][i];
  for (std::size_t d = 1; d < k; ++d) sum = sum + g[(first + d) % k][i];
  return sum;
}

enum class Data { kSpread, kTies, kNarrow, kZeros, kSpecial };

Vector make(std::mt19937_64 &random, uint64_t count, Data data) {
  Vector out(count);
  for (uint64_t i = 0; i < count; ++i) {
    switch (data) {
      case Data::kSpread:
        out[i] = std::ldexp(static_cast<float>(random() % 2000001) - 1e6f, static_cast<int>(random() % 60) - 40);
        break;
      case Data::kTies:
        out[i] = static_cast<float>(static_cast<int>(random() % 5) - 2);
        break;
      case Data::kNarrow:  // what is large lies together
        out[i] =
            (i > count / 2 && i < count / 2 + count / 10 ? 1000.0f : 1e-3f) * (static_cast<float>(random() % 1000) + 1);
        break;
      case Data::kZeros:
        out[i] = random() % 50 == 0 ? static_cast<float>(random() % 9) - 4.0f : (random() % 2 == 0 ? 0.0f : -0.0f);
        break;
      case Data::kSpecial:
        out[i] = random() % 30 == 0   ? std::numeric_limits<float>::infinity()
                 : random() % 30 == 0 ? std::numeric_limits<float>::denorm_min() * static_cast<float>(random() % 100)
                                      : static_cast<float>(random() % 100);
        break;
    }
  }
  return out;
}

Vector read(const Memory &memory, uint32_t rank, uint64_t offset, uint64_t count) {
  Vector out(count);
  std::memcpy(out.data(), memory[rank].data() + offset, count * 4);
  return out;
}
void write(Memory &memory, uint32_t rank, uint64_t offset, const Vector &values) {
  std::memcpy(memory[rank].data() + offset, values.data(), values.size() * 4);
}

Memory memory_of(const SparseLayout &layout) {
  Memory memory;
  for (const uint64_t bytes : layout.memory_bytes) memory.emplace_back(bytes);
  return memory;
}

/// Two rounds, the second with what the first has left; every bit of every rank.
void compare(const Cluster &c, const SparseSpec &spec, Data data, std::mt19937_64 &random) {
  const uint32_t ranks = c.ranks();
  const SparseLayout layout = sparse_layout(c, spec);
  Memory memory = memory_of(layout);
  const bool in_node = spec.method.rfind("inter-node", 0) == 0;
  const uint32_t cards = in_node ? c.shape().cards_per_node : 1, nodes = ranks / cards;
  std::vector<Vector> residual;
  for (uint32_t r = 0; r < ranks; ++r) {
    residual.push_back(make(random, spec.count, data));
    for (float &e : residual[r]) e = std::isfinite(e) ? e / 4 : 0;
    write(memory, r, layout.residual, residual[r]);
  }
  for (int round = 0; round < 2; ++round) {
    std::vector<Vector> g;
    for (uint32_t r = 0; r < ranks; ++r) {
      g.push_back(make(random, spec.count, data));
      write(memory, r, layout.gradient, g[r]);
    }
    const SparseOutcome outcome = run_sparse(c, spec, &memory);
    const bool gather = outcome.plan.find("gather") != std::string::npos;
    const std::string inside = outcome.plan.find(", ring") != std::string::npos      ? "ring"
                               : outcome.plan.find(", halving") != std::string::npos ? "halving"
                                                                                     : "direct";
    INFO(ranks << " ranks, " << outcome.plan << ", " << spec.count << " elements, k " << spec.k << ", data "
               << static_cast<int>(data) << ", round " << round << ", fidelity " << static_cast<int>(spec.fidelity));
    const Split elements{spec.count, cards}, share{spec.k, cards};
    Vector expected(spec.count);
    uint64_t wrong = 0, lost = 0;
    for (uint32_t card = 0; card < cards; ++card) {
      const uint64_t begin = elements.begin(card), size = elements.size(card);
      std::vector<Vector> y;
      for (uint32_t node = 0; node < nodes; ++node) {
        const std::vector<Vector> of_node(g.begin() + node * cards, g.begin() + (node + 1) * cards);
        Vector own(size);
        for (uint64_t i = 0; i < size; ++i) {
          own[i] = node_sum(inside, of_node, card, begin + i) + residual[node * cards + card][begin + i];
        }
        y.push_back(own);
      }
      const Reference right = reference(gather, y, share.size(card));
      std::copy(right.result.begin(), right.result.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin));
      for (uint32_t node = 0; node < nodes; ++node) {
        const uint32_t rank = node * cards + card;
        const Vector left = read(memory, rank, layout.residual, spec.count);
        for (uint64_t i = 0; i < size; ++i) {
          wrong += same_bits(left[begin + i], right.residual[node][i]) ? 0 : 1;
          // Residual and what was sent are disjoint and together y.
          const bool sent = !same_bits(right.residual[node][i], y[node][i]);
          lost += same_bits(left[begin + i], sent ? 0.0f : y[node][i]) ? 0 : 1;
          residual[rank][begin + i] = right.residual[node][i];
        }
      }
    }
    CHECK(wrong == 0);
    CHECK(lost == 0);
    uint64_t different = 0;
    for (uint32_t r = 0; r < ranks; ++r) {
      const Vector got = read(memory, r, layout.result, spec.count);
      for (uint64_t i = 0; i < spec.count; ++i) different += same_bits(got[i], expected[i]) ? 0 : 1;
    }
    CHECK(different == 0);
  }
}

constexpr Data kAll[] = {Data::kSpread, Data::kTies, Data::kNarrow, Data::kZeros, Data::kSpecial};

}  // namespace

TEST_CASE("result and residual are those of the reference, bit by bit, for 1 to 33 ranks") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const uint32_t ranks : {1u, 2u, 3u, 5u, 8u, 13u, 16u, 33u}) {
    const Cluster c = plain(ranks);
    for (const std::string method : {"gather", "oktopk"}) {
      for (const Data data : kAll) {
        const uint64_t count = random() % 3000 + 1;
        const uint64_t k = random() % 3 == 0 ? count : random() % count + 1;
        compare(c, spec_of(method, count, k, random() % 2 == 0 ? Fidelity::kPacket : Fidelity::kFlow), data, random);
      }
      compare(c, spec_of(method, 1, 1), Data::kSpread, random);
      compare(c, spec_of(method, 20'011, 1000), Data::kSpread, random);
      compare(c, spec_of(method, 997, 1), Data::kTies, random);
    }
  }
}

TEST_CASE("sparse between nodes, dense inside, bit by bit") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const char *text :
       {"nodes: 4\nnode: {cards: 4}\ntopology: {kind: switch}\n",
        "nodes: 3\nnode: {cards: 3, nic: pcie, nics: 1}\ntopology: {kind: switch}\n",
        "nodes: 5\nnode: {cards: 8, nic: pcie, nics: 8}\ntopology: {kind: rail}\n",
        "nodes: 6\ntopology: {kind: ring}\n", "nodes: 2\nnode: {cards: 5}\ntopology: {kind: switch}\n"}) {
    const Cluster c = cluster(text);
    const uint64_t cards = c.shape().cards_per_node;
    for (const std::string method : {"inter-node", "inter-node-gather", "inter-node-oktopk"}) {
      for (const Data data : {Data::kSpread, Data::kTies, Data::kNarrow, Data::kZeros}) {
        INFO(text);
        const uint64_t count = random() % 4000 + cards;
        const uint64_t k = cards + random() % (count - cards + 1);
        compare(c, spec_of(method, count, k, random() % 2 == 0 ? Fidelity::kPacket : Fidelity::kFlow), data, random);
      }
      compare(c, spec_of(method, 50'021, 2500), Data::kSpread, random);
    }
  }
}

TEST_CASE("of equal magnitudes the lower index is taken; NaN is the largest") {
  const Cluster c = plain(3);
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Vector g = {1, -2, 2, -2, 2, 0, 1};
  for (const std::string method : {"gather", "oktopk"}) {
    INFO(method);
    const SparseSpec spec = spec_of(method, g.size(), 2);
    const SparseLayout layout = sparse_layout(c, spec);
    Memory memory = memory_of(layout);
    for (uint32_t r = 0; r < 3; ++r) write(memory, r, layout.gradient, g);
    run_sparse(c, spec, &memory);
    for (uint32_t r = 0; r < 3; ++r) {
      CHECK(read(memory, r, layout.result, g.size()) == Vector{0, -6, 6, 0, 0, 0, 0});
      CHECK(read(memory, r, layout.residual, g.size()) == Vector{1, 0, 0, -2, 2, 0, 1});
    }
    // An infinity before a NaN of the same rank wins by its index, after it loses.
    for (const bool infinity_first : {true, false}) {
      const SparseSpec one = spec_of(method, 4, 1);
      const SparseLayout where = sparse_layout(c, one);
      Memory space = memory_of(where);
      for (uint32_t r = 0; r < 3; ++r) {
        write(space, r, where.gradient, infinity_first ? Vector{9, inf, nan, 1} : Vector{9, nan, inf, 1});
      }
      run_sparse(c, one, &space);
      const Vector got = read(space, 2, where.result, 4);
      CHECK((infinity_first ? std::isinf(got[1]) : std::isnan(got[1])));
      CHECK((got[0] == 0 && got[2] == 0 && got[3] == 0));
    }
  }
}

TEST_CASE("gathering the largest of all ranks moves what the table says") {
  std::ifstream file(tb::data_dir() / "network/topk_vs_dense_allreduce.csv");
  if (!file) WARN("no reference table: skipped");
  std::string line;
  std::getline(file, line);
  unsigned rows = 0;
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    std::string cell[6];
    for (std::string &text : cell) std::getline(cells, text, ',');
    const auto ranks = static_cast<uint32_t>(std::stoul(cell[0]));
    const double density = std::stod(cell[1]);
    const uint64_t count = 1'000'000;
    SparseSpec spec = spec_of("gather", count, k_of_density(count, density), Fidelity::kFlow);
    const std::string kind = cell[3] == "int32" ? "index" : cell[3] == "int16-delta" ? "gaps" : "bitmap";
    spec.format = kind + (cell[2] == "4" ? "-fp32" : "-bf16");
    const SparseOutcome o = run_sparse(plain(ranks, {"flow.steps=0"}), spec);
    INFO(line << ": " << o.volume_ratio());
    // Gaps of a thousandth are 16 words longer than the table's: room to skip 65,535 elements.
    const double room = kind == "gaps" ? 1 + 16.0 / (static_cast<double>(spec.k) * (cell[2] == "4" ? 3 : 2)) : 1;
    CHECK(o.volume_ratio() == Approx(std::stod(cell[4]) * room).margin(0.00051).epsilon(0.001));
    CHECK(1 / o.volume_ratio() == Approx(std::stod(cell[5]) / room).epsilon(0.03));
    ++rows;
  }
  if (rows > 0) CHECK(rows == 144);
}

TEST_CASE("oktopk moves 2 k pairs a rank whatever the number of ranks, gather more with each") {
  const uint64_t count = 400'000, k = 20'000;
  for (const uint32_t ranks : {2u, 4u, 8u, 16u, 32u}) {
    const Cluster c = plain(ranks);
    const SparseOutcome few = run_sparse_checked(c, spec_of("oktopk", count, k, Fidelity::kFlow), 7);
    const SparseOutcome all = run_sparse_checked(c, spec_of("gather", count, k, Fidelity::kFlow), 7);
    INFO(ranks << " ranks: oktopk " << few.job.payload_bytes << " bytes, gather " << all.job.payload_bytes);
    CHECK(all.job.payload_bytes == uint64_t{ranks} * (ranks - 1) * k * 8);
    // Counts: one all-reduce of 16 KiB and four of 8 KiB, each sent log2 (ranks) times.
    const double counts = std::log2(ranks) * (16384 + 4 * 8192) * ranks;
    const double pairs = 2.0 * k * 8 * (ranks - 1);
    CHECK(static_cast<double>(few.job.payload_bytes) <= 1.02 * (pairs + counts));
    CHECK(static_cast<double>(few.job.payload_bytes) >= 0.9 * (pairs + counts));
    CHECK(static_cast<double>(few.most_received) <= 2.3 * k * 8 + counts / ranks);
  }
}

TEST_CASE("parts are balanced where the large elements lie together") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const Cluster c = plain(8);
  const SparseSpec spec = spec_of("oktopk", 100'000, 5000);
  const SparseLayout layout = sparse_layout(c, spec);
  Memory memory = memory_of(layout);
  for (uint32_t r = 0; r < 8; ++r) write(memory, r, layout.gradient, make(random, spec.count, Data::kNarrow));
  const SparseOutcome outcome = run_sparse(c, spec, &memory);
  // All of it lies in a tenth of the elements: equal parts would give one rank what seven others offer.
  const uint64_t counts = 3 * (16384 + 4 * 8192);
  INFO("most received " << outcome.most_received << " bytes");
  CHECK(outcome.most_received - counts < 2.5 * 5000 * 8);
}

TEST_CASE("time without data is that of data that is spread evenly") {
  for (const std::string method : {"gather", "oktopk", "inter-node-oktopk"}) {
    const Cluster c = cluster("nodes: 4\nnode: {cards: 2, nic: pcie, nics: 2}\ntopology: {kind: rail}\n");
    const SparseSpec spec = spec_of(method, 1'000'000, 50'000);
    const SparseOutcome with = run_sparse_checked(c, spec, 3), without = run_sparse(c, spec);
    INFO(method << ": " << with.job.time_s * 1e6 << " us with data, " << without.job.time_s * 1e6 << " us without");
    CHECK(without.job.time_s == Approx(with.job.time_s).epsilon(0.05));
    CHECK(static_cast<double>(without.job.payload_bytes) ==
          Approx(static_cast<double>(with.job.payload_bytes)).epsilon(0.02));
  }
}

TEST_CASE("sparsity between nodes leaves the dense sum in the node and moves less between nodes") {
  const Cluster c = cluster("nodes: 4\nnode: {cards: 4, nic: pcie, nics: 4}\ntopology: {kind: rail}\n");
  const uint64_t count = 1'000'000;
  Spec dense;
  dense.count = count;
  dense.algorithm = "hcp";
  const Outcome whole = run(c, dense);
  for (const std::string method : {"inter-node-gather", "inter-node-oktopk"}) {
    const SparseOutcome some = run_sparse_checked(c, spec_of(method, count, count / 20), 5);
    INFO(method << ": " << some.job.network_bytes << " bytes between nodes, dense " << whole.job.network_bytes);
    // 5 % of pairs of twice the size: a gather of 4 nodes sends 3 x 0.1, an all-reduce 2 x 3 / 4.
    CHECK(some.job.network_bytes < whole.job.network_bytes / 4);
    CHECK(some.job.network_bytes > whole.job.network_bytes / 20);
    // Inside a node a reduce-scatter and a gather: 3 / 4 of the data each, by every card.
    CHECK(some.job.payload_bytes - some.job.network_bytes == 2 * 16 * count * 4 * 3 / 4);
  }
}

TEST_CASE("wrong use of a sparse all-reduce is refused") {
  const Cluster c = plain(4);
  CHECK_THROWS_AS(run_sparse(c, spec_of("largest", 100, 5)), UsageError);
  for (const std::string method : {"gather", "oktopk"}) {
    CHECK_THROWS_AS(run_sparse(c, spec_of(method, 100, 0)), UsageError);
    CHECK_THROWS_AS(run_sparse(c, spec_of(method, 100, 101)), UsageError);
    CHECK_THROWS_AS(run_sparse(c, spec_of(method, 0, 1)), UsageError);
    CHECK_THROWS_AS(run_sparse(c, spec_of(method, uint64_t{1} << 32, 1)), UsageError);
    Memory small(4, std::vector<std::byte>(8));
    CHECK_THROWS_AS(run_sparse(c, spec_of(method, 100, 5), &small), UsageError);
  }
  const Cluster one = cluster("nodes: 1\nnode: {cards: 4}\ntopology: {kind: switch}\n");
  CHECK_THROWS_AS(run_sparse(one, spec_of("inter-node", 100, 8)), UnsupportedError);
  const Cluster two = cluster("nodes: 2\nnode: {cards: 4}\ntopology: {kind: switch}\n");
  CHECK_THROWS_AS(run_sparse(two, spec_of("inter-node", 100, 3)), UsageError);
  CHECK(k_of_density(1000, 0.05) == 50);
  CHECK(k_of_density(3, 0.05) == 1);
  CHECK(k_of_density(3, 1) == 3);
  for (const double density : {0.0, -1.0, 1.5, std::nan("")}) CHECK_THROWS_AS(k_of_density(100, density), UsageError);
}

TEST_CASE("ranks with another k, count or method get an error, on a rank that sees it") {
  const Cluster c = plain(4, {"watchdog_us=2000"});
  for (const std::string method : {"gather", "oktopk"}) {
    const SparseSpec right = spec_of(method, 4000, 200);
    std::vector<SparseSpec> others(3, right);
    others[0].k = 100;
    others[1].count = 3000;
    others[2].method = method == "gather" ? "oktopk" : "gather";
    for (const SparseSpec &odd : others) {
      for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
        for (const bool data : {true, false}) {
          std::vector<SparseSpec> specs(4, right);
          specs[2] = odd;
          specs[0].fidelity = fidelity;
          Memory memory(4, std::vector<std::byte>(1 << 20));
          INFO(method << ", k " << odd.k << ", count " << odd.count << ", " << odd.method << ", fidelity "
                      << static_cast<int>(fidelity));
          try {
            run_sparse_each(c, specs, data ? &memory : nullptr);
            FAIL("no error");
          } catch (const CollectiveError &error) {
            INFO(error.what());
            CHECK((error.kind == CollectiveError::Kind::kMismatch || error.kind == CollectiveError::Kind::kLength));
            CHECK((error.rank == 2 || error.peer == 2));
          }
        }
      }
    }
  }
}

namespace {

/// Programs of a sparse all-reduce of which rank 3 runs only its first commands.
std::string stalled(const Cluster &c, const std::string &method, Fidelity fidelity, std::size_t keep) {
  const SparseSpec spec = spec_of(method, 40'000, 2000, fidelity);
  const SparseLayout layout = sparse_layout(c, spec);
  Memory memory = memory_of(layout);
  Schedule schedule = sparse_schedule(c, spec);
  auto all = programs(schedule, 1, &memory);
  all[3].count = std::min(keep, all[3].count);
  try {
    c.run(all, ElementType::kFp32, fidelity);
  } catch (const CollectiveError &error) {
    CHECK(error.kind == CollectiveError::Kind::kWatchdog);
    CHECK(error.time_s <= 0.0041);
    return error.what();
  }
  FAIL("no error");
  return "";
}

}  // namespace

TEST_CASE("a rank that leaves a sparse all-reduce early is named by the watchdog") {
  const Cluster c = plain(4, {"watchdog_us=2000"});
  for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
    for (const std::string method : {"gather", "oktopk"}) {
      const std::string text = stalled(c, method, fidelity, 0);
      INFO(text);
      // gather waits for its list, oktopk has counts for it.
      CHECK(text.find(method == "gather" ? " waits in RECV from rank 3, queue pair "
                                         : "rank 2 waits in SEND to rank 3, queue pair ") != std::string::npos);
      CHECK(text.find(method == "gather" ? ", 16000 bytes outstanding" : ", 16384 bytes outstanding (no receive") !=
            std::string::npos);
    }
    // Until its own list is cut into parts: the others wait for its part of theirs, and have sent it theirs.
    const Schedule schedule = sparse_schedule(c, spec_of("oktopk", 40'000, 2000));
    std::size_t keep = 0;
    while (schedule.ranks[3][keep].op != CX_COMM_PARTITION) ++keep;
    const std::string text = stalled(c, "oktopk", fidelity, keep + 1);
    INFO(text);
    for (const char *rank : {"0", "1", "2"}) {
      CHECK(text.find(std::string("rank ") + rank + " waits in ") != std::string::npos);
    }
    CHECK(text.find("rank 2 waits in SEND to rank 3, queue pair ") != std::string::npos);
    CHECK(text.find("(no receive is posted there)") != std::string::npos);
    // All zeros: the 2000 elements that each offers are the first, 500 of them in each part but for a bin's 10.
    const std::string start = "rank 2 waits in SEND to rank 3, queue pair ";
    const std::size_t comma = text.find(", ", text.find(start) + start.size());
    CHECK(std::stod(text.substr(comma + 2)) == Approx(4000).margin(80));
  }
}

TEST_CASE("a dead node ends a sparse all-reduce within the stated time") {
  const Cluster c = plain(4, {"rdma.retransmit_us=200", "rdma.retries=4"});
  for (const std::string method : {"gather", "oktopk", "inter-node"}) {
    for (const Fidelity fidelity : {Fidelity::kPacket, Fidelity::kFlow}) {
      SparseSpec spec = spec_of(method, 1'000'000, 50'000, fidelity);
      spec.faults = {"dead_node@node=2,at_us=20"};
      INFO(method << ", fidelity " << static_cast<int>(fidelity));
      try {
        run_sparse_checked(c, spec, 1);
        FAIL("no error");
      } catch (const CollectiveError &error) {
        INFO(error.what());
        CHECK(error.kind == CollectiveError::Kind::kPeerLost);
        CHECK(error.peer == 2);
        CHECK(error.bytes_outstanding > 0);
      }
    }
  }
}

TEST_CASE("loss changes the time of a sparse all-reduce, never its result") {
  const Cluster c = plain(6, {"link.bit_error_rate=1e-6", "rdma.retransmit_us=300", "rdma.recovery=selective_repeat"});
  for (const std::string method : {"gather", "oktopk"}) {
    CHECK(run_sparse_checked(c, spec_of(method, 300'007, 15'000), 1).job.retransmitted > 0);
  }
}

namespace {

std::vector<std::byte> pairs_of(const std::vector<std::pair<uint32_t, float>> &pairs) {
  std::vector<std::byte> out(pairs.size() * 8);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    std::memcpy(&out[8 * i], &pairs[i].first, 4);
    std::memcpy(&out[8 * i + 4], &pairs[i].second, 4);
  }
  return out;
}

cx_comm_command command(uint8_t op, uint32_t peer, uint64_t target, uint64_t source, uint64_t third, uint64_t bytes) {
  cx_comm_command out{};
  out.op = op;
  out.peer = peer;
  out.after[0] = out.after[1] = CX_COMM_NONE;
  out.target = target;
  out.source = source;
  out.third = third;
  out.bytes = bytes;
  return out;
}

/// Runs commands one after the other on rank 1 of two; what ends them, or nothing.
std::string run_on_rank_1(std::vector<cx_comm_command> list, std::vector<std::byte> &memory) {
  const Cluster c = plain(2);
  std::vector<std::byte> other(memory.size());
  for (uint32_t i = 1; i < list.size(); ++i) list[i].after[0] = i - 1;
  const std::vector<cx_comm_program> programs = {{nullptr, 0, other.data(), other.size(), 0},
                                                 {list.data(), list.size(), memory.data(), memory.size(), 0}};
  try {
    c.run(programs, ElementType::kFp32, Fidelity::kPacket);
  } catch (const UsageError &error) {
    return std::string("refused: ") + error.what();
  } catch (const CollectiveError &error) {
    CHECK(error.kind == CollectiveError::Kind::kFailed);
    CHECK(error.rank == 1);
    return error.what();
  }
  return "";
}

void place(std::vector<std::byte> &memory, std::size_t at, const std::vector<std::byte> &bytes) {
  std::copy(bytes.begin(), bytes.end(), memory.begin() + static_cast<std::ptrdiff_t>(at));
}

}  // namespace

TEST_CASE("lists that break the rules end the job on their rank") {
  const auto with = [](const std::vector<std::pair<uint32_t, float>> &pairs) {
    std::vector<std::byte> memory(1 << 16);
    place(memory, 0, pairs_of(pairs));
    return memory;
  };
  const auto add = command(CX_COMM_SCATTER_ADD, 0, 1024, 0, 10, 16);
  std::vector<std::byte> memory = with({{3, 1.5f}, {9, 2.0f}});
  CHECK(run_on_rank_1({add}, memory).empty());
  CHECK(reinterpret_cast<float *>(memory.data() + 1024)[9] == 2.0f);
  memory = with({{3, 1.5f}, {10, 2.0f}});
  CHECK(run_on_rank_1({add}, memory).find("SCATTER_ADD: element 10 of a vector of 10") != std::string::npos);
  CHECK(reinterpret_cast<float *>(memory.data() + 1024)[3] == 0.0f);  // nothing of it is done
  CHECK(run_on_rank_1({command(CX_COMM_INDEX_COUNT, 8, 1024, 0, 10, 16)}, memory).find("INDEX_COUNT: element 10") !=
        std::string::npos);
  CHECK(run_on_rank_1({command(CX_COMM_RETAIN, 10, 1024, 0, 2048, 16)}, memory).find("RETAIN: element 10") !=
        std::string::npos);
  // A selection of 10 elements in 2 parts, of no pairs.
  const auto cut = command(CX_COMM_CUT, 2, 4096, 8192, 10, 32);
  const auto divide = command(CX_COMM_PARTITION, 2, 1024, 0, 4096, 16);
  CHECK(run_on_rank_1({cut, divide}, memory).find("PARTITION: element 10 of a vector of 10") != std::string::npos);
  memory = with({{3, 1.5f}, {3, 2.0f}});
  CHECK(run_on_rank_1({cut, divide}, memory).find("follows one that is not below it") != std::string::npos);
  memory = with({{3, 1.5f}, {4, 2.0f}});
  CHECK(run_on_rank_1({cut, divide}, memory).empty());
  CHECK(run_on_rank_1({divide}, memory).empty());
  memory = with({{3, 1.5f}, {4, 2.0f}});
  CHECK(run_on_rank_1({divide}, memory).find("PARTITION: no selection") != std::string::npos);
  // Order of a selection.
  const auto count = command(CX_COMM_COUNT, 0, 16384, 32768, 4096, 40);
  const auto narrow = command(CX_COMM_NARROW, 0, 3, 16384, 4096, 8192);
  const auto select = command(CX_COMM_SELECT, 0, 60000, 32768, 4096, 40);
  CHECK(run_on_rank_1({cut, select}, memory).find("before its last round") != std::string::npos);
  std::vector<cx_comm_command> rounds = {cut};
  for (int round = 0; round < 4; ++round) rounds.insert(rounds.end(), {count, narrow});
  std::vector<cx_comm_command> whole = rounds;
  whole.push_back(select);
  CHECK(run_on_rank_1(whole, memory).empty());
  rounds.push_back(count);
  CHECK(run_on_rank_1(rounds, memory).find("after its last round") != std::string::npos);
  auto other = count;
  other.peer = 2;
  CHECK(run_on_rank_1({cut, other}, memory).find("part 2 of 2") != std::string::npos);
  other = count;
  other.bytes = 44;
  CHECK(run_on_rank_1({cut, other}, memory).find("selection of 10 elements, expected 11") != std::string::npos);
  // An extent beyond what was agreed on, and beyond the memory.
  for (const cx_comm_extent extent : {cx_comm_extent{0, 24}, cx_comm_extent{65532, 16}, cx_comm_extent{~0ull, 8}}) {
    std::memcpy(memory.data() + 512, &extent, sizeof extent);
    auto indirect = command(CX_COMM_SCATTER_ADD, 0, 1024, 512, 10, 16);
    indirect.flags = CX_COMM_INDIRECT;
    CHECK(run_on_rank_1({indirect}, memory).find("an extent of") != std::string::npos);
    auto send = command(CX_COMM_SEND, 0, 0, 512, 0, 16);
    send.flags = CX_COMM_INDIRECT;
    CHECK(run_on_rank_1({send}, memory).find("SEND: an extent of") != std::string::npos);
  }
}

TEST_CASE("commands of sparse vectors are checked field by field") {
  std::vector<std::byte> memory(1 << 16);
  const auto refused = [&](cx_comm_command of, const char *why) {
    const std::string text = run_on_rank_1({of}, memory);
    INFO("operation " << static_cast<int>(of.op) << ": '" << text << "'");
    CHECK(text.find("refused: ") == 0);
    CHECK(text.find(why) != std::string::npos);
  };
  const auto top = command(CX_COMM_TOPK, 4, 1024, 0, 512, 64);
  CHECK(run_on_rank_1({top}, memory).empty());
  const auto with = [](cx_comm_command of, auto change) {
    change(of);
    return of;
  };
  refused(with(top, [](auto &k) { k.peer = 0; }), "count 0, expected 1 to the 16 elements");
  refused(with(top, [](auto &k) { k.peer = 17; }), "count 17");
  refused(with(top, [](auto &k) { k.flags = CX_COMM_INDIRECT; }), "flags 1");
  refused(with(top, [](auto &k) { k.flags = 2; }), "flags 2");
  refused(with(top, [](auto &k) { k.type = 1; }), "type 1");
  refused(with(top, [](auto &k) { k.third = 65535; }), "residual 65535");
  refused(with(top, [](auto &k) { k.target = 65520; }), "target 65520");
  const auto reduce = command(CX_COMM_REDUCE, 0, 0, 64, 0, 64);
  refused(with(reduce, [](auto &k) { k.type = 5; }), "type 5");
  const auto add = command(CX_COMM_SCATTER_ADD, 0, 1024, 0, 10, 16);
  refused(with(add, [](auto &k) { k.third = 0; }), "a vector of 0 elements");
  refused(with(add, [](auto &k) { k.third = 60'000; }), "target 1024");
  refused(with(add, [](auto &k) { k.target = 1022; }), "multiples of 4");
  refused(with(add, [](auto &k) { k.source = 65530; }), "source 65530");
  const auto index = command(CX_COMM_INDEX_COUNT, 8, 1024, 0, 10, 16);
  refused(with(index, [](auto &k) { k.peer = 0; }), "no bins");
  refused(with(index, [](auto &k) { k.bytes = 12; }), "whole elements");
  refused(with(index, [](auto &k) { k.third = uint64_t{1} << 32; }), "elements, expected 1 to");
  refused(with(index, [](auto &k) { k.peer = 1 << 20; }), "target 1024");
  refused(with(index, [](auto &k) { k.target = 2; }), "multiples of 4");
  refused(with(index, [](auto &k) { k.source = 65530; }), "source 65530");
  const auto cut = command(CX_COMM_CUT, 2, 4096, 8192, 10, 32);
  refused(with(cut, [](auto &k) { k.peer = 0; }), "0 parts");
  refused(with(cut, [](auto &k) { k.peer = 2049; }), "2049 parts");
  refused(with(cut, [](auto &k) { k.third = 0; }), "a vector of 0");
  refused(with(cut, [](auto &k) { k.bytes = 30; }), "whole elements");
  refused(with(cut, [](auto &k) { k.source = 8193; }), "multiples of 4");
  refused(with(cut, [](auto &k) { k.source = 65532; }), "source 65532");
  refused(with(cut, [](auto &k) { k.target = 65532; }), "target 65532");
  const auto divide = command(CX_COMM_PARTITION, 2, 1024, 0, 4096, 16);
  refused(with(divide, [](auto &k) { k.peer = 2049; }), "2049 parts");
  refused(with(divide, [](auto &k) { k.third = 65530; }), "multiples of 4");
  refused(with(divide, [](auto &k) { k.third = 65532; }), "selection 65532");
  refused(with(divide, [](auto &k) { k.bytes = 4; }), "whole elements");
  refused(with(divide, [](auto &k) { k.source = 65530; }), "source 65530");
  refused(with(divide, [](auto &k) { k.target = 65530; }), "target 65530");
  for (const uint8_t op : {CX_COMM_COUNT, CX_COMM_SELECT}) {
    const auto part = command(op, 0, 16384, 32768, 4096, 40);
    refused(with(part, [](auto &k) { k.peer = 2048; }), "2049 parts");
    refused(with(part, [](auto &k) { k.bytes = 41; }), "whole elements");
    refused(with(part, [](auto &k) { k.source = 32769; }), "multiples of 4");
    refused(with(part, [](auto &k) { k.source = 65532; }), "source 65532");
    refused(with(part, [](auto &k) { k.third = 65532; }), "selection 65532");
    refused(with(part, [](auto &k) { k.target = 65532; }), "target 65532");
  }
  const auto narrow = command(CX_COMM_NARROW, 0, 3, 16384, 4096, 8192);
  refused(with(narrow, [](auto &k) { k.bytes = 4096; }), "expected 8192");
  refused(with(narrow, [](auto &k) { k.peer = 2048; }), "2049 parts");
  refused(with(narrow, [](auto &k) { k.source = 60'000; }), "source 60000");
  refused(with(narrow, [](auto &k) { k.third = 65532; }), "selection 65532");
  const auto keep = command(CX_COMM_RETAIN, 10, 1024, 0, 2048, 16);
  refused(with(keep, [](auto &k) { k.peer = 0; }), "a vector of 0");
  refused(with(keep, [](auto &k) { k.bytes = 4; }), "whole elements");
  refused(with(keep, [](auto &k) { k.third = 65532; }), "result 65532");
  refused(with(keep, [](auto &k) { k.target = 65532; }), "target 65532");
  auto receive = command(CX_COMM_RECV, 0, 0, 0, 65530, 16);
  receive.flags = CX_COMM_INDIRECT;
  refused(receive, "extent 65530");
  auto send = command(CX_COMM_SEND, 0, 0, 65530, 0, 16);
  send.flags = CX_COMM_INDIRECT;
  refused(send, "source 65530");
}

namespace {

/// Nearest value of `digits` binary digits, even of two, not below the exponent `least`, at most `most`.
float rounded(float value, int digits, int least, float most) {
  if (!std::isfinite(value) || value == 0) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int last = std::max(exponent - digits, least);
  const float near = std::ldexp(std::nearbyint(std::ldexp(value, -last)), last);
  return std::clamp(near, -most, most);
}
float as_format(const std::string &format, float value) {
  if (format.find("fp16") != std::string::npos) return rounded(value, 11, -24, 65504.0f);
  if (format.find("bf16") != std::string::npos) return rounded(value, 8, -133, std::ldexp(255.0f, 120));
  return value;
}

const std::vector<std::pair<std::string, uint8_t>> kLists = {
    {"index-fp32", CX_COMM_LIST(CX_COMM_LIST_INDEX, CX_COMM_FP32)},
    {"index-fp16", CX_COMM_LIST(CX_COMM_LIST_INDEX, CX_COMM_FP16)},
    {"index-bf16", CX_COMM_LIST(CX_COMM_LIST_INDEX, CX_COMM_BF16)},
    {"gaps-fp32", CX_COMM_LIST(CX_COMM_LIST_GAPS, CX_COMM_FP32)},
    {"gaps-fp16", CX_COMM_LIST(CX_COMM_LIST_GAPS, CX_COMM_FP16)},
    {"gaps-bf16", CX_COMM_LIST(CX_COMM_LIST_GAPS, CX_COMM_BF16)},
    {"bitmap-fp32", CX_COMM_LIST(CX_COMM_LIST_BITMAP, CX_COMM_FP32)},
    {"bitmap-fp16", CX_COMM_LIST(CX_COMM_LIST_BITMAP, CX_COMM_FP16)},
    {"bitmap-bf16", CX_COMM_LIST(CX_COMM_LIST_BITMAP, CX_COMM_BF16)}};

}  // namespace

TEST_CASE("lists of every format: sums of what was sent, the rest stays in the residual") {
  const uint64_t seed = test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const Cluster c = cluster("nodes: 3\nnode: {cards: 2}\ntopology: {kind: switch}\n");
  for (const auto &[format, type] : kLists) {
    for (const Data data : {Data::kSpread, Data::kNarrow, Data::kZeros}) {
      SparseSpec spec = spec_of("gather", random() % 3000 + 10, 0);
      spec.k = random() % spec.count + 1;
      spec.format = format;
      const SparseLayout layout = sparse_layout(c, spec);
      Memory memory = memory_of(layout);
      Vector sum(spec.count, 0.0f);
      std::vector<Vector> left;
      for (uint32_t r = 0; r < 6; ++r) {
        Vector y = make(random, spec.count, data);
        write(memory, r, layout.gradient, y);
        for (const uint32_t i : largest(y, spec.k)) {
          const float sent = as_format(format, y[i]);
          sum[i] = sum[i] + sent;
          y[i] = y[i] - sent;
        }
        left.push_back(y);
      }
      const SparseOutcome outcome = run_sparse(c, spec, &memory);
      uint64_t wrong = 0, lost = 0;
      for (uint32_t r = 0; r < 6; ++r) {
        const Vector got = read(memory, r, layout.result, spec.count);
        const Vector kept = read(memory, r, layout.residual, spec.count);
        for (uint64_t i = 0; i < spec.count; ++i) {
          wrong += got[i] == sum[i] ? 0 : 1;
          lost += kept[i] == left[r][i] ? 0 : 1;
        }
      }
      INFO(outcome.plan << ", " << spec.count << " elements, k " << spec.k);
      CHECK(wrong == 0);
      CHECK(lost == 0);
    }
    SparseSpec spec = spec_of("inter-node-gather", 20'011, 500, Fidelity::kFlow);
    spec.format = format;
    run_sparse_checked(c, spec, seed);
    spec.method = "oktopk";
    CHECK_THROWS_AS(run_sparse(c, spec), UnsupportedError);
  }
  SparseSpec spec = spec_of("gather", 100, 5);
  spec.format = "gaps-fp8";
  CHECK_THROWS_AS(run_sparse(c, spec), UsageError);
}

TEST_CASE("ranks with lists of another format get an error") {
  const Cluster c = plain(4, {"watchdog_us=2000"});
  std::vector<SparseSpec> specs(4, spec_of("gather", 4000, 200));
  specs[2].format = "index-fp32";  // as many bytes, another order
  try {
    run_sparse_each(c, specs);
    FAIL("no error");
  } catch (const CollectiveError &error) {
    CHECK(error.kind == CollectiveError::Kind::kMismatch);
    CHECK((error.rank == 2 || error.peer == 2));
  }
}

TEST_CASE("gaps of more than 65,535 elements and the largest values of a list") {
  constexpr uint32_t kElements = 300'000;
  constexpr uint64_t kVector = 4096, kResidual = kVector + 4 * kElements, kList = kResidual + 4 * kElements;
  const std::vector<std::pair<uint32_t, float>> pairs = {
      {0, 1.0f}, {65534, -2.0f}, {131071, 1e30f}, {196607, -1e30f}, {299999, std::numeric_limits<float>::infinity()}};
  for (const auto &[format, type] : kLists) {
    INFO(format);
    std::vector<std::byte> memory(kList + (1 << 17));
    place(memory, 0, pairs_of(pairs));
    const uint64_t bytes = cx_comm_list_bytes(type, kElements, pairs.size());
    auto encode = command(CX_COMM_ENCODE, kElements, kList, 0, kResidual, 8 * pairs.size());
    auto decode = command(CX_COMM_DECODE_ADD, kElements, kVector, kList, pairs.size(), bytes);
    encode.type = decode.type = type;
    CHECK(run_on_rank_1({encode, decode}, memory).empty());
    const auto *vector = reinterpret_cast<const float *>(memory.data() + kVector);
    const auto *residual = reinterpret_cast<const float *>(memory.data() + kResidual);
    uint64_t wrong = 0;
    std::size_t next = 0;
    for (uint32_t i = 0; i < kElements; ++i) {
      const bool is_pair = next < pairs.size() && pairs[next].first == i;
      const float y = is_pair ? pairs[next++].second : 0, sent = as_format(format, y);
      wrong += vector[i] == sent && residual[i] == (std::isfinite(y) ? y - sent : 0) ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("encoded lists that break the rules end the job on their rank, nothing of them is done") {
  // Pairs 3 and 9 of a vector of 70,000 elements: the vector at 0, the list behind it.
  constexpr uint32_t kElements = 70'000;
  constexpr uint64_t kList = 4 * kElements;
  const auto decoded = [&](uint8_t type, auto change, const char *why) {
    std::vector<std::byte> memory(kList + (1 << 15)), pairs = pairs_of({{3, 1.5f}, {9, 2.0f}});
    constexpr uint64_t kPairs = kList + (1 << 14);
    place(memory, kPairs, pairs);
    auto encode = command(CX_COMM_ENCODE, kElements, kList, kPairs, 0, 16);
    encode.type = type;
    CHECK(run_on_rank_1({encode}, memory).empty());
    std::fill_n(memory.begin(), kList, std::byte{0});
    change(memory.data() + kList);
    auto decode = command(CX_COMM_DECODE_ADD, kElements, 0, kList, 2, cx_comm_list_bytes(type, kElements, 2));
    decode.type = type;
    const std::string text = run_on_rank_1({decode}, memory);
    INFO("'" << text << "', expected " << why);
    CHECK((*why == 0 ? text.empty() : text.find(why) != std::string::npos));
    const float third = reinterpret_cast<const float *>(memory.data())[3];
    CHECK(third == (*why == 0 ? 1.5f : 0.0f));
  };
  const auto word32 = [](std::byte *list, std::size_t i, uint32_t value) { std::memcpy(list + 4 * i, &value, 4); };
  const auto word16 = [](std::byte *list, std::size_t i, uint16_t value) { std::memcpy(list + 2 * i, &value, 2); };
  for (const int value : {CX_COMM_FP32, CX_COMM_FP16, CX_COMM_BF16}) {
    const uint8_t index = CX_COMM_LIST(CX_COMM_LIST_INDEX, value), gaps = CX_COMM_LIST(CX_COMM_LIST_GAPS, value),
                  bitmap = CX_COMM_LIST(CX_COMM_LIST_BITMAP, value);
    for (const uint8_t type : {index, gaps, bitmap})
      decoded(
          type, [](std::byte *) {}, "");
    decoded(
        index, [&](std::byte *list) { word32(list, 1, kElements); }, "element 70000 of a vector of 70000");
    decoded(
        index, [&](std::byte *list) { word32(list, 1, 3); }, "follows one that is not below it");
    // Words: 3, 5, one to skip, and one of padding.
    decoded(
        gaps, [&](std::byte *list) { word16(list, 2, 7); }, "more pairs than 2");
    decoded(
        gaps, [&](std::byte *list) { word16(list, 1, 65535); }, "with 1 pairs, expected more");
    decoded(
        gaps, [&](std::byte *list) { word16(list, 0, 65535), word16(list, 1, 65000); }, "element 130535 of a vector");
    decoded(
        gaps, [&](std::byte *list) { word16(list, 3, 1); }, "not padded with zeros");
    decoded(
        bitmap, [&](std::byte *list) { list[1] |= std::byte{1}; }, "more bits than 2");
    decoded(
        bitmap, [&](std::byte *list) { list[0] = std::byte{0}; }, "with 1 bits, expected more");
    decoded(
        bitmap, [&](std::byte *list) { list[8751] = std::byte{128}, list[0] = std::byte{0}; },
        "a bit beyond its elements");
  }
  // Lists of pairs that ENCODE does not take.
  std::vector<std::byte> memory(1 << 16);
  auto encode = command(CX_COMM_ENCODE, 10, 1024, 0, 2048, 16);
  place(memory, 0, pairs_of({{3, 1.5f}, {10, 2.0f}}));
  CHECK(run_on_rank_1({encode}, memory).find("ENCODE: element 10 of a vector of 10") != std::string::npos);
  place(memory, 0, pairs_of({{3, 1.5f}, {3, 2.0f}}));
  CHECK(run_on_rank_1({encode}, memory).find("ENCODE: element 3 follows one that is not below it") !=
        std::string::npos);
  const auto refused = [&](cx_comm_command of, auto change, const char *why) {
    change(of);
    const std::string text = run_on_rank_1({of}, memory);
    INFO("operation " << static_cast<int>(of.op) << ": '" << text << "'");
    CHECK(text.find("refused: ") == 0);
    CHECK(text.find(why) != std::string::npos);
  };
  refused(
      encode, [](auto &k) { k.type = CX_COMM_LIST_KINDS; }, "type 3");
  refused(
      encode, [](auto &k) { k.type = CX_COMM_LIST(0, CX_COMM_INT32); }, "type 4");
  refused(
      encode, [](auto &k) { k.type = CX_COMM_LIST(0, CX_COMM_BF16 + 1); }, "type 16");
  refused(
      encode, [](auto &k) { k.flags = CX_COMM_INDIRECT; }, "flags 1");
  refused(
      encode, [](auto &k) { k.bytes = 12; }, "whole elements");
  refused(
      encode, [](auto &k) { k.peer = 0; }, "a vector of 0");
  refused(
      encode, [](auto &k) { k.peer = 1; }, "2 pairs of 1 elements");
  refused(
      encode, [](auto &k) { k.source = 65530; }, "source 65530");
  refused(
      encode, [](auto &k) { k.third = 65532; }, "residual 65532");
  refused(
      encode, [](auto &k) { k.third = 2; }, "multiples of 4");
  refused(
      encode, [](auto &k) { k.target = 65532; }, "target 65532");
  const auto decode = command(CX_COMM_DECODE_ADD, 10, 1024, 0, 2, 16);
  refused(
      decode, [](auto &k) { k.type = CX_COMM_LIST_KINDS; }, "type 3");
  refused(
      decode, [](auto &k) { k.flags = CX_COMM_INDIRECT; }, "flags 1");
  refused(
      decode, [](auto &k) { k.bytes = 12; }, "12 bytes, expected 16");
  refused(
      decode, [](auto &k) { k.third = 11; }, "11 pairs of 10 elements");
  refused(
      decode, [](auto &k) { k.peer = 0; }, "a vector of 0");
  refused(
      decode, [](auto &k) { k.source = 65530; }, "source 65530");
  refused(
      decode, [](auto &k) { k.target = 65532; }, "target 65532");
  refused(
      decode, [](auto &k) { k.target = 2; }, "multiples of 4");
}
