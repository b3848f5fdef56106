// Compressed weights: round trips, sizes against independent formulas, and one broken stream for each rule.
#include "hw/common/sparse/sparse.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>

#include "tb/hw/common/num_random.hpp"

using namespace cx;
using namespace cx::sparse;
using num::DType;
using Kind = StreamError::Kind;

namespace {

constexpr DType kTypes[] = {DType::INT8, DType::FP8_E4M3, DType::FP8_E5M2, DType::FP16, DType::BF16};

/// A dense matrix of raw bits, row-major.
struct Dense {
  DType type;
  size_t k, n;
  std::vector<uint16_t> bits;

  uint16_t at(size_t row, size_t column) const { return bits[row * n + column]; }
  bool zero(size_t row, size_t column) const {
    const uint16_t magnitude = num::bytes_of(type) == 2 ? 0x7FFF : type == DType::INT8 ? 0xFF : 0x7F;
    return (at(row, column) & magnitude) == 0;
  }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> result;
    for (const uint16_t value : bits) {
      result.push_back(static_cast<uint8_t>(value));
      if (num::bytes_of(type) == 2) result.push_back(static_cast<uint8_t>(value >> 8));
    }
    return result;
  }
};

/// Zeros of both signs with probability `percent`, else any bits.
Dense random_matrix(test::Random &random, DType type, size_t k, size_t n, uint32_t percent) {
  Dense matrix{type, k, n, std::vector<uint16_t>(k * n)};
  const bool wide = num::bytes_of(type) == 2;
  for (uint16_t &value : matrix.bits) {
    if (random.between(0, 99) >= percent)
      value = static_cast<uint16_t>(random.bits() & (wide ? 0xFFFF : 0xFF));
    else if (type != DType::INT8 && random.one_in(3))
      value = wide ? 0x8000 : 0x80;
  }
  return matrix;
}

/// Zeroes all but the first n non-zeros of each m rows.
void make_structured(Dense &matrix, size_t n, size_t m) {
  for (size_t column = 0; column < matrix.n; ++column) {
    for (size_t first = 0; first < matrix.k; first += m) {
      size_t found = 0;
      for (size_t row = first; row < std::min(first + m, matrix.k); ++row)
        if (!matrix.zero(row, column) && ++found > n) matrix.bits[row * matrix.n + column] = 0;
    }
  }
}

struct Stream {
  std::vector<uint8_t> bytes;
  Dense matrix;
  uint32_t group;
  Layout layout;

  std::vector<Group> decode() const { return decode_stream(bytes, matrix.k, matrix.n, matrix.type, group); }
};

Stream make_stream(const Dense &matrix, uint32_t group, const Layout &layout) {
  const auto raw = matrix.bytes();
  return {encode(row_major(raw.data(), matrix.type, matrix.k, matrix.n), group, layout), matrix, group, layout};
}

/// The entries must be the matrix: every non-zero, and zeros only where the format stores them.
void check_content(const Stream &stream) {
  const auto groups = stream.decode();
  const Dense &matrix = stream.matrix;
  REQUIRE(groups.size() == (matrix.n + stream.group - 1) / stream.group);
  Dense seen{matrix.type, matrix.k, matrix.n, std::vector<uint16_t>(matrix.bits.size())};
  bool ascending = true;
  size_t zeros = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (size_t c = 0; c < groups[g].header.columns; ++c) {
      int64_t last = -1;
      for (const Entry &entry : groups[g].column(c)) {
        ascending = ascending && entry.k > last && entry.k < matrix.k;
        last = entry.k;
        zeros += entry.bits == 0;
        seen.bits.at(entry.k * matrix.n + g * stream.group + c) = entry.bits;
      }
    }
  }
  CHECK(ascending);
  if (stream.layout.format == Format::kBitmap || stream.layout.format == Format::kRunLength) CHECK(zeros == 0);
  bool same = true;
  for (size_t row = 0; row < matrix.k; ++row)
    for (size_t column = 0; column < matrix.n; ++column)
      same = same && seen.at(row, column) == (matrix.zero(row, column) ? 0 : matrix.at(row, column));
  CHECK(same);
}

size_t pad(size_t bytes) { return (bytes + 15) & ~size_t{15}; }

/// Bytes of metadata and stored values of one group, written from the README's table.
struct Expected {
  size_t metadata = 0;
  size_t stored = 0;
};
Expected expected_group(const Dense &matrix, size_t first, size_t columns, const Layout &layout, unsigned run_bits) {
  Expected result;
  const size_t k = matrix.k;
  size_t position = 1;
  while ((size_t{1} << position) < layout.m) ++position;
  for (size_t c = first; c < first + columns; ++c) {
    size_t nonzeros = 0;
    size_t fields = 0;
    size_t run = 0;
    for (size_t row = 0; row < k; ++row, ++run) {
      if (matrix.zero(row, c)) continue;
      ++nonzeros;
      if (run_bits > 0) fields += 1 + run / ((1u << run_bits) - 1);
      run = static_cast<size_t>(-1);
    }
    switch (layout.format) {
      case Format::kDense:
        result.stored += k;
        break;
      case Format::kBitmap:
        result.stored += nonzeros;
        result.metadata += 2 + (k + 7) / 8;
        break;
      case Format::kRunLength:
        result.stored += nonzeros;
        result.metadata += 4 + (fields * run_bits + 7) / 8;
        break;
      case Format::kStructured: {
        const size_t slots = layout.n * (k / layout.m) + std::min<size_t>(layout.n, k % layout.m);
        result.stored += slots;
        result.metadata += (slots * position + 7) / 8;
        break;
      }
      case Format::kBlock: {
        const size_t left = first + (c - first) / layout.block_w * layout.block_w;
        const size_t right = std::min<size_t>(left + layout.block_w, first + columns);
        if (c == left) result.metadata += 2 + ((k + layout.block_h - 1) / layout.block_h + 7) / 8;
        for (size_t row = 0; row < k; ++row) {
          const size_t top = row / layout.block_h * layout.block_h;
          bool any = false;
          for (size_t y = top; y < std::min<size_t>(top + layout.block_h, k); ++y)
            for (size_t x = left; x < right; ++x) any = any || !matrix.zero(y, x);
          result.stored += any;
        }
        break;
      }
    }
  }
  return result;
}

void check_size(const Stream &stream) {
  const Dense &matrix = stream.matrix;
  const auto groups = stream.decode();
  const size_t element = num::bytes_of(matrix.type);
  size_t bytes = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const size_t first = g * stream.group;
    const Header &header = groups[g].header;
    const Expected want = expected_group(matrix, first, header.columns, stream.layout, header.layout.run_bits);
    CHECK(header.metadata_bytes == want.metadata);
    CHECK(header.stored == want.stored);
    bytes += 32 + pad(want.metadata) + pad(want.stored * element);
  }
  CHECK(stream.bytes.size() == bytes);
  const auto raw = matrix.bytes();
  const Size size = size_of(row_major(raw.data(), matrix.type, matrix.k, matrix.n), stream.group, stream.layout);
  CHECK(size.total_bits() == 8 * bytes);
  CHECK(size.bytes() == bytes);
  size_t nonzeros = 0;
  for (size_t row = 0; row < matrix.k; ++row)
    for (size_t column = 0; column < matrix.n; ++column) nonzeros += !matrix.zero(row, column);
  CHECK(size.nonzeros == nonzeros);
  CHECK(size.payload_bits == 8 * element * size.stored);
  CHECK(size.header_bits == 256 * groups.size());
}

/// Decodes and wants this error at this byte.
void check_error(const Stream &stream, const std::vector<uint8_t> &bytes, Kind kind, size_t offset) {
  const Dense &matrix = stream.matrix;
  try {
    decode_stream(bytes, matrix.k, matrix.n, matrix.type, stream.group);
    FAIL("decoded, wanted " << name_of(kind));
  } catch (const StreamError &error) {
    INFO(error.what());
    CHECK(name_of(error.kind()) == name_of(kind));
    CHECK(error.offset() == offset);
  }
}

void check_changed(const Stream &stream, size_t offset, uint8_t value, Kind kind, size_t at) {
  auto bytes = stream.bytes;
  REQUIRE(bytes.at(offset) != value);
  bytes[offset] = value;
  check_error(stream, bytes, kind, at);
}
void check_changed(const Stream &stream, size_t offset, uint8_t value, Kind kind) {
  check_changed(stream, offset, value, kind, offset);
}

Dense int8_matrix(size_t k, size_t n, const std::map<std::pair<size_t, size_t>, int> &values) {
  Dense matrix{DType::INT8, k, n, std::vector<uint16_t>(k * n)};
  for (const auto &[place, value] : values)
    matrix.bits[place.first * n + place.second] = static_cast<uint16_t>(value & 0xFF);
  return matrix;
}

}  // namespace

TEST_CASE("random matrices come back from every format, in the size that the formulas say") {
  test::Random random(test::logged_seed(11));
  for (int round = 0; round < 150; ++round) {
    const DType type = kTypes[random.between(0, 4)];
    const size_t k = random.one_in(8) ? random.between(200, 700) : random.between(1, 70);
    const size_t n = random.between(1, 40);
    const uint32_t group = random.between(1, 33);
    const auto percent = static_cast<uint32_t>(std::array{0, 30, 60, 90, 98, 100}[random.between(0, 5)]);
    const Dense matrix = random_matrix(random, type, k, n, percent);
    const auto h = static_cast<uint16_t>(random.between(1, 20));
    const auto w = static_cast<uint16_t>(random.between(1, 20));
    const auto run_bits = static_cast<uint8_t>(random.between(1, 16));
    INFO("k " << k << " n " << n << " group " << group << " percent " << percent << " type " << num::name_of(type));
    for (const Layout &layout : {dense(), bitmap(), run_length(), run_length(run_bits), block(h, w)}) {
      INFO(to_string(layout) << " run bits " << int(layout.run_bits));
      const Stream stream = make_stream(matrix, group, layout);
      check_content(stream);
      check_size(stream);
    }
    const auto m = static_cast<uint8_t>(random.between(2, 16));
    const auto slots = static_cast<uint8_t>(random.between(1, std::min<uint32_t>(m, 8)));
    Dense pruned = matrix;
    make_structured(pruned, slots, m);
    const Stream stream = make_stream(pruned, group, structured(slots, m));
    INFO(to_string(stream.layout));
    check_content(stream);
    check_size(stream);
  }
}

TEST_CASE("a decoded stream encodes to the same bytes, and the widest k works") {
  test::Random random(test::logged_seed(12));
  const Dense tall = random_matrix(random, DType::FP16, 65535, 2, 50);
  for (const Layout &layout : {dense(), bitmap(), run_length(), block(16, 1), block(65535, 1)}) {
    const Stream stream = make_stream(tall, 2, layout);
    INFO(to_string(layout));
    check_content(stream);
    Dense again = tall;
    std::fill(again.bits.begin(), again.bits.end(), uint16_t{0});
    const auto groups = stream.decode();
    for (size_t c = 0; c < 2; ++c)
      for (const Entry &entry : groups[0].column(c)) again.bits[entry.k * 2 + c] = entry.bits;
    CHECK(make_stream(again, 2, layout).bytes == stream.bytes);
  }
}

TEST_CASE("a transposed view gives the same stream") {
  test::Random random(test::logged_seed(13));
  const Dense matrix = random_matrix(random, DType::BF16, 33, 20, 60);
  Dense turned{matrix.type, matrix.n, matrix.k, std::vector<uint16_t>(matrix.bits.size())};
  for (size_t row = 0; row < matrix.k; ++row)
    for (size_t column = 0; column < matrix.n; ++column) turned.bits[column * matrix.k + row] = matrix.at(row, column);
  const auto raw = turned.bytes();
  const MatrixView view{raw.data(), matrix.type, matrix.k, matrix.n, 1, static_cast<ptrdiff_t>(matrix.k)};
  CHECK(encode(view, 8, bitmap()) == make_stream(matrix, 8, bitmap()).bytes);
}

TEST_CASE("known bytes") {
  const Stream stream = make_stream(int8_matrix(10, 2, {{{3, 0}, 5}, {{9, 0}, -1}, {{0, 1}, 7}}), 2, run_length(2));
  // Column 0: 3 zeros (3, 0), then 5 zeros (3, 2); column 1: 0.
  const std::vector<uint8_t> want = {0x53, 0x50, 1, 2, 5, 2, 0, 0, 2,          0, 0, 0, 0,  0, 0, 0,  //
                                     10,   0,    0, 0, 3, 0, 0, 0, 10,         0, 0, 0, 64, 0, 0, 0,  //
                                     2,    0,    1, 0, 1, 0, 1, 0, 0b10110011, 0, 0, 0, 0,  0, 0, 0,  //
                                     5,    0xFF, 7, 0, 0, 0, 0, 0, 0,          0, 0, 0, 0,  0, 0, 0};
  CHECK(stream.bytes == want);
}

TEST_CASE("arguments out of range are refused") {
  const std::vector<uint8_t> raw(64, 1);
  const MatrixView good = row_major(raw.data(), DType::INT8, 8, 4);
  CHECK_NOTHROW(encode(good, 4, dense()));
  CHECK_THROWS_AS(encode(row_major(raw.data(), DType::FP32, 2, 2), 4, dense()), std::invalid_argument);
  CHECK_THROWS_AS(encode(row_major(raw.data(), DType::INT8, 0, 4), 4, dense()), std::invalid_argument);
  CHECK_THROWS_AS(encode(row_major(raw.data(), DType::INT8, 65536, 0), 4, dense()), std::invalid_argument);
  CHECK_THROWS_AS(encode(row_major(raw.data(), DType::INT8, 4, 0), 4, dense()), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 0, dense()), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 1025, dense()), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, run_length(17)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, structured(0, 4)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, structured(3, 2)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, structured(9, 16)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, structured(2, 17)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, structured(1, 1)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, block(0, 4)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, block(4, 0)), std::invalid_argument);
  CHECK_THROWS_AS(encode(good, 4, Layout{static_cast<Format>(5)}), std::invalid_argument);
  CHECK_THROWS_WITH(encode(good, 4, structured(2, 4)),
                    Catch::Contains("column 0, rows from 0: 4 non-zeros do not fit 2:4"));
  CHECK_THROWS_AS(choose_smallest(good, 4, {}), std::invalid_argument);
  // Fields of 16 bits for more than 32767 values are longer than index_bytes can say.
  const std::vector<uint8_t> tall(40000, 1);
  CHECK_THROWS_AS(encode(row_major(tall.data(), DType::INT8, 40000, 1), 1, run_length(16)), std::invalid_argument);
  CHECK_NOTHROW(encode(row_major(tall.data(), DType::INT8, 40000, 1), 1, run_length()));
}

TEST_CASE("every field of the header is checked") {
  const Stream stream = make_stream(int8_matrix(20, 3, {{{1, 0}, 4}, {{19, 1}, 9}, {{5, 2}, 1}}), 3, bitmap());
  check_changed(stream, 0, 'P', Kind::kMagic);
  check_changed(stream, 1, 'S', Kind::kMagic, 0);
  check_changed(stream, 2, 2, Kind::kVersion);
  check_changed(stream, 3, 5, Kind::kFormat);
  check_changed(stream, 4, 0, Kind::kType);  // FP32
  check_changed(stream, 4, 3, Kind::kType);  // a weight type, not the matrix's
  check_changed(stream, 5, 1, Kind::kParameter);
  check_changed(stream, 6, 1, Kind::kParameter);
  check_changed(stream, 7, 1, Kind::kReserved);
  check_changed(stream, 8, 0, Kind::kColumns);
  check_changed(stream, 9, 5, Kind::kColumns, 8);
  check_changed(stream, 10, 1, Kind::kParameter);
  check_changed(stream, 12, 1, Kind::kParameter);
  check_changed(stream, 14, 1, Kind::kReserved);
  check_changed(stream, 15, 1, Kind::kReserved, 14);
  check_changed(stream, 16, 0, Kind::kRows);
  check_changed(stream, 18, 1, Kind::kRows, 16);
  check_changed(stream, 16, 21, Kind::kRows);  // as much metadata, not the matrix's
  check_changed(stream, 20, 2, Kind::kCount);
  check_changed(stream, 20, 4, Kind::kCount);
  check_changed(stream, 20, 61, Kind::kCount);
  check_changed(stream, 24, 16, Kind::kLength);
  check_changed(stream, 28, 80, Kind::kLength);
}

TEST_CASE("parameters of each format are checked") {
  const Dense matrix = int8_matrix(20, 3, {{{1, 0}, 4}, {{19, 1}, 9}, {{5, 2}, 1}});
  check_changed(make_stream(matrix, 3, run_length()), 5, 0, Kind::kParameter);
  check_changed(make_stream(matrix, 3, run_length()), 5, 17, Kind::kParameter);
  const Stream slots = make_stream(matrix, 3, structured(2, 4));
  check_changed(slots, 5, 0, Kind::kParameter);
  check_changed(slots, 5, 9, Kind::kParameter);
  check_changed(slots, 6, 17, Kind::kParameter);
  check_changed(slots, 6, 1, Kind::kParameter);
  const Stream blocks = make_stream(matrix, 3, block(4, 2));
  check_changed(blocks, 10, 0, Kind::kParameter);
  check_changed(blocks, 12, 0, Kind::kParameter);
  check_changed(make_stream(matrix, 3, dense()), 10, 4, Kind::kParameter);
}

TEST_CASE("columns of another group than the matrix's are refused") {
  const Stream stream = make_stream(int8_matrix(8, 6, {{{1, 0}, 4}}), 4, bitmap());
  CHECK_NOTHROW(stream.decode());
  Stream wider = stream;
  wider.group = 6;
  check_error(wider, stream.bytes, Kind::kColumns, 8);
}

TEST_CASE("truncated and trailing bytes are refused") {
  const Stream stream = make_stream(int8_matrix(20, 3, {{{1, 0}, 4}, {{19, 1}, 9}}), 2, bitmap());
  REQUIRE(stream.bytes.size() == 2 * 64 - 16);  // the second group has no values
  for (size_t size = 0; size < stream.bytes.size(); ++size)
    check_error(stream, {stream.bytes.begin(), stream.bytes.begin() + static_cast<ptrdiff_t>(size)}, Kind::kTruncated,
                size);
  auto longer = stream.bytes;
  longer.push_back(0);
  check_error(stream, longer, Kind::kTrailing, stream.bytes.size());
  try {
    decode_group(stream.bytes, 1000);
    FAIL("decoded");
  } catch (const StreamError &error) {
    CHECK(error.kind() == Kind::kTrailing);
    CHECK(error.offset() == 1000 + 64);
  }
}

TEST_CASE("bitmaps: counts, zeros, padding") {
  const Stream stream = make_stream(int8_matrix(12, 2, {{{1, 0}, 4}, {{9, 0}, 9}, {{3, 1}, 2}}), 2, bitmap());
  // count 32, 34; maps 36..37, 38..39; padding 40..47; values 48, 49, 50; padding 51..63
  check_changed(stream, 32, 1, Kind::kCount);
  check_changed(stream, 34, 2, Kind::kCount);
  check_changed(stream, 36, 0b0, Kind::kCount, 32);
  check_changed(stream, 37, 0b0001'0010, Kind::kPadding);
  check_changed(stream, 48, 0, Kind::kZero);
  check_changed(stream, 40, 1, Kind::kPadding);
  check_changed(stream, 51, 1, Kind::kPadding);
  check_changed(stream, 63, 1, Kind::kPadding);
}

TEST_CASE("run lengths: counts, rows, zeros, padding") {
  const Stream stream = make_stream(int8_matrix(20, 2, {{{3, 0}, 4}, {{19, 0}, 9}, {{0, 1}, 2}}), 2, run_length(3));
  // count 32, 34; index bytes 36, 38; fields 40..41 (3, then 7 7 1), 42 (0); values 48, 49, 50
  REQUIRE(stream.bytes.at(40) == 0b11'111'011);
  REQUIRE(stream.bytes.at(41) == 0b0000'001'1);
  check_changed(stream, 32, 3, Kind::kIndex, 41);  // reads a padding bit as a run
  check_changed(stream, 32, 1, Kind::kCount, 36);
  check_changed(stream, 36, 3, Kind::kLength, 24);
  auto moved = stream.bytes;  // a byte of column 0 is given to column 1
  moved[36] = 1;
  moved[38] = 2;
  check_error(stream, moved, Kind::kCount, 36);
  moved[36] = 3;
  moved[38] = 0;
  check_error(stream, moved, Kind::kCount, 36);
  check_changed(stream, 41, 0b0000'010'1, Kind::kIndex);
  check_changed(stream, 41, 0b1000'001'1, Kind::kPadding);
  check_changed(stream, 42, 0b0000'1'000, Kind::kPadding);
  check_changed(stream, 50, 0, Kind::kZero);
  check_changed(stream, 43, 1, Kind::kPadding);
}

TEST_CASE("structured: positions, places of zeros, padding") {
  // Rows 0..3: 1 and 3 hold values; rows 4..7: row 5, and a zero at 4; rows 8..9: nothing, zeros at 8 and 9.
  const Stream stream = make_stream(int8_matrix(10, 1, {{{1, 0}, 4}, {{3, 0}, 9}, {{5, 0}, 2}}), 1, structured(2, 4));
  // positions 32..33: 1 3 0 1, 0 1; padding 34..47; values 48..53: 4 9 0 2 0 0
  REQUIRE(stream.bytes.at(32) == 0b01'00'11'01);
  REQUIRE(stream.bytes.at(33) == 0b0000'01'00);
  check_changed(stream, 32, 0b01'00'01'11, Kind::kIndex);     // descending
  check_changed(stream, 32, 0b01'00'01'01, Kind::kIndex);     // twice
  check_changed(stream, 33, 0b0000'10'00, Kind::kIndex);      // beyond the last row
  check_changed(stream, 33, 0b1000'01'00, Kind::kPadding);    // beyond the last position
  check_changed(stream, 32, 0b10'01'11'01, Kind::kZero, 50);  // a zero at 5, 2 at 6: the zero belongs to 4
  check_changed(stream, 48, 0, Kind::kZero, 48);              // a zero at 1, where 0 is free
  check_changed(stream, 34, 1, Kind::kPadding);
  check_changed(stream, 54, 1, Kind::kPadding);
  check_changed(stream, 20, 5, Kind::kCount);
}

TEST_CASE("blocks: counts, blocks of zeros, padding") {
  // 3 x 2 blocks of 4 x 2 in 10 rows and 3 columns.
  const Stream stream = make_stream(int8_matrix(10, 3, {{{1, 0}, 4}, {{9, 1}, 9}, {{5, 2}, 2}}), 3, block(4, 2));
  // counts 32: 2, 34: 1; maps 36: 0b101, 37: 0b010; values 48: 4 + 2 rows of columns 0 and 1, 4 of column 2
  REQUIRE(stream.bytes.at(36) == 0b101);
  REQUIRE(stream.bytes.at(20) == 16);
  check_changed(stream, 32, 3, Kind::kCount);
  check_changed(stream, 34, 0, Kind::kCount);
  check_changed(stream, 36, 0b111, Kind::kCount, 32);
  check_changed(stream, 36, 0b1101, Kind::kPadding);
  check_changed(stream, 49, 0, Kind::kZero, 48);
  check_changed(stream, 38, 1, Kind::kPadding);
  auto other = stream.bytes;  // the map agrees with its count, the values' count does not
  other[36] = 0b011;
  check_error(stream, other, Kind::kCount, 20);
}

TEST_CASE("zeros with a sign are refused where zeros are stored") {
  for (const Layout &layout : {dense(), structured(2, 4), block(4, 1)}) {
    Dense matrix{DType::FP16, 8, 1, {0x3C00, 0, 0, 0, 0x4000, 0, 0, 0}};
    const Stream stream = make_stream(matrix, 1, layout);
    const Header header = read_header(stream.bytes);
    const auto value = stream.bytes.begin() + static_cast<ptrdiff_t>(header.values_offset());
    const auto zero = static_cast<size_t>(value - stream.bytes.begin()) + 2;  // the second value
    INFO(to_string(layout));
    REQUIRE(stream.bytes.at(zero + 1) == 0);
    check_changed(stream, zero + 1, 0x80, Kind::kNegativeZero, zero);
  }
}

TEST_CASE("the smallest format is chosen") {
  test::Random random(test::logged_seed(14));
  const auto choose = [](const Dense &matrix) {
    const auto raw = matrix.bytes();
    const MatrixView view = row_major(raw.data(), matrix.type, matrix.k, matrix.n);
    const auto layouts = candidates(view);
    const Choice choice = choose_smallest(view, 16, layouts);
    for (const Layout &layout : layouts) CHECK(encode(view, 16, layout).size() >= choice.size.bytes());
    CHECK(encode(view, 16, choice.layout).size() == choice.size.bytes());
    return to_string(choice.layout);
  };
  CHECK(choose(random_matrix(random, DType::FP16, 256, 32, 0)) == "dense");
  CHECK(choose(random_matrix(random, DType::FP16, 256, 32, 60)) == "bitmap");
  CHECK(choose(random_matrix(random, DType::FP16, 512, 32, 98)) == "run-length");
  Dense pairs = random_matrix(random, DType::FP16, 256, 32, 0);
  make_structured(pairs, 1, 4);
  CHECK(choose(pairs) == "1:4");
  Dense blocks = random_matrix(random, DType::FP16, 256, 32, 0);
  for (size_t row = 0; row < 256; ++row)
    for (size_t column = 0; column < 32; ++column)
      if ((row / 16 + column / 16) % 2 == 0) blocks.bits[row * 32 + column] = 0;
  CHECK(choose(blocks) == "block 16x16");
}

TEST_CASE("random damage is an error or a stream that encodes to itself") {
  test::Random random(test::logged_seed(15));
  size_t refused = 0;
  for (int round = 0; round < 4000; ++round) {
    const DType type = kTypes[random.between(0, 4)];
    Dense matrix = random_matrix(random, type, random.between(1, 30), random.between(1, 6), 70);
    make_structured(matrix, 2, 5);
    const Layout layout =
        std::array{dense(), bitmap(), run_length(3), structured(2, 5), block(3, 2)}[random.between(0, 4)];
    Stream stream = make_stream(matrix, 4, layout);
    for (uint32_t i = random.between(1, 2); i > 0; --i) {
      const size_t at = random.between(0, static_cast<uint32_t>(stream.bytes.size()) - 1);
      stream.bytes[at] = static_cast<uint8_t>(random.bits());
    }
    try {
      const auto groups = stream.decode();
      Dense again{type, matrix.k, matrix.n, std::vector<uint16_t>(matrix.bits.size())};
      for (size_t g = 0; g < groups.size(); ++g)
        for (size_t c = 0; c < groups[g].header.columns; ++c)
          for (const Entry &entry : groups[g].column(c))
            again.bits.at(entry.k * matrix.n + g * stream.group + c) = entry.bits;
      // Groups may have become of different layouts; compare them one by one.
      size_t at = 0;
      for (size_t g = 0; g < groups.size(); ++g) {
        Dense part{type, matrix.k, groups[g].header.columns, {}};
        for (size_t row = 0; row < matrix.k; ++row)
          for (size_t c = 0; c < part.n; ++c) part.bits.push_back(again.at(row, g * stream.group + c));
        const auto bytes = make_stream(part, 4, groups[g].header.layout).bytes;
        REQUIRE(bytes == std::vector<uint8_t>(stream.bytes.begin() + static_cast<ptrdiff_t>(at),
                                              stream.bytes.begin() + static_cast<ptrdiff_t>(at + bytes.size())));
        at += bytes.size();
      }
    } catch (const StreamError &) {
      ++refused;
    }
  }
  CHECK(refused > 2000);
}
