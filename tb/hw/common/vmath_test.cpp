#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tb/hw/common/vmath_reference.hpp"

namespace {

using namespace cx::vmath;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();
constexpr float kNormal = std::numeric_limits<float>::min();
constexpr float kMax = std::numeric_limits<float>::max();

uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

/// Largest error in README.md, rounded up. Exhaustive figures come from cx_vmath_measure.
double bound(Unary f) {
  switch (f) {
    case Unary::SQRT:
    case Unary::RECIP:
      return 0.5;
    case Unary::EXP:
    case Unary::LOG:
    case Unary::SIN:
    case Unary::COS:
    case Unary::ERF:
      return 1.1;
    case Unary::ATAN:
      return 1.2;
    case Unary::SIGMOID:
    case Unary::TANH:
      return 1.5;
    case Unary::SILU:
      return 3.0;
    case Unary::SOFTPLUS:
      return 3.0;
    case Unary::GELU:
      return 6.0;
  }
  return 0;
}

std::vector<Unary> all_unary() {
  std::vector<Unary> all;
  for (size_t i = 0; i < kUnaryCount; ++i) all.push_back(static_cast<Unary>(i));
  return all;
}

/// Every float near the places where the definitions change course, and the edges of the format.
std::vector<float> edges() {
  std::vector<float> x;
  for (const float centre :
       {0.0f,       kTiny,      kNormal,    1.0f,      0.55f,      0.9375f,     3.95f,    10.0f,      15.0f,
        0.346574f,  88.7229f,   89.0f,      103.97f,   104.0f,     120.0f,      87.3366f, 0.7071068f, 1.4142135f,
        0.7853982f, 1.5707964f, 3.1415927f, 131072.0f, 1048576.0f, 16777216.0f, kMax,     kInf}) {
    const uint32_t middle = bits(centre);
    for (int d = -300; d <= 300; ++d) {
      const int64_t pattern = int64_t{middle} + d;
      if (pattern < 0 || pattern > 0x7FFFFFFF) continue;
      x.push_back(std::bit_cast<float>(static_cast<uint32_t>(pattern)));
      x.push_back(-x.back());
    }
  }
  for (const uint32_t nan : {0x7FC00000u, 0x7F800001u, 0xFFC00000u, 0xFFFFFFFFu})
    x.push_back(std::bit_cast<float>(nan));
  return x;
}

double worst_error(Unary f, const std::vector<float> &x, float &where) {
  std::vector<float> y(x.size());
  apply(f, x.data(), y.data(), x.size());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = reference::ulps(y[i], reference::value(f, x[i]));
    if (error > worst) {
      worst = error;
      where = x[i];
    }
  }
  return worst;
}

TEST_CASE("vmath: errors over a stride through all inputs and around the seams") {
  std::vector<float> x = edges();
  for (uint64_t i = 0; i < (uint64_t{1} << 32); i += 20011) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(i)));
  for (const Unary f : all_unary()) {
    float where = 0;
    const double worst = worst_error(f, x, where);
    INFO(name(f) << ": " << worst << " ulp at " << where);
    CHECK(worst <= bound(f));
  }
}

TEST_CASE("vmath: backends give equal bits") {
  if (!available(Backend::AVX2)) {
    WARN("no AVX2 on this host: nothing to compare");
    return;
  }
  std::vector<float> x = edges();
  for (uint64_t i = 0; i < (uint64_t{1} << 32); i += 40009) x.push_back(std::bit_cast<float>(static_cast<uint32_t>(i)));
  std::vector<float> fast(x.size()), plain(x.size());
  for (size_t f = 0; f < kUnaryCount; ++f) {
    kernels(Backend::AVX2).unary[f](x.data(), fast.data(), x.size());
    kernels(Backend::PORTABLE).unary[f](x.data(), plain.data(), x.size());
    INFO(name(static_cast<Unary>(f)));
    CHECK(std::memcmp(fast.data(), plain.data(), x.size() * sizeof(float)) == 0);
  }
  const uint32_t seed = 7;
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<float> y(x.size());
  for (float &v : y) v = std::bit_cast<float>(static_cast<uint32_t>(random()));
  for (size_t f = 0; f < kBinaryCount; ++f) {
    kernels(Backend::AVX2).binary[f](x.data(), y.data(), fast.data(), x.size());
    kernels(Backend::PORTABLE).binary[f](x.data(), y.data(), plain.data(), x.size());
    INFO(name(static_cast<Binary>(f)));
    CHECK(std::memcmp(fast.data(), plain.data(), x.size() * sizeof(float)) == 0);
  }
}

// These bits are the definition's: a change of them is a change of the architecture.
TEST_CASE("vmath: the definition's bits") {
  std::vector<float> x(1 << 16);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::bit_cast<float>(static_cast<uint32_t>(i * 65537u));
  const auto digest = [](const std::vector<float> &y) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const float v : y) h = (h ^ bits(v)) * 0x100000001b3u;
    return h;
  };
  const uint64_t expected[kUnaryCount] = {
      0xd168abc1ebcee868ull, 0x0be303cb4aa60e0bull, 0x0d9408eccb2177f1ull, 0x3685e09f7a7d6470ull, 0x16777cdbe455b9bfull,
      0xce77823a64d8d330ull, 0xb4c6a061e04f3721ull, 0xe3575b356d82dfa1ull, 0xd5e5d5a22f6f088full, 0x938f624e9ccf745dull,
      0xad953f7195878448ull, 0x61cc532c2b5a7714ull, 0x571d6c1961871700ull};
  for (size_t f = 0; f < kUnaryCount; ++f) {
    std::vector<float> y(x.size());
    apply(static_cast<Unary>(f), x.data(), y.data(), x.size());
    INFO(name(static_cast<Unary>(f)) << " 0x" << std::hex << digest(y));
    CHECK(digest(y) == expected[f]);
  }
}

TEST_CASE("vmath: any length, in place") {
  std::vector<float> x(37), y(37), z(37);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.25f * static_cast<float>(i) - 4.0f;
  for (const Unary f : all_unary()) {
    for (size_t n = 0; n <= x.size(); ++n) {
      y = x;
      z = x;
      apply(f, x.data(), y.data(), n);
      apply(f, z.data(), z.data(), n);
      for (size_t i = 0; i < x.size(); ++i) {
        REQUIRE(bits(y[i]) == (i < n ? bits(apply(f, x[i])) : bits(x[i])));
        REQUIRE(bits(y[i]) == bits(z[i]));
      }
    }
  }
}

TEST_CASE("vmath: special values") {
  const float nan = std::bit_cast<float>(0xFFC12345u);
  for (const Unary f : all_unary()) {
    INFO(name(f));
    CHECK(bits(apply(f, nan)) == kCanonicalNan);
  }
  CHECK(apply(Unary::EXP, 0.0f) == 1.0f);
  CHECK(apply(Unary::EXP, -kInf) == 0.0f);
  CHECK(apply(Unary::EXP, kInf) == kInf);
  CHECK(apply(Unary::EXP, 88.7229f) == kInf);
  CHECK(apply(Unary::EXP, -103.0f) == kTiny);
  CHECK(apply(Unary::EXP, -104.0f) == 0.0f);
  CHECK(apply(Unary::LOG, 1.0f) == 0.0f);
  CHECK_FALSE(std::signbit(apply(Unary::LOG, 1.0f)));
  CHECK(apply(Unary::LOG, 0.0f) == -kInf);
  CHECK(apply(Unary::LOG, -0.0f) == -kInf);
  CHECK(apply(Unary::LOG, kInf) == kInf);
  CHECK(bits(apply(Unary::LOG, -1.0f)) == kCanonicalNan);
  CHECK(bits(apply(Unary::LOG, -kInf)) == kCanonicalNan);
  CHECK(apply(Unary::SIGMOID, -kInf) == 0.0f);
  CHECK(apply(Unary::SIGMOID, kInf) == 1.0f);
  CHECK(apply(Unary::SIGMOID, 0.0f) == 0.5f);
  for (const Unary odd : {Unary::TANH, Unary::ERF}) {
    CHECK(apply(odd, kInf) == 1.0f);
    CHECK(apply(odd, -kInf) == -1.0f);
  }
  for (const Unary keeps_zero :
       {Unary::TANH, Unary::ERF, Unary::SIN, Unary::SQRT, Unary::SILU, Unary::GELU, Unary::ATAN}) {
    INFO(name(keeps_zero));
    CHECK(bits(apply(keeps_zero, 0.0f)) == 0u);
    CHECK(bits(apply(keeps_zero, -0.0f)) == 0x80000000u);
  }
  CHECK(bits(apply(Unary::SIN, kInf)) == kCanonicalNan);
  CHECK(bits(apply(Unary::COS, -kInf)) == kCanonicalNan);
  CHECK(apply(Unary::COS, 0.0f) == 1.0f);
  CHECK(apply(Unary::ATAN, kInf) == 0x1.921fb6p+0f);
  CHECK(apply(Unary::ATAN, -kInf) == -0x1.921fb6p+0f);
  CHECK(apply(Unary::ATAN, kTiny) == kTiny);
  CHECK(apply(Unary::RECIP, -0.0f) == -kInf);
  CHECK(bits(apply(Unary::SQRT, -1.0f)) == kCanonicalNan);
  CHECK(apply(Unary::SOFTPLUS, -kInf) == 0.0f);
  CHECK(apply(Unary::SOFTPLUS, kInf) == kInf);
  CHECK(apply(Unary::SILU, kInf) == kInf);
  CHECK(apply(Unary::GELU, kInf) == kInf);
  CHECK(bits(apply(Unary::SILU, -kInf)) == kCanonicalNan);
  CHECK(bits(apply(Unary::GELU, -kInf)) == kCanonicalNan);
  CHECK(bits(apply(Unary::GELU, -kMax)) == 0x80000000u);
  CHECK(bits(apply(Binary::DIV, 0.0f, 0.0f)) == kCanonicalNan);
  CHECK(apply(Binary::DIV, -1.0f, 0.0f) == -kInf);
}

TEST_CASE("vmath: POW at the edges is IEEE 754 pow") {
  const float values[] = {0.0f,
                          1.0f,
                          0.5f,
                          2.0f,
                          3.0f,
                          2.5f,
                          kTiny,
                          kNormal,
                          kMax,
                          kInf,
                          1e-30f,
                          1e30f,
                          1.0000001f,
                          0.99999994f,
                          16777215.0f,
                          16777216.0f,
                          8388607.5f,
                          33554432.0f,
                          std::numeric_limits<float>::quiet_NaN()};
  for (const float a : values) {
    for (const float b : values) {
      for (unsigned signs = 0; signs < 4; ++signs) {
        const float x = signs & 1 ? -a : a;
        const float y = signs & 2 ? -b : b;
        const double exact = reference::value(Binary::POW, x, y);
        const float got = apply(Binary::POW, x, y);
        INFO(x << " ^ " << y << " = " << got << ", expected " << exact);
        // A result that underflows keeps the sign of the exact one.
        if (!std::isnan(exact)) CHECK(std::signbit(got) == std::signbit(exact));
        CHECK(reference::ulps(got, exact) <= 1.0);
      }
    }
  }
}

TEST_CASE("vmath: POW on random operands") {
  const uint32_t seed = 11;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  double worst = 0;
  float wx = 0, wy = 0;
  for (int i = 0; i < 300000; ++i) {
    const uint64_t r = random();
    float x = std::bit_cast<float>(static_cast<uint32_t>(r) & 0x7FFFFFFFu);
    if (i % 3 == 0) x = 1.0f + std::ldexp(static_cast<float>(r & 0xFFFF), -static_cast<int>(r >> 60) - 17);
    if (!(x > 0.0f) || x == 1.0f || x == kInf) continue;
    const double exponent = static_cast<double>(random() >> 11) * 0x1p-53 * 290.0 - 145.0;
    float y = static_cast<float>(exponent / std::log2(static_cast<double>(x)));
    if (i % 5 == 0) {
      x = -x;
      y = std::rint(y);
    }
    const double error = reference::ulps(apply(Binary::POW, x, y), reference::value(Binary::POW, x, y));
    if (error > worst) {
      worst = error;
      wx = x;
      wy = y;
    }
  }
  INFO(worst << " ulp at " << wx << " ^ " << wy);
  CHECK(worst <= 1.0);
}

}  // namespace
