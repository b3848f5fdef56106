// Where byte strings lie in a larger one, by their content.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>

namespace cx {

class ContentIndex {
 public:
  /// Offset of a known range of `all` with the content of [offset, offset + size); when there is none, that range
  /// becomes known. Ranges stay as they are while they are known; `all` may move.
  std::optional<uint64_t> find_or_add(std::span<const std::byte> all, uint64_t offset, uint64_t size);
  /// Forgets ranges that end behind `size`.
  void cut(uint64_t size);

 private:
  struct Range {
    uint64_t offset, size;
  };
  std::multimap<uint64_t, Range> ranges_;  // by a hash of the content
};

}  // namespace cx
