// Typed errors of the driver, runtime, compiler and tools.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cx {

/// Base of everything that libcx throws.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's input is at fault: a file, a model, a configuration, a shape, an option. Tools exit with 2.
class InputError : public Error {
 public:
  using Error::Error;
};

/// The interface was used against its rules: a double free, a wait on an empty fence, a range outside its buffer.
class UsageError : public InputError {
 public:
  using InputError::InputError;
};

/// A request does not fit in what is left of a memory.
class OutOfMemoryError : public InputError {
 public:
  using InputError::InputError;
};

/// A model holds an operator, attribute or type that the compiler does not support.
class UnsupportedError : public InputError {
 public:
  UnsupportedError(std::string op, const std::string &message) : InputError(message), op_(std::move(op)) {}
  const std::string &op() const { return op_; }

 private:
  std::string op_;
};

/// The device reported a fault, did not answer in time, or was lost. Tools exit with 3.
class DeviceFault : public Error {
 public:
  /// What an engine of a launch that did not end was doing.
  struct EngineState {
    enum class State { kFinished, kBusy, kWaiting, kHung };
    int engine = -1;  ///< isa engine number
    State state = State::kBusy;
    uint64_t pc = 0;     ///< instruction at which it stands
    int semaphore = -1;  ///< waiting: for this semaphore, whose value is `value` and has to be `need`
    uint32_t value = 0, need = 0;
    int poster = -1;         ///< unfinished engine that has a post of it ahead; -1: none, or not known
    uint64_t poster_pc = 0;  ///< the instruction that posts it
  };
  struct Record {
    uint32_t status = 0;               ///< status code of docs/reference/packets.md
    int queue = -1;                    ///< -1: none
    int engine = -1;                   ///< isa engine number; -1: none
    uint64_t packet = 0;               ///< index of the packet in its queue
    uint64_t pc = 0;                   ///< index of the instruction in its stream
    uint64_t address = 0;              ///< offending address
    std::vector<EngineState> engines;  ///< TIMEOUT, ENGINE_HANG: the watchdog's report; empty if it was not kept
  };
  DeviceFault(const Record &record, const std::string &message) : Error(message), record_(record) {}
  const Record &record() const { return record_; }

 private:
  Record record_;
};

/// A wait ran out of simulated time, or the device went idle without an answer. Tools exit with 3.
class TimeoutError : public DeviceFault {
 public:
  explicit TimeoutError(const std::string &message) : DeviceFault(Record{}, message) {}
};

/// The PCIe link is down. Everything under way has ended; Device::recover() waits for the link and resets the function.
/// Tools exit with 3.
class LinkDownError : public DeviceFault {
 public:
  using DeviceFault::DeviceFault;
};

/// The card's control processor has stopped. Everything under way has ended; Device::recover() boots it again. Tools
/// exit with 3.
class FirmwareCrashError : public DeviceFault {
 public:
  using DeviceFault::DeviceFault;
};

/// The card is gone: its process ended or the connection broke. Nothing that was under way will complete. Tools exit
/// with 3.
class DeviceLostError : public DeviceFault {
 public:
  explicit DeviceLostError(const std::string &message) : DeviceFault(Record{}, message) {}
};

}  // namespace cx
