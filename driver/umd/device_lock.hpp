// Turns of the threads that use a device.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace cx {

/// A recursive lock that threads get in the order in which they asked: one that waits for the device in small steps
/// lets every other in between two of them.
class DeviceLock {
 public:
  void lock() {
    std::unique_lock guard(mutex_);
    if (owner_ != std::this_thread::get_id()) {
      const uint64_t ticket = next_ticket_++;
      changed_.wait(guard, [&] { return serving_ == ticket && depth_ == 0; });
      owner_ = std::this_thread::get_id();
    }
    ++depth_;
  }
  /// Takes the turn if nobody has it or waits for it.
  bool try_lock() {
    const std::lock_guard guard(mutex_);
    if (owner_ != std::this_thread::get_id()) {
      if (depth_ != 0 || serving_ != next_ticket_) return false;
      ++next_ticket_;
      owner_ = std::this_thread::get_id();
    }
    ++depth_;
    return true;
  }
  void unlock() {
    const std::lock_guard guard(mutex_);
    if (--depth_ != 0) return;
    owner_ = {};
    ++serving_;
    if (serving_ != next_ticket_) changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread::id owner_;
  unsigned depth_ = 0;
  uint64_t next_ticket_ = 0, serving_ = 0;
};

}  // namespace cx
