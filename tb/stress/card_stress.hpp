// Random work on one card, on many queues at once, with faults and resets; every outcome is checked.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "driver/umd/device.hpp"
#include "driver/umd/stream.hpp"
#include "tb/stress/memory_image.hpp"

namespace cx::stress {

/// The card or the driver broke a rule; the text says which.
class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr uint32_t kWatchdogKcycles = 256;
constexpr uint64_t kWaitLimitUs = 20'000;

struct Limits {
  uint32_t queues = 8;
  uint32_t streams = 3;             ///< with queues of their own
  uint64_t lane_bytes = 256 << 10;  ///< device memory that one queue works on; a multiple of 64
  uint64_t slot_bytes = 64 << 10;   ///< largest transfer
  uint32_t slots = 16;              ///< host buffers of a queue, so transfers under way at most
  bool faults = true;
  bool log = false;  ///< each fault and recovery, to stderr
};

/// What was done, by name. All of it is decided by the seed.
struct Tally {
  std::map<std::string, uint64_t> operations, faults, failures, recoveries, events;
  uint64_t completed = 0;
  uint64_t bytes_compared = 0;
  uint64_t digest = 0;  ///< of every outcome and its device time
};

/// Each queue has a range of device memory of its own, a lane. Packets run in order, but for transfers that touch
/// nothing another one under way touches; so the bytes of a lane follow from the packets that succeeded. A packet may
/// fail only with the status of a fault that was provoked, of its own illegal contents, or of a reset.
///
/// Each stream has such a range as well. Its work is looked at in batches: when all of a batch has succeeded the bytes
/// follow from it, else what it writes to is unknown.
class CardStress {
 public:
  CardStress(std::unique_ptr<Device> device, const Limits &limits, uint64_t seed);
  ~CardStress();
  /// Streams copy to memory of this one's card from now on; it lives as long.
  void set_peer(CardStress &peer);
  /// One operation: a packet, work of a stream, a fault, a look at fences. Throws Broken.
  void step();
  /// Waits for everything, brings the card back if need be, compares all memory. Throws Broken.
  void settle();
  /// Compares what the streams have copied to the peer, when both are settled. Throws Broken.
  void compare_inbox();
  const Tally &tally() const { return tally_; }
  Device &device() { return *device_; }

 private:
  enum class Kind { kUpload, kDownload, kFill, kMove, kLaunch, kSignal, kWait, kTimestamp, kNop, kIllegal };
  struct Range {
    uint64_t at = 0, bytes = 0;
    bool overlaps(const Range &other) const { return at < other.at + other.bytes && other.at < at + bytes; }
  };
  struct Operation {
    Kind kind = Kind::kNop;
    Fence fence;
    Range read, written;                          // of the lane
    uint64_t row_bytes = 0, rows = 0, pitch = 0;  // pitch: of the side that lies in the lane
    uint32_t pattern = 0;
    int slot = -1;
    uint64_t value = 0;              // SIGNAL
    std::set<uint32_t> must_fail{};  // illegal packet: one of these statuses
  };
  /// Memory that one queue or stream works on.
  struct Region {
    explicit Region(uint64_t bytes) : image(bytes) {}
    DeviceBuffer memory;
    MemoryImage image;
  };
  struct Lane : Region {
    using Region::Region;
    Queue *queue = nullptr;
    HostBuffer slots;
    std::vector<bool> slot_used;
    std::deque<Operation> pending;
    uint64_t signalled = 0;  // the last value that a SIGNAL of this lane was told to write
  };
  enum class StreamKind {
    kUpload,
    kDownload,
    kFill,
    kMove,
    kLaunch,
    kList,
    kPeer,
    kSignal,
    kWait,
    kMark,
    kWaitForMark,
    kCall
  };
  struct StreamOperation {
    StreamKind kind = StreamKind::kSignal;
    Range read, written;  // of the stream's memory; written by a copy to the peer: of the inbox
    uint32_t pattern = 0;
    std::vector<std::byte> data;  // of a transfer: pageable, or pinned for its time
    HostRegistration registration;
    Event mark;
    uint64_t number = 0;  // of a call of the host, from 1
  };
  struct StreamLane : Region {
    StreamLane(Device &device, uint64_t bytes, uint64_t outbox_bytes)
        : Region(bytes), timeline(device), outbox(outbox_bytes) {}
    std::unique_ptr<Stream> stream;
    DeviceBuffer table;  // of segments
    Timeline timeline;
    uint64_t signalled = 0;
    Event mark;
    std::optional<CommandBuffer> list;  // a fill, a copy of what it wrote, a launch and a signal
    Range list_range;
    uint32_t pattern = 0, list_signal = 0;
    std::deque<StreamOperation> batch;
    MemoryImage outbox;  // what must lie in the peer's inbox
    uint64_t calls_put = 0, last_call = 0, calls_resolved = 0;
  };

  uint64_t random(uint64_t from, uint64_t to);  // both included
  bool chance(uint64_t percent) { return random(1, 100) <= percent; }
  uint64_t random_size(uint64_t most);

  void make_lane(Lane &lane);
  void submit(Lane &lane);
  void submit_upload(Lane &lane);
  void submit_download(Lane &lane);
  void submit_fill(Lane &lane);
  void submit_move(Lane &lane);
  void submit_launch(Lane &lane);
  void submit_signal(Lane &lane);
  void submit_wait(Lane &lane);
  void submit_illegal(Lane &lane);
  /// Rows, their length and pitch; returns what they cover of the lane.
  Range shape_transfer(Operation &operation);
  Submit how(const Lane &lane, const Operation &operation);
  int take_slot(Lane &lane);
  std::byte *slot_data(Lane &lane, int slot) const;
  uint64_t slot_iova(const Lane &lane, int slot) const;
  Range random_range(uint64_t bytes, uint64_t align);
  void add(Lane &lane, Operation operation);

  void make_stream(StreamLane &lane);
  void stream_step();
  void submit(StreamLane &lane);
  void resolve(StreamLane &lane);
  void apply(StreamLane &lane, const StreamOperation &operation);
  void wait_for(StreamLane &lane);
  size_t number_of(const StreamLane &lane) const { return static_cast<size_t>(&lane - streams_.data()); }
  uint64_t inbox_address(size_t stream) const { return inbox_.address() + stream * limits_.slot_bytes; }
  Range results_range() const;  // of a lane, where launches write
  void write_table(const DeviceBuffer &table, const DeviceBuffer &memory);
  void mix_digest(uint64_t value);

  void provoke();
  void inject(const std::string &fault);
  void resolve(Lane &lane);
  void resolve(Lane &lane, Operation &operation);
  void check_failure(const Operation &operation, uint32_t status);
  /// Throws Broken for a status that is neither of these nor provoked.
  void check_status(uint32_t status, const std::set<uint32_t> &own, const std::string &text);
  void apply(Lane &lane, Operation &operation);
  void check_download(Lane &lane, const Operation &operation);
  void recover(const std::string &why);
  /// Does the work, and recovers the card when it meets a fault.
  template <class Work>
  void recovering(Work &&work);
  void wait_for(Lane &lane);
  void spend_faults();
  void compare(Region &region, const std::string &owner);
  void repair(Region &region, uint64_t address);
  void renew(Lane &lane);
  uint64_t counter_iova(size_t lane) const { return counters_.iova() + 64 * lane; }
  size_t number_of(const Lane &lane) const { return static_cast<size_t>(&lane - lanes_.data()); }

  std::unique_ptr<Device> device_;
  Limits limits_;
  std::mt19937_64 random_;
  std::vector<float> input_, output_;  // of the program
  DeviceBuffer program_, input_memory_;
  std::vector<DeviceBuffer> tables_;  // segment tables, one for each lane: its results go to the lane's end
  HostBuffer counters_;               // what SIGNAL writes and WAIT reads, one for each lane
  std::vector<Lane> lanes_;
  std::vector<StreamLane> streams_;
  DeviceBuffer inbox_;  // of the peer's streams
  CardStress *peer_ = nullptr;
  bool was_unreachable_ = false;  // for its peers, since they were compared
  bool order_broken_ = false;
  // Statuses that may come until everything is settled, from faults; and how many of those that strike one packet
  // alone.
  std::set<uint32_t> expected_;
  std::map<uint32_t, int64_t> armed_;
  uint32_t recoveries_in_row_ = 0;
  Tally tally_;
};

}  // namespace cx::stress
