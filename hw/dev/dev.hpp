// Block dev: identification, capabilities, boot control and handshake, device time, fault log.
#ifndef HW_DEV_DEV_HPP
#define HW_DEV_DEV_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <functional>
#include <systemc>
#include <tlm>

#include "hw/config/gen/chip.hpp"
#include "hw/regs/gen/dev_regs.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

class Dev : public sc_core::sc_module {
 public:
  // What the block reaches outside of itself. All but the reads may be called at any register write.
  struct Hooks {
    std::function<void(bool asserted)> cp_reset;  // RESET_CTRL.CP_RESET changed
    std::function<void()> soft_reset;             // RESET_CTRL.SOFT_RESET was written
    std::function<void(bool level)> host_line;    // interrupt line 'host'
    std::function<std::uint64_t()> cp_cycles;
    std::function<std::uint64_t()> cp_instructions;
    std::function<std::uint64_t()> host_errors;
    std::function<void()> firmware_crash;                // the firmware has set FW_STATUS to CRASHED
    std::function<void(std::uint32_t packets)> packets;  // the firmware has written PACKETS
  };

  tlm_utils::simple_target_socket<Dev> registers;

  Dev(sc_core::sc_module_name name, const Clock &clock, const config::Chip &chip, Hooks hooks);

  // The core has locked up or its firmware has given up: FW_STATUS becomes CRASHED and, unless a fault is captured
  // already, FAULT_* tell where.
  void report_crash(std::uint32_t pc, std::uint32_t address);

  const regs::DevRegs &file() const { return regs_; }

  // Reset values; capabilities stay. The control processor is in reset afterwards.
  void reset();

 private:
  void setup_registers();
  void set_capabilities();
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);

  Clock clock_;
  config::Chip chip_;
  Hooks hooks_;
  regs::DevRegs regs_;
};

}  // namespace cx::hw

#endif
