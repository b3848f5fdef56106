// The Verilated tile in a plain loop: the measure for what a chip around it costs.
#pragma once

#include <cstdint>

#include "hw/dmmu/tile_timing.hpp"

namespace cx::hw {

struct TileAlone {
  uint64_t macs = 0;
  uint64_t cycles = 0;
  double wall_s = 0;
  double cpu_s = 0;  ///< of the process
};

/// `blocks` times: `folds` times weights of the longest K and a weight-stationary pass of m rows over all columns into
/// the same accumulators, then a drain of the m rows as a compiled product has it: in the format of the operands, or
/// with a scale for each column to FP16 if these have 8 bits. Operands are evenly spread over [-1, 1). One clock cycle
/// at a time, rows at the pins as soon as the tile takes them, results not looked at. Throws as rtl::make_tile_sim(),
/// and std::invalid_argument for a format that the shape lacks or an impossible m.
TileAlone run_tile_alone(const TileShape &shape, num::DType format, uint32_t m, uint32_t blocks, uint32_t folds);

}  // namespace cx::hw
