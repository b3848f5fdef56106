// Gathering and scattering along one dimension, by indices that are known at run time only.
#include <algorithm>

#include "driver/compiler/backend/kernel.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kTileElements = 32768;
constexpr int64_t kMaxDim = 65535;

/// Other dimensions are split before the axis.
std::vector<int> with_axis_last(std::vector<int> order, std::size_t axis) {
  std::stable_partition(order.begin(), order.end(), [&](int d) { return static_cast<std::size_t>(d) != axis; });
  return order;
}

/// Elements come from the scratchpad (V_GATHER) where the source is about as large as the result, straight from memory
/// (DMA_GATHER) where few of many are taken.
class TakeAlongKernel : public Kernel {
 public:
  TakeAlongKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        x_(node_.inputs[0]),
        indices_(node_.inputs[1]),
        axis_(static_cast<std::size_t>(node_.integer("axis", 0))),
        source_(context.graph[x_].shape),
        type_(operand_dtype(context, x_)),
        order_(context.layout.order(group.outputs.front())) {
    const int64_t line = source_[axis_] * element_bytes(type_);
    from_scratchpad_ = source_[axis_] <= kMaxDim && line <= static_cast<int64_t>(context.target.spm_bytes) / 8 &&
                       elements(source_) <= 4 * elements(group.shape);
  }

  Shape shape() const override { return group_.shape; }
  std::vector<Tiling> tilings() const override {
    return free_tilings(group_.shape, with_axis_last(order_, axis_), kTileElements,
                        std::vector<bool>(group_.shape.size(), false));
  }
  void resident(Arena &arena, const Box &range) override { tail_.load_resident(arena, range); }

  void tile(Arena &arena, const Box &box) override {
    const Box part = operand_box(context_.graph[indices_].shape, box);
    const SpmView indices = broadcast(load_box(context_, arena, indices_, part, std::nullopt, order_), box.size);
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    const SpmView taken = result.dtype == type_ ? result : allocate(arena, type_, box.size, order_);
    if (from_scratchpad_) {
      context_.emitter.gather(taken, load_source(arena, box), indices, axis_);
    } else if (!context_.emitter.dry()) {
      context_.emitter.gather(taken, source_memory(box), indices, axis_);
    }
    if (result.dtype != type_) context_.emitter.unary(isa::Unary::COPY, result, taken);
    tail_.run(arena, box, result, order_);
  }

 private:
  /// What the indices of a box may name: whole along the axis.
  Box source_box(const Box &box) const {
    Box part = operand_box(source_, box);
    part.start[axis_] = 0;
    part.size[axis_] = source_[axis_];
    return part;
  }

  template <typename View>
  View spread(View view, const Box &box) const {
    for (std::size_t d = 0; d < view.dims.size(); ++d) {
      if (d == axis_ || view.dims[d] == box.size[d]) continue;
      view.dims[d] = box.size[d];
      view.strides[d] = 0;
    }
    return view;
  }

  SpmView load_source(Arena &arena, const Box &box) {
    return spread(load_box(context_, arena, x_, source_box(box), type_, order_), box);
  }

  MemView source_memory(const Box &box) {
    const Box part = source_box(box);
    if (!context_.graph[x_].is_constant()) return spread(context_.layout.view(x_, part), box);
    if (!table_) table_ = constant_view(context_, x_, {Dims(source_.size(), 0), source_}, type_);
    MemView view = *table_;
    view.offset += box_offset(part, view.strides);
    view.dims = part.size;
    return spread(view, box);
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  TensorId x_;
  TensorId indices_;
  std::size_t axis_;
  Shape source_;
  Dtype type_;
  std::vector<int> order_;
  bool from_scratchpad_ = false;
  std::optional<MemView> table_;  ///< of a constant
};

/// A tile holds the axis whole, or a window of it in which indices that lie elsewhere meet one element before the
/// window that is thrown away.
class ScatterAlongKernel : public Kernel {
 public:
  ScatterAlongKernel(Context &context, const Group &group)
      : context_(context),
        group_(group),
        node_(context.graph.nodes[static_cast<std::size_t>(group.nodes.front())]),
        tail_(context, group),
        x_(node_.inputs[0]),
        indices_(node_.inputs[1]),
        updates_(node_.inputs[2]),
        axis_(static_cast<std::size_t>(node_.integer("axis", 0))),
        func_(function(node_)),
        type_(temporary_dtype(context, node_.outputs[0])),
        order_(context.layout.order(group.outputs.front())) {
    // Nothing is computed: the type in memory will do.
    if (func_ == isa::Scatter::SET) type_ = operand_dtype(context, x_);
  }

  Shape shape() const override { return group_.shape; }

  std::vector<Tiling> tilings() const override {
    const std::vector<int> order = with_axis_last(order_, axis_);
    std::vector<bool> whole(group_.shape.size(), false);
    const int64_t line = group_.shape[axis_] * element_bytes(type_);
    whole[axis_] = group_.shape[axis_] <= kMaxDim && 8 * line <= static_cast<int64_t>(context_.target.spm_bytes);
    return free_tilings(group_.shape, order, kTileElements, whole);
  }

  void resident(Arena &arena, const Box &range) override { tail_.load_resident(arena, range); }

  void tile(Arena &arena, const Box &box) override {
    const bool window = box.size[axis_] < group_.shape[axis_];
    const SpmView result = tail_.anchor_buffer(arena, box, order_);
    SpmView work = result;
    SpmView body = result;
    if (window || result.dtype != type_) {
      Dims dims = box.size;
      if (window) ++dims[axis_];
      work = allocate(arena, type_, dims, order_);
      body = work;
      body.dims = box.size;
      if (window) body.base += work.strides[axis_];
    }
    if (window) {
      SpmView thrown_away = work;
      thrown_away.dims[axis_] = 1;
      context_.emitter.fill(thrown_away, 0);
    }
    load_target(arena, body, box);
    scatter(arena, work, box);
    if (work.base != result.base) context_.emitter.unary(isa::Unary::COPY, result, body);
    tail_.run(arena, box, result, order_);
  }

 private:
  static isa::Scatter function(const Node &node) {
    const std::string name = node.text("func", "");
    if (name == "set") return isa::Scatter::SET;
    if (name == "add") return isa::Scatter::ADD;
    if (name == "mul") return isa::Scatter::MUL;
    if (name == "max") return isa::Scatter::MAX;
    if (name == "min") return isa::Scatter::MIN;
    throw UnsupportedError(node.op, "node " + node.name + ": the device does not scatter with " + name);
  }

  void load_target(Arena &arena, const SpmView &body, const Box &box) {
    if (!context_.graph[x_].is_constant() && context_.layout.dtype(x_) == type_) {
      context_.emitter.load(body, context_.layout.view(x_, box));
    } else {
      const SpmView x = load_box(context_, arena, x_, box, std::nullopt, order_);
      context_.emitter.unary(isa::Unary::COPY, body, x);
    }
  }

  /// Updates that the tile sees; false if there are none.
  bool updates_box(const Box &box, Box &part) const {
    const Shape &shape = context_.graph[updates_].shape;
    part = box;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (d == axis_) {
        part.start[d] = 0;
        part.size[d] = shape[d];
        continue;
      }
      // The first tile sees most: it decides on the scratchpad of all.
      if (context_.emitter.dry()) part.start[d] = 0;
      part.size[d] = std::min(part.start[d] + part.size[d], shape[d]) - part.start[d];
      if (part.size[d] <= 0) return false;
    }
    return part.size[axis_] > 0;
  }

  /// In pieces along the axis, whose order counts, by turns in two buffers.
  void scatter(Arena &arena, const SpmView &work, const Box &box) {
    Box part;
    if (!updates_box(box, part)) return;
    const int64_t count = part.size[axis_];
    const int64_t rest = product(part.size) / count;
    // Two buffers of indices (with what windows need) and updates, beside the tile.
    const int64_t most = std::min(kTileElements, static_cast<int64_t>(context_.target.spm_bytes) / 128);
    const int64_t length = std::clamp<int64_t>(most / rest, 1, count);
    in_turns(context_, arena, (count + length - 1) / length, [&](Arena &buffer, int64_t n) {
      Box piece = part;
      piece.start[axis_] = n * length;
      piece.size[axis_] = std::min(length, count - n * length);
      scatter_piece(buffer, work, box, piece);
    });
  }

  void scatter_piece(Arena &arena, const SpmView &work, const Box &box, const Box &piece) {
    const Box part = operand_box(context_.graph[indices_].shape, piece);
    SpmView indices = load_box(context_, arena, indices_, part, std::nullopt, order_);
    if (box.size[axis_] < group_.shape[axis_]) indices = in_window(arena, indices, box);
    const SpmView updates = load_box(context_, arena, updates_, piece, type_, order_);
    context_.emitter.scatter(func_, work, updates, broadcast(indices, piece.size), axis_);
  }

  /// Indices from the window's first element on, which is 1; 0 for those outside.
  SpmView in_window(Arena &arena, const SpmView &given, const Box &box) {
    Emitter &emitter = context_.emitter;
    const int64_t size = group_.shape[axis_];
    SpmView source = given;
    for (std::size_t d = 0; d < given.dims.size(); ++d) {
      if (given.strides[d] == 0) source.dims[d] = 1;
    }
    const std::vector<int> order = nesting_order(source.dims, source.strides);
    const SpmView index = allocate(arena, source.dtype, source.dims, order);
    const SpmView counted = allocate(arena, source.dtype, source.dims, order);
    const SpmView mask = allocate(arena, Dtype::UINT8, source.dims, order);
    emitter.binary_scalar(isa::Binary::ADD, counted, source, exact(size), false);
    emitter.binary_scalar(isa::Binary::LT, mask, source, 0, false);
    emitter.select(index, mask, counted, source, 0, 0);
    emitter.binary_scalar(isa::Binary::SUB, index, index, exact(box.start[axis_] - 1), false);
    emitter.binary_scalar(isa::Binary::MAX, index, index, 0, false);
    // In the last window an index beyond the axis stays one, for the device to report.
    if (box.start[axis_] + box.size[axis_] < size) {
      emitter.binary_scalar(isa::Binary::LE, mask, index, exact(box.size[axis_]), false);
      emitter.select(index, mask, index, std::nullopt, 0, 0);
    }
    return broadcast(index, given.dims);
  }

  float exact(int64_t value) const {
    if (value < (int64_t{1} << 24)) return static_cast<float>(value);
    throw UnsupportedError(node_.op, "node " + node_.name + ": the axis has " + std::to_string(group_.shape[axis_]) +
                                         " elements; scattering in windows knows 2^24");
  }

  Context &context_;
  const Group &group_;
  const Node &node_;
  Tail tail_;
  TensorId x_;
  TensorId indices_;
  TensorId updates_;
  std::size_t axis_;
  isa::Scatter func_;
  Dtype type_;
  std::vector<int> order_;
};

}  // namespace

std::unique_ptr<Kernel> lower_take_along(Context &context, const Group &group) {
  return std::make_unique<TakeAlongKernel>(context, group);
}

std::unique_ptr<Kernel> lower_scatter_along(Context &context, const Group &group) {
  return std::make_unique<ScatterAlongKernel>(context, group);
}

}  // namespace cx::compiler::backend
