// Forward rewriting of a graph: visits nodes in order and builds the new list of nodes.
#pragma once

#include <functional>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

class Rewriter {
 public:
  explicit Rewriter(Graph &graph);

  /// Calls visit for every node, its operands already rewritten. visit must call keep() or replace() for the node's
  /// output. Afterwards nodes that lost their use are removed.
  void run(const std::function<void(Node)> &visit);

  /// Adds a node (the visited one, changed or not, or another with the same output).
  void keep(Node node);
  /// Lets every later use of `output` read `other` instead.
  void replace(TensorId output, TensorId other);
  /// Adds a node with a new output tensor, which is returned.
  TensorId emit(Node node, const Shape *shape = nullptr);
  TensorId constant(Tensor tensor);

  /// The node that computes a tensor, if it is one of those already built and of this operator (any if empty).
  const Node *producer(TensorId id, const std::string &op = "") const;
  /// Uses besides those by the visited node. Uses by nodes that have become dead still count.
  int other_uses(TensorId id) const { return uses_[static_cast<std::size_t>(id)]; }
  const Tensor &operator[](TensorId id) const { return graph_[id]; }
  /// A constant with one element of FP32.
  bool is_scalar(TensorId id, float *value) const;

 private:
  void grow();

  Graph &graph_;
  std::vector<Node> nodes_;
  std::vector<int> producer_;
  std::vector<int> uses_;
  std::vector<TensorId> alias_;
};

}  // namespace cx::compiler
