// The multiply-accumulate chain: against SoftFloat's fused results, and every path against the scalar one.
#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <ctime>
#include <iostream>

#include "hw/common/num/mac.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/common/num_vectors.hpp"

using namespace cx::num;
using cx::test::Random;

namespace {

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }

constexpr Path kPaths[] = {Path::kScalar, Path::kPortable, Path::kAvx2};

/// fma(a, b, c) by the chain: c enters as 1 * c, which is exact unless c is -0 (0 + -0 is +0).
uint32_t chain_fma(Path path, float a, float b, float c) {
  const float activations[2] = {1.0f, a};
  const float weights[2] = {c, b};
  float result = 0;
  mac_fp(path, activations, 2, weights, 1, &result, 1, 1, 1, 2, false);
  return bits(result);
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

TEST_CASE("FP8 products are exact") {
  struct Set {
    const char *file;
    DType a, b;
  };
  const Set sets[] = {{"fp8/mul_e4m3fnxe4m3fn_to_f32.f32le", DType::FP8_E4M3, DType::FP8_E4M3},
                      {"fp8/mul_e5m2xe5m2_to_f32.f32le", DType::FP8_E5M2, DType::FP8_E5M2}};
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    size_t wrong = 0;
    for (uint32_t i = 0; i < 65536; ++i) {
      const auto a = static_cast<uint8_t>(i >> 8), b = static_cast<uint8_t>(i);
      const float expected = real((*words)[i]);
      const float activation = decode(set.a, &a), weight = decode(set.b, &b);
      float got = 1;
      mac_fp(&activation, 1, &weight, 1, &got, 1, 1, 1, 1, false);
      if (expected != expected) {
        wrong += bits(got) != kCanonicalNan;
      } else {
        wrong += bits(got) != bits(expected + 0.0f);  // the chain starts at +0, so that -0 becomes +0
      }
    }
    INFO(set.file);
    CHECK(wrong == 0);
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

TEST_CASE("speed of the kernels", "[.speed]") {
  constexpr size_t kM = 256, kN = 32, kK = 32, kRounds = 2000;
  std::vector<float> a(kM * kK, 1.5f), w(kK * kN, 0.25f), acc(kM * kN, 0);
  std::vector<int16_t> a16(kM * kK, 3);
  std::vector<uint32_t> w2(kK / 2 * kN, 0x00020001);
  std::vector<int32_t> acc_int(kM * kN, 0);
  for (Path path : {Path::kPortable, Path::kAvx2}) {
    if (!path_available(path)) continue;
    const auto gflops = [&](auto run) {
      const std::clock_t begin = std::clock();  // processor time: the machine may be busy
      for (size_t i = 0; i < kRounds; ++i) run();
      const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
      return 2.0 * kM * kN * kK * kRounds / seconds * 1e-9;
    };
    const double fp = gflops([&] { mac_fp(path, a.data(), kK, w.data(), kN, acc.data(), kN, kM, kN, kK, true); });
    const double integer =
        gflops([&] { mac_int8(path, a16.data(), kK, w2.data(), kN, acc_int.data(), kN, kM, kN, kK, true); });
    std::cerr << "path " << static_cast<int>(path) << ": " << fp << " GFLOP/s, " << integer << " Gop/s (INT8)\n";
  }
}
