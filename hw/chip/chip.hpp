// The whole chip: every block, wired.
#ifndef HW_CHIP_CHIP_HPP
#define HW_CHIP_CHIP_HPP

#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <systemc>
#include <vector>

#include "hw/config/gen/chip.hpp"

namespace cx::hw {

class ControlProcessor;
class Dram;
class Engine;
class Dmmu;
struct FaultSpec;
class PcieEndpoint;
class Sca;
class Spm;
class Trace;

class Chip : public sc_core::sc_module {
 public:
  // What would keep a chip from being built, beyond what the configuration's own checks see (an RTL tile shape that is
  // not in this build). Throws std::exception. Call it before the constructor: a module hierarchy cannot be taken back.
  static void check_buildable(const config::Chip &config);

  // share_dram: device memory lies in a file that other processes may map. Throws std::exception if a block refuses its
  // parameters.
  Chip(sc_core::sc_module_name name, const config::Chip &config, bool share_dram = false);
  ~Chip() override;

  // The configuration at its operating point, and as it was given.
  const config::Chip &config() const { return config_; }
  const config::Chip &given() const { return given_; }
  Dmmu &dmmu();
  Sca &sca();
  PcieEndpoint &endpoint();
  /// A file with the firmware's memory, and its bytes; another one after a power-on reset.
  int tcm_file() const;
  std::uint64_t tcm_bytes() const;
  ControlProcessor &control_processor();
  Dram &dram();
  Spm &spm();

  // A register of BAR0 as the host would read it, without time. False: there is none.
  bool peek(std::uint64_t offset, std::uint32_t *value);

  // Records what all blocks do from here on; nullptr ends it. Recording changes neither results nor time. Every
  // `sample_ps`, or as soon as something happens after it, traffic, energy and temperature are recorded; the interval
  // grows with the length of the trace, so that there are some thousands of samples.
  void set_trace(Trace *trace, std::uint64_t sample_ps = 0);
  // Appends what blocks have gathered, and a sample up to now.
  void close_records();
  // Of a record's unit, for a kind of record: "channel 3"; empty if there is none.
  std::string unit_name(unsigned kind, unsigned unit) const;

  enum class Reset {
    soft,      // dev.RESET_CTRL.SOFT_RESET: engines, queues, system DMA, control processor
    function,  // function-level reset: also MSI-X
    power_on   // everything, memories and configuration space included
  };
  void reset(Reset kind);

  // Arms a fault (hw/ras/fault_spec.hpp). Throws FaultSpecError for a text that describes none, or a place outside of
  // the chip.
  void inject(const std::string &fault);

  // The last lines that the firmware has logged, oldest first.
  const std::deque<std::string> &firmware_log() const { return log_; }

 private:
  struct Blocks;

  void wire();
  void wire_faults();
  void wire_power();
  void wire_heat();
  void reset_blocks(Reset kind);
  void firmware_crashed();
  void provoke(const FaultSpec &spec, std::mt19937_64 &random);
  void log_line(const std::string &line);

  config::Chip given_, config_;
  std::unique_ptr<Blocks> blocks_;
  std::deque<std::string> log_;
  bool echo_log_;
};

}  // namespace cx::hw

#endif
