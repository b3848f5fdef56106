#include "hw/noc/packet_network.hpp"

#include <algorithm>
#include <stdexcept>

namespace cx::hw {

namespace {

constexpr unsigned kNobody = ~0u;

// From winning the switch to being on the link; a router of one cycle does both at once.
unsigned traversal_cycles(const RouterParams &params) { return params.router_cycles >= 2 ? 2 : 1; }

// Of `candidates`, the first at or after `priority`, counted round `size`.
template <class Candidates>
unsigned round_robin(const Candidates &candidates, unsigned priority, unsigned size) {
  unsigned best = kNobody, best_distance = size;
  for (const unsigned candidate : candidates) {
    const unsigned distance = (candidate + size - priority) % size;
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace

unsigned RouterParams::credit_loop() const { return traversal_cycles(*this) + link_cycles + credit_cycles(); }

double RouterParams::stream_rate(unsigned channels) const {
  return std::min(1.0, static_cast<double>(channels) * vc_buffer_flits / credit_loop());
}

PacketNetwork::PacketNetwork(const Topology &topology, const RouterParams &params)
    : params_(params), topology_(topology), per_class_(params.vcs / topology.vc_classes()) {
  if (per_class_ == 0) throw std::invalid_argument("noc: fewer virtual channels than classes");
  if (params.vc_buffer_flits == 0 || params.router_cycles == 0 || params.link_cycles == 0) {
    throw std::invalid_argument("noc: buffers, routers and links must not be 0");
  }
  const auto links = topology.links().size();
  routers_.resize(topology.routers());
  from_port_.resize(links);
  to_port_.resize(links);
  link_flits_.resize(links);
  for (unsigned link = 0; link < links; ++link) {
    Router &from = routers_[topology.links()[link].from], &to = routers_[topology.links()[link].to];
    from_port_[link] = static_cast<unsigned>(from.out_links.size());
    from.out_links.push_back(link);
    to_port_[link] = static_cast<unsigned>(to.in_links.size());
    to.in_links.push_back(link);
  }
  for (Router &router : routers_) {
    const auto inputs = router.in_links.size() + 1, outputs = router.out_links.size() + 1;
    router.inputs.assign(inputs, std::vector<InputVc>(params.vcs));
    router.outputs.assign(outputs, std::vector<OutputVc>(params.vcs, OutputVc{false, params.vc_buffer_flits}));
    router.channel_grant.resize(outputs * params.vcs);
    router.channel_accept.resize(inputs * params.vcs);
    router.switch_grant.resize(outputs);
    router.switch_accept.resize(inputs);
    router.turn.resize(inputs);
  }
  terminals_.resize(topology.routers());
  for (Terminal &terminal : terminals_) terminal.channels.assign(params.vcs, OutputVc{false, params.vc_buffer_flits});
}

void PacketNetwork::send(unsigned from, unsigned to, unsigned flits) {
  if (flits == 0) throw std::invalid_argument("noc: a packet has at least one flit");
  NocRoute route = topology_.route(from, to);
  unsigned index = static_cast<unsigned>(packets_.size());
  if (free_packets_.empty()) {
    packets_.emplace_back();
  } else {
    index = free_packets_.back();
    free_packets_.pop_back();
  }
  packets_[index] = {{from, to, flits, cycle_, 0, sent_++}, std::move(route)};
  terminals_[from].waiting.push_back(index);
  ++under_way_;
}

std::vector<PacketNetwork::Packet> PacketNetwork::take_arrived() {
  std::vector<Packet> out;
  out.swap(arrived_);
  return out;
}

unsigned PacketNetwork::output_of(const Router &router, const Flit &flit) const {
  const NocRoute &route = packets_[flit.packet].route;
  return flit.hop < route.links.size() ? from_port_[route.links[flit.hop]]
                                       : static_cast<unsigned>(router.out_links.size());
}

void PacketNetwork::arrive() {
  const auto enter = [&](std::deque<Transit> &transits) {
    for (; !transits.empty() && transits.front().at == cycle_; transits.pop_front()) {
      Transit &transit = transits.front();
      Flit &flit = transit.flit;
      flit.ready = cycle_;
      if (flit.head && params_.router_cycles > 3) flit.ready += params_.router_cycles - 3;
      Router &router = routers_[transit.router];
      router.inputs[transit.port][transit.channel].flits.push_back(flit);
      ++router.buffered;
    }
  };
  enter(transits_);
  enter(injections_);
  for (; !credits_.empty() && credits_.front().at == cycle_; credits_.pop_front()) {
    const Credit &credit = credits_.front();
    if (credit.port == kNobody) {
      ++terminals_[credit.router].channels[credit.channel].credits;
    } else {
      ++routers_[credit.router].outputs[credit.port][credit.channel].credits;
    }
  }
  for (; !ejections_.empty() && ejections_.front().first == cycle_; ejections_.pop_front()) {
    const unsigned index = ejections_.front().second;
    packets_[index].packet.arrived = cycle_;
    arrived_.push_back(packets_[index].packet);
    free_packets_.push_back(index);
    --under_way_;
  }
}

void PacketNetwork::inject(unsigned number) {
  Terminal &terminal = terminals_[number];
  if (terminal.waiting.empty()) return;
  const unsigned index = terminal.waiting.front();
  const InFlight &packet = packets_[index];
  if (terminal.sent == 0) {
    const unsigned first = first_channel(packet.route.vc_class);
    unsigned tried = 0;
    for (; tried < per_class_; ++tried) {
      terminal.channel = first + (terminal.next_channel + tried) % per_class_;
      if (terminal.channels[terminal.channel].credits > 0) break;
    }
    if (tried == per_class_) return;
    terminal.next_channel = (terminal.next_channel + tried + 1) % per_class_;
  }
  OutputVc &channel = terminal.channels[terminal.channel];
  if (channel.credits == 0) return;
  --channel.credits;
  const bool tail = terminal.sent + 1 == packet.packet.flits;
  injections_.push_back({cycle_ + params_.link_cycles, number, static_cast<unsigned>(routers_[number].in_links.size()),
                         terminal.channel, Flit{index, 0, terminal.sent == 0, tail, 0}});
  if (++terminal.sent == packet.packet.flits) {
    terminal.waiting.pop_front();
    terminal.sent = 0;
  }
}

void PacketNetwork::allocate_channels(Router &router) {
  const unsigned vcs = params_.vcs, inputs = static_cast<unsigned>(router.inputs.size()) * vcs;
  const unsigned outputs = static_cast<unsigned>(router.outputs.size());
  struct Request {
    unsigned input, vc_class;
  };
  static thread_local std::vector<std::vector<Request>> requests;  // by output port
  static thread_local std::vector<std::vector<unsigned>> grants;   // by input channel
  static thread_local std::vector<unsigned> candidates, granted;
  requests.assign(outputs, {});
  bool any = false;
  for (unsigned port = 0; port < router.inputs.size(); ++port) {
    for (unsigned vc = 0; vc < vcs; ++vc) {
      const InputVc &input = router.inputs[port][vc];
      if (input.output >= 0 || input.flits.empty()) continue;
      const Flit &front = input.flits.front();
      if (front.ready > cycle_) continue;
      requests[output_of(router, front)].push_back({port * vcs + vc, packets_[front.packet].route.vc_class});
      any = true;
    }
  }
  if (!any) return;
  grants.assign(inputs, {});
  granted.clear();
  for (unsigned port = 0; port < outputs; ++port) {
    if (requests[port].empty()) continue;
    for (unsigned vc = 0; vc < per_class_ * topology_.vc_classes(); ++vc) {
      if (router.outputs[port][vc].taken) continue;
      candidates.clear();
      for (const Request &request : requests[port]) {
        if (vc / per_class_ == request.vc_class) candidates.push_back(request.input);
      }
      if (candidates.empty()) continue;
      const unsigned output = port * vcs + vc;
      const unsigned input = round_robin(candidates, router.channel_grant[output], inputs);
      if (grants[input].empty()) granted.push_back(input);
      grants[input].push_back(output);
    }
  }
  for (const unsigned input : granted) {
    const unsigned output = round_robin(grants[input], router.channel_accept[input], outputs * vcs);
    router.channel_accept[input] = (output + 1) % (outputs * vcs);
    router.channel_grant[output] = (input + 1) % inputs;
    InputVc &channel = router.inputs[input / vcs][input % vcs];
    channel.output = static_cast<int>(output / vcs);
    channel.channel = output % vcs;
    channel.switch_from = params_.router_cycles >= 3 ? cycle_ + 1 : cycle_;
    router.outputs[output / vcs][output % vcs].taken = true;
  }
}

void PacketNetwork::allocate_switch(Router &router, unsigned number) {
  const unsigned inputs = static_cast<unsigned>(router.inputs.size());
  const unsigned outputs = static_cast<unsigned>(router.outputs.size());
  const unsigned terminal = outputs - 1;
  static thread_local std::vector<std::vector<unsigned>> requests;  // by output port: input ports
  static thread_local std::vector<std::vector<unsigned>> grants;    // by input port: output ports
  requests.assign(outputs, {});
  grants.assign(inputs, {});
  const auto can_go = [&](const InputVc &input) {
    if (input.output < 0 || input.flits.empty() || input.switch_from > cycle_) return false;
    const auto port = static_cast<unsigned>(input.output);
    return port == terminal || router.outputs[port][input.channel].credits > 0;
  };
  for (unsigned port = 0; port < inputs; ++port) {
    for (const InputVc &input : router.inputs[port]) {
      if (!can_go(input)) continue;
      auto &list = requests[static_cast<unsigned>(input.output)];
      if (list.empty() || list.back() != port) list.push_back(port);
    }
  }
  for (unsigned port = 0; port < outputs; ++port) {
    if (!requests[port].empty()) {
      grants[round_robin(requests[port], router.switch_grant[port], inputs)].push_back(port);
    }
  }
  for (unsigned port = 0; port < inputs; ++port) {
    if (grants[port].empty()) continue;
    const unsigned output = round_robin(grants[port], router.switch_accept[port], outputs);
    router.switch_accept[port] = (output + 1) % outputs;
    router.switch_grant[output] = (port + 1) % inputs;
    unsigned vc = router.turn[port];
    while (!can_go(router.inputs[port][vc]) || router.inputs[port][vc].output != static_cast<int>(output)) {
      vc = (vc + 1) % params_.vcs;
    }
    router.turn[port] = (vc + 1) % params_.vcs;
    InputVc &input = router.inputs[port][vc];
    Flit flit = input.flits.front();
    input.flits.pop_front();
    --router.buffered;
    const std::uint64_t there = cycle_ + traversal_cycles(params_) + params_.link_cycles;
    OutputVc &channel = router.outputs[output][input.channel];
    if (output == terminal) {
      if (flit.tail) ejections_.emplace_back(there + 1, flit.packet);
    } else {
      const unsigned link = router.out_links[output];
      --channel.credits;
      ++flit.hop;
      ++link_flits_[link];
      transits_.push_back({there, topology_.links()[link].to, to_port_[link], input.channel, flit});
    }
    if (flit.tail) {
      channel.taken = false;
      input.output = -1;
      if (!input.flits.empty()) input.flits.front().ready = std::max(input.flits.front().ready, cycle_ + 1);
    }
    const std::uint64_t known = cycle_ + params_.credit_cycles();
    if (port + 1 == inputs) {
      credits_.push_back({known, number, kNobody, vc});
    } else {
      const unsigned link = router.in_links[port];
      credits_.push_back({known, topology_.links()[link].from, from_port_[link], vc});
    }
  }
}

void PacketNetwork::step() {
  arrive();
  for (unsigned number = 0; number < routers_.size(); ++number) {
    inject(number);
    Router &router = routers_[number];
    if (router.buffered == 0) continue;
    if (params_.router_cycles < 3) allocate_channels(router);
    allocate_switch(router, number);
    if (params_.router_cycles >= 3) allocate_channels(router);
  }
  ++cycle_;
}

}  // namespace cx::hw
