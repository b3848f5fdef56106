// What the server needs of a PCIe function: region accesses, DMA mappings, interrupts, resets and time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace cx::hw::vfio {

/// Host memory that only messages reach. Return false when the host refuses or is gone.
class HostLink {
 public:
  virtual bool read(std::uint64_t address, std::byte *to, std::uint64_t bytes) = 0;
  virtual bool write(std::uint64_t address, const std::byte *from, std::uint64_t bytes) = 0;

 protected:
  ~HostLink() = default;
};

class Function {
 public:
  enum class Mapped : std::uint8_t { ok, overlap, bad };
  enum class Wake : std::uint8_t { interrupt, limit, idle, broken };

  virtual ~Function() = default;

  /// Bytes of region `index` (vfio numbering: 0 to 5 BARs, 7 configuration space); 0: not there.
  virtual std::uint64_t region_bytes(std::uint32_t index) const = 0;
  struct RegionMemory {
    int file;             ///< stays the function's, until the next power_cycle()
    std::uint64_t bytes;  ///< from the region's and the file's beginning; multiple of 4096
  };
  /// Memory behind the region that a client may map.
  virtual std::optional<RegionMemory> region_memory(std::uint32_t) const { return std::nullopt; }
  /// Accesses inside the region; false: the function refuses. Writes are posted where PCIe posts them.
  virtual bool read(std::uint32_t region, std::uint64_t offset, std::byte *to, std::size_t bytes) = 0;
  virtual bool write(std::uint32_t region, std::uint64_t offset, const std::byte *from, std::size_t bytes) = 0;

  virtual Mapped map(std::uint64_t address, std::uint64_t bytes, std::byte *memory, bool readable, bool writeable) = 0;
  virtual Mapped map(std::uint64_t address, std::uint64_t bytes, HostLink &link, bool readable, bool writeable) = 0;
  virtual void unmap(std::uint64_t address, std::uint64_t bytes) = 0;

  /// MSI-X vectors, and whether one may be sent.
  virtual std::uint32_t vectors() const = 0;
  virtual void arm(std::uint32_t vector, bool armed) = 0;
  virtual std::optional<std::uint32_t> take_interrupt() = 0;

  /// Whether an uncorrectable error was reported, or the link went down, since the last call.
  virtual bool take_error() { return false; }

  /// Faults may be provoked by inject(), which returns why not; empty: armed.
  virtual bool allows_faults() const { return false; }
  virtual std::string inject(const std::string &) { return "faults cannot be provoked here"; }

  /// Function-level reset; mappings stay.
  virtual void reset() = 0;
  /// Everything as after power-on; mappings are gone.
  virtual void power_cycle() = 0;

  /// Lets simulated time pass until an interrupt, nothing is left to do, or the limit.
  virtual Wake advance(std::uint64_t limit_ps) = 0;
  virtual std::uint64_t time_ps() const = 0;

  /// Another card has moved bytes in the device memory behind BAR4: lets the time pass that link and memory take, in
  /// picoseconds. Nothing: the range is not there.
  virtual std::optional<std::uint64_t> peer_traffic(std::uint64_t offset, std::uint64_t bytes, bool write) {
    (void)offset, (void)bytes, (void)write;
    return std::nullopt;
  }
};

}  // namespace cx::hw::vfio
