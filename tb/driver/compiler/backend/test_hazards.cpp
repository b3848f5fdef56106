// Dependences of accesses against a record of every single byte.
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "driver/compiler/backend/hazards.hpp"
#include "tb/common/seed.hpp"

using namespace cx::compiler::backend;

namespace {

/// Who wrote each byte last, and who has read it since.
class ByteRecord {
 public:
  explicit ByteRecord(std::size_t bytes) : bytes_(bytes) {}

  void access(int64_t begin, int64_t end, bool write, int engine, int64_t index, HazardMap::Latest &needed) {
    for (int64_t at = begin; at < end; ++at) {
      Byte &byte = bytes_[static_cast<std::size_t>(at)];
      if (byte.writer >= 0) raise(needed, byte.writer_engine, byte.writer);
      if (write) {
        for (int e = 0; e < static_cast<int>(kEngines); ++e)
          raise(needed, e, byte.readers[static_cast<std::size_t>(e)]);
        byte = {index, engine, {}};
        byte.readers.fill(-1);
      } else {
        byte.readers[static_cast<std::size_t>(engine)] = index;
      }
    }
  }

 private:
  struct Byte {
    int64_t writer = -1;
    int writer_engine = -1;
    HazardMap::Latest readers = [] {
      HazardMap::Latest none{};
      none.fill(-1);
      return none;
    }();
  };

  static void raise(HazardMap::Latest &needed, int engine, int64_t index) {
    int64_t &need = needed[static_cast<std::size_t>(engine)];
    need = std::max(need, index);
  }

  std::vector<Byte> bytes_;
};

}  // namespace

TEST_CASE("an access depends on the last writer, a write on the readers since then") {
  const uint32_t seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 30; ++round) {
    const int64_t bytes = 1 + static_cast<int64_t>(random() % 300);
    HazardMap map;
    ByteRecord record(static_cast<std::size_t>(bytes));
    for (int64_t index = 0; index < 1000; ++index) {
      int64_t begin = static_cast<int64_t>(random() % static_cast<uint32_t>(bytes + 1));
      int64_t end = static_cast<int64_t>(random() % static_cast<uint32_t>(bytes + 1));
      if (begin > end && random() % 8 != 0) std::swap(begin, end);  // else nothing
      const bool write = random() % 3 == 0;
      const int engine = static_cast<int>(random() % kEngines);
      HazardMap::Latest got, expected;
      got.fill(-1);
      expected.fill(-1);
      map.access(begin, end, write, engine, index, got);
      record.access(begin, end, write, engine, index, expected);
      INFO("access " << index << " to " << begin << " .. " << end);
      REQUIRE(got == expected);
    }
  }
}
