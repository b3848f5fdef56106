// Matrix products on the DMMU or the SCA. A right operand without batch dimensions stays in the scratchpad for a range
// of columns.
#include <algorithm>

#include "driver/compiler/backend/gemm.hpp"
#include "driver/compiler/backend/kernel.hpp"
#include "driver/compiler/backend/sparse_product.hpp"

namespace cx::compiler::backend {

namespace {

std::vector<int> row_major_order(std::size_t rank) {
  std::vector<int> order(rank);
  for (std::size_t d = 0; d < rank; ++d) order[d] = static_cast<int>(d);
  return order;
}

constexpr int kSplits = 3;  ///< splits of the array to try

class MatMulKernel : public Kernel {
 public:
  MatMulKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        product_(product_dtype(context, node_)),
        rank_(group.shape.size()),
        a_shape_(context.graph[node_.inputs[0]].shape),
        b_shape_(context.graph[node_.inputs[1]].shape),
        bias_id_(anchor_bias(group, node_)),
        transposed_(node_.integer("trans_b", 0) != 0),
        a_quantiser_(quantiser_of(context, node_.inputs[0])),
        b_quantiser_(quantiser_of(context, node_.inputs[1], static_cast<int>(b_shape_.size()) - (transposed_ ? 2 : 1))),
        depth_(a_shape_.back()) {
    shared_ = std::all_of(b_shape_.begin(), b_shape_.end() - 2, [](int64_t size) { return size == 1; });
    int64_t rows = group.shape[rank_ - 2];
    if (shared_ && rank_ > 2) rows *= group.shape[rank_ - 3];
    rows = std::min(rows, parts_with_room(context, group, product_, depth_, group.shape.back()));
    require_exact_sums(context, node_, depth_);
    splits_ = rank_splits(context.target, product_, rows, group.shape.back(), {depth_, 1});
    split_ = splits_.front();
    choose_piece();
    sparse_ = SparseProduct::choose(context, group, sparse_candidate(rows));
  }

  Shape shape() const override { return group_.shape; }
  bool is_searched() const override { return true; }
  int pass_dimension() const override { return shared_ && !in_pieces() ? static_cast<int>(rank_) - 1 : -1; }

  std::vector<Tiling> tilings() const override {
    std::vector<Tiling> result;
    const auto columns = sparse_ ? sparse_->columns_of_group() : static_cast<int64_t>(context_.target.tile_cols);
    int64_t n = group_.shape.back();
    // Small passes overlap best with their weights' loads; others would load the left operand once for each.
    if (in_pieces() || (shared_ && on_chip())) {
      n = std::min(n, sparse_ ? sparse_->columns_of_useful_pass() : split_.n * columns);
    }
    for (;;) {
      row_tilings(n, result);
      if (n <= columns) return result;
      // Whole blocks of the array while there is more than one: a part of one takes as long.
      const int64_t block = sparse_ ? columns : split_.n * columns;
      const int64_t step = n > block ? block : columns;
      n = (n / 2 + step - 1) / step * step;
    }
  }

  int variants() const override {
    // Pieces of K depend on the split, and sums on the pieces.
    return in_pieces() || sparse_ ? 1 : std::min(static_cast<int>(splits_.size()), kSplits);
  }
  void choose_variant(int number) override { split_ = splits_[static_cast<std::size_t>(number)]; }
  std::string variant_text() const override {
    return "array " + std::to_string(split_.m) + " x " + std::to_string(split_.n);
  }

  int64_t smallest_useful_tile() const override {
    const int64_t rows = sparse_ ? sparse_->rows_at_once() : rows_per_useful_tile(context_.target, split_);
    return rows * tiled_columns();
  }

  int64_t smallest_tile() const override {
    constexpr int64_t kMuchTooSmall = 4;
    return smallest_useful_tile() / kMuchTooSmall;
  }

  int64_t wanted_tiles() const override {
    return shared_ && on_chip() && group_.steps.empty() ? 1 : Kernel::wanted_tiles();
  }

  void resident(Arena &arena, const Box &range) override {
    range_ = range;
    if (sparse_) {
      sparse_->load(context_, arena, range.start.back(), range.size.back());
    } else if (shared_ && !in_pieces()) {
      weights_ = load_weights(arena, range, 0, depth_);
    }
    if (bias_id_ != kNoTensor) {
      bias_ = load_channels(context_, arena, bias_id_, range.start.back(), range.size.back());
    }
    const std::vector<float> scales =
        drain_scales(a_quantiser_, b_quantiser_, group_.anchor_scale, range.start.back(), range.size.back());
    if (!scales.empty()) scale_ = load_floats(context_, arena, scales);
    if (const TensorId id = scale_operand(node_); id != kNoTensor) {
      scale_ = load_box(context_, arena, id, {{range.start.back()}, {range.size.back()}}, Dtype::FP32, {0});
    }
    tail_.load_resident(arena, range);
  }

  void tile(Arena &arena, const Box &box) override {
    if (in_pieces()) {
      const SpmView result = tail_.anchor_buffer(arena, box, row_major_order(rank_));
      const int64_t count = (depth_ + piece_ - 1) / piece_;
      in_turns(context_, arena, count, [&](Arena &buffer, int64_t n) {
        const int64_t first = n * piece_;
        const int64_t length = std::min(piece_, depth_ - first);
        const SpmView a = load_left(buffer, box, first, length);
        const SpmView w = load_weights(buffer, box, first, length);
        multiply(a, w, result, box, {n > 0, n + 1 == count});
      });
      tail_.run(arena, box, result, row_major_order(rank_));
      return;
    }
    const SpmView a = load_left(arena, box, 0, depth_);
    const SpmView w = shared_ || sparse_ ? weights_ : load_weights(arena, box, 0, depth_);
    context_.emitter.operands_ready();
    const SpmView result = tail_.anchor_buffer(arena, box, row_major_order(rank_));
    multiply(a, w, result, box, {false, true});
    tail_.run(arena, box, result, row_major_order(rank_));
  }

 private:
  /// Whether sums go onto those of the piece before, and leave the accumulators.
  struct Part {
    bool accumulates = false;
    bool drains = true;
  };

  bool in_pieces() const { return !sparse_ && piece_ < depth_; }

  SparseCandidate sparse_candidate(int64_t rows) const {
    SparseCandidate candidate;
    candidate.node = &node_;
    candidate.weights = node_.inputs[1];
    if (!shared_) candidate.unfit = "every batch has its own weights";
    candidate.dtype = product_;
    candidate.rows = rows;
    candidate.columns = group_.shape.back();
    candidate.depth = {depth_, 1};
    candidate.box = {Dims(b_shape_.size(), 0), b_shape_};
    candidate.order = row_major_order(b_shape_.size());
    if (!transposed_) std::swap(*(candidate.order.end() - 2), candidate.order.back());
    candidate.quantiser = b_quantiser_;
    candidate.dense_cycles =
        product_cycles(context_.target, product_, rows, candidate.columns, candidate.depth, split_);
    return candidate;
  }

  /// K is whole in the scratchpad unless one block of columns and a few rows take more than half of it.
  void choose_piece() {
    piece_ = depth_;
    const auto bytes = [&](TensorId id, const Quantiser &quantiser) {
      const Dtype stored = operand_dtype(context_, id);
      const bool twice = !context_.graph[id].is_constant() && stored != quantiser.dtype;
      return element_bytes(quantiser.dtype) + (twice ? element_bytes(stored) : 0);
    };
    const int64_t a = bytes(node_.inputs[0], a_quantiser_);
    const int64_t b = bytes(node_.inputs[1], b_quantiser_);
    const auto room = static_cast<int64_t>(context_.target.spm_bytes);
    const int64_t columns = std::min<int64_t>(group_.shape.back(), context_.target.tile_cols);
    if (2 * depth_ * (columns * b + a) <= room) return;
    const int64_t wide = std::min(group_.shape.back(), columns_per_block(context_.target, split_));
    constexpr int64_t kRows = 32;
    piece_ = std::clamp<int64_t>(room / 8 / (wide * b + kRows * a) / 16 * 16, 16, depth_);
  }

  SpmView load_left(Arena &arena, const Box &box, int64_t first, int64_t length) {
    Box a_box = box;
    a_box.start.back() = first;
    a_box.size.back() = length;
    const Box part = operand_box(a_shape_, a_box);
    return broadcast(
        load_operand(context_, arena, node_.inputs[0], part, a_quantiser_, row_major_order(a_shape_.size())),
        a_box.size);
  }

  int64_t tiled_columns() const { return group_.shape.back(); }

  /// Tiles load nothing but weights.
  bool on_chip() const {
    const TensorId a = node_.inputs[0];
    return stays_in_scratchpad(context_, a) && context_.layout.dtype(a) == a_quantiser_.dtype &&
           a_quantiser_.tensor_factor() == 1;
  }

  void row_tilings(int64_t n, std::vector<Tiling> &result) const {
    const int64_t most = sparse_ ? sparse_->rows_per_tile() : rows_per_tile(context_.target, split_);
    Tiling tiling(rank_, 1);
    tiling[rank_ - 1] = n;
    int64_t &rows = tiling[rank_ - 2];
    rows = std::min(group_.shape[rank_ - 2], most);
    int64_t unused = 1;
    int64_t &batches = rank_ > 2 ? tiling[rank_ - 3] : unused;
    if (rank_ > 2 && shared_ && !in_pieces() && rows == group_.shape[rank_ - 2]) {
      batches = std::clamp<int64_t>(most / rows, 1, group_.shape[rank_ - 3]);
    }
    for (;;) {
      result.push_back(tiling);
      if (batches > 1) {
        batches = (batches + 1) / 2;
      } else if (rows > 1) {
        rows = (rows + 1) / 2;
      } else {
        return;
      }
    }
  }

  /// View with dims [..., K, n] whatever the operand's orientation, of `length` rows.
  SpmView load_weights(Arena &arena, const Box &range, int64_t first, int64_t length) {
    const std::size_t rank = b_shape_.size();
    Box out = range;  // in the result's dimensions, with K where the rows are
    out.start[rank_ - 2] = first;
    out.size[rank_ - 2] = length;
    Shape as_columns = b_shape_;
    if (transposed_) std::swap(as_columns[rank - 2], as_columns[rank - 1]);
    Box part = operand_box(as_columns, out);
    std::vector<int> order = row_major_order(rank);
    if (transposed_) {
      std::swap(part.start[rank - 2], part.start[rank - 1]);
      std::swap(part.size[rank - 2], part.size[rank - 1]);
      std::swap(order[rank - 2], order[rank - 1]);
    }
    SpmView view = load_operand(context_, arena, node_.inputs[1], part, b_quantiser_, order);
    if (transposed_) {
      std::swap(view.dims[rank - 2], view.dims[rank - 1]);
      std::swap(view.strides[rank - 2], view.strides[rank - 1]);
    }
    return view;
  }

  void multiply(const SpmView &a, const SpmView &w, const SpmView &result, const Box &box, const Part &part) {
    GemmTile tile;
    tile.dtype = product_;
    tile.rows[2] = box.size[rank_ - 2];
    tile.a_strides[2] = a.strides[rank_ - 2];
    tile.result_strides[2] = result.strides[rank_ - 2];
    if (rank_ > 2) {
      tile.rows[1] = box.size[rank_ - 3];
      tile.a_strides[1] = a.strides[rank_ - 3];
      tile.result_strides[1] = result.strides[rank_ - 3];
    }
    const int64_t length = a.dims[rank_ - 1];
    tile.runs.push_back({a.base, length, length == 1 ? element_bytes(product_) : a.strides[rank_ - 1]});
    tile.n = box.size.back();
    tile.result_dtype = result.dtype;
    tile.result = result.base;
    tile.result_n_stride = result.strides.back();
    if (scale_) tile.scale = scale_->base + 4 * (box.start.back() - range_.start.back());
    if (bias_id_ != kNoTensor) tile.bias = bias_.base + 4 * (box.start.back() - range_.start.back());
    tile.act = group_.anchor_act;
    tile.accumulate = part.accumulates;
    tile.drains = part.drains;
    if (sparse_) {
      sparse_->emit(context_, tile);
      return;
    }
    const std::size_t w_rank = w.dims.size();
    tile.weights = w.base;
    tile.weight_k_stride = w.strides[w_rank - 2];
    tile.weight_n_stride = w.strides[w_rank - 1];
    emit_gemm(context_, tile, split_);
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  Dtype product_;  ///< what the DMMU multiplies
  std::size_t rank_;
  Shape a_shape_;
  Shape b_shape_;
  TensorId bias_id_;
  bool transposed_;
  Quantiser a_quantiser_;
  Quantiser b_quantiser_;
  bool shared_ = false;  ///< one right operand for all batches
  int64_t depth_;
  int64_t piece_ = 0;              ///< of K, that is in the scratchpad at once
  std::vector<TileSplit> splits_;  ///< the best first
  TileSplit split_;
  std::optional<SparseProduct> sparse_;  ///< instead of the DMMU
  Box range_;
  SpmView weights_;
  SpmView bias_;
  std::optional<SpmView> scale_;
};

}  // namespace

std::unique_ptr<Kernel> lower_matmul(Context &context, const Group &group) {
  return std::make_unique<MatMulKernel>(context, group);
}

}  // namespace cx::compiler::backend
