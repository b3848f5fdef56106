#include "hw/rdma/dcqcn.hpp"

#include <algorithm>
#include <cmath>

namespace cx::hw::net {

double Dcqcn::alpha(Ps now) const {
  if (last_ == kNever) return alpha_;
  return alpha_ * std::pow(1 - params_.gain, static_cast<double>((now - last_) / params_.alpha_timer));
}

void Dcqcn::notified(Ps now) {
  alpha_ = alpha(now);
  last_ = now;
  if (params_.clamp_target || increased_) target_ = rate_;
  increased_ = false;
  rate_ = std::max(params_.least, rate_ * (1 - alpha_ / 2));
  alpha_ = (1 - params_.gain) * alpha_ + params_.gain;
  timer_steps_ = byte_steps_ = 0;
  bytes_ = 0;
}

void Dcqcn::sent(std::uint64_t bytes) {
  if (!limited()) return;
  bytes_ += bytes;
  if (bytes_ < params_.increase_bytes) return;
  bytes_ -= params_.increase_bytes;
  ++byte_steps_;
  increase();
}

void Dcqcn::increase_expired() {
  ++timer_steps_;
  increase();
}

void Dcqcn::increase() {
  if (std::min(timer_steps_, byte_steps_) > params_.fast_recovery) {
    target_ += params_.hyper;
  } else if (std::max(timer_steps_, byte_steps_) > params_.fast_recovery) {
    target_ += params_.additive;
  }
  target_ = std::min(target_, line_);
  rate_ = (target_ + rate_) / 2;
  increased_ = true;
  // Halving never arrives; the last per mille is no limit.
  if (rate_ > line_ * 0.999) rate_ = line_;
}

}  // namespace cx::hw::net
