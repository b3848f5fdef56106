// PCIe endpoint: the host's door to the card. Configuration space, BARs, MSI-X, and the way to host memory.
#ifndef HW_PCIE_ENDPOINT_HPP
#define HW_PCIE_ENDPOINT_HPP

#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <systemc>
#include <tlm>
#include <utility>
#include <vector>

#include "hw/pcie/config_space.hpp"
#include "hw/pcie/host_memory.hpp"
#include "hw/pcie/link.hpp"
#include "hw/regs/gen/msix_regs.hpp"
#include "hw/sync/clock.hpp"

namespace cx::hw {

struct PcieParams {
  PcieLinkParams link;
  std::uint16_t vendor_id = 0;
  std::uint16_t device_id = 0;
  std::uint64_t bar2_bytes = 0;  // power of two
  std::uint64_t tcm_bytes = 0;   // part of BAR2 that is there
  std::uint64_t bar4_bytes = 0;  // power of two of at least 1 MiB
  std::uint64_t dram_bytes = 0;  // part of BAR4 that is there
};

// Requests by the host arrive in order: posted writes one latency after they were sent, reads are answered over the
// link. The port (hw/chip) lets simulated time pass until a read is done.
class PcieEndpoint : public sc_core::sc_module {
 public:
  static constexpr int kConfigSpace = -1;

  tlm_utils::simple_initiator_socket<PcieEndpoint> bus;     // to the NoC, as the host
  tlm_utils::simple_target_socket<PcieEndpoint> registers;  // block msix

  PcieEndpoint(sc_core::sc_module_name name, const Clock &clock, const PcieParams &params);
  ~PcieEndpoint() override;

  // Declares the registers of a page of BAR0, so that accesses to others are refused.
  void add_registers(std::uint64_t bar0_offset, const regs::RegFile &file);
  void add_registers(std::uint64_t bar0_offset, std::span<const regs::RegDesc> table);

  // ---- the host's side, called outside of processes ----

  struct Read {
    int bar;
    std::uint64_t offset;
    std::byte *data;
    std::size_t size;
    bool done = false;
    std::string error;  // empty: `data` is filled
  };

  // Why an access would be refused; nothing if it is all right. Counts what it refuses.
  std::optional<std::string> refuse(int bar, std::uint64_t offset, std::size_t size);
  // Sends a posted write. refuse() must have let it pass.
  void post_write(int bar, std::uint64_t offset, const void *data, std::size_t size);
  // Sends a read request (or a configuration access); `read` must live until it is done.
  void send_read(Read &read);
  // Configuration writes are not posted: `write.data` holds the value.
  void send_config_write(Read &write);

  HostMemory &host_memory() { return host_memory_; }
  const HostMemory &host_memory() const { return host_memory_; }

  // Messages that have arrived at the host, oldest first.
  std::deque<std::uint32_t> &arrived() { return arrived_; }

  // An error message (ERR_FATAL), or that the link went down, has reached the host since the last call.
  bool take_error();
  // The same once for each such error, for who wakes the host; take_error() still tells of it.
  bool announce_error() { return std::exchange(announce_, false); }

  std::uint64_t refused_accesses() const { return refused_; }

  // ---- the card's side ----

  PcieLink &link() { return link_; }
  const ConfigSpace &config() const { return config_; }
  // Whether the function may touch host memory at all (command register).
  bool bus_master() const { return config_.bus_master(); }
  // DMA met an address that is not mapped: recorded in the status registers.
  void note_host_fault() { config_.set_status(ConfigSpace::kReceivedMasterAbort); }

  // While the link is down requests of the host are lost (reads give ones), DMA and messages do not leave the card.
  // When it comes up again the function is reset as by the host.
  bool link_up() const { return link_up_; }
  void set_link(bool up);
  // An internal error of the device, for advanced error reporting; one that is not correctable is reported to the host.
  void internal_error(bool correctable);

  // The system DMA's accesses to what lies in its address space, the host's or another function's: when the last byte
  // is on the card; when it has left the card, or is in the other's memory.
  Cycles dma_read(Cycles start, const PcieRuns &runs);
  Cycles dma_write(Cycles start, const PcieRuns &runs);

  // Another function's access to device memory at `offset` of BAR4: when it is stored; when its last byte has left the
  // card.
  Cycles peer_write(Cycles arrival, std::uint64_t offset, const PcieRuns &runs);
  Cycles peer_read(Cycles arrival, std::uint64_t offset, const PcieRuns &runs);
  // Prices accesses to device memory: from a cycle, bytes from an offset over a span, whether they write.
  using MemoryPrice =
      std::function<Cycles(Cycles, std::uint64_t offset, std::uint64_t span, std::uint64_t bytes, bool)>;
  void on_peer_access(MemoryPrice price) { memory_price_ = std::move(price); }

  // Records messages and what passes on the link from here on; nullptr ends it. `cause`: of a message that is raised.
  void set_trace(Trace *trace, std::function<std::uint64_t()> cause = {});

  // Raises a vector: sends its message, or keeps it pending while it is masked, MSI-X is off or the function may not
  // master the bus.
  void raise(std::uint32_t vector);

  // What the host's system software does to the function without a register access: a function-level reset; MSI-X
  // on and a vector unmasked (armed) or masked. False: there is no such vector.
  void function_reset();
  bool arm(std::uint32_t vector, bool armed);
  // Bytes of a BAR or of configuration space; 0 if there is none.
  std::uint64_t region_bytes(int bar) const;

  // Called when the host has initiated a function-level reset.
  void on_function_reset(std::function<void()> callback) { function_reset_ = std::move(callback); }

  // Device reset without the link: MSI-X table, pending bits, counters. `power_on` also resets configuration space,
  // drops what is under way and forgets the host's mappings.
  void reset(bool power_on);

 private:
  struct Request {
    Cycles arrival;
    int bar;
    std::uint64_t offset;
    std::vector<std::byte> posted;  // data of a posted write
    Read *read = nullptr;
    bool config_write = false;
  };
  struct Message {
    Cycles arrival;
    std::uint32_t vector;
  };

  void serve();
  void serve_one(Request &request);
  void answer(Read &read, Cycles ready);
  void bus_access(bool write, int bar, std::uint64_t offset, std::byte *data, std::size_t size, sc_core::sc_time &delay,
                  std::string &error);
  void deliver_messages();
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void setup_registers();
  bool deliverable(std::uint32_t vector) const;
  void send(std::uint32_t vector);
  void send_pending();
  bool pending(std::uint32_t vector) const;
  void set_pending(std::uint32_t vector, bool value);
  PcieLimits limits() const;
  void apply_config();

  Clock clock_;
  PcieParams params_;
  PcieLink link_;
  ConfigSpace config_;
  HostMemory host_memory_;
  regs::MsixRegs regs_;
  std::vector<bool> words_;  // of BAR0: whether a register is there

  std::deque<Request> requests_;
  sc_core::sc_event request_event_;
  std::deque<Message> messages_;
  sc_core::sc_event message_event_;
  std::deque<std::uint32_t> arrived_;
  std::uint64_t refused_ = 0;
  bool link_up_ = true;
  bool error_ = false, announce_ = false;
  std::function<void()> function_reset_;
  MemoryPrice memory_price_;
  Trace *trace_ = nullptr;
  std::function<std::uint64_t()> message_cause_;
};

}  // namespace cx::hw

#endif
