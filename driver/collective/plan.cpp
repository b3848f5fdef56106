#include "driver/collective/plan.hpp"

#include <algorithm>
#include <bit>

namespace cx::collective {

const char *to_string(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce:
      return "all-reduce";
    case Operation::kReduceScatter:
      return "reduce-scatter";
    case Operation::kAllGather:
      return "all-gather";
    case Operation::kBroadcast:
      return "broadcast";
    case Operation::kAllToAll:
      return "all-to-all";
  }
  return "?";
}

namespace {

constexpr uint32_t kNone = CX_COMM_NONE;
constexpr uint64_t kAlign = 64;

/// A range of elements, and the last commands of its rank that concern it.
struct Held {
  uint64_t begin = 0, count = 0;
  uint32_t ready = kNone;  ///< has to be complete before the range may be read
  /// A reduce-scatter that a gather will undo.
  struct Scatter {
    uint64_t begin, count;  ///< before it
  };
  std::vector<Scatter> outer;  ///< innermost last
  bool active = true;          ///< false: stands aside since a fold
};

class Builder {
 public:
  Builder(uint32_t ranks, uint64_t count, ElementType type) : size_(bytes_of(type)), held_(ranks) {
    schedule_.ranks.resize(ranks);
    schedule_.memory_bytes.assign(ranks, (count * size_ + kAlign - 1) / kAlign * kAlign);
  }

  /// The commands since the last call.
  std::vector<std::vector<cx_comm_command>> take() {
    std::vector<std::vector<cx_comm_command>> lists(schedule_.ranks.size());
    lists.swap(schedule_.ranks);
    return lists;
  }
  std::vector<uint64_t> memory_bytes() const { return schedule_.memory_bytes; }

  void chunk(const std::vector<Phase> &phases, uint64_t begin, uint64_t count, uint8_t channel) {
    channel_ = channel;
    for (Held &held : held_) {
      held = {};
      held.begin = begin;
      held.count = count;
    }
    // A collective that begins with gathering starts from the parts.
    std::vector<std::size_t> gathers;
    for (std::size_t p = 0; p < phases.size(); ++p) {
      if (phases[p].kind == Phase::Kind::kReduceScatter) gathers.push_back(p);
      if (phases[p].kind != Phase::Kind::kAllGather) continue;
      if (!gathers.empty()) {
        gathers.pop_back();
        continue;
      }
      for (const auto &group : phases[p].groups) {
        const auto k = static_cast<uint32_t>(group.size());
        for (uint32_t i = 0; i < k; ++i) narrow(group[i], i, k);
      }
    }
    for (const Phase &phase : phases) {
      for (const auto &group : phase.groups) run(phase, group);
    }
  }

 private:
  // ---- commands ----
  uint32_t add(uint32_t rank, cx_comm_command command, uint32_t first, uint32_t second) {
    command.channel = channel_;
    command.after[0] = first;
    command.after[1] = second;
    auto &list = schedule_.ranks[rank];
    list.push_back(command);
    return static_cast<uint32_t>(list.size() - 1);
  }
  uint32_t send(uint32_t rank, uint32_t peer, uint64_t begin, uint64_t count, uint32_t after) {
    cx_comm_command command{};
    command.op = CX_COMM_SEND;
    command.peer = peer;
    command.source = begin * size_;
    command.bytes = count * size_;
    return add(rank, command, after, kNone);
  }
  uint32_t receive(uint32_t rank, uint32_t peer, uint64_t offset, uint64_t count, uint32_t after,
                   uint32_t second = kNone) {
    cx_comm_command command{};
    command.op = CX_COMM_RECV;
    command.peer = peer;
    command.target = offset;
    command.bytes = count * size_;
    return add(rank, command, after, second);
  }
  uint32_t reduce(uint32_t rank, uint64_t begin, uint64_t scratch, uint64_t count, uint32_t after, uint32_t second) {
    cx_comm_command command{};
    command.op = CX_COMM_REDUCE;
    command.target = begin * size_;
    command.source = scratch;
    command.bytes = count * size_;
    return add(rank, command, after, second);
  }
  uint64_t scratch(uint32_t rank, uint64_t count) {
    const uint64_t at = schedule_.memory_bytes[rank];
    schedule_.memory_bytes[rank] += (count * size_ + kAlign - 1) / kAlign * kAlign;
    return at;
  }
  /// One command that is complete when both are.
  uint32_t joined(uint32_t rank, uint32_t first, uint32_t second) {
    if (first == kNone || second == kNone) return first == kNone ? second : first;
    cx_comm_command command{};
    command.op = CX_COMM_JOIN;
    return add(rank, command, first, second);
  }

  // ---- phases ----
  // Receives of results are posted from the start, into ranges that an earlier SEND reads: a result cannot come before
  // its sum, and the sum not before what that SEND carries has arrived; what is sent again after that is a duplicate,
  // which its receiver drops.
  void narrow(uint32_t rank, uint32_t position, uint32_t k) {
    Held &held = held_[rank];
    const Split split{held.count, k};
    held.outer.push_back({held.begin, held.count});
    held.begin += split.begin(position);
    held.count = split.size(position);
  }
  Held::Scatter widen(uint32_t rank) {
    Held::Scatter outer = std::move(held_[rank].outer.back());
    held_[rank].outer.pop_back();
    return outer;
  }

  void run(const Phase &phase, const std::vector<uint32_t> &all) {
    std::vector<uint32_t> group;
    for (const uint32_t rank : all) {
      if (held_[rank].active) group.push_back(rank);
    }
    if (phase.kind == Phase::Kind::kUnfold) return unfold(all);
    if (group.size() < 2) return;
    switch (phase.kind) {
      case Phase::Kind::kReduceScatter:
        if (phase.algorithm == Phase::Algorithm::kHalving) return halve(group, phase.in_order);
        return phase.algorithm == Phase::Algorithm::kDirect ? direct_scatter(group) : ring_scatter(group);
      case Phase::Kind::kAllGather:
        if (phase.algorithm == Phase::Algorithm::kHalving) return unhalve(group, phase.in_order);
        return phase.algorithm == Phase::Algorithm::kDirect ? direct_gather(group) : ring_gather(group);
      case Phase::Kind::kAllReduce:
        return double_up(group);
      case Phase::Kind::kReduce:
        return tree_reduce(group, phase.root);
      case Phase::Kind::kBroadcast:
        return phase.algorithm == Phase::Algorithm::kTree ? tree_broadcast(group, phase.root, phase.serial)
                                                          : chain_broadcast(group, phase.root);
      case Phase::Kind::kFold:
        return fold(group);
      case Phase::Kind::kUnfold:
        return;
      case Phase::Kind::kAllToAll:
        return all_to_all(group);
    }
  }

  void ring_scatter(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i], next = group[(i + 1) % k], previous = group[(i + k - 1) % k];
      Held &held = held_[rank];
      const Split split{held.count, k};
      const uint64_t slot = split.size(0);
      const uint64_t slots[2] = {scratch(rank, slot), scratch(rank, slot)};
      uint32_t reduced[2] = {kNone, kNone};
      uint32_t last = held.ready;
      for (uint32_t s = 0; s + 1 < k; ++s) {
        const uint32_t out = (i + 2 * k - 1 - s) % k, in = (i + 2 * k - 2 - s) % k;
        send(rank, next, held.begin + split.begin(out), split.size(out), last);
        const uint32_t got = receive(rank, previous, slots[s % 2], split.size(in), reduced[s % 2]);
        last = reduced[s % 2] =
            reduce(rank, held.begin + split.begin(in), slots[s % 2], split.size(in), got, held.ready);
      }
      held.ready = last;
      narrow(rank, i, k);
    }
  }

  void ring_gather(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i], next = group[(i + 1) % k], previous = group[(i + k - 1) % k];
      Held &held = held_[rank];
      const Held::Scatter outer = widen(rank);
      const Split split{outer.count, k};
      uint32_t last = held.ready;
      for (uint32_t s = 0; s + 1 < k; ++s) {
        const uint32_t out = (i + k - s) % k, in = (i + 2 * k - s - 1) % k;
        send(rank, next, outer.begin + split.begin(out), split.size(out), last);
        last = receive(rank, previous, (outer.begin + split.begin(in)) * size_, split.size(in), kNone);
      }
      held.begin = outer.begin;
      held.count = outer.count;
      held.ready = joined(rank, last, held.ready);
    }
  }

  void direct_scatter(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      const Split split{held.count, k};
      std::vector<uint32_t> got(k);
      std::vector<uint64_t> slots(k);
      for (uint32_t d = 1; d < k; ++d) {
        const uint32_t to = (i + d) % k, from = (i + k - d) % k;
        send(rank, group[to], held.begin + split.begin(to), split.size(to), held.ready);
        slots[from] = scratch(rank, split.size(i));
        got[from] = receive(rank, group[from], slots[from], split.size(i), kNone);
      }
      uint32_t last = held.ready;
      for (uint32_t d = 1; d < k; ++d) {
        const uint32_t from = (i + d) % k;
        last = reduce(rank, held.begin + split.begin(i), slots[from], split.size(i), got[from], last);
      }
      held.ready = last;
      narrow(rank, i, k);
    }
  }

  void direct_gather(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      const Held::Scatter outer = widen(rank);
      const Split split{outer.count, k};
      uint32_t all = held.ready;
      for (uint32_t d = 1; d < k; ++d) {
        const uint32_t to = (i + d) % k, from = (i + k - d) % k;
        send(rank, group[to], held.begin, held.count, held.ready);
        const uint32_t got =
            receive(rank, group[from], (outer.begin + split.begin(from)) * size_, split.size(from), kNone);
        all = joined(rank, all, got);
      }
      held.begin = outer.begin;
      held.count = outer.count;
      held.ready = all;
    }
  }

  /// The bit of the position by which the members of a step pair up.
  static std::vector<uint32_t> bits(uint32_t members, bool in_order) {
    if (!std::has_single_bit(members)) throw UsageError("halving and doubling need a power of two of members");
    std::vector<uint32_t> out;
    for (uint32_t bit = 1; bit < members; bit *= 2) out.push_back(bit);
    if (in_order) std::reverse(out.begin(), out.end());
    return out;
  }

  struct Range {
    uint64_t begin, count;
  };
  /// The lower or the upper half of what `parts` parts have in common.
  static Range half(const Range &range, uint32_t parts, bool upper) {
    const uint64_t low = Split{range.count, parts}.begin(parts / 2);
    return upper ? Range{range.begin + low, range.count - low} : Range{range.begin, low};
  }

  void halve(const std::vector<uint32_t> &group, bool in_order) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      Range range{held.begin, held.count};
      uint32_t parts = k;
      for (const uint32_t bit : bits(k, in_order)) {
        const uint32_t peer = group[i ^ bit];
        const bool upper = (i & bit) != 0;
        const Range own = half(range, parts, upper), other = half(range, parts, !upper);
        send(rank, peer, other.begin, other.count, held.ready);
        const uint64_t slot = scratch(rank, own.count);
        const uint32_t got = receive(rank, peer, slot, own.count, kNone);
        held.ready = reduce(rank, own.begin, slot, own.count, got, held.ready);
        range = own;
        parts /= 2;
      }
      held.outer.push_back({held.begin, held.count});
      held.begin = range.begin;
      held.count = range.count;
    }
  }

  void unhalve(const std::vector<uint32_t> &group, bool in_order) {
    const auto k = static_cast<uint32_t>(group.size());
    const std::vector<uint32_t> order = bits(k, in_order);
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      const Held::Scatter outer = widen(rank);
      std::vector<Range> ranges{{outer.begin, outer.count}};
      uint32_t parts = k;
      for (const uint32_t bit : order) {
        ranges.push_back(half(ranges.back(), parts, (i & bit) != 0));
        parts /= 2;
      }
      for (std::size_t step = order.size(); step-- > 0;) {
        parts *= 2;
        const uint32_t peer = group[i ^ order[step]];
        const Range own = ranges[step + 1], other = half(ranges[step], parts, (i & order[step]) == 0);
        send(rank, peer, own.begin, own.count, held.ready);
        const uint32_t got = receive(rank, peer, other.begin * size_, other.count, kNone);
        held.ready = joined(rank, got, held.ready);
      }
      held.begin = outer.begin;
      held.count = outer.count;
    }
  }

  /// What comes is added to in place and sent on from there, so that no step waits for an acknowledgement.
  void double_up(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      uint64_t current = held.begin * size_;
      uint32_t first = kNone;
      for (const uint32_t bit : bits(k, false)) {
        const uint32_t peer = group[i ^ bit];
        cx_comm_command out{};
        out.op = CX_COMM_SEND;
        out.peer = peer;
        out.source = current;
        out.bytes = held.count * size_;
        const uint32_t sent = add(rank, out, held.ready, kNone);
        if (first == kNone) first = sent;
        const uint64_t slot = scratch(rank, held.count);
        const uint32_t got = receive(rank, peer, slot, held.count, kNone);
        cx_comm_command sum{};
        sum.op = CX_COMM_REDUCE;
        sum.target = slot;
        sum.source = current;
        sum.bytes = held.count * size_;
        held.ready = add(rank, sum, got, held.ready);
        current = slot;
      }
      cx_comm_command back{};
      back.op = CX_COMM_COPY;
      back.source = current;
      back.target = held.begin * size_;
      back.bytes = held.count * size_;
      held.ready = add(rank, back, held.ready, first);
    }
  }

  void tree_reduce(const std::vector<uint32_t> &group, uint32_t root) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t v = 0; v < k; ++v) {
      const uint32_t rank = group[(v + root) % k];
      Held &held = held_[rank];
      for (uint32_t bit = 1; bit < k; bit *= 2) {
        if ((v & bit) != 0) {
          send(rank, group[(v - bit + root) % k], held.begin, held.count, held.ready);
          break;
        }
        if (v + bit >= k) continue;
        const uint64_t slot = scratch(rank, held.count);
        const uint32_t got = receive(rank, group[(v + bit + root) % k], slot, held.count, kNone);
        held.ready = reduce(rank, held.begin, slot, held.count, got, held.ready);
      }
    }
  }

  void tree_broadcast(const std::vector<uint32_t> &group, uint32_t root, bool serial) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t v = 0; v < k; ++v) {
      const uint32_t rank = group[(v + root) % k];
      Held &held = held_[rank];
      uint32_t bit = std::bit_ceil(k);
      if (v != 0) {
        bit = v & (~v + 1);
        held.ready = receive(rank, group[(v - bit + root) % k], held.begin * size_, held.count, kNone);
      }
      // Far children first: they have the most below them.
      uint32_t after = held.ready;
      for (bit /= 2; bit > 0; bit /= 2) {
        if (v + bit >= k) continue;
        const uint32_t sent = send(rank, group[(v + bit + root) % k], held.begin, held.count, after);
        if (serial) after = sent;
      }
    }
  }

  void chain_broadcast(const std::vector<uint32_t> &group, uint32_t root) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t v = 0; v < k; ++v) {
      const uint32_t rank = group[(v + root) % k];
      Held &held = held_[rank];
      if (v != 0) held.ready = receive(rank, group[(v - 1 + root) % k], held.begin * size_, held.count, kNone);
      if (v + 1 < k) send(rank, group[(v + 1 + root) % k], held.begin, held.count, held.ready);
    }
  }

  void fold(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    const uint32_t extra = k - std::bit_floor(k);
    for (uint32_t i = 0; i < 2 * extra; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      if (i % 2 == 0) {
        send(rank, group[i + 1], held.begin, held.count, held.ready);
        held.active = false;
        continue;
      }
      const uint64_t slot = scratch(rank, held.count);
      const uint32_t got = receive(rank, group[i - 1], slot, held.count, kNone);
      held.ready = reduce(rank, held.begin, slot, held.count, got, held.ready);
    }
  }

  void unfold(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    const uint32_t extra = k - std::bit_floor(k);
    for (uint32_t i = 0; i < 2 * extra; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      if (i % 2 == 1) {
        send(rank, group[i - 1], held.begin, held.count, held.ready);
        continue;
      }
      held.ready = receive(rank, group[i + 1], held.begin * size_, held.count, kNone);
      held.active = true;
    }
  }

  void all_to_all(const std::vector<uint32_t> &group) {
    const auto k = static_cast<uint32_t>(group.size());
    for (uint32_t i = 0; i < k; ++i) {
      const uint32_t rank = group[i];
      Held &held = held_[rank];
      const uint64_t block = held.count / k;
      const uint64_t results = scratch(rank, held.count);
      cx_comm_command own{};
      own.op = CX_COMM_COPY;
      own.source = (held.begin + i * block) * size_;
      own.target = results + i * block * size_;
      own.bytes = block * size_;
      add(rank, own, kNone, kNone);
      for (uint32_t d = 1; d < k; ++d) {
        const uint32_t to = (i + d) % k, from = (i + k - d) % k;
        send(rank, group[to], held.begin + to * block, block, held.ready);
        receive(rank, group[from], results + from * block * size_, block, kNone);
      }
    }
  }

  uint64_t size_;
  uint8_t channel_ = 0;
  Schedule schedule_;
  std::vector<Held> held_;
};

}  // namespace

namespace {

/// Commands of all chunks of a part, in turn: chunks share connections, and on a connection the n-th message of each
/// chunk comes before the next of any. Chunks have the same commands with other ranges.
void interleave(std::vector<std::vector<cx_comm_command>> chunks, std::vector<cx_comm_command> &list) {
  const auto base = static_cast<uint32_t>(list.size()), count = static_cast<uint32_t>(chunks.size());
  list.reserve(list.size() + chunks.size() * chunks[0].size());
  for (std::size_t j = 0; j < chunks[0].size(); ++j) {
    for (uint32_t c = 0; c < count; ++c) {
      cx_comm_command command = chunks[c][j];
      for (uint32_t &after : command.after) {
        if (after != kNone) after = base + after * count + c;
      }
      list.push_back(command);
    }
  }
}

}  // namespace

Schedule build(const Plan &plan, uint32_t ranks, uint64_t count, ElementType type) {
  const auto parts = static_cast<uint32_t>(plan.parts.size());
  if (parts > 256 || plan.chunks == 0 || plan.chunks > 1024) {
    throw UsageError(std::to_string(parts) + " parts of " + std::to_string(plan.chunks) +
                     " chunks, expected at most 256 of 1 to 1024");
  }
  Builder builder(ranks, count, type);
  Schedule schedule;
  schedule.ranks.resize(ranks);
  const Split by_part{count, parts};
  for (uint32_t p = 0; p < parts; ++p) {
    const Split by_chunk{by_part.size(p), plan.chunks};
    std::vector<std::vector<std::vector<cx_comm_command>>> chunks;  // by chunk and rank
    for (uint32_t c = 0; c < plan.chunks; ++c) {
      builder.chunk(plan.parts[p], by_part.begin(p) + by_chunk.begin(c), by_chunk.size(c), static_cast<uint8_t>(p));
      chunks.push_back(builder.take());
    }
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      if (parts == 1 && plan.chunks == 1) {
        schedule.ranks[rank] = std::move(chunks[0][rank]);
        continue;
      }
      std::vector<std::vector<cx_comm_command>> own;
      for (auto &chunk : chunks) own.push_back(std::move(chunk[rank]));
      interleave(std::move(own), schedule.ranks[rank]);
    }
  }
  schedule.memory_bytes = builder.memory_bytes();
  return schedule;
}

}  // namespace cx::collective
