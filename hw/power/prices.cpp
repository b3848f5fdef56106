#include "hw/power/prices.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <string>

#include "hw/config/config.hpp"

namespace cx::hw {

using config::Quantity;

namespace {

constexpr double kBitsPerByte = 8;

Quantity quantity_named(const std::string &name) {
  for (size_t i = 0; i < config::kQuantities.size(); ++i) {
    if (name == config::kQuantities[i].name) return static_cast<Quantity>(i);
  }
  throw std::invalid_argument("power: there is no quantity " + name);
}

// Gb/s of both directions. Lanes of generations 1 and 2 carry 8 bits in 10, 3 to 5 128 in 130, 6 flits of which 236 of
// 256 bytes are packets.
double pcie_gigabits(const config::Chip::PcieSection &pcie) {
  constexpr std::array<double, 6> kTransfers{2.5, 5, 8, 16, 32, 64};
  const double coding = pcie.gen <= 2 ? 0.8 : pcie.gen <= 5 ? 128.0 / 130 : 236.0 / 256;
  return 2 * pcie.width * kTransfers.at(pcie.gen - 1) * coding;
}

}  // namespace

Prices::Prices(const config::Chip &chip)
    : chip_(chip),
      table_(config::load_energy_table(chip.energy.table)),
      volts_(config::core_volts(chip, table_)),
      energy_factor_(std::pow(volts_ / table_[Quantity::volt_nominal].value, 2)) {}

Price Prices::of(Quantity quantity) const {
  const config::EnergyValue &entry = table_[quantity];
  const bool core = config::kQuantities[static_cast<size_t>(quantity)].scales == config::Factor::energy;
  return Price{entry.value, entry.least, entry.most} * (core ? energy_factor_ : 1);
}

Price Prices::voltage_leakage() const {
  const double nominal = table_[Quantity::volt_nominal].value, more = volts_ - nominal;
  const config::EnergyValue &growth = table_[Quantity::volt_leakage];
  const auto factor = [&](double decades) { return volts_ / nominal * std::pow(10, decades * more); };
  const double a = factor(growth.least), b = factor(growth.most);
  return {factor(growth.value), std::min(a, b), std::max(a, b)};
}

Price Prices::product(unsigned dtype) const {
  static constexpr std::array kProducts{Quantity::multiply_fp32,     Quantity::multiply_fp16,
                                        Quantity::multiply_bf16,     Quantity::multiply_fp8_e4m3,
                                        Quantity::multiply_fp8_e5m2, Quantity::multiply_int8};
  return of(kProducts.at(dtype));
}

Price Prices::sram(std::uint64_t bytes) const {
  struct Point {
    double log2_bytes;
    Quantity quantity;
  };
  static constexpr std::array<Point, 3> kPoints{
      {{13, Quantity::sram_8kib}, {15, Quantity::sram_32kib}, {20, Quantity::sram_1mib}}};
  const double size =
      std::clamp(std::log2(static_cast<double>(bytes)), kPoints.front().log2_bytes, kPoints.back().log2_bytes);
  const size_t upper = size <= kPoints[1].log2_bytes ? 1 : 2;
  const Point &a = kPoints[upper - 1], &b = kPoints[upper];
  const double part = (size - a.log2_bytes) / (b.log2_bytes - a.log2_bytes);
  return of(a.quantity) * (1 - part) + of(b.quantity) * part;
}

// Accumulators and banks are as wide as a tile: macros of 64 bits beside each other, as deep as the memory has words.
Price Prices::dense_accumulator_word() const { return sram(std::uint64_t{8} * chip_.dmmu.tile.acc_rows) * 0.5; }

Price Prices::sparse_accumulator_word() const {
  return sram(std::uint64_t{8} * chip_.sca.tile.acc_rows * chip_.sca.tile.cols) * 0.5;
}

Price Prices::sparse_buffer_bit() const { return sram(std::uint64_t{8} * chip_.sca.tile.depth) * (1.0 / 64); }

Price Prices::sparse_selected_bit() const { return of(Quantity::sca_select) * chip_.sca.tile.window; }

Price Prices::scratchpad_byte() const {
  return sram(std::uint64_t{chip_.spm.kib} * 1024 / chip_.spm.banks) * (kBitsPerByte / 64);
}

Price Prices::dram_byte() const { return of(quantity_named("dram." + chip_.energy.dram)) * kBitsPerByte; }

Price Prices::pcie_byte() const {
  // The tables have no figure for generation 6: a bit costs what one of generation 5 does.
  constexpr unsigned kLastPriced = 5;
  return of(quantity_named("pcie.gen" + std::to_string(std::min(chip_.pcie.gen, kLastPriced)))) * kBitsPerByte;
}

Price Prices::noc_byte(unsigned hops) const {
  return of(Quantity::wire_bit_mm) * (kBitsPerByte * hops * chip_.energy.hop_mm);
}

Price Prices::die_leakage() const {
  const auto &dense = chip_.dmmu;
  const auto &sparse = chip_.sca;
  const double dense_tile = 1.0 * dense.tile.rows * dense.tile.cols;
  const double sparse_tile = 1.0 * sparse.tile.rows * sparse.tile.cols;
  const double dense_elements = dense.tiles * dense_tile;
  const double sparse_elements = sparse.tiles * sparse_tile;
  // A slot that can be either tile has the multipliers of the larger one; its memories are counted of both.
  const double multipliers =
      dense_elements + (chip_.array.shared ? sparse.tiles * std::max(sparse_tile - dense_tile, 0.0) : sparse_elements);
  const double dense_bytes = 4.0 * dense.tiles * dense.tile.acc_rows * dense.tile.cols;
  const double banks_bytes = 2 * 2.0 * sparse.tile.depth * sparse.tile.rows;  // two banks of 16-bit elements
  const double sparse_bytes = 4 * sparse_elements * sparse.tile.acc_rows + sparse.tiles * banks_bytes;
  const double kib = chip_.spm.kib + chip_.cp.tcm_kib + (dense_bytes + sparse_bytes) / 1024;
  return (of(Quantity::idle_multiplier) * multipliers + of(Quantity::idle_lane) * chip_.vpu.lanes +
          of(Quantity::idle_kib) * kib) *
             voltage_leakage() +
         of(Quantity::idle_pcie) * pcie_byte() * (pcie_gigabits(chip_.pcie) / kBitsPerByte);
}

Price Prices::dram_leakage() const {
  // 10^9 bytes a second times 10^-12 J are mW.
  return of(Quantity::idle_dram) * dram_byte() * chip_.dram.bandwidth_gbps;
}

Price Prices::full_rate(unsigned dtype) const {
  constexpr std::array<unsigned, 6> kBytes{4, 2, 2, 1, 1, 1};
  constexpr unsigned kInt8 = 5;
  const auto &dense = chip_.dmmu;
  const double pack = kBytes.at(dtype) == 1 ? dense.tile.pack : 1;
  const double products = pack * dense.tiles * dense.tile.rows * dense.tile.cols;
  const double columns = 1.0 * dense.tiles * dense.tile.cols;
  const double operand_bytes = pack * kBytes.at(dtype) * dense.tiles * dense.tile.rows;
  const Price cycle = (product(dtype) + of(dtype == kInt8 ? Quantity::sum_integer : Quantity::sum_float)) * products +
                      dense_accumulator_word() * (2 * columns) + scratchpad_byte() * operand_bytes;
  constexpr double kMilliwatts = 1e-3;  // of a pJ at 1 MHz
  return leakage() + cycle * (kMilliwatts * chip_.chip.clock_mhz);
}

}  // namespace cx::hw
