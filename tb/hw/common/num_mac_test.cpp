// The multiply-accumulate chain: against SoftFloat's fused results, and every path against the scalar one.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "hw/common/num/mac.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/common/num_vectors.hpp"

using namespace cx::num;
using cx::test::Random;

namespace {

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }

constexpr float kOne = 1.0f;
constexpr Path kPaths[] = {Path::kScalar, Path::kPortable, Path::kAvx2};

/// fma(a, b, c) by the chain: c enters as 1 * c, which is exact unless c is -0 (0 + -0 is +0).
uint32_t chain_fma(Path path, float a, float b, float c) {
  const float activations[2] = {1.0f, a};
  const float weights[2] = {c, b};
  float result = 0;
  mac_fp(path, activations, 2, weights, 1, &result, 1, 1, 1, 2, false);
  return bits(result);
}

/// fma(a, b, c) by the epilogue: a is the end of the chain (-0 becomes +0), b the scale, c the accumulator.
uint32_t epilogue_fma(Path path, float a, float b, float c) {
  mac_fp(path, &a, 1, &kOne, 1, &c, 1, 1, 1, 1, Epilogue(true, {nullptr, &b}));
  return bits(c);
}

uint32_t epilogue_product(Path path, float a, float b) {
  float result = 5;
  mac_fp(path, &a, 1, &kOne, 1, &result, 1, 1, 1, 1, Epilogue(false, {&b, nullptr}));
  return bits(result);
}

uint32_t canonical_bits(float value) { return std::isnan(value) ? kCanonicalNan : bits(value); }

/// What mac.hpp states of the epilogue, for one value.
uint32_t finished(float x, bool accumulate, const BlockScale &scale, size_t i, size_t j, float present) {
  if (scale.row == nullptr && scale.column == nullptr) return canonical_bits(accumulate ? present + x : x);
  const float s = scale.row == nullptr      ? scale.column[j]
                  : scale.column == nullptr ? scale.row[i]
                                            : scale.row[i] * scale.column[j];
  return canonical_bits(accumulate ? std::fma(x, s, present) : x * s);
}

/// One packed chain as hw/isa/isa.yaml states it; a[r] and b[r] past the end are +0.
float packed_chain(unsigned pack, std::vector<float> a, std::vector<float> b) {
  a.resize((a.size() + 3) / 4 * 4, 0.0f);
  b.resize(a.size(), 0.0f);
  float chain = 0;
  for (size_t r = 0; r < a.size(); r += pack) {
    const float first = std::fma(a[r], b[r], a[r + 1] * b[r + 1]);
    if (pack == 2) {
      chain += first;
    } else {
      chain += first + std::fma(a[r + 2], b[r + 2], a[r + 3] * b[r + 3]);
    }
  }
  return chain;
}

}  // namespace

TEST_CASE("one step is SoftFloat's fused multiply-add") {
  struct Set {
    const char *file;
    DType dtype;
    size_t columns;
  };
  const Set sets[] = {{"mac/mac_fp32.bin.xz", DType::FP32, 7},
                      {"mac/mac_fp16.bin.xz", DType::FP16, 7},
                      {"mac/mac_bf16.bin.xz", DType::BF16, 7},
                      {"testfloat/f32_mulAdd.rnear_even.u32le.xz", DType::FP32, 5}};
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    REQUIRE(words->size() % set.columns == 0);
    for (Path path : kPaths) {
      if (!path_available(path)) continue;
      size_t wrong = 0, compared = 0;
      for (size_t i = 0; i < words->size(); i += set.columns) {
        const uint32_t *row = &(*words)[i];
        if (row[2] == 0x80000000u) continue;
        wrong += chain_fma(path, decode(set.dtype, row), decode(set.dtype, row + 1), real(row[2])) != row[3];
        ++compared;
      }
      INFO(set.file << " path " << static_cast<int>(path));
      CHECK(compared > 100000);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the scaled epilogue is SoftFloat's fused multiply-add and product") {
  struct Set {
    const char *file;
    size_t columns;
  };
  for (const Set &set : {Set{"mac/mac_fp32.bin.xz", 7}, Set{"testfloat/f32_mulAdd.rnear_even.u32le.xz", 5}}) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    for (Path path : kPaths) {
      if (!path_available(path)) continue;
      size_t wrong = 0;
      for (size_t i = 0; i < words->size(); i += set.columns) {
        const uint32_t *row = &(*words)[i];
        if (row[0] == 0x80000000u) continue;
        wrong += epilogue_fma(path, real(row[0]), real(row[1]), real(row[2])) != row[3];
        if (set.columns == 7) wrong += epilogue_product(path, real(row[0]), real(row[1])) != row[5];
      }
      INFO(set.file << " path " << static_cast<int>(path));
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("one step is std::fma where double rounding would show") {
  Random random(cx::test::logged_seed(4));
  constexpr size_t kColumns = 8;
  size_t wrong = 0, halfway = 0, tiny = 0;
  for (int round = 0; round < 400000; ++round) {
    float weights[2 * kColumns], result[kColumns];
    // Few significant bits make exact ties; the third operand lies up to 80 binary orders away on either side.
    const auto short_mantissa = [&] { return (random.bits() & 0x7FFFFFu) & (0xFFFFFFFFu << random.between(0, 23)); };
    const uint32_t center = random.one_in(3) ? random.between(0, 20) : random.between(1, 254);
    const auto exponent = [&](int value) { return static_cast<uint32_t>(value < 0 ? 0 : value > 254 ? 254 : value); };
    const int half = static_cast<int>(center + 127) / 2;
    const float activations[2] = {
        1.0f, real((random.bits() & 0x80000000u) | exponent(half + static_cast<int>(random.between(0, 8)) - 4) << 23 |
                   short_mantissa())};
    for (size_t j = 0; j < kColumns; ++j) {
      const int other = static_cast<int>(center + 127) - half + static_cast<int>(random.between(0, 8)) - 4;
      const int third = static_cast<int>(center) + static_cast<int>(random.between(0, 160)) - 80;
      weights[j] = real((random.bits() & 0x80000000u) | exponent(third) << 23 | short_mantissa());
      if (weights[j] == 0) weights[j] = 0.0f;
      weights[kColumns + j] = real((random.bits() & 0x80000000u) | exponent(other) << 23 | short_mantissa());
    }
    for (Path path : kPaths) {
      if (path == Path::kScalar || !path_available(path)) continue;
      mac_fp(path, activations, 2, weights, kColumns, result, kColumns, 1, kColumns, 2, false);
      for (size_t j = 0; j < kColumns; ++j) {
        const float want = std::fma(activations[1], weights[kColumns + j], weights[j]);
        wrong += bits(result[j]) != canonical_bits(want);
        float accumulated = weights[j];
        if (path == Path::kPortable) {
          // What one conversion of the double sum would have given.
          const double sum = static_cast<double>(activations[1]) * weights[kColumns + j] + weights[j];
          halfway += bits(static_cast<float>(sum)) != bits(want);
          tiny += std::fabs(want) < 0x1p-126f && want != 0;
        }
        if (j == 0 && activations[1] != 0) {
          mac_fp(path, activations + 1, 1, &kOne, 1, &accumulated, 1, 1, 1, 1,
                 Epilogue(true, {nullptr, &weights[kColumns]}));
          wrong += bits(accumulated) != canonical_bits(want);
        }
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(halfway > 1000);
  CHECK(tiny > 1000);
}

TEST_CASE("FP8 products are exact, at every place of a packed step") {
  struct Set {
    const char *file;
    DType a, b;
  };
  const Set sets[] = {{"fp8/mul_e4m3fnxe4m3fn_to_f32.f32le", DType::FP8_E4M3, DType::FP8_E4M3},
                      {"fp8/mul_e4m3fnxe5m2_to_f32.f32le", DType::FP8_E4M3, DType::FP8_E5M2},
                      {"fp8/mul_e5m2xe5m2_to_f32.f32le", DType::FP8_E5M2, DType::FP8_E5M2}};
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    REQUIRE(words->size() == 65536);
    for (const unsigned pack : {1u, 2u, 4u}) {
      for (unsigned place = 0; place < pack; ++place) {
        // Zeros fill the other places of the step; k ends at the product, so that the step is a partial one too.
        const size_t k = place + 1;
        std::vector<float> a(256 * k, 0.0f), w(k * 256, 0.0f);
        for (size_t i = 0; i < 256; ++i) a[i * k + place] = decode(set.a, &codes[i]);
        widen(set.b, codes.data(), &w[place * 256], 256);
        for (Path path : kPaths) {
          if (!path_available(path)) continue;
          std::vector<float> got(65536, 1.0f);
          mac_fp8_packed(path, pack, a.data(), k, w.data(), 256, got.data(), 256, 256, 256, k, false);
          size_t wrong = 0;
          for (size_t i = 0; i < got.size(); ++i) {
            wrong += bits(got[i]) != canonical_bits(real((*words)[i]) + 0.0f);  // chains start at +0, so -0 becomes +0
          }
          INFO(set.file << " pack " << pack << " place " << place << " path " << static_cast<int>(path));
          CHECK(wrong == 0);
        }
      }
    }
  }
}

TEST_CASE("the chain runs down the rows and accumulates with one more rounding") {
  // 2^24 + 1 - 2^24: the order of the rows decides the result.
  const float a[3] = {1, 1, 1};
  const float down[3] = {16777216.0f, 1.0f, -16777216.0f}, other[3] = {16777216.0f, -16777216.0f, 1.0f};
  for (Path path : kPaths) {
    if (!path_available(path)) continue;
    float acc = 5;
    mac_fp(path, a, 3, down, 1, &acc, 1, 1, 1, 3, false);
    CHECK(acc == 0.0f);
    mac_fp(path, a, 3, other, 1, &acc, 1, 1, 1, 3, true);
    CHECK(acc == 1.0f);
    acc = real(0x7F812345);
    mac_fp(path, a, 3, other, 1, &acc, 1, 1, 1, 3, true);
    CHECK(bits(acc) == kCanonicalNan);
  }
}

TEST_CASE("every path of the kernels gives the scalar bits") {
  Random random(cx::test::logged_seed(2));
  for (int round = 0; round < 400; ++round) {
    const size_t m = random.between(1, 37), n = random.between(1, 70), k = random.between(1, 40);
    const size_t a_stride = k + random.between(0, 3), w_stride = n + random.between(0, 5);
    const size_t acc_stride = n + random.between(0, 4);
    const bool accumulate = random.one_in(2);
    std::vector<float> a(m * a_stride), w(k * w_stride), present(m * acc_stride);
    for (float &value : a) value = real(random.fp32());
    for (float &value : w) value = real(random.fp32());
    for (float &value : present) value = real(random.fp32());
    std::vector<float> want = present;
    mac_fp(Path::kScalar, a.data(), a_stride, w.data(), w_stride, want.data(), acc_stride, m, n, k, accumulate);

    std::vector<int8_t> w8(k * w_stride);
    const size_t a16_stride = (k + 1) / 2 * 2 + 2;
    std::vector<int16_t> a16(m * a16_stride, 0);
    for (int8_t &value : w8) value = static_cast<int8_t>(random.bits());
    for (size_t i = 0; i < m; ++i) {
      for (size_t r = 0; r < k; ++r) a16[i * a16_stride + r] = static_cast<int8_t>(random.bits());
    }
    std::vector<uint32_t> w2((k + 1) / 2 * w_stride);
    pack_int8_weights(w8.data(), static_cast<ptrdiff_t>(w_stride), k, n, w2.data(), w_stride);
    std::vector<int32_t> present_int(m * acc_stride);
    for (int32_t &value : present_int) value = static_cast<int32_t>(random.bits());
    std::vector<int32_t> want_int = present_int;
    for (size_t i = 0; i < m; ++i) {
      for (size_t j = 0; j < n; ++j) {
        uint32_t sum = accumulate ? static_cast<uint32_t>(present_int[i * acc_stride + j]) : 0;
        for (size_t r = 0; r < k; ++r) sum += static_cast<uint32_t>(a16[i * a16_stride + r] * w8[r * w_stride + j]);
        want_int[i * acc_stride + j] = static_cast<int32_t>(sum);
      }
    }

    for (Path path : kPaths) {
      if (!path_available(path)) continue;
      std::vector<float> got = present;
      mac_fp(path, a.data(), a_stride, w.data(), w_stride, got.data(), acc_stride, m, n, k, accumulate);
      std::vector<int32_t> got_int = present_int;
      mac_int8(path, a16.data(), a16_stride, w2.data(), w_stride, got_int.data(), acc_stride, m, n, k, accumulate);
      INFO("round " << round << " m " << m << " n " << n << " k " << k << " path " << static_cast<int>(path));
      REQUIRE(std::memcmp(want.data(), got.data(), want.size() * 4) == 0);
      REQUIRE((want_int == got_int));
    }
  }
}

TEST_CASE("short chains of rare values do not disturb their neighbours") {
  Random random(cx::test::logged_seed(3));
  for (int round = 0; round < 60000; ++round) {
    const size_t m = random.between(1, 3), n = random.between(1, 17), k = random.between(1, 4);
    std::vector<float> a(m * k), w(k * n), present(m * n), column(n);
    for (auto *values : {&a, &w, &present, &column}) {
      for (float &value : *values) value = real(random.fp32());
    }
    const Epilogue epilogue(random.one_in(2), {nullptr, random.one_in(2) ? column.data() : nullptr});
    std::vector<float> want = present;
    mac_fp(Path::kScalar, a.data(), k, w.data(), n, want.data(), n, m, n, k, epilogue);
    for (Path path : {Path::kPortable, Path::kAvx2}) {
      if (!path_available(path)) continue;
      std::vector<float> got = present;
      mac_fp(path, a.data(), k, w.data(), n, got.data(), n, m, n, k, epilogue);
      INFO("round " << round << " m " << m << " n " << n << " k " << k << " path " << static_cast<int>(path));
      REQUIRE(std::memcmp(want.data(), got.data(), want.size() * 4) == 0);
    }
  }
}

TEST_CASE("packed FP8 chains and block scales on random blocks") {
  Random random(cx::test::logged_seed(5));
  const DType formats[] = {DType::FP8_E4M3, DType::FP8_E5M2};
  for (int round = 0; round < 900; ++round) {
    const bool deep = round >= 897;
    const size_t m = deep ? 3 : random.between(1, 21), n = deep ? 9 : random.between(1, 70);
    const size_t k = deep ? 65535 - round % 3 : random.between(1, 45);
    const size_t a_stride = k + random.between(0, 3), w_stride = n + random.between(0, 5);
    const size_t acc_stride = n + random.between(0, 4);
    const unsigned pack = 1u << random.between(0, 2);
    const bool accumulate = random.one_in(2);
    const DType a_format = formats[random.between(0, 1)], w_format = formats[random.between(0, 1)];
    const auto fill = [&](std::vector<float> &values, DType format) {
      for (float &value : values) {
        const uint32_t element = deep && random.one_in(2) ? 0 : random.element(format);
        value = decode(format, &element);
      }
    };
    // Exactly as long as the contract allows to read, so that the address sanitizer sees any more.
    std::vector<float> a((m - 1) * a_stride + k), w((k - 1) * w_stride + n);
    fill(a, a_format);
    fill(w, w_format);
    std::vector<float> present((m - 1) * acc_stride + n), row(m), column(n);
    for (float &value : present) value = real(random.fp32());
    for (float &value : row) value = real(random.fp32());
    for (float &value : column) value = real(random.fp32());
    const BlockScale scale{random.one_in(2) ? row.data() : nullptr, random.one_in(2) ? column.data() : nullptr};

    const size_t a16_stride = (k + 1) / 2 * 2;
    std::vector<int16_t> a16(m * a16_stride, 0);
    std::vector<int8_t> w8(k * n);
    for (int8_t &value : w8) value = static_cast<int8_t>(random.bits());
    for (size_t i = 0; i < m; ++i) {
      for (size_t r = 0; r < k; ++r) a16[i * a16_stride + r] = static_cast<int8_t>(random.bits());
    }
    std::vector<uint32_t> w2((k + 1) / 2 * n);
    pack_int8_weights(w8.data(), static_cast<ptrdiff_t>(n), k, n, w2.data(), n);

    std::vector<float> want = present, want8 = present;
    for (size_t i = 0; i < m; ++i) {
      for (size_t j = 0; j < n; ++j) {
        std::vector<float> x(k), y(k);
        int64_t sum = 0;
        float chain = 0;
        for (size_t r = 0; r < k; ++r) {
          x[r] = a[i * a_stride + r];
          y[r] = w[r * w_stride + j];
          chain = std::fma(x[r], y[r], chain);
          sum += a16[i * a16_stride + r] * w8[r * n + j];
        }
        if (pack > 1) chain = packed_chain(pack, x, y);
        const size_t at = i * acc_stride + j;
        want[at] = real(finished(chain, accumulate, scale, i, j, present[at]));
        want8[at] = real(finished(static_cast<float>(sum), accumulate, scale, i, j, present[at]));
      }
    }
    for (Path path : kPaths) {
      if (!path_available(path)) continue;
      const Epilogue epilogue(accumulate, scale);
      std::vector<float> got = present, got8 = present;
      mac_fp8_packed(path, pack, a.data(), a_stride, w.data(), w_stride, got.data(), acc_stride, m, n, k, epilogue);
      mac_int8_scaled(path, a16.data(), a16_stride, w2.data(), n, got8.data(), acc_stride, m, n, k, epilogue);
      INFO("round " << round << " m " << m << " n " << n << " k " << k << " pack " << pack << " path "
                    << static_cast<int>(path));
      REQUIRE(std::memcmp(want.data(), got.data(), want.size() * 4) == 0);
      REQUIRE(std::memcmp(want8.data(), got8.data(), want8.size() * 4) == 0);
    }
  }
  float value = 0;
  CHECK_THROWS_AS(mac_fp8_packed(3, &value, 1, &value, 1, &value, 1, 1, 1, 1, false), std::invalid_argument);
  CHECK_THROWS_AS(count_zeros(0, &value, 1, 1, 1), std::invalid_argument);
}

TEST_CASE("MX blocks: power-of-two block scales give the dequantised products") {
  struct Set {
    const char *file;
    DType dtype;
    int top;  // exponent of the largest value
  };
  const Set sets[] = {{"mx/mx_fp8_e4m3_blk32_rne.f32le", DType::FP8_E4M3, 8},
                      {"mx/mx_fp8_e5m2_blk32_rne.f32le", DType::FP8_E5M2, 15},
                      {"mx/mx_int8_blk32_rne.f32le", DType::INT8, 6}};  // INT8 elements count 64ths
  constexpr size_t kM = 512, kK = 128, kBlock = 32, kN = 24;
  const auto source = cx::test::read_words("mx/x_512x128.f32le");
  if (!source) return;
  REQUIRE(source->size() == kM * kK);
  Random random(cx::test::logged_seed(6));
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    REQUIRE(words->size() == kM * kK);
    const bool integer = set.dtype == DType::INT8;
    for (const unsigned pack : {1u, 2u, 4u}) {
      for (Path path : kPaths) {
        if (!path_available(path)) continue;
        std::vector<float> got(kM * kN), want(kM * kN);
        size_t misquantised = 0;
        for (size_t block = 0; block < kK / kBlock; ++block) {
          std::vector<float> elements(kM * kBlock), row(kM), weights(kBlock * kN), column(kN);
          std::vector<int16_t> elements16(kM * kBlock);
          std::vector<int8_t> weights8(kBlock * kN);
          for (size_t i = 0; i < kM; ++i) {
            const size_t at = i * kK + block * kBlock;
            float largest = 0;
            for (size_t r = 0; r < kBlock; ++r) largest = std::fmax(largest, std::fabs(real((*source)[at + r])));
            const int exponent = (largest == 0 ? 0 : std::ilogb(largest)) - set.top;
            row[i] = std::ldexp(1.0f, exponent);
            for (size_t r = 0; r < kBlock; ++r) {
              uint32_t element = 0;
              const float scaled = std::ldexp(real((*source)[at + r]), -exponent);
              // The reference keeps INT8 symmetric.
              encode(set.dtype, integer ? std::fmax(scaled, -127.0f) : scaled, &element);
              const float value = decode(set.dtype, &element);
              misquantised += value * row[i] != real((*words)[at + r]);
              elements[i * kBlock + r] = value;
              elements16[i * kBlock + r] = static_cast<int16_t>(value);
            }
          }
          for (float &scale : column) scale = std::ldexp(1.0f, static_cast<int>(random.between(0, 20)) - 10);
          for (size_t i = 0; i < weights.size(); ++i) {
            uint32_t element = random.bits() & 0x8Fu;  // small FP8 numbers, never special
            if (integer) element = random.bits() & 0xFFu;
            weights[i] = decode(set.dtype, &element);
            weights8[i] = static_cast<int8_t>(element);
          }
          const Epilogue epilogue(block != 0, {row.data(), column.data()});
          if (integer) {
            std::vector<uint32_t> w2(kBlock / 2 * kN);
            pack_int8_weights(weights8.data(), kN, kBlock, kN, w2.data(), kN);
            mac_int8_scaled(path, elements16.data(), kBlock, w2.data(), kN, got.data(), kN, kM, kN, kBlock, epilogue);
          } else {
            mac_fp8_packed(path, pack, elements.data(), kBlock, weights.data(), kN, got.data(), kN, kM, kN, kBlock,
                           epilogue);
          }
          for (size_t i = 0; i < kM; ++i) {
            for (size_t j = 0; j < kN; ++j) {
              std::vector<float> x(kBlock), y(kBlock);
              float chain = 0;
              for (size_t r = 0; r < kBlock; ++r) {
                x[r] = real((*words)[i * kK + block * kBlock + r]);
                y[r] = weights[r * kN + j] * column[j];
                chain = std::fma(x[r], y[r], chain);
              }
              if (pack > 1 && !integer) chain = packed_chain(pack, x, y);
              float &sum = want[i * kN + j];
              sum = block == 0 ? chain : sum + chain;
            }
          }
        }
        INFO(set.file << " pack " << pack << " path " << static_cast<int>(path));
        CHECK(misquantised == 0);
        CHECK((want == got));
      }
    }
  }
}

TEST_CASE("zero activations are counted in words") {
  Random random(cx::test::logged_seed(7));
  for (int round = 0; round < 2000; ++round) {
    const size_t m = random.between(1, 9), k = random.between(1, round < 1900 ? 100 : 9000);
    const size_t stride = random.one_in(2) ? k : k + random.between(1, 5);
    const unsigned pack = 1u << random.between(0, 2);
    const uint32_t sparsity = random.between(2, 9);
    std::vector<float> wide((m - 1) * stride + k);
    std::vector<int16_t> wide16(wide.size());
    for (size_t i = 0; i < wide.size(); ++i) {
      const bool zero = !random.one_in(sparsity);
      wide[i] = zero ? real(random.bits() & 0x80000000u) : real(random.one_in(9) ? 0x7FC00000u : random.bits() | 1);
      wide16[i] = zero ? 0 : static_cast<int16_t>(1 + random.between(0, 126));
    }
    uint64_t want = 0, want16 = 0;
    for (size_t i = 0; i < m; ++i) {
      for (size_t r = 0; r < k; r += pack) {
        bool zero = true, zero16 = true;
        for (size_t p = r; p < std::min<size_t>(r + pack, k); ++p) {
          zero = zero && wide[i * stride + p] == 0;
          zero16 = zero16 && wide16[i * stride + p] == 0;
        }
        want += zero;
        want16 += zero16;
      }
    }
    for (Path path : kPaths) {
      if (!path_available(path)) continue;
      INFO("round " << round << " m " << m << " k " << k << " pack " << pack << " path " << static_cast<int>(path));
      REQUIRE(count_zeros(path, pack, wide.data(), stride, m, k) == want);
      REQUIRE(count_zeros(path, pack, wide16.data(), stride, m, k) == want16);
    }
  }
}
