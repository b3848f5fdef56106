// The endpoint's parts that need no simulation: link timing, configuration space, host memory.
#include <catch2/catch.hpp>
#include <vector>

#include "hw/common/port/pci_id.h"
#include "hw/pcie/config_space.hpp"
#include "hw/pcie/host_memory.hpp"
#include "hw/pcie/link.hpp"

using namespace cx::hw;

namespace {

ConfigSpaceParams params() {
  ConfigSpaceParams p;
  p.vendor_id = 0xc5a1;
  p.device_id = 0x3210;
  p.bar0_bytes = 1 << 20;
  p.bar2_bytes = 256 << 10;
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
  CHECK_THROWS_AS(PcieLink::bytes_per_second(6, 16), std::invalid_argument);
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
  CHECK(link.dma_write(1000, 1, 1 << 20) == Approx(1000 + cycles(4096 * 280)).margin(2));
  CHECK(link.bytes_to_host() == 1 << 20);
  link.reset();
  CHECK(link.bytes_to_host() == 0);

  // A read of 64 bytes: one request, a round trip, one completion of 84 bytes and the request's acknowledgement.
  CHECK(link.dma_read(0, 1, 64) == Approx(700 + cycles(24) + cycles(84 + 8)).margin(3));
  link.reset();
  // 1 MiB of reads: 2048 requests, 4096 completions of 256 + 20 bytes.
  const auto end = link.dma_read(0, 1, 1 << 20);
  CHECK(end == Approx(700 + cycles(24) + cycles(4096 * 276 + 2048 * 8)).margin(4));
  CHECK(link.bytes_to_device() == 1 << 20);

  // Both directions at once: writes wait for the requests and acknowledgements only.
  const auto write_end = link.dma_write(0, 1, 4096);
  CHECK(write_end == Approx(cycles(2048 * 24 + 4096 * 8 + 16 * 280)).margin(4));

  // Separate rows are separate packets.
  link.reset();
  CHECK(link.dma_write(0, 100, 10) == Approx(cycles(100 * 34)).margin(2));

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
  const Cycles wide = link.dma_write(0, 1, 1 << 20);
  link.reset();
  link.set_limits(128, 128);
  const Cycles narrow = link.dma_write(0, 1, 1 << 20);
  CHECK(static_cast<double>(narrow) / static_cast<double>(wide) == Approx((152.0 / 128) / (536.0 / 512)).epsilon(0.01));
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
  CHECK(get(space, serial) >> 20 == 0);
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
  for (const auto &[bar, bytes] : std::vector<std::pair<unsigned, uint64_t>>{{0, 1 << 20}, {2, 256 << 10}}) {
    const uint32_t at = 0x10 + 4 * bar;
    REQUIRE(space.write(at, 4, ~0u));
    REQUIRE(space.write(at + 4, 4, ~0u));
    const uint64_t mask = (uint64_t{get(space, at + 4)} << 32 | get(space, at)) & ~uint64_t{0xf};
    CHECK(~mask + 1 == bytes);
    REQUIRE(space.write(at, 4, 0xe0000000));
    REQUIRE(space.write(at + 4, 4, 0x12));
    CHECK(space.bar(bar) == 0x12e0000000);
  }
  for (const uint32_t at : {0x20u, 0x24u, 0x30u}) {
    REQUIRE(space.write(at, 4, ~0u));
    CHECK(get(space, at) == 0);
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
