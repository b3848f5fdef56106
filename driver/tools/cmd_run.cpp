// cx run and cx convert: a model through compiler, driver, firmware and engines.
#include <fmt/core.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/task.hpp"
#include "driver/tools/tensor_file.hpp"
#include "driver/tools/waves.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct RunOptions {
  ChipOptions chip;
  std::string model, precision = "fp32", task, labels, reference, report, output, check = "values";
  std::string ranges, save_ranges;
  std::vector<std::string> inputs, shapes, samples, waves;
  std::optional<uint64_t> seed;
  double rtol = 1e-3, atol = 1e-7;
  bool json = false;
};

std::pair<std::string, std::string> split_pair(const std::string &text, const std::string &option) {
  const std::size_t at = text.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size()) {
    throw InputError(option + " " + text + ": expected NAME=" + (option == "--shape" ? "1,3,224,224" : "FILE"));
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

std::vector<int64_t> parse_shape(const std::string &text) {
  std::vector<int64_t> shape;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    if (item.empty() || item.find_first_not_of("0123456789") != std::string::npos || item.size() > 9) {
      throw InputError("--shape: '" + text + "' is not a list of dimensions such as 1,3,224,224");
    }
    shape.push_back(std::stoll(item));
    at = end + 1;
  }
  return shape;
}

bool is_picture(const std::filesystem::path &path) {
  const std::string extension = path.extension();
  return extension == ".png" || extension == ".jpg" || extension == ".jpeg";
}

/// Uniform in [-1, 1), the same on every machine.
HostTensor seeded_tensor(const std::string &name, const std::vector<int64_t> &shape, uint64_t seed) {
  HostTensor tensor{name, "float32", shape, {}};
  std::mt19937_64 random(seed);
  const uint64_t count = element_count(shape);
  tensor.bytes.resize(count * sizeof(float));
  auto *values = reinterpret_cast<float *>(tensor.bytes.data());
  for (uint64_t i = 0; i < count; ++i) values[i] = static_cast<float>(random() >> 40) * 0x1p-23F - 1.0F;
  return tensor;
}

std::vector<int64_t> declared_shape(const compiler::InputInfo &info) {
  std::vector<int64_t> shape;
  for (const compiler::Dimension &dimension : info.shape) shape.push_back(dimension.value);
  return shape;
}

std::string declared_text(const compiler::InputInfo &info) {
  std::string text = numpy_name(info.type) + " [";
  for (std::size_t i = 0; i < info.shape.size(); ++i) {
    const compiler::Dimension &d = info.shape[i];
    text += (i == 0 ? "" : ", ") + (d.value >= 0 ? std::to_string(d.value) : d.symbol.empty() ? "?" : d.symbol);
  }
  return text + "]";
}

/// One value for each input of the model, from --input, then the reference folder, then --seed.
std::vector<HostTensor> gather_inputs(const RunOptions &options, const Task *task) {
  const std::vector<compiler::InputInfo> infos = compiler::inspect_onnx(options.model);
  std::map<std::string, std::string> files;
  for (const std::string &text : options.inputs) {
    auto [name, file] = split_pair(text, "--input");
    if (!files.emplace(name, file).second) throw InputError("--input " + name + " is given twice");
  }
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const std::string &text : options.shapes) {
    const auto [name, shape] = split_pair(text, "--shape");
    shapes[name] = parse_shape(shape);
  }
  std::vector<HostTensor> recorded;
  if (!options.reference.empty()) recorded = load_data_set(options.reference, "input");

  std::vector<HostTensor> values;
  for (std::size_t i = 0; i < infos.size(); ++i) {
    const compiler::InputInfo &info = infos[i];
    HostTensor value;
    if (const auto file = files.find(info.name); file != files.end()) {
      if (is_picture(file->second) && task != nullptr) {
        value = task->prepare(load_picture(file->second), info.name, declared_shape(info));
      } else {
        value = load_tensor(file->second);
      }
      files.erase(file);
    } else if (i < recorded.size()) {
      value = recorded[i];
    } else if (options.seed) {
      std::vector<int64_t> shape = declared_shape(info);
      if (const auto given = shapes.find(info.name); given != shapes.end()) shape = given->second;
      for (const int64_t dim : shape) {
        if (dim < 0)
          throw InputError("input " + info.name + " is " + declared_text(info) + ": give --shape " + info.name +
                           "=...");
      }
      value = seeded_tensor(info.name, shape, *options.seed + i);
    } else {
      throw InputError("no value for input " + info.name + ", " + declared_text(info) + ": give --input " + info.name +
                       "=FILE, --reference DIR or --seed N");
    }
    value.name = info.name;
    values.push_back(std::move(value));
  }
  if (!files.empty()) {
    std::string names;
    for (const compiler::InputInfo &info : infos) names += (names.empty() ? "" : ", ") + info.name;
    throw InputError("--input " + files.begin()->first + ": the model has no such input; it has " + names);
  }
  return values;
}

/// A sample for calibration: a folder of input_K.pb, or a file for the only input of a model.
std::vector<HostTensor> load_sample(const std::string &path, const std::string &model, const Task *task) {
  const std::vector<compiler::InputInfo> infos = compiler::inspect_onnx(model);
  std::vector<HostTensor> values;
  if (std::filesystem::is_directory(path)) {
    values = load_data_set(path, "input");
  } else if (is_picture(path)) {
    if (task == nullptr) throw InputError("--calibrate " + path + ": a picture needs --task");
    values = {task->prepare(load_picture(path), infos.at(0).name, declared_shape(infos.at(0)))};
  } else {
    values = {load_tensor(path)};
  }
  if (values.size() != infos.size()) {
    throw InputError(
        fmt::format("--calibrate {}: holds {} values, the model has {} inputs", path, values.size(), infos.size()));
  }
  for (std::size_t i = 0; i < infos.size(); ++i) values[i].name = infos[i].name;
  return values;
}

/// Ranges for a precision that needs them: from a file, or measured on the samples, or on `values` if there are none.
std::optional<Calibration> ranges_for(compiler::Precision precision, Device &device, const std::string &model,
                                      const std::string &file, const std::vector<std::string> &paths, const Task *task,
                                      const std::vector<HostTensor> *values) {
  if (!compiler::needs_ranges(precision)) {
    if (!file.empty() || !paths.empty()) {
      throw InputError(std::string("--ranges and --calibrate have no use in ") + compiler::name_of(precision));
    }
    return std::nullopt;
  }
  if (!file.empty() && !paths.empty()) throw InputError("--ranges and --calibrate exclude each other");
  if (!file.empty()) return load_ranges(file);
  std::vector<std::vector<HostTensor>> samples;
  for (const std::string &path : paths) samples.push_back(load_sample(path, model, task));
  if (samples.empty()) {
    if (values == nullptr) {
      throw InputError(std::string("precision ") + compiler::name_of(precision) +
                       " needs ranges: give --calibrate PATH or --ranges FILE");
    }
    samples.push_back(*values);
  }
  compiler::require_precision(device.target(), precision);
  progress(fmt::format("calibrating on {} inputs", samples.size()));
  return calibrate(device, model, samples);
}

struct CheckResult {
  bool done = false;
  bool passed = true;
  std::vector<std::string> lines;
  Json json;
};

CheckResult check_outputs(const RunOptions &options, const Task *task, const std::vector<HostTensor> &outputs) {
  CheckResult result;
  if (options.reference.empty()) return result;
  const std::vector<HostTensor> expected = load_data_set(options.reference, "output");
  if (expected.empty()) throw InputError(options.reference + ": holds no output_0.pb");
  if (expected.size() != outputs.size()) {
    throw InputError(
        fmt::format("{}: holds {} outputs, the model has {}", options.reference, expected.size(), outputs.size()));
  }
  result.done = true;
  result.json["rtol"] = options.rtol;
  result.json["atol"] = options.atol;
  if (options.check != "answer") {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Comparison c = compare(outputs[i], expected[i], options.rtol, options.atol);
      result.passed = result.passed && c.passed();
      result.lines.push_back(
          c.problem.empty()
              ? fmt::format("{} {}: {} of {} elements differ, largest difference {:.3g} absolute, {:.3g} relative",
                            c.passed() ? "pass" : "FAIL", outputs[i].name, c.mismatches, c.elements, c.max_absolute,
                            c.max_relative)
              : fmt::format("FAIL {}: {}", outputs[i].name, c.problem));
      result.json["outputs"].push_back({{"name", outputs[i].name},
                                        {"passed", c.passed()},
                                        {"mismatches", c.mismatches},
                                        {"elements", c.elements},
                                        {"max_absolute", c.max_absolute},
                                        {"max_relative", c.max_relative}});
    }
  }
  if (options.check != "values") {
    if (task == nullptr) throw InputError("--check " + options.check + " needs --task");
    const bool same = task->agree(outputs, expected);
    result.passed = result.passed && same;
    result.lines.push_back(same ? "pass: the answer is the reference's" : "FAIL: the answer is not the reference's");
    result.json["same_answer"] = same;
  }
  result.json["passed"] = result.passed;
  return result;
}

Json calibration_json(const Calibration &calibration) {
  Json json = {{"tensors", calibration.ranges.size()}};
  if (calibration.file.empty()) {
    json["inputs"] = calibration.samples;
    json["precision"] = calibration.precision;
  } else {
    json["file"] = calibration.file;
  }
  return json;
}

int run(const RunOptions &options) {
  const auto begin = std::chrono::steady_clock::now();
  const compiler::Precision precision = compiler::precision_from(options.precision);
  const std::unique_ptr<Task> task =
      options.task.empty() ? nullptr : make_task(options.task, options.model, options.labels);
  const std::vector<HostTensor> values = gather_inputs(options, task.get());
  const SplitInputs inputs = split_inputs(values);

  std::optional<WavesRequest> waves;
  if (!options.waves.empty()) {
    waves = parse_waves(options.waves.at(0), options.waves.at(1));
    prepare_waves(*waves);
  }
  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = precision;
  const std::optional<Calibration> calibration =
      ranges_for(precision, *device, options.model, options.ranges, options.samples, task.get(), &values);
  if (calibration) compile_options.ranges = calibration->ranges;
  if (!options.save_ranges.empty()) {
    if (!calibration) throw InputError("--save-ranges: " + options.precision + " has no ranges");
    save_ranges(*calibration, options.save_ranges);
  }
  progress("compiling " + options.model);
  compiler::CompileStatistics statistics;
  Program program =
      compiler::compile_onnx(options.model, inputs.import, device->target(), compile_options, &statistics);
  const auto compiled = std::chrono::steady_clock::now();
  progress(fmt::format("running {} instructions", statistics.instructions));
  Executable executable(*device, std::move(program));
  if (waves) start_waves(*waves);
  const std::vector<HostTensor> outputs = executable.run(inputs.runtime);
  const auto end = std::chrono::steady_clock::now();
  const uint64_t recorded = waves ? finish_waves() : 0;

  if (!options.output.empty()) {
    std::filesystem::create_directories(options.output);
    for (std::size_t i = 0; i < values.size(); ++i) {
      save_tensor(values[i], std::filesystem::path(options.output) / fmt::format("input_{}.pb", i));
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      save_tensor(outputs[i], std::filesystem::path(options.output) / fmt::format("output_{}.pb", i));
    }
  }
  const CheckResult check = check_outputs(options, task.get(), outputs);
  std::optional<Answer> answer;
  if (task) answer = task->read(outputs);

  const auto seconds = [](auto duration) { return std::chrono::duration<double>(duration).count(); };
  Json json;
  json["model"] = std::filesystem::path(options.model).filename();
  json["config"] = std::filesystem::path(options.chip.config).stem();
  json["precision"] = options.precision;
  if (calibration) json["calibration"] = calibration_json(*calibration);
  json.update(report_json(executable.report()));
  json["program"] = {{"instructions", statistics.instructions},
                     {"groups", statistics.groups},
                     {"constant_bytes", statistics.constant_bytes},
                     {"workspace_bytes", statistics.workspace_bytes},
                     {"workspace_bytes_no_reuse", statistics.workspace_bytes_no_reuse}};
  json["bound_inputs"] = inputs.bound;
  if (answer) json["answer"] = Json::parse(answer->json);
  if (check.done) json["check"] = check.json;
  if (waves) json["waves"] = {{"tile", waves->tile}, {"file", waves->path}, {"cycles", recorded}};
  json["wall_s"] = seconds(end - begin);
  if (!options.report.empty()) {
    std::ofstream out(options.report);
    out << json.dump(2) << '\n';
    if (!out.flush()) throw InputError(options.report + ": cannot be written");
  }
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
  } else {
    if (answer) {
      for (const std::string &line : answer->lines) fmt::print("{}\n", line);
    }
    for (const std::string &line : check.lines) fmt::print("{}\n", line);
    for (const std::string &name : inputs.bound) {
      fmt::print("input {} is fixed in the program; what depends only on such inputs was computed by the compiler\n",
                 name);
    }
    if (calibration) fmt::print("products in {}, {}\n", options.precision, calibration->text());
    if (waves) {
      fmt::print("waves of tile {}: {} cycles in {}{}\n", waves->tile, recorded, waves->path,
                 recorded == 0 ? "; the tile had nothing to do in that time" : "");
    }
    fmt::print("\n{}", report_table(executable.report(), statistics, seconds(compiled - begin), seconds(end - begin)));
  }
  return check.passed ? kDone : kCheckFailed;
}

struct ConvertOptions {
  ChipOptions chip;
  std::string model, output, ranges, precision = "fp32";
  std::vector<std::string> shapes, samples;
};

int convert(const ConvertOptions &options) {
  compiler::ImportOptions import;
  for (const std::string &text : options.shapes) {
    const auto [name, shape] = split_pair(text, "--shape");
    import.input_shapes[name] = parse_shape(shape);
  }
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  const std::optional<Calibration> calibration =
      ranges_for(compile_options.precision, *device, options.model, options.ranges, options.samples, nullptr, nullptr);
  if (calibration) compile_options.ranges = calibration->ranges;
  compiler::CompileStatistics statistics;
  const Program program = compiler::compile_onnx(options.model, import, device->target(), compile_options, &statistics);
  const std::string output =
      options.output.empty() ? std::filesystem::path(options.model).stem().string() + ".cxb" : options.output;
  save(program, output);
  fmt::print("{}: {} instructions in {} groups, {} bytes of constants, workspace {} bytes ({} without reuse)\n", output,
             statistics.instructions, statistics.groups, statistics.constant_bytes, statistics.workspace_bytes,
             statistics.workspace_bytes_no_reuse);
  if (calibration) fmt::print("products in {}, {}\n", options.precision, calibration->text());
  return kDone;
}

}  // namespace

void add_run(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<RunOptions>();
  CLI::App *command = app.add_subcommand("run", "Compile an ONNX model and run it on the chip");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  command
      ->add_option("--precision", options->precision,
                   "Weights and activations on the device: " + compiler::precision_names())
      ->capture_default_str();
  command
      ->add_option("--calibrate", options->samples,
                   "Inputs on which the ranges of an 8-bit precision are measured, in place of the run's own: a folder "
                   "of input_K.pb, or a file for a model with one input")
      ->take_all()
      ->expected(1);
  command->add_option("--ranges", options->ranges, "File of ranges to take instead of measuring them");
  command->add_option("--save-ranges", options->save_ranges, "File to write the ranges to (JSON)");
  command->add_option("--input", options->inputs, "NAME=FILE: .npy, .npz, .pb, or a picture with --task")
      ->take_all()
      ->expected(1);
  command->add_option("--shape", options->shapes, "NAME=1,3,224,224: shape of an input filled by --seed")
      ->take_all()
      ->expected(1);
  command->add_option("--seed", options->seed, "Fill inputs that have no file with seeded values in [-1, 1)");
  command->add_option("--task", options->task,
                      "What pictures and outputs mean: ocr-line, ocr-direction, faces or classify");
  command->add_option("--labels", options->labels, "Labels of the task, one a line");
  command->add_option("--reference", options->reference,
                      "Folder of input_K.pb and output_K.pb to check the outputs against");
  command->add_option("--rtol", options->rtol, "Relative tolerance of the check")->capture_default_str();
  command->add_option("--atol", options->atol, "Absolute tolerance of the check")->capture_default_str();
  command->add_option("--check", options->check, "What the check compares: values, answer (of the task) or both")
      ->check(CLI::IsMember({"values", "answer", "both"}))
      ->capture_default_str();
  command->add_option("--output", options->output,
                      "Folder to write input_K.pb and output_K.pb into: a --reference for later runs");
  command
      ->add_option("--waves", options->waves,
                   "tile=3,from=10us,to=12us FILE.fst: records a DMMU tile, which runs as RTL; times count from the "
                   "start of the run")
      ->expected(2);
  command->add_option("--report", options->report, "File to write the JSON report to");
  command->add_flag("--json", options->json, "Print the JSON report instead of the table");
  command->callback([options, &invocation] { invocation.action = [options] { return run(*options); }; });
}

void add_convert(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App *command = app.add_subcommand("convert", "Compile an ONNX model into a program file (.cxb)");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  command->add_option("-o,--output", options->output, "Program file; default: the model's name with .cxb");
  command->add_option("--precision", options->precision, compiler::precision_names())->capture_default_str();
  command
      ->add_option("--calibrate", options->samples,
                   "Inputs on which the ranges of an 8-bit precision are measured: a folder of input_K.pb, or a file "
                   "for a model with one input")
      ->take_all()
      ->expected(1);
  command->add_option("--ranges", options->ranges, "File of ranges (cx run --save-ranges) to take instead");
  command->add_option("--shape", options->shapes, "NAME=1,3,224,224: binds the open dimensions of an input")
      ->take_all()
      ->expected(1);
  command->callback([options, &invocation] { invocation.action = [options] { return convert(*options); }; });
}

}  // namespace cx::tools
