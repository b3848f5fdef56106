#include "driver/umd/timeline.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>

#include "driver/umd/device.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/packets.h"

namespace cx {

struct Timeline::State {
  Device &device;
  HostBuffer memory;
  uint64_t promised;
  std::condition_variable_any promise;  // goes with the device's lock

  std::atomic_ref<uint64_t> word() const { return std::atomic_ref(*reinterpret_cast<uint64_t *>(memory.data())); }
};

Timeline::Timeline(Device &device, uint64_t value) {
  const std::lock_guard lock(device.lock());
  state_.reset(new State{device, device.allocate_host(sizeof value), value, {}});
  state_->word().store(value, std::memory_order_release);
}

uint64_t Timeline::value() const { return state_->word().load(std::memory_order_acquire); }

uint64_t Timeline::iova() const { return state_->memory.iova(); }

uint64_t Timeline::promised() const {
  const std::lock_guard lock(state_->device.lock());
  return state_->promised;
}

void Timeline::promise(uint64_t value) const {
  if (value <= state_->promised) return;
  state_->promised = value;
  state_->promise.notify_all();
  state_->device.make_progress();
}

void Timeline::signal(uint64_t value) const { signal_in(state_->device.queue(), value, {.barrier = false}).wait(); }

Fence Timeline::signal_in(Queue &queue, uint64_t value, const Submit &how) const {
  const std::lock_guard lock(state_->device.lock());
  Fence fence = queue.signal_max(state_->memory.iova(), value, how);
  queue.keep(fence, state_);
  promise(value);
  return fence;
}

Fence Timeline::wait_in(Queue &queue, uint64_t value, const Submit &how) const {
  const std::lock_guard lock(state_->device.lock());
  Fence fence = queue.wait_value(state_->memory.iova(), CX_COMPARE_GE, value, how);
  queue.keep(fence, state_);
  return fence;
}

bool Timeline::await_promise(uint64_t value, std::chrono::steady_clock::time_point deadline) const {
  std::unique_lock lock(state_->device.lock());
  return state_->promise.wait_until(lock, deadline, [&] { return state_->promised >= value; });
}

void Timeline::wait(uint64_t value, uint64_t limit_us, std::chrono::milliseconds patience) const {
  Device &device = state_->device;
  const auto host_deadline = std::chrono::steady_clock::now() + patience;
  const uint64_t limit = limit_us ? limit_us : device.options().wait_limit_us;
  const uint64_t deadline_ps = device.time_ps() + limit * 1'000'000;
  for (;;) {
    const uint64_t known = promised();
    if (device.wait_until_idle([&] { return this->value() >= value; }, deadline_ps)) return;
    const bool late = device.time_ps() >= deadline_ps;
    // A signal that was submitted since then has woken the device.
    if (!late && (promised() != known || (known < value && await_promise(value, host_deadline)))) continue;
    const std::lock_guard lock(device.lock());
    device.no_answer("timeline value " + std::to_string(value) + ", which stands at " + std::to_string(this->value()),
                     limit, !late);
  }
}

}  // namespace cx
