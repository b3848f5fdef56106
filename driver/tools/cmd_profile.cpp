// cx profile: where the time of a model goes, and how far it is from what the chip could do at best.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>
#include <span>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/session/language_model.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/profile_document.hpp"
#include "driver/tools/profile_text.hpp"
#include "driver/tools/report_page.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/run_recorder.hpp"
#include "driver/tools/sca_report.hpp"
#include "driver/tools/tokenizer.hpp"
#include "driver/tools/trace/trace_file.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {
namespace {

struct ProfileOptions {
  ChipOptions chip;
  ScaArguments sca;
  std::string model, precision = "fp16";
  InputOptions inputs;  ///< seeded with 1 where nothing else is said
  std::vector<std::string> configs;
  std::string prompt;
  std::vector<int64_t> prompt_tokens;
  int64_t context = 0;
  std::string document, html, trace;
  bool json = false, what_if = false;
  bool timing_only = false;  ///< of what-if runs

  bool is_language_model() const { return !prompt.empty() || !prompt_tokens.empty(); }
};

uint64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

/// A run and what it is called.
struct Case {
  std::string name;
  RecordedRun run;
  std::vector<HostOperator> host_operators;

  ProfiledRun profiled(const ProfileOptions &options, const Target &target) const {
    return {name, options.chip.name(), options.precision, target, run, host_operators};
  }
};

/// What is to be run: the inputs of a model, or the prompt of a language model.
struct Work {
  compiler::Model &model;
  std::vector<HostTensor> values;
  std::vector<int64_t> prompt;
};

SessionOptions session_options(const ProfileOptions &options, RunRecorder &recorder) {
  SessionOptions how;
  how.precision = compiler::precision_from(options.precision);
  how.sca = options.sca.options();
  how.timing_only = options.timing_only;
  how.launches = &recorder;
  return how;
}

/// Prefill of the prompt, and the step after it.
std::vector<Case> run_language_model(const ProfileOptions &options, Device &device, const Work &work) {
  const std::string file = std::filesystem::path(options.model).filename();
  RunRecorder recorder(device.target());
  LanguageModelOptions how;
  how.session = session_options(options, recorder);
  how.context = options.context;
  progress("compiling " + options.model);
  LanguageModel model(device, work.model, how);
  std::vector<Case> cases;
  const LanguageModel::Step prefill = model.feed(work.prompt);
  cases.push_back({fmt::format("{}, prefill of {}", file, work.prompt.size()), recorder.take(), {}});
  // No step's time depends on its token.
  const auto best = std::max_element(prefill.logits.begin(), prefill.logits.end());
  const int64_t token = options.timing_only ? 0 : best - prefill.logits.begin();
  model.feed(std::span(&token, 1));
  cases.push_back({fmt::format("{}, decode of token {}", file, work.prompt.size() + 1), recorder.take(), {}});
  return cases;
}

std::vector<Case> run_model(const ProfileOptions &options, Device &device, const Work &work) {
  if (options.is_language_model()) return run_language_model(options, device, work);
  RunRecorder recorder(device.target());
  SessionOptions how = session_options(options, recorder);
  how.share_constants = false;
  if (compiler::needs_ranges(how.precision)) {
    compiler::require_precision(device.target(), how.precision);
    progress("calibrating on the run's inputs");
    try {
      how.ranges = calibrate(device, work.model, {work.values}).ranges;
    } catch (const compiler::HostOperatorError &error) {
      throw UnsupportedError(error.op(), "precision " + options.precision +
                                             " needs ranges, which are measured of models without nodes that the "
                                             "host computes: " +
                                             error.what());
    }
    recorder.take();  // what calibrating took is not asked for
  }
  progress("compiling " + options.model);
  Session session(device, work.model, how);
  session.run(work.values);
  Case result{std::filesystem::path(options.model).filename(), recorder.take(), session.host_fallback()};
  if (result.run.launches.empty()) {
    throw UnsupportedError("profile",
                           "the device computes nothing of the model; " + host_fallback_text(session.host_fallback()));
  }
  std::vector<Case> cases;
  cases.push_back(std::move(result));
  return cases;
}

constexpr const char *kFreeLaunches = "launches that cost nothing";

/// What free launches still take, with the reason for each part.
std::string left_of_launches(const RunTimes &times) {
  static constexpr std::array<const char *, kLaunchPartNames.size()> kWhy = {
      "firmware", "packets", "program tables from device memory", "completion records", "waiting"};
  const bool none = std::all_of(times.launch.begin(), times.launch.end(), [](uint64_t ps) { return ps == 0; });
  return none ? "" : "left: " + launch_text(times, kWhy);
}

nlohmann::ordered_json launch_parts_us(const RunTimes &times) {
  nlohmann::ordered_json parts;
  for (std::size_t p = 0; p < kLaunchPartNames.size(); ++p) {
    parts[kLaunchPartNames[p]] = static_cast<double>(times.launch[p]) / 1e6;
  }
  return parts;
}

/// Chips that differ from the profiled one in one respect.
std::vector<WhatIf> variations(const ProfileOptions &options, const Target &target) {
  std::vector<const char *> sets;
  for (const std::string &set : options.chip.sets) sets.push_back(set.c_str());
  char *text = nullptr;
  const std::string path = options.chip.path();
  const int code = cx_config_show(path.c_str(), sets.data(), sets.size(), 1, &text);
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  if (code != CX_PORT_OK) throw InputError(text != nullptr ? text : "the configuration cannot be shown");
  const auto config = nlohmann::json::parse(text);
  const auto value = [&](std::string key) -> const nlohmann::json & {
    std::replace(key.begin(), key.end(), '.', '/');
    return config.at(nlohmann::json::json_pointer("/" + key));
  };
  const auto number = [&](const char *key) { return value(key).get<double>(); };
  const auto set = [](const char *key, double value) { return fmt::format("{}={}", key, value); };
  std::vector<WhatIf> all;
  if (value("dram.preset") == "none") {
    all.push_back(
        {"device memory twice as fast", {set("dram.bandwidth_gbps", 2 * number("dram.bandwidth_gbps"))}, 0, {}});
  } else {
    all.push_back({"twice the channels of device memory", {set("dram.channels", 2 * number("dram.channels"))}, 0, {}});
  }
  constexpr double kFastest = 1024;
  all.push_back({kFreeLaunches, {set("cp.speed", kFastest), "cp.registers=port", set("cp.port_cycles", 0)}, 0, {}});
  constexpr double kLargestKib = 2097152;
  all.push_back({"a scratchpad that holds everything", {set("spm.kib", kLargestKib)}, 0, {}});
  all.push_back({"a scratchpad twice as wide", {set("spm.bytes_per_cycle", 2 * number("spm.bytes_per_cycle"))}, 0, {}});
  all.push_back({"twice the MAC tiles", {set("dmmu.tiles", 2.0 * target.tiles)}, 0, {}});
  all.push_back({"twice the lanes of the vector unit", {set("vpu.lanes", 2.0 * target.vpu_lanes)}, 0, {}});
  all.push_back(
      {"a network on chip twice as wide", {set("noc.bytes_per_cycle", 2 * number("noc.bytes_per_cycle"))}, 0, {}});
  all.push_back({"PCIe with a latency of 1 ns", {set("pcie.latency_ns", 1)}, 0, {}});
  return all;
}

/// Compiles and runs the model on each of them; for each of the runs. Results are not looked at: timing-only where the
/// program allows it.
std::vector<std::vector<WhatIf>> measure(const std::vector<WhatIf> &variations, const ProfileOptions &options,
                                         const Work &work, std::size_t runs) {
  std::vector<std::vector<WhatIf>> all(runs, variations);
  for (std::size_t v = 0; v < variations.size(); ++v) {
    progress("what if: " + variations[v].name);
    ProfileOptions changed = options;
    changed.chip.sets.insert(changed.chip.sets.end(), variations[v].sets.begin(), variations[v].sets.end());
    changed.timing_only = true;
    try {
      const std::unique_ptr<Device> device = changed.chip.open();
      const std::vector<Case> cases = run_model(changed, *device, work);
      for (std::size_t i = 0; i < runs; ++i) {
        const RecordedRun &run = cases.at(i).run;
        all[i][v].latency_us = run.report.latency_us;
        const auto most = static_cast<std::size_t>(run.times.limited_by());
        const auto whole = static_cast<double>(std::max<uint64_t>(run.times.end - run.times.begin, 1));
        all[i][v].limited_by = kReasonNames[most];
        all[i][v].limited_share = static_cast<double>(run.times.by_reason()[most]) / whole;
        if (variations[v].name != kFreeLaunches) continue;
        all[i][v].remark = left_of_launches(run.times);
        all[i][v].launch_parts_us = launch_parts_us(run.times);
      }
    } catch (const Error &error) {
      for (std::vector<WhatIf> &of_run : all) of_run[v].error = error.what();
    }
  }
  return all;
}

/// Device memory of all programs of a run, without what bound tensors share.
uint64_t fixed_bytes(const RecordedRun &run) {
  uint64_t bytes = run.report.image_bytes;
  for (const RecordedLaunch &launch : run.launches) {
    for (const auto *bindings : {&launch.outline.inputs, &launch.outline.outputs}) {
      for (const Binding &binding : *bindings) bytes += binding.bytes;
    }
  }
  return bytes;
}

nlohmann::ordered_json run_json(const ProfiledRun &profiled, const std::vector<WhatIf> &what_if) {
  const RecordedRun &run = profiled.recorded;
  nlohmann::ordered_json json;
  json["model"] = profiled.model;
  json["config"] = profiled.config;
  json["precision"] = profiled.precision;
  json["headline"] = headline(profiled);
  const auto sums = run.times.by_reason();
  json["limited_by"] = kReasonNames[static_cast<std::size_t>(run.times.limited_by())];
  json["latency_us"] = run.report.latency_us;
  json["cycles"] = run.report.cycles;
  json.update(profile_json(run.profile, profiled.target));
  for (int r = 0; r < kReasons; ++r) json["critical_path_us"][kReasonNames[r]] = static_cast<double>(sums[r]) / 1e6;
  json["launch_parts_us"] = launch_parts_us(run.times);
  json["reasons"] = kReasonNames;
  json["nodes"] = profile_nodes(profiled);
  json["tracks"] = kEngineNames;
  json["stalls"] = profile_stalls(profiled);
  for (const WhatIf &variation : what_if) json["what_if"].push_back(what_if_json(variation));
  json.update(nlohmann::ordered_json(energy_json(run.report)));
  json["sca"] = sca_json(run.statistics);
  if (!profiled.host_operators.empty()) {
    json["programs"] = nlohmann::ordered_json::array();
    for (const RecordedLaunch &launch : run.launches) {
      json["programs"].push_back(profile_json(launch.profile, profiled.target));
    }
    json["host_fallback"] = nlohmann::ordered_json(nlohmann::json(profiled.host_operators));
  }
  const uint64_t fixed = fixed_bytes(run);
  json["peak_bytes"] = fixed + run.statistics.workspace_bytes;
  json["peak_bytes_no_reuse"] = fixed + run.statistics.workspace_bytes_no_reuse;
  json["workspace_bytes"] = run.statistics.workspace_bytes;
  json["workspace_bytes_no_reuse"] = run.statistics.workspace_bytes_no_reuse;
  json["compile_s"] = run.compile_s;
  json["run_s"] = run.wall_s - run.compile_s;
  json["wall_s"] = run.wall_s;
  json["host_peak_bytes"] = peak_resident_bytes();
  return json;
}

void print_run(const ProfiledRun &profiled, const std::vector<WhatIf> &what_if) {
  const RecordedRun &run = profiled.recorded;
  fmt::print("{}\n", limits_text(profiled));
  if (!profiled.host_operators.empty()) {
    fmt::print("{}; its time is not in these figures\n\n", host_fallback_text(profiled.host_operators));
  }
  if (!what_if.empty()) fmt::print("{}\n", what_if_table(what_if, run.report.latency_us));
  fmt::print("{}\n{}{}\n", stall_table(profiled), node_table(profiled), sparse_table(run.profile, profiled.target));
  fmt::print("{}", energy_table(run.report));
  if (run.statistics.sparse_products != 0) {
    fmt::print(
        "{} products on the SCA: {} multiply-accumulates skipped, {} bytes of weights saved (cx run lists them)\n",
        run.statistics.sparse_products, grouped(run.statistics.macs_skipped), run.statistics.sparse_bytes_saved);
  }
  const uint64_t fixed = fixed_bytes(run);
  fmt::print("device memory {} bytes, without reuse {}; of intermediate tensors {}, without reuse {}\n",
             grouped(fixed + run.statistics.workspace_bytes), grouped(fixed + run.statistics.workspace_bytes_no_reuse),
             grouped(run.statistics.workspace_bytes), grouped(run.statistics.workspace_bytes_no_reuse));
  fmt::print("this computer: compile {:.2f} s, load and run {:.2f} s, all {:.2f} s, {} MiB\n", run.compile_s,
             run.wall_s - run.compile_s, run.wall_s, peak_resident_bytes() >> 20);
}

struct Outcome {
  int status = kDone;
  std::vector<nlohmann::ordered_json> documents;  ///< where they are wanted
};

/// Profiles on one chip; prints unless `quiet`.
Outcome profile_one(const ProfileOptions &options, const Work &work, bool quiet, bool documents) {
  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  const Target &target = device->target();
  const std::vector<Case> cases = run_model(options, *device, work);
  std::vector<std::vector<WhatIf>> what_if(cases.size());
  if (options.what_if) what_if = measure(variations(options, target), options, work, cases.size());
  Outcome outcome;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const ProfiledRun profiled = cases[i].profiled(options, target);
    if (documents) outcome.documents.push_back(profile_document(profiled, what_if[i]));
    if (!quiet && options.json) list.push_back(run_json(profiled, what_if[i]));
    if (!quiet && !options.json) fmt::print("{}", i == 0 ? "" : "\n");
    if (!quiet && !options.json) print_run(profiled, what_if[i]);
    if (profiled.recorded.profile.violation.empty()) continue;
    outcome.status = kCheckFailed;
    fmt::print(stderr, "cx: {}\n", profiled.recorded.profile.violation);
  }
  if (!quiet && options.json) {
    fmt::print("{}\n", (cases.size() == 1 ? list[0] : nlohmann::ordered_json{{"runs", list}}).dump(2));
  }
  return outcome;
}

std::vector<int64_t> prompt_of(const ProfileOptions &options) {
  if (options.prompt.empty()) return options.prompt_tokens;
  if (!options.prompt_tokens.empty()) throw UsageError("--prompt and --prompt-tokens exclude each other");
  if (options.inputs.tokenizer.empty()) throw UsageError("--prompt needs --tokenizer FILE");
  return load_tokenizer(options.inputs.tokenizer)->encode(options.prompt);
}

int profile(const ProfileOptions &options) {
  if (options.chip.device.starts_with("vfio-user:")) {
    throw UsageError("a card of another process is traced there (cx device --trace FILE); cx profile has its own");
  }
  compiler::Model model(options.model);
  Work work{model, {}, prompt_of(options)};
  if (!options.is_language_model()) {
    if (options.context != 0) throw UsageError("--context is of a language model: give --prompt or --prompt-tokens");
    work.values = input_values(model, options.inputs, nullptr);
  }
  if (!options.trace.empty() && options.what_if) {
    throw UsageError("--trace and --what-if exclude each other: every changed chip would be in the trace");
  }
  if (options.configs.size() > 2) throw UsageError("--config: one chip, or two to compare");
  const bool compared = options.configs.size() > 1;
  const bool documents = !options.document.empty() || !options.html.empty() || compared;
  std::vector<std::vector<nlohmann::ordered_json>> chips;
  int status = kDone;
  std::optional<TraceSignals> signals;
  std::optional<TraceFile> trace;
  if (!options.trace.empty()) signals.emplace().watch(&trace.emplace(options.trace, true));
  for (std::size_t i = 0; i < std::max<std::size_t>(options.configs.size(), 1); ++i) {
    ProfileOptions one = options;
    if (!options.configs.empty()) one.chip.config = options.configs[i];
    Outcome outcome = profile_one(one, work, compared, documents);
    status = std::max(status, outcome.status);
    chips.push_back(std::move(outcome.documents));
  }
  if (trace) {
    signals->watch(nullptr);
    trace->finish();
  }
  if (!documents) return status;
  nlohmann::ordered_json file = {{"format", "cx-profile"}, {"version", 1}};
  nlohmann::ordered_json printed;
  for (std::size_t i = 0; compared && i < chips[0].size(); ++i) {
    const auto &a = chips[0][i], &b = chips[1][i];
    std::vector<std::string> lines = compare_runs(a, b);
    if (chips[0].size() > 1) lines.insert(lines.begin(), a["model"].get<std::string>());
    if (!options.json) fmt::print("{}{}", i == 0 ? "" : "\n", comparison_text(lines, a, b));
    for (const std::string &line : lines) {
      file["comparison"].push_back(line);
      printed["comparison"].push_back(line);
    }
    for (const auto *run : {&a, &b}) {
      printed["runs"].push_back({{"model", (*run)["model"]},
                                 {"config", (*run)["config"]},
                                 {"summary", (*run)["summary"]},
                                 {"critical_path_ns", (*run)["critical_path"]["by_reason"]},
                                 {"reasons", (*run)["reasons"]},
                                 {"nodes", (*run)["nodes"]},
                                 {"what_if", (*run)["what_if"]}});
    }
  }
  if (compared && options.json) fmt::print("{}\n", printed.dump(2));
  if (options.document.empty() && options.html.empty()) return status;
  for (std::size_t i = 0; i < chips[0].size(); ++i) {
    for (auto &of_chip : chips) file["runs"].push_back(std::move(of_chip[i]));
  }
  if (!options.html.empty()) write_report(options.html, {{std::filesystem::path(options.model).stem(), file.dump()}});
  if (options.document.empty()) return status;
  std::ofstream out(options.document);
  out << file.dump() << '\n';
  if (!out.flush()) throw InputError(options.document + ": cannot be written");
  return status;
}

}  // namespace

void add_profile(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<ProfileOptions>();
  CLI::App *command = app.add_subcommand(
      "profile",
      "Run an ONNX model and tell what limits it: critical path, stalls, graph nodes, distance to a lower bound");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  command->remove_option(command->get_option("--config"));
  command
      ->add_option("--config", options->configs,
                   "Chip: a YAML file, or the name of one that ships; given twice, what makes the difference is told")
      ->take_all()
      ->expected(1)
      ->default_str(options->chip.config);
  options->sca.add_to(*command);
  command
      ->add_option("--precision", options->precision,
                   "Weights and activations on the device: " + compiler::precision_names())
      ->capture_default_str();
  options->inputs.seed = 1;
  add_input_options(*command, options->inputs);
  command->add_option("--prompt", options->prompt,
                      "A decoder language model (docs/language-models.md): profile the prefill of this text, and the "
                      "step after it; with --tokenizer");
  command->add_option("--prompt-tokens", options->prompt_tokens, "The same as token numbers: 3,1,4")->delimiter(',');
  command->add_option("--context", options->context,
                      "Tokens that the language model sees or its cache holds, where the model leaves it open");
  command->add_flag("--json", options->json, "Print JSON instead of tables");
  command->add_flag("--what-if", options->what_if,
                    "Simulate the model on chips that differ in one respect each, and tell what each would gain");
  command->add_option("--trace", options->trace,
                      "File for a timeline of card and host, which https://ui.perfetto.dev opens; of two chips one "
                      "after the other, each with its tracks");
  command->add_option("--html", options->html, "The document as a page that any browser opens");
  command->add_option("--document", options->document,
                      "JSON file with timeline, critical path, roofline and memory (docs/reference/profile-json.md)");
  command->callback([options, &invocation] { invocation.action = [options] { return profile(*options); }; });
}

}  // namespace cx::tools
