// The trace unit without a chip: pieces, bursts, and packets followed from what passes on the buses.
#include "hw/trace/trace.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "hw/trace/packet_watch.hpp"
#include "tb/common/seed.hpp"

using namespace cx::hw;

namespace {

struct Collected {
  std::vector<cx_trace_record> records;
  Trace::Options options(std::uint64_t kinds = ~std::uint64_t{0}) {
    Trace::Options options;
    options.sink = [this](std::span<const cx_trace_record> piece) {
      records.insert(records.end(), piece.begin(), piece.end());
    };
    options.kinds = kinds;
    options.period_ps = 700;
    options.origin_ps = 5000;
    return options;
  }
};

cx_trace_record numbered(std::uint64_t id) { return {0, 0, id, 0, CX_TRACE_WAIT, 0, 0, {}}; }

template <typename Packet>
std::span<const std::byte> bytes_of(const Packet &packet) {
  return std::as_bytes(std::span(&packet, 1));
}

}  // namespace

TEST_CASE("records reach the sink in order, each once, whoever flushes") {
  Collected collected;
  Trace trace(collected.options());
  constexpr std::uint64_t kRecords = 5 * Trace::kPiece + 17;
  std::atomic<bool> done{false};
  std::thread flusher([&] {
    while (!done) trace.flush();
  });
  for (std::uint64_t i = 1; i <= kRecords; ++i) trace.append(numbered(i));
  done = true;
  flusher.join();
  trace.flush();
  REQUIRE(collected.records.size() == kRecords);
  for (std::uint64_t i = 0; i < kRecords; ++i) {
    if (collected.records[i].id != i + 1) FAIL("record " << i << " has id " << collected.records[i].id);
  }
}

TEST_CASE("kinds that are not wanted are dropped") {
  Collected collected;
  Trace trace(collected.options(std::uint64_t{1} << CX_TRACE_WAIT));
  trace.append({0, 0, 1, 0, CX_TRACE_DRAM, 0, 0, {}});
  trace.append(numbered(2));
  trace.flush();
  REQUIRE(collected.records.size() == 1);
  CHECK(collected.records[0].id == 2);
}

TEST_CASE("times are picoseconds since power-on") {
  Collected collected;
  const Trace trace(collected.options());
  CHECK(trace.time(3) == 3 * 700 + 5000);
  CHECK(trace.fine_time((std::uint64_t{3} << 16) + 32768) == 3 * 700 + 350 + 5000);
  CHECK(trace.kernel_time(42) == 5042);
}

TEST_CASE("bursts join what touches or overlaps, and lose nothing") {
  const auto seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Collected collected;
  Trace trace(collected.options());
  TraceBurst burst;
  std::uint64_t time = 0, bytes = 0, gaps = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t gap = random() % 2 != 0 ? 0 : 1 + random() % 10, length = 1 + random() % 20,
                        amount = random() % 100;
    if (i != 0 && gap != 0) ++gaps;
    const Trace::Cause cause(&trace, static_cast<std::uint64_t>(i) + 1);
    burst.add(trace, CX_TRACE_DRAM, 3, time + gap, time + gap + length, {amount, 1});
    time += gap + length;
    bytes += amount;
  }
  burst.close(trace);
  burst.close(trace);
  trace.flush();
  REQUIRE(collected.records.size() == gaps + 1);
  std::uint64_t sum = 0, requests = 0;
  for (std::size_t i = 0; i < collected.records.size(); ++i) {
    const cx_trace_record &record = collected.records[i];
    CHECK(record.unit == 3);
    sum += record.values[0];
    requests += record.values[1];
    CHECK(record.cause == requests - record.values[1] + 1);  // the first one's
    if (i != 0) CHECK(record.begin > collected.records[i - 1].end);
  }
  CHECK(sum == bytes);
  CHECK(requests == 1000);
  CHECK(collected.records.back().end == time);
}

TEST_CASE("packets are followed from fetch to completion, of lists too") {
  Collected collected;
  Trace trace(collected.options());
  constexpr std::uint64_t kRing = 0x10000, kList = 0x90000, kRecord = 0x50000;
  PacketWatch watch([](unsigned queue) {
    return queue == 2 ? PacketWatch::Ring{kRing, 8 * CX_PACKET_BYTES} : PacketWatch::Ring();
  });
  watch.set_trace(&trace);

  cx_packet_copy copy{};
  copy.type = CX_PKT_COPY;
  copy.src = 0x7000;
  copy.dst = 0x1'0000'0000;
  copy.row_bytes = copy.src_pitch = copy.dst_pitch = 256;
  copy.rows = 4;
  copy.completion = kRecord;
  cx_packet_execute execute{};
  execute.type = CX_PKT_EXECUTE;
  execute.list = kList;
  execute.count = 2;
  watch.read(kRing, bytes_of(copy), 10);
  watch.read(kRing + CX_PACKET_BYTES, bytes_of(execute), 11);
  watch.read(0x20000, bytes_of(copy), 12);           // in no ring
  watch.read(kRing, bytes_of(copy).subspan(1), 12);  // no packet
  const std::uint64_t copy_id = watch.copy_of(0x7000 + 3 * 256, 0x1'0000'0000);
  CHECK(copy_id != 0);
  CHECK(watch.copy_of(0x7000 + 4 * 256, 0x1'0000'0000) == 0);

  cx_completion record{};
  record.start = 20;
  record.end = 40;
  record.status = 9;
  const auto rest = bytes_of(record).subspan(offsetof(cx_completion, start));
  watch.wrote(kRecord + 64, rest);  // nobody's
  watch.wrote(kRecord + offsetof(cx_completion, start), rest);
  watch.read_index(2, 1);
  watch.completed(45);
  CHECK(watch.last_completed() == copy_id);

  cx_packet_launch launch{};
  launch.type = CX_PKT_LAUNCH;
  launch.program = 0x10'0000'0000;
  launch.program_bytes = 4096;
  cx_packet_header nop{};
  nop.type = CX_PKT_NOP;
  watch.read(kList, bytes_of(launch), 50);
  watch.read(kList + CX_PACKET_BYTES, bytes_of(nop), 50);
  const std::uint64_t launch_id = watch.launch_of(0x10'0000'0000 + 4095);
  CHECK(launch_id != 0);
  CHECK(watch.launch_of(0x10'0000'0000 + 4096) == 0);
  watch.completed(60);
  CHECK(watch.last_completed() == launch_id);
  CHECK(watch.launch_of(0x10'0000'0000) == 0);
  watch.completed(70);
  watch.read_index(2, 2);
  watch.completed(80);
  watch.completed(90);  // fetched before the watch began

  trace.flush();
  REQUIRE(collected.records.size() == 4);
  const auto check = [&](std::size_t i, std::uint32_t type, std::uint64_t begin, std::uint64_t end, std::uint64_t index,
                         std::uint64_t status, bool listed) {
    const cx_trace_record &packet = collected.records[i];
    INFO("packet " << i);
    CHECK(packet.kind == CX_TRACE_PACKET);
    CHECK(packet.unit == 2);
    CHECK(packet.what == type);
    CHECK(packet.begin == trace.time(begin));
    CHECK(packet.end == trace.time(end));
    CHECK(packet.values[CX_TRACE_PACKET_INDEX] == index);
    CHECK(packet.values[CX_TRACE_PACKET_STATUS] == status);
    CHECK(packet.values[CX_TRACE_PACKET_LISTED] == (listed ? 1 : 0));
  };
  check(0, CX_PKT_COPY, 20, 40, 0, 9, false);
  check(1, CX_PKT_LAUNCH, 50, 60, 0, 0, true);
  check(2, CX_PKT_NOP, 50, 70, 1, 0, true);
  check(3, CX_PKT_EXECUTE, 11, 80, 1, 0, false);
}
