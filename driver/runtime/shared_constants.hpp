// Constants (weights) that several programs of one model share: on the device once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "driver/umd/device.hpp"

namespace cx {

/// Host side: byte strings by content. The compiler adds to it; offsets stay valid while it grows.
class SharedConstants {
 public:
  static constexpr uint64_t kAlign = 64;

  /// Offset of the bytes, a multiple of kAlign. Equal contents have one place.
  uint64_t place(std::span<const std::byte> bytes);
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Forgets what was placed since bytes().size() was `size`: of a program that did not come about.
  void cut(uint64_t size);
  /// Bytes of place() calls that found their content from an earlier call.
  uint64_t reused_bytes() const { return reused_; }

 private:
  struct Entry {
    uint64_t offset, size;
  };
  std::vector<std::byte> bytes_;
  std::multimap<uint64_t, Entry> places_;  // by hash of the content
  uint64_t reused_ = 0;
};

/// Device side: a copy of a SharedConstants in one buffer. Outlives no device. One thread at a time.
class ResidentConstants {
 public:
  ResidentConstants(Device &device, std::shared_ptr<const SharedConstants> constants)
      : device_(device), constants_(std::move(constants)) {}

  /// Uploads what was added since the last call. The buffer may move: address() is then another. Throws
  /// OutOfMemoryError and leaves the copy as it was.
  void update();
  uint64_t address() const { return memory_.address(); }
  uint64_t size() const { return size_; }                ///< bytes that are there
  uint64_t uploaded_bytes() const { return uploaded_; }  ///< over PCIe since the object exists
  const SharedConstants &constants() const { return *constants_; }

 private:
  Device &device_;
  std::shared_ptr<const SharedConstants> constants_;
  DeviceBuffer memory_;
  uint64_t size_ = 0, uploaded_ = 0;
};

}  // namespace cx
