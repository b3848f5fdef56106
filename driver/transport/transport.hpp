// The one door through which the driver reaches a card.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace cx {

/// What a PCIe function offers to a driver, and nothing else: accesses to configuration space and BARs, host memory
/// that it may reach by DMA, interrupts, and time. Everything above is written against this class, so a card in this
/// process, one behind a socket and a mock differ in nothing that the driver could depend on. Hence its shape:
/// - accesses are synchronous and by BAR and offset; addresses of the host's bus are the transport's affair;
/// - host memory is mapped by pointer and size; a transport in another process shares or mirrors these pages;
/// - waiting is one call with a limit in simulated time: an in-process card lets its time pass there, a remote one
/// blocks on
///   its interrupt. The driver never sleeps and never reads the wall clock, which keeps runs deterministic.
///
/// Calls come from one thread at a time. Errors: DeviceFault with status BAD_ADDRESS for an access that the card
/// refuses, UsageError for wrong arguments, DeviceLostError when the card is gone, Error when the transport itself
/// broke.
class Transport {
 public:
  static constexpr int kConfigSpace = -1;  ///< as `bar`: the 4 KiB configuration space

  /// Why advance() returned.
  enum class Wake {
    kInterrupt,  ///< at least one message waits in take_interrupt()
    kLimit,      ///< the time limit was reached
    kIdle        ///< the card will stay as it is until the host acts
  };

  Transport() = default;
  Transport(const Transport &) = delete;
  Transport &operator=(const Transport &) = delete;
  virtual ~Transport() = default;

  /// Registers: aligned accesses of 4 bytes; configuration space 1, 2 or 4; memory BARs any size.
  virtual void read(int bar, uint64_t offset, void *data, size_t size) = 0;
  virtual void write(int bar, uint64_t offset, const void *data, size_t size) = 0;

  /// Zeroed host memory at a page boundary that the device can reach at full speed once it is mapped; bytes is a
  /// multiple of 4096. Throws OutOfMemoryError.
  virtual std::byte *allocate(size_t bytes);
  /// Gives it back; it must not be mapped.
  virtual void release(std::byte *memory, size_t bytes);

  /// Lets the device reach [iova, iova + size), backed by `memory`, which stays valid until it is unmapped. Both are
  /// multiples of 4096. Overlaps are refused.
  virtual void dma_map(uint64_t iova, size_t size, void *memory, bool writable) = 0;
  virtual void dma_unmap(uint64_t iova, size_t size) = 0;

  /// Lets this card's DMA reach the other card's memory, from `offset` of its BAR4, at [iova, iova + size). False:
  /// these two cards cannot reach each other.
  virtual bool map_peer(uint64_t iova, size_t size, Transport &peer, uint64_t offset, bool writable);
  /// Takes away what map_peer() gave.
  virtual void unmap_peer(uint64_t iova, size_t size) { dma_unmap(iova, size); }
  /// Another card has moved `bytes` from or to this card's memory, where the mover's time does not hold this card's
  /// link: passes the time that they take here and returns it in picoseconds. 0: the mover's time holds all.
  virtual uint64_t peer_traffic(uint64_t offset, uint64_t bytes, bool write);

  /// Whether peer_traffic() has something to do.
  virtual bool counts_peer_traffic() const { return false; }

  /// Lets simulated time pass until an interrupt arrives, nothing is left to do, or limit_ps picoseconds have passed.
  virtual Wake advance(uint64_t limit_ps) = 0;

  /// The oldest MSI-X message that has arrived: its vector.
  virtual std::optional<uint32_t> take_interrupt() = 0;

  /// Whether the card has reported an uncorrectable error (vfio: the error interrupt), or its link went down, since the
  /// last call. advance() returns kInterrupt for it.
  virtual bool take_error() { return false; }

  /// Provokes a fault, KIND[@key=value,...] (docs/faults.md), which strikes in the course of simulated time. Throws
  /// InputError when the text describes none or the card does not let faults be provoked.
  virtual void inject(const std::string &fault);

  /// Simulated time since power-on, in picoseconds.
  virtual uint64_t time_ps() const = 0;
};

}  // namespace cx
