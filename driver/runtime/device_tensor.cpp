#include "driver/runtime/device_tensor.hpp"

#include <utility>

#include "driver/include/cx/error.hpp"
#include "driver/umd/device_pool.hpp"
#include "driver/umd/stream.hpp"

namespace cx {

/// A block that remembers who used it last.
struct DeviceTensor::PoolMemory {
  std::shared_ptr<DevicePool> pool;
  PoolBuffer block;
  const Queue *queue = nullptr;
  Fence last_use = {};

  PoolMemory(std::shared_ptr<DevicePool> from, PoolBuffer taken) : pool(std::move(from)), block(std::move(taken)) {}
  PoolMemory(const PoolMemory &) = delete;
  ~PoolMemory() {
    if (queue != nullptr) block.release_after(*queue, last_use);
  }
};

namespace {

uint64_t bytes_of(const std::string &type, const std::vector<int64_t> &shape) {
  const uint64_t bytes = element_count(shape) * element_bytes(type);
  if (bytes == 0) throw InputError("a device tensor of shape " + shape_text(shape) + " has no elements");
  return bytes;
}

}  // namespace

DeviceTensor DeviceTensor::allocate(Device &device, const std::string &type, const std::vector<int64_t> &shape) {
  DeviceTensor tensor(device, type, shape);
  const auto memory = std::make_shared<DeviceBuffer>(device.allocate(bytes_of(type, shape), 64, "tensors"));
  tensor.address_ = memory->address();
  tensor.bytes_ = memory->size();
  tensor.memory_ = memory;
  return tensor;
}

DeviceTensor DeviceTensor::allocate(Device &device, const std::shared_ptr<DevicePool> &pool, const std::string &type,
                                    const std::vector<int64_t> &shape, const Queue *queue) {
  DeviceTensor tensor(device, type, shape);
  tensor.pooled_ = std::make_shared<PoolMemory>(pool, pool->allocate(bytes_of(type, shape), queue));
  tensor.address_ = tensor.pooled_->block.address();
  tensor.bytes_ = tensor.pooled_->block.size();
  tensor.memory_ = tensor.pooled_;
  return tensor;
}

void DeviceTensor::release(Stream &stream) {
  if (!pooled_) throw UsageError("a device tensor whose memory is no pool's cannot be released in a stream's order");
  auto memory = std::exchange(*this, DeviceTensor()).pooled_;
  stream.leave([memory = std::move(memory)](const Queue &queue, const Fence &last) {
    memory->queue = &queue;
    memory->last_use = last;
  });
}

DeviceTensor DeviceTensor::from_host(Device &device, const HostTensor &tensor) {
  DeviceTensor result = allocate(device, tensor.type, tensor.shape);
  result.upload(tensor.bytes);
  return result;
}

void DeviceTensor::upload(std::span<const std::byte> bytes) {
  if (!memory_) throw UsageError("upload to a device tensor without memory");
  if (bytes.size() != bytes_) {
    throw InputError("upload of " + std::to_string(bytes.size()) + " bytes to a device tensor of " +
                     std::to_string(bytes_) + " (" + type_ + " " + shape_text(shape_) + ")");
  }
  device_->upload(address_, bytes);
}

HostTensor DeviceTensor::download(const std::string &name) const {
  if (!memory_) throw UsageError("download from a device tensor without memory");
  HostTensor tensor{name, type_, shape_, std::vector<std::byte>(bytes_)};
  device_->download(tensor.bytes, address_);
  return tensor;
}

void DeviceTensor::clear() {
  if (!memory_) throw UsageError("clear of a device tensor without memory");
  const uint64_t words = bytes_ & ~uint64_t{3};
  if (words) device_->fill(address_, words, 0);
  const std::byte rest[3]{};
  if (words != bytes_) {
    device_->upload(address_ + words, std::span(rest).first(bytes_ - words));
  }
}

}  // namespace cx
