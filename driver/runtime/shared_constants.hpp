// Constants (weights) that several programs of one model share: on the device once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "driver/runtime/content_index.hpp"
#include "driver/runtime/growing_bytes.hpp"
#include "driver/umd/device.hpp"

namespace cx {

/// Host side: byte strings by content. The compiler adds to it; offsets stay valid while it grows.
class SharedConstants {
 public:
  static constexpr uint64_t kAlign = 64;

  /// Writes bytes of which it is given the place; adds none itself.
  using FillBytes = std::function<void(std::span<std::byte>)>;
  struct Placed {
    uint64_t offset;  ///< a multiple of kAlign
    bool is_new;      ///< the content was not there yet
  };

  /// The place of `size` bytes that fill() writes. Equal contents have one place.
  Placed place(uint64_t size, const FillBytes &fill);
  /// Offset of the bytes; content that is there counts as used again.
  uint64_t place(std::span<const std::byte> bytes);
  void count_reuse(uint64_t bytes) { reused_ += bytes; }
  std::span<const std::byte> bytes() const { return bytes_.all(); }
  /// Forgets what was placed since bytes().size() was `size`: of a program that did not come about.
  void cut(uint64_t size);
  /// Bytes that were used again.
  uint64_t reused_bytes() const { return reused_; }

 private:
  GrowingBytes bytes_;
  ContentIndex places_;
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
