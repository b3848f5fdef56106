// Packets that are encoded once and run again and again.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "driver/umd/device.hpp"
#include "driver/umd/queue.hpp"
#include "driver/umd/timeline.hpp"

namespace cx {

/// A list of packets: recorded, finished once into host memory that the device reads, then run by Queue::execute(),
/// which costs one packet that is encoded already. The packets run as if they stood in the queue one after the other,
/// what follows in the queue waits for the last; the first that fails ends the run, and Completion::entry names it.
///
/// Copies share a finished list, which may run in several queues at once. What its packets name (programs, buffers) is
/// the caller's to keep; the list itself lives until the last run has ended, also when the command buffer goes before
/// that.
class CommandBuffer {
 public:
  static constexpr uint32_t kMaxPackets = 65535;

  explicit CommandBuffer(Device &device) : device_(device) {}

  // Recording; UsageError once finished, or when full. Arguments as of the queue's functions. `barrier`: wait for every
  // earlier packet of the list. Each returns the packet's index in the list.

  uint32_t copy_to_device(uint64_t dst, uint64_t src_iova, uint64_t bytes, bool barrier = true);
  uint32_t copy_to_host(uint64_t dst_iova, uint64_t src, uint64_t bytes, bool barrier = true);
  uint32_t copy_on_device(uint64_t dst, uint64_t src, uint64_t bytes, bool barrier = true);
  uint32_t copy_2d(uint32_t direction, uint64_t dst, uint64_t dst_pitch, uint64_t src, uint64_t src_pitch,
                   uint64_t row_bytes, uint64_t rows, bool barrier = true);
  uint32_t fill(uint64_t dst, uint64_t bytes, uint32_t pattern, bool barrier = true);
  uint32_t launch(uint64_t program, uint32_t program_bytes, uint64_t segments, uint32_t segment_count,
                  uint32_t timeout_kcycles = 0, bool barrier = true, bool timing_only = false);
  uint32_t reconfigure(uint32_t sca_tiles, bool barrier = true);
  uint32_t signal(uint64_t iova, uint64_t value, uint32_t op, bool barrier = true);  ///< op as in packets.md
  uint32_t wait_value(uint64_t iova, uint32_t compare, uint64_t value, bool barrier = true);
  uint32_t timestamp(uint64_t iova, bool barrier = true);
  /// Raises the timeline at each run; its memory lives as long as the list. Raising it to what it has does nothing: a
  /// list that runs again takes patch_value() or a larger value each time.
  uint32_t signal(const Timeline &timeline, uint64_t value, bool barrier = true);
  /// A stream holds a run back until every value that the list itself does not signal before has been submitted.
  uint32_t wait(const Timeline &timeline, uint64_t value, bool barrier = true);
  /// The packet's completion record goes to this address (32 bytes, multiple of 8) with `value` at each run.
  void set_record(uint32_t index, uint64_t iova, uint64_t value);

  /// Ends the recording. UsageError for an empty list.
  void finish();
  bool finished() const { return finished_ != nullptr; }
  uint32_t size() const;  ///< packets

  // Changes of a finished list, in place; UsageError while it runs, while a stream holds a run back, or when the packet
  // is of another type.

  void patch_launch(uint32_t index, uint64_t segments, uint32_t segment_count);
  void patch_copy(uint32_t index, uint64_t dst, uint64_t src);
  void patch_value(uint32_t index, uint64_t value);  ///< of SIGNAL and WAIT

  /// Whether a run has not ended, or a stream holds one back. Lets no time pass.
  bool running() const;

 private:
  friend class Queue;
  friend class Stream;
  struct Finished;
  struct TimelineUse {
    Timeline timeline;
    uint64_t value;
    bool signal;  // else a wait
  };
  using TimelineUses = std::map<uint32_t, TimelineUse>;  // by index of the packet
  /// What runs are going to signal.
  std::vector<std::pair<Timeline, uint64_t>> signals() const;
  /// Whether all values that a run waits for have been submitted, or it signals them itself.
  bool can_run() const;
  template <class Packet>
  uint32_t record(const Packet &packet, bool barrier);
  std::byte *entry_for_patch(uint32_t index, std::initializer_list<uint8_t> types);

  Device &device_;
  std::vector<Queue::RawPacket> packets_;  // until finish()
  TimelineUses timelines_;                 // until finish()
  std::shared_ptr<Finished> finished_;     // after it
};

/// What runs need.
struct CommandBuffer::Finished {
  HostBuffer list;
  Queue::RawPacket execute{};  // the packet that runs the list
  std::vector<Fence> runs;     // that had not ended when they were looked at last
  TimelineUses timelines;
  std::shared_ptr<const void> held = std::make_shared<int>();  // copies: with streams that hold a run back
};

}  // namespace cx
