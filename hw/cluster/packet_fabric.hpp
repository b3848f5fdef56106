// Messages of communication engines as SENDs of queue pairs, packet by packet.
#ifndef HW_CLUSTER_PACKET_FABRIC_HPP
#define HW_CLUSTER_PACKET_FABRIC_HPP

#include <memory>
#include <unordered_map>
#include <vector>

#include "hw/cluster/packet_cluster.hpp"
#include "hw/comm/fabric.hpp"

namespace cx::hw::net {

// The number by which switches choose among equal ways: the same for both fidelities and both directions.
std::uint32_t flow_of(const Fabric::Connection &connection);

class PacketFabric final : public Fabric {
 public:
  // memory[rank]: what messages are sent from and received into; may be null.
  PacketFabric(Topology &topology, std::vector<std::pair<std::byte *, std::uint64_t>> memory);

  EventQueue &queue() override { return cluster_.queue(); }
  void listen(Listener &listener) override { listener_ = &listener; }
  void send(const Connection &connection, const std::byte *data, std::uint64_t bytes, std::uint32_t digest,
            std::uint64_t tag, bool awaited) override;
  void receive(const Connection &connection, std::byte *target, std::uint64_t bytes, std::uint64_t tag,
               bool announced) override;
  State state(const Connection &connection) override;
  FabricCounters counters() const override;
  std::vector<double> wire_bytes() const override;
  PacketCluster &cluster() { return cluster_; }

 private:
  // Offsets stand for addresses; what has no memory lies anywhere in a region without bounds.
  static constexpr std::uint64_t kBase = 1u << 20;
  std::uint64_t address(std::uint32_t rank, const std::byte *at) const;
  std::uint32_t pair_of(const Connection &connection);
  void completed(std::uint32_t rank, const Completion &completion);

  Topology &topology_;
  PacketCluster cluster_;
  std::vector<std::pair<std::byte *, std::uint64_t>> memory_;
  std::vector<std::uint32_t> keys_;
  std::vector<std::unique_ptr<CompletionQueue>> completions_;
  std::vector<std::unordered_map<std::uint64_t, std::uint32_t>> pairs_;  // by rank: peer and channel to queue pair
  std::vector<std::vector<Connection>> connections_;                     // by rank and queue pair
  Listener *listener_ = nullptr;
};

}  // namespace cx::hw::net

#endif
