// The endpoint's parts that need no simulation: link timing, configuration space, host memory.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "hw/common/port/pci_id.h"
#include "hw/pcie/config_space.hpp"
#include "hw/pcie/host_memory.hpp"
#include "hw/pcie/link.hpp"
#include "tb/common/data.hpp"

using namespace cx::hw;

namespace {

ConfigSpaceParams params() {
  ConfigSpaceParams p;
  p.vendor_id = 0xc5a1;
  p.device_id = 0x3210;
  p.bar0_bytes = 1 << 20;
  p.bar2_bytes = 256 << 10;
  p.bar4_bytes = 64 << 20;
  p.gen = 4;
  p.width = 16;
  p.mps = 256;
  p.mrrs = 512;
  return p;
}

uint32_t get(const ConfigSpace &space, uint32_t offset, unsigned size = 4) {
  uint32_t value = 0;
  REQUIRE(space.read(offset, size, value));
  return value;
}

}  // namespace

TEST_CASE("rates of the generations") {
  CHECK(PcieLink::bytes_per_second(1, 1) == Approx(250e6));
  CHECK(PcieLink::bytes_per_second(2, 4) == Approx(2e9));
  CHECK(PcieLink::bytes_per_second(3, 1) == Approx(984.6e6).epsilon(1e-4));
  CHECK(PcieLink::bytes_per_second(4, 16) == Approx(31.508e9).epsilon(1e-4));
  CHECK(PcieLink::bytes_per_second(5, 16) == Approx(63.015e9).epsilon(1e-4));
  CHECK(PcieLink::bytes_per_second(6, 16) == Approx(118e9).epsilon(1e-4));
  CHECK_THROWS_AS(PcieLink::bytes_per_second(0, 16), std::invalid_argument);
  CHECK_THROWS_AS(PcieLink::bytes_per_second(7, 16), std::invalid_argument);
  CHECK_THROWS_AS(PcieLink::bytes_per_second(4, 0), std::invalid_argument);
  CHECK_THROWS_AS(PcieLink::bytes_per_second(4, 32), std::invalid_argument);
}

TEST_CASE("link timing follows the stated formula") {
  const Clock clock(1000);
  const PcieLinkParams p{4, 16, 256, 512, 350};
  const double per_cycle = PcieLink::bytes_per_second(4, 16) * 1e-9;
  const auto cycles = [&](double wire) { return wire / per_cycle; };
  PcieLink link(clock, p);
  CHECK(link.latency() == 350);

  // 1 MiB of DMA writes: 4096 packets of 256 + 24 bytes.
  CHECK(link.dma_write(1000, {1, 1 << 20}) == Approx(1000 + cycles(4096 * 280)).margin(2));
  CHECK(link.bytes_to_host() == 1 << 20);
  link.reset();
  CHECK(link.bytes_to_host() == 0);

  // A read of 64 bytes: one request, a round trip, one completion of 84 bytes and the request's acknowledgement.
  CHECK(link.dma_read(0, {1, 64}) == Approx(700 + cycles(24) + cycles(84 + 8)).margin(3));
  link.reset();
  // 1 MiB of reads: 2048 requests, 4096 completions of 256 + 20 bytes.
  const auto end = link.dma_read(0, {1, 1 << 20});
  CHECK(end == Approx(700 + cycles(24) + cycles(4096 * 276 + 2048 * 8)).margin(4));
  CHECK(link.bytes_to_device() == 1 << 20);

  // Both directions at once: writes wait for the requests and acknowledgements only.
  const auto write_end = link.dma_write(0, {1, 4096});
  CHECK(write_end == Approx(cycles(2048 * 24 + 4096 * 8 + 16 * 280)).margin(4));

  // Separate rows are separate packets.
  link.reset();
  CHECK(link.dma_write(0, {100, 10}) == Approx(cycles(100 * 34)).margin(2));

  // Posted writes by the host and messages.
  link.reset();
  CHECK(link.host_write(0, 4) == Approx(350 + cycles(28)).margin(2));
  CHECK(link.message(0) == Approx(350 + cycles(28)).margin(2));
  CHECK(link.host_read_request(5000) == Approx(5350 + cycles(24)).margin(2));
  CHECK(link.host_read_completion(6000, 4) == Approx(6350 + cycles(24)).margin(2));
}

TEST_CASE("smaller payload limits cost bandwidth") {
  const Clock clock(1000);
  PcieLink link(clock, {3, 8, 512, 512, 300});
  const Cycles wide = link.dma_write(0, {1, 1 << 20});
  link.reset();
  link.set_limits({128, 128});
  const Cycles narrow = link.dma_write(0, {1, 1 << 20});
  CHECK(static_cast<double>(narrow) / static_cast<double>(wide) == Approx((152.0 / 128) / (536.0 / 512)).epsilon(0.01));
}

namespace {

struct Figures {
  unsigned gen, width, mps;
  double writes, completions;  // GB/s
  unsigned tags;               // of 512 bytes that fill 1 us
};

// Empty: the table is not there.
std::vector<Figures> published_figures() {
  std::ifstream file(cx::tb::data_dir() / "network/pcie_efficiency.csv");
  std::vector<Figures> out;
  if (!file) {
    WARN("skipped: no network/pcie_efficiency.csv");
    return out;
  }
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::vector<std::string> cells;
    std::istringstream text(line);
    for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
    REQUIRE(cells.size() == 13);
    const auto number = [&](size_t at) { return std::stod(cells[at]); };
    out.push_back({static_cast<unsigned>(number(0)), static_cast<unsigned>(number(2)), static_cast<unsigned>(number(5)),
                   number(7), number(9), static_cast<unsigned>(number(12))});
  }
  return out;
}

}  // namespace

TEST_CASE("bandwidth agrees with the table of efficiencies within 0.5 percent") {
  const Clock clock(1000);  // a cycle is a nanosecond: bytes a cycle are GB/s
  constexpr uint64_t kBytes = 64 << 20;
  const auto figures = published_figures();
  REQUIRE((figures.empty() || figures.size() == 16));
  for (const Figures &row : figures) {
    CAPTURE(row.gen, row.mps);
    PcieLink link(clock, {row.gen, row.width, row.mps, 4096, 100});
    CHECK(double(kBytes) / double(link.dma_write(0, {1, kBytes})) == Approx(row.writes).epsilon(0.005));
    link.reset();
    CHECK(double(kBytes) / double(link.dma_read(0, {1, kBytes})) == Approx(row.completions).epsilon(0.005));
  }
}

TEST_CASE("as many tags as fill the round trip reach the bandwidth, half of them reach half") {
  const Clock clock(1000);
  constexpr uint64_t kBytes = 16 << 20;
  for (const Figures &row : published_figures()) {
    CAPTURE(row.gen, row.mps);
    const auto rate = [&](unsigned tags) {
      PcieLink link(clock, {row.gen, row.width, row.mps, 512, 500, tags});
      return double(kBytes) / double(link.dma_read(0, {1, kBytes}));
    };
    CHECK(rate(row.tags) > 0.85 * row.completions);
    CHECK(rate(2 * row.tags) > 0.95 * row.completions);
    const double half = rate(row.tags / 2);
    CHECK(half < 0.55 * row.completions);
    CHECK(half == Approx(row.tags / 2 * 512 / 1000.0).epsilon(0.15));  // what the tags allow in a round trip
  }
}

TEST_CASE("packets are cut at multiples of the limits, completions at read completion boundaries") {
  using L = PcieLink;
  CHECK(L::packets({1, 4096, 0}, 256) == 16);
  CHECK(L::packets({1, 4096, 4}, 256) == 17);
  CHECK(L::packets({1, 1, 4095}, 256) == 1);
  CHECK(L::packets({1, 2, 4095}, 256) == 2);  // crosses 4 KiB
  CHECK(L::packets({3, 10, 250, 256}, 256) == 6);
  CHECK(L::packets({2, 10, 250, 262}, 256) == 3);  // rows at 250 and 512
  CHECK(L::completions({1, 4096, 0}, 512, 256, 64) == 16);
  CHECK(L::completions({1, 512, 60}, 512, 256, 64) == 3);  // requests of 452 (196 + 256) and 60 bytes
  CHECK(L::completions({1, 452, 60}, 512, 256, 64) == 2);
  CHECK(L::completions({1, 450, 62}, 512, 256, 64) == 2);
  CHECK(L::completions({1, 384, 100}, 512, 256, 64) == 2);    // 220 + 164
  CHECK(L::completions({1, 440, 100}, 1024, 256, 64) == 2);   // 220 + 220
  CHECK(L::completions({1, 440, 100}, 1024, 256, 128) == 3);  // 156 + 256 + 28
  CHECK(L::completions({1, 4096, 0}, 512, 4096, 64) == 8);    // no completion spans requests
  CHECK(L::completions({4, 100, 0, 4096}, 512, 256, 64) == 4);
  // Bytes of random runs, cut one by one.
  uint64_t state = 12345;
  const auto random = [&](uint64_t limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % limit;
  };
  for (int i = 0; i < 2000; ++i) {
    const unsigned mps = 128u << random(4), mrrs = 128u << random(6), rcb = random(2) != 0 ? 128 : 64;
    const PcieRuns runs{1 + random(4), 1 + random(9000), random(1 << 20), random(20000)};
    uint64_t requests = 0, answers = 0;
    for (uint64_t row = 0; row < runs.rows; ++row) {
      uint64_t at = runs.address + row * runs.pitch;
      const uint64_t end = at + runs.row_bytes;
      while (at < end) {
        const uint64_t request_end = std::min(end, (at / mrrs + 1) * mrrs);
        ++requests;
        while (at < request_end) {
          uint64_t to = request_end;
          if (to - at > mps) to = (at + mps) / rcb * rcb;  // as much as fits and ends at a boundary
          at = to;
          ++answers;
        }
      }
    }
    CAPTURE(i, mps, mrrs, rcb, runs.address, runs.row_bytes, runs.pitch);
    REQUIRE(L::packets(runs, mrrs) == requests);
    REQUIRE(L::completions(runs, mrrs, mps, rcb) == answers);
  }
}

TEST_CASE("without relaxed ordering completions wait for the host's posted writes") {
  const Clock clock(1000);
  PcieLink link(clock, {4, 16, 256, 512, 350});
  const auto read_after_writes = [&](bool relaxed) {
    link.reset();
    link.set_limits({256, 512, 256, 64, relaxed});
    link.host_write(0, 1 << 20);  // some 36,000 cycles of link time
    return link.dma_read(0, {1, 64});
  };
  CHECK(read_after_writes(true) == Approx(705).margin(10));
  const double posted = (1 << 20) * (280.0 / 256) / (PcieLink::bytes_per_second(4, 16) * 1e-9);
  CHECK(read_after_writes(false) == Approx(posted + 350).margin(10));
  CHECK_THROWS_AS(link.set_limits({256, 512, 0}), std::invalid_argument);
  CHECK_THROWS_AS(link.set_limits({256, 512, 1, 96}), std::invalid_argument);
  CHECK_THROWS_AS(link.set_limits({0, 512}), std::invalid_argument);
}

TEST_CASE("requests of another function share the link with the card's own") {
  const Clock clock(1000);
  const double per_cycle = PcieLink::bytes_per_second(4, 16) * 1e-9;
  PcieLink link(clock, {4, 16, 256, 512, 350});
  CHECK(link.peer_write(0, {1, 1 << 20}) == Approx(350 + 4096 * 280 / per_cycle).margin(3));
  CHECK(link.bytes_to_device() == 1 << 20);
  CHECK(link.dma_read(0, {1, 64}) > 4096 * 280 / per_cycle);
  link.reset();
  CHECK(link.peer_read_request(0, {1, 4096}) == Approx(350 + 8 * 24 / per_cycle).margin(3));
  CHECK(link.peer_read_completion(0, {1, 4096}) == Approx(16 * 276 / per_cycle).margin(3));
  CHECK(link.bytes_to_host() == 4096);
}

TEST_CASE("type-0 header") {
  const ConfigSpace space(params());
  CHECK(get(space, 0x00) == 0x3210c5a1);
  CHECK(get(space, 0x08) >> 8 == CX_PCI_CLASS_CODE);
  CHECK(get(space, 0x0e, 1) == 0);  // single function, type 0
  CHECK(get(space, 0x2c) == 0x3210c5a1);
  CHECK((get(space, 0x06, 2) & 0x10) != 0);
  CHECK(get(space, 0x3d, 1) == 0);
}

TEST_CASE("extended capabilities: advanced error reporting and serial number") {
  ConfigSpace space(params());
  // The chain: identifier, version, next.
  CHECK((get(space, 0x100) & 0xffff) == 1);
  CHECK((get(space, 0x100) >> 16 & 0xf) == 2);
  const uint32_t serial = get(space, 0x100) >> 20;
  CHECK((get(space, serial) & 0xffff) == 3);
  const uint32_t resizable = get(space, serial) >> 20;
  CHECK((get(space, resizable) & 0xffff) == 0x15);
  CHECK(get(space, resizable) >> 20 == 0);
  CHECK(get(space, serial + 4) == 0x3210c5a1);
  CHECK(get(space, serial + 8) != 0);

  constexpr uint32_t kUr = 1u << 20;
  CHECK(get(space, 0x104) == 0);
  space.set_unsupported_request();
  CHECK(get(space, 0x104) == kUr);
  CHECK((get(space, 0x6a, 2) & 8) != 0);
  REQUIRE(space.write(0x104, 4, ~kUr));  // zeros leave a status bit
  CHECK(get(space, 0x104) == kUr);
  REQUIRE(space.write(0x108, 4, kUr));
  REQUIRE(space.write(0x10c, 4, kUr));
  space.function_reset();  // sticky, unlike the device status
  CHECK(get(space, 0x104) == kUr);
  CHECK(get(space, 0x108) == kUr);
  CHECK(get(space, 0x10c) == kUr);
  CHECK((get(space, 0x6a, 2) & 8) == 0);
  REQUIRE(space.write(0x104, 4, kUr));
  CHECK(get(space, 0x104) == 0);
  space.reset();
  CHECK(get(space, 0x108) == 0);
  CHECK(get(space, 0x10c) == 0x462030);
  CHECK(get(space, 0x114) == 1u << 13);
  // Read-only: the chain, the serial number, reserved bits.
  for (const uint32_t at : {0x100u, 0x118u, serial, serial + 4, serial + 8}) {
    const uint32_t before = get(space, at);
    REQUIRE(space.write(at, 4, ~before));
    CHECK(get(space, at) == before);
  }
  REQUIRE(space.write(0x108, 4, ~0u));
  CHECK(get(space, 0x108) == 0x7ff030);
}

TEST_CASE("BARs answer sizing and take addresses") {
  ConfigSpace space(params());
  CHECK(get(space, 0x10) == 0x4);
  CHECK(get(space, 0x18) == 0xc);
  CHECK(get(space, 0x20) == 0xc);
  for (const auto &[bar, bytes] :
       std::vector<std::pair<unsigned, uint64_t>>{{0, 1 << 20}, {2, 256 << 10}, {4, 64 << 20}}) {
    const uint32_t at = 0x10 + 4 * bar;
    REQUIRE(space.write(at, 4, ~0u));
    REQUIRE(space.write(at + 4, 4, ~0u));
    const uint64_t mask = (uint64_t{get(space, at + 4)} << 32 | get(space, at)) & ~uint64_t{0xf};
    CHECK(~mask + 1 == bytes);
    REQUIRE(space.write(at, 4, 0xe0000000));
    REQUIRE(space.write(at + 4, 4, 0x12));
    CHECK(space.bar(bar) == 0x12e0000000);
  }
  REQUIRE(space.write(0x30, 4, ~0u));
  CHECK(get(space, 0x30) == 0);
  ConfigSpace small([] {
    auto p = params();
    p.bar4_bytes = 0;
    return p;
  }());
  for (const uint32_t at : {0x20u, 0x24u}) {
    REQUIRE(small.write(at, 4, ~0u));
    CHECK(get(small, at) == 0);
  }
  CHECK(get(small, ConfigSpace::kSerial) >> 20 == 0);
}

TEST_CASE("BAR4 may be made smaller") {
  ConfigSpace space(params());
  const uint32_t at = ConfigSpace::kResizable;
  CHECK(get(space, at + 4) == 0x7f0);                  // 1 to 64 MiB
  CHECK(get(space, at + 8) == (4 | 1 << 5 | 6 << 8));  // of BAR4, one BAR, 64 MiB
  const auto size = [&] {
    REQUIRE(space.write(0x20, 4, ~0u));
    REQUIRE(space.write(0x24, 4, ~0u));
    return ~(uint64_t{get(space, 0x24)} << 32 | (get(space, 0x20) & ~0xfu)) + 1;
  };
  CHECK(space.bar4_bytes() == 64 << 20);
  REQUIRE(space.write(at + 8, 4, 2 << 8));
  CHECK(get(space, 0x20) == 0xc);
  CHECK(space.bar4_bytes() == 4 << 20);
  CHECK(size() == 4 << 20);
  REQUIRE(space.write(at + 8, 4, 9 << 8));  // more than there is
  CHECK(space.bar4_bytes() == 64 << 20);
  CHECK(get(space, at + 8) >> 8 == 6);
  CHECK(size() == 64 << 20);
  REQUIRE(space.write(at + 8, 4, 0));
  CHECK(size() == 1 << 20);
  space.reset();
  CHECK(size() == 64 << 20);
  for (const uint64_t bytes : {uint64_t{3} << 20, uint64_t{1} << 19}) {
    auto p = params();
    p.bar4_bytes = bytes;
    CHECK_THROWS_AS(ConfigSpace(p), std::invalid_argument);
  }
}

TEST_CASE("capability chain ends and holds power management, MSI-X and PCI Express") {
  const ConfigSpace space(params());
  std::vector<uint32_t> ids;
  for (uint32_t at = get(space, 0x34, 1); at != 0; at = get(space, at + 1, 1)) {
    CHECK(at % 4 == 0);
    REQUIRE(ids.size() < 48);
    ids.push_back(get(space, at, 1));
  }
  CHECK(ids == std::vector<uint32_t>{0x01, 0x11, 0x10});
  const uint32_t msix = ConfigSpace::kMsix;
  CHECK((get(space, msix + 2, 2) & 0x7ff) == CX_PCI_MSIX_VECTORS - 1);
  CHECK(get(space, msix + 4) == CX_PCI_MSIX_TABLE);
  CHECK(get(space, msix + 8) == CX_PCI_MSIX_PBA);
  const uint32_t express = ConfigSpace::kExpress;
  CHECK((get(space, express + 2, 2) & 0xf) == 2);
  CHECK((get(space, express + 4) & 7) == 1);  // 256 bytes
  CHECK((get(space, express + 4) >> 28 & 1) == 1);
  CHECK((get(space, express + 0x12, 2) & 0x3ff) == (4 | 16 << 4));
}

TEST_CASE("command register, power state and MSI-X control") {
  ConfigSpace space(params());
  unsigned changes = 0;
  space.on_change([&] { ++changes; });
  CHECK(!space.memory_enabled());
  CHECK(!space.bus_master());
  REQUIRE(space.write(0x04, 2, 0xffff));
  CHECK(get(space, 0x04, 2) == 0x0546);
  CHECK(space.memory_enabled());
  CHECK(space.bus_master());
  REQUIRE(space.write(ConfigSpace::kPm + 4, 2, 3));
  CHECK(!space.memory_enabled());
  CHECK(!space.bus_master());
  REQUIRE(space.write(ConfigSpace::kPm + 4, 2, 0));
  CHECK(space.memory_enabled());
  CHECK(!space.msix_enabled());
  REQUIRE(space.write(ConfigSpace::kMsix + 2, 2, 0xc000));
  CHECK(space.msix_enabled());
  CHECK(space.msix_function_mask());
  CHECK((get(space, ConfigSpace::kMsix + 2, 2) & 0x7ff) == CX_PCI_MSIX_VECTORS - 1);
  CHECK(changes == 4);
}

TEST_CASE("payload limits") {
  ConfigSpace space(params());
  CHECK(space.mps() == 256);
  CHECK(space.mrrs() == 512);
  const uint32_t control = ConfigSpace::kExpress + 8;
  REQUIRE(space.write(control, 2, 5u << 5 | 5u << 12));
  CHECK(space.mps() == 256);  // no more than the device supports
  CHECK(space.mrrs() == 4096);
  REQUIRE(space.write(control, 2, 0));
  CHECK(space.mps() == 128);
  CHECK(space.mrrs() == 128);
}

TEST_CASE("tags, ordering and completion boundary as the host sets them") {
  ConfigSpace space(params());
  const uint32_t control = ConfigSpace::kExpress + 8, control2 = ConfigSpace::kExpress + 0x28;
  const uint32_t link_control = ConfigSpace::kExpress + 0x10;
  // Defaults of the specification: relaxed ordering and no snoop are enabled.
  CHECK((get(space, control, 2) & 0x0910) == 0x0910);
  CHECK(space.relaxed_ordering());
  CHECK(space.tags() == 256);
  CHECK(space.rcb() == 64);
  REQUIRE(space.write(control, 2, get(space, control, 2) & ~0x0110u));
  CHECK(!space.relaxed_ordering());
  CHECK(space.tags() == 32);
  REQUIRE(space.write(control2, 2, 1u << 12));  // no 10-bit tags here
  CHECK(space.tags() == 32);
  REQUIRE(space.write(link_control, 2, 8));
  CHECK(space.rcb() == 128);

  auto p = params();
  p.tags = 1000;
  CHECK_THROWS_AS(ConfigSpace(p), std::invalid_argument);
  p.tags = 700;
  p.rcb = 96;
  CHECK_THROWS_AS(ConfigSpace(p), std::invalid_argument);
  p.rcb = 128;
  p.gen = 6;
  ConfigSpace large(p);
  CHECK(large.tags() == 700);
  CHECK(large.rcb() == 128);
  CHECK((get(large, ConfigSpace::kExpress + 2, 2) & 0x8000) != 0);     // flit mode
  CHECK((get(large, ConfigSpace::kExpress + 0x32, 2) & 0x0400) != 0);  // in use
  CHECK((get(large, ConfigSpace::kExpress + 0x12, 2) & 0xf) == 6);
  CHECK((get(large, ConfigSpace::kExpress + 0x24) >> 17 & 1) == 1);
  REQUIRE(large.write(control2, 2, 0));
  CHECK(large.tags() == 256);
  CHECK((get(space, ConfigSpace::kExpress + 2, 2) & 0x8000) == 0);
}

TEST_CASE("error bits are set by the device and cleared by writing one") {
  ConfigSpace space(params());
  space.set_status(ConfigSpace::kReceivedMasterAbort);
  space.set_unsupported_request();
  REQUIRE(space.write(0x06, 2, 0));
  CHECK((get(space, 0x06, 2) & ConfigSpace::kReceivedMasterAbort) != 0);
  REQUIRE(space.write(0x06, 2, ConfigSpace::kReceivedMasterAbort));
  CHECK((get(space, 0x06, 2) & ConfigSpace::kReceivedMasterAbort) == 0);
  CHECK((get(space, ConfigSpace::kExpress + 0xa, 2) & 8) != 0);
  REQUIRE(space.write(ConfigSpace::kExpress + 0xa, 2, 8));
  CHECK((get(space, ConfigSpace::kExpress + 0xa, 2) & 8) == 0);
}

TEST_CASE("function-level reset") {
  ConfigSpace space(params());
  unsigned resets = 0;
  space.on_function_reset([&] { ++resets; });
  const uint32_t control = ConfigSpace::kExpress + 8;
  REQUIRE(space.write(control, 2, get(space, control, 2)));
  CHECK(resets == 0);
  REQUIRE(space.write(control, 2, get(space, control, 2) | 0x8000));
  CHECK(resets == 1);
  CHECK((get(space, control, 2) & 0x8000) == 0);
}

TEST_CASE("read-only bits stay, sizes and alignment are checked") {
  ConfigSpace space(params());
  for (uint32_t offset = 0; offset < ConfigSpace::kBytes; offset += 4) {
    ConfigSpace other(params());
    const uint32_t before = get(other, offset);
    REQUIRE(other.write(offset, 4, before));
    if (offset != 0x04) CHECK(get(other, offset) == before);
  }
  for (const uint32_t offset : {0x00u, 0x08u, 0x2cu, 0x34u, 0x40u, 0x54u, 0x58u, 0x60u, 0x64u, 0x6cu, 0x200u}) {
    const uint32_t before = get(space, offset);
    REQUIRE(space.write(offset, 4, ~before));
    CHECK(get(space, offset) == before);
  }
  uint32_t value = 0;
  CHECK(!space.read(1, 2, value));
  CHECK(!space.read(2, 4, value));
  CHECK(!space.read(0, 3, value));
  CHECK(!space.read(0, 8, value));
  CHECK(!space.read(4096, 4, value));
  CHECK(!space.write(4096, 1, 0));
  CHECK_THROWS_AS(ConfigSpace([] {
                    auto p = params();
                    p.bar0_bytes = 3000;
                    return p;
                  }()),
                  std::invalid_argument);
  CHECK_THROWS_AS(ConfigSpace([] {
                    auto p = params();
                    p.mps = 64;
                    return p;
                  }()),
                  std::invalid_argument);
}

namespace {

struct FakePeer final : PeerMemory {
  bool there = true;
  bool reachable() const override { return there; }
  uint64_t written(uint64_t at, const PcieRuns &) override { return at; }
  uint64_t answered(uint64_t at, const PcieRuns &) override { return at; }
};

}  // namespace

TEST_CASE("another function's memory lies among the host's") {
  using Result = HostMemory::Result;
  HostMemory memory;
  FakePeer peer;
  std::vector<std::byte> host(4096), device(4096);
  CHECK(memory.map(0x1000, 4096, host.data(), {true, true}) == Result::ok);
  CHECK(memory.map(0x2000, 4096, device.data(), peer, {true, true}) == Result::ok);
  CHECK(memory.map(0x2800, 4096, device.data(), peer, {true, true}) == Result::overlap);
  CHECK(memory.map(0x8000, 4096, nullptr, peer, {true, true}) == Result::bad_argument);
  CHECK(memory.peer(0xfff) == nullptr);
  CHECK(memory.peer(0x1fff) == nullptr);
  CHECK(memory.peer(0x2000) == &peer);
  CHECK(memory.peer(0x3000) == nullptr);
  uint64_t fault = 0;
  CHECK(memory.check(0x1ff0, 32, true, &fault));
  peer.there = false;
  CHECK(!memory.check(0x1ff0, 32, true, &fault));
  CHECK(fault == 0x2000);
  peer.there = true;
  const auto value = std::byte{42};
  CHECK(memory.write(0x2010, &value, 1));
  CHECK(device[16] == value);
  memory.unmap(peer);
  CHECK(!memory.check(0x2000, 1, false, &fault));
  CHECK(memory.check(0x1000, 4096, false, &fault));
}

TEST_CASE("host memory translates across adjoining mappings and faults elsewhere") {
  using Result = HostMemory::Result;
  HostMemory memory;
  std::vector<std::byte> a(4096), b(4096), out(4096);
  for (size_t i = 0; i < a.size(); ++i) a[i] = b[i] = static_cast<std::byte>(i * 13);
  CHECK(memory.map(0x1000, 4096, a.data(), {true, true}) == Result::ok);
  CHECK(memory.map(0x2000, 4096, b.data(), {true, false}) == Result::ok);
  CHECK(memory.map(0x0fff, 2, a.data(), {true, true}) == Result::overlap);
  CHECK(memory.map(0x2fff, 2, a.data(), {true, true}) == Result::overlap);
  CHECK(memory.map(0x0, 0x10000, a.data(), {true, true}) == Result::overlap);
  CHECK(memory.map(0x8000, 16, nullptr, {true, true}) == Result::bad_argument);
  CHECK(memory.map(~uint64_t{0}, 1, a.data(), {true, true}) == Result::ok);
  CHECK(memory.unmap(~uint64_t{0}, 1) == Result::ok);

  uint64_t fault = 0;
  CHECK(memory.check(0x1800, 0x1000, false, &fault));
  memory.read(0x1800, out.data(), 4096);
  CHECK(std::equal(out.begin(), out.begin() + 2048, a.begin() + 2048));
  CHECK(std::equal(out.begin() + 2048, out.end(), b.begin()));
  CHECK(!memory.check(0x1800, 0x1000, true, &fault));
  CHECK(fault == 0x2000);
  CHECK(!memory.check(0x2800, 0x1000, false, &fault));
  CHECK(fault == 0x3000);
  CHECK(!memory.check(0x0, 4, false, &fault));
  CHECK(fault == 0);
  CHECK_THROWS_AS(memory.read(0x3000, out.data(), 1), std::out_of_range);
  CHECK_THROWS_AS(memory.write(0x2000, out.data(), 1), std::out_of_range);

  CHECK(memory.unmap(0x1000, 0x1800) == Result::not_mapped);
  CHECK(memory.unmap(0x1000, 0x3000) == Result::not_mapped);
  CHECK(memory.check(0x1000, 0x2000, false, &fault));
  CHECK(memory.unmap(0x1000, 0x2000) == Result::ok);
  CHECK(!memory.check(0x1000, 1, false, &fault));
}
