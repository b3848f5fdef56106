#include "hw/sca/sca.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "hw/common/sparse/sparse.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {
namespace {

// Byte offsets of the instructions' fields, for fault records.
constexpr unsigned kLdaA = 2, kLdaSplit = 4;
constexpr unsigned kMulDtype = 2, kMulAccRow = 6, kMulK = 10, kMulSplit = 28;
constexpr unsigned kDrainDst = 2, kDrainScale = 3, kDrainBias = 4, kDrainAccRow = 8, kDrainSplit = 20;

// Of decoded streams that are kept: several layers of a network.
constexpr size_t kCachedBytes = size_t{64} << 20;

// And of the fields of a group of weights.
constexpr unsigned kGroupFormat = 3, kGroupN = 5, kGroupM = 6, kGroupBlockRows = 10, kGroupBlockColumns = 12;

[[noreturn]] void bad_weights(uint64_t at) { throw UnitFault(CX_STATUS_BAD_WEIGHTS, at); }

/// The group that begins at `at` of the stream has the format and parameters of the instruction.
void check_layout(const isa::SpMul &in, const sparse::Layout &layout, uint64_t at) {
  if (static_cast<unsigned>(layout.format) != static_cast<unsigned>(in.format)) bad_weights(at + kGroupFormat);
  switch (layout.format) {
    case sparse::Format::kStructured:
      if (layout.n != in.p0) bad_weights(at + kGroupN);
      if (layout.m != in.p1) bad_weights(at + kGroupM);
      break;
    case sparse::Format::kBlock:
      if (layout.block_h != in.p0) bad_weights(at + kGroupBlockRows);
      if (layout.block_w != in.p1) bad_weights(at + kGroupBlockColumns);
      break;
    default:
      break;
  }
}

/// For each column how many rows are zero.
std::vector<uint32_t> zeros_of_columns(const TileOperand &a) {
  std::vector<uint32_t> zeros(a.cols, 0);
  const size_t bytes = num::bytes_of(a.dtype);
  for (uint32_t i = 0; i < a.rows; ++i) {
    const auto *row = reinterpret_cast<const uint8_t *>(a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride);
    for (uint32_t r = 0; r < a.cols; ++r) {
      const auto raw = static_cast<uint16_t>(bytes == 1 ? row[r] : row[2 * r] | row[2 * r + 1] << 8);
      if (sparse::is_zero(a.dtype, raw)) ++zeros[r];
    }
  }
  return zeros;
}

}  // namespace

/// What a bank of a tile holds.
struct Sca::Activations {
  isa::DType dtype = isa::DType::FP16;
  uint32_t k = 0;  // 0: none
  uint64_t m = 0;  // rows of the whole group
  uint32_t m_split = 0, n_split = 0;
  std::shared_ptr<const std::vector<uint32_t>> zeros;  // for each k, of the m rows

  /// For each k whether any row is not zero.
  std::vector<uint8_t> nonzero() const {
    std::vector<uint8_t> flags(k);
    for (uint32_t r = 0; r < k; ++r) flags[r] = (*zeros)[r] < m ? 1 : 0;
    return flags;
  }
};

/// A tile with what the unit knows of its contents.
struct Sca::Tile {
  enum RowKind : uint8_t { kEmpty, kFloat, kInteger };
  struct Row {
    RowKind kind = RowKind::kEmpty;
    uint8_t columns = 0;
    uint8_t lanes = 0;
  };

  Tile(const ScaShape &shape, bool rtl) : unit(make_sca_tile(shape, rtl)), rows(shape.acc_rows) {}

  const ScaSchedule &schedule() const { return unit->schedule(); }
  const Activations &next() const { return shadow.k != 0 ? shadow : active; }
  /// Calls f(row of accumulators, its columns) for n columns from row `first` on.
  template <typename F>
  void for_each_row(const ScaShape &shape, uint32_t first, uint32_t n, F f) {
    for (uint32_t c = 0; c < n; c += shape.cols) f(rows[first + c / shape.cols], std::min(shape.cols, n - c));
  }

  std::unique_ptr<ScaTile> unit;
  Activations active;
  Activations shadow;
  std::vector<Row> rows;
};

Sca::Sca(sc_core::sc_module_name name, const EngineContext &context, const config::Chip::ScaSection &config)
    : TileEngine(name, isa::Engine::SCA, context), shape_(tile_shape_of(config)), streams_(kCachedBytes) {
  for (uint32_t tile : config.rtl_tiles.tiles) {
    if (tile >= config.tiles) throw std::invalid_argument("sca.rtl_tiles: there is no tile " + std::to_string(tile));
  }
  for (uint32_t i = 0; i < config.tiles; ++i) {
    tiles_.push_back(std::make_unique<Tile>(shape_, config.rtl_tiles.contains(i)));
  }
}

Sca::~Sca() = default;

ScaShape Sca::tile_shape_of(const config::Chip::ScaSection &config) {
  return {config.tile.rows,  config.tile.cols,   config.tile.acc_rows,
          config.tile.depth, config.tile.window, config.tile.queue};
}

void Sca::reset_unit() {
  // What was issued has had its effect, whether a tile is model or RTL.
  Cycles end = 0;
  for (const auto &tile : tiles_) end = std::max<Cycles>(end, tile->schedule().idle_from());
  run_tiles(end);
  for (auto &tile : tiles_) {
    tile->unit->reset();
    tile->active = {};
    tile->shadow = {};
    std::fill(tile->rows.begin(), tile->rows.end(), Tile::Row{});
  }
}

void Sca::run_tiles(Cycles until) {
  std::vector<ScaTile *> pending;
  for (auto &tile : tiles_) {
    if (tile->unit->pending()) pending.push_back(tile->unit.get());
  }
  workers_.run(pending.size(), [&](size_t i) { pending[i]->finish(until); });
  forget_drains(until);
}

void Sca::settle(Cycles until) {
  run_tiles(until);
  for (size_t t = 0; t < tiles_.size(); ++t) {
    if (tiles_[t]->unit->cycle_differences() != 0) throw UnitFault(CX_STATUS_RTL_MISMATCH, t);
  }
}

ScaCounters Sca::counters(uint32_t tile) { return tiles_.at(tile)->unit->counters(); }

void Sca::record(uint32_t tile, const TileWaves &waves) {
  auto *const rtl = tile < tiles_.size() ? dynamic_cast<ScaTileRtl *>(tiles_[tile]->unit.get()) : nullptr;
  if (rtl == nullptr) throw std::invalid_argument("sca: tile " + std::to_string(tile) + " is not an RTL tile");
  rtl->record(waves);
}

uint64_t Sca::stop_recording() {
  uint64_t cycles = 0;
  for (auto &tile : tiles_) {
    if (auto *const rtl = dynamic_cast<ScaTileRtl *>(tile->unit.get())) cycles += rtl->stop_recording();
  }
  return cycles;
}

Timing Sca::execute(const isa::Inst &inst) {
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::SP_LDA:
      return load(isa::SpLda::decode(inst));
    case isa::Opcode::SP_MUL:
      return multiply(isa::SpMul::decode(inst));
    case isa::Opcode::SP_DRAIN:
      return drain(isa::SpDrain::decode(inst));
    default:
      illegal_field(0);
  }
}

void Sca::check_group(unsigned m_split, unsigned n_split, unsigned at) const {
  if (tiles_on(tiles_.size()) == 0) illegal_field(0);
  if (m_split == 0 || n_split == 0 || m_split * n_split > tiles_on(tiles_.size())) illegal_field(at);
}

TileEngine::Share Sca::columns_of(unsigned group, unsigned n_split, uint64_t columns) const {
  const uint64_t chunk = rows_per_tile((columns + shape_.cols - 1) / shape_.cols, n_split) * shape_.cols;
  const uint64_t first = std::min(columns, group * chunk);
  return {first, static_cast<uint32_t>(std::min(columns, first + chunk) - first)};
}

template <typename F>
void Sca::for_each_part(unsigned m_split, unsigned n_split, uint64_t m, uint64_t n, F f) {
  for (unsigned t = 0; t < m_split * n_split; ++t) {
    const Share rows = rows_of(t / n_split, m_split, m);
    const Share columns = columns_of(t % n_split, n_split, n);
    if (rows.count != 0 && columns.count != 0) f(*tiles_[t], rows, columns);
  }
}

Timing Sca::load(const isa::SpLda &in) {
  check_group(in.m_split, in.n_split, kLdaSplit);
  const TensorView &view = operand(in.a);
  const uint32_t k = view.dims[3];
  const uint64_t m = rows_of_view(view);
  if (!sca_multiplies(dtype_of(view.dtype)) || k > shape_.depth) illegal_field(kLdaA);
  if (rows_per_tile(m, in.m_split) > shape_.rows) illegal_field(kLdaA);

  const Cycles now = now_cycles();
  const Cycles written = after_drains(view, now);
  Cycles start = written;
  // Every column group holds the same activations.
  const uint64_t everywhere = uint64_t{in.n_split} * shape_.cols;
  for_each_part(in.m_split, in.n_split, m, everywhere,
                [&](Tile &tile, const Share &, const Share &) { start = tile.schedule().earliest_load(start); });
  settle_drains(start);
  const uint64_t bytes = m * k * view.element_bytes;
  const Cycles read = read_operands(now, written, bytes);
  count_read(bytes);

  Matrix matrix = gather(view);
  const auto zeros = std::make_shared<const std::vector<uint32_t>>(zeros_of_columns(matrix.operand));
  activity_.buffer_bits += 8 * bytes * in.n_split;
  if (num::is_float(matrix.operand.dtype)) widen(matrix);
  const uint64_t stream = std::max<uint64_t>(k, cycles_until(start, read));
  limited_by(stream > k ? Limit::scratchpad : Limit::compute);
  Cycles complete = start;
  for_each_part(in.m_split, in.n_split, m, everywhere, [&](Tile &tile, const Share &rows, const Share &) {
    complete = std::max<Cycles>(complete, tile.unit->load(start, stream, matrix.part(rows, {0, k})));
    tile.shadow = {view.dtype, k, m, in.m_split, in.n_split, zeros};
  });
  return {start - now + 1, complete - now};
}

const Sca::Activations &Sca::activations_for(const isa::SpMul &in) const {
  const Activations &first = tiles_[0]->next();
  if (first.k != in.k) illegal_field(kMulK);
  if (first.m_split != in.m_split || first.n_split != in.n_split) illegal_field(kMulSplit);
  if (!sca_multiplies(dtype_of(in.dtype)) || !tile_pairs(dtype_of(first.dtype), dtype_of(in.dtype))) {
    illegal_field(kMulDtype);
  }
  return first;
}

std::shared_ptr<const DecodedStream> Sca::decode(const isa::SpMul &in) {
  const std::span<const uint8_t> stream(reinterpret_cast<const uint8_t *>(spm()) + in.base, in.bytes);
  const StreamCache::Key key{static_cast<uint8_t>(in.format), static_cast<uint8_t>(in.dtype), in.p0, in.p1, in.k, in.n};
  if (auto known = streams_.find(key, stream)) return known;
  const auto weights = std::make_shared<DecodedStream>();
  SparseColumns &columns = weights->columns;
  columns.dtype = dtype_of(in.dtype);
  columns.k = in.k;
  columns.n = in.n;
  columns.starts.push_back(0);
  try {
    uint64_t at = 0;
    for (const sparse::Group &group : sparse::decode_stream(stream, in.k, in.n, columns.dtype, shape_.cols)) {
      check_layout(in, group.header.layout, at);
      at += group.header.bytes;
      weights->group_bytes.push_back(group.header.bytes);
      for (uint32_t c = 0; c < group.header.columns; ++c) {
        for (const sparse::Entry &entry : group.column(c)) {
          ++weights->stored;
          if (entry.bits == 0) continue;
          columns.rows.push_back(static_cast<uint16_t>(entry.k));
          columns.raw.push_back(entry.bits);
        }
        columns.starts.push_back(static_cast<uint32_t>(columns.rows.size()));
      }
    }
  } catch (const sparse::StreamError &error) {
    bad_weights(error.offset());
  }
  streams_.add(key, stream, weights);
  return weights;
}

ScaFeed Sca::feed_of(const DecodedStream &weights, const Share &columns, unsigned parts, Cycles start,
                     Cycles read) const {
  uint64_t all = 0;
  for (uint32_t bytes : weights.group_bytes) all += bytes;
  const Cycles begin = read - port_cycles(all);
  ScaFeed feed;
  feed.first = cycles_until(start, begin);
  const uint64_t first = columns.first / shape_.cols;
  for (uint64_t g = first; g < first + sca_groups(shape_, columns.count); ++g) {
    feed.cycles.push_back(port_cycles(uint64_t{weights.group_bytes[g]} * parts));
  }
  return feed;
}

void Sca::count_products(const isa::SpMul &in, const Activations &activations, const SparseColumns &columns,
                         uint64_t stored) {
  const uint64_t m = activations.m, lanes = m * columns.nonzeros(), sums = m * in.n;
  const uint64_t bits = 8 * num::bytes_of(dtype_of(activations.dtype));
  const uint64_t row_groups = (m + rows_per_tile(m, in.m_split) - 1) / rows_per_tile(m, in.m_split);
  uint64_t gated = 0;
  for (const uint16_t row : columns.rows) gated += (*activations.zeros)[row];
  uint64_t groups = 0;
  for (unsigned j = 0; j < in.n_split; ++j) groups += sca_groups(shape_, columns_of(j, in.n_split, in.n).count);
  const bool integer = in.dtype == isa::DType::INT8;
  activity_.products[static_cast<unsigned>(activations.dtype)] += lanes - gated;
  activity_.gated += gated;
  activity_.decoded += stored * row_groups;
  activity_.selected_bits += lanes * bits;
  activity_.buffer_bits += m * in.k * groups * bits;
  count_sums(integer, lanes - gated + (in.accumulate != 0 ? sums : 0), in.accumulate != 0 ? 2 * sums : sums);
}

Timing Sca::multiply(const isa::SpMul &in) {
  check_group(in.m_split, in.n_split, kMulSplit);
  const Activations activations = activations_for(in);
  if (in.base % sparse::kAlignment != 0) throw UnitFault(CX_STATUS_BAD_ALIGNMENT, in.base);
  const Extent extent{in.base, int64_t{in.base} + in.bytes};
  require_spm(extent);
  const uint64_t m = activations.m;
  if (in.acc_row + uint64_t{sca_groups(shape_, columns_of(0, in.n_split, in.n).count)} > shape_.acc_rows) {
    illegal_field(kMulAccRow);
  }
  const auto kind = in.dtype == isa::DType::INT8 ? Tile::RowKind::kInteger : Tile::RowKind::kFloat;

  const Cycles now = now_cycles();
  const Cycles written = after_drains(extent, now);
  Cycles start = written;
  unsigned parts = 0;
  // Every tile's part is checked before the first one changes.
  for_each_part(in.m_split, in.n_split, m, in.n, [&](Tile &tile, const Share &rows, const Share &columns) {
    if (rows.first == 0) ++parts;
    if (tile.next().zeros != activations.zeros) illegal_field(kMulSplit);  // of another SP_LDA
    tile.for_each_row(shape_, in.acc_row, columns.count, [&](const Tile::Row &row, uint32_t count) {
      if (in.accumulate != 0 && (row.kind != kind || row.columns < count || row.lanes != rows.count)) {
        illegal_field(kMulAccRow);
      }
    });
    start = tile.schedule().earliest_mul(start, in.acc_row, sca_groups(shape_, columns.count));
  });
  settle_drains(start);
  const std::shared_ptr<const DecodedStream> weights = decode(in);
  SparseColumns without_skipped;
  if (in.skip_zeros != 0) without_skipped = weights->columns.only(activations.nonzero());
  const SparseColumns &worked_on = in.skip_zeros != 0 ? without_skipped : weights->columns;
  const Cycles read = read_operands(now, written, in.bytes);
  count_read(in.bytes);
  count_operations(m * worked_on.nonzeros());
  count_products(in, activations, worked_on, weights->stored);

  Cycles complete = start;
  std::vector<std::shared_ptr<const SparseColumns>> part_of(in.n_split);
  std::vector<ScaPlan> plan_of(in.n_split);
  limited_by(Limit::compute);
  for (unsigned j = 0; j < in.n_split; ++j) {
    const Share columns = columns_of(j, in.n_split, in.n);
    if (columns.count == 0) continue;
    part_of[j] =
        std::make_shared<const SparseColumns>(worked_on.part(static_cast<uint32_t>(columns.first), columns.count));
    plan_of[j] = plan_multiplication(shape_, *part_of[j], feed_of(*weights, columns, parts, start, read));
  }
  for (unsigned t = 0; t < unsigned{in.m_split} * in.n_split; ++t) {
    const unsigned j = t % in.n_split;
    const Share rows = rows_of(t / in.n_split, in.m_split, m);
    Tile &tile = *tiles_[t];
    if (rows.count == 0 || part_of[j] == nullptr) continue;
    if (tile.shadow.k != 0) tile.active = std::move(tile.shadow);
    tile.shadow = {};
    if (in.accumulate == 0) {
      tile.for_each_row(shape_, in.acc_row, part_of[j]->n, [&](Tile::Row &row, uint32_t count) {
        row = {kind, static_cast<uint8_t>(count), static_cast<uint8_t>(rows.count)};
      });
    }
    complete =
        std::max<Cycles>(complete, tile.unit->multiply(start, part_of[j], plan_of[j], in.acc_row, in.accumulate != 0));
  }
  return {start - now + 1, complete - now};
}

Timing Sca::drain(const isa::SpDrain &in) {
  check_group(in.m_split, in.n_split, kDrainSplit);
  const TensorView &view = operand(in.dst);
  const uint32_t n = view.dims[3];
  const uint64_t m = rows_of_view(view);
  if (view.dtype > isa::DType::INT32 || rows_per_tile(m, in.m_split) > shape_.rows) illegal_field(kDrainDst);
  const uint32_t longest = columns_of(0, in.n_split, n).count;
  if (in.acc_row + uint64_t{sca_groups(shape_, longest)} > shape_.acc_rows) illegal_field(kDrainAccRow);
  const bool scaled = in.scale != kNoOperand, biased = in.bias != kNoOperand;

  const Cycles now = now_cycles();
  Cycles start = after_drains(view, now);
  const Cycles parameters_written = drain_parameters_written(in.scale, kDrainScale, in.bias, kDrainBias, n, now);
  start = std::max(start, parameters_written);
  auto kind = Tile::RowKind::kEmpty;
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    if (kind == Tile::RowKind::kEmpty) kind = tile.rows[in.acc_row].kind;
    tile.for_each_row(shape_, in.acc_row, columns.count, [&](const Tile::Row &row, uint32_t count) {
      if (row.kind == Tile::RowKind::kEmpty || row.kind != kind || row.columns < count || row.lanes < rows.count) {
        illegal_field(kDrainAccRow);
      }
    });
    start = tile.schedule().earliest_drain(start);
  });
  settle_drains(start);

  const num::DrainStage stage = drain_stage(in, kDrainScale, kDrainBias, view, kind == Tile::RowKind::kInteger);

  const uint64_t channel_bytes = uint64_t{n} * sizeof(float) * ((scaled ? 1 : 0) + (biased ? 1 : 0));
  const uint64_t bytes = m * n * view.element_bytes;
  if (channel_bytes != 0) start = std::max(start, read_operands(now, parameters_written, channel_bytes));
  count_read(channel_bytes);
  count_written(bytes);
  activity_.drained += m * n;
  activity_.accumulator_words += m * n;
  // The write is booked at the issue, not at its start, which may be a whole multiplication later: a booking in the
  // future would hold up everybody else's earlier accesses.
  const Cycles leaving = std::max<Cycles>(port_cycles(bytes), longest);
  const Cycles first_column = start + kScaDrainPipeline + 1;
  const Cycles written = std::max<Cycles>(reserve_spm(now, bytes, true), first_column + leaving + spm_latency());
  limited_by(written > first_column + leaving + spm_latency() ? Limit::scratchpad : Limit::compute);

  const std::vector<std::byte *> rows_at = row_addresses(view);
  Cycles complete = written;
  for_each_part(in.m_split, in.n_split, m, n, [&](Tile &tile, const Share &rows, const Share &columns) {
    const uint64_t stream = std::max<uint64_t>(columns.count, written - spm_latency() - first_column);
    complete = std::max<Cycles>(
        complete, tile.unit->drain(start, stream, in.acc_row, rows.count, columns.count, stage_of(stage, columns),
                                   target_of(rows_at, view.strides[3], rows, columns)));
  });
  add_drain(view, complete);
  return {start - now + 1, complete - now};
}

}  // namespace cx::hw
