#include "hw/noc/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace cx::hw {

namespace {
constexpr size_t kPage = 4096;
}

SharedMemory::SharedMemory(size_t bytes) : bytes_(bytes) { renew(); }

SharedMemory::~SharedMemory() {
  munmap(data_, pages_bytes());
  close(file_);
}

size_t SharedMemory::pages_bytes() const { return (bytes_ + kPage - 1) / kPage * kPage; }

void SharedMemory::renew() {
  const auto fail = [&](int file) {
    const std::string reason = std::strerror(errno);
    if (file >= 0) close(file);
    throw std::runtime_error("shared memory of " + std::to_string(bytes_) + " bytes: " + reason);
  };
  const int file = memfd_create("cx device memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  // A client that cut the file short would kill this process.
  if (file < 0 || ftruncate(file, static_cast<off_t>(pages_bytes())) != 0 ||
      fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    fail(file);
  }
  void *memory =
      mmap(data_, pages_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | (data_ != nullptr ? MAP_FIXED : 0), file, 0);
  if (memory == MAP_FAILED) fail(file);
  if (file_ >= 0) close(file_);
  data_ = static_cast<uint8_t *>(memory);
  file_ = file;
}

}  // namespace cx::hw
