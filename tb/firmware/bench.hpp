// The firmware on the mock chip with queues as a driver sets them up, and packets for it.
#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <utility>
#include <vector>

#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/queue_regs.h"
#include "hw/regs/gen/sdma_regs.h"
#include "tb/firmware/mock_chip.hpp"

namespace cx::tb {

using packets::Bytes;
using regs::DevReg;
using regs::EngineReg;
using regs::IntcReg;
using regs::MsixReg;
using regs::QueueReg;
using regs::SdmaReg;

inline constexpr uint64_t kDev = CX_MAP_DEV_OFFSET, kQueue = CX_MAP_QUEUE_OFFSET;
inline constexpr uint64_t kHostData = 0x7000'0000'0000, kHostDataBytes = 0x10000;
inline constexpr uint64_t kRings = 0x1'0000'0000, kRecords = 0x2'0000'0000, kSpacing = 0x100000;
inline constexpr unsigned kErrorVector = 31;
// As in packets.c.
inline constexpr uint32_t kCopyPiece = 1 << 20, kFillPiece = 4 << 20;
inline constexpr uint64_t kLists = 0x3'0000'0000, kListBytes = 64 * 128;
inline constexpr uint64_t kUnmapped = 0xdead'0000'0000;

// An array whose slots are MAC tiles or sparse tiles; without slots the tiles stand side by side.
struct SharedArray {
  uint32_t slots = 0, sparse_tiles = 0, boot_sca_tiles = 0, switch_cycles = 0;
};

class Bench {
 public:
  explicit Bench(unsigned log2 = 4, unsigned sdma_channels = 4, const SharedArray &array = {}) : log2_(log2) {
    chip.dev.set(DevReg::TILE_COUNT, array.slots);
    chip.dev.set(DevReg::SCA_TILES, array.sparse_tiles);
    chip.dev.set(DevReg::ARRAY, (array.slots != 0 ? 1u : 0u) | array.boot_sca_tiles << 16);
    chip.dev.set(DevReg::ARRAY_SWITCH_CYCLES, array.switch_cycles);
    chip.sdma_channels = sdma_channels;
    chip.map_host(kHostData, kHostDataBytes);
    chip.map_host(kLists, kListBytes);
    REQUIRE(chip.run_until([&] { return state() == CX_DEV_FW_STATUS_STATE_READY; }, 1'000'000));
  }

  uint32_t state() { return chip.read(kDev, CX_DEV_FW_STATUS) & CX_DEV_FW_STATUS_STATE_MASK; }

  void command(uint32_t op, unsigned n) {
    chip.write(kDev, CX_DEV_HOST_CMD, op | (n << CX_DEV_HOST_CMD_QUEUE_SHIFT));
    REQUIRE(chip.run_until([&] { return chip.read(kDev, CX_DEV_HOST_CMD) == 0; }));
  }

  void enable(unsigned n, unsigned level = 0) {
    chip.map_host(kRings + n * kSpacing, size_t{64} << log2_);
    chip.map_host(kRecords + n * kSpacing, size_t{32} << log2_);
    const uint64_t base = kRings + n * kSpacing;
    chip.write(kQueue, CX_QUEUE_BASE_LO(n), static_cast<uint32_t>(base));
    chip.write(kQueue, CX_QUEUE_BASE_HI(n), static_cast<uint32_t>(base >> 32));
    chip.write(kQueue, CX_QUEUE_SIZE(n), log2_);
    chip.write(kQueue, CX_QUEUE_PRIORITY(n), level);
    chip.write(kQueue, CX_QUEUE_VECTOR(n), kErrorVector);
    command(CX_DEV_HOST_CMD_OP_QUEUE_ENABLE, n);
    REQUIRE(queue_state(n) == CX_QUEUE_STATE_STATE_ENABLED);
    REQUIRE(read_index(n) == 0);
    written_[n] = 0;
  }

  uint32_t queue_state(unsigned n) { return chip.read(kQueue, CX_QUEUE_STATE(n)) & CX_QUEUE_STATE_STATE_MASK; }
  uint32_t queue_error(unsigned n) {
    return (chip.read(kQueue, CX_QUEUE_STATE(n)) & CX_QUEUE_STATE_ERROR_MASK) >> CX_QUEUE_STATE_ERROR_SHIFT;
  }
  uint32_t read_index(unsigned n) { return chip.read(kQueue, CX_QUEUE_READ_INDEX(n)); }

  // Puts a packet into the ring without a doorbell. Returns its index.
  uint32_t put_raw(unsigned n, const Bytes &bytes) {
    const uint32_t index = written_[n]++;
    const uint32_t place = index & ((1u << log2_) - 1);
    std::memcpy(chip.host(kRings + n * kSpacing + 64 * place, 64), bytes.data(), 64);
    std::memset(chip.host(record_of(n, index), 32), 0, 32);
    return index;
  }
  template <class Packet>
  uint32_t put(unsigned n, Packet packet) {
    packet.completion = record_of(n, written_[n]);
    packet.completion_value = written_[n] + 1;
    return put_raw(n, packet.to_bytes());
  }
  void ring(unsigned n) { chip.write(kQueue, CX_QUEUE_DOORBELL(n), written_[n]); }
  template <class Packet>
  uint32_t submit(unsigned n, const Packet &packet) {
    const uint32_t index = put(n, packet);
    ring(n);
    return index;
  }

  // Writes a packet of the list for EXECUTE.
  template <class Packet>
  void put_in_list(uint32_t place, const Packet &packet) {
    const Bytes bytes = packet.to_bytes();
    std::memcpy(chip.host(kLists + 64 * place, 64), bytes.data(), 64);
  }

  uint64_t record_of(unsigned n, uint32_t index) const {
    return kRecords + n * kSpacing + 32 * (index & ((1u << log2_) - 1));
  }
  cx_completion record(unsigned n, uint32_t index) {
    cx_completion result;
    std::memcpy(&result, chip.host(record_of(n, index), 32), 32);
    return result;
  }
  bool done(unsigned n, uint32_t index) { return record(n, index).value == index + 1; }
  cx_completion wait(unsigned n, uint32_t index, uint64_t cycles = 10'000'000) {
    const bool in_time = chip.run_until([&] { return done(n, index); }, cycles);
    INFO("queue " << n << " packet " << index << ", state " << queue_state(n) << ", error " << queue_error(n)
                  << ", read index " << read_index(n) << ", log: " << chip.trace);
    REQUIRE(in_time);
    return record(n, index);
  }
  template <class Packet>
  cx_completion run(unsigned n, const Packet &packet) {
    return wait(n, submit(n, packet));
  }

  uint64_t &host64(uint64_t iova) { return *reinterpret_cast<uint64_t *>(chip.host(iova, 8)); }
  uint64_t &dram64(uint64_t address) { return *reinterpret_cast<uint64_t *>(chip.device(address, 8)); }

  // The fault that the host reads, and its acknowledgement.
  struct Fault {
    uint32_t count, code, queue, engine, entry, packet, pc;
    uint64_t address;
  };
  Fault take_fault() {
    const uint32_t source = chip.read(kDev, CX_DEV_FAULT_SOURCE);
    const Fault fault = {chip.read(kDev, CX_DEV_FAULT_COUNT),
                         chip.read(kDev, CX_DEV_FAULT_CODE),
                         source & 0xff,
                         (source >> 8) & 0xff,
                         source >> 16,
                         chip.read(kDev, CX_DEV_FAULT_PACKET),
                         chip.read(kDev, CX_DEV_FAULT_PC),
                         chip.read64(kDev, CX_DEV_FAULT_ADDR_LO)};
    chip.write(kDev, CX_DEV_FAULT_ACK, 1);
    return fault;
  }

  MockChip chip;

 private:
  unsigned log2_;
  std::array<uint32_t, 16> written_{};
};

inline uint32_t crc32(const std::vector<uint8_t> &data) {
  uint32_t crc = ~0u;
  for (uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0xedb88320u : 0);
  }
  return ~crc;
}

// A program image in DRAM: header, stream table, streams of zero instructions.
struct Program {
  static constexpr uint64_t kAddress = kDramBase + 0x1000, kSegments = kDramBase + 0x800;

  cx_program_header header{};
  std::array<cx_stream_entry, 4> streams{};

  explicit Program(std::vector<uint32_t> engines = {0, 1, 2, 3}) {
    header.magic = CX_PROGRAM_MAGIC;
    header.version = CX_PROGRAM_VERSION;
    header.streams = static_cast<uint16_t>(engines.size());
    header.arch_hash = kArchHash;
    header.image_bytes = 0x1000;
    header.segment_count = 1;
    header.stream_table = 64;
    for (size_t i = 0; i < engines.size(); ++i) streams[i] = {engines[i], 4, 128 + 128 * i};
  }

  // Writes the image, with the right checksum unless `keep_crc`.
  void install(MockChip &chip, bool keep_crc = false) {
    const unsigned table = sizeof(cx_stream_entry) * std::min<unsigned>(header.streams, 4);
    if (!keep_crc) {
      header.crc = 0;
      std::vector<uint8_t> covered(64 + table);
      std::memcpy(covered.data(), &header, 64);
      std::memcpy(covered.data() + 64, streams.data(), table);
      header.crc = crc32(covered);
    }
    std::memcpy(chip.device(kAddress, 64), &header, 64);
    std::memcpy(chip.device(kAddress + 64, table), streams.data(), table);
  }

  packets::Launch packet() const {
    packets::Launch launch;
    launch.program = kAddress;
    launch.segments = kSegments;
    launch.segment_count = 2;
    launch.program_bytes = 0x1000;
    return launch;
  }
};

inline packets::Copy copy(packets::Direction direction, uint64_t dst, uint64_t src, uint32_t bytes) {
  packets::Copy packet;
  packet.direction = direction;
  packet.src = src;
  packet.dst = dst;
  packet.row_bytes = bytes;
  packet.rows = 1;
  return packet;
}

inline packets::Execute execute(uint32_t count) {
  packets::Execute packet;
  packet.list = kLists;
  packet.count = count;
  return packet;
}

template <class Wait>
Wait wait_for(uint64_t address, packets::Compare compare, uint64_t value) {
  Wait packet;
  packet.address = address;
  packet.compare = compare;
  packet.value = value;
  return packet;
}

}  // namespace cx::tb
