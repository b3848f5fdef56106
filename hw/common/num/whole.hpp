// Division of whole numbers upwards, for all blocks and the host.
#ifndef HW_COMMON_NUM_WHOLE_HPP
#define HW_COMMON_NUM_WHOLE_HPP

#include <concepts>
#include <type_traits>

namespace cx::num {

// a / b, rounded up; a is not negative, b above 0, and a + b - 1 is a T.
template <std::integral T>
constexpr T ceil_div(T a, std::type_identity_t<T> b) {
  return (a + b - 1) / b;
}

// The least multiple of `unit` that is not below `value`, under the same conditions.
template <std::integral T>
constexpr T round_up(T value, std::type_identity_t<T> unit) {
  return ceil_div(value, unit) * unit;
}

}  // namespace cx::num

#endif
