#include "hw/dma/dma.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>

#include "hw/ras/memory_errors.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {

namespace {

// What memory transfers at least.
constexpr std::uint64_t kBurstBytes = 64;
// Bursts that the engine keeps: later runs that fall into one of them do not transfer it again.
constexpr std::uint64_t kKeptBursts = 64;
// Largest transfer of one instruction.
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 32;
// Indices of one gather, where the scratchpad is not larger.
constexpr std::uint64_t kMaxIndices = std::uint64_t{1} << 24;

// Bytes that memory transfers for a strided view that starts at `address`.
std::uint64_t bytes_on_memory(std::uint64_t address, const Dims &dims, const Strides &strides,
                              std::uint32_t element_bytes) {
  const RunNest nest(dims, strides, strides, element_bytes);
  if (nest.depth == 0) return nest.run_bytes;
  // The view is `pieces` pieces of dense or nearly dense bytes. All are taken to be aligned like the first.
  std::uint64_t pieces = 1;
  std::uint64_t piece_bytes = address % kBurstBytes + nest.run_bytes;
  for (unsigned i = 0; i < nest.depth; ++i) {
    const RunNest::Loop &loop = nest.loops[i];
    const auto step = static_cast<std::uint64_t>(std::abs(loop.src));
    if (step < kBurstBytes && pieces <= kKeptBursts) {
      piece_bytes += (loop.count - 1) * step;
    } else {
      pieces *= loop.count;
    }
  }
  return pieces * ((piece_bytes + kBurstBytes - 1) / kBurstBytes * kBurstBytes);
}

bool overlap(const std::byte *a, std::uint64_t a_bytes, const std::byte *b, std::uint64_t b_bytes) {
  const std::less<const std::byte *> less;
  return less(a, b + b_bytes) && less(b, a + a_bytes);
}

// Row-major, one element after the other: for views of which elements share bytes.
template <class Element>
void for_each_element(const Dims &dims, Element element) {
  for (std::uint32_t i = 0; i < dims[0]; ++i) {
    for (std::uint32_t j = 0; j < dims[1]; ++j) {
      for (std::uint32_t k = 0; k < dims[2]; ++k) {
        for (std::uint32_t l = 0; l < dims[3]; ++l) element(i, j, k, l);
      }
    }
  }
}

std::int64_t offset_of(const Strides &strides, std::int64_t i, std::int64_t j, std::int64_t k, std::int64_t l) {
  return i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3];
}

void copy_in_order(std::byte *dst, const Strides &dst_strides, const std::byte *src, const Strides &src_strides,
                   const Dims &dims, std::uint32_t element_bytes) {
  for_each_element(dims, [&](std::uint32_t i, std::uint32_t j, std::uint32_t k, std::uint32_t l) {
    std::memmove(dst + offset_of(dst_strides, i, j, k, l), src + offset_of(src_strides, i, j, k, l), element_bytes);
  });
}

// Whether an element of a strided view holds the byte at `byte`; both are offsets from element 0.
bool touches(const Dims &dims, const Strides &strides, std::uint32_t element_bytes, std::int64_t byte, unsigned d = 0) {
  if (d == 4) return byte >= 0 && byte < element_bytes;
  // Of the dimensions further in.
  std::int64_t low = 0, high = element_bytes;
  for (unsigned i = d + 1; i < 4; ++i) {
    const std::int64_t reach = (std::int64_t{dims[i]} - 1) * strides[i];
    (reach < 0 ? low : high) += reach;
  }
  const std::int64_t step = strides[d];
  if (step == 0) return touches(dims, strides, element_bytes, byte, d + 1);
  // Indices for which byte - index * step lies in [low, high).
  const std::int64_t size = std::abs(step);
  const std::int64_t from = step > 0 ? byte - high + 1 : low - byte;
  const std::int64_t to = step > 0 ? byte - low : high - 1 - byte;
  const std::int64_t first = from > 0 ? (from + size - 1) / size : 0;
  if (to < 0) return false;
  const std::int64_t last = std::min<std::int64_t>(to / size, std::int64_t{dims[d]} - 1);
  for (std::int64_t i = first; i <= last; ++i) {
    if (touches(dims, strides, element_bytes, byte - i * step, d + 1)) return true;
  }
  return false;
}

void require_moderate(const TensorView &view, unsigned index) {
  if (view.elements() > kMaxElements) throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, index);
}

// Checked before the base connects itself to the chip.
isa::Engine checked(isa::Engine id, const DmaParams &params) {
  if (id != isa::Engine::LOAD && id != isa::Engine::STORE) {
    throw std::invalid_argument("dma: the engine is load or store");
  }
  if (!(params.element_cycles >= 0 && params.element_cycles <= 1e6)) {
    throw std::invalid_argument("dma: element_cycles out of range");
  }
  BandwidthServer{params.bytes_per_cycle};
  return id;
}

}  // namespace

DmaEngine::DmaEngine(sc_core::sc_module_name name, isa::Engine id, const EngineContext &context,
                     const DmaParams &params)
    : Engine(name, checked(id, params), context), params_(params), datapath_(params.bytes_per_cycle) {}

Timing DmaEngine::execute(const isa::Inst &inst) {
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::DMA_LOAD:
      return load(isa::DmaLoad::decode(inst));
    case isa::Opcode::DMA_STORE:
      return store(isa::DmaStore::decode(inst));
    case isa::Opcode::DMA_GATHER:
      return gather(isa::DmaGather::decode(inst));
    default:
      throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, 0);
  }
}

// Checks the view against its segment; throws SEGMENT_FAULT with the address before anything moves.
DmaEngine::MemorySide DmaEngine::memory_side(const MemoryView &view, const Dims &dims, std::uint32_t element_bytes) {
  const Segment &record = segment(view.segment);
  if (view.offset > record.bytes) throw UnitFault(CX_STATUS_SEGMENT_FAULT, record.base + view.offset);
  std::uint64_t below = 0;
  std::uint64_t above = element_bytes;
  for (unsigned d = 0; d < 4; ++d) {
    const auto step = static_cast<std::uint64_t>(std::abs(std::int64_t{view.strides[d]}));
    (view.strides[d] < 0 ? below : above) += (std::uint64_t{dims[d]} - 1) * step;
  }
  if (below > view.offset) throw UnitFault(CX_STATUS_SEGMENT_FAULT, record.base + view.offset - below);
  if (above > record.bytes - view.offset) {
    const std::uint64_t first = std::max(record.bytes, view.offset - below);
    throw UnitFault(CX_STATUS_SEGMENT_FAULT, record.base + first);
  }
  MemorySide side{};
  side.address = record.base + view.offset - below;
  side.span = below + above;
  side.element0 = device_memory(side.address, side.span) + below;
  side.below = below;
  side.moved = bytes_on_memory(side.address, dims, view.strides, element_bytes);
  return side;
}

void DmaEngine::read_words(const MemorySide &side, const Dims &dims, const Strides &strides,
                           std::uint32_t element_bytes) {
  MemoryErrors *errors = memory_errors();
  if (errors == nullptr) return;
  const std::uint64_t end = side.address + side.span, element0 = side.address + side.below;
  for (auto word = errors->next(side.address, end); word; word = errors->next(*word + MemoryErrors::kWordBytes, end)) {
    bool met = false;
    for (std::uint64_t byte = *word; byte < *word + MemoryErrors::kWordBytes && !met; ++byte) {
      met = touches(dims, strides, element_bytes, static_cast<std::int64_t>(byte - element0));
    }
    if (met && !errors->read_word(*word)) throw UnitFault(CX_STATUS_ECC_UNCORRECTED, *word);
  }
}

void DmaEngine::write_words(const MemorySide &side, const Dims &dims, const Strides &strides,
                            std::uint32_t element_bytes) {
  MemoryErrors *errors = memory_errors();
  if (errors == nullptr) return;
  const std::uint64_t end = side.address + side.span, element0 = side.address + side.below;
  for (auto word = errors->next(side.address, end); word; word = errors->next(*word + MemoryErrors::kWordBytes, end)) {
    unsigned bytes = 0;
    for (std::uint64_t byte = *word; byte < *word + MemoryErrors::kWordBytes; ++byte) {
      if (touches(dims, strides, element_bytes, static_cast<std::int64_t>(byte - element0))) ++bytes;
    }
    if (bytes != 0) errors->write_word(*word, bytes == MemoryErrors::kWordBytes);
  }
}

// The rule is in README.md.
Timing DmaEngine::price(Cycles begin, std::uint64_t runs, std::uint64_t scratchpad_bytes, const MemorySide *memory,
                        bool to_memory) {
  const auto generation = static_cast<Cycles>(std::ceil(static_cast<double>(runs) * params_.element_cycles));
  const Cycles datapath = BandwidthServer::ceil(datapath_.duration_fine(scratchpad_bytes));
  const Cycles spm_end = reserve_spm(begin, scratchpad_bytes, !to_memory) - spm_latency();
  const Cycles work_end = std::max({begin + std::max(generation, datapath), spm_end});
  Cycles accept = work_end;
  Cycles complete = work_end + spm_latency();
  limited_by(spm_end >= work_end && spm_end > begin + std::max(generation, datapath) ? Limit::scratchpad
                                                                                     : Limit::engine);
  if (memory) {
    // A store's data reach the NoC after the scratchpad's latency.
    const Cycles memory_begin = to_memory ? begin + spm_latency() : begin;
    const Cycles memory_end = reserve_memory(memory_begin, memory->address, memory->span, memory->moved, to_memory);
    const Cycles latency = memory_latency(memory->address, to_memory);
    const Cycles tail = to_memory ? spm_latency() + latency : latency + spm_latency();
    accept = std::max(accept, memory_end - std::min(memory_end - memory_begin, latency));
    const Cycles moved = to_memory ? memory_end : memory_end + spm_latency();
    if (moved >= work_end + tail) limited_by(memory_limit());
    complete = std::max(work_end + tail, moved);
  }
  return {accept - now_cycles(), complete - now_cycles()};
}

Timing DmaEngine::load(const isa::DmaLoad &inst) {
  const TensorView &dst = tensor(inst.dst);
  const MemoryView &view = use_memory_view(inst.src);
  require_moderate(dst, inst.dst);

  Dims inner = dst.dims;
  const auto trim = [](std::uint32_t dim, std::uint32_t before, std::uint32_t after) {
    return dim > before + after ? dim - before - after : 0;
  };
  inner[1] = trim(dst.dims[1], inst.pad_top, inst.pad_bottom);
  inner[2] = trim(dst.dims[2], inst.pad_left, inst.pad_right);
  const bool has_source = inner[1] != 0 && inner[2] != 0;
  const bool padded = inner != dst.dims;

  MemorySide memory{};
  if (has_source) {
    memory = memory_side(view, inner, dst.element_bytes);
    read_words(memory, inner, view.strides, dst.element_bytes);
  }

  std::byte *base = spm() + dst.base;
  const std::int64_t inner_offset =
      std::int64_t{inst.pad_top} * dst.strides[1] + std::int64_t{inst.pad_left} * dst.strides[2];
  const Extent extent = extent_of(dst.base, dst.dims, dst.strides, dst.element_bytes);
  const bool simple =
      surely_disjoint(dst.dims, dst.strides, dst.element_bytes) &&
      !(has_source && overlap(spm() + extent.first, static_cast<std::uint64_t>(extent.end - extent.first),
                              device_memory(memory.address, memory.span), memory.span));
  std::uint64_t runs = 0;
  if (simple) {
    const auto fill_box = [&](std::uint32_t row, std::uint32_t rows, std::uint32_t column, std::uint32_t columns) {
      if (rows == 0 || columns == 0) return;
      const Dims box{dst.dims[0], rows, columns, dst.dims[3]};
      if (!timing_only())
        fill_strided(base + offset_of(dst.strides, 0, row, column, 0), dst.strides, box, dst.element_bytes, inst.fill);
      runs += RunNest(box, dst.strides, dst.strides, dst.element_bytes).runs();
    };
    if (!has_source) {
      fill_box(0, dst.dims[1], 0, dst.dims[2]);
    } else {
      if (padded) {
        fill_box(0, inst.pad_top, 0, dst.dims[2]);
        fill_box(dst.dims[1] - inst.pad_bottom, inst.pad_bottom, 0, dst.dims[2]);
        fill_box(inst.pad_top, inner[1], 0, inst.pad_left);
        fill_box(inst.pad_top, inner[1], dst.dims[2] - inst.pad_right, inst.pad_right);
      }
      if (!timing_only()) {
        copy_strided(base + inner_offset, dst.strides, memory.element0, view.strides, inner, dst.element_bytes);
      }
      runs += RunNest(inner, dst.strides, view.strides, dst.element_bytes).runs();
    }
  } else {
    const std::uint64_t fill = inst.fill;
    const auto move = [&] {
      for_each_element(dst.dims, [&](std::uint32_t i, std::uint32_t j, std::uint32_t k, std::uint32_t l) {
        std::byte *to = base + offset_of(dst.strides, i, j, k, l);
        const std::uint32_t row = j - inst.pad_top;  // wraps to a large number in the padding
        const std::uint32_t column = k - inst.pad_left;
        if (row < inner[1] && column < inner[2]) {
          std::memmove(to, memory.element0 + offset_of(view.strides, i, row, column, l), dst.element_bytes);
        } else {
          std::memcpy(to, &fill, dst.element_bytes);
        }
      });
    };
    if (!timing_only()) move();
    runs = dst.elements();
  }

  count_operations(dst.elements());
  if (has_source) {
    count_read(std::uint64_t{inner[0]} * inner[1] * inner[2] * inner[3] * dst.element_bytes);
  }
  count_written(dst.total_bytes());
  return price(now_cycles() + params_.setup_cycles, runs, dst.total_bytes(), has_source ? &memory : nullptr, false);
}

Timing DmaEngine::store(const isa::DmaStore &inst) {
  const TensorView &src = tensor(inst.src);
  const MemoryView &view = use_memory_view(inst.dst);
  require_moderate(src, inst.src);
  const MemorySide memory = memory_side(view, src.dims, src.element_bytes);
  write_words(memory, src.dims, view.strides, src.element_bytes);

  const std::byte *base = spm() + src.base;
  const Extent extent = extent_of(src.base, src.dims, src.strides, src.element_bytes);
  std::uint64_t runs = 0;
  if (surely_disjoint(src.dims, view.strides, src.element_bytes) &&
      !overlap(spm() + extent.first, static_cast<std::uint64_t>(extent.end - extent.first),
               device_memory(memory.address, memory.span), memory.span)) {
    if (!timing_only()) {
      copy_strided(memory.element0, view.strides, base, src.strides, src.dims, src.element_bytes);
    }
    runs = RunNest(src.dims, view.strides, src.strides, src.element_bytes).runs();
  } else {
    if (!timing_only()) {
      copy_in_order(memory.element0, view.strides, base, src.strides, src.dims, src.element_bytes);
    }
    runs = src.elements();
  }

  count_operations(src.elements());
  count_read(src.total_bytes());
  count_written(src.total_bytes());
  return price(now_cycles() + params_.setup_cycles, runs, src.total_bytes(), &memory, true);
}

// Fills offsets_ with one offset for each index over `dims`, row-major, dimensions with stride 0 once.
void DmaEngine::resolve_indices(const TensorView &idx, const Dims &dims, std::int64_t limit, std::int64_t stride) {
  offsets_.clear();
  for_each_element(dims, [&](std::uint32_t i, std::uint32_t j, std::uint32_t k, std::uint32_t l) {
    const std::byte *at = spm() + idx.base + offset_of(idx.strides, i, j, k, l);
    std::int64_t index = 0;
    if (idx.dtype == isa::DType::INT32) {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, at, sizeof narrow);
      index = narrow;
    } else {
      std::memcpy(&index, at, sizeof index);
    }
    if (index < -limit || index >= limit) throw UnitFault(CX_STATUS_INDEX_RANGE, static_cast<std::uint64_t>(index));
    offsets_.push_back((index < 0 ? index + limit : index) * stride);
  });
}

Timing DmaEngine::gather(const isa::DmaGather &inst) {
  const TensorView &dst = tensor(inst.dst);
  const MemoryView &view = use_memory_view(inst.src);
  const TensorView &idx = tensor_unchecked(inst.idx);
  require_moderate(dst, inst.dst);
  if (idx.dtype != isa::DType::INT32 && idx.dtype != isa::DType::INT64) {
    throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, inst.idx);
  }
  Dims indices = dst.dims;  // distinct ones
  for (unsigned d = 0; d < 4; ++d) {
    if (idx.dims[d] != dst.dims[d] && idx.strides[d] != 0) throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, inst.idx);
    if (idx.strides[d] == 0) indices[d] = 1;
  }
  const std::uint64_t index_count = std::uint64_t{indices[0]} * indices[1] * indices[2] * indices[3];
  if (index_count > std::max<std::uint64_t>(kMaxIndices, spm_bytes())) {
    throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, inst.idx);
  }
  require_spm(extent_of(idx.base, indices, idx.strides, idx.element_bytes));
  Dims reach = dst.dims;
  reach[inst.axis] = inst.limit;
  MemorySide memory = memory_side(view, reach, dst.element_bytes);
  if (timing_only()) {
    offsets_.assign(static_cast<std::size_t>(index_count), 0);
  } else {
    resolve_indices(idx, indices, inst.limit, view.strides[inst.axis]);
  }

  // Everything but the indexed dimension lies as the descriptor says.
  Strides src = view.strides;
  src[inst.axis] = 0;
  Strides table{};  // entries of offsets_
  std::int32_t step = 1;
  for (int d = 3; d >= 0; --d) {
    table[d] = indices[d] == 1 ? 0 : step;
    step *= static_cast<std::int32_t>(indices[d]);
  }
  // The innermost dimensions that share an index move together.
  Dims inner{1, 1, 1, 1};
  Dims outer = dst.dims;
  const Extent extent = extent_of(dst.base, dst.dims, dst.strides, dst.element_bytes);
  const bool simple = surely_disjoint(dst.dims, dst.strides, dst.element_bytes) &&
                      !overlap(spm() + extent.first, static_cast<std::uint64_t>(extent.end - extent.first),
                               device_memory(memory.address, memory.span), memory.span);
  for (int d = 3; simple && d >= 0 && indices[d] == 1; --d) std::swap(inner[d], outer[d]);
  const RunNest nest(inner, dst.strides, src, dst.element_bytes);
  if (memory_errors() != nullptr) {
    for_each_element(outer, [&](std::uint32_t i, std::uint32_t j, std::uint32_t k, std::uint32_t l) {
      MemorySide part = memory;
      part.below += static_cast<std::uint64_t>(offset_of(src, i, j, k, l) +
                                               offsets_[static_cast<std::size_t>(offset_of(table, i, j, k, l))]);
      read_words(part, inner, src, dst.element_bytes);
    });
  }
  const auto move = [&](std::uint32_t i, std::uint32_t j, std::uint32_t k, std::uint32_t l) {
    std::byte *to = spm() + dst.base + offset_of(dst.strides, i, j, k, l);
    const std::byte *from =
        memory.element0 + offset_of(src, i, j, k, l) + offsets_[static_cast<std::size_t>(offset_of(table, i, j, k, l))];
    if (nest.depth == 0) {
      std::memmove(to, from, nest.run_bytes);
    } else {
      copy_strided(to, dst.strides, from, src, inner, dst.element_bytes);
    }
  };
  if (!timing_only()) for_each_element(outer, move);

  const std::uint64_t runs = std::uint64_t{outer[0]} * outer[1] * outer[2] * outer[3] * nest.runs();
  const std::uint64_t first = segment(view.segment).base + view.offset;
  memory.moved = runs * ((first % kBurstBytes + nest.run_bytes + kBurstBytes - 1) / kBurstBytes * kBurstBytes);
  const std::uint64_t index_bytes = index_count * idx.element_bytes;
  count_operations(dst.elements());
  count_read(dst.total_bytes() + index_bytes);
  count_written(dst.total_bytes());
  const Cycles begin = reserve_spm(now_cycles() + params_.setup_cycles, index_bytes, false);
  return price(begin, runs, dst.total_bytes(), &memory, false);
}

}  // namespace cx::hw
