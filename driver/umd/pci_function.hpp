// Configuration space of a PCI function, as the driver uses it.
#pragma once

#include <cstdint>

#include "driver/transport/transport.hpp"

namespace cx {

// Offsets and bits of the PCI Local Bus and PCI Express Base Specifications.
constexpr uint64_t kPciId = 0x00, kPciCommand = 0x04, kPciStatus = 0x06, kPciHeaderType = 0x0e, kPciBar0 = 0x10,
                   kPciCapabilities = 0x34;
constexpr uint16_t kCommandMemory = 1 << 1, kCommandBusMaster = 1 << 2, kCommandNoIntx = 1 << 10;
constexpr uint16_t kStatusHasCapabilities = 1 << 4;
constexpr uint8_t kCapabilityMsix = 0x11, kCapabilityExpress = 0x10;
constexpr uint16_t kMsixEnable = 1 << 15, kMsixMaskAll = 1 << 14, kMsixSizeMask = 0x7ff;
// PCI Express: offsets in the capability, and fields of Device Control.
constexpr uint64_t kExpressCapabilities = 0x04, kExpressControl = 0x08, kExpressLinkStatus = 0x12;
constexpr uint16_t kInitiateReset = 1 << 15, kRelaxedOrdering = 1 << 4, kExtendedTags = 1 << 8;
constexpr uint16_t kPayloadMask = 7 << 5, kReadRequestMask = 7 << 12;
constexpr int kPayloadShift = 5, kReadRequestShift = 12;

template <class T>
T read_config(Transport &transport, uint64_t offset) {
  T value{};
  transport.read(Transport::kConfigSpace, offset, &value, sizeof value);
  return value;
}

template <class T>
void write_config(Transport &transport, uint64_t offset, T value) {
  transport.write(Transport::kConfigSpace, offset, &value, sizeof value);
}

/// Offset of a capability; 0: the function has none.
inline uint64_t find_capability(Transport &transport, uint8_t id) {
  if ((read_config<uint16_t>(transport, kPciStatus) & kStatusHasCapabilities) == 0) return 0;
  uint64_t at = read_config<uint8_t>(transport, kPciCapabilities) & 0xfc;
  for (int hops = 0; at >= 0x40 && hops < 48; ++hops) {
    if (read_config<uint8_t>(transport, at) == id) return at;
    at = read_config<uint8_t>(transport, at + 1) & 0xfc;
  }
  return 0;
}

}  // namespace cx
