#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "driver/compiler/backend/scratchpad_places.hpp"

using namespace cx::compiler::backend;

TEST_CASE("what was never used comes first, then what was used longest ago, in one piece") {
  ScratchpadPlaces places(100);
  CHECK(places.earliest({10, 100}, 20) == 10);
  places.use({10, 30}, 5);
  places.use({30, 70}, 3);
  CHECK(places.earliest({10, 100}, 30) == 70);
  CHECK(places.earliest({10, 100}, 40) == 30);
  CHECK(places.earliest({10, 70}, 40) == 30);
  CHECK(places.earliest({10, 70}, 50) == 10);
  places.use({70, 100}, 9);
  CHECK(places.earliest({0, 100}, 10) == 0);
  CHECK(places.earliest({0, 100}, 40) == 30);
}

TEST_CASE("a place comes free no later than any other, as bytes tell that are counted one by one") {
  const unsigned seed = 7100;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&random](int64_t end) { return static_cast<int64_t>(random() % static_cast<unsigned>(end)); };
  for (int round = 0; round < 50; ++round) {
    const int64_t size = 1 + below(60);
    ScratchpadPlaces places(size);
    std::vector<int64_t> until(static_cast<std::size_t>(size), -1);
    const auto latest = [&until](int64_t begin, int64_t end) {
      return *std::max_element(until.begin() + begin, until.begin() + end);
    };
    for (int64_t step = 0; step < 60; ++step) {
      const int64_t begin = below(size);
      const Region region{begin, begin + 1 + below(size - begin)};
      const int64_t bytes = 1 + below(region.size());
      int64_t best = region.begin;
      for (int64_t at = region.begin; at + bytes <= region.end; ++at) {
        if (latest(at, at + bytes) < latest(best, best + bytes)) best = at;
      }
      const int64_t place = places.earliest(region, bytes);
      REQUIRE(place >= region.begin);
      REQUIRE(place + bytes <= region.end);
      REQUIRE(latest(place, place + bytes) == latest(best, best + bytes));
      const int64_t time = below(8);
      places.use({place, place + bytes}, time);
      std::fill(until.begin() + place, until.begin() + place + bytes, time);
    }
  }
}
