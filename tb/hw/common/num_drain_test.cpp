// The drain path on host vectors: the rule by hand, and every path against the scalar one.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <ctime>
#include <iostream>
#include <limits>
#include <vector>

#include "hw/common/num/drain.hpp"
#include "tb/hw/common/num_random.hpp"

using namespace cx::num;
using cx::test::Random;
using Act = DrainStage::Act;

namespace {

constexpr Path kPaths[] = {Path::kScalar, Path::kPortable, Path::kAvx2};
constexpr Act kActs[] = {Act::kNone, Act::kRelu, Act::kClamp};
constexpr DType kOutputs[] = {DType::FP32,     DType::FP16, DType::BF16,  DType::FP8_E4M3,
                              DType::FP8_E5M2, DType::INT8, DType::UINT8, DType::INT32};
constexpr float kInf = std::numeric_limits<float>::infinity();

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }

/// The last eight bytes catch writes beyond the row.
std::vector<uint8_t> drained(Path path, const DrainStage &stage, const uint32_t *words, size_t n, size_t offset = 0) {
  std::vector<uint8_t> out(offset + n * bytes_of(stage.out) + 8, 0xA5);
  drain_row(path, stage, words, out.data() + offset, n);
  for (size_t i = 0; i < offset; ++i) REQUIRE(out[i] == 0xA5);
  for (size_t i = out.size() - 8; i < out.size(); ++i) REQUIRE(out[i] == 0xA5);
  return {out.begin() + static_cast<ptrdiff_t>(offset), out.end() - 8};
}

uint32_t drained_word(const DrainStage &stage, uint32_t word) {
  uint32_t result = 0;
  for (Path path : kPaths) {
    if (!path_available(path)) continue;
    const std::vector<uint8_t> out = drained(path, stage, &word, 1);
    uint32_t got = 0;
    std::memcpy(&got, out.data(), out.size());
    if (path != Path::kScalar) REQUIRE(got == result);
    result = got;
  }
  return result;
}

/// Values where the rounding of some format turns: every 16-bit code with its upper and lower ties, and integers' ties.
std::vector<uint32_t> edges() {
  std::vector<uint32_t> words;
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const uint32_t half = bits(decode_fp16(static_cast<uint16_t>(code)));
    for (uint32_t add : {0u, 1u, 0xFFFu, 0x1000u, 0x1001u}) words.push_back(half + add);
    for (uint32_t add : {0u, 1u, 0x7FFFu, 0x8000u, 0x8001u}) words.push_back(code << 16 | add);
  }
  for (int i = -1100; i <= 1100; ++i) {
    const uint32_t tie = bits(static_cast<float>(i) * 0.25f);
    for (uint32_t word : {tie - 1, tie, tie + 1}) words.push_back(word);
  }
  for (float limit : {4194304.0f, 8388608.0f, 16777216.0f, 0x1p31f, 0x1p32f, 448.0f, 464.0f, 57344.0f, 61440.0f,
                      65504.0f, 65520.0f, 0x1p-9f, 0x1p-10f, 0x1p-16f, 0x1p-17f, 0x1p-24f, 0x1p-25f, 0x1p-126f}) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      for (uint32_t word : {bits(limit) - 1, bits(limit), bits(limit) + 1}) words.push_back(word | sign);
    }
  }
  return words;
}

}  // namespace

TEST_CASE("the stages one by one") {
  DrainStage stage;
  CHECK(drained_word(stage, 0xFFC12345u) == kCanonicalNan);
  CHECK(drained_word(stage, 0x80000000u) == 0x80000000u);
  CHECK(drained_word(stage, 0x80000001u) == 0x80000001u);

  stage.act = Act::kRelu;
  CHECK(drained_word(stage, 0x80000000u) == 0);
  CHECK(drained_word(stage, bits(-kInf)) == 0);
  CHECK(drained_word(stage, 0xFFC12345u) == kCanonicalNan);
  CHECK(drained_word(stage, 1) == 1);

  stage.act = Act::kClamp;
  stage.lo = 0;
  stage.hi = 6;
  CHECK(drained_word(stage, 0x80000000u) == 0x80000000u);  // -0 is not below +0
  CHECK(drained_word(stage, bits(7)) == bits(6));
  CHECK(drained_word(stage, kCanonicalNan) == kCanonicalNan);
  stage.lo = 8;  // above hi: the upper limit is applied last
  CHECK(drained_word(stage, bits(1)) == bits(6));
  stage.lo = real(kCanonicalNan);
  CHECK(drained_word(stage, bits(-100)) == bits(-100));
  CHECK(drained_word(stage, bits(100)) == bits(6));
  stage.hi = real(kCanonicalNan);
  CHECK(drained_word(stage, bits(100)) == bits(100));

  const float scale = 3, bias = -1;
  stage = {.scale = &scale, .bias = &bias, .out = DType::INT8, .integer = true};
  CHECK(drained_word(stage, 14) == 41);
  CHECK(drained_word(stage, 1000) == 0x7F);
  CHECK(drained_word(stage, static_cast<uint32_t>(-1000)) == 0x80);
}

TEST_CASE("an INT32 accumulator is copied only when nothing is done to it") {
  DrainStage stage{.out = DType::INT32, .integer = true};
  const uint32_t odd = 0x7FFFFFFFu - 0x10;  // not an FP32 number
  CHECK(drained_word(stage, odd) == odd);
  stage.act = Act::kRelu;
  CHECK(drained_word(stage, odd) == 0x7FFFFFFFu);
  stage.act = Act::kNone;
  const float one = 1;
  stage.scale = &one;
  CHECK(drained_word(stage, odd) == 0x7FFFFFFFu);
  stage.scale = nullptr;
  stage.integer = false;
  CHECK(drained_word(stage, bits(2.5f)) == 2);
}

TEST_CASE("bad stages are refused") {
  const uint32_t word = 0;
  uint64_t out = 0;
  DrainStage stage;
  for (unsigned type = static_cast<unsigned>(DType::INT64); type <= kDTypes; ++type) {
    stage.out = static_cast<DType>(type);
    CHECK_THROWS_AS(drain_row(stage, &word, &out, 1), std::invalid_argument);
  }
  stage.out = DType::FP32;
  stage.act = static_cast<Act>(3);
  CHECK_THROWS_AS(drain_row(stage, &word, &out, 1), std::invalid_argument);
}

TEST_CASE("every path drains as the scalar one") {
  Random random(cx::test::logged_seed(11));
  std::vector<uint32_t> words = edges();
  for (int i = 0; i < 100000; ++i) words.push_back(i % 2 != 0 ? random.bits() : random.fp32());
  const size_t n = words.size();
  std::vector<float> scale(n), bias(n);
  for (size_t i = 0; i < n; ++i) {
    scale[i] = real(random.fp32());
    bias[i] = real(random.fp32());
  }
  const float limits[][2] = {{0, 6}, {-1, 1}, {-kInf, kInf}, {5, -5}, {real(0xFFC00001u), 2}, {-2, real(0x7FA00000u)}};
  for (Path path : {Path::kPortable, Path::kAvx2}) {
    if (!path_available(path)) continue;
    size_t combination = 0;
    for (DType out : kOutputs) {
      for (Act act : kActs) {
        for (unsigned flags = 0; flags < 8; ++flags) {
          DrainStage stage{.act = act, .out = out, .integer = (flags & 4) != 0};
          if ((flags & 1) != 0) stage.scale = scale.data();
          if ((flags & 2) != 0) stage.bias = bias.data();
          stage.lo = limits[combination % 6][0];
          stage.hi = limits[combination % 6][1];
          ++combination;
          INFO(name_of(out) << " act " << static_cast<int>(act) << " flags " << flags << " path "
                            << static_cast<int>(path));
          CHECK((drained(path, stage, words.data(), n) == drained(Path::kScalar, stage, words.data(), n)));
        }
      }
    }
  }
}

TEST_CASE("every length and alignment") {
  Random random(cx::test::logged_seed(12));
  std::vector<uint32_t> words(96);
  std::vector<float> scale(96), bias(96);
  for (size_t i = 0; i < words.size(); ++i) {
    words[i] = random.fp32();
    scale[i] = real(random.fp32());
    bias[i] = real(random.fp32());
  }
  for (Path path : {Path::kPortable, Path::kAvx2}) {
    if (!path_available(path)) continue;
    for (DType out : kOutputs) {
      size_t wrong = 0;
      for (size_t n = 0; n <= 70; ++n) {
        for (size_t shift = 0; shift < 8; ++shift) {
          const DrainStage stage{.scale = scale.data() + (shift * 3 & 7),
                                 .bias = bias.data() + (shift * 5 & 7),
                                 .act = kActs[n % 3],
                                 .lo = -0.5f,
                                 .hi = 2,
                                 .out = out,
                                 .integer = (n & 4) != 0};
          const uint32_t *from = words.data() + shift;
          for (size_t offset = 0; offset < 32; offset += shift % 2 == 0 ? 1 : 5) {
            wrong += drained(path, stage, from, n, offset) != drained(Path::kScalar, stage, from, n);
          }
        }
      }
      INFO(name_of(out) << " path " << static_cast<int>(path));
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("rows with strides are rows one by one") {
  Random random(cx::test::logged_seed(13));
  constexpr size_t kRows = 5, kColumns = 19, kWordStride = 23;
  std::vector<uint32_t> words(kRows * kWordStride);
  std::vector<float> scale(kColumns);
  for (uint32_t &word : words) word = random.fp32();
  for (float &value : scale) value = real(random.fp32());
  for (Path path : kPaths) {
    if (!path_available(path)) continue;
    for (DType out : kOutputs) {
      const DrainStage stage{.scale = scale.data(), .act = Act::kRelu, .out = out};
      const size_t row_bytes = kColumns * bytes_of(out), pitch = row_bytes + 3;
      std::vector<uint8_t> down(kRows * pitch, 0xA5), up(down), want(down);
      for (size_t i = 0; i < kRows; ++i) {
        drain_row(Path::kScalar, stage, &words[i * kWordStride], &want[i * pitch], kColumns);
      }
      drain_rows(path, stage, words.data(), kWordStride, down.data(), static_cast<ptrdiff_t>(pitch), kRows, kColumns);
      drain_rows(path, stage, words.data(), kWordStride, &up[(kRows - 1) * pitch], -static_cast<ptrdiff_t>(pitch),
                 kRows, kColumns);
      INFO(name_of(out) << " path " << static_cast<int>(path));
      CHECK((down == want));
      for (size_t i = 0; i < kRows; ++i) {
        CHECK(std::memcmp(&up[i * pitch], &want[(kRows - 1 - i) * pitch], row_bytes) == 0);
      }
    }
  }
}

TEST_CASE("speed of the drain path", "[.speed]") {
  Random random(14);
  constexpr size_t kColumns = 256, kRows = 64;
  std::vector<uint32_t> fp(kColumns * kRows), integers(kColumns * kRows);
  for (size_t i = 0; i < fp.size(); ++i) {
    fp[i] = bits(static_cast<float>(static_cast<int32_t>(random.bits())) * 0x1p-28f);
    integers[i] = random.bits() & 0xFFFFu;
  }
  const std::vector<float> scale(kColumns, 0.01f), bias(kColumns, 0.5f);
  std::vector<uint8_t> out(kColumns * kRows * 4);
  for (bool integer : {false, true}) {
    for (DType type : kOutputs) {
      std::cout << (integer ? "INT32" : "FP32") << " scale, bias, relu to " << name_of(type) << ":";
      for (Path path : kPaths) {
        if (!path_available(path)) continue;
        const DrainStage stage{
            .scale = scale.data(), .bias = bias.data(), .act = Act::kRelu, .out = type, .integer = integer};
        const uint32_t *from = integer ? integers.data() : fp.data();
        const auto row_bytes = static_cast<ptrdiff_t>(kColumns * bytes_of(type));
        const int repeats = path == Path::kScalar ? 20 : 2000;
        const std::clock_t start = std::clock();
        for (int i = 0; i < repeats; ++i) {
          drain_rows(path, stage, from, kColumns, out.data(), row_bytes, kRows, kColumns);
        }
        const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
        const double elements = static_cast<double>(repeats) * static_cast<double>(fp.size());
        std::cout << "  path " << static_cast<int>(path) << " " << elements * 4e-9 / seconds << " GB/s in, "
                  << seconds * 1e9 / elements << " ns";
      }
      std::cout << "\n";
    }
  }
}
