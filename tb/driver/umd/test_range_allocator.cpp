#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "driver/umd/range_allocator.hpp"

using cx::RangeAllocator;

namespace {

// The same contract, one byte map per granule: slow and obvious.
class Model {
 public:
  Model(uint64_t base, uint64_t size, uint64_t granule) : base_(base), granule_(granule), taken_(size / granule, 0) {}

  // Smallest gap that fits, lowest address among equals; 0 when there is none.
  uint64_t best(uint64_t bytes, uint64_t align) const {
    uint64_t found = 0, smallest = ~0ull;
    const uint64_t need = (bytes + granule_ - 1) / granule_;
    for (uint64_t i = 0; i < taken_.size();) {
      if (taken_[i]) {
        ++i;
        continue;
      }
      uint64_t end = i;
      while (end < taken_.size() && !taken_[end]) ++end;
      uint64_t start = i;
      while ((base_ + start * granule_) % align) ++start;
      if (start + need <= end && end - i < smallest) {
        smallest = end - i;
        found = base_ + start * granule_;
      }
      i = end;
    }
    return found;
  }
  void mark(uint64_t address, uint64_t bytes, char value) {
    for (uint64_t i = (address - base_) / granule_; i < (address - base_ + bytes + granule_ - 1) / granule_; ++i) {
      REQUIRE(taken_[i] != value);
      taken_[i] = value;
    }
  }
  uint64_t used() const {
    uint64_t count = 0;
    for (const char c : taken_) count += c != 0;
    return count * granule_;
  }
  uint64_t free_ranges() const {
    uint64_t count = 0;
    for (size_t i = 0; i < taken_.size(); ++i) count += !taken_[i] && (i == 0 || taken_[i - 1]);
    return count;
  }

 private:
  uint64_t base_, granule_;
  std::vector<char> taken_;
};

}  // namespace

TEST_CASE("range allocator equals a model on random sequences") {
  for (const uint32_t seed : {1u, 2u, 3u, 20261124u}) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    constexpr uint64_t kBase = 0x1000000000, kSize = 64 << 10, kGranule = 64;
    RangeAllocator allocator("test", kBase, kSize, kGranule);
    Model model(kBase, kSize, kGranule);
    std::map<uint64_t, uint64_t> live;
    uint64_t peak = 0;
    for (int step = 0; step < 4000; ++step) {
      if (live.empty() || random() % 5 < 3) {
        const uint64_t largest = random() % 8 ? 700 : 9000;
        const uint64_t bytes = 1 + random() % largest;
        const uint64_t align = 1ull << random() % 13;
        const uint64_t expected = model.best(bytes, std::max(align, kGranule));
        if (!expected) {
          REQUIRE_THROWS_AS(allocator.allocate(bytes, align), cx::OutOfMemoryError);
        } else {
          const uint64_t address = allocator.allocate(bytes, align);
          REQUIRE(address == expected);
          REQUIRE(address % align == 0);
          REQUIRE(allocator.size_of(address) == bytes);
          model.mark(address, bytes, 1);
          live[address] = bytes;
        }
      } else {
        auto it = live.begin();
        std::advance(it, random() % live.size());
        allocator.release(it->first);
        model.mark(it->first, it->second, 0);
        REQUIRE_THROWS_AS(allocator.release(it->first), cx::UsageError);
        live.erase(it);
      }
      const RangeAllocator::Stats stats = allocator.stats();
      peak = std::max(peak, model.used());
      REQUIRE(stats.used == model.used());
      REQUIRE(stats.peak == peak);
      REQUIRE(stats.live == live.size());
      REQUIRE(stats.free_ranges == model.free_ranges());
    }
    for (const auto &[address, bytes] : live) allocator.release(address);
    const RangeAllocator::Stats stats = allocator.stats();
    REQUIRE(stats.used == 0);
    REQUIRE(stats.free_ranges == 1);
    REQUIRE(stats.largest_free == kSize);
  }
}

TEST_CASE("range allocator refuses what it cannot serve") {
  RangeAllocator allocator("test", 0x1000, 0x1000, 64);
  REQUIRE_THROWS_AS(allocator.allocate(0), cx::UsageError);
  REQUIRE_THROWS_AS(allocator.allocate(8, 3), cx::UsageError);
  REQUIRE_THROWS_AS(allocator.allocate(8, 0), cx::UsageError);
  REQUIRE_THROWS_AS(allocator.allocate(0x1001), cx::OutOfMemoryError);
  // Sizes that would wrap around when they are rounded up.
  REQUIRE_THROWS_AS(allocator.allocate(~0ull), cx::OutOfMemoryError);
  REQUIRE_THROWS_AS(allocator.allocate(~0ull - 63), cx::OutOfMemoryError);
  REQUIRE_THROWS_AS(allocator.allocate(8, 1ull << 63), cx::OutOfMemoryError);
  REQUIRE_THROWS_AS(allocator.release(0x1000), cx::UsageError);
  REQUIRE(allocator.allocate(0x1000) == 0x1000);
  REQUIRE_THROWS_WITH(allocator.allocate(1), Catch::Contains("4096 of 4096 bytes in use"));
  REQUIRE_THROWS_AS(allocator.release(0x1040), cx::UsageError);
  allocator.release(0x1000);
  REQUIRE_THROWS_AS(RangeAllocator("test", 1, 64, 64), cx::UsageError);
  REQUIRE_THROWS_AS(RangeAllocator("test", 0, 64, 48), cx::UsageError);
}

TEST_CASE("range allocator knows what lies inside one allocation") {
  RangeAllocator allocator("test", 0x1000, 0x1000, 64);
  const uint64_t a = allocator.allocate(100), b = allocator.allocate(64);
  REQUIRE(allocator.contains(a, 100));
  REQUIRE(allocator.contains(a + 99, 1));
  REQUIRE(allocator.contains(a + 100, 0));
  REQUIRE_FALSE(allocator.contains(a, 101));
  REQUIRE_FALSE(allocator.contains(a + 1, ~0ull));
  REQUIRE_FALSE(allocator.contains(a + 127, 2));
  REQUIRE_FALSE(allocator.contains(0xfff, 1));
  allocator.release(a);
  REQUIRE_FALSE(allocator.contains(a, 1));
  REQUIRE(allocator.contains(b, 64));
}

TEST_CASE("allocations have labels that reports and errors name") {
  RangeAllocator ranges("memory", 0, 4096, 64);
  CHECK(ranges.holdings_text().empty());
  const uint64_t a = ranges.allocate(1000, 1, "weights");
  ranges.allocate(24, 1, "weights");
  ranges.allocate(100);
  CHECK(ranges.holdings_text() == "weights 1024 bytes in 2, unnamed 100 bytes in 1");
  CHECK(ranges.holdings_text(1) == "weights 1024 bytes in 2, 1 more");
  CHECK(ranges.stats().fragmentation() == 0);
  try {
    ranges.allocate(4000, 1, "much");
    FAIL("expected an error");
  } catch (const cx::OutOfMemoryError &error) {
    const std::string text = error.what();
    CHECK(text.find("largest free range 2880 of 1") != std::string::npos);
    CHECK(text.find("held by weights 1024 bytes in 2, unnamed 100 bytes in 1") != std::string::npos);
  }
  ranges.release(a);
  CHECK(ranges.holdings_text() == "unnamed 100 bytes in 1, weights 24 bytes in 1");
  CHECK(ranges.stats().fragmentation() == Approx(1024.0 / (2880 + 1024)));
}
