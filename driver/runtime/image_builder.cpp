#include "driver/runtime/image_builder.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <sstream>

#include "driver/include/cx/error.hpp"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/packets.h"

namespace cx {

namespace {

constexpr uint64_t kInstructionBytes = sizeof(ImageBuilder::Encoded);
constexpr uint64_t kTableOffset = sizeof(cx_program_header);
constexpr uint64_t kConstantsOffset = kTableOffset + isa::kEngineCount * sizeof(cx_stream_entry);
constexpr uint16_t kImageVersion = 1;
constexpr uint32_t kMaxSegments = 64;

std::array<std::array<uint32_t, 256>, 8> make_crc_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
    tables[0][i] = value;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (int t = 1; t < 8; ++t) tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 0xff];
  }
  return tables;
}

std::string engine_name(uint32_t engine) {
  if (engine >= isa::kEngineCount) return std::to_string(engine);
  return std::string(isa::to_string(static_cast<isa::Engine>(engine)));
}

[[noreturn]] void bad(uint64_t offset, const std::string &text) {
  std::ostringstream message;
  message << "program image, offset " << offset << ": " << text;
  throw InputError(message.str());
}

template <class T>
std::string is_not(const char *field, T value, const std::string &expected) {
  std::ostringstream text;
  text << field << " is 0x" << std::hex << +value << ", expected " << expected;
  return text.str();
}

uint32_t image_crc(std::span<const std::byte> image, uint64_t table, uint64_t table_bytes) {
  cx_program_header header;
  std::memcpy(&header, image.data(), sizeof header);
  header.crc = 0;
  return crc32(image.subspan(table, table_bytes), crc32(std::as_bytes(std::span(&header, 1))));
}

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t seed) {
  static const auto tables = make_crc_tables();
  uint32_t crc = ~seed;
  const auto *p = reinterpret_cast<const uint8_t *>(bytes.data());
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, p += 8) {
    uint32_t low, high;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + 4, 4);
    low ^= crc;
    crc = tables[7][low & 0xff] ^ tables[6][low >> 8 & 0xff] ^ tables[5][low >> 16 & 0xff] ^ tables[4][low >> 24] ^
          tables[3][high & 0xff] ^ tables[2][high >> 8 & 0xff] ^ tables[1][high >> 16 & 0xff] ^ tables[0][high >> 24];
  }
  for (; left; --left, ++p) crc = crc >> 8 ^ tables[0][(crc ^ *p) & 0xff];
  return ~crc;
}

ImageBuilder::ImageBuilder() : bytes_(kConstantsOffset) {}

uint64_t ImageBuilder::add_constants(std::span<const std::byte> bytes, uint64_t align) {
  const uint64_t offset = add_room(bytes.size(), align);
  std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  return offset;
}

uint64_t ImageBuilder::add_room(uint64_t bytes, uint64_t align) {
  if (!std::has_single_bit(align) || align > kMaxAlign)
    throw UsageError("alignment of constants is " + std::to_string(align));
  const uint64_t offset = (bytes_.size() + align - 1) & ~(align - 1);
  bytes_.resize(offset + bytes);
  return offset;
}

void ImageBuilder::add_stream(uint32_t engine, std::span<const Encoded> instructions) {
  if (engine >= isa::kEngineCount)
    throw UsageError("stream for engine " + std::to_string(engine) + ", which does not exist");
  for (const Stream &stream : streams_) {
    if (stream.engine == engine) throw UsageError("engine " + engine_name(engine) + " has a stream already");
  }
  if (instructions.empty() || isa::opcode_of(instructions.back()) != isa::Opcode::END) {
    throw UsageError("the stream of engine " + engine_name(engine) + " does not end in END");
  }
  if (instructions.size() > UINT32_MAX / kInstructionBytes) {
    throw OutOfMemoryError("the stream of engine " + engine_name(engine) + " has " +
                           std::to_string(instructions.size()) + " instructions");
  }
  streams_.push_back({engine, {instructions.begin(), instructions.end()}});
}

std::vector<std::byte> ImageBuilder::finish(uint64_t arch_hash, uint32_t segment_count, uint32_t sca_tiles) {
  if (streams_.empty()) throw UsageError("a program image without streams");
  if (segment_count < 1 || segment_count > kMaxSegments) {
    throw UsageError("a program image with " + std::to_string(segment_count) + " segments, expected 1 to " +
                     std::to_string(kMaxSegments));
  }
  uint64_t size = bytes_.size();
  for (size_t i = 0; i < streams_.size(); ++i) {
    size = (size + kInstructionBytes - 1) & ~(kInstructionBytes - 1);
    cx_stream_entry entry{};
    entry.engine = streams_[i].engine;
    entry.count = static_cast<uint32_t>(streams_[i].instructions.size());
    entry.offset = size;
    std::memcpy(bytes_.data() + kTableOffset + i * sizeof entry, &entry, sizeof entry);
    size += streams_[i].instructions.size() * kInstructionBytes;
  }
  if (size > UINT32_MAX)
    throw OutOfMemoryError("the program image has " + std::to_string(size) + " bytes, at most 2^32 - 1 are possible");
  bytes_.reserve(size);
  for (const Stream &stream : streams_) {
    bytes_.resize((bytes_.size() + kInstructionBytes - 1) & ~(kInstructionBytes - 1));
    const auto source = std::as_bytes(std::span(stream.instructions));
    bytes_.insert(bytes_.end(), source.begin(), source.end());
  }
  cx_program_header header{};
  header.magic = CX_PROGRAM_MAGIC;
  header.version = kImageVersion;
  header.streams = static_cast<uint16_t>(streams_.size());
  header.arch_hash = arch_hash;
  header.image_bytes = size;
  header.segment_count = segment_count;
  header.stream_table = kTableOffset;
  header.sca_tiles = sca_tiles;
  std::memcpy(bytes_.data(), &header, sizeof header);
  header.crc = image_crc(bytes_, kTableOffset, streams_.size() * sizeof(cx_stream_entry));
  std::memcpy(bytes_.data(), &header, sizeof header);
  std::vector<std::byte> image = std::move(bytes_);
  *this = ImageBuilder();
  return image;
}

ImageInfo parse_image(std::span<const std::byte> image) {
  cx_program_header header;
  if (image.size() < sizeof header)
    bad(image.size(), "ends, expected a header of " + std::to_string(sizeof header) + " bytes");
  std::memcpy(&header, image.data(), sizeof header);
  if (header.magic != CX_PROGRAM_MAGIC)
    bad(offsetof(cx_program_header, magic), is_not("magic", header.magic, "'CXCP'"));
  if (header.version != kImageVersion) {
    bad(offsetof(cx_program_header, version), is_not("version", header.version, std::to_string(kImageVersion)));
  }
  if (header.streams < 1 || header.streams > isa::kEngineCount) {
    bad(offsetof(cx_program_header, streams),
        is_not("streams", header.streams, "1 to " + std::to_string(isa::kEngineCount)));
  }
  if (header.image_bytes != image.size()) {
    bad(offsetof(cx_program_header, image_bytes),
        is_not("image_bytes", header.image_bytes, std::to_string(image.size())));
  }
  if (header.segment_count < 1 || header.segment_count > kMaxSegments) {
    bad(offsetof(cx_program_header, segment_count),
        is_not("segment_count", header.segment_count, "1 to " + std::to_string(kMaxSegments)));
  }
  const uint64_t table_bytes = header.streams * sizeof(cx_stream_entry);
  if (header.stream_table < sizeof header || header.stream_table % 4 || header.stream_table > image.size() ||
      table_bytes > image.size() - header.stream_table) {
    bad(offsetof(cx_program_header, stream_table),
        is_not("stream_table", header.stream_table, "an offset inside the image"));
  }
  for (size_t at = offsetof(cx_program_header, reserved_40); at < sizeof header; ++at) {
    if (image[at] != std::byte{0}) bad(at, is_not("reserved byte", std::to_integer<unsigned>(image[at]), "0"));
  }
  const uint32_t crc = image_crc(image, header.stream_table, table_bytes);
  if (header.crc != crc) {
    std::ostringstream expected;
    expected << "0x" << std::hex << crc << " (header or stream table is damaged)";
    bad(offsetof(cx_program_header, crc), is_not("crc", header.crc, expected.str()));
  }
  ImageInfo info;
  info.arch_hash = header.arch_hash;
  info.image_bytes = header.image_bytes;
  info.segment_count = header.segment_count;
  info.sca_tiles = header.sca_tiles;
  uint32_t seen = 0;
  for (uint32_t i = 0; i < header.streams; ++i) {
    const uint64_t at = header.stream_table + i * sizeof(cx_stream_entry);
    cx_stream_entry entry;
    std::memcpy(&entry, image.data() + at, sizeof entry);
    if (entry.engine >= isa::kEngineCount)
      bad(at, is_not("engine", entry.engine, "0 to " + std::to_string(isa::kEngineCount - 1)));
    if (seen >> entry.engine & 1) bad(at, "engine " + engine_name(entry.engine) + " has two streams");
    seen |= 1u << entry.engine;
    if (entry.offset % kInstructionBytes || entry.offset < sizeof header || entry.offset > image.size()) {
      bad(at + offsetof(cx_stream_entry, offset), is_not("offset", entry.offset, "a multiple of 32 inside the image"));
    }
    if (entry.count == 0 || entry.count > (image.size() - entry.offset) / kInstructionBytes) {
      bad(at + offsetof(cx_stream_entry, count), is_not("count", entry.count, "instructions inside the image"));
    }
    info.streams.push_back({entry.engine, entry.count, entry.offset});
  }
  return info;
}

}  // namespace cx
