#include "driver/runtime/content_index.hpp"

#include <algorithm>
#include <functional>
#include <string_view>

namespace cx {

std::optional<uint64_t> ContentIndex::find_or_add(std::span<const std::byte> all, uint64_t offset, uint64_t size) {
  const std::span<const std::byte> bytes = all.subspan(offset, size);
  const uint64_t hash =
      std::hash<std::string_view>{}(std::string_view(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
  const auto [first, last] = ranges_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const Range &range = it->second;
    if (range.size == size && std::ranges::equal(all.subspan(range.offset, size), bytes)) return range.offset;
  }
  ranges_.emplace(hash, Range{offset, size});
  return std::nullopt;
}

void ContentIndex::cut(uint64_t size) {
  std::erase_if(ranges_, [size](const auto &entry) { return entry.second.offset + entry.second.size > size; });
}

}  // namespace cx
