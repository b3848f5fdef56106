// cx sweep: many chips or workloads, found and evaluated as a YAML file says.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/sweep/executor.hpp"
#include "driver/tools/sweep/report.hpp"
#include "driver/tools/sweep/search.hpp"

namespace cx::tools {
namespace {

namespace fs = std::filesystem;

struct SweepOptions {
  std::string file, output;
  ExecutorOptions executor;
  bool fresh = false, check = false, json = false;
  std::string worker, share;  ///< of a worker
};

/// One run at a time works in a folder.
class FolderLock {
 public:
  explicit FolderLock(const fs::path &folder) {
    fd_ = open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) throw InputError((folder / "lock").string() + ": cannot be written");
    // A lock of the process: its children, which may outlive it for a moment, do not hold it.
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (fcntl(fd_, F_SETLK, &whole) != 0) {
      close(fd_);
      throw UsageError(folder.string() + ": another cx sweep works in this folder");
    }
  }
  ~FolderLock() { close(fd_); }
  FolderLock(const FolderLock &) = delete;
  FolderLock &operator=(const FolderLock &) = delete;

 private:
  int fd_ = -1;
};

/// A bar with the time that is left, on a terminal; a line now and then elsewhere.
class ProgressBar {
 public:
  ProgressBar(uint64_t total, uint64_t done) : total_(total), done_(done), before_(done) {}

  void add(const SweepResult &result) {
    ++done_;
    bad_ += result.state == SweepResult::State::failed ? 1 : 0;
    const double elapsed = seconds();
    const bool last = done_ == total_;
    if (!(last && terminal_) && elapsed - shown_ < (terminal_ ? 0.1 : 10)) return;
    shown_ = elapsed;
    const double rate = static_cast<double>(done_ - before_) / std::max(1e-9, elapsed);
    const auto left = static_cast<uint64_t>(static_cast<double>(total_ - done_) / std::max(1e-9, rate));
    const std::string text = fmt::format("{}/{} points, {} failed, {:.1f} points/s, {}:{:02} left", done_, total_, bad_,
                                         rate, left / 60, left % 60);
    if (terminal_) {
      constexpr uint64_t kWidth = 30;
      const uint64_t full = total_ == 0 ? kWidth : kWidth * done_ / total_;
      fmt::print(stderr, "\r[{:<{}}] {}\033[K{}", std::string(full, '#'), kWidth, text, last ? "\n" : "");
    } else {
      fmt::print(stderr, "cx: sweep: {}\n", text);
    }
    std::fflush(stderr);
  }

 private:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  uint64_t total_, done_, before_, bad_ = 0;
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  double shown_ = 0;
};

fs::path this_program() { return fs::read_symlink("/proc/self/exe"); }

int work(const SweepOptions &options) {
  std::pair<uint64_t, uint64_t> share;
  if (options.share == "mpi") {
    share = mpi_rank();
  } else if (std::sscanf(options.share.c_str(), "%lu/%lu", &share.first, &share.second) != 2 ||
             share.first >= share.second) {
    throw UsageError(fmt::format("--share {}: expected NUMBER/COUNT with NUMBER below COUNT, or mpi", options.share));
  }
  run_share(load_sweep(options.file), options.worker, share.first, share.second);
  return kDone;
}

void drop_results(const fs::path &folder) {
  for (const auto &entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    const bool ours = name.rfind("results.sqlite", 0) == 0 || name.rfind("batch-", 0) == 0 || name == "points.csv" ||
                      name == "points.json" || name == "pareto.svg" || name == "report.html";
    if (ours) fs::remove_all(entry.path());
  }
}

int sweep(SweepOptions options) {
  if (!options.worker.empty()) return work(options);
  const SweepSpec spec = load_sweep(options.file);
  const std::unique_ptr<SweepSearch> search = make_search(spec);
  if (options.check) {
    fmt::print("{}: {} points of {} combinations\n", options.file, search->size(), combinations(spec));
    return kDone;
  }
  const auto begin = std::chrono::steady_clock::now();
  const fs::path folder = options.output.empty() ? fs::path(spec.name + ".sweep") : fs::path(options.output);
  fs::create_directories(folder);
  const FolderLock lock(folder);
  if (options.fresh) drop_results(folder);
  SweepStore store(folder / "results.sqlite", spec);
  options.executor.folder = folder;
  options.executor.program = this_program();
  const std::unique_ptr<SweepExecutor> executor = make_executor(options.executor, spec, store);

  std::map<uint64_t, SweepResult> known;
  for (SweepResult &result : store.results()) known.emplace(result.point.id, std::move(result));
  const uint64_t former = known.size();
  ProgressBar bar(search->size(), former);
  std::vector<SweepResult> results;
  for (;;) {
    const std::vector<SweepPoint> batch = search->next(results);
    if (batch.empty()) break;
    std::vector<SweepPoint> open;
    for (const SweepPoint &point : batch) {
      const auto found = known.find(point.id);
      if (found == known.end()) {
        open.push_back(point);
      } else if (found->second.point.values != point.values) {
        throw InputError(
            fmt::format("{}: point {} is another one than the search gives, expected results of this sweep",
                        (folder / "results.sqlite").string(), point.id));
      }
    }
    if (!open.empty()) {
      executor->run(open, [&](const SweepResult &result) {
        store.add(result);
        known[result.point.id] = result;
        bar.add(result);
      });
    }
    for (const SweepPoint &point : batch) results.push_back(known.at(point.id));
  }
  write_reports(spec, results, folder);

  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::map<std::string, uint64_t> states = {{"ok", 0}, {"infeasible", 0}, {"failed", 0}};
  uint64_t retried = 0;
  for (const SweepResult &result : results) {
    ++states[name_of(result.state)];
    retried += result.attempts > 1 ? 1 : 0;
  }
  const std::vector<const SweepResult *> front = pareto_front(spec, results);
  if (options.json) {
    nlohmann::ordered_json json = {{"sweep", spec.name},
                                   {"folder", folder},
                                   {"executor", options.executor.kind},
                                   {"points", results.size()},
                                   {"ok", states["ok"]},
                                   {"infeasible", states["infeasible"]},
                                   {"failed", states["failed"]},
                                   {"retried", retried},
                                   {"resumed", former},
                                   {"wall_s", wall_s}};
    json["front"] = nlohmann::json::array();
    for (const SweepResult *result : front) json["front"].push_back(result->point.id);
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {} points in {:.1f} s ({} of an earlier run): {} ok, {} infeasible, {} failed, {} tried again\n",
               spec.name, results.size(), wall_s, former, states["ok"], states["infeasible"], states["failed"],
               retried);
    fmt::print("Pareto front, {} points:\n", front.size());
    fmt::print("  {:>8}", "point");
    for (const SweepObjective &objective : spec.objectives) fmt::print("  {:>16}", objective.metric);
    fmt::print("  parameters\n");
    for (const SweepResult *result : front) {
      fmt::print("  {:>8}", result->point.id);
      for (const SweepObjective &objective : spec.objectives) {
        fmt::print("  {:>16.6g}", result->metrics.at(objective.metric));
      }
      for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
        fmt::print("  {}={}", spec.parameters[i].key, result->point.values[i]);
      }
      fmt::print("\n");
    }
    fmt::print("results in {0}: results.sqlite, points.csv, points.json, pareto.svg, report.html\n", folder.string());
  }
  return states["failed"] == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_sweep(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App *command =
      app.add_subcommand("sweep",
                         "Search over chips and workloads: results in SQLite, Pareto front; goes on where an "
                         "earlier run was ended");
  command->add_option("file", options->file, "Sweep file (docs/reference/sweep.md)")->required();
  command->add_option("-o,--output", options->output, "Folder of the results; default: NAME.sweep");
  command->add_option("--executor", options->executor.kind, "local, slurm (a job array) or mpi")
      ->check(CLI::IsMember({"local", "slurm", "mpi"}))
      ->capture_default_str();
  command->add_option("-j,--jobs", options->executor.jobs, "local: points at a time; mpi: ranks. Default: one a core")
      ->check(CLI::Range(1, 4096));
  command->add_option("--points-per-job", options->executor.points_per_job, "slurm: points of an element of the array")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--partition", options->executor.partition, "slurm: partition; default: the cluster's");
  command->add_flag("--fresh", options->fresh, "Drop the results of an earlier run in the folder");
  command->add_flag("--check", options->check, "Check the file and count its points only");
  command->add_flag("--json", options->json, "JSON instead of a table");
  command->add_option("--worker", options->worker, "")->group("");
  command->add_option("--share", options->share, "")->group("");
  command->callback([options, &invocation] { invocation.action = [options] { return sweep(*options); }; });
}

}  // namespace cx::tools
