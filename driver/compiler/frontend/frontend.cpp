#include "driver/compiler/frontend/frontend.hpp"

#include <algorithm>
#include <deque>
#include <set>

#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

constexpr int kNewestOpset = 20;

// Opset from which an operator has a form that its lowering reads; all others have had one since opset 1.
int oldest_opset(const std::string &op) {
  static const std::map<std::string, int> table = {
      {"Add", 7},         {"Sub", 7},      {"Mul", 7},     {"Div", 7},     {"Pow", 7},
      {"And", 7},         {"Or", 7},       {"Xor", 7},     {"Equal", 7},   {"Greater", 7},
      {"Less", 7},        {"PRelu", 7},    {"Gemm", 7},    {"Dropout", 7}, {"BatchNormalization", 7},
      {"AveragePool", 7}, {"Tile", 6},     {"Reshape", 5}, {"Cast", 6},    {"Concat", 4},
      {"Pad", 2},         {"Upsample", 7}, {"Split", 2}};
  auto found = table.find(op);
  return found == table.end() ? 1 : found->second;
}

const LoweringTable &lowerings() {
  static const LoweringTable table = [] {
    LoweringTable result;
    register_elementwise(result);
    register_shape(result);
    register_linear(result);
    register_pooling(result);
    register_normalisation(result);
    register_resize(result);
    return result;
  }();
  return table;
}

std::string supported_text() {
  std::string text;
  for (const std::string &name : supported_operators()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string in_quotes(const std::string &name) { return "'" + printable(name) + "'"; }

bool default_domain(const std::string &domain) { return domain.empty() || domain == "ai.onnx"; }

int opset_of(const onnx::ModelProto &model) {
  int64_t version = 0;
  for (const auto &entry : model.opset_import()) {
    if (default_domain(entry.domain())) version = entry.version();
  }
  for (const auto &node : model.graph().node()) {
    if (version == 0 && !default_domain(node.domain())) {
      throw UnsupportedError(printable(node.op_type()), "node " + in_quotes(node.name()) + " (" +
                                                            printable(node.op_type()) + "): operators of domain " +
                                                            in_quotes(node.domain()) + " are not supported");
    }
  }
  if (version == 0) throw InputError("the model does not state the opset of the default domain");
  if (version < 1 || version > kNewestOpset) {
    throw UnsupportedError("opset", "opset " + std::to_string(version) + " is not supported; opsets up to " +
                                        std::to_string(kNewestOpset) + " are");
  }
  return static_cast<int>(version);
}

InputInfo input_info(const onnx::ValueInfoProto &proto) {
  const std::string what = "input " + in_quotes(proto.name());
  if (!proto.type().has_tensor_type()) throw UnsupportedError("sequence, optional or map", what + " is not a tensor");
  const auto &tensor = proto.type().tensor_type();
  InputInfo info{proto.name(), type_from_onnx(tensor.elem_type(), what), {}};
  for (const auto &dimension : tensor.shape().dim()) {
    // Some exporters write -1 for an open dimension.
    if (dimension.has_dim_value() && dimension.dim_value() >= 0) {
      if (dimension.dim_value() > kMaxElements) throw InputError(what + " has a dimension that is too large");
      info.shape.push_back({dimension.dim_value(), ""});
    } else {
      info.shape.push_back({-1, dimension.dim_param()});
    }
  }
  return info;
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

class Importer {
 public:
  Importer(const onnx::ModelProto &model, std::filesystem::path folder, const ImportOptions &options)
      : proto_(model.graph()),
        folder_(std::move(folder)),
        options_(options),
        opset_(opset_of(model)),
        builder_(graph_) {}

  Graph run() {
    graph_.name = printable(proto_.name());
    if (proto_.sparse_initializer_size() != 0)
      throw UnsupportedError("sparse initializer", "sparse initializers are not supported");
    read_initializers();
    bind_inputs();
    index_producers();
    lower_all();
    make_outputs();
    return std::move(graph_);
  }

 private:
  void define(const std::string &name, TensorId id, const std::string &where) {
    if (name.empty()) throw InputError(where + " has no name");
    if (!values_.emplace(name, id).second)
      throw InputError(where + ": tensor " + in_quotes(name) + " is defined twice");
  }

  void read_initializers() {
    for (const auto &proto : proto_.initializer()) {
      if (options_.bound_inputs.count(proto.name()) != 0) continue;
      define(proto.name(), graph_.add(read_tensor(proto, folder_)), "initializer");
    }
  }

  // Takes a shape into account that is stated for an input: fixed dimensions must agree, symbols are bound.
  void match(const InputInfo &info, const Shape &given) {
    const std::string what =
        "input " + in_quotes(info.name) + ": shape " + to_text(given) + " does not fit " + shape_text(info.shape);
    elements(given);
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

  Shape resolved_shape(const InputInfo &info) const {
    if (auto given = options_.input_shapes.find(info.name); given != options_.input_shapes.end()) return given->second;
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

  void bind_inputs() {
    std::vector<InputInfo> infos;
    std::set<std::string> names;
    for (const auto &proto : proto_.input()) {
      if (!names.insert(proto.name()).second)
        throw InputError("input " + in_quotes(proto.name()) + " is defined twice");
      if (values_.count(proto.name()) != 0) continue;  // has a default value
      infos.push_back(input_info(proto));
    }
    for (const auto &[name, shape] : options_.input_shapes) {
      if (names.count(name) == 0) throw InputError("the model has no input " + in_quotes(name));
    }
    for (const auto &[name, tensor] : options_.bound_inputs) {
      if (names.count(name) == 0) throw InputError("the model has no input " + in_quotes(name));
    }
    // An input without any stated shape takes whatever it is given.
    auto has_shape = [this](const std::string &name) {
      for (const auto &proto : proto_.input()) {
        if (proto.name() == name) return proto.type().tensor_type().has_shape();
      }
      return false;
    };
    for (const InputInfo &info : infos) {
      if (auto bound = options_.bound_inputs.find(info.name); bound != options_.bound_inputs.end()) {
        if (bound->second.type != info.type) {
          throw InputError("input " + in_quotes(info.name) + " is " + name_of(info.type) +
                           ", the value bound to it is " + name_of(bound->second.type));
        }
        if (!bound->second.is_constant()) throw InputError("input " + in_quotes(info.name) + " is bound to no value");
        if (has_shape(info.name)) match(info, bound->second.shape);
      } else if (auto given = options_.input_shapes.find(info.name); given != options_.input_shapes.end()) {
        if (has_shape(info.name)) match(info, given->second);
      }
    }
    for (const InputInfo &info : infos) {
      if (auto bound = options_.bound_inputs.find(info.name); bound != options_.bound_inputs.end()) {
        Tensor value = bound->second;
        value.name = info.name;
        define(info.name, graph_.add(std::move(value)), "input");
        continue;
      }
      if (!has_shape(info.name) && options_.input_shapes.count(info.name) == 0) {
        throw InputError("input " + in_quotes(info.name) + " has no shape; state it");
      }
      Shape shape = resolved_shape(info);
      if (elements(shape) > kMaxElements) throw InputError("input " + in_quotes(info.name) + " is too large");
      Tensor tensor{info.name, info.type, std::move(shape), std::nullopt};
      if (elements(tensor.shape) == 0) tensor.data.emplace();
      const bool empty = tensor.is_constant();
      const TensorId id = graph_.add(std::move(tensor));
      if (!empty) graph_.inputs.push_back(id);
      define(info.name, id, "input");
    }
  }

  std::string where(int index) const {
    const auto &node = proto_.node(index);
    std::string name = node.name();
    if (name.empty() && node.output_size() > 0) name = node.output(0);
    return "node " + in_quotes(name) + " (" + printable(node.op_type()) + ")";
  }

  void index_producers() {
    for (int i = 0; i < proto_.node_size(); ++i) {
      for (const std::string &name : proto_.node(i).output()) {
        if (name.empty()) continue;
        if (values_.count(name) != 0 || !producers_.emplace(name, i).second) {
          throw InputError(where(i) + ": tensor " + in_quotes(name) + " is defined twice");
        }
      }
      for (const std::string &name : proto_.node(i).input()) used_.insert(name);
    }
    for (const auto &output : proto_.output()) used_.insert(output.name());
  }

  // Nodes that the outputs need, each after the producers of its inputs; in file order otherwise.
  std::vector<int> order() const {
    const auto count = static_cast<std::size_t>(proto_.node_size());
    std::vector<bool> needed(count, false);
    std::deque<int> pending;
    auto require = [&](const std::string &name) {
      auto producer = producers_.find(name);
      if (producer == producers_.end() || needed[static_cast<std::size_t>(producer->second)]) return;
      needed[static_cast<std::size_t>(producer->second)] = true;
      pending.push_back(producer->second);
    };
    for (const auto &output : proto_.output()) require(output.name());
    while (!pending.empty()) {
      const int index = pending.front();
      pending.pop_front();
      for (const std::string &name : proto_.node(index).input()) require(name);
    }
    std::vector<int> missing(count, 0);
    std::vector<std::vector<int>> consumers(count);
    std::set<int> ready;
    std::size_t total = 0;
    for (int i = 0; i < proto_.node_size(); ++i) {
      if (!needed[static_cast<std::size_t>(i)]) continue;
      ++total;
      for (const std::string &name : proto_.node(i).input()) {
        if (name.empty()) continue;
        if (auto producer = producers_.find(name); producer != producers_.end()) {
          consumers[static_cast<std::size_t>(producer->second)].push_back(i);
          ++missing[static_cast<std::size_t>(i)];
        } else if (values_.count(name) == 0) {
          throw InputError(where(i) + ": input tensor " + in_quotes(name) + " does not exist");
        }
      }
      if (missing[static_cast<std::size_t>(i)] == 0) ready.insert(i);
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
      for (int i = 0; i < proto_.node_size(); ++i) {
        if (missing[static_cast<std::size_t>(i)] > 0) throw InputError(where(i) + ": lies on a cycle or behind one");
      }
    }
    return result;
  }

  static const Lowering &lowering_of(const onnx::NodeProto &node) {
    const std::string &op = node.op_type();
    const bool known_domain = default_domain(node.domain()) || (node.domain() == "com.microsoft" && op == "Gelu");
    auto found = lowerings().find(op);
    if (!known_domain || found == lowerings().end()) {
      const std::string domain = default_domain(node.domain()) ? "" : " of domain " + in_quotes(node.domain());
      throw UnsupportedError(op, "the operator" + domain + " is not supported. Supported are: " + supported_text());
    }
    return found->second;
  }

  void lower(int index) {
    const auto &node = proto_.node(index);
    builder_.set_origin(printable(node.name().empty() && node.output_size() > 0 ? node.output(0) : node.name()));
    std::vector<TensorId> inputs;
    for (const std::string &name : node.input()) inputs.push_back(name.empty() ? kNoTensor : values_.at(name));
    std::vector<bool> used_outputs;
    for (const std::string &name : node.output()) used_outputs.push_back(!name.empty() && used_.count(name) != 0);
    const Lowering &lowering = lowering_of(node);
    if (opset_ < oldest_opset(node.op_type())) {
      throw UnsupportedError(node.op_type(), "the operator's form before opset " +
                                                 std::to_string(oldest_opset(node.op_type())) +
                                                 " is not supported; convert the model to a newer opset");
    }
    const auto first_new = static_cast<TensorId>(graph_.tensors.size());
    NodeContext context(builder_, node, opset_, std::move(inputs), std::move(used_outputs), folder_);
    const std::vector<TensorId> outputs = lowering(context);
    for (int i = 0; i < node.output_size(); ++i) {
      const std::string &name = node.output(i);
      const auto position = static_cast<std::size_t>(i);
      const TensorId id = position < outputs.size() ? outputs[position] : kNoTensor;
      if (id == kNoTensor) {
        if (context.output_used(position)) {
          throw UnsupportedError(node.op_type(), "output " + std::to_string(i) + " is not supported");
        }
        continue;
      }
      if (name.empty()) continue;
      if (id >= first_new) graph_[id].name = name;
      values_.emplace(name, id);
    }
  }

  void lower_all() {
    const std::vector<int> indices = order();
    uint64_t done = 0;
    for (int index : indices) {
      if (options_.observer != nullptr) options_.observer->progress("importing", done++, indices.size());
      const std::string prefix = where(index) + ": ";
      try {
        lower(index);
      } catch (const UnsupportedError &error) {
        throw UnsupportedError(proto_.node(index).op_type(), prefix + error.what());
      } catch (const Error &error) {
        throw InputError(prefix + error.what());
      }
    }
  }

  void make_outputs() {
    if (proto_.output_size() == 0) throw InputError("the graph has no outputs");
    std::set<std::string> names;
    for (const auto &output : proto_.output()) {
      auto value = values_.find(output.name());
      if (value == values_.end()) throw InputError("graph output " + in_quotes(output.name()) + " is never computed");
      if (!names.insert(output.name()).second) {
        throw InputError("graph output " + in_quotes(output.name()) + " is listed twice");
      }
      const Tensor &source = graph_[value->second];
      Node copy{printable(output.name()), "Copy", {value->second}, {}, {}};
      copy.outputs = {graph_.add(Tensor{output.name(), source.type, source.shape, std::nullopt})};
      graph_.outputs.push_back(copy.outputs[0]);
      graph_.nodes.push_back(std::move(copy));
    }
  }

  const onnx::GraphProto &proto_;
  const std::filesystem::path folder_;
  const ImportOptions &options_;
  const int opset_;
  Graph graph_;
  Builder builder_;
  std::map<std::string, TensorId> values_;
  std::map<std::string, int> producers_;
  std::map<std::string, int64_t> symbols_;
  std::set<std::string> used_;
};

// Names the file in every message, keeping the type.
template <typename Action>
auto with_path(const std::filesystem::path &path, Action action) {
  const std::string prefix = path.string() + ": ";
  try {
    return action();
  } catch (const UnsupportedError &error) {
    throw UnsupportedError(error.op(), prefix + error.what());
  } catch (const InputError &error) {
    throw InputError(prefix + error.what());
  }
}

}  // namespace

Graph import_onnx(const std::filesystem::path &path, const ImportOptions &options) {
  const onnx::ModelProto model = read_model(path);
  return with_path(path, [&] {
    StepObserver *observer = options.observer;
    if (wants_steps(observer)) observer->step("model", to_text(model));
    Graph graph = Importer(model, path.parent_path(), options).run();
    if (wants_steps(observer)) observer->step("lowered", to_text(graph));
    optimise(graph, observer);
    verify(graph);
    verify_shapes(graph);
    return graph;
  });
}

std::vector<InputInfo> inspect_onnx(const std::filesystem::path &path) {
  const onnx::ModelProto model = read_model(path);
  return with_path(path, [&] {
    std::set<std::string> initialised;
    for (const auto &proto : model.graph().initializer()) initialised.insert(proto.name());
    std::vector<InputInfo> inputs;
    for (const auto &proto : model.graph().input()) {
      if (initialised.count(proto.name()) == 0) inputs.push_back(input_info(proto));
    }
    return inputs;
  });
}

std::vector<std::string> supported_operators() {
  std::vector<std::string> names;
  for (const auto &[name, lowering] : lowerings()) names.push_back(name);
  return names;
}

}  // namespace cx::compiler
