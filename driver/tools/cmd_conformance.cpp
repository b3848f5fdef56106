// cx conformance: every test case of an ONNX backend suite on the chip.
#include <fmt/color.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/session/session.hpp"
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
  std::vector<HostOperator> host = {};
  bool host_only = false;
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

Holds held_by(const compiler::InputInfo &info) {
  return info.optional ? Holds::optional : info.sequence ? Holds::sequence : Holds::tensor;
}

/// The tensors of one input or output; those of a sequence are numbered.
std::vector<HostTensor> load_value(const fs::path &data, const std::string &prefix, std::size_t number,
                                   const compiler::InputInfo &info) {
  const fs::path path = data / fmt::format("{}_{}.pb", prefix, number);
  if (!fs::exists(path)) {
    if (info.optional) return {};
    throw InputError(path.string() + " is missing");
  }
  std::vector<HostTensor> tensors = load_items(path, held_by(info));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = info.sequence ? compiler::item_name(info.name, i) : info.name;
    if (info.type == compiler::Type::BF16) reinterpret_bfloat16(tensors[i]);
  }
  return tensors;
}

/// What a case stores must be of the type and shape that its model declares; open dimensions take any length. Otherwise
/// no result would be right, and UnsupportedError is thrown.
void check_declared(const HostTensor &tensor, const compiler::InputInfo &declared, const char *role) {
  const auto refuse = [&](const std::string &stored, const std::string &wanted) {
    throw UnsupportedError("case data", fmt::format("the case's data contradict its model: {} '{}' has {}, declared {}",
                                                    role, tensor.name, stored, wanted));
  };
  const std::string type = numpy_name(declared.type);
  if (tensor.type != type) refuse("type " + tensor.type, type);
  if (!declared.has_shape) return;
  bool fits = tensor.shape.size() == declared.shape.size();
  std::string shape;
  for (std::size_t d = 0; d < declared.shape.size(); ++d) {
    const int64_t size = declared.shape[d].value;
    fits = fits && (size < 0 || size == tensor.shape[d]);
    shape += (d == 0 ? "" : ", ") + (size < 0 ? "?" : std::to_string(size));
  }
  if (!fits) refuse("shape " + shape_text(tensor.shape), "[" + shape + "]");
}

/// Sequences as inputs go straight to the compiler; everything else is a session's.
std::vector<HostTensor> run_model(Device &device, const compiler::Model &model, const std::vector<HostTensor> &values,
                                  std::map<std::string, std::vector<compiler::Shape>> item_shapes,
                                  const ConformanceOptions &options, Verdict &verdict) {
  const compiler::Precision precision = compiler::precision_from(options.precision);
  std::map<std::string, float> ranges;
  if (compiler::needs_ranges(precision)) ranges = calibrate(device, model, {values}).ranges;
  if (item_shapes.empty()) {
    check_values(values);
    SessionOptions how;
    how.precision = precision;
    how.ranges = std::move(ranges);
    how.share_constants = false;
    Session session(device, model, how);
    std::vector<HostTensor> outputs = session.run(values);
    verdict.host = session.host_fallback();
    verdict.host_only = session.programs() == 0;
    return outputs;
  }
  SplitInputs inputs = split_inputs(values);
  for (const auto &[name, shapes] : item_shapes) {
    for (std::size_t i = 0; i < shapes.size(); ++i) inputs.import.input_shapes.erase(compiler::item_name(name, i));
  }
  inputs.import.item_shapes = std::move(item_shapes);
  compiler::CompileOptions compile_options;
  compile_options.precision = precision;
  compile_options.ranges = std::move(ranges);
  const compiler::Graph graph = bind_as_needed(inputs, [&] { return compiler::import_onnx(model, inputs.import); });
  Executable executable(device, compiler::compile(graph, device.target(), compile_options));
  return executable.run(inputs.runtime);
}

Verdict run_data_set(Device &device, const compiler::Model &model, const fs::path &data,
                     const ConformanceOptions &options) {
  // Asked before the data is read: what a file holds is not told by the file.
  const std::vector<compiler::InputInfo> infos = model.inputs();
  const std::vector<compiler::InputInfo> results = model.outputs();
  std::vector<HostTensor> values;
  std::map<std::string, std::vector<compiler::Shape>> item_shapes;
  for (std::size_t i = 0; i < infos.size(); ++i) {
    if (infos[i].sequence && (!infos[i].optional || fs::exists(data / fmt::format("input_{}.pb", i)))) {
      item_shapes[infos[i].name];
    }
    for (HostTensor &tensor : load_value(data, "input", i, infos[i])) {
      check_declared(tensor, infos[i], "input");
      if (infos[i].sequence) item_shapes[infos[i].name].push_back(tensor.shape);
      values.push_back(std::move(tensor));
    }
  }
  std::vector<HostTensor> expected;
  for (std::size_t i = 0; i < results.size(); ++i) {
    std::vector<HostTensor> items = load_value(data, "output", i, results[i]);
    for (const HostTensor &tensor : items) check_declared(tensor, results[i], "output");
    std::move(items.begin(), items.end(), std::back_inserter(expected));
  }
  Verdict verdict;
  const std::vector<HostTensor> outputs = run_model(device, model, values, std::move(item_shapes), options, verdict);
  if (outputs.size() != expected.size()) {
    return {Verdict::Fail, fmt::format("{} outputs, expected {}", outputs.size(), expected.size()), ""};
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Comparison c = compare(outputs[i], expected[i], options.rtol, options.atol);
    if (!c.problem.empty()) return {Verdict::Fail, outputs[i].name + ": " + c.problem, ""};
    if (!c.passed()) {
      return {Verdict::Fail,
              fmt::format("{}: {} of {} elements differ, largest difference {:.3g}", outputs[i].name, c.mismatches,
                          c.elements, c.max_absolute),
              ""};
    }
  }
  if (verdict.host_only) {
    verdict.kind = Verdict::Unsupported;
    verdict.op = verdict.host.front().op;
    verdict.reason = "right, but computed by the host alone";
  }
  return verdict;
}

Verdict run_case(Device &device, const fs::path &folder, const ConformanceOptions &options) {
  try {
    const fs::path model = folder / "model.onnx";
    if (!fs::exists(model)) return {Verdict::Fail, "no model.onnx", ""};
    const std::vector<fs::path> sets = sorted_entries(folder, "test_data_set_");
    if (sets.empty()) return {Verdict::Fail, "no test_data_set", ""};
    const compiler::Model parsed(model);
    Verdict last;
    for (const fs::path &data : sets) {
      last = run_data_set(device, parsed, data, options);
      if (last.kind != Verdict::Pass) return last;
    }
    return last;
  } catch (const UnsupportedError &error) {
    return {Verdict::Unsupported, error.what(), error.op().empty() ? "model input" : error.op()};
  } catch (const Error &error) {
    return {Verdict::Fail, error.what(), ""};
  } catch (const std::exception &error) {
    // A defect of ours: it fails its case, not those that follow.
    return {Verdict::Fail, std::string("internal error: ") + error.what(), ""};
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
  uint64_t counts[3] = {}, host_cases = 0;
  Json cases = Json::array();
  for (const fs::path &folder : folders) {
    const Verdict verdict = run_case(*device, folder, options);
    ++counts[verdict.kind];
    const std::string name = folder.filename();
    if (!options.json) {
      const std::string detail = verdict.kind == Verdict::Unsupported
                                     ? "(" + verdict.op + ") " + one_line(verdict.reason)
                                 : verdict.kind == Verdict::Pass ? host_fallback_text(verdict.host)
                                                                 : one_line(verdict.reason);
      fmt::print("{:<12} {}{}{}\n", name_of(verdict.kind), name, detail.empty() ? "" : "  ", detail);
      std::fflush(stdout);
    }
    Json entry = {{"name", name}, {"result", name_of(verdict.kind)}};
    if (!verdict.op.empty()) entry["operator"] = verdict.op;
    if (!verdict.reason.empty()) entry["reason"] = verdict.reason;
    if (!verdict.host.empty()) {
      ++host_cases;
      entry["host_fallback"] = nlohmann::json(verdict.host);
      entry["host_only"] = verdict.host_only;
    }
    cases.push_back(std::move(entry));
  }
  const uint64_t total = folders.size();
  if (options.json) {
    const Json json = {{"summary",
                        {{"total", total},
                         {"passed", counts[Verdict::Pass]},
                         {"failed", counts[Verdict::Fail]},
                         {"unsupported", counts[Verdict::Unsupported]},
                         {"host_fallback", host_cases}}},
                       {"cases", std::move(cases)}};
    fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("\n{} cases: {} passed, {} failed, {} unsupported; {} used the host\n", total, counts[Verdict::Pass],
               counts[Verdict::Fail], counts[Verdict::Unsupported], host_cases);
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
