#include "driver/umd/events.hpp"

#include <sstream>

#include "driver/umd/counters.hpp"
#include "hw/regs/gen/packets.hpp"

namespace cx {

namespace {

constexpr const char *kNames[kEventKinds] = {"iommu",         "packet",          "instruction", "program",
                                             "ecc_corrected", "ecc_uncorrected", "hang",        "firmware_crash",
                                             "link_down",     "thermal",         "engine"};

std::string engine_name(int engine) {
  return engine >= 0 && engine < kEngines ? kEngineNames[engine] : "#" + std::to_string(engine);
}

}  // namespace

const char *name_of(EventKind kind) {
  const auto n = static_cast<uint32_t>(kind);
  return n < kEventKinds ? kNames[n] : "?";
}

EventKind event_kind_from(const std::string &name) {
  std::string all;
  for (uint32_t n = 0; n < kEventKinds; ++n) {
    if (name == kNames[n]) return static_cast<EventKind>(n);
    all += (n != 0 ? ", " : "") + std::string(kNames[n]);
  }
  throw InputError("event '" + name + "': expected one of " + all);
}

const char *name_of(Recovery::Level level) {
  switch (level) {
    case Recovery::Level::kNone:
      return "none";
    case Recovery::Level::kQueueReset:
      return "queue reset";
    case Recovery::Level::kEngineReset:
      return "engine reset";
    default:
      return "function reset";
  }
}

std::string describe(const std::vector<DeviceFault::EngineState> &engines) {
  using State = DeviceFault::EngineState::State;
  std::string text;
  for (const DeviceFault::EngineState &engine : engines) {
    if (engine.state == State::kFinished) continue;
    if (!text.empty()) text += "; ";
    text += "engine " + engine_name(engine.engine);
    const std::string at = " at instruction " + std::to_string(engine.pc);
    if (engine.state == State::kBusy) text += " works" + at;
    if (engine.state == State::kHung) text += " hangs" + at + " (neither works nor waits)";
    if (engine.state != State::kWaiting) continue;
    text += " waits" + at + " for semaphore " + std::to_string(engine.semaphore) + " (is " +
            std::to_string(engine.value) + ", needs " + std::to_string(engine.need) + "), ";
    text += engine.poster < 0 ? "which no unfinished engine posts"
                              : "which engine " + engine_name(engine.poster) + " posts at instruction " +
                                    std::to_string(engine.poster_pc);
  }
  return text;
}

std::string describe(const DeviceEvent &event) {
  std::ostringstream text;
  text << name_of(event.kind);
  if (event.status != 0) text << ": " << packets::status_name(event.status);
  if (event.queue >= 0) text << "; queue " << event.queue << " packet " << event.packet;
  if (event.engine >= 0) text << "; engine " << engine_name(event.engine) << " instruction " << event.pc;
  const auto address = [&](const char *what) {
    text << "; " << what << " 0x" << std::hex << event.address << std::dec;
  };
  switch (event.kind) {
    case EventKind::kEccCorrected:
    case EventKind::kEccUncorrected:
      address("address");
      text << "; channel " << event.channel << " syndrome 0x" << std::hex << event.syndrome << std::dec;
      if (event.bit >= 0) text << " bit " << event.bit;
      break;
    case EventKind::kFirmwareCrash:
      text << "; pc 0x" << std::hex << event.pc << " cause " << std::dec << event.cause;
      address("value");
      break;
    case EventKind::kThermal:
      text << "; " << event.celsius << " degrees Celsius";
      break;
    case EventKind::kHang:
      if (!event.engines.empty()) text << "; " << describe(event.engines);
      break;
    default:
      if (event.address != 0) address("address");
  }
  if (event.count > 1) text << "; " << event.count << " times";
  return text.str();
}

}  // namespace cx
