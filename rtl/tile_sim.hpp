// A Verilated MAC tile behind one interface for all built shapes: pins in, one clock cycle at a time, pins out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace cx::rtl {

struct TileShape {
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint32_t acc_rows = 0;
  bool operator==(const TileShape &) const = default;
};

/// "32x32x1024", as in the CMake list CX_RTL_TILES.
std::string to_string(const TileShape &shape);

/// Pins of rtl/tile/cx_tile.sv. Change `in` and the rows, then call settle() to see combinational outputs of the
/// present cycle in `out`, or tick() to pass the rising clock edge (which settles before and after).
class TileSim {
 public:
  enum class Op : uint8_t { kLoad = 0, kMul = 1, kDrain = 2 };

  struct Inputs {
    bool cmd_valid = false;
    Op cmd_op = Op::kLoad;
    uint8_t cmd_fmt = 0;
    uint16_t cmd_m = 0;
    uint8_t cmd_k = 0;
    uint8_t cmd_n = 0;
    uint16_t cmd_acc_row = 0;
    bool cmd_accumulate = false;
    bool w_valid = false;
    bool a_valid = false;
    bool d_ready = false;
  };
  struct Outputs {
    bool cmd_ready = false;
    bool idle = false;
    bool w_ready = false;
    bool a_ready = false;
    bool d_valid = false;
  };

  Inputs in;
  Outputs out;
  uint32_t *w_row = nullptr;        ///< cols raw elements
  uint32_t *a_row = nullptr;        ///< rows raw elements
  const uint32_t *d_row = nullptr;  ///< cols accumulator words, valid with out.d_valid

  virtual ~TileSim() = default;
  virtual const TileShape &shape() const = 0;
  virtual void reset() = 0;
  virtual void settle() = 0;
  virtual void tick() = 0;
};

/// Shapes that this build has (CMake list CX_RTL_TILES).
const std::vector<TileShape> &built_tiles();

/// Throws std::runtime_error that says how to build the shape if it is not among built_tiles().
std::unique_ptr<TileSim> make_tile_sim(const TileShape &shape);

}  // namespace cx::rtl
