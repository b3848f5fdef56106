#include "driver/compiler/frontend/elements.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

// IEEE-like formats of 16 bits: 1 sign, then exponent, then fraction.
struct Format16 {
  int fraction_bits;
  int bias;
};
constexpr Format16 kHalf{10, 15};
constexpr Format16 kBfloat{7, 127};

double widen(uint16_t bits, const Format16 &format) {
  const int exponent_max = (1 << (15 - format.fraction_bits)) - 1;
  const int exponent = (bits >> format.fraction_bits) & exponent_max;
  const int fraction = bits & ((1 << format.fraction_bits) - 1);
  double magnitude = 0;
  if (exponent == exponent_max) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, 1 - format.bias - format.fraction_bits);
  } else {
    magnitude = std::ldexp(fraction + (1 << format.fraction_bits), exponent - format.bias - format.fraction_bits);
  }
  return std::copysign(magnitude, (bits & 0x8000) != 0 ? -1.0 : 1.0);
}

uint16_t narrow(double value, const Format16 &format) {
  const auto infinity = static_cast<uint16_t>(0x7FFF & ~((1 << format.fraction_bits) - 1));
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return static_cast<uint16_t>(infinity | (1 << (format.fraction_bits - 1)));
  if (std::isinf(value)) return static_cast<uint16_t>(sign | infinity);
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  int exponent = std::max(std::ilogb(magnitude), 1 - format.bias);
  // Scaling by powers of two is exact, so this rounds once. The carry into the exponent happens by addition.
  const auto significand = static_cast<int64_t>(std::nearbyint(std::ldexp(magnitude, format.fraction_bits - exponent)));
  const int64_t bits = (static_cast<int64_t>(exponent + format.bias - 1) << format.fraction_bits) + significand;
  return static_cast<uint16_t>(sign | std::min<int64_t>(bits, infinity));
}

template <typename To, typename From>
void widen_all(const Tensor &tensor, std::vector<To> &result) {
  for (From value : tensor.values<From>()) result.push_back(static_cast<To>(value));
}

template <typename To>
bool widen_integers(const Tensor &tensor, std::vector<To> &result) {
  switch (tensor.type) {
    case Type::I8:
      widen_all<To, int8_t>(tensor, result);
      return true;
    case Type::U8:
    case Type::Bool:
      widen_all<To, uint8_t>(tensor, result);
      return true;
    case Type::I16:
      widen_all<To, int16_t>(tensor, result);
      return true;
    case Type::U16:
      widen_all<To, uint16_t>(tensor, result);
      return true;
    case Type::I32:
      widen_all<To, int32_t>(tensor, result);
      return true;
    case Type::U32:
      widen_all<To, uint32_t>(tensor, result);
      return true;
    case Type::I64:
      widen_all<To, int64_t>(tensor, result);
      return true;
    case Type::U64:
      widen_all<To, uint64_t>(tensor, result);
      return true;
    default:
      return false;
  }
}

std::vector<uint16_t> halves(const Tensor &tensor) {
  std::vector<uint16_t> bits(tensor.data->size() / 2);
  if (!bits.empty()) std::memcpy(bits.data(), tensor.data->data(), bits.size() * 2);
  return bits;
}

// Toward zero; out of range converts to the nearest end, NaN to 0.
template <typename To>
To saturate(double value) {
  if (std::isnan(value)) return 0;
  // Both ends are powers of two (or 0), which doubles hold.
  const double limit = std::ldexp(1.0, std::numeric_limits<To>::digits);
  if (value >= limit) return std::numeric_limits<To>::max();
  if (value <= (std::is_signed_v<To> ? -limit : 0.0)) return std::numeric_limits<To>::min();
  return static_cast<To>(value);
}

template <typename To, typename From>
To convert_element(From value) {
  if constexpr (std::is_integral_v<To> && std::is_floating_point_v<From>) {
    return saturate<To>(value);
  } else {
    return static_cast<To>(value);
  }
}

template <typename To, typename From>
void store_all(Tensor &tensor, const std::vector<From> &values) {
  std::byte *const to = tensor.data.own().data();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const To element = convert_element<To>(values[i]);
    std::memcpy(to + i * sizeof(To), &element, sizeof(To));
  }
}

template <typename From>
Tensor make(std::string name, Type type, Shape shape, const std::vector<From> &values) {
  if (elements(shape) != static_cast<int64_t>(values.size())) {
    throw Error("constant '" + name + "': " + std::to_string(values.size()) + " values for shape " + to_text(shape));
  }
  Tensor tensor{std::move(name), type, std::move(shape), std::vector<std::byte>(values.size() * bytes_of(type))};
  switch (type) {
    case Type::F32:
      store_all<float>(tensor, values);
      break;
    case Type::F64:
      store_all<double>(tensor, values);
      break;
    case Type::I8:
      store_all<int8_t>(tensor, values);
      break;
    case Type::U8:
      store_all<uint8_t>(tensor, values);
      break;
    case Type::I16:
      store_all<int16_t>(tensor, values);
      break;
    case Type::U16:
      store_all<uint16_t>(tensor, values);
      break;
    case Type::I32:
      store_all<int32_t>(tensor, values);
      break;
    case Type::U32:
      store_all<uint32_t>(tensor, values);
      break;
    case Type::I64:
      store_all<int64_t>(tensor, values);
      break;
    case Type::U64:
      store_all<uint64_t>(tensor, values);
      break;
    case Type::Bool:
    case Type::F16:
    case Type::BF16: {
      std::byte *const to = tensor.data.own().data();
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (type == Type::Bool) {
          to[i] = std::byte{static_cast<unsigned char>(values[i] != From{0} ? 1 : 0)};
        } else {
          const uint16_t bits = narrow(static_cast<double>(values[i]), type == Type::F16 ? kHalf : kBfloat);
          std::memcpy(to + 2 * i, &bits, 2);
        }
      }
      break;
    }
  }
  return tensor;
}

}  // namespace

bool is_float(Type type) { return type == Type::F32 || type == Type::F16 || type == Type::BF16 || type == Type::F64; }

bool is_integer(Type type) { return !is_float(type) && type != Type::Bool; }

std::vector<double> to_doubles(const Tensor &constant) {
  if (!constant.data) throw Error("tensor '" + constant.name + "' is not a constant");
  std::vector<double> result;
  result.reserve(constant.data->size() / bytes_of(constant.type));
  if (widen_integers(constant, result)) return result;
  if (constant.type == Type::F64) return constant.values<double>();
  if (constant.type == Type::F32) {
    widen_all<double, float>(constant, result);
  } else {
    for (uint16_t bits : halves(constant)) result.push_back(widen(bits, constant.type == Type::F16 ? kHalf : kBfloat));
  }
  return result;
}

std::vector<float> to_floats(const Tensor &constant) {
  if (constant.type == Type::F32) return constant.values<float>();
  std::vector<float> result;
  if (constant.data && widen_integers(constant, result)) return result;
  for (double value : to_doubles(constant)) result.push_back(static_cast<float>(value));
  return result;
}

std::vector<int64_t> to_integers(const Tensor &constant) {
  if (!constant.data) throw Error("tensor '" + constant.name + "' is not a constant");
  std::vector<int64_t> result;
  result.reserve(constant.data->size() / bytes_of(constant.type));
  if (widen_integers(constant, result)) return result;
  for (double value : to_doubles(constant)) {
    if (!(value > -9.2e18 && value < 9.2e18)) {
      throw InputError("tensor '" + constant.name + "' holds " + std::to_string(value) + ", which is no integer");
    }
    result.push_back(static_cast<int64_t>(value));
  }
  return result;
}

Tensor make_constant(std::string name, Type type, Shape shape, const std::vector<double> &values) {
  return make(std::move(name), type, std::move(shape), values);
}

Tensor make_constant(std::string name, Type type, Shape shape, const std::vector<int64_t> &values) {
  return make(std::move(name), type, std::move(shape), values);
}

}  // namespace cx::compiler
