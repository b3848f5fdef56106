// Random and adversarial operations of a sparse tile, given to model and RTL alike.
#pragma once

#include <cstdint>
#include <string>

#include "hw/sca/sca_tile.hpp"
#include "tb/hw/common/num_random.hpp"

namespace cx::test {

/// How the non-zeros of a random matrix lie.
enum class Pattern : uint8_t {
  kUniform,  ///< each element on its own
  kDense,
  kNone,        ///< no non-zeros
  kOneColumn,   ///< one full column among few others
  kClustered,   ///< runs of rows, elsewhere in each column
  kRows,        ///< whole rows
  kStaircase,   ///< each column begins where the one before it ends
  kStructured,  ///< 1:8, 2:8 or 2:4
  kEnds,        ///< only the first and the last row
  kUneven,      ///< columns of different density
};
inline constexpr unsigned kPatterns = 10;
const char *name_of(Pattern pattern);

/// k x n weights whose values are random elements of the format, without zeros.
hw::SparseColumns random_weights(Random &random, num::DType dtype, uint32_t k, uint32_t n, Pattern pattern);

struct ScaComparison {
  uint64_t operations = 0;
  uint64_t loads = 0, multiplications = 0, drains = 0, stalled = 0;
  uint64_t by_pattern[kPatterns] = {};
  uint64_t nonzeros = 0;
  uint64_t elements = 0;  ///< drained and compared
  uint64_t bit_differences = 0;
  uint64_t cycle_differences = 0;
  uint64_t counter_differences = 0;
  std::string first;  ///< what differed first; empty: nothing
  void add(const ScaComparison &other);
};

/// Runs `operations` loads, multiplications and drains of random sizes, formats, patterns, feeds, overlap and stalls on
/// two tiles of the shape, and compares everything that is drained, the cycles and the counters.
/// Throws std::runtime_error if the shape is not built.
ScaComparison compare_sca_tiles(const hw::ScaShape &shape, uint64_t seed, uint64_t operations);

}  // namespace cx::test
