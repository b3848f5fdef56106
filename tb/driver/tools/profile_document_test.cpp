// cx profile --document, --what-if and two chips: the document adds up and agrees with the run's report.
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "driver/tools/profile_schema.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/tools/cx_process.hpp"
#include "tb/driver/tools/small_models.hpp"

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

std::string mnist() { return (cx::tb::data_dir() / "models/mnist/mnist.onnx").string(); }

bool present() {
  if (fs::exists(mnist())) return true;
  WARN("no models: skipped");
  return false;
}

json document_of(const std::string &arguments) {
  const Folder folder;
  const std::string file = folder / "profile.json";
  const auto result = run_cx("profile " + arguments + " --document " + file);
  INFO(result.text);
  REQUIRE(result.status == 0);
  std::ifstream in(file);
  json document = json::parse(in);
  CHECK_NOTHROW(cx::tools::check_profile_document(document, file));
  return document;
}

double sum(const json &values) {
  double total = 0;
  for (const json &value : values) total += value.get<double>();
  return total;
}

}  // namespace

TEST_CASE("a profile document adds up and agrees with the report of the same run") {
  if (!present()) return;
  const json document = document_of(mnist() + " --config tiny --seed 1");
  CHECK_FALSE(document.contains("comparison"));
  REQUIRE(document["runs"].size() == 1);
  const json &run = document["runs"][0];
  const json report = json::parse(run_cx("run " + mnist() + " --config tiny --seed 1 --precision fp16 --json").text);
  const json &summary = run["summary"];
  CHECK(summary["latency_us"] == report["latency_us"]);
  CHECK(summary["cycles"] == report["cycles"]);
  CHECK(summary["macs"] == report["macs"]);
  CHECK(summary["packets"] == report["packets"]);
  CHECK(summary["energy_uj"] == report["energy_uj"]["total"]);
  for (const auto &[key, value] : summary["bytes"].items()) CHECK(value == report["bytes"][key]);

  // The path has no gap and is as long as the run.
  const json &path = run["critical_path"];
  double reached = 0;
  for (std::size_t i = 0; i < path["start"].size(); ++i) {
    CHECK(path["start"][i].get<double>() == Approx(reached).margin(1e-3));
    reached = path["start"][i].get<double>() + path["duration"][i].get<double>();
  }
  CHECK(reached == Approx(1e3 * summary["latency_us"].get<double>()).epsilon(1e-9));
  double by_reason = 0;
  for (const auto &[reason, ns] : path["by_reason"].items()) by_reason += ns.get<double>();
  CHECK(by_reason == Approx(reached));

  // Nodes: their times are the work, their engines the counters.
  double times = 0, energy = 0;
  std::map<std::string, uint64_t> operations;
  for (const json &node : run["nodes"]) {
    times += node["time"].get<double>();
    energy += node["energy_uj"].get<double>();
    for (const auto &[engine, share] : node["engines"].items())
      operations[engine] += share["operations"].get<uint64_t>();
  }
  CHECK(times == Approx(1e3 * summary["work_us"].get<double>()).epsilon(1e-9));
  for (const auto &[engine, count] : operations) CHECK(count == report["engines"][engine]["ops"]);
  CHECK(energy > 0);
  CHECK(energy < report["energy_uj"]["total"]);
  CHECK(sum(run["roofline"]["points"]["macs"]) == report["macs"]);

  // Traffic over time is what was counted.
  for (const json &counter : run["counters"]) {
    if (counter["name"] != "DRAM read") continue;
    double bytes = 0;
    for (std::size_t i = 0; i + 1 < counter["time"].size(); ++i) {
      bytes += counter["value"][i].get<double>() * 1e-9 *
               (counter["time"][i + 1].get<double>() - counter["time"][i].get<double>());
    }
    CHECK(bytes <= report["bytes"]["dram_read"].get<double>() * 1.000001);
    CHECK(bytes > 0.5 * report["bytes"]["dram_read"].get<double>());
  }
}

TEST_CASE("what-if runs are runs of the changed chip") {
  if (!present()) return;
  const json run = document_of(mnist() + " --config tiny --seed 1 --what-if")["runs"][0];
  REQUIRE(run["what_if"].size() >= 6);
  for (const json &variation : run["what_if"]) {
    INFO(variation.dump());
    std::string sets;
    for (const json &set : variation["sets"]) sets += " --set " + set.get<std::string>();
    const auto changed = run_cx("profile " + mnist() + " --config tiny --seed 1 --json" + sets);
    if (variation.contains("error")) {
      CHECK(changed.status != 0);
      continue;
    }
    REQUIRE(changed.status == 0);
    const json report = json::parse(changed.text);
    CHECK(report["latency_us"] == variation["latency_us"]);
    CHECK(report["limited_by"] == variation["limited_by"]);
    double path = 0;
    for (const auto &[reason, us] : report["critical_path_us"].items()) path += us.get<double>();
    const double most = report["critical_path_us"][report["limited_by"].get<std::string>()];
    CHECK(variation["limited_share"].get<double>() == Approx(most / path));
  }
}

TEST_CASE("launches that cost nothing: the firmware is gone, what is left has reasons that add up") {
  if (!present()) return;
  for (const char *chip : {"tiny", "cx3210", "rca2"}) {
    const json run = document_of(mnist() + " --config " + chip + " --seed 1 --what-if")["runs"][0];
    const auto found = std::find_if(run["what_if"].begin(), run["what_if"].end(),
                                    [](const json &entry) { return entry["name"] == "launches that cost nothing"; });
    REQUIRE(found != run["what_if"].end());
    std::string sets;
    for (const json &set : (*found)["sets"]) sets += " --set " + set.get<std::string>();
    const json changed =
        json::parse(run_cx("profile " + mnist() + " --config " + chip + " --seed 1 --json" + sets).text);
    double left = 0;
    for (const auto &[part, us] : (*found)["launch_parts_us"].items()) {
      INFO(chip << ' ' << part);
      CHECK(us == changed["launch_parts_us"][part]);
      left += us.get<double>();
    }
    CHECK(left == Approx(changed["critical_path_us"]["launch"].get<double>()));
    const double before = run["critical_path"]["launch_parts"]["firmware"].get<double>() / 1e3;
    CHECK((*found)["launch_parts_us"]["firmware"].get<double>() < 0.01 * before);
    // Two reads of device memory, which has its latency.
    CHECK((*found)["launch_parts_us"]["programs"] > 0);
    CHECK((*found)["remark"].get<std::string>().find("program tables from device memory") != std::string::npos);
    CHECK((*found)["latency_us"] < run["summary"]["latency_us"]);
  }
}

TEST_CASE("two chips: the first lines say what makes the difference") {
  if (!present()) return;
  const json document = document_of(mnist() + " --config tiny --config cx3210 --seed 1");
  REQUIRE(document["runs"].size() == 2);
  const auto lines = document["comparison"].get<std::vector<std::string>>();
  REQUIRE(lines.size() >= 3);
  CHECK(lines[0].find("tiny takes") == 0);
  CHECK(lines[0].find("cx3210") != std::string::npos);
  // The second names the reason whose time changed most.
  double most = 0;
  for (const auto &[reason, ns] : document["runs"][0]["critical_path"]["by_reason"].items()) {
    most = std::max(
        most, std::abs(ns.get<double>() - document["runs"][1]["critical_path"]["by_reason"][reason].get<double>()));
  }
  CHECK(std::abs(std::stod(lines[1])) == Approx(most / 1e3).margin(0.006));
  const auto text = run_cx("profile " + mnist() + " --config tiny --config cx3210 --seed 1");
  CHECK(text.status == 0);
  CHECK(text.text.rfind(lines[0] + "\n" + lines[1], 0) == 0);
}

TEST_CASE("a model that the host cuts is profiled like any other, its launches one after the other") {
  const Folder folder;
  const std::string model = cx::tb::write_cut_model(folder / "m.onnx");
  const json document = document_of(model + " --config tiny --config cx3210 --seed 1 --what-if");
  REQUIRE(document["runs"].size() == 2);
  CHECK(document["comparison"].size() > 2);
  for (const json &run : document["runs"]) {
    const std::string chip = run["config"];
    const json report =
        json::parse(run_cx("run " + model + " --config " + chip + " --seed 1 --precision fp16 --json").text);
    CHECK(run["summary"]["latency_us"] == report["latency_us"]);
    CHECK(run["summary"]["packets"] == report["packets"]);
    for (const auto &[key, value] : run["summary"]["bytes"].items()) CHECK(value == report["bytes"][key]);
    REQUIRE(run["nodes"].size() == 2);
    CHECK(run["nodes"][0]["launch"] == 0);
    CHECK(run["nodes"][1]["launch"] == 1);
    CHECK(run["nodes"][0]["end"] < run["nodes"][1]["start"]);
    double reached = 0;
    const json &path = run["critical_path"];
    for (std::size_t i = 0; i < path["start"].size(); ++i) {
      CHECK(path["start"][i].get<double>() == Approx(reached).margin(1e-3));
      reached = path["start"][i].get<double>() + path["duration"][i].get<double>();
    }
    CHECK(reached == Approx(1e3 * report["latency_us"].get<double>()));
    double launch = 0;
    for (const auto &[part, ns] : path["launch_parts"].items()) launch += ns.get<double>();
    CHECK(launch == Approx(path["by_reason"]["launch"].get<double>()));
    for (const json &change : run["what_if"]) {
      INFO(change.dump());
      CHECK_FALSE(change.contains("error"));
      CHECK(change["latency_us"] > 0);
    }
  }
}

TEST_CASE("a language model is profiled as a prefill and the step after it") {
  const fs::path model = cx::tb::data_dir() / "models/gpt_shakespeare_char/model.onnx";
  if (!fs::exists(model)) {
    WARN("no models: skipped");
    return;
  }
  const std::string arguments = model.string() + " --config cx3210 --prompt-tokens 1,2,3,4,5 --context 64";
  const json document = document_of(arguments);
  REQUIRE(document["runs"].size() == 2);
  const std::string generate =
      "generate " + model.string() +
      " --config cx3210 --precision fp16 --prompt-tokens 1,2,3,4,5 --context 64 --tokens 2 --json";
  const auto generated = run_cx(generate);
  INFO(generated.text);
  REQUIRE(generated.status == 0);
  const json cost = json::parse(generated.text);
  CHECK(document["runs"][0]["summary"]["latency_us"].get<double>() == Approx(cost["prefill"]["us"].get<double>()));
  CHECK(document["runs"][1]["summary"]["latency_us"].get<double>() == Approx(cost["decode"]["us"].get<double>()));
  CHECK(document["runs"][0]["summary"]["macs"] == cost["prefill"]["macs"]);
  CHECK(document["runs"][1]["summary"]["bytes"]["dram_read"] == cost["decode"]["bytes"]["dram_read"]);
  CHECK(document["runs"][0]["model"] != document["runs"][1]["model"]);
  CHECK(run_cx("profile " + model.string() + " --seed 1 --context 8").status == 2);
  CHECK(run_cx("profile " + model.string() + " --prompt text").status == 2);
}

TEST_CASE("the terminal's answer says first what limits, has all nodes, and fits 120 columns") {
  if (!present()) return;
  const std::string command = "profile " + mnist() + " --config tiny --seed 1";
  const auto text = run_cx(command + " --what-if");
  REQUIRE(text.status == 0);
  const json report = json::parse(run_cx(command + " --json").text);
  std::istringstream lines(text.text);
  std::string line;
  std::vector<std::string> all;
  while (std::getline(lines, line)) all.push_back(line);
  REQUIRE(all.size() > 20);
  CHECK(all[0].find("limited by " + report["limited_by"].get<std::string>()) != std::string::npos);
  CHECK(all[1] == report["headline"]);
  for (const std::string &shown : all) {
    INFO(shown);
    CHECK(shown.size() <= 120);
  }
  std::size_t shown = 0;
  double us = 0;
  for (const json &node : report["nodes"]) {
    us += node["time"].get<double>() / 1e3;
    const std::string name = node["name"].get<std::string>().substr(0, 19), engine = node["engine"];
    const std::string reason = report["reasons"][node["bound"].get<std::size_t>()];
    if (node["engines"].empty()) continue;
    shown += std::count_if(all.begin(), all.end(),
                           [&](const std::string &candidate) {
                             return candidate.rfind(name, 0) == 0 &&
                                    candidate.find(" " + engine + " ") != std::string::npos &&
                                    candidate.find(reason) != std::string::npos;
                           }) == 0
                 ? 0
                 : 1;
  }
  CHECK(shown >= 5);
  CHECK(us == Approx(report["work_us"].get<double>()));
  CHECK(shown == static_cast<std::size_t>(std::count_if(report["nodes"].begin(), report["nodes"].end(),
                                                        [](const json &n) { return !n["engines"].empty(); })));
}

TEST_CASE("cx run makes a page of its run") {
  const Folder folder;
  const std::string model = cx::tb::write_cut_model(folder / "m.onnx"), page = folder / "run.html";
  const auto plain = run_cx("run " + model + " --config tiny --seed 1 --json");
  const auto result = run_cx("run " + model + " --config tiny --seed 1 --json --html " + page);
  INFO(result.text);
  if (result.text.find("npm") != std::string::npos) {
    WARN("the page is not built: skipped");
    return;
  }
  REQUIRE(result.status == 0);
  CHECK(fs::file_size(page) > 10'000);
  json with = json::parse(result.text), without = json::parse(plain.text);
  for (json *report : {&with, &without}) {
    report->erase("wall_s");
    report->erase("host_fallback");  // has wall time
  }
  CHECK(with == without);
  CHECK(run_cx("run " + model + " --config tiny --seed 1 --html /nowhere/run.html").status == 2);
  // With a trace beside it the page is of the same run.
  const auto both = run_cx("run " + model + " --config tiny --seed 1 --json --html " + page + " --trace " + page + "x");
  INFO(both.text);
  REQUIRE(both.status == 0);
  json beside = json::parse(both.text);
  CHECK(beside["trace"]["bytes"] == fs::file_size(page + "x"));
  for (const char *other : {"wall_s", "host_fallback", "trace"}) beside.erase(other);
  CHECK(beside == without);
  CHECK(run_cx("run " + model + " --device vfio-user:/nowhere --seed 1 --html " + page).status == 2);
}

TEST_CASE("documents that cannot be are refused") {
  if (!present()) return;
  const std::string command = "profile " + mnist() + " --seed 1 --config tiny";
  const auto path = run_cx(command + " --document /nowhere/profile.json");
  CHECK(path.status == 2);
  CHECK(path.text.find("/nowhere/profile.json: cannot be written") != std::string::npos);
  CHECK(run_cx(command + " --config tiny --config tiny").status == 2);
  const auto remote = run_cx("profile " + mnist() + " --seed 1 --device vfio-user:/nowhere/card");
  CHECK(remote.status == 2);
  CHECK(remote.text.find("cx device --trace") != std::string::npos);
  CHECK(run_cx("profile " + mnist() + " --seed 1 --config nothing").status == 2);
}
