// Areas by hand from the 7 nm table, and published dies.
#include "hw/power/area.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

using namespace cx;
using config::Quantity;
using hw::AreaBlock;
using hw::Areas;
using hw::Price;
using hw::Prices;

namespace {

Approx exactly(double value) { return Approx(value).epsilon(1e-9); }

// Table n7: um2 of cells, times of placement, um2 a KiB.
constexpr double kFp32 = 454, kFp16 = 96.8, kBf16 = 51.2, kFp8 = 6.3, kInt8 = 16.6, kFloatSum = 247, kTreeSum = 80.2,
                 kIntegerSum = 8.1, kRegister = 0.3, kMux = 0.126, kLane = 1402, kCore = 21000, kPlaced = 3.07,
                 kSmallKib = 1030, kLargeKib = 830;

config::Chip chip() {
  config::Chip chip;
  chip.name = "test";
  chip.energy.table = "n7";
  return chip;
}

/// Of one tile of 8 x 4 elements, without its accumulators, mm2.
double dense_tile(double element) { return 1e-6 * kPlaced * (8 * 4 * element + 4 * (2 * kFloatSum + kFp32)); }

struct Published {
  const char *name;
  const char *table;
  unsigned tiles;  // of 128 x 128
  std::vector<std::string> formats;
  unsigned acc_rows, lanes, memory_mib;
  const char *dram;
  double gbps;
  double die_mm2;      // published, mostly as a bound
  double error_least;  // of the estimate
  double error_most;
};

config::Chip model_of(const Published &die) {
  config::Chip chip;
  chip.name = die.name;
  chip.energy.table = die.table;
  chip.energy.dram = die.dram;
  chip.dmmu.tiles = die.tiles;
  chip.dmmu.tile = {128, 128, die.acc_rows, 1, 1};
  chip.dmmu.formats = die.formats;
  chip.sca.tiles = 0;
  chip.vpu.lanes = die.lanes;
  chip.spm.kib = die.memory_mib * 1024;
  chip.spm.banks = 16;
  chip.spm.bytes_per_cycle = 256;
  chip.dram.bandwidth_gbps = die.gbps;
  chip.pcie.gen = 3;
  chip.pcie.width = 16;
  return chip;
}

}  // namespace

TEST_CASE("an element is as large as its largest format") {
  config::Chip config = chip();
  config.dmmu.tiles = 1;
  config.dmmu.tile = {8, 4, 2048, 1, 1};  // accumulators: 32 KiB in macros of 16 KiB
  const double accumulators = 1e-6 * 32 * kSmallKib;
  const auto area = [&](std::vector<std::string> formats, unsigned pack, unsigned stages) {
    config.dmmu.formats = std::move(formats);
    config.dmmu.tile.pack = pack;
    config.dmmu.tile.stages = stages;
    return Areas(config).of(AreaBlock::dmmu).value;
  };
  CHECK(area({"FP32"}, 1, 1) == exactly(accumulators + dense_tile(kFp32 + kFloatSum + kRegister * (3 * 32 + 32))));
  CHECK(area({"FP16"}, 1, 1) == exactly(accumulators + dense_tile(kFp16 + kFloatSum + kRegister * (3 * 16 + 32))));
  CHECK(area({"BF16"}, 1, 2) == exactly(accumulators + dense_tile(kBf16 + kFloatSum + kRegister * (3 * 16 + 64))));
  CHECK(area({"INT8"}, 1, 1) == exactly(accumulators + dense_tile(kInt8 + kIntegerSum + kRegister * (3 * 8 + 32))));
  CHECK(area({"INT8"}, 4, 1) ==
        exactly(accumulators + dense_tile(4 * kInt8 + 4 * kIntegerSum + kRegister * (3 * 32 + 32))));
  CHECK(area({"FP8_E4M3"}, 2, 1) ==
        exactly(accumulators + dense_tile(2 * kFp8 + kTreeSum + kFloatSum + kRegister * (3 * 16 + 32))));
  CHECK(area({"INT8", "FP16", "FP8_E5M2", "BF16", "FP32"}, 1, 1) ==
        exactly(accumulators + dense_tile(kFp32 + kFloatSum + kIntegerSum + kRegister * (3 * 32 + 32))));
  config.dmmu.tiles = 7;
  CHECK(area({"FP32"}, 1, 1) == exactly(7 * (accumulators + dense_tile(kFp32 + kFloatSum + kRegister * 128))));
}

TEST_CASE("the other parts of a die, by hand") {
  config::Chip config = chip();
  config.vpu.lanes = 10;
  config.sdma.channels = 3;
  config.cp.tcm_kib = 128;        // half way between 16 KiB and 1 MiB
  config.spm = {1024, 8, 32, 4};  // 128 KiB a bank
  config.noc.bytes_per_cycle = 64;
  config.sca.tiles = 2;
  config.sca.tile = {4, 8, 16, 2048, 16, 6};  // acc_rows 16: macros below 16 KiB; banks of 16 KiB
  config.energy.dram = "hbm2e";
  config.dram.bandwidth_gbps = 100;
  config.pcie.gen = 5;
  config.pcie.width = 8;
  const Areas areas(config);
  const double middle = (kSmallKib + kLargeKib) / 2;
  CHECK(areas.of(AreaBlock::vpu).value == exactly(1e-6 * kPlaced * kLane * 10));
  CHECK(areas.of(AreaBlock::engines).value == exactly(1e-6 * kPlaced * kCore * 8));
  CHECK(areas.of(AreaBlock::cp).value == exactly(1e-6 * (kPlaced * kCore + 128 * middle)));
  CHECK(areas.of(AreaBlock::scratchpad).value == exactly(1e-6 * (1024 * middle + kPlaced * kMux * 6 * 2 * 8 * 32 * 8)));
  CHECK(areas.of(AreaBlock::noc).value == exactly(1e-6 * kPlaced * 2 * 8 * 64 * (5 * 3 * kMux + 8 * 4 * kRegister)));
  // Routers of 3 x 2: four corners with two links and two with three, each with a terminal's; 4 x 8 flits an input.
  auto mesh = config;
  mesh.noc.topology = "mesh";
  mesh.noc.columns = 3;
  mesh.noc.rows = 2;
  CHECK(Areas(mesh).of(AreaBlock::noc).value ==
        exactly(1e-6 * kPlaced * 8 * 64 * ((4 * 9 + 2 * 16) * kMux + (4 * 3 + 2 * 4) * 4 * 8 * kRegister)));
  const double lane = kFp16 + kFloatSum + kIntegerSum + kMux * 16 * 16 + kRegister * 48;
  const double column = kRegister * 6 * 32 + 4 * kIntegerSum + kFloatSum + kFp32;
  const double memory = kSmallKib * (4 * 4 * 8 * 16 + 2 * 2 * 2048 * 4) / 1024;
  CHECK(areas.of(AreaBlock::sca).value == exactly(1e-6 * 2 * (kPlaced * (32 * lane + 8 * column) + memory)));
  CHECK(areas.of(AreaBlock::dram).value == exactly(0.0351 * 100));
  CHECK(areas.of(AreaBlock::dram).most == exactly(0.055 * 100));
  CHECK(areas.of(AreaBlock::pcie).value == exactly(0.70 * 8));
  double blocks = 0;
  for (unsigned block = 0; block < static_cast<unsigned>(AreaBlock::other); ++block) {
    const Price &area = areas.of(static_cast<AreaBlock>(block));
    CHECK(area.least < area.value);
    CHECK(area.value < area.most);
    blocks += area.value;
  }
  CHECK(areas.of(AreaBlock::other).value == exactly(0.65 * blocks));
  CHECK(areas.die().value == exactly(1.65 * blocks));
}

TEST_CASE("every kind of DRAM and every generation of the link has its area") {
  const config::EnergyTable table = config::load_energy_table("n7");
  config::Chip config = chip();
  const std::pair<const char *, Quantity> kinds[] = {{"ddr4", Quantity::area_ddr4},     {"ddr5", Quantity::area_ddr5},
                                                     {"lpddr5", Quantity::area_lpddr5}, {"gddr6", Quantity::area_gddr6},
                                                     {"hbm2", Quantity::area_hbm2},     {"hbm2e", Quantity::area_hbm2e},
                                                     {"hbm3", Quantity::area_hbm3}};
  config.dram.bandwidth_gbps = 10;
  for (const auto &[name, quantity] : kinds) {
    config.energy.dram = name;
    CHECK(Areas(config).of(AreaBlock::dram).value == 10 * table[quantity].value);
  }
  config.energy.dram = "ddr3";
  CHECK_THROWS_AS(Areas(config), std::invalid_argument);
  config.energy.dram = "ddr4";
  config.pcie.width = 4;
  const Quantity lanes[] = {Quantity::area_pcie_gen3, Quantity::area_pcie_gen3, Quantity::area_pcie_gen3,
                            Quantity::area_pcie_gen4, Quantity::area_pcie_gen5, Quantity::area_pcie_gen5};
  for (unsigned gen = 1; gen <= 6; ++gen) {
    config.pcie.gen = gen;
    CHECK(Areas(config).of(AreaBlock::pcie).value == 4 * table[lanes[gen - 1]].value);
  }
}

TEST_CASE("another process scales logic and memory by their own factors, interfaces not") {
  config::Chip config = chip();
  config.cp.tcm_kib = 16;
  const Areas n7(config);
  config.energy.table = "n16";
  const Areas n16(config);
  CHECK(n16.of(AreaBlock::vpu).value == exactly(3.33 * n7.of(AreaBlock::vpu).value));
  CHECK(n16.of(AreaBlock::cp).value == exactly(1e-6 * (3.33 * kPlaced * kCore + 2.59 * 16 * kSmallKib)));
  CHECK(n16.of(AreaBlock::dram) == n7.of(AreaBlock::dram));
  CHECK(n16.of(AreaBlock::pcie) == n7.of(AreaBlock::pcie));
}

// docs/validation.md has this table. Two dies gave the table of areas three of its figures; the others did not.
TEST_CASE("estimates of published dies are as far off as the documents say") {
  const Published dies[] = {
      {"TPU v1", "n28", 4, {"INT8"}, 2048, 256, 24, "ddr4", 34, 331, -0.05, 0.05},
      {"TPU v4i", "n7", 4, {"BF16", "INT8"}, 256, 2048, 144, "hbm2", 614, 400, -0.05, 0.05},
      {"TPU v2", "n16", 2, {"BF16"}, 256, 4096, 32, "hbm2", 700, 625, -0.25, -0.15},
      {"TPU v3", "n16", 4, {"BF16"}, 256, 4096, 32, "hbm2", 900, 700, -0.05, 0.05},
      {"TPU v4", "n7", 8, {"BF16", "INT8"}, 256, 4096, 160, "hbm2", 1200, 600, -0.05, 0.05},
  };
  for (const Published &die : dies) {
    const Areas areas(model_of(die));
    const double error = areas.die().value / die.die_mm2 - 1;
    INFO(die.name << ": " << areas.die().value << " mm2, published " << die.die_mm2 << ", error " << error);
    CHECK(error > die.error_least);
    CHECK(error < die.error_most);
    CHECK(areas.die().least < die.die_mm2);
    CHECK(areas.die().most > die.die_mm2);
  }
}

// At full rate with its DRAM's bandwidth used up, against the power that the makers give.
TEST_CASE("power at full rate of published chips is as far off as the documents say") {
  const Published v1{"TPU v1", "n28", 4, {"INT8"}, 2048, 256, 24, "ddr4", 34, 331, 0, 0};
  const Published v4i{"TPU v4i", "n7", 4, {"BF16", "INT8"}, 256, 2048, 144, "hbm2", 614, 400, 0, 0};
  const auto watts = [](const Published &die, double mhz, unsigned dtype) {
    config::Chip chip = model_of(die);
    chip.chip.clock_mhz = mhz;
    const Prices prices(chip);
    return 1e-3 * (prices.full_rate(dtype) + prices.dram_byte() * die.gbps).value;
  };
  constexpr unsigned kBf16Type = 2, kInt8Type = 5;
  const double busy = watts(v1, 700, kInt8Type), loaded = watts(v4i, 1050, kBf16Type);
  INFO("TPU v1 " << busy << " W, TPU v4i " << loaded << " W");
  CHECK(std::abs(busy / 40 - 1.30) < 0.02);
  CHECK(std::abs(loaded / 175 - 0.74) < 0.02);
}

TEST_CASE("power at full rate is the chip's at rest and a cycle of every element, by hand") {
  config::Chip config = chip();
  config.chip.clock_mhz = 500;
  config.dmmu.tiles = 3;
  config.dmmu.tile = {16, 8, 1024, 2, 1};  // accumulators as 8 KiB memories
  config.spm = {8, 1, 64, 4};              // the scratchpad too
  const Prices prices(config);
  const double rest = prices.leakage().value, accumulators = 3 * 8 * 2 * 7.5 / 2;
  const double fp16 = 3 * 16 * 8 * (0.34 + 0.38) + accumulators + 3 * 16 * 2 * 7.5 / 8;
  const double int8 = 2 * 3 * 16 * 8 * (0.07 + 0.03) + accumulators + 2 * 3 * 16 * 7.5 / 8;
  CHECK(prices.full_rate(1).value == exactly(rest + 0.5 * fp16));
  CHECK(prices.full_rate(5).value == exactly(rest + 0.5 * int8));
  CHECK(prices.full_rate(5).least < prices.full_rate(5).value);
  CHECK_THROWS(prices.full_rate(6));
}
