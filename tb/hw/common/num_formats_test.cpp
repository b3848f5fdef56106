// Conversions: exhaustive where the format is small, against reference vectors of other implementations, and every path
// against the scalar one.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "hw/common/num/formats.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/common/num_vectors.hpp"

using namespace cx::num;
using cx::test::Random;

namespace {

constexpr DType kConvertible[] = {DType::FP32,   DType::FP16,   DType::BF16,   DType::FP8_E4M3, DType::FP8_E5M2,
                                  DType::INT8,   DType::UINT8,  DType::INT32,  DType::INT64,    DType::INT16,
                                  DType::UINT16, DType::UINT32, DType::UINT64, DType::FP64};

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }

}  // namespace

TEST_CASE("names and sizes follow the instruction set") {
  CHECK(bytes_of(DType::FP32) == 4);
  CHECK(bytes_of(DType::BF16) == 2);
  CHECK(bytes_of(DType::INT64) == 8);
  CHECK(bytes_of(DType::UINT16) == 2);
  CHECK(bytes_of(DType::FP64) == 8);
  CHECK(bytes_of(static_cast<DType>(14)) == 0);
  for (unsigned i = 0; i < kDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    CHECK(dtype_from_name(name_of(dtype)) == dtype);
  }
  CHECK_FALSE(dtype_from_name("FP12").has_value());
  float value = 0;
  CHECK_THROWS_AS(widen(static_cast<DType>(14), &value, &value, 1), std::invalid_argument);
  CHECK_THROWS_AS(narrow(static_cast<DType>(14), &value, &value, 1), std::invalid_argument);
}

TEST_CASE("16-bit and 8-bit floats survive the way to FP32 and back") {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto half = static_cast<uint16_t>(code);
    const bool half_nan = (code & 0x7FFF) > 0x7C00;
    const bool brain_nan = (code & 0x7FFF) > 0x7F80;
    if (encode_fp16(decode_fp16(half)) != (half_nan ? 0x7E00 : half)) FAIL("FP16 " << code);
    if (encode_bf16(decode_bf16(half)) != (brain_nan ? 0x7FC0 : half)) FAIL("BF16 " << code);
  }
  for (uint32_t code = 0; code < 0x100; ++code) {
    const auto byte = static_cast<uint8_t>(code);
    const bool e4m3_nan = (code & 0x7F) == 0x7F;
    const bool e5m2_nan = (code & 0x7F) > 0x7C;
    INFO(code);
    CHECK(encode_e4m3(decode_e4m3(byte), Overflow::kSpecial) == (e4m3_nan ? 0x7F : byte));
    CHECK(encode_e5m2(decode_e5m2(byte), Overflow::kSpecial) == (e5m2_nan ? 0x7E : byte));
  }
}

TEST_CASE("FP8 codes decode as the OCP tables say") {
  const auto e4m3 = cx::test::read_words("fp8/decode_e4m3fn.f32le");
  const auto e5m2 = cx::test::read_words("fp8/decode_e5m2.f32le");
  if (!e4m3 || !e5m2) return;
  for (uint32_t code = 0; code < 256; ++code) {
    INFO(code);
    const float a = decode_e4m3(static_cast<uint8_t>(code)), b = decode_e5m2(static_cast<uint8_t>(code));
    CHECK((std::isnan(a) ? std::isnan(real((*e4m3)[code])) : bits(a) == (*e4m3)[code]));
    CHECK((std::isnan(b) ? std::isnan(real((*e5m2)[code])) : bits(b) == (*e5m2)[code]));
  }
}

TEST_CASE("FP8 sums and products round as the OCP tables say") {
  struct Table {
    const char *file;
    bool e4m3, product;
  };
  const Table tables[] = {{"fp8/mul_e4m3fn_rne_nosat.u8", true, true},
                          {"fp8/add_e4m3fn_rne_nosat.u8", true, false},
                          {"fp8/mul_e5m2_rne_nosat.u8", false, true},
                          {"fp8/add_e5m2_rne_nosat.u8", false, false}};
  for (const Table &table : tables) {
    const auto expected = cx::test::read_vectors(table.file);
    if (!expected) continue;
    REQUIRE(expected->size() == 65536);
    size_t wrong = 0;
    for (uint32_t i = 0; i < 65536; ++i) {
      const auto decode = table.e4m3 ? decode_e4m3 : decode_e5m2;
      const float a = decode(static_cast<uint8_t>(i >> 8)), b = decode(static_cast<uint8_t>(i));
      const float exact = table.product ? a * b : a + b;
      const uint8_t got = table.e4m3 ? encode_e4m3(exact, Overflow::kSpecial) : encode_e5m2(exact, Overflow::kSpecial);
      const float want_value = decode((*expected)[i]);
      wrong += std::isnan(want_value) ? !std::isnan(decode(got)) : got != (*expected)[i];
    }
    INFO(table.file);
    CHECK(wrong == 0);
  }
}

TEST_CASE("FP8 overflow saturates or becomes special") {
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(encode_e4m3(448.0f, Overflow::kSpecial) == 0x7E);
  CHECK(encode_e4m3(464.0f, Overflow::kSpecial) == 0x7E);  // tie to even
  CHECK(encode_e4m3(464.1f, Overflow::kSpecial) == 0x7F);
  CHECK(encode_e4m3(-480.0f, Overflow::kSpecial) == 0xFF);
  CHECK(encode_e4m3(-480.0f, Overflow::kSaturate) == 0xFE);
  CHECK(encode_e4m3(inf, Overflow::kSaturate) == 0x7E);
  CHECK(encode_e4m3(inf, Overflow::kSpecial) == 0x7F);
  CHECK(encode_e5m2(61439.0f, Overflow::kSpecial) == 0x7B);
  CHECK(encode_e5m2(61440.0f, Overflow::kSpecial) == 0x7C);
  CHECK(encode_e5m2(61440.0f, Overflow::kSaturate) == 0x7B);
  CHECK(encode_e5m2(-inf, Overflow::kSaturate) == 0xFB);
  CHECK(encode_e5m2(-inf, Overflow::kSpecial) == 0xFC);
  const float nan = real(0xFFC12345);
  CHECK(encode_e4m3(nan, Overflow::kSaturate) == 0x7F);
  CHECK(encode_e5m2(nan, Overflow::kSaturate) == 0x7E);
}

TEST_CASE("integers round to even and saturate, NaN is 0") {
  const float nan = real(kCanonicalNan), inf = std::numeric_limits<float>::infinity();
  CHECK(encode_int8(2.5f) == 2);
  CHECK(encode_int8(-3.5f) == -4);
  CHECK(encode_int8(127.5f) == 127);
  CHECK(encode_int8(-inf) == -128);
  CHECK(encode_int8(nan) == 0);
  CHECK(encode_uint8(-0.5f) == 0);
  CHECK(encode_uint8(254.5f) == 254);
  CHECK(encode_uint8(1e9f) == 255);
  CHECK(encode_int32(8388607.5f) == 8388608);
  CHECK(encode_int32(3e9f) == INT32_MAX);
  CHECK(encode_int32(-3e9f) == INT32_MIN);
  CHECK(encode_int32(nan) == 0);
}

TEST_CASE("conversions agree with TestFloat") {
  struct Set {
    const char *file;
    DType from, to;
  };
  const Set sets[] = {{"f32_to_f16", DType::FP32, DType::FP16},
                      {"f32_to_bf16", DType::FP32, DType::BF16},
                      {"f16_to_f32", DType::FP16, DType::FP32},
                      {"bf16_to_f32", DType::BF16, DType::FP32},
                      {"i32_to_f32", DType::INT32, DType::FP32}};
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(std::string("testfloat/") + set.file + ".rnear_even.u32le.xz");
    if (!words) continue;
    REQUIRE(words->size() % 3 == 0);
    size_t wrong = 0;
    for (size_t i = 0; i < words->size(); i += 3) {
      const uint32_t operand = (*words)[i], expected = (*words)[i + 1];
      uint32_t got = 0;
      if (set.to == DType::FP32) {
        got = bits(decode(set.from, &operand));
      } else {
        encode(set.to, real(operand), &got);
      }
      wrong += got != expected;
    }
    INFO(set.file << ", " << words->size() / 3 << " records");
    CHECK(words->size() > 3);
    CHECK(wrong == 0);
  }
}

TEST_CASE("wide integers and FP64 against known values") {
  const auto widened = [](DType type, auto value) { return decode(type, &value); };
  // 2^24 + 1 and 2^62 + 2^38 lie halfway: to even.
  CHECK(widened(DType::INT64, int64_t{16777217}) == 16777216.0f);
  CHECK(widened(DType::INT64, int64_t{16777219}) == 16777220.0f);
  CHECK(widened(DType::INT64, -((int64_t{1} << 62) + (int64_t{1} << 38))) == -0x1p62f);
  CHECK(widened(DType::INT64, std::numeric_limits<int64_t>::min()) == -0x1p63f);
  CHECK(widened(DType::INT64, std::numeric_limits<int64_t>::max()) == 0x1p63f);
  CHECK(widened(DType::UINT64, ~uint64_t{0}) == 0x1p64f);
  // 1 above halfway: a conversion over FP64 would round twice.
  CHECK(widened(DType::UINT64, (uint64_t{1} << 63) + (uint64_t{1} << 39) + 1) == 0x1.000002p63f);
  CHECK(widened(DType::UINT32, ~uint32_t{0}) == 0x1p32f);
  CHECK(widened(DType::INT16, int16_t{-32768}) == -32768.0f);
  CHECK(widened(DType::UINT16, uint16_t{65535}) == 65535.0f);
  CHECK(widened(DType::FP64, 1.0 + 0x1p-24) == 1.0f);
  CHECK(widened(DType::FP64, 1.0 + 0x1p-24 + 0x1p-50) == 1.0f + 0x1p-23f);
  CHECK(widened(DType::FP64, -1e300) == -std::numeric_limits<float>::infinity());
  CHECK(bits(widened(DType::FP64, std::bit_cast<double>(0xFFF0000000000001u))) == kCanonicalNan);
  const auto narrowed = [](DType type, float value) {
    uint64_t out = 0;
    encode(type, value, &out);
    return out;
  };
  constexpr float kInf = std::numeric_limits<float>::infinity();
  CHECK(narrowed(DType::INT64, 0x1p63f) == 0x7FFFFFFFFFFFFFFFu);
  CHECK(narrowed(DType::INT64, -kInf) == 0x8000000000000000u);
  CHECK(narrowed(DType::INT64, -2.5f) == static_cast<uint64_t>(-2));
  CHECK(narrowed(DType::INT64, std::nanf("")) == 0);
  CHECK(narrowed(DType::UINT64, kInf) == ~uint64_t{0});
  CHECK(narrowed(DType::UINT64, 0x1.fffffep63f) == 0xFFFFFF0000000000u);
  CHECK(narrowed(DType::UINT64, -3.0f) == 0);
  CHECK(narrowed(DType::UINT32, 0x1p32f) == 0xFFFFFFFFu);
  CHECK(narrowed(DType::UINT32, 3.5f) == 4);
  CHECK(narrowed(DType::INT16, -40000.0f) == 0x8000);
  CHECK(narrowed(DType::INT16, 32767.5f) == 0x7FFF);
  CHECK(narrowed(DType::UINT16, 65534.5f) == 65534);
  CHECK(narrowed(DType::FP64, 0x1p-149f) == std::bit_cast<uint64_t>(0x1p-149));
  CHECK(narrowed(DType::FP64, -std::nanf("")) == 0x7FF8000000000000u);
}

TEST_CASE("every path converts as the scalar one") {
  Random random(cx::test::logged_seed(1));
  std::vector<float> values;
  for (int i = 0; i < 200000; ++i) values.push_back(real(i % 2 != 0 ? random.bits() : random.fp32()));
  // Ties and the neighbours of every code of the small formats.
  for (uint32_t code = 0; code < 0x10000; ++code) {
    for (DType dtype : {DType::FP16, DType::BF16}) {
      const float value = decode(dtype, &code);
      values.push_back(value);
      values.push_back(real(bits(value) + (1u << (dtype == DType::FP16 ? 12 : 15))));
      values.push_back(real(bits(value) + 1));
    }
  }
  for (int i = -600; i <= 600; ++i) values.push_back(static_cast<float>(i) * 0.5f);
  for (float limit : {2147483648.0f, 2147483520.0f, 8388608.0f, 8388607.5f, 4194304.0f, 4194303.5f, 0x1p32f,
                      0x1.fffffep31f, 0x1p63f, 0x1.fffffep62f, 0x1p64f, 0x1.fffffep63f, 32767.5f, 65535.5f}) {
    values.push_back(limit);
    values.push_back(-limit);
  }
  for (Path path : {Path::kPortable, Path::kAvx2}) {
    if (!path_available(path)) continue;
    for (DType dtype : kConvertible) {
      for (Overflow overflow : {Overflow::kSaturate, Overflow::kSpecial}) {
        const size_t bytes = values.size() * bytes_of(dtype);
        std::vector<uint8_t> want(bytes), got(bytes);
        narrow(Path::kScalar, dtype, values.data(), want.data(), values.size(), overflow);
        narrow(path, dtype, values.data(), got.data(), values.size(), overflow);
        INFO(name_of(dtype) << " path " << static_cast<int>(path));
        CHECK((want == got));
      }
      std::vector<uint8_t> raw(8 * 65536);
      for (uint32_t i = 0; i < 65536; ++i) {
        uint64_t word = bytes_of(dtype) >= 4 ? uint64_t{random.bits()} << 32 | random.bits() : i;
        if (bytes_of(dtype) == 8 && i % 2 != 0) {  // integers of any size, ordinary numbers
          word = dtype == DType::FP64
                     ? std::bit_cast<uint64_t>(static_cast<double>(real(random.fp32())) * (1 + 0x1p-30 * i))
                     : static_cast<uint64_t>(static_cast<int64_t>(word) >> i % 64);
        }
        std::memcpy(&raw[i * bytes_of(dtype)], &word, bytes_of(dtype));
      }
      std::vector<float> want(65536), got(65536);
      widen(Path::kScalar, dtype, raw.data(), want.data(), want.size());
      widen(path, dtype, raw.data(), got.data(), got.size());
      INFO(name_of(dtype));
      CHECK(std::memcmp(want.data(), got.data(), want.size() * 4) == 0);
      // Unaligned starts and every short length.
      for (size_t n = 0; n < 40; ++n) {
        std::vector<float> a(n), b(n);
        widen(Path::kScalar, dtype, raw.data() + 1, a.data(), n);
        widen(path, dtype, raw.data() + 1, b.data(), n);
        if (n != 0) CHECK(std::memcmp(a.data(), b.data(), n * 4) == 0);
      }
    }
  }
}
