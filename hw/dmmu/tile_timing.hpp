// When a MAC tile takes a command and when its results are there. Equals rtl/tile/cx_tile.sv cycle for cycle; the
// derivation is in README.md.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hw/common/num/formats.hpp"
#include "rtl/tile_sim.hpp"

namespace cx::hw {

using rtl::TileShape;

/// Registers behind the accumulator memory: its read register, and three for scale, bias, conversion.
constexpr uint64_t kDrainPipeline = 4;

/// Elements along K that a word of the array holds.
constexpr uint32_t elements_per_word(const TileShape &shape, num::DType dtype) {
  const bool narrow = dtype == num::DType::FP8_E4M3 || dtype == num::DType::FP8_E5M2 || dtype == num::DType::INT8;
  return narrow ? shape.pack : 1;
}
/// Longest K of a weight-stationary pass.
constexpr uint32_t longest_k(const TileShape &shape, num::DType dtype) {
  return shape.rows * elements_per_word(shape, dtype);
}
/// Words that k elements fill.
constexpr uint64_t words_along_k(const TileShape &shape, num::DType dtype, uint64_t k) {
  const uint64_t pack = elements_per_word(shape, dtype);
  return (k + pack - 1) / pack;
}

/// Of one operation on an idle tile, in cycles from the one in which its command is taken.
struct TileCycles {
  uint64_t accept = 1;    ///< the next operation of the same kind can be taken
  uint64_t complete = 1;  ///< the tile is idle again: weights or accumulator rows are written, drained rows are out
  bool operator==(const TileCycles &) const = default;
};

/// `rows` weight rows (words_along_k), one more with block scales.
constexpr TileCycles load_cycles(uint64_t rows) { return {rows, rows + 2}; }
/// m activation rows through the array, of which n columns take part.
constexpr TileCycles mul_cycles(const TileShape &shape, uint64_t m, uint64_t n) {
  return {m, m + uint64_t{shape.rows} * shape.stages + n + 1};
}
/// Cycles from the first to the last step of an output-stationary pass, both included.
constexpr uint64_t os_stream(const TileShape &shape, uint64_t steps) { return (steps - 1) * shape.stages + 1; }
/// `steps` (words_along_k) of an output-stationary pass.
constexpr TileCycles mul_os_cycles(const TileShape &shape, uint64_t steps, uint64_t n) {
  const uint64_t descend = uint64_t{shape.rows} * shape.stages;
  return {os_stream(shape, steps) + descend, os_stream(shape, steps) + shape.rows + descend + n};
}
/// m accumulator rows, after `parameters` rows (scale, bias).
constexpr TileCycles drain_cycles(uint64_t m, uint64_t parameters) {
  return {m + parameters + kDrainPipeline, m + parameters + kDrainPipeline + 1};
}

/// The tile's rules for taking commands in order, with what earlier commands still occupy. Cycle numbers are absolute.
/// `stream` is the time from the command to its last row or step, without the parameters of a drain: at least the
/// number of rows (os_stream() for output-stationary steps); more if rows arrive or leave late.
class TileSchedule {
 public:
  explicit TileSchedule(const TileShape &shape) : shape_(shape) {}

  void reset() { *this = TileSchedule(shape_); }

  /// First cycle, not before `from`, in which the tile takes the command.
  uint64_t earliest_load(uint64_t from, bool scaled) const {
    const uint64_t bank = scaled ? std::max(bank_free_[!active_], scale_free_[!active_]) : bank_free_[!active_];
    return std::max({from, next_, load_free_, os_free_, bank});
  }
  /// Either dataflow.
  uint64_t earliest_mul(uint64_t from) const { return std::max({from, next_, load_free_, mul_free_, drain_free_}); }
  uint64_t earliest_drain(uint64_t from) const { return std::max({from, next_, mul_free_ + 1, drain_free_, written_}); }
  /// Everything taken so far is complete.
  uint64_t idle_from() const { return idle_; }
  /// Cycles in which the tile was not idle, of everything taken so far.
  uint64_t busy() const { return busy_; }
  /// Cycles in which weights are written into the array or an element of it multiplies, of everything taken so far.
  uint64_t array() const { return array_; }

  /// Takes the command in cycle `start`, which must not be before earliest_*(). Returns the cycle in which it is
  /// complete.
  uint64_t load(uint64_t start, uint64_t stream) {
    load_free_ = start + stream;
    shadow_full_ = true;
    use_array(start, start + stream + 2);
    return finish(start, start + stream + 2);
  }
  uint64_t mul(uint64_t start, uint64_t stream, uint64_t n) {
    if (shadow_full_) active_ = !active_;
    shadow_full_ = false;
    const uint64_t last_row = start + stream;
    mul_free_ = last_row;
    // Weight row r of a load that starts here is written just after the last activations have used it.
    const uint64_t hold = n + uint64_t{shape_.rows - 1} * (shape_.stages - 1);
    bank_free_[active_] = std::max(bank_free_[active_], last_row + hold - std::min<uint64_t>(hold, 2));
    scale_free_[active_] = std::max(scale_free_[active_], last_row + descend() + n - 2);
    written_ = std::max(written_, last_row + descend() + n);
    use_array(start, last_row + descend() + n);
    return finish(start, last_row + descend() + n + 1);
  }
  uint64_t mul_os(uint64_t start, uint64_t stream, uint64_t n) {
    const uint64_t last_step = start + stream;
    os_free_ = last_step;
    mul_free_ = last_step + descend();
    const uint64_t last_sum = last_step + shape_.rows - 1 + descend() + n;
    written_ = std::max(written_, last_sum);
    use_array(start, last_step + descend() + n);
    return finish(start, last_sum + 1);
  }
  uint64_t drain(uint64_t start, uint64_t stream, uint64_t parameters) {
    drain_free_ = start + parameters + kDrainPipeline + stream;
    return finish(start, drain_free_ + 1);
  }

 private:
  uint64_t descend() const { return uint64_t{shape_.rows} * shape_.stages; }

  uint64_t finish(uint64_t start, uint64_t complete) {
    next_ = start + 1;
    const uint64_t from = std::max(next_, idle_);
    if (complete > from) busy_ += complete - from;
    idle_ = std::max(idle_, complete);
    return complete;
  }

  /// What a command of cycle `start` brings in is in the array from the cycle after its widening on, until `end`.
  void use_array(uint64_t start, uint64_t end) {
    const uint64_t from = std::max(start + 2, array_until_);
    if (end > from) array_ += end - from;
    array_until_ = std::max(array_until_, end);
  }

  TileShape shape_;
  uint64_t next_ = 0;  // one command a cycle, in order
  uint64_t load_free_ = 0;
  uint64_t mul_free_ = 0;
  uint64_t os_free_ = 0;
  uint64_t drain_free_ = 0;
  uint64_t written_ = 0;  // last accumulator write
  uint64_t bank_free_[2] = {0, 0};
  uint64_t scale_free_[2] = {0, 0};
  uint64_t idle_ = 0;
  uint64_t busy_ = 0;
  uint64_t array_until_ = 0;
  uint64_t array_ = 0;
  bool active_ = false;
  bool shadow_full_ = false;
};

}  // namespace cx::hw
