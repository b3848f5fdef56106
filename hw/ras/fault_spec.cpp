#include "hw/ras/fault_spec.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <set>
#include <span>
#include <string_view>

#include "hw/regs/gen/isa.hpp"
#include "hw/regs/gen/map.h"

namespace cx::hw {

namespace {

using Kind = FaultSpec::Kind;

struct KindInfo {
  const char *name;
  Kind kind;
  const char *keys;  // beside the common ones
  const char *doc;
};

constexpr std::array<KindInfo, 10> kKinds{{
    {"iommu", Kind::iommu, "", "the next transfer of a packet to or from host memory finds it not mapped"},
    {"illegal_packet", Kind::illegal_packet, "", "the next packet that is fetched has a wrong bit in its type"},
    {"illegal_instruction", Kind::illegal_instruction, "engine", "the engine's next instruction does not decode"},
    {"bad_address", Kind::bad_address, "engine",
     "a wrong bit in the offset of the next memory descriptor that load or store uses"},
    {"ecc_corrected", Kind::ecc_corrected, "address bytes bit", "a DRAM word with one wrong bit"},
    {"ecc_uncorrected", Kind::ecc_uncorrected, "address bytes bit second_bit", "a DRAM word with two wrong bits"},
    {"engine_hang", Kind::engine_hang, "engine cure", "the engine's next data instruction is taken and never done"},
    {"firmware_crash", Kind::firmware_crash, "lockup", "the firmware's next instruction is damaged in its memory"},
    {"link_down", Kind::link_down, "duration_us", "the PCIe link goes down (default 1000 us; 0: for ever)"},
    {"thermal_trip", Kind::thermal_trip, "celsius duration_us",
     "the engines stop until the host acknowledges, or for duration_us"},
}};
constexpr std::string_view kCommonKeys = "at_us after_packets after_launches count rate_hz seed";

constexpr struct {
  const char *key, *doc;
} kKeys[] = {
    {"at_us", "simulated time since power-on, us (default: at once)"},
    {"after_packets", "when so many packets have completed since the fault was armed"},
    {"after_launches", "with the launch that follows so many since the fault was armed"},
    {"count", "how many times, 1 to 1000000 (default 1)"},
    {"rate_hz", "times in a simulated second, at random; 0: all at once"},
    {"seed", "of what is random (default: faults.seed and the place in the plan)"},
    {"engine", "its name (default load)"},
    {"address", "device address of DRAM (default: anywhere in DRAM)"},
    {"bytes", "the word is one of so many bytes from address (default 8)"},
    {"bit", "wrong bit, 0 to 71 (default: random)"},
    {"second_bit", "second wrong bit (default: random)"},
    {"cure", "queue_reset (default), engine_reset or function_reset: the least that brings the engine back"},
    {"lockup", "1: the trap handler is damaged as well, so that the core locks up"},
    {"duration_us", "simulated time, us"},
    {"celsius", "temperature that is reported, 0 to 65535 (default 110)"},
};

[[noreturn]] void fail(const std::string &message) { throw FaultSpecError(message); }

bool lists(std::string_view keys, std::string_view key) {
  while (!keys.empty()) {
    const std::size_t end = std::min(keys.find(' '), keys.size());
    if (keys.substr(0, end) == key) return true;
    keys.remove_prefix(std::min(end + 1, keys.size()));
  }
  return false;
}

std::uint64_t whole(const std::string &key, const std::string &value, std::uint64_t low, std::uint64_t high) {
  const bool hex = value.starts_with("0x") || value.starts_with("0X");
  const char *first = value.data() + (hex ? 2 : 0), *last = value.data() + value.size();
  std::uint64_t number = 0;
  const auto result = std::from_chars(first, last, number, hex ? 16 : 10);
  if (result.ec != std::errc() || result.ptr != last || number < low || number > high) {
    fail(key + ": expected an integer from " + std::to_string(low) + " to " + std::to_string(high) + ", got '" + value +
         "'");
  }
  return number;
}

double positive(const std::string &key, const std::string &value, double high) {
  double number = 0;
  const char *last = value.data() + value.size();
  const auto result = std::from_chars(value.data(), last, number);
  if (result.ec != std::errc() || result.ptr != last || !(number >= 0 && number <= high)) {
    fail(key + ": expected a number from 0 to " + std::to_string(static_cast<std::uint64_t>(high)) + ", got '" + value +
         "'");
  }
  return number;
}

unsigned engine_of(Kind kind, const std::string &value) {
  for (unsigned n = 0; n < isa::kEngineCount; ++n) {
    const bool moves = n == static_cast<unsigned>(isa::Engine::LOAD) || n == static_cast<unsigned>(isa::Engine::STORE);
    if (value == isa::to_string(static_cast<isa::Engine>(n)) && (moves || kind != Kind::bad_address)) return n;
  }
  fail("engine: expected " + std::string(kind == Kind::bad_address ? "load or store" : "the name of an engine") +
       ", got '" + value + "'");
}

FaultSpec::Cure cure_of(const std::string &value) {
  if (value == "queue_reset") return FaultSpec::Cure::queue_reset;
  if (value == "engine_reset") return FaultSpec::Cure::engine_reset;
  if (value == "function_reset") return FaultSpec::Cure::function_reset;
  fail("cure: expected queue_reset, engine_reset or function_reset, got '" + value + "'");
}

void set(FaultSpec &spec, const std::string &key, const std::string &value) {
  constexpr double kLongest = 1e12;
  if (key == "at_us") spec.at_us = positive(key, value, kLongest);
  if (key == "after_packets") spec.after_packets = whole(key, value, 0, UINT32_MAX);
  if (key == "after_launches") spec.after_launches = whole(key, value, 0, UINT32_MAX);
  if (key == "count") spec.count = static_cast<std::uint32_t>(whole(key, value, 1, 1'000'000));
  if (key == "rate_hz") spec.rate_hz = positive(key, value, 1e9);
  if (key == "seed") spec.seed = whole(key, value, 0, UINT64_MAX);
  if (key == "engine") spec.engine = engine_of(spec.kind, value);
  if (key == "address") spec.address = whole(key, value, 0, UINT64_MAX);
  if (key == "bytes") spec.bytes = whole(key, value, 8, UINT64_MAX);
  if (key == "bit") spec.bit = static_cast<unsigned>(whole(key, value, 0, 71));
  if (key == "second_bit") spec.second_bit = static_cast<unsigned>(whole(key, value, 0, 71));
  if (key == "cure") spec.cure = cure_of(value);
  if (key == "lockup") spec.lockup = whole(key, value, 0, 1) != 0;
  if (key == "duration_us") spec.duration_us = positive(key, value, kLongest);
  if (key == "celsius") spec.celsius = static_cast<std::uint32_t>(whole(key, value, 0, UINT16_MAX));
}

const KindInfo &kind_of(const std::string &name) {
  std::string names;
  for (const KindInfo &info : kKinds) {
    if (name == info.name) return info;
    names += (names.empty() ? "" : ", ") + std::string(info.name);
  }
  fail("kind: expected one of " + names + ", got '" + name + "'");
}

}  // namespace

bool FaultSpec::in_dram(std::uint64_t dram_bytes) const {
  if (!address) return true;
  if (*address < CX_MEM_DRAM_BASE) return false;
  const std::uint64_t offset = *address - CX_MEM_DRAM_BASE;
  return offset < dram_bytes && bytes <= dram_bytes - offset;
}

FaultSpec parse_fault(const std::string &text) {
  const std::size_t at = text.find('@');
  const KindInfo &info = kind_of(text.substr(0, at));
  FaultSpec spec;
  spec.kind = info.kind;
  if (info.kind == Kind::link_down) spec.duration_us = 1000;
  std::set<std::string> seen;
  std::string rest = at == std::string::npos ? "" : text.substr(at + 1);
  if (at != std::string::npos && rest.empty()) fail("expected key=value behind '@'");
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    const std::string item = rest.substr(0, end);
    rest.erase(0, std::min(end + 1, rest.size()));
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0) fail("expected key=value, got '" + item + "'");
    const std::string key = item.substr(0, equals);
    if (!lists(kCommonKeys, key) && !lists(info.keys, key)) {
      fail(key + ": " + info.name + " has no such key; it has " + std::string(kCommonKeys) +
           (*info.keys != '\0' ? std::string(" ") + info.keys : ""));
    }
    if (!seen.insert(key).second) fail(key + ": is given twice");
    set(spec, key, item.substr(equals + 1));
  }
  if (seen.contains("at_us") + seen.contains("after_packets") + seen.contains("after_launches") > 1) {
    fail("at_us, after_packets and after_launches exclude each other");
  }
  if (spec.second_bit && spec.bit == spec.second_bit) fail("second_bit: expected another one than bit");
  if (seen.contains("bytes") && !spec.address) fail("bytes: needs address");
  return spec;
}

std::string fault_help() {
  std::string out =
      "KIND[@key=value,...], all kinds with at_us, after_packets or after_launches, count, rate_hz, seed\n";
  for (const KindInfo &info : kKinds) {
    out += "  " + std::string(info.name) + ": " + info.doc + (*info.keys != '\0' ? "; keys " : "") + info.keys + "\n";
  }
  out += "keys\n";
  for (const auto &key : kKeys) out += "  " + std::string(key.key) + ": " + key.doc + "\n";
  return out;
}

}  // namespace cx::hw
