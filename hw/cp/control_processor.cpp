#include "hw/cp/control_processor.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "hw/noc/origin.hpp"
#include "hw/regs/gen/intc_regs.hpp"
#include "hw/regs/gen/map.h"

namespace cx::hw {

namespace {

using regs::IntcReg;

constexpr uint32_t kTcmBase = static_cast<uint32_t>(CX_MEM_TCM_BASE);
constexpr uint32_t kIntcBase = static_cast<uint32_t>(CX_PERIPHERAL_BASE + CX_MAP_INTC_OFFSET);
constexpr uint32_t kPageSize = static_cast<uint32_t>(CX_MAP_PAGE_SIZE);
constexpr uint32_t kTcmBytesPerCycle = 8;
constexpr uint32_t kIntcAccessCycles = 2;
constexpr size_t kMaxTraceLine = 1024;
constexpr uint32_t kCsrMie = 0x304, kCsrMtvec = 0x305, kCsrMepc = 0x341, kCsrMcause = 0x342, kCsrMtval = 0x343;
constexpr uint32_t kMieTimer = 1u << static_cast<uint32_t>(Rv32Interrupt::kTimer);

uint32_t checked_tcm_bytes(uint32_t bytes) {
  if (bytes == 0 || bytes % 4 != 0) throw std::invalid_argument("TCM size is not a positive multiple of 4 bytes");
  return bytes;
}

}  // namespace

ControlProcessor::ControlProcessor(sc_core::sc_module_name name, const Clock &clock, const Config &config)
    : sc_module(name),
      clock_(clock),
      config_(config),
      tcm_(checked_tcm_bytes(config.tcm_bytes)),
      core_bus_(*this),
      core_({kTcmBase, config.tcm_bytes, tcm_.data()}, core_bus_, config.cycles),
      intc_(std::make_unique<regs::IntcRegs>()) {
  if (config.speed == 0) throw std::invalid_argument("the control processor's speed is 0");
  if (config.quantum_cycles == 0) throw std::invalid_argument("the control processor's quantum is 0 cycles");
  tcm_socket.register_b_transport(this, &ControlProcessor::tcm_transport);
  tcm_socket.register_get_direct_mem_ptr(this, &ControlProcessor::tcm_dmi);
  tcm_socket.register_transport_dbg(this, &ControlProcessor::tcm_debug);
  intc_socket.register_b_transport(this, &ControlProcessor::intc_transport);
  setup_intc();
  sc_core::sc_spawn_options options;
  sc_core::sc_spawn([this] { run(); }, "core", &options);
}

ControlProcessor::~ControlProcessor() = default;

void ControlProcessor::set_line(unsigned line, bool level) {
  if (line >= 32) throw std::out_of_range("interrupt line " + std::to_string(line));
  if (trace_ != nullptr && level && (lines_ >> line & 1) == 0) {
    const uint64_t time = trace_->kernel_time(sc_core::sc_time_stamp().value());
    trace_->append({time, time, trace_->new_id(), 0, CX_TRACE_LINE, static_cast<uint16_t>(line), 0, {}});
  }
  lines_ = level ? lines_ | (1u << line) : lines_ & ~(1u << line);
  update_external();
}

void ControlProcessor::set_reset(bool asserted) {
  if (asserted == reset_) return;
  reset_ = asserted;
  if (asserted) {
    ++resets_;
    end_function_trace();
    core_.shorten_run(0);
    reset_intc();
    trace_line_.clear();
  } else {
    restart_ = true;
  }
  wake_.notify(sc_core::SC_ZERO_TIME);
}

// ---- core ----

void ControlProcessor::run() {
  for (;;) {
    if (reset_) {
      sleeping_ = false;
      wait(wake_);
      continue;
    }
    if (restart_) {
      restart_ = false;
      align_to_clock(sc_core::SC_ZERO_TIME);
      before_restart_ += core_.instructions();
      core_.reset(kTcmBase);
      synced_cycles_ = 0;
      synced_edge_ = clock_.now();
      begin_function_trace();
    }
    const Cycles now = local_time();
    update_timer(now);
    uint64_t limit = core_.cycles() + uint64_t{config_.quantum_cycles} * config_.speed;
    const uint64_t compare = intc_->get64(IntcReg::MTIMECMP_LO);
    if (compare > now)
      limit = std::min(limit, core_.cycles() + std::min<uint64_t>(compare - now, uint64_t{1} << 32) * config_.speed);

    const Rv32Stop stop = core_.run(limit);
    sync();
    if (reset_ || restart_) continue;
    if (stop == Rv32Stop::kSleep) sleep();
    if (stop == Rv32Stop::kLocked) {
      if (crash_sink_) crash_sink_(trap());
      while (!reset_ && !restart_) wait(wake_);
    }
  }
}

ControlProcessor::Crash ControlProcessor::trap() const {
  Crash crash;
  core_.read_csr(kCsrMepc, crash.pc);
  core_.read_csr(kCsrMcause, crash.cause);
  core_.read_csr(kCsrMtval, crash.tval);
  return crash;
}

void ControlProcessor::damage_firmware(bool handler) {
  const auto damage = [this](uint32_t address) {
    const uint32_t offset = address - kTcmBase;
    if (offset <= tcm_.size() - sizeof(uint32_t)) std::memset(tcm_.data() + offset, 0, sizeof(uint32_t));
  };
  damage(core_.pc());
  uint32_t vector = 0;
  core_.read_csr(kCsrMtvec, vector);
  if (handler) damage(vector & ~3u);
}

void ControlProcessor::set_trace(Trace *trace) {
  end_function_trace();
  trace_ = trace;
  if (!reset_ && !restart_) begin_function_trace();
}

void ControlProcessor::begin_function_trace() {
  if (trace_ == nullptr || !trace_->wants(CX_TRACE_FUNCTION)) return;
  // While the core sleeps its own time stands still.
  if (sleeping_) synced_edge_ = clock_.now();
  functions_ = std::make_unique<FunctionTrace>(
      *trace_, core_.pc(), core_.cycles(), core_.instructions(),
      [this](uint64_t cycles) { return trace_->time(synced_edge_ + (cycles - synced_cycles_) / config_.speed); });
  core_.watch_calls(functions_.get());
}

void ControlProcessor::end_function_trace() {
  if (!functions_) return;
  if (sleeping_) synced_edge_ = clock_.now();
  functions_->close(core_.cycles(), core_.instructions());
  core_.watch_calls(nullptr);
  functions_.reset();
}

void ControlProcessor::sleep() {
  const Cycles begin = clock_.now();
  for (;;) {
    update_timer(clock_.now());
    if (core_.wakeup_pending() || reset_ || restart_) break;
    sleeping_ = true;
    uint32_t mie = 0;
    core_.read_csr(kCsrMie, mie);
    const uint64_t compare = intc_->get64(IntcReg::MTIMECMP_LO);
    const uint64_t last_edge = sc_core::sc_max_time().value() / clock_.period_ps();
    if ((mie & kMieTimer) && compare < last_edge) {
      wait(clock_.until(compare), wake_);
    } else {
      wait(wake_);
    }
  }
  sleeping_ = false;
  align_to_clock(sc_core::SC_ZERO_TIME);
  synced_edge_ = clock_.now();
  if (trace_ != nullptr && synced_edge_ > begin) {
    trace_->append({trace_->time(begin), trace_->time(synced_edge_), trace_->new_id(), 0, CX_TRACE_SLEEP, 0, 0, {}});
    trace_->tick(sc_core::sc_time_stamp().value());
  }
}

// Lets the kernel catch up with the core.
void ControlProcessor::sync() {
  const Cycles edge = local_time();
  wait(clock_.until(edge));
  // A part of a chip's cycle that the core has done counts with what follows.
  synced_cycles_ += (edge - synced_edge_) * config_.speed;
  synced_edge_ = edge;
}

// False: reset was asserted meanwhile. The access must not happen; the core stops right after it.
bool ControlProcessor::sync_for_access() {
  const unsigned resets = resets_;
  sync();
  return resets == resets_;
}

// Waits for the first clock edge at or after the present time plus `delay`.
void ControlProcessor::align_to_clock(const sc_core::sc_time &delay) {
  const sc_core::sc_time rest = clock_.until(clock_.ceil(sc_core::sc_time_stamp() + delay));
  if (rest != sc_core::SC_ZERO_TIME) wait(rest);
}

bool ControlProcessor::CoreBus::load(uint32_t address, unsigned size, uint32_t &value) {
  if (address - kIntcBase < kPageSize) {
    return owner_.intc_access(tlm::TLM_READ_COMMAND, address - kIntcBase, size, value);
  }
  return owner_.noc_access(tlm::TLM_READ_COMMAND, address, size, value);
}

bool ControlProcessor::CoreBus::store(uint32_t address, unsigned size, uint32_t value) {
  if (address - kIntcBase < kPageSize) {
    return owner_.intc_access(tlm::TLM_WRITE_COMMAND, address - kIntcBase, size, value);
  }
  return owner_.noc_access(tlm::TLM_WRITE_COMMAND, address, size, value);
}

bool ControlProcessor::noc_access(tlm::tlm_command command, uint32_t address, unsigned size, uint32_t &value) {
  if (!sync_for_access()) return false;
  uint8_t bytes[4] = {};
  if (command == tlm::TLM_WRITE_COMMAND) std::memcpy(bytes, &value, size);
  tlm::tlm_generic_payload payload;
  payload.set_command(command);
  payload.set_address(address);
  payload.set_data_ptr(bytes);
  payload.set_data_length(size);
  payload.set_streaming_width(size);
  payload.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  bus_socket->b_transport(payload, delay);
  align_to_clock(delay);
  const Cycles edge = clock_.now();
  core_.add_cycles((edge - synced_edge_) * config_.speed);
  synced_cycles_ += (edge - synced_edge_) * config_.speed;
  synced_edge_ = edge;
  update_timer(edge);
  if (!payload.is_response_ok()) return false;
  if (command == tlm::TLM_READ_COMMAND) {
    value = 0;
    std::memcpy(&value, bytes, size);
  }
  return true;
}

// ---- interrupt controller ----

bool ControlProcessor::intc_access(tlm::tlm_command command, uint32_t offset, unsigned size, uint32_t &value) {
  if (!sync_for_access()) return false;
  core_.add_cycles(kIntcAccessCycles);
  if (size != 4) return false;
  core_accesses_intc_ = true;
  const regs::Result result = command == tlm::TLM_READ_COMMAND ? intc_->read(regs::Side::firmware, offset, value)
                                                               : intc_->write(regs::Side::firmware, offset, value);
  core_accesses_intc_ = false;
  update_timer(local_time());
  return result == regs::Result::ok;
}

void ControlProcessor::setup_intc() {
  intc_->on_read(IntcReg::MTIME_LO, [this](unsigned) {
    const uint64_t time = core_accesses_intc_ ? local_time() : device_time();
    intc_->set(IntcReg::MTIME_HI, static_cast<uint32_t>(time >> 32));
    return static_cast<uint32_t>(time);
  });
  intc_->on_write(IntcReg::ENABLE, [this](unsigned, uint32_t, uint32_t, uint32_t) { update_external(); });
  const auto rearm = [this](unsigned, uint32_t, uint32_t, uint32_t) {
    // The new deadline may lie before the end of the present run.
    core_.shorten_run(core_.cycles());
  };
  intc_->on_write(IntcReg::MTIMECMP_LO, rearm);
  intc_->on_write(IntcReg::MTIMECMP_HI, rearm);
  intc_->on_write(IntcReg::TRACE, [this](unsigned, uint32_t, uint32_t written, uint32_t) {
    trace_character(static_cast<char>(written & 0xff));
  });
}

void ControlProcessor::reset_intc() {
  intc_->reset();
  update_external();
  core_.set_interrupt(Rv32Interrupt::kTimer, false);
}

void ControlProcessor::update_external() {
  intc_->set(IntcReg::PENDING, lines_);
  const bool level = (lines_ & intc_->get(IntcReg::ENABLE)) != 0;
  core_.set_interrupt(Rv32Interrupt::kExternal, level);
  if (level) wake_.notify(sc_core::SC_ZERO_TIME);
}

void ControlProcessor::update_timer(Cycles time) {
  core_.set_interrupt(Rv32Interrupt::kTimer, time >= intc_->get64(IntcReg::MTIMECMP_LO));
}

void ControlProcessor::trace_character(char character) {
  if (character != '\n') trace_line_ += character;
  if (character == '\n' || trace_line_.size() >= kMaxTraceLine) {
    if (trace_sink_) trace_sink_(trace_line_);
    trace_line_.clear();
  }
}

void ControlProcessor::intc_transport(tlm::tlm_generic_payload &payload, sc_core::sc_time &delay) {
  payload.set_dmi_allowed(false);
  delay += clock_.span(kIntcAccessCycles);
  if (payload.get_data_length() != 4 || payload.get_byte_enable_ptr() != nullptr) {
    payload.set_response_status(tlm::TLM_BURST_ERROR_RESPONSE);
    return;
  }
  if (payload.get_address() >= intc_->size_bytes()) {
    payload.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    return;
  }
  const auto offset = static_cast<uint32_t>(payload.get_address());
  uint32_t value = 0;
  regs::Result result = regs::Result::ok;
  if (payload.is_read()) {
    result = intc_->read(origin_of(payload), offset, value);
    std::memcpy(payload.get_data_ptr(), &value, 4);
  } else if (payload.is_write()) {
    std::memcpy(&value, payload.get_data_ptr(), 4);
    result = intc_->write(origin_of(payload), offset, value);
  }
  payload.set_response_status(result == regs::Result::ok ? tlm::TLM_OK_RESPONSE : tlm::TLM_ADDRESS_ERROR_RESPONSE);
}

// ---- tightly coupled memory ----

unsigned ControlProcessor::tcm_debug(tlm::tlm_generic_payload &payload) {
  const uint64_t address = payload.get_address();
  const uint64_t length = payload.get_data_length();
  if (address > tcm_.size() || length > tcm_.size() - address) {
    payload.set_response_status(tlm::TLM_ADDRESS_ERROR_RESPONSE);
    return 0;
  }
  if (payload.is_read()) std::memcpy(payload.get_data_ptr(), tcm_.data() + address, length);
  if (payload.is_write()) std::memcpy(tcm_.data() + address, payload.get_data_ptr(), length);
  payload.set_response_status(tlm::TLM_OK_RESPONSE);
  return static_cast<unsigned>(length);
}

void ControlProcessor::tcm_transport(tlm::tlm_generic_payload &payload, sc_core::sc_time &delay) {
  if (payload.get_byte_enable_ptr() != nullptr) {
    payload.set_response_status(tlm::TLM_BYTE_ENABLE_ERROR_RESPONSE);
    return;
  }
  tcm_debug(payload);
  payload.set_dmi_allowed(true);
  delay += clock_.span((payload.get_data_length() + kTcmBytesPerCycle - 1) / kTcmBytesPerCycle);
}

bool ControlProcessor::tcm_dmi(tlm::tlm_generic_payload &, tlm::tlm_dmi &dmi) {
  dmi.set_start_address(0);
  dmi.set_end_address(tcm_.size() - 1);
  dmi.set_dmi_ptr(tcm_.data());
  dmi.allow_read_write();
  dmi.set_read_latency(clock_.period());
  dmi.set_write_latency(clock_.period());
  return true;
}

}  // namespace cx::hw
