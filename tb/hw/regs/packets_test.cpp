// The packet validator against packets.yaml: one negative for every field limit and every reserved bit.
#include "hw/regs/gen/packets.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "tb/hw/regs/description.hpp"

using namespace cx;
using packets::Bytes;
using packets::Status;

namespace {

struct Kind {
  std::string name;
  uint8_t type;
  bool reserved;
  std::vector<tb::WireField> fields;  // header included
};

std::vector<Kind> read_kinds() {
  const auto description = YAML::LoadFile("hw/queue/packets.yaml");
  std::vector<Kind> out;
  for (const YAML::Node &node : description["packets"]) {
    Kind kind;
    kind.name = node["name"].as<std::string>();
    kind.type = static_cast<uint8_t>(tb::number(node["type"]));
    kind.reserved = node["reserved"] && node["reserved"].as<bool>();
    kind.fields = tb::wire_fields(description["header"], description["enums"]);
    for (auto &field : tb::wire_fields(node["fields"], description["enums"])) kind.fields.push_back(field);
    out.push_back(kind);
  }
  return out;
}

const std::vector<Kind> &kinds() {
  static const std::vector<Kind> all = read_kinds();
  return all;
}

Bytes valid(const Kind &kind) {
  Bytes bytes{};
  for (const auto &field : kind.fields) {
    for (unsigned i = 0; i < field.count; ++i)
      tb::poke(bytes, field, i, (field.min + field.align - 1) / field.align * field.align);
  }
  bytes[0] = kind.type;
  return bytes;
}

void expect(const Kind &kind, const Bytes &bytes, Status status, unsigned detail, const std::string &what) {
  const auto check = packets::validate(bytes);
  INFO(kind.name << ": " << what);
  CHECK(packets::status_name(static_cast<uint32_t>(check.status)) ==
        packets::status_name(static_cast<uint32_t>(status)));
  CHECK(check.detail == detail);
}

template <class Packet>
void round_trip(std::mt19937_64 &random) {
  for (int i = 0; i < 200; ++i) {
    Bytes bytes;
    for (auto &byte : bytes) byte = static_cast<uint8_t>(random());
    const auto once = Packet::from_bytes(bytes).to_bytes();
    CHECK(once[0] == static_cast<uint8_t>(Packet::kType));
    CHECK(Packet::from_bytes(once).to_bytes() == once);
    // What survives is exactly what fields cover.
    for (const Kind &kind : kinds()) {
      if (kind.type != once[0]) continue;
      for (unsigned bit = 8; bit < 512; ++bit) {
        bool covered = false;
        for (const auto &field : kind.fields) covered = covered || tb::covers(field, bit);
        const bool expected = covered && (bytes[bit / 8] >> bit % 8 & 1);
        if ((once[bit / 8] >> bit % 8 & 1) != expected) FAIL(kind.name << " bit " << bit);
      }
    }
    CHECK(packets::to_string(once).find(packets::type_name(once[0])) == 0);
  }
}

}  // namespace

TEST_CASE("the smallest packet of each type is accepted, or refused as unsupported") {
  for (const Kind &kind : kinds()) {
    expect(kind, valid(kind), kind.reserved ? Status::UNSUPPORTED : Status::OK, 0, "smallest");
  }
}

TEST_CASE("types that are not described are refused") {
  std::vector<bool> known(256);
  for (const Kind &kind : kinds()) known[kind.type] = true;
  for (unsigned type = 0; type < 256; ++type) {
    if (known[type]) continue;
    Bytes bytes{};
    bytes[0] = static_cast<uint8_t>(type);
    CHECK(packets::validate(bytes).status == Status::BAD_TYPE);
  }
}

TEST_CASE("every reserved bit is refused at its byte") {
  for (const Kind &kind : kinds()) {
    if (kind.reserved) continue;
    for (unsigned bit = 8; bit < 512; ++bit) {
      bool covered = false;
      for (const auto &field : kind.fields) covered = covered || tb::covers(field, bit);
      if (covered) continue;
      Bytes bytes = valid(kind);
      bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] | 1u << bit % 8);
      expect(kind, bytes, Status::RESERVED_BITS, bit / 8, "reserved bit " + std::to_string(bit));
    }
  }
}

TEST_CASE("every limit of every packet field is kept") {
  for (const Kind &kind : kinds()) {
    if (kind.reserved) continue;
    for (const auto &field : kind.fields) {
      if (field.name == "type") continue;
      for (unsigned i = 0; i < field.count; ++i) {
        const unsigned at = field.at + i * field.width / 8;
        Bytes bytes = valid(kind);
        if (field.min > 0) {
          tb::poke(bytes, field, i, field.min - 1);
          expect(kind, bytes, Status::BAD_FIELD, at, field.name + " below its range");
        }
        if (field.bounded) {
          tb::poke(bytes, field, i, field.max + 1);
          expect(kind, bytes, Status::BAD_FIELD, at, field.name + " above its range");
          tb::poke(bytes, field, i, field.max);
          expect(kind, bytes, Status::OK, 0, field.name + " at its maximum");
        }
        for (uint64_t odd = 1; odd < field.align; odd *= 2) {
          tb::poke(bytes, field, i, field.min + field.align + odd);
          expect(kind, bytes, Status::BAD_ALIGNMENT, at, field.name + " misaligned");
        }
      }
    }
  }
}

TEST_CASE("builders and structs agree with the description") {
  std::mt19937_64 random(11);
  round_trip<packets::Nop>(random);
  round_trip<packets::Copy>(random);
  round_trip<packets::Fill>(random);
  round_trip<packets::Launch>(random);
  round_trip<packets::BarrierAnd>(random);
  round_trip<packets::BarrierOr>(random);
  round_trip<packets::Signal>(random);
  round_trip<packets::Wait>(random);
  round_trip<packets::Timestamp>(random);
  round_trip<packets::Reconfig>(random);

  packets::Copy copy;
  copy.src = 0x1122334455667788;
  copy.rows = 7;
  copy.row_bytes = 9;
  copy.direction = packets::Direction::DEVICE_TO_HOST;
  copy.barrier = true;
  copy.release = packets::Scope::SYSTEM;
  const Bytes bytes = copy.to_bytes();
  cx_packet_copy as_c;
  std::memcpy(&as_c, bytes.data(), sizeof as_c);
  CHECK(as_c.type == CX_PKT_COPY);
  CHECK(as_c.src == copy.src);
  CHECK(as_c.rows == 7);
  CHECK(as_c.vector == CX_PKT_VECTOR_NONE);
  CHECK(as_c.direction == CX_DIRECTION_DEVICE_TO_HOST);
  CHECK((as_c.flags & CX_PKT_FLAGS_BARRIER_MASK) != 0);
  CHECK((as_c.flags & CX_PKT_FLAGS_RELEASE_MASK) >> CX_PKT_FLAGS_RELEASE_SHIFT == CX_SCOPE_SYSTEM);
  CHECK(packets::to_string(bytes) ==
        "COPY direction=DEVICE_TO_HOST src=0x1122334455667788 dst=0 row_bytes=9 rows=7 src_pitch=0 dst_pitch=0 "
        "barrier=1 release=SYSTEM");
}
