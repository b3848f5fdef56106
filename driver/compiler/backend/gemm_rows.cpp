#include "driver/compiler/backend/gemm_rows.hpp"

#include <algorithm>

namespace cx::compiler::backend {

namespace {

std::optional<Descriptor> column_view(const std::optional<int64_t> &base, int64_t n, int64_t columns) {
  if (!base) return std::nullopt;
  Descriptor view;
  view.dtype = Dtype::FP32;
  view.base = static_cast<uint32_t>(*base + 4 * n);
  view.dims = {1, 1, 1, static_cast<uint16_t>(columns)};
  view.strides = {0, 0, 0, 4};
  return view;
}

}  // namespace

std::vector<RowBlock> row_blocks(const std::array<int64_t, 3> &rows, int64_t most) {
  std::array<int64_t, 3> size{1, 1, 1};
  for (std::size_t d = 3; d-- > 0;) {
    const int64_t parts = ceil_div(rows[d], std::max<int64_t>(most, 1));
    size[d] = ceil_div(rows[d], parts);
    most = parts == 1 ? most / rows[d] : 1;
  }
  std::vector<RowBlock> blocks;
  std::array<int64_t, 3> at{};
  for (at[0] = 0; at[0] < rows[0]; at[0] += size[0]) {
    for (at[1] = 0; at[1] < rows[1]; at[1] += size[1]) {
      for (at[2] = 0; at[2] < rows[2]; at[2] += size[2]) {
        RowBlock block{at, size};
        for (std::size_t d = 0; d < 3; ++d) block.size[d] = std::min(size[d], rows[d] - at[d]);
        blocks.push_back(block);
      }
    }
  }
  return blocks;
}

GemmTile with_merged_rows(GemmTile tile) {
  struct Rows {
    int64_t size = 1, a_stride = 0, result_stride = 0;
  };
  std::vector<Rows> merged;
  for (std::size_t d = 0; d < 3; ++d) {
    const Rows inner{tile.rows[d], tile.a_strides[d], tile.result_strides[d]};
    if (inner.size == 1) continue;
    if (!merged.empty() && merged.back().a_stride == inner.size * inner.a_stride &&
        merged.back().result_stride == inner.size * inner.result_stride) {
      merged.back() = {merged.back().size * inner.size, inner.a_stride, inner.result_stride};
    } else {
      merged.push_back(inner);
    }
  }
  merged.insert(merged.begin(), 3 - merged.size(), Rows{});
  for (std::size_t d = 0; d < 3; ++d) {
    tile.rows[d] = merged[d].size;
    tile.a_strides[d] = merged[d].a_stride;
    tile.result_strides[d] = merged[d].result_stride;
  }
  return tile;
}

int64_t offset_of(const std::array<int64_t, 3> &at, const std::array<int64_t, 3> &strides) {
  return at[0] * strides[0] + at[1] * strides[1] + at[2] * strides[2];
}

Descriptor row_view(const std::array<int64_t, 3> &rows, Dtype dtype, int64_t base,
                    const std::array<int64_t, 3> &strides, int64_t inner, int64_t inner_stride) {
  Descriptor view;
  view.dtype = dtype;
  view.base = static_cast<uint32_t>(base);
  for (std::size_t d = 0; d < 3; ++d) {
    view.dims[d] = static_cast<uint16_t>(rows[d]);
    view.strides[d] = static_cast<int32_t>(rows[d] == 1 ? 0 : strides[d]);
  }
  view.dims[3] = static_cast<uint16_t>(inner);
  view.strides[3] = static_cast<int32_t>(inner_stride);
  return view;
}

void drain_rows(Context &context, const GemmTile &tile, const RowBlock &block, int64_t n, int64_t columns,
                const DrainSource &source) {
  const int64_t base = tile.result + offset_of(block.at, tile.result_strides) + n * tile.result_n_stride;
  const Descriptor dst =
      row_view(block.size, tile.result_dtype, base, tile.result_strides, columns, tile.result_n_stride);
  context.emitter.drain(dst, column_view(tile.scale, n, columns), column_view(tile.bias, n, columns), tile.act, source);
}

}  // namespace cx::compiler::backend
