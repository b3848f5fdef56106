// The list of memory errors and the texts of faults.
#include <bitset>
#include <catch2/catch.hpp>
#include <random>
#include <vector>

#include "hw/ras/fault_spec.hpp"
#include "hw/ras/memory_errors.hpp"
#include "hw/regs/gen/map.h"

using cx::hw::FaultSpec;
using cx::hw::FaultSpecError;
using cx::hw::MemoryErrors;
using cx::hw::parse_fault;
namespace secded = cx::hw::secded;

namespace {

// The code written out: a word of 72 bits is checked bit by bit.
using Word = std::bitset<secded::kBits>;

Word encode(uint64_t data) {
  Word word;
  for (unsigned at = 1, next = 0; at < secded::kBits; ++at) {
    if ((at & (at - 1)) != 0) word[at] = (data >> next++ & 1) != 0;
  }
  for (unsigned check = 1; check < secded::kBits; check *= 2) {
    bool parity = false;
    for (unsigned at = 1; at < secded::kBits; ++at) parity ^= (at & check) != 0 && word[at];
    word[check] = parity;
  }
  word[0] = word.count() % 2 != 0;
  return word;
}

struct Syndrome {
  unsigned position;
  bool odd;
};

Syndrome check(const Word &word) {
  Syndrome out{0, word.count() % 2 != 0};
  for (unsigned at = 1; at < secded::kBits; ++at) {
    if (word[at]) out.position ^= at;
  }
  return out;
}

}  // namespace

TEST_CASE("the verdict on every one and two wrong bits is that of the code") {
  const uint32_t seed = 3;
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const uint64_t data = random();
  REQUIRE(check(encode(data)).position == 0);
  REQUIRE_FALSE(check(encode(data)).odd);
  for (unsigned first = 0; first < secded::kBits; ++first) {
    Word one = encode(data);
    one.flip(first);
    const auto single = secded::decode(first, secded::kBits);
    REQUIRE(check(one).odd);
    REQUIRE(single.correctable);
    REQUIRE(single.bit == first);
    REQUIRE(single.syndrome == (check(one).position | 0x80u));
    for (unsigned second = first + 1; second < secded::kBits; ++second) {
      Word two = one;
      two.flip(second);
      const auto pair = secded::decode(first, second);
      REQUIRE_FALSE(check(two).odd);
      REQUIRE(check(two).position != 0);
      REQUIRE_FALSE(pair.correctable);
      REQUIRE(pair.syndrome == check(two).position);
      REQUIRE(pair.bit == 0xff);
    }
  }
}

TEST_CASE("a read corrects what can be corrected, once, and finds the first word that cannot") {
  MemoryErrors errors;
  std::vector<MemoryErrors::Report> corrected, uncorrected;
  errors.connect({[&](const auto &report) { corrected.push_back(report); },
                  [&](const auto &report) { uncorrected.push_back(report); },
                  [](uint64_t address) { return static_cast<uint32_t>(address / 64); }});
  REQUIRE(errors.empty());
  errors.inject(0x105, 7, secded::kBits);
  errors.inject(0x200, 3, 4);
  errors.inject(0x300, 1, 2);
  REQUIRE_FALSE(errors.read(0x0, 0x100));
  REQUIRE_FALSE(errors.read(0x108, 8));
  REQUIRE(corrected.empty());
  REQUIRE_FALSE(errors.read(0x107, 1));
  REQUIRE(corrected.size() == 1);
  REQUIRE(corrected[0].address == 0x100);
  REQUIRE(corrected[0].channel == 4);
  REQUIRE(corrected[0].bit == 7);
  REQUIRE_FALSE(errors.read(0x100, 8));
  REQUIRE(corrected.size() == 1);
  REQUIRE(errors.read(0x0, 0x400) == 0x200u);
  REQUIRE(errors.read(0x201, 1) == 0x200u);
  REQUIRE(uncorrected.back().syndrome == (3 ^ 4));

  SECTION("a word that is written whole is good again") {
    errors.write(0x200, 8);
    REQUIRE(errors.read(0x0, 0x400) == 0x300u);
    errors.write(0x2ff, 10);
    REQUIRE(errors.empty());
  }
  SECTION("one that is written in part is read first") {
    errors.write(0x204, 8);
    REQUIRE(errors.read(0x200, 8) == 0x200u);
    errors.inject(0x400, 9, secded::kBits);
    errors.write(0x401, 2);
    REQUIRE(corrected.size() == 2);
  }
}

TEST_CASE("texts of faults") {
  const FaultSpec ecc =
      parse_fault("ecc_uncorrected@address=0x1000000040,bytes=4096,after_launches=2,bit=3,second_bit=9");
  REQUIRE(ecc.kind == FaultSpec::Kind::ecc_uncorrected);
  REQUIRE(ecc.address == 0x10'0000'0040u);
  REQUIRE(ecc.bytes == 4096);
  REQUIRE(ecc.after_launches == 2u);
  REQUIRE(ecc.bit == 3u);
  REQUIRE(ecc.second_bit == 9u);
  REQUIRE(ecc.in_dram(4096 + 64));
  REQUIRE_FALSE(ecc.in_dram(4096 + 63));
  REQUIRE(parse_fault("engine_hang@engine=dmmu,cure=engine_reset").cure == FaultSpec::Cure::engine_reset);
  REQUIRE(parse_fault("link_down").duration_us == 1000);
  REQUIRE(parse_fault("thermal_trip@celsius=95,at_us=1.5").at_us == 1.5);
  REQUIRE(parse_fault("firmware_crash@lockup=1,rate_hz=10,count=3,seed=8").lockup);

  const auto refused = [](const char *text, const char *words) {
    INFO(text);
    REQUIRE_THROWS_WITH(parse_fault(text), Catch::Contains(words));
  };
  refused("", "kind: expected one of iommu");
  refused("ecc", "kind: expected one of");
  refused("iommu@", "expected key=value");
  refused("iommu@count", "expected key=value, got 'count'");
  refused("iommu@=3", "expected key=value");
  refused("iommu@engine=load", "engine: iommu has no such key");
  refused("iommu@count=0", "count: expected an integer from 1");
  refused("iommu@count=1x", "count: expected an integer");
  refused("iommu@at_us=-1", "at_us: expected a number");
  refused("iommu@rate_hz=nan", "rate_hz: expected a number");
  refused("iommu@seed=99999999999999999999", "seed: expected an integer");
  refused("iommu@count=1,count=2", "count: is given twice");
  refused("iommu@at_us=1,after_packets=1", "exclude each other");
  refused("engine_hang@engine=cpu", "engine: expected the name of an engine");
  refused("engine_hang@cure=luck", "cure: expected queue_reset");
  refused("bad_address@engine=vpu", "engine: expected load or store");
  refused("ecc_corrected@bytes=64", "bytes: needs address");
  refused("ecc_corrected@address=0x1000000000,bytes=4", "bytes: expected an integer from 8");
  refused("ecc_corrected@bit=72", "bit: expected an integer from 0 to 71");
  refused("ecc_corrected@second_bit=1", "second_bit: ecc_corrected has no such key");
  refused("ecc_uncorrected@bit=5,second_bit=5", "second_bit: expected another one");
  refused("firmware_crash@lockup=2", "lockup: expected an integer from 0 to 1");
  refused("thermal_trip@celsius=70000", "celsius: expected an integer");
  refused("link_down@duration_us=x", "duration_us: expected a number");
}
