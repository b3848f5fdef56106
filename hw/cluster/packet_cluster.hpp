// A cluster packet by packet: cards, switches, links of a topology. Rule: README.md.
#ifndef HW_CLUSTER_PACKET_CLUSTER_HPP
#define HW_CLUSTER_PACKET_CLUSTER_HPP

#include <memory>
#include <vector>

#include "hw/cluster/cluster_faults.hpp"
#include "hw/cluster/topology.hpp"
#include "hw/rdma/nic.hpp"

namespace cx::hw::net {

RdmaParams rdma_params(const ClusterConfig &config);
// From the last bit on a link until the vertex can pass the packet on.
Ps vertex_delay(const ClusterConfig &config, Vertex::Kind kind);

class PacketCluster final : EventQueue::Handler {
 public:
  // Routes of `topology` change with the faults that it is given.
  explicit PacketCluster(Topology &topology);

  EventQueue &queue() { return queue_; }
  Nic &nic(std::uint32_t rank) { return *nics_.at(rank); }
  const Nic &nic(std::uint32_t rank) const { return *nics_.at(rank); }
  Link &link(std::uint32_t link) { return *links_.at(link); }
  const Link &link(std::uint32_t link) const { return *links_.at(link); }
  const Switch *switch_at(std::uint32_t vertex) const { return switches_.at(vertex).get(); }
  const Topology &topology() const { return topology_; }

  // Takes effect at its time.
  void inject(const ClusterFault &fault);

 private:
  enum What : std::uint32_t { kFault, kFaultEnds, kReroute };
  void on_event(std::uint32_t what, std::uint64_t argument) override;
  void set_edge_up(std::size_t edge, bool up);

  Topology &topology_;
  EventQueue queue_;
  PacketPool pool_;
  std::vector<std::unique_ptr<Nic>> nics_;
  std::vector<std::unique_ptr<Switch>> switches_;  // by vertex; null: a card
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<ClusterFault> faults_;
};

}  // namespace cx::hw::net

#endif
