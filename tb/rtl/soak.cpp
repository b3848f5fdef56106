// Long comparison of model and RTL tile: random operations on every shape that is built, until a number is reached.
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "tb/rtl/tile_operations.hpp"

int main(int argc, char **argv) {
  uint64_t tiles = 100000, seed = 1;
  unsigned jobs = std::max(1u, std::thread::hardware_concurrency());
  std::string only;
  CLI::App app("Random operations on model and RTL tile: bits, cycles and counters must agree.");
  app.add_option("--tiles", tiles, "Operations (loads, passes of both dataflows, drains)")->capture_default_str();
  app.add_option("--seed", seed, "Seed of the first run; each further run counts up")->capture_default_str();
  app.add_option("--jobs", jobs, "Threads")->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--shape", only, "Only this shape, as in CX_RTL_TILES");
  CLI11_PARSE(app, argc, argv);

  std::vector<cx::hw::TileShape> shapes;
  for (const cx::hw::TileShape &shape : cx::rtl::built_tiles()) {
    if (only.empty() || cx::rtl::to_string(shape) == only) shapes.push_back(shape);
  }
  if (shapes.empty()) {
    fmt::print(stderr, "no such shape in this build: {}\n", only);
    return 2;
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  std::atomic<uint64_t> next{0}, given{0};
  std::mutex mutex;
  cx::test::TileComparison total;
  std::vector<uint64_t> of_shape(shapes.size(), 0);
  bool failed = false;
  const auto work = [&] {
    for (;;) {
      const uint64_t run = next++;
      const size_t which = run % shapes.size();
      // Small tiles do more operations in the same time.
      const uint64_t area = uint64_t{shapes[which].rows} * shapes[which].cols;
      const uint64_t wanted = std::max<uint64_t>(50, 64 * 400 / area);
      if (given.fetch_add(wanted) >= tiles) return;
      const auto max_m = static_cast<uint32_t>((seed + run) % 3 == 0 ? shapes[which].acc_rows : 40);
      const cx::test::TileComparison result = cx::test::compare_tiles(shapes[which], seed + run, wanted, max_m);
      const std::lock_guard lock(mutex);
      total.add(result);
      of_shape[which] += result.operations;
      if (!result.first.empty()) {
        failed = true;
        fmt::print(stderr, "{}, seed {}: {}\n", cx::rtl::to_string(shapes[which]), seed + run, result.first);
      }
      if (isatty(STDERR_FILENO) && run % 16 == 0) {
        fmt::print(stderr, "\r  {} of {} operations, {:.0f} s", total.operations, tiles, elapsed());
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned j = 0; j < jobs; ++j) threads.emplace_back(work);
  for (std::thread &thread : threads) thread.join();
  if (isatty(STDERR_FILENO)) fmt::print(stderr, "\r{:60}\r", "");

  for (size_t i = 0; i < shapes.size(); ++i) {
    fmt::print("  {:<40}{:>10} operations\n", cx::rtl::to_string(shapes[i]), of_shape[i]);
  }
  fmt::print(
      "seed {}, {} operations in {:.1f} s: {} loads, {} weight-stationary and {} output-stationary passes, {} drains\n",
      seed, total.operations, elapsed(), total.loads, total.passes, total.output_stationary, total.drains);
  fmt::print(
      "of these {} passes with block scales, {} of mixed FP8, {} operations with stalls, {} times with wrong parity\n",
      total.scaled, total.mixed, total.stalled, total.injected);
  fmt::print("passes in FP32 {}, FP16 {}, BF16 {}, E4M3 {}, E5M2 {}, INT8 {}; {} elements compared\n",
             total.by_format[0], total.by_format[1], total.by_format[2], total.by_format[3], total.by_format[4],
             total.by_format[5], total.elements);
  fmt::print("bit differences {}, cycle differences {}, counter differences {}\n", total.bit_differences,
             total.cycle_differences, total.counter_differences);
  return failed ? 1 : 0;
}
