// Sparse products from the command line: cx bench spmm, cx bench sparse, pruned networks from end to end.
#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/tools/plot.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/tools/cx_process.hpp"

// After the other headers: onnx's macros.
#include <onnx/onnx_pb.h>

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::json_of;
using cx::tb::Result;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

void write(const std::string &path, const std::string &text) { std::ofstream(path) << text; }

/// Seeded places, about one in `every`.
std::string smtx(int64_t rows, int64_t columns, uint32_t every) {
  std::mt19937 random(5);
  std::string offsets = "0", indices;
  int64_t count = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      if (random() % every != 0) continue;
      indices += (indices.empty() ? "" : " ") + std::to_string(column);
      ++count;
    }
    offsets += " " + std::to_string(count);
  }
  return std::to_string(rows) + ", " + std::to_string(columns) + ", " + std::to_string(count) + "\n" + offsets + "\n" +
         indices + "\n";
}

onnx::ValueInfoProto described(const std::string &name, const std::vector<int64_t> &shape) {
  onnx::ValueInfoProto info;
  info.set_name(name);
  auto *type = info.mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx::TensorProto::FLOAT);
  for (int64_t size : shape) type->mutable_shape()->add_dim()->set_dim_value(size);
  return info;
}

/// Two 3 x 3 convolutions with relu between and after them, 64 maps of 32 x 32.
std::string write_network(const std::string &path) {
  onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(13);
  auto *graph = model.mutable_graph();
  graph->set_name("network");
  std::mt19937 random(3);
  std::normal_distribution<float> value(0, 0.06F);
  std::string x = "x";
  for (int layer = 0; layer < 2; ++layer) {
    const std::string number = std::to_string(layer);
    auto *weights = graph->add_initializer();
    weights->set_name("w" + number);
    weights->set_data_type(onnx::TensorProto::FLOAT);
    for (int64_t size : {64, 64, 3, 3}) weights->add_dims(size);
    for (int i = 0; i < 64 * 64 * 9; ++i) weights->add_float_data(value(random));
    auto *conv = graph->add_node();
    conv->set_name("conv" + number);
    conv->set_op_type("Conv");
    conv->add_input(x);
    conv->add_input("w" + number);
    conv->add_output("c" + number);
    auto *pads = conv->add_attribute();
    pads->set_name("pads");
    pads->set_type(onnx::AttributeProto::INTS);
    for (int i = 0; i < 4; ++i) pads->add_ints(1);
    auto *relu = graph->add_node();
    relu->set_op_type("Relu");
    relu->add_input("c" + number);
    relu->add_output(x = "y" + number);
  }
  *graph->add_input() = described("x", {1, 64, 32, 32});
  *graph->add_output() = described(x, {1, 64, 32, 32});
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  return path;
}

/// Prunes the model, runs it dense and sparse: the sparse outputs pass against the dense ones, in fewer cycles and with
/// less energy. The profile splits the sparse unit's time into parts that add up to no more than the work.
void check_pruned(const std::string &model, const std::string &pattern, const std::string &options,
                  const std::string &shape = "") {
  const Folder folder;
  const std::string pruned = folder / "pruned.onnx";
  const Result prune = run_cx("prune " + model + " --pattern " + pattern + " -o " + pruned);
  INFO(prune.text);
  REQUIRE(prune.status == 0);
  const std::string run = "run " + pruned + " --config cx3210 --precision fp16 " + options + shape;
  const json dense = json_of(run + " --seed 1 --sca never --output " + (folder / "dense"));
  const json sparse = json_of(run + " --tol-largest 0.02 --reference " + (folder / "dense"));
  CHECK(dense.at("sca").at("on_sca") == 0);
  CHECK(sparse.at("sca").at("on_sca") > 0);
  CHECK(sparse.at("sca").at("macs_skipped") > 0);
  CHECK(sparse.at("sca").at("bytes_saved") > 0);
  CHECK(sparse.at("check").at("passed") == true);
  CHECK(sparse.at("launch_cycles") < dense.at("launch_cycles"));
  CHECK(sparse.at("energy_uj").at("total") < dense.at("energy_uj").at("total"));
  CHECK(sparse.at("engines").at("sca").at("ops") > 0);
  CHECK(sparse.at("engines").at("dmmu").at("ops") < dense.at("engines").at("dmmu").at("ops"));

  const json profile = json_of("profile " + pruned + " --config cx3210 --precision fp16 --seed 1 " + options + shape);
  double all = 0;
  int products = 0;
  for (const json &group : profile.at("groups")) {
    if (!group.contains("sca")) continue;
    const json &part = group.at("sca");
    ++products;
    CHECK(part.at("limit_us") > 0);
    CHECK(part.at("limit_us") <= group.at("end_us"));
    for (const char *name : {"limit_us", "uneven_us", "loads_and_drains_us", "waiting_us"}) {
      all += part.at(name).get<double>();
    }
    CHECK((part.at("waiting_us") == 0 || !part.at("waiting_for").get<std::string>().empty()));
  }
  CHECK(products == sparse.at("sca").at("on_sca"));
  CHECK(all <= profile.at("work_us").get<double>() + 0.01);
  CHECK(all > 0.5 * profile.at("work_us").get<double>());
}

}  // namespace

TEST_CASE("spmm is exact on both units and counts what it skips") {
  const Folder folder;
  const std::string matrix = folder / "m.smtx";
  write(matrix, smtx(48, 72, 5));
  for (const char *precision : {"fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8"}) {
    const json report = json_of("bench spmm --config tiny --n 40 --matrix " + matrix + " --precision " + precision);
    INFO(report.dump());
    CHECK(report.at("wrong_elements") == 0);
    const uint64_t nonzeros = report.at("nonzeros");
    CHECK(report.at("sca").at("macs_skipped") == 40 * (48 * 72 - nonzeros));
    CHECK(report.at("sca").at("products").at(0).at("engine") == "sca");
    CHECK(report.at("cycles") > report.at("work_cycles"));
    CHECK(report.at("speedup") == Approx(report.at("dense_cycles").get<double>() / report.at("cycles").get<double>()));
  }
  const Result table = run_cx("bench spmm --config tiny --n 8 --matrix " + matrix);
  INFO(table.text);
  CHECK(table.status == 0);
  CHECK(table.text.find("elements that differ") != std::string::npos);
}

TEST_CASE("spmm refuses what it cannot run") {
  const Folder folder;
  const std::string matrix = folder / "m.smtx";
  const auto refused = [&](const std::string &arguments, const std::string &part) {
    const Result result = run_cx("bench spmm --config tiny --matrix " + matrix + " " + arguments);
    INFO(result.text);
    CHECK(result.status == 2);
    CHECK(result.text.find(part) != std::string::npos);
  };
  write(matrix, "2, 3, 2\n0 1 2\n0 3\n");  // column 3 of three
  refused("", "m.smtx:3:");
  write(matrix, "2, 3, 2\n0 1 3\n0 1\n");
  refused("", "m.smtx:2:");
  write(matrix, "2, 3\n0 1 2\n0 1\n");
  refused("", "m.smtx:1:");
  write(matrix, smtx(8, 8, 2));
  refused("--precision fp32", "cannot multiply in fp32");
  refused("--set sca.tiles=0", "no sparse accelerator");
  write(matrix, smtx(4, 600, 4));
  refused("--precision bf16", "at most 512");
}

TEST_CASE("bench sparse reports consistent figures and a plot") {
  const Folder folder;
  const json report = json_of(
      "bench sparse --config tiny -m 64 -k 64 --pattern unstructured:0.5 --pattern 1:4 "
      "--pattern block:8x8:0.5 --svg " +
      (folder / "p.svg"));
  REQUIRE(report.at("rows").size() == 3);
  for (const json &row : report.at("rows")) {
    CHECK(row.at("limit") == Approx(1 / (1 - row.at("zeros").get<double>())));
    CHECK(row.at("speedup") == Approx(report.at("dense_cycles").get<double>() / row.at("cycles").get<double>()));
    CHECK(row.at("ratio_to_limit") == Approx(row.at("speedup").get<double>() / row.at("limit").get<double>()));
    CHECK(row.at("distance") <= report.at("tolerance"));
    CHECK(row.at("stream_bytes") < row.at("dense_bytes"));
  }
  CHECK(report.at("rows").at(1).at("zeros") == 0.75);
  CHECK(report.at("rows").at(1).at("format") == "1:4");
  CHECK(report.at("dense_multipliers") == report.at("sparse_multipliers"));
  std::ifstream svg(folder / "p.svg");
  const std::string text{std::istreambuf_iterator<char>(svg), {}};
  CHECK(text.rfind("<svg", 0) == 0);
  CHECK(text.find("</svg>") != std::string::npos);
  CHECK(run_cx("bench sparse --config tiny --pattern 4:2").status == 2);
  CHECK(run_cx("bench sparse --config tiny --pattern unstructured:1").status == 2);
}

TEST_CASE("the sparse unit of cx3210 comes near the limit") {
  const json report = json_of("bench sparse --config cx3210 --pattern unstructured:0.4 --pattern 1:8");
  CHECK(report.at("rows").at(0).at("ratio_to_limit") >= 0.9);
  CHECK(report.at("rows").at(1).at("ratio_to_limit") >= 0.95);
  CHECK(report.at("rows").at(1).at("speedup_to_sca_without_zeros") >= 0.9 * 8);
}

TEST_CASE("a pruned network gives the dense result in fewer cycles") {
  const Folder folder;
  const std::string model = write_network(folder / "m.onnx");
  check_pruned(model, "unstructured:0.8", "");
  check_pruned(model, "1:4", "--sca-format 1:4");
  const Result violated = run_cx("run " + model + " --config cx3210 --precision fp16 --seed 1 --sca-format 2:4");
  INFO(violated.text);
  CHECK(violated.status == 2);
  CHECK(violated.text.find("do not fit 2:4") != std::string::npos);
  CHECK(run_cx("run " + model + " --seed 1 --sca perhaps").status == 2);
}

TEST_CASE("a shared array is split for a pruned network") {
  const Folder folder;
  const std::string model = write_network(folder / "m.onnx");
  const std::string pruned = folder / "pruned.onnx";
  REQUIRE(run_cx("prune " + model + " --pattern 1:8 -o " + pruned).status == 0);
  const std::string run = "run " + pruned + " --config cx3210 --set array.shared=true --precision fp16 ";
  const json dense = json_of(run + "--seed 1 --sca never --output " + (folder / "dense"));
  const json sparse = json_of(run + "--tol-largest 0.02 --reference " + (folder / "dense"));
  CHECK(dense.at("sca").at("sca_tiles") == 0);
  CHECK(dense.at("reconfigurations") == 0);
  CHECK(sparse.at("sca").at("sca_tiles") > 0);
  CHECK(sparse.at("sca").at("splits").size() > 2);
  CHECK(sparse.at("sca").at("on_sca") == 2);
  CHECK(sparse.at("check").at("passed") == true);
  CHECK(sparse.at("reconfigurations") == 1);
  CHECK(sparse.at("launch_cycles").get<uint64_t>() + sparse.at("reconfiguration_cycles").get<uint64_t>() <
        dense.at("launch_cycles").get<uint64_t>());
  CHECK(sparse.at("energy_uj").at("total") < dense.at("energy_uj").at("total"));
}

TEST_CASE("a pruned super resolution network gives the dense result in fewer cycles") {
  const fs::path model = cx::tb::data_dir() / "models/super_resolution/model.onnx";
  if (!fs::exists(model)) {
    WARN(model << " is absent: skipped");
    return;
  }
  check_pruned(model.string(), "unstructured:0.8", "", " --shape input=1,1,224,224");
}

TEST_CASE("plots refuse what they cannot draw") {
  cx::tools::Plot plot;
  plot.title = "a < b";
  CHECK_THROWS_AS(cx::tools::to_svg(plot), cx::UsageError);
  plot.series = {{"s", {{0, 1}, {10, 3}}}};
  const std::string svg = cx::tools::to_svg(plot);
  CHECK(svg.find("a &lt; b") != std::string::npos);
  CHECK(svg.find("<polyline") != std::string::npos);
  CHECK(svg.find(">10</text>") != std::string::npos);
  // Across first, then down: two points, and the corner between them.
  plot.series = {{"s", {{0, 2}, {2e6, 0}}, cx::tools::Series::Line::steps, false, false, {"first", "second"}}};
  const std::string steps = cx::tools::to_svg(plot);
  CHECK(steps.find("points=\"70.0,90.0 680.0,90.0 680.0,500.0 \"") != std::string::npos);
  CHECK(steps.find("<title>second</title>") != std::string::npos);
  CHECK(steps.find(">2M</text>") != std::string::npos);
  CHECK(steps.find(">0</text>") != std::string::npos);
  plot.series[0].points.emplace_back(11, -1);
  CHECK_THROWS_AS(cx::tools::to_svg(plot), cx::UsageError);
}
