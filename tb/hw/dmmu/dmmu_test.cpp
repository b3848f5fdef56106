// The DMMU as an engine: random programs against a plain reference on model and RTL tiles, time calculated by hand, and
// one fault for every check of an operand.
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "tb/hw/dmmu/dmmu_bench.hpp"
#include "tb/hw/power/activity_difference.hpp"

namespace {

using namespace cx;
using namespace cx::tb;
using test::Random;

constexpr uint32_t kAccRows = Chip::kPlain.acc_rows;

float canonical(float value) { return std::isnan(value) ? std::bit_cast<float>(num::kCanonicalNan) : value; }

Counters run_model(const std::vector<isa::Inst> &program) { return time_of(chip().plain, program); }

}  // namespace

TEST_CASE("random programs give the reference's bits on model and RTL tiles, and the same time") {
  Random random(test::logged_seed(10));
  for (int round = 0; round < 200; ++round) {
    const auto dtype = static_cast<DType>(random.between(0, 5));
    const auto bytes = static_cast<int32_t>(num::bytes_of(dtype));
    const auto m_split = static_cast<uint8_t>(random.between(1, kTiles));
    const auto n_split = static_cast<uint8_t>(random.between(1, kTiles / m_split));
    const auto n = static_cast<uint16_t>(random.between(1, n_split * kCols));
    std::array<uint16_t, 4> a_dims{static_cast<uint16_t>(random.between(1, 2)),
                                   static_cast<uint16_t>(random.between(1, 4)),
                                   static_cast<uint16_t>(random.between(1, 6)), 1};
    const uint32_t m = a_dims[0] * a_dims[1] * a_dims[2];
    const uint32_t chunk = (m + m_split - 1) / m_split;
    const auto acc_row = static_cast<uint16_t>(random.between(0, kAccRows - chunk));
    const uint32_t folds = random.between(1, 3);

    std::vector<uint8_t> memory(1 << 16);
    for (size_t i = 0; i < 0x8000; i += static_cast<size_t>(bytes)) {
      const uint32_t raw = random.element(dtype);
      std::memcpy(&memory[i], &raw, static_cast<size_t>(bytes));
    }
    for (uint32_t i = 0; i < 64; ++i) {
      put_float(memory, 0x8000 + 4 * i, std::bit_cast<float>(random.fp32()));
    }

    std::vector<isa::Inst> program;
    std::vector<float> sums(m * n, 0);
    std::vector<uint32_t> integers(m * n, 0);
    uint64_t macs = 0, read = 0;
    hw::MatrixActivity work;
    uint64_t &kind_sums = dtype == DType::INT8 ? work.integer_sums : work.float_sums;
    for (uint32_t fold = 0; fold < folds; ++fold) {
      const auto k = static_cast<uint16_t>(random.between(1, kRows));
      View w{dtype, random.between(0, 63) * 4, {1, 1, k, n}, {0, 0, n * bytes, bytes}};
      w.strides[2] += static_cast<int32_t>(random.between(0, 2)) * bytes;
      if (random.one_in(4)) {  // transposed, from the end
        w.strides[3] = k * bytes;
        w.strides[2] = -bytes;
        w.base += static_cast<uint32_t>((k - 1) * bytes);
      }
      a_dims[3] = k;
      // Windows of an image overlap; some rows have no gap, some come in two dimensions with different steps.
      const int32_t pixel = static_cast<int32_t>(k + random.between(0, 3)) * bytes;
      View a{dtype, 0x2000 + random.between(0, 63) * 4, a_dims, {5 * pixel, pixel * a_dims[2], pixel, bytes}};
      if (random.one_in(2)) a.strides[1] = 2 * pixel;
      if (random.one_in(8)) a.strides[2] = 0;
      if (random.one_in(8)) a.strides[3] = 2 * bytes;
      program.push_back(w.inst(0));
      program.push_back(a.inst(1));
      program.push_back(ldw(0, m_split, n_split));
      program.push_back(mul(1, n, fold != 0, acc_row, m_split, n_split));
      macs += uint64_t{m} * n * k;
      read += (uint64_t{k} * n + uint64_t{m} * k) * static_cast<uint64_t>(bytes);
      for (uint32_t i = 0; i < m; ++i) {
        for (uint32_t j = 0; j < n; ++j) {
          float chain = 0;
          uint32_t integer = 0;
          for (uint32_t r = 0; r < k; ++r) {
            const float x = num::decode(dtype, &memory[a.at(i, r)]), y = num::decode(dtype, &memory[w.at(r, j)]);
            chain = std::fma(x, y, chain);
            ++(x == 0 ? work.gated : work.products[static_cast<unsigned>(dtype)]);
            kind_sums += x != 0 ? 1 : 0;
            if (dtype == DType::INT8) integer += static_cast<uint32_t>(static_cast<int32_t>(x * y));
          }
          float &sum = sums[i * n + j];
          kind_sums += fold != 0 ? 1 : 0;
          work.accumulator_words += fold != 0 ? 2 : 1;
          sum = canonical(fold == 0 ? chain : sum + chain);
          integers[i * n + j] += integer;
        }
      }
    }
    const bool is_int = dtype == DType::INT8;
    const auto out_dtype = static_cast<DType>(random.between(0, 7));
    const auto out_bytes = static_cast<int32_t>(num::bytes_of(out_dtype));
    const bool scaled = random.one_in(2), biased = random.one_in(2);
    const auto act = static_cast<isa::Activation>(random.between(0, 2));
    a_dims[3] = n;
    View out{out_dtype, 0xA000, a_dims, {0, 0, n * out_bytes, out_bytes}};
    if (random.one_in(4)) out.strides[3] = 2 * out_bytes, out.strides[2] *= 2;
    out.strides[1] = out.strides[2] * a_dims[2];
    out.strides[0] = out.strides[1] * a_dims[1];
    program.push_back(tdesc(2, DType::FP32, 0x8000, {1, 1, 1, n}));
    program.push_back(tdesc(3, DType::FP32, 0x8080, {1, 1, 1, n}));
    program.push_back(out.inst(4));
    program.push_back(drain(4, acc_row, m_split, n_split, scaled ? 2 : 0xFF, biased ? 3 : 0xFF, act, -2.5f, 6.0f));

    std::vector<uint8_t> want = memory;
    for (uint32_t i = 0; i < m; ++i) {
      for (uint32_t j = 0; j < n; ++j) {
        uint8_t *to = &want[out.at(i, j)];
        const uint32_t integer = integers[i * n + j];
        if (is_int && out_dtype == DType::INT32 && !scaled && !biased && act == isa::Activation::NONE) {
          std::memcpy(to, &integer, 4);
          continue;
        }
        float value = is_int ? static_cast<float>(static_cast<int32_t>(integer)) : sums[i * n + j];
        if (scaled) value *= float_at(memory, 0x8000 + 4 * j);
        if (biased) value += float_at(memory, 0x8080 + 4 * j);
        if (act == isa::Activation::RELU && !std::isnan(value)) value = value > 0 ? value : 0.0f;
        if (act == isa::Activation::CLAMP && !std::isnan(value)) value = std::min(std::max(value, -2.5f), 6.0f);
        num::encode(out_dtype, canonical(value), to);
      }
    }

    INFO("round " << round << " " << num::name_of(dtype) << " to " << num::name_of(out_dtype) << " m " << m << " n "
                  << n << " split " << int{m_split} << " x " << int{n_split});
    work.drained = uint64_t{m} * n;
    work.accumulator_words += work.drained;
    const hw::MatrixActivity before = chip().plain.model.dmmu.activity(), rtl = chip().plain.rtl.dmmu.activity();
    const Counters counters = run(chip().plain, program, memory);
    REQUIRE((memory == want));
    const uint64_t channels = uint64_t{n} * 4 * (unsigned{scaled} + unsigned{biased});
    CHECK(counters.operations == macs);
    CHECK((chip().plain.model.dmmu.activity() - before == work));
    CHECK((chip().plain.rtl.dmmu.activity() - rtl == work));
    uint64_t gated = 0;
    for (uint32_t tile = 0; tile < kTiles; ++tile) gated += chip().plain.model.dmmu.counters(tile).gated;
    CHECK(gated == work.gated);
    CHECK(counters.read == read + channels);
    CHECK(counters.written == uint64_t{m} * n * static_cast<uint64_t>(out_bytes));
  }
}

TEST_CASE("time and counters, calculated by hand") {
  const isa::Inst w = tdesc(0, DType::FP32, 0, {1, 1, 8, 8});
  const isa::Inst a = tdesc(1, DType::FP32, 4096, {1, 1, 16, 8});
  const isa::Inst out = tdesc(2, DType::FP32, 8192, {1, 1, 16, 8});

  // 8 cycles of port, 3 of latency, 2 in the tile.
  CHECK(run_model({w, ldw(0)}) == Counters{13, 0, 256, 0});
  // The weights are in after 11. Activations: port from 8 to 24, latency 3; then 8 rows down, 8 columns across, 1.
  CHECK(run_model({w, a, ldw(0), mul(1, 8)}) == Counters{44, 1024, 768, 0});
  // The last sum is written in 43, the first row is out in 48; 16 cycles of port and 3 of latency.
  CHECK(run_model({w, a, out, ldw(0), mul(1, 8), drain(2)}) == Counters{67, 1024, 768, 512});

  // FP8 rows need a quarter of the port: one row a cycle. Weights 2 + 3 = 5, but 8 rows; then 16 rows, 8, 8, 1.
  const isa::Inst w8 = tdesc(0, DType::FP8_E4M3, 0, {1, 1, 8, 8});
  const isa::Inst a8 = tdesc(1, DType::FP8_E4M3, 4096, {1, 1, 16, 8});
  CHECK(run_model({w8, a8, ldw(0), mul(1, 8)}) == Counters{8 + 16 + 17, 1024, 192, 0});
  // The same weights again: the second pass follows without a gap.
  CHECK(run_model({w8, a8, ldw(0), mul(1, 8), mul(1, 8, true, 0)}) == Counters{8 + 32 + 17, 2048, 320, 0});
  // Two row groups halve the rows of each tile; activations are read once.
  CHECK(run_model({w8, a8, ldw(0, 2, 1), mul(1, 8, false, 0, 2, 1)}) == Counters{8 + 8 + 17, 1024, 192, 0});
}

TEST_CASE("packed words are kept still as a whole, and block scales are work of the drain stage") {
  // Two products a step: of 5 columns the words (0, 1), (2, 3) and (4).
  const std::vector<std::vector<uint8_t>> rows = {{0, 0, 1, 0, 0}, {1, 1, 0, 0, 1}, {0, 0, 0, 0, 0}};
  const uint64_t words = 2 + 1 + 3, elements_kept_still = (2 + 1) + 2 + 5;
  std::vector<uint8_t> memory(1 << 16, 1);
  for (size_t i = 0; i < rows.size(); ++i) std::copy(rows[i].begin(), rows[i].end(), memory.begin() + 4096 + 5 * i);
  for (const DType dtype : {DType::FP8_E4M3, DType::INT8}) {
    const bool scaled = dtype == DType::INT8;
    const std::vector<isa::Inst> program = {tdesc(0, dtype, 0, {1, 1, 5, 7}),
                                            tdesc(1, dtype, 4096, {1, 1, 3, 5}),
                                            tdesc(2, DType::FP32, 8192, {1, 1, 1, 7}),
                                            ldw(0, 1, 1, scaled ? 2 : kNone),
                                            mul(1, 7),
                                            mul(1, 7, true)};
    for (Unit *unit : {&chip().packed.model, &chip().packed.rtl}) {
      const hw::MatrixActivity before = unit->dmmu.activity();
      std::vector<uint8_t> contents = memory;
      run(*unit, program, contents);
      const hw::MatrixActivity work = unit->dmmu.activity() - before;
      const uint64_t products = 2 * 7 * (3 * 5 - elements_kept_still), joined = 3 * 7;
      CHECK(work.products[static_cast<unsigned>(dtype)] == products);
      CHECK(work.gated == 2 * 7 * words);
      CHECK(work.float_sums == joined + (scaled ? 0 : products));
      CHECK(work.integer_sums == (scaled ? products : 0));
      CHECK(work.accumulator_words == 3 * joined);
      CHECK(work.drained == (scaled ? 2 * joined : 0));
      CHECK(unit->dmmu.counters(0).gated == work.gated);
    }
  }
}

TEST_CASE("overlapping folds hide the weights") {
  std::vector<isa::Inst> program = {tdesc(0, DType::FP8_E4M3, 0, {1, 1, 8, 8}),
                                    tdesc(1, DType::FP8_E4M3, 4096, {1, 1, 64, 8})};
  for (int fold = 0; fold < 8; ++fold) {
    program.push_back(ldw(0));
    program.push_back(mul(1, 8, fold != 0));
  }
  std::vector<uint8_t> memory;
  const Counters overlapped = run(chip().plain.model, program, memory);
  memory.clear();
  const Counters serial = run(chip().serial, program, memory);
  CHECK(overlapped.busy == 8 + 8 * 64 + 17);
  CHECK(serial.busy == 8 * (10 + 64 + 17));
  CHECK(overlapped.operations == serial.operations);
}

TEST_CASE("a group may be as large as the unit, and a tile 256 x 256") {
  Random random(test::logged_seed(11));
  std::vector<uint8_t> memory(1 << 16);
  for (uint8_t &byte : memory) byte = static_cast<uint8_t>(random.bits());
  // w(r, c) is the byte at r + c, so that large weights fit the scratchpad.
  const auto product = [&](Unit &unit, uint16_t m, uint16_t k, uint16_t n, uint16_t m_split, uint16_t n_split) {
    CAPTURE(m, k, n, m_split, n_split);
    const View w{DType::INT8, 0, {1, 1, k, n}, {0, 0, 1, 1}}, a{DType::INT8, 0x1000, {1, 1, m, k}, {0, 0, k, 1}};
    const View out{DType::INT32, 0x8000, {1, 1, m, n}, {0, 0, n * 4, 4}};
    std::vector<uint8_t> result = memory;
    const Counters counters = run(unit,
                                  {w.inst(0), a.inst(1), out.inst(2), ldw(0, m_split, n_split),
                                   mul(1, n, false, 0, m_split, n_split), drain(2, 0, m_split, n_split)},
                                  result);
    CHECK(counters.operations == uint64_t{m} * k * n);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < m; ++i) {
      for (uint32_t j = 0; j < n; ++j) {
        int32_t sum = 0, got = 0;
        for (uint32_t r = 0; r < k; ++r) {
          sum += int32_t{static_cast<int8_t>(memory[a.at(i, r)])} * static_cast<int8_t>(memory[w.at(r, j)]);
        }
        std::memcpy(&got, &result[out.at(i, j)], 4);
        wrong += got != sum ? 1 : 0;
      }
    }
    CHECK(wrong == 0);
  };
  product(chip().many, 3, 1, Chip::kMany, 1, Chip::kMany);
  product(chip().many, 4 * Chip::kMany, 1, 1, Chip::kMany, 1);
  product(chip().many, 2 * 24, 1, 16, 24, 16);
  product(chip().large, 4, 256, 256, 1, 1);
  product(chip().large, 4, 255, 256, 1, 1);
  const isa::Inst w = tdesc(0, DType::INT8, 0, {1, 1, 1, 1});
  launch(chip().many, {w, ldw(0, 1, Chip::kMany + 1)}, {});
  chip().many.driver.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, 4);
  // Columns that a tile's accumulators hold: all 256 of them can be added to.
  const isa::Inst wide = View{DType::INT8, 0, {1, 1, 1, 256}, {0, 0, 1, 1}}.inst(0),
                  a = tdesc(1, DType::INT8, 0, {1, 1, 1, 1});
  std::vector<uint8_t> result = memory;
  run(chip().large, {wide, a, ldw(0), mul(1, 256), mul(1, 256, true)}, result);
}

TEST_CASE("START forgets weights and accumulators") {
  const isa::Inst w = tdesc(0, DType::FP32, 0, {1, 1, 8, 8}), a = tdesc(1, DType::FP32, 4096, {1, 1, 16, 8});
  run_model({w, a, ldw(0), mul(1, 8)});
  EngineDriver &driver = chip().plain.model.driver;
  driver.launch({a, mul(1, 8), isa::End{}.encode()});
  Memories::run(kStart);
  driver.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, 2);
  driver.launch({a, drain(1), isa::End{}.encode()});
  Memories::run(kStart);
  driver.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, 8);
}

TEST_CASE("every check of an operand faults") {
  const isa::Inst w = tdesc(0, DType::FP16, 0, {1, 1, 8, 8}), a = tdesc(1, DType::FP16, 4096, {1, 1, 16, 8});
  const isa::Inst out = tdesc(2, DType::FP32, 8192, {1, 1, 16, 8});
  Pair &pair = chip().plain;
  const auto illegal = [&](const std::vector<isa::Inst> &program, uint64_t address) {
    expect_illegal(pair, program, address);
  };
  SECTION("loading weights") {
    illegal({ldw(5)}, 5);
    illegal({tdesc(0, DType::FP16, 0, {1, 1, 9, 8}), ldw(0)}, 2);
    illegal({tdesc(0, DType::FP16, 0, {1, 1, 8, 9}), ldw(0)}, 2);
    illegal({tdesc(0, DType::FP16, 0, {1, 1, 8, 17}), ldw(0, 1, 2)}, 2);
    illegal({tdesc(0, DType::FP16, 0, {1, 2, 4, 8}), ldw(0)}, 2);
    illegal({tdesc(0, DType::UINT8, 0, {1, 1, 8, 8}), ldw(0)}, 2);
    illegal({tdesc(0, DType::INT32, 0, {1, 1, 8, 8}), ldw(0)}, 2);
    illegal({w, ldw(0, 3, 2)}, 4);
    expect_fault(pair, {tdesc(0, DType::FP16, 65534, {1, 1, 1, 2}), ldw(0)}, CX_STATUS_SPM_FAULT, 65536);
    expect_fault(pair, {tdesc(0, DType::FP16, 0, {1, 1, 2, 8}, {{0, 0, -16, 2}}), ldw(0)}, CX_STATUS_SPM_FAULT,
                 static_cast<uint64_t>(-16));
  }
  SECTION("multiplying") {
    illegal({a, mul(1, 8)}, 2);
    illegal({w, a, ldw(0), mul(1, 7)}, 6);
    illegal({w, a, ldw(0), mul(1, 9)}, 6);
    illegal({w, a, ldw(0), mul(1, 8, false, 241)}, 8);
    illegal({w, a, ldw(0), mul(1, 8, true, 0)}, 8);
    illegal({w, a, ldw(0), mul(1, 8, false, 0, 5, 1)}, 12);
    illegal({w, a, ldw(0), mul(1, 8, false, 0, 2, 1)}, 2);
    illegal({w, a, ldw(0, 1, 2), mul(1, 8, false, 0, 1, 1)}, 12);
    illegal({w, tdesc(1, DType::BF16, 4096, {1, 1, 16, 8}), ldw(0), mul(1, 8)}, 2);
    illegal({w, tdesc(1, DType::FP16, 4096, {1, 1, 16, 7}), ldw(0), mul(1, 8)}, 2);
    illegal({w, tdesc(1, DType::FP16, 4096, {1, 1, 16, 9}), ldw(0), mul(1, 8)}, 2);
    illegal({w, tdesc(1, DType::FP16, 0, {65535, 65535, 65535, 8}, {{0, 0, 0, 2}}), ldw(0), mul(1, 8)}, 8);
    const isa::Inst w8 = tdesc(3, DType::INT8, 0, {1, 1, 8, 8}), a8 = tdesc(4, DType::INT8, 4096, {1, 1, 16, 8});
    illegal({w, a, w8, a8, ldw(0), mul(1, 8), ldw(3), mul(4, 8, true)}, 8);
  }
  SECTION("draining") {
    illegal({out, drain(2)}, 8);
    illegal({w, a, out, ldw(0), mul(1, 8), drain(2, 1)}, 8);
    illegal({w, a, out, ldw(0), mul(1, 8), drain(2, 250)}, 8);
    for (const DType type : {DType::INT64, DType::INT16, DType::UINT16, DType::UINT32, DType::UINT64, DType::FP64}) {
      illegal({w, a, tdesc(2, type, 8192, {1, 1, 16, 8}), ldw(0), mul(1, 8), drain(2)}, 2);
    }
    illegal({w, a, tdesc(2, DType::FP32, 8192, {1, 1, 16, 9}), ldw(0), mul(1, 8), drain(2)}, 2);
    illegal({w, a, out, ldw(0), mul(1, 8), drain(2, 0, 5, 1)}, 20);
    illegal({w, a, out, ldw(0), mul(1, 8), drain(2, 0, 1, 1, 9)}, 9);
    const isa::Inst seven = tdesc(3, DType::FP32, 0, {1, 1, 1, 7}), half = tdesc(3, DType::FP16, 0, {1, 1, 1, 8});
    illegal({w, a, out, seven, ldw(0), mul(1, 8), drain(2, 0, 1, 1, 3)}, 3);
    illegal({w, a, out, half, ldw(0), mul(1, 8), drain(2, 0, 1, 1, 0xFF, 3)}, 4);
    expect_fault(pair, {w, a, tdesc(2, DType::FP32, 65532, {1, 1, 16, 8}), ldw(0), mul(1, 8), drain(2)},
                 CX_STATUS_SPM_FAULT, 65536);
  }
}
