#include "tb/driver/compiler/backend/timed_run.hpp"

#include <random>
#include <utility>
#include <vector>

#include "driver/runtime/executable.hpp"
#include "driver/tools/trace.hpp"
#include "tb/driver/compiler/backend/bench.hpp"

namespace cx::tb {

tools::Profile timed_run(Device &device, const compiler::Graph &graph, const compiler::CompileOptions &options,
                         compiler::CompileStatistics &statistics, std::vector<HostTensor> *outputs) {
  Executable executable(device, compiler::compile(graph, device.target(), options, &statistics));
  std::mt19937 random(1);
  std::vector<HostTensor> inputs;
  for (auto &[id, tensor] : random_inputs(graph, random)) {
    inputs.push_back({tensor.name, compiler::name_of(tensor.type), tensor.shape, std::move(tensor.data.own())});
  }
  tools::start_trace();
  std::vector<HostTensor> results = executable.run(inputs);
  if (outputs != nullptr) *outputs = std::move(results);
  const std::vector<cx_trace_record> trace = tools::finish_trace();
  return tools::make_profile(trace, executable.program(), statistics, executable.report(), device.target());
}

}  // namespace cx::tb
