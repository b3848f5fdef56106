// Events, the health of the card, and the ways back from a fault.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "driver/umd/device.hpp"
#include "driver/umd/pci_function.hpp"
#include "driver/umd/stream.hpp"
#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/packets.hpp"
#include "hw/regs/gen/queue_regs.h"
#include "hw/regs/gen/ras_regs.h"

namespace cx {

namespace {

constexpr uint32_t kOnes = 0xffff'ffff;
// The specification gives a function this long after a function-level reset.
constexpr uint64_t kAfterResetUs = 100'000;
constexpr uint64_t kLinkPollUs = 100;
constexpr size_t kHangsKept = 16;
constexpr size_t kEventsKept = 4096;

constexpr uint64_t dev(uint64_t reg) { return CX_MAP_DEV_OFFSET + reg; }
constexpr uint64_t ras(uint64_t reg) { return CX_MAP_RAS_OFFSET + reg; }
constexpr uint64_t engine_page(int engine) {
  return CX_MAP_LOAD_OFFSET + static_cast<uint64_t>(engine) * CX_MAP_PAGE_SIZE;
}

uint32_t field(uint32_t word, uint32_t mask, uint32_t shift) { return (word & mask) >> shift; }
int owner(uint32_t number) { return number == 0xff ? -1 : static_cast<int>(number); }

}  // namespace

// ---- events ----

void Device::enable_events() {
  if (event_fd_ < 0) {
    event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (event_fd_ < 0) throw Error(std::string("eventfd: ") + std::strerror(errno));
  }
  event_vector_ = info_.msix_vectors - 1;
  write_register(ras(CX_RAS_MASK), event_mask_);
  write_register(ras(CX_RAS_VECTOR), event_vector_);
  collect_events();
}

void Device::set_event_mask(uint32_t mask) {
  const std::lock_guard lock(lock_);
  event_mask_ = mask;
  write_register(ras(CX_RAS_MASK), mask);
}

DeviceEvent Device::read_event(uint32_t kind) {
  const auto reg = [&](uint64_t offset) { return read_register(ras(offset)); };
  DeviceEvent event;
  event.kind = static_cast<EventKind>(kind);
  event.order = reg(CX_RAS_EVENT_ORDER(kind));
  event.status = reg(CX_RAS_EVENT_STATUS(kind));
  const uint32_t source = reg(CX_RAS_EVENT_SOURCE(kind));
  event.queue = owner(field(source, CX_RAS_EVENT_SOURCE_QUEUE_MASK, CX_RAS_EVENT_SOURCE_QUEUE_SHIFT));
  event.engine = owner(field(source, CX_RAS_EVENT_SOURCE_ENGINE_MASK, CX_RAS_EVENT_SOURCE_ENGINE_SHIFT));
  event.packet = reg(CX_RAS_EVENT_PACKET(kind));
  event.pc = reg(CX_RAS_EVENT_PC(kind));
  event.address = read_register64(ras(CX_RAS_EVENT_ADDR_LO(kind)));
  event.time_cycles = read_register64(ras(CX_RAS_EVENT_TIME_LO(kind)));
  const uint32_t info = reg(CX_RAS_EVENT_INFO(kind));
  if (event.kind == EventKind::kEccCorrected || event.kind == EventKind::kEccUncorrected) {
    event.syndrome = field(info, CX_RAS_EVENT_INFO_SYNDROME_MASK, CX_RAS_EVENT_INFO_SYNDROME_SHIFT);
    event.channel = field(info, CX_RAS_EVENT_INFO_CHANNEL_MASK, CX_RAS_EVENT_INFO_CHANNEL_SHIFT);
    event.bit = owner(field(info, CX_RAS_EVENT_INFO_BIT_MASK, CX_RAS_EVENT_INFO_BIT_SHIFT));
  }
  if (event.kind == EventKind::kThermal) event.celsius = info;
  if (event.kind == EventKind::kFirmwareCrash) event.cause = info;
  if (event.kind == EventKind::kHang) event.engines = read_hang();
  event.count = reg(CX_RAS_EVENT_COUNT(kind));
  return event;
}

std::vector<DeviceFault::EngineState> Device::read_hang() {
  using State = DeviceFault::EngineState::State;
  std::vector<DeviceFault::EngineState> engines;
  for (int n = 0; n < kEngines; ++n) {
    const uint32_t word = read_register(ras(CX_RAS_HANG_STATE(n)));
    const uint32_t state = field(word, CX_RAS_HANG_STATE_STATE_MASK, CX_RAS_HANG_STATE_STATE_SHIFT);
    if (state == CX_RAS_HANG_STATE_STATE_UNUSED) continue;
    DeviceFault::EngineState engine;
    engine.engine = n;
    engine.pc = read_register(ras(CX_RAS_HANG_PC(n)));
    if (state == CX_RAS_HANG_STATE_STATE_FINISHED) engine.state = State::kFinished;
    if (state == CX_RAS_HANG_STATE_STATE_HUNG) engine.state = State::kHung;
    if (state == CX_RAS_HANG_STATE_STATE_WAITING) {
      engine.state = State::kWaiting;
      const uint32_t sem = read_register(ras(CX_RAS_HANG_SEM(n)));
      engine.semaphore = static_cast<int>(field(word, CX_RAS_HANG_STATE_SEM_MASK, CX_RAS_HANG_STATE_SEM_SHIFT));
      engine.value = field(sem, CX_RAS_HANG_SEM_VALUE_MASK, CX_RAS_HANG_SEM_VALUE_SHIFT);
      engine.need = field(sem, CX_RAS_HANG_SEM_NEED_MASK, CX_RAS_HANG_SEM_NEED_SHIFT);
      engine.poster = owner(field(word, CX_RAS_HANG_STATE_POSTER_MASK, CX_RAS_HANG_STATE_POSTER_SHIFT));
      engine.poster_pc = read_register(ras(CX_RAS_HANG_POSTER_PC(n)));
    }
    engines.push_back(engine);
  }
  return engines;
}

void Device::collect_events() {
  const uint32_t pending = read_register(ras(CX_RAS_PENDING));
  if (pending == 0) return;
  std::vector<DeviceEvent> found;
  for (uint32_t kind = 0; kind < kEventKinds; ++kind) {
    if ((pending >> kind & 1) == 0) continue;
    DeviceEvent event = read_event(kind);
    // A link that goes down swallows the acknowledgement: the card still holds what has been read.
    if (std::exchange(seen_[kind], event.order) != event.order) found.push_back(std::move(event));
  }
  write_register(ras(CX_RAS_PENDING), pending);
  std::sort(found.begin(), found.end(), [](const auto &a, const auto &b) { return a.order < b.order; });
  for (DeviceEvent &event : found) {
    if (event.kind == EventKind::kHang) {
      hangs_.push_back(event);
      if (hangs_.size() > kHangsKept) hangs_.pop_front();
    }
    const bool crashed = event.kind == EventKind::kFirmwareCrash;
    DeviceFault::Record record;
    record.status = event.status;
    record.pc = event.pc;
    record.address = event.address;
    // A program that never asks for its events must not grow without bound: the oldest tell most.
    if (events_.size() < kEventsKept) {
      events_.push_back(event);
      const uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = ::write(event_fd_, &one, sizeof one);
    }
    if (on_event_) on_event_(event);
    if (crashed && !dead_ && firmware_crashed()) declare_dead(record);
  }
}

std::optional<DeviceEvent> Device::next_event() {
  const std::lock_guard lock(lock_);
  if (!dead_) {
    transport_->advance(0);
    drain_interrupts();
  }
  if (events_.empty()) return std::nullopt;
  uint64_t one = 0;
  [[maybe_unused]] const ssize_t bytes = ::read(event_fd_, &one, sizeof one);
  const DeviceEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::vector<DeviceEvent> Device::take_events() {
  std::vector<DeviceEvent> events;
  while (auto event = next_event()) events.push_back(std::move(*event));
  return events;
}

std::vector<DeviceFault::EngineState> Device::hang_of(uint32_t queue, uint64_t packet) {
  collect_events();
  for (const DeviceEvent &event : hangs_) {
    if (event.queue == static_cast<int>(queue) && event.packet == static_cast<uint32_t>(packet)) return event.engines;
  }
  return {};
}

// ---- health ----

bool Device::link_is_down() { return read_config<uint32_t>(*transport_, kPciId) == kOnes; }

bool Device::firmware_crashed() {
  return (read_register(dev(CX_DEV_FW_STATUS)) & CX_DEV_FW_STATUS_STATE_MASK) == CX_DEV_FW_STATUS_STATE_CRASHED;
}

void Device::declare_dead(const DeviceFault::Record &record) {
  dead_ = record;
  for (const auto &queue : queues_) queue->abandon(record.status);
}

void Device::check_link() {
  // A link that came up again by itself has left a function that is set up no more.
  if (!link_is_down() && (read_config<uint16_t>(*transport_, kPciCommand) & kCommandMemory) != 0) return;
  DeviceFault::Record record;
  record.status = CX_STATUS_LINK_DOWN;
  if (!dead_) declare_dead(record);
  throw_fault(record, describe(record));
}

void Device::check_health() {
  if (dead_) return;
  check_link();
  if (!firmware_crashed()) return;
  collect_events();
  DeviceFault::Record record;
  record.status = CX_STATUS_FIRMWARE_CRASH;
  if (!dead_) declare_dead(record);
}

void Device::require_alive() const {
  if (dead_) throw_fault(*dead_, describe(*dead_) + "; Device::recover() may help");
}

void Device::throw_fault(const DeviceFault::Record &record, const std::string &message) {
  if (record.status == CX_STATUS_LINK_DOWN) throw LinkDownError(record, message);
  if (record.status == CX_STATUS_FIRMWARE_CRASH) throw FirmwareCrashError(record, message);
  throw DeviceFault(record, message);
}

std::vector<DeviceFault::EngineState> Device::engine_states() {
  using State = DeviceFault::EngineState::State;
  std::vector<DeviceFault::EngineState> engines;
  for (int n = 0; n < kEngines; ++n) {
    const uint32_t status = read_register(engine_page(n) + CX_ENGINE_STATUS);
    if ((status & CX_ENGINE_STATUS_BUSY_MASK) == 0) continue;
    DeviceFault::EngineState engine;
    engine.engine = n;
    engine.pc = read_register(engine_page(n) + CX_ENGINE_PC);
    if ((status & CX_ENGINE_STATUS_WAITING_MASK) != 0) {
      const uint32_t wait = read_register(engine_page(n) + CX_ENGINE_WAIT_SEM);
      engine.state = State::kWaiting;
      engine.semaphore = static_cast<int>(field(wait, CX_ENGINE_WAIT_SEM_SEM_MASK, CX_ENGINE_WAIT_SEM_SEM_SHIFT));
      engine.need = field(wait, CX_ENGINE_WAIT_SEM_NEED_MASK, CX_ENGINE_WAIT_SEM_NEED_SHIFT);
      engine.value = read_register(engine_page(n) + CX_ENGINE_SEM_VALUE);
    }
    engines.push_back(engine);
  }
  return engines;
}

// ---- recovery ----

Recovery Device::recover(uint64_t limit_us) {
  const std::lock_guard lock(lock_);
  // A packet that a stream put into a queue before it is made again would be lost.
  const StreamSet::Pause pause(streams_.get());
  Recovery result;
  const auto say = [&](const std::string &text) { result.text += (result.text.empty() ? "" : "; ") + text; };
  try {
    check_health();
    if (!dead_ && recover_queues(result, say)) return result;
  } catch (const DeviceLostError &) {
    throw;
  } catch (const DeviceFault &fault) {
    say(fault.what());
  }
  if (dead_) say(describe(*dead_));
  result.level = Recovery::Level::kFunctionReset;
  reset_function(result, limit_us ? limit_us : options_.boot_limit_us);
  say("function reset, firmware booted, " + std::to_string(queues_.size()) + " queues made again");
  return result;
}

template <class Say>
bool Device::recover_queues(Recovery &result, Say &&say) {
  for (const auto &queue : queues_) {
    const uint32_t state = read_register(CX_MAP_QUEUE_OFFSET + CX_QUEUE_STATE(queue->id()));
    const bool failed = (state & CX_QUEUE_STATE_STATE_MASK) == CX_QUEUE_STATE_STATE_ERROR;
    if (!queue->suspect() && !failed) continue;
    result.level = Recovery::Level::kQueueReset;
    host_command(CX_DEV_HOST_CMD_OP_QUEUE_RESET, queue->id());
    result.queues.push_back(queue->id());
    result.packets_lost += queue->abandon(CX_STATUS_ABORTED);
    queue->restart();
    enable_queue(*queue);
    say("queue " + std::to_string(queue->id()) + " reset");
  }
  if (read_register(ras(CX_RAS_STUCK)) == 0) {
    if (result.level == Recovery::Level::kNone) say("nothing to recover from");
    return true;
  }
  result.level = Recovery::Level::kEngineReset;
  host_command(CX_DEV_HOST_CMD_OP_ENGINE_RESET, 0);
  const uint32_t stuck = read_register(ras(CX_RAS_STUCK));
  say(stuck == 0 ? "engines reset" : "engines reset, but they are stuck still");
  return stuck == 0;
}

void Device::sleep_us(uint64_t us) {
  const uint64_t end = transport_->time_ps() + us * 1'000'000;
  while (transport_->time_ps() < end) {
    if (transport_->advance(end - transport_->time_ps()) == Transport::Wake::kIdle) return;
    while (transport_->take_interrupt()) {
    }
    transport_->take_error();
  }
}

void Device::reset_function(Recovery &result, uint64_t limit_us) {
  const uint64_t deadline = transport_->time_ps() + limit_us * 1'000'000;
  while (link_is_down()) {
    const uint64_t before = transport_->time_ps();
    if (before < deadline) sleep_us(kLinkPollUs);
    if (transport_->time_ps() == before && link_is_down()) {
      DeviceFault::Record record;
      record.status = CX_STATUS_LINK_DOWN;
      throw_fault(record, describe(record) + "; it did not come up again within " + std::to_string(limit_us) + " us");
    }
  }
  if (!dead_) dead_.emplace();  // nobody asks registers while the function is reset
  if (dead_->status == CX_STATUS_OK) dead_->status = CX_STATUS_ABORTED;
  for (const auto &queue : queues_) {
    result.queues.push_back(queue->id());
    result.packets_lost += queue->abandon(dead_->status);
  }
  std::sort(result.queues.begin(), result.queues.end());
  result.queues.erase(std::unique(result.queues.begin(), result.queues.end()), result.queues.end());
  initiate_function_reset();
  sleep_us(kAfterResetUs);
  size_bars();
  configure_link();
  enable_msix();
  boot();
  dead_.reset();
  enable_events();
  for (const auto &queue : queues_) {
    queue->restart();
    enable_queue(*queue);
  }
}

void Device::end_thermal_trip() { write_register(ras(CX_RAS_THERMAL_ACK), 1); }

uint64_t Device::corrected_errors() { return read_register(ras(CX_RAS_CORRECTED)); }

}  // namespace cx
