// Host memory behind a modelled memory.
#ifndef HW_NOC_STORE_HPP
#define HW_NOC_STORE_HPP

#include <cstddef>
#include <cstdint>

namespace cx::hw {

// Zeroed bytes that the host provides as they are touched, in large pages where it can: a model of gigabytes costs what
// is used of it.
class Store {
 public:
  // `bytes` is above 0. Throws std::system_error, which names `what`, if the host refuses.
  Store(std::uint64_t bytes, const char *what);
  ~Store();
  Store(const Store &) = delete;
  Store &operator=(const Store &) = delete;

  std::byte *data() { return data_; }
  const std::byte *data() const { return data_; }
  std::uint64_t bytes() const { return bytes_; }

  // All zero again; gives the memory back to the host.
  void clear();

 private:
  std::uint64_t bytes_;
  const char *what_;
  std::byte *data_;
};

}  // namespace cx::hw

#endif
