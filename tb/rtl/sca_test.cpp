// The Verilated sparse tile against the model, and both against times by hand and dense products.
#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <vector>

#include "hw/common/num/gathered.hpp"
#include "tb/rtl/sca_operations.hpp"
#include "tb/rtl/sca_products.hpp"
#include "tb/rtl/tile_data.hpp"

using namespace cx::hw;
using cx::num::DType;
using cx::test::Pattern;
using cx::test::Random;

namespace {

const ScaShape kSmall{8, 8, 32, 256};

using cx::test::dense_product;
using cx::test::Finite;

cx::test::SparseProduct multiply(const ScaShape &shape, bool rtl, const TileOperand &a, const SparseColumns &w,
                                 bool accumulate = false, uint64_t stall_seed = 0) {
  cx::test::SparseProduct product = cx::test::sparse_product(shape, rtl, a, w, accumulate, stall_seed);
  INFO(product.first_difference);
  CHECK(product.cycle_differences == 0);
  return product;
}

SparseColumns columns_of(uint32_t k, const std::vector<std::vector<uint16_t>> &rows) {
  SparseColumns w;
  w.dtype = DType::INT8;
  w.k = k;
  w.n = static_cast<uint32_t>(rows.size());
  w.starts.push_back(0);
  for (const auto &column : rows) {
    for (uint16_t row : column) {
      w.rows.push_back(row);
      w.raw.push_back(1);
    }
    w.starts.push_back(static_cast<uint32_t>(w.rows.size()));
  }
  return w;
}

}  // namespace

TEST_CASE("random operations: bits, cycles and counters of model and RTL agree") {
  const uint64_t seed = cx::test::logged_seed(20260728);
  for (const ScaShape &shape : cx::rtl::built_sca_tiles()) {
    const uint64_t operations = shape.rows * shape.cols > 500 ? 60 : 600;
    for (uint64_t run = 0; run < 4; ++run) {
      const cx::test::ScaComparison result = cx::test::compare_sca_tiles(shape, seed + run, operations);
      INFO(cx::rtl::to_string(shape) << ", seed " << seed + run << ": " << result.first);
      CHECK(result.bit_differences == 0);
      CHECK(result.cycle_differences == 0);
      CHECK(result.counter_differences == 0);
      CHECK(result.elements > 0);
    }
  }
}

TEST_CASE("every pattern in every format: model and RTL agree, and equal the dense product bit for bit") {
  const uint64_t seed = cx::test::logged_seed(7);
  Random random(seed);
  for (DType dtype : {DType::FP16, DType::BF16, DType::FP8_E4M3, DType::FP8_E5M2, DType::INT8}) {
    for (unsigned p = 0; p < cx::test::kPatterns; ++p) {
      const auto pattern = static_cast<Pattern>(p);
      INFO(cx::num::name_of(dtype) << ", " << cx::test::name_of(pattern));
      const uint32_t m = random.between(1, 8), k = random.between(1, 90), n = random.between(1, 30);
      const Finite a(random, dtype, m, k);
      const SparseColumns w = cx::test::random_weights(random, dtype, k, n, pattern);
      const cx::test::SparseProduct model = multiply(kSmall, false, a.operand, w),
                                    rtl = multiply(kSmall, true, a.operand, w, false, 3);
      CHECK(model.words == rtl.words);
      CHECK(model.counters == rtl.counters);
      CHECK(model.words == dense_product(a.operand, w));
    }
  }
}

TEST_CASE("accumulating adds the second product with one rounding") {
  Random random(cx::test::logged_seed(11));
  for (DType dtype : {DType::FP16, DType::INT8}) {
    const Finite a(random, dtype, 5, 33);
    const SparseColumns w = cx::test::random_weights(random, dtype, 33, 19, Pattern::kUniform);
    const cx::test::SparseProduct once = multiply(kSmall, false, a.operand, w),
                                  twice = multiply(kSmall, false, a.operand, w, true);
    CHECK(multiply(kSmall, true, a.operand, w, true).words == twice.words);
    for (size_t i = 0; i < once.words.size(); ++i) {
      if (dtype == DType::INT8) {
        CHECK(twice.words[i] == 2 * once.words[i]);
      } else {
        const float value = std::bit_cast<float>(once.words[i]);
        if (value == value) CHECK(std::bit_cast<float>(twice.words[i]) == 2 * value);
      }
    }
  }
}

TEST_CASE("where the sparse result differs from the dense one") {
  // A pruned weight meets an infinite activation: the dense product is a NaN, the sparse one has no such term.
  const auto fp16 = [](std::vector<uint16_t> values, std::vector<std::byte> &data) {
    data.resize(values.size() * 2);
    std::memcpy(data.data(), values.data(), data.size());
    TileOperand a;
    a.dtype = DType::FP16;
    a.rows = 1;
    a.cols = static_cast<uint32_t>(values.size());
    a.raw = data.data();
    a.raw_stride = static_cast<ptrdiff_t>(data.size());
    return a;
  };
  std::vector<std::byte> data;
  SparseColumns w;
  w.dtype = DType::FP16;
  w.k = 2;
  w.n = 1;
  w.starts = {0, 1};
  w.rows = {1};
  w.raw = {0x3C00};  // 1
  for (uint16_t special : {0x7C00, 0xFC00, 0x7E00}) {
    const TileOperand a = fp16({special, 0x4000}, data);
    CHECK(dense_product(a, w) == std::vector<uint32_t>{0x7FC00000});
    CHECK(multiply(kSmall, false, a, w).words == std::vector<uint32_t>{0x40000000});
    CHECK(multiply(kSmall, true, a, w).words == std::vector<uint32_t>{0x40000000});
  }
  // A BF16 product vanishes to -0; a pruned weight behind it makes the dense sum +0.
  SparseColumns tiny = w;
  tiny.dtype = DType::BF16;
  tiny.rows = {0};
  tiny.raw = {0x0080};  // 2^-126
  TileOperand a = fp16({0x8080, 0x3F80}, data);
  a.dtype = DType::BF16;
  CHECK(dense_product(a, tiny) == std::vector<uint32_t>{0x00000000});
  CHECK(multiply(kSmall, false, a, tiny).words == std::vector<uint32_t>{0x80000000});
  CHECK(multiply(kSmall, true, a, tiny).words == std::vector<uint32_t>{0x80000000});
}

TEST_CASE("cycles by hand") {
  // Command in cycle 0, first vectors read in cycle 1 and visible in cycle 3, one weight a cycle and column.
  CHECK(plan_multiplication(kSmall, columns_of(1, {{0}}), {}).issue_end == 3);
  CHECK(plan_multiplication(kSmall, columns_of(1, {{0}}), {}).complete() == 6);
  // A dense column of 20: cycles 3 to 22.
  std::vector<uint16_t> all(20);
  for (uint16_t r = 0; r < 20; ++r) all[r] = r;
  CHECK(plan_multiplication(kSmall, columns_of(20, {all}), {}).issue_end == 22);
  // Without non-zeros a placeholder is issued.
  const ScaPlan empty = plan_multiplication(kSmall, columns_of(20, {{}, {}}), {});
  CHECK(empty.issue_end == 3);
  CHECK(empty.issued == 0);
  // Row 31 of the window is read in the fourth cycle, row 32 once the base has moved: the head of the queue (cycle 2)
  // moves it to 31 in cycle 3, so that 32 is read in cycle 5 and visible in cycle 7.
  CHECK(plan_multiplication(kSmall, columns_of(40, {{31}}), {}).issue_end == 6);
  CHECK(plan_multiplication(kSmall, columns_of(40, {{32}}), {}).issue_end == 7);
  // Columns go on to their next group on their own: two dense groups of 20 follow without a gap.
  std::vector<std::vector<uint16_t>> two(9);
  two[0] = two[8] = all;
  CHECK(plan_multiplication(kSmall, columns_of(20, two), {}).issue_end == 42);
  // A group of which the transfer ends in cycle 30 enters the queues then, is at their head in the next.
  const ScaPlan late = plan_multiplication(kSmall, columns_of(1, {{0}}), {.first = 10, .cycles = {20}});
  CHECK(late.group_ready == std::vector<uint64_t>{30});
  CHECK(late.issue_end == 31);
}

TEST_CASE("a drain waits for parameters that come late") {
  using cx::rtl::ScaSim;
  const auto sim = cx::rtl::make_sca_sim({8, 8, 32, 256});
  constexpr unsigned kColumns = 8;
  constexpr int kPatience = 100;
  sim->reset();
  const auto command = [&](const ScaSim::Inputs &fields) {
    sim->in = fields;
    sim->in.cmd_valid = true;
    int cycles = 0;
    for (sim->settle(); !sim->out.cmd_ready; sim->settle()) {
      REQUIRE(++cycles < kPatience);
      sim->tick();
    }
    sim->tick();
    sim->in = {};
  };
  ScaSim::Inputs load;
  load.cmd_op = ScaSim::Op::kLoad;
  load.cmd_fmt = static_cast<uint8_t>(DType::INT8);
  load.cmd_m = 8;
  load.cmd_k = 1;
  command(load);
  for (uint32_t lane = 0; lane < 8; ++lane) sim->a_row[lane] = lane + 1;
  sim->in.a_valid = true;
  for (int cycle = 0; !sim->out.a_ready; ++cycle) {
    REQUIRE(cycle < kPatience);
    sim->tick();
  }
  sim->tick();
  sim->in = {};

  ScaSim::Inputs mul;
  mul.cmd_op = ScaSim::Op::kMul;
  mul.cmd_fmt = static_cast<uint8_t>(DType::INT8);
  mul.cmd_k = 1;
  mul.cmd_n = kColumns;
  mul.cmd_groups = 1;
  command(mul);
  for (unsigned c = 0; c < kColumns; ++c) {
    sim->w_word[c] = 1;
    sim->w_place[c] = ScaSim::kLast;
  }
  for (uint64_t left = (1u << kColumns) - 1, cycle = 0; left != 0; ++cycle) {
    REQUIRE(cycle < kPatience);
    sim->in.w_valid[0] = left;
    sim->settle();
    left &= ~sim->out.w_ready[0];
    sim->tick();
  }
  sim->in = {};

  ScaSim::Inputs drain;
  drain.cmd_op = ScaSim::Op::kDrain;
  drain.cmd_fmt = static_cast<uint8_t>(DType::FP32);
  drain.cmd_n = kColumns;
  drain.cmd_groups = 1;
  drain.cmd_integer = true;
  drain.cmd_has_scale = true;
  command(drain);
  // Parameters in every third cycle only: column c is scaled by c + 1.
  uint32_t given = 0, drained = 0;
  for (int cycle = 0; drained < kColumns; ++cycle) {
    REQUIRE(cycle < kPatience);
    sim->in.d_ready = true;
    sim->in.p_valid = cycle % 3 == 2 && given < kColumns;
    sim->in.p_scale = std::bit_cast<uint32_t>(sim->in.p_valid ? static_cast<float>(given + 1) : -1.0F);
    sim->settle();
    if (sim->out.d_valid) {
      INFO("column " << drained);
      for (uint32_t lane = 0; lane < 8; ++lane) {
        CHECK(std::bit_cast<float>(sim->d_row[lane]) == static_cast<float>((lane + 1) * (drained + 1)));
      }
      ++drained;
    }
    if (sim->in.p_valid && sim->out.p_ready) ++given;
    sim->tick();
  }
  CHECK(given == kColumns);
}

TEST_CASE("speed-up of a large tile over dense weights") {
  const ScaShape shape{32, 32, 64, 2048};
  Random random(cx::test::logged_seed(5));
  const uint32_t k = 1024, n = 512;
  const auto cycles = [&](auto keep) {
    std::vector<std::vector<uint16_t>> rows(n);
    uint64_t count = 0;
    for (auto &column : rows) {
      for (uint32_t r = 0; r < k; ++r) {
        if (keep(r)) column.push_back(static_cast<uint16_t>(r));
      }
      count += column.size();
    }
    return std::pair(plan_multiplication(shape, columns_of(k, rows), {}).complete(), count);
  };
  const auto dense = cycles([](uint32_t) { return true; });
  const auto efficiency = [&](const auto &sparse) {
    const double speed_up = static_cast<double>(dense.first) / static_cast<double>(sparse.first);
    return speed_up * static_cast<double>(sparse.second) / static_cast<double>(dense.second);
  };
  // 40 % of the weights are zeros, anywhere: the limit is 1 / (1 - s).
  CHECK(efficiency(cycles([&](uint32_t) { return random.between(0, 99) >= 40; })) > 0.92);
  // One of eight.
  uint32_t kept = 0;
  CHECK(efficiency(cycles([&](uint32_t r) {
          if (r % 8 == 0) kept = random.between(0, 7);
          return r % 8 == kept;
        })) > 0.97);
}

TEST_CASE("operands that a tile cannot take") {
  const std::unique_ptr<ScaTile> tile = make_sca_tile(kSmall, false);
  Random random(1);
  const Finite a(random, DType::INT8, 4, 10), fp(random, DType::FP16, 4, 10), full(random, DType::FP32, 4, 10);
  const auto w = std::make_shared<const SparseColumns>(columns_of(10, {{1, 2}, {}}));
  const ScaPlan plan = plan_multiplication(kSmall, *w, {});
  CHECK_THROWS_AS(tile->multiply(0, w, plan, 0, false), std::invalid_argument);  // nothing loaded
  CHECK_THROWS_AS(tile->load(0, 10, full.operand), std::invalid_argument);       // format
  CHECK_THROWS_AS(tile->load(0, 9, a.operand), std::invalid_argument);           // too fast
  tile->load(0, 10, fp.operand);
  CHECK_THROWS_AS(tile->multiply(20, w, plan, 0, false), std::invalid_argument);  // formats differ
  tile->load(11, 10, a.operand);
  CHECK_THROWS_AS(tile->multiply(15, w, plan, 0, false), std::invalid_argument);   // activations are still coming
  CHECK_THROWS_AS(tile->multiply(30, w, plan, 32, false), std::invalid_argument);  // beyond the accumulators
  const auto longer = std::make_shared<const SparseColumns>(columns_of(11, {{1}}));
  CHECK_THROWS_AS(tile->multiply(30, longer, plan_multiplication(kSmall, *longer, {}), 0, false),
                  std::invalid_argument);
  CHECK_THROWS_AS(plan_multiplication(kSmall, columns_of(257, {{1}}), {}), std::invalid_argument);
  CHECK_THROWS_AS(make_sca_tile({8, 8, 32, 256, 24}, false), std::invalid_argument);
  CHECK_THROWS_AS(make_sca_tile({9, 9, 32, 256}, true), std::runtime_error);
}

TEST_CASE("gathered kernels: every path gives the same bits") {
  Random random(cx::test::logged_seed(13));
  for (int round = 0; round < 40; ++round) {
    const uint32_t k = random.between(1, 60), lanes = 16 * random.between(1, 5), count = random.between(0, 30);
    std::vector<float> a(size_t{k} * lanes), values(count);
    std::vector<int16_t> ai(a.size()), vi(count);
    std::vector<uint16_t> rows(count);
    for (float &v : a) v = std::bit_cast<float>(random.fp32());
    for (int16_t &v : ai) v = static_cast<int8_t>(random.bits());
    for (uint32_t e = 0; e < count; ++e) {
      values[e] = std::bit_cast<float>(random.fp32());
      vi[e] = static_cast<int8_t>(random.bits());
      rows[e] = static_cast<uint16_t>(random.between(0, k - 1));
    }
    const bool accumulate = random.one_in(2);
    std::vector<float> reference(lanes, 1.5f);
    std::vector<int32_t> reference_int(lanes, 7);
    using cx::num::Path;
    cx::num::mac_fp_gathered(Path::kScalar, {values.data(), rows.data(), count}, a.data(), lanes, reference.data(),
                             lanes, accumulate);
    cx::num::mac_int8_gathered(Path::kScalar, {vi.data(), rows.data(), count}, ai.data(), lanes, reference_int.data(),
                               lanes, accumulate);
    for (Path path : {Path::kPortable, Path::kAvx2}) {
      if (!cx::num::path_available(path)) continue;
      std::vector<float> acc(lanes, 1.5f);
      std::vector<int32_t> acc_int(lanes, 7);
      cx::num::mac_fp_gathered(path, {values.data(), rows.data(), count}, a.data(), lanes, acc.data(), lanes,
                               accumulate);
      cx::num::mac_int8_gathered(path, {vi.data(), rows.data(), count}, ai.data(), lanes, acc_int.data(), lanes,
                                 accumulate);
      CHECK(std::memcmp(acc.data(), reference.data(), lanes * sizeof(float)) == 0);
      CHECK(acc_int == reference_int);
    }
  }
}
