// The processing element against reference vectors and against the host's arithmetic, in every format.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "Vpe_bench.h"
#include "hw/common/num/formats.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/common/num_vectors.hpp"

using namespace cx::num;
using cx::test::Random;

namespace {

uint32_t bits(float value) { return std::bit_cast<uint32_t>(value); }
float real(uint32_t value) { return std::bit_cast<float>(value); }

class Pe {
 public:
  Pe() : model_(&context_) {
    model_.clk_i = 0;
    model_.rst_ni = 1;
    model_.eval();
    model_.rst_ni = 0;
    model_.eval();
    model_.rst_ni = 1;
    model_.eval();
  }

  uint32_t step(DType dtype, uint32_t activation, uint32_t weight, uint32_t psum, bool row_en = true) {
    model_.fmt_i = static_cast<uint8_t>(dtype);
    model_.activation_i = activation;
    model_.weight_i = weight;
    model_.psum_i = psum;
    model_.row_en_i = row_en;
    model_.load_i = 1;
    tick();
    model_.load_i = 0;
    tick();
    return model_.psum_o;
  }

 private:
  void tick() {
    model_.clk_i = 1;
    model_.eval();
    model_.clk_i = 0;
    model_.eval();
  }

  VerilatedContext context_;
  Vpe_bench model_;
};

uint32_t expected_step(DType dtype, uint32_t activation, uint32_t weight, uint32_t psum) {
  if (dtype == DType::INT8) {
    return psum + static_cast<uint32_t>(static_cast<int8_t>(activation) * static_cast<int8_t>(weight));
  }
  const float result = std::fma(decode(dtype, &activation), decode(dtype, &weight), real(psum));
  return std::isnan(result) ? kCanonicalNan : bits(result);
}

}  // namespace

TEST_CASE("the processing element is SoftFloat's fused multiply-add") {
  struct Set {
    const char *file;
    DType dtype;
    size_t columns;
  };
  const Set sets[] = {{"mac/mac_fp32.bin.xz", DType::FP32, 7},
                      {"mac/mac_fp16.bin.xz", DType::FP16, 7},
                      {"mac/mac_bf16.bin.xz", DType::BF16, 7},
                      {"testfloat/f32_mulAdd.rnear_even.u32le.xz", DType::FP32, 5}};
  Pe pe;
  for (const Set &set : sets) {
    const auto words = cx::test::read_words(set.file);
    if (!words) continue;
    size_t wrong = 0;
    for (size_t i = 0; i + set.columns <= words->size(); i += set.columns) {
      const uint32_t *row = &(*words)[i];
      wrong += pe.step(set.dtype, row[0], row[1], row[2]) != row[3];
    }
    INFO(set.file);
    CHECK(words->size() / set.columns > 100000);
    CHECK(wrong == 0);
  }
}

TEST_CASE("8-bit products are exact for every pair of codes") {
  Pe pe;
  for (DType dtype : {DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
    size_t wrong = 0;
    for (uint32_t i = 0; i < 65536; ++i) {
      const uint32_t a = i >> 8, w = i & 0xFF;
      wrong += pe.step(dtype, a, w, 0) != expected_step(dtype, a, w, 0);
    }
    INFO(name_of(dtype));
    CHECK(wrong == 0);
  }
}

TEST_CASE("every 16-bit code widens exactly") {
  Pe pe;
  for (DType dtype : {DType::FP16, DType::BF16}) {
    const uint32_t one = dtype == DType::FP16 ? 0x3C00 : 0x3F80;
    size_t wrong = 0;
    for (uint32_t code = 0; code < 0x10000; ++code) {
      wrong += pe.step(dtype, code, one, 0) != expected_step(dtype, code, one, 0);
    }
    INFO(name_of(dtype));
    CHECK(wrong == 0);
  }
}

TEST_CASE("random operands of every format") {
  Random random(cx::test::logged_seed(3));
  Pe pe;
  for (unsigned d = 0; d <= 5; ++d) {
    const auto dtype = static_cast<DType>(d);
    for (int i = 0; i < 200000; ++i) {
      const uint32_t a = random.element(dtype), w = random.element(dtype);
      const uint32_t psum = dtype == DType::INT8 ? random.bits() : random.fp32();
      const uint32_t got = pe.step(dtype, a, w, psum), want = expected_step(dtype, a, w, psum);
      INFO(name_of(dtype) << " " << std::hex << a << " * " << w << " + " << psum);
      if (got != want) REQUIRE(got == want);
    }
  }
}

TEST_CASE("a row that does not take part passes the partial sum unchanged") {
  Pe pe;
  CHECK(pe.step(DType::FP32, bits(2), bits(3), 0xFF812345u, false) == 0xFF812345u);
  CHECK(pe.step(DType::INT8, 2, 3, 0x80000000u, false) == 0x80000000u);
}
