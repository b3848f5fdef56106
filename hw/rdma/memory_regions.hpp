// Memory that verbs may touch, by key.
#ifndef HW_RDMA_MEMORY_REGIONS_HPP
#define HW_RDMA_MEMORY_REGIONS_HPP

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cx::hw::net {

// A sum.
enum Access : unsigned { kLocalWrite = 1, kRemoteRead = 2, kRemoteWrite = 4, kRemoteAtomic = 8 };

// Keys hold an index and a count of uses: the key of a region that was removed stays wrong.
class MemoryRegions {
 public:
  // `memory` may be null: accesses are checked and timed, no data moves. Reading locally needs no right.
  std::uint32_t add(std::byte *memory, std::uint64_t address, std::uint64_t bytes, unsigned access);
  // False for a key that is not in use.
  bool remove(std::uint32_t key);

  enum class Verdict { ok, bad_key, out_of_bounds, no_right };
  // On ok, `memory` is that of `address`, or null. A range of no bytes is within bounds anywhere in the region.
  Verdict find(std::uint32_t key, std::uint64_t address, std::uint64_t bytes, unsigned access,
               std::byte **memory) const;

 private:
  struct Region {
    std::byte *memory = nullptr;
    std::uint64_t address = 0, bytes = 0;
    unsigned access = 0;
    std::uint32_t uses = 0;
    bool live = false;
  };
  std::vector<Region> regions_;
};

}  // namespace cx::hw::net

#endif
