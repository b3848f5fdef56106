// Order of service among queues, and lists of packets.
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "tb/firmware/bench.hpp"

namespace cx::tb {

TEST_CASE("EXECUTE runs a list in order and holds back what follows") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  constexpr uint32_t kCount = 100;
  for (uint32_t i = 0; i < kCount; ++i) {
    packets::Signal add;
    add.op = packets::SignalOp::ADD;
    add.address = kHostData;
    add.value = 1;
    if (i % 10 == 3) {
      // Entries may have records and vectors of their own.
      add.completion = kHostData + 64 + 32 * (i / 10);
      add.completion_value = 1000 + i;
      add.vector = static_cast<uint16_t>(i / 10);
    }
    bench.put_in_list(i, add);
  }
  const uint32_t before = bench.put(0, packets::Nop{});
  const uint32_t list = bench.put(0, execute(kCount));
  packets::Timestamp behind;
  behind.address = kHostData + 8;
  const uint32_t last = bench.put(0, behind);
  bench.ring(0);
  bench.wait(0, last);
  chip.run_to_idle();
  CHECK(bench.record(0, before).status == CX_STATUS_OK);
  CHECK(bench.record(0, list).status == CX_STATUS_OK);
  CHECK(bench.record(0, list).entry == 0);
  CHECK(bench.host64(kHostData) == kCount);
  CHECK(bench.host64(kHostData + 8) >= bench.record(0, list).end);
  CHECK(bench.read_index(0) == 3);
  CHECK(chip.read(kDev, CX_DEV_PACKETS) == 3 + kCount);
  CHECK(chip.vectors == std::vector<unsigned>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  uint64_t time = bench.record(0, list).start;
  for (uint32_t i = 0; i < 10; ++i) {
    cx_completion record;
    std::memcpy(&record, chip.host(kHostData + 64 + 32 * i, 32), 32);
    CHECK(record.value == 1003 + 10 * i);
    CHECK(record.start >= time);
    CHECK(record.end >= record.start);
    time = record.end;
  }
  CHECK(time <= bench.record(0, list).end);
  // The list is as it was: the next replay does the same.
  CHECK(bench.run(0, execute(kCount)).status == CX_STATUS_OK);
  CHECK(bench.host64(kHostData) == 2 * kCount);
}

TEST_CASE("Transfers of a list overlap unless there is a barrier") {
  Bench bench;
  bench.enable(0);
  for (const bool barrier : {false, true}) {
    for (uint32_t i = 0; i < 3; ++i) {
      auto packet = copy(packets::Direction::HOST_TO_DEVICE, kDramBase + 0x10000 * i, kHostData, 0x10000);
      packet.barrier = barrier;
      bench.put_in_list(i, packet);
    }
    const auto record = bench.run(0, execute(3));
    const uint64_t one = bench.chip.sdma_latency + 4096;
    CHECK(record.end - record.start > (barrier ? 3 : 1) * one);
    CHECK(record.end - record.start < (barrier ? 3 : 1) * one + 9'000);
  }
}

TEST_CASE("The first packet of a list that fails ends it, and the outcome names it") {
  Bench bench;
  bench.enable(0);
  auto &chip = bench.chip;
  packets::Signal add;
  add.op = packets::SignalOp::ADD;
  add.address = kHostData;
  add.value = 1;
  const uint32_t seed = 3;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    const uint32_t count = 1 + random() % 40, bad = random() % count;
    for (uint32_t i = 0; i < count; ++i) {
      packets::Signal packet = add;
      packet.barrier = random() % 2;
      bench.put_in_list(i, packet);
    }
    packets::Copy fault = copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kUnmapped, 8);
    packets::Signal misaligned = add;
    misaligned.address += 4;
    const bool runs = random() % 2;
    if (runs) {
      bench.put_in_list(bad, fault);
    } else {
      bench.put_in_list(bad, misaligned);
    }
    // What starts before the fault is known still ends.
    packets::Signal after = add;
    after.barrier = true;
    if (bad + 1 < count) bench.put_in_list(bad + 1, after);
    bench.host64(kHostData) = 0;
    const uint32_t index = bench.submit(0, execute(count));
    const auto record = bench.wait(0, index);
    CHECK(record.status == (runs ? CX_STATUS_IOMMU_FAULT : CX_STATUS_BAD_ALIGNMENT));
    CHECK(record.detail == 24);
    CHECK(record.entry == bad + 1);
    CHECK(bench.host64(kHostData) == bad);
    const auto captured = bench.take_fault();
    CHECK(captured.count == 1);
    CHECK(captured.code == record.status);
    CHECK(captured.packet == index);
    CHECK(captured.entry == bad + 1);
    if (runs) CHECK(captured.address == kUnmapped);
    CHECK(bench.run(0, packets::Nop{}).status == CX_STATUS_OK);
    CHECK(bench.run(0, packets::Nop{}).entry == 0);
  }
  CHECK(chip.vectors == std::vector<unsigned>(20, kErrorVector));
}

TEST_CASE("A list that failed waits for nothing") {
  Bench bench;
  bench.enable(0);
  constexpr uint64_t kHost = 0x9'0000'0000, kMapped = 1 << 20;
  bench.chip.map_host(kHost, kMapped);
  packets::Signal add;
  add.op = packets::SignalOp::ADD;
  add.address = kHostData + 8;
  add.value = 1;
  bench.host64(kHostData) = bench.host64(kHostData + 8) = 0;
  SECTION("a packet behind one that could not start does not start") {
    bench.put_in_list(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHost, kMapped));
    packets::Signal misaligned = add;
    misaligned.address += 4;
    bench.put_in_list(1, misaligned);
    bench.put_in_list(2, add);
    bench.put_in_list(3, wait_for<packets::Wait>(kHostData, packets::Compare::EQ, 1));
    const auto record = bench.run(0, execute(4));
    CHECK(record.status == CX_STATUS_BAD_ALIGNMENT);
    CHECK(record.entry == 2);
  }
  SECTION("a wait ends with an earlier packet's fault") {
    bench.put_in_list(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHost, 2 * kMapped));
    bench.put_in_list(1, wait_for<packets::Wait>(kHostData, packets::Compare::EQ, 1));
    bench.put_in_list(2, add);
    const auto record = bench.run(0, execute(3));
    CHECK(record.status == CX_STATUS_IOMMU_FAULT);
    CHECK(record.entry == 1);
  }
  CHECK(bench.host64(kHostData + 8) == 0);
  CHECK(bench.take_fault().count == 1);
  CHECK(bench.run(0, packets::Nop{}).status == CX_STATUS_OK);
}

TEST_CASE("Lists that cannot be read, lists in lists, records that cannot be written") {
  Bench bench;
  bench.enable(0);
  SECTION("no memory") {
    packets::Execute packet = execute(3);
    packet.list = kUnmapped;
    const auto record = bench.run(0, packet);
    CHECK(record.status == CX_STATUS_IOMMU_FAULT);
    CHECK(record.detail == 24);
    CHECK(record.entry == 0);
    CHECK(bench.take_fault().address == kUnmapped);
  }
  SECTION("the end of the list is beyond its memory: what was read runs") {
    packets::Signal add;
    add.op = packets::SignalOp::ADD;
    add.address = kHostData;
    add.value = 1;
    for (uint32_t i = 0; i < kListBytes / 64; ++i) bench.put_in_list(i, add);
    const auto record = bench.run(0, execute(kListBytes / 64 + 1));
    CHECK(record.status == CX_STATUS_IOMMU_FAULT);
    CHECK(record.detail == 24);
    CHECK(record.entry == 0);
    CHECK(bench.take_fault().address == kLists + kListBytes);
    CHECK(bench.host64(kHostData) == kListBytes / 64);
  }
  SECTION("nesting") {
    bench.put_in_list(0, packets::Nop{});
    bench.put_in_list(1, execute(1));
    const auto record = bench.run(0, execute(2));
    CHECK(record.status == CX_STATUS_UNSUPPORTED);
    CHECK(record.detail == 0);
    CHECK(record.entry == 2);
  }
  SECTION("record of an entry") {
    packets::Nop nop;
    nop.completion = kUnmapped;
    bench.put_in_list(0, nop);
    const auto record = bench.run(0, execute(1));
    CHECK(record.status == CX_STATUS_IOMMU_FAULT);
    CHECK(record.detail == 8);
    CHECK(record.entry == 1);
  }
  SECTION("an empty slot") {
    std::memset(bench.chip.host(kLists, 64), 0, 64);
    const auto record = bench.run(0, execute(1));
    CHECK(record.status == CX_STATUS_BAD_TYPE);
    CHECK(record.entry == 1);
  }
  SECTION("an engine's fault in a list") {
    Program program;
    program.install(bench.chip);
    bench.chip.plans[2] = {MockChip::Plan::End::kFault, 700, CX_STATUS_SPM_FAULT, 17, 0x1234};
    bench.put_in_list(0, packets::Nop{});
    bench.put_in_list(1, program.packet());
    const auto record = bench.run(0, execute(2));
    CHECK(record.status == CX_STATUS_SPM_FAULT);
    CHECK(record.entry == 2);
    const auto fault = bench.take_fault();
    CHECK(fault.engine == 2);
    CHECK(fault.pc == 17);
    CHECK(fault.address == 0x1234);
    CHECK(fault.entry == 2);
    bench.chip.plans[2] = {};
  }
  CHECK(bench.run(0, packets::Nop{}).status == CX_STATUS_OK);
}

TEST_CASE("A list that waits holds up no other queue; QUEUE_DISABLE and QUEUE_RESET end it") {
  for (const uint32_t op : {0u, uint32_t{CX_DEV_HOST_CMD_OP_QUEUE_DISABLE}, uint32_t{CX_DEV_HOST_CMD_OP_QUEUE_RESET}}) {
    INFO("command " << op);
    Bench bench;
    bench.enable(0);
    bench.enable(1);
    bench.put_in_list(0, packets::Nop{});
    bench.put_in_list(1, wait_for<packets::Wait>(kHostData, packets::Compare::EQ, 1));
    packets::Signal end;
    end.address = kHostData + 8;
    end.value = 1;
    bench.put_in_list(2, end);
    const uint32_t list = bench.submit(0, execute(3));
    bench.chip.run_until([] { return false; }, 100'000);
    CHECK(bench.run(1, packets::Nop{}).status == CX_STATUS_OK);
    CHECK_FALSE(bench.done(0, list));
    if (op == 0) {
      packets::Signal open;
      open.address = kHostData;
      open.value = 1;
      bench.run(1, open);
      CHECK(bench.wait(0, list, 20'000).status == CX_STATUS_OK);
      CHECK(bench.host64(kHostData + 8) == 1);
      continue;
    }
    bench.command(op, 0);
    CHECK(bench.done(0, list));
    CHECK(bench.record(0, list).status == CX_STATUS_ABORTED);
    CHECK(bench.host64(kHostData + 8) == 0);
    CHECK(bench.queue_state(0) == CX_QUEUE_STATE_STATE_DISABLED);
    bench.enable(0);
    bench.put_in_list(1, packets::Nop{});
    CHECK(bench.run(0, execute(3)).status == CX_STATUS_OK);
  }
}

TEST_CASE("A reset ends the transfers of a list") {
  Bench bench;
  bench.enable(0);
  bench.chip.map_host(0x9'0000'0000, 4 << 20);
  for (uint32_t i = 0; i < 5; ++i) {
    bench.put_in_list(i, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, 0x9'0000'0000, 4 << 20));
  }
  const uint32_t list = bench.submit(0, execute(5));
  bench.chip.run_until([] { return false; }, 100'000);
  bench.command(CX_DEV_HOST_CMD_OP_QUEUE_RESET, 0);
  CHECK(bench.record(0, list).status == CX_STATUS_ABORTED);
  CHECK(bench.record(0, list).entry == 1);
  bench.enable(0);
  CHECK(bench.run(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHostData, 64)).status == CX_STATUS_OK);
}

TEST_CASE("Large copies go in pieces and arrive whole") {
  const uint32_t seed = 9;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  constexpr uint64_t kHost = 0x9'0000'0000, kHostBytes = 6 << 20;
  struct Shape {
    uint32_t row_bytes, rows, src_pitch, dst_pitch;
  };
  const Shape shapes[] = {{3'000'001, 1, 0, 0},
                          {kCopyPiece, 1, 0, 0},
                          {kCopyPiece + 1, 2, kCopyPiece + 1, kCopyPiece + 1},
                          {1'500'000, 3, 1'500'008, 1'600'000},
                          {4, 600'000, 4, 4},
                          {100, 5000, 128, 100},
                          {700, 4000, 700, 801},
                          {1, 3000, 17, 1}};
  for (unsigned channels : {1u, 2u, 4u}) {
    Bench bench(4, channels);
    bench.enable(0, 1);
    bench.chip.map_host(kHost, kHostBytes);
    uint8_t *host = bench.chip.host(kHost, kHostBytes);
    for (uint64_t i = 0; i < kHostBytes; i += 4) {
      const uint32_t value = random();
      std::memcpy(host + i, &value, 4);
    }
    for (const Shape &shape : shapes) {
      INFO(channels << " channels, " << shape.rows << " rows of " << shape.row_bytes);
      std::fill(bench.chip.dram.begin(), bench.chip.dram.end(), uint8_t{0});
      auto packet = copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHost, shape.row_bytes);
      packet.rows = shape.rows;
      packet.src_pitch = shape.src_pitch;
      packet.dst_pitch = shape.dst_pitch;
      bench.chip.transfers.clear();
      REQUIRE(bench.run(0, packet).status == CX_STATUS_OK);
      uint64_t moved = 0;
      for (const auto &transfer : bench.chip.transfers) {
        if (transfer.dst < kDramBase) continue;
        const uint64_t bytes = uint64_t{transfer.row_bytes} * transfer.rows;
        REQUIRE(bytes <= kCopyPiece);
        moved += bytes;
      }
      REQUIRE(moved == uint64_t{shape.row_bytes} * shape.rows);
      std::vector<uint8_t> expected(bench.chip.dram.size());
      for (uint64_t row = 0; row < shape.rows; ++row) {
        std::memcpy(expected.data() + row * shape.dst_pitch, host + row * shape.src_pitch, shape.row_bytes);
      }
      REQUIRE(expected == bench.chip.dram);
    }
    // A piece that fails ends the packet; the field and the address are those of the whole packet's side.
    auto over = copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHost + kHostBytes - kCopyPiece, 2 * kCopyPiece);
    const auto record = bench.run(0, over);
    CHECK(record.status == CX_STATUS_IOMMU_FAULT);
    CHECK(record.detail == 24);
    CHECK(bench.take_fault().address == kHost + kHostBytes);
  }
}

namespace {

constexpr uint64_t kBig = 0x9'0000'0000, kBigBytes = 4 << 20, kTarget = kDramBase + (1 << 20);
// Firmware's work around a packet and its DMA accesses, of which at most this many come before a packet starts.
constexpr uint64_t kStepCycles = 12'000;

uint64_t piece_cycles(const Bench &bench) {
  return bench.chip.sdma_latency + static_cast<uint64_t>(kCopyPiece / bench.chip.sdma_bytes_per_cycle);
}

// Queues 1 to 3 of `level` get copies of 4 MiB without barriers, and the first of them programs behind these.
void fill_backlog(Bench &bench, unsigned level, const Program &program) {
  bench.chip.map_host(kBig, kBigBytes);
  for (unsigned n = 1; n <= 3; ++n) {
    bench.enable(n, level);
    for (int i = 0; i < 6; ++i) bench.put(n, copy(packets::Direction::HOST_TO_DEVICE, kTarget, kBig, kBigBytes));
    if (n == 1) {
      for (int i = 0; i < 2; ++i) bench.put(n, program.packet());
    }
    bench.ring(n);
  }
  bench.chip.run_until([] { return false; }, 30'000);
}

}  // namespace

TEST_CASE("A packet of a queue that is served first starts at the next border, whatever the backlog of others") {
  struct Case {
    unsigned channels, level, backlog;
    uint64_t pieces;  // that a COPY may have to wait for
  };
  // With all channels, one is for level 0 alone.
  const Case cases[] = {{4, 0, 3, 0}, {4, 1, 2, 1}, {3, 0, 1, 1}, {2, 0, 3, 1}, {1, 0, 3, 1}};
  for (const Case &c : cases) {
    INFO(c.channels << " channels, level " << c.level << " against " << c.backlog);
    Bench bench(5, c.channels);
    auto &chip = bench.chip;
    Program program;
    program.install(chip);
    for (auto &plan : chip.plans) plan.cycles = 40'000;
    bench.enable(0, c.level);
    fill_backlog(bench, c.backlog, program);
    const uint64_t border = c.channels == 1 ? piece_cycles(bench) : 0;  // a chip with one channel waits for transfers
    for (int round = 0; round < 5; ++round) {
      uint64_t asked = chip.now();
      auto record = bench.run(0, packets::Nop{});
      CHECK(record.start - asked < border + kStepCycles);
      asked = chip.now();
      record = bench.run(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHostData, 64));
      CHECK(record.status == CX_STATUS_OK);
      CHECK(record.end - asked < border + c.pieces * piece_cycles(bench) + kStepCycles);
    }
    REQUIRE(bench.read_index(3) < 6);  // the backlog was there all the time
  }
}

TEST_CASE("A LAUNCH of a queue that is served first waits for one LAUNCH at most") {
  Bench bench(5);
  auto &chip = bench.chip;
  Program program;
  program.install(chip);
  constexpr uint64_t kLaunch = 200'000;
  for (auto &plan : chip.plans) plan.cycles = kLaunch;
  bench.enable(0, 0);
  for (unsigned n = 1; n <= 3; ++n) {
    bench.enable(n, 2);
    for (int i = 0; i < 8; ++i) bench.put(n, program.packet());
    bench.ring(n);
  }
  REQUIRE(chip.run_until([&] { return !chip.engine_starts.empty(); }));
  for (int round = 0; round < 3; ++round) {
    const uint64_t asked = chip.now();
    const auto record = bench.run(0, program.packet());
    CHECK(record.start - asked < kLaunch + kStepCycles);
    CHECK(record.end - asked < 2 * kLaunch + 2 * kStepCycles);
  }
  REQUIRE(bench.read_index(1) + bench.read_index(2) + bench.read_index(3) < 12);
}

TEST_CASE("Queues of one level take turns at channels and engines") {
  for (unsigned channels : {4u, 2u, 1u}) {
    INFO(channels << " channels");
    Bench bench(5, channels);
    auto &chip = bench.chip;
    Program program;
    program.install(chip);
    chip.map_host(kBig, kBigBytes);
    for (auto &plan : chip.plans) plan.cycles = 30'000;
    for (unsigned n = 0; n < 6; ++n) bench.enable(n, 2);
    // Two queues without barriers could keep every channel for themselves; each packet is a piece.
    for (unsigned n = 0; n < 6; ++n) {
      for (int i = 0; i < 20; ++i) {
        if (n < 4) {
          auto packet = copy(packets::Direction::HOST_TO_DEVICE, kTarget, kBig, kCopyPiece);
          packet.barrier = n >= 2;
          bench.put(n, packet);
        } else {
          bench.put(n, program.packet());
        }
      }
      bench.ring(n);
    }
    // At any moment no queue is far behind another that wants the same.
    bool fair = true;
    std::string seen;
    const auto check = [&] {
      uint32_t least = ~0u, most = 0;
      for (unsigned n = 0; n < 4; ++n) {
        least = std::min(least, bench.read_index(n));
        most = std::max(most, bench.read_index(n));
      }
      // A queue with barriers asks again only when its packet is complete; one without is always in line.
      fair &= most <= 3 * least + 3;
      const uint32_t a = bench.read_index(4), b = bench.read_index(5);
      fair &= std::max(a, b) - std::min(a, b) <= 2;
      seen.clear();
      for (unsigned n = 0; n < 6; ++n) seen += std::to_string(bench.read_index(n)) + " ";
      return most == 20 || !fair;
    };
    chip.run_until(check, 100'000'000);
    INFO("completed " << seen);
    CHECK(fair);
    for (unsigned n = 0; n < 6; ++n) CHECK(bench.wait(n, 19, 100'000'000).status == CX_STATUS_OK);
  }
}

TEST_CASE("A LAUNCH that is refused passes its turn on") {
  for (const unsigned first : {0u, 1u}) {
    const unsigned other = 1 - first;
    INFO("queue " << first << " launches first");
    Bench bench(2);
    auto &chip = bench.chip;
    Program program;
    program.install(chip);
    for (auto &plan : chip.plans) plan.cycles = 30'000;
    for (const unsigned n : {0u, 1u}) bench.enable(n, 2);
    auto nowhere = program.packet();
    nowhere.program = 0;
    bench.put(first, program.packet());
    bench.put(first, nowhere);
    bench.ring(first);
    REQUIRE(chip.run_until([&] { return !chip.engine_starts.empty(); }));
    // Gets in line behind the one whose program is nowhere.
    bench.put(other, program.packet());
    bench.ring(other);
    CHECK(bench.wait(other, 0, 1'000'000).status == CX_STATUS_OK);
    CHECK(bench.wait(first, 1, 1'000'000).status == CX_STATUS_BAD_ADDRESS);
  }
}

TEST_CASE("A queue with one long copy does not keep others of its level from a channel") {
  Bench bench(4, 2);
  bench.chip.map_host(kBig, kBigBytes);
  for (unsigned n = 0; n < 3; ++n) bench.enable(n, 1);
  const uint32_t first = bench.submit(0, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kBig, kBigBytes));
  const uint32_t second = bench.submit(1, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kBig, kBigBytes));
  bench.chip.run_until([] { return false; }, 10'000);
  const uint64_t asked = bench.chip.now();
  const auto record = bench.run(2, copy(packets::Direction::HOST_TO_DEVICE, kDramBase, kHostData, 64));
  CHECK(record.end - asked < 2 * piece_cycles(bench) + kStepCycles);
  CHECK(bench.wait(0, first).status == CX_STATUS_OK);
  CHECK(bench.wait(1, second).status == CX_STATUS_OK);
}

TEST_CASE("A packet of a replayed list costs few instructions") {
  Bench bench;
  bench.enable(0);
  constexpr uint32_t kCount = 128;
  for (uint32_t i = 0; i < kCount; ++i) bench.put_in_list(i, packets::Nop{});
  bench.run(0, execute(kCount));
  const uint64_t before = bench.chip.core.instructions();
  bench.run(0, execute(kCount));
  const uint64_t each = (bench.chip.core.instructions() - before) / kCount;
  INFO("instructions per NOP of a list: " << each);
  CHECK(each < 1000);
}

}  // namespace cx::tb
