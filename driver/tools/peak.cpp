#include "driver/tools/peak.hpp"

namespace cx::tools {

std::vector<isa::DType> formats_of(const Target &target) {
  std::vector<isa::DType> formats;
  for (unsigned n = 0; n < isa::kDTypeCount; ++n) {
    if ((target.formats >> n & 1U) != 0) formats.push_back(static_cast<isa::DType>(n));
  }
  return formats;
}

double peak_tops(const Target &target, isa::DType format) {
  const bool packed = format == isa::DType::FP8_E4M3 || format == isa::DType::FP8_E5M2 || format == isa::DType::INT8;
  const double pack = packed ? target.tile_pack : 1;
  return 2e-9 * pack * target.tiles * target.tile_rows * target.tile_cols * target.clock_khz;
}

Estimate tops_per_watt(double tops, const Estimate &watts) {
  return {tops / watts.value, tops / watts.most, tops / watts.least};
}

}  // namespace cx::tools
