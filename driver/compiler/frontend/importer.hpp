// Walks an ONNX graph, its subgraphs and its functions, and lowers node after node.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "driver/compiler/frontend/frontend.hpp"
#include "driver/compiler/frontend/lowering.hpp"
#include "driver/compiler/frontend/onnx_file.hpp"

namespace cx::compiler {

/// "'name'", safe to print.
std::string in_quotes(const std::string &name);

/// Appends the names that a node may read: its inputs, and all that its subgraphs mention.
void collect_names(const onnx::NodeProto &node, std::vector<std::string> &names);

/// What ONNX calls by a name: a tensor, a sequence of tensors, or the optional that holds nothing. An optional that
/// holds something is that something.
struct Value {
  TensorId tensor = kNoTensor;
  bool is_sequence = false;
  std::vector<TensorId> items;  ///< of a sequence

  bool is_nothing() const { return !is_sequence && tensor == kNoTensor; }
  static Value of(TensorId id) { return {id, false, {}}; }
  static Value sequence(std::vector<TensorId> items) { return {kNoTensor, true, std::move(items)}; }
};

const LoweringTable &lowerings();
/// Operators that are refused for what they are, with the reason.
const std::map<std::string, std::string> &refusals();
/// Opset from which an operator has a form that its lowering reads.
int oldest_opset(const std::string &op);

// Opsets 22 to 24 added types and operators, but changed the meaning of none.
inline constexpr int kNewestOpset = 24;
/// Throws UnsupportedError for a version that the lowerings do not know.
void check_opset(int64_t version);
bool default_domain(const std::string &domain);
InputInfo input_info(const onnx::ValueInfoProto &proto);

class Importer {
 public:
  /// initializers: those of the model's graph.
  Importer(const onnx::ModelProto &model, Initializers &initializers, std::filesystem::path folder,
           const ImportOptions &options);
  Graph run();

 private:
  using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

  // The names of one graph, subgraph or function. Subgraphs see those around them.
  struct Scope {
    std::map<std::string, Value> values;
    const Scope *outer = nullptr;
    int opset = 0;
    int depth = 0;
    const Value *find(const std::string &name) const;
  };

  // Nodes to run, and what they leave to others.
  struct Body {
    const Nodes &nodes;
    std::vector<std::string> outputs;
  };

  // An operator that does more than turn tensors into tensors.
  struct ControlNode {
    NodeContext &n;
    const onnx::NodeProto &proto;
    Scope &scope;
    std::vector<Value> inputs;
    const Value &input(std::size_t index) const;
    TensorId tensor(std::size_t index) const;
    const std::vector<TensorId> &sequence(std::size_t index) const;
    bool has(std::size_t index) const { return index < inputs.size() && !inputs[index].is_nothing(); }
  };
  using ControlLowering = std::vector<Value> (Importer::*)(ControlNode &);
  static const std::map<std::string, ControlLowering> &control_lowerings();
  friend std::vector<std::string> supported_operators();

  bool is_part() const { return !options_.wanted.empty(); }
  bool is_needed(const std::string &name) const { return !is_part() || part_.count(name) != 0; }
  void collect_part();
  void define(Scope &scope, const std::string &name, const Value &value, const std::string &where);
  void read_initializers(Scope &scope, const onnx::GraphProto &graph);
  void match(const InputInfo &info, const Shape &given);
  Shape resolved_shape(const InputInfo &info) const;
  void bind_inputs();
  TensorId add_input(const std::string &name, Type type, const Shape &shape);
  void make_outputs();
  void make_output(const std::string &name, TensorId source);

  void lower_body(const Body &body, Scope &scope);
  std::vector<int> order(const Body &body, const Scope &scope) const;
  void lower(const onnx::NodeProto &node, Scope &scope, const std::set<std::string> &used);
  std::vector<Value> lower_plain(const onnx::NodeProto &node, NodeContext &context, const std::vector<Value> &inputs);
  const onnx::FunctionProto *function_of(const onnx::NodeProto &node) const;
  std::vector<Value> lower_function(const onnx::FunctionProto &function, const onnx::NodeProto &node,
                                    const std::vector<Value> &inputs, const Scope &scope);

  // Runs a subgraph on values for its inputs and returns its outputs.
  std::vector<Value> run_graph(const onnx::GraphProto &graph, const std::vector<Value> &inputs, const Scope &outer);
  const onnx::GraphProto &subgraph(const ControlNode &node, const std::string &name) const;
  void count_iteration();
  Value choose(TensorId condition, const Value &a, const Value &b);

  std::vector<Value> identity(ControlNode &node);
  std::vector<Value> if_else(ControlNode &node);
  std::vector<Value> loop(ControlNode &node);
  std::vector<Value> scan(ControlNode &node);
  std::vector<Value> scan_batches(ControlNode &node);
  std::vector<Value> scan_once(ControlNode &node, const std::vector<Value> &inputs, std::size_t scanned);
  std::vector<Value> sequence_construct(ControlNode &node);
  std::vector<Value> sequence_empty(ControlNode &node);
  std::vector<Value> sequence_insert(ControlNode &node);
  std::vector<Value> sequence_erase(ControlNode &node);
  std::vector<Value> sequence_at(ControlNode &node);
  std::vector<Value> sequence_length(ControlNode &node);
  std::vector<Value> sequence_map(ControlNode &node);
  std::vector<Value> split_to_sequence(ControlNode &node);
  std::vector<Value> concat_from_sequence(ControlNode &node);
  std::vector<Value> optional(ControlNode &node);
  std::vector<Value> optional_get_element(ControlNode &node);
  std::vector<Value> optional_has_element(ControlNode &node);

  // Arithmetic is FP32: the FP32 form of a tensor of another float type, and the way back.
  TensorId widened(TensorId id);
  TensorId narrowed(TensorId id, Type type);

  const onnx::ModelProto &model_;
  Initializers &initializers_;
  const onnx::GraphProto &proto_;
  const std::filesystem::path folder_;
  const ImportOptions &options_;
  Graph graph_;
  Builder builder_;
  Scope scope_;
  std::set<std::string> part_;  // names that a part of the model consists of
  std::map<std::string, int64_t> symbols_;
  std::map<TensorId, TensorId> wide_;  // FP32 values of results in other float types, unrounded
  int64_t iterations_ = 0;
};

}  // namespace cx::compiler
