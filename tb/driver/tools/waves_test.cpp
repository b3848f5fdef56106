// cx run --waves: files of several tiles and windows, whose times are those of the trace of the same run.
#include <fmt/core.h>
#include <gtkwave/fstapi.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "tb/driver/tools/cx_process.hpp"
#include "tb/driver/tools/perfetto_reader.hpp"
#include "tb/driver/tools/small_models.hpp"

namespace fs = std::filesystem;
using cx::tb::file_bytes;
using cx::tb::Folder;
using cx::tb::read_packets;
using cx::tb::read_trace;
using cx::tb::run_cx;
using cx::tb::TraceContents;
using cx::tb::TraceSlice;
using cx::tb::write_product;
using nlohmann::json;

namespace {

/// Changes of a signal of one bit: time in ps, and its value from then on.
using Changes = std::vector<std::pair<uint64_t, bool>>;

/// Of a pin of the tile, read by the library of the format's author.
Changes changes_of(const std::string &file, const std::string &pin) {
  const std::unique_ptr<void, void (*)(void *)> reader(fstReaderOpen(file.c_str()), fstReaderClose);
  REQUIRE(reader != nullptr);
  CHECK(fstReaderGetTimescale(reader.get()) == -12);
  fstHandle handle = 0;
  while (const fstHier *entry = fstReaderIterateHier(reader.get())) {
    if (entry->htyp == FST_HT_VAR && entry->u.var.name == pin && handle == 0) handle = entry->u.var.handle;
  }
  INFO(file << " has pin " << pin);
  REQUIRE(handle != 0);
  fstReaderSetFacProcessMask(reader.get(), handle);
  Changes changes;
  fstReaderIterBlocks(
      reader.get(),
      [](void *context, uint64_t time, fstHandle, const unsigned char *value) {
        auto &all = *static_cast<Changes *>(context);
        const bool high = value[0] == '1';
        if (all.empty() || all.back().second != high) all.emplace_back(time, high);
      },
      &changes, nullptr);
  return changes;
}

std::vector<uint64_t> rises(const Changes &changes) {
  std::vector<uint64_t> times;
  for (const auto &[time, high] : changes) {
    if (high) times.push_back(time);
  }
  return times;
}

struct Recorded {
  json report;
  TraceContents trace;
};

Recorded record(const Folder &folder, const std::string &arguments) {
  const std::string trace = folder / "run.pftrace";
  const auto result = run_cx("run " + arguments + " --config tiny --seed 1 --json --trace " + trace);
  INFO(result.text);
  REQUIRE(result.status == 0);
  Recorded recorded;
  recorded.report = json::parse(result.text);
  recorded.trace = read_trace(read_packets(file_bytes(trace)));
  return recorded;
}

constexpr uint64_t kPeriodPs = 2000;  // of tiny

/// Instructions of an engine in the order of their begins: ps since power-on, in whole ns as the clock's period is.
struct Instruction {
  std::string name;
  uint64_t begin, end;
};
std::vector<Instruction> instructions_of(const TraceContents &trace, const std::string &engine) {
  std::vector<Instruction> all;
  for (const TraceSlice *slice : trace.of("engines", engine)) {
    const auto since = [&](uint64_t ns) { return (ns - static_cast<uint64_t>(trace.card_origin)) * 1000; };
    all.push_back({slice->name, since(slice->begin), since(slice->end)});
  }
  std::sort(all.begin(), all.end(), [](const auto &a, const auto &b) { return a.begin < b.begin; });
  return all;
}

/// What holds of any tile with one command for each instruction.
void check_aligned(const std::vector<Instruction> &instructions, const std::string &file) {
  const auto commands = rises(changes_of(file, "cmd_valid_i")), idle = rises(changes_of(file, "idle_o"));
  REQUIRE(instructions.size() == 3);
  REQUIRE(commands.size() == instructions.size());
  // The inputs of a cycle show from its middle on. The first command waits for nothing.
  CHECK(commands[0] == instructions[0].begin + kPeriodPs / 2);
  for (std::size_t i = 0; i < commands.size(); ++i) {
    INFO(instructions[i].name);
    CHECK(commands[i] > instructions[i].begin);
    CHECK(commands[i] < instructions[i].end);
  }
  REQUIRE_FALSE(idle.empty());
  // Rows that the tile has given take some cycles more to the scratchpad.
  CHECK(idle.back() > commands.back());
  CHECK(idle.back() <= instructions.back().end);
  CHECK(idle.back() + 8 * kPeriodPs > instructions.back().end);
}

}  // namespace

TEST_CASE("signals of a dense tile change when the trace's instructions begin and end") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx"), file = folder / "out.fst";
  const Recorded run = record(folder, model + " --precision fp32 --sca never --waves tile=0 " + file);
  CHECK(run.report["waves"]["cycles"] > 0);
  const auto instructions = instructions_of(run.trace, "dmmu");
  check_aligned(instructions, file);
  CHECK(instructions[0].name == "MM_LDW");
  // The tile is idle from when its weights are loaded until they are used.
  const auto idle = rises(changes_of(file, "idle_o"));
  CHECK(std::count(idle.begin(), idle.end(), instructions[0].end) == 1);
}

TEST_CASE("signals of a sparse tile change when the trace's instructions begin and end") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx"), file = folder / "out.fst";
  const Recorded run = record(folder, model + " --precision fp16 --sca always --waves sca=0 " + file);
  CHECK(run.report["sca"]["on_sca"] == 1);
  CHECK(run.report["waves"]["cycles"] > 0);
  check_aligned(instructions_of(run.trace, "sca"), file);
}

TEST_CASE("several tiles have a file each, with nothing but what lies in the windows") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx");
  const std::string tiles = " --precision fp32 --sca never --waves tile=0/1,sca=1";
  const Recorded whole = record(folder, model + tiles + " " + (folder / "all.fst"));
  const auto instructions = instructions_of(whole.trace, "dmmu");
  REQUIRE(instructions.size() == 3);
  const Instruction &load = instructions[0], &drain = instructions[2];
  // The load of the weights, and the drain from when its rows leave.
  const uint64_t late = drain.end - 8 * kPeriodPs;
  const Recorded part = record(
      folder, model + tiles +
                  fmt::format(",from={}ps/{}ps,to={}ps/{}ps,since=power-on ", load.begin, late, load.end, drain.end) +
                  (folder / "part.fst"));
  CHECK(part.report["waves"]["cycles"] < whole.report["waves"]["cycles"]);
  REQUIRE(part.report["waves"]["tiles"].size() == 3);
  CHECK(part.report["waves"]["tiles"][0]["file"] == (folder / "part.tile0.fst"));
  CHECK(part.report["waves"]["tiles"][2] == json{{"unit", "sca"}, {"tile", 1}, {"file", folder / "part.sca1.fst"}});
  for (const char *file : {"part.tile0.fst", "part.tile1.fst", "part.sca1.fst"}) CHECK(fs::exists(folder / file));
  const Changes clock = changes_of(folder / "part.tile0.fst", "clk_i");
  std::size_t first = 0, second = 0;
  for (const auto &[time, high] : clock) {
    const bool in_first = time > load.begin && time <= load.end, in_second = time > late && time <= drain.end;
    CHECK((in_first || in_second));
    first += in_first ? 1 : 0;
    second += in_second ? 1 : 0;
  }
  CHECK(first > 2);
  CHECK(second > 2);
  // In the windows it is what the whole recording has.
  const auto commands = rises(changes_of(folder / "all.tile0.fst", "cmd_valid_i"));
  const auto shown = rises(changes_of(folder / "part.tile0.fst", "cmd_valid_i"));
  REQUIRE(shown.size() == 1);
  CHECK(shown[0] == commands[0]);
}

TEST_CASE("waves that cannot be are refused") {
  const Folder folder;
  const std::string run = "run " + write_product(folder / "m.onnx") + " --config tiny --seed 1 --waves ";
  for (const auto &[request, says] :
       {std::pair{"sca=99", "there is no sparse tile 99"}, std::pair{"tile=0/0", "tile 0 comes twice"},
        std::pair{"tile=0,from=1us/2us,to=3us", "different numbers"}, std::pair{"tile=0,since=noon", "since is"},
        std::pair{"sca=", "'' is not a tile number"}, std::pair{"tile=0,from=2us/1us,to=3us/1us", "nothing lies"}}) {
    INFO(request);
    const auto refused = run_cx(run + request + " " + (folder / "out.fst"));
    CHECK(refused.status == 2);
    CHECK(refused.text.find(says) != std::string::npos);
  }
}
