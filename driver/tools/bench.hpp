// Subcommands of cx bench that are files of their own.
#pragma once

#include "driver/compiler/compiler.hpp"
#include "driver/tools/command.hpp"

namespace cx::tools {

/// What every benchmark of products takes.
struct BenchOptions {
  ChipOptions chip;
  std::string precision = "fp16";
  uint64_t seed = 1;  ///< of the values
  bool json = false;

  void add_to(CLI::App &command, const std::string &precisions = compiler::precision_names(), bool with_device = true) {
    command.add_option("--precision", precision, precisions)->capture_default_str();
    command.add_option("--seed", seed, "Seed of the values")->capture_default_str();
    chip.add_to(command, with_device);
    command.add_flag("--json", json, "JSON instead of a table");
  }
};
/// Precisions in which the sparse unit multiplies.
inline constexpr const char *kSparsePrecisions = "fp16, bf16, fp8_e4m3, fp8_e5m2 or int8";

void add_bench_claims(CLI::App &bench, Invocation &invocation);
void add_bench_layers(CLI::App &bench, Invocation &invocation);
void add_bench_operators(CLI::App &bench, Invocation &invocation);
void add_bench_spmm(CLI::App &bench, Invocation &invocation);
void add_bench_sparse(CLI::App &bench, Invocation &invocation);

}  // namespace cx::tools
