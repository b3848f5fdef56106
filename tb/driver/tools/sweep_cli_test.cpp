// cx sweep as a user runs it: the same rows whatever runs the points and however often it is killed.
#include <signal.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "tb/driver/tools/cx_process.hpp"

namespace fs = std::filesystem;
using cx::tb::Folder;
using cx::tb::Result;
using cx::tb::run_cx;
using nlohmann::json;

namespace {

/// 24 points, of which 8 cannot be (a scratchpad of 16 KiB is too small) or are over the limit.
void write_sweep(const Folder &folder, const std::string &search = "{method: grid}") {
  std::ofstream(folder / "layers.csv") << "Layer,M,N,K\na,64,64,64\nb,32,100,200\n";
  std::ofstream(folder / "s.yaml")
      << "name: s\nchip: tiny\nset: {dram.mib: 64, sca.tiles: 0}\nsearch: " << search
      << "\nparameters:\n  dmmu.tiles: [1, 2]\n  dmmu.tile.rows: [4, 8, 16]\n"
         "  dmmu.tile.cols: [8, 16]\n  spm.kib: [16, 128]\nworkload: {layers: layers.csv}\n"
         "objectives: [minimize cycles, minimize energy_uj]\n"
         "constraints: [peak_macs_per_cycle < 512]\n";
}

std::string text_of(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string command(const Folder &folder, const std::string &output, const std::string &more = "") {
  return "sweep " + (folder / "s.yaml") + " --output " + (folder / output) + " " + more;
}

/// Rows of a run that nothing disturbs.
std::string rows_of(const Folder &folder, const std::string &output, const std::string &more = "") {
  const Result result = run_cx(command(folder, output, more));
  INFO(result.text);
  REQUIRE(result.status == 0);
  return text_of(folder / (output + "/points.csv"));
}

std::vector<pid_t> children_of(pid_t parent) {
  std::ifstream in("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
  std::vector<pid_t> children;
  for (pid_t pid = 0; in >> pid;) children.push_back(pid);
  return children;
}

/// cx in a process of its own, so that it can be killed.
pid_t start_cx(const std::vector<std::string> &arguments) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    std::vector<char *> words = {const_cast<char *>(CX_BINARY)};
    for (const std::string &argument : arguments) words.push_back(const_cast<char *>(argument.c_str()));
    words.push_back(nullptr);
    if (freopen("/dev/null", "w", stdout) == nullptr || freopen("/dev/null", "w", stderr) == nullptr) _exit(127);
    execv(CX_BINARY, words.data());
    _exit(127);
  }
  return pid;
}

int wait_for(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

/// Lines of the results so far; what is there is whole.
std::size_t stored_points(const std::string &folder) {
  const fs::path file = fs::path(folder) / "results.sqlite";
  if (!fs::exists(file)) return 0;
  FILE *pipe =
      popen(("sqlite3 -readonly '" + file.string() + "' 'SELECT count(*) FROM points' 2>/dev/null").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::size_t count = 0;
  const int got = fscanf(pipe, "%zu", &count);
  pclose(pipe);
  return got == 1 ? count : 0;
}

/// Processes that work on a share of the points of an output folder.
std::vector<pid_t> workers_of(const std::string &folder) {
  std::vector<pid_t> workers;
  for (const auto &entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string words = text_of((entry.path() / "cmdline").string());
    if (words.find("--worker") != std::string::npos && words.find(folder) != std::string::npos) {
      workers.push_back(static_cast<pid_t>(std::stol(name)));
    }
  }
  return workers;
}

bool has_command(const std::string &name) { return std::system(("command -v " + name + " >/dev/null").c_str()) == 0; }

}  // namespace

TEST_CASE("rows are the same for any number of processes; infeasible points have reasons") {
  const Folder folder;
  write_sweep(folder);
  const std::string one = rows_of(folder, "one", "--jobs 1");
  CHECK(one == rows_of(folder, "three", "--jobs 3"));
  CHECK(std::count(one.begin(), one.end(), '\n') == 25);
  CHECK_THAT(
      one, Catch::Contains("infeasible,constraint peak_macs_per_cycle < 512: peak_macs_per_cycle is 512,2,16,16,128"));
  const Result again = run_cx(command(folder, "one", "--json"));
  INFO(again.text);
  const json report = json::parse(again.text);
  CHECK(report["resumed"] == 24);
  CHECK(report["points"] == 24);
  CHECK(report["failed"] == 0);
  CHECK(report["infeasible"].get<int>() + report["ok"].get<int>() == 24);
  CHECK(report["infeasible"] > 0);
  CHECK(report["front"].size() >= 1);
  for (const char *file : {"points.json", "pareto.svg", "report.html"})
    CHECK(fs::exists(fs::path(folder / "one") / file));
  CHECK(json::parse(text_of(folder / "one/points.json"))["front"] == report["front"]);
}

TEST_CASE("evolution gives the same rows for any number of processes") {
  const Folder folder;
  write_sweep(folder, "{method: evolution, points: 20, population: 6, seed: 5}");
  CHECK(rows_of(folder, "one", "--jobs 1") == rows_of(folder, "two", "--jobs 2"));
}

TEST_CASE("a sweep that is killed goes on where it was") {
  const Folder folder;
  write_sweep(folder);
  const std::string whole = rows_of(folder, "whole");
  const pid_t pid = start_cx({"sweep", folder / "s.yaml", "--output", folder / "killed", "--jobs", "2"});
  const auto begin = std::chrono::steady_clock::now();
  while (children_of(pid).empty() && std::chrono::steady_clock::now() - begin < std::chrono::seconds(60)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  const std::vector<pid_t> workers = children_of(pid);
  REQUIRE_FALSE(workers.empty());
  kill(pid, SIGKILL);
  wait_for(pid);
  // Its workers end with it.
  for (const pid_t worker : workers) {
    for (int i = 0; i < 500 && kill(worker, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(kill(worker, 0) != 0);
  }
  CHECK(rows_of(folder, "killed") == whole);
}

TEST_CASE("a worker that is killed costs one more try, not a row") {
  const Folder folder;
  write_sweep(folder);
  const std::string whole = rows_of(folder, "whole");
  const pid_t pid = start_cx({"sweep", folder / "s.yaml", "--output", folder / "worker", "--jobs", "1"});
  int killed = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (killed < 2 && std::chrono::steady_clock::now() - begin < std::chrono::seconds(60) && kill(pid, 0) == 0) {
    for (const pid_t worker : children_of(pid)) {
      if (kill(worker, SIGKILL) == 0) ++killed;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      break;
    }
  }
  const int status = wait_for(pid);
  CHECK(killed > 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(text_of(folder / "worker/points.csv") == whole);
  const json report = json::parse(run_cx(command(folder, "worker", "--json")).text);
  CHECK(report["retried"] > 0);
}

TEST_CASE("points that never end are rows with their reason and the exit status says so") {
  const Folder folder;
  write_sweep(folder);
  std::ofstream(folder / "s.yaml", std::ios::app) << "run: {retries: 0, timeout_s: 0.01}\n";
  std::ofstream(folder / "layers.csv") << "Layer,M,N,K\na,4096,512,512\n";
  const Result result = run_cx(command(folder, "late", "--json"));
  INFO(result.text);
  CHECK(result.status == 1);
  CHECK(json::parse(result.text)["failed"] > 0);
  CHECK_THAT(text_of(folder / "late/points.csv"), Catch::Contains(",failed,took more than 0.01 s,"));
}

TEST_CASE("a folder of another sweep, or in use, is refused; --fresh drops its results") {
  const Folder folder;
  write_sweep(folder);
  rows_of(folder, "out");
  write_sweep(folder, "{method: random, points: 3}");
  const Result other = run_cx(command(folder, "out"));
  CHECK(other.status == 2);
  CHECK_THAT(other.text, Catch::Contains("holds results of another sweep"));
  const Result fresh = run_cx(command(folder, "out", "--fresh --json"));
  INFO(fresh.text);
  CHECK(json::parse(fresh.text)["points"] == 3);
  const Result check = run_cx("sweep --check " + (folder / "s.yaml"));
  CHECK(check.status == 0);
  CHECK_THAT(check.text, Catch::Contains("3 points of 24 combinations"));
  for (const char *wrong : {"--executor cloud", "--share 1", "--jobs 0"}) {
    CHECK(run_cx(command(folder, "out", std::string(wrong) + " --worker " + (folder / "out"))).status == 2);
  }
}

TEST_CASE("ranks of mpirun give the same rows") {
  if (!has_command("mpirun")) {
    WARN("no mpirun (package openmpi-bin): skipped");
    return;
  }
  const Folder folder;
  write_sweep(folder);
  CHECK(rows_of(folder, "local") == rows_of(folder, "mpi", "--executor mpi --jobs 2"));
}

TEST_CASE("a Slurm job array gives the same rows, also when its coordinator or a worker is killed", "[slurm]") {
  const Folder folder;
  write_sweep(folder);
  const std::string local = rows_of(folder, "local");
  CHECK(local == rows_of(folder, "slurm", "--executor slurm --points-per-job 10"));
  const pid_t pid = start_cx(
      {"sweep", folder / "s.yaml", "--output", folder / "killed", "--executor", "slurm", "--points-per-job", "12"});
  for (int i = 0; i < 600 && stored_points(folder / "killed") == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill(pid, SIGKILL);
  wait_for(pid);
  CHECK(local == rows_of(folder, "killed", "--executor slurm --points-per-job 12"));
  // A worker with its points: what it had begun is tried again, what it had not is given out again.
  const pid_t coordinator = start_cx(
      {"sweep", folder / "s.yaml", "--output", folder / "worker", "--executor", "slurm", "--points-per-job", "12"});
  std::size_t killed = 0;
  for (int i = 0; i < 3000 && killed == 0 && kill(coordinator, 0) == 0; ++i) {
    for (const pid_t worker : workers_of(folder / "worker")) {
      if (worker != coordinator && kill(worker, SIGKILL) == 0) ++killed;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(killed > 0);
  const int status = wait_for(coordinator);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(local == text_of(folder / "worker/points.csv"));
}
