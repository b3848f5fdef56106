// Bandwidth servers: the timing of links, ports and channels without one event per burst.
#ifndef HW_NOC_BANDWIDTH_HPP
#define HW_NOC_BANDWIDTH_HPP

#include <cstdint>

#include "hw/sync/clock.hpp"

namespace cx::hw {

// Serves requests first come, first served at a fixed rate. Time is kept in 1/65536 cycles, so many small requests take
// as long as one large request with the same bytes.
class BandwidthServer {
 public:
  static constexpr unsigned kFraction = 16;

  // Throws std::invalid_argument unless bytes_per_cycle is positive.
  explicit BandwidthServer(double bytes_per_cycle);

  // Occupies the server for `bytes` from `start` or from the end of the earlier requests, whichever is later.
  // Returns the cycle by which the last byte has passed.
  Cycles reserve(Cycles start, std::uint64_t bytes) { return ceil(reserve_fine(start << kFraction, bytes)); }

  // The same in 1/65536 cycles.
  std::uint64_t reserve_fine(std::uint64_t start, std::uint64_t bytes) {
    busy_until_ = (busy_until_ > start ? busy_until_ : start) + duration_fine(bytes);
    return busy_until_;
  }

  // Time that `bytes` take on a free server, in 1/65536 cycles.
  std::uint64_t duration_fine(std::uint64_t bytes) const {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(bytes) * per_byte_ + (1u << 31)) >> 32);
  }

  std::uint64_t busy_until_fine() const { return busy_until_; }
  Cycles busy_until() const { return ceil(busy_until_); }
  // Marks the server as taken up to `until` (1/65536 cycles); for requests that hold several servers at once.
  void hold_fine(std::uint64_t until) { busy_until_ = busy_until_ > until ? busy_until_ : until; }
  void reset() { busy_until_ = 0; }

  static Cycles ceil(std::uint64_t fine) { return (fine + (1u << kFraction) - 1) >> kFraction; }

 private:
  std::uint64_t per_byte_;  // 1/65536 cycles per byte, times 2^32
  std::uint64_t busy_until_ = 0;
};

}  // namespace cx::hw

#endif
