// One channel of the DRAM model: closed formulas of the standards' times, whole strips against single bursts, and where
// the time of the data bus goes.
#include "hw/dram/channel.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "hw/dram/mapping.hpp"
#include "hw/dram/timing.hpp"
#include "tb/common/seed.hpp"

using namespace cx::hw;

namespace {

DramGeometry one_channel(const DramPreset &preset) {
  DramGeometry geometry = preset.geometry;
  geometry.channels = 1;
  geometry.pseudo_channels = 1;
  return geometry;
}

DramTiming without_refresh(DramTiming timing) {
  timing.refi = 0;
  return timing;
}

const DramPreset &preset_of(const std::string &name) {
  const DramPreset *preset = dram_preset(name);
  REQUIRE(preset != nullptr);
  return *preset;
}

Ticks cas_of(const DramTiming &timing, const DramChannel::Done &read) { return read.done - timing.cl - timing.burst; }

std::int64_t lost(const DramCounts &counts) {
  return std::accumulate(counts.lost.begin(), counts.lost.end(), std::int64_t{0});
}

}  // namespace

TEST_CASE("rows of one bank follow one another at tRC") {
  for (const DramPreset &preset : dram_presets()) {
    INFO(preset.name);
    const DramTiming t = without_refresh(preset.timing);
    DramChannel channel(t, one_channel(preset), {}, {0});
    const Ticks cycle = std::max<Ticks>(t.rc, std::max<Ticks>(t.ras, t.rcd_rd + t.rtp) + t.rp);
    for (std::uint32_t row = 0; row < 20; ++row) {
      CHECK(cas_of(t, channel.read(0, {row, 0, 0, 1})) == t.rcd_rd + row * cycle);
    }
    CHECK(channel.counts().misses == 1);
    CHECK(channel.counts().conflicts == 19);
    CHECK(channel.counts()[DramLoss::row] > 0);
  }
}

TEST_CASE("a written row is closed after the write recovery") {
  const DramTiming t = without_refresh(preset_of("ddr4_3200").timing);
  DramScheduling scheduling;
  scheduling.write_high = 1;
  scheduling.write_low = 0;
  DramChannel channel(t, one_channel(preset_of("ddr4_3200")), scheduling, {0});
  channel.write(0, {0, 0, 0, 1});
  channel.write(0, {1, 0, 0, 1});
  const Ticks close = std::max<Ticks>(t.ras, t.rcd_wr + t.cwl + t.burst + t.wr);
  const Ticks second = std::max<Ticks>(close + t.rp, t.rc) + t.rcd_wr;
  CHECK(channel.drain() == second + t.burst + t.cwl);
}

TEST_CASE("no more than four rows of a rank are opened in tFAW, and none closer than tRRD") {
  for (const DramPreset &preset : dram_presets()) {
    INFO(preset.name);
    const DramTiming t = without_refresh(preset.timing);
    const DramGeometry g = one_channel(preset);
    DramChannel channel(t, g, {}, {0});
    std::vector<Ticks> activates;
    const std::uint32_t count = std::min<std::uint32_t>(g.all_banks(), 16);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t group = i % g.bank_groups;
      const std::uint32_t bank = group * g.banks + i / g.bank_groups;
      Ticks at = 0;
      for (std::size_t j = 0; j < activates.size(); ++j) {
        const bool same = j % g.bank_groups == group;
        at = std::max(at, activates[j] + (same ? t.rrd_l : t.rrd_s));
      }
      if (i >= 4) at = std::max(at, activates[i - 4] + t.faw);
      activates.push_back(at);
      const Ticks cas = cas_of(t, channel.read(0, {0, bank, 0, 1}));
      // Activates are no closer than bursts of the bus in these parts.
      CHECK(cas >= at + t.rcd_rd);
      CHECK(cas <= at + t.rcd_rd + t.ccd_l);
    }
  }
}

TEST_CASE("bursts of one bank group follow at tCCD_L, of several at tCCD_S") {
  const DramPreset &preset = preset_of("lpddr5_6400");
  const DramTiming t = without_refresh(preset.timing);
  const DramGeometry g = one_channel(preset);
  DramChannel one(t, g, {}, {0});
  CHECK(cas_of(t, one.read(0, {0, 0, 0, 64})) == t.rcd_rd + 63 * t.ccd_l);
  CHECK(one.counts()[DramLoss::bank_group] == 63 * (t.ccd_l - t.burst));
  DramChannel four(t, g, {}, {0, 4, 8, 12});
  four.read(0, {0, 0, 0, 256});
  const Ticks last = cas_of(t, four.read(0, {0, 0, 0, 256}));
  CHECK(last >= t.rcd_rd + 511 * t.ccd_s);
  CHECK(last <= t.rcd_rd + 3 * t.rrd_s + 511 * t.ccd_s);
}

TEST_CASE("the bus turns after tRTW, and back after the write and tWTR") {
  for (const char *name : {"ddr4_3200", "lpddr4_4266", "hbm3_6400"}) {
    INFO(name);
    const DramTiming t = without_refresh(preset_of(name).timing);
    DramScheduling scheduling;
    scheduling.write_high = 8;
    scheduling.write_low = 0;
    DramChannel channel(t, one_channel(preset_of(name)), scheduling, {0});
    const Ticks first = cas_of(t, channel.read(0, {0, 0, 0, 1}));
    REQUIRE(first == t.rcd_rd);
    channel.write(0, {0, 0, 0, 8});
    const Ticks last_write = first + t.rtw + 7 * t.ccd_l_wr;
    const Ticks back = cas_of(t, channel.read(0, {0, 0, 0, 1}));
    CHECK(back == last_write + t.cwl + t.burst + t.wtr_l);
    CHECK(channel.counts().turnarounds == 2);
    CHECK(channel.counts()[DramLoss::turnaround] ==
          static_cast<std::int64_t>(t.rtw + t.cwl + t.wtr_l) - static_cast<std::int64_t>(t.burst));
  }
}

TEST_CASE("a channel loses about tRFC in tREFI to refreshes, also while idle") {
  for (const DramPreset &preset : dram_presets()) {
    INFO(preset.name);
    const DramTiming &t = preset.timing;
    const AddressMapping mapping(preset.mapping, "", preset.geometry);
    DramChannel channel(t, one_channel(preset), {}, mapping.pattern());
    std::uint64_t bursts = 0;
    Ticks end = 0;
    while (end < 50 * Ticks{t.refi}) {
      end = channel.read(0, {0, 0, 0, 512}).done;
      bursts += 512;
    }
    const double lost_part = 1 - static_cast<double>(bursts * t.burst) / static_cast<double>(end);
    const double least = static_cast<double>(t.rfc) / t.refi;
    const double most = static_cast<double>(t.rfc + t.rp_all + t.rcd_rd + t.ras + t.rtp + 8 * t.rrd_l) / t.refi;
    CHECK(lost_part > least * 0.98);
    CHECK(lost_part < most * 1.02);
    CHECK(static_cast<double>(channel.counts()[DramLoss::refresh]) > 0.9 * least * static_cast<double>(end));

    DramChannel idle(t, one_channel(preset), {}, {0});
    idle.read(1000 * Ticks{t.refi} + t.refi / 2, {0, 0, 0, 1});
    CHECK(idle.counts().refreshes == 1000);
  }
}

// The banks' refreshes as the standards state them: of bank b of groups g, g + own groups, ... every refi_pb in turn.
TEST_CASE("a refresh of single banks stops its own banks only") {
  unsigned parts = 0;
  for (const DramPreset &preset : dram_presets()) {
    const DramTiming &t = preset.timing;
    if (t.rfc_pb == 0) continue;
    ++parts;
    const DramGeometry g = one_channel(preset);
    DramScheduling scheduling;
    scheduling.refresh = DramRefresh::per_bank;
    const std::uint32_t own_groups = g.bank_groups / g.refresh_groups;
    for (std::uint32_t number = 0; number < g.bank_refreshes(); ++number) {
      const Ticks due = Ticks{t.refi_pb} * (2 * g.bank_refreshes() + number + 1);
      for (std::uint32_t bank = 0; bank < g.all_banks(); ++bank) {
        INFO(preset.name << " refresh " << number << " bank " << bank);
        const bool own = bank / g.banks % own_groups == number / g.banks && bank % g.banks == number % g.banks;
        DramChannel channel(t, g, scheduling, {0});
        const Ticks first = cas_of(t, channel.read(due + 1, {0, bank, 0, 1}));
        // Another bank is opened rrefd after the refresh has begun.
        CHECK(first == (own ? due + t.rfc_pb : std::max<Ticks>(due + 1, due + t.rrefd)) + t.rcd_rd);
        CHECK(channel.counts().refreshes == first / t.refi_pb);
        // Rows that are open before are closed for it, and those of the others stay open.
        DramChannel open(t, g, scheduling, {0});
        open.read(due - 200, {0, bank, 0, 1});
        CHECK(cas_of(t, open.read(due + t.rrefd, {0, bank, 0, 1})) ==
              (own ? due + t.rp + t.rfc_pb + t.rcd_rd : due + t.rrefd));
      }
    }
  }
  CHECK(parts == 5);
}

TEST_CASE("refreshes of single banks cost a stream no more than if it waited for each") {
  for (const DramPreset &preset : dram_presets()) {
    const DramTiming &t = preset.timing;
    if (t.rfc_pb == 0) continue;
    INFO(preset.name);
    const AddressMapping mapping(preset.mapping, preset.hash, preset.geometry);
    const auto reached = [&](DramRefresh refresh) {
      DramScheduling scheduling;
      scheduling.refresh = refresh;
      DramChannel channel(t, one_channel(preset), scheduling, mapping.pattern());
      std::vector<AddressMapping::Part> parts;
      std::uint64_t bursts = 0;
      Ticks end = 0;
      for (std::uint64_t at = 0; bursts < 1u << 17; at += 4096) {
        mapping.parts(at, 4096, 4096, parts);
        for (const auto &part : parts) {
          if (part.channel != 0) continue;
          end = std::max(end, channel.read(0, part.strip).done);
          bursts += part.strip.bursts;
        }
      }
      CHECK((channel.counts().refreshes > 0) == (refresh != DramRefresh::none));
      return static_cast<double>(bursts * t.burst) / static_cast<double>(end);
    };
    const double none = reached(DramRefresh::none);
    const double all = reached(DramRefresh::all_bank);
    const double single = reached(DramRefresh::per_bank);
    INFO("none " << none << ", all banks " << all << ", single " << single);
    CHECK(none > 0.98);
    CHECK(all < none);
    CHECK(single < none);
    CHECK(single > 1 - static_cast<double>(t.rfc_pb + t.rp + t.rcd_rd) / t.refi_pb);
    // Two bank groups are left at work, and the window holds what waits for the others.
    if (preset.name == "lpddr5_6400") CHECK(single > all);
  }
}

TEST_CASE("what arrives during a refresh waits for its end") {
  const DramTiming t = preset_of("ddr5_4800").timing;
  DramChannel channel(t, one_channel(preset_of("ddr5_4800")), {}, {0});
  CHECK(cas_of(t, channel.read(t.refi + 1, {0, 0, 0, 1})) == Ticks{t.refi} + t.rfc + t.rcd_rd);
}

TEST_CASE("whole strips take exactly as long as their bursts one by one") {
  const std::uint32_t seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  for (const DramPreset &preset : dram_presets()) {
    for (unsigned trial = 0; trial < 24; ++trial) {
      INFO(preset.name << " trial " << trial);
      DramGeometry g = one_channel(preset);
      if (trial % 3 == 2) g.ranks = 2;
      DramScheduling scheduling;
      if (trial % 2 == 1 && preset.timing.rfc_pb > 0) scheduling.refresh = DramRefresh::per_bank;
      scheduling.read_window = 1 + below(64);
      scheduling.write_window = 4 + below(60);
      scheduling.write_high = 2 + below(scheduling.write_window - 2);
      scheduling.write_low = below(scheduling.write_high);
      std::vector<std::uint32_t> pattern = {0};
      if (trial % 4 != 1) {
        pattern.clear();
        for (std::uint32_t group = 0; group < g.bank_groups; ++group) pattern.push_back(group * g.banks);
      }
      DramChannel whole(preset.timing, g, scheduling, pattern);
      DramChannel single(preset.timing, g, scheduling, pattern);
      Ticks now = 0;
      const std::uint32_t write_percent = below(3) * 40;
      const std::uint32_t longest = trial % 4 < 2 ? 20 : 600;
      for (unsigned i = 0; i < 300; ++i) {
        if (below(3) == 0) now += below(4) == 0 ? below(3 * preset.timing.refi) : below(300);
        const DramStrip strip{below(4), below(g.all_banks()), below(8), 1 + below(longest)};
        const bool write = below(100) < write_percent;
        const auto price = [&](DramChannel &channel, const DramStrip &part) {
          return write ? channel.write(now, part) : channel.read(now, part);
        };
        const DramChannel::Done done = price(whole, strip);
        DramChannel::Done latest;
        for (std::uint32_t k = 0; k < strip.bursts; ++k) {
          const DramChannel::Done one = price(single, {strip.row, strip.flip, strip.first + k, 1});
          latest = {std::max(latest.accepted, one.accepted), std::max(latest.done, one.done)};
        }
        INFO("step " << i << (write ? " write " : " read ") << now << ": " << strip.row << ' ' << strip.flip << ' '
                     << strip.first << ' ' << strip.bursts);
        REQUIRE(done.accepted == latest.accepted);
        REQUIRE(done.done == latest.done);
      }
      CHECK(whole.drain() == single.drain());
      const DramCounts &a = whole.counts();
      const DramCounts &b = single.counts();
      CHECK(a.hits == b.hits);
      CHECK(a.misses == b.misses);
      CHECK(a.conflicts == b.conflicts);
      CHECK(a.refreshes == b.refreshes);
      CHECK(a.turnarounds == b.turnarounds);
      CHECK(a.busy == b.busy);
      CHECK(a.lost == b.lost);
    }
  }
}

TEST_CASE("searches that pass over what cannot fit find what plain ones find") {
  const std::uint32_t seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  constexpr std::uint32_t kStreamBursts = 256;
  for (const DramPreset &preset : dram_presets()) {
    for (unsigned trial = 0; trial < 40; ++trial) {
      INFO(preset.name << " trial " << trial);
      DramTiming t = preset.timing;
      DramGeometry g = one_channel(preset);
      DramScheduling scheduling;
      if (trial % 3 == 2) g.ranks = 2u << below(2);
      if (trial % 3 == 1 && t.rfc_pb > 0) scheduling.refresh = DramRefresh::per_bank;
      if (trial % 5 == 4) {
        t.faw *= 2;
        t.ccd_l += below(5);
        t.rtw += below(9);
      }
      if (trial % 4 == 3) scheduling.page = DramPage::closed;
      if (trial % 6 == 5) scheduling.ecc = DramEcc::inline_row;
      if (trial % 2 == 1) {
        scheduling.read_window = 1 + below(64);
        scheduling.write_window = 4 + below(60);
        scheduling.write_high = 2 + below(scheduling.write_window - 2);
        scheduling.write_low = below(scheduling.write_high);
      }
      std::vector<std::uint32_t> pattern = {0};
      if (trial % 4 != 1) {
        pattern.clear();
        for (std::uint32_t group = 0; group < g.bank_groups; ++group) pattern.push_back(group * g.banks);
      }
      DramChannel skipping(t, g, scheduling, pattern);
      DramChannel plain(t, g, scheduling, pattern);
      plain.search_plainly();
      Ticks now = 0;
      const std::uint32_t write_percent = below(4) * 33;
      const std::uint32_t longest = trial % 3 == 0 ? 1 : trial % 3 == 1 ? 20 : 300;
      const std::uint32_t rows = 1u << below(8);
      const std::uint32_t gap = below(3) == 0 ? 0 : 1 + below(600);
      // Requests that follow one another through the rows, as those of a DMA do.
      const bool stream = trial % 5 >= 2;
      DramStrip next{0, 0, kStreamBursts, 0};
      for (unsigned i = 0; i < 300; ++i) {
        if (gap > 0 && below(3) == 0) now += below(50) == 0 ? below(3 * t.refi) : below(gap);
        // Requests of several engines are not made in the order of their arrival.
        const Ticks arrival = below(20) == 0 && now > 300 ? now - below(300) : now;
        DramStrip strip{below(rows), below(g.all_banks()), below(8), 1 + below(longest)};
        if (stream) {
          next.first += next.bursts;
          if (next.first >= kStreamBursts || below(40) == 0) {
            next = {below(rows), below(g.all_banks()), below(2) == 0 ? 0 : below(kStreamBursts - 1), 0};
          }
          next.bursts = std::min(1 + below(128), kStreamBursts - next.first);
          strip = next;
        }
        const bool write = below(100) < write_percent;
        const auto price = [&](DramChannel &channel) {
          return write ? channel.write(arrival, strip) : channel.read(arrival, strip);
        };
        const DramChannel::Done done = price(skipping);
        const DramChannel::Done expected = price(plain);
        INFO("step " << i);
        REQUIRE(done.accepted == expected.accepted);
        REQUIRE(done.done == expected.done);
      }
      REQUIRE(skipping.drain() == plain.drain());
      const DramCounts &a = skipping.counts();
      const DramCounts &b = plain.counts();
      CHECK(a.hits == b.hits);
      CHECK(a.misses == b.misses);
      CHECK(a.conflicts == b.conflicts);
      CHECK(a.refreshes == b.refreshes);
      CHECK(a.turnarounds == b.turnarounds);
      CHECK(a.busy == b.busy);
      CHECK(a.lost == b.lost);
    }
  }
}

TEST_CASE("every tick of the data bus has a reason") {
  std::mt19937 random(7);
  for (const DramPreset &preset : dram_presets()) {
    INFO(preset.name);
    const DramTiming &t = preset.timing;
    DramChannel channel(t, one_channel(preset), {}, {0});
    std::uint64_t bursts = 0;
    for (unsigned i = 0; i < 5000; ++i) {
      const DramStrip strip{static_cast<std::uint32_t>(random() % 64),
                            static_cast<std::uint32_t>(random() % one_channel(preset).all_banks()), 0, 1};
      bursts += 1;
      if (random() % 3 == 0) {
        channel.write(i * 20, strip);
      } else {
        channel.read(i * 20, strip);
      }
    }
    const Ticks end = channel.drain();
    const DramCounts &counts = channel.counts();
    CHECK(counts.busy == bursts * t.burst);
    CHECK(counts.hits + counts.misses + counts.conflicts == bursts);
    const auto accounted = static_cast<Ticks>(static_cast<std::int64_t>(counts.busy) + lost(counts));
    CHECK((accounted + t.cl == end || accounted + t.cwl == end));
  }
}

TEST_CASE("streams of every preset reach their part of the peak but for named losses") {
  for (const DramPreset &preset : dram_presets()) {
    INFO(preset.name);
    const AddressMapping mapping(preset.mapping, preset.hash, preset.geometry);
    std::vector<DramChannel> channels;
    for (std::uint32_t c = 0; c < preset.geometry.all_channels(); ++c) {
      channels.emplace_back(preset.timing, preset.geometry, DramScheduling{}, mapping.pattern());
    }
    for (const bool write : {false, true}) {
      for (DramChannel &channel : channels) channel.reset();
      std::vector<AddressMapping::Part> parts;
      const std::uint64_t bytes = preset.geometry.all_channels() * (std::uint64_t{1} << 20);
      for (std::uint64_t at = 0; at < bytes; at += 4096) {
        mapping.parts(at, 4096, 4096, parts);
        for (const auto &part : parts) {
          if (write) {
            channels[part.channel].write(0, part.strip);
          } else {
            channels[part.channel].read(0, part.strip);
          }
        }
      }
      DramCounts all;
      Ticks end = 0;
      for (DramChannel &channel : channels) {
        end = std::max(end, channel.drain());
        all += channel.counts();
      }
      const double reached = static_cast<double>(bytes / preset.geometry.burst_bytes * preset.timing.burst) /
                             static_cast<double>(end * channels.size());
      INFO((write ? "write " : "read ") << reached);
      CHECK(reached > 0.85);
      CHECK(all[DramLoss::refresh] > lost(all) / 2);
    }
  }
}

TEST_CASE("a bank-group mapping that halves the bandwidth is named") {
  const DramPreset &preset = preset_of("hbm2e_3200");
  const DramTiming t = without_refresh(preset.timing);
  const AddressMapping mapping("ro bg ba co", "", one_channel(preset));
  DramScheduling scheduling;
  scheduling.read_window = 4;  // sees one bank group only
  DramChannel channel(t, one_channel(preset), scheduling, mapping.pattern());
  std::vector<AddressMapping::Part> parts;
  for (std::uint64_t at = 0; at < 1u << 20; at += 4096) {
    mapping.parts(at, 4096, 4096, parts);
    for (const auto &part : parts) channel.read(0, part.strip);
  }
  const DramCounts &counts = channel.counts();
  CHECK(static_cast<double>(counts[DramLoss::bank_group]) > 0.9 * static_cast<double>(counts.busy));
}

TEST_CASE("closed pages: a row is open for one request only") {
  const DramPreset &preset = preset_of("ddr4_3200");
  const DramTiming t = without_refresh(preset.timing);
  DramScheduling scheduling;
  scheduling.page = DramPage::closed;
  DramChannel channel(t, one_channel(preset), scheduling, {0});
  CHECK(cas_of(t, channel.read(0, {0, 0, 0, 1})) == t.rcd_rd);
  CHECK(cas_of(t, channel.read(10000, {0, 0, 0, 1})) == 10000 + t.rcd_rd);
  CHECK(cas_of(t, channel.read(20000, {1, 0, 0, 1})) == 20000 + t.rcd_rd);
  CHECK(channel.counts().misses == 3);
  DramChannel open(t, one_channel(preset), {}, {0});
  open.read(0, {0, 0, 0, 1});
  CHECK(cas_of(t, open.read(10000, {0, 0, 0, 1})) == 10000);
  CHECK(cas_of(t, open.read(20000, {1, 0, 0, 1})) == 20000 + t.rp + t.rcd_rd);
}

TEST_CASE("code inline in the rows takes a burst for eight") {
  const DramPreset &preset = preset_of("lpddr5_6400");
  const DramTiming t = without_refresh(preset.timing);
  const std::vector<std::uint32_t> pattern = {0, 4, 8, 12};
  DramScheduling scheduling;
  DramChannel plain(t, one_channel(preset), scheduling, pattern);
  scheduling.ecc = DramEcc::inline_row;
  DramChannel coded(t, one_channel(preset), scheduling, pattern);
  Ticks plain_end = 0;
  Ticks coded_end = 0;
  for (unsigned i = 0; i < 64; ++i) {
    plain_end = plain.read(0, {0, 0, 0, 256}).done;
    coded_end = coded.read(0, {0, 0, 0, 256}).done;
  }
  CHECK(static_cast<double>(coded_end) / static_cast<double>(plain_end) == Approx(1.125).epsilon(0.01));
  CHECK(coded.counts().ecc_bursts == 64 * 32);
  coded.reset();
  coded.read(0, {0, 0, 0, 1});
  CHECK(coded.counts().ecc_bursts == 1);
  coded.write(0, {0, 0, 0, 1});  // read, changed and written
  CHECK(coded.counts().ecc_bursts == 3);
  coded.write(0, {0, 0, 0, 32});
  CHECK(coded.counts().ecc_bursts == 7);
}

TEST_CASE("a window of one read opens rows one after the other") {
  const DramPreset &preset = preset_of("ddr4_3200");
  const DramTiming t = without_refresh(preset.timing);
  DramScheduling narrow;
  narrow.read_window = 1;
  DramChannel one(t, one_channel(preset), narrow, {0});
  DramChannel wide(t, one_channel(preset), {}, {0});
  std::mt19937 random(3);
  Ticks one_end = 0;
  Ticks wide_end = 0;
  for (unsigned i = 0; i < 2000; ++i) {
    const DramStrip strip{static_cast<std::uint32_t>(random() % 1024), static_cast<std::uint32_t>(random() % 16), 0, 1};
    one_end = std::max(one_end, one.read(0, strip).done);
    wide_end = std::max(wide_end, wide.read(0, strip).done);
  }
  CHECK(one_end > 2 * wide_end);
}

TEST_CASE("reset forgets everything") {
  const DramPreset &preset = preset_of("hbm3_6400");
  DramChannel channel(preset.timing, one_channel(preset), {}, {0});
  const Ticks first = channel.read(5, {3, 0, 0, 10}).done;
  channel.write(5, {4, 0, 0, 100});
  channel.reset();
  CHECK(channel.counts().hits == 0);
  CHECK(channel.drain() == 0);
  CHECK(channel.read(5, {3, 0, 0, 10}).done == first);
}

TEST_CASE("every preset is consistent, and every field is checked") {
  REQUIRE(dram_presets().size() >= 6);
  for (const DramPreset &preset : dram_presets()) {
    INFO(preset.name);
    CHECK_NOTHROW(check(preset.timing));
    CHECK_NOTHROW(check(preset.geometry));
    CHECK(dram_preset(preset.name) == &preset);
    CHECK(!preset.source.empty());
    CHECK(preset.geometry.burst_bytes == preset.bus_bits * preset.burst_length / 8);
  }
  CHECK(dram_preset("ddr9") == nullptr);
  // Rates of the names: bits of a channel x transfers a second.
  const auto peak = [](const char *name) { return peak_gbps(preset_of(name).timing, one_channel(preset_of(name))); };
  CHECK(peak("ddr4_3200") == Approx(25.6));
  CHECK(peak("ddr5_4800") == Approx(19.2).epsilon(0.002));
  CHECK(peak("lpddr4_4266") == Approx(8.532).epsilon(0.002));
  CHECK(peak("lpddr5_6400") == Approx(12.8));
  CHECK(peak("hbm2e_3200") == Approx(25.6));
  CHECK(peak("hbm3_6400") == Approx(25.6));

  const auto refused = [](const char *key,
                          const std::function<void(DramTiming &, DramGeometry &, DramScheduling &)> &change) {
    DramTiming timing = preset_of("ddr4_3200").timing;
    DramGeometry geometry = preset_of("ddr4_3200").geometry;
    DramScheduling scheduling;
    change(timing, geometry, scheduling);
    INFO(key);
    try {
      DramChannel channel(timing, geometry, scheduling, {0});
    } catch (const DramParamError &error) {
      CHECK(error.key() == key);
      return;
    }
    FAIL("accepted");
  };
#define CX_REFUSED(key, assignment)                                    \
  refused(key, [](DramTiming &t, DramGeometry &g, DramScheduling &s) { \
    assignment;                                                        \
    static_cast<void>(t);                                              \
    static_cast<void>(g);                                              \
    static_cast<void>(s);                                              \
  })
  CX_REFUSED("timing.tick_ps", t.tick_ps = 0);
  CX_REFUSED("timing.burst", t.burst = 0);
  CX_REFUSED("timing.cl", t.cl = 0);
  CX_REFUSED("timing.cwl", t.cwl = 0);
  CX_REFUSED("timing.rcd_rd", t.rcd_rd = 0);
  CX_REFUSED("timing.rcd_wr", t.rcd_wr = 0);
  CX_REFUSED("timing.rp", t.rp = 0);
  CX_REFUSED("timing.rp_all", t.rp_all = t.rp - 1);
  CX_REFUSED("timing.ras", t.ras = 0);
  CX_REFUSED("timing.rc", t.rc = t.ras - 1);
  CX_REFUSED("timing.ccd_s", t.ccd_s = t.burst - 1);
  CX_REFUSED("timing.ccd_l", t.ccd_l = t.ccd_s - 1);
  CX_REFUSED("timing.ccd_s_wr", t.ccd_s_wr = t.burst - 1);
  CX_REFUSED("timing.ccd_l_wr", t.ccd_l_wr = t.ccd_s_wr - 1);
  CX_REFUSED("timing.rrd_s", t.rrd_s = 0);
  CX_REFUSED("timing.rrd_l", t.rrd_l = t.rrd_s - 1);
  CX_REFUSED("timing.faw", t.faw = t.rrd_s - 1);
  CX_REFUSED("timing.wtr_l", t.wtr_l = t.wtr_s - 1);
  CX_REFUSED("timing.rtw", t.rtw = t.burst - 1);
  CX_REFUSED("timing.rfc", t.rfc = t.refi);
  CX_REFUSED("timing.rfc_pb", t.refi_pb = 1000);
  CX_REFUSED("timing.refi_pb", t.rfc_pb = 100);
  CX_REFUSED("timing.rrefd", t.rrefd = 1);
  CX_REFUSED("timing.rfc_pb", t.rfc_pb = t.refi_pb = 40; s.refresh = DramRefresh::per_bank;
             g.banks = g.bank_groups = 1);
  CX_REFUSED("refresh", s.refresh = DramRefresh::per_bank);
  CX_REFUSED("geometry.refresh_groups", g.refresh_groups = 2 * g.bank_groups);
  CX_REFUSED("channels", g.channels = 3);
  CX_REFUSED("geometry.pseudo_channels", g.pseudo_channels = 3);
  CX_REFUSED("geometry.ranks", g.ranks = 0);
  CX_REFUSED("geometry.bank_groups", g.bank_groups = 3);
  CX_REFUSED("geometry.banks", g.banks = 5);
  CX_REFUSED("geometry.burst_length", g.burst_bytes = 48);
  CX_REFUSED("geometry.row_bytes", g.row_bytes = 32);
  CX_REFUSED("read_window", s.read_window = 0);
  CX_REFUSED("write_window", s.write_window = 0);
  CX_REFUSED("write_high", s.write_high = s.write_window + 1);
  CX_REFUSED("write_low", s.write_low = s.write_high);
#undef CX_REFUSED
  CHECK_THROWS_AS(DramChannel(preset_of("ddr4_3200").timing, preset_of("ddr4_3200").geometry, {}, {0, 1, 2}),
                  std::invalid_argument);
  CHECK_THROWS_AS(DramChannel(preset_of("ddr4_3200").timing, preset_of("ddr4_3200").geometry, {}, {16}),
                  std::invalid_argument);
}
