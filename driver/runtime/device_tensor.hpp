// Tensors that stay in device memory between runs.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "driver/runtime/tensor.hpp"
#include "driver/umd/device.hpp"

namespace cx {

/// Row-major, contiguous elements in device memory. Copies of the object share the memory, which is free when the last
/// of them is gone. Outlives no device. One thread at a time.
class DeviceTensor {
 public:
  DeviceTensor() = default;  ///< none

  /// Contents undefined. Throws InputError for an unknown type, a bad shape or a shape without elements,
  /// OutOfMemoryError.
  static DeviceTensor allocate(Device &device, const std::string &type, const std::vector<int64_t> &shape);
  /// Of the same type, shape and contents as the host's.
  static DeviceTensor from_host(Device &device, const HostTensor &tensor);

  explicit operator bool() const { return memory_ != nullptr; }
  const std::string &type() const { return type_; }
  const std::vector<int64_t> &shape() const { return shape_; }
  uint64_t bytes() const { return memory_ ? memory_->size() : 0; }
  uint64_t address() const { return memory_ ? memory_->address() : 0; }
  /// Whether both are the same memory.
  bool shares_memory(const DeviceTensor &other) const { return memory_ != nullptr && memory_ == other.memory_; }

  /// Copies of the whole tensor; they wait until the device is done. upload() throws InputError for another number of
  /// bytes.
  void upload(std::span<const std::byte> bytes);
  HostTensor download(const std::string &name = {}) const;
  void clear();  ///< all bytes 0

 private:
  Device *device_ = nullptr;
  std::shared_ptr<DeviceBuffer> memory_;
  std::string type_;
  std::vector<int64_t> shape_;
};

}  // namespace cx
