#include "hw/cluster/topology.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "hw/pcie/link.hpp"

namespace cx::hw::net {

namespace {

Ps ps(double ns) { return static_cast<Ps>(std::llround(ns * 1000)); }

// Mixes bits: equal-cost choices of successive flows and switches are independent.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

constexpr unsigned kFlitGeneration = 6;

}  // namespace

Topology::Topology(const ClusterConfig &config) : config_(config), ranks_(ranks_of(config)) {
  add_nodes();
  first_switch_ = static_cast<std::uint32_t>(vertices_.size());
  const std::string &kind = config.topology.kind;
  if (kind == "switch") add_single();
  if (kind == "ring") add_torus({network_ports(config)});
  if (kind == "torus") add_torus(config.topology.dims);
  if (kind == "fat_tree") add_fat_tree();
  if (kind == "dragonfly") add_dragonfly();
  if (kind == "rail") add_rails();
  compute_routes();
  check_reachable();
}

std::uint32_t Topology::add_vertex(Vertex::Kind kind, std::string name, std::uint32_t node) {
  vertices_.push_back({kind, std::move(name), node, {}});
  return static_cast<std::uint32_t>(vertices_.size() - 1);
}

std::uint32_t Topology::add_edge(std::uint32_t a, std::uint32_t b, const LinkParams &params) {
  Edge edge;
  edge.a = a;
  edge.b = b;
  edge.port_a = static_cast<std::uint32_t>(vertices_[a].ports.size());
  edge.port_b = static_cast<std::uint32_t>(vertices_[b].ports.size());
  edge.name = vertices_[a].name + "-" + vertices_[b].name;
  edge.params = params;
  // Parallel links have numbers.
  unsigned same = 0;
  for (const std::uint32_t link : vertices_[a].ports) same += to(link) == b ? 1 : 0;
  if (same > 0) edge.name += "#" + std::to_string(same);
  const std::uint32_t number = static_cast<std::uint32_t>(edges_.size());
  vertices_[a].ports.push_back(2 * number);
  edges_.push_back(std::move(edge));
  vertices_[b].ports.push_back(2 * number + 1);
  return number;
}

LinkParams Topology::network_link() const {
  LinkParams params;
  params.bytes_per_second = config_.link.gbps * 1e9 / 8;
  params.latency = ps(config_.link.latency_ns);
  params.bit_error_rate = config_.link.bit_error_rate;
  return params;
}

LinkParams Topology::pcie_link() const {
  LinkParams params;
  params.framing.kind = Framing::Kind::pcie;
  params.framing.mps = config_.pcie.mps;
  params.framing.packet_overhead =
      PcieLink::kRequestHeader + (config_.pcie.gen < kFlitGeneration ? PcieLink::kPacketOverhead : 0);
  params.bytes_per_second = PcieLink::bytes_per_second(config_.pcie.gen, config_.pcie.width);
  if (config_.pcie.gen < kFlitGeneration) params.bytes_per_second *= 1 - config_.pcie.link_layer;
  params.latency = ps(config_.pcie.latency_ns);
  params.credit_bytes = std::uint64_t{config_.pcie.credit_kib} * 1024;
  return params;
}

void Topology::add_nodes() {
  const std::uint32_t cards = config_.node.cards;
  const bool adapters = config_.node.nic == "pcie";
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    add_vertex(Vertex::Kind::card,
               "node" + std::to_string(rank / cards) + (cards > 1 ? ".card" + std::to_string(rank % cards) : ""),
               rank / cards);
  }
  network_ports_.resize(network_ports(config_));
  for (std::uint32_t node = 0; node < config_.nodes; ++node) {
    const std::string name = "node" + std::to_string(node);
    std::uint32_t pcie = 0;
    if (cards > 1 || adapters) {
      pcie = add_vertex(Vertex::Kind::pcie_switch, name + ".pcie", node);
      for (std::uint32_t card = 0; card < cards; ++card) add_edge(node * cards + card, pcie, pcie_link());
    }
    for (std::uint32_t nic = 0; adapters && nic < config_.node.nics; ++nic) {
      const std::uint32_t adapter = add_vertex(Vertex::Kind::adapter, name + ".nic" + std::to_string(nic), node);
      add_edge(pcie, adapter, pcie_link());
      network_ports_[node * config_.node.nics + nic].vertex = adapter;
    }
  }
  if (!adapters) {
    for (std::uint32_t rank = 0; rank < ranks_; ++rank) network_ports_[rank].vertex = rank;
  }
}

void Topology::attach(std::uint32_t number, std::uint32_t network_switch, double rate_factor, bool internal) {
  NetworkPort &port = network_ports_[number];
  LinkParams params = network_link();
  params.bytes_per_second *= rate_factor;
  if (internal) {
    params.latency = 0;
    params.bit_error_rate = 0;
  }
  port.edge = add_edge(port.vertex, network_switch, params);
  port.own_port = edges_[port.edge].port_a;
  port.switch_vertex = network_switch;
  port.switch_port = edges_[port.edge].port_b;
}

void Topology::add_single() {
  const std::uint32_t only = network_switch("switch");
  for (std::uint32_t port = 0; port < network_ports_.size(); ++port) attach(port, only, 1, false);
}

void Topology::add_torus(const std::vector<std::uint32_t> &dims) {
  const std::uint32_t count = static_cast<std::uint32_t>(network_ports_.size());
  double degree = 0;
  for (const std::uint32_t length : dims) degree += length > 2 ? 2 : length - 1.0;
  std::vector<std::uint32_t> routers;
  for (std::uint32_t port = 0; port < count; ++port) routers.push_back(network_switch("router" + std::to_string(port)));
  // A router is part of its port: what joins them is as fast as all of the router's links and has no length.
  for (std::uint32_t port = 0; port < count; ++port) attach(port, routers[port], std::max(degree, 1.0), true);
  // Dimension 0 changes fastest.
  std::uint32_t stride = 1;
  for (const std::uint32_t length : dims) {
    for (std::uint32_t port = 0; port < count; ++port) {
      const std::uint32_t at = port / stride % length;
      if (length < 2 || (length == 2 && at == 1)) continue;
      const std::uint32_t next = port - at * stride + (at + 1) % length * stride;
      add_edge(routers[port], routers[next], network_link());
    }
    stride *= length;
  }
}

void Topology::add_fat_tree() {
  const auto &t = config_.topology;
  const std::uint32_t count = static_cast<std::uint32_t>(network_ports_.size());
  const std::uint32_t leaves = (count + t.down - 1) / t.down;
  const std::uint32_t pod = t.tiers == 3 ? std::min(t.pod_leaves, leaves) : leaves;
  std::vector<std::uint32_t> leaf;
  for (std::uint32_t l = 0; l < leaves; ++l) leaf.push_back(network_switch("leaf" + std::to_string(l)));
  for (std::uint32_t port = 0; port < count; ++port) attach(port, leaf[port / t.down], 1, false);
  const std::uint32_t per_port = ranks_ / count;
  group_sizes_.push_back(t.down * per_port);
  group_names_.push_back("leaf");
  if (leaves == 1) return;
  std::vector<std::uint32_t> spines;
  for (std::uint32_t p = 0; p < leaves / pod; ++p) {
    for (std::uint32_t u = 0; u < t.up; ++u) {
      const std::string name = t.tiers == 3 ? "pod" + std::to_string(p) + ".spine" : "spine";
      spines.push_back(network_switch(name + std::to_string(u)));
      for (std::uint32_t l = 0; l < pod; ++l) add_edge(leaf[p * pod + l], spines.back(), network_link());
    }
  }
  if (leaves / pod < 2) return;
  group_sizes_.push_back(t.down * pod * per_port);
  group_names_.push_back("pod");
  for (std::uint32_t u = 0; u < t.up; ++u) {
    for (std::uint32_t c = 0; c < t.core_up; ++c) {
      const std::uint32_t core = network_switch("core" + std::to_string(u * t.core_up + c));
      for (std::uint32_t p = 0; p < leaves / pod; ++p) add_edge(spines[p * t.up + u], core, network_link());
    }
  }
}

void Topology::add_dragonfly() {
  const auto &t = config_.topology;
  const std::uint32_t count = static_cast<std::uint32_t>(network_ports_.size());
  const std::uint32_t groups = count / (t.routers * t.ports);
  std::vector<std::uint32_t> routers;
  for (std::uint32_t g = 0; g < groups; ++g) {
    for (std::uint32_t r = 0; r < t.routers; ++r) {
      routers.push_back(network_switch("group" + std::to_string(g) + ".router" + std::to_string(r)));
      for (std::uint32_t p = 0; p < t.ports; ++p) {
        attach((g * t.routers + r) * t.ports + p, routers.back(), 1, false);
      }
      for (std::uint32_t other = 0; other < r; ++other) {
        add_edge(routers[g * t.routers + other], routers.back(), network_link());
      }
    }
  }
  const std::uint32_t per_port = ranks_ / count;
  group_sizes_.push_back(t.routers * t.ports * per_port);
  group_names_.push_back("group");
  // Every pair of groups gets as many links as fit for all pairs; a group deals them to its routers in turn.
  const std::uint32_t per_pair = groups > 1 ? t.routers * t.global_links / (groups - 1) : 0;
  std::vector<std::uint32_t> dealt(groups, 0);
  for (std::uint32_t round = 0; round < per_pair; ++round) {
    for (std::uint32_t a = 0; a < groups; ++a) {
      for (std::uint32_t b = a + 1; b < groups; ++b) {
        add_edge(routers[a * t.routers + dealt[a]++ % t.routers], routers[b * t.routers + dealt[b]++ % t.routers],
                 network_link());
      }
    }
  }
}

void Topology::add_rails() {
  const std::uint32_t per_node = static_cast<std::uint32_t>(network_ports_.size()) / config_.nodes;
  std::vector<std::uint32_t> rails;
  for (std::uint32_t r = 0; r < per_node; ++r) {
    rails.push_back(network_switch("rail" + std::to_string(r)));
    for (std::uint32_t node = 0; node < config_.nodes; ++node) attach(node * per_node + r, rails[r], 1, false);
  }
  for (std::uint32_t s = 0; s < config_.topology.spines; ++s) {
    const std::uint32_t spine = network_switch("spine" + std::to_string(s));
    for (const std::uint32_t rail : rails) add_edge(rail, spine, network_link());
  }
}

std::string Topology::link_name(std::uint32_t link) const {
  const Edge &edge = edge_of(link);
  if (link % 2 == 0) return edge.name;
  std::string name = vertices_[edge.b].name + "-" + vertices_[edge.a].name;
  const std::size_t number = edge.name.rfind('#');
  return number == std::string::npos ? name : name + edge.name.substr(number);
}

std::size_t Topology::find_edge(const std::string &name) const {
  for (std::size_t e = 0; e < edges_.size(); ++e) {
    if (edges_[e].name == name || link_name(static_cast<std::uint32_t>(2 * e + 1)) == name) return e;
  }
  return edges_.size();
}

void Topology::compute_routes() {
  // Cards keep their own adapter while it has a link, else the next of the node that has one.
  const std::uint32_t cards = config_.node.cards;
  const std::uint32_t per_node = static_cast<std::uint32_t>(network_ports_.size()) / config_.nodes;
  serving_.assign(ranks_, 0);
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    const std::uint32_t node = rank / cards, own = rank % cards * per_node / cards;
    serving_[rank] = node * per_node + own;
    for (std::uint32_t i = 0; config_.node.nic == "pcie" && i < per_node; ++i) {
      const std::uint32_t port = node * per_node + (own + i) % per_node;
      if (!edges_[network_ports_[port].edge].up) continue;
      serving_[rank] = port;
      break;
    }
  }
  const std::uint32_t switches = static_cast<std::uint32_t>(vertices_.size()) - first_switch_;
  hop_begin_.assign(std::size_t{switches} * switches + 1, 0);
  hops_.clear();
  constexpr std::uint32_t kFar = ~std::uint32_t{0};
  std::vector<std::uint32_t> order;
  std::vector<std::uint32_t> distances(std::size_t{switches} * switches, kFar);
  for (std::uint32_t target = 0; target < switches; ++target) {
    std::uint32_t *distance = &distances[std::size_t{target} * switches];
    distance[target] = 0;
    order.assign(1, target);
    for (std::size_t i = 0; i < order.size(); ++i) {
      for (const std::uint32_t link : vertices_[first_switch_ + order[i]].ports) {
        const std::uint32_t other = to(link);
        if (!edge_of(link).up || other < first_switch_ || distance[other - first_switch_] != kFar) continue;
        distance[other - first_switch_] = distance[order[i]] + 1;
        order.push_back(other - first_switch_);
      }
    }
  }
  for (std::uint32_t at = 0; at < switches; ++at) {
    const Vertex &vertex = vertices_[first_switch_ + at];
    for (std::uint32_t target = 0; target < switches; ++target) {
      const std::uint32_t *distance = &distances[std::size_t{target} * switches];
      hop_begin_[std::size_t{at} * switches + target] = static_cast<std::uint32_t>(hops_.size());
      if (at == target || distance[at] == kFar) continue;
      for (std::uint32_t port = 0; port < vertex.ports.size(); ++port) {
        const std::uint32_t other = to(vertex.ports[port]);
        if (edge_of(vertex.ports[port]).up && other >= first_switch_ &&
            distance[other - first_switch_] + 1 == distance[at]) {
          hops_.push_back(port);
        }
      }
    }
  }
  hop_begin_.back() = static_cast<std::uint32_t>(hops_.size());
}

std::uint32_t Topology::egress(std::uint32_t number, const Packet &packet) const {
  const Vertex &vertex = vertices_[number];
  const std::uint32_t node = node_of(packet.target);
  const bool to_this_node = node == vertex.node;
  switch (vertex.kind) {
    case Vertex::Kind::card:
      // The PCIe switch is always the first neighbour.
      if (to_this_node || config_.node.nic == "pcie") return 0;
      return edges_[network_ports_[serving_[number]].edge].up ? network_ports_[serving_[number]].own_port : kNone;
    case Vertex::Kind::pcie_switch: {
      const std::uint32_t cards = config_.node.cards;
      if (to_this_node) return packet.target % cards;
      const std::uint32_t per_node = static_cast<std::uint32_t>(network_ports_.size()) / config_.nodes;
      return cards + serving_[packet.source] % per_node;
    }
    case Vertex::Kind::adapter:
      if (to_this_node) return 0;
      return 1;
    case Vertex::Kind::network_switch:
      break;
  }
  const NetworkPort &target = network_ports_[serving_[packet.target]];
  if (target.switch_vertex == number) return edges_[target.edge].up ? target.switch_port : kNone;
  const std::uint32_t switches = static_cast<std::uint32_t>(vertices_.size()) - first_switch_;
  const std::size_t entry = std::size_t{number - first_switch_} * switches + (target.switch_vertex - first_switch_);
  const std::uint32_t begin = hop_begin_[entry], count = hop_begin_[entry + 1] - begin;
  if (count == 0) {
    // Rails that meet only in the nodes: by any adapter of the target's node, then over its PCIe switch.
    const std::uint32_t per_node = static_cast<std::uint32_t>(network_ports_.size()) / config_.nodes;
    for (std::uint32_t nic = 0; config_.node.nic == "pcie" && nic < per_node; ++nic) {
      const NetworkPort &port = network_ports_[node * per_node + nic];
      if (port.switch_vertex == number && edges_[port.edge].up) return port.switch_port;
    }
    return kNone;
  }
  return hops_[begin + (count == 1 ? 0 : mixed(std::uint64_t{packet.flow} << 32 | number) % count)];
}

std::vector<std::uint32_t> Topology::path(std::uint32_t source, std::uint32_t target, std::uint32_t flow) const {
  Packet packet;
  packet.source = source;
  packet.target = target;
  packet.flow = flow;
  std::vector<std::uint32_t> links;
  for (std::uint32_t at = source; at != target;) {
    const std::uint32_t port = egress(at, packet);
    if (port == kNone || port >= vertices_[at].ports.size() || links.size() > vertices_.size()) return {};
    links.push_back(vertices_[at].ports[port]);
    at = to(links.back());
  }
  return links;
}

void Topology::check_reachable() const {
  // Ways are symmetric: it is enough that one rank reaches all, by rank and by rail.
  const std::uint32_t cards = config_.node.cards;
  for (std::uint32_t from = 0; from < std::min(cards, ranks_); ++from) {
    for (std::uint32_t to = 0; to < ranks_; ++to) {
      if (from != to && path(from, to, 0).empty()) {
        throw UnreachableError("topology " + config_.topology.kind + ": there is no way from " + vertices_[from].name +
                               " (rank " + std::to_string(from) + ") to " + vertices_[to].name + " (rank " +
                               std::to_string(to) + ")");
      }
    }
  }
}

std::vector<Cut> Topology::cuts() const {
  struct Level {
    std::string name;
    std::uint32_t size;
  };
  std::vector<Level> levels{{"card", 1}};
  if (config_.node.cards > 1) levels.push_back({"node", config_.node.cards});
  for (std::size_t g = 0; g < group_sizes_.size(); ++g) levels.push_back({group_names_[g], group_sizes_[g]});
  const std::string &kind = config_.topology.kind;
  if ((kind == "ring" || kind == "torus") && network_ports_.size() > 2) levels.push_back({"half", ranks_ / 2});
  std::vector<Cut> cuts;
  std::vector<std::uint8_t> inside(vertices_.size());
  for (const Level &level : levels) {
    if (level.size >= ranks_ || level.size == 0) continue;
    for (std::uint32_t first = 0; first + level.size <= ranks_; first += level.size) {
      // What belongs to these ranks alone: their cards; PCIe switches, adapters and network switches between them that
      // reach no card outside without another switch.
      std::fill(inside.begin(), inside.end(), 0);
      for (std::uint32_t rank = first; rank < first + level.size; ++rank) inside[rank] = 1;
      for (bool grown = level.size > 1; grown;) {
        grown = false;
        for (std::uint32_t v = ranks_; v < vertices_.size(); ++v) {
          if (inside[v] != 0) continue;
          bool touches = false, outside = false;
          for (const std::uint32_t link : vertices_[v].ports) {
            const std::uint32_t other = to(link);
            const bool below = vertices_[v].kind != Vertex::Kind::network_switch
                                   ? vertices_[other].kind == Vertex::Kind::card ||
                                         (vertices_[v].kind == Vertex::Kind::adapter && other < first_switch_)
                                   : other < first_switch_;
            touches |= below && inside[other] != 0;
            outside |= below && inside[other] == 0;
          }
          if (touches && !outside) {
            inside[v] = 1;
            grown = true;
          }
        }
      }
      Cut cut{level.name, level.name + std::to_string(first / level.size), first, level.size, 0, 0};
      for (const Edge &edge : edges_) {
        if (!edge.up || inside[edge.a] == inside[edge.b]) continue;
        const double payload = config_.rdma.mtu;
        const double rate = edge.params.bytes_per_second * payload /
                            static_cast<double>(edge.params.framing.wire_bytes(config_.rdma.mtu, 0));
        cut.out += rate;
        cut.in += rate;
      }
      cuts.push_back(cut);
    }
  }
  return cuts;
}

}  // namespace cx::hw::net
