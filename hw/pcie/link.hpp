// Timing of the PCIe link: rate, encoding, packet overhead, tags and latency. Rule: README.md.
#ifndef HW_PCIE_LINK_HPP
#define HW_PCIE_LINK_HPP

#include <array>
#include <cstdint>
#include <deque>

#include "hw/noc/bandwidth.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/trace.hpp"

namespace cx::hw {

struct PcieLinkParams {
  unsigned gen = 4;         // 1 to 6 (pcie.gen)
  unsigned width = 16;      // lanes (pcie.width)
  unsigned mps = 256;       // bytes (pcie.mps)
  unsigned mrrs = 512;      // bytes (pcie.mrrs)
  double latency_ns = 350;  // one way (pcie.latency_ns)
  unsigned tags = 256;      // read requests under way (pcie.tags)
  unsigned rcb = 64;        // read completion boundary of the root, 64 or 128 bytes (pcie.rcb)
};

// What configuration space says about packets.
struct PcieLimits {
  unsigned mps = 256;
  unsigned mrrs = 512;
  unsigned tags = 256;
  unsigned rcb = 64;
  bool relaxed_ordering = true;  // completions of the card's reads may pass the host's posted writes
};

// Host memory that a transfer touches: `rows` runs of `row_bytes`, the first at `address`, each `pitch` after the one
// before.
struct PcieRuns {
  std::uint64_t rows = 1;
  std::uint64_t row_bytes = 0;
  std::uint64_t address = 0;
  std::uint64_t pitch = 0;

  std::uint64_t bytes() const { return rows * row_bytes; }
};

// All times are core cycles since simulated time 0. Packets of one direction pass in order.
class PcieLink {
 public:
  // Bytes on the wire besides header and payload: framing and sequence number 4, LCRC 4. In flit mode (generation 6)
  // the flit carries these for all of its packets.
  static constexpr unsigned kPacketOverhead = 8;
  static constexpr unsigned kRequestHeader = 16;     // 4 DW: memory request with a 64-bit address
  static constexpr unsigned kCompletionHeader = 12;  // 3 DW
  // Acknowledge and credit packets (DLLP) that one packet causes in the other direction, bytes.
  static constexpr unsigned kDllpPerPacket = 8;

  // Throws std::invalid_argument for a generation or width that does not exist.
  PcieLink(const Clock &clock, const PcieLinkParams &params);

  // Rate after encoding, one direction, bytes per second.
  static double bytes_per_second(unsigned gen, unsigned width);

  const PcieLimits &limits() const { return limits_; }
  // Throws std::invalid_argument for a limit of 0 or another read completion boundary than 64 and 128.
  void set_limits(const PcieLimits &limits);
  Cycles latency() const { return latency_; }

  // Packets of a transfer that is cut at multiples of `limit` (a power of two, at most 4096), as none may cross 4 KiB.
  static std::uint64_t packets(const PcieRuns &runs, unsigned limit);
  // Completions of read requests of at most `mrrs` bytes: the first of a request ends at a read completion boundary,
  // none holds more than `mps` bytes.
  static std::uint64_t completions(const PcieRuns &runs, unsigned mrrs, unsigned mps, unsigned rcb);

  // The host's processor: a posted write of `bytes` reaches the card; a read request reaches it; its answer reaches the
  // host.
  Cycles host_write(Cycles start, std::uint64_t bytes);
  Cycles host_read_request(Cycles start);
  Cycles host_read_completion(Cycles start, std::uint64_t bytes);

  // The card reads host memory: cycle at which the last byte is on the card.
  Cycles dma_read(Cycles start, const PcieRuns &runs);
  // The card writes: cycle at which the last byte has left the card (posted).
  Cycles dma_write(Cycles start, const PcieRuns &runs);

  // Another function's requests to this card's memory. A write: from when it reaches this card's link until its last
  // byte is on the card. A read: until the request is on the card; until its last byte has left the card.
  Cycles peer_write(Cycles start, const PcieRuns &runs);
  Cycles peer_read_request(Cycles start, const PcieRuns &runs);
  Cycles peer_read_completion(Cycles start, const PcieRuns &runs);

  // An MSI-X message: cycle at which it reaches the host.
  Cycles message(Cycles start);

  // Whether payload of the host's processor counts: what reads the counters is not part of what they tell.
  void count_host(bool on) { counts_host_ = on; }

  // Payload bytes since reset.
  std::uint64_t bytes_to_device() const { return to_device_; }
  std::uint64_t bytes_to_host() const { return to_host_; }
  // Everything that passed in both directions since reset: payload, headers, requests, acknowledgements.
  std::uint64_t bytes_on_wire() const { return on_wire_; }

  // Records when the directions are taken from here on; nullptr ends it.
  void set_trace(Trace *trace);
  void close_records();

  void reset();

 private:
  Cycles pass(BandwidthServer &direction, Cycles start, std::uint64_t wire_bytes) {
    on_wire_ += wire_bytes;
    const Cycles end = direction.reserve(start, wire_bytes);
    if (trace_ != nullptr) record(direction, wire_bytes);
    return end;
  }
  void record(const BandwidthServer &direction, std::uint64_t wire_bytes);

  // Read requests under way whose tags are still taken; they come back evenly from `first` to `last`.
  struct Outstanding {
    Cycles first, last;
    std::uint64_t requests;
  };

  unsigned request_bytes() const { return overhead_ + kRequestHeader; }
  unsigned completion_bytes() const { return overhead_ + kCompletionHeader; }
  // When `requests` tags are free, at the earliest `start`.
  Cycles tags_free(Cycles start, std::uint64_t requests);
  Cycles read_part(Cycles start, std::uint64_t requests, std::uint64_t completions, std::uint64_t bytes);

  PcieLimits limits_;
  unsigned overhead_, dllp_;  // bytes a packet
  Cycles latency_;
  BandwidthServer down_;       // host to card: completions of DMA reads, requests of other functions
  BandwidthServer host_down_;  // host to card: the processor's own packets, which slip in between
  BandwidthServer up_;         // card to host
  Cycles posted_until_ = 0;    // the last posted write of the host has passed
  std::deque<Outstanding> outstanding_;
  std::uint64_t outstanding_requests_ = 0;
  std::uint64_t to_device_ = 0;
  std::uint64_t to_host_ = 0;
  bool counts_host_ = true;
  std::uint64_t on_wire_ = 0;
  Trace *trace_ = nullptr;
  std::array<TraceBurst, 3> bursts_;  // by unit of the records
};

}  // namespace cx::hw

#endif
