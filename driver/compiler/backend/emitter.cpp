#include "driver/compiler/backend/emitter.hpp"

#include <algorithm>
#include <bit>
#include <functional>

#include "driver/compiler/backend/descriptor_cache.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

Descriptor descriptor_of(const Block &block, std::size_t operand, Dtype dtype, int64_t base) {
  Descriptor result;
  result.dtype = dtype;
  result.base = static_cast<uint32_t>(base + block.offsets[operand]);
  for (std::size_t d = 0; d < 4; ++d) {
    result.dims[d] = static_cast<uint16_t>(block.dims[d]);
    result.strides[d] = static_cast<int32_t>(block.strides[operand][d]);
  }
  return result;
}

/// An operand of an operation along one dimension, which lies at `slot` of the block.
Descriptor along(const Block &block, std::size_t operand, const SpmView &view, std::size_t slot, std::size_t axis) {
  Descriptor result = descriptor_of(block, operand, view.dtype, view.base);
  if (view.dims[axis] > 65535) {
    throw Error("an operation along " + std::to_string(view.dims[axis]) + " elements, 65535 fit a descriptor");
  }
  result.dims[slot] = static_cast<uint16_t>(view.dims[axis]);
  return result;
}

MemDescriptor memory_of(const Block &block, std::size_t operand, const MemView &view) {
  MemDescriptor result;
  result.segment = static_cast<uint8_t>(view.segment);
  result.offset = static_cast<uint64_t>(view.offset + block.offsets[operand]);
  for (std::size_t d = 0; d < 4; ++d) result.strides[d] = static_cast<int32_t>(block.strides[operand][d]);
  return result;
}

std::pair<int64_t, int64_t> extent(int64_t base, const std::array<uint16_t, 4> &dims,
                                   const std::array<int32_t, 4> &strides, int64_t size) {
  int64_t first = base;
  int64_t last = base;
  for (std::size_t d = 0; d < 4; ++d) {
    const int64_t span = (static_cast<int64_t>(dims[d]) - 1) * strides[d];
    (span < 0 ? first : last) += span;
  }
  return {first, last + size};
}

/// Cuts a block into transfers of at most so many bytes, along its outer dimensions.
void for_each_transfer(const Block &block, int64_t size, int64_t most, const std::function<void(const Block &)> &emit,
                       std::size_t slot = 0) {
  int64_t inner = size;
  for (std::size_t d = slot + 1; d < 4; ++d) inner *= block.dims[d];
  if (slot == 4 || inner * block.dims[slot] <= most) {
    emit(block);
    return;
  }
  const int64_t step = std::max<int64_t>(most / inner, 1);
  Block piece = block;
  for (int64_t at = 0; at < block.dims[slot]; at += step) {
    piece.dims[slot] = std::min(step, block.dims[slot] - at);
    for (std::size_t i = 0; i < block.offsets.size(); ++i) {
      piece.offsets[i] = block.offsets[i] + at * block.strides[i][slot];
    }
    if (step == 1) {
      for_each_transfer(piece, size, most, emit, slot + 1);
    } else {
      emit(piece);
    }
  }
}

bool same_elements(const SpmView &a, const SpmView &b) {
  if (a.base != b.base || a.dtype != b.dtype) return false;
  for (std::size_t d = 0; d < a.dims.size(); ++d) {
    if (a.dims[d] != 1 && a.strides[d] != b.strides[d]) return false;
  }
  return true;
}

constexpr int kSca = static_cast<int>(isa::Engine::SCA);
/// Semaphores of a program without and with sparse products.
constexpr uint32_t kSemaphoresWithoutSca = kSca * (kSca - 1);
constexpr uint32_t kSemaphores = kEngines * (kEngines - 1);

/// Of a pair of engines; those of the sparse unit come last, so that programs without it need fewer.
int semaphore(int from, int to) {
  if (from == kSca) return kSca * (kSca - 1) + to;
  if (to == kSca) return kSca * kSca + from;
  return from * (kSca - 1) + (to < from ? to : to - 1);
}

}  // namespace

Descriptor descriptor(const SpmView &view) {
  Descriptor result;
  result.dtype = view.dtype;
  result.base = static_cast<uint32_t>(view.base);
  const std::size_t missing = 4 - view.dims.size();
  for (std::size_t d = 0; d < view.dims.size(); ++d) {
    if (view.dims[d] > 65535) throw InputError("a dimension of " + std::to_string(view.dims[d]) + " is above 65535");
    result.dims[missing + d] = static_cast<uint16_t>(view.dims[d]);
    result.strides[missing + d] = static_cast<int32_t>(view.dims[d] == 1 ? 0 : view.strides[d]);
  }
  return result;
}

Emitter::Mark Emitter::mark() const {
  return {operations_.size(), nodes_.size(), tile_begin_, products_begin_, load_bytes_, store_bytes_};
}

void Emitter::rollback(const Mark &mark) {
  operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(mark.operations), operations_.end());
  nodes_.resize(mark.nodes);
  tile_begin_ = mark.tile_begin;
  products_begin_ = mark.products_begin;
  load_bytes_ = mark.load_bytes;
  store_bytes_ = mark.store_bytes;
}

void Emitter::set_node(const std::string &name) {
  if (nodes_.empty() || nodes_.back() != name) nodes_.push_back(name);
}

void Emitter::begin_pass() {
  if (!dry_) products_begin_.reset();
}

void Emitter::begin_tile() {
  if (!dry_) tile_begin_ = operations_.size();
}

void Emitter::operands_ready() {
  if (dry_) return;
  const auto at = [this](std::size_t index) { return operations_.begin() + static_cast<std::ptrdiff_t>(index); };
  const auto first = products_begin_ ? at(*products_begin_) : at(tile_begin_);
  const auto middle = at(tile_begin_);
  products_begin_ = operations_.size();
  const auto on_vpu = [](const Operation &op) { return op.engine == isa::Engine::VPU; };
  if (std::none_of(middle, operations_.end(), on_vpu) || std::none_of(first, middle, on_vpu)) return;
  for (auto later = middle; later != operations_.end(); ++later) {
    if (std::any_of(first, middle, [&](const Operation &op) { return conflict(op, *later); })) return;
  }
  std::rotate(first, middle, operations_.end());
}

Operation &Emitter::add(isa::Engine engine, const isa::Inst &inst) {
  if (dry_) {
    scratch_ = {};
    return scratch_;
  }
  if (nodes_.empty()) nodes_.emplace_back();
  Operation &op = operations_.emplace_back();
  op.engine = engine;
  op.node = static_cast<int>(nodes_.size()) - 1;
  op.inst = inst;
  return op;
}

void Emitter::use(Operation &op, uint8_t at, const Descriptor &view, bool write) {
  op.operands.push_back({at, view});
  const auto [begin, end] = extent(view.base, view.dims, view.strides, element_bytes(view.dtype));
  op.accesses.push_back({0, begin, end, write});
}

void Emitter::use_memory(Operation &op, uint8_t at, const MemDescriptor &memory, const std::array<uint16_t, 4> &dims,
                         int64_t size, bool write) {
  op.memory = {at, memory};
  const auto [begin, end] = extent(static_cast<int64_t>(memory.offset), dims, memory.strides, size);
  op.accesses.push_back({1 + memory.segment, begin, end, write});
}

Emitter::Emitter(const Target &target) {
  constexpr int64_t kCycles = 200, kLeast = 32 << 10, kMost = 128 << 10;
  const double bytes = kCycles * 1000.0 * target.dram_stream_mbps / std::max(target.clock_khz, 1U);
  transfer_bytes_ =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::clamp<double>(bytes, kLeast, kMost))));
}

void Emitter::load(const SpmView &dst, const MemView &src) {
  if (const auto there = in_scratchpad(src)) {
    unary(isa::Unary::COPY, dst, *there);
    return;
  }
  if (dry_) return;
  // A dimension that repeats elements nests as in the destination: innermost it would cut every run to one element.
  Dims nesting = src.strides;
  for (std::size_t d = 0; d < nesting.size(); ++d) {
    if (nesting[d] == 0) nesting[d] = dst.strides[d];
  }
  for_each_block(src.dims, {dst.strides, src.strides, nesting}, 2, [&](const Block &block) {
    for_each_transfer(block, element_bytes(src.dtype), transfer_bytes_, [&](const Block &piece) {
      const Descriptor view = descriptor_of(piece, 0, dst.dtype, dst.base);
      Operation &op = add(isa::Engine::LOAD, isa::DmaLoad{}.encode());
      use(op, 2, view, true);
      use_memory(op, 3, memory_of(piece, 1, src), view.dims, element_bytes(src.dtype), false);
      load_bytes_ += count(view.dims) * static_cast<uint64_t>(element_bytes(src.dtype));
    });
  });
}

void Emitter::store(const MemView &dst, const SpmView &src) {
  if (const auto there = in_scratchpad(dst)) {
    if (!same_elements(*there, src)) unary(isa::Unary::COPY, *there, src);
    return;
  }
  if (dry_) return;
  for_each_block(dst.dims, {dst.strides, src.strides}, 0, [&](const Block &block) {
    for_each_transfer(block, element_bytes(dst.dtype), transfer_bytes_, [&](const Block &piece) {
      const Descriptor view = descriptor_of(piece, 1, src.dtype, src.base);
      Operation &op = add(isa::Engine::STORE, isa::DmaStore{}.encode());
      use(op, 2, view, false);
      use_memory(op, 3, memory_of(piece, 0, dst), view.dims, element_bytes(dst.dtype), true);
      store_bytes_ += count(view.dims) * static_cast<uint64_t>(element_bytes(dst.dtype));
    });
  });
}

void Emitter::fill(const SpmView &dst, uint32_t pattern) {
  if (dry_) return;
  for_each_block(dst.dims, {dst.strides}, 0, [&](const Block &block) {
    const Descriptor view = descriptor_of(block, 0, dst.dtype, dst.base);
    // Padding that covers every row leaves nothing to fetch; the memory descriptor only has to be defined.
    isa::DmaLoad load;
    load.pad_top = view.dims[1];
    load.fill = pattern;
    Operation &op = add(isa::Engine::LOAD, load.encode());
    use(op, 2, view, true);
    op.memory = {3, MemDescriptor{}};
  });
}

void Emitter::load_padded(const Descriptor &dst, const MemDescriptor &src, const Padding &padding) {
  if (dry_) return;
  isa::DmaLoad load;
  load.pad_top = static_cast<uint16_t>(padding.top);
  load.pad_bottom = static_cast<uint16_t>(padding.bottom);
  load.pad_left = static_cast<uint16_t>(padding.left);
  load.pad_right = static_cast<uint16_t>(padding.right);
  load.fill = padding.fill;
  Operation &op = add(isa::Engine::LOAD, load.encode());
  use(op, 2, dst, true);
  std::array<uint16_t, 4> fetched = dst.dims;
  fetched[1] = static_cast<uint16_t>(dst.dims[1] - padding.top - padding.bottom);
  fetched[2] = static_cast<uint16_t>(dst.dims[2] - padding.left - padding.right);
  use_memory(op, 3, src, fetched, element_bytes(dst.dtype), false);
  load_bytes_ += count(fetched) * static_cast<uint64_t>(element_bytes(dst.dtype));
}

void Emitter::load_weights(const Descriptor &w, TileSplit split) {
  if (dry_) return;
  isa::MmLdw ldw;
  ldw.m_split = static_cast<uint16_t>(split.m);
  ldw.n_split = static_cast<uint16_t>(split.n);
  use(add(isa::Engine::DMMU, ldw.encode()), 2, w, false);
}

void Emitter::multiply(const Descriptor &a, bool accumulate, TileSplit split, int64_t n, int64_t acc_row) {
  if (dry_) return;
  isa::MmMul mul;
  mul.accumulate = accumulate ? 1 : 0;
  mul.m_split = static_cast<uint16_t>(split.m);
  mul.n_split = static_cast<uint16_t>(split.n);
  mul.n = static_cast<uint16_t>(n);
  mul.acc_row = static_cast<uint16_t>(acc_row);
  use(add(isa::Engine::DMMU, mul.encode()), 2, a, false);
}

void Emitter::multiply_output_stationary(const Descriptor &a, const Descriptor &w, bool accumulate, TileSplit split,
                                         int64_t acc_row) {
  if (dry_) return;
  isa::MmMulOs mul;
  mul.accumulate = accumulate ? 1 : 0;
  mul.m_split = static_cast<uint16_t>(split.m);
  mul.n_split = static_cast<uint16_t>(split.n);
  mul.acc_row = static_cast<uint16_t>(acc_row);
  Operation &op = add(isa::Engine::DMMU, mul.encode());
  use(op, 2, a, false);
  use(op, 3, w, false);
}

void Emitter::load_activations(const Descriptor &a, TileSplit split) {
  if (dry_) return;
  isa::SpLda load;
  load.m_split = static_cast<uint16_t>(split.m);
  load.n_split = static_cast<uint16_t>(split.n);
  use(add(isa::Engine::SCA, load.encode()), 2, a, false);
}

void Emitter::multiply_sparse(const WeightStream &w, bool accumulate, TileSplit split, int64_t acc_row) {
  if (dry_) return;
  isa::SpMul mul;
  mul.format = static_cast<isa::Sparse>(w.layout.format);
  mul.dtype = w.dtype;
  mul.accumulate = accumulate ? 1 : 0;
  mul.m_split = static_cast<uint16_t>(split.m);
  mul.n_split = static_cast<uint16_t>(split.n);
  mul.acc_row = static_cast<uint16_t>(acc_row);
  mul.n = static_cast<uint16_t>(w.n);
  mul.k = static_cast<uint16_t>(w.k);
  const bool block = w.layout.format == sparse::Format::kBlock;
  mul.p0 = block ? w.layout.block_h : w.layout.n;
  mul.p1 = block ? w.layout.block_w : w.layout.m;
  mul.base = static_cast<uint32_t>(w.base);
  mul.bytes = static_cast<uint32_t>(w.bytes);
  Operation &op = add(isa::Engine::SCA, mul.encode());
  op.accesses.push_back({0, w.base, w.base + w.bytes, false});
  op.work = w.cycles;
}

namespace {

/// MM_DRAIN or SP_DRAIN.
template <typename Drain>
isa::Inst drain_instruction(const Activation &act, const DrainSource &source) {
  Drain drain;
  drain.scale = 0xFF;
  drain.bias = 0xFF;
  drain.act = act.kind;
  drain.lo = act.lo;
  drain.hi = act.hi;
  drain.m_split = static_cast<uint16_t>(source.split.m);
  drain.n_split = static_cast<uint16_t>(source.split.n);
  drain.acc_row = static_cast<uint16_t>(source.acc_row);
  return drain.encode();
}

}  // namespace

void Emitter::drain(const Descriptor &dst, const std::optional<Descriptor> &scale,
                    const std::optional<Descriptor> &bias, const Activation &act, const DrainSource &source) {
  if (dry_) return;
  const bool sparse = source.engine == isa::Engine::SCA;
  Operation &op = add(source.engine, sparse ? drain_instruction<isa::SpDrain>(act, source)
                                            : drain_instruction<isa::MmDrain>(act, source));
  use(op, 2, dst, true);
  if (scale) use(op, 3, *scale, false);
  if (bias) use(op, 4, *bias, false);
}

void Emitter::unary(isa::Unary func, const SpmView &dst, const SpmView &src, float imm0, float imm1) {
  if (dry_) return;
  for_each_block(dst.dims, {dst.strides, src.strides}, 0, [&](const Block &block) {
    isa::VUnary inst;
    inst.func = func;
    inst.imm0 = imm0;
    inst.imm1 = imm1;
    Operation &op = add(isa::Engine::VPU, inst.encode());
    use(op, 2, descriptor_of(block, 0, dst.dtype, dst.base), true);
    use(op, 3, descriptor_of(block, 1, src.dtype, src.base), false);
  });
}

void Emitter::binary(isa::Binary func, const SpmView &dst, const SpmView &a, const SpmView &b, const Activation &act) {
  if (dry_) return;
  for_each_block(dst.dims, {dst.strides, a.strides, b.strides}, 0, [&](const Block &block) {
    isa::VBinary inst;
    inst.func = func;
    inst.act = act.kind;
    inst.lo = act.lo;
    inst.hi = act.hi;
    Operation &op = add(isa::Engine::VPU, inst.encode());
    use(op, 2, descriptor_of(block, 0, dst.dtype, dst.base), true);
    use(op, 3, descriptor_of(block, 1, a.dtype, a.base), false);
    use(op, 4, descriptor_of(block, 2, b.dtype, b.base), false);
  });
}

void Emitter::binary_scalar(isa::Binary func, const SpmView &dst, const SpmView &a, float scalar, bool swap,
                            const Activation &act) {
  if (dry_) return;
  for_each_block(dst.dims, {dst.strides, a.strides}, 0, [&](const Block &block) {
    isa::VBinary inst;
    inst.func = func;
    inst.b = 0xFF;
    inst.swap = swap ? 1 : 0;
    inst.imm0 = scalar;
    inst.act = act.kind;
    inst.lo = act.lo;
    inst.hi = act.hi;
    Operation &op = add(isa::Engine::VPU, inst.encode());
    use(op, 2, descriptor_of(block, 0, dst.dtype, dst.base), true);
    use(op, 3, descriptor_of(block, 1, a.dtype, a.base), false);
  });
}

void Emitter::select(const SpmView &dst, const SpmView &cond, const std::optional<SpmView> &a,
                     const std::optional<SpmView> &b, float scalar_a, float scalar_b) {
  if (dry_) return;
  std::vector<Dims> strides{dst.strides, cond.strides};
  if (a) strides.push_back(a->strides);
  if (b) strides.push_back(b->strides);
  for_each_block(dst.dims, strides, 0, [&](const Block &block) {
    isa::VSelect inst;
    inst.imm0 = scalar_a;
    inst.imm1 = scalar_b;
    Operation &op = add(isa::Engine::VPU, inst.encode());
    use(op, 2, descriptor_of(block, 0, dst.dtype, dst.base), true);
    use(op, 3, descriptor_of(block, 1, cond.dtype, cond.base), false);
    if (a) use(op, 4, descriptor_of(block, 2, a->dtype, a->base), false);
    if (b) use(op, 5, descriptor_of(block, a ? 3 : 2, b->dtype, b->base), false);
  });
}

void Emitter::gather(const SpmView &dst, const SpmView &src, const SpmView &idx, std::size_t axis) {
  if (dry_) return;
  for_each_axis_block(dst.dims, axis, {dst.strides, src.strides, idx.strides}, 0,
                      [&](const Block &block, std::size_t slot) {
                        isa::VGather inst;
                        inst.axis = static_cast<uint8_t>(slot);
                        Operation &op = add(isa::Engine::VPU, inst.encode());
                        use(op, 2, along(block, 0, dst, slot, axis), true);
                        use(op, 3, along(block, 1, src, slot, axis), false);
                        use(op, 4, along(block, 2, idx, slot, axis), false);
                      });
}

void Emitter::gather(const SpmView &dst, const MemView &src, const SpmView &idx, std::size_t axis) {
  if (dry_) return;
  const auto size = element_bytes(src.dtype);
  for_each_axis_block(dst.dims, axis, {dst.strides, src.strides, idx.strides}, 0,
                      [&](const Block &block, std::size_t slot) {
                        isa::DmaGather inst;
                        inst.axis = static_cast<uint8_t>(slot);
                        inst.limit = static_cast<uint32_t>(src.dims[axis]);
                        Operation &op = add(isa::Engine::LOAD, inst.encode());
                        const Descriptor view = along(block, 0, dst, slot, axis);
                        const MemDescriptor memory = memory_of(block, 1, src);
                        use(op, 2, view, true);
                        use(op, 4, along(block, 2, idx, slot, axis), false);
                        std::array<uint16_t, 4> others = view.dims;
                        others[slot] = 1;
                        use_memory(op, 3, memory, others, size, false);
                        // Any index along the axis may be met.
                        const int64_t span = (src.dims[axis] - 1) * memory.strides[slot];
                        (span < 0 ? op.accesses.back().begin : op.accesses.back().end) += span;
                        load_bytes_ += count(view.dims) * static_cast<uint64_t>(size);
                      });
}

void Emitter::scatter(isa::Scatter func, const SpmView &dst, const SpmView &src, const SpmView &idx, std::size_t axis) {
  if (dry_) return;
  for_each_axis_block(src.dims, axis, {dst.strides, src.strides, idx.strides}, 1,
                      [&](const Block &block, std::size_t slot) {
                        isa::VScatter inst;
                        inst.func = func;
                        inst.axis = static_cast<uint8_t>(slot);
                        Operation &op = add(isa::Engine::VPU, inst.encode());
                        use(op, 2, along(block, 0, dst, slot, axis), true);
                        use(op, 3, along(block, 1, src, slot, axis), false);
                        use(op, 4, along(block, 2, idx, slot, axis), false);
                      });
}

void Emitter::scan(const SpmView &dst, const SpmView &src, std::size_t axis, bool exclusive, bool reverse) {
  if (dry_) return;
  for_each_axis_block(dst.dims, axis, {dst.strides, src.strides}, 1, [&](const Block &block, std::size_t slot) {
    isa::VScan inst;
    inst.axis = static_cast<uint8_t>(slot);
    inst.exclusive = exclusive ? 1 : 0;
    inst.reverse = reverse ? 1 : 0;
    Operation &op = add(isa::Engine::VPU, inst.encode());
    use(op, 2, along(block, 0, dst, slot, axis), true);
    use(op, 3, along(block, 1, src, slot, axis), false);
  });
}

void Emitter::arg(isa::Order order, const SpmView &dst, const SpmView &src, std::size_t axis, bool last) {
  if (dry_) return;
  for_each_axis_block(src.dims, axis, {dst.strides, src.strides}, 1, [&](const Block &block, std::size_t slot) {
    isa::VArg inst;
    inst.order = order;
    inst.axis = static_cast<uint8_t>(slot);
    inst.last = last ? 1 : 0;
    Operation &op = add(isa::Engine::VPU, inst.encode());
    use(op, 2, along(block, 0, dst, slot, axis), true);
    use(op, 3, along(block, 1, src, slot, axis), false);
  });
}

void Emitter::top(isa::Order order, const SpmView &dst, const SpmView &src, std::size_t axis) {
  if (dry_) return;
  for_each_axis_block(
      src.dims, axis, {dst.strides, src.strides}, 1,
      [&](const Block &block, std::size_t slot) {
        isa::VTopk inst;
        inst.order = order;
        Operation &op = add(isa::Engine::VPU, inst.encode());
        use(op, 2, along(block, 0, dst, slot, axis), true);
        use(op, 3, along(block, 1, src, slot, axis), false);
      },
      true);
}

void Emitter::reduce(isa::Reduce func, const Descriptor &dst, const Descriptor &src, unsigned axes, float divisor) {
  if (dry_) return;
  isa::VReduce inst;
  inst.func = func;
  inst.axes = static_cast<uint8_t>(axes);
  inst.div = divisor;
  Operation &op = add(isa::Engine::VPU, inst.encode());
  use(op, 2, dst, true);
  use(op, 3, src, false);
}

void Emitter::window(const isa::VWindow &shape, const Descriptor &dst, const Descriptor &src,
                     const std::optional<Descriptor> &w, const std::optional<Descriptor> &bias) {
  if (dry_) return;
  isa::VWindow inst = shape;
  inst.w = 0xFF;
  inst.bias = 0xFF;
  Operation &op = add(isa::Engine::VPU, inst.encode());
  use(op, 2, dst, true);
  use(op, 3, src, false);
  if (w) use(op, 4, *w, false);
  if (bias) use(op, 5, *bias, false);
}

void Emitter::softmax(const Descriptor &dst, const Descriptor &src) {
  if (dry_) return;
  Operation &op = add(isa::Engine::VPU, isa::VSoftmax{}.encode());
  use(op, 2, dst, true);
  use(op, 3, src, false);
}

void Emitter::synchronize() {
  const std::vector<Sources> sources = dependences(operations_);
  for (std::size_t i = 0; i < operations_.size(); ++i) {
    for (std::size_t e = 0; e < kEngines; ++e) {
      if (sources[i][e] < 0) continue;
      operations_[i].waits[e] = true;
      operations_[static_cast<std::size_t>(sources[i][e])].posts[static_cast<std::size_t>(operations_[i].engine)] =
          true;
    }
  }
}

std::vector<isa::Inst> Emitter::encode(int engine, std::vector<DebugEntry> &debug) const {
  std::vector<isa::Inst> stream;
  DescriptorCache<Descriptor> tensors;
  DescriptorCache<MemDescriptor> memories;
  for (const Operation &op : operations_) {
    if (static_cast<int>(op.engine) != engine) continue;
    const std::size_t first = stream.size();
    isa::Inst inst = op.inst;
    for (const Operand &operand : op.operands) {
      bool missing = false;
      const int slot = tensors.slot(operand.view, missing);
      inst[operand.at] = static_cast<uint8_t>(slot);
      if (!missing) continue;
      isa::Tdesc set;
      set.index = static_cast<uint8_t>(slot);
      set.dtype = operand.view.dtype;
      set.base = operand.view.base;
      set.dims = operand.view.dims;
      set.strides = operand.view.strides;
      stream.push_back(set.encode());
    }
    if (op.memory) {
      bool missing = false;
      const int slot = memories.slot(op.memory->second, missing);
      inst[op.memory->first] = static_cast<uint8_t>(slot);
      if (missing) {
        isa::Mdesc set;
        set.index = static_cast<uint8_t>(slot);
        set.segment = op.memory->second.segment;
        set.offset = op.memory->second.offset;
        set.strides = op.memory->second.strides;
        stream.push_back(set.encode());
      }
    }
    for (int e = 0; e < kEngines; ++e) {
      if (!op.waits[static_cast<std::size_t>(e)]) continue;
      stream.push_back(isa::SemWait{static_cast<uint8_t>(semaphore(e, engine)), 1}.encode());
    }
    stream.push_back(inst);
    for (int e = 0; e < kEngines; ++e) {
      if (!op.posts[static_cast<std::size_t>(e)]) continue;
      stream.push_back(isa::SemPost{static_cast<uint8_t>(semaphore(engine, e)), 1}.encode());
    }
    const std::string &node = nodes_[static_cast<std::size_t>(op.node)];
    if (!debug.empty() && debug.back().engine == static_cast<uint32_t>(engine) && debug.back().node == node) {
      debug.back().count += static_cast<uint32_t>(stream.size() - first);
    } else {
      debug.push_back({static_cast<uint32_t>(engine), static_cast<uint32_t>(first),
                       static_cast<uint32_t>(stream.size() - first), node});
    }
  }
  if (!stream.empty()) stream.push_back(isa::End{}.encode());
  return stream;
}

uint64_t Emitter::finish(const Target &target, ImageBuilder &image, std::vector<DebugEntry> &debug) {
  const bool sparse = std::any_of(operations_.begin(), operations_.end(),
                                  [](const Operation &op) { return op.engine == isa::Engine::SCA; });
  const uint32_t needed = sparse ? kSemaphores : kSemaphoresWithoutSca;
  if (target.semaphores < needed) {
    throw InputError("the target has " + std::to_string(target.semaphores) + " semaphores, a program needs " +
                     std::to_string(needed));
  }
  if (sparse) {
    std::vector<Operation> ordered;
    for (const std::size_t number : issue_order(operations_)) ordered.push_back(std::move(operations_[number]));
    operations_ = std::move(ordered);
  }
  synchronize();
  uint64_t total = 0;
  for (int engine = 0; engine < kEngines; ++engine) {
    const std::vector<isa::Inst> stream = encode(engine, debug);
    if (stream.empty()) continue;
    image.add_stream(static_cast<uint32_t>(engine), stream);
    total += stream.size();
  }
  if (total == 0) {
    // Nothing to do, as for a model without elements: an image needs a stream all the same.
    image.add_stream(0, std::vector<isa::Inst>{isa::End{}.encode()});
    total = 1;
  }
  return total;
}

}  // namespace cx::compiler::backend
