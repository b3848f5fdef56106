#include "hw/dmmu/mac_tile.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>

#include "hw/common/num/mac.hpp"
#include "hw/dmmu/tile_port.hpp"

namespace cx::hw {
namespace {

constexpr uint32_t kMaxDimension = 256;
constexpr uint32_t kMaxAccRows = 32768;    // accumulator rows
constexpr uint32_t kMaxStreamedK = 65535;  // and elements along K in 16
constexpr uint32_t kVectorColumns = 16;    // what the MAC kernels like as a multiple

void require(bool condition, const char *what) {
  if (!condition) throw std::invalid_argument(std::string("MAC tile: ") + what);
}

bool is_fp8(num::DType dtype) { return dtype == num::DType::FP8_E4M3 || dtype == num::DType::FP8_E5M2; }

bool has_format(const TileShape &shape, num::DType dtype) {
  return tile_multiplies(dtype) && (shape.formats >> static_cast<unsigned>(dtype) & 1) != 0;
}

}  // namespace

bool tile_pairs(num::DType a, num::DType w) { return a == w || (is_fp8(a) && is_fp8(w)); }

MacTile::MacTile(const TileShape &shape) : shape_(shape), schedule_(shape) {
  require(shape.rows >= 1 && shape.rows <= kMaxDimension, "rows must be 1 to 256");
  require(shape.cols >= 1 && shape.cols <= kMaxDimension, "cols must be 1 to 256");
  require(shape.acc_rows >= 1 && shape.acc_rows <= kMaxAccRows, "acc_rows must be 1 to 32768");
  require(shape.pack == 1 || shape.pack == 2 || shape.pack == 4, "pack must be 1, 2 or 4");
  require(shape.stages >= 1 && shape.stages <= 4, "stages must be 1 to 4");
  require(shape.formats != 0 && shape.formats <= TileShape::kAllFormats, "formats must be some of the six");
}

uint64_t MacTile::load_weights(uint64_t start, uint64_t stream, const TileOperand &w, const float *scales) {
  require(has_format(shape_, w.dtype), "format is not multiplied");
  require(w.rows >= 1 && w.rows <= longest_k(shape_, w.dtype), "weights have more rows than the tile");
  require(w.cols >= 1 && w.cols <= shape_.cols, "weights have more columns than the tile");
  require(w.raw != nullptr, "weights without data");
  require(stream >= rows_of_load(w, scales != nullptr), "rows come faster than one a cycle");
  const uint64_t earliest = schedule_.earliest_load(0, scales != nullptr);
  require(start >= earliest, "the weights' bank is in use");
  shadow_ = {w.dtype, w.rows, w.cols};
  const Booking booking{schedule_.load(start, stream), start == earliest};
  do_load({start, stream, w, scales}, booking);
  return booking.complete;
}

uint64_t MacTile::matmul(uint64_t start, uint64_t stream, const TileOperand &a, uint32_t n, uint32_t acc_row,
                         bool accumulate, const float *scales) {
  const Weights &weights = shadow_.k != 0 ? shadow_ : active_;
  require(weights.k != 0, "multiplication without weights");
  require(has_format(shape_, a.dtype), "format is not multiplied");
  require(tile_pairs(a.dtype, weights.dtype), "activations and weights differ in format");
  require(a.cols == weights.k, "activations and weights differ in k");
  require(n >= 1 && n <= weights.n, "more columns than loaded");
  require(a.raw != nullptr && a.rows >= 1, "activations without data");
  require(uint64_t{acc_row} + a.rows <= shape_.acc_rows, "rows beyond the accumulator memory");
  require(stream >= a.rows, "rows come faster than one a cycle");
  const uint64_t earliest = schedule_.earliest_mul(0);
  require(start >= earliest, "the array is in use");
  if (shadow_.k != 0) {
    active_ = shadow_;
    shadow_ = {};
  }
  const Booking booking{schedule_.mul(start, stream, n), start == earliest};
  do_matmul({start, stream, a, nullptr, n, acc_row, accumulate, scales}, booking);
  return booking.complete;
}

uint64_t MacTile::matmul_os(uint64_t start, uint64_t stream, const TileOperand &a, const TileOperand &w,
                            uint32_t acc_row, bool accumulate) {
  require(has_format(shape_, a.dtype) && has_format(shape_, w.dtype), "format is not multiplied");
  require(tile_pairs(a.dtype, w.dtype), "activations and weights differ in format");
  require(a.cols == w.rows, "activations and weights differ in k");
  require(a.cols >= 1 && a.cols <= kMaxStreamedK, "k must be 1 to 65535");
  require(a.rows >= 1 && a.rows <= shape_.rows, "more rows than the array has");
  require(w.cols >= 1 && w.cols <= shape_.cols, "weights have more columns than the tile");
  require(a.raw != nullptr && w.raw != nullptr, "operands without data");
  require(uint64_t{acc_row} + a.rows <= shape_.acc_rows, "rows beyond the accumulator memory");
  require(stream >= os_stream(shape_, words_along_k(shape_, a.dtype, a.cols)), "steps come faster than they are taken");
  const uint64_t earliest = schedule_.earliest_mul(0);
  require(start >= earliest, "the array is in use");
  const Booking booking{schedule_.mul_os(start, stream, w.cols), start == earliest};
  do_matmul({start, stream, a, &w, w.cols, acc_row, accumulate, nullptr}, booking);
  return booking.complete;
}

uint64_t MacTile::drain(uint64_t start, uint64_t stream, uint32_t acc_row, uint32_t m, uint32_t n,
                        const num::DrainStage &stage, TileTarget target) {
  require(m >= 1 && uint64_t{acc_row} + m <= shape_.acc_rows, "rows beyond the accumulator memory");
  require(n >= 1 && n <= shape_.cols, "columns beyond the accumulator memory");
  require(stage.out <= num::DType::INT32, "a drain makes formats up to INT32");
  require(static_cast<unsigned>(stage.act) <= 2, "unknown activation");
  require(!computes_ || target.rows.size() == m, "a target for each row");
  require(stream >= m, "rows leave faster than one a cycle");
  const uint64_t earliest = schedule_.earliest_drain(0);
  require(start >= earliest, "the accumulators are in use");
  const Booking booking{schedule_.drain(start, stream, (stage.scale != nullptr) + (stage.bias != nullptr)),
                        start == earliest};
  do_drain({start, stream, acc_row, m, n, stage}, std::move(target), booking);
  return booking.complete;
}

void MacTile::reset() {
  active_ = {};
  shadow_ = {};
  schedule_.reset();
  do_reset();
}

void MacTile::inject_parity_errors(bool on) { do_inject(on); }

// ---- model ----

MacTileModel::MacTileModel(const TileShape &shape)
    : MacTile(shape), stride_((shape.cols + kVectorColumns - 1) / kVectorColumns * kVectorColumns) {
  for (Bank &bank : banks_) {
    bank.wide.resize(size_t{shape.rows} * shape.pack * stride_);
    bank.packed.resize((size_t{shape.rows} * shape.pack + 1) / 2 * stride_);
  }
  accumulators_ = std::make_unique<uint32_t[]>(shape.acc_rows * stride_);
}

void MacTileModel::do_reset() {
  active_bank_ = 0;
  shadow_full_ = false;
  std::fill_n(accumulators_.get(), used_rows_ * stride_, 0u);
  used_rows_ = 0;
  wrong_parity_.clear();
  inject_ = false;
  counters_ = {};
}

TileCounters MacTileModel::counters() {
  counters_.busy = schedule().busy();
  return counters_;
}

void MacTileModel::fill(Bank &bank, const TileOperand &w) {
  bank.dtype = w.dtype;
  bank.k = w.rows;
  if (w.dtype == num::DType::INT8) {
    if (bank.packed.size() < (size_t{w.rows} + 1) / 2 * stride_) bank.packed.resize((size_t{w.rows} + 1) / 2 * stride_);
    num::pack_int8_weights(reinterpret_cast<const int8_t *>(w.raw), w.raw_stride, w.rows, w.cols, bank.packed.data(),
                           stride_);
    return;
  }
  if (bank.wide.size() < w.rows * stride_) bank.wide.resize(w.rows * stride_);
  for (uint32_t r = 0; r < w.rows; ++r) {
    float *row = &bank.wide[r * stride_];
    if (w.wide != nullptr) {
      std::memcpy(row, w.wide + r * w.wide_stride, w.cols * sizeof(float));
    } else {
      num::widen(w.dtype, w.raw + static_cast<ptrdiff_t>(r) * w.raw_stride, row, w.cols);
    }
  }
}

void MacTileModel::do_load(const Load &in, const Booking &) {
  Bank &bank = banks_[1 - active_bank_];
  shadow_full_ = true;
  if (computes_) {
    fill(bank, in.w);
    bank.scales.clear();
    if (in.scales != nullptr) bank.scales.assign(in.scales, in.scales + in.w.cols);
  }
  const uint64_t rows = rows_of_load(in.w, in.scales != nullptr);
  counters_.weight_rows += rows;
  counters_.weight_stalls += in.stream - rows;
}

MacTileModel::Wide MacTileModel::widen(const TileOperand &a) {
  if (a.dtype == num::DType::INT8) {
    if (a.wide16 != nullptr) return {nullptr, a.wide16, a.wide16_stride};
    const size_t stride = (a.cols + size_t{1}) / 2 * 2;
    wide16_.assign(a.rows * stride, 0);
    for (uint32_t i = 0; i < a.rows; ++i) {
      const auto *row = reinterpret_cast<const int8_t *>(a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride);
      for (uint32_t r = 0; r < a.cols; ++r) wide16_[i * stride + r] = row[r];
    }
    return {nullptr, wide16_.data(), stride};
  }
  if (a.wide != nullptr) return {a.wide, nullptr, a.wide_stride};
  wide_.resize(size_t{a.rows} * a.cols);
  for (uint32_t i = 0; i < a.rows; ++i) {
    num::widen(a.dtype, a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride, &wide_[i * size_t{a.cols}], a.cols);
  }
  return {wide_.data(), nullptr, a.cols};
}

void MacTileModel::do_matmul(const Matmul &in, const Booking &) {
  const TileOperand &a = in.a;
  if (in.w == nullptr) {
    if (shadow_full_) active_bank_ = 1 - active_bank_;
    shadow_full_ = false;
  }
  if (computes_) compute(in);
  if (in.w != nullptr) {
    const uint64_t steps = words_along_k(shape(), a.dtype, a.cols);
    counters_.weight_rows += steps;
    counters_.activation_rows += steps;
    counters_.activation_stalls += in.stream - os_stream(shape(), steps);
  } else {
    counters_.activation_rows += a.rows;
    counters_.activation_stalls += in.stream - a.rows;
  }
}

void MacTileModel::compute(const Matmul &in) {
  const TileOperand &a = in.a;
  Bank *bank = &banks_[active_bank_];
  if (in.w != nullptr) {
    bank = &streamed_;
    fill(streamed_, *in.w);
  }
  used_rows_ = std::max<uint64_t>(used_rows_, uint64_t{in.acc_row} + a.rows);
  const uint32_t pack = elements_per_word(shape(), a.dtype);
  const Wide wide = widen(a);
  uint32_t *acc = accumulator(in.acc_row);
  const num::BlockScale scale{in.scales, bank->scales.empty() || in.w != nullptr ? nullptr : bank->scales.data()};
  const bool scaled = scale.row != nullptr || scale.column != nullptr;
  const num::Epilogue epilogue(in.accumulate, scale);

  if (in.accumulate) check_parity(in.acc_row, a.rows, in.n);
  uint64_t zeros;
  if (a.dtype == num::DType::INT8) {
    zeros = num::count_zeros(pack, wide.integers, wide.stride, a.rows, a.cols);
    if (scaled) {
      num::mac_int8_scaled(wide.integers, wide.stride, bank->packed.data(), stride_, reinterpret_cast<float *>(acc),
                           stride_, a.rows, in.n, a.cols, epilogue);
    } else {
      num::mac_int8(wide.integers, wide.stride, bank->packed.data(), stride_, reinterpret_cast<int32_t *>(acc), stride_,
                    a.rows, in.n, a.cols, in.accumulate);
    }
  } else {
    zeros = num::count_zeros(pack, wide.values, wide.stride, a.rows, a.cols);
    auto *sums = reinterpret_cast<float *>(acc);
    if (pack > 1) {
      num::mac_fp8_packed(pack, wide.values, wide.stride, bank->wide.data(), stride_, sums, stride_, a.rows, in.n,
                          a.cols, epilogue);
    } else {
      num::mac_fp(wide.values, wide.stride, bank->wide.data(), stride_, sums, stride_, a.rows, in.n, a.cols, epilogue);
    }
  }
  write_parity(in.acc_row, a.rows, in.n);

  counters_.gated += zeros * in.n;
}

void MacTileModel::do_drain(const Drain &in, TileTarget target, const Booking &) {
  counters_.drained_rows += in.m;
  counters_.drain_stalls += in.stream - in.m;
  if (!computes_) return;
  check_parity(in.acc_row, in.m, in.n);
  const size_t bytes = num::bytes_of(in.stage.out);
  const bool dense = in.n == 1 || target.stride == static_cast<ptrdiff_t>(bytes);
  std::vector<std::byte> line(dense ? 0 : in.n * bytes);
  for (uint32_t i = 0; i < in.m; ++i) {
    const uint32_t *words = accumulator(in.acc_row + i);
    if (dense) {
      num::drain_row(in.stage, words, target.rows[i], in.n);
      continue;
    }
    num::drain_row(in.stage, words, line.data(), in.n);
    for (uint32_t c = 0; c < in.n; ++c) {
      std::memcpy(target.rows[i] + static_cast<ptrdiff_t>(c) * target.stride, &line[c * bytes], bytes);
    }
  }
}

void MacTileModel::check_parity(uint32_t row, uint32_t rows, uint32_t columns) {
  if (wrong_parity_.empty()) return;
  for (size_t i = row; i < size_t{row} + rows; ++i) {
    for (size_t c = 0; c < columns; ++c) counters_.parity_errors += wrong_parity_[i * shape().cols + c] ? 1 : 0;
  }
}

void MacTileModel::write_parity(uint32_t row, uint32_t rows, uint32_t columns) {
  if (!inject_ && wrong_parity_.empty()) return;
  wrong_parity_.resize(size_t{shape().acc_rows} * shape().cols);
  for (size_t i = row; i < size_t{row} + rows; ++i) {
    for (size_t c = 0; c < columns; ++c) {
      wrong_parity_[i * shape().cols + c] = inject_;
      if (inject_) accumulators_[i * stride_ + c] ^= 1;
    }
  }
}

// ---- RTL ----

struct MacTileRtl::Command {
  uint64_t start = 0;
  uint64_t complete = 0;
  bool tight = false;
  rtl::TileSim::Inputs fields;
  TilePort weights, activations, parameters, drains;
  std::vector<float> row_scales;
  TileTarget target;
  uint32_t n = 0;
  size_t element_bytes = 0;

  bool ended(const std::deque<Command *> &waiting) const {
    return (waiting.empty() || waiting.front() != this) && weights.done() && activations.done() && parameters.done() &&
           drains.done();
  }
};

MacTileRtl::MacTileRtl(const TileShape &shape) : MacTile(shape), sim_(rtl::make_tile_sim(shape)) {}
MacTileRtl::~MacTileRtl() = default;

void MacTileRtl::do_reset() {
  for (auto *queue : {&waiting_, &weights_, &activations_, &parameters_, &drains_}) queue->clear();
  commands_.clear();
  sim_->reset();
  cycle_ = 0;
  running_ = false;
  expected_idle_ = 0;
  parity_errors_ = 0;
}

void MacTileRtl::do_inject(bool on) {
  finish(schedule().idle_from());
  sim_->in.acc_inject = on;
}

void MacTileRtl::record(const TileWaves &waves) {
  sim_->open_waves(waves.path);
  waves_ = waves;
  recording_ = true;
  recorded_ = 0;
}

uint64_t MacTileRtl::stop_recording() {
  if (recording_) sim_->close_waves();
  recording_ = false;
  return recorded_;
}

TileCounters MacTileRtl::counters() {
  TileCounters result;
  uint64_t *const fields[] = {
      &result.busy,         &result.weight_rows,   &result.activation_rows,   &result.gated,
      &result.drained_rows, &result.weight_stalls, &result.activation_stalls, &result.drain_stalls,
      &result.parity_errors};
  static_assert(std::size(fields) == rtl::TileSim::kCounters);
  for (unsigned i = 0; i < std::size(fields); ++i) *fields[i] = sim_->count(i);
  return result;
}

void MacTileRtl::differ(std::string what) {
  if (differences_++ == 0) first_difference_ = std::move(what);
}

MacTileRtl::Command &MacTileRtl::add(uint64_t start, const Booking &booking) {
  commands_.push_back(std::make_unique<Command>());
  Command &command = *commands_.back();
  command.start = start;
  command.complete = booking.complete;
  command.tight = booking.tight;
  waiting_.push_back(&command);
  return command;
}

std::vector<uint64_t> MacTileRtl::moments(uint64_t rows, uint64_t gap, uint64_t stream) {
  return tile_moments(stall_seed_, rows, gap, stream);
}

void MacTileRtl::scribble(TilePort &port, uint64_t row, size_t used) { tile_scribble(stall_seed_, port, row, used); }

void MacTileRtl::do_load(const Load &in, const Booking &booking) {
  Command &command = add(in.start, booking);
  const TileOperand &w = in.w;
  const uint32_t pack = elements_per_word(shape(), w.dtype);
  const uint32_t scale_rows = in.scales != nullptr ? 1 : 0;
  command.fields.cmd_op = rtl::TileSim::Op::kLoad;
  command.fields.cmd_fmt = static_cast<uint8_t>(w.dtype);
  command.fields.cmd_k = static_cast<uint16_t>(w.rows);
  command.fields.cmd_scaled = in.scales != nullptr;
  command.weights.open(in.start + 1, in.stream, rows_of_load(w, in.scales != nullptr), shape().cols,
                       moments(rows_of_load(w, in.scales != nullptr), 1, in.stream));
  if (in.scales != nullptr) std::memcpy(command.weights.row(0), in.scales, w.cols * sizeof(float));
  for (uint32_t r = 0; r < w.rows; ++r) {
    uint32_t *words = command.weights.row(r / pack + scale_rows);
    const std::byte *from = w.raw + static_cast<ptrdiff_t>(r) * w.raw_stride;
    const size_t bytes = num::bytes_of(w.dtype);
    for (uint32_t c = 0; c < w.cols; ++c) {
      uint32_t element = 0;
      std::memcpy(&element, from + c * bytes, bytes);
      words[c] |= element << (8 * (r % pack));
    }
  }
  for (uint64_t row = 0; row < rows_of_load(w, in.scales != nullptr); ++row) scribble(command.weights, row, w.cols);
  weights_.push_back(&command);
}

void MacTileRtl::do_matmul(const Matmul &in, const Booking &booking) {
  Command &command = add(in.start, booking);
  const TileOperand &a = in.a;
  const size_t bytes = num::bytes_of(a.dtype);
  const uint32_t pack = elements_per_word(shape(), a.dtype);
  command.fields.cmd_fmt = static_cast<uint8_t>(a.dtype);
  command.fields.cmd_m = static_cast<uint16_t>(a.rows);
  command.fields.cmd_k = static_cast<uint16_t>(a.cols);
  command.fields.cmd_n = static_cast<uint8_t>(in.n);
  command.fields.cmd_acc_row = static_cast<uint16_t>(in.acc_row);
  command.fields.cmd_accumulate = in.accumulate;
  if (in.w == nullptr) {
    command.fields.cmd_op = rtl::TileSim::Op::kMul;
    command.fields.cmd_scaled = in.scales != nullptr;
    if (in.scales != nullptr) command.row_scales.assign(in.scales, in.scales + a.rows);
    command.activations.open(in.start + 1, in.stream, a.rows, shape().rows, moments(a.rows, 1, in.stream));
    for (uint32_t i = 0; i < a.rows; ++i) {
      tile_spread(a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride, static_cast<ptrdiff_t>(bytes), bytes, a.cols, pack,
                  command.activations.row(i), 1);
      scribble(command.activations, i, words_along_k(shape(), a.dtype, a.cols));
    }
  } else {
    command.fields.cmd_op = rtl::TileSim::Op::kMulOs;
    command.fields.cmd_wfmt = static_cast<uint8_t>(in.w->dtype);
    const uint64_t steps = words_along_k(shape(), a.dtype, a.cols);
    const std::vector<uint64_t> when = moments(steps, shape().stages, in.stream);
    command.activations.open(in.start + 1, in.stream, steps, shape().rows, when);
    command.weights.open(in.start + 1, in.stream, steps, shape().cols, when);
    for (uint32_t i = 0; i < a.rows; ++i) {
      tile_spread(a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride, static_cast<ptrdiff_t>(bytes), bytes, a.cols, pack,
                  command.activations.row(0) + i, shape().rows);
    }
    for (uint32_t c = 0; c < in.w->cols; ++c) {
      tile_spread(in.w->raw + c * bytes, in.w->raw_stride, bytes, a.cols, pack, command.weights.row(0) + c,
                  shape().cols);
    }
    for (uint64_t step = 0; step < steps; ++step) {
      scribble(command.activations, step, a.rows);
      scribble(command.weights, step, in.w->cols);
    }
    weights_.push_back(&command);
  }
  activations_.push_back(&command);
}

void MacTileRtl::do_drain(const Drain &in, TileTarget target, const Booking &booking) {
  Command &command = add(in.start, booking);
  const num::DrainStage &stage = in.stage;
  command.fields.cmd_op = rtl::TileSim::Op::kDrain;
  command.fields.cmd_fmt = static_cast<uint8_t>(stage.out);
  command.fields.cmd_m = static_cast<uint16_t>(in.m);
  command.fields.cmd_n = static_cast<uint8_t>(in.n);
  command.fields.cmd_acc_row = static_cast<uint16_t>(in.acc_row);
  command.fields.cmd_integer = stage.integer;
  command.fields.cmd_has_scale = stage.scale != nullptr;
  command.fields.cmd_has_bias = stage.bias != nullptr;
  command.fields.cmd_act = static_cast<uint8_t>(stage.act);
  command.fields.cmd_lo = std::bit_cast<uint32_t>(stage.lo);
  command.fields.cmd_hi = std::bit_cast<uint32_t>(stage.hi);
  const uint64_t parameters = (stage.scale != nullptr) + (stage.bias != nullptr);
  if (parameters != 0) {
    command.parameters.open(in.start + 1, parameters, parameters, shape().cols, {});
    uint64_t row = 0;
    for (const float *values : {stage.scale, stage.bias}) {
      if (values == nullptr) continue;
      scribble(command.parameters, row, in.n);
      std::memcpy(command.parameters.row(row++), values, in.n * sizeof(float));
    }
    parameters_.push_back(&command);
  }
  command.drains.open(in.start + parameters + kDrainPipeline + 1, in.stream, in.m, 0, moments(in.m, 1, in.stream));
  command.target = std::move(target);
  command.n = in.n;
  command.element_bytes = num::bytes_of(stage.out);
  drains_.push_back(&command);
}

void MacTileRtl::drained(Command &command) {
  std::byte *to = command.target.rows[command.drains.next()];
  for (uint32_t c = 0; c < command.n; ++c) {
    std::memcpy(to + static_cast<ptrdiff_t>(c) * command.target.stride, &sim_->d_row[c], command.element_bytes);
  }
}

bool MacTileRtl::probes(const Command &next) const {
  // One cycle early in a running chip; in tests in every cycle that the command waits.
  return next.tight && (cycle_ + 1 == next.start || (stall_seed_ != 0 && cycle_ < next.start));
}

bool MacTileRtl::offer_command() {
  rtl::TileSim::Inputs &in = sim_->in;
  const bool was_valid = in.cmd_valid;
  in.cmd_valid = false;
  if (waiting_.empty()) return was_valid;
  const Command &next = *waiting_.front();
  // One cycle early to see that the tile does not take it: ready depends on the fields, not on valid.
  const bool early = probes(next);
  if (!early && cycle_ < next.start) return was_valid;
  const rtl::TileSim::Inputs ports = in;
  in = next.fields;
  in.w_valid = ports.w_valid;
  in.a_valid = ports.a_valid;
  in.a_scale = ports.a_scale;
  in.p_valid = ports.p_valid;
  in.d_ready = ports.d_ready;
  in.acc_inject = ports.acc_inject;
  in.cmd_valid = !early;
  return true;
}

void MacTileRtl::offer_rows() {
  rtl::TileSim &sim = *sim_;
  rtl::TileSim::Inputs &in = sim.in;
  in.w_valid = !weights_.empty() && weights_.front()->weights.due() <= cycle_;
  if (in.w_valid) {
    const TilePort &port = weights_.front()->weights;
    std::copy_n(port.head(), port.width(), sim.w_row);
  }
  in.a_valid = !activations_.empty() && activations_.front()->activations.due() <= cycle_;
  if (in.a_valid) {
    const Command &command = *activations_.front();
    const TilePort &port = command.activations;
    std::copy_n(port.head(), port.width(), sim.a_row);
    if (!command.row_scales.empty()) in.a_scale = std::bit_cast<uint32_t>(command.row_scales[port.next()]);
  }
  in.p_valid = !parameters_.empty() && parameters_.front()->parameters.due() <= cycle_;
  if (in.p_valid) {
    const TilePort &port = parameters_.front()->parameters;
    std::copy_n(port.head(), port.width(), sim.p_row);
  }
  in.d_ready = !drains_.empty() && drains_.front()->drains.due() <= cycle_;
}

void MacTileRtl::take_command() {
  if (waiting_.empty()) return;
  Command &next = *waiting_.front();
  if (!sim_->in.cmd_valid) {
    if (probes(next) && sim_->out.cmd_ready) {
      differ("command could be taken in cycle " + std::to_string(cycle_) + ", before " + std::to_string(next.start));
    }
    return;
  }
  if (!sim_->out.cmd_ready) return;
  if (cycle_ != next.start) {
    differ("command taken in cycle " + std::to_string(cycle_) + " instead of " + std::to_string(next.start));
  }
  expected_idle_ = std::max(expected_idle_, next.complete);
  waiting_.pop_front();
}

void MacTileRtl::take_rows() {
  const auto pass = [](std::deque<Command *> &queue, TilePort Command::*port) {
    TilePort &head = queue.front()->*port;
    head.pass();
    if (head.done()) queue.pop_front();
  };
  const rtl::TileSim::Inputs &in = sim_->in;
  const rtl::TileSim::Outputs &out = sim_->out;
  if (in.w_valid && out.w_ready) pass(weights_, &Command::weights);
  if (in.a_valid && out.a_ready) pass(activations_, &Command::activations);
  if (in.p_valid && out.p_ready) pass(parameters_, &Command::parameters);
  if (in.d_ready && out.d_valid) {
    drained(*drains_.front());
    pass(drains_, &Command::drains);
  }
}

void MacTileRtl::finish(uint64_t until) {
  if (commands_.empty()) return;
  run(until);
  parity_errors_ = sim_->count(rtl::TileSim::kCounters - 1);
}

void MacTileRtl::run(uint64_t until) {
  // An RTL error must not become an endless loop.
  constexpr uint64_t kPatience = 1'000'000;
  while (!commands_.empty()) {
    const bool late = commands_.front()->complete <= until && cycle_ >= until;
    if (cycle_ >= until && !late) return;
    if (late && cycle_ > commands_.front()->complete + kPatience) {
      throw std::logic_error("RTL tile hangs: an operation that should end in cycle " +
                             std::to_string(commands_.front()->complete) + " has not in " + std::to_string(cycle_));
    }
    if (!running_) {
      const uint64_t next = waiting_.front()->start;
      if (next >= until) return;
      cycle_ = std::max(cycle_, next);
      running_ = true;
    }
    offer_rows();
    // All other outputs are those of the last clock edge.
    if (offer_command() || (sim_->in.w_valid && sim_->in.a_valid)) sim_->settle();
    take_command();
    take_rows();
    if (recording_ && waves_.covers(cycle_)) {
      sim_->tick_recorded(waves_.begin_ps(cycle_), waves_.period_ps);
      ++recorded_;
    } else {
      sim_->tick();
    }
    ++cycle_;
    ++stepped_;
    if (sim_->out.idle) {
      running_ = false;
      if (cycle_ != expected_idle_) {
        differ("idle in cycle " + std::to_string(cycle_) + " instead of " + std::to_string(expected_idle_));
      }
      // Everything that was taken is complete.
      const Command *const first_waiting = waiting_.empty() ? nullptr : waiting_.front();
      while (!commands_.empty() && commands_.front().get() != first_waiting) commands_.pop_front();
    } else {
      while (!commands_.empty() && commands_.front()->complete <= cycle_ && commands_.front()->ended(waiting_)) {
        commands_.pop_front();
      }
    }
  }
}

std::unique_ptr<MacTile> make_tile(const TileShape &shape, bool rtl) {
  if (rtl) return std::make_unique<MacTileRtl>(shape);
  return std::make_unique<MacTileModel>(shape);
}

}  // namespace cx::hw
