#include "hw/dmmu/mac_tile.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

#include "hw/common/num/mac.hpp"

namespace cx::hw {
namespace {

constexpr uint32_t kMaxDimension = 128;  // the RTL counts rows and columns in 8 bits
constexpr uint32_t kMaxAccRows = 32768;  // and accumulator rows in 16
constexpr uint32_t kVectorColumns = 16;  // what the MAC kernels like as a multiple

void require(bool condition, const char *what) {
  if (!condition) throw std::invalid_argument(std::string("MAC tile: ") + what);
}

}  // namespace

MacTile::MacTile(const TileShape &shape) : shape_(shape) {
  require(shape.rows >= 1 && shape.rows <= kMaxDimension, "rows must be 1 to 128");
  require(shape.cols >= 1 && shape.cols <= kMaxDimension, "cols must be 1 to 128");
  require(shape.acc_rows >= 1 && shape.acc_rows <= kMaxAccRows, "acc_rows must be 1 to 32768");
}

TileCycles MacTile::load_weights(const TileOperand &w) {
  require(tile_multiplies(w.dtype), "format is not multiplied");
  require(w.rows >= 1 && w.rows <= shape_.rows, "weights have more rows than the tile");
  require(w.cols >= 1 && w.cols <= shape_.cols, "weights have more columns than the tile");
  require(w.raw != nullptr, "weights without data");
  shadow_ = {w.dtype, w.rows, w.cols};
  return do_load(w);
}

TileCycles MacTile::matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate) {
  if (shadow_.k != 0) {
    active_ = shadow_;
    shadow_ = {};
  }
  require(active_.k != 0, "multiplication without weights");
  require(a.dtype == active_.dtype, "activations and weights differ in format");
  require(a.cols == active_.k, "activations and weights differ in k");
  require(n >= 1 && n <= active_.n, "more columns than loaded");
  require(a.raw != nullptr && a.rows >= 1, "activations without data");
  require(uint64_t{acc_row} + a.rows <= shape_.acc_rows, "rows beyond the accumulator memory");
  return do_matmul(a, n, acc_row, accumulate);
}

TileCycles MacTile::drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride) {
  require(m >= 1 && uint64_t{acc_row} + m <= shape_.acc_rows, "rows beyond the accumulator memory");
  require(n >= 1 && n <= shape_.cols && stride >= n, "columns beyond the accumulator memory");
  return do_drain(acc_row, m, n, words, stride);
}

void MacTile::reset() {
  active_ = {};
  shadow_ = {};
  do_reset();
}

// ---- model ----

MacTileModel::MacTileModel(const TileShape &shape)
    : MacTile(shape), stride_((shape.cols + kVectorColumns - 1) / kVectorColumns * kVectorColumns) {
  for (Bank &bank : banks_) {
    bank.wide.resize(shape.rows * stride_);
    bank.packed.resize((shape.rows + 1) / 2 * stride_);
  }
  accumulators_ = std::make_unique<std::byte[]>(shape.acc_rows * stride_ * sizeof(uint32_t));
}

void MacTileModel::do_reset() {
  active_bank_ = 0;
  shadow_full_ = false;
  std::memset(accumulators_.get(), 0, shape().acc_rows * stride_ * sizeof(uint32_t));
}

TileCycles MacTileModel::do_load(const TileOperand &w) {
  Bank &bank = banks_[1 - active_bank_];
  shadow_full_ = true;
  bank.dtype = w.dtype;
  bank.k = w.rows;
  if (w.dtype == num::DType::INT8) {
    num::pack_int8_weights(reinterpret_cast<const int8_t *>(w.raw), w.raw_stride, w.rows, w.cols, bank.packed.data(),
                           stride_);
  } else {
    for (uint32_t r = 0; r < w.rows; ++r) {
      float *row = &bank.wide[r * stride_];
      if (w.wide != nullptr) {
        std::memcpy(row, w.wide + r * w.wide_stride, w.cols * sizeof(float));
      } else {
        num::widen(w.dtype, w.raw + static_cast<ptrdiff_t>(r) * w.raw_stride, row, w.cols);
      }
    }
  }
  return load_cycles(w.rows);
}

TileCycles MacTileModel::do_matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate) {
  if (shadow_full_) active_bank_ = 1 - active_bank_;
  shadow_full_ = false;
  const Bank &bank = banks_[active_bank_];
  std::byte *acc = accumulators_.get() + acc_row * stride_ * sizeof(uint32_t);
  if (a.dtype == num::DType::INT8) {
    const int16_t *wide = a.wide16;
    size_t stride = a.wide16_stride;
    if (wide == nullptr) {
      stride = (a.cols + 1) / 2 * 2;
      wide16_.assign(a.rows * stride, 0);
      for (uint32_t i = 0; i < a.rows; ++i) {
        const auto *row = reinterpret_cast<const int8_t *>(a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride);
        for (uint32_t r = 0; r < a.cols; ++r) wide16_[i * stride + r] = row[r];
      }
      wide = wide16_.data();
    }
    num::mac_int8(wide, stride, bank.packed.data(), stride_, reinterpret_cast<int32_t *>(acc), stride_, a.rows, n,
                  bank.k, accumulate);
  } else {
    const float *wide = a.wide;
    size_t stride = a.wide_stride;
    if (wide == nullptr) {
      stride = a.cols;
      wide_.resize(a.rows * stride);
      for (uint32_t i = 0; i < a.rows; ++i) {
        num::widen(a.dtype, a.raw + static_cast<ptrdiff_t>(i) * a.raw_stride, &wide_[i * stride], a.cols);
      }
      wide = wide_.data();
    }
    num::mac_fp(wide, stride, bank.wide.data(), stride_, reinterpret_cast<float *>(acc), stride_, a.rows, n, bank.k,
                accumulate);
  }
  return mul_cycles(shape(), a.rows, n);
}

TileCycles MacTileModel::do_drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride) {
  for (uint32_t i = 0; i < m; ++i) {
    const std::byte *row = accumulators_.get() + (acc_row + i) * stride_ * sizeof(uint32_t);
    std::memcpy(words + i * stride, row, n * sizeof(uint32_t));
  }
  return drain_cycles(m);
}

// ---- RTL ----

MacTileRtl::MacTileRtl(const TileShape &shape) : MacTile(shape), sim_(rtl::make_tile_sim(shape)) {}
MacTileRtl::~MacTileRtl() = default;

void MacTileRtl::do_reset() { sim_->reset(); }

template <typename Supply, typename Consume>
TileCycles MacTileRtl::run(Supply supply, Consume consume) {
  // Far beyond any operation; an RTL error must not become an endless loop.
  const uint64_t limit = 4 * (uint64_t{shape().acc_rows} + shape().rows + shape().cols) + 64;
  sim_->in.cmd_valid = true;
  sim_->settle();
  if (!sim_->out.idle || !sim_->out.cmd_ready) throw std::logic_error("MAC tile RTL does not take a command when idle");
  sim_->tick();
  sim_->in.cmd_valid = false;
  TileCycles cycles{0, 0};
  uint64_t cycle = 1;
  for (; !sim_->out.idle; ++cycle) {
    supply();
    sim_->settle();
    if (cycles.accept == 0 && sim_->out.cmd_ready) cycles.accept = cycle;
    consume();
    sim_->tick();
    if (cycle > limit) throw std::logic_error("MAC tile RTL does not become idle");
  }
  cycles.complete = cycle;
  if (cycles.accept == 0) cycles.accept = cycle;
  stepped_ += cycle;
  sim_->in.w_valid = sim_->in.a_valid = sim_->in.d_ready = false;
  return cycles;
}

namespace {

/// Raw elements of one row, each into the low bits of a word.
void spread(const TileOperand &operand, uint32_t row, uint32_t *words) {
  const size_t bytes = num::bytes_of(operand.dtype);
  const std::byte *from = operand.raw + static_cast<ptrdiff_t>(row) * operand.raw_stride;
  for (uint32_t c = 0; c < operand.cols; ++c) {
    uint32_t word = 0;
    std::memcpy(&word, from + c * bytes, bytes);
    words[c] = word;
  }
}

}  // namespace

TileCycles MacTileRtl::do_load(const TileOperand &w) {
  sim_->in.cmd_op = rtl::TileSim::Op::kLoad;
  sim_->in.cmd_fmt = static_cast<uint8_t>(w.dtype);
  sim_->in.cmd_k = static_cast<uint8_t>(w.rows);
  uint32_t row = 0;
  return run(
      [&] {
        sim_->in.w_valid = row < w.rows;
        if (row < w.rows) spread(w, row, sim_->w_row);
      },
      [&] {
        if (sim_->in.w_valid && sim_->out.w_ready) ++row;
      });
}

TileCycles MacTileRtl::do_matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate) {
  sim_->in.cmd_op = rtl::TileSim::Op::kMul;
  sim_->in.cmd_fmt = static_cast<uint8_t>(a.dtype);
  sim_->in.cmd_m = static_cast<uint16_t>(a.rows);
  sim_->in.cmd_k = static_cast<uint8_t>(a.cols);
  sim_->in.cmd_n = static_cast<uint8_t>(n);
  sim_->in.cmd_acc_row = static_cast<uint16_t>(acc_row);
  sim_->in.cmd_accumulate = accumulate;
  uint32_t row = 0;
  return run(
      [&] {
        sim_->in.a_valid = row < a.rows;
        if (row < a.rows) spread(a, row, sim_->a_row);
      },
      [&] {
        if (sim_->in.a_valid && sim_->out.a_ready) ++row;
      });
}

TileCycles MacTileRtl::do_drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride) {
  sim_->in.cmd_op = rtl::TileSim::Op::kDrain;
  sim_->in.cmd_m = static_cast<uint16_t>(m);
  sim_->in.cmd_acc_row = static_cast<uint16_t>(acc_row);
  sim_->in.d_ready = true;
  uint32_t row = 0;
  return run([] {},
             [&] {
               if (!sim_->out.d_valid) return;
               if (row == m) throw std::logic_error("MAC tile RTL drains too many rows");
               std::memcpy(words + row * stride, sim_->d_row, n * sizeof(uint32_t));
               ++row;
             });
}

std::unique_ptr<MacTile> make_tile(const TileShape &shape, bool rtl) {
  if (rtl) return std::make_unique<MacTileRtl>(shape);
  return std::make_unique<MacTileModel>(shape);
}

}  // namespace cx::hw
