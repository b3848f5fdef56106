// On-chip interconnect: TLM-2.0 routing by address, DMI, and the timing of links.
#ifndef HW_NOC_NOC_HPP
#define HW_NOC_NOC_HPP

#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/noc/bandwidth.hpp"
#include "hw/noc/origin.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

struct NocParams {
  double bytes_per_cycle = 64;  // of one link, each direction (noc.bytes_per_cycle)
  Cycles hop_cycles = 4;        // latency of one hop (noc.hop_cycles); initiator to target are two hops
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
};

// Initiators and targets are added at elaboration. The sockets of initiators and targets have the TLM default width of
// 32 bits; transactions are of any length.
//
// b_transport: the target sees addresses relative to its window. The delay grows by the links' time and whatever the
// target adds. An address range that is not inside one window completes with TLM_ADDRESS_ERROR_RESPONSE.
class Noc : public sc_core::sc_module {
 public:
  static constexpr unsigned kHopsOneWay = 2;  // initiator to target

  using InitiatorId = unsigned;
  using TargetId = unsigned;

  Noc(sc_core::sc_module_name name, const Clock &clock, const NocParams &params);
  ~Noc() override;

  // Connects an initiator socket. `side` is what origin_of() tells the targets.
  InitiatorId add_initiator(const std::string &name, tlm::tlm_initiator_socket<> &socket,
                            regs::Side side = regs::Side::firmware);

  // Connects a target socket at [base, base + size). Windows that overlap throw std::invalid_argument.
  // `timing`: the target's own share of reserve(); none for registers. `lanes`: parallel links to this target.
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

  // What reserve() takes for an access to `address` beyond the transfer itself when nothing else is under way.
  Cycles latency(std::uint64_t address, bool write) const;

  // Whether [address, address + bytes) lies in one window.
  bool mapped(std::uint64_t address, std::uint64_t bytes) const { return route(address, bytes) != nullptr; }

  // Wrong words of the memories behind this NoC, for who moves data by pointer; nullptr while there are none.
  MemoryErrors *memory_errors() const;
  void set_memory_errors(MemoryErrors *errors) { memory_errors_ = errors; }

  // Payload bytes carried since reset, both directions.
  std::uint64_t bytes_carried() const { return bytes_carried_; }
  const Clock &clock() const { return clock_; }
  const NocParams &params() const { return params_; }

  // Counters to zero, links free.
  void reset();

 private:
  struct Initiator;
  struct Target;

  const Target *route(std::uint64_t address, std::uint64_t bytes) const;
  Target *route(std::uint64_t address, std::uint64_t bytes);
  void b_transport(int initiator, tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  bool get_direct_mem_ptr(int initiator, tlm::tlm_generic_payload &transaction, tlm::tlm_dmi &dmi);
  unsigned transport_dbg(int initiator, tlm::tlm_generic_payload &transaction);
  void invalidate_direct_mem_ptr(int target, sc_dt::uint64 first, sc_dt::uint64 last);
  Cycles hold_links(Initiator &initiator, Target &target, Cycles start, std::uint64_t bytes, bool write);

  Clock clock_;
  NocParams params_;
  std::deque<std::unique_ptr<Initiator>> initiators_;
  std::deque<std::unique_ptr<Target>> targets_;
  std::vector<Target *> by_base_;
  std::uint64_t bytes_carried_ = 0;
  MemoryErrors *memory_errors_ = nullptr;
};

}  // namespace cx::hw

#endif
