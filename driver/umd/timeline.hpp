// A number in host memory that only grows; the device and the host raise it and wait for it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "driver/umd/queue.hpp"

namespace cx {

class CommandBuffer;
class Device;

/// Cheap to copy; copies are the same timeline. Its memory lives until no packet names it any more. Outlives no device.
/// Raising it to less than it has leaves it alone.
class Timeline {
 public:
  explicit Timeline(Device &device, uint64_t value = 0);

  uint64_t value() const;  ///< lets no time pass
  /// The host raises it, by a packet of the device's default queue that waits for nothing, so that values that the
  /// device raises meanwhile are not lost. Returns when it is done.
  void signal(uint64_t value) const;
  /// Lets simulated time pass until the value is reached, at most limit_us of it (0: the device's wait_limit_us); then
  /// TimeoutError. While the device is idle and nobody has submitted a signal of the value, another thread has
  /// `patience` of host time to do so.
  void wait(uint64_t value, uint64_t limit_us = 0, std::chrono::milliseconds patience = {}) const;

  /// In a queue's order, when what is before it in the queue has ended: raises it.
  Fence signal_in(Queue &queue, uint64_t value, const Submit &how = {}) const;
  /// Holds back what follows in the queue until the value is reached.
  Fence wait_in(Queue &queue, uint64_t value, const Submit &how = {}) const;
  /// Lets no simulated time pass: sleeps until another thread has submitted a signal of the value. False at the
  /// deadline.
  bool await_promise(uint64_t value, std::chrono::steady_clock::time_point deadline) const;
  /// The largest value whose signal has been submitted: the device reaches it without more from the host.
  uint64_t promised() const;

 private:
  friend class CommandBuffer;
  friend class Queue;
  struct State;
  void promise(uint64_t value) const;
  uint64_t iova() const;
  bool same_as(const Timeline &other) const { return state_ == other.state_; }
  std::shared_ptr<State> state_;
};

}  // namespace cx
