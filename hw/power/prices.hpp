// What the parts of a chip take: an energy table applied to a configuration.
#ifndef HW_POWER_PRICES_HPP
#define HW_POWER_PRICES_HPP

#include <cstdint>

#include "hw/config/energy_table.hpp"
#include "hw/config/gen/chip.hpp"

namespace cx::hw {

// Energy in pJ, or power in mW, with the range in which the table sees it.
struct Price {
  double value = 0, least = 0, most = 0;

  friend Price operator+(const Price &a, const Price &b) {
    return {a.value + b.value, a.least + b.least, a.most + b.most};
  }
  friend Price operator*(const Price &a, double factor) {
    return {a.value * factor, a.least * factor, a.most * factor};
  }
  friend Price operator*(const Price &a, const Price &b) {
    return {a.value * b.value, a.least * b.least, a.most * b.most};
  }
  bool operator==(const Price &) const = default;
};

class Prices {
 public:
  // `chip` as it is at its operating point (config::at_operating_point). Throws config::ConfigError or
  // config::EnergyTableMissing for its table.
  explicit Prices(const config::Chip &chip);

  // Core voltage of the chip's operating point.
  double volts() const { return volts_; }

  // Of one operation, in the quantity's unit. What is on the chip goes with the square of the core voltage.
  Price of(config::Quantity quantity) const;
  // A multiplication; `dtype` is num::DType FP32 to INT8.
  Price product(unsigned dtype) const;
  // An access of 64 bits of a static memory of `bytes` bytes: between the table's sizes by the logarithm of the size.
  Price sram(std::uint64_t bytes) const;

  // pJ.
  Price dense_accumulator_word() const;   // 32 bits
  Price sparse_accumulator_word() const;  // 32 bits
  Price sparse_buffer_bit() const;
  Price sparse_selected_bit() const;
  Price scratchpad_byte() const;
  Price dram_byte() const;
  Price pcie_byte() const;
  Price noc_byte(unsigned hops) const;

  // Power that does not depend on what the chip does, mW: of the die with its link, and of the DRAM.
  Price leakage() const { return die_leakage() + dram_leakage(); }
  Price die_leakage() const;
  Price dram_leakage() const;

  // Power of the chip at rest and of the DMMU at its peak, mW: every element multiplies, every column reads and writes
  // an accumulator, every tile takes its own activations from the scratchpad, in every cycle. `dtype` as in product().
  Price full_rate(unsigned dtype) const;

 private:
  // Idle power of the core over that at nominal voltage: the voltage times a current that grows exponentially with it.
  Price voltage_leakage() const;

  config::Chip chip_;
  config::EnergyTable table_;
  double volts_;
  double energy_factor_;  // square of the voltage over the nominal one
};

}  // namespace cx::hw

#endif
