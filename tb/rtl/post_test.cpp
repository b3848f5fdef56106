// The drain path's post-processing against the host's kernels, TestFloat, and a search for the nearest FP8 value.
//
// TestFloat and the chip differ for one integer conversion: a NaN is 0 here and 7FFFFFFF there. Beyond the range both
// clamp.
#include <algorithm>
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <ctime>
#include <deque>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "Vpost_bench.h"
#include "hw/common/num/drain.hpp"
#include "rtl/coverage.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/common/num_vectors.hpp"

using namespace cx::num;
using cx::test::Random;
using Act = DrainStage::Act;

namespace {

constexpr size_t kColumns = 8;
constexpr unsigned kStages = 3;
constexpr Act kActs[] = {Act::kNone, Act::kRelu, Act::kClamp};
constexpr DType kOutputs[] = {DType::FP32,     DType::FP16, DType::BF16,  DType::FP8_E4M3,
                              DType::FP8_E5M2, DType::INT8, DType::UINT8, DType::INT32};

using Row = std::array<uint32_t, kColumns>;

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }

/// Columns of the RTL. scale and bias of a stage hold kColumns values.
class Post {
 public:
  Post() : model_(&context_) {
    model_.clk_i = 0;
    model_.en_i = 0;
    model_.eval();
  }
  ~Post() { cx::rtl::write_coverage(context_, model_.modelName()); }

  void set(const DrainStage &stage) {
    model_.is_int_i = stage.integer;
    model_.has_scale_i = stage.scale != nullptr;
    model_.has_bias_i = stage.bias != nullptr;
    for (size_t c = 0; c < kColumns; ++c) {
      model_.scale_i[c] = stage.scale != nullptr ? bits(stage.scale[c]) : 0xDEADBEEFu;
      model_.bias_i[c] = stage.bias != nullptr ? bits(stage.bias[c]) : 0xDEADBEEFu;
    }
    model_.act_i = static_cast<uint8_t>(stage.act);
    model_.lo_i = bits(stage.lo);
    model_.hi_i = bits(stage.hi);
    model_.fmt_i = static_cast<uint8_t>(stage.out);
  }

  void tick(bool enable, const Row &words) {
    for (size_t c = 0; c < kColumns; ++c) model_.word_i[c] = words[c];
    model_.en_i = enable;
    model_.clk_i = 1;
    model_.eval();
    model_.clk_i = 0;
    model_.eval();
  }

  Row output() const {
    Row row;
    for (size_t c = 0; c < kColumns; ++c) row[c] = model_.word_o[c];
    return row;
  }

  Row run(const DrainStage &stage, const Row &words) {
    set(stage);
    for (unsigned i = 0; i < kStages; ++i) tick(true, words);
    return output();
  }

  uint32_t run(const DrainStage &stage, uint32_t word) {
    Row row{};
    row[0] = word;
    return run(stage, row)[0];
  }

 private:
  VerilatedContext context_;
  Vpost_bench model_;
};

/// The host's result, one zero-extended element per column.
Row expected(Path path, const DrainStage &stage, const Row &words) {
  const size_t step = bytes_of(stage.out);
  std::array<uint8_t, kColumns * 4> raw;
  drain_row(path, stage, words.data(), raw.data(), kColumns);
  Row row{};
  for (size_t c = 0; c < kColumns; ++c) std::memcpy(&row[c], &raw[c * step], step);
  return row;
}

size_t mismatches(Post &post, const DrainStage &stage, const Row &words) {
  const Row got = post.run(stage, words), scalar = expected(Path::kScalar, stage, words);
  if (got == scalar && expected(best_path(), stage, words) == scalar) return 0;
  size_t wrong = 0;
  for (size_t c = 0; c < kColumns; ++c) {
    if (got[c] == scalar[c]) continue;
    if (wrong++ == 0) {
      UNSCOPED_INFO(name_of(stage.out) << std::hex << " column " << c << " word " << words[c] << " rtl " << got[c]
                                       << " host " << scalar[c]);
    }
  }
  return std::max<size_t>(wrong, 1);
}

/// FP32 bits at and around the places where the rounding of `out` turns.
uint32_t near_edge(Random &random, DType out) {
  const uint32_t sign = random.bits() & 0x80000000u;
  const uint32_t nudge = random.between(0, 2) - 1;
  float value = 0;
  switch (out) {
    case DType::FP32:
      return random.bits();
    case DType::FP16:
    case DType::BF16:
    case DType::FP8_E4M3:
    case DType::FP8_E5M2: {
      const uint32_t largest = out == DType::FP16       ? 0x7C00
                               : out == DType::BF16     ? 0x7F80
                               : out == DType::FP8_E4M3 ? 0x7E
                                                        : 0x7C;
      uint32_t code = random.one_in(4) ? random.between(0, 8) : random.between(0, largest);
      if (random.one_in(16)) code = largest - random.between(0, 1);
      const uint32_t next = std::min(code + 1, largest);
      // The middle of neighbours has one bit more than they: exact in FP32 but for BF16's subnormals and infinity.
      const double low = decode(out, &code), high = decode(out, &next);
      value = static_cast<float>(random.one_in(4) || std::isinf(high) ? low : (low + high) / 2);
      break;
    }
    case DType::INT8:
    case DType::UINT8:
      value = 0.5f * static_cast<float>(random.between(0, 600));
      break;
    default:
      value = random.one_in(2) ? 0.5f * static_cast<float>(random.between(0, 1u << 24))
                               : real(bits(0x1p31f) + random.between(0, 8) - 4);
      break;
  }
  return (bits(value) + (value != 0 || nudge == 1 ? nudge : 0)) ^ sign;
}

uint32_t near_edge_integer(Random &random) {
  const uint32_t power = 1u << random.between(0, 31);
  switch (random.between(0, 4)) {
    case 0:
      return random.bits();
    case 1:
      return random.bits() >> random.between(0, 31);
    case 2:
      return power + random.between(0, 4) - 2;
    case 3: {
      // Ties of the conversion: 24 bits, a half, and something small.
      const uint32_t shift = random.between(1, 7);
      return (((random.bits() >> 8) | 0x800000u) << shift) + (1u << (shift - 1)) + random.between(0, 2) - 1;
    }
    default:
      return 0u - power + random.between(0, 4) - 2;
  }
}

struct TestFloat {
  const char *file;
  size_t operands;
};

/// Calls f(operands, result) for every record.
template <typename F>
void for_each_record(const TestFloat &set, F f) {
  const auto words = cx::test::read_words(std::string("testfloat/") + set.file + ".rnear_even.u32le.xz");
  if (!words) return;
  const size_t columns = set.operands + 2;
  REQUIRE(words->size() % columns == 0);
  REQUIRE(words->size() / columns > 300);
  for (size_t i = 0; i < words->size(); i += columns) f(&(*words)[i], (*words)[i + set.operands]);
}

}  // namespace

TEST_CASE("conversions are TestFloat's") {
  struct Set {
    const char *file;
    bool integer;
    DType out;
  };
  // i32_to_f16 rounds once: what FP32 does not hold exactly is beyond FP16.
  const Set sets[] = {{"f32_to_f16", false, DType::FP16},
                      {"f32_to_bf16", false, DType::BF16},
                      {"f32_to_i32", false, DType::INT32},
                      {"i32_to_f32", true, DType::FP32},
                      {"i32_to_f16", true, DType::FP16}};
  Post post;
  for (const Set &set : sets) {
    size_t wrong = 0, records = 0;
    const DrainStage stage{.out = set.out, .integer = set.integer};
    for_each_record({set.file, 1}, [&](const uint32_t *operand, uint32_t result) {
      if (set.out == DType::INT32 && std::isnan(real(*operand))) result = 0;
      wrong += post.run(stage, *operand) != result;
      ++records;
    });
    INFO(set.file << ", " << records << " records");
    CHECK(wrong == 0);
  }
}

TEST_CASE("scale, bias and comparison are TestFloat's") {
  Post post;
  size_t wrong = 0;
  for_each_record({"f32_mul", 2}, [&](const uint32_t *operands, uint32_t result) {
    std::array<float, kColumns> scale{};
    scale[0] = real(operands[1]);
    wrong += post.run({.scale = scale.data()}, operands[0]) != result;
  });
  CHECK(wrong == 0);
  for (const bool minus : {false, true}) {
    for_each_record({minus ? "f32_sub" : "f32_add", 2}, [&](const uint32_t *operands, uint32_t result) {
      std::array<float, kColumns> bias{};
      bias[0] = real(operands[1] ^ (minus ? 0x80000000u : 0));
      wrong += post.run({.bias = bias.data()}, operands[0]) != result;
    });
    CHECK(wrong == 0);
  }
  // The lower limit replaces the value exactly if the value is less; the upper one likewise.
  const float nan = real(kCanonicalNan);
  for_each_record({"f32_lt", 2}, [&](const uint32_t *operands, uint32_t result) {
    const uint32_t a = operands[0], b = operands[1];
    const uint32_t raised = result != 0 ? b : a;
    const uint32_t want = std::isnan(real(raised)) ? kCanonicalNan : raised;
    wrong += post.run({.act = Act::kClamp, .lo = real(b), .hi = nan}, a) != want;
    const uint32_t lowered = result != 0 ? a : b;
    const uint32_t want_lowered = std::isnan(real(lowered)) ? kCanonicalNan : lowered;
    wrong += post.run({.act = Act::kClamp, .lo = nan, .hi = real(a)}, b) != want_lowered;
  });
  CHECK(wrong == 0);
}

TEST_CASE("FP8 results are the nearest values of the OCP tables") {
  struct Format {
    const char *table;
    DType out;
    uint32_t largest, nan;
  };
  const Format formats[] = {{"fp8/decode_e4m3fn.f32le", DType::FP8_E4M3, 0x7E, 0x7F},
                            {"fp8/decode_e5m2.f32le", DType::FP8_E5M2, 0x7B, 0x7E}};
  Post post;
  for (const Format &format : formats) {
    const auto table = cx::test::read_words(format.table);
    if (!table) continue;
    REQUIRE(table->size() == 256);
    // Nearest by distance, ties to the even code; beyond the largest value that one is nearest.
    const auto nearest = [&](uint32_t word) -> uint32_t {
      const float value = real(word);
      if (std::isnan(value)) return format.nan;
      const uint32_t sign = word >> 31 << 7;
      const double magnitude = std::min<double>(std::fabs(value), real((*table)[format.largest]));
      uint32_t best = 0;
      double distance = magnitude;
      for (uint32_t code = 1; code <= format.largest; ++code) {
        const double d = std::fabs(magnitude - double{real((*table)[code])});
        if (d > distance) break;
        if (d < distance || code % 2 == 0) best = code;
        distance = d;
      }
      return sign | best;
    };
    const DrainStage stage{.out = format.out};
    const uint32_t low_halves[kColumns] = {0, 1, 2, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF};
    size_t wrong = 0;
    for (uint32_t upper = 0; upper < 0x10000; ++upper) {
      Row words;
      for (size_t c = 0; c < kColumns; ++c) words[c] = upper << 16 | low_halves[c];
      const Row got = post.run(stage, words);
      for (size_t c = 0; c < kColumns; ++c) wrong += got[c] != nearest(words[c]);
    }
    INFO(name_of(format.out));
    CHECK(wrong == 0);
  }
}

TEST_CASE("special values in every place") {
  const uint32_t magnitudes[] = {0,          1,          0x007FFFFF, 0x00800000, 0x00800001, 0x33000000, 0x33000001,
                                 0x33800000, 0x387FC000, 0x387FE000, 0x38800000, 0x3AFFFFFF, 0x3B000000, 0x3B800000,
                                 0x3EFFFFFF, 0x3F000000, 0x3F000001, 0x3F7FFFFF, 0x3F800000, 0x42FEFFFF, 0x42FF0000,
                                 0x437F8000, 0x43E80000, 0x43E80001, 0x477FEFFF, 0x477FF000, 0x476FFFFF, 0x47700000,
                                 0x4B7FFFFF, 0x4EFFFFFF, 0x4F000000, 0x4F000001, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF,
                                 0x7F800000, 0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF};
  std::vector<uint32_t> words;
  for (uint32_t magnitude : magnitudes) {
    words.push_back(magnitude);
    words.push_back(magnitude | 0x80000000u);
  }
  const uint32_t limits[] = {0,          0x80000000, 1,          0x3F800000, 0xBF800000,
                             0x40C00000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFA00000};
  Post post;
  size_t wrong = 0;
  for (DType out : kOutputs) {
    for (bool integer : {false, true}) {
      for (Act act : kActs) {
        const size_t pairs = act == Act::kClamp ? std::size(limits) * std::size(limits) : 1;
        for (size_t pair = 0; pair < pairs; ++pair) {
          const DrainStage stage{.act = act,
                                 .lo = real(limits[pair / std::size(limits)]),
                                 .hi = real(limits[pair % std::size(limits)]),
                                 .out = out,
                                 .integer = integer};
          for (size_t i = 0; i < words.size(); i += kColumns) {
            Row row;
            for (size_t c = 0; c < kColumns; ++c) row[c] = words[(i + c) % words.size()];
            wrong += mismatches(post, stage, row);
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("special scales and biases") {
  const uint32_t specials[] = {0,          0x80000000, 1,          0x80000001, 0x00800000, 0x3F800000, 0xBF800000,
                               0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFA00001, 0x33800000};
  constexpr size_t kSpecials = std::size(specials);
  Post post;
  size_t wrong = 0;
  for (uint32_t word : specials) {
    for (uint32_t scale_word : specials) {
      for (size_t i = 0; i < kSpecials; i += kColumns) {
        std::array<float, kColumns> scale, bias;
        Row words;
        words.fill(word);
        scale.fill(real(scale_word));
        for (size_t c = 0; c < kColumns; ++c) bias[c] = real(specials[(i + c) % kSpecials]);
        for (DType out : kOutputs) {
          for (bool integer : {false, true}) {
            wrong +=
                mismatches(post, {.scale = scale.data(), .bias = bias.data(), .out = out, .integer = integer}, words);
            wrong += mismatches(post, {.scale = scale.data(), .out = out, .integer = integer}, words);
            wrong += mismatches(post, {.bias = bias.data(), .out = out, .integer = integer}, words);
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("random values of every format, activation and stage") {
  Random random(cx::test::logged_seed(21));
  Post post;
  size_t vectors = 0;
  for (DType out : kOutputs) {
    for (Act act : kActs) {
      for (unsigned flags = 0; flags < 8; ++flags) {
        const bool integer = (flags & 1) != 0, scaled = (flags & 2) != 0, biased = (flags & 4) != 0;
        size_t wrong = 0;
        for (int i = 0; i < 320; ++i) {
          Row words;
          std::array<float, kColumns> scale, bias;
          for (size_t c = 0; c < kColumns; ++c) {
            words[c] = integer ? near_edge_integer(random) : random.one_in(4) ? random.fp32() : near_edge(random, out);
            // Powers of two keep the value on its edge.
            scale[c] =
                random.one_in(2) ? std::ldexp(1.0f, static_cast<int>(random.between(0, 40)) - 30) : real(random.fp32());
            bias[c] = random.one_in(2) ? real(near_edge(random, out)) : real(random.fp32());
          }
          const DrainStage stage{.scale = scaled ? scale.data() : nullptr,
                                 .bias = biased ? bias.data() : nullptr,
                                 .act = act,
                                 .lo = real(near_edge(random, out)),
                                 .hi = real(near_edge(random, out)),
                                 .out = out,
                                 .integer = integer};
          wrong += mismatches(post, stage, words);
          vectors += kColumns;
        }
        INFO(name_of(out) << " act " << static_cast<int>(act) << " flags " << flags);
        CHECK(wrong == 0);
      }
    }
  }
  CHECK(vectors >= 300000);
}

TEST_CASE("a row comes out three enabled cycles later, whatever stalls lie between") {
  Random random(cx::test::logged_seed(22));
  std::array<float, kColumns> scale, bias;
  for (size_t c = 0; c < kColumns; ++c) {
    scale[c] = real(random.fp32());
    bias[c] = real(random.fp32());
  }
  Post post;
  for (const DrainStage &stage :
       {DrainStage{.scale = scale.data(), .bias = bias.data(), .act = Act::kRelu, .out = DType::FP16},
        DrainStage{.out = DType::INT32, .integer = true}, DrainStage{.scale = scale.data(), .out = DType::FP8_E4M3}}) {
    post.set(stage);
    std::deque<Row> inside;
    Row last{};
    size_t wrong = 0;
    for (int i = 0; i < 3000; ++i) {
      Row words;
      for (uint32_t &word : words) word = random.fp32();
      const bool enable = !random.one_in(3);
      post.tick(enable, words);
      if (enable) {
        inside.push_back(expected(Path::kScalar, stage, words));
        if (inside.size() > kStages) inside.pop_front();
        if (inside.size() == kStages) last = inside.front();
      }
      if (inside.size() == kStages) wrong += post.output() != last;
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("speed of the RTL drain path", "[.speed]") {
  Random random(23);
  std::array<float, kColumns> scale, bias;
  scale.fill(0.01f);
  bias.fill(0.5f);
  std::vector<Row> rows(1024);
  Post post;
  for (unsigned mode = 0; mode < 5; ++mode) {
    const bool integer = mode == 4;
    for (DType out : kOutputs) {
      DrainStage stage{.out = out, .integer = integer};
      if (mode != 0) stage.scale = scale.data();
      if (mode >= 2) stage.bias = bias.data();
      if (mode >= 3) stage.act = mode == 3 ? Act::kClamp : Act::kRelu;
      stage.lo = -1;
      stage.hi = 6;
      for (Row &row : rows) {
        for (uint32_t &word : row) {
          const auto value = static_cast<int32_t>(random.bits());
          word = integer ? random.bits() & 0xFFFFu : bits(static_cast<float>(value) * 0x1p-26f);
        }
      }
      post.set(stage);
      const std::clock_t start = std::clock();
      for (int i = 0; i < 100; ++i) {
        for (const Row &row : rows) post.tick(true, row);
      }
      const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      std::cout << (integer ? "INT32" : "FP32") << (stage.scale != nullptr ? " scale" : "")
                << (stage.bias != nullptr ? " bias" : "")
                << (stage.act == Act::kRelu    ? " relu"
                    : stage.act == Act::kClamp ? " clamp"
                                               : "")
                << " to " << name_of(out) << ": " << seconds * 1e9 / (100.0 * 1024 * kColumns) << " ns per element\n";
    }
  }
  Row row{};
  const std::clock_t start = std::clock();
  for (int i = 0; i < 1000000; ++i) post.tick(false, row);
  std::cout << "standing still: " << static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC * 1e3 / kColumns
            << " ns per column and clock\n";
}
