// The control processor: RV32 core, tightly coupled memory, interrupt controller and timer.
#pragma once

#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/cp/function_trace.hpp"
#include "hw/cp/rv32_core.hpp"
#include "hw/noc/shared_memory.hpp"
#include "hw/sync/clock.hpp"

namespace cx::regs {
class IntcRegs;
}

namespace cx::hw {

class ControlProcessor : public sc_core::sc_module {
 public:
  struct Config {
    uint32_t tcm_bytes = 256 * 1024;  ///< multiple of 4
    /// Longest time that the core runs ahead of the kernel, in cycles. An interrupt is seen at most this late.
    uint32_t quantum_cycles = 256;
    uint32_t speed = 1;  ///< cycles of the core in one of the chip's (cp.speed); at least 1
    Rv32CycleModel cycles;
  };

  /// Why the core stopped for good.
  struct Crash {
    uint32_t pc = 0;
    uint32_t cause = 0;
    uint32_t tval = 0;
  };

  /// Firmware memory. Addresses are offsets from its first byte. Grants DMI for reading and writing.
  tlm_utils::simple_target_socket<ControlProcessor> tcm_socket{"tcm_socket"};
  /// Register block `intc`, as the host sees it. Addresses are offsets in the block. Aligned 4-byte accesses.
  tlm_utils::simple_target_socket<ControlProcessor> intc_socket{"intc_socket"};
  /// To the NoC: aligned 1, 2 and 4-byte accesses to device addresses from 0x40000000 below TCM.
  /// Pages of `intc` itself are answered inside and do not appear here.
  tlm_utils::simple_initiator_socket<ControlProcessor> bus_socket{"bus_socket"};

  ControlProcessor(sc_core::sc_module_name name, const Clock &clock, const Config &config);
  ~ControlProcessor() override;

  /// Level of an interrupt line (hw/regs/map.yaml). Callable from any process, and before the simulation starts.
  void set_line(unsigned line, bool level);

  /// Held in reset from power-on. Releasing starts execution at the first byte of TCM; asserting stops the core at once
  /// and clears its registers, the interrupt enables and the timer. TCM keeps its contents.
  void set_reset(bool asserted);
  bool in_reset() const { return reset_; }

  /// Called with each complete line (without the newline) that the firmware wrote to TRACE.
  void on_trace(std::function<void(const std::string &line)> sink) { trace_sink_ = std::move(sink); }
  /// Called once when the core locks up. The owner sets dev.FW_STATUS to CRASHED.
  void on_crash(std::function<void(const Crash &)> sink) { crash_sink_ = std::move(sink); }

  /// Since the last release of reset: cycles not spent in wfi (dev.CP_CYCLES) and instructions (dev.CP_INSTRET).
  uint64_t cycles() const { return core_.cycles(); }
  uint64_t instructions() const { return core_.instructions(); }
  // Those of earlier starts included: never goes back.
  uint64_t instructions_ever() const { return before_restart_ + core_.instructions(); }
  /// Records functions, sleep and interrupt lines from here on; nullptr ends it.
  void set_trace(Trace *trace);

  /// Where and why the last trap was taken.
  Crash trap() const;
  /// Overwrites the next instruction with one that is illegal, with `handler` also the first of the trap handler.
  void damage_firmware(bool handler);
  /// In wfi: nothing happens until an interrupt line or the timer wakes the core.
  bool sleeping() const { return sleeping_; }
  bool crashed() const { return core_.locked(); }

  /// Device time in core cycles since the start of the simulation: what MTIME and dev.TIME read.
  uint64_t device_time() const { return clock_.now(); }

  uint8_t *tcm() { return tcm_.data(); }
  int tcm_file() const { return tcm_.file(); }  ///< other processes may map it
  void clear_tcm() { tcm_.renew(); }
  uint32_t tcm_bytes() const { return static_cast<uint32_t>(tcm_.size()); }
  const Rv32Core &core() const { return core_; }

 private:
  // What the core reaches outside TCM: the interrupt controller inside this module, everything else over the NoC.
  class CoreBus : public Rv32Bus {
   public:
    explicit CoreBus(ControlProcessor &owner) : owner_(owner) {}
    bool load(uint32_t address, unsigned size, uint32_t &value) override;
    bool store(uint32_t address, unsigned size, uint32_t value) override;
    uint64_t time() override { return owner_.local_time(); }

   private:
    ControlProcessor &owner_;
  };

  void run();
  void sleep();
  void sync();
  bool sync_for_access();
  void align_to_clock(const sc_core::sc_time &delay);
  /// The core's own time, in core cycles: ahead of the kernel by at most a quantum.
  Cycles local_time() const { return synced_edge_ + (core_.cycles() - synced_cycles_) / config_.speed; }

  bool noc_access(tlm::tlm_command command, uint32_t address, unsigned size, uint32_t &value);
  bool intc_access(tlm::tlm_command command, uint32_t offset, unsigned size, uint32_t &value);

  void setup_intc();
  void reset_intc();
  void update_external();
  void update_timer(Cycles time);
  void trace_character(char character);

  void tcm_transport(tlm::tlm_generic_payload &payload, sc_core::sc_time &delay);
  bool tcm_dmi(tlm::tlm_generic_payload &payload, tlm::tlm_dmi &dmi);
  unsigned tcm_debug(tlm::tlm_generic_payload &payload);
  void intc_transport(tlm::tlm_generic_payload &payload, sc_core::sc_time &delay);

  Clock clock_;
  Config config_;
  SharedMemory tcm_;
  CoreBus core_bus_;
  Rv32Core core_;
  std::unique_ptr<regs::IntcRegs> intc_;
  sc_core::sc_event wake_{"wake"};
  uint32_t lines_ = 0;
  Cycles synced_edge_ = 0;      // kernel time of the last synchronisation
  uint64_t synced_cycles_ = 0;  // core_.cycles() at that time
  bool reset_ = true;
  unsigned resets_ = 0;
  bool restart_ = false;         // reset was released and the core has not started yet
  uint64_t before_restart_ = 0;  // instructions of the starts before this one
  bool sleeping_ = false;
  bool core_accesses_intc_ = false;
  void begin_function_trace();
  void end_function_trace();

  Trace *trace_ = nullptr;
  std::unique_ptr<FunctionTrace> functions_;  // while the core is not in reset and traced
  std::string trace_line_;
  std::function<void(const std::string &)> trace_sink_;
  std::function<void(const Crash &)> crash_sink_;
};

}  // namespace cx::hw
