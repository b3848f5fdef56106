// Bytes that grow without being copied where the host can move pages instead.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace cx {

/// As a vector of bytes, but for two things: new bytes have no value, and growth takes realloc(), which moves large
/// blocks by their page tables. A vector would touch as many new pages again.
class GrowingBytes {
 public:
  std::size_t size() const { return size_; }
  std::byte *data() { return data_.get(); }
  std::span<const std::byte> all() const { return {data_.get(), size_}; }

  /// Throws std::bad_alloc and changes nothing.
  void resize(std::size_t size) {
    if (size > capacity_) grow(std::max(size, capacity_ + capacity_ / 2));
    size_ = size;
  }

 private:
  struct Free {
    void operator()(std::byte *bytes) const { std::free(bytes); }
  };

  void grow(std::size_t capacity) {
    void *const larger = std::realloc(data_.get(), capacity);
    if (larger == nullptr) throw std::bad_alloc();
    static_cast<void>(data_.release());
    data_.reset(static_cast<std::byte *>(larger));
    capacity_ = capacity;
  }

  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace cx
