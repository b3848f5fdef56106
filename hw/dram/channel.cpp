#include "hw/dram/channel.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

namespace cx::hw {

namespace {

constexpr Ticks kNever = std::numeric_limits<Ticks>::max();
constexpr std::uint32_t kDataBurstsPerEccBurst = 8;  // 8 bits of code for 64 of data

DramTiming checked(const DramTiming &timing, const DramGeometry &geometry, const DramScheduling &scheduling) {
  check(timing);
  check(geometry);
  check(scheduling);
  check_refresh(timing, geometry, scheduling);
  return timing;
}

// Bank groups of consecutive bursts take turns: how many, if the turn is fixed and within one rank, else 0.
std::uint32_t turn_of_groups(const std::vector<std::uint32_t> &pattern, std::uint32_t bank_shift,
                             std::uint32_t group_shift) {
  std::uint32_t turn = 1;
  while (turn < pattern.size() && pattern[turn] >> bank_shift != pattern[0] >> bank_shift) ++turn;
  for (std::uint32_t i = 0; i < pattern.size(); ++i) {
    const std::uint32_t group = pattern[i] >> bank_shift;
    if (group >> group_shift != pattern[0] >> bank_shift >> group_shift) return 0;
    if (group != pattern[i % turn] >> bank_shift) return 0;
    for (std::uint32_t j = 0; j < i && i < turn; ++j) {
      if (pattern[j] >> bank_shift == group) return 0;
    }
  }
  return turn;
}

}  // namespace

DramCounts &DramCounts::operator+=(const DramCounts &other) {
  bursts_read += other.bursts_read;
  bursts_written += other.bursts_written;
  ecc_bursts += other.ecc_bursts;
  hits += other.hits;
  misses += other.misses;
  conflicts += other.conflicts;
  refreshes += other.refreshes;
  turnarounds += other.turnarounds;
  busy += other.busy;
  for (std::size_t i = 0; i < lost.size(); ++i) lost[i] += other.lost[i];
  return *this;
}

namespace {

// Moves [begin, begin + size) to the front where `count` more do not fit behind it.
template <typename T>
void compact(std::vector<T> &store, std::uint32_t &begin, std::uint32_t size, std::uint32_t count) {
  if (begin + size + count <= store.size()) return;
  std::copy(store.begin() + begin, store.begin() + begin + size, store.begin());
  begin = 0;
}

}  // namespace

DramChannel::Ring::Ring(std::uint32_t wanted) : entries(4 * wanted), capacity(wanted) {}

// For so many commands more behind the last.
void DramChannel::Ring::make_room(std::uint32_t count) {
  if (size + count > capacity) {
    const std::uint32_t gone = size + count - capacity;
    begin += gone;
    size -= gone;
    marks = gone < 64 ? marks >> gone : 0;
    falling = gone < 64 ? falling >> gone : 0;
  }
  compact(entries, begin, size, count);
}

DramChannel::Command *DramChannel::Ring::append(std::uint32_t count) {
  make_room(count);
  Command *const first = entries.data() + begin + size;
  size += count;
  return first;
}

std::uint32_t DramChannel::Ring::insert(const Command &command, std::uint32_t position) {
  if (full()) --position;  // the floors let nothing be placed before the oldest that is known
  make_room(1);
  Command *const at = entries.data() + begin + position;
  std::copy_backward(at, entries.data() + begin + size, entries.data() + begin + size + 1);
  *at = command;
  ++size;
  const std::uint64_t below = (std::uint64_t{1} << position) - 1;
  const auto open = [&](std::uint64_t bits) { return (bits & below) | (bits & ~below) << 1; };
  marks = open(marks);
  falling = open(falling);
  return position;
}

// Moves those from `position` on back by `count`; the first of the room between. May hold more than `capacity` until
// trim(); marks are the caller's.
DramChannel::Command *DramChannel::Ring::open(std::uint32_t position, std::uint32_t count) {
  compact(entries, begin, size, 2 * kMemory);
  Command *const at = entries.data() + begin + position;
  Command *const end = entries.data() + begin + size;
  std::copy_backward(at, end, end + count);
  size += count;
  return at;
}

// Returns how many of the oldest went.
std::uint32_t DramChannel::Ring::trim() {
  const std::uint32_t gone = size > capacity ? size - capacity : 0;
  begin += gone;
  size -= gone;
  return gone;
}

std::uint32_t DramChannel::Ring::behind(Ticks time) const {
  const Command *const first = entries.data() + begin;
  if (falling != 0) {
    std::uint32_t position = size;
    while (position > 0 && first[position - 1].at > time) --position;
    return position;
  }
  if (size == 0 || first[size - 1].at <= time) return size;
  std::uint32_t low = 0;
  for (std::uint32_t count = size; count > 0;) {
    const std::uint32_t half = count / 2;
    const bool up = first[low + half].at <= time;
    low = up ? low + half + 1 : low;
    count = up ? count - half - 1 : half;
  }
  return low;
}

// Ring::behind(), or the same by looking at each.
std::uint32_t DramChannel::behind(const Ring &ring, Ticks time) const {
  if (!plain_) return ring.behind(time);
  std::uint32_t position = ring.size;
  while (position > 0 && ring[position - 1].at > time) --position;
  return position;
}

DramChannel::Releases::Releases(std::uint32_t slots) : times(4 * std::size_t{slots}), capacity(slots) {}

Ticks DramChannel::Releases::free_at(std::uint32_t held) const {
  const std::uint32_t slots = capacity - held;
  return size < slots ? 0 : times[begin + size - slots];
}

std::uint32_t DramChannel::Releases::later_than(Ticks time) const {
  std::uint32_t count = 0;
  while (count < size && times[begin + size - 1 - count] > time) ++count;
  return count;
}

// For so many more behind the last, at most `capacity`; the oldest go.
void DramChannel::Releases::make_room(std::uint32_t count) {
  if (size + count > capacity) {
    const std::uint32_t gone = size + count - capacity;
    begin += gone;
    size -= gone;
  }
  compact(times, begin, size, count);
}

// One at `from`, if there is any, is at `to`.
void DramChannel::Releases::put_off(Ticks from, Ticks to) {
  std::uint32_t i = begin + size - later_than(from);
  if (i == begin || times[i - 1] != from) return;
  for (; i < begin + size && times[i] < to; ++i) times[i - 1] = times[i];
  times[i - 1] = to;
}

void DramChannel::Releases::push(Ticks time) {
  if (size == capacity && time <= times[begin]) return;
  make_room(1);
  Ticks *const first = times.data() + begin;
  std::uint32_t i = size++;
  for (; i > 0 && first[i - 1] > time; --i) first[i] = first[i - 1];
  first[i] = time;
}

Ticks DramChannel::Releases::push(Ticks first, Ticks step, Ticks count) {
  if (first < last()) {
    // The later ones move back once.
    const std::uint32_t later = later_than(first);
    const bool behind_all = first + (count - 1) * step <= times[begin + size - later];
    if (!behind_all || count > capacity) {
      Ticks before = 0;
      for (Ticks i = 0; i < count; ++i) {
        before = free_at(0);
        push(first + i * step);
      }
      return before;
    }
    if (count > 1) insert(first, step, static_cast<std::uint32_t>(count - 1), later);
    const Ticks before = free_at(0);
    push(first + (count - 1) * step);
    return before;
  }
  const Ticks known = size + count - 1;  // with all but the last, the oldest first
  const Ticks position = known < capacity ? 0 : known - capacity;
  const Ticks before = known < capacity  ? 0
                       : position < size ? times[begin + position]
                                         : first + (position - size) * step;
  const auto kept = static_cast<std::uint32_t>(std::min<Ticks>(count, capacity));
  make_room(kept);
  Ticks time = first + (count - kept) * step;
  for (std::uint32_t i = 0; i < kept; ++i, time += step) times[begin + size + i] = time;
  size += kept;
  return before;
}

// `count` times, at most `capacity`, that come before the last `later`.
void DramChannel::Releases::insert(Ticks first, Ticks step, std::uint32_t count, std::uint32_t later) {
  const std::uint32_t all = size + count;
  const std::uint32_t gone = all > capacity ? all - capacity : 0;
  compact(times, begin, size, count);
  Ticks *const at = times.data() + begin + (size - later);
  std::copy_backward(at, at + later, at + later + count);
  for (std::uint32_t i = 0; i < count; ++i) at[i] = first + i * step;
  begin += gone;
  size = all - gone;
}

DramChannel::DramChannel(const DramTiming &timing, const DramGeometry &geometry, const DramScheduling &scheduling,
                         std::vector<std::uint32_t> pattern)
    : timing_(checked(timing, geometry, scheduling)),
      geometry_(geometry),
      scheduling_(scheduling),
      pattern_(std::move(pattern)),
      pattern_mask_(static_cast<std::uint32_t>(pattern_.size() - 1)),
      turn_(0),
      bank_shift_(static_cast<std::uint32_t>(std::countr_zero(geometry.banks))),
      group_shift_(static_cast<std::uint32_t>(std::countr_zero(geometry.bank_groups))),
      ccd_s_{timing.ccd_s, timing.ccd_s_wr},
      ccd_l_{timing.ccd_l, timing.ccd_l_wr},
      other_rank_(timing.burst + timing.cs),
      nearest_(std::min<Ticks>(timing.ccd_s, timing.ccd_s_wr)),
      widest_(std::max<Ticks>({timing.ccd_l, timing.ccd_l_wr, other_rank_})),
      window_(static_cast<std::uint32_t>((widest_ + nearest_ - 1) / nearest_ + 1)),
      banks_(geometry.all_banks()),
      cas_(kMemory),
      activates_(geometry.ranks, Ring(kActivates)),
      activate_floor_(geometry.ranks, 0),
      reads_(scheduling.read_window),
      writes_(scheduling.write_window),
      refreshes_(scheduling.refresh == DramRefresh::per_bank ? geometry.bank_refreshes() : 1) {
  if (!std::has_single_bit(pattern_.size())) throw std::invalid_argument("dram: the pattern is no power of two");
  for (const std::uint32_t bank : pattern_) {
    if (bank >= banks_.size()) throw std::invalid_argument("dram: the pattern names a bank that does not exist");
  }
  turn_ = turn_of_groups(pattern_, bank_shift_, group_shift_);
  if (scheduling.refresh == DramRefresh::per_bank) {
    refresh_interval_ = timing.refi_pb;
    refresh_period_ = refresh_interval_ * refreshes_.size();
    refresh_time_ = timing.rfc_pb;
    refresh_close_ = timing.rp;
  } else {
    refresh_period_ = timing.refi;
    refresh_time_ = timing.rfc;
    refresh_close_ = timing.rp_all;
  }
  const std::uint32_t own_groups = geometry.bank_groups / geometry.refresh_groups;
  for (std::uint32_t bank = 0; bank < banks_.size(); ++bank) {
    std::uint32_t &refresh = banks_[bank].refresh;
    if (refreshes_.size() > 1) {
      refresh = group_of(bank) % own_groups * geometry.banks + bank % geometry.banks;
    }
    refreshes_[refresh].banks.push_back(bank);
  }
  const bool off = scheduling.refresh == DramRefresh::none || refresh_period_ == 0;
  for (std::size_t i = 0; i < refreshes_.size(); ++i) {
    refreshes_[i].next = off ? kNever : refreshes_.size() == 1 ? refresh_period_ : (i + 1) * refresh_interval_;
  }
  for (auto &last : group_last_) last.assign(geometry.ranks * geometry.bank_groups, 0);
  for (auto &last : rank_last_) last.assign(geometry.ranks, 0);
}

void DramChannel::reset() {
  const bool plain = plain_;
  *this = DramChannel(timing_, geometry_, scheduling_, std::move(pattern_));
  plain_ = plain;
}

// CAS to CAS of one direction.
Ticks DramChannel::same_way(Direction direction, std::uint32_t group_a, std::uint32_t group_b) const {
  if (group_a == group_b) return ccd_l_[direction];
  return rank_of(group_a) == rank_of(group_b) ? ccd_s_[direction] : other_rank_;
}

// CAS to CAS of the other direction.
Ticks DramChannel::turned(Direction before, std::uint32_t group_before, std::uint32_t group_after) const {
  const bool same_rank = rank_of(group_before) == rank_of(group_after);
  if (before == reading) {
    return same_rank ? timing_.rtw : timing_.cl + timing_.burst + timing_.cs - std::min(timing_.cwl, timing_.cl);
  }
  const Ticks written = timing_.cwl + timing_.burst;
  if (!same_rank) return std::max<Ticks>(written + timing_.cs - std::min<Ticks>(timing_.cl, written), timing_.burst);
  return written + (group_before == group_after ? timing_.wtr_l : timing_.wtr_s);
}

DramChannel::Slot DramChannel::append_cas(Direction direction, Ticks at, std::uint32_t group, DramLoss reason) const {
  Slot slot{at, cas_.size, 0, reason};
  const auto not_before = [&](Ticks time, DramLoss why) {
    if (time <= slot.at) return;
    slot.at = time;
    slot.reason = why;
  };
  if (cas_.size == 0) return slot;
  const auto &ranks = rank_last_[direction];
  for (std::uint32_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r] == 0) continue;
    const bool same = r == rank_of(group);
    not_before(ranks[r] - 1 + (same ? ccd_s_[direction] : other_rank_),
               same ? DramLoss::bank_group : DramLoss::turnaround);
  }
  if (group_last_[direction][group] != 0) {
    not_before(group_last_[direction][group] - 1 + ccd_l_[direction], DramLoss::bank_group);
  }
  if (cas_.back().direction == direction) return slot;
  const Direction other = cas_.back().direction;
  for (std::uint32_t r = 0; r < ranks.size(); ++r) {
    const Ticks last = rank_last_[other][r];
    // Any other group of that rank.
    const std::uint32_t there = r == rank_of(group) && geometry_.bank_groups > 1
                                    ? group ^ 1u
                                    : (r == rank_of(group) ? group : r << group_shift_);
    if (last != 0) not_before(last - 1 + turned(other, there, group), DramLoss::turnaround);
  }
  const Ticks last = group_last_[other][group];
  if (last != 0) not_before(last - 1 + turned(other, group, group), DramLoss::turnaround);
  return slot;
}

// A command that follows its neighbour of the same direction at `nearest_`, and not because of its bank group, is
// plain. Nothing fits before it, and where all within `widest_` are plain, a search comes out of it at the same time
// whatever led to it: at its own, or ccd_l behind the last burst of the group. So the search may go on from the last
// plain one.
void DramChannel::skip_plain(Direction direction, std::uint32_t group, Slot &slot) const {
  const std::uint32_t position = slot.position;
  if (position == cas_.size || position < window_ || window_ >= kMemory) return;
  const std::uint64_t window = (std::uint64_t{1} << window_) - 1;
  if ((~cas_.marks >> (position + 1 - window_) & window) != 0) return;
  const Command &here = cas_[position];
  if (here.direction == direction && rank_of(here.group) != rank_of(group)) return;
  const auto more = static_cast<std::uint32_t>(std::countr_one(cas_.marks >> position));
  if (more < 2) return;
  slot.position = position + more - 1;
  slot.at = cas_[slot.position - 1].at;
}

void DramChannel::mark_cas(std::uint32_t from, std::uint32_t to) {
  to = std::min(to, cas_.size);
  for (std::uint32_t i = std::max(from, 1u); i < to; ++i) {
    const Command &left = cas_[i - 1];
    const Command &right = cas_[i];
    const std::uint64_t bit = std::uint64_t{1} << i;
    const bool plain =
        right.at == left.at + nearest_ && right.direction == left.direction && right.reason != DramLoss::bank_group;
    cas_.marks = plain ? cas_.marks | bit : cas_.marks & ~bit;
    cas_.falling = right.at < left.at ? cas_.falling | bit : cas_.falling & ~bit;
  }
  cas_.marks &= ~std::uint64_t{1};
  cas_.falling &= ~std::uint64_t{1};
}

// A burst of the other direction that is known between two of `direction`, or behind one as the last: a controller
// would have put it off to the others of its direction.
bool DramChannel::stray(Direction direction, std::uint32_t i) const {
  if (i == 0 || cas_[i].direction == direction || cas_[i].reason == DramLoss::bank_group) return false;
  return cas_[i - 1].direction == direction && (i + 1 == cas_.size || cas_[i + 1].direction == direction);
}

// `opening`: the burst that its row was opened for.
DramChannel::Slot DramChannel::find_cas(Direction direction, Ticks ready, std::uint32_t group, DramLoss reason,
                                        bool opening) const {
  const Ticks from = std::max(ready, cas_floor_);
  // Behind the last gap nothing gives way.
  if (cas_.size == 0 || from >= dense_from_) return append_cas(direction, from, group, reason);
  Slot slot{from, behind(cas_, from), 0, reason};
  for (;;) {
    if (!plain_) skip_plain(direction, group, slot);
    const std::uint32_t position = slot.position;
    if (position == cas_.size) return append_cas(direction, slot.at, group, slot.reason);
    const Command &right = cas_[position];
    const bool alone = position > 0 && cas_[position - 1].direction != direction && right.direction != direction &&
                       right.reason != DramLoss::bank_group;
    Ticks next = slot.at;
    // Bursts between two of the other direction: README.md.
    for (std::uint32_t i = position; i > 0 && cas_[i - 1].at + widest_ > slot.at; --i) {
      const Command &left = cas_[i - 1];
      next =
          std::max(next, left.at + (left.direction == direction ? same_way(direction, left.group, group) : nearest_));
    }
    if (position > 0 && !alone && cas_[position - 1].direction != direction && !stray(direction, position - 1)) {
      next =
          std::max(next, cas_[position - 1].at + turned(cas_[position - 1].direction, cas_[position - 1].group, group));
    }
    if (next == slot.at) {
      if (right.direction != direction && !stray(direction, position)) {
        if (right.at < slot.at + turned(direction, group, right.group)) next = right.at + nearest_;
      }
      if (next == slot.at && push_cas(direction, slot, group, opening)) return slot;
      if (next == slot.at) {
        next = right.at + (right.direction == direction ? same_way(direction, right.group, group) : nearest_);
        next = std::max(next, slot.at + 1);
      }
    }
    const bool later = next > slot.at;
    slot.at = next;
    while (slot.position < cas_.size && cas_[slot.position].at <= slot.at) {
      if (opening && later && cas_[slot.position].at == slot.at && gives_way_by_group(direction, group, slot.position))
        break;
      ++slot.position;
    }
  }
}

// Whether a command lets a burst of its bank group that opens its row take its place.
bool DramChannel::gives_way_by_group(Direction direction, std::uint32_t group, std::uint32_t position) const {
  const Command &command = cas_[position];
  if (ccd_l_[direction] == ccd_s_[direction] || command.direction != direction || command.group != group ||
      command.opening)
    return false;
  if (position == 0) return true;
  const Command &left = cas_[position - 1];
  return command.at != left.at + nearest_ || left.direction != direction || command.reason == DramLoss::bank_group;
}

// Bursts that are known but later give way to one that can go before them, as far as none gives way by more than a
// burst; those on open rows by ccd_l to one that opens its row.
bool DramChannel::push_cas(Direction direction, Slot &slot, std::uint32_t group, bool opening) const {
  slot.pushed = 0;
  Ticks unsettled = slot.at;  // the last that gave way
  const auto moved = [&](std::uint32_t i) {
    return cas_[i].at + (i < slot.position + slot.pushed ? cas_push_[i - slot.position] : 0);
  };
  for (std::uint32_t i = slot.position; i < cas_.size; ++i) {
    const Command &later = cas_[i];
    Ticks at = later.at;
    for (std::uint32_t j = i; j > slot.position && moved(j - 1) + widest_ > at; --j) {
      const Command &left = cas_[j - 1];
      if (left.direction == later.direction)
        at = std::max(at, moved(j - 1) + same_way(left.direction, left.group, later.group));
    }
    if (later.direction == direction) {
      at = std::max(at, slot.at + same_way(direction, group, later.group));
    } else if (i == slot.position) {
      at = std::max(at, slot.at + nearest_);
    }
    const Ticks push = at - later.at;
    const Ticks most = later.direction != direction ? nearest_ / 2
                       : opening && !later.opening  ? std::max(nearest_, ccd_l_[direction])
                                                    : nearest_;
    if (push > most) return false;
    if (push == 0 && later.at >= unsettled + widest_ && cas_.falling == 0 && !plain_) break;
    cas_push_[i - slot.position] = push;
    slot.pushed = i - slot.position + 1;
    if (push > 0) unsettled = std::max(unsettled, at);
  }
  return true;
}

bool DramChannel::push_activates(Slot &slot, std::uint32_t group) const {
  const Ring &ring = activates_[rank_of(group)];
  slot.pushed = 0;
  const std::uint32_t position = slot.position;
  std::array<Ticks, kActivates + 8> times;
  std::array<std::uint32_t, kActivates + 8> groups;
  std::uint32_t count = 0;
  for (std::uint32_t i = position - std::min<std::uint32_t>(position, 4); i < position; ++i, ++count) {
    times[count] = ring[i].at;
    groups[count] = ring[i].group;
  }
  times[count] = slot.at;
  groups[count++] = group;
  std::uint32_t unmoved = 0;  // in a row
  for (std::uint32_t i = position; i < ring.size; ++i, ++count) {
    Ticks at =
        std::max(ring[i].at, times[count - 1] + (groups[count - 1] == ring[i].group ? timing_.rrd_l : timing_.rrd_s));
    if (count >= 2 && groups[count - 2] == ring[i].group) at = std::max(at, times[count - 2] + timing_.rrd_l);
    if (count >= 4) at = std::max(at, times[count - 4] + timing_.faw);
    times[count] = at;
    groups[count] = ring[i].group;
    const Ticks push = at - ring[i].at;
    if (push > timing_.faw / 2) return false;
    activate_push_[i - position] = push;
    slot.pushed = i - position + 1;
    unmoved = push == 0 ? unmoved + 1 : 0;
    if (unmoved == 4 && !plain_) break;  // those behind had room before
  }
  return true;
}

// An activate that is as early as the one before it or the fourth before it let it is tight: none fits before it.
void DramChannel::mark_activates(Ring &ring, std::uint32_t from, std::uint32_t to) const {
  to = std::min(to, ring.size);
  for (std::uint32_t i = from; i < to; ++i) {
    const bool tight = (i >= 1 && ring[i].at <= ring[i - 1].at + timing_.rrd_s) ||
                       (i >= 4 && ring[i].at <= ring[i - 4].at + timing_.faw);
    const std::uint64_t bit = std::uint64_t{1} << i;
    ring.marks = tight ? ring.marks | bit : ring.marks & ~bit;
  }
}

DramChannel::Slot DramChannel::find_activate(Ticks ready, std::uint32_t group) const {
  const std::uint32_t rank = rank_of(group);
  const Ring &ring = activates_[rank];
  const auto apart = [&](std::uint32_t i) -> Ticks { return ring[i].group == group ? timing_.rrd_l : timing_.rrd_s; };
  Slot slot{std::max(ready, activate_floor_[rank]), ring.size, 0, DramLoss::row};
  slot.position = behind(ring, slot.at);
  for (;;) {
    // Rings of activates are shorter than their marks.
    if (!plain_) slot.position += static_cast<std::uint32_t>(std::countr_one(ring.marks >> slot.position));
    const std::uint32_t position = slot.position;
    Ticks next = position == 0 ? slot.at : std::max(slot.at, ring[position - 1].at);
    for (std::uint32_t i = position; i > 0 && ring[i - 1].at + timing_.rrd_l > slot.at; --i) {
      next = std::max(next, ring[i - 1].at + apart(i - 1));
    }
    if (position >= 4) next = std::max(next, ring[position - 4].at + timing_.faw);
    if (position == ring.size) {
      slot.at = next;
      slot.pushed = 0;
      return slot;
    }
    if (next < ring[position].at) {
      slot.at = next;
      if (push_activates(slot, group)) return slot;
      next = ring[position].at + apart(position);
    }
    slot.at = next;
    while (slot.position < ring.size && ring[slot.position].at <= slot.at) ++slot.position;
  }
}

void DramChannel::put_activate(const Slot &slot, std::uint32_t group) {
  const std::uint32_t rank = rank_of(group);
  Ring &ring = activates_[rank];
  for (std::uint32_t i = 0; i < slot.pushed; ++i) ring[slot.position + i].at += activate_push_[i];
  const std::uint32_t position =
      ring.insert({slot.at, static_cast<std::uint16_t>(group), reading, DramLoss::idle}, slot.position);
  // The four behind the last that gave way are among the pushed. The first four of a full ring have lost those before
  // them, but nothing is placed there.
  mark_activates(ring, position, position + slot.pushed + 1);
  // Four of those that are known are before any later one.
  if (ring.full()) activate_floor_[rank] = std::max(activate_floor_[rank], ring[3].at);
}

void DramChannel::put_cas(Direction direction, const Slot &slot, std::uint32_t group, Ticks earliest, bool opening) {
  DramLoss reason = slot.reason;
  const auto note = [&](Direction d, std::uint32_t g, Ticks at) {
    group_last_[d][g] = std::max(group_last_[d][g], at + 1);
    rank_last_[d][rank_of(g)] = std::max(rank_last_[d][rank_of(g)], at + 1);
  };
  counts_.busy += timing_.burst;
  if (slot.position == cas_.size) {
    if (cas_.size == 0 || slot.at - cas_.back().at > nearest_) dense_from_ = slot.at;
    if (cas_.size > 0 && cas_.back().direction != direction) ++counts_.turnarounds;
    const Ticks gap = slot.at - bus_end_;
    const Ticks unasked = earliest > bus_end_ ? std::min(earliest, slot.at) - bus_end_ : 0;
    counts_[DramLoss::idle] += static_cast<std::int64_t>(unasked);
    if (gap == unasked) reason = DramLoss::idle;
    counts_[reason] += static_cast<std::int64_t>(gap - unasked);
    bus_end_ = slot.at + timing_.burst;
  } else {
    reason = cas_[slot.position].reason;
    counts_[reason] -= timing_.burst;
    Ticks before = 0;
    Ticks dense = dense_from_;
    for (std::uint32_t i = 0; i < slot.pushed; ++i) {
      Command &later = cas_[slot.position + i];
      counts_[later.reason] += static_cast<std::int64_t>(cas_push_[i]) - static_cast<std::int64_t>(before);
      before = cas_push_[i];
      if (before == 0) continue;
      if (later.at == dense_from_) dense = later.at + before;
      later.at += before;
      note(later.direction, later.group, later.at);
    }
    if (slot.pushed == cas_.size - slot.position) {
      bus_end_ += before;
    } else {
      counts_[cas_[slot.position + slot.pushed].reason] -= static_cast<std::int64_t>(before);
    }
    dense_from_ = dense;
  }
  const std::uint32_t position =
      cas_.insert({slot.at, static_cast<std::uint16_t>(group), direction, reason, opening}, slot.position);
  mark_cas(position, position + slot.pushed + 2);
  if (cas_.full()) cas_floor_ = std::max(cas_floor_, cas_[0].at + widest_);
  note(direction, group, slot.at);
}

// Slots of those that give way to the burst come free later.
void DramChannel::put_off_releases(Direction direction, const Slot &slot) {
  Releases &releases = direction == reading ? reads_ : writes_;
  const Ticks overtaken = direction == reading ? 0 : overtaken_;
  for (std::uint32_t i = 0; i < slot.pushed; ++i) {
    const Command &later = cas_[slot.position + i];
    if (cas_push_[i] == 0 || later.direction != direction) continue;
    const Ticks release = later.at - std::min(later.at, overtaken);
    releases.put_off(release, release + cas_push_[i]);
  }
}

void DramChannel::one_refresh(Refresh &refresh) {
  Ticks closed = refresh.next;
  bool open = false;
  for (const std::uint32_t index : refresh.banks) {
    const Row &row = banks_[index].now;
    if (row.row < 0) continue;
    open = true;
    closed = std::max(closed, row.close_ready);
  }
  Ticks start = closed + (open ? refresh_close_ : 0);
  for (const std::uint32_t index : refresh.banks) {
    const Row &row = banks_[index].now;
    start = std::max(start, row.row < 0 ? row.open_ready : row.activated + timing_.rc);
  }
  refresh.ended = start + refresh_time_;
  for (const std::uint32_t index : refresh.banks) {
    Bank &bank = banks_[index];
    bank.before = bank.now;
    bank.now.row = -1;
    bank.now.open_ready = refresh.ended;
  }
  refresh.last = refresh.next;
  refresh.closed_by = closed;
  refresh.next += refresh_period_;
  if (refresh_interval_ == 0) ++counts_.refreshes;
}

void DramChannel::refresh_up_to(Refresh &refresh, Ticks time) {
  while (refresh.next <= time) {
    one_refresh(refresh);
    // Those of a long idle time change nothing but their number.
    if (refresh.next <= time && refresh.ended <= refresh.next) {
      const Ticks idle = (time - refresh.next) / refresh_period_;
      refresh.next += idle * refresh_period_;
      if (refresh_interval_ == 0) counts_.refreshes += idle;
    }
  }
}

// Refreshes of single banks are known by their time alone, whether or not their banks are used.
void DramChannel::count_refreshes(Ticks time) {
  if (refresh_interval_ > 0) counts_.refreshes = std::max<std::uint64_t>(counts_.refreshes, time / refresh_interval_);
}

// No bank is opened for `rrefd` behind a refresh of another; the refresh counts from when it is due.
Ticks DramChannel::behind_refreshes(Ticks activate) const {
  if (refresh_interval_ == 0 || activate < refresh_interval_) return activate;
  const Ticks since = activate % refresh_interval_;
  return since < timing_.rrefd ? activate + timing_.rrefd - since : activate;
}

// Places a burst if its first command comes before `end` and its row can be closed by `closed_by`.
bool DramChannel::try_place(Direction direction, Ticks earliest, std::uint32_t bank_index, std::uint32_t row,
                            Row &state, Ticks end, Ticks closed_by, bool after_refresh, Placed &placed) {
  const std::uint32_t group = group_of(bank_index);
  DramLoss reason = after_refresh ? DramLoss::refresh : DramLoss::row;
  if (state.row == row) {
    const Slot slot = find_cas(direction, std::max(earliest, state.cas_ready[direction]), group, reason, false);
    if (slot.at >= end || slot.at + held(direction) > closed_by) return false;
    placed = {slot.at, slot.at};
    state.close_ready = std::max(state.close_ready, slot.at + held(direction));
    put_cas(direction, slot, group, earliest, false);
    ++counts_.hits;
    return true;
  }
  const bool closed = state.row < 0;
  const Ticks ready = closed
                          ? std::max(earliest, state.open_ready)
                          : std::max(std::max(earliest, state.close_ready) + timing_.rp, state.activated + timing_.rc);
  Slot activate = find_activate(ready, group);
  for (Ticks later; (later = behind_refreshes(activate.at)) != activate.at;) activate = find_activate(later, group);
  if (activate.at >= end || activate.at + timing_.ras > closed_by) return false;
  if (activate.at > ready) reason = DramLoss::activate;
  if (closed && activate.at == ready && ready == refreshes_[banks_[bank_index].refresh].ended && ready > earliest)
    reason = DramLoss::refresh;
  const Ticks cas_ready = activate.at + (direction == reading ? timing_.rcd_rd : timing_.rcd_wr);
  const Slot slot = find_cas(direction, cas_ready, group, reason, true);
  if (closed_by != kNever && slot.at + held(direction) > closed_by) return false;
  ++(closed ? counts_.misses : counts_.conflicts);
  put_activate(activate, group);
  state.row = row;
  state.activated = activate.at;
  state.cas_ready = {activate.at + timing_.rcd_rd, activate.at + timing_.rcd_wr};
  state.close_ready = std::max(activate.at + timing_.ras, slot.at + held(direction));
  placed = {slot.at, activate.at};
  put_off_releases(direction, slot);
  put_cas(direction, slot, group, earliest, true);
  return true;
}

void DramChannel::close_row(Row &row, Ticks earliest) const {
  row.row = -1;
  row.open_ready = std::max(std::max(earliest, row.close_ready) + timing_.rp, row.activated + timing_.rc);
}

DramChannel::Placed DramChannel::place(Direction direction, Ticks earliest, std::uint32_t bank_index,
                                       std::uint32_t row) {
  Bank &bank = banks_[bank_index];
  Refresh &refresh = refreshes_[bank.refresh];
  Placed placed;
  // No burst goes before those that are forgotten.
  if (earliest < refresh.last && cas_floor_ < refresh.closed_by &&
      try_place(direction, earliest, bank_index, row, bank.before, refresh.last, refresh.closed_by, false, placed)) {
    return placed;
  }
  bool refreshed = false;
  while (!try_place(direction, earliest, bank_index, row, bank.now, refresh.next, kNever, refreshed, placed)) {
    // The row is closed for the burst already, which then finds that the refresh is due.
    if (bank.now.row >= 0 && bank.now.row != row && std::max(earliest, bank.now.close_ready) < refresh.next)
      close_row(bank.now, earliest);
    one_refresh(refresh);
    refresh_up_to(refresh, earliest);
    refreshed = true;
  }
  count_refreshes(placed.cas);
  return placed;
}

// The marks of a ring that has `counts[0]` commands more before the gap, and `counts[1]` behind all others; each of
// them is plain or not.
void DramChannel::mark_runs(std::uint32_t gap, const std::array<std::uint32_t, 2> &counts, bool plain_before,
                            bool plain_behind) {
  using Bits = unsigned __int128;
  const auto ones = [](std::uint32_t count) { return (Bits{1} << count) - 1; };
  const std::uint32_t behind = cas_.size - counts[1];
  Bits marks = cas_.marks & ones(gap);
  if (plain_before) marks |= ones(counts[0]) << gap;
  marks |= Bits{cas_.marks >> gap} << (gap + counts[0]);
  if (plain_behind) marks |= ones(counts[1]) << behind;
  const std::uint32_t gone = cas_.trim();
  cas_.marks = static_cast<std::uint64_t>(marks >> gone) & ~std::uint64_t{1};
  const std::uint32_t head = gap + counts[0];
  if (head > gone) mark_cas(head - gone, head - gone + 1);
}

// The first gap between known bursts that a burst of the group may fit into, as the position of the command behind it;
// the number of commands if there is none. Any gap when in doubt.
std::uint32_t DramChannel::first_gap(Direction direction, std::uint32_t group, Ticks from) const {
  const std::uint32_t first = cas_.behind(from);
  if (first == cas_.size || first == 0) return first;
  for (std::uint64_t gaps = ~cas_.marks & ~std::uint64_t{0} << first; gaps != 0; gaps &= gaps - 1) {
    const auto position = static_cast<std::uint32_t>(std::countr_zero(gaps));
    if (position >= cas_.size) break;
    const Command &left = cas_[position - 1];
    const Command &right = cas_[position];
    Ticks at = std::max(from, left.at);
    for (std::uint32_t j = position; j > 0 && cas_[j - 1].at + widest_ > at; --j) {
      const Command &before = cas_[j - 1];
      at = std::max(at,
                    before.at + (before.direction == direction ? same_way(direction, before.group, group) : nearest_));
    }
    const bool turns = left.direction != direction && !stray(direction, position - 1) &&
                       (right.direction == direction || right.reason == DramLoss::bank_group);
    if (turns) at = std::max(at, left.at + turned(left.direction, left.group, group));
    // Beyond the last: it is no turn of the bus there, but the search has come so far.
    if (at < right.at || at > cas_.back().at + ccd_s_[direction]) return position;
  }
  return cas_.size;
}

// Whether one of the strip's bursts from i on may fit between known ones; its rows are open. True when in doubt.
bool DramChannel::fits_between(Direction direction, const DramStrip &strip, std::uint32_t i, Ticks earliest) const {
  if (cas_.falling != 0) return true;
  const auto banks = static_cast<std::uint32_t>(pattern_.size());
  for (std::uint32_t k = 0; k < banks; ++k) {
    const std::uint32_t bank = bank_of(strip, i + k);
    const Ticks from = std::max({earliest, cas_floor_, banks_[bank].now.cas_ready[direction]});
    if (first_gap(direction, group_of(bank), from) != cas_.size) return true;
  }
  return false;
}

// How many bursts from i on it takes to open the rows of the strip that are not open.
std::uint32_t DramChannel::closed_banks(const DramStrip &strip, std::uint32_t i) const {
  auto k = static_cast<std::uint32_t>(pattern_.size());
  while (k > 0 && banks_[bank_of(strip, i + k - 1)].now.row == strip.row) --k;
  return k;
}

// Places bursts [i, i + result) of a strip whose rows are all open and whose bursts follow one another at ccd_s.
// `until` as in place_strip.
std::uint32_t DramChannel::run(Direction direction, const DramStrip &strip, std::uint32_t i, std::uint32_t limit,
                               Ticks earliest, Ticks until) {
  const auto banks = static_cast<std::uint32_t>(pattern_.size());
  const Ticks step = ccd_s_[direction];
  const Ticks last = cas_.back().at;
  const Ticks overtaken = direction == reading ? 0 : overtaken_;
  if (cas_.back().direction != direction || last < overtaken) return 0;
  // After an idle time the first comes when it is asked for.
  const Ticks first = std::max(last + step, earliest);
  const bool after_idle = first > last + step;
  if (earliest > last && (until != kNever || (step > timing_.burst && earliest <= last + step))) return 0;
  Ticks soonest = kNever;
  Ticks refreshed = kNever;  // the first bank that is
  for (std::uint32_t k = 0; k < banks; ++k) {
    const Bank &bank = banks_[bank_of(strip, i + k)];
    const Row &state = bank.now;
    const Refresh &refresh = refreshes_[bank.refresh];
    if ((earliest < refresh.last && cas_floor_ < refresh.closed_by) || first - step >= refresh.next) return 0;
    refreshed = std::min(refreshed, refresh.next);
    if (state.cas_ready[direction] > first) return 0;
    soonest = std::min(soonest, state.cas_ready[direction]);
  }
  if (std::max({soonest, earliest, cas_floor_}) < dense_from_ && fits_between(direction, strip, i, earliest)) return 0;
  // The first round of the bank groups; later ones follow at turn_ * step.
  for (std::uint32_t k = 0; k < turn_; ++k) {
    const Ticks group_last = group_last_[direction][group_of(bank_of(strip, i + k))];
    if (group_last + ccd_l_[direction] > first + k * step + 1) return 0;
  }
  const std::uint32_t rank = rank_of(group_of(bank_of(strip, i)));
  for (std::uint32_t r = 0; r < rank_last_[direction].size(); ++r) {
    if (r != rank && rank_last_[direction][r] + other_rank_ > first + 1) return 0;
  }
  Ticks end = refreshed - 1;
  if (until != kNever) end = std::min(end, until - 1 - std::min<Ticks>(until - 1, timing_.burst) + step);
  if (end < first) return 0;
  const Ticks count = std::min<Ticks>((end - first) / step + 1, limit);
  if (count < 4) return 0;

  const auto at = [&](Ticks k) { return first + k * step; };
  const auto bank_at = [&](Ticks k) { return bank_of(strip, i + static_cast<std::uint32_t>(k)); };
  const DramLoss reason = step > timing_.burst ? DramLoss::bank_group : DramLoss::idle;
  const auto kept = static_cast<std::uint32_t>(std::min<Ticks>(count, kMemory));
  // One by one, each of those that are forgotten was the oldest for a while; they are not in order where some fall.
  if (cas_.falling != 0 && cas_.size + count > cas_.capacity) {
    const Ticks forgotten = std::min<Ticks>(cas_.size + count - cas_.capacity + 1, cas_.size);
    for (std::uint32_t j = cas_.full() ? 1 : 0; j < forgotten; ++j) {
      cas_floor_ = std::max(cas_floor_, cas_[j].at + widest_);
    }
  }
  Command *command = cas_.append(kept);
  for (Ticks k = count - kept; k < count; ++k)
    *command++ = {at(k), static_cast<std::uint16_t>(group_of(bank_at(k))), direction,
                  k == 0 && after_idle ? DramLoss::idle : reason};
  const std::uint32_t begin = cas_.size - kept;
  mark_cas(begin, begin + 1);
  if (kept > 1) {
    const std::uint64_t others = (~std::uint64_t{0} >> (64 - (kept - 1))) << (begin + 1);
    cas_.marks = step == nearest_ && reason == DramLoss::idle ? cas_.marks | others : cas_.marks & ~others;
    cas_.falling &= ~others;
  }
  if (step > nearest_) {
    dense_from_ = at(count - 1);
  } else if (after_idle) {
    dense_from_ = first;
  }
  if (cas_.full()) cas_floor_ = std::max(cas_floor_, cas_[0].at + widest_);
  Releases &releases = direction == reading ? reads_ : writes_;
  free_before_last_ = releases.push(at(0) - overtaken, step, count);
  for (Ticks k = count > banks ? count - banks : 0; k < count; ++k) {
    const std::uint32_t bank = bank_at(k);
    Row &state = banks_[bank].now;
    state.close_ready = std::max(state.close_ready, at(k) + held(direction));
    group_last_[direction][group_of(bank)] = std::max(group_last_[direction][group_of(bank)], at(k) + 1);
  }
  rank_last_[direction][rank] = at(count - 1) + 1;
  counts_.hits += count;
  counts_.busy += count * timing_.burst;
  if (after_idle) counts_[DramLoss::idle] += static_cast<std::int64_t>(first - bus_end_);
  counts_[DramLoss::bank_group] += static_cast<std::int64_t>((count - (after_idle ? 1 : 0)) * (step - timing_.burst));
  bus_end_ = at(count - 1) + timing_.burst;
  count_refreshes(at(count - 1));
  return static_cast<std::uint32_t>(count);
}

// The same while some of the strip's banks have just opened their rows, behind a refresh most of the time: bursts of
// the others follow those before the last gap of the bus, those of banks that are late follow the last of all. Ends
// where the gap, or the window of reads, is full of the latter.
std::uint32_t DramChannel::run_before_gap(Direction direction, const DramStrip &strip, std::uint32_t i,
                                          std::uint32_t limit, Ticks earliest, Ticks &last_cas) {
  Releases &releases = direction == reading ? reads_ : writes_;
  const Ticks overtaken = direction == reading ? 0 : overtaken_;
  const auto banks = static_cast<std::uint32_t>(pattern_.size());
  if (banks != turn_ || banks > kSplitBanks || geometry_.ranks != 1 || cas_.falling != 0) return 0;
  const Ticks step = ccd_s_[direction];
  std::uint32_t soonest = 0;
  for (std::uint32_t k = 0; k < banks; ++k) {
    const auto ready = [&](std::uint32_t bank) { return banks_[bank_of(strip, i + bank)].now.cas_ready[direction]; };
    if (ready(k) < ready(soonest)) soonest = k;
  }
  const std::uint32_t soonest_bank = bank_of(strip, i + soonest);
  const std::uint32_t gap = first_gap(direction, group_of(soonest_bank),
                                      std::max({earliest, cas_floor_, banks_[soonest_bank].now.cas_ready[direction]}));
  if (gap == 0 || gap == cas_.size || cas_[gap - 1].at < overtaken) return 0;
  // A search that turns the bus on its way may come out behind the gap.
  for (std::uint64_t gaps = ~cas_.marks & ((std::uint64_t{1} << gap) - 1); gaps > 1; gaps &= ~std::bit_floor(gaps)) {
    const auto position = static_cast<std::uint32_t>(std::bit_width(gaps) - 1);
    if (cas_[position].at <= earliest) break;
    if (cas_[position - 1].direction != direction) return 0;
  }
  const Command head = cas_[gap];
  const Ticks before = cas_[gap - 1].at;
  const Ticks last = cas_.back().at;
  if (earliest > before + step || cas_floor_ > before + step) return 0;
  if (head.direction != direction || cas_[gap - 1].direction != direction || cas_.back().direction != direction)
    return 0;
  Ticks end_before = head.at < widest_ ? 0 : head.at - widest_ + 1;  // bursts before the gap begin before it
  Ticks end_behind = kNever;
  if (end_before <= before + step) return 0;
  std::array<bool, kSplitBanks> late{};
  std::uint32_t lates = 0;
  for (std::uint32_t k = 0; k < banks; ++k) {
    const std::uint32_t bank_index = bank_of(strip, i + k);
    const Bank &bank = banks_[bank_index];
    const Refresh &refresh = refreshes_[bank.refresh];
    const Ticks ready = bank.now.cas_ready[direction];
    const std::uint32_t group = group_of(bank_index);
    if (earliest < refresh.last && cas_floor_ < refresh.closed_by) {
      // Before the refresh it found no place.
      if (bank.before.row == strip.row ? before + step < refresh.last : earliest + timing_.ras <= refresh.closed_by)
        return 0;
      if (bank.before.row == strip.row &&
          first_gap(direction, group, std::max({earliest, cas_floor_, bank.before.cas_ready[direction]})) < gap)
        return 0;
    }
    late[k] = ready > before + step;
    lates += late[k];
    if (late[k]) {
      if (ready > last + step || first_gap(direction, group, std::max({earliest, cas_floor_, ready})) != cas_.size)
        return 0;
      end_behind = std::min(end_behind, refresh.next);
    } else {
      if (first_gap(direction, group, std::max({earliest, cas_floor_, ready})) != gap) return 0;
      end_before = std::min(end_before, refresh.next);
    }
  }
  if ((banks - lates) * step < ccd_l_[direction] || (lates > 0 && lates * step < ccd_l_[direction])) return 0;

  const auto before_gap = [&](std::uint32_t group) -> Ticks {  // last CAS + 1, as in group_last_
    for (std::uint32_t j = gap; j > 0 && cas_[j - 1].at + ccd_l_[direction] > before; --j) {
      if (cas_[j - 1].group == group) return cas_[j - 1].at + 1;
    }
    return 0;
  };
  // Bursts that come before the gap must not come before those that are forgotten on the way.
  const std::uint32_t forgettable = before + step < widest_ ? 0 : cas_.behind(before + step - widest_);
  if (forgettable == 0) return 0;
  limit = std::min(limit, cas_.capacity - cas_.size + forgettable - 1);
  // Slots of the window that those behind the gap hold.
  std::uint32_t held_slots = releases.later_than(before - std::min(before, overtaken));
  Ticks at_before = before, at_behind = last;
  std::uint32_t count = 0;
  std::array<std::uint32_t, 2> counts{};
  for (std::uint32_t k = 0; count < limit && held_slots < releases.capacity; ++count) {
    const std::uint32_t group = group_of(bank_of(strip, i + k));
    Ticks &at = late[k] ? at_behind : at_before;
    if (at + step >= (late[k] ? end_behind : end_before)) break;
    if (count < banks && (late[k] ? group_last_[direction][group] + ccd_l_[direction] > at + step + 1
                                  : before_gap(group) + ccd_l_[direction] > at + step + 1))
      break;
    at += step;
    ++counts[late[k]];
    held_slots += late[k];
    if (++k == banks) k = 0;
  }
  if (count < 4) return 0;

  const DramLoss reason = step > timing_.burst ? DramLoss::bank_group : DramLoss::idle;
  Command *const put_before = cas_.open(gap, counts[0]);
  Command *const put_behind = put_before + (cas_.size - gap);
  cas_.size += counts[1];
  const bool last_is_late = late[(count - 1) % banks];
  std::array<Ticks, 2> at{before, last};
  std::array<Command *, 2> put{put_before, put_behind};
  for (std::uint32_t n = 0; n < count; ++n) {
    const bool is_late = late[n % banks];
    const std::uint32_t bank = bank_of(strip, i + n);
    const std::uint32_t group = group_of(bank);
    at[is_late] += step;
    *put[is_late]++ = {at[is_late], static_cast<std::uint16_t>(group), direction, is_late ? reason : head.reason};
    if (n + banks < count) continue;
    Row &state = banks_[bank].now;
    state.close_ready = std::max(state.close_ready, at[is_late] + held(direction));
    group_last_[direction][group] = std::max(group_last_[direction][group], at[is_late] + 1);
  }
  mark_runs(gap, counts, step == nearest_ && head.reason != DramLoss::bank_group,
            step == nearest_ && reason == DramLoss::idle);
  if (cas_.full()) cas_floor_ = std::max(cas_floor_, cas_[0].at + widest_);
  if (counts[1] > 0 && step > nearest_) dense_from_ = last + counts[1] * step;
  const auto release = [&](bool is_late, std::uint32_t number) {
    if (number > 0) releases.push((is_late ? last : before) + step - overtaken, step, number);
  };
  release(!last_is_late, counts[!last_is_late]);
  release(last_is_late, counts[last_is_late] - 1);
  free_before_last_ = releases.free_at(0);
  releases.push(at[last_is_late] - overtaken);
  rank_last_[direction][0] = std::max(rank_last_[direction][0], at[1] + 1);
  counts_.hits += count;
  counts_.busy += count * timing_.burst;
  counts_[head.reason] -= static_cast<std::int64_t>(counts[0] * timing_.burst);
  counts_[DramLoss::bank_group] += static_cast<std::int64_t>(counts[1] * (step - timing_.burst));
  if (counts[1] > 0) bus_end_ = at[1] + timing_.burst;
  const Ticks end = counts[1] > 0 ? at[1] : at[0];
  last_cas = std::max(last_cas, end);
  count_refreshes(end);
  return count;
}

// An estimate, for a burst that goes behind all others.
Ticks DramChannel::first_command(Direction direction, Ticks arrival, std::uint32_t bank, std::uint32_t row) const {
  const Row &state = banks_[bank].now;
  const Ticks from = std::max(arrival, reads_.last());
  if (state.row < 0) return std::max(from, state.open_ready);
  if (state.row != row) return std::max(from, state.close_ready) + timing_.rp;
  if (cas_.size == 0 || cas_.back().direction == direction) return std::max(from, bus_end_);
  return std::max(from, cas_.back().at + turned(cas_.back().direction, cas_.back().group, group_of(bank)));
}

// Places up to `limit` bursts of the strip and takes them off it; returns the last CAS. `until`: only bursts that can
// begin before it, as far as the end of the bursts before them tells.
Ticks DramChannel::place_strip(Direction direction, DramStrip &strip, Ticks arrival, std::uint32_t limit, Ticks until) {
  Releases &releases = direction == reading ? reads_ : writes_;
  const Ticks overtaken = direction == reading ? 0 : overtaken_;
  const std::uint32_t wanted = std::min(limit, strip.bursts);
  const bool even = !plain_ && turn_ != 0 && turn_ * ccd_s_[direction] >= ccd_l_[direction];
  Ticks last_cas = 0;
  std::uint32_t i = 0;
  std::uint32_t alone_until = 0;  // bursts before it are placed one by one: no run begins with them
  while (i < wanted) {
    if (until != kNever && first_command(direction, arrival, bank_of(strip, i), strip.row) >= until) break;
    const Ticks earliest = direction == reading ? std::max({arrival, read_floor_, reads_.free_at(0)})
                                                : std::max({arrival, write_floor_, writes_.free_at(0)});
    if (even && wanted - i >= 4 && i >= alone_until && cas_.size > 0) {
      std::uint32_t count = 0;
      if (const std::uint32_t closed = closed_banks(strip, i); closed > 0) {
        alone_until = i + closed;
      } else if ((count = run(direction, strip, i, wanted - i, earliest, until)) > 0) {
        last_cas = std::max(last_cas, cas_.back().at);
      } else if (until == kNever) {
        count = run_before_gap(direction, strip, i, wanted - i, earliest, last_cas);
      }
      if (count > 0) {
        i += count;
        continue;
      }
      alone_until = std::max(alone_until, i + 2);  // what is in the way is seldom gone by the next burst
    }
    const Placed placed = place(direction, earliest, bank_of(strip, i), strip.row);
    free_before_last_ = releases.free_at(0);
    releases.push(placed.release - std::min(placed.release, overtaken));
    last_cas = std::max(last_cas, placed.cas);
    ++i;
  }
  strip.first += i;
  strip.bursts -= i;
  return last_cas;
}

void DramChannel::close_rows(const DramStrip &strip) {
  if (scheduling_.page == DramPage::open) return;
  for (std::uint32_t i = 0; i < pattern_.size(); ++i) {
    Row &state = banks_[bank_of(strip, i)].now;
    if (state.row != strip.row) continue;
    close_row(state, 0);
  }
}

// Carries out waiting writes, the oldest first, down to `target`; `until` as in place_strip.
void DramChannel::write_back(std::uint32_t target, Ticks until) {
  while (pending_bursts_ > target) {
    Pending &next = pending_.front();
    const std::uint32_t before = next.strip.bursts;
    place_strip(writing, next.strip, next.arrival, pending_bursts_ - target, until);
    if (next.strip.bursts == before) break;
    pending_bursts_ -= before - next.strip.bursts;
    if (next.strip.bursts == 0) {
      if (next.complete) close_rows(next.strip);
      pending_.pop_front();
    }
  }
}

namespace {

// Bursts with the code of a strip's data, inline in the rows of the data: one for eight of a bank or a part of eight.
std::uint32_t code_bursts(std::uint32_t bursts, std::uint32_t banks) {
  const std::uint32_t used = std::min(bursts, banks);
  const std::uint32_t of_a_bank = (bursts + banks - 1) / banks;
  return used * ((of_a_bank + kDataBurstsPerEccBurst - 1) / kDataBurstsPerEccBurst);
}

}  // namespace

DramChannel::Done DramChannel::read(Ticks arrival, const DramStrip &strip) {
  if (pending_bursts_ > 0) {
    overtaken_ = 0;
    write_back(0, arrival);
    if (reads_.last() < arrival) write_back(std::min(pending_bursts_, scheduling_.write_low), kNever);
  }
  write_mode_ = false;
  counts_.bursts_read += strip.bursts;
  DramStrip left = strip;
  if (scheduling_.ecc == DramEcc::inline_row) {
    const std::uint32_t code = code_bursts(strip.bursts, static_cast<std::uint32_t>(pattern_.size()));
    left.bursts += code;
    counts_.ecc_bursts += code;
  }
  const Ticks last = place_strip(reading, left, arrival, left.bursts, kNever);
  close_rows(left);
  return {std::max(arrival, free_before_last_), last + timing_.cl + timing_.burst};
}

DramChannel::Done DramChannel::write(Ticks arrival, const DramStrip &strip) {
  if (pending_bursts_ > 0 && !write_mode_) {
    overtaken_ = 0;
    write_back(0, arrival);
  }
  counts_.bursts_written += strip.bursts;
  DramStrip left = strip;
  if (scheduling_.ecc == DramEcc::inline_row) {
    // A part of eight is read, changed and written: two bursts.
    const auto banks = static_cast<std::uint32_t>(pattern_.size());
    std::uint32_t code = code_bursts(strip.bursts, banks);
    if (strip.bursts % (banks * kDataBurstsPerEccBurst) != 0) code += std::min(strip.bursts, banks);
    left.bursts += code;
    counts_.ecc_bursts += code;
  }
  Ticks accepted = arrival;
  bool merge = false;
  const auto push = [&](std::uint32_t count) {
    if (merge && !pending_.empty()) {
      pending_.back().strip.bursts += count;
    } else {
      pending_.push_back({{left.row, left.flip, left.first, count}, arrival, false});
    }
    merge = true;
    left.first += count;
    left.bursts -= count;
    pending_bursts_ += count;
    pending_.back().complete = left.bursts == 0;
  };
  if (!write_mode_) {
    const std::uint32_t count = std::min(left.bursts, scheduling_.write_high - pending_bursts_);
    accepted = std::max(accepted, writes_.free_at(pending_bursts_ + count - 1));
    push(count);
    if (pending_bursts_ < scheduling_.write_high) return {accepted, accepted};
    write_mode_ = true;
    write_floor_ = reads_.free_at(reads_.capacity - std::max(reads_.capacity / 2, 1u));
    overtaken_ = reads_.last() > accepted ? reads_.last() - accepted : 0;
    write_back(scheduling_.write_low, kNever);
    read_floor_ = writes_.free_at(writes_.capacity - std::max(writes_.capacity / 2, 1u)) + overtaken_;
  }
  if (left.bursts > 0) {
    push(left.bursts);
    write_back(1, kNever);
    accepted = std::max(accepted, writes_.free_at(0));
    write_back(0, kNever);
  }
  return {accepted, accepted};
}

Ticks DramChannel::drain() {
  write_back(0, kNever);
  if (cas_.size == 0) return 0;
  return bus_end_ + (cas_.back().direction == reading ? timing_.cl : timing_.cwl);
}

}  // namespace cx::hw
