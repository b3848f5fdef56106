// The vector unit's instructions written element by element from hw/isa/isa.yaml, as the judge of hw/vpu/vpu_ops.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <vector>

#include "hw/common/num/formats.hpp"
#include "hw/common/vmath/vmath.hpp"
#include "hw/vpu/vpu_ops.hpp"

namespace cx::hw::vpu::naive {

using Memory = std::vector<std::byte>;

inline float canonical(float x) { return std::isnan(x) ? std::bit_cast<float>(0x7FC00000u) : x; }

inline int64_t address(const View &v, int64_t i0, int64_t i1, int64_t i2, int64_t i3) {
  return v.base + i0 * v.strides[0] + i1 * v.strides[1] + i2 * v.strides[2] + i3 * v.strides[3];
}
inline float get(const Memory &m, const View &v, int64_t at) { return num::decode(v.dtype, m.data() + at); }
inline void put(Memory &m, const View &v, int64_t at, float x) { num::encode(v.dtype, canonical(x), m.data() + at); }

inline float maximum(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return canonical(NAN);
  if (a == 0 && b == 0) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
inline float minimum(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return canonical(NAN);
  if (a == 0 && b == 0) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

inline float unary(isa::Unary f, float x, float imm0, float imm1) {
  using isa::Unary;
  using F = vmath::Unary;
  switch (f) {
    case Unary::COPY:
      return x;
    case Unary::NEG:
      return -x;
    case Unary::ABS:
      return std::fabs(x);
    case Unary::RELU:
      return maximum(x, 0.0f);
    case Unary::LEAKY_RELU:
      return x < 0 ? imm0 * x : x;
    case Unary::CLAMP:
      return minimum(maximum(x, imm0), imm1);
    case Unary::AFFINE: {
      const float product = x * imm0;
      return product + imm1;
    }
    case Unary::EXP:
      return vmath::apply(F::EXP, x);
    case Unary::LOG:
      return vmath::apply(F::LOG, x);
    case Unary::SQRT:
      return std::sqrt(x);
    case Unary::RECIP:
      return 1.0f / x;
    case Unary::SIGMOID:
      return vmath::apply(F::SIGMOID, x);
    case Unary::TANH:
      return vmath::apply(F::TANH, x);
    case Unary::ERF:
      return vmath::apply(F::ERF, x);
    case Unary::HARD_SIGMOID: {
      const float product = imm0 * x;
      return maximum(0.0f, minimum(1.0f, product + imm1));
    }
    case Unary::FLOOR:
      return std::floor(x);
    case Unary::CEIL:
      return std::ceil(x);
    case Unary::ROUND:
      return std::nearbyint(x);
    case Unary::SIGN:
      return std::isnan(x) ? x : static_cast<float>((x > 0) - (x < 0));
    case Unary::HARD_SWISH: {
      const float product = x * minimum(maximum(x + 3.0f, 0.0f), 6.0f);
      return product / 6.0f;
    }
    case Unary::SILU:
      return vmath::apply(F::SILU, x);
    case Unary::GELU:
      return vmath::apply(F::GELU, x);
    case Unary::SOFTPLUS:
      return vmath::apply(F::SOFTPLUS, x);
    case Unary::SIN:
      return vmath::apply(F::SIN, x);
    case Unary::COS:
      return vmath::apply(F::COS, x);
    case Unary::TRUNC:
      return std::trunc(x);
    case Unary::ATAN:
      return vmath::apply(F::ATAN, x);
    case Unary::IS_NAN:
      return std::isnan(x) ? 1.0f : 0.0f;
    case Unary::IS_INF:
      if (!std::isinf(x)) return 0.0f;
      return (imm0 > 0 && x < 0) || (imm0 < 0 && x > 0) ? 0.0f : 1.0f;
    case Unary::NOT:
      break;  // of integers only
  }
  return NAN;
}

inline float binary(isa::Binary f, float a, float b) {
  using isa::Binary;
  switch (f) {
    case Binary::ADD:
      return a + b;
    case Binary::SUB:
      return a - b;
    case Binary::MUL:
      return a * b;
    case Binary::DIV:
      return a / b;
    case Binary::MAX:
      return maximum(a, b);
    case Binary::MIN:
      return minimum(a, b);
    case Binary::POW:
      return vmath::apply(vmath::Binary::POW, a, b);
    case Binary::PRELU:
      return a < 0 ? a * b : a;
    case Binary::EQ:
      return a == b ? 1.0f : 0.0f;
    case Binary::LT:
      return a < b ? 1.0f : 0.0f;
    case Binary::LE:
      return a <= b ? 1.0f : 0.0f;
    case Binary::NE:
      return a == b ? 0.0f : 1.0f;
    case Binary::MOD: {
      const float r = std::fmod(a, b);
      if (r == 0) return std::copysign(0.0f, b);
      return std::signbit(r) != std::signbit(b) ? r + b : r;
    }
    case Binary::FMOD:
      return std::fmod(a, b);
    case Binary::AND:
    case Binary::OR:
    case Binary::XOR:
    case Binary::SHL:
    case Binary::SHR:
      break;  // of integers only
  }
  return NAN;
}

// ---- integers: exact, in 128 bits, and cut down to the type only when they are stored ----

using Wide = __int128;

inline bool whole_type(num::DType type) {
  return type == num::DType::INT8 || type == num::DType::UINT8 || type == num::DType::INT16 ||
         type == num::DType::UINT16 || type == num::DType::INT32 || type == num::DType::UINT32 ||
         type == num::DType::INT64 || type == num::DType::UINT64;
}
inline bool is_signed(num::DType type) {
  return type == num::DType::INT8 || type == num::DType::INT16 || type == num::DType::INT32 ||
         type == num::DType::INT64;
}
inline Wide get_integer(const Memory &m, const View &v, int64_t at) {
  const size_t bytes = num::bytes_of(v.dtype);
  Wide value = 0;
  for (size_t b = 0; b < bytes; ++b) value |= Wide{std::to_integer<uint8_t>(m[at + b])} << (8 * b);
  const Wide modulus = Wide{1} << (8 * bytes);
  return is_signed(v.dtype) && value >= modulus / 2 ? value - modulus : value;
}
inline void put_integer(Memory &m, const View &v, int64_t at, Wide value) {
  for (size_t b = 0; b < num::bytes_of(v.dtype); ++b) m[at + b] = static_cast<std::byte>(value >> (8 * b) & 0xFF);
}
/// What 64 bits make of a number: of UINT64 operands unsigned, of all others signed.
inline Wide in_64_bits(Wide value, bool unsigned64) {
  const Wide modulus = Wide{1} << 64;
  value %= modulus;
  if (value < 0) value += modulus;
  return !unsigned64 && value >= modulus / 2 ? value - modulus : value;
}

inline Wide power(Wide a, Wide b, bool unsigned64) {
  if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 == 0 ? 1 : -1) : 0;
  Wide result = 1;
  for (int bit = 63; bit >= 0; --bit) {
    result = in_64_bits(static_cast<Wide>(static_cast<unsigned __int128>(result) * result), unsigned64);
    if (b >> bit & 1) result = in_64_bits(static_cast<Wide>(static_cast<unsigned __int128>(result) * a), unsigned64);
  }
  return result;
}

inline Wide unary(isa::Unary f, Wide x, float imm0, float imm1, bool unsigned64) {
  using isa::Unary;
  switch (f) {
    case Unary::COPY:
      return x;
    case Unary::NEG:
      return -x;
    case Unary::ABS:
      return x < 0 ? -x : x;
    case Unary::RELU:
      return x < 0 ? 0 : x;
    case Unary::CLAMP: {
      const Wide lowest = unsigned64 ? 0 : -(Wide{1} << 63), largest = lowest + ((Wide{1} << 64) - 1);
      const auto bound = [&](float b) {
        if (b <= static_cast<float>(lowest)) return lowest;
        return b >= static_cast<float>(largest) ? largest : static_cast<Wide>(b);
      };
      const Wide raised = x < bound(imm0) ? bound(imm0) : x;
      return raised > bound(imm1) ? bound(imm1) : raised;
    }
    case Unary::SIGN:
      return (x > 0) - (x < 0);
    case Unary::NOT:
      return -1 - x;
    default:
      break;
  }
  throw std::logic_error("no integer function");
}
inline bool has_integers(isa::Unary f) {
  using isa::Unary;
  for (const Unary g : {Unary::COPY, Unary::NEG, Unary::ABS, Unary::RELU, Unary::CLAMP, Unary::SIGN, Unary::NOT}) {
    if (f == g) return true;
  }
  return false;
}

inline Wide binary(isa::Binary f, Wide a, Wide b, num::DType type) {
  using isa::Binary;
  const bool unsigned64 = type == num::DType::UINT64;
  const auto width = static_cast<int>(8 * num::bytes_of(type));
  switch (f) {
    case Binary::ADD:
      return a + b;
    case Binary::SUB:
      return a - b;
    case Binary::MUL:
      return in_64_bits(static_cast<Wide>(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b)),
                        unsigned64);
    case Binary::DIV:
      return b == 0 ? in_64_bits(-1, unsigned64) : a / b;
    case Binary::MAX:
      return a > b ? a : b;
    case Binary::MIN:
      return a < b ? a : b;
    case Binary::POW:
      return power(a, b, unsigned64);
    case Binary::EQ:
      return a == b;
    case Binary::NE:
      return a != b;
    case Binary::LT:
      return a < b;
    case Binary::LE:
      return a <= b;
    case Binary::AND:
      return in_64_bits(a & b, unsigned64);
    case Binary::OR:
      return in_64_bits(a | b, unsigned64);
    case Binary::XOR:
      return in_64_bits(a ^ b, unsigned64);
    case Binary::SHL:
      return b < 0 || b >= width
                 ? 0
                 : in_64_bits(static_cast<Wide>(static_cast<unsigned __int128>(a) << int(b)), unsigned64);
    case Binary::SHR:
      if (b < 0 || b >= width) return a < 0 ? -1 : 0;
      return a >> static_cast<int>(b);
    case Binary::MOD: {
      if (b == 0) return a;
      const Wide r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case Binary::FMOD:
      return b == 0 ? a : a % b;
    case Binary::PRELU:
      break;
  }
  throw std::logic_error("no integer function");
}
inline bool compares(isa::Binary f) {
  return f == isa::Binary::EQ || f == isa::Binary::NE || f == isa::Binary::LT || f == isa::Binary::LE;
}

inline Wide activate(isa::Activation act, Wide x, float lo, float hi, bool unsigned64) {
  switch (act) {
    case isa::Activation::NONE:
      return x;
    case isa::Activation::RELU:
      return unary(isa::Unary::RELU, x, 0, 0, unsigned64);
    case isa::Activation::CLAMP:
      return unary(isa::Unary::CLAMP, x, lo, hi, unsigned64);
  }
  throw std::logic_error("no activation");
}

inline float activate(isa::Activation act, float x, float lo, float hi) {
  switch (act) {
    case isa::Activation::NONE:
      return x;
    case isa::Activation::RELU:
      return maximum(x, 0.0f);
    case isa::Activation::CLAMP:
      return minimum(maximum(x, lo), hi);
  }
  return NAN;
}

inline float reduce_start(isa::Reduce f) {
  switch (f) {
    case isa::Reduce::MAX:
      return -INFINITY;
    case isa::Reduce::MIN:
      return INFINITY;
    case isa::Reduce::PROD:
      return 1.0f;
    default:
      return 0.0f;
  }
}
inline float reduce_step(isa::Reduce f, float acc, float x) {
  switch (f) {
    case isa::Reduce::SUM:
      return acc + x;
    case isa::Reduce::MAX:
      return maximum(acc, x);
    case isa::Reduce::MIN:
      return minimum(acc, x);
    case isa::Reduce::PROD:
      return acc * x;
    case isa::Reduce::SUMSQ: {
      const float square = x * x;
      return acc + square;
    }
    case isa::Reduce::ABSSUM:
      return acc + std::fabs(x);
  }
  return NAN;
}
inline float reduce_join(isa::Reduce f, std::array<float, 16> p) {
  const isa::Reduce join = f == isa::Reduce::SUMSQ || f == isa::Reduce::ABSSUM ? isa::Reduce::SUM : f;
  for (int n = 8; n > 0; n /= 2) {
    for (int i = 0; i < n; ++i) p[i] = reduce_step(join, p[i], p[i + n]);
  }
  return p[0];
}

template <class Function>
void for_each(const std::array<uint32_t, 4> &dims, Function f) {
  for (int64_t i0 = 0; i0 < dims[0]; ++i0)
    for (int64_t i1 = 0; i1 < dims[1]; ++i1)
      for (int64_t i2 = 0; i2 < dims[2]; ++i2)
        for (int64_t i3 = 0; i3 < dims[3]; ++i3) f(i0, i1, i2, i3);
}

/// All read `in` and write the result to `out`, which starts as a copy of it.
inline void run(const Memory &in, Memory &out, const Views &views, const isa::VUnary &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  for_each(dst.dims, [&](auto... i) {
    const int64_t from = address(src, i...), to = address(dst, i...);
    if (inst.func == isa::Unary::COPY && dst.dtype == src.dtype) {
      for (size_t b = 0; b < num::bytes_of(dst.dtype); ++b) out[to + b] = in[from + b];
    } else if (has_integers(inst.func) && whole_type(dst.dtype) && whole_type(src.dtype)) {
      put_integer(out, dst, to,
                  unary(inst.func, get_integer(in, src, from), inst.imm0, inst.imm1, src.dtype == num::DType::UINT64));
    } else {
      put(out, dst, to, unary(inst.func, get(in, src, from), inst.imm0, inst.imm1));
    }
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VBinary &inst) {
  const View &dst = *views[inst.dst], &a = *views[inst.a];
  const bool integer_sources = whole_type(a.dtype) && (inst.b == 0xFF || whole_type(views[inst.b]->dtype));
  if (integer_sources && (compares(inst.func) || (whole_type(dst.dtype) && inst.func != isa::Binary::PRELU))) {
    const bool unsigned64 = a.dtype == num::DType::UINT64;
    for_each(dst.dims, [&](auto... i) {
      Wide x = get_integer(in, a, address(a, i...));
      Wide y = inst.b == 0xFF ? static_cast<Wide>(inst.imm0)
                              : get_integer(in, *views[inst.b], address(*views[inst.b], i...));
      if (inst.swap) std::swap(x, y);
      const Wide result = in_64_bits(binary(inst.func, x, y, a.dtype), unsigned64);
      if (whole_type(dst.dtype)) {
        put_integer(out, dst, address(dst, i...), activate(inst.act, result, inst.lo, inst.hi, unsigned64));
      } else {
        put(out, dst, address(dst, i...), activate(inst.act, static_cast<float>(result), inst.lo, inst.hi));
      }
    });
    return;
  }
  for_each(dst.dims, [&](auto... i) {
    float x = get(in, a, address(a, i...));
    float y = inst.b == 0xFF ? inst.imm0 : get(in, *views[inst.b], address(*views[inst.b], i...));
    if (inst.swap) std::swap(x, y);
    put(out, dst, address(dst, i...), activate(inst.act, binary(inst.func, x, y), inst.lo, inst.hi));
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VReduce &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  std::array<uint32_t, 4> over{1, 1, 1, 1};
  for (int d = 0; d < 4; ++d) over[d] = inst.axes >> d & 1 ? src.dims[d] : 1;
  if (whole_type(dst.dtype) && whole_type(src.dtype)) {
    const bool unsigned64 = src.dtype == num::DType::UINT64;
    for_each(dst.dims, [&](int64_t k0, int64_t k1, int64_t k2, int64_t k3) {
      std::optional<Wide> acc;
      for_each(over, [&](int64_t r0, int64_t r1, int64_t r2, int64_t r3) {
        const Wide v = get_integer(in, src, address(src, k0 + r0, k1 + r1, k2 + r2, k3 + r3));
        const Wide x = inst.func == isa::Reduce::SUMSQ    ? binary(isa::Binary::MUL, v, v, src.dtype)
                       : inst.func == isa::Reduce::ABSSUM ? unary(isa::Unary::ABS, v, 0, 0, unsigned64)
                                                          : v;
        const isa::Binary join = inst.func == isa::Reduce::MAX    ? isa::Binary::MAX
                                 : inst.func == isa::Reduce::MIN  ? isa::Binary::MIN
                                 : inst.func == isa::Reduce::PROD ? isa::Binary::MUL
                                                                  : isa::Binary::ADD;
        acc = acc ? in_64_bits(binary(join, *acc, x, src.dtype), unsigned64) : in_64_bits(x, unsigned64);
      });
      put_integer(out, dst, address(dst, k0, k1, k2, k3),
                  inst.div == 1.0f ? *acc : binary(isa::Binary::DIV, *acc, static_cast<Wide>(inst.div), src.dtype));
    });
    return;
  }
  for_each(dst.dims, [&](int64_t k0, int64_t k1, int64_t k2, int64_t k3) {
    std::array<float, 16> partial;
    partial.fill(reduce_start(inst.func));
    for_each(over, [&](int64_t r0, int64_t r1, int64_t r2, int64_t r3) {
      const float x = get(in, src, address(src, k0 + r0, k1 + r1, k2 + r2, k3 + r3));
      float &acc = partial[inst.axes & 8 ? r3 % 16 : 0];
      acc = reduce_step(inst.func, acc, x);
    });
    float result = inst.axes & 8 ? reduce_join(inst.func, partial) : partial[0];
    if (inst.div != 1.0f) result = result / inst.div;
    put(out, dst, address(dst, k0, k1, k2, k3), result);
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VWindow &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  if (inst.func == isa::Window::MAX && whole_type(dst.dtype) && whole_type(src.dtype)) {
    for_each(dst.dims, [&](int64_t b, int64_t y, int64_t x, int64_t c) {
      std::optional<Wide> acc;
      for (int64_t i = 0; i < inst.kernel_y; ++i) {
        for (int64_t j = 0; j < inst.kernel_x; ++j) {
          const Wide v = get_integer(
              in, src, address(src, b, y * inst.stride_y + i * inst.dil_y, x * inst.stride_x + j * inst.dil_x, c));
          acc = acc && *acc > v ? *acc : v;
        }
      }
      put_integer(out, dst, address(dst, b, y, x, c),
                  activate(inst.act, *acc, inst.lo, inst.hi, src.dtype == num::DType::UINT64));
    });
    return;
  }
  for_each(dst.dims, [&](int64_t b, int64_t y, int64_t x, int64_t c) {
    float acc = inst.func == isa::Window::MAX ? -INFINITY : 0.0f;
    for (int64_t i = 0; i < inst.kernel_y; ++i) {
      for (int64_t j = 0; j < inst.kernel_x; ++j) {
        const float v =
            get(in, src, address(src, b, y * inst.stride_y + i * inst.dil_y, x * inst.stride_x + j * inst.dil_x, c));
        if (inst.func == isa::Window::MAX) acc = maximum(acc, v);
        if (inst.func == isa::Window::SUM) acc = acc + v;
        if (inst.func == isa::Window::MAC) {
          acc = std::fma(v, get(in, *views[inst.w], address(*views[inst.w], 0, i, j, c)), acc);
        }
      }
    }
    if (inst.func == isa::Window::SUM) acc = acc * inst.imm0;
    if (inst.bias != 0xFF) acc = acc + get(in, *views[inst.bias], address(*views[inst.bias], 0, 0, 0, c));
    put(out, dst, address(dst, b, y, x, c), activate(inst.act, acc, inst.lo, inst.hi));
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VSoftmax &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  for_each({dst.dims[0], dst.dims[1], dst.dims[2], 1}, [&](int64_t i0, int64_t i1, int64_t i2, int64_t) {
    const int64_t n = dst.dims[3];
    float largest = -INFINITY;
    for (int64_t i = 0; i < n; ++i) largest = maximum(largest, get(in, src, address(src, i0, i1, i2, i)));
    std::vector<float> e(n);
    std::array<float, 16> partial{};
    for (int64_t i = 0; i < n; ++i) {
      e[i] = vmath::apply(vmath::Unary::EXP, get(in, src, address(src, i0, i1, i2, i)) - largest);
      partial[i % 16] += e[i];
    }
    const float sum = reduce_join(isa::Reduce::SUM, partial);
    for (int64_t i = 0; i < n; ++i) put(out, dst, address(dst, i0, i1, i2, i), e[i] / sum);
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VSelect &inst) {
  const View &dst = *views[inst.dst], &cond = *views[inst.cond];
  for_each(dst.dims, [&](auto... i) {
    const bool first = in[address(cond, i...)] != std::byte{0};
    const unsigned chosen = first ? inst.a : inst.b;
    const int64_t to = address(dst, i...);
    if (chosen == 0xFF) {
      num::encode(dst.dtype, first ? inst.imm0 : inst.imm1, out.data() + to);
    } else {
      const int64_t from = address(*views[chosen], i...);
      for (size_t b = 0; b < num::bytes_of(dst.dtype); ++b) out[to + b] = in[from + b];
    }
  });
}

/// An index, from the end if negative. Indices of the tests are inside.
inline int64_t index_at(const Memory &m, const View &idx, int64_t at, int64_t limit) {
  const Wide i = get_integer(m, idx, at);
  return static_cast<int64_t>(i < 0 ? i + limit : i);
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VGather &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src], &idx = *views[inst.idx];
  for_each(dst.dims, [&](int64_t i0, int64_t i1, int64_t i2, int64_t i3) {
    std::array<int64_t, 4> i{i0, i1, i2, i3};
    i[inst.axis] = index_at(in, idx, address(idx, i0, i1, i2, i3), src.dims[inst.axis]);
    const int64_t from = address(src, i[0], i[1], i[2], i[3]), to = address(dst, i0, i1, i2, i3);
    for (size_t b = 0; b < num::bytes_of(dst.dtype); ++b) out[to + b] = in[from + b];
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VScatter &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src], &idx = *views[inst.idx];
  for_each(src.dims, [&](int64_t i0, int64_t i1, int64_t i2, int64_t i3) {
    std::array<int64_t, 4> i{i0, i1, i2, i3};
    i[inst.axis] = index_at(in, idx, address(idx, i0, i1, i2, i3), dst.dims[inst.axis]);
    const int64_t from = address(src, i0, i1, i2, i3), to = address(dst, i[0], i[1], i[2], i[3]);
    if (inst.func == isa::Scatter::SET) {
      for (size_t b = 0; b < num::bytes_of(dst.dtype); ++b) out[to + b] = in[from + b];
      return;
    }
    const isa::Binary f = inst.func == isa::Scatter::ADD   ? isa::Binary::ADD
                          : inst.func == isa::Scatter::MUL ? isa::Binary::MUL
                          : inst.func == isa::Scatter::MAX ? isa::Binary::MAX
                                                           : isa::Binary::MIN;
    if (whole_type(dst.dtype)) {
      put_integer(out, dst, to, binary(f, get_integer(out, dst, to), get_integer(in, src, from), dst.dtype));
    } else {
      put(out, dst, to, binary(f, get(out, dst, to), get(in, src, from)));
    }
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VScan &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  const bool integers = whole_type(dst.dtype) && whole_type(src.dtype);
  // For every element, what comes before it, added up from the beginning.
  for_each(dst.dims, [&](int64_t i0, int64_t i1, int64_t i2, int64_t i3) {
    std::array<int64_t, 4> i{i0, i1, i2, i3};
    const int64_t own = i[inst.axis], step = inst.reverse ? -1 : 1;
    float sum = 0;
    Wide total = 0;
    for (int64_t k = inst.reverse ? dst.dims[inst.axis] - 1 : 0;; k += step) {
      if (inst.exclusive && k == own) break;
      i[inst.axis] = k;
      const int64_t from = address(src, i[0], i[1], i[2], i[3]);
      if (integers) total = in_64_bits(total + get_integer(in, src, from), false);
      if (!integers) sum = sum + get(in, src, from);
      if (k == own) break;
    }
    const int64_t to = address(dst, i0, i1, i2, i3);
    integers ? put_integer(out, dst, to, total) : put(out, dst, to, sum);
  });
}

/// Whether the element at `a` comes before the one at `b` in the order of V_ARG and V_TOPK.
inline bool comes_before(const Memory &m, const View &v, int64_t a, int64_t b, isa::Order order) {
  const bool largest = order == isa::Order::LARGEST;
  if (whole_type(v.dtype)) {
    const Wide x = get_integer(m, v, a), y = get_integer(m, v, b);
    return largest ? x > y : x < y;
  }
  const float x = get(m, v, a), y = get(m, v, b);
  if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && !std::isnan(y);
  return largest ? x > y : x < y;
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VArg &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  for_each(dst.dims, [&](int64_t i0, int64_t i1, int64_t i2, int64_t i3) {
    const auto at = [&](int64_t k) {
      std::array<int64_t, 4> i{i0, i1, i2, i3};
      i[inst.axis] = k;
      return address(src, i[0], i[1], i[2], i[3]);
    };
    int64_t best = 0;
    for (int64_t k = 1; k < src.dims[inst.axis]; ++k) {
      if (comes_before(in, src, at(k), at(best), inst.order) ||
          (inst.last && !comes_before(in, src, at(best), at(k), inst.order))) {
        best = k;
      }
    }
    put_integer(out, dst, address(dst, i0, i1, i2, i3), best);
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VTopk &inst) {
  const View &dst = *views[inst.dst], &src = *views[inst.src];
  for_each({dst.dims[0], dst.dims[1], dst.dims[2], 1}, [&](int64_t i0, int64_t i1, int64_t i2, int64_t) {
    std::vector<int64_t> order(src.dims[3]);
    for (size_t k = 0; k < order.size(); ++k) order[k] = static_cast<int64_t>(k);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return comes_before(in, src, address(src, i0, i1, i2, a), address(src, i0, i1, i2, b), inst.order);
    });
    for (int64_t k = 0; k < dst.dims[3]; ++k) put_integer(out, dst, address(dst, i0, i1, i2, k), order[k]);
  });
}

}  // namespace cx::hw::vpu::naive
