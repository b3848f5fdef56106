// The SCA as an engine: random programs on model and RTL tiles against the DMMU and a plain reference, every format of
// compressed weights, time by hand, one fault for every check.
#include "hw/sca/sca.hpp"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <vector>

#include "hw/common/sparse/sparse.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/hw/common/num_random.hpp"
#include "tb/hw/engine/bench.hpp"
#include "tb/hw/engine/views.hpp"
#include "tb/hw/power/activity_difference.hpp"

namespace {

using namespace cx;
using namespace cx::tb;
using test::Random;

constexpr uint32_t kTiles = 4, kRows = 8, kCols = 8;
constexpr uint8_t kNone = 0xFF;

struct Unit {
  static config::Chip::ScaSection section(uint32_t tiles, bool rtl) {
    config::Chip::ScaSection section;
    section.tiles = tiles;
    section.tile = {kRows, kCols, 32, 256, 32, 4};
    section.rtl_tiles.all = rtl;
    return section;
  }
  Unit(Memories &memories, const char *name, unsigned number, bool rtl, uint32_t tiles = kTiles)
      : sca(name, memories.context(), section(tiles, rtl)), driver(memories, sca, number) {}

  hw::Sca sca;
  EngineDriver driver;
};

// The bench's scratchpad has 64 KiB, a port of 32 bytes a cycle, and a latency of 3.
struct Bench {
  Memories memories;
  Unit model{memories, "sca", 2, false}, rtl{memories, "sca_rtl", 3, true}, none{memories, "sca_none", 4, false, 0};
};

Bench &bench() {
  static Bench &instance = *new Bench;  // lives as long as SystemC
  return instance;
}

// ---- instructions ----

isa::Inst lda(uint8_t a, uint16_t m_split = 1, uint16_t n_split = 1) {
  isa::SpLda in;
  in.a = a;
  in.m_split = m_split;
  in.n_split = n_split;
  return in.encode();
}

isa::SpMul mul(DType dtype, uint32_t k, uint32_t n, const sparse::Layout &layout, uint32_t base, size_t bytes) {
  isa::SpMul in;
  in.format = static_cast<isa::Sparse>(layout.format);
  in.dtype = static_cast<isa::DType>(dtype);
  in.m_split = in.n_split = 1;
  in.n = static_cast<uint16_t>(n);
  in.k = static_cast<uint16_t>(k);
  in.p0 = layout.format == sparse::Format::kBlock ? layout.block_h : layout.n;
  in.p1 = layout.format == sparse::Format::kBlock ? layout.block_w : layout.m;
  in.base = base;
  in.bytes = static_cast<uint32_t>(bytes);
  return in;
}

isa::SpDrain drain(uint8_t dst) {
  isa::SpDrain in;
  in.dst = dst;
  in.scale = in.bias = kNone;
  in.m_split = in.n_split = 1;
  return in;
}

// ---- runs ----

void launch(Unit &unit, std::vector<isa::Inst> program, const std::vector<uint8_t> &memory) {
  bench().memories.reset();
  unit.sca.reset();
  Memories::run(1);  // the interrupt line falls
  if (!memory.empty()) std::memcpy(bench().memories.spm.data(), memory.data(), memory.size());
  program.push_back(isa::End{}.encode());
  unit.driver.launch(program);
}

Counters run(Unit &unit, const std::vector<isa::Inst> &program, std::vector<uint8_t> &memory) {
  launch(unit, program, memory);
  using Reg = EngineDriver::Reg;
  unit.driver.finish();
  INFO(unit.sca.dump() << " code " << unit.driver.read(Reg::FAULT_CODE) << " at "
                       << unit.driver.read64(Reg::FAULT_ADDR_LO));
  REQUIRE(unit.driver.done());
  memory.resize(bench().memories.spm.bytes());
  std::memcpy(memory.data(), bench().memories.spm.data(), memory.size());
  return {unit.driver.read64(Reg::BUSY_LO), unit.driver.read64(Reg::OPS_LO), unit.driver.read64(Reg::RD_LO),
          unit.driver.read64(Reg::WR_LO)};
}

/// On model and RTL, which must agree in memory, engine counters and the counters of every tile.
Counters run_both(const std::vector<isa::Inst> &program, std::vector<uint8_t> &memory) {
  std::vector<uint8_t> rtl_memory = memory;
  const Counters model = run(bench().model, program, memory), rtl = run(bench().rtl, program, rtl_memory);
  REQUIRE(model == rtl);
  REQUIRE((memory == rtl_memory));
  for (uint32_t tile = 0; tile < kTiles; ++tile) {
    REQUIRE((bench().model.sca.counters(tile) == bench().rtl.sca.counters(tile)));
  }
  return model;
}

void expect_fault(const std::vector<isa::Inst> &program, const std::vector<uint8_t> &memory, uint32_t status,
                  uint64_t address) {
  for (Unit *unit : {&bench().model, &bench().rtl}) {
    launch(*unit, program, memory);
    unit->driver.expect_fault(status, static_cast<uint32_t>(program.size()) - 1, address);
  }
}

// ---- operands ----

/// k x n weights, row-major, `density` percent of them not zero; at most `kept` of 8 neighbours if that is not 0.
std::vector<uint8_t> pruned(Random &random, DType dtype, uint32_t k, uint32_t n, uint32_t density, uint32_t kept = 0) {
  const size_t bytes = num::bytes_of(dtype);
  std::vector<uint8_t> result(size_t{k} * n * bytes, 0);
  for (uint32_t c = 0; c < n; ++c) {
    uint32_t left = kept;
    for (uint32_t r = 0; r < k; ++r) {
      if (r % 8 == 0) left = kept;
      if (random.between(0, 99) >= density || (kept != 0 && left == 0)) continue;
      uint32_t raw = random.element(dtype);
      if (sparse::is_zero(dtype, static_cast<uint16_t>(raw))) raw = 1;
      std::memcpy(&result[(size_t{r} * n + c) * bytes], &raw, bytes);
      if (left != 0) --left;
    }
  }
  return result;
}

void put(std::vector<uint8_t> &memory, uint32_t at, const std::vector<uint8_t> &bytes) {
  REQUIRE(at + bytes.size() <= memory.size());
  std::copy(bytes.begin(), bytes.end(), memory.begin() + at);
}

float canonical(float value) { return std::isnan(value) ? std::bit_cast<float>(num::kCanonicalNan) : value; }

/// A 3 x 40 by 40 x 20 product in INT8 and its program, for faults.
struct Example {
  explicit Example(const sparse::Layout &layout = sparse::bitmap(), uint32_t kept = 0) {
    Random random(3);
    memory.resize(1 << 16);
    for (uint32_t i = 0; i < 3 * 40; ++i) memory[i] = static_cast<uint8_t>(random.bits());
    const std::vector<uint8_t> w = pruned(random, DType::INT8, 40, 20, 50, kept);
    stream = sparse::encode(sparse::row_major(w.data(), DType::INT8, 40, 20), kCols, layout);
    put(memory, kStream, stream);
    multiply = mul(DType::INT8, 40, 20, layout, kStream, stream.size());
  }
  std::vector<isa::Inst> with(isa::SpMul in) const {
    return {tdesc(0, DType::INT8, 0, {1, 1, 3, 40}), lda(0), in.encode()};
  }
  std::vector<isa::Inst> program() const { return with(multiply); }
  void fault(uint32_t status, uint64_t address) const { expect_fault(program(), memory, status, address); }
  void illegal(uint64_t address) const { fault(CX_STATUS_ILLEGAL_INSTRUCTION, address); }

  static constexpr uint32_t kStream = 0x4000;
  std::vector<uint8_t> memory, stream;
  isa::SpMul multiply;
};

}  // namespace

TEST_CASE("random programs give the reference's bits on model and RTL tiles, and the same time") {
  Random random(test::logged_seed(10));
  constexpr DType kFormats[] = {DType::FP16, DType::BF16, DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8};
  for (int round = 0; round < 120; ++round) {
    const DType dtype = kFormats[random.between(0, 4)];
    const size_t bytes = num::bytes_of(dtype);
    const auto m_split = static_cast<uint8_t>(random.between(1, kTiles));
    const auto n_split = static_cast<uint8_t>(random.between(1, kTiles / m_split));
    const uint32_t m = random.between(1, m_split * kRows), n = random.between(1, 60);
    const uint32_t folds = random.between(1, 2);
    const uint32_t groups = (n + kCols - 1) / kCols;
    const auto acc_row = static_cast<uint16_t>(random.between(0, 32 - (groups + n_split - 1) / n_split));

    std::vector<uint8_t> memory(1 << 16);
    std::vector<isa::Inst> program;
    std::vector<float> sums(m * n, 0);
    std::vector<uint32_t> integers(m * n, 0);
    uint64_t macs = 0, read = 0, least_decoded = 0, most_decoded = 0;
    bool only_bitmaps = true;
    hw::MatrixActivity work;
    uint64_t &kind_sums = dtype == DType::INT8 ? work.integer_sums : work.float_sums;
    uint32_t at = 0x2000;
    for (uint32_t i = 0; i < 64; ++i) {
      const uint32_t raw = random.fp32();
      std::memcpy(&memory[0x1800 + 4 * i], &raw, 4);
      std::memcpy(&memory[0x1900 + 4 * i], &raw, 4);
    }
    for (uint32_t fold = 0; fold < folds; ++fold) {
      const uint32_t k = random.between(1, 100);
      View a{dtype, at, {1, 1, static_cast<uint16_t>(m), static_cast<uint16_t>(k)}, {0, 0, 0, 0}};
      a.strides = {0, 0, static_cast<int32_t>((k + random.between(0, 3)) * bytes), static_cast<int32_t>(bytes)};
      const bool zeros = random.one_in(2);
      for (uint32_t r = 0; r < k; ++r) {
        const bool zero = zeros && random.one_in(2);
        for (uint32_t i = 0; i < m; ++i) {
          uint32_t raw = 0;
          // Infinities and NaNs would make the dense and the sparse sum differ where weights are skipped.
          do raw = zero ? 0 : random.element(dtype);
          while (!std::isfinite(num::decode(dtype, &raw)));
          std::memcpy(&memory[a.at(i, r)], &raw, bytes);
        }
      }
      at += static_cast<uint32_t>((a.at(m - 1, k - 1) + bytes - at + 15) / 16 * 16);

      const uint32_t kind = random.between(0, 4);
      const sparse::Layout layout = kind == 0   ? sparse::dense()
                                    : kind == 1 ? sparse::bitmap()
                                    : kind == 2 ? sparse::run_length()
                                    : kind == 3 ? sparse::structured(2, 8)
                                                : sparse::block(4, 4);
      const std::vector<uint8_t> w = pruned(random, dtype, k, n, random.between(0, 100), kind == 3 ? 2 : 0);
      const sparse::MatrixView matrix = sparse::row_major(w.data(), dtype, k, n);
      const std::vector<uint8_t> stream = sparse::encode(matrix, kCols, layout);
      put(memory, at, stream);
      isa::SpMul in = mul(dtype, k, n, layout, at, stream.size());
      in.m_split = m_split;
      in.n_split = n_split;
      in.acc_row = acc_row;
      in.accumulate = fold != 0;
      in.skip_zeros = random.one_in(2);
      program.push_back(a.inst(0));
      program.push_back(lda(0, m_split, n_split));
      program.push_back(in.encode());
      at += static_cast<uint32_t>(stream.size());
      read += m * k * bytes + stream.size();
      only_bitmaps &= kind == 1;
      work.buffer_bits += 8 * bytes * m * k * (n_split + groups);
      const uint32_t rows = (m + m_split - 1) / m_split, row_groups = (m + rows - 1) / rows;
      most_decoded += uint64_t{k} * n * row_groups;
      for (uint32_t j = 0; j < n; ++j) {
        for (uint32_t r = 0; r < k; ++r) least_decoded += sparse::is_zero(dtype, matrix.at(r, j)) ? 0 : row_groups;
      }

      std::vector<uint8_t> skipped(k, in.skip_zeros);
      for (uint32_t r = 0; r < k; ++r) {
        for (uint32_t i = 0; i < m; ++i) {
          if (num::decode(dtype, &memory[a.at(i, r)]) != 0) skipped[r] = 0;
        }
      }
      for (uint32_t j = 0; j < n; ++j) {
        for (uint32_t r = 0; r < k; ++r) macs += !skipped[r] && !sparse::is_zero(dtype, matrix.at(r, j)) ? m : 0;
        for (uint32_t i = 0; i < m; ++i) {
          float chain = 0;
          uint32_t integer = 0;
          for (uint32_t r = 0; r < k; ++r) {
            const uint16_t raw = matrix.at(r, j);
            if (sparse::is_zero(dtype, raw) || skipped[r]) continue;
            const float x = num::decode(dtype, &memory[a.at(i, r)]), y = num::decode(dtype, &raw);
            chain = std::fma(x, y, chain);
            ++(x == 0 ? work.gated : work.products[static_cast<unsigned>(dtype)]);
            kind_sums += x != 0 ? 1 : 0;
            work.selected_bits += 8 * bytes;
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
    View out{out_dtype, 0xC000, {1, 1, static_cast<uint16_t>(m), static_cast<uint16_t>(n)}, {0, 0, 0, out_bytes}};
    out.strides[2] = static_cast<int32_t>(n) * out_bytes;
    if (random.one_in(3)) out.strides[2] = out_bytes, out.strides[3] = static_cast<int32_t>(m) * out_bytes;
    isa::SpDrain last = drain(3);
    last.m_split = m_split;
    last.n_split = n_split;
    last.acc_row = acc_row;
    if (random.one_in(2)) last.scale = 1;
    if (random.one_in(2)) last.bias = 2;
    last.act = static_cast<isa::Activation>(random.between(0, 2));
    last.lo = -2.5f;
    last.hi = 6.0f;
    program.push_back(tdesc(1, DType::FP32, 0x1800, {1, 1, 1, static_cast<uint16_t>(n)}));
    program.push_back(tdesc(2, DType::FP32, 0x1900, {1, 1, 1, static_cast<uint16_t>(n)}));
    program.push_back(out.inst(3));
    program.push_back(last.encode());
    REQUIRE(at < 0xC000);

    std::vector<uint8_t> want = memory;
    for (uint32_t i = 0; i < m; ++i) {
      for (uint32_t j = 0; j < n; ++j) {
        uint8_t *to = &want[out.at(i, j)];
        const uint32_t integer = integers[i * n + j];
        if (is_int && out_dtype == DType::INT32 && last.scale == kNone && last.bias == kNone &&
            last.act == isa::Activation::NONE) {
          std::memcpy(to, &integer, 4);
          continue;
        }
        float value = is_int ? static_cast<float>(static_cast<int32_t>(integer)) : sums[i * n + j];
        if (last.scale != kNone) value *= float_at(memory, 0x1800 + 4 * j);
        if (last.bias != kNone) value += float_at(memory, 0x1900 + 4 * j);
        if (last.act == isa::Activation::RELU && !std::isnan(value)) value = value > 0 ? value : 0.0f;
        if (last.act == isa::Activation::CLAMP && !std::isnan(value)) value = std::min(std::max(value, -2.5f), 6.0f);
        num::encode(out_dtype, canonical(value), to);
      }
    }
    INFO("round " << round << " " << num::name_of(dtype) << " to " << num::name_of(out_dtype) << " m " << m << " n "
                  << n << " split " << int{m_split} << " x " << int{n_split});
    work.drained = uint64_t{m} * n;
    work.accumulator_words += work.drained;
    const hw::MatrixActivity before = bench().model.sca.activity(), rtl_before = bench().rtl.sca.activity();
    const Counters counters = run_both(program, memory);
    REQUIRE((memory == want));
    CHECK(counters.operations == macs);
    const hw::MatrixActivity done = bench().model.sca.activity() - before;
    CHECK((bench().rtl.sca.activity() - rtl_before == done));
    // What a stream stores beside the non-zeros is its format's affair; a bitmap stores nothing else.
    CHECK(done.decoded >= least_decoded);
    CHECK(done.decoded <= (only_bitmaps ? least_decoded : most_decoded));
    work.decoded = done.decoded;
    CHECK((done == work));
    uint64_t gated = 0;
    for (uint32_t tile = 0; tile < kTiles; ++tile) gated += bench().model.sca.counters(tile).gated;
    CHECK(gated == work.gated);
    CHECK(counters.read == read + uint64_t{n} * 4 * ((last.scale != kNone) + (last.bias != kNone)));
    CHECK(counters.written == uint64_t{m} * n * static_cast<uint64_t>(out_bytes));
  }
}

TEST_CASE("time and counters, by hand") {
  // 8 x 32 INT8 activations: 256 bytes are 8 cycles of port and 3 of latency, 32 vectors, 2 cycles in the tile.
  const isa::Inst a = tdesc(0, DType::INT8, 0, {1, 1, 8, 32});
  std::vector<uint8_t> memory(1 << 16, 1);
  CHECK(run_both({a, lda(0)}, memory) == Counters{34, 0, 256, 0});

  // Dense weights, 32 x 8: a group of 32 + 256 bytes, 9 cycles of port and 3 of latency.
  const std::vector<uint8_t> w(256, 1);
  const std::vector<uint8_t> stream =
      sparse::encode(sparse::row_major(w.data(), DType::INT8, 32, 8), 8, sparse::dense());
  REQUIRE(stream.size() == 288);
  put(memory, 0x1000, stream);
  const isa::Inst multiply = mul(DType::INT8, 32, 8, sparse::dense(), 0x1000, stream.size()).encode();
  const Counters product = run_both({a, lda(0), multiply}, memory);
  // The load issues in cycle 0, the multiplication in the next; its weights are there at 8 + 9 + 3, before its command
  // is taken in cycle 33, when the transfer to the decoder starts: 9 cycles, one into the queue, 32 issues, 3 to flush.
  CHECK(product == Counters{33 + 9 + 1 + 31 + 3, 32 * 8 * 8, 256 + 288, 0});
}

TEST_CASE("half of the weights are half of the multiplications") {
  // Every other row of 64 x 16 weights is zero; no activation is.
  std::vector<uint8_t> memory(1 << 16, 1);
  std::vector<uint8_t> dense(64 * 16, 3), half = dense;
  for (uint32_t r = 0; r < 64; r += 2) std::fill_n(half.begin() + r * 16, 16, 0);
  hw::MatrixActivity work[2];
  for (unsigned i = 0; i < 2; ++i) {
    const std::vector<uint8_t> stream =
        sparse::encode(sparse::row_major((i == 0 ? dense : half).data(), DType::INT8, 64, 16), kCols, sparse::bitmap());
    std::vector<uint8_t> contents = memory;
    put(contents, 0x2000, stream);
    const hw::MatrixActivity before = bench().model.sca.activity();
    run(bench().model,
        {tdesc(0, DType::INT8, 0, {1, 1, 8, 64}), lda(0),
         mul(DType::INT8, 64, 16, sparse::bitmap(), 0x2000, stream.size()).encode()},
        contents);
    work[i] = bench().model.sca.activity() - before;
  }
  CHECK(work[0].products[static_cast<unsigned>(DType::INT8)] == 8 * 64 * 16);
  CHECK(work[1].products[static_cast<unsigned>(DType::INT8)] == 8 * 64 * 16 / 2);
  CHECK(work[1].integer_sums * 2 == work[0].integer_sums);
  CHECK(work[1].decoded * 2 == work[0].decoded);
  CHECK(work[1].selected_bits * 2 == work[0].selected_bits);
  CHECK(work[1].accumulator_words == work[0].accumulator_words);
  CHECK(work[1].buffer_bits == work[0].buffer_bits);
}

TEST_CASE("zero activations are skipped where asked, with the same result") {
  Random random(test::logged_seed(8));
  std::vector<uint8_t> memory(1 << 16, 0);
  for (uint32_t i = 0; i < 8; ++i) {
    for (uint32_t r = 0; r < 128; r += 4) memory[i * 128 + r] = static_cast<uint8_t>(random.between(1, 100));
  }
  const std::vector<uint8_t> w = pruned(random, DType::INT8, 128, 32, 100);
  const std::vector<uint8_t> stream =
      sparse::encode(sparse::row_major(w.data(), DType::INT8, 128, 32), kCols, sparse::bitmap());
  put(memory, 0x2000, stream);
  isa::SpMul in = mul(DType::INT8, 128, 32, sparse::bitmap(), 0x2000, stream.size());
  const auto program = [&] {
    return std::vector<isa::Inst>{tdesc(0, DType::INT8, 0, {1, 1, 8, 128}), lda(0), in.encode(),
                                  tdesc(1, DType::INT32, 0x8000, {1, 1, 8, 32}), drain(1).encode()};
  };
  std::vector<uint8_t> all = memory, some = memory;
  const Counters plain = run_both(program(), all);
  in.skip_zeros = 1;
  const Counters skipping = run_both(program(), some);
  CHECK((all == some));
  CHECK(skipping.operations * 4 == plain.operations);
  // 4 groups of 128 weights a column: 384 cycles less, but for what the transfer of the weights bounds.
  CHECK(skipping.busy + 200 < plain.busy);
}

TEST_CASE("a malformed stream is a fault with the byte, and writes nothing") {
  const Example good;
  std::vector<uint8_t> memory = good.memory;
  run_both(good.program(), memory);

  Example e;
  e.memory[Example::kStream] ^= 1;  // magic
  e.fault(CX_STATUS_BAD_WEIGHTS, 0);
  e = Example();
  e.multiply.bytes -= 16;  // the last group is cut
  expect_fault(e.program(), e.memory, CX_STATUS_BAD_WEIGHTS, [&] {
    try {
      sparse::decode_stream(std::span(e.stream).first(e.stream.size() - 16), 40, 20, DType::INT8, kCols);
    } catch (const sparse::StreamError &error) {
      return error.offset();
    }
    return size_t{0};
  }());
  e = Example();
  e.multiply.bytes += 16;  // something behind the last group
  e.fault(CX_STATUS_BAD_WEIGHTS, e.stream.size());
  e = Example();
  e.multiply.format = isa::Sparse::RUN_LENGTH;
  e.fault(CX_STATUS_BAD_WEIGHTS, 3);
  e = Example();
  e.multiply.n = 21;
  expect_fault(e.program(), e.memory, CX_STATUS_BAD_WEIGHTS, [&] {
    try {
      sparse::decode_stream(e.stream, 40, 21, DType::INT8, kCols);
    } catch (const sparse::StreamError &error) {
      return error.offset();
    }
    return size_t{0};
  }());
  e = Example(sparse::structured(2, 8), 2);
  e.multiply.p0 = 3;
  e.fault(CX_STATUS_BAD_WEIGHTS, 5);
  e.multiply.p0 = 2;
  e.multiply.p1 = 4;
  e.fault(CX_STATUS_BAD_WEIGHTS, 6);
  e = Example(sparse::block(4, 2));
  e.multiply.p0 = 2;
  e.fault(CX_STATUS_BAD_WEIGHTS, 10);
  e.multiply.p0 = 4;
  e.multiply.p1 = 4;
  e.fault(CX_STATUS_BAD_WEIGHTS, 12);

  // Every bit of the stream counts: one that is wrong is a fault, or another matrix if it is in a value.
  Random random(test::logged_seed(21));
  uint32_t faults = 0;
  for (int round = 0; round < 100; ++round) {
    Example broken;
    const auto bit = random.between(0, static_cast<uint32_t>(broken.stream.size() * 8 - 1));
    broken.memory[Example::kStream + bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    broken.stream[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    try {
      sparse::decode_stream(broken.stream, 40, 20, DType::INT8, kCols);
    } catch (const sparse::StreamError &error) {
      ++faults;
      launch(bench().model, broken.program(), broken.memory);
      bench().model.driver.expect_fault(CX_STATUS_BAD_WEIGHTS, 2, error.offset());
    }
  }
  CHECK(faults > 20);
}

TEST_CASE("one fault for every check of an operand") {
  const isa::Inst a = tdesc(0, DType::INT8, 0, {1, 1, 3, 40});
  const auto illegal = [](const std::vector<isa::Inst> &program, uint64_t address) {
    expect_fault(program, {}, CX_STATUS_ILLEGAL_INSTRUCTION, address);
  };
  illegal({lda(5)}, 5);                                            // undefined descriptor
  illegal({a, lda(0, 5, 1)}, 4);                                   // more tiles than there are
  illegal({tdesc(0, DType::FP32, 0, {1, 1, 3, 40}), lda(0)}, 2);   // format
  illegal({tdesc(0, DType::INT8, 0, {1, 1, 3, 257}), lda(0)}, 2);  // K
  illegal({tdesc(0, DType::INT8, 0, {1, 1, 9, 40}), lda(0)}, 2);   // rows
  expect_fault({tdesc(0, DType::FP16, 1, {1, 1, 3, 40}), lda(0)}, {}, CX_STATUS_BAD_ALIGNMENT, 1);
  expect_fault({tdesc(0, DType::INT8, 65500, {1, 1, 3, 40}), lda(0)}, {}, CX_STATUS_SPM_FAULT, 65536);

  Example e;
  expect_fault({e.multiply.encode()}, e.memory, CX_STATUS_ILLEGAL_INSTRUCTION, 10);  // nothing loaded
  e.multiply.k = 41;
  e.illegal(10);
  e = Example();
  e.multiply.m_split = 2;
  e.illegal(28);
  e = Example();
  e.multiply.n_split = 5;
  e.illegal(28);
  e = Example();
  e.multiply.dtype = isa::DType::FP16;
  e.illegal(2);
  e = Example();
  e.multiply.dtype = isa::DType::FP32;
  e.illegal(2);
  e = Example();
  e.multiply.acc_row = 30;
  e.illegal(6);
  e = Example();
  e.multiply.accumulate = 1;  // rows that hold nothing
  e.illegal(6);
  e = Example();
  e.multiply.base += 8;
  e.fault(CX_STATUS_BAD_ALIGNMENT, e.multiply.base);
  e = Example();
  e.multiply.bytes = 0xFFFFFFF0u;
  e.fault(CX_STATUS_SPM_FAULT, 65536);

  const auto drained = [&](View out, isa::SpDrain in) {
    const Example fine;
    std::vector<isa::Inst> program = fine.program();
    program.push_back(out.inst(3));
    program.push_back(tdesc(4, DType::FP16, 0x8000, {1, 1, 1, 20}));
    program.push_back(in.encode());
    return std::pair(program, fine.memory);
  };
  const View out{DType::INT32, 0xC000, {1, 1, 3, 20}, {0, 0, 80, 4}};
  const auto bad_drain = [&](View view, isa::SpDrain in, uint64_t address) {
    const auto [program, memory] = drained(view, in);
    expect_fault(program, memory, CX_STATUS_ILLEGAL_INSTRUCTION, address);
  };
  isa::SpDrain in = drain(3);
  in.m_split = 5;
  bad_drain(out, in, 20);
  in = drain(3);
  in.acc_row = 1;  // the last row of these holds nothing
  bad_drain(out, in, 8);
  in.acc_row = 30;
  bad_drain(out, in, 8);
  View wide = out;
  wide.dims[3] = 21;
  bad_drain(wide, drain(3), 8);
  View tall = out;
  tall.dims[2] = 4;
  bad_drain(tall, drain(3), 8);
  tall.dims[2] = 9;
  bad_drain(tall, drain(3), 2);
  View int64 = out;
  int64.dtype = DType::INT64;
  int64.strides = {0, 0, 160, 8};
  bad_drain(int64, drain(3), 2);
  in = drain(3);
  in.scale = 4;  // not FP32
  bad_drain(out, in, 3);
  in = drain(3);
  in.bias = 4;
  bad_drain(out, in, 4);
}

TEST_CASE("tiles that are switched off cannot be used") {
  using Reg = EngineDriver::Reg;
  for (Unit *unit : {&bench().model, &bench().rtl}) {
    for (uint32_t off : {1u, kTiles, kTiles + 1}) {
      INFO(off << " off");
      const std::vector<isa::Inst> whole{tdesc(0, DType::INT8, 0, {1, 1, 3, 40}), lda(0, 1, kTiles)};
      launch(*unit, whole, {});
      unit->driver.finish();
      REQUIRE(unit->driver.done());
      unit->driver.write(Reg::TILES_OFF, off);
      const auto relaunch = [&](const std::vector<isa::Inst> &program) {
        std::vector<isa::Inst> all = program;
        all.push_back(isa::End{}.encode());
        unit->driver.write(Reg::STATUS, 3);
        Memories::run(1);  // the interrupt line falls
        unit->driver.launch(all);
      };
      relaunch(whole);
      unit->driver.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, off < kTiles ? 4 : 0);
      // RESET of a faulted stream keeps what is off; the others work.
      unit->driver.write(Reg::CTRL, 2);
      CHECK(unit->driver.read(Reg::TILES_OFF) == off);
      if (off < kTiles) {
        relaunch({whole[0], lda(0, 1, static_cast<uint8_t>(kTiles - off))});
        unit->driver.finish();
        CHECK(unit->driver.done());
      }
      unit->driver.write(Reg::TILES_OFF, 0);
      relaunch(whole);
      unit->driver.finish();
      CHECK(unit->driver.done());
    }
  }
}

TEST_CASE("an SCA without tiles refuses every instruction") {
  Bench &b = bench();
  launch(b.none, {tdesc(0, DType::INT8, 0, {1, 1, 3, 40}), lda(0)}, {});
  b.none.driver.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 1, 0);
}
