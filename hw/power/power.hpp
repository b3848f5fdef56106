// Block power: energy by domain, from what the blocks count.
#ifndef HW_POWER_POWER_HPP
#define HW_POWER_POWER_HPP

#include <tlm_utils/simple_target_socket.h>

#include <array>
#include <cstdint>
#include <functional>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/power/area.hpp"
#include "hw/power/prices.hpp"
#include "hw/regs/gen/power_regs.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

// Numbers of the registers' domains.
enum class PowerDomain : unsigned { dmmu, sca, vpu, scratchpad, dram, noc, dma, pcie, cp, leakage };

// What the block asks of a thermal model.
class ThermalReadings {
 public:
  struct Reading {
    double celsius = 0;  // of the junction
    double peak = 0;     // since power-on
    Cycles throttled = 0;
  };

  virtual ~ThermalReadings() = default;
  virtual Reading read(Cycles now) const = 0;
  virtual unsigned skipped_edges() const = 0;
};

// Nothing happens while nobody asks: energy is a sum of counts times prices.
class Power : public sc_core::sc_module {
 public:
  static constexpr unsigned kDomains = static_cast<unsigned>(PowerDomain::leakage) + 1;

  // Femtojoules.
  struct Energy {
    std::uint64_t value = 0, least = 0, most = 0;
    bool operator==(const Energy &) const = default;
  };

  tlm_utils::simple_target_socket<Power> registers;

  // `leakage` in mW.
  Power(sc_core::sc_module_name name, const Clock &clock, const Price &leakage);

  // Everything that `count` counts costs `price` pJ apiece. Counts only grow, but for resets.
  void add(PowerDomain domain, const Price &price, std::function<std::uint64_t()> count);

  // What the registers say of the chip: mm2 of a part, mW of a format at full rate.
  void set_area(AreaBlock block, const Price &mm2);
  void set_full_rate(unsigned dtype, const Price &milliwatts);
  // The operating point's number, how many there are, and the core voltage.
  void set_operating_point(unsigned number, unsigned count, double volts);
  // `readings` must outlive the block; without them the registers of temperature read 0.
  void set_thermal(const ThermalReadings &readings);

  // Energy of what the die does, without leakage and DRAM, since power-on, in joules.
  struct Work {
    double units = 0;    // dmmu, sca, vpu, scratchpad
    double traffic = 0;  // noc, dma, pcie, cp
  };
  Work work() const;

  // Since power-on.
  Energy energy(PowerDomain domain) const;
  // Value of all domains, in femtojoules.
  std::array<double, kDomains> femtojoules_by_domain() const;

  // Around a reset that takes some of the counts to zero and leaves others: energy stays as it is.
  void before_reset();
  void after_reset();
  // Power-on: everything to zero, whatever the counts are.
  void reset();

 private:
  struct Source {
    PowerDomain domain;
    Price price;
    std::function<std::uint64_t()> count;
    std::uint64_t kept = 0;    // counted before the last reset
    std::uint64_t offset = 0;  // what the count was after it

    std::uint64_t total() const { return kept + count() - offset; }
  };
  struct Slot {
    Cycles time = 0;
    std::array<Energy, kDomains> energy;
    ThermalReadings::Reading thermal;
  };

  void setup_registers(const Price &leakage);
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void latch(unsigned slot);

  Clock clock_;
  regs::PowerRegs regs_;
  std::vector<Source> sources_;
  std::array<Slot, 2> slots_;
  const ThermalReadings *thermal_ = nullptr;
  sc_core::sc_time access_delay_;  // annotated delay of the register access in progress
};

}  // namespace cx::hw

#endif
