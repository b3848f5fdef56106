#include "hw/noc/noc.hpp"

#include <algorithm>
#include <stdexcept>

#include "hw/ras/memory_errors.hpp"

namespace cx::hw {

// Sockets live in modules; these are children of whichever module is under construction.
struct Noc::Initiator : sc_core::sc_module {
  Initiator(sc_core::sc_module_name module_name, const std::string &label, double bytes_per_cycle)
      : sc_module(module_name), label(label), socket("socket"), read(bytes_per_cycle), write(bytes_per_cycle) {}

  std::string label;
  tlm_utils::simple_target_socket_tagged<Noc> socket;
  OriginExtension origin;
  BandwidthServer read, write;
};

struct Noc::Target : sc_core::sc_module {
  Target(sc_core::sc_module_name module_name, const std::string &label, double bytes_per_cycle)
      : sc_module(module_name), label(label), socket("socket"), read(bytes_per_cycle), write(bytes_per_cycle) {}

  std::string label;
  tlm_utils::simple_initiator_socket_tagged<Noc> socket;
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  MemoryTiming *timing = nullptr;
  BandwidthServer read, write;
};

Noc::Noc(sc_core::sc_module_name name, const Clock &clock, const NocParams &params)
    : sc_module(name), clock_(clock), params_(params) {
  BandwidthServer{params.bytes_per_cycle};  // checks the rate
}

Noc::~Noc() = default;

Noc::InitiatorId Noc::add_initiator(const std::string &name, tlm::tlm_initiator_socket<> &socket, regs::Side side) {
  const auto id = static_cast<InitiatorId>(initiators_.size());
  auto &initiator = *initiators_.emplace_back(
      std::make_unique<Initiator>(("noc_from_" + name).c_str(), name, params_.bytes_per_cycle));
  initiator.origin.side = side;
  const int tag = static_cast<int>(id);
  initiator.socket.register_b_transport(this, &Noc::b_transport, tag);
  initiator.socket.register_get_direct_mem_ptr(this, &Noc::get_direct_mem_ptr, tag);
  initiator.socket.register_transport_dbg(this, &Noc::transport_dbg, tag);
  socket.bind(initiator.socket);
  return id;
}

Noc::TargetId Noc::add_target(const std::string &name, std::uint64_t base, std::uint64_t size,
                              tlm::tlm_target_socket<> &socket, MemoryTiming *timing, unsigned lanes) {
  if (size == 0 || base + (size - 1) < base)
    throw std::invalid_argument("noc: window of " + name + " is empty or wraps");
  if (lanes == 0) throw std::invalid_argument("noc: " + name + " has no lanes");
  for (const auto &other : targets_) {
    if (base <= other->base + (other->size - 1) && other->base <= base + (size - 1)) {
      throw std::invalid_argument("noc: windows of " + name + " and " + other->label + " overlap");
    }
  }
  const auto id = static_cast<TargetId>(targets_.size());
  auto &target = *targets_.emplace_back(
      std::make_unique<Target>(("noc_to_" + name).c_str(), name, params_.bytes_per_cycle * lanes));
  target.base = base;
  target.size = size;
  target.timing = timing;
  target.socket.register_invalidate_direct_mem_ptr(this, &Noc::invalidate_direct_mem_ptr, static_cast<int>(id));
  target.socket.bind(socket);
  by_base_.push_back(&target);
  std::sort(by_base_.begin(), by_base_.end(), [](const Target *a, const Target *b) { return a->base < b->base; });
  return id;
}

const Noc::Target *Noc::route(std::uint64_t address, std::uint64_t bytes) const {
  auto next = std::upper_bound(by_base_.begin(), by_base_.end(), address,
                               [](std::uint64_t value, const Target *target) { return value < target->base; });
  if (next == by_base_.begin()) return nullptr;
  const Target *target = *--next;
  const std::uint64_t offset = address - target->base;
  return offset < target->size && bytes <= target->size - offset ? target : nullptr;
}

Noc::Target *Noc::route(std::uint64_t address, std::uint64_t bytes) {
  return const_cast<Target *>(static_cast<const Noc *>(this)->route(address, bytes));
}

Cycles Noc::hold_links(Initiator &initiator, Target &target, Cycles start, std::uint64_t bytes, bool write) {
  BandwidthServer &near = write ? initiator.write : initiator.read;
  BandwidthServer &far = write ? target.write : target.read;
  const std::uint64_t begin =
      std::max({start << BandwidthServer::kFraction, near.busy_until_fine(), far.busy_until_fine()});
  const std::uint64_t near_end = near.reserve_fine(begin, bytes);
  const std::uint64_t far_end = far.reserve_fine(begin, bytes);
  bytes_carried_ += bytes;
  return BandwidthServer::ceil(std::max(near_end, far_end));
}

Cycles Noc::reserve(InitiatorId initiator_id, Cycles start, std::uint64_t address, std::uint64_t span,
                    std::uint64_t bytes, bool write) {
  Initiator &initiator = *initiators_.at(initiator_id);
  Target *target = route(address, span);
  if (!target) throw std::out_of_range("noc: reservation of an address range that is not mapped");
  const Cycles one_way = kHopsOneWay * params_.hop_cycles;
  const Cycles arrival = start + one_way;
  const Cycles latency = target->timing ? target->timing->access_latency() : 0;
  const Cycles memory_end =
      target->timing ? target->timing->reserve(arrival, address - target->base, span, bytes, write) : arrival;
  if (write) {
    const Cycles arrived = hold_links(initiator, *target, start, bytes, true) + one_way;
    return std::max(memory_end, arrived + latency);
  }
  const Cycles sent = hold_links(initiator, *target, arrival + latency, bytes, false);
  return std::max(memory_end, sent) + one_way;
}

Cycles Noc::latency(std::uint64_t address, bool write) const {
  const Target *target = route(address, 1);
  if (!target) throw std::out_of_range("noc: latency of an address that is not mapped");
  const Cycles memory = target->timing ? target->timing->access_latency() : 0;
  return (write ? 1 : 2) * kHopsOneWay * params_.hop_cycles + memory;
}

void Noc::b_transport(int initiator_id, tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  Initiator &initiator = *initiators_[static_cast<unsigned>(initiator_id)];
  const std::uint64_t address = transaction.get_address();
  Target *target = route(address, transaction.get_data_length());
  if (!target) {
    transaction.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    return;
  }
  const sc_core::sc_time one_way = clock_.span(kHopsOneWay * params_.hop_cycles);
  const bool write = transaction.is_write();
  const auto hold = [&] {
    const Cycles start = clock_.ceil(sc_core::sc_time_stamp() + delay);
    delay = clock_.until(hold_links(initiator, *target, start, transaction.get_data_length(), write));
  };
  if (write) hold();
  delay += one_way;
  OriginExtension *outer = transaction.set_extension(&initiator.origin);
  transaction.set_address(address - target->base);
  target->socket->b_transport(transaction, delay);
  transaction.set_address(address);
  transaction.set_extension(outer);
  if (!write) hold();
  delay += one_way;
}

bool Noc::get_direct_mem_ptr(int, tlm::tlm_generic_payload &transaction, tlm::tlm_dmi &dmi) {
  const std::uint64_t address = transaction.get_address();
  Target *target = route(address, 1);
  if (!target) {
    dmi.allow_none();
    dmi.set_start_address(address);
    dmi.set_end_address(address);
    return false;
  }
  transaction.set_address(address - target->base);
  const bool granted = target->socket->get_direct_mem_ptr(transaction, dmi);
  transaction.set_address(address);
  if (dmi.get_end_address() > target->size - 1) dmi.set_end_address(target->size - 1);
  dmi.set_start_address(dmi.get_start_address() + target->base);
  dmi.set_end_address(dmi.get_end_address() + target->base);
  return granted;
}

unsigned Noc::transport_dbg(int initiator_id, tlm::tlm_generic_payload &transaction) {
  const std::uint64_t address = transaction.get_address();
  Target *target = route(address, 1);
  if (!target) return 0;
  const std::uint64_t room = target->size - (address - target->base);
  const unsigned length = transaction.get_data_length();
  OriginExtension *outer = transaction.set_extension(&initiators_[static_cast<unsigned>(initiator_id)]->origin);
  transaction.set_address(address - target->base);
  transaction.set_data_length(static_cast<unsigned>(std::min<std::uint64_t>(length, room)));
  const unsigned done = target->socket->transport_dbg(transaction);
  transaction.set_data_length(length);
  transaction.set_address(address);
  transaction.set_extension(outer);
  return done;
}

void Noc::invalidate_direct_mem_ptr(int target_id, sc_dt::uint64 first, sc_dt::uint64 last) {
  const Target &target = *targets_[static_cast<unsigned>(target_id)];
  if (first > target.size - 1) return;
  last = std::min<sc_dt::uint64>(last, target.size - 1);
  for (auto &initiator : initiators_)
    initiator->socket->invalidate_direct_mem_ptr(target.base + first, target.base + last);
}

MemoryErrors *Noc::memory_errors() const {
  return memory_errors_ != nullptr && !memory_errors_->empty() ? memory_errors_ : nullptr;
}

void Noc::reset() {
  for (auto &initiator : initiators_) {
    initiator->read.reset();
    initiator->write.reset();
  }
  for (auto &target : targets_) {
    target->read.reset();
    target->write.reset();
  }
  bytes_carried_ = 0;
}

}  // namespace cx::hw
