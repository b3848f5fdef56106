#include "driver/umd/stream.hpp"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <utility>

#include "driver/umd/device.hpp"

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
  /// What the driver holds back, or does at once when nothing is.
  struct Item {
    std::function<bool()> ready;  // empty: always
    std::function<void()> act;
    bool for_others = false;  // other streams may wait for it: happens after an error as well
  };

  StreamSet &set;
  StreamSet::Lane &lane;
  uint32_t priority;
  std::deque<Item> held;
  std::deque<Fence> running;
  std::exception_ptr error;
  bool orphan = false;  // its Stream is gone

  Queue &queue() const { return *lane.queue; }
  Device &device() const { return set.device_; }

  /// Forgets packets that have ended; keeps the first error.
  void reap() {
    while (!running.empty() && running.front().done()) {
      const Fence fence = std::move(running.front());
      running.pop_front();
      note([&] { fence.wait(); });
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
    held.push_back(std::move(item));
    device().make_progress();
    if (error) std::rethrow_exception(error);
  }

  void submit(const std::function<Fence(Queue &)> &operation) { running.push_back(operation(queue())); }

  /// Does the oldest item if it is ready.
  bool step() {
    reap();
    if (held.empty()) return false;
    const bool dropped = error && !held.front().for_others;
    if (!dropped && held.front().ready && !held.front().ready()) return false;
    const Item item = std::move(held.front());
    held.pop_front();
    if (!dropped) note(item.act);
    return true;
  }

 private:
  template <class Work>
  void note(Work &&work) {
    try {
      work();
    } catch (...) {
      if (!error) error = std::current_exception();
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

void Stream::enqueue(std::function<Fence(Queue &)> operation) {
  State &state = *state_;
  state.put({{}, [&state, operation = std::move(operation)] { state.submit(operation); }});
}

void Stream::execute(const CommandBuffer &commands) {
  if (!commands.finished()) throw UsageError("the command buffer is not finished");
  enqueue([commands](Queue &queue) { return queue.execute(commands); });
}

void Stream::signal(const Timeline &timeline, uint64_t value) {
  State &state = *state_;
  auto act = [&state, timeline, value] { state.running.push_back(timeline.signal_in(state.queue(), value)); };
  state.put({{}, std::move(act), true});
}

void Stream::wait(const Timeline &timeline, uint64_t value) {
  State &state = *state_;
  // A packet that waits for what nobody has submitted could hold up a queue that the signal itself needs.
  auto act = [&state, timeline, value] {
    if (timeline.value() < value) state.running.push_back(timeline.wait_in(state.queue(), value));
  };
  state.put({[timeline, value] { return timeline.promised() >= value; }, std::move(act)});
}

void Stream::record(Event &event) {
  State &state = *state_;
  const std::shared_ptr<Event::Mark> mark(new Event::Mark{state.device(), {}});
  event.mark_ = mark;
  auto act = [&state, mark] {
    mark->fence = state.queue().nop({.interrupt = true});
    state.running.push_back(mark->fence);
  };
  state.put({{}, std::move(act), true});
}

void Stream::wait(const Event &event) {
  if (!event.mark_) return;
  State &state = *state_;
  auto act = [&state, mark = event.mark_] {
    if (!mark->done()) state.running.push_back(state.queue().wait_for(mark->fence));
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
  state_->device().wait_until([&] { return state_->ended(); }, limit_us,
                              "a stream on queue " + std::to_string(queue_id()));
  check();
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
  std::shared_ptr<Stream::State> state(new Stream::State{*this, lane, priority, {}, {}, {}});
  streams_.push_back(state);
  ++lane.streams;
  return std::unique_ptr<Stream>(new Stream(std::move(state)));
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
