// What the host's software does, for a timeline: spans of compiling, loading, waiting.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace cx {

class Device;

/// Sees spans as they begin and end. A thread's spans nest.
class HostTrace {
 public:
  virtual ~HostTrace() = default;
  /// device_ps: simulated time of the device that the span is about.
  virtual void begin(const char *name, const std::string &detail, const uint64_t *device_ps) = 0;
  virtual void end(const char *name, const uint64_t *device_ps) = 0;
};

/// Of the process; null while nobody looks, and that test is what a span costs then.
inline std::atomic<HostTrace *> host_trace{nullptr};

/// A device's simulated time as whoever looks has it; null: Device::time_ps().
inline std::atomic<uint64_t (*)(const Device &)> host_trace_time{nullptr};

/// From its construction to its destruction. `name` is a constant.
class HostSpan {
 public:
  explicit HostSpan(const char *name, const std::string &detail = {}, const Device *device = nullptr)
      : trace_(host_trace.load(std::memory_order_relaxed)), name_(name), device_(device) {
    if (trace_ != nullptr) begin(detail);
  }
  ~HostSpan() {
    if (trace_ != nullptr) end();
  }
  HostSpan(const HostSpan &) = delete;
  HostSpan &operator=(const HostSpan &) = delete;

 private:
  void begin(const std::string &detail);
  void end();

  HostTrace *trace_;
  const char *name_;
  const Device *device_;
};

}  // namespace cx
