// A card behind the port, as a minimal driver sees it.
#ifndef TB_HW_CHIP_CARD_HPP
#define TB_HW_CHIP_CARD_HPP

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "firmware/image.h"
#include "hw/common/port/cx_port.h"
#include "hw/common/port/pci_id.h"
#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/msix_regs.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/queue_regs.h"

namespace cx::tb {

class Card {
 public:
  static constexpr uint64_t kHostBase = 0x7'0000'0000;  // IOVA of host()
  static constexpr uint64_t kRing = 0;                  // offsets in host()
  static constexpr uint64_t kCompletions = 0x4000;
  static constexpr uint64_t kData = 0x10000;
  static constexpr unsigned kRingLog2 = 6;
  static constexpr unsigned kVector = 1;
  static constexpr unsigned kErrorVector = 2;

  explicit Card(const std::vector<const char *> &sets = {}, const char *yaml = "configs/chips/tiny.yaml")
      : host_(4 << 20) {
    port_ = cx_port_open(yaml, sets.data(), sets.size());
    if (port_ == nullptr) throw std::runtime_error(cx_port_error(nullptr));
  }
  ~Card() { cx_port_close(port_); }
  Card(const Card &) = delete;

  cx_port *port() { return port_; }
  std::string error() const { return cx_port_error(port_); }
  std::vector<uint8_t> &host() { return host_; }

  uint32_t read(uint64_t offset) {
    uint32_t value = 0;
    check(cx_port_read(port_, 0, offset, &value, 4));
    return value;
  }
  void write(uint64_t offset, uint32_t value) { check(cx_port_write(port_, 0, offset, &value, 4)); }
  uint32_t config_read(uint64_t offset, size_t size = 4) {
    uint32_t value = 0;
    check(cx_port_read(port_, CX_PORT_CONFIG_SPACE, offset, &value, size));
    return value;
  }
  void config_write(uint64_t offset, uint32_t value, size_t size = 4) {
    check(cx_port_write(port_, CX_PORT_CONFIG_SPACE, offset, &value, size));
  }

  // Command register, MSI-X vectors unmasked, host memory mapped.
  void enable() {
    config_write(0x04, 0x0406, 2);
    const unsigned msix = capability(0x11);
    for (unsigned vector = 0; vector < CX_PCI_MSIX_VECTORS; ++vector) {
      write(CX_MAP_MSIX_OFFSET + CX_MSIX_ADDR_LO(vector), 0xfee00000);
      write(CX_MAP_MSIX_OFFSET + CX_MSIX_DATA(vector), vector);
      write(CX_MAP_MSIX_OFFSET + CX_MSIX_CONTROL(vector), 0);
    }
    config_write(msix + 2, 1u << 15, 2);
    check(cx_port_dma_map(port_, kHostBase, host_.size(), host_.data(), CX_PORT_DMA_READ | CX_PORT_DMA_WRITE));
  }

  // Offset of a capability in configuration space; 0 if there is none.
  unsigned capability(uint8_t id) {
    for (unsigned at = config_read(0x34, 1), steps = 0; at != 0 && steps < 48; at = config_read(at + 1, 1), ++steps) {
      if (config_read(at, 1) == id) return at;
    }
    return 0;
  }

  void boot() {
    check(cx_port_write(port_, 2, 0, cx_firmware_image, cx_firmware_image_size));
    write(CX_MAP_DEV_OFFSET + CX_DEV_RESET_CTRL, 0);
    const uint32_t ready = 1u << CX_DEV_FW_STATUS_PROTOCOL_SHIFT | CX_DEV_FW_STATUS_STATE_READY;
    poll(CX_MAP_DEV_OFFSET + CX_DEV_FW_STATUS, [&](uint32_t value) { return value == ready; });
  }

  template <class Done>
  void poll(uint64_t offset, Done &&done) {
    for (int i = 0; i < 1000; ++i) {
      if (done(read(offset))) return;
      cx_port_advance(port_, 1'000'000);
    }
    throw std::runtime_error("a register did not reach its value");
  }

  void enable_queue(unsigned ring = 0, unsigned priority = 0) {
    const uint64_t base = kHostBase + kRing + ring * (64u << kRingLog2);
    const uint64_t block = CX_MAP_QUEUE_OFFSET;
    write(block + CX_QUEUE_BASE_LO(ring), static_cast<uint32_t>(base));
    write(block + CX_QUEUE_BASE_HI(ring), static_cast<uint32_t>(base >> 32));
    write(block + CX_QUEUE_SIZE(ring), kRingLog2);
    write(block + CX_QUEUE_PRIORITY(ring), priority);
    write(block + CX_QUEUE_VECTOR(ring), kErrorVector);
    write(CX_MAP_DEV_OFFSET + CX_DEV_HOST_CMD, CX_DEV_HOST_CMD_OP_QUEUE_ENABLE | ring << CX_DEV_HOST_CMD_QUEUE_SHIFT);
    poll(CX_MAP_DEV_OFFSET + CX_DEV_HOST_CMD,
         [](uint32_t value) { return (value & CX_DEV_HOST_CMD_OP_MASK) == CX_DEV_HOST_CMD_OP_NONE; });
    written_[ring] = 0;
  }

  // Puts a packet with completion record and vector into the ring. Returns the record's offset in host().
  template <class Packet>
  uint64_t submit(Packet packet, unsigned ring = 0) {
    const uint64_t record = kCompletions + 32 * (next_record_++ % 256);
    std::memset(&host_[record], 0, 32);
    packet.completion = kHostBase + record;
    packet.completion_value = 1;
    packet.vector = kVector;
    submit_bytes(packet.to_bytes(), ring);
    return record;
  }

  void submit_bytes(packets::Bytes bytes, unsigned ring = 0) {
    uint32_t &written = written_[ring];
    uint8_t *slot = &host_[kRing + ring * (64u << kRingLog2) + 64 * (written % (1u << kRingLog2))];
    std::memcpy(slot + 4, bytes.data() + 4, 60);
    std::memcpy(slot, bytes.data(), 4);
    ++written;
    write(CX_MAP_QUEUE_OFFSET + CX_QUEUE_DOORBELL(ring), written);
  }

  cx_completion record(uint64_t offset) const {
    cx_completion out;
    std::memcpy(&out, &host_[offset], sizeof out);
    return out;
  }

  // Waits for the record's value by interrupts.
  cx_completion wait(uint64_t offset) {
    for (int i = 0; i < 100000; ++i) {
      take_interrupts();
      if (record(offset).value != 0) return record(offset);
      const int reason = cx_port_advance(port_, 1'000'000'000'000);
      if (reason != CX_PORT_ADVANCED_INTERRUPT) break;
    }
    take_interrupts();
    if (record(offset).value == 0) throw std::runtime_error("the packet does not complete");
    return record(offset);
  }

  template <class Packet>
  cx_completion run(const Packet &packet, unsigned ring = 0) {
    return wait(submit(packet, ring));
  }

  void take_interrupts() {
    uint32_t vector = 0;
    while (cx_port_take_interrupt(port_, &vector) == 1) ++interrupts[vector];
  }

  packets::Copy copy(packets::Direction direction, uint64_t src, uint64_t dst, uint32_t bytes) {
    packets::Copy packet;
    packet.direction = direction;
    packet.src = src;
    packet.dst = dst;
    packet.row_bytes = bytes;
    packet.src_pitch = bytes;
    packet.dst_pitch = bytes;
    return packet;
  }

  std::map<uint32_t, unsigned> interrupts;

 private:
  void check(int result) {
    if (result != CX_PORT_OK) throw std::runtime_error(error());
  }

  cx_port *port_ = nullptr;
  std::vector<uint8_t> host_;
  std::array<uint32_t, 16> written_{};
  unsigned next_record_ = 0;
};

}  // namespace cx::tb

#endif
