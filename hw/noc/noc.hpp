// On-chip interconnect: TLM-2.0 routing by address, DMI, and the timing of links.
#ifndef HW_NOC_NOC_HPP
#define HW_NOC_NOC_HPP

#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/noc/bandwidth.hpp"
#include "hw/noc/link_network.hpp"
#include "hw/noc/origin.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/trace.hpp"

namespace cx::hw {

// A network of routers in place of the crossbar.
struct NocNetworkParams {
  Topology topology;
  LinkNetworkParams links;                  // their cycle is in 1/65536 cycles of the chip
  std::map<std::string, unsigned> routers;  // of initiators and memories by name (place_blocks())
};

struct NocParams {
  double bytes_per_cycle = 64;  // of one link of the crossbar, each direction (noc.bytes_per_cycle)
  Cycles hop_cycles = 4;        // latency of one hop (noc.hop_cycles); initiator to target are two hops
  std::optional<NocNetworkParams> network = {};  // none: a crossbar
};

class MemoryErrors;  // hw/ras

// Timing of a memory behind the NoC for requests that move data by pointer. Implemented by Dram.
class MemoryTiming {
 public:
  virtual ~MemoryTiming() = default;

  // A request that reaches the memory at cycle `start` and touches `bytes` bytes within
  // [offset, offset + span) (span == bytes when contiguous). Returns the cycle at which the last byte is read or
  // stored.
  virtual Cycles reserve(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) = 0;

  // Part of that time before the first byte moves on an idle memory.
  virtual Cycles access_latency() const = 0;

  // Parts of the memory that have a place of their own in a network, and which of them serves the byte at `offset`.
  // Stripes of stripe_bytes() (0: there is one part) go round the parts; after stripes() of them it begins again.
  virtual unsigned ports() const { return 1; }
  virtual unsigned port_of(std::uint64_t offset) const {
    (void)offset;
    return 0;
  }
  virtual std::uint64_t stripe_bytes() const { return 0; }
  virtual unsigned stripes() const { return ports(); }
};

// Initiators and targets are added at elaboration. The sockets of initiators and targets have the TLM default width of
// 32 bits; transactions are of any length.
//
// b_transport: the target sees addresses relative to its window. The delay grows by the links' time and whatever the
// target adds. An address range that is not inside one window completes with TLM_ADDRESS_ERROR_RESPONSE.
class Noc : public sc_core::sc_module {
 public:
  static constexpr unsigned kHopsOneWay = 2;  // initiator to target on the crossbar

  using InitiatorId = unsigned;
  using TargetId = unsigned;

  Noc(sc_core::sc_module_name name, const Clock &clock, const NocParams &params);
  ~Noc() override;

  // Connects an initiator socket. `side` is what origin_of() tells the targets.
  InitiatorId add_initiator(const std::string &name, tlm::tlm_initiator_socket<> &socket,
                            regs::Side side = regs::Side::firmware);

  // Transactions of this initiator to targets without timing go beside the links from here on, and take this long with
  // all that the target does.
  void set_port(InitiatorId initiator, Cycles cycles);

  // Connects a target socket at [base, base + size). Windows that overlap throw std::invalid_argument.
  // `timing`: the target's own share of reserve(); none for registers. `lanes`: parallel links to this target on the
  // crossbar. On a network each port of `timing` hangs where NAME0, NAME1, ... are placed; targets that have no
  // place of their own share the node `registers`.
  TargetId add_target(const std::string &name, std::uint64_t base, std::uint64_t size, tlm::tlm_target_socket<> &socket,
                      MemoryTiming *timing = nullptr, unsigned lanes = 1);

  // Prices a bulk access by `initiator` from cycle `start` to `bytes` bytes within [address, address + span): links in
  // both directions, then the target's timing. Returns the cycle at which the last byte has arrived (read) or is stored
  // (write). The caller moves the data itself by DMI. The address must be mapped (std::out_of_range).
  Cycles reserve(InitiatorId initiator, Cycles start, std::uint64_t address, std::uint64_t span, std::uint64_t bytes,
                 bool write);
  Cycles reserve(InitiatorId initiator, Cycles start, std::uint64_t address, std::uint64_t bytes, bool write) {
    return reserve(initiator, start, address, bytes, bytes, write);
  }

  // One read of [address, address + bytes) whose data several initiators take: every link carries them once. The first
  // of `takers` asks. Returns the cycle at which all have the last byte; `arrivals`, if given, gets that of each.
  // Throws std::invalid_argument without takers, std::out_of_range for addresses that are not mapped.
  Cycles reserve_multicast(std::span<const InitiatorId> takers, Cycles start, std::uint64_t address,
                           std::uint64_t bytes, std::vector<Cycles> *arrivals = nullptr);

  // What reserve() takes for an access to `address` beyond the transfer itself when nothing else is under way.
  Cycles latency(InitiatorId initiator, std::uint64_t address, bool write) const;

  // Whether [address, address + bytes) lies in one window.
  bool mapped(std::uint64_t address, std::uint64_t bytes) const { return route(address, bytes) != nullptr; }

  // Wrong words of the memories behind this NoC, for who moves data by pointer; nullptr while there are none.
  MemoryErrors *memory_errors() const;
  void set_memory_errors(MemoryErrors *errors) { memory_errors_ = errors; }

  // Payload bytes carried since reset, both directions.
  std::uint64_t bytes_carried() const { return bytes_carried_; }
  // Those bytes times the links that each crossed: two on the crossbar.
  std::uint64_t byte_hops() const { return network_ ? network_->byte_hops() : kHopsOneWay * bytes_carried_; }
  // The network's links and their counters; nullptr for a crossbar.
  const LinkNetwork *network() const { return network_.get(); }
  // Whether the last reserve() was held up by links rather than by the memory behind them.
  bool last_limited_by_links() const { return limited_by_links_; }

  // Records what holds the links from here on; nullptr ends it. Units: the network's links; of a crossbar the links of
  // the initiators, then of the targets, each its reading one first.
  void set_trace(Trace *trace);
  void close_records();
  // Of a unit; empty: there is none.
  std::string link_name(std::size_t link) const;

  const Clock &clock() const { return clock_; }
  const NocParams &params() const { return params_; }

  // What a target answers to a read by the host, without time or traffic. False: nothing is there, or it refuses.
  bool peek(std::uint64_t address, void *to, unsigned bytes);

  // Counters to zero, links free.
  void reset();

 private:
  struct Initiator;
  struct Target;

  const Target *route(std::uint64_t address, std::uint64_t bytes) const;
  Target *route(std::uint64_t address, std::uint64_t bytes);
  void forward(Initiator &initiator, Target &target, tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void b_transport(int initiator, tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  bool get_direct_mem_ptr(int initiator, tlm::tlm_generic_payload &transaction, tlm::tlm_dmi &dmi);
  unsigned transport_dbg(int initiator, tlm::tlm_generic_payload &transaction);
  void invalidate_direct_mem_ptr(int target, sc_dt::uint64 first, sc_dt::uint64 last);
  Cycles hold_links(Initiator &initiator, Target &target, Cycles start, std::uint64_t bytes, bool write);
  void record_link(std::size_t link, std::uint64_t asked, std::uint64_t begin, std::uint64_t end, std::uint64_t bytes);

  // ---- the network's counterparts ----
  struct Piece;
  struct Part;
  static void split(const Target &target, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes,
                    std::vector<Part> &parts);
  static LinkNetwork::NodeId node_of(const Target &target, std::uint64_t offset);
  LinkNetwork::NodeId attach(const std::string &name);
  std::uint64_t fine_start(Cycles start);
  Cycles network_read(std::span<const InitiatorId> takers, Target &target, Cycles start, std::uint64_t offset,
                      std::uint64_t span, std::uint64_t bytes, std::vector<Cycles> *arrivals);
  Cycles network_write(Initiator &initiator, Target &target, Cycles start, std::uint64_t offset, std::uint64_t span,
                       std::uint64_t bytes);
  void network_transport(Initiator &initiator, Target &target, tlm::tlm_generic_payload &transaction,
                         sc_core::sc_time &delay);

  Clock clock_;
  NocParams params_;
  std::unique_ptr<LinkNetwork> network_;
  std::map<std::string, LinkNetwork::NodeId> shared_nodes_;
  std::deque<std::unique_ptr<Initiator>> initiators_;
  std::deque<std::unique_ptr<Target>> targets_;
  std::vector<Target *> by_base_;
  std::uint64_t bytes_carried_ = 0;
  MemoryErrors *memory_errors_ = nullptr;
  bool limited_by_links_ = false;
  Trace *trace_ = nullptr;
  std::vector<TraceBurst> bursts_;  // of a crossbar
};

}  // namespace cx::hw

#endif
