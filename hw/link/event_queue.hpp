// Simulated time of a cluster: events in the order of their time, then of their scheduling. Nothing ticks.
#ifndef HW_LINK_EVENT_QUEUE_HPP
#define HW_LINK_EVENT_QUEUE_HPP

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace cx::hw::net {

using Ps = std::uint64_t;  // picoseconds since the cluster was made

inline constexpr Ps kNever = std::numeric_limits<Ps>::max();

// Runs without SystemC: several clusters of one process may run in threads of their own.
class EventQueue {
 public:
  class Handler {
   public:
    // `what` and `argument` are those of at().
    virtual void on_event(std::uint32_t what, std::uint64_t argument) = 0;

   protected:
    ~Handler() = default;
  };

  Ps now() const { return now_; }
  bool empty() const { return heap_.empty(); }
  Ps next_time() const { return heap_.empty() ? kNever : heap_.front().time; }
  std::uint64_t executed() const { return executed_; }

  // A time that has passed counts as now. `what` is below 256.
  void at(Ps time, Handler &handler, std::uint32_t what, std::uint64_t argument = 0) {
    const Event event{std::max(time, now_), next_++ << 8 | what, &handler, argument};
    heap_.emplace_back();
    std::size_t hole = heap_.size() - 1;
    while (hole > 0) {
      const std::size_t parent = (hole - 1) / kChildren;
      if (!earlier(event, heap_[parent])) break;
      heap_[hole] = heap_[parent];
      hole = parent;
    }
    heap_[hole] = event;
  }
  void after(Ps delay, Handler &handler, std::uint32_t what, std::uint64_t argument = 0) {
    at(now_ + delay, handler, what, argument);
  }

  // The earliest event; false if there is none.
  bool run_one() {
    if (heap_.empty()) return false;
    const Event event = heap_.front();
    const Event moved = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) sink(moved);
    now_ = event.time;
    ++executed_;
    event.handler->on_event(static_cast<std::uint32_t>(event.order & 0xff), event.argument);
    return true;
  }
  // Every event up to and including `limit`, at which time it is then. False if events are left.
  bool run_until(Ps limit) {
    while (!heap_.empty() && heap_.front().time <= limit) run_one();
    if (limit != kNever) now_ = std::max(now_, limit);
    return heap_.empty();
  }

 private:
  // Four children lie in two cache lines: fewer levels than a binary heap has.
  static constexpr std::size_t kChildren = 4;
  struct Event {
    Ps time;
    std::uint64_t order;  // of scheduling, times 256, and `what`
    Handler *handler;
    std::uint64_t argument;
  };
  static bool earlier(const Event &a, const Event &b) { return a.time != b.time ? a.time < b.time : a.order < b.order; }
  // From the root, which is free, down to its place.
  void sink(const Event &event) {
    const std::size_t size = heap_.size();
    std::size_t hole = 0;
    for (;;) {
      const std::size_t first = hole * kChildren + 1;
      if (first >= size) break;
      std::size_t least = first;
      const std::size_t end = std::min(first + kChildren, size);
      for (std::size_t child = first + 1; child < end; ++child) {
        if (earlier(heap_[child], heap_[least])) least = child;
      }
      if (!earlier(heap_[least], event)) break;
      heap_[hole] = heap_[least];
      hole = least;
    }
    heap_[hole] = event;
  }

  std::vector<Event> heap_;
  Ps now_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t executed_ = 0;
};

}  // namespace cx::hw::net

#endif
