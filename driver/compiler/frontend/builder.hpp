// Emits canonical nodes into a graph; folds those whose operands are all constant at once.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"

namespace cx::compiler {

using Attributes = std::map<std::string, Attribute>;

/// What folding may cost in total, so that a hostile model cannot exhaust the host.
struct FoldBudget {
  double operations = 4e9;
  int64_t bytes = int64_t{1} << 30;

  /// Throws UnsupportedError when the budget is used up.
  void charge(double operations_used, int64_t bytes_used);
};

/// (x - zero_point) * scale, of which a tensor of floats is made.
struct Dequantised {
  TensorId x = kNoTensor;           ///< integers
  TensorId scale = kNoTensor;       ///< one element, or a list along `axis`
  TensorId zero_point = kNoTensor;  ///< like scale, of x's type; kNoTensor for 0
  int64_t axis = -1;                ///< -1: the whole tensor has one scale
};

/// What a tensor of integers is the saturated conversion of: whole numbers plus a zero point, both floats.
struct Rounded {
  TensorId value = kNoTensor;
  TensorId zero_point = kNoTensor;
};

class Builder {
 public:
  explicit Builder(Graph &graph) : graph_(graph) {}

  /// Name given to nodes emitted from now on, see Node::name.
  void set_origin(std::string name) { origin_ = std::move(name); }

  Graph &graph() { return graph_; }
  const Tensor &operator[](TensorId id) const { return graph_[id]; }
  /// By value: emitting a node may move the graph's tensors.
  Shape shape(TensorId id) const { return graph_[id].shape; }
  int64_t rank(TensorId id) const { return static_cast<int64_t>(graph_[id].shape.size()); }
  bool is_constant(TensorId id) const { return graph_[id].is_constant(); }
  /// Names of the graph inputs that a tensor follows from, in the graph's order.
  std::vector<std::string> sources(TensorId id) const;

  /// Emits one node and returns its output. `shape` is the output's shape for Reshape, Slice and Expand.
  /// Throws InputError for operands that do not fit, UnsupportedError for what only constants may do.
  TensorId emit(const std::string &op, std::vector<TensorId> inputs, Attributes attributes = {},
                const Shape *shape = nullptr);

  /// A constant that the compiler works out; it counts against the budget.
  TensorId constant(Tensor tensor);
  /// A constant whose elements are in the model's file.
  TensorId stored(Tensor tensor);
  TensorId scalar(Type type, double value);
  TensorId integers(const std::vector<int64_t> &values);
  /// Throws UnsupportedError when a table that a lowering is about to work out has more than 2^24 entries.
  static void check_table(int64_t entries);
  TensorId counting(int64_t length);  ///< 0, 1, ..., length - 1

  TensorId unary(const std::string &func, TensorId x, float alpha = 0, float beta = 0);
  TensorId binary(const std::string &func, TensorId a, TensorId b);
  /// The second operand is a scalar constant of a's type.
  TensorId binary(const std::string &func, TensorId a, double b) { return binary(func, a, scalar((*this)[a].type, b)); }
  TensorId reduce(const std::string &kind, TensorId x, std::vector<int64_t> axes);
  TensorId reshape(TensorId x, const Shape &shape);
  TensorId transpose(TensorId x, const std::vector<int64_t> &perm);
  TensorId concat(const std::vector<TensorId> &parts, int64_t axis);
  TensorId gather(TensorId x, int64_t axis, std::vector<int64_t> indices);
  TensorId expand(TensorId x, const Shape &shape);  ///< NumPy broadcasting to `shape`, which may have a higher rank
  TensorId pad(TensorId x, const std::vector<int64_t> &pads, float value);  ///< negative pads crop
  TensorId slice(TensorId x, const std::vector<int64_t> &starts, const std::vector<int64_t> &steps, const Shape &shape);
  /// Elements [start, start + length) of one axis.
  TensorId slice_axis(TensorId x, int64_t axis, int64_t start, int64_t length);
  TensorId cast(TensorId x, Type to);
  TensorId compare(const std::string &func, TensorId a, TensorId b);  ///< eq ne lt le gt ge; the result is Bool
  TensorId select(TensorId condition, TensorId a, TensorId b);        ///< condition ? a : b, broadcasting all three
  TensorId take_along(TensorId x, TensorId indices, int64_t axis);
  /// func: set add mul max min
  TensorId scatter_along(TensorId x, TensorId indices, TensorId updates, int64_t axis, const std::string &func = "set");
  TensorId cumulative_sum(TensorId x, int64_t axis, bool exclusive, bool reverse);
  TensorId arg_reduce(const std::string &kind, TensorId x, int64_t axis, bool last);  ///< kind: max min; keeps the axis
  TensorId top_k(TensorId x, int64_t axis, int64_t k, bool largest);                  ///< indices, I64

  /// How tensors were made, for products that go back to the integers.
  std::map<TensorId, Dequantised> dequantised;
  std::map<TensorId, Rounded> rounded;

 private:
  Graph &graph_;
  std::string origin_;
  FoldBudget budget_;
};

}  // namespace cx::compiler
