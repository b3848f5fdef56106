// Subgraphs, functions, sequences and optionals: all of it is resolved while importing.
#include <algorithm>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/importer.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

// Iterations of all loops together; what they unroll to must fit into a program.
constexpr int64_t kMostIterations = int64_t{1} << 16;
constexpr std::size_t kMostNodes = std::size_t{1} << 18;

using Values = std::vector<Value>;
using Integers = std::vector<int64_t>;

std::size_t index_of(int64_t value) { return static_cast<std::size_t>(value); }

Values one(TensorId id) { return {Value::of(id)}; }

// Replaces references to a function's attributes by those of the node that calls it.
void substitute(onnx::NodeProto &node, const onnx::NodeProto &call) {
  auto *attributes = node.mutable_attribute();
  for (int i = attributes->size(); i-- > 0;) {
    onnx::AttributeProto &attribute = *attributes->Mutable(i);
    if (attribute.has_g()) {
      for (auto &inner : *attribute.mutable_g()->mutable_node()) substitute(inner, call);
    }
    if (attribute.ref_attr_name().empty()) continue;
    const std::string name = attribute.name();
    const onnx::AttributeProto *given = nullptr;
    for (const auto &candidate : call.attribute()) {
      if (candidate.name() == attribute.ref_attr_name()) given = &candidate;
    }
    if (given == nullptr) {
      attributes->DeleteSubrange(i, 1);
      continue;
    }
    attribute = *given;
    attribute.set_name(name);
  }
}

}  // namespace

const Value &Importer::ControlNode::input(std::size_t index) const {
  if (index >= inputs.size()) throw InputError("input " + std::to_string(index) + " is missing");
  return inputs[index];
}

TensorId Importer::ControlNode::tensor(std::size_t index) const {
  const Value &value = input(index);
  if (value.is_sequence) throw InputError("input " + std::to_string(index) + " is a sequence, expected a tensor");
  if (value.is_nothing()) throw InputError("input " + std::to_string(index) + " is missing");
  return value.tensor;
}

const std::vector<TensorId> &Importer::ControlNode::sequence(std::size_t index) const {
  if (!input(index).is_sequence) throw InputError("input " + std::to_string(index) + " must be a sequence");
  return inputs[index].items;
}

const std::map<std::string, Importer::ControlLowering> &Importer::control_lowerings() {
  static const std::map<std::string, ControlLowering> table = {{"Identity", &Importer::identity},
                                                               {"If", &Importer::if_else},
                                                               {"Loop", &Importer::loop},
                                                               {"Scan", &Importer::scan},
                                                               {"SequenceConstruct", &Importer::sequence_construct},
                                                               {"SequenceEmpty", &Importer::sequence_empty},
                                                               {"SequenceInsert", &Importer::sequence_insert},
                                                               {"SequenceErase", &Importer::sequence_erase},
                                                               {"SequenceAt", &Importer::sequence_at},
                                                               {"SequenceLength", &Importer::sequence_length},
                                                               {"SequenceMap", &Importer::sequence_map},
                                                               {"SplitToSequence", &Importer::split_to_sequence},
                                                               {"ConcatFromSequence", &Importer::concat_from_sequence},
                                                               {"Optional", &Importer::optional},
                                                               {"OptionalGetElement", &Importer::optional_get_element},
                                                               {"OptionalHasElement", &Importer::optional_has_element}};
  return table;
}

const onnx::FunctionProto *Importer::function_of(const onnx::NodeProto &node) const {
  for (const auto &function : model_.functions()) {
    const bool same_domain =
        function.domain() == node.domain() || (default_domain(function.domain()) && default_domain(node.domain()));
    if (same_domain && function.name() == node.op_type()) return &function;
  }
  return nullptr;
}

Values Importer::lower_function(const onnx::FunctionProto &function, const onnx::NodeProto &node, const Values &inputs,
                                const Scope &scope) {
  Scope inner;
  inner.depth = scope.depth + 1;
  inner.opset = scope.opset;
  for (const auto &entry : function.opset_import()) {
    if (!default_domain(entry.domain())) continue;
    check_opset(entry.version());
    inner.opset = static_cast<int>(entry.version());
  }
  count_iteration();
  for (int i = 0; i < function.input_size(); ++i) {
    define(inner, function.input(i), index_of(i) < inputs.size() ? inputs[index_of(i)] : Value{}, "function input");
  }
  Nodes nodes = function.node();
  for (auto &inner_node : nodes) substitute(inner_node, node);
  const std::vector<std::string> names(function.output().begin(), function.output().end());
  lower_body({nodes, names}, inner);
  Values outputs;
  for (const std::string &name : names) {
    const Value *value = inner.find(name);
    if (value == nullptr) throw InputError("function output " + in_quotes(name) + " is never computed");
    outputs.push_back(*value);
  }
  return outputs;
}

const onnx::GraphProto &Importer::subgraph(const ControlNode &node, const std::string &name) const {
  const onnx::AttributeProto *attribute = node.n.attribute(name);
  if (attribute == nullptr || !attribute->has_g()) throw InputError("attribute '" + name + "' must be a graph");
  return attribute->g();
}

void Importer::count_iteration() {
  if (++iterations_ > kMostIterations || graph_.nodes.size() > kMostNodes) {
    throw UnsupportedError("Loop", "loops of this model unroll to more than " + std::to_string(kMostIterations) +
                                       " iterations or " + std::to_string(kMostNodes) + " nodes");
  }
}

Values Importer::run_graph(const onnx::GraphProto &graph, const Values &inputs, const Scope &outer) {
  count_iteration();
  Scope scope;
  scope.outer = &outer;
  scope.opset = outer.opset;
  scope.depth = outer.depth + 1;
  if (graph.input_size() != static_cast<int>(inputs.size())) {
    throw InputError("the body has " + std::to_string(graph.input_size()) + " inputs, expected " +
                     std::to_string(inputs.size()));
  }
  for (int i = 0; i < graph.input_size(); ++i) define(scope, graph.input(i).name(), inputs[index_of(i)], "body input");
  read_initializers(scope, graph);
  std::vector<std::string> names;
  for (const auto &output : graph.output()) names.push_back(output.name());
  lower_body({graph.node(), names}, scope);
  Values outputs;
  for (const std::string &name : names) {
    const Value *value = scope.find(name);
    if (value == nullptr) throw InputError("body output " + in_quotes(name) + " is never computed");
    outputs.push_back(*value);
  }
  return outputs;
}

// condition ? a : b for a condition of one element that is known only at run time.
Value Importer::choose(TensorId condition, const Value &a, const Value &b) {
  auto refuse = [&](const std::string &what) {
    throw ValueNeededError("If", what + " by a condition that must be known at compile time",
                           builder_.sources(condition));
  };
  if (a.is_sequence != b.is_sequence || a.items.size() != b.items.size() || a.is_nothing() != b.is_nothing()) {
    refuse("different sequences or optionals");
  }
  auto pick = [&](TensorId x, TensorId y) {
    if (x == y) return x;
    const Tensor &tx = graph_[x];
    const Tensor &ty = graph_[y];
    if (tx.type != ty.type || tx.shape != ty.shape) {
      refuse(std::string(name_of(tx.type)) + to_text(tx.shape) + " or " + name_of(ty.type) + to_text(ty.shape));
    }
    if (elements(tx.shape) == 0) return x;
    return builder_.select(builder_.reshape(condition, Shape(tx.shape.size(), 1)), x, y);
  };
  if (!a.is_sequence) return a.is_nothing() ? a : Value::of(pick(a.tensor, b.tensor));
  std::vector<TensorId> items;
  for (std::size_t i = 0; i < a.items.size(); ++i) items.push_back(pick(a.items[i], b.items[i]));
  return Value::sequence(std::move(items));
}

Values Importer::identity(ControlNode &node) { return {node.input(0)}; }

Values Importer::if_else(ControlNode &node) {
  const TensorId condition = node.tensor(0);
  const Tensor &tensor = graph_[condition];
  if (tensor.type != Type::Bool || elements(tensor.shape) != 1) {
    throw InputError("the condition is " + std::string(name_of(tensor.type)) + to_text(tensor.shape) +
                     ", expected one bool");
  }
  const onnx::GraphProto &then_graph = subgraph(node, "then_branch");
  const onnx::GraphProto &else_graph = subgraph(node, "else_branch");
  if (tensor.is_constant()) {
    return run_graph(to_integers(tensor)[0] != 0 ? then_graph : else_graph, {}, node.scope);
  }
  const Values a = run_graph(then_graph, {}, node.scope);
  const Values b = run_graph(else_graph, {}, node.scope);
  if (a.size() != b.size()) throw InputError("the branches have different numbers of outputs");
  Values outputs;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool used = node.n.output_used(i);
    outputs.push_back(used ? choose(condition, a[i], b[i]) : a[i]);
  }
  return outputs;
}

// Unrolled. A condition that is known only at run time makes each iteration keep the old values once it is false.
Values Importer::loop(ControlNode &node) {
  const onnx::GraphProto &body = subgraph(node, "body");
  int64_t trips = kMostIterations + 1;
  if (node.has(0)) {
    const Tensor &given = node.n.constant_input(0, "trip count");
    if (elements(given.shape) != 1) throw InputError("the trip count must be a scalar");
    trips = to_integers(given)[0];
  }
  TensorId condition = node.has(1) ? node.tensor(1) : builder_.scalar(Type::Bool, 1);
  const std::size_t carried_count = node.inputs.size() < 2 ? 0 : node.inputs.size() - 2;
  Values carried(node.inputs.begin() + static_cast<long>(node.inputs.size() - carried_count), node.inputs.end());
  if (body.output_size() < static_cast<int>(1 + carried_count)) {
    throw InputError("the body has fewer outputs than the loop carries values");
  }
  const std::size_t scan_count = index_of(body.output_size()) - 1 - carried_count;
  std::vector<std::vector<TensorId>> scanned(scan_count);
  for (int64_t trip = 0; trip < trips; ++trip) {
    const bool known = builder_.is_constant(condition);
    if (known && to_integers(graph_[condition]).at(0) == 0) break;
    if (!known && (!node.has(0) || scan_count > 0)) {
      // The number of iterations decides shapes.
      node.n.constant_input(1, "condition");
      std::vector<std::string> sources = builder_.sources(condition);
      throw ValueNeededError("Loop", "the condition must be known at compile time", std::move(sources));
    }
    Values inputs = {Value::of(builder_.constant(make_constant("", Type::I64, {}, Integers{trip}))),
                     Value::of(condition)};
    inputs.insert(inputs.end(), carried.begin(), carried.end());
    const Values outputs = run_graph(body, inputs, node.scope);
    for (std::size_t i = 0; i < carried_count; ++i) {
      carried[i] = known ? outputs[1 + i] : choose(condition, outputs[1 + i], carried[i]);
    }
    for (std::size_t i = 0; i < scan_count; ++i) {
      const Value &value = outputs[1 + carried_count + i];
      if (value.tensor == kNoTensor) throw InputError("the body's output to be stacked is no tensor");
      Shape shape = builder_.shape(value.tensor);
      shape.insert(shape.begin(), 1);
      scanned[i].push_back(builder_.reshape(value.tensor, shape));
    }
    if (outputs[0].tensor == kNoTensor || graph_[outputs[0].tensor].type != Type::Bool) {
      throw InputError("the body's condition is no bool");
    }
    const TensorId next = builder_.reshape(outputs[0].tensor, builder_.shape(condition));
    condition = known ? next : builder_.binary("and", condition, next);
  }
  Values outputs = carried;
  for (std::size_t i = 0; i < scan_count; ++i) {
    if (!scanned[i].empty()) {
      outputs.push_back(Value::of(builder_.concat(scanned[i], 0)));
      continue;
    }
    const InputInfo info = input_info(body.output(static_cast<int>(1 + carried_count + i)));
    Shape shape = {0};
    for (const Dimension &dimension : info.shape) shape.push_back(std::max<int64_t>(dimension.value, 0));
    outputs.push_back(Value::of(builder_.constant(Tensor{"", info.type, shape, std::vector<std::byte>()})));
  }
  return outputs;
}

Values Importer::scan_once(ControlNode &node, const Values &inputs, std::size_t scanned) {
  Builder &b = builder_;
  const onnx::GraphProto &body = subgraph(node, "body");
  const std::size_t states = inputs.size() - scanned;
  if (index_of(body.output_size()) < states) throw InputError("the body has fewer outputs than states");
  const std::size_t results = index_of(body.output_size()) - states;
  const bool old = node.n.opset < 9;
  auto checked = [](Integers values, std::size_t count, const char *name) {
    if (values.empty()) values.assign(count, 0);
    if (values.size() != count) throw InputError(std::string("attribute '") + name + "' has a wrong length");
    return values;
  };
  const Integers in_axes = checked(old ? Integers{} : node.n.integers("scan_input_axes"), scanned, "scan_input_axes");
  const Integers out_axes = checked(node.n.integers("scan_output_axes"), results, "scan_output_axes");
  const Integers backward =
      checked(node.n.integers(old ? "directions" : "scan_input_directions"), scanned, "scan_input_directions");
  const Integers out_backward = checked(node.n.integers("scan_output_directions"), results, "scan_output_directions");

  int64_t length = -1;
  Integers axes;
  for (std::size_t i = 0; i < scanned; ++i) {
    if (inputs[states + i].tensor == kNoTensor) throw InputError("an input to be scanned is no tensor");
    const Shape shape = b.shape(inputs[states + i].tensor);
    axes.push_back(NodeContext::axis(in_axes[i], static_cast<int64_t>(shape.size())));
    if (length >= 0 && shape[index_of(axes[i])] != length)
      throw InputError("the scanned inputs have different lengths");
    length = shape[index_of(axes[i])];
  }
  Values state(inputs.begin(), inputs.begin() + static_cast<long>(states));
  std::vector<std::vector<TensorId>> stacked(results);
  for (int64_t step = 0; step < length; ++step) {
    Values body_inputs = state;
    for (std::size_t i = 0; i < scanned; ++i) {
      const TensorId x = inputs[states + i].tensor;
      const TensorId part = b.slice_axis(x, axes[i], backward[i] != 0 ? length - 1 - step : step, 1);
      Shape shape = b.shape(x);
      shape.erase(shape.begin() + axes[i]);
      body_inputs.push_back(Value::of(b.reshape(part, shape)));
    }
    const Values outputs = run_graph(body, body_inputs, node.scope);
    state.assign(outputs.begin(), outputs.begin() + static_cast<long>(states));
    for (std::size_t i = 0; i < results; ++i) stacked[i].push_back(outputs[states + i].tensor);
  }
  Values outputs = state;
  for (std::size_t i = 0; i < results; ++i) {
    std::vector<TensorId> parts;
    if (stacked[i].empty()) throw UnsupportedError("Scan", "a scan over nothing");
    const int64_t axis = NodeContext::axis(out_axes[i], b.rank(stacked[i][0]) + 1);
    for (TensorId id : stacked[i]) {
      if (id == kNoTensor) throw InputError("the body's output to be stacked is no tensor");
      Shape shape = b.shape(id);
      shape.insert(shape.begin() + std::min<int64_t>(axis, b.rank(id)), 1);
      parts.push_back(b.reshape(id, shape));
    }
    if (out_backward[i] != 0) std::reverse(parts.begin(), parts.end());
    outputs.push_back(Value::of(b.concat(parts, axis)));
  }
  return outputs;
}

// Opset 8: an optional length for each sequence, then a batch dimension before everything.
Values Importer::scan_batches(ControlNode &node) {
  Builder &b = builder_;
  if (node.has(0)) throw UnsupportedError("Scan", "sequences of different lengths");
  const int64_t scanned = node.n.integer("num_scan_inputs", 0);
  const std::size_t count = node.inputs.size() - 1;
  if (scanned < 1 || index_of(scanned) > count) throw InputError("attribute 'num_scan_inputs' is out of range");
  int64_t batches = -1;
  for (std::size_t i = 1; i <= count; ++i) {
    const Shape shape = b.shape(node.tensor(i));
    if (shape.empty() || (batches >= 0 && shape[0] != batches)) throw InputError("the inputs have different batches");
    batches = shape[0];
  }
  std::vector<std::vector<TensorId>> parts;
  for (int64_t batch = 0; batch < batches; ++batch) {
    Values inputs;
    for (std::size_t i = 1; i <= count; ++i) {
      Shape shape = b.shape(node.tensor(i));
      shape.erase(shape.begin());
      inputs.push_back(Value::of(b.reshape(b.slice_axis(node.tensor(i), 0, batch, 1), shape)));
    }
    const Values outputs = scan_once(node, inputs, index_of(scanned));
    parts.resize(outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].tensor == kNoTensor) throw InputError("the body's output is no tensor");
      Shape shape = b.shape(outputs[i].tensor);
      shape.insert(shape.begin(), 1);
      parts[i].push_back(b.reshape(outputs[i].tensor, shape));
    }
  }
  Values outputs;
  for (const auto &list : parts) outputs.push_back(Value::of(b.concat(list, 0)));
  return outputs;
}

Values Importer::scan(ControlNode &node) {
  if (node.n.opset < 9) return scan_batches(node);
  const int64_t scanned = node.n.integer("num_scan_inputs", 0);
  if (scanned < 1 || index_of(scanned) > node.inputs.size()) {
    throw InputError("attribute 'num_scan_inputs' is out of range");
  }
  return scan_once(node, node.inputs, index_of(scanned));
}

Values Importer::sequence_construct(ControlNode &node) {
  std::vector<TensorId> items;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) items.push_back(node.tensor(i));
  return {Value::sequence(std::move(items))};
}

Values Importer::sequence_empty(ControlNode &) { return {Value::sequence({})}; }

namespace {

// A position in a sequence; negative ones count from the end.
std::size_t position(const NodeContext &n, std::size_t input, std::size_t length, std::size_t limit) {
  const Tensor &given = n.constant_input(input, "position");
  if (elements(given.shape) != 1) throw InputError("the position must be a scalar");
  const int64_t index = to_integers(given)[0];
  const int64_t resolved = index < 0 ? index + static_cast<int64_t>(length) : index;
  if (resolved < 0 || resolved >= static_cast<int64_t>(limit)) {
    throw InputError("position " + std::to_string(index) + " is out of range of a sequence of " +
                     std::to_string(length));
  }
  return index_of(resolved);
}

}  // namespace

Values Importer::sequence_insert(ControlNode &node) {
  std::vector<TensorId> items = node.sequence(0);
  const std::size_t at = node.has(2) ? position(node.n, 2, items.size(), items.size() + 1) : items.size();
  items.insert(items.begin() + static_cast<long>(at), node.tensor(1));
  return {Value::sequence(std::move(items))};
}

Values Importer::sequence_erase(ControlNode &node) {
  std::vector<TensorId> items = node.sequence(0);
  if (items.empty()) throw InputError("the sequence is empty");
  const std::size_t at = node.has(1) ? position(node.n, 1, items.size(), items.size()) : items.size() - 1;
  items.erase(items.begin() + static_cast<long>(at));
  return {Value::sequence(std::move(items))};
}

Values Importer::sequence_at(ControlNode &node) {
  const std::vector<TensorId> &items = node.sequence(0);
  return one(items[position(node.n, 1, items.size(), items.size())]);
}

Values Importer::sequence_length(ControlNode &node) {
  const auto length = static_cast<int64_t>(node.sequence(0).size());
  return one(builder_.constant(make_constant("", Type::I64, {}, Integers{length})));
}

Values Importer::sequence_map(ControlNode &node) {
  const onnx::GraphProto &body = subgraph(node, "body");
  const std::size_t length = node.sequence(0).size();
  std::vector<std::vector<TensorId>> results(index_of(body.output_size()));
  for (std::size_t i = 0; i < length; ++i) {
    Values inputs;
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      if (!node.inputs[k].is_sequence) {
        inputs.push_back(node.inputs[k]);
        continue;
      }
      if (node.inputs[k].items.size() != length) throw InputError("the sequences have different lengths");
      inputs.push_back(Value::of(node.inputs[k].items[i]));
    }
    const Values outputs = run_graph(body, inputs, node.scope);
    for (std::size_t k = 0; k < outputs.size(); ++k) {
      if (outputs[k].tensor == kNoTensor) throw InputError("the body's output is no tensor");
      results[k].push_back(outputs[k].tensor);
    }
  }
  Values outputs;
  for (auto &items : results) outputs.push_back(Value::sequence(std::move(items)));
  return outputs;
}

Values Importer::split_to_sequence(ControlNode &node) {
  Builder &b = builder_;
  const TensorId x = node.tensor(0);
  const int64_t axis = NodeContext::axis(node.n.integer("axis", 0), b.rank(x));
  const int64_t size = b.shape(x)[index_of(axis)];
  Integers lengths;
  bool drop_axis = false;
  if (!node.has(1)) {
    lengths.assign(index_of(size), 1);
    drop_axis = node.n.integer("keepdims", 1) == 0;
  } else {
    const Tensor &given = node.n.constant_input(1, "split");
    lengths = to_integers(given);
    if (given.shape.empty()) {
      const int64_t part = lengths[0];
      if (part < 1) throw InputError("split is " + std::to_string(part));
      lengths.clear();
      for (int64_t start = 0; start < size; start += part) lengths.push_back(std::min(part, size - start));
    }
  }
  std::vector<TensorId> items;
  int64_t start = 0;
  for (int64_t length : lengths) {
    if (length < 0 || length > size - start) {
      throw InputError("split " + to_text(lengths) + " does not add up to " + std::to_string(size));
    }
    TensorId part = b.slice_axis(x, axis, length == 0 ? 0 : start, length);
    if (drop_axis) {
      Shape shape = b.shape(part);
      shape.erase(shape.begin() + axis);
      part = b.reshape(part, shape);
    }
    items.push_back(part);
    start += length;
  }
  if (start != size) throw InputError("split " + to_text(lengths) + " does not add up to " + std::to_string(size));
  return {Value::sequence(std::move(items))};
}

Values Importer::concat_from_sequence(ControlNode &node) {
  Builder &b = builder_;
  std::vector<TensorId> items = node.sequence(0);
  if (items.empty()) throw InputError("the sequence is empty");
  if (!node.n.has_attribute("axis")) throw InputError("attribute 'axis' is missing");
  const bool fresh = node.n.integer("new_axis", 0) != 0;
  const int64_t axis = NodeContext::axis(node.n.integer("axis", 0), b.rank(items[0]) + (fresh ? 1 : 0));
  if (fresh) {
    for (TensorId &id : items) {
      Shape shape = b.shape(id);
      shape.insert(shape.begin() + std::min<int64_t>(axis, b.rank(id)), 1);
      id = b.reshape(id, shape);
    }
  }
  return one(b.concat(items, axis));
}

Values Importer::optional(ControlNode &node) { return {node.inputs.empty() ? Value{} : node.inputs[0]}; }

Values Importer::optional_get_element(ControlNode &node) {
  if (node.input(0).is_nothing()) throw InputError("the optional holds nothing");
  return {node.input(0)};
}

Values Importer::optional_has_element(ControlNode &node) {
  return one(builder_.scalar(Type::Bool, node.has(0) ? 1 : 0));
}

}  // namespace cx::compiler
