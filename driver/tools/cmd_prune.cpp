// cx prune: zeroes weights of a model in a pattern that the hardware can skip, or checks that they are.
#include <fmt/core.h>

#include <fstream>
#include <limits>

#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/prune.hpp"

namespace cx::tools {
namespace {

struct PruneOptions {
  std::string model, pattern, check, method = "magnitude", layers, output;
  bool json = false;
};

std::optional<std::regex> expression(const std::string &text) {
  if (text.empty()) return std::nullopt;
  try {
    return std::regex(text);
  } catch (const std::regex_error &error) {
    throw UsageError("--layers '" + text + "' is no regular expression: " + error.what());
  }
}

void save_model(const onnx::ModelProto &model, const std::string &path) {
  if (model.ByteSizeLong() >= static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw InputError(path + ": the model would be larger than the 2 GiB that an ONNX file may have");
  }
  std::ofstream file(path, std::ios::binary);
  if (!model.SerializeToOstream(&file) || !file.flush()) throw InputError(path + ": cannot be written");
}

int prune_command(const PruneOptions &options) {
  if (options.pattern.empty() == options.check.empty()) throw UsageError("cx prune needs --pattern or --check");
  if (options.check.empty() && options.output.empty()) throw UsageError("cx prune --pattern needs -o OUT.onnx");
  if (!options.check.empty() && !options.output.empty()) throw UsageError("cx prune --check writes no model: no -o");
  const PrunePattern pattern = PrunePattern::parse(options.check.empty() ? options.pattern : options.check);
  const auto layers = expression(options.layers);
  const std::filesystem::path folder = std::filesystem::path(options.model).parent_path();
  onnx::ModelProto model = compiler::read_model(options.model);
  const PruneReport report =
      options.check.empty() ? prune(model, folder, pattern, layers) : check_pattern(model, folder, pattern, layers);
  if (!options.layers.empty() && report.layers.empty()) {
    throw UsageError("--layers '" + options.layers + "' matches no Conv, Gemm or MatMul of " + options.model);
  }
  if (options.check.empty()) save_model(model, options.output);
  fmt::print("{}", options.json ? prune_json(report).dump(2) + "\n" : prune_table(report));
  if (report.violations() == 0) return kDone;
  for (const WeightLayer &layer : report.layers) {
    if (!layer.violation.empty()) fmt::print(stderr, "cx: {}: {}: {}\n", options.model, layer.name, layer.violation);
  }
  return kCheckFailed;
}

}  // namespace

void add_prune(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<PruneOptions>();
  CLI::App *command = app.add_subcommand(
      "prune", "Zero weights of Conv, Gemm and MatMul in a pattern, or check that they are zero in it");
  command->add_option("model", options->model, "ONNX file")->required();
  command->add_option("--pattern", options->pattern,
                      "unstructured:S, N:M along K, or block:HxW:S (H along K, W along N); S is the share of zeros");
  command->add_option("--check", options->check, "Write nothing; fail if weights violate this pattern");
  command->add_option("--method", options->method, "What goes first: magnitude")
      ->check(CLI::IsMember({"magnitude"}))
      ->capture_default_str();
  command->add_option("--layers", options->layers, "Regular expression of node names; default: all");
  command->add_option("-o,--output", options->output, "ONNX file to write");
  command->add_flag("--json", options->json, "Print JSON instead of the table");
  command->callback([options, &invocation] { invocation.action = [options] { return prune_command(*options); }; });
}

}  // namespace cx::tools
