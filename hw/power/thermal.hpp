// Temperature of a die and its heat sink: two thermal resistances and two heat capacities.
#ifndef HW_POWER_THERMAL_HPP
#define HW_POWER_THERMAL_HPP

#include <cstdint>

namespace cx::hw {

struct ThermalParams {
  double ambient_c = 35;
  double r_junction_c_per_w = 0.2;  // junction to sink
  double c_junction_j_per_c = 0.15;
  double r_sink_c_per_w = 0.5;  // sink to ambient
  double c_sink_j_per_c = 140;
};

// The network
//   c_junction dTj/dt = P - (Tj - Ts) / r_junction
//   c_sink     dTs/dt = (Tj - Ts) / r_junction - (Ts - ambient) / r_sink
// solved in closed form while P is constant: no error grows with the length of a step.
class ThermalNetwork {
 public:
  explicit ThermalNetwork(const ThermalParams &params);

  // Lets `seconds` pass with `watts` of heat in the die.
  void advance(double watts, double seconds);
  // Everything at ambient temperature.
  void reset() { junction_ = sink_ = params_.ambient_c; }

  double junction_c() const { return junction_; }
  double sink_c() const { return sink_; }
  // Where the junction goes with constant heat.
  double steady_c(double watts) const {
    return params_.ambient_c + watts * (params_.r_junction_c_per_w + params_.r_sink_c_per_w);
  }
  // Seconds until the junction, hotter now, has cooled to `celsius` with constant heat; negative if it never does.
  double seconds_to_cool(double watts, double celsius) const;

 private:
  ThermalParams params_;
  double junction_, sink_;
  // d(Tj, Ts)/dt = A (T - T_steady), A = {{-a, a}, {b, -b - c}}; both eigenvalues are real and negative.
  double a_, b_, c_;
  double slow_, fast_;
};

struct ThrottleParams {
  double throttle_c = 95;
  double trip_c = 110;
  double window_s = 10e-6;
};

// Decides from the temperature at the end of each window how many of 16 clock edges the engines skip.
class Throttle {
 public:
  static constexpr unsigned kEdges = 16;
  static constexpr double kHysteresis = 2;  // degrees below throttle_c at which an edge is given back

  explicit Throttle(const ThrottleParams &params) : params_(params) {}

  // One step for each window: up to 15 skipped edges while hotter than throttle_c, one less while cool again.
  void decide(double celsius);
  unsigned skipped() const { return skipped_; }
  bool too_hot(double celsius) const { return celsius > params_.trip_c; }
  double cool_c() const { return params_.throttle_c - kHysteresis; }
  // What `cycles` become when edges are skipped.
  std::uint64_t stretched(std::uint64_t cycles) const {
    return (cycles * kEdges + kEdges - skipped_ - 1) / (kEdges - skipped_);
  }
  void reset() { skipped_ = 0; }

 private:
  ThrottleParams params_;
  unsigned skipped_ = 0;
};

}  // namespace cx::hw

#endif
