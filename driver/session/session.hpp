// A model on a device: loaded once, run with tensors of any shapes that its symbols allow.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/compiler/frontend/partition.hpp"
#include "driver/runtime/executable.hpp"

namespace cx {

/// Copies inside the device that belong to no program.
struct DeviceCopies {
  std::vector<std::string> tensors;  ///< that were written
  uint64_t bytes = 0;                ///< copied: each is read once and written once
  /// Cycles and latency from the start of the first copy to the end of the last one; nothing of launches.
  RunReport report;
};

/// Sees the programs that a session launches, and copies that a language model makes between them, for measurements.
class LaunchObserver {
 public:
  virtual ~LaunchObserver() = default;
  virtual void before(const Executable &executable) = 0;
  /// Of a launch that has ended without an error.
  virtual void after(const Executable &executable, const compiler::CompileStatistics &statistics) = 0;
  virtual void before_copies() {}
  /// They have ended without an error.
  virtual void after_copies(const DeviceCopies &) {}
};

struct SessionOptions {
  compiler::Precision precision = compiler::Precision::fp32;
  std::map<std::string, float> ranges;          ///< of the 8-bit precisions, see compiler::CompileOptions
  std::optional<float> constant_range;          ///< likewise
  compiler::ScaOptions sca;                     ///< likewise
  std::map<std::string, std::string> in_place;  ///< {output, input} by name, see compiler::CompileOptions
  std::size_t max_programs = 32;  ///< programs kept on the device; the one unused for longest makes room. At least 1
  /// Programs share their constants on the device; false: each has them in its image.
  bool share_constants = true;
  /// The parsed model stays in host memory for later compilations; false: these read the file again.
  bool keep_model = true;
  /// As ExecutableOptions::timing_only; a run with nodes that the host computes is in full.
  bool timing_only = false;
  compiler::StepObserver *observer = nullptr;  ///< of imports and compilations
  LaunchObserver *launches = nullptr;
};

/// Nodes of one operator that the host computed in a run.
struct HostOperator {
  std::string op;
  std::vector<std::string> nodes;  ///< names
  double wall_s = 0;               ///< of this computer
};
void to_json(nlohmann::json &json, const HostOperator &host);
/// "host fallback: NonZero x1, Unique x2"; empty if there is none.
std::string host_fallback_text(const std::vector<HostOperator> &host);

struct SessionStatistics {
  uint64_t runs = 0;
  uint64_t compilations = 0;
  uint64_t cache_hits = 0;  ///< runs that found their program
  uint64_t evictions = 0;
  double compile_s = 0;                ///< host time of all compilations
  uint64_t constant_bytes = 0;         ///< of all programs, on the device, each content once
  uint64_t constant_bytes_reused = 0;  ///< that later programs found there
};

/// The symbols of a model's input shapes are bound by the tensors of a run. The first run with new dimensions imports
/// and compiles the model; later ones with the same find the program. All programs share their constants on the device.
/// Values that the compiler needs (a shape given as an input) count like dimensions.
///
/// Nodes whose results have shapes that follow from values (NonZero, Unique, NonMaxSuppression, ...) are computed on
/// the host; the model is then cut at them into parts, each a program for the shapes that came out. Tensors that later
/// parts read come to the host in between. Outlives no device. One thread at a time.
class Session {
 public:
  /// Reads the model's inputs and outputs. Throws InputError, UnsupportedError as compiler::inspect_onnx(), and
  /// InputError when the target's DMMU lacks the precision.
  Session(Device &device, const std::filesystem::path &model, const SessionOptions &options = {});
  Session(Device &device, const compiler::Model &model, const SessionOptions &options = {});

  const std::filesystem::path &model() const { return model_.path(); }
  const std::vector<compiler::InputInfo> &inputs() const { return inputs_; }
  const std::vector<compiler::InputInfo> &outputs() const { return outputs_; }

  /// As Executable: from the next run on the tensor stays on the device. Its dimensions count like those of an input
  /// from the host. Throws InputError for a name or type that is not the model's.
  void bind_input(const std::string &name, DeviceTensor tensor);
  void bind_output(const std::string &name, DeviceTensor tensor);

  /// One tensor for each input that is not bound; all unbound outputs, or the named ones, in the order asked for.
  /// Throws InputError for tensors that do not fit the model, UnsupportedError when the compiler needs all values of a
  /// run and nothing is left for the device, what import_onnx(), compile() and Executable throw.
  std::vector<HostTensor> run(std::span<const HostTensor> inputs);
  std::vector<HostTensor> run(std::span<const HostTensor> inputs, std::span<const std::string> outputs);

  /// Of the last run that succeeded, all its programs together. Throws UsageError when there is none.
  const RunReport &report() const;
  const compiler::CompileStatistics &compile_statistics() const;
  /// Throws UsageError when the last run had none or several.
  const Program &program() const;
  std::size_t programs() const { return programs_; }  ///< that the last run ran
  /// What the host computed in the last run, in order of first use. With no programs: the whole result.
  const std::vector<HostOperator> &host_fallback() const { return host_; }
  /// Inputs whose values are in the programs of the last run.
  const std::vector<std::string> &fixed_inputs() const { return fixed_; }
  SessionStatistics statistics() const;
  compiler::Precision precision() const { return options_.precision; }

 private:
  struct Entry {
    std::string key;
    compiler::CompileStatistics statistics;
    std::set<std::string> fixed;             // inputs whose values are in the program
    std::vector<HostTensor> folded;          // results of a part that the compiler knows
    std::unique_ptr<Executable> executable;  // none if all are
  };
  using Values = std::map<std::string, const HostTensor *>;
  // What a run has so far: the inputs, results of parts and of the host.
  struct Run {
    Values values;
    std::list<HostTensor> owned;
    std::vector<std::string> outputs;
    void add(HostTensor tensor);
    bool has(const std::string &name) const { return values.count(name) != 0; }
  };
  const compiler::InputInfo &info(const std::vector<compiler::InputInfo> &infos, const std::string &name,
                                  const char *kind) const;
  void check(std::span<const HostTensor> inputs) const;
  std::string key_of(const Values &values, const std::vector<std::string> &wanted) const;
  Entry &find_or_compile(const Values &values, const std::vector<std::string> &wanted);
  Entry compile(const Values &values, const std::vector<std::string> &wanted);
  compiler::Graph import(const Values &values, const std::vector<std::string> &wanted, Entry &entry);
  void fix(const compiler::ValueNeededError &error, const Values &values, compiler::ImportOptions &import,
           Entry &entry);
  std::vector<HostTensor> run_entry(std::span<const HostTensor> inputs, const std::span<const std::string> *outputs);
  std::vector<HostTensor> launch(Entry &entry, const Values &values, const std::vector<std::string> *outputs);
  void run_parts(Run &run);
  void run_host_node(const compiler::HostNode &node, Run &run);
  std::vector<HostTensor> results(Run &run) const;

  Device &device_;
  compiler::Model model_;
  SessionOptions options_;
  std::vector<compiler::InputInfo> inputs_, outputs_;
  std::map<std::string, DeviceTensor> bound_inputs_, bound_outputs_;
  std::set<std::string> needed_;  // inputs whose values some compilation asked for
  std::shared_ptr<SharedConstants> constants_;
  std::shared_ptr<ResidentConstants> resident_;
  std::list<Entry> entries_;  // the latest used first
  compiler::Partition partition_;
  const Entry *last_ = nullptr;
  std::optional<RunReport> report_;
  compiler::CompileStatistics last_statistics_;
  std::size_t programs_ = 0;
  std::vector<HostOperator> host_;
  std::vector<std::string> fixed_;
  SessionStatistics statistics_;
};

/// What reports of the last run have in addition when the host computed nodes, else an empty object: `programs`,
/// `host_fallback` and `host_only`, true when the device computed nothing.
nlohmann::json host_fallback_json(const Session &session);

/// "float32 [batch, 3, 224, 224]", "?" for a dimension without a name.
std::string signature_text(const compiler::InputInfo &info);

}  // namespace cx
