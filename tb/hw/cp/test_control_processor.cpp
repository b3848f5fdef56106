// The control processor in SystemC: bus, interrupt controller, timer, sleep, reset, crash, firmware memory.
#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "hw/cp/control_processor.hpp"
#include "hw/cp/elf.hpp"
#include "hw/noc/origin.hpp"
#include "hw/regs/gen/intc_regs.h"

namespace {

using namespace cx::hw;
using sc_core::sc_time;

constexpr uint32_t kStage = 0x10, kResults = 0x20;
constexpr uint64_t kDeviceCycles = 20;

struct Bench : sc_core::sc_module {
  Clock clock{1000};
  ControlProcessor cp{"cp", clock, {}};
  tlm_utils::simple_initiator_socket<Bench> tcm{"tcm"};
  tlm_utils::simple_initiator_socket<Bench> intc{"intc"};
  tlm_utils::simple_target_socket<Bench> device{"device"};
  uint32_t device_value = 0;
  std::vector<uint64_t> addresses;
  std::vector<std::string> lines;
  std::vector<ControlProcessor::Crash> crashes;

  explicit Bench(sc_core::sc_module_name name) : sc_module(name) {
    tcm.bind(cp.tcm_socket);
    intc.bind(cp.intc_socket);
    cp.bus_socket.bind(device);
    device.register_b_transport(this, &Bench::device_transport);
    cp.on_trace([this](const std::string &line) { lines.push_back(line); });
    cp.on_crash([this](const ControlProcessor::Crash &crash) { crashes.push_back(crash); });
  }

  // One register of 4 bytes at 0x40000100.
  void device_transport(tlm::tlm_generic_payload &payload, sc_time &delay) {
    addresses.push_back(payload.get_address());
    delay += clock.span(kDeviceCycles);
    if (payload.get_address() != 0x40000100) {
      payload.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    } else if (payload.get_data_length() != 4) {
      payload.set_response_status(tlm::TLM_BURST_ERROR_RESPONSE);
    } else {
      if (payload.is_write()) std::memcpy(&device_value, payload.get_data_ptr(), 4);
      if (payload.is_read()) std::memcpy(payload.get_data_ptr(), &device_value, 4);
      payload.set_response_status(tlm::TLM_OK_RESPONSE);
    }
  }

  void load(const std::string &program) {
    const ElfImage image = load_elf(std::string(CX_PROGRAM_DIR "/") + program + ".elf");
    std::memset(cp.tcm(), 0, cp.tcm_bytes());
    for (const auto &segment : image.segments) {
      REQUIRE(segment.address - 0x80000000u + segment.data.size() <= cp.tcm_bytes());
      std::memcpy(cp.tcm() + (segment.address - 0x80000000u), segment.data.data(), segment.data.size());
    }
  }
  uint32_t word(uint32_t offset) {
    uint32_t value;
    std::memcpy(&value, cp.tcm() + offset, 4);
    return value;
  }
  uint32_t result(unsigned index) { return word(kResults + 4 * index); }
  void run(uint64_t cycles) { sc_start(clock.span(cycles)); }
  // Until the program has reached a stage; fails after `cycles`.
  void reach(uint32_t stage, uint64_t cycles = 20'000) {
    for (uint64_t spent = 0; word(kStage) < stage && spent < cycles; spent += 50) run(50);
    REQUIRE(word(kStage) == stage);
  }
  void start(const std::string &program) {
    cp.set_reset(true);
    for (unsigned line = 0; line < 32; ++line) cp.set_line(line, false);
    run(10);
    load(program);
    lines.clear();
    crashes.clear();
    addresses.clear();
    cp.set_reset(false);
  }

  tlm::tlm_response_status access(tlm_utils::simple_initiator_socket<Bench> &socket, tlm::tlm_command command,
                                  uint64_t address, void *data, unsigned size,
                                  cx::regs::Side side = cx::regs::Side::host) {
    tlm::tlm_generic_payload payload;
    OriginExtension origin;
    origin.side = side;
    payload.set_extension(&origin);
    payload.set_command(command);
    payload.set_address(address);
    payload.set_data_ptr(static_cast<unsigned char *>(data));
    payload.set_data_length(size);
    payload.set_streaming_width(size);
    sc_time delay;
    socket->b_transport(payload, delay);
    payload.clear_extension(&origin);
    return payload.get_response_status();
  }
  uint32_t intc_read(uint32_t offset) {
    uint32_t value = 0;
    REQUIRE(access(intc, tlm::TLM_READ_COMMAND, offset, &value, 4) == tlm::TLM_OK_RESPONSE);
    return value;
  }
};

Bench &bench() {
  static Bench instance("bench");
  return instance;
}

}  // namespace

TEST_CASE("Held in reset until it is released") {
  Bench &b = bench();
  b.load("system");
  CHECK(b.cp.in_reset());
  b.run(1000);
  CHECK(b.cp.instructions() == 0);
  CHECK(b.word(kStage) == 0);
}

TEST_CASE("Bus accesses, faults and the log") {
  Bench &b = bench();
  b.start("system");
  b.reach(1);
  CHECK(b.lines == std::vector<std::string>{"ok"});
  CHECK(b.result(0) == 0x12345678);
  CHECK(b.device_value == 0x12345678);
  // csrr, then the load: its own two cycles and the device's.
  CHECK(b.result(1) == 1 + 2 + kDeviceCycles);
  CHECK(b.result(2) == 7);  // store fault: the device takes words only
  CHECK(b.result(3) == 5);  // load fault: no such address
  CHECK(b.result(4) == 5);  // load fault: registers of intc are words
  CHECK(b.addresses == std::vector<uint64_t>{0x40000100, 0x40000100, 0x40000100, 0x40000200});
}

TEST_CASE("Sleep costs nothing and ends with a line or the timer") {
  Bench &b = bench();
  b.start("system");
  b.reach(1);
  b.run(1000);
  CHECK(b.cp.sleeping());
  const uint64_t instructions = b.cp.instructions(), cycles = b.cp.cycles();
  CHECK_FALSE(sc_core::sc_pending_activity());
  b.run(1'000'000);
  CHECK(b.cp.instructions() == instructions);
  CHECK(b.cp.cycles() == cycles);
  CHECK(b.cp.sleeping());
  b.cp.set_line(2, true);  // not enabled
  b.run(100);
  CHECK(b.cp.sleeping());
  const uint64_t woken = b.cp.device_time();
  b.cp.set_line(3, true);
  b.reach(2);
  CHECK(b.result(5) - static_cast<uint32_t>(woken) <= 4);
  CHECK(b.result(6) == ((1u << 2) | (1u << 3)));

  b.reach(3);
  CHECK(b.result(8) - b.result(7) >= 5000);
  CHECK(b.result(8) - b.result(7) <= 5010);
}

TEST_CASE("An interrupt reaches a running program within a quantum") {
  Bench &b = bench();
  b.start("system");
  b.reach(1);
  b.cp.set_line(3, true);
  b.reach(3);
  b.run(2000);
  CHECK_FALSE(b.cp.sleeping());
  CHECK(b.word(kStage) == 3);
  const uint64_t before = b.cp.device_time();
  b.cp.set_line(5, true);
  b.reach(4);
  CHECK(b.cp.device_time() - before <= 256 + 100);
  CHECK(b.result(9) == 0x8000000b);
}

TEST_CASE("A crash is reported once, and reset brings the core back") {
  Bench &b = bench();
  b.start("system");
  b.reach(1);
  b.cp.set_line(3, true);
  b.cp.set_line(5, true);
  b.reach(4);
  b.cp.set_line(6, true);
  b.run(2000);
  REQUIRE(b.crashes.size() == 1);
  CHECK(b.crashes[0].cause == 1);  // the second exception: nothing to fetch at 0
  CHECK(b.crashes[0].pc == 0);
  CHECK(b.cp.crashed());
  CHECK_FALSE(sc_core::sc_pending_activity());
  b.start("system");
  b.reach(1);
  CHECK_FALSE(b.cp.crashed());
}

TEST_CASE("Reset in the middle of anything starts from the beginning") {
  Bench &b = bench();
  for (uint64_t cycles = 1; cycles < 200; cycles += 7) {
    b.start("system");
    b.run(cycles);
    b.cp.set_reset(true);
    b.run(300);
    const uint64_t instructions = b.cp.instructions();
    b.run(300);
    CHECK(b.cp.instructions() == instructions);
    // Released in the same instant as it was asserted: still a restart.
    b.start("system");
    b.run(cycles);
    b.cp.set_reset(true);
    b.load("system");
    b.cp.set_reset(false);
    b.reach(1);
    CHECK(b.lines.back() == "ok");
  }
}

TEST_CASE("The host sees the interrupt controller and cannot change it") {
  Bench &b = bench();
  b.start("system");
  b.reach(1);
  b.run(500);
  CHECK(b.intc_read(CX_INTC_ENABLE) == 1u << 3);
  b.cp.set_line(7, true);
  CHECK(b.intc_read(CX_INTC_PENDING) == 1u << 7);
  CHECK(b.intc_read(CX_INTC_MTIME_LO) == static_cast<uint32_t>(b.cp.device_time()));
  CHECK(b.intc_read(CX_INTC_MTIME_HI) == static_cast<uint32_t>(b.cp.device_time() >> 32));
  uint32_t value = 0xff;
  CHECK(b.access(b.intc, tlm::TLM_WRITE_COMMAND, CX_INTC_ENABLE, &value, 4) == tlm::TLM_OK_RESPONSE);
  CHECK(b.intc_read(CX_INTC_ENABLE) == 1u << 3);
  CHECK(b.access(b.intc, tlm::TLM_READ_COMMAND, CX_INTC_ENABLE, &value, 2) != tlm::TLM_OK_RESPONSE);
  CHECK(b.access(b.intc, tlm::TLM_READ_COMMAND, 0x008, &value, 4) != tlm::TLM_OK_RESPONSE);
  CHECK(b.access(b.intc, tlm::TLM_READ_COMMAND, 0x10000, &value, 4) != tlm::TLM_OK_RESPONSE);
  CHECK_THROWS_AS(b.cp.set_line(32, true), std::out_of_range);
}

TEST_CASE("Firmware memory: transport, DMI and its bounds") {
  Bench &b = bench();
  b.cp.set_reset(true);
  uint64_t value = 0x1122334455667788, back = 0;
  const uint64_t end = b.cp.tcm_bytes();
  CHECK(b.access(b.tcm, tlm::TLM_WRITE_COMMAND, end - 8, &value, 8) == tlm::TLM_OK_RESPONSE);
  CHECK(b.access(b.tcm, tlm::TLM_READ_COMMAND, end - 8, &back, 8) == tlm::TLM_OK_RESPONSE);
  CHECK(back == value);
  CHECK(b.access(b.tcm, tlm::TLM_READ_COMMAND, end - 4, &back, 8) == tlm::TLM_ADDRESS_ERROR_RESPONSE);
  CHECK(b.access(b.tcm, tlm::TLM_READ_COMMAND, ~0ull - 3, &back, 8) == tlm::TLM_ADDRESS_ERROR_RESPONSE);
  tlm::tlm_generic_payload payload;
  payload.set_address(0);
  tlm::tlm_dmi dmi;
  REQUIRE(b.tcm->get_direct_mem_ptr(payload, dmi));
  CHECK(dmi.get_dmi_ptr() == b.cp.tcm());
  CHECK(dmi.get_end_address() == end - 1);
  CHECK(dmi.is_read_write_allowed());
}

TEST_CASE("Wrong parameters are refused") {
  const Clock clock{1000};
  ControlProcessor::Config config;
  config.tcm_bytes = 0;
  CHECK_THROWS_AS(ControlProcessor("bad", clock, config), std::exception);
}
