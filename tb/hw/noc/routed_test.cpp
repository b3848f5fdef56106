// The NoC as a network of routers: times of accesses and transfers, sharing, multicast.
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "hw/dram/dram.hpp"
#include "hw/noc/noc.hpp"
#include "hw/noc/placement.hpp"
#include "hw/noc/register_target.hpp"
#include "hw/spm/spm.hpp"
#include "tb/hw/noc/noc_bench.hpp"

using namespace cx::hw;
using namespace cx::hw::test;
namespace regs = cx::regs;

namespace {

constexpr std::uint64_t kDramBytes = std::uint64_t{1} << 26;
constexpr unsigned kChannels = 4;

struct Registers : sc_core::sc_module {
  static constexpr std::array<regs::RegDesc, 1> kTable{{{"A", 0, 1, 4, 0, regs::Access::rw, regs::Access::rw, {}}}};
  tlm_utils::simple_target_socket<Registers> socket;
  regs::RegFile file{kTable, 0x100};
  explicit Registers(sc_core::sc_module_name name) : sc_module(name), socket("socket") {
    socket.register_b_transport(this, &Registers::b_transport);
  }
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &) { access_registers(file, transaction); }
};

NocParams params_of(const Topology &topology, double cycle = 1) {
  LinkNetworkParams links;
  links.router = {4, 8, 3, 1};
  links.flit_bytes = 64;
  links.packet_bytes = 256;
  links.cycle = static_cast<std::uint64_t>(65536 * cycle);
  return {64, 4, NocNetworkParams{topology, links, place_blocks(topology, kChannels)}};
}

// Clock 1000 MHz; DRAM of 4 channels of 16 bytes a cycle, latency 80, stripes of 1024; scratchpad port of 32 bytes a
// cycle, latency 3.
struct Bench : sc_core::sc_module {
  Clock clock{1000};
  Noc noc;
  Dram dram{"dram", clock, DramParams{kDramBytes, kChannels, 64, 80, 1024, 64}};
  Spm spm{"spm", clock, SpmParams{1 << 16, 4, 32, 3}};
  Registers registers{"registers"};
  Master load_master{"load_master"}, store_master{"store_master"}, cp_master{"cp_master"};
  Noc::InitiatorId load, store, cp;

  Bench(sc_core::sc_module_name name, const NocParams &params) : sc_module(name), noc("noc", clock, params) {
    load = noc.add_initiator("load", load_master.socket);
    store = noc.add_initiator("store", store_master.socket);
    cp = noc.add_initiator("cp", cp_master.socket);
    noc.add_target("dram", kDramBase, kDramBytes, dram.socket, &dram, kChannels);
    noc.add_target("spm", kSpmBase, spm.bytes(), spm.socket, &spm);
    noc.add_target("dev", kRegsBase, 0x100, registers.socket);
  }
  void reset() {
    noc.reset();
    spm.reset();
    dram.reset();
  }
  unsigned router(const std::string &block) const { return noc.params().network->routers.at(block); }
  // Cycles of a head from block to block: (hops + 1) routers of 3 and (hops + 2) links of 1.
  Cycles way(const std::string &from, const std::string &to) const {
    const unsigned hops = noc.params().network->topology.distance(router(from), router(to));
    return (hops + 1) * 3 + hops + 2;
  }
};

struct Benches {
  Bench mesh{"mesh", params_of(Topology::mesh(4, 4))};
  Bench ring{"ring", params_of(Topology::ring(9))};
  Bench slow{"slow", params_of(Topology::mesh(4, 4), 2.5)};  // network at 400 MHz
  Bench crossbar{"crossbar", NocParams{64, 4}};

  Benches() {
    NocParams nowhere = params_of(Topology::mesh(4, 4));
    nowhere.network->routers.erase("load");
    Noc noc("nowhere", mesh.clock, nowhere);
    Master master("nowhere_master");
    REQUIRE_THROWS_AS(noc.add_initiator("load", master.socket), std::invalid_argument);
  }
};

Benches &benches() {
  static Benches *instance = [] {
    auto *made = new Benches;
    sc_core::sc_start(sc_core::SC_ZERO_TIME);
    return made;
  }();
  for (Bench *bench : {&instance->mesh, &instance->ring, &instance->slow, &instance->crossbar}) bench->reset();
  return *instance;
}

sc_core::sc_time access(Master &master, tlm::tlm_command command, std::uint64_t address) {
  std::uint32_t word = 0;
  const Access done = access(master, command, address, &word, sizeof word);
  CHECK(done.status == tlm::TLM_OK_RESPONSE);
  return done.delay;
}

std::string channel_name(std::uint64_t address) {
  return "dram" + std::to_string((address - kDramBase) / 1024 % kChannels);
}

}  // namespace

TEST_CASE("register accesses: there and back, a flit of request and a head with its flit of data") {
  for (Bench *b : {&benches().mesh, &benches().ring}) {
    const Cycles there = b->way("cp", "registers"), back = b->way("registers", "cp");
    CHECK(access(b->cp_master, tlm::TLM_READ_COMMAND, kRegsBase) == ns(there + 1 + back + 2));
    b->noc.reset();
    CHECK(access(b->cp_master, tlm::TLM_WRITE_COMMAND, kRegsBase) == ns(there + 2 + back + 1));
    CHECK(b->noc.bytes_carried() == 4);
  }
}

TEST_CASE("a transfer alone takes the closed form for every channel's place") {
  for (Bench *b : {&benches().mesh, &benches().ring}) {
    for (unsigned channel = 0; channel < kChannels; ++channel) {
      const std::uint64_t address = kDramBase + channel * 1024;
      const std::string dram = channel_name(address);
      const Cycles there = b->way("load", dram), back = b->way(dram, "load");
      INFO("from load to " << dram << " " << there << " cycles");
      // Read of a stripe: the request's flit, 64 cycles of the channel after its latency, the way back of the last
      // flits; the links' 20 cycles are hidden behind the channel's.
      b->reset();
      CHECK(b->noc.reserve(b->load, 100, address, 1024, false) == 100 + there + 1 + 80 + 64 + back);
      // Beside the latency only the transfer itself: a channel's 16 bytes a cycle.
      CHECK(b->noc.latency(b->load, address, false) == there + 1 + 80 + back);
      // Write: the head arrives, 64 cycles of the channel and its latency.
      b->reset();
      CHECK(b->noc.reserve(b->load, 100, address, 1024, true) == 100 + there + 80 + 64);
      CHECK(b->noc.latency(b->load, address, true) == there + 80);
    }
    CHECK_THROWS_AS(b->noc.reserve(b->load, 0, kDramBase - 1, 4, false), std::out_of_range);
    CHECK_THROWS_AS(b->noc.latency(b->load, kDramBase - 1, false), std::out_of_range);
  }
}

TEST_CASE("a network with a slower clock takes as much longer") {
  Bench &b = benches().slow;
  const double there = 2.5 * static_cast<double>(b.way("cp", "spm")),
               back = 2.5 * static_cast<double>(b.way("spm", "cp"));
  const double cycles = there + 2.5 + 3 + 32 + back;
  const Cycles measured = b.noc.reserve(b.cp, 0, kSpmBase, 1024, false);
  // The links' 20 x 2.5 cycles are longer than the port's 32; the request is rounded to a cycle of the chip.
  CHECK(static_cast<double>(measured) == Approx(cycles + 20 * 2.5 - 32).margin(1));
}

TEST_CASE("interleaved transfers use all channels, and each channel's links carry its share") {
  Bench &b = benches().mesh;
  const std::uint64_t bytes = 1 << 16;
  const Cycles end = b.noc.reserve(b.load, 0, kDramBase + 512, bytes, false);
  CHECK(b.dram.bytes_read() == bytes);
  // 64 bytes a cycle of four channels against 64 * 16 / 20 of the one link into the engine.
  CHECK(static_cast<double>(end) == Approx(bytes / 51.2).epsilon(0.15));
  std::uint64_t from_channels = 0;
  for (const auto &use : b.noc.network()->uses()) {
    if (use.from.starts_with("dram")) {
      CHECK(use.bytes == bytes / kChannels);
      from_channels += use.bytes;
    }
    if (use.to == "load") CHECK(use.bytes == bytes);
  }
  CHECK(from_channels == bytes);
  CHECK(b.noc.byte_hops() == b.noc.network()->byte_hops());
  CHECK(b.noc.byte_hops() > 3 * bytes);

  // A strided one moves what it says, spread over the same channels.
  b.reset();
  b.noc.reserve(b.load, 0, kDramBase, 1 << 20, 1 << 14, false);
  CHECK(b.noc.bytes_carried() == 1 << 14);
  CHECK(b.dram.bytes_read() == 1 << 14);
  for (const auto &use : b.noc.network()->uses()) {
    if (use.from.starts_with("dram")) CHECK(use.bytes == (1 << 14) / kChannels);
  }
}

TEST_CASE("every byte of random requests crosses its mover's link once") {
  const unsigned seed = 76;
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (Bench *b : {&benches().mesh, &benches().ring}) {
    b->reset();
    std::uint64_t read = 0, written = 0, start = 0;
    std::array<Cycles, 2> last{};
    for (unsigned i = 0; i < 300; ++i) {
      start += random() % 500;
      const std::uint64_t span = 1 + random() % 30000;
      const std::uint64_t bytes = random() % 3 == 0 ? 1 + random() % span : span;
      const std::uint64_t address = kDramBase + random() % (kDramBytes - span);
      const bool write = random() % 2 == 0;
      const Cycles end = b->noc.reserve(b->store, start, address, span, bytes, write);
      (write ? written : read) += bytes;
      REQUIRE(end >= start + b->noc.latency(b->store, address, write) - 30 - 80);  // 30: of a nearer channel
      last[write] = std::max(last[write], end);
    }
    for (const auto &use : b->noc.network()->uses()) {
      if (use.from == "store") CHECK(use.bytes == written);
      if (use.to == "store") CHECK(use.bytes == read);
    }
    CHECK(read <= last[0] * 64 * 16 / 20 + 64);  // payload's part of a link's flits
    CHECK(b->noc.bytes_carried() == read + written);
  }
}

TEST_CASE("traffic of others on the way makes transfers wait, and the links say for how long") {
  Bench &b = benches().mesh;
  const Cycles alone = b.noc.reserve(b.load, 0, kDramBase, 1 << 15, false);
  b.reset();
  b.noc.reserve(b.store, 0, kDramBase, 1 << 15, false);
  b.dram.reset();  // only the network is shared
  CHECK(b.noc.reserve(b.load, 0, kDramBase, 1 << 15, false) >= alone);
  std::uint64_t waited = 0;
  for (const auto &use : b.noc.network()->uses()) waited += use.waited;
  CHECK(waited > 0);
}

TEST_CASE("multicast: one read for several, links and memory once") {
  for (Bench *b : {&benches().mesh, &benches().ring, &benches().crossbar}) {
    const std::vector<Noc::InitiatorId> takers{b->load, b->store, b->cp};
    Cycles slowest = 0;
    for (const Noc::InitiatorId taker : takers) {
      b->reset();
      slowest = std::max(slowest, b->noc.reserve(taker, 0, kSpmBase, 1024, false));
    }
    b->reset();
    std::vector<Cycles> arrivals;
    const Cycles end = b->noc.reserve_multicast(takers, 0, kSpmBase, 1024, &arrivals);
    REQUIRE(arrivals.size() == 3);
    CHECK(end == *std::max_element(arrivals.begin(), arrivals.end()));
    // The first taker's request and the slowest way of the data, at most the two slowest ways together.
    CHECK(end <= slowest + 30);
    CHECK(b->spm.bytes_read() == 1024);
    CHECK(b->noc.bytes_carried() == 1024);
    b->reset();
    Cycles apart = 0;
    for (const Noc::InitiatorId taker : takers)
      apart = std::max(apart, b->noc.reserve(taker, 0, kSpmBase, 8192, false));
    b->reset();
    CHECK(b->noc.reserve_multicast(takers, 0, kSpmBase, 8192) < apart);
    CHECK_THROWS_AS(b->noc.reserve_multicast({}, 0, kSpmBase, 64), std::invalid_argument);
    CHECK_THROWS_AS(b->noc.reserve_multicast(takers, 0, kRegsBase + 0xf0, 64), std::out_of_range);
  }
}

TEST_CASE("a crossbar has no links to show and counts two for each byte") {
  Bench &b = benches().crossbar;
  CHECK(b.noc.network() == nullptr);
  b.noc.reserve(b.load, 0, kDramBase, 4096, false);
  CHECK(b.noc.byte_hops() == 2 * 4096);
}
