#include "hw/pcie/endpoint.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "hw/common/port/pci_id.h"
#include "hw/noc/register_target.hpp"
#include "hw/regs/gen/map.h"

namespace cx::hw {

using regs::MsixReg;
using regs::MsixRegs;

namespace {

std::string place(int bar, std::uint64_t offset, std::size_t size) {
  char text[80];
  if (bar == PcieEndpoint::kConfigSpace) {
    std::snprintf(text, sizeof text, "configuration space offset 0x%llx, %zu bytes",
                  static_cast<unsigned long long>(offset), size);
  } else {
    std::snprintf(text, sizeof text, "BAR%d offset 0x%llx, %zu bytes", bar, static_cast<unsigned long long>(offset),
                  size);
  }
  return text;
}

}  // namespace

PcieEndpoint::PcieEndpoint(sc_core::sc_module_name name, const Clock &clock, const PcieParams &params)
    : sc_module(name),
      bus("bus"),
      registers("registers"),
      clock_(clock),
      params_(params),
      link_(clock, params.link),
      config_({params.vendor_id, params.device_id, CX_BAR0_SIZE, params.bar2_bytes, params.bar4_bytes, params.link.gen,
               params.link.width, params.link.mps, params.link.mrrs, params.link.tags, params.link.rcb}),
      words_(CX_BAR0_SIZE / 4, false),
      request_event_("request_event"),
      message_event_("message_event") {
  registers.register_b_transport(this, &PcieEndpoint::b_transport);
  setup_registers();
  config_.on_change([this] { apply_config(); });
  config_.on_function_reset([this] { function_reset(); });
  add_registers(CX_MAP_MSIX_OFFSET, regs_);

  sc_core::sc_spawn([this] { serve(); }, "serve");
  sc_core::sc_spawn_options options;
  options.spawn_method();
  options.dont_initialize();
  options.set_sensitivity(&message_event_);
  sc_core::sc_spawn([this] { deliver_messages(); }, "deliver", &options);
}

PcieEndpoint::~PcieEndpoint() = default;

void PcieEndpoint::add_registers(std::uint64_t bar0_offset, const regs::RegFile &file) {
  add_registers(bar0_offset, file.table());
}

void PcieEndpoint::add_registers(std::uint64_t bar0_offset, std::span<const regs::RegDesc> table) {
  for (const regs::RegDesc &desc : table) {
    for (unsigned index = 0; index < desc.count; ++index) {
      words_.at((bar0_offset + desc.offset + index * desc.stride) / 4) = true;
    }
  }
}

// ---- requests by the host ----

std::optional<std::string> PcieEndpoint::refuse(int bar, std::uint64_t offset, std::size_t size) {
  const char *reason = nullptr;
  if (bar == kConfigSpace) {
    if ((size != 1 && size != 2 && size != 4) || offset % size != 0) {
      reason = "expected a naturally aligned access of 1, 2 or 4 bytes";
    } else if (offset >= ConfigSpace::kBytes) {
      reason = "outside of configuration space";
    }
  } else if (bar != 0 && bar != 2 && bar != 4) {
    reason = "no such BAR";
  } else if (!config_.memory_enabled()) {
    reason = "memory space is not enabled (command register) or the function is not in D0";
  } else if (bar == 0) {
    if (size != 4 || offset % 4 != 0) {
      reason = "registers take aligned 4-byte accesses only";
    } else if (offset >= CX_BAR0_SIZE) {
      reason = "outside of BAR0";
    } else if (!words_[offset / 4]) {
      reason = "no such register";
    }
  } else {
    const std::uint64_t bytes = bar == 2 ? params_.tcm_bytes : std::min(params_.dram_bytes, config_.bar4_bytes());
    if (size == 0 || offset >= bytes || size > bytes - offset) {
      reason = bar == 2 ? "outside of the firmware memory" : "outside of the device memory that the BAR shows";
    }
  }
  if (reason == nullptr) return std::nullopt;
  ++refused_;
  if (bar != kConfigSpace) config_.set_unsupported_request();
  return place(bar, offset, size) + ": " + reason;
}

void PcieEndpoint::post_write(int bar, std::uint64_t offset, const void *data, std::size_t size) {
  const auto *bytes = static_cast<const std::byte *>(data);
  Request request{link_.host_write(clock_.now(), size), bar, offset, {bytes, bytes + size}};
  requests_.push_back(std::move(request));
  request_event_.notify(sc_core::SC_ZERO_TIME);
}

void PcieEndpoint::send_read(Read &read) {
  requests_.push_back({link_.host_read_request(clock_.now()), read.bar, read.offset, {}, &read});
  request_event_.notify(sc_core::SC_ZERO_TIME);
}

void PcieEndpoint::send_config_write(Read &write) {
  requests_.push_back({link_.host_write(clock_.now(), write.size), write.bar, write.offset, {}, &write, true});
  request_event_.notify(sc_core::SC_ZERO_TIME);
}

void PcieEndpoint::serve() {
  for (;;) {
    while (requests_.empty()) sc_core::wait(request_event_);
    const sc_core::sc_time left = clock_.until(requests_.front().arrival);
    if (left != sc_core::SC_ZERO_TIME) sc_core::wait(left);
    if (requests_.empty()) continue;  // a reset dropped it
    Request request = std::move(requests_.front());
    requests_.pop_front();
    serve_one(request);
  }
}

void PcieEndpoint::serve_one(Request &request) {
  sc_core::sc_time delay = sc_core::SC_ZERO_TIME;
  if (request.read == nullptr) {
    // An error of a posted write goes nowhere, as on a real link; refuse() has told the host what it can know.
    std::string error;
    bus_access(true, request.bar, request.offset, request.posted.data(), request.posted.size(), delay, error);
    if (!error.empty()) ++refused_;
    return;
  }
  Read &read = *request.read;
  if (read.bar == kConfigSpace) {
    std::uint32_t value = 0;
    if (request.config_write) {
      std::memcpy(&value, read.data, read.size);
      config_.write(static_cast<std::uint32_t>(read.offset), static_cast<unsigned>(read.size), value);
    } else {
      config_.read(static_cast<std::uint32_t>(read.offset), static_cast<unsigned>(read.size), value);
      std::memcpy(read.data, &value, read.size);
    }
  } else {
    bus_access(false, read.bar, read.offset, read.data, read.size, delay, read.error);
    if (!read.error.empty()) ++refused_;
  }
  const Cycles sent = clock_.ceil(sc_core::sc_time_stamp() + delay);
  answer(read, link_.host_read_completion(sent, read.size));
}

void PcieEndpoint::answer(Read &read, Cycles ready) {
  // Later requests wait for the answer; the host sends one read at a time.
  const sc_core::sc_time left = clock_.until(ready);
  if (left != sc_core::SC_ZERO_TIME) sc_core::wait(left);
  read.done = true;
  sc_core::sc_pause();
}

void PcieEndpoint::bus_access(bool write, int bar, std::uint64_t offset, std::byte *data, std::size_t size,
                              sc_core::sc_time &delay, std::string &error) {
  tlm::tlm_generic_payload transaction;
  transaction.set_command(write ? tlm::TLM_WRITE_COMMAND : tlm::TLM_READ_COMMAND);
  const std::uint64_t base = bar == 0 ? CX_PERIPHERAL_BASE : bar == 2 ? CX_MEM_TCM_BASE : CX_MEM_DRAM_BASE;
  transaction.set_address(base + offset);
  transaction.set_data_ptr(reinterpret_cast<unsigned char *>(data));
  transaction.set_data_length(static_cast<unsigned>(size));
  transaction.set_streaming_width(static_cast<unsigned>(size));
  transaction.set_response_status(tlm::TLM_INCOMPLETE_RESPONSE);
  bus->b_transport(transaction, delay);
  if (!transaction.is_response_ok()) {
    error = place(bar, offset, size) + ": " + transaction.get_response_string();
  }
}

void PcieEndpoint::function_reset() {
  config_.function_reset();
  if (function_reset_) function_reset_();
  apply_config();
}

bool PcieEndpoint::take_error() { return std::exchange(error_, false); }

void PcieEndpoint::set_link(bool up) {
  if (up == link_up_) return;
  link_up_ = up;
  if (up) {
    function_reset();
    return;
  }
  for (Request &request : requests_) {
    if (request.read == nullptr) continue;
    if (!request.config_write) std::memset(request.read->data, 0xff, request.read->size);
    request.read->done = true;
  }
  requests_.clear();
  messages_.clear();
  message_event_.cancel();
  error_ = announce_ = true;
  sc_core::sc_pause();
}

void PcieEndpoint::internal_error(bool correctable) {
  config_.set_internal_error(correctable);
  if (correctable || !link_up_) return;
  error_ = announce_ = true;
  sc_core::sc_pause();
}

bool PcieEndpoint::arm(std::uint32_t vector, bool armed) {
  if (vector >= MsixRegs::CONTROL_COUNT) return false;
  regs_.set(MsixReg::CONTROL, armed ? 0 : 1, vector);
  if (armed) config_.enable_msix();
  if (pending(vector) && deliverable(vector)) send(vector);
  return true;
}

std::uint64_t PcieEndpoint::region_bytes(int bar) const {
  if (bar == kConfigSpace) return ConfigSpace::kBytes;
  if (bar == 0) return CX_BAR0_SIZE;
  if (bar == 4) return params_.bar4_bytes;
  return bar == 2 ? params_.bar2_bytes : 0;
}

// ---- DMA and other functions ----

Cycles PcieEndpoint::dma_read(Cycles start, const PcieRuns &runs) {
  PeerMemory *peer = host_memory_.peer(runs.address);
  const Cycles arrived = link_.dma_read(start, runs);
  if (peer == nullptr) return arrived;
  const std::uint64_t period = clock_.period_ps();
  const std::uint64_t answered = peer->answered((start + link_.latency()) * period, runs);
  return std::max(arrived, (answered + period - 1) / period + link_.latency());
}

Cycles PcieEndpoint::dma_write(Cycles start, const PcieRuns &runs) {
  PeerMemory *peer = host_memory_.peer(runs.address);
  const Cycles left = link_.dma_write(start, runs);
  if (peer == nullptr) return left;
  const std::uint64_t period = clock_.period_ps();
  return (peer->written((left + link_.latency()) * period, runs) + period - 1) / period;
}

namespace {

std::uint64_t span_of(const PcieRuns &runs) { return (runs.rows - 1) * runs.pitch + runs.row_bytes; }

}  // namespace

Cycles PcieEndpoint::peer_write(Cycles arrival, std::uint64_t offset, const PcieRuns &runs) {
  return memory_price_(link_.peer_write(arrival, runs), offset, span_of(runs), runs.bytes(), true);
}

Cycles PcieEndpoint::peer_read(Cycles arrival, std::uint64_t offset, const PcieRuns &runs) {
  const Cycles requested = link_.peer_read_request(arrival, runs);
  return link_.peer_read_completion(memory_price_(requested, offset, span_of(runs), runs.bytes(), false), runs);
}

// ---- MSI-X ----

void PcieEndpoint::setup_registers() {
  regs_.on_write(MsixReg::CONTROL, [this](unsigned vector, std::uint32_t, std::uint32_t, std::uint32_t) {
    if (pending(vector) && deliverable(vector)) send(vector);
  });
  regs_.on_write(MsixReg::TRIGGER,
                 [this](unsigned, std::uint32_t, std::uint32_t written, std::uint32_t) { raise(written & 0xffff); });
}

void PcieEndpoint::b_transport(tlm::tlm_generic_payload &transaction, sc_core::sc_time &delay) {
  access_registers(regs_, transaction);
  delay += clock_.period();
}

bool PcieEndpoint::pending(std::uint32_t vector) const {
  return (regs_.get(MsixReg::PBA, vector / 32) >> (vector % 32) & 1) != 0;
}

void PcieEndpoint::set_pending(std::uint32_t vector, bool value) {
  const std::uint32_t bit = 1u << (vector % 32);
  const std::uint32_t word = regs_.get(MsixReg::PBA, vector / 32);
  regs_.set(MsixReg::PBA, value ? word | bit : word & ~bit, vector / 32);
}

bool PcieEndpoint::deliverable(std::uint32_t vector) const {
  return link_up_ && config_.msix_enabled() && !config_.msix_function_mask() && config_.bus_master() &&
         regs_.get(MsixRegs::CONTROL_MASK, vector) == 0;
}

void PcieEndpoint::raise(std::uint32_t vector) {
  if (vector >= MsixRegs::CONTROL_COUNT) {
    regs_.set(MsixReg::REFUSED, regs_.get(MsixReg::REFUSED) + 1);
    return;
  }
  if (deliverable(vector)) {
    send(vector);
  } else {
    set_pending(vector, true);
  }
}

void PcieEndpoint::send(std::uint32_t vector) {
  set_pending(vector, false);
  regs_.set(MsixReg::SENT, regs_.get(MsixReg::SENT) + 1);
  messages_.push_back({link_.message(clock_.now()), vector});
  if (trace_ != nullptr) {
    trace_->append({trace_->time(clock_.now()),
                    trace_->time(messages_.back().arrival),
                    trace_->new_id(),
                    message_cause_ ? message_cause_() : 0,
                    CX_TRACE_INTERRUPT,
                    static_cast<std::uint16_t>(vector),
                    0,
                    {}});
  }
  if (messages_.size() == 1) message_event_.notify(clock_.until(messages_.front().arrival));
}

void PcieEndpoint::set_trace(Trace *trace, std::function<std::uint64_t()> cause) {
  link_.set_trace(trace);
  trace_ = trace;
  message_cause_ = std::move(cause);
}

void PcieEndpoint::send_pending() {
  for (std::uint32_t vector = 0; vector < MsixRegs::CONTROL_COUNT; ++vector) {
    if (pending(vector) && deliverable(vector)) send(vector);
  }
}

void PcieEndpoint::deliver_messages() {
  const Cycles now = clock_.now();
  bool arrived = false;
  while (!messages_.empty() && messages_.front().arrival <= now) {
    arrived_.push_back(messages_.front().vector);
    messages_.pop_front();
    arrived = true;
  }
  if (!messages_.empty()) message_event_.notify(clock_.until(messages_.front().arrival));
  if (arrived) sc_core::sc_pause();
}

PcieLimits PcieEndpoint::limits() const {
  return {config_.mps(), config_.mrrs(), config_.tags(), config_.rcb(), config_.relaxed_ordering()};
}

void PcieEndpoint::apply_config() {
  link_.set_limits(limits());
  send_pending();
}

void PcieEndpoint::reset(bool power_on) {
  regs_.reset();
  messages_.clear();
  message_event_.cancel();
  if (!power_on) return;
  link_up_ = true;
  error_ = announce_ = false;
  config_.reset();
  link_.reset();
  link_.set_limits(limits());
  requests_.clear();
  arrived_.clear();
  host_memory_.clear();
  refused_ = 0;
}

}  // namespace cx::hw
