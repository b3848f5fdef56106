#include "hw/dmmu/tile_port.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cx::hw {

std::vector<uint64_t> tile_moments(uint64_t &seed, uint64_t rows, uint64_t gap, uint64_t stream) {
  std::vector<uint64_t> result;
  if (seed == 0) return result;
  const uint64_t slack = stream - 1 - (rows - 1) * gap;
  for (uint64_t i = 0; i < rows; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    result.push_back(i + 1 == rows ? slack : (seed >> 33) % (slack + 1));
  }
  std::sort(result.begin(), result.end());
  for (uint64_t i = 0; i < rows; ++i) result[i] += i * gap;
  return result;
}

void tile_scribble(uint64_t &seed, TilePort &port, uint64_t row, size_t used) {
  if (seed == 0) return;
  for (size_t i = used; i < port.width(); ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    port.row(row)[i] = static_cast<uint32_t>(seed >> 32);
  }
}

namespace {

template <typename Element>
void spread_elements(const std::byte *from, ptrdiff_t stride, uint32_t count, uint32_t pack, uint32_t *words,
                     size_t word_step) {
  const auto element = [&](size_t i) {
    Element value;
    std::memcpy(&value, from + static_cast<ptrdiff_t>(i) * stride, sizeof value);
    return uint32_t{value};
  };
  if (pack == sizeof(uint32_t) && word_step == 1 && stride == 1 && std::endian::native == std::endian::little) {
    std::memcpy(words, from, count);
    return;
  }
  if (pack == 1 && word_step == 1 && stride == sizeof(Element)) {
    // The common case on its own, so that the compiler makes vectors of it.
    for (size_t i = 0; i < count; ++i) {
      Element value;
      std::memcpy(&value, from + i * sizeof value, sizeof value);
      words[i] = value;
    }
    return;
  }
  for (uint32_t i = 0; i < count; ++i) words[i / pack * word_step] |= element(i) << (8 * (i % pack));
}

}  // namespace

void tile_spread(const std::byte *from, ptrdiff_t stride, size_t bytes, uint32_t count, uint32_t pack, uint32_t *words,
                 size_t word_step) {
  if (bytes == 1) return spread_elements<uint8_t>(from, stride, count, pack, words, word_step);
  if (bytes == 2) return spread_elements<uint16_t>(from, stride, count, pack, words, word_step);
  return spread_elements<uint32_t>(from, stride, count, pack, words, word_step);
}

}  // namespace cx::hw
