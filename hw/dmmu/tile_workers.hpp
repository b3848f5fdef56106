// Runs the RTL tiles of a DMMU on the host's cores.
#ifndef HW_DMMU_TILE_WORKERS_HPP
#define HW_DMMU_TILE_WORKERS_HPP

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace cx::hw {

/// Threads start with the first run() of more than one job and sleep between runs. Tiles share nothing, so that results
/// do not depend on the number of threads. CX_THREADS in the environment bounds it (default: the host's).
class TileWorkers {
 public:
  TileWorkers() = default;
  ~TileWorkers();
  TileWorkers(const TileWorkers &) = delete;
  TileWorkers &operator=(const TileWorkers &) = delete;

  /// Calls job(0) ... job(count - 1), the caller's thread included, and returns when all have returned. If some throw,
  /// the exception of the lowest one is thrown.
  void run(size_t count, const std::function<void(size_t)> &job);

 private:
  void start();
  void work();
  void take_jobs();

  std::mutex mutex_;
  std::condition_variable begin_, end_;
  std::vector<std::thread> threads_;
  const std::function<void(size_t)> *job_ = nullptr;
  size_t count_ = 0;
  size_t next_ = 0;
  size_t active_ = 0;  // threads that are in a job
  std::vector<std::exception_ptr> errors_;
  bool started_ = false;
  bool stopping_ = false;
};

}  // namespace cx::hw

#endif
