// Block ras: the event log.
#ifndef HW_RAS_RAS_HPP
#define HW_RAS_RAS_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <functional>
#include <systemc>
#include <tlm>

#include "hw/ras/memory_errors.hpp"
#include "hw/regs/gen/ras_regs.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

// Classes of events: bit numbers of ras.PENDING.
enum class EventClass : unsigned {
  iommu,
  packet,
  instruction,
  program,
  ecc_corrected,
  ecc_uncorrected,
  hang,
  firmware_crash,
  link_down,
  thermal,
  engine
};

struct Event {
  static constexpr std::uint32_t kNobody = 0xffff;  // neither a queue nor an engine

  std::uint32_t status = 0;        // CX_STATUS_*
  std::uint32_t source = kNobody;  // as EVENT_SOURCE
  std::uint32_t packet = 0;
  std::uint32_t pc = 0;
  std::uint64_t address = 0;
  std::uint32_t info = 0;
};

class Ras : public sc_core::sc_module {
 public:
  struct Hooks {
    std::function<void(std::uint32_t vector)> raise;  // sends an MSI-X message
    std::function<void(EventClass)> seen;             // after each event that was captured or counted
    std::function<void(bool tripped)> trip;           // the engines are to stop, or may run again
  };

  tlm_utils::simple_target_socket<Ras> registers;

  Ras(sc_core::sc_module_name name, const Clock &clock, Hooks hooks);

  // Captures the first event of its class, counts later ones.
  void post(EventClass kind, const Event &event);

  // Memory corrected an error: counted, and an event.
  void corrected(const MemoryErrors::Report &report);
  // A consumer met an error that cannot be corrected. The firmware posts the event, which takes its details from here.
  void uncorrected(const MemoryErrors::Report &report) { uncorrected_ = report; }

  // Stops the engines until `release()` or the host's THERMAL_ACK.
  void trip(std::uint32_t celsius);
  void release();
  bool tripped() const { return regs_.get(regs::RasRegs::THERMAL_TRIPPED) != 0; }

  const regs::RasRegs &file() const { return regs_; }

  // What the log holds stays; the host's settings go with a function-level reset, everything at power-on.
  void reset(bool function, bool power_on);

 private:
  void setup_registers();
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void clear(unsigned kind);
  void post_prepared(std::uint32_t kind);
  void raise();

  Clock clock_;
  Hooks hooks_;
  regs::RasRegs regs_;
  std::uint32_t order_ = 0;
  MemoryErrors::Report uncorrected_;
};

}  // namespace cx::hw

#endif
