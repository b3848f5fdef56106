// Host memory as the card sees it: I/O virtual addresses that the host has mapped.
#ifndef HW_PCIE_HOST_MEMORY_HPP
#define HW_PCIE_HOST_MEMORY_HPP

#include <cstddef>
#include <cstdint>
#include <map>

namespace cx::hw {

// Host memory that cannot be reached by pointer: each access goes to the host. False when the host refuses or is gone.
class HostWindow {
 public:
  virtual bool read(std::uint64_t iova, std::byte *to, std::uint64_t bytes) = 0;
  virtual bool write(std::uint64_t iova, const std::byte *from, std::uint64_t bytes) = 0;

 protected:
  ~HostWindow() = default;
};

struct PcieRuns;

// Another function's memory, which lies in this one's address space like host memory. Times are picoseconds of this
// card's kernel.
class PeerMemory {
 public:
  // Whether the other function answers.
  virtual bool reachable() const = 0;
  // A write of `runs` (addresses of this card) reaches the other card's link at `at`: when it is in its memory.
  virtual std::uint64_t written(std::uint64_t at, const PcieRuns &runs) = 0;
  // A read request reaches it: when the last byte has left the other card.
  virtual std::uint64_t answered(std::uint64_t at, const PcieRuns &runs) = 0;

 protected:
  ~PeerMemory() = default;
};

class HostMemory {
 public:
  enum class Result : std::uint8_t { ok, bad_argument, overlap, not_mapped };
  // What the device may do with a mapping.
  struct Access {
    bool read = true;
    bool write = true;
  };

  // [iova, iova + bytes) is backed by `memory`, or by `window`, until it is unmapped.
  Result map(std::uint64_t iova, std::uint64_t bytes, std::byte *memory, Access access);
  Result map(std::uint64_t iova, std::uint64_t bytes, HostWindow &window, Access access);
  // `memory` is another function's: accesses take the time that `peer` says.
  Result map(std::uint64_t iova, std::uint64_t bytes, std::byte *memory, PeerMemory &peer, Access access);
  // Removes what `peer` backs.
  void unmap(const PeerMemory &peer);
  // Removes the mappings that make up exactly [iova, iova + bytes); nothing changes unless they do.
  Result unmap(std::uint64_t iova, std::uint64_t bytes);
  void clear() { mappings_.clear(); }

  // Checks a range. True when all of it is mapped; else *fault is the first address that is not.
  bool check(std::uint64_t iova, std::uint64_t bytes, bool write, std::uint64_t *fault) const;

  // The function whose memory lies at an address; null: it is the host's, or nobody's.
  PeerMemory *peer(std::uint64_t iova) const;

  // Where the byte at an address lies in this process; nullptr: not mapped, or reached over messages.
  const std::byte *pointer(std::uint64_t iova) const { return translate(iova, 1, false).memory; }

  // Copies; the range must have been checked. False when a window refuses.
  bool read(std::uint64_t iova, std::byte *to, std::uint64_t bytes) const;
  bool write(std::uint64_t iova, const std::byte *from, std::uint64_t bytes);

 private:
  struct Mapping {
    std::uint64_t last;  // inclusive
    std::byte *memory;   // null: through the window
    HostWindow *window;
    Access access;
    PeerMemory *peer = nullptr;
  };
  struct Piece {
    std::byte *memory = nullptr;
    HostWindow *window = nullptr;
    std::uint64_t bytes = 0;  // contiguous from the address; 0: fault
  };
  Result map(std::uint64_t iova, std::uint64_t bytes, const Mapping &mapping);
  // What lies at an address for an access of the given kind, at most `bytes`.
  Piece translate(std::uint64_t iova, std::uint64_t bytes, bool write) const;

  std::map<std::uint64_t, Mapping> mappings_;  // by first address
};

}  // namespace cx::hw

#endif
