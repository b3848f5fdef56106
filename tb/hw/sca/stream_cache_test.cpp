// The cache of decoded streams: it finds what is exactly the same, and stays within its limit.
#include "hw/sca/stream_cache.hpp"

#include <catch2/catch.hpp>

using namespace cx::hw;

namespace {

const StreamCache::Key kKey{1, 2, 3, 4, 5, 6};

std::shared_ptr<const DecodedStream> decoded(size_t nonzeros) {
  auto result = std::make_shared<DecodedStream>();
  result->columns.rows.resize(nonzeros);
  result->columns.raw.resize(nonzeros);
  return result;
}

std::vector<uint8_t> stream(size_t bytes, uint8_t first) {
  std::vector<uint8_t> result(bytes, 7);
  result[0] = first;
  return result;
}

}  // namespace

TEST_CASE("a stream is found again if all of it and all of its key are the same") {
  StreamCache cache(1000);
  std::vector<uint8_t> bytes = stream(40, 1);
  CHECK(cache.find(kKey, bytes) == nullptr);
  const auto value = decoded(10);
  cache.add(kKey, bytes, value);
  CHECK(cache.find(kKey, bytes) == value);
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      bytes[at] = static_cast<uint8_t>(bytes[at] ^ 1u << bit);
      CHECK(cache.find(kKey, bytes) == nullptr);
      bytes[at] = static_cast<uint8_t>(bytes[at] ^ 1u << bit);
    }
  }
  CHECK(cache.find(kKey, std::span(bytes).first(39)) == nullptr);
  bytes.push_back(0);
  CHECK(cache.find(kKey, bytes) == nullptr);
  bytes.pop_back();
  for (const StreamCache::Key &other : {StreamCache::Key{0, 2, 3, 4, 5, 6},
                                        {1, 0, 3, 4, 5, 6},
                                        {1, 2, 0, 4, 5, 6},
                                        {1, 2, 3, 0, 5, 6},
                                        {1, 2, 3, 4, 0, 6},
                                        {1, 2, 3, 4, 5, 0}}) {
    CHECK(cache.find(other, bytes) == nullptr);
  }
  CHECK(cache.find(kKey, bytes) == value);
}

TEST_CASE("what was used longest ago goes; what is too large never comes") {
  StreamCache cache(300);  // three entries of 60 + 40 bytes
  const auto add = [&](uint8_t name) { cache.add(kKey, stream(60, name), decoded(10)); };
  const auto has = [&](uint8_t name) { return cache.find(kKey, stream(60, name)) != nullptr; };
  for (uint8_t name : {1, 2, 3}) add(name);
  CHECK(cache.bytes() == 300);
  CHECK(has(1));
  add(4);
  CHECK(cache.bytes() == 300);
  CHECK_FALSE(has(2));
  CHECK(has(3));
  CHECK(has(4));
  CHECK(has(1));
  cache.add(kKey, stream(60, 5), decoded(61));
  CHECK_FALSE(has(5));
  CHECK(cache.bytes() == 300);
  cache.add(kKey, stream(60, 6), decoded(60));  // all of the limit
  CHECK(has(6));
  CHECK_FALSE(has(1));
  CHECK(cache.bytes() == 300);
}

TEST_CASE("there are never too many entries to look through") {
  StreamCache cache(1'000'000);
  for (size_t i = 0; i <= StreamCache::kMostEntries; ++i) {
    cache.add(kKey, std::vector<uint8_t>{static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8)}, decoded(0));
  }
  CHECK(cache.bytes() == 2 * StreamCache::kMostEntries);
  CHECK(cache.find(kKey, std::vector<uint8_t>{0, 0}) == nullptr);
  CHECK(cache.find(kKey, std::vector<uint8_t>{1, 0}) != nullptr);
}
