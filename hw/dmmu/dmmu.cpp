#include "hw/dmmu/dmmu.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "hw/common/num/mac.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {
namespace {

// Byte offsets of the instructions' fields, for fault records.
constexpr unsigned kLdwW = 2, kLdwScale = 3, kLdwSplit = 4;
constexpr unsigned kMulA = 2, kMulN = 6, kMulAccRow = 8, kMulScale = 10, kMulSplit = 12;
constexpr unsigned kOsA = 2, kOsW = 3, kOsAccRow = 8, kOsSplit = 12;
constexpr unsigned kDrainDst = 2, kDrainScale = 3, kDrainBias = 4, kDrainAccRow = 8, kDrainSplit = 20;

}  // namespace

/// A tile with what the unit knows of its contents.
struct Dmmu::Tile {
  struct Weights {
    isa::DType dtype = isa::DType::FP32;
    uint32_t k = 0;  // 0: none
    uint32_t n = 0;  // columns of the whole group
    uint32_t n_split = 0;
    bool scaled = false;
  };
  enum RowKind : uint8_t { kEmpty, kFloat, kInteger };
  struct Row {
    RowKind kind = RowKind::kEmpty;
    uint16_t columns = 0;
  };

  Tile(const TileShape &shape, bool rtl_) : mac(make_tile(shape, rtl_)), rtl(rtl_), rows(shape.acc_rows) {}

  const TileSchedule &schedule() const { return mac->schedule(); }

  std::unique_ptr<MacTile> mac;
  bool rtl;
  uint64_t parity_errors = 0;  // that were reported
  Weights active;
  Weights shadow;
  std::vector<Row> rows;
};

Dmmu::Dmmu(sc_core::sc_module_name name, const EngineContext &context, const config::Chip::DmmuSection &config)
    : TileEngine(name, isa::Engine::DMMU, context), shape_(tile_shape_of(config)), overlap_(config.overlap_folds) {
  if (config.tiles == 0) throw std::invalid_argument("dmmu.tiles: at least one");
  for (uint32_t tile : config.rtl_tiles.tiles) {
    if (tile >= config.tiles) throw std::invalid_argument("dmmu.rtl_tiles: there is no tile " + std::to_string(tile));
  }
  for (uint32_t i = 0; i < config.tiles; ++i) {
    tiles_.push_back(std::make_unique<Tile>(shape_, config.rtl_tiles.contains(i)));
    has_rtl_ = has_rtl_ || tiles_.back()->rtl;
  }
}

Dmmu::~Dmmu() = default;

TileShape Dmmu::tile_shape_of(const config::Chip::DmmuSection &config) {
  TileShape shape{config.tile.rows, config.tile.cols, config.tile.acc_rows, config.tile.pack, config.tile.stages, 0};
  for (const std::string &format : config.formats) {
    const auto dtype = num::dtype_from_name(format);
    if (!dtype || !tile_multiplies(*dtype))
      throw std::invalid_argument("dmmu.formats: tiles do not multiply " + format);
    shape.formats |= static_cast<uint8_t>(1u << static_cast<unsigned>(*dtype));
  }
  return shape;
}

void Dmmu::reset_unit() {
  // RTL tiles compute whatever the mode is.
  computes_ = !timing_only() || has_rtl_;
  for (auto &tile : tiles_) tile->mac->set_computes(computes_);
  // What was issued has had its effect, whether a tile is model or RTL.
  Cycles end = 0;
  for (const auto &tile : tiles_) end = std::max<Cycles>(end, tile->schedule().idle_from());
  run_tiles(end);
  array_cycles_ = array_cycles();
  for (auto &tile : tiles_) {
    tile->mac->reset();
    tile->parity_errors = 0;
    tile->active = {};
    tile->shadow = {};
    std::fill(tile->rows.begin(), tile->rows.end(), Tile::Row{});
  }
}

void Dmmu::run_tiles(Cycles until) {
  std::vector<MacTile *> pending;
  for (auto &tile : tiles_) {
    if (tile->mac->pending()) pending.push_back(tile->mac.get());
  }
  workers_.run(pending.size(), [&](size_t i) { pending[i]->finish(until); });
  forget_drains(until);
}

void Dmmu::settle(Cycles until) {
  run_tiles(until);
  for (size_t t = 0; t < tiles_.size(); ++t) {
    Tile &tile = *tiles_[t];
    if (tile.mac->cycle_differences() != 0) {
      throw UnitFault(CX_STATUS_RTL_MISMATCH, t);
    }
    const uint64_t errors = tile.mac->parity_errors();
    if (errors == tile.parity_errors) continue;
    tile.parity_errors = errors;
    throw UnitFault(CX_STATUS_PARITY_ERROR, t);
  }
}

void Dmmu::record(uint32_t tile, const TileWaves &waves) {
  auto *const rtl = tile < tiles_.size() ? dynamic_cast<MacTileRtl *>(tiles_[tile]->mac.get()) : nullptr;
  if (rtl == nullptr) throw std::invalid_argument("dmmu: tile " + std::to_string(tile) + " is not an RTL tile");
  rtl->record(waves);
}

uint64_t Dmmu::stop_recording() {
  uint64_t cycles = 0;
  for (auto &tile : tiles_) {
    if (auto *const rtl = dynamic_cast<MacTileRtl *>(tile->mac.get())) cycles += rtl->stop_recording();
  }
  return cycles;
}

uint64_t Dmmu::array_cycles() const {
  uint64_t cycles = array_cycles_;
  for (const auto &tile : tiles_) cycles += tile->schedule().array();
  return cycles;
}

TileCounters Dmmu::counters(uint32_t tile) { return tiles_.at(tile)->mac->counters(); }

void Dmmu::inject_parity_errors(uint32_t tile, bool on) { tiles_.at(tile)->mac->inject_parity_errors(on); }

Timing Dmmu::execute(const isa::Inst &inst) {
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::MM_LDW:
      return load_weights(isa::MmLdw::decode(inst));
    case isa::Opcode::MM_MUL:
      return multiply(isa::MmMul::decode(inst));
    case isa::Opcode::MM_DRAIN:
      return drain(isa::MmDrain::decode(inst));
    case isa::Opcode::MM_MUL_OS:
      return multiply_os(isa::MmMulOs::decode(inst));
    default:
      illegal_field(0);
  }
}

void Dmmu::check_group(unsigned m_split, unsigned n_split, unsigned at) const {
  if (m_split == 0 || n_split == 0 || m_split * n_split > tiles_on(tiles_.size())) illegal_field(at);
}

void Dmmu::check_format(isa::DType dtype, unsigned at) const {
  if ((shape_.formats >> static_cast<unsigned>(dtype) & 1) == 0) illegal_field(at);
}

TileEngine::Share Dmmu::columns_of(unsigned group, uint64_t columns) const {
  const uint64_t first = std::min<uint64_t>(columns, uint64_t{group} * shape_.cols);
  return {first, static_cast<uint32_t>(std::min<uint64_t>(columns - first, shape_.cols))};
}

Cycles Dmmu::all_idle() const {
  Cycles idle = 0;
  for (const auto &tile : tiles_) idle = std::max<Cycles>(idle, tile->schedule().idle_from());
  return idle;
}

template <typename F>
void Dmmu::for_each_part(unsigned m_split, unsigned n_split, uint64_t m, uint64_t n, F f) {
  for (unsigned t = 0; t < m_split * n_split; ++t) {
    const Share rows = rows_of(t / n_split, m_split, m);
    const Share columns = columns_of(t % n_split, n);
    if (rows.count != 0 && columns.count != 0) f(*tiles_[t], rows, columns);
  }
}

void Dmmu::check_accumulators(const Tile &tile, uint32_t first, uint32_t count, unsigned kind, uint32_t columns,
                              unsigned at) const {
  for (uint32_t r = 0; r < count; ++r) {
    const Tile::Row &row = tile.rows[first + r];
    if (row.kind != kind || row.columns < columns) illegal_field(at);
  }
}

void Dmmu::count_products(const TileOperand &activations, uint64_t n, bool integer, bool accumulate) {
  const uint32_t pack = elements_per_word(shape_, activations.dtype);
  const uint32_t tail = activations.cols % pack, whole = activations.cols - tail;
  const auto zero_words = [&](uint32_t from, uint32_t columns) -> uint64_t {
    if (columns == 0 || !computes_) return 0;
    if (activations.wide16 != nullptr) {
      return num::count_zeros(pack, activations.wide16 + from, activations.wide16_stride, activations.rows, columns);
    }
    return num::count_zeros(pack, activations.wide + from, activations.wide_stride, activations.rows, columns);
  };
  const uint64_t words = zero_words(0, whole), tails = zero_words(whole, tail);
  const uint64_t products = n * (uint64_t{activations.rows} * activations.cols - words * pack - tails * tail);
  const uint64_t sums = activations.rows * n;
  activity_.products[static_cast<unsigned>(activations.dtype)] += products;
  activity_.gated += n * (words + tails);
  const bool integer_chain = activations.dtype == num::DType::INT8;
  count_sums(integer_chain, products, 0);
  if (integer_chain && !integer) activity_.drained += sums;  // block scales
  count_sums(integer, accumulate ? sums : 0, accumulate ? 2 * sums : sums);
}

Timing Dmmu::load_weights(const isa::MmLdw &in) {
  check_group(in.m_split, in.n_split, kLdwSplit);
  const TensorView &view = operand(in.w);
  check_format(view.dtype, kLdwW);
  const uint32_t k = view.dims[2];
  const uint32_t n = view.dims[3];
  if (view.dims[0] != 1 || view.dims[1] != 1) illegal_field(kLdwW);
  if (k > longest_k(shape_, dtype_of(view.dtype)) || n > in.n_split * shape_.cols) illegal_field(kLdwW);
  const bool scaled = in.scale != kNoOperand;

  const Cycles now = now_cycles();
  Cycles written = after_drains(view, now);
  if (scaled) written = after_drains(channels(in.scale, n, kLdwScale), written);
  Cycles start = overlap_ ? written : std::max(written, all_idle());
  // Every row group holds the same weights.
  for_each_part(in.m_split, in.n_split, in.m_split, n, [&](Tile &tile, const Share &, const Share &) {
    start = tile.schedule().earliest_load(start, scaled);
  });
  settle_drains(start);
  const float *scales = channel_values(in.scale, n, kLdwScale, scale_);
  const uint64_t bytes = uint64_t{k} * n * view.element_bytes + (scaled ? n * sizeof(float) : 0);
  const Cycles read = read_operands(now, written, bytes);
  count_read(bytes);

  Matrix matrix = computes_ ? gather(view) : size_of(view);
  if (computes_ && num::is_float(matrix.operand.dtype)) widen(matrix);
  const uint64_t rows = words_along_k(shape_, matrix.operand.dtype, k) + (scaled ? 1 : 0);
  const uint64_t stream = std::max(rows, cycles_until(start, read));
  limited_by(stream > rows ? Limit::scratchpad : Limit::compute);
  Cycles complete = start;
  for_each_part(in.m_split, in.n_split, in.m_split, n, [&](Tile &tile, const Share &, const Share &columns) {
    complete = std::max<Cycles>(complete, tile.mac->load_weights(start, stream, matrix.part({0, k}, columns),
                                                                 scaled ? scales + columns.first : nullptr));
    tile.shadow = {view.dtype, k, n, in.n_split, scaled};
  });
  return {start - now + 1, complete - now};
}

Timing Dmmu::multiply(const isa::MmMul &in) {
  check_group(in.m_split, in.n_split, kMulSplit);
  const TensorView &view = operand(in.a);
  check_format(view.dtype, kMulA);
  const uint32_t k = view.dims[3];
  const uint32_t n = in.n;
  const uint64_t m = rows_of_view(view);
  if (k > longest_k(shape_, dtype_of(view.dtype))) illegal_field(kMulA);
  if (n == 0 || n > in.n_split * shape_.cols) illegal_field(kMulN);
  if (in.acc_row + rows_per_tile(m, in.m_split) > shape_.acc_rows) illegal_field(kMulAccRow);
  const bool row_scaled = in.scale != kNoOperand;

  const Cycles now = now_cycles();
  Cycles written = after_drains(view, now);
  if (row_scaled) written = after_drains(channels(in.scale, m, kMulScale), written);
  Cycles start = overlap_ ? written : std::max(written, all_idle());
  const auto kind_of = [&](const Tile::Weights &weights) {
    const bool integer = view.dtype == isa::DType::INT8 && !row_scaled && !weights.scaled;
    return integer ? Tile::RowKind::kInteger : Tile::RowKind::kFloat;
  };
  // Every tile's part is checked before the first one changes.
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    const Tile::Weights &weights = tile.shadow.k != 0 ? tile.shadow : tile.active;
    if (weights.k == 0 || weights.k != k || !tile_pairs(dtype_of(view.dtype), dtype_of(weights.dtype)))
      illegal_field(kMulA);
    if (weights.n_split != in.n_split) illegal_field(kMulSplit);
    if (weights.n != n) illegal_field(kMulN);
    if (in.accumulate != 0) {
      check_accumulators(tile, in.acc_row, rows.count, kind_of(weights), columns.count, kMulAccRow);
    }
    start = tile.schedule().earliest_mul(start);
  });
  settle_drains(start);
  const float *scales = channel_values(in.scale, static_cast<uint32_t>(m), kMulScale, scale_);
  const uint64_t bytes = m * k * view.element_bytes + (row_scaled ? m * sizeof(float) : 0);
  const Cycles read = read_operands(now, written, bytes);
  count_read(bytes);
  count_operations(m * k * n);

  Matrix matrix = computes_ ? gather(view) : size_of(view);
  if (computes_) widen(matrix);
  const Tile::Weights &weights = tiles_[0]->shadow.k != 0 ? tiles_[0]->shadow : tiles_[0]->active;
  count_products(matrix.operand, n, kind_of(weights) == Tile::RowKind::kInteger, in.accumulate != 0);
  limited_by(cycles_until(start, read) > rows_per_tile(m, in.m_split) ? Limit::scratchpad : Limit::compute);
  Cycles complete = start;
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    if (tile.shadow.k != 0) tile.active = tile.shadow;
    tile.shadow = {};
    if (in.accumulate == 0) {
      std::fill_n(tile.rows.begin() + in.acc_row, rows.count,
                  Tile::Row{kind_of(tile.active), static_cast<uint16_t>(columns.count)});
    }
    const uint64_t stream = std::max<uint64_t>(rows.count, cycles_until(start, read));
    complete =
        std::max<Cycles>(complete, tile.mac->matmul(start, stream, matrix.part(rows, {0, k}), columns.count, in.acc_row,
                                                    in.accumulate != 0, row_scaled ? scales + rows.first : nullptr));
  });
  return {start - now + 1, complete - now};
}

Timing Dmmu::multiply_os(const isa::MmMulOs &in) {
  check_group(in.m_split, in.n_split, kOsSplit);
  const TensorView &a_view = operand(in.a);
  const TensorView &w_view = operand(in.w);
  check_format(a_view.dtype, kOsA);
  check_format(w_view.dtype, kOsW);
  const num::DType dtype = dtype_of(a_view.dtype);
  const uint32_t k = a_view.dims[3];
  const uint32_t n = w_view.dims[3];
  const uint64_t m = rows_of_view(a_view);
  if (!tile_pairs(dtype, dtype_of(w_view.dtype))) illegal_field(kOsW);
  if (w_view.dims[0] != 1 || w_view.dims[1] != 1 || w_view.dims[2] != k) illegal_field(kOsW);
  if (n > in.n_split * shape_.cols) illegal_field(kOsW);
  if (rows_per_tile(m, in.m_split) > shape_.rows) illegal_field(kOsA);
  if (in.acc_row + rows_per_tile(m, in.m_split) > shape_.acc_rows) illegal_field(kOsAccRow);

  const auto kind = dtype == num::DType::INT8 ? Tile::RowKind::kInteger : Tile::RowKind::kFloat;
  const Cycles now = now_cycles();
  const Cycles written = after_drains(w_view, after_drains(a_view, now));
  Cycles start = overlap_ ? written : std::max(written, all_idle());
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    if (in.accumulate != 0) check_accumulators(tile, in.acc_row, rows.count, kind, columns.count, kOsAccRow);
    start = tile.schedule().earliest_mul(start);
  });
  settle_drains(start);
  const uint64_t bytes = m * k * a_view.element_bytes + uint64_t{k} * n * w_view.element_bytes;
  const Cycles read = read_operands(now, written, bytes);
  count_read(bytes);
  count_operations(m * k * n);

  // The weights first: both would use the same buffers.
  Matrix weights = computes_ ? gather(w_view) : size_of(w_view);
  std::vector<std::byte> copy;
  if (computes_ && weights.operand.raw == raw_.data()) {
    copy.swap(raw_);
    weights.operand.raw = copy.data();
  }
  Matrix activations = computes_ ? gather(a_view) : size_of(a_view);
  if (computes_) widen(activations);
  count_products(activations.operand, n, kind == Tile::RowKind::kInteger, in.accumulate != 0);
  const uint64_t own = os_stream(shape_, words_along_k(shape_, dtype, k)),
                 stream = std::max(own, cycles_until(start, read));
  limited_by(stream > own ? Limit::scratchpad : Limit::compute);
  Cycles complete = start;
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    if (in.accumulate == 0) {
      std::fill_n(tile.rows.begin() + in.acc_row, rows.count, Tile::Row{kind, static_cast<uint16_t>(columns.count)});
    }
    complete =
        std::max<Cycles>(complete, tile.mac->matmul_os(start, stream, activations.part(rows, {0, k}),
                                                       weights.part({0, k}, columns), in.acc_row, in.accumulate != 0));
  });
  return {start - now + 1, complete - now};
}

Timing Dmmu::drain(const isa::MmDrain &in) {
  check_group(in.m_split, in.n_split, kDrainSplit);
  const TensorView &view = operand(in.dst);
  const uint32_t n = view.dims[3];
  const uint64_t m = rows_of_view(view);
  if (view.dtype > isa::DType::INT32 || n > in.n_split * shape_.cols) illegal_field(kDrainDst);
  if (in.acc_row + rows_per_tile(m, in.m_split) > shape_.acc_rows) illegal_field(kDrainAccRow);
  const bool scaled = in.scale != kNoOperand, biased = in.bias != kNoOperand;

  const Cycles now = now_cycles();
  Cycles start = after_drains(view, overlap_ ? now : std::max(now, all_idle()));
  const Cycles parameters_written = drain_parameters_written(in.scale, kDrainScale, in.bias, kDrainBias, n, now);
  start = std::max(start, parameters_written);
  auto kind = Tile::RowKind::kEmpty;
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    if (kind == Tile::RowKind::kEmpty) kind = tile.rows[in.acc_row].kind;
    if (kind == Tile::RowKind::kEmpty) illegal_field(kDrainAccRow);
    check_accumulators(tile, in.acc_row, rows.count, kind, columns.count, kDrainAccRow);
    start = tile.schedule().earliest_drain(start);
  });
  settle_drains(start);

  const num::DrainStage stage = drain_stage(in, kDrainScale, kDrainBias, view, kind == Tile::RowKind::kInteger);

  const uint64_t parameters = (scaled ? 1 : 0) + (biased ? 1 : 0);
  const uint64_t channel_bytes = uint64_t{n} * sizeof(float) * parameters;
  const uint64_t bytes = m * n * view.element_bytes;
  if (channel_bytes != 0) start = std::max(start, read_operands(now, parameters_written, channel_bytes));
  count_read(channel_bytes);
  count_written(bytes);
  activity_.drained += m * n;
  activity_.accumulator_words += m * n;
  // The write is booked at the issue, not at its start, which may be a whole pass later: a booking in the future would
  // hold up everybody else's earlier accesses.
  const Cycles leaving = std::max<Cycles>(port_cycles(bytes), rows_per_tile(m, in.m_split));
  const Cycles first_row = start + parameters + kDrainPipeline + 1;
  const Cycles written = std::max<Cycles>(reserve_spm(now, bytes, true), first_row + leaving + spm_latency());
  limited_by(written > first_row + leaving + spm_latency() ? Limit::scratchpad : Limit::compute);

  const std::vector<std::byte *> rows_at = computes_ ? row_addresses(view) : std::vector<std::byte *>();
  Cycles complete = written;
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    const uint64_t stream = std::max<uint64_t>(rows.count, written - spm_latency() - first_row);
    complete = std::max<Cycles>(
        complete, tile.mac->drain(start, stream, in.acc_row, rows.count, columns.count, stage_of(stage, columns),
                                  computes_ ? target_of(rows_at, view.strides[3], rows, columns) : TileTarget()));
  });
  add_drain(view, complete);
  return {start - now + 1, complete - now};
}

}  // namespace cx::hw
