// cx config, cx info, cx disasm and cx firmware: looking at configurations, cards, programs and the control processor.
#include <fmt/core.h>
#include <fmt/format.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "driver/include/cx/error.hpp"
#include "driver/runtime/program.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/peak.hpp"
#include "driver/tools/report_table.hpp"
#include "hw/common/port/cx_port.h"
#include "hw/regs/gen/isa.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

/// Takes over a text of the port's services; throws InputError with it when the call failed.
std::string take_text(int result, char *text) {
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  std::string copy = text != nullptr ? text : "";
  if (result != CX_PORT_OK) throw InputError(copy);
  return copy;
}

int config_show(const ChipOptions &chip, const std::string &file, bool json) {
  ChipOptions named = chip;
  named.config = file;
  std::vector<const char *> sets;
  for (const std::string &set : chip.sets) sets.push_back(set.c_str());
  char *text = nullptr;
  const int result = cx_config_show(named.path().c_str(), sets.data(), sets.size(), json ? 1 : 0, &text);
  fmt::print("{}\n", take_text(result, text));
  return kDone;
}

int config_help(const std::string &key) {
  char *text = nullptr;
  const int result = cx_config_help(key.empty() ? nullptr : key.c_str(), &text);
  fmt::print("{}\n", take_text(result, text));
  return kDone;
}

Json estimate_json(const Estimate &e) { return {{"value", e.value}, {"least", e.least}, {"most", e.most}}; }

Json die_json(const Die &die, const Target &t, const std::vector<isa::DType> &formats) {
  Json parts, peak;
  for (int n = 0; n < kDieParts; ++n) parts[kDiePartNames[n]] = estimate_json(die.parts[n]);
  parts["total"] = estimate_json(die.area());
  for (const isa::DType format : formats) {
    const double tops = peak_tops(t, format);
    const Estimate &watts = die.full_rate[static_cast<unsigned>(format)];
    peak[isa::to_string(format)] = {
        {"tops", tops}, {"watts", estimate_json(watts)}, {"tops_per_w", estimate_json(tops_per_watt(tops, watts))}};
  }
  return {{"area_mm2", parts}, {"peak", peak}};
}

void print_die(const Die &die, const Target &t, const std::vector<isa::DType> &formats) {
  const auto line = [](const char *name, const Estimate &e) {
    fmt::print("  {:<26}{:>9.2f} {:>9.2f} {:>9.2f}\n", name, e.value, e.least, e.most);
  };
  fmt::print("\n  {:<26}{:>9} {:>9} {:>9}\n", "area, mm2", "estimate", "least", "most");
  for (int n = 0; n < kDieParts; ++n) line(kDiePartNames[n], die.parts[n]);
  line("die", die.area());
  fmt::print("\n  {:<26}{:>9} {:>9} {:>9} {:>9} {:>9}\n", "peak", "TOPS", "W", "TOPS/W", "least", "most");
  for (const isa::DType format : formats) {
    const double tops = peak_tops(t, format);
    const Estimate &watts = die.full_rate[static_cast<unsigned>(format)];
    const Estimate rate = tops_per_watt(tops, watts);
    fmt::print("  {:<26}{:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f} {:>9.2f}\n", isa::to_string(format), tops, watts.value,
               rate.value, rate.least, rate.most);
  }
}

int info(const ChipOptions &chip, bool json) {
  const std::unique_ptr<Device> device = chip.open();
  const DeviceInfo &d = device->info();
  const Target &t = device->target();
  const std::string version =
      fmt::format("{}.{}.{}", d.firmware_version >> 24, d.firmware_version >> 16 & 0xFF, d.firmware_version & 0xFFFF);
  const std::vector<isa::DType> types = formats_of(t);
  std::vector<std::string> formats;
  for (const isa::DType type : types) formats.emplace_back(isa::to_string(type));
  const Die die = device->die();
  if (json) {
    Json out = {{"vendor_id", d.vendor_id},
                {"device_id", d.device_id},
                {"queues", d.queues},
                {"msix_vectors", d.msix_vectors},
                {"bar0_bytes", d.bar0_bytes},
                {"bar2_bytes", d.bar2_bytes},
                {"firmware_version", version},
                {"firmware_protocol", d.firmware_protocol},
                {"boot_us", static_cast<double>(d.boot_ps) * 1e-6},
                {"arch_hash", fmt::format("{:016x}", t.arch_hash)},
                {"clock_khz", t.clock_khz},
                {"tiles", t.tiles},
                {"tile_rows", t.tile_rows},
                {"tile_cols", t.tile_cols},
                {"tile_acc_rows", t.tile_acc_rows},
                {"tile_pack", t.tile_pack},
                {"dataflow", t.output_stationary ? "os" : "ws"},
                {"formats", formats},
                {"sca_tiles", t.sca_tiles},
                {"sca_rows", t.sca_rows},
                {"sca_cols", t.sca_cols},
                {"sca_acc_rows", t.sca_acc_rows},
                {"sca_depth", t.sca_depth},
                {"sca_window", t.sca_window},
                {"sca_queue", t.sca_queue},
                {"shared_array", t.shared_array},
                {"array_switch_cycles", t.array_switch_cycles},
                {"vpu_lanes", t.vpu_lanes},
                {"spm_bytes", t.spm_bytes},
                {"dram_bytes", t.dram_bytes},
                {"dram_mbps", t.dram_mbps},
                {"dram_stream_mbps", t.dram_stream_mbps},
                {"dram_latency_ns", t.dram_latency_ns},
                {"dram_channels", t.dram_channels},
                {"dram_stripe_bytes", t.dram_stripe_bytes},
                {"noc_way_cycles", t.noc_way_cycles},
                {"semaphores", t.semaphores}};
    out.update(die_json(die, t, types));
    const OperatingPoint point = device->operating_point();
    out["operating_point"] = {
        {"number", point.number}, {"count", point.count}, {"mhz", point.mhz}, {"volts", point.volts}};
    fmt::print("{}\n", out.dump(2));
    return kDone;
  }
  const auto row = [](const std::string &name, const std::string &value) { fmt::print("  {:<26}{}\n", name, value); };
  const double peak = 2.0 * t.tiles * t.tile_rows * t.tile_cols * t.clock_khz * 1e-9;
  fmt::print("{}\n", device->info().vendor_id != 0 ? chip.config : "");
  row("PCI function", fmt::format("{:04x}:{:04x}, BAR0 {} KiB, BAR2 {} KiB, {} MSI-X vectors", d.vendor_id, d.device_id,
                                  d.bar0_bytes >> 10, d.bar2_bytes >> 10, d.msix_vectors));
  row("firmware", fmt::format("{} (protocol {}), booted in {:.2f} us", version, d.firmware_protocol,
                              static_cast<double>(d.boot_ps) * 1e-6));
  row("architecture", fmt::format("{:016x}", t.arch_hash));
  const OperatingPoint point = device->operating_point();
  row("clock", fmt::format("{:.0f} MHz at {:.3f} V, operating point {} of 0 to {}", point.mhz, point.volts,
                           point.number, point.count));
  row("DMMU", fmt::format("{} tiles of {} x {}, {} accumulator rows; peak {:.2f} TFLOP/s", t.tiles, t.tile_rows,
                          t.tile_cols, t.tile_acc_rows, peak));
  row("  8-bit formats", fmt::format("{} product{} per element and cycle, K per pass {}", t.tile_pack,
                                     t.tile_pack == 1 ? "" : "s", t.tile_rows * t.tile_pack));
  row("  dataflow", t.output_stationary ? "output stationary" : "weight stationary");
  row("  formats", fmt::format("{}", fmt::join(formats, ", ")));
  if (t.sca_tiles != 0) {
    row("SCA", fmt::format("{} tiles of {} x {}, {} groups, K up to {}, window {}, queues of {}", t.sca_tiles,
                           t.sca_rows, t.sca_cols, t.sca_acc_rows, t.sca_depth, t.sca_window, t.sca_queue));
  }
  if (t.shared_array) {
    row("  array",
        fmt::format("{} slots, each of either kind; a change takes {} cycles", t.tiles, t.array_switch_cycles));
  }
  row("VPU", fmt::format("{} lanes", t.vpu_lanes));
  row("scratchpad", fmt::format("{} KiB, {} bytes a cycle and port", t.spm_bytes >> 10, t.spm_bytes_per_cycle));
  row("DRAM", fmt::format("{} MiB, {} channels, {:.1f} GB/s, {:.1f} in a stream, {} ns", t.dram_bytes >> 20,
                          t.dram_channels, t.dram_mbps * 1e-3, t.dram_stream_mbps * 1e-3, t.dram_latency_ns));
  row("network on chip", fmt::format("{} cycles one way", t.noc_way_cycles));
  row("queues, semaphores", fmt::format("{}, {}", d.queues, t.semaphores));
  print_die(die, t, types);
  return kDone;
}

/// Configuration space as `lspci -xxxx` prints it, which `lspci -F FILE -vvv` decodes.
int dump_configuration_space(const ChipOptions &chip) {
  const std::unique_ptr<Device> device = chip.open();
  fmt::print("00:00.0 Processing accelerators: CXVP {}\n", chip.name());
  for (unsigned line = 0; line < 4096; line += 16) {
    fmt::print("{:02x}:", line);
    for (unsigned at = line; at < line + 16; ++at) {
      uint8_t byte = 0;
      device->transport().read(Transport::kConfigSpace, at, &byte, 1);
      fmt::print(" {:02x}", byte);
    }
    fmt::print("\n");
  }
  fmt::print("\n");
  return kDone;
}

int run_elf(const std::string &path, uint64_t limit, bool json) {
  char *text = nullptr;
  const int code = cx_firmware_run_elf(path.c_str(), limit, &text);
  const Json result = Json::parse(take_text(code, text));
  if (json) {
    fmt::print("{}\n", result.dump(2));
  } else {
    for (const auto &[key, value] : result.items()) {
      fmt::print("  {:<16}{}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
    }
  }
  const Json exit = result.value("exit", Json());
  return exit.is_number_integer() && exit.get<int64_t>() == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_config(CLI::App &app, Invocation &invocation) {
  CLI::App *command = app.add_subcommand("config", "Show chip configurations and explain their keys");
  command->require_subcommand(0, 1);
  auto key = std::make_shared<std::string>();
  auto explain = std::make_shared<bool>(false);

  auto chip = std::make_shared<ChipOptions>();
  auto file = std::make_shared<std::string>("cx3210");
  auto json = std::make_shared<bool>(false);
  CLI::App *show = command->add_subcommand("show", "Print the resolved whole of a configuration");
  show->add_option("file", *file, "YAML file, or the name of one that ships")->capture_default_str();
  show->add_option("--set", chip->sets, "Override, as key.path=value")->take_all()->expected(1);
  show->add_flag("--json", *json, "JSON instead of YAML");
  show->callback([=, &invocation] { invocation.action = [=] { return config_show(*chip, *file, *json); }; });

  CLI::App *help = command->add_subcommand("help", "Explain a key, or all of them");
  help->add_option("key", *key, "Such as dmmu.tiles");
  help->callback([=, &invocation] { invocation.action = [=] { return config_help(*key); }; });

  // `cx config --help KEY` explains the key; without one it is the ordinary help.
  command->set_help_flag();
  command->add_flag("--help,-h", *explain, "Print this help, or with a KEY what that key means");
  command->add_option("key", *key, "Key for --help");
  command->callback([=, &invocation] {
    if (!command->get_subcommands().empty()) return;
    invocation.action = [=] {
      if (!key->empty()) return config_help(*key);
      fmt::print("{}", command->help());
      return static_cast<int>(*explain ? kDone : kBadInput);
    };
  });
}

void add_info(CLI::App &app, Invocation &invocation) {
  auto chip = std::make_shared<ChipOptions>();
  auto json = std::make_shared<bool>(false);
  CLI::App *command = app.add_subcommand("info", "Boot a chip and print what it says of itself");
  chip->add_to(*command);
  auto pci = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "JSON instead of a table");
  command->add_flag("--pci", *pci, "The booted function's configuration space, for lspci -vvv -F FILE");
  command->callback([=, &invocation] {
    invocation.action = [=] { return *pci ? dump_configuration_space(*chip) : info(*chip, *json); };
  });
}

void add_disasm(CLI::App &app, Invocation &invocation) {
  auto file = std::make_shared<std::string>();
  CLI::App *command = app.add_subcommand("disasm", "Print the instruction streams of a program");
  command->add_option("program", *file, "Program file (.cxb), made by cx convert")->required();
  command->callback([=, &invocation] {
    invocation.action = [=] {
      fmt::print("{}", disassemble(load_program(*file)));
      return static_cast<int>(kDone);
    };
  });
}

void add_firmware(CLI::App &app, Invocation &invocation) {
  CLI::App *command = app.add_subcommand("firmware", "The control processor on its own");
  command->require_subcommand(1);
  auto elf = std::make_shared<std::string>();
  auto limit = std::make_shared<uint64_t>(100'000'000);
  auto json = std::make_shared<bool>(false);
  CLI::App *run =
      command->add_subcommand("run", "Run a bare-metal RV32 program; its result is what it writes to tohost");
  run->add_option("elf", *elf, "ELF file for RV32IM")->required();
  run->add_option("--max-instructions", *limit, "Stop after this many")->capture_default_str();
  run->add_flag("--json", *json, "JSON instead of a table");
  run->callback([=, &invocation] { invocation.action = [=] { return run_elf(*elf, *limit, *json); }; });
}

}  // namespace cx::tools
