// The graph of a cluster, its routes and cuts. Rule: README.md.
#ifndef HW_CLUSTER_TOPOLOGY_HPP
#define HW_CLUSTER_TOPOLOGY_HPP

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/cluster/cluster_config.hpp"
#include "hw/link/link.hpp"
#include "hw/switch/switch.hpp"

namespace cx::hw::net {

struct Vertex {
  enum class Kind : std::uint8_t { card, pcie_switch, adapter, network_switch };
  Kind kind;
  std::string name;
  std::uint32_t node;                // of cards, PCIe switches and adapters
  std::vector<std::uint32_t> ports;  // the directed link that leaves by each port
};

// Two directed links: 2 e from a to b, 2 e + 1 back.
struct Edge {
  std::uint32_t a, b;
  std::uint32_t port_a, port_b;
  std::string name;
  LinkParams params;  // of both directions
  bool up = true;
};

// Ranks `first` to `first + count - 1` against all others.
struct Cut {
  std::string level;  // cuts of one level have equal sizes and are disjoint
  std::string name;
  std::uint32_t first, count;
  double out, in;  // payload bytes per second that cross at most
};

// There is no way between two ranks.
class UnreachableError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Topology final : public Router {
 public:
  // Throws UnreachableError naming two ranks that have no way to each other.
  explicit Topology(const ClusterConfig &config);

  const ClusterConfig &config() const { return config_; }
  std::uint32_t ranks() const { return ranks_; }
  std::uint32_t node_of(std::uint32_t rank) const { return rank / config_.node.cards; }
  const std::vector<Vertex> &vertices() const { return vertices_; }
  const std::vector<Edge> &edges() const { return edges_; }
  // The card's vertex has the number of its rank.
  std::size_t links() const { return 2 * edges_.size(); }
  const Edge &edge_of(std::uint32_t link) const { return edges_[link / 2]; }
  std::uint32_t from(std::uint32_t link) const { return link % 2 == 0 ? edge_of(link).a : edge_of(link).b; }
  std::uint32_t to(std::uint32_t link) const { return link % 2 == 0 ? edge_of(link).b : edge_of(link).a; }
  std::string link_name(std::uint32_t link) const;
  // An edge by the name of either direction or its own; edges().size() if there is none.
  std::size_t find_edge(const std::string &name) const;

  std::uint32_t egress(std::uint32_t vertex, const Packet &packet) const override;
  // Directed links from card to card; empty if there is no way. `flow` chooses among equal ones as for packets.
  std::vector<std::uint32_t> path(std::uint32_t source, std::uint32_t target, std::uint32_t flow) const;

  void set_edge(std::size_t edge, bool up) { edges_[edge].up = up; }
  // After edges have changed.
  void compute_routes();

  // Cards, nodes, and the groups that the topology has.
  std::vector<Cut> cuts() const;

 private:
  std::uint32_t add_vertex(Vertex::Kind kind, std::string name, std::uint32_t node);
  std::uint32_t add_edge(std::uint32_t a, std::uint32_t b, const LinkParams &params);
  void add_nodes();
  void attach(std::uint32_t port, std::uint32_t network_switch, double rate_factor, bool internal);
  void add_single();
  void add_torus(const std::vector<std::uint32_t> &dims);
  void add_fat_tree();
  void add_dragonfly();
  void add_rails();
  LinkParams network_link() const;
  LinkParams pcie_link() const;
  std::uint32_t network_switch(std::string name) {
    return add_vertex(Vertex::Kind::network_switch, std::move(name), 0);
  }
  void check_reachable() const;

  ClusterConfig config_;
  std::uint32_t ranks_;
  std::vector<Vertex> vertices_;
  std::vector<Edge> edges_;
  struct NetworkPort {
    std::uint32_t vertex = 0;         // adapter or card
    std::uint32_t switch_vertex = 0;  // that it hangs on
    std::uint32_t switch_port = 0;
    std::uint32_t edge = 0;
    std::uint32_t own_port = 0;  // of the adapter or card
  };
  std::vector<NetworkPort> network_ports_;
  std::vector<std::uint32_t> serving_;      // network port of a card
  std::uint32_t first_switch_ = 0;          // network switches are the vertices from here on
  std::vector<std::uint32_t> hop_begin_;    // [switch * switches + target switch]
  std::vector<std::uint32_t> hops_;         // ports
  std::vector<std::uint32_t> group_sizes_;  // ranks of a group, by level of the topology
  std::vector<std::string> group_names_;
};

}  // namespace cx::hw::net

#endif
