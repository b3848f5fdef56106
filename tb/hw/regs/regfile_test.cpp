// Every register of every block against its description: reset, access rights of both sides, holes, neighbours.
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "hw/regs/gen/dev_regs.hpp"
#include "hw/regs/gen/engine_regs.hpp"
#include "hw/regs/gen/intc_regs.hpp"
#include "hw/regs/gen/msix_regs.hpp"
#include "hw/regs/gen/perf_regs.hpp"
#include "hw/regs/gen/power_regs.hpp"
#include "hw/regs/gen/queue_regs.hpp"
#include "hw/regs/gen/ras_regs.hpp"
#include "hw/regs/gen/sdma_regs.hpp"
#include "tb/hw/regs/description.hpp"

using namespace cx;
using regs::RegFile;
using regs::Result;
using regs::Side;

namespace {

struct Block {
  const char *yaml;
  std::function<std::unique_ptr<RegFile>()> make;
};

template <class Regs>
Block block(const char *yaml) {
  return {yaml, [] { return std::make_unique<Regs>(); }};
}

const std::vector<Block> &blocks() {
  static const std::vector<Block> all = {
      block<regs::DevRegs>("hw/dev/regs.yaml"),     block<regs::EngineRegs>("hw/engine/regs.yaml"),
      block<regs::IntcRegs>("hw/cp/regs.yaml"),     block<regs::MsixRegs>("hw/pcie/regs.yaml"),
      block<regs::PerfRegs>("hw/noc/regs.yaml"),    block<regs::QueueRegs>("hw/queue/regs.yaml"),
      block<regs::SdmaRegs>("hw/sdma/regs.yaml"),   block<regs::RasRegs>("hw/ras/regs.yaml"),
      block<regs::PowerRegs>("hw/power/regs.yaml"),
  };
  return all;
}

// One word as its description has it.
struct Word {
  std::string name;
  uint32_t reset = 0;
  std::map<std::string, uint32_t> mask[2];  // by side, access kind
};

std::map<uint32_t, Word> words_of(const YAML::Node &description) {
  std::map<uint32_t, Word> out;
  for (const YAML::Node &reg : description["registers"]) {
    for (unsigned index = 0; index < tb::number(reg["count"], 1); ++index) {
      Word word;
      word.name = reg["name"].as<std::string>() + "[" + std::to_string(index) + "]";
      word.reset = static_cast<uint32_t>(tb::number(reg["reset"], 0));
      for (int side = 0; side < 2; ++side) {
        const auto kind = reg[side == 1 && reg["fw_access"] ? "fw_access" : "access"].as<std::string>();
        if (!reg["fields"]) word.mask[side][kind] = ~0u;
        for (const YAML::Node &field : reg["fields"]) {
          const auto range = tb::bits_of(field["bits"].as<std::string>());
          const uint32_t mask = (range.width == 32 ? ~0u : (1u << range.width) - 1) << range.low;
          word.mask[side][field["access"] ? field["access"].as<std::string>() : kind] |= mask;
        }
      }
      const auto offset = static_cast<uint32_t>(tb::number(reg["offset"]) + index * tb::number(reg["stride"], 4));
      REQUIRE(out.emplace(offset, word).second);
    }
  }
  return out;
}

uint32_t mask(const Word &word, Side side, const char *kind) {
  const auto &masks = word.mask[static_cast<int>(side)];
  const auto found = masks.find(kind);
  return found == masks.end() ? 0 : found->second;
}

uint32_t read(RegFile &file, Side side, uint32_t offset) {
  uint32_t value = 0;
  REQUIRE(file.read(side, offset, value) == Result::ok);
  return value;
}

// Model's view of an offset.
uint32_t raw(const RegFile &file, uint32_t offset) {
  for (unsigned reg = 0; reg < file.table().size(); ++reg) {
    const auto &desc = file.table()[reg];
    for (unsigned index = 0; index < desc.count; ++index) {
      if (desc.offset + index * desc.stride == offset) return file.raw_get(reg, index);
    }
  }
  FAIL("no register at " << offset);
  return 0;
}

void set_raw(RegFile &file, uint32_t offset, uint32_t value) {
  for (unsigned reg = 0; reg < file.table().size(); ++reg) {
    const auto &desc = file.table()[reg];
    for (unsigned index = 0; index < desc.count; ++index) {
      if (desc.offset + index * desc.stride == offset) file.raw_set(reg, index, value);
    }
  }
}

}  // namespace

TEST_CASE("reset values on both sides") {
  for (const Block &entry : blocks()) {
    const auto description = YAML::LoadFile(entry.yaml);
    for (const auto &[offset, word] : words_of(description)) {
      for (const Side side : {Side::host, Side::firmware}) {
        const auto file = entry.make();
        INFO(entry.yaml << " " << word.name);
        CHECK(read(*file, side, offset) == (word.reset & ~mask(word, side, "wo")));
        set_raw(*file, offset, 0x5a5a5a5a);
        file->reset();
        CHECK(raw(*file, offset) == word.reset);
      }
    }
  }
}

TEST_CASE("writing all ones and all zeros obeys every access kind on both sides") {
  for (const Block &entry : blocks()) {
    const auto description = YAML::LoadFile(entry.yaml);
    for (const auto &[offset, word] : words_of(description)) {
      for (const Side side : {Side::host, Side::firmware}) {
        INFO(entry.yaml << " " << word.name << " side " << static_cast<int>(side));
        const uint32_t writable = mask(word, side, "rw") | mask(word, side, "wo");
        const uint32_t w1c = mask(word, side, "w1c");
        const auto file = entry.make();
        REQUIRE(file->write(side, offset, ~0u) == Result::ok);
        CHECK(raw(*file, offset) == ((word.reset | writable) & ~w1c));
        set_raw(*file, offset, ~0u);
        REQUIRE(file->write(side, offset, 0) == Result::ok);
        CHECK(raw(*file, offset) == ~writable);
        set_raw(*file, offset, ~0u);
        CHECK(read(*file, side, offset) == ~mask(word, side, "wo"));
        CHECK(raw(*file, offset) == ~mask(word, side, "rc"));
      }
    }
  }
}

TEST_CASE("a write changes its own word only") {
  for (const Block &entry : blocks()) {
    const auto description = YAML::LoadFile(entry.yaml);
    const auto words = words_of(description);
    const auto file = entry.make();
    uint32_t tag = 0x01010101;
    std::map<uint32_t, uint32_t> expected;
    for (const auto &[offset, word] : words) {
      set_raw(*file, offset, tag);
      expected[offset] = tag;
      tag = tag * 1664525 + 1013904223;
    }
    for (const auto &[offset, word] : words) {
      REQUIRE(file->write(Side::host, offset, ~expected[offset]) == Result::ok);
      const uint32_t writable = mask(word, Side::host, "rw") | mask(word, Side::host, "wo");
      expected[offset] = ((expected[offset] & ~writable) | (~expected[offset] & writable)) &
                         ~(~expected[offset] & mask(word, Side::host, "w1c"));
      for (const auto &[other, value] : expected) {
        if (raw(*file, other) != value) FAIL(entry.yaml << " " << word.name << " changed offset " << other);
      }
    }
  }
}

TEST_CASE("holes, the end of the block and odd offsets are refused") {
  for (const Block &entry : blocks()) {
    const auto description = YAML::LoadFile(entry.yaml);
    const auto words = words_of(description);
    const auto file = entry.make();
    const auto size = static_cast<uint32_t>(tb::number(description["size"]));
    for (uint32_t offset = 0; offset < size + 16; offset += 4) {
      uint32_t value = 0x1234;
      const bool exists = words.count(offset) != 0;
      const Result expected = exists ? Result::ok : Result::unmapped;
      if (file->read(Side::host, offset, value) != expected) FAIL(entry.yaml << " offset " << offset);
      if (!exists) {
        CHECK(value == 0x1234);
        CHECK(file->write(Side::firmware, offset, 0) == Result::unmapped);
      }
      for (uint32_t odd = 1; odd < 4; ++odd) {
        if (file->read(Side::host, offset + odd, value) != Result::misaligned) FAIL(entry.yaml << " " << offset + odd);
        if (file->write(Side::host, offset + odd, 0) != Result::misaligned) FAIL(entry.yaml << " " << offset + odd);
      }
    }
  }
}

TEST_CASE("access kinds that no block uses at present") {
  static constexpr regs::FieldDesc kFields[] = {
      {"CLEARS", 0, 8, regs::Access::rc, regs::Access::rw},
      {"W1C", 8, 8, regs::Access::w1c, regs::Access::rw},
      {"SECRET", 16, 8, regs::Access::wo, regs::Access::rw},
  };
  static constexpr regs::RegDesc kTable[] = {{"MIX", 0, 1, 4, 0x00ffffff, regs::Access::rw, regs::Access::rw, kFields}};
  RegFile file(kTable, 16);
  CHECK(read(file, Side::host, 0) == 0xffff);
  CHECK(read(file, Side::host, 0) == 0xff00);
  CHECK(read(file, Side::firmware, 0) == 0xffff00);
  CHECK(file.write(Side::host, 0, 0xff550f01) == Result::ok);
  CHECK(file.raw_get(0) == 0x0055f000);
}

TEST_CASE("hooks see element and values, and run only for a side that may write") {
  regs::QueueRegs file;
  struct Call {
    unsigned index;
    uint32_t old, written, now;
  };
  std::vector<Call> calls;
  file.on_write(regs::QueueReg::SIZE, [&](unsigned index, uint32_t old, uint32_t written, uint32_t now) {
    calls.push_back({index, old, written, now});
  });
  file.set(regs::QueueReg::SIZE, 3, 5);
  CHECK(file.write(Side::host, 0x108 + 5 * 0x40, 0xffffffe4) == Result::ok);
  CHECK(file.write(Side::firmware, 0x108 + 5 * 0x40, 1) == Result::ok);
  REQUIRE(calls.size() == 1);
  CHECK(calls[0].index == 5);
  CHECK(calls[0].old == 3);
  CHECK(calls[0].written == 0xffffffe4);
  CHECK(calls[0].now == 4);
  file.on_read(regs::QueueReg::READ_INDEX, [](unsigned index) { return 100 + index; });
  CHECK(read(file, Side::host, 0x118 + 2 * 0x40) == 102);
  CHECK(file.get(regs::QueueReg::READ_INDEX, 2) == 102);
}

TEST_CASE("typed access") {
  regs::DevRegs file;
  file.set64(regs::DevReg::FAULT_ADDR_LO, 0x123456789abcdef0);
  CHECK(file.get(regs::DevReg::FAULT_ADDR_HI) == 0x12345678);
  CHECK(file.get64(regs::DevReg::FAULT_ADDR_LO) == 0x123456789abcdef0);
  file.set(regs::DevRegs::FW_STATUS_PROTOCOL, 0x12345);
  file.set(regs::DevRegs::FW_STATUS_STATE, regs::DevRegs::FW_STATUS_STATE_READY);
  CHECK(file.get(regs::DevReg::FW_STATUS) == 0x23450002);
  CHECK(file.get(regs::DevRegs::FW_STATUS_PROTOCOL) == 0x2345);
  CHECK_THROWS_AS(file.get(regs::DevReg::SCRATCH, 4), std::out_of_range);
}
