// Products with constant weights on the SCA: compressed streams, the cycles that they take, the instructions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/backend/gemm_rows.hpp"

namespace cx::compiler::backend {

/// By what part the SCA has to be faster by the estimate, because estimates miss by some per cent.
constexpr double kSparseMargin = 1.05;

/// A product that might run on the SCA.
struct SparseCandidate {
  const Node *node = nullptr;
  TensorId weights = kNoTensor;
  std::string unfit;  ///< why it cannot; empty: it can as far as its shape goes
  Dtype dtype{};      ///< what is multiplied
  int64_t rows = 0;   ///< M of one product
  int64_t line = 1;   ///< rows that lie together: a block of rows is whole lines where it can be
  int64_t columns = 0;
  Depth depth;
  /// All of the weights; in `order`, as `quantiser` encodes them, they are [columns][K].
  Box box;
  std::vector<int> order;
  Quantiser quantiser;
  int64_t dense_cycles = 0;  ///< on the DMMU
};

class SparseProduct {
 public:
  /// The product if it shall run on the SCA. What is decided is noted in context.products. Throws InputError naming
  /// tensor, place and excess for weights that violate a stated pattern.
  static std::optional<SparseProduct> choose(Context &context, const Group &group, const SparseCandidate &candidate);

  /// Rows that the tiles take at once.
  int64_t rows_at_once() const;
  /// Rows of a tile, at most: more only delays the tiles after it.
  int64_t rows_per_tile() const { return 8 * rows_at_once(); }
  /// Columns of a pass for which the activations' loads do not count beside the products.
  int64_t columns_of_useful_pass() const;
  /// A multiple of this is a pass's first column.
  int64_t columns_of_group() const { return group_columns_; }

  /// Streams of columns [first, first + count) to the scratchpad.
  void load(Context &context, Arena &arena, int64_t first, int64_t count);
  /// The product of a tile with the columns that were loaded last; tile.runs are the candidate's.
  void emit(Context &context, const GemmTile &tile) const;

 private:
  /// A part of K that one instruction multiplies.
  struct Piece {
    std::size_t run = 0;
    int64_t first = 0;  ///< in the run
    int64_t length = 0;
    sparse::Layout layout;
    std::vector<uint8_t> stream;
    std::vector<int64_t> offsets;  ///< of the groups in the stream, and its end
    std::vector<int64_t> cycles;   ///< that each group takes
    int64_t base = 0;              ///< of what was loaded last, in the scratchpad

    /// Cycles of groups [first, first + groups) on `tiles` tiles, which share them; their weights come through a port
    /// of so many bytes a cycle.
    int64_t cycles_of(int64_t first, int64_t groups, int64_t tiles, int64_t port) const;
  };

  SparseProduct(const Context &context, const SparseCandidate &candidate, const std::vector<std::byte> &elements);

  /// A product of the tiles with one piece.
  struct Step {
    RowBlock block;
    TileSplit split;
    const Piece *piece = nullptr;
    int64_t group = 0;  ///< of the tile's columns: groups [group, end)
    int64_t end = 0;
    bool loads = false;  ///< needs other activations than the step before
  };

  void choose_split(const Target &target);
  int64_t cycles_of(const Target &target, TileSplit split) const;
  /// Blocks of rows that the tiles take one after the other.
  int64_t blocks_of(TileSplit split) const;
  std::vector<Step> steps_of(const GemmTile &tile) const;
  void load_activations(Context &context, const GemmTile &tile, const Step &step) const;
  uint64_t stream_bytes() const;

  Dtype dtype_;
  int64_t rows_ = 0;
  int64_t line_ = 1;
  int64_t columns_ = 0;
  int64_t group_columns_ = 0;
  int64_t lanes_ = 0;      ///< rows of a tile
  int64_t half_rows_ = 0;  ///< groups in one half of the accumulators
  std::vector<Piece> pieces_;
  TileSplit split_;
  int64_t estimate_ = 0;     ///< cycles
  int64_t first_group_ = 0;  ///< of what was loaded last
};

}  // namespace cx::compiler::backend
