#include <algorithm>
#include <bit>

#include "hw/common/sparse/bits.hpp"
#include "hw/common/sparse/sparse.hpp"

namespace cx::sparse {
namespace {

using Kind = StreamError::Kind;

std::string number(uint64_t value) { return std::to_string(value); }

/// Metadata bytes that follow from the header alone; run lengths: those of the two tables.
size_t fixed_metadata(const Header &header) {
  const Layout &layout = header.layout;
  const size_t columns = header.columns;
  switch (layout.format) {
    case Format::kDense:
      return 0;
    case Format::kBitmap:
      return columns * (2 + bits_to_bytes(header.k));
    case Format::kRunLength:
      return columns * 4;
    case Format::kStructured:
      return columns * bits_to_bytes(slots_of(header.k, layout.n, layout.m) * position_bits(layout.m));
    case Format::kBlock: {
      const size_t across = (columns + layout.block_w - 1) / layout.block_w;
      return across * (2 + bits_to_bytes((header.k + layout.block_h - 1) / layout.block_h));
    }
  }
  return 0;
}

/// Reads one group whose header has been checked.
class GroupReader {
 public:
  GroupReader(std::span<const uint8_t> bytes, const Header &header, size_t offset)
      : bytes_(bytes), header_(header), offset_(offset), value_at_(header.values_offset()) {}

  Group read() {
    group_.header = header_;
    group_.entries.reserve(header_.stored);
    group_.starts.reserve(header_.columns + 1);
    group_.starts.push_back(0);
    switch (header_.layout.format) {
      case Format::kDense:
        read_dense();
        break;
      case Format::kBitmap:
        read_bitmap();
        break;
      case Format::kRunLength:
        read_runs();
        break;
      case Format::kStructured:
        read_structured();
        break;
      case Format::kBlock:
        read_blocks();
        break;
    }
    if (group_.entries.size() != header_.stored)
      fail(Kind::kCount, 20, "says " + number(header_.stored) + " values, holds " + number(group_.entries.size()));
    check_zeros(kHeaderBytes + header_.metadata_bytes, header_.values_offset());
    check_zeros(value_at_, header_.bytes);
    return std::move(group_);
  }

 private:
  [[noreturn]] void fail(Kind kind, size_t at, const std::string &message) const {
    throw StreamError(kind, offset_ + at, message);
  }

  void check_zeros(size_t from, size_t to) const {
    for (size_t at = from; at < to; ++at)
      if (bytes_[at] != 0) fail(Kind::kPadding, at, "padding is not zero");
  }
  /// Bits that are left in a bit string of whole bytes that began at `start`.
  void check_rest(BitReader &bits, size_t start) const {
    while (bits.left() > 0) {
      const size_t at = start + bits.byte();
      if (bits.take(1) != 0) fail(Kind::kPadding, at, "padding bits are not zero");
    }
  }
  std::span<const uint8_t> metadata(size_t at, size_t size) const { return bytes_.subspan(at, size); }

  void end_column() { group_.starts.push_back(static_cast<uint32_t>(group_.entries.size())); }

  /// The next value of the value section. Never beyond it: the header's count bounds it.
  uint16_t next_value() {
    if (group_.entries.size() >= header_.stored)
      fail(Kind::kCount, 20, "says " + number(header_.stored) + " values, holds more");
    const size_t size = num::bytes_of(header_.type);
    const auto value = static_cast<uint16_t>(word_at(bytes_, value_at_, size));
    if (value != 0 && is_zero(header_.type, value))
      fail(Kind::kNegativeZero, value_at_, "a stored zero has its sign set");
    value_at_ += size;
    return value;
  }
  uint16_t store(size_t row) {
    const uint16_t value = next_value();
    group_.entries.push_back({static_cast<uint32_t>(row), value});
    return value;
  }
  void store_nonzero(size_t row) {
    const size_t at = value_at_;
    if (store(row) == 0) fail(Kind::kZero, at, "a zero is stored");
  }

  void read_dense() {
    for (uint32_t column = 0; column < header_.columns; ++column) {
      for (uint32_t row = 0; row < header_.k; ++row) store(row);
      end_column();
    }
  }

  void read_bitmap() {
    const size_t map_bytes = bits_to_bytes(header_.k);
    size_t at = kHeaderBytes + 2 * header_.columns;
    for (uint32_t column = 0; column < header_.columns; ++column, at += map_bytes) {
      BitReader bits(metadata(at, map_bytes));
      for (uint32_t row = 0; row < header_.k; ++row)
        if (bits.take(1) != 0) store_nonzero(row);
      check_rest(bits, at);
      check_count(kHeaderBytes + 2 * column, group_.entries.size() - group_.starts.back());
      end_column();
    }
  }

  void check_count(size_t at, size_t actual) const {
    const size_t stated = word_at(bytes_, at, 2);
    if (stated != actual) fail(Kind::kCount, at, "says " + number(stated) + ", holds " + number(actual));
  }

  void read_runs() {
    const size_t sizes_at = kHeaderBytes + 2 * header_.columns;
    const size_t fields_at = kHeaderBytes + 4 * header_.columns;
    size_t total = 4 * header_.columns;
    for (uint32_t column = 0; column < header_.columns; ++column) total += word_at(bytes_, sizes_at + 2 * column, 2);
    if (total != header_.metadata_bytes)
      fail(Kind::kLength, 24,
           "says " + number(header_.metadata_bytes) + " bytes of metadata, the columns take " + number(total));
    size_t at = fields_at;
    for (uint32_t column = 0; column < header_.columns; ++column) {
      const size_t size = word_at(bytes_, sizes_at + 2 * column, 2);
      read_run_column(at, size, word_at(bytes_, kHeaderBytes + 2 * column, 2), sizes_at + 2 * column);
      at += size;
      end_column();
    }
  }

  void read_run_column(size_t at, size_t size, size_t values, size_t size_at) {
    const unsigned width = header_.layout.run_bits;
    const uint32_t all_ones = (1u << width) - 1;
    BitReader bits(metadata(at, size));
    uint64_t row = 0;
    for (size_t i = 0; i < values; ++i, ++row) {
      uint32_t field = all_ones;
      while (field == all_ones) {
        if (bits.left() < width) fail(Kind::kCount, size_at, number(size) + " bytes of run lengths are too few");
        const size_t field_at = at + bits.byte();
        field = bits.take(width);
        row += field;
        if (row >= header_.k) fail(Kind::kIndex, field_at, "row " + number(row) + " of " + number(header_.k));
      }
      store_nonzero(row);
    }
    if (bits.left() >= 8) fail(Kind::kCount, size_at, number(size) + " bytes of run lengths are too many");
    check_rest(bits, at);
  }

  void read_structured() {
    const Layout &layout = header_.layout;
    const size_t size = bits_to_bytes(slots_of(header_.k, layout.n, layout.m) * position_bits(layout.m));
    size_t at = kHeaderBytes;
    for (uint32_t column = 0; column < header_.columns; ++column, at += size) {
      BitReader bits(metadata(at, size));
      for (uint32_t first = 0; first < header_.k; first += layout.m) read_slots(bits, at, first);
      check_rest(bits, at);
      end_column();
    }
  }

  void read_slots(BitReader &bits, size_t at, uint32_t first) {
    const Layout &layout = header_.layout;
    const uint32_t rows = std::min<uint32_t>(layout.m, header_.k - first);
    uint32_t used = 0;   // positions with a value
    uint32_t empty = 0;  // positions with a stored zero
    int last = -1;
    const size_t values_at = value_at_;
    for (uint32_t slot = 0; slot < std::min<uint32_t>(layout.n, rows); ++slot) {
      const size_t position_at = at + bits.byte();
      const auto position = static_cast<int>(bits.take(position_bits(layout.m)));
      if (position <= last || position >= static_cast<int>(rows))
        fail(Kind::kIndex, position_at,
             "position " + number(static_cast<uint64_t>(position)) + " of " + number(rows) +
                 " rows is out of range or does not ascend");
      last = position;
      (store(first + static_cast<uint32_t>(position)) != 0 ? used : empty) |= 1u << position;
    }
    uint32_t lowest = 0;
    for (uint32_t row = 0; std::popcount(lowest) < std::popcount(empty); ++row)
      if ((used >> row & 1) == 0) lowest |= 1u << row;
    if (lowest != empty) fail(Kind::kZero, values_at, "zeros of a block are not at its lowest free positions");
  }

  void read_blocks() {
    const Layout &layout = header_.layout;
    const size_t across = (header_.columns + layout.block_w - 1) / layout.block_w;
    const size_t down = (header_.k + layout.block_h - 1) / layout.block_h;
    const size_t map_bytes = bits_to_bytes(down);
    for (size_t index = 0; index < across; ++index) {
      const size_t at = kHeaderBytes + 2 * across + index * map_bytes;
      BitReader bits(metadata(at, map_bytes));
      std::vector<uint32_t> stored;
      for (uint32_t row = 0; row < down; ++row)
        if (bits.take(1) != 0) stored.push_back(row * layout.block_h);
      check_rest(bits, at);
      check_count(kHeaderBytes + 2 * index, stored.size());
      const size_t left = index * layout.block_w;
      read_block_columns(stored, std::min<size_t>(layout.block_w, header_.columns - left));
    }
  }

  void read_block_columns(const std::vector<uint32_t> &stored, size_t columns) {
    std::vector<bool> empty(stored.size(), true);
    const size_t values_at = value_at_;
    for (size_t column = 0; column < columns; ++column) {
      for (size_t i = 0; i < stored.size(); ++i) {
        const size_t bottom = std::min<size_t>(size_t{stored[i]} + header_.layout.block_h, header_.k);
        for (size_t row = stored[i]; row < bottom; ++row)
          if (store(row) != 0) empty[i] = false;
      }
      end_column();
    }
    const auto zeros = std::find(empty.begin(), empty.end(), true);
    if (zeros != empty.end())
      fail(Kind::kZero, values_at,
           "the block of row " + number(stored[static_cast<size_t>(zeros - empty.begin())]) +
               " holds nothing but zeros");
  }

  std::span<const uint8_t> bytes_;
  Header header_;
  size_t offset_;
  size_t value_at_;
  Group group_;
};

/// Checks of read_header() beyond single fields.
void check_parameters(const Header &header, const auto &fail) {
  const Layout &layout = header.layout;
  const auto want = [&](bool good, size_t at, const char *name) {
    if (!good)
      fail(Kind::kParameter, at, std::string(name) + " is not one of format " + std::string(name_of(layout.format)));
  };
  const bool runs = layout.format == Format::kRunLength;
  const bool slots = layout.format == Format::kStructured;
  const bool blocks = layout.format == Format::kBlock;
  want(runs    ? layout.run_bits >= 1 && layout.run_bits <= kMaxRunBits
       : slots ? layout.n >= 1 && layout.n <= kMaxSlots
               : layout.run_bits == 0 && layout.n == 0,
       5, runs ? "run_bits" : "n");
  want(slots ? layout.m >= 2 && layout.m <= kMaxBlockRows && layout.m >= layout.n : layout.m == 0, 6, "m");
  want(blocks ? layout.block_h >= 1 : layout.block_h == 0, 10, "block_h");
  want(blocks ? layout.block_w >= 1 : layout.block_w == 0, 12, "block_w");
}

void check_lengths(const Header &header, const auto &fail) {
  const size_t fixed = fixed_metadata(header);
  const bool runs = header.layout.format == Format::kRunLength;
  if (runs ? header.metadata_bytes < fixed : header.metadata_bytes != fixed)
    fail(Kind::kLength, 24, number(header.metadata_bytes) + " bytes of metadata, " + number(fixed) + " expected");
  if (header.stored > uint64_t{header.k} * header.columns)
    fail(Kind::kCount, 20,
         number(header.stored) + " values in " + number(uint64_t{header.k} * header.columns) + " places");
  const uint64_t bytes =
      header.values_offset() + round_up(uint64_t{header.stored} * num::bytes_of(header.type), kAlignment);
  if (header.bytes != bytes)
    fail(Kind::kLength, 28, "says " + number(header.bytes) + " bytes, its content takes " + number(bytes));
}

}  // namespace

StreamError::StreamError(Kind kind, size_t offset, const std::string &message)
    : std::runtime_error("sparse stream, byte " + number(offset) + ": " + message + " (" + std::string(name_of(kind)) +
                         ")"),
      kind_(kind),
      offset_(offset) {}

std::string_view name_of(StreamError::Kind kind) {
  constexpr std::string_view kNames[] = {"truncated", "magic",         "version",   "format",  "type",  "reserved",
                                         "columns",   "rows",          "parameter", "length",  "count", "index",
                                         "zero",      "negative zero", "padding",   "trailing"};
  return static_cast<size_t>(kind) < std::size(kNames) ? kNames[static_cast<size_t>(kind)] : "?";
}

size_t Header::values_offset() const { return kHeaderBytes + round_up(metadata_bytes, kAlignment); }

std::span<const Entry> Group::column(size_t index) const {
  return std::span(entries).subspan(starts.at(index), starts.at(index + 1) - starts.at(index));
}

uint32_t Group::longest_column() const {
  uint32_t longest = 0;
  for (size_t column = 0; column + 1 < starts.size(); ++column)
    longest = std::max(longest, starts[column + 1] - starts[column]);
  return longest;
}

Header read_header(std::span<const uint8_t> bytes, size_t offset) {
  const auto fail = [offset](Kind kind, size_t at, const std::string &message) {
    throw StreamError(kind, offset + at, message);
  };
  if (bytes.size() < kHeaderBytes) fail(Kind::kTruncated, bytes.size(), "ends inside a group's header");
  const auto word = [&](size_t at, size_t size) { return word_at(bytes, at, size); };
  if (word(0, 2) != 0x5053) fail(Kind::kMagic, 0, "no group starts here");
  if (word(2, 1) != 1) fail(Kind::kVersion, 2, "version " + number(word(2, 1)) + ", not 1");
  if (word(3, 1) >= kFormats) fail(Kind::kFormat, 3, "unknown format " + number(word(3, 1)));
  if (!is_weight_type(static_cast<num::DType>(word(4, 1))))
    fail(Kind::kType, 4, "type " + number(word(4, 1)) + " is none of weights");
  if (word(7, 1) != 0) fail(Kind::kReserved, 7, "a reserved byte is not zero");
  if (word(14, 2) != 0) fail(Kind::kReserved, 14, "reserved bytes are not zero");
  Header header;
  header.layout.format = static_cast<Format>(word(3, 1));
  header.type = static_cast<num::DType>(word(4, 1));
  (header.layout.format == Format::kRunLength ? header.layout.run_bits : header.layout.n) =
      static_cast<uint8_t>(word(5, 1));
  header.layout.m = static_cast<uint8_t>(word(6, 1));
  header.columns = word(8, 2);
  header.layout.block_h = static_cast<uint16_t>(word(10, 2));
  header.layout.block_w = static_cast<uint16_t>(word(12, 2));
  header.k = word(16, 4);
  header.stored = word(20, 4);
  header.metadata_bytes = word(24, 4);
  header.bytes = word(28, 4);
  if (header.columns < 1 || header.columns > kMaxColumns) fail(Kind::kColumns, 8, number(header.columns) + " columns");
  if (header.k < 1 || header.k > kMaxRows) fail(Kind::kRows, 16, number(header.k) + " rows");
  check_parameters(header, fail);
  check_lengths(header, fail);
  return header;
}

Group decode_group(std::span<const uint8_t> bytes, size_t offset) {
  const Header header = read_header(bytes, offset);
  if (bytes.size() < header.bytes) throw StreamError(Kind::kTruncated, offset + bytes.size(), "ends inside a group");
  if (bytes.size() > header.bytes) throw StreamError(Kind::kTrailing, offset + header.bytes, "bytes after the group");
  return GroupReader(bytes, header, offset).read();
}

std::vector<Group> decode_stream(std::span<const uint8_t> bytes, size_t k, size_t n, num::DType type,
                                 uint32_t group_columns) {
  std::vector<Group> groups;
  size_t at = 0;
  for (size_t column = 0; column < n; column += group_columns) {
    const Header header = read_header(bytes.subspan(at), at);
    if (header.type != type) throw StreamError(Kind::kType, at + 4, "another type than the matrix");
    if (header.k != k) throw StreamError(Kind::kRows, at + 16, number(header.k) + " rows, the matrix has " + number(k));
    if (header.columns != std::min<size_t>(group_columns, n - column))
      throw StreamError(
          Kind::kColumns, at + 8,
          number(header.columns) + " columns, " + number(std::min<size_t>(group_columns, n - column)) + " expected");
    const size_t size = std::min<size_t>(header.bytes, bytes.size() - at);
    groups.push_back(decode_group(bytes.subspan(at, size), at));
    at += size;
  }
  if (at < bytes.size()) throw StreamError(Kind::kTrailing, at, "bytes after the last group");
  return groups;
}

}  // namespace cx::sparse
