// Which operations last wrote and since then read each byte of an address space.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>

#include "driver/compiler/backend/operation.hpp"

namespace cx::compiler::backend {

class HazardMap {
 public:
  /// Operations by engine: the latest one, -1 for none.
  using Latest = std::array<int64_t, kEngines>;

  /// Records an access of operation `index` (rising) to [begin, end) and raises `needed` to what it depends on.
  void access(int64_t begin, int64_t end, bool write, int engine, int64_t index, Latest &needed) {
    if (begin >= end) return;
    split(begin);
    split(end);
    for (auto it = cells_.lower_bound(begin); it != cells_.end() && it->first < end; ++it) {
      collect(it->second, write, needed);
    }
    if (write) {
      cells_.erase(cells_.lower_bound(begin), cells_.lower_bound(end));
      Cell cell{end, engine, index, {}};
      cell.readers.fill(-1);
      cells_[begin] = cell;
      return;
    }
    fill_gaps(begin, end);
    for (auto it = cells_.lower_bound(begin); it != cells_.end() && it->first < end; ++it) {
      int64_t &reader = it->second.readers[static_cast<std::size_t>(engine)];
      reader = std::max(reader, index);
    }
  }

 private:
  struct Cell {
    int64_t end = 0;
    int writer_engine = -1;
    int64_t writer = -1;
    Latest readers{};
  };

  static void collect(const Cell &cell, bool write, Latest &needed) {
    if (cell.writer_engine >= 0) {
      int64_t &need = needed[static_cast<std::size_t>(cell.writer_engine)];
      need = std::max(need, cell.writer);
    }
    if (!write) return;
    for (std::size_t e = 0; e < cell.readers.size(); ++e) needed[e] = std::max(needed[e], cell.readers[e]);
  }

  void split(int64_t at) {
    auto it = cells_.lower_bound(at);
    if (it == cells_.begin()) return;
    --it;
    if (it->first == at || it->second.end <= at) return;
    Cell right = it->second;
    it->second.end = at;
    cells_[at] = right;
  }

  void fill_gaps(int64_t begin, int64_t end) {
    int64_t at = begin;
    auto it = cells_.lower_bound(begin);
    while (at < end) {
      const int64_t next = it != cells_.end() && it->first < end ? it->first : end;
      if (next > at) {
        Cell cell{next, -1, -1, {}};
        cell.readers.fill(-1);
        cells_[at] = cell;
      }
      if (it == cells_.end() || it->first >= end) return;
      at = it->second.end;
      ++it;
    }
  }

  std::map<int64_t, Cell> cells_;  // disjoint, by first byte
};

}  // namespace cx::compiler::backend
