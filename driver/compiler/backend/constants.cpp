#include "driver/compiler/backend/constants.hpp"

#include <cstring>
#include <functional>
#include <string_view>

#include "driver/include/cx/error.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::compiler::backend {

namespace {

template <typename T, typename Convert>
std::vector<float> convert(const std::vector<std::byte> &data, Convert to_float) {
  std::vector<float> result(data.size() / sizeof(T));
  for (std::size_t i = 0; i < result.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    result[i] = to_float(value);
  }
  return result;
}

template <typename T>
std::vector<float> convert(const std::vector<std::byte> &data) {
  return convert<T>(data, [](T value) { return static_cast<float>(value); });
}

}  // namespace

std::vector<float> constant_as_floats(const Tensor &tensor) {
  const std::vector<std::byte> &data = tensor.data.value();
  switch (tensor.type) {
    case Type::F32:
      return convert<float>(data);
    case Type::F64:
      return convert<double>(data);
    case Type::F16:
      return convert<uint16_t>(data, num::decode_fp16);
    case Type::BF16:
      return convert<uint16_t>(data, num::decode_bf16);
    case Type::I8:
      return convert<int8_t>(data);
    case Type::U8:
    case Type::Bool:
      return convert<uint8_t>(data);
    case Type::I16:
      return convert<int16_t>(data);
    case Type::U16:
      return convert<uint16_t>(data);
    case Type::I32:
      return convert<int32_t>(data);
    case Type::U32:
      return convert<uint32_t>(data);
    case Type::I64:
      return convert<int64_t>(data);
    case Type::U64:
      return convert<uint64_t>(data);
  }
  throw Error("constant " + tensor.name + " has an unknown type");
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
