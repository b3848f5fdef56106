#include "hw/rdma/memory_regions.hpp"

namespace cx::hw::net {

namespace {

constexpr std::uint32_t kUseBits = 8;

}  // namespace

std::uint32_t MemoryRegions::add(std::byte *memory, std::uint64_t address, std::uint64_t bytes, unsigned access) {
  std::size_t index = 0;
  while (index < regions_.size() && regions_[index].live) ++index;
  if (index == regions_.size()) regions_.emplace_back();
  Region &region = regions_[index];
  const std::uint32_t uses = region.uses + 1;
  region = {memory, address, bytes, access, uses, true};
  return static_cast<std::uint32_t>((index + 1) << kUseBits) | (uses & ((1u << kUseBits) - 1));
}

bool MemoryRegions::remove(std::uint32_t key) {
  std::byte *memory = nullptr;
  if (find(key, 0, 0, 0, &memory) == Verdict::bad_key) return false;
  regions_[(key >> kUseBits) - 1].live = false;
  return true;
}

MemoryRegions::Verdict MemoryRegions::find(std::uint32_t key, std::uint64_t address, std::uint64_t bytes,
                                           unsigned access, std::byte **memory) const {
  const std::size_t number = key >> kUseBits;
  if (number == 0 || number > regions_.size()) return Verdict::bad_key;
  const Region &region = regions_[number - 1];
  if (!region.live || (region.uses & ((1u << kUseBits) - 1)) != (key & ((1u << kUseBits) - 1))) return Verdict::bad_key;
  if ((region.access & access) != access) return Verdict::no_right;
  if (address < region.address || address - region.address > region.bytes ||
      bytes > region.bytes - (address - region.address)) {
    return Verdict::out_of_bounds;
  }
  *memory = region.memory == nullptr ? nullptr : region.memory + (address - region.address);
  return Verdict::ok;
}

}  // namespace cx::hw::net
