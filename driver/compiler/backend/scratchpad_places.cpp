#include "driver/compiler/backend/scratchpad_places.hpp"

#include <algorithm>
#include <limits>

namespace cx::compiler::backend {

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
