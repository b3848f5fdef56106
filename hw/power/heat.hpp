// The die's temperature over the power that the chip takes, and what it does to the engines.
#ifndef HW_POWER_HEAT_HPP
#define HW_POWER_HEAT_HPP

#include <cstdint>
#include <functional>
#include <systemc>

#include "hw/config/gen/chip.hpp"
#include "hw/engine/timing.hpp"
#include "hw/power/power.hpp"
#include "hw/power/thermal.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

// Nothing is scheduled: temperature is computed when an instruction issues a window after the last time, or when
// somebody asks. What the instructions before took is spread over the time up to a window after the last of them; the
// rest of the time has leakage alone.
class Heat : public ThermalReadings {
 public:
  // `die_leakage` in mW. `trip` stops the engines for a time that the die takes to cool, zero if it never does.
  Heat(const Clock &clock, const config::Chip &chip, const Power &power, double die_leakage_mw,
       std::function<void(double celsius, const sc_core::sc_time &cooling)> trip);

  // An instruction issues now, at the kernel's present time.
  void issued();
  // What an instruction that issues now takes at present.
  Timing stretched(const Timing &timing);

  Reading read(Cycles now) const override;
  unsigned skipped_edges() const override { return throttle_.skipped(); }

  // Power-on: ambient temperature, nothing throttled.
  void reset();

 private:
  struct State {
    ThermalNetwork network;
    double peak_c;
    Cycles time = 0;     // up to which the network has been computed
    Power::Work heated;  // what has become heat
  };

  // The state at `now`; nothing is decided.
  State at(Cycles now) const;
  double seconds(Cycles cycles) const { return 1e-12 * static_cast<double>(cycles * clock_.period_ps()); }

  Clock clock_;
  const Power &power_;
  double leakage_w_;
  Cycles window_;
  std::function<void(double, const sc_core::sc_time &)> trip_;
  Throttle throttle_;
  State state_;
  Cycles busy_until_ = 0;
  Cycles throttled_ = 0;
};

}  // namespace cx::hw

#endif
