#include "driver/runtime/shared_constants.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

namespace cx {

uint64_t SharedConstants::place(std::span<const std::byte> bytes) {
  const uint64_t hash =
      std::hash<std::string_view>{}(std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
  const auto [first, last] = places_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const Entry &entry = it->second;
    if (entry.size != bytes.size()) continue;
    if (bytes.empty() || std::memcmp(bytes_.data() + entry.offset, bytes.data(), bytes.size()) == 0) {
      reused_ += bytes.size();
      return entry.offset;
    }
  }
  const uint64_t offset = (bytes_.size() + kAlign - 1) / kAlign * kAlign;
  bytes_.resize(offset);
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  places_.emplace(hash, Entry{offset, bytes.size()});
  return offset;
}

void SharedConstants::cut(uint64_t size) {
  if (size >= bytes_.size()) return;
  bytes_.resize(size);
  for (auto it = places_.begin(); it != places_.end();) {
    it = it->second.offset + it->second.size > size ? places_.erase(it) : std::next(it);
  }
}

void ResidentConstants::update() {
  const std::span<const std::byte> all = constants_->bytes();
  if (all.size() == size_) return;
  if (all.size() > memory_.size()) {
    // The first program brings most of them; room for a quarter more spares later ones the move.
    const uint64_t room = size_ == 0 ? all.size() : all.size() + all.size() / 4;
    DeviceBuffer larger = device_.allocate(room, 4096);
    if (size_ != 0) device_.copy(larger.address(), memory_.address(), size_);
    memory_ = std::move(larger);
  }
  device_.upload(memory_.address() + size_, all.subspan(size_));
  uploaded_ += all.size() - size_;
  size_ = all.size();
}

}  // namespace cx
