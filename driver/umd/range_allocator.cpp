#include "driver/umd/range_allocator.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <sstream>

#include "driver/include/cx/error.hpp"

namespace cx {

namespace {

std::string hex(uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

}  // namespace

RangeAllocator::RangeAllocator(std::string name, uint64_t base, uint64_t size, uint64_t granule)
    : name_(std::move(name)), base_(base), size_(size), granule_(granule) {
  if (!std::has_single_bit(granule) || base % granule || size % granule ||
      size > std::numeric_limits<uint64_t>::max() - base) {
    throw UsageError(name_ + ": base " + hex(base) + " and size " + hex(size) + " are no multiples of granule " +
                     hex(granule));
  }
  if (size) insert_free(base, size);
}

void RangeAllocator::insert_free(uint64_t base, uint64_t size) {
  free_by_base_.emplace(base, size);
  free_by_size_.emplace(size, base);
}

void RangeAllocator::erase_free(std::map<uint64_t, uint64_t>::iterator it) {
  free_by_size_.erase({it->second, it->first});
  free_by_base_.erase(it);
}

uint64_t RangeAllocator::allocate(uint64_t bytes, uint64_t align, std::string_view label) {
  if (bytes == 0) throw UsageError(name_ + ": allocation of 0 bytes");
  if (!std::has_single_bit(align))
    throw UsageError(name_ + ": alignment " + std::to_string(align) + " is no power of two");
  if (align < granule_) align = granule_;
  // Comparing first keeps the rounding below from wrapping around.
  const uint64_t reserved = bytes > size_ ? 0 : (bytes + granule_ - 1) & ~(granule_ - 1);
  auto fits = [&](uint64_t base, uint64_t size, uint64_t &start) {
    if (base > std::numeric_limits<uint64_t>::max() - (align - 1)) return false;
    start = (base + align - 1) & ~(align - 1);
    return start - base <= size && size - (start - base) >= reserved;
  };
  if (reserved) {
    for (auto it = free_by_size_.lower_bound({reserved, 0}); it != free_by_size_.end(); ++it) {
      const auto [size, base] = *it;
      uint64_t start = 0;
      if (!fits(base, size, start)) continue;
      erase_free(free_by_base_.find(base));
      if (start > base) insert_free(base, start - base);
      const uint64_t end = start + reserved;
      if (end < base + size) insert_free(end, base + size - end);
      live_.emplace(start, Block{reserved, bytes, std::string(label)});
      used_ += reserved;
      if (used_ > peak_) peak_ = used_;
      ++total_;
      return start;
    }
  }
  const Stats now = stats();
  throw OutOfMemoryError(name_ + ": no room for " + std::to_string(bytes) + " bytes (alignment " +
                         std::to_string(align) + "): " + std::to_string(now.used) + " of " +
                         std::to_string(now.capacity) + " bytes in use, largest free range " +
                         std::to_string(now.largest_free) + " of " + std::to_string(now.free_ranges) +
                         (live_.empty() ? std::string() : "; held by " + holdings_text()));
}

void RangeAllocator::release(uint64_t address) {
  auto it = live_.find(address);
  if (it == live_.end()) {
    throw UsageError(name_ + ": release of " + hex(address) +
                     ", which is not allocated (freed twice, or never returned by allocate)");
  }
  uint64_t base = address, size = it->second.reserved;
  used_ -= size;
  live_.erase(it);
  auto next = free_by_base_.lower_bound(base);
  if (next != free_by_base_.end() && next->first == base + size) {
    size += next->second;
    auto merged = next++;
    erase_free(merged);
  }
  if (next != free_by_base_.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == base) {
      base = before->first;
      size += before->second;
      erase_free(before);
    }
  }
  insert_free(base, size);
}

uint64_t RangeAllocator::size_of(uint64_t address) const {
  auto it = live_.find(address);
  if (it == live_.end()) throw UsageError(name_ + ": " + hex(address) + " is not allocated");
  return it->second.requested;
}

bool RangeAllocator::contains(uint64_t address, uint64_t bytes) const {
  auto it = live_.upper_bound(address);
  if (it == live_.begin()) return false;
  --it;
  const uint64_t offset = address - it->first;
  return offset <= it->second.requested && bytes <= it->second.requested - offset;
}

RangeAllocator::Stats RangeAllocator::stats() const {
  Stats result;
  result.capacity = size_;
  result.used = used_;
  result.peak = peak_;
  result.largest_free = free_by_size_.empty() ? 0 : free_by_size_.rbegin()->first;
  result.free_ranges = free_by_base_.size();
  result.live = live_.size();
  result.total = total_;
  return result;
}

std::vector<RangeAllocator::Holding> RangeAllocator::holdings() const {
  std::map<std::string_view, Holding> by_label;
  for (const auto &[address, block] : live_) {
    Holding &holding = by_label[block.label];
    ++holding.allocations;
    holding.bytes += block.requested;
  }
  std::vector<Holding> result;
  for (auto &[label, holding] : by_label) {
    holding.label = label.empty() ? "unnamed" : std::string(label);
    result.push_back(std::move(holding));
  }
  std::stable_sort(result.begin(), result.end(), [](const Holding &a, const Holding &b) { return a.bytes > b.bytes; });
  return result;
}

std::string RangeAllocator::holdings_text(size_t labels) const {
  std::string text;
  const std::vector<Holding> all = holdings();
  for (size_t i = 0; i < std::min(labels, all.size()); ++i) {
    text += (i == 0 ? "" : ", ") + all[i].label + " " + std::to_string(all[i].bytes) + " bytes in " +
            std::to_string(all[i].allocations);
  }
  if (all.size() > labels) text += ", " + std::to_string(all.size() - labels) + " more";
  return text;
}

}  // namespace cx
