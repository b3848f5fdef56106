// The protocol as a client sees it: every message, and one negative test for each field of each.
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tb/hw/vfio_user/client.hpp"

using namespace cx::tb;
using Json = nlohmann::json;

namespace {

Json capabilities_of(const wire::Message &reply) {
  const auto *text = reinterpret_cast<const char *>(reply.payload.data()) + sizeof(wire::Version);
  return Json::parse(text).at("capabilities");
}

std::string with(const std::string &capability) { return R"({"capabilities":{)" + capability + "}}"; }

wire::DmaMap map_request(std::uint64_t address = 0x10000, std::uint64_t size = 0x2000, std::uint32_t flags = 3) {
  return {sizeof(wire::DmaMap), flags, 0, address, size};
}

wire::DmaUnmap unmap_request(std::uint64_t address = 0x10000, std::uint64_t size = 0x2000, std::uint32_t flags = 0) {
  return {sizeof(wire::DmaUnmap), flags, address, size};
}

wire::IrqSet irq_request(std::uint32_t flags, std::uint32_t start, std::uint32_t count,
                         std::uint32_t index = wire::kMsix) {
  return {sizeof(wire::IrqSet), flags, index, start, count};
}

constexpr std::uint32_t kTriggerEvent = wire::kDataEventfd | wire::kActionTrigger;
constexpr std::uint32_t kTriggerNone = wire::kDataNone | wire::kActionTrigger;
constexpr std::uint32_t kTriggerBool = wire::kDataBool | wire::kActionTrigger;
constexpr std::uint32_t kMaskNone = wire::kDataNone | wire::kActionMask;
constexpr std::uint32_t kUnmaskNone = wire::kDataNone | wire::kActionUnmask;

std::vector<int> raw(const std::vector<Fd> &fds) {
  std::vector<int> out;
  for (const Fd &fd : fds) out.push_back(fd.get());
  return out;
}

std::vector<Fd> events(unsigned count) {
  std::vector<Fd> out;
  for (unsigned i = 0; i < count; ++i) out.push_back(event());
  return out;
}

constexpr wire::MultiEntry kGoodEntry{0x20, 0, 4, {1, 2, 3, 4}};

std::vector<std::byte> without_last(std::vector<std::byte> bytes) {
  bytes.pop_back();
  return bytes;
}

}  // namespace

/// One negative test: the command is refused with `code`, nothing is left behind, the connection lives.
#define REFUSED(name, code, command, ...)                               \
  TEST_CASE("refused: " name) {                                         \
    Bench bench;                                                        \
    CHECK(bench.error(command, __VA_ARGS__) == (code));                 \
    CHECK(bench.function.mappings.empty());                             \
    CHECK(bench.function.armed.empty());                                \
    CHECK(bench.function.regions[0] == std::vector<std::byte>(0x4000)); \
    CHECK(bench.alive());                                               \
  }

// ---- VERSION ----

TEST_CASE("version without JSON is answered without JSON") {
  Bench bench(false);
  const auto reply = bench.call(wire::kVersion, packed(wire::Version{0, 1}));
  CHECK((reply.header.flags & wire::kError) == 0);
  CHECK(reply.payload.size() == sizeof(wire::Version));
  CHECK(bench.alive());
}

TEST_CASE("version with JSON is answered by the capabilities that were named") {
  Bench bench(false);
  const auto reply = bench.call(wire::kVersion, version_text(with(R"("max_msg_fds":4,"max_data_xfer_size":65536)")));
  const Json caps = capabilities_of(reply);
  CHECK(caps.at("max_msg_fds").get<int>() == 64);
  CHECK(caps.at("max_data_xfer_size").get<int>() == 1 << 20);
  CHECK(caps.size() == 2);
}

TEST_CASE("version with every capability") {
  Bench bench(false);
  const auto reply = bench.call(
      wire::kVersion,
      version_text(with(
          R"("max_msg_fds":1,"max_data_xfer_size":4096,"pgsizes":4096,"max_dma_maps":9,"write_multiple":true,"cx_time":true,"migration":{"pgsize":4096})")));
  const Json caps = capabilities_of(reply);
  CHECK(caps.at("pgsizes").get<int>() == 4096);
  CHECK(caps.at("max_dma_maps").get<int>() == 65535);
  CHECK(caps.at("write_multiple").get<bool>());
  CHECK(caps.at("cx_time").get<bool>());
  CHECK(!caps.contains("migration"));
}

TEST_CASE("version: an older minor is kept, a newer one is lowered") {
  for (const auto &[asked, agreed] : {std::pair<int, int>{0, 0}, {1, 1}, {9, 1}}) {
    Bench bench(false);
    const auto reply = bench.call(wire::kVersion, packed(wire::Version{0, static_cast<std::uint16_t>(asked)}));
    CHECK(reply.as<wire::Version>()->major == 0);
    CHECK(reply.as<wire::Version>()->minor == agreed);
  }
}

#define VERSION_REFUSED(name, ...)                                                       \
  TEST_CASE("version refused: " name) {                                                  \
    Bench bench(false);                                                                  \
    CHECK(bench.error(wire::kVersion, __VA_ARGS__) == EINVAL);                           \
    CHECK(bench.error(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0})) == EINVAL); \
    CHECK(bench.error(wire::kVersion, version_text("{}")) == 0);                         \
    CHECK(bench.alive());                                                                \
  }

VERSION_REFUSED("too short", std::vector<std::byte>(3))
VERSION_REFUSED("nothing", std::vector<std::byte>())
VERSION_REFUSED("other major", packed(wire::Version{1, 0}))
VERSION_REFUSED("text without NUL", without_last(version_text("{}")))
VERSION_REFUSED("NUL inside", version_text(std::string("{}\0{}", 5)))
VERSION_REFUSED("no JSON", version_text("hello"))
VERSION_REFUSED("unclosed JSON", version_text(R"({"capabilities":{)"))
VERSION_REFUSED("JSON array", version_text("[1]"))
VERSION_REFUSED("capabilities of another type", version_text(R"({"capabilities":3})"))
VERSION_REFUSED("max_msg_fds text", version_text(with(R"("max_msg_fds":"4")")))
VERSION_REFUSED("max_msg_fds negative", version_text(with(R"("max_msg_fds":-4)")))
VERSION_REFUSED("max_data_xfer_size 0", version_text(with(R"("max_data_xfer_size":0)")))
VERSION_REFUSED("max_data_xfer_size real", version_text(with(R"("max_data_xfer_size":1.5)")))
VERSION_REFUSED("pgsizes without 4 KiB", version_text(with(R"("pgsizes":65536)")))
VERSION_REFUSED("pgsizes text", version_text(with(R"("pgsizes":"4096")")))
VERSION_REFUSED("max_dma_maps text", version_text(with(R"("max_dma_maps":true)")))
VERSION_REFUSED("write_multiple number", version_text(with(R"("write_multiple":1)")))
VERSION_REFUSED("cx_time text", version_text(with(R"("cx_time":"yes")")))

TEST_CASE("version twice is refused") {
  Bench bench;
  CHECK(bench.error(wire::kVersion, version_text("{}")) == EINVAL);
  CHECK(bench.alive());
}

TEST_CASE("no command is taken before the version") {
  Bench bench(false);
  for (const std::uint16_t command : {2, 3, 4, 5, 7, 8, 9, 10, 13, 15, 0x4358}) {
    INFO(command);
    CHECK(bench.error(command, std::vector<std::byte>(64)) == EINVAL);
  }
  CHECK(bench.function.resets == 0);
}

// ---- headers ----

TEST_CASE("header: unknown commands and those of the server are refused") {
  Bench bench;
  for (const std::uint16_t command : {0, 6, 11, 12, 14, 16, 999, 65535}) {
    INFO(command);
    CHECK(bench.error(command, std::vector<std::byte>(64)) == ENOTSUP);
  }
  CHECK(bench.alive());
}

TEST_CASE("header: the message id comes back") {
  Bench bench;
  for (const std::uint16_t id : {0, 1, 0x1234, 0xffff}) {
    bench.send(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0}), {}, wire::kTypeCommand, id);
    CHECK(bench.receive().header.id == id);
  }
}

TEST_CASE("header: reserved flags are refused") {
  Bench bench;
  for (const std::uint32_t flag : {1u << 5, 1u << 6, 1u << 31}) {
    bench.send(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0}), {}, flag);
    const auto reply = bench.receive();
    CHECK(reply.header.error == EINVAL);
  }
  CHECK(bench.alive());
}

TEST_CASE("header: a reply that nobody asked for is dropped") {
  Bench bench;
  bench.send(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0}), {}, wire::kTypeReply);
  bench.send(wire::kDmaRead, {}, {}, wire::kTypeReply);
  bench.send(wire::kGetInfo, {}, {}, 7);
  CHECK(bench.alive());
}

TEST_CASE("header: a size below the header's own is refused") {
  Bench bench;
  for (const std::uint32_t size : {0u, 1u, 15u}) {
    bench.send_raw({5, wire::kGetInfo, size, 0, 0});
    const auto reply = bench.receive();
    CHECK(reply.header.error == EINVAL);
    CHECK(reply.header.id == 5);
  }
  CHECK(bench.alive());
}

TEST_CASE("header: a message larger than the limit is skipped to its end") {
  Bench bench;
  std::vector<std::byte> large((1 << 20) + 8192);
  std::thread writer([&] { bench.send(wire::kRegionWrite, large); });
  const auto reply = bench.receive();
  writer.join();
  CHECK(reply.header.error == EMSGSIZE);
  CHECK(bench.alive());
}

TEST_CASE("header: a message may come in pieces") {
  Bench bench;
  const auto all = packed(wire::Header{9, wire::kGetInfo, 32, 0, 0}, wire::DeviceInfo{16, 0, 0, 0});
  for (const std::byte &byte : all) REQUIRE(::write(bench.channel().fd(), &byte, 1) == 1);
  CHECK(bench.receive().header.id == 9);
}

TEST_CASE("header: commands may be pipelined and are answered in order") {
  Bench bench;
  for (std::uint16_t id = 0; id < 100; ++id) {
    bench.send(wire::kRegionRead, packed(wire::RegionAccess{0, 7, 4}), {}, wire::kTypeCommand, id);
  }
  for (std::uint16_t id = 0; id < 100; ++id) CHECK(bench.receive().header.id == id);
}

TEST_CASE("channel: descriptors belong to the message they came with, whatever is read together") {
  const auto seed = Catch::rngSeed() != 0 ? Catch::rngSeed() : 20261127u;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const std::size_t before = open_descriptors();
  {
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    wire::Channel sender{Fd(ends[0])};
    wire::Channel receiver{Fd(ends[1]), 20'000};
    for (int round = 0; round < 40; ++round) {
      // As many as a socket holds.
      std::vector<std::vector<std::byte>> payloads;
      std::vector<std::vector<ino_t>> files;
      for (std::uint16_t id = 0; id < 6; ++id) {
        // Some are larger than what one read takes; one in eight is too large to be kept.
        const std::size_t size = random() % 8 == 0 ? 20'001 : random() % 3 == 0 ? random() % 12'000 : random() % 100;
        std::vector<std::byte> payload(size);
        for (auto &byte : payload) byte = static_cast<std::byte>(random());
        std::vector<Fd> fds;
        std::vector<ino_t> inodes;
        for (std::size_t i = random() % 4; i > 1; --i) {
          fds.push_back(memory_file(4096));
          struct stat info {};
          REQUIRE(fstat(fds.back().get(), &info) == 0);
          inodes.push_back(info.st_ino);
        }
        REQUIRE(sender.send({id, 5, 0, wire::kTypeCommand, 0}, payload, {}, raw(fds)));
        payloads.push_back(std::move(payload));
        files.push_back(std::move(inodes));
      }
      for (std::uint16_t id = 0; id < 6; ++id) {
        REQUIRE(receiver.readable(5000));
        const auto message = receiver.receive(5000);
        REQUIRE(message);
        CHECK(message->header.id == id);
        CHECK(message->header.size == sizeof(wire::Header) + payloads[id].size());
        CHECK(message->payload == (payloads[id].size() > 20'000 ? std::vector<std::byte>() : payloads[id]));
        std::vector<ino_t> inodes;
        for (const Fd &fd : message->fds) {
          struct stat info {};
          REQUIRE(fstat(fd.get(), &info) == 0);
          inodes.push_back(info.st_ino);
        }
        CHECK(inodes == files[id]);
      }
      CHECK_FALSE(receiver.readable(0));
    }
    REQUIRE(sender.send({1, 5, 0, wire::kTypeCommand, 0}, {}, {}, {}));
    REQUIRE(sender.send({2, 5, 0, wire::kTypeCommand, 0}, {}, {}, {}));
    REQUIRE(receiver.receive(5000));
    CHECK(receiver.readable(0));  // it came with the first one
    CHECK(receiver.receive(5000)->header.id == 2);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("no-reply commands are not answered, whether they succeed or fail") {
  Bench bench;
  bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0x10, 0, 4}, std::uint32_t{0xabcd}), {}, wire::kNoReply);
  bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0x10, 9, 4}, std::uint32_t{1}), {}, wire::kNoReply);
  bench.send(999, {}, {}, wire::kNoReply);
  const auto reply = bench.call(wire::kRegionRead, packed(wire::RegionAccess{0x10, 0, 4}));
  std::uint32_t value = 0;
  std::memcpy(&value, reply.payload.data() + 16, 4);
  CHECK(value == 0xabcd);
}

// ---- DEVICE_GET_INFO ----

TEST_CASE("device information") {
  Bench bench;
  for (const std::uint32_t argsz : {16u, 17u, 4096u}) {
    const auto info = bench.call(wire::kGetInfo, packed(wire::DeviceInfo{argsz, 0, 0, 0})).as<wire::DeviceInfo>();
    REQUIRE(info);
    CHECK(info->argsz == 16);
    CHECK(info->flags == 3);
    CHECK(info->regions == 9);
    CHECK(info->irqs == 5);
  }
}

REFUSED("device information, short", EINVAL, wire::kGetInfo, std::vector<std::byte>(15))
REFUSED("device information, empty", EINVAL, wire::kGetInfo, {})
REFUSED("device information, argsz one less", EINVAL, wire::kGetInfo, packed(wire::DeviceInfo{15, 0, 0, 0}))
REFUSED("device information, argsz 0", EINVAL, wire::kGetInfo, packed(wire::DeviceInfo{0, 0, 0, 0}))
REFUSED("device information, flags", EINVAL, wire::kGetInfo, packed(wire::DeviceInfo{16, 1, 0, 0}))
REFUSED("device information, num_regions", EINVAL, wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 1, 0}))
REFUSED("device information, num_irqs", EINVAL, wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 1}))

// ---- DEVICE_GET_REGION_INFO ----

TEST_CASE("region information of each region") {
  Bench bench;
  const std::uint64_t sizes[9] = {0x4000, 0, 4 << 20, 0, 0, 0, 0, 4096, 0};
  for (std::uint32_t index = 0; index < 9; ++index) {
    INFO(index);
    const auto info =
        bench.call(wire::kGetRegionInfo, packed(wire::RegionInfo{32, 0, index, 0, 0, 0})).as<wire::RegionInfo>();
    REQUIRE(info);
    CHECK(info->argsz == 32);
    CHECK(info->index == index);
    CHECK(info->size == sizes[index]);
    CHECK(info->flags == (sizes[index] != 0 ? 3u : 0u));
    CHECK(info->cap_offset == 0);
  }
}

REFUSED("region information, short", EINVAL, wire::kGetRegionInfo, std::vector<std::byte>(31))
REFUSED("region information, argsz", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{31, 0, 0, 0, 0, 0}))
REFUSED("region information, flags", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{32, 1, 0, 0, 0, 0}))
REFUSED("region information, index 9", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{32, 0, 9, 0, 0, 0}))
REFUSED("region information, index -1", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{32, 0, ~0u, 0, 0, 0}))
REFUSED("region information, cap_offset", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{32, 0, 0, 8, 0, 0}))
REFUSED("region information, size", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{32, 0, 0, 0, 8, 0}))
REFUSED("region information, offset", EINVAL, wire::kGetRegionInfo, packed(wire::RegionInfo{32, 0, 0, 0, 0, 8}))

TEST_CASE("region information: memory that may be mapped") {
  const Fd file = memory_file(0x3000);
  struct stat expected {};
  REQUIRE(fstat(file.get(), &expected) == 0);
  Bench bench;
  bench.function.mappable = {file.get(), 0x3000};
  const auto ask = [&](std::uint32_t argsz, std::uint32_t index = 2) {
    return bench.call(wire::kGetRegionInfo, packed(wire::RegionInfo{argsz, 0, index, 0, 0, 0}));
  };
  for (const std::uint32_t argsz : {32u, 63u}) {
    INFO(argsz);
    const auto reply = ask(argsz);
    const auto info = reply.as<wire::RegionInfo>();
    REQUIRE(reply.payload.size() == 32);
    CHECK(info->argsz == 64);
    CHECK(info->flags == 15);
    CHECK(info->cap_offset == 0);
    CHECK(info->size == 4 << 20);
    CHECK(reply.fds.empty());
  }
  for (const std::uint32_t argsz : {64u, 4096u}) {
    INFO(argsz);
    const auto reply = ask(argsz);
    const auto info = reply.as<wire::RegionInfo>();
    REQUIRE(reply.payload.size() == 64);
    CHECK(info->argsz == 64);
    CHECK(info->flags == 15);
    CHECK(info->cap_offset == 32);
    CHECK(info->size == 4 << 20);
    CHECK(info->offset == 0);
    wire::SparseMmap area;
    std::memcpy(&area, reply.payload.data() + 32, sizeof area);
    CHECK(area.id == 1);
    CHECK(area.version == 1);
    CHECK(area.next == 0);
    CHECK(area.areas == 1);
    CHECK(area.offset == 0);
    CHECK(area.size == 0x3000);
    REQUIRE(reply.fds.size() == 1);
    struct stat seen {};
    REQUIRE(fstat(reply.fds[0].get(), &seen) == 0);
    CHECK(seen.st_ino == expected.st_ino);
  }
  const auto other = ask(64, 0);
  CHECK(other.as<wire::RegionInfo>()->flags == 3);
  CHECK(other.payload.size() == 32);
  CHECK(other.fds.empty());
}

TEST_CASE("region information: a client that takes no descriptors is offered no mapping") {
  const Fd file = memory_file(0x1000);
  Bench bench(true, with(R"("max_msg_fds":0)"));
  bench.function.mappable = {file.get(), 0x1000};
  const auto reply = bench.call(wire::kGetRegionInfo, packed(wire::RegionInfo{64, 0, 2, 0, 0, 0}));
  CHECK(reply.as<wire::RegionInfo>()->flags == 3);
  CHECK(reply.as<wire::RegionInfo>()->argsz == 32);
  CHECK(reply.fds.empty());
}

// ---- DEVICE_GET_IRQ_INFO ----

TEST_CASE("interrupt information of each type") {
  Bench bench;
  const std::uint32_t counts[5] = {0, 0, FakeFunction::kVectors, 1, 1};
  const std::uint32_t flags[5] = {0, 0, 3, 1, 1};
  for (std::uint32_t index = 0; index < 5; ++index) {
    INFO(index);
    const auto info = bench.call(wire::kGetIrqInfo, packed(wire::IrqInfo{16, 0, index, 0})).as<wire::IrqInfo>();
    REQUIRE(info);
    CHECK(info->argsz == 16);
    CHECK(info->index == index);
    CHECK(info->count == counts[index]);
    CHECK(info->flags == flags[index]);
  }
}

REFUSED("interrupt information, short", EINVAL, wire::kGetIrqInfo, std::vector<std::byte>(15))
REFUSED("interrupt information, argsz", EINVAL, wire::kGetIrqInfo, packed(wire::IrqInfo{15, 0, 2, 0}))
REFUSED("interrupt information, flags", EINVAL, wire::kGetIrqInfo, packed(wire::IrqInfo{16, 1, 2, 0}))
REFUSED("interrupt information, index", EINVAL, wire::kGetIrqInfo, packed(wire::IrqInfo{16, 0, 5, 0}))
REFUSED("interrupt information, count", EINVAL, wire::kGetIrqInfo, packed(wire::IrqInfo{16, 0, 2, 1}))

// ---- DEVICE_SET_IRQS ----

TEST_CASE("an event descriptor is signalled once for each interrupt of its vector") {
  Bench bench;
  const auto fds = events(3);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 2, 3)), raw(fds)) == 0);
  CHECK(bench.function.armed == std::map<std::uint32_t, bool>{{2, true}, {3, true}, {4, true}});
  bench.function.raised = {3, 4, 3, 2, 3};
  REQUIRE(bench.error(wire::kAdvance, packed(wire::AdvanceRequest{0})) == 0);
  CHECK(count_of(fds[0]) == 1);
  CHECK(count_of(fds[1]) == 3);
  CHECK(count_of(fds[2]) == 1);
}

TEST_CASE("interrupts: a vector without a descriptor is not armed, and goes quiet when it loses its own") {
  Bench bench;
  const auto fds = events(2);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 2)), raw(fds)) == 0);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 1, 1))) == 0);  // no descriptors: de-assign
  CHECK(bench.function.armed == std::map<std::uint32_t, bool>{{0, true}, {1, false}});
  bench.function.raised = {0, 1};
  REQUIRE(bench.error(wire::kAdvance, packed(wire::AdvanceRequest{0})) == 0);
  CHECK(count_of(fds[0]) == 1);
  CHECK(count_of(fds[1]) == 0);
}

TEST_CASE("interrupts: count 0 disables all of a type") {
  Bench bench;
  const auto fds = events(FakeFunction::kVectors);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, FakeFunction::kVectors)), raw(fds)) == 0);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerNone, 0, 0))) == 0);
  for (const auto &[vector, on] : bench.function.armed) CHECK(!on);
  bench.function.raised = {0, 7};
  REQUIRE(bench.error(wire::kAdvance, packed(wire::AdvanceRequest{0})) == 0);
  for (const Fd &fd : fds) CHECK(count_of(fd) == 0);
}

TEST_CASE("interrupts: a masked vector waits for its unmasking") {
  Bench bench;
  const auto fds = events(2);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 2)), raw(fds)) == 0);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kMaskNone, 0, 1))) == 0);
  bench.function.raised = {0, 0, 1};
  REQUIRE(bench.error(wire::kAdvance, packed(wire::AdvanceRequest{0})) == 0);
  CHECK(count_of(fds[0]) == 0);
  CHECK(count_of(fds[1]) == 1);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kUnmaskNone, 0, 2))) == 0);
  CHECK(count_of(fds[0]) == 1);
  CHECK(count_of(fds[1]) == 0);
}

TEST_CASE("interrupts: booleans choose whom an action concerns") {
  Bench bench;
  const auto fds = events(3);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 3)), raw(fds)) == 0);
  wire::IrqSet set = irq_request(kTriggerBool, 0, 3);
  set.argsz += 3;
  const std::uint8_t first_and_last[3] = {1, 0, 255};
  REQUIRE(bench.error(wire::kSetIrqs, packed(set, first_and_last)) == 0);
  CHECK(count_of(fds[0]) == 1);
  CHECK(count_of(fds[1]) == 0);
  CHECK(count_of(fds[2]) == 1);
  set.flags = wire::kDataBool | wire::kActionMask;
  REQUIRE(bench.error(wire::kSetIrqs, packed(set, first_and_last)) == 0);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerNone, 0, 3))) == 0);
  CHECK(count_of(fds[0]) == 0);
  CHECK(count_of(fds[1]) == 1);
}

TEST_CASE("interrupts: the error and request types take one descriptor each") {
  Bench bench;
  for (const std::uint32_t index : {std::uint32_t{wire::kErr}, std::uint32_t{wire::kReq}}) {
    const auto fds = events(1);
    CHECK(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 1, index)), raw(fds)) == 0);
    CHECK(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerNone, 0, 1, index))) == 0);
    CHECK(count_of(fds[0]) == 1);
    CHECK(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 1, 1, index)), raw(fds)) == EINVAL);
    CHECK(bench.error(wire::kSetIrqs, packed(irq_request(kMaskNone, 0, 1, index))) == ENOTSUP);
  }
  CHECK(bench.function.armed.empty());
}

REFUSED("interrupts, short", EINVAL, wire::kSetIrqs, std::vector<std::byte>(19))
REFUSED("interrupts, argsz", EINVAL, wire::kSetIrqs, packed(wire::IrqSet{19, kTriggerNone, wire::kMsix, 0, 1}))
REFUSED("interrupts, no data kind", EINVAL, wire::kSetIrqs, packed(irq_request(wire::kActionTrigger, 0, 1)))
REFUSED("interrupts, no action", EINVAL, wire::kSetIrqs, packed(irq_request(wire::kDataNone, 0, 1)))
REFUSED("interrupts, two data kinds", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone | wire::kDataBool, 0, 1)))
REFUSED("interrupts, two actions", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone | wire::kActionMask, 0, 1)))
REFUSED("interrupts, unknown flag", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone | 64, 0, 1)))
REFUSED("interrupts, no such type", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone, 0, 1, 5)))
REFUSED("interrupts, INTx that is not there", EINVAL, wire::kSetIrqs,
        packed(irq_request(kTriggerNone, 0, 1, wire::kIntx)))
REFUSED("interrupts, MSI that is not there", EINVAL, wire::kSetIrqs,
        packed(irq_request(kTriggerNone, 0, 1, wire::kMsi)))
REFUSED("interrupts, start", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone, FakeFunction::kVectors, 1)))
REFUSED("interrupts, count", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone, 0, FakeFunction::kVectors + 1)))
REFUSED("interrupts, start and count wrap", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone, 1, ~0u)))
REFUSED("interrupts, start without count", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerNone, 1, 0)))
REFUSED("interrupts, mask of none", EINVAL, wire::kSetIrqs, packed(irq_request(kMaskNone, 0, 0)))
REFUSED("interrupts, descriptors of none", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 0)))
REFUSED("interrupts, too few descriptors", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 2)),
        raw(events(1)))
REFUSED("interrupts, too many descriptors", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 1)),
        raw(events(2)))
REFUSED("interrupts, descriptor for masking", ENOTSUP, wire::kSetIrqs,
        packed(irq_request(wire::kDataEventfd | wire::kActionMask, 0, 1)), raw(events(1)))
REFUSED("interrupts, descriptor for unmasking", ENOTSUP, wire::kSetIrqs,
        packed(irq_request(wire::kDataEventfd | wire::kActionUnmask, 0, 1)), raw(events(1)))
REFUSED("interrupts, fewer booleans than count", EINVAL, wire::kSetIrqs,
        packed(wire::IrqSet{24, kTriggerBool, wire::kMsix, 0, 4}, std::uint16_t{1}))
REFUSED("interrupts, argsz without the booleans", EINVAL, wire::kSetIrqs,
        packed(wire::IrqSet{23, kTriggerBool, wire::kMsix, 0, 4}, std::uint32_t{1}))
REFUSED("interrupts, a file in place of an event", EINVAL, wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 1)),
        {memory_file(4096).get()})

// ---- REGION_READ, REGION_WRITE ----

TEST_CASE("regions keep what is written, of any size") {
  Bench bench;
  std::mt19937 random(11);
  for (const std::uint32_t count : {1u, 2u, 3u, 4u, 8u, 64u, 4096u, 1u << 20}) {
    INFO(count);
    std::vector<std::byte> data(count);
    for (auto &byte : data) byte = static_cast<std::byte>(random());
    auto message = packed(wire::RegionAccess{0x300, 2, count});
    message.insert(message.end(), data.begin(), data.end());
    const auto written = bench.call(wire::kRegionWrite, message);
    REQUIRE((written.header.flags & wire::kError) == 0);
    CHECK(written.payload == packed(wire::RegionAccess{0x300, 2, count}));
    const auto read = bench.call(wire::kRegionRead, packed(wire::RegionAccess{0x300, 2, count}));
    REQUIRE(read.payload.size() == 16 + count);
    CHECK(std::equal(data.begin(), data.end(), read.payload.begin() + 16));
  }
}

TEST_CASE("regions: the last byte is there, the one behind is not") {
  Bench bench;
  for (const auto &[region, size] : {std::pair<std::uint32_t, std::uint64_t>{0, 0x4000}, {2, 4 << 20}, {7, 4096}}) {
    INFO(region);
    CHECK(bench.error(wire::kRegionRead, packed(wire::RegionAccess{size - 1, region, 1})) == 0);
    CHECK(bench.error(wire::kRegionRead, packed(wire::RegionAccess{size, region, 0})) == 0);
    CHECK(bench.error(wire::kRegionRead, packed(wire::RegionAccess{size, region, 1})) == EINVAL);
    CHECK(bench.error(wire::kRegionRead, packed(wire::RegionAccess{size - 1, region, 2})) == EINVAL);
    CHECK(bench.error(wire::kRegionRead, packed(wire::RegionAccess{~std::uint64_t{0}, region, 1})) == EINVAL);
    CHECK(bench.error(wire::kRegionWrite, packed(wire::RegionAccess{size, region, 1}, std::uint8_t{1})) == EINVAL);
    CHECK(bench.error(wire::kRegionWrite,
                      packed(wire::RegionAccess{~std::uint64_t{0} - 1, region, 4}, std::uint32_t{1})) == EINVAL);
  }
}

REFUSED("region read, short", EINVAL, wire::kRegionRead, std::vector<std::byte>(15))
REFUSED("region read, region 9", EINVAL, wire::kRegionRead, packed(wire::RegionAccess{0, 9, 4}))
REFUSED("region read, region -1", EINVAL, wire::kRegionRead, packed(wire::RegionAccess{0, ~0u, 4}))
REFUSED("region read, BAR that is not there", EINVAL, wire::kRegionRead, packed(wire::RegionAccess{0, 1, 4}))
REFUSED("region read, no ROM", EINVAL, wire::kRegionRead, packed(wire::RegionAccess{0, 6, 4}))
REFUSED("region read, no VGA", EINVAL, wire::kRegionRead, packed(wire::RegionAccess{0, 8, 4}))
REFUSED("region read, more than a transfer", EINVAL, wire::kRegionRead,
        packed(wire::RegionAccess{0, 2, (1u << 20) + 1}))
REFUSED("region read, no register", EINVAL, wire::kRegionRead, packed(wire::RegionAccess{FakeFunction::kRefused, 0, 4}))

REFUSED("region write, short", EINVAL, wire::kRegionWrite, std::vector<std::byte>(15))
REFUSED("region write, no data", EINVAL, wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}))
REFUSED("region write, less data than count", EINVAL, wire::kRegionWrite,
        packed(wire::RegionAccess{0, 0, 4}, std::uint16_t{1}))
REFUSED("region write, more data than count", EINVAL, wire::kRegionWrite,
        packed(wire::RegionAccess{0, 0, 4}, std::uint64_t{1}))
REFUSED("region write, region", EINVAL, wire::kRegionWrite, packed(wire::RegionAccess{0, 9, 4}, std::uint32_t{1}))
REFUSED("region write, BAR that is not there", EINVAL, wire::kRegionWrite,
        packed(wire::RegionAccess{0, 3, 4}, std::uint32_t{1}))
REFUSED("region write, no register", EINVAL, wire::kRegionWrite,
        packed(wire::RegionAccess{FakeFunction::kRefused, 0, 4}, std::uint32_t{1}))

TEST_CASE("several writes in one message") {
  Bench bench;
  const wire::MultiEntry first{0x20, 0, 4, {1, 2, 3, 4}}, second{0x30, 2, 8, {9, 8, 7, 6, 5, 4, 3, 2}};
  const auto reply = bench.call(wire::kRegionWriteMulti, packed(std::uint64_t{2}, first, second));
  REQUIRE(reply.as<wire::WriteMulti>());
  CHECK(reply.as<wire::WriteMulti>()->count == 2);
  CHECK(bench.function.regions[0][0x23] == std::byte{4});
  CHECK(bench.function.regions[2][0x30] == std::byte{9});
  CHECK(bench.error(wire::kRegionWriteMulti, packed(std::uint64_t{0})) == 0);
}

REFUSED("several writes, short", EINVAL, wire::kRegionWriteMulti, std::vector<std::byte>(7))
REFUSED("several writes, count too small", EINVAL, wire::kRegionWriteMulti,
        packed(std::uint64_t{1}, kGoodEntry, wire::MultiEntry{0x20, 0, 4, {1, 2, 3, 4}}))
REFUSED("several writes, count too large", EINVAL, wire::kRegionWriteMulti,
        packed(std::uint64_t{3}, kGoodEntry, wire::MultiEntry{0x20, 0, 4, {1, 2, 3, 4}}))
REFUSED("several writes, count wraps", EINVAL, wire::kRegionWriteMulti,
        packed(std::uint64_t{~std::uint64_t{0}}, kGoodEntry, wire::MultiEntry{0x20, 0, 4, {1, 2, 3, 4}}))
REFUSED("several writes, bytes of an entry", EINVAL, wire::kRegionWriteMulti,
        packed(std::uint64_t{2}, kGoodEntry, wire::MultiEntry{0x20, 0, 9, {}}))
REFUSED("several writes, region of an entry", EINVAL, wire::kRegionWriteMulti,
        packed(std::uint64_t{2}, kGoodEntry, wire::MultiEntry{0x20, 9, 4, {}}))
REFUSED("several writes, offset of an entry", EINVAL, wire::kRegionWriteMulti,
        packed(std::uint64_t{2}, kGoodEntry, wire::MultiEntry{0x3ffd, 0, 4, {}}))

// ---- DMA ----

TEST_CASE("a mapping with a descriptor is memory of the client") {
  Bench bench;
  const Fd file = memory_file(0x4000);
  wire::DmaMap map = map_request();
  map.offset = 0x1000;
  REQUIRE(bench.error(wire::kDmaMap, packed(map), {file.get()}) == 0);
  REQUIRE(bench.function.mappings.size() == 1);
  const auto &mapping = bench.function.mappings.at(0x10000);
  CHECK(mapping.bytes == 0x2000);
  CHECK(mapping.readable);
  CHECK(mapping.writeable);
  mapping.memory[5] = std::byte{42};
  std::uint8_t seen = 0;
  REQUIRE(pread(file.get(), &seen, 1, 0x1005) == 1);
  CHECK(seen == 42);
}

TEST_CASE("mappings: access rights come through") {
  Bench bench;
  const Fd file = memory_file(0x8000);
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request(0x10000, 0x1000, 1)), {file.get()}) == 0);
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request(0x20000, 0x1000, 2)), {file.get()}) == 0);
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request(0x30000, 0x1000, 2))) == 0);
  CHECK((bench.function.mappings.at(0x10000).readable && !bench.function.mappings.at(0x10000).writeable));
  CHECK((!bench.function.mappings.at(0x20000).readable && bench.function.mappings.at(0x20000).writeable));
  CHECK(bench.function.mappings.at(0x30000).memory == nullptr);
}

TEST_CASE("mappings: unmapping needs the exact range and answers with it") {
  Bench bench;
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request())) == 0);
  CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request(0x10000, 0x1000))) == ENOENT);
  CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request(0x11000, 0x1000))) == ENOENT);
  CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request(0x10000, 0x3000))) == ENOENT);
  const auto reply = bench.call(wire::kDmaUnmap, packed(unmap_request()));
  CHECK(reply.payload == packed(unmap_request()));
  CHECK(bench.function.mappings.empty());
  CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request())) == ENOENT);
  CHECK(bench.error(wire::kDmaMap, packed(map_request())) == 0);
}

TEST_CASE("mappings: all can be unmapped at once") {
  Bench bench;
  const Fd file = memory_file(0x2000);
  for (std::uint64_t i = 1; i <= 20; ++i) {
    REQUIRE(bench.error(wire::kDmaMap, packed(map_request(i << 16)),
                        i % 2 ? std::vector<int>{file.get()} : std::vector<int>{}) == 0);
  }
  CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request(0, 0, wire::kUnmapAll))) == 0);
  CHECK(bench.function.mappings.empty());
  CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request(0, 0, wire::kUnmapAll))) == 0);
}

TEST_CASE("mappings: overlaps are refused") {
  Bench bench;
  const Fd file = memory_file(0x8000);
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request(0x10000, 0x2000))) == 0);
  for (const auto &[address, size] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
           {0x10000, 0x2000}, {0xf000, 0x2000}, {0x11000, 0x1000}, {0x11000, 0x4000}, {0xf000, 0x8000}}) {
    INFO(address);
    CHECK(bench.error(wire::kDmaMap, packed(map_request(address, size))) == EEXIST);
    CHECK(bench.error(wire::kDmaMap, packed(map_request(address, size)), {file.get()}) == EEXIST);
  }
  CHECK(bench.error(wire::kDmaMap, packed(map_request(0x12000, 0x1000))) == 0);
  CHECK(bench.error(wire::kDmaMap, packed(map_request(0xf000, 0x1000))) == 0);
}

REFUSED("mapping, short", EINVAL, wire::kDmaMap, std::vector<std::byte>(31))
REFUSED("mapping, argsz", EINVAL, wire::kDmaMap, packed(wire::DmaMap{31, 3, 0, 0x10000, 0x2000}))
REFUSED("mapping, neither read nor write", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0x2000, 0)))
REFUSED("mapping, unknown flag", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0x2000, 4)))
REFUSED("mapping, unknown flag beside known ones", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0x2000, 7)))
REFUSED("mapping, address not of a page", EINVAL, wire::kDmaMap, packed(map_request(0x10001, 0x2000)))
REFUSED("mapping, size not of a page", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0x2001)))
REFUSED("mapping, size 0", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0)))
REFUSED("mapping, range wraps", EINVAL, wire::kDmaMap, packed(map_request(~std::uint64_t{0xfff}, 0x2000)))
REFUSED("mapping, offset not of a page", EINVAL, wire::kDmaMap, packed(wire::DmaMap{32, 3, 0x800, 0x10000, 0x1000}),
        {memory_file(0x2000).get()})
REFUSED("mapping, ends behind the file", EINVAL, wire::kDmaMap, packed(wire::DmaMap{32, 3, 0x1000, 0x10000, 0x2000}),
        {memory_file(0x2000).get()})
REFUSED("mapping, offset wraps", EINVAL, wire::kDmaMap,
        packed(wire::DmaMap{32, 3, ~std::uint64_t{0xfff}, 0x10000, 0x2000}), {memory_file(0x2000).get()})
REFUSED("mapping, two descriptors", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0x2000)),
        {memory_file(0x2000).get(), 1})
REFUSED("mapping, an event in place of a file", EINVAL, wire::kDmaMap, packed(map_request(0x10000, 0x2000)),
        raw(events(1)))

REFUSED("unmapping, short", EINVAL, wire::kDmaUnmap, std::vector<std::byte>(23))
REFUSED("unmapping, argsz", EINVAL, wire::kDmaUnmap, packed(wire::DmaUnmap{23, 0, 0x10000, 0x2000}))
REFUSED("unmapping, dirty pages", EINVAL, wire::kDmaUnmap, packed(unmap_request(0x10000, 0x2000, 1)))
REFUSED("unmapping, unknown flag", EINVAL, wire::kDmaUnmap, packed(unmap_request(0x10000, 0x2000, 4)))
REFUSED("unmapping, all with an address", EINVAL, wire::kDmaUnmap, packed(unmap_request(0x10000, 0, wire::kUnmapAll)))
REFUSED("unmapping, all with a size", EINVAL, wire::kDmaUnmap, packed(unmap_request(0, 0x2000, wire::kUnmapAll)))
REFUSED("unmapping, nothing there", ENOENT, wire::kDmaUnmap, packed(unmap_request()))

TEST_CASE("memory without a descriptor is read and written by messages") {
  Bench bench;
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request(0x10000, 0x400000))) == 0);
  std::vector<std::byte> host(0x400000), copy(0x300000);
  std::mt19937 random(5);
  for (auto &byte : host) byte = static_cast<std::byte>(random());
  bool read_ok = false, write_ok = false;
  bench.function.on_doorbell = [&](FakeFunction &function, std::uint64_t) {
    HostLink &link = *function.mappings.at(0x10000).link;
    read_ok = link.read(0x10000, copy.data(), copy.size());
    write_ok = link.write(0x10000 + 0x300000, copy.data() + 0x1000, 0x100000);
  };
  bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}, std::uint32_t{1}));
  unsigned reads = 0, writes = 0;
  for (;;) {
    const wire::Message message = bench.receive();
    if (message.type() == wire::kTypeReply) break;
    const auto access = message.as<wire::DmaAccess>();
    REQUIRE(access);
    REQUIRE(access->count <= 1 << 20);
    std::vector<std::byte> payload = packed(*access);
    std::byte *place = host.data() + (access->address - 0x10000);
    if (message.header.command == wire::kDmaRead) {
      ++reads;
      payload.insert(payload.end(), place, place + access->count);
    } else {
      ++writes;
      REQUIRE(message.header.command == wire::kDmaWrite);
      std::memcpy(place, message.payload.data() + sizeof *access, access->count);
    }
    bench.send(message.header.command, payload, {}, wire::kTypeReply, message.header.id);
  }
  CHECK(read_ok);
  CHECK(write_ok);
  CHECK(reads == 3);
  CHECK(writes == 1);
  CHECK(std::equal(copy.begin() + 0x1000, copy.begin() + 0x101000, host.begin() + 0x300000));
}

TEST_CASE("memory without a descriptor: the client's limit on transfers is kept") {
  Bench bench(true, R"({"capabilities":{"max_data_xfer_size":1024,"cx_time":true}})");
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request())) == 0);
  std::vector<std::byte> copy(4000);
  bench.function.on_doorbell = [&](FakeFunction &function, std::uint64_t) {
    function.mappings.at(0x10000).link->read(0x10000, copy.data(), copy.size());
  };
  bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}, std::uint32_t{1}));
  std::vector<std::uint64_t> counts;
  for (;;) {
    const wire::Message message = bench.receive();
    if (message.type() == wire::kTypeReply) break;
    const auto access = message.as<wire::DmaAccess>();
    counts.push_back(access->count);
    std::vector<std::byte> payload = packed(*access);
    payload.resize(payload.size() + access->count, std::byte{7});
    bench.send(message.header.command, payload, {}, wire::kTypeReply, message.header.id);
  }
  CHECK(counts == std::vector<std::uint64_t>{1024, 1024, 1024, 928});
  CHECK(copy == std::vector<std::byte>(4000, std::byte{7}));
}

TEST_CASE("memory without a descriptor: commands that come in between are served afterwards, in order") {
  Bench bench;
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request())) == 0);
  bool done = false;
  bench.function.on_doorbell = [&](FakeFunction &function, std::uint64_t) {
    std::byte byte{};
    done = function.mappings.at(0x10000).link->read(0x10000, &byte, 1) && byte == std::byte{9};
  };
  bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}, std::uint32_t{1}), {}, 0, 1);
  const wire::Message question = bench.receive();
  REQUIRE(question.header.command == wire::kDmaRead);
  bench.send(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0}), {}, 0, 2);
  bench.send(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0}), {}, 0, 3);
  bench.send(wire::kDmaRead, packed(wire::DmaAccess{0x10000, 1}, std::uint8_t{9}), {}, wire::kTypeReply,
             question.header.id);
  CHECK(bench.receive().header.id == 1);
  CHECK(bench.receive().header.id == 2);
  CHECK(bench.receive().header.id == 3);
  CHECK(done);
}

TEST_CASE("memory without a descriptor: refusals and short answers are faults of the access") {
  for (const int kind : {0, 1, 2}) {
    INFO(kind);
    Bench bench;
    REQUIRE(bench.error(wire::kDmaMap, packed(map_request())) == 0);
    bool ok = true;
    bench.function.on_doorbell = [&](FakeFunction &function, std::uint64_t) {
      std::byte bytes[8];
      ok = function.mappings.at(0x10000).link->read(0x10000, bytes, 8);
    };
    bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}, std::uint32_t{1}), {}, 0, 1);
    const wire::Message question = bench.receive();
    if (kind == 0) bench.send(wire::kDmaRead, {}, {}, wire::kTypeReply | wire::kError, question.header.id);
    if (kind == 1) bench.send(wire::kDmaRead, packed(wire::DmaAccess{0x10000, 8}), {}, 1, question.header.id);
    if (kind == 2) bench.send(wire::kDmaRead, packed(wire::DmaAccess{0x10000, 8}, 1, 2, 3), {}, 1, question.header.id);
    CHECK(bench.receive().header.id == 1);
    CHECK(!ok);
    CHECK(bench.alive());
  }
}

TEST_CASE("memory without a descriptor: a client that leaves in the middle ends the access") {
  Bench bench;
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request())) == 0);
  bool ok = true;
  bench.function.on_doorbell = [&](FakeFunction &function, std::uint64_t) {
    std::byte byte{};
    ok = function.mappings.at(0x10000).link->read(0x10000, &byte, 1);
  };
  bench.send(wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}, std::uint32_t{1}));
  bench.receive();
  bench.hang_up();
  CHECK(!ok);
  CHECK(bench.function.power_cycles == 1);
}

// ---- reset, time, the end ----

TEST_CASE("device reset keeps mappings and descriptors") {
  Bench bench;
  const auto fds = events(1);
  REQUIRE(bench.error(wire::kDmaMap, packed(map_request())) == 0);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 1, 1)), raw(fds)) == 0);
  bench.function.armed.clear();
  CHECK(bench.error(wire::kDeviceReset, {}) == 0);
  CHECK(bench.function.resets == 1);
  CHECK(bench.function.power_cycles == 0);
  CHECK(bench.function.mappings.size() == 1);
  CHECK(bench.function.armed == std::map<std::uint32_t, bool>{{1, true}});
  bench.function.raised = {1};
  REQUIRE(bench.error(wire::kAdvance, packed(wire::AdvanceRequest{0})) == 0);
  CHECK(count_of(fds[0]) == 1);
}

TEST_CASE("a client that owns time moves it, and only by asking") {
  Bench bench;
  REQUIRE(bench.alive());
  CHECK(bench.function.advances == 0);
  const auto reply = bench.call(wire::kAdvance, packed(wire::AdvanceRequest{1234})).as<wire::AdvanceReply>();
  REQUIRE(reply);
  CHECK(reply->now_ps == 1234);
  CHECK(reply->wake == wire::kWakeIdle);
  CHECK(reply->reserved == 0);
  CHECK(bench.error(wire::kAdvance, std::vector<std::byte>(7)) == EINVAL);
}

TEST_CASE("another card's traffic is told by a client that owns time") {
  Bench bench;
  const auto traffic = [](std::uint64_t offset, std::uint32_t write, std::uint32_t reserved = 0) {
    return packed(wire::PeerTraffic{offset, 100, write, reserved});
  };
  const auto duration = [&](std::uint32_t write) {
    const auto reply =
        bench.call(wire::kPeerTraffic, traffic(FakeFunction::kPeerOffset, write)).as<wire::PeerTrafficReply>();
    REQUIRE(reply);
    return reply->duration_ps;
  };
  CHECK(duration(1) == 200);
  CHECK(duration(0) == 300);
  CHECK(bench.error(wire::kPeerTraffic, traffic(FakeFunction::kPeerOffset + 1, 1)) == EINVAL);
  CHECK(bench.error(wire::kPeerTraffic, traffic(FakeFunction::kPeerOffset, 2)) == EINVAL);
  CHECK(bench.error(wire::kPeerTraffic, traffic(FakeFunction::kPeerOffset, 1, 1)) == EINVAL);
  CHECK(bench.error(wire::kPeerTraffic, std::vector<std::byte>(23)) == EINVAL);
  CHECK(bench.alive());
  Bench stranger(true, "{}");
  CHECK(stranger.error(wire::kPeerTraffic, traffic(FakeFunction::kPeerOffset, 1)) == ENOTSUP);
}

TEST_CASE("for another client time passes by itself") {
  Bench bench(true, "{}");
  const auto fds = events(1);
  REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 1)), raw(fds)) == 0);
  CHECK(bench.error(wire::kAdvance, packed(wire::AdvanceRequest{1})) == ENOTSUP);
  bench.function.on_doorbell = [](FakeFunction &function, std::uint64_t) { function.raised = {0}; };
  REQUIRE(bench.error(wire::kRegionWrite, packed(wire::RegionAccess{0, 0, 4}, std::uint32_t{1})) == 0);
  pollfd wait{fds[0].get(), POLLIN, 0};
  CHECK(poll(&wait, 1, 5000) == 1);
  CHECK(count_of(fds[0]) == 1);
}

TEST_CASE("descriptors that a message does not need are closed") {
  Bench bench;
  const Fd file = memory_file(4096);
  REQUIRE(bench.alive());
  const std::size_t before = open_descriptors();
  const std::vector<int> many(32, file.get());
  for (int round = 0; round < 20; ++round) {
    CHECK(bench.error(wire::kGetInfo, packed(wire::DeviceInfo{16, 0, 0, 0}), many) == 0);
    CHECK(bench.error(wire::kRegionRead, packed(wire::RegionAccess{0, 7, 4}), many) == 0);
    CHECK(bench.error(999, {}, many) == ENOTSUP);
    CHECK(bench.error(wire::kDeviceReset, {}, many) == 0);
    CHECK(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, 1)), many) == EINVAL);
    CHECK(bench.error(wire::kDmaMap, packed(map_request()), many) == EINVAL);
    CHECK(bench.error(wire::kDmaUnmap, packed(unmap_request()), many) == ENOENT);
  }
  REQUIRE(bench.alive());  // the message before is done with
  CHECK(open_descriptors() == before);
}

TEST_CASE("a client that leaves gives everything back") {
  const std::size_t before = open_descriptors();
  for (int round = 0; round < 3; ++round) {
    Bench bench;
    const auto fds = events(FakeFunction::kVectors);
    const Fd file = memory_file(0x2000);
    REQUIRE(bench.error(wire::kSetIrqs, packed(irq_request(kTriggerEvent, 0, FakeFunction::kVectors)), raw(fds)) == 0);
    REQUIRE(bench.error(wire::kDmaMap, packed(map_request()), {file.get()}) == 0);
    bench.hang_up();
    CHECK(bench.function.mappings.empty());
    CHECK(bench.function.power_cycles == 1);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("a connection that breaks inside a message ends like any other") {
  for (const std::size_t bytes : {1u, 8u, 15u, 16u, 20u}) {
    Bench bench;
    const auto all = packed(wire::Header{9, wire::kGetInfo, 32, 0, 0}, wire::DeviceInfo{16, 0, 0, 0});
    REQUIRE(::write(bench.channel().fd(), all.data(), bytes) == static_cast<ssize_t>(bytes));
    bench.hang_up();
    CHECK(bench.function.power_cycles == 1);
  }
}

TEST_CASE("random messages are answered or dropped, and the connection lives") {
  const auto seed = Catch::rngSeed() != 0 ? Catch::rngSeed() : 20261127u;
  INFO("seed " << seed);
  std::mt19937 random(seed);
  Bench bench;
  unsigned answered = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::byte> payload(random() % 80);
    for (auto &byte : payload) byte = static_cast<std::byte>(random() % 4 == 0 ? random() : random() % 3);
    // Small values in the places of sizes and flags reach deeper than noise.
    if (payload.size() >= 4) payload[0] = static_cast<std::byte>(16 + random() % 24);
    auto command = static_cast<std::uint16_t>(random() % 17);
    if (command == wire::kVersion) command = 0x4358;
    bench.send(command, payload);
    const wire::Message reply = bench.receive();
    REQUIRE(reply.header.command == command);
    answered += (reply.header.flags & wire::kError) == 0;
  }
  CHECK(answered > 0);
  CHECK(bench.alive());
}
