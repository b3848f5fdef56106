#include "driver/compiler/backend/scratchpad_places.hpp"

#include <algorithm>
#include <limits>

namespace cx::compiler::backend {

namespace {

constexpr std::size_t kMostSpans = 256;

}  // namespace

void ScratchpadPlaces::use(const Region &region, int64_t time) {
  if (region.size() <= 0) return;
  std::vector<Span> result;
  const auto append = [&result](const Span &span) {
    if (result.empty() || result.back().until != span.until) result.push_back(span);
  };
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    const Span &span = spans_[i];
    const int64_t end = end_of(i);
    if (span.begin < region.begin) append(span);
    if (span.begin <= region.begin && region.begin < end) append({region.begin, time});
    if (end > region.end) append({std::max(span.begin, region.end), span.until});
  }
  spans_ = std::move(result);
  if (spans_.size() <= kMostSpans) return;
  // Neighbours as one, in use as long as either, so that a program of many small passes takes no longer for each.
  result.clear();
  for (std::size_t i = 0; i < spans_.size(); i += 2) {
    const int64_t other = i + 1 < spans_.size() ? spans_[i + 1].until : -1;
    append({spans_[i].begin, std::max(spans_[i].until, other)});
  }
  spans_ = std::move(result);
}

int64_t ScratchpadPlaces::earliest(const Region &region, int64_t bytes) const {
  int64_t best = region.begin;
  int64_t best_until = std::numeric_limits<int64_t>::max();
  const auto consider = [&](int64_t place) {
    if (place < region.begin || place + bytes > region.end) return;
    const auto above = std::upper_bound(spans_.begin(), spans_.end(), place,
                                        [](int64_t at, const Span &span) { return at < span.begin; });
    int64_t until = -1;
    for (auto span = above - 1; span != spans_.end() && span->begin < place + bytes; ++span) {
      until = std::max(until, span->until);
      if (until > best_until) return;
    }
    if (until == best_until && place >= best) return;
    best = place;
    best_until = until;
  };
  consider(region.begin);
  consider(region.end - bytes);
  for (const Span &span : spans_) {
    consider(span.begin);
    consider(span.begin - bytes);
  }
  return best;
}

}  // namespace cx::compiler::backend
