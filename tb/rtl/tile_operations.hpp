// Random operations of a MAC tile, given to model and RTL alike.
#pragma once

#include <cstdint>
#include <string>

#include "hw/dmmu/mac_tile.hpp"

namespace cx::test {

struct TileComparison {
  uint64_t operations = 0;
  uint64_t loads = 0, passes = 0, output_stationary = 0, drains = 0, scaled = 0, mixed = 0, stalled = 0, injected = 0;
  uint64_t by_format[6] = {};  ///< passes by the activations' format
  uint64_t elements = 0;       ///< drained and compared
  uint64_t bit_differences = 0;
  uint64_t cycle_differences = 0;
  uint64_t counter_differences = 0;
  std::string first;  ///< what differed first; empty: nothing
  void add(const TileComparison &other);
};

/// Runs `operations` loads, passes of both dataflows and drains, of random sizes, formats, block scales, overlap and
/// stalls, on two tiles of the shape, and compares everything that is drained, the cycles and the counters. `max_m` is
/// the most rows of a pass. Throws std::runtime_error if the shape is not built.
TileComparison compare_tiles(const hw::TileShape &shape, uint64_t seed, uint64_t operations, uint32_t max_m);

}  // namespace cx::test
