// The memory with the timing of a part: requests of the NoC's interface in core cycles, activity, channels, reset.
#include "hw/dram/dram.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "hw/dram/configured.hpp"

using namespace cx::hw;

namespace {

DramParams with_part(const std::string &preset, unsigned channels, const std::string &refresh) {
  cx::config::Chip chip;
  chip.dram.preset = preset;
  chip.dram.channels = channels;
  chip.dram.refresh = refresh;
  DramParams params;
  params.bytes = std::uint64_t{256} << 20;
  params.part = dram_model(chip);
  return params;
}

}  // namespace

TEST_CASE("a memory with the timing of a part") {
  const Clock clock(1000);
  Dram dram("dram", clock, with_part("lpddr5_6400", 8, "all_bank"));
  const auto &part = *dram.params().part;
  const DramTiming &t = part.timing;
  CHECK(dram.params().burst_bytes == 32);

  SECTION("one burst: controller, ACT, read, data, in whole cycles") {
    const double ns = part.controller_ns + (t.rcd_rd + t.cl + t.burst) * t.tick_ps / 1000.0;
    const Cycles end = dram.reserve(0, 0, 32, false);
    CHECK(static_cast<double>(end) >= ns);
    CHECK(static_cast<double>(end) <= ns + 2);
    CHECK(dram.bytes_read() == 32);
    const DramActivity activity = dram.activity();
    CHECK(activity.row_misses == 1);
    CHECK(activity.row_hits + activity.row_conflicts == 0);
    CHECK(dram.access_latency() >= part.controller_ns + t.cl * t.tick_ps / 1000.0);
    CHECK(dram.access_latency() < end);
  }

  SECTION("streams: the peak but for refreshes, with all time accounted") {
    for (const bool write : {false, true}) {
      dram.reset();
      const std::uint64_t bytes = std::uint64_t{8} << 20;
      Cycles end = 0;
      for (std::uint64_t at = 0; at < bytes; at += 4096) end = std::max(end, dram.reserve(0, at, 4096, write));
      const double gbps = static_cast<double>(bytes) / static_cast<double>(end);
      INFO((write ? "write " : "read ") << gbps);
      CHECK(gbps > 0.87 * part.bandwidth_gbps());
      CHECK(gbps < part.bandwidth_gbps() * (1 - static_cast<double>(t.rfc) / t.refi) * 1.01);
      CHECK((write ? dram.bytes_written() : dram.bytes_read()) == bytes);
      const DramActivity a = dram.activity();
      const std::uint64_t lost =
          a.idle_ns + a.row_ns + a.activate_ns + a.bank_group_ns + a.turnaround_ns + a.refresh_ns;
      CHECK(static_cast<double>(a.busy_ns + lost) == Approx(8.0 * static_cast<double>(end)).epsilon(0.01));
      CHECK(a.refresh_ns > lost / 2);
      CHECK(a.refreshes >= 8 * (end * 1000 / t.tick_ps / t.refi - 1));
    }
  }

  SECTION("strides of whole rows lose to rows") {
    const Cycles strided = dram.reserve(0, 0, std::uint64_t{4} << 20, 1024 * 32, false);
    dram.reset();
    Cycles single = 0;
    for (std::uint64_t i = 0; i < 1024; ++i) single = std::max(single, dram.reserve(0, i * 4096, 32, false));
    CHECK(strided <= single);  // the channels of a strided request share it evenly
    CHECK(strided > single / 4);
    dram.reset();
    CHECK(dram.reserve(0, 0, 1024 * 32, false) < strided);
  }

  SECTION("reset gives the same times again") {
    const Cycles first = dram.reserve(100, 12345, 100000, false);
    dram.reserve(100, 1 << 20, 100000, true);
    dram.reset();
    CHECK(dram.bytes_read() + dram.bytes_written() == 0);
    CHECK(dram.activity().row_hits == 0);
    CHECK(dram.reserve(100, 12345, 100000, false) == first);
    CHECK(dram.reserve(7, 0, 0, false) == 7);
  }

  SECTION("the channel of an address is the mapping's") {
    const AddressMapping mapping(part.mapping, part.hash, part.geometry);
    for (std::uint64_t at = 0; at < 1 << 20; at += 999) CHECK(dram.channel_of(at) == mapping.place(at).channel);
  }
}

TEST_CASE("the refresh of a memory is the configured one") {
  const Clock clock(1000);
  std::map<std::string, double> gbps;
  for (const std::string refresh : {"preset", "per_bank", "all_bank", "none"}) {
    Dram dram(("dram_" + refresh).c_str(), clock, with_part("lpddr5_6400", 8, refresh));
    const DramTiming &t = dram.params().part->timing;
    const std::uint64_t bytes = std::uint64_t{8} << 20;
    Cycles end = 0;
    for (std::uint64_t at = 0; at < bytes; at += 4096) end = std::max(end, dram.reserve(0, at, 4096, false));
    gbps[refresh] = static_cast<double>(bytes) / static_cast<double>(end);
    const std::uint64_t every = refresh == "all_bank" ? t.refi : t.refi_pb;
    const double due =
        refresh == "none" ? 0 : 8 * static_cast<double>(end * 1000 / t.tick_ps) / static_cast<double>(every);
    INFO(refresh << ' ' << gbps[refresh]);
    // What the chip tells of itself.
    CHECK(dram.params().part->stream_gbps() == Approx(gbps[refresh]).epsilon(0.015));
    CHECK(dram.params().part->stream_gbps() <= dram.params().part->bandwidth_gbps());
    CHECK(dram.params().part->stripe_bytes() == dram.stripe_bytes());
    CHECK(static_cast<double>(dram.activity().refreshes) == Approx(due).margin(8));
  }
  CHECK(gbps["preset"] == gbps["per_bank"]);
  CHECK(gbps["all_bank"] < gbps["per_bank"]);
  CHECK(gbps["per_bank"] < gbps["none"]);
}

TEST_CASE("without a part there is no activity of rows") {
  const Clock clock(1000);
  Dram dram("plain", clock, {});
  dram.reserve(0, 0, 4096, false);
  CHECK(dram.activity().busy_ns == 0);
  CHECK(dram.bytes_read() == 4096);
}
