#include "hw/dmmu/dmmu.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "hw/regs/gen/packets.h"

namespace cx::hw {
namespace {

constexpr uint8_t kNone = 0xFF;

// Byte offsets of the instructions' fields, for fault records.
constexpr unsigned kLdwW = 2, kLdwSplit = 4;
constexpr unsigned kMulA = 2, kMulSplit = 4, kMulN = 6, kMulAccRow = 8;
constexpr unsigned kDrainDst = 2, kDrainScale = 3, kDrainBias = 4, kDrainSplit = 6, kDrainAccRow = 8;

[[noreturn]] void illegal(unsigned at) { throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, at); }

num::DType dtype_of(isa::DType dtype) { return static_cast<num::DType>(dtype); }

/// Rows of a view: all dimensions but the innermost.
uint64_t rows_of_view(const TensorView &view) { return uint64_t{view.dims[0]} * view.dims[1] * view.dims[2]; }

uint64_t rows_per_tile(uint64_t rows, unsigned m_split) { return (rows + m_split - 1) / m_split; }

uint64_t until(Cycles from, Cycles to) { return to > from ? to - from : 0; }

/// Calls f(row, offset from the view's base in bytes) for every row in row-major order.
template <typename F>
void for_each_row(const TensorView &view, F f) {
  uint64_t row = 0;
  for (uint32_t i = 0; i < view.dims[0]; ++i) {
    for (uint32_t j = 0; j < view.dims[1]; ++j) {
      int64_t offset = int64_t{i} * view.strides[0] + int64_t{j} * view.strides[1];
      for (uint32_t l = 0; l < view.dims[2]; ++l, offset += view.strides[2]) f(row++, offset);
    }
  }
}

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

/// Scale, bias and activation, each rounded once. NaN leaves as the canonical one, whatever the host made of it.
void finish_values(float *values, uint32_t n, const float *scale, const float *bias, const isa::MmDrain &in) {
  if (scale != nullptr) {
    for (uint32_t c = 0; c < n; ++c) values[c] *= scale[c];
  }
  if (bias != nullptr) {
    for (uint32_t c = 0; c < n; ++c) values[c] += bias[c];
  }
  if (in.act == isa::Activation::RELU) {
    for (uint32_t c = 0; c < n; ++c) values[c] = values[c] <= 0 ? 0.0f : values[c];
  } else if (in.act == isa::Activation::CLAMP) {
    for (uint32_t c = 0; c < n; ++c) {
      const float raised = values[c] < in.lo ? in.lo : values[c];
      values[c] = raised > in.hi ? in.hi : raised;
    }
  }
  const float nan = std::bit_cast<float>(num::kCanonicalNan);
  for (uint32_t c = 0; c < n; ++c) values[c] = values[c] == values[c] ? values[c] : nan;
}

}  // namespace

/// A tile with what the unit knows of its contents.
struct Dmmu::Tile {
  struct Weights {
    isa::DType dtype = isa::DType::FP32;
    uint32_t k = 0;  // 0: none
    uint32_t n = 0;  // columns of the whole group
    uint32_t n_split = 0;
  };
  enum class RowKind : uint8_t { kEmpty, kFloat, kInteger };
  struct Row {
    RowKind kind = RowKind::kEmpty;
    uint8_t columns = 0;
  };

  Tile(const TileShape &shape, bool rtl) : mac(make_tile(shape, rtl)), schedule(shape), rows(shape.acc_rows) {}

  std::unique_ptr<MacTile> mac;
  TileSchedule schedule;
  Weights active;
  Weights shadow;
  std::vector<Row> rows;
};

/// What one tile gets of a split dimension.
struct Dmmu::Share {
  uint64_t first = 0;
  uint32_t count = 0;
};

struct Dmmu::Matrix {
  TileOperand operand;

  /// Rows [row.first, + row.count) and columns [column.first, + column.count).
  TileOperand part(const Share &row, const Share &column) const {
    TileOperand result = operand;
    result.rows = row.count;
    result.cols = column.count;
    const auto skip = static_cast<ptrdiff_t>(column.first * num::bytes_of(operand.dtype));
    result.raw += static_cast<ptrdiff_t>(row.first) * operand.raw_stride + skip;
    if (operand.wide != nullptr) result.wide += row.first * operand.wide_stride + column.first;
    if (operand.wide16 != nullptr) result.wide16 += row.first * operand.wide16_stride + column.first;
    return result;
  }
};

Dmmu::Dmmu(sc_core::sc_module_name name, const EngineContext &context, const config::Chip::DmmuSection &config)
    : Engine(name, isa::Engine::DMMU, context),
      shape_{config.tile.rows, config.tile.cols, config.tile.acc_rows},
      overlap_(config.overlap_folds),
      spm_bytes_per_cycle_(context.spm.params().bytes_per_cycle),
      spm_latency_(context.spm.params().latency_cycles) {
  if (config.tiles == 0) throw std::invalid_argument("dmmu.tiles: at least one");
  for (uint32_t tile : config.rtl_tiles.tiles) {
    if (tile >= config.tiles) throw std::invalid_argument("dmmu.rtl_tiles: there is no tile " + std::to_string(tile));
  }
  for (const std::string &format : config.formats) {
    const auto dtype = num::dtype_from_name(format);
    if (!dtype || !tile_multiplies(*dtype))
      throw std::invalid_argument("dmmu.formats: tiles do not multiply " + format);
    formats_ |= 1u << static_cast<unsigned>(*dtype);
  }
  for (uint32_t i = 0; i < config.tiles; ++i) {
    tiles_.push_back(std::make_unique<Tile>(shape_, config.rtl_tiles.contains(i)));
  }
}

Dmmu::~Dmmu() = default;

void Dmmu::reset_unit() {
  for (auto &tile : tiles_) {
    tile->mac->reset();
    tile->schedule.reset();
    tile->active = {};
    tile->shadow = {};
    std::fill(tile->rows.begin(), tile->rows.end(), Tile::Row{});
  }
}

Timing Dmmu::execute(const isa::Inst &inst) {
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::MM_LDW:
      return load_weights(isa::MmLdw::decode(inst));
    case isa::Opcode::MM_MUL:
      return multiply(isa::MmMul::decode(inst));
    case isa::Opcode::MM_DRAIN:
      return drain(isa::MmDrain::decode(inst));
    default:
      illegal(0);
  }
}

void Dmmu::check_group(unsigned m_split, unsigned n_split, unsigned at) const {
  if (m_split == 0 || n_split == 0 || m_split * n_split > tiles_.size()) illegal(at);
}

void Dmmu::check_format(isa::DType dtype, unsigned at) const {
  if ((formats_ >> static_cast<unsigned>(dtype) & 1) == 0) illegal(at);
}

Dmmu::Share Dmmu::rows_of(unsigned group, unsigned m_split, uint64_t rows) const {
  const uint64_t chunk = rows_per_tile(rows, m_split);
  const uint64_t first = std::min(rows, group * chunk);
  return {first, static_cast<uint32_t>(std::min(rows, first + chunk) - first)};
}

Dmmu::Share Dmmu::columns_of(unsigned group, uint64_t columns) const {
  const uint64_t first = std::min<uint64_t>(columns, uint64_t{group} * shape_.cols);
  return {first, static_cast<uint32_t>(std::min<uint64_t>(columns - first, shape_.cols))};
}

Cycles Dmmu::all_idle() const {
  Cycles idle = 0;
  for (const auto &tile : tiles_) idle = std::max<Cycles>(idle, tile->schedule.idle_from());
  return idle;
}

Cycles Dmmu::port_cycles(uint64_t bytes) const {
  return static_cast<Cycles>(std::ceil(static_cast<double>(bytes) / spm_bytes_per_cycle_));
}

Dmmu::Matrix Dmmu::gather(const TensorView &view) {
  const uint64_t rows = rows_of_view(view);
  const uint32_t columns = view.dims[3];
  const size_t bytes = view.element_bytes;
  const std::byte *base = spm() + view.base;
  Matrix matrix;
  matrix.operand.dtype = dtype_of(view.dtype);
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

void Dmmu::widen(Matrix &matrix) {
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

Timing Dmmu::load_weights(const isa::MmLdw &in) {
  check_group(in.m_split, in.n_split, kLdwSplit);
  const TensorView &view = tensor(in.w);
  check_format(view.dtype, kLdwW);
  const uint32_t k = view.dims[2];
  const uint32_t n = view.dims[3];
  if (view.dims[0] != 1 || view.dims[1] != 1) illegal(kLdwW);
  if (k > shape_.rows || n > in.n_split * shape_.cols) illegal(kLdwW);

  const Cycles now = now_cycles();
  Cycles start = overlap_ ? now : std::max(now, all_idle());
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    if (columns_of(t % in.n_split, n).count != 0) start = tiles_[t]->schedule.earliest_load(start);
  }
  const uint64_t bytes = uint64_t{k} * n * view.element_bytes;
  const Cycles read = reserve_spm(now, bytes, false);
  count_read(bytes);

  Matrix matrix = gather(view);
  if (num::is_float(matrix.operand.dtype)) widen(matrix);
  const uint64_t stream = std::max<uint64_t>(k, until(start, read));
  Cycles complete = start;
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    Tile &tile = *tiles_[t];
    const Share columns = columns_of(t % in.n_split, n);
    if (columns.count == 0) continue;
    tile.mac->load_weights(matrix.part({0, k}, columns));
    tile.shadow = {view.dtype, k, n, in.n_split};
    complete = std::max<Cycles>(complete, tile.schedule.load(start, stream));
  }
  return {start - now + 1, complete - now};
}

Timing Dmmu::multiply(const isa::MmMul &in) {
  check_group(in.m_split, in.n_split, kMulSplit);
  const TensorView &view = tensor(in.a);
  check_format(view.dtype, kMulA);
  const uint32_t k = view.dims[3];
  const uint32_t n = in.n;
  const uint64_t m = rows_of_view(view);
  if (k > shape_.rows) illegal(kMulA);
  if (n == 0 || n > in.n_split * shape_.cols) illegal(kMulN);
  if (in.acc_row + rows_per_tile(m, in.m_split) > shape_.acc_rows) illegal(kMulAccRow);

  // Every tile's part is checked before the first one changes.
  const auto kind = view.dtype == isa::DType::INT8 ? Tile::RowKind::kInteger : Tile::RowKind::kFloat;
  const Cycles now = now_cycles();
  Cycles start = overlap_ ? now : std::max(now, all_idle());
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    const Tile &tile = *tiles_[t];
    const Share rows = rows_of(t / in.n_split, in.m_split, m);
    const Share columns = columns_of(t % in.n_split, n);
    if (rows.count == 0 || columns.count == 0) continue;
    const Tile::Weights &weights = tile.shadow.k != 0 ? tile.shadow : tile.active;
    if (weights.k == 0 || weights.k != k || weights.dtype != view.dtype) illegal(kMulA);
    if (weights.n_split != in.n_split) illegal(kMulSplit);
    if (weights.n != n) illegal(kMulN);
    if (in.accumulate != 0) {
      for (uint32_t r = 0; r < rows.count; ++r) {
        const Tile::Row &row = tile.rows[in.acc_row + r];
        if (row.kind != kind || row.columns < columns.count) illegal(kMulAccRow);
      }
    }
    start = tile.schedule.earliest_mul(start);
  }
  const uint64_t bytes = m * k * view.element_bytes;
  const Cycles read = reserve_spm(now, bytes, false);
  count_read(bytes);
  count_operations(m * k * n);

  Matrix matrix = gather(view);
  widen(matrix);
  Cycles complete = start;
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    Tile &tile = *tiles_[t];
    const Share rows = rows_of(t / in.n_split, in.m_split, m);
    const Share columns = columns_of(t % in.n_split, n);
    if (rows.count == 0 || columns.count == 0) continue;
    if (tile.shadow.k != 0) tile.active = tile.shadow;
    tile.shadow = {};
    tile.mac->matmul(matrix.part(rows, {0, k}), columns.count, in.acc_row, in.accumulate != 0);
    for (uint32_t r = 0; r < rows.count; ++r) {
      Tile::Row &row = tile.rows[in.acc_row + r];
      if (in.accumulate == 0) row = {kind, static_cast<uint8_t>(columns.count)};
    }
    const uint64_t stream = std::max<uint64_t>(rows.count, until(start, read));
    complete = std::max<Cycles>(complete, tile.schedule.mul(start, stream, columns.count));
  }
  return {start - now + 1, complete - now};
}

const float *Dmmu::channel_values(unsigned index, uint32_t n, unsigned at, std::vector<float> &values) {
  if (index == kNone) return nullptr;
  const TensorView &view = tensor(index);
  if (view.dtype != isa::DType::FP32 || view.dims[3] != n || rows_of_view(view) != 1) illegal(at);
  values.resize(n);
  const std::byte *base = spm() + view.base;
  for (uint32_t c = 0; c < n; ++c) std::memcpy(&values[c], base + int64_t{c} * view.strides[3], sizeof(float));
  return values.data();
}

Timing Dmmu::drain(const isa::MmDrain &in) {
  check_group(in.m_split, in.n_split, kDrainSplit);
  const TensorView &view = tensor(in.dst);
  const uint32_t n = view.dims[3];
  const uint64_t m = rows_of_view(view);
  if (view.dtype == isa::DType::RAW64 || n > in.n_split * shape_.cols) illegal(kDrainDst);
  if (in.acc_row + rows_per_tile(m, in.m_split) > shape_.acc_rows) illegal(kDrainAccRow);
  const float *scale = channel_values(in.scale, n, kDrainScale, scale_);
  const float *bias = channel_values(in.bias, n, kDrainBias, bias_);

  const Cycles now = now_cycles();
  Cycles start = overlap_ ? now : std::max(now, all_idle());
  auto kind = Tile::RowKind::kEmpty;
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    const Tile &tile = *tiles_[t];
    const Share rows = rows_of(t / in.n_split, in.m_split, m);
    const Share columns = columns_of(t % in.n_split, n);
    if (rows.count == 0 || columns.count == 0) continue;
    for (uint32_t r = 0; r < rows.count; ++r) {
      const Tile::Row &row = tile.rows[in.acc_row + r];
      if (kind == Tile::RowKind::kEmpty) kind = row.kind;
      if (row.kind == Tile::RowKind::kEmpty || row.kind != kind || row.columns < columns.count) illegal(kDrainAccRow);
    }
    start = tile.schedule.earliest_drain(start);
  }
  const bool integer = kind == Tile::RowKind::kInteger;

  // Accumulator words of all tiles, as the m x n matrix that they are.
  words_.resize(m * n);
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    const Share rows = rows_of(t / in.n_split, in.m_split, m);
    const Share columns = columns_of(t % in.n_split, n);
    if (rows.count == 0 || columns.count == 0) continue;
    tiles_[t]->mac->drain(in.acc_row, rows.count, columns.count, &words_[rows.first * n + columns.first], n);
  }

  const bool copy = integer && view.dtype == isa::DType::INT32 && scale == nullptr && bias == nullptr &&
                    in.act == isa::Activation::NONE;
  values_.resize(n);
  std::byte *base = spm() + view.base;
  const size_t element = view.element_bytes;
  const bool dense = n == 1 || view.strides[3] == static_cast<int64_t>(element);
  std::vector<std::byte> &line = raw_;
  line.resize(n * element);
  for_each_row(view, [&](uint64_t row, int64_t offset) {
    const uint32_t *words = &words_[row * n];
    std::byte *to = dense ? base + offset : line.data();
    if (copy) {
      std::memcpy(to, words, n * sizeof(uint32_t));
    } else {
      if (integer) {
        num::widen(num::DType::INT32, words, values_.data(), n);
      } else {
        std::memcpy(values_.data(), words, n * sizeof(float));
      }
      finish_values(values_.data(), n, scale, bias, in);
      num::narrow(dtype_of(view.dtype), values_.data(), to, n);
    }
    if (dense) return;
    for (uint32_t c = 0; c < n; ++c) {
      std::memcpy(base + offset + int64_t{c} * view.strides[3], to + c * element, element);
    }
  });

  const uint64_t channel_bytes = uint64_t{n} * sizeof(float) * ((scale != nullptr) + (bias != nullptr));
  const uint64_t bytes = m * n * element;
  if (channel_bytes != 0) reserve_spm(now, channel_bytes, false);
  count_read(channel_bytes);
  count_written(bytes);
  // The first row is out two cycles after the command. The write is booked at the issue, not at its start, which may be
  // a whole pass later: a booking in the future would hold up everybody else's earlier accesses.
  const Cycles first_row = start + 2;
  const Cycles written = std::max<Cycles>(reserve_spm(now, bytes, true), first_row + port_cycles(bytes) + spm_latency_);
  Cycles complete = written;
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    const Share rows = rows_of(t / in.n_split, in.m_split, m);
    if (rows.count == 0 || columns_of(t % in.n_split, n).count == 0) continue;
    const uint64_t stream = std::max<uint64_t>(rows.count, written - spm_latency_ - first_row);
    complete = std::max<Cycles>(complete, tiles_[t]->schedule.drain(start, stream));
  }
  return {start - now + 1, complete - now};
}

}  // namespace cx::hw
