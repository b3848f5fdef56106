// NoC routing, DMI and timing; scratchpad and DRAM behind it.
#include "hw/noc/noc.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/dram/dram.hpp"
#include "hw/noc/register_target.hpp"
#include "hw/spm/spm.hpp"
#include "tb/hw/noc/noc_bench.hpp"

using namespace cx::hw;
using namespace cx::hw::test;
namespace regs = cx::regs;

namespace {

constexpr std::uint64_t kDramBytes = std::uint64_t{16} << 30;

// Remembers how it was reached; two registers behind it: 0 is read-only for the host.
struct Slave : sc_core::sc_module {
  static constexpr std::array<regs::RegDesc, 2> kTable{{{"A", 0, 1, 4, 0x11, regs::Access::ro, regs::Access::rw, {}},
                                                        {"B", 8, 1, 4, 0x22, regs::Access::rw, regs::Access::rw, {}}}};
  tlm_utils::simple_target_socket<Slave> socket;
  regs::RegFile file{kTable, 0x100};
  std::uint64_t address = 0;
  sc_core::sc_time arrival;

  explicit Slave(sc_core::sc_module_name name) : sc_module(name), socket("socket") {
    socket.register_b_transport(this, &Slave::b_transport);
  }
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
    address = transaction.get_address();
    arrival = sc_core::sc_time_stamp() + delay;
    access_registers(file, transaction);
  }
};

struct Bench {
  Clock clock{1000};
  Noc noc{"noc", clock, NocParams{64, 4}};
  Spm spm{"spm", clock, SpmParams{1 << 16, 4, 32, 3}};
  Dram dram{"dram", clock, DramParams{kDramBytes, 4, 64, 80, 1024, 64}};
  Master host{"host"};
  Master firmware{"firmware"};
  Master port{"port"};
  Slave slave{"slave"};
  Noc::InitiatorId host_id, firmware_id, port_id;
  std::vector<std::unique_ptr<Dram>> drams;  // not on the NoC
  std::vector<std::unique_ptr<Master>> masters;

  Bench() {
    host_id = noc.add_initiator("host", host.socket, regs::Side::host);
    firmware_id = noc.add_initiator("firmware", firmware.socket);
    port_id = noc.add_initiator("port", port.socket);
    noc.add_target("dram", kDramBase, kDramBytes, dram.socket, &dram, 4);
    noc.add_target("regs", kRegsBase, 0x100, slave.socket);
    noc.add_target("spm", kSpmBase, spm.bytes(), spm.socket, &spm);
    REQUIRE_THROWS_AS(noc.add_target("again", kRegsBase + 0xff, 16, slave.socket), std::invalid_argument);
    REQUIRE_THROWS_AS(noc.add_target("wraps", ~std::uint64_t{0} - 3, 16, slave.socket), std::invalid_argument);
    REQUIRE_THROWS_AS(noc.add_target("empty", 0, 0, slave.socket), std::invalid_argument);
    for (unsigned channels : {1u, 2u, 3u, 8u}) {
      // Rates of a whole number of bytes per cycle, so that a reference has no roundings.
      drams.push_back(std::make_unique<Dram>(("dram_" + std::to_string(channels)).c_str(), clock,
                                             DramParams{1 << 24, channels, 32.0 * channels, 10, 256, 64}));
      masters.push_back(std::make_unique<Master>(("master_" + std::to_string(channels)).c_str()));
      masters.back()->socket.bind(drams.back()->socket);
    }
    REQUIRE_THROWS_AS(Dram("d0", clock, DramParams{0, 4, 64, 80, 1024, 64}), std::invalid_argument);
    REQUIRE_THROWS_AS(Dram("d1", clock, DramParams{1 << 20, 0, 64, 80, 1024, 64}), std::invalid_argument);
    REQUIRE_THROWS_AS(Dram("d2", clock, DramParams{1 << 20, 4, 0, 80, 1024, 64}), std::invalid_argument);
    REQUIRE_THROWS_AS(Dram("d3", clock, DramParams{1 << 20, 4, 64, 80, 100, 64}), std::invalid_argument);
    REQUIRE_THROWS_AS(Spm("s0", clock, SpmParams{0, 4, 32, 3}), std::invalid_argument);
    REQUIRE_THROWS_AS(Spm("s1", clock, SpmParams{1 << 16, 0, 32, 3}), std::invalid_argument);
    sc_core::sc_start(sc_core::SC_ZERO_TIME);
  }
  void reset() {
    noc.reset();
    spm.reset();
    dram.reset();
    slave.file.reset();
  }
};

Bench &bench() {
  static Bench *instance = new Bench;
  instance->reset();
  return *instance;
}

constexpr auto kRead = tlm::TLM_READ_COMMAND;
constexpr auto kWrite = tlm::TLM_WRITE_COMMAND;

}  // namespace

TEST_CASE("clock rounds the period to picoseconds") {
  CHECK(Clock(1200).period_ps() == 833);
  CHECK(Clock(1000).floor(sc_core::sc_time::from_value(1999)) == 1);
  CHECK(Clock(1000).ceil(sc_core::sc_time::from_value(1001)) == 2);
  CHECK_THROWS_AS(Clock(0), std::invalid_argument);
  CHECK_THROWS_AS(Clock(-5), std::invalid_argument);
}

TEST_CASE("transactions reach the target of their address, relative to its window") {
  Bench &b = bench();
  std::uint32_t word = 0;
  CHECK(access(b.firmware, kRead, kRegsBase + 8, &word, 4).status == tlm::TLM_OK_RESPONSE);
  CHECK(word == 0x22);
  CHECK(b.slave.address == 8);

  std::uint64_t value = 0x0123456789abcdef, back = 0;
  CHECK(access(b.host, kWrite, kDramBase + kDramBytes - 8, &value, 8).status == tlm::TLM_OK_RESPONSE);
  CHECK(access(b.firmware, kRead, kDramBase + kDramBytes - 8, &back, 8).status == tlm::TLM_OK_RESPONSE);
  CHECK(back == value);
  CHECK(std::memcmp(b.dram.data() + kDramBytes - 8, &value, 8) == 0);
  CHECK(access(b.host, kWrite, kSpmBase + 5, &value, 8).status == tlm::TLM_OK_RESPONSE);
  CHECK(std::memcmp(b.spm.data() + 5, &value, 8) == 0);
}

TEST_CASE("addresses outside the windows are address errors") {
  Bench &b = bench();
  std::array<std::byte, 16> data{};
  for (std::uint64_t address :
       {std::uint64_t{0}, kRegsBase - 1, kRegsBase + 0x100, kSpmBase - 4, kDramBase + kDramBytes, ~std::uint64_t{0}}) {
    CHECK(access(b.host, kRead, address, data.data(), 4).status == tlm::TLM_ADDRESS_ERROR_RESPONSE);
  }
  // Ranges that leave their window.
  CHECK(access(b.host, kRead, kSpmBase + b.spm.bytes() - 8, data.data(), 16).status == tlm::TLM_ADDRESS_ERROR_RESPONSE);
  CHECK(access(b.host, kRead, kRegsBase - 4, data.data(), 8).status == tlm::TLM_ADDRESS_ERROR_RESPONSE);
  CHECK_FALSE(b.noc.mapped(kDramBase + kDramBytes - 1, 2));
  CHECK(b.noc.mapped(kDramBase + kDramBytes - 2, 2));
  CHECK_THROWS_AS(b.noc.reserve(b.host_id, 0, kRegsBase + 0xf0, 32, false), std::out_of_range);
}

TEST_CASE("register files see who accesses and refuse odd accesses") {
  Bench &b = bench();
  std::uint32_t word = 0x77;
  CHECK(access(b.host, kWrite, kRegsBase, &word, 4).status == tlm::TLM_OK_RESPONSE);
  CHECK(b.slave.file.raw_get(0) == 0x11);
  CHECK(access(b.firmware, kWrite, kRegsBase, &word, 4).status == tlm::TLM_OK_RESPONSE);
  CHECK(b.slave.file.raw_get(0) == 0x77);
  std::uint64_t wide = 0;
  CHECK(access(b.firmware, kRead, kRegsBase + 4, &word, 4).status == tlm::TLM_ADDRESS_ERROR_RESPONSE);
  CHECK(access(b.firmware, kRead, kRegsBase + 2, &word, 4).status == tlm::TLM_BURST_ERROR_RESPONSE);
  CHECK(access(b.firmware, kRead, kRegsBase, &wide, 8).status == tlm::TLM_BURST_ERROR_RESPONSE);
  CHECK(access(b.firmware, kRead, kRegsBase, &wide, 1).status == tlm::TLM_BURST_ERROR_RESPONSE);
}

TEST_CASE("DMI is granted in the initiator's addresses and its invalidation comes back in them") {
  Bench &b = bench();
  tlm::tlm_generic_payload transaction;
  tlm::tlm_dmi dmi;
  transaction.set_address(kDramBase + 0x1234);
  REQUIRE(b.host.socket->get_direct_mem_ptr(transaction, dmi));
  CHECK(dmi.get_start_address() == kDramBase);
  CHECK(dmi.get_end_address() == kDramBase + kDramBytes - 1);
  CHECK(dmi.get_dmi_ptr() == reinterpret_cast<unsigned char *>(b.dram.data()));
  CHECK(dmi.is_read_write_allowed());
  CHECK(transaction.get_address() == kDramBase + 0x1234);

  transaction.set_address(kRegsBase);
  CHECK_FALSE(b.host.socket->get_direct_mem_ptr(transaction, dmi));
  transaction.set_address(0x1000);
  CHECK_FALSE(b.host.socket->get_direct_mem_ptr(transaction, dmi));

  b.spm.socket->invalidate_direct_mem_ptr(16, 31);
  CHECK(b.host.invalidated_first == kSpmBase + 16);
  CHECK(b.firmware.invalidated_last == kSpmBase + 31);
}

TEST_CASE("debug accesses stop at the end of the window and take no time") {
  Bench &b = bench();
  std::array<unsigned char, 8> data{1, 2, 3, 4, 5, 6, 7, 8};
  tlm::tlm_generic_payload transaction;
  transaction.set_command(kWrite);
  transaction.set_address(kSpmBase + b.spm.bytes() - 3);
  transaction.set_data_ptr(data.data());
  transaction.set_data_length(8);
  CHECK(b.host.socket->transport_dbg(transaction) == 3);
  CHECK(static_cast<int>(b.spm.data()[b.spm.bytes() - 1]) == 3);
  transaction.set_address(4);
  CHECK(b.host.socket->transport_dbg(transaction) == 0);
  CHECK(b.noc.bytes_carried() == 0);
}

TEST_CASE("memory targets honour byte enables and refuse streaming bursts") {
  Bench &b = bench();
  std::array<unsigned char, 8> data{1, 2, 3, 4, 5, 6, 7, 8};
  std::array<unsigned char, 2> enables{TLM_BYTE_ENABLED, TLM_BYTE_DISABLED};
  tlm::tlm_generic_payload transaction;
  transaction.set_command(kWrite);
  transaction.set_address(kSpmBase);
  transaction.set_data_ptr(data.data());
  transaction.set_data_length(8);
  transaction.set_streaming_width(8);
  transaction.set_byte_enable_ptr(enables.data());
  transaction.set_byte_enable_length(2);
  sc_core::sc_time delay;
  b.host.socket->b_transport(transaction, delay);
  CHECK(transaction.get_response_status() == tlm::TLM_OK_RESPONSE);
  const std::array<unsigned char, 8> expected{1, 0, 3, 0, 5, 0, 7, 0};
  CHECK(std::memcmp(b.spm.data(), expected.data(), 8) == 0);
  transaction.set_byte_enable_ptr(nullptr);
  transaction.set_streaming_width(4);
  b.host.socket->b_transport(transaction, delay);
  CHECK(transaction.get_response_status() == tlm::TLM_BURST_ERROR_RESPONSE);
}

TEST_CASE("time of register accesses: four hops and one beat") {
  Bench &b = bench();
  std::uint32_t word = 0;
  // Read: request 2 hops = 8, target, data 1 cycle, 2 hops back.
  CHECK(access(b.firmware, kRead, kRegsBase, &word, 4).delay == ns(17));
  CHECK(b.slave.arrival == sc_core::sc_time_stamp() + ns(8));
  b.noc.reset();
  CHECK(access(b.firmware, kWrite, kRegsBase, &word, 4).delay == ns(17));
  CHECK(b.slave.arrival == sc_core::sc_time_stamp() + ns(9));
  CHECK(b.noc.bytes_carried() == 4);
}

TEST_CASE("a port for registers goes beside the links and takes what it says") {
  Bench &b = bench();
  b.noc.set_port(b.port_id, 2);
  const auto access = [&](Master &master, std::uint64_t address, tlm::tlm_command command, sc_core::sc_time &delay) {
    std::uint32_t value = 7;
    tlm::tlm_generic_payload payload;
    payload.set_command(command);
    payload.set_address(address);
    payload.set_data_ptr(reinterpret_cast<unsigned char *>(&value));
    payload.set_data_length(4);
    payload.set_streaming_width(4);
    payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
    master.socket->b_transport(payload, delay);
    CHECK(payload.is_response_ok());
    return value;
  };
  for (const tlm::tlm_command command : {tlm::TLM_WRITE_COMMAND, tlm::TLM_READ_COMMAND}) {
    sc_core::sc_time delay = b.clock.span(5);
    CHECK(access(b.port, kRegsBase + 8, command, delay) == 7);
    CHECK(delay == b.clock.span(7));
    CHECK(b.slave.address == 8);
  }
  CHECK(b.noc.bytes_carried() == 0);
  b.noc.set_port(b.port_id, 0);
  sc_core::sc_time none = sc_core::SC_ZERO_TIME;
  access(b.port, kRegsBase + 8, tlm::TLM_READ_COMMAND, none);
  CHECK(none == sc_core::SC_ZERO_TIME);
  // Memories have none, nor has another initiator.
  sc_core::sc_time memory = sc_core::SC_ZERO_TIME, other = sc_core::SC_ZERO_TIME;
  access(b.port, kSpmBase, tlm::TLM_READ_COMMAND, memory);
  CHECK(memory > b.clock.span(4 * 4));
  access(b.host, kRegsBase + 8, tlm::TLM_READ_COMMAND, other);
  CHECK(other > b.clock.span(4 * 4));
  CHECK(b.noc.bytes_carried() == 8);
}

TEST_CASE("bandwidth servers add up small requests exactly") {
  BandwidthServer server(48);
  for (int i = 0; i < 999; ++i) server.reserve(0, 16);
  CHECK(server.reserve(0, 16) == 334);  // 16000 / 48 = 333.33
  CHECK(server.reserve(1000, 48) == 1001);
  CHECK(server.reserve(1000, 1) == 1002);
  CHECK_THROWS_AS(BandwidthServer(0), std::invalid_argument);
  CHECK_THROWS_AS(BandwidthServer(-1), std::invalid_argument);
}

TEST_CASE("DRAM: channels by address, bursts, latency, queueing") {
  Bench &b = bench();  // 16 bytes per cycle and channel, 80 cycles of latency
  SECTION("one burst") { CHECK(b.dram.reserve(100, 0, 64, false) == 100 + 4 + 80); }
  SECTION("a byte costs a burst, two neighbours across a boundary cost two") {
    CHECK(b.dram.reserve(0, 5, 1, false) == 84);
    CHECK(b.dram.bytes_read() == 64);
    CHECK(b.dram.reserve(1000, 63, 2, true) == 1088);
    CHECK(b.dram.bytes_written() == 128);
  }
  SECTION("a bulk request uses all channels") {
    CHECK(b.dram.reserve(0, 0, 4096, false) == 64 + 80);
    CHECK(b.dram.reserve(0, 0, 4096, false) == 128 + 80);  // queues behind the first
    CHECK(b.dram.reserve(500, 1 << 20, 1 << 20, true) == 500 + 16384 + 80);
  }
  SECTION("requests to different channels do not wait for each other") {
    CHECK(b.dram.reserve(0, 0, 1024, false) == 144);
    CHECK(b.dram.reserve(0, 1024, 1024, false) == 144);
    CHECK(b.dram.reserve(0, 4096, 64, false) == 148);  // channel 0 again
  }
  SECTION("an odd range: 1024 of channel 0, 512 + 128 of channel 3") {
    CHECK(b.dram.reserve(0, 3 * 1024 + 512, 512 + 1024, false) == 144);
    CHECK(b.dram.reserve(0, 3 * 1024, 128, false) == 32 + 8 + 80);
  }
  SECTION("strided bytes spread over the span") {
    CHECK(b.dram.reserve(0, 0, 1 << 20, 4096, false) == 64 + 80);
    CHECK(b.dram.bytes_read() == 4096);
  }
  SECTION("nothing takes no time") { CHECK(b.dram.reserve(7, 0, 0, false) == 7); }
}

TEST_CASE("DRAM's closed form equals burst by burst") {
  Bench &b = bench();
  const unsigned seed = 20261;
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (auto &device : b.drams) {
    Dram &dram = *device;
    const unsigned channels = dram.params().channels;
    std::vector<std::uint64_t> busy(channels, 0);
    Cycles start = 0;
    for (int i = 0; i < 300; ++i) {
      start += random() % 200;
      const std::uint64_t offset = random() % (1 << 20);
      const std::uint64_t bytes = 1 + random() % (random() % 2 ? 300 : 20000);
      Cycles expected = 0;
      std::vector<std::uint64_t> share(channels, 0);
      for (std::uint64_t burst = offset / 64; burst <= (offset + bytes - 1) / 64; ++burst) {
        share[burst * 64 / 256 % channels] += 64;
      }
      for (unsigned c = 0; c < channels; ++c) {
        if (share[c] == 0) continue;
        busy[c] = std::max<std::uint64_t>(busy[c], start) + share[c] / 32;
        expected = std::max(expected, busy[c] + 10);
      }
      REQUIRE(dram.reserve(start, offset, bytes, false) == expected);
    }
  }
}

TEST_CASE("scratchpad: ports and array") {
  Bench &b = bench();  // 32 bytes per cycle and port, 128 for the array, latency 3
  static const Spm::PortId ports[5] = {b.spm.add_port("p0"), b.spm.add_port("p1"), b.spm.add_port("p2"),
                                       b.spm.add_port("p3"), b.spm.add_port("p4")};
  CHECK(b.spm.reserve(ports[0], 10, 320, false) == 10 + 10 + 3);
  CHECK(b.spm.reserve(ports[0], 10, 320, false) == 10 + 20 + 3);  // behind the first
  CHECK(b.spm.reserve(ports[0], 10, 320, true) == 10 + 10 + 3);   // the other direction
  b.spm.reset();
  for (unsigned i = 0; i < 4; ++i) CHECK(b.spm.reserve(ports[i], 0, 320, false) == 13);
  CHECK(b.spm.reserve(ports[4], 0, 320, false) == 13 + 3);  // 1600 bytes at 128 a cycle take 12.5
  CHECK(b.spm.bytes_read() == 1600);
}

TEST_CASE("bulk transfers over links and DRAM") {
  Bench &b = bench();
  // Read: 8 to get there, DRAM 4096 / 64 = 64 in parallel with the links' 4096 / 64, latency 80, 8 back.
  CHECK(b.noc.reserve(b.firmware_id, 0, kDramBase, 4096, false) == 8 + 80 + 64 + 8);
  CHECK(b.noc.latency(b.firmware_id, kDramBase, false) == 96);
  b.reset();
  // Write: the last byte leaves at 64, arrives at 72, is stored 80 later.
  CHECK(b.noc.reserve(b.firmware_id, 0, kDramBase, 4096, true) == 64 + 8 + 80);
  CHECK(b.noc.latency(b.firmware_id, kDramBase, true) == 88);
  b.reset();
  // Two initiators share the DRAM's channels (64 bytes a cycle), not each other's links.
  CHECK(b.noc.reserve(b.firmware_id, 0, kDramBase, 4096, false) == 160);
  CHECK(b.noc.reserve(b.host_id, 0, kDramBase, 4096, false) == 224);
  b.reset();
  // Two initiators share the one lane of the scratchpad; its NoC port takes 32 bytes a cycle, latency 3.
  CHECK(b.noc.reserve(b.firmware_id, 0, kSpmBase, 640, false) == 8 + 20 + 3 + 8);
  CHECK(b.noc.bytes_carried() == 640);
}

TEST_CASE("16 GiB cost nothing until touched and reset returns them to zero") {
  Bench &b = bench();
  for (std::uint64_t at : {std::uint64_t{0}, kDramBytes / 2, kDramBytes - 1}) {
    CHECK(static_cast<int>(b.dram.data()[at]) == 0);
    b.dram.data()[at] = std::byte{42};
  }
  b.dram.reserve(0, 0, 64, true);
  b.dram.reset();
  for (std::uint64_t at : {std::uint64_t{0}, kDramBytes / 2, kDramBytes - 1}) {
    CHECK(static_cast<int>(b.dram.data()[at]) == 0);
  }
  CHECK(b.dram.bytes_written() == 0);
  CHECK(b.dram.reserve(0, 0, 64, false) == 84);
}
