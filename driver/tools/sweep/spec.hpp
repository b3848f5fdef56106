// A sweep as its YAML file says it, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace cx::tools {

/// What may differ between points: a key of the chip, or workload.model, workload.layers, workload.precision.
struct SweepParameter {
  std::string key;
  std::vector<std::string> values;  ///< as in YAML, each once
};

struct SweepObjective {
  std::string metric;
  bool maximize = false;
};

/// left OPERATION right; right is a number or a metric.
struct SweepConstraint {
  enum class Operation { less, less_equal, greater, greater_equal, equal, not_equal };
  std::string text;
  std::string left;
  Operation operation = Operation::less;
  std::string right_metric;  ///< empty: right is a number
  double right = 0;
};

/// What a point runs. Exactly one of model and layers, unless points choose.
struct SweepWorkload {
  std::filesystem::path model, layers;
  std::string precision = "fp16";
  uint64_t seed = 1;
};

struct SweepSpec {
  enum class Method { grid, random, list, evolution };

  std::string name;
  std::filesystem::path file;
  std::filesystem::path chip;                                 ///< configuration file
  std::vector<std::pair<std::string, std::string>> settings;  ///< of all points
  Method method = Method::grid;
  uint64_t points = 100;
  uint64_t seed = 1;
  uint64_t population = 24;
  double mutation = 0.2;
  std::vector<SweepParameter> parameters;
  std::vector<std::vector<std::string>> rows;  ///< list: a value for each parameter
  SweepWorkload workload;
  std::vector<SweepObjective> objectives;
  std::vector<SweepConstraint> constraints;
  uint32_t retries = 2;
  double timeout_s = 600;

  /// Differs when two sweeps may differ in points or results: it covers the file, the chip's resolved configuration and
  /// the contents of the workload's files. Retries, time limit and name are not part.
  std::string digest;
};

/// Reads and checks a sweep file (docs/reference/sweep.md). Keys of the chip are checked against its schema, values of
/// parameters where the chip's schema says what a value may be; combinations are not. Throws InputError
/// "FILE:LINE:COLUMN: KEY: what is wrong, expected ...".
SweepSpec load_sweep(const std::filesystem::path &file);

/// Number of combinations of the parameters' values; 2^64 - 1 if there are more than that.
uint64_t combinations(const SweepSpec &spec);

}  // namespace cx::tools
