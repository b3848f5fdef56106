// When a MAC tile takes a command and when its results are there. Equals rtl/tile/cx_tile.sv cycle for cycle; the
// derivation is in README.md.
#pragma once

#include <algorithm>
#include <cstdint>

#include "rtl/tile_sim.hpp"

namespace cx::hw {

using rtl::TileShape;

/// Of one operation on an idle tile, in cycles from the one in which its command is taken.
struct TileCycles {
  uint64_t accept = 1;    ///< the next operation of the same kind can be taken
  uint64_t complete = 1;  ///< the tile is idle again: weights or accumulator rows are written, drained rows are out
  bool operator==(const TileCycles &) const = default;
};

/// k weight rows.
constexpr TileCycles load_cycles(uint64_t k) { return {k, k + 2}; }
/// m activation rows through `rows` rows of processing elements, of which n columns take part.
constexpr TileCycles mul_cycles(const TileShape &shape, uint64_t m, uint64_t n) { return {m, m + shape.rows + n + 1}; }
/// m accumulator rows.
constexpr TileCycles drain_cycles(uint64_t m) { return {m + 1, m + 2}; }

/// The tile's rules for taking commands in order, with what earlier commands still occupy. Cycle numbers are absolute.
/// `stream` is the time from the command to its last row (at least the number of rows; more if rows arrive late).
class TileSchedule {
 public:
  explicit TileSchedule(const TileShape &shape) : rows_(shape.rows) {}

  void reset() { *this = TileSchedule(rows_); }

  /// First cycle, not before `from`, in which the tile takes the command.
  uint64_t earliest_load(uint64_t from) const { return std::max({from, next_, load_free_, bank_free_[!active_]}); }
  uint64_t earliest_mul(uint64_t from) const { return std::max({from, next_, load_free_, mul_free_, drain_free_}); }
  uint64_t earliest_drain(uint64_t from) const { return std::max({from, next_, mul_free_ + 1, drain_free_, written_}); }
  /// Everything taken so far is complete.
  uint64_t idle_from() const { return idle_; }

  /// Takes the command in cycle `start`, which must not be before earliest_*(). Returns the cycle in which it is
  /// complete.
  uint64_t load(uint64_t start, uint64_t stream) {
    load_free_ = start + stream;
    shadow_full_ = true;
    return finish(start, start + stream + 2);
  }
  uint64_t mul(uint64_t start, uint64_t stream, uint64_t n) {
    if (shadow_full_) active_ = !active_;
    shadow_full_ = false;
    const uint64_t last_row = start + stream;
    mul_free_ = last_row;
    // Weight row r of a load that starts here is written just after the last activations have used it.
    bank_free_[active_] = last_row + n - std::min<uint64_t>(n, 2);
    written_ = std::max(written_, last_row + rows_ + n);
    return finish(start, last_row + rows_ + n + 1);
  }
  uint64_t drain(uint64_t start, uint64_t stream) {
    drain_free_ = start + stream + 1;
    return finish(start, start + stream + 2);
  }

 private:
  explicit TileSchedule(uint64_t rows) : rows_(rows) {}

  uint64_t finish(uint64_t start, uint64_t complete) {
    next_ = start + 1;
    idle_ = std::max(idle_, complete);
    return complete;
  }

  uint64_t rows_;
  uint64_t next_ = 0;  // one command a cycle, in order
  uint64_t load_free_ = 0;
  uint64_t mul_free_ = 0;
  uint64_t drain_free_ = 0;
  uint64_t written_ = 0;  // last accumulator write
  uint64_t bank_free_[2] = {0, 0};
  uint64_t idle_ = 0;
  bool active_ = false;
  bool shadow_full_ = false;
};

}  // namespace cx::hw
