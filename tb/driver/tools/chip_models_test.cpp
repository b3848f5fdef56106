// Whole models through compiler, driver, firmware and engines, against stored outputs; RTL tiles against model tiles.
#include <catch2/catch.hpp>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tb/common/data.hpp"
#include "tb/driver/tools/cx_process.hpp"

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::Result;
using cx::tb::run_cx;

namespace {

bool present(const fs::path &path) {
  if (fs::exists(path)) return true;
  WARN(path << " is absent: skipped");
  return false;
}

std::string bytes_of(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Runs the command with model tiles and with the given RTL tiles: same bytes, same cycles.
void check_tiles_agree(const std::string &command, const std::string &rtl_tiles) {
  const Folder folder;
  nlohmann::json reports[2];
  const std::string tiles[2] = {"none", rtl_tiles};
  for (int i = 0; i < 2; ++i) {
    const Result result =
        run_cx(command + " --set dmmu.rtl_tiles=" + tiles[i] + " --json --output " + (folder / tiles[i]));
    INFO(result.text);
    REQUIRE(result.status == 0);
    reports[i] = nlohmann::json::parse(result.text);
    reports[i].erase("wall_s");
  }
  CHECK(reports[0] == reports[1]);
  CHECK(reports[0]["cycles"] > 0);
  const std::string expected = bytes_of(fs::path(folder / "none") / "output_0.pb");
  CHECK_FALSE(expected.empty());
  CHECK(bytes_of(fs::path(folder / rtl_tiles) / "output_0.pb") == expected);
}

}  // namespace

TEST_CASE("the recogniser reads the example line on cx3210 in FP16, close to the FP32 reference") {
  const fs::path model = cx::tb::ocr_models() / "ch_PP-OCRv4_rec_infer.onnx";
  if (!present(model)) return;
  const Result result = run_cx("run " + model.string() +
                               " --config cx3210 --precision fp16 --task ocr-line --input x=examples/text_line.png "
                               "--reference examples/text_line_reference --atol 0.02 --json");
  INFO(result.text);
  REQUIRE(result.status == 0);
  const auto json = nlohmann::json::parse(result.text);
  CHECK(json["answer"]["text"] == "Hello from a virtual chip 2026");
  CHECK(json["macs"] > 1'000'000'000);
  for (const char *engine : {"load", "store", "dmmu", "vpu"}) CHECK(json["engines"][engine]["busy_cycles"] > 0);
  CHECK(json["firmware_instructions"] > 0);
}

TEST_CASE("the recogniser in FP32 is within 1e-3 of the reference") {
  const fs::path model = cx::tb::ocr_models() / "ch_PP-OCRv4_rec_infer.onnx";
  if (!present(model)) return;
  const Result result = run_cx("run " + model.string() + " --reference examples/text_line_reference --atol 1e-6");
  INFO(result.text);
  CHECK(result.status == 0);
}

TEST_CASE("the direction classifier on tiny: RTL tiles and model tiles agree in bytes and cycles") {
  const fs::path model = cx::tb::ocr_models() / "ch_ppocr_mobile_v2.0_cls_infer.onnx";
  if (!present(model)) return;
  for (const char *precision : {"fp16", "fp32", "bf16"}) {
    check_tiles_agree("run " + model.string() +
                          " --config tiny --task ocr-direction --input x=examples/text_line.png --precision " +
                          precision,
                      "all");
  }
}

TEST_CASE(
    "the direction classifier over a mesh and a ring: the same bytes, more cycles, links that tell where they went") {
  const fs::path model = cx::tb::ocr_models() / "ch_ppocr_mobile_v2.0_cls_infer.onnx";
  if (!present(model)) return;
  for (const std::string chip : {"tiny", "cx3210"}) {
    const Folder folder;
    std::string first_output;
    uint64_t first_cycles = 0;
    for (const std::string network :
         {"", " --set noc.topology=mesh", " --set noc.topology=ring --set noc.columns=12 --set noc.rows=1"}) {
      const std::string output = folder / ("output" + std::to_string(network.size()));
      const Result result = run_cx("run " + model.string() + " --config " + chip + network +
                                   " --task ocr-direction --input x=examples/text_line.png --json --output " + output);
      INFO(result.text);
      REQUIRE(result.status == 0);
      const auto json = nlohmann::json::parse(result.text);
      const std::string bytes = bytes_of(fs::path(output) / "output_0.pb");
      const auto cycles = json["cycles"].get<uint64_t>();
      if (network.empty()) {
        first_output = bytes;
        first_cycles = cycles;
        CHECK_FALSE(bytes.empty());
        CHECK_FALSE(json.contains("noc"));
        continue;
      }
      CHECK(bytes == first_output);
      CHECK(cycles > first_cycles);
      CHECK(cycles < first_cycles * 3 / 2);
      uint64_t loaded = 0, crowded = 0;
      for (const auto &link : json["noc"]["links_used"]) {
        crowded += link["crowded_cycles"].get<uint64_t>();
        CHECK(link["utilisation"] > 0);
        CHECK(link["utilisation"] <= 1);
        if (link["to"] == "load") loaded += link["bytes"].get<uint64_t>();
      }
      CHECK(loaded >= json["engines"]["load"]["bytes_read"].get<uint64_t>());
      CHECK(loaded <= json["bytes"]["noc"].get<uint64_t>());
      CHECK(json["noc"].contains("beyond_validation") == (crowded > 0));
    }
  }
}

TEST_CASE("the direction classifier in 8-bit precisions answers as the FP32 reference") {
  const fs::path model = cx::tb::ocr_models() / "ch_ppocr_mobile_v2.0_cls_infer.onnx";
  if (!present(model)) return;
  for (const char *precision : {"int8", "fp8_e4m3", "fp8_e5m2"}) {
    for (const char *chip : {"tiny", "cx3210"}) {
      const Result result = run_cx(
          "run " + model.string() + " --config " + chip + " --precision " + precision +
          " --task ocr-direction --reference examples/direction_reference --check both --rtol 0 --atol 0.01 --json");
      INFO(result.text);
      REQUIRE(result.status == 0);
      const auto json = nlohmann::json::parse(result.text);
      CHECK(json["check"]["same_answer"] == true);
      CHECK(json["calibration"]["inputs"] == 1);
      std::cout << "direction, " << precision << " on " << chip << ": largest output error "
                << json["check"]["outputs"][0]["max_absolute"] << ", " << json["cycles"] << " cycles\n";
    }
  }
}

TEST_CASE("the direction classifier in 8-bit precisions: RTL tiles and model tiles agree in bytes and cycles") {
  const fs::path model = cx::tb::ocr_models() / "ch_ppocr_mobile_v2.0_cls_infer.onnx";
  if (!present(model)) return;
  for (const char *precision : {"int8", "fp8_e4m3", "fp8_e5m2"}) {
    check_tiles_agree("run " + model.string() +
                          " --config tiny --task ocr-direction --input x=examples/text_line.png --precision " +
                          precision,
                      "all");
  }
}

TEST_CASE("mnist on tiny: RTL tiles and model tiles agree in bytes and cycles, and with the reference") {
  const fs::path folder = cx::tb::data_dir() / "models/mnist";
  if (!present(folder)) return;
  for (int set = 0; set < 4; ++set) {
    const std::string reference = folder / ("test_data_set_" + std::to_string(set));
    check_tiles_agree("run " + (folder / "mnist.onnx").string() + " --config tiny --reference " + reference, "all");
  }
}

TEST_CASE("mnist in 8-bit precisions reads the digits that the reference reads") {
  const fs::path folder = cx::tb::data_dir() / "models/mnist";
  if (!present(folder)) return;
  for (int set = 0; set < 4; ++set) {
    for (const char *precision : {"int8", "fp8_e4m3", "fp8_e5m2"}) {
      const Result result =
          run_cx("run " + (folder / "mnist.onnx").string() + " --config tiny --task classify --reference " +
                 (folder / ("test_data_set_" + std::to_string(set))).string() +
                 " --check both --rtol 0.05 --atol 2 --precision " + precision);
      INFO(result.text);
      CHECK(result.status == 0);
    }
  }
}

TEST_CASE("the face detector on cx3210: references in FP32, the same faces in FP16") {
  const fs::path folder = cx::tb::data_dir() / "models/ultraface";
  if (!present(folder)) return;
  for (const char *model : {"version-RFB-320.onnx"}) {
    for (const char *set : {"test_data_set_0", "test_data_set_1"}) {
      const std::string command =
          "run " + (folder / model).string() + " --config cx3210 --task faces --reference " + (folder / set).string();
      const Result fp32 = run_cx(command + " --check both");
      INFO(fp32.text);
      CHECK(fp32.status == 0);
      const Result fp16 = run_cx(command + " --precision fp16 --check answer");
      INFO(fp16.text);
      CHECK(fp16.status == 0);
    }
  }
}

TEST_CASE("every reference model: FP32 within 1e-3, FP16 with the same largest element or close values") {
  const fs::path models = cx::tb::data_dir() / "models";
  if (!present(models)) return;
  std::ifstream list("tb/driver/tools/reference_models.txt");
  REQUIRE(list);
  int checked = 0;
  for (std::string line; std::getline(list, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::string model, fp32, fp16;
    int sets = 0;
    REQUIRE(fields >> model >> sets >> fp32 >> fp16);
    if (!present(models / model)) continue;
    for (int set = 0; set < sets; ++set) {
      const fs::path reference = (models / model).parent_path() / ("test_data_set_" + std::to_string(set));
      const std::string command = "run " + (models / model).string() + " --reference " + reference.string();
      const Result exact = run_cx(command + " --rtol 1e-3 --tol-largest " + fp32);
      INFO(exact.text);
      CHECK(exact.status == 0);
      ++checked;
      if (fp16 == "-") continue;
      const Result half =
          run_cx(command + " --precision fp16 " + (fp16 == "top1" ? "--check top1" : "--rtol 0 --tol-largest " + fp16));
      INFO(half.text);
      CHECK(half.status == 0);
    }
  }
  CHECK(checked > 0);
}

TEST_CASE("a photographed page is read line by line, upside down ones included") {
  const fs::path folder = cx::tb::ocr_models();
  if (!present(folder / "ch_PP-OCRv4_det_infer.onnx")) return;
  std::vector<std::string> expected;
  std::ifstream page("examples/page.txt");
  for (std::string line; std::getline(page, line);) expected.push_back(line);
  REQUIRE(expected.size() == 8);
  const Folder out;
  for (const std::string precision : {"fp16", "fp32"}) {
    const Result result = run_cx("ocr examples/page.png --json --models " + folder.string() + " --precision " +
                                 precision + " --output " + (out / "boxes.png"));
    INFO(result.text);
    REQUIRE(result.status == 0);
    const auto json = nlohmann::json::parse(result.text);
    REQUIRE(json["lines"].size() == expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto &line = json["lines"][i];
      CHECK(line["text"] == expected[i]);
      CHECK(line["score"] > 0.9);
      CHECK(line["upside_down"] == (i + 1 == expected.size()));
      CHECK(line["box"].size() == 4);
    }
    REQUIRE(json["stages"].size() == 3);
    for (const auto &stage : json["stages"]) {
      CHECK(stage["latency_us"] > 0);
      CHECK(stage["macs"] > 1'000'000);
    }
    CHECK(json["stages"][0]["runs"] == 1);
    CHECK(json["stages"][2]["runs"] == expected.size());
    const std::string png = bytes_of(out / "boxes.png");
    CHECK(png.rfind("\x89PNG", 0) == 0);
    CHECK(png != bytes_of("examples/page.png"));
  }
}

TEST_CASE("no ONNX backend test that once passed is lost") {
  if (!present(cx::tb::onnx_suites())) return;
  for (const std::string suite : {"node", "simple", "pytorch-operator", "pytorch-converted"}) {
    const Result result = run_cx("conformance " + (cx::tb::onnx_suites() / suite).string() + " --config tiny --json");
    REQUIRE((result.status == 0 || result.status == 1));
    const auto json = nlohmann::json::parse(result.text);
    std::set<std::string> passed;
    for (const auto &entry : json["cases"]) {
      if (entry["result"] == "pass") passed.insert(entry["name"]);
    }
    std::ifstream list("tb/driver/tools/conformance_" + suite + ".txt");
    REQUIRE(list);
    std::size_t expected = 0;
    for (std::string name; std::getline(list, name); ++expected) {
      INFO(suite << "/" << name);
      CHECK(passed.count(name) == 1);
    }
    CHECK(expected > 0);
    if (passed.size() > expected) {
      WARN(passed.size() - expected << " more cases of " << suite << " pass than tb/driver/tools/conformance_" << suite
                                    << ".txt lists");
    }
  }
}
