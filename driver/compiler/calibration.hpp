// Which tensors an 8-bit precision needs ranges of, and a graph that measures them on the device.
#pragma once

#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

/// Whether the node is a product that the DMMU computes: a MatMul, or a Conv that is not depthwise. The VPU computes
/// depthwise ones in FP32; those of int8 only with so few taps that it holds their sums exactly.
bool is_dmmu_product(const Graph &graph, const Node &node);

/// A tensor known only at run time that a product multiplies, and its key in CompileOptions::ranges: its name, followed
/// by "#2", "#3", ... where several such tensors bear the same one.
struct RangedTensor {
  TensorId id = kNoTensor;
  std::string name;
};

/// Each once, in the order of the nodes that use them first. Tensors without elements have no range.
std::vector<RangedTensor> ranged_tensors(const Graph &graph);

/// The graph with one more output after the others, FP32[n]: the largest magnitude of each of ranged_tensors(graph), in
/// their order. The graph itself if there is none.
Graph with_ranges(const Graph &graph);

}  // namespace cx::compiler
