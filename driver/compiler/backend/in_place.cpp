#include "driver/compiler/backend/in_place.hpp"

#include <algorithm>
#include <set>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

bool keeps_elements(const std::string &op) { return op == "Reshape" || op == "Transpose" || op == "Copy"; }
bool is_view(const std::string &op) { return keeps_elements(op) || op == "Slice" || op == "Expand"; }

const Node &node_of(const Graph &graph, int index) { return graph.nodes[static_cast<std::size_t>(index)]; }

/// The node that writes the output: the ScatterAlong at the end of the chain.
int writer_of(const Graph &graph, TensorId output) {
  for (;;) {
    const std::optional<int> producer = graph.producer(output);
    if (!producer || !keeps_elements(node_of(graph, *producer).op)) return producer.value_or(-1);
    output = node_of(graph, *producer).inputs[0];
  }
}

/// Nodes that read the tensor or a view of it.
std::set<int> readers_of(const Graph &graph, TensorId id) {
  std::set<int> readers;
  std::vector<TensorId> pending{id};
  while (!pending.empty()) {
    const TensorId next = pending.back();
    pending.pop_back();
    for (int n : graph.consumers(next)) {
      if (!readers.insert(n).second) continue;
      if (is_view(node_of(graph, n).op)) pending.push_back(node_of(graph, n).outputs[0]);
    }
  }
  return readers;
}

TensorId named(const Graph &graph, const std::vector<TensorId> &ids, const std::string &name, const char *kind) {
  for (TensorId id : ids) {
    if (graph[id].name == name) return id;
  }
  throw InputError("update in place: the model has no " + std::string(kind) + " '" + name + "'");
}

}  // namespace

Updates find_updates(const Graph &graph, const std::map<std::string, std::string> &names) {
  Updates updates;
  std::set<TensorId> taken;
  for (const auto &[output_name, input_name] : names) {
    const TensorId output = named(graph, graph.outputs, output_name, "output");
    const TensorId input = named(graph, graph.inputs, input_name, "input");
    const std::string what = "output '" + output_name + "' cannot update input '" + input_name + "' in place: ";
    if (!taken.insert(input).second) throw InputError(what + "another output updates it");
    if (graph[output].type != graph[input].type || graph[output].shape != graph[input].shape) {
      throw InputError(what + "the one is " + name_of(graph[output].type) + " " + to_text(graph[output].shape) +
                       ", the other " + name_of(graph[input].type) + " " + to_text(graph[input].shape));
    }
    const int writer = writer_of(graph, output);
    if (writer < 0) throw InputError(what + "it is not computed");
    const Node &scatter = node_of(graph, writer);
    if (scatter.op != "ScatterAlong") {
      throw InputError(what + "node " + scatter.name + " (" + scatter.op + ") is no ScatterAlong");
    }
    TensorId source = scatter.inputs[0];
    while (source != input) {
      const std::optional<int> producer = graph.producer(source);
      if (!producer || !keeps_elements(node_of(graph, *producer).op)) {
        throw InputError(what + "node " + scatter.name + " (ScatterAlong) scatters into '" + graph[source].name + "'");
      }
      source = node_of(graph, *producer).inputs[0];
    }
    updates[output] = input;
  }
  return updates;
}

Graph order_updates(const Graph &graph, const Updates &updates) {
  const std::size_t count = graph.nodes.size();
  std::vector<std::set<int>> after(count);  // nodes that come later than the index
  std::vector<int> waits(count, 0);
  const auto precede = [&](int first, int second) {
    if (first != second && after[static_cast<std::size_t>(first)].insert(second).second) {
      ++waits[static_cast<std::size_t>(second)];
    }
  };
  for (std::size_t n = 0; n < count; ++n) {
    for (TensorId out : graph.nodes[n].outputs) {
      for (int consumer : graph.consumers(out)) precede(static_cast<int>(n), consumer);
    }
  }
  for (const auto &[output, input] : updates) {
    const int writer = writer_of(graph, output);
    for (int reader : readers_of(graph, input)) precede(reader, writer);
  }
  std::set<int> ready;
  for (std::size_t n = 0; n < count; ++n) {
    if (waits[n] == 0) ready.insert(static_cast<int>(n));
  }
  Graph ordered = graph;
  ordered.nodes.clear();
  while (!ready.empty()) {
    const int index = *ready.begin();
    ready.erase(ready.begin());
    ordered.nodes.push_back(node_of(graph, index));
    for (int later : after[static_cast<std::size_t>(index)]) {
      if (--waits[static_cast<std::size_t>(later)] == 0) ready.insert(later);
    }
  }
  if (ordered.nodes.size() == count) return ordered;
  for (const auto &[output, input] : updates) {
    for (int reader : readers_of(graph, input)) {
      if (waits[static_cast<std::size_t>(reader)] == 0 || reader == writer_of(graph, output)) continue;
      throw InputError("output '" + graph[output].name + "' cannot update input '" + graph[input].name +
                       "' in place: node " + node_of(graph, reader).name + " (" + node_of(graph, reader).op +
                       ") needs the input as it was after it is updated");
    }
  }
  throw Error("nodes that update inputs in place have no order");
}

void verify_updates(const Graph &graph, const Updates &updates, const std::vector<Group> &groups,
                    const Layout &layout) {
  std::vector<std::size_t> place(graph.nodes.size(), 0);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (int n : groups[g].nodes) place[static_cast<std::size_t>(n)] = g;
  }
  for (const auto &[output, input] : updates) {
    const int writer = writer_of(graph, output);
    const Node &scatter = node_of(graph, writer);
    if (!layout.has_memory(scatter.inputs[0]) || !layout.has_memory(scatter.outputs[0]) ||
        !(layout.value(scatter.inputs[0]) == layout.value(scatter.outputs[0]))) {
      throw InputError("output '" + graph[output].name + "' cannot update input '" + graph[input].name +
                       "' in place: node " + scatter.name +
                       " (ScatterAlong) does not write elements where it reads them");
    }
    for (int reader : readers_of(graph, input)) {
      if (reader == writer || place[static_cast<std::size_t>(reader)] < place[static_cast<std::size_t>(writer)])
        continue;
      // Views need no code: their readers count.
      if (is_view(node_of(graph, reader).op)) continue;
      throw InputError("output '" + graph[output].name + "' cannot update input '" + graph[input].name +
                       "' in place: node " + node_of(graph, reader).name + " (" + node_of(graph, reader).op +
                       ") runs after the update");
    }
  }
}

}  // namespace cx::compiler::backend
