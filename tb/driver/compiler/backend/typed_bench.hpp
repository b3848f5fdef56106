// Graphs of every element type: making them, running them for all targets and precisions, comparing with
// typed_reference.hpp.
#pragma once

#include <array>
#include <cmath>
#include <string>

#include "tb/driver/compiler/backend/bench.hpp"

namespace cx::tb {

inline constexpr std::array<compiler::Type, 8> kIntegers{compiler::Type::I8,  compiler::Type::U8,  compiler::Type::I16,
                                                         compiler::Type::U16, compiler::Type::I32, compiler::Type::U32,
                                                         compiler::Type::I64, compiler::Type::U64};
inline constexpr std::array<compiler::Type, 4> kFloats{compiler::Type::F32, compiler::Type::F16, compiler::Type::BF16,
                                                       compiler::Type::F64};
inline constexpr std::array<compiler::Type, 13> kAllTypes{
    compiler::Type::F32, compiler::Type::F16, compiler::Type::BF16, compiler::Type::F64, compiler::Type::I8,
    compiler::Type::U8,  compiler::Type::I16, compiler::Type::U16,  compiler::Type::I32, compiler::Type::U32,
    compiler::Type::I64, compiler::Type::U64, compiler::Type::Bool};

/// Integers of all bits, Bool of 0 and 1, floats of few bits (multiples of 1/4 up to 2) that every precision holds, so
/// that comparisons and ties are the same in all of them.
compiler::Tensor random_tensor(GraphMaker &maker, const std::string &name, compiler::Type type,
                               const compiler::Shape &shape);
std::map<compiler::TensorId, compiler::Tensor> typed_inputs(GraphMaker &maker);

compiler::Shape typed_shape(GraphMaker &maker, int64_t rank, int64_t most);
compiler::TensorId typed_binary(GraphMaker &maker, const std::string &func, compiler::TensorId a, compiler::TensorId b,
                                compiler::Type type);
compiler::TensorId typed_select(GraphMaker &maker, compiler::TensorId cond, compiler::TensorId a, compiler::TensorId b);

/// Both targets, fp32, fp16 and bf16. tolerance: of floats, relative above 1; integers are equal.
void check_typed(GraphMaker &maker, const std::map<compiler::TensorId, compiler::Tensor> &inputs, double tolerance);
void check_typed(GraphMaker &maker, double tolerance);

template <typename Body>
void repeat_typed(uint32_t first_seed, int count, Body body);

}  // namespace cx::tb

#include "tb/driver/compiler/backend/typed_bench.inl"
