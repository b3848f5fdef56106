#include "driver/compiler/frontend/builder.hpp"

#include <algorithm>
#include <numeric>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/evaluate.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {

void FoldBudget::charge(double operations_used, int64_t bytes_used) {
  operations -= operations_used;
  bytes -= bytes_used;
  if (operations < 0 || bytes < 0) {
    throw UnsupportedError("constant folding",
                           "constant expressions of this model are too large to evaluate on the host");
  }
}

TensorId Builder::emit(const std::string &op, std::vector<TensorId> inputs, Attributes attributes, const Shape *shape) {
  Node node{origin_, op, std::move(inputs), {}, std::move(attributes)};
  std::vector<const Tensor *> operands;
  bool all_constant = true;
  for (TensorId id : node.inputs) {
    operands.push_back(id == kNoTensor ? nullptr : &graph_[id]);
    all_constant = all_constant && (id == kNoTensor || graph_[id].is_constant());
  }
  TensorType result = infer(node, operands, shape);
  const int64_t count = elements(result.shape);
  if (count == 0) {
    return graph_.add(Tensor{origin_, result.type, std::move(result.shape), std::vector<std::byte>()});
  }
  if (all_constant && op != "Copy") {
    budget_.charge(evaluation_cost(node, operands, result.shape), count * static_cast<int64_t>(bytes_of(result.type)));
    Tensor value = evaluate(node, operands, result.type, result.shape);
    value.name = origin_;
    return graph_.add(std::move(value));
  }
  const TensorId output = graph_.add(Tensor{origin_, result.type, std::move(result.shape), std::nullopt});
  node.outputs = {output};
  graph_.nodes.push_back(std::move(node));
  return output;
}

std::vector<std::string> Builder::sources(TensorId id) const {
  std::vector<bool> needed(graph_.tensors.size(), false);
  needed[static_cast<std::size_t>(id)] = true;
  for (auto node = graph_.nodes.rbegin(); node != graph_.nodes.rend(); ++node) {
    if (!needed[static_cast<std::size_t>(node->outputs[0])]) continue;
    for (TensorId input : node->inputs) {
      if (input != kNoTensor) needed[static_cast<std::size_t>(input)] = true;
    }
  }
  std::vector<std::string> names;
  for (TensorId input : graph_.inputs) {
    if (needed[static_cast<std::size_t>(input)]) names.push_back(graph_[input].name);
  }
  return names;
}

TensorId Builder::stored(Tensor tensor) {
  if (tensor.name.empty()) tensor.name = origin_;
  return graph_.add(std::move(tensor));
}

TensorId Builder::constant(Tensor tensor) {
  budget_.charge(0, static_cast<int64_t>(tensor.data->size()));
  return stored(std::move(tensor));
}

TensorId Builder::scalar(Type type, double value) {
  return constant(make_constant("", type, {}, std::vector<double>{value}));
}

TensorId Builder::integers(const std::vector<int64_t> &values) {
  return constant(make_constant("", Type::I64, {static_cast<int64_t>(values.size())}, values));
}

void Builder::check_table(int64_t entries) {
  if (entries > (1 << 24)) {
    throw UnsupportedError("table", "a table of " + std::to_string(entries) + " entries; 2^24 are supported");
  }
}

TensorId Builder::counting(int64_t length) {
  budget_.charge(0, length * 8);
  std::vector<int64_t> values(static_cast<std::size_t>(length));
  std::iota(values.begin(), values.end(), 0);
  return stored(make_constant("", Type::I64, {length}, values));
}

TensorId Builder::unary(const std::string &func, TensorId x, float alpha, float beta) {
  return emit("Unary", {x}, {{"func", func}, {"alpha", alpha}, {"beta", beta}});
}

TensorId Builder::binary(const std::string &func, TensorId a, TensorId b) {
  return emit("Binary", {a, b}, {{"func", func}});
}

TensorId Builder::reduce(const std::string &kind, TensorId x, std::vector<int64_t> axes) {
  std::sort(axes.begin(), axes.end());
  return emit("Reduce", {x}, {{"kind", kind}, {"axes", std::move(axes)}, {"keepdims", int64_t{1}}});
}

TensorId Builder::reshape(TensorId x, const Shape &target) {
  if (target == shape(x)) return x;
  return emit("Reshape", {x}, {}, &target);
}

TensorId Builder::transpose(TensorId x, const std::vector<int64_t> &perm) {
  if (std::is_sorted(perm.begin(), perm.end()) && perm.size() == shape(x).size()) return x;
  const TensorId y = emit("Transpose", {x}, {{"perm", perm}});
  // Stored weights are often transposed after they were dequantised.
  if (auto found = dequantised.find(x); found != dequantised.end() && is_constant(found->second.x)) {
    Dequantised turned = found->second;
    turned.x = transpose(turned.x, perm);
    if (turned.axis >= 0) turned.axis = std::find(perm.begin(), perm.end(), turned.axis) - perm.begin();
    dequantised[y] = turned;
  }
  return y;
}

TensorId Builder::concat(const std::vector<TensorId> &parts, int64_t axis) {
  if (parts.size() == 1) return parts[0];
  return emit("Concat", parts, {{"axis", axis}});
}

TensorId Builder::gather(TensorId x, int64_t axis, std::vector<int64_t> indices) {
  return emit("Gather", {x}, {{"axis", axis}, {"indices", std::move(indices)}});
}

TensorId Builder::expand(TensorId x, const Shape &target) {
  const Shape own = shape(x);
  Shape padded(target.size() - std::min(target.size(), own.size()), 1);
  padded.insert(padded.end(), own.begin(), own.end());
  const TensorId view = reshape(x, padded);
  if (padded == target) return view;
  return emit("Expand", {view}, {}, &target);
}

TensorId Builder::pad(TensorId x, const std::vector<int64_t> &pads, float value) {
  const std::size_t rank = shape(x).size();
  if (pads.size() != 2 * rank) {
    throw InputError("pads " + to_text(pads) + " must have two entries per dimension of " + to_text(shape(x)));
  }
  std::vector<int64_t> starts(rank, 0);
  std::vector<int64_t> grow(2 * rank, 0);
  Shape cropped = shape(x);
  for (std::size_t d = 0; d < rank; ++d) {
    for (int64_t amount : {pads[d], pads[rank + d]}) {
      if (amount < -kMaxElements || amount > kMaxElements) throw InputError("pads holds " + std::to_string(amount));
    }
    starts[d] = std::max<int64_t>(-pads[d], 0);
    cropped[d] -= starts[d] + std::max<int64_t>(-pads[rank + d], 0);
    if (cropped[d] < 0) throw InputError("pads " + to_text(pads) + " crop more than " + to_text(shape(x)) + " holds");
    grow[d] = std::max<int64_t>(pads[d], 0);
    grow[rank + d] = std::max<int64_t>(pads[rank + d], 0);
  }
  const TensorId kept = slice(x, starts, std::vector<int64_t>(rank, 1), cropped);
  if (std::all_of(grow.begin(), grow.end(), [](int64_t amount) { return amount == 0; })) return kept;
  if (elements(cropped) == 0) {
    Shape full = cropped;
    for (std::size_t d = 0; d < rank; ++d) full[d] += grow[d] + grow[rank + d];
    return expand(scalar((*this)[x].type, value), full);
  }
  return emit("Pad", {kept}, {{"pads", grow}, {"value", value}});
}

TensorId Builder::slice(TensorId x, const std::vector<int64_t> &starts, const std::vector<int64_t> &steps,
                        const Shape &target) {
  const bool whole = target == shape(x) &&
                     std::all_of(steps.begin(), steps.end(), [](int64_t step) { return step == 1; }) &&
                     std::all_of(starts.begin(), starts.end(), [](int64_t start) { return start == 0; });
  if (whole) return x;
  return emit("Slice", {x}, {{"starts", starts}, {"steps", steps}}, &target);
}

TensorId Builder::slice_axis(TensorId x, int64_t axis, int64_t start, int64_t length) {
  std::vector<int64_t> starts(shape(x).size(), 0);
  starts[static_cast<std::size_t>(axis)] = start;
  Shape target = shape(x);
  target[static_cast<std::size_t>(axis)] = length;
  return slice(x, starts, std::vector<int64_t>(starts.size(), 1), target);
}

TensorId Builder::cast(TensorId x, Type to) {
  if ((*this)[x].type == to) return x;
  return emit("Cast", {x}, {{"to", std::string(name_of(to))}});
}

TensorId Builder::compare(const std::string &func, TensorId a, TensorId b) {
  if (func == "gt") return binary("lt", b, a);
  if (func == "ge") return binary("le", b, a);
  return binary(func, a, b);
}

TensorId Builder::select(TensorId condition, TensorId a, TensorId b) { return emit("Select", {condition, a, b}); }

TensorId Builder::take_along(TensorId x, TensorId indices, int64_t axis) {
  return emit("TakeAlong", {x, indices}, {{"axis", axis}});
}

TensorId Builder::scatter_along(TensorId x, TensorId indices, TensorId updates, int64_t axis, const std::string &func) {
  return emit("ScatterAlong", {x, indices, updates}, {{"axis", axis}, {"func", func}});
}

TensorId Builder::cumulative_sum(TensorId x, int64_t axis, bool exclusive, bool reverse) {
  return emit(
      "Scan", {x},
      {{"kind", std::string("sum")}, {"axis", axis}, {"exclusive", int64_t{exclusive}}, {"reverse", int64_t{reverse}}});
}

TensorId Builder::arg_reduce(const std::string &kind, TensorId x, int64_t axis, bool last) {
  return emit("ArgReduce", {x}, {{"kind", kind}, {"axis", axis}, {"last", int64_t{last}}});
}

TensorId Builder::top_k(TensorId x, int64_t axis, int64_t k, bool largest) {
  return emit("TopK", {x}, {{"axis", axis}, {"k", k}, {"largest", int64_t{largest}}});
}

}  // namespace cx::compiler
