// The power block of a whole card, through its registers.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>

#include "hw/regs/gen/perf_regs.h"
#include "hw/regs/gen/power_regs.h"
#include "tb/hw/chip/card.hpp"

using namespace cx;
using tb::Card;

namespace {

constexpr uint64_t kPower = CX_MAP_POWER_OFFSET;
constexpr unsigned kDomains = CX_POWER_DOMAINS_RESET + 1;
// Table n7 on the chip 'tiny', pJ.
constexpr double kDramByte = 8 * 5, kPcieByte = 8 * 6.5, kNocByte = 8 * 2 * 1 * 0.07, kInstruction = 7.7,
                 kDmaByte = 1.9;
// A register access on the wire: 4 bytes, 8 around a packet, 16 (request) or 12 (completion) in front.
constexpr double kWriteOnWire = 4 + 8 + 16;

uint64_t read64(Card &card, uint64_t offset) {
  const uint64_t low = card.read(offset);
  return low | uint64_t{card.read(offset + 4)} << 32;
}

void latch(Card &card, unsigned slot) { card.write(kPower + CX_POWER_LATCH, slot); }

uint64_t energy(Card &card, unsigned slot, unsigned domain) {
  return read64(card, kPower + CX_POWER_ENERGY_LO(slot * 16 + domain));
}

/// Picojoules between the two captures.
double spent(Card &card, unsigned domain) {
  return 1e-3 * static_cast<double>(energy(card, 1, domain) - energy(card, 0, domain));
}

uint64_t cycles_between(Card &card) {
  return read64(card, kPower + CX_POWER_TIME_LO(1)) - read64(card, kPower + CX_POWER_TIME_LO(0));
}

void settle(Card &card) {
  cx_port_advance(card.port(), 100'000'000);
  card.take_interrupts();
}

/// mW: multipliers, lanes, KiB of memory, DRAM, link.
double leakage_of_tiny() {
  const double kib = 512 + 256 + 2 * 256 * 8 * 4 / 1024.0 + 2 * (32 * 8 * 8 * 4 + 2 * 256 * 8 * 2) / 1024.0;
  return (2 * 64 + 2 * 64) * 0.244 + 8 * 0.49 + kib * 0.302 + 0.05 * 12.8 * kDramByte +
         0.1 * 2 * 4 * 8 * 128 / 130.0 / 8 * kPcieByte;
}

Approx about(double value) { return Approx(value).epsilon(1e-9).margin(0.002); }

}  // namespace

TEST_CASE("an idle card leaks, and nothing else") {
  Card card;
  card.enable();
  card.boot();
  card.enable_queue();
  settle(card);
  CHECK(card.read(kPower + CX_POWER_LEAKAGE_MW) == static_cast<uint32_t>(leakage_of_tiny() + 0.5));
  latch(card, 0);
  settle(card);
  latch(card, 1);
  settle(card);  // a read request is on the wire before the write in front of it has arrived
  const uint64_t cycles = cycles_between(card);
  REQUIRE(cycles > 0);
  constexpr double kNanoseconds = 2;  // of a cycle
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_LEAKAGE) ==
        about(static_cast<double>(cycles) * kNanoseconds * leakage_of_tiny()));
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_PCIE) == about(kWriteOnWire * kPcieByte));
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_NOC) == about(4 * kNocByte));
  for (unsigned domain = 0; domain < kDomains; ++domain) {
    if (domain == CX_POWER_DOMAINS_LAST_LEAKAGE || domain == CX_POWER_DOMAINS_LAST_PCIE ||
        domain == CX_POWER_DOMAINS_LAST_NOC) {
      continue;
    }
    INFO("domain " << domain);
    CHECK(spent(card, domain) == 0);
  }
  // Numbers without a domain read as 0.
  for (unsigned number = kDomains; number < 16; ++number) CHECK(energy(card, 1, number) == 0);
}

TEST_CASE("a copy costs its bytes on every way that they take, and the firmware its instructions") {
  Card card;
  card.enable();
  card.boot();
  card.enable_queue();
  settle(card);
  constexpr uint32_t kBytes = 1 << 16;
  const auto instructions = [&] { return read64(card, CX_MAP_DEV_OFFSET + CX_DEV_CP_INSTRET_LO); };
  const uint64_t first_instructions = instructions(), first_noc = read64(card, CX_MAP_PERF_OFFSET + CX_PERF_NOC_LO);
  latch(card, 0);
  const auto done =
      card.run(card.copy(packets::Direction::HOST_TO_DEVICE, Card::kHostBase + Card::kData, CX_MEM_DRAM_BASE, kBytes));
  REQUIRE(done.status == CX_STATUS_OK);
  settle(card);
  latch(card, 1);
  const uint64_t second_noc = read64(card, CX_MAP_PERF_OFFSET + CX_PERF_NOC_LO);
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_DRAM) == about(kBytes * kDramByte));
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_CP) ==
        about(static_cast<double>(instructions() - first_instructions) * kInstruction));
  // Packet (64 bytes) and completion record (32) go through the same engine.
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_DMA) == about((kBytes + 64 + 32) * kDmaByte));
  // Between the two readings of the NoC's counter lie the word that was read first, both captures, and what was spent.
  const double noc = static_cast<double>(second_noc - first_noc) * kNocByte;
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_NOC) < noc);
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_NOC) > noc - 16 * kNocByte);
  // 256 completions of 256 bytes with 12 + 8 around; requests, acknowledgements, packet, record and message are less
  // than a tenth.
  const double link = kBytes + 256.0 * (12 + 8);
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_PCIE) > link * kPcieByte);
  CHECK(spent(card, CX_POWER_DOMAINS_LAST_PCIE) < 1.1 * link * kPcieByte);
  for (const unsigned domain : {CX_POWER_DOMAINS_LAST_DMMU, CX_POWER_DOMAINS_LAST_SCA, CX_POWER_DOMAINS_LAST_VPU}) {
    CHECK(spent(card, domain) == 0);
  }
  const unsigned dram = 16 + CX_POWER_DOMAINS_LAST_DRAM;
  const uint64_t value = energy(card, 1, CX_POWER_DOMAINS_LAST_DRAM);
  CHECK(read64(card, kPower + CX_POWER_LEAST_LO(dram)) == value * 4 / 5);  // LPDDR5: 4 to 6 pJ a bit, 5 taken
  CHECK(read64(card, kPower + CX_POWER_MOST_LO(dram)) == value * 6 / 5);
}

TEST_CASE("energy outlives a soft reset, not a power cycle, and is the same in every life") {
  uint64_t lives[2][kDomains];
  for (auto &life : lives) {
    Card card;
    card.enable();
    card.boot();
    card.enable_queue();
    REQUIRE(card.run(packets::Nop{}).status == CX_STATUS_OK);
    settle(card);
    latch(card, 0);
    card.write(CX_MAP_DEV_OFFSET + CX_DEV_RESET_CTRL, CX_DEV_RESET_CTRL_SOFT_RESET_MASK | 1);
    latch(card, 1);
    for (unsigned domain = 0; domain < kDomains; ++domain) {
      INFO("domain " << domain);
      CHECK(energy(card, 1, domain) >= energy(card, 0, domain));
    }
    CHECK(energy(card, 1, CX_POWER_DOMAINS_LAST_CP) == energy(card, 0, CX_POWER_DOMAINS_LAST_CP));
    CHECK(energy(card, 1, CX_POWER_DOMAINS_LAST_CP) > 0);
    for (unsigned domain = 0; domain < kDomains; ++domain) life[domain] = energy(card, 1, domain);
  }
  for (unsigned domain = 0; domain < kDomains; ++domain) {
    INFO("domain " << domain);
    CHECK(lives[0][domain] == lives[1][domain]);
  }
}

TEST_CASE("an idle die warms by what it leaks, as one thermal resistance and capacity do") {
  constexpr double kResistance = 20, kCapacity = 1e-6;  // the sink stays cold
  Card card({"thermal.model=true", "thermal.r_junction_c_per_w=20", "thermal.c_junction_j_per_c=0.000001",
             "thermal.c_sink_j_per_c=100000", "thermal.ambient_c=30"});
  card.enable();
  CHECK((card.read(kPower + CX_POWER_THERMAL) & CX_POWER_THERMAL_MODELLED_MASK) != 0);
  const double leaked = 1e-3 * (leakage_of_tiny() - 0.05 * 12.8 * kDramByte);  // without the DRAM
  for (int i = 0; i < 3; ++i) {
    for (int access = 0; access < 20; ++access) card.read(CX_MAP_DEV_OFFSET + CX_DEV_MAGIC);  // takes a microsecond
    latch(card, i & 1);
    settle(card);
    const double seconds = 2e-9 * static_cast<double>(read64(card, kPower + CX_POWER_TIME_LO(i & 1)));
    double traffic = 0;  // of the accesses
    for (const unsigned domain : {CX_POWER_DOMAINS_LAST_NOC, CX_POWER_DOMAINS_LAST_PCIE}) {
      traffic += 1e-15 * static_cast<double>(energy(card, i & 1, domain));
    }
    const double watts = leaked + traffic / seconds;
    const double rise = kResistance * watts * (1 - std::exp(-seconds / (kResistance * kCapacity)));
    const double junction = 1e-3 * card.read(kPower + CX_POWER_JUNCTION_MC(i & 1));
    INFO("after " << seconds << " s");
    CHECK(junction - 30 == Approx(rise).epsilon(0.005).margin(0.002));
    CHECK(card.read(kPower + CX_POWER_PEAK_MC(i & 1)) == card.read(kPower + CX_POWER_JUNCTION_MC(i & 1)));
    CHECK(read64(card, kPower + CX_POWER_THROTTLED_LO(i & 1)) == 0);
  }
}

TEST_CASE("without a thermal model there is no temperature; the operating point is the nominal one") {
  Card card;
  card.enable();
  latch(card, 0);
  settle(card);
  CHECK(card.read(kPower + CX_POWER_THERMAL) == 0);
  CHECK(card.read(kPower + CX_POWER_JUNCTION_MC(0)) == 0);
  CHECK(card.read(kPower + CX_POWER_POINT) == 0);
  CHECK(card.read(kPower + CX_POWER_CORE_MV) == 750);
  CHECK(card.read(CX_MAP_DEV_OFFSET + CX_DEV_CLOCK_KHZ) == 500'000);
}

TEST_CASE("a card runs at the operating point of its configuration") {
  Card card({"power.points=[300@0.6, 800@0.9]", "power.point=2"});
  card.enable();
  CHECK(card.read(kPower + CX_POWER_POINT) == (2u << CX_POWER_POINT_COUNT_SHIFT | 2));
  CHECK(card.read(kPower + CX_POWER_CORE_MV) == 900);
  CHECK(card.read(CX_MAP_DEV_OFFSET + CX_DEV_CLOCK_KHZ) == 800'000);
}
