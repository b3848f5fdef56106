// Latency of a network against the load that its terminals offer.
#ifndef TB_HW_NOC_LOAD_CURVE_HPP
#define TB_HW_NOC_LOAD_CURVE_HPP

#include <cstdint>
#include <string>

#include "hw/noc/packet_network.hpp"
#include "hw/noc/topology.hpp"

namespace cx::tb {

// Where packets go: uniform: to any terminal, the sender included; transpose: from (column, row) of a square mesh to
// (row, column); hotspot: a fifth of the packets to the terminal in the middle, the others uniformly.
enum class Pattern { uniform, transpose, hotspot };
// Throws std::invalid_argument for another name.
Pattern pattern_of(const std::string &name);
const char *to_string(Pattern pattern);

struct Traffic {
  Pattern pattern = Pattern::uniform;
  unsigned flits = 1;  // of every packet
  double load = 0.1;   // flits a cycle that each terminal offers; packets begin by a coin toss in every cycle
  std::uint64_t seed = 1;
  unsigned warmup = 2000;    // cycles
  unsigned measured = 4000;  // cycles whose packets count
};

struct LoadPoint {
  double latency;     // mean of packets created while measured, cycles from creation to the last flit's end; packets
                      // that have not arrived `measured` cycles later count with the time they have taken until then
  double throughput;  // flits a cycle that each terminal got while measured
};

LoadPoint measure_routers(const hw::Topology &topology, const hw::RouterParams &params, const Traffic &traffic);
// The same packets over calendars of links.
LoadPoint measure_calendars(const hw::Topology &topology, const hw::RouterParams &params, const Traffic &traffic);

// Mean latency of an idle network, from the closed form and the pattern's mean distance.
double idle_latency(const hw::Topology &topology, const hw::RouterParams &params, const Traffic &traffic);

}  // namespace cx::tb

#endif
