#include "hw/common/sparse/columns.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "hw/common/sparse/bits.hpp"

namespace cx::sparse {
namespace {

[[noreturn]] void refuse(const std::string &message) { throw std::invalid_argument(message); }

}  // namespace

std::string_view name_of(Format format) {
  constexpr std::string_view kNames[kFormats] = {"dense", "bitmap", "run-length", "structured", "block"};
  return static_cast<unsigned>(format) < kFormats ? kNames[static_cast<unsigned>(format)] : "?";
}

Layout dense() { return {}; }
Layout bitmap() { return {.format = Format::kBitmap}; }
Layout run_length(uint8_t run_bits) { return {.format = Format::kRunLength, .run_bits = run_bits}; }
Layout structured(uint8_t n, uint8_t m) { return {.format = Format::kStructured, .n = n, .m = m}; }
Layout block(uint16_t h, uint16_t w) { return {.format = Format::kBlock, .block_h = h, .block_w = w}; }

std::string to_string(const Layout &layout) {
  switch (layout.format) {
    case Format::kStructured:
      return std::to_string(layout.n) + ":" + std::to_string(layout.m);
    case Format::kBlock:
      return "block " + std::to_string(layout.block_h) + "x" + std::to_string(layout.block_w);
    default:
      return std::string(name_of(layout.format));
  }
}

bool is_weight_type(num::DType type) {
  using enum num::DType;
  return type == INT8 || type == FP8_E4M3 || type == FP8_E5M2 || type == FP16 || type == BF16;
}

bool is_zero(num::DType type, uint16_t bits) {
  if (!num::is_float(type)) return bits == 0;
  return (bits & (num::bytes_of(type) == 1 ? 0x7F : 0x7FFF)) == 0;
}

uint16_t MatrixView::at(size_t row, size_t column) const {
  const size_t size = num::bytes_of(type);
  const ptrdiff_t index = static_cast<ptrdiff_t>(row) * k_stride + static_cast<ptrdiff_t>(column) * n_stride;
  const uint8_t *element = data + index * static_cast<ptrdiff_t>(size);
  return static_cast<uint16_t>(size == 1 ? element[0] : element[0] | element[1] << 8);
}

MatrixView row_major(const void *data, num::DType type, size_t k, size_t n) {
  return {static_cast<const uint8_t *>(data), type, k, n, static_cast<ptrdiff_t>(n), 1};
}

std::vector<uint16_t> read_column(const MatrixView &matrix, size_t column) {
  std::vector<uint16_t> values(matrix.k);
  for (size_t row = 0; row < matrix.k; ++row) {
    const uint16_t bits = matrix.at(row, column);
    values[row] = is_zero(matrix.type, bits) ? 0 : bits;
  }
  return values;
}

void check_arguments(const MatrixView &matrix, uint32_t group_columns, const Layout &layout) {
  if (!is_weight_type(matrix.type)) refuse("sparse weights cannot be " + std::string(num::name_of(matrix.type)));
  if (matrix.k < 1 || matrix.k > kMaxRows)
    refuse("sparse weights have 1 to 65535 rows, not " + std::to_string(matrix.k));
  if (matrix.n < 1) refuse("sparse weights without columns");
  if (group_columns < 1 || group_columns > kMaxColumns)
    refuse("groups have 1 to 1024 columns, not " + std::to_string(group_columns));
  switch (layout.format) {
    case Format::kDense:
    case Format::kBitmap:
      return;
    case Format::kRunLength:
      if (layout.run_bits > kMaxRunBits) refuse("run lengths have at most 16 bits");
      return;
    case Format::kStructured:
      if (layout.m < 2 || layout.m > kMaxBlockRows || layout.n < 1 || layout.n > kMaxSlots || layout.n > layout.m)
        refuse("n:m needs n of 1 to 8 and m of 2 to 16, n at most m; not " + to_string(layout));
      return;
    case Format::kBlock:
      if (layout.block_h < 1 || layout.block_w < 1) refuse("blocks need 1 row and 1 column or more");
      return;
  }
  refuse("unknown sparse format " + std::to_string(static_cast<unsigned>(layout.format)));
}

void check_structured(const std::vector<uint16_t> &values, size_t column, unsigned n, unsigned m) {
  for (size_t first = 0; first < values.size(); first += m) {
    const auto begin = values.begin() + static_cast<ptrdiff_t>(first);
    const auto end = values.begin() + static_cast<ptrdiff_t>(std::min<size_t>(first + m, values.size()));
    const auto nonzeros = (end - begin) - std::count(begin, end, 0);
    if (nonzeros > static_cast<ptrdiff_t>(n)) {
      refuse("column " + std::to_string(column) + ", rows from " + std::to_string(first) + ": " +
             std::to_string(nonzeros) + " non-zeros do not fit " + std::to_string(n) + ":" + std::to_string(m));
    }
  }
}

std::vector<uint32_t> runs_of(const std::vector<uint16_t> &values) {
  std::vector<uint32_t> runs;
  uint32_t zeros = 0;
  for (const uint16_t value : values) {
    if (value == 0) {
      ++zeros;
      continue;
    }
    runs.push_back(zeros);
    zeros = 0;
  }
  return runs;
}

size_t index_bytes_of(const std::vector<uint32_t> &runs, unsigned bits) {
  size_t fields = 0;
  for (const uint32_t run : runs) fields += fields_of(run, bits);
  return bits_to_bytes(fields * bits);
}

uint8_t choose_run_bits(const std::vector<std::vector<uint32_t>> &runs, uint8_t wanted) {
  uint8_t best = 0;
  size_t best_bytes = std::numeric_limits<size_t>::max();
  for (unsigned bits = wanted != 0 ? wanted : 1; bits <= (wanted != 0 ? wanted : kMaxRunBits); ++bits) {
    size_t bytes = 0;
    bool fits = true;
    for (const auto &column : runs) {
      const size_t own = index_bytes_of(column, bits);
      fits = fits && own <= kMaxIndexBytes;
      bytes += own;
    }
    if (fits && bytes < best_bytes) {
      best_bytes = bytes;
      best = static_cast<uint8_t>(bits);
    }
  }
  if (best == 0) {
    refuse("a column's run lengths of " + std::to_string(wanted) + " bits take more than 65535 bytes");
  }
  return best;
}

bool fits_structured(const MatrixView &matrix, unsigned n, unsigned m) {
  for (size_t column = 0; column < matrix.n; ++column) {
    for (size_t first = 0; first < matrix.k; first += m) {
      unsigned nonzeros = 0;
      for (size_t row = first; row < std::min<size_t>(first + m, matrix.k); ++row)
        nonzeros += is_zero(matrix.type, matrix.at(row, column)) ? 0 : 1;
      if (nonzeros > n) return false;
    }
  }
  return true;
}

}  // namespace cx::sparse
