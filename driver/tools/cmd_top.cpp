// cx top: a served card's counters while it works, for whoever looks on.
#include <fmt/core.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>
#include <thread>
#include <vector>

#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "driver/umd/counters.hpp"
#include "driver/umd/energy.hpp"
#include "hw/common/vfio_user/channel.hpp"
#include "hw/regs/gen/dev_regs.h"
#include "hw/regs/gen/engine_regs.h"
#include "hw/regs/gen/map.h"
#include "hw/regs/gen/msix_regs.h"
#include "hw/regs/gen/perf_regs.h"
#include "hw/regs/gen/power_regs.h"

namespace cx::tools {
namespace {

constexpr const char *kScheme = "vfio-user:";

struct TopCommand {
  std::string device;
  double interval_s = 1;
  unsigned count = 0;
  bool json = false;
};

/// Registers at one moment, read through the card's door for lookers-on.
struct Reading {
  std::chrono::steady_clock::time_point wall;
  uint64_t time_ps = 0;
  uint32_t clock_khz = 0, status = 0;
  Counters counters;
  std::array<uint64_t, kEnergyDomains> femtojoules{};
};

/// Offsets in BAR0 in the order in which a reading takes them.
std::vector<uint64_t> offsets() {
  std::vector<uint64_t> all;
  const auto pair = [&](uint64_t low) {
    all.push_back(low);
    all.push_back(low + 4);
  };
  constexpr uint64_t kEngineOffsets[kEngines] = {CX_MAP_LOAD_OFFSET, CX_MAP_STORE_OFFSET, CX_MAP_DMMU_OFFSET,
                                                 CX_MAP_VPU_OFFSET, CX_MAP_SCA_OFFSET};
  for (const uint64_t engine : kEngineOffsets) {
    for (const uint64_t low : {CX_ENGINE_BUSY_LO, CX_ENGINE_STALL_LO, CX_ENGINE_INSTR_LO, CX_ENGINE_OPS_LO,
                               CX_ENGINE_RD_LO, CX_ENGINE_WR_LO}) {
      pair(engine + low);
    }
  }
  for (const uint64_t low : {CX_PERF_DRAM_RD_LO, CX_PERF_DRAM_WR_LO, CX_PERF_SPM_RD_LO, CX_PERF_SPM_WR_LO,
                             CX_PERF_NOC_LO, CX_PERF_PCIE_TO_DEV_LO, CX_PERF_PCIE_TO_HOST_LO}) {
    pair(CX_MAP_PERF_OFFSET + low);
  }
  pair(CX_MAP_DEV_OFFSET + CX_DEV_CP_INSTRET_LO);
  pair(CX_MAP_DEV_OFFSET + CX_DEV_CP_CYCLES_LO);
  for (uint32_t domain = 0; domain < kEnergyDomains; ++domain) pair(CX_MAP_POWER_OFFSET + CX_POWER_NOW_LO(domain));
  all.push_back(CX_MAP_DEV_OFFSET + CX_DEV_PACKETS);
  all.push_back(CX_MAP_MSIX_OFFSET + CX_MSIX_SENT);
  all.push_back(CX_MAP_DEV_OFFSET + CX_DEV_CLOCK_KHZ);
  all.push_back(CX_MAP_DEV_OFFSET + CX_DEV_FW_STATUS);
  return all;
}

std::string ask(const std::string &path, const std::string &line) {
  vfio::Fd door;
  try {
    door = vfio::connect_to(path.c_str());
  } catch (const std::exception &) {
    throw InputError(path + ": nobody listens there; serve a card with cx device --socket");
  }
  std::string reply;
  char part[4096];
  ssize_t bytes = send(door.get(), line.data(), line.size(), MSG_NOSIGNAL);
  while (bytes > 0 && reply.find('\n') == std::string::npos) {
    bytes = read(door.get(), part, sizeof part);
    if (bytes > 0) reply.append(part, static_cast<std::size_t>(bytes));
  }
  if (reply.find('\n') == std::string::npos) throw InputError(path + ": the card does not answer");
  return reply.substr(0, reply.find('\n'));
}

Reading read_card(const std::string &path) {
  static const std::vector<uint64_t> places = offsets();
  std::string line;
  for (const uint64_t offset : places) line += fmt::format("{:x} ", offset);
  const std::string reply = ask(path, line + "\n");
  if (reply.rfind("error", 0) == 0) throw InputError(path + ": " + reply);
  std::istringstream words(reply);
  Reading reading;
  reading.wall = std::chrono::steady_clock::now();
  words >> std::hex >> reading.time_ps;
  std::vector<uint64_t> values(places.size());
  for (uint64_t &value : values) words >> value;
  if (!words) throw InputError(path + ": the card's answer is damaged: " + reply);
  std::size_t at = 0;
  const auto word = [&] { return static_cast<uint32_t>(values[at++]); };
  const auto pair = [&] {
    const uint64_t low = word();
    return low | uint64_t{word()} << 32;
  };
  Counters &c = reading.counters;
  for (EngineCounters &engine : c.engines) {
    engine.busy_cycles = pair();
    engine.stall_cycles = pair();
    engine.instructions = pair();
    engine.ops = pair();
    engine.bytes_read = pair();
    engine.bytes_written = pair();
  }
  for (uint64_t *counter : {&c.dram_read, &c.dram_written, &c.spm_read, &c.spm_written, &c.noc, &c.pcie_to_device,
                            &c.pcie_to_host, &c.firmware_instructions, &c.firmware_cycles}) {
    *counter = pair();
  }
  for (uint64_t &energy : reading.femtojoules) energy = pair();
  c.packets = word();
  c.interrupts = word();
  reading.clock_khz = word();
  reading.status = word();
  return reading;
}

/// What happened between two readings; `before` of another power-on counts as zeros.
struct Interval {
  double simulated_s = 0, wall_s = 0, cycles = 0;
  Counters counters;
  std::array<double, kEnergyDomains> watts{};  ///< 0 where no time passed
};

Interval between(const Reading &before, const Reading &now) {
  Interval interval;
  const bool same = now.time_ps >= before.time_ps && now.counters.packets >= before.counters.packets &&
                    now.counters.dram_read >= before.counters.dram_read;
  interval.counters = same ? now.counters - before.counters : now.counters;
  interval.simulated_s = 1e-12 * static_cast<double>(now.time_ps - (same ? before.time_ps : 0));
  interval.wall_s = std::chrono::duration<double>(now.wall - before.wall).count();
  interval.cycles = interval.simulated_s * 1e3 * now.clock_khz;
  for (int d = 0; d < kEnergyDomains && interval.simulated_s > 0; ++d) {
    // Energy counts on where counters restart.
    const bool later = now.femtojoules[d] >= before.femtojoules[d];
    const uint64_t spent = now.femtojoules[d] - (later ? before.femtojoules[d] : 0);
    interval.watts[d] = 1e-15 * static_cast<double>(spent) / interval.simulated_s;
  }
  return interval;
}

double share(uint64_t part, double whole) {
  return whole > 0 ? std::clamp(static_cast<double>(part) / whole, 0.0, 1.0) : 0;
}

std::string bar(double share) {
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(share * kWidth + 0.5);
  return std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(kWidth - filled), '.');
}

std::string screen(const std::string &device, const Reading &now, const Interval &interval) {
  const Counters &c = interval.counters;
  const auto rate = [&](uint64_t bytes) {
    return interval.simulated_s > 0 ? 1e-9 * static_cast<double>(bytes) / interval.simulated_s : 0;
  };
  std::string out = fmt::format("{}   {:.3f} ms simulated, {:.3f} ms in the last {:.2f} s   {:.0f} MHz\n\n", device,
                                1e-9 * static_cast<double>(now.time_ps), 1e3 * interval.simulated_s, interval.wall_s,
                                now.clock_khz / 1e3);
  out +=
      fmt::format("{:<8}{:<28}{:>8}{:>9}{:>14}{:>18}\n", "engine", "", "busy", "waiting", "instructions", "operations");
  for (int e = 0; e < kEngines; ++e) {
    const EngineCounters &engine = c.engines[e];
    const double busy = share(engine.busy_cycles, interval.cycles);
    out += fmt::format("{:<8}[{}]{:>10.1f} %{:>7.1f} %{:>14}{:>18}\n", kEngineNames[e], bar(busy), 100 * busy,
                       100 * share(engine.stall_cycles, interval.cycles), engine.instructions, engine.ops);
  }
  out += fmt::format("\n{:<18}{:>12}{:>12}\n", "GB/s (simulated)", "read", "written");
  out += fmt::format("{:<18}{:>12.3f}{:>12.3f}\n", "DRAM", rate(c.dram_read), rate(c.dram_written));
  out += fmt::format("{:<18}{:>12.3f}{:>12.3f}\n", "scratchpad", rate(c.spm_read), rate(c.spm_written));
  out += fmt::format("{:<18}{:>12.3f}{:>12.3f}\n", "PCIe", rate(c.pcie_to_device), rate(c.pcie_to_host));
  out += fmt::format("{:<18}{:>12.3f}\n", "network on chip", rate(c.noc));
  const double watts = std::accumulate(interval.watts.begin(), interval.watts.end(), 0.0);
  out += fmt::format("\nW (simulated) {:.3f}:", watts);
  for (int d = 0; d < kEnergyDomains; ++d) {
    if (interval.watts[d] >= 0.0005) out += fmt::format("  {} {:.3f}", kEnergyDomainNames[d], interval.watts[d]);
  }
  out += "\n";
  out += fmt::format(
      "\npackets {}, interrupts {}, firmware instructions {} ({:.1f} % of its time); since reset {}, {}, {}\n",
      c.packets, c.interrupts, c.firmware_instructions, 100 * share(c.firmware_cycles, interval.cycles),
      now.counters.packets, now.counters.interrupts, now.counters.firmware_instructions);
  return out;
}

nlohmann::ordered_json json_of(const Reading &now, const Interval &interval) {
  nlohmann::ordered_json json;
  json["time_us"] = 1e-6 * static_cast<double>(now.time_ps);
  json["simulated_us"] = 1e6 * interval.simulated_s;
  json["wall_s"] = interval.wall_s;
  for (int e = 0; e < kEngines; ++e) {
    const EngineCounters &engine = now.counters.engines[e];
    json["engines"][kEngineNames[e]] = {
        {"utilisation", share(interval.counters.engines[e].busy_cycles, interval.cycles)},
        {"busy_cycles", engine.busy_cycles},
        {"stall_cycles", engine.stall_cycles},
        {"instructions", engine.instructions},
        {"ops", engine.ops},
        {"bytes_read", engine.bytes_read},
        {"bytes_written", engine.bytes_written}};
  }
  const Counters &c = now.counters;
  json["bytes"] = {{"dram_read", c.dram_read},
                   {"dram_written", c.dram_written},
                   {"spm_read", c.spm_read},
                   {"spm_written", c.spm_written},
                   {"noc", c.noc},
                   {"pcie_to_device", c.pcie_to_device},
                   {"pcie_to_host", c.pcie_to_host}};
  double total = 0;
  for (int d = 0; d < kEnergyDomains; ++d) {
    json["watts"][kEnergyDomainNames[d]] = interval.watts[d];
    json["energy_uj"][kEnergyDomainNames[d]] = microjoules(now.femtojoules[d]);
    total += interval.watts[d];
  }
  json["watts"]["total"] = total;
  json["packets"] = c.packets;
  json["interrupts"] = c.interrupts;
  json["firmware_instructions"] = c.firmware_instructions;
  return json;
}

int top(const TopCommand &options) {
  if (options.device.rfind(kScheme, 0) != 0) {
    throw InputError("cx top looks at a card that cx device serves: --device vfio-user:SOCKET");
  }
  const std::string path = options.device.substr(std::string(kScheme).size()) + ".registers";
  const bool live = !options.json && isatty(STDOUT_FILENO) != 0;
  Reading before = read_card(path);
  for (unsigned shown = 0; options.count == 0 || shown < options.count; ++shown) {
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval_s));
    const Reading now = read_card(path);
    const Interval interval = between(before, now);
    if (options.json) {
      fmt::print("{}\n", json_of(now, interval).dump());
    } else {
      // Home, and what is below the new text goes away with it.
      fmt::print("{}{}{}", live ? "\x1b[H\x1b[2J" : "", screen(options.device, now, interval), live ? "" : "\n");
    }
    std::fflush(stdout);
    before = now;
  }
  return kDone;
}

}  // namespace

void add_top(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<TopCommand>();
  CLI::App *command = app.add_subcommand("top", "Show what a served card does, as it goes: engines, traffic, packets");
  command->add_option("--device", options->device, "vfio-user:SOCKET of a card that cx device serves")->required();
  command->add_option("--interval", options->interval_s, "Seconds of wall time between two readings")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str();
  command->add_option("--count", options->count, "Readings to show; 0: until interrupted")->capture_default_str();
  command->add_flag("--json", options->json, "A JSON object a line instead of the screen");
  command->callback([options, &invocation] { invocation.action = [options] { return top(*options); }; });
}

}  // namespace cx::tools
