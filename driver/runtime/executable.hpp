// A program on a device, ready to run.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "driver/runtime/device_tensor.hpp"
#include "driver/runtime/program.hpp"
#include "driver/runtime/report.hpp"
#include "driver/runtime/shared_constants.hpp"
#include "driver/runtime/tensor.hpp"
#include "driver/umd/device.hpp"
#include "hw/regs/gen/packets.h"

namespace cx {

class CommandBuffer;
class Stream;

struct ExecutableOptions {
  /// Loads a program of another architecture all the same: the device then refuses its launch with WRONG_ARCH.
  bool skip_arch_check = false;
  uint32_t timeout_kcycles = 0;  ///< watchdog of a launch in units of 1024 core cycles; 0 takes the firmware's default
  uint64_t wait_limit_us = 0;    ///< of one run in simulated time; 0 takes the device's
  /// Inputs and outputs that will be bound to device tensors before every run: the executable makes no memory for them.
  std::set<std::string> device_bound = {};
  /// Launches take their time and count, but move and compute nothing: results are undefined. A program whose time
  /// depends on data (timing_dependence()) runs in full; the report says so.
  bool timing_only = false;
  /// Device copy of the program's shared constants; needed when the program has some.
  std::shared_ptr<ResidentConstants> constants = {};
};

/// Uploads the image once; owns workspace, one device buffer and one pinned host buffer for each binding, and the
/// segment table. Outlives no device. One thread at a time.
///
/// Inputs come from the host and outputs go to the host at each run, unless they are bound to device tensors: these
/// stay where they are. A result is the next run's input without leaving the device when one tensor is bound as output
/// of the one and as input of the other. An output that updates an input in place (see Program) always lies where the
/// input lies.
class Executable {
 public:
  /// Throws InputError when the program is not for this device's architecture or is inconsistent, OutOfMemoryError.
  Executable(Device &device, Program program, const ExecutableOptions &options = {});

  const Program &program() const { return program_; }

  /// From the next run on as ExecutableOptions::timing_only. `obstacle`: why runs are in full all the same, whatever
  /// the program; empty if there is nothing.
  void set_timing_only(bool on, const std::string &obstacle = {});

  /// From the next run on the input is read from, or the output written to, this tensor; an empty one ends that. Throws
  /// InputError for an unknown name and another type or shape, UsageError for the output of an update in place.
  void bind_input(const std::string &name, DeviceTensor tensor);
  void bind_output(const std::string &name, DeviceTensor tensor);

  /// Checks that inputs match the unbound inputs by name, type, shape and bytes (any order, none missing, none left
  /// over), copies them in, launches, copies the unbound outputs out, in the order of program().outputs. Throws
  /// InputError, also when an output's memory is that of another tensor of the run, DeviceFault, TimeoutError; the
  /// executable remains usable.
  std::vector<HostTensor> run(std::span<const HostTensor> inputs);
  /// The same, but copies out the named outputs, bound or not, in this order.
  std::vector<HostTensor> run(std::span<const HostTensor> inputs, std::span<const std::string> outputs);

  /// Launches in the stream's order without waiting; what it costs is one packet, of a shared array two: the first one
  /// asks for the program's split, and where other queues change it in between the launch is the fault WRONG_SPLIT.
  /// Every input and output must be bound (InputError); bindings must not change, and executable and tensors must stay,
  /// until the launch has ended. Not part of report().
  void launch(Stream &stream);
  /// The same, recorded. Returns the index of the launch in the list. Bindings must not change before the last run.
  uint32_t record(CommandBuffer &commands, bool barrier = true);

  /// Where the program's segments are on the device, by number.
  std::span<const cx_segment> segments() const { return segments_; }

  /// Of the last run that succeeded.
  const RunReport &report() const { return report_; }

  /// Where an instruction came from: "load #12 node conv1"; for messages about faults.
  std::string where(int engine, uint64_t pc) const;

 private:
  struct Slot {
    const Binding *binding;
    DeviceBuffer device;  // of its own, while nothing is bound
    HostBuffer host;      // made when it is first copied, or with `device`
    DeviceTensor bound;
    int updates = -1;  // index of the input that this output updates in place
  };
  Slot &find(std::vector<Slot> &slots, const std::string &name, const char *kind);
  void bind(Slot &slot, DeviceTensor tensor, const char *kind);
  const Slot &memory_of(const Slot &slot) const;
  uint64_t address_of(const Slot &slot) const;
  bool is_bound(const Slot &slot) const { return bool{memory_of(slot).bound}; }
  void stage_inputs(std::span<const HostTensor> inputs);
  std::vector<HostTensor> run_slots(std::span<const HostTensor> inputs, const std::vector<Slot *> &wanted);
  /// Whether the table differs from the device's; then it is in segment_table_host_, ready to be copied.
  bool update_segment_table();
  void check_memory() const;
  bool runs_timing_only() const { return options_.timing_only && timing_obstacle_.empty(); }
  /// For a launch that copies nothing: checks that all is bound and brings the segment table up to date.
  void prepare_launch();

  Device &device_;
  Program program_;
  ExecutableOptions options_;
  std::string timing_dependence_;  // of the program
  std::string timing_obstacle_;    // empty: runs are in timing-only mode if that is asked for
  DeviceBuffer image_, workspace_, segment_table_;
  HostBuffer segment_table_host_;
  uint32_t sca_tiles_ = 0;  // of the image
  std::vector<cx_segment> segments_;
  bool table_current_ = false;  // the device's table is segments_
  std::vector<Slot> inputs_, outputs_;
  RunReport report_;
};

}  // namespace cx
