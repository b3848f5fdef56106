#include "hw/trace/trace.hpp"

#include <algorithm>
#include <utility>

namespace cx::hw {

Trace::Trace(Options options)
    : options_(std::move(options)),
      piece_(std::make_unique_for_overwrite<Record[]>(kPiece)),
      last_id_(options_.first_id) {}

void Trace::append(const Record &record) {
  if (!wants(record.kind)) return;
  std::size_t count = count_.load(std::memory_order_relaxed);
  if (count == kPiece) {
    const std::lock_guard lock(sending_);
    options_.sink({piece_.get() + sent_, count - sent_});
    sent_ = count = 0;
    count_.store(0, std::memory_order_relaxed);
  }
  piece_[count] = record;
  count_.store(count + 1, std::memory_order_release);
}

void Trace::flush() {
  const std::lock_guard lock(sending_);
  const std::size_t count = count_.load(std::memory_order_acquire);
  if (count == sent_) return;
  options_.sink({piece_.get() + sent_, count - sent_});
  sent_ = count;
}

void TraceBurst::add(Trace &trace, std::uint16_t kind, std::uint16_t unit, std::uint64_t begin, std::uint64_t end,
                     const std::array<std::uint64_t, CX_TRACE_VALUES> &values) {
  if (open_ && (begin > record_.end || end < record_.begin)) close(trace);
  if (!open_) {
    open_ = true;
    record_ = {begin, end, trace.new_id(), trace.cause(), kind, unit, 0, {}};
    std::copy(values.begin(), values.end(), record_.values);
    return;
  }
  record_.begin = std::min(record_.begin, begin);
  record_.end = std::max(record_.end, end);
  for (std::size_t i = 0; i < values.size(); ++i) record_.values[i] += values[i];
}

void TraceBurst::close(Trace &trace) {
  if (!open_) return;
  open_ = false;
  trace.append(record_);
}

}  // namespace cx::hw
