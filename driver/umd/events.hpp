// Events of the card's event log, as the driver hands them on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver/include/cx/error.hpp"

namespace cx {

/// Bit numbers of ras.PENDING (docs/reference/ras.md).
enum class EventKind : uint32_t {
  kIommu,
  kPacket,
  kInstruction,
  kProgram,
  kEccCorrected,
  kEccUncorrected,
  kHang,
  kFirmwareCrash,
  kLinkDown,
  kThermal,
  kEngine
};
constexpr uint32_t kEventKinds = 11;
constexpr uint32_t event_bit(EventKind kind) { return 1u << static_cast<uint32_t>(kind); }

/// The first event of its kind since the driver had acknowledged the kind before.
struct DeviceEvent {
  EventKind kind = EventKind::kPacket;
  uint64_t order = 0;        ///< place among the events that the card has captured since power-on, from 1
  uint64_t count = 1;        ///< events of this kind that this one stands for
  uint64_t time_cycles = 0;  ///< device time
  uint32_t status = 0;       ///< status code of docs/reference/packets.md; 0: a corrected error
  int queue = -1;            ///< -1: none
  int engine = -1;           ///< isa engine number; -1: none
  uint64_t packet = 0;       ///< index of the packet in its queue
  uint64_t pc = 0;           ///< of the engine's stream; firmware crash: the control processor's program counter
  uint64_t address = 0;      ///< offending address; firmware crash: the trap's value
  uint32_t channel = 0;      ///< ECC: DRAM channel
  uint32_t syndrome = 0;     ///< ECC
  int bit = -1;              ///< ECC: bit of the code word that was corrected; -1: none
  uint32_t celsius = 0;      ///< thermal trip
  uint32_t cause = 0;        ///< firmware crash: cause of the trap
  std::vector<DeviceFault::EngineState> engines;  ///< hang: the watchdog's report
};

/// "iommu", "packet", ...
const char *name_of(EventKind kind);
/// Throws InputError for a name that is none.
EventKind event_kind_from(const std::string &name);
std::string describe(const DeviceEvent &event);
/// "engine load hangs at instruction 7; engine vpu waits at ... for semaphore 3 (0, needs 1), which ..."
std::string describe(const std::vector<DeviceFault::EngineState> &engines);

/// What brought a card back.
struct Recovery {
  enum class Level : uint32_t { kNone, kQueueReset, kEngineReset, kFunctionReset };
  Level level = Level::kNone;    ///< the last that was tried; it helped
  std::vector<uint32_t> queues;  ///< that were reset, by id
  uint64_t packets_lost = 0;     ///< that had been submitted to them and ended as ABORTED
  std::string text;              ///< what was tried and what it did, for people
};
const char *name_of(Recovery::Level level);

}  // namespace cx
