#include "tb/driver/compiler/backend/bench.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "driver/compiler/backend/constants.hpp"
#include "driver/compiler/calibration.hpp"
#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/evaluate.hpp"
#include "tb/driver/compiler/program_sim.hpp"
#include "tb/driver/compiler/reference_eval.hpp"

namespace cx::tb {

using namespace compiler;

Target tiny_target() {
  Target target;
  target.arch_hash = 0x71;
  target.clock_khz = 1000000;
  target.tiles = 2;
  target.tile_rows = 8;
  target.tile_cols = 8;
  target.tile_acc_rows = 256;
  target.vpu_lanes = 8;
  target.spm_bytes = 512 << 10;
  target.spm_bytes_per_cycle = 64;
  target.semaphores = 64;
  target.formats = 0x3F;
  target.dram_bytes = 1ULL << 30;
  target.dram_mbps = target.dram_stream_mbps = 10000;
  target.dram_latency_ns = 100;
  target.dram_channels = 1;
  target.dram_stripe_bytes = 1024;
  target.noc_way_cycles = 8;
  return target;
}

Target card_target() {
  Target target = tiny_target();
  target.arch_hash = 0x3210;
  target.tiles = 16;
  target.tile_rows = 32;
  target.tile_cols = 32;
  target.tile_acc_rows = 1024;
  target.vpu_lanes = 64;
  target.spm_bytes = 8 << 20;
  return target;
}

namespace {

std::vector<float> random_floats(std::mt19937 &random, int64_t count, float low, float high) {
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float &value : values) value = uniform(random);
  return values;
}

std::vector<std::byte> bytes_of_floats(const std::vector<float> &values) {
  std::vector<std::byte> bytes(values.size() * 4);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

TensorId GraphMaker::input(const Shape &shape, Type type) {
  const TensorId id = graph.add({"in" + std::to_string(graph.inputs.size()), type, shape, std::nullopt});
  graph.inputs.push_back(id);
  return id;
}

TensorId GraphMaker::constant(const Shape &shape, float low, float high) {
  return graph.add({"c" + std::to_string(graph.tensors.size()), Type::F32, shape,
                    bytes_of_floats(random_floats(random_, elements(shape), low, high))});
}

TensorId GraphMaker::scalar(float value) { return graph.add({"s", Type::F32, {1}, bytes_of_floats({value})}); }

TensorId GraphMaker::node(const std::string &op, const std::vector<TensorId> &inputs,
                          std::map<std::string, Attribute> attributes, const Shape &shape, Type type) {
  const TensorId id = graph.add({"t" + std::to_string(graph.tensors.size()), type, shape, std::nullopt});
  Node node;
  node.name = op + std::to_string(graph.nodes.size());
  node.op = op;
  node.inputs = inputs;
  node.outputs = {id};
  node.attributes = std::move(attributes);
  graph.nodes.push_back(node);
  return id;
}

TensorId GraphMaker::unary(const std::string &func, TensorId x, float alpha, float beta) {
  return node("Unary", {x}, {{"func", func}, {"alpha", alpha}, {"beta", beta}}, shape(x), graph[x].type);
}

TensorId GraphMaker::binary(const std::string &func, TensorId a, TensorId b) {
  Shape left = shape(a);
  Shape right = shape(b);
  while (left.size() < right.size()) left.insert(left.begin(), 1);
  while (right.size() < left.size()) right.insert(right.begin(), 1);
  for (std::size_t d = 0; d < left.size(); ++d) left[d] = std::max(left[d], right[d]);
  return node("Binary", {a, b}, {{"func", func}}, left);
}

std::map<TensorId, Tensor> random_inputs(const Graph &graph, std::mt19937 &random) {
  std::map<TensorId, Tensor> values;
  for (TensorId id : graph.inputs) {
    Tensor tensor = graph[id];
    if (tensor.type == Type::F32) {
      tensor.data = bytes_of_floats(random_floats(random, elements(tensor.shape), -1, 1));
    } else {
      std::vector<std::byte> bytes(static_cast<std::size_t>(elements(tensor.shape)) * bytes_of(tensor.type));
      for (std::byte &byte : bytes) byte = static_cast<std::byte>(random() & 0xFF);
      tensor.data = bytes;
    }
    values[id] = tensor;
  }
  return values;
}

std::vector<Tensor> evaluate_graph(const Graph &graph, const std::map<TensorId, Tensor> &inputs) {
  std::vector<Tensor> values = graph.tensors;
  for (const auto &[id, tensor] : inputs) values[static_cast<std::size_t>(id)] = tensor;
  for (const Node &node : graph.nodes) {
    std::vector<const Tensor *> operands;
    for (TensorId id : node.inputs)
      operands.push_back(id == kNoTensor ? nullptr : &values[static_cast<std::size_t>(id)]);
    Tensor &out = values[static_cast<std::size_t>(node.outputs[0])];
    out.data = evaluate(node, operands, out.type, out.shape).data;
  }
  return values;
}

std::vector<Tensor> evaluate_model(const Graph &graph, const std::map<TensorId, Tensor> &inputs) {
  std::map<std::string, Values> named;
  for (const auto &[id, tensor] : inputs) named[graph[id].name] = values_of(tensor);
  const std::map<std::string, Values> outputs = evaluate_reference(graph, named);
  std::vector<Tensor> values = graph.tensors;
  for (TensorId id : graph.outputs) {
    const std::vector<double> &data = outputs.at(graph[id].name).data;
    values[static_cast<std::size_t>(id)].data = bytes_of_floats({data.begin(), data.end()});
  }
  return values;
}

std::map<std::string, float> ranges_of(const Graph &graph, const std::vector<Tensor> &values) {
  std::map<std::string, float> ranges;
  for (const RangedTensor &tensor : ranged_tensors(graph)) {
    float &range = ranges[tensor.name];
    for (float value : backend::constant_as_floats(values[static_cast<std::size_t>(tensor.id)])) {
      range = std::max(range, std::fabs(value));
    }
  }
  return ranges;
}

std::map<std::string, float> simulated_ranges(const Graph &graph, const Target &target,
                                              const std::map<TensorId, Tensor> &inputs) {
  const Graph measured = with_ranges(graph);
  std::map<std::string, float> ranges;
  if (measured.outputs.size() == graph.outputs.size()) return ranges;
  ProgramSim sim(compile(measured, target), target);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) sim.set_input(i, *inputs.at(graph.inputs[i]).data);
  sim.run();
  const std::vector<std::byte> bytes = sim.output(graph.outputs.size());
  std::size_t at = 0;
  for (const RangedTensor &tensor : ranged_tensors(graph)) {
    std::memcpy(&ranges[tensor.name], bytes.data() + at, 4);
    at += 4;
  }
  return ranges;
}

Comparison compare(const Graph &graph, const Target &target, Precision precision,
                   const std::map<TensorId, Tensor> &inputs, const std::vector<Tensor> &expected, bool all_orders) {
  CompileOptions options;
  options.precision = precision;
  return compare(graph, target, options, inputs, expected, all_orders);
}

Comparison compare(const Graph &graph, const Target &target, const CompileOptions &options,
                   const std::map<TensorId, Tensor> &inputs, const std::vector<Tensor> &expected, bool all_orders) {
  const Program program = compile(graph, target, options);
  if (compile(graph, target, options).image != program.image) throw std::runtime_error("two compilations differ");
  struct Order {
    std::array<int, 5> engines;
    int burst;
  };
  std::vector<Order> orders{{{0, 1, 2, 3, 4}, 1}};
  if (all_orders) orders.insert(orders.end(), {{{4, 3, 2, 1, 0}, 1000}, {{1, 3, 0, 4, 2}, 3}, {{2, 4, 0, 3, 1}, 1000}});
  Comparison result;
  std::vector<std::vector<std::byte>> first;
  for (const Order &order : orders) {
    ProgramSim sim(program, target);
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) sim.set_input(i, *inputs.at(graph.inputs[i]).data);
    sim.run(order.engines, order.burst);
    result.instructions = sim.executed();
    result.largest_half = sim.largest_half();
    for (std::size_t o = 0; o < graph.outputs.size(); ++o) {
      const std::vector<std::byte> bytes = sim.output(o);
      if (first.size() <= o) {
        first.push_back(bytes);
      } else if (first[o] != bytes) {
        result.same_for_all_orders = false;
      }
    }
  }
  for (std::size_t o = 0; o < graph.outputs.size(); ++o) {
    Tensor got = graph[graph.outputs[o]];
    got.data = first[o];
    result.outputs.push_back(got);
    const Tensor &want = expected[static_cast<std::size_t>(graph.outputs[o])];
    if (!is_float(got.type)) {
      if (got.data != want.data) throw std::runtime_error("output " + got.name + " has other bytes");
      continue;
    }
    const std::vector<float> a = backend::constant_as_floats(got);
    const std::vector<float> b = backend::constant_as_floats(want);
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
      const double error = std::fabs(static_cast<double>(a[i]) - b[i]) / (1 + std::fabs(b[i]));
      if (!(error <= result.worst)) result.worst = std::isnan(error) ? INFINITY : error;
    }
  }
  return result;
}

}  // namespace cx::tb
