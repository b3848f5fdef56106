#include "driver/umd/device.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <sstream>

#include "driver/umd/pci_function.hpp"
#include "driver/umd/stream.hpp"
#include "driver/umd/text.hpp"
#include "firmware/image.h"
#include "hw/common/port/pci_id.h"
#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/intc_regs.h"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/msix_regs.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/perf_regs.h"
#include "hw/regs/gen/power_regs.h"
#include "hw/regs/gen/queue_regs.h"

namespace cx {

namespace {

constexpr uint64_t kPage = 4096;
// DMA addresses start high so that a device which truncates them or takes them for its own is found out.
constexpr uint64_t kIovaBase = 0x40'0000'0000;
constexpr uint64_t kIovaSize = 0x40'0000'0000;
// Vector 0 tells of errors of any queue; queue n completes on vector 1 + n.
constexpr uint32_t kErrorVector = 0;
constexpr uint64_t kPollUs = 5;
constexpr size_t kFaultsKept = 256;

constexpr uint64_t dev(uint64_t reg) { return CX_MAP_DEV_OFFSET + reg; }

uint64_t align_up(uint64_t value, uint64_t align) { return (value + align - 1) & ~(align - 1); }

[[noreturn]] void not_our_card(const std::string &message) { throw DeviceFault({}, message); }

}  // namespace

DeviceBuffer::~DeviceBuffer() {
  if (device_ && !life_.expired()) device_->free_device(address_);
}

void DeviceBuffer::swap(DeviceBuffer &other) noexcept {
  std::swap(device_, other.device_);
  life_.swap(other.life_);
  std::swap(address_, other.address_);
  std::swap(size_, other.size_);
}

HostBuffer::~HostBuffer() {
  if (device_ && !life_.expired()) device_->free_host(data_, size_, iova_);
}

void HostBuffer::swap(HostBuffer &other) noexcept {
  std::swap(device_, other.device_);
  life_.swap(other.life_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(iova_, other.iova_);
}

std::unique_ptr<Device> Device::open(std::unique_ptr<Transport> transport, const DeviceOptions &options) {
  return std::unique_ptr<Device>(new Device(std::move(transport), options));
}

Device::Device(std::unique_ptr<Transport> transport, const DeviceOptions &options)
    : transport_(std::move(transport)), options_(options), iova_("DMA addresses", kIovaBase, kIovaSize, kPage) {
  identify();
  size_bars();
  configure_link();
  enable_msix();
  boot();
  read_capabilities();
  enable_events();
  options_.staging_bytes = align_up(std::max<uint64_t>(options_.staging_bytes, 2 * kPage), 2 * kPage);
  give_staging(take_staging());
  create_queue({options_.queue_log2_packets, 1});
}

Device::~Device() {
  // Nothing may write to host memory once it is unmapped: stop the control processor and DMA first.
  try {
    write_register(dev(CX_DEV_RESET_CTRL), CX_DEV_RESET_CTRL_CP_RESET_MASK | CX_DEV_RESET_CTRL_SOFT_RESET_MASK);
    write_config<uint16_t>(*transport_, kPciCommand, kCommandNoIntx);
  } catch (const std::exception &) {
    // A lost card is no reason to end the process.
  }
  drop_peers();
  streams_.reset();
  queues_.clear();
  staging_.clear();
  report_leaks();
  life_.reset();
  if (event_fd_ >= 0) ::close(event_fd_);
}

// ---- finding and starting the card ----

void Device::identify() {
  const uint32_t id = read_config<uint32_t>(*transport_, kPciId);
  info_.vendor_id = static_cast<uint16_t>(id);
  info_.device_id = static_cast<uint16_t>(id >> 16);
  if (info_.vendor_id != CX_PCI_VENDOR_ID || info_.device_id != CX_PCI_DEVICE_ID) {
    not_our_card("PCI function " + hex(info_.vendor_id) + ":" + hex(info_.device_id) + " is not a CXVP card (" +
                 hex(CX_PCI_VENDOR_ID) + ":" + hex(CX_PCI_DEVICE_ID) + ")");
  }
  const uint8_t header = read_config<uint8_t>(*transport_, kPciHeaderType) & 0x7f;
  if (header != 0) not_our_card("PCI header type is " + std::to_string(header) + ", expected 0");
}

void Device::size_bars() {
  // Decoding is off while the BARs hold sizing patterns.
  write_config<uint16_t>(*transport_, kPciCommand, kCommandNoIntx);
  uint64_t low_window = 0xe000'0000, high_window = 0x80'0000'0000;
  uint64_t sizes[6] = {};
  for (int bar = 0; bar < 6; ++bar) {
    const uint64_t at = kPciBar0 + 4 * bar;
    write_config<uint32_t>(*transport_, at, 0xffff'ffff);
    const uint32_t low = read_config<uint32_t>(*transport_, at);
    if (low == 0) continue;
    if (low & 1) not_our_card("BAR" + std::to_string(bar) + " is an I/O BAR");
    const bool wide = ((low >> 1) & 3) == 2;
    uint64_t mask = (low & ~0xfu) | 0xffff'ffff'0000'0000;
    if (wide) {
      if (bar == 5) not_our_card("BAR5 claims to be 64 bits wide");
      write_config<uint32_t>(*transport_, at + 4, 0xffff'ffff);
      mask = (low & ~0xfu) | uint64_t{read_config<uint32_t>(*transport_, at + 4)} << 32;
    }
    const uint64_t size = ~mask + 1;
    if (!std::has_single_bit(size))
      not_our_card("BAR" + std::to_string(bar) + " has size " + hex(size) + ", no power of two");
    sizes[bar] = size;
    uint64_t &window = wide ? high_window : low_window;
    window = align_up(window, size);
    write_config<uint32_t>(*transport_, at, static_cast<uint32_t>(window));
    if (wide) write_config<uint32_t>(*transport_, at + 4, static_cast<uint32_t>(window >> 32));
    window += size;
    if (wide) ++bar;
  }
  info_.bar0_bytes = sizes[0];
  info_.bar2_bytes = sizes[2];
  info_.bar4_bytes = sizes[4];
  if (info_.bar0_bytes < CX_BAR0_SIZE) {
    not_our_card("BAR0 has " + hex(info_.bar0_bytes) + " bytes, expected " + hex(CX_BAR0_SIZE));
  }
  write_config<uint16_t>(*transport_, kPciCommand, kCommandMemory | kCommandBusMaster | kCommandNoIntx);

  const uint32_t magic = read_register(dev(CX_DEV_MAGIC));
  if (magic != CX_DEV_MAGIC_RESET) not_our_card("dev.MAGIC is " + hex(magic) + ", expected " + hex(CX_DEV_MAGIC_RESET));
  info_.register_revision = read_register(dev(CX_DEV_REVISION));
  if (info_.register_revision >> 16 != CX_DEV_REVISION_RESET >> 16) {
    not_our_card("register interface revision " + hex(info_.register_revision) + ", this driver speaks " +
                 hex(CX_DEV_REVISION_RESET));
  }
}

void Device::configure_link() {
  const uint64_t capability = find_capability(*transport_, kCapabilityExpress);
  if (!capability) return;
  const auto size_code = [](uint32_t bytes, uint32_t largest, const char *what) {
    if (!std::has_single_bit(bytes) || bytes < 128 || bytes > largest) {
      throw InputError(std::string(what) + " " + std::to_string(bytes) + ": expected a power of two from 128 to " +
                       std::to_string(largest));
    }
    return static_cast<uint16_t>(std::countr_zero(bytes / 128));
  };
  uint16_t control = read_config<uint16_t>(*transport_, capability + kExpressControl);
  const auto set_field = [&](uint16_t mask, uint16_t value) {
    control = static_cast<uint16_t>((control & ~mask) | value);
  };
  const DeviceOptions::Link &wanted = options_.link;
  if (wanted.payload_bytes) {
    const uint32_t largest = 128u << (read_config<uint32_t>(*transport_, capability + kExpressCapabilities) & 7);
    set_field(kPayloadMask, size_code(*wanted.payload_bytes, largest, "PCIe payload") << kPayloadShift);
  }
  if (wanted.read_request_bytes) {
    set_field(kReadRequestMask, size_code(*wanted.read_request_bytes, 4096, "PCIe read request") << kReadRequestShift);
  }
  if (wanted.relaxed_ordering) set_field(kRelaxedOrdering, *wanted.relaxed_ordering ? kRelaxedOrdering : 0);
  if (wanted.extended_tags) set_field(kExtendedTags, *wanted.extended_tags ? kExtendedTags : 0);
  write_config<uint16_t>(*transport_, capability + kExpressControl, control);
  control = read_config<uint16_t>(*transport_, capability + kExpressControl);
  info_.payload_bytes = 128u << ((control & kPayloadMask) >> kPayloadShift);
  info_.read_request_bytes = 128u << ((control & kReadRequestMask) >> kReadRequestShift);
  info_.relaxed_ordering = (control & kRelaxedOrdering) != 0;
  info_.extended_tags = (control & kExtendedTags) != 0;
  const uint16_t status = read_config<uint16_t>(*transport_, capability + kExpressLinkStatus);
  info_.link_generation = status & 0xf;
  info_.link_width = status >> 4 & 0x3f;
}

void Device::enable_msix() {
  const uint64_t capability = find_capability(*transport_, kCapabilityMsix);
  if (!capability) not_our_card("the function has no MSI-X capability");
  const uint16_t control = read_config<uint16_t>(*transport_, capability + 2);
  info_.msix_vectors = (control & kMsixSizeMask) + 1u;
  const uint32_t table = read_config<uint32_t>(*transport_, capability + 4);
  const int bar = static_cast<int>(table & 7);
  const uint64_t offset = table & ~7u;
  // All vectors stay masked by the function until the table is complete.
  write_config<uint16_t>(*transport_, capability + 2, (control & kMsixSizeMask) | kMsixEnable | kMsixMaskAll);
  for (uint32_t vector = 0; vector < info_.msix_vectors; ++vector) {
    const uint32_t entry[4] = {0xfee0'0000, 0, vector, 0};
    for (int word = 0; word < 4; ++word) {
      transport_->write(bar, offset + 16 * vector + 4 * word, &entry[word], sizeof entry[word]);
    }
  }
  write_config<uint16_t>(*transport_, capability + 2, (control & kMsixSizeMask) | kMsixEnable);
  interrupts_.resize(info_.msix_vectors, 0);
}

void Device::initiate_function_reset() {
  const uint64_t capability = find_capability(*transport_, kCapabilityExpress);
  if (!capability) not_our_card("the function has no PCI Express capability");
  const uint64_t at = capability + kExpressControl;
  write_config<uint16_t>(*transport_, at, read_config<uint16_t>(*transport_, at) | kInitiateReset);
}

void Device::boot() {
  write_register(dev(CX_DEV_RESET_CTRL), CX_DEV_RESET_CTRL_CP_RESET_MASK | CX_DEV_RESET_CTRL_SOFT_RESET_MASK);
  info_.tcm_bytes = read_register(dev(CX_DEV_TCM_BYTES));
  const uint32_t size = cx_firmware_image_size;
  if (size > info_.tcm_bytes || size > info_.bar2_bytes) {
    not_our_card("the firmware has " + std::to_string(size) + " bytes, the card's memory for it " +
                 std::to_string(info_.tcm_bytes));
  }
  transport_->write(2, 0, cx_firmware_image, size);
  uint32_t first = 0, written = 0;
  std::memcpy(&written, cx_firmware_image, std::min<size_t>(size, sizeof written));
  transport_->read(2, 0, &first, sizeof first);
  if (first != written) not_our_card("BAR2 does not hold the firmware that was written to it");

  const uint64_t start = transport_->time_ps();
  write_register(dev(CX_DEV_RESET_CTRL), 0);
  uint32_t status = 0;
  auto ready = [&] {
    status = read_register(dev(CX_DEV_FW_STATUS));
    const uint32_t state = status & CX_DEV_FW_STATUS_STATE_MASK;
    if (state == CX_DEV_FW_STATUS_STATE_CRASHED) not_our_card("the firmware crashed during boot");
    return state == CX_DEV_FW_STATUS_STATE_READY;
  };
  wait_until(ready, options_.boot_limit_us, "boot of the control processor", kPollUs);
  info_.boot_ps = transport_->time_ps() - start;
  info_.firmware_protocol = (status & CX_DEV_FW_STATUS_PROTOCOL_MASK) >> CX_DEV_FW_STATUS_PROTOCOL_SHIFT;
  if (info_.firmware_protocol != CX_PACKET_PROTOCOL) {
    not_our_card("the firmware speaks packet protocol " + std::to_string(info_.firmware_protocol) + ", this driver " +
                 std::to_string(CX_PACKET_PROTOCOL));
  }
}

uint32_t Device::array_split() { return read_register(dev(CX_DEV_ARRAY_SPLIT)); }

void Device::read_capabilities() {
  auto reg = [this](uint64_t offset) { return read_register(dev(offset)); };
  target_.arch_hash = read_register64(dev(CX_DEV_ARCH_HASH_LO));
  target_.clock_khz = reg(CX_DEV_CLOCK_KHZ);
  target_.tiles = reg(CX_DEV_TILE_COUNT);
  const uint32_t shape = reg(CX_DEV_TILE_SHAPE);
  target_.tile_rows = (shape & CX_DEV_TILE_SHAPE_ROWS_MASK) >> CX_DEV_TILE_SHAPE_ROWS_SHIFT;
  target_.tile_cols = (shape & CX_DEV_TILE_SHAPE_COLS_MASK) >> CX_DEV_TILE_SHAPE_COLS_SHIFT;
  target_.tile_acc_rows = reg(CX_DEV_TILE_ACC_ROWS);
  const uint32_t modes = reg(CX_DEV_TILE_MODES);
  target_.tile_pack = (modes & CX_DEV_TILE_MODES_PACK_MASK) >> CX_DEV_TILE_MODES_PACK_SHIFT;
  target_.output_stationary = (modes & CX_DEV_TILE_MODES_OS_MASK) != 0;
  target_.sca_tiles = reg(CX_DEV_SCA_TILES);
  const uint32_t sca_shape = reg(CX_DEV_SCA_SHAPE), sca_memory = reg(CX_DEV_SCA_MEMORY);
  target_.sca_rows = (sca_shape & CX_DEV_SCA_SHAPE_ROWS_MASK) >> CX_DEV_SCA_SHAPE_ROWS_SHIFT;
  target_.sca_cols = (sca_shape & CX_DEV_SCA_SHAPE_COLS_MASK) >> CX_DEV_SCA_SHAPE_COLS_SHIFT;
  target_.sca_acc_rows = (sca_memory & CX_DEV_SCA_MEMORY_ACC_ROWS_MASK) >> CX_DEV_SCA_MEMORY_ACC_ROWS_SHIFT;
  target_.sca_depth = (sca_memory & CX_DEV_SCA_MEMORY_DEPTH_MASK) >> CX_DEV_SCA_MEMORY_DEPTH_SHIFT;
  const uint32_t sca_queues = reg(CX_DEV_SCA_QUEUES);
  target_.sca_window = (sca_queues & CX_DEV_SCA_QUEUES_WINDOW_MASK) >> CX_DEV_SCA_QUEUES_WINDOW_SHIFT;
  target_.sca_queue = (sca_queues & CX_DEV_SCA_QUEUES_QUEUE_MASK) >> CX_DEV_SCA_QUEUES_QUEUE_SHIFT;
  target_.shared_array = (reg(CX_DEV_ARRAY) & CX_DEV_ARRAY_SHARED_MASK) != 0;
  target_.array_switch_cycles = reg(CX_DEV_ARRAY_SWITCH_CYCLES);
  target_.vpu_lanes = reg(CX_DEV_VPU_LANES);
  target_.spm_bytes = reg(CX_DEV_SPM_BYTES);
  target_.spm_bytes_per_cycle = reg(CX_DEV_SPM_BYTES_PER_CYCLE);
  target_.semaphores = reg(CX_DEV_NUM_SEMAPHORES);
  target_.formats = reg(CX_DEV_FORMATS);
  target_.dram_bytes = uint64_t{reg(CX_DEV_DRAM_MIB)} << 20;
  target_.dram_mbps = reg(CX_DEV_DRAM_MBPS);
  target_.dram_stream_mbps = reg(CX_DEV_DRAM_STREAM_MBPS);
  target_.dram_latency_ns = reg(CX_DEV_DRAM_LATENCY_NS);
  target_.dram_channels = reg(CX_DEV_DRAM_CHANNELS);
  target_.dram_stripe_bytes = reg(CX_DEV_DRAM_STRIPE_BYTES);
  target_.noc_way_cycles = reg(CX_DEV_NOC_WAY_CYCLES);
  info_.queues = reg(CX_DEV_NUM_QUEUES);
  info_.firmware_version = reg(CX_DEV_FW_VERSION);
  info_.firmware_packets = reg(CX_DEV_FW_CAPS);
  if (target_.clock_khz == 0) not_our_card("dev.CLOCK_KHZ is 0");
  if (info_.queues == 0 || info_.queues > CX_QUEUE_DOORBELL_COUNT)
    not_our_card("dev.NUM_QUEUES is " + std::to_string(info_.queues));
  memory_ = std::make_unique<RangeAllocator>("device memory", CX_MEM_DRAM_BASE, target_.dram_bytes, 64);
}

// ---- memory ----

DeviceBuffer Device::allocate(uint64_t bytes, uint64_t align, std::string_view name) {
  const std::lock_guard lock(lock_);
  return {this, life_, memory_->allocate(bytes, align, name), bytes};
}

void Device::free_device(uint64_t address) {
  const std::lock_guard lock(lock_);
  memory_->release(address);
}

RangeAllocator::Stats Device::memory_stats() const {
  const std::lock_guard lock(lock_);
  return memory_->stats();
}

RangeAllocator::Stats Device::iova_stats() const {
  const std::lock_guard lock(lock_);
  return iova_.stats();
}

HostBuffer Device::allocate_host(uint64_t bytes, bool device_writes, std::string_view name) {
  if (bytes == 0) throw UsageError("host memory: allocation of 0 bytes");
  if (bytes > kIovaSize)
    throw OutOfMemoryError("host memory: " + std::to_string(bytes) + " bytes exceed the DMA address space");
  const uint64_t mapped = align_up(bytes, kPage);
  const std::lock_guard lock(lock_);
  // One unmapped page behind each buffer turns an overrun by the device into an IOMMU fault.
  const uint64_t iova = iova_.allocate(mapped + kPage, kPage, name);
  std::byte *data = nullptr;
  try {
    data = transport_->allocate(mapped);
    transport_->dma_map(iova, mapped, data, device_writes);
    pinned_.emplace(data, Pinned{bytes, iova});
  } catch (...) {
    if (data != nullptr) transport_->release(data, mapped);
    iova_.release(iova);
    throw;
  }
  host_[iova] = {data, mapped};
  return {this, life_, data, bytes, iova};
}

void Device::free_host(std::byte *data, uint64_t size, uint64_t iova) noexcept {
  const std::lock_guard lock(lock_);
  pinned_.erase(data);
  const uint64_t mapped = align_up(size, kPage);
  host_.erase(iova);
  try {
    transport_->dma_unmap(iova, mapped);
  } catch (const DeviceLostError &) {
    // Nobody is left to use it.
  } catch (const std::exception &) {
    // Memory that the transport may still hold is leaked rather than handed to somebody else.
    return;
  }
  transport_->release(data, mapped);
  iova_.release(iova);
}

void Device::check_device_range(uint64_t address, uint64_t bytes, const char *operation) const {
  const std::lock_guard lock(lock_);
  if (memory_->contains(address, bytes)) return;
  if (address >= CX_MEM_SPM_BASE && address - CX_MEM_SPM_BASE <= target_.spm_bytes &&
      bytes <= target_.spm_bytes - (address - CX_MEM_SPM_BASE)) {
    return;
  }
  throw UsageError(std::string(operation) + ": device range " + hex(address) + " + " + std::to_string(bytes) +
                   " bytes is not inside one allocation");
}

namespace {

// Bytes from the first to the last byte of a 2-D range.
uint64_t extent(uint64_t pitch, uint64_t row_bytes, uint64_t rows, const char *operation) {
  if (row_bytes == 0 || rows == 0) throw UsageError(std::string(operation) + ": no bytes");
  uint64_t result = 0;
  if (__builtin_mul_overflow(pitch, rows - 1, &result) || __builtin_add_overflow(result, row_bytes, &result)) {
    throw UsageError(std::string(operation) + ": the size exceeds 64 bits");
  }
  return result;
}

}  // namespace

void Device::upload_2d(uint64_t dst, uint64_t dst_pitch, const std::byte *src, uint64_t src_pitch, uint64_t row_bytes,
                       uint64_t rows) {
  check_device_range(dst, extent(dst_pitch, row_bytes, rows, "upload_2d"), "upload_2d");
  const uint64_t half = options_.staging_bytes / 2;
  if (row_bytes > half || dst_pitch > UINT32_MAX) {
    for (uint64_t row = 0; row < rows; ++row) upload(dst + row * dst_pitch, {src + row * src_pitch, row_bytes});
    return;
  }
  HostBuffer staging = take_staging();
  Fence busy[2];
  for (uint64_t row = 0, turn = 0; row < rows; turn ^= 1) {
    const uint64_t count = std::min(half / row_bytes, rows - row);
    if (busy[turn].valid() && busy[turn].wait_status().status != CX_STATUS_OK) break;
    std::byte *stage = staging.data() + turn * half;
    for (uint64_t i = 0; i < count; ++i) std::memcpy(stage + i * row_bytes, src + (row + i) * src_pitch, row_bytes);
    busy[turn] = queue().copy_2d(CX_DIRECTION_HOST_TO_DEVICE, dst + row * dst_pitch, dst_pitch,
                                 staging.iova() + turn * half, row_bytes, row_bytes, count, {.interrupt = true});
    row += count;
  }
  for (const Fence &fence : busy) {
    if (fence.valid()) fence.wait_status();
  }
  give_staging(std::move(staging));
  for (const Fence &fence : busy) {
    if (fence.valid()) fence.wait();
  }
}

void Device::download_2d(std::byte *dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch, uint64_t row_bytes,
                         uint64_t rows) {
  check_device_range(src, extent(src_pitch, row_bytes, rows, "download_2d"), "download_2d");
  if (row_bytes > options_.staging_bytes || src_pitch > UINT32_MAX) {
    for (uint64_t row = 0; row < rows; ++row) download({dst + row * dst_pitch, row_bytes}, src + row * src_pitch);
    return;
  }
  HostBuffer staging = take_staging();
  for (uint64_t row = 0; row < rows;) {
    const uint64_t count = std::min(options_.staging_bytes / row_bytes, rows - row);
    queue()
        .copy_2d(CX_DIRECTION_DEVICE_TO_HOST, staging.iova(), row_bytes, src + row * src_pitch, src_pitch, row_bytes,
                 count, {.interrupt = true})
        .wait();
    for (uint64_t i = 0; i < count; ++i)
      std::memcpy(dst + (row + i) * dst_pitch, staging.data() + i * row_bytes, row_bytes);
    row += count;
  }
  give_staging(std::move(staging));
}

void Device::copy(uint64_t dst, uint64_t src, uint64_t bytes) {
  check_device_range(dst, bytes, "copy");
  check_device_range(src, bytes, "copy");
  for (uint64_t at = 0; at < bytes; at += kLargestCopy) {
    queue().copy_on_device(dst + at, src + at, std::min(kLargestCopy, bytes - at), {.interrupt = true}).wait();
  }
}

void Device::fill(uint64_t dst, uint64_t bytes, uint32_t pattern) {
  if (dst % 4 || bytes % 4)
    throw UsageError("fill: address " + hex(dst) + " or size " + std::to_string(bytes) + " is no multiple of 4");
  check_device_range(dst, bytes, "fill");
  if (bytes) queue().fill(dst, bytes, pattern, {.interrupt = true}).wait();
}

// ---- queues ----

Queue &Device::create_queue(const QueueOptions &options) {
  if (options.log2_packets < 1 || options.log2_packets > 16)
    throw UsageError("queue size 2^" + std::to_string(options.log2_packets));
  if (options.priority > 3)
    throw UsageError("queue priority " + std::to_string(options.priority) + ", expected 0 to 3");
  const std::lock_guard lock(lock_);
  uint32_t id = 0;
  auto taken = [&] {
    return std::any_of(queues_.begin(), queues_.end(), [&](const auto &queue) { return queue->id() == id; });
  };
  while (taken()) ++id;
  if (id >= info_.queues)
    throw OutOfMemoryError("the device has " + std::to_string(info_.queues) + " queues and all are in use");
  std::unique_ptr<Queue> queue(new Queue(*this, id, options));
  enable_queue(*queue);
  queues_.push_back(std::move(queue));
  return *queues_.back();
}

void Device::enable_queue(Queue &queue) {
  const uint32_t id = queue.id();
  auto reg = [](uint64_t offset) { return CX_MAP_QUEUE_OFFSET + offset; };
  write_register(reg(CX_QUEUE_BASE_LO(id)), static_cast<uint32_t>(queue.ring_->iova()));
  write_register(reg(CX_QUEUE_BASE_HI(id)), static_cast<uint32_t>(queue.ring_->iova() >> 32));
  write_register(reg(CX_QUEUE_SIZE(id)), queue.options_.log2_packets);
  write_register(reg(CX_QUEUE_PRIORITY(id)), queue.options_.priority);
  write_register(reg(CX_QUEUE_VECTOR(id)), kErrorVector);
  write_register(reg(CX_QUEUE_DOORBELL(id)), 0);
  host_command(CX_DEV_HOST_CMD_OP_QUEUE_ENABLE, id);
  const uint32_t state = read_register(reg(CX_QUEUE_STATE(id)));
  if ((state & CX_QUEUE_STATE_STATE_MASK) != CX_QUEUE_STATE_STATE_ENABLED) {
    DeviceFault::Record record;
    record.queue = static_cast<int>(id);
    record.status = (state & CX_QUEUE_STATE_ERROR_MASK) >> CX_QUEUE_STATE_ERROR_SHIFT;
    throw DeviceFault(record, "queue " + std::to_string(id) +
                                  " did not start: " + std::string(packets::status_description(record.status)));
  }
}

void Device::destroy_queue(Queue &queue) {
  const std::lock_guard lock(lock_);
  auto it = std::find_if(queues_.begin(), queues_.end(), [&](const auto &owned) { return owned.get() == &queue; });
  if (it == queues_.end()) throw UsageError("destroy_queue: not a queue of this device");
  if (it == queues_.begin()) throw UsageError("destroy_queue: the default queue lives as long as the device");
  if (queue.outstanding())
    throw UsageError("destroy_queue: " + std::to_string(queue.outstanding()) + " packets are outstanding");
  host_command(CX_DEV_HOST_CMD_OP_QUEUE_DISABLE, queue.id());
  queues_.erase(it);
}

uint32_t Device::free_queues() {
  const std::lock_guard lock(lock_);
  return info_.queues - static_cast<uint32_t>(queues_.size());
}

StreamSet &Device::streams() {
  const std::lock_guard lock(lock_);
  if (!streams_) streams_ = std::make_unique<StreamSet>(*this);
  return *streams_;
}

bool Device::make_progress() { return streams_ && streams_->progress(); }

void Device::host_command(uint32_t op, uint32_t queue) {
  write_register(dev(CX_DEV_HOST_CMD), op << CX_DEV_HOST_CMD_OP_SHIFT | queue << CX_DEV_HOST_CMD_QUEUE_SHIFT);
  auto done = [this] {
    return (read_register(dev(CX_DEV_HOST_CMD)) & CX_DEV_HOST_CMD_OP_MASK) == CX_DEV_HOST_CMD_OP_NONE;
  };
  wait_until(done, options_.boot_limit_us, "host command " + std::to_string(op) + " for queue " + std::to_string(queue),
             kPollUs);
}

// ---- registers, counters ----

template <class Access>
void Device::access_register(Access &&access) {
  try {
    access();
  } catch (const DeviceLostError &) {
    throw;
  } catch (const DeviceFault &) {
    if (!dead_) check_link();
    throw;
  }
}

uint32_t Device::read_register(uint64_t offset) {
  const std::lock_guard lock(lock_);
  uint32_t value = 0;
  access_register([&] { transport_->read(0, offset, &value, sizeof value); });
  if (value == ~0u) check_link();  // what a host reads when nobody answers
  return value;
}

void Device::write_register(uint64_t offset, uint32_t value) {
  const std::lock_guard lock(lock_);
  access_register([&] { transport_->write(0, offset, &value, sizeof value); });
}

uint64_t Device::read_register64(uint64_t offset_lo) {
  const std::lock_guard lock(lock_);
  const uint64_t low = read_register(offset_lo);
  return low | uint64_t{read_register(offset_lo + 4)} << 32;
}

uint64_t Device::time_cycles() { return read_register64(dev(CX_DEV_TIME_LO)); }

uint64_t Device::time_ps() const {
  const std::lock_guard lock(lock_);
  return transport_->time_ps();
}

void Device::inject(const std::string &fault) {
  const std::lock_guard lock(lock_);
  transport_->inject(fault);
}

Counters Device::counters() {
  const std::lock_guard lock(lock_);
  return read_counters(true);
}

Counters Device::counters_since(const Counters &earlier) {
  const std::lock_guard lock(lock_);
  return read_counters(false) - earlier;
}

namespace {

std::string noc_end(uint32_t number) {
  static constexpr const char *kBlocks[] = {"host",  "sdma", "cp",  "registers", "tcm", "load",
                                            "store", "dmmu", "vpu", "sca",       "spm"};
  static_assert(CX_PERF_NOC_ENDS_FROM_HOST + std::size(kBlocks) - 1 == CX_PERF_NOC_ENDS_FROM_SPM);
  if (number < CX_PERF_NOC_ENDS_FROM_HOST) return "router " + std::to_string(number);
  if (number >= CX_PERF_NOC_ENDS_FROM_DRAM) return "dram" + std::to_string(number - CX_PERF_NOC_ENDS_FROM_DRAM);
  const uint32_t block = number - CX_PERF_NOC_ENDS_FROM_HOST;
  return block < std::size(kBlocks) ? kBlocks[block] : "block " + std::to_string(number);
}

}  // namespace

std::vector<NocLinkCounters> Device::read_noc_links() {
  auto reg = [](uint64_t offset) { return CX_MAP_PERF_OFFSET + offset; };
  std::vector<NocLinkCounters> links(read_register(reg(CX_PERF_NOC_LINKS)));
  for (uint32_t i = 0; i < links.size(); ++i) {
    write_register(reg(CX_PERF_NOC_LINK), i);
    const uint32_t ends = read_register(reg(CX_PERF_NOC_ENDS));
    links[i] = {noc_end(ends & CX_PERF_NOC_ENDS_FROM_MASK),  noc_end(ends >> CX_PERF_NOC_ENDS_TO_SHIFT),
                read_register64(reg(CX_PERF_NOC_BYTES_LO)),  read_register64(reg(CX_PERF_NOC_BUSY_LO)),
                read_register64(reg(CX_PERF_NOC_WAITED_LO)), read_register64(reg(CX_PERF_NOC_CROWDED_LO))};
  }
  return links;
}

Counters Device::read_counters(bool link_last) {
  Counters result;
  // Reading counters is itself traffic: they are held first, all in one moment.
  write_register(CX_MAP_PERF_OFFSET + CX_PERF_HOLD, link_last ? 1 : 2);  // the numbers of the marks in a trace
  if (!link_last) result.cycles = time_cycles();
  constexpr uint64_t kEngineOffsets[kEngines] = {CX_MAP_LOAD_OFFSET, CX_MAP_STORE_OFFSET, CX_MAP_DMMU_OFFSET,
                                                 CX_MAP_VPU_OFFSET, CX_MAP_SCA_OFFSET};
  for (int i = 0; i < kEngines; ++i) {
    EngineCounters &engine = result.engines[i];
    engine.busy_cycles = read_register64(kEngineOffsets[i] + CX_ENGINE_BUSY_LO);
    engine.stall_cycles = read_register64(kEngineOffsets[i] + CX_ENGINE_STALL_LO);
    engine.instructions = read_register64(kEngineOffsets[i] + CX_ENGINE_INSTR_LO);
    engine.ops = read_register64(kEngineOffsets[i] + CX_ENGINE_OPS_LO);
    engine.bytes_read = read_register64(kEngineOffsets[i] + CX_ENGINE_RD_LO);
    engine.bytes_written = read_register64(kEngineOffsets[i] + CX_ENGINE_WR_LO);
  }
  if (read_register64(CX_MAP_PERF_OFFSET + CX_PERF_DRAM_BUSY_NS_LO) != 0) {
    // Two words each, in the order of the members.
    for (int i = 0; i < DramCounters::kCount; ++i) {
      result.dram.*DramCounters::members[i] =
          read_register64(CX_MAP_PERF_OFFSET + CX_PERF_DRAM_ROW_HITS_LO + 8 * static_cast<uint64_t>(i));
    }
  }
  result.noc_links = read_noc_links();
  result.array_cycles = read_register64(CX_MAP_PERF_OFFSET + CX_PERF_ARRAY_LO);
  result.packets = read_register(dev(CX_DEV_PACKETS));
  result.interrupts = read_register(CX_MAP_MSIX_OFFSET + CX_MSIX_SENT);
  result.firmware_instructions = read_register64(dev(CX_DEV_CP_INSTRET_LO));
  result.firmware_cycles = read_register64(dev(CX_DEV_CP_CYCLES_LO));
  auto reg = [](uint64_t offset) { return CX_MAP_PERF_OFFSET + offset; };
  result.pcie_to_device = read_register64(reg(CX_PERF_PCIE_TO_DEV_LO));
  result.pcie_to_host = read_register64(reg(CX_PERF_PCIE_TO_HOST_LO));
  result.dram_read = read_register64(reg(CX_PERF_DRAM_RD_LO));
  result.dram_written = read_register64(reg(CX_PERF_DRAM_WR_LO));
  result.spm_read = read_register64(reg(CX_PERF_SPM_RD_LO));
  result.spm_written = read_register64(reg(CX_PERF_SPM_WR_LO));
  result.noc = read_register64(reg(CX_PERF_NOC_LO));
  write_register(reg(CX_PERF_HOLD), 0);
  // Next to what is measured, so that reading counters is not in the time between.
  if (link_last) result.cycles = time_cycles();
  return result;
}

namespace {

constexpr uint64_t power(uint64_t offset) { return CX_MAP_POWER_OFFSET + offset; }

}  // namespace

void Device::mark_energy(EnergyMark mark) { write_register(power(CX_POWER_LATCH), static_cast<uint32_t>(mark)); }

Energy Device::energy_between_marks() {
  const std::lock_guard lock(lock_);
  return read_energy(EnergyMark::end) - read_energy(EnergyMark::begin);
}

Die Device::die() {
  const std::lock_guard lock(lock_);
  constexpr double kMm2 = 1e-6, kWatts = 1e-3;
  Die die;
  for (uint32_t n = 0; n < die.parts.size(); ++n) {
    die.parts[n] = {kMm2 * read_register(power(CX_POWER_AREA(n))), kMm2 * read_register(power(CX_POWER_AREA_LEAST(n))),
                    kMm2 * read_register(power(CX_POWER_AREA_MOST(n)))};
  }
  for (uint32_t n = 0; n < die.full_rate.size(); ++n) {
    die.full_rate[n] = {kWatts * read_register(power(CX_POWER_FULL_RATE(n))),
                        kWatts * read_register(power(CX_POWER_FULL_RATE_LEAST(n))),
                        kWatts * read_register(power(CX_POWER_FULL_RATE_MOST(n)))};
  }
  return die;
}

OperatingPoint Device::operating_point() {
  const std::lock_guard lock(lock_);
  if (!point_) {
    constexpr double kVolts = 1e-3, kMhz = 1e-3;
    const uint32_t point = read_register(power(CX_POWER_POINT));
    point_ = OperatingPoint{(point & CX_POWER_POINT_NUMBER_MASK) >> CX_POWER_POINT_NUMBER_SHIFT,
                            (point & CX_POWER_POINT_COUNT_MASK) >> CX_POWER_POINT_COUNT_SHIFT, kMhz * target_.clock_khz,
                            kVolts * read_register(power(CX_POWER_CORE_MV))};
  }
  return *point_;
}

Energy Device::read_energy(EnergyMark mark) {
  const auto slot = static_cast<uint32_t>(mark);
  constexpr uint32_t kSlotStride = CX_POWER_ENERGY_LO_COUNT / 2;
  Energy energy;
  energy.cycles = read_register64(power(CX_POWER_TIME_LO(slot)));
  for (uint32_t domain = 0; domain < kEnergyDomains; ++domain) {
    const uint32_t index = slot * kSlotStride + domain;
    energy.domains[domain] = {read_register64(power(CX_POWER_ENERGY_LO(index))),
                              read_register64(power(CX_POWER_LEAST_LO(index))),
                              read_register64(power(CX_POWER_MOST_LO(index)))};
  }
  if (!thermal_) thermal_ = (read_register(power(CX_POWER_THERMAL)) & CX_POWER_THERMAL_MODELLED_MASK) != 0;
  if (*thermal_) {
    constexpr double kDegrees = 1e-3;
    energy.heat = Heat{kDegrees * read_register(power(CX_POWER_JUNCTION_MC(slot))),
                       kDegrees * read_register(power(CX_POWER_PEAK_MC(slot))),
                       read_register64(power(CX_POWER_THROTTLED_LO(slot)))};
  }
  return energy;
}

// ---- waiting and faults ----

void Device::drain_interrupts() {
  bool error = false, events = false;
  while (const auto vector = transport_->take_interrupt()) {
    if (*vector < interrupts_.size()) ++interrupts_[*vector];
    error |= *vector == kErrorVector;
    events |= *vector == event_vector_;
  }
  if (transport_->take_error()) check_health();
  if (dead_) return;
  if (error) collect_fault();
  if (events) collect_events();
}

bool Device::wait_step(uint64_t deadline_ps, uint64_t slice_us) {
  const uint64_t now = transport_->time_ps();
  if (now >= deadline_ps) return true;
  const Transport::Wake wake = transport_->advance(std::min(deadline_ps - now, slice_us * 1'000'000));
  if (wake == Transport::Wake::kInterrupt) drain_interrupts();
  return make_progress() || wake != Transport::Wake::kIdle;
}

bool Device::wait_until_idle(const std::function<bool()> &done, uint64_t deadline_ps) {
  constexpr uint64_t kSliceUs = 20;
  for (;;) {
    const std::lock_guard lock(lock_);
    if (done()) return true;
    if (transport_->time_ps() >= deadline_ps) return false;
    if (!wait_step(deadline_ps, kSliceUs)) return done();
  }
}

void Device::no_answer(const std::string &what, uint64_t limit_us, bool idle) {
  check_health();
  require_alive();
  if (idle) throw TimeoutError(what + ": the device went idle without an answer");
  throw TimeoutError(what + ": no answer within " + std::to_string(limit_us) + " us of simulated time");
}

void Device::collect_fault() {
  if (read_register(dev(CX_DEV_FAULT_COUNT)) == 0) return;
  DeviceFault::Record record;
  record.status = read_register(dev(CX_DEV_FAULT_CODE));
  const uint32_t source = read_register(dev(CX_DEV_FAULT_SOURCE));
  const uint32_t queue = (source & CX_DEV_FAULT_SOURCE_QUEUE_MASK) >> CX_DEV_FAULT_SOURCE_QUEUE_SHIFT;
  const uint32_t engine = (source & CX_DEV_FAULT_SOURCE_ENGINE_MASK) >> CX_DEV_FAULT_SOURCE_ENGINE_SHIFT;
  record.queue = queue == 0xff ? -1 : static_cast<int>(queue);
  record.engine = engine == 0xff ? -1 : static_cast<int>(engine);
  record.packet = read_register(dev(CX_DEV_FAULT_PACKET));
  record.pc = read_register(dev(CX_DEV_FAULT_PC));
  record.address = read_register64(dev(CX_DEV_FAULT_ADDR_LO));
  write_register(dev(CX_DEV_FAULT_ACK), 1);
  // A program that never asks for its faults must not grow without bound: the oldest tell most.
  if (faults_.size() < kFaultsKept) faults_.push_back(record);
}

std::optional<DeviceFault::Record> Device::claim_fault(uint32_t queue, uint64_t packet) {
  const auto it = std::find_if(faults_.begin(), faults_.end(), [&](const DeviceFault::Record &record) {
    return record.queue == static_cast<int>(queue) && record.packet == static_cast<uint32_t>(packet);
  });
  if (it == faults_.end()) return std::nullopt;
  const DeviceFault::Record record = *it;
  faults_.erase(it);
  return record;
}

std::optional<DeviceFault::Record> Device::take_fault() {
  const std::lock_guard lock(lock_);
  collect_fault();
  if (faults_.empty()) return std::nullopt;
  const DeviceFault::Record record = faults_.front();
  faults_.erase(faults_.begin());
  return record;
}

std::optional<uint64_t> Device::host_value(uint64_t iova) const {
  const auto next = host_.upper_bound(iova);
  if (next == host_.begin()) return std::nullopt;
  const auto &[first, memory] = *std::prev(next);
  uint64_t value = 0;
  if (iova - first > memory.second || sizeof value > memory.second - (iova - first)) return std::nullopt;
  std::memcpy(&value, memory.first + (iova - first), sizeof value);
  return value;
}

std::string Device::describe(const DeviceFault::Record &record) {
  std::ostringstream text;
  text << packets::status_name(record.status) << ": " << packets::status_description(record.status);
  if (record.queue >= 0) text << "; queue " << record.queue << " packet " << record.packet;
  if (record.engine >= 0) {
    text << "; engine " << (record.engine < kEngines ? kEngineNames[record.engine] : "?") << " instruction "
         << record.pc;
  }
  if (record.status == CX_STATUS_INDEX_RANGE) {
    text << "; index " << static_cast<int64_t>(record.address);
  } else if (!record.engines.empty()) {
    text << "; " << cx::describe(record.engines);
  } else if (record.address) {
    text << "; address " << hex(record.address);
  }
  return text.str();
}

}  // namespace cx
