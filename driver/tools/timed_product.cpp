#include "driver/tools/timed_product.hpp"

#include <utility>

#include "driver/tools/trace.hpp"

namespace cx::tools {

TimedRun timed_run(Device &device, const compiler::Graph &graph, const compiler::CompileOptions &options,
                   const HostTensor &input) {
  TimedRun run;
  Executable executable(device, compiler::compile(graph, device.target(), options, &run.statistics));
  start_trace();
  run.outputs = executable.run({&input, 1});
  const std::vector<cx_trace_record> trace = finish_trace();
  run.report = executable.report();
  run.profile = make_profile(trace, executable.program(), run.statistics, run.report, device.target());
  return run;
}

}  // namespace cx::tools
