// What a trace costs on the wall: runs of one loaded model on one card in this process, without and with a trace file
// in turns, so that whatever else the computer does meets both.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <vector>

#include "driver/session/session.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/trace/trace_file.hpp"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

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
  std::vector<double> off, on, ratios;
  cx::tools::TraceFile::Summary summary;
  const auto plain = [&] {
    const auto begin = Clock::now();
    session.run(inputs);
    return seconds_since(begin);
  };
  const auto traced = [&] {
    const auto begin = Clock::now();
    cx::tools::TraceFile file(path, true);
    names.file = &file;
    session.run(inputs);
    names.file = nullptr;
    summary = file.finish();
    return seconds_since(begin);
  };
  traced();
  for (int pair = 0; pair < pairs; ++pair) {
    // Which comes first changes from pair to pair.
    if (pair % 2 == 0) {
      off.push_back(plain());
      on.push_back(traced());
    } else {
      on.push_back(traced());
      off.push_back(plain());
    }
    ratios.push_back(on.back() / off.back());
  }
  std::filesystem::remove(path);
  fmt::print("| {}, {}, {} | {:.4f} s | {:.4f} s | {:.3f} ({:.3f} to {:.3f}) | {:.3f} | {} | {:.1f} MB |\n",
             std::filesystem::path(model_path).stem().string(), std::filesystem::path(chip).stem().string(), precision,
             quantile(off, 0), quantile(on, 0), quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75),
             quantile(on, 0) / quantile(off, 0), summary.records, static_cast<double>(summary.bytes) / 1e6);
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
        "| run | off, least | on, least | on / off of pairs: median (quartiles) | of the least | records | file |\n"
        "|---|---:|---:|---:|---:|---:|---:|\n");
    return measure(argv[1], argv[2], argv[3], std::max(1, std::atoi(argv[4])), argc > 5 ? argv[5] : nullptr);
  } catch (const std::exception &error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
