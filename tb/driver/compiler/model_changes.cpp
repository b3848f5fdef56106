#include "tb/driver/compiler/model_changes.hpp"

#include <cstring>
#include <limits>

#include "driver/compiler/frontend/frontend.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

namespace cx::compiler {
namespace {

using Random = ModelRandom;

onnx::AttributeProto &attribute(onnx::NodeProto &node, const std::string &name,
                                onnx::AttributeProto::AttributeType type) {
  auto &entry = *node.add_attribute();
  entry.set_name(name);
  entry.set_type(type);
  return entry;
}

void ints(onnx::NodeProto &node, const std::string &name, const std::vector<int64_t> &values) {
  auto &entry = attribute(node, name, onnx::AttributeProto::INTS);
  for (const int64_t value : values) entry.add_ints(value);
}

void integer(onnx::NodeProto &node, const std::string &name, int64_t value) {
  attribute(node, name, onnx::AttributeProto::INT).set_i(value);
}

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(static_cast<int>(i % 17) - 8) / 8;
  return values;
}

onnx::ModelProto convolutions() {
  OnnxModel model(13);
  model.symbolic_input("x", {"n", "3", "10", "10"});
  model.constant("w", {4, 3, 3, 3}, ramp(108));
  model.constant("b", {4}, ramp(4));
  for (const char *name : {"scale", "shift", "mean", "variance"}) model.constant(name, {4}, {1, 0.5F, 2, 0.25F});
  auto &conv = model.node("Conv", {"x", "w", "b"}, {"c"}, "conv");
  ints(conv, "kernel_shape", {3, 3});
  ints(conv, "pads", {1, 1, 1, 1});
  ints(conv, "strides", {2, 2});
  model.node("BatchNormalization", {"c", "scale", "shift", "mean", "variance"}, {"bn"}, "norm");
  model.node("Relu", {"bn"}, {"r"}, "relu");
  auto &pool = model.node("MaxPool", {"r"}, {"p"}, "pool");
  ints(pool, "kernel_shape", {2, 2});
  ints(pool, "strides", {1, 1});
  auto &average = model.node("AveragePool", {"p"}, {"a"}, "average");
  ints(average, "kernel_shape", {3, 3});
  integer(average, "ceil_mode", 1);
  model.constant("t", {4, 2, 2, 2}, ramp(32));
  auto &up = model.node("ConvTranspose", {"a", "t"}, {"u"}, "up");
  ints(up, "strides", {2, 2});
  auto &flat = model.node("Flatten", {"u"}, {"f"}, "flat");
  integer(flat, "axis", 1);
  model.constant("g", {5, 32}, ramp(160));
  auto &gemm = model.node("Gemm", {"f", "g"}, {"y"}, "gemm");
  integer(gemm, "transB", 1);
  model.output("y");
  return model.proto();
}

onnx::ModelProto attention() {
  OnnxModel model(17);
  model.input("x", {1, 4, 8});
  model.constant("wqkv", {8, 24}, ramp(192));
  model.constant("gamma", {8}, ramp(8));
  model.node("LayerNormalization", {"x", "gamma", "gamma"}, {"n"}, "norm");
  model.node("MatMul", {"n", "wqkv"}, {"qkv"}, "project");
  model.integers("parts", {8, 8, 8});
  integer(model.node("Split", {"qkv", "parts"}, {"q", "k", "v"}, "split"), "axis", 2);
  model.integers("heads", {1, 4, 2, 4});
  for (const std::string name : {"q", "k", "v"}) {
    model.node("Reshape", {name, "heads"}, {name + "h"}, "heads_" + name);
    ints(model.node("Transpose", {name + "h"}, {name + "t"}, "turn_" + name), "perm", {0, 2, 1, 3});
  }
  ints(model.node("Transpose", {"kt"}, {"kk"}, "turn"), "perm", {0, 1, 3, 2});
  model.node("MatMul", {"qt", "kk"}, {"s"}, "scores");
  integer(model.node("Softmax", {"s"}, {"p"}, "softmax"), "axis", -1);
  model.node("MatMul", {"p", "vt"}, {"o"}, "mix");
  ints(model.node("Transpose", {"o"}, {"ot"}, "back"), "perm", {0, 2, 1, 3});
  model.node("Shape", {"x"}, {"shape"}, "shape");
  model.node("Reshape", {"ot", "shape"}, {"r"}, "flat");
  model.node("Add", {"r", "x"}, {"y"}, "residual");
  model.output("y");
  return model.proto();
}

onnx::ModelProto shapes() {
  OnnxModel model(13);
  model.symbolic_input("x", {"n", "6", "w"});
  model.node("Shape", {"x"}, {"s"}, "shape");
  model.integers("zero", {0});
  model.integers("two", {2});
  model.integers("minus", {-1});
  integer(model.node("Gather", {"s", "zero"}, {"n"}, "first"), "axis", 0);
  integer(model.node("Concat", {"n", "two", "minus"}, {"to"}, "target"), "axis", 0);
  model.node("Reshape", {"x", "to"}, {"r"}, "reshape");
  model.integers("starts", {0, 3});
  model.integers("ends", {1, -1});
  model.integers("axes", {1, 2});
  model.integers("steps", {1, 2});
  model.node("Slice", {"r", "starts", "ends", "axes", "steps"}, {"cut"}, "slice");
  model.integers("pads", {0, 0, 1, 0, 0, 2});
  model.node("Pad", {"cut", "pads"}, {"padded"}, "pad");
  model.integers("repeats", {1, 2, 3});
  model.node("Tile", {"padded", "repeats"}, {"tiled"}, "tile");
  model.integers("wide", {2, 1, 1, 1});
  model.node("Expand", {"tiled", "wide"}, {"e"}, "expand");
  auto &reduce = model.node("ReduceMean", {"e"}, {"m"}, "reduce");
  ints(reduce, "axes", {2});
  integer(model.node("CumSum", {"m", "zero"}, {"c"}, "sum"), "reverse", 1);
  integer(model.node("ArgMax", {"c"}, {"i"}, "arg"), "axis", 1);
  integer(model.node("Cast", {"i"}, {"f"}, "cast"), "to", 1);
  model.node("Greater", {"f", "c"}, {"g"}, "greater");
  model.node("Where", {"g", "f", "c"}, {"y"}, "where");
  model.output("y");
  return model.proto();
}

onnx::ModelProto control() {
  OnnxModel model(16);
  model.input("x", {2, 3});
  model.integers("trips", {3});
  auto &condition = *model.proto().mutable_graph()->add_initializer();
  condition.set_name("yes");
  condition.set_data_type(onnx::TensorProto::BOOL);
  condition.add_int32_data(1);
  model.proto().mutable_graph()->mutable_initializer(0)->clear_dims();
  auto &branch = model.node("If", {"yes"}, {"b"}, "if");
  for (const std::string name : {"then_branch", "else_branch"}) {
    auto &body = *attribute(branch, name, onnx::AttributeProto::GRAPH).mutable_g();
    auto &node = *body.add_node();
    node.set_op_type(name == "then_branch" ? "Relu" : "Neg");
    node.add_input("x");
    node.add_output(name + "_y");
    body.add_output()->set_name(name + "_y");
  }
  auto &loop = model.node("Loop", {"trips", "yes", "b"}, {"l"}, "loop");
  auto &body = *attribute(loop, "body", onnx::AttributeProto::GRAPH).mutable_g();
  const auto typed = [](onnx::ValueInfoProto &info, const std::string &name, int type) {
    info.set_name(name);
    info.mutable_type()->mutable_tensor_type()->set_elem_type(type);
    info.mutable_type()->mutable_tensor_type()->mutable_shape();
  };
  typed(*body.add_input(), "i", onnx::TensorProto::INT64);
  typed(*body.add_input(), "go", onnx::TensorProto::BOOL);
  typed(*body.add_input(), "state", onnx::TensorProto::FLOAT);
  auto *same = body.add_node();
  same->set_op_type("Identity");
  same->add_input("go");
  same->add_output("go_on");
  auto *sum = body.add_node();
  sum->set_op_type("Add");
  sum->add_input("state");
  sum->add_input("x");
  sum->add_output("next");
  typed(*body.add_output(), "go_on", onnx::TensorProto::BOOL);
  typed(*body.add_output(), "next", onnx::TensorProto::FLOAT);
  model.constant("w", {1, 16, 3}, ramp(48));
  model.constant("r", {1, 16, 4}, ramp(64));
  model.integers("one", {1});
  model.node("Unsqueeze", {"l", "one"}, {"sequence"}, "sequence");
  integer(model.node("LSTM", {"sequence", "w", "r"}, {"y", "h"}, "lstm"), "hidden_size", 4);
  model.output("y");
  model.output("h");
  return model.proto();
}

onnx::ModelProto quantised() {
  OnnxModel model(13);
  model.input("x", {1, 2, 6, 6});
  model.constant("s", {}, {0.05F});
  model.constant("w", {3, 2, 3, 3}, ramp(54));
  const auto zero = [&](const std::string &name, int type) {
    auto &tensor = *model.proto().mutable_graph()->add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(type);
    tensor.add_int32_data(3);
  };
  zero("zu", onnx::TensorProto::UINT8);
  zero("zi", onnx::TensorProto::INT8);
  model.node("QuantizeLinear", {"x", "s", "zu"}, {"q"}, "quantise");
  model.node("DequantizeLinear", {"q", "s", "zu"}, {"d"}, "dequantise");
  model.node("QuantizeLinear", {"w", "s", "zi"}, {"wq"}, "quantise_w");
  model.node("DequantizeLinear", {"wq", "s", "zi"}, {"wd"}, "dequantise_w");
  model.node("Conv", {"d", "wd"}, {"c"}, "conv");
  model.integers("k", {2});
  integer(model.node("TopK", {"c", "k"}, {"v", "i"}, "topk"), "axis", 1);
  model.constant("scales", {4}, {1, 1, 2, 1.5F});
  model.node("Resize", {"v", "", "scales"}, {"y"}, "resize");
  model.output("y");
  model.output("i");
  return model.proto();
}

onnx::ModelProto places() {
  OnnxModel model(13);
  model.input("x", {2, 3});
  model.node("NonZero", {"x"}, {"p"}, "places");
  model.node("Unique", {"x"}, {"u", "first", "inverse", "counts"}, "unique");
  model.node("Not", {"f"}, {"yes"}, "not");
  integer(model.node("Cast", {"u"}, {"f"}, "cast"), "to", onnx::TensorProto::BOOL);
  model.node("Compress", {"u", "yes"}, {"c"}, "compress");
  model.constant("boxes", {1, 3, 4}, {0, 0, 2, 2, 0, 0, 2, 2.5F, 4, 4, 5, 5});
  model.constant("scores", {1, 1, 3}, {0.5F, 0.75F, 0.25F});
  model.integers("most", {2});
  model.node("NonMaxSuppression", {"boxes", "scores", "most"}, {"n"}, "suppress");
  for (const char *name : {"p", "u", "counts", "c", "n"}) model.output(name);
  return model.proto();
}

constexpr int64_t kOddNumbers[] = {0,
                                   1,
                                   -1,
                                   2,
                                   3,
                                   7,
                                   64,
                                   255,
                                   65536,
                                   1 << 20,
                                   INT32_MAX,
                                   int64_t{1} << 31,
                                   -7,
                                   INT32_MIN,
                                   INT64_MAX,
                                   INT64_MIN,
                                   1 << 24,
                                   INT64_MAX / 2 + 1,
                                   int64_t{1} << 40,
                                   1000};

template <class List>
auto &any_of(List &list, Random &random) {
  return list[random() % list.size()];
}

template <class Field>
auto *any_entry(Field *field, Random &random) {
  return field->size() == 0 ? nullptr
                            : field->Mutable(static_cast<int>(random() % static_cast<uint64_t>(field->size())));
}

int64_t odd_number(Random &random) { return kOddNumbers[random() % std::size(kOddNumbers)]; }

onnx::GraphProto *any_graph(onnx::GraphProto *graph, Random &random) {
  std::vector<onnx::GraphProto *> graphs = {graph};
  for (auto &node : *graph->mutable_node()) {
    for (auto &entry : *node.mutable_attribute()) {
      if (entry.has_g()) graphs.push_back(entry.mutable_g());
    }
  }
  return any_of(graphs, random);
}

std::string any_name(const onnx::GraphProto &graph, Random &random) {
  std::vector<std::string> names = {"", "odd"};
  for (const auto &node : graph.node()) {
    names.insert(names.end(), node.output().begin(), node.output().end());
    names.insert(names.end(), node.input().begin(), node.input().end());
  }
  for (const auto &tensor : graph.initializer()) names.push_back(tensor.name());
  for (const auto &input : graph.input()) names.push_back(input.name());
  return any_of(names, random);
}

void change_type(onnx::ValueInfoProto *info, Random &random) {
  if (info == nullptr) return;
  auto *tensor = info->mutable_type()->mutable_tensor_type();
  switch (random() % 6) {
    case 0:
      tensor->set_elem_type(static_cast<int>(random() % 24));
      break;
    case 1:
      tensor->mutable_shape()->add_dim()->set_dim_value(odd_number(random));
      break;
    case 2:
      tensor->clear_shape();
      break;
    case 3:
      info->mutable_type()->mutable_sequence_type();
      break;
    default:
      if (auto *dim = any_entry(tensor->mutable_shape()->mutable_dim(), random)) {
        if (random() % 4 == 0) {
          dim->set_dim_param("n");
        } else {
          dim->set_dim_value(odd_number(random));
        }
      }
  }
}

void change_tensor(onnx::TensorProto *tensor, Random &random) {
  if (tensor == nullptr) return;
  switch (random() % 8) {
    case 0:
      tensor->set_data_type(static_cast<int>(random() % 24));
      break;
    case 1:
      tensor->add_dims(odd_number(random));
      break;
    case 2:
      tensor->clear_dims();
      break;
    case 3:
      if (tensor->dims_size() > 0)
        tensor->set_dims(static_cast<int>(random() % tensor->dims_size()), odd_number(random));
      break;
    case 4:
      if (tensor->int64_data_size() > 0) {
        tensor->set_int64_data(static_cast<int>(random() % tensor->int64_data_size()), odd_number(random));
      } else if (tensor->raw_data().size() >= 8) {
        const int64_t value = odd_number(random);
        std::memcpy(&(*tensor->mutable_raw_data())[random() % (tensor->raw_data().size() - 7)], &value, 8);
      }
      break;
    case 5:
      if (tensor->float_data_size() > 0) {
        const float odd[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 0, 1e38F,
                             -1};
        tensor->set_float_data(static_cast<int>(random() % tensor->float_data_size()), odd[random() % std::size(odd)]);
      }
      break;
    case 6:
      tensor->mutable_raw_data()->resize(random() % 64);
      break;
    default: {
      tensor->set_data_location(onnx::TensorProto::EXTERNAL);
      auto *entry = tensor->add_external_data();
      entry->set_key("location");
      const char *const places[] = {"absent", "/etc/passwd", "../x", ".", ""};
      entry->set_value(places[random() % std::size(places)]);
    }
  }
}

void change_attribute(onnx::AttributeProto *entry, Random &random) {
  if (entry == nullptr) return;
  switch (random() % 8) {
    case 0:
      entry->set_type(static_cast<onnx::AttributeProto::AttributeType>(random() % 12));
      break;
    case 1:
      entry->add_ints(odd_number(random));
      break;
    case 2:
      entry->clear_ints();
      break;
    case 3:
      entry->set_name("axis");
      break;
    case 4:
      entry->set_s("odd");
      entry->set_f(-1e30F);
      break;
    case 5:
      change_tensor(entry->mutable_t(), random);
      break;
    default:
      if (entry->ints_size() > 0) {
        entry->set_ints(static_cast<int>(random() % entry->ints_size()), odd_number(random));
      } else {
        entry->set_i(odd_number(random));
      }
  }
}

void change_node(onnx::GraphProto *graph, Random &random) {
  static const std::vector<std::string> operators = supported_operators();
  onnx::NodeProto *node = any_entry(graph->mutable_node(), random);
  if (node == nullptr) return;
  switch (random() % 9) {
    case 0:
      node->set_op_type(any_of(operators, random));
      break;
    case 1:
      node->add_input(any_name(*graph, random));
      break;
    case 2:
      if (node->input_size() > 0) node->mutable_input()->RemoveLast();
      break;
    case 3:
      node->add_output(any_name(*graph, random));
      break;
    case 4:
      if (node->output_size() > 0) node->mutable_output()->RemoveLast();
      break;
    case 5:
      node->clear_attribute();
      break;
    case 6: {
      const onnx::NodeProto copy = *node;
      *graph->add_node() = copy;
      break;
    }
    case 7:
      integer(*node, "axis", odd_number(random));
      break;
    default:
      if (node->input_size() > 0) {
        node->set_input(static_cast<int>(random() % node->input_size()), any_name(*graph, random));
      }
  }
}

}  // namespace

std::vector<onnx::ModelProto> small_models() {
  return {convolutions(), attention(), shapes(), control(), quantised(), places()};
}

void change_model(onnx::ModelProto &model, const std::vector<onnx::ModelProto> &others, ModelRandom &random) {
  onnx::GraphProto *graph = any_graph(model.mutable_graph(), random);
  switch (random() % 12) {
    case 0:
      change_type(any_entry(graph->mutable_input(), random), random);
      break;
    case 1:
    case 2:
      change_tensor(any_entry(graph->mutable_initializer(), random), random);
      break;
    case 3:
    case 4:
    case 5: {
      auto *node = any_entry(graph->mutable_node(), random);
      if (node != nullptr) change_attribute(any_entry(node->mutable_attribute(), random), random);
      break;
    }
    case 6:
      if (graph->node_size() > 0) {
        graph->mutable_node()->DeleteSubrange(static_cast<int>(random() % graph->node_size()), 1);
      }
      break;
    case 7: {  // the other's nodes, with their constants
      const onnx::GraphProto &other = any_of(others, random).graph();
      for (const auto &node : other.node()) *graph->add_node() = node;
      for (const auto &tensor : other.initializer()) *graph->add_initializer() = tensor;
      break;
    }
    case 8:
      if (random() % 2 == 0) {
        if (model.opset_import_size() > 0) model.mutable_opset_import(0)->set_version(odd_number(random) % 30);
      } else if (auto *output = any_entry(graph->mutable_output(), random)) {
        output->set_name(any_name(*graph, random));
      }
      break;
    default:
      change_node(graph, random);
  }
}

}  // namespace cx::compiler
