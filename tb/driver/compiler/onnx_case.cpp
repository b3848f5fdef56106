#include "tb/driver/compiler/onnx_case.hpp"

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
  for (const auto &node : proto.graph().node()) names.insert(node.op_type());
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

std::string run_case(const std::filesystem::path &model, const std::filesystem::path &data_set, Bind bind,
                     double absolute) {
  const DataSet data = read_data_set(data_set);
  const std::vector<InputInfo> infos = inspect_onnx(model);
  if (infos.size() < data.inputs.size()) return "more inputs in the data set than in the model";
  ImportOptions options;
  std::map<std::string, Values> inputs;
  for (std::size_t i = 0; i < data.inputs.size(); ++i) {
    Tensor value = data.inputs[i];
    // The test data stores BF16 as its bits.
    if (infos[i].type == Type::BF16 && value.type == Type::U16) value.type = Type::BF16;
    const bool scalar = bind == Bind::scalars && elements(value.shape) == 1;
    const bool later = bind == Bind::all_but_first && i > 0;
    if (value.type != Type::F32 || scalar || later) {
      options.bound_inputs[infos[i].name] = value;
    } else {
      options.input_shapes[infos[i].name] = value.shape;
      inputs[infos[i].name] = values_of(value);
    }
  }
  const Graph graph = import_onnx(model, options);
  const auto outputs = evaluate_reference(graph, inputs);
  const auto names = output_names_of(model);
  for (std::size_t i = 0; i < data.outputs.size(); ++i) {
    const auto found = outputs.find(names.at(i));
    if (found == outputs.end()) return "output '" + names[i] + "' is missing";
    Tensor expected = data.outputs[i];
    if (graph[graph.outputs.at(i)].type == Type::BF16 && expected.type == Type::U16) expected.type = Type::BF16;
    const std::string wrong = difference(found->second, values_of(expected), 1e-3, absolute);
    if (!wrong.empty()) return "output '" + names[i] + "': " + wrong;
  }
  return "";
}

}  // namespace cx::compiler
