// Address mappings: their text, that they lose no address, and requests as strips against single bursts.
#include "hw/dram/mapping.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tb/common/seed.hpp"

using namespace cx::hw;

namespace {

constexpr DramGeometry kGeometry{.channels = 4,
                                 .pseudo_channels = 2,
                                 .ranks = 2,
                                 .bank_groups = 4,
                                 .banks = 4,
                                 .row_bytes = 1024,
                                 .burst_bytes = 32};

const char *const kMappings[] = {"ro ra ba co ch pc co:1 bg", "ro ba co pc bg ch:1 ra co:2 ch", "ro ch ra bg ba pc co",
                                 "ro co ch ba bg pc ra", "ro ra:1 co:3 pc ba ch bg co"};

void expand(const AddressMapping &mapping, const std::vector<AddressMapping::Part> &parts,
            std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::uint64_t> &out) {
  const auto &pattern = mapping.pattern();
  for (const auto &part : parts) {
    for (std::uint32_t i = 0; i < part.strip.bursts; ++i) {
      const std::uint32_t bank = pattern[(part.strip.first + i) % pattern.size()] ^ part.strip.flip;
      ++out[{part.channel, bank, part.strip.row}];
    }
  }
}

std::string refusal(const char *mapping, const char *hash = "") {
  try {
    AddressMapping made(mapping, hash, kGeometry);
  } catch (const std::invalid_argument &error) {
    return error.what();
  }
  FAIL(mapping << " was accepted");
  return {};
}

}  // namespace

TEST_CASE("the fields of an address are where the text puts them") {
  const AddressMapping mapping("ro ra ba co ch pc co:1 bg", "", kGeometry);
  // burst 32: 5 bits; bg 5-6, co 7, pc 8, ch 9-10, co 11-14, ba 15-16, ra 17, ro 18
  CHECK(mapping.place(0) == DramPlace{});
  CHECK(mapping.place(3 << 5) == DramPlace{0, 12, 0, 0});
  CHECK(mapping.place(1 << 7) == DramPlace{0, 0, 0, 1});
  CHECK(mapping.place(1 << 8) == DramPlace{1, 0, 0, 0});
  CHECK(mapping.place(2 << 9) == DramPlace{4, 0, 0, 0});
  CHECK(mapping.place(1 << 11) == DramPlace{0, 0, 0, 2});
  CHECK(mapping.place(3 << 15) == DramPlace{0, 3, 0, 0});
  CHECK(mapping.place(1 << 17) == DramPlace{0, 16, 0, 0});
  CHECK(mapping.place(5 << 18) == DramPlace{0, 0, 5, 0});
  CHECK(mapping.pattern() == std::vector<std::uint32_t>{0, 4, 8, 12});
  const AddressMapping hashed("ro ra ba co ch pc co:1 bg", "bg ch", kGeometry);
  CHECK(hashed.place(5ull << 18) == DramPlace{2, 4, 5, 0});
}

TEST_CASE("no two addresses share a place") {
  for (const char *text : kMappings) {
    for (const char *hash : {"", "bg ba ch pc ra", "pc ch"}) {
      INFO(text << " / " << hash);
      const AddressMapping mapping(text, hash, kGeometry);
      std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, std::uint32_t>> seen;
      constexpr std::uint64_t kBursts = 1 << 15;
      for (std::uint64_t burst = 0; burst < kBursts; ++burst) {
        const DramPlace p = mapping.place(burst * 32);
        REQUIRE(p.channel < kGeometry.all_channels());
        REQUIRE(p.bank < kGeometry.all_banks());
        REQUIRE(p.column < kGeometry.row_bytes / kGeometry.burst_bytes);
        seen.insert({p.channel, p.bank, p.row, p.column});
      }
      CHECK(seen.size() == kBursts);
    }
  }
}

TEST_CASE("requests as strips are the bursts of their addresses") {
  const std::uint32_t seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  std::vector<AddressMapping::Part> parts;
  for (const char *text : kMappings) {
    for (const char *hash : {"", "bg ba ch pc ra"}) {
      const AddressMapping mapping(text, hash, kGeometry);
      for (unsigned trial = 0; trial < 200; ++trial) {
        const std::uint64_t offset = random() % (1 << 22);
        const std::uint64_t span = 1 + random() % (trial % 2 == 0 ? 2000 : 300000);
        INFO(text << " / " << hash << ": " << offset << " + " << span);
        mapping.parts(offset, span, span, parts);
        std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::uint64_t> got;
        std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>, std::uint64_t> wanted;
        expand(mapping, parts, got);
        std::uint64_t bursts = 0;
        for (std::uint64_t at = offset / 32 * 32; at < offset + span; at += 32, ++bursts) {
          const DramPlace p = mapping.place(at);
          ++wanted[{p.channel, p.bank, p.row}];
        }
        REQUIRE(got == wanted);
        REQUIRE(mapping.bursts(offset, span, span) == bursts);
        // A strided request: as many bursts as its bytes need, all within the span.
        const std::uint64_t bytes = 1 + random() % span;
        mapping.parts(offset, span, bytes, parts);
        got.clear();
        expand(mapping, parts, got);
        std::uint64_t taken = 0;
        for (const auto &[place, count] : got) {
          taken += count;
          REQUIRE(wanted.count(place) == 1);
        }
        REQUIRE(taken == mapping.bursts(offset, span, bytes));
        REQUIRE(taken == (bytes == span ? bursts : std::min(bursts, (bytes + 31) / 32)));
      }
    }
  }
  const AddressMapping mapping(kMappings[0], "", kGeometry);
  mapping.parts(100, 0, 0, parts);
  CHECK(parts.empty());
}

TEST_CASE("mistakes in the text of a mapping are named") {
  CHECK(refusal("").find("must come first") != std::string::npos);
  CHECK(refusal("co ro").find("must come first") != std::string::npos);
  CHECK(refusal("ro:3 ra ba co ch pc bg").find("must come first") != std::string::npos);
  CHECK(refusal("ro ra ba co ch pc xx").find("'xx'") != std::string::npos);
  CHECK(refusal("ro ra ba co ch pc bg:0").find("1 to 32 bits") != std::string::npos);
  CHECK(refusal("ro ra ba co ch pc bg:two").find("1 to 32 bits") != std::string::npos);
  CHECK(refusal("ro ra ba co ch pc bg:3").find("'bg' has 3 bits here and 2") != std::string::npos);
  CHECK(refusal("ro ra ba co:4 ch pc bg").find("'co' has 4 bits here and 5") != std::string::npos);
  CHECK(refusal("ro ra ba co ch pc").find("'bg' has 0 bits here and 2") != std::string::npos);
  CHECK(refusal("ro ra ba co co ch pc bg").find("'co' is given twice") != std::string::npos);
  CHECK(refusal(kMappings[0], "ro").find("'ro'") != std::string::npos);
  CHECK(refusal(kMappings[0], "co").find("'co'") != std::string::npos);
  CHECK(refusal(kMappings[0], "bank").find("'bank'") != std::string::npos);
  CHECK(refusal(kMappings[0], "bg bg").find("given twice") != std::string::npos);
}
