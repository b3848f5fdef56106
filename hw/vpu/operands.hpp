// Internal: operands of the vector unit's instructions, checked and bound to host memory, and blocks of their elements.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hw/vpu/vpu_ops.hpp"

namespace cx::hw::vpu {

using Dims = std::array<uint64_t, 4>;
using Strides = std::array<int64_t, 4>;

inline constexpr unsigned kNoOperand = 0xFF;
// Elements that one step of the loops loads, computes and stores; a multiple of the lanes of a reduction that keeps the
// row buffers in the host's first-level cache.
inline constexpr uint64_t kChunk = 1024;
inline constexpr uint64_t kWidest = 8;  ///< bytes of the largest element
// Bounds that only views with broadcast or overlapping dimensions reach: elements of an instruction without as many
// results, and elements that it holds aside (where the scratchpad is larger, its bytes).
inline constexpr uint64_t kMaxElements = uint64_t{1} << 32;
inline constexpr uint64_t kMaxHeld = uint64_t{1} << 24;

/// A view in place: where its elements lie in host memory.
struct Operand {
  std::byte *base = nullptr;
  num::DType dtype = num::DType::FP32;
  int64_t bytes = 4;  ///< of an element
  Strides strides{};
};

[[noreturn]] void illegal(uint64_t where, const std::string &text);
std::string label(const char *role, unsigned index);

/// The defined, computable view `index`.
const View &view_of(const Views &views, unsigned index, const char *role);

/// Every element over `dims` has to lie in the scratchpad.
Operand bind(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, const char *role);

/// A destination: elements of one dimension must not fall on one another, nor can more elements than fit be distinct.
Operand bind_destination(std::span<std::byte> spm, const View &view, unsigned index);

/// A source over the dims of the destination: equal dims, or stride 0.
Operand bind_source(std::span<std::byte> spm, const View &view, const Dims &dims, unsigned index, const char *role);

inline Dims dims_of(const View &view) { return {view.dims[0], view.dims[1], view.dims[2], view.dims[3]}; }
inline uint64_t product(const Dims &dims) { return dims[0] * dims[1] * dims[2] * dims[3]; }

/// Bytes of the distinct elements of an operand: dimensions with stride 0 count once.
uint64_t distinct_bytes(const Operand &op, const Dims &dims);

/// The lanes are 32 bits wide: elements of 64 bits take every pass twice.
template <size_t N>
void count_wide(Work &work, const std::array<Operand, N> &ops) {
  if (std::none_of(ops.begin(), ops.end(), [](const Operand &op) { return op.base != nullptr && op.bytes == 8; }))
    return;
  work.simple_passes *= 2;
  work.special_passes *= 2;
}

/// An immediate of an integer operation: throws ILLEGAL with the field's offset unless it is a whole number in the
/// range of INT64, or of UINT64 for `unsigned64`.
int64_t whole(float value, bool unsigned64, unsigned field);
/// The same for a bound, which may be infinite or beyond the range and then is its end.
int64_t whole_bound(float value, bool unsigned64, unsigned field);

inline int64_t offset_of(const Strides &s, uint64_t i0, uint64_t i1, uint64_t i2, uint64_t i3) {
  return static_cast<int64_t>(i0) * s[0] + static_cast<int64_t>(i1) * s[1] + static_cast<int64_t>(i2) * s[2] +
         static_cast<int64_t>(i3) * s[3];
}

/// Merges dimensions that are one in every operand's strides; the merged dimensions move to the inner end.
template <size_t N>
void coalesce(Dims &dims, std::array<Operand, N> &ops) {
  Dims d{1, 1, 1, 1};
  std::array<Strides, N> s{};
  int top = 4;  // dims top..3 of the result are filled
  for (int i = 3; i >= 0; --i) {
    if (dims[i] == 1) continue;
    bool merge = top < 4;
    for (size_t k = 0; merge && k < N; ++k) {
      merge = ops[k].strides[i] == s[k][top] * static_cast<int64_t>(d[top]);
    }
    if (merge) {
      d[top] *= dims[i];
    } else {
      --top;
      d[top] = dims[i];
      for (size_t k = 0; k < N; ++k) s[k][top] = ops[k].strides[i];
    }
  }
  dims = d;
  for (size_t k = 0; k < N; ++k) ops[k].strides = s[k];
}

/// A block of rows * cols elements of an operand.
struct Block {
  std::byte *at;
  uint64_t rows, cols;
  int64_t row_stride, col_stride;
};

inline Block block_of(const Operand &op, int64_t offset, uint64_t rows, uint64_t cols) {
  return {op.base + offset, rows, cols, op.strides[2], op.strides[3]};
}

/// Covers dims with blocks of at most kChunk elements in row-major order; f(offset of each operand, rows, cols).
template <size_t N, class Function>
void for_each_block(const Dims &dims, const std::array<Operand, N> &ops, Function f) {
  const uint64_t cols = std::min(dims[3], kChunk);
  const uint64_t rows = std::max<uint64_t>(1, dims[3] > kChunk ? 1 : kChunk / dims[3]);
  std::array<int64_t, N> at{};
  for (uint64_t i0 = 0; i0 < dims[0]; ++i0) {
    for (uint64_t i1 = 0; i1 < dims[1]; ++i1) {
      for (uint64_t i2 = 0; i2 < dims[2]; i2 += rows) {
        for (uint64_t i3 = 0; i3 < dims[3]; i3 += cols) {
          for (size_t k = 0; k < N; ++k) at[k] = offset_of(ops[k].strides, i0, i1, i2, i3);
          f(at, std::min(rows, dims[2] - i2), std::min(cols, dims[3] - i3));
        }
      }
    }
  }
}

bool contiguous(const Block &b, int64_t bytes);
template <class T>
bool aligned(const std::byte *p) {
  return reinterpret_cast<uintptr_t>(p) % alignof(T) == 0;
}

/// Elements of a block in row-major order, packed, and back.
void pack(const Block &b, int64_t bytes, std::byte *out);
void unpack(const Block &b, int64_t bytes, const std::byte *in);

/// Widens a block to FP32, or integers to 64 bits by their own sign. Returns `buffer`, or the block itself where it
/// already is a row of such numbers. raw: scratch of rows * cols elements.
const float *load(num::DType dtype, const Block &b, float *buffer, std::byte *raw);
const int64_t *load(num::DType dtype, const Block &b, int64_t *buffer, std::byte *raw);

/// Narrows rows * cols packed values into a block: FP32 by the rules of hw/common/num, NaN canonical; integers to their
/// low bits. values is overwritten.
void store(num::DType dtype, const Block &b, float *values, std::byte *raw);
void store(num::DType dtype, const Block &b, int64_t *values, std::byte *raw);

template <class T>
void reserve(std::vector<T> &v, uint64_t n) {
  if (v.size() < n) v.resize(n);
}

}  // namespace cx::hw::vpu
