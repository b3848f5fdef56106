// A whole card in this process that serves one input after the other, and what must be true after each.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "driver/umd/device.hpp"
#include "hw/regs/gen/packets.hpp"

namespace cx::fuzz {

/// tiny with 16 MiB of memory; opened once, because a process builds one.
class Card {
 public:
  static Card &instance();

  // What inputs may name. The addresses are the same in every process, so that an input says everything.
  static constexpr uint64_t kArenaBytes = 64 << 10;  ///< host memory that the device may write
  uint64_t arena() const { return arena_.iova(); }
  uint64_t rings() const { return rings_.front().iova(); }   ///< host memory that the device may read
  uint64_t programs() const { return programs_.address(); }  ///< device memory, see fuzz_packets.cpp
  uint64_t data() const { return data_.address(); }          ///< device memory
  static constexpr uint64_t kDataBytes = 64 << 10;
  static constexpr uint64_t kProgramBytes = 4096;
  static constexpr unsigned kPrograms = 4;

  /// Brings programs, lists, arena and data to what they are at the start.
  void restore();

  static constexpr uint64_t kListsBytes = 16 << 10;
  uint64_t lists() const { return lists_.iova(); }  ///< host memory that the device may read, for EXECUTE
  /// Writes packets there; room() says how many fit at an address (0: none, or misaligned).
  void put(uint64_t iova, std::span<const packets::Bytes> list);
  std::size_t room(uint64_t iova) const;

  struct Stream {
    std::vector<packets::Bytes> packets;
    uint32_t log2_ring = 4;
    uint32_t priority = 1;
    bool each = false;  ///< a doorbell for each packet
  };
  struct Outcome {
    uint32_t consumed = 0;       ///< packets
    bool ended_by_host = false;  ///< a WAIT or BARRIER stood for too long: the host reset the queue
  };
  /// Runs a stream on each of queues 1 and 2, at the same time. Fails when a queue makes no progress for longer than
  /// its oldest packet may take, or a broken packet has no fault.
  std::array<Outcome, 2> run(const std::array<Stream, 2> &streams);

  /// Runs a program image with the segments image, data, data, data; fails as run() does.
  void launch(const std::vector<std::byte> &image, uint32_t timeout_kcycles);

  /// The default queue completes a NOP and a copy; no fault is left over.
  void require_alive();

  Device &device() { return *device_; }

 private:
  Card();
  struct Running;
  void start(Running &running);
  void feed(Running &running);
  void command(uint32_t op, uint32_t queue);
  uint32_t queue_register(uint64_t offset) { return device_->read_register(queue_offset(offset)); }
  static uint64_t queue_offset(uint64_t offset);
  /// A packet by itself, or what lies in the list of an EXECUTE packet now.
  std::vector<packets::Bytes> list_of(const packets::Bytes &packet) const;
  bool may_wait(const packets::Bytes &packet) const;
  /// Simulated time in which a packet ends, or in which the host gives up on one that may wait.
  uint64_t longest_us(const packets::Bytes &packet) const;
  void take_interrupts();
  void forget_faults();

  std::unique_ptr<Device> device_;
  HostBuffer arena_, lists_;
  std::array<HostBuffer, 2> rings_;
  DeviceBuffer programs_, data_, table_;
  std::vector<std::byte> program_bytes_;
};

}  // namespace cx::fuzz
