#include <algorithm>

#include "hw/common/sparse/bits.hpp"
#include "hw/common/sparse/columns.hpp"

namespace cx::sparse {
namespace {

using Column = std::vector<uint16_t>;

/// One group while it is put together.
class GroupWriter {
 public:
  GroupWriter(const Layout &layout, num::DType type, std::vector<Column> columns)
      : layout_(layout), type_(type), columns_(std::move(columns)) {}

  void append_to(std::vector<uint8_t> &stream) {
    switch (layout_.format) {
      case Format::kDense:
        for (const Column &column : columns_) store(column.begin(), column.end());
        break;
      case Format::kBitmap:
        write_bitmap();
        break;
      case Format::kRunLength:
        write_runs();
        break;
      case Format::kStructured:
        for (const Column &column : columns_) write_structured(column);
        break;
      case Format::kBlock:
        write_blocks();
        break;
    }
    const size_t bytes = kHeaderBytes + round_up(metadata_.size(), kAlignment) + round_up(values_.size(), kAlignment);
    const size_t start = stream.size();
    append_header(stream, bytes);
    stream.insert(stream.end(), metadata_.begin(), metadata_.end());
    stream.resize(start + kHeaderBytes + round_up(metadata_.size(), kAlignment));
    stream.insert(stream.end(), values_.begin(), values_.end());
    stream.resize(start + bytes);
  }

 private:
  size_t rows() const { return columns_.front().size(); }

  void store(uint16_t value) {
    append_word(values_, value, num::bytes_of(type_));
    ++stored_;
  }
  template <typename Iterator>
  void store(Iterator begin, Iterator end) {
    std::for_each(begin, end, [this](uint16_t value) { store(value); });
  }
  void store_nonzeros(const Column &column) {
    for (const uint16_t value : column)
      if (value != 0) store(value);
  }

  void append_header(std::vector<uint8_t> &stream, size_t bytes) const {
    append_word(stream, 0x5053, 2);
    append_word(stream, 1, 1);
    append_word(stream, static_cast<uint8_t>(layout_.format), 1);
    append_word(stream, static_cast<uint8_t>(type_), 1);
    append_word(stream, layout_.format == Format::kRunLength ? layout_.run_bits : layout_.n, 1);
    append_word(stream, layout_.m, 1);
    append_word(stream, 0, 1);
    append_word(stream, columns_.size(), 2);
    append_word(stream, layout_.block_h, 2);
    append_word(stream, layout_.block_w, 2);
    append_word(stream, 0, 2);
    append_word(stream, rows(), 4);
    append_word(stream, stored_, 4);
    append_word(stream, metadata_.size(), 4);
    append_word(stream, bytes, 4);
  }

  void write_bitmap() {
    for (const Column &column : columns_)
      append_word(metadata_, column.size() - static_cast<size_t>(std::count(column.begin(), column.end(), 0)), 2);
    for (const Column &column : columns_) {
      BitWriter bits(metadata_);
      for (const uint16_t value : column) bits.put(value != 0, 1);
      store_nonzeros(column);
    }
  }

  void write_runs() {
    std::vector<std::vector<uint32_t>> runs;
    for (const Column &column : columns_) runs.push_back(runs_of(column));
    layout_.run_bits = choose_run_bits(runs, layout_.run_bits);
    for (const auto &column : runs) append_word(metadata_, column.size(), 2);
    for (const auto &column : runs) append_word(metadata_, index_bytes_of(column, layout_.run_bits), 2);
    const uint32_t all_ones = (1u << layout_.run_bits) - 1;
    for (const auto &column : runs) {
      BitWriter bits(metadata_);
      for (uint32_t run : column) {
        for (; run >= all_ones; run -= all_ones) bits.put(all_ones, layout_.run_bits);
        bits.put(run, layout_.run_bits);
      }
    }
    for (const Column &column : columns_) store_nonzeros(column);
  }

  void write_structured(const Column &column) {
    BitWriter bits(metadata_);
    for (size_t first = 0; first < column.size(); first += layout_.m) {
      const size_t rows = std::min<size_t>(layout_.m, column.size() - first);
      const auto block = column.begin() + static_cast<ptrdiff_t>(first);
      const size_t nonzeros = rows - static_cast<size_t>(std::count(block, block + static_cast<ptrdiff_t>(rows), 0));
      size_t zeros = std::min<size_t>(layout_.n, rows) - nonzeros;
      for (size_t row = 0; row < rows; ++row) {
        const uint16_t value = column[first + row];
        if (value == 0 && zeros == 0) continue;
        if (value == 0) --zeros;
        bits.put(static_cast<uint32_t>(row), position_bits(layout_.m));
        store(value);
      }
    }
  }

  void write_blocks() {
    const size_t down = (rows() + layout_.block_h - 1) / layout_.block_h;
    std::vector<std::vector<bool>> maps;
    for (size_t left = 0; left < columns_.size(); left += layout_.block_w) maps.push_back(block_map(left, down));
    for (const auto &map : maps)
      append_word(metadata_, static_cast<size_t>(std::count(map.begin(), map.end(), true)), 2);
    for (const auto &map : maps) {
      BitWriter bits(metadata_);
      for (const bool stored : map) bits.put(stored, 1);
    }
    for (size_t column = 0; column < columns_.size(); ++column) {
      const auto &map = maps[column / layout_.block_w];
      for (size_t row = 0; row < rows(); ++row)
        if (map[row / layout_.block_h]) store(columns_[column][row]);
    }
  }

  std::vector<bool> block_map(size_t left, size_t down) const {
    std::vector<bool> map(down);
    const size_t right = std::min(left + layout_.block_w, columns_.size());
    for (size_t column = left; column < right; ++column)
      for (size_t row = 0; row < rows(); ++row)
        if (columns_[column][row] != 0) map[row / layout_.block_h] = true;
    return map;
  }

  Layout layout_;
  num::DType type_;
  std::vector<Column> columns_;
  std::vector<uint8_t> metadata_;
  std::vector<uint8_t> values_;
  size_t stored_ = 0;
};

}  // namespace

std::vector<uint8_t> encode(const MatrixView &matrix, uint32_t group_columns, const Layout &layout) {
  check_arguments(matrix, group_columns, layout);
  std::vector<uint8_t> stream;
  for (size_t first = 0; first < matrix.n; first += group_columns) {
    std::vector<Column> columns;
    for (size_t column = first; column < std::min<size_t>(first + group_columns, matrix.n); ++column) {
      columns.push_back(read_column(matrix, column));
      if (layout.format == Format::kStructured) check_structured(columns.back(), column, layout.n, layout.m);
    }
    GroupWriter(layout, matrix.type, std::move(columns)).append_to(stream);
  }
  return stream;
}

}  // namespace cx::sparse
