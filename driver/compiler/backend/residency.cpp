#include "driver/compiler/backend/residency.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "driver/compiler/backend/patch.hpp"
#include "hw/common/num/whole.hpp"

namespace cx::compiler::backend {

namespace {

constexpr int64_t kAlign = 64;
/// Groups before and after one whose residents its buffers avoid.
constexpr int kGroupsBefore = 2;
constexpr int kGroupsAfter = 4;
/// Groups for which the place of a tensor stays empty before and after its life, if there is room.
constexpr int kGap = 3;

/// The scratchpad begins with one element of every padding value.
constexpr int64_t kPatternBytes = 64;
constexpr std::array<Dtype, 3> kInfinities{Dtype::FP32, Dtype::FP16, Dtype::BF16};

int64_t aligned(int64_t bytes) { return num::round_up(bytes, kAlign); }

/// The kernels of these operators reach tensors in the scratchpad.
bool reaches_scratchpad(const std::string &op) {
  static const std::set<std::string> known{"Conv",      "MatMul",  "Pool",   "Reduce", "Softmax", "Unary",
                                           "Binary",    "Cast",    "Concat", "Slice",  "Gather",  "Expand",
                                           "Transpose", "Reshape", "Pad",    "Copy"};
  return known.contains(op);
}

bool vpu_copies(Dtype dtype) {
  switch (dtype) {
    case Dtype::FP32:
    case Dtype::FP16:
    case Dtype::BF16:
    case Dtype::INT8:
    case Dtype::UINT8:
    case Dtype::INT32:
      return true;
    default:
      return false;
  }
}

/// Raises a border to what another one needs. False if they hold different values.
bool join(Border &border, const Border &other) {
  if (!other.any()) return true;
  if (border.any() && border.minus_infinity != other.minus_infinity) return false;
  border.minus_infinity = other.minus_infinity;
  border.top = std::max(border.top, other.top);
  border.bottom = std::max(border.bottom, other.bottom);
  border.left = std::max(border.left, other.left);
  border.right = std::max(border.right, other.right);
  return true;
}

struct Candidate {
  std::size_t storage = 0;
  int64_t bytes = 0;
  Border border;
  double cost = 0;  ///< groups that it occupies the scratchpad for, for each time that its bytes are used
};

class Planner {
 public:
  Planner(const Graph &graph, const std::vector<Group> &groups, Layout &layout)
      : graph_(graph),
        groups_(groups),
        layout_(layout),
        consumers_(graph.consumers()),
        uses_(layout.storages().size(), 0) {
    eligible_.assign(layout.storages().size(), true);
    tensors_.resize(layout.storages().size());
    for (TensorId id = 0; id < static_cast<TensorId>(graph.tensors.size()); ++id) {
      if (layout.has_memory(id)) tensors_[storage_of(id)].push_back(id);
    }
    for (const Group &group : groups) note(group);
    find_inputs();
  }

  std::vector<Candidate> candidates() const {
    std::vector<Candidate> result;
    for (std::size_t s = 0; s < layout_.storages().size(); ++s) {
      const Storage &storage = layout_.storages()[s];
      if (storage.first_use < 0 || !eligible_[s]) continue;
      const bool copies = storage.place == Place::binding;
      if (copies && (!only_read_[s] || uses_[s] < 2)) continue;
      if (!vpu_copies(storage.dtype) || storage.bytes == 0) continue;
      Candidate candidate{s, storage.bytes, common_border(s), 0};
      if (candidate.border.any()) {
        candidate.bytes = layout_.bytes_with(s, candidate.border);
        if (candidate.bytes == 0) candidate = {s, storage.bytes, {}, 0};
      }
      candidate.cost = static_cast<double>(storage.last_use - storage.first_use + 1) / std::max(uses_[s], 1);
      result.push_back(candidate);
    }
    std::stable_sort(result.begin(), result.end(), [](const Candidate &a, const Candidate &b) {
      return a.cost != b.cost ? a.cost < b.cost : a.bytes < b.bytes;
    });
    return result;
  }

 private:
  std::size_t storage_of(TensorId id) const { return static_cast<std::size_t>(layout_.value(id).storage); }

  void note(const Group &group) {
    bool known = true;
    for (int n : group.nodes) known = known && reaches_scratchpad(graph_.nodes[static_cast<std::size_t>(n)].op);
    std::set<std::size_t> touched;
    const auto touch = [&](TensorId id) {
      if (id != kNoTensor && layout_.has_memory(id)) touched.insert(storage_of(id));
    };
    for (int n : group.nodes) {
      for (TensorId id : graph_.nodes[static_cast<std::size_t>(n)].inputs) touch(id);
    }
    for (TensorId id : group.outputs) touch(id);
    for (std::size_t s : touched) {
      ++uses_[s];
      if (!known) eligible_[s] = false;
    }
  }

  /// For all windows over the storage's tensors; nothing if they want different values.
  Border common_border(std::size_t storage) const {
    Border result;
    for (TensorId id : tensors_[storage]) {
      for (int n : consumers_[static_cast<std::size_t>(id)]) {
        const Node &node = graph_.nodes[static_cast<std::size_t>(n)];
        if ((node.op != "Conv" && node.op != "Pool") || node.inputs[0] != id) continue;
        if (!join(result, border_of(node, graph_[id].shape))) return {};
      }
    }
    return result;
  }

  /// Inputs that nothing writes and no window reads: windows load their part of a map with the padding.
  void find_inputs() {
    only_read_.assign(layout_.storages().size(), false);
    for (TensorId id : graph_.inputs) only_read_[storage_of(id)] = true;
    for (const Group &group : groups_) {
      for (TensorId id : group.outputs) only_read_[storage_of(id)] = false;
      const Node &node = graph_.nodes[static_cast<std::size_t>(group.nodes.front())];
      const bool window = node.op == "Conv" || node.op == "Pool";
      const TensorId map = node.inputs.empty() ? kNoTensor : node.inputs[0];
      if (window && layout_.has_memory(map)) only_read_[storage_of(map)] = false;
    }
  }

  Border border_of(const Node &node, const Shape &map) const {
    int64_t kernel_y = 0;
    int64_t kernel_x = 0;
    if (node.op == "Pool") {
      const auto kernel = node.integers("kernel");
      kernel_y = kernel[0];
      kernel_x = kernel[1];
    } else {
      const Shape &weights = graph_[node.inputs[1]].shape;
      kernel_y = weights[2];
      kernel_x = weights[3];
    }
    return window_border(window_shape(node, kernel_y, kernel_x), map, graph_[node.outputs[0]].shape,
                         node.text("kind", "") == "max");
  }

  const Graph &graph_;
  const std::vector<Group> &groups_;
  Layout &layout_;
  std::vector<std::vector<int>> consumers_;  ///< by tensor
  std::vector<int> uses_;                    ///< groups, by storage
  std::vector<bool> eligible_;
  std::vector<bool> only_read_;
  std::vector<std::vector<TensorId>> tensors_;
};

struct Placed {
  const Candidate *candidate = nullptr;
  int first_use = 0;
  int last_use = 0;
  int64_t offset = 0;
};

/// Lowest place that is free while the storage lives and `gap` groups before and after; -1 if there is none below
/// `most`.
int64_t lowest_place(const std::vector<Placed> &placed, const Storage &storage, int64_t bytes, int gap, int64_t most) {
  std::vector<const Placed *> rivals;
  for (const Placed &other : placed) {
    if (other.first_use <= storage.last_use + gap && storage.first_use <= other.last_use + gap) {
      rivals.push_back(&other);
    }
  }
  std::sort(rivals.begin(), rivals.end(), [](const Placed *a, const Placed *b) { return a->offset < b->offset; });
  int64_t offset = kPatternBytes;
  for (const Placed *other : rivals) {
    if (offset + bytes <= other->offset) break;
    offset = std::max(offset, aligned(other->offset + other->candidate->bytes));
  }
  return offset + bytes <= most ? offset : -1;
}

/// Places for the candidates in their order, with the largest gap up to `widest` that leaves one.
std::vector<Placed> place(const std::vector<Candidate> &candidates, const std::vector<Storage> &storages, int widest,
                          int64_t most) {
  std::vector<Placed> placed;
  for (const Candidate &candidate : candidates) {
    const Storage &storage = storages[candidate.storage];
    int64_t offset = -1;
    for (int gap = widest; gap >= 0 && offset < 0; --gap) {
      offset = lowest_place(placed, storage, candidate.bytes, gap, most);
    }
    if (offset >= 0) placed.push_back({&candidate, storage.first_use, storage.last_use, offset});
  }
  return placed;
}

/// What takes the place of a tensor that the group before still reads waits for that group. Gaps are left where all
/// the same stays that would stay without.
std::vector<Placed> place(const std::vector<Candidate> &candidates, const std::vector<Storage> &storages,
                          int64_t most) {
  std::vector<Placed> dense = place(candidates, storages, 0, most);
  for (int gap = kGap; gap > 0; --gap) {
    std::vector<Placed> loose = place(candidates, storages, gap, most);
    const bool same = std::equal(dense.begin(), dense.end(), loose.begin(), loose.end(),
                                 [](const Placed &a, const Placed &b) { return a.candidate == b.candidate; });
    if (same) return loose;
  }
  return dense;
}

uint32_t infinity_bits(Dtype dtype) {
  return dtype == Dtype::FP16 ? 0xFC00 : dtype == Dtype::BF16 ? 0xFF80 : 0xFF800000;
}

SpmView pattern_view(const Border &border, Dtype dtype) {
  SpmView view;
  view.dtype = dtype;
  if (border.minus_infinity) {
    const auto at = std::find(kInfinities.begin(), kInfinities.end(), dtype) - kInfinities.begin();
    view.base = 4 * (at + 1);
  }
  return view;
}

}  // namespace

Residency plan_residency(const Graph &graph, const std::vector<Group> &groups, Layout &layout, int64_t most) {
  Residency result;
  std::vector<std::size_t> placed;
  if (most > kPatternBytes) {
    const std::vector<Candidate> candidates = Planner(graph, groups, layout).candidates();
    for (const auto &[chosen, first_use, last_use, offset] : place(candidates, layout.storages(), most)) {
      const Candidate &candidate = *chosen;
      std::size_t index = candidate.storage;
      const Storage found = layout.storages()[index];
      if (found.place == Place::binding) {
        const Dims dims{found.bytes / element_bytes(found.dtype)};
        const Dims strides{element_bytes(found.dtype)};
        result.copies.push_back(
            {found.first_use, {found.dtype, offset, dims, strides}, {found.dtype, found.segment, 0, dims, strides}});
        layout.storages().push_back(found);
        index = layout.storages().size() - 1;
        layout.move(candidate.storage, index);
      }
      if (candidate.border.any()) layout.add_border(index, candidate.border);
      layout.storages()[index].place = Place::scratchpad;
      layout.storages()[index].offset = offset;
      placed.push_back(index);
    }
  }
  const auto count = static_cast<int>(groups.size());
  result.floor.assign(groups.size(), placed.empty() ? 0 : kPatternBytes);
  result.quiet_floor = result.floor;
  for (const std::size_t index : placed) {
    const Storage *storage = &layout.storages()[index];
    const int64_t end = aligned(storage->offset + storage->bytes);
    result.bytes = std::max(result.bytes, end);
    result.residents.push_back({{storage->offset, end}, storage->first_use, storage->last_use, index});
    const auto raise = [&](std::vector<int64_t> &floor, int before, int after) {
      const int last = std::min(storage->last_use + before, count - 1);
      for (int g = std::max(storage->first_use - after, 0); g <= last; ++g) {
        floor[static_cast<std::size_t>(g)] = std::max(floor[static_cast<std::size_t>(g)], end);
      }
    };
    raise(result.floor, 0, 0);
    raise(result.quiet_floor, kGroupsBefore, kGroupsAfter);
  }
  std::stable_sort(result.residents.begin(), result.residents.end(),
                   [](const Resident &a, const Resident &b) { return a.first_use < b.first_use; });
  return result;
}

std::span<const Resident> Residency::residents_from(int group) const {
  struct ByGroup {
    bool operator()(const Resident &resident, int other) const { return resident.first_use < other; }
    bool operator()(int other, const Resident &resident) const { return other < resident.first_use; }
  };
  const auto [first, last] = std::equal_range(residents.begin(), residents.end(), group, ByGroup());
  return {first, last};
}

void prepare_borders(Context &context) {
  const std::vector<Storage> &storages = context.layout.storages();
  if (std::none_of(storages.begin(), storages.end(), [](const Storage &storage) { return storage.border.any(); })) {
    return;
  }
  SpmView cell;
  cell.dtype = Dtype::FP32;
  cell.dims = {1};
  cell.strides = {4};
  context.emitter.fill(cell, 0);
  for (Dtype dtype : kInfinities) {
    cell.base += 4;
    context.emitter.fill(cell, infinity_bits(dtype));
  }
}

void load_copies(Context &context, const Residency &residency, int group) {
  for (const InputCopy &copy : residency.copies) {
    if (copy.group == group) context.emitter.load(copy.target, copy.source);
  }
}

void fill_borders(Context &context, const Residency &residency, int group) {
  for (const Resident &resident : residency.residents_from(group)) {
    const Storage &storage = context.layout.storages()[resident.storage];
    if (!storage.border.any()) continue;
    const Maps &maps = storage.maps;
    const Border &border = storage.border;
    const int64_t size = element_bytes(storage.dtype);
    const int64_t row = (maps.width + border.left + border.right) * maps.pixel * size;
    const int64_t image = (maps.height + border.top + border.bottom) * row;
    const SpmView pattern = pattern_view(border, storage.dtype);
    // Above and below whole rows; beside a row its right border continues in the next row's left one.
    const auto fill = [&](int64_t offset, int64_t rows, int64_t bytes) {
      if (rows <= 0 || bytes <= 0) return;
      SpmView part = pattern;
      part.base = storage.offset + offset;
      part.dims = {maps.images, rows, bytes / size};
      part.strides = {image, row, size};
      SpmView source = pattern;
      source.dims = part.dims;
      source.strides = {0, 0, 0};
      context.emitter.unary(isa::Unary::COPY, part, source);
    };
    const int64_t left = border.left * maps.pixel * size;
    const int64_t right = border.right * maps.pixel * size;
    fill(0, 1, border.top * row + left);
    fill(border.top * row + row - right, maps.height - 1, right + left);
    fill((border.top + maps.height) * row - right, 1, right + border.bottom * row);
  }
}

}  // namespace cx::compiler::backend
