// Faults of a cluster's network, as text: KIND@key=value,...
#ifndef HW_CLUSTER_CLUSTER_FAULTS_HPP
#define HW_CLUSTER_CLUSTER_FAULTS_HPP

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "hw/cluster/topology.hpp"

namespace cx::hw::net {

struct ClusterFault {
  enum class Kind : std::uint8_t { link_down, slow_link, lossy_link, dead_node };
  Kind kind = Kind::link_down;
  std::size_t edge = 0;    // all but dead_node
  std::uint32_t node = 0;  // dead_node
  Ps at = 0, until = kNever;
  double factor = 1;  // slow_link: of the rate
  double loss = 0;    // lossy_link: chance of a packet
};

// What is wrong with the text and what was expected.
class ClusterFaultError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// link_down@link=NAME[,at_us=T][,until_us=T]; slow_link@link=NAME,factor=F[,...]; lossy_link@link=NAME,loss=P[,...];
// dead_node@node=N[,at_us=T]. A link is named by its ends: node0-leaf0. Throws ClusterFaultError.
ClusterFault parse_cluster_fault(const Topology &topology, std::string_view text);

}  // namespace cx::hw::net

#endif
