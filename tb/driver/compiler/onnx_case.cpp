#include "tb/driver/compiler/onnx_case.hpp"

#include <onnx/onnx-data_pb.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"

namespace cx::compiler {
namespace {

std::vector<Tensor> read_numbered(const std::filesystem::path &folder, const std::string &prefix) {
  std::vector<Tensor> tensors;
  for (int i = 0;; ++i) {
    const auto path = folder / (prefix + std::to_string(i) + ".pb");
    if (!std::filesystem::exists(path)) return tensors;
    tensors.push_back(read_pb(path));
  }
}

}  // namespace

Tensor read_pb(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  onnx::TensorProto proto;
  if (!proto.ParseFromIstream(&file)) throw InputError(path.string() + " is no tensor");
  return read_tensor(proto, path.parent_path());
}

DataSet read_data_set(const std::filesystem::path &folder) {
  return {read_numbered(folder, "input_"), read_numbered(folder, "output_")};
}

std::vector<std::string> operators_of(const std::filesystem::path &model) {
  std::set<std::string> names;
  const onnx::ModelProto proto = read_model(model);
  for (const auto &node : proto.graph().node()) {
    const bool own = node.domain().empty() || node.domain() == "ai.onnx";
    names.insert(own ? node.op_type() : node.domain() + "." + node.op_type());
  }
  return {names.begin(), names.end()};
}

std::vector<std::string> output_names_of(const std::filesystem::path &model) {
  std::vector<std::string> names;
  const onnx::ModelProto proto = read_model(model);
  for (const auto &output : proto.graph().output()) names.push_back(output.name());
  return names;
}

std::string difference(const Values &actual, const Values &expected, double relative, double absolute) {
  if (actual.shape != expected.shape) return "shape " + to_text(actual.shape) + ", expected " + to_text(expected.shape);
  double worst = 0;
  std::size_t where = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < expected.data.size(); ++i) {
    const double a = actual.data[i];
    const double e = expected.data[i];
    if (a == e || (std::isnan(a) && std::isnan(e))) continue;
    // Not a number unless both are finite, which the comparison below then catches.
    const double excess = std::fabs(a - e) / (absolute + relative * std::fabs(e));
    if (excess <= 1) continue;
    ++count;
    if (count == 1 || !(excess <= worst)) {
      worst = excess;
      where = i;
    }
  }
  if (count == 0) return "";
  std::ostringstream text;
  text << count << " of " << expected.data.size() << " elements differ, most at " << where << ": " << actual.data[where]
       << ", expected " << expected.data[where];
  return text.str();
}

namespace {

// Tensors of a file that holds a tensor, a sequence or an optional of either.
std::vector<Tensor> read_items(const std::filesystem::path &path, bool sequence, bool optional) {
  std::ifstream file(path, std::ios::binary);
  std::vector<Tensor> items;
  onnx::SequenceProto list;
  onnx::OptionalProto option;
  if (optional) {
    if (!option.ParseFromIstream(&file)) throw InputError(path.string() + " is no optional");
    if (option.has_tensor_value()) return {read_tensor(option.tensor_value(), path.parent_path())};
    list = option.sequence_value();
  } else if (sequence) {
    if (!list.ParseFromIstream(&file)) throw InputError(path.string() + " is no sequence");
  } else {
    return {read_pb(path)};
  }
  for (const auto &tensor : list.tensor_values()) items.push_back(read_tensor(tensor, path.parent_path()));
  return items;
}

// The test data stores BF16 as its bits.
void fit_type(Tensor &tensor, Type type) {
  if (type == Type::BF16 && tensor.type == Type::U16) tensor.type = Type::BF16;
}

bool is_sequence(const onnx::TypeProto &type) {
  return type.has_sequence_type() || (type.has_optional_type() && type.optional_type().elem_type().has_sequence_type());
}

}  // namespace

std::string run_case(const std::filesystem::path &model, const std::filesystem::path &data_set, double absolute,
                     std::vector<std::string> *bound) {
  ImportOptions options;
  std::map<std::string, Tensor> given;
  const std::vector<InputInfo> infos = inspect_onnx(model);
  for (std::size_t i = 0; i < infos.size(); ++i) {
    const InputInfo &info = infos[i];
    const auto path = data_set / ("input_" + std::to_string(i) + ".pb");
    if (!std::filesystem::exists(path)) {
      if (info.optional) continue;
      return "input " + std::to_string(i) + " is not in the data set";
    }
    std::vector<Tensor> items = read_items(path, info.sequence, info.optional);
    if (info.sequence) options.item_shapes[info.name];
    for (std::size_t k = 0; k < items.size(); ++k) {
      fit_type(items[k], info.type);
      if (info.sequence) {
        options.item_shapes[info.name].push_back(items[k].shape);
        given[item_name(info.name, k)] = items[k];
      } else {
        options.input_shapes[info.name] = items[k].shape;
        given[info.name] = items[k];
      }
    }
  }
  std::optional<Graph> graph;
  while (!graph) {
    try {
      graph = import_onnx(model, options);
    } catch (const ValueNeededError &error) {
      for (const std::string &name : error.inputs()) {
        options.bound_inputs[name] = given.at(name);
        if (bound != nullptr) bound->push_back(name);
      }
      if (options.bound_inputs.size() == given.size()) {
        throw UnsupportedError(error.op(), std::string("every input is needed to import: ") + error.what());
      }
    }
  }
  std::map<std::string, Values> inputs;
  for (TensorId id : graph->inputs) inputs[(*graph)[id].name] = values_of(given.at((*graph)[id].name));
  const auto outputs = evaluate_reference(*graph, inputs, true);
  const onnx::ModelProto proto = read_model(model);
  for (int i = 0; i < proto.graph().output_size(); ++i) {
    const auto &output = proto.graph().output(i);
    const auto path = data_set / ("output_" + std::to_string(i) + ".pb");
    if (!std::filesystem::exists(path)) continue;
    const bool sequence = is_sequence(output.type());
    std::vector<Tensor> items = read_items(path, sequence, output.type().has_optional_type());
    for (std::size_t k = 0; k < items.size(); ++k) {
      const std::string name = sequence ? item_name(output.name(), k) : output.name();
      const auto found = outputs.find(name);
      if (found == outputs.end()) return "output '" + name + "' is missing";
      const auto id = std::find_if(graph->outputs.begin(), graph->outputs.end(),
                                   [&](TensorId candidate) { return (*graph)[candidate].name == name; });
      const Type type = (*graph)[*id].type;
      fit_type(items[k], type);
      if (items[k].type != type) {
        return "output '" + name + "' is " + name_of(type) + ", expected " + name_of(items[k].type);
      }
      const std::string wrong = difference(found->second, values_of(items[k]), 1e-3, absolute);
      if (!wrong.empty()) return "output '" + name + "': " + wrong;
    }
  }
  return "";
}

}  // namespace cx::compiler
