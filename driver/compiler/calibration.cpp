#include "driver/compiler/calibration.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace cx::compiler {

namespace {

/// Windows of the VPU hold kernel, stride and dilation in a byte each.
constexpr int64_t kMaxByte = 255;
/// Products of int8 of which any sum is a whole number of FP32: 2^10 times 2^14.
constexpr int64_t kExactTaps = 1024;

TensorId add_node(Graph &graph, const std::string &op, std::vector<TensorId> inputs,
                  std::map<std::string, Attribute> attributes, Shape shape) {
  const std::string name = "range of " + graph[inputs.front()].name;
  const TensorId result = graph.add({name, Type::F32, std::move(shape), std::nullopt});
  graph.nodes.push_back({name, op, std::move(inputs), {result}, std::move(attributes)});
  return result;
}

/// FP32[1]: the largest magnitude. One dimension after the other, so that no tensor has to fit the scratchpad whole.
TensorId add_largest_magnitude(Graph &graph, TensorId id) {
  Shape shape = graph[id].shape;
  if (graph[id].type != Type::F32) {
    id = add_node(graph, "Cast", {id}, {{"to", std::string(name_of(Type::F32))}}, shape);
  }
  id = add_node(graph, "Unary", {id}, {{"func", std::string("abs")}, {"alpha", 0.0F}, {"beta", 0.0F}}, shape);
  for (std::size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 1) continue;
    shape[d] = 1;
    id = add_node(graph, "Reduce", {id},
                  {{"kind", std::string("max")},
                   {"axes", std::vector<int64_t>{static_cast<int64_t>(d)}},
                   {"keepdims", int64_t{1}}},
                  shape);
  }
  return add_node(graph, "Reshape", {id}, {}, {1});
}

}  // namespace

bool is_dmmu_product(const Graph &graph, const Node &node) {
  if (node.op == "MatMul") return true;
  if (node.op != "Conv") return false;
  const Shape &w = graph[node.inputs[1]].shape;
  const int64_t groups = node.integer("group", 1);
  if (groups == 1 || w[1] != 1 || w[0] != groups) return true;
  if (graph[node.inputs[0]].type == Type::I8 && w[2] * w[3] > kExactTaps) return true;
  int64_t largest = std::max(w[2], w[3]);
  for (const char *key : {"strides", "dilations"}) {
    for (int64_t value : node.integers(key, {1, 1})) largest = std::max(largest, value);
  }
  return largest > kMaxByte;
}

std::vector<RangedTensor> ranged_tensors(const Graph &graph) {
  std::vector<RangedTensor> result;
  std::set<TensorId> seen;
  std::map<std::string, int> bearers;
  for (const Node &node : graph.nodes) {
    if (!is_dmmu_product(graph, node) || graph[node.inputs[0]].type == Type::I8) continue;
    for (std::size_t i = 0; i < 2; ++i) {
      const TensorId id = node.inputs[i];
      if (graph[id].is_constant() || elements(graph[id].shape) == 0 || !seen.insert(id).second) continue;
      const int number = ++bearers[graph[id].name];
      result.push_back({id, graph[id].name + (number == 1 ? "" : "#" + std::to_string(number))});
    }
  }
  return result;
}

Graph with_ranges(const Graph &graph) {
  const std::vector<RangedTensor> tensors = ranged_tensors(graph);
  if (tensors.empty()) return graph;
  Graph result = graph;
  std::vector<TensorId> ranges;
  for (const RangedTensor &tensor : tensors) ranges.push_back(add_largest_magnitude(result, tensor.id));
  const auto count = static_cast<int64_t>(ranges.size());
  result.outputs.push_back(add_node(result, "Concat", ranges, {{"axis", int64_t{0}}}, {count}));
  return result;
}

}  // namespace cx::compiler
