// Memory of the model that other processes may map.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cx::hw {

/// Zeroed bytes at an address that stays, backed by a file without a name.
class SharedMemory {
 public:
  /// Throws std::runtime_error when the host has none.
  explicit SharedMemory(size_t bytes);
  SharedMemory(const SharedMemory &) = delete;
  SharedMemory &operator=(const SharedMemory &) = delete;
  ~SharedMemory();

  uint8_t *data() const { return data_; }
  size_t size() const { return bytes_; }
  int file() const { return file_; }  ///< of whole pages

  /// Zeros in a file of its own: who has mapped the one before keeps that and reaches this memory no more.
  void renew();

 private:
  size_t pages_bytes() const;

  size_t bytes_;
  uint8_t *data_ = nullptr;
  int file_ = -1;
};

}  // namespace cx::hw
