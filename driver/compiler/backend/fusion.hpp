// Groups of nodes that run together: an anchor with an element-wise tail whose intermediate values stay in the
// scratchpad.
#pragma once

#include <string>
#include <vector>

#include "driver/compiler/backend/emitter.hpp"
#include "driver/compiler/graph.hpp"

namespace cx::compiler::backend {

enum class GroupKind {
  convolution,
  matmul,
  pool,
  reduce,
  softmax,
  take_along,
  scatter_along,
  scan,
  arg_reduce,
  top_k,
  elementwise,
  move
};

enum class StepKind { unary, binary, select };

/// One element-wise operation of a group. An operand is a tensor (computed earlier in the group, or from outside) or a
/// scalar.
struct Step {
  int node = 0;
  StepKind kind = StepKind::unary;
  isa::Unary unary{};
  isa::Binary binary{};
  float imm0 = 0;
  float imm1 = 0;
  TensorId a = kNoTensor;     ///< select: kNoTensor is the scalar imm0
  TensorId b = kNoTensor;     ///< kNoTensor is a scalar: imm0 of binary, imm1 of select
  TensorId cond = kNoTensor;  ///< select only
  bool swap = false;          ///< binary: scalar first
  Activation act;
  TensorId result = kNoTensor;

  bool uses(TensorId id) const { return id != kNoTensor && (a == id || b == id || cond == id); }
};

struct Group {
  GroupKind kind{};
  std::string name;        ///< of the first node, for messages and the debug map
  std::vector<int> nodes;  ///< in graph order; the anchor is the first
  Shape shape;             ///< of every value that the group computes
  TensorId anchor_result = kNoTensor;
  /// What the anchor's instruction does to its sums, in this order.
  float anchor_scale = 1;
  TensorId anchor_bias = kNoTensor;  ///< a constant with one value for each channel, if the node has no bias itself
  Activation anchor_act;
  std::vector<Step> steps;
  std::vector<TensorId> outputs;  ///< values that others need, in order of computation
};

/// All groups in an order in which they can run. Nothing moves across a dependence. scales: the sums of products may be
/// multiplied before they are stored. keep_order: independent groups stay in the graph's order.
std::vector<Group> fuse(const Graph &graph, bool scales, bool keep_order);

}  // namespace cx::compiler::backend
