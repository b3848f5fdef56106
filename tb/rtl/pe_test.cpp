// The arithmetic of a processing element against reference vectors, exact integers and the host's arithmetic, in every
// format and with one, two and four 8-bit products in a step.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <string>

#include "Vpe_bench_p1.h"
#include "Vpe_bench_p2.h"
#include "Vpe_bench_p4.h"
#include "hw/common/num/formats.hpp"
#include "rtl/coverage.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/common/num_vectors.hpp"

using namespace cx::num;
using cx::test::Random;

namespace {

constexpr uint32_t kInfinity = 0x7F800000u;
constexpr uint32_t kMinusZero = 0x80000000u;
constexpr DType kFp8[] = {DType::FP8_E4M3, DType::FP8_E5M2};

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }
/// The one NaN that the tile knows.
uint32_t result_bits(float value) { return std::isnan(value) ? kCanonicalNan : bits(value); }
/// References and random words may have any NaN.
uint32_t canonical(uint32_t word) { return result_bits(real(word)); }
/// FP32 bits that a chain can have.
uint32_t random_sum(Random &random) { return canonical(random.fp32()); }

template <typename Model, unsigned kPack>
class Bench {
 public:
  static constexpr unsigned kLanes = kPack;
  static constexpr uint32_t kAll = (1u << kPack) - 1;

  Bench() : model_(&context_) {
    model_.clk_i = 0;
    model_.eval();
  }
  ~Bench() { cx::rtl::write_coverage(context_, model_.modelName()); }

  uint32_t step(DType a_type, DType w_type, uint32_t a, uint32_t w, uint32_t sum, uint32_t lanes = kAll) {
    return run(0, a_type, w_type, a, w, sum, lanes);
  }
  uint32_t step(DType dtype, uint32_t a, uint32_t w, uint32_t sum, uint32_t lanes = kAll) {
    return run(0, dtype, dtype, a, w, sum, lanes);
  }
  uint32_t add(uint32_t a, uint32_t b) { return run(1, DType::FP32, DType::FP32, a, b, 0, kAll); }
  uint32_t mul(uint32_t a, uint32_t b) { return run(2, DType::FP32, DType::FP32, a, b, 0, kAll); }
  uint32_t widen(DType dtype, uint32_t raw, uint32_t lanes = kAll) { return run(3, dtype, dtype, raw, 0, 0, lanes); }

 private:
  uint32_t run(uint8_t op, DType a_type, DType w_type, uint32_t a, uint32_t w, uint32_t sum, uint32_t lanes) {
    model_.op_i = op;
    model_.fmt_a_i = static_cast<uint8_t>(a_type);
    model_.fmt_w_i = static_cast<uint8_t>(w_type);
    model_.lanes_i = static_cast<uint8_t>(lanes);
    model_.activation_i = a;
    model_.weight_i = w;
    model_.sum_i = sum;
    model_.clk_i = 1;
    model_.eval();
    model_.clk_i = 0;
    model_.eval();
    return model_.result_o;
  }

  VerilatedContext context_;
  Model model_;
};

using Pe1 = Bench<Vpe_bench_p1, 1>;
using Pe2 = Bench<Vpe_bench_p2, 2>;
using Pe4 = Bench<Vpe_bench_p4, 4>;

/// Counts wrong results and keeps the first for the message.
class Tally {
 public:
  template <typename... Operands>
  void check(uint32_t got, uint32_t want, Operands... operands) {
    ++checks_;
    if (got == want) return;
    if (wrong_++ == 0) {
      char text[16];
      for (uint32_t word : {static_cast<uint32_t>(operands)..., got, want}) {
        snprintf(text, sizeof text, " %08X", word);
        first_ += text;
      }
    }
  }
  size_t checks() const { return checks_; }
  size_t wrong() const { return wrong_; }
  /// Operands, result, expected result.
  const std::string &first() const { return first_; }

 private:
  size_t checks_ = 0, wrong_ = 0;
  std::string first_;
};

#define CHECK_TALLY(tally)                     \
  do {                                         \
    INFO("first wrong one:" << tally.first()); \
    CHECK(tally.wrong() == 0);                 \
    CHECK(tally.checks() > 0);                 \
  } while (false)

uint32_t expected_step(DType a_type, DType w_type, uint32_t a, uint32_t w, uint32_t sum) {
  if (a_type == DType::INT8) return sum + static_cast<uint32_t>(static_cast<int8_t>(a) * static_cast<int8_t>(w));
  return result_bits(std::fma(decode(a_type, &a), decode(w_type, &w), real(sum)));
}

uint32_t lane(uint32_t word, unsigned l) { return word >> (8 * l) & 0xFF; }

/// Finite FP32 values of packed FP8 steps: multiples of 2^-32 below 2^94, exactly.
using Fixed = __int128;

/// A finite number that is a multiple of 2^-32.
Fixed to_fixed(float value) {
  int exponent = 0;
  const auto significand = static_cast<int64_t>(std::ldexp(std::frexp(value, &exponent), 24));
  const int shift = exponent - 24 + 32;
  return shift >= 0 ? Fixed{significand} << shift : Fixed{significand} >> -shift;
}

/// Round to nearest even. `zero` is the result when nothing is left.
float from_fixed(Fixed value, float zero) {
  if (value == 0) return zero;
  const bool negative = value < 0;
  auto magnitude = static_cast<unsigned __int128>(negative ? -value : value);
  int drop = 0;
  while (magnitude >> drop >= 1u << 24) ++drop;
  if (drop > 0) {
    const unsigned __int128 unit = static_cast<unsigned __int128>(1) << drop, rest = magnitude % unit;
    magnitude /= unit;
    if (rest > unit / 2 || (rest == unit / 2 && magnitude % 2 == 1)) ++magnitude;
  }
  const float result = std::ldexp(static_cast<float>(static_cast<uint32_t>(magnitude)), drop - 32);
  return negative ? -result : result;
}

float sum_rounded(float a, float b) {
  if (!std::isfinite(a) || !std::isfinite(b)) {
    if (std::isnan(a) || std::isnan(b) || (std::isinf(a) && std::isinf(b) && a != b)) return real(kCanonicalNan);
    return std::isinf(a) ? a : b;
  }
  return from_fixed(to_fixed(a) + to_fixed(b), std::signbit(a) && std::signbit(b) ? -0.0f : 0.0f);
}

float product_of_codes(DType a_type, DType w_type, uint32_t a, uint32_t w) {
  const long double x = decode(a_type, &a), y = decode(w_type, &w);
  return static_cast<float>(x * y);  // at most eight significant bits
}

/// The sum after a step of packed FP8 products, missing ones +0.
uint32_t expected_fp8(unsigned pack, DType a_type, DType w_type, uint32_t a, uint32_t w, uint32_t sum, uint32_t lanes) {
  float product[4] = {};
  for (unsigned l = 0; l < pack; ++l) {
    if (lanes >> l & 1) product[l] = product_of_codes(a_type, w_type, lane(a, l), lane(w, l));
  }
  float total = sum_rounded(product[0], product[1]);
  if (pack == 4) total = sum_rounded(total, sum_rounded(product[2], product[3]));
  return result_bits(real(sum) + total);
}

uint32_t expected_int8(unsigned pack, uint32_t a, uint32_t w, uint32_t sum, uint32_t lanes) {
  int64_t total = static_cast<int32_t>(sum);
  for (unsigned l = 0; l < pack; ++l) {
    if (lanes >> l & 1) total += static_cast<int8_t>(lane(a, l)) * static_cast<int8_t>(lane(w, l));
  }
  return static_cast<uint32_t>(total);
}

/// An FP8 code whose exponent is in the middle half, so that the lanes of a step meet.
uint32_t near_one(Random &random, DType dtype) {
  if (dtype == DType::FP8_E4M3) return (random.bits() & 0x87u) | random.between(4, 11) << 3;
  return (random.bits() & 0x83u) | random.between(11, 20) << 2;
}

uint32_t random_lanes(Random &random, DType dtype) {
  uint32_t word = 0;
  const bool near = random.one_in(2);
  for (unsigned l = 0; l < 4; ++l) {
    uint32_t code = near ? near_one(random, dtype) : random.element(dtype);
    if (random.one_in(8)) code &= 0x80u;
    word |= code << (8 * l);
  }
  return word;
}

template <typename Pe>
void packed_fp8_single_products() {
  Pe pe;
  for (DType a_type : kFp8) {
    for (DType w_type : kFp8) {
      Tally tally;
      for (uint32_t i = 0; i < 65536; ++i) {
        const uint32_t a = i >> 8, w = i & 0xFF;
        const uint32_t want = result_bits(0.0f + product_of_codes(a_type, w_type, a, w));
        for (unsigned l = 0; l < Pe::kLanes; ++l) {
          tally.check(pe.step(a_type, w_type, a << (8 * l), w << (8 * l), 0), want, a, w, l);
        }
      }
      INFO(Pe::kLanes << " products, " << name_of(a_type) << " times " << name_of(w_type));
      CHECK_TALLY(tally);
    }
  }
}

template <typename Pe>
void packed_fp8_random(uint64_t seed) {
  Random random(seed);
  Pe pe;
  for (DType a_type : kFp8) {
    for (DType w_type : kFp8) {
      Tally tally;
      uint32_t chain = 0;
      for (int i = 0; i < 200000; ++i) {
        const uint32_t a = random_lanes(random, a_type), w = random_lanes(random, w_type);
        const uint32_t lanes = random.one_in(4) ? random.between(0, Pe::kAll) : Pe::kAll;
        // Half of the steps make chains, as in the array; the others meet any sum. A chain never reaches -0, and
        // activations that are all zeros rely on it.
        const bool in_chain = i % 2 == 0;
        uint32_t sum = in_chain ? chain : random_sum(random);
        if (random.one_in(16) && !in_chain) sum = kMinusZero;
        if (sum == kMinusZero && (pe.widen(a_type, a, lanes) & 0x7F7F7F7Fu) == 0) sum = 0;
        const uint32_t got = pe.step(a_type, w_type, a, w, sum, lanes);
        tally.check(got, expected_fp8(Pe::kLanes, a_type, w_type, a, w, sum, lanes), a, w, sum, lanes);
        if (in_chain) {
          if (got == kMinusZero) FAIL("a chain reached -0");
          chain = i % 64 == 0 || !std::isfinite(real(got)) ? 0 : got;
        }
      }
      INFO(Pe::kLanes << " products, " << name_of(a_type) << " times " << name_of(w_type));
      CHECK_TALLY(tally);
    }
  }
}

template <typename Pe>
void packed_int8(uint64_t seed) {
  Random random(seed);
  Pe pe;
  Tally tally;
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint32_t a = i >> 8, w = i & 0xFF;
    for (unsigned l = 0; l < Pe::kLanes; ++l) {
      const uint32_t word_a = a << (8 * l), word_w = w << (8 * l);
      tally.check(pe.step(DType::INT8, word_a, word_w, 0), expected_int8(Pe::kLanes, word_a, word_w, 0, Pe::kAll),
                  word_a, word_w);
    }
  }
  for (int i = 0; i < 200000; ++i) {
    const uint32_t a = random.one_in(16) ? 0x80808080u : random.bits(), w = random.one_in(16) ? a : random.bits();
    const uint32_t sum = random.bits();
    const uint32_t lanes = Pe::kLanes > 1 && random.one_in(4) ? random.between(0, Pe::kAll) : Pe::kAll;
    tally.check(pe.step(DType::INT8, a, w, sum, lanes), expected_int8(Pe::kLanes, a, w, sum, lanes), a, w, sum, lanes);
  }
  INFO(Pe::kLanes << " products");
  CHECK_TALLY(tally);
}

template <typename Pe>
void packed_zero_gating() {
  Pe pe;
  for (DType a_type : kFp8) {
    for (DType w_type : kFp8) {
      Tally tally;
      for (uint32_t code = 0; code < 256; ++code) {
        for (uint32_t sign : {0u, 0x80808080u, 0x00800080u}) {
          for (unsigned l = 0; l < Pe::kLanes; ++l) {
            const uint32_t w = (0x30303030u & ~(0xFFu << (8 * l))) | code << (8 * l);
            const float weight = decode(w_type, &code);
            for (uint32_t sum : {0u, 0x3F800000u, 0x00000001u, kInfinity, kInfinity | kMinusZero, kCanonicalNan}) {
              const uint32_t want = std::isfinite(weight) ? sum : kCanonicalNan;
              tally.check(pe.step(a_type, w_type, sign, w, sum), want, sign, w, sum);
              // Where the product is missing, the weight does not count either.
              tally.check(pe.step(a_type, w_type, sign, w, sum, Pe::kAll & ~(1u << l)), sum, sign, w, sum, l);
            }
          }
        }
      }
      INFO(Pe::kLanes << " products, " << name_of(a_type) << " times " << name_of(w_type));
      CHECK_TALLY(tally);
    }
  }
}

}  // namespace

TEST_CASE("a step is SoftFloat's fused multiply-add") {
  struct Set {
    const char *file;
    DType dtype;
    size_t columns;
  };
  const Set sets[] = {{"mac/mac_fp32.bin.xz", DType::FP32, 7},
                      {"mac/mac_fp16.bin.xz", DType::FP16, 7},
                      {"mac/mac_bf16.bin.xz", DType::BF16, 7},
                      {"testfloat/f32_mulAdd.rnear_even.u32le.xz", DType::FP32, 5}};
  Pe1 pe1;
  Pe4 pe4;
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    Tally tally;
    for (size_t i = 0; i + set.columns <= words->size(); i += set.columns) {
      const uint32_t *row = &(*words)[i];
      const uint32_t sum = canonical(row[2]);
      tally.check(pe1.step(set.dtype, row[0], row[1], sum), row[3], row[0], row[1], sum);
      tally.check(pe4.step(set.dtype, row[0], row[1], sum), row[3], row[0], row[1], sum);
    }
    INFO(set.file);
    CHECK(words->size() / set.columns > 100000);
    CHECK_TALLY(tally);
  }
}

TEST_CASE("FP16 steps whose result is an FP16 number are TestFloat's") {
  constexpr uint32_t kInexact = 1;
  Pe1 pe;
  const auto words = cx::test::read_words("testfloat/f16_mulAdd.rnear_even.u32le.xz");
  if (!words) return;
  Tally tally;
  for (size_t i = 0; i + 5 <= words->size(); i += 5) {
    const uint32_t *row = &(*words)[i];
    if ((row[4] & kInexact) != 0) continue;
    const uint32_t sum = bits(decode_fp16(static_cast<uint16_t>(row[2])));
    tally.check(pe.step(DType::FP16, row[0], row[1], sum), bits(decode_fp16(static_cast<uint16_t>(row[3]))), row[0],
                row[1], row[2]);
  }
  CHECK(tally.checks() > 10000);
  CHECK_TALLY(tally);
}

TEST_CASE("sums and products are SoftFloat's") {
  Pe1 pe;
  for (const char *file : {"testfloat/f32_add.rnear_even.u32le.xz", "testfloat/f32_sub.rnear_even.u32le.xz",
                           "testfloat/f32_mul.rnear_even.u32le.xz"}) {
    const auto words = cx::test::read_words(file);
    if (!words) continue;
    const bool product = std::strstr(file, "mul") != nullptr, difference = std::strstr(file, "sub") != nullptr;
    Tally tally;
    for (size_t i = 0; i + 4 <= words->size(); i += 4) {
      const uint32_t *row = &(*words)[i];
      const uint32_t b = difference ? row[1] ^ kMinusZero : row[1];
      tally.check(product ? pe.mul(row[0], b) : pe.add(row[0], b), row[2], row[0], b);
      // A step with one or -0 is the same.
      tally.check(product ? pe.step(DType::FP32, row[0], b, kMinusZero)
                          : pe.step(DType::FP32, row[0], 0x3F800000u, canonical(b)),
                  row[2], row[0], b);
    }
    INFO(file);
    CHECK(tally.checks() > 50000);
    CHECK_TALLY(tally);
  }
  for (const char *file : {"mac/mac_fp32.bin.xz", "mac/mac_fp16.bin.xz", "mac/mac_bf16.bin.xz"}) {
    const auto words = cx::test::read_words(file);
    if (!words) continue;
    const DType dtype = std::strstr(file, "fp32") != nullptr   ? DType::FP32
                        : std::strstr(file, "fp16") != nullptr ? DType::FP16
                                                               : DType::BF16;
    Tally tally;
    for (size_t i = 0; i + 7 <= words->size(); i += 7) {
      const uint32_t *row = &(*words)[i];
      const uint32_t a = bits(decode(dtype, &row[0])), b = bits(decode(dtype, &row[1]));
      tally.check(pe.mul(a, b), row[5], a, b);
      tally.check(pe.add(row[5], row[2]), row[4], row[5], row[2]);
    }
    INFO(file);
    CHECK_TALLY(tally);
  }
}

TEST_CASE("sums and products of random operands") {
  Random random(cx::test::logged_seed(5));
  Pe1 pe;
  Tally tally;
  for (int i = 0; i < 1000000; ++i) {
    uint32_t a = random.fp32(), b = random.fp32();
    switch (random.between(0, 3)) {
      case 0:  // cancellation down to the last bits
        b = (a ^ kMinusZero) + random.between(0, 64) - 32;
        break;
      case 1:  // products about the smallest normal number and below
        a = (a & 0x807FFFFFu) | random.between(1, 126) << 23;
        b = (b & 0x807FFFFFu) | (127 - std::min(126u, a >> 23 & 0xFF) + random.between(0, 2) - 1) << 23;
        break;
      default:
        break;
    }
    tally.check(pe.mul(a, b), result_bits(real(a) * real(b)), a, b);
    tally.check(pe.add(a, b), result_bits(real(a) + real(b)), a, b);
  }
  // Halves of the last bit and the bits below: distances up to the width of the significand.
  for (uint32_t distance = 0; distance < 32; ++distance) {
    for (int i = 0; i < 2000; ++i) {
      const uint32_t a = (random.bits() & 0x807FFFFFu) | 130u << 23;
      const uint32_t fraction = random.one_in(2) ? random.bits() & 0x7FFFFFu : random.between(0, 2) << 22 & 0x7FFFFFu;
      const uint32_t b = (random.bits() & kMinusZero) | (130u - distance) << 23 | fraction;
      tally.check(pe.add(a, b), result_bits(real(a) + real(b)), a, b);
      tally.check(pe.add(b, a), result_bits(real(a) + real(b)), b, a);
    }
  }
  CHECK_TALLY(tally);
}

TEST_CASE("8-bit products are exact for every pair of codes") {
  Pe1 pe;
  for (DType a_type : {DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
    for (DType w_type : {DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
      if ((a_type == DType::INT8) != (w_type == DType::INT8)) continue;
      Tally tally;
      for (uint32_t i = 0; i < 65536; ++i) {
        const uint32_t a = i >> 8, w = i & 0xFF;
        tally.check(pe.step(a_type, w_type, a, w, 0), expected_step(a_type, w_type, a, w, 0), a, w);
      }
      INFO(name_of(a_type) << " times " << name_of(w_type));
      CHECK_TALLY(tally);
    }
  }
}

TEST_CASE("products of FP8 codes are those of the reference") {
  struct Set {
    const char *file;
    DType a_type, w_type;
  };
  const Set sets[] = {{"fp8/mul_e4m3fnxe4m3fn_to_f32.f32le", DType::FP8_E4M3, DType::FP8_E4M3},
                      {"fp8/mul_e4m3fnxe5m2_to_f32.f32le", DType::FP8_E4M3, DType::FP8_E5M2},
                      {"fp8/mul_e5m2xe5m2_to_f32.f32le", DType::FP8_E5M2, DType::FP8_E5M2}};
  Pe1 pe1;
  Pe2 pe2;
  Pe4 pe4;
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    REQUIRE(words->size() == 65536);
    Tally tally;
    for (uint32_t i = 0; i < 65536; ++i) {
      const uint32_t a = i >> 8, w = i & 0xFF, product = canonical((*words)[i]);
      const uint32_t want = product == kMinusZero ? 0 : product;  // the sum starts at +0
      tally.check(pe1.step(set.a_type, set.w_type, a, w, 0), want, a, w);
      tally.check(pe2.step(set.a_type, set.w_type, a, w, 0), want, a, w);
      tally.check(pe4.step(set.a_type, set.w_type, a, w, 0), want, a, w);
      tally.check(pe4.step(set.w_type, set.a_type, w << 24, a << 24, 0), want, a, w);
    }
    INFO(set.file);
    CHECK_TALLY(tally);
  }
}

TEST_CASE("every 16-bit and 8-bit code widens exactly") {
  Pe1 pe1;
  Pe4 pe4;
  Tally tally;
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const uint32_t raw = code | 0xA5A50000u;  // what lies above a small element does not matter
    tally.check(pe1.widen(DType::FP16, raw), bits(decode_fp16(static_cast<uint16_t>(code))), code);
    tally.check(pe4.widen(DType::FP16, raw), bits(decode_fp16(static_cast<uint16_t>(code))), code);
    tally.check(pe1.widen(DType::BF16, raw), bits(decode_bf16(static_cast<uint16_t>(code))), code);
    tally.check(pe4.widen(DType::BF16, raw), bits(decode_bf16(static_cast<uint16_t>(code))), code);
  }
  for (uint32_t code = 0; code < 0x100; ++code) {
    const uint32_t raw = code | 0xA5A5A500u;
    tally.check(pe1.widen(DType::FP8_E4M3, raw), bits(decode_e4m3(static_cast<uint8_t>(code))), code);
    tally.check(pe1.widen(DType::FP8_E5M2, raw), bits(decode_e5m2(static_cast<uint8_t>(code))), code);
    tally.check(pe1.widen(DType::INT8, raw), static_cast<uint32_t>(static_cast<int8_t>(code)), code);
  }
  CHECK_TALLY(tally);
}

TEST_CASE("packed elements stay as they are, missing ones become zeros") {
  Random random(cx::test::logged_seed(7));
  Pe2 pe2;
  Pe4 pe4;
  Tally tally;
  for (DType dtype : {DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
    for (uint32_t lanes = 0; lanes < 16; ++lanes) {
      for (int i = 0; i < 1000; ++i) {
        const uint32_t raw = random.bits();
        uint32_t want = 0;
        for (unsigned l = 0; l < 4; ++l) want |= (lanes >> l & 1) != 0 ? raw & 0xFFu << (8 * l) : 0;
        tally.check(pe4.widen(dtype, raw, lanes), want, raw, lanes);
        if (lanes < 4) tally.check(pe2.widen(dtype, raw, lanes), want, raw, lanes);
      }
    }
  }
  CHECK_TALLY(tally);
}

TEST_CASE("random operands of every format") {
  Random random(cx::test::logged_seed(3));
  Pe1 pe;
  for (unsigned a = 0; a <= 5; ++a) {
    for (unsigned w = 0; w <= 5; ++w) {
      const auto a_type = static_cast<DType>(a), w_type = static_cast<DType>(w);
      const bool both_fp8 = (a == 3 || a == 4) && (w == 3 || w == 4);
      if (a != w && !both_fp8) continue;
      Tally tally;
      for (int i = 0; i < 200000; ++i) {
        const uint32_t x = random.element(a_type), y = random.element(w_type);
        uint32_t sum = a_type == DType::INT8 ? random.bits() : random_sum(random);
        if (a_type != DType::INT8 && random.one_in(8)) {  // the sum almost cancels the product
          sum = canonical(bits(-decode(a_type, &x) * decode(w_type, &y)) + random.between(0, 8) - 4);
        }
        tally.check(pe.step(a_type, w_type, x, y, sum), expected_step(a_type, w_type, x, y, sum), x, y, sum);
      }
      INFO(name_of(a_type) << " times " << name_of(w_type));
      CHECK_TALLY(tally);
    }
  }
}

TEST_CASE("a fused step of FP32 at every distance of product and sum") {
  Random random(cx::test::logged_seed(4));
  Pe1 pe;
  Tally tally;
  for (uint32_t field_a : {0u, 1u, 2u, 40u, 64u, 127u, 190u, 230u, 254u}) {
    for (uint32_t field_w = 0; field_w < 255; ++field_w) {
      for (uint32_t field_sum = 0; field_sum < 255; ++field_sum) {
        for (int i = 0; i < 2; ++i) {
          const auto fraction = [&] {
            return random.one_in(4) ? 0x7FFFFFu >> random.between(0, 24) & random.bits() : random.bits() & 0x7FFFFFu;
          };
          const uint32_t a = (random.bits() & kMinusZero) | field_a << 23 | fraction();
          const uint32_t w = (random.bits() & kMinusZero) | field_w << 23 | fraction();
          const uint32_t sum = (random.bits() & kMinusZero) | field_sum << 23 | fraction();
          tally.check(pe.step(DType::FP32, a, w, sum), expected_step(DType::FP32, DType::FP32, a, w, sum), a, w, sum);
        }
      }
    }
  }
  CHECK_TALLY(tally);
}

TEST_CASE("a zero activation keeps the sum unless the weight is infinite or NaN") {
  Pe1 pe;
  struct Set {
    DType dtype;
    uint32_t minus_zero;
    std::vector<uint32_t> weights;
  };
  const Set sets[] = {
      {DType::FP32,
       0x80000000u,
       {0, 0x80000000u, 1, 0x3F800000u, 0xBF800000u, 0x7F7FFFFFu, 0x7F800000u, 0xFF800000u, 0x7FC00000u, 0xFF800001u}},
      {DType::FP16, 0x8000u, {0, 0x8000u, 1, 0x3C00u, 0xBC00u, 0x7C00u, 0xFC00u, 0x7E00u, 0xFC01u}},
      {DType::BF16, 0x8000u, {0, 0x8000u, 1, 0x3F80u, 0xBF80u, 0x7F80u, 0xFF80u, 0x7FC0u, 0xFF81u}},
      {DType::FP8_E4M3, 0x80u, {0, 0x80u, 1, 0x38u, 0xB8u, 0x7Eu, 0x7Fu, 0xFFu}},
      {DType::FP8_E5M2, 0x80u, {0, 0x80u, 1, 0x3Cu, 0xBCu, 0x7Bu, 0x7Cu, 0xFCu, 0x7Du, 0xFFu}}};
  for (const Set &set : sets) {
    Tally tally;
    for (uint32_t a : {0u, set.minus_zero}) {
      for (uint32_t w : set.weights) {
        for (uint32_t sum :
             {0u, kMinusZero, 1u, 0x3F800000u, 0xC0490FDBu, kInfinity, kInfinity | kMinusZero, kCanonicalNan}) {
          tally.check(pe.step(set.dtype, a, w, sum), expected_step(set.dtype, set.dtype, a, w, sum), a, w, sum);
        }
      }
    }
    INFO(name_of(set.dtype));
    CHECK_TALLY(tally);
  }
  Tally integers;
  for (uint32_t w = 0; w < 256; ++w) {
    for (uint32_t sum : {0u, kMinusZero, 0xFFFFFFFFu}) integers.check(pe.step(DType::INT8, 0, w, sum), sum, w, sum);
  }
  CHECK_TALLY(integers);
  packed_zero_gating<Pe2>();
  packed_zero_gating<Pe4>();
}

TEST_CASE("each lane of packed FP8 multiplies every pair of codes exactly") {
  packed_fp8_single_products<Pe2>();
  packed_fp8_single_products<Pe4>();
}

TEST_CASE("packed FP8 products, missing ones too, are summed as a tree with a rounding at each addition") {
  const uint64_t seed = cx::test::logged_seed(8);
  packed_fp8_random<Pe2>(seed);
  packed_fp8_random<Pe4>(seed + 1);
}

TEST_CASE("infinities and NaNs of packed FP8 meet sums of every kind") {
  const auto all = [](auto &pe) {
    Tally tally;
    const uint32_t codes[] = {0x00, 0x80, 0x3C, 0xBC, 0x7C, 0xFC, 0x7E};
    for (uint32_t sum : {0u, bits(1.0f), bits(-1.0f), kInfinity, kInfinity | kMinusZero, kCanonicalNan}) {
      for (uint32_t a0 : codes) {
        for (uint32_t a1 : codes) {
          for (uint32_t w0 : codes) {
            for (uint32_t w1 : codes) {
              const uint32_t a = a0 | a1 << 8, w = w0 | w1 << 8, lanes = pe.kAll;
              const DType e5m2 = DType::FP8_E5M2;
              tally.check(pe.step(e5m2, a, w, sum), expected_fp8(pe.kLanes, e5m2, e5m2, a, w, sum, lanes), a, w, sum);
            }
          }
        }
      }
    }
    CHECK_TALLY(tally);
  };
  Pe2 two;
  Pe4 four;
  all(two);
  all(four);
}

TEST_CASE("packed INT8 products, missing ones too, wrap in 32 bits") {
  const uint64_t seed = cx::test::logged_seed(9);
  packed_int8<Pe1>(seed);
  packed_int8<Pe2>(seed + 1);
  packed_int8<Pe4>(seed + 2);
}
