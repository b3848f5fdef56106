// The engines' common front end, with units whose instructions take the time that their operands say.
#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "tb/hw/engine/bench.hpp"

using namespace cx;
using namespace cx::tb;
using hw::Timing;
using Reg = regs::EngineReg;

namespace {

// V_UNARY takes imm0 cycles to accept and imm1 to complete and checks its dst view; DMA_LOAD looks up its segment.
class TestUnit : public hw::Engine {
 public:
  TestUnit(sc_core::sc_module_name name, isa::Engine id, const hw::EngineContext &context)
      : Engine(name, id, context) {}

  std::vector<Cycles> issues;
  unsigned unit_resets = 0;

 protected:
  Timing execute(const isa::Inst &inst) override {
    issues.push_back(now_cycles());
    if (isa::opcode_of(inst) == isa::Opcode::DMA_LOAD) {
      const auto in = isa::DmaLoad::decode(inst);
      const hw::MemoryView &view = memory_view(in.src);
      const hw::Segment &record = segment(view.segment);
      device_memory(record.base + view.offset, record.bytes);
      return {1, 1};
    }
    const auto in = isa::VUnary::decode(inst);
    const hw::TensorView &view = tensor(in.dst);
    count_operations(view.elements());
    count_read(2);
    count_written(3);
    return {static_cast<Cycles>(in.imm0), static_cast<Cycles>(in.imm1)};
  }
  void reset_unit() override { ++unit_resets; }
};

struct Bench : Memories {
  TestUnit vpu{"vpu", isa::Engine::VPU, context()};
  TestUnit vpu2{"vpu2", isa::Engine::VPU, context()};
  TestUnit load{"load", isa::Engine::LOAD, context()};
  EngineDriver a{*this, vpu, 0};
  EngineDriver b{*this, vpu2, 1};
  EngineDriver l{*this, load, 2};

  Bench() { run(0); }
  void reset() {
    for (TestUnit *unit : {&vpu, &vpu2, &load}) {
      unit->reset();
      unit->issues.clear();
    }
    Memories::reset();
    run(10);
  }
};

Bench &bench() {
  static Bench *instance = new Bench;
  instance->reset();
  return *instance;
}

isa::Inst nop() { return isa::Nop{}.encode(); }
isa::Inst end() { return isa::End{}.encode(); }
isa::Inst wait_for(unsigned sem, unsigned count) {
  return isa::SemWait{static_cast<std::uint8_t>(sem), static_cast<std::uint16_t>(count)}.encode();
}
isa::Inst post(unsigned sem, unsigned count) {
  return isa::SemPost{static_cast<std::uint8_t>(sem), static_cast<std::uint16_t>(count)}.encode();
}
isa::Inst tdesc(unsigned index, std::uint32_t base = 0, std::array<std::uint16_t, 4> dims = {1, 1, 1, 1},
                std::array<std::int32_t, 4> strides = {0, 0, 0, 0}) {
  isa::Tdesc in;
  in.index = static_cast<std::uint8_t>(index);
  in.base = base;
  in.dims = dims;
  in.strides = strides;
  return in.encode();
}
isa::Inst operate(unsigned accept, unsigned complete, unsigned dst = 0) {
  isa::VUnary in;
  in.dst = static_cast<std::uint8_t>(dst);
  in.imm0 = static_cast<float>(accept);
  in.imm1 = static_cast<float>(complete);
  return in.encode();
}

// From the write of CTRL to the first instruction of a stream of at most one block: the write takes 9 cycles; then
// 8 to the DRAM, whole bursts at 16 bytes a cycle, 80 of latency, 8 back.
Cycles first_issue(std::size_t instructions) { return 9 + 8 + (instructions * 32 + 63) / 64 * 4 + 80 + 8; }

}  // namespace

TEST_CASE("a stream of NOPs takes a cycle each") {
  Bench &t = bench();
  const Cycles begin = t.now();
  t.a.launch({nop(), nop(), end()});
  CHECK(t.a.busy());
  CHECK(t.a.finish() == first_issue(3) + 3);
  CHECK(t.now() == begin + first_issue(3) + 3);
  CHECK(t.a.read(Reg::STATUS) == 1);
  CHECK(t.a.read64(Reg::INSTR_LO) == 3);
  CHECK(t.a.read(Reg::PC) == 2);
  CHECK(t.a.read64(Reg::BUSY_LO) == 0);
  // Write one to clear lowers the interrupt.
  t.a.write(Reg::STATUS, 1);
  t.run(1);
  CHECK_FALSE(t.a.irq.read());
  CHECK(t.a.read(Reg::STATUS) == 0);
}

TEST_CASE("PC and INSTR are exact at every cycle of a run of descriptor updates") {
  Bench &t = bench();
  std::vector<isa::Inst> program(15, tdesc(3));
  program.push_back(end());
  const Cycles begin = t.now();
  t.a.launch(program);
  const Cycles first = begin + first_issue(program.size());
  t.run(first - t.now());
  for (unsigned i = 0; i < 15; ++i) {
    CHECK(t.a.read(Reg::PC) == i);
    CHECK(t.a.read64(Reg::INSTR_LO) == i);
    t.run(1);
  }
  CHECK(t.a.finish() <= 1);
  CHECK(t.a.read64(Reg::INSTR_LO) == 16);
}

TEST_CASE("the fetch unit holds three blocks of sixteen instructions") {
  Bench &t = bench();
  constexpr unsigned kCount = 100;
  std::vector<isa::Inst> program(kCount - 1, nop());
  program.push_back(end());
  t.a.launch(program);
  // Hand model of the stated rule: every block is one burst train of 512 bytes on one channel and one link.
  std::array<Cycles, 4> channel{};
  Cycles link = 0;
  const auto request = [&](Cycles at, unsigned block) -> Cycles {
    const Cycles bytes = std::min(16u, kCount - block * 16) * 32;
    Cycles &busy = channel[block * 512 / 1024 % 4];
    busy = std::max(busy, at + 8) + (bytes + 63) / 64 * 4;
    link = std::max(link, at + 8 + 80) + bytes / 64;
    return std::max(busy + 80, link) + 8;
  };
  std::vector<Cycles> ready((kCount + 15) / 16);
  Cycles front = 9;
  ready[0] = request(front, 0);
  ready[1] = request(front, 1);
  for (unsigned block = 0; block < ready.size(); ++block) {
    front = std::max(front, ready[block]);
    if (block + 2 < ready.size()) ready[block + 2] = request(front, block + 2);
    front += std::min(16u, kCount - block * 16);
  }
  CHECK(t.a.finish() == front);
  CHECK(t.a.read64(Reg::INSTR_LO) == kCount);
}

TEST_CASE("units are pipelined; posts wait for completion without holding the stream") {
  Bench &t = bench();
  const std::vector<isa::Inst> program{
      tdesc(0, 0, {2, 3, 4, 5}), operate(10, 30), operate(5, 5), post(3, 2), operate(5, 40), end()};
  const Cycles first = t.now() + first_issue(program.size());
  t.a.launch(program);
  t.run(first + 30 - t.now());
  CHECK(t.semaphores.value(3) == 0);
  t.run(1);
  t.run(0);                           // the kernel stops before the processes of its last instant
  CHECK(t.semaphores.value(3) == 2);  // the longest earlier instruction ends at 1 + 30
  t.a.finish();
  CHECK(t.vpu.issues == std::vector<Cycles>{first + 1, first + 11, first + 16});
  CHECK(t.now() == first + 16 + 40);
  CHECK(t.a.read64(Reg::BUSY_LO) == 55);  // [1, 31) and [16, 56)
  CHECK(t.a.read64(Reg::OPS_LO) == 3 * 120);
  CHECK(t.a.read64(Reg::RD_LO) == 6);
  CHECK(t.a.read64(Reg::WR_LO) == 9);
  CHECK(t.a.read64(Reg::STALL_LO) == 0);
}

TEST_CASE("at most sixteen posts wait for completion") {
  Bench &t = bench();
  std::vector<isa::Inst> program{tdesc(0), operate(1, 500)};
  for (unsigned i = 0; i < 13; ++i) program.push_back(post(1, 1));
  program.push_back(end());
  SECTION("thirteen do not hold the stream") {
    const Cycles first = t.now() + first_issue(16);
    t.a.launch(program);
    t.run(first + 15 - t.now());
    CHECK(t.a.read(Reg::PC) == 15);
    t.a.finish();
    CHECK(t.now() == first + 1 + 500);
    CHECK(t.semaphores.value(1) == 13);
  }
  SECTION("the seventeenth does") {
    program.pop_back();
    for (unsigned i = 0; i < 4; ++i) program.push_back(post(1, 1));
    program.push_back(operate(1, 1));
    program.push_back(end());
    const Cycles begin = t.now();
    t.a.launch(program);
    t.a.finish();
    REQUIRE(t.vpu.issues.size() == 2);
    CHECK(t.vpu.issues[1] - t.vpu.issues[0] == 501);  // the post issues at +500
    CHECK(t.now() == begin + (t.vpu.issues[1] - begin) + 2);
    CHECK(t.semaphores.value(1) == 17);
  }
}

TEST_CASE("two engines meet at semaphores") {
  Bench &t = bench();
  // a produces thrice, b takes 3 at once and answers.
  t.a.launch({tdesc(0), operate(20, 25), post(0, 1), operate(20, 25), post(0, 1), operate(20, 25), post(0, 1),
              wait_for(1, 1), end()});
  t.b.launch({tdesc(0), wait_for(0, 3), operate(7, 7), post(1, 1), end()});
  t.b.finish();
  CHECK(t.vpu.issues.size() == 3);
  const Cycles third_done = t.vpu.issues[2] + 25;
  CHECK(t.vpu2.issues == std::vector<Cycles>{third_done + 1});
  CHECK(t.now() == third_done + 1 + 7);
  t.a.finish();
  CHECK(t.now() == third_done + 1 + 7 + 2);  // the wait ends with the post, then END
  CHECK(t.semaphores.dump() == "all zero");
  CHECK(t.a.done());
  CHECK(t.b.done());
  const Cycles b_first = t.vpu2.issues[0] - t.b.read64(Reg::STALL_LO) - 1;
  CHECK(b_first < third_done);
}

TEST_CASE("a blocked engine shows what it waits for, and STALL counts while it does") {
  Bench &t = bench();
  const Cycles first = t.now() + first_issue(3);
  t.a.launch({nop(), wait_for(5, 700), end()});
  t.run(first + 1 + 50 - t.now());
  CHECK(t.a.waiting());
  CHECK(t.a.busy());
  CHECK(t.a.read(Reg::PC) == 1);
  CHECK(t.a.read(Reg::WAIT_SEM) == (700u << 16 | 5u));
  CHECK(t.a.read64(Reg::STALL_LO) == 50);
  CHECK(t.a.read64(Reg::INSTR_LO) == 1);
  CHECK(t.vpu.dump() == "vpu: waiting at 1 for semaphore 5 to reach 700, it is 0");
  CHECK(t.semaphores.post(5, 699));
  t.run(10);
  CHECK(t.a.waiting());
  CHECK(t.semaphores.post(5, 10));
  t.a.finish();
  CHECK(t.semaphores.value(5) == 9);
  CHECK(t.a.read64(Reg::STALL_LO) == 60);
  CHECK(t.a.read(Reg::WAIT_SEM) == 0);
}

TEST_CASE("a trace records data instructions with their times and waits, and changes neither") {
  Bench &t = bench();
  const std::vector<isa::Inst> waiting{tdesc(0, 0, {2, 3, 4, 5}), wait_for(7, 1), operate(10, 30), operate(5, 5),
                                       end()};
  const std::vector<isa::Inst> posting{tdesc(0), operate(50, 100), post(7, 1), end()};
  const auto run = [&] {
    const Cycles begin = t.now();
    t.a.launch(waiting);
    t.b.launch(posting);
    t.a.finish();
    t.b.finish();
    return t.now() - begin;
  };
  const Cycles untraced = run();
  t.reset();
  std::vector<cx_trace_record> all;
  hw::Trace::Options options;
  options.sink = [&](std::span<const cx_trace_record> piece) { all.insert(all.end(), piece.begin(), piece.end()); };
  options.period_ps = t.clock.period_ps();
  hw::Trace trace(options);
  const auto of_kind = [&](unsigned kind) {
    trace.flush();
    std::vector<cx_trace_record> chosen;
    std::copy_if(all.begin(), all.end(), std::back_inserter(chosen), [&](const auto &r) { return r.kind == kind; });
    return chosen;
  };
  const auto packet = [](std::uint64_t) -> std::uint64_t { return 77; };
  t.vpu.set_trace(&trace, packet);
  t.vpu2.set_trace(&trace, packet);
  CHECK(run() == untraced);
  const auto records = of_kind(CX_TRACE_INSTRUCTION);
  REQUIRE(records.size() == 3);
  const cx_trace_record &blocker = records[0], &first = records[1], &second = records[2];
  const auto value = [](const cx_trace_record &record, unsigned place) { return record.values[place]; };
  const std::uint64_t period = options.period_ps;
  CHECK(value(blocker, CX_TRACE_INSTRUCTION_PC) == 1);
  CHECK(value(blocker, CX_TRACE_INSTRUCTION_WAITED) == 0);
  CHECK(value(blocker, CX_TRACE_INSTRUCTION_ACCEPT) == blocker.begin + 50 * period);
  CHECK(blocker.end == blocker.begin + 100 * period);
  CHECK(value(first, CX_TRACE_INSTRUCTION_PC) == 2);
  CHECK(value(first, CX_TRACE_INSTRUCTION_WAITED) == t.a.read64(Reg::STALL_LO));
  CHECK(value(first, CX_TRACE_INSTRUCTION_WAITED) > 0);
  CHECK(first.begin > blocker.end);
  CHECK(first.cause == blocker.id);
  CHECK(value(second, CX_TRACE_INSTRUCTION_PC) == 3);
  CHECK(value(second, CX_TRACE_INSTRUCTION_WAITED) == 0);
  CHECK(second.begin == value(first, CX_TRACE_INSTRUCTION_ACCEPT));
  for (const auto *record : {&first, &second}) {
    CHECK(record->unit == static_cast<unsigned>(isa::Engine::VPU));
    CHECK(value(*record, CX_TRACE_INSTRUCTION_OPERATIONS) == 120);
    CHECK(value(*record, CX_TRACE_INSTRUCTION_BYTES_READ) == 2);
    CHECK(value(*record, CX_TRACE_INSTRUCTION_BYTES_WRITTEN) == 3);
    CHECK(value(*record, CX_TRACE_INSTRUCTION_MEMORY_BYTES) == 0);
  }
  const auto waits = of_kind(CX_TRACE_WAIT);
  REQUIRE(waits.size() == 1);
  CHECK(waits[0].what == 7);
  CHECK((waits[0].end - waits[0].begin) / period == value(first, CX_TRACE_INSTRUCTION_WAITED));
  CHECK(waits[0].cause == blocker.id);
  const auto streams = of_kind(CX_TRACE_STREAM);
  REQUIRE(streams.size() == 2);
  for (const cx_trace_record &stream : streams) CHECK(stream.cause == 77);
  CHECK(value(streams[0], CX_TRACE_STREAM_INSTRUCTIONS) == posting.size());
  CHECK(value(streams[1], CX_TRACE_STREAM_INSTRUCTIONS) == waiting.size());
  CHECK(value(streams[1], CX_TRACE_STREAM_STALL) == t.a.read64(Reg::STALL_LO));
  CHECK(value(streams[1], CX_TRACE_STREAM_BUSY) == t.a.read64(Reg::BUSY_LO));
  CHECK(second.cause == streams[1].id);
  t.vpu.set_trace(nullptr);
  t.vpu2.set_trace(nullptr);
  const std::size_t before = all.size();
  run();
  trace.flush();
  CHECK(all.size() == before);
}

TEST_CASE("a long wait for nothing leaves the kernel idle") {
  Bench &t = bench();
  t.a.launch({wait_for(0, 1), end()});
  t.run(1000);
  CHECK_FALSE(sc_core::sc_pending_activity());
}

TEST_CASE("reset while waiting keeps counters and semaphores, and the engine starts again") {
  Bench &t = bench();
  REQUIRE(t.semaphores.post(2, 4));
  t.a.launch({nop(), wait_for(2, 5), end()});
  t.run(500);
  REQUIRE(t.a.waiting());
  const std::uint64_t stall = t.a.read64(Reg::STALL_LO);
  t.a.write(Reg::CTRL, 2);
  t.run(100);
  CHECK(t.a.read(Reg::STATUS) == 0);
  CHECK(t.a.read64(Reg::STALL_LO) == stall);
  CHECK(t.a.read64(Reg::INSTR_LO) == 1);
  CHECK(t.semaphores.value(2) == 4);
  CHECK(t.vpu.dump() == "vpu: idle");
  REQUIRE(t.semaphores.post(2, 1));  // nobody takes it
  t.run(10);
  CHECK(t.semaphores.value(2) == 5);
  t.a.start();
  t.a.finish();
  CHECK(t.a.done());
  CHECK(t.semaphores.value(2) == 0);
  CHECK(t.a.read64(Reg::INSTR_LO) == 4);
}

TEST_CASE("reset in the middle of an operation") {
  Bench &t = bench();
  const std::vector<isa::Inst> program{tdesc(0), operate(100, 300), post(4, 1), operate(10, 10), end()};
  const Cycles first = t.now() + first_issue(program.size());
  t.a.launch(program);
  t.run(first + 51 - t.now());
  SECTION("stops it and drops the posts") {
    t.a.write(Reg::CTRL, 2);
    CHECK(t.a.read64(Reg::BUSY_LO) == 50);
    CHECK(t.a.read64(Reg::INSTR_LO) == 3);
    t.run(1000);
    CHECK(t.semaphores.value(4) == 0);
    CHECK(t.vpu.issues.size() == 1);
    CHECK(t.a.read64(Reg::BUSY_LO) == 50);
    CHECK_FALSE(sc_core::sc_pending_activity());
  }
  SECTION("reset and start in one write begin anew, with descriptors undefined") {
    t.a.write(Reg::CTRL, 3);
    CHECK(t.a.busy());
    t.a.finish();
    CHECK(t.a.done());
    CHECK(t.vpu.issues.size() == 3);
    CHECK(t.semaphores.value(4) == 1);
  }
  SECTION("device reset clears counters and registers") {
    t.vpu.reset();
    t.run(1000);
    CHECK(t.a.read64(Reg::BUSY_LO) == 0);
    CHECK(t.a.read(Reg::STREAM_COUNT) == 0);
    CHECK(t.a.read(Reg::STATUS) == 0);
    CHECK(t.semaphores.value(4) == 0);
  }
}

TEST_CASE("START while running does nothing; SEM_CLEAR clears all semaphores") {
  Bench &t = bench();
  t.a.launch({wait_for(0, 1), end()});
  t.run(300);
  t.a.write(Reg::CTRL, 1);
  t.run(300);
  CHECK(t.a.waiting());
  REQUIRE(t.semaphores.post(7, 9));
  t.b.write(Reg::CTRL, 4);
  CHECK(t.semaphores.value(7) == 0);
  CHECK(t.a.waiting());
}

TEST_CASE("the host sees the registers and cannot write them") {
  Bench &t = bench();
  t.a.access(t.host, tlm::TLM_WRITE_COMMAND, Reg::STREAM_COUNT, 5);
  t.a.access(t.host, tlm::TLM_WRITE_COMMAND, Reg::CTRL, 1);
  CHECK_FALSE(t.a.busy());
  CHECK(t.a.read(Reg::STREAM_COUNT) == 0);
  t.a.write(Reg::STREAM_COUNT, 6);
  CHECK(t.a.access(t.host, tlm::TLM_READ_COMMAND, Reg::STREAM_COUNT, 0) == 6);
}

TEST_CASE("faults of the front end") {
  Bench &t = bench();
  SECTION("unknown opcode") {
    isa::Inst inst{};
    inst[0] = 0x7f;
    t.a.launch({nop(), inst, end()});
    t.a.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, 0);
    CHECK(t.a.read64(Reg::INSTR_LO) == 1);
    CHECK(t.a.read(Reg::PC) == 1);
    CHECK(t.vpu.dump() == "vpu: fault 10 at 1");
    // Starting again clears the fault.
    t.a.launch({end()});
    CHECK(t.a.read(Reg::FAULT_CODE) == 0);
    t.run(1);
    t.a.finish();
    CHECK(t.a.read(Reg::STATUS) == 1);
  }
  SECTION("an instruction of another engine") {
    t.a.launch({isa::DmaLoad{}.encode(), end()});
    t.a.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 0, 0);
  }
  SECTION("reserved byte") {
    isa::Inst inst = nop();
    inst[9] = 1;
    t.a.launch({inst, end()});
    t.a.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 0, 9);
  }
  SECTION("field out of range") {
    isa::Inst inst = tdesc(3);
    inst[2] = 16;
    t.a.launch({inst, end()});
    t.a.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 0, 2);
  }
  SECTION("undefined descriptor") {
    t.a.launch({tdesc(0), operate(1, 1, 9), end()});
    t.a.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, 9);
  }
  SECTION("descriptors do not survive a launch") {
    t.a.launch({tdesc(0), operate(1, 1), end()});
    t.a.finish();
    t.a.write(Reg::STATUS, 1);
    t.run(1);
    t.a.launch({operate(1, 1), end()});
    t.a.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 0, 0);
  }
  SECTION("stream overrun") {
    t.a.launch({nop(), nop()});
    t.a.expect_fault(CX_STATUS_STREAM_OVERRUN, 2, t.a.stream + 64);
  }
  SECTION("empty stream") {
    t.a.launch({});
    t.a.expect_fault(CX_STATUS_STREAM_OVERRUN, 0, t.a.stream);
  }
  SECTION("semaphore overflow") {
    t.a.launch({post(1, 65535), nop(), post(1, 1), end()});
    t.a.expect_fault(CX_STATUS_SEM_OVERFLOW, 2, 1);
    CHECK(t.semaphores.value(1) == 65535);
  }
  SECTION("a post that overflows later names itself, not the instruction under way") {
    t.a.launch({tdesc(0), post(1, 65535), operate(2, 50), post(1, 1), nop(), operate(200, 200), end()});
    const Cycles begin = t.now();
    t.a.expect_fault(CX_STATUS_SEM_OVERFLOW, 3, 1);
    CHECK(t.now() == begin + first_issue(7) + 2 + 50);
  }
  SECTION("semaphores that do not exist") {
    t.a.launch({post(16, 1), end()});
    t.a.expect_fault(CX_STATUS_SEM_OVERFLOW, 0, 16);
    t.b.launch({wait_for(255, 1), end()});
    t.b.expect_fault(CX_STATUS_SEM_OVERFLOW, 0, 255);
  }
  SECTION("stream misaligned, unmapped, not memory, or beyond memory") {
    t.a.write64(Reg::STREAM_LO, t.a.stream + 16);
    t.a.write(Reg::STREAM_COUNT, 1);
    t.a.start();
    t.a.expect_fault(CX_STATUS_BAD_ALIGNMENT, 0, t.a.stream + 16);
    for (std::uint64_t address : {std::uint64_t{0}, std::uint64_t{0x4005'0000}}) {
      t.a.write64(Reg::STREAM_LO, address);
      t.a.start();
      t.run(1);
      t.a.expect_fault(CX_STATUS_BAD_ADDRESS, 0, address);
    }
    const std::uint64_t dram_end = kDramBase + t.dram.bytes();
    t.a.write64(Reg::STREAM_LO, dram_end - 32);
    t.a.write(Reg::STREAM_COUNT, 2);
    t.a.start();
    t.run(1);
    t.a.expect_fault(CX_STATUS_BAD_ADDRESS, 0, dram_end);
    t.a.write64(Reg::STREAM_LO, ~std::uint64_t{0} - 31);
    t.a.write(Reg::STREAM_COUNT, 0xffffffff);
    t.a.start();
    t.run(1);
    t.a.expect_fault(CX_STATUS_BAD_ADDRESS, 0, ~std::uint64_t{0} - 31);
  }
}

TEST_CASE("views outside the scratchpad") {
  Bench &t = bench();
  const auto size = static_cast<std::uint32_t>(t.spm.bytes());
  SECTION("the last element just fits") {
    t.a.launch({tdesc(0, size - 4), operate(1, 1), end()});
    t.a.finish();
    CHECK(t.a.done());
  }
  SECTION("base beyond") {
    t.a.launch({tdesc(0, 0xffffffff), operate(1, 1), end()});
    t.a.expect_fault(CX_STATUS_SPM_FAULT, 1, 0xffffffff);
  }
  SECTION("last byte beyond") {
    t.a.launch({tdesc(0, size - 3), operate(1, 1), end()});
    t.a.expect_fault(CX_STATUS_SPM_FAULT, 1, size);
  }
  SECTION("negative stride below 0") {
    t.a.launch({tdesc(0, 16, {1, 1, 6, 1}, {0, 0, -4, 0}), operate(1, 1), end()});
    t.a.expect_fault(CX_STATUS_SPM_FAULT, 1, static_cast<std::uint64_t>(-4));
  }
  SECTION("largest dims and strides") {
    t.a.launch({tdesc(0, 0, {65535, 65535, 65535, 65535}, {2147483647, 2147483647, 2147483647, 2147483647}),
                operate(1, 1), end()});
    t.a.expect_fault(CX_STATUS_SPM_FAULT, 1, size);
  }
  SECTION("strides of dims of 1 do not count") {
    t.a.launch({tdesc(0, 0, {1, 1, 1, 4}, {2147483647, -2147483647, 2147483647, 4}), operate(1, 1), end()});
    t.a.finish();
    CHECK(t.a.done());
  }
}

TEST_CASE("segment table") {
  Bench &t = bench();
  isa::Mdesc mdesc;
  mdesc.index = 2;
  mdesc.segment = 1;
  mdesc.offset = 8;
  isa::DmaLoad dma;
  dma.src = 2;
  const std::vector<isa::Inst> program{mdesc.encode(), dma.encode(), end()};
  SECTION("good") {
    t.l.segments({{kDramBase, 16}, {kDramBase + 64, 64}});
    t.l.launch(program);
    t.l.finish();
    CHECK(t.l.done());
  }
  SECTION("segment beyond the table") {
    t.l.segments({{kDramBase, 16}});
    t.l.launch(program);
    t.l.expect_fault(CX_STATUS_SEGMENT_FAULT, 1, 1);
  }
  SECTION("undefined memory descriptor") {
    t.l.segments({{kDramBase, 16}});
    t.l.launch({dma.encode(), end()});
    t.l.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 0, 2);
  }
  SECTION("segment without memory") {
    t.l.segments({{kDramBase, 16}, {0x1000, 64}});
    t.l.launch(program);
    t.l.expect_fault(CX_STATUS_BAD_ADDRESS, 1, 0x1008);
  }
  SECTION("table too long") {
    t.l.segments({});
    t.l.write(Reg::SEGTAB_COUNT, 65);
    t.l.launch(program);
    t.l.expect_fault(CX_STATUS_BAD_FIELD, 0, 65);
  }
  SECTION("table without memory") {
    t.l.segments({});
    t.l.write64(Reg::SEGTAB_LO, 0x2000);
    t.l.write(Reg::SEGTAB_COUNT, 1);
    t.l.launch(program);
    t.l.expect_fault(CX_STATUS_BAD_ADDRESS, 0, 0x2000);
  }
}

TEST_CASE("runs are reproducible") {
  Bench &t = bench();
  std::vector<isa::Inst> producer{tdesc(0)}, consumer{tdesc(0)};
  for (unsigned i = 0; i < 200; ++i) {
    producer.push_back(operate(3 + i % 5, 20));
    producer.push_back(post(0, 1));
    consumer.push_back(wait_for(0, 1));
    consumer.push_back(operate(2 + i % 7, 9));
  }
  producer.push_back(end());
  consumer.push_back(end());
  std::vector<Cycles> first;
  for (int round = 0; round < 2; ++round) {
    t.reset();
    const Cycles begin = t.now();
    t.a.launch(producer);
    t.b.launch(consumer);
    t.b.finish();
    t.a.finish();
    std::vector<Cycles> issues;
    for (Cycles at : t.vpu2.issues) issues.push_back(at - begin);
    if (round == 0) first = issues;
    CHECK(issues == first);
    CHECK(issues.size() == 200);
  }
}
