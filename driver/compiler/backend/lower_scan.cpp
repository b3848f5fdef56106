// Running sums, indices of extremes and of the largest elements: operations along one dimension.
#include <algorithm>

#include "driver/compiler/backend/kernel.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kTileElements = 32768;
constexpr int64_t kMaxDim = 65535;

/// Operations that need a line of their source whole, or piece by piece with something carried on.
class LineKernel : public Kernel {
 public:
  LineKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        x_(node_.inputs[0]),
        axis_(static_cast<std::size_t>(node_.integer("axis", 0))),
        source_(context.graph[x_].shape),
        type_(operand_dtype(context, x_)),
        order_(context.graph[x_].is_constant() ? context.layout.order(group.outputs.front())
                                               : context.layout.order(x_)) {
    // Source, result, a second tile and what follows the operation.
    const int64_t line = source_[axis_] * (element_bytes(type_) + 8);
    if (source_[axis_] > kMaxDim || 8 * line > static_cast<int64_t>(context.target.spm_bytes)) {
      piece_ = std::min(kTileElements / 4, source_[axis_]);
    } else {
      piece_ = source_[axis_];
    }
  }

  Shape shape() const override { return group_.shape; }

  std::vector<Tiling> tilings() const override {
    Shape seen = source_;
    seen[axis_] = piece_;
    std::vector<bool> whole(source_.size(), false);
    whole[axis_] = true;
    std::vector<Tiling> result = free_tilings(seen, order_, kTileElements, whole);
    for (Tiling &tiling : result) tiling[axis_] = group_.shape[axis_];
    return result;
  }

  void resident(Arena &arena, const Box &range) override { tail_.load_resident(arena, range); }

  void tile(Arena &arena, const Box &box) override {
    Box line = box;
    line.start[axis_] = 0;
    line.size[axis_] = source_[axis_];
    if (piece_ < source_[axis_]) {
      in_pieces(arena, box, line);
      return;
    }
    const SpmView source = load_box(context_, arena, x_, line, type_, order_);
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    whole(result, source);
    tail_.run(arena, box, result, order_);
  }

 protected:
  virtual void whole(const SpmView &result, const SpmView &source) = 0;
  virtual void in_pieces(Arena &arena, const Box &box, const Box &line) = 0;

  /// Calls f with each piece of a line, rising or falling, and a buffer; two buffers take turns.
  template <typename F>
  void for_each_piece(Arena &arena, const Box &line, bool falling, F f) {
    const int64_t size = source_[axis_];
    const int64_t count = (size + piece_ - 1) / piece_;
    Box piece = line;
    in_turns(context_, arena, count, [&](Arena &buffer, int64_t n) {
      piece.start[axis_] = (falling ? count - 1 - n : n) * piece_;
      // The last piece may be shorter; buffers have room for a whole one.
      piece.size[axis_] = context_.emitter.dry() ? piece_ : std::min(piece_, size - piece.start[axis_]);
      f(buffer, piece, n == 0);
    });
  }

  SpmView at(const SpmView &view, int64_t index) const {
    SpmView result = view;
    result.base += index * view.strides[axis_];
    result.dims[axis_] = 1;
    return result;
  }

  Dims head(const Box &box) const {
    Dims dims = box.size;
    dims[axis_] = 1;
    return dims;
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  TensorId x_;
  std::size_t axis_;
  Shape source_;
  Dtype type_;
  std::vector<int> order_;
  int64_t piece_ = 0;  ///< elements of a line that are worked on at once
};

class ScanKernel : public LineKernel {
 public:
  ScanKernel(Context &context, const Group &group)
      : LineKernel(context, group),
        exclusive_(node_.integer("exclusive", 0) != 0),
        reverse_(node_.integer("reverse", 0) != 0) {
    if (node_.text("kind", "sum") != "sum") {
      throw UnsupportedError("Scan", "node " + node_.name + ": the device has no running " + node_.text("kind", ""));
    }
  }

 private:
  void whole(const SpmView &result, const SpmView &source) override {
    context_.emitter.scan(result, source, axis_, exclusive_, reverse_);
  }

  void in_pieces(Arena &arena, const Box &box, const Box &line) override {
    Emitter &emitter = context_.emitter;
    const Dtype type = temporary_dtype(context_, x_);
    const SpmView carry = allocate(arena, type, head(box), order_);
    for_each_piece(arena, line, reverse_, [&](Arena &buffer, const Box &piece, bool first) {
      const SpmView source = load_box(context_, buffer, x_, piece, type_, order_);
      const SpmView sums = allocate(buffer, type, piece.size, order_);
      emitter.scan(sums, source, axis_, exclusive_, reverse_);
      const SpmView result = tail_.anchor_buffer(buffer, piece, order_);
      const int64_t end = reverse_ ? 0 : piece.size[axis_] - 1;
      if (first) {
        emitter.unary(isa::Unary::COPY, result, sums);
        emitter.unary(isa::Unary::COPY, carry, at(sums, end));
      } else {
        emitter.binary(isa::Binary::ADD, result, sums, broadcast(carry, piece.size));
        emitter.binary(isa::Binary::ADD, carry, carry, at(sums, end));
      }
      if (exclusive_) {
        const SpmView rest = converted(context_, buffer, at(source, end), type);
        emitter.binary(isa::Binary::ADD, carry, carry, rest);
      }
      tail_.run(buffer, piece, result, order_);
    });
  }

  bool exclusive_;
  bool reverse_;
};

class ArgReduceKernel : public LineKernel {
 public:
  ArgReduceKernel(Context &context, const Group &group)
      : LineKernel(context, group), largest_(node_.text("kind", "") == "max"), last_(node_.integer("last", 0) != 0) {
    if (!largest_ && node_.text("kind", "") != "min") {
      throw UnsupportedError("ArgReduce", "node " + node_.name + ": unknown kind " + node_.text("kind", ""));
    }
  }

 private:
  isa::Order order() const { return largest_ ? isa::Order::LARGEST : isa::Order::SMALLEST; }

  void whole(const SpmView &result, const SpmView &source) override {
    context_.emitter.arg(order(), result, source, axis_, last_);
  }

  void in_pieces(Arena &arena, const Box &box, const Box &line) override {
    Emitter &emitter = context_.emitter;
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    const SpmView best = allocate(arena, type_, head(box), order_);
    for_each_piece(arena, line, false, [&](Arena &buffer, const Box &piece, bool first) {
      const SpmView source = load_box(context_, buffer, x_, piece, type_, order_);
      const SpmView index = allocate(buffer, result.dtype, head(box), order_);
      const SpmView value = allocate(buffer, type_, head(box), order_);
      const SpmView better = allocate(buffer, Dtype::UINT8, head(box), order_);
      emitter.arg(order(), index, source, axis_, last_);
      emitter.gather(value, source, index, axis_);
      if (first) {
        emitter.unary(isa::Unary::COPY, best, value);
        emitter.unary(isa::Unary::COPY, result, index);
        return;
      }
      if (piece.start[axis_] >= (int64_t{1} << 24)) {
        throw UnsupportedError("ArgReduce", "node " + node_.name + ": " + std::to_string(source_[axis_]) +
                                                " elements along the axis; 2^24 are supported");
      }
      emitter.binary_scalar(isa::Binary::ADD, index, index, static_cast<float>(piece.start[axis_]), false);
      const isa::Binary beats = last_ ? isa::Binary::LE : isa::Binary::LT;
      emitter.binary(beats, better, largest_ ? best : value, largest_ ? value : best);
      emitter.select(best, better, value, best, 0, 0);
      emitter.select(result, better, index, result, 0, 0);
    });
    tail_.run(arena, box, result, order_);
  }

  bool largest_;
  bool last_;
};

class TopKKernel : public LineKernel {
 public:
  TopKKernel(Context &context, const Group &group) : LineKernel(context, group), k_(group.shape[axis_]) {
    // Pieces leave out little where most of a line is wanted.
    if (source_[axis_] <= kMaxDim && 4 * k_ > source_[axis_]) piece_ = source_[axis_];
    if (piece_ == source_[axis_]) return;
    if (2 * k_ > kMaxDim || source_[axis_] >= (int64_t{1} << 24)) {
      throw UnsupportedError("TopK", "node " + node_.name + ": the first " + std::to_string(k_) + " of " +
                                         std::to_string(source_[axis_]) +
                                         " elements; 32767 of less than 2^24 are supported, or any of 65535");
    }
    piece_ = std::max(piece_, k_);
  }

 private:
  isa::Order order() const { return node_.integer("largest", 1) != 0 ? isa::Order::LARGEST : isa::Order::SMALLEST; }

  void whole(const SpmView &result, const SpmView &source) override {
    context_.emitter.top(order(), result, source, axis_);
  }

  SpmView part(const SpmView &view, int64_t first, int64_t count) const {
    SpmView result = view;
    result.base += first * view.strides[axis_];
    result.dims[axis_] = count;
    return result;
  }

  /// The first k so far, in order, and behind them those of the next piece: equal ones stay by rising index.
  void in_pieces(Arena &arena, const Box &box, const Box &line) override {
    Emitter &emitter = context_.emitter;
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    Dims two = box.size;
    two[axis_] = 2 * k_;
    const SpmView values = allocate(arena, type_, two, order_);
    const SpmView indices = allocate(arena, result.dtype, two, order_);
    const SpmView line_of_k = allocate(arena, result.dtype, box.size, order_);
    const SpmView picked = allocate(arena, result.dtype, box.size, order_);
    const SpmView best_values = allocate(arena, type_, box.size, order_);
    const SpmView best_indices = allocate(arena, result.dtype, box.size, order_);
    for_each_piece(arena, line, false, [&](Arena &buffer, const Box &piece, bool first) {
      const int64_t count = std::min(k_, piece.size[axis_]);
      const SpmView source = load_box(context_, buffer, x_, piece, type_, order_);
      const SpmView found = part(line_of_k, 0, count);
      emitter.top(order(), found, source, axis_);
      const int64_t at = first ? 0 : k_;
      const auto begin = static_cast<float>(piece.start[axis_]);
      emitter.gather(part(values, at, count), source, found, axis_);
      emitter.binary_scalar(isa::Binary::ADD, part(indices, at, count), found, begin, false);
      if (first) return;
      emitter.top(order(), picked, part(values, 0, k_ + count), axis_);
      emitter.gather(best_values, part(values, 0, k_ + count), picked, axis_);
      emitter.gather(best_indices, part(indices, 0, k_ + count), picked, axis_);
      emitter.unary(isa::Unary::COPY, part(values, 0, k_), best_values);
      emitter.unary(isa::Unary::COPY, part(indices, 0, k_), best_indices);
    });
    emitter.unary(isa::Unary::COPY, result, part(indices, 0, k_));
    tail_.run(arena, box, result, order_);
  }

  int64_t k_;
};

}  // namespace

std::unique_ptr<Kernel> lower_scan(Context &context, const Group &group) {
  return std::make_unique<ScanKernel>(context, group);
}

std::unique_ptr<Kernel> lower_arg_reduce(Context &context, const Group &group) {
  return std::make_unique<ArgReduceKernel>(context, group);
}

std::unique_ptr<Kernel> lower_top_k(Context &context, const Group &group) {
  return std::make_unique<TopKKernel>(context, group);
}

}  // namespace cx::compiler::backend
