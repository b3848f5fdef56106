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
  // Throws config::ConfigError or config::EnergyTableMissing for its table.
  explicit Prices(const config::Chip &chip);

  // Of one operation, in the quantity's unit.
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

  // Power that does not depend on what the chip does, mW.
  Price leakage() const;

  // Power of the chip at rest and of the DMMU at its peak, mW: every element multiplies, every column reads and writes
  // an accumulator, every tile takes its own activations from the scratchpad, in every cycle. `dtype` as in product().
  Price full_rate(unsigned dtype) const;

 private:
  config::Chip chip_;
  config::EnergyTable table_;
};

}  // namespace cx::hw

#endif
