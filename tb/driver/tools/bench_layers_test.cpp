// cx bench layers, conv and attention as a user runs them. Cycles of layers against figures of SCALE-Sim v3.
#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "tb/common/data.hpp"
#include "tb/common/seed.hpp"
#include "tb/driver/tools/cx_process.hpp"

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::json_of;
using cx::tb::Result;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

/// SCALE-Sim v3's own rule for folds that follow each other, checked against its runs in the data set.
uint64_t scale_sim_cycles(const std::string &dataflow, uint64_t rows, uint64_t cols, uint64_t m, uint64_t n,
                          uint64_t k) {
  const auto folds = [](uint64_t size, uint64_t part) { return (size + part - 1) / part; };
  if (dataflow == "ws") return folds(k, rows) * folds(n, cols) * (2 * rows + cols + m - 2) - 1;
  return folds(m, rows) * folds(n, cols) * (rows + cols + k - 2) - 1;
}

}  // namespace

TEST_CASE("folds one after the other take SCALE-Sim's cycles, overlapped ones fewer") {
  const uint64_t seed = cx::test::fresh_seed();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const Folder folder;
  std::ofstream file(folder / "layers.csv");
  file << "Layer,M,N,K\n";
  for (int i = 0; i < 6; ++i) {
    file << "l" << i << "," << 1 + random() % 300 << "," << 1 + random() % 60 << "," << 1 + random() % 200 << "\n";
  }
  file.close();
  const json report = json_of("bench layers " + (folder / "layers.csv") + " --array 8x8,16x4,3x7,32x32");
  REQUIRE(report["results"].size() == 8);
  for (const json &result : report["results"]) {
    for (const json &layer : result["layers"]) {
      INFO(result["array"] << " " << result["dataflow"] << " " << layer);
      CHECK(layer["compute_cycles"] == scale_sim_cycles(result["dataflow"], result["array"]["rows"],
                                                        result["array"]["cols"], layer["m"], layer["n"], layer["k"]));
      CHECK(layer["overlap_compute_cycles"] <= layer["compute_cycles"]);
      CHECK(layer["overlap_tile_cycles"] <= layer["tile_cycles"]);
      // What a tile adds to the array: registers at its edges, and drains.
      CHECK(layer["tile_cycles"] > layer["compute_cycles"]);
      CHECK(layer["overlap_tile_cycles"] > layer["overlap_compute_cycles"]);
      // Between folds of different outputs is a drain: the array waits for it, and their weights are written alone.
      const bool sums_over_folds = result["dataflow"] == "os" || layer["k"] > result["array"]["rows"];
      if (layer["folds"] > 2) CHECK(layer["tile_gain"] > 1);
      if (layer["folds"] > 2 && sums_over_folds) CHECK(layer["gain"] > 1);
    }
  }
}

TEST_CASE("the RTL tile takes the same cycles as the model") {
  const Folder folder;
  std::ofstream(folder / "layers.csv") << "Layer,M,N,K\na,20,17,30\nb,9,8,100\n";
  const std::string command =
      "bench layers " + (folder / "layers.csv") + " --array 8x8 --set dmmu.tile.acc_rows=256 --set dmmu.rtl_tiles=";
  json model = json_of(command + "none"), rtl = json_of(command + "all");
  for (json *report : {&model, &rtl}) {
    for (json &result : (*report)["results"]) result.erase("wall_s");
  }
  CHECK(model == rtl);
}

TEST_CASE("layers of the data set take the cycles that SCALE-Sim v3 took") {
  const fs::path data = cx::tb::data_dir() / "layers";
  if (!fs::exists(data / "scalesim_v3_layers.csv")) {
    WARN(data << " is absent: skipped");
    return;
  }
  std::string files;
  for (const char *name : {"gemm_small.csv", "transformer_block_bert_base_s128.csv", "resnet18_scalesim_conv.csv",
                           "resnet50_scalesim_conv.csv", "vit_b_scalesim_gemm.csv"}) {
    files += (data / name).string() + " ";
  }
  const json report = json_of("bench layers " + files + "--reference " + (data / "scalesim_v3_layers.csv").string());
  CHECK(report["reference"]["different"] == 0);
  CHECK(report["reference"]["compared"] == 292);
}

TEST_CASE("layers with operands in DRAM move what they have to, and wait no less than the bus lets them") {
  const Folder folder;
  // 100 points of 144 taps, 32 filters: 64 bytes a row of results, whole bursts. A product of 300 x 64 x 256.
  std::ofstream(folder / "conv.csv") << "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num "
                                        "Filter,Strides\nc,12,12,3,3,16,32,1\ns,9,7,1,1,8,32,2\n";
  std::ofstream(folder / "product.csv") << "Layer,M,N,K\np,300,64,256\n";
  const std::string command =
      "bench layers " + (folder / "conv.csv") + " " + (folder / "product.csv") + " --array 32x32 --dram ";
  struct Bytes {
    uint64_t map, weights, results;
  };
  // Weights lie in folds of the whole array (weight stationary), or of all K (output stationary).
  const std::map<std::string, std::array<Bytes, 3>> least = {{"ws",
                                                              {{{12 * 12 * 16 * 2, 5 * 32 * 32 * 2, 100 * 64},
                                                                {9 * 7 * 8 * 2, 32 * 32 * 2, 20 * 64},
                                                                {300 * 256 * 2, 256 * 64 * 2, 300 * 128}}}},
                                                             {"os",
                                                              {{{12 * 12 * 16 * 2, 144 * 32 * 2, 100 * 64},
                                                                {9 * 7 * 8 * 2, 8 * 32 * 2, 20 * 64},
                                                                {300 * 256 * 2, 256 * 64 * 2, 300 * 128}}}}};
  // Instructions are fetched too: 32 bytes each, fewer than 8 a fold on the way in and 8 on the way out.
  const auto instructions = [](const json &layer) { return 32 * (64 + 24 * layer["folds"].get<uint64_t>()); };
  const json narrow = json_of(command + "lpddr5_6400 --set dram.channels=1");
  const json wide = json_of(command + "lpddr5_6400 --set dram.channels=8");
  const json timing_only = json_of(command + "lpddr5_6400 --set dram.channels=8 --timing-only");
  const json at_hand =
      json_of("bench layers " + (folder / "conv.csv") + " " + (folder / "product.csv") + " --array 32x32");
  for (std::size_t r = 0; r < 2; ++r) {
    const json &result = wide["results"][r];
    CHECK(result["memory"]["part"] == "lpddr5_6400");
    CHECK(result["memory"]["peak_gbps"] == Approx(102.4));
    uint64_t cycles = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const json &layer = result["layers"][i];
      const Bytes &bytes = least.at(result["dataflow"])[i];
      INFO(result["dataflow"] << " " << layer);
      const json &memory = layer["memory"], &slower = narrow["results"][r]["layers"][i]["memory"];
      const uint64_t read = memory["read_bytes"], written = memory["written_bytes"];
      CHECK(read >= bytes.map * (i == 1 ? 5 : 9) / 9);  // a stride of 2 leaves rows out
      CHECK(read >= bytes.weights);
      CHECK(read <= bytes.map + bytes.weights + instructions(layer));
      CHECK(written == bytes.results);
      CHECK(memory["cycles"] == layer["overlap_tile_cycles"].get<uint64_t>() + memory["stall_cycles"].get<uint64_t>());
      // 25.6 bytes a cycle of 2 ns on one channel.
      CHECK(slower["cycles"].get<double>() > static_cast<double>(bytes.weights + written) / 25.6);
      // The smallest layer waits for the latencies of a few bursts, whatever the channels.
      if (i == 1) {
        CHECK(memory["stall_cycles"].get<double>() < 1.01 * slower["stall_cycles"].get<double>());
      } else {
        CHECK(memory["stall_cycles"] < slower["stall_cycles"]);
      }
      CHECK(memory["stall_cycles"] > 0);
      CHECK(memory == timing_only["results"][r]["layers"][i]["memory"]);
      json plain = layer;
      plain.erase("memory");
      json expected = at_hand["results"][r]["layers"][i];
      CHECK(plain["overlap_compute_cycles"] == expected["overlap_compute_cycles"]);
      cycles += memory["cycles"].get<uint64_t>();
    }
    CHECK(result["memory"]["cycles"] == cycles);
  }
  // A product whose rows the scratchpad does not hold is read for each 32 columns.
  const json again = json_of("bench layers " + (folder / "product.csv") +
                             " --array 32x32 --dataflow ws --dram lpddr5_6400 --set spm.kib=128 --set spm.banks=8");
  const uint64_t read = again["results"][0]["layers"][0]["memory"]["read_bytes"];
  CHECK(read >= 2 * 300 * 256 * 2 + 256 * 64 * 2);
  CHECK(read <= 2 * 300 * 256 * 2 + 256 * 64 * 2 + instructions(again["results"][0]["layers"][0]));
  const std::string small = "bench layers " + (folder / "product.csv") + " --array 32x32 --set spm.banks=4 --dram ";
  CHECK_THAT(run_cx(small + "lpddr5_6400 --set spm.kib=64").text,
             Catch::Contains("layer p: two folds take") && Catch::Contains("bytes of scratchpad, there are 65536"));
  CHECK_THAT(run_cx(command + "sdram").text, Catch::Contains("dram.preset"));
  CHECK(run_cx(command + "sdram").status == 2);
}

TEST_CASE("a reference that differs fails, one without the layers is an error") {
  const Folder folder;
  const std::string layers = folder / "layers.csv", reference = folder / "reference.csv";
  std::ofstream(layers) << "Layer,M,N,K\na,8,8,8\n";
  const std::string header = "dataflow,array,layer,M,N,K,compute_cycles\n";
  const std::string command = "bench layers " + layers + " --array 8x8 --dataflow ws --reference " + reference;
  std::ofstream(reference) << header << "ws,8x8,a,8,8,8,29\n";
  CHECK(run_cx(command).status == 0);
  std::ofstream(reference) << header << "ws,8,a,8,8,8,30\n";
  CHECK(json_of(command, 1)["reference"]["different"] == 1);
  std::ofstream(reference) << header << "os,8,a,8,8,8,30\n";
  CHECK(run_cx(command).status == 2);
  std::ofstream(reference) << "dataflow,array,layer,M,N,K\n";
  CHECK_THAT(run_cx(command).text, Catch::Contains("reference.csv:1:1: no column 'compute_cycles'"));
  std::ofstream(reference) << header << "ws,8,a,8,8,8,x\n";
  CHECK_THAT(run_cx(command).text, Catch::Contains("reference.csv:2:14: compute_cycles: 'x', expected a whole number"));
  std::ofstream(reference) << header << "ws,8,a,8\n";
  CHECK_THAT(run_cx(command).text, Catch::Contains("reference.csv:2:1: no cell of column 'compute_cycles'"));
}

TEST_CASE("of several files one may be the reference, and others are named and left out") {
  const Folder folder;
  std::ofstream(folder / "layers.csv") << "Layer,M,N,K\nl0,9,5,7\n";
  std::ofstream(folder / "notes.csv") << "run,seconds\na,1\n";
  const std::string cycles = std::to_string(scale_sim_cycles("ws", 8, 8, 9, 5, 7));
  std::ofstream(folder / "reference.csv")
      << "dataflow,array,layer,M,N,K,compute_cycles\nws,8,l0,9,5,7," << cycles << "\n";
  const std::string options = " --array 8x8 --dataflow ws";
  const std::string all = (folder / "layers.csv") + " " + (folder / "notes.csv") + " " + (folder / "reference.csv");
  const json report = json_of("bench layers " + all + options);
  CHECK(report["files"] == json{folder / "layers.csv"});
  CHECK(report["left_out"] == json{folder / "notes.csv"});
  CHECK(report["reference"]["file"] == folder / "reference.csv");
  CHECK(report["reference"]["compared"] == 1);
  CHECK(report["reference"]["different"] == 0);
  CHECK(run_cx("bench layers " + all + options).text.find("notes.csv: left out") != std::string::npos);
  // Alone, or with nothing but its like, such a file is an error.
  CHECK(run_cx("bench layers " + (folder / "notes.csv") + options).status == 2);
  CHECK(run_cx("bench layers " + (folder / "notes.csv") + " " + (folder / "notes.csv") + options).status == 2);
}

TEST_CASE("wrong arguments of cx bench layers are usage errors") {
  const Folder folder;
  const std::string layers = folder / "layers.csv";
  std::ofstream(layers) << "Layer,M,N,K\na,8,8,x\n";
  CHECK_THAT(run_cx("bench layers " + layers).text, Catch::Contains("layers.csv:2:7: K: 'x', expected"));
  CHECK(run_cx("bench layers " + layers).status == 2);
  std::ofstream(layers) << "Layer,M,N,K\na,8,8,65536\n";
  for (const char *array : {"32", "0x8", "8x257", "8x8x8", "axb"}) {
    const Result result = run_cx("bench layers " + layers + " --array " + array);
    CHECK(result.status == 2);
    CHECK_THAT(result.text, Catch::Contains("expected ROWSxCOLS"));
  }
  CHECK(run_cx("bench layers " + layers + " --dataflow is").status == 2);
  CHECK_THAT(run_cx("bench layers " + layers + " --array 8x8 --dataflow os").text,
             Catch::Contains("layer a: k 65536; an output-stationary pass takes at most 65535"));
}

TEST_CASE("cx bench conv is exact in every precision") {
  for (const char *precision : {"fp32", "fp16", "bf16", "fp8_e4m3", "int8"}) {
    const json report = json_of(std::string("bench conv --config tiny --height 12 --width 9 --channels 5 --filters 11 "
                                            "--kernel 3 --stride 2 --pad 1 --precision ") +
                                precision);
    INFO(precision);
    CHECK(report["wrong_elements"] == 0);
    CHECK(report["macs"] == 6 * 5 * 11 * 5 * 9);
    CHECK(report["engines"]["dmmu"]["ops"] >= report["macs"]);
  }
  CHECK(run_cx("bench conv --config tiny --height 2 --width 2 --pad 0").status == 2);
}

TEST_CASE("cx bench attention is within the precision's tolerance") {
  for (const char *precision : {"fp32", "fp16", "bf16"}) {
    const json report =
        json_of(std::string("bench attention --config tiny --heads 3 --tokens 20 --dim 12 --precision ") + precision);
    INFO(precision);
    CHECK(report["largest_error"] > 0);
    CHECK(report["largest_error"] <= report["tolerance"]);
    CHECK(report["macs"] == 2 * 3 * 20 * 20 * 12);
  }
  CHECK(run_cx("bench attention --precision int8").status == 2);
}
