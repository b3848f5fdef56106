// Work in order: streams, events between them, calls of the host.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "driver/umd/command_buffer.hpp"
#include "driver/umd/queue.hpp"
#include "driver/umd/timeline.hpp"

namespace cx {

class Device;
class StreamSet;

/// A place in a stream's work. Cheap to copy; copies are the same event until one is recorded again.
class Event {
 public:
  bool recorded() const { return mark_ != nullptr; }
  /// Whether the work before it has ended. An event that was never recorded is done. Lets no time pass.
  bool done() const;
  /// Lets simulated time pass until it is done; TimeoutError after limit_us of it (0: the device's wait_limit_us).
  void wait(uint64_t limit_us = 0) const;
  /// Device time from the other event to this one, in core cycles; negative when this one came first. UsageError unless
  /// both are recorded and done.
  int64_t cycles_since(const Event &earlier) const;

 private:
  friend class Stream;
  struct Mark;
  std::shared_ptr<Mark> mark_;
};

/// Work that is done in the order in which it was put in. Made by Device::streams(). All functions may be called from
/// several threads.
///
/// Streams lie on the device's queues: streams of one priority share queues when there are more of them, and then wait
/// for each other's packets at barriers, never for each other's waits. What cannot go to the device yet (behind a call
/// of the host, or behind a timeline's value that nobody has submitted a signal of) is held back by the driver and goes
/// on while some call lets time pass.
///
/// When a packet fails, its stream keeps the error: what the driver holds back of it is dropped except signals and
/// events, on which others may wait, and every later call that puts work in or waits throws the error, until
/// clear_error(). Packets that were on the device already run. Other streams go on; a signal that failed itself, or
/// whose list failed before it or was dropped, is submitted by itself.
///
/// A stream that is destroyed with work pending: the work goes on, calls of the host included; its errors are lost.
class Stream {
 public:
  Stream(const Stream &) = delete;
  Stream &operator=(const Stream &) = delete;
  ~Stream();

  uint32_t priority() const;  ///< 0 (served first) to 3, as asked for
  uint32_t queue_id() const;
  const Queue &queue() const;  ///< shared with other streams, see above

  /// Any packet of a queue. The operation may run later than this call, inside of another that lets time pass.
  void enqueue(std::function<Fence(Queue &)> operation);
  void execute(const CommandBuffer &commands);
  /// Copies between host and device; ranges as of Device::upload(). Memory that is pinned when the copy's turn comes
  /// goes by DMA where it lies. Other memory goes through staging memory while calls let time pass, and what follows in
  /// the stream is held back until the copy is complete. The host memory stays, that of an upload unchanged, until
  /// then.
  void upload(uint64_t dst, std::span<const std::byte> src);
  void download(std::span<std::byte> dst, uint64_t src);
  /// Copies to another device; ranges as of Device::upload(). Cards that reach each other: packets of this stream.
  /// Others: through host memory, inside of one call that lets time pass. A target that is closed meanwhile is the
  /// stream's error (UsageError).
  void copy_peer(Device &dst_device, uint64_t dst, uint64_t src, uint64_t bytes);
  /// In the stream's order, also after an error: tells the queue and the stream's last packet on it that may not have
  /// ended; an empty fence: there is none. It must not use the device.
  void leave(std::function<void(const Queue &queue, const Fence &last)> function);
  void signal(const Timeline &timeline, uint64_t value);
  void wait(const Timeline &timeline, uint64_t value);
  void record(Event &event);
  /// Waits for what was recorded when this is called; nothing if the event was not recorded.
  void wait(const Event &event);
  /// The host calls it when all before it has ended, and nothing behind it starts before it returns. It runs inside of
  /// some thread's call that lets time pass, and must not use the device. What it throws is the stream's error.
  void call(std::function<void()> function);

  /// Whether all work has ended. Lets no time pass.
  bool done();
  /// Waits for all work; then throws the stream's error if there is one. limit_us and the queue that a wait gives up on
  /// as in Fence::wait().
  void synchronize(uint64_t limit_us = 0);
  /// For a caller that has waited by itself and gives up: throws TimeoutError with this text and what the stream waits
  /// for.
  [[noreturn]] void give_up(const std::string &text);
  /// Throws the stream's error if there is one. Lets no time pass.
  void check();
  void clear_error();

 private:
  friend class StreamSet;
  struct State;
  explicit Stream(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

/// The streams of a device and the queues below them. One for each device.
class StreamSet {
 public:
  explicit StreamSet(Device &device);
  ~StreamSet();
  /// Takes a queue of its own while the device has rings; else shares the one of this priority, or of the nearest, that
  /// has the fewest streams. priority 0 (served first) to 3, else UsageError. OutOfMemoryError when there is neither.
  std::unique_ptr<Stream> create(uint32_t priority = 1);

  /// While it lives nothing goes into the queues. `streams` may be null.
  class Pause {
   public:
    explicit Pause(StreamSet *streams) : streams_(streams) {
      if (streams_ != nullptr) before_ = std::exchange(streams_->in_progress_, true);
    }
    Pause(const Pause &) = delete;
    ~Pause() {
      if (streams_ != nullptr) streams_->in_progress_ = before_;
    }

   private:
    StreamSet *streams_;
    bool before_ = false;
  };

 private:
  friend class Device;
  friend class Stream;
  struct Lane;
  Lane &lane_of(uint32_t priority);
  /// Does what has become possible of what the driver holds back. Whether there was something.
  bool progress();
  bool holds(std::span<const std::byte> memory) const;  ///< a copy of this host memory that has not begun or ended

  Device &device_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::shared_ptr<Stream::State>> streams_;  // that live or have work left
  bool in_progress_ = false;
};

}  // namespace cx
