// What the engines that work on tiles share: operands from the scratchpad as matrices, the order of their reads after
// drains that are under way, the time of the scratchpad port.
#ifndef HW_DMMU_TILE_ENGINE_HPP
#define HW_DMMU_TILE_ENGINE_HPP

#include <cstdint>
#include <vector>

#include "hw/dmmu/mac_tile.hpp"
#include "hw/engine/engine.hpp"
#include "hw/power/activity.hpp"

namespace cx::hw {

/// A descriptor's index that stands for none.
inline constexpr uint8_t kNoOperand = 0xFF;

/// Throws ILLEGAL_INSTRUCTION with the byte offset of the field that is wrong.
[[noreturn]] void illegal_field(unsigned at);

inline num::DType dtype_of(isa::DType dtype) { return static_cast<num::DType>(dtype); }

/// Rows of a view: all dimensions but the innermost.
inline uint64_t rows_of_view(const TensorView &view) { return uint64_t{view.dims[0]} * view.dims[1] * view.dims[2]; }

/// Rows of each of `split` parts, the last of which may be shorter or empty.
inline uint64_t rows_per_tile(uint64_t rows, unsigned split) { return (rows + split - 1) / split; }

/// Cycles from one moment to another, 0 if that is past.
inline uint64_t cycles_until(Cycles from, Cycles to) { return to > from ? to - from : 0; }

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

class TileEngine : public Engine {
 public:
  const MatrixActivity &activity() const { return activity_; }

 protected:
  TileEngine(sc_core::sc_module_name name, isa::Engine id, const EngineContext &context);

  /// What one tile gets of a split dimension.
  struct Share {
    uint64_t first = 0;
    uint32_t count = 0;
  };

  struct Matrix {
    TileOperand operand;

    /// Rows [row.first, + row.count) and columns [column.first, + column.count).
    TileOperand part(const Share &row, const Share &column) const;
  };

  /// Rows of the tiles of row group `group`, of `rows` rows in all.
  static Share rows_of(unsigned group, unsigned m_split, uint64_t rows);

  /// A descriptor whose elements are aligned to their size. Throws BAD_ALIGNMENT with its base.
  const TensorView &operand(unsigned index) const;
  /// FP32[n]. Throws ILLEGAL_INSTRUCTION with `at` otherwise.
  const TensorView &channels(unsigned index, uint64_t n, unsigned at) const;
  /// Its values, kept in `values`; null for kNoOperand.
  const float *channel_values(unsigned index, uint32_t n, unsigned at, std::vector<float> &values);

  /// First cycle from `from` on in which no unfinished drain writes what the extent covers.
  Cycles after_drains(const Extent &extent, Cycles from);
  Cycles after_drains(const TensorView &view, Cycles from);
  /// Lets the drains that after_drains() met have their effect, before operands are read for a command at `start`.
  void settle_drains(Cycles start);
  void add_drain(const TensorView &view, Cycles complete);
  /// Whatever completes until then has its effect; calls forget_drains().
  virtual void run_tiles(Cycles until) = 0;
  void forget_drains(Cycles until);

  /// First cycle from `now` on in which no unfinished drain writes the scale or the bias, FP32[n] each or kNoOperand.
  Cycles drain_parameters_written(unsigned scale, unsigned scale_at, unsigned bias, unsigned bias_at, uint32_t n,
                                  Cycles now);
  /// What an instruction that drains into `view` does to every word. Its scale and bias stay until the next one.
  template <class Drain>
  num::DrainStage drain_stage(const Drain &in, unsigned scale_at, unsigned bias_at, const TensorView &view,
                              bool integer);
  /// The same for the columns of one tile.
  static num::DrainStage stage_of(num::DrainStage stage, const Share &columns);
  /// Where the rows of a view lie in the scratchpad.
  std::vector<std::byte *> row_addresses(const TensorView &view);
  /// One tile's part of these rows; stride in bytes from column to column.
  static TileTarget target_of(const std::vector<std::byte *> &rows_at, int64_t stride, const Share &rows,
                              const Share &columns);

  /// When operands that are booked at the issue are at the tiles. What a drain writes until `written` is read after it.
  Cycles read_operands(Cycles now, Cycles written, uint64_t bytes);
  Cycles port_cycles(uint64_t bytes) const;

  /// The view's innermost rows as a matrix of raw elements; copies only what has no single row stride.
  Matrix gather(const TensorView &view);
  void widen(Matrix &matrix);
  /// The size of that matrix, for operations that do not read it.
  Matrix size_of(const TensorView &view);
  /// Counts `sums` additions to sums of the kind, and `words` accesses of accumulators.
  void count_sums(bool integer, uint64_t sums, uint64_t words);
  MatrixActivity activity_;
  std::vector<std::byte> raw_;       ///< what gather() copied last
  std::vector<float> scale_, bias_;  // kept to save allocations

 private:
  struct PendingDrain {
    Extent extent;
    Cycles complete;
  };

  double spm_bytes_per_cycle_;
  std::vector<PendingDrain> drains_;  // not known to be complete
  bool overlaps_drain_ = false;

  // Scratch storage that lives across instructions to save allocations.
  std::vector<float> wide_;
  std::vector<int16_t> wide16_;
};

template <class Drain>
num::DrainStage TileEngine::drain_stage(const Drain &in, unsigned scale_at, unsigned bias_at, const TensorView &view,
                                        bool integer) {
  num::DrainStage stage;
  stage.scale = channel_values(in.scale, view.dims[3], scale_at, scale_);
  stage.bias = channel_values(in.bias, view.dims[3], bias_at, bias_);
  stage.act = static_cast<num::DrainStage::Act>(in.act);
  stage.lo = in.lo;
  stage.hi = in.hi;
  stage.out = dtype_of(view.dtype);
  stage.integer = integer;
  return stage;
}

}  // namespace cx::hw

#endif
