#include "rtl/tile_sim.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>

namespace cx::rtl {

#define CX_RTL_TILE(rows, cols, acc_rows, pack, stages, formats, factory) std::unique_ptr<TileSim> factory();
#include "rtl_tiles.inc"
#undef CX_RTL_TILE

namespace {

struct Variant {
  TileShape shape;
  std::unique_ptr<TileSim> (*make)();
};

const std::vector<Variant> &variants() {
  static const std::vector<Variant> all = {
#define CX_RTL_TILE(rows, cols, acc_rows, pack, stages, formats, factory) \
  {{rows, cols, acc_rows, pack, stages, formats}, factory},
#include "rtl_tiles.inc"
#undef CX_RTL_TILE
  };
  return all;
}

}  // namespace

bool TileShape::serves(const TileShape &other) const {
  TileShape same = other;
  same.formats = formats;
  return *this == same && (other.formats & ~formats) == 0;
}

std::string to_string(const TileShape &shape) {
  static constexpr const char *kFormats[] = {"FP32", "FP16", "BF16", "FP8_E4M3", "FP8_E5M2", "INT8"};
  std::string text =
      std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + "x" + std::to_string(shape.acc_rows);
  if (shape.pack != 1) text += "/pack=" + std::to_string(shape.pack);
  if (shape.stages != 1) text += "/stages=" + std::to_string(shape.stages);
  if (shape.formats != TileShape::kAllFormats) {
    const char *separator = "/formats=";
    for (unsigned f = 0; f < std::size(kFormats); ++f) {
      if ((shape.formats >> f & 1) == 0) continue;
      text += std::string(separator) + kFormats[f];
      separator = "+";
    }
  }
  return text;
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
    if (variant.shape.serves(shape)) return variant.make();
    built += (built.empty() ? "" : ";") + to_string(variant.shape);
  }
  if (std::min(shape.rows, shape.cols) < CX_LEAST_SIDE || std::max(shape.rows, shape.cols) > CX_MOST_SIDE) {
    throw std::runtime_error("there is no RTL tile of shape " + to_string(shape) + ": RTL tiles have " +
                             std::to_string(CX_LEAST_SIDE) + " to " + std::to_string(CX_MOST_SIDE) +
                             " rows and columns, others are models");
  }
  throw std::runtime_error("this build has no RTL tile of shape " + to_string(shape) + "; it has " +
                           (built.empty() ? "none" : built) + ". Configure with -DCX_RTL_TILES=\"" + built +
                           (built.empty() ? "" : ";") + to_string(shape) + "\" and build again");
}

}  // namespace cx::rtl
