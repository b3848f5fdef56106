// RTL tiles on several host threads.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/dmmu/mac_tile.hpp"
#include "hw/dmmu/tile_workers.hpp"
#include "tb/hw/common/num_random.hpp"

namespace {

using namespace cx;

void set_threads(const char *count) { REQUIRE(setenv("CX_THREADS", count, 1) == 0); }

struct Result {
  std::vector<std::byte> drained;
  std::vector<hw::TileCounters> counters;
  uint64_t differences = 0;
};

/// A few passes on every one of six tiles, each with data of its own.
Result run_tiles(hw::TileWorkers &workers, const hw::TileShape &shape, uint64_t seed) {
  test::Random random(seed);
  constexpr uint32_t kTiles = 6, kM = 24;
  const uint32_t rows = shape.rows, cols = shape.cols;
  std::vector<std::unique_ptr<hw::MacTile>> tiles;
  Result result;
  result.drained.resize(kTiles * kM * cols * sizeof(float));
  for (uint32_t t = 0; t < kTiles; ++t) {
    tiles.push_back(hw::make_tile(shape, true));
    hw::MacTile &tile = *tiles.back();
    std::vector<uint32_t> values((rows * cols) + kM * rows);
    for (uint32_t &value : values) value = random.fp32();
    const auto *raw = reinterpret_cast<const std::byte *>(values.data());
    hw::TileOperand w, a;
    w.rows = rows, w.cols = cols, w.raw = raw, w.raw_stride = static_cast<ptrdiff_t>(cols * 4);
    a.rows = kM, a.cols = rows, a.raw = raw + rows * cols * 4, a.raw_stride = static_cast<ptrdiff_t>(rows * 4);
    tile.load_weights(0, rows, w);
    for (int pass = 0; pass < 3; ++pass) tile.matmul(tile.schedule().earliest_mul(0), kM, a, cols, 0, pass != 0);
    hw::TileTarget target;
    target.stride = 4;
    for (uint32_t i = 0; i < kM; ++i) target.rows.push_back(&result.drained[(t * kM + i) * cols * 4]);
    tile.drain(tile.schedule().earliest_drain(0), kM, 0, kM, cols, {}, target);
  }
  // In several steps, so that threads meet tiles in every state.
  for (uint64_t until = 20; until <= 200; until += 20) {
    workers.run(kTiles, [&](size_t t) { tiles[t]->finish(until); });
  }
  for (const auto &tile : tiles) {
    CHECK_FALSE(tile->pending());
    result.counters.push_back(tile->counters());
    result.differences += tile->cycle_differences();
  }
  return result;
}

}  // namespace

TEST_CASE("every job runs once, whatever the number of threads") {
  for (const char *threads : {"1", "2", "5", "nonsense"}) {
    set_threads(threads);
    hw::TileWorkers workers;
    for (size_t count : {0, 1, 2, 3, 64}) {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::atomic<int>> calls(count);
        workers.run(count, [&](size_t i) { ++calls.at(i); });
        for (const auto &n : calls) REQUIRE(n == 1);
      }
    }
  }
}

TEST_CASE("the exception of the lowest job is thrown after all have run") {
  for (const char *threads : {"1", "2", "4"}) {
    set_threads(threads);
    hw::TileWorkers workers;
    for (int round = 0; round < 50; ++round) {
      std::atomic<int> calls = 0;
      INFO("threads " << threads);
      REQUIRE_THROWS_WITH(workers.run(16,
                                      [&](size_t i) {
                                        ++calls;
                                        if (i == 3 || i == 4 || i == 15) throw std::runtime_error(std::to_string(i));
                                      }),
                          "3");
      REQUIRE(calls == 16);
      workers.run(2, [&](size_t) { ++calls; });  // and none is left over
      REQUIRE(calls == 18);
    }
    REQUIRE_THROWS_WITH(workers.run(1, [](size_t) { throw std::runtime_error("only"); }), "only");
  }
}

TEST_CASE("RTL tiles do not depend on the number of threads") {
  const uint64_t seed = test::logged_seed(50);
  for (const hw::TileShape &shape : rtl::built_tiles()) {
    if ((shape.formats & 1) == 0 || shape.rows > 8) continue;
    INFO(rtl::to_string(shape));
    set_threads("1");
    hw::TileWorkers one;
    const Result alone = run_tiles(one, shape, seed);
    set_threads("2");
    hw::TileWorkers two;
    const Result together = run_tiles(two, shape, seed);
    CHECK(alone.differences == 0);
    CHECK(together.differences == 0);
    CHECK((alone.drained == together.drained));
    CHECK((alone.counters == together.counters));
  }
}
