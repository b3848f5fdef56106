#include "hw/dmmu/tile_engine.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "hw/regs/gen/packets.h"

namespace cx::hw {
namespace {

/// The one stride between consecutive rows, if there is one.
bool single_row_stride(const TensorView &view, int64_t &stride) {
  int64_t step = 0;
  uint64_t span = 1;
  for (int d = 2; d >= 0; --d) {
    if (view.dims[d] == 1) continue;
    if (span == 1) {
      step = view.strides[d];
    } else if (view.strides[d] != step * static_cast<int64_t>(span)) {
      return false;
    }
    span *= view.dims[d];
  }
  stride = step;
  return true;
}

}  // namespace

void illegal_field(unsigned at) { throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, at); }

TileEngine::TileEngine(sc_core::sc_module_name name, isa::Engine id, const EngineContext &context)
    : Engine(name, id, context), spm_bytes_per_cycle_(context.spm.params().bytes_per_cycle) {}

TileOperand TileEngine::Matrix::part(const Share &row, const Share &column) const {
  TileOperand result = operand;
  result.rows = row.count;
  result.cols = column.count;
  const auto skip = static_cast<ptrdiff_t>(column.first * num::bytes_of(operand.dtype));
  result.raw += static_cast<ptrdiff_t>(row.first) * operand.raw_stride + skip;
  if (operand.wide != nullptr) result.wide += row.first * operand.wide_stride + column.first;
  if (operand.wide16 != nullptr) result.wide16 += row.first * operand.wide16_stride + column.first;
  return result;
}

TileEngine::Share TileEngine::rows_of(unsigned group, unsigned m_split, uint64_t rows) {
  const uint64_t chunk = rows_per_tile(rows, m_split);
  const uint64_t first = std::min(rows, group * chunk);
  return {first, static_cast<uint32_t>(std::min(rows, first + chunk) - first)};
}

const TensorView &TileEngine::operand(unsigned index) const {
  const TensorView &view = tensor(index);
  bool aligned = view.base % view.element_bytes == 0;
  for (unsigned d = 0; d < 4; ++d) {
    if (view.dims[d] > 1 && view.strides[d] % static_cast<int32_t>(view.element_bytes) != 0) aligned = false;
  }
  if (!aligned) throw UnitFault(CX_STATUS_BAD_ALIGNMENT, view.base);
  return view;
}

const TensorView &TileEngine::channels(unsigned index, uint64_t n, unsigned at) const {
  const TensorView &view = operand(index);
  if (view.dtype != isa::DType::FP32 || view.dims[3] != n || rows_of_view(view) != 1) illegal_field(at);
  return view;
}

const float *TileEngine::channel_values(unsigned index, uint32_t n, unsigned at, std::vector<float> &values) {
  if (index == kNoOperand) return nullptr;
  const TensorView &view = channels(index, n, at);
  values.resize(n);
  const std::byte *base = spm() + view.base;
  for (uint32_t c = 0; c < n; ++c) std::memcpy(&values[c], base + int64_t{c} * view.strides[3], sizeof(float));
  return values.data();
}

Cycles TileEngine::drain_parameters_written(unsigned scale, unsigned scale_at, unsigned bias, unsigned bias_at,
                                            uint32_t n, Cycles now) {
  Cycles written = now;
  if (scale != kNoOperand) written = after_drains(channels(scale, n, scale_at), written);
  if (bias != kNoOperand) written = after_drains(channels(bias, n, bias_at), written);
  return written;
}

num::DrainStage TileEngine::stage_of(num::DrainStage stage, const Share &columns) {
  if (stage.scale != nullptr) stage.scale += columns.first;
  if (stage.bias != nullptr) stage.bias += columns.first;
  return stage;
}

std::vector<std::byte *> TileEngine::row_addresses(const TensorView &view) {
  std::vector<std::byte *> rows(rows_of_view(view));
  for_each_row(view, [&](uint64_t row, int64_t offset) { rows[row] = spm() + view.base + offset; });
  return rows;
}

TileTarget TileEngine::target_of(const std::vector<std::byte *> &rows_at, int64_t stride, const Share &rows,
                                 const Share &columns) {
  TileTarget target;
  target.stride = stride;
  const auto first = rows_at.begin() + static_cast<ptrdiff_t>(rows.first);
  target.rows.assign(first, first + rows.count);
  for (std::byte *&to : target.rows) to += static_cast<ptrdiff_t>(columns.first) * target.stride;
  return target;
}

Cycles TileEngine::after_drains(const TensorView &view, Cycles from) {
  return after_drains(extent_of(view.base, view.dims, view.strides, view.element_bytes), from);
}

Cycles TileEngine::after_drains(const Extent &extent, Cycles from) {
  Cycles start = from;
  for (const PendingDrain &drain : drains_) {
    if (drain.extent.first >= extent.end || extent.first >= drain.extent.end) continue;
    start = std::max(start, drain.complete);
    overlaps_drain_ = true;
  }
  return start;
}

void TileEngine::settle_drains(Cycles start) {
  // Commands that come later start later, so the tiles may run up to here.
  if (overlaps_drain_) run_tiles(start);
  overlaps_drain_ = false;
}

void TileEngine::add_drain(const TensorView &view, Cycles complete) {
  drains_.push_back({extent_of(view.base, view.dims, view.strides, view.element_bytes), complete});
}

void TileEngine::forget_drains(Cycles until) {
  std::erase_if(drains_, [until](const PendingDrain &drain) { return drain.complete <= until; });
}

Cycles TileEngine::read_operands(Cycles now, Cycles written, uint64_t bytes) {
  const Cycles booked = reserve_spm(now, bytes, false);
  return written > now ? std::max(booked, written + port_cycles(bytes) + spm_latency()) : booked;
}

Cycles TileEngine::port_cycles(uint64_t bytes) const {
  return static_cast<Cycles>(std::ceil(static_cast<double>(bytes) / spm_bytes_per_cycle_));
}

void TileEngine::count_sums(bool integer, uint64_t sums, uint64_t words) {
  (integer ? activity_.integer_sums : activity_.float_sums) += sums;
  activity_.accumulator_words += words;
}

TileEngine::Matrix TileEngine::size_of(const TensorView &view) {
  Matrix matrix;
  matrix.operand.dtype = dtype_of(view.dtype);
  matrix.operand.rows = static_cast<uint32_t>(rows_of_view(view));
  matrix.operand.cols = view.dims[3];
  matrix.operand.raw = spm() + view.base;
  return matrix;
}

TileEngine::Matrix TileEngine::gather(const TensorView &view) {
  const uint64_t rows = rows_of_view(view);
  const uint32_t columns = view.dims[3];
  const size_t bytes = view.element_bytes;
  const std::byte *base = spm() + view.base;
  Matrix matrix;
  matrix.operand.dtype = static_cast<num::DType>(view.dtype);
  matrix.operand.rows = static_cast<uint32_t>(rows);
  matrix.operand.cols = columns;
  const bool dense_row = columns == 1 || view.strides[3] == static_cast<int64_t>(bytes);
  int64_t stride = 0;
  if (dense_row && single_row_stride(view, stride)) {
    matrix.operand.raw = base;
    matrix.operand.raw_stride = static_cast<ptrdiff_t>(stride);
    return matrix;
  }
  const size_t row_bytes = columns * bytes;
  raw_.resize(rows * row_bytes);
  for_each_row(view, [&](uint64_t row, int64_t offset) {
    std::byte *to = raw_.data() + row * row_bytes;
    const std::byte *from = base + offset;
    if (dense_row) {
      std::memcpy(to, from, row_bytes);
      return;
    }
    for (uint32_t c = 0; c < columns; ++c) std::memcpy(to + c * bytes, from + int64_t{c} * view.strides[3], bytes);
  });
  matrix.operand.raw = raw_.data();
  matrix.operand.raw_stride = static_cast<ptrdiff_t>(row_bytes);
  return matrix;
}

void TileEngine::widen(Matrix &matrix) {
  TileOperand &operand = matrix.operand;
  const size_t columns = operand.cols;
  if (operand.dtype == num::DType::INT8) {
    const size_t stride = (columns + 1) / 2 * 2;
    wide16_.resize(operand.rows * stride);
    for (uint32_t r = 0; r < operand.rows; ++r) {
      const auto *from = reinterpret_cast<const int8_t *>(operand.raw + r * operand.raw_stride);
      int16_t *to = &wide16_[r * stride];
      for (size_t c = 0; c < columns; ++c) to[c] = from[c];
      if (columns % 2 != 0) to[columns] = 0;
    }
    operand.wide16 = wide16_.data();
    operand.wide16_stride = stride;
    return;
  }
  const auto address = reinterpret_cast<uintptr_t>(operand.raw);
  if (operand.dtype == num::DType::FP32 && operand.raw_stride >= 0 &&
      (address | static_cast<uintptr_t>(operand.raw_stride)) % sizeof(float) == 0) {
    operand.wide = reinterpret_cast<const float *>(operand.raw);
    operand.wide_stride = static_cast<size_t>(operand.raw_stride) / sizeof(float);
    return;
  }
  wide_.resize(operand.rows * columns);
  if (operand.raw_stride == static_cast<ptrdiff_t>(columns * num::bytes_of(operand.dtype))) {
    num::widen(operand.dtype, operand.raw, wide_.data(), wide_.size());
  } else {
    for (uint32_t r = 0; r < operand.rows; ++r) {
      num::widen(operand.dtype, operand.raw + r * operand.raw_stride, &wide_[r * columns], columns);
    }
  }
  operand.wide = wide_.data();
  operand.wide_stride = columns;
}

}  // namespace cx::hw
