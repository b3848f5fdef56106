// Where every tensor lies in device memory, and with which strides.
//
// A tensor is a strided view of a storage. Transpose, Reshape, Slice and Expand become views of their input, operands
// of a Concat are written straight into its output, and the producer of a graph output writes into the bound segment;
// only where the memory cannot be viewed that way does a node move bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "driver/compiler/backend/fusion.hpp"
#include "driver/compiler/backend/views.hpp"
#include "driver/compiler/graph.hpp"

namespace cx::compiler::backend {

enum class Place { workspace, binding, scratchpad };

/// Elements around every map of [N, C, H, W] that hold 0 or minus infinity, so that windows may reach over its edge.
struct Border {
  int64_t top = 0;
  int64_t bottom = 0;
  int64_t left = 0;
  int64_t right = 0;
  bool minus_infinity = false;
  bool any() const { return top != 0 || bottom != 0 || left != 0 || right != 0; }
};

/// Maps that lie one after the other, each row by row, pixel by pixel. In elements.
struct Maps {
  int64_t images = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t pixel = 0;  ///< elements of all channels
};

struct Storage {
  Place place = Place::workspace;
  int segment = 0;  ///< of a binding
  Dtype dtype{};
  int64_t bytes = 0;
  int64_t offset = 0;  ///< in the segment; of the workspace and the scratchpad: set by plan_memory(), plan_residency()
  Border border;       ///< part of `bytes`; its elements belong to no tensor
  Maps maps;           ///< inside the border, where there is one
  int first_use = -1;  ///< groups, in order of execution
  int last_use = -1;
};

/// Strides and offset in elements of the storage.
struct Value {
  int storage = -1;
  int64_t offset = 0;
  Dims strides;
  bool operator==(const Value &) const = default;
};

constexpr int kWorkspaceSegment = 1;
constexpr int kFirstBindingSegment = 2;

/// Inputs that outputs update in place, by output.
using Updates = std::map<TensorId, TensorId>;

class Layout {
 public:
  /// element: device type of FP32 tensors that are not bound. An output of `updates` lies where its input lies.
  Layout(const Graph &graph, const std::vector<Group> &groups, Dtype element, const Updates &updates = {});

  bool has_memory(TensorId id) const { return values_.at(static_cast<std::size_t>(id)).has_value(); }
  const Value &value(TensorId id) const { return values_.at(static_cast<std::size_t>(id)).value(); }
  const Storage &storage(TensorId id) const { return storages_[static_cast<std::size_t>(value(id).storage)]; }
  Dtype dtype(TensorId id) const { return storage(id).dtype; }
  /// How the tensor's dimensions nest in memory, outermost first.
  std::vector<int> order(TensorId id) const;

  /// The whole tensor, or a box of it.
  MemView view(TensorId id) const;
  MemView view(TensorId id, const Box &box) const;
  MemView view(const Value &value, const Dims &dims) const;

  std::vector<Storage> &storages() { return storages_; }
  const std::vector<Storage> &storages() const { return storages_; }

  /// Bytes of a storage with a border around its maps; 0 if its tensors are not all whole maps that nest channels last.
  int64_t bytes_with(std::size_t storage, const Border &border) const;
  /// Moves a storage's tensors apart for the border. bytes_with() must have allowed it.
  void add_border(std::size_t storage, const Border &border);

  /// Gives all tensors of a storage the same places in another one.
  void move(std::size_t from, std::size_t to);

  /// Row-major memory between the two copies of a Reshape that neither side can view as the other; empty for other
  /// nodes.
  std::optional<Value> scratch(int node) const;

 private:
  std::optional<Maps> maps_of(std::size_t storage) const;

  struct Placement {
    TensorId parent = kNoTensor;  ///< the tensor is part of, or another view of, this one
    int node = -1;                ///< by way of this node
  };

  void place_backwards();
  void resolve_placements();
  bool can_be_placed(TensorId id) const;
  Value resolve(TensorId id);
  std::optional<Value> inside_parent(TensorId id);
  Value new_storage(TensorId id);
  std::vector<int> preferred_order(TensorId id);
  std::vector<int> compute_preferred_order(TensorId id);
  /// How a product nests that is only transposed and then reshaped, so that both are views.
  std::optional<std::vector<int>> transposed_order(TensorId id) const;
  bool only_reshaped(TensorId id, const std::vector<int> &order) const;
  Dtype storage_dtype(TensorId id) const;
  void note_uses(const std::vector<Group> &groups);
  void add_scratch(int node, int group);

  const Graph &graph_;
  Dtype element_;
  std::vector<int> producer_;
  std::vector<std::vector<int>> users_;  ///< nodes, by tensor
  std::vector<Placement> placements_;
  std::vector<std::optional<Value>> values_;
  std::vector<std::optional<std::vector<int>>> preferred_;
  std::vector<Storage> storages_;
  std::map<int, Value> scratch_;  // by node
};

/// The input of a view-like node (Transpose, Reshape, Slice, Expand, Copy) seen as its output; empty if memory does not
/// allow it.
std::optional<Value> view_through(const Graph &graph, const Node &node, const Value &input);

/// Device type of a tensor that the host binds; Bool is UINT8 with 0 and 1.
Dtype bound_dtype(Type type, const std::string &tensor);

}  // namespace cx::compiler::backend
