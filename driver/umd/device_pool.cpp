#include "driver/umd/device_pool.hpp"

#include <algorithm>
#include <bit>
#include <mutex>

namespace cx {

PoolBuffer::~PoolBuffer() {
  if (pool_ != nullptr) pool_->give_back(std::move(block_), size_, nullptr, Fence());
}

void PoolBuffer::release_after(const Queue &queue, Fence last_use) {
  if (pool_ == nullptr) throw UsageError("release of an empty pool buffer");
  std::exchange(pool_, nullptr)->give_back(std::move(block_), size_, &queue, std::move(last_use));
  size_ = 0;
}

void PoolBuffer::swap(PoolBuffer &other) noexcept {
  std::swap(pool_, other.pool_);
  block_.swap(other.block_);
  std::swap(size_, other.size_);
}

DevicePool::DevicePool(Device &device, std::string name) : device_(device), name_(std::move(name)) {}

DevicePool::~DevicePool() = default;

uint64_t DevicePool::class_bytes(uint64_t bytes) {
  constexpr uint64_t kGranule = 64, kSmall = 256;
  if (bytes > uint64_t{1} << 62) return bytes;  // the device refuses it
  const uint64_t step = bytes <= kSmall ? kGranule : std::bit_floor(bytes - 1) / 4;
  return (bytes + step - 1) / step * step;
}

PoolBuffer DevicePool::allocate(uint64_t bytes, const Queue *queue) {
  const std::lock_guard lock(device_.lock());
  const uint64_t size = class_bytes(bytes);
  DeviceBuffer block;
  if (const auto found = free_.find(size); found != free_.end()) {
    auto &blocks = found->second;
    const auto usable = std::find_if(blocks.rbegin(), blocks.rend(), [&](const Free &candidate) {
      return (queue != nullptr && candidate.queue == queue) || candidate.idle();
    });
    if (usable != blocks.rend()) {
      block = std::move(usable->block);
      blocks.erase(std::next(usable).base());
      ++stats_.reused;
      --stats_.blocks;
    }
  }
  if (!block) {
    constexpr uint64_t kSmallAlign = 64, kAlign = 256;
    const uint64_t align = size > kAlign ? kAlign : kSmallAlign;
    try {
      block = device_.allocate(size, align, name_);
    } catch (const OutOfMemoryError &) {
      if (trim() == 0) throw;
      block = device_.allocate(size, align, name_);
    }
    stats_.reserved += size;
    stats_.peak_reserved = std::max(stats_.peak_reserved, stats_.reserved);
  }
  ++stats_.allocations;
  stats_.used += size;
  stats_.asked += bytes;
  stats_.peak_used = std::max(stats_.peak_used, stats_.used);
  return {this, std::move(block), bytes};
}

void DevicePool::give_back(DeviceBuffer block, uint64_t asked, const Queue *queue, Fence last_use) {
  const std::lock_guard lock(device_.lock());
  stats_.used -= block.size();
  stats_.asked -= asked;
  ++stats_.blocks;
  const uint64_t size = block.size();
  free_[size].push_back({std::move(block), queue, std::move(last_use)});
}

uint64_t DevicePool::trim(uint64_t keep) {
  const std::lock_guard lock(device_.lock());
  uint64_t given = 0;
  for (auto blocks = free_.rbegin(); blocks != free_.rend(); ++blocks) {
    std::erase_if(blocks->second, [&](const Free &candidate) {
      if (stats_.reserved <= keep || !candidate.idle()) return false;
      stats_.reserved -= blocks->first;
      --stats_.blocks;
      given += blocks->first;
      return true;
    });
  }
  return given;
}

DevicePool::Stats DevicePool::stats() const {
  const std::lock_guard lock(device_.lock());
  return stats_;
}

}  // namespace cx
