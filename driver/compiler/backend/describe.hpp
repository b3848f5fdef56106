// The back-end's decisions as text, for StepObserver.
#pragma once

#include <string>
#include <vector>

#include "driver/compiler/backend/fusion.hpp"
#include "driver/compiler/backend/layout.hpp"
#include "driver/compiler/backend/memory_plan.hpp"

namespace cx::compiler::backend {

/// Each group with its nodes, in order of execution, and which values leave it.
std::string describe_groups(const Graph &graph, const std::vector<Group> &groups);

/// Each tensor that has memory: its storage, place in it and strides, in elements.
std::string describe_layout(const Graph &graph, const Layout &layout);

/// Each storage of the workspace: bytes, offset, and the groups between which it lives; the peak with and without
/// reuse.
std::string describe_plan(const Layout &layout, const MemoryPlan &plan);

/// "convolution", "matmul", ...
const char *name_of(GroupKind kind);

}  // namespace cx::compiler::backend
