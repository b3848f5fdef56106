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

uint32_t product(const Dims &d) { return d[0] * d[1] * d[2] * d[3]; }

constexpr size_t kSpmBytes = 1 << 19;
constexpr DType kIntegers[] = {DType::INT8,  DType::UINT8,  DType::INT16, DType::UINT16,
                               DType::INT32, DType::UINT32, DType::INT64, DType::UINT64};
constexpr DType kTypes[] = {DType::FP32,   DType::FP16,   DType::BF16,   DType::FP8_E4M3, DType::FP8_E5M2,
                            DType::INT8,   DType::UINT8,  DType::INT32,  DType::INT64,    DType::INT16,
                            DType::UINT16, DType::UINT32, DType::UINT64, DType::FP64};
constexpr unsigned kUnaries = isa::kUnaryCount;
constexpr unsigned kBinaries = isa::kBinaryCount;

bool bitwise(isa::Binary f) { return f >= isa::Binary::AND && f <= isa::Binary::SHR; }

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
  DType integer() { return kIntegers[below(std::size(kIntegers))]; }
  float whole() { return static_cast<float>(below(13)); }
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

  /// Numbers of ordinary size at a view's elements, so that sums do not drown in NaN and infinity.
  void tame(const View &v, float scale = 1) {
    naive::for_each(v.dims, [&](auto... i) { naive::put(memory, v, naive::address(v, i...), scale * number()); });
  }
  /// Indices of a dimension of `limit` elements, negative ones too.
  void index(const View &v, uint32_t limit) {
    naive::for_each(v.dims, [&](auto... i) {
      const int64_t value = static_cast<int64_t>(below(2 * limit)) - limit;
      naive::put_integer(memory, v, naive::address(v, i...), value);
    });
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
    inst.func = b.any<isa::Unary>(kUnaries);
    inst.dst = 3;
    inst.src = 7;
    const bool integers = inst.func == isa::Unary::NOT || b.chance(40);
    const DType type = integers ? b.integer() : b.dtype();
    const DType to = b.chance(30) ? type : integers ? b.integer() : b.dtype();
    inst.imm0 = b.number();
    inst.imm1 = b.number();
    if (inst.func == isa::Unary::CLAMP && naive::whole_type(type) && naive::whole_type(to)) {
      inst.imm0 = b.chance(10) ? -INFINITY : b.whole() - 6;
      inst.imm1 = b.chance(10) ? INFINITY : b.whole() - 6;
    }
    b.views[3] = b.view(d, to);
    b.views[7] = b.source(d, type);
    if (b.chance(60)) b.tame(*b.views[7]);
    b.check(inst);
  });
}

TEST_CASE("every unary function on every data type") {
  uint32_t seed = 1;
  for (unsigned f = 0; f < kUnaries; ++f) {
    for (const DType type : kTypes) {
      const bool integers_only = static_cast<isa::Unary>(f) == isa::Unary::NOT;
      if (integers_only && !naive::whole_type(type)) continue;
      CAPTURE(f, num::name_of(type));
      Bench b(seed++);
      isa::VUnary inst;
      inst.func = static_cast<isa::Unary>(f);
      inst.dst = 0;
      inst.src = 1;
      inst.imm0 = b.number();
      inst.imm1 = b.number();
      b.views[0] = b.view({1, 3, 5, 67}, integers_only ? DType::INT64 : DType::FP32);
      b.views[1] = b.view({1, 3, 5, 67}, type);
      b.check(inst);
    }
  }
}

TEST_CASE("conversions between every two data types") {
  uint32_t seed = 300;
  for (const isa::Unary f : {isa::Unary::COPY, isa::Unary::TRUNC}) {
    for (const DType from : kTypes) {
      for (const DType to : kTypes) {
        CAPTURE(num::name_of(from), num::name_of(to), seed);
        Bench b(seed++);
        isa::VUnary inst;
        inst.func = f;
        inst.src = 1;
        b.views[0] = b.view({1, 1, 4, 150}, to);
        b.views[1] = b.view({1, 1, 4, 150}, from);
        if (b.chance(50)) b.tame(*b.views[1], 30);
        b.check(inst);
      }
    }
  }
}

TEST_CASE("V_BINARY against the naive form") {
  repeat(2000, 500, [](Bench &b) {
    const Dims d = b.dims();
    isa::VBinary inst;
    inst.func = b.any<isa::Binary>(kBinaries);
    inst.dst = 0;
    inst.a = 1;
    inst.b = b.chance(25) ? 0xFF : (b.chance(10) ? 1 : 2);
    inst.swap = b.chance(30);
    inst.act = b.any<isa::Activation>(3);
    const bool integers = bitwise(inst.func) || b.chance(50);
    const DType type = integers ? b.integer() : b.dtype();
    const DType second = integers ? type : b.dtype();
    const DType to = integers && (bitwise(inst.func) || b.chance(80)) ? b.integer() : b.dtype();
    const bool whole = naive::whole_type(type) && (inst.b != 2 || naive::whole_type(second));
    if (whole && inst.b == 2 && second != type) return;  // refused
    inst.imm0 = whole ? b.whole() - (naive::is_signed(type) ? 6 : 0) : b.number();
    inst.lo = whole ? -2 : -1.5f;
    inst.hi = whole ? 3 : b.chance(10) ? std::numeric_limits<float>::quiet_NaN() : 2.5f;
    b.views[0] = b.view(d, to);
    b.views[1] = b.source(d, type);
    b.views[2] = b.source(d, second);
    if (b.chance(60)) {
      b.tame(*b.views[1], b.chance(50) ? 1 : 9);
      b.tame(*b.views[2], b.chance(50) ? 1 : 9);
    }
    b.check(inst);
  });
}

TEST_CASE("every binary function on every integer type") {
  uint32_t seed = 2700;
  for (unsigned f = 0; f < kBinaries; ++f) {
    for (const DType type : kIntegers) {
      for (const unsigned second : {2u, 0xFFu}) {
        CAPTURE(f, num::name_of(type), second, seed);
        Bench b(seed++);
        isa::VBinary inst;
        inst.func = static_cast<isa::Binary>(f);
        inst.a = 1;
        inst.b = static_cast<uint8_t>(second);
        inst.imm0 = b.whole();
        inst.swap = b.chance(50);
        b.views[0] = b.view({1, 2, 4, 70}, b.chance(50) ? type : b.integer());
        b.views[1] = b.view({1, 2, 4, 70}, type);
        b.views[2] = b.view({1, 2, 4, 70}, type);
        // Extremes, small numbers of both signs, and anything.
        for (const View *v : {&*b.views[1], &*b.views[2]}) {
          const int64_t lowest = std::numeric_limits<int64_t>::min() >> (64 - 8 * num::bytes_of(type));
          const int64_t special[] = {0, 1, -1, lowest, ~lowest, lowest + 1, 2, -3, 7, 8, 63, 64};
          naive::for_each(v->dims, [&](auto... i) {
            if (b.chance(70)) {
              naive::put_integer(b.memory, *v, naive::address(*v, i...), special[b.below(std::size(special))]);
            }
          });
        }
        b.check(inst);
      }
    }
  }
}

TEST_CASE("V_REDUCE against the naive form") {
  repeat(3000, 700, [](Bench &b) {
    const Dims d = b.dims();
    isa::VReduce inst;
    inst.func = b.any<isa::Reduce>(6);
    inst.dst = 9;
    inst.src = 10;
    inst.axes = static_cast<uint8_t>(1 + b.below(15));
    const DType type = b.dtype();
    const DType to = b.chance(30) ? type : b.dtype();
    inst.div = b.chance(50) ? 1.0f : b.number();
    if (naive::whole_type(type) && naive::whole_type(to)) inst.div = b.chance(50) ? 1.0f : b.whole();
    Dims kept = d;
    for (unsigned i = 0; i < 4; ++i) {
      if (inst.axes >> i & 1) kept[i] = 1;
    }
    b.views[9] = b.view(kept, to);
    const unsigned broadcast = b.chance(15) ? 1u << b.below(4) : 0u;
    b.views[10] = b.view(d, type, broadcast);
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
    const DType type = b.chance(40) ? DType::FP32 : b.dtype();
    b.views[0] = b.view(d, b.chance(30) ? type : b.dtype());
    const unsigned broadcast = b.chance(12) ? 1u << b.below(4) : 0u;
    b.views[1] = b.view({d[0], rows, columns, channels}, type, broadcast);
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

TEST_CASE("V_SELECT against the naive form") {
  repeat(5300, 300, [](Bench &b) {
    const Dims d = b.dims();
    isa::VSelect inst;
    inst.dst = 2;
    inst.cond = 1;
    inst.a = b.chance(25) ? 0xFF : 3;
    inst.b = b.chance(25) ? 0xFF : 4;
    inst.imm0 = b.number();
    inst.imm1 = b.chance(20) ? INFINITY : 100 * b.number();
    const DType type = b.dtype();
    b.views[2] = b.view(d, type);
    b.views[1] = b.source(d, b.chance(50) ? DType::INT8 : DType::UINT8);
    b.views[3] = b.source(d, type);
    b.views[4] = b.source(d, type);
    // Random bytes are seldom 0.
    naive::for_each(b.views[1]->dims, [&](auto... i) {
      if (b.chance(50)) b.memory[naive::address(*b.views[1], i...)] = std::byte{0};
    });
    b.check(inst);
  });
}

TEST_CASE("V_GATHER against the naive form") {
  repeat(5600, 500, [](Bench &b) {
    const Dims d = b.dims(4000);
    isa::VGather inst;
    inst.dst = 2;
    inst.src = 1;
    inst.idx = 5;
    inst.axis = static_cast<uint8_t>(b.below(4));
    const DType type = b.dtype();
    Dims table = d;
    table[inst.axis] = 1 + b.below(40);
    unsigned broadcast = 0;
    for (unsigned i = 0; i < 4; ++i) {
      if (b.chance(10)) broadcast |= 1u << i;
    }
    if (product(table) > 6000) return;
    b.views[2] = b.view(d, type);
    b.views[1] = b.view(table, type, broadcast);
    // One index for each element, or for whole rows.
    unsigned shared = 0;
    if (b.chance(50)) shared = inst.axis == 3 ? 7u & b.below(16) : 14u & ~(1u << inst.axis);
    b.views[5] = b.view(d, b.chance(50) ? DType::INT32 : DType::INT64, shared);
    b.index(*b.views[5], table[inst.axis]);
    b.check(inst);
  });
}

TEST_CASE("V_SCATTER against the naive form") {
  repeat(5900, 600, [](Bench &b) {
    const Dims d = b.dims(4000);
    isa::VScatter inst;
    inst.func = b.any<isa::Scatter>(isa::kScatterCount);
    inst.dst = 2;
    inst.src = 1;
    inst.idx = 5;
    inst.axis = static_cast<uint8_t>(b.below(4));
    const DType type = b.dtype();
    Dims target = d;
    for (unsigned i = 0; i < 4; ++i) {
      if (b.chance(20)) target[i] += b.below(3);
    }
    target[inst.axis] = 1 + b.below(40);
    if (product(target) > 6000) return;
    b.views[2] = b.view(target, type);
    b.views[1] = b.view(d, type, b.chance(15) ? 1u << b.below(4) : 0u);
    unsigned shared = 0;
    if (b.chance(50)) shared = inst.axis == 3 ? 7u & b.below(16) : 14u & ~(1u << inst.axis);
    b.views[5] = b.view(d, b.chance(50) ? DType::INT32 : DType::INT64, shared);
    b.index(*b.views[5], target[inst.axis]);
    if (b.chance(70)) {
      b.tame(*b.views[2]);
      b.tame(*b.views[1]);
    }
    b.check(inst);
  });
}

TEST_CASE("V_SCAN against the naive form") {
  repeat(6500, 400, [](Bench &b) {
    Dims d = b.dims(3000);
    isa::VScan inst;
    inst.dst = 2;
    inst.src = 1;
    inst.axis = static_cast<uint8_t>(b.below(4));
    inst.exclusive = b.chance(50);
    inst.reverse = b.chance(50);
    if (d[inst.axis] > 80 && d[inst.axis] * product(d) > 2'000'000) return;  // the naive form is quadratic
    const DType type = b.dtype();
    b.views[2] = b.view(d, b.chance(40) ? type : b.dtype());
    b.views[1] = b.view(d, type, b.chance(15) ? 1u << b.below(4) : 0u);
    if (b.chance(80)) b.tame(*b.views[1]);
    b.check(inst);
  });
}

TEST_CASE("V_ARG against the naive form") {
  repeat(6900, 500, [](Bench &b) {
    const Dims d = b.dims();
    isa::VArg inst;
    inst.order = b.any<isa::Order>(isa::kOrderCount);
    inst.dst = 2;
    inst.src = 1;
    inst.axis = static_cast<uint8_t>(b.below(4));
    inst.last = b.chance(50);
    Dims kept = d;
    kept[inst.axis] = 1;
    b.views[2] = b.view(kept, b.chance(50) ? DType::INT32 : DType::INT64);
    b.views[1] = b.view(d, b.dtype(), b.chance(15) ? 1u << b.below(4) : 0u);
    if (b.chance(60)) b.tame(*b.views[1], b.chance(50) ? 1 : 0.2f);
    b.check(inst);
  });
}

TEST_CASE("V_TOPK against the naive form") {
  repeat(7400, 400, [](Bench &b) {
    const Dims d = b.dims();
    isa::VTopk inst;
    inst.order = b.any<isa::Order>(isa::kOrderCount);
    inst.dst = 2;
    inst.src = 1;
    Dims taken = d;
    taken[3] = b.chance(20) ? d[3] : 1 + b.below(d[3]);
    b.views[2] = b.view(taken, b.chance(50) ? DType::INT32 : DType::INT64);
    b.views[1] = b.view(d, b.dtype(), b.chance(15) ? 1u << b.below(4) : 0u);
    if (b.chance(60)) b.tame(*b.views[1], b.chance(50) ? 1 : 0.2f);
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
    if (naive::whole_type(b.views[0]->dtype) && naive::whole_type(b.views[1]->dtype)) {
      b.views[1]->dtype = b.views[0]->dtype;
      b.views[1] = b.source(d, b.views[0]->dtype);
    }
    const bool integers = naive::whole_type(b.views[0]->dtype) && naive::whole_type(b.views[1]->dtype);
    switch (b.below(5)) {
      case 0: {
        isa::VUnary inst;
        do {
          inst.func = b.any<isa::Unary>(kUnaries);
        } while (inst.func == isa::Unary::NOT && !naive::whole_type(b.views[0]->dtype));
        inst.src = 2;
        inst.imm0 = naive::whole_type(b.views[0]->dtype) ? 1.0f : 0.5f;
        inst.imm1 = 3.0f;
        b.check(inst);
        break;
      }
      case 1: {
        isa::VBinary inst;
        do {
          inst.func = b.any<isa::Binary>(kBinaries);
        } while (bitwise(inst.func) && !integers);
        inst.a = b.chance(50) ? 0 : 1;
        inst.b = 2;
        b.check(inst);
        break;
      }
      case 2: {
        isa::VSelect inst;
        inst.cond = 3;
        inst.a = 2;
        inst.imm1 = 1;
        b.views[3] = b.source(d, DType::INT8);
        b.check(inst);
        break;
      }
      case 3: {
        isa::VScan inst;
        inst.src = 2;
        inst.axis = static_cast<uint8_t>(b.below(4));
        inst.exclusive = b.chance(50);
        inst.reverse = b.chance(50);
        if (d[inst.axis] < 200) b.check(inst);
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
  std::vector<int64_t> p64(kN), q64(kN), x64(kN), y64(kN), z64(kN), w64(kN);
  const auto fill_integers = [&](std::vector<int64_t> &v) {
    for (int64_t &x : v) {
      const auto r = static_cast<int64_t>(random());
      x = r % 3 == 0 ? r >> 58 : r >> (r & 63);
    }
  };
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
    for (unsigned f = 1; f < kUnaries; ++f) {
      fast->unary(static_cast<isa::Unary>(f), a.data(), x.data(), n, b[0], b[1]);
      plain.unary(static_cast<isa::Unary>(f), a.data(), y.data(), n, b[0], b[1]);
      CAPTURE(f);
      REQUIRE(same(x, y));
    }
    for (unsigned f = 0; f < kBinaries; ++f) {
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
      const float joined = fast->join(static_cast<isa::Reduce>(f), p.data());
      REQUIRE(same({joined}, {plain.join(static_cast<isa::Reduce>(f), p.data())}));
    }
    fill_integers(p64);
    fill_integers(q64);
    for (const bool is_unsigned : {false, true}) {
      for (unsigned f = 0; f < kUnaries; ++f) {
        fast->integer_unary(static_cast<isa::Unary>(f), is_unsigned, p64.data(), x64.data(), n, q64[0], q64[1]);
        plain.integer_unary(static_cast<isa::Unary>(f), is_unsigned, p64.data(), y64.data(), n, q64[0], q64[1]);
        REQUIRE(x64 == y64);
      }
      for (unsigned f = 0; f < kBinaries; ++f) {
        const unsigned width = 8u << (round % 4);
        fast->integer_binary(static_cast<isa::Binary>(f), is_unsigned, width, p64.data(), q64.data(), x64.data(), n);
        plain.integer_binary(static_cast<isa::Binary>(f), is_unsigned, width, p64.data(), q64.data(), y64.data(), n);
        REQUIRE(x64 == y64);
      }
      for (unsigned f = 0; f < isa::kReduceCount; ++f) {
        x64 = y64 = p64;
        fast->integer_accumulate(static_cast<isa::Reduce>(f), is_unsigned, x64.data(), q64.data(), n);
        plain.integer_accumulate(static_cast<isa::Reduce>(f), is_unsigned, y64.data(), q64.data(), n);
        REQUIRE(x64 == y64);
      }
      fast->keys_of_integers(p64.data(), is_unsigned, round % 2 != 0, x64.data(), n);
      plain.keys_of_integers(p64.data(), is_unsigned, round % 2 != 0, y64.data(), n);
      REQUIRE(x64 == y64);
    }
    fast->keys_of_floats(a.data(), round % 2 != 0, x64.data(), n);
    plain.keys_of_floats(a.data(), round % 2 != 0, y64.data(), n);
    REQUIRE(x64 == y64);
    z64 = w64 = p64;
    fast->extreme(q64.data(), 9, round % 2 != 0, z64.data(), x64.data(), n);
    plain.extreme(q64.data(), 9, round % 2 != 0, w64.data(), y64.data(), n);
    REQUIRE((x64 == y64 && z64 == w64));
    for (const size_t bytes : {1u, 2u, 4u, 8u}) {
      const auto *cond = reinterpret_cast<const uint8_t *>(a.data());
      fast->select(bytes, cond, p64.data(), q64.data(), x64.data(), n);
      plain.select(bytes, cond, p64.data(), q64.data(), y64.data(), n);
      REQUIRE(x64 == y64);
      fast->truncate(bytes, p64.data(), x64.data(), n);
      plain.truncate(bytes, p64.data(), y64.data(), n);
      REQUIRE(x64 == y64);
    }
    for (const DType type : kIntegers) {
      fast->extend(type, reinterpret_cast<const std::byte *>(p64.data()) + 1, x64.data(), n - 1);
      plain.extend(type, reinterpret_cast<const std::byte *>(p64.data()) + 1, y64.data(), n - 1);
      REQUIRE(x64 == y64);
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

TEST_CASE("known results of integers") {
  Bench b(3);
  const std::span<std::byte> spm(b.memory.data(), b.memory.size());
  const auto put = [&](unsigned index, DType type, std::vector<int64_t> v) {
    const auto bytes = static_cast<int32_t>(num::bytes_of(type));
    b.views[index] = View{type, 4096 * index, {1, 1, 1, static_cast<uint32_t>(v.size())}, {0, 0, 0, bytes}};
    for (size_t i = 0; i < v.size(); ++i) std::memcpy(&b.memory[4096 * index + i * bytes], &v[i], bytes);
  };
  const auto results = [&](unsigned index) {
    std::vector<int64_t> v;
    const View &view = *b.views[index];
    naive::for_each(view.dims, [&](auto... i) {
      v.push_back(static_cast<int64_t>(naive::get_integer(b.memory, view, naive::address(view, i...))));
    });
    return v;
  };
  const auto binary = [&](isa::Binary f) {
    isa::VBinary inst;
    inst.func = f;
    inst.a = 1;
    inst.b = 2;
    b.unit.run(spm, b.views, inst);
    return results(0);
  };
  using V = std::vector<int64_t>;
  constexpr int64_t kLow = std::numeric_limits<int64_t>::min();
  put(0, DType::INT64, V(6));
  put(1, DType::INT64, {kLow, 7, -7, 7, -7, 5});
  put(2, DType::INT64, {-1, 2, 2, -2, -2, 0});
  CHECK(binary(isa::Binary::DIV) == V{kLow, 3, -3, -3, 3, -1});
  CHECK(binary(isa::Binary::FMOD) == V{0, 1, -1, 1, -1, 5});
  CHECK(binary(isa::Binary::MOD) == V{0, 1, 1, -1, -1, 5});
  CHECK(binary(isa::Binary::SHL) == V{0, 28, -28, 0, 0, 5});
  CHECK(binary(isa::Binary::SHR) == V{-1, 1, -2, 0, -1, 5});
  CHECK(binary(isa::Binary::POW) == V{0, 49, 49, 0, 0, 1});
  CHECK(binary(isa::Binary::MUL) == V{kLow, 14, -14, -14, 14, 0});
  put(1, DType::UINT64, {-1, -1, -1, 3, -1, 2});
  put(2, DType::UINT64, {2, -1, 0, -1, 63, 64});
  CHECK(binary(isa::Binary::DIV) == V{std::numeric_limits<int64_t>::max(), 1, -1, 0, 0x0410410410410410, 0});
  CHECK(binary(isa::Binary::LT) == V{0, 0, 0, 1, 0, 1});
  CHECK(binary(isa::Binary::SHR) == V{std::numeric_limits<int64_t>::max() >> 1, 0, -1, 0, 1, 0});
  // 2^24 + 1 has no FP32: comparisons and sums are exact all the same.
  put(0, DType::UINT8, V(3));
  put(1, DType::INT32, {16777217, 16777216, -16777217});
  put(2, DType::INT32, {16777216, 16777217, -16777216});
  CHECK(binary(isa::Binary::LT) == V{0, 1, 1});
  CHECK(binary(isa::Binary::EQ) == V{0, 0, 0});
  CHECK(binary(isa::Binary::ADD) == V{1, 1, 255});
  put(0, DType::INT8, V(3));
  CHECK(binary(isa::Binary::SUB) == V{1, -1, -1});
  isa::VReduce sum;
  sum.src = 1;
  sum.axes = 8;
  put(0, DType::INT64, V(1));
  b.unit.run(spm, b.views, sum);
  CHECK(results(0) == V{16777216});
  sum.div = 5;
  b.unit.run(spm, b.views, sum);
  CHECK(results(0) == V{3355443});
  // COPY and TRUNC of floats; COPY among integers.
  const float floats[] = {2.5f, -2.5f, 2.9f, -1e30f, 1e30f, std::nanf("")};
  b.views[1] = View{DType::FP32, 4096, {1, 1, 1, 6}, {0, 0, 0, 4}};
  std::memcpy(&b.memory[4096], floats, sizeof floats);
  put(0, DType::INT64, V(6));
  isa::VUnary convert;
  convert.src = 1;
  b.unit.run(spm, b.views, convert);
  CHECK(results(0) == V{2, -2, 3, kLow, std::numeric_limits<int64_t>::max(), 0});
  convert.func = isa::Unary::TRUNC;
  b.unit.run(spm, b.views, convert);
  CHECK(results(0) == V{2, -2, 2, kLow, std::numeric_limits<int64_t>::max(), 0});
  convert.func = isa::Unary::COPY;
  put(0, DType::INT8, V(3));
  put(1, DType::INT64, {300, -129, 0x1234567890});
  b.unit.run(spm, b.views, convert);
  CHECK(results(0) == V{44, 127, -112});
}

TEST_CASE("order: NaN, zeros, equal elements") {
  Bench b(4);
  const std::span<std::byte> spm(b.memory.data(), b.memory.size());
  const float nan = std::bit_cast<float>(0xFFC00001u);
  const float x[] = {-0.0f, 3.0f, nan, 0.0f, INFINITY, 3.0f, -INFINITY, nan};
  std::memcpy(b.memory.data(), x, sizeof x);
  b.views[1] = View{DType::FP32, 0, {1, 1, 1, 8}, {0, 0, 0, 4}};
  b.views[2] = View{DType::FP32, 0, {1, 1, 1, 4}, {0, 0, 0, 4}};
  b.views[0] = View{DType::INT64, 1024, {1, 1, 1, 1}, {0, 0, 0, 8}};
  const auto arg = [&](isa::Order order, bool last, unsigned src) {
    isa::VArg inst;
    inst.order = order;
    inst.last = last;
    inst.src = static_cast<uint8_t>(src);
    inst.axis = 3;
    b.unit.run(spm, b.views, inst);
    return b.memory[1024];
  };
  CHECK(arg(isa::Order::LARGEST, false, 1) == std::byte{2});
  CHECK(arg(isa::Order::LARGEST, true, 1) == std::byte{7});
  CHECK(arg(isa::Order::SMALLEST, false, 1) == std::byte{2});
  CHECK(arg(isa::Order::SMALLEST, true, 1) == std::byte{7});
  const float zeros[] = {0.0f, -0.0f, 0.0f, -0.0f};
  std::memcpy(b.memory.data(), zeros, sizeof zeros);
  CHECK(arg(isa::Order::LARGEST, false, 2) == std::byte{0});
  CHECK(arg(isa::Order::SMALLEST, false, 2) == std::byte{0});
  CHECK(arg(isa::Order::SMALLEST, true, 2) == std::byte{3});
  std::memcpy(b.memory.data(), x, sizeof x);
  isa::VTopk topk;
  topk.src = 1;
  b.views[0] = View{DType::INT32, 1024, {1, 1, 1, 8}, {0, 0, 0, 4}};
  for (const bool smallest : {false, true}) {
    topk.order = smallest ? isa::Order::SMALLEST : isa::Order::LARGEST;
    b.unit.run(spm, b.views, topk);
    int32_t got[8];
    std::memcpy(got, &b.memory[1024], sizeof got);
    const int32_t expected[2][8] = {{2, 7, 4, 1, 5, 0, 3, 6}, {2, 7, 6, 0, 3, 1, 5, 4}};
    for (int i = 0; i < 8; ++i) CHECK(got[i] == expected[smallest][i]);
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
  isa::VSelect select;
  isa::VGather gather;
  isa::VScatter scatter;
  isa::VScan scan;
  isa::VArg arg;
  isa::VTopk topk;

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
    b.views[7] = dense(28672, {1, 2, 4, 8}, DType::INT8);    // condition
    b.views[8] = dense(32768, {1, 2, 4, 8}, DType::INT64);   // indices of a dimension of 5
    b.views[9] = dense(36864, {1, 2, 5, 8});                 // gathered from and scattered to
    b.views[10] = dense(40960, {1, 2, 1, 8}, DType::INT32);  // results of V_ARG along dimension 2
    b.views[11] = dense(45056, {1, 2, 4, 3}, DType::INT64);  // and of V_TOPK
    b.index(*b.views[8], 5);
    select.cond = 7;
    select.a = 1;
    select.b = 2;
    gather.src = 9;
    gather.idx = 8;
    gather.axis = 2;
    scatter.dst = 9;
    scatter.src = 1;
    scatter.idx = 8;
    scatter.axis = 2;
    scan.src = 1;
    scan.axis = 3;
    arg.dst = 10;
    arg.src = 1;
    arg.axis = 2;
    topk.dst = 11;
    topk.src = 1;
  }

  /// Refuses it with any of the operands undefined; `fields` are where the descriptors' numbers are.
  template <class Instruction>
  void undefined(const Instruction &inst, std::vector<unsigned> fields) {
    for (const unsigned field : fields) {
      CAPTURE(field);
      isa::Inst raw = inst.encode();
      raw[field] = 15;
      refused(b, Instruction::decode(raw), Kind::ILLEGAL, 15);
    }
  }
};

TEST_CASE_METHOD(Fixture, "the fixture's instructions are sound") {
  b.check(unary);
  b.check(binary);
  b.check(reduce);
  b.check(window);
  b.check(softmax);
  b.check(select);
  b.check(gather);
  for (unsigned f = 0; f < isa::kScatterCount; ++f) {
    scatter.func = static_cast<isa::Scatter>(f);
    b.check(scatter);
  }
  b.check(scan);
  b.check(arg);
  b.check(topk);
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

TEST_CASE_METHOD(Fixture, "undefined descriptors of choosing instructions are refused") {
  SECTION("select") { undefined(select, {2, 3, 4, 5}); }
  SECTION("gather") { undefined(gather, {2, 3, 4}); }
  SECTION("scatter") { undefined(scatter, {2, 3, 4}); }
  SECTION("scan") { undefined(scan, {2, 3}); }
  SECTION("arg") { undefined(arg, {2, 3}); }
  SECTION("topk") { undefined(topk, {2, 3}); }
}

TEST_CASE_METHOD(Fixture, "types that do not fit are refused") {
  SECTION("select: condition") {
    b.views[7] = dense(28672, {1, 2, 4, 8}, DType::INT16);
    refused(b, select, Kind::ILLEGAL, 7);
  }
  SECTION("select: values") {
    b.views[1]->dtype = DType::INT32;
    refused(b, select, Kind::ILLEGAL, 1);
    b.views[1]->dtype = DType::FP32;
    b.views[2]->dtype = DType::UINT32;
    refused(b, select, Kind::ILLEGAL, 2);
  }
  SECTION("gather and scatter: values") {
    b.views[9]->dtype = DType::INT32;
    refused(b, gather, Kind::ILLEGAL, 9);
    refused(b, scatter, Kind::ILLEGAL, 1);
  }
  SECTION("gather and scatter: indices") {
    for (const DType type : {DType::UINT64, DType::FP64, DType::UINT32, DType::INT16}) {
      b.views[8]->dtype = type;
      refused(b, gather, Kind::ILLEGAL, 8);
      refused(b, scatter, Kind::ILLEGAL, 8);
    }
  }
  SECTION("arg and topk: results") {
    for (const DType type : {DType::UINT64, DType::FP32, DType::UINT32, DType::INT16}) {
      b.views[10]->dtype = b.views[11]->dtype = type;
      refused(b, arg, Kind::ILLEGAL, 10);
      refused(b, topk, Kind::ILLEGAL, 11);
    }
  }
  SECTION("functions of integers only") {
    unary.func = isa::Unary::NOT;
    refused(b, unary, Kind::ILLEGAL, 0);
    b.views[0]->dtype = DType::INT32;
    refused(b, unary, Kind::ILLEGAL, 1);
    for (unsigned f = 0; f < kBinaries; ++f) {
      Fixture g;
      g.binary.func = static_cast<isa::Binary>(f);
      if (!bitwise(g.binary.func)) continue;
      refused(g.b, g.binary, Kind::ILLEGAL, 0);
      g.b.views[0]->dtype = DType::INT32;
      refused(g.b, g.binary, Kind::ILLEGAL, 1);
      g.b.views[1]->dtype = DType::INT32;
      refused(g.b, g.binary, Kind::ILLEGAL, 2);
      g.b.views[2]->dtype = DType::INT32;
      g.b.check(g.binary);
    }
  }
  SECTION("two integer types") {
    b.views[1]->dtype = DType::INT32;
    b.views[2]->dtype = DType::UINT32;
    refused(b, binary, Kind::ILLEGAL, 2);
    binary.func = isa::Binary::EQ;
    refused(b, binary, Kind::ILLEGAL, 2);
  }
}

TEST_CASE_METHOD(Fixture, "immediates of integers are whole and in range") {
  for (const unsigned index : {0u, 1u, 2u}) b.views[index]->dtype = DType::INT32;
  SECTION("second operand") {
    binary.b = 0xFF;
    for (const float bad : {0.5f, std::nanf(""), INFINITY, -INFINITY, 0x1p63f, -0x1.000002p63f}) {
      binary.imm0 = bad;
      refused(b, binary, Kind::ILLEGAL, 8);
    }
    for (const float good : {-0x1p63f, 0x1.fffffep62f, 1e9f}) {
      binary.imm0 = good;
      b.check(binary);
    }
    b.views[1] = dense(4096, {1, 2, 4, 8}, DType::UINT64);
    for (const float bad : {-1.0f, 0x1p64f}) {
      binary.imm0 = bad;
      refused(b, binary, Kind::ILLEGAL, 8);
    }
    binary.imm0 = 0x1.fffffep63f;
    b.check(binary);
    b.views[0]->dtype = DType::FP32;  // FP32 arithmetic takes any
    binary.imm0 = -0.5f;
    b.check(binary);
    binary.func = isa::Binary::LT;  // and comparisons are exact
    refused(b, binary, Kind::ILLEGAL, 8);
  }
  SECTION("bounds") {
    unary.func = isa::Unary::CLAMP;
    unary.imm0 = 0.5f;
    unary.imm1 = 7;
    refused(b, unary, Kind::ILLEGAL, 8);
    unary.imm0 = -INFINITY;
    b.check(unary);
    unary.imm1 = -0.25f;
    refused(b, unary, Kind::ILLEGAL, 12);
    unary.imm1 = 1e30f;
    b.check(unary);
    binary.act = isa::Activation::CLAMP;
    binary.lo = 1.5f;
    refused(b, binary, Kind::ILLEGAL, 12);
    binary.lo = -3;
    binary.hi = std::nanf("");
    refused(b, binary, Kind::ILLEGAL, 16);
    binary.hi = INFINITY;
    b.check(binary);
  }
  SECTION("divisor") {
    b.views[3]->dtype = DType::INT32;
    reduce.div = 2.5f;
    refused(b, reduce, Kind::ILLEGAL, 8);
    reduce.div = 2;
    b.check(reduce);
  }
  SECTION("bounds of a window's activation") {
    b.views[4]->dtype = DType::INT32;
    window.func = isa::Window::MAX;
    window.w = window.bias = 0xFF;
    window.act = isa::Activation::CLAMP;
    window.lo = 0.5f;
    refused(b, window, Kind::ILLEGAL, 20);
    window.lo = 0;
    window.hi = 0.5f;
    refused(b, window, Kind::ILLEGAL, 24);
    window.hi = 9;
    b.check(window);
  }
}

TEST_CASE_METHOD(Fixture, "indices outside the dimension are refused") {
  const auto set = [&](int64_t position, int64_t value) {
    std::memcpy(&b.memory[32768 + 8 * position], &value, sizeof value);
  };
  for (const int64_t bad : {int64_t{5}, int64_t{-6}, std::numeric_limits<int64_t>::min()}) {
    Bench before = b;
    set(63, bad);
    refused(b, gather, Kind::INDEX, static_cast<uint64_t>(bad));
    refused(b, scatter, Kind::INDEX, static_cast<uint64_t>(bad));
    set(40, 1000);  // the first one is told
    refused(b, gather, Kind::INDEX, 1000);
    b = before;
  }
  set(0, 4);
  set(1, -5);
  b.check(gather);
  b.check(scatter);
}

TEST_CASE_METHOD(Fixture, "dimensions of choosing instructions that do not fit are refused") {
  for (unsigned d = 0; d < 4; ++d) {
    CAPTURE(d);
    for (const unsigned operand : {7u, 1u, 2u}) {
      Fixture f;
      f.b.views[operand]->dims[d] += 1;
      refused(f.b, f.select, Kind::ILLEGAL, operand);
    }
    Fixture f;
    f.b.views[8]->dims[d] += 1;
    refused(f.b, f.gather, Kind::ILLEGAL, 8);
    refused(f.b, f.scatter, Kind::ILLEGAL, 8);
    Fixture g;
    g.b.views[9]->dims[d] += 1;
    if (d != 2) refused(g.b, g.gather, Kind::ILLEGAL, 9);
    if (d == 2) g.b.check(g.gather);
    g.b.check(g.scatter);  // may be larger
    Fixture h;
    h.b.views[1]->dims[d] += 1;
    refused(h.b, h.scatter, Kind::ILLEGAL, d == 2 ? 8 : 1);
    refused(h.b, h.scan, Kind::ILLEGAL, 1);
    if (d == 2) h.b.check(h.arg);
    if (d != 2) refused(h.b, h.arg, Kind::ILLEGAL, 10);
    if (d == 3) h.b.check(h.topk);
    if (d != 3) refused(h.b, h.topk, Kind::ILLEGAL, 11);
  }
  b.views[11] = dense(45056, {1, 2, 4, 9}, DType::INT64);
  refused(b, topk, Kind::ILLEGAL, 11);
  b.views[10] = dense(45056, {1, 2, 2, 8}, DType::INT64);
  refused(b, arg, Kind::ILLEGAL, 10);
}

TEST_CASE_METHOD(Fixture, "destinations of choosing instructions") {
  b.views[0]->strides[2] = b.views[9]->strides[1] = b.views[10]->strides[1] = b.views[11]->strides[3] = 0;
  refused(b, select, Kind::ILLEGAL, 0);
  refused(b, gather, Kind::ILLEGAL, 0);
  refused(b, scatter, Kind::ILLEGAL, 9);
  refused(b, scan, Kind::ILLEGAL, 0);
  refused(b, arg, Kind::ILLEGAL, 10);
  refused(b, topk, Kind::ILLEGAL, 11);
}

TEST_CASE_METHOD(Fixture, "choosing instructions outside the scratchpad") {
  const auto moved = [](unsigned index, auto Fixture::*inst) {
    CAPTURE(index);
    Fixture f;
    View &view = *f.b.views[index];
    view.base = static_cast<uint32_t>(kSpmBytes - view.elements() * num::bytes_of(view.dtype) + 1);
    refused(f.b, f.*inst, Kind::SPM, kSpmBytes);
  };
  for (const unsigned index : {0u, 7u, 1u, 2u}) moved(index, &Fixture::select);
  for (const unsigned index : {0u, 8u, 9u}) moved(index, &Fixture::gather);
  for (const unsigned index : {1u, 8u, 9u}) moved(index, &Fixture::scatter);
  for (const unsigned index : {0u, 1u}) moved(index, &Fixture::scan);
  for (const unsigned index : {10u, 1u}) moved(index, &Fixture::arg);
  for (const unsigned index : {11u, 1u}) moved(index, &Fixture::topk);
}

TEST_CASE_METHOD(Fixture, "choosing views whose size is broadcast only are refused") {
  const Dims huge{65535, 65535, 65535, 1};
  b.views[1] = View{DType::FP32, 4096, huge, {0, 0, 0, 0}};
  b.views[9] = View{DType::FP32, 0, huge, {1, 1, 1, 1}};
  b.views[8] = View{DType::INT32, 0, {1, 1, 1, 1}, {0, 0, 0, 0}};
  refused(b, scatter, Kind::ILLEGAL, 9);
  b.views[9] = dense(36864, {1, 1, 1, 8});
  b.views[1]->dims = {1, 1, 65535, 1};
  b.views[1]->dims[3] = 1;
  b.views[8] = View{DType::INT32, 32768, {1, 1, 1, 1}, {0, 0, 0, 0}};
  std::memset(&b.memory[32768], 0, 4);
  b.check(scatter);
  b.views[10] = View{DType::INT32, 0, {1, 1, 1, 1}, {0, 0, 0, 0}};
  b.views[1] = View{DType::FP32, 4096, {1, 1, 65535, 65535}, {0, 0, 0, 0}};
  b.views[10] = View{DType::INT32, 0, {1, 1, 1, 65535}, {0, 0, 0, 1}};
  b.views[1]->dims[1] = 2;
  b.views[10]->dims[1] = 2;
  b.views[10]->strides[1] = 4;
  refused(b, arg, Kind::ILLEGAL, 1);
}

TEST_CASE_METHOD(Fixture, "unknown data types are refused") {
  for (const unsigned index : {0u, 1u, 2u, 3u, 4u, 5u}) {
    Fixture f;
    f.b.views[index]->dtype = static_cast<DType>(14);
    CAPTURE(index);
    if (index < 2) refused(f.b, f.unary, Kind::ILLEGAL, index);
    if (index < 2) refused(f.b, f.softmax, Kind::ILLEGAL, index);
    if (index < 3) refused(f.b, f.binary, Kind::ILLEGAL, index);
    if (index == 1 || index == 3) refused(f.b, f.reduce, Kind::ILLEGAL, index);
    if (index == 0 || index > 3) refused(f.b, f.window, Kind::ILLEGAL, index);
  }
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
