#include "driver/rdma/verbs.hpp"

#include <fmt/core.h>

#include <cmath>
#include <utility>

namespace cx::rdma {

struct NetworkState {
  struct Close {
    void operator()(cx_verbs *verbs) const { cx_verbs_close(verbs); }
  };
  std::unique_ptr<cx_verbs, Close> verbs;
  uint32_t ranks = 0;
  struct Pair {
    uint32_t rank, peer, number;
  };
  std::vector<Pair> pairs;  ///< connected ends
};

namespace {

constexpr double kPicosecond = 1e-12;

uint64_t picoseconds(double seconds, const char *what) {
  if (!(seconds >= 0 && seconds <= 1e6)) {
    throw UsageError(fmt::format("{} of {} s, expected 0 to 1000000", what, seconds));
  }
  return static_cast<uint64_t>(std::llround(seconds / kPicosecond));
}

void check(const NetworkState &state, int result) {
  if (result >= CX_CLUSTER_OK) return;
  const std::string text = cx_verbs_error(state.verbs.get());
  switch (result) {
    case CX_CLUSTER_BAD_ARGUMENT:
      throw UsageError(text);
    case CX_CLUSTER_UNREACHABLE:
      throw InputError(text);
    case CX_CLUSTER_QUEUE_FULL:
      throw QueueFullError(text);
    case CX_CLUSTER_TOO_MANY_RANGES:
      throw TooManyRangesError(text);
    case CX_CLUSTER_OVERRUN:
      throw OverrunError(text);
    default:
      throw Error(text);
  }
}

QueuePairState state_of(const NetworkState &network, uint32_t rank, uint32_t number) {
  cx_verbs_state raw;
  check(network, cx_verbs_get_state(network.verbs.get(), rank, number, &raw));
  QueuePairState state;
  state.peer = rank;
  for (const NetworkState::Pair &pair : network.pairs) {
    if (pair.rank == rank && pair.number == number) state.peer = pair.peer;
  }
  state.bytes_outstanding = raw.bytes_outstanding;
  state.sends = raw.sends;
  state.receives = raw.receives;
  state.receive_bytes = raw.receive_bytes;
  state.waits_for_receive = raw.waits_for_receive != 0;
  state.failed = raw.failed != 0;
  return state;
}

[[noreturn]] void report_blocked(const NetworkState &network, uint32_t rank, uint32_t queue, const std::string &why) {
  std::string text = fmt::format("rank {}, completion queue {}: {}", rank, queue, why);
  std::vector<BlockedError::Pair> blocked;
  for (const NetworkState::Pair &pair : network.pairs) {
    const QueuePairState state = state_of(network, pair.rank, pair.number);
    if (state.failed || (state.sends == 0 && state.receives == 0)) continue;
    const bool send = state.sends != 0;
    const uint64_t bytes = send ? state.bytes_outstanding : state.receive_bytes;
    blocked.push_back({pair.rank, pair.peer, pair.number, bytes, send, send && state.waits_for_receive});
    text += fmt::format("; rank {} waits in a {} rank {}, queue pair {}, {} bytes outstanding{}", pair.rank,
                        send ? "send to" : "receive from", pair.peer, pair.number, bytes,
                        blocked.back().waits_for_receive ? " (no receive is posted there)" : "");
  }
  throw BlockedError(text, std::move(blocked));
}

}  // namespace

const char *to_string(Status status) {
  switch (status) {
    case Status::kSuccess:
      return "success";
    case Status::kLocalLength:
      return "local length error";
    case Status::kLocalProtection:
      return "local protection error";
    case Status::kRemoteAccess:
      return "remote access error";
    case Status::kRemoteInvalid:
      return "remote invalid request";
    case Status::kRetryExceeded:
      return "retries exceeded";
    case Status::kFlushed:
      return "flushed";
    case Status::kReceiverNotReady:
      return "receiver not ready";
  }
  return "?";
}

// ---- memory ----

void MemoryRegion::remove() noexcept {
  if (state_) cx_verbs_deregister(state_->verbs.get(), rank_, key_);
  state_.reset();
}

MemoryRegion::~MemoryRegion() { remove(); }

MemoryRegion &MemoryRegion::operator=(MemoryRegion &&other) noexcept {
  if (this != &other) {
    remove();
    state_ = std::move(other.state_);
    rank_ = other.rank_;
    key_ = other.key_;
    address_ = other.address_;
    bytes_ = other.bytes_;
  }
  return *this;
}

// ---- completions ----

std::optional<Completion> CompletionQueue::poll() {
  cx_verbs_completion raw;
  const int got = cx_verbs_poll(state_->verbs.get(), rank_, number_, &raw);
  check(*state_, got);
  if (got == 0) return std::nullopt;
  Completion completion{raw.id, static_cast<Status>(raw.status), raw.is_receive != 0, raw.qp, raw.bytes, {}};
  if (raw.has_immediate != 0) completion.immediate = raw.immediate;
  return completion;
}

Completion CompletionQueue::wait(double limit_s) {
  cx_verbs *verbs = state_->verbs.get();
  const uint64_t end = cx_verbs_time_ps(verbs) + picoseconds(limit_s, "a wait");
  for (;;) {
    if (const auto completion = poll()) return *completion;
    const uint64_t now = cx_verbs_time_ps(verbs);
    if (now >= end) report_blocked(*state_, rank_, number_, fmt::format("nothing completed within {} s", limit_s));
    const int why = cx_verbs_advance(verbs, end - now);
    check(*state_, why);
    if (why == 0) report_blocked(*state_, rank_, number_, "nothing is under way any more");
  }
}

// ---- queue pairs ----

void QueuePair::connect(QueuePair &other) {
  if (other.state_ != state_) throw UsageError("queue pairs of two networks");
  check(*state_, cx_verbs_connect(state_->verbs.get(), rank_, number_, other.rank_, other.number_));
  state_->pairs.push_back({rank_, other.rank_, number_});
  state_->pairs.push_back({other.rank_, rank_, other.number_});
}

namespace {

std::vector<cx_verbs_range> raw(const Ranges &ranges) {
  std::vector<cx_verbs_range> out;
  for (const Local &range : ranges) out.push_back({range.address, range.bytes, range.lkey});
  return out;
}

/// Without its ranges.
cx_verbs_send request(uint64_t id, int verb, const Remote &remote, std::optional<uint32_t> immediate = {}) {
  cx_verbs_send send{};
  send.id = id;
  send.verb = verb;
  send.remote_key = remote.rkey;
  send.remote_address = remote.address;
  send.has_immediate = immediate ? 1 : 0;
  send.immediate = immediate.value_or(0);
  return send;
}

}  // namespace

void QueuePair::post(cx_verbs_send send, const Ranges &ranges) {
  const auto list = raw(ranges);
  send.ranges = list.data();
  send.range_count = list.size();
  check(*state_, cx_verbs_post_send(state_->verbs.get(), rank_, number_, &send));
}

void QueuePair::post_receive(uint64_t id, const Ranges &targets) {
  const auto list = raw(targets);
  check(*state_, cx_verbs_post_receive(state_->verbs.get(), rank_, number_, id, list.data(), list.size()));
}
void QueuePair::post_send(uint64_t id, const Ranges &sources, std::optional<uint32_t> immediate) {
  post(request(id, CX_VERBS_SEND, {}, immediate), sources);
}
void QueuePair::post_write(uint64_t id, const Ranges &sources, const Remote &target,
                           std::optional<uint32_t> immediate) {
  post(request(id, CX_VERBS_WRITE, target, immediate), sources);
}
void QueuePair::post_read(uint64_t id, const Ranges &targets, const Remote &source) {
  post(request(id, CX_VERBS_READ, source), targets);
}
void QueuePair::post_fetch_add(uint64_t id, const Local &former, const Remote &at, uint64_t addend) {
  cx_verbs_send send = request(id, CX_VERBS_FETCH_ADD, at);
  send.operand = addend;
  post(send, {former});
}
void QueuePair::post_compare_swap(uint64_t id, const Local &former, const Remote &at, uint64_t expected,
                                  uint64_t value) {
  cx_verbs_send send = request(id, CX_VERBS_COMPARE_SWAP, at);
  send.compare = expected;
  send.operand = value;
  post(send, {former});
}

void QueuePair::flush() { check(*state_, cx_verbs_flush_qp(state_->verbs.get(), rank_, number_, 0)); }

void QueuePair::destroy() {
  check(*state_, cx_verbs_flush_qp(state_->verbs.get(), rank_, number_, 1));
  std::erase_if(state_->pairs,
                [&](const NetworkState::Pair &pair) { return pair.rank == rank_ && pair.number == number_; });
}

QueuePairState QueuePair::state() const { return state_of(*state_, rank_, number_); }

// ---- shared receive queues ----

void SharedReceiveQueue::post_receive(uint64_t id, const Ranges &targets) {
  const auto list = raw(targets);
  check(*state_, cx_verbs_post_srq_receive(state_->verbs.get(), rank_, number_, id, list.data(), list.size()));
}

std::size_t SharedReceiveQueue::waiting() const {
  std::size_t receives = 0;
  check(*state_, cx_verbs_srq_receives(state_->verbs.get(), rank_, number_, &receives));
  return receives;
}

void SharedReceiveQueue::destroy() { check(*state_, cx_verbs_destroy_srq(state_->verbs.get(), rank_, number_)); }

// ---- ports ----

MemoryRegion Port::register_memory(void *memory, uint64_t bytes, unsigned access, uint64_t address) {
  if (address == 0) address = reinterpret_cast<uintptr_t>(memory);
  uint32_t key = 0;
  check(*state_, cx_verbs_register(state_->verbs.get(), rank_, memory, address, bytes, access, &key));
  return {state_, rank_, key, address, bytes};
}

CompletionQueue Port::create_completion_queue(std::size_t capacity) {
  uint32_t number = 0;
  check(*state_, cx_verbs_create_cq(state_->verbs.get(), rank_, capacity, &number));
  return {state_, rank_, number};
}

SharedReceiveQueue Port::create_shared_receive_queue(std::size_t capacity) {
  uint32_t number = 0;
  check(*state_, cx_verbs_create_srq(state_->verbs.get(), rank_, capacity, &number));
  return {state_, rank_, number};
}

QueuePair Port::create_queue_pair(const CompletionQueue &sends, const CompletionQueue &receives,
                                  const QueuePairOptions &options) {
  for (const CompletionQueue *queue : {&sends, &receives}) {
    if (queue->state_ != state_ || queue->rank_ != rank_) {
      throw UsageError(fmt::format("rank {}: completion queue {} is of another card", rank_, queue->number_));
    }
  }
  const SharedReceiveQueue *shared = options.shared;
  if (shared != nullptr && (shared->state_ != state_ || shared->rank_ != rank_)) {
    throw UsageError(fmt::format("rank {}: shared receive queue {} is of another card", rank_, shared->number_));
  }
  const cx_verbs_limits limits{options.sends, options.receives,
                               picoseconds(options.receive_wait_s, "a wait for receives")};
  uint32_t number = 0;
  check(*state_, cx_verbs_create_qp(state_->verbs.get(), rank_, sends.number_, receives.number_,
                                    shared != nullptr ? shared->number_ : CX_VERBS_NO_SRQ, &limits, &number));
  return {state_, rank_, number};
}

Network::Network(const Cluster &cluster) : state_(std::make_shared<NetworkState>()) {
  state_->verbs.reset(cx_verbs_open(cluster.handle()));
  if (!state_->verbs) throw Error(cx_verbs_error(nullptr));
  state_->ranks = cluster.ranks();
}

Port Network::open(uint32_t rank) {
  if (rank >= state_->ranks) throw UsageError(fmt::format("rank {}, expected one below {}", rank, state_->ranks));
  return {state_, rank};
}

void Network::inject(const std::string &fault) { check(*state_, cx_verbs_inject(state_->verbs.get(), fault.c_str())); }

void Network::run(double seconds) {
  const uint64_t end = cx_verbs_time_ps(state_->verbs.get()) + picoseconds(seconds, "a run");
  for (;;) {
    const uint64_t now = cx_verbs_time_ps(state_->verbs.get());
    if (now >= end) return;
    const int why = cx_verbs_advance(state_->verbs.get(), end - now);
    check(*state_, why);
    if (why != 1) return;
  }
}

double Network::time_s() const { return static_cast<double>(cx_verbs_time_ps(state_->verbs.get())) * kPicosecond; }

}  // namespace cx::rdma
