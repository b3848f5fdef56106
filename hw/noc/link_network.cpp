#include "hw/noc/link_network.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace cx::hw {

namespace {

// How long a mover's use of a link counts as recent: some transfers of a tile's operands.
constexpr std::uint64_t kMemoryCycles = 8192;
constexpr std::uint64_t kOne = 65536;
constexpr std::uint64_t kStretchCycles = 4096;

}  // namespace

LinkNetwork::LinkNetwork(Topology topology, const LinkNetworkParams &params)
    : topology_(std::move(topology)), params_(params) {
  const RouterParams &router = params.router;
  if (params.flit_bytes == 0 || params.packet_bytes == 0 || params.cycle == 0 || router.vc_buffer_flits == 0 ||
      router.router_cycles == 0 || router.link_cycles == 0) {
    throw std::invalid_argument("noc: flits, packets, cycles and buffers must not be 0");
  }
  if (router.vcs < topology_.vc_classes()) throw std::invalid_argument("noc: fewer virtual channels than classes");
  for (const Topology::Link &link : topology_.links()) {
    add_link("r" + std::to_string(link.from), "r" + std::to_string(link.to), false);
  }
}

unsigned LinkNetwork::add_link(std::string from, std::string to, bool local) {
  calendars_.emplace_back();
  shares_.emplace_back();
  stretches_.emplace_back();
  uses_.push_back({std::move(from), std::move(to), 0, 0, 0, 0, 0, local});
  return static_cast<unsigned>(uses_.size() - 1);
}

LinkNetwork::NodeId LinkNetwork::attach(const std::string &name, unsigned router) {
  if (router >= topology_.routers()) {
    throw std::out_of_range("noc: " + name + " is placed at router " + std::to_string(router) +
                            ", which does not exist");
  }
  const std::string at = "r" + std::to_string(router);
  const unsigned out = add_link(name, at, true), in = add_link(at, name, true);
  nodes_.push_back({name, router, out, in});
  for (auto &row : paths_) row.emplace_back();
  paths_.emplace_back(nodes_.size());
  return static_cast<NodeId>(nodes_.size() - 1);
}

LinkNetwork::Path &LinkNetwork::path(NodeId from, NodeId to) {
  auto &known = paths_.at(from).at(to);
  if (!known) {
    known = std::make_unique<Path>();
    known->links = topology_.route(nodes_[from].router, nodes_[to].router).links;
    known->links.insert(known->links.begin(), nodes_[from].out);
    known->links.push_back(nodes_[to].in);
  }
  return *known;
}

std::uint64_t LinkNetwork::hop_time() const {
  return (params_.router.link_cycles + params_.router.router_cycles) * params_.cycle;
}

std::uint64_t LinkNetwork::head_latency(NodeId from, NodeId to) const {
  const unsigned hops = topology_.distance(router_of(from), router_of(to));
  return (hops + 1) * hop_time() + params_.router.link_cycles * params_.cycle;
}

std::uint64_t LinkNetwork::flits(std::uint64_t bytes) const {
  const std::uint64_t packets = (bytes + params_.packet_bytes - 1) / params_.packet_bytes;
  return std::max<std::uint64_t>(packets, 1) + (bytes + params_.flit_bytes - 1) / params_.flit_bytes;
}

std::uint64_t LinkNetwork::pace(std::uint64_t flits) const {
  const double rate = params_.router.stream_rate(params_.router.vcs / topology_.vc_classes());
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(flits * params_.cycle) / rate));
}

std::uint64_t LinkNetwork::stretch_time() const { return kStretchCycles * params_.cycle; }

bool LinkNetwork::is_crowded(const Stretch &stretch) const {
  return stretch.several && static_cast<double>(stretch.taken) > kValidatedLoad * static_cast<double>(stretch_time());
}

// A piece counts where it begins: it is short beside a stretch.
void LinkNetwork::note_load(unsigned link, std::uint64_t pair, std::uint64_t begin, std::uint64_t time) {
  Stretches &stretches = stretches_[link];
  for (; !stretches.open.empty() && (stretches.first + 1) * stretch_time() <= now_; ++stretches.first) {
    if (is_crowded(stretches.open.front())) uses_[link].crowded += stretch_time();
    stretches.open.pop_front();
  }
  const std::uint64_t number = begin / stretch_time();
  if (stretches.open.empty()) stretches.first = now_ / stretch_time();
  const std::uint64_t index = number - stretches.first;
  if (index >= stretches.open.size()) stretches.open.resize(index + 1);
  Stretch &stretch = stretches.open[index];
  if (stretch.taken == 0) stretch.pair = pair;
  stretch.several |= stretch.pair != pair;
  stretch.taken += time;
}

std::uint64_t LinkNetwork::crowded(unsigned link) const {
  std::uint64_t time = uses_.at(link).crowded;
  for (const Stretch &stretch : stretches_[link].open) time += is_crowded(stretch) ? stretch_time() : 0;
  return time;
}

LinkCalendar::Interval LinkNetwork::take(unsigned link, std::uint64_t pair, std::uint64_t earliest, std::uint64_t flits,
                                         std::uint64_t bytes) {
  LinkCalendar &calendar = calendars_[link];
  calendar.prune(now_);
  const std::uint64_t time = flits * params_.cycle;
  const LinkCalendar::Interval held = calendar.take(earliest, time);
  LinkUse &use = uses_[link];
  use.bytes += bytes;
  use.flits += flits;
  use.busy += time;
  use.waited += held.end - time - earliest;
  note_load(link, pair, held.begin, time);
  byte_hops_ += bytes;
  if (trace_ != nullptr) {
    const std::uint64_t waited = held.end - time - earliest;
    bursts_[link].add(*trace_, CX_TRACE_LINK, static_cast<std::uint16_t>(link), trace_->fine_time(held.begin),
                      trace_->fine_time(held.end), {bytes, time, waited, 1});
  }
  return held;
}

LinkCalendar::Interval LinkNetwork::share(unsigned link, NodeId mover, std::uint64_t pair, std::uint64_t earliest,
                                          std::uint64_t flits, std::uint64_t bytes) {
  auto &shares = shares_[link];
  auto share = std::find_if(shares.begin(), shares.end(), [mover](const Share &s) { return s.mover == mover; });
  if (share == shares.end()) share = shares.insert(share, {mover, 0, earliest, 0, 0});
  const LinkCalendar::Interval held = take(link, pair, std::max(earliest, share->next), flits, bytes);

  const std::uint64_t time = flits * params_.cycle, memory = kMemoryCycles * params_.cycle;
  const std::uint64_t age = earliest > share->at ? std::min(earliest - share->at, memory) : 0;
  share->taken -= static_cast<std::uint64_t>(static_cast<unsigned __int128>(share->taken) * age / memory);
  share->taken += time;
  share->at = std::max(share->at, earliest);

  const std::uint64_t others = others_share(link, mover, earliest), paced = pace(flits);
  if (paced > time) share->next = std::max(share->next, held.begin) + paced;
  if (others == 0) {
    share->owed = 0;
    return held;
  }
  // Room in units of the piece: fewer, longer intervals.
  share->owed += static_cast<std::uint64_t>(static_cast<unsigned __int128>(time) * others / (kOne - others));
  const std::uint64_t room = share->owed / time * time;
  share->owed -= room;
  share->next = std::max(share->next, held.end + room);
  return held;
}

std::uint64_t LinkNetwork::others_share(unsigned link, NodeId mover, std::uint64_t time) const {
  const std::uint64_t memory = kMemoryCycles * params_.cycle;
  std::uint64_t movers = 1, wanted = 0;
  const auto recent = [&](const Share &share) {
    const std::uint64_t age = time > share.at ? std::min(time - share.at, memory) : 0;
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(share.taken) * (memory - age) / memory);
  };
  for (const Share &share : shares_[link]) movers += share.mover != mover && recent(share) != 0;
  for (const Share &share : shares_[link]) {
    if (share.mover == mover) continue;
    const auto part = static_cast<std::uint64_t>(static_cast<unsigned __int128>(recent(share)) * 2 * kOne / memory);
    wanted += std::min(part, kOne / movers);
  }
  return wanted;
}

std::uint64_t LinkNetwork::control(NodeId from, NodeId to, std::uint64_t start, std::uint64_t flits) {
  std::uint64_t head = std::max(start, now_), tail = 0;
  for (const unsigned link : path(from, to).links) {
    const LinkCalendar::Interval held = take(link, pair_of(from, to), head, flits, 0);
    head = held.begin + hop_time();
    tail = std::max(tail != 0 ? tail + hop_time() : 0, held.end);
  }
  return tail + params_.router.link_cycles * params_.cycle;
}

std::uint64_t LinkNetwork::send(NodeId mover, NodeId from, NodeId to, std::uint64_t ready, std::uint64_t bytes) {
  return multicast(mover, from, {&to, 1}, ready, bytes);
}

std::uint64_t LinkNetwork::multicast(NodeId mover, NodeId from, std::span<const NodeId> to, std::uint64_t ready,
                                     std::uint64_t bytes, std::vector<std::uint64_t> *arrivals) {
  const std::uint64_t count = flits(bytes), hop = hop_time();
  const std::uint64_t leave = std::max(ready, now_);
  // Routes from one node have their first links in common until they part: together they are a tree.
  std::vector<std::pair<unsigned, LinkCalendar::Interval>> taken;
  std::uint64_t end = leave;
  if (arrivals) arrivals->clear();
  for (const NodeId node : to) {
    Path &way = path(from, node);
    std::uint64_t head = leave, tail = 0;
    for (const unsigned link : way.links) {
      const auto known = std::find_if(taken.begin(), taken.end(), [link](const auto &t) { return t.first == link; });
      const LinkCalendar::Interval held =
          known != taken.end() ? known->second : share(link, mover, pair_of(from, node), head, count, bytes);
      if (known == taken.end() && to.size() > 1) taken.emplace_back(link, held);
      head = held.begin + hop;
      // The last flit comes a hop after it left the link before, or when its own turn is.
      tail = std::max(tail != 0 ? tail + hop : 0, held.end);
    }
    way.last_arrival = std::max(way.last_arrival, tail + params_.router.link_cycles * params_.cycle);
    if (arrivals) arrivals->push_back(way.last_arrival);
    end = std::max(end, way.last_arrival);
  }
  return end;
}

void LinkNetwork::set_trace(Trace *trace) {
  close_records();
  trace_ = trace;
  bursts_.resize(trace != nullptr ? uses_.size() : 0);
}

void LinkNetwork::close_records() {
  for (TraceBurst &burst : bursts_) burst.close(*trace_);
}

void LinkNetwork::reset() {
  for (LinkCalendar &calendar : calendars_) calendar.clear();
  for (LinkUse &use : uses_) use = {use.from, use.to, 0, 0, 0, 0, 0, use.local};
  for (auto &shares : shares_) shares.clear();
  for (Stretches &stretches : stretches_) stretches = {};
  for (auto &row : paths_) {
    for (auto &way : row) {
      if (way) way->last_arrival = 0;
    }
  }
  now_ = 0;
  byte_hops_ = 0;
}

}  // namespace cx::hw
