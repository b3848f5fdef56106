// Energy of counts, through resets.
#include "hw/power/power.hpp"

#include <catch2/catch.hpp>

using cx::hw::Clock;
using cx::hw::Power;
using cx::hw::Price;
using Domain = cx::hw::PowerDomain;
using Energy = Power::Energy;

TEST_CASE("a product of m x n x k costs m * n * k times one") {
  Power power("gemm", Clock(1000), {});
  std::uint64_t products = 0, bytes = 0;
  power.add(Domain::dmmu, {0.34, 0.3, 0.5}, [&] { return products; });
  power.add(Domain::dmmu, {0.38, 0.38, 0.38}, [&] { return products; });
  power.add(Domain::dram, {40, 32, 48}, [&] { return bytes; });
  CHECK(power.energy(Domain::dmmu) == Energy{});
  constexpr std::uint64_t kM = 37, kN = 65, kK = 129;
  for (std::uint64_t i = 0; i < kM * kN; ++i) products += kK;
  CHECK(power.energy(Domain::dmmu) == Energy{kM * kN * kK * 720, kM * kN * kK * 680, kM * kN * kK * 880});
  CHECK(power.energy(Domain::dram) == Energy{});
  bytes = 3;
  CHECK(power.energy(Domain::dram) == Energy{120'000, 96'000, 144'000});
  CHECK(power.energy(Domain::leakage) == Energy{});
}

TEST_CASE("a reset that takes counts back leaves the energy") {
  Power power("resets", Clock(1000), {});
  std::uint64_t forgets = 0, remembers = 5;
  power.add(Domain::vpu, {1, 1, 1}, [&] { return forgets; });
  power.add(Domain::noc, {1, 1, 1}, [&] { return remembers; });
  CHECK(power.energy(Domain::noc).value == 0);  // what was counted before it was connected is not its affair
  forgets = 10;
  remembers = 12;
  power.before_reset();
  forgets = 0;
  power.after_reset();
  CHECK(power.energy(Domain::vpu).value == 10'000);
  CHECK(power.energy(Domain::noc).value == 7'000);
  forgets = 4;
  remembers = 13;
  CHECK(power.energy(Domain::vpu).value == 14'000);
  CHECK(power.energy(Domain::noc).value == 8'000);
  power.reset();
  CHECK(power.energy(Domain::vpu).value == 0);
  CHECK(power.energy(Domain::noc).value == 0);
  remembers = 14;
  CHECK(power.energy(Domain::noc).value == 1'000);
}
