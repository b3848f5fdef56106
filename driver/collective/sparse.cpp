#include "driver/collective/sparse.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "driver/collective/builder.hpp"

namespace cx::collective {
namespace {

constexpr uint32_t kNone = CX_COMM_NONE;
constexpr uint64_t kPair = 8;
constexpr uint64_t kAlign = 64;
constexpr uint32_t kIndexBins = 4096;
constexpr uint64_t kCountBytes = 4 * CX_COMM_DIGITS;
constexpr unsigned kRounds = 4;
/// Messages of an exchange that a rank has under way. In large groups two hide an acknowledgement.
uint32_t in_flight(uint32_t members) { return members <= 64 ? 16 : 2; }

/// `type` of ENCODE and DECODE_ADD, or none for pairs.
std::optional<uint8_t> list_type(const std::string &format) {
  if (format == "pairs") return std::nullopt;
  for (const auto &[kind, number] : {std::pair{"index", CX_COMM_LIST_INDEX}, std::pair{"gaps", CX_COMM_LIST_GAPS},
                                     std::pair{"bitmap", CX_COMM_LIST_BITMAP}}) {
    for (const auto &[value, of] :
         {std::pair{"fp32", CX_COMM_FP32}, std::pair{"fp16", CX_COMM_FP16}, std::pair{"bf16", CX_COMM_BF16}}) {
      if (format == fmt::format("{}-{}", kind, value)) return CX_COMM_LIST(number, of);
    }
  }
  std::string list;
  for (const std::string &name : sparse_formats()) list += (list.empty() ? "" : ", ") + name;
  throw UsageError(fmt::format("there is no format '{}' of sparse lists, expected {}", format, list));
}

uint64_t list_bytes(std::optional<uint8_t> type, uint64_t elements, uint64_t k) {
  return type ? cx_comm_list_bytes(*type, elements, k) : kPair * k;
}

struct Method {
  bool in_node = false;  ///< dense there, sparse between nodes
  bool gather = false;
  std::string name;
};

Method method_of(const Cluster &cluster, const SparseSpec &spec) {
  const std::vector<std::string> known = sparse_methods();
  if (std::find(known.begin(), known.end(), spec.method) == known.end()) {
    std::string list;
    for (const std::string &name : known) list += (list.empty() ? "" : ", ") + name;
    throw UsageError(fmt::format("there is no sparse method '{}', expected {}", spec.method, list));
  }
  Method method{spec.method.rfind("inter-node", 0) == 0, spec.method.find("gather") != std::string::npos, spec.method};
  const cx_cluster_shape &shape = cluster.shape();
  if (spec.method == "inter-node") {
    // Pairs that a card receives: all of the others', or its part of theirs, the results, and counts.
    const double m = shape.nodes, k = static_cast<double>(spec.k) / shape.cards_per_node;
    const double counts = std::ceil(std::log2(std::max(m, 2.0))) * (4.0 * kIndexBins + kRounds * kCountBytes);
    method.gather = spec.format != "pairs" || (m - 1) * k * kPair <= 2 * k * kPair * (m - 1) / m + counts;
    method.name += method.gather ? "-gather" : "-oktopk";
  }
  if (method.in_node && shape.nodes < 2) {
    throw UnsupportedError("sparse all-reduce", fmt::format("{}: expected two nodes or more", spec.method));
  }
  if (!method.gather && cluster.ranks() / (method.in_node ? shape.cards_per_node : 1) > CX_COMM_DIGITS) {
    throw UnsupportedError("sparse all-reduce",
                           fmt::format("{}: expected at most {} parts", spec.method, CX_COMM_DIGITS));
  }
  return method;
}

void check(const Cluster &cluster, const SparseSpec &spec) {
  const Method method = method_of(cluster, spec);
  if (spec.count == 0 || spec.count > 0xffffffffu) {
    throw UsageError(fmt::format("a gradient of {} elements, expected 1 to {}", spec.count, 0xffffffffu));
  }
  const uint64_t least = method.in_node ? cluster.shape().cards_per_node : 1;
  if (spec.k < least || spec.k > spec.count) {
    throw UsageError(fmt::format("k of {}, expected {} to the {} elements", spec.k, least, spec.count));
  }
  if (list_type(spec.format) && !method.gather) {
    throw UnsupportedError("sparse all-reduce", fmt::format("lists of format {} by {}, which sends parts of lists: "
                                                            "expected pairs",
                                                            spec.format, method.name));
  }
}

uint64_t aligned(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// The exchange of sparse vectors among the members of one group; all have the same range of elements.
class Exchange {
 public:
  /// timing: there is no memory, counts of pairs are the average.
  Exchange(Builder &builder, const Cluster &cluster, const SparseLayout &layout, bool timing,
           std::optional<uint8_t> list)
      : builder_(builder), cluster_(cluster), layout_(layout), timing_(timing), list_(list) {}

  /// after[i]: command of member i, by which its gradient is there. Afterwards ready[i] is that by which result and
  /// residual are complete.
  void run(const std::vector<uint32_t> &group, uint64_t begin, uint64_t count, uint64_t k, bool gather,
           std::vector<uint32_t> after) {
    group_ = group;
    size_ = static_cast<uint32_t>(group.size());
    begin_ = begin;
    count_ = count;
    k_ = k;
    ready = std::move(after);
    zeroed_.clear();
    for (uint32_t i = 0; i < size_; ++i) {
      cx_comm_command fill{};
      fill.op = CX_COMM_FILL;
      fill.target = result();
      fill.bytes = 4 * count_;
      zeroed_.push_back(builder_.add(group_[i], fill, kNone, kNone));
    }
    gather ? gather_all() : split_and_gather();
  }

  std::vector<uint32_t> ready;

 private:
  uint64_t gradient() const { return layout_.gradient + 4 * begin_; }
  uint64_t residual() const { return layout_.residual + 4 * begin_; }
  uint64_t result() const { return layout_.result + 4 * begin_; }
  /// Pairs of one part of a list of k, as room or on average.
  uint64_t part_pairs() const { return timing_ ? (k_ + size_ - 1) / size_ : k_; }

  uint32_t top_k(uint32_t i, uint64_t target) {
    cx_comm_command command{};
    command.op = CX_COMM_TOPK;
    command.peer = static_cast<uint32_t>(k_);
    command.source = gradient();
    command.third = residual();
    command.target = target;
    command.bytes = 4 * count_;
    return builder_.add(group_[i], command, ready[i], kNone);
  }

  /// Into the result.
  uint32_t scatter_add(uint32_t i, uint64_t source, uint64_t bytes, bool indirect, uint32_t first, uint32_t second) {
    cx_comm_command command{};
    command.op = CX_COMM_SCATTER_ADD;
    command.flags = indirect ? CX_COMM_INDIRECT : 0;
    command.source = source;
    command.bytes = bytes;
    command.target = result();
    command.third = count_;
    return builder_.add(group_[i], command, first, second);
  }

  void gather_all() {
    const uint64_t bytes = list_bytes(list_, count_, k_);
    const Phase::Algorithm algorithm = best_scatter(cluster_, {group_}, size_ * bytes / 4, ElementType::kFp32);
    std::vector<uint64_t> lists;
    for (uint32_t i = 0; i < size_; ++i) {
      const uint64_t list = builder_.scratch_bytes(group_[i], size_ * bytes);
      lists.push_back(list);
      uint32_t taken = kNone;
      if (list_) {
        const uint64_t pairs = builder_.scratch_bytes(group_[i], k_ * kPair);
        cx_comm_command encode{};
        encode.op = CX_COMM_ENCODE;
        encode.type = *list_;
        encode.peer = static_cast<uint32_t>(count_);
        encode.source = pairs;
        encode.bytes = k_ * kPair;
        encode.third = residual();
        encode.target = list + i * bytes;
        taken = builder_.add(group_[i], encode, top_k(i, pairs), kNone);
      } else {
        taken = top_k(i, list + i * bytes);
      }
      builder_.hold_part(group_[i], list / 4, size_ * bytes / 4, i, size_, taken);
    }
    Phase phase{Phase::Kind::kAllGather, algorithm, {group_}};
    phase.in_order = true;
    builder_.run(phase, group_);
    for (uint32_t i = 0; i < size_; ++i) {
      const uint32_t there = builder_.ready(group_[i]);
      if (!list_) {
        ready[i] = scatter_add(i, lists[i], size_ * bytes, false, there, zeroed_[i]);
        continue;
      }
      ready[i] = builder_.joined(group_[i], there, zeroed_[i]);
      for (uint32_t from = 0; from < size_; ++from) {
        cx_comm_command decode{};
        decode.op = CX_COMM_DECODE_ADD;
        decode.type = *list_;
        decode.peer = static_cast<uint32_t>(count_);
        decode.source = lists[i] + from * bytes;
        decode.bytes = bytes;
        decode.third = k_;
        decode.target = result();
        ready[i] = builder_.add(group_[i], decode, ready[i], kNone);
      }
    }
  }

  /// Sums of u32 counts over the group; after[i] becomes the command by which they are there.
  void sum_counts(const std::vector<uint64_t> &counts, uint64_t bytes, std::vector<uint32_t> &after) {
    for (uint32_t i = 0; i < size_; ++i) builder_.hold(group_[i], counts[i] / 4, bytes / 4, after[i]);
    for (const Phase &phase : all_reduce(Phase::Algorithm::kDoubling, {group_})) builder_.run(phase, group_);
    for (uint32_t i = 0; i < size_; ++i) after[i] = builder_.ready(group_[i]);
  }

  /// Everyone's part for everyone: the extents of outgoing parts are `of` (rank i, for rank j), incoming ones come into
  /// slots with their extents.
  struct Incoming {
    std::vector<uint64_t> extents;  ///< by sender
    std::vector<uint32_t> got;
  };
  template <class Extent>
  std::vector<Incoming> exchange(const std::vector<uint32_t> &after, Extent &&of) {
    std::vector<Incoming> in(size_);
    const uint64_t room = part_pairs() * kPair;
    const uint32_t window = in_flight(size_);
    for (uint32_t i = 0; i < size_; ++i) {
      const uint32_t rank = group_[i];
      in[i].extents.resize(size_);
      in[i].got.resize(size_, kNone);
      std::vector<uint32_t> sent;
      for (uint32_t d = 1; d < size_; ++d) {
        const uint32_t to = (i + d) % size_, from = (i + size_ - d) % size_;
        cx_comm_command out{};
        out.op = CX_COMM_SEND;
        out.flags = CX_COMM_INDIRECT;
        out.peer = group_[to];
        out.source = of(i, to);
        out.bytes = room;
        sent.push_back(builder_.add(rank, out, after[i], d > window ? sent[d - 1 - window] : kNone));
        cx_comm_command receive{};
        receive.op = CX_COMM_RECV;
        receive.flags = CX_COMM_INDIRECT;
        receive.peer = group_[from];
        receive.target = builder_.scratch_bytes(rank, room);
        receive.bytes = room;
        receive.third = in[i].extents[from] = builder_.scratch_bytes(rank, sizeof(cx_comm_extent));
        in[i].got[from] = builder_.add(rank, receive, kNone, kNone);
      }
    }
    return in;
  }

  void split_and_gather() {
    std::vector<uint64_t> lists, counts, selections, extents;
    std::vector<uint32_t> taken, last;
    for (uint32_t i = 0; i < size_; ++i) {
      const uint32_t rank = group_[i];
      lists.push_back(builder_.scratch_bytes(rank, k_ * kPair));
      counts.push_back(builder_.scratch_bytes(rank, 4 * kIndexBins));
      selections.push_back(builder_.scratch_bytes(rank, sizeof(cx_comm_selection) + 4 * (uint64_t{size_} + 1)));
      extents.push_back(builder_.scratch_bytes(rank, sizeof(cx_comm_extent) * size_));
      taken.push_back(top_k(i, lists[i]));
      cx_comm_command count{};
      count.op = CX_COMM_INDEX_COUNT;
      count.peer = kIndexBins;
      count.source = lists[i];
      count.bytes = k_ * kPair;
      count.target = counts[i];
      count.third = count_;
      last.push_back(builder_.add(rank, count, taken[i], kNone));
    }
    sum_counts(counts, 4 * kIndexBins, last);
    for (uint32_t i = 0; i < size_; ++i) {
      cx_comm_command cut{};
      cut.op = CX_COMM_CUT;
      cut.peer = size_;
      cut.source = counts[i];
      cut.bytes = 4 * kIndexBins;
      cut.target = selections[i];
      cut.third = count_;
      last[i] = builder_.add(group_[i], cut, last[i], kNone);
      cx_comm_command divide{};
      divide.op = CX_COMM_PARTITION;
      divide.peer = size_;
      divide.source = lists[i];
      divide.bytes = k_ * kPair;
      divide.target = extents[i];
      divide.third = selections[i];
      last[i] = builder_.add(group_[i], divide, last[i], kNone);
    }
    const auto parts =
        exchange(last, [&](uint32_t i, uint32_t to) { return extents[i] + sizeof(cx_comm_extent) * to; });
    for (uint32_t i = 0; i < size_; ++i) {
      // In the order of ranks.
      last[i] = builder_.joined(group_[i], last[i], zeroed_[i]);
      for (uint32_t from = 0; from < size_; ++from) {
        const uint64_t extent = from == i ? extents[i] + sizeof(cx_comm_extent) * i : parts[i].extents[from];
        last[i] = scatter_add(i, extent, part_pairs() * kPair, true, last[i], parts[i].got[from]);
      }
    }
    for (unsigned round = 0; round < kRounds; ++round) {
      for (uint32_t i = 0; i < size_; ++i) {
        // A SEND of the round before may still read that one's.
        counts[i] = builder_.scratch_bytes(group_[i], kCountBytes);
        last[i] = on_part(CX_COMM_COUNT, i, selections[i], counts[i], last[i]);
      }
      sum_counts(counts, kCountBytes, last);
      for (uint32_t i = 0; i < size_; ++i) {
        cx_comm_command narrow{};
        narrow.op = CX_COMM_NARROW;
        narrow.peer = i;
        narrow.source = counts[i];
        narrow.bytes = kCountBytes;
        narrow.target = k_;
        narrow.third = selections[i];
        last[i] = builder_.add(group_[i], narrow, last[i], kNone);
      }
    }
    std::vector<uint64_t> selected;
    for (uint32_t i = 0; i < size_; ++i) {
      selected.push_back(builder_.scratch_bytes(group_[i], sizeof(cx_comm_extent) + k_ * kPair));
      last[i] = on_part(CX_COMM_SELECT, i, selections[i], selected[i], last[i]);
    }
    const auto results = exchange(last, [&](uint32_t i, uint32_t) { return selected[i]; });
    for (uint32_t i = 0; i < size_; ++i) {
      for (uint32_t from = 0; from < size_; ++from) {
        if (from == i) continue;
        last[i] = scatter_add(i, results[i].extents[from], part_pairs() * kPair, true, last[i], results[i].got[from]);
      }
      cx_comm_command keep{};
      keep.op = CX_COMM_RETAIN;
      keep.peer = static_cast<uint32_t>(count_);
      keep.source = lists[i];
      keep.bytes = k_ * kPair;
      keep.third = result();
      keep.target = residual();
      ready[i] = builder_.add(group_[i], keep, last[i], kNone);
    }
  }

  uint32_t on_part(uint8_t op, uint32_t i, uint64_t selection, uint64_t target, uint32_t after) {
    cx_comm_command command{};
    command.op = op;
    command.peer = i;
    command.source = result();
    command.bytes = timing_ ? 4 * ((count_ + size_ - 1) / size_) : 4 * count_;
    command.third = selection;
    command.target = target;
    return builder_.add(group_[i], command, after, kNone);
  }

  Builder &builder_;
  const Cluster &cluster_;
  const SparseLayout &layout_;
  bool timing_;
  std::optional<uint8_t> list_;
  std::vector<uint32_t> group_;
  uint32_t size_ = 0;
  uint64_t begin_ = 0, count_ = 0, k_ = 0;
  std::vector<uint32_t> zeroed_;
};

struct Built {
  std::string plan;
  Schedule schedule;
  SparseLayout layout;
};

Built build(const Cluster &cluster, const SparseSpec &spec, bool timing) {
  check(cluster, spec);
  const Method method = method_of(cluster, spec);
  const uint32_t ranks = cluster.ranks();
  Built built;
  built.plan = "sparse " + method.name + (spec.format == "pairs" ? "" : ", lists of " + spec.format);
  const uint64_t room = aligned(4 * spec.count);
  built.layout.residual = room;
  built.layout.result = 2 * room;
  Builder builder(ranks, 3 * room, ElementType::kFp32);
  builder.reduce_as(ElementType::kInt32);  // counts
  const std::optional<uint8_t> list = list_type(spec.format);
  Exchange exchange(builder, cluster, built.layout, timing, list);
  if (!method.in_node) {
    std::vector<uint32_t> all;
    for (uint32_t r = 0; r < ranks; ++r) all.push_back(r);
    exchange.run(all, 0, spec.count, spec.k, method.gather, std::vector<uint32_t>(ranks, kNone));
  } else {
    const uint32_t cards = cluster.shape().cards_per_node, nodes = cluster.shape().nodes;
    const auto in_node = digit_groups(ranks, 1, cards), between = digit_groups(ranks, cards, nodes);
    std::vector<uint32_t> ready(ranks, kNone);
    Phase phase{Phase::Kind::kReduceScatter, Phase::Algorithm::kRing, in_node};
    phase.in_order = true;
    if (cards > 1) {
      phase.algorithm = best_scatter(cluster, in_node, spec.count, ElementType::kFp32);
      built.plan += fmt::format(", {} in the node", to_string(phase.algorithm));
    }
    builder.reduce_as(ElementType::kFp32);
    for (uint32_t r = 0; r < ranks; ++r) builder.hold(r, 0, spec.count, kNone);
    for (const auto &group : in_node) builder.run(phase, group);
    for (uint32_t r = 0; r < ranks; ++r) ready[r] = builder.ready(r);
    builder.reduce_as(ElementType::kInt32);
    const Split elements{spec.count, cards}, share{spec.k, cards};
    for (uint32_t card = 0; card < cards; ++card) {
      std::vector<uint32_t> after;
      for (const uint32_t rank : between[card]) after.push_back(ready[rank]);
      exchange.run(between[card], elements.begin(card), elements.size(card), share.size(card), method.gather,
                   std::move(after));
      for (uint32_t n = 0; n < nodes; ++n) ready[between[card][n]] = exchange.ready[n];
    }
    phase.kind = Phase::Kind::kAllGather;
    for (uint32_t r = 0; r < ranks; ++r) {
      builder.hold_part(r, built.layout.result / 4, spec.count, r % cards, cards, ready[r]);
    }
    for (const auto &group : in_node) builder.run(phase, group);
  }
  built.schedule.ranks = builder.take();
  built.schedule.memory_bytes = built.layout.memory_bytes = builder.memory_bytes();
  return built;
}

uint32_t digest(const Built &built, const SparseSpec &spec, uint32_t ranks) {
  return digest_of(fmt::format("{} {} {} {}", built.plan, spec.count, spec.k, ranks));
}

/// Between samples of links, for an observer: several hundred of a dense all-reduce at least.
double sample_s(const Cluster &cluster, const SparseSpec &spec) {
  if (spec.observer == nullptr || cluster.ranks() < 2) return 1e-6;
  return std::max(1e-7, lower_bound(cluster, Operation::kAllReduce, spec.count, ElementType::kFp32).time_s / 256);
}

bool same(const SparseSpec &a, const SparseSpec &b) {
  return a.method == b.method && a.count == b.count && a.k == b.k && a.format == b.format;
}

Bound bound_of(const Cluster &cluster, const JobReport &job) {
  Bound best = lower_bound(cluster, Operation::kAllReduce, 0, ElementType::kFp32);
  const auto consider = [&](double bytes, double rate, const std::string &what) {
    if (bytes / rate <= best.time_s) return;
    best = {bytes / rate, fmt::format("{}: {:.0f} bytes at {:.3f} GB/s", what, bytes, rate * 1e-9)};
  };
  double out_of_nodes = 0;
  for (const Cluster::Cut &cut : cluster.cuts()) {
    if (cut.level == "card") {
      consider(static_cast<double>(job.rank_sent_bytes[cut.first]), cut.out_bytes_per_s, cut.name + " sends");
      consider(static_cast<double>(job.rank_received_bytes[cut.first]), cut.in_bytes_per_s, cut.name + " receives");
    }
    if (cut.level == "node") out_of_nodes += cut.out_bytes_per_s;
  }
  if (out_of_nodes > 0) consider(static_cast<double>(job.network_bytes), out_of_nodes, "all nodes send");
  return best;
}

SparseOutcome finish(const Cluster &cluster, const SparseSpec &spec, const std::string &plan, JobReport job) {
  SparseOutcome outcome;
  outcome.plan = plan;
  outcome.job = std::move(job);
  const JobReport &done = outcome.job;
  outcome.most_sent = *std::max_element(done.rank_sent_bytes.begin(), done.rank_sent_bytes.end());
  outcome.most_received = *std::max_element(done.rank_received_bytes.begin(), done.rank_received_bytes.end());
  outcome.dense_ring_bytes =
      2 * uint64_t{cluster.ranks() - 1} * spec.count * (list_type(spec.format).value_or(0) < 4 ? 4 : 2);
  if (cluster.ranks() < 2) return outcome;
  outcome.bound = bound_of(cluster, done);
  if (done.time_s < outcome.bound.time_s * (1 - 1e-6)) {
    throw BoundError(fmt::format("{} of {} elements took {:.6f} us, less than its lower bound of {:.6f} us ({})", plan,
                                 spec.count, done.time_s * 1e6, outcome.bound.time_s * 1e6, outcome.bound.reason));
  }
  return outcome;
}

// ---- data of the check ----

uint64_t mixed(uint64_t seed, uint64_t a, uint64_t b) {
  uint64_t x = seed + a * 0x9e3779b97f4a7c15ull + b * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 31)) * 0x94d049bb133111ebull;
  return x ^ (x >> 29);
}
/// Sums of a thousand ranks are exact.
int gradient_of(uint64_t seed, uint32_t rank, uint64_t i) {
  return static_cast<int>(mixed(seed, rank, i) % 1999) - 999;
}
int residual_of(uint64_t seed, uint32_t rank, uint64_t i) {
  return static_cast<int>(mixed(seed + 1, rank, i) % 201) - 100;
}

}  // namespace

std::vector<std::string> sparse_methods() {
  return {"gather", "oktopk", "inter-node", "inter-node-gather", "inter-node-oktopk"};
}

std::vector<std::string> sparse_formats() {
  return {"pairs",     "index-fp32", "index-fp16",  "index-bf16",  "gaps-fp32",
          "gaps-fp16", "gaps-bf16",  "bitmap-fp32", "bitmap-fp16", "bitmap-bf16"};
}

uint64_t k_of_density(uint64_t count, double density) {
  if (!(density > 0 && density <= 1)) {
    throw UsageError(fmt::format("a density of {}, expected more than 0 and at most 1", density));
  }
  return std::clamp<uint64_t>(static_cast<uint64_t>(std::llround(static_cast<double>(count) * density)), 1, count);
}

SparseLayout sparse_layout(const Cluster &cluster, const SparseSpec &spec) {
  return build(cluster, spec, false).layout;
}

Schedule sparse_schedule(const Cluster &cluster, const SparseSpec &spec) {
  return build(cluster, spec, false).schedule;
}

SparseOutcome run_sparse(const Cluster &cluster, const SparseSpec &spec, Memory *memory) {
  const Built built = build(cluster, spec, memory == nullptr);
  return finish(cluster, spec, built.plan,
                cluster.run(programs(built.schedule, digest(built, spec, cluster.ranks()), memory), ElementType::kFp32,
                            spec.fidelity, spec.faults, spec.observer, sample_s(cluster, spec)));
}

SparseOutcome run_sparse_each(const Cluster &cluster, const std::vector<SparseSpec> &specs, Memory *memory) {
  if (specs.size() != cluster.ranks()) {
    throw UsageError(fmt::format("descriptions of {} ranks, expected {}", specs.size(), cluster.ranks()));
  }
  std::vector<cx_comm_program> all(specs.size());
  std::vector<Built> kept;
  kept.reserve(specs.size());
  for (std::size_t rank = 0; rank < specs.size(); ++rank) {
    std::size_t first = 0;
    while (!same(specs[first], specs[rank])) ++first;
    if (first != rank) continue;
    kept.push_back(build(cluster, specs[rank], memory == nullptr));
    const auto some = programs(kept.back().schedule, digest(kept.back(), specs[rank], cluster.ranks()), memory);
    for (std::size_t other = rank; other < specs.size(); ++other) {
      if (same(specs[rank], specs[other])) all[other] = some[other];
    }
  }
  return finish(cluster, specs[0], kept[0].plan,
                cluster.run(all, ElementType::kFp32, specs[0].fidelity, specs[0].faults));
}

SparseOutcome run_sparse_checked(const Cluster &cluster, const SparseSpec &spec, uint64_t seed) {
  const SparseLayout layout = sparse_layout(cluster, spec);
  const bool in_node = method_of(cluster, spec).in_node;
  const uint32_t ranks = cluster.ranks(), cards = in_node ? cluster.shape().cards_per_node : 1;
  Memory memory;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    memory.emplace_back(layout.memory_bytes[rank]);
    auto *g = reinterpret_cast<float *>(memory[rank].data() + layout.gradient);
    auto *e = reinterpret_cast<float *>(memory[rank].data() + layout.residual);
    for (uint64_t i = 0; i < spec.count; ++i) {
      g[i] = static_cast<float>(gradient_of(seed, rank, i));
      e[i] = static_cast<float>(residual_of(seed, rank, i));
    }
  }
  SparseOutcome outcome = run_sparse(cluster, spec, &memory);
  const bool narrow = list_type(spec.format).value_or(0) >= 4;
  const Split parts{spec.count, cards};
  const auto wrong = [&](uint32_t rank, uint64_t i, const std::string &what) {
    throw Error(fmt::format("{}: element {} of rank {} {}", outcome.plan, i, rank, what));
  };
  uint32_t card = 0;
  for (uint64_t i = 0; i < spec.count; ++i) {
    while (i >= parts.begin(card) + parts.size(card)) ++card;
    int sum = 0;
    // Of a node's cards, the one that has the element's part.
    for (uint32_t first = 0; first < ranks; first += cards) {
      const uint32_t rank = first + card;
      int y = residual_of(seed, rank, i);
      for (uint32_t c = 0; c < cards; ++c) y += gradient_of(seed, first + c, i);
      const float left = reinterpret_cast<const float *>(memory[rank].data() + layout.residual)[i];
      // Of a 16-bit value: less than half of its distance to the next one, a 256th.
      const bool sent = left == 0 || (narrow && std::fabs(left) * 256 <= std::fabs(static_cast<float>(y)));
      if (!sent && left != static_cast<float>(y)) {
        wrong(rank, i, fmt::format("leaves a residual of {}, expected 0 or {}", left, y));
      }
      if (sent) sum += y - static_cast<int>(left);
    }
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const float got = reinterpret_cast<const float *>(memory[rank].data() + layout.result)[i];
      if (got != static_cast<float>(sum)) wrong(rank, i, fmt::format("is {}, expected {}", got, sum));
    }
  }
  return outcome;
}

}  // namespace cx::collective
