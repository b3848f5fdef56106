#include "hw/cluster/packet_fabric.hpp"

#include <algorithm>

namespace cx::hw::net {

namespace {

std::uint64_t key_of(std::uint32_t peer, std::uint8_t channel) { return std::uint64_t{peer} << 8 | channel; }

}  // namespace

std::uint32_t flow_of(const Fabric::Connection &connection) {
  const std::uint64_t low = std::min(connection.rank, connection.peer),
                      high = std::max(connection.rank, connection.peer);
  return static_cast<std::uint32_t>((low * 0x9e3779b1u + high) * 0x85ebca6bu + connection.channel);
}

PacketFabric::PacketFabric(Topology &topology, std::vector<std::pair<std::byte *, std::uint64_t>> memory)
    : topology_(topology),
      cluster_(topology),
      memory_(std::move(memory)),
      pairs_(topology.ranks()),
      connections_(topology.ranks()) {
  for (std::uint32_t rank = 0; rank < topology.ranks(); ++rank) {
    const auto &[data, bytes] = memory_[rank];
    keys_.push_back(
        cluster_.nic(rank).memory().add(data, kBase, data != nullptr ? bytes : ~std::uint64_t{0} - kBase, kLocalWrite));
    completions_.push_back(std::make_unique<CompletionQueue>(0));
    completions_[rank]->listen([this, rank](const Completion &completion) { completed(rank, completion); });
  }
}

std::uint64_t PacketFabric::address(std::uint32_t rank, const std::byte *at) const {
  return at == nullptr ? kBase : kBase + static_cast<std::uint64_t>(at - memory_[rank].first);
}

std::uint32_t PacketFabric::pair_of(const Connection &c) {
  const auto found = pairs_[c.rank].find(key_of(c.peer, c.channel));
  if (found != pairs_[c.rank].end()) return found->second;
  const std::uint32_t flow = flow_of(c);
  if (topology_.path(c.rank, c.peer, flow).empty()) throw NoRouteError(c.rank, c.peer);
  Nic &here = cluster_.nic(c.rank), &there = cluster_.nic(c.peer);
  const std::uint32_t a = here.create_qp(*completions_[c.rank], *completions_[c.rank]);
  const std::uint32_t b = there.create_qp(*completions_[c.peer], *completions_[c.peer]);
  here.connect_qp(a, there, b, flow);
  there.connect_qp(b, here, a, flow);
  pairs_[c.rank][key_of(c.peer, c.channel)] = a;
  pairs_[c.peer][key_of(c.rank, c.channel)] = b;
  connections_[c.rank].push_back(c);
  connections_[c.peer].push_back({c.peer, c.rank, c.channel});
  return a;
}

void PacketFabric::send(const Connection &c, const std::byte *data, std::uint64_t bytes, std::uint32_t digest,
                        std::uint64_t tag, bool) {
  SendRequest request;
  request.id = tag;
  request.ranges = {{address(c.rank, data), keys_[c.rank], bytes}};
  request.has_immediate = true;
  request.immediate = digest;
  const std::uint32_t qp = pair_of(c);
  cluster_.nic(c.rank).post_send(qp, request);
}

void PacketFabric::receive(const Connection &c, std::byte *target, std::uint64_t bytes, std::uint64_t tag,
                           bool announced) {
  const std::uint32_t qp = pair_of(c);
  cluster_.nic(c.rank).post_receive(qp, {tag, {{address(c.rank, target), keys_[c.rank], bytes}}}, announced);
}

void PacketFabric::completed(std::uint32_t rank, const Completion &completion) {
  if (completion.status == Status::success) {
    if (completion.is_receive) {
      listener_->received(rank, completion.id, completion.bytes, completion.immediate);
    } else {
      listener_->sent(rank, completion.id, queue().now());
    }
    return;
  }
  // What was flushed follows the error that is the reason, except where the other end has that.
  if (completion.status == Status::flushed || completion.status == Status::remote_invalid) return;
  listener_->failed(connections_[rank][completion.qp], completion.qp, completion.status);
}

Fabric::State PacketFabric::state(const Connection &c) {
  const std::uint32_t qp = pair_of(c);
  const QueuePairState state = cluster_.nic(c.rank).state(qp);
  return {qp, state.bytes_outstanding, state.waits_for_receive};
}

FabricCounters PacketFabric::counters() const {
  FabricCounters sum;
  for (std::uint32_t rank = 0; rank < topology_.ranks(); ++rank) {
    const NicCounters &nic = cluster_.nic(rank).counters();
    sum.data_packets += nic.data_packets;
    sum.retransmitted += nic.retransmitted;
    sum.notifications += nic.notifications;
    sum.timeouts += nic.timeouts;
  }
  for (std::uint32_t v = 0; v < topology_.vertices().size(); ++v) {
    const Switch *device = cluster_.switch_at(v);
    if (device == nullptr) continue;
    sum.dropped += device->counters().dropped;
    sum.marked += device->counters().marked;
    sum.pauses += device->counters().pauses;
  }
  for (std::uint32_t l = 0; l < topology_.links(); ++l) sum.dropped += cluster_.link(l).counters().dropped;
  return sum;
}

std::vector<double> PacketFabric::wire_bytes() const {
  std::vector<double> bytes;
  for (std::uint32_t l = 0; l < topology_.links(); ++l) {
    bytes.push_back(static_cast<double>(cluster_.link(l).counters().wire_bytes));
  }
  return bytes;
}

}  // namespace cx::hw::net
