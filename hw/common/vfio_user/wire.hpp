// Messages of the vfio-user protocol, version 0.1, as its public specification lays them out (libvfio-user,
// docs/vfio-user.rst), and the values of <linux/vfio.h> that it refers to. Host byte order.
#pragma once

#include <cstdint>

namespace cx::vfio {

constexpr std::uint16_t kMajor = 0;
constexpr std::uint16_t kMinor = 1;

enum Command : std::uint16_t {
  kVersion = 1,
  kDmaMap = 2,
  kDmaUnmap = 3,
  kGetInfo = 4,
  kGetRegionInfo = 5,
  kGetRegionIoFds = 6,
  kGetIrqInfo = 7,
  kSetIrqs = 8,
  kRegionRead = 9,
  kRegionWrite = 10,
  kDmaRead = 11,   ///< server to client
  kDmaWrite = 12,  ///< server to client
  kDeviceReset = 13,
  kRegionWriteMulti = 15,
  /// Simulated time, outside of the specification: only for peers that both state the capability kTimeCapability.
  kAdvance = 0x4358,
  /// Provokes a fault, outside of the specification: only for peers that both state kFaultCapability. Payload: its text
  /// (hw/ras/fault_spec.hpp). Reply: empty, or why it is refused.
  kInject = 0x4359,
  /// Of peers that both state kTimeCapability: another card moves data in this card's memory through a mapping of its
  /// file; link and memory carry them.
  kPeerTraffic = 0x435a,
};

/// Name of a JSON capability (boolean): the client owns simulated time. It passes only while the device answers an
/// access or a kAdvance, so that a run takes the same cycles as in the client's own process.
constexpr const char *kTimeCapability = "cx_time";

/// Name of a JSON capability (boolean): faults may be provoked.
constexpr const char *kFaultCapability = "cx_faults";

enum Flags : std::uint32_t { kTypeMask = 0xf, kTypeCommand = 0, kTypeReply = 1, kNoReply = 1 << 4, kError = 1 << 5 };

struct Header {
  std::uint16_t id;
  std::uint16_t command;
  std::uint32_t size;  ///< of the whole message
  std::uint32_t flags;
  std::uint32_t error;  ///< errno, in a reply with kError
};
static_assert(sizeof(Header) == 16);

struct Version {
  std::uint16_t major;
  std::uint16_t minor;
};  // JSON text with its NUL may follow
static_assert(sizeof(Version) == 4);

constexpr std::uint32_t kDefaultTransfer = 1 << 20;  ///< max_data_xfer_size of a peer that states none
constexpr std::uint32_t kDefaultFds = 1;             ///< max_msg_fds of a peer that states none

enum DmaFlags : std::uint32_t { kDmaReadable = 1, kDmaWriteable = 2 };
struct DmaMap {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t offset;  ///< into the file, if one comes along
  std::uint64_t address;
  std::uint64_t size;
};
static_assert(sizeof(DmaMap) == 32);

constexpr std::uint32_t kUnmapAll = 1 << 1;  ///< VFIO_DMA_UNMAP_FLAG_ALL; address and size are 0
struct DmaUnmap {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint64_t address;
  std::uint64_t size;
};
static_assert(sizeof(DmaUnmap) == 24);

enum DeviceFlags : std::uint32_t { kDeviceCanReset = 1, kDevicePci = 2 };
struct DeviceInfo {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t regions;
  std::uint32_t irqs;
};
static_assert(sizeof(DeviceInfo) == 16);

enum Region : std::uint32_t { kBar0 = 0, kBar5 = 5, kRom = 6, kConfig = 7, kVga = 8, kRegions = 9 };
enum RegionFlags : std::uint32_t { kRegionReadable = 1, kRegionWriteable = 2, kRegionMmap = 4, kRegionCaps = 8 };
struct RegionInfo {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t cap_offset;
  std::uint64_t size;
  std::uint64_t offset;
};
static_assert(sizeof(RegionInfo) == 32);

constexpr std::uint16_t kCapSparseMmap = 1;
struct SparseMmap {
  std::uint16_t id;
  std::uint16_t version;
  std::uint32_t next;
  std::uint32_t areas;
  std::uint32_t reserved;
  std::uint64_t offset;  ///< of the one area
  std::uint64_t size;
};
static_assert(sizeof(SparseMmap) == 32);

enum Irq : std::uint32_t { kIntx = 0, kMsi = 1, kMsix = 2, kErr = 3, kReq = 4, kIrqs = 5 };
enum IrqInfoFlags : std::uint32_t { kIrqEventfd = 1, kIrqMaskable = 2, kIrqAutomasked = 4, kIrqNoResize = 8 };
struct IrqInfo {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t count;
};
static_assert(sizeof(IrqInfo) == 16);

enum IrqSetFlags : std::uint32_t {
  kDataNone = 1,
  kDataBool = 2,
  kDataEventfd = 4,
  kDataMask = 7,
  kActionMask = 8,
  kActionUnmask = 16,
  kActionTrigger = 32,
  kActionsMask = 56
};
struct IrqSet {
  std::uint32_t argsz;
  std::uint32_t flags;
  std::uint32_t index;
  std::uint32_t start;
  std::uint32_t count;
};  // count booleans may follow
static_assert(sizeof(IrqSet) == 20);

struct RegionAccess {
  std::uint64_t offset;
  std::uint32_t region;
  std::uint32_t count;
};  // data follow
static_assert(sizeof(RegionAccess) == 16);

struct WriteMulti {
  std::uint64_t count;
};  // count of MultiEntry follow
struct MultiEntry {
  std::uint64_t offset;
  std::uint32_t region;
  std::uint32_t count;  ///< at most 8
  std::uint8_t data[8];
};
static_assert(sizeof(MultiEntry) == 24);

struct DmaAccess {
  std::uint64_t address;
  std::uint64_t count;
};  // data follow
static_assert(sizeof(DmaAccess) == 16);

enum Wake : std::uint32_t { kWakeInterrupt = 0, kWakeLimit = 1, kWakeIdle = 2 };
struct AdvanceRequest {
  std::uint64_t limit_ps;
};
struct AdvanceReply {
  std::uint64_t now_ps;
  std::uint32_t wake;
  std::uint32_t reserved;
};
static_assert(sizeof(AdvanceReply) == 16);

struct PeerTraffic {
  std::uint64_t offset;  ///< of BAR4
  std::uint64_t bytes;
  std::uint32_t write;  ///< 0, 1
  std::uint32_t reserved;
};
static_assert(sizeof(PeerTraffic) == 24);
struct PeerTrafficReply {
  std::uint64_t duration_ps;
};

}  // namespace cx::vfio
