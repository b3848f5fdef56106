// Energy tables: what ships, what is derived, and one negative for every kind of mistake in every field.
#include "hw/config/energy_table.hpp"

#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "hw/config/config.hpp"

using namespace cx::config;
namespace fs = std::filesystem;

namespace {

const std::string kHead = "node: test\nsources: {S: a source}\n";
const std::string kDerived = "base: n7\n";

/// A complete table in which `key` is given by `entry` instead.
std::string table_with(const std::string &key, const std::string &entry) {
  std::string text = kHead + "values:\n";
  for (const QuantityInfo &info : kQuantities) {
    if (key == info.name && entry.empty()) continue;
    text +=
        std::string("  ") + info.name + ": " + (key == info.name ? entry : "{value: 1, source: S, grade: A}") + "\n";
  }
  return text;
}

int line_of(const std::string &text, const std::string &what) {
  const size_t at = text.find(what);
  return at == std::string::npos
             ? 0
             : 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
}

ConfigError error_of(const std::function<void()> &action) {
  try {
    action();
  } catch (const ConfigError &error) {
    return error;
  }
  FAIL("no error");
  throw std::logic_error("unreachable");
}

void refused(const std::string &text, const std::string &key, const std::string &message, int line) {
  INFO(text);
  const ConfigError error = error_of([&] { energy_table_of(text, "table.yaml"); });
  INFO(error.what());
  CHECK(error.file() == "table.yaml");
  CHECK(error.key() == key);
  CHECK(error.line() == line);
  CHECK(std::string(error.what()).find(message) != std::string::npos);
}

class TableFile {
 public:
  TableFile(const std::string &name, const std::string &text)
      : path_(fs::temp_directory_path() / ("cx_energy_" + std::to_string(getpid()) + "_" + name)) {
    std::ofstream(path_) << text;
  }
  ~TableFile() { fs::remove(path_); }
  std::string path() const { return path_.string(); }
  std::string name() const { return path_.filename().string(); }

 private:
  fs::path path_;
};

Chip chip_of(const std::string &keys) { return resolve(Parsed::from_text("name: test\n" + keys, "chip.yaml")); }

}  // namespace

TEST_CASE("the tables that ship are complete, graded and sourced") {
  for (const ShippedTable &shipped : kShippedTables) {
    INFO(shipped.path);
    const EnergyTable table = load_energy_table(shipped.name);
    CHECK(table.node == shipped.name);
    for (size_t i = 0; i < kQuantities.size(); ++i) {
      INFO(kQuantities[i].name);
      const EnergyValue &value = table.values[i];
      CHECK(value.value > 0);
      CHECK(value.least <= value.value);
      CHECK(value.value <= value.most);
      CHECK(!value.source.empty());
      CHECK((value.grade == 'C') <= !value.formula.empty());
    }
  }
}

TEST_CASE("the 7 nm table has the published figures") {
  const EnergyTable n7 = load_energy_table("n7");
  const auto published = [&](Quantity quantity, double value) {
    INFO(kQuantities[static_cast<size_t>(quantity)].name);
    CHECK(n7[quantity].value == value);
    CHECK(n7[quantity].grade == 'A');
  };
  published(Quantity::multiply_fp32, 1.31);
  published(Quantity::multiply_fp16, 0.34);
  published(Quantity::multiply_bf16, 0.21);
  published(Quantity::multiply_int8, 0.07);
  published(Quantity::sum_float, 0.38);
  published(Quantity::sum_integer, 0.03);
  published(Quantity::sram_8kib, 7.5);
  published(Quantity::sram_32kib, 8.5);
  published(Quantity::sram_1mib, 14);
  published(Quantity::dram_ddr4, 20.3);
  published(Quantity::dram_hbm2, 3.97);
}

TEST_CASE("derived figures are what their formulas say") {
  const EnergyTable n7 = load_energy_table("n7");
  const auto derived = [&](Quantity quantity, double value) {
    INFO(kQuantities[static_cast<size_t>(quantity)].name);
    CHECK(std::abs(n7[quantity].value / value - 1) < 0.03);
    CHECK(n7[quantity].grade == 'C');
  };
  const double int8_add = 0.007, int32_add = 0.03, fp32_add = 0.38, fp32_multiply = 1.31, int8_multiply = 0.07;
  derived(Quantity::multiply_fp8_e4m3, int8_multiply * 16 / 64 + int8_add);
  derived(Quantity::multiply_fp8_e5m2, int8_multiply * 9 / 64 + int8_add);
  derived(Quantity::sca_decode, 4 * int32_add);
  derived(Quantity::sca_select, int32_add / 160 * 2.5 / 2);
  derived(Quantity::drain_element, fp32_multiply + fp32_add);
  derived(Quantity::vpu_simple, (fp32_multiply + fp32_add) / 2);
  derived(Quantity::vpu_special, 8 * (fp32_multiply + fp32_add));
  derived(Quantity::dma_byte, 2 * 7.5 / 8);
  const double fetch = (8.5 + (14 - 8.5) * 3 / 5) / 2;
  derived(Quantity::cp_instruction, fetch * 1.3 + int32_add);
  derived(Quantity::dram_ddr5, 0.75 * 20.3);
  derived(Quantity::idle_multiplier, 54e3 / 2 / 110592);
  derived(Quantity::idle_kib, 54e3 / 2 / (40 * 1024 + 108 * (192 + 256)));
}

TEST_CASE("a derived table is its base times a factor, but for what is off the chip") {
  const EnergyTable n7 = load_energy_table("n7");
  const struct {
    const char *name;
    struct {
      double value, least, most;
    } factors[3];  // energy, logic, sram
  } nodes[] = {{"n28", {{2.6, 2.1, 2.9}, {6.29, 5.3, 7.5}, {4.7, 4.5, 4.9}}},
               {"n16", {{1.6, 1.4, 1.9}, {3.33, 2.8, 3.6}, {2.59, 2.5, 2.75}}},
               {"n5", {{0.75, 0.65, 0.85}, {0.697, 0.54, 0.75}, {0.778, 0.74, 0.85}}},
               {"n3", {{0.55, 0.42, 0.7}, {0.436, 0.34, 0.5}, {0.778, 0.72, 0.85}}}};
  for (const auto &node : nodes) {
    const EnergyTable table = load_energy_table(node.name);
    for (size_t i = 0; i < kQuantities.size(); ++i) {
      INFO(node.name << " " << kQuantities[i].name);
      const EnergyValue &base = n7.values[i], &value = table.values[i];
      if (std::string(kQuantities[i].name).starts_with("volt.")) continue;  // each process has its own
      if (kQuantities[i].scales == Factor::none) {
        CHECK(value.value == base.value);
        CHECK(value.least == base.least);
        CHECK(value.most == base.most);
        CHECK(value.grade == base.grade);
        continue;
      }
      const auto &by = node.factors[static_cast<size_t>(kQuantities[i].scales) - 1];
      CHECK(value.value == base.value * by.value);
      CHECK(value.least == base.least * by.least);
      CHECK(value.most == base.most * by.most);
      CHECK(value.grade == 'C');
    }
  }
}

TEST_CASE("voltages of each process are in order") {
  const std::pair<const char *, double> nominal[] = {
      {"n28", 0.9}, {"n16", 0.8}, {"n7", 0.75}, {"n5", 0.75}, {"n3", 0.75}};
  for (const auto &[name, volts] : nominal) {
    const EnergyTable table = load_energy_table(name);
    CHECK(table[Quantity::volt_nominal].value == volts);
    CHECK(table[Quantity::volt_least].value == Approx(0.7 * volts).epsilon(0.02));
    CHECK(table[Quantity::volt_most].value > volts);
  }
}

TEST_CASE("areas are what their formulas say") {
  const EnergyTable n7 = load_energy_table("n7");
  const auto derived = [&](Quantity quantity, double value) {
    INFO(kQuantities[static_cast<size_t>(quantity)].name);
    CHECK(std::abs(n7[quantity].value / value - 1) < 0.01);
    CHECK(n7[quantity].grade == 'C');
  };
  const double shrink = 0.059, transistors7 = 96.3, transistors28 = 15.3, die = 331e6, cells = 0.027 / 0.127;
  const double fp32 = 7700 * shrink, fp32_add = 4184 * shrink;
  derived(Quantity::area_multiply_fp32, fp32);
  derived(Quantity::area_multiply_fp16, 1640 * shrink);
  derived(Quantity::area_multiply_bf16, 1640 * 64 / 121.0 * shrink);
  derived(Quantity::area_multiply_fp8, (282 * 16 / 64.0 + 36) * shrink);
  derived(Quantity::area_multiply_int8, 282 * shrink);
  derived(Quantity::area_sum_float, fp32_add);
  derived(Quantity::area_sum_tree, 1360 * shrink);
  derived(Quantity::area_sum_integer, 137 * shrink);
  derived(Quantity::area_mux_bit, 137 / 160.0 * 2.5 * shrink);
  derived(Quantity::area_lane, 2 * (fp32 + fp32_add));
  derived(Quantity::area_core, 132000 * transistors28 / transistors7);
  // Elements of TPU v4i (BF16 and INT8) and of TPU v1 (INT8), by what the dies give them.
  const double v4i = (1640 * 64 / 121.0 + 4184 + 137) * shrink + 0.3 * 80, v1 = (282 + 137) * shrink + 0.3 * 56;
  derived(Quantity::area_placed,
          std::sqrt(0.11 * 400e6 / 65536 / v4i * 0.24 * die / 65536 / v1 * transistors28 / transistors7));
  derived(Quantity::area_sram_16kib, 0.06 * die / 4096 * cells);
  derived(Quantity::area_sram_1mib, 0.29 * die / 24576 * cells);
  const double ddr = 1.45 + 90.4464 / transistors7, hbm = 10.45 + 552.743 / transistors7;
  derived(Quantity::area_ddr4, ddr / 12.8);
  derived(Quantity::area_ddr5, ddr / 19.2);
  derived(Quantity::area_lpddr5, ddr / 25.6);
  derived(Quantity::area_gddr6, 2 * ddr / 64);
  derived(Quantity::area_hbm2, hbm / 307);
  derived(Quantity::area_hbm2e, hbm / 461);
  derived(Quantity::area_hbm3, hbm / 819);
  derived(Quantity::area_pcie_gen3, 0.48 + 3.9625 / transistors7);
  derived(Quantity::area_pcie_gen4, 0.48 + 3.9625 / transistors7);
  derived(Quantity::area_pcie_gen5, 0.64 + 5.3721 / transistors7);
}

TEST_CASE("every quantity: missing, wrong, out of range") {
  for (const QuantityInfo &info : kQuantities) {
    const std::string name = info.name, key = "values." + name;
    refused(table_with(name, ""), key, "is required but not given", 4);
    const auto bad = [&](const std::string &entry, const std::string &at, const std::string &message) {
      const std::string text = table_with(name, entry);
      refused(text, key + at, message, line_of(text, "  " + name + ":"));
    };
    const std::string above = std::to_string(2 * info.max);
    bad("3", "", "expected a mapping with value, source and grade");
    bad("{source: S, grade: A}", ".value", "is required but not given");
    bad("{value: many, source: S, grade: A}", ".value", "expected a number");
    bad("{value: nan, source: S, grade: A}", ".value", "expected a number");
    bad("{value: -1, source: S, grade: A}", ".value", "expected a number (0 to");
    bad("{value: " + above + ", source: S, grade: A}", ".value", "expected a number (0 to");
    bad("{value: [1], source: S, grade: A}", ".value", "expected a number");
  }
}

TEST_CASE("every field of an entry has to be right") {
  const std::string name = "sum.float", key = "values.sum.float";
  const auto bad = [&](const std::string &entry, const std::string &at, const std::string &message) {
    const std::string text = table_with(name, entry);
    refused(text, key + at, message, line_of(text, "  sum.float:"));
  };
  bad("{value: 1, grade: A}", ".source", "is required but not given");
  bad("{value: 1, source: T, grade: A}", ".source", "'T' is not in sources");
  bad("{value: 1, source: [S], grade: A}", ".source", "expected a text");
  bad("{value: 1, source: S}", ".grade", "is required but not given");
  bad("{value: 1, source: S, grade: D}", ".grade", "expected A, B, C, got 'D'");
  bad("{value: 1, source: S, grade: A, range: 2}", ".range", "expected a list of the least and the most");
  bad("{value: 1, source: S, grade: A, range: [1]}", ".range", "expected a list of the least and the most");
  bad("{value: 1, source: S, grade: A, range: [1, x]}", ".range", "expected a number");
  bad("{value: 1, source: S, grade: A, range: [1.1, 2]}", ".range", "expected a range with the value 1 in it");
  bad("{value: 1, source: S, grade: A, range: [0, 0.9]}", ".range", "expected a range with the value 1 in it");
  bad("{value: 1, source: S, grade: C, range: [0, 2]}", ".formula", "is required of grade C");
  bad("{value: 1, source: S, grade: C, formula: f}", ".range", "is required of grade C");
  bad("{value: 1, source: S, grade: A, formula: ''}", ".formula", "expected a text");
  bad("{value: 1, source: S, grade: A, note: [1]}", ".note", "expected a text");
  bad("{value: 1, source: S, grade: A, unit: pJ}", ".unit", "unknown key; expected value, range");
  bad("{value: 1, value: 2, source: S, grade: A}", ".value", "is given twice");
  const EnergyTable table =
      energy_table_of(table_with(name, "{value: 1, source: S, grade: C, range: [0.5, 2], formula: f, note: n}"), "t");
  CHECK(table[Quantity::sum_float].least == 0.5);
  CHECK(table[Quantity::sum_float].most == 2);
  CHECK(table[Quantity::sum_float].source == "a source");
}

TEST_CASE("what is around the entries has to be right") {
  const std::string whole = table_with("", "");
  CHECK(energy_table_of(whole, "t").node == "test");
  refused("[1]", "", "expected a mapping of keys", 1);
  refused("", "", "expected a mapping of keys", 0);
  refused("node: [\n", "", "not valid YAML", 2);
  refused(whole + "---\nnode: x\n", "", "expected one YAML document", line_of(whole + "---", "---"));
  refused(whole + "colour: red\n", "colour", "unknown key; expected node", line_of(whole + "colour", "colour"));
  refused("sources: {S: s}\n", "node", "is required but not given", 1);
  refused("node: []\nsources: {S: s}\n", "node", "expected a text", 1);
  refused("node: a\nnode: b\n", "node", "is given twice", 2);
  refused("node: a\n", "sources", "is required but not given", 1);
  refused("node: a\nsources: s\n", "sources", "expected a mapping of names", 2);
  refused("node: a\nsources: {S: ''}\n", "sources.S", "expected a name and a reference", 2);
  refused("node: a\nsources: {S: s, S: t}\n", "sources.S", "is given twice", 2);
  refused(kHead, "values.multiply.fp32", "is required but not given", 1);
  refused(kHead + "values: 3\n", "values", "expected a mapping of quantities", 3);
  refused(whole + "  sum.flaot: {value: 1, source: S, grade: A}\n", "values.sum.flaot",
          "the nearest known one is 'sum.float'", line_of(whole + "  sum.flaot", "sum.flaot"));
  refused(whole + "  sum.float: {value: 1, source: S, grade: A}\n", "values.sum.float", "is given twice",
          line_of(whole + "@", "@"));
  for (const std::string key : {"factor", "logic_area", "sram_area"}) {
    refused(whole + key + ": {value: 2, source: S, grade: A}\n", key, "without a base", line_of(whole + "@", "@"));
    refused(kHead + kDerived + key + ": 2\n", key, "expected a mapping with value, source and grade", 4);
    refused(kHead + kDerived + key + ": {value: -1, source: S, grade: A}\n", key + ".value", "expected a number", 4);
    refused(kHead + kDerived + key + ": {value: 1001, source: S, grade: A}\n", key + ".value", "expected a number", 4);
  }
}

TEST_CASE("a table takes what it does not say from its base") {
  const EnergyTable n7 = load_energy_table("n7");
  const EnergyTable table =
      energy_table_of(kHead + kDerived + "values:\n  sum.float: {value: 0.5, source: S, grade: B}\n", "t");
  CHECK(table.node == "test");
  CHECK(table[Quantity::sum_float].value == 0.5);
  CHECK(table[Quantity::sum_float].grade == 'B');
  CHECK(table[Quantity::sum_integer].value == n7[Quantity::sum_integer].value);
  CHECK(table[Quantity::multiply_fp16].grade == 'A');

  const std::string factor = kHead + kDerived + "factor: ";
  refused(factor + "2\n", "factor", "expected a mapping", 4);
  refused(factor + "{value: 2, source: S, grade: C}\n", "factor.range", "is required of grade C", 4);
  refused(factor + "{value: 1001, source: S, grade: A}\n", "factor.value", "expected a number (0 to 1000)", 4);
  refused(kHead + "base: n8\n", "base", "expected n16, n28, n3, n5, n7 or the path of a file, got 'n8'", 3);
  refused(kHead + "base: [n7]\n", "base", "expected a text", 3);
}

TEST_CASE("tables in files: bases beside them, and no circles") {
  const TableFile base("base.yaml", kHead + kDerived + "values:\n  sum.float: {value: 0.7, source: S, grade: A}\n");
  const TableFile derived("derived.yaml",
                          kHead + "base: " + base.name() + "\nfactor: {value: 2, source: S, grade: A}\n");
  CHECK(load_energy_table(derived.path())[Quantity::sum_float].value == 1.4);
  const TableFile one("one.yaml", kHead + "base: " + ("cx_energy_" + std::to_string(getpid())) + "_two.yaml\n");
  const TableFile two("two.yaml", kHead + "base: " + one.name() + "\n");
  const auto error = error_of([&] { load_energy_table(one.path()); });
  CHECK(error.key() == "base");
  CHECK(std::string(error.what()).find("tables are each other's base") != std::string::npos);
  CHECK_THROWS_AS(load_energy_table("/nowhere/table.yaml"), EnergyTableMissing);
}

TEST_CASE("a chip names its table") {
  CHECK(chip_of("").energy.table == "n7");
  CHECK(chip_of("energy: {table: n16}\n").energy.table == "n16");
  const auto missing = error_of([] { chip_of("dram: {mib: 64}\nenergy:\n  table: n8\n"); });
  CHECK(missing.file() == "chip.yaml");
  CHECK(missing.line() == 4);
  CHECK(missing.key() == "energy.table");
  CHECK(std::string(missing.what()).find("expected n16, n28, n3, n5, n7 or the path of a file, got 'n8'") !=
        std::string::npos);

  const TableFile file("chip.yaml", kHead + kDerived);
  const Chip chip = resolve(Parsed::from_text("name: test\nenergy: {table: " + file.name() + "}\n",
                                              (fs::temp_directory_path() / "chip.yaml").string()));
  CHECK(chip.energy.table == file.path());
  CHECK(resolve(Parsed::from_text(to_yaml(chip), "shown.yaml")) == chip);

  // What is wrong in the table is reported where it stands.
  const TableFile wrong("wrong.yaml", kHead + "base: n7\nvalues:\n  sum.float: {value: -1, source: S, grade: A}\n");
  const auto error = error_of([&] { chip_of("energy: {table: " + wrong.path() + "}\n"); });
  CHECK(error.file() == wrong.path());
  CHECK(error.line() == 5);
  CHECK(error.key() == "values.sum.float.value");
}
