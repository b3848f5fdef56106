// Bit strings that fill each byte from its lowest bit, and little-endian words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hw/common/num/whole.hpp"

namespace cx::sparse {

using num::round_up;

constexpr size_t bits_to_bytes(size_t bits) { return (bits + 7) / 8; }

/// Bits of a position among m rows.
constexpr unsigned position_bits(unsigned m) {
  unsigned bits = 0;
  while ((1u << bits) < m) ++bits;
  return bits;
}
/// Slots of a structured column.
constexpr size_t slots_of(size_t k, size_t n, size_t m) {
  const size_t rest = k % m;
  return k / m * n + (rest < n ? rest : n);
}

inline void append_word(std::vector<uint8_t> &bytes, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
}
inline uint32_t word_at(std::span<const uint8_t> bytes, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= static_cast<uint32_t>(bytes[offset + i]) << (8 * i);
  return value;
}

class BitWriter {
 public:
  explicit BitWriter(std::vector<uint8_t> &bytes) : bytes_(bytes) {}
  void put(uint32_t value, unsigned bits) {
    for (unsigned i = 0; i < bits; ++i, ++used_) {
      if (used_ % 8 == 0) bytes_.push_back(0);
      bytes_.back() |= static_cast<uint8_t>((value >> i & 1) << (used_ % 8));
    }
  }
  size_t bits() const { return used_; }

 private:
  std::vector<uint8_t> &bytes_;
  size_t used_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  size_t left() const { return bytes_.size() * 8 - used_; }
  size_t byte() const { return used_ / 8; }  ///< of the next bit
  /// The caller has made sure that the bits are there.
  uint32_t take(unsigned bits) {
    uint32_t value = 0;
    unsigned have = 0;
    while (have < bits) {
      const unsigned shift = used_ % 8;
      const unsigned step = bits - have < 8 - shift ? bits - have : 8 - shift;
      value |= (static_cast<uint32_t>(bytes_[used_ / 8]) >> shift & ((1u << step) - 1)) << have;
      have += step;
      used_ += step;
    }
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t used_ = 0;
};

}  // namespace cx::sparse
