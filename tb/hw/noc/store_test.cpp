#include "hw/noc/store.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <system_error>

using cx::hw::Store;

TEST_CASE("a store is zero until it is written and after clear()") {
  for (const std::uint64_t bytes : {std::uint64_t{1}, std::uint64_t{5000}, std::uint64_t{3} << 20}) {
    CAPTURE(bytes);
    Store store(bytes, "memory");
    REQUIRE(store.bytes() >= bytes);
    std::byte *first = store.data();
    std::byte *end = first + bytes;
    const auto zero = [](std::byte b) { return b == std::byte{0}; };
    CHECK(std::all_of(first, end, zero));
    std::fill(first, end, std::byte{7});
    CHECK(std::none_of(first, end, zero));
    store.clear();
    CHECK(std::all_of(first, end, zero));
  }
}

TEST_CASE("a store costs what is used of it, and says when there is no room") {
  Store large(std::uint64_t{1} << 40, "memory");
  large.data()[(std::uint64_t{1} << 40) - 1] = std::byte{1};
  CHECK(reinterpret_cast<std::uintptr_t>(large.data()) % (1 << 21) == 0);
  CHECK_THROWS_AS(Store(std::uint64_t{1} << 62, "memory"), std::system_error);
}
