#include "hw/chip/perf.hpp"

#include <utility>

#include "hw/noc/register_target.hpp"

namespace cx::hw {

Perf::Perf(sc_core::sc_module_name name, const Clock &clock) : sc_module(name), registers("registers"), clock_(clock) {
  registers.register_b_transport(this, &Perf::b_transport);
}

void Perf::add_counter(regs::PerfReg low, std::function<std::uint64_t()> value) {
  const auto high = static_cast<regs::PerfReg>(static_cast<unsigned>(low) + 1);
  regs_.on_read(low, [value](unsigned) { return static_cast<std::uint32_t>(value()); });
  regs_.on_read(high, [value = std::move(value)](unsigned) { return static_cast<std::uint32_t>(value() >> 32); });
}

void Perf::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

}  // namespace cx::hw
