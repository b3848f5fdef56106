// Timing-only runs take the cycles of runs in full, and runs whose cycles depend on data are in full.
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tb/common/data.hpp"
#include "tb/driver/tools/cx_process.hpp"

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::json_of;
using cx::tb::Result;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

/// What must be the same: everything simulated but energy, which does not know of gated zeros.
json timing_of(const json &report) {
  json timing;
  for (const char *key : {"cycles", "launch_cycles", "latency_us", "macs", "engines", "bytes", "packets", "interrupts",
                          "firmware_instructions"}) {
    timing[key] = report.at(key);
  }
  return timing;
}

void check_model(const std::string &command) {
  INFO(command);
  const json full = json_of(command), timing = json_of(command + " --timing-only");
  CHECK_FALSE(full.contains("timing_only"));
  REQUIRE(timing.contains("timing_only"));
  CHECK(timing_of(full) == timing_of(timing));
  if (timing["timing_only"]["applied"] == true) {
    CHECK(timing["timing_only"]["obstacle"] == "");
    CHECK(timing["energy_uj"]["dmmu"] >= full["energy_uj"]["dmmu"]);
  } else {
    CHECK(timing["timing_only"]["obstacle"] != "");
    CHECK(timing["energy_uj"] == full["energy_uj"]);
  }
}

}  // namespace

TEST_CASE("all models of the data set take the same cycles without arithmetic, in FP16 and FP32") {
  const fs::path models = cx::tb::data_dir() / "models";
  if (!fs::exists(models)) {
    WARN(models << " is absent: skipped");
    return;
  }
  std::set<fs::path> files;
  for (const auto &entry : fs::recursive_directory_iterator(models)) {
    // The layers of mnist_8 are parts of it.
    const bool part = entry.path().string().find("/layers/") != std::string::npos;
    if (entry.path().extension() == ".onnx" && !part) files.insert(entry.path());
  }
  REQUIRE(files.size() >= 10);
  // Dimensions that models leave open.
  const std::pair<const char *, const char *> shapes[] = {{"/conv3d_direction/", " --shape clip=2,1,8,20,20"},
                                                          {"/fashion_mlp/", " --shape input=3,1,28,28"},
                                                          {"/gpt_shakespeare_char/", " --shape tokens=1,16"},
                                                          {"/super_resolution/", " --shape input=1,1,224,224"}};
  for (const fs::path &file : files) {
    std::string shape;
    for (const auto &[folder, option] : shapes) {
      if (file.string().find(folder) != std::string::npos) shape = option;
    }
    for (const char *precision : {"fp16", "fp32"}) {
      check_model("run " + file.string() + " --config cx3210 --seed 1 --sca never --precision " + precision + shape);
    }
  }
}

TEST_CASE("a model with TopK, gathers and scans takes the same cycles without arithmetic") {
  // Indices are such that no seeded value is out of range.
  const std::pair<const char *, const char *> cases[] = {{"test_top_k", "--input k=fill:3"},
                                                         {"test_gather_0", "--input indices=fill:1"},
                                                         {"test_scatter_elements_with_axis", "--input indices=fill:1"},
                                                         {"test_cumsum_1d", "--input axis=fill:0"},
                                                         {"test_argmax_keepdims_example", ""},
                                                         {"test_maxpool_2d_default", ""},
                                                         {"test_softmax_axis_2", ""}};
  for (const auto &[name, inputs] : cases) {
    const fs::path model = cx::tb::onnx_suites() / "node" / name / "model.onnx";
    if (!fs::exists(model)) {
      WARN(model << " is absent: skipped");
      continue;
    }
    check_model("run " + model.string() + " --config tiny --seed 3 " + inputs);
  }
}

TEST_CASE("a sparse product runs in full, and the report says why") {
  const fs::path model = cx::tb::data_dir() / "models" / "mnist_8" / "model.onnx";
  if (!fs::exists(model)) {
    WARN(model << " is absent: skipped");
    return;
  }
  const Folder folder;
  const std::string pruned = folder / "pruned.onnx";
  REQUIRE(run_cx("prune " + model.string() + " --pattern 2:4 -o " + pruned).status == 0);
  const std::string command = "run " + pruned + " --config cx3210 --precision fp16 --seed 1 --sca always";
  check_model(command);
  const json report = json_of(command + " --timing-only");
  CHECK(report["timing_only"]["applied"] == false);
  CHECK_THAT(report["timing_only"]["obstacle"].get<std::string>(), Catch::Contains("SP_MUL #"));
  CHECK_THAT(run_cx(command + " --timing-only").text, Catch::Contains("timing only: run in full, because SP_MUL"));
}

TEST_CASE("a model whose shapes the host computes runs in full, and the report says why") {
  const fs::path model = cx::tb::onnx_suites() / "node" / "test_nonzero_example" / "model.onnx";
  if (!fs::exists(model)) {
    WARN(model << " is absent: skipped");
    return;
  }
  const Result result = run_cx("run " + model.string() + " --config tiny --seed 1 --timing-only");
  INFO(result.text);
  CHECK(result.status == 0);
}

TEST_CASE("RTL tiles compute in timing-only mode, in the same cycles") {
  const std::string layers_file = "configs/sweeps/transformer_block.csv";
  const std::string command = "bench layers " + layers_file + " --array 8x8 --set dmmu.tile.acc_rows=256";
  json reports[3] = {json_of(command), json_of(command + " --timing-only"),
                     json_of(command + " --timing-only --dataflow ws --set dmmu.rtl_tiles=all")};
  for (json &report : reports) {
    for (json &result : report["results"]) result.erase("wall_s");
  }
  CHECK(reports[0] == reports[1]);
  CHECK(reports[0]["results"][0] == reports[2]["results"][0]);
}

TEST_CASE("what needs results excludes timing-only mode") {
  const Folder folder;
  for (const std::string &option :
       {std::string("--reference x"), "--output " + (folder / "out"), std::string("--task classify")}) {
    const Result result = run_cx("run model.onnx --timing-only " + option);
    CHECK(result.status == 2);
    CHECK_THAT(result.text, Catch::Contains("--timing-only has no results for"));
  }
}
