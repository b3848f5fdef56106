// cx run --waves: files of several tiles and windows, whose times are those of the trace of the same run.
#include <gtkwave/fstapi.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

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

/// Picoseconds; slices are in whole ns, as the clock's period is.
std::pair<uint64_t, uint64_t> span_of(const std::vector<const TraceSlice *> &slices) {
  REQUIRE_FALSE(slices.empty());
  uint64_t begin = UINT64_MAX, end = 0;
  for (const TraceSlice *slice : slices) {
    begin = std::min(begin, slice->begin);
    end = std::max(end, slice->end);
  }
  return {begin * 1000, end * 1000};
}

std::vector<const TraceSlice *> named(std::vector<const TraceSlice *> slices, const std::string &name) {
  std::erase_if(slices, [&](const TraceSlice *slice) { return slice->name != name; });
  return slices;
}

constexpr uint64_t kPeriodPs = 2000;  // of tiny

}  // namespace

TEST_CASE("signals of a dense tile change when the trace's instructions begin and end") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx"), file = folder / "out.fst";
  const Recorded run = record(folder, model + " --precision fp32 --sca never --waves tile=0 " + file);
  CHECK(run.report["waves"]["cycles"] > 0);
  const auto [begin, end] = span_of(run.trace.of("engines", "dmmu"));
  const auto commands = rises(changes_of(file, "cmd_valid_i"));
  REQUIRE_FALSE(commands.empty());
  // The inputs of a cycle show from its middle on.
  CHECK(commands.front() == begin + kPeriodPs / 2);
}

TEST_CASE("signals of a sparse tile change when the trace's instructions begin and end") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx"), file = folder / "out.fst";
  const Recorded run = record(folder, model + " --precision fp16 --sca always --waves sca=0 " + file);
  CHECK(run.report["sca"]["on_sca"] == 1);
  CHECK(run.report["waves"]["cycles"] > 0);
  const auto [begin, end] = span_of(run.trace.of("engines", "sca"));
  const auto commands = rises(changes_of(file, "cmd_valid_i"));
  REQUIRE_FALSE(commands.empty());
  CHECK(commands.front() == begin + kPeriodPs / 2);
}
