// What a DRAM part and its controller are: timing, geometry, scheduling, and the presets that name them.
#ifndef HW_DRAM_TIMING_HPP
#define HW_DRAM_TIMING_HPP

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cx::hw {

// A count of ticks of one memory's clock, and a point in time as ticks since simulated time 0.
using Ticks = std::uint64_t;

// Every time is in ticks unless its name says otherwise. Names are JEDEC's; CAS is a read or write command.
struct DramTiming {
  std::uint32_t tick_ps = 0;   // the clock that the others count
  std::uint32_t burst = 0;     // data bus of a channel, one burst
  std::uint32_t cl = 0;        // read command to its first data
  std::uint32_t cwl = 0;       // write command to its first data
  std::uint32_t rcd_rd = 0;    // ACT to read
  std::uint32_t rcd_wr = 0;    // ACT to write
  std::uint32_t rp = 0;        // PRE of one bank to ACT
  std::uint32_t rp_all = 0;    // PRE of all banks to ACT or refresh
  std::uint32_t ras = 0;       // ACT to PRE
  std::uint32_t rc = 0;        // ACT to ACT, same bank
  std::uint32_t rtp = 0;       // read to PRE
  std::uint32_t wr = 0;        // end of a write's data to PRE
  std::uint32_t ccd_s = 0;     // read to read, other bank group
  std::uint32_t ccd_l = 0;     // read to read, same bank group
  std::uint32_t ccd_s_wr = 0;  // write to write, other bank group
  std::uint32_t ccd_l_wr = 0;  // write to write, same bank group
  std::uint32_t rrd_s = 0;     // ACT to ACT, other bank group
  std::uint32_t rrd_l = 0;     // ACT to ACT, same bank group
  std::uint32_t faw = 0;       // window of at most four ACTs of a rank
  std::uint32_t wtr_s = 0;     // end of a write's data to a read, other bank group
  std::uint32_t wtr_l = 0;     // end of a write's data to a read, same bank group
  std::uint32_t rtw = 0;       // read to write command
  std::uint32_t cs = 0;        // idle data bus between bursts of two ranks
  std::uint32_t rfc = 0;       // refresh of all banks
  std::uint32_t refi = 0;      // refresh to refresh of all banks; 0: none
  std::uint32_t rfc_pb = 0;    // refresh of single banks (tRFCpb, tRFCsb); 0: the part has none
  std::uint32_t refi_pb = 0;   // refresh to refresh of single banks (tREFIpb): each takes the next banks
  std::uint32_t rrefd = 0;     // refresh of single banks to ACT of another bank (tRREFD, tpbR2act, tREFSBRD)

  friend bool operator==(const DramTiming &, const DramTiming &) = default;
};

// Each count is a power of two.
struct DramGeometry {
  std::uint32_t channels = 1;         // of the whole memory
  std::uint32_t pseudo_channels = 1;  // of a channel, each with its own data bus and banks
  std::uint32_t ranks = 1;            // of a pseudo channel; stack levels (SID) of HBM3 are ranks
  std::uint32_t bank_groups = 1;      // of a rank
  std::uint32_t banks = 1;            // of a bank group
  std::uint32_t row_bytes = 0;        // of a bank of a pseudo channel
  std::uint32_t burst_bytes = 0;      // data bus bits / 8 * burst length
  std::uint32_t refresh_groups = 1;   // bank groups of which a refresh of single banks takes one bank each

  std::uint32_t all_channels() const { return channels * pseudo_channels; }
  std::uint32_t all_banks() const { return ranks * bank_groups * banks; }  // of a pseudo channel
  // Refreshes of single banks until each bank had one; all ranks have theirs at once.
  std::uint32_t bank_refreshes() const { return bank_groups / refresh_groups * banks; }

  friend bool operator==(const DramGeometry &, const DramGeometry &) = default;
};

enum class DramPage : std::uint8_t { open, closed };
enum class DramEcc : std::uint8_t { sideband, inline_row, off };
enum class DramRefresh : std::uint8_t { all_bank, per_bank, none };

struct DramScheduling {
  std::uint32_t read_window = 32;   // reads that wait for their first command at once
  std::uint32_t write_window = 32;  // writes that are accepted and wait for their first command
  std::uint32_t write_high = 26;    // so many waiting writes stop the reads,
  std::uint32_t write_low = 6;      // until no more than these are left
  DramPage page = DramPage::open;
  DramEcc ecc = DramEcc::sideband;
  DramRefresh refresh = DramRefresh::all_bank;

  friend bool operator==(const DramScheduling &, const DramScheduling &) = default;
};

struct DramPreset {
  std::string_view name;    // as in dram.preset
  std::string_view source;  // of the timing
  DramTiming timing;
  DramGeometry geometry;   // channels: of the smallest usual unit (DIMM, package, stack)
  std::uint32_t bus_bits;  // of a pseudo channel
  std::uint32_t burst_length;
  std::string_view mapping;  // see AddressMapping
  std::string_view hash;
  DramRefresh refresh;  // as systems with this part do it
};

std::span<const DramPreset> dram_presets();
// nullptr when there is none of that name.
const DramPreset *dram_preset(std::string_view name);

// All channels together, 10^9 bytes per second.
double peak_gbps(const DramTiming &timing, const DramGeometry &geometry);

// A parameter that is out of range or contradicts another.
class DramParamError : public std::invalid_argument {
 public:
  DramParamError(const char *key, const std::string &message) : std::invalid_argument(message), key_(key) {}
  // Of a chip's configuration, without "dram.": "timing.rp_all".
  const char *key() const { return key_; }

 private:
  const char *key_;
};

// Throw DramParamError.
void check(const DramTiming &timing);
void check(const DramGeometry &geometry);
void check(const DramScheduling &scheduling);
// Whether the part has the refresh that is asked for; parts that are consistent by themselves.
void check_refresh(const DramTiming &timing, const DramGeometry &geometry, const DramScheduling &scheduling);

}  // namespace cx::hw

#endif
