#include <algorithm>
#include <optional>

#include "hw/common/sparse/bits.hpp"
#include "hw/common/sparse/columns.hpp"

namespace cx::sparse {
namespace {

using Column = std::vector<uint16_t>;

size_t nonzeros_of(const Column &column) {
  return column.size() - static_cast<size_t>(std::count(column.begin(), column.end(), 0));
}

/// Metadata of a group: bits that mean something, and bytes that hold them.
struct Metadata {
  uint64_t bits = 0;
  uint64_t bytes = 0;

  void add(uint64_t used, uint64_t taken) {
    bits += used;
    bytes += taken;
  }
};

Metadata run_metadata(const std::vector<Column> &columns, uint8_t wanted) {
  std::vector<std::vector<uint32_t>> runs;
  for (const Column &column : columns) runs.push_back(runs_of(column));
  const unsigned bits = choose_run_bits(runs, wanted);
  Metadata result;
  for (const auto &column : runs) {
    uint64_t fields = 0;
    for (const uint32_t run : column) fields += fields_of(run, bits);
    result.add(32 + fields * bits, 4 + bits_to_bytes(fields * bits));
  }
  return result;
}

/// Elements in those blocks of one column of blocks that hold a non-zero.
uint64_t stored_in_blocks(const std::vector<Column> &columns, size_t left, const Layout &layout) {
  const size_t right = std::min(left + layout.block_w, columns.size());
  const size_t rows = columns.front().size();
  uint64_t stored = 0;
  for (size_t top = 0; top < rows; top += layout.block_h) {
    const size_t bottom = std::min(top + layout.block_h, rows);
    const bool any = std::any_of(columns.begin() + static_cast<ptrdiff_t>(left),
                                 columns.begin() + static_cast<ptrdiff_t>(right), [&](const Column &column) {
                                   return std::any_of(column.begin() + static_cast<ptrdiff_t>(top),
                                                      column.begin() + static_cast<ptrdiff_t>(bottom),
                                                      [](uint16_t value) { return value != 0; });
                                 });
    if (any) stored += (bottom - top) * (right - left);
  }
  return stored;
}

Size group_size(const std::vector<Column> &columns, num::DType type, const Layout &layout) {
  const uint64_t count = columns.size();
  const uint64_t k = columns.front().size();
  Size size;
  for (const Column &column : columns) size.nonzeros += nonzeros_of(column);
  Metadata metadata;
  size.stored = size.nonzeros;
  switch (layout.format) {
    case Format::kDense:
      size.stored = k * count;
      break;
    case Format::kBitmap:
      metadata.add(count * (16 + k), count * (2 + bits_to_bytes(k)));
      break;
    case Format::kRunLength:
      metadata = run_metadata(columns, layout.run_bits);
      break;
    case Format::kStructured: {
      const uint64_t slots = slots_of(k, layout.n, layout.m);
      size.stored = slots * count;
      metadata.add(size.stored * position_bits(layout.m), count * bits_to_bytes(slots * position_bits(layout.m)));
      break;
    }
    case Format::kBlock: {
      const uint64_t down = (k + layout.block_h - 1) / layout.block_h;
      size.stored = 0;
      for (size_t left = 0; left < count; left += layout.block_w) {
        size.stored += stored_in_blocks(columns, left, layout);
        metadata.add(16 + down, 2 + bits_to_bytes(down));
      }
      break;
    }
  }
  const uint64_t element_bytes = num::bytes_of(type);
  size.header_bits = 8 * kHeaderBytes;
  size.metadata_bits = metadata.bits;
  size.payload_bits = 8 * element_bytes * size.stored;
  const uint64_t bytes =
      kHeaderBytes + round_up(metadata.bytes, kAlignment) + round_up(element_bytes * size.stored, kAlignment);
  size.padding_bits = 8 * bytes - size.header_bits - size.metadata_bits - size.payload_bits;
  return size;
}

/// The smallest n with n:m, or none below m.
std::optional<Layout> smallest_structured(const MatrixView &matrix, uint8_t m) {
  for (uint8_t n = 1; n < m && n <= kMaxSlots; ++n)
    if (fits_structured(matrix, n, m)) return structured(n, m);
  return std::nullopt;
}

}  // namespace

Size &Size::operator+=(const Size &other) {
  header_bits += other.header_bits;
  metadata_bits += other.metadata_bits;
  payload_bits += other.payload_bits;
  padding_bits += other.padding_bits;
  stored += other.stored;
  nonzeros += other.nonzeros;
  return *this;
}

Size size_of(const MatrixView &matrix, uint32_t group_columns, const Layout &layout) {
  check_arguments(matrix, group_columns, layout);
  Size total;
  for (size_t first = 0; first < matrix.n; first += group_columns) {
    std::vector<Column> columns;
    for (size_t column = first; column < std::min<size_t>(first + group_columns, matrix.n); ++column) {
      columns.push_back(read_column(matrix, column));
      if (layout.format == Format::kStructured) check_structured(columns.back(), column, layout.n, layout.m);
    }
    total += group_size(columns, matrix.type, layout);
  }
  return total;
}

std::vector<Layout> candidates(const MatrixView &matrix) {
  std::vector<Layout> layouts = {dense(), bitmap(), run_length()};
  for (const uint8_t m : {4, 8, 16})
    if (const auto layout = smallest_structured(matrix, m)) layouts.push_back(*layout);
  for (const uint16_t side : {32, 16, 8, 4}) layouts.push_back(block(side, side));
  return layouts;
}

Choice choose_smallest(const MatrixView &matrix, uint32_t group_columns, std::span<const Layout> layouts) {
  if (layouts.empty()) throw std::invalid_argument("no layouts to choose from");
  Choice best{layouts.front(), size_of(matrix, group_columns, layouts.front())};
  for (const Layout &layout : layouts.subspan(1)) {
    const Size size = size_of(matrix, group_columns, layout);
    if (size.bytes() < best.size.bytes()) best = {layout, size};
  }
  return best;
}

}  // namespace cx::sparse
