#include "driver/compiler/backend/layout.hpp"

#include <algorithm>
#include <numeric>

#include "driver/include/cx/error.hpp"

namespace cx::compiler::backend {

namespace {

const std::vector<int> kChannelsLast{0, 2, 3, 1};

std::vector<int> identity(std::size_t rank) {
  std::vector<int> order(rank);
  std::iota(order.begin(), order.end(), 0);
  return order;
}

bool is_view_like(const std::string &op) {
  return op == "Transpose" || op == "Reshape" || op == "Slice" || op == "Expand" || op == "Copy";
}

}  // namespace

Dtype bound_dtype(Type type, const std::string &tensor) {
  switch (type) {
    case Type::F32:
      return Dtype::FP32;
    case Type::F16:
      return Dtype::FP16;
    case Type::BF16:
      return Dtype::BF16;
    case Type::F64:
      return Dtype::FP64;
    case Type::I8:
      return Dtype::INT8;
    case Type::U8:
    case Type::Bool:
      return Dtype::UINT8;
    case Type::I16:
      return Dtype::INT16;
    case Type::U16:
      return Dtype::UINT16;
    case Type::I32:
      return Dtype::INT32;
    case Type::U32:
      return Dtype::UINT32;
    case Type::I64:
      return Dtype::INT64;
    case Type::U64:
      return Dtype::UINT64;
  }
  throw Error("tensor " + tensor + " has an unknown type");
}

std::optional<Value> view_through(const Graph &graph, const Node &node, const Value &input) {
  const Shape &in = graph[node.inputs[0]].shape;
  const Shape &out = graph[node.outputs[0]].shape;
  Value result = input;
  if (node.op == "Copy") return result;
  if (node.op == "Reshape") {
    if (!reshape_strides(in, input.strides, out, result.strides)) return std::nullopt;
    return result;
  }
  if (node.op == "Transpose") {
    const auto perm = node.integers("perm");
    for (std::size_t d = 0; d < perm.size(); ++d) result.strides[d] = input.strides[static_cast<std::size_t>(perm[d])];
    return result;
  }
  if (node.op == "Slice") {
    const auto starts = node.integers("starts");
    const auto steps = node.integers("steps");
    for (std::size_t d = 0; d < in.size(); ++d) {
      result.offset += starts[d] * input.strides[d];
      result.strides[d] = steps[d] * input.strides[d];
    }
    return result;
  }
  if (node.op == "Expand") {
    for (std::size_t d = 0; d < in.size(); ++d) {
      if (in[d] != out[d]) result.strides[d] = 0;
    }
    return result;
  }
  return std::nullopt;
}

Layout::Layout(const Graph &graph, const std::vector<Group> &groups, Dtype element, const Updates &updates)
    : graph_(graph),
      element_(element),
      producer_(graph.tensors.size(), -1),
      placements_(graph.tensors.size()),
      values_(graph.tensors.size()),
      preferred_(graph.tensors.size()) {
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    for (TensorId out : graph.nodes[n].outputs) producer_[static_cast<std::size_t>(out)] = static_cast<int>(n);
  }
  users_.resize(graph.tensors.size());
  for (std::size_t n = 0; n < graph.nodes.size(); ++n) {
    for (TensorId id : graph.nodes[n].inputs) {
      if (id != kNoTensor) users_[static_cast<std::size_t>(id)].push_back(static_cast<int>(n));
    }
  }
  int segment = kFirstBindingSegment;
  const auto bind = [&](TensorId id) {
    const Tensor &tensor = graph[id];
    Storage storage;
    storage.place = Place::binding;
    storage.segment = segment++;
    storage.dtype = bound_dtype(tensor.type, tensor.name);
    storage.bytes = elements(tensor.shape) * element_bytes(storage.dtype);
    values_[static_cast<std::size_t>(id)] =
        Value{static_cast<int>(storages_.size()), 0, row_major_strides(tensor.shape)};
    storages_.push_back(storage);
  };
  for (TensorId id : graph.inputs) bind(id);
  for (TensorId id : graph.outputs) {
    const auto updated = updates.find(id);
    if (updated == updates.end()) {
      bind(id);
    } else {
      values_[static_cast<std::size_t>(id)] = values_[static_cast<std::size_t>(updated->second)];
    }
  }
  place_backwards();
  // In an order in which what a tensor asks for is known: chains of any length need no deep recursion.
  for (const Node &node : graph.nodes) preferred_order(node.outputs[0]);
  resolve_placements();
  // Only values that leave their group have memory.
  for (const Group &group : groups) {
    for (TensorId id : group.outputs) resolve(id);
  }
  note_uses(groups);
}

bool Layout::can_be_placed(TensorId id) const {
  return producer_[static_cast<std::size_t>(id)] >= 0 && !graph_.is_output(id) && !graph_[id].is_constant() &&
         placements_[static_cast<std::size_t>(id)].parent == kNoTensor;
}

void Layout::place_backwards() {
  for (std::size_t n = graph_.nodes.size(); n-- > 0;) {
    const Node &node = graph_.nodes[n];
    const TensorId out = node.outputs[0];
    const bool forced = graph_.is_output(out) || placements_[static_cast<std::size_t>(out)].parent != kNoTensor;
    const bool bijective = node.op == "Transpose" || node.op == "Reshape" || node.op == "Copy";
    if (node.op != "Concat" && !(bijective && forced)) continue;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const TensorId in = node.inputs[i];
      if (!can_be_placed(in)) continue;
      // A view of something else cannot be written elsewhere without a copy that the Concat does just as well.
      const Node &maker = graph_.nodes[static_cast<std::size_t>(producer_[static_cast<std::size_t>(in)])];
      if (maker.op == "Slice" || maker.op == "Expand") continue;
      placements_[static_cast<std::size_t>(in)] = {out, static_cast<int>(n)};
    }
  }
}

void Layout::resolve_placements() {
  for (std::size_t n = graph_.nodes.size(); n-- > 0;) {
    const TensorId id = graph_.nodes[n].outputs[0];
    const TensorId parent = placements_[static_cast<std::size_t>(id)].parent;
    std::optional<Value> &value = values_[static_cast<std::size_t>(id)];
    if (parent == kNoTensor || value) continue;
    resolve(parent);
    value = inside_parent(id);
  }
}

std::optional<Value> Layout::inside_parent(TensorId id) {
  const Placement &placement = placements_[static_cast<std::size_t>(id)];
  if (placement.parent == kNoTensor) return std::nullopt;
  const Value parent = resolve(placement.parent);
  const Node &node = graph_.nodes[static_cast<std::size_t>(placement.node)];
  Value result = parent;
  if (node.op == "Reshape") {
    if (!reshape_strides(graph_[placement.parent].shape, parent.strides, graph_[id].shape, result.strides))
      return std::nullopt;
  } else if (node.op == "Transpose") {
    const auto perm = node.integers("perm");
    for (std::size_t d = 0; d < perm.size(); ++d) result.strides[static_cast<std::size_t>(perm[d])] = parent.strides[d];
  } else if (node.op == "Concat") {
    const auto axis = static_cast<std::size_t>(node.integer("axis", 0));
    for (TensorId in : node.inputs) {
      if (in == id) break;
      result.offset += graph_[in].shape[axis] * parent.strides[axis];
    }
  }
  return result;
}

Value Layout::resolve(TensorId id) {
  std::optional<Value> &known = values_[static_cast<std::size_t>(id)];
  if (known) return *known;
  std::optional<Value> value = inside_parent(id);
  const int producer = producer_[static_cast<std::size_t>(id)];
  const Node &node = graph_.nodes[static_cast<std::size_t>(producer)];
  if (!value && is_view_like(node.op) && !graph_[node.inputs[0]].is_constant()) {
    value = view_through(graph_, node, resolve(node.inputs[0]));
  }
  if (!value) value = new_storage(id);
  values_[static_cast<std::size_t>(id)] = value;
  return *value;
}

Dtype Layout::storage_dtype(TensorId id) const {
  const Tensor &tensor = graph_[id];
  return tensor.type == Type::F32 ? element_ : bound_dtype(tensor.type, tensor.name);
}

Value Layout::new_storage(TensorId id) {
  const Shape &shape = graph_[id].shape;
  Storage storage;
  storage.dtype = storage_dtype(id);
  storage.bytes = elements(shape) * element_bytes(storage.dtype);
  storages_.push_back(storage);
  return {static_cast<int>(storages_.size()) - 1, 0, ordered_strides(shape, preferred_order(id))};
}

std::optional<Maps> Layout::maps_of(std::size_t storage) const {
  std::optional<Maps> maps;
  for (const auto &[node, value] : scratch_) {
    if (static_cast<std::size_t>(value.storage) == storage) return std::nullopt;
  }
  for (std::size_t id = 0; id < values_.size(); ++id) {
    if (!values_[id] || static_cast<std::size_t>(values_[id]->storage) != storage) continue;
    const Shape &shape = graph_.tensors[id].shape;
    const Value &value = *values_[id];
    if (shape.size() != 4 || elements(shape) == 0) return std::nullopt;
    // Where a map is one pixel wide or high, its neighbours' distance follows from the other tensors or the channels.
    const int64_t pixel = shape[3] > 1 ? value.strides[3]
                          : shape[2] > 1
                              ? value.strides[2]
                              : storages_[storage].bytes / element_bytes(storages_[storage].dtype) / shape[0];
    const Maps here{shape[0], shape[2], shape[3], pixel};
    const bool nests = (shape[1] == 1 || value.strides[1] == 1) && value.offset + shape[1] <= pixel &&
                       (shape[2] == 1 || value.strides[2] == shape[3] * pixel) &&
                       (shape[0] == 1 || value.strides[0] == shape[2] * shape[3] * pixel);
    if (!nests) return std::nullopt;
    if (maps && (maps->images != here.images || maps->height != here.height || maps->width != here.width ||
                 maps->pixel != here.pixel)) {
      return std::nullopt;
    }
    maps = here;
  }
  if (maps && maps->images * maps->height * maps->width * maps->pixel * element_bytes(storages_[storage].dtype) !=
                  storages_[storage].bytes) {
    return std::nullopt;
  }
  return maps;
}

int64_t Layout::bytes_with(std::size_t storage, const Border &border) const {
  const std::optional<Maps> maps = maps_of(storage);
  if (!maps) return 0;
  return maps->images * (maps->height + border.top + border.bottom) * (maps->width + border.left + border.right) *
         maps->pixel * element_bytes(storages_[storage].dtype);
}

void Layout::add_border(std::size_t index, const Border &border) {
  const Maps maps = maps_of(index).value();
  Storage &storage = storages_[index];
  storage.bytes = bytes_with(index, border);
  storage.border = border;
  storage.maps = maps;
  const int64_t row = (maps.width + border.left + border.right) * maps.pixel;
  const int64_t image = (maps.height + border.top + border.bottom) * row;
  for (std::optional<Value> &value : values_) {
    if (!value || static_cast<std::size_t>(value->storage) != index) continue;
    value->strides = {image, 1, row, maps.pixel};
    value->offset += border.top * row + border.left * maps.pixel;
  }
}

void Layout::move(std::size_t from, std::size_t to) {
  for (std::optional<Value> &value : values_) {
    if (value && static_cast<std::size_t>(value->storage) == from) value->storage = static_cast<int>(to);
  }
}

std::optional<Value> Layout::scratch(int node) const {
  const auto found = scratch_.find(node);
  return found == scratch_.end() ? std::nullopt : std::optional<Value>(found->second);
}

void Layout::add_scratch(int node_index, int group) {
  const Node &node = graph_.nodes[static_cast<std::size_t>(node_index)];
  if (node.op != "Reshape" || graph_[node.inputs[0]].is_constant()) return;
  const Shape &in = graph_[node.inputs[0]].shape;
  const Shape &out = graph_[node.outputs[0]].shape;
  Dims ignored;
  if (reshape_strides(in, value(node.inputs[0]).strides, out, ignored)) return;
  if (reshape_strides(out, value(node.outputs[0]).strides, in, ignored)) return;
  Storage storage;
  storage.dtype = dtype(node.outputs[0]);
  storage.bytes = elements(in) * element_bytes(storage.dtype);
  storage.first_use = group;
  storage.last_use = group;
  scratch_[node_index] = {static_cast<int>(storages_.size()), 0, row_major_strides(in)};
  storages_.push_back(storage);
}

std::vector<int> Layout::preferred_order(TensorId id) {
  std::optional<std::vector<int>> &known = preferred_[static_cast<std::size_t>(id)];
  if (!known) known = compute_preferred_order(id);
  return *known;
}

bool Layout::only_reshaped(TensorId id, const std::vector<int> &order) const {
  const std::vector<int> &users = users_[static_cast<std::size_t>(id)];
  if (users.empty()) return false;
  return std::all_of(users.begin(), users.end(), [&](int n) {
    const Node &node = graph_.nodes[static_cast<std::size_t>(n)];
    if (node.op != "Reshape") return false;
    Dims ignored;
    return !reshape_strides(graph_[id].shape, ordered_strides(graph_[id].shape, order), graph_[node.outputs[0]].shape,
                            ignored);
  });
}

std::optional<std::vector<int>> Layout::transposed_order(TensorId id) const {
  const std::vector<int> &consumers = users_[static_cast<std::size_t>(id)];
  if (consumers.size() != 1) return std::nullopt;
  const Node &transpose = graph_.nodes[static_cast<std::size_t>(consumers[0])];
  if (transpose.op != "Transpose") return std::nullopt;
  const std::vector<int> &next = users_[static_cast<std::size_t>(transpose.outputs[0])];
  const bool reshaped = !next.empty() && std::all_of(next.begin(), next.end(), [&](int n) {
    return graph_.nodes[static_cast<std::size_t>(n)].op == "Reshape";
  });
  if (!reshaped) return std::nullopt;
  const auto perm = transpose.integers("perm");
  return std::vector<int>(perm.begin(), perm.end());
}

std::vector<int> Layout::compute_preferred_order(TensorId id) {
  const Shape &shape = graph_[id].shape;
  const std::size_t rank = shape.size();
  const int producer = producer_[static_cast<std::size_t>(id)];
  if (producer < 0 || graph_.is_output(id)) return identity(rank);
  const Node &node = graph_.nodes[static_cast<std::size_t>(producer)];
  std::vector<int> order = identity(rank);
  if (node.op == "Conv" || node.op == "Pool") {
    order = kChannelsLast;
  } else if (node.op == "MatMul") {
    return transposed_order(id).value_or(order);
  } else if (node.op == "Transpose") {
    const std::vector<int> in = preferred_order(node.inputs[0]);
    const auto perm = node.integers("perm");
    for (std::size_t i = 0; i < rank; ++i) {
      order[i] = static_cast<int>(std::find(perm.begin(), perm.end(), in[i]) - perm.begin());
    }
  } else if (node.op == "Reshape") {
    const Shape &in = graph_[node.inputs[0]].shape;
    Dims strides;
    if (!reshape_strides(in, ordered_strides(in, preferred_order(node.inputs[0])), shape, strides)) return order;
    order = nesting_order(shape, strides);
  } else {
    // As the operands lie; one that is not row-major decides.
    for (TensorId in : node.inputs) {
      if (in == kNoTensor || graph_[in].is_constant() || graph_[in].shape.size() != rank) continue;
      if (elements(graph_[in].shape) == 1) continue;
      const std::vector<int> candidate = preferred_order(in);
      if (candidate != identity(rank)) {
        order = candidate;
        break;
      }
    }
  }
  if (only_reshaped(id, order)) return identity(rank);
  return order;
}

void Layout::note_uses(const std::vector<Group> &groups) {
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const auto note = [&](TensorId id) {
      if (id == kNoTensor || !has_memory(id)) return;
      Storage &storage = storages_[static_cast<std::size_t>(value(id).storage)];
      if (storage.first_use < 0) storage.first_use = static_cast<int>(g);
      storage.last_use = static_cast<int>(g);
    };
    for (int n : groups[g].nodes) {
      for (TensorId id : graph_.nodes[static_cast<std::size_t>(n)].inputs) note(id);
    }
    for (TensorId id : groups[g].outputs) note(id);
    if (groups[g].kind == GroupKind::move) add_scratch(groups[g].nodes.front(), static_cast<int>(g));
  }
}

std::vector<int> Layout::order(TensorId id) const { return nesting_order(graph_[id].shape, value(id).strides); }

MemView Layout::view(const Value &value, const Dims &dims) const {
  const Storage &storage = storages_[static_cast<std::size_t>(value.storage)];
  const int64_t size = element_bytes(storage.dtype);
  MemView view;
  view.dtype = storage.dtype;
  view.segment = storage.place == Place::workspace    ? kWorkspaceSegment
                 : storage.place == Place::scratchpad ? kScratchpadSegment
                                                      : storage.segment;
  view.offset = storage.offset + value.offset * size;
  view.dims = dims;
  for (int64_t stride : value.strides) view.strides.push_back(stride * size);
  return view;
}

MemView Layout::view(TensorId id) const { return view(value(id), graph_[id].shape); }

MemView Layout::view(TensorId id, const Box &box) const {
  MemView result = view(id);
  result.offset += box_offset(box, result.strides);
  result.dims = box.size;
  return result;
}

}  // namespace cx::compiler::backend
