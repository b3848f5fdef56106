#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <string_view>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/image_builder.hpp"
#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/packets.h"
#include "tb/driver/runtime/sample_program.hpp"

using namespace cx;

TEST_CASE("CRC-32 has the published check value") {
  const std::string_view text = "123456789";
  const auto bytes = std::as_bytes(std::span(text));
  REQUIRE(crc32(bytes) == 0xcbf43926u);
  REQUIRE(crc32({}) == 0);
  for (size_t cut = 0; cut <= bytes.size(); ++cut)
    REQUIRE(crc32(bytes.subspan(cut), crc32(bytes.first(cut))) == 0xcbf43926u);
}

TEST_CASE("an image holds what was put into it") {
  ImageBuilder builder;
  const std::vector<std::byte> a(5, std::byte{0xaa}), b(100, std::byte{0xbb});
  const uint64_t at_a = builder.add_constants(a, 1), at_b = builder.add_constants(b, 256),
                 empty = builder.add_constants({}, 64);
  REQUIRE(at_b % 256 == 0);
  REQUIRE(empty % 64 == 0);
  const std::vector<isa::Inst> nops{isa::Nop{}.encode(), isa::End{}.encode()};
  const std::vector<isa::Inst> end{isa::End{}.encode()};
  builder.add_stream(3, nops);
  builder.add_stream(0, end);
  const auto image = builder.finish(0x1234, 7);
  REQUIRE(std::memcmp(image.data() + at_a, a.data(), a.size()) == 0);
  REQUIRE(std::memcmp(image.data() + at_b, b.data(), b.size()) == 0);
  const ImageInfo info = parse_image(image);
  REQUIRE(info.arch_hash == 0x1234);
  REQUIRE(info.segment_count == 7);
  REQUIRE(info.image_bytes == image.size());
  REQUIRE(info.streams.size() == 2);
  REQUIRE(info.streams[0].engine == 3);
  REQUIRE(info.streams[0].count == 2);
  REQUIRE(info.streams[0].offset % 32 == 0);
  REQUIRE(std::memcmp(image.data() + info.streams[0].offset, nops.data(), 64) == 0);
  REQUIRE(info.streams[1].offset == info.streams[0].offset + 64);
  // Equal calls give equal bytes, and finish() leaves an empty builder.
  builder.add_stream(0, end);
  const auto first = builder.finish(1, 1);
  ImageBuilder again;
  again.add_stream(0, end);
  REQUIRE(again.finish(1, 1) == first);
}

TEST_CASE("room for constants is written by the caller, and can be taken back") {
  ImageBuilder builder;
  const uint64_t begin = builder.constants().size();
  const uint64_t kept = builder.add_room(3, 64);
  std::ranges::fill(builder.constants().subspan(kept, 3), std::byte{7});
  const uint64_t end = builder.constants().size();
  REQUIRE(end >= begin + 3);
  builder.add_room(1000, 256);
  builder.cut_constants(end);
  REQUIRE(builder.constants().size() == end);
  builder.add_stream(0, std::vector<isa::Inst>{isa::End{}.encode()});
  const auto image = builder.finish(1, 1);
  REQUIRE(parse_image(image).streams[0].offset < end + 64);
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(image[kept + i] == std::byte{7});
}

TEST_CASE("wrong use of the builder is refused") {
  ImageBuilder builder;
  const std::vector<isa::Inst> end{isa::End{}.encode()}, nop{isa::Nop{}.encode()};
  REQUIRE_THROWS_AS(builder.finish(1, 1), UsageError);
  REQUIRE_THROWS_AS(builder.add_stream(5, end), UsageError);
  REQUIRE_THROWS_AS(builder.add_stream(0, {}), UsageError);
  REQUIRE_THROWS_AS(builder.add_stream(0, nop), UsageError);
  REQUIRE_THROWS_AS(builder.add_constants({}, 3), UsageError);
  REQUIRE_THROWS_AS(builder.add_constants({}, 8192), UsageError);
  builder.add_stream(0, end);
  REQUIRE_THROWS_AS(builder.add_stream(0, end), UsageError);
  REQUIRE_THROWS_AS(builder.finish(1, 0), UsageError);
  REQUIRE_THROWS_AS(builder.finish(1, 65), UsageError);
}

TEST_CASE("damage of an image's header or stream table is found in every bit") {
  const auto image = test::sample_program(1).image;
  const ImageInfo info = parse_image(image);
  const size_t protected_bytes = sizeof(cx_program_header) + info.streams.size() * sizeof(cx_stream_entry);
  for (size_t bit = 0; bit < protected_bytes * 8; ++bit) {
    auto damaged = image;
    damaged[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    INFO("bit " << bit);
    REQUIRE_THROWS_AS(parse_image(damaged), InputError);
  }
  for (size_t size = 0; size < image.size(); ++size) {
    REQUIRE_THROWS_AS(parse_image(std::span(image).first(size)), InputError);
  }
}
