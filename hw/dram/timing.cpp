#include "hw/dram/timing.hpp"

#include <array>
#include <bit>
#include <stdexcept>

namespace cx::hw {

namespace {

// Cycles of the parts' clock. A time that the standard gives in nanoseconds is rounded up. `rtw` is
// CL + burst + 2 - CWL where the standard gives the terms, with the strobe's spread where it adds one.
constexpr std::array kPresets = {
    DramPreset{"ddr4_3200",
               "JEDEC JESD79-4C, DDR4-3200AA (22-22-22), 8 Gb x8, 64-bit channel",
               {.tick_ps = 625,
                .burst = 4,
                .cl = 22,
                .cwl = 16,
                .rcd_rd = 22,
                .rcd_wr = 22,
                .rp = 22,
                .rp_all = 22,
                .ras = 52,
                .rc = 74,
                .rtp = 12,
                .wr = 24,
                .ccd_s = 4,
                .ccd_l = 8,
                .ccd_s_wr = 4,
                .ccd_l_wr = 8,
                .rrd_s = 4,
                .rrd_l = 8,
                .faw = 34,
                .wtr_s = 4,
                .wtr_l = 12,
                .rtw = 12,
                .cs = 2,
                .rfc = 560,
                .refi = 12480},
               {.channels = 1,
                .pseudo_channels = 1,
                .ranks = 1,
                .bank_groups = 4,
                .banks = 4,
                .row_bytes = 8192,
                .burst_bytes = 64},
               64,
               8,
               "ro ra ba co ch co:2 bg",
               "bg ba ch ra",
               DramRefresh::all_bank},
    DramPreset{"ddr5_4800",
               "JEDEC JESD79-5B, DDR5-4800B (40-39-39), 16 Gb x8, two 32-bit channels of a DIMM",
               {.tick_ps = 416,
                .burst = 8,
                .cl = 40,
                .cwl = 38,
                .rcd_rd = 39,
                .rcd_wr = 39,
                .rp = 39,
                .rp_all = 39,
                .ras = 77,
                .rc = 116,
                .rtp = 18,
                .wr = 72,
                .ccd_s = 8,
                .ccd_l = 12,
                .ccd_s_wr = 8,
                .ccd_l_wr = 48,
                .rrd_s = 8,
                .rrd_l = 12,
                .faw = 32,
                .wtr_s = 6,
                .wtr_l = 24,
                .rtw = 14,
                .cs = 2,
                .rfc = 710,
                .refi = 9375,
                .rfc_pb = 313,
                .refi_pb = 1171,
                .rrefd = 73},
               {.channels = 2,
                .pseudo_channels = 1,
                .ranks = 1,
                .bank_groups = 8,
                .banks = 4,
                .row_bytes = 4096,
                .burst_bytes = 64,
                .refresh_groups = 8},
               32,
               16,
               "ro ra ba co ch co:1 bg",
               "bg ba ch ra",
               DramRefresh::all_bank},
    DramPreset{"lpddr4_4266",
               "JEDEC JESD209-4C, LPDDR4-4266, 8 Gb a channel, 16-bit channel, no bank groups",
               {.tick_ps = 469,
                .burst = 8,
                .cl = 36,
                .cwl = 18,
                .rcd_rd = 39,
                .rcd_wr = 39,
                .rp = 39,
                .rp_all = 45,
                .ras = 90,
                .rc = 129,
                .rtp = 16,
                .wr = 39,
                .ccd_s = 8,
                .ccd_l = 8,
                .ccd_s_wr = 8,
                .ccd_l_wr = 8,
                .rrd_s = 16,
                .rrd_l = 16,
                .faw = 64,
                .wtr_s = 22,
                .wtr_l = 22,
                .rtw = 36,
                .cs = 4,
                .rfc = 598,
                .refi = 8325,
                .rfc_pb = 299,
                .refi_pb = 1040,
                .rrefd = 16},
               {.channels = 4,
                .pseudo_channels = 1,
                .ranks = 1,
                .bank_groups = 1,
                .banks = 8,
                .row_bytes = 2048,
                .burst_bytes = 32},
               16,
               16,
               "ro ra ba co ch co:5",
               "ba ch ra",
               DramRefresh::per_bank},
    DramPreset{"lpddr5_6400",
               "JEDEC JESD209-5B, LPDDR5-6400, 16 Gb, 16-bit channel, bank-group mode, CK 800 MHz, WCK always on",
               {.tick_ps = 1250,
                .burst = 2,
                .cl = 17,
                .cwl = 9,
                .rcd_rd = 15,
                .rcd_wr = 15,
                .rp = 15,
                .rp_all = 17,
                .ras = 34,
                .rc = 49,
                .rtp = 8,
                .wr = 28,
                .ccd_s = 2,
                .ccd_l = 4,
                .ccd_s_wr = 2,
                .ccd_l_wr = 4,
                .rrd_s = 4,
                .rrd_l = 4,
                .faw = 16,
                .wtr_s = 5,
                .wtr_l = 12,
                .rtw = 12,
                .cs = 2,
                .rfc = 224,
                .refi = 3125,
                .rfc_pb = 112,
                .refi_pb = 390,
                .rrefd = 6},
               {.channels = 4,
                .pseudo_channels = 1,
                .ranks = 1,
                .bank_groups = 4,
                .banks = 4,
                .row_bytes = 2048,
                .burst_bytes = 32,
                .refresh_groups = 2},
               16,
               16,
               "ro ra ba co ch co:3 bg",
               "bg ba ch ra",
               DramRefresh::per_bank},
    DramPreset{
        "hbm2e_3200",
        "JEDEC JESD235D at 3.2 GT/s, 8 Gb a channel; times that it leaves to the maker as of HBM2 at 2.4 GT/s, in ns",
        {.tick_ps = 625,
         .burst = 2,
         .cl = 23,
         .cwl = 8,
         .rcd_rd = 23,
         .rcd_wr = 19,
         .rp = 23,
         .rp_all = 23,
         .ras = 54,
         .rc = 77,
         .rtp = 8,
         .wr = 26,
         .ccd_s = 2,
         .ccd_l = 4,
         .ccd_s_wr = 2,
         .ccd_l_wr = 4,
         .rrd_s = 7,
         .rrd_l = 7,
         .faw = 24,
         .wtr_s = 11,
         .wtr_l = 14,
         .rtw = 19,
         .cs = 2,
         .rfc = 560,
         .refi = 6240,
         .rfc_pb = 256,
         .refi_pb = 390,
         .rrefd = 13},
        {.channels = 8,
         .pseudo_channels = 2,
         .ranks = 1,
         .bank_groups = 4,
         .banks = 4,
         .row_bytes = 1024,
         .burst_bytes = 32},
        64,
        4,
        "ro ra ba co ch pc co:1 bg",
        "bg ba ch pc ra",
        DramRefresh::all_bank},
    DramPreset{"hbm3_6400",
               "JEDEC JESD238 at 6.4 GT/s, 8 Gb a channel, 8-high stack",
               {.tick_ps = 625,
                .burst = 2,
                .cl = 20,
                .cwl = 10,
                .rcd_rd = 31,
                .rcd_wr = 15,
                .rp = 26,
                .rp_all = 26,
                .ras = 45,
                .rc = 72,
                .rtp = 9,
                .wr = 33,
                .ccd_s = 2,
                .ccd_l = 4,
                .ccd_s_wr = 2,
                .ccd_l_wr = 4,
                .rrd_s = 4,
                .rrd_l = 5,
                .faw = 24,
                .wtr_s = 7,
                .wtr_l = 10,
                .rtw = 20,
                .cs = 1,
                .rfc = 560,
                .refi = 6240,
                .rfc_pb = 320,
                .refi_pb = 390,
                .rrefd = 13},
               {.channels = 16,
                .pseudo_channels = 2,
                .ranks = 1,
                .bank_groups = 4,
                .banks = 4,
                .row_bytes = 1024,
                .burst_bytes = 32},
               32,
               8,
               "ro ra ba co ch pc co:1 bg",
               "bg ba ch pc ra",
               DramRefresh::all_bank},
};

void require(bool condition, const char *key, const char *message) {
  if (!condition) throw DramParamError(key, message);
}

bool power_up_to(std::uint32_t count, std::uint32_t most) { return std::has_single_bit(count) && count <= most; }

}  // namespace

std::span<const DramPreset> dram_presets() { return kPresets; }

const DramPreset *dram_preset(std::string_view name) {
  for (const DramPreset &preset : kPresets) {
    if (preset.name == name) return &preset;
  }
  return nullptr;
}

double peak_gbps(const DramTiming &timing, const DramGeometry &geometry) {
  const double bytes_per_ps =
      static_cast<double>(geometry.burst_bytes) / (static_cast<double>(timing.burst) * timing.tick_ps);
  return bytes_per_ps * 1000 * geometry.all_channels();
}

void check(const DramTiming &t) {
  require(t.tick_ps > 0, "timing.tick_ps", "must be above 0");
  require(t.burst > 0, "timing.burst", "must be above 0");
  require(t.cl > 0, "timing.cl", "must be above 0");
  require(t.cwl > 0, "timing.cwl", "must be above 0");
  require(t.rcd_rd > 0, "timing.rcd_rd", "must be above 0");
  require(t.rcd_wr > 0, "timing.rcd_wr", "must be above 0");
  require(t.rp > 0, "timing.rp", "must be above 0");
  require(t.rp_all >= t.rp, "timing.rp_all", "must not be below timing.rp");
  require(t.ras > 0, "timing.ras", "must be above 0");
  require(t.rc >= t.ras, "timing.rc", "must not be below timing.ras");
  require(t.ccd_s >= t.burst, "timing.ccd_s", "must not be below timing.burst");
  require(t.ccd_l >= t.ccd_s, "timing.ccd_l", "must not be below timing.ccd_s");
  require(t.ccd_s_wr >= t.burst, "timing.ccd_s_wr", "must not be below timing.burst");
  require(t.ccd_l_wr >= t.ccd_s_wr, "timing.ccd_l_wr", "must not be below timing.ccd_s_wr");
  require(t.rrd_s > 0, "timing.rrd_s", "must be above 0");
  require(t.rrd_l >= t.rrd_s, "timing.rrd_l", "must not be below timing.rrd_s");
  require(t.faw >= t.rrd_s, "timing.faw", "must not be below timing.rrd_s");
  require(t.wtr_l >= t.wtr_s, "timing.wtr_l", "must not be below timing.wtr_s");
  require(t.rtw >= t.burst, "timing.rtw", "must not be below timing.burst");
  require(t.refi == 0 || t.refi > Ticks{t.rfc} + t.rp_all + t.rc + t.wr + t.cwl + t.burst, "timing.rfc",
          "a refresh and the closing of rows before it must be shorter than timing.refi");
  require((t.rfc_pb == 0) == (t.refi_pb == 0), t.rfc_pb == 0 ? "timing.rfc_pb" : "timing.refi_pb",
          "is needed for refreshes of single banks, as the other of timing.rfc_pb and timing.refi_pb is given");
  require(t.rrefd <= t.refi_pb, "timing.rrefd", "must not be above timing.refi_pb");
}

void check(const DramGeometry &g) {
  require(power_up_to(g.channels, 256), "channels", "must be a power of two up to 256");
  require(power_up_to(g.pseudo_channels, 4), "geometry.pseudo_channels", "must be 1, 2 or 4");
  require(power_up_to(g.ranks, 16), "geometry.ranks", "must be a power of two up to 16");
  require(power_up_to(g.bank_groups, 16), "geometry.bank_groups", "must be a power of two up to 16");
  require(power_up_to(g.banks, 64), "geometry.banks", "must be a power of two up to 64");
  require(power_up_to(g.burst_bytes, 1024), "geometry.burst_length",
          "bus and burst length must make a power of two of bytes up to 1024");
  require(power_up_to(g.row_bytes, 1u << 20) && g.row_bytes >= g.burst_bytes, "geometry.row_bytes",
          "must be a power of two, at least a burst and at most 1 MiB");
  require(power_up_to(g.refresh_groups, g.bank_groups), "geometry.refresh_groups",
          "must be a power of two up to geometry.bank_groups");
}

void check(const DramScheduling &s) {
  require(s.read_window >= 1 && s.read_window <= 1024, "read_window", "must be 1 to 1024");
  require(s.write_window >= 1 && s.write_window <= 1024, "write_window", "must be 1 to 1024");
  require(s.write_high >= 1 && s.write_high <= s.write_window, "write_high", "must be 1 to dram.write_window");
  require(s.write_low < s.write_high, "write_low", "must be below dram.write_high");
}

void check_refresh(const DramTiming &t, const DramGeometry &g, const DramScheduling &s) {
  if (s.refresh != DramRefresh::per_bank) return;
  require(t.rfc_pb > 0, "refresh", "the part has no refresh of single banks: timing.rfc_pb and timing.refi_pb are 0");
  require(Ticks{t.refi_pb} * g.bank_refreshes() > Ticks{t.rfc_pb} + t.rp + t.rc + t.wr + t.cwl + t.burst,
          "timing.rfc_pb", "a bank's refresh and its closing before must be shorter than the time until its next");
}

}  // namespace cx::hw
