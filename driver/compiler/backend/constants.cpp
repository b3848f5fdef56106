#include "driver/compiler/backend/constants.hpp"

#include <cstring>
#include <functional>
#include <string_view>

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
  if (dtype == Dtype::FP32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  num::narrow(static_cast<num::DType>(dtype), values.data(), bytes.data(), values.size());
  return bytes;
}

int64_t ConstantPool::place(std::size_t size, const std::function<std::vector<std::byte>()> &make) {
  if (trials_ == 0) return place(make());
  constexpr uint64_t kAlign = 64;
  const uint64_t offset = bytes_ + pretended_;
  pretended_ += (size + kAlign - 1) / kAlign * kAlign;
  return static_cast<int64_t>(offset);
}

int64_t ConstantPool::place(const std::vector<std::byte> &bytes) {
  const uint64_t key =
      std::hash<std::string_view>{}(std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
  const auto [first, last] = places_.equal_range(key);
  const std::byte *all = shared_ != nullptr ? shared_->bytes().data() : image_.constants();
  for (auto it = first; it != last; ++it) {
    const Place &place = it->second;
    if (place.bytes == bytes.size() &&
        (bytes.empty() || std::memcmp(all + place.offset, bytes.data(), bytes.size()) == 0)) {
      return place.offset;
    }
  }
  const auto offset = static_cast<int64_t>(shared_ ? shared_->place(bytes) : image_.add_constants(bytes));
  places_.emplace(key, Place{offset, bytes.size()});
  bytes_ += bytes.size();
  return offset;
}

}  // namespace cx::compiler::backend
