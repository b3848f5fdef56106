#include "hw/power/thermal.hpp"

#include <cmath>

namespace cx::hw {

ThermalNetwork::ThermalNetwork(const ThermalParams &params)
    : params_(params),
      junction_(params.ambient_c),
      sink_(params.ambient_c),
      a_(1 / (params.r_junction_c_per_w * params.c_junction_j_per_c)),
      b_(1 / (params.r_junction_c_per_w * params.c_sink_j_per_c)),
      c_(1 / (params.r_sink_c_per_w * params.c_sink_j_per_c)) {
  const double trace = a_ + b_ + c_;
  const double root = std::sqrt(trace * trace - 4 * a_ * c_);
  fast_ = -(trace + root) / 2;
  slow_ = a_ * c_ / fast_;  // the product of both is a c: no difference of close numbers
}

void ThermalNetwork::advance(double watts, double seconds) {
  const double sink_steady = params_.ambient_c + watts * params_.r_sink_c_per_w;
  const double junction_steady = sink_steady + watts * params_.r_junction_c_per_w;
  const double x = junction_ - junction_steady, y = sink_ - sink_steady;
  // exp(A t) = (e^slow (A - fast) - e^fast (A - slow)) / (slow - fast)
  const double slow = std::exp(slow_ * seconds), fast = std::exp(fast_ * seconds);
  const double linear = (slow - fast) / (slow_ - fast_), constant = (fast * slow_ - slow * fast_) / (slow_ - fast_);
  junction_ = junction_steady + linear * (-a_ * x + a_ * y) + constant * x;
  sink_ = sink_steady + linear * (b_ * x - (b_ + c_) * y) + constant * y;
}

double ThermalNetwork::seconds_to_cool(double watts, double celsius) const {
  if (junction_ <= celsius) return 0;
  if (steady_c(watts) >= celsius) return -1;
  const auto hot_after = [&](double seconds) {
    ThermalNetwork later = *this;
    later.advance(watts, seconds);
    return later.junction_ > celsius;
  };
  double least = 0, most = -1 / fast_;
  while (hot_after(most)) {
    least = most;
    most *= 2;
  }
  constexpr int kHalvings = 60;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (least + most) / 2;
    (hot_after(middle) ? least : most) = middle;
  }
  return most;
}

void Throttle::decide(double celsius) {
  if (celsius > params_.throttle_c) {
    if (skipped_ < kEdges - 1) ++skipped_;
  } else if (celsius < cool_c() && skipped_ > 0) {
    --skipped_;
  }
}

}  // namespace cx::hw
