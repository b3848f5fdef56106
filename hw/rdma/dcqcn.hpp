// Rate control of a queue pair: DCQCN (Zhu et al., "Congestion Control for Large-Scale RDMA Deployments", SIGCOMM
// 2015).
#ifndef HW_RDMA_DCQCN_HPP
#define HW_RDMA_DCQCN_HPP

#include <cstdint>

#include "hw/link/event_queue.hpp"

namespace cx::hw::net {

struct DcqcnParams {
  bool on = false;
  double gain = 1.0 / 256;      // g
  Ps alpha_timer = 55'000'000;  // so often without a notification alpha decays
  // The target falls to the rate at every notification, as published; otherwise only at the first after an increase, so
  // that a burst of notifications does not take from what fast recovery comes back to.
  bool clamp_target = true;
  Ps increase_timer = 55'000'000;             // T
  std::uint64_t increase_bytes = 10'000'000;  // B
  unsigned fast_recovery = 5;                 // F, steps
  double additive = 40e6 / 8;                 // bytes per second
  double hyper = 400e6 / 8;                   // bytes per second
  double least = 100e6 / 8;                   // bytes per second
  Ps notification_interval = 50'000'000;      // a receiver sends one at most so often for a queue pair
};

class Dcqcn {
 public:
  Dcqcn(const DcqcnParams &params, double line_rate)
      : params_(params), line_(line_rate), rate_(line_rate), target_(line_rate) {}

  double rate() const { return rate_; }
  // As the next notification at `now` would find it.
  double alpha(Ps now) const;
  bool limited() const { return rate_ < line_; }

  void notified(Ps now);
  void sent(std::uint64_t bytes);
  // Once every increase_timer since the last notification.
  void increase_expired();

 private:
  void increase();

  DcqcnParams params_;
  double line_, rate_, target_, alpha_ = 1;
  unsigned timer_steps_ = 0, byte_steps_ = 0;
  std::uint64_t bytes_ = 0;
  Ps last_ = kNever;  // notification
  bool increased_ = true;
};

}  // namespace cx::hw::net

#endif
