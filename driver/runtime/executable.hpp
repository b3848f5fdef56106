// A program on a device, ready to run.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "driver/runtime/program.hpp"
#include "driver/runtime/report.hpp"
#include "driver/runtime/tensor.hpp"
#include "driver/umd/device.hpp"

namespace cx {

struct ExecutableOptions {
  /// Loads a program of another architecture all the same: the device then refuses its launch with WRONG_ARCH.
  bool skip_arch_check = false;
  uint32_t timeout_kcycles = 0;  ///< watchdog of a launch in units of 1024 core cycles; 0 takes the firmware's default
  uint64_t wait_limit_us = 0;    ///< of one run in simulated time; 0 takes the device's
};

/// Uploads the image once; owns workspace, one device buffer and one pinned host buffer for each binding, and the
/// segment table. Outlives no device. One thread at a time.
class Executable {
 public:
  /// Throws InputError when the program is not for this device's architecture or is inconsistent, OutOfMemoryError.
  Executable(Device &device, Program program, const ExecutableOptions &options = {});

  const Program &program() const { return program_; }

  /// Checks that inputs match the bindings by name, type, shape and bytes (any order, none missing, none left over),
  /// copies them in, launches, copies outputs out, in the order of program().outputs. Throws InputError, DeviceFault,
  /// TimeoutError; the executable remains usable.
  std::vector<HostTensor> run(std::span<const HostTensor> inputs);

  /// Of the last run that succeeded.
  const RunReport &report() const { return report_; }

  /// Where an instruction came from: "load #12 node conv1"; for messages about faults.
  std::string where(int engine, uint64_t pc) const;

 private:
  struct Slot {
    const Binding *binding;
    DeviceBuffer device;
    HostBuffer host;
  };
  void stage_inputs(std::span<const HostTensor> inputs);

  Device &device_;
  Program program_;
  ExecutableOptions options_;
  DeviceBuffer image_, workspace_, segment_table_;
  uint32_t segment_count_ = 0;
  std::vector<Slot> inputs_, outputs_;
  RunReport report_;
};

}  // namespace cx
