// Networks of routers: routes, flit-level routers against closed forms and BookSim 2, calendars of links.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/noc/link_calendar.hpp"
#include "hw/noc/link_network.hpp"
#include "hw/noc/packet_network.hpp"
#include "hw/noc/placement.hpp"
#include "hw/noc/topology.hpp"
#include "tb/hw/noc/load_curve.hpp"

using namespace cx::hw;
namespace tb = cx::tb;

namespace {

std::vector<Topology> topologies() {
  std::vector<Topology> all;
  for (const auto &[columns, rows] : {std::pair{1u, 1u}, {1u, 5u}, {4u, 4u}, {8u, 8u}, {7u, 3u}}) {
    all.push_back(Topology::mesh(columns, rows));
  }
  for (const unsigned routers : {3u, 4u, 7u, 16u}) all.push_back(Topology::ring(routers));
  return all;
}

std::string name_of(const Topology &topology) {
  return std::string(topology.kind() == Topology::Kind::ring ? "ring " : "mesh ") + std::to_string(topology.columns()) +
         " x " + std::to_string(topology.rows());
}

std::vector<NocRoute> all_routes(const Topology &topology) {
  std::vector<NocRoute> routes;
  for (unsigned from = 0; from < topology.routers(); ++from) {
    for (unsigned to = 0; to < topology.routers(); ++to) routes.push_back(topology.route(from, to));
  }
  return routes;
}

}  // namespace

TEST_CASE("routes lead from link to link, are as long as the distance and never deadlock") {
  for (const Topology &topology : topologies()) {
    INFO(name_of(topology));
    for (unsigned from = 0; from < topology.routers(); ++from) {
      for (unsigned to = 0; to < topology.routers(); ++to) {
        const NocRoute route = topology.route(from, to);
        unsigned at = from;
        for (const unsigned link : route.links) {
          REQUIRE(topology.links()[link].from == at);
          at = topology.links()[link].to;
        }
        REQUIRE(at == to);
        REQUIRE(route.links.size() == topology.distance(from, to));
        REQUIRE(route.vc_class < topology.vc_classes());
      }
    }
    CHECK(deadlock_free(all_routes(topology), static_cast<unsigned>(topology.links().size()), topology.vc_classes()));
  }
}

TEST_CASE("the proof of deadlock freedom finds cycles: a ring without dateline, a mesh that also turns from columns") {
  const Topology ring = Topology::ring(8);
  auto routes = all_routes(ring);
  for (NocRoute &route : routes) route.vc_class = 0;
  CHECK_FALSE(deadlock_free(routes, static_cast<unsigned>(ring.links().size()), 1));

  const Topology mesh = Topology::mesh(3, 3);
  routes = all_routes(mesh);
  for (unsigned from = 0; from < 9; ++from) {
    for (unsigned to = 0; to < 9; ++to) {
      NocRoute yx = mesh.route(from, mesh.router(from % 3, to / 3));
      const NocRoute rest = mesh.route(mesh.router(from % 3, to / 3), to);
      yx.links.insert(yx.links.end(), rest.links.begin(), rest.links.end());
      routes.push_back(yx);
    }
  }
  CHECK_FALSE(deadlock_free(routes, static_cast<unsigned>(mesh.links().size()), 1));
}

TEST_CASE("a ring's two directions carry the same under uniform traffic") {
  const Topology ring = Topology::ring(16);
  std::map<bool, unsigned> uses;
  for (const NocRoute &route : all_routes(ring)) {
    for (const unsigned link : route.links) {
      const auto [from, to] = ring.links()[link];
      ++uses[to == (from + 1) % 16];
    }
  }
  CHECK(uses[true] == uses[false]);
}

TEST_CASE("networks that cannot be are refused") {
  CHECK_THROWS_AS(Topology::mesh(0, 4), std::invalid_argument);
  CHECK_THROWS_AS(Topology::mesh(4, 257), std::invalid_argument);
  CHECK_THROWS_AS(Topology::ring(2), std::invalid_argument);
  const Topology mesh = Topology::mesh(2, 2), ring = Topology::ring(4);
  CHECK_THROWS_AS(mesh.route(0, 4), std::out_of_range);
  CHECK_THROWS_AS(mesh.link(0, 3), std::out_of_range);
  CHECK_THROWS_AS(PacketNetwork(mesh, {0, 8, 3, 1}), std::invalid_argument);
  CHECK_THROWS_AS(PacketNetwork(ring, {1, 8, 3, 1}), std::invalid_argument);
  CHECK_THROWS_AS(PacketNetwork(mesh, {4, 0, 3, 1}), std::invalid_argument);
  CHECK_THROWS_AS(PacketNetwork(mesh, {4, 8, 0, 1}), std::invalid_argument);
  CHECK_THROWS_AS(PacketNetwork(mesh, {4, 8, 3, 0}), std::invalid_argument);
  CHECK_THROWS_AS(PacketNetwork(mesh, {}).send(0, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(LinkNetwork(ring, {{1, 8, 3, 1}, 64, 256, 16}), std::invalid_argument);
  CHECK_THROWS_AS(LinkNetwork(mesh, {{4, 0, 3, 1}, 64, 256, 16}), std::invalid_argument);
  CHECK_THROWS_AS(LinkNetwork(mesh, {{4, 8, 3, 1}, 0, 256, 16}), std::invalid_argument);
  CHECK_THROWS_AS(LinkNetwork(mesh, {{4, 8, 3, 1}, 64, 0, 16}), std::invalid_argument);
  CHECK_THROWS_AS(LinkNetwork(mesh, {{4, 8, 3, 1}, 64, 256, 0}), std::invalid_argument);
  CHECK_THROWS_AS(LinkNetwork(mesh, {}).attach("x", 4), std::out_of_range);
}

// ---- placement ----

TEST_CASE("blocks have routers of their network, channels of DRAM the sides of a mesh") {
  for (const Topology &topology : topologies()) {
    INFO(name_of(topology));
    const auto routers = place_blocks(topology, 5);
    CHECK(routers.size() == 16);
    for (const auto &[block, router] : routers) CHECK(router < topology.routers());
  }
  const auto routers = place_blocks(Topology::mesh(4, 4), 8);
  std::set<unsigned> used;
  for (unsigned channel = 0; channel < 8; ++channel) {
    const unsigned router = routers.at("dram" + std::to_string(channel));
    CHECK((router % 4 == 0 || router % 4 == 3));
    used.insert(router);
  }
  CHECK(used.size() == 8);
  const std::vector<std::string> items{"load@3:2", "dram1@1:1"};
  const auto moved = place_blocks(Topology::mesh(4, 4), 8, items);
  CHECK(moved.at("load") == 11);
  CHECK(moved.at("dram1") == 5);
  CHECK(moved.at("store") == routers.at("store"));
}

TEST_CASE("places that cannot be are refused") {
  const auto refused = [](const std::vector<std::string> &items, const std::string &text) {
    try {
      place_blocks(Topology::mesh(4, 2), 2, items);
    } catch (const PlacementError &error) {
      INFO(error.what());
      return std::string(error.what()).find(text) != std::string::npos;
    }
    return false;
  };
  CHECK(refused({"load"}, "expected BLOCK@COLUMN:ROW"));
  CHECK(refused({"load@1"}, "expected BLOCK@COLUMN:ROW"));
  CHECK(refused({"load@1:x"}, "expected BLOCK@COLUMN:ROW"));
  CHECK(refused({"load@-1:0"}, "expected BLOCK@COLUMN:ROW"));
  CHECK(refused({"lode@1:1"}, "no such block"));
  CHECK(refused({"dram2@1:1"}, "dram0 to dram1"));
  CHECK(refused({"load@1:1", "load@2:1"}, "placed twice"));
  CHECK(refused({"load@4:0"}, "no such router; the network has 4 columns and 2 rows"));
  CHECK(refused({"load@0:2"}, "no such router"));
}

// ---- flit by flit ----

TEST_CASE("a packet alone takes the closed form, over calendars too, for every distance") {
  for (const Topology &topology : topologies()) {
    for (const unsigned router_cycles : {1u, 2u, 3u, 5u}) {
      for (const unsigned link_cycles : {1u, 3u}) {
        const RouterParams params{4, 16, router_cycles, link_cycles};
        for (const unsigned flits : {1u, 5u}) {
          for (unsigned to = 0; to < topology.routers(); to += 3) {
            INFO(name_of(topology) << ", router " << router_cycles << ", link " << link_cycles << ", " << flits
                                   << " flits to " << to);
            const unsigned hops = topology.distance(1 % topology.routers(), to);
            const std::uint64_t expected = (hops + 1) * router_cycles + (hops + 2) * link_cycles + flits;
            PacketNetwork network(topology, params);
            network.send(1 % topology.routers(), to, flits);
            while (network.under_way() != 0) {
              REQUIRE(network.cycle() < 10000);
              network.step();
            }
            const auto arrived = network.take_arrived();
            REQUIRE(arrived.size() == 1);
            REQUIRE(arrived[0].arrived == expected);

            LinkNetwork calendars(topology, {params, 64, 256, 16});
            calendars.attach("a", 1 % topology.routers());
            calendars.attach("b", to);
            REQUIRE(calendars.control(0, 1, 160, flits) == 160 + expected * 16);
          }
        }
      }
    }
  }
}

TEST_CASE("every flit arrives once, and links carry no more than a flit a cycle") {
  const unsigned seed = 71;
  INFO("seed " << seed);
  for (const Topology &topology : {Topology::mesh(5, 4), Topology::ring(9)}) {
    INFO(name_of(topology));
    std::mt19937_64 random(seed);
    PacketNetwork network(topology, {2, 3, 3, 2});
    std::map<std::uint64_t, std::uint64_t> sent;  // by number
    std::vector<std::uint64_t> expected(topology.links().size(), 0);
    for (unsigned i = 0; i < 4000; ++i) {
      const auto from = static_cast<unsigned>(random() % topology.routers());
      const auto to = static_cast<unsigned>(random() % topology.routers());
      const auto flits = static_cast<unsigned>(1 + random() % 9);
      for (const unsigned link : topology.route(from, to).links) expected[link] += flits;
      sent[i] = flits;
      network.send(from, to, flits);
      if (random() % 4 == 0) network.step();
    }
    while (network.under_way() != 0) {
      REQUIRE(network.cycle() < 100000);  // nothing deadlocks with all queues full
      network.step();
    }
    for (const auto &packet : network.take_arrived()) {
      REQUIRE(sent.count(packet.number) == 1);
      REQUIRE(sent[packet.number] == packet.flits);
      sent.erase(packet.number);
    }
    CHECK(sent.empty());
    for (unsigned link = 0; link < expected.size(); ++link) {
      CHECK(network.flits_on(link) == expected[link]);
      CHECK(expected[link] <= network.cycle());
    }
  }
}

TEST_CASE("with one virtual channel a class no packet overtakes another of the same pair") {
  const unsigned seed = 72;
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const Topology &topology : {Topology::mesh(4, 4), Topology::ring(8)}) {
    PacketNetwork network(topology, {topology.vc_classes(), 4, 3, 1});
    for (unsigned i = 0; i < 3000; ++i) {
      network.send(static_cast<unsigned>(random() % topology.routers()),
                   static_cast<unsigned>(random() % topology.routers()), static_cast<unsigned>(1 + random() % 5));
      network.step();
    }
    while (network.under_way() != 0) network.step();
    std::map<std::pair<unsigned, unsigned>, std::uint64_t> last;
    for (const auto &packet : network.take_arrived()) {
      auto &before = last[{packet.from, packet.to}];
      REQUIRE(before <= packet.number);
      before = packet.number;
    }
  }
}

TEST_CASE("what credits leave a single stream is the closed form") {
  const Topology line = Topology::mesh(3, 1);
  for (const unsigned buffer : {1u, 2u, 3u, 6u, 8u}) {
    const RouterParams params{1, buffer, 3, 1};
    PacketNetwork network(line, params);
    const unsigned flits = 2000;
    network.send(0, 2, flits);
    while (network.under_way() != 0) network.step();
    const double rate = flits / static_cast<double>(network.cycle());
    INFO("buffer of " << buffer << ": " << rate << " flits a cycle, closed form " << params.stream_rate(1));
    CHECK(rate == Approx(params.stream_rate(1)).epsilon(0.02));
  }
}

// ---- against BookSim 2 ----

namespace {

struct Reference {
  std::string topology, pattern;
  unsigned flits;
  bool saturation;
  double load, latency;

  Topology network() const { return topology == "ring" ? Topology::ring(16) : Topology::mesh(8, 8); }
};

std::vector<Reference> reference() {
  std::ifstream file("tb/hw/noc/reference/booksim2.csv");
  REQUIRE(file.good());
  std::vector<Reference> rows;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#') || line.starts_with("topology")) continue;
    std::istringstream fields(line);
    std::string topology, pattern, flits, quantity, load, latency;
    std::getline(fields, topology, ',');
    std::getline(fields, pattern, ',');
    std::getline(fields, flits, ',');
    std::getline(fields, quantity, ',');
    std::getline(fields, load, ',');
    std::getline(fields, latency, ',');
    rows.push_back({topology, pattern, static_cast<unsigned>(std::stoul(flits)), quantity == "saturation",
                    std::stod(load), latency.empty() ? 0 : std::stod(latency)});
  }
  REQUIRE(rows.size() > 30);
  return rows;
}

double saturation_of(const std::vector<Reference> &rows, const Reference &like) {
  for (const Reference &row : rows) {
    if (row.saturation && row.topology == like.topology && row.pattern == like.pattern && row.flits == like.flits) {
      return row.load;
    }
  }
  FAIL("no saturation of " << like.topology << " " << like.pattern << " " << like.flits);
  return 0;
}

}  // namespace

TEST_CASE("latency against load is BookSim's: routers to 10 % up to 85 % of saturation, calendars to 12 %") {
  const auto rows = reference();
  for (const Reference &row : rows) {
    if (row.saturation) continue;
    const double part = row.load / saturation_of(rows, row);
    if (part > 0.85) continue;
    tb::Traffic traffic;
    traffic.pattern = tb::pattern_of(row.pattern);
    traffic.flits = row.flits;
    traffic.load = row.load;
    const double routers = tb::measure_routers(row.network(), {}, traffic).latency;
    const double calendars = tb::measure_calendars(row.network(), {}, traffic).latency;
    INFO(row.topology << " " << row.pattern << ", " << row.flits << " flits, load " << row.load << ": BookSim "
                      << row.latency << ", routers " << routers << ", calendars " << calendars << ", seed "
                      << traffic.seed);
    CHECK(routers == Approx(row.latency).epsilon(row.load <= 0.05 ? 0.05 : 0.10));
    CHECK(calendars == Approx(row.latency).epsilon(row.load <= 0.05 ? 0.05 : 0.12));
    if (row.load <= 0.05) CHECK(tb::idle_latency(row.network(), {}, traffic) == Approx(row.latency).epsilon(0.05));
  }
}

TEST_CASE("saturation is BookSim's to 10 %: below, latency is less than three times that of load 0.05, above more") {
  for (const Reference &row : reference()) {
    if (!row.saturation) continue;
    tb::Traffic traffic;
    traffic.pattern = tb::pattern_of(row.pattern);
    traffic.flits = row.flits;
    traffic.load = 0.05;
    const double base = tb::measure_routers(row.network(), {}, traffic).latency;
    traffic.measured = 6000;
    traffic.load = 0.9 * row.load;
    const double below = tb::measure_routers(row.network(), {}, traffic).latency;
    traffic.load = 1.1 * row.load;
    const double above = tb::measure_routers(row.network(), {}, traffic).latency;
    INFO(row.topology << " " << row.pattern << ", " << row.flits << " flits: BookSim saturates at " << row.load
                      << "; latency " << base << ", at 0.9 " << below << ", at 1.1 " << above);
    CHECK(below < 3 * base);
    CHECK(above > 3 * base);
  }
}

// ---- calendars ----

TEST_CASE("a calendar takes what is free from a time on") {
  LinkCalendar calendar;
  const auto take = [&](std::uint64_t start, std::uint64_t duration) {
    const auto [begin, end] = calendar.take(start, duration);
    return std::pair{begin, end};
  };
  CHECK(take(10, 5) == std::pair<std::uint64_t, std::uint64_t>{10, 15});
  CHECK(take(20, 5) == std::pair<std::uint64_t, std::uint64_t>{20, 25});
  CHECK(take(0, 6) == std::pair<std::uint64_t, std::uint64_t>{0, 6});
  CHECK(calendar.busy().size() == 3);
  CHECK(take(0, 0) == std::pair<std::uint64_t, std::uint64_t>{6, 6});
  CHECK(take(8, 3) == std::pair<std::uint64_t, std::uint64_t>{8, 16});  // 8..10 and 15..16
  CHECK(calendar.busy().size() == 3);                                   // 0..6, 8..16, 20..25
  CHECK(take(0, 2) == std::pair<std::uint64_t, std::uint64_t>{6, 8});
  CHECK(calendar.busy().size() == 2);
  CHECK(take(3, 6) == std::pair<std::uint64_t, std::uint64_t>{16, 27});
  CHECK(calendar.busy().size() == 1);
  calendar.prune(27);
  CHECK(calendar.busy().empty());
}

TEST_CASE("calendars never overlap and waste no gap: equal to a bit per unit of time") {
  const unsigned seed = 73;
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  LinkCalendar calendar;
  std::vector<bool> taken(200000, false);
  std::uint64_t now = 0;
  for (unsigned i = 0; i < 3000; ++i) {
    now += random() % 8;
    calendar.prune(now);
    const std::uint64_t start = now + random() % 300, length = 1 + random() % 12;
    std::uint64_t begin = 0, end = 0, left = length;
    for (std::uint64_t time = start; left > 0; ++time) {
      REQUIRE(time < taken.size());
      if (taken[time]) continue;
      taken[time] = true;
      if (left == length) begin = time;
      end = time + 1;
      --left;
    }
    const auto got = calendar.take(start, length);
    REQUIRE(got.begin == begin);
    REQUIRE(got.end == end);
    for (std::size_t at = 0; at < calendar.busy().size(); ++at) {
      const auto &interval = calendar.busy()[at];
      REQUIRE(interval.begin < interval.end);
      REQUIRE((interval.begin < now || !taken[interval.begin - (interval.begin > 0)]));
      REQUIRE(!taken[interval.end]);
      REQUIRE(taken[interval.end - 1]);
    }
  }
}

TEST_CASE("streams: bandwidth is conserved, pairs stay in order, the same requests give the same times") {
  const unsigned seed = 74;
  INFO("seed " << seed);
  constexpr std::uint64_t kCycle = 16;
  for (const Topology &topology : {Topology::mesh(4, 4), Topology::ring(8)}) {
    INFO(name_of(topology));
    std::vector<std::vector<std::uint64_t>> runs;
    for (unsigned run = 0; run < 2; ++run) {
      LinkNetwork network(topology, {{}, 64, 256, kCycle});
      for (unsigned node = 0; node < topology.routers(); ++node) network.attach("n" + std::to_string(node), node);
      std::mt19937_64 random(seed);
      std::map<std::pair<unsigned, unsigned>, std::uint64_t> last;
      std::vector<std::uint64_t> times, flits(network.uses().size(), 0);
      std::uint64_t now = 0, payload = 0, end = 0;
      for (unsigned i = 0; i < 400; ++i) {
        now += random() % (400 * kCycle);
        network.advance(now);
        const auto from = static_cast<unsigned>(random() % topology.routers());
        const auto to = static_cast<unsigned>(random() % topology.routers());
        for (auto pieces = 1 + random() % 8; pieces > 0; --pieces) {
          const std::uint64_t bytes = 1 + random() % 1024;
          const std::uint64_t arrived = network.send(from, from, to, now, bytes);
          REQUIRE(arrived >= now + network.head_latency(from, to) + network.duration(bytes));
          REQUIRE(arrived >= last[{from, to}]);
          last[{from, to}] = arrived;
          times.push_back(arrived);
          payload += bytes * (topology.distance(from, to) + 2);
          end = std::max(end, arrived);
        }
      }
      CHECK(network.byte_hops() == payload);
      std::uint64_t carried = 0;
      for (unsigned link = 0; link < network.uses().size(); ++link) {
        const auto &use = network.uses()[link];
        carried += use.bytes;
        CHECK(use.busy == use.flits * kCycle);
        CHECK(use.busy <= end);  // a link does one thing at a time
        std::uint64_t until = 0;
        for (const auto &interval : network.calendar(link).busy()) {
          REQUIRE(interval.begin >= until);
          until = interval.end;
        }
      }
      CHECK(carried == payload);
      runs.push_back(times);
      network.reset();
      CHECK(network.byte_hops() == 0);
      CHECK(network.control(0, 1, 0) ==
            network.head_latency(0, 1) + kCycle);  // nothing of what was before is in the way
    }
    CHECK(runs[0] == runs[1]);
  }
}

TEST_CASE("a stream alone goes at the link's rate, or at that of its credits") {
  const Topology mesh = Topology::mesh(4, 1);
  const auto cycles = [&](RouterParams router) {
    LinkNetwork network(mesh, {router, 64, 256, 16});
    network.attach("a", 0);
    network.attach("b", 3);
    std::uint64_t end = 0;
    for (unsigned i = 0; i < 100; ++i) end = network.send(0, 0, 1, 0, 1024);
    return static_cast<double>(end - network.head_latency(0, 1)) / 16;
  };
  // 1024 bytes are 4 packets of 4 flits and a head.
  CHECK(cycles({4, 8, 3, 1}) == 100 * 20);
  CHECK(RouterParams{1, 3, 3, 1}.stream_rate(1) == Approx(0.5));
  CHECK(cycles({1, 3, 3, 1}) == 99 * 40 + 20);
}

TEST_CASE("two movers that share a link get the same of it, whatever the size of their requests") {
  for (const std::uint64_t small : {std::uint64_t{4096}, std::uint64_t{16384}, std::uint64_t{65536}}) {
    // Each asks for its next transfer when its last one has arrived, two at a time.
    LinkNetwork network(Topology::mesh(4, 2), {{}, 64, 256, 16});
    const auto a = network.attach("a", 0), b = network.attach("b", 4), sink = network.attach("sink", 3);
    struct Mover {
      LinkNetwork::NodeId node;
      std::uint64_t bytes, got;
      std::vector<std::uint64_t> ready;
    };
    Mover movers[] = {{a, 65536, 0, {0, 0}}, {b, small, 0, {0, 0}}};
    constexpr std::uint64_t kEnd = 400000 * 16, kWarm = 100000 * 16;
    for (;;) {
      Mover *next = &movers[0];
      std::size_t slot = 0;
      for (Mover &mover : movers) {
        for (std::size_t i = 0; i < 2; ++i) {
          if (mover.ready[i] < next->ready[slot]) {
            next = &mover;
            slot = i;
          }
        }
      }
      const std::uint64_t now = next->ready[slot];
      if (now >= kEnd) break;
      network.advance(now);
      std::uint64_t end = now;
      for (std::uint64_t sent = 0; sent < next->bytes; sent += 1024) {
        end = network.send(next->node, next->node, sink, now, 1024);
        if (end >= kWarm && end < kEnd) next->got += 1024;
      }
      next->ready[slot] = end;
    }
    const double share = static_cast<double>(movers[1].got) / static_cast<double>(movers[0].got + movers[1].got);
    const double rate = static_cast<double>(movers[0].got + movers[1].got) / ((kEnd - kWarm) / 16);
    INFO("requests of 65536 and " << small << " bytes: the second gets " << share << " of " << rate
                                  << " bytes a cycle");
    CHECK(share > 0.4);
    CHECK(share < 0.6);
    CHECK(rate > 0.9 * 64 * 16 / 20);  // 16 of 20 flits are payload
  }
}

TEST_CASE("movers that ask all channels at once: calendars fill the links, routers with buffers come near") {
  // Four channels at the sides of a mesh send all they can to three movers in its middle: 300 transfers of 1 KiB for
  // each pair, in the order of a mover that takes a stripe of every channel in turn.
  const Topology mesh = Topology::mesh(4, 4);
  const std::vector<unsigned> channels{4, 7, 12, 15}, movers{5, 6, 10};
  constexpr unsigned kPieces = 300;
  PacketNetwork network(mesh, {});
  for (unsigned i = 0; i < kPieces * 4; ++i) {
    for (const unsigned mover : movers) {
      for (const unsigned channel : channels) network.send(channel, mover, 5);
    }
  }
  while (network.under_way() != 0) network.step();
  std::map<unsigned, std::uint64_t> done;
  for (const auto &packet : network.take_arrived()) done[packet.to] = std::max(done[packet.to], packet.arrived);

  LinkNetwork calendars(mesh, {{}, 64, 256, 16});
  std::map<unsigned, LinkNetwork::NodeId> nodes;
  for (const unsigned router : {4u, 7u, 12u, 15u, 5u, 6u, 10u}) {
    nodes[router] = calendars.attach("n" + std::to_string(router), router);
  }
  std::map<unsigned, std::uint64_t> priced;
  for (unsigned i = 0; i < kPieces; ++i) {
    for (const unsigned mover : movers) {
      for (const unsigned channel : channels) {
        priced[mover] = std::max(priced[mover], calendars.send(nodes[mover], nodes[channel], nodes[mover], 0, 1024));
      }
    }
  }
  for (const unsigned mover : movers) {
    INFO("to router " << mover << ": flit by flit " << done[mover] << " cycles, calendars " << priced[mover] / 16);
    // A mover's own link is the narrowest place. Calendars use all of it; routers lose what heads of queues that wait
    // for another output keep from it.
    CHECK(priced[mover] / 16 >= kPieces * 4 * 20);
    CHECK(priced[mover] / 16 <= done[mover]);
    CHECK(static_cast<double>(priced[mover]) / 16 > 0.75 * static_cast<double>(done[mover]));
  }
  // Which is why a run that does so says it: the movers' links are taken all the time by packets of four channels.
  for (unsigned link = 0; link < calendars.uses().size(); ++link) {
    const LinkNetwork::LinkUse &use = calendars.uses()[link];
    if (use.to != "n5" && use.to != "n6" && use.to != "n10") continue;
    INFO(use.from << " > " << use.to << ": " << calendars.crowded(link) / 16 << " of " << use.busy / 16);
    CHECK(calendars.crowded(link) > use.busy / 2);
    CHECK(calendars.crowded(link) <= use.busy + 2 * 4096 * 16);
  }
}

TEST_CASE("a link is crowded by several streams beyond the load that was validated, not by one") {
  const Topology mesh = Topology::mesh(3, 1);
  const auto crowded = [&](double load, unsigned streams) {
    LinkNetwork network(mesh, {{}, 64, 256, 16});
    const std::array<LinkNetwork::NodeId, 2> from = {network.attach("a", 0), network.attach("b", 1)};
    const LinkNetwork::NodeId to = network.attach("c", 2);
    std::uint64_t most = 0;
    // A piece of 256 bytes is five flits.
    for (unsigned i = 0; i < 20000; ++i) {
      const auto now = static_cast<std::uint64_t>(i * 5 / load) * 16;
      network.advance(now);
      network.send(to, from[i % streams], to, now, 256);
      if (i % 1000 == 0) {
        for (unsigned link = 0; link < network.uses().size(); ++link) {
          const std::uint64_t before = most;
          most = std::max(most, network.crowded(link));
          CHECK(most >= before);
        }
      }
    }
    for (unsigned link = 0; link < network.uses().size(); ++link) most = std::max(most, network.crowded(link));
    const double all = 20000 * 5 / load * 16;
    network.reset();
    for (unsigned link = 0; link < network.uses().size(); ++link) CHECK(network.crowded(link) == 0);
    return static_cast<double>(most) / all;
  };
  CHECK(crowded(0.95, 1) == 0);
  CHECK(crowded(0.5, 2) == 0);
  CHECK(crowded(0.55, 2) == 0);
  CHECK(crowded(0.65, 2) > 0.95);
  CHECK(crowded(0.95, 2) > 0.95);
}

TEST_CASE("a multicast holds every link of its tree once and reaches each node as a packet of its own would") {
  const unsigned seed = 75;
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (const Topology &topology : {Topology::mesh(4, 4), Topology::ring(9)}) {
    INFO(name_of(topology));
    for (unsigned round = 0; round < 50; ++round) {
      LinkNetwork network(topology, {{}, 64, 256, 16});
      for (unsigned node = 0; node < topology.routers(); ++node) network.attach("n" + std::to_string(node), node);
      const auto from = static_cast<unsigned>(random() % topology.routers());
      std::vector<LinkNetwork::NodeId> to;
      std::set<unsigned> tree;
      for (unsigned node = 0; node < topology.routers(); ++node) {
        if (random() % 2 == 0) continue;
        to.push_back(node);
        for (const unsigned link : topology.route(from, node).links) tree.insert(link);
      }
      if (to.empty()) continue;
      std::vector<std::uint64_t> arrivals;
      const std::uint64_t end = network.multicast(from, from, to, 160, 1024, &arrivals);
      REQUIRE(arrivals.size() == to.size());
      std::uint64_t last = 0;
      for (std::size_t i = 0; i < to.size(); ++i) {
        REQUIRE(arrivals[i] == 160 + network.head_latency(from, to[i]) + network.duration(1024));
        last = std::max(last, arrivals[i]);
      }
      REQUIRE(end == last);
      for (unsigned link = 0; link < topology.links().size(); ++link) {
        REQUIRE(network.uses()[link].bytes == (tree.count(link) != 0 ? 1024 : 0));
      }
      REQUIRE(network.byte_hops() == 1024 * (tree.size() + 1 + to.size()));
    }
  }
}
