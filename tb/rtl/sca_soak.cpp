// Long comparison of model and RTL sparse tile: random operations on every shape that is built.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "tb/rtl/sca_operations.hpp"

int main(int argc, char **argv) {
  uint64_t operations = 20000, seed = 1;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  CLI::App app("Random operations on model and RTL sparse tile: bits, cycles and counters must agree.");
  app.add_option("--operations", operations, "Loads, multiplications and drains")->capture_default_str();
  app.add_option("--seed", seed, "Seed of the first run; each further run counts up")->capture_default_str();
  app.add_option("--jobs", jobs, "Threads")->check(CLI::Range(1, 256))->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const auto begin = std::chrono::steady_clock::now();
  const std::vector<cx::hw::ScaShape> &shapes = cx::rtl::built_sca_tiles();
  std::atomic<uint64_t> next{0}, given{0};
  std::mutex mutex;
  cx::test::ScaComparison total;
  std::vector<uint64_t> of_shape(shapes.size(), 0);
  bool failed = false;
  const auto work = [&] {
    for (;;) {
      const uint64_t run = next++;
      const size_t which = run % shapes.size();
      // Small tiles do more operations in the same time.
      const uint64_t wanted = std::max<uint64_t>(30, 64 * 200 / (uint64_t{shapes[which].rows} * shapes[which].cols));
      if (given.fetch_add(wanted) >= operations) return;
      const cx::test::ScaComparison result = cx::test::compare_sca_tiles(shapes[which], seed + run, wanted);
      const std::lock_guard lock(mutex);
      total.add(result);
      of_shape[which] += result.operations;
      if (result.first.empty()) continue;
      failed = true;
      fmt::print(stderr, "{}, seed {}: {}\n", cx::rtl::to_string(shapes[which]), seed + run, result.first);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned j = 0; j < jobs; ++j) threads.emplace_back(work);
  for (std::thread &thread : threads) thread.join();

  for (size_t i = 0; i < shapes.size(); ++i) {
    fmt::print("  {:<40}{:>10} operations\n", cx::rtl::to_string(shapes[i]), of_shape[i]);
  }
  fmt::print("seed {}, {} operations in {:.1f} s: {} loads, {} multiplications, {} drains, {} with stalls\n", seed,
             total.operations, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
             total.loads, total.multiplications, total.drains, total.stalled);
  for (unsigned p = 0; p < cx::test::kPatterns; ++p) {
    fmt::print("{}{} {}", p == 0 ? "patterns: " : ", ", cx::test::name_of(static_cast<cx::test::Pattern>(p)),
               total.by_pattern[p]);
  }
  fmt::print("\n{} non-zeros, {} elements compared\n", total.nonzeros, total.elements);
  fmt::print("bit differences {}, cycle differences {}, counter differences {}\n", total.bit_differences,
             total.cycle_differences, total.counter_differences);
  return failed ? 1 : 0;
}
