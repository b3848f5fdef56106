#include "hw/cluster/packet_cluster.hpp"

#include <cmath>

namespace cx::hw::net {

namespace {

Ps ps(double ns) { return static_cast<Ps>(std::llround(ns * 1000)); }

}  // namespace

RdmaParams rdma_params(const ClusterConfig &config) {
  RdmaParams params;
  params.mtu = config.rdma.mtu;
  params.window_bytes = std::uint64_t{config.rdma.window_kib} * 1024;
  params.recovery = config.rdma.recovery == "go_back_n" ? Recovery::go_back_n : Recovery::selective_repeat;
  params.ack_packets = config.rdma.ack_packets;
  params.retransmit = ps(config.rdma.retransmit_us * 1000);
  params.retries = config.rdma.retries;
  params.not_ready_time = ps(config.rdma.not_ready_us * 1000);
  params.message_time = ps(config.rdma.message_ns);
  params.completion_time = ps(config.rdma.completion_ns);
  params.dcqcn.on = config.dcqcn.on;
  params.dcqcn.gain = config.dcqcn.gain;
  params.dcqcn.increase_timer = ps(config.dcqcn.timer_us * 1000);
  params.dcqcn.alpha_timer = ps(config.dcqcn.alpha_us * 1000);
  params.dcqcn.fast_recovery = config.dcqcn.stages;
  params.dcqcn.clamp_target = config.dcqcn.clamp_target;
  params.dcqcn.increase_bytes = std::uint64_t{config.dcqcn.increase_kib} * 1024;
  params.dcqcn.additive = config.dcqcn.additive_mbps * 1e6 / 8;
  params.dcqcn.hyper = config.dcqcn.hyper_mbps * 1e6 / 8;
  params.dcqcn.notification_interval = ps(config.dcqcn.notification_us * 1000);
  return params;
}

Ps vertex_delay(const ClusterConfig &config, Vertex::Kind kind) {
  switch (kind) {
    case Vertex::Kind::card:
      return 0;
    case Vertex::Kind::pcie_switch:
      return ps(config.pcie.switch_ns);
    case Vertex::Kind::adapter:
      return ps(config.node.adapter_ns);
    case Vertex::Kind::network_switch:
      return ps(config.switch_.latency_ns);
  }
  return 0;
}

PacketCluster::PacketCluster(Topology &topology) : topology_(topology) {
  const ClusterConfig &config = topology.config();
  const RdmaParams rdma = rdma_params(config);
  SwitchParams params;
  params.buffer_bytes = std::uint64_t{config.switch_.buffer_kib} * 1024;
  params.share = config.switch_.share;
  params.pfc = config.pfc.on;
  params.xoff_bytes = std::uint64_t{config.pfc.xoff_kib} * 1024;
  params.xon_bytes = std::uint64_t{config.pfc.xon_kib} * 1024;
  params.ecn = config.ecn.on;
  params.ecn_low = std::uint64_t{config.ecn.low_kib} * 1024;
  params.ecn_high = std::uint64_t{config.ecn.high_kib} * 1024;
  params.ecn_chance = config.ecn.chance;
  const std::uint64_t seed = std::uint64_t{config.seed} << 32;
  const auto &vertices = topology.vertices();
  switches_.resize(vertices.size());
  for (std::uint32_t v = 0; v < vertices.size(); ++v) {
    if (vertices[v].kind == Vertex::Kind::card) {
      nics_.push_back(std::make_unique<Nic>(queue_, pool_, topology, v, v, rdma));
      for (std::size_t p = 0; p < vertices[v].ports.size(); ++p) nics_.back()->add_port();
      continue;
    }
    SwitchParams own = params;
    if (vertices[v].kind != Vertex::Kind::network_switch) own.ecn = false;
    switches_[v] = std::make_unique<Switch>(pool_, topology, v, own, seed + 2 * topology.links() + v);
    for (std::size_t p = 0; p < vertices[v].ports.size(); ++p) switches_[v]->add_port();
  }
  const auto source = [&](std::uint32_t v) -> PacketSource & {
    if (switches_[v]) return *switches_[v];
    return *nics_[v];
  };
  const auto receiver = [&](std::uint32_t v) -> PacketReceiver & {
    if (switches_[v]) return *switches_[v];
    return *nics_[v];
  };
  for (std::uint32_t l = 0; l < topology.links(); ++l) {
    const Edge &edge = topology.edge_of(l);
    LinkParams link = edge.params;
    link.receiver_delay = vertex_delay(config, vertices[topology.to(l)].kind);
    const bool forth = l % 2 == 0;
    links_.push_back(std::make_unique<Link>(queue_, pool_, topology.link_name(l), link, source(topology.from(l)),
                                            forth ? edge.port_a : edge.port_b, receiver(topology.to(l)),
                                            forth ? edge.port_b : edge.port_a, seed + l));
  }
  for (std::uint32_t l = 0; l < topology.links(); ++l) {
    const Edge &edge = topology.edge_of(l);
    const std::uint32_t v = topology.from(l), port = l % 2 == 0 ? edge.port_a : edge.port_b;
    if (switches_[v]) {
      switches_[v]->connect(port, links_[l].get(), links_[l ^ 1].get());
    } else {
      nics_[v]->connect_port(port, links_[l].get(), links_[l ^ 1].get());
    }
  }
}

void PacketCluster::inject(const ClusterFault &fault) {
  faults_.push_back(fault);
  queue_.at(fault.at, *this, kFault, faults_.size() - 1);
  if (fault.until != kNever) queue_.at(fault.until, *this, kFaultEnds, faults_.size() - 1);
}

void PacketCluster::set_edge_up(std::size_t edge, bool up) {
  links_[2 * edge]->set_up(up);
  links_[2 * edge + 1]->set_up(up);
  topology_.set_edge(edge, up);
  queue_.after(ps(topology_.config().routing.detect_us * 1000), *this, kReroute);
}

void PacketCluster::on_event(std::uint32_t what, std::uint64_t argument) {
  if (what == kReroute) {
    topology_.compute_routes();
    for (const auto &nic : nics_) nic->reroute();
    return;
  }
  const ClusterFault &fault = faults_[argument];
  const bool begins = what == kFault;
  switch (fault.kind) {
    case ClusterFault::Kind::link_down:
      set_edge_up(fault.edge, !begins);
      break;
    case ClusterFault::Kind::slow_link:
    case ClusterFault::Kind::lossy_link:
      for (const std::size_t l : {2 * fault.edge, 2 * fault.edge + 1}) {
        if (fault.kind == ClusterFault::Kind::slow_link) {
          links_[l]->set_speed(begins ? fault.factor : 1);
        } else {
          links_[l]->set_loss(begins ? fault.loss : 0);
        }
      }
      break;
    case ClusterFault::Kind::dead_node: {
      const std::uint32_t cards = topology_.config().node.cards;
      for (std::uint32_t card = 0; card < cards; ++card) nics_[fault.node * cards + card]->die();
      break;
    }
  }
}

}  // namespace cx::hw::net
