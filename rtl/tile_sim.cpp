#include "rtl/tile_sim.hpp"

#include <stdexcept>

namespace cx::rtl {

#define CX_RTL_TILE(rows, cols, acc_rows, factory) std::unique_ptr<TileSim> factory();
#include "rtl_tiles.inc"
#undef CX_RTL_TILE

namespace {

struct Variant {
  TileShape shape;
  std::unique_ptr<TileSim> (*make)();
};

const std::vector<Variant> &variants() {
  static const std::vector<Variant> all = {
#define CX_RTL_TILE(rows, cols, acc_rows, factory) {{rows, cols, acc_rows}, factory},
#include "rtl_tiles.inc"
#undef CX_RTL_TILE
  };
  return all;
}

}  // namespace

std::string to_string(const TileShape &shape) {
  return std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + "x" + std::to_string(shape.acc_rows);
}

const std::vector<TileShape> &built_tiles() {
  static const std::vector<TileShape> shapes = [] {
    std::vector<TileShape> result;
    for (const Variant &variant : variants()) result.push_back(variant.shape);
    return result;
  }();
  return shapes;
}

std::unique_ptr<TileSim> make_tile_sim(const TileShape &shape) {
  std::string built;
  for (const Variant &variant : variants()) {
    if (variant.shape == shape) return variant.make();
    built += (built.empty() ? "" : ";") + to_string(variant.shape);
  }
  throw std::runtime_error("this build has no RTL tile of shape " + to_string(shape) +
                           " (rows x cols x acc_rows); it has " + (built.empty() ? "none" : built) +
                           ". Configure with -DCX_RTL_TILES=\"" + built + (built.empty() ? "" : ";") +
                           to_string(shape) + "\" and build again");
}

}  // namespace cx::rtl
