// The command line as a user meets it: exit statuses and messages.
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "driver/compiler/graph.hpp"
#include "driver/tools/tensor_file.hpp"
#include "tb/driver/tools/cx_process.hpp"
#include "tb/driver/tools/small_models.hpp"

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::Result;
using cx::tb::run_cx;
using cx::tb::write_cut_model;
using cx::tb::write_model;
using cx::tb::write_product;

namespace {

std::string write_input(const std::string &path, std::vector<int64_t> shape, const std::string &type = "float32") {
  const uint64_t bytes = cx::element_count(shape) * cx::element_bytes(type);
  cx::tools::save_tensor({"x", type, std::move(shape), std::vector<std::byte>(bytes)}, path);
  return path;
}

}  // namespace

TEST_CASE("help and version are answers, a missing command is not") {
  CHECK(run_cx("--help").status == 0);
  CHECK(run_cx("--version").status == 0);
  CHECK(run_cx("run --help").status == 0);
  CHECK(run_cx("").status == 2);
  CHECK(run_cx("fly").status == 2);
  CHECK(run_cx("run").status == 2);
  CHECK(run_cx("run model.onnx --no-such-option").status == 2);
}

TEST_CASE("bad models exit with 2 and say what is wrong") {
  const Folder folder;
  const Result missing = run_cx("run /absent.onnx --config tiny");
  CHECK(missing.status == 2);
  CHECK_THAT(missing.text, Catch::Contains("/absent.onnx"));

  const std::string model = write_model(folder / "relu.onnx", "Relu");
  const auto size = fs::file_size(model);
  for (const auto length : {std::uintmax_t{0}, size / 2, size - 1}) {
    fs::copy_file(model, folder / "cut.onnx", fs::copy_options::overwrite_existing);
    fs::resize_file(folder / "cut.onnx", length);
    INFO("cut to " << length);
    CHECK(run_cx("run " + (folder / "cut.onnx") + " --config tiny --seed 1").status == 2);
  }

  const Result unsupported = run_cx("run " + write_model(folder / "u.onnx", "MaxRoiPool") + " --config tiny --seed 1");
  CHECK(unsupported.status == 2);
  CHECK_THAT(unsupported.text, Catch::Contains("the_node") && Catch::Contains("MaxRoiPool") && Catch::Contains("Relu"));
}

TEST_CASE("reports name what the host computed") {
  const Folder folder;
  const std::string model = write_model(folder / "m.onnx", "Unique");
  const Result table = run_cx("run " + model + " --config tiny --seed 1");
  INFO(table.text);
  CHECK(table.status == 0);
  CHECK_THAT(table.text, Catch::Contains("host fallback: Unique x1") && Catch::Contains("the device computed nothing"));
  const Result result = run_cx("run " + model + " --config tiny --seed 1 --json");
  const auto json = nlohmann::json::parse(result.text);
  CHECK(json["host_only"] == true);
  CHECK(json["programs"] == 0);
  CHECK(json["host_fallback"][0]["op"] == "Unique");
  CHECK(json["host_fallback"][0]["nodes"] == nlohmann::json({"the_node"}));
  for (const std::string &command : {"profile " + model + " --seed 1", "convert " + model}) {
    const Result refused = run_cx(command + " --config tiny");
    CHECK(refused.status == 2);
    CHECK_THAT(refused.text, Catch::Contains("Unique"));
  }
  const Result none = run_cx("run " + write_model(folder / "r.onnx", "Relu") + " --config tiny --seed 1 --json");
  CHECK_FALSE(nlohmann::json::parse(none.text).contains("host_fallback"));
}

TEST_CASE("profile shows each program of a model that the host cuts, convert says what takes such a model") {
  const Folder folder;
  const std::string model = write_cut_model(folder / "m.onnx");
  const Result profiled = run_cx("profile " + model + " --config tiny --precision fp32 --json");
  INFO(profiled.text);
  REQUIRE(profiled.status == 0);
  const auto json = nlohmann::json::parse(profiled.text);
  REQUIRE(json.at("programs").size() == 2);
  double launches = 0;
  for (const auto &program : json.at("programs")) {
    launches += program.at("launch_us").get<double>();
    CHECK(program.at("bound_ratio") > 0);
    CHECK(program.at("bound_ratio") <= 1);
  }
  CHECK(json.at("launch_us").get<double>() == Approx(launches));
  CHECK(json.at("latency_us") > json.at("launch_us"));
  CHECK(json.at("programs")[0].at("groups")[0].at("name") == "before");
  CHECK(json.at("programs")[1].at("groups")[0].at("name") == "after");
  CHECK(json.at("host_fallback")[0].at("op") == "Unique");
  const auto run = nlohmann::json::parse(run_cx("run " + model + " --config tiny --seed 1 --json").text);
  CHECK(run.at("launch_us").get<double>() == Approx(launches));
  const Result table = run_cx("profile " + model + " --config tiny --precision fp32");
  CHECK_THAT(table.text, Catch::Contains("program 2 of 2") && Catch::Contains("host fallback: Unique x1"));

  const Result narrow = run_cx("profile " + model + " --config tiny --precision int8");
  CHECK(narrow.status == 2);
  CHECK_THAT(narrow.text, Catch::Contains("int8") && Catch::Contains("ranges") && Catch::Contains("the_cut"));
  const Result converted = run_cx("convert " + model + " --config tiny");
  CHECK(converted.status == 2);
  CHECK_THAT(converted.text, Catch::Contains("the_cut") && Catch::Contains("Unique") &&
                                 Catch::Contains("one program") && Catch::Contains("cx run"));
}

TEST_CASE("bad inputs exit with 2 and name the input") {
  const Folder folder;
  const std::string model = write_model(folder / "relu.onnx", "Relu");
  const std::string run = "run " + model + " --config tiny ";
  CHECK(run_cx(run + "--input x=" + write_input(folder / "ok.npy", {1, 4})).status == 0);
  const Result none = run_cx(run);
  CHECK(none.status == 2);
  CHECK_THAT(none.text, Catch::Contains("x") && Catch::Contains("[1, 4]"));
  const Result shape = run_cx(run + "--input x=" + write_input(folder / "shape.npy", {1, 5}));
  CHECK(shape.status == 2);
  CHECK_THAT(shape.text, Catch::Contains("x"));
  CHECK(run_cx(run + "--input x=" + write_input(folder / "type.npy", {1, 4}, "float64")).status == 2);
  CHECK(run_cx(run + "--input z=" + (folder / "ok.npy")).status == 2);
  CHECK(run_cx(run + "--input x").status == 2);
  CHECK(run_cx(run + "--seed 1 --precision fp3").status == 2);
  CHECK(run_cx(run + "--seed 1 --reference " + folder.path.string()).status == 2);
}

TEST_CASE("cx ocr names what it lacks") {
  const Folder folder;
  const Result models = run_cx("ocr examples/page.png --models " + folder.path.string());
  CHECK(models.status == 2);
  CHECK_THAT(models.text, Catch::Contains("det_infer.onnx") && Catch::Contains("setup.sh"));
  CHECK(run_cx("ocr examples/README.md").status == 2);
  CHECK(run_cx("ocr /absent.png").status == 2);
  CHECK(run_cx("ocr examples/page.png --side 5").status == 2);
}

TEST_CASE("bad configurations exit with 2 and name file, line, key and expectation") {
  const Folder folder;
  const std::string file = folder / "bad.yaml";
  std::ofstream(file) << "include: " << CX_SOURCE_DIR << "/configs/chips/tiny.yaml\ndmmu:\n  tile: {rows: -3}\n";
  const Result range = run_cx("config show " + file);
  CHECK(range.status == 2);
  CHECK_THAT(range.text, Catch::Contains("bad.yaml") && Catch::Contains("3") && Catch::Contains("dmmu.tile.rows"));

  std::ofstream(file) << "include: " << CX_SOURCE_DIR << "/configs/chips/tiny.yaml\ndmmu:\n  tils: 4\n";
  const Result unknown = run_cx("config show " + file);
  CHECK(unknown.status == 2);
  CHECK_THAT(unknown.text, Catch::Contains("tils") && Catch::Contains("dmmu.tiles"));

  CHECK(run_cx("config show tiny").status == 0);
  CHECK(run_cx("config show cx3210 --json").status == 0);
  CHECK(run_cx("config show nowhere").status == 2);
  CHECK(run_cx("config show tiny --set dmmu.tiles=many").status == 2);
  CHECK(run_cx("config --help dmmu.tiles").status == 0);
  CHECK(run_cx("config --help dmmu.tils").status == 2);
  CHECK_THAT(run_cx("config show tiny --set dmmu.tiles=3").text, Catch::Contains("tiles: 3"));
}

TEST_CASE("8-bit precisions calibrate on the run's inputs, on others, or take ranges from a file") {
  const Folder folder;
  const std::string model = write_product(folder / "product.onnx");
  const std::string ranges = folder / "ranges.json";
  for (const std::string precision : {"int8", "fp8_e4m3", "fp8_e5m2"}) {
    INFO(precision);
    const std::string run = "run " + model + " --config tiny --seed 5 --json --precision " + precision;
    const Result own = run_cx(run + " --save-ranges " + ranges + " --output " + (folder / "own"));
    INFO(own.text);
    REQUIRE(own.status == 0);
    const auto json = nlohmann::json::parse(own.text);
    CHECK(json["precision"] == precision);
    CHECK(json["calibration"] == nlohmann::json{{"tensors", 1}, {"inputs", 1}, {"precision", "fp32"}});

    CHECK(run_cx(run + " --ranges " + ranges + " --reference " + (folder / "own") + " --rtol 0 --atol 0").status == 0);
    // FP32 is near: operands are wrong by 1/16 (E4M3) or 1/8 (E5M2) of themselves at most.
    CHECK(run_cx("run " + model + " --config tiny --seed 5 --atol 0.5 --reference " + (folder / "own")).status == 0);
    CHECK(run_cx("run " + model + " --config tiny --seed 5 --reference " + (folder / "own")).status == 1);

    const std::string samples =
        " --calibrate " + (folder / "own") + " --calibrate " + write_input(folder / "0.npy", {1, 4});
    const Result others = run_cx(run + samples);
    REQUIRE(others.status == 0);
    CHECK(nlohmann::json::parse(others.text)["calibration"]["inputs"] == 2);
    CHECK_THAT(run_cx("run " + model + " --config tiny --seed 5 --precision " + precision).text,
               Catch::Contains("ranges of 1 tensors") && Catch::Contains("1 run in fp32"));

    const std::string convert =
        "convert " + model + " --config tiny --precision " + precision + " -o " + (folder / "p.cxb");
    CHECK(run_cx(convert).status == 2);
    CHECK(run_cx(convert + " --ranges " + ranges).status == 0);
    CHECK(run_cx(convert + " --calibrate " + (folder / "own")).status == 0);
  }
}

TEST_CASE("8-bit precisions without what they need exit with 2 and say what is missing") {
  const Folder folder;
  const std::string model = write_product(folder / "product.onnx");
  const std::string ranges = folder / "ranges.json";
  const std::string run = "run " + model + " --config tiny --seed 5 --precision int8";

  std::ofstream(ranges) << "{\"z\": 1.0}";
  const Result missing = run_cx(run + " --ranges " + ranges);
  CHECK(missing.status == 2);
  CHECK_THAT(missing.text, Catch::Contains("tensor x") && Catch::Contains("range"));
  std::ofstream(ranges) << "[1, 2]";
  CHECK(run_cx(run + " --ranges " + ranges).status == 2);
  CHECK(run_cx(run + " --ranges /absent.json").status == 2);

  std::ofstream(ranges) << "{\"x\": 1.0}";
  CHECK(run_cx(run + " --ranges " + ranges).status == 0);
  CHECK(run_cx(run + " --ranges " + ranges + " --calibrate " + (folder / "own")).status == 2);
  CHECK(run_cx("run " + model + " --config tiny --seed 5 --ranges " + ranges).status == 2);
  CHECK(run_cx(run + " --calibrate /absent").status == 2);
  CHECK(run_cx(run + " --calibrate " + write_input(folder / "shape.npy", {1, 5})).status == 2);

  const Result format = run_cx(run + " --set dmmu.formats=[FP32,FP16]");
  CHECK(format.status == 2);
  CHECK_THAT(format.text, Catch::Contains("int8") && Catch::Contains("it has fp32, tf32, fp16"));
  const Result measured = run_cx(run + " --set dmmu.formats=[INT8]");
  CHECK(measured.status == 2);
  CHECK_THAT(measured.text, Catch::Contains("ranges are measured"));
  CHECK(run_cx(run + " --set dmmu.formats=[INT8] --ranges " + ranges).status == 0);
}

TEST_CASE("products of small integers are exact in every precision") {
  for (const std::string precision : {"fp32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8"}) {
    INFO(precision);
    const Result result = run_cx("bench gemm -m 20 -n 30 -k 70 --config tiny --json --precision " + precision);
    REQUIRE(result.status == 0);
    CHECK(nlohmann::json::parse(result.text)["wrong_elements"] == 0);
  }
}

TEST_CASE("products are exact with every pack and dataflow, and packing saves cycles") {
  for (const std::string dataflow : {"ws", "os"}) {
    for (const std::string precision : {"fp16", "int8", "fp8_e4m3"}) {
      std::vector<uint64_t> cycles;
      for (const std::string pack : {"1", "2", "4"}) {
        INFO(precision << ", pack " << pack << ", " << dataflow);
        const Result result = run_cx("bench gemm -m 40 -n 24 -k 256 --config tiny --json --precision " + precision +
                                     " --set dmmu.tile.pack=" + pack + " --set dmmu.dataflow=" + dataflow);
        INFO(result.text);
        REQUIRE(result.status == 0);
        const auto json = nlohmann::json::parse(result.text);
        CHECK(json["wrong_elements"] == 0);
        CHECK(json["mac_utilisation"] <= 1);
        cycles.push_back(json["launch_cycles"]);
      }
      if (precision == "fp16") {
        CHECK(cycles[1] == cycles[0]);
        CHECK(cycles[2] == cycles[0]);
      } else {
        CHECK(cycles[1] < cycles[0]);
        CHECK(cycles[2] <= cycles[1]);  // the scratchpad port may be the limit by then
      }
    }
  }
}

TEST_CASE("info tells how the tiles work") {
  const Result plain = run_cx("info --config tiny --json");
  REQUIRE(plain.status == 0);
  const auto json = nlohmann::json::parse(plain.text);
  CHECK(json["tile_pack"] == 1);
  CHECK(json["dataflow"] == "ws");
  CHECK(json["formats"].size() == 6);
  const Result other = run_cx("info --config tiny --json --set dmmu.tile.pack=4 --set dmmu.dataflow=os");
  REQUIRE(other.status == 0);
  CHECK(nlohmann::json::parse(other.text)["tile_pack"] == 4);
  CHECK(nlohmann::json::parse(other.text)["dataflow"] == "os");
  CHECK_THAT(run_cx("info --config tiny --set dmmu.tile.pack=2").text,
             Catch::Contains("2 products") && Catch::Contains("K per pass 16") && Catch::Contains("weight stationary"));
}

TEST_CASE("info estimates the die and what it could do a joule") {
  const auto of = [](const std::string &more) {
    const Result run = run_cx("info --config tiny --json " + more);
    INFO(run.text);
    REQUIRE(run.status == 0);
    return nlohmann::json::parse(run.text);
  };
  const auto json = of("");
  const auto &area = json.at("area_mm2");
  double sum = 0;
  for (const auto &[part, estimate] : area.items()) {
    INFO(part);
    CHECK(estimate.at("least") < estimate.at("value"));
    CHECK(estimate.at("value") < estimate.at("most"));
    if (part != "total") sum += estimate.at("value").get<double>();
  }
  CHECK(area.at("total").at("value").get<double>() == Approx(sum));
  // 12.8 GB/s of LPDDR5 and 4 lanes of generation 3.
  CHECK(area.at("dram").at("value").get<double>() == Approx(0.093 * 12.8).epsilon(1e-5));
  CHECK(area.at("pcie").at("value").get<double>() == Approx(0.52 * 4).epsilon(1e-5));
  const auto &fp16 = json.at("peak").at("FP16");
  CHECK(fp16.at("tops").get<double>() == Approx(2 * 2 * 64 * 500e6 * 1e-12));
  CHECK(fp16.at("tops_per_w").at("value").get<double>() ==
        Approx(fp16.at("tops").get<double>() / fp16.at("watts").at("value").get<double>()));
  CHECK(fp16.at("tops_per_w").at("least") < fp16.at("tops_per_w").at("value"));
  CHECK(fp16.at("tops_per_w").at("value") < fp16.at("tops_per_w").at("most"));

  const auto coarse = of("--set energy.table=n16 --set dmmu.formats=[FP16] --set dmmu.tile.pack=2");
  CHECK(coarse.at("peak").size() == 1);
  CHECK(coarse.at("area_mm2").at("vpu").at("value").get<double>() ==
        Approx(3.33 * area.at("vpu").at("value").get<double>()).epsilon(1e-4));
  const auto packed = of("--set dmmu.tile.pack=4");
  CHECK(packed.at("peak").at("INT8").at("tops").get<double>() == Approx(4 * fp16.at("tops").get<double>()));
  CHECK(packed.at("peak").at("FP16").at("tops") == fp16.at("tops"));
  CHECK_THAT(run_cx("info --config tiny").text, Catch::Contains("area, mm2") && Catch::Contains("TOPS/W"));
}

TEST_CASE("two runs of a command give the same JSON apart from wall time") {
  const Folder folder;
  const std::string model = write_model(folder / "relu.onnx", "Sigmoid");
  nlohmann::json runs[2];
  for (auto &json : runs) {
    const Result result = run_cx("run " + model + " --config tiny --seed 3 --json");
    REQUIRE(result.status == 0);
    json = nlohmann::json::parse(result.text);
    for (const char *key : {"latency_us", "cycles", "macs", "engines", "bytes", "packets", "interrupts",
                            "firmware_instructions", "wall_s"}) {
      CHECK(json.contains(key));
    }
    json.erase("wall_s");
  }
  CHECK(runs[0] == runs[1]);
}

TEST_CASE("a program file is written, printed, and refused when damaged") {
  const Folder folder;
  const std::string model = write_model(folder / "relu.onnx", "Relu");
  const std::string program = folder / "relu.cxb";
  REQUIRE(run_cx("convert " + model + " --config tiny -o " + program).status == 0);
  const Result text = run_cx("disasm " + program);
  CHECK(text.status == 0);
  CHECK_THAT(text.text, Catch::Contains("END"));
  fs::resize_file(program, fs::file_size(program) / 2);
  CHECK(run_cx("disasm " + program).status == 2);
  CHECK(run_cx("disasm /absent.cxb").status == 2);
}

TEST_CASE("firmware run refuses what is no RV32 program") {
  CHECK(run_cx("firmware run /absent.elf").status == 2);
  CHECK(run_cx("firmware run " CX_BINARY).status == 2);
}

TEST_CASE("conformance counts and exits with 1 on a failure") {
  const fs::path suite = "/usr/share/libonnx-testdata/data/node";
  if (!fs::exists(suite)) {
    WARN("libonnx-testdata is not installed: skipped");
    return;
  }
  const Result result = run_cx("conformance " + suite.string() + " --filter test_relu --json");
  REQUIRE(result.status == 0);
  const auto json = nlohmann::json::parse(result.text);
  CHECK(json["summary"]["total"] == 1);
  CHECK(json["summary"]["passed"] == 1);
  CHECK(json["cases"][0]["name"] == "test_relu");
  CHECK(run_cx("conformance /absent").status == 2);
}

TEST_CASE("a model that the compiler alone would compute is unsupported, not passed") {
  const fs::path suite = "/usr/share/libonnx-testdata/data/node";
  if (!fs::exists(suite)) {
    WARN("libonnx-testdata is not installed: skipped");
    return;
  }
  const Result result = run_cx("conformance " + suite.string() + " --filter test_constantofshape_float_ones --json");
  CHECK(result.status == 0);
  CHECK(nlohmann::json::parse(result.text)["summary"]["unsupported"] == 1);
}

TEST_CASE("a case whose data contradict its model is unsupported, a wrong result a failure") {
  const Folder folder;
  const fs::path data = fs::path(folder / "test_relu") / "test_data_set_0";
  fs::create_directories(data);
  write_model((data.parent_path() / "model.onnx").string(), "Relu");
  const auto verdict = [&](const std::string &input_type, std::vector<int64_t> input, std::vector<int64_t> output,
                           bool wrong = false) {
    write_input((data / "input_0.pb").string(), std::move(input), input_type);
    cx::HostTensor y{"y", "float32", output, std::vector<std::byte>(cx::element_count(output) * 4)};
    if (wrong) y.bytes[3] = std::byte{0x40};
    cx::tools::save_tensor(y, data / "output_0.pb");
    const Result result = run_cx("conformance " + data.parent_path().string() + " --json");
    const auto entry = nlohmann::json::parse(result.text)["cases"][0];
    CHECK(result.status == (entry["result"] == "fail" ? 1 : 0));
    return entry["result"].get<std::string>() + " " + entry.value("reason", "");
  };
  CHECK(verdict("float32", {1, 4}, {1, 4}) == "pass ");
  CHECK_THAT(verdict("float32", {1, 4}, {1, 4}, true), Catch::StartsWith("fail y: 1 of 4 elements differ"));
  const std::string refused = "unsupported the case's data contradict its model: ";
  CHECK(verdict("float32", {4}, {1, 4}) == refused + "input 'x' has shape [4], declared [1, 4]");
  CHECK(verdict("float32", {1, 3}, {1, 4}) == refused + "input 'x' has shape [1, 3], declared [1, 4]");
  CHECK(verdict("int32", {1, 4}, {1, 4}) == refused + "input 'x' has type int32, declared float32");
  CHECK(verdict("float32", {1, 4}, {2, 4}) == refused + "output 'y' has shape [2, 4], declared [1, 4]");
}

TEST_CASE("bench tile compares model and RTL") {
  const Result result = run_cx("bench tile --format INT8 --format FP16 --runs 1 --seconds 0.02 --json");
  INFO(result.text);
  REQUIRE(result.status == 0);
  const auto rows = nlohmann::json::parse(result.text).at("rows");
  REQUIRE(rows.size() == 2);
  for (const auto &row : rows) {
    CHECK(row.at("bit_differences") == 0);
    CHECK(row.at("cycle_differences") == 0);
    CHECK(row.at("model_mmac_s") > 0);
    CHECK(row.at("rtl_mmac_s") > 0);
    CHECK(row.at("rtl_alone_mmac_s") > 0);
  }
  CHECK(run_cx("bench tile --format FP12").status == 2);
  const Result missing = run_cx("bench tile --format FP16 --runs 1 --set dmmu.tile.acc_rows=100");
  CHECK(missing.status == 2);
  CHECK(missing.text.find("CX_RTL_TILES") != std::string::npos);
}

TEST_CASE("profile gives every group's time and stays above its bound") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx");
  const Result profiled = run_cx("profile " + model + " --config tiny --precision fp32 --json");
  INFO(profiled.text);
  REQUIRE(profiled.status == 0);
  const auto json = nlohmann::json::parse(profiled.text);
  CHECK(json.at("macs") == 12);
  // x[1, 4], y[1, 3] and 12 weights, 4 bytes each.
  CHECK(json.at("bytes") == 4 * (4 + 3 + 12));
  const double ratio = json.at("bound_ratio");
  CHECK(ratio > 0);
  CHECK(ratio <= 1);
  double sum = 0;
  uint64_t operations = 0;
  for (const auto &group : json.at("groups")) {
    sum += group.at("us").get<double>();
    operations += group.at("engines").at("dmmu").at("ops").get<uint64_t>();
  }
  CHECK(sum == Approx(json.at("work_us").get<double>()));
  CHECK(operations == 12);
  CHECK(json.at("launch_us") > json.at("work_us"));
  for (const char *key : {"latency_us", "bound_us", "peak_bytes", "peak_bytes_no_reuse", "compile_s", "wall_s"}) {
    CHECK(json.at(key) > 0);
  }
  // The trace costs no time.
  const auto run = nlohmann::json::parse(run_cx("run " + model + " --config tiny --seed 1 --json").text);
  CHECK(run.at("launch_us") == json.at("launch_us"));

  const Result bad = run_cx("profile " + model + " --config tiny --shape x=1,,4");
  CHECK(bad.status == 2);
  CHECK(bad.text.find("1,,4") != std::string::npos);
}

TEST_CASE("convolutions and transformer blocks stay near their bounds on cx3210") {
  if (std::system("/usr/bin/python3 -c 'import numpy, onnx' 2>/dev/null") != 0) {
    WARN("python3-numpy or python3-onnx is absent: skipped");
    return;
  }
  struct Network {
    const char *arguments;
    double ratio;
  };
  const Network networks[] = {{"resnet50 FILE", 0.7}, {"encoder FILE --layers 2 --tokens 128", 0.6}};
  const Folder folder;
  for (const Network &network : networks) {
    INFO(network.arguments);
    const std::string file = folder / "network.onnx";
    std::string arguments = network.arguments;
    arguments.replace(arguments.find("FILE"), 4, file);
    REQUIRE(std::system(("/usr/bin/python3 " CX_SOURCE_DIR "/examples/generators/networks.py " + arguments).c_str()) ==
            0);
    const Result profiled = run_cx("profile " + file + " --config cx3210 --precision fp16 --json");
    INFO(profiled.text);
    REQUIRE(profiled.status == 0);
    const auto json = nlohmann::json::parse(profiled.text);
    CHECK(json.at("bound_ratio") > network.ratio);
    CHECK(json.at("bound_ratio") <= 1);
    // Nothing but weights, input and output goes through memory.
    CHECK(json.at("workspace_bytes") == 0);
    CHECK(json.at("memory_bytes") < 1.02 * json.at("bytes").get<double>() + 1e5);
  }
}

TEST_CASE("waves of a tile are recorded without changing the run") {
  const Folder folder;
  const std::string model = write_product(folder / "m.onnx");
  const std::string run = "run " + model + " --config tiny --seed 1 --json";
  const Result plain = run_cx(run);
  REQUIRE(plain.status == 0);
  const std::string file = folder / "out.fst";
  const Result recorded = run_cx(run + " --waves tile=0,from=0us,to=10ms " + file);
  INFO(recorded.text);
  REQUIRE(recorded.status == 0);
  auto before = nlohmann::json::parse(plain.text), after = nlohmann::json::parse(recorded.text);
  CHECK(after.at("waves").at("cycles") > 0);
  CHECK(fs::file_size(file) > 1000);
  after.erase("waves");
  for (auto *json : {&before, &after}) json->erase("wall_s");
  CHECK(before == after);

  for (const auto &[spec, says] :
       {std::pair{"from=1us", "no tile"}, std::pair{"tile=x", "'x' is not a tile number"},
        std::pair{"tile=0,from=2us,to=1us", "nothing lies between"}, std::pair{"tile=0,from=2", "'2' is not a time"},
        std::pair{"tile=0,till=2us", "till"}, std::pair{"tile=99", "there is no tile 99"}}) {
    const Result bad = run_cx(run + " --waves " + spec + " " + file);
    CHECK(bad.status == 2);
    CHECK(bad.text.find(says) != std::string::npos);
  }
  CHECK(run_cx(run + " --waves tile=0 /nowhere/out.fst").status == 2);
}

TEST_CASE("convert writes every step of the compiler as a numbered text file") {
  const Folder folder;
  const std::string model = write_product(folder / "product.onnx");
  const std::string dump = folder / "steps";
  const std::string convert = "convert " + model + " --config tiny -o " + (folder / "p.cxb") + " --dump-passes " + dump;
  fs::create_directories(dump);
  std::ofstream(fs::path(dump) / "99_of_an_earlier_run.txt") << "old";
  std::ofstream(fs::path(dump) / "notes.txt") << "mine";
  const Result result = run_cx(convert + " --json");
  INFO(result.text);
  REQUIRE(result.status == 0);
  const auto json = nlohmann::json::parse(result.text);
  CHECK(json["macs"] == 12);
  CHECK(json["peak_bytes"] > json["workspace_bytes"]);
  CHECK(json["peak_bytes_no_reuse"] >= json["peak_bytes"]);

  std::vector<std::string> names;
  for (const auto &entry : fs::directory_iterator(dump)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  CHECK(names.back() == "notes.txt");
  names.pop_back();
  REQUIRE(names.size() == json["dumped_steps"].get<std::size_t>());
  std::string sequence;
  for (std::size_t i = 0; i < names.size(); ++i) {
    CHECK(std::stoul(names[i]) == i);
    sequence += names[i].substr(2, names[i].size() - 6);
    CHECK(fs::file_size(fs::path(dump) / names[i]) > 0);
  }
  CHECK(sequence.rfind("_model_lowered_", 0) == 0);
  for (const char *pass : {"canonicalise", "fold_constants", "fuse_affine", "elide_copies"}) {
    CHECK_THAT(sequence, Catch::Contains(pass));
  }
  CHECK_THAT(sequence, Catch::EndsWith("_groups_layout_memory_plan_tiling_streams"));

  const auto text_of = [&](const std::string &step) {
    for (const std::string &name : names) {
      if (name.substr(3) != step + ".txt") continue;
      std::ifstream in(fs::path(dump) / name);
      return std::string{std::istreambuf_iterator<char>(in), {}};
    }
    return std::string();
  };
  CHECK_THAT(text_of("model"), Catch::Contains("y = MatMul(x, w)"));
  // The copy into the graph output is there until the pass that removes it.
  CHECK_THAT(text_of("lowered"), Catch::Contains("Copy"));
  CHECK_THAT(text_of("elide_copies"), !Catch::Contains("Copy") && Catch::Contains("MatMul"));
  CHECK_THAT(text_of("groups"), Catch::Contains("matmul [1, 3]"));
  CHECK_THAT(text_of("tiling"), Catch::Contains("the_product: [1, 3] in tiles of"));
  CHECK_THAT(text_of("streams"), Catch::Contains("the_product"));

  std::ofstream(folder / "file") << "x";
  const Result blocked = run_cx("convert " + model + " --config tiny --dump-passes " + (folder / "file"));
  CHECK(blocked.status == 2);
  CHECK_THAT(blocked.text, Catch::Contains("file"));
}
