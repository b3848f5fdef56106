// The Verilated tile against the model and its cycle formulas: random overlapping operations with stalls at every port.
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "hw/dmmu/mac_tile.hpp"
#include "tb/hw/common/num_random.hpp"
#include "tb/rtl/tile_operations.hpp"

using namespace cx::hw;
using cx::num::DType;

namespace {

const TileShape kSmall{8, 8, 256};

bool built(const TileShape &shape) {
  for (const TileShape &candidate : cx::rtl::built_tiles()) {
    if (candidate.serves(shape)) return true;
  }
  WARN("shape " << cx::rtl::to_string(shape) << " is not in CX_RTL_TILES");
  return false;
}

/// A dense matrix whose elements count up.
struct Matrix {
  Matrix(DType dtype, uint32_t rows, uint32_t cols) : data(rows * cols * cx::num::bytes_of(dtype)) {
    for (size_t i = 0; i < size_t{rows} * cols; ++i) {
      cx::num::encode(dtype, static_cast<float>(i % 13) - 6, &data[i * cx::num::bytes_of(dtype)]);
    }
    operand.dtype = dtype;
    operand.rows = rows;
    operand.cols = cols;
    operand.raw = data.data();
    operand.raw_stride = static_cast<ptrdiff_t>(cols * cx::num::bytes_of(dtype));
  }
  std::vector<std::byte> data;
  TileOperand operand;
};

/// Drained words of one pass of 3 rows and 5 columns whose last word along K is not full, at the pins of an RTL tile.
/// What no element stands in (lanes and rows beyond K, rows and columns that take no part, unused upper bits) is taken
/// from `rest`; zeros without one.
std::vector<uint32_t> pass_with_rest(const TileShape &shape, DType dtype, bool output_stationary,
                                     cx::test::Random *rest) {
  using cx::rtl::TileSim;
  constexpr uint32_t kM = 3, kN = 5;
  const uint32_t per_word = elements_per_word(shape, dtype);
  const size_t bits_each = 8 * cx::num::bytes_of(dtype);
  const uint32_t k = output_stationary ? 2 * per_word + 1 : longest_k(shape, dtype) - 1;
  const auto words = static_cast<uint32_t>(words_along_k(shape, dtype, k));
  cx::test::Random random(11);
  const std::unique_ptr<TileSim> sim = cx::rtl::make_tile_sim(shape);
  TileSim::Inputs &in = sim->in;

  // Word of K number `at` of a row or column that takes part, or not.
  const auto word = [&](uint32_t at, bool present) {
    uint32_t result = rest != nullptr ? rest->bits() : 0;
    for (uint32_t l = 0; present && l < per_word && at * per_word + l < k; ++l) {
      const auto mask = static_cast<uint32_t>((uint64_t{1} << bits_each) - 1) << (bits_each * l);
      const float value = static_cast<float>(random.between(0, 12)) - 6;
      uint32_t raw = 0;
      cx::num::encode(dtype, value, reinterpret_cast<std::byte *>(&raw));
      result = (result & ~mask) | (raw << (bits_each * l) & mask);
    }
    return result;
  };
  const auto pass = [&](auto ready) {
    sim->settle();
    for (int cycles = 0; !ready(); ++cycles) {
      REQUIRE(cycles < 1000);
      sim->tick();
    }
    sim->tick();
    in.cmd_valid = in.w_valid = in.a_valid = false;
  };
  const auto command = [&](TileSim::Op op, uint32_t m) {
    in.cmd_valid = true;
    in.cmd_op = op;
    in.cmd_fmt = in.cmd_wfmt = static_cast<uint8_t>(dtype);
    in.cmd_m = static_cast<uint16_t>(m);
    in.cmd_k = static_cast<uint16_t>(k);
    in.cmd_n = kN;
    if (op == TileSim::Op::kDrain) {
      in.cmd_integer = dtype == DType::INT8;
      in.cmd_fmt = static_cast<uint8_t>(in.cmd_integer ? DType::INT32 : DType::FP32);
    }
    pass([&] { return sim->out.cmd_ready; });
  };

  if (output_stationary) {
    command(TileSim::Op::kMulOs, kM);
    for (uint32_t step = 0; step < words; ++step) {
      for (uint32_t r = 0; r < shape.rows; ++r) sim->a_row[r] = word(step, r < kM);
      for (uint32_t c = 0; c < shape.cols; ++c) sim->w_row[c] = word(step, c < kN);
      in.w_valid = in.a_valid = true;
      pass([&] { return sim->out.w_ready && sim->out.a_ready; });
    }
  } else {
    command(TileSim::Op::kLoad, 0);
    for (uint32_t r = 0; r < words; ++r) {
      for (uint32_t c = 0; c < shape.cols; ++c) sim->w_row[c] = word(r, true);
      in.w_valid = true;
      pass([&] { return sim->out.w_ready; });
    }
    command(TileSim::Op::kMul, kM);
    for (uint32_t i = 0; i < kM; ++i) {
      for (uint32_t r = 0; r < shape.rows; ++r) sim->a_row[r] = word(r, true);
      in.a_valid = true;
      pass([&] { return sim->out.a_ready; });
    }
  }
  command(TileSim::Op::kDrain, kM);
  in.d_ready = true;
  std::vector<uint32_t> result;
  for (uint32_t i = 0; i < kM; ++i) {
    pass([&] {
      if (sim->out.d_valid) result.insert(result.end(), sim->d_row, sim->d_row + kN);
      return sim->out.d_valid;
    });
  }
  return result;
}

/// An idle tile, one operation at a time.
class Sequence {
 public:
  explicit Sequence(MacTile &tile) : tile_(tile) {}

  /// Cycles from the command to its completion.
  uint64_t load(const TileOperand &w) {
    return at(
        [&](uint64_t start) { return tile_.load_weights(start, words_along_k(tile_.shape(), w.dtype, w.rows), w); });
  }
  uint64_t matmul(const TileOperand &a, uint32_t n, uint32_t row, bool accumulate) {
    return at([&](uint64_t start) { return tile_.matmul(start, a.rows, a, n, row, accumulate); });
  }
  uint64_t matmul_os(const TileOperand &a, const TileOperand &w, uint32_t row, bool accumulate) {
    const uint64_t steps = words_along_k(tile_.shape(), a.dtype, a.cols);
    return at(
        [&](uint64_t start) { return tile_.matmul_os(start, os_stream(tile_.shape(), steps), a, w, row, accumulate); });
  }
  uint64_t drain(uint32_t row, uint32_t m, uint32_t n, std::vector<float> &values) {
    values.assign(m * n, -1);
    TileTarget target;
    target.stride = sizeof(float);
    for (uint32_t i = 0; i < m; ++i) target.rows.push_back(reinterpret_cast<std::byte *>(&values[i * n]));
    return at([&](uint64_t start) { return tile_.drain(start, m, row, m, n, cx::num::DrainStage{}, target); });
  }

 private:
  template <typename F>
  uint64_t at(F f) {
    const uint64_t start = tile_.schedule().idle_from() + 1;
    const uint64_t complete = f(start);
    tile_.finish(complete);
    REQUIRE(tile_.cycle_differences() == 0);
    return complete - start;
  }
  MacTile &tile_;
};

}  // namespace

TEST_CASE("random operations: the RTL gives the model's bits, cycles and counters") {
  const uint64_t seed = cx::test::logged_seed(20261124);
  for (const TileShape &shape : cx::rtl::built_tiles()) {
    // 1,000 on the smallest; a large tile does as much work in fewer.
    const uint64_t operations = std::max<uint64_t>(60, 1000 * 64 / (uint64_t{shape.rows} * shape.cols));
    const cx::test::TileComparison result = cx::test::compare_tiles(shape, seed, operations, 40);
    INFO(cx::rtl::to_string(shape) << ": " << result.first);
    CHECK(result.operations >= operations);
    CHECK(result.bit_differences == 0);
    CHECK(result.cycle_differences == 0);
    CHECK(result.counter_differences == 0);
    CHECK(result.loads > 0);
    CHECK(result.passes > 0);
    CHECK(result.output_stationary > 0);
    CHECK(result.drains > 0);
    CHECK(result.scaled > 0);
    CHECK(result.stalled > 0);
    for (unsigned f = 0; f < 6; ++f) {
      if (shape.formats >> f & 1) CHECK(result.by_format[f] > 0);
    }
  }
}

TEST_CASE("every size of one operation on an idle tile takes the cycles of the formulas") {
  for (const TileShape &shape : {kSmall, TileShape{8, 8, 64, 2, 2}, TileShape{8, 8, 64, 4, 3}}) {
    if (!built(shape)) continue;
    for (DType dtype : {DType::FP16, DType::INT8}) {
      const auto tile = make_tile(shape, true);
      Sequence run(*tile);
      std::vector<float> values;
      for (uint32_t k = 1; k <= longest_k(shape, dtype); ++k) {
        const uint64_t words = words_along_k(shape, dtype, k);
        const uint32_t n = 1 + k % shape.cols, m = 1 + k * 5 % 9;
        const Matrix w(dtype, k, n), a(dtype, m, k);
        CHECK(run.load(w.operand) == load_cycles(words).complete);
        CHECK(run.matmul(a.operand, n, 0, false) == mul_cycles(shape, m, n).complete);
        CHECK(run.drain(0, m, n, values) == drain_cycles(m, 0).complete);
        const Matrix few(dtype, std::min(m, shape.rows), k);
        CHECK(run.matmul_os(few.operand, w.operand, 0, false) == mul_os_cycles(shape, words, n).complete);
      }
    }
  }
}

TEST_CASE("what stands beside the elements in a word or a row is ignored") {
  const uint64_t seed = cx::test::logged_seed(3);
  for (const TileShape &shape : {kSmall, TileShape{8, 8, 64, 2, 2}, TileShape{8, 8, 64, 4, 3}}) {
    if (!built(shape)) continue;
    for (DType dtype : {DType::FP32, DType::FP16, DType::BF16, DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
      for (bool output_stationary : {false, true}) {
        const std::vector<uint32_t> want = pass_with_rest(shape, dtype, output_stationary, nullptr);
        cx::test::Random rest(seed);
        for (int i = 0; i < 20; ++i) {
          INFO(cx::rtl::to_string(shape) << ", " << cx::num::name_of(dtype) << (output_stationary ? ", streamed" : ""));
          CHECK(pass_with_rest(shape, dtype, output_stationary, &rest) == want);
        }
      }
    }
  }
}

TEST_CASE("a narrow pass behind a wide one does not free the weights of the wide one") {
  if (!built(kSmall)) return;
  std::vector<float> results[2];
  for (bool rtl : {false, true}) {
    const auto tile = make_tile(kSmall, rtl);
    const Matrix w(DType::FP32, 8, 8), a(DType::FP32, 4, 8), one(DType::FP32, 1, 8), other(DType::BF16, 8, 8);
    const TileSchedule &schedule = tile->schedule();
    tile->load_weights(0, 8, w.operand);
    tile->matmul(schedule.earliest_mul(0), 4, a.operand, 8, 0, false);
    tile->matmul(schedule.earliest_mul(0), 1, one.operand, 1, 8, false);
    // The bank of the two passes becomes the shadow bank with this pass, and is loaded at once.
    tile->load_weights(schedule.earliest_load(0, false), 8, w.operand);
    tile->matmul(schedule.earliest_mul(0), 1, one.operand, 1, 9, false);
    tile->load_weights(schedule.earliest_load(0, false), 8, other.operand);
    results[rtl].assign(32, -1);
    TileTarget target;
    target.stride = sizeof(float);
    for (uint32_t i = 0; i < 4; ++i) target.rows.push_back(reinterpret_cast<std::byte *>(&results[rtl][i * 8]));
    tile->finish(tile->drain(schedule.earliest_drain(0), 4, 0, 4, 8, {}, target));
    CHECK(tile->cycle_differences() == 0);
  }
  CHECK((results[0] == results[1]));
}

TEST_CASE("one pass over the whole accumulator memory") {
  if (!built(kSmall)) return;
  const auto model = make_tile(kSmall, false), rtl = make_tile(kSmall, true);
  const Matrix w(DType::BF16, 8, 8), a(DType::BF16, kSmall.acc_rows, 8);
  std::vector<float> want, got;
  for (MacTile *tile : {model.get(), rtl.get()}) {
    Sequence run(*tile);
    run.load(w.operand);
    run.matmul(a.operand, 8, 0, false);
    run.matmul(a.operand, 8, 0, true);
    run.drain(0, kSmall.acc_rows, 8, tile == model.get() ? want : got);
  }
  CHECK((want == got));
}

TEST_CASE("both dataflows give the same sums where the order of accumulation is the same") {
  const auto tile = make_tile(kSmall, false);
  Sequence run(*tile);
  const Matrix w(DType::FP16, 8, 8), a(DType::FP16, 8, 8);
  std::vector<float> stationary, streamed;
  run.load(w.operand);
  run.matmul(a.operand, 8, 0, false);
  run.drain(0, 8, 8, stationary);
  run.matmul_os(a.operand, w.operand, 16, false);
  run.drain(16, 8, 8, streamed);
  CHECK((stationary == streamed));
}

TEST_CASE("wrong parity is counted when it is read") {
  for (bool rtl : {false, true}) {
    if (rtl && !built(kSmall)) continue;
    const auto tile = make_tile(kSmall, rtl);
    Sequence run(*tile);
    const Matrix w(DType::FP32, 8, 5), a(DType::FP32, 3, 8);
    std::vector<float> good, bad;
    run.load(w.operand);
    run.matmul(a.operand, 5, 0, false);
    run.drain(0, 3, 5, good);
    CHECK(tile->counters().parity_errors == 0);
    tile->inject_parity_errors(true);
    run.matmul(a.operand, 5, 0, false);
    tile->inject_parity_errors(false);
    CHECK(tile->counters().parity_errors == 0);
    run.drain(0, 2, 5, bad);
    CHECK(tile->counters().parity_errors == 10);
    CHECK(bad[0] != good[0]);
    run.matmul(a.operand, 5, 0, true);
    CHECK(tile->counters().parity_errors == 25);
    run.matmul(a.operand, 5, 0, false);
    run.drain(0, 3, 5, bad);
    CHECK(tile->counters().parity_errors == 25);
    CHECK((bad == good));
  }
}

TEST_CASE("an RTL tile is not stepped while it is idle") {
  if (!built(kSmall)) return;
  MacTileRtl tile(kSmall);
  const Matrix w(DType::FP16, 8, 8), a(DType::FP16, 4, 8);
  const uint64_t loaded = tile.load_weights(1'000'000'000, 8, w.operand);
  const uint64_t end = tile.matmul(2'000'000'000, 4, a.operand, 8, 0, false);
  tile.finish(3'000'000'000);
  CHECK(tile.stepped_cycles() == loaded - 1'000'000'000 + end - 2'000'000'000);
  CHECK(tile.stepped_cycles() == tile.counters().busy + 2);  // a command is taken in a cycle that is still idle
  CHECK(tile.cycle_differences() == 0);
}

TEST_CASE("a counter that is not there reads 0") {
  if (!built(kSmall)) return;
  const auto sim = cx::rtl::make_tile_sim(kSmall);
  sim->in.w_valid = true;
  sim->in.cmd_valid = true;
  sim->in.cmd_k = 8;
  for (int cycle = 0; cycle < 5; ++cycle) {
    sim->tick();
    sim->in.cmd_valid = false;
  }
  CHECK(sim->count(1) > 0);
  for (unsigned counter = cx::rtl::TileSim::kCounters; counter < 16; ++counter) CHECK(sim->count(counter) == 0);
}

TEST_CASE("bad operands are refused alike by model and RTL") {
  for (bool rtl : {false, true}) {
    if (rtl && !built(kSmall)) continue;
    const auto tile = make_tile(kSmall, rtl);
    const Matrix w(DType::FP16, 8, 8), tall(DType::FP16, 9, 8), wide(DType::FP16, 8, 9), a(DType::FP16, 4, 8),
        other(DType::BF16, 4, 8), narrow(DType::FP16, 4, 7), unsigned8(DType::UINT8, 4, 8), many(DType::FP16, 9, 8);
    std::vector<float> values;
    const auto refused = [](auto f) { CHECK_THROWS_AS(f(), std::invalid_argument); };
    refused([&] { tile->matmul(0, 4, a.operand, 8, 0, false); });
    refused([&] { tile->load_weights(0, 9, tall.operand); });
    refused([&] { tile->load_weights(0, 8, wide.operand); });
    refused([&] { tile->load_weights(0, 8, unsigned8.operand); });
    refused([&] { tile->load_weights(0, 7, w.operand); });  // faster than a row a cycle
    tile->load_weights(0, 8, w.operand);
    refused([&] { tile->matmul(20, 4, other.operand, 8, 0, false); });
    refused([&] { tile->matmul(20, 4, narrow.operand, 8, 0, false); });
    refused([&] { tile->matmul(20, 4, a.operand, 9, 0, false); });
    refused([&] { tile->matmul(20, 4, a.operand, 8, 253, false); });
    refused([&] { tile->matmul(20, 3, a.operand, 8, 0, false); });
    refused([&] { tile->matmul(3, 4, a.operand, 8, 0, false); });  // before the weights are there
    refused([&] { tile->matmul_os(20, 8, many.operand, w.operand, 0, false); });
    refused([&] { tile->matmul_os(20, 7, a.operand, w.operand, 0, false); });
    refused([&] { tile->matmul_os(20, 8, other.operand, w.operand, 0, false); });
    CHECK_NOTHROW(tile->matmul(20, 4, a.operand, 8, 252, false));
    refused([&] { tile->drain(100, 1, 256, 1, 8, {}, {{nullptr}, 4}); });
    refused([&] { tile->drain(100, 2, 0, 2, 8, {}, {{nullptr}, 4}); });
    refused([&] { tile->drain(21, 1, 0, 1, 8, {}, {{nullptr}, 4}); });  // sums are not written yet
    tile->reset();
    refused([&] { tile->matmul(20, 4, a.operand, 8, 0, false); });
  }
  const TileShape int8_only{8, 8, 256, 1, 1, 1u << 5};
  const auto tile = make_tile(int8_only, false);
  CHECK_THROWS_AS(tile->load_weights(0, 8, Matrix(DType::FP16, 8, 8).operand), std::invalid_argument);
}

TEST_CASE("a shape that is not built says how to build it") {
  CHECK_THROWS_WITH(make_tile({8, 8, 255}, true), Catch::Contains("CX_RTL_TILES"));
  CHECK_THROWS_WITH(make_tile({8, 8, 256, 4, 4, 1u << 5}, true),
                    Catch::Contains("8x8x256/pack=4/stages=4/formats=INT8"));
  for (const TileShape &shape : {TileShape{0, 8, 255}, TileShape{8, 257, 255}, TileShape{257, 8, 255},
                                 TileShape{8, 8, 0}, TileShape{8, 8, 256, 3}, TileShape{8, 8, 256, 1, 5}}) {
    CHECK_THROWS_AS(make_tile(shape, false), std::invalid_argument);
  }
  CHECK_NOTHROW(make_tile({256, 256, 255}, false));
  // What cannot be built is not recommended.
  for (const TileShape &shape :
       {TileShape{8, 129, 255}, TileShape{129, 8, 255}, TileShape{2, 8, 255}, TileShape{8, 2, 255}}) {
    CHECK_THROWS_WITH(make_tile(shape, true),
                      Catch::Contains("3 to 128 rows and columns") && !Catch::Contains("CX_RTL_TILES"));
  }
}
