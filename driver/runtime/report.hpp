// What a run cost.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "driver/umd/counters.hpp"
#include "driver/umd/energy.hpp"

namespace cx {

/// Device quantities are simulated; differences of the counters before the first input copy and after the last output
/// copy.
struct RunReport {
  // Inference: from the start of the first packet (an input copy, if there is one) to the end of the last one.
  double latency_us = 0;
  uint64_t cycles = 0;
  // The LAUNCH packet alone.
  double launch_us = 0;
  uint64_t launch_cycles = 0;

  // RECONFIG packets in front of it, where the split of a shared array was another one. Part of `cycles`.
  uint64_t reconfigurations = 0;
  uint64_t reconfiguration_cycles = 0;

  bool timing_only = false;     ///< engines neither moved nor computed data: outputs are undefined, no zeros were gated
  std::string timing_obstacle;  ///< why the run was in full though timing-only was asked for; else empty

  uint64_t macs = 0;                           ///< of the model, without padding
  uint64_t peak_macs_per_cycle = 0;            ///< of the DMMU in the program's precision
  double mac_utilisation = 0;                  ///< macs / (launch_cycles * peak_macs_per_cycle)
  std::array<double, kEngines> utilisation{};  ///< busy cycles / launch_cycles
  uint64_t input_bytes = 0, output_bytes = 0;  ///< tensors copied from and to the host
  uint64_t resident_bytes = 0;                 ///< tensors bound that stayed on the device, an updated one once

  Counters counters;          ///< deltas
  Energy energy;              ///< from before the first packet is rung until the last completion is seen
  double energy_span_us = 0;  ///< that time
  OperatingPoint point;       ///< what the core ran at
  uint64_t workspace_bytes = 0, image_bytes = 0, device_peak_bytes = 0;

  // The host that simulates; differs from run to run.
  double wall_s = 0;
  double simulated_cycles_per_wall_s = 0;
};

/// Part of the run's cycles for which a link of the network on chip was taken.
double link_utilisation(const RunReport &report, const NocLinkCounters &link);
/// What the network on chip does not know that matters to this run: links that were crowded, and for how long. Empty
/// where no load was beyond what the model was validated for.
std::string noc_beyond_validation(const RunReport &report);

/// Of the whole energy over its span, watts; 0 without a span.
double average_watts(const RunReport &report);
/// 10^12 operations a joule, two for each of `macs`; 0 without energy.
double tera_operations_per_joule(const RunReport &report);

/// Time of the span in which engines skipped clock edges; 0 where temperature is not modelled.
double throttled_us(const RunReport &report);

/// The keys of the report that are about energy.
nlohmann::json energy_json(const RunReport &report);
/// What the energy does not contain.
std::vector<std::string> energy_not_modelled();

/// Two runs, one after the other; utilisations are of both launches, and times without what lay between.
RunReport operator+(const RunReport &a, const RunReport &b);

void to_json(nlohmann::json &json, const RunReport &report);

}  // namespace cx
