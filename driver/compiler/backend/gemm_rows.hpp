// Rows and columns of a product's tile as instructions take them, for the dense and the sparse unit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "driver/compiler/backend/gemm.hpp"
#include "hw/common/num/whole.hpp"

namespace cx::compiler::backend {

using num::ceil_div;

/// Rows [at, at + size) of a tile.
struct RowBlock {
  std::array<int64_t, 3> at{};
  std::array<int64_t, 3> size{};

  int64_t rows() const { return size[0] * size[1] * size[2]; }
};

/// Blocks of at most `most` rows that together are the tile's rows: whole inner dimensions where they fit.
std::vector<RowBlock> row_blocks(const std::array<int64_t, 3> &rows, int64_t most);

/// The same rows with dimensions that lie densely in both operand and result as one.
GemmTile with_merged_rows(GemmTile tile);

/// Bytes from the first row to the row at `at`.
int64_t offset_of(const std::array<int64_t, 3> &at, const std::array<int64_t, 3> &strides);

/// Rows of an operand or result, `inner` elements each.
Descriptor row_view(const std::array<int64_t, 3> &rows, Dtype dtype, int64_t base,
                    const std::array<int64_t, 3> &strides, int64_t inner, int64_t inner_stride);

/// Accumulators to the tile's result: the rows of the block, columns [n, n + columns).
void drain_rows(Context &context, const GemmTile &tile, const RowBlock &block, int64_t n, int64_t columns,
                const DrainSource &source);

}  // namespace cx::compiler::backend
