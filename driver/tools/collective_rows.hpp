// Rows of cx collective's tables: simulations of their own, so that what they give does not depend on how many run at a
// time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace cx::tools {

/// Calls run(row) for every row, the last and largest first, `jobs` at a time (0: one a core). Throws what the first of
/// the failed rows threw, once all have ended.
template <class Run>
void run_rows(std::size_t rows, unsigned jobs, Run run) {
  std::vector<std::exception_ptr> failures(rows);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i; (i = next++) < rows;) {
      const std::size_t row = rows - 1 - i;
      try {
        run(row);
      } catch (...) {
        failures[row] = std::current_exception();
      }
    }
  };
  if (jobs == 0) jobs = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (unsigned t = 1; t < std::min<std::size_t>(jobs, rows); ++t) threads.emplace_back(work);
  work();
  for (std::thread &thread : threads) thread.join();
  for (const std::exception_ptr &failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace cx::tools
