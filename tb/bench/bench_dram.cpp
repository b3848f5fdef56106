// What the bank-level DRAM model costs the host: nanoseconds of one core for 4 KiB of requests, by part and traffic.
//
//   cx_dram_bench [--json]
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "hw/dram/channel.hpp"
#include "hw/dram/mapping.hpp"
#include "hw/dram/timing.hpp"

namespace {

using namespace cx::hw;

constexpr std::uint64_t kBytes = 4096;
constexpr unsigned kRequests = 4000;
constexpr int kRounds = 5;
constexpr std::uint64_t kSeed = 1;

// All channels of a part, as the chip's memory has them.
class Memory {
 public:
  explicit Memory(const DramPreset &preset) : mapping_(preset.mapping, preset.hash, preset.geometry) {
    for (std::uint32_t c = 0; c < preset.geometry.all_channels(); ++c) {
      channels_.emplace_back(preset.timing, preset.geometry, DramScheduling{}, mapping_.pattern());
    }
  }

  Ticks request(Ticks arrival, std::uint64_t address, std::uint64_t span, std::uint64_t bytes, bool write) {
    mapping_.parts(address, span, bytes, parts_);
    Ticks end = 0;
    for (const auto &part : parts_) {
      DramChannel &channel = channels_[part.channel];
      end = std::max(end, (write ? channel.write(arrival, part.strip) : channel.read(arrival, part.strip)).done);
    }
    return end;
  }

 private:
  AddressMapping mapping_;
  std::vector<DramChannel> channels_;
  std::vector<AddressMapping::Part> parts_;
};

struct Traffic {
  const char *name;
  std::function<Ticks(Memory &, std::mt19937_64 &, unsigned)> request;  // moves kBytes
};

const std::vector<Traffic> kTraffic = {
    {"stream read",
     [](Memory &m, std::mt19937_64 &, unsigned i) { return m.request(0, i * kBytes, kBytes, kBytes, false); }},
    {"stream write",
     [](Memory &m, std::mt19937_64 &, unsigned i) { return m.request(0, i * kBytes, kBytes, kBytes, true); }},
    {"copy",
     [](Memory &m, std::mt19937_64 &, unsigned i) {
       const std::uint64_t at = i / 2 * kBytes + (i % 2) * ((1u << 27) + 196608);
       return m.request(0, at, kBytes, kBytes, i % 2 != 0);
     }},
    {"4 KiB at random", [](Memory &m, std::mt19937_64 &random,
                           unsigned) { return m.request(0, random() % 65536 * kBytes, kBytes, kBytes, false); }},
    {"every fourth burst",
     [](Memory &m, std::mt19937_64 &, unsigned i) { return m.request(0, i * 4 * kBytes, 4 * kBytes, kBytes, false); }},
    {"64 bytes at random",
     [](Memory &m, std::mt19937_64 &random, unsigned) {
       Ticks end = 0;
       for (std::uint64_t at = 0; at < kBytes; at += 64) end = m.request(0, random() % (1u << 22) * 64, 64, 64, false);
       return end;
     }},
    {"64 bytes at random, two reads to a write",
     [](Memory &m, std::mt19937_64 &random, unsigned) {
       Ticks end = 0;
       for (std::uint64_t at = 0; at < kBytes; at += 64) {
         const std::uint64_t number = random();
         end = m.request(0, number % (1u << 22) * 64, 64, 64, number >> 32 & 1 && number >> 33 & 1);
       }
       return end;
     }},
    {"64 bytes at random, moderate load",
     [](Memory &m, std::mt19937_64 &random, unsigned i) {
       Ticks end = 0;
       for (std::uint64_t at = 0; at < kBytes; at += 64) {
         end = m.request(i * Ticks{2048} + at / 2, random() % (1u << 22) * 64, 64, 64, false);
       }
       return end;
     }},
};

double nanoseconds(const DramPreset &preset, const Traffic &traffic) {
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    Memory memory(preset);
    std::mt19937_64 random(kSeed);
    const std::clock_t begin = std::clock();
    for (unsigned i = 0; i < kRequests; ++i) traffic.request(memory, random, i);
    best = std::min(best, 1e9 / CLOCKS_PER_SEC * static_cast<double>(std::clock() - begin));
  }
  return best / kRequests;
}

}  // namespace

int main(int count, char **arguments) {
  const bool json = count == 2 && std::strcmp(arguments[1], "--json") == 0;
  if (count > 1 && !json) {
    fmt::print(stderr, "usage: cx_dram_bench [--json]\n");
    return 2;
  }
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  if (!json) {
    fmt::print("| part |");
    for (const Traffic &traffic : kTraffic) fmt::print(" {} |", traffic.name);
    fmt::print("\n|---|");
    for (std::size_t i = 0; i < kTraffic.size(); ++i) fmt::print("---:|");
    fmt::print("\n");
  }
  for (const DramPreset &preset : dram_presets()) {
    if (!json) fmt::print("| {} |", preset.name);
    for (const Traffic &traffic : kTraffic) {
      const double ns = nanoseconds(preset, traffic);
      if (json) {
        out.push_back({{"part", std::string(preset.name)}, {"traffic", traffic.name}, {"host_ns_per_4_kib", ns}});
      } else {
        fmt::print(" {:.0f} |", ns);
        std::fflush(stdout);
      }
    }
    if (!json) fmt::print("\n");
  }
  if (json) fmt::print("{}\n", out.dump(2));
  return 0;
}
