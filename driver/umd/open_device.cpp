#include "driver/transport/inproc.hpp"
#include "driver/transport/vfio_user.hpp"
#include "driver/umd/device.hpp"

namespace cx {

std::unique_ptr<Device> Device::open(const std::filesystem::path &yaml, const DeviceOptions &options) {
  std::vector<std::string> overrides = options.overrides;
  if (options.point) overrides.push_back("power.point=" + std::to_string(*options.point));
  return open(std::make_unique<InprocTransport>(yaml.string(), overrides), options);
}

std::unique_ptr<Device> Device::connect(const std::string &address, const DeviceOptions &options) {
  const auto after = [&](const std::string &scheme) {
    return address.rfind(scheme, 0) == 0 ? address.substr(scheme.size()) : std::string();
  };
  if (const std::string yaml = after("inproc:"); !yaml.empty()) return open(std::filesystem::path(yaml), options);
  if (const std::string path = after("vfio-user:"); !path.empty()) {
    if (!options.overrides.empty() || options.point) {
      throw InputError("device " + address + ": configuration keys are set where the card is served (cx device --set)");
    }
    return open(std::make_unique<VfioUserTransport>(path), options);
  }
  throw InputError("device '" + address + "': expected inproc:FILE.yaml or vfio-user:SOCKET");
}

}  // namespace cx
