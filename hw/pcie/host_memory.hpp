// Host memory as the card sees it: I/O virtual addresses that the host has mapped.
#ifndef HW_PCIE_HOST_MEMORY_HPP
#define HW_PCIE_HOST_MEMORY_HPP

#include <cstddef>
#include <cstdint>
#include <map>

namespace cx::hw {

class HostMemory {
 public:
  enum class Result : std::uint8_t { ok, bad_argument, overlap, not_mapped };

  // [iova, iova + bytes) is backed by `memory` until it is unmapped.
  Result map(std::uint64_t iova, std::uint64_t bytes, std::byte *memory, bool writable);
  // Removes the mappings that make up exactly [iova, iova + bytes); nothing changes unless they do.
  Result unmap(std::uint64_t iova, std::uint64_t bytes);
  void clear() { mappings_.clear(); }

  struct Piece {
    std::byte *memory = nullptr;
    std::uint64_t bytes = 0;  // contiguous from the address; 0: fault
  };
  // What lies at an address for an access of the given kind, at most `bytes`.
  Piece translate(std::uint64_t iova, std::uint64_t bytes, bool write) const;

  // Checks a range. True when all of it is mapped; else *fault is the first address that is not.
  bool check(std::uint64_t iova, std::uint64_t bytes, bool write, std::uint64_t *fault) const;

  // Copies; the range must have been checked.
  void read(std::uint64_t iova, std::byte *to, std::uint64_t bytes) const;
  void write(std::uint64_t iova, const std::byte *from, std::uint64_t bytes);

 private:
  struct Mapping {
    std::uint64_t last;  // inclusive
    std::byte *memory;
    bool writable;
  };
  std::map<std::uint64_t, Mapping> mappings_;  // by first address
};

}  // namespace cx::hw

#endif
