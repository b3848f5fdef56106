// Chip configuration: what is accepted, and one negative for every kind of mistake and every constraint of every key.
#include "hw/config/config.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "hw/config/gen/schema.hpp"

using namespace cx::config;
namespace fs = std::filesystem;

namespace {

const std::string kName = "name: test\n";

Chip chip_of(const std::string &text) { return resolve(Parsed::from_text(text, "chip.yaml")); }

ConfigError error_of(const std::function<void()> &action) {
  try {
    action();
  } catch (const ConfigError &error) {
    return error;
  }
  FAIL("no error");
  throw std::logic_error("unreachable");
}

ConfigError error_in(const std::string &text) {
  return error_of([&] { chip_of(text); });
}

ConfigError error_of_set(const std::string &set) {
  return error_of([&] {
    Parsed parsed = Parsed::from_text(kName, "chip.yaml");
    parsed.set(set);
    resolve(parsed);
  });
}

bool says(const ConfigError &error, const std::string &text) {
  if (std::string(error.what()).find(text) != std::string::npos) return true;
  UNSCOPED_INFO("message: " << error.what());
  return false;
}

// Files in a folder that goes away.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "cx_config_XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string file(const std::string &name, const std::string &text) {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return (path_ / name).string();
  }

 private:
  fs::path path_;
};

// Keys that have a meaning with dram.preset only.
bool needs_part(const std::string &key) {
  static const std::set<std::string> plain = {"dram.mib",        "dram.channels",         "dram.bandwidth_gbps",
                                              "dram.latency_ns", "dram.interleave_bytes", "dram.preset"};
  return key.starts_with("dram.") && !plain.contains(key);
}

std::string text_of(double value) {
  std::string text = std::to_string(value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

TEST_CASE("defaults are the schema's and pass every check") {
  const Chip chip = chip_of(kName);
  Chip expected;
  expected.name = "test";
  CHECK(chip == expected);
  visit(chip, [](unsigned index, const auto &) { CHECK(index < kSchema.size()); });
}

TEST_CASE("shipped chips load, and what is shown loads again to the same chip") {
  for (const auto &entry : fs::directory_iterator("configs/chips")) {
    INFO(entry.path());
    const Chip chip = load(entry.path().string());
    CHECK(chip.name == entry.path().stem().string());
    CHECK(chip_of(to_yaml(chip)) == chip);
    const Parsed json = Parsed::from_text("{" + to_json(chip).substr(to_json(chip).find(",") + 1), "chip.json");
    CHECK(resolve(json) == chip);
  }
}

TEST_CASE("every value of every key that is out of range is refused at its place") {
  for (const KeyInfo &info : kSchema) {
    const std::string key = info.key;
    const auto refused = [&](const std::string &value) {
      INFO(key << ": " << value);
      const auto error =
          error_in((key == "name" ? "# another\n" : kName) + "# a comment\n" + key + ": " + value + "\n");
      CHECK(error.key() == key);
      CHECK(error.file() == "chip.yaml");
      CHECK(error.line() == 3);
      CHECK(error.column() >= (value.empty() || value == "~" ? 1 : static_cast<int>(key.size()) + 1));
      CHECK(error_of_set(key + "=" + value).key() == key);
    };
    refused("{a: 1}");
    refused("");
    refused("~");
    refused("[[1]]");
    switch (info.type) {
      case KeyType::int_:
        refused("1.5");
        refused(text_of(info.max + 1));
        if (info.min > 0) refused(text_of(info.min - 1));
        if (info.power_of_two) refused(text_of(info.min == 1 ? 3 : info.min + 1));
        refused("-1");
        refused("99999999999999999999999");
        refused("12x");
        refused("many");
        refused("[1, 2]");
        break;
      case KeyType::float_:
        refused(text_of(info.max * 2 + 1));
        refused("-1");
        if (info.min > 0) refused(text_of(info.min / 2));
        refused("nan");
        refused("inf");
        refused("1.5x");
        refused("fast");
        refused("[1, 2]");
        break;
      case KeyType::bool_:
        refused("yes");
        refused("1");
        refused("[true]");
        break;
      case KeyType::string_:
        refused("''");
        refused("[a]");
        break;
      case KeyType::enum_:
        refused("nonsense");
        refused("[" + std::string(info.allowed[0]) + "]");
        for (const KnownValue &known : info.known) {
          refused(known.value);
          CHECK(says(error_in(kName + key + ": " + known.value), "is not modelled"));
        }
        break;
      case KeyType::enum_list_:
        refused(info.allowed[0]);
        refused("[]");
        refused("[" + std::string(info.allowed[0]) + ", nonsense]");
        refused("[" + std::string(info.allowed[0]) + ", " + info.allowed[0] + "]");
        break;
      case KeyType::tile_set_:
        refused("some");
        refused("3");
        refused("[1, x]");
        refused("[1, -1]");
        refused("[1, 1]");
        refused("[99999]");
        break;
      case KeyType::fault_plan_:
        refused("some");
        refused("[nothing]");
        refused("[iommu@engine=load]");
        refused("[{engine: load}]");
        refused("[{kind: iommu, count: 0}]");
        refused("[{kind: iommu, at_us: [1]}]");
        refused("[{kind: iommu, at_us: '1,count=2'}]");
        refused("[{kind: ecc_corrected, address: 0x1fffffffff}]");
        break;
      case KeyType::placement_:
        refused("some");
        refused("[load]");
        refused("[load@3]");
        refused("['@1:1']");
        refused("[3:load@1]");
        break;
      case KeyType::points_:
        refused("fast");
        refused("500@0.7");
        refused("[500]");
        refused("[0@0.7]");
        refused("[10001@0.7]");
        refused("['-500@0.7']");
        refused("[500@]");
        refused("[500@low]");
        refused("[500@0.7x]");
        refused("[500@-0.7]");
        refused("[{mhz: 500}]");
        refused("[{volts: 0.7}]");
        refused("[{mhz: 500, volts: [0.7]}]");
        refused("[{mhz: 500, mhz: 500, volts: 0.7}]");
        refused("[{mhz: 500, volts: 0.7, amps: 1}]");
        refused("[600@0.7, 500@0.75]");
        refused("[500@0.7, 500@0.75]");
        refused("[500@0.75, 600@0.7]");
        refused("[500@0.1]");
        refused("[500@2]");
        refused("[1@0.7, 2@0.7, 3@0.7, 4@0.7, 5@0.7, 6@0.7, 7@0.7, 8@0.7, 9@0.7]");
        break;
    }
  }
}

TEST_CASE("the limits themselves are accepted") {
  for (const KeyInfo &info : kSchema) {
    if (info.type != KeyType::int_ && info.type != KeyType::float_) continue;
    for (const double value : {info.min, info.max}) {
      INFO(info.key << " " << value);
      try {
        chip_of(kName + info.key + ": " + text_of(value) + "\n");
      } catch (const ConfigError &error) {
        // Only a relation with another key's default may object.
        CHECK((says(error, "do not divide") || says(error, "does not hold") || says(error, "cannot be sparse tiles") ||
               says(error, "needs dram.preset") || says(error, "there is no operating point")));
      }
    }
  }
}

TEST_CASE("numbers may be hexadecimal, floats have exponents") {
  CHECK(chip_of(kName + "pcie.vendor_id: 0xC5A2").pcie.vendor_id == 0xc5a2);
  CHECK(chip_of(kName + "dram: {bandwidth_gbps: 1.5e2}").dram.bandwidth_gbps == 150);
}

TEST_CASE("a key that is not known is named with the nearest known one") {
  const auto error = error_in(kName + "dmmu:\n  tile:\n    row: 8\n");
  CHECK(error.line() == 4);
  CHECK(error.column() == 5);
  CHECK(says(error, "chip.yaml:4:5: dmmu.tile.row: unknown key; the nearest known one is 'dmmu.tile.rows'"));
  CHECK(nearest_key("dmmu.tilles") == "dmmu.tiles");
  CHECK(nearest_key("dmmu.rows") == "dmmu.tile.rows");
  CHECK(nearest_key("lanes") == "vpu.lanes");
  CHECK(nearest_key("drum.channels") == "dram.channels");
  CHECK(nearest_key("xyzzy_completely_else").empty());
  CHECK(says(error_of_set("vpu.lane=3"), "'vpu.lanes'"));
}

TEST_CASE("structure") {
  CHECK(says(error_in("vpu: {lanes: 8}"), "name: is required"));
  CHECK(says(error_in(""), "name: is required"));
  CHECK(says(error_in("- a\n- b\n"), "expected a mapping"));
  CHECK(says(error_in(kName + "---\nname: other\n"), "one YAML document"));
  CHECK(says(error_in(" ,"), "one YAML document"));  // of which the parser takes nothing
  const auto twice = error_in(kName + "vpu:\n  lanes: 8\nvpu.lanes: 9\n");
  CHECK(says(twice, "given twice"));
  CHECK(twice.line() == 4);
  CHECK(says(error_in(kName + "name: again\n"), "given twice"));
  CHECK(says(error_in(kName + "vpu: 8\n"), "is a section"));
  CHECK(says(error_in(kName + "vpu: [8]\n"), "is a section"));
  CHECK(says(error_in(kName + "? [a, b]\n: 1\n"), "key name"));
  const auto syntax = error_in(kName + "vpu: {lanes: 8\nmore: }\n");
  CHECK(says(syntax, "not valid YAML"));
  CHECK(syntax.line() >= 2);
}

TEST_CASE("overrides apply in order, after the file") {
  Parsed parsed = Parsed::from_text(kName + "dmmu.tiles: 4\n", "chip.yaml");
  parsed.set("dmmu.tiles=8");
  parsed.set("dmmu.tiles=6");
  parsed.set("dmmu.rtl_tiles=[5, 0]");
  parsed.set("dmmu.formats=[INT8, FP16]");
  parsed.set("name=a=b");
  const Chip chip = resolve(parsed);
  CHECK(chip.dmmu.tiles == 6);
  CHECK(chip.dmmu.rtl_tiles.tiles == std::vector<uint32_t>{0, 5});
  CHECK(chip.dmmu.rtl_tiles.contains(5));
  CHECK(!chip.dmmu.rtl_tiles.contains(1));
  CHECK(chip.name == "a=b");
  CHECK(says(error_of_set("dmmu.tiles"), "expected KEY=VALUE"));
  CHECK(says(error_of_set("=4"), "expected KEY=VALUE"));
  CHECK(says(error_of_set("dmmu.tile=4"), "is a section"));
  CHECK(says(error_of_set("dmmu.tiles=[1"), "not valid YAML"));
  CHECK(says(error_of_set("dmmu.tiles=0"), "--set dmmu.tiles=0: dmmu.tiles: expected an integer (1 to 1024)"));
}

TEST_CASE("included files come first, relative to the file that includes them") {
  Folder folder;
  folder.file("base/common.yaml", "vpu: {lanes: 16}\ndmmu: {tiles: 4}\n");
  folder.file("base/big.yaml", "include: common.yaml\ndmmu: {tiles: 8}\n");
  folder.file("base/fast.yaml", "chip: {clock_mhz: 1500}\n");
  const auto top = folder.file("chip.yaml", "name: x\nspm.kib: 1024\ninclude: [base/big.yaml, base/fast.yaml]\n");
  const Chip chip = load(top, std::vector<std::string>{"vpu.lanes=32"});
  CHECK(chip.vpu.lanes == 32);
  CHECK(chip.dmmu.tiles == 8);
  CHECK(chip.chip.clock_mhz == 1500);
  CHECK(chip.spm.kib == 1024);

  folder.file("base/common.yaml", "vpu: {lanes: none}\n");
  const auto inside = error_of([&] { load(top); });
  CHECK(inside.file().find("base/common.yaml") != std::string::npos);
  CHECK(inside.line() == 1);

  folder.file("base/common.yaml", "include: ../chip.yaml\n");
  CHECK(says(error_of([&] { load(top); }), "files include each other"));
  folder.file("base/common.yaml", "include: common.yaml\n");
  CHECK(says(error_of([&] { load(top); }), "files include each other"));
  folder.file("base/common.yaml", "include: gone.yaml\n");
  const auto gone = error_of([&] { load(top); });
  CHECK(says(gone, "cannot read"));
  CHECK(gone.line() == 1);
  folder.file("base/common.yaml", "include: {a: b}\n");
  CHECK(says(error_of([&] { load(top); }), "expected a path"));
  CHECK(says(error_of([&] { load("/nowhere/chip.yaml"); }), "cannot read"));
  CHECK(says(error_of([&] { load("/tmp"); }), "cannot read"));
}

TEST_CASE("relations between keys") {
  const auto tile = error_in(kName + "dmmu:\n  tiles: 4\n  rtl_tiles: [1, 4]\n");
  CHECK(says(tile, "tile 4 does not exist; dmmu.tiles is 4"));
  CHECK(tile.line() == 4);
  CHECK(says(error_in(kName + "spm: {kib: 16, banks: 3}\n"), "do not divide into 3 banks"));
  CHECK(says(error_in(kName + "spm.kib: 16\ndmmu.tile: {rows: 128, cols: 128}\n"), "does not hold"));
  CHECK(says(error_in(kName + "dram: {mib: 100, channels: 3}\n"), "do not divide into 3 channels"));
}

TEST_CASE("a network of routers has to be possible; beside a crossbar its keys have no effect") {
  const auto chip = chip_of(kName + "noc: {topology: mesh, columns: 3, rows: 2, placement: [load@2:1, dram3@0:0]}\n");
  CHECK(chip.noc.placement.items == std::vector<std::string>{"load@2:1", "dram3@0:0"});
  CHECK(chip_of(to_yaml(chip)) == chip);
  CHECK(chip_of(kName + "noc: {topology: ring, columns: 3, rows: 1}\n").noc.columns == 3);
  chip_of(kName + "noc: {columns: 1, placement: [load@9:9]}\n");

  const auto refused = [](const std::string &keys, const std::string &key, const std::string &text) {
    INFO(keys);
    const auto error = error_in(kName + "noc:\n  " + keys + "\n");
    CHECK(error.file() == "chip.yaml");
    CHECK(error.line() >= 3);
    CHECK(error.key() == key);
    CHECK(says(error, text));
  };
  refused("topology: ring", "noc.topology", "a ring has one row; noc.rows is 4");
  refused("topology: ring\n  rows: 2", "noc.rows", "a ring has one row; noc.rows is 2");
  refused("topology: ring\n  rows: 1\n  columns: 2", "noc.columns", "a ring has 3 routers or more");
  refused("topology: ring\n  rows: 1\n  vcs: 1", "noc.vcs", "2 virtual channels or more");
  refused("topology: mesh\n  placement: [load@4:0]", "noc.placement", "no such router");
  refused("topology: mesh\n  placement: [lode@1:0]", "noc.placement", "no such block");
  refused("topology: mesh\n  placement: [dram4@1:0]", "noc.placement", "dram0 to dram3");
  refused("topology: mesh\n  placement: [load@1:0, load@1:1]", "noc.placement", "placed twice");
  refused("topology: mesh\n  placement: [load@a:0]", "noc.placement", "expected BLOCK@COLUMN:ROW");
}

TEST_CASE("the architecture hash changes with program keys and with nothing else") {
  for (const KeyInfo &info : kSchema) {
    std::string text = kName, other;
    // What these relate to.
    if (needs_part(info.key)) text += "dram.preset: ddr4_3200\n";
    if (std::string(info.key) == "array.shared") text += "sca.tiles: 8\n";
    if (std::string(info.key) == "array.sca_tiles") text += "dmmu.tiles: 64\nsca.tiles: 64\narray.shared: true\n";
    if (std::string(info.key) == "noc.topology") text += "noc.rows: 1\n";
    if (std::string(info.key) == "power.point") {
      text += "power.points: [1@0.7, 2@0.7, 3@0.7, 4@0.7, 5@0.7, 6@0.7, 7@0.7, 8@0.7]\n";
    }
    const Chip base = chip_of(text);
    const uint64_t hash = arch_hash(base);
    switch (info.type) {
      case KeyType::int_:
        other = text_of(info.power_of_two                        ? std::min(info.min * 8, info.max)
                        : info.min + 29 <= info.max              ? info.min + 29
                        : info.default_text == text_of(info.max) ? info.min
                                                                 : info.max);
        break;
      case KeyType::float_:
        other = text_of(info.min + 1.5);
        break;
      case KeyType::bool_:
        other = std::string(info.default_text) == "true" ? "false" : "true";
        break;
      case KeyType::string_:
        other = std::string(info.key) == "energy.table" ? "n16" : "other";
        break;
      case KeyType::enum_list_:
        other = "[INT8]";
        break;
      case KeyType::tile_set_:
        other = "all";
        break;
      case KeyType::fault_plan_:
        other = "[iommu]";
        break;
      case KeyType::placement_:
        other = "[load@1:1]";
        break;
      case KeyType::points_:
        other = "[500@0.7]";
        break;
      case KeyType::enum_:
        for (const auto &value : info.allowed) {
          if (std::string(value) != info.default_text) other = value;
        }
        break;
    }
    // A value that fits the others of the part.
    static const std::map<std::string, std::string> fitting = {{"dram.mapping", "ro ra ba co ch bg"},
                                                               {"dram.hash", "none"},
                                                               {"dram.geometry.pseudo_channels", "1"},
                                                               {"dram.geometry.ranks", "1"},
                                                               {"dram.geometry.bank_groups", "4"},
                                                               {"dram.geometry.banks", "4"},
                                                               {"dram.geometry.row_bytes", "8192"},
                                                               {"dram.geometry.bus_bits", "64"},
                                                               {"dram.geometry.burst_length", "8"},
                                                               {"dram.geometry.refresh_groups", "2"},
                                                               {"dram.refresh", "none"},
                                                               {"dram.timing.rfc_pb", "300"},
                                                               {"dram.timing.refi_pb", "1000"},
                                                               {"dram.timing.rrefd", "5"},
                                                               {"dram.timing.burst", "4"},
                                                               {"dram.timing.rc", "80"},
                                                               {"dram.timing.ras", "53"},
                                                               {"dram.timing.rfc", "600"},
                                                               {"dram.timing.refi", "13000"},
                                                               {"dram.timing.rp", "21"},
                                                               {"dram.timing.ccd_s", "5"},
                                                               {"dram.timing.ccd_s_wr", "5"},
                                                               {"dram.timing.rrd_s", "5"},
                                                               {"dram.timing.wtr_s", "5"},
                                                               {"dram.write_window", "33"},
                                                               {"dram.write_low", "5"},
                                                               {"dram.write_high", "27"}};
    if (const auto fits = fitting.find(info.key); fits != fitting.end()) other = fits->second;
    Parsed parsed = Parsed::from_text(text, "chip.yaml");
    parsed.set(std::string(info.key) + "=" + other);
    if (std::string(info.key) == "spm.banks") parsed.set("spm.banks=16");
    if (std::string(info.key) == "spm.kib") parsed.set("spm.kib=4096");
    if (std::string(info.key) == "dram.mib") parsed.set("dram.mib=512");
    if (std::string(info.key).ends_with("fc_pb") || std::string(info.key) == "dram.timing.rrefd") {
      parsed.set("dram.timing.refi_pb=1000");
    }
    if (std::string(info.key) == "dram.timing.refi_pb" || std::string(info.key) == "dram.timing.rrefd") {
      parsed.set("dram.timing.rfc_pb=300");
    }
    if (std::string(info.key) == "dram.channels") parsed.set("dram.channels=8");
    INFO(info.key);
    const Chip chip = resolve(parsed);
    CHECK(!(chip == base));
    CHECK((arch_hash(chip) != hash) == info.program);
  }
  CHECK(arch_hash(chip_of(kName + "dmmu.formats: [INT8, FP16]")) ==
        arch_hash(chip_of(kName + "dmmu.formats: [FP16, INT8]")));
}

TEST_CASE("a part of DRAM gives its peak and latency, and its keys are checked together") {
  const std::string part = kName + "dram:\n  channels: 8\n  preset: lpddr5_6400\n";
  const Chip chip = chip_of(part);
  CHECK(chip.dram.bandwidth_gbps == Approx(102.4));
  CHECK(chip.dram.latency_ns == Approx(30 + (15 + 17 + 2) * 1.25));
  CHECK(chip_of(to_yaml(chip)) == chip);
  CHECK(chip_of(part + "  geometry: {burst_length: 8}\n").dram.bandwidth_gbps == Approx(102.4));
  CHECK(chip_of(part + "  geometry: {bus_bits: 32}\n").dram.bandwidth_gbps == Approx(204.8));
  CHECK(chip_of(part + "  timing: {tick_ps: 2500}\n").dram.bandwidth_gbps == Approx(51.2));
  CHECK(arch_hash(chip) == arch_hash(chip_of(kName + "dram.channels: 8\n")));

  const auto refused = [&](const std::string &line, const std::string &key, const std::string &message) {
    INFO(line);
    const auto error = error_in(part + "  " + line + "\n");
    CHECK(error.key() == key);
    CHECK(error.line() == 5);
    CHECK(says(error, message));
  };
  refused("bandwidth_gbps: 100", "dram.bandwidth_gbps", "leave it out");
  refused("latency_ns: 100", "dram.latency_ns", "leave it out");
  refused("mapping: ro ba", "dram.mapping", "'bg' has 0 bits here");
  refused("mapping: ro ra ba xx", "dram.mapping", "'xx' is none of");
  refused("hash: co", "dram.hash", "'co' is none of");
  refused("write_high: 33", "dram.write_high", "1 to dram.write_window");
  refused("write_low: 26", "dram.write_low", "below dram.write_high");
  {
    Parsed parsed = Parsed::from_text(kName + "dram: {channels: 8, bandwidth_gbps: 50, latency_ns: 70}\n", "chip.yaml");
    parsed.set("dram.preset=lpddr5_6400");
    CHECK(resolve(parsed) == chip);
    parsed.set("dram.latency_ns=70");
    CHECK(says(error_of([&] { resolve(parsed); }), "leave it out"));
  }
  const auto relation = [&](const std::string &line, const std::string &key, const std::string &message) {
    INFO(line);
    const auto error = error_in(part + "  " + line + "\n");
    CHECK(error.key() == key);
    CHECK(says(error, message));
  };
  relation("write_window: 20", "dram.write_high", "1 to dram.write_window");
  relation("geometry: {pseudo_channels: 3}", "dram.geometry.pseudo_channels", "1, 2 or 4");
  relation("geometry: {ranks: 3}", "dram.geometry.ranks", "power of two");
  relation("geometry: {bank_groups: 3}", "dram.geometry.bank_groups", "power of two");
  relation("geometry: {banks: 3}", "dram.geometry.banks", "power of two");
  relation("geometry: {row_bytes: 16}", "dram.geometry.row_bytes", "at least a burst");
  relation("geometry: {bus_bits: 24}", "dram.geometry.burst_length", "power of two");
  relation("geometry: {burst_length: 12}", "dram.geometry.burst_length", "power of two");
  relation("timing: {burst: 3}", "dram.timing.ccd_s", "below timing.burst");
  relation("timing: {rp: 18}", "dram.timing.rp_all", "below timing.rp");
  relation("timing: {rp_all: 14}", "dram.timing.rp_all", "below timing.rp");
  relation("timing: {ras: 50}", "dram.timing.rc", "below timing.ras");
  relation("timing: {rc: 33}", "dram.timing.rc", "below timing.ras");
  relation("timing: {ccd_s: 1}", "dram.timing.ccd_s", "below timing.burst");
  relation("timing: {ccd_l: 1}", "dram.timing.ccd_l", "below timing.ccd_s");
  relation("timing: {ccd_s_wr: 1}", "dram.timing.ccd_s_wr", "below timing.burst");
  relation("timing: {ccd_l_wr: 1}", "dram.timing.ccd_l_wr", "below timing.ccd_s_wr");
  relation("timing: {rrd_s: 5}", "dram.timing.rrd_l", "not be below timing.rrd_s");
  relation("timing: {rrd_l: 3}", "dram.timing.rrd_l", "not be below timing.rrd_s");
  relation("timing: {faw: 3}", "dram.timing.faw", "below timing.rrd_s");
  relation("timing: {wtr_s: 13}", "dram.timing.wtr_l", "below timing.wtr_s");
  relation("timing: {wtr_l: 4}", "dram.timing.wtr_l", "below timing.wtr_s");
  relation("timing: {rtw: 1}", "dram.timing.rtw", "below timing.burst");
  relation("timing: {rfc: 3100}", "dram.timing.rfc", "shorter than timing.refi");
  relation("timing: {refi: 200}", "dram.timing.rfc", "shorter than timing.refi");
  relation("timing: {rrefd: 391}", "dram.timing.rrefd", "must not be above timing.refi_pb");
  relation("timing: {rfc_pb: 3100}", "dram.timing.rfc_pb", "shorter than the time until its next");
  relation("timing: {refi_pb: 16}", "dram.timing.rfc_pb", "shorter than the time until its next");
  relation("geometry: {refresh_groups: 3}", "dram.geometry.refresh_groups", "power of two up to");
  relation("geometry: {refresh_groups: 8}", "dram.geometry.refresh_groups", "power of two up to");
  const auto of_ddr4 = [&](const std::string &lines) {
    return error_in(kName + "dram:\n  preset: ddr4_3200\n" + lines);
  };
  CHECK(of_ddr4("  refresh: per_bank\n").key() == "dram.refresh");
  CHECK(says(of_ddr4("  refresh: per_bank\n"), "has no refresh of single banks"));
  CHECK(of_ddr4("  timing: {rfc_pb: 100}\n").key() == "dram.timing.refi_pb");
  CHECK(of_ddr4("  timing: {refi_pb: 1000}\n").key() == "dram.timing.rfc_pb");
  CHECK(error_in(kName + "dram: {preset: lpddr5_6400, channels: 3, mib: 768, interleave_bytes: 1024}\n").key() ==
        "dram.channels");
  for (const KeyInfo &info : kSchema) {
    if (!needs_part(info.key)) continue;
    const std::string value = info.type == KeyType::string_ ? "none"
                              : info.type == KeyType::enum_ ? info.allowed[1]
                                                            : "3";
    const auto error = error_in(kName + info.key + ": " + value + "\n");
    CHECK(error.key() == info.key);
    CHECK(says(error, "it needs dram.preset"));
  }
}

TEST_CASE("a fault plan takes mappings and texts, and shows them as texts") {
  const Chip chip = chip_of(kName +
                            "faults:\n  seed: 4\n  plan:\n    - {kind: engine_hang, engine: vpu, after_launches: 2}\n"
                            "    - kind: thermal_trip\n      at_us: 12.5\n    - link_down@duration_us=3\n");
  const std::vector<std::string> items = {"engine_hang@engine=vpu,after_launches=2", "thermal_trip@at_us=12.5",
                                          "link_down@duration_us=3"};
  CHECK(chip.faults.plan.items == items);
  CHECK(chip.faults.seed == 4);
  CHECK(chip_of(to_yaml(chip)) == chip);
  const auto error = error_in(kName + "faults:\n  plan:\n    - iommu\n    - kind: engine_hang\n      engine: cpu\n");
  CHECK(error.line() == 5);
  CHECK(error.key() == "faults.plan");
  CHECK(says(error, "engine: expected the name of an engine, got 'cpu'"));
}

TEST_CASE("operating points take mappings and texts, and show them as texts") {
  const std::string points = kName +
                             "power:\n  points:\n    - {mhz: 600, volts: 0.65}\n    - {volts: 0.8, mhz: 1200}\n"
                             "    - 1.4e3@0.9\n";
  const Chip chip = chip_of(points + "  point: 2\n");
  CHECK(chip.power.points.items == std::vector<OperatingPoint>{{600, 0.65}, {1200, 0.8}, {1400, 0.9}});
  CHECK(chip_of(to_yaml(chip)) == chip);
  CHECK(arch_hash(chip) == arch_hash(chip_of(kName)));
  CHECK(chip.chip.clock_mhz == 1000);
  CHECK(at_operating_point(chip).chip.clock_mhz == 1200);
  CHECK(at_operating_point(at_operating_point(chip)) == at_operating_point(chip));
  CHECK(at_operating_point(chip_of(points)) == chip_of(points));
  const auto absent = error_in(points + "  point: 4\n");
  CHECK(absent.key() == "power.point");
  CHECK(absent.line() == 7);
  CHECK(says(absent, "there is no operating point 4; power.points has 3"));
  const auto order = error_in(kName + "power:\n  points:\n    - 600@0.7\n    - 500@0.7\n");
  CHECK(order.line() == 5);
  CHECK(says(order, "mhz: expected more than 600 of the point before"));
  CHECK(says(error_in(kName + "power.points: [500@0.7, 600@0.6]"), "volts: expected at least 0.7 of the point before"));
  // What the process stands is the table's affair.
  const auto high = error_in(kName + "power:\n  points:\n    - 600@0.7\n    - 2000@1.2\n");
  CHECK(high.key() == "power.points");
  CHECK(high.line() == 5);
  CHECK(says(high, "volts: expected 0.52 to 1.1 of energy table n7, got 1.2"));
  CHECK(says(error_in(kName + "energy.table: n28\npower.points: [500@0.6]"), "0.63 to 1.05 of energy table n28"));
}

TEST_CASE("temperatures rise from ambient over throttling to the trip, where they are modelled") {
  const std::string model = kName + "thermal:\n  model: true\n";
  CHECK(chip_of(model).thermal.model);
  CHECK(says(error_in(model + "  ambient_c: 95\n"), "thermal.ambient_c: expected more than thermal.ambient_c, 95"));
  CHECK(says(error_in(model + "  throttle_c: 30\n"), "thermal.throttle_c: expected more than thermal.ambient_c, 35"));
  CHECK(says(error_in(model + "  trip_c: 95\n"), "thermal.trip_c: expected more than thermal.throttle_c, 95"));
  CHECK_FALSE(chip_of(kName + "thermal.trip_c: 1").thermal.model);
}

TEST_CASE("formats become a mask of data types") {
  CHECK(formats_mask(chip_of(kName)) == 0x3f);
  CHECK(formats_mask(chip_of(kName + "dmmu.formats: [FP32, INT8]")) == 0x21);
}

TEST_CASE("help") {
  const std::string one = help("dmmu.tile.rows");
  CHECK(one.find("1 to 256") != std::string::npos);
  CHECK(one.find("default: 32") != std::string::npos);
  CHECK(one.find("compiled programs depend on it") != std::string::npos);
  CHECK(one.find("cols") == std::string::npos);
  CHECK(help("dmmu").find("dmmu.tile.cols") != std::string::npos);
  const std::string all = help();
  for (const KeyInfo &info : kSchema) CHECK(all.find(info.key) != std::string::npos);
  CHECK(says(error_of([] { help("dmmu.tyles"); }), "'dmmu.tiles'"));
}

TEST_CASE("a shared array has slots for its sparse tiles") {
  const std::string sparse = kName + "dmmu:\n  tiles: 4\nsca:\n  tiles: 3\n";
  const Chip chip = chip_of(sparse + "array:\n  shared: true\n  sca_tiles: 3\n");
  CHECK(chip.array.shared);
  CHECK(chip.array.sca_tiles == 3);
  CHECK_FALSE(chip_of(sparse).array.shared);
  CHECK(arch_hash(chip) != arch_hash(chip_of(sparse)));
  CHECK(arch_hash(chip) == arch_hash(chip_of(sparse + "array:\n  shared: true\n  switch_cycles: 5\n")));
  CHECK(says(error_in(sparse + "array:\n  shared: true\n  sca_tiles: 4\n"), "4 slots cannot be sparse tiles"));
  CHECK(says(error_in(sparse + "array:\n  sca_tiles: 1\n"), "array.shared is false"));
  CHECK(says(error_in(kName + "dmmu:\n  tiles: 4\nsca:\n  tiles: 5\narray:\n  shared: true\n"), "sca.tiles is 5"));
  CHECK(says(error_in(kName + "sca:\n  tiles: 0\narray:\n  shared: true\n"), "sca.tiles is 0"));
}
