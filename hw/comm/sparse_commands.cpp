#include "hw/comm/sparse_commands.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "hw/common/num/formats.hpp"

namespace cx::hw::net {

namespace {

constexpr std::uint32_t kInfinity = 0x7f800000;
constexpr unsigned kRounds = 3;  // of digits; one more finds the ties
constexpr unsigned kShift[kRounds] = {20, 10, 0};

// Ordered as magnitudes are.
std::uint32_t magnitude(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return std::min(bits & 0x7fffffffu, kInfinity);
}

struct Pair {
  std::uint32_t index;
  float value;
};

Pair pair_at(const std::byte *pairs, std::size_t i) {
  Pair pair;
  std::memcpy(&pair, pairs + kPairBytes * i, kPairBytes);
  return pair;
}

void put_pair(std::byte *pairs, std::size_t i, std::uint32_t index, float value) {
  const Pair pair{index, value};
  std::memcpy(pairs + kPairBytes * i, &pair, kPairBytes);
}

void below(std::uint32_t index, std::uint64_t elements) {
  if (index >= elements)
    throw CommDataError("element " + std::to_string(index) + " of a vector of " + std::to_string(elements));
}

std::uint32_t most_digit(unsigned round) { return round == 0 ? 0x7ff : 0x3ff; }
std::uint32_t digit_of(std::uint32_t key, unsigned round) { return key >> kShift[round] & most_digit(round); }
// What the rounds before `round` have found.
std::uint32_t higher(std::uint32_t key, unsigned round) { return round == 0 ? 0 : key >> kShift[round - 1]; }

// The highest digit down to which there are `left` elements; `left` becomes what is missing above it.
std::uint32_t find_digit(const std::uint32_t *counts, unsigned round, std::uint64_t &left) {
  std::uint32_t digit = most_digit(round);
  while (digit > 0 && counts[digit] < left) left -= counts[digit--];
  return digit;
}

struct Selection {
  cx_comm_selection head;
  const std::byte *cuts;
  std::uint32_t cut(std::uint32_t part) const {
    std::uint32_t value;
    std::memcpy(&value, cuts + 4 * std::uint64_t{part}, 4);
    return value;
  }
};

Selection read_selection(const std::byte *block, std::uint64_t room) {
  Selection selection;
  if (room < sizeof selection.head) throw CommDataError("a selection beyond the memory");
  std::memcpy(&selection.head, block, sizeof selection.head);
  selection.cuts = block + sizeof selection.head;
  const std::uint32_t parts = selection.head.parts;
  if (parts == 0 || parts > CX_COMM_DIGITS || room - sizeof selection.head < 4 * (std::uint64_t{parts} + 1) ||
      selection.cut(0) != 0 || selection.cut(parts) != selection.head.elements)
    throw CommDataError("no selection");
  for (std::uint32_t p = 0; p < parts; ++p) {
    if (selection.cut(p) > selection.cut(p + 1)) throw CommDataError("a selection whose cuts do not rise");
  }
  return selection;
}

Selection read_part(const std::byte *block, std::uint64_t room, std::uint32_t part, std::uint64_t elements) {
  const Selection selection = read_selection(block, room);
  if (part >= selection.head.parts)
    throw CommDataError("part " + std::to_string(part) + " of " + std::to_string(selection.head.parts));
  if (selection.head.elements != elements)
    throw CommDataError("a selection of " + std::to_string(selection.head.elements) + " elements, expected " +
                        std::to_string(elements));
  return selection;
}

}  // namespace

void select_largest(const float *source, float *residual, std::size_t count, std::size_t k, std::byte *pairs) {
  for (std::size_t i = 0; i < count; ++i) residual[i] = source[i] + residual[i];
  std::uint32_t threshold = 0;
  std::uint64_t left = k;
  for (unsigned round = 0; round < kRounds; ++round) {
    std::array<std::uint32_t, CX_COMM_DIGITS> counts{};
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t key = magnitude(residual[i]);
      if (higher(key, round) == higher(threshold, round)) ++counts[digit_of(key, round)];
    }
    threshold |= find_digit(counts.data(), round, left) << kShift[round];
  }
  std::size_t taken = 0;
  for (std::size_t i = 0; i < count && taken < k; ++i) {
    const std::uint32_t key = magnitude(residual[i]);
    if (key < threshold || (key == threshold && left == 0)) continue;
    if (key == threshold) --left;
    put_pair(pairs, taken++, static_cast<std::uint32_t>(i), residual[i]);
    residual[i] = 0;
  }
}

void scatter_add(const std::byte *pairs, std::size_t count, float *target, std::uint64_t elements) {
  for (std::size_t i = 0; i < count; ++i) below(pair_at(pairs, i).index, elements);
  for (std::size_t i = 0; i < count; ++i) {
    const Pair pair = pair_at(pairs, i);
    target[pair.index] += pair.value;
  }
}

void count_indices(const std::byte *pairs, std::size_t count, std::uint64_t elements, std::uint32_t bins,
                   std::uint32_t *counts) {
  std::fill_n(counts, bins, 0u);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t index = pair_at(pairs, i).index;
    below(index, elements);
    ++counts[std::uint64_t{index} * bins / elements];
  }
}

void cut_index_space(const std::uint32_t *counts, std::size_t bins, std::uint64_t elements, std::uint32_t parts,
                     std::byte *block) {
  const cx_comm_selection head{static_cast<std::uint32_t>(elements), parts, 0, 0, 0};
  std::memcpy(block, &head, sizeof head);
  std::uint64_t total = 0;
  for (std::size_t b = 0; b < bins; ++b) total += counts[b];
  std::uint64_t sum = 0;
  std::size_t bin = 0;
  for (std::uint32_t p = 0; p <= parts; ++p) {
    while (bin < bins && sum * parts < std::uint64_t{p} * total) sum += counts[bin++];
    // The last part has everything that is left.
    const std::uint64_t first = p == parts ? elements : (bin * elements + bins - 1) / bins;
    const auto cut = static_cast<std::uint32_t>(first);
    std::memcpy(block + sizeof head + 4 * std::uint64_t{p}, &cut, 4);
  }
}

std::vector<cx_comm_extent> partition(const std::byte *pairs, std::size_t count, std::uint64_t offset,
                                      const std::byte *block, std::uint64_t room, std::uint32_t parts) {
  const Selection selection = read_selection(block, room);
  if (selection.head.parts != parts)
    throw CommDataError("a selection of " + std::to_string(selection.head.parts) + " parts, expected " +
                        std::to_string(parts));
  std::vector<cx_comm_extent> extents(parts);
  std::size_t i = 0;
  std::uint64_t least = 0;
  for (std::uint32_t p = 0; p < parts; ++p) {
    const std::size_t first = i;
    for (; i < count; ++i) {
      const std::uint32_t index = pair_at(pairs, i).index;
      if (index < least) throw CommDataError("element " + std::to_string(index) + " follows one that is not below it");
      if (index >= selection.cut(p + 1)) break;
      least = std::uint64_t{index} + 1;
    }
    extents[p] = {offset + kPairBytes * first, kPairBytes * (i - first)};
  }
  if (i < count) below(pair_at(pairs, i).index, selection.head.elements);
  return extents;
}

void count_magnitudes(const float *vector, std::uint64_t elements, const std::byte *block, std::uint64_t room,
                      std::uint32_t part, std::uint32_t *counts) {
  const Selection selection = read_part(block, room, part, elements);
  const unsigned round = selection.head.round;
  if (round > kRounds) throw CommDataError("a selection after its last round");
  std::fill_n(counts, CX_COMM_DIGITS, 0u);
  const std::uint32_t threshold = selection.head.threshold;
  for (std::uint32_t i = selection.cut(part); i < selection.cut(part + 1); ++i) {
    const std::uint32_t key = magnitude(vector[i]);
    if (key == 0) continue;
    if (round == kRounds) {
      counts[part] += key == threshold ? 1 : 0;
    } else if (higher(key, round) == higher(threshold, round)) {
      ++counts[digit_of(key, round)];
    }
  }
}

void narrow_selection(const std::uint32_t *counts, std::byte *block, std::uint64_t room, std::uint32_t part,
                      std::uint64_t wanted) {
  cx_comm_selection head = read_selection(block, room).head;
  if (head.round > kRounds) throw CommDataError("a selection after its last round");
  if (part >= head.parts) throw CommDataError("part " + std::to_string(part) + " of " + std::to_string(head.parts));
  std::uint64_t left = head.left;
  if (head.round == kRounds) {
    for (std::uint32_t p = 0; p < part; ++p) left -= std::min<std::uint64_t>(left, counts[p]);
    left = std::min<std::uint64_t>(left, counts[part]);
  } else {
    if (head.round == 0) {
      std::uint64_t total = 0;
      for (std::uint32_t d = 0; d < CX_COMM_DIGITS; ++d) total += counts[d];
      left = std::min(wanted, total);
    }
    head.threshold |= find_digit(counts, head.round, left) << kShift[head.round];
  }
  head.left = static_cast<std::uint32_t>(left);
  ++head.round;
  std::memcpy(block, &head, sizeof head);
}

std::size_t take_selected(float *vector, std::uint64_t elements, const std::byte *block, std::uint64_t room,
                          std::uint32_t part, std::byte *pairs, std::size_t most) {
  const Selection selection = read_part(block, room, part, elements);
  if (selection.head.round != kRounds + 1) throw CommDataError("a selection before its last round");
  std::uint32_t left = selection.head.left;
  std::size_t taken = 0;
  for (std::uint32_t i = selection.cut(part); i < selection.cut(part + 1); ++i) {
    const std::uint32_t key = magnitude(vector[i]);
    const bool tie = key == selection.head.threshold;
    if (key != 0 && (key > selection.head.threshold || (tie && left > 0))) {
      if (tie) --left;
      if (taken == most) throw CommDataError("more elements than there is room for");
      put_pair(pairs, taken++, i, vector[i]);
    } else {
      vector[i] = 0;
    }
  }
  return taken;
}

void retain(const std::byte *pairs, std::size_t count, const float *result, float *residual, std::uint64_t elements) {
  for (std::size_t i = 0; i < count; ++i) {
    const Pair pair = pair_at(pairs, i);
    below(pair.index, elements);
    if (result[pair.index] == 0) residual[pair.index] = pair.value;
  }
}

namespace {

constexpr std::uint32_t kSkip = 65535;  // of a gap: that many elements without a pair

std::uint16_t narrowed(int format, float value) {
  if (std::isfinite(value)) {
    const float most = format == CX_COMM_FP16 ? num::decode_fp16(0x7bff) : num::decode_bf16(0x7f7f);
    value = std::clamp(value, -most, most);
  }
  return format == CX_COMM_FP16 ? num::encode_fp16(value) : num::encode_bf16(value);
}

float widened(int format, std::uint16_t bits) {
  return format == CX_COMM_FP16 ? num::decode_fp16(bits) : num::decode_bf16(bits);
}

template <class Word>
Word word_at(const std::byte *at, std::size_t i) {
  Word word;
  std::memcpy(&word, at + sizeof word * i, sizeof word);
  return word;
}

template <class Word>
void put_word(std::byte *at, std::size_t i, Word word) {
  std::memcpy(at + sizeof word * i, &word, sizeof word);
}

// Calls pair(i, index) for each of the `count` indices.
template <class Pair>
void each_index(std::uint8_t type, const std::byte *list, std::size_t count, std::uint64_t elements, Pair &&pair) {
  const std::uint64_t bytes = cx_comm_index_bytes(type, elements, count);
  if (type % 4 == CX_COMM_LIST_INDEX) {
    std::uint64_t least = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto index = word_at<std::uint32_t>(list, i);
      below(index, elements);
      if (index < least) throw CommDataError("element " + std::to_string(index) + " follows one that is not below it");
      least = std::uint64_t{index} + 1;
      pair(i, index);
    }
  } else if (type % 4 == CX_COMM_LIST_GAPS) {
    std::uint64_t next = 0;
    std::size_t i = 0;
    const std::uint64_t words = count + (elements - 1) / kSkip;
    for (std::uint64_t w = 0; w < bytes / 2; ++w) {
      const std::uint32_t gap = word_at<std::uint16_t>(list, w);
      if (w >= words) {
        if (gap != 0) throw CommDataError("a list of gaps that is not padded with zeros");
      } else if (gap == kSkip) {
        next += kSkip;
      } else if (i == count) {
        throw CommDataError("a list of gaps with more pairs than " + std::to_string(count));
      } else {
        next += gap;
        if (next >= elements)
          throw CommDataError("element " + std::to_string(next) + " of a vector of " + std::to_string(elements));
        pair(i++, static_cast<std::uint32_t>(next++));
      }
    }
    if (i < count) throw CommDataError("a list of gaps with " + std::to_string(i) + " pairs, expected more");
  } else {
    std::size_t i = 0;
    for (std::uint64_t index = 0; index < 8 * bytes; ++index) {
      if ((std::to_integer<unsigned>(list[index / 8]) >> index % 8 & 1) == 0) continue;
      if (index >= elements) throw CommDataError("a bitmap with a bit beyond its elements");
      if (i == count) throw CommDataError("a bitmap with more bits than " + std::to_string(count));
      pair(i++, static_cast<std::uint32_t>(index));
    }
    if (i < count) throw CommDataError("a bitmap with " + std::to_string(i) + " bits, expected more");
  }
}

}  // namespace

void encode_list(std::uint8_t type, const std::byte *pairs, std::size_t count, std::uint64_t elements, float *residual,
                 std::byte *list) {
  std::uint64_t least = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t index = pair_at(pairs, i).index;
    below(index, elements);
    if (index < least) throw CommDataError("element " + std::to_string(index) + " follows one that is not below it");
    least = std::uint64_t{index} + 1;
  }
  std::memset(list, 0, cx_comm_list_bytes(type, elements, count));
  std::uint64_t next = 0;
  std::size_t words = 0;
  const int format = type / 4;
  std::byte *values = list + cx_comm_index_bytes(type, elements, count);
  for (std::size_t i = 0; i < count; ++i) {
    const Pair pair = pair_at(pairs, i);
    if (type % 4 == CX_COMM_LIST_INDEX) {
      put_word(list, i, pair.index);
    } else if (type % 4 == CX_COMM_LIST_GAPS) {
      for (; pair.index - next >= kSkip; next += kSkip) put_word<std::uint16_t>(list, words++, kSkip);
      put_word(list, words++, static_cast<std::uint16_t>(pair.index - next));
      next = std::uint64_t{pair.index} + 1;
    } else {
      list[pair.index / 8] |= static_cast<std::byte>(1u << pair.index % 8);
    }
    if (format == CX_COMM_FP32) {
      put_word(values, i, pair.value);
      continue;
    }
    const std::uint16_t bits = narrowed(format, pair.value);
    put_word(values, i, bits);
    if (std::isfinite(pair.value)) residual[pair.index] += pair.value - widened(format, bits);
  }
  if (type % 4 != CX_COMM_LIST_GAPS) return;
  while (words < count + (elements - 1) / kSkip) put_word<std::uint16_t>(list, words++, kSkip);
}

void decode_add(std::uint8_t type, const std::byte *list, std::size_t count, std::uint64_t elements, float *target) {
  const std::byte *values = list + cx_comm_index_bytes(type, elements, count);
  const int format = type / 4;
  each_index(type, list, count, elements, [](std::size_t, std::uint32_t) {});  // nothing is done of a list with errors
  each_index(type, list, count, elements, [&](std::size_t i, std::uint32_t index) {
    target[index] +=
        format == CX_COMM_FP32 ? word_at<float>(values, i) : widened(format, word_at<std::uint16_t>(values, i));
  });
}

std::uint64_t part_elements(const std::byte *block, std::uint64_t room, std::uint32_t part) {
  const Selection selection = read_selection(block, room);
  return part < selection.head.parts ? selection.cut(part + 1) - selection.cut(part) : 0;
}

}  // namespace cx::hw::net
