#include "hw/sca/stream_cache.hpp"

#include <algorithm>
#include <utility>

namespace cx::hw {
namespace {

size_t bytes_of(std::span<const uint8_t> stream, const DecodedStream &decoded) {
  const SparseColumns &columns = decoded.columns;
  return stream.size() + columns.rows.size() * (sizeof columns.rows[0] + sizeof columns.raw[0]) +
         (columns.starts.size() + decoded.group_bytes.size()) * sizeof(uint32_t);
}

}  // namespace

std::shared_ptr<const DecodedStream> StreamCache::find(const Key &key, std::span<const uint8_t> stream) {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const Entry &entry) {
    return entry.key == key && std::equal(stream.begin(), stream.end(), entry.stream.begin(), entry.stream.end());
  });
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return found->decoded;
}

void StreamCache::add(const Key &key, std::span<const uint8_t> stream, std::shared_ptr<const DecodedStream> decoded) {
  const size_t bytes = bytes_of(stream, *decoded);
  if (bytes > limit_) return;
  while (bytes_ + bytes > limit_ || entries_.size() == kMostEntries) {
    bytes_ -= entries_.back().bytes;
    entries_.pop_back();
  }
  entries_.push_front({key, {stream.begin(), stream.end()}, std::move(decoded), bytes});
  bytes_ += bytes;
}

}  // namespace cx::hw
