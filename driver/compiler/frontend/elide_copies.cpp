#include <algorithm>

#include "driver/compiler/frontend/passes.hpp"

namespace cx::compiler {

void elide_copies(Graph &graph) {
  auto at = [](TensorId id) { return static_cast<std::size_t>(id); };
  std::vector<int> producer(graph.tensors.size(), -1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (TensorId id : graph.nodes[i].outputs) producer[at(id)] = static_cast<int>(i);
  }
  std::vector<TensorId> alias(graph.tensors.size());
  for (std::size_t i = 0; i < alias.size(); ++i) alias[i] = static_cast<TensorId>(i);
  std::vector<bool> output(graph.tensors.size(), false);
  for (TensorId id : graph.outputs) output[at(id)] = true;
  for (Node &node : graph.nodes) {
    for (TensorId &id : node.inputs) {
      if (id != kNoTensor) id = alias[at(id)];
    }
    if (node.op != "Copy") continue;
    const TensorId source = node.inputs[0];
    if (producer[at(source)] < 0 || output[at(source)]) continue;
    // The producer writes the output itself. Uses of the source that come earlier are renamed below.
    const TensorId target = node.outputs[0];
    graph.nodes[static_cast<std::size_t>(producer[at(source)])].outputs = {target};
    producer[at(target)] = producer[at(source)];
    alias[at(source)] = target;
    node.outputs.clear();
  }
  std::erase_if(graph.nodes, [](const Node &node) { return node.outputs.empty(); });
  for (Node &node : graph.nodes) {
    for (TensorId &id : node.inputs) {
      if (id != kNoTensor) id = alias[at(id)];
    }
  }
  eliminate_dead_code(graph);
}

}  // namespace cx::compiler
