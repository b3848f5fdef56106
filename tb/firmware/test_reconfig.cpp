// RECONFIG, and programs for one split of a shared array.
#include <catch2/catch.hpp>
#include <cstring>

#include "tb/firmware/bench.hpp"

namespace cx::tb {
namespace {

constexpr uint32_t kSwitchCycles = 20'000;
constexpr SharedArray kArray{16, 12, 4, kSwitchCycles};

packets::Reconfig reconfig(uint32_t sca_tiles) {
  packets::Reconfig packet;
  packet.sca_tiles = sca_tiles;
  return packet;
}

/// What registers say: the split, and the tiles that are off.
void check_split(Bench &bench, uint32_t sca_tiles) {
  CHECK(bench.chip.read(kDev, CX_DEV_ARRAY_SPLIT) == sca_tiles);
  CHECK(bench.chip.engines[2].get(EngineReg::TILES_OFF) == sca_tiles);
  CHECK(bench.chip.engines[4].get(EngineReg::TILES_OFF) == kArray.sparse_tiles - sca_tiles);
}

Program program_for(uint32_t sca_tiles) {
  Program program;
  program.header.sca_tiles = sca_tiles;
  return program;
}

}  // namespace

TEST_CASE("Boot sets the split of a shared array") {
  Bench bench(4, 4, kArray);
  CHECK((bench.chip.read(kDev, CX_DEV_FW_CAPS) >> CX_PKT_RECONFIG & 1) == 1);
  check_split(bench, kArray.boot_sca_tiles);
}

TEST_CASE("RECONFIG changes the split and takes its time; the present split costs nothing") {
  Bench bench(4, 4, kArray);
  bench.enable(0);
  for (uint32_t sca_tiles : {12u, 0u, 7u}) {
    const auto record = bench.run(0, reconfig(sca_tiles));
    CHECK(record.status == CX_STATUS_OK);
    CHECK(record.end - record.start >= kSwitchCycles);
    CHECK(record.end - record.start < kSwitchCycles + 2000);
    check_split(bench, sca_tiles);
    const auto again = bench.run(0, reconfig(sca_tiles));
    CHECK(again.status == CX_STATUS_OK);
    CHECK(again.end - again.start < 2000);
  }
}

TEST_CASE("RECONFIG waits for the program that runs, a launch waits for the change") {
  Bench bench(4, 4, kArray);
  bench.enable(0);
  bench.enable(1);
  for (auto &plan : bench.chip.plans) plan.cycles = 50'000;
  Program program = program_for(kArray.boot_sca_tiles);
  program.install(bench.chip);
  bench.submit(0, program.packet());
  REQUIRE(bench.chip.run_until([&] { return !bench.chip.engine_starts.empty(); }));
  bench.submit(1, reconfig(9));
  REQUIRE_FALSE(bench.chip.run_until([&] { return bench.done(1, 0); }, 30'000));
  check_split(bench, kArray.boot_sca_tiles);
  bench.wait(1, 0);
  CHECK(bench.record(0, 0).status == CX_STATUS_OK);
  CHECK(bench.record(1, 0).status == CX_STATUS_OK);
  CHECK(bench.record(0, 0).end <= bench.record(1, 0).end - kSwitchCycles);
  check_split(bench, 9);

  program = program_for(3);
  program.install(bench.chip);
  bench.chip.engine_starts.clear();
  bench.submit(1, reconfig(3));
  REQUIRE(bench.chip.run_until([&] { return bench.chip.read(kDev, CX_DEV_ARRAY_SPLIT) == 3; }));
  bench.submit(0, program.packet());
  bench.wait(0, 1);
  CHECK(bench.record(0, 1).status == CX_STATUS_OK);
  CHECK(bench.record(1, 1).end <= bench.record(0, 1).start);
}

TEST_CASE("A program for another split is a fault that says the present one, and starts nothing") {
  Bench bench(4, 4, kArray);
  bench.enable(0);
  for (uint32_t other : {0u, 3u, 5u, 12u, ~0u}) {
    INFO(other);
    Program program = program_for(other);
    program.install(bench.chip);
    const auto record = bench.run(0, program.packet());
    CHECK(record.status == CX_STATUS_WRONG_SPLIT);
    CHECK(record.detail == offsetof(cx_program_header, sca_tiles));
    const auto fault = bench.take_fault();
    CHECK(fault.code == CX_STATUS_WRONG_SPLIT);
    CHECK(fault.address == kArray.boot_sca_tiles);
    CHECK(bench.chip.engine_starts.empty());
  }
  Program program = program_for(5);
  program.install(bench.chip);
  CHECK(bench.run(0, reconfig(5)).status == CX_STATUS_OK);
  CHECK(bench.run(0, program.packet()).status == CX_STATUS_OK);
  // The split is covered by the checksum.
  program.header.sca_tiles = 6;
  program.install(bench.chip, true);
  const auto record = bench.run(0, program.packet());
  CHECK(record.status == CX_STATUS_BAD_PROGRAM);
  CHECK(record.detail == offsetof(cx_program_header, crc));
}

TEST_CASE("RECONFIG to what the array does not have is refused") {
  Bench bench(4, 4, kArray);
  bench.enable(0);
  for (uint32_t sca_tiles : {13u, 16u, ~0u}) {
    const auto record = bench.run(0, reconfig(sca_tiles));
    CHECK(record.status == CX_STATUS_BAD_FIELD);
    CHECK(record.detail == offsetof(cx_packet_reconfig, sca_tiles));
    CHECK(bench.take_fault().address == sca_tiles);
    check_split(bench, kArray.boot_sca_tiles);
  }
  for (unsigned byte = 28; byte < 64; ++byte) {
    Bytes bytes = reconfig(5).to_bytes();
    bytes[byte] = 1;
    const uint32_t index = bench.put_raw(0, bytes);
    bench.ring(0);
    REQUIRE(bench.chip.run_until([&] { return bench.read_index(0) == index + 1; }));
    CHECK(bench.take_fault().code == CX_STATUS_RESERVED_BITS);
  }
  check_split(bench, kArray.boot_sca_tiles);
}

TEST_CASE("QUEUE_RESET ends a change that is under way; the new split is complete") {
  Bench bench(4, 4, kArray);
  bench.enable(0);
  bench.enable(1);
  bench.submit(0, reconfig(8));
  REQUIRE(bench.chip.run_until([&] { return bench.chip.read(kDev, CX_DEV_ARRAY_SPLIT) == 8; }));
  bench.command(CX_DEV_HOST_CMD_OP_QUEUE_RESET, 0);
  CHECK(bench.record(0, 0).status == CX_STATUS_ABORTED);
  check_split(bench, 8);
  Program program = program_for(8);
  program.install(bench.chip);
  CHECK(bench.run(1, program.packet()).status == CX_STATUS_OK);
}

TEST_CASE("RECONFIG of an engine that hangs is a fault with the engine") {
  Bench bench(4, 4, kArray);
  bench.enable(0);
  bench.chip.plans[2].end = MockChip::Plan::End::kHang;
  bench.chip.plans[2].ignores_reset = true;
  Program program = program_for(kArray.boot_sca_tiles);
  program.install(bench.chip);
  auto launch = program.packet();
  launch.timeout_kcycles = 1;
  CHECK(bench.run(0, launch).status != CX_STATUS_OK);
  bench.take_fault();
  CHECK(bench.run(0, reconfig(0)).status == CX_STATUS_ENGINE_HANG);
  CHECK(bench.take_fault().engine == 2);
  check_split(bench, kArray.boot_sca_tiles);
}

}  // namespace cx::tb
