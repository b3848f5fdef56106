// DRAM: a lazily committed store behind interleaved channels.
#ifndef HW_DRAM_DRAM_HPP
#define HW_DRAM_DRAM_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/dram/channel.hpp"
#include "hw/dram/configured.hpp"
#include "hw/dram/mapping.hpp"
#include "hw/noc/bandwidth.hpp"
#include "hw/noc/noc.hpp"
#include "hw/noc/store.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/trace.hpp"

namespace cx::hw {

struct DramParams {
  std::uint64_t bytes = std::uint64_t{1} << 30;  // dram.mib * 2^20
  unsigned channels = 4;                         // dram.channels
  double bandwidth_gbps = 100;                   // all channels together, 10^9 bytes per second (dram.bandwidth_gbps)
  double latency_ns = 60;                        // dram.latency_ns
  std::uint64_t interleave_bytes = 1024;         // dram.interleave_bytes; a multiple of burst_bytes
  std::uint64_t burst_bytes = 64;                // least that a channel transfers; with a part, the part's
  std::optional<DramModelParams> part = {};      // timing of a part instead of bandwidth_gbps and latency_ns
  bool shared = false;                           // other processes may map the store
};

// Of all channels since reset. Times are those of the data buses, summed over the channels, in ns; all 0 without a
// part.
struct DramActivity {
  std::uint64_t row_hits = 0;       // bursts that found their row open
  std::uint64_t row_misses = 0;     // bursts that found their bank closed
  std::uint64_t row_conflicts = 0;  // bursts that found another row open
  std::uint64_t refreshes = 0;
  std::uint64_t turnarounds = 0;
  std::uint64_t code_bytes = 0;  // of inline ECC
  std::uint64_t busy_ns = 0;
  std::uint64_t idle_ns = 0;
  std::uint64_t row_ns = 0;
  std::uint64_t activate_ns = 0;
  std::uint64_t bank_group_ns = 0;
  std::uint64_t turnaround_ns = 0;
  std::uint64_t refresh_ns = 0;
};

// Timing: see README.md. Without a part, a request is rounded out to bursts, split over the channels by address, waits
// for each channel's earlier requests, and ends latency_ns after the last channel has transferred its part.
class Dram : public sc_core::sc_module, public MemoryTiming {
 public:
  // Throws std::invalid_argument for parameters out of range and std::system_error if the store cannot be reserved.
  Dram(sc_core::sc_module_name name, const Clock &clock, const DramParams &params);
  ~Dram() override;

  tlm_utils::simple_target_socket<Dram> socket;  // addresses from 0; grants DMI to everything

  // The store, zero until written. Untouched pages cost nothing.
  std::byte *data() { return store_.data(); }
  int file() const { return store_.file(); }  // of a shared store; another one after reset()
  std::uint64_t bytes() const { return params_.bytes; }
  const DramParams &params() const { return params_; }

  // Prices and counts a contiguous request. Returns the cycle at which its last byte is read or stored.
  Cycles reserve(Cycles start, std::uint64_t offset, std::uint64_t bytes, bool write) {
    return reserve(start, offset, bytes, bytes, write);
  }
  // A strided request: `bytes` bytes (whole bursts if shorter runs cost whole bursts) within [offset, offset + span).
  Cycles reserve(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) override;
  Cycles access_latency() const override { return latency_cycles_; }

  // Channel that serves the byte at `offset`; of a part, pseudo channels count.
  unsigned channel_of(std::uint64_t offset) const;

  DramActivity activity() const;

  // Channels have places of their own in a network; pseudo channels of a part share that of their channel.
  unsigned ports() const override { return params_.part ? params_.part->geometry.channels : params_.channels; }
  unsigned port_of(std::uint64_t offset) const override;
  std::uint64_t stripe_bytes() const override;
  unsigned stripes() const override { return params_.part ? params_.part->geometry.all_channels() : params_.channels; }

  // Bytes on the channels since reset, in whole bursts.
  std::uint64_t bytes_read() const { return bytes_read_; }
  std::uint64_t bytes_written() const { return bytes_written_; }

  // Records what the channels move from here on; nullptr ends it. Of a part a request counts as on its channel's bus
  // for the time of its bursts before its end.
  void set_trace(Trace *trace);
  void close_records();

  // Contents to zero (the pages return to the host), counters to zero, channels free.
  void reset();

 private:
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  bool get_direct_mem_ptr(tlm::tlm_generic_payload &transaction, tlm::tlm_dmi &dmi);
  unsigned transport_dbg(tlm::tlm_generic_payload &transaction);

  Cycles cycles_of(std::uint64_t ps) const;  // rounded up
  Cycles controller_cycles() const;
  void record(unsigned channel, std::uint64_t begin_fine, std::uint64_t end_fine, std::uint64_t bytes, bool write);
  Cycles reserve_part(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write);

  Clock clock_;
  DramParams params_;
  std::vector<BandwidthServer> channels_;
  std::optional<AddressMapping> mapping_;
  std::vector<DramChannel> part_channels_;
  std::vector<AddressMapping::Part> parts_;  // of the request that is being priced
  Cycles latency_cycles_;
  Store store_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t bytes_written_ = 0;
  Trace *trace_ = nullptr;
  std::vector<TraceBurst> bursts_;  // by channel
};

}  // namespace cx::hw

#endif
