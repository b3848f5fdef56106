#include "tb/driver/compiler/backend/typed_bench.hpp"

#include <algorithm>

#include "driver/compiler/frontend/elements.hpp"
#include "tb/driver/compiler/backend/typed_reference.hpp"

namespace cx::tb {

using namespace compiler;

Tensor random_tensor(GraphMaker &maker, const std::string &name, Type type, const Shape &shape) {
  const auto count = static_cast<std::size_t>(elements(shape));
  if (type == Type::F32 || type == Type::F16 || type == Type::BF16 || type == Type::F64) {
    std::vector<double> values(count);
    for (double &value : values) value = static_cast<double>(maker.pick(-8, 8)) / 4;
    return make_constant(name, type, shape, values);
  }
  Tensor tensor{name, type, shape, std::vector<std::byte>(count * bytes_of(type))};
  for (std::byte &byte : tensor.data.own()) {
    byte = static_cast<std::byte>(type == Type::Bool ? maker.pick(0, 1) : maker.pick(0, 255));
  }
  return tensor;
}

std::map<TensorId, Tensor> typed_inputs(GraphMaker &maker) {
  std::map<TensorId, Tensor> values;
  for (TensorId id : maker.graph.inputs) {
    const Tensor tensor = maker.graph[id];
    values[id] = random_tensor(maker, tensor.name, tensor.type, tensor.shape);
  }
  return values;
}

Shape typed_shape(GraphMaker &maker, int64_t rank, int64_t most) {
  Shape shape;
  for (int64_t d = 0; d < rank; ++d) shape.push_back(maker.pick(1, most));
  return shape;
}

namespace {

Shape broadcast_shape(const GraphMaker &maker, std::vector<TensorId> ids) {
  Shape result;
  for (TensorId id : ids) {
    Shape shape = maker.shape(id);
    while (shape.size() < result.size()) shape.insert(shape.begin(), 1);
    while (result.size() < shape.size()) result.insert(result.begin(), 1);
    for (std::size_t d = 0; d < shape.size(); ++d) result[d] = std::max(result[d], shape[d]);
  }
  return result;
}

}  // namespace

TensorId typed_binary(GraphMaker &maker, const std::string &func, TensorId a, TensorId b, Type type) {
  return maker.node("Binary", {a, b}, {{"func", func}}, broadcast_shape(maker, {a, b}), type);
}

TensorId typed_select(GraphMaker &maker, TensorId cond, TensorId a, TensorId b) {
  return maker.node("Select", {cond, a, b}, {}, broadcast_shape(maker, {cond, a, b}), maker.graph[a].type);
}

void check_typed(GraphMaker &maker, const std::map<TensorId, Tensor> &inputs, double tolerance) {
  verify(maker.graph);
  const auto expected = evaluate_typed(maker.graph, inputs);
  INFO(to_text(maker.graph));
  for (const Target &target : {tiny_target(), card_target()}) {
    for (Precision precision : {Precision::fp32, Precision::fp16, Precision::bf16}) {
      INFO("tiles " << target.tiles << " precision " << name_of(precision));
      const Comparison result = compare(maker.graph, target, precision, inputs, expected);
      CHECK(result.same_for_all_orders);
      CHECK(result.worst <= tolerance);
    }
  }
}

void check_typed(GraphMaker &maker, double tolerance) { check_typed(maker, typed_inputs(maker), tolerance); }

}  // namespace cx::tb
