// Sweeps: what a file says, one message for each damage of each key; searches, results, processes.
#include <catch2/catch.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "driver/include/cx/error.hpp"
#include "driver/tools/sweep/gen/schema.hpp"
#include "driver/tools/sweep/report.hpp"
#include "driver/tools/sweep/search.hpp"
#include "driver/tools/sweep/store.hpp"
#include "driver/tools/sweep/workers.hpp"
#include "tb/driver/tools/temporary_folder.hpp"

using namespace cx::tools;
using cx::tb::Folder;

namespace {

/// A sweep file beside a layers file, in a folder of their own.
class SweepFile {
 public:
  SweepFile() { std::ofstream(folder_ / "layers.csv") << "Layer,M,N,K\na,8,8,8\n"; }
  SweepSpec load(const std::string &text) const {
    std::ofstream(folder_ / "s.yaml") << text;
    return load_sweep(folder_ / "s.yaml");
  }
  /// Message of the error, without the folder.
  std::string error(const std::string &text) const {
    try {
      load(text);
    } catch (const cx::InputError &error) {
      std::string message = error.what();
      const std::string prefix = folder_.path.string() + "/";
      if (message.rfind(prefix, 0) == 0) message.erase(0, prefix.size());
      return message;
    }
    return "no error";
  }
  std::string operator/(const std::string &name) const { return folder_ / name; }

 private:
  Folder folder_;
};

const std::string kRest =
    "workload: {layers: layers.csv}\n"
    "objectives: [minimize cycles]\n";
const std::string kGrid =
    "name: s\n"
    "chip: tiny\n"
    "search: {method: grid}\n"
    "parameters:\n"
    "  dmmu.tiles: [1, 2, 4]\n"
    "  spm.kib: {from: 64, to: 512, factor: 2}\n" +
    kRest;

std::string with(const std::string &text, const std::string &from, const std::string &to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.substr(0, at) + to + text.substr(at + from.size());
}

std::string random_sweep(int points, const std::string &more = "") {
  return with(with(kGrid, "method: grid", "method: random, points: " + std::to_string(points) + more), "[1, 2, 4]",
              "{from: 1, to: 100, step: 1}");
}

SweepResult result_of(const SweepPoint &point, std::map<std::string, double> metrics) {
  SweepResult result;
  result.point = point;
  result.metrics = std::move(metrics);
  return result;
}

}  // namespace

TEST_CASE("a sweep file's values") {
  const SweepFile file;
  const SweepSpec spec = file.load(
      "name: all keys\nchip: tiny\nset: {dram.mib: 64, dmmu.formats: [FP16, INT8]}\n"
      "search: {method: evolution, points: 50, seed: 7, population: 10, mutation: 0.5}\n"
      "parameters:\n  dmmu.tiles: [1, 2]\n  spm.kib: {from: 64, to: 256, step: 64}\n"
      "  dram.bandwidth_gbps: {from: 1, to: 2, count: 3}\n  workload.precision: [fp16, int8]\n"
      "workload: {layers: layers.csv, seed: 3}\n"
      "objectives: [minimize cycles, maximize dmmu.tiles]\n"
      "constraints: [energy_uj < 5.5, cycles >= macs]\n"
      "run: {retries: 1, timeout_s: 2.5}\n");
  CHECK(spec.name == "all keys");
  CHECK(spec.settings.size() == 2);
  CHECK(spec.settings[1].second == "[FP16, INT8]");
  CHECK(spec.method == SweepSpec::Method::evolution);
  CHECK(spec.points == 50);
  CHECK(spec.seed == 7);
  CHECK(spec.population == 10);
  CHECK(spec.mutation == 0.5);
  REQUIRE(spec.parameters.size() == 4);
  CHECK(spec.parameters[1].values == std::vector<std::string>{"64", "128", "192", "256"});
  CHECK(spec.parameters[2].values == std::vector<std::string>{"1", "1.5", "2"});
  CHECK(combinations(spec) == 2 * 4 * 3 * 2);
  CHECK(spec.workload.seed == 3);
  CHECK(spec.objectives[1].maximize);
  CHECK(spec.constraints[0].right == 5.5);
  CHECK(spec.constraints[1].right_metric == "macs");
  CHECK(spec.retries == 1);
  CHECK(spec.timeout_s == 2.5);
}

TEST_CASE("every damage of a sweep file names line, column, key and what was expected") {
  const SweepFile file;
  CHECK(file.error(kGrid) == "no error");
  struct Case {
    std::string text, message;
  };
  const std::string list =
      "name: s\nchip: tiny\nsearch: {method: list}\nlist:\n  - {dmmu.tiles: 1}\n  - {dmmu.tiles: 2}\n" + kRest;
  CHECK(file.error(list) == "no error");
  const std::string objectives = "objectives: [minimize cycles]";
  const Case cases[] = {
      {"a: [", "s.yaml:1:1: end of sequence flow not found, expected YAML"},
      {"- a\n", "s.yaml:1:1: expected a mapping"},
      // keys
      {kGrid + "nme: x\n", "s.yaml:9:1: nme: unknown key, expected a key of a sweep; the nearest known one is 'name'"},
      {kGrid + "name: x\n", "s.yaml:9:1: name: is written twice"},
      {with(kGrid, "{method: grid}", "{methd: grid}"), "s.yaml:3:10: search.methd: unknown key"},
      {with(kGrid, "{method: grid}", "grid"), "s.yaml:3:9: search: expected a mapping"},
      {with(kGrid, "name: s\n", ""), "s.yaml:1:1: name: is missing, expected a text"},
      {with(kGrid, "name: s", "name: [s]"), "s.yaml:1:7: name: a list, expected a text"},
      {with(kGrid, "name: s", "name: a/b"), "s.yaml:1:7: name: has a '/'"},
      {with(kGrid, "chip: tiny", "chip: none"), "s.yaml:2:7: chip: 'none', expected a chip's YAML file"},
      {with(kGrid, "chip: tiny", "chip: layers.csv"), "s.yaml:2:7: chip: "},
      {kGrid + "set: [1]\n", "s.yaml:9:6: set: a list, expected a mapping"},
      {kGrid + "set: {dmmu.tile: 1}\n", "s.yaml:9:7: set: 'dmmu.tile' is a section"},
      {kGrid + "set: {dmmu.tils: 1}\n", "s.yaml:9:7: set: 'dmmu.tils' is no key of a chip"},
      {kGrid + "set: {dram.mib: 0}\n", "s.yaml:9:17: set.dram.mib: "},
      {kGrid + "set: {dram.mib: }\n", "s.yaml:9:"},
      {kGrid + "set: {dmmu.tiles: 4}\n", "s.yaml:5:3: dmmu.tiles: is a key of set as well"},
      // search
      {with(kGrid, "{method: grid}", "{seed: 1}"),
       "s.yaml:1:1: search.method: is missing, expected one of grid, random"},
      {with(kGrid, "method: grid", "method: best"), "s.yaml:3:18: search.method: 'best', expected one of grid"},
      {random_sweep(0), "s.yaml:3:34: search.points: '0', expected a whole number from 1 to 1000000"},
      {with(random_sweep(5), "points: 5", "points: 5.5"), "s.yaml:3:34: search.points: '5.5', expected a whole number"},
      {with(kGrid, "method: grid", "method: grid, points: 4"), "s.yaml:3:32: search.points: method is grid"},
      {random_sweep(5, ", seed: -1"), "s.yaml:3:43: search.seed: '-1', expected a whole number from 0"},
      {with(kGrid, "method: grid", "method: grid, seed: 4"), "s.yaml:3:30: search.seed: method is grid"},
      {with(kGrid, "method: grid", "method: evolution, population: 3"),
       "s.yaml:3:41: search.population: '3', expected"},
      {random_sweep(5, ", population: 8"), "s.yaml:3:49: search.population: method is random"},
      {with(kGrid, "method: grid", "method: evolution, mutation: 2"), "s.yaml:3:39: search.mutation: '2', expected"},
      {random_sweep(5, ", mutation: 0.1"), "s.yaml:3:47: search.mutation: method is random"},
      // parameters
      {"name: s\nchip: tiny\nsearch: {method: grid}\n" + kRest, "s.yaml:1:1: parameters: is missing"},
      {with(kGrid, "dmmu.tiles: [1, 2, 4]", "dmmu.tils: [1]"),
       "s.yaml:5:3: parameters: 'dmmu.tils' is no key of a chip"},
      {with(kGrid, "dmmu.tiles: [1, 2, 4]", "dmmu.tiles: 1"),
       "s.yaml:5:15: parameters.dmmu.tiles: expected a list of values"},
      {with(kGrid, "[1, 2, 4]", "[]"), "s.yaml:5:15: parameters.dmmu.tiles: expected a list of values"},
      {with(kGrid, "[1, 2, 4]", "[1, x]"), "s.yaml:5:19: parameters.dmmu.tiles: "},
      {with(kGrid, "[1, 2, 4]", "[1, 0]"), "s.yaml:5:19: parameters.dmmu.tiles: "},
      {with(kGrid, "[1, 2, 4]", "[1, 2, 1]"), "s.yaml:5:15: parameters.dmmu.tiles: has the value 1 twice"},
      {with(kGrid, "dmmu.tiles: [1, 2, 4]", "spm.kib: [64]"), "s.yaml:6:3: spm.kib: is written twice"},
      {with(kGrid, "factor: 2", "by: 2"), "s.yaml:6:32: parameters.spm.kib: unknown key 'by', expected from, to"},
      {with(kGrid, "from: 64", "from: x"), "s.yaml:6:19: parameters.spm.kib.from: 'x', expected a number"},
      {with(kGrid, "from: 64, ", ""), "s.yaml:6:12: parameters.spm.kib: expected both from and to"},
      {with(kGrid, "from: 64", "from: 1024"), "s.yaml:6:12: parameters.spm.kib: to 512 is below from 1024"},
      {with(kGrid, "factor: 2", "factor: 2, step: 1"), "s.yaml:6:12: parameters.spm.kib: expected one of step"},
      {with(kGrid, "factor: 2", "factor: 1"), "s.yaml:6:12: parameters.spm.kib: factor 1 from 64"},
      {with(kGrid, "factor: 2", "step: 0"), "s.yaml:6:12: parameters.spm.kib: step 0"},
      {with(kGrid, "factor: 2", "count: 1"), "s.yaml:6:12: parameters.spm.kib: count 1"},
      {with(kGrid, "factor: 2", "step: 0.001"), "s.yaml:6:12: parameters.spm.kib: more than 100000 values"},
      {with(kGrid, "[1, 2, 4]", "[1]\n  workload.precision: [fp17]"),
       "s.yaml:6:24: parameters.workload.precision: 'fp17'"},
      {with(kGrid, "[1, 2, 4]", "[1]\n  workload.model: [none.onnx]"), "s.yaml:6:20: workload.model: there is no file"},
      {kGrid + "list: [{dmmu.tiles: 1}]\n", "s.yaml:9:7: list: method is grid, expected this key with list only"},
      // list
      {"name: s\nchip: tiny\nsearch: {method: list}\n" + kRest, "s.yaml:1:1: list: is missing"},
      {with(list, "  - {dmmu.tiles: 1}\n  - {dmmu.tiles: 2}\n", "  dmmu.tiles: 1\n"),
       "s.yaml:5:3: list: a mapping, expected a list"},
      {with(list, "{dmmu.tiles: 2}", "3"), "s.yaml:6:5: list[1]: expected a mapping"},
      {with(list, "{dmmu.tiles: 2}", "{spm.kib: 64}"), "s.yaml:6:5: list[1]: has no 'dmmu.tiles'"},
      {with(list, "{dmmu.tiles: 2}", "{dmmu.tiles: 2, spm.kib: 64}"),
       "s.yaml:6:5: list[1]: has a key that the first row lacks"},
      {with(list, "{dmmu.tiles: 2}", "{dmmu.tiles: 1}"), "s.yaml:6:5: list[1]: is a row that was there before"},
      {with(list, "{dmmu.tiles: 2}", "{dmmu.tiles: 0}"), "s.yaml:6:18: list[1].dmmu.tiles: "},
      {list + "parameters: {dmmu.tiles: [1]}\n", "s.yaml:9:13: parameters: method is"},
      // workload
      {with(kGrid, "{layers: layers.csv}", "{seed: 1}"), "s.yaml:7:11: workload: has neither model nor layers"},
      {with(kGrid, "layers.csv}", "none.csv}"), "s.yaml:7:20: workload.layers: there is no file"},
      {with(kGrid, "layers: layers.csv", "model: none.onnx"), "s.yaml:7:19: workload.model: there is no file"},
      {with(kGrid, "layers: layers.csv", "layers: layers.csv, model: layers.csv"),
       "s.yaml:7:39: workload: has a model and layers"},
      {with(kGrid, "layers.csv}", "layers.csv, precision: fp8}"),
       "s.yaml:7:43: workload.precision: 'fp8', expected one of"},
      {with(kGrid, "{layers: layers.csv}", "{model: layers.csv, precision: int8}"),
       "s.yaml:7:11: workload.precision: int8 of a model needs calibration"},
      {with(kGrid, "layers.csv}", "layers.csv, seed: x}"), "s.yaml:7:38: workload.seed: 'x', expected a whole number"},
      {with(with(kGrid, "layers.csv}", "layers.csv, precision: fp16}"), "[1, 2, 4]",
            "[1]\n  workload.precision: [fp16]"),
       "s.yaml:8:43: workload.precision: is a parameter as well"},
      // objectives, constraints
      {with(kGrid, objectives, ""), "s.yaml:1:1: objectives: is missing"},
      {with(kGrid, objectives, "objectives: cycles"), "s.yaml:8:13: objectives: 'cycles', expected a list"},
      {with(kGrid, "[minimize cycles]", "[cycles]"), "s.yaml:8:14: objectives: 'cycles', expected 'minimize METRIC'"},
      {with(kGrid, "minimize cycles", "minimize price"),
       "s.yaml:8:14: objectives: 'price' is no metric, expected cycles, "},
      {kGrid + "constraints: cycles < 3\n", "s.yaml:9:14: constraints: 'cycles < 3', expected a list"},
      {kGrid + "constraints: [cycles]\n", "s.yaml:9:15: constraints: 'cycles', expected METRIC, one of"},
      {kGrid + "constraints: [cycles =< 3]\n", "s.yaml:9:15: constraints: 'cycles =< 3', expected METRIC, one of"},
      {kGrid + "constraints: [price < 3]\n", "s.yaml:9:15: constraints: 'price' is no metric"},
      {kGrid + "constraints: [cycles < price]\n", "s.yaml:9:15: constraints: 'price' is no metric"},
      // run
      {kGrid + "run: {retries: 101}\n", "s.yaml:9:16: run.retries: '101', expected a whole number from 0 to 100"},
      {kGrid + "run: {timeout_s: 0}\n", "s.yaml:9:18: run.timeout_s: '0', expected a number from 0.01"},
  };
  std::set<std::string> keys;
  for (const Case &c : cases) {
    INFO(c.text);
    CHECK_THAT(file.error(c.text), Catch::StartsWith(c.message));
    for (const SweepKey &key : kSweepKeys) {
      if (c.message.find(std::string(": ") + key.key) != std::string::npos) keys.insert(key.key);
    }
  }
  for (const SweepKey &key : kSweepKeys) {
    INFO("no damage of " << key.key);
    CHECK(keys.count(key.key) == 1);
  }
}

TEST_CASE("a grid has every combination, the last parameter changing fastest") {
  const SweepFile file;
  const SweepSpec spec = file.load(kGrid);
  const auto search = make_search(spec);
  CHECK(search->size() == 12);
  const std::vector<SweepPoint> points = search->next({});
  REQUIRE(points.size() == 12);
  CHECK(points[0].values == std::vector<std::string>{"1", "64"});
  CHECK(points[1].values == std::vector<std::string>{"1", "128"});
  CHECK(points[11].values == std::vector<std::string>{"4", "512"});
  CHECK(points[11].id == 11);
  CHECK_THROWS_AS(make_search(file.load(
                      with(kGrid, "factor: 2}", "factor: 2}\n  dram.latency_ns: {from: 1, to: 100000, step: 1}"))),
                  cx::InputError);
}

TEST_CASE("random points are distinct, follow from the seed and end with the space") {
  const SweepFile file;
  const auto points_of = [&](const std::string &text) { return make_search(file.load(text))->next({}); };
  const auto values_of = [](const std::vector<SweepPoint> &points) {
    std::vector<std::vector<std::string>> values;
    for (const SweepPoint &point : points) values.push_back(point.values);
    return values;
  };
  const auto few = values_of(points_of(random_sweep(60)));
  CHECK(few == values_of(points_of(random_sweep(60))));
  CHECK(few != values_of(points_of(random_sweep(60, ", seed: 2"))));
  CHECK(std::set(few.begin(), few.end()).size() == 60);
  const auto most = values_of(points_of(random_sweep(390)));
  CHECK(std::set(most.begin(), most.end()).size() == 390);
  CHECK(values_of(points_of(random_sweep(5000))).size() == 400);
}

TEST_CASE("ranks peel one front after the other; what is not ok comes last") {
  const SweepFile file;
  const SweepSpec spec = file.load(with(kGrid, "[minimize cycles]", "[minimize cycles, maximize macs]"));
  std::vector<SweepResult> results;
  for (const auto &[cycles, macs] : {std::pair{1., 1.}, {2., 3.}, {2., 2.}, {3., 3.}, {1., 1.}, {4., 4.}}) {
    results.push_back(result_of({results.size(), {"1", "64"}}, {{"cycles", cycles}, {"macs", macs}}));
  }
  results.push_back(result_of({6, {"1", "64"}}, {{"cycles", 0}, {"macs", 9}}));
  results.back().state = SweepResult::State::infeasible;
  std::vector<const SweepResult *> pointers;
  for (const SweepResult &result : results) pointers.push_back(&result);
  CHECK(pareto_ranks(spec, pointers) == std::vector<std::size_t>{0, 0, 1, 1, 0, 0, 2});
}

TEST_CASE("evolution finds the best point of a large space in few evaluations, the same way each time") {
  const SweepFile file;
  const SweepSpec spec =
      file.load(with(with(kGrid, "method: grid", "method: evolution, points: 400, population: 20"), "[1, 2, 4]\n",
                     "{from: 1, to: 64, step: 1}\n  dram.latency_ns: {from: 1, to: 64, step: 1}\n  noc.hop_cycles: "
                     "{from: 0, to: 63, step: 1}\n"));
  const auto run = [&] {
    const auto search = make_search(spec);
    std::vector<SweepResult> results;
    std::set<std::vector<std::string>> seen;
    for (;;) {
      const std::vector<SweepPoint> batch = search->next(results);
      if (batch.empty()) break;
      CHECK(batch.size() <= 20);
      for (const SweepPoint &point : batch) {
        CHECK(seen.insert(point.values).second);
        double cost = 0;
        for (const std::string &value : point.values) cost += std::abs(std::stod(value) - 40) / 10;
        results.push_back(result_of(point, {{"cycles", cost}}));
      }
    }
    return results;
  };
  const std::vector<SweepResult> results = run(), again = run();
  REQUIRE(results.size() == 400);
  for (std::size_t i = 0; i < results.size(); ++i) CHECK(results[i].point.values == again[i].point.values);
  const auto best = [&](std::size_t from, std::size_t to) {
    double least = HUGE_VAL;
    for (std::size_t i = from; i < to; ++i) least = std::min(least, results[i].metrics.at("cycles"));
    return least;
  };
  // A million combinations: 20 random points are far from the best, whose cost is 2.4 (spm.kib 64).
  CHECK(best(0, 400) < best(0, 20));
  CHECK(best(0, 400) <= 2.4 + 1.0);
}

TEST_CASE("evolution of a small space evaluates all of it") {
  const SweepFile file;
  const SweepSpec spec = file.load(with(kGrid, "method: grid", "method: evolution, points: 100, population: 5"));
  const auto search = make_search(spec);
  CHECK(search->size() == 12);
  std::vector<SweepResult> results;
  for (;;) {
    const auto batch = search->next(results);
    if (batch.empty()) break;
    for (const SweepPoint &point : batch) results.push_back(result_of(point, {{"cycles", 1}}));
  }
  CHECK(results.size() == 12);
}

TEST_CASE("results survive in the store; a changed sweep is refused") {
  const SweepFile file;
  const SweepSpec spec = file.load(kGrid);
  SweepResult a = result_of({3, {"1", "512"}}, {{"cycles", 1e6 / 3}, {"macs", 4}});
  SweepResult b = result_of({1, {"1", "128"}}, {});
  b.state = SweepResult::State::failed;
  b.reason = "a reason with, commas and \"quotes\"";
  b.attempts = 3;
  {
    SweepStore store(file / "results.sqlite", spec);
    store.add(a);
    store.add(b);
    SweepResult other = a;
    other.metrics["cycles"] = 0;
    store.add(other);
    store.set_note("job", "7");
    store.set_note("job", "8");
  }
  SweepStore store(file / "results.sqlite", spec);
  const std::vector<SweepResult> results = store.results();
  REQUIRE(results.size() == 2);
  CHECK(to_json_line(results[0]) == to_json_line(b));
  CHECK(to_json_line(results[1]) == to_json_line(a));
  CHECK(store.note("job") == "8");
  CHECK(store.note("none").empty());
  CHECK(to_csv(spec, results) ==
        "id,state,reason,dmmu.tiles,spm.kib,cycles,macs\n"
        "1,failed,\"a reason with, commas and \"\"quotes\"\"\",1,128,,\n"
        "3,ok,,1,512," +
            std::string("333333.3333333333,4\n"));
  // Another name or time limit is the same sweep; other values, and another content of the layers, are not.
  CHECK_NOTHROW(
      SweepStore(file / "results.sqlite", file.load(with(kGrid, "name: s", "name: t") + "run: {retries: 9}\n")));
  CHECK_THROWS_WITH(SweepStore(file / "results.sqlite", file.load(with(kGrid, "[1, 2, 4]", "[1, 2]"))),
                    Catch::Contains("holds results of another sweep"));
  std::ofstream(file / "layers.csv") << "Layer,M,N,K\na,8,8,9\n";
  CHECK_THROWS_AS(SweepStore(file / "results.sqlite", file.load(kGrid)), cx::InputError);
  std::ofstream(file / "other.sqlite")
      << "no database at all, but long enough to have a header of one hundred bytes......................";
  CHECK_THROWS_AS(SweepStore(file / "other.sqlite", spec), cx::InputError);
}

TEST_CASE("a damaged line of a worker is no result") {
  const std::string line = to_json_line(result_of({3, {"1"}}, {{"cycles", 1}}));
  CHECK(from_json_line(line).metrics.at("cycles") == 1);
  CHECK_THROWS_AS(from_json_line(line.substr(0, line.size() / 2)), cx::InputError);
  for (const char *field : {"id", "values", "state", "reason", "attempts", "wall_s", "metrics"}) {
    auto json = nlohmann::json::parse(line);
    json.erase(field);
    CHECK_THROWS_AS(from_json_line(json.dump()), cx::InputError);
  }
  auto json = nlohmann::json::parse(line);
  json["state"] = "good";
  CHECK_THROWS_WITH(from_json_line(json.dump()), Catch::Contains("expected ok, infeasible or failed"));
}

TEST_CASE("points run in processes: results, reasons, time limit") {
  const SweepFile file;
  SweepSpec spec =
      file.load(with(kGrid, "[1, 2, 4]", "[1]\n  dmmu.tile.rows: [4, 8]") + "constraints: [dmmu.tile.rows > 4]\n");
  const std::vector<SweepPoint> points = make_search(spec)->next({});
  std::map<uint64_t, SweepResult> one, two;
  run_in_processes(spec, points, 1, [&](const SweepResult &result) { one[result.point.id] = result; });
  run_in_processes(spec, points, 3, [&](const SweepResult &result) { two[result.point.id] = result; });
  REQUIRE(one.size() == points.size());
  REQUIRE(two.size() == points.size());
  for (const auto &[id, result] : one) {
    INFO(result.reason);
    CHECK(result.metrics == two.at(id).metrics);
    CHECK(result.state == (result.point.values[1] == "4" ? SweepResult::State::infeasible : SweepResult::State::ok));
    if (result.state == SweepResult::State::infeasible) {
      CHECK(result.reason == "constraint dmmu.tile.rows > 4: dmmu.tile.rows is 4");
    }
    for (const SweepMetric &metric : kSweepMetrics) CHECK(result.metrics.count(metric.name) == 1);
    CHECK(result.metrics.at("macs") == 8 * 8 * 8);
    CHECK(result.metrics.at("cycles") > result.metrics.at("launch_cycles"));
  }
  spec.timeout_s = 0.0001;
  spec.retries = 1;
  std::vector<SweepResult> late;
  run_in_processes(spec, {points[0]}, 1, [&](const SweepResult &result) { late.push_back(result); });
  REQUIRE(late.size() == 1);
  CHECK(late[0].state == SweepResult::State::failed);
  CHECK(late[0].reason == "took more than 0.0001 s");
  CHECK(late[0].attempts == 2);
}

TEST_CASE("reports name the front and every reason") {
  const SweepFile file;
  const SweepSpec spec = file.load(with(kGrid, "[minimize cycles]", "[minimize cycles, minimize energy_uj]"));
  std::vector<SweepResult> results;
  for (const auto &[cycles, energy] : {std::pair{1., 9.}, {2., 2.}, {9., 1.}, {9., 9.}}) {
    results.push_back(result_of({results.size(), {"1", "64"}}, {{"cycles", cycles}, {"energy_uj", energy}}));
  }
  results.push_back(result_of({4, {"2", "64"}}, {}));
  results.back().state = SweepResult::State::infeasible;
  results.back().reason = "a < b";
  const auto json = nlohmann::json::parse(to_json(spec, results));
  CHECK(json["front"] == nlohmann::json({0, 1, 2}));
  CHECK(json["points"].size() == 5);
  CHECK(json["points"][4]["reason"] == "a < b");
  CHECK_THAT(pareto_svg(spec, results), Catch::Contains("5 points, 3 on the front, 1 infeasible, 0 failed"));
  CHECK_THAT(to_html(spec, results), Catch::Contains("infeasible: a &lt; b") && Catch::Contains("<svg"));
  CHECK_THAT(pareto_svg(spec, results), Catch::Contains("point 1\ncycles: 2\nenergy_uj: 2"));
  // The front of three objectives is not that of two of them.
  SweepSpec three = spec;
  three.objectives.push_back({"area_mm2"});
  for (SweepResult &result : results) {
    if (result.state == SweepResult::State::ok) result.metrics["area_mm2"] = result.point.id == 3 ? 1. : 2.;
  }
  const std::string picture = pareto_svg(three, results);
  CHECK_THAT(picture, Catch::Contains("4 on the front") && Catch::Contains("front of all objectives") &&
                          Catch::Contains("front of these two"));
  results.erase(results.begin(), results.begin() + 4);
  CHECK(pareto_svg(spec, results).empty());
  // One objective and a single point, which has number 0.
  const SweepSpec one = file.load(kGrid);
  const std::vector<SweepResult> alone = {result_of({0, {"1", "64"}}, {{"cycles", 9.}, {"energy_uj", 1.}})};
  CHECK_THAT(pareto_svg(one, alone), Catch::Contains("1 points, 1 on the front"));
}
