// Which intermediate tensors stay in the scratchpad between the groups that make and use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "driver/compiler/backend/layout.hpp"
#include "driver/compiler/backend/scratchpad_places.hpp"
#include "driver/compiler/backend/tile.hpp"

namespace cx::compiler::backend {

/// A graph input that several groups read and that is loaded once, before the first of them.
struct InputCopy {
  int group = 0;
  SpmView target;
  MemView source;
};

/// Where a tensor stays, its first and last group, and its storage of the layout.
struct Resident {
  Region region;
  int first_use = 0;
  int last_use = 0;
  std::size_t storage = 0;
};

struct Residency {
  int64_t bytes = 0;  ///< of the scratchpad, from its begin, at most
  /// By group: first byte above everything that is resident while the group runs.
  std::vector<int64_t> floor;
  /// The same with what is resident shortly before and after, so that buffers above it need not wait for it and loads
  /// can run ahead.
  std::vector<int64_t> quiet_floor;
  std::vector<InputCopy> copies;
  std::vector<Resident> residents;  ///< by first group
  /// Those whose first group this is.
  std::span<const Resident> residents_from(int group) const;
};

/// Gives storages a place in the first `most` bytes of the scratchpad, those first whose bytes are used most often for
/// the time that they take. Maps that windows read get a border for the padding.
Residency plan_residency(const Graph &graph, const std::vector<Group> &groups, Layout &layout, int64_t most);

/// Once, before the first group: what fill_borders() copies from.
void prepare_borders(Context &context);
/// Fills the borders of storages that come to life with the group.
void fill_borders(Context &context, const Residency &residency, int group);
/// Loads the inputs of which the group is the first reader.
void load_copies(Context &context, const Residency &residency, int group);

}  // namespace cx::compiler::backend
