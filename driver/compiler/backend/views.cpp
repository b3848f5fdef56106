#include "driver/compiler/backend/views.hpp"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace cx::compiler::backend {

namespace {

constexpr int64_t kMaxDim = 65535;

struct MergedDim {
  int64_t size = 1;
  std::vector<int64_t> strides;
};

/// Adds a dimension inside the others, as part of the innermost one where every operand allows it.
void append(std::vector<MergedDim> &merged, const Dims &dims, const std::vector<Dims> &strides, std::size_t index) {
  if (dims[index] == 1) return;
  MergedDim next{dims[index], {}};
  for (const Dims &operand : strides) next.strides.push_back(operand[index]);
  bool joins = !merged.empty();
  if (joins) {
    const MergedDim &outer = merged.back();
    for (std::size_t i = 0; i < strides.size(); ++i) joins = joins && outer.strides[i] == next.strides[i] * next.size;
    joins = joins && outer.size * next.size <= kMaxDim;
  }
  if (joins) {
    merged.back().size *= next.size;
    merged.back().strides = next.strides;
  } else {
    merged.push_back(next);
  }
}

std::vector<MergedDim> merge(const Dims &dims, const std::vector<Dims> &strides, std::size_t leader) {
  std::vector<MergedDim> merged;
  for (int d : nesting_order(dims, strides[leader])) append(merged, dims, strides, static_cast<std::size_t>(d));
  return merged;
}

}  // namespace

int64_t element_bytes(Dtype dtype) { return static_cast<int64_t>(isa::bytes_of(dtype)); }

bool is_integer(Dtype dtype) {
  switch (dtype) {
    case Dtype::INT8:
    case Dtype::UINT8:
    case Dtype::INT16:
    case Dtype::UINT16:
    case Dtype::INT32:
    case Dtype::UINT32:
    case Dtype::INT64:
    case Dtype::UINT64:
      return true;
    default:
      return false;
  }
}

int64_t product(const Dims &dims) { return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>()); }

Dims row_major_strides(const Dims &dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t d = dims.size(); d-- > 1;) strides[d - 1] = strides[d] * dims[d];
  return strides;
}

Dims ordered_strides(const Dims &dims, const std::vector<int> &order) {
  Dims strides(dims.size(), 1);
  int64_t step = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    const auto d = static_cast<std::size_t>(order[i]);
    strides[d] = step;
    step *= dims[d];
  }
  return strides;
}

std::vector<int> nesting_order(const Dims &dims, const Dims &strides) {
  std::vector<int> order(dims.size());
  std::iota(order.begin(), order.end(), 0);
  // Dimensions of size 1 may have any stride: they keep their place behind their left neighbour by taking its key.
  std::vector<int64_t> key(dims.size());
  int64_t previous = INT64_MAX;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    key[d] = dims[d] == 1 ? previous : std::abs(strides[d]);
    previous = key[d];
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return key[static_cast<std::size_t>(a)] > key[static_cast<std::size_t>(b)]; });
  return order;
}

bool reshape_strides(const Dims &dims, const Dims &strides, const Dims &new_dims, Dims &new_strides) {
  Dims old_dims;
  Dims old_strides;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 1) continue;
    old_dims.push_back(dims[d]);
    old_strides.push_back(strides[d]);
  }
  new_strides.assign(new_dims.size(), 0);
  std::size_t old_first = 0;
  std::size_t new_first = 0;
  while (old_first < old_dims.size() && new_first < new_dims.size()) {
    std::size_t old_last = old_first + 1;
    std::size_t new_last = new_first + 1;
    int64_t old_count = old_dims[old_first];
    int64_t new_count = new_dims[new_first];
    while (old_count != new_count) {
      if (new_count < old_count) {
        if (new_last == new_dims.size()) return false;
        new_count *= new_dims[new_last++];
      } else {
        if (old_last == old_dims.size()) return false;
        old_count *= old_dims[old_last++];
      }
    }
    for (std::size_t d = old_first; d + 1 < old_last; ++d) {
      if (old_strides[d] != old_dims[d + 1] * old_strides[d + 1]) return false;
    }
    new_strides[new_last - 1] = old_strides[old_last - 1];
    for (std::size_t d = new_last - 1; d > new_first; --d) new_strides[d - 1] = new_strides[d] * new_dims[d];
    old_first = old_last;
    new_first = new_last;
  }
  // What is left has size 1 and may have any stride: the one of its right neighbour keeps orders stable.
  for (std::size_t d = new_dims.size(); d-- > new_first;) {
    new_strides[d] = 1;
  }
  return true;
}

void for_each_block(const Dims &dims, const std::vector<Dims> &strides, std::size_t leader,
                    const std::function<void(const Block &)> &emit, std::size_t rank) {
  std::vector<MergedDim> merged = merge(dims, strides, leader);
  const std::size_t operands = strides.size();
  // Outer loops: dimensions beyond `rank`, and steps of 65535 of dimensions that are longer.
  std::vector<int64_t> step(merged.size());
  const std::size_t looped = merged.size() > rank ? merged.size() - rank : 0;
  for (std::size_t d = 0; d < merged.size(); ++d) step[d] = d < looped ? 1 : std::min(merged[d].size, kMaxDim);

  std::vector<int64_t> at(merged.size(), 0);
  for (;;) {
    Block block;
    block.dims.fill(1);
    block.strides.assign(operands, {});
    block.offsets.assign(operands, 0);
    for (std::size_t d = 0; d < merged.size(); ++d) {
      for (std::size_t i = 0; i < operands; ++i) block.offsets[i] += at[d] * merged[d].strides[i];
      if (d < looped) continue;
      const std::size_t slot = 4 - (merged.size() - d);
      block.dims[slot] = std::min(step[d], merged[d].size - at[d]);
      for (std::size_t i = 0; i < operands; ++i) block.strides[i][slot] = merged[d].strides[i];
    }
    emit(block);
    std::size_t d = merged.size();
    while (d > 0) {
      --d;
      at[d] += step[d];
      if (at[d] < merged[d].size) break;
      at[d] = 0;
      if (d == 0) return;
    }
    if (merged.empty()) return;
  }
}

void for_each_axis_block(const Dims &dims, std::size_t axis, const std::vector<Dims> &strides, std::size_t leader,
                         const std::function<void(const Block &, std::size_t)> &emit, bool axis_last) {
  // The axis splits what lies around it: neighbours merge on its left and on its right, never across.
  std::vector<int> before;
  std::vector<int> after;
  bool passed = false;
  for (int d : nesting_order(dims, strides[leader])) {
    if (static_cast<std::size_t>(d) == axis) {
      passed = true;
    } else {
      (passed && !axis_last ? after : before).push_back(d);
    }
  }
  const auto merged = [&](const std::vector<int> &which) {
    std::vector<MergedDim> result;
    for (int d : which) append(result, dims, strides, static_cast<std::size_t>(d));
    return result;
  };
  std::vector<MergedDim> all = merged(before);
  const std::size_t place = all.size();
  for (const MergedDim &dim : merged(after)) all.push_back(dim);
  const std::size_t looped = all.size() > 3 ? all.size() - 3 : 0;
  const std::size_t used = all.size() - looped;
  // Looped dimensions are the outermost ones, which may lie on both sides of the axis.
  const std::size_t slot = 4 - used - 1 + (place > looped ? place - looped : 0);
  std::vector<int64_t> step(all.size(), 1);
  for (std::size_t d = looped; d < all.size(); ++d) step[d] = std::min(all[d].size, kMaxDim);
  std::vector<int64_t> at(all.size(), 0);
  for (;;) {
    Block block;
    block.dims.fill(1);
    block.strides.assign(strides.size(), {});
    block.offsets.assign(strides.size(), 0);
    for (std::size_t d = 0; d < all.size(); ++d) {
      for (std::size_t i = 0; i < strides.size(); ++i) block.offsets[i] += at[d] * all[d].strides[i];
      if (d < looped) continue;
      std::size_t s = 4 - used - 1 + (d - looped);
      if (s >= slot) ++s;
      block.dims[s] = std::min(step[d], all[d].size - at[d]);
      for (std::size_t i = 0; i < strides.size(); ++i) block.strides[i][s] = all[d].strides[i];
    }
    for (std::size_t i = 0; i < strides.size(); ++i) block.strides[i][slot] = strides[i][axis];
    emit(block, slot);
    std::size_t d = all.size();
    for (;;) {
      if (d == 0) return;
      --d;
      at[d] += step[d];
      if (at[d] < all[d].size) break;
      at[d] = 0;
    }
  }
}

int64_t box_offset(const Box &box, const Dims &strides) {
  int64_t offset = 0;
  for (std::size_t d = 0; d < strides.size(); ++d) offset += box.start[d] * strides[d];
  return offset;
}

}  // namespace cx::compiler::backend
