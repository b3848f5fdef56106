// Bytes that a packet takes on a wire.
#ifndef HW_LINK_FRAMING_HPP
#define HW_LINK_FRAMING_HPP

#include <cstdint>

namespace cx::hw::net {

// Ethernet: RoCEv2, every packet with preamble and start 8, gap 12, Ethernet header 14 and check sequence 4 (IEEE
// 802.3), IPv4 20, UDP 8, base transport header 12, invariant CRC 4 (InfiniBand Architecture Specification, annex A17).
// PCIe: the payload in write packets of at most `mps` bytes, each with a header of 16 bytes (4 DW) and, below
// generation 6, 8 bytes of framing, sequence number and LCRC; what has no payload goes as one such packet with a
// doubleword.
struct Framing {
  enum class Kind : std::uint8_t { ethernet, pcie };
  Kind kind = Kind::ethernet;
  std::uint32_t mps = 256;             // pcie: bytes
  std::uint32_t packet_overhead = 24;  // pcie: bytes a packet, header included

  static constexpr std::uint32_t kRocePerPacket = 8 + 12 + 14 + 4 + 20 + 8 + 12 + 4;
  static constexpr std::uint32_t kReth = 16, kAeth = 4, kImmediate = 4, kAtomicEth = 28, kAtomicAckEth = 8;

  // `extra`: extended transport headers, which only Ethernet carries.
  std::uint64_t wire_bytes(std::uint64_t payload, std::uint32_t extra) const {
    if (kind == Kind::ethernet) return payload + kRocePerPacket + extra;
    if (payload == 0) return packet_overhead + 4;
    return payload + (payload + mps - 1) / mps * packet_overhead;
  }
  // Of a message that is cut into packets of at most `mtu` bytes; `extra` goes with the first.
  std::uint64_t message_bytes(std::uint64_t bytes, std::uint32_t mtu, std::uint32_t extra) const {
    if (bytes == 0) return wire_bytes(0, extra);
    const std::uint64_t full = bytes / mtu, rest = bytes % mtu;
    return full * wire_bytes(mtu, 0) + (rest != 0 ? wire_bytes(rest, 0) : 0) + (kind == Kind::ethernet ? extra : 0);
  }
};

}  // namespace cx::hw::net

#endif
