// Errors of a memory that is protected by a single-error-correcting, double-error-detecting code.
#ifndef HW_RAS_MEMORY_ERRORS_HPP
#define HW_RAS_MEMORY_ERRORS_HPP

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>

namespace cx::hw {

// Extended Hamming code over 64 data bits: bit 0 of the word of 72 is the parity of all, bits 1, 2, 4, ... 64 are check
// bits, the others hold the data. The syndrome of a word is the exclusive or of the numbers of its wrong bits.
namespace secded {
constexpr unsigned kBits = 72;
struct Verdict {
  std::uint8_t syndrome;  // of bits 1 to 71; bit 7: the parity of the word is wrong
  bool correctable;
  std::uint8_t bit;  // that the decoder corrects; 0xff: none
};
// `first` and `second`: wrong bits, different; no second: kBits.
constexpr Verdict decode(unsigned first, unsigned second) {
  const unsigned position = first ^ (second < kBits ? second : 0);
  const bool odd = second >= kBits;
  const auto syndrome = static_cast<std::uint8_t>(position | (odd ? 0x80u : 0));
  return odd ? Verdict{syndrome, true, static_cast<std::uint8_t>(position)} : Verdict{syndrome, false, 0xff};
}
}  // namespace secded

// The memory's bytes themselves stay right; this is the list of words whose cells are wrong, which is normally empty.
// Who moves data by pointer asks it first.
class MemoryErrors {
 public:
  static constexpr std::uint64_t kWordBytes = 8;

  struct Report {
    std::uint64_t address = 0;  // on the NoC, of the word
    std::uint32_t channel = 0;
    std::uint8_t syndrome = 0;
    std::uint8_t bit = 0xff;
  };
  struct Hooks {
    std::function<void(const Report &)> corrected, uncorrected;
    std::function<std::uint32_t(std::uint64_t address)> channel;
  };

  // Addresses are those of the NoC.
  void connect(Hooks hooks) { hooks_ = std::move(hooks); }

  bool empty() const { return words_.empty(); }

  // Makes bits of the word that holds `address` wrong, instead of those that are. second == secded::kBits: only one.
  void inject(std::uint64_t address, unsigned first, unsigned second);

  // First word at or after `address` and before `end` that is wrong.
  std::optional<std::uint64_t> next(std::uint64_t address, std::uint64_t end) const;

  // The word at `word` is read. A correctable error is corrected, reported and written back, so that it is gone.
  // Returns false for one that is not, which stays.
  bool read_word(std::uint64_t word);
  // Reads every word that [address, address + bytes) touches: address of the first that cannot be corrected.
  std::optional<std::uint64_t> read(std::uint64_t address, std::uint64_t bytes);
  // New contents for [address, address + bytes). Words that are written in part are read first; one that cannot be
  // corrected stays wrong.
  void write(std::uint64_t address, std::uint64_t bytes);
  void write_word(std::uint64_t word, bool whole);

  void clear() { words_.clear(); }

 private:
  struct Bits {
    unsigned first, second;
  };
  Hooks hooks_;
  std::map<std::uint64_t, Bits> words_;  // by address
};

}  // namespace cx::hw

#endif
