#include "hw/engine/engine.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "hw/noc/register_target.hpp"
#include "hw/ras/memory_errors.hpp"
#include "hw/regs/gen/engine_regs.hpp"
#include "hw/regs/gen/packets.h"

namespace cx::hw {

using regs::EngineReg;
using regs::EngineRegs;

Extent extent_of(std::int64_t base, const std::array<std::uint32_t, 4> &dims,
                 const std::array<std::int32_t, 4> &strides, std::uint32_t element_bytes) {
  Extent extent{base, base + element_bytes};
  for (unsigned d = 0; d < 4; ++d) {
    const std::int64_t reach = (std::int64_t{dims[d]} - 1) * strides[d];
    (reach < 0 ? extent.first : extent.end) += reach;
  }
  return extent;
}

Engine::Engine(sc_core::sc_module_name name, isa::Engine id, const EngineContext &context)
    : sc_module(name),
      registers("registers"),
      memory("memory"),
      irq("irq"),
      id_(id),
      context_(context),
      regs_(std::make_unique<EngineRegs>()),
      start_event_("start_event"),
      stop_event_("stop_event"),
      retire_event_("retire_event"),
      irq_event_("irq_event") {
  noc_initiator_ = context_.noc.add_initiator(basename(), memory);
  spm_port_ = context_.spm.add_port(basename());
  registers.register_b_transport(this, &Engine::b_transport);
  memory.register_invalidate_direct_mem_ptr(this, &Engine::invalidate_dmi);
  setup_registers();

  sc_core::sc_spawn([this] { thread(); }, "stream");

  sc_core::sc_spawn_options retire_options;
  retire_options.spawn_method();
  retire_options.dont_initialize();
  retire_options.set_sensitivity(&retire_event_);
  sc_core::sc_spawn([this] { retire_posts(); }, "retire", &retire_options);

  sc_core::sc_spawn_options irq_options;
  irq_options.spawn_method();
  irq_options.set_sensitivity(&irq_event_);
  sc_core::sc_spawn([this] { drive_irq(); }, "irq_driver", &irq_options);
}

Engine::~Engine() = default;

// ---- registers ----

void Engine::setup_registers() {
  regs_->on_write(EngineReg::CTRL, [this](unsigned, std::uint32_t, std::uint32_t written, std::uint32_t) {
    regs_->set(EngineReg::CTRL, 0);
    write_control(written);
  });
  regs_->on_write(EngineReg::STATUS, [this](unsigned, std::uint32_t, std::uint32_t, std::uint32_t) {
    irq_event_.notify(sc_core::SC_ZERO_TIME);
  });
  regs_->on_read(EngineReg::STATUS, [this](unsigned) {
    regs_->set(EngineRegs::STATUS_BUSY, state_ == State::running || hang_.active);
    regs_->set(EngineRegs::STATUS_WAITING, waiting_);
    return regs_->get(EngineReg::STATUS);
  });
  regs_->on_read(EngineReg::PC, [this](unsigned) { return live_pc(); });
  regs_->on_read(EngineReg::WAIT_SEM, [this](unsigned) {
    return waiting_ ? std::uint32_t{wait_need_} << 16 | wait_sem_ : std::uint32_t{0};
  });
  regs_->on_read(EngineReg::SEM_VALUE, [this](unsigned) {
    return waiting_ ? std::uint32_t{context_.semaphores.value(wait_sem_)} : std::uint32_t{0};
  });
  const auto counter = [this](EngineReg low, auto value) {
    const auto high = static_cast<EngineReg>(static_cast<unsigned>(low) + 1);
    regs_->on_read(low, [value](unsigned) { return static_cast<std::uint32_t>(value()); });
    regs_->on_read(high, [value](unsigned) { return static_cast<std::uint32_t>(value() >> 32); });
  };
  counter(EngineReg::BUSY_LO, [this] { return live_busy(); });
  counter(EngineReg::STALL_LO, [this] { return live_stall(); });
  counter(EngineReg::INSTR_LO, [this] { return live_instructions(); });
  counter(EngineReg::OPS_LO, [this] { return operations_; });
  counter(EngineReg::RD_LO, [this] { return bytes_read_; });
  counter(EngineReg::WR_LO, [this] { return bytes_written_; });
}

void Engine::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_delay_ = delay;
  access_registers(*regs_, transaction);
  access_delay_ = sc_core::SC_ZERO_TIME;
  delay += context_.clock.period();
}

void Engine::invalidate_dmi(sc_dt::uint64, sc_dt::uint64) { dmi_.clear(); }

void Engine::write_control(std::uint32_t bits) {
  const auto has = [bits](auto field) { return (bits & field.mask()) != 0; };
  const bool hard = has(EngineRegs::CTRL_HARD_RESET);
  if (has(EngineRegs::CTRL_RESET) || hard) {
    stop(State::idle);
    reset_unit();
    cure_hang(hard ? Cure::hard_reset : Cure::reset);
  }
  if (has(EngineRegs::CTRL_SEM_CLEAR)) {
    context_.semaphores.clear_all();
    if (semaphore_clear_) semaphore_clear_();
  }
  if (has(EngineRegs::CTRL_START) && state_ != State::running && !hang_.active) {
    start(has(EngineRegs::CTRL_TIMING_ONLY));
  }
}

void Engine::cure_hang(Cure by) {
  if (hang_.active && by >= hang_.cure) hang_ = {};
}

void Engine::set_tripped(bool tripped) {
  tripped_ = tripped;
  if (tripped && state_ == State::running) enter_fault(UnitFault(CX_STATUS_THERMAL_TRIP, 0), live_pc());
}

void Engine::set_trace(Trace *trace, std::function<std::uint64_t(std::uint64_t address)> packet) {
  if (trace_ != nullptr && trace == nullptr && state_ == State::running) record_stream(0);
  trace_ = trace;
  packet_of_ = std::move(packet);
  traced_stall_ = stall_cycles_;
  stream_record_ = woken_by_ = last_complete_id_ = 0;
}

Engine::Counted Engine::counted() const {
  return {live_instructions(), live_busy(), live_stall(), operations_, bytes_read_, bytes_written_, memory_bytes_};
}

// Of the stream that ran until now.
void Engine::record_stream(std::uint32_t status) {
  if (stream_record_ == 0) return;
  const Counted now = counted();
  Trace::Record record{trace_->time(stream_from_),
                       trace_->time(std::max(stream_from_, context_.clock.now())),
                       stream_record_,
                       packet_of_ ? packet_of_(stream_base_) : 0,
                       CX_TRACE_STREAM,
                       static_cast<std::uint16_t>(id_),
                       status,
                       {}};
  record.values[CX_TRACE_STREAM_INSTRUCTIONS] = now.instructions - stream_counted_.instructions;
  record.values[CX_TRACE_STREAM_ADDRESS] = stream_base_;
  record.values[CX_TRACE_STREAM_BUSY] = now.busy - stream_counted_.busy;
  record.values[CX_TRACE_STREAM_STALL] = now.stall - stream_counted_.stall;
  trace_->append(record);
  stream_record_ = 0;
}

void Engine::record_instruction(const isa::Inst &inst, Cycles complete, std::uint64_t id, const Counted &before) {
  Trace::Record record{trace_->time(issue_cycle_),
                       trace_->time(complete),
                       id,
                       woken_by_ != 0 ? woken_by_ : stream_record_,
                       CX_TRACE_INSTRUCTION,
                       static_cast<std::uint16_t>(id_),
                       static_cast<std::uint32_t>(isa::opcode_of(inst)),
                       {}};
  record.values[CX_TRACE_INSTRUCTION_PC] = pc_;
  record.values[CX_TRACE_INSTRUCTION_ACCEPT] = trace_->time(unit_free_);
  record.values[CX_TRACE_INSTRUCTION_WAITED] = stall_cycles_ - traced_stall_;
  record.values[CX_TRACE_INSTRUCTION_OPERATIONS] = operations_ - before.operations;
  record.values[CX_TRACE_INSTRUCTION_BYTES_READ] = bytes_read_ - before.read;
  record.values[CX_TRACE_INSTRUCTION_BYTES_WRITTEN] = bytes_written_ - before.written;
  record.values[CX_TRACE_INSTRUCTION_MEMORY_BYTES] = memory_bytes_ - before.memory;
  record.values[CX_TRACE_INSTRUCTION_LIMIT] = static_cast<std::uint64_t>(limit_);
  trace_->append(record);
  traced_stall_ = stall_cycles_;
  woken_by_ = 0;
}

void Engine::start(bool timing_only) {
  stop(State::running);
  timing_only_ = timing_only;
  front_ = context_.clock.ceil(sc_core::sc_time_stamp() + access_delay_);
  stream_base_ = regs_->get64(EngineReg::STREAM_LO);
  if (trace_ != nullptr) {
    stream_record_ = trace_->new_id();
    stream_from_ = front_;
    stream_counted_ = counted();
    traced_stall_ = stall_cycles_;
    woken_by_ = last_complete_id_ = 0;
  }
  unit_free_ = front_;
  complete_ = front_;
  reset_unit();
  if (tripped_) {
    enter_fault(UnitFault(CX_STATUS_THERMAL_TRIP, 0), 0);
    return;
  }
  start_event_.notify(sc_core::SC_ZERO_TIME);
}

// Ends whatever runs, with the counters as of now, and goes to `next` with clean stream state.
void Engine::stop(State next, std::uint32_t status) {
  if (trace_ != nullptr) record_stream(next == State::idle ? std::uint32_t{CX_STATUS_ABORTED} : status);
  instructions_ = live_instructions();
  busy_cycles_ = live_busy();
  stall_cycles_ = live_stall();
  pc_ = next == State::faulted ? pc_ : 0;
  ahead_.clear();
  busy_until_ = 0;
  waiting_ = false;
  posts_.clear();
  retire_event_.cancel();
  tensors_defined_ = 0;
  memories_defined_ = 0;
  segments_.clear();
  for (EngineReg reg : {EngineReg::STATUS, EngineReg::FAULT_CODE, EngineReg::FAULT_PC, EngineReg::FAULT_ADDR_LO,
                        EngineReg::FAULT_ADDR_HI}) {
    regs_->set(reg, 0);
  }
  state_ = next;
  ++epoch_;
  stop_event_.notify(sc_core::SC_ZERO_TIME);
  irq_event_.notify(sc_core::SC_ZERO_TIME);
}

std::uint32_t Engine::tiles_on(std::size_t tiles) const {
  const std::uint32_t off = regs_->get(EngineReg::TILES_OFF);
  return off < tiles ? static_cast<std::uint32_t>(tiles) - off : 0;
}

void Engine::enter_fault(const UnitFault &fault, std::uint32_t pc) {
  stop(State::faulted, fault.status);
  pc_ = pc;
  regs_->set(EngineReg::FAULT_CODE, fault.status);
  regs_->set(EngineReg::FAULT_PC, pc);
  regs_->set64(EngineReg::FAULT_ADDR_LO, fault.address);
  regs_->set(EngineRegs::STATUS_FAULT, 1);
}

void Engine::drive_irq() {
  irq.write(regs_->get(EngineRegs::STATUS_DONE) != 0 || regs_->get(EngineRegs::STATUS_FAULT) != 0);
}

void Engine::reset(bool keep_hang) {
  stop(State::idle);
  regs_->reset();
  reset_unit();
  cure_hang(keep_hang ? Cure::hard_reset : Cure::device_reset);
  busy_cycles_ = 0;
  stall_cycles_ = 0;
  instructions_ = 0;
  operations_ = 0;
  bytes_read_ = 0;
  bytes_written_ = 0;
}

std::string Engine::dump() const {
  std::string text = std::string(isa::to_string(id_)) + ": ";
  const std::string at = " at " + std::to_string(live_pc());
  switch (state_) {
    case State::idle:
      return text + "idle";
    case State::done:
      return text + "done" + at;
    case State::faulted:
      return text + "fault " + std::to_string(regs_->get(EngineReg::FAULT_CODE)) + at;
    case State::running:
      break;
  }
  if (!waiting_) return text + "running" + at;
  return text + "waiting" + at + " for semaphore " + std::to_string(wait_sem_) + " to reach " +
         std::to_string(wait_need_) + ", it is " + std::to_string(context_.semaphores.value(wait_sem_));
}

// ---- live counters ----

std::uint32_t Engine::unfinished_ahead() const {
  const Cycles now = context_.clock.floor(sc_core::sc_time_stamp());
  // An instruction takes the cycle from its issue to the next edge.
  const auto first = std::lower_bound(ahead_.begin(), ahead_.end(), now);
  return static_cast<std::uint32_t>(ahead_.end() - first);
}

std::uint32_t Engine::live_pc() const { return pc_ - unfinished_ahead(); }

std::uint64_t Engine::live_instructions() const { return instructions_ + ahead_.size() - unfinished_ahead(); }

std::uint64_t Engine::live_busy() const {
  const Cycles now = context_.clock.floor(sc_core::sc_time_stamp());
  return busy_cycles_ - (busy_until_ > now ? busy_until_ - now : 0);
}

std::uint64_t Engine::live_stall() const {
  if (!waiting_) return stall_cycles_;
  const Cycles now = context_.clock.floor(sc_core::sc_time_stamp());
  return stall_cycles_ + (now > wait_start_ ? now - wait_start_ : 0);
}

// ---- the stream ----

void Engine::thread() {
  for (;;) {
    while (state_ != State::running) sc_core::wait(start_event_);
    stream_epoch_ = epoch_;
    try {
      run_stream();
    } catch (const Stopped &) {
    }
  }
}

void Engine::run_stream() {
  std::optional<UnitFault> fault;
  try {
    locate_stream();
    load_segments();
    const std::uint32_t blocks = (stream_count_ + kBlockInstructions - 1) / kBlockInstructions;
    for (std::uint32_t block = 0; block < std::min(blocks, kBlocks - 1); ++block) request_block(block);
    isa::Inst inst;
    do {
      if (pc_ >= stream_count_) {
        throw UnitFault(CX_STATUS_STREAM_OVERRUN, stream_base_ + std::uint64_t{pc_} * isa::kInstructionBytes);
      }
      await_fetch();
      std::memcpy(inst.data(), stream_ + std::size_t{pc_} * isa::kInstructionBytes, inst.size());
    } while (step(inst));
  } catch (const UnitFault &caught) {
    // Handlers must not wait: coroutines share the list of caught exceptions.
    fault = caught;
  }
  if (!fault) return;
  sync_to(front_);
  enter_fault(*fault, pc_);
}

// Waits until the kernel reaches clock edge `cycle`.
void Engine::sync_to(Cycles cycle) {
  for (;;) {
    if (epoch_ != stream_epoch_) throw Stopped{};
    const sc_core::sc_time left = context_.clock.until(cycle);
    if (left == sc_core::SC_ZERO_TIME) break;
    sc_core::wait(left, stop_event_);
  }
  // Everything that the front end took before has finished by now.
  instructions_ += ahead_.size();
  ahead_.clear();
}

void Engine::locate_stream() {
  sync_to(front_);
  stream_count_ = regs_->get(EngineReg::STREAM_COUNT);
  if (stream_base_ % isa::kInstructionBytes != 0) throw UnitFault(CX_STATUS_BAD_ALIGNMENT, stream_base_);
  if (stream_count_ == 0) return;
  stream_ = device_memory(stream_base_, std::uint64_t{stream_count_} * isa::kInstructionBytes);
}

// Reads the segment table of the engines that use it.
void Engine::load_segments() {
  if (id_ != isa::Engine::LOAD && id_ != isa::Engine::STORE) return;
  const std::uint64_t table = regs_->get64(EngineReg::SEGTAB_LO);
  const std::uint32_t count = regs_->get(EngineReg::SEGTAB_COUNT);
  if (count > kMaxSegments) throw UnitFault(CX_STATUS_BAD_FIELD, count);
  if (count == 0) return;
  const std::uint64_t bytes = std::uint64_t{count} * sizeof(Segment);
  segments_.resize(count);
  read_memory(table, bytes);
  std::memcpy(segments_.data(), device_memory(table, bytes), bytes);
  front_ = reserve_memory(front_, table, bytes, bytes, false);
}

void Engine::request_block(std::uint32_t block) {
  const std::uint32_t first = block * kBlockInstructions;
  const std::uint64_t bytes =
      std::uint64_t{std::min(kBlockInstructions, stream_count_ - first)} * isa::kInstructionBytes;
  const std::uint64_t address = stream_base_ + std::uint64_t{first} * isa::kInstructionBytes;
  block_ready_[block % kBlocks] = reserve_memory(front_, address, bytes, bytes, false);
  read_memory(address, bytes);
}

// A contiguous read of device memory meets its wrong words.
void Engine::read_memory(std::uint64_t address, std::uint64_t bytes) {
  MemoryErrors *errors = memory_errors();
  if (errors == nullptr) return;
  if (const auto bad = errors->read(address, bytes)) throw UnitFault(CX_STATUS_ECC_UNCORRECTED, *bad);
}

// Moves the front to the cycle at which instruction pc_ has been fetched; entering a block requests a later one.
void Engine::await_fetch() {
  if (pc_ % kBlockInstructions != 0) return;
  const std::uint32_t block = pc_ / kBlockInstructions;
  front_ = std::max(front_, block_ready_[block % kBlocks]);
  const std::uint32_t next = block + kBlocks - 1;
  if (std::uint64_t{next} * kBlockInstructions < stream_count_) {
    sync_to(front_);
    request_block(next);
  }
}

// Executes one instruction. False when the stream has ended.
bool Engine::step(const isa::Inst &inst) {
  if (illegal_ != 0) {
    --illegal_;
    throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, 0);
  }
  if (const auto problem = isa::validate(inst, id_)) {
    throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, problem->offset);
  }
  switch (isa::opcode_of(inst)) {
    case isa::Opcode::NOP:
      retire_instruction(front_);
      return true;
    case isa::Opcode::TDESC: {
      const auto in = isa::Tdesc::decode(inst);
      TensorView &view = tensors_[in.index];
      view.dtype = in.dtype;
      view.element_bytes = isa::bytes_of(in.dtype);
      view.base = in.base;
      std::copy(in.dims.begin(), in.dims.end(), view.dims.begin());
      view.strides = in.strides;
      tensors_defined_ |= 1u << in.index;
      retire_instruction(front_);
      return true;
    }
    case isa::Opcode::MDESC: {
      const auto in = isa::Mdesc::decode(inst);
      memories_[in.index] = {in.segment, in.offset, in.strides};
      memories_defined_ |= 1u << in.index;
      retire_instruction(front_);
      return true;
    }
    case isa::Opcode::SEM_WAIT: {
      const auto in = isa::SemWait::decode(inst);
      wait_semaphore(in.sem, in.count);
      return true;
    }
    case isa::Opcode::SEM_POST: {
      const auto in = isa::SemPost::decode(inst);
      queue_post(in.sem, in.count);
      return true;
    }
    case isa::Opcode::END:
      end_stream();
      return false;
    default:
      issue_data(inst);
      return true;
  }
}

void Engine::retire_instruction(Cycles issue) {
  ahead_.push_back(issue);
  front_ = issue + 1;
  ++pc_;
}

void Engine::issue_data(const isa::Inst &inst) {
  front_ = std::max(front_, unit_free_);
  sync_to(front_);
  if (hang_.armed) hang();
  if (issuing_) {
    issuing_();
    if (epoch_ != stream_epoch_) throw Stopped{};  // it was too hot
  }
  issue_cycle_ = front_;
  const std::uint64_t record = trace_ != nullptr ? trace_->new_id() : 0;
  const Trace::Cause cause(trace_, record);
  const Counted before = trace_ != nullptr ? counted() : Counted();
  limit_ = Limit::engine;
  Timing timing = execute(inst);
  if (stretch_) timing = stretch_(timing);
  const Cycles accept = std::max<Cycles>(timing.accept_cycles, 1);
  unit_free_ = issue_cycle_ + accept;
  const Cycles complete = issue_cycle_ + std::max<Cycles>(timing.complete_cycles, 1);
  if (complete >= complete_) last_complete_id_ = record;
  complete_ = std::max(complete_, complete);
  const Cycles busy_end = std::max(unit_free_, complete);
  const Cycles busy_from = std::max(issue_cycle_, busy_until_);
  if (busy_end > busy_from) {
    busy_cycles_ += busy_end - busy_from;
    busy_until_ = busy_end;
  }
  if (trace_ != nullptr) {
    record_instruction(inst, complete, record, before);
    trace_->tick(sc_core::sc_time_stamp().value());
  }
  retire_instruction(issue_cycle_);
}

// The unit takes the instruction and does not go on.
void Engine::hang() {
  hang_.armed = false;
  hang_.active = true;
  for (;;) {
    sc_core::wait(stop_event_);
    if (epoch_ != stream_epoch_) throw Stopped{};
  }
}

void Engine::check_semaphore(std::uint8_t sem) const {
  if (sem >= context_.semaphores.count()) throw UnitFault(CX_STATUS_SEM_OVERFLOW, sem);
}

void Engine::wait_semaphore(std::uint8_t sem, std::uint16_t count) {
  check_semaphore(sem);
  sync_to(front_);
  if (!context_.semaphores.try_take(sem, count)) {
    waiting_ = true;
    wait_sem_ = sem;
    wait_need_ = count;
    wait_start_ = front_;
    do {
      sc_core::wait(context_.semaphores.posted(sem) | stop_event_);
      if (epoch_ != stream_epoch_) throw Stopped{};
    } while (!context_.semaphores.try_take(sem, count));
    front_ = context_.clock.now();
    stall_cycles_ += front_ - wait_start_;
    waiting_ = false;
    if (trace_ != nullptr) {
      woken_by_ = context_.semaphores.last_post(sem);
      trace_->append({trace_->time(wait_start_),
                      trace_->time(front_),
                      trace_->new_id(),
                      woken_by_,
                      CX_TRACE_WAIT,
                      static_cast<std::uint16_t>(id_),
                      sem,
                      {pc_, count}});
    }
  }
  retire_instruction(front_);
}

void Engine::queue_post(std::uint8_t sem, std::uint16_t count) {
  check_semaphore(sem);
  // The queue may be full: the oldest of the last kMaxPosts has to leave first.
  if (posts_.size() >= kMaxPosts) front_ = std::max(front_, posts_[posts_.size() - kMaxPosts].due);
  const Cycles due = std::max(front_ + 1, complete_);
  posts_.push_back({due, last_complete_id_, pc_, sem, count});
  if (posts_.size() == 1) retire_event_.notify(context_.clock.until(due));
  retire_instruction(front_);
}

// Performs the posts that are due; runs as a process of its own so that the front end can go on meanwhile.
void Engine::retire_posts() {
  const Cycles now = context_.clock.floor(sc_core::sc_time_stamp());
  if (!posts_.empty() && posts_.front().due <= now) {
    try {
      settle(now);
    } catch (const UnitFault &fault) {
      enter_fault(fault, posts_.front().pc);
      return;
    }
  }
  while (!posts_.empty() && posts_.front().due <= now) {
    const PendingPost post = posts_.front();
    posts_.pop_front();
    if (!context_.semaphores.post(post.sem, post.count, post.record)) {
      enter_fault(UnitFault(CX_STATUS_SEM_OVERFLOW, post.sem), post.pc);
      return;
    }
  }
  if (!posts_.empty()) retire_event_.notify(context_.clock.until(posts_.front().due));
}

void Engine::end_stream() {
  const Cycles end = std::max(front_ + 1, complete_);
  sync_to(end);
  retire_posts();
  if (epoch_ != stream_epoch_) throw Stopped{};  // the last post overflowed, or met a late fault
  settle(end);
  ++instructions_;
  const std::uint32_t pc = pc_;
  stop(State::done);
  pc_ = pc;
  regs_->set(EngineRegs::STATUS_DONE, 1);
}

// ---- helpers for units ----

const TensorView &Engine::tensor_unchecked(unsigned index) const {
  if (index >= kDescriptors || !(tensors_defined_ >> index & 1)) {
    throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, index);
  }
  return tensors_[index];
}

const TensorView &Engine::tensor(unsigned index) const {
  const TensorView &view = tensor_unchecked(index);
  require_spm(extent_of(view.base, view.dims, view.strides, view.element_bytes));
  return view;
}

void Engine::require_spm(const Extent &extent) const {
  const auto size = static_cast<std::int64_t>(context_.spm.bytes());
  if (extent.first < 0) throw UnitFault(CX_STATUS_SPM_FAULT, static_cast<std::uint64_t>(extent.first));
  if (extent.end > size) {
    throw UnitFault(CX_STATUS_SPM_FAULT, static_cast<std::uint64_t>(std::max(extent.first, size)));
  }
}

const MemoryView &Engine::memory_view(unsigned index) const {
  if (index >= kDescriptors || !(memories_defined_ >> index & 1)) {
    throw UnitFault(CX_STATUS_ILLEGAL_INSTRUCTION, index);
  }
  return memories_[index];
}

const MemoryView &Engine::use_memory_view(unsigned index) {
  const MemoryView &view = memory_view(index);
  if (bad_addresses_ == 0) return view;
  --bad_addresses_;
  constexpr std::uint64_t kWrongBit = std::uint64_t{1} << 40;
  memories_[index].offset ^= kWrongBit;
  return view;
}

const Segment &Engine::segment(unsigned number) const {
  if (number >= segments_.size()) throw UnitFault(CX_STATUS_SEGMENT_FAULT, number);
  return segments_[number];
}

std::byte *Engine::device_memory(std::uint64_t address, std::uint64_t bytes) {
  const std::uint64_t last = address + std::max<std::uint64_t>(bytes, 1) - 1;
  if (last < address) throw UnitFault(CX_STATUS_BAD_ADDRESS, address);
  const auto inside = [&](const tlm::tlm_dmi &dmi) {
    return dmi.get_start_address() <= address && last <= dmi.get_end_address();
  };
  auto found = std::find_if(dmi_.begin(), dmi_.end(), inside);
  if (found == dmi_.end()) {
    tlm::tlm_generic_payload transaction;
    transaction.set_command(tlm::TLM_WRITE_COMMAND);
    transaction.set_address(address);
    tlm::tlm_dmi dmi;
    if (!memory->get_direct_mem_ptr(transaction, dmi) || !dmi.is_read_write_allowed()) {
      throw UnitFault(CX_STATUS_BAD_ADDRESS, address);
    }
    if (!inside(dmi)) throw UnitFault(CX_STATUS_BAD_ADDRESS, dmi.get_end_address() + 1);
    dmi_.push_back(dmi);
    found = dmi_.end() - 1;
  }
  return reinterpret_cast<std::byte *>(found->get_dmi_ptr()) + (address - found->get_start_address());
}

}  // namespace cx::hw
