// Places of intermediate tensors in the workspace, memory reused when a tensor dies.
#pragma once

#include <cstdint>
#include <vector>

#include "driver/compiler/backend/layout.hpp"

namespace cx::compiler::backend {

struct MemoryPlan {
  int64_t bytes = 0;           ///< of the workspace
  int64_t bytes_no_reuse = 0;  ///< if every storage had memory of its own and none stayed in the scratchpad
};

/// Sets the offsets of all workspace storages.
MemoryPlan plan_memory(std::vector<Storage> &storages);

}  // namespace cx::compiler::backend
