// When a sparse tile takes a command and when its results are there, from the real non-zeros of the weights. Equals
// rtl/sca/cx_sca.sv cycle for cycle; the derivation is in README.md.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "hw/common/num/formats.hpp"
#include "rtl/sca_sim.hpp"

namespace cx::hw {

using rtl::ScaShape;

/// Registers behind the accumulator memory: its read register, and three for scale, bias, conversion.
constexpr uint64_t kScaDrainPipeline = 4;
/// From the last weight that is issued until its sum is in the accumulators and the tile is idle.
constexpr uint64_t kScaFlush = 3;

/// Non-zero weights of a k x n matrix, column by column, with ascending rows inside a column.
struct SparseColumns {
  num::DType dtype = num::DType::INT8;
  uint32_t k = 0;
  uint32_t n = 0;
  std::vector<uint32_t> starts;  ///< n + 1 positions in `rows` and `raw`
  std::vector<uint16_t> rows;
  std::vector<uint16_t> raw;  ///< elements; 8-bit types in the low byte

  uint64_t nonzeros() const { return rows.size(); }
  /// Columns [first, first + count).
  SparseColumns part(uint32_t first, uint32_t count) const;
  /// Without the rows whose flag is 0 (k flags).
  SparseColumns only(const std::vector<uint8_t> &flags) const;
};

/// How compressed weights come to the decoder, which holds two groups of columns: the transfer of a group begins when
/// the one before it is there and all weights of the one two before it have gone to the queues. Cycles count from the
/// multiplication's command.
struct ScaFeed {
  uint64_t first = 0;            ///< no transfer begins before
  std::vector<uint64_t> cycles;  ///< transfer of each group; empty: all groups are there
};

/// Column-cycles of a multiplication by what the column did.
struct ScaStalls {
  uint64_t window = 0;  ///< its next weight waited for the window to reach it
  uint64_t feed = 0;    ///< its queue was empty
  uint64_t queue = 0;   ///< a weight waited in front of its full queue (beside one of the others, or an issue)
  bool operator==(const ScaStalls &) const = default;
};

/// What a multiplication takes on a tile whose columns are idle. Cycles count from its command.
struct ScaPlan {
  uint64_t issue_end = 0;  ///< the last weight is issued
  uint64_t issued = 0;     ///< weights, without placeholders of empty columns
  ScaStalls stalls;
  std::vector<uint64_t> group_ready;  ///< cycle from which a group's weights can enter the queues

  /// The next multiplication can be taken.
  uint64_t accept() const { return issue_end + 1; }
  uint64_t complete() const { return issue_end + kScaFlush; }
};

/// Groups of `cols` columns that n columns make.
constexpr uint32_t sca_groups(const ScaShape &shape, uint32_t n) { return (n + shape.cols - 1) / shape.cols; }

/// Cost: proportional to the non-zeros and to k times the groups.
/// w.k is 1 to shape.depth, w.n at least 1; feed.cycles is empty or has a number for each group.
ScaPlan plan_multiplication(const ScaShape &shape, const SparseColumns &w, const ScaFeed &feed);

/// The tile's rules for taking commands in order, with what earlier commands still occupy. Cycle numbers are absolute.
/// `stream` is the time from the command to the last vector or, of a drain, from its first possible column to its last
/// one: at least their number; more if they come or leave late.
class ScaSchedule {
 public:
  explicit ScaSchedule(const ScaShape &shape) : shape_(shape) {}

  void reset() { *this = ScaSchedule(shape_); }

  /// First cycle, not before `from`, in which the tile takes the command. Rows are groups of columns.
  uint64_t earliest_load(uint64_t from) const { return std::max({from, next_, load_free_}); }
  uint64_t earliest_mul(uint64_t from, uint32_t row, uint32_t rows) const {
    const uint64_t drained = (halves(row, rows) & drain_halves_) != 0 ? drain_free_ : 0;
    return std::max({from, next_, load_free_, mul_free_, drained});
  }
  uint64_t earliest_drain(uint64_t from) const { return std::max({from, next_, written_, drain_free_}); }
  /// Everything taken so far is complete.
  uint64_t idle_from() const { return idle_; }
  /// Cycles in which the tile was not idle, of everything taken so far.
  uint64_t busy() const { return busy_; }

  /// Takes the command in cycle `start`, which must not be before earliest_*(). Returns the cycle in which it is
  /// complete.
  uint64_t load(uint64_t start, uint64_t stream) {
    load_free_ = start + stream + 1;
    return finish(start, start + stream + 2);
  }
  uint64_t mul(uint64_t start, const ScaPlan &plan) {
    mul_free_ = start + plan.accept();
    written_ = start + plan.complete() - 1;
    return finish(start, start + plan.complete());
  }
  uint64_t drain(uint64_t start, uint64_t stream, uint32_t row, uint32_t rows) {
    drain_halves_ = halves(row, rows);
    drain_free_ = start + kScaDrainPipeline + stream;
    return finish(start, drain_free_ + 1);
  }

 private:
  /// Halves of the accumulator memory that the rows lie in, a bit for each.
  unsigned halves(uint32_t row, uint32_t rows) const {
    const uint32_t middle = shape_.acc_rows / 2;
    return (row < middle ? 1u : 0u) | (row + rows > middle ? 2u : 0u);
  }

  uint64_t finish(uint64_t start, uint64_t complete) {
    next_ = start + 1;
    const uint64_t from = std::max(next_, idle_);
    if (complete > from) busy_ += complete - from;
    idle_ = std::max(idle_, complete);
    return complete;
  }

  ScaShape shape_;
  uint64_t next_ = 0;  // one command a cycle, in order
  uint64_t load_free_ = 0;
  uint64_t mul_free_ = 0;
  uint64_t drain_free_ = 0;
  unsigned drain_halves_ = 0;
  uint64_t written_ = 0;  // a drain may be taken
  uint64_t idle_ = 0;
  uint64_t busy_ = 0;
};

}  // namespace cx::hw
