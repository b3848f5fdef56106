// One run of a program with a trace.
#pragma once

#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/tools/profile.hpp"

namespace cx::tools {

struct TimedRun {
  Profile profile;
  RunReport report;
  compiler::CompileStatistics statistics;
  std::vector<HostTensor> outputs;
};

/// Compiles and runs a graph on a card of this process. Throws what these throw.
TimedRun timed_run(Device &device, const compiler::Graph &graph, const compiler::CompileOptions &options,
                   const HostTensor &input);

}  // namespace cx::tools
