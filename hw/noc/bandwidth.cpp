#include "hw/noc/bandwidth.hpp"

#include <cmath>
#include <stdexcept>

namespace cx::hw {

BandwidthServer::BandwidthServer(double bytes_per_cycle) {
  // 2^-15 bytes per cycle keeps the scaled cost of a byte within 64 bits.
  if (!(bytes_per_cycle > 1.0 / 32768 && bytes_per_cycle < 1e9)) {
    throw std::invalid_argument("bandwidth must be positive, in bytes per cycle");
  }
  per_byte_ = static_cast<std::uint64_t>(std::llround(std::ldexp(1.0 / bytes_per_cycle, kFraction + 32)));
}

}  // namespace cx::hw
