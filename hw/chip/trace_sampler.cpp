#include "hw/chip/trace_sampler.hpp"

#include <cmath>
#include <utility>

namespace cx::hw {

TraceSampler::TraceSampler(Trace &trace, Counts counts, const Power &power, const ThermalReadings *thermal,
                           const Clock &clock, std::uint64_t interval_ps)
    : trace_(trace),
      counts_(std::move(counts)),
      power_(power),
      thermal_(thermal),
      clock_(clock),
      interval_ps_(interval_ps),
      last_ps_(sc_core::sc_time_stamp().value()),
      last_(counts_()),
      energy_(power_.femtojoules_by_domain()) {}

std::uint64_t TraceSampler::sample(std::uint64_t now_ps) {
  const std::uint64_t begin = trace_.kernel_time(last_ps_), end = trace_.kernel_time(now_ps);
  Trace::Record traffic{begin, end, trace_.new_id(), 0, CX_TRACE_TRAFFIC, 0, 0, {}};
  const auto counts = counts_();
  // A reset takes counters back to zero.
  for (std::size_t i = 0; i < counts.size(); ++i) {
    traffic.values[i] = counts[i] >= last_[i] ? counts[i] - last_[i] : counts[i];
  }
  trace_.append(traffic);
  last_ = counts;
  if (trace_.wants(CX_TRACE_ENERGY)) {
    const auto energy = power_.femtojoules_by_domain();
    for (unsigned domain = 0; domain < Power::kDomains; ++domain) {
      const double spent = energy[domain] - energy_[domain];
      if (!(spent > 0)) continue;
      trace_.append({begin,
                     end,
                     trace_.new_id(),
                     0,
                     CX_TRACE_ENERGY,
                     static_cast<std::uint16_t>(domain),
                     0,
                     {static_cast<std::uint64_t>(std::llround(spent))}});
    }
    energy_ = energy;
  }
  if (thermal_ != nullptr && trace_.wants(CX_TRACE_TEMPERATURE)) {
    constexpr double kMillidegrees = 1000;
    const ThermalReadings::Reading reading = thermal_->read(clock_.floor(sc_core::sc_time_stamp()));
    trace_.append({begin,
                   end,
                   trace_.new_id(),
                   0,
                   CX_TRACE_TEMPERATURE,
                   0,
                   0,
                   {static_cast<std::uint64_t>(std::llround(reading.celsius * kMillidegrees)), reading.throttled}});
  }
  last_ps_ = now_ps;
  if (++samples_ % kSamples == 0) interval_ps_ *= 2;
  return now_ps + interval_ps_;
}

}  // namespace cx::hw
