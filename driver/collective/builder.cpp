#include "driver/collective/builder.hpp"

#include <algorithm>
#include <bit>

namespace cx::collective {
namespace {

constexpr uint32_t kNone = CX_COMM_NONE;
constexpr uint64_t kAlign = 64;

/// Number of a rank among those sorted with the innermost digit first.
uint32_t sorted_place(uint32_t rank, const std::vector<uint32_t> &levels) {
  uint32_t place = 0;
  for (const uint32_t size : levels) {
    place = place * size + rank % size;
    rank /= size;
  }
  return place;
}

uint64_t packed(const std::vector<uint32_t> &levels) {
  uint64_t digits = 0;
  for (std::size_t l = 0; l < levels.size(); ++l) digits |= uint64_t{levels[l]} << 16 * l;
  return digits;
}

}  // namespace

Builder::Span Builder::Span::sub(uint32_t from, uint32_t to, uint32_t k) const {
  Span out = *this;
  if (cuts) {
    out.first = first + from * (blocks / k);
    out.blocks = (to - from) * (blocks / k);
    out.begin = base + (*cuts)[out.first];
    out.count = (*cuts)[out.first + out.blocks] - (*cuts)[out.first];
  } else {
    const Split split{count, k};
    out.begin = begin + split.begin(from);
    out.count = split.begin(to) - split.begin(from);
  }
  return out;
}

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
  std::size_t exchanges = 0;
  for (std::size_t p = 0; p < phases.size(); ++p) {
    const Phase::Kind kind = phases[p].kind;
    exchanges += kind == Phase::Kind::kAllToAll ? 1 : 0;
    if (kind == Phase::Kind::kReduceScatter || kind == Phase::Kind::kScatter) gathers.push_back(p);
    if (kind == Phase::Kind::kSortPart) gathers.insert(gathers.end(), phases[p].levels.size(), p);
    if (kind != Phase::Kind::kAllGather) continue;
    if (!gathers.empty()) {
      gathers.pop_back();
      continue;
    }
    for (const auto &group : phases[p].groups) {
      const auto k = static_cast<uint32_t>(group.size());
      for (uint32_t i = 0; i < k; ++i) narrow(group[i], i, k);
    }
  }
  if (exchanges > 0) {
    for (uint32_t rank = 0; rank < held_.size(); ++rank) held_[rank].results = scratch(rank, count);
  }
  for (const Phase &phase : phases) {
    if (phase.kind == Phase::Kind::kAllToAll) {
      --exchanges;
      for (Held &held : held_) held.more_exchanges = exchanges > 0;
    }
    for (std::size_t g = 0; g < phase.groups.size(); ++g) {
      phase.kind == Phase::Kind::kScatter ? scatter(phase.groups[g], phase.root, g == phase.root_group)
                                          : run(phase, phase.groups[g]);
    }
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
  held.outer.push_back(held);
  held.become(held.part(position, k));
}
Builder::Span Builder::widen(uint32_t rank) {
  Span outer = std::move(held_[rank].outer.back());
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
    case Phase::Kind::kScatter:
      return;
    case Phase::Kind::kAllToAll:
      return all_to_all(group);
    case Phase::Kind::kSort:
    case Phase::Kind::kSortPart:
      return sort(group, phase.levels, phase.kind == Phase::Kind::kSortPart);
    case Phase::Kind::kUnsort:
    case Phase::Kind::kUnsortPart:
      return unsort(group, phase.levels, phase.kind == Phase::Kind::kUnsortPart);
  }
}

void Builder::ring_scatter(const std::vector<uint32_t> &group) {
  const auto k = static_cast<uint32_t>(group.size());
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t rank = group[i], next = group[(i + 1) % k], previous = group[(i + k - 1) % k];
    Held &held = held_[rank];
    uint64_t slot = 0;
    for (uint32_t j = 0; j < k; ++j) slot = std::max(slot, held.part(j, k).count);
    const uint64_t slots[2] = {scratch(rank, slot), scratch(rank, slot)};
    uint32_t reduced[2] = {kNone, kNone};
    uint32_t last = held.ready;
    for (uint32_t s = 0; s + 1 < k; ++s) {
      const uint32_t out = (i + 2 * k - 1 - s) % k, in = (i + 2 * k - 2 - s) % k;
      const Span outgoing = held.part(out, k), incoming = held.part(in, k);
      send(rank, next, outgoing.begin, outgoing.count, last);
      const uint32_t got = receive(rank, previous, slots[s % 2], incoming.count, reduced[s % 2]);
      last = reduced[s % 2] = reduce(rank, incoming.begin, slots[s % 2], incoming.count, got, held.ready);
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
    const Span outer = widen(rank);
    uint32_t last = held.ready;
    for (uint32_t s = 0; s + 1 < k; ++s) {
      const uint32_t out = (i + k - s) % k, in = (i + 2 * k - s - 1) % k;
      const Span outgoing = outer.part(out, k), incoming = outer.part(in, k);
      send(rank, next, outgoing.begin, outgoing.count, last);
      last = receive(rank, previous, incoming.begin * size_, incoming.count, kNone);
    }
    held.become(outer);
    held.ready = joined(rank, last, held.ready);
  }
}

void Builder::direct_scatter(const std::vector<uint32_t> &group) {
  const auto k = static_cast<uint32_t>(group.size());
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t rank = group[i];
    Held &held = held_[rank];
    const Span part = held.part(i, k);
    std::vector<uint32_t> got(k);
    std::vector<uint64_t> slots(k);
    for (uint32_t d = 1; d < k; ++d) {
      const uint32_t to = (i + d) % k, from = (i + k - d) % k;
      const Span outgoing = held.part(to, k);
      send(rank, group[to], outgoing.begin, outgoing.count, held.ready);
      slots[from] = scratch(rank, part.count);
      got[from] = receive(rank, group[from], slots[from], part.count, kNone);
    }
    uint32_t last = held.ready;
    for (uint32_t d = 1; d < k; ++d) {
      const uint32_t from = (i + d) % k;
      last = reduce(rank, part.begin, slots[from], part.count, got[from], last);
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
    const Span outer = widen(rank);
    uint32_t all = held.ready;
    for (uint32_t d = 1; d < k; ++d) {
      const uint32_t to = (i + d) % k, from = (i + k - d) % k;
      send(rank, group[to], held.begin, held.count, held.ready);
      const Span incoming = outer.part(from, k);
      const uint32_t got = receive(rank, group[from], incoming.begin * size_, incoming.count, kNone);
      all = joined(rank, all, got);
    }
    held.become(outer);
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

void Builder::halve(const std::vector<uint32_t> &group, bool in_order) {
  const auto k = static_cast<uint32_t>(group.size());
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t rank = group[i];
    Held &held = held_[rank];
    Span range = held;
    uint32_t parts = k;
    for (const uint32_t bit : bits(k, in_order)) {
      const uint32_t peer = group[i ^ bit];
      const bool upper = (i & bit) != 0;
      const Span own = range.half(parts, upper), other = range.half(parts, !upper);
      send(rank, peer, other.begin, other.count, held.ready);
      const uint64_t slot = scratch(rank, own.count);
      const uint32_t got = receive(rank, peer, slot, own.count, kNone);
      held.ready = reduce(rank, own.begin, slot, own.count, got, held.ready);
      range = own;
      parts /= 2;
    }
    held.outer.push_back(held);
    held.become(range);
  }
}

void Builder::unhalve(const std::vector<uint32_t> &group, bool in_order) {
  const auto k = static_cast<uint32_t>(group.size());
  const std::vector<uint32_t> order = bits(k, in_order);
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t rank = group[i];
    Held &held = held_[rank];
    const Span outer = widen(rank);
    std::vector<Span> ranges{outer};
    uint32_t parts = k;
    for (const uint32_t bit : order) {
      ranges.push_back(ranges.back().half(parts, (i & bit) != 0));
      parts /= 2;
    }
    for (std::size_t step = order.size(); step-- > 0;) {
      parts *= 2;
      const uint32_t peer = group[i ^ order[step]];
      const Span &own = ranges[step + 1], other = ranges[step].half(parts, (i & order[step]) == 0);
      send(rank, peer, own.begin, own.count, held.ready);
      const uint32_t got = receive(rank, peer, other.begin * size_, other.count, kNone);
      held.ready = joined(rank, got, held.ready);
    }
    held.become(outer);
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
    const uint64_t results = held.more_exchanges ? scratch(rank, held.count) : held.results;
    cx_comm_command own{};
    own.op = CX_COMM_COPY;
    own.source = (held.begin + i * block) * size_;
    own.target = results + i * block * size_;
    own.bytes = block * size_;
    uint32_t all = add(rank, own, held.ready, kNone);
    for (uint32_t d = 1; d < k; ++d) {
      const uint32_t to = (i + d) % k, from = (i + k - d) % k;
      send(rank, group[to], held.begin + to * block, block, held.ready);
      const uint32_t got = receive(rank, group[from], results + from * block * size_, block, kNone);
      if (held.more_exchanges) all = joined(rank, all, got);
    }
    if (!held.more_exchanges) continue;
    held.begin = results / size_;
    held.ready = all;
  }
}

void Builder::scatter(const std::vector<uint32_t> &group, uint32_t root, bool has_data) {
  const auto k = static_cast<uint32_t>(group.size());
  for (uint32_t i = 0; i < k; ++i) {
    Held &held = held_[group[i]];
    if (has_data && i == root) {
      for (uint32_t d = 1; d < k; ++d) {
        const uint32_t to = (root + d) % k;
        const Span part = held.part(to, k);
        send(group[i], group[to], part.begin, part.count, held.ready);
      }
    }
    narrow(group[i], i, k);
    if (has_data && i != root) {
      held.ready = receive(group[i], group[root], held.begin * size_, held.count, kNone);
    }
  }
}

void Builder::sort(const std::vector<uint32_t> &group, const std::vector<uint32_t> &levels, bool part_only) {
  const auto k = static_cast<uint32_t>(group.size());
  // All ranks have the same range.
  const Split split{held_[group[0]].count, k};
  std::vector<uint64_t> sizes(k);
  for (uint32_t i = 0; i < k; ++i) sizes[sorted_place(i, levels)] = split.size(i);
  auto cuts = std::make_shared<std::vector<uint64_t>>(1, 0);
  for (const uint64_t size : sizes) cuts->push_back(cuts->back() + size);
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t rank = group[i];
    Held &held = held_[rank];
    const uint64_t to = scratch(rank, held.count);
    cx_comm_command command{};
    if (part_only) {
      command.op = CX_COMM_COPY;
      command.source = (held.begin + split.begin(i)) * size_;
      command.target = to + (*cuts)[sorted_place(i, levels)] * size_;
      command.bytes = split.size(i) * size_;
    } else {
      command.op = CX_COMM_PERMUTE;
      command.source = held.begin * size_;
      command.target = to;
      command.bytes = held.count * size_;
      command.third = packed(levels);
    }
    held.ready = add(rank, command, held.ready, kNone);
    held.natural = held.begin;
    held.begin = held.base = to / size_;
    held.cuts = cuts;
    held.first = 0;
    held.blocks = k;
    if (!part_only) continue;
    uint32_t digits = i;
    for (const uint32_t size : levels) {
      narrow(rank, digits % size, size);
      digits /= size;
    }
  }
}

void Builder::unsort(const std::vector<uint32_t> &group, const std::vector<uint32_t> &levels, bool part_only) {
  const auto k = static_cast<uint32_t>(group.size());
  for (uint32_t i = 0; i < k; ++i) {
    const uint32_t rank = group[i];
    Held &held = held_[rank];
    const Split split{part_only ? held.cuts->back() : held.count, k};
    cx_comm_command command{};
    command.source = held.begin * size_;
    command.bytes = held.count * size_;
    if (part_only) {
      command.op = CX_COMM_COPY;
      command.target = (held.natural + split.begin(i)) * size_;
    } else {
      command.op = CX_COMM_PERMUTE;
      command.peer = 1;
      command.target = held.natural * size_;
      command.third = packed(levels);
    }
    held.ready = add(rank, command, held.ready, kNone);
    held.begin = command.target / size_;
    held.cuts.reset();
  }
}

}  // namespace cx::collective
