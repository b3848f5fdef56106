// Which operations last wrote and since then read each byte of an address space.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "driver/compiler/backend/operation.hpp"

namespace cx::compiler::backend {

class HazardMap {
 public:
  /// Operations by engine: the latest one, -1 for none.
  using Latest = std::array<int64_t, kEngines>;

  /// Records an access of operation `index` (rising, below 2^31) to [begin, end) and raises `needed` to what it depends
  /// on.
  void access(int64_t begin, int64_t end, bool write, int engine, int64_t index, Latest &needed) {
    if (begin >= end) return;
    const std::size_t first = cell_at(begin);
    const std::size_t last = cell_at(end);
    const auto operation = static_cast<int32_t>(index);
    for (std::size_t i = first; i < last; ++i) collect(cells_[i], write, needed);
    if (write) {
      cells_[first] = {operation, engine, kNobody};
      begins_.erase(begins_.begin() + offset(first) + 1, begins_.begin() + offset(last));
      cells_.erase(cells_.begin() + offset(first) + 1, cells_.begin() + offset(last));
      return;
    }
    for (std::size_t i = first; i < last; ++i) cells_[i].readers[static_cast<std::size_t>(engine)] = operation;
  }

 private:
  using Readers = std::array<int32_t, kEngines>;
  static constexpr Readers kNobody = [] {
    Readers readers{};
    readers.fill(-1);
    return readers;
  }();

  struct Cell {
    int32_t writer = -1;
    int32_t writer_engine = -1;
    Readers readers = kNobody;
  };

  static std::ptrdiff_t offset(std::size_t i) { return static_cast<std::ptrdiff_t>(i); }

  static void collect(const Cell &cell, bool write, Latest &needed) {
    if (cell.writer_engine >= 0) {
      int64_t &need = needed[static_cast<std::size_t>(cell.writer_engine)];
      need = std::max<int64_t>(need, cell.writer);
    }
    if (!write) return;
    for (std::size_t e = 0; e < kEngines; ++e) needed[e] = std::max<int64_t>(needed[e], cell.readers[e]);
  }

  /// The cell that begins at a byte, made by division of the one that holds it.
  std::size_t cell_at(int64_t byte) {
    const auto found = std::lower_bound(begins_.begin(), begins_.end(), byte);
    const auto i = static_cast<std::size_t>(found - begins_.begin());
    if (found != begins_.end() && *found == byte) return i;
    begins_.insert(found, byte);
    cells_.insert(cells_.begin() + offset(i), Cell(cells_[i - 1]));
    return i;
  }

  // Cell i is from begins_[i] on, up to the next. A walk over neighbours is what takes the time: they lie side by side.
  std::vector<int64_t> begins_{std::numeric_limits<int64_t>::min()};
  std::vector<Cell> cells_{Cell{}};
};

}  // namespace cx::compiler::backend
