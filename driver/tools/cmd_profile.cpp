// cx profile: where the time of a model goes, and how far it is from what the chip could do at best.
#include <fmt/core.h>
#include <sys/resource.h>

#include <chrono>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/calibration.hpp"
#include "driver/tools/command.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/model_inputs.hpp"
#include "driver/tools/profile.hpp"
#include "driver/tools/report_table.hpp"
#include "driver/tools/sca_report.hpp"
#include "driver/tools/trace.hpp"

namespace cx::tools {
namespace {

struct ProfileOptions {
  ChipOptions chip;
  ScaArguments sca;
  std::string model, precision = "fp16";
  InputOptions inputs;  ///< seeded with 1 where nothing else is said
  bool json = false;
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
  void before() override { start_trace(); }
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

int profile(const ProfileOptions &options) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  };
  const auto begin = Clock::now();
  compiler::CompileOptions compile_options;
  compile_options.precision = compiler::precision_from(options.precision);
  compile_options.sca = options.sca.options();
  compiler::Model model(options.model);
  const std::vector<HostTensor> values = input_values(model, options.inputs, nullptr);
  SplitInputs inputs = split_inputs(values);
  progress("booting the chip");
  const std::unique_ptr<Device> device = options.chip.open();
  compiler::require_precision(device->target(), compile_options.precision);
  std::optional<compiler::Graph> graph;
  const auto booted = [&] {
    try {
      if (compiler::needs_ranges(compile_options.precision)) {
        progress("calibrating on the run's inputs");
        compile_options.ranges = calibrate(*device, model, {values}).ranges;
      }
      progress("compiling " + options.model);
      const auto time = Clock::now();
      graph = bind_as_needed(inputs, [&] { return compiler::import_onnx(model, inputs.import); });
      return time;
    } catch (const compiler::HostOperatorError &error) {
      if (!compiler::needs_ranges(compile_options.precision)) return Clock::now();
      throw UnsupportedError(error.op(), "precision " + options.precision +
                                             " needs ranges, which are measured of models without nodes that the "
                                             "host computes: " +
                                             error.what());
    }
  }();
  if (!graph) return profile_parts(options, *device, model, values);
  model.release();
  compiler::CompileStatistics statistics;
  Program program = compiler::compile(*graph, device->target(), compile_options, &statistics);
  graph.reset();
  const auto compiled = Clock::now();
  Executable executable(*device, std::move(program));
  start_trace();
  executable.run(inputs.runtime);
  const std::vector<cx_port_trace_record> trace = finish_trace();
  const auto end = Clock::now();

  const RunReport &report = executable.report();
  const Target &target = device->target();
  const Profile result = make_profile(trace, executable.program(), statistics, report, target);
  uint64_t bound_bytes = 0;
  for (const auto *bindings : {&executable.program().inputs, &executable.program().outputs}) {
    for (const Binding &binding : *bindings) bound_bytes += binding.bytes;
  }
  const uint64_t fixed = bound_bytes + report.image_bytes;
  if (options.json) {
    nlohmann::ordered_json json;
    json["model"] = std::filesystem::path(options.model).filename();
    json["config"] = std::filesystem::path(options.chip.config).stem();
    json["precision"] = options.precision;
    json["latency_us"] = report.latency_us;
    json.update(profile_json(result, target));
    json.update(nlohmann::ordered_json(energy_json(report)));
    json["sca"] = sca_json(statistics);
    json["peak_bytes"] = fixed + statistics.workspace_bytes;
    json["peak_bytes_no_reuse"] = fixed + statistics.workspace_bytes_no_reuse;
    json["workspace_bytes"] = statistics.workspace_bytes;
    json["workspace_bytes_no_reuse"] = statistics.workspace_bytes_no_reuse;
    json["compile_s"] = seconds(booted, compiled);
    json["run_s"] = seconds(compiled, end);
    json["wall_s"] = seconds(begin, end);
    json["host_peak_bytes"] = peak_resident_bytes();
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}", profile_table(result, target));
    fmt::print("{}\n", energy_table(report));
    if (const std::string table = sca_table(statistics); !table.empty()) fmt::print("\n{}\n", table);
    fmt::print("latency with copies from and to the host {:.2f} us\n", report.latency_us);
    fmt::print("device memory {} bytes, without reuse {}; of intermediate tensors {}, without reuse {}\n",
               grouped(fixed + statistics.workspace_bytes), grouped(fixed + statistics.workspace_bytes_no_reuse),
               grouped(statistics.workspace_bytes), grouped(statistics.workspace_bytes_no_reuse));
    fmt::print("this computer: compile {:.2f} s, load and run {:.2f} s, all {:.2f} s, {} MiB\n",
               seconds(booted, compiled), seconds(compiled, end), seconds(begin, end), peak_resident_bytes() >> 20);
  }
  if (result.violation.empty()) return kDone;
  fmt::print(stderr, "cx: {}\n", result.violation);
  return kCheckFailed;
}

}  // namespace

void add_profile(CLI::App &app, Invocation &invocation) {
  auto options = std::make_shared<ProfileOptions>();
  CLI::App *command = app.add_subcommand(
      "profile",
      "Run an ONNX model and print where its time goes, by groups of nodes, and how far it is from a lower bound");
  command->add_option("model", options->model, "ONNX file")->required();
  options->chip.add_to(*command);
  options->sca.add_to(*command);
  command
      ->add_option("--precision", options->precision,
                   "Weights and activations on the device: " + compiler::precision_names())
      ->capture_default_str();
  options->inputs.seed = 1;
  add_input_options(*command, options->inputs);
  command->add_flag("--json", options->json, "Print JSON instead of the table");
  command->callback([options, &invocation] { invocation.action = [options] { return profile(*options); }; });
}

}  // namespace cx::tools
