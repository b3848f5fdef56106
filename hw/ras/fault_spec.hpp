// A fault that is provoked, as a text: KIND[@key=value,...].
#ifndef HW_RAS_FAULT_SPEC_HPP
#define HW_RAS_FAULT_SPEC_HPP

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace cx::hw {

// The text does not describe a fault; what() names the key and what was expected.
class FaultSpecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct FaultSpec {
  enum class Kind : std::uint8_t {
    iommu,
    illegal_packet,
    illegal_instruction,
    bad_address,
    ecc_corrected,
    ecc_uncorrected,
    engine_hang,
    firmware_crash,
    link_down,
    thermal_trip
  };
  enum class Cure : std::uint8_t { queue_reset, engine_reset, function_reset };

  Kind kind = Kind::iommu;
  // When: at a time since power-on, after so many packets or launches since it was armed, or at once.
  std::optional<double> at_us;
  std::optional<std::uint64_t> after_packets, after_launches;
  std::uint32_t count = 1;  // times
  double rate_hz = 0;       // times in a simulated second, at random; 0: all at once
  std::optional<std::uint64_t> seed;
  // What.
  std::optional<unsigned> engine;           // isa number; none: load
  std::optional<std::uint64_t> address;     // of device memory; none: anywhere in DRAM
  std::uint64_t bytes = 8;                  // the word is one of so many bytes from there
  std::optional<unsigned> bit, second_bit;  // of the code word; none: at random
  Cure cure = Cure::queue_reset;
  bool lockup = false;     // the trap handler is damaged, too
  double duration_us = 0;  // 0: link_down: for ever; thermal_trip: until it is acknowledged
  std::uint32_t celsius = 110;

  // Whether `address` and `bytes`, if given, lie in a DRAM of this size.
  bool in_dram(std::uint64_t dram_bytes) const;
};

// Throws FaultSpecError.
FaultSpec parse_fault(const std::string &text);

// Kinds, their keys and meanings, for people.
std::string fault_help();

}  // namespace cx::hw

#endif
