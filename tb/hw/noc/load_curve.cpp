#include "tb/hw/noc/load_curve.hpp"

#include <algorithm>
#include <random>
#include <stdexcept>
#include <vector>

#include "hw/noc/link_network.hpp"

namespace cx::tb {

namespace {

constexpr double kHotShare = 0.2;

unsigned middle(const hw::Topology &topology) { return topology.router(topology.columns() / 2, topology.rows() / 2); }

unsigned transposed(const hw::Topology &topology, unsigned from) {
  if (topology.columns() != topology.rows()) throw std::invalid_argument("transpose needs a square mesh");
  return from % topology.columns() * topology.columns() + from / topology.columns();
}

// Who sends where in each cycle.
class Source {
 public:
  Source(const hw::Topology &topology, const Traffic &traffic)
      : topology_(topology), traffic_(traffic), random_(traffic.seed), start_(traffic.load / traffic.flits) {}

  template <class Send>
  void cycle(Send &&send) {
    for (unsigned from = 0; from < topology_.routers(); ++from) {
      if (unit() < start_) send(from, destination(from));
    }
  }

 private:
  double unit() { return static_cast<double>(random_() >> 11) * 0x1p-53; }
  unsigned any() { return static_cast<unsigned>(unit() * topology_.routers()); }
  unsigned destination(unsigned from) {
    switch (traffic_.pattern) {
      case Pattern::transpose:
        return transposed(topology_, from);
      case Pattern::hotspot:
        if (unit() < kHotShare) return middle(topology_);
        return any();
      case Pattern::uniform:
        break;
    }
    return any();
  }

  const hw::Topology &topology_;
  const Traffic &traffic_;
  std::mt19937_64 random_;
  double start_;
};

}  // namespace

Pattern pattern_of(const std::string &name) {
  for (const Pattern pattern : {Pattern::uniform, Pattern::transpose, Pattern::hotspot}) {
    if (name == to_string(pattern)) return pattern;
  }
  throw std::invalid_argument("pattern '" + name + "': expected uniform, transpose or hotspot");
}

const char *to_string(Pattern pattern) {
  switch (pattern) {
    case Pattern::transpose:
      return "transpose";
    case Pattern::hotspot:
      return "hotspot";
    case Pattern::uniform:
      break;
  }
  return "uniform";
}

double idle_latency(const hw::Topology &topology, const hw::RouterParams &params, const Traffic &traffic) {
  const unsigned routers = topology.routers();
  double hops = 0;
  for (unsigned from = 0; from < routers; ++from) {
    double mean = 0;
    for (unsigned to = 0; to < routers; ++to) mean += topology.distance(from, to);
    mean /= routers;
    if (traffic.pattern == Pattern::transpose) mean = topology.distance(from, transposed(topology, from));
    if (traffic.pattern == Pattern::hotspot) {
      mean = kHotShare * topology.distance(from, middle(topology)) + (1 - kHotShare) * mean;
    }
    hops += mean / routers;
  }
  return (hops + 1) * params.router_cycles + (hops + 2) * params.link_cycles + traffic.flits;
}

LoadPoint measure_routers(const hw::Topology &topology, const hw::RouterParams &params, const Traffic &traffic) {
  hw::PacketNetwork network(topology, params);
  Source source(topology, traffic);
  const std::uint64_t begin = traffic.warmup, end = begin + traffic.measured, last = end + traffic.measured;
  double latency = 0, flits = 0;
  std::uint64_t created = 0, arrived = 0, created_at = 0;
  while (network.cycle() < last && (network.cycle() < end || arrived < created)) {
    const std::uint64_t now = network.cycle();
    source.cycle([&](unsigned from, unsigned to) {
      network.send(from, to, traffic.flits);
      if (now < begin || now >= end) return;
      ++created;
      created_at += now;
    });
    network.step();
    for (const auto &packet : network.take_arrived()) {
      if (now >= begin && now < end) flits += packet.flits;
      if (packet.created < begin || packet.created >= end) continue;
      ++arrived;
      created_at -= packet.created;
      latency += static_cast<double>(packet.arrived - packet.created);
    }
  }
  latency += static_cast<double>((created - arrived) * network.cycle() - created_at);
  return {created != 0 ? latency / static_cast<double>(created) : 0, flits / traffic.measured / topology.routers()};
}

LoadPoint measure_calendars(const hw::Topology &topology, const hw::RouterParams &params, const Traffic &traffic) {
  constexpr std::uint64_t kCycle = 16;
  hw::LinkNetwork network(topology, {params, 64, 256, kCycle});
  for (unsigned router = 0; router < topology.routers(); ++router) network.attach("t" + std::to_string(router), router);
  Source source(topology, traffic);
  const std::uint64_t begin = traffic.warmup, end = begin + traffic.measured, last = end + traffic.measured;
  double latency = 0, flits = 0;
  std::uint64_t created = 0;
  for (std::uint64_t now = 0; now < end; ++now) {
    network.advance(now * kCycle);
    source.cycle([&](unsigned from, unsigned to) {
      const std::uint64_t arrived = network.control(from, to, now * kCycle, traffic.flits) / kCycle;
      if (arrived >= begin && arrived < end) flits += traffic.flits;
      if (now < begin) return;
      ++created;
      latency += static_cast<double>(std::min(arrived, last) - now);
    });
  }
  return {created != 0 ? latency / static_cast<double>(created) : 0, flits / traffic.measured / topology.routers()};
}

}  // namespace cx::tb
