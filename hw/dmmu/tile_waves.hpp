// What to record of an RTL tile, dense or sparse.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cx::hw {

/// The cycles in which the tile has something to do and which lie in one of the windows [from, to).
struct TileWaves {
  std::string path;  ///< FST file
  std::vector<std::pair<uint64_t, uint64_t>> windows;
  uint64_t period_ps = 1000;  ///< of the clock
  uint64_t origin_ps = 0;     ///< of cycle 0 in the file's time, modulo 2^64

  bool covers(uint64_t cycle) const {
    return std::any_of(windows.begin(), windows.end(),
                       [cycle](const auto &window) { return cycle >= window.first && cycle < window.second; });
  }
  /// When a cycle begins, in the file's time.
  uint64_t begin_ps(uint64_t cycle) const { return cycle * period_ps + origin_ps; }
};

}  // namespace cx::hw
