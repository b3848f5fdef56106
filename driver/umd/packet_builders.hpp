// Packets from a call's arguments: what a queue submits at once and a command buffer records.
#pragma once

#include <array>
#include <cstdint>

#include "hw/regs/gen/packets.hpp"

namespace cx::build {

// Throw UsageError for what does not fit its field. Arguments are those of Queue's functions of the same name.

packets::Copy copy_2d(uint32_t direction, uint64_t dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch,
                      uint64_t row_bytes, uint64_t rows);
packets::Copy copy(uint32_t direction, uint64_t dst, uint64_t src, uint64_t bytes);
packets::Fill fill(uint64_t dst, uint64_t bytes, uint32_t pattern);
packets::Launch launch(uint64_t program, uint32_t program_bytes, uint64_t segments, uint32_t segment_count,
                       uint32_t timeout_kcycles, bool timing_only);
packets::Reconfig reconfigure(uint32_t sca_tiles);
packets::Signal signal(uint64_t iova, uint64_t value, uint32_t op);
packets::Wait wait_value(uint64_t iova, uint32_t compare, uint64_t value);
packets::Timestamp timestamp(uint64_t iova);

/// With what every packet of the driver has: barrier or not, scopes.
template <class Packet>
Packet complete(Packet packet, bool barrier) {
  packet.barrier = barrier;
  packet.acquire = packets::Scope::SYSTEM;
  packet.release = packets::Scope::SYSTEM;
  return packet;
}

}  // namespace cx::build
