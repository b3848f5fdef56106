#include "hw/pcie/config_space.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "hw/common/port/pci_id.h"

namespace cx::hw {

namespace {

// Offsets and bits of the PCI Express Base Specification, chapter 7.
constexpr unsigned kCommand = 0x04;
constexpr unsigned kStatus = 0x06;
constexpr std::uint16_t kCommandMemory = 1u << 1;
constexpr std::uint16_t kCommandMaster = 1u << 2;
constexpr std::uint16_t kCommandWritable = 0x0546;  // memory, master, parity response, SERR, INTx disable
constexpr std::uint16_t kStatusCapabilities = 1u << 4;
constexpr std::uint16_t kStatusErrors = 0xf900;  // write one clears

constexpr unsigned kPmcsr = ConfigSpace::kPm + 4;
constexpr unsigned kMsixControl = ConfigSpace::kMsix + 2;
constexpr std::uint16_t kMsixFunctionMask = 1u << 14;
constexpr std::uint16_t kMsixEnable = 1u << 15;

constexpr unsigned kDevCap = ConfigSpace::kExpress + 0x04;
constexpr unsigned kDevCtl = ConfigSpace::kExpress + 0x08;
constexpr unsigned kDevSta = ConfigSpace::kExpress + 0x0a;
constexpr unsigned kLnkCap = ConfigSpace::kExpress + 0x0c;
constexpr unsigned kLnkCtl = ConfigSpace::kExpress + 0x10;
constexpr unsigned kLnkSta = ConfigSpace::kExpress + 0x12;
constexpr unsigned kDevCap2 = ConfigSpace::kExpress + 0x24;
constexpr unsigned kDevCtl2 = ConfigSpace::kExpress + 0x28;
constexpr unsigned kLnkCap2 = ConfigSpace::kExpress + 0x2c;
constexpr unsigned kLnkCtl2 = ConfigSpace::kExpress + 0x30;
constexpr unsigned kLnkSta2 = ConfigSpace::kExpress + 0x32;
constexpr std::uint16_t kFlitSupported = 1u << 15;  // of the capabilities register
constexpr std::uint16_t kFlitStatus = 1u << 10;     // of link status 2
constexpr std::uint32_t kExtendedTags = 1u << 5, kRoleBasedErrors = 1u << 15, kFunctionReset = 1u << 28;
constexpr std::uint16_t kRelaxedOrdering = 1u << 4, kExtendedTagEnable = 1u << 8, kNoSnoop = 1u << 11;
constexpr std::uint32_t kTenBitTagRequester = 1u << 17;  // of device capabilities 2
constexpr std::uint16_t kTenBitTagEnable = 1u << 12;     // of device control 2
constexpr std::uint16_t kRcb128 = 1u << 3;               // of link control
constexpr std::uint16_t kInitiateFlr = 1u << 15;
constexpr std::uint8_t kUnsupportedRequest = 1u << 3;
constexpr std::uint8_t kCorrectableDetected = 1u << 0, kFatalDetected = 1u << 2;

// Advanced error reporting (section 7.8.4): offsets, the bit of an unsupported request, and default values.
constexpr unsigned kAerUncorrectable = ConfigSpace::kAer + 0x04;
constexpr unsigned kAerUncorrectableMask = ConfigSpace::kAer + 0x08;
constexpr unsigned kAerSeverity = ConfigSpace::kAer + 0x0c;
constexpr unsigned kAerCorrectable = ConfigSpace::kAer + 0x10;
constexpr unsigned kAerCorrectableMask = ConfigSpace::kAer + 0x14;
constexpr unsigned kAerControl = ConfigSpace::kAer + 0x18;
constexpr std::uint32_t kUncorrectableBits = 0x007ff030;  // errors that an endpoint may have
constexpr std::uint32_t kAerUnsupportedRequest = 1u << 20;
constexpr std::uint32_t kAerInternal = 1u << 22;
// Data link, surprise down, flow control, overflow, malformed, internal.
constexpr std::uint32_t kDefaultSeverity = 0x00462030;
constexpr std::uint32_t kAerCorrectedInternal = 1u << 14;
constexpr std::uint32_t kCorrectableBits = 0x0000f1c1;
constexpr std::uint32_t kAdvisoryNonFatal = 1u << 13;

// Resizable BAR (section 7.8.6). Sizes are coded as log2(bytes) - 20.
constexpr unsigned kResizableCap = ConfigSpace::kResizable + 4;
constexpr unsigned kResizableControl = ConfigSpace::kResizable + 8;
constexpr unsigned kBar4 = 0x20;
constexpr unsigned kResizableBar = 4;
constexpr std::uint64_t kSmallestBar4 = std::uint64_t{1} << 20;

constexpr std::uint8_t kCapPm = 0x01, kCapMsix = 0x11, kCapExpress = 0x10;

// Payload sizes are coded as log2(bytes / 128).
std::uint32_t size_code(unsigned bytes) { return static_cast<std::uint32_t>(std::countr_zero(bytes / 128)); }

}  // namespace

ConfigSpace::ConfigSpace(const ConfigSpaceParams &params) : params_(params) {
  for (const std::uint64_t bytes : {params.bar0_bytes, params.bar2_bytes}) {
    if (!std::has_single_bit(bytes) || bytes < 16) throw std::invalid_argument("BAR size is not a power of two");
  }
  if (params.bar4_bytes != 0 && (!std::has_single_bit(params.bar4_bytes) || params.bar4_bytes < kSmallestBar4)) {
    throw std::invalid_argument("BAR4 size is not a power of two of at least 1 MiB");
  }
  if (params.tags == 0 || params.tags > 768) throw std::invalid_argument("PCIe tags are not 1 to 768");
  if (params.rcb != 64 && params.rcb != 128) throw std::invalid_argument("read completion boundary is not 64 or 128");
  for (const unsigned bytes : {params.mps, params.mrrs}) {
    if (!std::has_single_bit(bytes) || bytes < 128 || bytes > 4096) {
      throw std::invalid_argument("PCIe payload limit is not a power of two from 128 to 4096");
    }
  }
  define(0x00, 2, params.vendor_id);
  define(0x02, 2, params.device_id);
  define(kCommand, 2, 0, kCommandWritable);
  define(kStatus, 2, kStatusCapabilities, 0, kStatusErrors);
  define(0x08, 4, std::uint32_t{CX_PCI_CLASS_CODE} << 8 | CX_PCI_REVISION_ID);
  define(0x0c, 1, 0, 0xff);                  // cache line size: writable, no effect
  define_bar(0x10, params.bar0_bytes, 0x4);  // 64-bit
  define_bar(0x18, params.bar2_bytes, 0xc);  // 64-bit, prefetchable
  if (params.bar4_bytes != 0) define_bar(kBar4, params.bar4_bytes, 0xc);
  define(0x2c, 2, params.vendor_id);  // subsystem
  define(0x2e, 2, params.device_id);
  define(0x34, 1, kPm);
  define(0x3c, 1, 0, 0xff);  // interrupt line; pin 0: no INTx

  define(kPm, 2, static_cast<std::uint32_t>(kMsix) << 8 | kCapPm);
  define(kPm + 2, 2, 0x0003);          // version 3, no PME
  define(kPmcsr, 2, 1u << 3, 0x0003);  // No_Soft_Reset: D3hot keeps the state

  define(kMsix, 2, static_cast<std::uint32_t>(kExpress) << 8 | kCapMsix);
  define(kMsixControl, 2, CX_PCI_MSIX_VECTORS - 1, kMsixEnable | kMsixFunctionMask);
  define(kMsix + 4, 4, CX_PCI_MSIX_TABLE | CX_PCI_MSIX_BAR);
  define(kMsix + 8, 4, CX_PCI_MSIX_PBA | CX_PCI_MSIX_BAR);

  const std::uint32_t mps_code = size_code(params.mps);
  define(kExpress, 2, kCapExpress);  // last of the chain
  const bool flit = params.gen >= 6, ten_bit_tags = params.tags > 256;
  define(kExpress + 2, 2, 0x0002u | (flit ? kFlitSupported : 0u));  // version 2, endpoint
  define(kDevCap, 4, mps_code | kExtendedTags | kRoleBasedErrors | kFunctionReset);
  define(kDevCtl, 2, mps_code << 5 | kRelaxedOrdering | kExtendedTagEnable | kNoSnoop | size_code(params.mrrs) << 12,
         0x79ff);
  define(kDevSta, 2, 0, 0, 0x000f);
  const std::uint32_t link = params.gen | params.width << 4;
  define(kLnkCap, 4, link);
  define(kLnkCtl, 2, params.rcb == 128 ? kRcb128 : 0u, 0x00c3u | kRcb128);
  define(kLnkSta, 2, link);
  // Completion timeout can be disabled.
  define(kDevCap2, 4, 1u << 4 | (ten_bit_tags ? kTenBitTagRequester : 0u));
  define(kDevCtl2, 2, ten_bit_tags ? kTenBitTagEnable : 0u, 0x0010u | (ten_bit_tags ? kTenBitTagEnable : 0u));
  define(kLnkCap2, 4, ((1u << params.gen) - 1) << 1);
  define(kLnkCtl2, 2, params.gen, 0x000f);
  define(kLnkSta2, 2, flit ? kFlitStatus : 0u);

  constexpr std::uint32_t kAerVersion = 2, kSerialVersion = 1;
  define(kAer, 4, 0x0001u | kAerVersion << 16 | std::uint32_t{kSerial} << 20);
  define(kAerUncorrectable, 4, 0, 0, kUncorrectableBits);
  define(kAerUncorrectableMask, 4, 0, kUncorrectableBits);
  define(kAerSeverity, 4, kDefaultSeverity, kUncorrectableBits);
  define(kAerCorrectable, 4, 0, 0, kCorrectableBits);
  define(kAerCorrectableMask, 4, kAdvisoryNonFatal, kCorrectableBits);
  define(kAerControl, 4, 0);  // neither ECRC nor multiple headers
  define(kSerial, 4, 0x0003u | kSerialVersion << 16 | (params.bar4_bytes != 0 ? std::uint32_t{kResizable} << 20 : 0));
  define(kSerial + 4, 4, std::uint32_t{params.device_id} << 16 | params.vendor_id);
  define(kSerial + 8, 4, 0x43585650);  // "CXVP"
  if (params.bar4_bytes != 0) define_resizable();
  initial_ = value_;
}

void ConfigSpace::define(unsigned offset, unsigned size, std::uint32_t value, std::uint32_t writable,
                         std::uint32_t write_one_clears) {
  for (unsigned i = 0; i < size; ++i) {
    value_[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
    writable_[offset + i] = static_cast<std::uint8_t>(writable >> (8 * i));
    w1c_[offset + i] = static_cast<std::uint8_t>(write_one_clears >> (8 * i));
  }
}

void ConfigSpace::define_bar(unsigned offset, std::uint64_t bytes, std::uint32_t flags) {
  const std::uint64_t mask = ~(bytes - 1);
  define(offset, 4, flags, static_cast<std::uint32_t>(mask) & ~0xfu);
  define(offset + 4, 4, 0, static_cast<std::uint32_t>(mask >> 32));
}

void ConfigSpace::define_resizable() {
  constexpr std::uint32_t kVersion = 1, kBars = 1;
  const auto largest = static_cast<unsigned>(std::countr_zero(params_.bar4_bytes)) - 20;
  define(kResizable, 4, 0x0015u | kVersion << 16);
  define(kResizableCap, 4, static_cast<std::uint32_t>((std::uint64_t{2} << largest) - 1) << 4);  // 1 MiB to all of it
  define(kResizableControl, 4, kResizableBar | kBars << 5 | largest << 8, 0x3f00);
}

std::uint64_t ConfigSpace::bar4_bytes() const {
  if (params_.bar4_bytes == 0) return 0;
  return std::min(kSmallestBar4 << (dword(kResizableControl) >> 8 & 0x3f), params_.bar4_bytes);
}

// The BAR starts anew, at address 0, with the address bits of its size.
void ConfigSpace::resize_bar4() {
  const std::uint64_t bytes = bar4_bytes();
  const auto code = static_cast<std::uint8_t>(std::countr_zero(bytes) - 20);
  value_[kResizableControl + 1] = code;
  define_bar(kBar4, bytes, 0xc);
}

bool ConfigSpace::read(std::uint32_t offset, unsigned size, std::uint32_t &value) const {
  if ((size != 1 && size != 2 && size != 4) || offset % size != 0 || offset >= kBytes) return false;
  value = 0;
  for (unsigned i = 0; i < size; ++i) value |= static_cast<std::uint32_t>(value_[offset + i]) << (8 * i);
  return true;
}

bool ConfigSpace::write(std::uint32_t offset, unsigned size, std::uint32_t value) {
  if ((size != 1 && size != 2 && size != 4) || offset % size != 0 || offset >= kBytes) return false;
  bool flr = false;
  for (unsigned i = 0; i < size; ++i) {
    const unsigned at = offset + i;
    const auto byte = static_cast<std::uint8_t>(value >> (8 * i));
    value_[at] =
        static_cast<std::uint8_t>(((value_[at] & ~writable_[at]) | (byte & writable_[at])) & ~(byte & w1c_[at]));
    // Bit 15 reads as 0, so it is not a writable bit.
    if (at == kDevCtl + 1 && (byte & (kInitiateFlr >> 8)) != 0) flr = true;
    if (at == kResizableControl + 1 && params_.bar4_bytes != 0) resize_bar4();
  }
  if (flr && function_reset_) {
    function_reset_();
  } else if (change_) {
    change_();
  }
  return true;
}

std::uint32_t ConfigSpace::dword(unsigned offset) const {
  std::uint32_t value = 0;
  read(offset, 4, value);
  return value;
}

bool ConfigSpace::memory_enabled() const { return (dword(kCommand) & kCommandMemory) != 0 && (dword(kPmcsr) & 3) == 0; }

bool ConfigSpace::bus_master() const { return (dword(kCommand) & kCommandMaster) != 0 && (dword(kPmcsr) & 3) == 0; }

bool ConfigSpace::msix_enabled() const { return ((dword(kMsix) >> 16) & kMsixEnable) != 0; }

bool ConfigSpace::msix_function_mask() const { return ((dword(kMsix) >> 16) & kMsixFunctionMask) != 0; }

unsigned ConfigSpace::mps() const { return std::min(128u << ((dword(kDevCtl) >> 5) & 7), params_.mps); }

unsigned ConfigSpace::mrrs() const { return std::min(128u << ((dword(kDevCtl) >> 12) & 7), 4096u); }

unsigned ConfigSpace::tags() const {
  constexpr unsigned kFiveBits = 32, kEightBits = 256, kTenBits = 768;
  if ((dword(kDevCtl2) & kTenBitTagEnable) != 0) return std::min(params_.tags, kTenBits);
  return std::min(params_.tags, (dword(kDevCtl) & kExtendedTagEnable) != 0 ? kEightBits : kFiveBits);
}

unsigned ConfigSpace::rcb() const { return (dword(kLnkCtl) & kRcb128) != 0 ? 128 : 64; }

bool ConfigSpace::relaxed_ordering() const { return (dword(kDevCtl) & kRelaxedOrdering) != 0; }

std::uint64_t ConfigSpace::bar(unsigned index) const {
  const unsigned offset = 0x10 + 4 * index;
  return (static_cast<std::uint64_t>(dword(offset + 4)) << 32 | dword(offset)) & ~std::uint64_t{0xf};
}

void ConfigSpace::enable_msix() {
  const auto high = static_cast<std::uint8_t>(value_[kMsixControl + 1] & ~(kMsixFunctionMask >> 8));
  value_[kMsixControl + 1] = static_cast<std::uint8_t>(high | kMsixEnable >> 8);
}

void ConfigSpace::set_status(std::uint16_t bits) {
  value_[kStatus] = static_cast<std::uint8_t>(value_[kStatus] | bits);
  value_[kStatus + 1] = static_cast<std::uint8_t>(value_[kStatus + 1] | bits >> 8);
}

void ConfigSpace::set_unsupported_request() {
  constexpr unsigned kByte = kAerUncorrectable + 2;
  value_[kByte] = static_cast<std::uint8_t>(value_[kByte] | kAerUnsupportedRequest >> 16);
  value_[kDevSta] = static_cast<std::uint8_t>(value_[kDevSta] | kUnsupportedRequest);
}

void ConfigSpace::set_internal_error(bool correctable) {
  const unsigned at = correctable ? kAerCorrectable : kAerUncorrectable;
  const std::uint32_t bits = dword(at) | (correctable ? kAerCorrectedInternal : kAerInternal);
  for (unsigned i = 0; i < 4; ++i) value_[at + i] = static_cast<std::uint8_t>(bits >> (8 * i));
  value_[kDevSta] = static_cast<std::uint8_t>(value_[kDevSta] | (correctable ? kCorrectableDetected : kFatalDetected));
}

void ConfigSpace::reset() {
  value_ = initial_;
  if (params_.bar4_bytes != 0) define_bar(kBar4, params_.bar4_bytes, 0xc);
}

void ConfigSpace::function_reset() {
  const std::array<std::uint8_t, kBytes> before = value_;
  reset();
  for (unsigned at = kAerUncorrectable; at < kAerControl; ++at) value_[at] = before[at];
}

}  // namespace cx::hw
