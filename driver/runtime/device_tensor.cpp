#include "driver/runtime/device_tensor.hpp"

#include "driver/include/cx/error.hpp"

namespace cx {

DeviceTensor DeviceTensor::allocate(Device &device, const std::string &type, const std::vector<int64_t> &shape) {
  const uint64_t bytes = element_count(shape) * element_bytes(type);
  if (bytes == 0) throw InputError("a device tensor of shape " + shape_text(shape) + " has no elements");
  DeviceTensor tensor;
  tensor.device_ = &device;
  tensor.type_ = type;
  tensor.shape_ = shape;
  tensor.memory_ = std::make_shared<DeviceBuffer>(device.allocate(bytes));
  return tensor;
}

DeviceTensor DeviceTensor::from_host(Device &device, const HostTensor &tensor) {
  DeviceTensor result = allocate(device, tensor.type, tensor.shape);
  result.upload(tensor.bytes);
  return result;
}

void DeviceTensor::upload(std::span<const std::byte> bytes) {
  if (!memory_) throw UsageError("upload to a device tensor without memory");
  if (bytes.size() != memory_->size()) {
    throw InputError("upload of " + std::to_string(bytes.size()) + " bytes to a device tensor of " +
                     std::to_string(memory_->size()) + " (" + type_ + " " + shape_text(shape_) + ")");
  }
  device_->upload(memory_->address(), bytes);
}

HostTensor DeviceTensor::download(const std::string &name) const {
  if (!memory_) throw UsageError("download from a device tensor without memory");
  HostTensor tensor{name, type_, shape_, std::vector<std::byte>(memory_->size())};
  device_->download(tensor.bytes, memory_->address());
  return tensor;
}

void DeviceTensor::clear() {
  if (!memory_) throw UsageError("clear of a device tensor without memory");
  const uint64_t words = memory_->size() & ~uint64_t{3};
  if (words) device_->fill(memory_->address(), words, 0);
  const std::byte rest[3]{};
  if (words != memory_->size()) {
    device_->upload(memory_->address() + words, std::span(rest).first(memory_->size() - words));
  }
}

}  // namespace cx
