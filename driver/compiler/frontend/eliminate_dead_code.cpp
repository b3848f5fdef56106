#include "driver/compiler/frontend/passes.hpp"

namespace cx::compiler {

void eliminate_dead_code(Graph &graph) {
  auto at = [](TensorId id) { return static_cast<std::size_t>(id); };
  std::vector<bool> needed(graph.tensors.size(), false);
  for (TensorId id : graph.outputs) needed[at(id)] = true;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    Node &node = graph.nodes[i];
    bool alive = false;
    for (TensorId id : node.outputs) alive = alive || needed[at(id)];
    if (!alive) {
      node.outputs.clear();
      continue;
    }
    for (TensorId id : node.inputs) {
      if (id != kNoTensor) needed[at(id)] = true;
    }
  }
  std::erase_if(graph.nodes, [](const Node &node) { return node.outputs.empty(); });
  for (TensorId id : graph.inputs) needed[at(id)] = true;
  for (const Node &node : graph.nodes) {
    for (TensorId id : node.outputs) needed[at(id)] = true;
  }
  std::vector<TensorId> renamed(graph.tensors.size(), kNoTensor);
  std::vector<Tensor> kept;
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    if (!needed[i]) continue;
    renamed[i] = static_cast<TensorId>(kept.size());
    kept.push_back(std::move(graph.tensors[i]));
  }
  graph.tensors = std::move(kept);
  auto rename = [&](std::vector<TensorId> &ids) {
    for (TensorId &id : ids) {
      if (id != kNoTensor) id = renamed[at(id)];
    }
  };
  rename(graph.inputs);
  rename(graph.outputs);
  for (Node &node : graph.nodes) {
    rename(node.inputs);
    rename(node.outputs);
  }
}

}  // namespace cx::compiler
