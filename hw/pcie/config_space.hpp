// Configuration space of the PCIe function: type-0 header, power management, MSI-X and PCI Express capabilities, and in
// extended space advanced error reporting, a serial number and a resizable BAR.
#ifndef HW_PCIE_CONFIG_SPACE_HPP
#define HW_PCIE_CONFIG_SPACE_HPP

#include <array>
#include <cstdint>
#include <functional>

namespace cx::hw {

struct ConfigSpaceParams {
  std::uint16_t vendor_id = 0;
  std::uint16_t device_id = 0;
  std::uint64_t bar0_bytes = 0;  // powers of two, at least 16
  std::uint64_t bar2_bytes = 0;
  std::uint64_t bar4_bytes = 0;  // at least 1 MiB; the host may make it smaller. 0: there is none
  unsigned gen = 4;
  unsigned width = 16;
  unsigned mps = 256;   // largest supported, and what is programmed at reset
  unsigned mrrs = 512;  // programmed at reset
  unsigned tags = 256;  // read requests that the function can have under way, 1 to 768
  unsigned rcb = 64;    // read completion boundary, programmed at reset
};

class ConfigSpace {
 public:
  static constexpr unsigned kBytes = 4096;
  // Capability offsets.
  static constexpr unsigned kPm = 0x40;
  static constexpr unsigned kMsix = 0x50;
  static constexpr unsigned kExpress = 0x60;
  // Extended capabilities.
  static constexpr unsigned kAer = 0x100;        // advanced error reporting
  static constexpr unsigned kSerial = 0x150;     // device serial number
  static constexpr unsigned kResizable = 0x160;  // resizable BAR
  // Bits of the status register that the device sets.
  static constexpr std::uint16_t kReceivedMasterAbort = 1u << 13;

  explicit ConfigSpace(const ConfigSpaceParams &params);

  // Naturally aligned accesses of 1, 2 or 4 bytes; false otherwise. Registers that do not exist read as 0 and ignore
  // writes.
  bool read(std::uint32_t offset, unsigned size, std::uint32_t &value) const;
  bool write(std::uint32_t offset, unsigned size, std::uint32_t value);

  // Memory accesses by the host are answered: command register's memory space bit, and power state D0.
  bool memory_enabled() const;
  // The function may issue requests: bus master bit, and power state D0.
  bool bus_master() const;
  bool msix_enabled() const;
  bool msix_function_mask() const;
  unsigned mps() const;
  unsigned mrrs() const;
  // Read requests under way: as many as the function has, within 5, 8 or 10 bits of tag.
  unsigned tags() const;
  unsigned rcb() const;
  bool relaxed_ordering() const;
  // Base address that the host has programmed, without the flag bits.
  std::uint64_t bar(unsigned index) const;
  // Size of BAR4 as the host has chosen it.
  std::uint64_t bar4_bytes() const;

  // Sets MSI-X Enable and clears Function Mask.
  void enable_msix();
  void set_status(std::uint16_t bits);
  // An access that the function does not support was seen.
  void set_unsupported_request();
  // The device has found an error of its own: advanced error reporting's corrected or uncorrectable internal error.
  void set_internal_error(bool correctable);

  // Called after a write that may change one of the properties above.
  void on_change(std::function<void()> callback) { change_ = std::move(callback); }
  // Called after the host has initiated a function-level reset.
  void on_function_reset(std::function<void()> callback) { function_reset_ = std::move(callback); }

  // Everything to its value after power-on.
  void reset();
  // The same but for what a function-level reset leaves: status, masks and severity of advanced error reporting.
  void function_reset();

 private:
  std::uint32_t dword(unsigned offset) const;
  void define(unsigned offset, unsigned size, std::uint32_t value, std::uint32_t writable = 0,
              std::uint32_t write_one_clears = 0);
  void define_bar(unsigned offset, std::uint64_t bytes, std::uint32_t flags);
  void define_resizable();
  void resize_bar4();

  ConfigSpaceParams params_;
  std::array<std::uint8_t, kBytes> value_{};
  std::array<std::uint8_t, kBytes> initial_{};
  std::array<std::uint8_t, kBytes> writable_{};
  std::array<std::uint8_t, kBytes> w1c_{};
  std::function<void()> change_;
  std::function<void()> function_reset_;
};

}  // namespace cx::hw

#endif
