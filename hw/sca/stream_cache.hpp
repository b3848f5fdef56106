// Decoded streams of compressed weights. Programs multiply block after block of activations by the same weights, and
// decoding costs the host several times what the multiplication does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "hw/sca/sca_timing.hpp"

namespace cx::hw {

struct DecodedStream {
  SparseColumns columns;
  uint64_t stored = 0;                ///< weights in the stream, zeros that it stores included
  std::vector<uint32_t> group_bytes;  ///< of each group of columns in the stream
};

/// Keeps what was used last, up to a limit. An entry is found by all that decoding depends on, every byte of the stream
/// included, so that a stream that is overwritten is another one.
class StreamCache {
 public:
  /// Entries are looked through one by one.
  static constexpr size_t kMostEntries = 256;

  /// What an instruction says of the stream beside its place and length.
  struct Key {
    uint8_t format = 0, dtype = 0;
    uint16_t p0 = 0, p1 = 0;
    uint32_t k = 0, n = 0;
    bool operator==(const Key &) const = default;
  };

  /// limit: bytes of streams and decoded weights together.
  explicit StreamCache(size_t limit) : limit_(limit) {}

  /// nullptr if it is not there.
  std::shared_ptr<const DecodedStream> find(const Key &key, std::span<const uint8_t> stream);
  /// Copies the stream. What is larger than the limit is not kept. The caller has not found it.
  void add(const Key &key, std::span<const uint8_t> stream, std::shared_ptr<const DecodedStream> decoded);

  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    Key key;
    std::vector<uint8_t> stream;
    std::shared_ptr<const DecodedStream> decoded;
    size_t bytes;
  };

  size_t limit_;
  size_t bytes_ = 0;
  std::list<Entry> entries_;  // the one used last is first
};

}  // namespace cx::hw
