// Pinned host memory, and reports of what holds memory.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <sstream>

#include "driver/umd/device.hpp"
#include "driver/umd/stream.hpp"

namespace cx {

namespace {

constexpr uint64_t kPage = 4096;

struct Pages {
  std::byte *first;
  uint64_t bytes;
  uint64_t offset;  // of the memory in its first page
};

Pages pages_of(std::byte *data, uint64_t size) {
  const uint64_t offset = reinterpret_cast<uintptr_t>(data) % kPage;
  return {data - offset, (offset + size + kPage - 1) / kPage * kPage, offset};
}

}  // namespace

HostRegistration::~HostRegistration() {
  if (device_ && !life_.expired()) device_->unregister(data_, size_, iova_);
}

void HostRegistration::release() {
  if (!device_ || life_.expired()) return;
  if (device_->in_use({data_, size_})) {
    throw UsageError("release of registered host memory: packets that use it are outstanding");
  }
  *this = HostRegistration();
}

void HostRegistration::swap(HostRegistration &other) noexcept {
  std::swap(device_, other.device_);
  life_.swap(other.life_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(iova_, other.iova_);
}

HostRegistration Device::register_host(std::span<std::byte> memory, bool device_writes, std::string_view name) {
  if (memory.empty()) throw UsageError("registration of host memory: no bytes");
  const std::lock_guard lock(lock_);
  const auto next = pinned_.lower_bound(memory.data() + memory.size());
  if (next != pinned_.begin()) {
    const auto &[data, pinned] = *std::prev(next);
    if (data + pinned.bytes > memory.data()) {
      throw UsageError("registration of host memory: " + std::to_string(memory.size()) +
                       " bytes overlap a pinned range of " + std::to_string(pinned.bytes) + " bytes");
    }
  }
  const Pages pages = pages_of(memory.data(), memory.size());
  // An unmapped page follows, as behind allocated memory.
  const uint64_t base = iova_.allocate(pages.bytes + kPage, kPage, name);
  try {
    transport_->dma_map(base, pages.bytes, pages.first, device_writes);
    pinned_.emplace(memory.data(), Pinned{memory.size(), base + pages.offset});
    host_[base + pages.offset] = {memory.data(), memory.size()};
  } catch (...) {
    iova_.release(base);
    throw;
  }
  return {this, life_, memory.data(), memory.size(), base + pages.offset};
}

void Device::unregister(std::byte *data, uint64_t size, uint64_t iova) noexcept {
  const std::lock_guard lock(lock_);
  const Pages pages = pages_of(data, size);
  pinned_.erase(data);
  host_.erase(iova);
  try {
    transport_->dma_unmap(iova - pages.offset, pages.bytes);
  } catch (const DeviceLostError &) {
    // Nobody is left to use it.
  } catch (const std::exception &) {
    return;  // the address stays taken rather than mapped twice
  }
  iova_.release(iova - pages.offset);
}

bool Device::in_use(std::span<const std::byte> memory) const {
  const std::lock_guard lock(lock_);
  if (streams_ && streams_->holds(memory)) return true;
  const auto iova = pinned_address(memory.data(), memory.size());
  return iova && std::any_of(queues_.begin(), queues_.end(),
                             [&](const auto &queue) { return queue->refers_to(*iova, memory.size()); });
}

std::optional<uint64_t> Device::pinned_address(const void *memory, uint64_t bytes) const {
  const std::lock_guard lock(lock_);
  const auto *data = static_cast<const std::byte *>(memory);
  const auto next = pinned_.upper_bound(data);
  if (next == pinned_.begin()) return std::nullopt;
  const auto &[first, pinned] = *std::prev(next);
  const auto offset = static_cast<uint64_t>(data - first);
  if (offset > pinned.bytes || bytes > pinned.bytes - offset) return std::nullopt;
  return pinned.iova + offset;
}

std::string Device::memory_report() const {
  const std::lock_guard lock(lock_);
  std::ostringstream text;
  const auto add = [&](const char *what, const RangeAllocator &ranges) {
    const RangeAllocator::Stats now = ranges.stats();
    text << what << ": " << now.used << " of " << now.capacity << " bytes used, peak " << now.peak << ", largest free "
         << now.largest_free << " of " << now.free_ranges << "\n";
    for (const RangeAllocator::Holding &holding : ranges.holdings()) {
      text << "  " << holding.label << ": " << holding.bytes << " bytes in " << holding.allocations << "\n";
    }
  };
  if (memory_) add("device memory", *memory_);
  add("DMA addresses", iova_);
  return text.str();
}

void Device::report_leaks() noexcept {
  try {
    const bool device = memory_ && memory_->stats().live != 0, host = iova_.stats().live != 0;
    if (!device && !host) return;
    if (!options_.on_leak && std::getenv("CX_LEAK_REPORT") == nullptr) return;
    std::string text = "memory in use when the device was closed:";
    if (device) text += " device memory: " + memory_->holdings_text() + ";";
    if (host) text += " pinned host memory: " + iova_.holdings_text() + ";";
    text.pop_back();
    if (options_.on_leak) {
      options_.on_leak(text);
    } else {
      std::fprintf(stderr, "cx: %s\n", text.c_str());
    }
  } catch (const std::exception &) {
    // A report is no reason to end the process.
  }
}

}  // namespace cx
