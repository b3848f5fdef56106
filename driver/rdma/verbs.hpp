// Verbs of the cards' network ports, from user space: memory regions, queue pairs, completion queues.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/collective/cluster.hpp"

namespace cx::rdma {

/// Rights of a memory region; a sum. Reading one's own memory needs none.
enum Access : unsigned {
  kLocalWrite = CX_VERBS_LOCAL_WRITE,
  kRemoteRead = CX_VERBS_REMOTE_READ,
  kRemoteWrite = CX_VERBS_REMOTE_WRITE,
  kRemoteAtomic = CX_VERBS_REMOTE_ATOMIC
};

/// How a request ended. All but success fail the queue pair; what else was posted to it completes as flushed.
enum class Status {
  kSuccess = CX_VERBS_SUCCESS,
  kLocalLength = CX_VERBS_LOCAL_LENGTH,          ///< receive: the message is longer
  kLocalProtection = CX_VERBS_LOCAL_PROTECTION,  ///< key, range or right of one's own memory
  kRemoteAccess = CX_VERBS_REMOTE_ACCESS,        ///< key, range or right of the other's memory
  kRemoteInvalid = CX_VERBS_REMOTE_INVALID,      ///< the other's receive is too short; an atomic is not aligned to 8
  kRetryExceeded = CX_VERBS_RETRY_EXCEEDED,      ///< the other does not answer
  kFlushed = CX_VERBS_FLUSHED,  ///< its queue pair failed, was flushed or destroyed before it was complete
  kReceiverNotReady = CX_VERBS_RECEIVER_NOT_READY  ///< send: no receive within QueuePairOptions::receive_wait_s
};
const char *to_string(Status status);

/// A part of a local memory region, by address in that region.
struct Local {
  uint32_t lkey = 0;
  uint64_t address = 0, bytes = 0;
};
/// Parts that a message is gathered from or scattered to, in order; at most kMaxRanges.
using Ranges = std::vector<Local>;
constexpr std::size_t kMaxRanges = CX_VERBS_MAX_RANGES;
/// Where it goes in another card's memory.
struct Remote {
  uint32_t rkey = 0;
  uint64_t address = 0;
};

struct Completion {
  uint64_t id = 0;  ///< of the request
  Status status = Status::kSuccess;
  bool receive = false;
  uint32_t qp = 0;
  uint64_t bytes = 0;                 ///< of the message
  std::optional<uint32_t> immediate;  ///< of a receive
};

/// A queue pair holds as many requests as it has room for; nothing was posted.
class QueueFullError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// A request of more than kMaxRanges ranges; nothing was posted.
class TooManyRangesError : public UsageError {
 public:
  using UsageError::UsageError;
};

/// A completion queue was full: completions are lost. Thrown after those that fitted.
class OverrunError : public DeviceFault {
 public:
  explicit OverrunError(const std::string &message) : DeviceFault(Record{}, message) {}
};

/// A wait ended without its completion: time ran out, or nothing is under way any more.
class BlockedError : public TimeoutError {
 public:
  struct Pair {
    uint32_t rank, peer, qp;
    uint64_t bytes_outstanding;  ///< of sends; without any, the room of the receives
    bool send;
    bool waits_for_receive;  ///< the other end has posted none
  };
  BlockedError(const std::string &message, std::vector<Pair> pairs) : TimeoutError(message), pairs(std::move(pairs)) {}
  std::vector<Pair> pairs;  ///< every connected queue pair of the network with requests that are not complete
};

class SharedReceiveQueue;

struct QueuePairOptions {
  std::size_t sends = 128, receives = 128;     ///< requests that are not complete
  double receive_wait_s = 0;                   ///< how long a send waits for a receive at the other end; 0: for ever
  const SharedReceiveQueue *shared = nullptr;  ///< of the same card; where its receives come from
};

struct QueuePairState {
  uint32_t peer = 0;  ///< rank; its own if not connected
  uint64_t bytes_outstanding = 0;
  std::size_t sends = 0, receives = 0;
  uint64_t receive_bytes = 0;
  bool waits_for_receive = false, failed = false;
};

class Port;
struct NetworkState;

/// Memory that verbs may touch, until this object goes. The memory has to live as long, and as long as a request that
/// uses it. lkey is for one's own requests, rkey for those of others; they are equal here.
class MemoryRegion {
 public:
  MemoryRegion(MemoryRegion &&) noexcept = default;
  MemoryRegion &operator=(MemoryRegion &&other) noexcept;
  ~MemoryRegion();
  uint32_t lkey() const { return key_; }
  uint32_t rkey() const { return key_; }
  uint64_t address() const { return address_; }
  uint64_t bytes() const { return bytes_; }
  /// Bytes `offset` to `offset + bytes`; not checked, the port does that.
  Local local(uint64_t offset, uint64_t bytes) const { return {key_, address_ + offset, bytes}; }
  Local local() const { return local(0, bytes_); }
  Remote remote(uint64_t offset = 0) const { return {key_, address_ + offset}; }

 private:
  friend class Port;
  MemoryRegion(std::shared_ptr<NetworkState> state, uint32_t rank, uint32_t key, uint64_t address, uint64_t bytes)
      : state_(std::move(state)), rank_(rank), key_(key), address_(address), bytes_(bytes) {}
  void remove() noexcept;
  std::shared_ptr<NetworkState> state_;
  uint32_t rank_, key_;
  uint64_t address_, bytes_;
};

class CompletionQueue {
 public:
  /// The next completion that is there, without waiting. Throws OverrunError.
  std::optional<Completion> poll();
  /// Lets simulated time pass until there is one, for at most `limit_s`. Throws BlockedError, OverrunError.
  Completion wait(double limit_s = 1);
  uint32_t number() const { return number_; }

 private:
  friend class Port;
  CompletionQueue(std::shared_ptr<NetworkState> state, uint32_t rank, uint32_t number)
      : state_(std::move(state)), rank_(rank), number_(number) {}
  std::shared_ptr<NetworkState> state_;
  uint32_t rank_, number_;
};

/// Receives for several queue pairs of a card, taken by messages in the order of their first packets. A receive
/// completes in the completion queue of the queue pair whose message took it. A message that finds none is sent again
/// after rdma.not_ready_us, for as long as its sender's QueuePairOptions::receive_wait_s.
class SharedReceiveQueue {
 public:
  /// Key and range are checked when a message takes it. Throws QueueFullError, TooManyRangesError.
  void post_receive(uint64_t id, const Ranges &targets);
  void post_receive(uint64_t id, const Local &target) { post_receive(id, Ranges{target}); }
  /// Receives that no message has taken yet.
  std::size_t waiting() const;
  /// Receives that are left go without completion. Throws UsageError while a queue pair uses it.
  void destroy();
  uint32_t number() const { return number_; }

 private:
  friend class Port;
  SharedReceiveQueue(std::shared_ptr<NetworkState> state, uint32_t rank, uint32_t number)
      : state_(std::move(state)), rank_(rank), number_(number) {}
  std::shared_ptr<NetworkState> state_;
  uint32_t rank_, number_;
};

/// A reliable connection's end. Requests of a queue pair complete in order. Posts throw UsageError before connect(),
/// QueueFullError and TooManyRangesError.
class QueuePair {
 public:
  /// Both ends, of different cards and not connected. Throws UsageError, InputError if there is no way.
  void connect(QueuePair &other);

  /// Throws UsageError where receives come from a shared queue.
  void post_receive(uint64_t id, const Ranges &targets);
  /// Consumes a receive of the other end.
  void post_send(uint64_t id, const Ranges &sources, std::optional<uint32_t> immediate = {});
  /// With an immediate it consumes a receive too.
  void post_write(uint64_t id, const Ranges &sources, const Remote &target, std::optional<uint32_t> immediate = {});
  void post_read(uint64_t id, const Ranges &targets, const Remote &source);
  void post_receive(uint64_t id, const Local &target) { post_receive(id, Ranges{target}); }
  void post_send(uint64_t id, const Local &source, std::optional<uint32_t> immediate = {}) {
    post_send(id, Ranges{source}, immediate);
  }
  void post_write(uint64_t id, const Local &source, const Remote &target, std::optional<uint32_t> immediate = {}) {
    post_write(id, Ranges{source}, target, immediate);
  }
  void post_read(uint64_t id, const Local &target, const Remote &source) { post_read(id, Ranges{target}, source); }
  /// 8 bytes, aligned; what was there before comes to `former`.
  void post_fetch_add(uint64_t id, const Local &former, const Remote &at, uint64_t addend);
  void post_compare_swap(uint64_t id, const Local &former, const Remote &at, uint64_t expected, uint64_t value);

  /// To the error state: what is not complete, and what is posted later, completes as flushed. The other end is not
  /// told: its requests end by their retries.
  void flush();
  /// flush(), and there is no such queue pair any more: calls throw UsageError. Its completions stay in their queues.
  void destroy();

  QueuePairState state() const;
  uint32_t number() const { return number_; }
  uint32_t rank() const { return rank_; }

 private:
  friend class Port;
  QueuePair(std::shared_ptr<NetworkState> state, uint32_t rank, uint32_t number)
      : state_(std::move(state)), rank_(rank), number_(number) {}
  void post(cx_verbs_send send, const Ranges &ranges);
  std::shared_ptr<NetworkState> state_;
  uint32_t rank_, number_;
};

/// A card's network port.
class Port {
 public:
  uint32_t rank() const { return rank_; }
  /// address: by which requests name the memory's first byte; 0: that of the memory itself.
  MemoryRegion register_memory(void *memory, uint64_t bytes, unsigned access, uint64_t address = 0);
  CompletionQueue create_completion_queue(std::size_t capacity = 256);
  /// capacity: receives that no message has taken yet.
  SharedReceiveQueue create_shared_receive_queue(std::size_t capacity = 128);
  QueuePair create_queue_pair(const CompletionQueue &sends, const CompletionQueue &receives,
                              const QueuePairOptions &options = {});

 private:
  friend class Network;
  Port(std::shared_ptr<NetworkState> state, uint32_t rank) : state_(std::move(state)), rank_(rank) {}
  std::shared_ptr<NetworkState> state_;
  uint32_t rank_;
};

/// The network of a cluster at packet level, idle at time 0. The cluster has to live as long as this and all that came
/// from it. Not for several threads at a time.
class Network {
 public:
  explicit Network(const Cluster &cluster);
  /// Throws UsageError for a rank that there is not.
  Port open(uint32_t rank);
  /// As in collectives: "dead_node@node=1,at_us=100". Throws UsageError.
  void inject(const std::string &fault);
  /// Lets time pass, or until nothing is under way any more.
  void run(double seconds);
  double time_s() const;

 private:
  std::shared_ptr<NetworkState> state_;
};

}  // namespace cx::rdma
