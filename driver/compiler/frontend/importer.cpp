#include "driver/compiler/frontend/importer.hpp"

#include <algorithm>
#include <deque>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

// Bodies within bodies; ONNX allows no recursion, so more is a hostile file.
constexpr int kDeepest = 32;

std::string supported_text() {
  std::string text;
  for (const std::string &name : supported_operators()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string shape_text(const std::vector<Dimension> &shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += i == 0 ? "" : ", ";
    text += shape[i].value >= 0 ? std::to_string(shape[i].value)
                                : (shape[i].symbol.empty() ? "?" : printable(shape[i].symbol));
  }
  return text + "]";
}

std::string where(const onnx::NodeProto &node) {
  std::string name = node.name();
  if (name.empty() && node.output_size() > 0) name = node.output(0);
  return "node " + in_quotes(name) + " (" + printable(node.op_type()) + ")";
}

int opset_of(const onnx::ModelProto &model) {
  int64_t version = 0;
  for (const auto &entry : model.opset_import()) {
    if (default_domain(entry.domain())) version = entry.version();
  }
  const auto &nodes = model.graph().node();
  const bool others_only = std::none_of(nodes.begin(), nodes.end(),
                                        [](const onnx::NodeProto &node) { return default_domain(node.domain()); });
  if (version == 0 && others_only && !nodes.empty()) return kNewestOpset;
  if (version == 0) throw InputError("the model does not state the opset of the default domain");
  check_opset(version);
  return static_cast<int>(version);
}

std::vector<std::string> output_names(const onnx::GraphProto &graph) {
  std::vector<std::string> names;
  for (const auto &output : graph.output()) names.push_back(output.name());
  return names;
}

bool stores_floats(Type type) { return is_float(type) && type != Type::F32; }

// Operators that pass elements on as they are, or treat types themselves.
bool keeps_types(const std::string &op) {
  static const std::set<std::string> table = {"Cast",
                                              "CastLike",
                                              "Shape",
                                              "Size",
                                              "Constant",
                                              "ConstantOfShape",
                                              "Reshape",
                                              "Squeeze",
                                              "Unsqueeze",
                                              "Flatten",
                                              "Transpose",
                                              "Concat",
                                              "Slice",
                                              "Split",
                                              "Gather",
                                              "GatherElements",
                                              "GatherND",
                                              "Expand",
                                              "Tile",
                                              "DepthToSpace",
                                              "SpaceToDepth",
                                              "Where",
                                              "Pad",
                                              "Trilu",
                                              "ReverseSequence",
                                              "Compress",
                                              "EyeLike",
                                              "OneHot",
                                              "Dropout",
                                              "CenterCropPad",
                                              "NonZero",
                                              "Unique",
                                              "Range",
                                              "Identity"};
  return table.count(op) != 0;
}

// Operators that fold in any float type: shape arithmetic in FP64 keeps its digits.
bool folds_in_any_type(const std::string &op) {
  static const std::set<std::string> table = {
      "Add",     "Sub",        "Mul",       "Div", "Neg", "Abs",  "Floor",     "Ceil",  "Round",
      "Sqrt",    "Exp",        "Log",       "Max", "Min", "Sum",  "Sign",      "Equal", "Less",
      "Greater", "Reciprocal", "ReduceSum", "Mod", "Pow", "Clip", "ReduceProd"};
  return table.count(op) != 0;
}

}  // namespace

void collect_names(const onnx::NodeProto &node, std::vector<std::string> &names) {
  for (const std::string &name : node.input()) {
    if (!name.empty()) names.push_back(name);
  }
  auto collect_graph = [&names](const onnx::GraphProto &graph) {
    for (const auto &inner : graph.node()) collect_names(inner, names);
    for (const auto &output : graph.output()) names.push_back(output.name());
  };
  for (const auto &attribute : node.attribute()) {
    if (attribute.has_g()) collect_graph(attribute.g());
    for (const auto &graph : attribute.graphs()) collect_graph(graph);
  }
}

std::string in_quotes(const std::string &name) { return "'" + printable(name) + "'"; }

const Value *Importer::Scope::find(const std::string &name) const {
  for (const Scope *scope = this; scope != nullptr; scope = scope->outer) {
    if (auto found = scope->values.find(name); found != scope->values.end()) return &found->second;
  }
  return nullptr;
}

Importer::Importer(const onnx::ModelProto &model, Initializers &initializers, std::filesystem::path folder,
                   const ImportOptions &options)
    : model_(model),
      initializers_(initializers),
      proto_(model.graph()),
      folder_(std::move(folder)),
      options_(options),
      builder_(graph_) {
  scope_.opset = opset_of(model);
}

Graph Importer::run() {
  graph_.name = printable(proto_.name());
  if (is_part()) collect_part();
  read_initializers(scope_, proto_);
  bind_inputs();
  lower_body({proto_.node(), is_part() ? options_.wanted : output_names(proto_)}, scope_);
  make_outputs();
  return std::move(graph_);
}

// The names that the wanted tensors follow from, as far as those that are given.
void Importer::collect_part() {
  std::map<std::string, const onnx::NodeProto *> producers;
  for (const auto &node : proto_.node()) {
    for (const std::string &name : node.output()) producers.emplace(name, &node);
  }
  std::vector<std::string> pending = options_.wanted;
  while (!pending.empty()) {
    const std::string name = pending.back();
    pending.pop_back();
    if (!part_.insert(name).second || options_.given.count(name) != 0) continue;
    if (const auto producer = producers.find(name); producer != producers.end()) {
      collect_names(*producer->second, pending);
    }
  }
}

void Importer::define(Scope &scope, const std::string &name, const Value &value, const std::string &location) {
  if (name.empty()) throw InputError(location + " has no name");
  if (!scope.values.emplace(name, value).second) {
    throw InputError(location + ": tensor " + in_quotes(name) + " is defined twice");
  }
}

void Importer::read_initializers(Scope &scope, const onnx::GraphProto &graph) {
  if (graph.sparse_initializer_size() != 0)
    throw UnsupportedError("sparse initializer", "sparse initializers are not supported");
  const bool is_main = &graph == &proto_;
  for (int i = 0; i < graph.initializer_size(); ++i) {
    const onnx::TensorProto &proto = graph.initializer(i);
    if (is_main && (options_.bound_inputs.count(proto.name()) != 0 || !is_needed(proto.name()))) continue;
    Tensor tensor = is_main ? initializers_.read(i) : read_tensor(proto, folder_);
    define(scope, proto.name(), Value::of(graph_.add(std::move(tensor))), "initializer");
  }
}

// Takes a shape into account that is stated for an input: fixed dimensions must agree, symbols are bound.
void Importer::match(const InputInfo &info, const Shape &given) {
  const std::string what =
      "input " + in_quotes(info.name) + ": shape " + to_text(given) + " does not fit " + shape_text(info.shape);
  elements(given);
  if (!info.has_shape) return;
  if (given.size() != info.shape.size()) throw InputError(what);
  for (std::size_t d = 0; d < given.size(); ++d) {
    const Dimension &dimension = info.shape[d];
    if (dimension.value >= 0 && dimension.value != given[d]) throw InputError(what);
    if (dimension.value >= 0 || dimension.symbol.empty()) continue;
    const auto [entry, fresh] = symbols_.emplace(dimension.symbol, given[d]);
    if (!fresh && entry->second != given[d]) {
      throw InputError(what + ": dimension '" + printable(dimension.symbol) + "' is already " +
                       std::to_string(entry->second));
    }
  }
}

Shape Importer::resolved_shape(const InputInfo &info) const {
  if (auto given = options_.input_shapes.find(info.name); given != options_.input_shapes.end()) return given->second;
  if (!info.has_shape) throw InputError("input " + in_quotes(info.name) + " has no shape; state it");
  Shape shape;
  for (std::size_t d = 0; d < info.shape.size(); ++d) {
    int64_t value = info.shape[d].value;
    if (auto bound = symbols_.find(info.shape[d].symbol); value < 0 && bound != symbols_.end()) value = bound->second;
    if (value < 0) {
      throw InputError("input " + in_quotes(info.name) + " of shape " + shape_text(info.shape) + ": dimension " +
                       std::to_string(d) + " is open; state the input's shape");
    }
    shape.push_back(value);
  }
  return shape;
}

TensorId Importer::add_input(const std::string &name, Type type, const Shape &shape) {
  if (auto bound = options_.bound_inputs.find(name); bound != options_.bound_inputs.end()) {
    if (bound->second.type != type) {
      throw InputError("input " + in_quotes(name) + " is " + name_of(type) + ", the value bound to it is " +
                       name_of(bound->second.type));
    }
    if (!bound->second.is_constant()) throw InputError("input " + in_quotes(name) + " is bound to no value");
    Tensor value = bound->second;
    value.name = name;
    return graph_.add(std::move(value));
  }
  if (elements(shape) > kMaxElements) throw InputError("input " + in_quotes(name) + " is too large");
  Tensor tensor{name, type, shape, std::nullopt};
  if (elements(shape) == 0) tensor.data = std::vector<std::byte>();
  const bool empty = tensor.is_constant();
  const TensorId id = graph_.add(std::move(tensor));
  if (!empty) graph_.inputs.push_back(id);
  return id;
}

void Importer::bind_inputs() {
  std::vector<InputInfo> infos;
  std::set<std::string> names;
  std::set<std::string> items;     // of sequences
  std::set<std::string> unneeded;  // by a part
  for (const auto &proto : proto_.input()) {
    if (!names.insert(proto.name()).second) throw InputError("input " + in_quotes(proto.name()) + " is defined twice");
    if (scope_.values.count(proto.name()) != 0) continue;  // has a default value
    infos.push_back(input_info(proto));
    if (!is_needed(proto.name())) unneeded.insert(proto.name());
    const auto listed = options_.item_shapes.find(proto.name());
    if (listed == options_.item_shapes.end()) continue;
    if (!infos.back().sequence) throw InputError("input " + in_quotes(proto.name()) + " is no sequence");
    for (std::size_t i = 0; i < listed->second.size(); ++i) items.insert(item_name(proto.name(), i));
  }
  auto check_name = [&names](const std::string &name) {
    if (names.count(name) == 0) throw InputError("the model has no input " + in_quotes(name));
  };
  for (const auto &[name, shape] : options_.input_shapes) check_name(name);
  for (const auto &[name, shapes] : options_.item_shapes) check_name(name);
  for (const auto &[name, tensor] : options_.bound_inputs) {
    if (items.count(name) == 0 && options_.given.count(name) == 0) check_name(name);
  }
  for (const InputInfo &info : infos) {
    if (auto bound = options_.bound_inputs.find(info.name); bound != options_.bound_inputs.end()) {
      match(info, bound->second.shape);
    } else if (auto given = options_.input_shapes.find(info.name); given != options_.input_shapes.end()) {
      match(info, given->second);
    }
  }
  for (const auto &[name, tensor] : options_.given) {
    if (is_needed(name)) define(scope_, name, Value::of(add_input(name, tensor.type, tensor.shape)), "given tensor");
  }
  for (const InputInfo &info : infos) {
    if (unneeded.count(info.name) != 0) continue;
    Value value;
    if (info.sequence) {
      const auto given = options_.item_shapes.find(info.name);
      if (given == options_.item_shapes.end() && !info.optional) {
        throw InputError("input " + in_quotes(info.name) + " is a sequence; state the shapes of its tensors");
      }
      if (given != options_.item_shapes.end()) {
        value = Value::sequence({});
        for (std::size_t i = 0; i < given->second.size(); ++i) {
          value.items.push_back(add_input(item_name(info.name, i), info.type, given->second[i]));
        }
      }
    } else if (options_.bound_inputs.count(info.name) != 0) {
      value = Value::of(add_input(info.name, info.type, {}));
    } else if (!info.optional || options_.input_shapes.count(info.name) != 0) {
      value = Value::of(add_input(info.name, info.type, resolved_shape(info)));
    }
    define(scope_, info.name, value, "input");
  }
}

// Nodes that the outputs need, each after the producers of its inputs; in file order otherwise.
std::vector<int> Importer::order(const Body &body, const Scope &scope) const {
  const auto count = static_cast<std::size_t>(body.nodes.size());
  std::map<std::string, int> producers;
  std::vector<std::vector<std::string>> names(count);
  for (int i = 0; i < body.nodes.size(); ++i) {
    const onnx::NodeProto &node = body.nodes.Get(i);
    for (const std::string &name : node.output()) {
      if (name.empty() || (&scope == &scope_ && options_.given.count(name) != 0)) continue;
      if (scope.values.count(name) != 0 || !producers.emplace(name, i).second) {
        throw InputError(where(node) + ": tensor " + in_quotes(name) + " is defined twice");
      }
    }
    collect_names(node, names[static_cast<std::size_t>(i)]);
  }
  std::vector<bool> needed(count, false);
  std::deque<int> pending;
  auto require = [&](const std::string &name) {
    auto producer = producers.find(name);
    if (producer == producers.end() || needed[static_cast<std::size_t>(producer->second)]) return;
    needed[static_cast<std::size_t>(producer->second)] = true;
    pending.push_back(producer->second);
  };
  for (const std::string &name : body.outputs) require(name);
  while (!pending.empty()) {
    const auto index = static_cast<std::size_t>(pending.front());
    pending.pop_front();
    for (const std::string &name : names[index]) require(name);
  }
  std::vector<int> missing(count, 0);
  std::vector<std::vector<int>> consumers(count);
  std::set<int> ready;
  std::size_t total = 0;
  for (int i = 0; i < body.nodes.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (!needed[at]) continue;
    ++total;
    for (const std::string &name : names[at]) {
      if (auto producer = producers.find(name); producer != producers.end()) {
        consumers[static_cast<std::size_t>(producer->second)].push_back(i);
        ++missing[at];
      }
    }
    for (const std::string &name : body.nodes.Get(i).input()) {
      if (!name.empty() && producers.count(name) == 0 && scope.find(name) == nullptr) {
        throw InputError(where(body.nodes.Get(i)) + ": input tensor " + in_quotes(name) + " does not exist");
      }
    }
    if (missing[at] == 0) ready.insert(i);
  }
  std::vector<int> result;
  while (!ready.empty()) {
    const int index = *ready.begin();
    ready.erase(ready.begin());
    result.push_back(index);
    for (int consumer : consumers[static_cast<std::size_t>(index)]) {
      if (--missing[static_cast<std::size_t>(consumer)] == 0) ready.insert(consumer);
    }
  }
  if (result.size() != total) {
    for (int i = 0; i < body.nodes.size(); ++i) {
      if (missing[static_cast<std::size_t>(i)] > 0) {
        throw InputError(where(body.nodes.Get(i)) + ": lies on a cycle or behind one");
      }
    }
  }
  return result;
}

void Importer::lower_body(const Body &body, Scope &scope) {
  if (scope.depth > kDeepest) throw InputError("subgraphs or functions are nested too deeply");
  std::set<std::string> used(body.outputs.begin(), body.outputs.end());
  for (const auto &node : body.nodes) {
    std::vector<std::string> names;
    collect_names(node, names);
    used.insert(names.begin(), names.end());
  }
  const std::vector<int> indices = order(body, scope);
  uint64_t done = 0;
  for (int index : indices) {
    if (options_.observer != nullptr && scope.depth == 0) {
      options_.observer->progress("importing", done++, indices.size());
    }
    const onnx::NodeProto &node = body.nodes.Get(index);
    const std::string prefix = where(node) + ": ";
    // An operator within a body is the one to name.
    auto op_of = [&node](const UnsupportedError &error) {
      const bool nested = std::any_of(node.attribute().begin(), node.attribute().end(),
                                      [](const auto &attribute) { return attribute.has_g(); });
      return nested ? error.op() : node.op_type();
    };
    try {
      lower(node, scope, used);
    } catch (const ValueNeededError &error) {
      throw ValueNeededError(op_of(error), prefix + error.what(), error.inputs(), index);
    } catch (const HostOperatorError &error) {
      if (scope.depth == 0) throw HostOperatorError(error.op(), prefix + error.what(), index);
      throw UnsupportedError(error.op(),
                             prefix + error.what() + ", and the host computes only nodes of the main graph");
    } catch (const UnsupportedError &error) {
      throw UnsupportedError(op_of(error), prefix + error.what());
    } catch (const Error &error) {
      throw InputError(prefix + error.what());
    }
  }
}

TensorId Importer::widened(TensorId id) {
  if (auto found = wide_.find(id); found != wide_.end()) return found->second;
  const Tensor &tensor = graph_[id];
  if (!tensor.is_constant()) return builder_.cast(id, Type::F32);
  Tensor wide = make_constant(tensor.name, Type::F32, tensor.shape, to_doubles(tensor));
  return wide_[id] = graph_.add(std::move(wide));
}

TensorId Importer::narrowed(TensorId id, Type type) {
  const TensorId result = builder_.cast(id, type);
  wide_[result] = id;
  return result;
}

std::vector<Value> Importer::lower_plain(const onnx::NodeProto &node, NodeContext &context,
                                         const std::vector<Value> &inputs) {
  const std::string &op = node.op_type();
  if (auto refused = refusals().find(op); refused != refusals().end()) {
    throw UnsupportedError(op, "the operator is not supported: " + refused->second);
  }
  auto found = lowerings().find(default_domain(node.domain()) ? op : node.domain() + "." + op);
  if (found == lowerings().end()) {
    const std::string domain = default_domain(node.domain()) ? "" : " of domain " + in_quotes(node.domain());
    throw UnsupportedError(op, "the operator" + domain + " is not supported. Supported are: " + supported_text());
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].is_sequence) throw InputError("input " + std::to_string(i) + " is a sequence, expected a tensor");
  }
  std::vector<Value> outputs;
  for (TensorId id : found->second(context)) outputs.push_back(Value::of(id));
  return outputs;
}

void Importer::lower(const onnx::NodeProto &node, Scope &scope, const std::set<std::string> &used) {
  const std::string &op = node.op_type();
  builder_.set_origin(printable(node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name()));
  if (default_domain(node.domain()) && scope.opset < oldest_opset(op)) {
    throw UnsupportedError(op, "the operator's form before opset " + std::to_string(oldest_opset(op)) +
                                   " is not supported; convert the model to a newer opset");
  }
  std::vector<Value> inputs;
  for (const std::string &name : node.input()) inputs.push_back(name.empty() ? Value{} : *scope.find(name));
  std::vector<bool> used_outputs;
  for (const std::string &name : node.output()) used_outputs.push_back(!name.empty() && used.count(name) != 0);

  const auto first_new = static_cast<TensorId>(graph_.tensors.size());
  const onnx::FunctionProto *function = function_of(node);
  const auto control = default_domain(node.domain()) ? control_lowerings().find(op) : control_lowerings().end();
  const bool plain = function == nullptr && control == control_lowerings().end();

  std::vector<TensorId> tensors;
  bool constant = true;
  std::optional<Type> storage;
  for (const Value &value : inputs) {
    tensors.push_back(value.tensor);
    if (value.tensor == kNoTensor) continue;
    constant = constant && builder_.is_constant(value.tensor);
    if (!storage && stores_floats(graph_[value.tensor].type)) storage = graph_[value.tensor].type;
  }
  const bool widens = plain && storage && !keeps_types(op) && !(constant && folds_in_any_type(op));
  if (widens) {
    for (TensorId &id : tensors) {
      if (id != kNoTensor && stores_floats(graph_[id].type)) id = widened(id);
    }
  }

  NodeContext context(builder_, node, scope.opset, std::move(tensors), std::move(used_outputs), folder_);
  std::vector<Value> outputs;
  if (function != nullptr) {
    outputs = lower_function(*function, node, inputs, scope);
  } else if (!plain) {
    ControlNode control_node{context, node, scope, inputs};
    outputs = (this->*control->second)(control_node);
  } else {
    outputs = lower_plain(node, context, inputs);
  }
  for (Value &output : outputs) {
    if (widens && output.tensor != kNoTensor && graph_[output.tensor].type == Type::F32) {
      output = Value::of(narrowed(output.tensor, *storage));
    }
  }
  for (int i = 0; i < node.output_size(); ++i) {
    const std::string &name = node.output(i);
    const auto position = static_cast<std::size_t>(i);
    const bool absent = position >= outputs.size() || (plain && outputs[position].is_nothing());
    if (absent) {
      if (context.output_used(position)) {
        throw UnsupportedError(op, "output " + std::to_string(i) + " is not supported");
      }
      continue;
    }
    if (name.empty()) continue;
    const Value &value = outputs[position];
    if (value.tensor >= first_new) graph_[value.tensor].name = name;
    scope.values.emplace(name, value);
  }
}

void Importer::make_output(const std::string &name, TensorId id) {
  const Tensor &source = graph_[id];
  Node copy{printable(name), "Copy", {id}, {}, {}};
  copy.outputs = {graph_.add(Tensor{name, source.type, source.shape, std::nullopt})};
  graph_.outputs.push_back(copy.outputs[0]);
  graph_.nodes.push_back(std::move(copy));
}

void Importer::make_outputs() {
  if (proto_.output_size() == 0) throw InputError("the graph has no outputs");
  std::set<std::string> names;
  for (const std::string &name : is_part() ? options_.wanted : output_names(proto_)) {
    const Value *value = scope_.find(name);
    if (value == nullptr) throw InputError("graph output " + in_quotes(name) + " is never computed");
    if (!names.insert(name).second) throw InputError("graph output " + in_quotes(name) + " is listed twice");
    if (value->is_sequence) {
      if (is_part()) {
        throw UnsupportedError("sequence", "sequence " + in_quotes(name) + " in a model that runs in parts");
      }
      for (std::size_t i = 0; i < value->items.size(); ++i) make_output(item_name(name, i), value->items[i]);
    } else if (value->tensor != kNoTensor) {
      make_output(name, value->tensor);
    }
  }
  if (graph_.outputs.empty()) throw UnsupportedError("empty outputs", "every output is an empty sequence or optional");
}

}  // namespace cx::compiler
