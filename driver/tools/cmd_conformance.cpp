// cx conformance: every test case of an ONNX backend suite on the chip.
#include <fmt/color.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/tensor_file.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

struct ConformanceOptions {
  ChipOptions chip;
  std::string folder, precision = "fp32", filter;
  double rtol = 1e-3, atol = 1e-7;
  bool json = false;
};

struct Verdict {
  enum Kind { Pass, Fail, Unsupported } kind = Pass;
  std::string reason;
  std::string op;  ///< of an unsupported one
};

const char *name_of(Verdict::Kind kind) {
  return kind == Verdict::Pass ? "pass" : kind == Verdict::Fail ? "fail" : "unsupported";
}

std::vector<fs::path> sorted_entries(const fs::path &folder, const std::string &prefix) {
  std::vector<fs::path> found;
  for (const auto &entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && entry.path().filename().string().rfind(prefix, 0) == 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// The suites store bfloat16 tensors as their bits in uint16.
void reinterpret_bfloat16(HostTensor &tensor) {
  if (tensor.type == "uint16") tensor.type = "bfloat16";
}

Verdict run_data_set(Device &device, const fs::path &model, const fs::path &data, const ConformanceOptions &options) {
  // Asked before the data is read: a sequence or a map is not a tensor, and its file would be misread.
  const std::vector<compiler::InputInfo> infos = compiler::inspect_onnx(model);
  std::vector<HostTensor> values = load_data_set(data, "input");
  if (values.size() < infos.size()) {
    return {Verdict::Fail, fmt::format("{} of {} inputs in the data set", values.size(), infos.size()), ""};
  }
  values.resize(infos.size());
  for (std::size_t i = 0; i < infos.size(); ++i) {
    values[i].name = infos[i].name;
    if (infos[i].type == compiler::Type::BF16) reinterpret_bfloat16(values[i]);
  }
  const SplitInputs inputs = split_inputs(values);

  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  if (compiler::needs_ranges(compile_options.precision)) {
    compile_options.ranges = calibrate(device, model, {values}).ranges;
  }
  Executable executable(device, compiler::compile_onnx(model, inputs.import, device.target(), compile_options));
  const std::vector<HostTensor> outputs = executable.run(inputs.runtime);
  std::vector<HostTensor> expected = load_data_set(data, "output");
  if (outputs.size() != expected.size()) {
    return {Verdict::Fail, fmt::format("{} outputs, expected {}", outputs.size(), expected.size()), ""};
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].type == "bfloat16") reinterpret_bfloat16(expected[i]);
    const Comparison c = compare(outputs[i], expected[i], options.rtol, options.atol);
    if (!c.problem.empty()) return {Verdict::Fail, outputs[i].name + ": " + c.problem, ""};
    if (!c.passed()) {
      return {Verdict::Fail,
              fmt::format("{}: {} of {} elements differ, largest difference {:.3g}", outputs[i].name, c.mismatches,
                          c.elements, c.max_absolute),
              ""};
    }
  }
  return {};
}

Verdict run_case(Device &device, const fs::path &folder, const ConformanceOptions &options) {
  try {
    const fs::path model = folder / "model.onnx";
    if (!fs::exists(model)) return {Verdict::Fail, "no model.onnx", ""};
    const std::vector<fs::path> sets = sorted_entries(folder, "test_data_set_");
    if (sets.empty()) return {Verdict::Fail, "no test_data_set", ""};
    for (const fs::path &data : sets) {
      const Verdict verdict = run_data_set(device, model, data, options);
      if (verdict.kind != Verdict::Pass) return verdict;
    }
    return {};
  } catch (const UnsupportedError &error) {
    return {Verdict::Unsupported, error.what(), error.op().empty() ? "model input" : error.op()};
  } catch (const Error &error) {
    return {Verdict::Fail, error.what(), ""};
  }
}

/// The first sentence: the list of supported operators would drown the rest.
std::string one_line(std::string text) {
  text.resize(std::min(text.size(), text.find(". Supported are")));
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

int conformance(const ConformanceOptions &options) {
  if (!fs::is_directory(options.folder)) throw InputError(options.folder + ": not a folder");
  std::vector<fs::path> folders;
  if (fs::exists(fs::path(options.folder) / "model.onnx")) {
    folders.push_back(options.folder);
  } else {
    folders = sorted_entries(options.folder, "");
  }
  std::erase_if(folders, [&](const fs::path &path) {
    return path.filename().string().find(options.filter) == std::string::npos;
  });
  if (folders.empty()) throw InputError(options.folder + ": holds no test case");

  const std::unique_ptr<Device> device = options.chip.open();
  uint64_t counts[3] = {};
  Json cases = Json::array();
  for (const fs::path &folder : folders) {
    const Verdict verdict = run_case(*device, folder, options);
    ++counts[verdict.kind];
    const std::string name = folder.filename();
    if (!options.json) {
      const std::string detail = verdict.kind == Verdict::Unsupported
                                     ? "(" + verdict.op + ") " + one_line(verdict.reason)
                                     : one_line(verdict.reason);
      fmt::print("{:<12} {}{}{}\n", name_of(verdict.kind), name, detail.empty() ? "" : "  ", detail);
      std::fflush(stdout);
    }
    Json entry = {{"name", name}, {"result", name_of(verdict.kind)}};
    if (!verdict.op.empty()) entry["operator"] = verdict.op;
    if (!verdict.reason.empty()) entry["reason"] = verdict.reason;
    cases.push_back(std::move(entry));
  }
  const uint64_t total = folders.size();
  if (options.json) {
    const Json json = {{"summary",
                        {{"total", total},
                         {"passed", counts[Verdict::Pass]},
                         {"failed", counts[Verdict::Fail]},
                         {"unsupported", counts[Verdict::Unsupported]}}},
                       {"cases", std::move(cases)}};
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("\n{} cases: {} passed, {} failed, {} unsupported\n", total, counts[Verdict::Pass],
               counts[Verdict::Fail], counts[Verdict::Unsupported]);
  }
  return counts[Verdict::Fail] == 0 ? kDone : kCheckFailed;
}

}  // namespace

void add_conformance(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<ConformanceOptions>();
  options->chip.config = "tiny";
  CLI::App *command = app.add_subcommand("conformance", "Run a folder of ONNX backend tests on the chip");
  command->add_option("folder", options->folder, "Folder of cases, each with model.onnx and test_data_set_N")
      ->required();
  options->chip.add_to(*command);
  command
      ->add_option("--precision", options->precision,
                   compiler::precision_names() + "; 8-bit ones are calibrated on each case's own inputs")
      ->capture_default_str();
  command->add_option("--filter", options->filter, "Only cases whose name contains this text");
  command->add_option("--rtol", options->rtol, "Relative tolerance")->capture_default_str();
  command->add_option("--atol", options->atol, "Absolute tolerance")->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON instead of a line each");
  command->callback([options, &invocation] { invocation.action = [options] { return conformance(*options); }; });
}

}  // namespace cx::tools
