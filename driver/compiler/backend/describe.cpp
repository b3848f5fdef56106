#include "driver/compiler/backend/describe.hpp"

#include <algorithm>
#include <sstream>

namespace cx::compiler::backend {

namespace {

std::string typed(const Graph &graph, TensorId id) {
  const Tensor &tensor = graph[id];
  return "%" + std::to_string(id) + " " + tensor.name + ": " + compiler::name_of(tensor.type) + to_text(tensor.shape);
}

std::string storage_text(const Storage &storage, std::size_t index) {
  std::string text = "storage " + std::to_string(index) + " (" + std::string(isa::to_string(storage.dtype)) + ", ";
  if (storage.place == Place::binding) return text + "segment " + std::to_string(storage.segment) + ")";
  return text + (storage.place == Place::scratchpad ? "scratchpad)" : "workspace)");
}

}  // namespace

const char *name_of(GroupKind kind) {
  switch (kind) {
    case GroupKind::convolution:
      return "convolution";
    case GroupKind::matmul:
      return "matmul";
    case GroupKind::pool:
      return "pool";
    case GroupKind::reduce:
      return "reduce";
    case GroupKind::softmax:
      return "softmax";
    case GroupKind::take_along:
      return "take_along";
    case GroupKind::scatter_along:
      return "scatter_along";
    case GroupKind::scan:
      return "scan";
    case GroupKind::arg_reduce:
      return "arg_reduce";
    case GroupKind::top_k:
      return "top_k";
    case GroupKind::elementwise:
      return "elementwise";
    case GroupKind::move:
      return "move";
  }
  return "group";
}

std::string describe_groups(const Graph &graph, const std::vector<Group> &groups) {
  std::ostringstream out;
  out << groups.size() << " groups of " << graph.nodes.size() << " nodes\n";
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const Group &group = groups[g];
    out << "group " << g << ": " << name_of(group.kind) << ' ' << to_text(group.shape) << "  # " << group.name << '\n';
    for (const int n : group.nodes) {
      const Node &node = graph.nodes[static_cast<std::size_t>(n)];
      out << "  " << typed(graph, node.outputs[0]) << " = " << node.op << '(';
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        out << (i == 0 ? "" : ", ") << (node.inputs[i] == kNoTensor ? "-" : "%" + std::to_string(node.inputs[i]));
      }
      const TensorId result = node.outputs[0];
      const bool leaves = std::find(group.outputs.begin(), group.outputs.end(), result) != group.outputs.end();
      out << ')' << (leaves ? "  -> memory" : "") << '\n';
    }
  }
  return out.str();
}

std::string describe_layout(const Graph &graph, const Layout &layout) {
  std::ostringstream out;
  for (TensorId id = 0; id < static_cast<TensorId>(graph.tensors.size()); ++id) {
    if (!layout.has_memory(id)) continue;
    const Value &value = layout.value(id);
    out << typed(graph, id) << "  " << storage_text(layout.storage(id), static_cast<std::size_t>(value.storage))
        << " offset " << value.offset << " strides " << to_text(value.strides) << '\n';
  }
  return out.str();
}

std::string describe_plan(const Layout &layout, const MemoryPlan &plan) {
  std::ostringstream out;
  out << "workspace " << plan.bytes << " bytes, " << plan.bytes_no_reuse << " without reuse\n";
  const std::vector<Storage> &storages = layout.storages();
  for (std::size_t s = 0; s < storages.size(); ++s) {
    const Storage &storage = storages[s];
    if (storage.place == Place::binding || storage.first_use < 0) continue;
    out << storage_text(storage, s) << ": " << storage.bytes << " bytes at " << storage.offset << ", groups "
        << storage.first_use << " to " << storage.last_use << '\n';
  }
  return out.str();
}

}  // namespace cx::compiler::backend
