// The timing model that the keys of a chip's configuration ask for.
#ifndef HW_DRAM_CONFIGURED_HPP
#define HW_DRAM_CONFIGURED_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "hw/config/gen/chip.hpp"
#include "hw/dram/timing.hpp"

namespace cx::hw {

struct DramModelParams {
  DramTiming timing;
  DramGeometry geometry;
  DramScheduling scheduling;
  std::string mapping;
  std::string hash;
  double controller_ns = 0;  // there and back

  double bandwidth_gbps() const { return peak_gbps(timing, geometry); }
  // Of a read on an idle channel whose row is not open.
  double latency_ns() const;
  // Consecutive bytes in one (pseudo) channel.
  std::uint32_t stripe_bytes() const;
  // That an endless sequential read comes to: one channel is asked for a stream of several refresh intervals.
  double stream_gbps() const;
};

// Nothing for dram.preset none. Throws DramParamError: also for keys that have no meaning without a preset, and for a
// mapping or hash that does not fit.
std::optional<DramModelParams> dram_model(const config::Chip &chip);

}  // namespace cx::hw

#endif
