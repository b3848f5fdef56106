#include "driver/umd/packet_builders.hpp"

#include <string>

#include "driver/include/cx/error.hpp"

namespace cx::build {

namespace {

uint32_t word(uint64_t value, const char *name) {
  if (value > UINT32_MAX) throw UsageError(std::string(name) + " " + std::to_string(value) + " does not fit 32 bits");
  return static_cast<uint32_t>(value);
}

}  // namespace

packets::Copy copy_2d(uint32_t direction, uint64_t dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch,
                      uint64_t row_bytes, uint64_t rows) {
  packets::Copy packet;
  packet.direction = static_cast<packets::Direction>(direction);
  packet.src = src;
  packet.dst = dst;
  packet.row_bytes = word(row_bytes, "row_bytes");
  packet.rows = word(rows, "rows");
  packet.src_pitch = word(src_pitch, "src_pitch");
  packet.dst_pitch = word(dst_pitch, "dst_pitch");
  return packet;
}

packets::Copy copy(uint32_t direction, uint64_t dst, uint64_t src, uint64_t bytes) {
  return copy_2d(direction, dst, bytes, src, bytes, bytes, 1);
}

packets::Fill fill(uint64_t dst, uint64_t bytes, uint32_t pattern) {
  packets::Fill packet;
  packet.dst = dst;
  packet.bytes = bytes;
  packet.pattern = pattern;
  return packet;
}

packets::Launch launch(uint64_t program, uint32_t program_bytes, uint64_t segments, uint32_t segment_count,
                       uint32_t timeout_kcycles, bool timing_only) {
  packets::Launch packet;
  packet.timing_only = timing_only ? 1 : 0;
  packet.program = program;
  packet.segments = segments;
  packet.segment_count = segment_count;
  packet.program_bytes = program_bytes;
  packet.timeout_kcycles = timeout_kcycles;
  return packet;
}

packets::Reconfig reconfigure(uint32_t sca_tiles) {
  packets::Reconfig packet;
  packet.sca_tiles = sca_tiles;
  return packet;
}

packets::Signal signal(uint64_t iova, uint64_t value, uint32_t op) {
  packets::Signal packet;
  packet.op = static_cast<packets::SignalOp>(op);
  packet.address = iova;
  packet.value = value;
  return packet;
}

packets::Wait wait_value(uint64_t iova, uint32_t compare, uint64_t value) {
  packets::Wait packet;
  packet.compare = static_cast<packets::Compare>(compare);
  packet.address = iova;
  packet.value = value;
  return packet;
}

packets::Timestamp timestamp(uint64_t iova) {
  packets::Timestamp packet;
  packet.address = iova;
  return packet;
}

}  // namespace cx::build
