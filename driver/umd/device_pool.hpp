// Device memory that is taken and given back often: blocks of size classes that stay with the pool.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "driver/umd/device.hpp"

namespace cx {

class DevicePool;

/// A block of a pool; move-only. The pool outlives it.
class PoolBuffer {
 public:
  PoolBuffer() = default;
  PoolBuffer(PoolBuffer &&other) noexcept { swap(other); }
  PoolBuffer &operator=(PoolBuffer &&other) noexcept {
    PoolBuffer(std::move(other)).swap(*this);
    return *this;
  }
  /// Gives the block back at once: nothing may use it any more.
  ~PoolBuffer();
  /// Gives it back once `last_use` is done. A packet of `queue`, which waits for that packet anyway (Submit::barrier),
  /// may use it before.
  void release_after(const Queue &queue, Fence last_use);
  uint64_t address() const { return block_.address(); }
  uint64_t size() const { return size_; }  ///< bytes, as asked for
  explicit operator bool() const { return pool_ != nullptr; }
  void swap(PoolBuffer &other) noexcept;

 private:
  friend class DevicePool;
  PoolBuffer(DevicePool *pool, DeviceBuffer block, uint64_t size)
      : pool_(pool), block_(std::move(block)), size_(size) {}
  DevicePool *pool_ = nullptr;
  DeviceBuffer block_;
  uint64_t size_ = 0;
};

/// Size classes: multiples of 64 up to 256 bytes, above four to each power of two, so that a block is at most a quarter
/// larger than asked for (and at most 63 bytes for the small ones). The device outlives the pool.
class DevicePool {
 public:
  struct Stats {
    uint64_t used = 0;      ///< bytes in blocks that somebody has
    uint64_t reserved = 0;  ///< bytes that the pool holds of the device
    uint64_t peak_used = 0, peak_reserved = 0;
    uint64_t asked = 0;        ///< bytes asked for of those in `used`
    uint64_t allocations = 0;  ///< ever
    uint64_t reused = 0;       ///< of these, blocks that the pool had
    uint64_t blocks = 0;       ///< free ones
    /// Share of the pool's memory that is in no use: free blocks, and what blocks are larger than asked for.
    double fragmentation() const {
      return reserved == 0 ? 0 : 1 - static_cast<double>(asked) / static_cast<double>(reserved);
    }
  };

  explicit DevicePool(Device &device, std::string name = "pool");
  DevicePool(const DevicePool &) = delete;
  DevicePool &operator=(const DevicePool &) = delete;
  ~DevicePool();

  /// At least 256-byte aligned above 256 bytes, else 64. queue: who will use it first; such a block may come from
  /// packets of that queue which are not done. Throws OutOfMemoryError when the device has no room even after trim().
  PoolBuffer allocate(uint64_t bytes, const Queue *queue = nullptr);
  /// Gives free blocks back to the device, largest first, until at most `keep` bytes are reserved. Blocks that the
  /// device may still use stay. Returns the bytes given back.
  uint64_t trim(uint64_t keep = 0);
  Stats stats() const;
  static uint64_t class_bytes(uint64_t bytes);

 private:
  friend class PoolBuffer;
  struct Free {
    DeviceBuffer block;
    const Queue *queue;  // null: anybody's
    Fence last_use;
    bool idle() const { return !last_use.valid() || last_use.done(); }
  };
  void give_back(DeviceBuffer block, uint64_t asked, const Queue *queue, Fence last_use);

  Device &device_;
  std::string name_;
  std::map<uint64_t, std::vector<Free>> free_;  // by class
  Stats stats_;
};

}  // namespace cx
