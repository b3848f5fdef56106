// What one stream sees of the DMMU's operations: their time, calculated by hand, drains that later operands depend on,
// faults of every check, and parity errors.
#include <vector>

#include "tb/hw/dmmu/dmmu_bench.hpp"

namespace {

using namespace cx;
using namespace cx::tb;
using test::Random;
using Reg = EngineDriver::Reg;

constexpr auto kE4m3 = DType::FP8_E4M3, kE5m2 = DType::FP8_E5M2;

std::vector<uint8_t> random_memory(Random &random, DType dtype) {
  std::vector<uint8_t> memory(1 << 16);
  const size_t bytes = num::bytes_of(dtype);
  for (size_t i = 0; i < 0x8000; i += bytes) {
    const uint32_t raw = random.element(dtype);
    std::memcpy(&memory[i], &raw, bytes);
  }
  return memory;
}

}  // namespace

TEST_CASE("time of output-stationary passes") {
  // 512 bytes each: 32 cycles of port, 3 of latency. Then 7 more rows to move out, 8 down, 8 across, 1.
  const isa::Inst a = tdesc(0, DType::FP32, 0, {1, 1, 8, 16}), w = tdesc(1, DType::FP32, 4096, {1, 1, 16, 8});
  CHECK(time_of(chip().plain, {a, w, mul_os(0, 1)}) == Counters{35 + 24, 1024, 1024, 0});
  // FP8 needs a step a cycle: 64 of them.
  const isa::Inst a8 = tdesc(0, kE4m3, 0, {1, 1, 8, 64}), w8 = tdesc(1, kE4m3, 4096, {1, 1, 64, 8});
  CHECK(time_of(chip().plain, {a8, w8, mul_os(0, 1)}) == Counters{64 + 24, 4096, 1024, 0});
  // The next one may begin when the sums of this one have begun to leave: 8 cycles after its last step.
  CHECK(time_of(chip().plain, {a8, w8, mul_os(0, 1), mul_os(0, 1, true)}) == Counters{64 + 8 + 88, 8192, 2048, 0});

  // Two products a step: 32 steps, one every 2 cycles; 16 cycles down.
  CHECK(time_of(chip().packed, {a8, w8, mul_os(0, 1)}) == Counters{63 + 7 + 16 + 8 + 1, 4096, 1024, 0});
  CHECK(time_of(chip().packed, {a8, w8, mul_os(0, 1), mul_os(0, 1, true)}) == Counters{63 + 16 + 95, 8192, 2048, 0});
  // 2 row groups of 4, 2 column groups of 8 and 4: the largest part counts, operands are read once.
  const isa::Inst w12 = tdesc(1, kE4m3, 4096, {1, 1, 64, 12});
  CHECK(time_of(chip().plain, {a8, w12, mul_os(0, 1, false, 0, 2, 2)}) == Counters{64 + 24, 6144, 1280, 0});
}

TEST_CASE("time of block scales") {
  const isa::Inst w = tdesc(0, DType::FP32, 0, {1, 1, 8, 8}), columns = tdesc(2, DType::FP32, 2048, {1, 1, 1, 8});
  // 288 bytes: 9 cycles of port, 3 of latency, 2 in the tile.
  CHECK(time_of(chip().plain, {w, columns, ldw(0, 1, 1, 2)}) == Counters{14, 0, 288, 0});
  // FP8: one row more than weights.
  const isa::Inst w8 = tdesc(0, kE4m3, 0, {1, 1, 8, 8}), a8 = tdesc(1, kE4m3, 4096, {1, 1, 16, 8});
  CHECK(time_of(chip().plain, {w8, columns, ldw(0, 1, 1, 2)}) == Counters{11, 0, 96, 0});
  // A scaled pass takes no longer than a plain one. Activations and 64 bytes of scales are there in cycle 12.
  const isa::Inst rows = tdesc(3, DType::FP32, 3072, {1, 1, 1, 16});
  const Counters scaled = time_of(chip().plain, {w8, a8, columns, rows, ldw(0, 1, 1, 2), mul(1, 8, false, 0, 1, 1, 3)});
  CHECK(scaled == Counters{9 + 16 + 17, 1024, 288, 0});
  // Passes of one row in 8 and 17. The bank of the first is free before the third load comes in 18, but the bank's
  // scales are used where the sums end: 8 down and 6 across after the row of cycle 9.
  const isa::Inst one = tdesc(1, kE4m3, 4096, {1, 1, 1, 8});
  const auto three = [&](uint8_t scale) {
    return time_of(chip().plain,
                   {w8, one, columns, ldw(0), mul(1, 8), ldw(0), mul(1, 8), ldw(0, 1, 1, scale), mul(1, 8)});
  };
  CHECK(three(kNone).busy == 18 + 8 + 1 + 17);
  CHECK(three(2).busy == 9 + 14 + 9 + 1 + 17);
}

TEST_CASE("time of drains with scale and bias") {
  const isa::Inst w8 = tdesc(0, kE4m3, 0, {1, 1, 8, 8}), a8 = tdesc(1, kE4m3, 4096, {1, 1, 16, 8});
  const isa::Inst channels = tdesc(2, DType::FP32, 2048, {1, 1, 1, 8});
  const auto with = [&](DType out, uint8_t scale, uint8_t bias) {
    return time_of(chip().plain, {w8, a8, channels, tdesc(3, out, 8192, {1, 1, 16, 8}), ldw(0), mul(1, 8),
                                  drain(3, 0, 1, 1, scale, bias)});
  };
  // The last sum is written in 40. A parameter row each, 4 registers, then 16 rows at the port's 32 bytes a cycle, and
  // its latency.
  CHECK(with(DType::FP32, kNone, kNone) == Counters{40 + 5 + 16 + 3, 1024, 192, 512});
  CHECK(with(DType::FP32, 2, kNone) == Counters{40 + 6 + 16 + 3, 1024, 224, 512});
  CHECK(with(DType::FP32, 2, 2) == Counters{40 + 7 + 16 + 3, 1024, 256, 512});
  // FP8 needs a quarter of the port: the tile's row a cycle bounds it.
  CHECK(with(kE5m2, 2, 2) == Counters{40 + 7 + 16 + 3, 1024, 256, 128});
}

TEST_CASE("time with two products and two cycles a step") {
  Pair &pair = chip().packed;
  const isa::Inst w = tdesc(0, kE4m3, 0, {1, 1, 16, 8}), a = tdesc(1, kE5m2, 4096, {1, 1, 16, 16});
  // 8 words of weights; 16 rows, 8 x 2 down, 8 across, 1.
  CHECK(time_of(pair, {w, ldw(0)}) == Counters{10, 0, 128, 0});
  CHECK(time_of(pair, {w, a, ldw(0), mul(1, 8)}) == Counters{8 + 16 + 25, 2048, 384, 0});
  // FP16 has no neighbours to pack: 8 rows of weights in 128 bytes.
  const isa::Inst w16 = tdesc(0, DType::FP16, 0, {1, 1, 8, 8}), a16 = tdesc(1, DType::FP16, 4096, {1, 1, 16, 8});
  CHECK(time_of(pair, {w16, a16, ldw(0), mul(1, 8)}) == Counters{8 + 16 + 25, 1024, 384, 0});

  // Passes of one row: the third load meets the bank of the first pass, whose row came in cycle 9 and needs
  // 8 + 7 - 2 cycles more; then 8 rows, 1 row, 25.
  const isa::Inst one = tdesc(1, kE4m3, 4096, {1, 1, 1, 16});
  const std::vector<isa::Inst> passes = {w, one, ldw(0), mul(1, 8), ldw(0), mul(1, 8), ldw(0), mul(1, 8)};
  CHECK(time_of(pair, passes).busy == 9 + 13 + 8 + 1 + 25);
  // One cycle a step: it is free after 6 and the load never waits.
  const isa::Inst w1 = tdesc(0, kE4m3, 0, {1, 1, 8, 8}), one1 = tdesc(1, kE4m3, 4096, {1, 1, 1, 8});
  CHECK(time_of(chip().plain, {w1, one1, ldw(0), mul(1, 8), ldw(0), mul(1, 8), ldw(0), mul(1, 8)}).busy == 3 * 9 + 17);
}

TEST_CASE("operands wait for the drains that write them") {
  Random random(test::logged_seed(30));
  for (Pair *pair : {&chip().plain, &chip().packed}) {
    const std::vector<uint8_t> memory = random_memory(random, kE4m3);
    const isa::Inst w = tdesc(0, kE4m3, 0, {1, 1, 8, 8}), a = tdesc(1, kE4m3, 4096, {1, 1, 8, 8});
    const isa::Inst middle = tdesc(2, kE4m3, 0x9000, {1, 1, 8, 8}), out = tdesc(3, DType::FP32, 0xA000, {1, 1, 8, 8});
    const isa::Inst channels = tdesc(4, DType::FP32, 0xA000, {1, 1, 1, 8});
    const std::vector<isa::Inst> first = {w, a, middle, out, channels, ldw(0), mul(1, 8), drain(2)};
    // The same in a second stream, which starts when everything of the first is in the scratchpad.
    const auto check = [&](const std::vector<isa::Inst> &before, const std::vector<isa::Inst> &after, bool in_turn) {
      constexpr int kDefined = 5;
      std::vector<isa::Inst> chained = before;
      chained.insert(chained.end(), after.begin(), after.end());
      std::vector<isa::Inst> alone(before.begin(), before.begin() + kDefined);
      alone.insert(alone.end(), after.begin(), after.end());
      std::vector<uint8_t> apart = memory, together = memory;
      const Counters time_before = run(*pair, before, apart);
      const Counters time_after = run(*pair, alone, apart);
      const Counters time = run(*pair, chained, together);
      CHECK((together == apart));
      if (in_turn) CHECK(time.busy == time_before.busy + time_after.busy);
      if (!in_turn) CHECK(time.busy < time_before.busy + time_after.busy);
      CHECK(time.read == time_before.read + time_after.read);
    };
    check(first, {ldw(2), mul(1, 8), drain(3)}, true);
    check(first, {mul_os(2, 0), drain(3)}, true);
    check(first, {mul_os(1, 2), drain(3)}, true);
    // An activation that was drained meets weights that stay: only the result can be compared with two streams.
    std::vector<uint8_t> memory_stay = memory, memory_again = memory;
    run(*pair, {w, a, middle, out, ldw(0), mul(1, 8), drain(2), mul(2, 8), drain(3)}, memory_stay);
    run(*pair, first, memory_again);
    run(*pair, {w, a, middle, out, ldw(0), mul(2, 8), drain(3)}, memory_again);
    CHECK((memory_stay == memory_again));
    // Scales and biases that a drain wrote.
    const std::vector<isa::Inst> wide = {w, a, middle, out, channels, ldw(0), mul(1, 8), drain(3)};
    check(wide, {ldw(0, 1, 1, 4), mul(1, 8), drain(2)}, true);
    check(wide, {ldw(0), mul(1, 8, false, 0, 1, 1, 4), drain(2)}, false);
    // The later of two drains to one place stays.
    const isa::Inst shifted = tdesc(2, kE5m2, 0xA010, {1, 1, 8, 8});
    std::vector<uint8_t> over = memory, only = memory;
    run(*pair, {w, a, shifted, out, ldw(0), mul(1, 8), drain(3), drain(2)}, over);
    run(*pair, {w, a, shifted, out, ldw(0), mul(1, 8), drain(3)}, only);
    std::vector<uint8_t> last = memory;
    run(*pair, {w, a, shifted, out, ldw(0), mul(1, 8), drain(2)}, last);
    std::copy_n(last.begin() + 0xA010, 64, only.begin() + 0xA010);
    CHECK((over == only));
  }
}

TEST_CASE("checks of packed formats, block scales and output-stationary passes") {
  Pair &pair = chip().packed;
  const auto illegal = [&](const std::vector<isa::Inst> &program, uint64_t address) {
    expect_illegal(pair, program, address);
  };
  const auto misaligned = [&](const std::vector<isa::Inst> &program, uint64_t base) {
    expect_fault(pair, program, CX_STATUS_BAD_ALIGNMENT, base);
  };
  const isa::Inst w = tdesc(0, kE4m3, 0, {1, 1, 16, 8}), a = tdesc(1, kE5m2, 4096, {1, 1, 16, 16});
  const isa::Inst eight = tdesc(2, DType::FP32, 2048, {1, 1, 1, 8}),
                  sixteen = tdesc(3, DType::FP32, 2048, {1, 1, 1, 16});
  const isa::Inst half = tdesc(4, DType::FP16, 2048, {1, 1, 1, 8}), tall = tdesc(5, DType::FP32, 2048, {1, 1, 8, 8});
  const isa::Inst out = tdesc(6, DType::FP32, 8192, {1, 1, 16, 8});
  SECTION("longest k") {
    illegal({tdesc(0, kE4m3, 0, {1, 1, 17, 8}), ldw(0)}, 2);
    illegal({tdesc(0, DType::INT8, 0, {1, 1, 17, 8}), ldw(0)}, 2);
    illegal({tdesc(0, DType::FP16, 0, {1, 1, 9, 8}), ldw(0)}, 2);
    illegal({w, tdesc(1, kE4m3, 4096, {1, 1, 16, 17}), ldw(0), mul(1, 8)}, 2);
    illegal({w, tdesc(1, kE4m3, 4096, {1, 1, 16, 15}), ldw(0), mul(1, 8)}, 2);
  }
  SECTION("block scales") {
    illegal({w, sixteen, ldw(0, 1, 1, 3)}, 3);
    illegal({w, half, ldw(0, 1, 1, 4)}, 3);
    illegal({w, tall, ldw(0, 1, 1, 5)}, 3);
    illegal({w, ldw(0, 1, 1, 9)}, 9);
    illegal({w, a, eight, ldw(0), mul(1, 8, false, 0, 1, 1, 2)}, 10);
    illegal({w, a, half, ldw(0), mul(1, 8, false, 0, 1, 1, 4)}, 10);
    illegal({w, a, tall, ldw(0), mul(1, 8, false, 0, 1, 1, 5)}, 10);
  }
  SECTION("kinds of sums") {
    const isa::Inst w8 = tdesc(0, DType::INT8, 0, {1, 1, 16, 8}), a8 = tdesc(1, DType::INT8, 4096, {1, 1, 8, 16});
    const isa::Inst rows = eight;
    illegal({w8, a8, ldw(0), mul(1, 7)}, 6);
    illegal({w8, a8, tdesc(7, kE4m3, 4096, {1, 1, 8, 16}), ldw(0), mul(7, 8)}, 2);
    // Scaled INT8 sums are floats.
    illegal({w8, a8, rows, ldw(0), mul(1, 8, false, 0, 1, 1, 2), mul(1, 8, true)}, 8);
    illegal({w8, a8, rows, ldw(0), mul(1, 8), mul(1, 8, true, 0, 1, 1, 2)}, 8);
    illegal({w8, a8, rows, ldw(0, 1, 1, 2), mul(1, 8), mul_os(1, 0, true)}, 8);
    illegal({w8, a8, rows, ldw(0, 1, 1, 2), mul(1, 8), ldw(0), mul(1, 8, true)}, 8);
  }
  SECTION("output stationary") {
    const isa::Inst b = tdesc(0, kE4m3, 0, {1, 1, 40, 8}), rows8 = tdesc(1, kE4m3, 4096, {1, 1, 8, 40});
    illegal({mul_os(9, 0)}, 9);
    illegal({b, rows8, mul_os(1, 10)}, 10);
    illegal({b, tdesc(1, kE4m3, 4096, {1, 1, 9, 40}), mul_os(1, 0)}, 2);
    illegal({b, tdesc(1, kE4m3, 4096, {1, 1, 17, 40}), mul_os(1, 0, false, 0, 2, 1)}, 2);
    illegal({b, tdesc(1, DType::UINT8, 4096, {1, 1, 8, 40}), mul_os(1, 0)}, 2);
    illegal({tdesc(0, DType::INT32, 0, {1, 1, 40, 8}), rows8, mul_os(1, 0)}, 3);
    illegal({tdesc(0, DType::INT8, 0, {1, 1, 40, 8}), rows8, mul_os(1, 0)}, 3);
    illegal({tdesc(0, kE4m3, 0, {1, 1, 39, 8}), rows8, mul_os(1, 0)}, 3);
    illegal({tdesc(0, kE4m3, 0, {1, 2, 20, 8}), rows8, mul_os(1, 0)}, 3);
    illegal({tdesc(0, kE4m3, 0, {1, 1, 40, 9}), rows8, mul_os(1, 0)}, 3);
    illegal({tdesc(0, kE4m3, 0, {1, 1, 40, 17}), rows8, mul_os(1, 0, false, 0, 1, 2)}, 3);
    illegal({b, rows8, mul_os(1, 0, false, 0, 5, 1)}, 12);
    illegal({b, rows8, mul_os(1, 0, false, 57)}, 8);
    illegal({b, rows8, mul_os(1, 0, true)}, 8);
    illegal({tdesc(0, kE4m3, 0, {1, 1, 40, 7}), b, rows8, tdesc(2, kE4m3, 0, {1, 1, 40, 7}), mul_os(1, 2),
             mul_os(1, 0, true)},
            8);
    expect_fault(pair, {b, tdesc(1, kE4m3, 65500, {1, 1, 8, 40}), mul_os(1, 0)}, CX_STATUS_SPM_FAULT, 65536);
  }
  SECTION("alignment") {
    misaligned({tdesc(0, DType::FP16, 17, {1, 1, 8, 8}), ldw(0)}, 17);
    misaligned({tdesc(0, DType::FP16, 16, {1, 1, 8, 8}, {{0, 0, 17, 2}}), ldw(0)}, 16);
    misaligned({w, tdesc(2, DType::FP32, 2050, {1, 1, 1, 8}), ldw(0, 1, 1, 2)}, 2050);
    misaligned({w, tdesc(1, DType::FP32, 4098, {1, 1, 16, 8}), ldw(0), mul(1, 8)}, 4098);
    misaligned({w, a, tdesc(3, DType::FP32, 2049, {1, 1, 1, 16}), ldw(0), mul(1, 8, false, 0, 1, 1, 3)}, 2049);
    misaligned({tdesc(0, DType::BF16, 1, {1, 1, 40, 8}), tdesc(1, DType::BF16, 4096, {1, 1, 8, 40}), mul_os(1, 0)}, 1);
    misaligned({w, a, tdesc(6, DType::FP32, 8194, {1, 1, 16, 8}), ldw(0), mul(1, 8), drain(6)}, 8194);
    misaligned(
        {w, a, out, tdesc(2, DType::FP32, 2048, {1, 1, 1, 8}, {{0, 0, 0, 6}}), ldw(0), mul(1, 8), drain(6, 0, 1, 1, 2)},
        2048);
    // Strides of a single element do not matter.
    time_of(pair, {tdesc(0, DType::FP16, 16, {1, 1, 1, 8}, {{1, 3, 5, 2}}), ldw(0)});
  }
}

TEST_CASE("parity errors of accumulators") {
  Random random(test::logged_seed(40));
  const std::vector<uint8_t> memory = random_memory(random, DType::FP16);
  const isa::Inst w = tdesc(0, DType::FP16, 0, {1, 1, 8, 16}), a = tdesc(1, DType::FP16, 4096, {1, 1, 16, 8});
  const isa::Inst out = tdesc(2, DType::FP32, 0xA000, {1, 1, 16, 16});
  const std::vector<isa::Inst> good = {w, a, out, ldw(0, 2, 2), mul(1, 16, false, 0, 2, 2), drain(2, 0, 2, 2)};
  for (Pair *pair : {&chip().plain, &chip().packed}) {
    for (Unit *unit : {&pair->model, &pair->rtl}) {
      std::vector<uint8_t> want = memory;
      run(*unit, good, want);
      for (const uint32_t tile : {0u, 1u, 3u}) {
        // What is read with wrong parity is found before the end, or a post, makes it known.
        launch(*unit, good, memory);
        Memories::run(kStart);
        unit->dmmu.inject_parity_errors(tile, true);
        unit->driver.expect_fault(CX_STATUS_PARITY_ERROR, static_cast<uint32_t>(good.size()), tile);
        CHECK(unit->dmmu.counters(tile).parity_errors == 64);
        std::vector<uint8_t> again = memory;
        CHECK((run(*unit, good, again), again == want));
      }
      // Adding to a bad word finds it too; writing over it mends it.
      launch(*unit, {w, a, ldw(0), mul(1, 8), mul(1, 8, true)}, memory);
      Memories::run(kStart);
      unit->dmmu.inject_parity_errors(0, true);
      unit->driver.finish();
      CHECK(unit->driver.read(Reg::STATUS) == 2);
      launch(*unit, {tdesc(0, DType::FP16, 0, {1, 1, 8, 8}), a, ldw(0), mul(1, 8), mul(1, 8)}, memory);
      Memories::run(kStart);
      unit->dmmu.inject_parity_errors(0, true);
      std::vector<uint8_t> same = memory;
      finish(*unit, same);
    }
  }
}

TEST_CASE("a post finds the drained rows in the scratchpad, in the same cycle on model and RTL") {
  Random random(test::logged_seed(60));
  const auto post = [](uint8_t sem) {
    isa::SemPost in;
    in.sem = sem;
    in.count = 1;
    return in.encode();
  };
  const std::vector<uint8_t> memory = random_memory(random, kE5m2);
  constexpr uint32_t kFirst = 0x9000, kSecond = 0xA000, kBytes = 16 * 8 * 4;
  // A long output-stationary pass is under way when the first post comes.
  const std::vector<isa::Inst> program = {
      tdesc(0, kE5m2, 0, {1, 1, 8, 8}),
      tdesc(1, kE4m3, 4096, {1, 1, 16, 8}),
      tdesc(2, DType::FP32, kFirst, {1, 1, 16, 8}),
      tdesc(3, kE5m2, 0, {1, 1, 700, 8}),
      tdesc(4, kE4m3, 0x2000, {1, 1, 16, 700}),
      tdesc(5, DType::FP32, kSecond, {1, 1, 16, 8}),
      ldw(0, 2, 1),
      mul(1, 8, false, 0, 2, 1),
      drain(2, 0, 2, 1),
      post(1),
      mul_os(4, 3, false, 0, 2, 1),
      drain(5, 0, 2, 1),
      post(2),
  };
  for (Pair *pair : {&chip().plain, &chip().packed}) {
    std::vector<uint8_t> want = memory;
    run(*pair, program, want);
    std::vector<Cycles> times[2];
    for (int side = 0; side < 2; ++side) {
      Unit &unit = side == 0 ? pair->model : pair->rtl;
      launch(unit, program, memory);
      const Cycles begin = chip().memories.now();
      for (const auto &[sem, offset] : {std::pair{1u, kFirst}, std::pair{2u, kSecond}}) {
        while (chip().memories.semaphores.value(sem) == 0) {
          REQUIRE(chip().memories.now() < begin + 5000);
          Memories::run(1);
        }
        times[side].push_back(chip().memories.now() - begin);
        CHECK(std::memcmp(chip().memories.spm.data() + offset, &want[offset], kBytes) == 0);
      }
      CHECK(times[side][1] > times[side][0] + 300);
      unit.driver.finish();
      CHECK(unit.driver.done());
    }
    CHECK(times[0] == times[1]);
  }
}
