// Timing of the PCIe link: rate, encoding, packet overhead and latency. Rule: README.md.
#ifndef HW_PCIE_LINK_HPP
#define HW_PCIE_LINK_HPP

#include <cstdint>

#include "hw/noc/bandwidth.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

struct PcieLinkParams {
  unsigned gen = 4;         // 1 to 5 (pcie.gen)
  unsigned width = 16;      // lanes (pcie.width)
  unsigned mps = 256;       // bytes (pcie.mps)
  unsigned mrrs = 512;      // bytes (pcie.mrrs)
  double latency_ns = 350;  // one way (pcie.latency_ns)
};

// All times are core cycles since simulated time 0. Packets of one direction pass in order.
class PcieLink {
 public:
  // Bytes on the wire besides header and payload: framing and sequence number 4, LCRC 4.
  static constexpr unsigned kPacketOverhead = 8;
  static constexpr unsigned kRequestHeader = 16;     // 4 DW: memory request with a 64-bit address
  static constexpr unsigned kCompletionHeader = 12;  // 3 DW
  // Acknowledge and credit packets (DLLP) that one packet causes in the other direction, bytes.
  static constexpr unsigned kDllpPerPacket = 8;

  // Throws std::invalid_argument for a generation or width that does not exist.
  PcieLink(const Clock &clock, const PcieLinkParams &params);

  // Rate after encoding, one direction, bytes per second.
  static double bytes_per_second(unsigned gen, unsigned width);

  unsigned mps() const { return mps_; }
  unsigned mrrs() const { return mrrs_; }
  void set_limits(unsigned mps, unsigned mrrs) {
    mps_ = mps;
    mrrs_ = mrrs;
  }
  Cycles latency() const { return latency_; }

  // Packets of `rows` separate runs of `row_bytes` when each is cut at `limit`.
  static std::uint64_t packets(std::uint64_t rows, std::uint64_t row_bytes, unsigned limit) {
    return rows * ((row_bytes + limit - 1) / limit);
  }

  // The host's processor: a posted write of `bytes` reaches the card; a read request reaches it; its answer reaches the
  // host.
  Cycles host_write(Cycles start, std::uint64_t bytes);
  Cycles host_read_request(Cycles start);
  Cycles host_read_completion(Cycles start, std::uint64_t bytes);

  // The card reads `rows` runs of `row_bytes` of host memory: cycle at which the last byte is on the card.
  Cycles dma_read(Cycles start, std::uint64_t rows, std::uint64_t row_bytes);
  // The card writes: cycle at which the last byte has left the card (posted).
  Cycles dma_write(Cycles start, std::uint64_t rows, std::uint64_t row_bytes);
  // An MSI-X message: cycle at which it reaches the host.
  Cycles message(Cycles start);

  // Payload bytes since reset.
  std::uint64_t bytes_to_device() const { return to_device_; }
  std::uint64_t bytes_to_host() const { return to_host_; }
  // Everything that passed in both directions since reset: payload, headers, requests, acknowledgements.
  std::uint64_t bytes_on_wire() const { return on_wire_; }

  void reset();

 private:
  Cycles pass(BandwidthServer &direction, Cycles start, std::uint64_t wire_bytes) {
    on_wire_ += wire_bytes;
    return direction.reserve(start, wire_bytes);
  }

  unsigned mps_, mrrs_;
  Cycles latency_;
  BandwidthServer down_;       // host to card: completions of DMA reads
  BandwidthServer host_down_;  // host to card: the processor's own packets, which slip in between
  BandwidthServer up_;         // card to host
  std::uint64_t to_device_ = 0;
  std::uint64_t to_host_ = 0;
  std::uint64_t on_wire_ = 0;
};

}  // namespace cx::hw

#endif
