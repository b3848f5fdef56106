#include "driver/compiler/frontend/rewriter.hpp"

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"

namespace cx::compiler {
namespace {

std::size_t at(TensorId id) { return static_cast<std::size_t>(id); }

}  // namespace

Rewriter::Rewriter(Graph &graph) : graph_(graph) {
  grow();
  for (const Node &node : graph.nodes) {
    for (TensorId id : node.inputs) {
      if (id != kNoTensor) ++uses_[at(id)];
    }
  }
  for (TensorId id : graph.outputs) ++uses_[at(id)];
}

void Rewriter::grow() {
  for (std::size_t id = alias_.size(); id < graph_.tensors.size(); ++id) alias_.push_back(static_cast<TensorId>(id));
  producer_.resize(alias_.size(), -1);
  uses_.resize(alias_.size(), 0);
}

void Rewriter::run(const std::function<void(Node)> &visit) {
  std::vector<Node> before = std::move(graph_.nodes);
  nodes_.reserve(before.size());
  for (Node &node : before) {
    for (TensorId &id : node.inputs) {
      if (id == kNoTensor) continue;
      id = alias_[at(id)];
      --uses_[at(id)];
    }
    visit(std::move(node));
  }
  graph_.nodes = std::move(nodes_);
  eliminate_dead_code(graph_);
}

void Rewriter::keep(Node node) {
  for (TensorId id : node.inputs) {
    if (id != kNoTensor) ++uses_[at(id)];
  }
  producer_[at(node.outputs[0])] = static_cast<int>(nodes_.size());
  nodes_.push_back(std::move(node));
}

void Rewriter::replace(TensorId output, TensorId other) {
  alias_[at(output)] = other;
  uses_[at(other)] += uses_[at(output)];
}

TensorId Rewriter::emit(Node node, const Shape *shape) {
  std::vector<const Tensor *> inputs;
  for (TensorId id : node.inputs) inputs.push_back(id == kNoTensor ? nullptr : &graph_[id]);
  TensorType type = infer(node, inputs, shape);
  const TensorId output = graph_.add(Tensor{node.name, type.type, std::move(type.shape), std::nullopt});
  grow();
  node.outputs = {output};
  keep(std::move(node));
  return output;
}

TensorId Rewriter::constant(Tensor tensor) {
  const TensorId id = graph_.add(std::move(tensor));
  grow();
  return id;
}

const Node *Rewriter::producer(TensorId id, const std::string &op) const {
  if (id == kNoTensor || producer_[at(id)] < 0) return nullptr;
  const Node *node = &nodes_[at(producer_[at(id)])];
  return op.empty() || node->op == op ? node : nullptr;
}

bool Rewriter::is_scalar(TensorId id, float *value) const {
  if (id == kNoTensor) return false;
  const Tensor &tensor = graph_[id];
  if (!tensor.is_constant() || tensor.type != Type::F32 || elements(tensor.shape) != 1) return false;
  *value = tensor.values<float>()[0];
  return true;
}

}  // namespace cx::compiler
