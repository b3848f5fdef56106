#include "hw/dram/mapping.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace cx::hw {

namespace {

constexpr std::array<std::string_view, 7> kNames = {"ro", "ra", "bg", "ba", "co", "ch", "pc"};

std::uint32_t bits(std::uint32_t power_of_two) { return static_cast<std::uint32_t>(std::countr_zero(power_of_two)); }

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

[[noreturn]] void refuse(const std::string &what) { throw std::invalid_argument(what); }

// The bits of `value` that `mask` leaves out, moved together.
std::uint64_t without(std::uint64_t value, std::uint64_t mask) {
  std::uint64_t out = 0;
  std::uint32_t to = 0;
  while (value != 0) {
    if (mask & 1) {
      const auto skip = static_cast<std::uint32_t>(std::countr_one(mask));
      value >>= skip;
      mask >>= skip;
      continue;
    }
    const auto keep = std::min<std::uint32_t>(static_cast<std::uint32_t>(std::countr_zero(mask)), 63);
    out |= (value & ((std::uint64_t{1} << keep) - 1)) << to;
    to += keep;
    value >>= keep;
    mask >>= keep;
  }
  return out;
}

// The lowest bits of `value` moved to where `mask` is set.
std::uint64_t spread(std::uint64_t value, std::uint64_t mask) {
  std::uint64_t out = 0;
  for (; mask != 0; mask &= mask - 1, value >>= 1) {
    if (value & 1) out |= mask & -mask;
  }
  return out;
}

}  // namespace

std::uint64_t AddressMapping::field_bits(Field field) const {
  switch (field) {
    case rank:
      return bits(geometry_.ranks);
    case bank_group:
      return bits(geometry_.bank_groups);
    case bank:
      return bits(geometry_.banks);
    case column:
      return bits(geometry_.row_bytes / geometry_.burst_bytes);
    case channel:
      return bits(geometry_.channels);
    case pseudo:
      return bits(geometry_.pseudo_channels);
    default:
      return 32;
  }
}

AddressMapping::AddressMapping(std::string_view mapping, std::string_view hash, const DramGeometry &geometry)
    : geometry_(geometry), burst_shift_(0) {
  check(geometry);
  burst_shift_ = bits(geometry.burst_bytes);
  read_mapping(mapping);
  read_hash(hash);
  find_block();
}

void AddressMapping::read_mapping(std::string_view mapping) {
  struct Word {
    Field field;
    std::int64_t width;  // -1: the rest
  };
  std::vector<Word> list;
  std::array<std::int64_t, field_count> given{};
  std::array<unsigned, field_count> open{};
  for (const std::string_view word : words(mapping)) {
    const std::size_t colon = word.find(':');
    const std::string_view name = word.substr(0, colon);
    const auto known = std::find(kNames.begin(), kNames.end(), name);
    if (known == kNames.end()) refuse("'" + std::string(name) + "' is none of ro, ra, bg, ba, co, ch, pc");
    Word entry{static_cast<Field>(known - kNames.begin()), -1};
    if (colon != std::string_view::npos) {
      const std::string_view digits = word.substr(colon + 1);
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), entry.width);
      if (error != std::errc() || end != digits.data() + digits.size() || entry.width < 1 || entry.width > 32) {
        refuse("'" + std::string(word) + "': expected 1 to 32 bits after the colon");
      }
      given[entry.field] += entry.width;
    } else {
      ++open[entry.field];
    }
    list.push_back(entry);
  }
  if (list.empty() || list.front().field != row || list.front().width != -1) refuse("the row, 'ro', must come first");
  for (std::size_t f = 0; f < field_count; ++f) {
    const auto field = static_cast<Field>(f);
    const std::string name(kNames[f]);
    const auto wanted = static_cast<std::int64_t>(field_bits(field));
    if (open[f] > 1) refuse("'" + name + "' is given twice without a number of bits");
    if (field == row) continue;
    if (given[f] > wanted || (open[f] == 0 && given[f] < wanted)) {
      refuse("'" + name + "' has " + std::to_string(given[f]) + " bits here and " + std::to_string(wanted) +
             " in the geometry");
    }
  }
  std::array<std::uint32_t, field_count> placed{};
  std::uint32_t shift = 0;
  for (auto word = list.rbegin(); word != list.rend(); ++word) {
    const Field field = word->field;
    const auto width = static_cast<std::uint32_t>(
        word->width >= 0 ? word->width : static_cast<std::int64_t>(field_bits(field)) - given[field]);
    if (width > 0) segments_.push_back({field, shift, (std::uint64_t{1} << width) - 1, width, placed[field]});
    placed[field] += width;
    shift += width;
  }
  if (shift > 64) refuse("more than 64 bits");
}

void AddressMapping::read_hash(std::string_view hash) {
  std::uint32_t shift = 0;
  for (const std::string_view word : words(hash)) {
    const auto known = std::find(kNames.begin(), kNames.end(), word);
    const auto field = static_cast<Field>(known - kNames.begin());
    if (known == kNames.end() || field == row || field == column) {
      refuse("'" + std::string(word) + "' is none of ra, bg, ba, ch, pc");
    }
    for (const Hash &other : hashes_) {
      if (other.field == field) refuse("'" + std::string(word) + "' is given twice");
    }
    const auto width = static_cast<std::uint32_t>(field_bits(field));
    hashes_.push_back({field, shift, (1u << width) - 1});
    shift += width;
  }
}

// The longest aligned run of bursts that differ in nothing but column, channel and the lowest bits of the bank.
void AddressMapping::find_block() {
  const auto field_at = [&](std::uint32_t bit) {
    for (const Segment &s : segments_) {
      if (bit >= s.shift && bit < s.shift + s.width) return s.field;
    }
    return row;
  };
  const auto is_bank = [](Field f) { return f == rank || f == bank_group || f == bank; };
  std::uint64_t pattern_mask = 0;
  bool columns = false;
  for (std::uint32_t bit = 0; bit < 40; ++bit) {
    const Field field = field_at(bit);
    if (field == row || (columns && is_bank(field))) break;
    if (field == column) columns = true;
    if (is_bank(field)) pattern_mask |= std::uint64_t{1} << bit;
    if (field == channel || field == pseudo) lane_mask_ |= std::uint64_t{1} << bit;
    block_bits_ = bit + 1;
  }
  grain_bits_ = lane_mask_ == 0 ? block_bits_ : static_cast<std::uint32_t>(std::countr_zero(lane_mask_));
  // Of row 0, which hashes nothing.
  pattern_.resize(std::size_t{1} << std::popcount(pattern_mask));
  for (std::uint64_t i = 0; i < pattern_.size(); ++i) pattern_[i] = place_of_burst(spread(i, pattern_mask)).bank;
  lane_channels_.resize(std::size_t{1} << std::popcount(lane_mask_));
  for (std::uint64_t i = 0; i < lane_channels_.size(); ++i) {
    lane_channels_[i] = place_of_burst(spread(i, lane_mask_)).channel;
  }
}

DramPlace AddressMapping::place_of_burst(std::uint64_t burst) const {
  std::array<std::uint32_t, field_count> value{};
  for (const Segment &s : segments_) {
    value[s.field] |= static_cast<std::uint32_t>((burst >> s.shift) & s.mask) << s.place;
  }
  for (const Hash &hash : hashes_) {
    value[hash.field] ^= (value[row] >> hash.row_shift) & hash.mask;
  }
  return {value[channel] * geometry_.pseudo_channels + value[pseudo],
          (value[rank] * geometry_.bank_groups + value[bank_group]) * geometry_.banks + value[bank], value[row],
          value[column]};
}

DramPlace AddressMapping::place(std::uint64_t address) const { return place_of_burst(address >> burst_shift_); }

// Bursts below `in_block` of a block whose channel bits are those of `lane`.
std::uint64_t AddressMapping::first_in_lane(std::uint64_t in_block, std::uint64_t lane) const {
  const std::uint64_t differ = (in_block ^ lane) & lane_mask_;
  const std::uint64_t above_block = in_block >> block_bits_;  // the end of a block is one past its last burst
  if (above_block != 0) return std::uint64_t{1} << (block_bits_ - std::popcount(lane_mask_));
  if (differ == 0) return without(in_block, lane_mask_);
  const auto top = static_cast<std::uint32_t>(std::bit_width(differ) - 1);
  const std::uint64_t low = (std::uint64_t{1} << top) - 1;
  const auto free_below = static_cast<std::uint32_t>(top - std::popcount(lane_mask_ & low));
  const std::uint64_t whole = without(in_block >> top, lane_mask_ >> top);
  return (whole + (lane >> top & 1 ? 0 : 1)) << free_below;
}

void AddressMapping::parts_of_block(std::uint64_t block, std::uint64_t from, std::uint64_t to,
                                    std::vector<Part> &parts) const {
  const std::uint64_t base = block << block_bits_;
  const DramPlace origin = place_of_burst(base);
  const auto add = [&](std::uint64_t number, std::uint64_t first, std::uint64_t count) {
    parts.push_back({origin.channel ^ lane_channels_[number],
                     {origin.row, origin.bank, static_cast<std::uint32_t>(first & (pattern_.size() - 1)),
                      static_cast<std::uint32_t>(count)}});
  };
  if (lane_mask_ == 0) return add(0, from, to - from);
  if (to - from == 1) return add(without(from, ~lane_mask_), without(from, lane_mask_), 1);
  const std::uint64_t lanes = std::uint64_t{1} << std::popcount(lane_mask_);
  // Each channel once, in the order in which the range comes to them.
  std::uint64_t found = 0;
  std::array<std::uint64_t, 16> seen{};
  for (std::uint64_t grain = from >> grain_bits_; grain <= (to - 1) >> grain_bits_ && found < lanes; ++grain) {
    const std::uint64_t lane = (grain << grain_bits_) & lane_mask_;
    const std::uint64_t number = without(lane, ~lane_mask_);
    if (number < 1024) {
      std::uint64_t &word = seen[number / 64];
      if (word >> (number % 64) & 1) continue;
      word |= std::uint64_t{1} << (number % 64);
    }
    ++found;
    const std::uint64_t first = first_in_lane(from, lane);
    const std::uint64_t end = first_in_lane(to, lane);
    add(number, first, end - first);
  }
}

std::uint64_t AddressMapping::bursts(std::uint64_t offset, std::uint64_t span, std::uint64_t bytes) const {
  if (span == 0 || bytes == 0) return 0;
  const std::uint64_t first = offset >> burst_shift_;
  const std::uint64_t covered = ((offset + span - 1) >> burst_shift_) + 1 - first;
  if (bytes >= span) return covered;
  return std::min(covered, (bytes + geometry_.burst_bytes - 1) >> burst_shift_);
}

void AddressMapping::parts(std::uint64_t offset, std::uint64_t span, std::uint64_t bytes,
                           std::vector<Part> &parts) const {
  parts.clear();
  const std::uint64_t wanted = bursts(offset, span, bytes);
  if (wanted == 0) return;
  const std::uint64_t first = offset >> burst_shift_;
  const std::uint64_t end = ((offset + span - 1) >> burst_shift_) + 1;
  const std::uint64_t covered = end - first;
  const std::uint64_t block_size = std::uint64_t{1} << block_bits_;
  const std::uint64_t first_block = first >> block_bits_;
  const std::uint64_t last_block = (end - 1) >> block_bits_;
  const auto share = [&](std::uint64_t position) {  // of the wanted, that lie before
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(wanted) * (position - first) / covered);
  };
  if (wanted < covered && wanted <= last_block - first_block + 1) {
    for (std::uint64_t i = 0; i < wanted; ++i) {
      const auto step = static_cast<std::uint64_t>(static_cast<unsigned __int128>(covered) * i / wanted);
      const std::uint64_t burst = first + step;
      parts_of_block(burst >> block_bits_, burst & (block_size - 1), (burst & (block_size - 1)) + 1, parts);
    }
    return;
  }
  for (std::uint64_t block = first_block; block <= last_block; ++block) {
    const std::uint64_t base = block << block_bits_;
    const std::uint64_t from = std::max(first, base);
    const std::uint64_t to = std::min(end, base + block_size);
    const std::size_t begin = parts.size();
    parts_of_block(block, from - base, to - base, parts);
    if (wanted == covered) continue;
    // Each channel's share of this block's share.
    const std::uint64_t target = share(to) - share(from);
    std::uint64_t passed = 0;
    std::uint64_t taken = 0;
    for (std::size_t i = begin; i < parts.size(); ++i) {
      passed += parts[i].strip.bursts;
      const std::uint64_t upto = target * passed / (to - from);
      parts[i].strip.bursts = static_cast<std::uint32_t>(upto - taken);
      taken = upto;
    }
    parts.erase(std::remove_if(parts.begin() + static_cast<std::ptrdiff_t>(begin), parts.end(),
                               [](const Part &part) { return part.strip.bursts == 0; }),
                parts.end());
  }
}

}  // namespace cx::hw
