#include "driver/umd/host_trace.hpp"

#include "driver/umd/device.hpp"

namespace cx {

namespace {

uint64_t time_of(const Device &device) {
  const auto time = host_trace_time.load(std::memory_order_relaxed);
  return time != nullptr ? time(device) : device.time_ps();
}

}  // namespace

void HostSpan::begin(const std::string &detail) {
  const uint64_t now = device_ != nullptr ? time_of(*device_) : 0;
  trace_->begin(name_, detail, device_ != nullptr ? &now : nullptr);
}

void HostSpan::end() {
  const uint64_t now = device_ != nullptr ? time_of(*device_) : 0;
  trace_->end(name_, device_ != nullptr ? &now : nullptr);
}

}  // namespace cx
