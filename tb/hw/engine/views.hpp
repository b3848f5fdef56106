// Scratchpad views for tests of engines: instructions, offsets, values, counters.
#pragma once

#include <array>
#include <cstring>
#include <optional>
#include <ostream>
#include <vector>

#include "hw/common/num/formats.hpp"
#include "hw/regs/gen/isa.hpp"

namespace cx::tb {

using num::DType;

inline isa::Inst tdesc(uint8_t index, DType dtype, uint32_t base, std::array<uint16_t, 4> dims,
                       std::optional<std::array<int32_t, 4>> strides = {}) {
  isa::Tdesc t;
  t.index = index;
  t.dtype = static_cast<isa::DType>(dtype);
  t.base = base;
  t.dims = dims;
  if (strides) {
    t.strides = *strides;
  } else {
    auto step = static_cast<int32_t>(num::bytes_of(dtype));
    for (int i = 3; i >= 0; --i) {
      t.strides[i] = step;
      step *= dims[i];
    }
  }
  return t.encode();
}

/// A strided view with its offsets, as an instruction sees it.
struct View {
  DType dtype;
  uint32_t base;
  std::array<uint16_t, 4> dims;
  std::array<int32_t, 4> strides;

  isa::Inst inst(uint8_t index) const { return tdesc(index, dtype, base, dims, strides); }
  size_t at(uint64_t row, uint32_t column) const {
    const int64_t d2 = static_cast<int64_t>(row % dims[2]), d1 = static_cast<int64_t>(row / dims[2] % dims[1]);
    const int64_t d0 = static_cast<int64_t>(row / dims[2] / dims[1]);
    return static_cast<size_t>(base + d0 * strides[0] + d1 * strides[1] + d2 * strides[2] +
                               int64_t{column} * strides[3]);
  }
};

inline void put_float(std::vector<uint8_t> &memory, size_t offset, float value) {
  std::memcpy(&memory[offset], &value, sizeof value);
}

inline float float_at(const std::vector<uint8_t> &memory, size_t offset) {
  float value;
  std::memcpy(&value, &memory[offset], sizeof value);
  return value;
}

struct Counters {
  uint64_t busy, operations, read, written;
  bool operator==(const Counters &) const = default;
};

inline std::ostream &operator<<(std::ostream &out, const Counters &c) {
  return out << "busy " << c.busy << " ops " << c.operations << " read " << c.read << " written " << c.written;
}

}  // namespace cx::tb
