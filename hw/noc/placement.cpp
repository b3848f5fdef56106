#include "hw/noc/placement.hpp"

#include <charconv>
#include <cmath>
#include <set>

namespace cx::hw {

namespace {

struct Spot {
  const char *block;
  double column, row;  // on a mesh, parts of its sides
  double round;        // on a ring, part of its length
};

constexpr Spot kSpots[] = {
    {"host", 0.5, 0, 0},       {"sdma", 0.5, 0, 0},      {"cp", 0.25, 0, 0.125},   {"registers", 0.25, 0, 0.125},
    {"tcm", 0.25, 0, 0.125},   {"load", 0.3, 0.4, 0.25}, {"spm", 0.5, 0.5, 0.375}, {"store", 0.7, 0.4, 0.5},
    {"dmmu", 0.5, 0.7, 0.625}, {"vpu", 0.3, 0.7, 0.75},  {"sca", 0.7, 0.7, 0.875},
};

unsigned part_of(double part, unsigned routers) {
  return static_cast<unsigned>(std::lround(part * static_cast<double>(routers - 1)));
}

unsigned dram_router(const Topology &topology, unsigned channel, unsigned channels) {
  if (topology.kind() == Topology::Kind::ring) return channel * topology.routers() / channels % topology.routers();
  const unsigned side = channel % 2, on_side = (channels + 1 - side) / 2;
  const unsigned row = (2 * (channel / 2) + 1) * topology.rows() / (2 * on_side);
  return topology.router(side == 0 ? 0 : topology.columns() - 1, row);
}

bool read_number(std::string_view text, unsigned &value) {
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

}  // namespace

std::map<std::string, unsigned> place_blocks(const Topology &topology, unsigned dram_channels,
                                             std::span<const std::string> items) {
  std::map<std::string, unsigned> routers;
  for (const Spot &spot : kSpots) {
    routers[spot.block] =
        topology.kind() == Topology::Kind::ring
            ? static_cast<unsigned>(spot.round * topology.routers())
            : topology.router(part_of(spot.column, topology.columns()), part_of(spot.row, topology.rows()));
  }
  for (unsigned channel = 0; channel < dram_channels; ++channel) {
    routers["dram" + std::to_string(channel)] = dram_router(topology, channel, dram_channels);
  }
  std::set<std::string> placed;
  for (const std::string &item : items) {
    const auto at = item.find('@'), colon = item.find(':', at == std::string::npos ? 0 : at);
    unsigned column = 0, row = 0;
    if (at == std::string::npos || colon == std::string::npos ||
        !read_number(std::string_view(item).substr(at + 1, colon - at - 1), column) ||
        !read_number(std::string_view(item).substr(colon + 1), row)) {
      throw PlacementError("'" + item + "': expected BLOCK@COLUMN:ROW");
    }
    const std::string block = item.substr(0, at);
    const auto found = routers.find(block);
    if (found == routers.end()) {
      std::string known;
      for (const Spot &spot : kSpots) known += std::string(spot.block) + ", ";
      throw PlacementError("'" + item + "': no such block; expected one of " + known + "dram0 to dram" +
                           std::to_string(dram_channels - 1));
    }
    if (!placed.insert(block).second) throw PlacementError("'" + item + "': " + block + " is placed twice");
    if (column >= topology.columns() || row >= topology.rows()) {
      throw PlacementError("'" + item + "': there is no such router; the network has " +
                           std::to_string(topology.columns()) + " columns and " + std::to_string(topology.rows()) +
                           (topology.rows() == 1 ? " row" : " rows"));
    }
    found->second = topology.router(column, row);
  }
  return routers;
}

}  // namespace cx::hw
