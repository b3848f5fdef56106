#include "driver/compiler/backend/constants.hpp"

#include <cstring>

#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::compiler::backend {

namespace {

template <typename T>
T read(const std::byte *element) {
  T value;
  std::memcpy(&value, element, sizeof value);
  return value;
}

}  // namespace

float element_as_float(Type type, const std::byte *element) {
  switch (type) {
    case Type::F32:
      return read<float>(element);
    case Type::F64:
      return static_cast<float>(read<double>(element));
    case Type::F16:
      return num::decode_fp16(read<uint16_t>(element));
    case Type::BF16:
      return num::decode_bf16(read<uint16_t>(element));
    case Type::I8:
      return read<int8_t>(element);
    case Type::U8:
    case Type::Bool:
      return read<uint8_t>(element);
    case Type::I16:
      return read<int16_t>(element);
    case Type::U16:
      return read<uint16_t>(element);
    case Type::I32:
      return static_cast<float>(read<int32_t>(element));
    case Type::U32:
      return static_cast<float>(read<uint32_t>(element));
    case Type::I64:
      return static_cast<float>(read<int64_t>(element));
    case Type::U64:
      return static_cast<float>(read<uint64_t>(element));
  }
  throw Error("a constant has an unknown type");
}

std::vector<float> constant_as_floats(const Tensor &tensor) {
  const std::vector<std::byte> &data = tensor.data.value();
  const std::size_t size = bytes_of(tensor.type);
  std::vector<float> result(data.size() / size);
  if (tensor.type == Type::F32) {
    if (!data.empty()) std::memcpy(result.data(), data.data(), data.size());
    return result;
  }
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = element_as_float(tensor.type, data.data() + i * size);
  return result;
}

std::vector<std::byte> encode_floats(const std::vector<float> &values, Dtype dtype) {
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(element_bytes(dtype)));
  encode_floats(values, dtype, bytes.data());
  return bytes;
}

void encode_floats(std::span<const float> values, Dtype dtype, std::byte *to) {
  if (dtype != Dtype::FP32) {
    num::narrow(static_cast<num::DType>(dtype), values.data(), to, values.size());
  } else if (!values.empty()) {
    std::memcpy(to, values.data(), values.size_bytes());
  }
}

int64_t ConstantPool::place(std::size_t size, const FillBytes &fill) {
  if (trials_ == 0) return shared_ != nullptr ? place_among_shared(size, fill) : place_in_image(size, fill);
  constexpr uint64_t kAlign = 64;
  const uint64_t offset = bytes_ + pretended_;
  pretended_ += (size + kAlign - 1) / kAlign * kAlign;
  return static_cast<int64_t>(offset);
}

int64_t ConstantPool::place_in_image(std::size_t size, const FillBytes &fill) {
  const uint64_t end = image_.constants().size();
  const uint64_t offset = image_.add_room(size);
  fill(image_.constants().subspan(offset, size));
  if (const auto known = in_image_.find_or_add(image_.constants(), offset, size)) {
    image_.cut_constants(end);
    return static_cast<int64_t>(*known);
  }
  bytes_ += size;
  return static_cast<int64_t>(offset);
}

int64_t ConstantPool::place_among_shared(std::size_t size, const FillBytes &fill) {
  const SharedConstants::Placed placed = shared_->place(size, fill);
  if (shared_places_.emplace(placed.offset, size).second) {
    bytes_ += size;
    if (!placed.is_new) shared_->count_reuse(size);
  }
  return static_cast<int64_t>(placed.offset);
}

}  // namespace cx::compiler::backend
