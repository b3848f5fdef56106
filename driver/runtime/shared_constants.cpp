#include "driver/runtime/shared_constants.hpp"

#include <algorithm>

namespace cx {

SharedConstants::Placed SharedConstants::place(uint64_t size, const FillBytes &fill) {
  const uint64_t end = bytes_.size();
  const uint64_t offset = (end + kAlign - 1) / kAlign * kAlign;
  bytes_.resize(offset + size);
  std::fill(bytes_.data() + end, bytes_.data() + offset, std::byte{0});
  try {
    fill({bytes_.data() + offset, size});
    const auto known = places_.find_or_add(bytes_.all(), offset, size);
    if (!known) return {offset, true};
    bytes_.resize(end);
    return {*known, false};
  } catch (...) {
    bytes_.resize(end);
    throw;
  }
}

uint64_t SharedConstants::place(std::span<const std::byte> bytes) {
  const Placed placed = place(bytes.size(), [&](std::span<std::byte> to) { std::ranges::copy(bytes, to.begin()); });
  if (!placed.is_new) count_reuse(bytes.size());
  return placed.offset;
}

void SharedConstants::cut(uint64_t size) {
  if (size >= bytes_.size()) return;
  bytes_.resize(size);
  places_.cut(size);
}

void ResidentConstants::update() {
  const std::span<const std::byte> all = constants_->bytes();
  if (all.size() == size_) return;
  if (all.size() > memory_.size()) {
    // The first program brings most of them, others a few per cent, for which there is room where memory is plenty.
    const uint64_t more = all.size() / (size_ == 0 ? 8 : 4);
    const uint64_t free = device_.memory_stats().largest_free;
    const uint64_t room = all.size() + (size_ != 0 || all.size() + more <= free / 2 ? more : 0);
    DeviceBuffer larger = device_.allocate(room, 4096);
    if (size_ != 0) device_.copy(larger.address(), memory_.address(), size_);
    memory_ = std::move(larger);
  }
  device_.upload(memory_.address() + size_, all.subspan(size_));
  uploaded_ += all.size() - size_;
  size_ = all.size();
}

}  // namespace cx
