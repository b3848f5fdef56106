#include "hw/spm/spm.hpp"

#include <algorithm>
#include <stdexcept>

#include "hw/noc/memory_target.hpp"

namespace cx::hw {

namespace {

const SpmParams &checked(const SpmParams &params) {
  if (params.bytes == 0 || params.bytes > (std::uint64_t{1} << 32)) {
    throw std::invalid_argument("spm: the size must be above 0 and at most 4 GiB");
  }
  if (params.banks == 0) throw std::invalid_argument("spm: at least one bank");
  return params;
}

}  // namespace

Spm::Spm(sc_core::sc_module_name name, const Clock &clock, const SpmParams &params)
    : sc_module(name),
      socket("socket"),
      clock_(clock),
      params_(checked(params)),
      array_(params.bytes_per_cycle * params.banks),
      store_(params.bytes, "spm") {
  add_port("noc");
  socket.register_b_transport(this, &Spm::b_transport);
  socket.register_get_direct_mem_ptr(this, &Spm::get_direct_mem_ptr);
  socket.register_transport_dbg(this, &Spm::transport_dbg);
}

Spm::~Spm() = default;

Spm::PortId Spm::add_port(const std::string &name) {
  ports_.push_back({name, BandwidthServer(params_.bytes_per_cycle), BandwidthServer(params_.bytes_per_cycle)});
  return static_cast<PortId>(ports_.size() - 1);
}

Cycles Spm::reserve(PortId port_id, Cycles start, std::uint64_t bytes, bool write) {
  Port &port = ports_.at(port_id);
  const Cycles port_end = (write ? port.write : port.read).reserve(start, bytes);
  const Cycles array_end = array_.reserve(start, bytes);
  (write ? bytes_written_ : bytes_read_) += bytes;
  return std::max(port_end, array_end) + params_.latency_cycles;
}

Cycles Spm::reserve(Cycles start, std::uint64_t, std::uint64_t, std::uint64_t bytes, bool write) {
  return reserve(0, start, bytes, write);
}

void Spm::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  const unsigned bytes = access_memory(transaction, store_.data(), params_.bytes);
  if (bytes == 0) return;
  const Cycles start = clock_.ceil(sc_core::sc_time_stamp() + delay);
  delay = clock_.until(reserve(0, start, bytes, transaction.is_write()));
}

bool Spm::get_direct_mem_ptr(tlm::tlm_generic_payload &, tlm::tlm_dmi &dmi) {
  grant_memory(dmi, store_.data(), params_.bytes);
  return true;
}

unsigned Spm::transport_dbg(tlm::tlm_generic_payload &transaction) {
  return debug_memory(transaction, store_.data(), params_.bytes);
}

void Spm::reset() {
  store_.clear();
  for (Port &port : ports_) {
    port.read.reset();
    port.write.reset();
  }
  array_.reset();
  bytes_read_ = 0;
  bytes_written_ = 0;
}

}  // namespace cx::hw
