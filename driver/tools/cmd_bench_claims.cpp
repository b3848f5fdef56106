// cx bench claims-basic: what the dense unit of a chip does at most, beside what products that run on it get.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/device_tensor.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/bench.hpp"
#include "driver/tools/bench_product.hpp"
#include "driver/tools/layer_program.hpp"
#include "driver/tools/peak.hpp"
#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct ClaimsOptions {
  ChipOptions chip;
  int64_t m = 0, n = 0, k = 0;  ///< 0: by the size of the chip
  uint64_t seed = 1;
  bool json = false;
};

/// At full rate a product of equal sides takes about this many cycles, so that its ends do not count, and needs a third
/// of the time to move its operands and its result.
constexpr double kCycles = 500'000, kRatio = 3;
constexpr int64_t kSmallStep = 128, kLargeStep = 1024, kLongest = 8192;

int64_t equal_side(const Target &target) {
  const double elements = static_cast<double>(target.tiles) * target.tile_rows * target.tile_cols;
  const double bytes_per_cycle = 1e3 * target.dram_mbps / target.clock_khz;
  constexpr double kTensors = 3, kBytes = 2;
  const double side = std::max(std::cbrt(elements * kCycles), kRatio * kTensors * kBytes * elements / bytes_per_cycle);
  const int64_t step = side < kLargeStep ? kSmallStep : kLargeStep;
  return std::clamp(std::lround(side / static_cast<double>(step)) * step, step, kLongest);
}

/// One product of a tile with nothing before it: weights in, a tile's rows of activations, results out.
struct TileProduct {
  Layer layer;
  uint64_t cycles = 0;        ///< from the first command until the last result is in the scratchpad
  uint64_t array_cycles = 0;  ///< of these, in which weights enter the array or an element multiplies
};

std::optional<TileProduct> measure_tile(Device &device) {
  const Target &target = device.target();
  if ((target.formats >> static_cast<unsigned>(isa::DType::FP16) & 1U) == 0) return std::nullopt;
  TileProduct product;
  product.layer.name = "tile";
  product.layer.m = std::min(target.tile_rows, target.tile_acc_rows);
  product.layer.n = target.tile_cols;
  product.layer.k = target.tile_rows;
  Executable executable(device, layer_program(product.layer, target, Operands::at_hand));
  executable.run({});
  const Counters &counters = executable.report().counters;
  product.cycles = counters.engines[2].busy_cycles;
  product.array_cycles = counters.array_cycles;
  return product;
}

struct Measured {
  std::string precision;
  double peak_tops = 0, tops = 0;
  Estimate peak_watts;
  RunReport report;
};

/// 10^12 operations a joule of a run, with the range in which the energy table sees it.
Estimate tops_per_watt_of(const RunReport &report) {
  const EnergyAmount energy = report.energy.total();
  const auto rate = [&](uint64_t femtojoules) {
    return femtojoules == 0 ? 0 : 2e3 * static_cast<double>(report.macs) / static_cast<double>(femtojoules);
  };
  return {rate(energy.value), rate(energy.most), rate(energy.least)};
}

/// The product with operands and result in device memory: nothing but the launch is measured. Tensors are 16-bit, FP32
/// for FP32; 8-bit formats are made of them on the chip, as in any model.
Measured measure(Device &device, const Die &die, isa::DType format, const ProductShape &shape,
                 const std::vector<float> &weights) {
  Measured result;
  result.precision = isa::to_string(format);
  std::transform(result.precision.begin(), result.precision.end(), result.precision.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  result.peak_tops = peak_tops(device.target(), format);
  result.peak_watts = die.full_rate[static_cast<unsigned>(format)];
  compiler::CompileOptions options;
  options.precision = compiler::precision_from(result.precision);
  options.ranges["a"] = 127;
  options.constant_range = 127;
  options.sca.use = compiler::ScaUse::never;
  compiler::Graph graph = product_graph("claim", shape, weights);
  const compiler::Type type = format == isa::DType::FP32   ? compiler::Type::F32
                              : format == isa::DType::BF16 ? compiler::Type::BF16
                                                           : compiler::Type::F16;
  graph[graph.inputs[0]].type = graph[graph.outputs[0]].type = type;
  Executable executable(device, compiler::compile(graph, device.target(), options),
                        {.device_bound = {"a", "c"}, .timing_only = true});
  executable.bind_input("a", DeviceTensor::allocate(device, compiler::name_of(type), {shape.m, shape.k}));
  executable.bind_output("c", DeviceTensor::allocate(device, compiler::name_of(type), {shape.m, shape.n}));
  executable.run({}, {});
  result.report = executable.report();
  if (!result.report.timing_only) throw Error("a product whose time depends on data: " + result.report.timing_obstacle);
  result.tops = 2e-6 * static_cast<double>(result.report.macs) / result.report.launch_us;
  return result;
}

Json estimate_json(const Estimate &e) { return {{"value", e.value}, {"least", e.least}, {"most", e.most}}; }

int claims(const ClaimsOptions &options) {
  const std::unique_ptr<Device> device = options.chip.open();
  const Target &target = device->target();
  const Die die = device->die();
  const int64_t side = equal_side(target);
  const auto given = [&](int64_t size) { return size != 0 ? size : side; };
  const ProductShape shape{given(options.m), given(options.n), given(options.k)};
  std::mt19937_64 random(options.seed);
  const std::vector<float> weights = small_integers(static_cast<std::size_t>(shape.k * shape.n), random);

  const std::optional<TileProduct> tile = measure_tile(*device);
  const double ns_per_cycle = 1e6 / target.clock_khz;
  Json tile_json;
  if (tile) {
    tile_json = {{"format", "FP16"},
                 {"m", tile->layer.m},
                 {"n", tile->layer.n},
                 {"k", tile->layer.k},
                 {"cycles", tile->cycles},
                 {"array_cycles", tile->array_cycles},
                 {"ns", ns_per_cycle * static_cast<double>(tile->cycles)}};
  }
  if (!options.json) {
    fmt::print("{}: {} tiles of {} x {} at {:.0f} MHz\n", options.chip.name(), target.tiles, target.tile_rows,
               target.tile_cols, target.clock_khz * 1e-3);
    if (tile) {
      fmt::print(
          "FP16 tile, {} x {} by {} x {}: {} cycles, {:.1f} ns, from the first command to the last result in the "
          "scratchpad; the array works in {} of them\n",
          tile->layer.m, tile->layer.k, tile->layer.k, tile->layer.n, tile->cycles,
          ns_per_cycle * static_cast<double>(tile->cycles), tile->array_cycles);
    } else {
      fmt::print("FP16 tile: the DMMU does not multiply FP16\n");
    }
    fmt::print("\nproduct of {} x {} by {} x {}, operands and result in device memory\n", shape.m, shape.k, shape.k,
               shape.n);
    fmt::print("  {:<10}{:>10}{:>10}{:>9}{:>12}  {:^28}  {:^28}\n", "format", "peak TOPS", "measured", "of peak", "us",
               "TOPS/W at full rate (range)", "measured (range)");
  }
  Json rows = Json::array();
  for (const isa::DType format : formats_of(target)) {
    progress(fmt::format("bench claims-basic: {}", isa::to_string(format)));
    const Measured one = measure(*device, die, format, shape, weights);
    const Estimate peak_rate = tops_per_watt(one.peak_tops, one.peak_watts), rate = tops_per_watt_of(one.report);
    const EnergyAmount energy = one.report.energy.total();
    rows.push_back({{"format", isa::to_string(format)},
                    {"precision", one.precision},
                    {"m", shape.m},
                    {"n", shape.n},
                    {"k", shape.k},
                    {"macs", one.report.macs},
                    {"peak_tops", one.peak_tops},
                    {"tops", one.tops},
                    {"of_peak", one.tops / one.peak_tops},
                    {"launch_us", one.report.launch_us},
                    {"launch_cycles", one.report.launch_cycles},
                    {"peak_watts", estimate_json(one.peak_watts)},
                    {"peak_tops_per_w", estimate_json(peak_rate)},
                    {"tops_per_w", estimate_json(rate)},
                    {"energy_uj", microjoules(energy.value)},
                    {"energy_least_uj", microjoules(energy.least)},
                    {"energy_most_uj", microjoules(energy.most)}});
    if (options.json) continue;
    const auto ranged = [](const Estimate &e) {
      return fmt::format("{:.2f} ({:.2f} to {:.2f})", e.value, e.least, e.most);
    };
    fmt::print("  {:<10}{:>10.2f}{:>10.2f}{:>7.1f} %{:>12.2f}  {:^28}  {:^28}\n", isa::to_string(format), one.peak_tops,
               one.tops, 100 * one.tops / one.peak_tops, one.report.launch_us, ranged(peak_rate), ranged(rate));
  }
  if (options.json) {
    Json json = {{"config", options.chip.name()},
                 {"clock_mhz", target.clock_khz * 1e-3},
                 {"tiles", target.tiles},
                 {"tile_rows", target.tile_rows},
                 {"tile_cols", target.tile_cols},
                 {"tile_pack", target.tile_pack},
                 {"tile", tile_json},
                 {"formats", rows},
                 {"not_modelled", energy_not_modelled()}};
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print(
        "\npeak: every element multiplies in every cycle, without DRAM traffic and drains; measured: the launch, with "
        "all of the card's energy from its doorbell to its interrupt. Ranges are those of the energy table.\n");
  }
  return kDone;
}

}  // namespace

void add_bench_claims(CLI::App &bench, Invocation &invocation) {
  auto options = std::make_shared<ClaimsOptions>();
  CLI::App *command = bench.add_subcommand(
      "claims-basic",
      "Latency of an FP16 tile product, and TOPS and TOPS/W of each format: the peak beside a product that runs on the "
      "chip (timing only)");
  for (const auto &[name, size, text] : {std::tuple{"-m,--m", &options->m, "Rows of the product"},
                                         std::tuple{"-n,--n", &options->n, "Columns of the product"},
                                         std::tuple{"-k,--k", &options->k, "Length of its sums"}}) {
    command->add_option(name, *size, std::string(text) + "; without it by the size of the chip")
        ->check(CLI::Range(1, 65536));
  }
  command->add_option("--seed", options->seed, "Seed of the weights")->capture_default_str();
  options->chip.add_to(*command);
  command->add_flag("--json", options->json, "JSON instead of a table");
  command->callback([options, &invocation] { invocation.action = [options] { return claims(*options); }; });
}

}  // namespace cx::tools
