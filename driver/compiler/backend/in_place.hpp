// Outputs that update an input where it lies: the state that a model carries from run to run (a cache of keys and
// values) stays in one place.
#pragma once

#include <map>
#include <string>

#include "driver/compiler/backend/fusion.hpp"
#include "driver/compiler/backend/layout.hpp"
#include "driver/compiler/graph.hpp"

namespace cx::compiler::backend {

/// Output and input by name, as in CompileOptions::in_place. An output can update an input if it comes from a
/// ScatterAlong into that input, with nothing but Reshape, Transpose and Copy before and after, and both have one type
/// and shape. Throws InputError naming output and input, and the node in the way, for others.
Updates find_updates(const Graph &graph, const std::map<std::string, std::string> &names);

/// The graph with its nodes in an order in which everything that reads an updated input, or a view of it, comes before
/// the node that updates it. Throws InputError naming a node that needs both the input as it was and the updated one.
Graph order_updates(const Graph &graph, const Updates &updates);

/// Throws InputError when groups have been put into another order than order_updates() asks for, or when a node that
/// updates an input would write elements elsewhere than where it reads them.
void verify_updates(const Graph &graph, const Updates &updates, const std::vector<Group> &groups, const Layout &layout);

}  // namespace cx::compiler::backend
