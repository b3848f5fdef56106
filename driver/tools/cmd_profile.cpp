// cx profile: where the time of a model goes, and how far it is from what the chip could do at best.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/critical_path.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/profile.hpp"
#include "driver/tools/profile_document.hpp"
#include "driver/tools/report_page.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/sca_report.hpp"
#include "driver/tools/trace.hpp"
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
  std::string document, html;
  bool json = false, what_if = false;
  bool timing_only = false;  ///< of what-if runs
};

uint64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

/// Traces the programs of a session's run.
class ProgramProfiles : public LaunchObserver {
 public:
  explicit ProgramProfiles(const Target &target) : target_(target) {}
  void before(const Program &) override { start_trace(); }
  void after(const Program &program, const compiler::CompileStatistics &statistics, const RunReport &report) override {
    profiles_.push_back(make_profile(finish_trace(), program, statistics, report, target_));
  }
  const std::vector<Profile> &profiles() const { return profiles_; }

 private:
  const Target &target_;
  std::vector<Profile> profiles_;
};

/// A model of which the host computes some nodes: each of its programs by itself. The bound is the sum of theirs.
int profile_parts(const ProfileOptions &options, Device &device, const compiler::Model &model,
                  const std::vector<HostTensor> &values) {
  const Target &target = device.target();
  ProgramProfiles programs(target);
  SessionOptions how;
  how.precision = compiler::precision_from(options.precision);
  how.sca = options.sca.options();
  how.share_constants = false;
  how.launches = &programs;
  Session session(device, model, how);
  session.run(values);
  const std::string host = host_fallback_text(session.host_fallback());
  if (programs.profiles().empty())
    throw UnsupportedError("profile", "the device computes nothing of the model; " + host);
  const auto microseconds = [&target](double cycles) { return cycles * 1e3 / std::max(target.clock_khz, 1U); };
  double launch_us = 0;
  double bound_us = 0;
  std::string violation;
  for (const Profile &part : programs.profiles()) {
    launch_us += microseconds(static_cast<double>(part.launch_cycles));
    bound_us += microseconds(part.bound_cycles);
    if (violation.empty()) violation = part.violation;
  }
  if (options.json) {
    nlohmann::ordered_json json;
    json["model"] = std::filesystem::path(options.model).filename();
    json["config"] = options.chip.name();
    json["precision"] = options.precision;
    json["latency_us"] = session.report().latency_us;
    json["launch_us"] = launch_us;
    json["bound_us"] = bound_us;
    json["bound_ratio"] = launch_us == 0 ? 0 : bound_us / launch_us;
    json["programs"] = nlohmann::ordered_json::array();
    for (const Profile &part : programs.profiles()) json["programs"].push_back(profile_json(part, target));
    json["host_fallback"] = nlohmann::ordered_json(nlohmann::json(session.host_fallback()));
    json["sca"] = sca_json(session.compile_statistics());
    json["compile_s"] = session.statistics().compile_s;
    fmt::print("{}\n", json.dump(2));
  } else {
    for (std::size_t i = 0; i < programs.profiles().size(); ++i) {
      fmt::print("program {} of {}\n{}\n", i + 1, programs.profiles().size(),
                 profile_table(programs.profiles()[i], target));
    }
    fmt::print("{}; its time is not in these figures\n", host);
    fmt::print("launches {:.2f} us, bounds together {:.2f} us; latency with copies from and to the host {:.2f} us\n",
               launch_us, bound_us, session.report().latency_us);
  }
  if (violation.empty()) return kDone;
  fmt::print(stderr, "cx: {}\n", violation);
  return kCheckFailed;
}

/// A run of a model that is one program, with all that is known of it. Members refer to each other: it stays where it
/// is.
class WholeRun {
 public:
  using Clock = std::chrono::steady_clock;

  /// Compiles and runs on an open card, which must outlive it; `values` are all inputs. Where the host computes nodes
  /// nothing runs, and whole() is false.
  WholeRun(const ProfileOptions &options, Device &device, compiler::Model &model, const std::vector<HostTensor> &values)
      : target_(device.target()) {
    const auto begin = Clock::now();
    const Observed observed(host_);
    compiler::CompileOptions compile_options;
    compile_options.precision = compiler::precision_from(options.precision);
    compile_options.sca = options.sca.options();
    compiler::require_precision(target_, compile_options.precision);
    SplitInputs inputs = split_inputs(values);
    std::optional<compiler::Graph> graph;
    auto booted = Clock::now();
    try {
      if (compiler::needs_ranges(compile_options.precision)) {
        progress("calibrating on the run's inputs");
        compile_options.ranges = calibrate(device, model, {values}).ranges;
      }
      progress("compiling " + options.model);
      booted = Clock::now();
      const HostSpan span("import");
      graph = bind_as_needed(inputs, [&] { return compiler::import_onnx(model, inputs.import); });
    } catch (const compiler::HostOperatorError &error) {
      if (!compiler::needs_ranges(compile_options.precision)) return;
      throw UnsupportedError(error.op(), "precision " + options.precision +
                                             " needs ranges, which are measured of models without nodes that the "
                                             "host computes: " +
                                             error.what());
    }
    whole_ = true;
    Program program;
    {
      const HostSpan span("compile");
      program = compiler::compile(*graph, target_, compile_options, &statistics_);
    }
    graph.reset();
    const auto compiled = Clock::now();
    ExecutableOptions how;
    how.timing_only = options.timing_only;
    executable_.emplace(device, std::move(program), how);
    start_trace(0, TraceFile::kSamplePs);
    try {
      executable_->run(inputs.runtime);
    } catch (...) {
      finish_trace();
      throw;
    }
    note_units();
    trace_ = finish_trace();
    const auto end = Clock::now();
    compile_s = seconds(booted, compiled);
    run_s = seconds(compiled, end);
    wall_s = seconds(begin, end);
    const auto of_run = records_of_run(trace_);
    profile_ = make_profile(of_run, executable_->program(), statistics_, executable_->report(), target_);
    const GroupFinder group_of(executable_->program(), statistics_.details);
    times_ = run_times(of_run, [&](uint32_t engine, uint32_t pc) { return static_cast<int>(group_of(engine, pc)); });
  }

  bool whole() const { return whole_; }
  const Executable &executable() const { return *executable_; }
  const compiler::CompileStatistics &statistics() const { return statistics_; }
  const Profile &profile() const { return profile_; }

  ProfiledRun described(const ProfileOptions &options) const {
    return {std::filesystem::path(options.model).filename(),
            options.chip.name(),
            options.precision,
            executable_->program(),
            statistics_,
            executable_->report(),
            target_,
            profile_,
            times_,
            records_of_run(trace_),
            executable_->segments(),
            host_.spans(),
            units_,
            compile_s,
            wall_s};
  }

  double compile_s = 0, run_s = 0, wall_s = 0;

 private:
  /// host_trace while it lives.
  class Observed {
   public:
    explicit Observed(HostSpans &spans) { host_trace = &spans; }
    ~Observed() { host_trace = nullptr; }
    Observed(const Observed &) = delete;
    Observed &operator=(const Observed &) = delete;
  };

  static double seconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  }

  /// While the card is traced it tells the names of its links.
  void note_units() {
    for (const unsigned kind : {unsigned{CX_TRACE_DRAM}, unsigned{CX_TRACE_LINK}}) {
      char text[64];
      for (uint32_t unit = 0; cx_port_trace_unit(kind, unit, text, sizeof text) == CX_PORT_OK; ++unit) {
        units_.push_back(fmt::format("{}/{} {}", kind, unit, text));
      }
    }
  }

  const Target target_;
  bool whole_ = false;
  HostSpans host_;
  compiler::CompileStatistics statistics_;
  std::optional<Executable> executable_;
  std::vector<cx_trace_record> trace_;
  std::vector<std::string> units_;
  Profile profile_;
  RunTimes times_;
};

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
  all.push_back({"launches without the firmware's time", {set("cp.speed", kFastest)}, 0, {}});
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

/// Compiles and runs the model on each of them. Results are not looked at: timing-only where the program allows it.
std::vector<WhatIf> measure(std::vector<WhatIf> all, const ProfileOptions &options, compiler::Model &model,
                            const std::vector<HostTensor> &values) {
  for (WhatIf &variation : all) {
    progress("what if: " + variation.name);
    ProfileOptions changed = options;
    changed.chip.sets.insert(changed.chip.sets.end(), variation.sets.begin(), variation.sets.end());
    changed.timing_only = true;
    try {
      const std::unique_ptr<Device> device = changed.chip.open();
      const WholeRun run(changed, *device, model, values);
      variation.latency_us = run.executable().report().latency_us;
    } catch (const Error &error) {
      variation.error = error.what();
    }
  }
  return all;
}

/// Profiles on one chip: prints, and returns the run's part of a document.
int profile_one(const ProfileOptions &options, compiler::Model &model, const std::vector<HostTensor> &values,
                bool quiet, nlohmann::ordered_json *document) {
  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  std::optional<WholeRun> whole;
  whole.emplace(options, *device, model, values);
  if (!whole->whole()) {
    if (document != nullptr || options.what_if) {
      throw UnsupportedError("profile",
                             "the host computes nodes of this model: --document, --html, --what-if and several "
                             "chips are for models that are one program");
    }
    return profile_parts(options, *device, model, values);
  }
  const RunReport &report = whole->executable().report();
  const Target &target = device->target();
  const Profile &result = whole->profile();
  const ProfiledRun run = whole->described(options);
  std::vector<WhatIf> what_if;
  if (options.what_if) what_if = measure(variations(options, target), options, model, values);
  if (document != nullptr) *document = profile_document(run, what_if);

  const compiler::CompileStatistics &statistics = whole->statistics();
  uint64_t bound_bytes = 0;
  for (const auto *bindings : {&whole->executable().program().inputs, &whole->executable().program().outputs}) {
    for (const Binding &binding : *bindings) bound_bytes += binding.bytes;
  }
  const uint64_t fixed = bound_bytes + report.image_bytes;
  if (options.json && !quiet) {
    nlohmann::ordered_json json;
    json["model"] = run.model;
    json["config"] = std::filesystem::path(options.chip.config).stem();
    json["precision"] = options.precision;
    json["latency_us"] = report.latency_us;
    json.update(profile_json(result, target));
    const auto sums = run.times.by_reason();
    for (int r = 0; r < kReasons; ++r) json["critical_path_us"][kReasonNames[r]] = static_cast<double>(sums[r]) / 1e6;
    json["headline"] = headline(run);
    for (const WhatIf &variation : what_if) {
      nlohmann::ordered_json entry = {{"name", variation.name}, {"sets", variation.sets}};
      if (variation.error.empty()) {
        entry["latency_us"] = variation.latency_us;
      } else {
        entry["error"] = variation.error;
      }
      json["what_if"].push_back(std::move(entry));
    }
    json.update(nlohmann::ordered_json(energy_json(report)));
    json["sca"] = sca_json(statistics);
    json["peak_bytes"] = fixed + statistics.workspace_bytes;
    json["peak_bytes_no_reuse"] = fixed + statistics.workspace_bytes_no_reuse;
    json["workspace_bytes"] = statistics.workspace_bytes;
    json["workspace_bytes_no_reuse"] = statistics.workspace_bytes_no_reuse;
    json["compile_s"] = whole->compile_s;
    json["run_s"] = whole->run_s;
    json["wall_s"] = whole->wall_s;
    json["host_peak_bytes"] = peak_resident_bytes();
    fmt::print("{}\n", json.dump(2));
  } else if (!quiet) {
    fmt::print("{}", profile_table(result, target));
    fmt::print("\n{}", path_table(run));
    if (!what_if.empty()) fmt::print("{}", what_if_table(what_if, report.latency_us));
    fmt::print("{}\n", energy_table(report));
    if (const std::string table = sca_table(statistics); !table.empty()) fmt::print("\n{}\n", table);
    fmt::print("latency with copies from and to the host {:.2f} us\n", report.latency_us);
    fmt::print("device memory {} bytes, without reuse {}; of intermediate tensors {}, without reuse {}\n",
               grouped(fixed + statistics.workspace_bytes), grouped(fixed + statistics.workspace_bytes_no_reuse),
               grouped(statistics.workspace_bytes), grouped(statistics.workspace_bytes_no_reuse));
    fmt::print("this computer: compile {:.2f} s, load and run {:.2f} s, all {:.2f} s, {} MiB\n", whole->compile_s,
               whole->run_s, whole->wall_s, peak_resident_bytes() >> 20);
  }
  if (result.violation.empty()) return kDone;
  fmt::print(stderr, "cx: {}\n", result.violation);
  return kCheckFailed;
}

int profile(const ProfileOptions &options) {
  compiler::Model model(options.model);
  const std::vector<HostTensor> values = input_values(model, options.inputs, nullptr);
  if (options.configs.size() > 2) throw UsageError("--config: one chip, or two to compare");
  const bool documents = !options.document.empty() || !options.html.empty() || options.configs.size() > 1;
  std::vector<nlohmann::ordered_json> runs;
  int status = kDone;
  for (std::size_t i = 0; i < std::max<std::size_t>(options.configs.size(), 1); ++i) {
    ProfileOptions one = options;
    if (!options.configs.empty()) one.chip.config = options.configs[i];
    nlohmann::ordered_json document;
    status =
        std::max(status, profile_one(one, model, values, options.configs.size() > 1, documents ? &document : nullptr));
    runs.push_back(std::move(document));
  }
  if (!documents) return status;
  nlohmann::ordered_json file = {{"format", "cx-profile"}, {"version", 1}};
  if (runs.size() > 1) {
    const std::vector<std::string> lines = compare_runs(runs[0], runs[1]);
    file["comparison"] = lines;
    if (options.json) {
      nlohmann::ordered_json json = {{"comparison", lines}};
      for (const auto &run : runs) {
        json["runs"].push_back({{"config", run["config"]},
                                {"summary", run["summary"]},
                                {"critical_path_ns", run["critical_path"]["by_reason"]}});
      }
      fmt::print("{}\n", json.dump(2));
    } else {
      for (const std::string &line : lines) fmt::print("{}\n", line);
      for (const auto &run : runs) {
        fmt::print("\n{}: {}\n", run["config"].get<std::string>(), run["summary"]["headline"].get<std::string>());
      }
    }
  }
  if (options.document.empty() && options.html.empty()) return status;
  file["runs"] = std::move(runs);
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
      "Run an ONNX model and print where its time goes, by groups of nodes, and how far it is from a lower bound");
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
  command->add_flag("--json", options->json, "Print JSON instead of the table");
  command->add_flag("--what-if", options->what_if,
                    "Simulate the model on chips that differ in one respect each, and tell what each would gain");
  command->add_option("--html", options->html, "The document as a page that any browser opens");
  command->add_option("--document", options->document,
                      "JSON file with timeline, critical path, roofline and memory (docs/reference/profile-json.md)");
  command->callback([options, &invocation] { invocation.action = [options] { return profile(*options); }; });
}

}  // namespace cx::tools
