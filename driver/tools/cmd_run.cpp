// cx run and cx convert: a model through compiler, driver, firmware and engines.
#include <fmt/core.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/profile_document.hpp"
#include "driver/tools/report_page.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/run_recorder.hpp"
#include "driver/tools/sca_report.hpp"
#include "driver/tools/step_files.hpp"
#include "driver/tools/task.hpp"
#include "driver/tools/tensor_file.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "driver/tools/waves.hpp"

namespace cx::tools {
namespace {

using Json = nlohmann::ordered_json;

struct RunOptions {
  ChipOptions chip;
  ScaArguments sca;
  InputOptions from;
  std::string model, precision = "fp32", task, labels, report, output, check = "values";
  std::string ranges, save_ranges, trace, html;
  std::vector<std::string> samples, waves, faults;
  double rtol = 1e-3, atol = 1e-7, largest_tol = 0;
  bool timing_only = false, json = false;
};

/// Ranges for a precision that needs them: from a file, or measured on the samples, or on `values` if there are none.
std::optional<Calibration> ranges_for(compiler::Precision precision, Device &device, const compiler::Model &model,
                                      const std::string &file, const std::vector<std::string> &paths,
                                      const InputOptions &from, const Task *task,
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
  for (const std::string &path : paths) samples.push_back(load_sample(path, model, from, task));
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
  if (options.from.reference.empty()) return result;
  const std::vector<HostTensor> expected = load_data_set(options.from.reference, "output");
  if (expected.empty()) throw InputError(options.from.reference + ": holds no output_0.pb");
  if (expected.size() != outputs.size()) {
    throw InputError(
        fmt::format("{}: holds {} outputs, the model has {}", options.from.reference, expected.size(), outputs.size()));
  }
  result.done = true;
  result.json["rtol"] = options.rtol;
  result.json["atol"] = options.atol;
  if (options.check == "values" || options.check == "both") {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Comparison c = compare(outputs[i], expected[i], options.rtol, options.atol, options.largest_tol);
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
                                        {"max_relative", c.max_relative},
                                        {"largest", c.largest}});
    }
  }
  if (options.check == "top1") {
    bool all = true;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const bool same = same_top(outputs[i], expected[i]);
      all = all && same;
      result.lines.push_back((same ? "pass " : "FAIL ") + outputs[i].name + ": the largest of each row is " +
                             (same ? "" : "not ") + "at the reference's place");
    }
    result.passed = all;
    result.json["same_top"] = all;
  }
  if (options.check == "answer" || options.check == "both") {
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

/// Nothing may be asked of results that are undefined.
void check_timing_only(const RunOptions &options) {
  const std::pair<const char *, bool> others[] = {{"--reference", !options.from.reference.empty()},
                                                  {"--output", !options.output.empty()},
                                                  {"--task", !options.task.empty()}};
  for (const auto &[name, given] : others) {
    if (given) throw UsageError(fmt::format("--timing-only has no results for {}", name));
  }
}

/// Tells a trace which program is launched.
class ProgramNames : public LaunchObserver {
 public:
  explicit ProgramNames(TraceFile &trace) : trace_(trace) {}
  void before(const Executable &executable) override {
    trace_.set_program(executable.program(), TraceFile::newest_card());
  }
  void after(const Executable &, const compiler::CompileStatistics &) override {}

 private:
  TraceFile &trace_;
};

void check_html(const RunOptions &options) {
  if (options.chip.device.starts_with("vfio-user:")) throw UsageError("--html: that card is in another process");
}

void write_page(const RunOptions &options, const Target &target, const RecordedRun &run,
                const std::vector<HostOperator> &host) {
  if (run.launches.empty()) throw UnsupportedError("--html", "the device computed nothing of the model");
  const ProfiledRun profiled{
      std::filesystem::path(options.model).filename(), options.chip.name(), options.precision, target, run, host};
  const Json document = {
      {"format", "cx-profile"}, {"version", 1}, {"runs", Json::array({profile_document(profiled, {})})}};
  write_report(options.html, {{std::filesystem::path(options.model).stem(), document.dump()}});
}

int run(RunOptions options) {
  const auto begin = std::chrono::steady_clock::now();
  if (options.timing_only) {
    check_timing_only(options);
    if (!options.from.seed) options.from.seed = 1;
  }
  const compiler::Precision precision = compiler::precision_from(options.precision);
  const std::unique_ptr<Task> task =
      options.task.empty() ? nullptr : make_task(options.task, options.model, options.labels);
  const compiler::Model model(options.model);
  const std::vector<HostTensor> values = input_values(model, options.from, task.get());
  check_values(values);

  if (!options.trace.empty() && options.chip.device.starts_with("vfio-user:")) {
    throw UsageError("--trace: that card is in another process, which can trace it: cx device --trace FILE");
  }
  if (!options.html.empty()) check_html(options);
  std::optional<TraceSignals> signals;
  if (!options.trace.empty()) signals.emplace();
  std::optional<WavesRequest> waves;
  if (!options.waves.empty()) {
    waves = parse_waves(options.waves.at(0), options.waves.at(1));
    prepare_waves(*waves);
  }
  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  SessionOptions how;
  how.precision = precision;
  how.share_constants = false;
  how.keep_model = false;
  how.sca = options.sca.options();
  how.timing_only = options.timing_only;
  const std::optional<Calibration> calibration =
      ranges_for(precision, *device, model, options.ranges, options.samples, options.from, task.get(), &values);
  if (calibration) how.ranges = calibration->ranges;
  if (!options.save_ranges.empty()) {
    if (!calibration) throw InputError("--save-ranges: " + options.precision + " has no ranges");
    save_ranges(*calibration, options.save_ranges);
  }
  progress("compiling " + options.model);
  StepFiles steps({}, progress);
  how.observer = &steps;
  std::optional<TraceFile> trace;
  std::optional<ProgramNames> names;
  if (!options.trace.empty()) {
    trace.emplace(options.trace, true);
    signals->watch(&*trace);
    how.launches = &names.emplace(*trace);
  }
  std::optional<RunRecorder> recorder;
  if (!options.html.empty()) how.launches = &recorder.emplace(device->target());
  Session session(*device, model, how);
  if (waves) start_waves(*waves);
  device->on_event([](const DeviceEvent &event) { fmt::print(stderr, "cx: event: {}\n", describe(event)); });
  for (const std::string &fault : options.faults) device->inject(fault);
  const std::vector<HostTensor> outputs = session.run(values);
  const auto end = std::chrono::steady_clock::now();
  const uint64_t recorded = waves ? finish_waves() : 0;
  std::optional<TraceFile::Summary> traced;
  if (trace) {
    signals->watch(nullptr);
    traced = trace->finish();
  }

  if (recorder) write_page(options, device->target(), recorder->take(), session.host_fallback());

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

  const double wall_s = std::chrono::duration<double>(end - begin).count();
  const compiler::CompileStatistics &statistics = session.compile_statistics();
  Json json;
  json["model"] = std::filesystem::path(options.model).filename();
  json["config"] = options.chip.name();
  json["precision"] = options.precision;
  if (calibration) json["calibration"] = calibration_json(*calibration);
  json.update(report_json(session.report()));
  json["program"] = {{"instructions", statistics.instructions},
                     {"groups", statistics.groups},
                     {"constant_bytes", statistics.constant_bytes},
                     {"workspace_bytes", statistics.workspace_bytes},
                     {"workspace_bytes_no_reuse", statistics.workspace_bytes_no_reuse}};
  json["sca"] = sca_json(statistics);
  json.update(Json(host_fallback_json(session)));
  json["bound_inputs"] = session.fixed_inputs();
  if (answer) json["answer"] = Json::parse(answer->json);
  if (check.done) json["check"] = check.json;
  if (waves) {
    json["waves"] = {{"cycles", recorded}, {"tiles", Json::array()}};
    for (const WavesRequest::Tile &tile : waves->tiles) {
      json["waves"]["tiles"].push_back(
          {{"unit", tile.sparse ? "sca" : "dmmu"}, {"tile", tile.number}, {"file", tile.path}});
    }
  }
  if (traced) {
    json["trace"] = {
        {"file", options.trace}, {"records", traced->records}, {"packets", traced->packets}, {"bytes", traced->bytes}};
  }
  json["wall_s"] = wall_s;
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
    for (const std::string &name : session.fixed_inputs()) {
      fmt::print("input {} is fixed in the program; what depends only on such inputs was computed by the compiler\n",
                 name);
    }
    if (calibration) fmt::print("products in {}, {}\n", options.precision, calibration->text());
    if (traced) {
      fmt::print("trace: {} records in {}, {} bytes; open it at https://ui.perfetto.dev\n", grouped(traced->records),
                 options.trace, grouped(traced->bytes));
    }
    if (waves) {
      fmt::print("waves: {} cycles{}\n", recorded, recorded == 0 ? "; nothing was to be done in that time" : "");
      for (const WavesRequest::Tile &tile : waves->tiles) {
        fmt::print("  {}tile {} in {}\n", tile.sparse ? "sparse " : "", tile.number, tile.path);
      }
    }
    if (options.timing_only) {
      const RunReport &report = session.report();
      fmt::print("{}\n", report.timing_only ? "timing only: nothing was computed; energy without gated zeros"
                                            : "timing only: run in full, because " + report.timing_obstacle);
    }
    if (const std::string table = sca_table(statistics); !table.empty()) fmt::print("\n{}", table);
    if (!session.host_fallback().empty()) fmt::print("{}\n", host_fallback_text(session.host_fallback()));
    if (session.programs() == 0) {
      fmt::print("the device computed nothing: all results come from the host\n");
    } else {
      fmt::print("\n{}", report_table(session.report(), statistics, session.statistics().compile_s, wall_s));
    }
  }
  return check.passed ? kDone : kCheckFailed;
}

struct ConvertOptions {
  ChipOptions chip;
  ScaArguments sca;
  std::string model, output, ranges, dump, precision = "fp32";
  std::vector<std::string> shapes, samples, pictures;
  bool json = false;
};

uint64_t bound_bytes(const Program &program) {
  uint64_t bytes = 0;
  for (const auto *bindings : {&program.inputs, &program.outputs}) {
    for (const Binding &binding : *bindings) bytes += binding.bytes;
  }
  return bytes;
}

/// Throws UnsupportedError, saying what takes such a model, where a node is the host's.
compiler::Graph import_for_one_program(const compiler::Model &model, const compiler::ImportOptions &import) {
  try {
    return compiler::import_onnx(model, import);
  } catch (const compiler::HostOperatorError &error) {
    throw UnsupportedError(error.op(),
                           std::string("a program file holds one program, and shapes of this model follow from values "
                                       "of a run; cx run, cx profile and sessions cut it where the host computes: ") +
                               error.what());
  }
}

int convert(const ConvertOptions &options) {
  const auto begin = std::chrono::steady_clock::now();
  StepFiles steps(options.dump, progress);
  compiler::ImportOptions import;
  for (auto &[name, shape] : parse_shapes(options.shapes)) import.input_shapes[name] = shape;
  import.observer = &steps;
  InputOptions from;
  from.pictures = options.pictures;
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  compile_options.sca = options.sca.options();
  compiler::Model model(options.model);
  const std::optional<Calibration> calibration =
      ranges_for(compile_options.precision, *device, model, options.ranges, options.samples, from, nullptr, nullptr);
  if (calibration) compile_options.ranges = calibration->ranges;
  compile_options.observer = &steps;
  compiler::CompileStatistics statistics;
  progress("compiling " + options.model);
  const compiler::Graph graph = import_for_one_program(model, import);
  model.release();
  const Program program = compiler::compile(graph, device->target(), compile_options, &statistics);
  const std::string output =
      options.output.empty() ? std::filesystem::path(options.model).stem().string() + ".cxb" : options.output;
  save(program, output);
  const uint64_t fixed_bytes = program.image.size() + bound_bytes(program);
  const uint64_t peak = fixed_bytes + statistics.workspace_bytes;
  const uint64_t peak_no_reuse = fixed_bytes + statistics.workspace_bytes_no_reuse;
  if (options.json) {
    Json json = {{"model", std::filesystem::path(options.model).filename()},
                 {"config", options.chip.name()},
                 {"precision", options.precision},
                 {"program", output}};
    if (calibration) json["calibration"] = calibration_json(*calibration);
    json["macs"] = program.macs;
    json["nodes"] = statistics.nodes;
    json["groups"] = statistics.groups;
    json["instructions"] = statistics.instructions;
    json["image_bytes"] = program.image.size();
    json["constant_bytes"] = statistics.constant_bytes;
    json["workspace_bytes"] = statistics.workspace_bytes;
    json["workspace_bytes_no_reuse"] = statistics.workspace_bytes_no_reuse;
    json["peak_bytes"] = peak;
    json["peak_bytes_no_reuse"] = peak_no_reuse;
    json["sca"] = sca_json(statistics);
    if (!options.dump.empty()) json["dumped_steps"] = steps.count();
    json["wall_s"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    fmt::print("{}\n", json.dump(2));
    return kDone;
  }
  fmt::print("{}: {} instructions in {} groups of {} nodes, {} bytes of constants\n", output, statistics.instructions,
             statistics.groups, statistics.nodes, statistics.constant_bytes);
  fmt::print("device memory: peak {} bytes ({} without reuse), of which workspace {} ({} without reuse)\n", peak,
             peak_no_reuse, statistics.workspace_bytes, statistics.workspace_bytes_no_reuse);
  if (calibration) fmt::print("products in {}, {}\n", options.precision, calibration->text());
  fmt::print("{}", sca_table(statistics));
  if (!options.dump.empty()) fmt::print("{} steps of the compiler in {}\n", steps.count(), options.dump);
  return kDone;
}

}  // namespace

void ScaArguments::add_to(CLI::App &app) {
  app.add_option("--sca", use,
                 "Products with constant weights on the sparse accelerator: auto (where it is faster by the compiler's "
                 "estimate), always, never")
      ->capture_default_str();
  app.add_option("--sca-format", format,
                 "How their weights are stored: bitmap, run-length, N:M or block:HxW; default: what is smallest for "
                 "each. Weights that do not have the pattern N:M are an error");
}

compiler::ScaOptions ScaArguments::options() const {
  compiler::ScaOptions result;
  result.use = compiler::sca_use_from(use);
  if (!format.empty()) result.format = compiler::sca_format_from(format);
  return result;
}

void add_input_options(CLI::App &command, InputOptions &options) {
  command
      .add_option("--input", options.inputs,
                  "NAME=SOURCE: a .npy, .npz or .pb file; a picture (.png, .jpg, .bmp), or several with commas between "
                  "them for a batch; text:TEXT or a .txt file, with --tokenizer; fill:NUMBER for every element")
      ->take_all()
      ->expected(1);
  command
      .add_option(
          "--picture", options.pictures,
          "[NAME:]KEY=VALUE,...: how pictures are prepared. resize=stretch, letterbox, corner or crop; "
          "order=rgb, bgr or grey; layout=nchw or nhwc; range=255 (of the brightest pixel); mean=, std=, or "
          "scale=, shift=: one number or three with / between; pad=0 to 255; size=WxH where the model leaves it "
          "open")
      ->take_all()
      ->expected(1);
  command.add_option(
      "--tokenizer", options.tokenizer,
      "Turns text into tokens: a JSON list of characters, or a tokenizer.json (BPE, WordPiece, WordLevel)");
  command.add_option("--shape", options.shapes, "NAME=1,3,224,224: shape of an input that no file gives one")
      ->take_all()
      ->expected(1);
  command.add_option("--seed", options.seed,
                     "Fill inputs that have no source with seeded values: in [-1, 1), integers in 0 to 7");
  command.add_option("--reference", options.reference,
                     "Folder of input_K.pb and output_K.pb: inputs that have no source, and outputs to check against");
}

void add_run(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<RunOptions>();
  CLI::App *command = app.add_subcommand("run", "Compile an ONNX model and run it on the chip");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  options->sca.add_to(*command);
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
  add_input_options(*command, options->from);
  command->add_option("--task", options->task,
                      "What pictures and outputs mean: ocr-line, ocr-direction, faces or classify");
  command->add_option("--labels", options->labels, "Labels of the task, one a line");
  command->add_option("--rtol", options->rtol, "Relative tolerance of the check")->capture_default_str();
  command->add_option("--atol", options->atol, "Absolute tolerance of the check")->capture_default_str();
  command
      ->add_option("--tol-largest", options->largest_tol,
                   "Tolerance in units of an output's largest magnitude, added to the others")
      ->capture_default_str();
  command
      ->add_option("--check", options->check,
                   "What the check compares: values, top1 (where the largest of each row is), answer (of the task), or "
                   "both values and answer")
      ->check(CLI::IsMember({"values", "top1", "answer", "both"}))
      ->capture_default_str();
  command->add_option("--output", options->output,
                      "Folder to write input_K.pb and output_K.pb into: a --reference for later runs");
  command->add_option("--trace", options->trace,
                      "File for a timeline of card and host, which https://ui.perfetto.dev opens");
  command->add_option("--html", options->html,
                      "File for a page that any browser opens: what limits the run, timeline, nodes, memory, energy");
  command
      ->add_option("--waves", options->waves,
                   "tile=0/3,sca=1,from=10us/20us,to=12us/22us FILE.fst: records dense and sparse tiles, which run as "
                   "RTL, in windows that count from the start of the run, or with since=power-on from where a trace's "
                   "times do; the files' times are a trace's")
      ->expected(2);
  command
      ->add_option("--fault", options->faults,
                   "KIND@key=value,...: a fault to provoke from the start of the run (cx fault list); may be repeated")
      ->take_all()
      ->expected(1);
  command->add_flag(
      "--timing-only", options->timing_only,
      "Same packets, firmware and cycles, but engines neither move nor compute data, so that there are no "
      "results. Runs in full, and says why, when cycles depend on data");
  command->add_option("--report", options->report, "File to write the JSON report to");
  command->add_flag("--json", options->json, "Print the JSON report instead of the table");
  command->callback([options, &invocation] { invocation.action = [options] { return run(*options); }; });
}

void add_convert(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App *command = app.add_subcommand("convert", "Compile an ONNX model into a program file (.cxb)");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  options->sca.add_to(*command);
  command->add_option("-o,--output", options->output, "Program file; default: the model's name with .cxb");
  command->add_option("--precision", options->precision, compiler::precision_names())->capture_default_str();
  command
      ->add_option("--calibrate", options->samples,
                   "Inputs on which the ranges of an 8-bit precision are measured: a folder of input_K.pb, or a file "
                   "for a model with one input")
      ->take_all()
      ->expected(1);
  command->add_option("--picture", options->pictures, "How pictures are prepared for --calibrate, as for cx run")
      ->take_all()
      ->expected(1);
  command->add_option("--ranges", options->ranges, "File of ranges (cx run --save-ranges) to take instead");
  command->add_option("--shape", options->shapes, "NAME=1,3,224,224: binds the open dimensions of an input")
      ->take_all()
      ->expected(1);
  command->add_option("--dump-passes", options->dump,
                      "Folder for the graph after every pass and for what the back-end decides: groups, layout, memory "
                      "plan, tiling, instruction streams; one numbered text file each");
  command->add_flag("--json", options->json, "Print JSON instead of two lines");
  command->callback([options, &invocation] { invocation.action = [options] { return convert(*options); }; });
}

}  // namespace cx::tools
