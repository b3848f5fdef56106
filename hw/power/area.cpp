#include "hw/power/area.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "hw/noc/topology.hpp"

namespace cx::hw {

using config::Quantity;

namespace {

constexpr double kMm2 = 1e-6;  // of a um2
constexpr double kEngines = 5;
constexpr double kDirections = 2;
constexpr double kBitsPerByte = 8;

Price price(const config::EnergyTable &table, Quantity quantity) {
  const config::EnergyValue &entry = table[quantity];
  return {entry.value, entry.least, entry.most};
}

Price larger(const Price &a, const Price &b) { return a.value >= b.value ? a : b; }

Quantity interface_of(const std::string &dram) {
  static constexpr std::pair<const char *, Quantity> kKinds[] = {
      {"ddr4", Quantity::area_ddr4},   {"ddr5", Quantity::area_ddr5}, {"lpddr5", Quantity::area_lpddr5},
      {"gddr6", Quantity::area_gddr6}, {"hbm2", Quantity::area_hbm2}, {"hbm2e", Quantity::area_hbm2e},
      {"hbm3", Quantity::area_hbm3}};
  const auto *kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto &k) { return dram == k.first; });
  if (kind == std::end(kKinds)) throw std::invalid_argument("area: there is no DRAM " + dram);
  return kind->second;
}

}  // namespace

Price Areas::cells(Quantity quantity) const { return price(table_, quantity) * price(table_, Quantity::area_placed); }

Price Areas::sram(double bytes, double macro_bytes) const {
  constexpr double kSmall = 14, kLarge = 20;  // log2 of the table's sizes
  const double part = (std::clamp(std::log2(macro_bytes), kSmall, kLarge) - kSmall) / (kLarge - kSmall);
  const Price kib =
      price(table_, Quantity::area_sram_16kib) * (1 - part) + price(table_, Quantity::area_sram_1mib) * part;
  return kib * (bytes / 1024);
}

// An element has one multiplier that is as large as the largest of its formats needs (pack 8-bit ones for packed
// formats), an adder for each kind of sum, both banks of weights, and registers for the activation and the sum that go
// by.
Price Areas::dmmu() const {
  const auto &tile = chip_.dmmu.tile;
  const double pack = tile.pack;
  Price multiplier;
  double operand_bits = kBitsPerByte * pack;
  bool floats = false, integers = false;
  for (const std::string &format : chip_.dmmu.formats) {
    Price one;
    if (format == "FP32") {
      one = cells(Quantity::area_multiply_fp32);
      operand_bits = std::max(operand_bits, 32.0);
    } else if (format == "FP16" || format == "BF16") {
      one = cells(format == "FP16" ? Quantity::area_multiply_fp16 : Quantity::area_multiply_bf16);
      operand_bits = std::max(operand_bits, 16.0);
    } else {
      one = cells(format == "INT8" ? Quantity::area_multiply_int8 : Quantity::area_multiply_fp8) * pack +
            cells(format == "INT8" ? Quantity::area_sum_integer : Quantity::area_sum_tree) * (pack - 1);
    }
    multiplier = larger(multiplier, one);
    (format == "INT8" ? integers : floats) = true;
  }
  Price element = multiplier + cells(Quantity::area_register_bit) * (3 * operand_bits + 32.0 * tile.stages);
  if (floats) element = element + cells(Quantity::area_sum_float);
  if (integers) element = element + cells(Quantity::area_sum_integer);
  // Each column ends in an adder to the accumulators and a drain lane.
  const Price column = cells(Quantity::area_sum_float) * 2 + cells(Quantity::area_multiply_fp32);
  const double accumulators = 4.0 * tile.acc_rows * tile.cols;
  const Price whole =
      element * (1.0 * tile.rows * tile.cols) + column * tile.cols + sram(accumulators, kBitsPerByte * tile.acc_rows);
  return whole * chip_.dmmu.tiles;
}

// A lane of a column chooses its activation from the window; columns have a queue of weights with their positions and
// the arithmetic of positions. Formats are those of the instruction set, FP16 the largest.
Price Areas::sca() const {
  constexpr double kOperandBits = 16, kPositionBits = 16;
  const auto &tile = chip_.sca.tile;
  const Price lane = cells(Quantity::area_multiply_fp16) + cells(Quantity::area_sum_float) +
                     cells(Quantity::area_sum_integer) + cells(Quantity::area_mux_bit) * (kOperandBits * tile.window) +
                     cells(Quantity::area_register_bit) * (kOperandBits + 32);
  const Price column = cells(Quantity::area_register_bit) * (tile.queue * (kOperandBits + kPositionBits)) +
                       cells(Quantity::area_sum_integer) * 4;
  const Price drain = cells(Quantity::area_sum_float) + cells(Quantity::area_multiply_fp32);
  const double accumulators = 4.0 * tile.rows * tile.cols * tile.acc_rows;
  const double banks = 2 * 2.0 * tile.depth * tile.rows;
  const Price whole = lane * (1.0 * tile.rows * tile.cols) + column * tile.cols + drain * tile.cols +
                      sram(accumulators, kBitsPerByte * tile.acc_rows * tile.cols) +
                      sram(banks, kBitsPerByte * tile.depth);
  return whole * chip_.sca.tiles;
}

// Banks, and a crossbar between them and the ports of the engines and of the NoC.
Price Areas::scratchpad() const {
  const auto &spm = chip_.spm;
  const double crosspoint_bits = (kEngines + 1) * kDirections * spm.banks * kBitsPerByte * spm.bytes_per_cycle;
  return sram(1024.0 * spm.kib, 1024.0 * spm.kib / spm.banks) + cells(Quantity::area_mux_bit) * crosspoint_bits;
}

// A crossbar: between five initiators (control processor, host, system DMA, load, store) and three memories, links with
// buffers of four words in each direction. A network: in each router a crossbar between its links, with a terminal's in
// each direction, and the buffers of the virtual channels of every input.
Price Areas::noc() const {
  const auto &noc = chip_.noc;
  if (noc.topology != "crossbar") {
    const Topology topology =
        noc.topology == "ring" ? Topology::ring(noc.columns) : Topology::mesh(noc.columns, noc.rows);
    std::vector<unsigned> ports(topology.routers(), 1);
    for (const Topology::Link &link : topology.links()) ++ports[link.to];
    double crosspoints = 0, inputs = 0;
    for (const unsigned count : ports) {
      crosspoints += 1.0 * count * count;
      inputs += count;
    }
    const double flit_bits = kBitsPerByte * noc.bytes_per_cycle;
    return cells(Quantity::area_mux_bit) * (crosspoints * flit_bits) +
           cells(Quantity::area_register_bit) * (inputs * noc.vcs * noc.vc_buffer_flits * flit_bits);
  }
  constexpr double kInitiators = 5, kTargets = 3, kWords = 4;
  const double link_bits = kDirections * kBitsPerByte * noc.bytes_per_cycle;
  return cells(Quantity::area_mux_bit) * (kInitiators * kTargets * link_bits) +
         cells(Quantity::area_register_bit) * ((kInitiators + kTargets) * kWords * link_bits);
}

Areas::Areas(const config::Chip &chip) : chip_(chip), table_(config::load_energy_table(chip.energy.table)) {
  const auto at = [this](AreaBlock block) -> Price & { return blocks_[static_cast<unsigned>(block)]; };
  at(AreaBlock::dmmu) = dmmu() * kMm2;
  at(AreaBlock::sca) = sca() * kMm2;
  at(AreaBlock::vpu) = cells(Quantity::area_lane) * (kMm2 * chip_.vpu.lanes);
  at(AreaBlock::scratchpad) = scratchpad() * kMm2;
  at(AreaBlock::noc) = noc() * kMm2;
  at(AreaBlock::engines) = cells(Quantity::area_core) * (kMm2 * (kEngines + chip_.sdma.channels));
  const double tcm = 1024.0 * chip_.cp.tcm_kib;
  at(AreaBlock::cp) = (cells(Quantity::area_core) + sram(tcm, tcm)) * kMm2;
  at(AreaBlock::dram) = price(table_, interface_of(chip_.energy.dram)) * chip_.dram.bandwidth_gbps;
  const Quantity lane = chip_.pcie.gen <= 3   ? Quantity::area_pcie_gen3
                        : chip_.pcie.gen == 4 ? Quantity::area_pcie_gen4
                                              : Quantity::area_pcie_gen5;
  at(AreaBlock::pcie) = price(table_, lane) * chip_.pcie.width;
  at(AreaBlock::other) = die() * price(table_, Quantity::area_other);
}

Price Areas::die() const {
  Price sum;
  for (const Price &block : blocks_) sum = sum + block;
  return sum;
}

}  // namespace cx::hw
