#include "driver/compiler/frontend/partition.hpp"

#include <algorithm>
#include <functional>

#include "driver/compiler/frontend/importer.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {

Partition::Partition(const Model &model) {
  const onnx::GraphProto &graph = model.proto().graph();
  std::set<std::string> initialised;
  for (const auto &initializer : graph.initializer()) initialised.insert(initializer.name());
  for (const auto &input : graph.input()) {
    if (initialised.count(input.name()) == 0) inputs_.insert(input.name());
  }
  for (int i = 0; i < graph.node_size(); ++i) {
    const onnx::NodeProto &proto = graph.node(i);
    Entry entry;
    entry.node.index = i;
    entry.node.op = proto.op_type();
    for (const std::string &name : proto.output()) {
      if (name.empty()) continue;
      entry.outputs.push_back(name);
      producers_.emplace(name, i);
    }
    entry.node.name = proto.name().empty() && !entry.outputs.empty() ? entry.outputs[0] : proto.name();
    collect_names(proto, entry.reads);
    nodes_.push_back(std::move(entry));
  }
  // Forward from the graph's inputs; a file's nodes may stand in any order.
  std::map<std::string, std::vector<int>> readers;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    for (const std::string &name : nodes_[i].reads) readers[name].push_back(static_cast<int>(i));
  }
  std::vector<std::string> pending(inputs_.begin(), inputs_.end());
  while (!pending.empty()) {
    const std::string name = pending.back();
    pending.pop_back();
    if (!dynamic_.insert(name).second) continue;
    for (const int reader : readers[name]) {
      const Entry &entry = nodes_[static_cast<std::size_t>(reader)];
      pending.insert(pending.end(), entry.outputs.begin(), entry.outputs.end());
    }
  }
  for (Entry &entry : nodes_) {
    std::set<std::string> seen;
    for (const std::string &name : entry.reads) {
      if (dynamic_.count(name) != 0 && seen.insert(name).second) entry.node.inputs.push_back(name);
    }
  }
}

void Partition::add_host_node(int index) {
  if (index < 0 || !host_.insert(index).second) throw Error("a node is given to the host twice");
}

bool Partition::shape_from_values(int index) const {
  static const std::set<std::string> table = {"Range",         "ConstantOfShape", "HannWindow",
                                              "HammingWindow", "BlackmanWindow",  "MelWeightMatrix"};
  return index >= 0 && host_.count(index) == 0 && table.count(nodes_.at(static_cast<std::size_t>(index)).node.op) != 0;
}

Part Partition::next(const std::set<std::string> &available, const std::vector<std::string> &outputs) const {
  std::map<int, bool> ready_nodes;
  const auto is_ready = [&](const std::string &name) {
    if (available.count(name) != 0 || dynamic_.count(name) == 0 || inputs_.count(name) != 0) return true;
    return ready_nodes.at(producers_.at(name));
  };
  // Nodes that the outputs need, producers first.
  std::vector<int> order;
  std::vector<std::pair<int, bool>> stack;
  const auto push = [&](const std::string &name) {
    const auto producer = producers_.find(name);
    if (producer == producers_.end() || available.count(name) != 0 || dynamic_.count(name) == 0) return;
    stack.emplace_back(producer->second, false);
  };
  for (const std::string &name : outputs) push(name);
  std::set<int> open;
  while (!stack.empty()) {
    const auto [index, done] = stack.back();
    stack.pop_back();
    const Entry &entry = nodes_[static_cast<std::size_t>(index)];
    if (done) {
      const bool inputs_ready = std::all_of(entry.node.inputs.begin(), entry.node.inputs.end(), is_ready);
      ready_nodes[index] = inputs_ready && host_.count(index) == 0;
      order.push_back(index);
    } else if (open.insert(index).second) {
      stack.emplace_back(index, true);
      for (const std::string &name : entry.node.inputs) push(name);
    }
  }
  Part part;
  std::set<std::string> listed;
  const auto want = [&](const std::string &name) {
    const bool there = available.count(name) != 0 || dynamic_.count(name) == 0 || inputs_.count(name) != 0;
    if (!there && is_ready(name) && listed.insert(name).second) part.wanted.push_back(name);
  };
  for (const int index : order) {
    const Entry &entry = nodes_[static_cast<std::size_t>(index)];
    if (ready_nodes.at(index)) continue;
    for (const std::string &name : entry.node.inputs) want(name);
    const bool can_run =
        host_.count(index) != 0 && std::all_of(entry.node.inputs.begin(), entry.node.inputs.end(), is_ready);
    if (can_run) part.host_nodes.push_back(entry.node);
  }
  for (const std::string &name : outputs) {
    // A result that follows from constants alone is computed with the last part.
    const bool constant = dynamic_.count(name) == 0 && available.count(name) == 0;
    if (!constant) {
      want(name);
    } else if (part.host_nodes.empty() && listed.insert(name).second) {
      part.wanted.push_back(name);
    }
  }
  return part;
}

}  // namespace cx::compiler
