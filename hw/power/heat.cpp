#include "hw/power/heat.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace cx::hw {

namespace {

ThermalParams network_of(const config::Chip &chip) {
  const auto &t = chip.thermal;
  return {t.ambient_c, t.r_junction_c_per_w, t.c_junction_j_per_c, t.r_sink_c_per_w, t.c_sink_j_per_c};
}

ThrottleParams throttle_of(const config::Chip &chip) {
  return {chip.thermal.throttle_c, chip.thermal.trip_c, 1e-6 * chip.thermal.window_us};
}

}  // namespace

Heat::Heat(const Clock &clock, const config::Chip &chip, const Power &power, double die_leakage_mw,
           std::function<void(double, const sc_core::sc_time &)> trip)
    : clock_(clock),
      power_(power),
      leakage_w_(1e-3 * die_leakage_mw),
      window_(std::max<Cycles>(
          1, static_cast<Cycles>(std::llround(1e6 * chip.thermal.window_us / static_cast<double>(clock.period_ps()))))),
      trip_(std::move(trip)),
      throttle_(throttle_of(chip)),
      state_{ThermalNetwork(network_of(chip)), chip.thermal.ambient_c, 0, power.work()} {}

Heat::State Heat::at(Cycles now) const {
  State state = state_;
  if (now <= state.time) return state;
  const auto advance = [&](double watts, Cycles until) {
    state.network.advance(watts, seconds(until - state.time));
    state.peak_c = std::max(state.peak_c, state.network.junction_c());
    state.time = until;
  };
  const Power::Work work = power_.work();
  const double always = leakage_w_ + (work.traffic - state.heated.traffic) / seconds(now - state.time);
  const Cycles end = std::max(busy_until_, state.time + 1), worked = std::min(now, end);
  const double whole = seconds(end - state.time), units = work.units - state.heated.units;
  state.heated = {state.heated.units + units * (seconds(worked - state.time) / whole), work.traffic};
  advance(always + units / whole, worked);
  if (worked < now) advance(always, now);
  return state;
}

void Heat::issued() {
  const Cycles now = clock_.floor(sc_core::sc_time_stamp());
  const Cycles windows = (now - state_.time) / window_;
  if (windows != 0) {
    if (throttle_.skipped() != 0) throttled_ += now - state_.time;
    state_ = at(now);
    const double celsius = state_.network.junction_c();
    // A long rest gives several edges back, but takes no more than one.
    throttle_.decide(celsius);
    for (Cycles i = 1; i < std::min<Cycles>(windows, Throttle::kEdges) && celsius < throttle_.cool_c(); ++i) {
      throttle_.decide(celsius);
    }
    if (throttle_.too_hot(celsius)) {
      const double cooling = state_.network.seconds_to_cool(leakage_w_, throttle_.cool_c());
      trip_(celsius, cooling > 0 ? sc_core::sc_time(cooling, sc_core::SC_SEC) : sc_core::SC_ZERO_TIME);
    }
  }
}

Timing Heat::stretched(const Timing &timing) {
  const Timing result{throttle_.stretched(timing.accept_cycles), throttle_.stretched(timing.complete_cycles)};
  busy_until_ = std::max(busy_until_, clock_.floor(sc_core::sc_time_stamp()) + result.complete_cycles);
  return result;
}

Heat::Reading Heat::read(Cycles now) const {
  const State state = at(now);
  return {state.network.junction_c(), state.peak_c,
          throttled_ + (throttle_.skipped() != 0 && now > state_.time ? now - state_.time : 0)};
}

void Heat::reset() {
  state_.network.reset();
  state_.time = clock_.floor(sc_core::sc_time_stamp());
  state_.heated = power_.work();
  state_.peak_c = state_.network.junction_c();
  busy_until_ = state_.time;
  throttled_ = 0;
  throttle_.reset();
}

}  // namespace cx::hw
