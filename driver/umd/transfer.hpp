// Copies between host and device that go on while the host does something else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cx {

/// Bytes that one packet copies at most.
inline constexpr uint64_t kLargestCopy = uint64_t{1} << 30;

class Device;
class Queue;

/// A copy under way; move-only; default-constructed: done. Pinned host memory is one packet for each GiB, queued at
/// once. Pageable memory goes through staging memory in two halves: while the device copies one, the host fills or
/// empties the other, which it does in poll() and wait(). A packet that is queued before the transfer is done is
/// therefore not ordered behind all of a pageable one. The device outlives it. The destructor waits for what the device
/// still has to do.
class Transfer {
 public:
  Transfer();
  Transfer(Transfer &&other) noexcept;
  Transfer &operator=(Transfer &&other) noexcept;
  ~Transfer();

  /// Does what can be done without letting time pass. True: the copy is complete. Throws DeviceFault when a part
  /// failed; the rest is then not copied.
  bool poll();
  /// Goes on until the copy is complete. Throws as poll(), and TimeoutError after limit_us of simulated time without
  /// progress (0: the device's wait_limit_us).
  void wait(uint64_t limit_us = 0);
  /// Queues nothing more. True: what was queued has ended, however it did. Lets no time pass.
  bool stop();
  bool pinned() const;            ///< the host memory went by DMA where it lies
  uint64_t start_cycles() const;  ///< device time at which the first part began; 0 before
  uint64_t end_cycles() const;    ///< and at which the last part so far ended

 private:
  friend class Device;
  struct State;
  explicit Transfer(std::unique_ptr<State> state);
  void issue();
  void retire();
  std::unique_ptr<State> state_;
};

}  // namespace cx
