// A chip whose DRAM has the timing of a part: packets work, counters say what its buses did.
#include <catch2/catch.hpp>
#include <cstring>

#include "hw/regs/gen/perf_regs.h"
#include "tb/hw/chip/card.hpp"

using namespace cx;
using namespace cx::tb;

TEST_CASE("copies within an HBM2E memory: data, counters of rows, time of the buses") {
  Card card({"dram.preset=hbm2e_3200", "dram.channels=2"});
  card.enable();
  card.boot();
  card.enable_queue();
  const auto counter = [&](uint64_t low) {
    return card.read(CX_MAP_PERF_OFFSET + low) | uint64_t{card.read(CX_MAP_PERF_OFFSET + low + 4)} << 32;
  };
  constexpr uint32_t kBytes = 1 << 20;
  constexpr uint64_t kBurst = 32;
  uint8_t *data = &card.host()[Card::kData];
  for (uint32_t i = 0; i < kBytes; ++i) data[i] = static_cast<uint8_t>(i * 11 >> 2);
  const uint64_t host = Card::kHostBase + Card::kData;
  REQUIRE(card.run(card.copy(packets::Direction::HOST_TO_DEVICE, host, CX_MEM_DRAM_BASE, kBytes)).status ==
          CX_STATUS_OK);
  REQUIRE(
      card.run(card.copy(packets::Direction::DEVICE_TO_DEVICE, CX_MEM_DRAM_BASE, CX_MEM_DRAM_BASE + 0x1000000, kBytes))
          .status == CX_STATUS_OK);
  REQUIRE(card.run(card.copy(packets::Direction::DEVICE_TO_HOST, CX_MEM_DRAM_BASE + 0x1000000, host + kBytes, kBytes))
              .status == CX_STATUS_OK);
  CHECK(std::memcmp(data, data + kBytes, kBytes) == 0);

  const uint64_t bytes = counter(CX_PERF_DRAM_RD_LO) + counter(CX_PERF_DRAM_WR_LO);
  CHECK(bytes >= 4 * uint64_t{kBytes});
  const uint64_t rows =
      counter(CX_PERF_DRAM_ROW_HITS_LO) + counter(CX_PERF_DRAM_ROW_MISSES_LO) + counter(CX_PERF_DRAM_ROW_CONFLICTS_LO);
  // Writes that wait are not counted yet: at most 32 in each of four pseudo channels.
  CHECK(rows <= bytes / kBurst);
  CHECK(rows + 4 * 32 >= bytes / kBurst);
  CHECK(counter(CX_PERF_DRAM_ROW_HITS_LO) > rows * 9 / 10);
  // A burst is two ticks of 625 ps.
  CHECK(counter(CX_PERF_DRAM_BUSY_NS_LO) == rows * 1250 / 1000);
  CHECK(counter(CX_PERF_DRAM_REFRESHES_LO) > 0);
  CHECK(counter(CX_PERF_DRAM_TURNS_LO) > 0);
  CHECK(counter(CX_PERF_DRAM_REFRESH_NS_LO) > 0);
  CHECK(counter(CX_PERF_DRAM_TURN_NS_LO) > 0);
  CHECK(counter(CX_PERF_DRAM_CODE_LO) == 0);
}
