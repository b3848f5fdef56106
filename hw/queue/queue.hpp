// Block queue: registers of the command rings and their doorbells. Packets themselves are the firmware's.
#ifndef HW_QUEUE_QUEUE_HPP
#define HW_QUEUE_QUEUE_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstdint>
#include <functional>
#include <systemc>
#include <tlm>

#include "hw/regs/gen/queue_regs.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/packet_watch.hpp"

namespace cx::hw {

class Queue : public sc_core::sc_module {
 public:
  tlm_utils::simple_target_socket<Queue> registers;

  // `rings`: 1 to 16 (queues.count). Doorbells of others ring nothing.
  Queue(sc_core::sc_module_name name, const Clock &clock, unsigned rings);

  // Level of interrupt line 'doorbell': any bit of DB_PENDING.
  void on_interrupt(std::function<void(bool)> callback) { interrupt_ = std::move(callback); }

  // Records doorbells from here on, and shows READ_INDEX to `packets`; nullptr ends it.
  void set_trace(Trace *trace, PacketWatch *packets);
  // Of a ring that is enabled; else no bytes.
  PacketWatch::Ring ring(unsigned number) const;

  const regs::QueueRegs &file() const { return regs_; }
  void reset();

 private:
  void setup_registers();
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void set_pending(std::uint32_t bits);

  Clock clock_;
  unsigned rings_;
  regs::QueueRegs regs_;
  std::function<void(bool)> interrupt_;
  Trace *trace_ = nullptr;
  PacketWatch *packets_ = nullptr;
};

}  // namespace cx::hw

#endif
