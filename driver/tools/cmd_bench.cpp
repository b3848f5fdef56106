// cx bench: small workloads with known cost.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/bench.hpp"
#include "driver/tools/bench_product.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/report_table.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct GemmOptions : BenchOptions {
  int64_t m = 512, n = 512, k = 512;
  std::string output;  ///< file for the raw result; values are then reals and the exact check is left out
  uint32_t runs = 1;
  std::string beside;  ///< format: each run is paired with one of the Verilated tile alone that multiplies as much
  uint32_t beside_rows = 1;  ///< rows of a pass of that tile
};

struct TileOptions {
  ChipOptions chip;
  std::vector<std::string> formats;
  bool all = false;
  uint32_t runs = 5;
  double seconds = 0.3;
  bool json = false;
};

std::vector<float> reals(std::size_t count, std::mt19937_64 &random) {
  std::vector<float> values(count);
  for (float &value : values) value = static_cast<float>(static_cast<int64_t>(random() >> 40) - (1 << 23)) / (1 << 23);
  return values;
}

/// Passes down K for each block of rows, of the tile alone and in `cx bench tile`.
constexpr int64_t kFolds = 8;

/// Seconds of one run: by the clock on the wall, and of the processor on all threads of this process. The latter does
/// not count what other programs take.
struct Seconds {
  double wall = 0, cpu = 0;

  static Seconds now() {
    timespec cpu{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return {std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
            static_cast<double>(cpu.tv_sec) + 1e-9 * static_cast<double>(cpu.tv_nsec)};
  }
  Seconds since(const Seconds &begin) const { return {wall - begin.wall, cpu - begin.cpu}; }
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// The Verilated tile in a plain loop that multiplies m x k by k x n in passes of `rows` rows. Throws InputError for a
/// tile that is not built.
Seconds run_alone(const ChipOptions &chip, const std::string &format, int64_t m, int64_t rows, uint64_t &macs) {
  std::vector<const char *> sets;
  for (const std::string &set : chip.sets) sets.push_back(set.c_str());
  char *text = nullptr;
  const int code =
      cx_tile_alone(chip.path().c_str(), sets.data(), sets.size(), format.c_str(), static_cast<uint32_t>(rows),
                    static_cast<uint32_t>(m / rows), static_cast<uint32_t>(kFolds), &text);
  const std::string answer = text != nullptr ? text : "";
  free(text);
  if (code != CX_PORT_OK) throw InputError(answer);
  const auto json = nlohmann::json::parse(answer);
  macs = json.at("macs");
  return {json.at("wall_s"), json.at("cpu_s")};
}

int gemm(const GemmOptions &options) {
  std::mt19937_64 random(options.seed);
  const int64_t longest = longest_exact_k(options.precision);
  const ProductShape shape{options.m, options.n, options.k};
  const bool exact = options.output.empty();
  if (exact && options.k > longest) {
    throw InputError(
        fmt::format("--k {}: at most {}, so that the result is exact in {}", options.k, longest, options.precision));
  }
  const std::vector<float> a =
      exact ? small_integers(options.m * options.k, random) : reals(options.m * options.k, random);
  const std::vector<float> b =
      exact ? small_integers(options.k * options.n, random) : reals(options.k * options.n, random);
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  // INT8 maps 127 to itself, FP8 has factors of two: small integers stay what they are.
  compile_options.ranges["a"] = exact ? 127 : 1;
  compile_options.constant_range = exact ? 127 : 1;
  compile_options.sca.use = compiler::ScaUse::never;
  Executable executable(
      *device, compiler::compile(product_graph(fmt::format("gemm_{}x{}x{}", options.m, options.n, options.k), shape, b),
                                 device->target(), compile_options));
  const HostTensor input{"a", "float32", {options.m, options.k}, raw(a)};
  std::vector<HostTensor> outputs;
  std::vector<Seconds> runs, alone;
  for (uint32_t run = 0; run < options.runs; ++run) {
    uint64_t macs = 0;
    // Which of a pair comes first changes, so that a machine that slows down favours neither.
    const bool alone_first = run % 2 == 0;
    const auto beside = [&] {
      if (!options.beside.empty()) {
        alone.push_back(run_alone(options.chip, options.beside, options.m, options.beside_rows, macs));
      }
    };
    if (alone_first) beside();
    const Seconds begin = Seconds::now();
    outputs = executable.run({&input, 1});
    runs.push_back(Seconds::now().since(begin));
    if (!alone_first) beside();
    if (!options.beside.empty() && macs != executable.report().macs) {
      throw Error(fmt::format("the tile alone multiplies {} times, the chip {}", macs, executable.report().macs));
    }
  }
  const double wall_s = std::min_element(runs.begin(), runs.end(), [](const Seconds &a, const Seconds &b) {
                          return a.wall < b.wall;
                        })->wall;
  const RunReport &report = executable.report();
  const uint64_t wrong = exact ? wrong_elements(shape, a, b, outputs.at(0), 64) : 0;
  if (!exact) {
    std::ofstream file(options.output, std::ios::binary);
    const std::vector<std::byte> &bytes = outputs.at(0).bytes;
    file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) throw InputError(options.output + ": cannot be written");
  }

  if (options.json) {
    Json json = {
        {"m", options.m}, {"n", options.n}, {"k", options.k}, {"precision", options.precision}, {"seed", options.seed}};
    json.update(report_json(report));
    json["wrong_elements"] = wrong;
    json["wall_s"] = wall_s;
    json["runs"] = Json::array();
    for (std::size_t run = 0; run < runs.size(); ++run) {
      json["runs"].push_back({{"wall_s", runs[run].wall}, {"cpu_s", runs[run].cpu}});
      if (!alone.empty()) json["runs"].back()["alone_cpu_s"] = alone[run].cpu;
    }
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("C[{}, {}] = A[{}, {}] x B[{}, {}], {}, on {}\n", options.m, options.n, options.m, options.k, options.k,
               options.n, options.precision, options.chip.config);
    fmt::print("  {:<34}{:>16}\n", "cycles of the launch", grouped(report.launch_cycles));
    fmt::print("  {:<34}{:>16}\n", "multiply-accumulates", grouped(report.macs));
    fmt::print("  {:<34}{:>14.2f} %\n", "MAC utilisation", 100 * report.mac_utilisation);
    fmt::print("  {:<34}{:>16.3f}\n", "simulated TFLOP/s", 2e-6 * static_cast<double>(report.macs) / report.launch_us);
    fmt::print("  {:<34}{:>16.3f}\n", "energy, uJ", microjoules(report.energy.total().value));
    fmt::print("  {:<34}{:>16.3f}\n", "effective TOPS/W", tera_operations_per_joule(report));
    fmt::print("  {:<34}{:>16.1f}\n", "simulator, MMAC per wall second",
               1e-6 * static_cast<double>(report.macs) / wall_s);
    fmt::print("  {:<34}{:>16}\n", "elements that differ", wrong);
  }
  return wrong == 0 ? kDone : kCheckFailed;
}

// ---- cx bench tile ----

/// One run of this program with other arguments; its standard output. Throws Error with what it printed if it fails.
std::string run_self(const std::vector<std::string> &arguments) {
  std::string command = "/proc/self/exe";
  std::vector<char> path(4096);
  const ssize_t length = readlink(command.c_str(), path.data(), path.size() - 1);
  if (length > 0) command.assign(path.data(), static_cast<std::size_t>(length));
  std::string line = "'" + command + "'";
  for (const std::string &argument : arguments) line += " '" + argument + "'";
  line += " 2>&1";
  FILE *pipe = popen(line.c_str(), "r");
  if (pipe == nullptr) throw Error("cannot start another " + command);
  std::string text;
  char buffer[4096];
  for (std::size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, got);
  if (pclose(pipe) != 0) throw Error(text);
  return text;
}

struct TileRun {
  std::vector<double> mmac_s;        ///< per second of the processor; of several tiles, on the wall
  std::vector<double> alone_mmac_s;  ///< of the paired runs of the tile alone
  uint64_t cycles = 0;
  std::vector<char> result;

  double ratio() const {
    std::vector<double> ratios;
    for (std::size_t run = 0; run < mmac_s.size(); ++run) ratios.push_back(mmac_s[run] / alone_mmac_s[run]);
    return median(ratios);
  }
};

struct TileWork {
  int64_t m, n, k;
};

/// The tile shall not wait for the scratchpad: its speed is what is measured.
constexpr const char *kWidePort = "spm.bytes_per_cycle=1024";

/// The product in a process of its own (a process simulates one chip). `beside`: arguments for paired runs of the tile
/// alone.
TileRun run_in_chip(const TileOptions &options, const std::string &precision, const TileWork &work, uint32_t tiles,
                    const std::string &rtl_tiles, const std::vector<std::string> &beside = {}) {
  const std::string file =
      fmt::format("{}/cx-bench-tile-{}.bin", std::filesystem::temp_directory_path().string(), getpid());
  std::vector<std::string> arguments = {"bench",
                                        "gemm",
                                        "--json",
                                        "--precision",
                                        precision,
                                        "--output",
                                        file,
                                        "--runs",
                                        std::to_string(options.runs),
                                        "--config",
                                        options.chip.path().string()};
  for (const auto &[name, value] : {std::pair{"-m", work.m}, std::pair{"-n", work.n}, std::pair{"-k", work.k}}) {
    arguments.insert(arguments.end(), {name, std::to_string(value)});
  }
  for (const std::string &set : options.chip.sets) arguments.insert(arguments.end(), {"--set", set});
  arguments.insert(arguments.end(), {"--set", fmt::format("dmmu.tiles={}", tiles), "--set",
                                     "dmmu.rtl_tiles=" + rtl_tiles, "--set", kWidePort});
  arguments.insert(arguments.end(), beside.begin(), beside.end());
  const auto json = nlohmann::json::parse(run_self(arguments));
  TileRun run;
  const double mmac = 1e-6 * json.at("macs").get<double>();
  for (const auto &one : json.at("runs")) {
    run.mmac_s.push_back(mmac / one.at(tiles == 1 ? "cpu_s" : "wall_s").get<double>());
    if (!beside.empty()) run.alone_mmac_s.push_back(mmac / one.at("alone_cpu_s").get<double>());
  }
  run.cycles = json.at("cycles");
  std::ifstream stream(file, std::ios::binary);
  run.result.assign(std::istreambuf_iterator<char>(stream), {});
  std::filesystem::remove(file);
  return run;
}

uint64_t words_that_differ(const std::vector<char> &a, const std::vector<char> &b) {
  uint64_t differ = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i + 4 <= std::min(a.size(), b.size()); i += 4) {
    differ += std::memcmp(&a[i], &b[i], 4) != 0 ? 1 : 0;
  }
  return differ;
}

int tile(const TileOptions &options) {
  static const std::vector<std::pair<std::string, std::string>> kFormats = {
      {"FP32", "fp32"},         {"FP16", "fp16"},         {"BF16", "bf16"},
      {"FP8_E4M3", "fp8_e4m3"}, {"FP8_E5M2", "fp8_e5m2"}, {"INT8", "int8"}};
  const auto target = nlohmann::json::parse([&] {
    std::vector<std::string> arguments = {"info", "--json", "--config", options.chip.path().string()};
    for (const std::string &set : options.chip.sets) arguments.insert(arguments.end(), {"--set", set});
    return run_self(arguments);
  }());
  const int64_t rows = target.at("tile_rows"), cols = target.at("tile_cols"), acc_rows = target.at("tile_acc_rows");
  const int64_t pack = target.at("tile_pack");

  Json result_rows = Json::array();
  uint64_t differences = 0;
  if (!options.json) {
    fmt::print(
        "One {} x {} tile of {}, products of m x k by k x {}. MMAC per second of the processor (two tiles: on the "
        "wall), median of {} runs:\n",
        rows, cols, options.chip.config, cols, options.runs);
    fmt::print("  {:<10}{:>10}{:>12}{:>12}{:>12}{:>14}{:>8}{:>8}\n", "format", "model", "RTL in chip", "RTL alone",
               "chip/alone", "2 RTL tiles", "bits", "cycles");
  }
  for (const auto &[format, precision] : kFormats) {
    const bool chosen = options.formats.empty() ||
                        std::find(options.formats.begin(), options.formats.end(), format) != options.formats.end();
    if (!chosen) continue;
    progress(fmt::format("bench tile: {}", format));
    const int64_t longest_k = rows * (precision.find("8") != std::string::npos ? pack : 1);
    // As many rows as make a run of the wanted length, found with a short one. A pass fills half of the accumulators.
    const int64_t pass_rows = std::max<int64_t>(1, acc_rows / 2);
    TileWork work{pass_rows, cols, longest_k * kFolds};
    uint64_t macs = 0;
    const Seconds trial = run_alone(options.chip, format, 2 * pass_rows, pass_rows, macs);
    const double blocks = options.seconds / std::max(1e-6, trial.cpu / 2);
    work.m = pass_rows * std::clamp<int64_t>(static_cast<int64_t>(blocks), 4, 65535 / pass_rows);
    const TileRun model = run_in_chip(options, precision, work, 1, "none");
    const TileRun rtl = run_in_chip(options, precision, work, 1, "all",
                                    {"--beside", format, "--beside-rows", std::to_string(pass_rows)});
    const TileRun two = run_in_chip(options, precision, work, 2, "all");
    const double model_mmac_s = median(model.mmac_s), rtl_mmac_s = median(rtl.mmac_s), alone = median(rtl.alone_mmac_s),
                 two_mmac_s = median(two.mmac_s);
    const uint64_t bits = words_that_differ(model.result, rtl.result);
    const uint64_t cycles = model.cycles > rtl.cycles ? model.cycles - rtl.cycles : rtl.cycles - model.cycles;
    differences += bits + cycles;
    result_rows.push_back({{"format", format},
                           {"m", work.m},
                           {"n", work.n},
                           {"k", work.k},
                           {"model_mmac_s", model_mmac_s},
                           {"rtl_mmac_s", rtl_mmac_s},
                           {"rtl_alone_mmac_s", alone},
                           {"rtl_to_alone", rtl.ratio()},
                           {"rtl_two_tiles_mmac_s", two_mmac_s},
                           {"bit_differences", bits},
                           {"cycle_differences", cycles}});
    if (!options.json) {
      fmt::print("  {:<10}{:>10.0f}{:>12.1f}{:>12.1f}{:>12.2f}{:>14.1f}{:>8}{:>8}\n", format, model_mmac_s, rtl_mmac_s,
                 alone, rtl.ratio(), two_mmac_s, bits, cycles);
    }
  }
  if (result_rows.empty()) throw UsageError("--format: FP32, FP16, BF16, FP8_E4M3, FP8_E5M2 or INT8");
  if (options.json) {
    fmt::print("{}\n", Json{{"tile", {{"rows", rows}, {"cols", cols}, {"acc_rows", acc_rows}, {"pack", pack}}},
                            {"rows", result_rows}}
                           .dump(2));
  } else {
    fmt::print(
        "chip/alone: median over pairs of runs, one after the other in one process; each pair does the same work\n");
    fmt::print("bits: words of the result that differ from the model's; cycles: difference of the launch\n");
  }
  return differences == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_bench(CLI::App &app, Invocation &invocation) {
  CLI::App *command = app.add_subcommand("bench", "Small workloads with known cost");
  command->require_subcommand(1);
  auto options = std::make_shared<GemmOptions>();
  CLI::App *product =
      command->add_subcommand("gemm", "Matrix product of seeded small integers on the DMMU, checked exactly");
  product->add_option("-m,--m", options->m, "Rows of A")->check(CLI::Range(1, 65536))->capture_default_str();
  product->add_option("-n,--n", options->n, "Columns of B")->check(CLI::Range(1, 65536))->capture_default_str();
  product->add_option("-k,--k", options->k, "Columns of A")->check(CLI::Range(1, 65536))->capture_default_str();
  product->add_option("--output", options->output, "Raw FP32 result to a file; operands are then reals in [-1, 1)");
  product->add_option("--runs", options->runs, "Runs, of which the fastest counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  product->add_option("--beside", options->beside, "")->group("");
  product->add_option("--beside-rows", options->beside_rows, "")->check(CLI::Range(1, 65535))->group("");
  options->add_to(*product);
  auto tile_options = std::make_shared<TileOptions>();
  tile_options->chip.config = "tiny";
  CLI::App *speed = command->add_subcommand(
      "tile", "Speed of a MAC tile as model, as RTL in the chip and as RTL alone, and whether bits and cycles agree");
  speed->add_flag("--all", tile_options->all, "Every format (the default)");
  speed->add_option("--format", tile_options->formats, "FP32, FP16, BF16, FP8_E4M3, FP8_E5M2, INT8; may be repeated")
      ->excludes("--all");
  speed->add_option("--runs", tile_options->runs, "Runs of each, of which the median counts")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  speed->add_option("--seconds", tile_options->seconds, "About how long an RTL run shall take")
      ->check(CLI::Range(0.001, 100.0))
      ->capture_default_str();
  tile_options->chip.add_to(*speed);
  speed->add_flag("--json", tile_options->json, "JSON instead of a table");
  speed->callback([tile_options, &invocation] { invocation.action = [tile_options] { return tile(*tile_options); }; });

  add_bench_claims(*command, invocation);
  add_bench_layers(*command, invocation);
  add_bench_operators(*command, invocation);
  add_bench_spmm(*command, invocation);
  add_bench_sparse(*command, invocation);

  product->callback([options, &invocation] { invocation.action = [options] { return gemm(*options); }; });
}

}  // namespace cx::tools
