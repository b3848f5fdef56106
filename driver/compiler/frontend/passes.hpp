// Graph passes. Each leaves the graph valid (verify(), verify_shapes()) and keeps names of inputs and outputs.
#pragma once

#include "driver/compiler/graph.hpp"
#include "driver/compiler/observer.hpp"

namespace cx::compiler {

/// Evaluates nodes whose operands are all constant, except Copy.
void fold_constants(Graph &graph);

/// Removes what does nothing, merges neighbouring views, transposes and pads, and writes the rest in one form: constant
/// operand second, x - c as x + (-c), Max and Min with a scalar as clamp, Gather of evenly spaced indices as Slice.
void canonicalise(Graph &graph);

/// Products, quotients, sums and differences with per-channel or scalar constants after a Conv or MatMul with constant
/// weights become part of its weights and bias. This is where a BatchNormalization ends. It changes roundings.
void fold_batchnorm(Graph &graph);

/// Spelled-out functions become one Unary: hard_swish, silu, gelu.
void fuse_functions(Graph &graph);

/// Sums of squares and magnitudes become one Reduce, spelled-out softmax a Softmax, GELU by tanh one sigmoid, and
/// quotients by a statistic of many elements products with its reciprocal. It changes roundings.
void fuse_statistics(Graph &graph);

/// A product and a sum with scalar constants become Unary affine, with the same two roundings.
void fuse_affine(Graph &graph);

/// Equal constants become one.
void share_constants(Graph &graph);

/// Removes nodes and tensors that no output needs and renumbers the rest. Graph inputs stay.
void eliminate_dead_code(Graph &graph);

/// Removes each Copy whose source may take its place as a graph output.
void elide_copies(Graph &graph);

/// All of the above, in order. Expects every graph output to come from a Copy. The observer sees the graph after each.
void optimise(Graph &graph, StepObserver *observer = nullptr);

}  // namespace cx::compiler
