// A sparse tile (README.md) behind one interface: a fast model, or the Verilated RTL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "hw/common/num/drain.hpp"
#include "hw/dmmu/mac_tile.hpp"
#include "hw/sca/sca_timing.hpp"

namespace cx::hw {

/// True for the formats that a sparse tile multiplies: FP16, BF16, FP8_E4M3, FP8_E5M2, INT8.
constexpr bool sca_multiplies(num::DType dtype) { return tile_multiplies(dtype) && dtype != num::DType::FP32; }

/// Events since the last reset; same numbers and meaning as the RTL's counters (rtl/sca/cx_sca_counters.sv).
struct ScaCounters {
  uint64_t busy = 0;          ///< cycles with anything in flight
  uint64_t vectors = 0;       ///< activation vectors
  uint64_t load_stalls = 0;   ///< cycles in which a load waited for a vector
  uint64_t columns = 0;       ///< drained columns
  uint64_t drain_stalls = 0;  ///< cycles in which a drained column waited to leave
  uint64_t issued = 0;        ///< weights that became products, each one step of all lanes
  uint64_t gated = 0;         ///< steps of lanes that a zero activation kept still
  ScaStalls stalls;           ///< columns times cycles
  bool operator==(const ScaCounters &) const = default;
};

/// Operations come in order, each with the absolute cycle `start` in which the tile takes its command (not before
/// schedule().earliest_*()) and the cycles `stream` to its last vector or column (see ScaSchedule). They return the
/// cycle in which they are complete. Operands are read during the call, but for the weights, which must live and stay
/// until then. A drain has written its target after finish() of its completion.
///
/// Rows of accumulators are groups of shape().cols columns.
///
/// All throw std::invalid_argument for operands that the hardware cannot take (sizes beyond the shape, format without
/// support or different from the activations', no activations loaded) and for impossible times.
class ScaTile {
 public:
  virtual ~ScaTile() = default;

  const ScaShape &shape() const { return shape_; }
  const ScaSchedule &schedule() const { return schedule_; }

  /// Fills the shadow bank; a.rows is m (1 to shape().rows), a.cols is k (1 to shape().depth).
  uint64_t load(uint64_t start, uint64_t stream, const TileOperand &a);
  /// Takes over the shadow bank if load() came since the last call. w.k is as loaded; `plan` is plan_multiplication()
  /// of the weights. Columns [0, w.n) of the rows from acc_row on are written or added to, in the loaded m lanes.
  uint64_t multiply(uint64_t start, std::shared_ptr<const SparseColumns> w, const ScaPlan &plan, uint32_t acc_row,
                    bool accumulate);
  /// Columns [0, n) of the rows from acc_row on, lanes [0, m), through the drain stage (whose scale and bias have n
  /// values) to the target's rows.
  uint64_t drain(uint64_t start, uint64_t stream, uint32_t acc_row, uint32_t m, uint32_t n,
                 const num::DrainStage &stage, TileTarget target);

  /// Whatever completes until cycle `until` has had its effect. Operations that start before it have all been given.
  virtual void finish(uint64_t until) = 0;
  /// Work that finish() would do.
  virtual bool pending() const = 0;
  /// To the state after power-on: no activations, accumulators undefined, counters zero. Unfinished operations are
  /// lost.
  void reset();

  /// Events of everything finished.
  virtual ScaCounters counters() = 0;
  /// Commands that the tile took, or ends that it reached, in other cycles than those given. Always 0 for the model.
  virtual uint64_t cycle_differences() const { return 0; }
  /// What the first one was.
  virtual std::string first_difference() const { return {}; }

 protected:
  explicit ScaTile(const ScaShape &shape);

  struct Load {
    uint64_t start, stream;
    const TileOperand &a;
  };
  struct Multiply {
    uint64_t start;
    std::shared_ptr<const SparseColumns> w;
    const ScaPlan &plan;
    uint32_t acc_row;
    bool accumulate;
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

 private:
  virtual void do_load(const Load &in, const Booking &booking) = 0;
  virtual void do_multiply(const Multiply &in, const Booking &booking) = 0;
  virtual void do_drain(const Drain &in, TileTarget target, const Booking &booking) = 0;
  virtual void do_reset() = 0;

  struct Activations {
    num::DType dtype = num::DType::FP16;
    uint32_t k = 0;  // 0: none
  };

  ScaShape shape_;
  ScaSchedule schedule_;
  Activations active_;
  Activations shadow_;
};

/// Host vector arithmetic, at once.
class ScaTileModel final : public ScaTile {
 public:
  explicit ScaTileModel(const ScaShape &shape);

  void finish(uint64_t) override {}
  bool pending() const override { return false; }
  ScaCounters counters() override;

 private:
  /// Activations, k by k.
  struct Bank {
    num::DType dtype = num::DType::FP16;
    uint32_t m = 0;
    std::vector<float> wide;
    std::vector<int16_t> integers;
    std::vector<uint8_t> zeros;  // lanes of each vector that are zero
  };

  void do_load(const Load &in, const Booking &booking) override;
  void do_multiply(const Multiply &in, const Booking &booking) override;
  void do_drain(const Drain &in, TileTarget target, const Booking &booking) override;
  void do_reset() override;

  void fill(Bank &bank, const TileOperand &a);
  uint32_t *accumulators(uint32_t row, uint32_t column) {
    return &accumulators_[(uint64_t{row} * shape().cols + column) * lanes_];
  }

  size_t lanes_;  // rounded up to whole vectors
  Bank banks_[2];
  unsigned active_bank_ = 0;
  bool shadow_full_ = false;
  std::vector<uint32_t> accumulators_;  // acc_rows x cols x lanes_, FP32 or INT32 by use
  std::vector<float> line_, values_;
  std::vector<int16_t> integers_;
  std::vector<uint32_t> block_;
  ScaCounters counters_;
};

/// Steps the Verilated tile through the cycles in which it has something to do. Commands are given in the cycles that
/// the schedule says; that the tile takes them there and not before, and that it is idle when the schedule says so, is
/// checked.
class ScaTileRtl final : public ScaTile {
 public:
  /// Throws std::runtime_error that says how to build the shape if this build does not have it.
  explicit ScaTileRtl(const ScaShape &shape);
  ~ScaTileRtl() override;

  /// May be called for different tiles from different threads at once.
  void finish(uint64_t until) override;
  bool pending() const override { return !commands_.empty(); }
  ScaCounters counters() override;
  uint64_t cycle_differences() const override { return differences_; }
  std::string first_difference() const override { return first_difference_; }

  /// From now on vectors and columns pass at irregular moments within their streams instead of evenly, and words that
  /// take no part carry anything; no bit, cycle or counter depends on it. 0 turns it off.
  void set_stall_seed(uint64_t seed) { stall_seed_ = seed; }

  /// Records the tile from now on. Throws std::runtime_error if the file cannot be written.
  void record(const TileWaves &waves);
  /// Ends the recording; returns the cycles that are in the file.
  uint64_t stop_recording();

 private:
  struct Command;

  void do_load(const Load &in, const Booking &booking) override;
  void do_multiply(const Multiply &in, const Booking &booking) override;
  void do_drain(const Drain &in, TileTarget target, const Booking &booking) override;
  void do_reset() override;

  Command &add(uint64_t start, const Booking &booking);
  uint32_t noise();
  void differ(std::string what);
  void run(uint64_t until);
  bool probes(const Command &next) const;
  bool offer_command();
  void offer_rows();
  void offer_weights(Command &command);
  void take_command();
  void take_rows();
  void take_weights(Command &command);
  void drained(Command &command);

  std::unique_ptr<rtl::ScaSim> sim_;
  // Commands that are not complete. The queues of the ports point into it.
  std::deque<std::unique_ptr<Command>> commands_;
  std::deque<Command *> waiting_, activations_, weights_, drains_;
  uint64_t cycle_ = 0;    // the simulation is in this cycle
  bool running_ = false;  // not idle
  uint64_t expected_idle_ = 0;
  uint64_t stall_seed_ = 0;
  TileWaves waves_;
  bool recording_ = false;
  uint64_t recorded_ = 0;
  uint64_t differences_ = 0;
  std::string first_difference_;
};

/// Throws std::runtime_error for an RTL shape that is not built, std::invalid_argument for an impossible shape.
std::unique_ptr<ScaTile> make_sca_tile(const ScaShape &shape, bool rtl);

}  // namespace cx::hw
