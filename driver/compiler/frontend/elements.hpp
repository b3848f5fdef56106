// Elements of constants as host numbers, whatever the tensor's type.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

bool is_float(Type type);    ///< F32, F16, BF16, F64
bool is_integer(Type type);  ///< signed and unsigned integers, not Bool

/// Elements widened exactly; 64-bit integers are rounded to the nearest double.
std::vector<double> to_doubles(const Tensor &constant);

/// Elements as FP32, rounded to nearest even where they do not fit.
std::vector<float> to_floats(const Tensor &constant);

/// Elements of an integer or Bool tensor; U64 wraps. Floats are truncated; NaN and values out of range throw
/// InputError.
std::vector<int64_t> to_integers(const Tensor &constant);

/// A constant of the given type. Floats round to nearest even; floats become integers toward zero, saturated, NaN as 0;
/// integers wrap; Bool = value is not 0.
Tensor make_constant(std::string name, Type type, Shape shape, const std::vector<double> &values);
Tensor make_constant(std::string name, Type type, Shape shape, const std::vector<int64_t> &values);

}  // namespace cx::compiler
