// Products on the DMMU: a tile of rows times a tile of weights, both in the scratchpad.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "driver/compiler/backend/tile.hpp"

namespace cx::compiler::backend {

/// A piece of K whose elements lie `stride` bytes apart, at `base` for the first row.
struct KRun {
  int64_t base = 0;
  int64_t length = 0;
  int64_t stride = 0;
};

struct GemmTile {
  Dtype dtype{};
  std::array<int64_t, 3> rows{1, 1, 1};  ///< M = their product
  std::array<int64_t, 3> a_strides{};    ///< bytes from row to row
  std::vector<KRun> runs;                ///< K, in the order of the weights' rows
  int64_t weights = 0;                   ///< [K][n] in the scratchpad; compressed ones are with a SparseProduct
  int64_t weight_k_stride = 0;
  int64_t weight_n_stride = 0;
  int64_t n = 0;
  Dtype result_dtype{};
  int64_t result = 0;
  std::array<int64_t, 3> result_strides{};
  int64_t result_n_stride = 0;
  std::optional<int64_t> scale;  ///< FP32[n], dense; sums are multiplied with it before the bias is added
  std::optional<int64_t> bias;   ///< FP32[n], dense
  Activation act;
  bool accumulate = false;  ///< onto the sums of the product before, which did not drain
  bool drains = true;       ///< false: the sums stay where they are; at most one block of columns
};

/// M of a tile must be at most rows_per_tile() of the split.
void emit_gemm(Context &context, const GemmTile &tile, TileSplit split);

/// K of a product as the kernels have it: pieces of equal length that lie apart.
struct Depth {
  int64_t run_length = 0;
  int64_t runs = 0;
};

/// Splits of the array for products of m rows and n columns, the one that takes the fewest cycles first.
std::vector<TileSplit> rank_splits(const Target &target, Dtype dtype, int64_t m, int64_t n, Depth depth);

/// About the cycles of such a product.
int64_t product_cycles(const Target &target, Dtype dtype, int64_t m, int64_t n, Depth depth, TileSplit split);

/// Parts of a product, such as rows or maps, that are likely to fit a tile beside another one and the weights: `left`
/// elements of the left operand and `results` of the result each. What stays in the scratchpad takes no room in a tile.
/// At least 1.
int64_t parts_with_room(const Context &context, const Group &group, Dtype product, int64_t left, int64_t results);

/// Whether any output of the group goes to memory.
bool writes_memory(const Context &context, const Group &group);

/// Columns that a product can make at once.
int64_t columns_per_block(const Target &target, TileSplit split);

/// Rows that the accumulators of a split hold.
int64_t rows_per_tile(const Target &target, TileSplit split);

/// Rows below which a tile's passes take longer for weights than for rows.
int64_t rows_per_useful_tile(const Target &target, TileSplit split);

}  // namespace cx::compiler::backend
