// Convolutions on the DMMU or the SCA as implicit matrix products: rows are output positions, K runs over kernel
// positions and channels.
#include <algorithm>
#include <cstring>

#include "driver/compiler/backend/gemm.hpp"
#include "driver/compiler/backend/kernel.hpp"
#include "driver/compiler/backend/patch.hpp"
#include "driver/compiler/backend/sparse_product.hpp"

namespace cx::compiler::backend {

namespace {

const std::vector<int> kChannelsLast{0, 2, 3, 1};
constexpr int64_t kSmallTile = 64;  ///< rows; smaller tiles waste more than another pass over the input costs

constexpr int kSplits = 3;  ///< splits of the array to try

class ConvKernel : public Kernel {
 public:
  ConvKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        product_(product_dtype(context, node_)),
        weights_id_(node_.inputs[1]),
        bias_id_(anchor_bias(group, node_)),
        input_quantiser_(quantiser_of(context, node_.inputs[0])),
        weight_quantiser_(quantiser_of(context, weights_id_, 0)),
        groups_(node_.integer("group", 1)),
        channels_(context.graph[weights_id_].shape[1]),
        outputs_(group.shape[1] / groups_),
        window_(window_shape(node_, context.graph[weights_id_].shape[2], context.graph[weights_id_].shape[3])) {
    const int64_t rows = maps_together() * group.shape[2] * group.shape[3];
    const Depth depth = joined() ? Depth{window_.kernel_x * channels_, window_.kernel_y}
                                 : Depth{channels_, window_.kernel_y * window_.kernel_x};
    require_exact_sums(context, node_, depth.run_length * depth.runs);
    splits_ = rank_splits(context.target, product_, rows, outputs_, depth);
    split_ = splits_.front();
    choose_piece();
    sparse_ = SparseProduct::choose(context, group, sparse_candidate());
    in_place_ = reads_in_place(context, node_.inputs[0], window_, group.shape, false, joined());
  }

  Shape shape() const override { return group_.shape; }
  bool is_searched() const override { return true; }
  int pass_dimension() const override { return in_pieces() ? -1 : 1; }

  std::vector<Tiling> tilings() const override {
    std::vector<Tiling> large;
    std::vector<Tiling> small;
    const int64_t rows = group_.shape[0] * group_.shape[2] * group_.shape[3];
    for (int64_t n : channel_parts()) {
      for (const Tiling &tiling : area_tilings(n)) {
        const bool is_small = tiling[0] * tiling[2] * tiling[3] < std::min(kSmallTile, rows);
        (is_small ? small : large).push_back(tiling);
      }
    }
    large.insert(large.end(), small.begin(), small.end());
    return large;
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

  int64_t wanted_tiles() const override { return on_chip() && group_.steps.empty() ? 1 : Kernel::wanted_tiles(); }

  void resident(Arena &arena, const Box &range) override {
    range_ = range;
    if (sparse_) {
      sparse_->load(context_, arena, range.start[1], range.size[1]);
    } else if (!in_pieces()) {
      load_weights(arena, range, 0, channels_);
    }
    if (bias_id_ != kNoTensor) {
      bias_ = load_channels(context_, arena, bias_id_, range.start[1], range.size[1]);
    }
    const std::vector<float> scales =
        drain_scales(input_quantiser_, weight_quantiser_, group_.anchor_scale, range.start[1], range.size[1]);
    if (!scales.empty()) scale_ = load_floats(context_, arena, scales);
    if (const TensorId id = scale_operand(node_); id != kNoTensor) {
      scale_ = load_box(context_, arena, id, {{range.start[1]}, {range.size[1]}}, Dtype::FP32, {0});
    }
    tail_.load_resident(arena, range);
  }

  void tile(Arena &arena, const Box &box) override {
    if (in_pieces()) {
      const SpmView result = tail_.anchor_buffer(arena, box, kChannelsLast);
      const int64_t count = (channels_ + piece_ - 1) / piece_;
      in_turns(context_, arena, count, [&](Arena &buffer, int64_t n) {
        const int64_t first = n * piece_;
        const int64_t length = std::min(piece_, channels_ - first);
        const Patch patch = load_patch(context_, buffer, node_.inputs[0], window_, box, first, length, false,
                                       input_quantiser_, in_place_);
        load_weights(buffer, box, first, length);
        multiply(patch, result, box, 0, {length, n > 0, n + 1 == count});
      });
      tail_.run(arena, box, result, kChannelsLast);
      return;
    }
    const int64_t parts = groups_ == 1 ? 1 : box.size[1] / outputs_;
    const int64_t first = groups_ == 1 ? 0 : box.start[1] / outputs_ * channels_;
    const Patch patch = load_patch(context_, arena, node_.inputs[0], window_, box, first, channels_ * parts, false,
                                   input_quantiser_, in_place_);
    context_.emitter.operands_ready();
    const SpmView result = tail_.anchor_buffer(arena, box, kChannelsLast);
    for (int64_t g = 0; g < parts; ++g) multiply(patch, result, box, g, {channels_, false, true});
    tail_.run(arena, box, result, kChannelsLast);
  }

 private:
  /// Channels of a group that are in the scratchpad; whether sums go onto those before, and leave the accumulators.
  struct Part {
    int64_t channels = 0;
    bool accumulates = false;
    bool drains = true;
  };

  bool in_pieces() const { return !sparse_ && piece_ < channels_; }

  int64_t maps_together() const {
    const Shape &input = context_.graph[node_.inputs[0]].shape;
    return std::min(group_.shape[0], parts_with_room(context_, group_, product_, input[1] * input[2] * input[3],
                                                     group_.shape[1] * group_.shape[2] * group_.shape[3]));
  }

  SparseCandidate sparse_candidate() const {
    const int64_t rows = group_.shape[2] * group_.shape[3];
    SparseCandidate candidate;
    candidate.node = &node_;
    candidate.weights = weights_id_;
    if (groups_ != 1) candidate.unfit = "several groups of channels";
    candidate.dtype = product_;
    candidate.rows = rows;
    // A border keeps the rows of a map apart.
    if (window_.kernel_y * window_.kernel_x > 1) candidate.line = group_.shape[3];
    candidate.columns = outputs_;
    candidate.depth = window_.dilation_x == 1 ? Depth{window_.kernel_x * channels_, window_.kernel_y}
                                              : Depth{channels_, window_.kernel_y * window_.kernel_x};
    candidate.box = {{0, 0, 0, 0}, {outputs_, channels_, window_.kernel_y, window_.kernel_x}};
    candidate.order = kChannelsLast;
    candidate.quantiser = weight_quantiser_;
    const int64_t maps = maps_together();
    candidate.dense_cycles =
        product_cycles(context_.target, product_, maps * rows, outputs_, candidate.depth, split_) / maps;
    return candidate;
  }

  /// All channels are in the scratchpad unless one block of weights and one window take more than half of it.
  void choose_piece() {
    piece_ = channels_;
    const auto bytes = [&](TensorId id, const Quantiser &quantiser) {
      const Dtype stored = operand_dtype(context_, id);
      return element_bytes(quantiser.dtype) + (context_.graph[id].is_constant() ? 0 : element_bytes(stored));
    };
    const int64_t a = bytes(node_.inputs[0], input_quantiser_);
    const int64_t b = bytes(weights_id_, weight_quantiser_);
    const auto room = static_cast<int64_t>(context_.target.spm_bytes);
    const int64_t kernel = window_.kernel_y * window_.kernel_x;
    const int64_t columns = std::min<int64_t>(group_.shape[1], context_.target.tile_cols);
    if (groups_ != 1 || 2 * channels_ * kernel * (columns * b + a) <= room) return;
    const int64_t wide = std::min(group_.shape[1], columns_per_block(context_.target, split_));
    constexpr int64_t kPositions = 32;
    piece_ = std::clamp<int64_t>(room / 8 / (kernel * wide * b + kPositions * kernel * a) / 4 * 4, 4, channels_);
  }

  int64_t tiled_columns() const { return group_.shape[1]; }

  /// Kernel columns and channels of one kernel row lie together.
  bool joined() const { return groups_ == 1 && window_.dilation_x == 1 && !in_pieces(); }

  /// Tiles load nothing but weights.
  bool on_chip() const {
    return in_place_ && context_.layout.dtype(node_.inputs[0]) == input_quantiser_.dtype &&
           input_quantiser_.tensor_factor() == 1;
  }

  std::vector<int64_t> channel_parts() const {
    std::vector<int64_t> parts{group_.shape[1]};
    if (groups_ != 1) {
      // Whole groups.
      for (int64_t count = groups_; count > 1;) {
        count = (count + 1) / 2;
        parts.push_back(count * outputs_);
      }
      return parts;
    }
    const auto columns = sparse_ ? sparse_->columns_of_group() : static_cast<int64_t>(context_.target.tile_cols);
    // Small passes overlap best with their weights' loads; others would load the input once for each, and memory takes
    // long runs of channels in less time.
    if ((on_chip() && !writes_memory(context_, group_)) || in_pieces()) {
      parts[0] = std::min(parts[0], sparse_ ? sparse_->columns_of_useful_pass() : split_.n * columns);
    }
    int64_t part = (parts[0] + columns - 1) / columns * columns;
    while (part > columns) {
      part = (part / 2 + columns - 1) / columns * columns;
      if (part < parts.back()) parts.push_back(part);
    }
    return parts;
  }

  std::vector<Tiling> area_tilings(int64_t n) const {
    const int64_t height = group_.shape[2];
    const int64_t width = group_.shape[3];
    const int64_t most = sparse_ ? sparse_->rows_per_tile() : rows_per_tile(context_.target, split_);
    std::vector<Tiling> result;
    const int64_t across = (width + most - 1) / most;
    int64_t columns = (width + across - 1) / across;
    int64_t rows = std::min(height, std::max<int64_t>(1, most / columns));
    // Sums that stay need the accumulators for whole blocks of rows.
    if (in_pieces()) rows = 1;
    // Small maps share a pass, and with it the loads of its weights.
    int64_t maps = 1;
    if (!sparse_ && rows == height && columns == width) {
      const int64_t turns = ceil_div(group_.shape[0], std::max<int64_t>(1, most / (rows * columns)));
      maps = ceil_div(group_.shape[0], turns);
    }
    for (;;) {
      result.push_back({maps, n, rows, columns});
      if (maps > 1) {
        maps = (maps + 1) / 2;
      } else if (rows > 1) {
        rows = (rows + 1) / 2;
      } else if (columns > 1) {
        columns = (columns + 1) / 2;
      } else {
        return result;
      }
    }
  }

  /// Weights of channels [channel, channel + channels) as [group][ky][kx][c][n] of the pass.
  void load_weights(Arena &arena, const Box &range, int64_t channel, int64_t channels) {
    const int64_t n = groups_ == 1 ? range.size[1] : outputs_;
    weight_columns_ = n;
    const Tensor &tensor = context_.graph[weights_id_];
    // Dimensions here: [M of the pass, c, ky, kx], nested as ky, kx, c, M. Groups are parts of M and go outermost.
    const Dims part{n, channels, window_.kernel_y, window_.kernel_x};
    const std::vector<int> nesting{2, 3, 1, 0};
    weights_.clear();
    for (int64_t first = range.start[1]; first < range.start[1] + range.size[1]; first += n) {
      const Box box{{first, channel, 0, 0}, part};
      if (tensor.is_constant()) {
        weights_.push_back(load_operand(context_, arena, weights_id_, box, weight_quantiser_, nesting));
        continue;
      }
      const SpmView raw = load_box(context_, arena, weights_id_, box, std::nullopt, nesting);
      const SpmView packed = allocate(arena, weight_quantiser_.dtype, part, nesting);
      convert(context_, packed, raw, weight_quantiser_.tensor_factor());
      if (weight_quantiser_.tf32) round_to_tf32(context_, arena, packed);
      weights_.push_back(packed);
    }
  }

  /// g: the group, of those in the tile.
  void multiply(const Patch &loaded, const SpmView &result, const Box &box, int64_t g, const Part &part) {
    const SpmView &patch = loaded.view;
    const int64_t size = element_bytes(product_);
    GemmTile tile;
    tile.dtype = product_;
    tile.rows = {box.size[0], box.size[2], box.size[3]};
    tile.a_strides = {patch.strides[0], window_.stride_y * patch.strides[2], window_.stride_x * patch.strides[3]};
    for (int64_t ky = 0; ky < window_.kernel_y; ++ky) {
      const int64_t row = patch.base + ky * loaded.dilation_y * patch.strides[2] + g * part.channels * size;
      if (joined()) {
        tile.runs.push_back({row, window_.kernel_x * part.channels, size});
        continue;
      }
      for (int64_t kx = 0; kx < window_.kernel_x; ++kx) {
        tile.runs.push_back({row + kx * loaded.dilation_x * patch.strides[3], part.channels, size});
      }
    }
    const int64_t n = groups_ == 1 ? box.size[1] : outputs_;
    tile.n = n;
    tile.result_dtype = result.dtype;
    tile.result = result.base + g * outputs_ * result.strides[1];
    tile.result_strides = {result.strides[0], result.strides[2], result.strides[3]};
    tile.result_n_stride = result.strides[1];
    const int64_t first = 4 * (box.start[1] - range_.start[1] + g * outputs_);
    if (scale_) tile.scale = scale_->base + first;
    if (bias_id_ != kNoTensor) tile.bias = bias_.base + first;
    tile.act = group_.anchor_act;
    tile.accumulate = part.accumulates;
    tile.drains = part.drains;
    if (sparse_) {
      sparse_->emit(context_, tile);
      return;
    }
    tile.weights = weights_[static_cast<std::size_t>(g)].base;
    tile.weight_k_stride = weight_columns_ * size;
    tile.weight_n_stride = size;
    emit_gemm(context_, tile, split_);
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  Dtype product_;  ///< what the DMMU multiplies
  TensorId weights_id_;
  TensorId bias_id_;
  Quantiser input_quantiser_;
  Quantiser weight_quantiser_;
  int64_t groups_;
  int64_t channels_;  ///< of one group
  int64_t outputs_;   ///< of one group
  WindowShape window_;
  std::vector<TileSplit> splits_;  ///< the best first
  TileSplit split_;
  std::optional<SparseProduct> sparse_;  ///< instead of the DMMU
  int64_t piece_ = channels_;            ///< channels that are in the scratchpad at once
  bool in_place_ = false;                ///< the input is in the scratchpad as windows need it
  Box range_;
  std::vector<SpmView> weights_;  ///< one per group
  int64_t weight_columns_ = 0;
  SpmView bias_;
  std::optional<SpmView> scale_;
};

}  // namespace

std::unique_ptr<Kernel> lower_conv(Context &context, const Group &group) {
  return std::make_unique<ConvKernel>(context, group);
}

}  // namespace cx::compiler::backend
