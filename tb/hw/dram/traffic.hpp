// Streams of bursts for comparisons between DRAM models: each is fixed by a few numbers and a seed.
#ifndef TB_HW_DRAM_TRAFFIC_HPP
#define TB_HW_DRAM_TRAFFIC_HPP

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "hw/dram/timing.hpp"

namespace cx::hw {

enum class TrafficKind : std::uint8_t { stream, stride, random, copy };

struct TrafficCase {
  std::string name;
  TrafficKind kind = TrafficKind::stream;
  std::uint32_t write_percent = 0;  // of requests, by chance; copy: every second request
  std::uint32_t stride = 0;         // bytes, of TrafficKind::stride
  std::uint32_t ticks_between = 0;  // mean time between arrivals, geometrically distributed; 0: all are there at once
  std::uint32_t requests = 0;       // bursts
};

struct TrafficRequest {
  std::uint64_t address = 0;
  std::uint64_t arrival = 0;  // ticks
  bool write = false;
};

// README.md states the same in words.
class Traffic {
 public:
  Traffic(const TrafficCase &what, const DramGeometry &geometry) : case_(what), burst_(geometry.burst_bytes) {}

  TrafficRequest next() {
    TrafficRequest request;
    switch (case_.kind) {
      case TrafficKind::stream:
        request.address = count_ * burst_;
        break;
      case TrafficKind::stride:
        request.address = count_ * case_.stride % kFootprint;
        break;
      case TrafficKind::random:
        request.address = random() % (kFootprint / burst_) * burst_;
        break;
      case TrafficKind::copy:
        request.address = count_ / 2 * burst_ + (count_ % 2 == 0 ? 0 : kFootprint / 2 + 3 * 65536);
        request.write = count_ % 2 == 1;
        break;
    }
    if (case_.kind != TrafficKind::copy) request.write = random() % 100 < case_.write_percent;
    if (case_.ticks_between > 0) {
      while (random() % case_.ticks_between != 0) ++now_;
      ++now_;
    }
    request.arrival = now_;
    ++count_;
    return request;
  }

 private:
  static constexpr std::uint64_t kFootprint = std::uint64_t{1} << 28;

  // splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
  std::uint64_t random() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  TrafficCase case_;
  std::uint64_t burst_;
  std::uint64_t state_ = 1;
  std::uint64_t count_ = 0;
  std::uint64_t now_ = 0;
};

// Every kind of traffic at saturation and at a load that leaves the channel idle for about half of the time.
inline std::vector<TrafficCase> traffic_cases(const DramPreset &preset) {
  constexpr std::uint32_t kRequests = 30000;
  const std::uint32_t burst = preset.timing.burst;
  // Random bursts are bound by activates, not by the bus: four in tFAW.
  const std::uint32_t scattered = std::max(burst, preset.timing.faw / 4);
  return {
      {"stream read", TrafficKind::stream, 0, 0, 0, kRequests},
      {"stream write", TrafficKind::stream, 100, 0, 0, kRequests},
      {"copy", TrafficKind::copy, 0, 0, 0, kRequests},
      {"stream two reads to a write", TrafficKind::stream, 33, 0, 0, kRequests},
      {"stride 256 read", TrafficKind::stride, 0, 256, 0, kRequests},
      {"stride 4160 read", TrafficKind::stride, 0, 4160, 0, kRequests},
      {"stride 65536 read", TrafficKind::stride, 0, 65536, 0, kRequests},
      {"random read", TrafficKind::random, 0, 0, 0, kRequests},
      {"random write", TrafficKind::random, 100, 0, 0, kRequests},
      {"random two reads to a write", TrafficKind::random, 33, 0, 0, kRequests},
      {"stream read (moderate)", TrafficKind::stream, 0, 0, 2 * burst, kRequests},
      {"stream two reads to a write (moderate)", TrafficKind::stream, 33, 0, 5 * burst, kRequests},
      {"random read (moderate)", TrafficKind::random, 0, 0, 2 * scattered, kRequests},
      {"random two reads to a write (moderate)", TrafficKind::random, 33, 0, 5 * scattered, kRequests},
  };
}

}  // namespace cx::hw

#endif
