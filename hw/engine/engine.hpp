// Common front end of the engines: registers, instruction fetch, semaphores, descriptors, faults and counters.
#ifndef HW_ENGINE_ENGINE_HPP
#define HW_ENGINE_ENGINE_HPP

#include <tlm_utils/simple_initiator_socket.h>
#include <tlm_utils/simple_target_socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <systemc>
#include <tlm>
#include <utility>
#include <vector>

#include "hw/engine/timing.hpp"
#include "hw/noc/noc.hpp"
#include "hw/regs/gen/isa.hpp"
#include "hw/spm/spm.hpp"
#include "hw/sync/clock.hpp"
#include "hw/sync/semaphores.hpp"
#include "hw/trace/trace.hpp"

namespace cx::regs {
class EngineRegs;
}

namespace cx::hw {

// Thrown by execute() and the helpers: the engine stops in STATUS.FAULT.
struct UnitFault : std::exception {
  UnitFault(std::uint32_t status_code, std::uint64_t fault_address) : status(status_code), address(fault_address) {}
  const char *what() const noexcept override { return "engine fault"; }

  std::uint32_t status;   // CX_STATUS_*
  std::uint64_t address;  // offending address or operand
};

// A scratchpad descriptor (TDESC): dims[3] is innermost; strides in bytes, may be 0 or negative.
struct TensorView {
  isa::DType dtype;
  std::uint32_t element_bytes;
  std::uint32_t base;  // byte offset in the scratchpad
  std::array<std::uint32_t, 4> dims;
  std::array<std::int32_t, 4> strides;

  std::uint64_t elements() const { return std::uint64_t{dims[0]} * dims[1] * dims[2] * dims[3]; }
  std::uint64_t total_bytes() const { return elements() * element_bytes; }
};

// A memory descriptor (MDESC).
struct MemoryView {
  std::uint32_t segment;
  std::uint64_t offset;  // byte offset in the segment
  std::array<std::int32_t, 4> strides;
};

// A segment table record.
struct Segment {
  std::uint64_t base;
  std::uint64_t bytes;
};

// Bytes that a strided view touches, as offsets: [first, end).
struct Extent {
  std::int64_t first;
  std::int64_t end;
};
// `base` is the offset of element 0; every dim is at least 1.
Extent extent_of(std::int64_t base, const std::array<std::uint32_t, 4> &dims,
                 const std::array<std::int32_t, 4> &strides, std::uint32_t element_bytes);

// What an engine is connected to. All must outlive it.
struct EngineContext {
  const Clock &clock;
  Noc &noc;
  Spm &spm;
  Semaphores &semaphores;
};

// The constructor adds the engine to the NoC (as initiator) and to the scratchpad (a port). The chip connects
// `registers` (to a NoC window) and `irq`.
class Engine : public sc_core::sc_module {
 public:
  tlm_utils::simple_target_socket<Engine> registers;
  tlm_utils::simple_initiator_socket<Engine> memory;
  sc_core::sc_out<bool> irq;  // level: STATUS.DONE or STATUS.FAULT

  ~Engine() override;

  isa::Engine engine_id() const { return id_; }

  // Device reset: like CTRL.RESET, and counters and all registers to their reset values.
  // `keep_hang`: a hang that only a function-level reset cures stays.
  void reset(bool keep_hang = false);

  // Records streams, data instructions and waits from here on; nullptr ends it. `packet` says which packet launched the
  // program whose stream lies at an address (0: not known).
  void set_trace(Trace *trace, std::function<std::uint64_t(std::uint64_t address)> packet = {});

  bool busy() const { return state_ == State::running; }
  // Where the stream that runs lies.
  std::uint64_t stream_address() const { return stream_base_; }
  // Counter WR.
  std::uint64_t bytes_written() const { return bytes_written_; }

  // ---- faults that are provoked ----

  // What brings a unit that hangs back to work.
  enum class Cure : std::uint8_t { reset, hard_reset, device_reset };
  // The next data instruction is taken and never done.
  void inject_hang(Cure cure) { hang_ = {true, false, cure}; }
  // The next instructions arrive damaged and do not decode.
  void inject_illegal(unsigned count) { illegal_ += count; }
  // The next memory descriptors that are used have a wrong bit in their offset.
  void inject_bad_address(unsigned count) { bad_addresses_ += count; }
  // Those that have not come, or hang still, are forgotten.
  void forget_faults() {
    hang_ = {};
    illegal_ = bad_addresses_ = 0;
  }
  // Called when the semaphores are cleared: a launch begins.
  void on_semaphore_clear(std::function<void()> callback) { semaphore_clear_ = std::move(callback); }
  // The clock of the engine is off: what runs faults with THERMAL_TRIP, and so does what is started.
  void set_tripped(bool tripped);
  // `issuing` is called before each data instruction, `stretch` says what its timing becomes (never shorter). Without
  // them the clock runs as it is.
  void set_clock_control(std::function<void()> issuing, std::function<Timing(const Timing &)> stretch) {
    issuing_ = std::move(issuing);
    stretch_ = std::move(stretch);
  }
  // One line for a watchdog's report: state, PC, semaphore waited on.
  std::string dump() const;

 protected:
  Engine(sc_core::sc_module_name name, isa::Engine id, const EngineContext &context);

  // Carries out a data instruction (not NOP, SEM_*, END, TDESC, MDESC), already validated for this engine. Called at
  // the simulated time of its issue. All effects on memory happen in the call; it must not wait().
  virtual Timing execute(const isa::Inst &inst) = 0;

  // Before a post or the end of a stream takes effect at cycle `until`: whatever the unit does late and completes until
  // then has to be done. May throw UnitFault. Called from a method process: must not wait().
  virtual void settle(Cycles until) { (void)until; }

  // The unit's state between instructions (loaded weights, accumulators' validity) to its state after power-on. Called
  // at START, CTRL.RESET and device reset.
  virtual void reset_unit() {}

  // ---- helpers for execute() ----

  // Of `tiles` tiles, those that instructions may use.
  std::uint32_t tiles_on(std::size_t tiles) const;

  // Whether the stream's instructions take their time and count, but neither move nor compute data (CTRL.TIMING_ONLY).
  bool timing_only() const { return timing_only_; }

  // Issue cycle of the instruction that executes (cycles since simulated time 0).
  Cycles now_cycles() const { return issue_cycle_; }

  // Descriptor `index`, defined, and with every element inside the scratchpad.
  // Throws ILLEGAL_INSTRUCTION (address: index) or SPM_FAULT (address: first offending offset).
  const TensorView &tensor(unsigned index) const;
  // The same without the check of the scratchpad's bounds, for instructions that address beyond the view.
  const TensorView &tensor_unchecked(unsigned index) const;
  // Throws SPM_FAULT unless the extent lies in the scratchpad.
  void require_spm(const Extent &extent) const;

  // load and store: memory descriptor, defined. Throws ILLEGAL_INSTRUCTION.
  const MemoryView &memory_view(unsigned index) const;
  // Use it for an access: a descriptor in which a wrong bit was provoked is damaged from here on.
  const MemoryView &use_memory_view(unsigned index);
  // Wrong words of device memory; nullptr while there are none.
  MemoryErrors *memory_errors() const { return context_.noc.memory_errors(); }
  // Segment table record. Throws SEGMENT_FAULT (address: number) beyond the table.
  const Segment &segment(unsigned number) const;
  // Pointer to device memory [address, address + bytes) by DMI. Throws BAD_ADDRESS if it is not one piece of memory.
  std::byte *device_memory(std::uint64_t address, std::uint64_t bytes);

  Cycles spm_latency() const { return context_.spm.params().latency_cycles; }
  std::byte *spm() { return context_.spm.data(); }
  std::uint64_t spm_bytes() const { return context_.spm.bytes(); }
  // Prices a scratchpad access on this engine's port; see Spm::reserve.
  Cycles reserve_spm(Cycles start, std::uint64_t bytes, bool write) {
    return context_.spm.reserve(spm_port_, start, bytes, write);
  }
  // Prices a device memory access; see Noc::reserve.
  Cycles reserve_memory(Cycles start, std::uint64_t address, std::uint64_t span, std::uint64_t bytes, bool write) {
    memory_bytes_ += bytes;
    return context_.noc.reserve(noc_initiator_, start, address, span, bytes, write);
  }

  Cycles memory_latency(std::uint64_t address, bool write) const {
    return context_.noc.latency(noc_initiator_, address, write);
  }

  // What took most of the time of the instruction that executes; the engine itself unless something else is said.
  void limited_by(Limit limit) { limit_ = limit; }
  // Of the last reserve_memory().
  Limit memory_limit() const { return context_.noc.last_limited_by_links() ? Limit::network : Limit::memory; }

  // Counters OPS, RD and WR. BUSY is counted by the base: cycles with at least one data instruction incomplete.
  void count_operations(std::uint64_t operations) { operations_ += operations; }
  void count_read(std::uint64_t bytes) { bytes_read_ += bytes; }
  void count_written(std::uint64_t bytes) { bytes_written_ += bytes; }

 private:
  enum class State : std::uint8_t { idle, running, done, faulted };
  static constexpr unsigned kDescriptors = 16;
  static constexpr unsigned kMaxSegments = 64;
  static constexpr unsigned kBlockInstructions = 16;  // what the fetch unit reads at once
  static constexpr unsigned kBlocks = 3;              // blocks that it holds, the current one included
  static constexpr unsigned kMaxPosts = 16;           // semaphore posts that wait for completion

  // Unwinds the thread out of a stream that was stopped from outside.
  struct Stopped {};

  struct PendingPost {
    Cycles due;
    std::uint64_t record;  // id of the instruction that it waits for
    std::uint32_t pc;
    std::uint8_t sem;
    std::uint16_t count;
  };

  void setup_registers();
  void b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay);
  void invalidate_dmi(sc_dt::uint64 first, sc_dt::uint64 last);

  void write_control(std::uint32_t bits);
  void read_memory(std::uint64_t address, std::uint64_t bytes);
  void hang();
  void cure_hang(Cure by);
  void start(bool timing_only);
  void record_stream(std::uint32_t status);
  void stop(State next, std::uint32_t status = 0);
  void enter_fault(const UnitFault &fault, std::uint32_t pc);
  void drive_irq();

  void thread();
  void run_stream();
  void locate_stream();
  void load_segments();
  void request_block(std::uint32_t block);
  void await_fetch();
  bool step(const isa::Inst &inst);
  void sync_to(Cycles cycle);
  void retire_instruction(Cycles issue);
  void issue_data(const isa::Inst &inst);
  void wait_semaphore(std::uint8_t sem, std::uint16_t count);
  void queue_post(std::uint8_t sem, std::uint16_t count);
  void check_semaphore(std::uint8_t sem) const;
  void retire_posts();
  void end_stream();

  std::uint32_t unfinished_ahead() const;
  std::uint32_t live_pc() const;
  std::uint64_t live_instructions() const;
  std::uint64_t live_busy() const;
  std::uint64_t live_stall() const;

  isa::Engine id_;
  EngineContext context_;
  Noc::InitiatorId noc_initiator_;
  Spm::PortId spm_port_;
  std::unique_ptr<regs::EngineRegs> regs_;

  State state_ = State::idle;
  bool timing_only_ = false;
  std::uint64_t epoch_ = 0;  // changes whenever the stream that runs starts or ends
  sc_core::sc_event start_event_;
  sc_core::sc_event stop_event_;
  sc_core::sc_event retire_event_;
  sc_core::sc_event irq_event_;
  sc_core::sc_time access_delay_;  // annotated delay of the register access in progress

  // The stream that runs.
  std::uint64_t stream_epoch_ = 0;  // the thread's copy of epoch_
  std::uint64_t stream_base_ = 0;
  std::uint32_t stream_count_ = 0;
  const std::byte *stream_ = nullptr;
  std::uint32_t pc_ = 0;    // instruction that the thread works on
  Cycles front_ = 0;        // cycle at which the front end takes it; may be ahead of the kernel
  Cycles issue_cycle_ = 0;  // of the data instruction in execute()
  Cycles unit_free_ = 0;    // the unit takes the next data instruction
  Cycles complete_ = 0;     // every data instruction so far is complete
  std::array<Cycles, kBlocks> block_ready_{};
  // Issue cycles of the instructions since the last synchronisation: exact PC and INSTR while ahead of the kernel.
  std::vector<Cycles> ahead_;
  std::deque<PendingPost> posts_;

  std::array<TensorView, kDescriptors> tensors_{};
  std::array<MemoryView, kDescriptors> memories_{};
  std::uint32_t tensors_defined_ = 0;
  std::uint32_t memories_defined_ = 0;
  std::vector<Segment> segments_;
  std::vector<tlm::tlm_dmi> dmi_;

  struct Hang {
    bool armed = false, active = false;
    Cure cure = Cure::reset;
  } hang_;
  unsigned illegal_ = 0, bad_addresses_ = 0;
  bool tripped_ = false;
  std::function<void()> semaphore_clear_;
  std::function<void()> issuing_;
  std::function<Timing(const Timing &)> stretch_;

  bool waiting_ = false;
  std::uint8_t wait_sem_ = 0;
  std::uint16_t wait_need_ = 0;
  Cycles wait_start_ = 0;

  std::uint64_t busy_cycles_ = 0;
  Cycles busy_until_ = 0;
  std::uint64_t stall_cycles_ = 0;
  std::uint64_t instructions_ = 0;
  std::uint64_t operations_ = 0;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t bytes_written_ = 0;

  Limit limit_ = Limit::engine;
  std::uint64_t memory_bytes_ = 0;  // since the engine exists

  // Counters at one time.
  struct Counted {
    std::uint64_t instructions = 0, busy = 0, stall = 0, operations = 0, read = 0, written = 0, memory = 0;
  };
  Counted counted() const;
  void record_instruction(const isa::Inst &inst, Cycles complete, std::uint64_t id, const Counted &before);

  Trace *trace_ = nullptr;
  std::function<std::uint64_t(std::uint64_t)> packet_of_;
  std::uint64_t stream_record_ = 0;  // id of the stream that runs; 0: it began before tracing
  Cycles stream_from_ = 0;
  Counted stream_counted_;              // when it began
  std::uint64_t traced_stall_ = 0;      // STALL at the last instruction's record
  std::uint64_t woken_by_ = 0;          // id of the instruction whose post ended the last wait
  std::uint64_t last_complete_id_ = 0;  // id of the instruction whose results come last
};

}  // namespace cx::hw

#endif
