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

class DevicePool;
class Queue;
class Stream;

/// Row-major, contiguous elements in device memory. Copies of the object share the memory, which is free when the last
/// of them is gone. Outlives no device. One thread at a time.
class DeviceTensor {
 public:
  DeviceTensor() = default;  ///< none

  /// Contents undefined. Throws InputError for an unknown type, a bad shape or a shape without elements,
  /// OutOfMemoryError.
  static DeviceTensor allocate(Device &device, const std::string &type, const std::vector<int64_t> &shape);
  /// The same of a pool, which goes back there. queue: as of DevicePool::allocate().
  static DeviceTensor allocate(Device &device, const std::shared_ptr<DevicePool> &pool, const std::string &type,
                               const std::vector<int64_t> &shape, const Queue *queue = nullptr);
  /// Of the same type, shape and contents as the host's.
  static DeviceTensor from_host(Device &device, const HostTensor &tensor);

  explicit operator bool() const { return memory_ != nullptr; }
  const std::string &type() const { return type_; }
  const std::vector<int64_t> &shape() const { return shape_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t address() const { return address_; }
  /// Whether both are the same memory.
  bool shares_memory(const DeviceTensor &other) const { return memory_ != nullptr && memory_ == other.memory_; }

  /// Copies of the whole tensor; they wait until the device is done. upload() throws InputError for another number of
  /// bytes.
  void upload(std::span<const std::byte> bytes);
  HostTensor download(const std::string &name = {}) const;
  void clear();  ///< all bytes 0

  /// Lets go of the memory, which must be a pool's (else UsageError), in the stream's order: when no other object
  /// shares it, later work of the stream may have it at once, all others when the stream's work up to here has ended.
  void release(Stream &stream);

 private:
  struct PoolMemory;
  DeviceTensor(Device &device, const std::string &type, const std::vector<int64_t> &shape)
      : device_(&device), type_(type), shape_(shape) {}
  Device *device_ = nullptr;
  std::shared_ptr<const void> memory_;
  std::shared_ptr<PoolMemory> pooled_;  // the same, if it is a pool's
  uint64_t address_ = 0, bytes_ = 0;
  std::string type_;
  std::vector<int64_t> shape_;
};

}  // namespace cx
