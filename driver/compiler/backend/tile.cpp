#include "driver/compiler/backend/tile.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kAlign = 64;
/// Constants up to this size stay in the scratchpad while a group runs.
constexpr int64_t kResidentElements = 8192;
/// What an instruction of the VPU takes beside its elements, about; a run of a transfer takes one cycle.
constexpr int64_t kVpuCycles = 32;

/// Copies a box of a dense row-major tensor into dense memory that nests otherwise. Strides in elements.
template <typename T>
void gather(const T *source, const Dims &source_strides, T *target, const Dims &target_strides, const Dims &size) {
  if (product(size) == 0) return;
  // Writes are contiguous along one dimension, reads follow the tensor's order in as many places as a block is long.
  constexpr int64_t kBlock = 16;
  std::size_t inner = size.size();
  std::vector<std::size_t> outer;
  for (std::size_t d = 0; d < size.size(); ++d) {
    if (size[d] != 1 && target_strides[d] == 1) inner = d;
  }
  for (std::size_t d = 0; d < size.size(); ++d) {
    if (size[d] != 1 && d != inner) outer.push_back(d);
  }
  const int64_t count = inner < size.size() ? size[inner] : 1;
  const int64_t step = inner < size.size() ? source_strides[inner] : 1;
  const int64_t block = step == 1 ? count : kBlock;
  std::vector<int64_t> at(outer.size(), 0);
  for (int64_t first = 0; first < count; first += block) {
    const int64_t length = std::min(block, count - first);
    const T *from = source + first * step;
    T *to = target + first;
    for (bool more = true; more;) {
      if (step == 1) {
        std::copy(from, from + length, to);
      } else {
        for (int64_t i = 0; i < length; ++i) to[i] = from[i * step];
      }
      more = false;
      for (std::size_t d = outer.size(); d-- > 0;) {
        const std::size_t dimension = outer[d];
        from += source_strides[dimension];
        to += target_strides[dimension];
        if (++at[d] < size[dimension]) {
          more = true;
          break;
        }
        from -= size[dimension] * source_strides[dimension];
        to -= size[dimension] * target_strides[dimension];
        at[d] = 0;
      }
    }
  }
}

template <typename T>
void gather(const std::byte *source, const Shape &shape, const Box &box, const std::vector<int> &order, T *target) {
  const Dims strides = row_major_strides(shape);
  gather(reinterpret_cast<const T *>(source) + box_offset(box, strides), strides, target,
         ordered_strides(box.size, order), box.size);
}

/// Elements of a box of a constant as they are stored, dense in `order`. Work is that of the box, not of the tensor.
void gather_elements(const Tensor &tensor, const Box &box, const std::vector<int> &order, std::byte *to) {
  const std::byte *const data = tensor.data.value().data();
  switch (compiler::bytes_of(tensor.type)) {
    case 1:
      return gather(data, tensor.shape, box, order, reinterpret_cast<uint8_t *>(to));
    case 2:
      return gather(data, tensor.shape, box, order, reinterpret_cast<uint16_t *>(to));
    case 4:
      return gather(data, tensor.shape, box, order, reinterpret_cast<uint32_t *>(to));
    default:
      return gather(data, tensor.shape, box, order, reinterpret_cast<uint64_t *>(to));
  }
}

/// The same as floats.
void gather_floats(const Tensor &tensor, const Box &box, const std::vector<int> &order, std::vector<float> &floats) {
  floats.resize(static_cast<std::size_t>(product(box.size)));
  if (tensor.type == Type::F32) {
    return gather(tensor.data.value().data(), tensor.shape, box, order, floats.data());
  }
  const std::size_t size = compiler::bytes_of(tensor.type);
  std::vector<std::byte> elements(floats.size() * size);
  gather_elements(tensor, box, order, elements.data());
  for (std::size_t i = 0; i < floats.size(); ++i) {
    floats[i] = element_as_float(tensor.type, elements.data() + i * size);
  }
}

/// Parts of a box that lie one after the other in memory that nests as `order`. They are small enough for what is done
/// with them to stay in a cache, but of 16 indices that are next to each other, so that a transposition uses whole
/// lines.
std::vector<Box> parts_of(const Box &box, const std::vector<int> &order) {
  constexpr int64_t kElements = 1 << 16;
  constexpr int64_t kIndices = 16;
  const auto split = std::ranges::find_if(order, [&](int d) { return box.size[static_cast<std::size_t>(d)] != 1; });
  const int64_t all = product(box.size);
  if (all <= kElements || split == order.end()) return {box};
  const auto axis = static_cast<std::size_t>(*split);
  const int64_t step = std::max(kIndices, kElements / (all / box.size[axis]));
  std::vector<Box> parts;
  for (int64_t first = 0; first < box.size[axis]; first += step) {
    Box part = box;
    part.start[axis] += first;
    part.size[axis] = std::min(step, box.size[axis] - first);
    parts.push_back(std::move(part));
  }
  return parts;
}

/// Elements of a box, dense in `order`, times the quantiser's factors.
void multiply(std::vector<float> &elements, const Box &box, const std::vector<int> &order, const Quantiser &quantiser) {
  if (quantiser.factors.empty()) return;
  int64_t first = 0;
  int64_t indices = 1;
  auto run = static_cast<int64_t>(elements.size());  ///< elements in a row with one factor
  if (quantiser.axis >= 0) {
    const auto axis = static_cast<std::size_t>(quantiser.axis);
    first = box.start[axis];
    indices = box.size[axis];
    run = ordered_strides(box.size, order)[axis];
  }
  int64_t index = 0;
  for (auto at = elements.begin(); at != elements.end(); at += run) {
    const double factor = quantiser.factor(first + index);
    std::transform(at, at + run, at, [factor](float value) { return static_cast<float>(value * factor); });
    index = (index + 1) % indices;
  }
}

void round_to_tf32(std::vector<float> &values) {
  for (float &value : values) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7F800000U) == 0x7F800000U) continue;
    bits = (bits + 0xFFFU + (bits >> 13 & 1U)) & ~0x1FFFU;
    std::memcpy(&value, &bits, 4);
  }
}

}  // namespace

void write_constant(const Tensor &tensor, const Box &box, const std::vector<int> &order, const Quantiser &quantiser,
                    std::span<std::byte> to) {
  const Dtype dtype = quantiser.dtype;
  const bool numeric = !quantiser.factors.empty() || quantiser.tf32 || bound_dtype(tensor.type, tensor.name) != dtype;
  if (to.size() != static_cast<std::size_t>(product(box.size) * element_bytes(dtype))) {
    throw Error("a constant of another size than its place");
  }
  if (!numeric) return gather_elements(tensor, box, order, to.data());
  std::vector<float> floats;
  std::byte *at = to.data();
  for (const Box &part : parts_of(box, order)) {
    gather_floats(tensor, part, order, floats);
    multiply(floats, part, order, quantiser);
    if (quantiser.tf32) round_to_tf32(floats);
    encode_floats(floats, dtype, at);
    at += static_cast<int64_t>(floats.size()) * element_bytes(dtype);
  }
}

std::vector<std::byte> constant_elements(const Tensor &tensor, const Box &box, const std::vector<int> &order,
                                         const Quantiser &quantiser) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(product(box.size) * element_bytes(quantiser.dtype)));
  write_constant(tensor, box, order, quantiser, bytes);
  return bytes;
}

void visit_constant(const Tensor &tensor, const Box &box, const Quantiser &quantiser,
                    const std::function<void(std::span<const std::byte>)> &visit) {
  std::vector<int> order(box.size.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::byte> bytes;
  for (const Box &part : parts_of(box, order)) {
    bytes.resize(static_cast<std::size_t>(product(part.size) * element_bytes(quantiser.dtype)));
    write_constant(tensor, part, order, quantiser, bytes);
    visit(bytes);
  }
}

MemView constant_memory(const Context &context, const SpmView &buffer, int64_t offset) {
  MemView view;
  view.dtype = buffer.dtype;
  view.segment = context.constants.segment();
  view.offset = offset;
  view.dims = buffer.dims;
  view.strides = buffer.strides;
  return view;
}

bool stays_in_scratchpad(const Context &context, TensorId id) {
  return !context.graph[id].is_constant() && context.layout.storage(id).place == Place::scratchpad;
}

int64_t Arena::take(int64_t bytes) {
  const int64_t place = at_;
  const int64_t next = (at_ + bytes + kAlign - 1) / kAlign * kAlign;
  if (next > end_) throw Error("scratchpad arena overrun: " + std::to_string(next - begin_) + " bytes");
  at_ = next;
  return place;
}

void in_turns(Context &context, Arena &arena, int64_t count, const std::function<void(Arena &, int64_t)> &f) {
  const bool was_dry = context.emitter.dry();
  const int64_t toggle = context.acc_toggle;
  context.emitter.set_dry(true);
  Arena probe(0, std::numeric_limits<int64_t>::max() / 2);
  f(probe, 0);
  context.emitter.set_dry(was_dry);
  context.acc_toggle = toggle;
  const int64_t buffers = std::min<int64_t>(count, 2);
  const int64_t first = arena.take(buffers * probe.used());
  for (int64_t n = 0; n < count; ++n) {
    const int64_t begin = first + n % buffers * probe.used();
    Arena buffer(begin, begin + probe.used());
    f(buffer, n);
  }
}

SpmView allocate(Arena &arena, Dtype dtype, const Dims &dims, const std::vector<int> &order) {
  SpmView view;
  view.dtype = dtype;
  view.dims = dims;
  view.strides = ordered_strides(dims, order);
  for (int64_t &stride : view.strides) stride *= element_bytes(dtype);
  view.base = arena.take(product(dims) * element_bytes(dtype));
  return view;
}

SpmView sub_view(const SpmView &view, const Box &whole, const Box &box) {
  SpmView result = view;
  for (std::size_t d = 0; d < view.dims.size(); ++d) {
    result.base += (box.start[d] - whole.start[d]) * view.strides[d];
  }
  result.dims = box.size;
  return result;
}

SpmView broadcast(const SpmView &view, const Dims &dims) {
  SpmView result = view;
  const std::size_t missing = dims.size() - view.dims.size();
  result.dims = dims;
  result.strides.assign(dims.size(), 0);
  for (std::size_t d = 0; d < view.dims.size(); ++d) {
    if (view.dims[d] != 1) result.strides[missing + d] = view.strides[d];
  }
  return result;
}

bool pays_to_nest(const Context &context, const Dims &dims, const Dims &memory, const Dims &scratchpad, Dtype dtype) {
  const int64_t size = element_bytes(dtype);
  if (size > 4) return false;  // two passes of the VPU
  // Dimensions that continue each other on both sides are one run.
  const auto runs = [&](const Dims &other) {
    int64_t run = 1;
    std::vector<bool> joined(dims.size(), false);
    for (std::size_t d = 0; d < dims.size();) {
      if (!joined[d] && dims[d] > 1 && memory[d] == run * size && other[d] == run * size) {
        run *= dims[d];
        joined[d] = true;
        d = 0;
      } else {
        ++d;
      }
    }
    return product(dims) / run;
  };
  Dims nested = ordered_strides(dims, nesting_order(dims, memory));
  for (int64_t &stride : nested) stride *= size;
  const auto lanes = std::max<int64_t>(context.target.vpu_lanes, 1);
  const int64_t copy = kVpuCycles + (product(dims) + lanes - 1) / lanes;
  return runs(scratchpad) - runs(nested) > copy;
}

Box operand_box(const Shape &operand, const Box &box) {
  Box result;
  const std::size_t missing = box.size.size() - operand.size();
  for (std::size_t d = 0; d < operand.size(); ++d) {
    const bool spread = operand[d] == 1;
    result.start.push_back(spread ? 0 : box.start[missing + d]);
    result.size.push_back(spread ? 1 : box.size[missing + d]);
  }
  return result;
}

SpmView load_box(Context &context, Arena &arena, TensorId id, const Box &box, std::optional<Dtype> wanted,
                 const std::vector<int> &order) {
  Quantiser quantiser;
  quantiser.dtype = wanted.value_or(operand_dtype(context, id));
  return load_operand(context, arena, id, box, quantiser, order);
}

SpmView load_operand(Context &context, Arena &arena, TensorId id, const Box &box, const Quantiser &quantiser,
                     const std::vector<int> &order) {
  const Tensor &tensor = context.graph[id];
  if (tensor.is_constant()) {
    const SpmView buffer = allocate(arena, quantiser.dtype, box.size, order);
    if (context.emitter.dry()) return buffer;
    const int64_t offset =
        context.constants.place(static_cast<std::size_t>(product(box.size) * element_bytes(quantiser.dtype)),
                                [&](std::span<std::byte> to) { write_constant(tensor, box, order, quantiser, to); });
    context.emitter.load(buffer, constant_memory(context, buffer, offset));
    return buffer;
  }
  const MemView source = context.layout.view(id, box);
  // A dimension with stride 0 in memory (Expand) is one element here too.
  Dims sizes = box.size;
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    if (source.strides[d] == 0) sizes[d] = 1;
  }
  const std::vector<int> nesting = nesting_order(box.size, source.strides);
  MemView fetched = source;
  fetched.dims = sizes;
  SpmView buffer;
  bool shared = false;  // others read the tensor where it is
  if (const auto there = in_scratchpad(fetched)) {
    buffer = *there;
    shared = true;
  } else {
    buffer = allocate(arena, source.dtype, sizes, nesting);
    context.emitter.load(buffer, fetched);
  }
  if (quantiser.dtype != source.dtype || quantiser.tensor_factor() != 1 || (quantiser.tf32 && shared)) {
    const SpmView converted = allocate(arena, quantiser.dtype, sizes, nesting);
    convert(context, converted, buffer, quantiser.tensor_factor());
    buffer = converted;
  }
  if (quantiser.tf32) round_to_tf32(context, arena, buffer);
  return broadcast(buffer, box.size);
}

TensorId anchor_bias(const Group &group, const Node &node) {
  if (group.anchor_bias != kNoTensor) return group.anchor_bias;
  return node.inputs.size() > 2 ? node.inputs[2] : kNoTensor;
}

SpmView load_channels(Context &context, Arena &arena, TensorId id, int64_t first, int64_t count) {
  const Shape &shape = context.graph[id].shape;
  Box box{Dims(shape.size(), 0), shape};
  const auto channel = static_cast<std::size_t>(
      std::find_if(shape.begin(), shape.end(), [](int64_t size) { return size != 1; }) - shape.begin());
  std::vector<int> order(shape.size());
  for (std::size_t d = 0; d < order.size(); ++d) order[d] = static_cast<int>(d);
  if (channel < shape.size()) {
    box.start[channel] = first;
    box.size[channel] = count;
  }
  SpmView view = load_box(context, arena, id, box, Dtype::FP32, order);
  view.dims = {count};
  view.strides = {4};
  return view;
}

SpmView load_floats(Context &context, Arena &arena, const std::vector<float> &values) {
  const SpmView buffer = allocate(arena, Dtype::FP32, {static_cast<int64_t>(values.size())}, {0});
  if (context.emitter.dry()) return buffer;
  const int64_t offset = context.constants.place(
      4 * values.size(), [&](std::span<std::byte> to) { encode_floats(values, Dtype::FP32, to.data()); });
  context.emitter.load(buffer, constant_memory(context, buffer, offset));
  return buffer;
}

void convert(Context &context, const SpmView &dst, const SpmView &src, float factor) {
  if (factor == 1) {
    context.emitter.unary(isa::Unary::COPY, dst, src);
  } else {
    context.emitter.unary(isa::Unary::AFFINE, dst, src, factor, 0);
  }
}

void round_to_tf32(Context &context, Arena &arena, const SpmView &buffer) {
  SpmView bits = buffer;
  bits.dtype = Dtype::INT32;
  const SpmView last = allocate(arena, Dtype::INT32, buffer.dims, nesting_order(buffer.dims, buffer.strides));
  Emitter &emitter = context.emitter;
  emitter.binary_scalar(isa::Binary::SHR, last, bits, 13, false, {});
  emitter.binary_scalar(isa::Binary::AND, last, last, 1, false, {});
  emitter.binary(isa::Binary::ADD, bits, bits, last, {});
  emitter.binary_scalar(isa::Binary::ADD, bits, bits, 0xFFF, false, {});
  emitter.binary_scalar(isa::Binary::AND, bits, bits, -0x2000, false, {});
}

MemView constant_view(Context &context, TensorId id, const Box &box, Dtype dtype) {
  std::vector<int> order(box.size.size());
  for (std::size_t d = 0; d < order.size(); ++d) order[d] = static_cast<int>(d);
  SpmView dense;
  dense.dtype = dtype;
  dense.dims = box.size;
  dense.strides = row_major_strides(box.size);
  for (int64_t &stride : dense.strides) stride *= element_bytes(dtype);
  const auto size = static_cast<std::size_t>(product(box.size) * element_bytes(dtype));
  return constant_memory(context, dense, context.constants.place(size, [&](std::span<std::byte> to) {
    write_constant(context.graph[id], box, order, {dtype, -1, {}}, to);
  }));
}

Dtype temporary_dtype(const Context &context, TensorId id) {
  const Tensor &tensor = context.graph[id];
  // Results of arithmetic on F64 are FP32 numbers.
  return tensor.type == Type::F64 ? Dtype::FP32 : bound_dtype(tensor.type, tensor.name);
}

Dtype operand_dtype(const Context &context, TensorId id) {
  const Tensor &tensor = context.graph[id];
  if (!tensor.is_constant()) return context.layout.dtype(id);
  return tensor.type == Type::F32 ? context.element : bound_dtype(tensor.type, tensor.name);
}

SpmView converted(Context &context, Arena &arena, const SpmView &view, Dtype dtype) {
  if (view.dtype == dtype) return view;
  // What is broadcast is converted once.
  SpmView source = view;
  for (std::size_t d = 0; d < view.dims.size(); ++d) {
    if (view.strides[d] == 0) source.dims[d] = 1;
  }
  const SpmView result = allocate(arena, dtype, source.dims, nesting_order(source.dims, source.strides));
  context.emitter.unary(isa::Unary::COPY, result, source);
  return broadcast(result, view.dims);
}

Tail::Tail(Context &context, const Group &group) : context_(context), group_(group) {}

bool Tail::is_resident(TensorId id) const {
  const Tensor &tensor = context_.graph[id];
  return tensor.is_constant() && elements(tensor.shape) <= kResidentElements;
}

bool Tail::is_output(TensorId id) const {
  return std::find(group_.outputs.begin(), group_.outputs.end(), id) != group_.outputs.end();
}

bool Tail::used_after(TensorId id, std::size_t step) const {
  for (std::size_t s = step + 1; s < group_.steps.size(); ++s) {
    if (group_.steps[s].uses(id)) return true;
  }
  return false;
}

SpmView Tail::output_buffer(Arena &arena, TensorId id, const Box &box) const {
  if (const auto there = in_scratchpad(context_.layout.view(id, box))) return *there;
  return allocate(arena, context_.layout.dtype(id), box.size,
                  nesting_order(box.size, context_.layout.value(id).strides));
}

Dtype Tail::result_dtype(TensorId id) const {
  return is_output(id) ? context_.layout.dtype(id) : temporary_dtype(context_, id);
}

SpmView Tail::anchor_buffer(Arena &arena, const Box &box, const std::vector<int> &order) const {
  const TensorId id = group_.anchor_result;
  const bool product = group_.kind == GroupKind::convolution || group_.kind == GroupKind::matmul;
  if (product && result_dtype(id) == Dtype::FP64) {
    // The DMMU does not write it: run() converts.
    return allocate(arena, Dtype::FP32, box.size, nesting_order(box.size, context_.layout.value(id).strides));
  }
  if (is_output(id)) return output_buffer(arena, id, box);
  return allocate(arena, temporary_dtype(context_, id), box.size, order);
}

void Tail::load_resident(Arena &arena, const Box &range) {
  resident_.clear();
  for (const Step &step : group_.steps) {
    for (TensorId id : {step.a, step.b, step.cond}) {
      if (id == kNoTensor || !is_resident(id) || resident_.contains(id)) continue;
      const Box box = operand_box(context_.graph[id].shape, range);
      std::vector<int> order(box.size.size());
      for (std::size_t d = 0; d < order.size(); ++d) order[d] = static_cast<int>(d);
      const SpmView view = load_box(context_, arena, id, box, temporary_dtype(context_, id), order);
      resident_.emplace(id, std::make_pair(box, view));
    }
  }
}

SpmView Tail::operand(Arena &arena, TensorId id, const Box &box, const std::vector<int> &order) {
  const auto live = live_.find(id);
  if (live != live_.end()) return live->second.view;
  const Box part = operand_box(context_.graph[id].shape, box);
  const auto resident = resident_.find(id);
  if (resident != resident_.end()) {
    return broadcast(sub_view(resident->second.second, resident->second.first, part), box.size);
  }
  // The tile's nesting without the dimensions that the operand lacks.
  const int missing = static_cast<int>(box.size.size() - part.size.size());
  std::vector<int> nesting;
  for (int d : order) {
    if (d >= missing) nesting.push_back(d - missing);
  }
  const SpmView view = broadcast(load_box(context_, arena, id, part, std::nullopt, nesting), box.size);
  live_[id] = {view, false};
  return view;
}

SpmView Tail::place_result(Arena &arena, std::size_t index, const Box &box, const std::vector<int> &order) {
  const Step &step = group_.steps[index];
  if (is_output(step.result)) return output_buffer(arena, step.result, box);
  const Dtype dtype = temporary_dtype(context_, step.result);
  std::vector<SpmView> &spare = free_[dtype];
  if (!spare.empty()) {
    const SpmView view = spare.back();
    spare.pop_back();
    return view;
  }
  return allocate(arena, dtype, box.size, order);
}

void Tail::emit(const Step &step, const SpmView &dst, const Operands &operands) {
  Emitter &emitter = context_.emitter;
  switch (step.kind) {
    case StepKind::unary:
      emitter.unary(step.unary, dst, *operands.a, step.imm0, step.imm1);
      break;
    case StepKind::binary:
      if (operands.b) {
        emitter.binary(step.binary, dst, *operands.a, *operands.b, step.act);
      } else {
        emitter.binary_scalar(step.binary, dst, *operands.a, step.imm0, step.swap, step.act);
      }
      break;
    case StepKind::select:
      emitter.select(dst, *operands.cond, operands.a, operands.b, step.imm0, step.imm1);
  }
}

void Tail::run(Arena &arena, const Box &box, const std::optional<SpmView> &result, const std::vector<int> &order) {
  live_.clear();
  free_.clear();
  if (result) {
    live_[group_.anchor_result] = {*result, !is_output(group_.anchor_result)};
    if (is_output(group_.anchor_result)) {
      const SpmView stored = converted(context_, arena, *result, result_dtype(group_.anchor_result));
      context_.emitter.store(context_.layout.view(group_.anchor_result, box), stored);
    }
  }
  for (std::size_t s = 0; s < group_.steps.size(); ++s) {
    const Step &step = group_.steps[s];
    Operands operands;
    if (step.a != kNoTensor) operands.a = operand(arena, step.a, box, order);
    if (step.b != kNoTensor) operands.b = operand(arena, step.b, box, order);
    if (step.cond != kNoTensor) operands.cond = operand(arena, step.cond, box, order);
    if (step.kind == StepKind::select) {
      // Selection copies bits: both sides come in the type of the result.
      const Dtype dtype = result_dtype(step.result);
      for (std::optional<SpmView> *side : {&operands.a, &operands.b}) {
        if (*side) *side = converted(context_, arena, **side, dtype);
      }
    }
    // Operands that die here leave their buffer to the result: the units read an element before they write it.
    for (TensorId id : {step.a, step.b, step.cond}) {
      const auto live = live_.find(id);
      if (live == live_.end() || !live->second.temporary || used_after(id, s)) continue;
      free_[live->second.view.dtype].push_back(live->second.view);
      live_.erase(live);
    }
    const SpmView dst = place_result(arena, s, box, order);
    emit(step, dst, operands);
    live_[step.result] = {dst, !is_output(step.result)};
    if (is_output(step.result)) context_.emitter.store(context_.layout.view(step.result, box), dst);
  }
}

}  // namespace cx::compiler::backend
