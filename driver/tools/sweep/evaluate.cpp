// One point of a sweep: a chip, a workload, what it costs.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/runtime/executable.hpp"
#include "driver/session/session.hpp"
#include "driver/tools/bench_product.hpp"
#include "driver/tools/input_values.hpp"
#include "driver/tools/layers.hpp"
#include "driver/tools/sweep/gen/schema.hpp"
#include "driver/tools/sweep/result.hpp"
#include "hw/common/port/cx_port.h"

namespace cx::tools {
namespace {

struct Work {
  SweepWorkload what;
  std::vector<std::string> sets;
};

Work work_of(const SweepSpec &spec, const SweepPoint &point) {
  Work work;
  work.what = spec.workload;
  for (const auto &[key, value] : spec.settings) work.sets.push_back(key + "=" + value);
  for (std::size_t i = 0; i < spec.parameters.size(); ++i) {
    const std::string &key = spec.parameters[i].key, &value = point.values[i];
    if (key == "workload.model") {
      work.what.model = value;
    } else if (key == "workload.layers") {
      work.what.layers = value;
    } else if (key == "workload.precision") {
      work.what.precision = value;
    } else {
      work.sets.push_back(key + "=" + value);
    }
  }
  return work;
}

struct Cost {
  RunReport report;
  uint64_t constant_bytes = 0;
  double area_mm2 = 0;
};

Cost run_model(Device &device, const SweepWorkload &what) {
  const compiler::Model model(what.model);
  SessionOptions options;
  options.precision = compiler::precision_from(what.precision);
  options.timing_only = true;
  Session session(device, model, options);
  InputOptions inputs;
  inputs.seed = what.seed;
  const std::vector<HostTensor> values = input_values(model, inputs, nullptr);
  session.run(values);
  return {session.report(), session.compile_statistics().constant_bytes, 0};
}

Cost run_layers(Device &device, const SweepWorkload &what) {
  std::optional<Cost> sum;
  for (const Layer &layer : load_layers(what.layers)) {
    compiler::CompileOptions options;
    options.precision = compiler::precision_from(what.precision);
    options.ranges["a"] = 1;
    options.constant_range = 1;
    options.sca.use = compiler::ScaUse::never;
    const ProductShape shape{layer.m, layer.n, layer.k};
    const std::vector<float> weights(static_cast<std::size_t>(layer.k * layer.n));
    compiler::CompileStatistics statistics;
    Executable executable(
        device, compiler::compile(product_graph(layer.name, shape, weights), device.target(), options, &statistics),
        {.timing_only = true});
    const HostTensor input{"a",
                           "float32",
                           {layer.m, layer.k},
                           std::vector<std::byte>(static_cast<std::size_t>(layer.m * layer.k) * sizeof(float))};
    executable.run({&input, 1});
    if (sum) {
      sum->report = sum->report + executable.report();
      sum->constant_bytes += statistics.constant_bytes;
    } else {
      sum = Cost{executable.report(), statistics.constant_bytes, 0};
    }
  }
  return *sum;
}

/// A number of the resolved chip; nothing for a key of another type.
std::optional<double> chip_number(const nlohmann::json &chip, const std::string &key) {
  const nlohmann::json *at = &chip;
  for (std::size_t from = 0; from <= key.size();) {
    const std::size_t dot = std::min(key.find('.', from), key.size());
    const auto found = at->find(key.substr(from, dot - from));
    if (found == at->end()) return std::nullopt;
    at = &*found;
    from = dot + 1;
  }
  if (at->is_boolean()) return at->get<bool>() ? 1 : 0;
  if (at->is_number()) return at->get<double>();
  return std::nullopt;
}

std::map<std::string, double> metrics_of(const SweepSpec &spec, const Work &work, const Cost &cost) {
  const RunReport &report = cost.report;
  const Counters &counters = report.counters;
  const auto real = [](uint64_t value) { return static_cast<double>(value); };
  std::map<std::string, double> metrics = {
      {"cycles", real(report.cycles)},
      {"launch_cycles", real(report.launch_cycles)},
      {"latency_us", report.latency_us},
      {"macs", real(report.macs)},
      {"mac_utilisation", report.mac_utilisation},
      {"peak_macs_per_cycle", real(report.peak_macs_per_cycle)},
      {"dram_bytes", real(counters.dram_read + counters.dram_written)},
      {"energy_uj", microjoules(report.energy.total().value)},
      {"average_watts", average_watts(report)},
      {"tops_per_watt", tera_operations_per_joule(report)},
      {"constant_bytes", real(cost.constant_bytes)},
      {"area_mm2", cost.area_mm2},
  };
  std::vector<std::string> names;
  for (const SweepObjective &objective : spec.objectives) names.push_back(objective.metric);
  for (const SweepConstraint &constraint : spec.constraints) {
    names.push_back(constraint.left);
    if (!constraint.right_metric.empty()) names.push_back(constraint.right_metric);
  }
  std::vector<const char *> sets;
  for (const std::string &set : work.sets) sets.push_back(set.c_str());
  char *text = nullptr;
  const int code = cx_config_show(spec.chip.c_str(), sets.data(), sets.size(), 1, &text);
  const std::unique_ptr<char, decltype(&std::free)> owner(text, std::free);
  if (code != CX_PORT_OK) throw InputError(text != nullptr ? text : "the chip's configuration is refused");
  const auto chip = nlohmann::json::parse(text);
  for (const std::string &name : names) {
    if (metrics.contains(name)) continue;
    const std::optional<double> number = chip_number(chip, name);
    if (!number) throw InputError(fmt::format("{} is no number, expected a metric or a key that is one", name));
    metrics[name] = *number;
  }
  return metrics;
}

bool holds(double left, SweepConstraint::Operation operation, double right) {
  switch (operation) {
    case SweepConstraint::Operation::less:
      return left < right;
    case SweepConstraint::Operation::less_equal:
      return left <= right;
    case SweepConstraint::Operation::greater:
      return left > right;
    case SweepConstraint::Operation::greater_equal:
      return left >= right;
    case SweepConstraint::Operation::equal:
      return left == right;
    case SweepConstraint::Operation::not_equal:
      break;
  }
  return left != right;
}

}  // namespace

SweepResult evaluate(const SweepSpec &spec, const SweepPoint &point) {
  const auto begin = std::chrono::steady_clock::now();
  SweepResult result;
  result.point = point;
  const auto refuse = [&](SweepResult::State state, const std::string &reason) {
    result.state = state;
    result.reason = reason;
  };
  try {
    const Work work = work_of(spec, point);
    DeviceOptions options;
    options.overrides = work.sets;
    const std::unique_ptr<Device> device = Device::open(spec.chip, options);
    Cost cost = work.what.model.empty() ? run_layers(*device, work.what) : run_model(*device, work.what);
    cost.area_mm2 = device->die().area().value;
    result.metrics = metrics_of(spec, work, cost);
    for (const SweepConstraint &constraint : spec.constraints) {
      const double left = result.metrics.at(constraint.left);
      const double right =
          constraint.right_metric.empty() ? constraint.right : result.metrics.at(constraint.right_metric);
      if (holds(left, constraint.operation, right)) continue;
      refuse(SweepResult::State::infeasible,
             fmt::format(
                 "constraint {}: {} is {}{}", constraint.text, constraint.left, left,
                 constraint.right_metric.empty() ? "" : fmt::format(", {} is {}", constraint.right_metric, right)));
      break;
    }
  } catch (const InputError &error) {
    refuse(SweepResult::State::infeasible, error.what());
  } catch (const std::exception &error) {
    refuse(SweepResult::State::failed, error.what());
  }
  result.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace cx::tools
