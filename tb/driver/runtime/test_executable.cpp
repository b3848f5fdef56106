#include <catch2/catch.hpp>
#include <cstring>
#include <nlohmann/json.hpp>

#include "driver/runtime/executable.hpp"
#include "tb/driver/runtime/sample_program.hpp"
#include "tb/driver/umd/mock_card.hpp"

using namespace cx;
using cx::test::MockCard;

namespace {

constexpr uint32_t kElements = 64;

// Behind header and stream table, at the alignment of the sample's constants.
constexpr uint32_t kConstants =
    (sizeof(cx_program_header) + CX_PROGRAM_STREAMS_MAX * sizeof(cx_stream_entry) + 63) / 64 * 64;

// What the sample program does, read from the device's memory as a launch would.
MockCard::LaunchResult sample_launch(MockCard &card, const cx_packet_launch &launch) {
  cx_segment table[4];
  REQUIRE(launch.segment_count == 4);
  std::memcpy(table, card.dram(launch.segments, sizeof table), sizeof table);
  REQUIRE(table[0].base == launch.program);
  REQUIRE(table[0].bytes == launch.program_bytes);
  REQUIRE(table[1].bytes == 256);
  cx_program_header header;
  std::memcpy(&header, card.dram(launch.program, sizeof header), sizeof header);
  REQUIRE(header.magic == CX_PROGRAM_MAGIC);
  if (header.arch_hash != MockCard::kArchHash) return {CX_STATUS_WRONG_ARCH};
  float addend = 0;
  std::memcpy(&addend, card.dram(launch.program + kConstants, 4), 4);
  for (uint32_t i = 0; i < kElements; ++i) {
    float x = 0;
    std::memcpy(&x, card.dram(table[2].base + 4 * i, 4), 4);
    x = std::max(x + addend, 0.0f);
    std::memcpy(card.dram(table[3].base + 4 * i, 4), &x, 4);
  }
  return {};
}

struct Bench {
  Bench() {
    auto owned = std::make_unique<MockCard>();
    card = owned.get();
    card->on_launch = sample_launch;
    card->apply();
    device = Device::open(std::move(owned));
  }
  MockCard *card;
  std::unique_ptr<Device> device;
};

HostTensor input_tensor() {
  HostTensor tensor{"x", "float32", {1, kElements}, std::vector<std::byte>(kElements * 4)};
  for (uint32_t i = 0; i < kElements; ++i) {
    const float value = static_cast<float>(i) - 32.0f;
    std::memcpy(tensor.bytes.data() + 4 * i, &value, 4);
  }
  return tensor;
}

}  // namespace

TEST_CASE("a program runs and reports") {
  Bench bench;
  Executable executable(*bench.device, test::sample_program(MockCard::kArchHash, kElements));
  for (int round = 0; round < 3; ++round) {
    const HostTensor input = input_tensor();
    const auto outputs = executable.run({&input, 1});
    REQUIRE(outputs.size() == 1);
    REQUIRE(outputs[0].name == "y");
    REQUIRE(outputs[0].type == "float32");
    REQUIRE(outputs[0].shape == std::vector<int64_t>{kElements});
    for (uint32_t i = 0; i < kElements; ++i) {
      float value = 0;
      std::memcpy(&value, outputs[0].bytes.data() + 4 * i, 4);
      REQUIRE(value == std::max(static_cast<float>(i) - 32.0f + 1.5f, 0.0f));
    }
    const RunReport &report = executable.report();
    REQUIRE(report.counters.packets == 3);
    REQUIRE(report.counters.interrupts == 1);
    REQUIRE(report.cycles == 3000);
    REQUIRE(report.latency_us == 3.0);
    REQUIRE(report.launch_cycles == 1000);
    REQUIRE(report.launch_us == 1.0);
    REQUIRE(report.macs == 12345);
    REQUIRE(report.input_bytes == kElements * 4);
    REQUIRE(report.output_bytes == kElements * 4);
    const nlohmann::json json = report;
    for (const char *key : {"latency_us", "cycles", "launch_us", "launch_cycles", "macs", "engines", "bytes", "packets",
                            "interrupts", "firmware_instructions", "wall_s"}) {
      INFO(key);
      REQUIRE(json.contains(key));
    }
    REQUIRE(json["engines"].size() == kEngines);
  }
}

TEST_CASE("the peak counts the products that a program's precision packs") {
  Bench bench;
  const HostTensor input = input_tensor();
  for (const auto &[precision, pack] : {std::pair{"fp16", 1}, {"bf16", 1}, {"int8", 4}, {"fp8_e5m2", 4}}) {
    Program program = test::sample_program(MockCard::kArchHash, kElements);
    program.precision = precision;
    Executable executable(*bench.device, std::move(program));
    executable.run({&input, 1});
    const Target &target = bench.device->target();
    REQUIRE(executable.report().peak_macs_per_cycle ==
            uint64_t{target.tiles} * target.tile_rows * target.tile_cols * static_cast<uint64_t>(pack));
  }
}

TEST_CASE("inputs are checked by name, type, shape and size") {
  Bench bench;
  Executable executable(*bench.device, test::sample_program(MockCard::kArchHash, kElements));
  const auto refuse = [&](const std::vector<HostTensor> &inputs, const char *message) {
    REQUIRE_THROWS_WITH(executable.run(inputs), Catch::Contains(message));
  };
  const HostTensor good = input_tensor();
  HostTensor bad = good;
  refuse({}, "input 'x' (float32 [1, 64]) is missing");
  refuse({good, good}, "given twice");
  bad.name = "z";
  refuse({good, bad}, "'z' is not an input of program 'sample', which has 'x'");
  bad = good;
  bad.type = "float16";
  refuse({bad}, "has type float16, expected float32");
  bad = good;
  bad.shape = {64, 1};
  refuse({bad}, "has shape [64, 1], expected [1, 64]");
  bad = good;
  bad.bytes.pop_back();
  refuse({bad}, "has 255 bytes, expected 256");
  REQUIRE(executable.run({&good, 1}).size() == 1);
}

TEST_CASE("another architecture is refused by runtime and device") {
  Bench bench;
  REQUIRE_THROWS_WITH(Executable(*bench.device, test::sample_program(77, kElements)),
                      Catch::Contains("compiled for architecture 0x4d"));
  Executable executable(*bench.device, test::sample_program(77, kElements), {.skip_arch_check = true});
  const HostTensor input = input_tensor();
  try {
    executable.run({&input, 1});
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    REQUIRE(fault.record().status == CX_STATUS_WRONG_ARCH);
  }
}

TEST_CASE("a fault of a launch names the node and leaves the executable usable") {
  Bench bench;
  Executable executable(*bench.device, test::sample_program(MockCard::kArchHash, kElements));
  const HostTensor input = input_tensor();
  bench.card->on_launch = [](MockCard &, const cx_packet_launch &) {
    return MockCard::LaunchResult{CX_STATUS_SPM_FAULT, 3, 5, 0x123456};
  };
  try {
    executable.run({&input, 1});
    FAIL("no fault");
  } catch (const DeviceFault &fault) {
    REQUIRE(fault.record().status == CX_STATUS_SPM_FAULT);
    REQUIRE(fault.record().engine == 3);
    REQUIRE(fault.record().pc == 5);
    REQUIRE(fault.record().address == 0x123456);
    REQUIRE_THAT(fault.what(), Catch::Contains("launch failed: SPM_FAULT") && Catch::Contains("vpu #5 node relu"));
  }
  bench.card->on_launch = sample_launch;
  REQUIRE(executable.run({&input, 1}).size() == 1);
  REQUIRE_NOTHROW(bench.device->queue().drain());
}

TEST_CASE("an executable returns its memory") {
  Bench bench;
  const auto mappings = bench.card->mappings();
  const uint64_t used = bench.device->memory_stats().used;
  { Executable executable(*bench.device, test::sample_program(MockCard::kArchHash, kElements)); }
  REQUIRE(bench.device->memory_stats().used == used);
  REQUIRE(bench.card->mappings() == mappings);
  Program program = test::sample_program(MockCard::kArchHash, kElements);
  program.workspace_bytes = MockCard::kDramBytes;
  REQUIRE_THROWS_AS(Executable(*bench.device, program), OutOfMemoryError);
  REQUIRE(bench.device->memory_stats().used == used);
}

TEST_CASE("a report tells of links that were loaded beyond what the network model was validated for") {
  RunReport report;
  report.cycles = 40'000;
  report.counters.noc_links = {{"load", "router 1", 64, 100, 0, 0}, {"router 1", "router 2", 64, 30'000, 7, 0}};
  CHECK(noc_beyond_validation(report).empty());
  CHECK_FALSE(nlohmann::json(report)["noc"].contains("beyond_validation"));
  report.counters.noc_links[0].crowded_cycles = 4096;
  report.counters.noc_links[1].crowded_cycles = 20'000;
  const std::string note = noc_beyond_validation(report);
  CHECK_THAT(note, Catch::Contains("2 links of the network on chip") && Catch::Contains("more than 60 %") &&
                       Catch::Contains("at most 50.0 % of the run (router 1 > router 2)"));
  CHECK(nlohmann::json(report)["noc"]["beyond_validation"] == note);
  CHECK(nlohmann::json(report)["noc"]["links_used"][1]["crowded_cycles"] == 20'000);
}
