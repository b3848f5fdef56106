#include "driver/transport/inproc.hpp"
#include "driver/umd/device.hpp"

namespace cx {

std::unique_ptr<Device> Device::open(const std::filesystem::path &yaml, const DeviceOptions &options) {
  return open(std::make_unique<InprocTransport>(yaml.string(), options.overrides), options);
}

}  // namespace cx
