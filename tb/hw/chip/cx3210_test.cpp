// The shipping inference card: it boots, and large copies run near its PCIe link's rate.
#include <catch2/catch.hpp>
#include <cstring>

#include "tb/hw/chip/card.hpp"

using namespace cx;
using namespace cx::tb;

TEST_CASE("cx3210 boots and copies at the rate of PCIe Gen4 x16") {
  Card card({}, "configs/chips/cx3210.yaml");
  card.enable();
  card.boot();
  card.enable_queue();
  CHECK(card.read(CX_MAP_DEV_OFFSET + CX_DEV_DRAM_MIB) == 16384);
  constexpr uint32_t kBytes = 1 << 20;
  uint8_t *data = &card.host()[Card::kData];
  for (uint32_t i = 0; i < kBytes; ++i) data[i] = static_cast<uint8_t>(i * 11 >> 2);
  const uint64_t host = Card::kHostBase + Card::kData;
  const uint64_t device = CX_MEM_DRAM_BASE + (uint64_t{16383} << 20);  // the last MiB
  const auto in = card.run(card.copy(packets::Direction::HOST_TO_DEVICE, host, device, kBytes));
  REQUIRE(in.status == CX_STATUS_OK);
  const auto out = card.run(card.copy(packets::Direction::DEVICE_TO_HOST, device, host + kBytes, kBytes));
  REQUIRE(out.status == CX_STATUS_OK);
  CHECK(std::memcmp(data, data + kBytes, kBytes) == 0);
  // 31.5 GB/s less packet overhead; latency and firmware take the rest.
  CHECK(kBytes / static_cast<double>(in.end - in.start) > 26);
  CHECK(kBytes / static_cast<double>(in.end - in.start) < 29);
  CHECK(kBytes / static_cast<double>(out.end - out.start) > 26);
  CHECK(kBytes / static_cast<double>(out.end - out.start) < 29);

  const auto beyond = card.run(card.copy(packets::Direction::HOST_TO_DEVICE, host, device + kBytes - 1, 2));
  CHECK(beyond.status == CX_STATUS_BAD_ADDRESS);
}
