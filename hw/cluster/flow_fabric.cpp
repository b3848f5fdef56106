#include "hw/cluster/flow_fabric.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "hw/cluster/packet_cluster.hpp"
#include "hw/cluster/packet_fabric.hpp"

namespace cx::hw::net {

namespace {

Ps ps(double seconds) { return static_cast<Ps>(std::llround(seconds * 1e12)); }

constexpr double kTiny = 1e-9;  // relative: shares that differ by rounding are equal
// Beyond that many packets of a message it is the same whether the last of them takes its turn or shares.
constexpr std::uint64_t kPackets = 64;
// More flows than that on links that hang together share to the end: each end for itself would mean as many
// computations.
constexpr std::size_t kTurns = 256;

}  // namespace

PathTime path_time(const Topology &topology, const std::vector<std::uint32_t> &path, std::uint64_t bytes) {
  const ClusterConfig &config = topology.config();
  const std::uint64_t mtu = config.rdma.mtu;
  PathTime time;
  for (const std::uint32_t link : path) {
    const Framing &framing = topology.edge_of(link).params.framing;
    const double wire = static_cast<double>(framing.message_bytes(bytes, config.rdma.mtu, Framing::kImmediate));
    time.wire_per_byte[static_cast<int>(framing.kind)] = wire / static_cast<double>(std::max<std::uint64_t>(bytes, 1));
  }
  std::size_t narrow = 0;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < path.size(); ++i) {
    const LinkParams &params = topology.edge_of(path[i]).params;
    const double rate = params.bytes_per_second / time.wire_per_byte[static_cast<int>(params.framing.kind)];
    if (rate < least * (1 - kTiny)) {
      least = rate;
      narrow = i;
    }
  }
  time.narrowest = least;
  const auto packet = static_cast<std::uint32_t>(std::min(mtu, bytes));
  const LinkParams &slow = topology.edge_of(path[narrow]).params;
  const auto last = static_cast<std::uint32_t>(bytes == 0 ? 0 : (bytes - 1) % mtu + 1);
  for (std::size_t i = 0; i < path.size(); ++i) {
    const LinkParams &params = topology.edge_of(path[i]).params;
    time.forth += params.latency + vertex_delay(config, topology.vertices()[topology.to(path[i])].kind);
    const auto seconds = [](const LinkParams &of, std::uint32_t payload) {
      return static_cast<double>(of.framing.wire_bytes(payload, 0)) / of.bytes_per_second;
    };
    if (i < narrow) time.forth += ps(seconds(params, packet));
    if (i > narrow) {
      // A short last packet waits behind the whole one before it.
      const double wait = bytes > mtu ? std::max(0.0, seconds(params, packet) - seconds(slow, last)) : 0;
      time.forth += ps(seconds(params, last) + wait);
    }
    // The answer takes the same links the other way.
    time.back += params.latency + vertex_delay(config, topology.vertices()[topology.from(path[i])].kind) +
                 ps(static_cast<double>(params.framing.wire_bytes(0, Framing::kAeth)) / params.bytes_per_second);
  }
  return time;
}

FlowFabric::FlowFabric(Topology &topology)
    : topology_(topology), numbers_(topology.ranks()), links_(topology.links()), dead_(topology.config().nodes, false) {
  for (std::uint32_t l = 0; l < topology.links(); ++l) {
    links_[l].capacity = topology.edge_of(l).up ? topology.edge_of(l).params.bytes_per_second : 0;
  }
}

void FlowFabric::follow_trains(std::uint32_t packets) {
  TrainNetwork::Owner &owner = *this;
  trains_ = std::make_unique<TrainNetwork>(topology_, queue_, owner, packets);
}

void FlowFabric::inject(const ClusterFault &fault) {
  if (fault.kind == ClusterFault::Kind::lossy_link) {
    throw ClusterFaultError("lossy_link: expected packet fidelity, flows know no packets");
  }
  faults_.push_back(fault);
  queue_.at(fault.at, *this, kFault, faults_.size() - 1);
  if (fault.until != kNever) queue_.at(fault.until, *this, kFaultEnds, faults_.size() - 1);
}

std::uint32_t FlowFabric::stream_of(const Connection &connection) {
  const std::uint64_t key = std::uint64_t{connection.peer} << 8 | connection.channel;
  Numbers &numbers = numbers_[connection.rank];
  if (numbers.last_key == key) return numbers.last;
  const auto [entry, is_new] = numbers.all.emplace(key, static_cast<std::uint32_t>(streams_.size()));
  if (is_new) {
    streams_.emplace_back();
    streams_.back().connection = connection;
    route(streams_.back());
  }
  numbers.last_key = key;
  return numbers.last = entry->second;
}

void FlowFabric::route(Stream &stream) {
  const Connection &c = stream.connection;
  const auto path = topology_.path(c.rank, c.peer, flow_of(c));
  if (path.empty()) throw NoRouteError(c.rank, c.peer);
  const ClusterConfig &config = topology_.config();
  stream.full = path_time(topology_, path, std::uint64_t{1 << 20} / config.rdma.mtu * config.rdma.mtu);
  stream.uses.clear();
  for (const std::uint32_t link : path) {
    stream.uses.push_back({link, 0, static_cast<std::uint8_t>(topology_.edge_of(link).params.framing.kind)});
  }
  // A window is sent in a round trip; acknowledgements come in groups.
  const double window = config.rdma.window_kib * 1024.0;
  const double group = std::min(window, static_cast<double>(config.rdma.mtu) * config.rdma.ack_packets);
  const double packet = config.rdma.mtu / stream.full.narrowest;
  const double round = static_cast<double>(stream.full.forth + stream.full.back) * 1e-12 + packet;
  stream.cap = round > 0 ? std::max(window - group / 2, static_cast<double>(config.rdma.mtu)) / round
                         : std::numeric_limits<double>::infinity();
  stream.dead = dead_[topology_.node_of(c.rank)] || dead_[topology_.node_of(c.peer)];
  if (trains_) {
    trains_->add_stream(static_cast<std::uint32_t>(&stream - streams_.data()), path,
                        topology_.path(c.peer, c.rank, flow_of(c)));
  }
}

void FlowFabric::send(const Connection &connection, const std::byte *data, std::uint64_t bytes, std::uint32_t digest,
                      std::uint64_t tag, bool awaited) {
  const std::uint32_t number = stream_of(connection);
  const Ps eligible = queue_.now() + ps(topology_.config().rdma.message_ns * 1e-9);
  streams_[number].messages.push_back({bytes, data, tag, eligible, digest, awaited});
  queue_.at(eligible, *this, kStart, number);
}

void FlowFabric::receive(const Connection &connection, std::byte *target, std::uint64_t bytes, std::uint64_t tag,
                         bool announced) {
  const std::uint32_t number = stream_of({connection.peer, connection.rank, connection.channel});
  Stream &stream = streams_[number];
  const Ps known = queue_.now() + (announced ? 0 : stream.full.back);
  const bool awaited = stream.receives.size() == stream.under_way && stream.messages.size() > stream.under_way;
  stream.receives.push_back({target, bytes, tag, known});
  if (!stream.active && awaited) queue_.at(known, *this, kStart, number);
}

Fabric::State FlowFabric::state(const Connection &connection) {
  const std::uint32_t number = stream_of(connection);
  const Stream &stream = streams_[number];
  State state;
  state.qp = number;
  for (const Message &message : stream.messages) state.bytes_outstanding += message.bytes;
  state.waits_for_receive =
      !stream.active && stream.messages.size() > stream.under_way && stream.receives.size() <= stream.under_way;
  return state;
}

std::vector<double> FlowFabric::wire_bytes() const {
  std::vector<double> bytes;
  for (std::uint32_t l = 0; l < links_.size(); ++l) {
    bytes.push_back(trains_ ? trains_->carried(l) : links_[l].carried);
  }
  if (trains_) return bytes;
  // What flows since its rate changed last is not counted yet.
  for (const Stream &stream : streams_) {
    if (!stream.active) continue;
    const double moved = std::min(stream.left, stream.rate * static_cast<double>(queue_.now() - stream.since) * 1e-12);
    for (const Use &use : stream.uses) bytes[use.link] += moved * stream.now_time.wire_per_byte[use.framing];
  }
  return bytes;
}

void FlowFabric::try_start(std::uint32_t number) {
  Stream &stream = streams_[number];
  if (stream.active || stream.messages.size() == stream.under_way) return;
  if (stream.receives.size() <= stream.under_way) return;
  if (stream.messages[stream.under_way].eligible > queue_.now()) return;  // its own event comes
  const Ps known = stream.receives[stream.under_way].known;
  if (known > queue_.now()) {
    queue_.at(known, *this, kStart, number);
    return;
  }
  const std::uint64_t bytes = stream.messages[stream.under_way++].bytes;
  begin(number, static_cast<double>(std::max<std::uint64_t>(bytes, 1)));
}

void FlowFabric::begin(std::uint32_t number, double left) {
  Stream &stream = streams_[number];
  const std::uint64_t mtu = topology_.config().rdma.mtu;
  const std::uint64_t bytes = stream.messages[stream.under_way - 1].bytes;
  if (trains_) {
    stream.active = true;
    return trains_->begin(number, bytes);
  }
  if (bytes != 0 && bytes % mtu == 0 && bytes / mtu > 16) {
    stream.now_time = stream.full;
  } else {
    std::vector<std::uint32_t> path;
    for (const Use &use : stream.uses) path.push_back(use.link);
    stream.now_time = path_time(topology_, path, bytes);
  }
  stream.active = true;
  stream.left = left;
  stream.packets = bytes <= kPackets * mtu;
  stream.last = left <= static_cast<double>(mtu);
  stream.turn = turns_++;
  stream.since = queue_.now();
  stream.rate = 0;
  bool alone = true;
  double rate = std::numeric_limits<double>::infinity();
  for (std::uint32_t i = 0; i < stream.uses.size(); ++i) {
    Use &use = stream.uses[i];
    LinkState &link = links_[use.link];
    use.place = static_cast<std::uint32_t>(link.active.size());
    alone = alone && link.active.empty();
    link.active.push_back(std::uint64_t{number} << 8 | i);
    rate = std::min(rate, link.capacity / stream.now_time.wire_per_byte[use.framing]);
  }
  if (alone) return set_rate(number, rate, false);
  for (const Use &use : stream.uses) touch(use.link);
}

void FlowFabric::end(std::uint32_t number) {
  Stream &stream = streams_[number];
  stream.active = false;
  ++stream.version;
  for (Use &use : stream.uses) {
    LinkState &link = links_[use.link];
    const std::uint64_t moved = link.active.back();
    link.active[use.place] = moved;
    streams_[moved >> 8].uses[moved & 0xff].place = use.place;
    link.active.pop_back();
    if (!link.active.empty()) touch(use.link);
  }
}

void FlowFabric::touch(std::uint32_t link) {
  if (!links_[link].dirty) {
    links_[link].dirty = true;
    dirty_.push_back(link);
  }
  if (!solving_) {
    solving_ = true;
    queue_.after(0, *this, kSolve);
  }
}

void FlowFabric::settle(Stream &stream) {
  const double elapsed = static_cast<double>(queue_.now() - stream.since) * 1e-12;
  const double moved = std::min(stream.left, stream.rate * elapsed);
  stream.left -= moved;
  stream.since = queue_.now();
  for (const Use &use : stream.uses) links_[use.link].carried += moved * stream.now_time.wire_per_byte[use.framing];
}

// turns: the last packet takes its turn.
void FlowFabric::set_rate(std::uint32_t number, double rate, bool turns) {
  Stream &stream = streams_[number];
  rate = stream.dead ? 0 : std::min(rate, stream.cap);
  if (rate == stream.rate) return;
  settle(stream);
  stream.rate = rate;
  ++stream.version;
  if (rate <= 0) return;
  const bool to_last = turns && stream.packets && !stream.last;
  const double bytes = stream.left - (to_last ? static_cast<double>(topology_.config().rdma.mtu) : 0);
  const Ps end = queue_.now() + static_cast<Ps>(std::ceil(std::max(bytes, 0.0) / rate * 1e12));
  queue_.at(end, *this, to_last ? kLast : kDrained, std::uint64_t{stream.version} << 32 | number);
}

void FlowFabric::solve() {
  solving_ = false;
  auto &[dirty, streams, links, open, full, turns] = scratch_;
  dirty.clear();
  dirty.swap(dirty_);
  ++mark_;
  for (const std::uint32_t first : dirty) {
    links_[first].dirty = false;
    if (links_[first].mark == mark_) continue;
    // Everything that shares links with it, directly or not.
    streams.clear();
    links.assign(1, first);
    links_[first].mark = mark_;
    for (std::size_t i = 0; i < links.size(); ++i) {
      for (const std::uint64_t entry : links_[links[i]].active) {
        Stream &stream = streams_[entry >> 8];
        if (stream.mark == mark_) continue;
        stream.mark = mark_;
        streams.push_back(static_cast<std::uint32_t>(entry >> 8));
        for (const Use &use : stream.uses) {
          if (links_[use.link].mark == mark_) continue;
          links_[use.link].mark = mark_;
          links.push_back(use.link);
        }
      }
    }
    if (!streams.empty()) share(streams, links);
  }
}

// Progressive filling: all rates grow together; who meets a full link stops there.
void FlowFabric::share(const std::vector<std::uint32_t> &streams, const std::vector<std::uint32_t> &links) {
  if (streams.size() == 1) {
    const Stream &stream = streams_[streams.front()];
    double rate = std::numeric_limits<double>::infinity();
    for (const Use &use : stream.uses) {
      rate = std::min(rate, links_[use.link].capacity / stream.now_time.wire_per_byte[use.framing]);
    }
    return set_rate(streams.front(), rate, false);
  }
  for (const std::uint32_t link : links) {
    links_[link].left = links_[link].capacity;
    links_[link].load = 0;
    links_[link].before = 0;
  }
  for (const std::uint32_t number : streams) {
    streams_[number].frozen = streams_[number].dead;
    streams_[number].share = 0;
  }
  const bool turns = streams.size() <= kTurns;
  if (turns) take_turns(streams);
  for (const std::uint32_t number : streams) {
    const Stream &stream = streams_[number];
    if (stream.frozen) continue;
    for (const Use &use : stream.uses) links_[use.link].load += stream.now_time.wire_per_byte[use.framing];
  }
  auto &open = scratch_.open;
  open.clear();
  for (const std::uint32_t link : links) {
    if (links_[link].load > 0) open.push_back(link);
  }
  while (!open.empty()) {
    double least = std::numeric_limits<double>::infinity();
    for (const std::uint32_t link : open) least = std::min(least, std::max(0.0, links_[link].left) / links_[link].load);
    const double limit = least * (1 + kTiny);
    // Links first, so that all of one share stop together.
    auto &full = scratch_.full;
    full.clear();
    for (const std::uint32_t link : open) {
      if (std::max(0.0, links_[link].left) / links_[link].load <= limit) full.push_back(link);
    }
    for (const std::uint32_t link : full) {
      for (const std::uint64_t entry : links_[link].active) {
        Stream &stream = streams_[entry >> 8];
        if (stream.frozen) continue;
        stream.frozen = true;
        stream.share = least;
        for (const Use &use : stream.uses) {
          const double weight = stream.now_time.wire_per_byte[use.framing];
          links_[use.link].left -= weight * least;
          links_[use.link].load -= weight;
        }
      }
      links_[link].load = 0;
    }
    std::erase_if(open, [&](std::uint32_t link) { return links_[link].load <= kTiny; });
  }
  for (const std::uint32_t number : streams) set_rate(number, streams_[number].share, turns);
}

// Packets do not share a link, they follow each other, one of each message in turn: the last packet of a message waits
// for one packet of each message that began before it, not for those that began after it.
void FlowFabric::take_turns(const std::vector<std::uint32_t> &streams) {
  if (std::none_of(streams.begin(), streams.end(), [&](std::uint32_t number) { return streams_[number].last; })) return;
  auto &turns = scratch_.turns;
  turns = streams;
  std::sort(turns.begin(), turns.end(),
            [&](std::uint32_t a, std::uint32_t b) { return streams_[a].turn < streams_[b].turn; });
  for (const std::uint32_t number : turns) {
    Stream &stream = streams_[number];
    if (!stream.last) {
      for (const Use &use : stream.uses) ++links_[use.link].before;
      continue;
    }
    if (stream.dead) continue;
    double rate = stream.cap;
    for (const Use &use : stream.uses) {
      const LinkState &link = links_[use.link];
      const double most = std::min(link.left, link.capacity / (1 + link.before));
      rate = std::min(rate, most / stream.now_time.wire_per_byte[use.framing]);
    }
    stream.share = rate;
    stream.frozen = true;
    for (const Use &use : stream.uses) {
      LinkState &link = links_[use.link];
      link.left -= rate * stream.now_time.wire_per_byte[use.framing];
      if (link.left < link.capacity * kTiny) link.left = 0;
    }
  }
}

void FlowFabric::drained(std::uint32_t number) {
  Stream &stream = streams_[number];
  settle(stream);
  end(number);
  const Ps completion = ps(topology_.config().rdma.completion_ns * 1e-9);
  Ps arrival = queue_.now() + stream.now_time.forth;
  arrival = std::max(arrival, stream.last_arrival);  // in order
  stream.last_arrival = arrival;
  queue_.at(arrival + completion, *this, kArrived, number);
  const Ps acknowledged = arrival + stream.now_time.back + completion;
  const Message &message = stream.messages[stream.under_way - 1];
  if (message.awaited) {
    stream.awaited.push_back(message.tag);
    queue_.at(acknowledged, *this, kAcknowledged, number);
  } else {
    listener_->sent(stream.connection.rank, message.tag, acknowledged);
  }
  try_start(number);
}

void FlowFabric::left(std::uint32_t number) {
  streams_[number].active = false;
  try_start(number);
}

void FlowFabric::delivered(std::uint32_t number) {
  Stream &stream = streams_[number];
  const Ps completion = ps(topology_.config().rdma.completion_ns * 1e-9);
  queue_.after(completion, *this, kArrived, number);
  stream.unacknowledged.push_back(stream.messages[stream.delivered++].tag);
}

void FlowFabric::acknowledged(std::uint32_t number) {
  Stream &stream = streams_[number];
  stream.awaited.push_back(stream.unacknowledged.front());
  stream.unacknowledged.pop_front();
  queue_.after(ps(topology_.config().rdma.completion_ns * 1e-9), *this, kAcknowledged, number);
}

void FlowFabric::arrived(std::uint32_t number) {
  Stream &stream = streams_[number];
  const Message message = stream.messages.front();
  stream.messages.pop_front();
  --stream.under_way;
  if (trains_) --stream.delivered;
  const Receive receive = stream.receives.front();
  stream.receives.pop_front();
  const Connection back{stream.connection.peer, stream.connection.rank, stream.connection.channel};
  if (message.bytes > receive.bytes) return listener_->failed(back, number, Status::local_length);
  if (message.data != nullptr && receive.target != nullptr) std::memcpy(receive.target, message.data, message.bytes);
  listener_->received(back.rank, receive.tag, message.bytes, message.digest);
}

void FlowFabric::fault(std::size_t number, bool begins) {
  const ClusterFault &fault = faults_[number];
  const auto set_capacity = [&](double factor) {
    for (const std::size_t l : {2 * fault.edge, 2 * fault.edge + 1}) {
      links_[l].capacity = topology_.edge_of(static_cast<std::uint32_t>(l)).params.bytes_per_second * factor;
      touch(static_cast<std::uint32_t>(l));
    }
  };
  switch (fault.kind) {
    case ClusterFault::Kind::link_down:
      set_capacity(begins ? 0 : 1);
      topology_.set_edge(fault.edge, !begins);
      queue_.after(ps(topology_.config().routing.detect_us * 1e-6), *this, kReroute);
      break;
    case ClusterFault::Kind::slow_link:
      set_capacity(begins ? fault.factor : 1);
      break;
    case ClusterFault::Kind::lossy_link:
      break;
    case ClusterFault::Kind::dead_node: {
      dead_[fault.node] = true;
      const ClusterConfig &config = topology_.config();
      const Ps limit = ps(config.rdma.retransmit_us * 1e-6) * (config.rdma.retries + 1);
      for (std::uint32_t s = 0; s < streams_.size(); ++s) {
        Stream &stream = streams_[s];
        if (topology_.node_of(stream.connection.rank) != fault.node &&
            topology_.node_of(stream.connection.peer) != fault.node)
          continue;
        stream.dead = true;
        if (!stream.active) continue;
        set_rate(s, 0, true);
        for (const Use &use : stream.uses) touch(use.link);
      }
      // Whoever sends to the node gives up after its retries.
      queue_.after(limit, *this, kLost, fault.node);
      break;
    }
  }
}

void FlowFabric::on_event(std::uint32_t what, std::uint64_t argument) {
  const auto number = static_cast<std::uint32_t>(argument);
  switch (what) {
    case kStart:
      try_start(number);
      break;
    case kLast: {
      Stream &stream = streams_[number];
      if (!stream.active || stream.version != argument >> 32) break;
      settle(stream);
      stream.last = true;
      stream.rate = 0;
      for (const Use &use : stream.uses) touch(use.link);
      break;
    }
    case kDrained:
      if (streams_[number].active && streams_[number].version == argument >> 32) drained(number);
      break;
    case kArrived:
      arrived(number);
      break;
    case kAcknowledged: {
      Stream &stream = streams_[number];
      const std::uint64_t tag = stream.awaited.front();
      stream.awaited.pop_front();
      listener_->sent(stream.connection.rank, tag, queue_.now());
      break;
    }
    case kSolve:
      solve();
      break;
    case kFault:
    case kFaultEnds:
      fault(argument, what == kFault);
      break;
    case kReroute:
      topology_.compute_routes();
      for (std::uint32_t s = 0; s < streams_.size(); ++s) {
        Stream &stream = streams_[s];
        const bool active = stream.active;
        if (active) {
          settle(stream);
          end(s);
        }
        route(stream);
        if (!active) continue;
        begin(s, stream.left);
      }
      break;
    case kLost:
      for (std::uint32_t s = 0; s < streams_.size(); ++s) {
        const Stream &stream = streams_[s];
        if (!stream.active || topology_.node_of(stream.connection.peer) != argument) continue;
        return listener_->failed(stream.connection, s, Status::retry_exceeded);
      }
      queue_.after(ps(topology_.config().rdma.retransmit_us * 1e-6), *this, kLost, argument);
      break;
  }
}

}  // namespace cx::hw::net
