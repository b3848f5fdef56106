// Reductions and softmax: the reduced dimensions of a tile are whole, or go by piece by piece where they do not fit.
#include <algorithm>

#include "driver/compiler/backend/kernel.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kTileElements = 32768;
/// Memory serves whole bursts: shorter runs of a source move more than they need.
constexpr int64_t kBurstBytes = 64;
/// Of a piece of a source whose innermost dimensions are kept, and the most of them that it takes.
constexpr int64_t kPieceElements = 131072;
constexpr int64_t kPieceRun = 512;

/// dims of a view with the innermost first; runs of dimensions of one kind (reduced or kept) that lie densely are one.
struct Run {
  int64_t size = 1;
  int64_t source_stride = 0;
  int64_t target_stride = 0;
  bool reduced = false;
};

std::vector<Run> merge_runs(const SpmView &source, const SpmView &target, const std::vector<bool> &reduced) {
  std::vector<Run> runs;
  for (int dimension : nesting_order(source.dims, source.strides)) {
    const auto d = static_cast<std::size_t>(dimension);
    if (source.dims[d] == 1) continue;
    const Run next{source.dims[d], source.strides[d], target.strides[d], reduced[d]};
    if (!runs.empty()) {
      Run &outer = runs.back();
      const bool dense = outer.source_stride == next.source_stride * next.size &&
                         (next.reduced || outer.target_stride == next.target_stride * next.size);
      if (outer.reduced == next.reduced && dense && outer.size * next.size <= 65535) {
        outer = {outer.size * next.size, next.source_stride, next.target_stride, next.reduced};
        continue;
      }
    }
    runs.push_back(next);
  }
  return runs;
}

/// Calls `emit` with descriptors of at most four dimensions and their axes mask; kept runs beyond are looped over.
template <typename Emit>
void for_each_reduction(const std::vector<Run> &runs, const SpmView &source, const SpmView &target, Emit emit) {
  std::vector<Run> looped;
  std::vector<Run> inner = runs;
  while (inner.size() > 4) {
    const auto kept = std::find_if(inner.begin(), inner.end(), [](const Run &run) { return !run.reduced; });
    if (kept == inner.end()) throw Error("a reduction has more than four separate dimensions");
    looped.push_back(*kept);
    inner.erase(kept);
  }
  std::vector<int64_t> at(looped.size(), 0);
  for (;;) {
    Descriptor src;
    Descriptor dst;
    src.dtype = source.dtype;
    dst.dtype = target.dtype;
    int64_t src_base = source.base;
    int64_t dst_base = target.base;
    for (std::size_t i = 0; i < looped.size(); ++i) {
      src_base += at[i] * looped[i].source_stride;
      dst_base += at[i] * looped[i].target_stride;
    }
    src.base = static_cast<uint32_t>(src_base);
    dst.base = static_cast<uint32_t>(dst_base);
    unsigned axes = 0;
    for (std::size_t i = 0; i < inner.size(); ++i) {
      const std::size_t slot = 4 - inner.size() + i;
      if (inner[i].size > 65535)
        throw InputError("a reduced dimension of " + std::to_string(inner[i].size) + " is above 65535");
      src.dims[slot] = static_cast<uint16_t>(inner[i].size);
      src.strides[slot] = static_cast<int32_t>(inner[i].source_stride);
      if (inner[i].reduced) {
        axes |= 1U << slot;
      } else {
        dst.dims[slot] = src.dims[slot];
        dst.strides[slot] = static_cast<int32_t>(inner[i].target_stride);
      }
    }
    emit(dst, src, axes);
    std::size_t d = looped.size();
    for (;;) {
      if (d == 0) return;
      --d;
      if (++at[d] < looped[d].size) break;
      at[d] = 0;
    }
  }
}

class ReduceKernel : public Kernel {
 public:
  ReduceKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        source_(context.graph[node_.inputs[0]].shape),
        order_(context.layout.order(node_.inputs[0])),
        reduced_(source_.size(), false),
        kind_(node_.text("kind", "")),
        type_(context.layout.dtype(node_.inputs[0])) {
    for (int64_t axis : node_.integers("axes")) reduced_[static_cast<std::size_t>(axis)] = true;
    choose_pieces();
  }

  Shape shape() const override { return group_.shape; }

  std::vector<Tiling> tilings() const override {
    Shape seen = source_;
    for (std::size_t d = 0; d < seen.size(); ++d) {
      if (reduced_[d]) seen[d] = piece_[d];
    }
    std::vector<Tiling> result = free_tilings(seen, order_, tile_elements_, reduced_);
    for (Tiling &tiling : result) {
      for (std::size_t d = 0; d < tiling.size(); ++d) {
        if (reduced_[d]) tiling[d] = 1;
      }
    }
    return result;
  }

  void resident(Arena &arena, const Box &range) override { tail_.load_resident(arena, range); }

  void tile(Arena &arena, const Box &box) override {
    Box input = box;
    Tiling pieces = box.size;
    for (std::size_t d = 0; d < input.size.size(); ++d) {
      if (!reduced_[d]) continue;
      input.start[d] = 0;
      input.size[d] = source_[d];
      pieces[d] = piece_[d];
    }
    const std::vector<Box> parts = split(input, pieces);
    if (parts.size() == 1) {
      const SpmView source = load_box(context_, arena, node_.inputs[0], input, std::nullopt, order_);
      const SpmView result = tail_.anchor_buffer(arena, box, order_);
      reduce(arena, result, source, kind_ == "mean" ? count() : 1);
      tail_.run(arena, box, result, order_);
      return;
    }
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    const Dtype type = is_integer(type_) ? type_ : Dtype::FP32;
    const SpmView total = allocate(arena, type, box.size, order_);
    in_turns(context_, arena, static_cast<int64_t>(parts.size()), [&](Arena &buffer, int64_t n) {
      reduce_piece(buffer, total, parts[static_cast<std::size_t>(n)], n == 0);
    });
    if (kind_ == "mean") {
      context_.emitter.binary_scalar(isa::Binary::DIV, result, total, count(), false);
    } else {
      context_.emitter.unary(isa::Unary::COPY, result, total);
    }
    tail_.run(arena, box, result, order_);
  }

 private:
  /// Reduced dimensions are whole unless one result's share of the source would leave no room for tiles, or tiles with
  /// whole ones would take less than a burst of each run of kept elements. Only shapes and layouts decide, not what
  /// stays in the scratchpad, so that sums have the same order either way.
  void choose_pieces() {
    piece_ = source_;
    int64_t line = 1;
    int64_t longest = 1;
    for (std::size_t d = 0; d < source_.size(); ++d) {
      if (!reduced_[d]) continue;
      line *= source_[d];
      longest = std::max(longest, source_[d]);
    }
    const int64_t room = static_cast<int64_t>(context_.target.spm_bytes) / 8;
    const int64_t run = kept_run();
    const int64_t burst = std::min(run, kBurstBytes / element_bytes(type_));
    int64_t bound = std::min<int64_t>(kTileElements, room / element_bytes(type_));
    if (burst > 1 && line * burst > kTileElements) {
      const int64_t taken = std::min(run, kPieceRun);
      tile_elements_ = std::min<int64_t>(kPieceElements, room / element_bytes(type_));
      bound = std::max<int64_t>(1, tile_elements_ / taken);
    } else if (line * element_bytes(type_) <= room && longest <= 65535) {
      return;
    }
    for (int d : order_) {
      const auto index = static_cast<std::size_t>(d);
      if (!reduced_[index]) continue;
      const int64_t rest = line / source_[index];
      piece_[index] = std::clamp<int64_t>(bound / rest, 1, source_[index]);
      line = rest * piece_[index];
    }
  }

  /// Elements that lie together in the source and belong to different results.
  int64_t kept_run() const {
    int64_t run = 1;
    for (auto d = order_.rbegin(); d != order_.rend(); ++d) {
      const auto index = static_cast<std::size_t>(*d);
      if (!reduced_[index]) {
        run *= source_[index];
      } else if (source_[index] != 1) {
        break;
      }
    }
    return run;
  }

  float count() const {
    int64_t result = 1;
    for (std::size_t d = 0; d < source_.size(); ++d) {
      if (reduced_[d]) result *= source_[d];
    }
    if (result >= int64_t{1} << 24 && is_integer(type_)) {
      throw UnsupportedError("Reduce", "node " + node_.name + ": an integer mean of 2^24 elements or more");
    }
    return static_cast<float>(result);
  }

  isa::Binary combination() const {
    if (kind_ == "max") return isa::Binary::MAX;
    if (kind_ == "min") return isa::Binary::MIN;
    return kind_ == "prod" ? isa::Binary::MUL : isa::Binary::ADD;
  }

  /// Adds one piece of the source to the total, or starts it.
  void reduce_piece(Arena &arena, const SpmView &total, const Box &part, bool first) {
    const SpmView source = load_box(context_, arena, node_.inputs[0], part, std::nullopt, order_);
    const SpmView partial = allocate(arena, total.dtype, total.dims, order_);
    reduce(arena, first ? total : partial, source, 1);
    if (!first) context_.emitter.binary(combination(), total, total, partial);
  }

  void reduce(Arena &arena, const SpmView &result, const SpmView &source, float divisor) {
    const isa::Reduce func = function();
    const bool extreme = func == isa::Reduce::MAX || func == isa::Reduce::MIN;
    // V_REDUCE computes in FP32, which holds extremes of 16 bits.
    if (is_integer(source.dtype) && !(extreme && element_bytes(source.dtype) <= 2)) {
      reduce_integers(arena, result, source, divisor);
      return;
    }
    SpmView from = source;
    std::vector<Run> runs = merge_runs(from, result, reduced_);
    if (std::count_if(runs.begin(), runs.end(), [](const Run &run) { return run.reduced; }) > 3 && runs.size() > 4) {
      // Reduced dimensions that lie apart are brought together.
      std::vector<int> order = order_;
      std::stable_partition(order.begin(), order.end(), [&](int d) { return !reduced_[static_cast<std::size_t>(d)]; });
      from = allocate(arena, source.dtype, source.dims, order);
      context_.emitter.unary(isa::Unary::COPY, from, source);
      runs = merge_runs(from, result, reduced_);
    }
    if (context_.emitter.dry()) return;
    // At least one axis has to be named; one of size 1 changes nothing.
    if (std::none_of(runs.begin(), runs.end(), [](const Run &run) { return run.reduced; })) {
      runs.insert(runs.begin(), Run{1, 0, 0, true});
    }
    for_each_reduction(runs, from, result, [&](const Descriptor &dst, const Descriptor &src, unsigned axes) {
      context_.emitter.reduce(func, dst, src, axes, divisor);
    });
  }

  /// The upper half of each dimension is combined with the lower one until one element is left, exactly.
  void reduce_integers(Arena &arena, const SpmView &result, const SpmView &source, float divisor) {
    Emitter &emitter = context_.emitter;
    SpmView rest = source;
    bool repeated = false;
    for (std::size_t d = 0; d < rest.dims.size(); ++d)
      repeated = repeated || (rest.dims[d] > 1 && rest.strides[d] == 0);
    if (repeated || kind_ == "sumsq" || kind_ == "abssum") {
      rest = allocate(arena, source.dtype, source.dims, order_);
      if (kind_ == "sumsq") {
        emitter.binary(isa::Binary::MUL, rest, source, source);
      } else {
        emitter.unary(kind_ == "abssum" ? isa::Unary::ABS : isa::Unary::COPY, rest, source);
      }
    }
    const isa::Binary func = combination();
    for (std::size_t d = 0; d < rest.dims.size(); ++d) {
      while (reduced_[d] && rest.dims[d] > 1) {
        const int64_t half = rest.dims[d] / 2;
        const int64_t kept = rest.dims[d] - half;
        SpmView lower = rest;
        lower.dims[d] = half;
        SpmView upper = lower;
        upper.base += kept * rest.strides[d];
        emitter.binary(func, lower, lower, upper);
        rest.dims[d] = kept;
      }
    }
    if (divisor == 1) {
      emitter.unary(isa::Unary::COPY, result, rest);
    } else {
      emitter.binary_scalar(isa::Binary::DIV, result, rest, divisor, false);
    }
  }

  isa::Reduce function() const {
    if (kind_ == "sum" || kind_ == "mean") return isa::Reduce::SUM;
    if (kind_ == "max") return isa::Reduce::MAX;
    if (kind_ == "min") return isa::Reduce::MIN;
    if (kind_ == "prod") return isa::Reduce::PROD;
    if (kind_ == "sumsq") return isa::Reduce::SUMSQ;
    if (kind_ == "abssum") return isa::Reduce::ABSSUM;
    throw UnsupportedError("Reduce", "node " + node_.name + ": unknown reduction " + kind_);
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  Shape source_;
  std::vector<int> order_;
  std::vector<bool> reduced_;
  std::string kind_;
  Dtype type_;  ///< of the source
  Dims piece_;  ///< of the source, that is reduced at once
  int64_t tile_elements_ = kTileElements;
};

class SoftmaxKernel : public Kernel {
 public:
  SoftmaxKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        axis_(static_cast<std::size_t>(node_.integer("axis", 0))),
        order_(context.layout.order(node_.inputs[0])) {
    // A row with its result, twice.
    piece_ = group.shape[axis_];
    const int64_t row = piece_ * (element_bytes(context.layout.dtype(node_.inputs[0])) + 4);
    if (piece_ > 65535 || 4 * row > static_cast<int64_t>(context.target.spm_bytes)) {
      piece_ = std::min({piece_, kTileElements, static_cast<int64_t>(context.target.spm_bytes) / 128});
    }
  }

  Shape shape() const override { return group_.shape; }

  std::vector<Tiling> tilings() const override {
    std::vector<bool> whole(group_.shape.size(), false);
    whole[axis_] = true;
    Shape seen = group_.shape;
    seen[axis_] = piece_;
    std::vector<Tiling> result = free_tilings(seen, order_, kTileElements, whole);
    for (Tiling &tiling : result) tiling[axis_] = group_.shape[axis_];
    return result;
  }

  void resident(Arena &arena, const Box &range) override { tail_.load_resident(arena, range); }

  void tile(Arena &arena, const Box &box) override {
    if (piece_ < group_.shape[axis_]) {
      in_pieces(arena, box);
      return;
    }
    const SpmView source = load_box(context_, arena, node_.inputs[0], box, std::nullopt, order_);
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    if (!context_.emitter.dry()) emit(result, source);
    tail_.run(arena, box, result, order_);
  }

 private:
  /// Rows that do not fit go by three times: their maxima, the sums of their exponentials, the quotients.
  void in_pieces(Arena &arena, const Box &box) {
    Emitter &emitter = context_.emitter;
    Dims head = box.size;
    head[axis_] = 1;
    const SpmView largest = allocate(arena, Dtype::FP32, head, order_);
    const SpmView total = allocate(arena, Dtype::FP32, head, order_);
    const SpmView partial = allocate(arena, Dtype::FP32, head, order_);
    const int64_t size = group_.shape[axis_];
    const int64_t count = (size + piece_ - 1) / piece_;
    const auto part = [&](int64_t n) {
      Box result = box;
      result.start[axis_] = n * piece_;
      result.size[axis_] = std::min(piece_, size - n * piece_);
      return result;
    };
    const auto load = [&](Arena &buffer, int64_t n) {
      return load_box(context_, buffer, node_.inputs[0], part(n), std::nullopt, order_);
    };
    const auto exponentials = [&](const SpmView &to, const SpmView &source) {
      emitter.binary(isa::Binary::SUB, to, source, broadcast(largest, source.dims));
      emitter.unary(isa::Unary::EXP, to, to);
    };
    in_turns(context_, arena, count, [&](Arena &buffer, int64_t n) {
      const SpmView source = load(buffer, n);
      reduce_row(isa::Reduce::MAX, n == 0 ? largest : partial, source);
      if (n != 0) emitter.binary(isa::Binary::MAX, largest, largest, partial);
    });
    in_turns(context_, arena, count, [&](Arena &buffer, int64_t n) {
      const SpmView source = load(buffer, n);
      const SpmView powers = allocate(buffer, Dtype::FP32, source.dims, order_);
      exponentials(powers, source);
      reduce_row(isa::Reduce::SUM, n == 0 ? total : partial, powers);
      if (n != 0) emitter.binary(isa::Binary::ADD, total, total, partial);
    });
    in_turns(context_, arena, count, [&](Arena &buffer, int64_t n) {
      const SpmView source = load(buffer, n);
      const SpmView powers = allocate(buffer, Dtype::FP32, source.dims, order_);
      exponentials(powers, source);
      const SpmView result = tail_.anchor_buffer(buffer, part(n), order_);
      emitter.binary(isa::Binary::DIV, result, powers, broadcast(total, source.dims));
      tail_.run(buffer, part(n), result, order_);
    });
  }

  void reduce_row(isa::Reduce func, const SpmView &result, const SpmView &source) {
    if (context_.emitter.dry()) return;
    std::vector<bool> reduced(source.dims.size(), false);
    reduced[axis_] = true;
    std::vector<Run> runs = merge_runs(source, result, reduced);
    if (source.dims[axis_] == 1) runs.push_back(Run{1, 0, 0, true});
    for_each_reduction(runs, source, result, [&](const Descriptor &dst, const Descriptor &src, unsigned axes) {
      context_.emitter.reduce(func, dst, src, axes, 1);
    });
  }

  void emit(const SpmView &result, const SpmView &source) {
    // The axis goes to dims[3], up to three merged other dimensions before it.
    Dims rest;
    Dims result_strides;
    Dims source_strides;
    for (std::size_t d = 0; d < source.dims.size(); ++d) {
      if (d == axis_) continue;
      rest.push_back(source.dims[d]);
      result_strides.push_back(result.strides[d]);
      source_strides.push_back(source.strides[d]);
    }
    for_each_block(
        rest, {result_strides, source_strides}, 0,
        [&](const Block &block) {
          if (block.dims[0] != 1) throw Error("softmax tile has too many dimensions");
          context_.emitter.softmax(rows(block, 0, result), rows(block, 1, source));
        },
        3);
  }

  Descriptor rows(const Block &block, std::size_t operand, const SpmView &view) const {
    Descriptor result;
    result.dtype = view.dtype;
    result.base = static_cast<uint32_t>(view.base + block.offsets[operand]);
    for (std::size_t d = 0; d < 3; ++d) {
      result.dims[d] = static_cast<uint16_t>(block.dims[d + 1]);
      result.strides[d] = static_cast<int32_t>(block.strides[operand][d + 1]);
    }
    if (view.dims[axis_] > 65535) throw InputError("node " + node_.name + ": softmax over more than 65535 elements");
    result.dims[3] = static_cast<uint16_t>(view.dims[axis_]);
    result.strides[3] = static_cast<int32_t>(view.strides[axis_]);
    return result;
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  std::size_t axis_;
  std::vector<int> order_;
  int64_t piece_ = 0;  ///< of a row, that is worked on at once
};

}  // namespace

std::unique_ptr<Kernel> lower_reduce(Context &context, const Group &group) {
  return std::make_unique<ReduceKernel>(context, group);
}

std::unique_ptr<Kernel> lower_softmax(Context &context, const Group &group) {
  return std::make_unique<SoftmaxKernel>(context, group);
}

}  // namespace cx::compiler::backend
