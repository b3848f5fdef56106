// A model on a device: loaded once, run with tensors of any shapes that its symbols allow.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/executable.hpp"

namespace cx {

struct SessionOptions {
  compiler::Precision precision = compiler::Precision::fp32;
  std::map<std::string, float> ranges;          ///< of the 8-bit precisions, see compiler::CompileOptions
  std::optional<float> constant_range;          ///< likewise
  compiler::ScaOptions sca;                     ///< likewise
  std::map<std::string, std::string> in_place;  ///< {output, input} by name, see compiler::CompileOptions
  std::size_t max_programs = 32;  ///< programs kept on the device; the one unused for longest makes room. At least 1
};

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
/// and compiles the model (reading its file again); later ones with the same find the program. All programs share their
/// constants on the device. Values that the compiler needs (a shape given as an input) count like dimensions. Outlives
/// no device. One thread at a time.
class Session {
 public:
  /// Reads the model's inputs and outputs. Throws InputError, UnsupportedError as compiler::inspect_onnx(), and
  /// InputError when the target's DMMU lacks the precision.
  Session(Device &device, const std::filesystem::path &model, const SessionOptions &options = {});

  const std::filesystem::path &model() const { return model_; }
  const std::vector<compiler::InputInfo> &inputs() const { return inputs_; }
  const std::vector<compiler::InputInfo> &outputs() const { return outputs_; }

  /// As Executable: from the next run on the tensor stays on the device. Its dimensions count like those of an input
  /// from the host. Throws InputError for a name or type that is not the model's.
  void bind_input(const std::string &name, DeviceTensor tensor);
  void bind_output(const std::string &name, DeviceTensor tensor);

  /// One tensor for each input that is not bound; all unbound outputs, or the named ones, in the order asked for.
  /// Throws InputError for tensors that do not fit the model, what import_onnx(), compile() and Executable throw.
  std::vector<HostTensor> run(std::span<const HostTensor> inputs);
  std::vector<HostTensor> run(std::span<const HostTensor> inputs, std::span<const std::string> outputs);

  /// Of the last run that succeeded. Throws UsageError when there is none.
  const RunReport &report() const;
  /// Of the program of the last run.
  const compiler::CompileStatistics &compile_statistics() const;
  const Program &program() const;
  SessionStatistics statistics() const;

 private:
  struct Entry {
    std::string key;
    compiler::CompileStatistics statistics;
    std::set<std::string> fixed;  // inputs whose values are in the program
    std::unique_ptr<Executable> executable;
  };
  const compiler::InputInfo &info(const std::vector<compiler::InputInfo> &infos, const std::string &name,
                                  const char *kind) const;
  void check(std::span<const HostTensor> inputs) const;
  std::string key_of(std::span<const HostTensor> inputs) const;
  Entry &find_or_compile(std::span<const HostTensor> inputs);
  Entry compile(std::span<const HostTensor> inputs);
  std::vector<HostTensor> run_entry(std::span<const HostTensor> inputs, const std::span<const std::string> *outputs);

  Device &device_;
  std::filesystem::path model_;
  SessionOptions options_;
  std::vector<compiler::InputInfo> inputs_, outputs_;
  std::map<std::string, DeviceTensor> bound_inputs_, bound_outputs_;
  std::set<std::string> needed_;  // inputs whose values some compilation asked for
  std::shared_ptr<SharedConstants> constants_;
  std::shared_ptr<ResidentConstants> resident_;
  std::list<Entry> entries_;  // the latest used first
  const Entry *last_ = nullptr;
  SessionStatistics statistics_;
};

/// "float32 [batch, 3, 224, 224]", "?" for a dimension without a name.
std::string signature_text(const compiler::InputInfo &info);

}  // namespace cx
