#include "driver/compiler/frontend/frontend.hpp"

#include <algorithm>
#include <set>

#include "driver/compiler/frontend/importer.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/shape_inference.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
// All operators that the table lacks have had their form since opset 1.
int oldest_opset(const std::string &op) {
  static const std::map<std::string, int> table = {{"Dropout", 7}, {"Tile", 6}, {"Reshape", 5},  {"Cast", 6},
                                                   {"Concat", 4},  {"Pad", 2},  {"Upsample", 7}, {"Split", 2}};
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
    register_indexing(result);
    register_trigonometry(result);
    register_sampling(result);
    register_functions(result);
    register_recurrent(result);
    register_attention(result);
    register_einsum(result);
    register_loss(result);
    register_signal(result);
    register_training(result);
    register_ngrams(result);
    register_quantised(result);
    return result;
  }();
  return table;
}

const std::map<std::string, std::string> &refusals() {
  static const std::string random = "results are random, so no result is right; remove the node or fix its values";
  static const std::map<std::string, std::string> table = {{"Bernoulli", random},
                                                           {"Multinomial", random},
                                                           {"RandomNormal", random},
                                                           {"RandomNormalLike", random},
                                                           {"RandomUniform", random},
                                                           {"RandomUniformLike", random},
                                                           {"StringNormalizer", "text is not computed on the device"},
                                                           {"StringConcat", "text is not computed on the device"},
                                                           {"StringSplit", "text is not computed on the device"},
                                                           {"RegexFullMatch", "text is not computed on the device"}};
  return table;
}

std::string item_name(const std::string &name, std::size_t index) { return name + "[" + std::to_string(index) + "]"; }

bool default_domain(const std::string &domain) { return domain.empty() || domain == "ai.onnx"; }

void check_opset(int64_t version) {
  if (version < 1 || version > kNewestOpset) {
    throw UnsupportedError("opset", "opset " + std::to_string(version) + " is not supported; opsets up to " +
                                        std::to_string(kNewestOpset) + " are");
  }
}

InputInfo input_info(const onnx::ValueInfoProto &proto) {
  const std::string what = "graph input or output " + in_quotes(proto.name());
  InputInfo info;
  info.name = proto.name();
  const onnx::TypeProto *type = &proto.type();
  if (type->has_optional_type()) {
    info.optional = true;
    type = &type->optional_type().elem_type();
  }
  if (type->has_sequence_type()) {
    info.sequence = true;
    type = &type->sequence_type().elem_type();
  }
  if (!type->has_tensor_type()) {
    throw UnsupportedError("input type", what + " is no tensor, sequence of tensors or optional of these");
  }
  const auto &tensor = type->tensor_type();
  info.type = type_from_onnx(tensor.elem_type(), what);
  info.has_shape = tensor.has_shape();
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

namespace {

// Names the file in every message, keeping the type.
template <typename Action>
auto with_path(const std::filesystem::path &path, Action action) {
  const std::string prefix = path.string() + ": ";
  try {
    return action();
  } catch (const ValueNeededError &error) {
    throw ValueNeededError(error.op(), prefix + error.what(), error.inputs(), error.node());
  } catch (const HostOperatorError &error) {
    throw HostOperatorError(error.op(), prefix + error.what(), error.node());
  } catch (const UnsupportedError &error) {
    throw UnsupportedError(error.op(), prefix + error.what());
  } catch (const InputError &error) {
    throw InputError(prefix + error.what());
  }
}

}  // namespace

struct Model::State {
  struct Parsed {
    explicit Parsed(const std::filesystem::path &file)
        : proto(read_model(file)), initializers(*proto.mutable_graph(), file.parent_path()) {}
    onnx::ModelProto proto;
    Initializers initializers;
  };

  explicit State(const std::filesystem::path &file) : path(file), parsed(std::in_place, file) {}
  Parsed &get() {
    if (!parsed) parsed.emplace(path);
    return *parsed;
  }

  std::filesystem::path path;
  std::optional<Parsed> parsed;
};

Model::Model(const std::filesystem::path &path) : state_(std::make_shared<State>(path)) {}

const std::filesystem::path &Model::path() const { return state_->path; }

const onnx::ModelProto &Model::proto() const { return state_->get().proto; }

Initializers &Model::initializers() const { return state_->get().initializers; }

void Model::release() { state_->parsed.reset(); }

std::vector<InputInfo> Model::inputs() const {
  const onnx::GraphProto &graph = proto().graph();
  return with_path(path(), [&] {
    std::set<std::string> initialised;
    for (const auto &initializer : graph.initializer()) initialised.insert(initializer.name());
    std::vector<InputInfo> result;
    for (const auto &input : graph.input()) {
      if (initialised.count(input.name()) == 0) result.push_back(input_info(input));
    }
    return result;
  });
}

std::vector<InputInfo> Model::outputs() const {
  const onnx::GraphProto &graph = proto().graph();
  return with_path(path(), [&] {
    std::vector<InputInfo> result;
    for (const auto &output : graph.output()) result.push_back(input_info(output));
    return result;
  });
}

Graph import_onnx(const Model &model, const ImportOptions &options) {
  const onnx::ModelProto &proto = model.proto();
  return with_path(model.path(), [&] {
    StepObserver *observer = options.observer;
    if (wants_steps(observer)) observer->step("model", to_text(proto));
    Graph graph = Importer(proto, model.initializers(), model.path().parent_path(), options).run();
    if (wants_steps(observer)) observer->step("lowered", to_text(graph));
    optimise(graph, observer);
    verify(graph);
    verify_shapes(graph);
    return graph;
  });
}

Graph import_onnx(const std::filesystem::path &path, const ImportOptions &options) {
  return import_onnx(Model(path), options);
}

std::vector<Tensor> evaluate_node(const Model &model, int node, const std::map<std::string, Tensor> &values) {
  ImportOptions options;
  std::set<std::string> inputs;
  for (const auto &input : model.proto().graph().input()) inputs.insert(input.name());
  for (const auto &[name, value] : values) {
    options.bound_inputs.emplace(name, value);
    if (inputs.count(name) == 0) options.given[name] = {value.type, value.shape};
  }
  for (const std::string &name : model.proto().graph().node(node).output()) {
    if (!name.empty()) options.wanted.push_back(name);
  }
  return with_path(model.path(), [&] {
    const Graph graph = Importer(model.proto(), model.initializers(), model.path().parent_path(), options).run();
    std::vector<Tensor> results;
    for (const TensorId id : graph.outputs) {
      const Node &copy = graph.nodes.at(static_cast<std::size_t>(graph.producer(id).value()));
      Tensor result = graph[copy.inputs[0]];
      if (!result.is_constant()) throw Error("a node whose inputs are known has a result that is not");
      result.name = graph[id].name;
      results.push_back(std::move(result));
    }
    return results;
  });
}

std::vector<InputInfo> inspect_onnx(const std::filesystem::path &path) { return Model(path).inputs(); }

std::vector<InputInfo> inspect_outputs(const std::filesystem::path &path) { return Model(path).outputs(); }

std::vector<std::string> supported_operators() {
  std::vector<std::string> names;
  for (const auto &[name, lowering] : lowerings()) names.push_back(name);
  for (const auto &[name, lowering] : Importer::control_lowerings()) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace cx::compiler
