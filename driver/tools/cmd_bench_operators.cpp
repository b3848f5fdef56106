// cx bench conv and cx bench attention: one operator of a network on the chip, checked against the host.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/bench.hpp"
#include "driver/tools/bench_product.hpp"
#include "driver/tools/report_table.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct ConvOptions : BenchOptions {
  int64_t height = 56, width = 56, channels = 64, filters = 64, kernel = 3, stride = 1, pad = 1;
};

struct AttentionOptions : BenchOptions {
  int64_t heads = 12, tokens = 128, dim = 64;
};

/// The lines of a table, or JSON, that every operator has.
void print_report(Json parameters, const std::string &title, const std::string &precision, const ChipOptions &chip,
                  const RunReport &report, bool json, const std::string &check_name, const Json &check) {
  if (json) {
    parameters["precision"] = precision;
    parameters["config"] = chip.name();
    parameters.update(report_json(report));
    parameters["wall_s"] = report.wall_s;
    fmt::print("{}\n", parameters.dump(2));
    return;
  }
  fmt::print("{}, {}, on {}\n", title, precision, chip.name());
  fmt::print("  {:<34}{:>16}\n", "cycles of the launch", grouped(report.launch_cycles));
  fmt::print("  {:<34}{:>16}\n", "multiply-accumulates", grouped(report.macs));
  fmt::print("  {:<34}{:>14.2f} %\n", "MAC utilisation", 100 * report.mac_utilisation);
  fmt::print("  {:<34}{:>16}\n", "DRAM bytes", grouped(report.counters.dram_read + report.counters.dram_written));
  fmt::print("  {:<34}{:>16.3f}\n", "energy, uJ", microjoules(report.energy.total().value));
  fmt::print("  {:<34}{:>16}\n", check_name, check.dump());
}

int conv(const ConvOptions &options) {
  const auto points = [&](int64_t size) { return (size + 2 * options.pad - options.kernel) / options.stride + 1; };
  if (std::min(options.height, options.width) + 2 * options.pad < options.kernel) {
    throw InputError(fmt::format("--kernel {}: at most {}, the image with its padding", options.kernel,
                                 std::min(options.height, options.width) + 2 * options.pad));
  }
  const int64_t depth = options.channels * options.kernel * options.kernel;
  if (depth > longest_exact_k(options.precision)) {
    throw InputError(
        fmt::format("--channels {} of a {} x {} kernel: sums of {}; at most {}, so that the result is exact "
                    "in {}",
                    options.channels, options.kernel, options.kernel, depth, longest_exact_k(options.precision),
                    options.precision));
  }
  const int64_t rows = points(options.height), columns = points(options.width);
  std::mt19937_64 random(options.seed);
  const auto count = [](int64_t elements) { return static_cast<std::size_t>(elements); };
  const std::vector<float> x = small_integers(count(options.channels * options.height * options.width), random);
  const std::vector<float> w = small_integers(count(options.filters * depth), random);

  compiler::Graph graph;
  graph.name = "conv";
  graph.inputs = {add_tensor(graph, "x", {1, options.channels, options.height, options.width})};
  const compiler::TensorId weights =
      add_tensor(graph, "w", {options.filters, options.channels, options.kernel, options.kernel}, &w);
  graph.outputs = {add_tensor(graph, "y", {1, options.filters, rows, columns})};
  using Integers = std::vector<int64_t>;
  add_node(graph, "conv", "Conv", {graph.inputs[0], weights}, graph.outputs[0],
           {{"strides", Integers{options.stride, options.stride}},
            {"pads", Integers(4, options.pad)},
            {"dilations", Integers{1, 1}},
            {"group", int64_t{1}}});
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  // INT8 maps 127 to itself, FP8 has factors of two: small integers stay what they are.
  compile_options.ranges["x"] = 127;
  compile_options.constant_range = 127;
  compile_options.sca.use = compiler::ScaUse::never;
  Executable executable(*device, compiler::compile(graph, device->target(), compile_options));
  const HostTensor input{"x", "float32", {1, options.channels, options.height, options.width}, raw(x)};
  const std::vector<HostTensor> outputs = executable.run({&input, 1});

  const auto *actual = reinterpret_cast<const float *>(outputs.at(0).bytes.data());
  uint64_t wrong = 0;
  std::vector<double> line(count(columns));
  for (int64_t f = 0; f < options.filters; ++f) {
    for (int64_t r = 0; r < rows; ++r) {
      std::fill(line.begin(), line.end(), 0.0);
      for (int64_t tap = 0; tap < depth; ++tap) {
        const int64_t c = tap / (options.kernel * options.kernel), i = tap / options.kernel % options.kernel,
                      j = tap % options.kernel, from_row = r * options.stride + i - options.pad;
        if (from_row < 0 || from_row >= options.height) continue;
        const double weight = w[count(f * depth + tap)];
        for (int64_t column = 0; column < columns; ++column) {
          const int64_t from = column * options.stride + j - options.pad;
          if (from < 0 || from >= options.width) continue;
          line[count(column)] += weight * x[count((c * options.height + from_row) * options.width + from)];
        }
      }
      for (int64_t column = 0; column < columns; ++column) {
        wrong += line[count(column)] != actual[(f * rows + r) * columns + column] ? 1 : 0;
      }
    }
  }
  print_report(
      {{"height", options.height},
       {"width", options.width},
       {"channels", options.channels},
       {"filters", options.filters},
       {"kernel", options.kernel},
       {"stride", options.stride},
       {"pad", options.pad},
       {"seed", options.seed},
       {"wrong_elements", wrong}},
      fmt::format("{} filters of {} x {} x {}, stride {}, padding {}, over {} x {}", options.filters, options.kernel,
                  options.kernel, options.channels, options.stride, options.pad, options.height, options.width),
      options.precision, options.chip, executable.report(), options.json, "elements that differ", wrong);
  return wrong == 0 ? kDone : kCheckFailed;
}

std::vector<float> uniform(int64_t count, std::mt19937_64 &random) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float &value : values) value = static_cast<float>(static_cast<int64_t>(random() >> 40) - (1 << 23)) / (1 << 23);
  return values;
}

/// softmax(q k / sqrt(dim)) v of one head, in double. k is [dim, tokens].
std::vector<double> attend(const float *q, const float *k, const float *v, int64_t tokens, int64_t dim) {
  std::vector<double> result(static_cast<std::size_t>(tokens * dim), 0.0), row(static_cast<std::size_t>(tokens));
  for (int64_t i = 0; i < tokens; ++i) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = 0; j < tokens; ++j) {
      double score = 0;
      for (int64_t d = 0; d < dim; ++d) score += static_cast<double>(q[i * dim + d]) * k[d * tokens + j];
      row[static_cast<std::size_t>(j)] = score / std::sqrt(static_cast<double>(dim));
      largest = std::max(largest, row[static_cast<std::size_t>(j)]);
    }
    for (double &score : row) sum += score = std::exp(score - largest);
    for (int64_t j = 0; j < tokens; ++j) {
      const double share = row[static_cast<std::size_t>(j)] / sum;
      for (int64_t d = 0; d < dim; ++d) result[static_cast<std::size_t>(i * dim + d)] += share * v[j * dim + d];
    }
  }
  return result;
}

int attention(const AttentionOptions &options) {
  const compiler::Precision precision = compiler::precision_from(options.precision);
  // Results are means of values in [-1, 1): a few roundings of the format's unit.
  double tolerance = 0;
  switch (precision) {
    case compiler::Precision::fp32:
      tolerance = 1e-5;
      break;
    case compiler::Precision::tf32:
    case compiler::Precision::fp16:
      tolerance = 4e-3;
      break;
    case compiler::Precision::bf16:
      tolerance = 3e-2;
      break;
    default:
      throw UsageError("--precision " + options.precision + ": attention is checked in fp32, tf32, fp16 and bf16");
  }
  std::mt19937_64 random(options.seed);
  const int64_t size = options.tokens * options.dim;
  const std::vector<float> q = uniform(options.heads * size, random), k = uniform(options.heads * size, random),
                           v = uniform(options.heads * size, random);
  compiler::Graph graph;
  graph.name = "attention";
  const compiler::Shape rows{1, options.heads, options.tokens, options.dim},
      columns{1, options.heads, options.dim, options.tokens}, square{1, options.heads, options.tokens, options.tokens};
  graph.inputs = {add_tensor(graph, "q", rows), add_tensor(graph, "k", columns), add_tensor(graph, "v", rows)};
  const compiler::TensorId factor = add_tensor(graph, "factor", {1});
  graph[factor].data = raw({1 / std::sqrt(static_cast<float>(options.dim))});
  const compiler::TensorId scaled = add_tensor(graph, "scaled", rows), scores = add_tensor(graph, "scores", square),
                           shares = add_tensor(graph, "shares", square);
  graph.outputs = {add_tensor(graph, "y", rows)};
  add_node(graph, "scale", "Binary", {graph.inputs[0], factor}, scaled, {{"func", std::string("mul")}});
  add_node(graph, "scores", "MatMul", {scaled, graph.inputs[1]}, scores);
  add_node(graph, "shares", "Softmax", {scores}, shares, {{"axis", int64_t{3}}});
  add_node(graph, "values", "MatMul", {shares, graph.inputs[2]}, graph.outputs[0]);
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = precision;
  Executable executable(*device, compiler::compile(graph, device->target(), compile_options));
  const std::vector<HostTensor> inputs = {
      {"q", "float32", rows, raw(q)}, {"k", "float32", columns, raw(k)}, {"v", "float32", rows, raw(v)}};
  const std::vector<HostTensor> outputs = executable.run(inputs);
  const auto *actual = reinterpret_cast<const float *>(outputs.at(0).bytes.data());
  double largest_error = 0;
  for (int64_t head = 0; head < options.heads; ++head) {
    const std::vector<double> expected =
        attend(&q[static_cast<std::size_t>(head * size)], &k[static_cast<std::size_t>(head * size)],
               &v[static_cast<std::size_t>(head * size)], options.tokens, options.dim);
    for (int64_t i = 0; i < size; ++i) {
      const double error = std::abs(expected[static_cast<std::size_t>(i)] - actual[head * size + i]);
      // A NaN is an error without limit.
      largest_error = error <= largest_error ? largest_error : std::isnan(error) ? HUGE_VAL : error;
    }
  }
  print_report(
      {{"heads", options.heads},
       {"tokens", options.tokens},
       {"dim", options.dim},
       {"seed", options.seed},
       {"largest_error", largest_error},
       {"tolerance", tolerance}},
      fmt::format("attention of {} heads, {} tokens, {} elements a head", options.heads, options.tokens, options.dim),
      options.precision, options.chip, executable.report(), options.json,
      fmt::format("largest error (at most {})", tolerance), largest_error);
  return largest_error <= tolerance ? kDone : kCheckFailed;
}

}  // namespace

void add_bench_operators(CLI::App &bench, Invocation &invocation) {
  const auto size = [](CLI::App *command, const char *name, int64_t &value, const char *text, int least, int most) {
    command->add_option(name, value, text)->check(CLI::Range(least, most))->capture_default_str();
  };
  auto conv_options = std::make_shared<ConvOptions>();
  CLI::App *conv_command =
      bench.add_subcommand("conv", "Convolution of seeded small integers on the DMMU, checked exactly");
  size(conv_command, "--height", conv_options->height, "Rows of the image", 1, 4096);
  size(conv_command, "--width", conv_options->width, "Columns of the image", 1, 4096);
  size(conv_command, "--channels", conv_options->channels, "Channels of the image", 1, 16384);
  size(conv_command, "--filters", conv_options->filters, "Filters", 1, 16384);
  size(conv_command, "--kernel", conv_options->kernel, "Rows and columns of a filter", 1, 64);
  size(conv_command, "--stride", conv_options->stride, "Stride", 1, 64);
  size(conv_command, "--pad", conv_options->pad, "Zeros at each side", 0, 32);
  conv_options->add_to(*conv_command);
  conv_command->callback(
      [conv_options, &invocation] { invocation.action = [conv_options] { return conv(*conv_options); }; });

  auto options = std::make_shared<AttentionOptions>();
  CLI::App *command = bench.add_subcommand(
      "attention", "Attention of seeded values (two products and a softmax), checked against the host in double");
  size(command, "--heads", options->heads, "Heads", 1, 1024);
  size(command, "--tokens", options->tokens, "Tokens: queries, and keys", 1, 16384);
  size(command, "--dim", options->dim, "Elements of a head", 1, 1024);
  options->add_to(*command);
  command->callback([options, &invocation] { invocation.action = [options] { return attention(*options); }; });
}

}  // namespace cx::tools
