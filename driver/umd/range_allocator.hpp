// Allocates address ranges: device memory and DMA addresses.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cx {

/// Best fit with coalescing over [base, base + size). Holds no memory itself. The result depends only on the sequence
/// of calls.
class RangeAllocator {
 public:
  struct Stats {
    uint64_t capacity = 0;      ///< bytes
    uint64_t used = 0;          ///< bytes in live allocations, rounded up to the granule
    uint64_t peak = 0;          ///< largest value of used
    uint64_t largest_free = 0;  ///< bytes
    uint64_t free_ranges = 0;
    uint64_t live = 0;   ///< allocations
    uint64_t total = 0;  ///< allocations ever made

    /// Share of the free bytes that the largest free range does not hold: 0 when all of them are in one.
    double fragmentation() const {
      const uint64_t free = capacity - used;
      return free == 0 ? 0 : 1 - static_cast<double>(largest_free) / static_cast<double>(free);
    }
  };
  /// Live allocations of one label.
  struct Holding {
    std::string label;
    uint64_t allocations = 0;
    uint64_t bytes = 0;  ///< as asked for
  };

  /// name: for messages. granule: a power of two; base and size are multiples of it.
  RangeAllocator(std::string name, uint64_t base, uint64_t size, uint64_t granule);

  /// Address of `bytes` (at least 1) bytes at a multiple of `align`, a power of two. label: for reports. Throws
  /// OutOfMemoryError, which says what holds the memory;
  /// UsageError for zero bytes or a wrong alignment.
  uint64_t allocate(uint64_t bytes, uint64_t align = 1, std::string_view label = {});

  /// Throws UsageError when `address` is not the start of a live allocation: double free or a stray address.
  void release(uint64_t address);

  /// Bytes that were asked for at `address`; throws UsageError as release() does.
  uint64_t size_of(uint64_t address) const;

  /// Whether [address, address + bytes) lies in one live allocation.
  bool contains(uint64_t address, uint64_t bytes) const;

  Stats stats() const;

  /// What holds memory, by label, most bytes first.
  std::vector<Holding> holdings() const;
  /// The same as text: "weights 1200 bytes in 3, unnamed 64 bytes in 1"; at most `labels` of them. Empty: nothing is
  /// live.
  std::string holdings_text(size_t labels = 6) const;

 private:
  struct Block {
    uint64_t reserved;   // a multiple of the granule
    uint64_t requested;  // what the caller may touch
    std::string label;
  };
  void insert_free(uint64_t base, uint64_t size);
  void erase_free(std::map<uint64_t, uint64_t>::iterator it);

  std::string name_;
  uint64_t base_, size_, granule_;
  std::map<uint64_t, uint64_t> free_by_base_;
  std::set<std::pair<uint64_t, uint64_t>> free_by_size_;  // (size, base): the first that fits is the best
  std::map<uint64_t, Block> live_;
  uint64_t used_ = 0, peak_ = 0, total_ = 0;
};

}  // namespace cx
