#include "hw/rdma/nic.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace cx::hw::net {

const char *to_string(Status status) {
  switch (status) {
    case Status::success:
      return "success";
    case Status::local_length:
      return "local length error";
    case Status::local_protection:
      return "local protection error";
    case Status::remote_access:
      return "remote access error";
    case Status::remote_invalid:
      return "remote invalid request";
    case Status::retry_exceeded:
      return "retries exceeded";
    case Status::flushed:
      return "flushed";
    case Status::receiver_not_ready:
      return "receiver not ready";
  }
  return "?";
}

std::uint64_t bytes_of(const std::vector<Range> &ranges) {
  std::uint64_t bytes = 0;
  for (const Range &range : ranges) bytes += range.bytes;
  return bytes;
}

namespace {

// Room for `bytes` from `offset` on, up to the end of the part that it is in; null where only time counts.
MemoryPart part_at(const MemoryParts &parts, std::uint64_t offset, std::uint64_t bytes) {
  for (const MemoryPart &part : parts) {
    if (offset < part.bytes) {
      return {part.memory == nullptr ? nullptr : part.memory + offset, std::min(bytes, part.bytes - offset)};
    }
    offset -= part.bytes;
  }
  return {nullptr, bytes};
}

// Both have `offset + bytes` and more.
void copy(const MemoryParts &from, const MemoryParts &to, std::uint64_t offset, std::uint64_t bytes) {
  while (bytes != 0) {
    const MemoryPart source = part_at(from, offset, bytes), target = part_at(to, offset, source.bytes);
    if (source.memory != nullptr && target.memory != nullptr) {
      std::memcpy(target.memory, source.memory, target.bytes);
    }
    offset += target.bytes;
    bytes -= target.bytes;
  }
}

void check_ranges(const std::vector<Range> &ranges, bool atomic) {
  if (ranges.size() > kMaxRanges) {
    throw TooManyRangesError(std::to_string(ranges.size()) + " ranges in a request, expected at most " +
                             std::to_string(kMaxRanges));
  }
  if (atomic && ranges.size() != 1) throw RdmaUsageError("an atomic has one range");
  std::uint64_t bytes = 0;
  for (const Range &range : ranges) {
    if (range.bytes > ~std::uint64_t{0} - bytes) throw RdmaUsageError("a request of more than 2^64 - 1 bytes");
    bytes += range.bytes;
  }
}

bool consumes_receive(const SendRequest &request) {
  return request.verb == Verb::send || (request.verb == Verb::write && request.has_immediate);
}

}  // namespace

// What goes to the other end: a request, or the answer to one of its requests.
struct Nic::Message {
  Opcode opcode = Opcode::send;
  std::uint64_t first = 0;  // sequence
  std::uint32_t packets = 1;
  std::uint64_t bytes = 0;  // payload
  MemoryParts parts;
  std::uint64_t request = 0;  // number among the sender's requests, or of the request that is answered
  std::uint64_t receive = 0;
  std::uint64_t address = 0, length = 0;
  std::uint32_t key = 0;
  std::uint64_t operand = 0, compare = 0;
  bool is_swap = false, has_immediate = false;
  std::uint32_t immediate = 0;
  std::uint8_t header_extra = 0;

  bool is_response() const { return opcode == Opcode::read_response || opcode == Opcode::atomic_response; }
};

struct Nic::QueuePair {
  std::uint32_t number = 0;
  CompletionQueue *send_queue = nullptr, *receive_queue = nullptr;
  Nic *peer = nullptr;
  std::uint32_t peer_qp = 0, flow = 0, port = 0;
  std::uint32_t shared = kNoSharedQueue;
  bool failed = false, destroyed = false;
  std::uint64_t lost = 0;  // bytes of requests that failed with it

  // Requests in the order of posting; the first is number `first_request`.
  struct Request {
    SendRequest wanted;
    Ps eligible = 0;
    std::uint64_t bytes = 0;
    MemoryParts parts;  // sources, until it has started; of reads and atomics: where the answer goes
    bool started = false, done = false;
    std::uint64_t answered = 0;  // bytes
  };
  std::deque<Request> requests;
  std::uint64_t first_request = 0, next_request = 0;  // next: the first that is not on its way

  // Outgoing stream.
  std::deque<Message> messages;                                      // not acknowledged as a whole
  std::uint64_t next = 0, unacknowledged = 0, end = 0, highest = 0;  // sequences
  std::size_t cursor = 0;                                            // message of `next`
  std::deque<bool> selected;                                         // selective repeat: of `unacknowledged` onwards
  std::uint64_t repeated_below = 0;                                  // selective repeat: sequences already repeated
  std::deque<std::uint64_t> repeats;
  std::uint64_t sends = 0, credits = 0;  // that consume a receive: started, and allowed by the peer
  Ps wait_limit = kNever, wait_end = kNever;
  std::uint64_t waiting = ~std::uint64_t{0};     // request that waits for a receive
  std::uint64_t refused_at = ~std::uint64_t{0};  // sequence that found no receive in a shared queue
  Ps again = 0;                                  // it is sent again then
  bool active = false, pacing = false;
  Ps next_time = 0;
  bool timer = false;
  Ps deadline = 0;
  unsigned retries = 0;
  std::unique_ptr<Dcqcn> rate;
  bool increase_runs = false;  // rate timer

  // Incoming stream.
  std::uint64_t expected = 0;
  bool negative_sent = false;
  std::uint32_t unreported = 0;             // accepted since the last acknowledgement
  std::map<std::uint64_t, Packet *> early;  // selective repeat: arrived before what they follow
  bool not_ready = false;                   // what is expected has found no receive in the shared queue
  std::deque<ReceiveRequest> receives;
  std::optional<ReceiveRequest> taken;      // by the message that arrives
  std::uint64_t posted = 0, announced = 0;  // receives
  MemoryParts target;                       // of the message that arrives
  std::uint64_t refused = 0;
  std::uint8_t fault = 0;  // of the message that was refused; 0: none
  Ps next_notification = 0;
};

Nic::Nic(EventQueue &queue, PacketPool &pool, const Router &router, std::uint32_t vertex, std::uint32_t endpoint,
         const RdmaParams &params)
    : queue_(queue), pool_(pool), router_(router), vertex_(vertex), endpoint_(endpoint), params_(params) {
  if (params.mtu == 0) throw std::invalid_argument("an MTU of 0");
}

Nic::~Nic() = default;

std::uint32_t Nic::add_port() {
  ports_.emplace_back();
  return static_cast<std::uint32_t>(ports_.size() - 1);
}

void Nic::connect_port(std::uint32_t port, Link *out, Link *in) {
  ports_.at(port).out = out;
  ports_.at(port).in = in;
}

Nic::QueuePair &Nic::pair(std::uint32_t qp) {
  if (qp >= pairs_.size() || pairs_[qp]->destroyed) {
    throw RdmaUsageError("there is no queue pair " + std::to_string(qp));
  }
  return *pairs_[qp];
}

const Nic::QueuePair &Nic::pair(std::uint32_t qp) const { return const_cast<Nic *>(this)->pair(qp); }

std::uint32_t Nic::packets(std::uint64_t bytes) const {
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(1, (bytes + params_.mtu - 1) / params_.mtu));
}

std::uint32_t Nic::create_qp(CompletionQueue &send, CompletionQueue &receive, std::uint32_t shared) {
  if (shared != kNoSharedQueue) shared_queue(shared);
  auto qp = std::make_unique<QueuePair>();
  qp->number = static_cast<std::uint32_t>(pairs_.size());
  qp->send_queue = &send;
  qp->receive_queue = &receive;
  qp->shared = shared;
  pairs_.push_back(std::move(qp));
  return pairs_.back()->number;
}

void Nic::connect_qp(std::uint32_t number, Nic &peer, std::uint32_t peer_qp, std::uint32_t flow) {
  QueuePair &qp = pair(number);
  qp.peer = &peer;
  qp.peer_qp = peer_qp;
  qp.flow = flow;
  Packet probe;
  probe.source = endpoint_;
  probe.target = peer.endpoint_;
  probe.flow = flow;
  const std::uint32_t port = router_.egress(vertex_, probe);
  qp.port = port == Router::kNone ? 0 : port;
  QueuePair &other = peer.pair(peer_qp);
  // Credits say nothing about a shared queue: messages go, and are sent again if they find no receive.
  qp.credits = other.shared != kNoSharedQueue ? ~std::uint64_t{0} : other.posted;
  other.announced = other.posted;
  if (params_.dcqcn.on) {
    qp.rate = std::make_unique<Dcqcn>(params_.dcqcn, ports_.at(qp.port).out->params().bytes_per_second);
  }
}

void Nic::reroute() {
  for (const auto &qp : pairs_) {
    if (qp->peer == nullptr) continue;
    Packet probe;
    probe.source = endpoint_;
    probe.target = qp->peer->endpoint_;
    probe.flow = qp->flow;
    const std::uint32_t port = router_.egress(vertex_, probe);
    if (port == Router::kNone || port == qp->port) continue;
    auto &ready = ports_[qp->port].ready;
    ready.erase(std::remove(ready.begin(), ready.end(), qp->number), ready.end());
    qp->port = port;
    qp->active = false;
    activate(*qp);
  }
}

void Nic::limit_wait(std::uint32_t number, Ps limit) { pair(number).wait_limit = limit; }

void Nic::flush_qp(std::uint32_t number) { fail(pair(number), ~std::uint64_t{0}, Status::flushed); }

void Nic::destroy_qp(std::uint32_t number) {
  flush_qp(number);
  pairs_[number]->destroyed = true;
}

std::uint32_t Nic::create_shared_queue() {
  shared_.emplace_back();
  return static_cast<std::uint32_t>(shared_.size() - 1);
}

const Nic::SharedQueue &Nic::shared_queue(std::uint32_t shared) const {
  if (shared >= shared_.size() || !shared_[shared].live) {
    throw RdmaUsageError("there is no shared receive queue " + std::to_string(shared));
  }
  return shared_[shared];
}

void Nic::destroy_shared_queue(std::uint32_t shared) {
  shared_queue(shared);
  for (const auto &qp : pairs_) {
    if (qp->shared == shared && !qp->destroyed) {
      throw RdmaUsageError("shared receive queue " + std::to_string(shared) + " is used by queue pair " +
                           std::to_string(qp->number));
    }
  }
  shared_[shared].live = false;
  shared_[shared].receives.clear();
}

void Nic::post_shared_receive(std::uint32_t shared, const ReceiveRequest &request) {
  shared_queue(shared);
  check_ranges(request.ranges, false);
  shared_[shared].receives.push_back(request);
}

std::size_t Nic::shared_receives(std::uint32_t shared) const { return shared_queue(shared).receives.size(); }

// The first `bytes` of the ranges; false if one of these is not in a region with such rights.
bool Nic::map(const std::vector<Range> &ranges, std::uint64_t bytes, unsigned access, MemoryParts &parts) const {
  parts.clear();
  for (const Range &range : ranges) {
    const std::uint64_t used = std::min(bytes, range.bytes);
    std::byte *memory = nullptr;
    if (regions_.find(range.key, range.address, used, access, &memory) != MemoryRegions::Verdict::ok) return false;
    parts.push_back({memory, used});
    bytes -= used;
  }
  return true;
}

void Nic::post_send(std::uint32_t number, const SendRequest &request) {
  QueuePair &qp = pair(number);
  if (qp.peer == nullptr) throw RdmaUsageError("queue pair " + std::to_string(number) + " is not connected");
  const bool answers = request.verb != Verb::send && request.verb != Verb::write;
  const bool atomic = request.verb == Verb::fetch_add || request.verb == Verb::compare_swap;
  check_ranges(request.ranges, atomic);
  QueuePair::Request entry;
  entry.wanted = request;
  if (atomic) entry.wanted.ranges[0].bytes = 8;
  entry.bytes = bytes_of(entry.wanted.ranges);
  if (qp.failed) {
    return complete(*qp.send_queue, {request.id, Status::flushed, false, number, entry.bytes, false, 0});
  }
  entry.eligible = queue_.now() + params_.message_time;
  const bool mapped = map(entry.wanted.ranges, entry.bytes, answers ? unsigned{kLocalWrite} : 0u, entry.parts);
  const std::uint64_t index = qp.first_request + qp.requests.size();
  const Ps eligible = entry.eligible;
  qp.requests.push_back(std::move(entry));
  if (!mapped) return fail(qp, index, Status::local_protection);
  queue_.at(eligible, *this, kEligible, number);
}

void Nic::post_receive(std::uint32_t number, const ReceiveRequest &request, bool announced) {
  QueuePair &qp = pair(number);
  if (qp.shared != kNoSharedQueue) {
    throw RdmaUsageError("queue pair " + std::to_string(number) + " takes its receives from a shared queue");
  }
  check_ranges(request.ranges, false);
  const std::uint64_t bytes = bytes_of(request.ranges);
  Status status = qp.failed ? Status::flushed : Status::success;
  MemoryParts parts;
  if (!qp.failed && !map(request.ranges, bytes, kLocalWrite, parts)) status = Status::local_protection;
  if (status != Status::success) {
    return complete(*qp.receive_queue, {request.id, status, true, number, bytes, false, 0});
  }
  qp.receives.push_back(request);
  ++qp.posted;
  if (qp.peer == nullptr) return;
  if (announced) {
    qp.announced = qp.posted;
    QueuePair &other = *qp.peer->pairs_[qp.peer_qp];
    other.credits = std::max(other.credits, qp.posted);
    qp.peer->promote(other);
  } else {
    send_control(qp, Packet::Kind::acknowledge);
  }
}

QueuePairState Nic::state(std::uint32_t number) const {
  const QueuePair &qp = pair(number);
  QueuePairState state;
  state.peer = qp.peer == nullptr ? endpoint_ : qp.peer->endpoint_;
  state.failed = qp.failed;
  state.bytes_outstanding = qp.lost;
  state.receives = qp.receives.size() + (qp.taken ? 1 : 0);
  for (const ReceiveRequest &receive : qp.receives) state.receive_bytes += bytes_of(receive.ranges);
  if (qp.taken) state.receive_bytes += bytes_of(qp.taken->ranges);
  for (std::size_t i = 0; i < qp.requests.size(); ++i) {
    const auto &request = qp.requests[i];
    if (request.done) continue;
    ++state.sends;
    state.bytes_outstanding += request.bytes;
    if (!request.started) state.bytes_unsent += request.bytes;
  }
  const std::uint64_t next = qp.next_request - qp.first_request;
  if (next < qp.requests.size()) {
    state.waits_for_receive = consumes_receive(qp.requests[next].wanted) && qp.sends >= qp.credits;
  }
  if (!qp.failed && qp.refused_at != ~std::uint64_t{0}) state.waits_for_receive = true;
  return state;
}

const Dcqcn &Nic::rate_control(std::uint32_t number) const {
  const QueuePair &qp = pair(number);
  if (!qp.rate) throw RdmaUsageError("queue pair " + std::to_string(number) + " has no rate control");
  return *qp.rate;
}

// ---- sending ----

void Nic::promote(QueuePair &qp) {
  while (!qp.failed && qp.next_request - qp.first_request < qp.requests.size()) {
    QueuePair::Request &request = qp.requests[qp.next_request - qp.first_request];
    const SendRequest &wanted = request.wanted;
    if (request.eligible > queue_.now()) return;
    const bool consumes = consumes_receive(wanted);
    if (consumes && qp.sends >= qp.credits) return wait_for_receive(qp);
    Message message;
    message.request = qp.next_request++;
    message.length = request.bytes;
    message.address = wanted.remote_address;
    message.key = wanted.remote_key;
    message.has_immediate = wanted.has_immediate;
    message.immediate = wanted.immediate;
    message.header_extra = wanted.has_immediate ? Framing::kImmediate : 0;
    switch (wanted.verb) {
      case Verb::send:
        message.opcode = Opcode::send;
        message.bytes = request.bytes;
        message.parts = std::move(request.parts);
        break;
      case Verb::write:
        message.opcode = Opcode::write;
        message.bytes = request.bytes;
        message.parts = std::move(request.parts);
        message.header_extra += Framing::kReth;
        break;
      case Verb::read:
        message.opcode = Opcode::read_request;
        message.header_extra = Framing::kReth;
        break;
      case Verb::fetch_add:
      case Verb::compare_swap:
        message.opcode = Opcode::atomic_request;
        message.is_swap = wanted.verb == Verb::compare_swap;
        message.operand = wanted.operand;
        message.compare = wanted.compare;
        message.header_extra = Framing::kAtomicEth;
        break;
    }
    if (consumes) message.receive = qp.sends++;
    request.started = true;
    append(qp, std::move(message));
  }
}

void Nic::wait_for_receive(QueuePair &qp) {
  if (qp.wait_limit == kNever || qp.waiting == qp.next_request) return;
  qp.waiting = qp.next_request;
  qp.wait_end = queue_.now() + qp.wait_limit;
  queue_.at(qp.wait_end, *this, kNotReady, qp.number);
}

void Nic::append(QueuePair &qp, Message message) {
  message.first = qp.end;
  message.packets = packets(message.bytes);
  qp.end += message.packets;
  qp.messages.push_back(std::move(message));
  activate(qp);
}

void Nic::activate(QueuePair &qp) {
  if (qp.active || !sendable(qp)) return;
  qp.active = true;
  ports_[qp.port].ready.push_back(qp.number);
  ports_[qp.port].out->wake();
}

bool Nic::sendable(QueuePair &qp) {
  if (qp.failed || qp.again > queue_.now() || (qp.next >= qp.end && qp.repeats.empty())) return false;
  if (qp.repeats.empty() && (qp.next - qp.unacknowledged) * params_.mtu >= params_.window_bytes) return false;
  if (qp.rate && qp.next_time > queue_.now()) {
    if (!qp.pacing) {
      qp.pacing = true;
      queue_.at(qp.next_time, *this, kPace, qp.number);
    }
    return false;
  }
  return true;
}

Packet *Nic::build(QueuePair &qp) {
  std::uint64_t sequence = 0;
  std::size_t index = 0;
  if (!qp.repeats.empty()) {
    sequence = qp.repeats.front();
    qp.repeats.pop_front();
    while (qp.messages[index].first + qp.messages[index].packets <= sequence) ++index;
  } else {
    sequence = qp.next++;
    index = qp.cursor;
    if (sequence + 1 == qp.messages[index].first + qp.messages[index].packets) ++qp.cursor;
  }
  const Message &message = qp.messages[index];
  const std::uint32_t within = static_cast<std::uint32_t>(sequence - message.first);
  Packet *packet = pool_.make();
  packet->opcode = message.opcode;
  packet->first = within == 0;
  packet->last = within + 1 == message.packets;
  packet->source = endpoint_;
  packet->target = qp.peer->endpoint_;
  packet->source_qp = qp.number;
  packet->target_qp = qp.peer_qp;
  packet->flow = qp.flow;
  packet->sequence = sequence;
  packet->request = static_cast<std::uint32_t>(message.request);
  packet->receive = message.receive;
  packet->offset = std::uint64_t{within} * params_.mtu;
  packet->payload = static_cast<std::uint32_t>(std::min<std::uint64_t>(params_.mtu, message.bytes - packet->offset));
  packet->length = message.length;
  packet->address = message.address;
  packet->key = message.key;
  packet->operand = message.operand;
  packet->compare = message.compare;
  packet->is_swap = message.is_swap;
  packet->has_immediate = message.has_immediate && packet->last;
  packet->immediate = message.immediate;
  if (packet->first) packet->header_extra = message.header_extra;
  packet->parts = &message.parts;
  ++counters_.data_packets;
  if (sequence < qp.highest) ++counters_.retransmitted;
  qp.highest = std::max(qp.highest, sequence + 1);
  if (qp.rate && qp.rate->limited()) {
    const std::uint64_t wire = ports_[qp.port].out->wire_bytes(*packet);
    qp.rate->sent(wire);
    qp.next_time =
        std::max(qp.next_time, queue_.now()) + static_cast<Ps>(static_cast<double>(wire) * 1e12 / qp.rate->rate());
  }
  if (!qp.timer) arm(qp);
  return packet;
}

Packet *Nic::peek(std::uint32_t number, bool paused) {
  Port &port = ports_[number];
  if (!port.control.empty()) return port.control.front();
  if (dead_ || paused) return nullptr;
  while (port.staged == nullptr && !port.ready.empty()) {
    QueuePair &qp = *pairs_[port.ready.front()];
    port.ready.pop_front();
    qp.active = false;
    if (!sendable(qp)) continue;
    port.staged = build(qp);
    if (sendable(qp)) {
      qp.active = true;
      port.ready.push_back(qp.number);
    }
  }
  return port.staged;
}

Packet *Nic::take(std::uint32_t number) {
  Port &port = ports_[number];
  if (!port.control.empty()) return port.control.pop();
  Packet *packet = port.staged;
  port.staged = nullptr;
  return packet;
}

void Nic::send_control(QueuePair &qp, Packet::Kind kind, std::uint64_t selective) {
  Packet *packet = pool_.make();
  packet->kind = kind;
  packet->source = endpoint_;
  packet->target = qp.peer->endpoint_;
  packet->source_qp = qp.number;
  packet->target_qp = qp.peer_qp;
  packet->flow = qp.flow;
  packet->sequence = kind == Packet::Kind::refuse ? qp.refused : qp.expected;
  packet->selective = selective;
  packet->credits = qp.posted;
  packet->fault = qp.fault;
  packet->header_extra = kind == Packet::Kind::congestion ? 16 : Framing::kAeth;  // CNP: 16 reserved bytes
  qp.announced = qp.posted;
  if (kind == Packet::Kind::acknowledge) ++counters_.acknowledgements;
  if (kind == Packet::Kind::negative) ++counters_.negatives;
  if (kind == Packet::Kind::congestion) ++counters_.notifications;
  ports_[qp.port].control.push(packet);
  ports_[qp.port].out->wake();
}

// ---- arrival ----

void Nic::receive(Packet *packet, std::uint32_t port) {
  if (packet->charged != 0) {
    ports_[port].in->return_credits(packet->charged);
    packet->charged = 0;
  }
  if (dead_ || packet->target_qp >= pairs_.size() || pairs_[packet->target_qp]->destroyed) return pool_.drop(packet);
  QueuePair &qp = *pairs_[packet->target_qp];
  if (packet->is_data()) return data_arrived(qp, packet);
  acknowledged(qp, *packet);
  pool_.drop(packet);
}

void Nic::data_arrived(QueuePair &qp, Packet *packet) {
  if (packet->marked && params_.dcqcn.on && queue_.now() >= qp.next_notification) {
    qp.next_notification = queue_.now() + params_.dcqcn.notification_interval;
    send_control(qp, Packet::Kind::congestion);
  }
  if (qp.failed) {
    if (qp.fault != 0) send_control(qp, Packet::Kind::refuse);
    return pool_.drop(packet);
  }
  // What it carried is its owner's again, who may have reused it: such packets count as lost.
  if (qp.peer->pairs_[qp.peer_qp]->failed) return pool_.drop(packet);
  if (packet->sequence < qp.expected) {
    ++counters_.duplicates;
    send_control(qp, Packet::Kind::acknowledge);
    return pool_.drop(packet);
  }
  if (packet->sequence > qp.expected) {
    if (qp.not_ready) return pool_.drop(packet);  // comes again with what it follows
    ++counters_.out_of_order;
    if (params_.recovery == Recovery::selective_repeat) {
      const std::uint64_t sequence = packet->sequence;
      if (!qp.early.emplace(sequence, packet).second) {
        ++counters_.duplicates;
        pool_.drop(packet);
      }
      return send_control(qp, Packet::Kind::negative, sequence);
    }
    if (!qp.negative_sent) {
      qp.negative_sent = true;
      send_control(qp, Packet::Kind::negative);
    }
    return pool_.drop(packet);
  }
  bool report = false;
  while (packet != nullptr) {
    const bool last = packet->last;
    const bool accepted = process(qp, *packet);
    pool_.drop(packet);
    packet = nullptr;
    if (!accepted) return;
    ++qp.expected;
    qp.negative_sent = false;
    qp.not_ready = false;
    report = report || last || ++qp.unreported >= params_.ack_packets;
    const auto follows = qp.early.find(qp.expected);
    if (follows != qp.early.end()) {
      packet = follows->second;
      qp.early.erase(follows);
      report = true;
    }
  }
  if (report) {
    qp.unreported = 0;
    send_control(qp, Packet::Kind::acknowledge);
  }
}

void Nic::refuse(QueuePair &qp, const Packet &packet, Status remote, Status local) {
  qp.fault = static_cast<std::uint8_t>(remote);
  qp.refused = packet.sequence;
  if (local != Status::success && qp.taken) {
    complete(*qp.receive_queue, {qp.taken->id, local, true, qp.number, packet.length, false, 0});
    qp.taken.reset();
  }
  send_control(qp, Packet::Kind::refuse);
  fail(qp, ~std::uint64_t{0}, Status::flushed);
}

// For the message that arrives. False if the shared queue has none.
bool Nic::take_receive(QueuePair &qp) {
  std::deque<ReceiveRequest> &from = qp.shared != kNoSharedQueue ? shared_[qp.shared].receives : qp.receives;
  if (from.empty()) return false;
  qp.taken = std::move(from.front());
  from.pop_front();
  return true;
}

bool Nic::process(QueuePair &qp, const Packet &packet) {
  const auto unready = [&] {
    qp.not_ready = true;
    send_control(qp, Packet::Kind::not_ready);
    return false;
  };
  const auto received = [&] {
    complete(*qp.receive_queue,
             {qp.taken->id, Status::success, true, qp.number, packet.length, packet.has_immediate, packet.immediate});
    qp.taken.reset();
  };
  switch (packet.opcode) {
    case Opcode::send:
      if (packet.first) {
        if (!take_receive(qp)) return unready();
        if (packet.length > bytes_of(qp.taken->ranges)) {
          refuse(qp, packet, Status::remote_invalid, Status::local_length);
          return false;
        }
        if (!map(qp.taken->ranges, packet.length, kLocalWrite, qp.target)) {
          refuse(qp, packet, Status::remote_invalid, Status::local_protection);
          return false;
        }
      }
      copy(*packet.parts, qp.target, packet.offset, packet.payload);
      if (packet.last) received();
      return true;
    case Opcode::write:
      if (packet.first && !map({{packet.address, packet.key, packet.length}}, packet.length, kRemoteWrite, qp.target)) {
        refuse(qp, packet, Status::remote_access, Status::success);
        return false;
      }
      if (packet.last && packet.has_immediate && !take_receive(qp)) return unready();
      copy(*packet.parts, qp.target, packet.offset, packet.payload);
      if (packet.last && packet.has_immediate) received();
      return true;
    case Opcode::read_request: {
      Message response;
      if (!map({{packet.address, packet.key, packet.length}}, packet.length, kRemoteRead, response.parts)) {
        refuse(qp, packet, Status::remote_access, Status::success);
        return false;
      }
      response.opcode = Opcode::read_response;
      response.bytes = response.length = packet.length;
      response.request = packet.request;
      response.header_extra = Framing::kAeth;
      append(qp, std::move(response));
      return true;
    }
    case Opcode::atomic_request: {
      if (packet.address % 8 != 0) {
        refuse(qp, packet, Status::remote_invalid, Status::success);
        return false;
      }
      std::byte *memory = nullptr;
      if (regions_.find(packet.key, packet.address, 8, kRemoteAtomic, &memory) != MemoryRegions::Verdict::ok) {
        refuse(qp, packet, Status::remote_access, Status::success);
        return false;
      }
      Message response;
      response.opcode = Opcode::atomic_response;
      response.request = packet.request;
      response.header_extra = Framing::kAeth + Framing::kAtomicAckEth;
      if (memory != nullptr) {
        std::uint64_t former = 0;
        std::memcpy(&former, memory, 8);
        std::uint64_t value = former + packet.operand;
        if (packet.is_swap) value = former == packet.compare ? packet.operand : former;
        std::memcpy(memory, &value, 8);
        response.operand = former;
      }
      append(qp, std::move(response));
      return true;
    }
    case Opcode::read_response:
    case Opcode::atomic_response: {
      // Request numbers go round at 2^32; those that are open are far fewer.
      const std::uint32_t distance = packet.request - static_cast<std::uint32_t>(qp.first_request);
      if (distance >= qp.requests.size()) return true;
      QueuePair::Request &request = qp.requests[distance];
      qp.retries = 0;
      qp.deadline = queue_.now() + params_.retransmit;
      if (packet.opcode == Opcode::atomic_response) {
        if (request.parts[0].memory != nullptr) std::memcpy(request.parts[0].memory, &packet.operand, 8);
      } else {
        copy(*packet.parts, request.parts, packet.offset, packet.payload);
      }
      if (packet.last) {
        request.done = true;
        finish_requests(qp);
      }
      return true;
    }
  }
  return true;
}

// ---- acknowledgements ----

void Nic::advance_acknowledged(QueuePair &qp, std::uint64_t sequence) {
  if (sequence <= qp.unacknowledged) return;
  const std::uint64_t advance = sequence - qp.unacknowledged;
  qp.selected.erase(qp.selected.begin(), qp.selected.begin() + static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(
                                                                   advance, qp.selected.size())));
  qp.unacknowledged = sequence;
  qp.retries = 0;
  if (qp.refused_at < sequence) qp.refused_at = ~std::uint64_t{0};
  while (!qp.repeats.empty() && qp.repeats.front() < sequence) qp.repeats.pop_front();
  qp.repeated_below = std::max(qp.repeated_below, sequence);
  while (!qp.messages.empty() && qp.messages.front().first + qp.messages.front().packets <= sequence) {
    const Message &message = qp.messages.front();
    if (message.opcode == Opcode::send || message.opcode == Opcode::write) {
      qp.requests[message.request - qp.first_request].done = true;
    }
    qp.messages.pop_front();
    if (qp.cursor > 0) --qp.cursor;
  }
  if (qp.next < sequence) {  // what was to be repeated has arrived meanwhile
    qp.next = sequence;
    qp.cursor = 0;
  }
  qp.deadline = queue_.now() + params_.retransmit;
  finish_requests(qp);
}

void Nic::acknowledged(QueuePair &qp, const Packet &packet) {
  if (qp.failed) return;
  if (packet.kind == Packet::Kind::congestion) return notify(qp);
  if (packet.kind == Packet::Kind::refuse) {
    advance_acknowledged(qp, packet.sequence);
    std::uint64_t request = ~std::uint64_t{0};
    for (const Message &message : qp.messages) {
      if (packet.sequence < message.first || packet.sequence >= message.first + message.packets) continue;
      if (!message.is_response()) request = message.request;
    }
    return fail(qp, request, static_cast<Status>(packet.fault));
  }
  qp.credits = std::max(qp.credits, packet.credits);
  advance_acknowledged(qp, packet.sequence);
  if (packet.kind == Packet::Kind::not_ready) return not_ready(qp, packet);
  if (packet.kind == Packet::Kind::negative && packet.sequence >= qp.unacknowledged) {
    if (params_.recovery == Recovery::go_back_n) {
      if (packet.sequence < qp.next) {
        qp.next = packet.sequence;
        qp.cursor = 0;
        while (qp.messages[qp.cursor].first + qp.messages[qp.cursor].packets <= qp.next) ++qp.cursor;
      }
    } else if (packet.selective < qp.next) {
      const std::uint64_t place = packet.selective - qp.unacknowledged;
      if (qp.selected.size() <= place) qp.selected.resize(place + 1, false);
      qp.selected[place] = true;
      for (std::uint64_t s = std::max(qp.unacknowledged, qp.repeated_below); s < packet.selective; ++s) {
        if (!qp.selected[s - qp.unacknowledged]) qp.repeats.push_back(s);
      }
      qp.repeated_below = std::max(qp.repeated_below, packet.selective);
    }
  }
  promote(qp);
  activate(qp);
}

// Everything from there on goes again after a while. The receiver has dropped it, early packets included.
void Nic::not_ready(QueuePair &qp, const Packet &packet) {
  if (packet.sequence != qp.unacknowledged || packet.sequence >= qp.next || qp.again > queue_.now()) return;
  if (qp.refused_at != packet.sequence) {
    qp.refused_at = packet.sequence;
    qp.wait_end = qp.wait_limit == kNever ? kNever : queue_.now() + qp.wait_limit;
  } else if (queue_.now() >= qp.wait_end) {
    return fail(qp, qp.messages.front().request, Status::receiver_not_ready);
  }
  qp.next = packet.sequence;
  qp.cursor = 0;
  qp.repeats.clear();
  qp.selected.clear();
  qp.repeated_below = packet.sequence;
  qp.retries = 0;
  qp.again = queue_.now() + params_.not_ready_time;
  qp.deadline = qp.again + params_.retransmit;
  queue_.at(qp.again, *this, kSendAgain, qp.number);
}

void Nic::finish_requests(QueuePair &qp) {
  while (!qp.requests.empty() && qp.requests.front().done) {
    const SendRequest &wanted = qp.requests.front().wanted;
    complete(*qp.send_queue, {wanted.id, Status::success, false, qp.number, qp.requests.front().bytes, false, 0});
    qp.requests.pop_front();
    ++qp.first_request;
  }
}

void Nic::fail(QueuePair &qp, std::uint64_t request, Status status) {
  if (qp.failed) return;
  qp.lost = state(qp.number).bytes_outstanding;
  qp.failed = true;
  // What follows a request that is not complete is flushed with it, even if the other end has done it.
  bool complete_so_far = true;
  for (const QueuePair::Request &entry : qp.requests) {
    complete_so_far = complete_so_far && entry.done;
    const Status what = qp.first_request == request ? status : complete_so_far ? Status::success : Status::flushed;
    complete(*qp.send_queue, {entry.wanted.id, what, false, qp.number, entry.bytes, false, 0});
    ++qp.first_request;
  }
  qp.requests.clear();
  if (qp.taken) complete(*qp.receive_queue, {qp.taken->id, Status::flushed, true, qp.number, 0, false, 0});
  qp.taken.reset();
  for (const ReceiveRequest &receive : qp.receives) {
    complete(*qp.receive_queue, {receive.id, Status::flushed, true, qp.number, 0, false, 0});
  }
  qp.receives.clear();
  for (auto &[sequence, packet] : qp.early) pool_.drop(packet);
  qp.early.clear();
  qp.messages.clear();
  qp.repeats.clear();
  qp.next = qp.end;
  qp.cursor = 0;
}

void Nic::complete(CompletionQueue &queue, const Completion &completion) {
  completions_.push_back({&queue, completion});
  queue_.after(params_.completion_time, *this, kComplete);
}

// ---- timers ----

void Nic::arm(QueuePair &qp) {
  qp.timer = true;
  qp.deadline = queue_.now() + params_.retransmit;
  queue_.at(qp.deadline, *this, kTimer, qp.number);
}

void Nic::timed_out(QueuePair &qp) {
  qp.timer = false;
  // A read or an atomic that has arrived, and whose answer has not come, is waited for as well.
  const bool answer_due = qp.unacknowledged >= qp.highest && !qp.requests.empty() && qp.requests.front().started;
  if (qp.failed || dead_ || (qp.unacknowledged >= qp.highest && !answer_due)) return;
  if (queue_.now() < qp.deadline) {
    qp.timer = true;
    queue_.at(qp.deadline, *this, kTimer, qp.number);
    return;
  }
  ++counters_.timeouts;
  if (++qp.retries > params_.retries) {
    std::uint64_t request = answer_due ? qp.first_request : ~std::uint64_t{0};
    for (const Message &message : qp.messages) {
      if (answer_due) break;
      if (!message.is_response()) {
        request = message.request;
        break;
      }
    }
    return fail(qp, request, Status::retry_exceeded);
  }
  if (answer_due) return arm(qp);  // the other end repeats it
  if (params_.recovery == Recovery::go_back_n) {
    qp.next = qp.unacknowledged;
    qp.cursor = 0;
  } else {
    qp.repeats.clear();
    for (std::uint64_t s = qp.unacknowledged; s < qp.next; ++s) {
      const std::uint64_t place = s - qp.unacknowledged;
      if (place >= qp.selected.size() || !qp.selected[place]) qp.repeats.push_back(s);
    }
  }
  arm(qp);
  activate(qp);
}

void Nic::notify(QueuePair &qp) {
  if (!qp.rate) return;
  qp.rate->notified(queue_.now());
  start_rate_timers(qp);
}

void Nic::start_rate_timers(QueuePair &qp) {
  if (!qp.increase_runs) queue_.after(params_.dcqcn.increase_timer, *this, kIncrease, qp.number);
  qp.increase_runs = true;
}

void Nic::on_event(std::uint32_t what, std::uint64_t argument) {
  if (what == kComplete) {
    const Delayed delayed = completions_.front();
    completions_.pop_front();
    return delayed.queue->add(delayed.completion);
  }
  QueuePair &qp = *pairs_[argument];
  switch (what) {
    case kEligible:
      promote(qp);
      break;
    case kPace:
      qp.pacing = false;
      activate(qp);
      break;
    case kTimer:
      timed_out(qp);
      break;
    case kNotReady:
      // Events of waits that have ended come as well.
      if (qp.waiting == qp.next_request && queue_.now() >= qp.wait_end && !dead_) {
        fail(qp, qp.waiting, Status::receiver_not_ready);
      }
      break;
    case kSendAgain:
      activate(qp);
      break;
    case kIncrease:
      qp.rate->increase_expired();
      qp.increase_runs = qp.rate->limited();
      if (qp.increase_runs) queue_.after(params_.dcqcn.increase_timer, *this, kIncrease, argument);
      break;
  }
}

}  // namespace cx::hw::net
