#include "driver/umd/stream.hpp"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "driver/umd/device.hpp"
#include "hw/regs/gen/map.h"

namespace cx {

/// The packet that an event stands for; none while the stream holds it back.
struct Event::Mark {
  Device &device;
  Fence fence;
  bool done() const { return fence.valid() && fence.done(); }
};

struct StreamSet::Lane {
  Queue *queue;
  unsigned streams = 0;
};

struct Stream::State {
  using Signals = std::vector<std::pair<Timeline, uint64_t>>;
  /// What the driver holds back, or does at once when nothing is.
  struct Item {
    std::function<bool()> ready;  // empty: always; what it throws is the stream's error
    std::function<void()> act = {};
    bool for_others = false;                 // others may wait for it: happens after an error as well
    std::function<bool()> stop = {};         // after an error, of what has begun: whether it has ended
    std::span<const std::byte> memory = {};  // of the host, that it copies
    Signals signals = {};                    // that others may wait for, also when it is dropped
  };
  struct Running {
    Fence fence;
    Signals signals = {};  // that others may wait for, also when it fails
  };

  StreamSet &set;
  StreamSet::Lane &lane;
  uint32_t priority;
  std::deque<Item> held;
  std::deque<Running> running;
  std::exception_ptr error = {};
  bool orphan = false;  // its Stream is gone
  bool retry = false;   // waits for another device's turn, which no time brings

  Queue &queue() const { return *lane.queue; }
  Device &device() const { return set.device_; }

  /// Forgets packets that have ended; keeps the first error.
  void reap() {
    while (!running.empty() && running.front().fence.done()) {
      const Running ended = std::move(running.front());
      running.pop_front();
      if (ended.fence.fault()) make_up_for(ended.signals);
      note([&] { ended.fence.wait(); });
    }
  }

  bool ended() {
    reap();
    return held.empty() && running.empty();
  }

  void put(Item item) {
    const std::lock_guard lock(device().lock());
    reap();
    if (error) std::rethrow_exception(error);
    put_anyway(std::move(item));
    if (error) std::rethrow_exception(error);
  }

  void put_anyway(Item item) {
    const std::lock_guard lock(device().lock());
    held.push_back(std::move(item));
    device().make_progress();
  }

  void submit(const std::function<Fence(Queue &)> &operation) { running.push_back({operation(queue())}); }

  void make_up_for(const Signals &signals) {
    for (auto signal = signals.rbegin(); signal != signals.rend(); ++signal)
      held.push_front(signal_item(signal->first, signal->second));
  }

  Item signal_item(const Timeline &timeline, uint64_t value) {
    return {.ready = {},
            .act =
                [this, timeline, value] {
                  running.push_back({timeline.signal_in(queue(), value), {{timeline, value}}});
                },
            .for_others = true};
  }

  template <class Start>
  Item copy_item(std::span<const std::byte> memory, Start &&start) {
    auto transfer = std::make_shared<std::optional<Transfer>>();
    return {.ready =
                [transfer, start = std::forward<Start>(start)] {
                  if (!*transfer) *transfer = start();
                  return (*transfer)->poll();
                },
            .stop = [transfer] { return !*transfer || (*transfer)->stop(); },
            .memory = memory};
  }

  /// Puts a transfer of pinned memory on the queue, in parts. copy(offset, bytes) queues one of them.
  template <class Copy>
  void start_copies(uint64_t bytes, Copy &&copy) {
    for (uint64_t at = 0; at < bytes; at += kLargestCopy) {
      running.push_back({copy(at, std::min(kLargestCopy, bytes - at))});
    }
  }

  /// Does the oldest item if it is ready.
  bool step() {
    reap();
    if (held.empty()) return false;
    const Item &front = held.front();
    const bool dropped = error && !front.for_others;
    if (dropped) {
      if (front.stop && !front.stop()) return false;
    } else {
      // What others wait for is not lost with a card that has stopped: it may be recovered.
      if (front.for_others && device().dead()) return false;
      bool ready = true;
      if (front.ready && !note([&] { ready = front.ready(); })) return true;
      if (!ready) return false;
    }
    const Item item = std::move(held.front());
    held.pop_front();
    if (dropped) {
      make_up_for(item.signals);
    } else if (item.act) {
      note(item.act);
    }
    return true;
  }

 private:
  /// What the work throws is the stream's error. Whether it threw nothing.
  template <class Work>
  bool note(Work &&work) {
    try {
      work();
      return true;
    } catch (...) {
      if (!error) error = std::current_exception();
      return false;
    }
  }
};

// ---- events ----

bool Event::done() const {
  if (!mark_) return true;
  const std::lock_guard lock(mark_->device.lock());
  return mark_->done();
}

void Event::wait(uint64_t limit_us) const {
  if (!mark_) return;
  mark_->device.wait_until([&] { return mark_->done(); }, limit_us, "an event");
}

int64_t Event::cycles_since(const Event &earlier) const {
  if (!recorded() || !earlier.recorded() || !done() || !earlier.done())
    throw UsageError("the time between events is known when both are recorded and done");
  return static_cast<int64_t>(mark_->fence.wait_status().end - earlier.mark_->fence.wait_status().end);
}

// ---- streams ----

Stream::~Stream() {
  const std::lock_guard lock(state_->device().lock());
  state_->orphan = true;
}

uint32_t Stream::priority() const { return state_->priority; }

uint32_t Stream::queue_id() const { return state_->queue().id(); }

const Queue &Stream::queue() const { return state_->queue(); }

void Stream::enqueue(std::function<Fence(Queue &)> operation) {
  State &state = *state_;
  state.put({{}, [&state, operation = std::move(operation)] { state.submit(operation); }});
}

void Stream::execute(const CommandBuffer &commands) {
  if (!commands.finished()) throw UsageError("the command buffer is not finished");
  if (&commands.device_ != &state_->device()) throw UsageError("the command buffer belongs to another device");
  State &state = *state_;
  auto act = [&state, commands, held = commands.finished_->held] {
    state.running.push_back({state.queue().execute(commands), commands.signals()});
  };
  state.put({.ready = [commands] { return commands.can_run(); }, .act = std::move(act), .signals = commands.signals()});
}

void Stream::upload(uint64_t dst, std::span<const std::byte> src) {
  State &state = *state_;
  Device &device = state.device();
  device.check_device_range(dst, src.size(), "upload");
  state.put(state.copy_item(src, [&state, &device, dst, src]() -> Transfer {
    const auto pinned = device.pinned_address(src.data(), src.size());
    if (!pinned) return device.upload_async(state.queue(), dst, src);
    state.start_copies(src.size(), [&](uint64_t at, uint64_t bytes) {
      return state.queue().copy_to_device(dst + at, *pinned + at, bytes);
    });
    return {};
  }));
}

void Stream::download(std::span<std::byte> dst, uint64_t src) {
  State &state = *state_;
  Device &device = state.device();
  device.check_device_range(src, dst.size(), "download");
  state.put(state.copy_item(dst, [&state, &device, dst, src]() -> Transfer {
    const auto pinned = device.pinned_address(dst.data(), dst.size());
    if (!pinned) return device.download_async(state.queue(), dst, src);
    state.start_copies(dst.size(), [&](uint64_t at, uint64_t bytes) {
      return state.queue().copy_to_host(*pinned + at, src + at, bytes);
    });
    return {};
  }));
}

void Stream::copy_peer(Device &dst_device, uint64_t dst, uint64_t src, uint64_t bytes) {
  State &state = *state_;
  Device &device = state.device();
  dst_device.check_device_range(dst, bytes, "copy_peer");
  device.check_device_range(src, bytes, "copy_peer");
  if (bytes == 0) return;
  const bool inside = &dst_device == &device;
  // Not under this device's lock: two devices are locked in the order of the tables that it looks into.
  const uint64_t to = inside ? dst : device.peer_address(dst_device, dst, bytes);
  const auto require_target = [life = std::weak_ptr(dst_device.life_)] {
    if (life.expired()) throw UsageError("copy_peer: the target device has been closed");
  };
  // Another thread may hold that device's lock and wait for this one's: it is asked again.
  const auto with_target = [&state, &dst_device, require_target](const std::function<void()> &work) {
    if (!state.running.empty()) return false;
    require_target();
    const std::unique_lock other(dst_device.lock(), std::try_to_lock);
    state.retry = !other.owns_lock();
    if (other) work();
    return other.owns_lock();
  };
  if (to == 0) {
    state.put({[=, &device, &dst_device] {
      return with_target([&] { Device::copy_peer(dst_device, dst, device, src, bytes); });
    }});
    return;
  }
  state.put({{}, [=, &state] {
               require_target();
               state.start_copies(bytes, [&](uint64_t at, uint64_t part) {
                 return inside ? state.queue().copy_on_device(to + at, src + at, part)
                               : state.queue().copy_to_host(to + at, src + at, part, {.interrupt = true});
               });
             }});
  if (inside || !dst_device.transport().counts_peer_traffic()) return;
  state.put({[=, &dst_device] {
    return with_target([&] { dst_device.transport().peer_traffic(dst - CX_MEM_DRAM_BASE, bytes, true); });
  }});
}

void Stream::leave(std::function<void(const Queue &queue, const Fence &last)> function) {
  State &state = *state_;
  auto act = [&state, function = std::move(function)] {
    function(state.queue(), state.running.empty() ? Fence() : state.running.back().fence);
  };
  state.put_anyway({{}, std::move(act), true});
}

void Stream::signal(const Timeline &timeline, uint64_t value) {
  State &state = *state_;
  state.put(state.signal_item(timeline, value));
}

void Stream::wait(const Timeline &timeline, uint64_t value) {
  State &state = *state_;
  // A packet that waits for what nobody has submitted could hold up a queue that the signal itself needs.
  auto act = [&state, timeline, value] {
    if (timeline.value() < value) state.running.push_back({timeline.wait_in(state.queue(), value)});
  };
  state.put({[timeline, value] { return timeline.promised() >= value; }, std::move(act)});
}

void Stream::record(Event &event) {
  State &state = *state_;
  const std::shared_ptr<Event::Mark> mark(new Event::Mark{state.device(), {}});
  auto act = [&state, mark] {
    mark->fence = state.queue().nop({.interrupt = true});
    state.running.push_back({mark->fence});
  };
  state.put({{}, std::move(act), true});
  event.mark_ = mark;
}

void Stream::wait(const Event &event) {
  if (!event.mark_) return;
  State &state = *state_;
  auto act = [&state, mark = event.mark_] {
    // A reset that has ended what the event stands for is this stream's error as well.
    if (!mark->done() || mark->fence.fault()) state.running.push_back({state.queue().wait_for(mark->fence)});
  };
  state.put({[mark = event.mark_] { return mark->fence.valid(); }, std::move(act)});
}

void Stream::call(std::function<void()> function) {
  State &state = *state_;
  state.put({[&state] { return state.running.empty(); }, std::move(function)});
}

bool Stream::done() {
  const std::lock_guard lock(state_->device().lock());
  return state_->ended();
}

void Stream::synchronize(uint64_t limit_us) {
  try {
    state_->device().wait_until([&] { return state_->ended(); }, limit_us,
                                "a stream on queue " + std::to_string(queue_id()));
  } catch (const TimeoutError &error) {
    give_up(error.what());
  }
  check();
}

void Stream::give_up(const std::string &text) {
  const std::lock_guard lock(state_->device().lock());
  Queue &queue = state_->queue();
  // What the driver holds back is no fault of the queue's.
  if (state_->running.empty()) throw TimeoutError(text);
  queue.suspect_ = true;
  throw TimeoutError(text + "; " + queue.waits_for());
}

void Stream::check() {
  const std::lock_guard lock(state_->device().lock());
  state_->reap();
  if (state_->error) std::rethrow_exception(state_->error);
}

void Stream::clear_error() {
  const std::lock_guard lock(state_->device().lock());
  state_->reap();
  state_->error = nullptr;
}

// ---- the device's streams ----

StreamSet::StreamSet(Device &device) : device_(device) {}

StreamSet::~StreamSet() = default;

StreamSet::Lane &StreamSet::lane_of(uint32_t priority) {
  // A ring that no stream uses any more may have the wrong priority.
  std::erase_if(lanes_, [&](const std::unique_ptr<Lane> &lane) {
    if (lane->streams != 0 || lane->queue->priority() == priority || lane->queue->outstanding() != 0) return false;
    device_.destroy_queue(*lane->queue);
    return true;
  });
  const auto unused = std::find_if(lanes_.begin(), lanes_.end(), [](const auto &lane) { return lane->streams == 0; });
  if (unused != lanes_.end()) return **unused;
  if (device_.free_queues() != 0) {
    lanes_.push_back(std::make_unique<Lane>(Lane{&device_.create_queue({.priority = priority})}));
    return *lanes_.back();
  }
  const auto rank = [&](const std::unique_ptr<Lane> &lane) {
    const int distance = static_cast<int>(lane->queue->priority()) - static_cast<int>(priority);
    return std::pair(std::abs(distance), lane->streams);
  };
  const auto best =
      std::min_element(lanes_.begin(), lanes_.end(), [&](const auto &a, const auto &b) { return rank(a) < rank(b); });
  if (best == lanes_.end()) throw OutOfMemoryError("the device has no queue left for a stream");
  return **best;
}

std::unique_ptr<Stream> StreamSet::create(uint32_t priority) {
  const std::lock_guard lock(device_.lock());
  if (priority > 3) throw UsageError("stream priority " + std::to_string(priority) + ", expected 0 to 3");
  progress();
  Lane &lane = lane_of(priority);
  std::shared_ptr<Stream::State> state(new Stream::State{*this, lane, priority, {}, {}});
  streams_.push_back(state);
  ++lane.streams;
  return std::unique_ptr<Stream>(new Stream(std::move(state)));
}

bool StreamSet::holds(std::span<const std::byte> memory) const {
  const auto touches = [&](const Stream::State::Item &item) {
    return item.memory.data() < memory.data() + memory.size() &&
           memory.data() < item.memory.data() + item.memory.size();
  };
  return std::any_of(streams_.begin(), streams_.end(),
                     [&](const auto &state) { return std::any_of(state->held.begin(), state->held.end(), touches); });
}

bool StreamSet::progress() {
  // What a stream does may wait for a place in a ring, and so come here again.
  if (in_progress_) return false;
  in_progress_ = true;
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    for (size_t i = 0; i < streams_.size(); ++i) {
      const std::shared_ptr<Stream::State> state = streams_[i];
      while (state->step()) again = any = true;
      any |= std::exchange(state->retry, false);
    }
  }
  std::erase_if(streams_, [](const std::shared_ptr<Stream::State> &state) {
    if (!state->orphan || !state->ended()) return false;
    --state->lane.streams;
    return true;
  });
  in_progress_ = false;
  return any;
}

}  // namespace cx
