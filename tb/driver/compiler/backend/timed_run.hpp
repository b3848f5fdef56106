// Compiles a graph for a card of a configuration and runs it there, with a trace.
#pragma once

#include <string>

#include "driver/compiler/compiler.hpp"
#include "driver/tools/profile.hpp"
#include "driver/umd/device.hpp"

namespace cx::tb {

/// Random inputs; a program's time does not depend on their values.
tools::Profile timed_run(Device &device, const compiler::Graph &graph, const compiler::CompileOptions &options,
                         compiler::CompileStatistics &statistics);

}  // namespace cx::tb
