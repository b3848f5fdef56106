// cx: the command line of the platform.
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "driver/umd/shipped_files.hpp"

namespace cx::tools {

void ChipOptions::add_to(CLI::App &app, bool with_device) {
  app.add_option("--config", config, "Chip: a YAML file, or the name of one that ships")->capture_default_str();
  app.add_option("--set", sets, "Override of a configuration key, as key.path=value; may be repeated")
      ->take_all()
      ->expected(1);
  if (!with_device) return;
  app.add_option("--point", point, "Operating point from power-on: 0 is nominal, n the n-th of power.points");
  app.add_option("--device", device,
                 "Card to use instead of --config: inproc:FILE.yaml, or vfio-user:SOCKET of one that cx device serves")
      ->envname("CX_DEVICE");
}

std::filesystem::path ChipOptions::path() const { return chip_config(config); }

std::unique_ptr<Device> ChipOptions::open() const {
  DeviceOptions options;
  options.overrides = sets;
  options.point = point;
  return device.empty() ? Device::open(path(), options) : Device::connect(device, options);
}

std::string ChipOptions::name() const {
  return device.empty() ? std::filesystem::path(config).stem().string() : device;
}

void progress(const std::string &text) {
  if (isatty(STDERR_FILENO) != 0) fmt::print(stderr, "cx: {}\n", text);
}

}  // namespace cx::tools

int main(int argc, char **argv) {
  using namespace cx::tools;
  CLI::App app{
      "cx drives the CXVP virtual accelerator: it compiles networks, runs them on a simulated chip through rings,\n"
      "firmware and engines, and tells what that cost.\n\n"
      "Exit status: 0 done, 1 a check failed, 2 bad usage or input, 3 device fault.",
      "cx"};
  app.require_subcommand(1);
  app.set_version_flag("--version", CX_VERSION);
  Invocation invocation;
  add_run(app, invocation);
  add_convert(app, invocation);
  add_ocr(app, invocation);
  add_conformance(app, invocation);
  add_profile(app, invocation);
  add_prune(app, invocation);
  add_generate(app, invocation);
  add_bench(app, invocation);
  add_config(app, invocation);
  add_info(app, invocation);
  add_device(app, invocation);
  add_fault(app, invocation);
  add_disasm(app, invocation);
  add_report(app, invocation);
  add_top(app, invocation);
  add_sweep(app, invocation);
  add_collective(app, invocation);
  add_firmware(app, invocation);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return app.exit(error) == 0 ? kDone : kBadInput;
  }
  try {
    return invocation.action();
  } catch (const cx::DeviceFault &fault) {
    fmt::print(stderr, "cx: device fault: {}\n", fault.what());
    return kDeviceFault;
  } catch (const std::exception &error) {
    fmt::print(stderr, "cx: {}\n", error.what());
    return kBadInput;
  }
}
