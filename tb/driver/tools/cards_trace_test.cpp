// The trace of two cards of one process: one file, tracks for each card, one time axis.
#include <array>
#include <catch2/catch.hpp>
#include <cstring>

#include "driver/runtime/executable.hpp"
#include "driver/tools/trace.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "driver/transport/inproc.hpp"
#include "driver/umd/device.hpp"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/driver/tools/perfetto_reader.hpp"
#include "tb/driver/tools/temporary_folder.hpp"

using namespace cx;
using cx::tb::total;
using cx::tb::TraceSlice;

namespace {

constexpr uint32_t kElements = 64;
constexpr const char *kNames[] = {"card, simulated time", "card 2, simulated time"};

const InprocTransport &card_of(Device &device) { return dynamic_cast<const InprocTransport &>(device.transport()); }

HostTensor input() {
  HostTensor tensor{"x", "float32", {1, kElements}, std::vector<std::byte>(kElements * 4)};
  for (uint32_t i = 0; i < kElements; ++i) {
    const auto value = static_cast<float>(i);
    std::memcpy(tensor.bytes.data() + 4 * i, &value, 4);
  }
  return tensor;
}

/// Between the marks of a card's run its records sum to the counters of its report.
void check_card(const tb::TraceContents &trace, const std::string &process, const RunReport &report) {
  INFO(process);
  std::size_t from = 0, to = 0;
  for (const TraceSlice &mark : trace.instants) {
    if (trace.tracks.at(mark.track).process != process) continue;
    if (mark.name == "mark 1") from = mark.place;
    if (mark.name == "mark 2") to = mark.place;
  }
  REQUIRE(from < to);
  const auto of = [&](const std::string &group, const std::string &track = {}) {
    return trace.of(group, track, from, to, process);
  };
  for (int engine = 0; engine < kEngines; ++engine) {
    const auto instructions = of("engines", kEngineNames[engine]);
    const EngineCounters &counters = report.counters.engines[static_cast<std::size_t>(engine)];
    CHECK(total(instructions, "operations") == counters.ops);
    CHECK(total(instructions, "bytes_read") == counters.bytes_read);
    CHECK(total(instructions, "bytes_written") == counters.bytes_written);
  }
  CHECK(total(of("DRAM"), "read") == report.counters.dram_read);
  CHECK(total(of("DRAM"), "written") == report.counters.dram_written);
  CHECK(of("queues").size() == report.counters.packets);
  const auto samples = of("counters", "samples");
  CHECK(total(samples, "pcie_to_device") == report.counters.pcie_to_device);
  CHECK(total(samples, "pcie_to_host") == report.counters.pcie_to_host);
  CHECK(report.counters.engines[0].ops > 0);
}

}  // namespace

TEST_CASE("two cards are in one trace, each with its tracks, on one time axis") {
  const tb::Folder folder;
  const std::string path = folder / "cards.pftrace";
  std::vector<std::byte> data(1 << 20, std::byte{0x5a});
  std::vector<RunReport> reports;
  uint64_t gap_ps = 0;
  {
    const auto first = Device::open("configs/chips/tiny.yaml");
    tools::TraceFile file(path, true);
    const auto second = Device::open("configs/chips/tiny.yaml");
    REQUIRE(card_of(*first).trace_number() == 0u);
    REQUIRE(card_of(*second).trace_number() == 1u);
    // Time is one, and that of the second counts from the first's power-on.
    gap_ps = card_of(*second).trace_time_ps() - second->time_ps();
    CHECK(gap_ps > 0);
    CHECK(card_of(*first).trace_time_ps() == first->time_ps());
    const DeviceBuffer source = first->allocate(data.size()), target = second->allocate(data.size());
    first->upload(source.address(), data);
    const HostTensor x = input();
    for (Device *device : {first.get(), second.get()}) {
      Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
      file.set_program(executable.program(), *card_of(*device).trace_number());
      executable.run({&x, 1});
      reports.push_back(executable.report());
    }
    CHECK(Device::copy_peer(*second, target.address(), *first, source.address(), data.size()).path ==
          PeerCopy::Path::direct);
    file.finish();
  }
  std::size_t rest = 0;
  const tb::TraceContents trace = tb::read_trace(tb::read_packets(tb::file_bytes(path), &rest));
  CHECK(rest == 0);
  std::map<uint64_t, const TraceSlice *> by_id;
  for (const TraceSlice &slice : trace.slices) {
    if (slice.number("id") != 0) CHECK(by_id.emplace(slice.number("id"), &slice).second);
  }
  for (std::size_t card = 0; card < 2; ++card) check_card(trace, kNames[card], reports[card]);
  const auto process_of = [&](const TraceSlice *slice) { return trace.tracks.at(slice->track).process; };
  // All that the second card does begins after its power-on on the common axis, and its run after the first's.
  const auto runs = [&](std::size_t card) { return trace.of("engines", "vpu", 0, SIZE_MAX, kNames[card]); };
  REQUIRE(!runs(0).empty());
  REQUIRE(!runs(1).empty());
  CHECK(runs(1).front()->begin >= runs(0).back()->end);
  for (const TraceSlice &slice : trace.slices) {
    if (process_of(&slice) != kNames[1]) continue;
    CHECK(static_cast<int64_t>(slice.begin) >= trace.card_origin + static_cast<int64_t>(gap_ps / 1000));
  }
  for (std::size_t card = 0; card < 2; ++card) {
    CHECK(runs(card).front()->texts.count("node") == 1);
  }
  // The copy holds the other card's link: its records there name the transfer as their cause.
  std::size_t across = 0;
  for (const TraceSlice &slice : trace.slices) {
    const auto cause = by_id.find(slice.number("cause"));
    if (slice.number("cause") == 0 || cause == by_id.end()) continue;
    if (process_of(cause->second) == process_of(&slice)) continue;
    CHECK(trace.tracks.at(cause->second->track).group == "system DMA");
    CHECK(cause->second->begin <= slice.end);
    CHECK(std::count(slice.flows.begin(), slice.flows.end(), slice.number("cause")) == 1);
    ++across;
  }
  CHECK(across > 0);
}

TEST_CASE("what a card waits for names the packet that let it go on, on whichever card") {
  const tb::Folder folder;
  const std::string path = folder / "cards.pftrace";
  alignas(4096) static std::array<std::byte, 4096> page;
  page.fill(std::byte{0});
  const std::span<std::byte> word(page.data(), sizeof(uint64_t));
  {
    const auto first = Device::open("configs/chips/tiny.yaml"), second = Device::open("configs/chips/tiny.yaml");
    const HostRegistration a = first->register_host(word), b = second->register_host(word);
    tools::TraceFile file(path, false);
    Queue &waiting = second->queue();
    waiting.wait_value(b.iova(), CX_COMPARE_GE, 7);
    const Fence after = waiting.nop({.barrier = true});
    first->queue().nop();
    first->queue().signal(a.iova(), 3);
    first->queue().signal(a.iova(), 7);
    after.wait();
    // The same between queues of one card, by a completion record.
    const DeviceBuffer filled = first->allocate(1 << 20);
    const Fence fill = first->queue().fill(filled.address(), filled.size(), 5);
    first->create_queue().wait_for(fill).wait();
    // What the host wrote itself is no card's.
    const uint64_t value = 9;
    std::memcpy(page.data(), &value, sizeof value);
    waiting.wait_value(b.iova(), CX_COMPARE_EQ, value).wait();
    file.finish();
  }
  const tb::TraceContents trace = tb::read_trace(tb::read_packets(tb::file_bytes(path)));
  std::map<uint64_t, const TraceSlice *> packets;
  std::map<std::string, std::vector<const TraceSlice *>> waits, signals;
  for (const TraceSlice &slice : trace.slices) {
    const auto &track = trace.tracks.at(slice.track);
    if (track.group != "queues") continue;
    packets.emplace(slice.number("id"), &slice);
    if (slice.name == "WAIT") waits[track.process].push_back(&slice);
    if (slice.name == "SIGNAL") signals[track.process].push_back(&slice);
  }
  REQUIRE(waits[kNames[1]].size() == 2);
  REQUIRE(signals[kNames[0]].size() == 2);
  const TraceSlice &wait = *waits[kNames[1]][0], &signal = *signals[kNames[0]][1];
  CHECK(wait.number("cause") == signal.number("id"));
  CHECK(std::count(wait.flows.begin(), wait.flows.end(), signal.number("id")) == 1);
  CHECK(std::count(signal.flows.begin(), signal.flows.end(), signal.number("id")) == 1);
  CHECK(wait.begin < signal.begin);
  CHECK(wait.end >= signal.begin);
  CHECK(waits[kNames[1]][1]->number("cause") == 0);
  REQUIRE(waits[kNames[0]].size() == 1);
  const auto cause = packets.find(waits[kNames[0]][0]->number("cause"));
  REQUIRE(cause != packets.end());
  CHECK(cause->second->name == "FILL");
}

TEST_CASE("a card that opens after another has closed goes on where that one ended") {
  const tb::Folder folder;
  const std::string path = folder / "cards.pftrace";
  tools::TraceFile file(path, false);
  const HostTensor x = input();
  for (int round = 0; round < 2; ++round) {
    const auto device = Device::open("configs/chips/tiny.yaml");
    Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
    executable.run({&x, 1});
  }
  file.finish();
  const tb::TraceContents trace = tb::read_trace(tb::read_packets(tb::file_bytes(path)));
  const auto first = trace.of("engines", {}, 0, SIZE_MAX, kNames[0]);
  const auto second = trace.of("engines", {}, 0, SIZE_MAX, kNames[1]);
  REQUIRE(!first.empty());
  CHECK(first.size() == second.size());
  CHECK(second.front()->begin > first.back()->end);
}

TEST_CASE("records of one card are taken beside the file") {
  const tb::Folder folder;
  const auto device = Device::open("configs/chips/tiny.yaml");
  tools::TraceFile file(folder / "cards.pftrace", false);
  Executable executable(*device, test::sample_program(device->target().arch_hash, kElements));
  const HostTensor x = input();
  executable.run({&x, 1});
  tools::start_trace();
  CHECK_THROWS(tools::start_trace());
  executable.run({&x, 1});
  const std::vector<cx_trace_record> records = tools::finish_trace();
  CHECK_THROWS(tools::finish_trace());
  uint64_t instructions = 0;
  for (const cx_trace_record &record : records) {
    REQUIRE(record.kind == CX_TRACE_INSTRUCTION);
    instructions += record.unit == 3 ? 1 : 0;
  }
  CHECK(instructions > 0);
  CHECK(file.finish().records > records.size());
}
