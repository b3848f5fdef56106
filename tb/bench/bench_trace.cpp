// What a trace costs on the wall: runs of one loaded model on one card in this process, without and with a trace file
// in turns, so that whatever else the computer does meets both.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <vector>

#include "driver/session/session.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/trace/trace_file.hpp"

namespace {

using Clock = std::chrono::steady_clock;

/// What a run took: on the wall, and of the processor in all threads, which other work on the computer does not add to.
struct Cost {
  double wall = 0, processor = 0;
};

double processor_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <typename Run>
Cost cost_of(Run run) {
  const auto begin = Clock::now();
  const double used = processor_seconds();
  run();
  return {std::chrono::duration<double>(Clock::now() - begin).count(), processor_seconds() - used};
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

/// Gives the trace the names of the program's nodes, as cx run does.
class Names : public cx::LaunchObserver {
 public:
  void before(const cx::Executable &executable) override {
    if (file != nullptr) file->set_program(executable.program());
  }
  void after(const cx::Executable &, const cx::compiler::CompileStatistics &) override {}
  cx::tools::TraceFile *file = nullptr;
};

int measure(const char *model_path, const char *chip, const char *precision, int pairs, const char *shape) {
  const auto device = cx::Device::open(chip);
  const cx::compiler::Model model{std::filesystem::path(model_path)};
  cx::tools::InputOptions from;
  from.seed = 1;
  if (shape != nullptr) from.shapes.emplace_back(shape);
  const std::vector<cx::HostTensor> inputs = cx::tools::input_values(model, from, nullptr);
  Names names;
  cx::SessionOptions how;
  how.precision = cx::compiler::precision_from(precision);
  how.launches = &names;
  cx::Session session(*device, model, how);
  session.run(inputs);  // compiles, and touches all memory for the first time
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("cx_bench_trace_{}", getpid());
  cx::tools::TraceFile::Summary summary;
  const auto plain = [&] { return cost_of([&] { session.run(inputs); }); };
  const auto traced = [&] {
    std::filesystem::remove(path);  // a file system may write out at once what takes the place of another file
    return cost_of([&] {
      cx::tools::TraceFile file(path, true);
      names.file = &file;
      session.run(inputs);
      names.file = nullptr;
      summary = file.finish();
    });
  };
  traced();
  std::vector<double> off_wall, on_wall, wall, processor;
  for (int pair = 0; pair < pairs; ++pair) {
    Cost off, on;
    // Which comes first changes from pair to pair.
    if (pair % 2 == 0) off = plain();
    on = traced();
    if (pair % 2 != 0) off = plain();
    off_wall.push_back(off.wall);
    on_wall.push_back(on.wall);
    wall.push_back(on.wall / off.wall);
    processor.push_back(on.processor / off.processor);
  }
  std::filesystem::remove(path);
  const auto spread = [](const std::vector<double> &ratios) {
    return fmt::format("{:.3f} ({:.3f} to {:.3f})", quantile(ratios, 0.5), quantile(ratios, 0.25),
                       quantile(ratios, 0.75));
  };
  const double least_off = quantile(off_wall, 0), least_on = quantile(on_wall, 0);
  fmt::print("| {}, {}, {} | {:.4f} s | {:.4f} s | {:.3f} | {} | {} | {} | {:.1f} MB |\n",
             std::filesystem::path(model_path).stem().string(), std::filesystem::path(chip).stem().string(), precision,
             least_off, least_on, least_on / least_off, spread(wall), spread(processor), summary.records,
             static_cast<double>(summary.bytes) / 1e6);
  return 0;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 5) {
    fmt::print(stderr, "usage: {} MODEL.onnx CHIP.yaml PRECISION PAIRS [NAME=SHAPE]\n", argv[0]);
    return 2;
  }
  try {
    fmt::print(
        "| run | off, least | on, least | of the least | wall, on / off of pairs: median (quartiles) | processor, the "
        "same "
        "| records | file |\n|---|---:|---:|---:|---:|---:|---:|---:|\n");
    return measure(argv[1], argv[2], argv[3], std::max(1, std::atoi(argv[4])), argc > 5 ? argv[5] : nullptr);
  } catch (const std::exception &error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
