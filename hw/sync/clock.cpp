#include "hw/sync/clock.hpp"

#include <cmath>
#include <stdexcept>

namespace cx::hw {

Clock::Clock(double mhz) {
  if (!(mhz > 0 && mhz <= 100000)) {
    throw std::invalid_argument("clock: frequency must be above 0 and at most 100000 MHz");
  }
  period_ps_ = static_cast<std::uint64_t>(std::llround(1e6 / mhz));
}

}  // namespace cx::hw
