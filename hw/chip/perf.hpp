// Block perf: traffic counters of memories, NoC and PCIe link.
#ifndef HW_CHIP_PERF_HPP
#define HW_CHIP_PERF_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <functional>
#include <systemc>
#include <tlm>

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

 private:
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);

  Clock clock_;
  regs::PerfRegs regs_;
};

}  // namespace cx::hw

#endif
