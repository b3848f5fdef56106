#include "hw/sca/sca_timing.hpp"

#include <limits>
#include <stdexcept>

namespace cx::hw {

SparseColumns SparseColumns::part(uint32_t first, uint32_t count) const {
  SparseColumns result;
  result.dtype = dtype;
  result.k = k;
  result.n = count;
  const uint32_t begin = starts[first], end = starts[first + count];
  for (uint32_t c = 0; c <= count; ++c) result.starts.push_back(starts[first + c] - begin);
  result.rows.assign(rows.begin() + begin, rows.begin() + end);
  result.raw.assign(raw.begin() + begin, raw.begin() + end);
  return result;
}

SparseColumns SparseColumns::only(const std::vector<uint8_t> &flags) const {
  SparseColumns result;
  result.dtype = dtype;
  result.k = k;
  result.n = n;
  result.starts.push_back(0);
  for (uint32_t c = 0; c < n; ++c) {
    for (uint32_t i = starts[c]; i < starts[c + 1]; ++i) {
      if (flags[rows[i]] == 0) continue;
      result.rows.push_back(rows[i]);
      result.raw.push_back(raw[i]);
    }
    result.starts.push_back(static_cast<uint32_t>(result.rows.size()));
  }
  return result;
}

namespace {

constexpr uint64_t kLatency = 2;  // from the read of a vector to the cycle in which columns can select it

/// Columns that have a weight at a position of a group: a counting sort by row, ascending columns inside a row.
struct ByRow {
  std::vector<uint32_t> starts;
  std::vector<uint32_t> columns;

  void sort(const ScaShape &shape, const SparseColumns &w, uint32_t group) {
    const uint32_t first = group * shape.cols, end = std::min(w.n, first + shape.cols);
    starts.assign(w.k + 1, 0);
    const auto for_each = [&](auto f) {
      for (uint32_t c = first; c < end; ++c) {
        // An empty column has a placeholder at the group's first position.
        if (w.starts[c] == w.starts[c + 1]) f(c - first, 0u);
        for (uint32_t i = w.starts[c]; i < w.starts[c + 1]; ++i) f(c - first, uint32_t{w.rows[i]});
      }
    };
    for_each([&](uint32_t, uint32_t row) { ++starts[row + 1]; });
    for (uint32_t row = 0; row < w.k; ++row) starts[row + 1] += starts[row];
    columns.resize(starts[w.k]);
    next_.assign(starts.begin(), starts.end() - 1);
    for_each([&](uint32_t column, uint32_t row) { columns[next_[row]++] = column; });
  }

 private:
  std::vector<uint32_t> next_;
};

/// A column on its way through its weights, placeholders among them.
struct Column {
  uint64_t count = 0;  // weights that were issued
  uint64_t left = 0;   // of its group
  uint64_t groups_left = 0;
  uint64_t issued = 0;  // cycle of the last one
  uint64_t pushed = 0;  // cycle in which the next one enters the queue
  uint64_t head = 0;    // cycle from which it is at the head
};

class Planner {
 public:
  Planner(const ScaShape &shape, const SparseColumns &w, const ScaFeed &feed)
      : shape_(shape),
        w_(w),
        feed_(feed),
        groups_(sca_groups(shape, w.n)),
        columns_(shape.cols),
        issue_ring_(size_t{shape.cols} * shape.queue),
        passed_ring_(shape.window),
        read_ring_(ScaShape::kAdvance),
        consumed_(groups_, 0) {
    plan_.group_ready.assign(groups_, 0);
  }

  ScaPlan run() {
    // The command is cycle 0; everything else begins in cycle 1.
    ready_group(0);
    if (groups_ > 1) ready_group(1);
    const uint32_t taking_part = std::min(w_.n, shape_.cols);
    for (uint32_t c = 0; c < taking_part; ++c) {
      Column &column = columns_[c];
      column.groups_left = groups_ - (uint64_t{groups_ - 1} * shape_.cols + c < w_.n ? 0 : 1);
      column.left = weights_in(c);
      approach(column, c, 0);
      passed_ = std::max(passed_, column.head + 1);
    }
    for (uint32_t group = 0; group < groups_; ++group) {
      if (group >= 1 && group + 1 < groups_) ready_group(group + 1);
      by_row_.sort(shape_, w_, group);
      for (uint32_t row = 0; row < w_.k; ++row) step(group, row);
    }
    plan_.issued = w_.nonzeros();
    return std::move(plan_);
  }

 private:
  /// Weights of a column of the whole matrix, or one placeholder.
  uint64_t weights_in(uint64_t column) const {
    return std::max<uint64_t>(w_.starts[column + 1] - w_.starts[column], 1);
  }

  void ready_group(uint32_t group) {
    uint64_t begin = group == 0 ? feed_.first : plan_.group_ready[group - 1];
    if (feed_.cycles.empty()) {
      plan_.group_ready[group] = feed_.first;
      return;
    }
    if (group >= 2) begin = std::max(begin, consumed_[group - 2]);
    plan_.group_ready[group] = begin + feed_.cycles[group];
  }

  /// The next weight of a column, which belongs to `group`, comes to its queue and, behind the one before it, to the
  /// head.
  void approach(Column &column, uint32_t c, uint32_t group) {
    const bool first = column.count == 0;
    const uint64_t offered = std::max(first ? 1 : column.pushed + 1, plan_.group_ready[group]);
    uint64_t pushed = offered;
    // A slot is free in the cycle after the weight in it was issued.
    if (column.count >= shape_.queue) pushed = std::max(pushed, issue_ring_[ring(c, column.count)] + 1);
    column.pushed = pushed;
    const uint64_t alone = first ? 1 : column.issued + 1;
    column.head = std::max(pushed + 1, alone);
    plan_.stalls.queue += pushed - offered;
    plan_.stalls.feed += column.head - alone;
    consumed_[group] = std::max(consumed_[group], pushed + 1);
  }

  size_t ring(uint32_t c, uint64_t count) const { return size_t{c} * shape_.queue + count % shape_.queue; }

  /// A position: its vector is read and comes into the window, columns that have a weight there issue it.
  void step(uint32_t group, uint32_t row) {
    // Read when the window has room, at most kAdvance a cycle, and not together with the group before.
    uint64_t read = std::max<uint64_t>(last_read_, 1);
    if (position_ >= shape_.window) read = std::max(read, passed_ring_[position_ % shape_.window]);
    if (position_ >= ScaShape::kAdvance) read = std::max(read, read_ring_[position_ % ScaShape::kAdvance] + 1);
    if (row == 0 && position_ != 0) read = std::max(read, last_read_ + 1);
    last_read_ = read;
    read_ring_[position_ % ScaShape::kAdvance] = read;
    const uint64_t visible = read + kLatency;

    passed_ = std::max(passed_, passes_next_);
    if (row == 0) passed_ = std::max(passed_, passes_group_);
    passes_next_ = 0;
    if (row == 0) passes_group_ = 0;
    for (uint32_t at = by_row_.starts[row]; at < by_row_.starts[row + 1]; ++at)
      issue(by_row_.columns[at], group, visible);
    passed_ring_[position_ % shape_.window] = passed_;
    ++position_;
  }

  void issue(uint32_t c, uint32_t group, uint64_t visible) {
    Column &column = columns_[c];
    const uint64_t issued = std::max(column.head, visible);
    plan_.stalls.window += issued - column.head;
    plan_.issue_end = std::max(plan_.issue_end, issued);
    issue_ring_[ring(c, column.count)] = issued;
    column.issued = issued;
    ++column.count;
    passed_ = std::max(passed_, issued + 1);
    if (--column.left == 0) {
      if (--column.groups_left == 0) return;
      // It needs nothing more of this group, and of the next nothing below its next weight once that is known.
      column.left = weights_in(uint64_t{group + 1} * shape_.cols + c);
      approach(column, c, group + 1);
      passes_group_ = std::max(passes_group_, column.head + 1);
    } else {
      approach(column, c, group);
      passes_next_ = std::max(passes_next_, column.head + 1);
    }
  }

  const ScaShape &shape_;
  const SparseColumns &w_;
  const ScaFeed &feed_;
  uint32_t groups_;
  ByRow by_row_;
  std::vector<Column> columns_;
  std::vector<uint64_t> issue_ring_;   // of each column, cycles of the last `queue` issues
  std::vector<uint64_t> passed_ring_;  // cycle from which the window's base is beyond a position
  std::vector<uint64_t> read_ring_;
  std::vector<uint64_t> consumed_;  // cycle from which a group has left the decoder
  uint64_t position_ = 0;
  uint64_t last_read_ = 0;
  uint64_t passed_ = 0;        // of the position that is worked on
  uint64_t passes_next_ = 0;   // bound for the position after it
  uint64_t passes_group_ = 0;  // bound for the first position of the next group
  ScaPlan plan_;
};

}  // namespace

ScaPlan plan_multiplication(const ScaShape &shape, const SparseColumns &w, const ScaFeed &feed) {
  if (w.k < 1 || w.k > shape.depth || w.n < 1 || w.starts.size() != size_t{w.n} + 1) {
    throw std::invalid_argument("sparse tile: weights of an impossible shape");
  }
  if (!feed.cycles.empty() && feed.cycles.size() != sca_groups(shape, w.n)) {
    throw std::invalid_argument("sparse tile: a transfer time for each group");
  }
  return Planner(shape, w, feed).run();
}

}  // namespace cx::hw
