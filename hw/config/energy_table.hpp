// Energy tables (configs/energy/*.yaml): what an operation costs, how sure that is, and where it comes from.
#ifndef HW_CONFIG_ENERGY_TABLE_HPP
#define HW_CONFIG_ENERGY_TABLE_HPP

#include <array>
#include <stdexcept>
#include <string>

#include "hw/config/gen/energy.hpp"

namespace cx::config {

// An entry of a table; unit of its quantity. least <= value <= most.
struct EnergyValue {
  double value = 0;
  double least = 0;
  double most = 0;
  char grade = 'C';     // A published, B published at second hand, C estimated or derived
  std::string source;   // reference
  std::string formula;  // may be empty unless grade is C
};

struct EnergyTable {
  std::string node;  // name of the process
  std::array<EnergyValue, kQuantities.size()> values;

  const EnergyValue &operator[](Quantity quantity) const { return values[static_cast<size_t>(quantity)]; }
};

// There is no such table.
struct EnergyTableMissing : std::runtime_error {
  using runtime_error::runtime_error;
};

// The canonical name of a table: of one that ships, or the absolute path of a file that is named relative to `folder`
// (empty: the working directory). Throws EnergyTableMissing.
std::string energy_table_name(const std::string &table, const std::string &folder);

// By canonical name. Throws ConfigError for what is wrong in a table, EnergyTableMissing.
EnergyTable load_energy_table(const std::string &name);

// The same for a text; a base is found relative to the folder of `file`.
EnergyTable energy_table_of(const std::string &text, const std::string &file);

}  // namespace cx::config

#endif
