#include "driver/tools/sweep/executor.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <thread>

#include "driver/include/cx/error.hpp"

namespace cx::tools {
namespace {

namespace fs = std::filesystem;

class LocalExecutor final : public SweepExecutor {
 public:
  LocalExecutor(const ExecutorOptions &options, const SweepSpec &spec)
      : spec_(spec), jobs_(options.jobs != 0 ? options.jobs : std::max(1u, std::thread::hardware_concurrency())) {}
  void run(const std::vector<SweepPoint> &points, const SweepSink &done) override {
    run_in_processes(spec_, points, jobs_, done);
  }

 private:
  const SweepSpec &spec_;
  unsigned jobs_;
};

std::string quoted(const std::string &text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? "'\\''" : std::string(1, c);
  return result + "'";
}

struct Ended {
  int status = -1;
  std::string text;  // stdout
};
Ended command(const std::string &line) {
  Ended ended;
  FILE *pipe = popen((line + " </dev/null").c_str(), "re");
  if (pipe == nullptr) throw Error("cannot start: " + line);
  char buffer[4096];
  for (std::size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) ended.text.append(buffer, got);
  const int code = pclose(pipe);
  ended.status = WIFEXITED(code) ? WEXITSTATUS(code) : -1;
  return ended;
}
void require_command(const char *name, const char *package) {
  if (command(std::string("command -v ") + name).status != 0) {
    throw UsageError(fmt::format("--executor: there is no command {}, expected Debian's package {}", name, package));
  }
}

/// Results that workers have written so far. A line that is being written is left for the next time.
class ShareReader {
 public:
  explicit ShareReader(fs::path batch) : batch_(std::move(batch)) {}

  template <class F>
  void read(F take) {
    for (const auto &entry : fs::directory_iterator(batch_)) {
      if (entry.path().extension() != ".jsonl") continue;
      std::streamoff &at = read_[entry.path()];
      std::ifstream in(entry.path(), std::ios::binary);
      in.seekg(at);
      for (std::string line; std::getline(in, line) && !in.eof();) {
        at += static_cast<std::streamoff>(line.size()) + 1;
        // A worker that was killed may have left half a line in front of another worker's.
        try {
          take(from_json_line(line));
        } catch (const InputError &) {
        }
      }
    }
  }

 private:
  fs::path batch_;
  std::map<fs::path, std::streamoff> read_;
};

/// Workers elsewhere that share a folder with this process.
class FolderExecutor : public SweepExecutor {
 public:
  FolderExecutor(const ExecutorOptions &options, const SweepSpec &spec, SweepStore &store)
      : options_(options), spec_(spec), store_(store) {}

  void run(const std::vector<SweepPoint> &points, const SweepSink &done) override {
    std::map<uint64_t, SweepPoint> open;
    for (const SweepPoint &point : points) open.emplace(point.id, point);
    std::map<uint64_t, uint32_t> tries;
    const auto take = [&](const SweepResult &result) {
      const auto found = open.find(result.point.id);
      if (found == open.end() || found->second.values != result.point.values) return;
      SweepResult known = result;
      known.attempts += tries[result.point.id];
      open.erase(found);
      done(known);
    };
    stop_former();
    // What workers of a run that was killed have done is done.
    for (const auto &entry : fs::directory_iterator(options_.folder)) {
      if (entry.path().filename().string().rfind("batch-", 0) == 0) ShareReader(entry.path()).read(take);
    }
    while (!open.empty()) {
      const fs::path batch = make_batch(open);
      begin(batch, open.size());
      ShareReader reader(batch);
      for (bool over = false; !over;) {
        // Asked before reading: what a worker wrote last is then seen.
        over = ended();
        reader.read(take);
        if (!over) std::this_thread::sleep_for(std::chrono::milliseconds(200));
      }
      // What a worker had begun when it was lost counts as a try; what it had not, does not.
      for (const uint64_t id : begun(batch)) {
        const auto found = open.find(id);
        if (found == open.end()) continue;
        if (++tries[id] <= spec_.retries) continue;
        SweepResult lost;
        lost.point = found->second;
        lost.state = SweepResult::State::failed;
        lost.reason = "its worker was lost";
        lost.attempts = tries[id];
        open.erase(found);
        done(lost);
      }
      // Workers that do not even begin will not the next time.
      if (!open.empty() && begun(batch).empty() && ++idle_ >= 3) {
        throw Error(fmt::format("{}: workers end without having begun a point; see their output in {}", options_.kind,
                                batch.string()));
      }
      if (!begun(batch).empty()) idle_ = 0;
    }
  }

 protected:
  /// Starts workers on a batch.
  virtual void begin(const fs::path &batch, std::size_t points) = 0;
  /// Whether all of them have ended.
  virtual bool ended() = 0;
  /// Workers of an earlier run of the sweep that was killed.
  virtual void stop_former() {}

  /// This program as a worker, up to the share.
  std::string worker(const fs::path &batch) const {
    return fmt::format("{} sweep {} --worker {}", quoted(options_.program), quoted(fs::absolute(spec_.file)),
                       quoted(fs::absolute(batch)));
  }

  const ExecutorOptions &options_;
  const SweepSpec &spec_;
  SweepStore &store_;

 private:
  fs::path make_batch(const std::map<uint64_t, SweepPoint> &points) {
    const std::string last = store_.note("batches");
    const uint64_t number = last.empty() ? 0 : std::stoull(last) + 1;
    store_.set_note("batches", std::to_string(number));
    const fs::path batch = options_.folder / fmt::format("batch-{}", number);
    fs::create_directories(batch);
    nlohmann::json list = nlohmann::json::array();
    for (const auto &[id, point] : points) list.push_back({{"id", id}, {"values", point.values}});
    std::ofstream out(batch / "points.json");
    out << list.dump() << '\n';
    if (!out.flush()) throw InputError((batch / "points.json").string() + ": cannot be written");
    return batch;
  }

  static std::set<uint64_t> begun(const fs::path &batch) {
    std::set<uint64_t> ids;
    for (const auto &entry : fs::directory_iterator(batch)) {
      if (entry.path().extension() != ".begun") continue;
      std::ifstream in(entry.path());
      for (uint64_t id = 0; in >> id;) ids.insert(id);
    }
    return ids;
  }

  unsigned idle_ = 0;
};

/// A job array; each element has a share of the points.
class SlurmExecutor final : public FolderExecutor {
 public:
  SlurmExecutor(const ExecutorOptions &options, const SweepSpec &spec, SweepStore &store)
      : FolderExecutor(options, spec, store) {
    for (const char *name : {"sbatch", "squeue", "scancel"}) require_command(name, "slurm-client");
  }
  ~SlurmExecutor() override {
    if (!job_.empty()) cancel(job_);
  }

 protected:
  void begin(const fs::path &batch, std::size_t points) override {
    const std::size_t elements = (points + options_.points_per_job - 1) / options_.points_per_job;
    std::ofstream script(batch / "job.sh");
    script << "#!/bin/sh\nexec " << worker(batch) << fmt::format(" --share \"$SLURM_ARRAY_TASK_ID/{}\"\n", elements);
    if (!script.flush()) throw InputError((batch / "job.sh").string() + ": cannot be written");
    script.close();
    const std::string line = fmt::format(
        "sbatch --parsable --job-name={} --array=0-{} --ntasks=1 --cpus-per-task=1 --no-requeue --output={} {} {} 2>&1",
        quoted("cx-sweep-" + spec_.name), elements - 1, quoted(fs::absolute(batch) / "element-%a.out"),
        options_.partition.empty() ? "" : "--partition=" + quoted(options_.partition),
        quoted(fs::absolute(batch) / "job.sh"));
    const Ended result = command(line);
    if (result.status != 0) throw Error("sbatch: " + result.text);
    // JOB or JOB;CLUSTER
    job_ = result.text.substr(0, result.text.find_first_of(";\n"));
    store_.set_note("slurm_job", job_);
  }

  bool ended() override {
    const auto now = std::chrono::steady_clock::now();
    if (now - asked_ < std::chrono::seconds(1)) return false;
    asked_ = now;
    const Ended queue = command("squeue --noheader --states=all --format=%T --jobs=" + job_ + " 2>/dev/null");
    if (queue.status != 0) {
      // Slurm forgets jobs after a while; a controller that does not answer is another matter.
      if (command("scontrol ping 2>/dev/null").text.find("UP") == std::string::npos) return false;
      return forget();
    }
    for (const char *state : {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUE"}) {
      if (queue.text.find(state) != std::string::npos) return false;
    }
    return forget();
  }

  void stop_former() override {
    const std::string job = store_.note("slurm_job");
    if (!job.empty()) cancel(job);
    store_.set_note("slurm_job", "");
  }

 private:
  static void cancel(const std::string &job) { command("scancel " + job + " >/dev/null 2>&1"); }
  bool forget() {
    job_.clear();
    store_.set_note("slurm_job", "");
    return true;
  }

  std::string job_;
  std::chrono::steady_clock::time_point asked_;
};

/// Ranks of one mpirun; they do not talk to each other.
class MpiExecutor final : public FolderExecutor {
 public:
  MpiExecutor(const ExecutorOptions &options, const SweepSpec &spec, SweepStore &store)
      : FolderExecutor(options, spec, store) {
    require_command("mpirun", "openmpi-bin");
  }
  ~MpiExecutor() override {
    if (mpirun_.joinable()) mpirun_.join();
  }

 protected:
  void begin(const fs::path &batch, std::size_t) override {
    const unsigned ranks = options_.jobs != 0 ? options_.jobs : std::max(1u, std::thread::hardware_concurrency());
    // One rank that is killed shall not end the others.
    const std::string line = fmt::format(
        "mpirun {} --oversubscribe --mca orte_abort_on_non_zero_status 0 -np {} {} --share mpi >{} 2>&1",
        geteuid() == 0 ? "--allow-run-as-root" : "", ranks, worker(batch), quoted(fs::absolute(batch) / "mpirun.out"));
    over_ = false;
    mpirun_ = std::thread([this, line] {
      command(line);
      over_ = true;
    });
  }
  bool ended() override {
    if (!over_) return false;
    if (mpirun_.joinable()) mpirun_.join();
    return true;
  }

 private:
  std::thread mpirun_;
  std::atomic<bool> over_ = false;
};

std::vector<SweepPoint> points_of(const fs::path &batch) {
  std::ifstream in(batch / "points.json");
  if (!in) throw InputError((batch / "points.json").string() + ": cannot be read");
  try {
    std::vector<SweepPoint> points;
    for (const auto &entry : nlohmann::json::parse(in)) {
      points.push_back({entry.at("id"), entry.at("values").get<std::vector<std::string>>()});
    }
    return points;
  } catch (const nlohmann::json::exception &error) {
    throw InputError(fmt::format("{}: {}, expected points of a sweep", (batch / "points.json").string(), error.what()));
  }
}

/// Whole lines, one write each: what is killed leaves whole lines of others.
void append(const fs::path &file, const std::string &line) {
  const int fd = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    if (fd >= 0) close(fd);
    throw InputError(file.string() + ": cannot be written");
  }
  close(fd);
}

}  // namespace

std::unique_ptr<SweepExecutor> make_executor(const ExecutorOptions &options, const SweepSpec &spec, SweepStore &store) {
  if (options.kind == "local") return std::make_unique<LocalExecutor>(options, spec);
  if (options.kind == "slurm") return std::make_unique<SlurmExecutor>(options, spec, store);
  if (options.kind == "mpi") return std::make_unique<MpiExecutor>(options, spec, store);
  throw UsageError(fmt::format("--executor {}: expected local, slurm or mpi", options.kind));
}

void run_share(const SweepSpec &spec, const std::filesystem::path &batch, uint64_t share, uint64_t shares) {
  const std::vector<SweepPoint> points = points_of(batch);
  const std::string name = fmt::format("share-{}", share);
  // Neighbours go to one share: an element of a job array has points that are alike.
  const std::size_t first = points.size() * share / shares, end = points.size() * (share + 1) / shares;
  for (std::size_t i = first; i < end; ++i) {
    append(batch / (name + ".begun"), std::to_string(points[i].id) + "\n");
    run_in_processes(spec, {points[i]}, 1, [&](const SweepResult &result) {
      append(batch / (name + ".jsonl"), to_json_line(result) + "\n");
    });
  }
}

std::pair<uint64_t, uint64_t> mpi_rank() {
  const auto number = [](const char *name) -> std::optional<uint64_t> {
    const char *text = std::getenv(name);
    if (text == nullptr) return std::nullopt;
    return std::strtoull(text, nullptr, 10);
  };
  for (const auto &[rank, size] : {std::pair{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                   std::pair{"PMI_RANK", "PMI_SIZE"}, std::pair{"SLURM_PROCID", "SLURM_NTASKS"}}) {
    const auto a = number(rank), b = number(size);
    if (a && b && *a < *b) return {*a, *b};
  }
  throw UsageError("--share mpi: this process has no rank, expected it to be started by mpirun or srun");
}

}  // namespace cx::tools
