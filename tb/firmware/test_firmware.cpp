// The firmware on the core, with mock peripherals: handshake, every packet, every way in which a packet can be wrong.
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <string>

#include "hw/regs/gen/isa.h"
#include "hw/regs/gen/ras_regs.h"
#include "tb/firmware/bench.hpp"

namespace cx::tb {

TEST_CASE("Boot: handshake, capabilities, sleep") {
  Bench bench;
  CHECK(bench.chip.read(kDev, CX_DEV_FW_STATUS) ==
        (CX_DEV_FW_STATUS_STATE_READY | (1u << CX_DEV_FW_STATUS_PROTOCOL_SHIFT)));
  CHECK(bench.chip.read(kDev, CX_DEV_FW_VERSION) == 0x00010000);
  CHECK(bench.chip.read(kDev, CX_DEV_FW_CAPS) == 0x43fe);
  CHECK(bench.chip.trace == "firmware ready\n");
  bench.chip.run_to_idle();
  const uint64_t instructions = bench.chip.core.instructions();
  CHECK(instructions < 40000);
  bench.chip.run_until([] { return false; }, 1'000'000'000);
  CHECK(bench.chip.core.instructions() == instructions);
}

TEST_CASE("A trap in the firmware is reported as CRASHED") {
  MockChip chip;
  chip.dev.set(DevReg::NUM_QUEUES, 17);
  chip.run_to_idle();
  CHECK((chip.read(kDev, CX_DEV_FW_STATUS) & 0xff) == CX_DEV_FW_STATUS_STATE_CRASHED);
  CHECK(chip.trace == "firmware crashed: number of queues 0x00000011\n");
}

TEST_CASE("An exception is reported as CRASHED") {
  MockChip chip;
  // An illegal instruction in the middle of the event loop's code.
  chip.run_to_idle();
  const uint32_t pc = chip.core.pc();
  std::memset(chip.tcm.data() + (pc - 0x80000000u), 0, 4);
  chip.write(kQueue, CX_QUEUE_DOORBELL(0), 1);
  chip.run_to_idle();
  CHECK((chip.read(kDev, CX_DEV_FW_STATUS) & 0xff) == CX_DEV_FW_STATUS_STATE_CRASHED);
  CHECK(chip.trace.find("exception 0x00000002") != std::string::npos);
}

TEST_CASE("Queue set-up is validated") {
  Bench bench;
  auto &chip = bench.chip;
  const auto attempt = [&](uint64_t base, uint32_t log2, uint32_t vector) {
    chip.write(kQueue, CX_QUEUE_BASE_LO(3), static_cast<uint32_t>(base));
    chip.write(kQueue, CX_QUEUE_BASE_HI(3), static_cast<uint32_t>(base >> 32));
    chip.write(kQueue, CX_QUEUE_SIZE(3), log2);
    chip.write(kQueue, CX_QUEUE_VECTOR(3), vector);
    bench.command(CX_DEV_HOST_CMD_OP_QUEUE_ENABLE, 3);
    return std::pair(bench.queue_state(3), bench.queue_error(3));
  };
  using State = std::pair<uint32_t, uint32_t>;
  CHECK(attempt(kRings, 4, 1) == State(CX_QUEUE_STATE_STATE_ENABLED, 0));
  CHECK(attempt(kRings + 32, 4, 1) == State(CX_QUEUE_STATE_STATE_ERROR, CX_STATUS_BAD_ALIGNMENT));
  CHECK(chip.vectors == std::vector<unsigned>{1});
  CHECK(attempt(kRings, 0, 1) == State(CX_QUEUE_STATE_STATE_ERROR, CX_STATUS_BAD_FIELD));
  CHECK(attempt(kRings, 17, 1) == State(CX_QUEUE_STATE_STATE_ERROR, CX_STATUS_BAD_FIELD));
  CHECK(attempt(kRings, 4, 32) == State(CX_QUEUE_STATE_STATE_ERROR, CX_STATUS_BAD_FIELD));
  CHECK(attempt(kRings, 16, 0xffff) == State(CX_QUEUE_STATE_STATE_ENABLED, 0));
  CHECK(bench.take_fault().count == 4);

  bench.command(CX_DEV_HOST_CMD_OP_QUEUE_ENABLE, 8);  // the chip has queues 0 to 7
  const auto fault = bench.take_fault();
  CHECK(fault.code == CX_STATUS_BAD_FIELD);
  CHECK(fault.queue == 0xff);
  bench.command(77, 0);
  CHECK(bench.take_fault().code == CX_STATUS_BAD_FIELD);
}

TEST_CASE("NOP: record, timestamps, vector after the record, counters") {
  Bench bench;
  bench.enable(2);
  bool visible = false;
  bench.chip.on_vector = [&](unsigned) { visible = bench.done(2, 0) && bench.read_index(2) == 1; };
  const uint64_t before = bench.chip.now();
  packets::Nop nop;
  nop.vector = 5;
  nop.barrier = true;
  nop.acquire = packets::Scope::SYSTEM;
  nop.release = packets::Scope::SYSTEM;
  const auto record = bench.run(2, nop);
  bench.chip.run_to_idle();
  CHECK(record.status == CX_STATUS_OK);
  CHECK(record.detail == 0);
  CHECK(record.start > before);
  CHECK(record.end >= record.start);
  CHECK(record.end <= bench.chip.now());
  CHECK(visible);
  CHECK(bench.chip.vectors == std::vector<unsigned>{5});
  CHECK(bench.chip.read(kDev, CX_DEV_PACKETS) == 1);
  CHECK(bench.chip.read(kDev, CX_DEV_FAULT_COUNT) == 0);
  // The record's value is written by a transfer of its own, after the rest.
  const auto &last = bench.chip.transfers.back();
  CHECK(last.dst == bench.record_of(2, 0));
  CHECK(last.row_bytes == 8);
  CHECK(bench.chip.transfers[bench.chip.transfers.size() - 2].dst == bench.record_of(2, 0) + 8);
}

TEST_CASE("A packet without a completion record and vector") {
  Bench bench;
  bench.enable(0);
  bench.put_raw(0, packets::Nop{}.to_bytes());
  bench.ring(0);
  REQUIRE(bench.chip.run_until([&] { return bench.read_index(0) == 1; }));
  CHECK(bench.chip.vectors.empty());
}

TEST_CASE("Rings wrap and packets are fetched several at a time") {
  Bench bench(4);
  bench.enable(1);
  uint32_t last = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 13; ++i) last = bench.put(1, packets::Nop{});
    bench.ring(1);
    bench.wait(1, last);
  }
  bench.chip.run_to_idle();
  CHECK(bench.read_index(1) == 260);
  CHECK(bench.chip.read(kDev, CX_DEV_PACKETS) == 260);
  unsigned fetches = 0;
  for (const auto &transfer : bench.chip.transfers) {
    fetches += transfer.src >= kRings && transfer.src < kRecords && transfer.dst < kDramBase;
  }
  CHECK(fetches < 100);
}

TEST_CASE("COPY in each direction, with rows, and FILL") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  for (int i = 0; i < 256; ++i) chip.host(kHostData, 256)[i] = static_cast<uint8_t>(i * 7 + 1);

  auto up = copy(packets::Direction::HOST_TO_DEVICE, kDramBase + 0x2000, kHostData, 16);
  up.rows = 4;
  up.src_pitch = 32;
  up.dst_pitch = 24;
  CHECK(bench.run(0, up).status == CX_STATUS_OK);
  for (int row = 0; row < 4; ++row) {
    CHECK(std::memcmp(chip.device(kDramBase + 0x2000 + 24 * row, 16), chip.host(kHostData + 32 * row, 16), 16) == 0);
  }
  CHECK(bench.run(0, copy(packets::Direction::DEVICE_TO_DEVICE, kDramBase + 0x3000, kDramBase + 0x2000, 88)).status ==
        CX_STATUS_OK);
  CHECK(bench.run(0, copy(packets::Direction::DEVICE_TO_HOST, kHostData + 0x1000, kDramBase + 0x3000, 88)).status ==
        CX_STATUS_OK);
  CHECK(std::memcmp(chip.host(kHostData + 0x1000, 88), chip.device(kDramBase + 0x2000, 88), 88) == 0);

  packets::Fill fill;
  fill.dst = kDramBase + 0x4000;
  fill.bytes = 4096;
  fill.pattern = 0xdeadbeef;
  CHECK(bench.run(0, fill).status == CX_STATUS_OK);
  CHECK(bench.dram64(kDramBase + 0x4000) == 0xdeadbeefdeadbeef);
  CHECK(bench.dram64(kDramBase + 0x4ff8) == 0xdeadbeefdeadbeef);
  CHECK(bench.dram64(kDramBase + 0x5000) == 0);
}

TEST_CASE("COPY and FILL on chips with fewer DMA channels") {
  for (unsigned channels = 1; channels <= 3; ++channels) {
    INFO(channels << " channels");
    Bench bench(4, channels);
    bench.enable(0);
    bench.host64(kHostData) = 0x1122334455667788;
    std::vector<uint32_t> indices;
    for (int i = 0; i < 8; ++i) {
      indices.push_back(
          bench.put(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase + 0x2000 + 8 * i, kHostData, 8)));
    }
    packets::Fill fill;
    fill.dst = kDramBase + 0x3000;
    fill.bytes = 64;
    fill.pattern = 5;
    indices.push_back(bench.put(0, fill));
    indices.push_back(bench.put(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kUnmapped, 8)));
    bench.ring(0);
    for (size_t i = 0; i < indices.size(); ++i) {
      CHECK(bench.wait(0, indices[i]).status == (i == 9 ? CX_STATUS_IOMMU_FAULT : CX_STATUS_OK));
    }
    for (int i = 0; i < 8; ++i) CHECK(bench.dram64(kDramBase + 0x2000 + 8 * i) == 0x1122334455667788);
    CHECK(bench.dram64(kDramBase + 0x3038) == 0x500000005);
    for (const auto &transfer : bench.chip.transfers) CHECK(transfer.channel < channels);
  }
}

TEST_CASE("A fill of more than one transfer") {
  Bench bench;
  bench.enable(0);
  packets::Fill fill;
  fill.dst = kDramBase;
  fill.bytes = 0x1'8000'0004;
  bench.chip.discard_bytes = 0x1'8000'0004;
  CHECK(bench.wait(0, bench.submit(0, fill), 1'000'000'000).status == CX_STATUS_OK);
  std::vector<std::pair<uint64_t, uint32_t>> pieces;
  for (const auto &transfer : bench.chip.transfers) {
    if (transfer.channel != 0 && transfer.rows != 0) pieces.emplace_back(transfer.dst - kDramBase, transfer.row_bytes);
  }
  REQUIRE(pieces.size() == 0x1'8000'0000 / kFillPiece + 1);
  for (size_t i = 0; i < pieces.size(); ++i) {
    CHECK(pieces[i] == std::pair<uint64_t, uint32_t>(i * kFillPiece, i + 1 < pieces.size() ? kFillPiece : 4));
  }
  fill.bytes += 4;
  CHECK(bench.wait(0, bench.submit(0, fill), 1'000'000'000).status == CX_STATUS_BAD_ADDRESS);
}

TEST_CASE("Transfers of one queue overlap unless there is a barrier; completions stay in order") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  const auto starts = [&](bool barrier) {
    chip.transfers.clear();
    uint32_t last = 0;
    for (int i = 0; i < 4; ++i) {
      // The first is the longest.
      auto packet = copy(packets::Direction::HOST_TO_DEVICE, kDramBase + 0x2000 * i, kHostData, i == 0 ? 0x10000 : 64);
      packet.barrier = barrier;
      packet.vector = static_cast<uint16_t>(i);
      last = bench.put(0, packet);
    }
    chip.vectors.clear();
    bench.ring(0);
    bench.wait(0, last);
    chip.run_to_idle();
    CHECK(chip.vectors == std::vector<unsigned>{0, 1, 2, 3});
    std::vector<uint64_t> times;
    std::set<unsigned> channels;
    for (const auto &transfer : chip.transfers) {
      if (transfer.channel == 0) continue;
      times.push_back(transfer.start);
      channels.insert(transfer.channel);
    }
    REQUIRE(times.size() == 4);
    CHECK(channels.size() == (barrier ? 1 : 3));
    return times;
  };
  const auto free = starts(false);
  CHECK(free[3] - free[0] < 4500);  // before the first, of 4096 cycles and the latency, ends
  const auto held = starts(true);
  CHECK(held[1] - held[0] > 4096);
}

TEST_CASE("SIGNAL and TIMESTAMP") {
  Bench bench;
  bench.enable(0);
  bench.host64(kHostData + 8) = 0xffffffff;
  packets::Signal signal;
  signal.address = kHostData + 8;
  signal.value = 3;
  signal.op = packets::SignalOp::ADD;
  CHECK(bench.run(0, signal).status == CX_STATUS_OK);
  CHECK(bench.host64(kHostData + 8) == 0x100000002);
  signal.op = packets::SignalOp::MAX;
  signal.value = 0x0'ffff'ffff;
  CHECK(bench.run(0, signal).status == CX_STATUS_OK);
  CHECK(bench.host64(kHostData + 8) == 0x100000002);
  signal.value = 0x200000001;
  CHECK(bench.run(0, signal).status == CX_STATUS_OK);
  CHECK(bench.host64(kHostData + 8) == 0x200000001);
  signal.op = packets::SignalOp::SET;
  signal.value = 0xfedcba9876543210;
  CHECK(bench.run(0, signal).status == CX_STATUS_OK);
  CHECK(bench.host64(kHostData + 8) == 0xfedcba9876543210);
  packets::Timestamp timestamp;
  timestamp.address = kHostData + 16;
  const auto record = bench.run(0, timestamp);
  CHECK(bench.host64(kHostData + 16) >= record.start);
  CHECK(bench.host64(kHostData + 16) <= record.end);
}

TEST_CASE("WAIT compares, and does not hold up other queues") {
  Bench bench;
  bench.enable(0);
  bench.enable(1);
  using packets::Compare;
  struct Case {
    Compare compare;
    uint64_t value, closed, open;
  };
  const Case cases[] = {{Compare::EQ, 7, 8, 7},
                        {Compare::NE, 7, 7, 6},
                        {Compare::GE, 0x1'0000'0000, 0xffffffff, 0x1'0000'0000},
                        {Compare::LT, 0x8000'0000'0000'0000, 0x8000'0000'0000'0000, 0x7fff'ffff'ffff'ffff}};
  for (const auto &c : cases) {
    bench.host64(kHostData) = c.closed;
    const uint32_t waiting = bench.submit(0, wait_for<packets::Wait>(kHostData, c.compare, c.value));
    const uint32_t behind = bench.submit(0, packets::Nop{});
    CHECK_FALSE(bench.chip.run_until([&] { return bench.done(0, waiting) || bench.done(0, behind); }, 100'000));
    CHECK(bench.run(1, packets::Nop{}).status == CX_STATUS_OK);
    bench.host64(kHostData) = c.open;
    CHECK(bench.wait(0, waiting, 40'000).status == CX_STATUS_OK);
    CHECK(bench.wait(0, behind).status == CX_STATUS_OK);
  }
  // Polling backs off: a long wait costs little.
  bench.host64(kHostData) = 0;
  bench.submit(0, wait_for<packets::Wait>(kHostData, Compare::NE, 0));
  bench.chip.run_until([] { return false; }, 200'000);
  const uint64_t before = bench.chip.core.instructions();
  bench.chip.run_until([] { return false; }, 16'384'000);
  CHECK(bench.chip.core.instructions() - before < 1'100'000);
}

TEST_CASE("A signal of another queue ends a wait at once") {
  Bench bench;
  bench.enable(0);
  bench.enable(1);
  const uint32_t waiting = bench.submit(0, wait_for<packets::Wait>(kHostData, packets::Compare::EQ, 1));
  bench.chip.run_until([] { return false; }, 1'000'000);
  packets::Signal signal;
  signal.address = kHostData;
  signal.value = 1;
  const auto signalled = bench.run(1, signal);
  const auto waited = bench.wait(0, waiting, 10'000);
  CHECK(waited.end - signalled.end < 5'000);
}

TEST_CASE("BARRIER_AND and BARRIER_OR") {
  Bench bench;
  bench.enable(0);
  packets::BarrierAnd all;
  all.deps = {kHostData, 0, kHostData + 64, kHostData + 128};
  const uint32_t first = bench.submit(0, all);
  for (uint64_t address : {kHostData, kHostData + 128, kHostData + 64}) {
    CHECK_FALSE(bench.chip.run_until([&] { return bench.done(0, first); }, 100'000));
    bench.host64(address) = uint64_t{1} << 40;
  }
  CHECK(bench.wait(0, first).status == CX_STATUS_OK);
  CHECK(bench.run(0, packets::BarrierAnd{}).status == CX_STATUS_OK);

  packets::BarrierOr any;
  any.deps = {kHostData + 256, kHostData + 264, 0, 0};
  const uint32_t second = bench.submit(0, any);
  CHECK_FALSE(bench.chip.run_until([&] { return bench.done(0, second); }, 100'000));
  bench.host64(kHostData + 264) = 1;
  CHECK(bench.wait(0, second).status == CX_STATUS_OK);
  const auto none = bench.run(0, packets::BarrierOr{});
  CHECK(none.status == CX_STATUS_BAD_FIELD);
  CHECK(none.detail == 24);
}

TEST_CASE("LAUNCH starts the engines of the program and waits for all") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  Program program({2, 0, 3});
  program.install(chip);
  chip.plans[0].cycles = 5000;
  chip.plans[3].cycles = 9000;
  const auto record = bench.run(0, program.packet());
  CHECK(record.status == CX_STATUS_OK);
  CHECK(record.end - record.start > 9000);
  CHECK(chip.engine_starts == std::vector<unsigned>{0, 2, 3});
  CHECK(chip.semaphore_clears == 1);
  CHECK(chip.engines[2].get64(EngineReg::STREAM_LO) == Program::kAddress + 128);
  CHECK(chip.engines[0].get64(EngineReg::STREAM_LO) == Program::kAddress + 256);
  CHECK(chip.engines[0].get(EngineReg::STREAM_COUNT) == 4);
  CHECK(chip.engines[3].get64(EngineReg::SEGTAB_LO) == Program::kSegments);
  CHECK(chip.engines[3].get(EngineReg::SEGTAB_COUNT) == 2);
  CHECK(bench.run(0, program.packet()).status == CX_STATUS_OK);
  CHECK(chip.semaphore_clears == 2);
}

TEST_CASE("LAUNCH packets of several queues take turns, lower priority level first") {
  Bench bench;
  for (unsigned n = 0; n < 3; ++n) bench.enable(n, 2 - n);
  Program program;
  program.install(bench.chip);
  for (auto &plan : bench.chip.plans) plan.cycles = 50'000;
  bench.submit(0, program.packet());
  REQUIRE(bench.chip.run_until([&] { return !bench.chip.engine_starts.empty(); }));
  bench.submit(0, program.packet());
  bench.submit(1, program.packet());
  bench.submit(2, program.packet());
  bench.wait(0, 1);
  CHECK(bench.record(0, 0).end <= bench.record(2, 0).start);
  CHECK(bench.record(2, 0).end <= bench.record(1, 0).start);
  CHECK(bench.record(1, 0).end <= bench.record(0, 1).start);
}

TEST_CASE("A timing-only LAUNCH starts all engines of the program in that mode, another one none") {
  Bench bench;
  bench.enable(0);
  Program program({2, 0});
  program.install(bench.chip);
  auto launch = program.packet();
  launch.timing_only = 1;
  CHECK(bench.run(0, launch).status == CX_STATUS_OK);
  CHECK(bench.chip.timing_only_starts == std::vector<unsigned>{0, 2});
  CHECK(bench.run(0, program.packet()).status == CX_STATUS_OK);
  CHECK(bench.chip.engine_starts.size() == 4);
  CHECK(bench.chip.timing_only_starts.size() == 2);
}

TEST_CASE("LAUNCH refuses damaged and foreign programs, and the next packet is served") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  struct Damage {
    const char *what;
    uint32_t status, detail;
    std::function<void(Program &, packets::Launch &)> apply;
    bool keep_crc = false;
  };
  const Damage cases[] = {
      {"magic", CX_STATUS_BAD_PROGRAM, 0, [](Program &p, auto &) { p.header.magic ^= 1; }},
      {"version", CX_STATUS_BAD_PROGRAM, 4, [](Program &p, auto &) { p.header.version = 2; }},
      {"no streams", CX_STATUS_BAD_PROGRAM, 6, [](Program &p, auto &) { p.header.streams = 0; }},
      {"six streams", CX_STATUS_BAD_PROGRAM, 6,
       [](Program &p, auto &) { p.header.streams = CX_PROGRAM_STREAMS_MAX + 1; }},
      {"image larger than allowed", CX_STATUS_BAD_PROGRAM, 16, [](Program &p, auto &) { p.header.image_bytes = 4097; }},
      {"image smaller than its header", CX_STATUS_BAD_PROGRAM, 16,
       [](Program &p, auto &) { p.header.image_bytes = 63; }},
      {"huge image", CX_STATUS_BAD_PROGRAM, 16, [](Program &p, auto &) { p.header.image_bytes = 1ull << 63; }},
      {"table in the header", CX_STATUS_BAD_PROGRAM, 32, [](Program &p, auto &) { p.header.stream_table = 60; }},
      {"table beyond the end", CX_STATUS_BAD_PROGRAM, 32,
       [](Program &p, auto &) { p.header.stream_table = 4096 - 60; }},
      {"table far away", CX_STATUS_BAD_PROGRAM, 32, [](Program &p, auto &) { p.header.stream_table = ~0u; }},
      {"checksum", CX_STATUS_BAD_PROGRAM, 28, [](Program &p, auto &) { p.header.crc ^= 0x80000000; }, true},
      {"checksum of the table", CX_STATUS_BAD_PROGRAM, 28, [](Program &p, auto &) { p.streams[1].count = 5; }, true},
      {"reserved bytes", CX_STATUS_BAD_PROGRAM, 60, [](Program &p, auto &) { p.header.reserved_40[23] = 1; }},
      {"split of a chip without one", CX_STATUS_BAD_PROGRAM, 36, [](Program &p, auto &) { p.header.sca_tiles = 1; }},
      {"architecture", CX_STATUS_WRONG_ARCH, 8, [](Program &p, auto &) { p.header.arch_hash ^= 1ull << 60; }},
      {"no segments", CX_STATUS_BAD_FIELD, 40, [](Program &p, auto &) { p.header.segment_count = 0; }},
      {"more segments than given", CX_STATUS_BAD_FIELD, 40, [](Program &p, auto &) { p.header.segment_count = 3; }},
      {"no such engine", CX_STATUS_BAD_PROGRAM, 64, [](Program &p, auto &) { p.streams[0].engine = CX_ISA_ENGINES; }},
      {"engine twice", CX_STATUS_BAD_PROGRAM, 80, [](Program &p, auto &) { p.streams[1].engine = 0; }},
      {"empty stream", CX_STATUS_BAD_PROGRAM, 100, [](Program &p, auto &) { p.streams[2].count = 0; }},
      {"endless stream", CX_STATUS_BAD_PROGRAM, 100, [](Program &p, auto &) { p.streams[2].count = ~0u; }},
      {"misaligned stream", CX_STATUS_BAD_PROGRAM, 120, [](Program &p, auto &) { p.streams[3].offset += 16; }},
      {"stream beyond the end", CX_STATUS_BAD_PROGRAM, 120,
       [](Program &p, auto &) { p.streams[3].offset = 4096 - 96; }},
      {"stream far away", CX_STATUS_BAD_PROGRAM, 120, [](Program &p, auto &) { p.streams[3].offset = ~31ull; }},
      {"program below DRAM", CX_STATUS_BAD_ADDRESS, 24, [](Program &, auto &l) { l.program = kDramBase - 64; }},
      {"program beyond DRAM", CX_STATUS_BAD_ADDRESS, 24,
       [](Program &, auto &l) { l.program = kDramBase + kDramBytes; }},
      {"program across the end", CX_STATUS_BAD_ADDRESS, 24, [](Program &, auto &l) { l.program_bytes = ~0u; }},
      {"segment table elsewhere", CX_STATUS_BAD_ADDRESS, 32, [](Program &, auto &l) { l.segments = 0x1000; }},
      {"segment table across the end", CX_STATUS_BAD_ADDRESS, 32,
       [](Program &, auto &l) { l.segments = kDramBase + kDramBytes - 16; }},
  };
  for (const auto &c : cases) {
    INFO(c.what);
    Program program;
    program.install(chip);
    packets::Launch launch = program.packet();
    c.apply(program, launch);
    program.install(chip, c.keep_crc);
    const auto record = bench.run(0, launch);
    CHECK(record.status == c.status);
    CHECK(record.detail == c.detail);
    CHECK(bench.take_fault().code == c.status);
    CHECK(chip.engine_starts.empty());
    CHECK(bench.queue_state(0) == CX_QUEUE_STATE_STATE_ENABLED);
    CHECK(bench.queue_error(0) == c.status);
  }
  Program good;
  good.install(chip);
  CHECK(bench.run(0, good.packet()).status == CX_STATUS_OK);
}

TEST_CASE("A fault of an engine resets all engines and is captured") {
  Bench bench;
  bench.enable(4);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  chip.plans[2] = {MockChip::Plan::End::kFault, 700, CX_STATUS_SPM_FAULT, 17, 0x12'3456'789a};
  chip.plans[3].end = MockChip::Plan::End::kHang;
  const unsigned resets = chip.engine_resets;
  bench.run(4, packets::Nop{});
  const auto record = bench.run(4, program.packet());
  CHECK(record.status == CX_STATUS_SPM_FAULT);
  CHECK(record.detail == 17);
  CHECK(chip.engine_resets == resets + CX_ISA_ENGINES);
  const auto fault = bench.take_fault();
  CHECK(fault.count == 1);
  CHECK(fault.code == CX_STATUS_SPM_FAULT);
  CHECK(fault.queue == 4);
  CHECK(fault.engine == 2);
  CHECK(fault.packet == 1);
  CHECK(fault.pc == 17);
  CHECK(fault.address == 0x12'3456'789a);
  chip.run_to_idle();
  CHECK(chip.vectors == std::vector<unsigned>{kErrorVector});
  chip.plans[2] = chip.plans[3] = {};
  CHECK(bench.run(4, program.packet()).status == CX_STATUS_OK);
}

TEST_CASE("The watchdog ends a launch that waits for a semaphore that nobody posts") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  chip.plans[1].end = MockChip::Plan::End::kHang;
  chip.plans[1].pc = 42;
  chip.plans[1].sem = 9;
  auto launch = program.packet();
  launch.timeout_kcycles = 100;
  const auto record = bench.run(0, launch);
  CHECK(record.status == CX_STATUS_TIMEOUT);
  CHECK(record.detail == 42);
  CHECK(record.end - record.start >= 100 * 1024);
  CHECK(record.end - record.start < 112 * 1024);
  const auto fault = bench.take_fault();
  CHECK(fault.engine == 1);
  CHECK(fault.pc == 42);
  CHECK(fault.address == (1u << 16 | 9));
  // The default is documented as 2^20 units.
  launch.timeout_kcycles = 0;
  const auto slow = bench.wait(0, bench.submit(0, launch), uint64_t{2} << 30);
  CHECK(slow.status == CX_STATUS_TIMEOUT);
  CHECK((slow.end - slow.start) >> 10 >= 1u << 20);
  CHECK((slow.end - slow.start) >> 10 < (1u << 20) + 16);
  chip.plans[1] = {};
  CHECK(bench.run(0, program.packet()).status == CX_STATUS_OK);
}

uint32_t hang_state(MockChip &chip, unsigned engine) { return chip.ras.get(regs::RasRegs::HANG_STATE_STATE, engine); }

TEST_CASE("The watchdog's report tells who hangs, who works and who waits for whom") {
  Bench bench;
  bench.enable(3);
  auto &chip = bench.chip;
  Program program({0, 1, 2, 3});
  program.install(chip);
  // Engine 0 is done. Engine 1 hangs; it would post semaphore 5 at its instruction 3. Engine 2 waits for that, engine 3
  // works.
  uint8_t *post = chip.device(Program::kAddress + program.streams[1].offset + 3 * CX_ISA_INSTRUCTION_BYTES, 32);
  post[0] = CX_ISA_OP_SEM_POST;
  post[CX_ISA_SEM_POST_SEM_AT] = 5;
  for (const unsigned engine : {1, 2, 3}) chip.plans[engine].end = MockChip::Plan::End::kHang;
  chip.plans[1].pc = 1;
  chip.plans[2].pc = 2;
  chip.plans[2].sem = 5;
  chip.plans[3].busy = true;
  auto launch = program.packet();
  launch.timeout_kcycles = 50;
  const auto record = bench.run(3, launch);
  CHECK(record.status == CX_STATUS_ENGINE_HANG);
  CHECK(record.detail == 1);
  REQUIRE(chip.events.size() == 1);
  CHECK(chip.events[0].kind == CX_RAS_PENDING_HANG_SHIFT);
  CHECK(chip.events[0].status == CX_STATUS_ENGINE_HANG);
  CHECK(chip.events[0].source == (3 | 1 << 8));
  CHECK(chip.events[0].packet == 0);
  CHECK(chip.events[0].pc == 1);
  CHECK(hang_state(chip, 0) == CX_RAS_HANG_STATE_STATE_FINISHED);
  CHECK(hang_state(chip, 1) == CX_RAS_HANG_STATE_STATE_HUNG);
  CHECK(hang_state(chip, 2) == CX_RAS_HANG_STATE_STATE_WAITING);
  CHECK(hang_state(chip, 3) == CX_RAS_HANG_STATE_STATE_BUSY);
  CHECK(chip.ras.get(regs::RasRegs::HANG_STATE_SEM, 2) == 5);
  CHECK(chip.ras.get(regs::RasRegs::HANG_STATE_POSTER, 2) == 1);
  CHECK(chip.ras.get(regs::RasReg::HANG_POSTER_PC, 2) == 3);
  CHECK(chip.ras.get(regs::RasRegs::HANG_SEM_NEED, 2) == 1);
  CHECK(chip.ras.get(regs::RasReg::HANG_PC, 1) == 1);
  CHECK(chip.ras.get(regs::RasReg::STUCK) == 0);
}

TEST_CASE("An engine that does not answer its reset holds up launches until ENGINE_RESET, and nothing else") {
  Bench bench;
  bench.enable(0);
  bench.enable(1);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  chip.plans[2].end = MockChip::Plan::End::kHang;
  chip.plans[2].ignores_reset = true;
  auto launch = program.packet();
  launch.timeout_kcycles = 50;
  CHECK(bench.run(0, launch).status == CX_STATUS_ENGINE_HANG);
  CHECK(chip.ras.get(regs::RasReg::STUCK) == 1u << 2);
  const size_t starts = chip.engine_starts.size();
  CHECK(bench.run(1, launch).status == CX_STATUS_ENGINE_HANG);
  CHECK(chip.engine_starts.size() == starts);
  CHECK(bench.run(1, packets::Nop{}).status == CX_STATUS_OK);
  Program other({0, 1});
  other.install(chip);
  CHECK(bench.run(1, other.packet()).status == CX_STATUS_OK);
  bench.command(CX_DEV_HOST_CMD_OP_ENGINE_RESET, 0);
  CHECK(chip.ras.get(regs::RasReg::STUCK) == 0);
  chip.plans[2] = {};
  program.install(chip);
  CHECK(bench.run(0, program.packet()).status == CX_STATUS_OK);
}

TEST_CASE("ENGINE_RESET aborts the launch and leaves the queues alone") {
  Bench bench;
  bench.enable(0);
  bench.enable(1);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  chip.plans[0].end = MockChip::Plan::End::kHang;
  const uint32_t launch = bench.submit(0, program.packet());
  const uint32_t after = bench.submit(0, packets::Nop{});
  REQUIRE(chip.run_until([&] { return chip.engine_starts.size() == 4; }));
  bench.command(CX_DEV_HOST_CMD_OP_ENGINE_RESET, 0);
  CHECK(bench.wait(0, launch).status == CX_STATUS_ABORTED);
  CHECK(bench.wait(0, after).status == CX_STATUS_OK);
  CHECK(bench.queue_state(0) == CX_QUEUE_STATE_STATE_ENABLED);
  CHECK(chip.run_until([&] { return bench.read_index(0) == 2; }));
  CHECK(chip.events.empty());
}

TEST_CASE("Each status is an event of its class, once, with its place") {
  Bench bench;
  bench.enable(2);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  const auto engine_fault = [&](uint32_t status) {
    chip.plans[3] = {};
    chip.plans[3].end = MockChip::Plan::End::kFault;
    chip.plans[3].code = status;
    chip.plans[3].pc = 6;
    chip.plans[3].address = 0x77;
    chip.events.clear();
    CHECK(bench.run(2, program.packet()).status == status);
    return chip.events;
  };
  const struct {
    uint32_t status, kind;
  } cases[] = {{CX_STATUS_ILLEGAL_INSTRUCTION, CX_RAS_PENDING_INSTRUCTION_SHIFT},
               {CX_STATUS_SEGMENT_FAULT, CX_RAS_PENDING_PROGRAM_SHIFT},
               {CX_STATUS_SPM_FAULT, CX_RAS_PENDING_PROGRAM_SHIFT},
               {CX_STATUS_INDEX_RANGE, CX_RAS_PENDING_PROGRAM_SHIFT},
               {CX_STATUS_BAD_ADDRESS, CX_RAS_PENDING_PROGRAM_SHIFT},
               {CX_STATUS_ECC_UNCORRECTED, CX_RAS_PENDING_ECC_UNCORRECTED_SHIFT},
               {CX_STATUS_PARITY_ERROR, CX_RAS_PENDING_ENGINE_SHIFT}};
  uint32_t packet = 0;
  for (const auto &c : cases) {
    INFO("status " << c.status);
    const auto events = engine_fault(c.status);
    REQUIRE(events.size() == 1);
    CHECK(events[0].kind == c.kind);
    CHECK(events[0].status == c.status);
    CHECK(events[0].source == (2 | 3 << 8));
    CHECK(events[0].packet == packet++);
    CHECK(events[0].pc == 6);
    CHECK(events[0].address == 0x77);
  }
  CHECK(engine_fault(CX_STATUS_THERMAL_TRIP).empty());
  chip.events.clear();
  CHECK(bench.run(2, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kUnmapped, 64)).status ==
        CX_STATUS_IOMMU_FAULT);
  CHECK(bench.run(2, copy(packets::Direction::HOST_TO_DEVICE, 0x10, kHostData, 64)).status == CX_STATUS_BAD_ADDRESS);
  REQUIRE(chip.events.size() == 2);
  CHECK(chip.events[0].kind == CX_RAS_PENDING_IOMMU_SHIFT);
  CHECK(chip.events[0].address == kUnmapped);
  CHECK(chip.events[1].kind == CX_RAS_PENDING_PACKET_SHIFT);
  CHECK(chip.events[1].source == (2 | 0xff << 8));
}

TEST_CASE("The first fault stays until it is acknowledged") {
  Bench bench;
  bench.enable(0);
  auto bad = copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kUnmapped, 64);
  CHECK(bench.run(0, bad).status == CX_STATUS_IOMMU_FAULT);
  bad = copy(packets::Direction::HOST_TO_DEVICE, 0x10, kHostData, 64);
  CHECK(bench.run(0, bad).status == CX_STATUS_BAD_ADDRESS);
  auto fault = bench.take_fault();
  CHECK(fault.count == 2);
  CHECK(fault.code == CX_STATUS_IOMMU_FAULT);
  CHECK(fault.address == kUnmapped);
  CHECK(fault.packet == 0);
  CHECK(fault.engine == 0xff);
  fault = bench.take_fault();
  CHECK(fault.count == 0);
  CHECK(fault.code == 0);
  CHECK(bench.run(0, bad).status == CX_STATUS_BAD_ADDRESS);
  fault = bench.take_fault();
  CHECK(fault.code == CX_STATUS_BAD_ADDRESS);
  CHECK(fault.packet == 2);
}

TEST_CASE("Addresses that nobody maps") {
  Bench bench;
  bench.enable(0);
  const auto expect = [&](const auto &packet, uint32_t status, uint32_t detail) {
    const auto record = bench.run(0, packet);
    CHECK(record.status == status);
    CHECK(record.detail == detail);
    CHECK(bench.take_fault().code == status);
  };
  using packets::Direction;
  expect(copy(Direction::HOST_TO_DEVICE, kDramBase, kUnmapped, 8), CX_STATUS_IOMMU_FAULT, 24);
  expect(copy(Direction::HOST_TO_DEVICE, 0x2000, kHostData, 8), CX_STATUS_BAD_ADDRESS, 32);
  expect(copy(Direction::HOST_TO_DEVICE, 0x80000000, kHostData, 8), CX_STATUS_BAD_ADDRESS, 32);  // the firmware
  expect(copy(Direction::DEVICE_TO_HOST, kUnmapped, kDramBase, 8), CX_STATUS_IOMMU_FAULT, 32);
  expect(copy(Direction::DEVICE_TO_HOST, kHostData, 0x2000, 8), CX_STATUS_BAD_ADDRESS, 24);
  expect(copy(Direction::DEVICE_TO_DEVICE, kDramBase, 0x2000, 8), CX_STATUS_BAD_ADDRESS, 24);
  expect(copy(Direction::DEVICE_TO_DEVICE, kDramBase + kDramBytes, kDramBase, 8), CX_STATUS_BAD_ADDRESS, 32);
  packets::Fill fill;
  fill.dst = kDramBase + kDramBytes - 4;
  fill.bytes = 8;
  expect(fill, CX_STATUS_BAD_ADDRESS, 24);
  packets::Signal signal;
  signal.address = kUnmapped;
  expect(signal, CX_STATUS_IOMMU_FAULT, 24);
  signal.op = packets::SignalOp::ADD;
  expect(signal, CX_STATUS_IOMMU_FAULT, 24);
  signal.op = packets::SignalOp::MAX;
  expect(signal, CX_STATUS_IOMMU_FAULT, 24);
  packets::Timestamp timestamp;
  timestamp.address = kUnmapped;
  expect(timestamp, CX_STATUS_IOMMU_FAULT, 24);
  expect(wait_for<packets::Wait>(kUnmapped, packets::Compare::EQ, 0), CX_STATUS_IOMMU_FAULT, 24);
  packets::BarrierAnd barrier;
  barrier.deps = {0, 0, kUnmapped, 0};
  expect(barrier, CX_STATUS_IOMMU_FAULT, 40);
  CHECK(bench.run(0, packets::Nop{}).status == CX_STATUS_OK);
}

TEST_CASE("A completion record that cannot be written") {
  Bench bench;
  bench.enable(0);
  packets::Nop nop;
  nop.completion = kUnmapped;
  nop.vector = 3;
  bench.put_raw(0, nop.to_bytes());
  bench.submit(0, packets::Nop{});
  CHECK(bench.wait(0, 1).status == CX_STATUS_OK);
  const auto fault = bench.take_fault();
  CHECK(fault.code == CX_STATUS_IOMMU_FAULT);
  CHECK(fault.packet == 0);
  CHECK(fault.address == kUnmapped + 8);
  CHECK(bench.queue_error(0) == CX_STATUS_IOMMU_FAULT);
  bench.chip.run_to_idle();
  CHECK(bench.chip.vectors == std::vector<unsigned>{3, kErrorVector});
}

TEST_CASE("A ring that cannot be read, and a doorbell beyond the ring") {
  Bench bench;
  bench.enable(0);
  bench.enable(1);
  bench.chip.unmap_host(kRings);
  bench.chip.write(kQueue, CX_QUEUE_DOORBELL(0), 1);
  REQUIRE(bench.chip.run_until([&] { return bench.queue_state(0) == CX_QUEUE_STATE_STATE_ERROR; }));
  CHECK(bench.queue_error(0) == CX_STATUS_IOMMU_FAULT);
  auto fault = bench.take_fault();
  CHECK(fault.queue == 0);
  CHECK(fault.address == kRings);
  CHECK(bench.run(1, packets::Nop{}).status == CX_STATUS_OK);
  bench.chip.write(kQueue, CX_QUEUE_DOORBELL(1), 1 + 17);
  REQUIRE(bench.chip.run_until([&] { return bench.queue_state(1) == CX_QUEUE_STATE_STATE_ERROR; }));
  CHECK(bench.queue_error(1) == CX_STATUS_BAD_FIELD);
  // Both work again after QUEUE_ENABLE.
  for (unsigned n : {0u, 1u}) {
    bench.enable(n);
    CHECK(bench.run(n, packets::Nop{}).status == CX_STATUS_OK);
  }
}

TEST_CASE("QUEUE_DISABLE lets what has started end; QUEUE_RESET stops it") {
  Bench bench;
  bench.enable(0);
  bench.enable(1);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  chip.plans[2].cycles = 200'000;

  const uint32_t launched = bench.submit(0, program.packet());
  packets::Nop held;
  held.barrier = true;
  const uint32_t behind = bench.submit(0, held);
  REQUIRE(chip.run_until([&] { return chip.engine_starts.size() == 4; }));
  bench.command(CX_DEV_HOST_CMD_OP_QUEUE_DISABLE, 0);
  CHECK(bench.record(0, launched).status == CX_STATUS_OK);
  CHECK(bench.done(0, launched));
  CHECK_FALSE(bench.done(0, behind));
  CHECK(bench.queue_state(0) == CX_QUEUE_STATE_STATE_DISABLED);

  bench.enable(0);
  const uint32_t waiting = bench.submit(0, wait_for<packets::Wait>(kHostData, packets::Compare::EQ, 99));
  chip.run_until([] { return false; }, 50'000);
  bench.command(CX_DEV_HOST_CMD_OP_QUEUE_DISABLE, 0);
  CHECK(bench.done(0, waiting));
  CHECK(bench.record(0, waiting).status == CX_STATUS_ABORTED);

  bench.enable(0);
  chip.engine_starts.clear();
  const uint32_t aborted = bench.submit(0, program.packet());
  auto large = copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHostData, 0x10000);
  large.rows = 100;
  large.dst_pitch = 0x10000;
  const uint32_t transfer = bench.submit(0, large);
  REQUIRE(chip.run_until([&] { return chip.engine_starts.size() == 4 && chip.sdma.get(SdmaReg::STATUS, 3) == 1; }));
  bench.command(CX_DEV_HOST_CMD_OP_QUEUE_RESET, 0);
  CHECK(bench.record(0, aborted).status == CX_STATUS_ABORTED);
  CHECK(bench.record(0, transfer).status == CX_STATUS_ABORTED);
  CHECK(bench.queue_state(0) == CX_QUEUE_STATE_STATE_DISABLED);
  CHECK(bench.read_index(0) == 0);
  CHECK(bench.run(1, packets::Nop{}).status == CX_STATUS_OK);
  bench.enable(0);
  CHECK(bench.run(0, program.packet()).status == CX_STATUS_OK);
}

// ---- every field of every packet ----

namespace {

struct Kind {
  const char *name;
  Bytes good;
  // Bytes that fields cover, beyond the header's.
  std::vector<std::pair<unsigned, unsigned>> fields;
};

std::vector<Kind> kinds() {
  packets::Fill fill;
  fill.dst = kDramBase;
  fill.bytes = 8;
  packets::Signal signal;
  signal.address = kHostData;
  packets::Timestamp timestamp;
  timestamp.address = kHostData;
  packets::BarrierOr any;
  any.deps = {kRecords, 0, 0, 0};
  return {{"NOP", packets::Nop{}.to_bytes(), {}},
          {"COPY", copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHostData, 8).to_bytes(), {{6, 7}, {24, 56}}},
          {"FILL", fill.to_bytes(), {{24, 44}}},
          {"LAUNCH", Program().packet().to_bytes(), {{24, 56}}},
          {"BARRIER_AND", packets::BarrierAnd{}.to_bytes(), {{24, 56}}},
          {"BARRIER_OR", any.to_bytes(), {{24, 56}}},
          {"SIGNAL", signal.to_bytes(), {{6, 7}, {24, 40}}},
          {"WAIT", wait_for<packets::Wait>(kHostData, packets::Compare::GE, 0).to_bytes(), {{6, 7}, {24, 40}}},
          {"TIMESTAMP", timestamp.to_bytes(), {{24, 32}}},
          {"EXECUTE", execute(1).to_bytes(), {{24, 36}}}};
}

// The packet with a record at the place of the next index.
cx_completion run_bytes(Bench &bench, unsigned n, Bytes bytes, uint32_t index) {
  const uint64_t record = bench.record_of(n, index), value = index + 1;
  const auto nop = packets::Nop{}.to_bytes();
  std::memcpy(bench.chip.host(kLists, 64), nop.data(), 64);
  if (!std::memcmp(bytes.data() + 8, "\0\0\0\0\0\0\0\0", 8)) std::memcpy(bytes.data() + 8, &record, 8);
  std::memcpy(bytes.data() + 16, &value, 8);
  REQUIRE(bench.put_raw(n, bytes) == index);
  bench.ring(n);
  return bench.wait(n, index);
}

}  // namespace

TEST_CASE("Every reserved bit of every packet is refused, and the next packet is served") {
  Bench bench(8);
  bench.enable(0);
  Program().install(bench.chip);
  uint32_t index = 0;
  for (const auto &kind : kinds()) {
    INFO(kind.name);
    const auto good = run_bytes(bench, 0, kind.good, index++);
    REQUIRE(good.status == CX_STATUS_OK);
    std::array<uint8_t, 64> allowed{};
    allowed[0] = 0xff;
    allowed[1] = 0x1f;
    for (unsigned i : {4u, 5u}) allowed[i] = 0xff;
    for (unsigned i = 8; i < 24; ++i) allowed[i] = 0xff;
    for (auto [first, end] : kind.fields) {
      for (unsigned i = first; i < end; ++i) allowed[i] = 0xff;
    }
    unsigned checked = 0;
    for (unsigned bit = 0; bit < 512; ++bit) {
      if (allowed[bit / 8] & (1u << (bit % 8))) continue;
      Bytes bytes = kind.good;
      bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | (1u << (bit % 8)));
      const auto record = run_bytes(bench, 0, bytes, index++);
      ++checked;
      if (record.status != CX_STATUS_RESERVED_BITS || record.detail != bit / 8) {
        FAIL("bit " << bit << ": status " << record.status << " detail " << record.detail);
      }
    }
    CHECK(checked >= 3 + 16 + 8);
  }
  bench.chip.run_to_idle();
  CHECK(bench.read_index(0) == index);
  CHECK(bench.chip.read(kDev, CX_DEV_PACKETS) == index + 1);  // one of them executed a list of one
}

TEST_CASE("Every field out of range is refused with its offset") {
  Bench bench(8);
  bench.enable(0);
  struct Case {
    const char *name;
    unsigned at;
    uint64_t value;
    unsigned bytes;
    uint32_t status;
    uint32_t detail;
  };
  const Case cases[] = {
      {"NOP", 0, 0, 1, CX_STATUS_BAD_TYPE, 0},
      {"NOP", 0, 15, 1, CX_STATUS_BAD_TYPE, 0},
      {"NOP", 0, 255, 1, CX_STATUS_BAD_TYPE, 0},
      {"NOP", 0, CX_PKT_RECONFIG, 1, CX_STATUS_UNSUPPORTED, 0},
      {"NOP", 0, CX_PKT_SEND, 1, CX_STATUS_UNSUPPORTED, 0},
      {"NOP", 0, CX_PKT_RECV, 1, CX_STATUS_UNSUPPORTED, 0},
      {"NOP", 0, CX_PKT_COLLECTIVE, 1, CX_STATUS_UNSUPPORTED, 0},
      {"NOP", 1, 3 << 1, 1, CX_STATUS_BAD_FIELD, 1},
      {"NOP", 1, 3 << 3, 1, CX_STATUS_BAD_FIELD, 1},
      {"NOP", 4, 32, 2, CX_STATUS_BAD_FIELD, 4},
      {"NOP", 4, 0xfffe, 2, CX_STATUS_BAD_FIELD, 4},
      {"COPY", 6, 3, 1, CX_STATUS_BAD_FIELD, 6},
      {"COPY", 40, 0, 4, CX_STATUS_BAD_FIELD, 40},
      {"COPY", 44, 0, 4, CX_STATUS_BAD_FIELD, 44},
      {"COPY", 44, 2, 4, CX_STATUS_BAD_FIELD, 52},  // rows that overlap at the destination
      {"FILL", 24, kDramBase + 2, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"FILL", 32, 0, 8, CX_STATUS_BAD_FIELD, 32},
      {"FILL", 32, 3, 8, CX_STATUS_BAD_FIELD, 32},
      {"FILL", 32, 6, 8, CX_STATUS_BAD_ALIGNMENT, 32},
      {"LAUNCH", 24, Program::kAddress + 32, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"LAUNCH", 32, Program::kSegments + 8, 8, CX_STATUS_BAD_ALIGNMENT, 32},
      {"LAUNCH", 40, 0, 4, CX_STATUS_BAD_FIELD, 40},
      {"LAUNCH", 40, 65, 4, CX_STATUS_BAD_FIELD, 40},
      {"LAUNCH", 44, 63, 4, CX_STATUS_BAD_FIELD, 44},
      {"LAUNCH", 52, 2, 4, CX_STATUS_BAD_FIELD, 52},
      {"BARRIER_AND", 24, kHostData + 1, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"BARRIER_AND", 48, kHostData + 4, 8, CX_STATUS_BAD_ALIGNMENT, 48},
      {"BARRIER_OR", 32, kHostData + 2, 8, CX_STATUS_BAD_ALIGNMENT, 32},
      {"SIGNAL", 6, 3, 1, CX_STATUS_BAD_FIELD, 6},
      {"SIGNAL", 24, kHostData + 4, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"WAIT", 6, 4, 1, CX_STATUS_BAD_FIELD, 6},
      {"WAIT", 24, kHostData + 4, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"TIMESTAMP", 24, kHostData + 4, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"EXECUTE", 24, kLists + 32, 8, CX_STATUS_BAD_ALIGNMENT, 24},
      {"EXECUTE", 32, 0, 4, CX_STATUS_BAD_FIELD, 32},
      {"EXECUTE", 32, 0x10000, 4, CX_STATUS_BAD_FIELD, 32},
  };
  uint32_t index = 0;
  for (const auto &c : cases) {
    INFO(c.name << " byte " << c.at << " = " << c.value);
    Bytes bytes{};
    for (const auto &kind : kinds()) {
      if (std::string(kind.name) == c.name) bytes = kind.good;
    }
    std::memcpy(bytes.data() + c.at, &c.value, c.bytes);
    bench.chip.vectors.clear();
    const auto record = run_bytes(bench, 0, bytes, index);
    CHECK(record.status == c.status);
    CHECK(record.detail == c.detail);
    const auto fault = bench.take_fault();
    CHECK(fault.code == c.status);
    CHECK(fault.queue == 0);
    CHECK(fault.engine == 0xff);
    CHECK(fault.packet == index);
    ++index;
    const auto next = run_bytes(bench, 0, packets::Nop{}.to_bytes(), index++);
    CHECK(next.status == CX_STATUS_OK);
    CHECK(bench.chip.vectors == std::vector<unsigned>{kErrorVector});
  }
}

TEST_CASE("A misaligned completion address is refused without a record") {
  Bench bench;
  bench.enable(0);
  packets::Nop nop;
  nop.completion = kHostData + 4;
  bench.put_raw(0, nop.to_bytes());
  bench.submit(0, packets::Nop{});
  bench.wait(0, 1);
  const auto fault = bench.take_fault();
  CHECK(fault.code == CX_STATUS_BAD_ALIGNMENT);
  CHECK(bench.host64(kHostData) == 0);
  CHECK(bench.host64(kHostData + 8) == 0);
}

TEST_CASE("Random packets never stop the firmware") {
  Bench bench(6);
  for (unsigned n = 0; n < 4; ++n) bench.enable(n, n % 4);
  Program().install(bench.chip);
  const unsigned seed = Catch::rngSeed() != 0 ? Catch::rngSeed() : 20260101;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto base = kinds();
  for (int round = 0; round < 60; ++round) {
    std::array<uint32_t, 4> last{};
    for (unsigned n = 0; n < 4; ++n) {
      for (unsigned i = 0; i < 1 + random() % 30; ++i) {
        Bytes bytes = base[random() % base.size()].good;
        // WAIT and barriers only in forms that end.
        for (unsigned damage = random() % 3; damage != 0; --damage) bytes[random() % 64] ^= 1u << (random() % 8);
        const unsigned type = bytes[0];
        if (type >= CX_PKT_BARRIER_AND && type <= CX_PKT_WAIT && type != CX_PKT_SIGNAL) bytes[24] |= 1;
        if (type == CX_PKT_SIGNAL || type == CX_PKT_TIMESTAMP) bytes[25] &= 0x0f;
        const uint64_t none = 0;
        std::memcpy(bytes.data() + 8, &none, 8);
        bench.put_raw(n, bytes);
      }
      last[n] = bench.put(n, packets::Nop{});
    }
    for (unsigned n = 0; n < 4; ++n) bench.ring(n);
    for (unsigned n = 0; n < 4; ++n) CHECK(bench.wait(n, last[n], 200'000'000).status == CX_STATUS_OK);
  }
  CHECK(bench.state() == CX_DEV_FW_STATUS_STATE_READY);
}

TEST_CASE("A packet costs few instructions") {
  Bench bench(8);
  bench.enable(0);
  const uint64_t before = bench.chip.core.instructions();
  uint32_t last = 0;
  for (int i = 0; i < 200; ++i) last = bench.put(0, packets::Nop{});
  bench.ring(0);
  bench.wait(0, last);
  const uint64_t each = (bench.chip.core.instructions() - before) / 200;
  INFO("instructions per NOP with a record: " << each);
  CHECK(each < 1100);
}

}  // namespace cx::tb
