// Whole products on tiles that were just made: sparse ones on model or RTL, and dense ones to compare them with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "hw/sca/sca_tile.hpp"
#include "tb/hw/common/num_random.hpp"

namespace cx::test {

/// Random m x k activations of moderate size, an eighth of them zeros, without infinities and NaN.
struct Finite {
  Finite(Random &random, num::DType dtype, uint32_t m, uint32_t k);
  std::vector<std::byte> data;
  hw::TileOperand operand;
};

struct SparseProduct {
  std::vector<uint32_t> words;  ///< m x n sums, FP32 or INT32
  uint64_t cycles = 0;          ///< of the whole, from the load's command to the last drained column
  hw::ScaCounters counters;
  uint64_t cycle_differences = 0;  ///< see ScaTile
  std::string first_difference;
};

/// The sums of a times w; with `accumulate` the product is added to itself once. `stall_seed` (0: none) makes the RTL's
/// ports irregular. Sizes are at most the shape's. Throws std::runtime_error for an RTL shape that is not built.
SparseProduct sparse_product(const hw::ScaShape &shape, bool rtl, const hw::TileOperand &a, const hw::SparseColumns &w,
                             bool accumulate = false, uint64_t stall_seed = 0);

/// The same sums by output-stationary passes of the DMMU's model tile over all weights, zeros included: m x n words.
/// At most 32 rows of activations.
std::vector<uint32_t> dense_product(const hw::TileOperand &a, const hw::SparseColumns &w);

}  // namespace cx::test
