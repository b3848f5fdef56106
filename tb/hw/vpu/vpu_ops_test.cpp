#include "hw/vpu/vpu_ops.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "hw/vpu/kernels.hpp"
#include "tb/hw/vpu/naive.hpp"

namespace {

using namespace cx;
using namespace cx::hw::vpu;
using num::DType;
using Dims = std::array<uint32_t, 4>;

constexpr size_t kSpmBytes = 1 << 18;
constexpr DType kTypes[] = {DType::FP32,     DType::FP16, DType::BF16,  DType::FP8_E4M3,
                            DType::FP8_E5M2, DType::INT8, DType::UINT8, DType::INT32};

/// Lays out operands in a scratchpad of random contents.
class Bench {
 public:
  explicit Bench(uint32_t seed) : random_(seed), memory(kSpmBytes) {
    for (size_t i = 0; i < memory.size(); i += 8) {
      const uint64_t bits = random_();
      std::memcpy(memory.data() + i, &bits, 8);
    }
  }

  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  bool chance(unsigned percent) { return below(100) < percent; }
  DType dtype() { return kTypes[below(std::size(kTypes))]; }
  float number() { return static_cast<float>(static_cast<int>(below(2001)) - 1000) * 0.01f; }
  template <class E>
  E any(unsigned count) {
    return static_cast<E>(below(count));
  }

  /// dims with at most `limit` elements; one dimension is sometimes long.
  Dims dims(uint32_t limit = 6000) {
    Dims d;
    do {
      for (uint32_t &n : d) n = chance(25) ? 1 : 1 + below(9);
      if (chance(50)) d[below(4)] = 1 + below(chance(30) ? 2500 : 70);
    } while (d[0] * d[1] * d[2] * d[3] > limit);
    return d;
  }

  /// A view at a fresh place: any order of dimensions, gaps, negative strides; broadcast marks dims with stride 0.
  View view(Dims d, DType type, unsigned broadcast = 0) {
    View v;
    v.dtype = type;
    v.dims = d;
    std::array<unsigned, 4> order{3, 2, 1, 0};
    if (chance(40)) std::shuffle(order.begin(), order.end(), random_);
    const auto bytes = static_cast<int64_t>(num::bytes_of(type));
    int64_t step = bytes;
    int64_t first = 0;
    for (const unsigned i : order) {
      if (broadcast >> i & 1) continue;
      if (chance(20)) step += bytes * below(3);
      if (chance(3)) step += 1;  // elements need no alignment
      const bool down = chance(12);
      v.strides[i] = static_cast<int32_t>(down ? -step : step);
      if (down) first += step * (d[i] - 1);
      step *= d[i];
    }
    next_ += chance(50) ? (4 - next_ % 4) % 4 : below(5);
    v.base = static_cast<uint32_t>(next_ + first);
    next_ += step + bytes;
    REQUIRE(next_ <= static_cast<int64_t>(kSpmBytes));
    return v;
  }
  View source(const Dims &d, DType type) {
    unsigned broadcast = 0;
    Dims own = d;
    for (unsigned i = 0; i < 4; ++i) {
      if (!chance(15)) continue;
      broadcast |= 1u << i;
      own[i] = chance(50) ? 1 : d[i];
    }
    return view(own, type, broadcast);
  }

  /// Floats of ordinary size at a view's elements, so that sums do not drown in NaN and infinity.
  void tame(const View &v) {
    naive::for_each(v.dims, [&](auto... i) { naive::put(memory, v, naive::address(v, i...), number()); });
  }

  template <class Instruction>
  void check(const Instruction &inst) {
    naive::Memory expected = memory;
    naive::run(memory, expected, views, inst);
    naive::Memory got = memory;
    const Work work = unit.run({got.data(), got.size()}, views, inst.encode());
    CHECK(work.operations > 0);
    const auto differ = std::mismatch(expected.begin(), expected.end(), got.begin());
    const bool equal = differ.first == expected.end();
    if (!equal) {
      const View &dst = *views[inst.dst];
      UNSCOPED_INFO("first difference at offset "
                    << differ.first - expected.begin() << " (expected " << std::to_integer<int>(*differ.first)
                    << ", got " << std::to_integer<int>(*differ.second) << "); dst at " << dst.base << " "
                    << num::name_of(dst.dtype) << " " << dst.dims[0] << "x" << dst.dims[1] << "x" << dst.dims[2] << "x"
                    << dst.dims[3]);
    }
    REQUIRE(equal);
  }

 private:
  std::mt19937_64 random_;
  int64_t next_ = 0;

 public:
  naive::Memory memory;
  Views views;
  VectorUnit unit;
};

template <class Function>
void repeat(uint32_t first_seed, int times, Function f) {
  for (int i = 0; i < times; ++i) {
    const uint32_t seed = first_seed + static_cast<uint32_t>(i);
    CAPTURE(seed);
    Bench bench(seed);
    f(bench);
  }
}

TEST_CASE("V_UNARY against the naive form") {
  repeat(1000, 500, [](Bench &b) {
    const Dims d = b.dims();
    isa::VUnary inst;
    inst.func = b.any<isa::Unary>(25);
    inst.dst = 3;
    inst.src = 7;
    inst.imm0 = b.number();
    inst.imm1 = b.number();
    const DType type = b.dtype();
    b.views[3] = b.view(d, b.chance(30) ? type : b.dtype());
    b.views[7] = b.source(d, type);
    if (b.chance(60)) b.tame(*b.views[7]);
    b.check(inst);
  });
}

TEST_CASE("every unary function on every data type") {
  uint32_t seed = 1;
  for (unsigned f = 0; f < 25; ++f) {
    for (const DType type : kTypes) {
      CAPTURE(f, num::name_of(type));
      Bench b(seed++);
      isa::VUnary inst;
      inst.func = static_cast<isa::Unary>(f);
      inst.dst = 0;
      inst.src = 1;
      inst.imm0 = b.number();
      inst.imm1 = b.number();
      b.views[0] = b.view({1, 3, 5, 67}, DType::FP32);
      b.views[1] = b.view({1, 3, 5, 67}, type);
      b.check(inst);
    }
  }
}

TEST_CASE("V_BINARY against the naive form") {
  repeat(2000, 500, [](Bench &b) {
    const Dims d = b.dims();
    isa::VBinary inst;
    inst.func = b.any<isa::Binary>(11);
    inst.dst = 0;
    inst.a = 1;
    inst.b = b.chance(25) ? 0xFF : (b.chance(10) ? 1 : 2);
    inst.swap = b.chance(30);
    inst.act = b.any<isa::Activation>(3);
    inst.imm0 = b.number();
    inst.lo = -1.5f;
    inst.hi = b.chance(10) ? std::numeric_limits<float>::quiet_NaN() : 2.5f;
    b.views[0] = b.view(d, b.dtype());
    b.views[1] = b.source(d, b.dtype());
    b.views[2] = b.source(d, b.dtype());
    if (b.chance(60)) {
      b.tame(*b.views[1]);
      b.tame(*b.views[2]);
    }
    b.check(inst);
  });
}

TEST_CASE("V_REDUCE against the naive form") {
  repeat(3000, 700, [](Bench &b) {
    const Dims d = b.dims();
    isa::VReduce inst;
    inst.func = b.any<isa::Reduce>(6);
    inst.dst = 9;
    inst.src = 10;
    inst.axes = static_cast<uint8_t>(1 + b.below(15));
    inst.div = b.chance(50) ? 1.0f : b.number();
    Dims kept = d;
    for (unsigned i = 0; i < 4; ++i) {
      if (inst.axes >> i & 1) kept[i] = 1;
    }
    b.views[9] = b.view(kept, b.dtype());
    const unsigned broadcast = b.chance(15) ? 1u << b.below(4) : 0u;
    b.views[10] = b.view(d, b.dtype(), broadcast);
    if (b.chance(70)) b.tame(*b.views[10]);
    b.check(inst);
  });
}

TEST_CASE("V_WINDOW against the naive form") {
  repeat(4000, 500, [](Bench &b) {
    isa::VWindow inst;
    inst.func = b.any<isa::Window>(3);
    inst.dst = 0;
    inst.src = 1;
    inst.act = b.any<isa::Activation>(3);
    const bool wide = b.chance(6);  // more channels than the unit's row buffers hold
    inst.kernel_y = static_cast<uint8_t>(1 + b.below(wide ? 2 : 4));
    inst.kernel_x = static_cast<uint8_t>(1 + b.below(wide ? 2 : 4));
    inst.stride_y = static_cast<uint8_t>(1 + b.below(3));
    inst.stride_x = static_cast<uint8_t>(1 + b.below(3));
    inst.dil_y = static_cast<uint8_t>(1 + b.below(3));
    inst.dil_x = static_cast<uint8_t>(1 + b.below(3));
    inst.imm0 = b.number();
    inst.lo = -20.0f;
    inst.hi = 20.0f;
    const uint32_t channels = wide ? 1000 + b.below(100) : 1 + b.below(b.chance(20) ? 80 : 20);
    const uint32_t side = wide ? 1 : 5;
    const Dims d{1 + b.below(wide ? 1 : 2), 1 + b.below(side), 1 + b.below(side), channels};
    const uint32_t rows = (d[1] - 1) * inst.stride_y + (inst.kernel_y - 1u) * inst.dil_y + 1;
    const uint32_t columns = (d[2] - 1) * inst.stride_x + (inst.kernel_x - 1u) * inst.dil_x + 1;
    b.views[0] = b.view(d, b.dtype());
    const unsigned broadcast = b.chance(12) ? 1u << b.below(4) : 0u;
    b.views[1] = b.view({d[0], rows, columns, channels}, b.chance(40) ? DType::FP32 : b.dtype(), broadcast);
    if (b.chance(70)) b.tame(*b.views[1]);
    if (inst.func == isa::Window::MAC) {
      inst.w = 2;
      b.views[2] = b.view({1, inst.kernel_y, inst.kernel_x, channels}, b.dtype(), b.chance(10) ? 8u : 0u);
      b.tame(*b.views[2]);
      if (b.chance(60)) {
        inst.bias = 4;
        b.views[4] = b.view({1, 1, 1, channels}, DType::FP32);
        b.tame(*b.views[4]);
      }
    }
    b.check(inst);
  });
}

TEST_CASE("V_SOFTMAX against the naive form") {
  repeat(5000, 300, [](Bench &b) {
    const Dims d = b.dims();
    isa::VSoftmax inst;
    inst.dst = 2;
    inst.src = 1;
    b.views[2] = b.view(d, b.dtype());
    b.views[1] = b.source(d, b.dtype());
    if (b.chance(80)) b.tame(*b.views[1]);
    b.check(inst);
  });
}

TEST_CASE("a destination may be exactly an operand") {
  repeat(6000, 300, [](Bench &b) {
    const Dims d = b.dims();
    b.views[0] = b.view(d, b.dtype());
    b.tame(*b.views[0]);
    b.views[1] = b.source(d, b.dtype());
    b.tame(*b.views[1]);
    b.views[2] = b.views[0];
    switch (b.below(3)) {
      case 0: {
        isa::VUnary inst;
        inst.func = b.any<isa::Unary>(25);
        inst.src = 2;
        inst.imm0 = 0.5f;
        inst.imm1 = 3.0f;
        b.check(inst);
        break;
      }
      case 1: {
        isa::VBinary inst;
        inst.func = b.any<isa::Binary>(11);
        inst.a = b.chance(50) ? 0 : 1;
        inst.b = 2;
        b.check(inst);
        break;
      }
      default: {
        isa::VSoftmax inst;
        inst.src = 0;
        b.check(inst);
      }
    }
  });
}

TEST_CASE("COPY between equal types keeps every bit") {
  for (const DType type : kTypes) {
    Bench b(77);
    b.views[0] = b.view({2, 3, 4, 50}, type);
    b.views[1] = b.view({2, 3, 4, 50}, type);
    isa::VUnary inst;
    inst.src = 1;
    b.check(inst);
  }
}

TEST_CASE("known results") {
  Bench b(1);
  const auto floats = [&](uint32_t base, std::vector<float> v) {
    std::memcpy(b.memory.data() + base, v.data(), v.size() * 4);
  };
  const auto row = [](uint32_t base, uint32_t n) { return View{DType::FP32, base, {1, 1, 1, n}, {0, 0, 0, 4}}; };
  const auto read = [&](uint32_t base) {
    float x;
    std::memcpy(&x, b.memory.data() + base, 4);
    return x;
  };
  const std::span<std::byte> spm(b.memory.data(), b.memory.size());

  // 2^24 + 1 + 1 sequentially stays 2^24; in lanes 0, 1, 2 of the tree 1 + 1 = 2 comes first or last alike.
  floats(0, {16777216.0f, 1.0f, 1.0f});
  b.views[0] = View{DType::FP32, 1024, {1, 1, 1, 1}, {0, 0, 0, 4}};
  b.views[1] = View{DType::FP32, 0, {1, 1, 3, 1}, {0, 0, 4, 4}};
  isa::VReduce sum;
  sum.src = 1;
  sum.axes = 4;
  b.unit.run(spm, b.views, sum);
  CHECK(read(1024) == 16777216.0f);
  // Lane 0 joins lane 2 before lane 1: (2^24 + 1) + 1 rounds to 2^24 as well; lanes 1 and 3 join first: 1 + 1 = 2.
  floats(0, {16777216.0f, 1.0f, 0.0f, 1.0f});
  b.views[1] = row(0, 4);
  sum.axes = 8;
  b.unit.run(spm, b.views, sum);
  CHECK(read(1024) == 16777218.0f);
  sum.div = 2.0f;
  b.unit.run(spm, b.views, sum);
  CHECK(read(1024) == 8388609.0f);

  // -0 + -0 from a start of +0 is +0; the maximum of -0 and +0 is +0.
  floats(0, {-0.0f, -0.0f});
  b.views[1] = row(0, 2);
  sum.div = 1.0f;
  b.unit.run(spm, b.views, sum);
  CHECK_FALSE(std::signbit(read(1024)));

  // Integers saturate, ties go to even, NaN becomes 0.
  floats(0, {300.0f, -300.0f, 2.5f, 3.5f, -0.5f, std::numeric_limits<float>::quiet_NaN()});
  b.views[1] = row(0, 6);
  b.views[2] = View{DType::INT8, 2048, {1, 1, 1, 6}, {0, 0, 0, 1}};
  isa::VUnary copy;
  copy.dst = 2;
  copy.src = 1;
  b.unit.run(spm, b.views, copy);
  const int8_t expected[] = {127, -128, 2, 4, 0, 0};
  CHECK(std::memcmp(b.memory.data() + 2048, expected, 6) == 0);

  // A NaN with a payload leaves arithmetic as the canonical one.
  const uint32_t payload = 0xFFABCDEFu;
  std::memcpy(b.memory.data(), &payload, 4);
  b.views[1] = row(0, 1);
  b.views[0] = row(1024, 1);
  isa::VUnary neg;
  neg.func = isa::Unary::NEG;
  neg.src = 1;
  b.unit.run(spm, b.views, neg);
  uint32_t got;
  std::memcpy(&got, b.memory.data() + 1024, 4);
  CHECK(got == 0x7FC00000u);
}

TEST_CASE("row kernels: portable and AVX2 give equal bits") {
  const Kernels *fast = avx2_kernels();
  if (fast == nullptr) {
    WARN("no AVX2 on this host: nothing to compare");
    return;
  }
  const Kernels &plain = portable_kernels();
  const uint32_t seed = 99;
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  constexpr size_t kN = 531;
  std::vector<float> a(kN), b(kN);
  const auto fill = [&](std::vector<float> &v) {
    for (float &x : v) {
      const auto r = static_cast<uint32_t>(random());
      switch (r % 4) {
        case 0:
          x = std::bit_cast<float>(static_cast<uint32_t>(random()));
          break;
        case 1:
          x = static_cast<float>(static_cast<int>(r >> 8) % 64) * 0.125f;
          break;
        case 2:
          x = r & 16 ? -0.0f : 0.0f;
          break;
        default:
          x = static_cast<float>(static_cast<int32_t>(r)) * 0x1p-26f;
      }
    }
  };
  // NaN bits differ by operand order before a store makes them canonical.
  const auto same = [](const std::vector<float> &x, const std::vector<float> &y) {
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]) && std::isnan(y[i])) continue;
      if (std::bit_cast<uint32_t>(x[i]) != std::bit_cast<uint32_t>(y[i])) return false;
    }
    return true;
  };
  for (int round = 0; round < 30; ++round) {
    fill(a);
    fill(b);
    const size_t n = kN - static_cast<size_t>(round);
    std::vector<float> x(kN, 0.0f), y(kN, 0.0f);
    for (unsigned f = 1; f < 25; ++f) {
      fast->unary(static_cast<isa::Unary>(f), a.data(), x.data(), n, b[0], b[1]);
      plain.unary(static_cast<isa::Unary>(f), a.data(), y.data(), n, b[0], b[1]);
      CAPTURE(f);
      REQUIRE(same(x, y));
    }
    for (unsigned f = 0; f < 11; ++f) {
      fast->binary(static_cast<isa::Binary>(f), a.data(), b.data(), x.data(), n);
      plain.binary(static_cast<isa::Binary>(f), a.data(), b.data(), y.data(), n);
      CAPTURE(f);
      REQUIRE(same(x, y));
    }
    for (unsigned f = 0; f < 6; ++f) {
      x = y = a;
      fast->accumulate(static_cast<isa::Reduce>(f), x.data(), b.data(), n);
      plain.accumulate(static_cast<isa::Reduce>(f), y.data(), b.data(), n);
      REQUIRE(same(x, y));
      std::vector<float> p(a.begin(), a.begin() + 16), q = p;
      fast->partials(static_cast<isa::Reduce>(f), p.data(), b.data(), n);
      plain.partials(static_cast<isa::Reduce>(f), q.data(), b.data(), n);
      REQUIRE(same(p, q));
    }
    for (unsigned f = 0; f < 3; ++f) {
      const size_t channels = 40 + static_cast<size_t>(round);
      const float *taps[] = {a.data(), a.data() + 70, a.data() + 140, a.data() + 17};
      fast->window(static_cast<isa::Window>(f), taps, 4, b.data(), x.data(), channels);
      plain.window(static_cast<isa::Window>(f), taps, 4, b.data(), y.data(), channels);
      REQUIRE(same(x, y));
    }
  }
}

// ---- one test for each check of an operand ----

using Kind = OperandError::Kind;

template <class Instruction>
void refused(Bench &b, const Instruction &inst, Kind kind, uint64_t where) {
  const naive::Memory before = b.memory;
  try {
    b.unit.run({b.memory.data(), b.memory.size()}, b.views, inst.encode());
    FAIL("executed");
  } catch (const OperandError &error) {
    INFO(error.what());
    CHECK(error.kind == kind);
    CHECK(error.where == where);
  }
  CHECK(b.memory == before);
}

struct Fixture {
  Bench b{5};
  isa::VUnary unary;
  isa::VBinary binary;
  isa::VReduce reduce;
  isa::VWindow window;
  isa::VSoftmax softmax;

  static View dense(uint32_t base, Dims d, DType type = DType::FP32) {
    const auto bytes = static_cast<int32_t>(num::bytes_of(type));
    const auto n = [&](int i) { return static_cast<int32_t>(d[i]); };
    return {type, base, d, {n(1) * n(2) * n(3) * bytes, n(2) * n(3) * bytes, n(3) * bytes, bytes}};
  }

  Fixture() {
    b.views[0] = dense(0, {1, 2, 4, 8});
    b.views[1] = dense(4096, {1, 2, 4, 8});
    b.views[2] = dense(8192, {1, 2, 4, 8});
    b.views[3] = dense(12288, {1, 2, 4, 1});
    b.views[4] = dense(16384, {1, 4, 6, 8});               // source of a 3x3 window with results 2x4
    b.views[5] = dense(20480, {1, 3, 3, 8}, DType::INT8);  // its weights
    b.views[6] = dense(24576, {1, 1, 1, 8});               // its bias
    unary.src = 1;
    unary.func = isa::Unary::NEG;
    binary.a = 1;
    binary.b = 2;
    reduce.dst = 3;
    reduce.src = 1;
    reduce.axes = 8;
    window.func = isa::Window::MAC;
    window.src = 4;
    window.w = 5;
    window.bias = 6;
    window.kernel_y = window.kernel_x = 3;
    softmax.src = 1;
  }
};

TEST_CASE_METHOD(Fixture, "the fixture's instructions are sound") {
  b.check(unary);
  b.check(binary);
  b.check(reduce);
  b.check(window);
  b.check(softmax);
}

TEST_CASE_METHOD(Fixture, "undefined descriptors are refused") {
  SECTION("unary dst") { unary.dst = 15, refused(b, unary, Kind::ILLEGAL, 15); }
  SECTION("unary src") { unary.src = 14, refused(b, unary, Kind::ILLEGAL, 14); }
  SECTION("binary dst") { binary.dst = 15, refused(b, binary, Kind::ILLEGAL, 15); }
  SECTION("binary a") { binary.a = 13, refused(b, binary, Kind::ILLEGAL, 13); }
  SECTION("binary b") { binary.b = 12, refused(b, binary, Kind::ILLEGAL, 12); }
  SECTION("reduce dst") { reduce.dst = 15, refused(b, reduce, Kind::ILLEGAL, 15); }
  SECTION("reduce src") { reduce.src = 15, refused(b, reduce, Kind::ILLEGAL, 15); }
  SECTION("window dst") { window.dst = 15, refused(b, window, Kind::ILLEGAL, 15); }
  SECTION("window src") { window.src = 15, refused(b, window, Kind::ILLEGAL, 15); }
  SECTION("window w") { window.w = 15, refused(b, window, Kind::ILLEGAL, 15); }
  SECTION("window bias") { window.bias = 15, refused(b, window, Kind::ILLEGAL, 15); }
  SECTION("softmax dst") { softmax.dst = 15, refused(b, softmax, Kind::ILLEGAL, 15); }
  SECTION("softmax src") { softmax.src = 15, refused(b, softmax, Kind::ILLEGAL, 15); }
}

TEST_CASE_METHOD(Fixture, "INT64 is refused") {
  for (const unsigned index : {0u, 1u, 2u, 3u, 4u, 5u}) {
    Fixture f;
    f.b.views[index]->dtype = DType::INT64;
    CAPTURE(index);
    if (index < 2) refused(f.b, f.unary, Kind::ILLEGAL, index);
    if (index < 2) refused(f.b, f.softmax, Kind::ILLEGAL, index);
    if (index < 3) refused(f.b, f.binary, Kind::ILLEGAL, index);
    if (index == 1 || index == 3) refused(f.b, f.reduce, Kind::ILLEGAL, index);
    if (index == 0 || index > 3) refused(f.b, f.window, Kind::ILLEGAL, index);
  }
  Fixture f;
  f.b.views[0]->dtype = f.b.views[1]->dtype = DType::INT64;
  f.unary.func = isa::Unary::COPY;
  refused(f.b, f.unary, Kind::ILLEGAL, 0);
}

TEST_CASE_METHOD(Fixture, "dimensions that do not fit are refused") {
  for (unsigned d = 0; d < 4; ++d) {
    Fixture f;
    CAPTURE(d);
    f.b.views[1]->dims[d] += 1;
    refused(f.b, f.unary, Kind::ILLEGAL, 1);
    refused(f.b, f.softmax, Kind::ILLEGAL, 1);
    refused(f.b, f.binary, Kind::ILLEGAL, 1);
    if (d != 3) refused(f.b, f.reduce, Kind::ILLEGAL, 3);
    f.b.views[1]->strides[d] = 0;  // now it broadcasts
    f.b.check(f.unary);
    Fixture g;
    g.b.views[2]->dims[d] += 1;
    refused(g.b, g.binary, Kind::ILLEGAL, 2);
  }
  SECTION("reduced dimension of dst is not 1") {
    b.views[3] = dense(12288, {1, 2, 4, 8});
    refused(b, reduce, Kind::ILLEGAL, 3);
  }
  SECTION("window: batch and channels of src") {
    for (const unsigned d : {0u, 3u}) {
      Fixture f;
      f.b.views[4]->dims[d] += 1;
      refused(f.b, f.window, Kind::ILLEGAL, 4);
    }
  }
  SECTION("window: weights") {
    for (unsigned d = 0; d < 4; ++d) {
      Fixture f;
      f.b.views[5]->dims[d] += 1;
      refused(f.b, f.window, Kind::ILLEGAL, 5);
    }
  }
  SECTION("window: bias") {
    b.views[6]->dims[3] = 7;
    refused(b, window, Kind::ILLEGAL, 6);
  }
}

TEST_CASE_METHOD(Fixture, "a destination whose elements coincide is refused") {
  b.views[0]->strides[2] = 0;
  refused(b, unary, Kind::ILLEGAL, 0);
  refused(b, binary, Kind::ILLEGAL, 0);
  refused(b, window, Kind::ILLEGAL, 0);
  refused(b, softmax, Kind::ILLEGAL, 0);
  b.views[3]->strides[1] = 0;
  refused(b, reduce, Kind::ILLEGAL, 3);
}

TEST_CASE_METHOD(Fixture, "views whose size is broadcast or overlap only are refused") {
  const Dims huge{65535, 65535, 65535, 65535};
  SECTION("destination") {
    b.views[0] = View{DType::FP32, 0, huge, {1, 1, 1, 1}};
    b.views[1] = View{DType::FP32, 4096, {1, 1, 1, 1}, {0, 0, 0, 0}};
    refused(b, unary, Kind::ILLEGAL, 0);
    refused(b, softmax, Kind::ILLEGAL, 0);
  }
  SECTION("reduction") {
    b.views[1] = View{DType::FP32, 4096, huge, {0, 0, 0, 0}};
    b.views[3] = View{DType::FP32, 0, {1, 1, 1, 1}, {0, 0, 0, 0}};
    reduce.axes = 15;
    refused(b, reduce, Kind::ILLEGAL, 1);
  }
  SECTION("rows that a window spans") {
    b.views[0] = View{DType::INT8, 0, {1, 1, 1, 65535}, {0, 0, 0, 1}};
    b.views[4] = View{DType::INT8, 0, {1, 1, 1, 65535}, {0, 1, 1, 1}};
    window = {};
    window.src = 4;
    window.kernel_y = window.kernel_x = 255;
    refused(b, window, Kind::ILLEGAL, 4);
  }
  SECTION("weights") {
    b.views[0] = View{DType::INT8, 0, {1, 1, 1, 65535}, {0, 0, 0, 1}};
    b.views[4] = View{DType::INT8, 0, {1, 1, 1, 65535}, {0, 0, 0, 1}};
    b.views[5] = View{DType::INT8, 0, {1, 255, 255, 65535}, {0, 0, 0, 0}};
    window.bias = 0xFF;
    window.kernel_y = window.kernel_x = 255;
    refused(b, window, Kind::ILLEGAL, 5);
  }
}

TEST_CASE_METHOD(Fixture, "window operands that do not belong are refused") {
  SECTION("MAC without weights") { window.w = 0xFF, refused(b, window, Kind::ILLEGAL, 4); }
  SECTION("weights without MAC") { window.func = isa::Window::MAX, refused(b, window, Kind::ILLEGAL, 4); }
  SECTION("bias without MAC") {
    window.func = isa::Window::SUM;
    window.w = 0xFF;
    refused(b, window, Kind::ILLEGAL, 5);
  }
  SECTION("bias that is not FP32") {
    b.views[6] = dense(24576, {1, 1, 1, 8}, DType::FP16);
    refused(b, window, Kind::ILLEGAL, 6);
  }
}

TEST_CASE_METHOD(Fixture, "accesses outside the scratchpad are refused") {
  SECTION("dst beyond the end") {
    b.views[0] = dense(kSpmBytes - 255, {1, 2, 4, 8});
    refused(b, unary, Kind::SPM, kSpmBytes);
    refused(b, binary, Kind::SPM, kSpmBytes);
    refused(b, window, Kind::SPM, kSpmBytes);
    refused(b, softmax, Kind::SPM, kSpmBytes);
  }
  SECTION("dst that just fits") {
    b.views[0] = dense(kSpmBytes - 256, {1, 2, 4, 8});
    b.check(unary);
  }
  SECTION("sources beyond the end") {
    b.views[1] = dense(kSpmBytes - 252, {1, 2, 4, 8});
    refused(b, unary, Kind::SPM, kSpmBytes);
    refused(b, binary, Kind::SPM, kSpmBytes);
    refused(b, reduce, Kind::SPM, kSpmBytes);
    refused(b, softmax, Kind::SPM, kSpmBytes);
  }
  SECTION("second source beyond the end") {
    b.views[2] = dense(kSpmBytes + 64, {1, 2, 4, 8});
    refused(b, binary, Kind::SPM, kSpmBytes + 64);
  }
  SECTION("below 0") {
    b.views[1]->base = 8;
    b.views[1]->strides[3] = -4;
    refused(b, unary, Kind::SPM, static_cast<uint64_t>(int64_t{-20}));
  }
  SECTION("the result of a reduction") {
    b.views[3]->base = kSpmBytes - 16;
    refused(b, reduce, Kind::SPM, kSpmBytes);
  }
  SECTION("the reach of a window counts, not the view's dims") {
    b.views[4] = dense(kSpmBytes - 4 * 6 * 8 * 4, {1, 4, 6, 8});
    b.check(window);
    window.dil_y = 2;
    refused(b, window, Kind::SPM, kSpmBytes);
    window.dil_y = 1;
    window.stride_x = 2;
    refused(b, window, Kind::SPM, kSpmBytes);
    b.views[4]->dims[1] = b.views[4]->dims[2] = 1;
    window.stride_x = 1;
    b.check(window);
  }
  SECTION("weights and bias") {
    b.views[5]->base = kSpmBytes - 71;
    refused(b, window, Kind::SPM, kSpmBytes);
    b.views[5]->base = 20480;
    b.views[6]->base = kSpmBytes - 31;
    refused(b, window, Kind::SPM, kSpmBytes);
  }
}

TEST_CASE_METHOD(Fixture, "other instructions are refused") {
  isa::Inst inst = isa::Nop{}.encode();
  CHECK_THROWS_AS(b.unit.run({b.memory.data(), b.memory.size()}, b.views, inst), OperandError);
}

TEST_CASE_METHOD(Fixture, "work counts what the instruction did") {
  const std::span<std::byte> spm(b.memory.data(), b.memory.size());
  b.views[1]->strides[1] = 0;  // 32 distinct elements
  Work w = b.unit.run(spm, b.views, binary);
  CHECK(w.elements == 64);
  CHECK(w.operations == 64);
  CHECK(w.simple_passes == 1);
  CHECK(w.special_passes == 0);
  CHECK(w.bytes_read == 32 * 4 + 64 * 4);
  CHECK(w.bytes_written == 64 * 4);
  w = b.unit.run(spm, b.views, window);
  CHECK(w.elements == 64);
  CHECK(w.operations == 64 * 9);
  CHECK(w.simple_passes == 9);
  CHECK(w.bytes_read == 4 * 6 * 8 * 4 + 9 * 8 + 8 * 4);
  b.views[1] = dense(4096, {1, 2, 4, 8});
  reduce.div = 8.0f;
  w = b.unit.run(spm, b.views, reduce);
  CHECK(w.elements == 64);
  CHECK(w.trees == 1);
  CHECK(w.divided_results == 8);
  CHECK(w.bytes_written == 8 * 4);
  w = b.unit.run(spm, b.views, softmax);
  CHECK(w.simple_passes == 1);
  CHECK(w.special_passes == 2);
  CHECK(w.trees == 2);
}

}  // namespace
