// A switch with a shared buffer: routing, queues, marks, pauses. Rule: README.md.
#ifndef HW_SWITCH_SWITCH_HPP
#define HW_SWITCH_SWITCH_HPP

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "hw/link/link.hpp"

namespace cx::hw::net {

struct SwitchParams {
  std::uint64_t buffer_bytes = 32u << 20;  // shared by all ports
  double share = 1;  // an egress queue may grow to `share` times the free buffer (without flow control)
  bool pfc = false;
  std::uint64_t xoff_bytes = 0, xon_bytes = 0;  // of an ingress: pause above, resume at or below
  // Congestion marks: none below `ecn_low` bytes in the egress queue, then rising to `ecn_chance` at `ecn_high`, all
  // above.
  bool ecn = false;
  std::uint64_t ecn_low = 0, ecn_high = 0;
  double ecn_chance = 0;
};

struct SwitchCounters {
  std::uint64_t forwarded = 0, dropped = 0, unroutable = 0, marked = 0, pauses = 0;
  std::uint64_t peak_buffer = 0;  // bytes
};

// Where packets go. Chooses among equal-cost links by the packet's flow.
class Router {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  // Egress port of the vertex; kNone: no way.
  virtual std::uint32_t egress(std::uint32_t vertex, const Packet &packet) const = 0;

 protected:
  ~Router() = default;
};

class Switch final : public PacketSource, public PacketReceiver {
 public:
  Switch(PacketPool &pool, const Router &router, std::uint32_t vertex, const SwitchParams &params, std::uint64_t seed);

  // Ports are numbered from 0 in the order in which they are added. Links may be set once both ends exist.
  std::uint32_t add_port();
  void connect(std::uint32_t port, Link *out, Link *in);

  Packet *peek(std::uint32_t port, bool paused) override;
  Packet *take(std::uint32_t port) override;
  void receive(Packet *packet, std::uint32_t port) override;

  const SwitchCounters &counters() const { return counters_; }
  std::uint64_t buffered() const { return used_; }

 private:
  struct Port {
    Link *out = nullptr, *in = nullptr;
    PacketQueue control, data;
    std::uint64_t queued = 0;  // bytes of `data`
    std::uint64_t holds = 0;   // bytes that came by this port and have not left
    bool pausing = false;
  };
  void drop(Packet *packet, std::uint32_t port);
  bool wants_mark(const Port &port);

  PacketPool &pool_;
  const Router &router_;
  std::uint32_t vertex_;
  SwitchParams params_;
  std::mt19937_64 random_;
  std::vector<Port> ports_;
  std::uint64_t used_ = 0;
  SwitchCounters counters_;
};

}  // namespace cx::hw::net

#endif
