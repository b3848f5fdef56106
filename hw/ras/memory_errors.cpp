#include "hw/ras/memory_errors.hpp"

namespace cx::hw {

namespace {

constexpr std::uint64_t word_of(std::uint64_t address) { return address & ~(MemoryErrors::kWordBytes - 1); }

}  // namespace

void MemoryErrors::inject(std::uint64_t address, unsigned first, unsigned second) {
  words_[word_of(address)] = {first, second};
}

std::optional<std::uint64_t> MemoryErrors::next(std::uint64_t address, std::uint64_t end) const {
  const auto found = words_.lower_bound(word_of(address));
  if (found == words_.end() || found->first >= end) return std::nullopt;
  return found->first;
}

bool MemoryErrors::read_word(std::uint64_t word) {
  const auto found = words_.find(word);
  if (found == words_.end()) return true;
  const secded::Verdict verdict = secded::decode(found->second.first, found->second.second);
  const Report report{word, hooks_.channel ? hooks_.channel(word) : 0, verdict.syndrome, verdict.bit};
  if (!verdict.correctable) {
    if (hooks_.uncorrected) hooks_.uncorrected(report);
    return false;
  }
  words_.erase(found);
  if (hooks_.corrected) hooks_.corrected(report);
  return true;
}

std::optional<std::uint64_t> MemoryErrors::read(std::uint64_t address, std::uint64_t bytes) {
  std::optional<std::uint64_t> bad;
  for (auto word = next(address, address + bytes); word; word = next(*word + kWordBytes, address + bytes)) {
    if (!read_word(*word) && !bad) bad = *word;
  }
  return bad;
}

void MemoryErrors::write_word(std::uint64_t word, bool whole) {
  if (whole) {
    words_.erase(word);
  } else {
    const auto found = words_.find(word);
    if (found != words_.end() && secded::decode(found->second.first, found->second.second).correctable) read_word(word);
  }
}

void MemoryErrors::write(std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t end = address + bytes;
  for (auto word = next(address, end); word; word = next(*word + kWordBytes, end)) {
    write_word(*word, *word >= address && *word + kWordBytes <= end);
  }
}

}  // namespace cx::hw
