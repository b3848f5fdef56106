// Samples of counters for a trace: differences between moments at which something happens.
#ifndef HW_CHIP_TRACE_SAMPLER_HPP
#define HW_CHIP_TRACE_SAMPLER_HPP

#include <array>
#include <cstdint>
#include <functional>

#include "hw/power/power.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/trace.hpp"

namespace cx::hw {

class TraceSampler {
 public:
  using Counts = std::function<std::array<std::uint64_t, CX_TRACE_VALUES>()>;
  // The interval doubles after so many samples.
  static constexpr unsigned kSamples = 2048;

  // `counts`: values of records of kind traffic, since power-on. `thermal` may be null.
  TraceSampler(Trace &trace, Counts counts, const Power &power, const ThermalReadings *thermal, const Clock &clock,
               std::uint64_t interval_ps);

  // Records what was counted since the last sample; returns when the next one is due. Kernel time.
  std::uint64_t sample(std::uint64_t now_ps);

 private:
  Trace &trace_;
  Counts counts_;
  const Power &power_;
  const ThermalReadings *thermal_;
  const Clock &clock_;
  std::uint64_t interval_ps_;
  unsigned samples_ = 0;
  std::uint64_t last_ps_;
  std::array<std::uint64_t, CX_TRACE_VALUES> last_;
  std::array<double, Power::kDomains> energy_;
};

}  // namespace cx::hw

#endif
