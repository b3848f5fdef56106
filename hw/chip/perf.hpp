// Block perf: traffic counters of memories, NoC and PCIe link.
#ifndef HW_CHIP_PERF_HPP
#define HW_CHIP_PERF_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <systemc>
#include <tlm>
#include <utility>
#include <vector>

#include "hw/noc/noc.hpp"
#include "hw/regs/gen/perf_regs.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

class Perf : public sc_core::sc_module {
 public:
  tlm_utils::simple_target_socket<Perf> registers;

  Perf(sc_core::sc_module_name name, const Clock &clock);

  // Gives a counter its value; `low` is the register's low word.
  void add_counter(regs::PerfReg low, std::function<std::uint64_t()> value);

  // Gives the registers of the network's links their values. Once, after the last block was added to `noc`.
  void show_links(const Noc &noc);

  // Counters run; they are not set back, those of other blocks are theirs.
  void reset();

  // Called with what was written to HOLD; unless that is 0, in the moment that the counters show from then on.
  void on_hold(std::function<void(std::uint32_t number)> hook) { hold_hook_ = std::move(hook); }

 private:
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void hold(std::uint32_t number);
  void capture();

  struct Counter {
    std::function<std::uint64_t()> value;
    std::uint64_t held = 0;
  };

  Clock clock_;
  bool holding_ = false;
  std::deque<Counter> counters_;  // hooks point to its elements
  std::vector<LinkNetwork::LinkUse> held_links_;
  const LinkNetwork *network_ = nullptr;
  std::function<void(std::uint32_t)> hold_hook_;
  regs::PerfRegs regs_;
};

}  // namespace cx::hw

#endif
