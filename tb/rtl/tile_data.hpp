// Operands and results of random tile operations.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "hw/dmmu/mac_tile.hpp"
#include "tb/hw/common/num_random.hpp"

namespace cx::test {

struct RandomMatrix {
  RandomMatrix(Random &random, num::DType dtype, uint32_t rows, uint32_t cols) {
    const size_t bytes = num::bytes_of(dtype);
    const size_t stride = cols * bytes + random.between(0, 7);
    const bool sparse = random.one_in(4);
    // Products that vanish leave sums of -0, which zeros of either sign tell apart.
    const bool vanishing = dtype == num::DType::FP32 && random.one_in(6);
    data.resize(rows * stride);
    for (uint32_t r = 0; r < rows; ++r) {
      for (uint32_t c = 0; c < cols; ++c) {
        uint32_t raw = sparse && !random.one_in(3) ? 0 : random.element(dtype);
        if (vanishing) raw = (random.bits() & 0x80000000u) | random.between(0, 2);
        std::memcpy(&data[r * stride + c * bytes], &raw, bytes);
      }
    }
    operand.dtype = dtype;
    operand.rows = rows;
    operand.cols = cols;
    operand.raw = data.data();
    operand.raw_stride = static_cast<ptrdiff_t>(stride);
  }
  std::vector<std::byte> data;
  hw::TileOperand operand;
};

/// Drained rows of both tiles, with room between elements and rows that must stay untouched.
struct Drained {
  Drained(Random &random, num::DType dtype, uint32_t m, uint32_t n) {
    const size_t bytes = num::bytes_of(dtype);
    stride = static_cast<ptrdiff_t>(bytes * (random.one_in(4) ? 3 : 1));
    row_stride = n * static_cast<size_t>(stride) + random.between(0, 9);
    for (auto &side : bytes_of_side) side.assign(m * row_stride, std::byte{0xA5});
    rows = m;
    width = bytes;
    elements = uint64_t{m} * n;
  }
  hw::TileTarget target(unsigned side) {
    hw::TileTarget result;
    result.stride = stride;
    for (uint32_t i = 0; i < rows; ++i) result.rows.push_back(&bytes_of_side[side][i * row_stride]);
    return result;
  }
  /// Where the sides differ first.
  std::string difference() const {
    size_t at = 0;
    while (bytes_of_side[0][at] == bytes_of_side[1][at]) ++at;
    const size_t row = at / row_stride, column = at % row_stride / static_cast<size_t>(stride);
    std::string text = ": row " + std::to_string(row) + ", column " + std::to_string(column) + ": bytes";
    for (const auto &side : bytes_of_side) {
      text += &side == &bytes_of_side[0] ? "" : " in the model,";
      for (size_t b = width; b-- > 0;) {
        constexpr char kDigits[] = "0123456789abcdef";
        const auto value = static_cast<unsigned>(side[row * row_stride + column * static_cast<size_t>(stride) + b]);
        text += (b + 1 == width ? " " : "") + std::string{kDigits[value >> 4], kDigits[value & 15]};
      }
    }
    return text + " in the RTL";
  }
  std::vector<std::byte> bytes_of_side[2];
  size_t width;
  ptrdiff_t stride;
  size_t row_stride;
  uint32_t rows;
  uint64_t elements;
  std::string what;
};

}  // namespace cx::test
