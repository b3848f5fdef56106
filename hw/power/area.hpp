// How large a chip is: an energy table's areas applied to a configuration.
#ifndef HW_POWER_AREA_HPP
#define HW_POWER_AREA_HPP

#include <array>
#include <cstdint>

#include "hw/config/energy_table.hpp"
#include "hw/config/gen/chip.hpp"
#include "hw/power/prices.hpp"

namespace cx::hw {

// Numbers of the registers' areas.
enum class AreaBlock : unsigned { dmmu, sca, vpu, scratchpad, noc, engines, cp, dram, pcie, other };

// Formulas: docs/energy.md.
class Areas {
 public:
  static constexpr unsigned kBlocks = static_cast<unsigned>(AreaBlock::other) + 1;

  // Throws config::ConfigError or config::EnergyTableMissing for the chip's table.
  explicit Areas(const config::Chip &chip);

  // mm2.
  const Price &of(AreaBlock block) const { return blocks_[static_cast<unsigned>(block)]; }
  Price die() const;  // all of them

 private:
  Price cells(config::Quantity quantity) const;  // um2 of placed logic
  // Memory of `bytes` bytes in macros of `macro_bytes`, um2.
  Price sram(double bytes, double macro_bytes) const;
  Price dmmu() const;
  Price sca() const;
  Price scratchpad() const;
  Price noc() const;

  config::Chip chip_;
  config::EnergyTable table_;
  std::array<Price, kBlocks> blocks_;
};

}  // namespace cx::hw

#endif
