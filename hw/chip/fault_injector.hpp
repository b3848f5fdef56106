// Provokes faults: by a plan of the configuration, or one by one while the chip runs.
#ifndef HW_CHIP_FAULT_INJECTOR_HPP
#define HW_CHIP_FAULT_INJECTOR_HPP

#include <cstdint>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <systemc>
#include <vector>

#include "hw/ras/fault_spec.hpp"

namespace cx::hw {

// Nothing is scheduled while no fault is armed. What is random comes from seeded generators: equal runs meet equal
// faults.
class FaultInjector : public sc_core::sc_module {
 public:
  // How a fault is provoked. `random` is for what the specification leaves open.
  using Provoke = std::function<void(const FaultSpec &, std::mt19937_64 &random)>;

  FaultInjector(sc_core::sc_module_name name, std::vector<std::string> plan, std::uint64_t seed, Provoke provoke);

  // Arms a fault; it strikes in the course of simulated time. May be called outside of processes.
  void arm(const FaultSpec &spec);

  // The firmware has completed a packet; a launch begins.
  void packet_completed() { count(packets_); }
  void launch_begins() { count(launches_); }

  // Power-on: what was armed is forgotten, the plan begins anew.
  void restart();

 private:
  struct Armed {
    FaultSpec spec;
    std::mt19937_64 random;
    std::uint32_t left;
    bool timed;  // due at due_ps; else waits for packets or launches
    std::uint64_t due_ps = 0;
    std::uint64_t packets = 0, launches = 0;
  };

  void count(std::uint64_t &counter);
  void release(Armed &armed);
  void strike();
  void schedule();

  std::vector<std::string> plan_;
  std::uint64_t seed_;
  Provoke provoke_;
  std::deque<Armed> armed_;
  std::uint64_t number_ = 0;  // faults armed since power-on
  std::uint64_t power_on_ps_ = 0;
  std::uint64_t packets_ = 0, launches_ = 0;
  sc_core::sc_event due_;
};

}  // namespace cx::hw

#endif
