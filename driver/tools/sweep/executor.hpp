// Where the points of a sweep run.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "driver/tools/sweep/store.hpp"
#include "driver/tools/sweep/workers.hpp"

namespace cx::tools {

struct ExecutorOptions {
  std::string kind = "local";     ///< local, slurm or mpi
  unsigned jobs = 0;              ///< local: processes at a time; mpi: ranks. 0: one for each core
  uint64_t points_per_job = 100;  ///< slurm: points of an element of the job array
  std::string partition;          ///< slurm; empty: the default one
  std::filesystem::path folder;   ///< of the sweep's results; on a file system that all nodes see
  std::filesystem::path program;  ///< this command, for processes elsewhere
};

class SweepExecutor {
 public:
  virtual ~SweepExecutor() = default;
  /// Returns when each point has a result. A worker that is lost costs what it was doing: its other points are given
  /// out again, the one it was at as often as SweepSpec::retries says.
  virtual void run(const std::vector<SweepPoint> &points, const SweepSink &done) = 0;
};

/// Throws UsageError for an unknown kind or one whose commands are not installed.
std::unique_ptr<SweepExecutor> make_executor(const ExecutorOptions &options, const SweepSpec &spec, SweepStore &store);

/// What a worker of slurm and mpi does: evaluates the points of share `share` of `shares` in the folder of a batch, one
/// after the other, and appends each result to a file there. Results that are in the folder already are not made again.
void run_share(const SweepSpec &spec, const std::filesystem::path &batch, uint64_t share, uint64_t shares);

/// This process's number among those that mpirun or srun started, and how many these are. Throws UsageError outside of
/// them.
std::pair<uint64_t, uint64_t> mpi_rank();

}  // namespace cx::tools
