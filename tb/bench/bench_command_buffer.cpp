// What a submission costs: packets one by one against a command buffer, on the host and on the device.
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "driver/umd/command_buffer.hpp"
#include "hw/regs/gen/packets.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Cost {
  double host_ns = 0;     // of this computer, for the submission without its wait
  uint64_t encoded = 0;   // packets
  uint64_t cycles = 0;    // device time, first start to last end
  uint64_t firmware = 0;  // instructions
};

template <class Submit>
Cost measure(cx::Device &device, int rounds, Submit &&submit) {
  Cost cost;
  cx::Queue &queue = device.queue();
  for (int round = -2; round < rounds; ++round) {
    const cx::Counters before = device.counters();
    const uint64_t encoded = queue.stats().encoded;
    const auto start = Clock::now();
    const auto [first, last] = submit();
    const double ns = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
    last.wait();
    if (round < 0) continue;  // caches
    cost.host_ns += ns / rounds;
    cost.encoded += queue.stats().encoded - encoded;
    cost.cycles += last.wait().end - first.wait().start;
    cost.firmware += device.counters_since(before).firmware_instructions;
  }
  cost.encoded /= static_cast<uint64_t>(rounds);
  cost.cycles /= static_cast<uint64_t>(rounds);
  cost.firmware /= static_cast<uint64_t>(rounds);
  return cost;
}

nlohmann::json row(const char *how, unsigned packets, const Cost &cost) {
  return {{"how", how},
          {"packets", packets},
          {"host_ns_per_packet", cost.host_ns / packets},
          {"encoded", cost.encoded},
          {"cycles", cost.cycles},
          {"firmware_instructions_per_packet", static_cast<double>(cost.firmware) / packets}};
}

}  // namespace

int main(int argc, char **argv) {
  const bool json = argc > 1 && std::strcmp(argv[1], "--json") == 0;
  const char *chip = argc > (json ? 2 : 1) ? argv[json ? 2 : 1] : "configs/chips/cx3210.yaml";
  try {
    const auto device = cx::Device::open(chip);
    const cx::DeviceBuffer memory = device->allocate(4096);
    const cx::HostBuffer host = device->allocate_host(4096);
    nlohmann::json rows = nlohmann::json::array();
    for (const unsigned packets : {1u, 4u, 16u, 64u, 200u}) {
      cx::CommandBuffer commands(*device);
      for (unsigned i = 0; i < packets; ++i) commands.copy_to_device(memory.address(), host.iova(), 64);
      commands.finish();
      const int rounds = 50;
      const Cost each = measure(*device, rounds, [&] {
        cx::Fence first, last;
        for (unsigned i = 0; i < packets; ++i) {
          const bool end = i + 1 == packets;
          last = device->queue().copy_to_device(memory.address(), host.iova(), 64, {.interrupt = end, .ring = end});
          if (i == 0) first = last;
        }
        return std::pair(first, last);
      });
      const Cost replay = measure(*device, rounds, [&] {
        const cx::Fence run = device->queue().execute(commands, {.interrupt = true});
        return std::pair(run, run);
      });
      rows.push_back(row("one by one", packets, each));
      rows.push_back(row("replay", packets, replay));
    }
    if (json) {
      std::printf("%s\n", nlohmann::json{{"chip", chip}, {"rows", rows}}.dump(2).c_str());
      return 0;
    }
    std::printf("%-12s %8s %16s %8s %10s %20s\n", "", "packets", "host ns/packet", "encoded", "cycles",
                "instructions/packet");
    for (const auto &r : rows) {
      std::printf("%-12s %8u %16.1f %8u %10u %20.0f\n", r["how"].get<std::string>().c_str(),
                  r["packets"].get<unsigned>(), r["host_ns_per_packet"].get<double>(), r["encoded"].get<unsigned>(),
                  r["cycles"].get<unsigned>(), r["firmware_instructions_per_packet"].get<double>());
    }
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
