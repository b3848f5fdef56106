// The chips that ship: exact products on each of them, cx bench claims-basic, and what two published designs took.
// Where the published figures come from, and which are not reproduced: docs/validation.md.
#include <catch2/catch.hpp>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tb/driver/tools/cx_process.hpp"

using cx::tb::Folder;
using cx::tb::json_of;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

bool has_generator() {
  if (std::system("/usr/bin/python3 -c 'import numpy, onnx' 2>/dev/null") == 0) return true;
  WARN("python3-numpy or python3-onnx is absent: skipped");
  return false;
}

/// A run of a generated network of integers, timing only.
json run_network(const std::string &network, const std::string &chip) {
  const Folder folder;
  const std::string file = folder / "network.onnx";
  const std::string make =
      "/usr/bin/python3 " CX_SOURCE_DIR "/examples/generators/networks.py " + network + " " + file + " --int8";
  REQUIRE(std::system(make.c_str()) == 0);
  json report = json_of("run " + file + " --config " + chip + " --precision int8 --seed 1 --timing-only");
  REQUIRE(report.at("timing_only").at("applied") == true);
  return report;
}

/// Within a tenth of the published figure.
void check_published(const std::string &what, double value, double published) {
  INFO(what << ": " << value << ", published " << published << ", error " << 100 * (value / published - 1) << " %");
  CHECK(std::abs(value / published - 1) <= 0.10);
}

}  // namespace

TEST_CASE("every chip multiplies exactly in every format that it has") {
  for (const std::string chip : {"cx3210", "cx-trainer", "x1", "rca2", "tpu-v1", "gemmini"}) {
    const json info = json_of("info --config " + chip);
    for (const std::string format : info.at("formats")) {
      std::string precision = format;
      for (char &c : precision) c = static_cast<char>(std::tolower(c));
      const json report = json_of("bench gemm -m 200 -n 300 -k 150 --config " + chip + " --precision " + precision);
      INFO(chip << " " << format);
      CHECK(report.at("wrong_elements") == 0);
      CHECK(report.at("macs") == 200 * 300 * 150);
    }
  }
}

TEST_CASE("products on more tiles in one direction than a byte counts are exact") {
  for (const char *product : {"-m 24576 -n 32 -k 64 --precision fp16", "-m 64 -n 12288 -k 64 --precision fp8_e4m3"}) {
    INFO(product);
    CHECK(json_of(std::string("bench gemm --config x1 ") + product).at("wrong_elements") == 0);
  }
}

TEST_CASE("claims-basic: measured rates stay below the peak, packed 8-bit formats are faster") {
  const json claims = json_of("bench claims-basic --config tiny --set dmmu.tile.pack=2 -m 256 -n 256 -k 512");
  const json info = json_of("info --config tiny --set dmmu.tile.pack=2");
  REQUIRE(claims.at("formats").size() == 6);
  std::map<std::string, double> tops;
  for (const json &row : claims.at("formats")) {
    INFO(row);
    const json &peak = info.at("peak").at(row.at("format").get<std::string>());
    CHECK(row.at("peak_tops") == peak.at("tops"));
    CHECK(row.at("peak_tops_per_w") == peak.at("tops_per_w"));
    CHECK(row.at("macs") == 256 * 256 * 512);
    CHECK(row.at("tops") < row.at("peak_tops"));
    CHECK(row.at("tops").get<double>() ==
          Approx(2e-6 * row.at("macs").get<double>() / row.at("launch_us").get<double>()));
    const json &rate = row.at("tops_per_w");
    CHECK(rate.at("value").get<double>() ==
          Approx(2e-6 * row.at("macs").get<double>() / row.at("energy_uj").get<double>()));
    CHECK(rate.at("least") < rate.at("value"));
    CHECK(rate.at("value") < rate.at("most"));
    CHECK(row.at("energy_least_uj") < row.at("energy_uj"));
    CHECK(row.at("energy_uj") < row.at("energy_most_uj"));
    tops[row.at("format")] = row.at("tops");
  }
  CHECK(tops.at("FP8_E4M3") > 1.3 * tops.at("FP16"));
  CHECK(tops.at("INT8") > 1.3 * tops.at("BF16"));

  // 8 cycles to load the array, 8 + 8 + 8 - 2 to multiply (hw/dmmu/README.md); the rest are registers and scratchpad.
  const json &tile = claims.at("tile");
  CHECK(tile.at("array_cycles") == 8 + 22);
  CHECK(tile.at("cycles") > tile.at("array_cycles"));
  CHECK(tile.at("ns").get<double>() == Approx(2.0 * tile.at("cycles").get<double>()));
  // It is the product of one tile, whatever the number of tiles.
  CHECK(json_of("bench claims-basic --config tiny --set dmmu.tiles=1 -m 64 -n 64 -k 64").at("tile").at("cycles") ==
        tile.at("cycles"));

  const json integers = json_of("bench claims-basic --config tiny --set dmmu.formats=[INT8] -m 64 -n 64 -k 64");
  CHECK(integers.at("tile").is_null());
  CHECK(integers.at("formats").size() == 1);
  CHECK(run_cx("bench claims-basic --config tiny -m 0").status == 2);
  CHECK(run_cx("bench claims-basic --config none-such").status == 2);
}

TEST_CASE("TPU v1: MLP0 of the paper") {
  if (!has_generator()) return;
  const json report = run_network("mlp", "tpu-v1");
  // 5 layers of 2048 x 2048, batch 200.
  REQUIRE(report.at("macs") == 5ULL * 200 * 2048 * 2048);
  const double launch_us = report.at("launch_us"), macs = report.at("macs");
  check_published("TOPS", 2e-6 * macs / launch_us, 12.3);
  check_published("useful MACs, % of peak", 100 * report.at("mac_utilisation").get<double>(), 12.5);
  // A row of activations a cycle for each of the 8 x 8 tiles of a layer's weights.
  check_published("array active, % of cycles", 100 * 5 * 64 * 200 / report.at("launch_cycles").get<double>(), 12.7);
}

TEST_CASE("columns are cut into whole blocks of a large array") {
  // 6144 columns are three times what 64 tiles hold side by side, or twice 3072, of which half a block would idle.
  const json claims = json_of("bench claims-basic --config x1 -m 6144 -n 6144 -k 6144");
  CHECK(claims.at("formats").at(0).at("format") == "FP16");
  CHECK(claims.at("formats").at(0).at("of_peak").get<double>() > 0.8);
}

TEST_CASE("Gemmini: ResNet-50") {
  if (!has_generator()) return;
  const json report = run_network("resnet50", "gemmini");
  check_published("frames a second", 1e6 / report.at("latency_us").get<double>(), 22.8);
}
