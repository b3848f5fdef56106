#include "driver/transport/transport.hpp"

#include <sys/mman.h>

#include <sstream>

#include "driver/include/cx/error.hpp"
#include "driver/transport/refused_access.hpp"

namespace cx {

namespace {
constexpr uint32_t kStatusBadAddress = 4;  // status BAD_ADDRESS of hw/queue/packets.yaml
}

std::byte *Transport::allocate(size_t bytes) {
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw OutOfMemoryError("host memory: " + std::to_string(bytes) + " bytes are not to be had");
  return static_cast<std::byte *>(memory);
}

void Transport::release(std::byte *memory, size_t bytes) { munmap(memory, bytes); }

void Transport::inject(const std::string &fault) {
  throw InputError("fault '" + fault + "': this card does not let faults be provoked");
}

bool Transport::map_peer(uint64_t, size_t, Transport &, uint64_t, bool) { return false; }

uint64_t Transport::peer_traffic(uint64_t, uint64_t, bool) { return 0; }

std::string access_text(const std::string &operation, int bar, uint64_t offset, size_t size) {
  std::ostringstream text;
  text << operation << ' ';
  if (bar == Transport::kConfigSpace) {
    text << "configuration space";
  } else {
    text << "BAR" << bar;
  }
  text << " offset 0x" << std::hex << offset << std::dec << " size " << size;
  return text.str();
}

void refused_access(const std::string &operation, int bar, uint64_t offset, size_t size, const std::string &reason) {
  DeviceFault::Record record;
  record.status = kStatusBadAddress;
  record.address = offset;
  throw DeviceFault(record, access_text(operation, bar, offset, size) + ": " + reason);
}

}  // namespace cx
