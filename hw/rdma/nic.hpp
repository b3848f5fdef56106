// The RDMA engine of a card: queue pairs over a reliable connection. Rule: README.md.
#ifndef HW_RDMA_NIC_HPP
#define HW_RDMA_NIC_HPP

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/link/link.hpp"
#include "hw/rdma/dcqcn.hpp"
#include "hw/rdma/memory_regions.hpp"
#include "hw/switch/switch.hpp"

namespace cx::hw::net {

enum class Recovery : std::uint8_t { go_back_n, selective_repeat };

struct RdmaParams {
  std::uint32_t mtu = 4096;              // payload bytes of a packet
  std::uint64_t window_bytes = 1 << 20;  // sent and not acknowledged, of a queue pair
  Recovery recovery = Recovery::go_back_n;
  std::uint32_t ack_packets = 16;  // acknowledged together, or fewer at a message's end
  Ps retransmit = 4'000'000'000;   // without progress
  unsigned retries = 7;            // without progress, then the queue pair fails
  Ps not_ready_time = 10'000'000;  // until a message that found no receive in a shared queue is sent again
  Ps message_time = 0;             // from posting to the first packet
  Ps completion_time = 0;          // from the last packet to the completion
  DcqcnParams dcqcn;
};

enum class Status : std::uint8_t {
  success,
  local_length,       // a message is longer than the receive that it found
  local_protection,   // wrong key or range in one's own memory
  remote_access,      // wrong key, range or right in the other's memory
  remote_invalid,     // the other cannot take the request: receive too short, atomic that is not aligned
  retry_exceeded,     // the other does not answer
  flushed,            // was waiting when its queue pair failed or was destroyed
  receiver_not_ready  // the other posted no receive in time
};
const char *to_string(Status status);

enum class Verb : std::uint8_t { send, write, read, fetch_add, compare_swap };

// A part of a region of one's own memory: an element of a scatter/gather list.
struct Range {
  std::uint64_t address = 0;
  std::uint32_t key = 0;
  std::uint64_t bytes = 0;
};
inline constexpr std::size_t kMaxRanges = 16;  // of a request
std::uint64_t bytes_of(const std::vector<Range> &ranges);

struct SendRequest {
  std::uint64_t id = 0;  // given back in the completion
  Verb verb = Verb::send;
  std::vector<Range> ranges;         // sources, or targets of a read, in order; atomics: one target of 8 bytes
  std::uint64_t remote_address = 0;  // write, read, atomics
  std::uint32_t remote_key = 0;
  bool has_immediate = false;  // send, write; a write with one consumes a receive
  std::uint32_t immediate = 0;
  std::uint64_t operand = 0, compare = 0;  // atomics
};

struct ReceiveRequest {
  std::uint64_t id = 0;
  std::vector<Range> ranges;  // filled in order; a message has at most their bytes
};

struct Completion {
  std::uint64_t id = 0;
  Status status = Status::success;
  bool is_receive = false;
  std::uint32_t qp = 0;
  std::uint64_t bytes = 0;
  bool has_immediate = false;
  std::uint32_t immediate = 0;
};

// Completions in the order in which they came.
class CompletionQueue {
 public:
  // kept: counts the completions that were kept, of all queues that share it.
  explicit CompletionQueue(std::size_t capacity, std::uint64_t *kept = nullptr) : capacity_(capacity), kept_(kept) {}
  bool poll(Completion &completion) {
    if (entries_.empty()) return false;
    completion = entries_.front();
    entries_.pop_front();
    return true;
  }
  std::size_t size() const { return entries_.size(); }
  // More completions came than it holds: the excess is lost.
  bool overrun() const { return overrun_; }
  // Called instead of keeping the completion.
  void listen(std::function<void(const Completion &)> listener) { listener_ = std::move(listener); }
  void add(const Completion &completion) {
    if (listener_) return listener_(completion);
    if (entries_.size() >= capacity_) {
      overrun_ = true;
      return;
    }
    entries_.push_back(completion);
    if (kept_ != nullptr) ++*kept_;
  }

 private:
  std::size_t capacity_;
  std::uint64_t *kept_;
  std::deque<Completion> entries_;
  bool overrun_ = false;
  std::function<void(const Completion &)> listener_;
};

struct NicCounters {
  std::uint64_t data_packets = 0, retransmitted = 0, duplicates = 0, out_of_order = 0, acknowledgements = 0,
                negatives = 0, timeouts = 0, notifications = 0;
};

// What a queue pair waits for, for people who look for the reason of a hang.
struct QueuePairState {
  std::uint32_t peer = 0;               // endpoint
  std::uint64_t bytes_outstanding = 0;  // of sends that are not complete, or failed with the queue pair
  std::uint64_t bytes_unsent = 0;       // of these, not handed to the wire yet
  std::size_t sends = 0, receives = 0;  // that are not complete
  std::uint64_t receive_bytes = 0;      // room of these receives
  bool waits_for_receive = false;       // the next send finds no receive at the other end
  bool failed = false;
};

// A misuse of the interface: an unknown queue pair, one that is not connected.
class RdmaUsageError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};
class TooManyRangesError : public RdmaUsageError {
 public:
  using RdmaUsageError::RdmaUsageError;
};

inline constexpr std::uint32_t kNoSharedQueue = ~std::uint32_t{0};

class Nic final : public PacketSource, public PacketReceiver, EventQueue::Handler {
 public:
  Nic(EventQueue &queue, PacketPool &pool, const Router &router, std::uint32_t vertex, std::uint32_t endpoint,
      const RdmaParams &params);
  ~Nic();

  std::uint32_t add_port();
  void connect_port(std::uint32_t port, Link *out, Link *in);

  MemoryRegions &memory() { return regions_; }
  // shared: the shared receive queue from which it takes its receives.
  std::uint32_t create_qp(CompletionQueue &send, CompletionQueue &receive, std::uint32_t shared = kNoSharedQueue);
  // Everything that is not complete is flushed; what is posted later is, too. The other end is not told: its requests
  // fail when their retries are used up.
  void flush_qp(std::uint32_t qp);
  // The same, and there is no such queue pair any more; its number is not used again.
  void destroy_qp(std::uint32_t qp);

  std::uint32_t create_shared_queue();
  // Throws RdmaUsageError while a queue pair uses it. Receives that are left go without completion.
  void destroy_shared_queue(std::uint32_t shared);
  // Keys and ranges are checked when a message takes the receive; it completes at the queue pair of that message.
  void post_shared_receive(std::uint32_t shared, const ReceiveRequest &request);
  std::size_t shared_receives(std::uint32_t shared) const;

  // Both ends have to be connected to each other. Receives that were posted before count as known to the other end.
  void connect_qp(std::uint32_t qp, Nic &peer, std::uint32_t peer_qp, std::uint32_t flow);
  // A send that finds no receive for so long fails the queue pair; without a limit it waits.
  void limit_wait(std::uint32_t qp, Ps limit);
  void post_send(std::uint32_t qp, const SendRequest &request);
  // Throws RdmaUsageError where receives come from a shared queue.
  // announced: the other end knows of it at once, as of receives that were agreed on before.
  void post_receive(std::uint32_t qp, const ReceiveRequest &request, bool announced = false);
  QueuePairState state(std::uint32_t qp) const;
  const Dcqcn &rate_control(std::uint32_t qp) const;

  // Routes have changed: queue pairs go by other ports from now on.
  void reroute();
  // A dead card neither sends nor answers.
  void die() { dead_ = true; }

  std::uint32_t endpoint() const { return endpoint_; }
  const NicCounters &counters() const { return counters_; }

  Packet *peek(std::uint32_t port, bool paused) override;
  Packet *take(std::uint32_t port) override;
  void receive(Packet *packet, std::uint32_t port) override;

 private:
  struct Message;
  struct QueuePair;
  struct SharedQueue {
    std::deque<ReceiveRequest> receives;
    bool live = true;
  };
  struct Port {
    Link *out = nullptr, *in = nullptr;
    PacketQueue control;
    Packet *staged = nullptr;
    std::deque<std::uint32_t> ready;
  };
  struct Delayed {
    CompletionQueue *queue;
    Completion completion;
  };
  enum What : std::uint32_t { kEligible, kPace, kTimer, kComplete, kIncrease, kNotReady, kSendAgain };

  void on_event(std::uint32_t what, std::uint64_t argument) override;
  QueuePair &pair(std::uint32_t qp);
  const QueuePair &pair(std::uint32_t qp) const;
  void promote(QueuePair &qp);
  void append(QueuePair &qp, Message message);
  void activate(QueuePair &qp);
  void wait_for_receive(QueuePair &qp);
  const SharedQueue &shared_queue(std::uint32_t shared) const;
  bool map(const std::vector<Range> &ranges, std::uint64_t bytes, unsigned access, MemoryParts &parts) const;
  bool take_receive(QueuePair &qp);
  void not_ready(QueuePair &qp, const Packet &packet);
  bool sendable(QueuePair &qp);
  Packet *build(QueuePair &qp);
  void data_arrived(QueuePair &qp, Packet *packet);
  // False if the packet was refused.
  bool process(QueuePair &qp, const Packet &packet);
  void acknowledged(QueuePair &qp, const Packet &packet);
  void advance_acknowledged(QueuePair &qp, std::uint64_t sequence);
  void notify(QueuePair &qp);
  void send_control(QueuePair &qp, Packet::Kind kind, std::uint64_t selective = 0);
  void refuse(QueuePair &qp, const Packet &packet, Status remote, Status local);
  void fail(QueuePair &qp, std::uint64_t request, Status status);
  void finish_requests(QueuePair &qp);
  void complete(CompletionQueue &queue, const Completion &completion);
  void arm(QueuePair &qp);
  void timed_out(QueuePair &qp);
  void start_rate_timers(QueuePair &qp);
  std::uint32_t packets(std::uint64_t bytes) const;

  EventQueue &queue_;
  PacketPool &pool_;
  const Router &router_;
  std::uint32_t vertex_, endpoint_;
  RdmaParams params_;
  MemoryRegions regions_;
  std::vector<Port> ports_;
  std::vector<std::unique_ptr<QueuePair>> pairs_;
  std::vector<SharedQueue> shared_;
  std::deque<Delayed> completions_;
  bool dead_ = false;
  NicCounters counters_;
};

}  // namespace cx::hw::net

#endif
