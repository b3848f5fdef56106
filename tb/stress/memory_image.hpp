// What a range of device memory must hold.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace cx::stress {

/// Bytes of a range, as far as they are known: a transfer that failed may have written a part of its destination.
class MemoryImage {
 public:
  explicit MemoryImage(size_t bytes) : bytes_(bytes), known_(bytes, 0) {}
  size_t size() const { return bytes_.size(); }

  void write(size_t at, std::span<const std::byte> data) {
    std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<ptrdiff_t>(at));
    std::fill_n(known_.begin() + static_cast<ptrdiff_t>(at), data.size(), 1);
  }
  void fill(size_t at, size_t bytes, uint32_t pattern) {
    for (size_t i = 0; i < bytes; ++i) bytes_[at + i] = static_cast<std::byte>(pattern >> (8 * (i % 4)));
    std::fill_n(known_.begin() + static_cast<ptrdiff_t>(at), bytes, 1);
  }
  /// The ranges do not overlap.
  void copy(size_t to, size_t from, size_t bytes) {
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(from), bytes, bytes_.begin() + static_cast<ptrdiff_t>(to));
    std::copy_n(known_.begin() + static_cast<ptrdiff_t>(from), bytes, known_.begin() + static_cast<ptrdiff_t>(to));
  }
  void copy_from(const MemoryImage &other, size_t from, size_t to, size_t bytes) {
    std::copy_n(other.bytes_.begin() + static_cast<ptrdiff_t>(from), bytes,
                bytes_.begin() + static_cast<ptrdiff_t>(to));
    std::copy_n(other.known_.begin() + static_cast<ptrdiff_t>(from), bytes,
                known_.begin() + static_cast<ptrdiff_t>(to));
  }
  void forget(size_t at, size_t bytes) { std::fill_n(known_.begin() + static_cast<ptrdiff_t>(at), bytes, 0); }

  /// The first byte that is known and not what `data` says is at `at`.
  std::optional<size_t> first_difference(size_t at, std::span<const std::byte> data) const {
    for (size_t i = 0; i < data.size(); ++i) {
      if (known_[at + i] != 0 && bytes_[at + i] != data[i]) return at + i;
    }
    return std::nullopt;
  }
  size_t known_bytes(size_t at, size_t bytes) const {
    return static_cast<size_t>(std::count(known_.begin() + static_cast<ptrdiff_t>(at),
                                          known_.begin() + static_cast<ptrdiff_t>(at + bytes), 1));
  }

 private:
  std::vector<std::byte> bytes_;
  std::vector<uint8_t> known_;
};

}  // namespace cx::stress
