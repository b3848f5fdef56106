// cx bench spmm: a sparse matrix by a dense one, on the sparse and on the dense unit of one card.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/include/cx/error.hpp"
#include "driver/tools/bench.hpp"
#include "driver/tools/bench_product.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/sca_report.hpp"
#include "driver/tools/smtx.hpp"
#include "driver/tools/timed_product.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct SpmmOptions : BenchOptions {
  std::string matrix;
  int64_t n = 128;
};

/// The transposed matrix with seeded values: the weights [columns][rows] of the product.
std::vector<float> weights_of(const SparsePattern &pattern, std::mt19937_64 &random) {
  constexpr float kValues[] = {-2, -1, 1, 2};
  std::vector<float> weights(static_cast<std::size_t>(pattern.rows * pattern.columns), 0.0F);
  for (int64_t row = 0; row < pattern.rows; ++row) {
    const auto begin = static_cast<std::size_t>(pattern.offsets[static_cast<std::size_t>(row)]);
    const auto end = static_cast<std::size_t>(pattern.offsets[static_cast<std::size_t>(row) + 1]);
    for (std::size_t i = begin; i < end; ++i) {
      weights[static_cast<std::size_t>(pattern.indices[i] * pattern.rows + row)] = kValues[random() % 4];
    }
  }
  return weights;
}

compiler::CompileOptions compile_options(const SpmmOptions &options, compiler::ScaUse use) {
  compiler::CompileOptions result;
  result.precision = compiler::precision_from(options.precision);
  // INT8 maps 127 to itself, FP8 has factors of two: small integers stay what they are.
  result.ranges["a"] = 127;
  result.constant_range = 127;
  result.sca.use = use;
  return result;
}

int spmm(const SpmmOptions &options) {
  const SparsePattern pattern = load_smtx(options.matrix);
  if (pattern.columns > longest_exact_k(options.precision)) {
    throw InputError(fmt::format("{}: {} columns; at most {}, so that the result is exact in {}", options.matrix,
                                 pattern.columns, longest_exact_k(options.precision), options.precision));
  }
  std::mt19937_64 random(options.seed);
  const ProductShape shape{options.n, pattern.rows, pattern.columns};
  const std::vector<float> weights = weights_of(pattern, random);
  const std::vector<float> a = small_integers(static_cast<std::size_t>(shape.m * shape.k), random);
  const HostTensor input{"a", "float32", {shape.m, shape.k}, raw(a)};
  const std::unique_ptr<Device> device = options.chip.open();
  if (device->target().sca_tiles == 0) throw InputError(options.chip.name() + " has no sparse accelerator");
  const compiler::Graph graph = product_graph("spmm", shape, weights);
  progress("spmm: sparse unit");
  const TimedRun sparse = timed_run(*device, graph, compile_options(options, compiler::ScaUse::always), input);
  const compiler::ProductChoice &choice = sparse.statistics.details.at(0).product;
  if (choice.engine != "sca") {
    throw InputError("the sparse accelerator cannot multiply in " + options.precision + ": " + choice.reason);
  }
  progress("spmm: dense unit");
  const TimedRun dense = timed_run(*device, graph, compile_options(options, compiler::ScaUse::never), input);
  const uint64_t wrong = wrong_elements(shape, a, weights, sparse.outputs.at(0), shape.m) +
                         wrong_elements(shape, a, weights, dense.outputs.at(0), shape.m);
  const double speedup =
      static_cast<double>(dense.report.launch_cycles) / static_cast<double>(sparse.report.launch_cycles);

  if (options.json) {
    Json json = {{"matrix", std::filesystem::path(options.matrix).filename()},
                 {"rows", pattern.rows},
                 {"columns", pattern.columns},
                 {"nonzeros", pattern.nonzeros()},
                 {"sparsity", pattern.sparsity()},
                 {"n", options.n},
                 {"precision", options.precision},
                 {"config", options.chip.name()},
                 {"seed", options.seed},
                 {"wrong_elements", wrong},
                 {"cycles", sparse.report.launch_cycles},
                 {"dense_cycles", dense.report.launch_cycles},
                 {"work_cycles", sparse.profile.work_cycles},
                 {"dense_work_cycles", dense.profile.work_cycles},
                 {"speedup", speedup},
                 {"dram_bytes", sparse.report.counters.dram_read + sparse.report.counters.dram_written},
                 {"dense_dram_bytes", dense.report.counters.dram_read + dense.report.counters.dram_written}};
    json["sca"] = sca_json(sparse.statistics);
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}: {} x {}, {} non-zeros ({:.1f} % zeros), by {} columns, {}, on {}\n",
               std::filesystem::path(options.matrix).filename().string(), pattern.rows, pattern.columns,
               grouped(static_cast<uint64_t>(pattern.nonzeros())), 100 * pattern.sparsity(), options.n,
               options.precision, options.chip.name());
    fmt::print("  {:<34}{:>16}{:>16}\n", "", "sparse", "dense");
    const auto row = [](const std::string &name, uint64_t first, uint64_t second) {
      fmt::print("  {:<34}{:>16}{:>16}\n", name, grouped(first), grouped(second));
    };
    row("cycles of the launch", sparse.report.launch_cycles, dense.report.launch_cycles);
    row("  of which the engines' work", sparse.profile.work_cycles, dense.profile.work_cycles);
    row("multiply-accumulates", sparse.report.macs - choice.macs_skipped, dense.report.macs);
    row("bytes of weights", choice.stream_bytes, choice.dense_bytes);
    row("DRAM bytes", sparse.report.counters.dram_read + sparse.report.counters.dram_written,
        dense.report.counters.dram_read + dense.report.counters.dram_written);
    fmt::print("  {:<34}{:>16}\n", "weights as", choice.format);
    fmt::print("  {:<34}{:>16}\n", "skipped", grouped(choice.macs_skipped));
    fmt::print("  {:<34}{:>16.2f}\n", "speedup of the launch", speedup);
    fmt::print("  {:<34}{:>16}\n", "elements that differ", wrong);
  }
  return wrong == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_bench_spmm(CLI::App &bench, Invocation &invocation) {
  auto options = std::make_shared<SpmmOptions>();
  CLI::App *command = bench.add_subcommand(
      "spmm", "A sparse matrix (.smtx) of seeded small integers by a dense one, sparse and dense, checked exactly");
  command->add_option("--matrix", options->matrix, "Pattern of non-zeros, a .smtx file")->required();
  command->add_option("--n", options->n, "Columns of the dense matrix")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  options->add_to(*command, kSparsePrecisions, false);
  command->callback([options, &invocation] { invocation.action = [options] { return spmm(*options); }; });
}

}  // namespace cx::tools
