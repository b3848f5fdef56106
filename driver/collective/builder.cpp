#include "driver/collective/builder.hpp"

#include <algorithm>
#include <bit>

namespace cx::collective {
namespace {

constexpr uint32_t kNone = CX_COMM_NONE;
constexpr uint64_t kAlign = 64;

}  // namespace

Builder::Builder(uint32_t ranks, uint64_t memory_bytes, ElementType type) : size_(bytes_of(type)), held_(ranks) {
  schedule_.ranks.resize(ranks);
  schedule_.memory_bytes.assign(ranks, (memory_bytes + kAlign - 1) / kAlign * kAlign);
}

std::vector<std::vector<cx_comm_command>> Builder::take() {
  std::vector<std::vector<cx_comm_command>> lists(schedule_.ranks.size());
  lists.swap(schedule_.ranks);
  return lists;
}

void Builder::hold(uint32_t rank, uint64_t begin, uint64_t count, uint32_t ready) {
  held_[rank] = {};
  held_[rank].begin = begin;
  held_[rank].count = count;
  held_[rank].ready = ready;
}

void Builder::hold_part(uint32_t rank, uint64_t begin, uint64_t count, uint32_t position, uint32_t k, uint32_t ready) {
  hold(rank, begin, count, ready);
  if (k > 1) narrow(rank, position, k);
}

void Builder::chunk(const std::vector<Phase> &phases, uint64_t begin, uint64_t count, uint8_t channel) {
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

// ---- commands ----
uint32_t Builder::add(uint32_t rank, cx_comm_command command, uint32_t first, uint32_t second) {
  command.channel = channel_;
  command.after[0] = first;
  command.after[1] = second;
  auto &list = schedule_.ranks[rank];
  list.push_back(command);
  return static_cast<uint32_t>(list.size() - 1);
}
uint32_t Builder::send(uint32_t rank, uint32_t peer, uint64_t begin, uint64_t count, uint32_t after) {
  cx_comm_command command{};
  command.op = CX_COMM_SEND;
  command.peer = peer;
  command.source = begin * size_;
  command.bytes = count * size_;
  return add(rank, command, after, kNone);
}
uint32_t Builder::receive(uint32_t rank, uint32_t peer, uint64_t offset, uint64_t count, uint32_t after,
                          uint32_t second) {
  cx_comm_command command{};
  command.op = CX_COMM_RECV;
  command.peer = peer;
  command.target = offset;
  command.bytes = count * size_;
  return add(rank, command, after, second);
}
uint32_t Builder::reduce(uint32_t rank, uint64_t begin, uint64_t scratch, uint64_t count, uint32_t after,
                         uint32_t second) {
  cx_comm_command command{};
  command.op = CX_COMM_REDUCE;
  command.type = reduce_type_;
  command.target = begin * size_;
  command.source = scratch;
  command.bytes = count * size_;
  return add(rank, command, after, second);
}
uint64_t Builder::scratch_bytes(uint32_t rank, uint64_t bytes) {
  const uint64_t at = schedule_.memory_bytes[rank];
  schedule_.memory_bytes[rank] += (bytes + kAlign - 1) / kAlign * kAlign;
  return at;
}
uint64_t Builder::scratch(uint32_t rank, uint64_t count) { return scratch_bytes(rank, count * size_); }
uint32_t Builder::joined(uint32_t rank, uint32_t first, uint32_t second) {
  if (first == kNone || second == kNone) return first == kNone ? second : first;
  cx_comm_command command{};
  command.op = CX_COMM_JOIN;
  return add(rank, command, first, second);
}

// ---- phases ----
// Receives of results are posted from the start, into ranges that an earlier SEND reads: a result cannot come before
// its sum, and the sum not before what that SEND carries has arrived; what is sent again after that is a duplicate,
// which its receiver drops.
void Builder::narrow(uint32_t rank, uint32_t position, uint32_t k) {
  Held &held = held_[rank];
  const Split split{held.count, k};
  held.outer.push_back({held.begin, held.count});
  held.begin += split.begin(position);
  held.count = split.size(position);
}
Builder::Held::Scatter Builder::widen(uint32_t rank) {
  Held::Scatter outer = std::move(held_[rank].outer.back());
  held_[rank].outer.pop_back();
  return outer;
}

void Builder::run(const Phase &phase, const std::vector<uint32_t> &all) {
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

void Builder::ring_scatter(const std::vector<uint32_t> &group) {
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
      last = reduced[s % 2] = reduce(rank, held.begin + split.begin(in), slots[s % 2], split.size(in), got, held.ready);
    }
    held.ready = last;
    narrow(rank, i, k);
  }
}

void Builder::ring_gather(const std::vector<uint32_t> &group) {
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

void Builder::direct_scatter(const std::vector<uint32_t> &group) {
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

void Builder::direct_gather(const std::vector<uint32_t> &group) {
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

std::vector<uint32_t> Builder::bits(uint32_t members, bool in_order) {
  if (!std::has_single_bit(members)) throw UsageError("halving and doubling need a power of two of members");
  std::vector<uint32_t> out;
  for (uint32_t bit = 1; bit < members; bit *= 2) out.push_back(bit);
  if (in_order) std::reverse(out.begin(), out.end());
  return out;
}

Builder::Range Builder::half(const Range &range, uint32_t parts, bool upper) {
  const uint64_t low = Split{range.count, parts}.begin(parts / 2);
  return upper ? Range{range.begin + low, range.count - low} : Range{range.begin, low};
}

void Builder::halve(const std::vector<uint32_t> &group, bool in_order) {
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

void Builder::unhalve(const std::vector<uint32_t> &group, bool in_order) {
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

// What comes is added to in place and sent on from there, so that no step waits for an acknowledgement.
void Builder::double_up(const std::vector<uint32_t> &group) {
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
      sum.type = reduce_type_;
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

void Builder::tree_reduce(const std::vector<uint32_t> &group, uint32_t root) {
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

void Builder::tree_broadcast(const std::vector<uint32_t> &group, uint32_t root, bool serial) {
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

void Builder::chain_broadcast(const std::vector<uint32_t> &group, uint32_t root) {
  const auto k = static_cast<uint32_t>(group.size());
  for (uint32_t v = 0; v < k; ++v) {
    const uint32_t rank = group[(v + root) % k];
    Held &held = held_[rank];
    if (v != 0) held.ready = receive(rank, group[(v - 1 + root) % k], held.begin * size_, held.count, kNone);
    if (v + 1 < k) send(rank, group[(v + 1 + root) % k], held.begin, held.count, held.ready);
  }
}

void Builder::fold(const std::vector<uint32_t> &group) {
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

void Builder::unfold(const std::vector<uint32_t> &group) {
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

void Builder::all_to_all(const std::vector<uint32_t> &group) {
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

}  // namespace cx::collective
