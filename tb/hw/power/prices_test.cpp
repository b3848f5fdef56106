// Prices of a chip's parts, calculated by hand from the 7 nm table.
#include "hw/power/prices.hpp"

#include <catch2/catch.hpp>
#include <cmath>

using namespace cx;
using config::Quantity;
using hw::Price;
using hw::Prices;

namespace {

config::Chip chip() {
  config::Chip chip;
  chip.name = "test";
  return chip;
}

Approx exactly(double value) { return Approx(value).epsilon(1e-12); }

constexpr unsigned kFp32 = 0, kFp16 = 1, kInt8 = 5;

}  // namespace

TEST_CASE("operations cost what the table says") {
  const Prices prices(chip());
  CHECK(prices.product(kFp32) == Price{1.31, 1.31, 1.31});
  CHECK(prices.product(kFp16) == Price{0.34, 0.34, 0.34});
  CHECK(prices.product(kInt8) == Price{0.07, 0.07, 0.07});
  CHECK(prices.of(Quantity::vpu_special) == Price{13.5, 6.8, 27});
  config::Chip other = chip();
  other.energy.table = "n16";
  CHECK(Prices(other).product(kFp16).value == exactly(0.34 * 1.6));
  CHECK_THROWS(prices.product(6));
}

TEST_CASE("memories are priced by their size") {
  const Prices prices(chip());
  CHECK(prices.sram(16).value == 7.5);
  CHECK(prices.sram(8 << 10).value == 7.5);
  CHECK(prices.sram(16 << 10).value == 8.0);
  CHECK(prices.sram(32 << 10).value == 8.5);
  CHECK(prices.sram(256 << 10).value == exactly(8.5 + 5.5 * 3 / 5));
  CHECK(prices.sram(1 << 20).value == 14);
  CHECK(prices.sram(1 << 30).value == 14);
}

TEST_CASE("the parts of a chip, by hand") {
  config::Chip config = chip();
  config.spm = {16384, 16, 1024, 4};  // banks of 1 MiB
  config.dmmu.tile.acc_rows = 4096;   // 32 KiB for each 64 bits
  config.sca.tile.acc_rows = 64;      // 64 * 32 words: 16 KiB for each 64 bits
  config.sca.tile.cols = 32;
  config.sca.tile.depth = 1024;  // 8 KiB
  config.sca.tile.window = 16;
  config.pcie.gen = 4;
  config.energy.hop_mm = 3;
  config.energy.dram = "hbm2";
  const Prices prices(config);
  CHECK(prices.scratchpad_byte().value == exactly(14.0 / 8));
  CHECK(prices.dense_accumulator_word().value == exactly(8.5 / 2));
  CHECK(prices.sparse_accumulator_word().value == exactly(8.0 / 2));
  CHECK(prices.sparse_buffer_bit().value == exactly(7.5 / 64));
  CHECK(prices.sparse_selected_bit().value == exactly(16 * 0.00023));
  CHECK(prices.dram_byte().value == exactly(8 * 3.97));
  CHECK(prices.dram_byte().most == exactly(8 * 7.0));
  CHECK(prices.pcie_byte().value == exactly(8 * 6.5));
  CHECK(prices.noc_byte(2).value == exactly(8 * 2 * 3 * 0.07));
  CHECK(prices.noc_byte(2).least == exactly(8 * 2 * 3 * 0.0575));
}

TEST_CASE("every kind of DRAM and every generation of the link has its price") {
  const config::EnergyTable table = config::load_energy_table("n7");
  config::Chip config = chip();
  const std::pair<const char *, Quantity> kinds[] = {{"ddr4", Quantity::dram_ddr4},     {"ddr5", Quantity::dram_ddr5},
                                                     {"lpddr5", Quantity::dram_lpddr5}, {"gddr6", Quantity::dram_gddr6},
                                                     {"hbm2", Quantity::dram_hbm2},     {"hbm2e", Quantity::dram_hbm2e},
                                                     {"hbm3", Quantity::dram_hbm3}};
  for (const auto &[name, quantity] : kinds) {
    config.energy.dram = name;
    CHECK(Prices(config).dram_byte().value == 8 * table[quantity].value);
  }
  for (unsigned gen = 1; gen <= 5; ++gen) {
    config.pcie.gen = gen;
    const auto quantity = static_cast<Quantity>(static_cast<unsigned>(Quantity::pcie_gen1) + gen - 1);
    CHECK(Prices(config).pcie_byte().value == 8 * table[quantity].value);
  }
  config.pcie.gen = 6;  // has no figure of its own
  CHECK(Prices(config).pcie_byte().value == 8 * table[Quantity::pcie_gen5].value);
}

TEST_CASE("what a chip takes at rest is the sum of its parts") {
  config::Chip config = chip();
  config.dmmu.tiles = 3;
  config.dmmu.tile = {16, 8, 512, 1, 1};
  config.sca.tiles = 0;
  config.vpu.lanes = 10;
  config.spm.kib = 100;
  config.cp.tcm_kib = 64;
  config.dram.bandwidth_gbps = 100;
  config.energy.dram = "ddr4";
  config.pcie.gen = 2;
  config.pcie.width = 8;
  const double accumulators_kib = 3 * 512 * 8 * 4 / 1024.0;
  const double dense = 3 * 16 * 8 * 0.244 + 10 * 0.49 + (100 + 64 + accumulators_kib) * 0.302 + 0.05 * 100 * 8 * 20.3 +
                       0.1 * 2 * 8 * 5 * 0.8 * 6.5;
  CHECK(Prices(config).leakage().value == exactly(dense));
  config.sca.tiles = 2;
  config.sca.tile = {4, 8, 16, 128, 32, 4};
  const double sparse_kib = 2 * (16 * 8 * 4 * 4 + 2 * 128 * 4 * 2) / 1024.0;
  CHECK(Prices(config).leakage().value == exactly(dense + 2 * 4 * 8 * 0.244 + sparse_kib * 0.302));
  // Slots that can be both: multipliers of the larger tile.
  config.array.shared = true;
  CHECK(Prices(config).leakage().value == exactly(dense + sparse_kib * 0.302));
  config.sca.tile.rows = 20;
  const double larger_kib = 2 * (16 * 8 * 20 * 4 + 2 * 128 * 20 * 2) / 1024.0;
  CHECK(Prices(config).leakage().value == exactly(dense + 2 * (20 - 16) * 8 * 0.244 + larger_kib * 0.302));
}

TEST_CASE("at another operating point the core's work goes with the square of the voltage") {
  config::Chip nominal = chip(), slow = chip();
  slow.power.points.items = {{600, 0.6}, {1200, 0.9}};
  slow.power.point = 1;
  const Prices before(nominal), after(slow);
  CHECK(before.volts() == 0.75);
  CHECK(after.volts() == 0.6);
  const double square = 0.8 * 0.8;
  CHECK(after.product(kFp16).value == exactly(square * 0.34));
  CHECK(after.sram(8 << 10).value == exactly(square * 7.5));
  CHECK(after.noc_byte(2).most == exactly(square * before.noc_byte(2).most));
  CHECK(after.of(Quantity::cp_instruction).value == exactly(square * 7.7));
  CHECK(after.of(Quantity::dma_byte).least == exactly(square * before.of(Quantity::dma_byte).least));
  CHECK(after.dram_byte() == before.dram_byte());
  CHECK(after.pcie_byte() == before.pcie_byte());
  CHECK(after.dram_leakage() == before.dram_leakage());

  // Leakage without the link: 0.8 of the voltage, and a current 0.7 (0.4 to 1.5) decades a volt smaller.
  nominal.pcie.width = slow.pcie.width = 0;
  const Price idle = Prices(nominal).die_leakage(), less = Prices(slow).die_leakage();
  CHECK(less.value == exactly(idle.value * 0.8 * std::pow(10, 0.7 * -0.15)));
  CHECK(less.least == exactly(idle.least * 0.8 * std::pow(10, 1.5 * -0.15)));
  CHECK(less.most == exactly(idle.most * 0.8 * std::pow(10, 0.4 * -0.15)));
  slow.power.point = 2;
  const Price more = Prices(slow).die_leakage();
  CHECK(more.value == exactly(idle.value * 1.2 * std::pow(10, 0.7 * 0.15)));
  CHECK(more.least == exactly(idle.least * 1.2 * std::pow(10, 0.4 * 0.15)));
  CHECK(more.most == exactly(idle.most * 1.2 * std::pow(10, 1.5 * 0.15)));
}
