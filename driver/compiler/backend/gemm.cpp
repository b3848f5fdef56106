#include "driver/compiler/backend/gemm.hpp"

#include <algorithm>
#include <limits>

#include "driver/compiler/backend/gemm_rows.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

struct Piece {
  int64_t base = 0;
  int64_t length = 0;
  int64_t stride = 0;
  int64_t k = 0;  ///< first row of the weights
};

/// Elements of K that an element of the array multiplies in a cycle.
int64_t pack_of(const Target &target, Dtype dtype) {
  return is_8_bit(dtype) ? std::max<int64_t>(target.tile_pack, 1) : 1;
}

/// K of an instruction at most.
int64_t deepest(const Target &target, Dtype dtype) {
  constexpr int64_t kDescriptor = 65535;
  if (target.output_stationary) return kDescriptor / 4 * 4;
  return target.tile_rows * pack_of(target, dtype);
}

/// Equal pieces fill and drain the array less often than full ones with a small rest; they are whole packs.
int64_t piece_length(const Target &target, Dtype dtype, int64_t run_length) {
  const int64_t pack = pack_of(target, dtype);
  const int64_t count = ceil_div(run_length, deepest(target, dtype));
  return ceil_div(ceil_div(run_length, count), pack) * pack;
}

std::vector<Piece> cut(const std::vector<KRun> &runs, const Target &target, Dtype dtype) {
  std::vector<Piece> pieces;
  int64_t k = 0;
  for (const KRun &run : runs) {
    const int64_t length = piece_length(target, dtype, run.length);
    for (int64_t at = 0; at < run.length; at += length) {
      pieces.push_back({run.base + at * run.stride, std::min(length, run.length - at), run.stride, k + at});
    }
    k += run.length;
  }
  return pieces;
}

/// Rows of a product that one output-stationary pass makes.
int64_t stationary_rows(const Target &target, TileSplit split) {
  return split.m * std::min(target.tile_rows, target.tile_acc_rows);
}

Descriptor weight_view(const GemmTile &tile, const Piece &piece, int64_t n, int64_t columns) {
  Descriptor w;
  w.dtype = tile.dtype;
  w.base = static_cast<uint32_t>(tile.weights + piece.k * tile.weight_k_stride + n * tile.weight_n_stride);
  w.dims = {1, 1, static_cast<uint16_t>(piece.length), static_cast<uint16_t>(columns)};
  w.strides = {0, 0, static_cast<int32_t>(tile.weight_k_stride), static_cast<int32_t>(tile.weight_n_stride)};
  return w;
}

/// Weights stay in the array while rows go by.
void emit_weight_stationary(Context &context, const GemmTile &tile, const std::vector<Piece> &pieces, int64_t n,
                            int64_t columns, TileSplit used) {
  const int64_t m = tile.rows[0] * tile.rows[1] * tile.rows[2];
  const int64_t half = context.target.tile_acc_rows / 2;
  // Two halves by turns: one is drained while the other fills.
  const int64_t acc_row = ceil_div(m, used.m) <= half ? half * (context.acc_toggle % 2) : 0;
  for (std::size_t p = 0; p < pieces.size(); ++p) {
    const Piece &piece = pieces[p];
    context.emitter.load_weights(weight_view(tile, piece, n, columns), used);
    const Descriptor a = row_view(tile.rows, tile.dtype, piece.base, tile.a_strides, piece.length, piece.stride);
    context.emitter.multiply(a, tile.accumulate || p > 0, used, columns, acc_row);
  }
  if (!tile.drains) return;
  drain_rows(context, tile, {{}, tile.rows}, n, columns, {isa::Engine::DMMU, used, acc_row});
  ++context.acc_toggle;
}

/// Sums stay in the array while K goes by. A drain splits its rows over the tiles evenly, so each block of rows has its
/// own; a tile cannot start a pass while it drains, so drains come together once the accumulators are full.
void emit_output_stationary(Context &context, const GemmTile &tile, const std::vector<Piece> &pieces, int64_t n,
                            int64_t columns, TileSplit split) {
  const int64_t rows = std::min(context.target.tile_rows, context.target.tile_acc_rows);
  const auto places = static_cast<std::size_t>(context.target.tile_acc_rows / rows);
  const std::vector<RowBlock> blocks = row_blocks(tile.rows, stationary_rows(context.target, split));
  if (!(tile.drains && !tile.accumulate) && blocks.size() > places)
    throw Error("sums that stay exceed the accumulators");
  const auto used = [&](const RowBlock &block) {
    return TileSplit{std::min(split.m, block.size[0] * block.size[1] * block.size[2]), split.n};
  };
  for (std::size_t first = 0; first < blocks.size(); first += places) {
    const std::size_t last = std::min(blocks.size(), first + places);
    for (std::size_t b = first; b < last; ++b) {
      const RowBlock &block = blocks[b];
      for (std::size_t p = 0; p < pieces.size(); ++p) {
        const Piece &piece = pieces[p];
        const Descriptor a = row_view(block.size, tile.dtype, piece.base + offset_of(block.at, tile.a_strides),
                                      tile.a_strides, piece.length, piece.stride);
        context.emitter.multiply_output_stationary(a, weight_view(tile, piece, n, columns), tile.accumulate || p > 0,
                                                   used(block), rows * static_cast<int64_t>(b - first));
      }
    }
    for (std::size_t b = first; tile.drains && b < last; ++b) {
      drain_rows(context, tile, blocks[b], n, columns,
                 {isa::Engine::DMMU, used(blocks[b]), rows * static_cast<int64_t>(b - first)});
    }
  }
}

/// Cycles of a product of `rows` rows (all tiles together) and `columns` columns.
int64_t tile_cycles(const Target &target, Dtype dtype, int64_t rows, int64_t columns, TileSplit split, Depth depth) {
  const auto port = std::max<int64_t>(target.spm_bytes_per_cycle, 1);
  const int64_t length = piece_length(target, dtype, depth.run_length);
  const int64_t pieces = depth.runs * ceil_div(depth.run_length, length);
  const int64_t steps = ceil_div(length, pack_of(target, dtype));
  const auto operand_cycles = [&](int64_t m) { return ceil_div((m + columns) * length * element_bytes(dtype), port); };
  const auto drain_cycles = [&](int64_t m) {
    return std::max(ceil_div(m, split.m), ceil_div(m * columns * 4, port)) + target.tile_rows + target.tile_cols;
  };
  if (target.output_stationary) {
    const int64_t block = std::min(rows, stationary_rows(target, split));
    // The next block starts when the sums of this one begin to leave.
    const int64_t pass = std::max<int64_t>(steps + target.tile_rows, operand_cycles(block));
    return ceil_div(rows, block) * pieces * pass + drain_cycles(rows);
  }
  // A pass takes its rows, but not less than loading the next weights nor than the scratchpad port's time for both.
  const int64_t pass = std::max({ceil_div(rows, split.m), steps, operand_cycles(rows)});
  return pieces * pass + drain_cycles(rows);
}

}  // namespace

bool writes_memory(const Context &context, const Group &group) {
  return std::any_of(group.outputs.begin(), group.outputs.end(),
                     [&](TensorId id) { return !stays_in_scratchpad(context, id); });
}

int64_t parts_with_room(const Context &context, const Group &group, Dtype product, int64_t left, int64_t results) {
  constexpr int64_t kShare = 4;      // two tiles and the weights
  constexpr int64_t kWithSteps = 3;  // the product's result, a step's operand, the step's result
  const TensorId operand = context.graph.nodes[static_cast<std::size_t>(group.nodes.front())].inputs[0];
  int64_t bytes = 0;
  if (!stays_in_scratchpad(context, operand)) bytes += left * element_bytes(product);
  if (!group.steps.empty()) {
    bytes += kWithSteps * results * element_bytes(Dtype::FP32);
  } else if (writes_memory(context, group)) {
    bytes += results * element_bytes(context.element);
  }
  const auto room = static_cast<int64_t>(context.target.spm_bytes) / kShare;
  return bytes == 0 ? std::numeric_limits<int64_t>::max() : std::max<int64_t>(room / bytes, 1);
}

int64_t columns_per_block(const Target &target, TileSplit split) { return split.n * target.tile_cols; }

int64_t rows_per_tile(const Target &target, TileSplit split) {
  return static_cast<int64_t>(target.tile_acc_rows) * split.m;
}

int64_t rows_per_useful_tile(const Target &target, TileSplit split) {
  return split.m * 2 * static_cast<int64_t>(target.tile_rows);
}

int64_t product_cycles(const Target &target, Dtype dtype, int64_t m, int64_t n, Depth depth, TileSplit split) {
  const int64_t turns = ceil_div(m, rows_per_tile(target, split));
  const int64_t rows = ceil_div(m, turns);
  const int64_t columns = std::min(n, columns_per_block(target, split));
  return turns * ceil_div(n, columns_per_block(target, split)) *
         tile_cycles(target, dtype, rows, columns, split, depth);
}

std::vector<TileSplit> rank_splits(const Target &target, Dtype dtype, int64_t m, int64_t n, Depth depth) {
  const int64_t blocks = ceil_div(n, target.tile_cols);
  const int64_t tiles = target.tiles;
  struct Ranked {
    TileSplit split;
    int64_t cost = 0;
  };
  std::vector<Ranked> ranked;
  for (int64_t n_split = 1; n_split <= std::min(blocks, tiles); ++n_split) {
    const TileSplit split{std::min(tiles / n_split, std::max<int64_t>(m, 1)), n_split};
    ranked.push_back({split, product_cycles(target, dtype, m, n, depth, split)});
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const Ranked &a, const Ranked &b) { return a.cost < b.cost; });
  std::vector<TileSplit> splits;
  for (const Ranked &one : ranked) splits.push_back(one.split);
  return splits;
}

void emit_gemm(Context &context, const GemmTile &asked, TileSplit split) {
  if (context.emitter.dry()) return;
  const bool output_stationary = context.target.output_stationary;
  const GemmTile tile = output_stationary ? with_merged_rows(asked) : asked;
  const int64_t m = tile.rows[0] * tile.rows[1] * tile.rows[2];
  const std::vector<Piece> pieces = cut(tile.runs, context.target, tile.dtype);
  const int64_t block = split.n * context.target.tile_cols;
  for (int64_t n = 0; n < tile.n; n += block) {
    const int64_t columns = std::min(block, tile.n - n);
    const TileSplit used{std::min(split.m, m), ceil_div(columns, context.target.tile_cols)};
    if (output_stationary) {
      emit_output_stationary(context, tile, pieces, n, columns, used);
    } else {
      emit_weight_stationary(context, tile, pieces, n, columns, used);
    }
  }
}

}  // namespace cx::compiler::backend
