#include "hw/noc/link_calendar.hpp"

#include <algorithm>

namespace cx::hw {

LinkCalendar::Interval LinkCalendar::take(std::uint64_t start, std::uint64_t duration) {
  // The first interval that ends at `start` or later: what is taken may touch it.
  const auto first = std::lower_bound(busy_.begin(), busy_.end(), start,
                                      [](const Interval &interval, std::uint64_t time) { return interval.end < time; });
  auto next = first;
  std::uint64_t begin = start;
  if (next != busy_.end() && next->begin <= start) {
    begin = next->end;
    ++next;
  }
  if (duration == 0) return {begin, begin};
  // Everything between `begin` and the end becomes one interval: gaps are filled, and so is what lay between them.
  std::uint64_t end = begin, left = duration;
  for (; next != busy_.end() && next->begin - end <= left; ++next) {
    left -= next->begin - end;
    end = next->end;
    // Exactly full: the last unit that was taken is before this interval, but both are one from now on.
    if (left == 0) {
      const std::uint64_t last = next->begin;
      const std::uint64_t from = first->begin <= begin ? first->begin : begin;
      *first = {from, end};
      busy_.erase(first + 1, next + 1);
      return {begin, last};
    }
  }
  end += left;
  if (first != next) {
    const std::uint64_t from = first->begin <= begin ? first->begin : begin;
    *first = {from, end};
    busy_.erase(first + 1, next);
  } else {
    busy_.insert(next, {begin, end});
  }
  return {begin, end};
}

}  // namespace cx::hw
