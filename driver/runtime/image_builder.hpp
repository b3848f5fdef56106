// Assembles the image that the firmware launches.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cx {

/// CRC-32 (IEEE, reflected), as in program headers and containers. seed: the result for the bytes before.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t seed = 0);

/// Collects constants and instruction streams. Layout: header, stream table, constants, streams. Constants come first
/// so that their offsets are final as soon as they are added, while instructions that name them are still being made.
/// Offsets are from the image's start, which is segment 0 of the launch; the runtime places it at a multiple of
/// kMaxAlign.
class ImageBuilder {
 public:
  using Encoded = std::array<uint8_t, 32>;  ///< isa::Inst of hw/regs/gen/isa.hpp
  static constexpr uint64_t kMaxAlign = 4096;

  ImageBuilder();

  /// Appends bytes (may be empty) and returns their offset, a multiple of `align` (a power of two up to kMaxAlign).
  uint64_t add_constants(std::span<const std::byte> bytes, uint64_t align = 64);
  /// The same for bytes that the caller writes into constants().
  uint64_t add_room(uint64_t bytes, uint64_t align = 64);
  /// Takes back what was added since constants().size() was `size`.
  void cut_constants(uint64_t size) { bytes_.resize(size); }

  /// Room for so many bytes of constants and instructions, so that adding them does not move what is there.
  void reserve(uint64_t bytes) { bytes_.reserve(bytes_.size() + bytes); }

  /// All up to the last constant; offsets count from its begin. Valid until more is added.
  std::span<std::byte> constants() { return bytes_; }

  /// engine: isa engine number; each may be added once. Throws UsageError for an unknown or repeated engine, an empty
  /// stream, or one that does not end in END.
  void add_stream(uint32_t engine, std::span<const Encoded> instructions);

  /// segment_count: segments that the program uses, the image included. sca_tiles: as in ImageInfo. The builder is
  /// empty afterwards. Throws UsageError when there is no stream, OutOfMemoryError when the image exceeds 2^32 - 1
  /// bytes.
  std::vector<std::byte> finish(uint64_t arch_hash, uint32_t segment_count, uint32_t sca_tiles = 0);

 private:
  struct Stream {
    uint32_t engine;
    std::vector<Encoded> instructions;
  };
  std::vector<std::byte> bytes_;
  std::vector<Stream> streams_;
};

/// Header and stream table of an image, checked.
struct ImageInfo {
  struct Stream {
    uint32_t engine = 0;
    uint32_t count = 0;   ///< instructions
    uint64_t offset = 0;  ///< of the first, from the image's start
  };
  uint64_t arch_hash = 0;
  uint64_t image_bytes = 0;
  uint32_t segment_count = 0;
  uint32_t sca_tiles = 0;  ///< slots of a shared array that are sparse tiles while the program runs; 0 on other chips
  std::vector<Stream> streams;
};

/// Throws InputError with the offset of the first field that is wrong and what was expected.
ImageInfo parse_image(std::span<const std::byte> image);

}  // namespace cx
