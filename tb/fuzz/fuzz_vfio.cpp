// Messages of a vfio-user client: the server answers, refuses or hangs up, and leaves no mapping and no descriptor
// behind.
//
// Input: a byte of options (bit 0: a VERSION message goes first), then messages: u8 command (255: ADVANCE), u8 flags
// (bits 3:0 of the header's flags, bit 4: a reply, bits 6:5 descriptors of the kinds below, bit 7: the header claims
// another size), u16 bytes of payload, the payload. What the server writes is read and dropped.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "hw/vfio_user/server.hpp"
#include "tb/fuzz/fuzz.hpp"
#include "tb/hw/vfio_user/fake_function.hpp"

using namespace cx;
using namespace cx::fuzz;
namespace wire = cx::vfio;

namespace {

constexpr std::size_t kMaxMessages = 32;

wire::Fd memory_file() {
  wire::Fd fd(memfd_create("fuzz", MFD_CLOEXEC));
  require(fd && ftruncate(fd.get(), 64 << 10) == 0, "no file in memory");
  return fd;
}

std::vector<wire::Fd> descriptors(unsigned kinds) {
  std::vector<wire::Fd> fds;
  if ((kinds & 1) != 0) fds.push_back(memory_file());
  if ((kinds & 2) != 0) {
    for (int i = 0; i < 2; ++i) fds.emplace_back(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  }
  return fds;
}

void send_message(wire::Channel &channel, Reader &reader, uint16_t id) {
  const auto command = reader.get<uint8_t>(), flags = reader.get<uint8_t>();
  const auto payload = std::as_bytes(reader.take(reader.get<uint16_t>()));
  const std::vector<wire::Fd> fds = descriptors(flags >> 5 & 3);
  std::vector<int> raw;
  for (const wire::Fd &fd : fds) raw.push_back(fd.get());
  const uint32_t type = (flags & 0x10) != 0 ? wire::kTypeReply : wire::kTypeCommand;
  // Time passes by a command beyond a byte.
  const uint16_t code = command == 0xff ? static_cast<uint16_t>(wire::kAdvance) : command;
  const wire::Header header{id, code, 0, type | (flags & 0x0fu) << 4, 0};
  if ((flags & 0x80) != 0) {
    // The first word of the payload is the size that the header claims.
    wire::Header wrong = header;
    std::memcpy(&wrong.size, payload.data(), std::min(sizeof wrong.size, payload.size()));
    const auto bytes = wire::bytes_of(wrong);
    if (write(channel.fd(), bytes.data(), bytes.size()) < 0) return;
    if (!payload.empty() && write(channel.fd(), payload.data(), payload.size()) < 0) return;
    return;
  }
  channel.send(header, payload, {}, raw);
}

template <class T>
void append(Bytes &bytes, const T &value) {
  const auto *first = reinterpret_cast<const uint8_t *>(&value);
  bytes.insert(bytes.end(), first, first + sizeof value);
}

void message(Bytes &bytes, uint8_t command, uint8_t flags, const Bytes &payload) {
  bytes.push_back(command);
  bytes.push_back(flags);
  append(bytes, static_cast<uint16_t>(payload.size()));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
}

template <class T>
Bytes payload_of(const T &value, std::size_t more = 0) {
  Bytes bytes;
  append(bytes, value);
  bytes.resize(bytes.size() + more);
  return bytes;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Reader reader({data, size});
  int ends[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no sockets");
  wire::Channel client{wire::Fd(ends[0])};
  // The server's accesses to memory that it must ask for are the fuzzer's messages too: a reply among them may fit.
  tb::FakeFunction function;
  function.regions[2].resize(64 << 10);
  function.on_doorbell = [](tb::FakeFunction &card, uint64_t address) {
    for (const auto &[at, mapping] : card.mappings) {
      std::byte word[8] = {};
      if (mapping.link == nullptr || address < at || address - at > mapping.bytes - 8) continue;
      if (mapping.readable) mapping.link->read(address, word, sizeof word);
      if (mapping.writeable) mapping.link->write(address, word, sizeof word);
    }
  };
  std::thread drain([&client] {
    uint8_t buffer[4096];
    while (read(client.fd(), buffer, sizeof buffer) > 0) {
    }
  });
  std::thread speak([&] {
    if ((reader.get<uint8_t>() & 1) != 0) {
      const wire::Version version{0, 1};
      client.send({1, wire::kVersion, 0, wire::kTypeCommand, 0}, wire::bytes_of(version));
    }
    for (uint16_t id = 0; !reader.empty() && id < kMaxMessages; ++id) send_message(client, reader, id);
    shutdown(client.fd(), SHUT_WR);
  });
  {
    hw::vfio::Server server(function);
    server.serve(wire::Fd(ends[1]));
  }
  speak.join();
  drain.join();
  require(function.mappings.empty(), "a mapping outlives its client");
  require(function.power_cycles == 1, "the function is not power-cycled after its client");
  return 0;
}

std::vector<Bytes> fuzz::seeds() {
  const wire::DmaMap map{sizeof(wire::DmaMap), 3, 0, 0x10000, 0x2000};
  const wire::DmaUnmap unmap{sizeof(wire::DmaUnmap), 0, 0x10000, 0x2000};
  const wire::IrqSet irqs{sizeof(wire::IrqSet), wire::kDataEventfd | wire::kActionTrigger, wire::kMsix, 0, 2};
  const wire::RegionAccess access{0, 0, 8};
  std::vector<Bytes> seeds;
  for (int shape = 0; shape < 4; ++shape) {
    Bytes bytes = {1};
    message(bytes, wire::kGetInfo, 0, payload_of(wire::DeviceInfo{16, 0, 0, 0}));
    for (const uint8_t region : {0, 2, 7, 9}) {
      message(bytes, wire::kGetRegionInfo, 0, payload_of(wire::RegionInfo{32, 0, region, 0, 0, 0}));
    }
    message(bytes, wire::kDmaMap, shape % 2 == 0 ? 0x20 : 0, payload_of(map));
    message(bytes, wire::kSetIrqs, 0x40, payload_of(irqs));
    message(bytes, wire::kRegionRead, 0, payload_of(access));
    Bytes write = payload_of(access);
    append(write, uint64_t{0x10100});
    message(bytes, wire::kRegionWrite, 0, write);
    if (shape >= 2) message(bytes, wire::kDmaRead, 0x10, payload_of(wire::DmaAccess{0x10100, 8}, 8));
    message(bytes, wire::kDmaUnmap, 0, payload_of(unmap));
    message(bytes, wire::kDeviceReset, 0, {});
    seeds.push_back(bytes);
  }
  Bytes version = {0};
  const std::string text = std::string("\0\0\1\0", 4) + R"({"capabilities":{"max_msg_fds":4,"cx_time":true}})" + '\0';
  message(version, wire::kVersion, 0, Bytes(text.begin(), text.end()));
  message(version, 0xff, 0, Bytes(8, 1));
  seeds.push_back(version);
  return seeds;
}
