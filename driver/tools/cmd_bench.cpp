// cx bench: small workloads with known cost.
#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct GemmOptions {
  ChipOptions chip;
  int64_t m = 512, n = 512, k = 512;
  std::string precision = "fp16";
  uint64_t seed = 1;
  bool json = false;
};

/// Small integers: sums of their products are exact in every precision, so that the check is exact.
std::vector<float> small_integers(std::size_t count, std::mt19937_64 &random) {
  std::vector<float> values(count);
  for (float &value : values) value = static_cast<float>(static_cast<int>(random() % 5) - 2);
  return values;
}

std::vector<std::byte> raw(const std::vector<float> &values) {
  const auto *bytes = reinterpret_cast<const std::byte *>(values.data());
  return {bytes, bytes + values.size() * sizeof(float)};
}

compiler::Graph product_graph(const GemmOptions &options, const std::vector<float> &weights) {
  compiler::Graph graph;
  graph.name = fmt::format("gemm_{}x{}x{}", options.m, options.n, options.k);
  compiler::Tensor a, b, c;
  a.name = "a";
  a.shape = {options.m, options.k};
  b.name = "b";
  b.shape = {options.k, options.n};
  b.data = raw(weights);
  c.name = "c";
  c.shape = {options.m, options.n};
  graph.inputs = {graph.add(std::move(a))};
  const compiler::TensorId weight = graph.add(std::move(b));
  graph.outputs = {graph.add(std::move(c))};
  compiler::Node node;
  node.name = "gemm";
  node.op = "MatMul";
  node.inputs = {graph.inputs[0], weight};
  node.outputs = graph.outputs;
  graph.nodes.push_back(std::move(node));
  return graph;
}

/// Elements of the product that differ from the exact result, over at most `rows` evenly chosen rows.
uint64_t wrong_elements(const GemmOptions &options, const std::vector<float> &a, const std::vector<float> &b,
                        const HostTensor &c, int64_t rows) {
  const auto *actual = reinterpret_cast<const float *>(c.bytes.data());
  uint64_t wrong = 0;
  const int64_t step = std::max<int64_t>(1, options.m / rows);
  std::vector<double> line(options.n);
  for (int64_t i = 0; i < options.m; i += step) {
    std::fill(line.begin(), line.end(), 0.0);
    for (int64_t l = 0; l < options.k; ++l) {
      const double x = a[i * options.k + l];
      for (int64_t j = 0; j < options.n; ++j) line[j] += x * b[l * options.n + j];
    }
    for (int64_t j = 0; j < options.n; ++j) wrong += line[j] != actual[i * options.n + j] ? 1 : 0;
  }
  return wrong;
}

int gemm(const GemmOptions &options) {
  std::mt19937_64 random(options.seed);
  // FP16 keeps integers up to 2048, BF16 up to 256: the magnitudes of random-sign sums stay below with a wide margin
  // only for a short k.
  const int64_t longest = options.precision == "bf16" ? 512 : 16384;
  if (options.k > longest) {
    throw InputError(
        fmt::format("--k {}: at most {}, so that the result is exact in {}", options.k, longest, options.precision));
  }
  const std::vector<float> a = small_integers(options.m * options.k, random);
  const std::vector<float> b = small_integers(options.k * options.n, random);
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  // INT8 maps 127 to itself, FP8 has factors of two: small integers stay what they are.
  compile_options.ranges["a"] = 127;
  compile_options.constant_range = 127;
  Executable executable(*device, compiler::compile(product_graph(options, b), device->target(), compile_options));
  const HostTensor input{"a", "float32", {options.m, options.k}, raw(a)};
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<HostTensor> outputs = executable.run({&input, 1});
  const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const RunReport &report = executable.report();
  const uint64_t wrong = wrong_elements(options, a, b, outputs.at(0), 64);

  if (options.json) {
    Json json = {
        {"m", options.m}, {"n", options.n}, {"k", options.k}, {"precision", options.precision}, {"seed", options.seed}};
    json.update(report_json(report));
    json["wrong_elements"] = wrong;
    json["wall_s"] = wall_s;
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("C[{}, {}] = A[{}, {}] x B[{}, {}], {}, on {}\n", options.m, options.n, options.m, options.k, options.k,
               options.n, options.precision, options.chip.config);
    fmt::print("  {:<34}{:>16}\n", "cycles of the launch", grouped(report.launch_cycles));
    fmt::print("  {:<34}{:>16}\n", "multiply-accumulates", grouped(report.macs));
    fmt::print("  {:<34}{:>14.2f} %\n", "MAC utilisation", 100 * report.mac_utilisation);
    fmt::print("  {:<34}{:>16.3f}\n", "simulated TFLOP/s", 2e-6 * static_cast<double>(report.macs) / report.launch_us);
    fmt::print("  {:<34}{:>16.1f}\n", "simulator, MMAC per wall second",
               1e-6 * static_cast<double>(report.macs) / wall_s);
    fmt::print("  {:<34}{:>16}\n", "elements that differ", wrong);
  }
  return wrong == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_bench(CLI::App &app, Invocation &invocation) {
  CLI::App *command = app.add_subcommand("bench", "Small workloads with known cost");
  command->require_subcommand(1);
  auto options = std::make_shared<GemmOptions>();
  CLI::App *product = command->add_subcommand("gemm", "Matrix product of seeded small integers, checked exactly");
  product->add_option("-m,--m", options->m, "Rows of A")->check(CLI::Range(1, 65536))->capture_default_str();
  product->add_option("-n,--n", options->n, "Columns of B")->check(CLI::Range(1, 65536))->capture_default_str();
  product->add_option("-k,--k", options->k, "Columns of A")->check(CLI::Range(1, 65536))->capture_default_str();
  product->add_option("--precision", options->precision, compiler::precision_names())->capture_default_str();
  product->add_option("--seed", options->seed, "Seed of the values")->capture_default_str();
  options->chip.add_to(*product);
  product->add_flag("--json", options->json, "JSON instead of a table");
  product->callback([options, &invocation] { invocation.action = [options] { return gemm(*options); }; });
}

}  // namespace cx::tools
