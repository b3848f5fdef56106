// Queues of command packets and the fences of their completion.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "driver/include/cx/error.hpp"

namespace cx {

class CommandBuffer;
class Device;
class HostBuffer;
class Queue;

struct QueueOptions {
  uint32_t log2_packets = 8;  ///< ring size, 1 to 16
  uint32_t priority = 1;      ///< 0 (served first) to 3
};

/// A packet's outcome. Times are device time in core cycles.
struct Completion {
  uint64_t start = 0, end = 0;
  uint32_t status = 0;
  uint32_t detail = 0;  ///< fault: instruction index or byte offset of the packet's field
  uint32_t entry = 0;   ///< of a command buffer that failed: 1 + index of the packet in it, 0 its list itself
};

/// Stands for the completion of one packet; cheap to copy; default-constructed: none. Valid while its Device lives.
class Fence {
 public:
  Fence() = default;
  bool valid() const { return state_ != nullptr; }
  /// Whether the packet has completed. Lets no time pass.
  bool done() const;
  /// Lets simulated time pass until the packet completes. Throws DeviceFault when it failed, TimeoutError after
  /// limit_us of simulated time (0: the device's wait_limit_us). May be called again with the same outcome.
  const Completion &wait(uint64_t limit_us = 0) const;
  /// As wait(), but returns a failed packet's record instead of throwing.
  const Completion &wait_status(uint64_t limit_us = 0) const;
  /// Of a failed packet after wait_status(): where and why.
  std::optional<DeviceFault::Record> fault() const;
  uint64_t index() const;  ///< of the packet in its queue

 private:
  friend class Queue;
  struct State;
  explicit Fence(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

/// How a packet is queued.
struct Submit {
  bool barrier = true;     ///< wait for every earlier packet of the queue
  bool interrupt = false;  ///< raise the queue's vector at completion
  bool ring = true;        ///< write the doorbell at once; else with the next packet that does, or with flush()
};

/// A ring in host memory. Made by Device::create_queue(). Threads take turns, as at the device.
class Queue {
 public:
  static constexpr size_t kPacketBytes = 64;
  using RawPacket = std::array<uint8_t, kPacketBytes>;  ///< packets::Bytes of hw/regs/gen/packets.hpp
  struct Stats {
    uint64_t submitted = 0, completed = 0, failed = 0, doorbells = 0;
    uint64_t full_waits = 0;  ///< submissions that had to wait for a slot
    uint64_t encoded = 0;     ///< packets that were made from arguments when they were submitted
  };

  Queue(const Queue &) = delete;
  Queue &operator=(const Queue &) = delete;
  ~Queue();

  uint32_t id() const { return id_; }
  uint32_t capacity() const { return 1u << options_.log2_packets; }
  uint32_t priority() const { return options_.priority; }

  // All submissions wait for a slot when the ring is full, at most the device's wait_limit_us of simulated time.

  /// bytes: 1 to 2^32 - 1, here and in the next two.
  Fence copy_to_device(uint64_t dst, uint64_t src_iova, uint64_t bytes, const Submit &how = {});
  Fence copy_to_host(uint64_t dst_iova, uint64_t src, uint64_t bytes, const Submit &how = {});
  Fence copy_on_device(uint64_t dst, uint64_t src, uint64_t bytes, const Submit &how = {});
  /// direction as in packets.md; row_bytes, rows, pitches below 2^32.
  Fence copy_2d(uint32_t direction, uint64_t dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch,
                uint64_t row_bytes, uint64_t rows, const Submit &how = {});
  Fence fill(uint64_t dst, uint64_t bytes, uint32_t pattern, const Submit &how = {});
  /// timeout_kcycles: watchdog in units of 1024 core cycles, 0 the firmware's default. timing_only: engines take their
  /// time but neither move nor compute data.
  Fence launch(uint64_t program, uint32_t program_bytes, uint64_t segments, uint32_t segment_count,
               uint32_t timeout_kcycles = 0, const Submit &how = {}, bool timing_only = false);
  /// Of a shared array, `sca_tiles` slots (up to Target::sca_tiles) are sparse tiles for the programs behind it, the
  /// others MAC tiles. UNSUPPORTED on other chips. A launch behind it takes a barrier.
  Fence reconfigure(uint32_t sca_tiles, const Submit &how = {});
  Fence signal(uint64_t iova, uint64_t value, bool add = false, const Submit &how = {});
  /// Raises the value to at least this one.
  Fence signal_max(uint64_t iova, uint64_t value, const Submit &how = {});
  /// compare as in packets.md.
  Fence wait_value(uint64_t iova, uint32_t compare, uint64_t value, const Submit &how = {});
  Fence barrier(const std::array<uint64_t, 4> &iovas, bool any, const Submit &how = {});
  Fence timestamp(uint64_t iova, const Submit &how = {});
  Fence nop(const Submit &how = {});
  /// Holds back what follows until a packet of any queue of this device has ended, however it did. When a reset ended
  /// that packet, this one ends as ABORTED as well, and what follows runs.
  Fence wait_for(const Fence &fence, const Submit &how = {});
  /// Runs a finished command buffer; nothing is encoded.
  Fence execute(const CommandBuffer &commands, const Submit &how = {});

  /// Any 64 bytes, for tests of the device. patch_completion: the completion record, its value and the vector are set
  /// as in any other packet; else the packet goes out as it is and its outcome is known from READ_INDEX and the fault
  /// registers alone.
  Fence submit_raw(const RawPacket &packet, bool patch_completion, const Submit &how = {});

  void flush();  ///< writes the doorbell when packets were queued without
  /// Waits for everything submitted; throws the first failure that no fence was asked about.
  void drain(uint64_t limit_us = 0);
  uint64_t outstanding();  ///< packets submitted and not complete
  const Stats &stats() const { return stats_; }
  /// What the oldest packet that is not complete waits for, for people. Lets time pass as register accesses do.
  std::string waits_for();
  /// A wait for this queue has run out of time since it last made progress.
  bool suspect() const { return suspect_; }

 private:
  friend class Device;
  friend class Fence;
  friend class Stream;
  friend class Timeline;
  Queue(Device &device, uint32_t id, const QueueOptions &options);
  template <class Packet>
  Fence submit(const Packet &packet, const Submit &how);
  Fence submit_bytes(const RawPacket &bytes, bool patch, const Submit &how);
  /// Keeps something alive until the packet has ended.
  void keep(const Fence &fence, std::shared_ptr<const void> what);
  void wait_for_slot();
  /// A wait that runs out of time tells what the queue waits for.
  template <class Wait>
  void guard(Wait &&wait);
  /// `ask`: also packets without a completion record, by registers.
  void harvest(bool ask = true);
  /// Ends every packet that has no outcome, also for queues that wait for them; returns how many.
  uint64_t abandon(uint32_t status);
  /// As after it was made, for a ring that the device has reset.
  void restart();
  /// Whether an outstanding packet reads or writes host memory in [iova, iova + bytes), those of lists that run
  /// included.
  bool refers_to(uint64_t iova, uint64_t bytes);
  void finish(const std::shared_ptr<Fence::State> &state, const Completion &completion);
  /// Asks the card's registers why a packet failed, or whether one without a record did.
  void find_fault(Fence::State &state);

  Device &device_;
  uint32_t id_;
  QueueOptions options_;
  uint32_t vector_;
  std::unique_ptr<HostBuffer> ring_;                   // packets; read-only to the device
  std::shared_ptr<HostBuffer> records_;                // one completion record for each slot
  std::deque<std::shared_ptr<Fence::State>> pending_;  // in packet order
  std::deque<std::shared_ptr<Fence::State>> failed_;   // for drain()
  uint64_t next_ = 0;                                  // index of the next packet
  uint64_t rung_ = 0;                                  // packets that the doorbell announced
  uint64_t consumed_ = 0;                              // packets known to be consumed (READ_INDEX)
  bool suspect_ = false;
  Stats stats_;
};

}  // namespace cx
