// A Verilated sparse tile behind one interface for all built shapes: pins in, one clock cycle at a time, pins out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cx::rtl {

/// Parameters of rtl/sca/cx_sca.sv.
struct ScaShape {
  /// Positions that the window moves on in a cycle, at most; fixed.
  static constexpr uint32_t kAdvance = 8;

  uint32_t rows = 0;  ///< lanes
  uint32_t cols = 0;
  uint32_t acc_rows = 0;  ///< groups of columns whose sums the accumulators hold
  uint32_t depth = 0;     ///< vectors in each of the two banks of activations
  uint32_t window = 32;   ///< positions that columns may be apart
  uint32_t queue = 4;     ///< weights in a column's queue

  bool operator==(const ScaShape &) const = default;
};

/// As in the CMake list CX_RTL_SCA_TILES: "8x8x32x256", "32x32x64x2048/window=16/queue=3".
std::string to_string(const ScaShape &shape);

/// Pins of rtl/sca/cx_sca.sv. Change `in` and the words, then call settle() to see combinational outputs of the
/// present cycle in `out`, or tick() to pass the rising clock edge; outputs are then those of the new cycle with the
/// old inputs. Only cmd_ready (operation, rows) and p_ready (d_ready) need settle() after a change of inputs.
class ScaSim {
 public:
  enum class Op : uint8_t { kLoad = 0, kMul = 1, kDrain = 2 };
  static constexpr unsigned kCounters = 10;
  static constexpr uint32_t kLast = 1u << 16, kEmpty = 1u << 17;  ///< of a w_place, with the row below

  struct Inputs {
    bool cmd_valid = false;
    Op cmd_op = Op::kLoad;
    uint8_t cmd_fmt = 0;
    uint8_t cmd_m = 0;
    uint16_t cmd_k = 0;
    uint16_t cmd_n = 0;
    uint16_t cmd_groups = 0;
    uint16_t cmd_acc_row = 0;
    bool cmd_accumulate = false;
    bool cmd_integer = false;
    bool cmd_has_scale = false;
    bool cmd_has_bias = false;
    uint8_t cmd_act = 0;
    uint32_t cmd_lo = 0;
    uint32_t cmd_hi = 0;
    bool a_valid = false;
    uint64_t w_valid[2] = {0, 0};  ///< bit c % 64 of word c / 64
    bool p_valid = false;
    uint32_t p_scale = 0;
    uint32_t p_bias = 0;
    bool d_ready = false;
  };
  struct Outputs {
    bool cmd_ready = false;
    bool idle = false;
    bool a_ready = false;
    uint64_t w_ready[2] = {0, 0};
    bool p_ready = false;
    bool d_valid = false;
  };

  Inputs in;
  Outputs out;
  uint32_t *a_row = nullptr;        ///< rows raw words
  uint32_t *w_word = nullptr;       ///< cols raw words
  uint32_t *w_place = nullptr;      ///< cols places
  const uint32_t *d_row = nullptr;  ///< rows drained elements, valid with out.d_valid

  virtual ~ScaSim() = default;
  virtual const ScaShape &shape() const = 0;
  virtual void reset() = 0;
  virtual void settle() = 0;
  virtual void tick() = 0;
  /// From now on tick_recorded() writes to an FST file. Throws std::runtime_error if it cannot be written.
  virtual void open_waves(const std::string &path) = 0;
  virtual void close_waves() = 0;
  /// tick() whose rising edge is at the end of the cycle that begins at `start_ps`. The inputs show from its middle on.
  virtual void tick_recorded(uint64_t start_ps, uint64_t period_ps) = 0;
  /// Event counter as in rtl/sca/cx_sca_counters.sv, below kCounters.
  virtual uint64_t count(unsigned counter) = 0;
};

/// Shapes that this build has (CMake list CX_RTL_SCA_TILES).
const std::vector<ScaShape> &built_sca_tiles();

/// Throws std::runtime_error that says how to build the shape if this build does not have it.
std::unique_ptr<ScaSim> make_sca_sim(const ScaShape &shape);

}  // namespace cx::rtl
