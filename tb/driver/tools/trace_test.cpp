// cx run --trace and cx device --trace: the file by the published format, against the report of the same run.
#include <signal.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <thread>

#include "tb/common/data.hpp"
#include "tb/driver/tools/card_process.hpp"
#include "tb/driver/tools/cx_process.hpp"
#include "tb/driver/tools/perfetto_reader.hpp"

namespace fs = std::filesystem;
using cx::tb::CardProcess;
using cx::tb::file_bytes;
using cx::tb::Folder;
using cx::tb::read_packets;
using cx::tb::read_trace;
using cx::tb::run_cx;
using cx::tb::total;
using cx::tb::TraceContents;
using cx::tb::TraceSlice;
using nlohmann::json;

namespace {

struct Traced {
  TraceContents trace;
  json report;
};

Traced traced_run(const std::string &arguments) {
  const Folder folder;
  const std::string file = folder / "run.pftrace";
  const auto result = run_cx("run " + arguments + " --json --trace " + file);
  INFO(result.text);
  REQUIRE(result.status == 0);
  Traced traced;
  traced.report = json::parse(result.text);
  const std::string bytes = file_bytes(file);
  std::size_t rest = 0;
  const auto packets = read_packets(bytes, &rest);
  CHECK(rest == 0);
  CHECK(traced.report["trace"]["packets"] == packets.size());
  CHECK(traced.report["trace"]["bytes"] == bytes.size());
  traced.trace = read_trace(packets);
  return traced;
}

/// Sums over what was recorded between the two readings of the counters are the differences of the counters.
void check_sums(const Traced &traced) {
  const TraceContents &trace = traced.trace;
  const json &report = traced.report;
  const std::size_t from = trace.place_of("mark 1"), to = trace.place_of("mark 2");
  for (const char *engine : {"load", "store", "dmmu", "vpu", "sca"}) {
    INFO(engine);
    const json &counters = report["engines"][engine];
    const auto instructions = trace.of("engines", engine, from, to);
    const auto streams = trace.of("engines", std::string(engine) + " stream", from, to);
    CHECK(total(instructions, "operations") == counters["ops"]);
    CHECK(total(instructions, "bytes_read") == counters["bytes_read"]);
    CHECK(total(instructions, "bytes_written") == counters["bytes_written"]);
    CHECK(total(streams, "instructions") == counters["instructions"]);
    CHECK(total(streams, "busy") == counters["busy_cycles"]);
    CHECK(total(streams, "stall") == counters["stall_cycles"]);
  }
  const json &bytes = report["bytes"];
  const auto dram = trace.of("DRAM", {}, from, to);
  CHECK(total(dram, "read") == bytes["dram_read"]);
  CHECK(total(dram, "written") == bytes["dram_written"]);
  CHECK(trace.of("queues", {}, from, to).size() == report["packets"]);
  CHECK(trace.of("PCIe", "interrupts", from, to).size() == report["interrupts"]);
  const auto samples = trace.of("counters", "samples", from, to);
  for (const char *counter :
       {"dram_read", "dram_written", "spm_read", "spm_written", "noc", "pcie_to_device", "pcie_to_host"}) {
    INFO(counter);
    CHECK(total(samples, counter) == bytes[counter]);
    CHECK(bytes[counter] > 0);
  }
}

/// Every cause that is named is there, and is of the right kind.
void check_causes(const TraceContents &trace) {
  const std::size_t from = trace.place_of("mark 1"), to = trace.place_of("mark 2");
  std::map<uint64_t, const TraceSlice *> by_id;
  for (const TraceSlice &slice : trace.slices) {
    if (slice.number("id") != 0) CHECK(by_id.emplace(slice.number("id"), &slice).second);
  }
  const auto group_of = [&](const TraceSlice &slice) { return trace.tracks.at(slice.track).group; };
  const auto name_of = [&](const TraceSlice &slice) { return trace.tracks.at(slice.track).name; };
  std::size_t posts = 0, launches = 0;
  for (const TraceSlice *slice : trace.of("engines", {}, from, to)) {
    const auto cause = by_id.find(slice->number("cause"));
    REQUIRE(cause != by_id.end());
    if (name_of(*slice).find(" stream") != std::string::npos) {
      CHECK(cause->second->name == "LAUNCH");
      ++launches;
    } else {
      CHECK(group_of(*cause->second) == "engines");
      CHECK(cause->second->begin <= slice->end);
      posts += name_of(*cause->second) != name_of(*slice) ? 1 : 0;
      if (name_of(*slice).find(" waits") == std::string::npos) {
        CHECK(std::count(slice->flows.begin(), slice->flows.end(), slice->number("cause")) == 1);
        CHECK(std::count(cause->second->flows.begin(), cause->second->flows.end(), slice->number("cause")) == 1);
      }
    }
  }
  CHECK(posts > 0);
  CHECK(launches >= 3);
  for (const TraceSlice *slice : trace.of("PCIe", "interrupts", from, to)) {
    REQUIRE(by_id.count(slice->number("cause")) == 1);
    CHECK(group_of(*by_id[slice->number("cause")]) == "queues");
  }
  std::size_t copies = 0;
  for (const TraceSlice *slice : trace.of("system DMA", {}, from, to)) {
    if (slice->number("cause") == 0) continue;  // the firmware's own
    REQUIRE(by_id.count(slice->number("cause")) == 1);
    CHECK(by_id[slice->number("cause")]->name == "COPY");
    ++copies;
  }
  CHECK(copies >= 2);
}

void check_functions(const TraceContents &trace) {
  uint64_t own = 0, outermost = 0;
  std::set<std::string> names;
  const auto functions = trace.of("firmware", "functions");
  for (const TraceSlice *slice : functions) {
    own += slice->number("own_instructions");
    names.insert(slice->name);
    const bool inner = std::any_of(functions.begin(), functions.end(), [slice](const TraceSlice *other) {
      return other != slice && other->begin <= slice->begin && slice->end <= other->end &&
             (other->begin < slice->begin || slice->end < other->end);
    });
    if (!inner) outermost += slice->number("instructions");
  }
  CHECK(own == outermost);
  CHECK(own > 0);
  for (const char *name : {"firmware_main", "queue_step", "packet_start"}) {
    INFO(name);
    CHECK(names.count(name) == 1);
  }
}

void check_host(const TraceContents &trace) {
  std::set<std::string> wall, simulated;
  for (const TraceSlice *slice : trace.of("host", "host, wall time")) wall.insert(slice->name);
  for (const TraceSlice *slice : trace.of("host", "host, simulated time")) simulated.insert(slice->name);
  for (const char *name : {"import", "compile", "encode", "load program", "run", "wait"}) {
    INFO(name);
    CHECK(wall.count(name) == 1);
  }
  CHECK(simulated.count("wait") == 1);
  CHECK(simulated.count("encode") == 0);
}

std::string mnist() { return (cx::tb::data_dir() / "models/mnist/mnist.onnx").string(); }

}  // namespace

TEST_CASE("a trace of a run sums to its report") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  const Traced traced = traced_run(mnist() + " --config tiny --seed 1");
  check_sums(traced);
  check_causes(traced.trace);
  check_functions(traced.trace);
  check_host(traced.trace);
  CHECK(traced.trace.counter_values > 0);
  const auto instructions = traced.trace.of("engines", "vpu");
  CHECK(std::any_of(instructions.begin(), instructions.end(),
                    [](const TraceSlice *slice) { return slice->texts.count("node") == 1; }));
}

TEST_CASE("the same on a chip with a modelled DRAM part, and with a network on chip") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  check_sums(traced_run(mnist() + " --config tiny --seed 2 --set dram.preset=lpddr5_6400"));
  const Traced mesh =
      traced_run(mnist() + " --config tiny --seed 3 --set noc.topology=mesh --set noc.columns=4 --set noc.rows=4");
  check_sums(mesh);
  const std::size_t from = mesh.trace.place_of("mark 1"), to = mesh.trace.place_of("mark 2");
  std::size_t compared = 0;
  for (const json &link : mesh.report["noc"]["links_used"]) {
    const std::string from_end = link["from"], to_end = link["to"];
    const auto short_name = [](std::string end) { return end.starts_with("router ") ? "r" + end.substr(7) : end; };
    const auto slices = mesh.trace.of("network on chip", short_name(from_end) + " > " + short_name(to_end), from, to);
    INFO(from_end << " > " << to_end);
    CHECK(total(slices, "bytes") == link["bytes"]);
    ++compared;
  }
  CHECK(compared >= 8);
}

TEST_CASE("tracing changes nothing that is reported") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  const std::string command = mnist() + " --config tiny --seed 1";
  json traced = traced_run(command).report;
  json untraced = json::parse(run_cx("run " + command + " --json").text);
  for (json *report : {&traced, &untraced}) {
    report->erase("wall_s");
    report->erase("trace");
  }
  CHECK(traced == untraced);
}

TEST_CASE("a trace that is cut off anywhere can be read up to there") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  const Folder folder;
  const std::string file = folder / "run.pftrace";
  REQUIRE(run_cx("run " + mnist() + " --config tiny --seed 1 --trace " + file).status == 0);
  const std::string bytes = file_bytes(file);
  const std::size_t whole = read_packets(bytes).size();
  for (const std::size_t part : {bytes.size() / 4, bytes.size() / 2, bytes.size() - 1}) {
    const auto packets = read_packets(bytes.substr(0, part));
    CHECK(packets.size() < whole);
    const TraceContents contents = read_trace(packets, false);
    CHECK(contents.tracks.size() > 8);
  }
}

namespace {

/// Ends a run with a signal while its launch is under way, and returns what is in the file then; nothing without
/// models.
std::optional<std::string> interrupted_by(int signal) {
  const fs::path recogniser = cx::tb::ocr_models() / "ch_PP-OCRv4_rec_infer.onnx";
  if (!fs::exists(recogniser)) {
    WARN("no models: skipped");
    return std::nullopt;
  }
  const Folder folder;
  const std::string file = folder / "run.pftrace";
  const pid_t child = fork();
  if (child == 0) {
    const std::string command = std::string("exec ") + CX_BINARY + " run " + recogniser.string() +
                                " --config tiny --seed 1 --shape x=1,3,48,320 --trace " + file + " >/dev/null 2>&1";
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  // The run takes some seconds; its first instructions are in the file well before its end.
  constexpr std::uintmax_t kSome = 6 << 20;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0 && (!fs::exists(file) || fs::file_size(file) < kSome)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  REQUIRE(kill(child, signal) == 0);
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == signal);
  return file_bytes(file);
}

}  // namespace

TEST_CASE("a run that is interrupted leaves a whole trace") {
  const auto bytes = interrupted_by(SIGTERM);
  if (!bytes) return;
  std::size_t rest = 0;
  const auto packets = read_packets(*bytes, &rest);
  CHECK(rest == 0);
  const TraceContents trace = read_trace(packets);
  CHECK(trace.of("engines").size() > 1000);
  // The launch was under way.
  CHECK(trace.of("engines", "vpu stream").empty());
  const auto host = trace.of("host", "host, wall time");
  CHECK(std::any_of(host.begin(), host.end(), [](const TraceSlice *slice) { return slice->name == "wait"; }));
}

TEST_CASE("a run that is killed without a warning leaves a trace that can be read as far as it goes") {
  const auto bytes = interrupted_by(SIGKILL);
  if (!bytes) return;
  // What began and did not end is open; all else is as in a whole trace.
  const TraceContents trace = read_trace(read_packets(*bytes), false);
  CHECK(trace.of("engines").size() > 1000);
  CHECK(trace.of("engines", "vpu stream").empty());
  CHECK(trace.of("firmware", "functions").size() > 10);
  CHECK(trace.counter_values > 0);
}

TEST_CASE("a card of another process writes its trace itself") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  const Folder folder;
  const std::string file = folder / "card.pftrace", socket = folder / "card";
  CardProcess card("--config tiny --socket " + socket + " --trace " + file);
  const auto result = run_cx("run " + mnist() + " --device vfio-user:" + socket + " --seed 1 --json");
  INFO(result.text);
  REQUIRE(result.status == 0);
  const json report = json::parse(result.text);
  CHECK(card.end() == 0);
  std::size_t rest = 0;
  const TraceContents trace = read_trace(read_packets(file_bytes(file), &rest));
  CHECK(rest == 0);
  for (const char *engine : {"load", "store", "dmmu", "vpu"}) {
    INFO(engine);
    CHECK(total(trace.of("engines", engine), "operations") == report["engines"][engine]["ops"]);
  }
  CHECK(trace.of("queues").size() >= report["packets"]);
  CHECK(trace.of("host").empty());
}

namespace {

/// Processes of the cards of one cx device.
std::vector<pid_t> cards_of(const CardProcess &command) {
  const std::string pid = std::to_string(command.pid());
  std::ifstream file("/proc/" + pid + "/task/" + pid + "/children");
  return {std::istream_iterator<pid_t>(file), {}};
}

json run_on(const std::string &socket, const std::string &arguments) {
  const auto result = run_cx("run " + mnist() + " --device vfio-user:" + socket + " --json " + arguments);
  INFO(result.text);
  REQUIRE(result.status == 0);
  return json::parse(result.text);
}

}  // namespace

TEST_CASE("cards of one command write one trace, with tracks for each and one time axis") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  const Folder folder;
  const std::string file = folder / "cards.pftrace", socket = folder / "card";
  const int signal = GENERATE(SIGTERM, SIGINT);
  CardProcess cards("--config tiny --count 3 --socket " + socket + " --trace " + file, 3);
  // The last stays idle.
  const json reports[] = {run_on(socket + ".0", "--seed 1"), run_on(socket + ".1", "--seed 1 --precision fp16")};
  kill(cards.pid(), signal);
  CHECK(cards.end() == 0);
  CHECK_FALSE(fs::exists(file + ".0"));
  CHECK_FALSE(fs::exists(file + ".1"));
  std::size_t rest = 0;
  const auto packets = read_packets(file_bytes(file), &rest);
  CHECK(rest == 0);
  const TraceContents trace = read_trace(packets);
  const std::string names[] = {"card, simulated time", "card 2, simulated time", "card 3, simulated time"};
  std::map<uint64_t, const TraceSlice *> by_id;
  for (const TraceSlice &slice : trace.slices) {
    if (slice.number("id") != 0) CHECK(by_id.emplace(slice.number("id"), &slice).second);
  }
  for (int card = 0; card < 2; ++card) {
    const json &report = reports[card];
    for (const char *engine : {"load", "store", "dmmu", "vpu"}) {
      INFO(names[card] << ' ' << engine);
      const auto instructions = trace.of("engines", engine, 0, SIZE_MAX, names[card]);
      CHECK(total(instructions, "operations") == report["engines"][engine]["ops"]);
      CHECK(total(instructions, "bytes_written") == report["engines"][engine]["bytes_written"]);
    }
    CHECK(trace.of("queues", {}, 0, SIZE_MAX, names[card]).size() >= report["packets"]);
  }
  // Every cause is of the same card.
  std::size_t caused = 0;
  for (const TraceSlice &slice : trace.slices) {
    const auto cause = by_id.find(slice.number("cause"));
    if (slice.number("cause") == 0 || cause == by_id.end()) continue;
    CHECK(trace.tracks.at(cause->second->track).process == trace.tracks.at(slice.track).process);
    ++caused;
  }
  CHECK(caused > 100);
  // A clock for each card, and one of the host; the second run was after the first by that.
  std::set<uint32_t> clocks, sequences;
  std::vector<uint64_t> host;
  std::set<int32_t> pids;
  std::set<std::string> processes;
  for (const auto &packet : packets) {
    sequences.insert(packet.trusted_packet_sequence_id());
    if (packet.has_track_descriptor() && packet.track_descriptor().has_process()) {
      CHECK(pids.insert(packet.track_descriptor().process().pid()).second);
      processes.insert(packet.track_descriptor().process().process_name());
    }
    if (!packet.has_clock_snapshot()) continue;
    host.push_back(packet.clock_snapshot().clocks(0).timestamp());
    CHECK(clocks.insert(packet.clock_snapshot().clocks(1).clock_id()).second);
  }
  CHECK(sequences == std::set<uint32_t>{1, 2, 3});
  CHECK(processes == std::set<std::string>(std::begin(names), std::end(names)));
  CHECK(clocks.size() >= 2);
}

TEST_CASE("the trace of several cards when one is killed, and when the command is") {
  if (!fs::exists(mnist())) {
    WARN("no models: skipped");
    return;
  }
  const Folder folder;
  const std::string file = folder / "cards.pftrace", socket = folder / "card";
  SECTION("a card") {
    CardProcess cards("--config tiny --count 2 --socket " + socket + " --trace " + file, 2);
    run_on(socket + ".0", "--seed 1");
    const auto children = cards_of(cards);
    REQUIRE(children.size() == 2);
    kill(children[1], SIGKILL);
    siginfo_t ended{};
    REQUIRE(waitid(P_PID, static_cast<id_t>(cards.pid()), &ended, WEXITED | WNOWAIT) == 0);
    CHECK(cards.end() == 3);  // a card failed
    std::size_t rest = 0;
    const TraceContents trace = read_trace(read_packets(file_bytes(file), &rest), false);
    CHECK(rest == 0);
    CHECK_FALSE(trace.of("engines", "dmmu", 0, SIZE_MAX, "card, simulated time").empty());
    CHECK_FALSE(fs::exists(file + ".0"));
  }
  SECTION("the command: each card's own file is whole") {
    CardProcess cards("--config tiny --count 2 --socket " + socket + " --trace " + file, 2);
    for (const char *card : {".0", ".1"}) run_on(socket + card, "--seed 1");
    const auto children = cards_of(cards);
    REQUIRE(children.size() == 2);
    kill(cards.pid(), SIGKILL);
    cards.end();
    for (const pid_t child : children) {
      for (int i = 0; i < 1000 && kill(child, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    CHECK_FALSE(fs::exists(file));
    for (const char *card : {".0", ".1"}) {
      std::size_t rest = 0;
      const TraceContents trace = read_trace(read_packets(file_bytes(file + card), &rest));
      CHECK(rest == 0);
      CHECK_FALSE(trace.of("engines", "dmmu").empty());
    }
  }
}

TEST_CASE("what cannot be traced is refused") {
  const auto folder = run_cx("run nothing.onnx --trace /nowhere/file");
  CHECK(folder.status == 2);
  if (!fs::exists(mnist())) return;
  const auto path = run_cx("run " + mnist() + " --config tiny --seed 1 --trace /nowhere/file");
  CHECK(path.status == 2);
  CHECK(path.text.find("/nowhere/file: cannot be written") != std::string::npos);
  const auto remote = run_cx("run " + mnist() + " --device vfio-user:/nowhere/socket --seed 1 --trace /tmp/never");
  CHECK(remote.status == 2);
  CHECK(remote.text.find("cx device --trace") != std::string::npos);
}
