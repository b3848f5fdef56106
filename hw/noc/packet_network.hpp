// The network flit by flit: what the calendars of links (link_calendar.hpp) stand for, and what gives the latency-load
// curve. No SystemC; time is the network's own cycle.
#ifndef HW_NOC_PACKET_NETWORK_HPP
#define HW_NOC_PACKET_NETWORK_HPP

#include <cstdint>
#include <deque>
#include <vector>

#include "hw/noc/topology.hpp"

namespace cx::hw {

struct RouterParams {
  unsigned vcs = 4;              // virtual channels of an input port (noc.vcs), divided among the topology's classes
  unsigned vc_buffer_flits = 8;  // buffer of each (noc.vc_buffer_flits)
  unsigned router_cycles = 3;    // a head flit's way through a router (noc.router_cycles)
  unsigned link_cycles = 1;      // a flit's time on a link (noc.link_cycles)

  // A buffer's slot is known to be free this many cycles after its flit won the switch: the credit's way back over the
  // link, and one cycle at either end.
  unsigned credit_cycles() const { return link_cycles + 2; }
  // From a flit's departure to that of the flit that takes its place in the next router's buffer, at the least.
  unsigned credit_loop() const;
  // Flits a cycle that a stream of packets gets over a free link: all virtual channels together hold what is under way
  // in a credit loop, or the link idles.
  double stream_rate(unsigned channels) const;
};

// Input-queued routers with virtual channels and credits (Dally and Towles, 2004, 16): a head flit takes an output
// virtual channel, then each flit competes for the switch. Both allocators are separable, output first, with
// round-robin priorities that move on only when a grant is accepted (iSLIP with one iteration; McKeown, IEEE/ACM Trans.
// Networking, 1999). Each router has one terminal, with a link in each direction; its source queue is unbounded and
// it takes what arrives. A terminal sends one packet after the other.
//
// A packet of F flits over h links takes on an idle network, with the links of both terminals,
//   (h + 1) router + (h + 2) link + F cycles: a terminal takes a flit in one cycle.
class PacketNetwork {
 public:
  struct Packet {
    unsigned from, to;  // routers
    unsigned flits;
    std::uint64_t created;  // cycle of send()
    std::uint64_t arrived;  // cycle in which the terminal has taken the last flit
    std::uint64_t number;   // in the order of send()
  };

  // Throws std::invalid_argument for sizes of 0, or fewer virtual channels than the topology has classes.
  PacketNetwork(const Topology &topology, const RouterParams &params);

  // Queues a packet at a terminal in the present cycle.
  void send(unsigned from, unsigned to, unsigned flits);
  // One cycle passes.
  void step();

  std::uint64_t cycle() const { return cycle_; }
  std::uint64_t under_way() const { return under_way_; }  // packets sent and not arrived
  // Packets that have arrived since the last call, in the order of arrival.
  std::vector<Packet> take_arrived();
  // Flits that have crossed a link so far.
  std::uint64_t flits_on(unsigned link) const { return link_flits_.at(link); }

 private:
  struct Flit {
    unsigned packet;  // in packets_
    unsigned hop;     // links crossed
    bool head, tail;
    std::uint64_t ready;  // first cycle in which it may compete
  };
  struct InputVc {
    std::deque<Flit> flits;
    int output = -1;  // port, once its head has been routed and has a channel there
    unsigned channel = 0;
    std::uint64_t switch_from = 0;  // first cycle in which the head may compete for the switch
  };
  struct OutputVc {
    bool taken = false;
    unsigned credits = 0;
  };
  struct Router {
    std::vector<unsigned> in_links, out_links;  // ports 0..; the last port on either side is the terminal's
    std::vector<std::vector<InputVc>> inputs;   // by port, by channel
    std::vector<std::vector<OutputVc>> outputs;
    std::vector<unsigned> channel_grant;   // by output channel (port x vcs + vc): input channel with priority
    std::vector<unsigned> channel_accept;  // by input channel: output channel with priority
    std::vector<unsigned> switch_grant;    // by output port: input port with priority
    std::vector<unsigned> switch_accept;   // by input port: output port with priority
    std::vector<unsigned> turn;            // by input port: channel with priority
    unsigned buffered = 0;
  };
  struct Transit {
    std::uint64_t at;
    unsigned router, port, channel;
    Flit flit;
  };
  struct Credit {
    std::uint64_t at;
    unsigned router, port, channel;  // whose credit it is; router == routers: a terminal's
  };
  struct Terminal {
    std::deque<unsigned> waiting;  // packets
    unsigned sent = 0;             // flits of the first
    unsigned channel = 0;          // of the packet being sent
    unsigned next_channel = 0;
    std::vector<OutputVc> channels;
  };
  struct InFlight {
    Packet packet;
    NocRoute route;
  };

  void arrive();
  void inject(unsigned terminal);
  void allocate_channels(Router &router);
  void allocate_switch(Router &router, unsigned number);
  unsigned first_channel(unsigned vc_class) const { return vc_class * per_class_; }
  unsigned output_of(const Router &router, const Flit &flit) const;

  RouterParams params_;
  const Topology &topology_;
  unsigned per_class_;
  std::vector<Router> routers_;
  std::vector<unsigned> from_port_, to_port_;  // by link: port at either end
  std::vector<Terminal> terminals_;
  std::deque<Transit> transits_;  // all take as long: in the order of their time
  std::deque<Transit> injections_;
  std::deque<Credit> credits_;
  std::vector<InFlight> packets_;
  std::vector<unsigned> free_packets_;
  std::vector<Packet> arrived_;
  std::deque<std::pair<std::uint64_t, unsigned>> ejections_;
  std::vector<std::uint64_t> link_flits_;
  std::uint64_t cycle_ = 0, sent_ = 0, under_way_ = 0;
};

}  // namespace cx::hw

#endif
