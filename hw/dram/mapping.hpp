// Where a byte of DRAM lies: channel, bank, row and column of an address, from a text.
#ifndef HW_DRAM_MAPPING_HPP
#define HW_DRAM_MAPPING_HPP

#include <cstdint>
#include <string_view>
#include <vector>

#include "hw/dram/channel.hpp"
#include "hw/dram/timing.hpp"

namespace cx::hw {

struct DramPlace {
  std::uint32_t channel = 0;  // channel * pseudo channels + pseudo channel
  std::uint32_t bank = 0;     // (rank * bank groups + bank group) * banks + bank
  std::uint32_t row = 0;
  std::uint32_t column = 0;  // burst of the row

  friend bool operator==(const DramPlace &, const DramPlace &) = default;
};

// `mapping` lists the fields of an address above the burst, most significant first, separated by spaces:
//   ro row, ra rank, bg bank group, ba bank, co column (burst of a row), ch channel, pc pseudo channel
// "field:n" is n bits of a field, a field without a number the rest of its bits; the parts of a field are given from
// its most significant on. Every field must have all of its bits; one without bits (a single rank) may be left out.
// The row takes all that is left of an address and must come first.
// `hash` lists fields, separated by spaces, that are exclusive-ored with the row: the first with its lowest bits, the
// second with the bits above those, and so on. Fields: ra bg ba ch pc. Empty: none.
class AddressMapping {
 public:
  // Throws std::invalid_argument that says what is wrong with the text or does not fit the geometry.
  AddressMapping(std::string_view mapping, std::string_view hash, const DramGeometry &geometry);

  DramPlace place(std::uint64_t address) const;
  // Banks of consecutive bursts in a channel (DramChannel's pattern).
  const std::vector<std::uint32_t> &pattern() const { return pattern_; }

  // Consecutive bursts that lie in one channel.
  std::uint64_t grain() const { return std::uint64_t{1} << grain_bits_; }

  struct Part {
    std::uint32_t channel = 0;
    DramStrip strip;
  };
  // The bursts of [offset, offset + span) as strips, in order of address; `parts` is overwritten. bytes < span: as many
  // whole bursts as hold `bytes`, spread evenly over those of the span.
  void parts(std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, std::vector<Part> &parts) const;

  // Bursts that parts() makes of a request.
  std::uint64_t bursts(std::uint64_t offset, std::uint64_t span, std::uint64_t bytes) const;

 private:
  enum Field : std::uint8_t { row, rank, bank_group, bank, column, channel, pseudo, field_count };
  struct Segment {
    Field field;
    std::uint32_t shift;  // in the burst's number
    std::uint64_t mask;   // of the part, at bit 0
    std::uint32_t width;
    std::uint32_t place;  // in the field
  };

  std::uint64_t field_bits(Field field) const;
  void read_mapping(std::string_view mapping);
  void read_hash(std::string_view hash);
  void find_block();
  DramPlace place_of_burst(std::uint64_t burst) const;
  std::uint64_t first_in_lane(std::uint64_t in_block, std::uint64_t lane) const;
  void parts_of_block(std::uint64_t block, std::uint64_t from, std::uint64_t to, std::vector<Part> &parts) const;

  DramGeometry geometry_;
  std::uint32_t burst_shift_;
  std::vector<Segment> segments_;  // from the least significant on
  struct Hash {
    Field field;
    std::uint32_t row_shift;
    std::uint32_t mask;  // of the field
  };
  std::vector<Hash> hashes_;
  std::vector<std::uint32_t> pattern_;
  std::uint32_t block_bits_ = 0;              // bursts that share their rows: 2^block_bits_, aligned
  std::uint64_t lane_mask_ = 0;               // bits of a block's burst numbers that choose the channel
  std::vector<std::uint32_t> lane_channels_;  // by the lane's number; exclusive-ored with the block's own
  std::uint32_t grain_bits_ = 0;              // consecutive bursts in one channel
};

}  // namespace cx::hw

#endif
