// The vector unit's instructions written element by element from hw/isa/isa.yaml, as the judge of hw/vpu/vpu_ops.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
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
    default:
      break;
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
    default:
      break;
  }
  return NAN;
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
    } else {
      put(out, dst, to, unary(inst.func, get(in, src, from), inst.imm0, inst.imm1));
    }
  });
}

inline void run(const Memory &in, Memory &out, const Views &views, const isa::VBinary &inst) {
  const View &dst = *views[inst.dst], &a = *views[inst.a];
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

}  // namespace cx::hw::vpu::naive
