#include <cmath>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/passes.hpp"
#include "driver/compiler/frontend/rewriter.hpp"

namespace cx::compiler {
namespace {

// y = scale * (linear result) + offset, one pair per output channel.
struct ChannelAffine {
  std::vector<double> scale;
  std::vector<double> offset;
};

class Folder {
 public:
  explicit Folder(Graph &graph) : graph_(graph), rewriter_(graph) {}

  void run() {
    rewriter_.run([this](Node node) { visit(std::move(node)); });
  }

 private:
  void visit(Node node) {
    if (node.op != "Binary" || !fold(node)) rewriter_.keep(std::move(node));
  }

  // Values of a constant that varies along one axis only, spread to `channels` values. Empty if it does not.
  std::vector<double> along(const Tensor &constant, std::size_t rank, std::size_t axis, int64_t channels) const {
    const Shape &shape = constant.shape;
    if (!constant.is_constant() || constant.type != Type::F32 || shape.size() > rank) return {};
    const std::size_t shift = rank - shape.size();
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] != 1 && d + shift != axis) return {};
    }
    std::vector<double> values = to_doubles(constant);
    for (double value : values) {
      if (!std::isfinite(value)) return {};
    }
    if (values.size() == 1) values.assign(static_cast<std::size_t>(channels), values[0]);
    return values;
  }

  static ChannelAffine affine_of(const std::string &func, bool constant_first, const std::vector<double> &values) {
    ChannelAffine affine;
    for (double value : values) {
      double scale = 1;
      double offset = 0;
      if (func == "mul") scale = value;
      if (func == "div") scale = 1 / value;
      if (func == "add") offset = value;
      if (func == "sub") {
        scale = constant_first ? -1 : 1;
        offset = constant_first ? value : -value;
      }
      affine.scale.push_back(scale);
      affine.offset.push_back(offset);
    }
    return affine;
  }

  bool fold(const Node &node) {
    const std::string func = node.text("func", "");
    if (func != "add" && func != "sub" && func != "mul" && func != "div") return false;
    const bool constant_first = graph_[node.inputs[0]].is_constant();
    const TensorId source = node.inputs[constant_first ? 1 : 0];
    const Tensor &constant = graph_[node.inputs[constant_first ? 0 : 1]];
    if (constant_first && func == "div") return false;
    if (rewriter_.other_uses(source) != 0 || graph_[node.outputs[0]].shape != graph_[source].shape) return false;
    const Node *linear = rewriter_.producer(source);
    const bool viewed = linear != nullptr && linear->op == "Reshape";
    if (viewed) {
      // 1-D and 3-D convolutions end in a view that keeps batch and channels.
      const Shape &inner = graph_[linear->inputs[0]].shape;
      const Shape &outer = graph_[source].shape;
      const bool keeps = inner.size() >= 2 && outer.size() >= 2 && inner[0] == outer[0] && inner[1] == outer[1];
      if (!keeps || rewriter_.other_uses(linear->inputs[0]) != 1) return false;
      linear = rewriter_.producer(linear->inputs[0], "Conv");
    }
    if (linear == nullptr || (linear->op != "Conv" && linear->op != "MatMul")) return false;
    if (graph_[linear->inputs[0]].type == Type::I8) return false;
    const std::size_t rank = graph_[source].shape.size();
    const std::size_t axis = linear->op == "Conv" ? 1 : rank - 1;
    const int64_t channels = graph_[source].shape[axis];
    constexpr int64_t kMostChannels = 1 << 24;
    if (channels > kMostChannels) return false;
    const std::vector<double> values = along(constant, rank, axis, channels);
    if (values.empty()) return false;
    Node folded = *linear;
    if (!apply(folded, affine_of(func, constant_first, values))) return false;
    if (!viewed) {
      folded.outputs = node.outputs;
      rewriter_.keep(std::move(folded));
    } else {
      folded.outputs.clear();
      rewriter_.keep(Node{node.name, "Reshape", {rewriter_.emit(std::move(folded))}, node.outputs, {}});
    }
    return true;
  }

  static bool representable(const std::vector<double> &values) {
    for (double value : values) {
      if (!std::isfinite(static_cast<float>(value))) return false;
    }
    return true;
  }

  // Changes weights and bias of a Conv or MatMul. False if they are not constant or would leave FP32's range.
  bool apply(Node &linear, const ChannelAffine &affine) {
    const auto channels = static_cast<int64_t>(affine.scale.size());
    const TensorId bias_id = linear.inputs.size() > 2 ? linear.inputs[2] : kNoTensor;
    std::vector<double> bias(affine.scale.size(), 0.0);
    if (bias_id != kNoTensor) {
      if (!graph_[bias_id].is_constant()) return false;
      bias = to_doubles(graph_[bias_id]);
    }
    bool scaled = false;
    for (std::size_t c = 0; c < bias.size(); ++c) {
      scaled = scaled || affine.scale[c] != 1;
      bias[c] = bias[c] * affine.scale[c] + affine.offset[c];
    }
    const Tensor &weights = graph_[linear.inputs[1]];
    std::vector<double> values;
    if (scaled) {
      if (!weights.is_constant()) return false;
      values = to_doubles(weights);
      // Elements between two values of the channel's axis, which is the first of a Conv's weights.
      const bool innermost = linear.op == "MatMul" && linear.integer("trans_b", 0) == 0;
      const int64_t inner = innermost               ? 1
                            : linear.op == "MatMul" ? weights.shape.back()
                                                    : static_cast<int64_t>(values.size()) / channels;
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] *= affine.scale[static_cast<std::size_t>(static_cast<int64_t>(i) / inner % channels)];
      }
    }
    if (!representable(bias) || !representable(values)) return false;
    // Copied first: adding constants may move the graph's tensors.
    const std::string name = weights.name;
    const Shape shape = weights.shape;
    if (scaled) linear.inputs[1] = rewriter_.constant(make_constant(name, Type::F32, shape, values));
    linear.inputs.resize(3, kNoTensor);
    linear.inputs[2] = rewriter_.constant(make_constant(linear.name + " bias", Type::F32, {channels}, bias));
    return true;
  }

  Graph &graph_;
  Rewriter rewriter_;
};

}  // namespace

void fold_batchnorm(Graph &graph) { Folder(graph).run(); }

}  // namespace cx::compiler
