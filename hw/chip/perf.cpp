#include "hw/chip/perf.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include "hw/noc/register_target.hpp"
#include "hw/regs/gen/perf_regs.h"

namespace cx::hw {

namespace {

// The number of a router or block in register NOC_ENDS.
std::uint32_t end_number(const std::string &end) {
  static constexpr std::pair<const char *, std::uint32_t> kBlocks[] = {
      {"host", CX_PERF_NOC_ENDS_FROM_HOST},   {"sdma", CX_PERF_NOC_ENDS_FROM_SDMA},
      {"cp", CX_PERF_NOC_ENDS_FROM_CP},       {"registers", CX_PERF_NOC_ENDS_FROM_REGISTERS},
      {"tcm", CX_PERF_NOC_ENDS_FROM_TCM},     {"load", CX_PERF_NOC_ENDS_FROM_LOAD},
      {"store", CX_PERF_NOC_ENDS_FROM_STORE}, {"dmmu", CX_PERF_NOC_ENDS_FROM_DMMU},
      {"vpu", CX_PERF_NOC_ENDS_FROM_VPU},     {"sca", CX_PERF_NOC_ENDS_FROM_SCA},
      {"spm", CX_PERF_NOC_ENDS_FROM_SPM}};
  for (const auto &[name, number] : kBlocks) {
    if (end == name) return number;
  }
  if (end.starts_with("dram"))
    return CX_PERF_NOC_ENDS_FROM_DRAM + static_cast<std::uint32_t>(std::stoul(end.substr(4)));
  if (end.starts_with("r")) return static_cast<std::uint32_t>(std::stoul(end.substr(1)));
  throw std::logic_error("perf: a link of the network ends at " + end);
}

}  // namespace

Perf::Perf(sc_core::sc_module_name name, const Clock &clock) : sc_module(name), registers("registers"), clock_(clock) {
  registers.register_b_transport(this, &Perf::b_transport);
  regs_.on_write(regs::PerfReg::HOLD,
                 [this](unsigned, std::uint32_t, std::uint32_t written, std::uint32_t) { hold(written); });
}

void Perf::hold(std::uint32_t number) {
  holding_ = number != 0;
  if (holding_) capture();
  if (hold_hook_) hold_hook_(number);
}

void Perf::reset() {
  regs_.reset();
  hold(0);
}

void Perf::capture() {
  for (Counter &counter : counters_) counter.held = counter.value();
  if (network_ != nullptr) {
    held_links_ = network_->uses();
    for (unsigned link = 0; link < held_links_.size(); ++link) held_links_[link].crowded = network_->crowded(link);
  }
}

void Perf::add_counter(regs::PerfReg low, std::function<std::uint64_t()> value) {
  const auto high = static_cast<regs::PerfReg>(static_cast<unsigned>(low) + 1);
  counters_.push_back({std::move(value)});
  const auto shown = [this, &counter = counters_.back()] { return holding_ ? counter.held : counter.value(); };
  regs_.on_read(low, [shown](unsigned) { return static_cast<std::uint32_t>(shown()); });
  regs_.on_read(high, [shown](unsigned) { return static_cast<std::uint32_t>(shown() >> 32); });
}

void Perf::show_links(const Noc &noc) {
  using regs::PerfReg;
  using regs::PerfRegs;
  const LinkNetwork *network = noc.network();
  network_ = network;
  if (network == nullptr) return;
  const Topology &topology = network->topology();
  const std::uint32_t shape =
      (topology.kind() == Topology::Kind::ring ? CX_PERF_NOC_SHAPE_KIND_RING : CX_PERF_NOC_SHAPE_KIND_MESH) |
      topology.columns() << CX_PERF_NOC_SHAPE_COLUMNS_SHIFT | topology.rows() << CX_PERF_NOC_SHAPE_ROWS_SHIFT;
  regs_.on_read(PerfReg::NOC_SHAPE, [shape](unsigned) { return shape; });
  regs_.on_read(PerfReg::NOC_LINKS, [network](unsigned) { return static_cast<std::uint32_t>(network->uses().size()); });
  const auto selected = [this, network]() -> const LinkNetwork::LinkUse * {
    const std::uint32_t link = regs_.get(PerfReg::NOC_LINK);
    const auto &uses = holding_ ? held_links_ : network->uses();
    return link < uses.size() ? &uses[link] : nullptr;
  };
  regs_.on_read(PerfReg::NOC_ENDS, [selected](unsigned) {
    const auto *use = selected();
    return use ? end_number(use->from) | end_number(use->to) << CX_PERF_NOC_ENDS_TO_SHIFT : 0;
  });
  const auto show = [&](PerfReg low, const auto &value) {
    regs_.on_read(low, [value](unsigned) { return static_cast<std::uint32_t>(value()); });
    regs_.on_read(static_cast<PerfReg>(static_cast<unsigned>(low) + 1),
                  [value](unsigned) { return static_cast<std::uint32_t>(value() >> 32); });
  };
  const auto counter = [&](PerfReg low, std::uint64_t LinkNetwork::LinkUse::*member, unsigned fraction) {
    show(low, [selected, member, fraction]() -> std::uint64_t {
      const auto *use = selected();
      return use ? use->*member >> fraction : 0;
    });
  };
  counter(PerfReg::NOC_BYTES_LO, &LinkNetwork::LinkUse::bytes, 0);
  counter(PerfReg::NOC_BUSY_LO, &LinkNetwork::LinkUse::busy, BandwidthServer::kFraction);
  counter(PerfReg::NOC_WAITED_LO, &LinkNetwork::LinkUse::waited, BandwidthServer::kFraction);
  show(PerfReg::NOC_CROWDED_LO, [this, network, selected]() -> std::uint64_t {
    const auto *use = selected();
    if (use == nullptr) return 0;
    const std::uint64_t time = holding_ ? use->crowded : network->crowded(regs_.get(PerfReg::NOC_LINK));
    return time >> BandwidthServer::kFraction;
  });
}

void Perf::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

}  // namespace cx::hw
