#include "hw/queue/queue.hpp"

#include <stdexcept>
#include <string>

#include "hw/noc/register_target.hpp"

namespace cx::hw {

using regs::QueueReg;
using regs::QueueRegs;

Queue::Queue(sc_core::sc_module_name name, const Clock &clock, unsigned rings)
    : sc_module(name), registers("registers"), clock_(clock), rings_(rings) {
  if (rings == 0 || rings > QueueRegs::DOORBELL_COUNT) {
    throw std::invalid_argument("queue block with " + std::to_string(rings) + " rings");
  }
  registers.register_b_transport(this, &Queue::b_transport);
  setup_registers();
}

void Queue::setup_registers() {
  regs_.on_write(QueueReg::READ_INDEX, [this](unsigned ring, std::uint32_t, std::uint32_t, std::uint32_t now) {
    if (packets_ != nullptr) packets_->read_index(ring, now);
  });
  regs_.on_write(QueueReg::DOORBELL, [this](unsigned ring, std::uint32_t, std::uint32_t, std::uint32_t now) {
    if (trace_ != nullptr) {
      const std::uint64_t time = trace_->kernel_time(sc_core::sc_time_stamp().value());
      trace_->append({time, time, trace_->new_id(), 0, CX_TRACE_DOORBELL, static_cast<std::uint16_t>(ring), 0, {now}});
    }
    if (ring < rings_) set_pending(regs_.get(QueueReg::DB_PENDING) | 1u << ring);
  });
  regs_.on_write(QueueReg::DB_PENDING,
                 [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t now) { set_pending(now); });
  regs_.on_write(QueueReg::STATE, [this](unsigned ring, std::uint32_t old, std::uint32_t, std::uint32_t now) {
    const std::uint32_t mask = QueueRegs::STATE_STATE.mask();
    if ((old & mask) == QueueRegs::STATE_STATE_DISABLED && (now & mask) == QueueRegs::STATE_STATE_ENABLED) {
      regs_.set(QueueReg::DOORBELL, 0, ring);
      set_pending(regs_.get(QueueReg::DB_PENDING) & ~(1u << ring));
    }
  });
}

void Queue::set_trace(Trace *trace, PacketWatch *packets) {
  trace_ = trace;
  packets_ = trace != nullptr ? packets : nullptr;
}

PacketWatch::Ring Queue::ring(unsigned number) const {
  if (number >= rings_ || regs_.get(QueueRegs::STATE_STATE, number) != QueueRegs::STATE_STATE_ENABLED) return {};
  const std::uint64_t packets = std::uint64_t{1} << regs_.get(QueueRegs::SIZE_LOG2, number);
  return {regs_.get64(QueueReg::BASE_LO, number), packets * CX_PACKET_BYTES};
}

void Queue::set_pending(std::uint32_t bits) {
  regs_.set(QueueReg::DB_PENDING, bits);
  if (interrupt_) interrupt_(bits != 0);
}

void Queue::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

void Queue::reset() {
  regs_.reset();
  set_pending(0);
}

}  // namespace cx::hw
