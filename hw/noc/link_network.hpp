// The network as calendars of its links: prices transfers of any size without an event per packet. No SystemC.
#ifndef HW_NOC_LINK_NETWORK_HPP
#define HW_NOC_LINK_NETWORK_HPP

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hw/noc/link_calendar.hpp"
#include "hw/noc/packet_network.hpp"
#include "hw/noc/topology.hpp"
#include "hw/trace/trace.hpp"

namespace cx::hw {

// Time is in units of which a cycle of the network has `cycle` (for the chip: 1/65536 core cycles).
struct LinkNetworkParams {
  RouterParams router;
  unsigned flit_bytes = 64;     // what a link carries in a cycle (noc.bytes_per_cycle)
  unsigned packet_bytes = 256;  // largest payload of a packet (noc.packet_bytes); its head is a flit of its own
  std::uint64_t cycle = 65536;
};

// Nodes hang on routers by a link in each direction. The packets of a transfer follow each other along its route; a
// link is held for their flits, and the head waits in a router's buffers until its next link is free (virtual
// cut-through; the calendars do not bound the buffers, see README.md).
class LinkNetwork {
 public:
  using NodeId = unsigned;

  struct LinkUse {
    std::string from, to;       // "r5" for router 5, or the name of a node
    std::uint64_t bytes = 0;    // payload
    std::uint64_t flits = 0;    // with heads and requests
    std::uint64_t busy = 0;     // time taken
    std::uint64_t waited = 0;   // time that pieces waited for this link
    std::uint64_t crowded = 0;  // time beyond kValidatedLoad, up to now: see crowded()
    bool local = false;         // between a router and its node
  };

  // Up to this part of a link's time taken by several streams, latencies were compared with a network of routers
  // (docs/validation.md); beyond it routers lose what calendars do not know of.
  static constexpr double kValidatedLoad = 0.6;

  // Throws std::invalid_argument for sizes of 0.
  LinkNetwork(Topology topology, const LinkNetworkParams &params);

  // At elaboration. Throws std::out_of_range for a router that does not exist.
  NodeId attach(const std::string &name, unsigned router);
  unsigned router_of(NodeId node) const { return nodes_.at(node).router; }

  // Time from a head's departure to its arrival on an idle network.
  std::uint64_t head_latency(NodeId from, NodeId to) const;
  // Flits of `bytes` bytes of payload with their heads; a packet without payload is one flit.
  std::uint64_t flits(std::uint64_t bytes) const;
  std::uint64_t duration(std::uint64_t bytes) const { return flits(bytes) * params_.cycle; }
  // How far apart the pieces of one mover are on a link at least because of the credits.
  std::uint64_t pace(std::uint64_t flits) const;

  // A piece of a transfer that can leave at `ready` or later. Returns when its last byte has arrived: never before an
  // earlier piece of the same pair of nodes. `mover` is the node that asked: movers share links. On a link that others
  // used lately a mover leaves room for twice what they took, at most for equal shares, and does not use that room.
  std::uint64_t send(NodeId mover, NodeId from, NodeId to, std::uint64_t ready, std::uint64_t bytes);
  // The same to several nodes over one tree of links: each link carries the piece once.
  // Returns when the last node has it; `arrivals`, if given, gets the time of each.
  std::uint64_t multicast(NodeId mover, NodeId from, std::span<const NodeId> to, std::uint64_t ready,
                          std::uint64_t bytes, std::vector<std::uint64_t> *arrivals = nullptr);

  // One packet of `flits` flits without payload (a request or an acknowledgement).
  std::uint64_t control(NodeId from, NodeId to, std::uint64_t start, std::uint64_t flits = 1);

  // No request from here on starts before `time`.
  void advance(std::uint64_t time) { now_ = time > now_ ? time : now_; }

  const Topology &topology() const { return topology_; }
  const LinkNetworkParams &params() const { return params_; }
  const std::vector<LinkUse> &uses() const { return uses_; }
  // Time in stretches of 4096 cycles for more than kValidatedLoad of which packets of several pairs of nodes took the
  // link.
  std::uint64_t crowded(unsigned link) const;
  const LinkCalendar &calendar(unsigned link) const { return calendars_.at(link); }
  // Payload bytes times links between routers, and of nodes' own links.
  std::uint64_t byte_hops() const { return byte_hops_; }

  // Records what holds the links from here on, with the places in uses() as units; nullptr ends it.
  void set_trace(Trace *trace);
  // Appends what has been gathered.
  void close_records();

  // Links free, counters zero.
  void reset();

 private:
  struct Node {
    std::string name;
    unsigned router, out, in;  // links
  };
  struct Path {
    std::vector<unsigned> links;
    std::uint64_t last_arrival = 0;
  };
  // A mover on a link.
  struct Share {
    NodeId mover;
    std::uint64_t taken = 0, at = 0;  // what it took lately, in time; forgotten linearly over kMemoryCycles
    std::uint64_t next = 0;           // before this it leaves the link to others
    std::uint64_t owed = 0;           // room to leave that is smaller than a piece
  };

  // Of a link, a stretch of time that is not past yet.
  struct Stretch {
    std::uint64_t taken = 0;
    std::uint64_t pair = 0;  // whose packets took it
    bool several = false;    // and others'
  };
  struct Stretches {
    std::uint64_t first = 0;  // number of the first
    std::deque<Stretch> open;
  };

  std::uint64_t stretch_time() const;
  bool is_crowded(const Stretch &stretch) const;
  void note_load(unsigned link, std::uint64_t pair, std::uint64_t begin, std::uint64_t time);
  std::uint64_t pair_of(NodeId from, NodeId to) const { return std::uint64_t{from} << 32 | to; }
  Path &path(NodeId from, NodeId to);
  std::uint64_t hop_time() const;
  LinkCalendar::Interval take(unsigned link, std::uint64_t pair, std::uint64_t earliest, std::uint64_t flits,
                              std::uint64_t bytes);
  LinkCalendar::Interval share(unsigned link, NodeId mover, std::uint64_t pair, std::uint64_t earliest,
                               std::uint64_t flits, std::uint64_t bytes);
  unsigned add_link(std::string from, std::string to, bool local);
  // Part of the link's time that the others' room takes, in 1/65536.
  std::uint64_t others_share(unsigned link, NodeId mover, std::uint64_t time) const;

  Topology topology_;
  LinkNetworkParams params_;
  std::vector<Node> nodes_;
  std::vector<LinkCalendar> calendars_;
  std::vector<LinkUse> uses_;
  std::vector<std::vector<Share>> shares_;
  std::vector<Stretches> stretches_;
  std::vector<std::vector<std::unique_ptr<Path>>> paths_;
  std::uint64_t now_ = 0;
  std::uint64_t byte_hops_ = 0;
  Trace *trace_ = nullptr;
  std::vector<TraceBurst> bursts_;
};

}  // namespace cx::hw

#endif
