// Copies between devices.
#include <algorithm>
#include <mutex>
#include <vector>

#include "driver/umd/device.hpp"
#include "hw/regs/gen/map.h"

namespace cx {

namespace {

constexpr uint64_t kPage = 4096;

// Devices refer to each other: their tables change under one lock, which is taken before a device's own.
std::recursive_mutex &peer_tables() {
  static std::recursive_mutex mutex;
  return mutex;
}

// Simulated time of two devices: one clock in this process, one for each card of another.
class Elapsed {
 public:
  Elapsed(const Device &a, const Device &b) : a_(a), b_(b), start_a_(a.time_ps()), start_b_(b.time_ps()) {}
  uint64_t a() const { return a_.time_ps() - start_a_; }
  uint64_t b() const { return b_.time_ps() - start_b_; }

 private:
  const Device &a_, &b_;
  uint64_t start_a_, start_b_;
};

}  // namespace

uint64_t Device::peer_window(Device &peer) {
  const std::lock_guard tables(peer_tables());
  const std::lock_guard lock(lock_);
  if (const auto known = peers_.find(&peer); known != peers_.end()) return known->second.iova;
  PeerWindow window;
  const uint64_t bytes = peer.target_.dram_bytes;
  if (peer.info_.bar4_bytes >= bytes) {
    const uint64_t iova = iova_.allocate(bytes + kPage, kPage, "another device's memory");
    bool reached = false;
    try {
      reached = transport_->map_peer(iova, bytes, *peer.transport_, 0, true);
    } catch (...) {
      iova_.release(iova);
      throw;
    }
    if (reached) {
      window = {iova, bytes};
    } else {
      iova_.release(iova);
    }
  }
  peers_[&peer] = window;
  peer.reached_by_.push_back(this);
  return window.iova;
}

void Device::drop_peers() noexcept {
  const std::lock_guard tables(peer_tables());
  while (!reached_by_.empty()) reached_by_.back()->drop_peer(*this);
  while (!peers_.empty()) drop_peer(*peers_.begin()->first);
}

void Device::drop_peer(Device &peer) noexcept {
  const std::lock_guard lock(lock_);
  const auto known = peers_.find(&peer);
  if (known == peers_.end()) return;
  const PeerWindow window = known->second;
  peers_.erase(known);
  std::erase(peer.reached_by_, this);
  if (window.bytes == 0) return;
  try {
    transport_->unmap_peer(window.iova, window.bytes);
    iova_.release(window.iova);
  } catch (const std::exception &) {
    // The card is lost, or the address stays taken rather than mapped twice.
  }
}

uint64_t Device::peer_address(Device &peer, uint64_t address, uint64_t bytes) {
  const uint64_t window = peer_window(peer);
  const uint64_t offset = address - CX_MEM_DRAM_BASE;
  if (window == 0 || address < CX_MEM_DRAM_BASE || offset + bytes > peer.target_.dram_bytes) return 0;
  return window + offset;
}

bool Device::copy_direct(uint64_t dst, Device &dst_device, uint64_t src, uint64_t bytes) {
  const uint64_t to = peer_address(dst_device, dst, bytes);
  if (to == 0) return false;
  std::vector<Fence> parts;
  for (uint64_t at = 0; at < bytes; at += kLargestCopy) {
    parts.push_back(queue().copy_to_host(to + at, src + at, std::min(kLargestCopy, bytes - at), {.interrupt = true}));
  }
  for (const Fence &part : parts) part.wait();
  return true;
}

PeerCopy Device::copy_peer(Device &dst_device, uint64_t dst, Device &src_device, uint64_t src, uint64_t bytes) {
  PeerCopy result;
  const Elapsed elapsed(src_device, dst_device);
  if (&dst_device == &src_device) {
    src_device.copy(dst, src, bytes);
    return {PeerCopy::Path::device, elapsed.a()};
  }
  dst_device.check_device_range(dst, bytes, "copy_peer");
  src_device.check_device_range(src, bytes, "copy_peer");
  if (bytes == 0) return result;
  if (src_device.copy_direct(dst, dst_device, src, bytes)) {
    const std::lock_guard lock(dst_device.lock_);
    const uint64_t other = dst_device.transport_->peer_traffic(dst - CX_MEM_DRAM_BASE, bytes, true);
    return {PeerCopy::Path::direct, std::max(elapsed.a(), other)};
  }
  std::vector<std::byte> part(std::min(bytes, src_device.options_.staging_bytes));
  uint64_t sum = 0;
  for (uint64_t at = 0; at < bytes; at += part.size()) {
    const std::span<std::byte> piece(part.data(), std::min<uint64_t>(part.size(), bytes - at));
    const Elapsed down(src_device, dst_device);
    src_device.download(piece, src + at);
    sum += down.a();
    const Elapsed up(src_device, dst_device);
    dst_device.upload(dst + at, piece);
    sum += up.b();
  }
  return {PeerCopy::Path::staged, sum};
}

}  // namespace cx
