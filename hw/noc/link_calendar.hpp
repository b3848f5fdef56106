// When a link is taken: reservations are made in the order of requests, not of their arrival at the link.
#ifndef HW_NOC_LINK_CALENDAR_HPP
#define HW_NOC_LINK_CALENDAR_HPP

#include <cstdint>
#include <deque>

namespace cx::hw {

// Busy intervals [begin, end) of one link, in any unit of time; they never overlap or touch.
class LinkCalendar {
 public:
  struct Interval {
    std::uint64_t begin, end;
  };

  // Takes the first `duration` free units of time from `start` on, in as many pieces as the gaps between earlier
  // reservations make: flits of several packets take turns on a link. Returns when the first of them begins and the
  // last ends.
  Interval take(std::uint64_t start, std::uint64_t duration);

  // Forgets what ends at `time` or before: no later request starts before it.
  void prune(std::uint64_t time) {
    while (!busy_.empty() && busy_.front().end <= time) busy_.pop_front();
  }

  const std::deque<Interval> &busy() const { return busy_; }
  void clear() { busy_.clear(); }

 private:
  std::deque<Interval> busy_;  // sorted
};

}  // namespace cx::hw

#endif
