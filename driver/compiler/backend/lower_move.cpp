// Nodes that move elements without arithmetic. Most are views that the layout has found; the rest copies by DMA through
// the scratchpad, converting between device types where the two sides differ.
#include <algorithm>
#include <cstring>
#include <iterator>

#include "driver/compiler/backend/kernel.hpp"
#include "driver/compiler/frontend/elements.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kTileElements = 32768;

SpmView dense_buffer(Arena &arena, Dtype dtype, const MemView &like) {
  return allocate(arena, dtype, like.dims, nesting_order(like.dims, like.strides));
}

MemView part(const MemView &view, const Box &box) {
  MemView result = view;
  result.offset += box_offset(box, view.strides);
  result.dims = box.size;
  return result;
}

class CopyKernel : public Kernel {
 public:
  CopyKernel(Context &context, MemView target, MemView source)
      : context_(context), target_(std::move(target)), source_(std::move(source)) {}

  Shape shape() const override { return target_.dims; }
  std::vector<Tiling> tilings() const override {
    return free_tilings(target_.dims, nesting_order(target_.dims, target_.strides), kTileElements,
                        std::vector<bool>(target_.dims.size(), false));
  }
  void resident(Arena &, const Box &) override {}
  void tile(Arena &arena, const Box &box) override {
    const MemView from = part(source_, box);
    const MemView to = part(target_, box);
    const std::optional<SpmView> source_here = in_scratchpad(from);
    const std::optional<SpmView> target_here = in_scratchpad(to);
    if (source_here && target_here) {
      context_.emitter.unary(isa::Unary::COPY, *target_here, *source_here);
      return;
    }
    const bool same_type = source_.dtype == target_.dtype;
    SpmView buffer;
    if (source_here) {
      buffer = *source_here;
    } else {
      const bool straight = target_here && same_type &&
                            !pays_to_nest(context_, from.dims, from.strides, target_here->strides, from.dtype);
      buffer = straight ? *target_here : dense_buffer(arena, source_.dtype, from);
      context_.emitter.load(buffer, from);
      if (straight) return;
    }
    if (target_here) {
      context_.emitter.unary(isa::Unary::COPY, *target_here, buffer);
      return;
    }
    if (!same_type || pays_to_nest(context_, to.dims, to.strides, buffer.strides, to.dtype)) {
      const SpmView nested = dense_buffer(arena, target_.dtype, to);
      context_.emitter.unary(isa::Unary::COPY, nested, buffer);
      buffer = nested;
    }
    context_.emitter.store(to, buffer);
  }

 private:
  Context &context_;
  MemView target_;
  MemView source_;
};

/// Constant padding: each tile is filled, then what lies inside is loaded over it.
class PadKernel : public Kernel {
 public:
  /// value: one element of the source's type.
  PadKernel(Context &context, MemView target, MemView source, Dims begin, std::vector<std::byte> value)
      : context_(context),
        target_(std::move(target)),
        source_(std::move(source)),
        begin_(std::move(begin)),
        value_(std::move(value)) {}

  Shape shape() const override { return target_.dims; }
  std::vector<Tiling> tilings() const override {
    return free_tilings(target_.dims, nesting_order(target_.dims, target_.strides), kTileElements,
                        std::vector<bool>(target_.dims.size(), false));
  }
  void resident(Arena &, const Box &) override {}
  void tile(Arena &arena, const Box &box) override {
    const MemView to = part(target_, box);
    const std::optional<SpmView> there = in_scratchpad(to);
    SpmView buffer = there && source_.dtype == target_.dtype ? *there : dense_buffer(arena, source_.dtype, to);
    fill(buffer);
    Box inside;  // of the source
    SpmView window = buffer;
    bool empty = false;
    for (std::size_t d = 0; d < begin_.size(); ++d) {
      const int64_t first = std::max<int64_t>(box.start[d] - begin_[d], 0);
      const int64_t last = std::min<int64_t>(box.start[d] + box.size[d] - begin_[d], source_.dims[d]);
      empty = empty || last <= first;
      inside.start.push_back(first);
      inside.size.push_back(last - first);
      window.base += (first + begin_[d] - box.start[d]) * buffer.strides[d];
    }
    window.dims = inside.size;
    if (!empty) context_.emitter.load(window, part(source_, inside));
    if (source_.dtype != target_.dtype) {
      const SpmView converted = dense_buffer(arena, target_.dtype, to);
      context_.emitter.unary(isa::Unary::COPY, converted, buffer);
      buffer = converted;
    }
    context_.emitter.store(to, buffer);
  }

 private:
  void fill(const SpmView &buffer) {
    uint32_t pattern = 0;
    std::memcpy(&pattern, value_.data(), std::min(value_.size(), sizeof pattern));
    if (std::all_of(value_.begin() + std::min<std::ptrdiff_t>(4, std::ssize(value_)), value_.end(),
                    [](std::byte byte) { return byte == std::byte{0}; })) {
      context_.emitter.fill(buffer, pattern);
      return;
    }
    // A fill has 32 bits; wider values come from one element of the image.
    if (context_.emitter.dry()) return;
    MemView element;
    element.dtype = buffer.dtype;
    element.segment = context_.constants.segment();
    element.offset = context_.constants.place(value_.size(),
                                              [&](std::span<std::byte> to) { std::ranges::copy(value_, to.begin()); });
    element.dims = buffer.dims;
    element.strides.assign(buffer.dims.size(), 0);
    context_.emitter.load(buffer, element);
  }

  Context &context_;
  MemView target_;
  MemView source_;
  Dims begin_;
  std::vector<std::byte> value_;
};

class MoveLowering {
 public:
  MoveLowering(Context &context, GroupEmitter &emitter, const Group &group)
      : context_(context),
        emitter_(emitter),
        group_(group),
        index_(group.nodes.front()),
        node_(context.graph.nodes[static_cast<std::size_t>(index_)]),
        out_(node_.outputs[0]) {}

  void run() {
    if (!context_.layout.has_memory(out_) || elements(group_.shape) == 0) return;
    if (node_.op == "Concat") {
      concat();
    } else if (node_.op == "Gather") {
      gather();
    } else if (node_.op == "Pad") {
      pad();
    } else {
      reinterpret();
    }
  }

 private:
  MemView target() const { return context_.layout.view(out_); }

  MemView source(TensorId id) const {
    const Tensor &tensor = context_.graph[id];
    if (!tensor.is_constant()) return context_.layout.view(id);
    return constant_view(context_, id, {Dims(tensor.shape.size(), 0), tensor.shape}, context_.layout.dtype(out_));
  }

  /// The same elements at the same places: nothing to do.
  static bool same(const MemView &a, const MemView &b) {
    if (a.segment != b.segment || a.offset != b.offset || a.dtype != b.dtype) return false;
    for (std::size_t d = 0; d < a.dims.size(); ++d) {
      if (a.dims[d] != 1 && a.strides[d] != b.strides[d]) return false;
    }
    return true;
  }

  void copy(const MemView &to, const MemView &from) {
    if (same(to, from)) return;
    CopyKernel kernel(context_, to, from);
    emitter_.emit(group_.name, kernel);
  }

  void reinterpret() {
    const TensorId in = node_.inputs[0];
    if (context_.graph[in].is_constant()) {
      MemView from = source(in);
      // Constants are dense and row-major: any view of their shape is one of the result's shape or comes from
      // view_through.
      const Value whole{0, 0, row_major_strides(context_.graph[in].shape)};
      const Value seen = view_through(context_.graph, node_, whole).value();
      from.offset += seen.offset * element_bytes(from.dtype);
      from.dims = group_.shape;
      from.strides = seen.strides;
      for (int64_t &stride : from.strides) stride *= element_bytes(from.dtype);
      copy(target(), from);
      return;
    }
    const std::optional<Value> seen = view_through(context_.graph, node_, context_.layout.value(in));
    if (seen) {
      copy(target(), context_.layout.view(*seen, group_.shape));
      return;
    }
    const Shape &in_shape = context_.graph[in].shape;
    Value back = context_.layout.value(out_);
    if (reshape_strides(group_.shape, context_.layout.value(out_).strides, in_shape, back.strides)) {
      copy(context_.layout.view(back, in_shape), source(in));
      return;
    }
    Value between = context_.layout.scratch(index_).value();
    copy(context_.layout.view(between, in_shape), source(in));
    between.strides = row_major_strides(group_.shape);
    copy(target(), context_.layout.view(between, group_.shape));
  }

  void concat() {
    const auto axis = static_cast<std::size_t>(node_.integer("axis", 0));
    Box box{Dims(group_.shape.size(), 0), group_.shape};
    for (TensorId in : node_.inputs) {
      box.size[axis] = context_.graph[in].shape[axis];
      if (elements(context_.graph[in].shape) != 0) copy(context_.layout.view(out_, box), source(in));
      box.start[axis] += box.size[axis];
    }
  }

  void gather() {
    const auto axis = static_cast<std::size_t>(node_.integer("axis", 0));
    const std::vector<int64_t> indices = node_.integers("indices");
    const MemView from = source(node_.inputs[0]);
    // Indices that rise by one constant step are one strided copy.
    for (std::size_t first = 0; first < indices.size();) {
      std::size_t last = first + 1;
      const int64_t step = last < indices.size() ? indices[last] - indices[first] : 0;
      while (last < indices.size() && indices[last] - indices[last - 1] == step) ++last;
      Box box{Dims(group_.shape.size(), 0), group_.shape};
      box.start[axis] = static_cast<int64_t>(first);
      box.size[axis] = static_cast<int64_t>(last - first);
      MemView piece = from;
      piece.offset += indices[first] * from.strides[axis];
      piece.dims = box.size;
      piece.strides[axis] = step * from.strides[axis];
      copy(context_.layout.view(out_, box), piece);
      first = last;
    }
  }

  void pad() {
    const std::vector<int64_t> pads = node_.integers("pads");
    const MemView from = source(node_.inputs[0]);
    const Dims begin(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(group_.shape.size()));
    PadKernel kernel(context_, target(), from, begin, padding(from.dtype));
    emitter_.emit(group_.name, kernel);
  }

  std::vector<std::byte> padding(Dtype dtype) const {
    const float value = node_.real("value", 0);
    if (is_integer(dtype)) {
      const Tensor element = make_constant("", Type::I64, {1}, std::vector<int64_t>{static_cast<int64_t>(value)});
      std::vector<std::byte> bytes = element.data.value();
      bytes.resize(static_cast<std::size_t>(element_bytes(dtype)));  // little endian
      return bytes;
    }
    if (dtype != Dtype::FP64) return encode_floats({value}, dtype);
    return make_constant("", Type::F64, {1}, std::vector<double>{value}).data.value();
  }

  Context &context_;
  GroupEmitter &emitter_;
  const Group &group_;
  int index_;
  const Node &node_;
  TensorId out_;
};

}  // namespace

void lower_move(Context &context, GroupEmitter &emitter, const Group &group) {
  MoveLowering(context, emitter, group).run();
}

}  // namespace cx::compiler::backend
