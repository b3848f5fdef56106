// The chain from a run's end to its begin, by records that are made by hand.
#include "driver/tools/critical_path.hpp"

#include <catch2/catch.hpp>
#include <numeric>

#include "driver/include/cx/error.hpp"

using namespace cx;
using namespace cx::tools;

namespace {

constexpr uint16_t kLoad = 0, kDmmu = 2;
enum Limit : uint64_t { engine, compute, scratchpad, memory, network, bus };

cx_trace_record instruction(uint64_t id, uint16_t unit, uint64_t pc, uint64_t begin, uint64_t accept, uint64_t end,
                            Limit limit) {
  cx_trace_record record{begin, end, id, 0, CX_TRACE_INSTRUCTION, unit, 0, {}};
  record.values[CX_TRACE_INSTRUCTION_PC] = pc;
  record.values[CX_TRACE_INSTRUCTION_ACCEPT] = accept;
  record.values[CX_TRACE_INSTRUCTION_LIMIT] = limit;
  return record;
}
cx_trace_record wait_record(uint64_t id, uint16_t unit, uint64_t begin, uint64_t end, uint64_t cause) {
  return {begin, end, id, cause, CX_TRACE_WAIT, unit, 0, {}};
}
cx_trace_record packet(uint64_t id, uint64_t begin, uint64_t end) {
  return {begin, end, id, 0, CX_TRACE_PACKET, 0, 0, {}};
}
cx_trace_record transfer(uint64_t id, uint64_t begin, uint64_t end, uint64_t cause) {
  cx_trace_record record{begin, end, id, cause, CX_TRACE_TRANSFER, 1, 1, {}};
  record.values[CX_TRACE_TRANSFER_LIMIT] = bus;
  return record;
}

/// A copy, then a launch: two loads, of which the second is memory's, and a product that waits for it, twice over.
std::vector<cx_trace_record> records() {
  return {transfer(1, 110, 190, 2),
          packet(2, 100, 200),
          instruction(10, kLoad, 0, 300, 310, 330, engine),
          instruction(11, kLoad, 1, 310, 400, 420, memory),
          wait_record(12, kDmmu, 290, 420, 11),
          instruction(13, kDmmu, 0, 425, 500, 520, compute),
          instruction(14, kDmmu, 1, 500, 600, 640, scratchpad),
          packet(15, 200, 700)};
}

int node_of(uint32_t, uint32_t pc) { return static_cast<int>(pc); }

uint64_t of(const RunTimes &times, Reason reason) { return times.by_reason()[static_cast<std::size_t>(reason)]; }

}  // namespace

TEST_CASE("the path goes by what each waited for, without a gap") {
  const RunTimes times = run_times(records(), node_of);
  CHECK(times.begin == 100);
  CHECK(times.end == 700);
  uint64_t reached = times.begin;
  for (const PathSegment &segment : times.path) {
    CHECK(segment.begin == reached);
    CHECK(segment.end > segment.begin);
    reached = segment.end;
  }
  CHECK(reached == times.end);
  CHECK(of(times, Reason::pcie) == 80);
  CHECK(of(times, Reason::scratchpad) == 140);  // 500 to 640
  CHECK(of(times, Reason::compute) == 75);      // 425 to 500: its successor did not wait for its results
  CHECK(of(times, Reason::engine) == 5 + 10);   // after the wait; the first load
  CHECK(of(times, Reason::dram) == 110);        // 310 to 420
  CHECK(of(times, Reason::launch) == 10 + 10 + 100 + 60);
  CHECK(of(times, Reason::dependency) == 0);
  const auto second = times.by_reason(1);
  CHECK(second[static_cast<std::size_t>(Reason::scratchpad)] == 140);
  CHECK(second[static_cast<std::size_t>(Reason::dram)] == 110);
}

TEST_CASE("a post that takes effect late is a handing over") {
  auto trace = records();
  trace[4].end = 424;  // woken after the load's end
  const RunTimes times = run_times(trace, node_of);
  CHECK(of(times, Reason::dependency) == 4);
  CHECK(of(times, Reason::engine) == 1 + 10);
}

TEST_CASE("what an engine takes before its first and after its last instruction is not the launch's") {
  auto trace = records();
  const RunTimes plain = run_times(trace, node_of);
  trace.push_back({260, 425, 30, 15, CX_TRACE_STREAM, kLoad, 0, {}});
  trace.push_back({250, 650, 31, 15, CX_TRACE_STREAM, kDmmu, 0, {}});
  const RunTimes times = run_times(trace, node_of);
  CHECK(of(times, Reason::engine) == of(plain, Reason::engine) + 40 + 10);  // 260 to 300, 640 to 650
  CHECK(of(times, Reason::launch) == of(plain, Reason::launch) - 50);
  uint64_t reached = times.begin;
  for (const PathSegment &segment : times.path) {
    CHECK(segment.begin == reached);
    reached = segment.end;
  }
  CHECK(reached == times.end);
}

TEST_CASE("launches by part: each moment has one") {
  auto trace = records();
  const auto own = [&](uint64_t begin, uint64_t end, uint32_t what) {
    trace.push_back(transfer(0, begin, end, 0));
    trace.back().what = what;
  };
  own(100, 105, 1);  // a packet
  own(190, 240, 0);  // a program
  own(650, 670, 2);  // a record
  trace.push_back({230, 260, 0, 0, CX_TRACE_SLEEP, 0, 0, {}});
  const RunTimes times = run_times(trace, node_of);
  const auto part = [&](LaunchPart which) { return times.launch[static_cast<std::size_t>(which)]; };
  CHECK(part(LaunchPart::packets) == 5);
  CHECK(part(LaunchPart::programs) == 50);
  CHECK(part(LaunchPart::records) == 20);
  CHECK(part(LaunchPart::asleep) == 20);
  CHECK(part(LaunchPart::firmware) == of(times, Reason::launch) - 95);
}

TEST_CASE("stalls are summed by who waited for whom") {
  auto trace = records();
  trace.push_back(wait_record(20, kDmmu, 600, 610, 11));
  const RunTimes times = run_times(trace, node_of);
  REQUIRE(times.stalls.size() == 2);
  CHECK(times.stalls[0].engine == kDmmu);
  CHECK(times.stalls[0].node == 0);
  CHECK(times.stalls[0].waiting_for == kLoad);
  CHECK(times.stalls[0].reason == Reason::dram);
  CHECK(times.stalls[0].ps == 130);
  CHECK(times.stalls[0].count == 1);
  CHECK(times.stalls[1].node == -1);  // nothing followed
}

TEST_CASE("copies without a launch: their path is one node's, each by what held it up") {
  std::vector<cx_trace_record> trace = {packet(2, 100, 250), packet(3, 150, 300), transfer(4, 120, 180, 2),
                                        transfer(5, 170, 200, 3), transfer(6, 255, 265, 0)};
  trace[2].values[CX_TRACE_TRANSFER_LIMIT] = memory;
  trace[3].values[CX_TRACE_TRANSFER_LIMIT] = network;
  const RunTimes times = copy_times(trace, 7);
  CHECK(times.begin == 100);
  CHECK(times.end == 300);
  CHECK(of(times, Reason::dram) == 60);
  CHECK(of(times, Reason::noc) == 20);  // the first of two that overlap has the time of both
  CHECK(of(times, Reason::launch) == 20 + 100);
  CHECK(times.by_reason(7) == times.by_reason());
  CHECK(times.launch[static_cast<std::size_t>(LaunchPart::packets)] == 10);
  CHECK(times.launch[static_cast<std::size_t>(LaunchPart::firmware)] == 110);
  CHECK_THROWS_AS(copy_times(std::vector{transfer(1, 0, 1, 2)}, 0), Error);
}

TEST_CASE("limits are reasons, and a trace without packets or instructions is refused") {
  CHECK(reason_of_limit(network) == Reason::noc);
  CHECK(reason_of_limit(memory) == Reason::dram);
  CHECK(reason_of_limit(bus) == Reason::pcie);
  CHECK(reason_of_limit(engine) == Reason::engine);
  CHECK_THROWS_AS(run_times(std::vector{packet(1, 0, 1)}, node_of), Error);
  CHECK_THROWS_AS(run_times(std::vector{instruction(1, 0, 0, 0, 1, 2, compute)}, node_of), Error);
}
