// System DMA against a reference copy, with faults, concurrency and timing. One elaborated bench for all cases.
#include "hw/sdma/sdma.hpp"

#include <tlm_utils/simple_initiator_socket.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <systemc>

#include "hw/dram/dram.hpp"
#include "hw/noc/noc.hpp"
#include "hw/pcie/endpoint.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.h"
#include "hw/regs/gen/sdma_regs.h"

using namespace cx::hw;

namespace {

constexpr uint64_t kDram = CX_MEM_DRAM_BASE;
constexpr uint64_t kDramBytes = 16 << 20;
constexpr uint64_t kHost = 0x1'0000'0000;
constexpr uint64_t kReadOnly = 0x2'0000'0000;

struct Master : sc_core::sc_module {
  tlm_utils::simple_initiator_socket<Master> socket;
  explicit Master(sc_core::sc_module_name name) : sc_module(name), socket("socket") {}
};

PcieParams pcie_params() {
  PcieParams params;
  params.link = {4, 16, 256, 512, 350};
  params.vendor_id = 1;
  params.device_id = 2;
  params.bar2_bytes = 65536;
  params.tcm_bytes = 65536;
  return params;
}

DramParams dram_params() {
  DramParams params;
  params.bytes = kDramBytes;
  return params;
}

struct Bench {
  Clock clock{1000};
  Noc noc{"noc", clock, NocParams{64, 4}};
  Dram dram{"dram", clock, dram_params()};
  PcieEndpoint pcie{"pcie", clock, pcie_params()};
  Sdma sdma{"sdma", clock, noc, pcie, 3};
  Master firmware{"firmware"};
  std::vector<uint8_t> host = std::vector<uint8_t>(8 << 20);
  bool line = false;

  Bench() {
    noc.add_target("dram", kDram, kDramBytes, dram.socket, &dram, 4);
    noc.add_target("sdma", CX_PERIPHERAL_BASE + CX_MAP_SDMA_OFFSET, CX_MAP_PAGE_SIZE, sdma.registers);
    noc.add_target("msix", CX_PERIPHERAL_BASE + CX_MAP_MSIX_OFFSET, CX_MAP_PAGE_SIZE, pcie.registers);
    noc.add_initiator("firmware", firmware.socket);
    noc.add_initiator("host", pcie.bus, cx::regs::Side::host);
    sdma.on_interrupt([this](bool level) { line = level; });
  }

  static Bench &get() {
    static auto *bench = new Bench;
    bench->reset();
    return *bench;
  }

  void reset() {
    sdma.reset();
    pcie.reset(true);
    noc.reset();
    dram.reset();
    sc_core::sc_start(sc_core::SC_ZERO_TIME);
    pcie.host_memory().map(kHost, host.size(), reinterpret_cast<std::byte *>(host.data()), {true, true});
    pcie.host_memory().map(kReadOnly, 4096, reinterpret_cast<std::byte *>(host.data()), {true, false});
    set_command(0x0006);
  }

  void set_command(uint32_t value) {
    std::byte data[4];
    std::memcpy(data, &value, 4);
    PcieEndpoint::Read write{PcieEndpoint::kConfigSpace, 4, data, 2, false, {}};
    pcie.send_config_write(write);
    while (!write.done) sc_core::sc_start(sc_core::sc_time(10, sc_core::SC_US), sc_core::SC_EXIT_ON_STARVATION);
    align();
  }

  // Time to the next clock edge, so that measured spans are whole cycles.
  void align() {
    const auto rest = clock.until(clock.now());
    if (rest != sc_core::SC_ZERO_TIME) sc_core::sc_start(rest);
  }

  uint32_t access(uint32_t offset, uint32_t value, bool write) {
    tlm::tlm_generic_payload transaction;
    transaction.set_command(write ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
    transaction.set_address(CX_PERIPHERAL_BASE + CX_MAP_SDMA_OFFSET + offset);
    transaction.set_data_ptr(reinterpret_cast<unsigned char *>(&value));
    transaction.set_data_length(4);
    transaction.set_streaming_width(4);
    auto delay = sc_core::SC_ZERO_TIME;
    firmware.socket->b_transport(transaction, delay);
    REQUIRE(transaction.is_response_ok());
    return value;
  }
  void write(uint32_t offset, uint32_t value) { access(offset, value, true); }
  uint32_t read(uint32_t offset) { return access(offset, 0, false); }

  struct Job {
    uint64_t src = 0, dst = 0;
    uint32_t row_bytes = 0, rows = 1, src_pitch = 0, dst_pitch = 0, pattern = 0, flags = 0;
  };
  void start(unsigned channel, const Job &job) {
    write(CX_SDMA_SRC_LO(channel), static_cast<uint32_t>(job.src));
    write(CX_SDMA_SRC_HI(channel), static_cast<uint32_t>(job.src >> 32));
    write(CX_SDMA_DST_LO(channel), static_cast<uint32_t>(job.dst));
    write(CX_SDMA_DST_HI(channel), static_cast<uint32_t>(job.dst >> 32));
    write(CX_SDMA_ROW_BYTES(channel), job.row_bytes);
    write(CX_SDMA_ROWS(channel), job.rows);
    write(CX_SDMA_SRC_PITCH(channel), job.src_pitch);
    write(CX_SDMA_DST_PITCH(channel), job.dst_pitch);
    write(CX_SDMA_PATTERN(channel), job.pattern);
    write(CX_SDMA_CTRL(channel), job.flags | CX_SDMA_CTRL_START_MASK);
  }
  // Runs until the channel is done. Returns its error code.
  uint32_t finish(unsigned channel) {
    while ((read(CX_SDMA_DONE) >> channel & 1) == 0) {
      REQUIRE(sc_core::sc_pending_activity());
      sc_core::sc_start(sc_core::sc_time_to_pending_activity());
    }
    CHECK(line);
    CHECK((read(CX_SDMA_STATUS(channel)) & CX_SDMA_STATUS_BUSY_MASK) == 0);
    write(CX_SDMA_DONE, 1u << channel);
    return (read(CX_SDMA_STATUS(channel)) & CX_SDMA_STATUS_ERROR_MASK) >> CX_SDMA_STATUS_ERROR_SHIFT;
  }
  uint32_t run(const Job &job, unsigned channel = 0) {
    start(channel, job);
    return finish(channel);
  }
  uint64_t fault(unsigned channel = 0) {
    return read(CX_SDMA_FAULT_LO(channel)) | uint64_t{read(CX_SDMA_FAULT_HI(channel))} << 32;
  }
  uint8_t *device() { return reinterpret_cast<uint8_t *>(dram.data()); }
  Cycles now() const { return clock.now(); }
};

constexpr uint32_t kFromHost = CX_SDMA_CTRL_SRC_HOST_MASK;
constexpr uint32_t kToHost = CX_SDMA_CTRL_DST_HOST_MASK;
constexpr uint32_t kFill = CX_SDMA_CTRL_FILL_MASK;

}  // namespace

TEST_CASE("random transfers move exactly their bytes") {
  constexpr unsigned kSeed = 42;
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed);
  const auto below = [&](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
  Bench &bench = Bench::get();
  for (int round = 0; round < 150; ++round) {
    for (auto &byte : bench.host) byte = static_cast<uint8_t>(byte * 5 + round + 1);
    std::vector<uint8_t> host = bench.host;
    std::vector<uint8_t> device(bench.device(), bench.device() + kDramBytes);
    Bench::Job job;
    const unsigned kind = below(4);
    job.row_bytes = 1 + below(below(2) ? 300 : 30000);
    job.rows = 1 + below(below(2) ? 3 : 40);
    job.src_pitch = job.row_bytes + (below(2) ? 0 : below(500));
    job.dst_pitch = job.row_bytes + (below(2) ? 0 : below(500));
    if (kind == 3) {
      job.row_bytes = (job.row_bytes + 3) / 4 * 4;
      job.dst_pitch = (job.dst_pitch + 7) / 4 * 4;
    }
    const uint32_t near = below(1000), far = (4 << 20) + below(1000);
    job.pattern = static_cast<uint32_t>(random());
    uint8_t *from = nullptr, *to = nullptr;
    switch (kind) {
      case 0:
        job.flags = kFromHost;
        job.src = kHost + near;
        job.dst = kDram + far;
        from = &host[near];
        to = &device[far];
        break;
      case 1:
        job.flags = kToHost;
        job.src = kDram + near;
        job.dst = kHost + far;
        from = &device[near];
        to = &host[far];
        break;
      case 2:
        job.src = kDram + near;
        job.dst = kDram + far;
        from = &device[near];
        to = &device[far];
        break;
      default:
        job.flags = kFill;
        job.dst = kDram + far / 4 * 4;
        to = &device[far / 4 * 4];
    }
    for (uint32_t row = 0; row < job.rows; ++row) {
      uint8_t *row_to = to + size_t{row} * job.dst_pitch;
      if (from != nullptr) {
        std::memcpy(row_to, from + size_t{row} * job.src_pitch, job.row_bytes);
      } else {
        for (uint32_t at = 0; at < job.row_bytes; at += 4) std::memcpy(row_to + at, &job.pattern, 4);
      }
    }
    REQUIRE(bench.run(job, below(3)) == CX_STATUS_OK);
    REQUIRE(bench.host == host);
    REQUIRE(std::memcmp(bench.device(), device.data(), kDramBytes) == 0);
  }
}

TEST_CASE("faults name their status and address, and the channel works again") {
  Bench &bench = Bench::get();
  const auto faults = [&](Bench::Job job, uint32_t status, uint64_t address) {
    CHECK(bench.run(job) == status);
    CHECK(bench.fault() == address);
    CHECK(bench.run({kHost, kDram, 64, 1, 0, 0, 0, kFromHost}) == CX_STATUS_OK);
    CHECK(bench.fault() == 0);
  };
  const uint64_t host_end = kHost + bench.host.size();
  faults({0x10, kDram, 64, 1, 0, 0, 0, kFromHost}, CX_STATUS_IOMMU_FAULT, 0x10);
  faults({host_end - 32, kDram, 64, 1, 0, 0, 0, kFromHost}, CX_STATUS_IOMMU_FAULT, host_end);
  faults({kDram, host_end - 32, 64, 1, 0, 0, 0, kToHost}, CX_STATUS_IOMMU_FAULT, host_end);
  faults({kDram, kReadOnly + 8, 64, 1, 0, 0, 0, kToHost}, CX_STATUS_IOMMU_FAULT, kReadOnly + 8);
  faults({host_end - 100000, kDram, 200000, 1, 0, 0, 0, kFromHost}, CX_STATUS_IOMMU_FAULT, host_end);
  faults({kHost, 0x5'0000'0000, 64, 1, 0, 0, 0, kFromHost}, CX_STATUS_BAD_ADDRESS, 0x5'0000'0000);
  faults({kHost, kDram + kDramBytes - 32, 64, 1, 0, 0, 0, kFromHost}, CX_STATUS_BAD_ADDRESS, kDram + kDramBytes - 32);
  faults({kDram, kDram + 64, 64, 0xffffffff, 0xffffffff, 64, 0, 0}, CX_STATUS_BAD_ADDRESS, kDram);
  faults({~uint64_t{0} - 4, kDram, 64, 1, 0, 0, 0, 0}, CX_STATUS_BAD_ADDRESS, ~uint64_t{0} - 4);
  // Registers are not memory.
  const uint64_t registers = CX_PERIPHERAL_BASE + CX_MAP_SDMA_OFFSET;
  faults({kHost, registers, 64, 1, 0, 0, 0, kFromHost}, CX_STATUS_BAD_ADDRESS, registers);
  faults({kHost, kDram, 0, 1, 0, 0, 0, kFromHost}, CX_STATUS_BAD_FIELD, 0);
  faults({kHost, kDram, 64, 0, 0, 0, 0, kFromHost}, CX_STATUS_BAD_FIELD, 0);
  faults({kHost, kHost + 64, 64, 1, 0, 0, 0, kFromHost | kToHost}, CX_STATUS_BAD_FIELD, 0);
  faults({0, kHost, 64, 1, 0, 0, 0, kFill | kToHost}, CX_STATUS_BAD_FIELD, 0);
  faults({0, kDram + 2, 64, 1, 0, 0, 0, kFill}, CX_STATUS_BAD_ALIGNMENT, kDram + 2);
  faults({0, kDram, 62, 1, 0, 0, 0, kFill}, CX_STATUS_BAD_ALIGNMENT, kDram);
  faults({0, kDram, 64, 2, 0, 66, 0, kFill}, CX_STATUS_BAD_ALIGNMENT, kDram);
  CHECK(bench.run({kHost, kDram, 64, 1, 0, 0, 0, kFromHost}, 3) == CX_STATUS_UNSUPPORTED);
}

TEST_CASE("without bus mastering the card does not touch host memory") {
  Bench &bench = Bench::get();
  bench.set_command(0x0002);
  const std::vector<uint8_t> before = bench.host;
  CHECK(bench.run({kDram, kHost, 64, 1, 0, 0, 0, kToHost}) == CX_STATUS_IOMMU_FAULT);
  CHECK(bench.host == before);
  CHECK(bench.run({kDram, kDram + 64, 64, 1, 0, 0, 0, 0}) == CX_STATUS_OK);
}

TEST_CASE("an aborted transfer stops, reports it, and the channel works again") {
  Bench &bench = Bench::get();
  bench.start(1, {kHost, kDram, 4 << 20, 1, 0, 0, 0, kFromHost});
  sc_core::sc_start(bench.clock.span(5000));
  CHECK((bench.read(CX_SDMA_STATUS(1)) & CX_SDMA_STATUS_BUSY_MASK) != 0);
  bench.write(CX_SDMA_CTRL(1), CX_SDMA_CTRL_ABORT_MASK);
  CHECK(bench.finish(1) == CX_STATUS_ABORTED);
  CHECK(bench.run({kHost, kDram, 64, 1, 0, 0, 0, kFromHost}, 1) == CX_STATUS_OK);
}

TEST_CASE("large transfers run at the link's rate in each direction, channels share it") {
  Bench &bench = Bench::get();
  constexpr uint32_t kBytes = 2 << 20;
  const double per_cycle = PcieLink::bytes_per_second(4, 16) * 1e-9;
  const auto timed = [&](const Bench::Job &job) {
    const Cycles start = bench.now();
    REQUIRE(bench.run(job) == CX_STATUS_OK);
    return static_cast<double>(bench.now() - start);
  };
  // Header and acknowledgement bytes per 512 bytes read: two completions and one request's acknowledgement.
  const double read = kBytes * ((2 * 276.0 + 8) / 512) / per_cycle;
  CHECK(timed({kHost, kDram, kBytes, 1, 0, 0, 0, kFromHost}) == Approx(read + 700).epsilon(0.02));
  const double write = kBytes * (280.0 / 256) / per_cycle;
  CHECK(timed({kDram, kHost, kBytes, 1, 0, 0, 0, kToHost}) == Approx(write).epsilon(0.02));

  const Cycles start = bench.now();
  bench.start(0, {kHost, kDram, kBytes, 1, 0, 0, 0, kFromHost});
  bench.start(1, {kHost + kBytes, kDram + kBytes, kBytes, 1, 0, 0, 0, kFromHost});
  REQUIRE(bench.finish(0) == CX_STATUS_OK);
  const auto first = static_cast<double>(bench.now() - start);
  REQUIRE(bench.finish(1) == CX_STATUS_OK);
  const auto both = static_cast<double>(bench.now() - start);
  CHECK(both == Approx(2 * read).epsilon(0.03));
  CHECK(first > 1.9 * read);  // side by side, not one after the other
}

TEST_CASE("a packet fetch takes a round trip") {
  Bench &bench = Bench::get();
  const Cycles start = bench.now();
  REQUIRE(bench.run({kHost, kDram, 64, 1, 0, 0, 0, kFromHost}) == CX_STATUS_OK);
  const Cycles took = bench.now() - start;
  CHECK(took > 2 * 350);
  CHECK(took < 2 * 350 + 150);
}

TEST_CASE("MSI-X messages: masked ones wait in PBA, vectors that do not exist are counted") {
  Bench &bench = Bench::get();
  PcieEndpoint &pcie = bench.pcie;
  pcie.raise(3);  // MSI-X is off
  sc_core::sc_start(bench.clock.span(2000));
  CHECK(pcie.arrived().empty());
  pcie.raise(99);
  const auto msix = [&](uint32_t offset, uint32_t value, bool write) {
    tlm::tlm_generic_payload transaction;
    transaction.set_command(write ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
    transaction.set_address(CX_PERIPHERAL_BASE + CX_MAP_MSIX_OFFSET + offset);
    transaction.set_data_ptr(reinterpret_cast<unsigned char *>(&value));
    transaction.set_data_length(4);
    transaction.set_streaming_width(4);
    auto delay = sc_core::SC_ZERO_TIME;
    pcie.bus->b_transport(transaction, delay);
    REQUIRE(transaction.is_response_ok());
    return value;
  };
  CHECK(msix(0x8000, 0, false) == 1u << 3);
  CHECK(msix(0x9008, 0, false) == 1);
  msix(0x000c + 3 * 16, 0, true);  // unmasked, but MSI-X is still off
  CHECK(msix(0x8000, 0, false) == 1u << 3);
  std::byte enable[2] = {std::byte{0}, std::byte{0x80}};
  PcieEndpoint::Read write{PcieEndpoint::kConfigSpace, ConfigSpace::kMsix + 2, enable, 2, false, {}};
  pcie.send_config_write(write);
  const Cycles start = bench.now();
  while (pcie.arrived().empty()) {
    REQUIRE(sc_core::sc_pending_activity());
    sc_core::sc_start(sc_core::sc_time_to_pending_activity());
  }
  CHECK(pcie.arrived().front() == 3);
  CHECK(bench.now() - start >= 700);
  CHECK(msix(0x8000, 0, false) == 0);
  CHECK(msix(0x9004, 0, false) == 1);
}
