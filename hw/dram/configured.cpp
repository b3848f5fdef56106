#include "hw/dram/configured.hpp"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "hw/dram/channel.hpp"
#include "hw/dram/mapping.hpp"

namespace cx::hw {

namespace {

// What only a preset gives a meaning must be as it is by default.
void refuse_without_preset(const config::Chip &chip) {
  using Section = std::decay_t<decltype(chip.dram)>;
  const Section plain;
  const Section &d = chip.dram;
  const auto same = [](const auto &value, const auto &initial, const char *key) {
    if (!(value == initial)) throw DramParamError(key, "has no meaning without a part: it needs dram.preset");
  };
  same(d.controller_ns, plain.controller_ns, "controller_ns");
  same(d.page, plain.page, "page");
  same(d.ecc, plain.ecc, "ecc");
  same(d.refresh, plain.refresh, "refresh");
  same(d.read_window, plain.read_window, "read_window");
  same(d.write_window, plain.write_window, "write_window");
  same(d.write_high, plain.write_high, "write_high");
  same(d.write_low, plain.write_low, "write_low");
  same(d.mapping, plain.mapping, "mapping");
  same(d.hash, plain.hash, "hash");
#define CX_SAME(section, name) same(d.section.name, plain.section.name, #section "." #name)
  CX_SAME(geometry, pseudo_channels);
  CX_SAME(geometry, ranks);
  CX_SAME(geometry, bank_groups);
  CX_SAME(geometry, banks);
  CX_SAME(geometry, row_bytes);
  CX_SAME(geometry, bus_bits);
  CX_SAME(geometry, burst_length);
  CX_SAME(geometry, refresh_groups);
  CX_SAME(timing, tick_ps);
  CX_SAME(timing, burst);
  CX_SAME(timing, cl);
  CX_SAME(timing, cwl);
  CX_SAME(timing, rcd_rd);
  CX_SAME(timing, rcd_wr);
  CX_SAME(timing, rp);
  CX_SAME(timing, rp_all);
  CX_SAME(timing, ras);
  CX_SAME(timing, rc);
  CX_SAME(timing, rtp);
  CX_SAME(timing, wr);
  CX_SAME(timing, ccd_s);
  CX_SAME(timing, ccd_l);
  CX_SAME(timing, ccd_s_wr);
  CX_SAME(timing, ccd_l_wr);
  CX_SAME(timing, rrd_s);
  CX_SAME(timing, rrd_l);
  CX_SAME(timing, faw);
  CX_SAME(timing, wtr_s);
  CX_SAME(timing, wtr_l);
  CX_SAME(timing, rtw);
  CX_SAME(timing, cs);
  CX_SAME(timing, rfc);
  CX_SAME(timing, refi);
  CX_SAME(timing, rfc_pb);
  CX_SAME(timing, refi_pb);
  CX_SAME(timing, rrefd);
#undef CX_SAME
}

}  // namespace

double DramModelParams::latency_ns() const {
  return controller_ns + static_cast<double>((timing.rcd_rd + timing.cl + timing.burst) * Ticks{timing.tick_ps}) / 1000;
}

std::uint32_t DramModelParams::stripe_bytes() const {
  return static_cast<std::uint32_t>(AddressMapping(mapping, hash, geometry).grain() * geometry.burst_bytes);
}

double DramModelParams::stream_gbps() const {
  const AddressMapping map(mapping, hash, geometry);
  DramChannel channel(timing, geometry, scheduling, map.pattern());
  constexpr std::uint64_t kRequest = 4096;
  const Ticks interval = std::max<Ticks>({timing.refi, Ticks{timing.refi_pb} * geometry.bank_refreshes(), 1});
  const std::uint64_t wanted = std::min<std::uint64_t>(8 * interval / timing.burst + 256, 1 << 16);
  std::vector<AddressMapping::Part> parts;
  std::uint64_t bursts = 0;
  Ticks end = 0;
  for (std::uint64_t at = 0; bursts < wanted; at += kRequest) {
    map.parts(at, kRequest, kRequest, parts);
    for (const AddressMapping::Part &part : parts) {
      if (part.channel != 0) continue;
      end = std::max(end, channel.read(0, part.strip).done);
      bursts += part.strip.bursts;
    }
  }
  return bandwidth_gbps() * static_cast<double>(bursts * timing.burst) /
         static_cast<double>(end - channel.idle_read_latency() + timing.burst);
}

std::optional<DramModelParams> dram_model(const config::Chip &chip) {
  const DramPreset *preset = dram_preset(chip.dram.preset);
  if (preset == nullptr) {
    refuse_without_preset(chip);
    return std::nullopt;
  }
  DramModelParams model;
  model.timing = preset->timing;
  model.geometry = preset->geometry;
  model.controller_ns = chip.dram.controller_ns;
  const auto take = [](std::uint32_t &value, std::uint32_t given) {
    if (given != 0) value = given;
  };
  const auto &g = chip.dram.geometry;
  const auto &t = chip.dram.timing;
  std::uint32_t bus_bits = preset->bus_bits;
  std::uint32_t burst_length = preset->burst_length;
  take(bus_bits, g.bus_bits);
  take(burst_length, g.burst_length);
  model.timing.burst = preset->timing.burst * burst_length / preset->burst_length;
  take(model.timing.tick_ps, t.tick_ps);
  take(model.timing.burst, t.burst);
  take(model.timing.cl, t.cl);
  take(model.timing.cwl, t.cwl);
  take(model.timing.rcd_rd, t.rcd_rd);
  take(model.timing.rcd_wr, t.rcd_wr);
  take(model.timing.rp, t.rp);
  take(model.timing.rp_all, t.rp_all);
  take(model.timing.ras, t.ras);
  take(model.timing.rc, t.rc);
  take(model.timing.rtp, t.rtp);
  take(model.timing.wr, t.wr);
  take(model.timing.ccd_s, t.ccd_s);
  take(model.timing.ccd_l, t.ccd_l);
  take(model.timing.ccd_s_wr, t.ccd_s_wr);
  take(model.timing.ccd_l_wr, t.ccd_l_wr);
  take(model.timing.rrd_s, t.rrd_s);
  take(model.timing.rrd_l, t.rrd_l);
  take(model.timing.faw, t.faw);
  take(model.timing.wtr_s, t.wtr_s);
  take(model.timing.wtr_l, t.wtr_l);
  take(model.timing.rtw, t.rtw);
  take(model.timing.cs, t.cs);
  take(model.timing.rfc, t.rfc);
  take(model.timing.refi, t.refi);
  take(model.timing.rfc_pb, t.rfc_pb);
  take(model.timing.refi_pb, t.refi_pb);
  take(model.timing.rrefd, t.rrefd);
  model.geometry.channels = chip.dram.channels;
  take(model.geometry.pseudo_channels, g.pseudo_channels);
  take(model.geometry.ranks, g.ranks);
  take(model.geometry.bank_groups, g.bank_groups);
  take(model.geometry.banks, g.banks);
  take(model.geometry.row_bytes, g.row_bytes);
  take(model.geometry.refresh_groups, g.refresh_groups);
  model.geometry.burst_bytes = bus_bits * burst_length / 8;
  model.scheduling.read_window = chip.dram.read_window;
  model.scheduling.write_window = chip.dram.write_window;
  model.scheduling.write_high = chip.dram.write_high;
  model.scheduling.write_low = chip.dram.write_low;
  model.scheduling.page = chip.dram.page == "closed" ? DramPage::closed : DramPage::open;
  model.scheduling.ecc = chip.dram.ecc == "inline" ? DramEcc::inline_row
                         : chip.dram.ecc == "none" ? DramEcc::off
                                                   : DramEcc::sideband;
  model.scheduling.refresh = chip.dram.refresh == "all_bank"   ? DramRefresh::all_bank
                             : chip.dram.refresh == "per_bank" ? DramRefresh::per_bank
                             : chip.dram.refresh == "none"     ? DramRefresh::none
                                                               : preset->refresh;
  check(model.timing);
  check(model.geometry);
  check(model.scheduling);
  check_refresh(model.timing, model.geometry, model.scheduling);
  model.mapping = chip.dram.mapping == "preset" ? std::string(preset->mapping) : chip.dram.mapping;
  model.hash = chip.dram.hash == "preset" ? std::string(preset->hash) : chip.dram.hash == "none" ? "" : chip.dram.hash;
  try {
    const AddressMapping mapping(model.mapping, "", model.geometry);
  } catch (const std::invalid_argument &error) {
    throw DramParamError("mapping", error.what());
  }
  try {
    const AddressMapping mapping(model.mapping, model.hash, model.geometry);
  } catch (const std::invalid_argument &error) {
    throw DramParamError("hash", error.what());
  }
  return model;
}

}  // namespace cx::hw
