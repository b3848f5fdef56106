// The function behind the server in tests.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "hw/vfio_user/function.hpp"

namespace cx::tb {

using hw::vfio::Function;
using hw::vfio::HostLink;

/// Memory instead of registers; remembers what the server did to it.
class FakeFunction final : public Function {
 public:
  struct Mapping {
    std::uint64_t bytes;
    std::byte *memory;
    HostLink *link;
    bool readable, writeable;
  };
  static constexpr std::uint32_t kVectors = 8;
  static constexpr std::uint64_t kPeerOffset = 4096;  // where another card's traffic is taken
  static constexpr std::uint64_t kRefused = 0x100;    ///< offset in BAR0 at which accesses are refused

  std::map<std::uint32_t, std::vector<std::byte>> regions{
      {0, std::vector<std::byte>(0x4000)}, {2, std::vector<std::byte>(4 << 20)}, {7, std::vector<std::byte>(4096)}};
  std::map<std::uint64_t, Mapping> mappings;
  std::map<std::uint32_t, bool> armed;
  std::deque<std::uint32_t> raised;
  unsigned resets = 0, power_cycles = 0, advances = 0;
  std::uint64_t now = 0;
  std::function<void(FakeFunction &, std::uint64_t)> on_doorbell;  ///< a write to BAR0 offset 0

  std::optional<RegionMemory> mappable;  ///< of BAR2

  std::optional<RegionMemory> region_memory(std::uint32_t index) const override {
    return index == 2 ? mappable : std::nullopt;
  }
  std::uint64_t region_bytes(std::uint32_t index) const override {
    const auto found = regions.find(index);
    return found == regions.end() ? 0 : found->second.size();
  }
  bool read(std::uint32_t region, std::uint64_t offset, std::byte *to, std::size_t bytes) override {
    if (region == 0 && offset == kRefused) return false;
    std::memcpy(to, regions.at(region).data() + offset, bytes);
    return true;
  }
  bool write(std::uint32_t region, std::uint64_t offset, const std::byte *from, std::size_t bytes) override {
    if (region == 0 && offset == kRefused) return false;
    std::memcpy(regions.at(region).data() + offset, from, bytes);
    if (region == 0 && offset == 0 && on_doorbell) {
      std::uint64_t value = 0;
      std::memcpy(&value, from, std::min(bytes, sizeof value));
      on_doorbell(*this, value);
    }
    return true;
  }
  Mapped map(std::uint64_t address, std::uint64_t bytes, std::byte *memory, bool r, bool w) override {
    return add(address, {bytes, memory, nullptr, r, w});
  }
  Mapped map(std::uint64_t address, std::uint64_t bytes, HostLink &link, bool r, bool w) override {
    return add(address, {bytes, nullptr, &link, r, w});
  }
  void unmap(std::uint64_t address, std::uint64_t) override { mappings.erase(address); }
  std::uint32_t vectors() const override { return kVectors; }
  void arm(std::uint32_t vector, bool on) override { armed[vector] = on; }
  std::optional<std::uint32_t> take_interrupt() override {
    if (raised.empty()) return std::nullopt;
    const std::uint32_t vector = raised.front();
    raised.pop_front();
    return vector;
  }
  void reset() override { ++resets; }
  void power_cycle() override {
    ++power_cycles;
    mappings.clear();
  }
  Wake advance(std::uint64_t limit_ps) override {
    ++advances;
    if (!raised.empty()) return Wake::interrupt;
    now += limit_ps;
    return Wake::idle;
  }
  std::uint64_t time_ps() const override { return now; }
  std::optional<std::uint64_t> peer_traffic(std::uint64_t offset, std::uint64_t bytes, bool write) override {
    if (offset != kPeerOffset) return std::nullopt;
    return bytes * (write ? 2 : 3);
  }

 private:
  Mapped add(std::uint64_t address, const Mapping &mapping) {
    for (const auto &[at, other] : mappings) {
      if (address < at + other.bytes && at < address + mapping.bytes) return Mapped::overlap;
    }
    mappings.emplace(address, mapping);
    return Mapped::ok;
  }
};

}  // namespace cx::tb
