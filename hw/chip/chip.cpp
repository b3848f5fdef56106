#include "hw/chip/chip.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "hw/chip/fault_injector.hpp"
#include "hw/chip/perf.hpp"
#include "hw/chip/trace_sampler.hpp"
#include "hw/config/config.hpp"
#include "hw/cp/control_processor.hpp"
#include "hw/dev/dev.hpp"
#include "hw/dma/dma.hpp"
#include "hw/dmmu/dmmu.hpp"
#include "hw/dram/dram.hpp"
#include "hw/noc/noc.hpp"
#include "hw/noc/placement.hpp"
#include "hw/pcie/endpoint.hpp"
#include "hw/power/heat.hpp"
#include "hw/power/power.hpp"
#include "hw/queue/queue.hpp"
#include "hw/ras/memory_errors.hpp"
#include "hw/ras/ras.hpp"
#include "hw/regs/gen/engine_regs.hpp"
#include "hw/regs/gen/intc_regs.hpp"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.h"
#include "hw/regs/gen/power_regs.hpp"
#include "hw/regs/gen/ras_regs.hpp"
#include "hw/sca/sca.hpp"
#include "hw/sdma/sdma.hpp"
#include "hw/spm/spm.hpp"
#include "hw/sync/clock.hpp"
#include "hw/sync/semaphores.hpp"
#include "hw/trace/packet_watch.hpp"
#include "hw/trace/trace.hpp"
#include "hw/vpu/vpu.hpp"

namespace cx::hw {

namespace {

constexpr size_t kLogLines = 256;

DramParams dram_params(const config::Chip &config, bool shared) {
  DramParams params;
  params.shared = shared;
  params.bytes = std::uint64_t{config.dram.mib} << 20;
  params.channels = config.dram.channels;
  params.bandwidth_gbps = config.dram.bandwidth_gbps;
  params.latency_ns = config.dram.latency_ns;
  params.interleave_bytes = config.dram.interleave_bytes;
  params.part = dram_model(config);
  return params;
}

SpmParams spm_params(const config::Chip &config) {
  SpmParams params;
  params.bytes = std::uint64_t{config.spm.kib} * 1024;
  params.banks = config.spm.banks;
  params.bytes_per_cycle = config.spm.bytes_per_cycle;
  params.latency_cycles = config.spm.latency_cycles;
  return params;
}

NocParams noc_params(const config::Chip &config) {
  NocParams params;
  params.bytes_per_cycle = config.noc.bytes_per_cycle;
  params.hop_cycles = config.noc.hop_cycles;
  if (config.noc.topology == "crossbar") return params;
  const Topology topology = config.noc.topology == "ring" ? Topology::ring(config.noc.columns)
                                                          : Topology::mesh(config.noc.columns, config.noc.rows);
  LinkNetworkParams links;
  links.router = {config.noc.vcs, config.noc.vc_buffer_flits, config.noc.router_cycles, config.noc.link_cycles};
  links.flit_bytes = config.noc.bytes_per_cycle;
  links.packet_bytes = config.noc.packet_bytes;
  const double ratio = config.noc.clock_mhz == 0 ? 1 : config.chip.clock_mhz / config.noc.clock_mhz;
  links.cycle = static_cast<std::uint64_t>(std::llround(std::ldexp(ratio, BandwidthServer::kFraction)));
  params.network = {topology, links, place_blocks(topology, config.dram.channels, config.noc.placement.items)};
  return params;
}

DmaParams dma_params(const config::Chip &config) {
  DmaParams params;
  params.setup_cycles = config.dma.setup_cycles;
  params.bytes_per_cycle = config.dma.bytes_per_cycle;
  params.element_cycles = config.dma.element_cycles;
  return params;
}

VpuParams vpu_params(const config::Chip &config) {
  VpuParams params;
  params.lanes = config.vpu.lanes;
  params.startup_cycles = config.vpu.startup_cycles;
  params.special_cycles = config.vpu.special_cycles;
  return params;
}

PcieParams pcie_params(const config::Chip &config) {
  PcieParams params;
  params.link = {config.pcie.gen,        config.pcie.width, config.pcie.mps, config.pcie.mrrs,
                 config.pcie.latency_ns, config.pcie.tags,  config.pcie.rcb};
  params.vendor_id = static_cast<std::uint16_t>(config.pcie.vendor_id);
  params.device_id = static_cast<std::uint16_t>(config.pcie.device_id);
  params.tcm_bytes = std::uint64_t{config.cp.tcm_kib} * 1024;
  params.bar2_bytes = std::bit_ceil(params.tcm_bytes);
  params.dram_bytes = std::uint64_t{config.dram.mib} << 20;
  params.bar4_bytes = std::bit_ceil(params.dram_bytes);
  return params;
}

ControlProcessor::Config cp_config(const config::Chip &config) {
  ControlProcessor::Config params;
  params.tcm_bytes = config.cp.tcm_kib * 1024;
  params.speed = config.cp.speed;
  return params;
}

}  // namespace

struct Chip::Blocks {
  Blocks(Chip &chip, const config::Chip &config, bool share_dram)
      : clock(config.chip.clock_mhz),
        noc("noc", clock, noc_params(config)),
        dram("dram", clock, dram_params(config, share_dram)),
        spm("spm", clock, spm_params(config)),
        semaphores("semaphores", config.semaphores.count),
        context{clock, noc, spm, semaphores},
        load("load", isa::Engine::LOAD, context, dma_params(config)),
        store("store", isa::Engine::STORE, context, dma_params(config)),
        dmmu("dmmu", context, config.dmmu),
        vpu("vpu", context, vpu_params(config)),
        sca("sca", context, config.sca),
        cp("cp", clock, cp_config(config)),
        pcie("pcie", clock, pcie_params(config)),
        sdma("sdma", clock, noc, pcie, config.sdma.channels),
        queue("queue", clock, config.queues.count),
        dev("dev", clock, config,
            {[this](bool asserted) { cp.set_reset(asserted); }, [&chip] { chip.reset(Reset::soft); },
             [this](bool level) { cp.set_line(CX_IRQ_HOST, level); }, [this] { return cp.cycles(); },
             [this] { return cp.instructions(); }, [this] { return pcie.refused_accesses(); },
             [&chip] { chip.firmware_crashed(); },
             [this](std::uint32_t) {
               injector.packet_completed();
               if (packets.watching()) packets.completed(clock.now());
             }}),
        perf("perf", clock),
        prices(config),
        power("power", clock, prices.leakage()),
        ras("ras", clock,
            {[this](std::uint32_t vector) { pcie.raise(vector); }, [this](EventClass kind) { report_internal(kind); },
             [this](bool tripped) {
               for (Engine *engine : engines()) engine->set_tripped(tripped);
             }}),
        injector("injector", config.faults.plan.items, config.faults.seed,
                 [&chip](const FaultSpec &spec, std::mt19937_64 &random) { chip.provoke(spec, random); }),
        packets([this](unsigned number) { return queue.ring(number); }) {}

  TraceSampler::Counts counts() {
    return [this] {
      return std::array<std::uint64_t, CX_TRACE_VALUES>{
          dram.bytes_read(),           dram.bytes_written(), spm.bytes_read(),
          spm.bytes_written(),         noc.bytes_carried(),  pcie.link().bytes_to_device(),
          pcie.link().bytes_to_host(), dmmu.array_cycles()};
    };
  }

  // Advanced error reporting knows errors of the device that are not its packets' fault.
  void report_internal(EventClass kind) {
    if (kind == EventClass::ecc_corrected) pcie.internal_error(true);
    if (kind == EventClass::firmware_crash) pcie.internal_error(false);
  }

  Clock clock;
  Noc noc;
  Dram dram;
  Spm spm;
  Semaphores semaphores;
  EngineContext context;
  DmaEngine load, store;
  Dmmu dmmu;
  Vpu vpu;
  Sca sca;
  ControlProcessor cp;
  PcieEndpoint pcie;
  Sdma sdma;
  Queue queue;
  Dev dev;
  Perf perf;
  Prices prices;
  Power power;
  std::unique_ptr<Heat> heat;  // only with thermal.model
  MemoryErrors memory_errors;
  Ras ras;
  FaultInjector injector;
  PacketWatch packets;
  Trace *trace = nullptr;
  std::optional<TraceSampler> sampler;
  sc_core::sc_event link_up, cool;
  std::array<sc_core::sc_signal<bool>, 5> engine_irq;

  std::array<Engine *, 5> engines() { return {&load, &store, &dmmu, &vpu, &sca}; }
};

void Chip::check_buildable(const config::Chip &config) {
  Clock{config::at_operating_point(config).chip.clock_mhz};
  const TileShape shape = Dmmu::tile_shape_of(config.dmmu);
  make_tile(shape, false);
  if (!config.dmmu.rtl_tiles.none()) make_tile(shape, true);
  if (config.sca.tiles != 0) make_sca_tile(Sca::tile_shape_of(config.sca), !config.sca.rtl_tiles.none());
}

Chip::Chip(sc_core::sc_module_name name, const config::Chip &config, bool share_dram)
    : sc_module(name),
      given_(config),
      config_(config::at_operating_point(config)),
      blocks_(std::make_unique<Blocks>(*this, config_, share_dram)),
      echo_log_(std::getenv("CX_FIRMWARE_LOG") != nullptr) {
  wire();
}

Chip::~Chip() = default;

Dmmu &Chip::dmmu() { return blocks_->dmmu; }
Sca &Chip::sca() { return blocks_->sca; }
PcieEndpoint &Chip::endpoint() { return blocks_->pcie; }
int Chip::tcm_file() const { return blocks_->cp.tcm_file(); }
std::uint64_t Chip::tcm_bytes() const { return blocks_->cp.tcm_bytes(); }
ControlProcessor &Chip::control_processor() { return blocks_->cp; }
Dram &Chip::dram() { return blocks_->dram; }
Spm &Chip::spm() { return blocks_->spm; }

void Chip::wire() {
  Blocks &b = *blocks_;
  const Noc::InitiatorId cp = b.noc.add_initiator("cp", b.cp.bus_socket);
  if (config_.cp.registers == "port") b.noc.set_port(cp, config_.cp.port_cycles);
  const Noc::InitiatorId host = b.noc.add_initiator("host", b.pcie.bus, regs::Side::host);
  b.pcie.on_peer_access(
      [&b, host](Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) {
        return b.noc.reserve(host, start, CX_MEM_DRAM_BASE + offset, span, bytes, write);
      });

  const auto page = [&](const char *label, std::uint64_t offset, auto &socket,
                        std::span<const regs::RegDesc> registers) {
    b.noc.add_target(label, CX_PERIPHERAL_BASE + offset, CX_MAP_PAGE_SIZE, socket);
    b.pcie.add_registers(offset, registers);
  };
  page("dev", CX_MAP_DEV_OFFSET, b.dev.registers, regs::dev_detail::table);
  page("queue", CX_MAP_QUEUE_OFFSET, b.queue.registers, regs::queue_detail::table);
  page("msix", CX_MAP_MSIX_OFFSET, b.pcie.registers, regs::msix_detail::table);
  page("intc", CX_MAP_INTC_OFFSET, b.cp.intc_socket, regs::intc_detail::table);
  page("sdma", CX_MAP_SDMA_OFFSET, b.sdma.registers, regs::sdma_detail::table);
  page("load", CX_MAP_LOAD_OFFSET, b.load.registers, regs::engine_detail::table);
  page("store", CX_MAP_STORE_OFFSET, b.store.registers, regs::engine_detail::table);
  page("dmmu", CX_MAP_DMMU_OFFSET, b.dmmu.registers, regs::engine_detail::table);
  page("vpu", CX_MAP_VPU_OFFSET, b.vpu.registers, regs::engine_detail::table);
  page("ras", CX_MAP_RAS_OFFSET, b.ras.registers, regs::ras_detail::table);
  page("sca", CX_MAP_SCA_OFFSET, b.sca.registers, regs::engine_detail::table);
  page("power", CX_MAP_POWER_OFFSET, b.power.registers, regs::power_detail::table);
  page("perf", CX_MAP_PERF_OFFSET, b.perf.registers, regs::perf_detail::table);
  b.noc.add_target("tcm", CX_MEM_TCM_BASE, b.cp.tcm_bytes(), b.cp.tcm_socket);
  b.noc.add_target("spm", CX_MEM_SPM_BASE, b.spm.bytes(), b.spm.socket, &b.spm);
  b.noc.add_target("dram", CX_MEM_DRAM_BASE, b.dram.bytes(), b.dram.socket, &b.dram, config_.dram.channels);

  b.queue.on_interrupt([&b](bool level) { b.cp.set_line(CX_IRQ_DOORBELL, level); });
  b.sdma.on_interrupt([&b](bool level) { b.cp.set_line(CX_IRQ_SDMA, level); });
  static constexpr unsigned kEngineLines[] = {CX_IRQ_LOAD, CX_IRQ_STORE, CX_IRQ_DMMU, CX_IRQ_VPU, CX_IRQ_SCA};
  const auto engines = b.engines();
  for (unsigned i = 0; i < engines.size(); ++i) {
    engines[i]->irq(b.engine_irq[i]);
    sc_core::sc_spawn_options options;
    options.spawn_method();
    options.set_sensitivity(&b.engine_irq[i]);
    sc_core::sc_spawn([&b, i] { b.cp.set_line(kEngineLines[i], b.engine_irq[i].read()); },
                      (std::string(engines[i]->basename()) + "_line").c_str(), &options);
  }

  b.cp.on_trace([this](const std::string &line) { log_line(line); });
  b.cp.on_crash([this, &b](const ControlProcessor::Crash &crash) {
    firmware_crashed();
    char text[96];
    std::snprintf(text, sizeof text, "core locked up: pc 0x%08x cause %u tval 0x%08x", crash.pc, crash.cause,
                  crash.tval);
    log_line(text);
  });
  b.pcie.on_function_reset([this] { reset(Reset::function); });
  wire_faults();
  wire_power();
  if (config_.thermal.model) wire_heat();

  using regs::PerfReg;
  b.perf.add_counter(PerfReg::DRAM_RD_LO, [&b] { return b.dram.bytes_read(); });
  b.perf.add_counter(PerfReg::DRAM_WR_LO, [&b] { return b.dram.bytes_written(); });
  b.perf.add_counter(PerfReg::DRAM_ROW_HITS_LO, [&b] { return b.dram.activity().row_hits; });
  b.perf.add_counter(PerfReg::DRAM_ROW_MISSES_LO, [&b] { return b.dram.activity().row_misses; });
  b.perf.add_counter(PerfReg::DRAM_ROW_CONFLICTS_LO, [&b] { return b.dram.activity().row_conflicts; });
  b.perf.add_counter(PerfReg::DRAM_REFRESHES_LO, [&b] { return b.dram.activity().refreshes; });
  b.perf.add_counter(PerfReg::DRAM_TURNS_LO, [&b] { return b.dram.activity().turnarounds; });
  b.perf.add_counter(PerfReg::DRAM_CODE_LO, [&b] { return b.dram.activity().code_bytes; });
  b.perf.add_counter(PerfReg::DRAM_BUSY_NS_LO, [&b] { return b.dram.activity().busy_ns; });
  b.perf.add_counter(PerfReg::DRAM_ROW_NS_LO, [&b] { return b.dram.activity().row_ns; });
  b.perf.add_counter(PerfReg::DRAM_ACTIVATE_NS_LO, [&b] { return b.dram.activity().activate_ns; });
  b.perf.add_counter(PerfReg::DRAM_GROUP_NS_LO, [&b] { return b.dram.activity().bank_group_ns; });
  b.perf.add_counter(PerfReg::DRAM_TURN_NS_LO, [&b] { return b.dram.activity().turnaround_ns; });
  b.perf.add_counter(PerfReg::DRAM_REFRESH_NS_LO, [&b] { return b.dram.activity().refresh_ns; });
  b.perf.add_counter(PerfReg::SPM_RD_LO, [&b] { return b.spm.bytes_read(); });
  b.perf.add_counter(PerfReg::SPM_WR_LO, [&b] { return b.spm.bytes_written(); });
  b.perf.add_counter(PerfReg::NOC_LO, [&b] { return b.noc.bytes_carried(); });
  b.perf.show_links(b.noc);
  b.perf.add_counter(PerfReg::PCIE_TO_DEV_LO, [&b] { return b.pcie.link().bytes_to_device(); });
  b.perf.add_counter(PerfReg::PCIE_TO_HOST_LO, [&b] { return b.pcie.link().bytes_to_host(); });
  b.perf.add_counter(PerfReg::ARRAY_LO, [&b] { return b.dmmu.array_cycles(); });
  b.perf.on_hold([this, &b](std::uint32_t number) {
    b.pcie.link().count_host(number == 0);
    if (number == 0 || b.trace == nullptr) return;
    close_records();
    const std::uint64_t now = b.trace->kernel_time(sc_core::sc_time_stamp().value());
    b.trace->append({now, now, b.trace->new_id(), 0, CX_TRACE_MARK, 0, number, {}});
  });
}

namespace {

// What the dense and the sparse unit have in common.
void add_matrix(Power &power, PowerDomain domain, const Prices &prices, const MatrixActivity &done, const Price &gate,
                const Price &accumulator_word) {
  using config::Quantity;
  for (unsigned format = 0; format < MatrixActivity::kFormats; ++format) {
    power.add(domain, prices.product(format), [&done, format] { return done.products[format]; });
  }
  power.add(domain, prices.of(Quantity::sum_float), [&done] { return done.float_sums; });
  power.add(domain, prices.of(Quantity::sum_integer), [&done] { return done.integer_sums; });
  power.add(domain, gate, [&done] { return done.gated; });
  power.add(domain, accumulator_word, [&done] { return done.accumulator_words; });
  power.add(domain, prices.of(Quantity::drain_element), [&done] { return done.drained; });
}

}  // namespace

void Chip::wire_power() {
  using config::Quantity;
  using Domain = PowerDomain;
  Blocks &b = *blocks_;
  const Prices &prices = b.prices;
  Power &power = b.power;
  add_matrix(power, Domain::dmmu, prices, b.dmmu.activity(), prices.of(Quantity::gate_dense),
             prices.dense_accumulator_word());
  const MatrixActivity &sparse = b.sca.activity();
  add_matrix(power, Domain::sca, prices, sparse, prices.of(Quantity::gate_sparse), prices.sparse_accumulator_word());
  power.add(Domain::sca, prices.of(Quantity::sca_decode), [&sparse] { return sparse.decoded; });
  power.add(Domain::sca, prices.sparse_selected_bit(), [&sparse] { return sparse.selected_bits; });
  power.add(Domain::sca, prices.sparse_buffer_bit(), [&sparse] { return sparse.buffer_bits; });
  const VectorActivity &vector = b.vpu.activity();
  power.add(Domain::vpu, prices.of(Quantity::vpu_simple), [&vector] { return vector.simple; });
  power.add(Domain::vpu, prices.of(Quantity::vpu_special), [&vector] { return vector.special; });
  power.add(Domain::scratchpad, prices.scratchpad_byte(), [&b] { return b.spm.bytes_read() + b.spm.bytes_written(); });
  power.add(Domain::dram, prices.dram_byte(), [&b] { return b.dram.bytes_read() + b.dram.bytes_written(); });
  power.add(Domain::noc, prices.noc_byte(1), [&b] { return b.noc.byte_hops(); });
  power.add(Domain::dma, prices.of(Quantity::dma_byte),
            [&b] { return b.load.bytes_written() + b.store.bytes_written() + b.sdma.bytes_moved(); });
  power.add(Domain::pcie, prices.pcie_byte(), [&b] { return b.pcie.link().bytes_on_wire(); });
  power.add(Domain::cp, prices.of(Quantity::cp_instruction), [&b] { return b.cp.instructions_ever(); });

  power.set_operating_point(config_.power.point, static_cast<unsigned>(config_.power.points.items.size()),
                            prices.volts());
  const Areas areas(config_);
  for (unsigned block = 0; block < Areas::kBlocks; ++block) {
    power.set_area(static_cast<AreaBlock>(block), areas.of(static_cast<AreaBlock>(block)));
  }
  const std::uint32_t formats = config::formats_mask(config_);
  for (unsigned format = 0; format < MatrixActivity::kFormats; ++format) {
    if ((formats >> format & 1) != 0) power.set_full_rate(format, prices.full_rate(format));
  }
}

void Chip::wire_heat() {
  Blocks &b = *blocks_;
  b.heat = std::make_unique<Heat>(b.clock, config_, b.power, b.prices.die_leakage().value,
                                  [&b](double celsius, const sc_core::sc_time &cooling) {
                                    b.ras.trip(static_cast<std::uint32_t>(std::lround(celsius)));
                                    b.cool.cancel();
                                    if (cooling != sc_core::SC_ZERO_TIME) b.cool.notify(cooling);
                                  });
  b.power.set_thermal(*b.heat);
  for (Engine *engine : b.engines()) {
    engine->set_clock_control([&b] { b.heat->issued(); },
                              [&b](const Timing &timing) { return b.heat->stretched(timing); });
  }
}

void Chip::wire_faults() {
  Blocks &b = *blocks_;
  const auto channel = [&b](std::uint64_t address) { return b.dram.channel_of(address - CX_MEM_DRAM_BASE); };
  b.memory_errors.connect({[&b](const MemoryErrors::Report &report) { b.ras.corrected(report); },
                           [&b](const MemoryErrors::Report &report) { b.ras.uncorrected(report); }, channel});
  b.noc.set_memory_errors(&b.memory_errors);
  b.load.on_semaphore_clear([&b] { b.injector.launch_begins(); });
  const auto on = [](const sc_core::sc_event &event, const char *name, auto action) {
    sc_core::sc_spawn_options options;
    options.spawn_method();
    options.dont_initialize();
    options.set_sensitivity(&event);
    sc_core::sc_spawn(action, name, &options);
  };
  on(b.link_up, "retrain", [&b] { b.pcie.set_link(true); });
  on(b.cool, "cool", [&b] { b.ras.release(); });
}

void Chip::firmware_crashed() {
  Blocks &b = *blocks_;
  const ControlProcessor::Crash crash = b.cp.trap();
  b.dev.report_crash(crash.pc, crash.tval);
  Event event;
  event.status = CX_STATUS_FIRMWARE_CRASH;
  event.pc = crash.pc;
  event.address = crash.tval;
  event.info = crash.cause;
  b.ras.post(EventClass::firmware_crash, event);
}

void Chip::inject(const std::string &fault) {
  const FaultSpec spec = parse_fault(fault);
  if (!spec.in_dram(blocks_->dram.bytes())) throw FaultSpecError("address: expected a range of DRAM");
  blocks_->injector.arm(spec);
}

namespace {

// A word of device memory and the bits in it that shall be wrong.
void damage_memory(const FaultSpec &spec, std::uint64_t dram_bytes, MemoryErrors &errors, std::mt19937_64 &random) {
  const std::uint64_t first = spec.address.value_or(CX_MEM_DRAM_BASE);
  const std::uint64_t words = (spec.address ? spec.bytes : dram_bytes) / MemoryErrors::kWordBytes;
  const std::uint64_t address = first + random() % words * MemoryErrors::kWordBytes;
  const unsigned bit = spec.bit ? *spec.bit : static_cast<unsigned>(random() % secded::kBits);
  unsigned second = secded::kBits;
  if (spec.kind == FaultSpec::Kind::ecc_uncorrected) {
    second = spec.second_bit ? *spec.second_bit : static_cast<unsigned>(random() % secded::kBits);
    if (second == bit) second = (second + 1) % secded::kBits;
  }
  errors.inject(address, bit, second);
}

Engine::Cure cure_of(FaultSpec::Cure cure) {
  if (cure == FaultSpec::Cure::queue_reset) return Engine::Cure::reset;
  return cure == FaultSpec::Cure::engine_reset ? Engine::Cure::hard_reset : Engine::Cure::device_reset;
}

}  // namespace

void Chip::provoke(const FaultSpec &spec, std::mt19937_64 &random) {
  Blocks &b = *blocks_;
  Engine &engine = *b.engines()[spec.engine.value_or(0)];
  const auto duration = sc_core::sc_time(spec.duration_us, sc_core::SC_US);
  using Kind = FaultSpec::Kind;
  switch (spec.kind) {
    case Kind::iommu:
      b.sdma.inject_iommu(1);
      break;
    case Kind::illegal_packet:
      b.sdma.inject_packet(1);
      break;
    case Kind::illegal_instruction:
      engine.inject_illegal(1);
      break;
    case Kind::bad_address:
      engine.inject_bad_address(1);
      break;
    case Kind::ecc_corrected:
    case Kind::ecc_uncorrected:
      damage_memory(spec, b.dram.bytes(), b.memory_errors, random);
      break;
    case Kind::engine_hang:
      engine.inject_hang(cure_of(spec.cure));
      break;
    case Kind::firmware_crash:
      b.cp.damage_firmware(spec.lockup);
      break;
    case Kind::link_down: {
      b.pcie.set_link(false);
      Event event;
      event.status = CX_STATUS_LINK_DOWN;
      b.ras.post(EventClass::link_down, event);
      b.link_up.cancel();
      if (duration != sc_core::SC_ZERO_TIME) b.link_up.notify(duration);
      break;
    }
    case Kind::thermal_trip:
      b.ras.trip(spec.celsius);
      b.cool.cancel();
      if (duration != sc_core::SC_ZERO_TIME) b.cool.notify(duration);
      break;
  }
}

void Chip::log_line(const std::string &line) {
  if (echo_log_) std::fprintf(stderr, "firmware: %s\n", line.c_str());
  log_.push_back(line);
  if (log_.size() > kLogLines) log_.pop_front();
}

bool Chip::peek(std::uint64_t offset, std::uint32_t *value) {
  return offset < CX_BAR0_SIZE && offset % sizeof *value == 0 &&
         blocks_->noc.peek(CX_PERIPHERAL_BASE + offset, value, sizeof *value);
}

void Chip::set_trace(Trace *trace, std::uint64_t sample_ps) {
  Blocks &b = *blocks_;
  if (b.sampler) close_records();
  const bool on = trace != nullptr;
  b.trace = trace;
  for (Engine *engine : b.engines()) {
    engine->set_trace(trace, on ? std::function<std::uint64_t(std::uint64_t)>(
                                      [&b](std::uint64_t address) { return b.packets.launch_of(address); })
                                : nullptr);
  }
  b.noc.set_trace(on && trace->wants(CX_TRACE_LINK) ? trace : nullptr);
  b.dram.set_trace(on && trace->wants(CX_TRACE_DRAM) ? trace : nullptr);
  b.packets.set_trace(trace);
  b.sdma.set_trace(trace, &b.packets);
  b.queue.set_trace(trace, &b.packets);
  b.pcie.set_trace(trace, [&b] { return b.packets.last_completed(); });
  b.cp.set_trace(trace);
  b.sampler.reset();
  if (on && sample_ps != 0) {
    b.sampler.emplace(*trace, b.counts(), b.power, b.heat.get(), b.clock, sample_ps);
    trace->set_sampler([&b](std::uint64_t now) { return b.sampler->sample(now); },
                       sc_core::sc_time_stamp().value() + sample_ps);
  }
}

void Chip::close_records() {
  Blocks &b = *blocks_;
  b.noc.close_records();
  b.dram.close_records();
  b.pcie.link().close_records();
  if (b.sampler) b.sampler->sample(sc_core::sc_time_stamp().value());
}

std::string Chip::unit_name(unsigned kind, unsigned unit) const {
  const Blocks &b = *blocks_;
  switch (kind) {
    case CX_TRACE_LINK:
      return b.noc.link_name(unit);
    case CX_TRACE_DRAM:
      return unit < b.dram.stripes() ? "channel " + std::to_string(unit) : "";
    default:
      return "";
  }
}

void Chip::reset(Reset kind) {
  Blocks &b = *blocks_;
  b.power.before_reset();
  reset_blocks(kind);
  b.power.after_reset();
  if (kind != Reset::power_on) return;
  b.power.reset();
  if (b.heat) b.heat->reset();
}

void Chip::reset_blocks(Reset kind) {
  Blocks &b = *blocks_;
  b.cp.set_reset(true);
  for (Engine *engine : b.engines()) engine->reset(kind == Reset::soft);
  b.semaphores.clear_all();
  b.sdma.reset();
  b.queue.reset();
  b.dev.reset();
  b.perf.reset();
  b.ras.reset(kind != Reset::soft, kind == Reset::power_on);
  if (kind == Reset::soft) return;
  b.pcie.reset(kind == Reset::power_on);
  if (kind == Reset::function) return;
  b.noc.reset();
  b.spm.reset();
  b.dram.reset();
  b.cp.clear_tcm();
  log_.clear();
  b.memory_errors.clear();
  for (Engine *engine : b.engines()) engine->forget_faults();
  b.sdma.forget_faults();
  b.link_up.cancel();
  b.cool.cancel();
  b.injector.restart();
}

}  // namespace cx::hw
