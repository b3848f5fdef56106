// System DMA: channels that the control processor programs to copy between host and device memory, and to fill.
#ifndef HW_SDMA_SDMA_HPP
#define HW_SDMA_SDMA_HPP

#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <systemc>
#include <tlm>
#include <vector>

#include "hw/noc/noc.hpp"
#include "hw/pcie/endpoint.hpp"
#include "hw/regs/gen/sdma_regs.hpp"
#include "hw/sync/clock.hpp"
#include "hw/trace/packet_watch.hpp"

namespace cx::hw {

// Timing rule: README.md. Faults set STATUS.ERROR and FAULT of the channel; what was moved before stays moved.
class Sdma : public sc_core::sc_module {
 public:
  // A transfer is carried out in pieces of at most this many bytes, several of which are under way at once.
  static constexpr std::uint64_t kPieceBytes = 8192;
  static constexpr unsigned kPiecesInFlight = 8;
  static constexpr Cycles kStartCycles = 8;  // from START to the first request

  tlm_utils::simple_target_socket<Sdma> registers;
  tlm_utils::simple_initiator_socket<Sdma> memory;

  // `channels`: 1 to 4 (sdma.channels); START of others ends with UNSUPPORTED.
  Sdma(sc_core::sc_module_name name, const Clock &clock, Noc &noc, PcieEndpoint &endpoint, unsigned channels);
  ~Sdma() override;

  // Level of interrupt line 'sdma': any bit of DONE.
  void on_interrupt(std::function<void(bool)> callback) { interrupt_ = std::move(callback); }

  // Bytes that transfers stored; no reset takes them back.
  std::uint64_t bytes_moved() const { return bytes_moved_; }

  // Records transfers from here on, and shows the firmware's own to `packets`; nullptr ends it.
  void set_trace(Trace *trace, PacketWatch *packets);

  // ---- faults that are provoked ----

  // The next transfers of packets that touch host memory find it not mapped.
  void inject_iommu(unsigned count) { lost_mappings_ += count; }
  // The next packets that are fetched arrive with a wrong bit in their type.
  void inject_packet(unsigned count) { damaged_packets_ += count; }
  // Those that have not come are forgotten.
  void forget_faults() { lost_mappings_ = damaged_packets_ = 0; }

  // Stops everything; registers to their reset values.
  void reset();

 private:
  struct Transfer {
    std::uint64_t src, dst;
    std::uint64_t row_bytes, rows;
    std::uint64_t src_pitch, dst_pitch;
    std::uint32_t pattern;
    bool src_host, dst_host, fill;
  };
  // Part of a transfer: whole rows, or part of one row.
  struct Piece {
    std::uint64_t row, column;  // of its first byte
    std::uint64_t rows, row_bytes;
    Cycles end;
  };
  struct Fault {
    std::uint32_t status = 0;  // CX_STATUS_OK
    std::uint64_t address = 0;
  };
  struct Channel {
    sc_core::sc_event start;
    sc_core::sc_event stop;
    std::uint64_t epoch = 0;  // counts starts and stops
    bool busy = false;
    std::uint64_t record = 0;             // id of the transfer's trace record
    std::array<Cycles, kLimits> spent{};  // of the transfer's pieces, by Limit
  };

  void setup_registers();
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void invalidate_dmi(sc_dt::uint64 first, sc_dt::uint64 last);
  void write_control(unsigned channel, std::uint32_t bits);
  void finish(unsigned channel, const Fault &fault);
  void update_interrupt();

  void record(unsigned channel, const Transfer &transfer, Cycles begin, const Fault &fault);
  void thread(unsigned channel);
  // False when the channel was stopped meanwhile.
  bool run(unsigned channel, std::uint64_t epoch, Transfer transfer, Fault &fault);
  bool wait_until(unsigned channel, std::uint64_t epoch, Cycles cycle);
  Fault check(const Transfer &transfer);
  Fault check_device(std::uint64_t address, const Transfer &transfer, std::uint64_t pitch);
  Cycles price(const Transfer &transfer, const Piece &piece, Cycles start, Channel &channel);
  Fault move(unsigned channel, const Transfer &transfer, const Piece &piece);
  Fault host_access(unsigned channel, std::uint64_t address, std::uint64_t bytes, bool write);
  Fault read_memory(std::uint64_t address, std::uint64_t bytes);
  void write_memory(std::uint64_t address, std::uint64_t bytes);
  void damage_packet(unsigned channel, const Transfer &transfer, std::byte *packets);
  std::byte *device_memory(std::uint64_t address, std::uint64_t bytes);

  Clock clock_;
  Noc &noc_;
  PcieEndpoint &endpoint_;
  unsigned channels_;
  Noc::InitiatorId initiator_;
  regs::SdmaRegs regs_;
  std::deque<Channel> channel_;
  std::vector<tlm::tlm_dmi> dmi_;
  std::function<void(bool)> interrupt_;
  Trace *trace_ = nullptr;
  PacketWatch *packets_ = nullptr;
  std::uint64_t bytes_moved_ = 0;
  unsigned lost_mappings_ = 0, damaged_packets_ = 0;
};

}  // namespace cx::hw

#endif
