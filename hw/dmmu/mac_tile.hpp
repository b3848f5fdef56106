// A MAC tile (docs/architecture.md, "DMMU and its tiles") behind one interface: a fast model, or the Verilated RTL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "hw/common/num/drain.hpp"
#include "hw/common/num/formats.hpp"
#include "hw/dmmu/tile_timing.hpp"
#include "hw/dmmu/tile_waves.hpp"

namespace cx::hw {

class TilePort;

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

/// Where the elements of a drain go.
struct TileTarget {
  std::vector<std::byte *> rows;  ///< first element of each of the m rows
  ptrdiff_t stride = 0;           ///< bytes from element to element
};

/// Events since the last reset; same numbers and meaning as the RTL's counters (rtl/tile/cx_tile_counters.sv).
struct TileCounters {
  uint64_t busy = 0;               ///< cycles with anything in flight
  uint64_t weight_rows = 0;        ///< rows of weights, of block scales, and steps of output-stationary weights
  uint64_t activation_rows = 0;    ///< rows, or steps of output-stationary passes
  uint64_t gated = 0;              ///< steps of processing elements that a zero activation kept still
  uint64_t drained_rows = 0;       ///< rows that left
  uint64_t weight_stalls = 0;      ///< cycles in which a load waited for a row
  uint64_t activation_stalls = 0;  ///< cycles in which a pass waited for a row
  uint64_t drain_stalls = 0;       ///< cycles in which a drained row waited to leave
  uint64_t parity_errors = 0;      ///< accumulator words that were read with wrong parity
  bool operator==(const TileCounters &) const = default;
};

/// True for the formats that a tile multiplies: FP32, FP16, BF16, FP8_E4M3, FP8_E5M2, INT8.
constexpr bool tile_multiplies(num::DType dtype) { return static_cast<unsigned>(dtype) <= 5; }
/// Weights of one format with activations of another: the same, or both FP8.
bool tile_pairs(num::DType a, num::DType w);

/// Operations come in order, each with the absolute cycle `start` in which the tile takes its command (not before
/// schedule().earliest_*()) and the cycles `stream` to its last row (see TileSchedule). They return the cycle in which
/// they are complete. Operands are read during the call. A drain has written its target after finish() of its
/// completion.
///
/// All throw std::invalid_argument for operands that the hardware cannot take (sizes beyond the shape, format without
/// support or different from the weights', no weights loaded) and for impossible times.
class MacTile {
 public:
  virtual ~MacTile() = default;

  /// False: operations take their time and count what does not depend on values, but nothing is read or written; what
  /// accumulators hold is then undefined. A model's only: an RTL tile computes always.
  void set_computes(bool computes) { computes_ = computes; }

  const TileShape &shape() const { return shape_; }
  const TileSchedule &schedule() const { return schedule_; }

  /// Fills the shadow bank; w.rows is k (1 to longest_k()), w.cols is n (1 to shape().cols). `scales`: n block scales,
  /// or null.
  uint64_t load_weights(uint64_t start, uint64_t stream, const TileOperand &w, const float *scales = nullptr);
  /// Weight-stationary. Takes over the shadow bank if load_weights() came since the last call. a.rows is m, a.cols is k
  /// as loaded. Accumulator rows [acc_row, acc_row + m), columns [0, n) are written or added to; n is at most the
  /// loaded n. `scales`: m block scales, or null.
  uint64_t matmul(uint64_t start, uint64_t stream, const TileOperand &a, uint32_t n, uint32_t acc_row, bool accumulate,
                  const float *scales = nullptr);
  /// Output-stationary. a is m x k with m at most shape().rows, w is k x n, k at most 65535.
  uint64_t matmul_os(uint64_t start, uint64_t stream, const TileOperand &a, const TileOperand &w, uint32_t acc_row,
                     bool accumulate);
  /// Accumulator rows [acc_row, acc_row + m), columns [0, n) through the drain stage to the target.
  uint64_t drain(uint64_t start, uint64_t stream, uint32_t acc_row, uint32_t m, uint32_t n,
                 const num::DrainStage &stage, TileTarget target);

  /// Whatever completes until cycle `until` has had its effect. Operations that start before it have all been given.
  virtual void finish(uint64_t until) = 0;
  /// Work that finish() would do.
  virtual bool pending() const = 0;
  /// To the state after power-on: no weights, accumulators undefined, counters zero. Unfinished operations are lost.
  void reset();

  /// While on, what operations write to the accumulators is stored with a wrong bit. Call between operations that are
  /// complete: finishes all that were given.
  void inject_parity_errors(bool on);

  /// Events of everything finished.
  virtual TileCounters counters() = 0;
  /// TileCounters::parity_errors of everything finished.
  virtual uint64_t parity_errors() const = 0;
  /// Commands that the tile took, or ends that it reached, in other cycles than those given. Always 0 for the model.
  virtual uint64_t cycle_differences() const { return 0; }
  /// What the first one was.
  virtual std::string first_difference() const { return {}; }

 protected:
  explicit MacTile(const TileShape &shape);

  struct Load {
    uint64_t start, stream;
    const TileOperand &w;
    const float *scales;
  };
  struct Matmul {
    uint64_t start, stream;
    const TileOperand &a;
    const TileOperand *w;  // output-stationary
    uint32_t n, acc_row;
    bool accumulate;
    const float *scales;
  };
  struct Drain {
    uint64_t start, stream;
    uint32_t acc_row, m, n;
    const num::DrainStage &stage;
  };
  /// What the base checked for an operation beyond its own fields.
  struct Booking {
    uint64_t complete;
    bool tight;  // the tile would not take the command one cycle earlier
  };

  /// Words of a row of k elements, or of a whole operand.
  uint64_t rows_of_load(const TileOperand &w, bool scaled) const {
    return words_along_k(shape_, w.dtype, w.rows) + (scaled ? 1 : 0);
  }

 private:
  virtual void do_load(const Load &in, const Booking &booking) = 0;
  virtual void do_matmul(const Matmul &in, const Booking &booking) = 0;
  virtual void do_drain(const Drain &in, TileTarget target, const Booking &booking) = 0;
  virtual void do_reset() = 0;
  virtual void do_inject(bool on) = 0;

  struct Weights {
    num::DType dtype = num::DType::FP32;
    uint32_t k = 0;  // 0: none
    uint32_t n = 0;
  };

  TileShape shape_;
  TileSchedule schedule_;
  Weights active_;
  Weights shadow_;

 protected:
  bool computes_ = true;
};

/// Host vector arithmetic, at once, with the closed formulas of tile_timing.hpp.
class MacTileModel final : public MacTile {
 public:
  explicit MacTileModel(const TileShape &shape);

  void finish(uint64_t) override {}
  bool pending() const override { return false; }
  TileCounters counters() override;
  uint64_t parity_errors() const override { return counters_.parity_errors; }

 private:
  struct Bank {
    num::DType dtype = num::DType::FP32;
    uint32_t k = 0;
    std::vector<float> wide;       // longest k x stride_
    std::vector<uint32_t> packed;  // INT8: pairs of rows, see num::pack_int8_weights
    std::vector<float> scales;     // empty: none
  };
  /// Activations in the form that the kernels take.
  struct Wide {
    const float *values = nullptr;
    const int16_t *integers = nullptr;
    size_t stride = 0;
  };

  void do_load(const Load &in, const Booking &booking) override;
  void do_matmul(const Matmul &in, const Booking &booking) override;
  void do_drain(const Drain &in, TileTarget target, const Booking &booking) override;
  void do_reset() override;
  void do_inject(bool on) override { inject_ = on; }

  /// The arithmetic of a pass.
  void compute(const Matmul &in);
  void fill(Bank &bank, const TileOperand &w);
  Wide widen(const TileOperand &a);
  uint32_t *accumulator(uint32_t row) { return &accumulators_[row * stride_]; }
  void check_parity(uint32_t row, uint32_t rows, uint32_t columns);
  void write_parity(uint32_t row, uint32_t rows, uint32_t columns);

  size_t stride_;  // columns rounded up to whole vectors
  Bank banks_[2];
  Bank streamed_;  // weights of an output-stationary pass
  unsigned active_bank_ = 0;
  bool shadow_full_ = false;
  std::unique_ptr<uint32_t[]> accumulators_;  // acc_rows x stride_ words, FP32 or INT32 by use
  uint64_t used_rows_ = 0;                    // of these, from the first on: all others are 0
  std::vector<float> wide_;                   // activations that came without `wide`
  std::vector<int16_t> wide16_;
  bool inject_ = false;
  std::vector<bool> wrong_parity_;  // acc_rows x cols; empty until errors are injected
  TileCounters counters_;
};

/// Steps the Verilated tile through the cycles in which it has something to do. Commands are given in the cycles that
/// the schedule says; that the tile takes them there and not before, and that it is idle when the schedule says so, is
/// checked.
class MacTileRtl final : public MacTile {
 public:
  /// Throws std::runtime_error that says how to build the shape if this build does not have it.
  explicit MacTileRtl(const TileShape &shape);
  ~MacTileRtl() override;

  /// May be called for different tiles from different threads at once.
  void finish(uint64_t until) override;
  bool pending() const override { return !commands_.empty(); }
  TileCounters counters() override;
  uint64_t parity_errors() const override { return parity_errors_; }
  uint64_t cycle_differences() const override { return differences_; }
  std::string first_difference() const override { return first_difference_; }

  /// From now on rows pass at irregular moments within their streams instead of evenly, and words that take no part
  /// carry anything; no bit, cycle or counter depends on it. 0 turns it off.
  void set_stall_seed(uint64_t seed) { stall_seed_ = seed; }

  /// Throws std::runtime_error if the file cannot be written.
  void record(const TileWaves &waves);
  /// Ends the recording; returns the cycles that are in the file.
  uint64_t stop_recording();

  /// Clock cycles stepped since construction.
  uint64_t stepped_cycles() const { return stepped_; }

 private:
  struct Command;

  void do_load(const Load &in, const Booking &booking) override;
  void do_matmul(const Matmul &in, const Booking &booking) override;
  void do_drain(const Drain &in, TileTarget target, const Booking &booking) override;
  void do_reset() override;
  void do_inject(bool on) override;

  Command &add(uint64_t start, const Booking &booking);
  std::vector<uint64_t> moments(uint64_t rows, uint64_t gap, uint64_t stream);
  /// Something in the words of a row from `used` on.
  void scribble(TilePort &port, uint64_t row, size_t used);
  void differ(std::string what);
  void run(uint64_t until);
  /// The tile is asked whether it would take the command before its time.
  bool probes(const Command &next) const;
  /// True if the command pins changed.
  bool offer_command();
  void offer_rows();
  void take_command();
  void take_rows();
  void drained(Command &command);

  std::unique_ptr<rtl::TileSim> sim_;
  // Commands that are not complete. The queues of the ports point into it.
  std::deque<std::unique_ptr<Command>> commands_;
  std::deque<Command *> waiting_, weights_, activations_, parameters_, drains_;
  uint64_t cycle_ = 0;    // the simulation is in this cycle
  bool running_ = false;  // not idle
  uint64_t expected_idle_ = 0;
  uint64_t stall_seed_ = 0;
  uint64_t stepped_ = 0;
  TileWaves waves_;
  bool recording_ = false;
  uint64_t recorded_ = 0;
  uint64_t parity_errors_ = 0;
  uint64_t differences_ = 0;
  std::string first_difference_;
};

/// Throws std::runtime_error for an RTL shape that is not built, std::invalid_argument for an impossible shape.
std::unique_ptr<MacTile> make_tile(const TileShape &shape, bool rtl);

}  // namespace cx::hw
