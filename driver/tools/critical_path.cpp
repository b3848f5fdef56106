#include "driver/tools/critical_path.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "driver/include/cx/error.hpp"

namespace cx::tools {

namespace {

using Record = cx_trace_record;

uint64_t accept_of(const Record &record) { return record.values[CX_TRACE_INSTRUCTION_ACCEPT]; }
Reason reason_of(const Record &record) {
  return reason_of_limit(static_cast<uint32_t>(record.values[CX_TRACE_INSTRUCTION_LIMIT]));
}

/// An engine's instructions and waits, each in order.
struct EngineRecords {
  std::vector<const Record *> instructions, waits;
};

class Walk {
  using Intervals = std::vector<std::pair<uint64_t, uint64_t>>;

 public:
  /// `outside`: whose the time before the first and after the last instruction is.
  Walk(std::span<const Record> trace, const std::function<int(uint32_t, uint32_t)> &node_of, int outside = -1)
      : node_of_(node_of), outside_(outside) {
    for (const Record &record : trace) {
      if (record.kind == CX_TRACE_PACKET) packets_.push_back(&record);
      if (record.kind == CX_TRACE_TRANSFER && record.cause != 0) copies_.push_back(&record);
      if (record.kind == CX_TRACE_TRANSFER && record.cause == 0) {
        const LaunchPart part = record.what == 1   ? LaunchPart::packets
                                : record.what == 2 ? LaunchPart::records
                                                   : LaunchPart::programs;
        own_transfers_[static_cast<std::size_t>(part)].emplace_back(record.begin, record.end);
      }
      if (record.kind == CX_TRACE_SLEEP) sleeps_.emplace_back(record.begin, record.end);
      if (record.unit >= kEngines) continue;
      if (record.kind == CX_TRACE_WAIT) engines_[record.unit].waits.push_back(&record);
      if (record.kind == CX_TRACE_STREAM) streams_[record.unit] = &record;
      if (record.kind != CX_TRACE_INSTRUCTION) continue;
      places_[record.id] = {record.unit, engines_[record.unit].instructions.size()};
      engines_[record.unit].instructions.push_back(&record);
      if (last_ == nullptr || record.end > last_->end) last_ = &record;
    }
    if (packets_.empty()) throw Error("the trace holds no packet");
    std::sort(copies_.begin(), copies_.end(), [](const Record *a, const Record *b) { return a->begin < b->begin; });
  }

  RunTimes times() {
    if (last_ == nullptr) throw Error("the trace holds no instruction");
    RunTimes times = whole();
    // An engine stops a little after its last instruction, and fetches before it issues the first.
    const Record *stream = streams_[last_->unit];
    const uint64_t stopped = stream != nullptr ? std::clamp(stream->end, last_->end, times.end) : last_->end;
    if (stream != nullptr) add_engine(last_->end, stopped, *stream);
    around(stopped, times.end);
    const auto [first, unit] = back_from(*last_);
    stream = streams_[unit];
    const uint64_t started = stream != nullptr ? std::clamp(stream->begin, times.begin, first) : first;
    if (stream != nullptr) add_engine(started, first, *stream);
    around(times.begin, started);
    return finished(std::move(times));
  }

  RunTimes copies() {
    RunTimes times = whole();
    around(times.begin, times.end);
    return finished(std::move(times));
  }

 private:
  RunTimes whole() const {
    RunTimes times;
    times.begin = (*std::min_element(packets_.begin(), packets_.end(), [](const Record *a, const Record *b) {
                    return a->begin < b->begin;
                  }))->begin;
    times.end = (*std::max_element(packets_.begin(), packets_.end(), [](const Record *a, const Record *b) {
                  return a->end < b->end;
                }))->end;
    return times;
  }
  RunTimes finished(RunTimes times) {
    times.path = std::move(path_);
    std::erase_if(times.path, [](const PathSegment &segment) { return segment.end <= segment.begin; });
    std::sort(times.path.begin(), times.path.end(),
              [](const PathSegment &a, const PathSegment &b) { return a.begin < b.begin; });
    times.stalls = stalls();
    times.launch = launch_parts(times.path);
    return times;
  }

  int node(const Record &record) const {
    return node_of_(record.unit, static_cast<uint32_t>(record.values[CX_TRACE_INSTRUCTION_PC]));
  }
  void add(uint64_t begin, uint64_t end, Reason reason, const Record *record) {
    if (record == nullptr) {
      path_.push_back({begin, end, reason});
    } else {
      path_.push_back({begin, end, reason, node(*record), record->id, record->unit});
    }
  }

  void add_engine(uint64_t begin, uint64_t end, const Record &stream) {
    path_.push_back({begin, end, Reason::engine, outside_, stream.id, stream.unit});
  }

  /// Outside of the program's work: copies while they go on, else what a launch costs.
  void around(uint64_t begin, uint64_t end) {
    uint64_t reached = begin;
    for (const Record *copy : copies_) {
      const uint64_t from = std::max(copy->begin, reached), to = std::min(copy->end, end);
      if (from >= to) continue;
      path_.push_back({reached, from, Reason::launch, outside_});
      const auto limit = static_cast<uint32_t>(copy->values[CX_TRACE_TRANSFER_LIMIT]);
      path_.push_back({from, to, reason_of_limit(limit), outside_, copy->id});
      reached = to;
    }
    path_.push_back({reached, end, Reason::launch, outside_});
  }

  /// From the end of an instruction back to the first that nothing of the program held up; returns when it was issued
  /// and by which engine.
  std::pair<uint64_t, uint32_t> back_from(const Record &last) {
    const Record *current = &last;
    uint64_t until = last.end;
    for (;;) {
      add(current->begin, until, reason_of(*current), current);
      until = current->begin;
      const auto [unit, place] = places_.at(current->id);
      const EngineRecords &engine = engines_[unit];
      const Record *before = place != 0 ? engine.instructions[place - 1] : nullptr;
      const uint64_t free = before != nullptr ? accept_of(*before) : 0;
      const Record *poster = nullptr;
      uint64_t woken = 0;
      // The last wait between the two instructions.
      auto wait = std::upper_bound(engine.waits.begin(), engine.waits.end(), current->begin,
                                   [](uint64_t time, const Record *w) { return time < w->end; });
      if (wait != engine.waits.begin() && (*--wait)->end >= free &&
          (before == nullptr || (*wait)->begin >= before->begin)) {
        woken = (*wait)->end;
        if (const auto known = places_.find((*wait)->cause); known != places_.end()) {
          poster = engines_[known->second.first].instructions[known->second.second];
        }
      }
      if (poster != nullptr && woken >= free && poster->end <= until) {
        // Instructions without data take a cycle each after the wait.
        add(std::max(woken, poster->end), until, Reason::engine, current);
        add(poster->end, std::max(woken, poster->end), Reason::dependency, current);
        current = poster;
        until = poster->end;
        continue;
      }
      if (before == nullptr) return {until, unit};
      add(free, until, Reason::engine, current);
      current = before;
      until = std::min(free, until);
    }
  }

  /// Rising and disjoint.
  static Intervals merged(Intervals all) {
    std::sort(all.begin(), all.end());
    Intervals result;
    for (const auto &[begin, end] : all) {
      if (!result.empty() && begin <= result.back().second) {
        result.back().second = std::max(result.back().second, end);
      } else if (begin < end) {
        result.emplace_back(begin, end);
      }
    }
    return result;
  }
  static uint64_t overlap(const Intervals &intervals, uint64_t begin, uint64_t end) {
    uint64_t sum = 0;
    for (const auto &[from, to] : intervals) {
      if (std::max(from, begin) < std::min(to, end)) sum += std::min(to, end) - std::max(from, begin);
    }
    return sum;
  }

  std::array<uint64_t, kLaunchPartNames.size()> launch_parts(const std::vector<PathSegment> &path) const {
    constexpr auto kAsleep = static_cast<std::size_t>(LaunchPart::asleep);
    // Each part is what it covers beyond those before it; the firmware has the rest.
    std::array<Intervals, kLaunchPartNames.size()> upto{};
    for (std::size_t p = 1; p < upto.size(); ++p) {
      upto[p] = upto[p - 1];
      const Intervals &own = p == kAsleep ? sleeps_ : own_transfers_[p];
      upto[p].insert(upto[p].end(), own.begin(), own.end());
      upto[p] = merged(std::move(upto[p]));
    }
    std::array<uint64_t, kLaunchPartNames.size()> parts{};
    for (const PathSegment &segment : path) {
      if (segment.reason != Reason::launch) continue;
      uint64_t covered = 0;
      for (std::size_t p = 1; p < upto.size(); ++p) {
        const uint64_t now = overlap(upto[p], segment.begin, segment.end);
        parts[p] += now - covered;
        covered = now;
      }
      parts[0] += segment.end - segment.begin - covered;
    }
    return parts;
  }

  std::vector<Stall> stalls() const {
    std::map<std::tuple<uint32_t, int, int, Reason>, Stall> sums;
    for (uint32_t unit = 0; unit < kEngines; ++unit) {
      const auto &instructions = engines_[unit].instructions;
      for (const Record *wait : engines_[unit].waits) {
        const auto next = std::lower_bound(instructions.begin(), instructions.end(), wait->end,
                                           [](const Record *i, uint64_t time) { return i->begin < time; });
        Stall stall;
        stall.engine = unit;
        stall.node = next != instructions.end() ? node(**next) : -1;
        stall.reason = Reason::dependency;
        if (const auto known = places_.find(wait->cause); known != places_.end()) {
          const Record &cause = *engines_[known->second.first].instructions[known->second.second];
          stall.waiting_for = static_cast<int>(cause.unit);
          stall.reason = reason_of(cause);
        }
        Stall &sum = sums.emplace(std::tuple(unit, stall.node, stall.waiting_for, stall.reason), stall).first->second;
        sum.ps += wait->end - wait->begin;
        ++sum.count;
      }
    }
    std::vector<Stall> all;
    for (const auto &[key, stall] : sums) all.push_back(stall);
    std::stable_sort(all.begin(), all.end(), [](const Stall &a, const Stall &b) { return a.ps > b.ps; });
    return all;
  }

  const std::function<int(uint32_t, uint32_t)> &node_of_;
  const int outside_;
  std::vector<const Record *> packets_, copies_;
  Intervals sleeps_;
  std::array<Intervals, kLaunchPartNames.size()> own_transfers_;  // by LaunchPart
  std::array<const Record *, kEngines> streams_{};
  std::array<EngineRecords, kEngines> engines_;
  std::unordered_map<uint64_t, std::pair<uint32_t, std::size_t>> places_;
  const Record *last_ = nullptr;
  std::vector<PathSegment> path_;
};

std::array<uint64_t, kReasons> sums_of(const std::vector<PathSegment> &path, const int *node) {
  std::array<uint64_t, kReasons> sums{};
  for (const PathSegment &segment : path) {
    if (node == nullptr || segment.node == *node) {
      sums[static_cast<std::size_t>(segment.reason)] += segment.end - segment.begin;
    }
  }
  return sums;
}

}  // namespace

Reason reason_of_limit(uint32_t limit) {
  switch (limit) {
    case 1:
      return Reason::compute;
    case 2:
      return Reason::scratchpad;
    case 3:
      return Reason::dram;
    case 4:
      return Reason::noc;
    case 5:
      return Reason::pcie;
    default:
      return Reason::engine;
  }
}

std::array<uint64_t, kReasons> RunTimes::by_reason() const { return sums_of(path, nullptr); }

Reason RunTimes::limited_by() const {
  const auto sums = by_reason();
  return static_cast<Reason>(std::max_element(sums.begin(), sums.end()) - sums.begin());
}
std::array<uint64_t, kReasons> RunTimes::by_reason(int node) const { return sums_of(path, &node); }

RunTimes run_times(std::span<const cx_trace_record> trace, const std::function<int(uint32_t, uint32_t)> &node_of) {
  return Walk(trace, node_of).times();
}

RunTimes copy_times(std::span<const cx_trace_record> trace, int node) {
  const std::function<int(uint32_t, uint32_t)> none = [](uint32_t, uint32_t) { return -1; };
  return Walk(trace, none, node).copies();
}

RunTimes joined(std::span<const RunTimes> launches, std::span<const std::size_t> nodes) {
  RunTimes all;
  int base = 0;
  for (std::size_t i = 0; i < launches.size(); ++i) {
    const RunTimes &part = launches[i];
    for (PathSegment segment : part.path) {
      segment.begin += all.end - part.begin;
      segment.end += all.end - part.begin;
      if (segment.node >= 0) segment.node += base;
      all.path.push_back(segment);
    }
    for (Stall stall : part.stalls) {
      if (stall.node >= 0) stall.node += base;
      all.stalls.push_back(stall);
    }
    for (std::size_t p = 0; p < all.launch.size(); ++p) all.launch[p] += part.launch[p];
    all.end += part.end - part.begin;
    base += static_cast<int>(nodes[i]);
  }
  std::stable_sort(all.stalls.begin(), all.stalls.end(), [](const Stall &a, const Stall &b) { return a.ps > b.ps; });
  return all;
}

}  // namespace cx::tools
