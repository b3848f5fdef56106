// What became of a point of a sweep.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "driver/tools/sweep/spec.hpp"

namespace cx::tools {

/// A point: a value for each of SweepSpec::parameters.
struct SweepPoint {
  uint64_t id = 0;  ///< its place in the search, from 0
  std::vector<std::string> values;
};

struct SweepResult {
  enum class State {
    ok,
    infeasible,  ///< the chip cannot be, the workload does not fit it, or a constraint is violated
    failed,      ///< its process was killed, crashed or took too long, on every try
  };
  SweepPoint point;
  State state = State::ok;
  std::string reason;  ///< empty when ok
  uint32_t attempts = 1;
  double wall_s = 0;
  /// Of kSweepMetrics, and the chip's keys that objectives and constraints name. Also of a point that violates a
  /// constraint.
  std::map<std::string, double> metrics;
};

const char *name_of(SweepResult::State state);
/// Throws InputError for another text.
SweepResult::State state_from(const std::string &text);

/// One line of JSON, and back. from_json throws InputError for what is none.
std::string to_json_line(const SweepResult &result);
SweepResult from_json_line(const std::string &line);

/// Runs the point's workload on its chip in this process, in timing-only mode. Everything that a point can do wrong
/// ends in a result; only what is no fault of the point is thrown.
SweepResult evaluate(const SweepSpec &spec, const SweepPoint &point);

/// Of results that are ok: 0 for those that no other one beats in every objective, 1 for those that only these beat,
/// and so on. Others get a rank behind all of them.
std::vector<std::size_t> pareto_ranks(const SweepSpec &spec, const std::vector<const SweepResult *> &results);

}  // namespace cx::tools
