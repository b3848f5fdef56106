#include "hw/cluster/train_network.hpp"

#include <algorithm>
#include <cmath>

#include "hw/cluster/packet_cluster.hpp"

namespace cx::hw::net {

namespace {

// A train is at most that part of a window or of a link's credits, which would run dry between two of them otherwise.
constexpr std::uint32_t kParts = 8;

Ps time_of(std::uint64_t bytes, double bytes_per_second) {
  return static_cast<Ps>(std::llround(static_cast<double>(bytes) * 1e12 / bytes_per_second));
}

}  // namespace

TrainNetwork::TrainNetwork(const Topology &topology, EventQueue &queue, Owner &owner, std::uint32_t packets)
    : queue_(queue), owner_(owner), packets_(packets), links_(topology.links()) {
  const ClusterConfig &config = topology.config();
  mtu_ = config.rdma.mtu;
  ack_packets_ = config.rdma.ack_packets;
  window_ = (config.rdma.window_kib * 1024 + mtu_ - 1) / mtu_;
  pauses_ = config.pfc.on;
  xoff_ = std::uint64_t{config.pfc.xoff_kib} * 1024;
  xon_ = std::uint64_t{config.pfc.xon_kib} * 1024;
  for (std::uint32_t l = 0; l < topology.links(); ++l) {
    LinkState &link = links_[l];
    const LinkParams &params = topology.edge_of(l).params;
    link.framing = params.framing;
    link.bytes_per_second = params.bytes_per_second;
    link.latency = params.latency;
    link.delay = vertex_delay(config, topology.vertices()[topology.to(l)].kind);
    link.credit_bytes = params.credit_bytes;
    link.credits = static_cast<std::int64_t>(params.credit_bytes);
    link.from_card = topology.vertices()[topology.from(l)].kind == Vertex::Kind::card;
  }
}

void TrainNetwork::add_stream(std::uint32_t number, const std::vector<std::uint32_t> &path,
                              const std::vector<std::uint32_t> &back) {
  if (streams_.size() <= number) streams_.resize(number + 1);
  Stream &stream = streams_[number];
  stream.path_begin = static_cast<std::uint32_t>(paths_.size());
  stream.hops = static_cast<std::uint32_t>(path.size());
  stream.most = std::min(packets_, std::max(1u, window_ / kParts));
  for (const std::uint32_t l : path) {
    const LinkState &link = links_[l];
    if (link.credit_bytes == 0) continue;
    const std::uint64_t fit = link.credit_bytes / (kParts * link.framing.wire_bytes(mtu_, 0));
    stream.most = static_cast<std::uint32_t>(std::min<std::uint64_t>(stream.most, std::max<std::uint64_t>(1, fit)));
  }
  paths_.insert(paths_.end(), path.begin(), path.end());
  stream.back_begin = static_cast<std::uint32_t>(paths_.size());
  stream.back_hops = static_cast<std::uint32_t>(back.size());
  paths_.insert(paths_.end(), back.begin(), back.end());
}

void TrainNetwork::begin(std::uint32_t number, std::uint64_t bytes) {
  Stream &stream = streams_[number];
  stream.left = bytes;
  stream.going = stream.fresh = true;
  activate(number);
}

void TrainNetwork::activate(std::uint32_t number) {
  Stream &stream = streams_[number];
  if (stream.queued || !sendable(stream)) return;
  stream.queued = true;
  const std::uint32_t link = paths_[stream.path_begin];
  links_[link].ready.push_back(number);
  try_send(link);
}

std::uint32_t TrainNetwork::make_train() {
  if (free_ == kNone) {
    trains_.emplace_back();
    return static_cast<std::uint32_t>(trains_.size() - 1);
  }
  const std::uint32_t train = free_;
  free_ = trains_[train].next;
  trains_[train] = {};
  return train;
}

// The next stream's turn on a card's port.
void TrainNetwork::stage(std::uint32_t l) {
  links_[l].staging = true;
  while (links_[l].data.head == kNone && !links_[l].ready.empty()) {
    const std::uint32_t number = links_[l].ready.front();
    links_[l].ready.pop_front();
    streams_[number].queued = false;
    if (!sendable(streams_[number])) continue;
    const std::uint32_t index = make_train();
    Train &train = trains_[index];
    Stream &stream = streams_[number];
    const std::uint64_t whole = std::max<std::uint64_t>(1, (stream.left + mtu_ - 1) / mtu_);
    train.stream = number;
    train.packets = static_cast<std::uint32_t>(
        std::min<std::uint64_t>({whole, stream.most, std::uint64_t{window_ - stream.in_flight}}));
    train.bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(stream.left, std::uint64_t{train.packets} * mtu_));
    train.first = stream.fresh;
    train.last = train.packets == whole;
    stream.fresh = false;
    stream.left -= train.bytes;
    stream.in_flight += train.packets;
    append(links_[l].data, index);
    if (train.last) {
      stream.going = false;
      owner_.left(number);
    }
    activate(number);
  }
  links_[l].staging = false;
}

void TrainNetwork::append(Queue &queue, std::uint32_t train) {
  trains_[train].next = kNone;
  if (queue.head == kNone) {
    queue.head = train;
  } else {
    trains_[queue.tail].next = train;
  }
  queue.tail = train;
}

std::uint64_t TrainNetwork::wire_bytes(const LinkState &link, const Train &train) const {
  if (train.is_acknowledgement) return link.framing.wire_bytes(0, Framing::kAeth);
  return link.framing.message_bytes(train.bytes, mtu_, train.first ? Framing::kImmediate : 0);
}

void TrainNetwork::try_send(std::uint32_t l) {
  if (links_[l].busy || links_[l].staging) return;
  if (links_[l].from_card && links_[l].data.head == kNone) stage(l);
  LinkState &link = links_[l];
  const bool control = link.acknowledgements.head != kNone;
  Queue &queue = control ? link.acknowledgements : link.data;
  if (queue.head == kNone || (link.paused && !control)) return;
  const std::uint32_t index = queue.head;
  Train &train = trains_[index];
  const std::uint64_t wire = wire_bytes(link, train);
  if (link.credit_bytes != 0 && !control) {
    if (link.credits < static_cast<std::int64_t>(std::min(wire, link.credit_bytes))) return;
    link.credits -= static_cast<std::int64_t>(wire);
  }
  queue.head = train.next;
  link.busy = true;
  link.carried += static_cast<double>(wire);
  const Ps now = queue_.now(), busy = time_of(wire, link.bytes_per_second);
  const bool one = control || train.packets == 1;
  const Ps first = one ? busy : time_of(link.framing.wire_bytes(mtu_, 0), link.bytes_per_second);
  const std::uint32_t rest = (train.bytes - 1) % mtu_ + 1;
  const Ps last = one ? busy : time_of(link.framing.wire_bytes(rest, 0), link.bytes_per_second);
  if (train.hop > 0 && !control) leave_buffer(link_at(train, train.hop - 1), train, now + busy - last);
  train.charged = link.credit_bytes != 0 && !control ? static_cast<std::uint32_t>(wire) : 0;
  // Behind a slower link its packets come one by one: the last goes on when it is there.
  const Ps end = std::max(now + busy, train.hop > 0 ? train.tail + last : 0);
  queue_.at(now + busy, *this, kFree, l);
  train.tail = end + link.latency + link.delay;
  if (++train.hop < hops(train)) {
    queue_.at(now + first + link.latency + link.delay, *this, kHead, index);
    return;
  }
  if (!control) {
    Stream &stream = streams_[train.stream];
    stream.last_arrival = train.tail = std::max(train.tail, stream.last_arrival);
  }
  queue_.at(train.tail, *this, kDelivered, index);
}

// `credits_at`: when its last packet begins to leave.
void TrainNetwork::leave_buffer(std::uint32_t l, const Train &train, Ps credits_at) {
  LinkState &link = links_[l];
  if (train.charged != 0) {
    queue_.at(credits_at + link.latency, *this, kCredits, std::uint64_t{train.charged} << 32 | l);
    return;
  }
  if (!pauses_) return;
  link.holds -= train.bytes;
  if (link.pausing && link.holds <= xon_) {
    link.pausing = false;
    queue_.after(link.latency, *this, kResume, l);
  }
}

void TrainNetwork::head_arrived(std::uint32_t index) {
  const Train &train = trains_[index];
  const std::uint32_t l = link_at(train, train.hop);
  if (train.is_acknowledgement) {
    append(links_[l].acknowledgements, index);
    return try_send(l);
  }
  if (pauses_ && train.charged == 0) {
    const std::uint32_t from = link_at(train, train.hop - 1);
    LinkState &link = links_[from];
    link.holds += train.bytes;
    if (!link.pausing && link.holds > xoff_) {
      link.pausing = true;
      queue_.after(link.latency, *this, kPause, from);
    }
  }
  append(links_[l].data, index);
  try_send(l);
}

void TrainNetwork::train_delivered(std::uint32_t index) {
  const Train train = trains_[index];
  trains_[index].next = free_;
  free_ = index;
  Stream &stream = streams_[train.stream];
  if (train.is_acknowledgement) {
    stream.in_flight -= train.packets;
    activate(train.stream);
    if (train.last) owner_.acknowledged(train.stream);
    return;
  }
  if (train.charged != 0) leave_buffer(link_at(train, stream.hops - 1), train, queue_.now());
  stream.unreported += train.packets;
  if (train.last || stream.unreported >= ack_packets_) {
    const std::uint32_t answer = make_train();
    trains_[answer].is_acknowledgement = true;
    trains_[answer].stream = train.stream;
    trains_[answer].packets = stream.unreported;
    trains_[answer].last = train.last;
    stream.unreported = 0;
    const std::uint32_t l = paths_[stream.back_begin];
    append(links_[l].acknowledgements, answer);
    try_send(l);
  }
  if (train.last) owner_.delivered(train.stream);
}

void TrainNetwork::on_event(std::uint32_t what, std::uint64_t argument) {
  const auto number = static_cast<std::uint32_t>(argument);
  switch (what) {
    case kFree:
      links_[number].busy = false;
      try_send(number);
      break;
    case kHead:
      head_arrived(number);
      break;
    case kDelivered:
      train_delivered(number);
      break;
    case kCredits:
      links_[number].credits += static_cast<std::int64_t>(argument >> 32);
      try_send(number);
      break;
    case kPause:
    case kResume:
      links_[number].paused = what == kPause;
      try_send(number);
      break;
  }
}

}  // namespace cx::hw::net
