// cx bench sparse: how much faster than dense the sparse unit is, by share and pattern of zeros.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/tools/bench.hpp"
#include "driver/tools/bench_product.hpp"
#include "driver/tools/plot.hpp"
#include "driver/tools/prune.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/timed_product.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct SweepOptions : BenchOptions {
  std::string svg;
  std::vector<std::string> patterns;
  int64_t m = 2048, k = 1024;
};

/// Layers of the chain; the first and the last also move inputs and results and do not count.
constexpr int64_t kLayers = 4;

const std::vector<std::string> &default_patterns() {
  static const std::vector<std::string> patterns = {"unstructured:0",
                                                    "unstructured:0.1",
                                                    "unstructured:0.2",
                                                    "unstructured:0.3",
                                                    "unstructured:0.4",
                                                    "unstructured:0.5",
                                                    "unstructured:0.6",
                                                    "unstructured:0.7",
                                                    "unstructured:0.8",
                                                    "unstructured:0.9",
                                                    "unstructured:0.95",
                                                    "2:4",
                                                    "1:4",
                                                    "1:8",
                                                    "block:16x16:0.5",
                                                    "block:16x16:0.75",
                                                    "block:32x32:0.75",
                                                    "block:4x4:0.75"};
  return patterns;
}

/// x times a k x k matrix, `kLayers` times one after the other.
compiler::Graph chain(const SweepOptions &options, const std::vector<float> &weights) {
  compiler::Graph graph;
  graph.name = "chain";
  graph.inputs = {add_tensor(graph, "x0", {options.m, options.k})};
  const compiler::TensorId w = add_tensor(graph, "weights", {options.k, options.k}, &weights);
  compiler::TensorId x = graph.inputs[0];
  for (int64_t layer = 1; layer <= kLayers; ++layer) {
    const compiler::TensorId y = add_tensor(graph, fmt::format("x{}", layer), {options.m, options.k});
    add_node(graph, fmt::format("layer{}", layer), "MatMul", {x, w}, y);
    x = y;
  }
  graph.outputs = {x};
  return graph;
}

struct Measured {
  double cycles = 0;          ///< of a layer
  double microjoules = 0;     ///< of the whole run
  double tera_per_joule = 0;  ///< 10^12 operations of the dense product a joule
  std::vector<float> result;
  compiler::ProductChoice choice;
};

Measured measure(Device &device, const SweepOptions &options, const std::vector<float> &weights, compiler::ScaUse use,
                 const HostTensor &input) {
  compiler::CompileOptions how;
  how.precision = compiler::precision_from(options.precision);
  for (int64_t layer = 0; layer < kLayers; ++layer) how.ranges[fmt::format("x{}", layer)] = 4;
  how.sca.use = use;
  const TimedRun run = timed_run(device, chain(options, weights), how, input);
  Measured result;
  for (int64_t layer = 1; layer + 1 < kLayers; ++layer) {
    result.cycles += static_cast<double>(run.profile.groups.at(static_cast<std::size_t>(layer)).cycles) /
                     static_cast<double>(kLayers - 2);
  }
  result.microjoules = cx::microjoules(run.report.energy.total().value);
  result.tera_per_joule = tera_operations_per_joule(run.report);
  result.choice = run.statistics.details.at(1).product;
  result.result.resize(run.outputs.at(0).bytes.size() / sizeof(float));
  std::memcpy(result.result.data(), run.outputs[0].bytes.data(), run.outputs[0].bytes.size());
  return result;
}

/// Largest difference of two results in units of the largest magnitude.
double distance(const std::vector<float> &a, const std::vector<float> &b) {
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
    const double here = std::fabs(static_cast<double>(a[i]) - b[i]);
    difference = std::max(difference, std::isnan(here) ? INFINITY : here);
  }
  return largest == 0 ? difference : difference / largest;
}

struct Point {
  PrunePattern pattern;
  double zeros = 0;  ///< share
  Measured sparse;
  double speedup = 0;      ///< against the dense unit
  double energy = 0;       ///< of the dense unit's run by that of the sparse one
  double own_speedup = 0;  ///< against the sparse unit with weights without zeros
  double distance = 0;     ///< from the dense unit's result
  double limit() const { return 1 / (1 - zeros); }
  double ratio() const { return speedup / limit(); }
};

/// Normal values, so that magnitudes of a chain neither grow nor shrink, without the pattern's zeros.
std::vector<float> pruned(const SweepOptions &options, const PrunePattern &pattern, double &zeros) {
  std::mt19937_64 random(options.seed);
  std::normal_distribution<float> normal;
  std::vector<float> weights(static_cast<std::size_t>(options.k * options.k));
  for (float &weight : weights) {
    do {
      weight = normal(random);
    } while (std::fabs(weight) < 0.01F);  // which 8-bit formats would make zeros
  }
  prune_matrix(weights, options.k, options.k, pattern);
  zeros = static_cast<double>(std::count(weights.begin(), weights.end(), 0.0F)) / static_cast<double>(weights.size());
  double squares = 0;
  for (const float weight : weights) squares += static_cast<double>(weight) * weight;
  const auto scale = static_cast<float>(std::sqrt(static_cast<double>(options.k) / std::max(squares, 1e-9)));
  for (float &weight : weights) weight *= scale;
  return weights;
}

double tolerance_of(const std::string &precision) {
  if (precision == "fp16") return 0.01;
  return precision == "bf16" ? 0.05 : 0.2;
}

/// Share of zeros from which the sparse unit is faster, between two points of the unstructured ones; negative: never.
double crossover(const std::vector<Point> &points) {
  const Point *before = nullptr;
  for (const Point &point : points) {
    if (point.pattern.kind != PrunePattern::Kind::unstructured) continue;
    if (point.speedup > 1) {
      if (before == nullptr) return point.zeros;
      const double part = (1 - before->speedup) / (point.speedup - before->speedup);
      return before->zeros + part * (point.zeros - before->zeros);
    }
    before = &point;
  }
  return -1;
}

std::string svg_of(const SweepOptions &options, const std::vector<Point> &points) {
  Plot plot;
  plot.title = fmt::format("Speedup of the sparse unit on {}, {}", options.chip.name(), options.precision);
  plot.notes = {fmt::format("{} x {} by {} x {} in a chain; against the dense unit with as many multipliers", options.m,
                            options.k, options.k, options.k)};
  plot.x_label = "zeros, %";
  plot.y_label = "speedup";
  Series unstructured{"unstructured", {}}, structured{"n:m", {}, Series::Line::none},
      block{"blocks", {}, Series::Line::none};
  Series limit{"1 / (1 - zeros)", {}, Series::Line::straight, true};
  double most = 0;
  for (const Point &point : points) {
    Series &series = point.pattern.kind == PrunePattern::Kind::unstructured ? unstructured
                     : point.pattern.kind == PrunePattern::Kind::structured ? structured
                                                                            : block;
    series.points.emplace_back(100 * point.zeros, point.speedup);
    most = std::max(most, point.zeros);
  }
  for (int i = 0; i <= 100; ++i) limit.points.emplace_back(most * i, 1 / (1 - most * i / 100));
  plot.series = {unstructured, structured, block, limit};
  return to_svg(plot);
}

void print_json(const SweepOptions &options, const std::vector<Point> &points, const Target &target, double dense,
                double own) {
  Json rows = Json::array();
  for (const Point &point : points) {
    rows.push_back({{"pattern", point.pattern.text()},
                    {"zeros", point.zeros},
                    {"format", point.sparse.choice.format},
                    {"cycles", point.sparse.cycles},
                    {"speedup", point.speedup},
                    {"limit", point.limit()},
                    {"ratio_to_limit", point.ratio()},
                    {"speedup_to_sca_without_zeros", point.own_speedup},
                    {"energy_uj", point.sparse.microjoules},
                    {"energy_ratio", point.energy},
                    {"tops_per_watt", point.sparse.tera_per_joule},
                    {"stream_bytes", point.sparse.choice.stream_bytes},
                    {"dense_bytes", point.sparse.choice.dense_bytes},
                    {"distance", point.distance}});
  }
  const Json json = {{"config", options.chip.name()},
                     {"precision", options.precision},
                     {"m", options.m},
                     {"n", options.k},
                     {"k", options.k},
                     {"layers", kLayers},
                     {"seed", options.seed},
                     {"dense_multipliers", uint64_t{target.tiles} * target.tile_rows * target.tile_cols},
                     {"sparse_multipliers", uint64_t{target.sca_tiles} * target.sca_rows * target.sca_cols},
                     {"dense_cycles", dense},
                     {"sca_cycles_without_zeros", own},
                     {"crossover_zeros", crossover(points)},
                     {"tolerance", tolerance_of(options.precision)},
                     {"rows", rows}};
  fmt::print("{}\n", json.dump(2));
}

void print_table(const SweepOptions &options, const std::vector<Point> &points, const Target &target, double dense,
                 double own) {
  fmt::print(
      "A layer of {0} x {1} by {1} x {1} in a chain of {2} whose activations stay on the chip (weights come from "
      "DRAM), {3}, on {4}.\n",
      options.m, options.k, kLayers, options.precision, options.chip.name());
  fmt::print(
      "speedup: against dense weights on the dense unit, {} multipliers against the sparse unit's {}; {:.0f} cycles\n",
      grouped(uint64_t{target.tiles} * target.tile_rows * target.tile_cols),
      grouped(uint64_t{target.sca_tiles} * target.sca_rows * target.sca_cols), dense);
  fmt::print("to own: against weights without zeros on the sparse unit itself; {:.0f} cycles\n", own);
  fmt::print(
      "energy: of the dense unit's run by that of the sparse one, inputs and results included; TOPS/W count skipped "
      "products\n");
  fmt::print("  {:<20}{:>8} {:<13}{:>10}{:>9}{:>9}{:>10}{:>9}{:>9}{:>9}{:>13}\n", "pattern", "zeros", "weights as",
             "cycles", "speedup", "limit", "of limit", "to own", "energy", "TOPS/W", "KiB of dense");
  for (const Point &point : points) {
    fmt::print("  {:<20}{:>6.2f} % {:<13}{:>10.0f}{:>9.2f}{:>9.2f}{:>10.3f}{:>9.2f}{:>9.2f}{:>9.2f}{:>6.0f}{:>7.0f}\n",
               point.pattern.text(), 100 * point.zeros, point.sparse.choice.format, point.sparse.cycles, point.speedup,
               point.limit(), point.ratio(), point.own_speedup, point.energy, point.sparse.tera_per_joule,
               static_cast<double>(point.sparse.choice.stream_bytes) / 1024,
               static_cast<double>(point.sparse.choice.dense_bytes) / 1024);
  }
  const double from = crossover(points);
  const bool swept = std::any_of(points.begin(), points.end(), [](const Point &point) {
    return point.pattern.kind == PrunePattern::Kind::unstructured;
  });
  if (!swept) return;
  if (from < 0) {
    fmt::print("with unstructured zeros the sparse unit is nowhere faster\n");
  } else {
    fmt::print("the sparse unit is faster from {:.1f} % zeros on, unstructured\n", 100 * from);
  }
}

int sweep(const SweepOptions &options) {
  std::vector<PrunePattern> patterns;
  for (const std::string &text : options.patterns.empty() ? default_patterns() : options.patterns) {
    patterns.push_back(PrunePattern::parse(text));
  }
  const std::unique_ptr<Device> device = options.chip.open();
  const Target target = device->target();
  if (target.sca_tiles == 0) throw InputError(options.chip.name() + " has no sparse accelerator");
  std::mt19937_64 random(options.seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> x(static_cast<std::size_t>(options.m * options.k));
  for (float &value : x) value = uniform(random);
  const HostTensor input{"x0", "float32", {options.m, options.k}, raw(x)};

  double none = 0;
  progress("bench sparse: without zeros");
  const std::vector<float> full = pruned(options, PrunePattern::parse("unstructured:0"), none);
  const Measured own = measure(*device, options, full, compiler::ScaUse::always, input);
  if (own.choice.engine != "sca") {
    throw InputError("the sparse accelerator cannot multiply in " + options.precision + ": " + own.choice.reason);
  }
  double dense_cycles = 0;
  bool near = true;
  std::vector<Point> points;
  for (const PrunePattern &pattern : patterns) {
    progress("bench sparse: " + pattern.text());
    Point &point = points.emplace_back();
    point.pattern = pattern;
    const std::vector<float> weights = pruned(options, pattern, point.zeros);
    if (point.zeros >= 1) throw UsageError(pattern.text() + ": leaves no weight");
    // The dense unit's time does not depend on values: its runs check the results.
    const Measured dense = measure(*device, options, weights, compiler::ScaUse::never, input);
    dense_cycles = dense.cycles;
    point.sparse = measure(*device, options, weights, compiler::ScaUse::always, input);
    point.speedup = dense.cycles / point.sparse.cycles;
    point.energy = point.sparse.microjoules > 0 ? dense.microjoules / point.sparse.microjoules : 0;
    point.own_speedup = own.cycles / point.sparse.cycles;
    point.distance = distance(point.sparse.result, dense.result);
    if (!(point.distance <= tolerance_of(options.precision))) {
      near = false;
      fmt::print(stderr, "cx: {}: results differ by {:.3g} of the largest\n", pattern.text(), point.distance);
    }
  }
  if (!options.svg.empty()) {
    std::ofstream file(options.svg);
    file << svg_of(options, points);
    if (!file.flush()) throw InputError(options.svg + ": cannot be written");
  }
  if (options.json) {
    print_json(options, points, target, dense_cycles, own.cycles);
  } else {
    print_table(options, points, target, dense_cycles, own.cycles);
  }
  return near ? kDone : kCheckFailed;
}

}  // namespace

void add_bench_sparse(CLI::App &bench, Invocation &invocation) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App *command = bench.add_subcommand(
      "sparse",
      "Speedup of the sparse over the dense unit by share and pattern of zeros, and how near it is to the limit");
  command
      ->add_option("--pattern", options->patterns,
                   "unstructured:SHARE, N:M or block:HxW:SHARE; may be repeated; default: 0 to 95 % unstructured, 2:4, "
                   "1:4, 1:8, blocks")
      ->take_all()
      ->expected(1);
  command->add_option("-m,--m", options->m, "Rows of the activations")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("-k,--k", options->k, "Rows and columns of the weights")
      ->check(CLI::Range(1, 8192))
      ->capture_default_str();
  command->add_option("--svg", options->svg, "File for a plot");
  options->add_to(*command, kSparsePrecisions, false);
  command->callback([options, &invocation] { invocation.action = [options] { return sweep(*options); }; });
}

}  // namespace cx::tools
