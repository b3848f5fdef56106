// Which bytes of the scratchpad are in use until when, as the program goes by.
#pragma once

#include <cstdint>
#include <vector>

namespace cx::compiler::backend {

/// A part of the scratchpad: [begin, end).
struct Region {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
};

/// Loads go in the order of the program and wait until what they overwrite has been used, so that they run ahead
/// furthest when each takes the bytes that were used longest ago.
class ScratchpadPlaces {
 public:
  explicit ScratchpadPlaces(int64_t bytes) : bytes_(bytes), spans_{{0, -1}} {}
  /// The region's bytes are in use until `time`, which is not negative.
  void use(const Region &region, int64_t time);
  /// Begin of `bytes` in a row inside `region` of which the last one comes free the earliest; the lowest of equal ones.
  /// bytes is at most region.size().
  int64_t earliest(const Region &region, int64_t bytes) const;

 private:
  struct Span {
    int64_t begin = 0;  ///< the end is the next one's begin
    int64_t until = 0;  ///< -1: never used
  };
  int64_t end_of(std::size_t span) const { return span + 1 < spans_.size() ? spans_[span + 1].begin : bytes_; }

  int64_t bytes_;
  std::vector<Span> spans_;  ///< of the whole scratchpad, by begin
};

}  // namespace cx::compiler::backend
