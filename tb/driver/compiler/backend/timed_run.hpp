// Compiles a graph for a card of a configuration and runs it there, with a trace.
#pragma once

#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/runtime/tensor.hpp"
#include "driver/tools/profile.hpp"
#include "driver/umd/device.hpp"

namespace cx::tb {

/// Random inputs, the same in every run; a program's time does not depend on their values. `outputs` takes the results.
tools::Profile timed_run(Device &device, const compiler::Graph &graph, const compiler::CompileOptions &options,
                         compiler::CompileStatistics &statistics, std::vector<HostTensor> *outputs = nullptr);

}  // namespace cx::tb
