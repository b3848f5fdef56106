#include "hw/vpu/vpu.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "tb/hw/engine/bench.hpp"

namespace {

using namespace cx;
using hw::Cycles;
using hw::VpuParams;
using Reg = regs::EngineReg;

// 16 lanes, first result after 10 cycles, special functions 4 cycles; the scratchpad's ports move 32 bytes a cycle with
// a latency of 3.
struct Chip {
  tb::Memories memories;
  hw::Vpu vpu{"vpu", memories.context(), VpuParams{16, 10, 4}};
  tb::EngineDriver driver{memories, vpu, 3};
};

Chip &chip() {
  static Chip instance;
  return instance;
}

isa::Inst dense(uint8_t index, uint32_t base, std::array<uint16_t, 4> d, isa::DType type = isa::DType::FP32) {
  isa::Tdesc t;
  t.index = index;
  t.dtype = type;
  t.base = base;
  t.dims = d;
  int32_t step = static_cast<int32_t>(isa::bytes_of(type));
  for (int i = 3; i >= 0; --i) {
    t.strides[i] = step;
    step *= d[i];
  }
  return t.encode();
}

struct Counters {
  uint64_t busy, operations, read, written;
  bool operator==(const Counters &) const = default;
};

std::ostream &operator<<(std::ostream &out, const Counters &c) {
  return out << "busy " << c.busy << " ops " << c.operations << " read " << c.read << " written " << c.written;
}

/// Starts from reset, with `data` at the scratchpad's offset 0.
void launch(std::vector<isa::Inst> program, const std::vector<float> &data = {}) {
  Chip &c = chip();
  c.memories.reset();
  c.vpu.reset();
  tb::Memories::run(1);  // the interrupt line falls
  if (!data.empty()) std::memcpy(c.memories.spm.data(), data.data(), data.size() * sizeof(float));
  program.push_back(isa::End{}.encode());
  c.driver.launch(program);
}

Counters measure(const std::vector<isa::Inst> &program, const std::vector<float> &data = {}) {
  launch(program, data);
  tb::EngineDriver &d = chip().driver;
  d.finish();
  REQUIRE(d.done());
  return {d.read64(Reg::BUSY_LO), d.read64(Reg::OPS_LO), d.read64(Reg::RD_LO), d.read64(Reg::WR_LO)};
}

float result(uint32_t offset) {
  float x;
  std::memcpy(&x, chip().memories.spm.data() + offset, sizeof x);
  return x;
}

isa::Inst unary(isa::Unary f, uint8_t dst, uint8_t src) {
  isa::VUnary inst;
  inst.func = f;
  inst.dst = dst;
  inst.src = src;
  return inst.encode();
}

TEST_CASE("the unit's results arrive in the scratchpad") {
  std::vector<float> data(64);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i) - 20.5f;
  measure({dense(0, 0, {1, 1, 8, 8}), dense(1, 4096, {1, 1, 8, 8}), unary(isa::Unary::RELU, 1, 0)}, data);
  for (uint32_t i = 0; i < 64; ++i) CHECK(result(4096 + 4 * i) == std::max(0.0f, data[i]));
}

TEST_CASE("timing and counters, calculated by hand") {
  const isa::Inst a = dense(0, 0, {1, 2, 4, 8});
  const isa::Inst out = dense(1, 4096, {1, 2, 4, 8});

  SECTION("bound by writing") {
    // 10 to the first result, 64 * 4 / 32 = 8 cycles, latency 3.
    CHECK(measure({a, out, unary(isa::Unary::NEG, 1, 0)}) == Counters{21, 64, 256, 256});
  }
  SECTION("bound by computing") {
    // 10 + 4 steps of 4 cycles, latency 3.
    CHECK(measure({dense(0, 0, {1, 2, 4, 8}, isa::DType::FP16), dense(1, 4096, {1, 2, 4, 8}, isa::DType::INT8),
                   unary(isa::Unary::EXP, 1, 0)}) == Counters{29, 64, 128, 64});
  }
  SECTION("bound by reading") {
    // 2 * 1024 * 4 / 32 = 256, latency 3.
    isa::VBinary add;
    add.dst = 2;
    add.a = 0;
    add.b = 1;
    CHECK(measure({dense(0, 0, {1, 1, 1, 1024}), dense(1, 4096, {1, 1, 1, 1024}), dense(2, 8192, {1, 1, 1, 1024}),
                   add.encode()}) == Counters{259, 1024, 8192, 4096});
  }
  SECTION("POW, broadcast operand") {
    // 10 + 4 steps * 2 special functions * 4 + latency 3; the broadcast operand is read once.
    isa::Tdesc scalar;
    scalar.index = 2;
    isa::VBinary pow;
    pow.func = isa::Binary::POW;
    pow.dst = 1;
    pow.a = 0;
    pow.b = 2;
    CHECK(measure({a, out, scalar.encode(), pow.encode()}) == Counters{45, 64, 260, 256});
  }
  SECTION("window") {
    // 10 + 4 steps * 9 taps + latency 3.
    isa::VWindow mac;
    mac.func = isa::Window::MAC;
    mac.dst = 1;
    mac.src = 2;
    mac.w = 3;
    mac.kernel_y = mac.kernel_x = 3;
    CHECK(measure({out, dense(2, 0, {1, 4, 6, 8}), dense(3, 1024, {1, 3, 3, 8}, isa::DType::INT8), mac.encode()}) ==
          Counters{49, 576, 768 + 72, 256});
  }
  SECTION("mean along the innermost dimension") {
    // 10 + 4, one step of the divider 4, tree 4, latency 3.
    isa::VReduce mean;
    mean.dst = 1;
    mean.src = 0;
    mean.axes = 8;
    mean.div = 8;
    CHECK(measure({a, dense(1, 4096, {1, 2, 4, 1}), mean.encode()}) == Counters{25, 64, 256, 32});
  }
  SECTION("sum over an outer dimension") {
    // no tree and no division: 10 + 4 + 3.
    isa::VReduce sum;
    sum.dst = 1;
    sum.src = 0;
    sum.axes = 4;
    CHECK(measure({a, dense(1, 4096, {1, 2, 1, 8}), sum.encode()}) == Counters{17, 64, 256, 64});
  }
  SECTION("softmax") {
    // maximum 4, exponential and division 4 * 4 each, two trees of 4: 10 + 4 + 32 + 8 + 3.
    isa::VSoftmax softmax;
    softmax.dst = 1;
    softmax.src = 0;
    CHECK(measure({a, out, softmax.encode()}) == Counters{57, 256, 256, 256});
  }
  SECTION("division of integers; elements of 64 bits take every pass twice") {
    isa::VBinary div;
    div.func = isa::Binary::DIV;
    div.dst = 1;
    div.a = 0;
    div.b = 0;
    const auto typed = [&](isa::DType type) {
      return std::vector<isa::Inst>{dense(0, 0, {1, 2, 4, 8}, type), dense(1, 4096, {1, 2, 4, 8}, type), div.encode()};
    };
    CHECK(measure(typed(isa::DType::INT32)) == Counters{29, 64, 512, 256});
    CHECK(measure(typed(isa::DType::INT64)) == Counters{10 + 32 + 3, 64, 1024, 512});
  }
  SECTION("selection") {
    // 64 * 4 bytes of each value and 64 of the condition: (512 + 64) / 32 + 3.
    isa::VSelect select;
    select.dst = 1;
    select.cond = 2;
    select.a = select.b = 0;
    CHECK(measure({a, out, dense(2, 8192, {1, 2, 4, 8}, isa::DType::INT8), select.encode()}) ==
          Counters{21, 64, 576, 256});
  }
  SECTION("gather: one address a cycle for elements, runs or scattered ones") {
    isa::VGather gather;
    gather.dst = 1;
    gather.src = 0;
    gather.idx = 2;
    gather.axis = 3;
    CHECK(measure({a, out, dense(2, 8192, {1, 2, 4, 8}, isa::DType::INT32), gather.encode()}) ==
          Counters{10 + 64 + 3, 64, 512, 256});
    // Rows of 8 elements: 8 addresses, 4 steps; bound by writing.
    gather.axis = 2;
    isa::Tdesc rows;
    rows.index = 2;
    rows.dtype = isa::DType::INT32;
    rows.base = 8192;
    rows.dims = {1, 2, 4, 1};
    rows.strides = {0, 16, 4, 0};
    CHECK(measure({a, out, rows.encode(), gather.encode()}) == Counters{21, 64, 288, 256});
  }
  SECTION("scatter: reads and writes again unless it sets") {
    isa::VScatter scatter;
    scatter.dst = 1;
    scatter.src = 0;
    scatter.idx = 2;
    scatter.axis = 3;
    const isa::Inst idx = dense(2, 8192, {1, 2, 4, 8}, isa::DType::INT32);
    CHECK(measure({a, out, idx, scatter.encode()}) == Counters{10 + 64 + 3, 64, 512, 256});
    scatter.func = isa::Scatter::ADD;
    CHECK(measure({a, out, idx, scatter.encode()}) == Counters{10 + 128 + 3, 64, 768, 256});
  }
  SECTION("scan: a lane for each line") {
    isa::VScan scan;
    scan.dst = 1;
    scan.src = 0;
    scan.axis = 3;  // 8 lines of 8
    CHECK(measure({a, out, scan.encode()}) == Counters{21, 64, 256, 256});
    scan.axis = 2;
    CHECK(measure({dense(0, 0, {1, 1, 64, 32}), dense(1, 8192, {1, 1, 64, 32}), scan.encode()}) ==
          Counters{269, 2048, 8192, 8192});
    CHECK(measure({dense(0, 0, {1, 1, 64, 3}, isa::DType::INT8), dense(1, 8192, {1, 1, 64, 3}, isa::DType::INT8),
                   scan.encode()}) == Counters{10 + 64 + 3, 192, 192, 192});
  }
  SECTION("arg") {
    // as the sum over the same dimension; a tree along the innermost
    isa::VArg arg;
    arg.dst = 1;
    arg.src = 0;
    arg.axis = 2;
    CHECK(measure({a, dense(1, 4096, {1, 2, 1, 8}, isa::DType::INT32), arg.encode()}) == Counters{17, 64, 256, 64});
    arg.axis = 3;
    CHECK(measure({a, dense(1, 4096, {1, 2, 4, 1}, isa::DType::INT64), arg.encode()}) == Counters{21, 64, 256, 64});
  }
  SECTION("top-k: an element a cycle for every 16 that are kept") {
    isa::VTopk topk;
    topk.dst = 1;
    topk.src = 0;
    CHECK(measure({dense(0, 0, {1, 1, 2, 40}), dense(1, 4096, {1, 1, 2, 16}, isa::DType::INT32), topk.encode()}) ==
          Counters{10 + 80 + 3, 80, 320, 128});
    CHECK(measure({dense(0, 0, {1, 1, 2, 40}), dense(1, 4096, {1, 1, 2, 17}, isa::DType::INT32), topk.encode()}) ==
          Counters{10 + 160 + 3, 80, 320, 136});
  }
  SECTION("instructions follow one another without overlap") {
    CHECK(measure({a, out, unary(isa::Unary::NEG, 1, 0), unary(isa::Unary::NEG, 1, 0)}) == Counters{42, 128, 512, 512});
  }
  SECTION("and the end of the stream waits for the last") {
    launch({a, out, unary(isa::Unary::NEG, 1, 0), isa::Nop{}.encode()});
    const Cycles one = chip().driver.finish();
    launch({a, out, unary(isa::Unary::NEG, 1, 0), unary(isa::Unary::NEG, 1, 0)});
    CHECK(chip().driver.finish() == one + 21);
  }
}

TEST_CASE("part steps and fractions of cycles round up") {
  const VpuParams params{16, 10, 2.5};
  hw::vpu::Work work;
  work.elements = 17;
  work.simple_passes = 1;
  CHECK(hw::vpu_compute_cycles(params, work) == 10 + 2);
  work.special_passes = 1;
  CHECK(hw::vpu_compute_cycles(params, work) == 10 + 2 + 5);
  work.divided_results = 1;
  CHECK(hw::vpu_compute_cycles(params, work) == 10 + 2 + 8);
  work.trees = 1;
  CHECK(hw::vpu_compute_cycles(params, work) == 10 + 2 + 8 + 4);
}

TEST_CASE("faults stop the engine and name the operand") {
  const isa::Inst a = dense(0, 0, {1, 2, 4, 8});
  const isa::Inst out = dense(1, 4096, {1, 2, 4, 8});
  const isa::Inst neg = unary(isa::Unary::NEG, 1, 0);
  const uint32_t illegal = CX_STATUS_ILLEGAL_INSTRUCTION;
  tb::EngineDriver &d = chip().driver;

  SECTION("undefined descriptor") {
    launch({a, unary(isa::Unary::NEG, 9, 0)});
    d.expect_fault(illegal, 1, 9);
  }
  SECTION("undefined second operand") {
    isa::VBinary add;
    add.dst = 1;
    add.a = 0;
    add.b = 6;
    launch({a, out, add.encode()});
    d.expect_fault(illegal, 2, 6);
  }
  SECTION("shape") {
    launch({dense(0, 0, {1, 2, 4, 7}), out, neg});
    d.expect_fault(illegal, 2, 0);
  }
  SECTION("data type") {
    launch({a, dense(1, 4096, {1, 2, 4, 8}, isa::DType::INT64), unary(isa::Unary::NOT, 1, 0)});
    d.expect_fault(illegal, 2, 0);
  }
  SECTION("operand of another function") {
    isa::VWindow max;
    max.dst = 1;
    max.src = 0;
    max.bias = 0;
    launch({a, out, max.encode()});
    d.expect_fault(illegal, 2, 5);
  }
  SECTION("source outside the scratchpad") {
    launch({dense(0, 65536 - 128, {1, 2, 4, 8}), out, neg});
    d.expect_fault(CX_STATUS_SPM_FAULT, 2, 65536);
  }
  SECTION("destination outside the scratchpad") {
    launch({a, dense(1, 65536, {1, 2, 4, 8}), neg});
    d.expect_fault(CX_STATUS_SPM_FAULT, 2, 65536);
  }
  SECTION("reach of a window") {
    isa::VWindow max;
    max.dst = 1;
    max.src = 0;
    max.kernel_y = 255;
    max.dil_y = 5;
    launch({a, out, max.encode()});
    d.expect_fault(CX_STATUS_SPM_FAULT, 2, 65536);
  }
  SECTION("index outside") {
    isa::VGather gather;
    gather.dst = 1;
    gather.src = 0;
    gather.idx = 2;
    gather.axis = 3;
    const int64_t index = -9;
    float words[2];
    std::memcpy(words, &index, sizeof index);
    isa::Tdesc one;
    one.index = 2;
    one.dtype = isa::DType::INT64;
    launch({a, out, one.encode(), gather.encode()}, {words[0], words[1]});
    d.expect_fault(CX_STATUS_INDEX_RANGE, 3, static_cast<uint64_t>(-9));
  }
  SECTION("every operand of a selection is looked up") {
    isa::VSelect select;
    select.dst = 1;
    select.cond = 7;
    launch({a, out, select.encode()});
    d.expect_fault(illegal, 2, 7);
    tb::Memories::run(1);
    select.cond = 0;
    select.a = 8;
    launch({a, out, select.encode()});
    d.expect_fault(illegal, 2, 8);
    tb::Memories::run(1);
    select.a = 0;
    select.b = 9;
    launch({a, out, select.encode()});
    d.expect_fault(illegal, 2, 9);
  }
  SECTION("instruction of another engine") {
    launch({a, isa::MmLdw{}.encode()});
    d.expect_fault(illegal, 1, d.read64(Reg::FAULT_ADDR_LO));
  }
  SECTION("the engine runs again after a reset") {
    launch({dense(0, 65536 - 128, {1, 2, 4, 8}), out, neg});
    d.finish();
    CHECK(chip().vpu.busy() == false);
    CHECK(measure({a, out, neg}).operations == 64);
  }
}

}  // namespace
