// A card in software behind the transport: configuration space, registers, and a packet processor that works as the
// firmware does, without a simulator. Each packet takes one microsecond of its time.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "driver/transport/transport.hpp"
#include "hw/common/port/pci_id.h"
#include "hw/regs/gen/dev_regs.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/msix_regs.hpp"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/queue_regs.hpp"
#include "hw/regs/gen/ras_regs.hpp"

namespace cx::test {

class MockCard final : public Transport {
 public:
  static constexpr uint64_t kDramBytes = 8 << 20;
  static constexpr uint64_t kSpmBytes = 1 << 20;
  static constexpr uint32_t kTcmBytes = 256 << 10;
  static constexpr uint64_t kArchHash = 0x1122334455667788;
  static constexpr uint32_t kQueues = 4;
  static constexpr uint64_t kPacketPs = 1'000'000;

  // What goes wrong, for tests.
  struct Faults {
    uint16_t vendor = CX_PCI_VENDOR_ID;
    uint32_t magic = 0x43585650;
    uint32_t protocol = CX_PACKET_PROTOCOL;
    uint32_t boot_state = 2;  // FW_STATUS.STATE after boot; 1 never gets ready
    bool silent = false;      // packets are not served
  } faults;
  // A launch: status, and in fault registers engine, pc and address.
  struct LaunchResult {
    uint32_t status = CX_STATUS_OK;
    uint8_t engine = 0xff;
    uint32_t pc = 0;
    uint64_t address = 0;
    uint16_t entry = 0;  // 1 + index in the list that failed
  };
  std::function<LaunchResult(MockCard &, const cx_packet_launch &)> on_launch;
  std::vector<uint32_t> doorbells;  // every value written

  MockCard() : dram_(kDramBytes), spm_(kSpmBytes), tcm_(kTcmBytes) {
    dev_.set(regs::DevReg::ARCH_HASH_LO, static_cast<uint32_t>(kArchHash));
    dev_.set(regs::DevReg::ARCH_HASH_HI, static_cast<uint32_t>(kArchHash >> 32));
    dev_.set(regs::DevReg::CLOCK_KHZ, 1'000'000);
    dev_.set(regs::DevReg::NUM_QUEUES, kQueues);
    dev_.set(regs::DevReg::TILE_COUNT, 2);
    dev_.set(regs::DevReg::TILE_SHAPE, 16 | 16 << 16);
    dev_.set(regs::DevReg::TILE_ACC_ROWS, 256);
    dev_.set(regs::DevReg::TILE_MODES, 4 | 2 << 8 | 1 << 16);  // pack 4, 2 stages, output stationary
    dev_.set(regs::DevReg::VPU_LANES, 16);
    dev_.set(regs::DevReg::SPM_BYTES, kSpmBytes);
    dev_.set(regs::DevReg::DRAM_MIB, kDramBytes >> 20);
    dev_.set(regs::DevReg::TCM_BYTES, kTcmBytes);
    dev_.set(regs::DevReg::NUM_SEMAPHORES, 32);
    dev_.on_write(regs::DevReg::RESET_CTRL, [this](unsigned, uint32_t old, uint32_t, uint32_t now) {
      if ((old & 1) && !(now & 1)) {
        dev_.set(regs::DevReg::FW_STATUS, faults.boot_state | faults.protocol << 16);
      }
    });
    dev_.on_write(regs::DevReg::HOST_CMD, [this](unsigned, uint32_t, uint32_t, uint32_t now) { command(now); });
    dev_.on_write(regs::DevReg::FAULT_ACK, [this](unsigned, uint32_t, uint32_t, uint32_t) {
      dev_.set(regs::DevReg::FAULT_COUNT, 0);
      dev_.set(regs::DevReg::FAULT_CODE, 0);
    });
    dev_.on_read(regs::DevReg::TIME_LO, [this](unsigned) { return static_cast<uint32_t>(time_ / 1000); });
    dev_.on_read(regs::DevReg::TIME_HI, [this](unsigned) { return static_cast<uint32_t>(time_ / 1000 >> 32); });
    queue_.on_write(regs::QueueReg::DOORBELL,
                    [this](unsigned, uint32_t, uint32_t, uint32_t now) { doorbells.push_back(now); });
    queues_.resize(kQueues);
    reset_config();
  }

  void read(int bar, uint64_t offset, void *data, size_t size) override {
    time_ += 1000;
    if (bar == kConfigSpace) {
      if (offset + size > config_.size()) refuse(offset);
      std::memcpy(data, config_.data() + offset, size);
    } else if (bar == 2) {
      if (offset + size > tcm_.size()) refuse(offset);
      std::memcpy(data, tcm_.data() + offset, size);
    } else {
      uint32_t value = 0;
      access(offset, size, [&](regs::RegFile &file, uint32_t at) { return file.read(regs::Side::host, at, value); });
      std::memcpy(data, &value, size);
    }
  }

  void write(int bar, uint64_t offset, const void *data, size_t size) override {
    if (bar == kConfigSpace) {
      write_config(offset, data, size);
    } else if (bar == 2) {
      if (offset + size > tcm_.size()) refuse(offset);
      std::memcpy(tcm_.data() + offset, data, size);
    } else {
      uint32_t value = 0;
      std::memcpy(&value, data, std::min(size, sizeof value));
      access(offset, size, [&](regs::RegFile &file, uint32_t at) { return file.write(regs::Side::host, at, value); });
    }
  }

  void dma_map(uint64_t iova, size_t size, void *memory, bool writable) override {
    if (iova % 4096 || size % 4096 || size == 0) throw UsageError("mapping is not page-aligned");
    for (const auto &[base, map] : maps_) {
      if (iova < base + map.size && base < iova + size) throw UsageError("mapping overlaps");
    }
    maps_[iova] = {size, static_cast<std::byte *>(memory), writable};
  }

  void dma_unmap(uint64_t iova, size_t size) override {
    const auto it = maps_.find(iova);
    if (it == maps_.end() || it->second.size != size) throw UsageError("not mapped");
    maps_.erase(it);
  }

  Wake advance(uint64_t limit_ps) override {
    if (!interrupts_.empty()) return Wake::kInterrupt;
    for (uint32_t n = 0; n < kQueues; ++n) {
      if (!serve(n)) continue;
      time_ += std::min(limit_ps, kPacketPs);
      return interrupts_.empty() ? Wake::kLimit : Wake::kInterrupt;
    }
    return Wake::kIdle;
  }

  std::optional<uint32_t> take_interrupt() override {
    if (interrupts_.empty()) return std::nullopt;
    const uint32_t vector = interrupts_.front();
    interrupts_.pop_front();
    return vector;
  }

  uint64_t time_ps() const override { return time_; }

  size_t mappings() const { return maps_.size(); }
  std::byte *dram(uint64_t address, uint64_t bytes) { return device(address, bytes); }
  const std::vector<std::byte> &tcm() const { return tcm_; }
  bool bus_master() const { return config_[4] & 4; }
  bool msix_enabled() const { return config_[kMsix + 3] & 0x80; }

 private:
  static constexpr size_t kMsix = 0x50;
  struct Map {
    uint64_t size;
    std::byte *memory;
    bool writable;
  };
  struct Ring {
    bool enabled = false;
    uint32_t read = 0;
  };

  [[noreturn]] static void refuse(uint64_t offset) {
    DeviceFault::Record record;
    record.status = CX_STATUS_BAD_ADDRESS;
    record.address = offset;
    throw DeviceFault(record, "unmapped");
  }

  template <class Access>
  void access(uint64_t offset, size_t size, Access &&go) {
    if (size != 4) refuse(offset);
    const uint64_t page = offset & ~0xffffull;
    const auto at = static_cast<uint32_t>(offset & 0xffff);
    regs::RegFile *file = nullptr;
    if (page == CX_MAP_DEV_OFFSET) file = &dev_;
    if (page == CX_MAP_QUEUE_OFFSET) file = &queue_;
    if (page == CX_MAP_MSIX_OFFSET) file = &msix_;
    if (page == CX_MAP_RAS_OFFSET) file = &ras_;
    if (!file) {
      // Counters of the other blocks read as 0.
      if (offset >= CX_BAR0_SIZE || offset % 4 || page > CX_MAP_POWER_OFFSET) refuse(offset);
      return;
    }
    if (go(*file, at) != regs::Result::ok) refuse(offset);
  }

  void reset_config() {
    config_.assign(4096, 0);
    config_[6] = 0x10;
    config_[0x34] = 0x40;
    config_[0x40] = 0x01;  // some other capability first
    config_[0x41] = kMsix;
    config_[kMsix] = 0x11;
    config_[kMsix + 2] = CX_PCI_MSIX_VECTORS - 1;
    put(kMsix + 4, CX_PCI_MSIX_TABLE | CX_PCI_MSIX_BAR);
    put(kMsix + 8, CX_PCI_MSIX_PBA | CX_PCI_MSIX_BAR);
    put(0x10, 0);
    put(0x18, 0xc);
  }

 public:
  // After `faults` was set.
  void apply() {
    put(0, faults.vendor | CX_PCI_DEVICE_ID << 16);
    dev_.set(regs::DevReg::MAGIC, faults.magic);
  }

 private:
  void put(size_t at, uint32_t value) { std::memcpy(config_.data() + at, &value, sizeof value); }

  void write_config(uint64_t offset, const void *data, size_t size) {
    if (offset == 0x04 || offset == kMsix + 2) {
      std::memcpy(config_.data() + offset, data, size);
    } else if (offset >= 0x10 && offset < 0x28 && size == 4) {
      uint32_t value = 0;
      std::memcpy(&value, data, 4);
      if (offset == 0x10) put(0x10, value & ~(static_cast<uint32_t>(CX_BAR0_SIZE) - 1));
      if (offset == 0x18) put(0x18, (value & ~(kTcmBytes - 1)) | 0xc);
      if (offset == 0x1c) put(0x1c, value);
    }
  }

  std::byte *device(uint64_t address, uint64_t bytes) {
    if (address >= CX_MEM_DRAM_BASE && address - CX_MEM_DRAM_BASE <= kDramBytes &&
        bytes <= kDramBytes - (address - CX_MEM_DRAM_BASE)) {
      return dram_.data() + (address - CX_MEM_DRAM_BASE);
    }
    if (address >= CX_MEM_SPM_BASE && address - CX_MEM_SPM_BASE <= kSpmBytes &&
        bytes <= kSpmBytes - (address - CX_MEM_SPM_BASE)) {
      return spm_.data() + (address - CX_MEM_SPM_BASE);
    }
    return nullptr;
  }

  std::byte *host(uint64_t iova, uint64_t bytes, bool write) {
    auto it = maps_.upper_bound(iova);
    if (it == maps_.begin()) return nullptr;
    --it;
    if (iova - it->first > it->second.size || bytes > it->second.size - (iova - it->first)) return nullptr;
    if (write && !it->second.writable) return nullptr;
    return it->second.memory + (iova - it->first);
  }

  void command(uint32_t value) {
    const uint32_t op = value & 0xff, n = value >> 8 & 0xff;
    if (n < kQueues && op == 1) {
      queues_[n] = {true, 0};
      queue_.set(regs::QueueReg::READ_INDEX, 0, n);
      queue_.set(regs::QueueReg::STATE, 1, n);
    } else if (n < kQueues && op == 2) {
      queues_[n].enabled = false;
      queue_.set(regs::QueueReg::STATE, 0, n);
    }
    dev_.set(regs::DevReg::HOST_CMD, 0);
  }

  LaunchResult execute(const packets::Bytes &bytes, uint32_t &detail) {
    const packets::Check check = packets::validate(bytes);
    detail = check.detail;
    if (check.status != packets::Status::OK) return {static_cast<uint32_t>(check.status)};
    switch (bytes[0]) {
      case CX_PKT_COPY: {
        const auto copy = packets::Copy::from_bytes(bytes);
        const bool from_host = copy.direction == packets::Direction::HOST_TO_DEVICE;
        const bool to_host = copy.direction == packets::Direction::DEVICE_TO_HOST;
        for (uint32_t row = 0; row < copy.rows; ++row) {
          const uint64_t src = copy.src + uint64_t{row} * copy.src_pitch,
                         dst = copy.dst + uint64_t{row} * copy.dst_pitch;
          std::byte *s = from_host ? host(src, copy.row_bytes, false) : device(src, copy.row_bytes);
          if (!s)
            return {static_cast<uint32_t>(from_host ? CX_STATUS_IOMMU_FAULT : CX_STATUS_BAD_ADDRESS), 0xff, 0, src};
          std::byte *d = to_host ? host(dst, copy.row_bytes, true) : device(dst, copy.row_bytes);
          if (!d) return {static_cast<uint32_t>(to_host ? CX_STATUS_IOMMU_FAULT : CX_STATUS_BAD_ADDRESS), 0xff, 0, dst};
          std::memmove(d, s, copy.row_bytes);
        }
        return {};
      }
      case CX_PKT_FILL: {
        const auto fill = packets::Fill::from_bytes(bytes);
        std::byte *d = device(fill.dst, fill.bytes);
        if (!d) return {CX_STATUS_BAD_ADDRESS, 0xff, 0, fill.dst};
        for (uint64_t i = 0; i < fill.bytes; i += 4) std::memcpy(d + i, &fill.pattern, 4);
        return {};
      }
      case CX_PKT_LAUNCH: {
        cx_packet_launch launch;
        std::memcpy(&launch, bytes.data(), sizeof launch);
        return on_launch ? on_launch(*this, launch) : LaunchResult{};
      }
      case CX_PKT_SIGNAL: {
        const auto signal = packets::Signal::from_bytes(bytes);
        std::byte *d = host(signal.address, 8, true);
        if (!d) return {CX_STATUS_IOMMU_FAULT, 0xff, 0, signal.address};
        uint64_t value = 0;
        if (signal.op != packets::SignalOp::SET) std::memcpy(&value, d, 8);
        value = signal.op == packets::SignalOp::MAX ? std::max(value, signal.value) : value + signal.value;
        std::memcpy(d, &value, 8);
        return {};
      }
      case CX_PKT_EXECUTE: {
        const auto list = packets::Execute::from_bytes(bytes);
        for (uint32_t i = 0; i < list.count; ++i) {
          packets::Bytes entry;
          const std::byte *from = host(list.list + uint64_t{i} * 64, 64, false);
          if (!from) return {CX_STATUS_IOMMU_FAULT, 0xff, 0, list.list + uint64_t{i} * 64};
          std::memcpy(entry.data(), from, 64);
          LaunchResult result =
              entry[0] == CX_PKT_EXECUTE ? LaunchResult{CX_STATUS_UNSUPPORTED} : execute(entry, detail);
          result.entry = static_cast<uint16_t>(i + 1);
          if (result.status != CX_STATUS_OK) return result;
        }
        return {};
      }
      default:
        return {};
    }
  }

  bool serve(uint32_t n) {
    Ring &ring = queues_[n];
    if (faults.silent || !ring.enabled || ring.read == queue_.get(regs::QueueReg::DOORBELL, n)) return false;
    const uint64_t base = queue_.get(regs::QueueReg::BASE_LO, n) | uint64_t{queue_.get(regs::QueueReg::BASE_HI, n)}
                                                                       << 32;
    const uint32_t size = 1u << queue_.get(regs::QueueReg::SIZE, n);
    packets::Bytes bytes;
    std::byte *slot = host(base + uint64_t{ring.read & (size - 1)} * 64, 64, false);
    if (!slot || queue_.get(regs::QueueReg::DOORBELL, n) - ring.read > size) throw Error("the ring is broken");
    std::memcpy(bytes.data(), slot, 64);
    const uint64_t start = time_ / 1000;
    uint32_t detail = 0;
    const LaunchResult result = execute(bytes, detail);
    cx_packet_header header;
    std::memcpy(&header, bytes.data(), sizeof header);
    if (result.status != CX_STATUS_OK) {
      if (dev_.get(regs::DevReg::FAULT_COUNT) == 0) {
        dev_.set(regs::DevReg::FAULT_CODE, result.status);
        dev_.set(regs::DevReg::FAULT_SOURCE, n | uint32_t{result.engine} << 8 | uint32_t{result.entry} << 16);
        dev_.set(regs::DevReg::FAULT_PACKET, ring.read);
        dev_.set(regs::DevReg::FAULT_PC, result.pc);
        dev_.set(regs::DevReg::FAULT_ADDR_LO, static_cast<uint32_t>(result.address));
        dev_.set(regs::DevReg::FAULT_ADDR_HI, static_cast<uint32_t>(result.address >> 32));
      }
      dev_.set(regs::DevReg::FAULT_COUNT, dev_.get(regs::DevReg::FAULT_COUNT) + 1);
      queue_.set(regs::QueueReg::STATE, 1 | result.status << 8, n);
    }
    if (header.completion) {
      const cx_completion record{header.completion_value,
                                 start,
                                 start + 1000,
                                 static_cast<uint16_t>(result.status),
                                 result.entry,
                                 result.engine != 0xff ? result.pc : detail};
      if (std::byte *d = host(header.completion, sizeof record, true)) std::memcpy(d, &record, sizeof record);
    }
    queue_.set(regs::QueueReg::READ_INDEX, ++ring.read, n);
    dev_.set(regs::DevReg::PACKETS, dev_.get(regs::DevReg::PACKETS) + 1);
    if (header.vector != CX_PKT_VECTOR_NONE) send(header.vector);
    if (result.status != CX_STATUS_OK) send(queue_.get(regs::QueueReg::VECTOR, n));
    return true;
  }

  void send(uint32_t vector) {
    msix_.set(regs::MsixReg::SENT, msix_.get(regs::MsixReg::SENT) + 1);
    interrupts_.push_back(vector);
  }

  std::vector<std::byte> dram_, spm_, tcm_;
  std::vector<uint8_t> config_;
  regs::DevRegs dev_;
  regs::QueueRegs queue_;
  regs::MsixRegs msix_;
  regs::RasRegs ras_;
  std::map<uint64_t, Map> maps_;
  std::deque<uint32_t> interrupts_;
  std::vector<Ring> queues_;
  uint64_t time_ = 0;
};

}  // namespace cx::test
