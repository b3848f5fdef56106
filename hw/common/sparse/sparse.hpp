// Compressed weight streams of the sparse computing accelerator: formats, encoder, strict decoder, sizes. Both sides of
// the PCIe line use these; README.md has the byte layout.
//
// A K x N matrix is cut into groups of `group_columns` columns (the last one may be narrower); a stream is its groups
// one after the other. Each group stands alone: its header says all that a decoder needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hw/common/num/formats.hpp"

namespace cx::sparse {

enum class Format : uint8_t {
  kDense = 0,       ///< every value
  kBitmap = 1,      ///< one bit for each row of each column
  kRunLength = 2,   ///< zeros in front of each value, in fields of `run_bits` bits
  kStructured = 3,  ///< n slots for each m rows of a column, with their positions
  kBlock = 4,       ///< whole blocks of block_h rows by block_w columns, one bit for each block
};
inline constexpr unsigned kFormats = 5;

/// "dense", "bitmap", "run-length", "structured", "block"; "?" outside the enumeration.
std::string_view name_of(Format format);

inline constexpr size_t kHeaderBytes = 32;
inline constexpr size_t kAlignment = 16;  ///< of groups, and of the values inside a group, in bytes
inline constexpr uint32_t kMaxRows = 65535;
inline constexpr uint32_t kMaxColumns = 1024;  ///< of a group
inline constexpr unsigned kMaxRunBits = 16;
inline constexpr unsigned kMaxSlots = 8;       ///< n of n:m
inline constexpr unsigned kMaxBlockRows = 16;  ///< m of n:m

/// How a group is stored. Fields that the format does not use are 0.
struct Layout {
  Format format = Format::kDense;
  uint8_t run_bits = 0;  ///< kRunLength: 1 to 16; 0 lets encode() take what is smallest for each group
  uint8_t n = 0;         ///< kStructured: 1 to 8, at most m
  uint8_t m = 0;         ///< kStructured: 2 to 16
  uint16_t block_h = 0;  ///< kBlock: rows of a block, 1 or more
  uint16_t block_w = 0;  ///< kBlock: columns of a block, 1 or more

  bool operator==(const Layout &) const = default;
};
Layout dense();
Layout bitmap();
Layout run_length(uint8_t run_bits = 0);
Layout structured(uint8_t n, uint8_t m);
Layout block(uint16_t h, uint16_t w);
/// "bitmap", "run-length", "2:4", "block 16x16", ...
std::string to_string(const Layout &layout);

/// Element types of weights: INT8, FP8_E4M3, FP8_E5M2, FP16 and BF16.
bool is_weight_type(num::DType type);
/// Whether raw bits are a zero of either sign.
bool is_zero(num::DType type, uint16_t bits);

/// K x N raw little-endian elements anywhere: element (k, n) is at data + (k * k_stride + n * n_stride) * element
/// bytes.
struct MatrixView {
  const uint8_t *data = nullptr;
  num::DType type = num::DType::INT8;
  size_t k = 0;
  size_t n = 0;
  ptrdiff_t k_stride = 0;  ///< in elements
  ptrdiff_t n_stride = 0;

  uint16_t at(size_t row, size_t column) const;
};
/// Rows of n elements one after the other.
MatrixView row_major(const void *data, num::DType type, size_t k, size_t n);

/// A group's header as it stands in the stream.
struct Header {
  Layout layout;
  num::DType type = num::DType::INT8;
  uint32_t k = 0;               ///< rows, 1 to kMaxRows
  uint32_t columns = 0;         ///< 1 to kMaxColumns
  uint32_t stored = 0;          ///< values in the group, stored zeros included
  uint32_t metadata_bytes = 0;  ///< without the padding that follows
  uint32_t bytes = 0;           ///< of the whole group, a multiple of kAlignment

  size_t values_offset() const;  ///< from the group's first byte
};

/// A value that a group stores: zeros that dense, structured and block groups hold are there too.
struct Entry {
  uint32_t k;
  uint16_t bits;  ///< raw; 8-bit types in the low byte

  bool operator==(const Entry &) const = default;
};

/// A decoded group: entries column by column, with ascending k inside a column.
struct Group {
  Header header;
  std::vector<Entry> entries;
  std::vector<uint32_t> starts;  ///< columns + 1 positions in `entries`

  std::span<const Entry> column(size_t index) const;
  uint32_t longest_column() const;  ///< entries
};

/// What is wrong with a stream, and where.
class StreamError : public std::runtime_error {
 public:
  enum class Kind {
    kTruncated,     ///< ends inside a header or a group
    kMagic,         ///< not a group
    kVersion,       ///< of another version
    kFormat,        ///< format outside the enumeration
    kType,          ///< not a weight type, or another one than the groups before
    kReserved,      ///< a reserved byte is not zero
    kColumns,       ///< columns out of range, or the group is none of the matrix
    kRows,          ///< rows out of range, or others than the groups before
    kParameter,     ///< run_bits, n, m, block_h or block_w
    kLength,        ///< bytes or metadata_bytes disagree with the content
    kCount,         ///< a count of values, blocks or index bytes disagrees with the content
    kIndex,         ///< a row not ascending or out of range
    kZero,          ///< a zero stored where none is allowed, or not where it must be; a block of zeros
    kNegativeZero,  ///< zeros are stored with all bits zero
    kPadding,       ///< padding bits that are not zero
    kTrailing,      ///< bytes after the last group
  };
  StreamError(Kind kind, size_t offset, const std::string &message);
  Kind kind() const { return kind_; }
  size_t offset() const { return offset_; }  ///< byte in the stream

 private:
  Kind kind_;
  size_t offset_;
};
std::string_view name_of(StreamError::Kind kind);

/// Bits that a group or stream takes. They add up to total_bits(), which is 8 times its bytes.
struct Size {
  uint64_t header_bits = 0;
  uint64_t metadata_bits = 0;  ///< counts, bitmaps, run lengths, positions
  uint64_t payload_bits = 0;   ///< stored values
  uint64_t padding_bits = 0;   ///< to bytes behind bitmaps, run lengths and positions; to kAlignment
  uint64_t stored = 0;         ///< values
  uint64_t nonzeros = 0;

  uint64_t total_bits() const { return header_bits + metadata_bits + payload_bits + padding_bits; }
  uint64_t bytes() const { return total_bits() / 8; }
  Size &operator+=(const Size &other);
  bool operator==(const Size &) const = default;
};

/// The stream of a matrix. Zeros of either sign are zeros; where they are stored all their bits are 0.
/// Throws std::invalid_argument when type, shape, layout or group_columns are out of range, or a column has more than n
/// non-zeros among m rows (the message says where).
std::vector<uint8_t> encode(const MatrixView &matrix, uint32_t group_columns, const Layout &layout);

/// Checks and returns the header at the start of `bytes`, which may go on behind the group. `offset` is the place of
/// `bytes` in the stream, for messages. Throws StreamError.
Header read_header(std::span<const uint8_t> bytes, size_t offset = 0);

/// Decodes a group that is exactly `bytes`. Throws StreamError for everything that README.md does not allow; what
/// decodes is, byte for byte, what encode() makes of the decoded values in this layout.
Group decode_group(std::span<const uint8_t> bytes, size_t offset = 0);

/// All groups of the stream of a K x N matrix. Throws StreamError.
std::vector<Group> decode_stream(std::span<const uint8_t> bytes, size_t k, size_t n, num::DType type,
                                 uint32_t group_columns);

/// What encode() takes, from closed formulas of the counts of non-zeros; throws as encode() does.
Size size_of(const MatrixView &matrix, uint32_t group_columns, const Layout &layout);

/// Whether no m rows of a column (counted from row 0) have more than n non-zeros.
bool fits_structured(const MatrixView &matrix, unsigned n, unsigned m);

/// Layouts worth a look for a matrix: dense, bitmap, run length, the n:m of m = 4, 8, 16 with the smallest n that fits
/// (where n < m), square blocks of 32, 16, 8 and 4.
std::vector<Layout> candidates(const MatrixView &matrix);

struct Choice {
  Layout layout;
  Size size;
};
/// The layout with the fewest bytes, the first of equal ones. Throws std::invalid_argument without candidates.
Choice choose_smallest(const MatrixView &matrix, uint32_t group_columns, std::span<const Layout> layouts);

}  // namespace cx::sparse
