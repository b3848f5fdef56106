// Host memory behind a modelled memory.
#ifndef HW_NOC_STORE_HPP
#define HW_NOC_STORE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>

#include "hw/noc/shared_memory.hpp"

namespace cx::hw {

// Zeroed bytes that the host provides as they are touched, in large pages where it can: a model of gigabytes costs what
// is used of it.
class Store {
 public:
  // `bytes` is above 0. `shared`: the bytes lie in a file that other processes may map, in whatever pages the host
  // gives such files. Throws std::system_error, which names `what`, if the host refuses.
  Store(std::uint64_t bytes, const char *what, bool shared = false);
  ~Store();
  Store(const Store &) = delete;
  Store &operator=(const Store &) = delete;

  std::byte *data() { return data_; }
  const std::byte *data() const { return data_; }
  std::uint64_t bytes() const { return bytes_; }

  int file() const { return shared_ ? shared_->file() : -1; }  // -1: not shared

  // All zero again; gives the memory back to the host. A shared store gets another file.
  void clear();

 private:
  std::unique_ptr<SharedMemory> shared_;
  std::uint64_t bytes_;
  const char *what_;
  std::byte *data_;
};

}  // namespace cx::hw

#endif
