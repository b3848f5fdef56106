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

  // A time that has passed counts as now.
  void at(Ps time, Handler &handler, std::uint32_t what, std::uint64_t argument = 0) {
    heap_.push_back({std::max(time, now_), next_++, &handler, argument, what});
    std::push_heap(heap_.begin(), heap_.end(), Later{});
  }
  void after(Ps delay, Handler &handler, std::uint32_t what, std::uint64_t argument = 0) {
    at(now_ + delay, handler, what, argument);
  }

  // The earliest event; false if there is none.
  bool run_one() {
    if (heap_.empty()) return false;
    std::pop_heap(heap_.begin(), heap_.end(), Later{});
    const Event event = heap_.back();
    heap_.pop_back();
    now_ = event.time;
    ++executed_;
    event.handler->on_event(event.what, event.argument);
    return true;
  }
  // Every event up to and including `limit`, at which time it is then. False if events are left.
  bool run_until(Ps limit) {
    while (!heap_.empty() && heap_.front().time <= limit) run_one();
    if (limit != kNever) now_ = std::max(now_, limit);
    return heap_.empty();
  }

 private:
  struct Event {
    Ps time;
    std::uint64_t order;
    Handler *handler;
    std::uint64_t argument;
    std::uint32_t what;
  };
  struct Later {
    bool operator()(const Event &a, const Event &b) const {
      return a.time != b.time ? a.time > b.time : a.order > b.order;
    }
  };

  std::vector<Event> heap_;
  Ps now_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t executed_ = 0;
};

}  // namespace cx::hw::net

#endif
