#include <map>
#include <string_view>
#include <tuple>

#include "driver/compiler/frontend/passes.hpp"

namespace cx::compiler {

void share_constants(Graph &graph) {
  using Key = std::tuple<Type, Shape, std::string_view>;
  std::map<Key, TensorId> first;
  std::vector<TensorId> alias(graph.tensors.size());
  for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
    const auto id = static_cast<TensorId>(i);
    const Tensor &tensor = graph[id];
    alias[i] = id;
    if (!tensor.is_constant()) continue;
    const std::string_view bytes(reinterpret_cast<const char *>(tensor.data->data()), tensor.data->size());
    alias[i] = first.emplace(Key{tensor.type, tensor.shape, bytes}, id).first->second;
  }
  for (Node &node : graph.nodes) {
    for (TensorId &id : node.inputs) {
      if (id != kNoTensor) id = alias[static_cast<std::size_t>(id)];
    }
  }
  eliminate_dead_code(graph);
}

}  // namespace cx::compiler
