#include "driver/umd/host_trace.hpp"

#include "driver/umd/device.hpp"

namespace cx {

void HostSpan::begin(const std::string &detail) {
  const uint64_t now = device_ != nullptr ? device_->trace_time_ps() : 0;
  trace_->begin(name_, detail, device_ != nullptr ? &now : nullptr);
}

void HostSpan::end() {
  const uint64_t now = device_ != nullptr ? device_->trace_time_ps() : 0;
  trace_->end(name_, device_ != nullptr ? &now : nullptr);
}

}  // namespace cx
