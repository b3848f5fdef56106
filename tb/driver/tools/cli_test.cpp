// The command line as a user meets it: exit statuses and messages.
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>

#include "driver/compiler/graph.hpp"
#include "driver/tools/tensor_file.hpp"
#include "tb/driver/tools/cx_process.hpp"

// After the graph header: onnx's macros.
#include <onnx/onnx_pb.h>

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::Result;
using cx::tb::run_cx;

namespace {

/// A model of one node on a float input x[1, 4] with output y.
std::string write_model(const std::string &path, const std::string &op, const std::string &domain = "") {
  onnx::ModelProto model;
  model.set_ir_version(8);
  auto *opset = model.add_opset_import();
  opset->set_domain("");
  opset->set_version(13);
  auto *graph = model.mutable_graph();
  graph->set_name("g");
  auto *node = graph->add_node();
  node->set_name("the_node");
  node->set_op_type(op);
  node->set_domain(domain);
  node->add_input("x");
  node->add_output("y");
  for (auto *info : {graph->add_input(), graph->add_output()}) {
    auto *type = info->mutable_type()->mutable_tensor_type();
    type->set_elem_type(onnx::TensorProto::FLOAT);
    type->mutable_shape()->add_dim()->set_dim_value(1);
    type->mutable_shape()->add_dim()->set_dim_value(4);
  }
  graph->mutable_input(0)->set_name("x");
  graph->mutable_output(0)->set_name("y");
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  return path;
}

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

  const Result unsupported =
      run_cx("run " + write_model(folder / "u.onnx", "TfIdfVectorizer") + " --config tiny --seed 1");
  CHECK(unsupported.status == 2);
  CHECK_THAT(unsupported.text,
             Catch::Contains("the_node") && Catch::Contains("TfIdfVectorizer") && Catch::Contains("Relu"));
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
  const Result result = run_cx("conformance " + suite.string() + " --filter test_add_uint8 --json");
  CHECK(result.status == 0);
  CHECK(nlohmann::json::parse(result.text)["summary"]["unsupported"] == 1);
}
