// A MAC tile (docs/architecture.md, "DMMU and its tiles") behind one interface: a fast model, or the Verilated RTL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "hw/common/num/formats.hpp"
#include "hw/dmmu/tile_timing.hpp"

namespace cx::hw {

/// A matrix of raw elements in memory, and optionally the same matrix widened, so that tiles which share an operand
/// need not widen it again. Everything is read during the call only.
struct TileOperand {
  num::DType dtype = num::DType::FP32;
  uint32_t rows = 0;
  uint32_t cols = 0;
  const std::byte *raw = nullptr;
  ptrdiff_t raw_stride = 0;     ///< bytes from row to row; elements of a row are contiguous
  const float *wide = nullptr;  ///< floating-point formats: values as FP32; null: not available
  size_t wide_stride = 0;       ///< floats from row to row
  const int16_t *wide16 =
      nullptr;               ///< INT8: values as 16 bits with a 0 after an odd number of columns; null: not available
  size_t wide16_stride = 0;  ///< even
};

/// True for the formats that a tile multiplies: FP32, FP16, BF16, FP8_E4M3, FP8_E5M2, INT8.
constexpr bool tile_multiplies(num::DType dtype) { return static_cast<unsigned>(dtype) <= 5; }

/// Operations run one after the other; each returns the cycles it takes on an idle tile. All throw
/// std::invalid_argument for operands that the hardware cannot take (sizes beyond the shape, format without support or
/// different from the weights', no weights loaded).
class MacTile {
 public:
  virtual ~MacTile() = default;

  const TileShape &shape() const { return shape_; }

  /// Fills the shadow bank; w.rows is k (1 to shape().rows), w.cols is n (1 to shape().cols).
  TileCycles load_weights(const TileOperand &w);
  /// Takes over the shadow bank if load_weights() came since the last call. a.rows is m, a.cols is k as loaded.
  /// Accumulator rows [acc_row, acc_row + m), columns [0, n) are written or added to; n is at most the loaded n.
  TileCycles matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate);
  /// Copies accumulator rows [acc_row, acc_row + m), columns [0, n) to words[row * stride + column].
  TileCycles drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride);
  /// To the state after power-on: no weights, accumulators undefined.
  void reset();

 protected:
  explicit MacTile(const TileShape &shape);

 private:
  virtual TileCycles do_load(const TileOperand &w) = 0;
  virtual TileCycles do_matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate) = 0;
  virtual TileCycles do_drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride) = 0;
  virtual void do_reset() = 0;

  struct Weights {
    num::DType dtype = num::DType::FP32;
    uint32_t k = 0;  // 0: none
    uint32_t n = 0;
  };

  TileShape shape_;
  Weights active_;
  Weights shadow_;
};

/// Host vector arithmetic with the closed formulas of tile_timing.hpp.
class MacTileModel final : public MacTile {
 public:
  explicit MacTileModel(const TileShape &shape);

 private:
  struct Bank {
    num::DType dtype = num::DType::FP32;
    uint32_t k = 0;
    std::vector<float> wide;       // shape().rows x stride_
    std::vector<uint32_t> packed;  // INT8: pairs of rows, see num::pack_int8_weights
  };

  TileCycles do_load(const TileOperand &w) override;
  TileCycles do_matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate) override;
  TileCycles do_drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride) override;
  void do_reset() override;

  size_t stride_;  // columns rounded up to whole vectors
  Bank banks_[2];
  unsigned active_bank_ = 0;
  bool shadow_full_ = false;
  std::unique_ptr<std::byte[]> accumulators_;  // acc_rows x stride_ words, FP32 or INT32 by use
  std::vector<float> wide_;                    // activations that came without `wide`
  std::vector<int16_t> wide16_;
};

/// Steps the Verilated tile until each operation is complete and counts the cycles.
class MacTileRtl final : public MacTile {
 public:
  /// Throws std::runtime_error that says how to build the shape if this build does not have it.
  explicit MacTileRtl(const TileShape &shape);
  ~MacTileRtl() override;

  /// Clock cycles stepped since construction.
  uint64_t stepped_cycles() const { return stepped_; }

 private:
  TileCycles do_load(const TileOperand &w) override;
  TileCycles do_matmul(const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate) override;
  TileCycles do_drain(uint32_t acc_row, uint32_t m, uint32_t n, uint32_t *words, size_t stride) override;
  void do_reset() override;

  void start();
  /// Steps until idle. `supply` sets the inputs of the coming cycle, `consume` sees its outputs before the edge.
  template <typename Supply, typename Consume>
  TileCycles run(Supply supply, Consume consume);

  std::unique_ptr<rtl::TileSim> sim_;
  uint64_t stepped_ = 0;
};

/// Throws std::runtime_error for an RTL shape that is not built, std::invalid_argument for an impossible shape.
std::unique_ptr<MacTile> make_tile(const TileShape &shape, bool rtl);

}  // namespace cx::hw
