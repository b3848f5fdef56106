// The subcommands of cx: each adds itself to the parser and returns an exit status when it runs.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/sca.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/umd/device.hpp"

namespace cx::tools {

/// Exit statuses of cx.
enum Exit : int { kDone = 0, kCheckFailed = 1, kBadInput = 2, kDeviceFault = 3 };

/// Options that every command with a chip takes.
struct ChipOptions {
  std::string config = "cx3210";
  std::vector<std::string> sets;
  std::optional<uint32_t> point;  ///< operating point
  std::string device;             ///< inproc:FILE.yaml or vfio-user:SOCKET, instead of a configuration
  void add_to(CLI::App &app, bool with_device = true);
  /// A file, or the name of a configuration that ships. Throws InputError when there is none.
  std::filesystem::path path() const;
  std::unique_ptr<Device> open() const;
  /// For reports: the name of the configuration, or the device's address.
  std::string name() const;
};

/// --sca and --sca-format.
struct ScaArguments {
  std::string use = "auto";
  std::string format;
  void add_to(CLI::App &app);
  compiler::ScaOptions options() const;
};

/// The action that the chosen subcommand runs; set by its callback.
struct Invocation {
  std::function<int()> action;
};

/// --input, --picture, --tokenizer, --shape, --seed and --reference.
void add_input_options(CLI::App &command, InputOptions &options);

void add_run(CLI::App &app, Invocation &invocation);
void add_collective(CLI::App &app, Invocation &invocation);
void add_convert(CLI::App &app, Invocation &invocation);
void add_ocr(CLI::App &app, Invocation &invocation);
void add_conformance(CLI::App &app, Invocation &invocation);
void add_profile(CLI::App &app, Invocation &invocation);
void add_prune(CLI::App &app, Invocation &invocation);
void add_generate(CLI::App &app, Invocation &invocation);
void add_bench(CLI::App &app, Invocation &invocation);
void add_config(CLI::App &app, Invocation &invocation);
void add_info(CLI::App &app, Invocation &invocation);
void add_device(CLI::App &app, Invocation &invocation);
void add_fault(CLI::App &app, Invocation &invocation);
void add_disasm(CLI::App &app, Invocation &invocation);
void add_report(CLI::App &app, Invocation &invocation);
void add_top(CLI::App &app, Invocation &invocation);
void add_sweep(CLI::App &app, Invocation &invocation);
void add_firmware(CLI::App &app, Invocation &invocation);

/// A line on stderr about what is going on, when somebody watches.
void progress(const std::string &text);

}  // namespace cx::tools
