#include "driver/runtime/tensor.hpp"

#include <array>
#include <string_view>
#include <utility>

#include "driver/include/cx/error.hpp"

namespace cx {

uint64_t element_bytes(const std::string &type) {
  static constexpr std::array<std::pair<std::string_view, uint64_t>, 17> kTypes{{{"float32", 4},
                                                                                 {"float16", 2},
                                                                                 {"bfloat16", 2},
                                                                                 {"float64", 8},
                                                                                 {"float8_e4m3fn", 1},
                                                                                 {"float8_e5m2", 1},
                                                                                 {"int8", 1},
                                                                                 {"uint8", 1},
                                                                                 {"int16", 2},
                                                                                 {"uint16", 2},
                                                                                 {"int32", 4},
                                                                                 {"uint32", 4},
                                                                                 {"int64", 8},
                                                                                 {"uint64", 8},
                                                                                 {"bool", 1},
                                                                                 {"complex64", 8},
                                                                                 {"complex128", 16}}};
  for (const auto &[name, bytes] : kTypes) {
    if (name == type) return bytes;
  }
  throw InputError("unknown element type '" + type + "', expected a NumPy name such as float32 or int64");
}

uint64_t element_count(const std::vector<int64_t> &shape) {
  uint64_t count = 1;
  bool empty = false;
  for (const int64_t dim : shape) {
    if (dim < 0) throw InputError("shape " + shape_text(shape) + " has a negative dimension");
    if (dim == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(count, static_cast<uint64_t>(dim), &count) || count > uint64_t{1} << 62) {
      throw InputError("shape " + shape_text(shape) + " has more than 2^62 elements");
    }
  }
  return empty ? 0 : count;
}

std::string shape_text(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace cx
