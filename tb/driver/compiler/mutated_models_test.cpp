// Model files that are changed at random: each ends in a program or in a typed message, never in a crash, an endless
// run, another exception or the host's memory.
//
// Batches run in processes of their own, so that a crash is reported with the number of the mutant and the rest goes
// on. Environment: CX_MUTANTS (how many; default below), CX_MUTANT_SEED, CX_MUTANT (only this one, in the test's
// process).
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <random>

#include "driver/compiler/compiler.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/common/data.hpp"
#include "tb/driver/compiler/backend/bench.hpp"
#include "tb/driver/compiler/onnx_model.hpp"

using namespace cx::compiler;
namespace fs = std::filesystem;
using Random = std::mt19937_64;

namespace {

constexpr uint64_t kDefaultMutants = 10'000;
constexpr uint64_t kDefaultSeed = 20260101;
constexpr uint64_t kBatch = 500;
constexpr int kSecondsOfCpu = 20;           // for one mutant
constexpr rlim_t kBytes = rlim_t{6} << 30;  // for a process
constexpr std::uintmax_t kLargestSeedFile = 64 * 1024;

// ---- models to start from ----

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

/// Models built here, and small ones that the machine has: the cases of the ONNX suites (of every operator) and the
/// reference models.
std::vector<onnx::ModelProto> seed_models() {
  std::vector<onnx::ModelProto> models = {convolutions(), attention(), shapes(), control(), quantised()};
  std::vector<fs::path> files;
  for (const fs::path &folder :
       {cx::tb::onnx_suites() / "node", cx::tb::onnx_suites() / "simple", cx::tb::data_dir() / "models"}) {
    if (!fs::exists(folder)) continue;
    for (const auto &entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() == ".onnx" && entry.file_size() <= kLargestSeedFile) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  const std::size_t built = models.size();
  for (const fs::path &file : files) {
    std::ifstream in(file, std::ios::binary);
    onnx::ModelProto model;
    if (model.ParseFromIstream(&in)) models.push_back(std::move(model));
  }
  // Those built here come as often as those found.
  for (std::size_t i = 0; models.size() < 2 * files.size(); ++i) models.push_back(models[i % built]);
  return models;
}

// ---- changes ----

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

void change_model(onnx::ModelProto &model, const std::vector<onnx::ModelProto> &seeds, Random &random) {
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
      const onnx::GraphProto &other = any_of(seeds, random).graph();
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

void change_bytes(std::string &bytes, const std::vector<onnx::ModelProto> &seeds, Random &random) {
  if (bytes.empty()) return;
  const auto place = [&] { return random() % bytes.size(); };
  switch (random() % 5) {
    case 0:
      for (uint64_t i = 0, count = 1 + random() % 8; i < count; ++i) {
        bytes[place()] = static_cast<char>(random());
      }
      break;
    case 1:
      bytes[place()] ^= static_cast<char>(1U << random() % 8);
      break;
    case 2:
      bytes.resize(place());
      break;
    case 3: {  // a part of another file
      const std::string other = any_of(seeds, random).SerializeAsString();
      if (other.empty()) break;
      const std::size_t from = random() % other.size();
      bytes.insert(place(), other.substr(from, random() % 200));
      break;
    }
    default: {
      const std::size_t from = place();
      bytes.erase(from, random() % 32);
    }
  }
}

std::string mutant(const std::vector<onnx::ModelProto> &seeds, uint64_t seed) {
  Random random(seed);
  onnx::ModelProto model = any_of(seeds, random);
  const bool in_bytes = random() % 4 == 0;
  for (uint64_t i = 0, count = 1 + random() % 3; i < count && !in_bytes; ++i) change_model(model, seeds, random);
  std::string bytes = model.SerializeAsString();
  for (uint64_t i = 0, count = 1 + random() % 2; i < count && in_bytes; ++i) change_bytes(bytes, seeds, random);
  return bytes;
}

// ---- what becomes of it ----

enum class Outcome { refused, unsupported, imported, compiled };

/// Throws what is no typed error of the caller's input.
Outcome outcome_of(const fs::path &file, uint64_t seed) {
  Random random(seed);
  ImportOptions options;
  try {
    for (const InputInfo &info : inspect_onnx(file)) {
      Shape shape;
      bool open = false;
      for (const Dimension &dimension : info.shape) {
        open = open || dimension.value < 0;
        shape.push_back(dimension.value >= 0 ? dimension.value : dimension.symbol == "n" ? 1 : 4);
      }
      if (open) options.input_shapes[info.name] = shape;
    }
    const Graph graph = import_onnx(file, options);
    if (random() % 4 != 0) return Outcome::imported;
    compile(graph, cx::tb::tiny_target());
    return Outcome::compiled;
  } catch (const cx::UnsupportedError &error) {
    if (std::string(error.what()).size() < 10) throw std::logic_error("a message without content");
    return Outcome::unsupported;
  } catch (const cx::InputError &error) {
    if (std::string(error.what()).size() < 10) throw std::logic_error("a message without content");
    return Outcome::refused;
  }
}

/// What a batch tells the test.
struct Shared {
  uint64_t at = 0;  ///< mutant that is being tried
  uint64_t counts[4] = {};
  uint64_t failures = 0;
  struct {
    uint64_t index;
    char what[240];
  } failure[64];
};

void limit_process() {
#if !defined(__SANITIZE_ADDRESS__)
  const rlimit memory{kBytes, kBytes};
  setrlimit(RLIMIT_AS, &memory);
#endif
  const rlimit core{0, 0};
  setrlimit(RLIMIT_CORE, &core);
}

void allow_cpu(int seconds) {
  itimerval timer{};
  timer.it_value.tv_sec = seconds;
  setitimer(ITIMER_PROF, &timer, nullptr);
}

void add_failure(Shared &shared, uint64_t index, const std::string &what) {
  if (shared.failures < std::size(shared.failure)) {
    auto &entry = shared.failure[shared.failures];
    entry.index = index;
    std::strncpy(entry.what, what.c_str(), sizeof entry.what - 1);
  }
  ++shared.failures;
}

void try_one(const std::vector<onnx::ModelProto> &seeds, uint64_t seed, uint64_t index, const fs::path &file,
             Shared &shared) {
  std::ofstream(file, std::ios::binary) << mutant(seeds, seed + index);
  try {
    ++shared.counts[static_cast<int>(outcome_of(file, seed + index))];
  } catch (const std::exception &error) {
    add_failure(shared, index, std::string("exception: ") + error.what());
  }
}

/// Tries [begin, end); returns the first that is left.
uint64_t run_batch(const std::vector<onnx::ModelProto> &seeds, uint64_t seed, uint64_t begin, uint64_t end,
                   const fs::path &file, Shared &shared) {
  shared.at = begin;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    limit_process();
    for (uint64_t index = begin; index < end; ++index) {
      shared.at = index;
      allow_cpu(kSecondsOfCpu);
      try_one(seeds, seed, index, file, shared);
    }
    shared.at = end;
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (shared.at == end) return end;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF) {
    add_failure(shared, shared.at, "more than " + std::to_string(kSecondsOfCpu) + " s of CPU");
  } else if (WIFSIGNALED(status)) {
    add_failure(shared, shared.at, std::string("signal: ") + strsignal(WTERMSIG(status)));
  } else {
    add_failure(shared, shared.at, "the process ended with " + std::to_string(WEXITSTATUS(status)));
  }
  return shared.at + 1;
}

uint64_t number_from(const char *variable, uint64_t fallback) {
  const char *text = std::getenv(variable);
  return text == nullptr ? fallback : std::stoull(text);
}

}  // namespace

TEST_CASE("changed model files give a program or a message") {
  const uint64_t seed = number_from("CX_MUTANT_SEED", kDefaultSeed);
  const uint64_t count = number_from("CX_MUTANTS", kDefaultMutants);
  const std::vector<onnx::ModelProto> seeds = seed_models();
  const TemporaryFile file("");
  if (std::getenv("CX_MUTANT") != nullptr) {
    const uint64_t index = number_from("CX_MUTANT", 0);
    std::ofstream("mutant.onnx", std::ios::binary) << mutant(seeds, seed + index);
    std::cout << "mutant " << index << " of seed " << seed << " is in mutant.onnx\n";
    CHECK_NOTHROW(outcome_of("mutant.onnx", seed + index));
    return;
  }
  void *memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  Shared &shared = *new (memory) Shared;
  for (uint64_t next = 0; next < count;) {
    next = run_batch(seeds, seed, next, std::min(next + kBatch, count), file.path(), shared);
  }
  std::cout << count << " mutants of " << seeds.size() << " models, seed " << seed << ": " << shared.counts[0]
            << " refused, " << shared.counts[1] << " unsupported, " << shared.counts[2] << " imported, "
            << shared.counts[3] << " compiled\n";
  for (uint64_t i = 0; i < std::min<uint64_t>(shared.failures, std::size(shared.failure)); ++i) {
    UNSCOPED_INFO("mutant " << shared.failure[i].index << " (CX_MUTANT=" << shared.failure[i].index
                            << " CX_MUTANT_SEED=" << seed << "): " << shared.failure[i].what);
  }
  CHECK(shared.failures == 0);
  // A test that refuses everything at the door tests nothing.
  CHECK(shared.counts[2] + shared.counts[3] > count / 20);
  CHECK(shared.counts[3] > count / 100);
  munmap(memory, sizeof(Shared));
}
