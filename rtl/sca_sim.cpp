#include "rtl/sca_sim.hpp"

#include <stdexcept>

namespace cx::rtl {

#define CX_RTL_SCA_TILE(rows, cols, acc_rows, depth, window, queue, factory) std::unique_ptr<ScaSim> factory();
#include "rtl_sca_tiles.inc"
#undef CX_RTL_SCA_TILE

namespace {

struct Variant {
  ScaShape shape;
  std::unique_ptr<ScaSim> (*make)();
};

const std::vector<Variant> &variants() {
  static const std::vector<Variant> all = {
#define CX_RTL_SCA_TILE(rows, cols, acc_rows, depth, window, queue, factory) \
  {{rows, cols, acc_rows, depth, window, queue}, factory},
#include "rtl_sca_tiles.inc"
#undef CX_RTL_SCA_TILE
  };
  return all;
}

}  // namespace

std::string to_string(const ScaShape &shape) {
  std::string text = std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + "x" +
                     std::to_string(shape.acc_rows) + "x" + std::to_string(shape.depth);
  if (shape.window != 32) text += "/window=" + std::to_string(shape.window);
  if (shape.queue != 4) text += "/queue=" + std::to_string(shape.queue);
  return text;
}

const std::vector<ScaShape> &built_sca_tiles() {
  static const std::vector<ScaShape> shapes = [] {
    std::vector<ScaShape> result;
    for (const Variant &variant : variants()) result.push_back(variant.shape);
    return result;
  }();
  return shapes;
}

std::unique_ptr<ScaSim> make_sca_sim(const ScaShape &shape) {
  std::string built;
  for (const Variant &variant : variants()) {
    if (variant.shape == shape) return variant.make();
    built += (built.empty() ? "" : ";") + to_string(variant.shape);
  }
  throw std::runtime_error("this build has no RTL sparse tile of shape " + to_string(shape) + "; it has " +
                           (built.empty() ? "none" : built) + ". Configure with -DCX_RTL_SCA_TILES=\"" + built +
                           (built.empty() ? "" : ";") + to_string(shape) + "\" and build again");
}

}  // namespace cx::rtl
