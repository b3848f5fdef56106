#include "driver/compiler/backend/gemm.hpp"

#include <algorithm>

namespace cx::compiler::backend {

namespace {

struct Piece {
  int64_t base = 0;
  int64_t length = 0;
  int64_t stride = 0;
  int64_t k = 0;  ///< first row of the weights
};

std::vector<Piece> cut(const std::vector<KRun> &runs, int64_t rows) {
  std::vector<Piece> pieces;
  int64_t k = 0;
  for (const KRun &run : runs) {
    // Equal pieces fill and drain the array less often than full ones with a small rest.
    const int64_t count = (run.length + rows - 1) / rows;
    const int64_t length = (run.length + count - 1) / count;
    for (int64_t at = 0; at < run.length; at += length) {
      pieces.push_back({run.base + at * run.stride, std::min(length, run.length - at), run.stride, k + at});
    }
    k += run.length;
  }
  return pieces;
}

Descriptor row_view(const GemmTile &tile, Dtype dtype, int64_t base, const std::array<int64_t, 3> &strides,
                    int64_t inner, int64_t inner_stride) {
  Descriptor view;
  view.dtype = dtype;
  view.base = static_cast<uint32_t>(base);
  for (std::size_t d = 0; d < 3; ++d) {
    view.dims[d] = static_cast<uint16_t>(tile.rows[d]);
    view.strides[d] = static_cast<int32_t>(tile.rows[d] == 1 ? 0 : strides[d]);
  }
  view.dims[3] = static_cast<uint16_t>(inner);
  view.strides[3] = static_cast<int32_t>(inner_stride);
  return view;
}

}  // namespace

int64_t rows_per_tile(const Target &target, TileSplit split) {
  return static_cast<int64_t>(target.tile_acc_rows) * split.m;
}

int64_t count_pieces(const Target &target, int64_t run_length, int64_t runs) {
  return runs * ((run_length + target.tile_rows - 1) / target.tile_rows);
}

int64_t rows_per_useful_tile(const Target &target, TileSplit split) {
  return split.m * 2 * static_cast<int64_t>(target.tile_rows);
}

TileSplit choose_split(const Target &target, Dtype dtype, int64_t m, int64_t n, int64_t pieces) {
  const auto ceil = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t blocks = ceil(n, target.tile_cols);
  const auto tiles = std::min<int64_t>(target.tiles, 255);
  const auto port = std::max<int64_t>(target.spm_bytes_per_cycle, 1);
  const int64_t row_bytes = static_cast<int64_t>(target.tile_rows) * element_bytes(dtype);
  TileSplit best;
  int64_t best_cost = -1;
  for (int64_t n_split = 1; n_split <= std::min(blocks, tiles); ++n_split) {
    const TileSplit split{std::min(tiles / n_split, std::max<int64_t>(m, 1)), n_split};
    const int64_t tile_rows = std::min(m, rows_per_tile(target, split));
    const int64_t rows_each = ceil(tile_rows, split.m);
    const int64_t columns = std::min(n, n_split * static_cast<int64_t>(target.tile_cols));
    // A pass takes its rows, but not less than loading the next weights nor than the scratchpad port's time for both.
    const int64_t port_cycles = ceil((tile_rows + columns) * row_bytes, port);
    const int64_t pass = std::max({rows_each, static_cast<int64_t>(target.tile_rows), port_cycles});
    const int64_t drain =
        std::max(rows_each, ceil(tile_rows * columns * 4, port)) + target.tile_rows + target.tile_cols;
    const int64_t cost = ceil(m, tile_rows) * ceil(blocks, n_split) * (pieces * pass + drain);
    if (best_cost < 0 || cost < best_cost) {
      best = split;
      best_cost = cost;
    }
  }
  return best;
}

void emit_gemm(Context &context, const GemmTile &tile, TileSplit split) {
  if (context.emitter.dry()) return;
  const int64_t m = tile.rows[0] * tile.rows[1] * tile.rows[2];
  const int64_t m_split = std::min(split.m, m);
  const int64_t rows = (m + m_split - 1) / m_split;
  const int64_t half = context.target.tile_acc_rows / 2;
  const std::vector<Piece> pieces = cut(tile.runs, context.target.tile_rows);
  const int64_t block = split.n * context.target.tile_cols;
  for (int64_t n = 0; n < tile.n; n += block) {
    const int64_t columns = std::min(block, tile.n - n);
    const TileSplit used{m_split, (columns + context.target.tile_cols - 1) / context.target.tile_cols};
    // Two halves by turns: one is drained while the other fills.
    const int64_t acc_row = rows <= half ? half * (context.acc_toggle++ % 2) : 0;
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      const Piece &piece = pieces[p];
      Descriptor w;
      w.dtype = tile.dtype;
      w.base = static_cast<uint32_t>(tile.weights + piece.k * tile.weight_k_stride + n * tile.weight_n_stride);
      w.dims = {1, 1, static_cast<uint16_t>(piece.length), static_cast<uint16_t>(columns)};
      w.strides = {0, 0, static_cast<int32_t>(tile.weight_k_stride), static_cast<int32_t>(tile.weight_n_stride)};
      context.emitter.load_weights(w, used);
      const Descriptor a = row_view(tile, tile.dtype, piece.base, tile.a_strides, piece.length, piece.stride);
      context.emitter.multiply(a, p > 0, used, columns, acc_row);
    }
    const Descriptor dst = row_view(tile, tile.result_dtype, tile.result + n * tile.result_n_stride,
                                    tile.result_strides, columns, tile.result_n_stride);
    std::optional<Descriptor> bias;
    if (tile.bias) {
      bias.emplace();
      bias->dtype = Dtype::FP32;
      bias->base = static_cast<uint32_t>(*tile.bias + 4 * n);
      bias->dims = {1, 1, 1, static_cast<uint16_t>(columns)};
      bias->strides = {0, 0, 0, 4};
    }
    context.emitter.drain(dst, bias, tile.act, used, acc_row);
  }
}

}  // namespace cx::compiler::backend
