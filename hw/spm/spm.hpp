// Scratchpad memory shared by the engines.
#ifndef HW_SPM_SPM_HPP
#define HW_SPM_SPM_HPP

#include <tlm_utils/simple_target_socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/noc/bandwidth.hpp"
#include "hw/noc/noc.hpp"
#include "hw/noc/store.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

struct SpmParams {
  std::uint64_t bytes = 1 << 20;  // spm.kib * 1024; at most 4 GiB
  unsigned banks = 8;             // spm.banks
  double bytes_per_cycle = 64;    // of one port in each direction, and of one bank (spm.bytes_per_cycle)
  Cycles latency_cycles = 4;      // spm.latency_cycles
};

// Timing: a request holds its port (separate for reads and writes) for bytes / bytes_per_cycle and the array for
// bytes / (banks * bytes_per_cycle), first come first served; its last byte is there latency_cycles later.
class Spm : public sc_core::sc_module, public MemoryTiming {
 public:
  using PortId = unsigned;

  // Zeroed. Throws std::invalid_argument for sizes of 0 or above 4 GiB, no banks, or no bandwidth.
  Spm(sc_core::sc_module_name name, const Clock &clock, const SpmParams &params);
  ~Spm() override;

  tlm_utils::simple_target_socket<Spm> socket;  // addresses from 0; grants DMI to everything

  std::byte *data() { return store_.data(); }
  const std::byte *data() const { return store_.data(); }
  std::uint64_t bytes() const { return params_.bytes; }
  const SpmParams &params() const { return params_; }

  // At elaboration: a private port of an engine.
  PortId add_port(const std::string &name);

  // Prices and counts `bytes` through `port` from cycle `start`. Returns the cycle at which the last byte is there.
  // The caller moves the data by data().
  Cycles reserve(PortId port, Cycles start, std::uint64_t bytes, bool write);

  // The NoC's port (MemoryTiming).
  Cycles reserve(Cycles start, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool write) override;
  Cycles access_latency() const override { return params_.latency_cycles; }

  std::uint64_t bytes_read() const { return bytes_read_; }
  std::uint64_t bytes_written() const { return bytes_written_; }

  // Contents and counters to zero, ports free.
  void reset();

 private:
  struct Port {
    std::string name;
    BandwidthServer read, write;
  };

  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  bool get_direct_mem_ptr(tlm::tlm_generic_payload &transaction, tlm::tlm_dmi &dmi);
  unsigned transport_dbg(tlm::tlm_generic_payload &transaction);

  Clock clock_;
  SpmParams params_;
  std::vector<Port> ports_;  // 0 is the NoC's
  BandwidthServer array_;
  Store store_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t bytes_written_ = 0;
};

}  // namespace cx::hw

#endif
