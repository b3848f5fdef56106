// Load and store engines against an element by element reference, their bounds, and their timing rule by hand.
#include "hw/dma/dma.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "hw/ras/memory_errors.hpp"
#include "tb/hw/engine/bench.hpp"

using namespace cx;
using namespace cx::tb;
using Reg = regs::EngineReg;

namespace {

constexpr std::uint64_t kArena = kDramBase + 0x20'0000;  // segment of the random transfers
constexpr std::uint64_t kArenaBytes = 0x8'0000;

struct Bench : Memories {
  hw::DmaEngine load{"load", isa::Engine::LOAD, context(), hw::DmaParams{8, 64, 1}};
  hw::DmaEngine store{"store", isa::Engine::STORE, context(), hw::DmaParams{8, 64, 1}};
  EngineDriver l{*this, load, 0};
  EngineDriver s{*this, store, 1};

  Bench() {
    REQUIRE_THROWS_AS(hw::DmaEngine("bad", isa::Engine::VPU, context(), hw::DmaParams{}), std::invalid_argument);
    run(0);
  }
  void reset() {
    load.reset();
    store.reset();
    Memories::reset();
    run(10);
  }
};

Bench &bench() {
  static Bench *instance = new Bench;
  instance->reset();
  return *instance;
}

struct Transfer {
  isa::Tdesc spm;
  isa::Mdesc memory;
  isa::DmaLoad load;  // padding and fill; unused by stores
};

std::vector<isa::Inst> program_of(const Transfer &transfer, bool store) {
  isa::DmaStore out;
  return {transfer.spm.encode(), transfer.memory.encode(), store ? out.encode() : transfer.load.encode(),
          isa::End{}.encode()};
}

std::int64_t at(const std::array<std::int32_t, 4> &strides, std::int64_t i, std::int64_t j, std::int64_t k,
                std::int64_t l) {
  return i * strides[0] + j * strides[1] + k * strides[2] + l * strides[3];
}

// The instruction's meaning, one element after the other.
void reference(const Transfer &transfer, bool store, std::byte *spm, std::byte *segment) {
  const auto &dims = transfer.spm.dims;
  const std::uint32_t bytes = isa::bytes_of(transfer.spm.dtype);
  const isa::DmaLoad &in = transfer.load;
  for (int i = 0; i < dims[0]; ++i) {
    for (int j = 0; j < dims[1]; ++j) {
      for (int k = 0; k < dims[2]; ++k) {
        for (int l = 0; l < dims[3]; ++l) {
          std::byte *local = spm + transfer.spm.base + at(transfer.spm.strides, i, j, k, l);
          if (store) {
            std::memcpy(segment + transfer.memory.offset + at(transfer.memory.strides, i, j, k, l), local, bytes);
            continue;
          }
          const bool padding =
              j < in.pad_top || j >= dims[1] - in.pad_bottom || k < in.pad_left || k >= dims[2] - in.pad_right;
          const std::uint64_t fill = in.fill;
          const std::byte *source =
              segment + transfer.memory.offset + at(transfer.memory.strides, i, j - in.pad_top, k - in.pad_left, l);
          std::memcpy(local, padding ? reinterpret_cast<const std::byte *>(&fill) : source, bytes);
        }
      }
    }
  }
}

struct Gather {
  isa::Tdesc spm, indices;
  isa::Mdesc memory;
  isa::DmaGather gather;

  Gather() {
    indices.index = 1;
    indices.dtype = isa::DType::INT64;
    gather.idx = 1;
  }
  std::vector<isa::Inst> program() const {
    return {spm.encode(), indices.encode(), memory.encode(), gather.encode(), isa::End{}.encode()};
  }
};

void put_index(std::byte *spm, const isa::Tdesc &indices, std::int64_t offset, std::int64_t value) {
  std::memcpy(spm + indices.base + offset, &value, isa::bytes_of(indices.dtype));
}

// The indices are read before anything moves.
void reference(const Gather &g, std::byte *spm, const std::byte *segment) {
  const auto &dims = g.spm.dims;
  const std::uint32_t bytes = isa::bytes_of(g.spm.dtype);
  const std::vector<std::byte> before(spm, spm + (1 << 16));
  for (int i = 0; i < dims[0]; ++i) {
    for (int j = 0; j < dims[1]; ++j) {
      for (int k = 0; k < dims[2]; ++k) {
        for (int l = 0; l < dims[3]; ++l) {
          const std::byte *from = &before[static_cast<std::size_t>(g.indices.base + at(g.indices.strides, i, j, k, l))];
          std::int64_t index = 0;
          if (g.indices.dtype == isa::DType::INT32) {
            std::int32_t narrow = 0;
            std::memcpy(&narrow, from, 4);
            index = narrow;
          } else {
            std::memcpy(&index, from, 8);
          }
          if (index < 0) index += g.gather.limit;
          std::array<std::int64_t, 4> c{i, j, k, l};
          c[g.gather.axis] = index;
          std::memcpy(spm + g.spm.base + at(g.spm.strides, i, j, k, l),
                      segment + g.memory.offset + at(g.memory.strides, c[0], c[1], c[2], c[3]), bytes);
        }
      }
    }
  }
}

class Generator {
 public:
  explicit Generator(unsigned seed) : random_(seed) {}

  std::uint64_t below(std::uint64_t limit) { return random_() % limit; }

  Transfer transfer() {
    for (;;) {
      Transfer t;
      static constexpr isa::DType kTypes[] = {isa::DType::INT8,   isa::DType::UINT8, isa::DType::FP8_E4M3,
                                              isa::DType::FP16,   isa::DType::BF16,  isa::DType::FP32,
                                              isa::DType::INT32,  isa::DType::INT64, isa::DType::INT16,
                                              isa::DType::UINT32, isa::DType::FP64};
      t.spm.dtype = kTypes[below(std::size(kTypes))];
      const auto bytes = static_cast<std::int32_t>(isa::bytes_of(t.spm.dtype));
      for (auto &dim : t.spm.dims) dim = static_cast<std::uint16_t>(1 + (below(3) == 0 ? 0 : below(below(4) ? 9 : 80)));
      std::uint64_t elements = 1;
      for (auto dim : t.spm.dims) elements *= dim;
      if (elements > 20000) continue;
      t.spm.strides = strides(t.spm.dims, bytes);
      t.memory.strides = strides(t.spm.dims, bytes);
      if (below(2)) {
        t.load.pad_top = static_cast<std::uint16_t>(below(t.spm.dims[1] + 1u));
        t.load.pad_bottom = static_cast<std::uint16_t>(below(t.spm.dims[1] + 2u));
        t.load.pad_left = static_cast<std::uint16_t>(below(3));
        t.load.pad_right = static_cast<std::uint16_t>(below(3));
        t.load.fill = below(2) ? 0 : static_cast<std::uint32_t>(random_());
      }
      std::uint64_t offset = 0;
      if (!place(t.spm.dims, t.spm.strides, bytes, 1 << 16, offset)) continue;
      t.spm.base = static_cast<std::uint32_t>(offset);
      if (!place(t.spm.dims, t.memory.strides, bytes, kArenaBytes, t.memory.offset)) continue;
      return t;
    }
  }

  // With its indices written to `spm`.
  Gather gather(std::byte *spm) {
    for (;;) {
      Gather g;
      const Transfer t = transfer();
      g.spm = t.spm;
      const auto bytes = static_cast<std::int32_t>(isa::bytes_of(g.spm.dtype));
      g.gather.axis = static_cast<std::uint8_t>(below(4));
      g.gather.limit = static_cast<std::uint32_t>(1 + below(60));
      auto reach = g.spm.dims;
      reach[g.gather.axis] = static_cast<std::uint16_t>(g.gather.limit);
      g.memory.strides = strides(reach, bytes);
      if (!place(reach, g.memory.strides, bytes, kArenaBytes, g.memory.offset)) continue;
      g.indices.dtype = below(2) ? isa::DType::INT32 : isa::DType::INT64;
      const auto index_bytes = static_cast<std::int32_t>(isa::bytes_of(g.indices.dtype));
      g.indices.dims = g.spm.dims;
      g.indices.strides = strides(g.spm.dims, index_bytes);
      // One index for each element, for rows, or for all.
      const std::uint64_t shared = below(3) == 0 ? 15 : below(2) ? below(16) : 14;
      for (unsigned d = 0; d < 4; ++d) {
        if (shared >> d & 1) {
          g.indices.strides[d] = 0;
          if (below(2)) g.indices.dims[d] = 1;
        } else if (std::abs(g.indices.strides[d]) < index_bytes) {
          g.indices.strides[d] = 0;
        }
      }
      std::uint64_t base = 0;
      if (!place(g.spm.dims, g.indices.strides, index_bytes, 1 << 16, base)) continue;
      g.indices.base = static_cast<std::uint32_t>(base);
      for (int i = 0; i < g.spm.dims[0]; ++i) {
        for (int j = 0; j < g.spm.dims[1]; ++j) {
          for (int k = 0; k < g.spm.dims[2]; ++k) {
            for (int l = 0; l < g.spm.dims[3]; ++l) {
              const auto value = static_cast<std::int64_t>(below(2 * g.gather.limit)) - g.gather.limit;
              put_index(spm, g.indices, at(g.indices.strides, i, j, k, l), value);
            }
          }
        }
      }
      // Strides that reach from one dimension into another may have left parts of indices.
      if (!std::all_of(g.indices.strides.begin(), g.indices.strides.end(),
                       [&](std::int32_t s) { return s % index_bytes == 0; })) {
        continue;
      }
      return g;
    }
  }

 private:
  // Mostly a permuted layout with gaps and some directions reversed; sometimes broadcast or overlapping.
  std::array<std::int32_t, 4> strides(const std::array<std::uint16_t, 4> &dims, std::int32_t bytes) {
    std::array<unsigned, 4> order{3, 2, 1, 0};
    if (below(2)) std::shuffle(order.begin(), order.end(), random_);
    std::array<std::int32_t, 4> strides{};
    std::int32_t step = bytes;
    for (unsigned d : order) {
      strides[d] = step;
      step *= dims[d];
      if (below(4) == 0) step += static_cast<std::int32_t>(below(40));
      if (below(6) == 0) strides[d] = -strides[d];
    }
    if (below(8) == 0) strides[below(4)] = 0;
    if (below(8) == 0) strides[below(4)] = static_cast<std::int32_t>(below(64)) - 32;
    return strides;
  }

  bool place(const std::array<std::uint16_t, 4> &dims, const std::array<std::int32_t, 4> &strides, std::int32_t bytes,
             std::uint64_t room, std::uint64_t &offset) {
    hw::Dims wide;
    std::copy(dims.begin(), dims.end(), wide.begin());
    const hw::Extent extent = hw::extent_of(0, wide, strides, static_cast<std::uint32_t>(bytes));
    const auto span = static_cast<std::uint64_t>(extent.end - extent.first);
    if (span > room) return false;
    // Both ends of the memory are likely.
    const std::uint64_t slack = room - span;
    const std::uint64_t first = below(4) == 0 ? 0 : below(4) == 0 ? slack : below(slack + 1);
    offset = first + static_cast<std::uint64_t>(-extent.first);
    return true;
  }

  std::mt19937_64 random_;
};

void randomise(std::byte *memory, std::size_t bytes, unsigned seed) {
  std::mt19937_64 random(seed);
  for (std::size_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = random();
    std::memcpy(memory + i, &word, 8);
  }
}

// The cycles from the write of CTRL to the first instruction: 9 for the write, then the segment table (8 + one burst
// of 4 + 80 + 8), then the stream.
Cycles first_issue(std::size_t instructions) { return 9 + 100 + 8 + (instructions * 32 + 63) / 64 * 4 + 80 + 8; }

// Launches one transfer on an idle card; cycles from its issue to its completion.
Cycles complete_cycles(Bench &t, const Transfer &transfer, bool store) {
  EngineDriver &engine = store ? t.s : t.l;
  engine.segments({{kArena, kArenaBytes}});
  engine.launch(program_of(transfer, store));
  const Cycles total = engine.finish();
  REQUIRE(engine.done());
  return total - first_issue(4) - 2;
}

}  // namespace

TEST_CASE("random strided transfers equal the reference") {
  Bench &t = bench();
  const unsigned seed = GENERATE(1u, 20260u, 777u);
  INFO("seed " << seed);
  Generator generator(seed);
  std::vector<std::byte> spm(t.spm.bytes()), arena(kArenaBytes);
  randomise(t.spm.data(), t.spm.bytes(), seed + 1);
  randomise(t.dram_at(kArena), kArenaBytes, seed + 2);
  std::memcpy(spm.data(), t.spm.data(), spm.size());
  std::memcpy(arena.data(), t.dram_at(kArena), arena.size());
  for (unsigned trial = 0; trial < 700; ++trial) {
    INFO("trial " << trial);
    const Transfer transfer = generator.transfer();
    const bool store = generator.below(2) != 0;
    EngineDriver &engine = store ? t.s : t.l;
    engine.segments({{kArena, kArenaBytes}});
    engine.launch(program_of(transfer, store));
    t.run(1);  // the interrupt of the launch before falls
    engine.finish(10'000'000);
    REQUIRE(engine.done());
    reference(transfer, store, spm.data(), arena.data());
    REQUIRE(std::memcmp(spm.data(), t.spm.data(), spm.size()) == 0);
    REQUIRE(std::memcmp(arena.data(), t.dram_at(kArena), arena.size()) == 0);
  }
}

TEST_CASE("random gathers equal the reference") {
  Bench &t = bench();
  const unsigned seed = GENERATE(4u, 91u);
  INFO("seed " << seed);
  Generator generator(seed);
  randomise(t.spm.data(), t.spm.bytes(), seed + 1);
  randomise(t.dram_at(kArena), kArenaBytes, seed + 2);
  std::vector<std::byte> spm(t.spm.bytes());
  for (unsigned trial = 0; trial < 400; ++trial) {
    INFO("trial " << trial);
    const Gather g = generator.gather(t.spm.data());
    std::memcpy(spm.data(), t.spm.data(), spm.size());
    t.l.segments({{kArena, kArenaBytes}});
    t.l.launch(g.program());
    t.run(1);  // the interrupt of the launch before falls
    t.l.finish(10'000'000);
    REQUIRE(t.l.done());
    reference(g, spm.data(), t.dram_at(kArena));
    REQUIRE(std::memcmp(spm.data(), t.spm.data(), spm.size()) == 0);
  }
}

namespace {

// Bytes of the segment that the instruction reads or writes.
std::vector<bool> bytes_met(const Transfer &transfer, bool store) {
  std::vector<bool> met(kArenaBytes);
  const auto &dims = transfer.spm.dims;
  const isa::DmaLoad &in = transfer.load;
  for (int i = 0; i < dims[0]; ++i) {
    for (int j = 0; j < dims[1]; ++j) {
      for (int k = 0; k < dims[2]; ++k) {
        for (int l = 0; l < dims[3]; ++l) {
          const bool padding = !store && (j < in.pad_top || j >= dims[1] - in.pad_bottom || k < in.pad_left ||
                                          k >= dims[2] - in.pad_right);
          if (padding) continue;
          const int row = store ? j : j - in.pad_top, column = store ? k : k - in.pad_left;
          const std::int64_t first =
              static_cast<std::int64_t>(transfer.memory.offset) + at(transfer.memory.strides, i, row, column, l);
          for (unsigned b = 0; b < isa::bytes_of(transfer.spm.dtype); ++b)
            met[static_cast<std::size_t>(first + b)] = true;
        }
      }
    }
  }
  return met;
}

std::vector<bool> bytes_met(const Gather &g, const std::byte *spm) {
  std::vector<bool> met(kArenaBytes);
  const auto &dims = g.spm.dims;
  for (int i = 0; i < dims[0]; ++i) {
    for (int j = 0; j < dims[1]; ++j) {
      for (int k = 0; k < dims[2]; ++k) {
        for (int l = 0; l < dims[3]; ++l) {
          std::int64_t index = 0;
          const std::byte *from = spm + g.indices.base + at(g.indices.strides, i, j, k, l);
          std::memcpy(&index, from, isa::bytes_of(g.indices.dtype));
          if (g.indices.dtype == isa::DType::INT32) index = static_cast<std::int32_t>(index);
          std::array<std::int64_t, 4> c{i, j, k, l};
          c[g.gather.axis] = index < 0 ? index + g.gather.limit : index;
          const std::int64_t first =
              static_cast<std::int64_t>(g.memory.offset) + at(g.memory.strides, c[0], c[1], c[2], c[3]);
          for (unsigned b = 0; b < isa::bytes_of(g.spm.dtype); ++b) met[static_cast<std::size_t>(first + b)] = true;
        }
      }
    }
  }
  return met;
}

// A word near what is met, so that hits and misses are both likely.
std::uint64_t word_near(Generator &generator, const std::vector<bool> &met) {
  const auto first = static_cast<std::uint64_t>(std::find(met.begin(), met.end(), true) - met.begin());
  const auto last = met.size() - static_cast<std::uint64_t>(std::find(met.rbegin(), met.rend(), true) - met.rbegin());
  const std::uint64_t from = first / 8 * 8, words = (std::max(last, first + 1) - from) / 8 + 2;
  return std::min(from + generator.below(words) * 8, kArenaBytes - 8);
}

unsigned bytes_in(const std::vector<bool> &met, std::uint64_t word) {
  return static_cast<unsigned>(std::count(met.begin() + static_cast<std::ptrdiff_t>(word),
                                          met.begin() + static_cast<std::ptrdiff_t>(word) + 8, true));
}

}  // namespace

TEST_CASE("a transfer meets a wrong word of memory exactly when it touches it") {
  Bench &t = bench();
  hw::MemoryErrors errors;
  t.noc.set_memory_errors(&errors);
  const unsigned seed = GENERATE(12u, 345u);
  INFO("seed " << seed);
  Generator generator(seed);
  unsigned faults = 0, misses = 0, cleared = 0;
  const auto launch = [&](EngineDriver &engine, const std::vector<isa::Inst> &program) {
    engine.segments({{kArena, kArenaBytes}});
    engine.launch(program);
    t.run(1);  // the interrupt of the launch before falls
    engine.finish(10'000'000);
  };
  for (unsigned trial = 0; trial < 400; ++trial) {
    INFO("trial " << trial);
    errors.clear();
    const unsigned kind = static_cast<unsigned>(generator.below(3));
    EngineDriver &engine = kind == 1 ? t.s : t.l;
    Transfer transfer;
    Gather gather;
    if (kind == 2) {
      gather = generator.gather(t.spm.data());
    } else {
      transfer = generator.transfer();
    }
    const std::vector<bool> met = kind == 2 ? bytes_met(gather, t.spm.data()) : bytes_met(transfer, kind == 1);
    const std::uint64_t word = word_near(generator, met);
    const unsigned touched = bytes_in(met, word);
    errors.inject(kArena + word, 6, 33);
    launch(engine, kind == 2 ? gather.program() : program_of(transfer, kind == 1));
    if (kind == 1) {
      REQUIRE(engine.done());
      REQUIRE(errors.empty() == (touched == 8));
      cleared += touched == 8;
      continue;
    }
    REQUIRE(engine.fault() == (touched != 0));
    ++(touched != 0 ? faults : misses);
    if (touched == 0) continue;
    REQUIRE(engine.read(Reg::FAULT_CODE) == CX_STATUS_ECC_UNCORRECTED);
    REQUIRE(engine.read64(Reg::FAULT_ADDR_LO) == kArena + word);
  }
  REQUIRE(faults > 20);
  REQUIRE(misses > 5);
  REQUIRE(cleared > 5);
  t.noc.set_memory_errors(nullptr);
}

TEST_CASE("gathers that fault move nothing") {
  Bench &t = bench();
  Gather g;  // rows of 8 bytes of a table of 10
  g.spm.dtype = isa::DType::FP16;
  g.spm.dims = {1, 1, 6, 4};
  g.spm.strides = {0, 0, 8, 2};
  g.memory.strides = {0, 0, 8, 2};
  g.indices.base = 1024;
  g.indices.dims = {1, 1, 6, 1};
  g.indices.strides = {0, 0, 8, 0};
  g.gather.axis = 2;
  g.gather.limit = 10;
  std::uint64_t segment = 80;
  const auto index = [&](int i, std::int64_t value) { put_index(t.spm.data(), g.indices, 8 * i, value); };
  const auto faults = [&](std::uint32_t status, std::uint64_t address) {
    const std::vector<std::byte> before(t.spm.data(), t.spm.data() + t.spm.bytes());
    t.l.segments({{kArena, segment}});
    t.l.launch(g.program());
    t.run(1);
    t.l.expect_fault(status, 3, address);
    CHECK(std::equal(before.begin(), before.end(), t.spm.data()));
    CHECK(t.l.read64(Reg::OPS_LO) == 0);
  };
  SECTION("sound") {
    index(5, -10);
    index(4, 9);
    t.l.segments({{kArena, segment}});
    t.l.launch(g.program());
    t.l.finish();
    CHECK(t.l.done());
    CHECK(t.l.read64(Reg::OPS_LO) == 24);
    CHECK(t.l.read64(Reg::RD_LO) == 48 + 48);
    CHECK(t.l.read64(Reg::WR_LO) == 48);
  }
  SECTION("index beyond") {
    index(5, 11);
    index(3, 10);
    faults(CX_STATUS_INDEX_RANGE, 10);
  }
  SECTION("index below") {
    index(5, -11);
    faults(CX_STATUS_INDEX_RANGE, static_cast<std::uint64_t>(-11));
  }
  SECTION("index of INT32 below") {
    g.indices.dtype = isa::DType::INT32;
    index(5, -11);
    faults(CX_STATUS_INDEX_RANGE, static_cast<std::uint64_t>(-11));
  }
  SECTION("the whole table has to lie in the segment") {
    segment = 79;
    faults(CX_STATUS_SEGMENT_FAULT, kArena + 79);
    segment = 4096;
    g.gather.limit = 0xFFFFFFFF;
    g.memory.strides[2] = 0x7FFFFFFF;
    faults(CX_STATUS_SEGMENT_FAULT, kArena + 4096);
    g.memory.strides[2] = -8;
    g.memory.offset = 64;
    g.gather.limit = 10;
    faults(CX_STATUS_SEGMENT_FAULT, kArena - 8);
  }
  SECTION("undefined descriptors") {
    g.gather.idx = 9;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 9);
    g.gather.idx = 1;
    g.gather.src = 8;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 8);
    g.gather.src = 0;
    g.gather.dst = 7;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 7);
  }
  SECTION("type of the indices") {
    g.indices.dtype = isa::DType::UINT32;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 1);
    g.indices.dtype = isa::DType::FP32;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 1);
  }
  SECTION("dimensions of the indices") {
    g.indices.dims[2] = 5;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 1);
    g.indices.dims[2] = 7;
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 1);
  }
  SECTION("indices outside the scratchpad") {
    g.indices.base = static_cast<std::uint32_t>(t.spm.bytes()) - 47;
    faults(CX_STATUS_SPM_FAULT, t.spm.bytes());
  }
  SECTION("destination outside the scratchpad") {
    g.spm.base = static_cast<std::uint32_t>(t.spm.bytes()) - 47;
    faults(CX_STATUS_SPM_FAULT, t.spm.bytes());
  }
  SECTION("more indices than an engine holds") {
    g.spm.dtype = isa::DType::INT8;
    g.spm.dims = g.indices.dims = {1, 1, 8000, 4000};
    g.spm.strides = g.indices.strides = {0, 0, 1, 1};
    faults(CX_STATUS_ILLEGAL_INSTRUCTION, 1);
  }
}

TEST_CASE("the store engine does not gather") {
  Bench &t = bench();
  t.s.segments({{kArena, 64}});
  t.s.launch(Gather{}.program());
  t.s.finish();
  CHECK(t.s.read(Reg::FAULT_CODE) == CX_STATUS_ILLEGAL_INSTRUCTION);
}

TEST_CASE("large transposing transfers equal the reference") {
  Bench &t = bench();
  const unsigned seed = 5;
  randomise(t.spm.data(), t.spm.bytes(), seed);
  randomise(t.dram_at(kArena), kArenaBytes, seed);
  std::vector<std::byte> spm(t.spm.data(), t.spm.data() + t.spm.bytes());
  std::vector<std::byte> arena(t.dram_at(kArena), t.dram_at(kArena) + kArenaBytes);
  for (const isa::DType type : {isa::DType::INT8, isa::DType::FP16, isa::DType::FP32, isa::DType::INT64}) {
    const auto bytes = static_cast<std::int32_t>(isa::bytes_of(type));
    for (const bool store : {false, true}) {
      Transfer transfer;
      transfer.spm.dtype = type;
      transfer.spm.dims = {1, 2, 61, 67};
      transfer.spm.strides = {0, 61 * 67 * bytes, 67 * bytes, bytes};
      transfer.memory.strides = {0, 61 * 67 * bytes, bytes, 61 * bytes};
      EngineDriver &engine = store ? t.s : t.l;
      engine.segments({{kArena, kArenaBytes}});
      engine.launch(program_of(transfer, store));
      t.run(1);
      engine.finish();
      REQUIRE(engine.done());
      reference(transfer, store, spm.data(), arena.data());
      CHECK(std::memcmp(spm.data(), t.spm.data(), spm.size()) == 0);
      CHECK(std::memcmp(arena.data(), t.dram_at(kArena), arena.size()) == 0);
      randomise(t.spm.data(), t.spm.bytes(), ++transfer.memory.segment);
      std::copy_n(t.spm.data(), spm.size(), spm.data());
    }
  }
}

TEST_CASE("a transfer inside one memory goes element by element") {
  Bench &t = bench();
  for (unsigned i = 0; i < 64; ++i) t.spm.data()[i] = std::byte(i);
  Transfer transfer;  // shifts 32 bytes up by one: the first byte runs through
  transfer.spm.dtype = isa::DType::INT8;
  transfer.spm.base = 1;
  transfer.spm.dims = {1, 1, 1, 32};
  transfer.spm.strides = {0, 0, 0, 1};
  transfer.memory.strides = {0, 0, 0, 1};
  t.l.segments({{kSpmBase, 64}});
  t.l.launch(program_of(transfer, false));
  t.l.finish();
  REQUIRE(t.l.done());
  for (unsigned i = 0; i <= 32; ++i) CHECK(static_cast<int>(t.spm.data()[i]) == 0);
  CHECK(static_cast<int>(t.spm.data()[33]) == 33);
}

TEST_CASE("accesses outside the segment fault before anything moves") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::FP32;
  transfer.spm.dims = {1, 2, 3, 4};
  transfer.spm.strides = {0, 48, 16, 4};
  transfer.memory.strides = {0, 48, 16, 4};  // 96 bytes
  const bool store = GENERATE(false, true);
  const auto run = [&](std::uint64_t segment_bytes, std::uint64_t address) {
    EngineDriver &engine = store ? t.s : t.l;
    randomise(t.dram_at(kArena), 256, 1);
    std::vector<std::byte> before(t.dram_at(kArena - 128), t.dram_at(kArena + 256));
    engine.segments({{kArena, segment_bytes}});
    engine.launch(program_of(transfer, store));
    engine.expect_fault(CX_STATUS_SEGMENT_FAULT, 2, address);
    CHECK(std::equal(before.begin(), before.end(), t.dram_at(kArena - 128)));
    CHECK(std::all_of(t.spm.data(), t.spm.data() + 256, [](std::byte b) { return b == std::byte{0}; }));
    CHECK(engine.read64(Reg::OPS_LO) == 0);
  };
  SECTION("exactly fits") {
    transfer.memory.offset = 4;
    EngineDriver &engine = store ? t.s : t.l;
    engine.segments({{kArena, 100}});
    engine.launch(program_of(transfer, store));
    engine.finish();
    CHECK(engine.done());
  }
  SECTION("one byte short") {
    transfer.memory.offset = 4;
    run(99, kArena + 99);
  }
  SECTION("below the segment") {
    transfer.memory.strides[1] = -48;
    transfer.memory.offset = 47;
    run(4096, kArena - 1);
  }
  SECTION("offset beyond") {
    transfer.memory.offset = 101;
    run(100, kArena + 101);
  }
  SECTION("offset that wraps") {
    transfer.memory.offset = ~std::uint64_t{0} - 3;
    run(4096, kArena - 4);
  }
  SECTION("largest strides") {
    transfer.memory.strides = {0, 2147483647, 2147483647, 2147483647};
    run(4096, kArena + 4096);
  }
  SECTION("empty segment") { run(0, kArena); }
  SECTION("segment of all addresses is checked against the memory map") {
    transfer.memory.offset = 0x3000;
    EngineDriver &engine = store ? t.s : t.l;
    engine.segments({{0, ~std::uint64_t{0}}});
    engine.launch(program_of(transfer, store));
    engine.expect_fault(CX_STATUS_BAD_ADDRESS, 2, 0x3000);
  }
  SECTION("segment that wraps the address space") {
    transfer.memory.offset = 90;
    EngineDriver &engine = store ? t.s : t.l;
    engine.segments({{~std::uint64_t{0} - 99, 4096}});
    engine.launch(program_of(transfer, store));
    engine.expect_fault(CX_STATUS_BAD_ADDRESS, 2, ~std::uint64_t{0} - 9);
  }
}

TEST_CASE("the scratchpad's bounds include the padding") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::INT8;
  transfer.spm.base = static_cast<std::uint32_t>(t.spm.bytes()) - 8;
  transfer.spm.dims = {1, 1, 9, 1};
  transfer.spm.strides = {0, 0, 1, 1};
  transfer.load.pad_right = 5;
  t.l.segments({{kArena, 64}});
  t.l.launch(program_of(transfer, false));
  t.l.expect_fault(CX_STATUS_SPM_FAULT, 2, t.spm.bytes());
}

TEST_CASE("a transfer of more than 2^32 elements is refused") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::INT8;
  transfer.spm.dims = {65535, 65535, 2, 1};
  t.l.segments({{kArena, 64}});
  t.l.launch(program_of(transfer, false));
  t.l.expect_fault(CX_STATUS_ILLEGAL_INSTRUCTION, 2, 0);
}

TEST_CASE("counters") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::FP16;
  transfer.spm.dims = {2, 4, 5, 8};
  transfer.spm.strides = {320, 80, 16, 2};
  transfer.memory.strides = {96, 48, 16, 2};
  transfer.load.pad_top = 1;
  transfer.load.pad_bottom = 1;
  transfer.load.pad_left = 1;
  transfer.load.pad_right = 1;
  complete_cycles(t, transfer, false);
  CHECK(t.l.read64(Reg::OPS_LO) == 320);
  CHECK(t.l.read64(Reg::RD_LO) == 2 * 2 * 3 * 8 * 2);
  CHECK(t.l.read64(Reg::WR_LO) == 640);
  CHECK(t.spm.bytes_written() == 640);
  CHECK(t.l.read64(Reg::BUSY_LO) > 0);
}

// The numbers: setup 8; datapath 64, scratchpad port 32, links and DRAM 64 bytes a cycle; a run a cycle; hops of 4,
// DRAM latency 80 (so 96 for a read, 88 for a write), scratchpad latency 3.
TEST_CASE("timing by hand") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::FP32;
  SECTION("contiguous load: the scratchpad port decides") {
    transfer.spm.dims = {1, 1, 1, 1024};
    transfer.spm.strides = {0, 0, 0, 4};
    transfer.memory.strides = {0, 0, 0, 4};
    CHECK(complete_cycles(t, transfer, false) == 8 + 128 + 96 + 3);
  }
  SECTION("contiguous store") {
    transfer.spm.dims = {1, 1, 1, 1024};
    transfer.spm.strides = {0, 0, 0, 4};
    transfer.memory.strides = {0, 0, 0, 4};
    CHECK(complete_cycles(t, transfer, true) == 8 + 128 + 3 + 88);
  }
  SECTION("elements: address generation decides") {
    transfer.spm.dims = {1, 1, 1, 1000};
    transfer.spm.strides = {0, 0, 0, 4};
    transfer.memory.strides = {0, 0, 0, 32};  // half a burst each: 500 cycles of DRAM
    CHECK(complete_cycles(t, transfer, false) == 8 + 1000 + 96 + 3);
  }
  SECTION("neighbouring elements share bursts") {
    transfer.spm.dims = {1, 1, 1, 1024};
    transfer.spm.strides = {0, 0, 0, 4};
    transfer.memory.strides = {0, 0, 0, 8};
    t.dram.reset();
    complete_cycles(t, transfer, false);
    CHECK(t.dram.bytes_read() == 64 + 128 + 8192);  // segment table, stream, elements
  }
  SECTION("a transposition reads each burst once while few enough are in use") {
    transfer.spm.dims = {1, 1, 16, 64};
    transfer.spm.strides = {0, 0, 256, 4};
    transfer.memory.strides = {0, 0, 4, 1024};
    complete_cycles(t, transfer, false);
    CHECK(t.dram.bytes_read() == 64 + 128 + 64 * 64);
    t.reset();
    transfer.spm.dims = {1, 1, 16, 65};
    transfer.spm.strides = {0, 0, 260, 4};
    complete_cycles(t, transfer, false);
    CHECK(t.dram.bytes_read() == 64 + 128 + 16 * 65 * 64);
  }
  SECTION("wide bursts: DRAM decides") {
    // 512 rows of 4 bytes in a span of 512 KiB; the row itself moves 64 bytes. 512 runs take 512 cycles, the bursts
    // 32768 / 64 = 512 and start 88 later.
    transfer.spm.dims = {1, 1, 512, 1};
    transfer.spm.strides = {0, 0, 4, 4};
    transfer.memory.strides = {0, 0, 1024, 4};
    const Cycles cycles = complete_cycles(t, transfer, false);
    CHECK(cycles >= 8 + 8 + 80 + 512 + 8 + 3);
    CHECK(cycles <= 8 + 8 + 80 + 520 + 8 + 3);
  }
  SECTION("all padding touches no memory") {
    transfer.spm.dims = {1, 4, 4, 16};
    transfer.spm.strides = {1024, 256, 64, 4};
    transfer.load.pad_top = 4;
    CHECK(complete_cycles(t, transfer, false) == 8 + 32 + 3);
  }
}

// Beside those above: the port reads 32 bytes of indices a cycle, and they are there 3 cycles later.
TEST_CASE("timing of gathers by hand") {
  Bench &t = bench();
  Gather g;
  g.spm.dtype = isa::DType::FP32;
  g.indices.base = 32768;
  g.gather.limit = 64;
  const auto cycles = [&] {
    t.l.segments({{kArena, kArenaBytes}});
    t.l.launch(g.program());
    const Cycles total = t.l.finish();
    REQUIRE(t.l.done());
    return total - first_issue(5) - 3;
  };
  SECTION("rows: the scratchpad port decides") {
    // 16 rows of 1 KiB, 128 bytes of indices.
    g.spm.dims = {1, 1, 16, 256};
    g.spm.strides = {0, 0, 1024, 4};
    g.memory.strides = {0, 0, 1024, 4};
    g.indices.dims = {1, 1, 16, 1};
    g.indices.strides = {0, 0, 8, 0};
    g.gather.axis = 2;
    CHECK(cycles() == 8 + 4 + 3 + 512 + 96 + 3);
    CHECK(t.dram.bytes_read() == 64 + 192 + 16384);
  }
  SECTION("elements: one burst each") {
    // 500 indices of 8 bytes in 125 cycles, then a run a cycle; 500 bursts are 500 cycles of DRAM.
    g.spm.dims = {1, 1, 1, 500};
    g.spm.strides = {0, 0, 0, 4};
    g.memory.strides = {0, 0, 0, 4};
    g.indices.dims = {1, 1, 1, 500};
    g.indices.strides = {0, 0, 0, 8};
    g.gather.axis = 3;
    CHECK(cycles() >= 8 + 125 + 3 + 500 + 96 + 3);
    CHECK(t.dram.bytes_read() == 64 + 192 + 500 * 64);
  }
}

TEST_CASE("the next transfer starts while the latency of the one before still runs") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::FP32;
  transfer.spm.dims = {1, 1, 1, 1024};
  transfer.spm.strides = {0, 0, 0, 4};
  transfer.memory.strides = {0, 0, 0, 4};
  const unsigned count = 8;
  std::vector<isa::Inst> program{transfer.spm.encode(), transfer.memory.encode()};
  for (unsigned i = 0; i < count; ++i) {
    program.push_back(transfer.load.encode());
    program.push_back(isa::SemPost{0, 1}.encode());
  }
  program.push_back(isa::End{}.encode());
  t.l.segments({{kArena, kArenaBytes}});
  t.l.launch(program);
  const Cycles total = t.l.finish();
  // Each occupies the engine for setup and the port's 128 cycles; only the last shows its latency. The first block of
  // instructions is 512 bytes.
  CHECK(total == first_issue(16) + 2 + count * (8 + 128) + 96 + 3);
  CHECK(t.semaphores.value(0) == count);
  CHECK(t.l.read64(Reg::BUSY_LO) == count * (8 + 128) + 96 + 3);
}

TEST_CASE("load and store share the DRAM") {
  Bench &t = bench();
  Transfer transfer;
  transfer.spm.dtype = isa::DType::FP32;
  transfer.spm.dims = {1, 1, 4, 4096};
  transfer.spm.strides = {0, 0, 0, 4};  // 64 KiB to memory from 16 KiB
  transfer.memory.strides = {0, 0, 16384, 4};
  const Cycles alone = complete_cycles(t, transfer, true);
  t.reset();
  t.l.segments({{kArena, kArenaBytes}});
  t.s.segments({{kArena, kArenaBytes}});
  Transfer in = transfer;
  in.spm.dims = {1, 1, 1, 16384};
  in.spm.strides = {0, 0, 0, 4};
  in.memory.strides = {0, 0, 0, 4};
  t.l.launch(program_of(in, false));
  t.s.launch(program_of(transfer, true));
  t.s.finish();
  t.l.finish();
  CHECK(t.l.done());
  // Ports of 32 bytes a cycle on each side add up to the DRAM's 64: both run at full speed.
  CHECK(t.s.read64(Reg::BUSY_LO) <= alone + 1024);
}
