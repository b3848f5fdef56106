// cx collective --trace: commands of every rank and use of links, against the report of the same run.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tb/common/data.hpp"
#include "tb/driver/tools/cx_process.hpp"
#include "tb/driver/tools/perfetto_reader.hpp"

using cx::tb::file_bytes;
using cx::tb::Folder;
using cx::tb::read_packets;
using cx::tb::read_trace;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

const std::string kArguments = "collective allreduce --bytes 256KiB --algo ring --chunks 1 --json";

}  // namespace

TEST_CASE("a collective's trace has every command of every rank, within the time of the report") {
  for (const std::string fidelity : {"packet", "flow"}) {
    INFO(fidelity);
    const Folder folder;
    const std::string file = folder / "collective.pftrace";
    const auto result = run_cx(kArguments + " --fidelity " + fidelity + " --trace " + file);
    INFO(result.text);
    REQUIRE(result.status == 0);
    const json row = json::parse(result.text)["rows"][0];
    const json untraced = json::parse(run_cx(kArguments + " --fidelity " + fidelity).text)["rows"][0];
    CHECK(row["time_us"] == untraced["time_us"]);
    std::size_t rest = 0;
    const auto trace = read_trace(read_packets(file_bytes(file), &rest));
    CHECK(rest == 0);
    // A ring of 16: 30 messages each way and 15 sums a rank, each of a sixteenth.
    std::map<std::string, unsigned> count;
    uint64_t sent = 0, last = 0;
    for (const auto &slice : trace.slices) {
      ++count[slice.name.substr(0, slice.name.find(' '))];
      CHECK(slice.number("bytes") == 16384);
      last = std::max(last, slice.end);
      if (slice.name.rfind("SEND to ", 0) != 0) continue;
      sent += slice.number("bytes");
      CHECK(slice.name == "SEND to " + std::to_string(slice.number("peer")));
    }
    CHECK(count["SEND"] == 16 * 30);
    CHECK(count["RECV"] == 16 * 30);
    CHECK(count["REDUCE"] == 16 * 15);
    CHECK(sent == row["payload_bytes"].get<uint64_t>());
    CHECK(last == static_cast<uint64_t>(row["time_us"].get<double>() * 1e3));
    unsigned ranks = 0, counters = 0;
    for (const auto &[number, track] : trace.tracks) {
      ranks += track.name.rfind("rank ", 0) == 0 ? 1 : 0;
      counters += track.counter ? 1 : 0;
    }
    CHECK(ranks == 16);
    // Every card's link carries something in both directions, and links between leaves and spines.
    CHECK(counters > 32);
    CHECK(trace.counter_values > counters * 100);
  }
}

TEST_CASE("a collective's trace is of one size") {
  const Folder folder;
  const std::string file = folder / "collective.pftrace";
  const auto result = run_cx("collective allreduce --bytes 1KiB,4KiB --trace " + file);
  CHECK(result.status != 0);
  CHECK(result.text.find("--trace: --bytes is 2 sizes, expected one") != std::string::npos);
  CHECK(run_cx("collective allreduce --bytes 1KiB --trace /nowhere/x.pftrace").status != 0);
}

TEST_CASE("a sparse all-reduce's trace has its commands by name, and every byte that was moved") {
  for (const std::string method : {"oktopk", "gather --format gaps-bf16"}) {
    INFO(method);
    const Folder folder;
    const std::string file = folder / "sparse.pftrace";
    const auto result =
        run_cx("collective sparse-allreduce --bytes 256KiB --json --sparse " + method + " --trace " + file);
    INFO(result.text);
    REQUIRE(result.status == 0);
    const json row = json::parse(result.text)["rows"][0];
    std::size_t rest = 0;
    const auto trace = read_trace(read_packets(file_bytes(file), &rest));
    CHECK(rest == 0);
    std::map<std::string, unsigned> count;
    uint64_t last = 0;
    for (const auto &slice : trace.slices) {
      ++count[slice.name.substr(0, slice.name.find(' '))];
      last = std::max(last, slice.end);
    }
    CHECK(count["TOPK"] == 16);
    CHECK(count["RETAIN"] == (method == "oktopk" ? 16u : 0u));
    CHECK(count["DECODE_ADD"] == (method == "oktopk" ? 0u : 16u * 16));
    CHECK(count["SEND"] == count["RECV"]);
    CHECK(last == static_cast<uint64_t>(row["time_us"].get<double>() * 1e3));
  }
  const auto refused = run_cx("collective sparse-allreduce --bytes 1KiB..4KiB --trace /tmp/never");
  CHECK(refused.status != 0);
  CHECK(refused.text.find("--trace: --bytes is 2 sizes, expected one") != std::string::npos);
}
