#include "driver/compiler/backend/memory_plan.hpp"

#include <algorithm>

#include "hw/common/num/whole.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kAlign = 64;

int64_t aligned(int64_t bytes) { return num::round_up(bytes, kAlign); }

}  // namespace

MemoryPlan plan_memory(std::vector<Storage> &storages) {
  std::vector<Storage *> todo;
  MemoryPlan plan;
  for (Storage &storage : storages) {
    if (storage.place == Place::binding || storage.first_use < 0) continue;
    plan.bytes_no_reuse += aligned(storage.bytes);
    if (storage.place == Place::workspace) todo.push_back(&storage);
  }
  // Largest first, each at the lowest place that is free while it lives.
  std::stable_sort(todo.begin(), todo.end(), [](const Storage *a, const Storage *b) { return a->bytes > b->bytes; });
  std::vector<const Storage *> placed;
  for (Storage *storage : todo) {
    std::vector<const Storage *> rivals;
    for (const Storage *other : placed) {
      if (other->first_use <= storage->last_use && storage->first_use <= other->last_use) rivals.push_back(other);
    }
    std::sort(rivals.begin(), rivals.end(), [](const Storage *a, const Storage *b) { return a->offset < b->offset; });
    int64_t offset = 0;
    for (const Storage *other : rivals) {
      if (offset + storage->bytes <= other->offset) break;
      offset = std::max(offset, aligned(other->offset + other->bytes));
    }
    storage->offset = offset;
    plan.bytes = std::max(plan.bytes, aligned(offset + storage->bytes));
    placed.push_back(storage);
  }
  return plan;
}

}  // namespace cx::compiler::backend
