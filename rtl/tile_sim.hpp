// A Verilated MAC tile behind one interface for all built shapes: pins in, one clock cycle at a time, pins out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cx::rtl {

/// Parameters of rtl/tile/cx_tile.sv.
struct TileShape {
  static constexpr uint8_t kAllFormats = 0x3F;

  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t acc_rows = 0;
  uint32_t pack = 1;              ///< products of an 8-bit format per processing element and cycle: 1, 2 or 4
  uint32_t stages = 1;            ///< cycles of a processing element's step
  uint8_t formats = kAllFormats;  ///< bit n: isa dtype n is multiplied

  bool operator==(const TileShape &) const = default;
  /// An RTL tile of this shape can stand for one of `other`: the same but for formats that it has beyond.
  bool serves(const TileShape &other) const;
};

/// As in the CMake list CX_RTL_TILES: "32x32x1024", "8x8x256/pack=2/stages=3/formats=FP16+INT8".
std::string to_string(const TileShape &shape);

/// Pins of rtl/tile/cx_tile.sv. Change `in` and the rows, then call settle() to see combinational outputs of the
/// present cycle in `out`, or tick() to pass the rising clock edge; outputs are then those of the new cycle with the
/// old inputs. Only cmd_ready (which depends on the operation) and, in an output-stationary pass, w_ready and a_ready
/// (which depend on each other's valid) need settle() after a change of inputs.
class TileSim {
 public:
  enum class Op : uint8_t { kLoad = 0, kMul = 1, kDrain = 2, kMulOs = 3 };
  static constexpr unsigned kCounters = 9;

  struct Inputs {
    bool cmd_valid = false;
    Op cmd_op = Op::kLoad;
    uint8_t cmd_fmt = 0;
    uint8_t cmd_wfmt = 0;
    uint16_t cmd_m = 0;
    uint16_t cmd_k = 0;
    uint8_t cmd_n = 0;
    uint16_t cmd_acc_row = 0;
    bool cmd_accumulate = false;
    bool cmd_scaled = false;
    bool cmd_integer = false;
    bool cmd_has_scale = false;
    bool cmd_has_bias = false;
    uint8_t cmd_act = 0;
    uint32_t cmd_lo = 0;
    uint32_t cmd_hi = 0;
    bool w_valid = false;
    bool a_valid = false;
    uint32_t a_scale = 0;
    bool p_valid = false;
    bool d_ready = false;
    bool acc_inject = false;
  };
  struct Outputs {
    bool cmd_ready = false;
    bool idle = false;
    bool w_ready = false;
    bool a_ready = false;
    bool p_ready = false;
    bool d_valid = false;
  };

  Inputs in;
  Outputs out;
  uint32_t *w_row = nullptr;        ///< cols raw words
  uint32_t *a_row = nullptr;        ///< rows raw words
  uint32_t *p_row = nullptr;        ///< cols FP32 values
  const uint32_t *d_row = nullptr;  ///< cols drained elements, valid with out.d_valid

  virtual ~TileSim() = default;
  virtual const TileShape &shape() const = 0;
  virtual void reset() = 0;
  virtual void settle() = 0;
  virtual void tick() = 0;
  /// From now on tick_recorded() writes to an FST file. Throws std::runtime_error if it cannot be written.
  virtual void open_waves(const std::string &path) = 0;
  virtual void close_waves() = 0;
  /// tick() whose rising edge is at the end of the cycle that begins at `start_ps`. The inputs show from its middle on.
  virtual void tick_recorded(uint64_t start_ps, uint64_t period_ps) = 0;
  /// Event counter as in rtl/tile/cx_tile_counters.sv, below kCounters.
  virtual uint64_t count(unsigned counter) = 0;
};

/// Shapes that this build has (CMake list CX_RTL_TILES).
const std::vector<TileShape> &built_tiles();

/// The first of built_tiles() that serves the shape. Throws std::runtime_error that says how to build it if none does.
std::unique_ptr<TileSim> make_tile_sim(const TileShape &shape);

}  // namespace cx::rtl
