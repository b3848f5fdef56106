// ONNX files: each is refused with a message or becomes a graph, the same one each time.
#include <filesystem>
#include <fstream>
#include <set>

#include "driver/compiler/frontend/elements.hpp"
#include "driver/compiler/frontend/frontend.hpp"
#include "driver/include/cx/error.hpp"
#include "tb/driver/compiler/model_changes.hpp"
#include "tb/fuzz/fuzz.hpp"

using namespace cx;
using namespace cx::fuzz;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kOpenDimension = 2;
constexpr int64_t kMostBound = 64;  // elements of an input whose value is given
constexpr std::size_t kShortest = 10;

/// A file alone in its folder: external data that an input names is not there.
class File {
 public:
  File() : folder_((fs::temp_directory_path() / "cx_fuzz_XXXXXX").string()) {
    require(mkdtemp(folder_.data()) != nullptr, "no folder for the file");
  }
  ~File() { fs::remove_all(folder_); }
  fs::path path() const { return fs::path(folder_) / "model.onnx"; }

 private:
  std::string folder_;
};

/// Inputs of a model: shapes, and values where the import asks for them.
class Inputs {
 public:
  explicit Inputs(const compiler::Model &model) {
    for (const compiler::InputInfo &info : model.inputs()) {
      compiler::Shape shape;
      for (const compiler::Dimension &dimension : info.shape) {
        shape.push_back(dimension.value >= 0 ? dimension.value : kOpenDimension);
      }
      if (info.sequence) {
        options_.item_shapes[info.name] = {shape, shape};
      } else {
        options_.input_shapes[info.name] = shape;
        types_[info.name] = info.type;
      }
    }
  }

  /// False if nothing is left to give.
  bool give(const std::set<std::string> &names) {
    bool gave = false;
    for (const std::string &name : names) {
      const auto shape = options_.input_shapes.find(name);
      if (shape == options_.input_shapes.end() || compiler::elements(shape->second) > kMostBound) continue;
      const std::vector<int64_t> ones(static_cast<std::size_t>(compiler::elements(shape->second)), 1);
      options_.bound_inputs[name] = compiler::make_constant(name, types_.at(name), shape->second, ones);
      options_.input_shapes.erase(shape);
      gave = true;
    }
    return gave;
  }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto &[name, shape] : options_.input_shapes) names.insert(name);
    return names;
  }
  const compiler::ImportOptions &options() const { return options_; }

 private:
  compiler::ImportOptions options_;
  std::map<std::string, compiler::Type> types_;
};

compiler::Graph import(const compiler::Model &model, Inputs &inputs) {
  for (;;) {
    try {
      return compiler::import_onnx(model, inputs.options());
    } catch (const compiler::ValueNeededError &error) {
      if (!inputs.give({error.inputs().begin(), error.inputs().end()})) throw;
    } catch (const compiler::HostOperatorError &) {
      if (!inputs.give(inputs.names())) throw;
    }
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const File file;
  std::ofstream(file.path(), std::ios::binary)
      .write(reinterpret_cast<const char *>(data), static_cast<std::streamsize>(size));
  try {
    const compiler::Model model(file.path());
    Inputs inputs(model);
    const compiler::Graph graph = import(model, inputs);
    require(!graph.outputs.empty(), "a graph without outputs");
    const compiler::Graph again = compiler::import_onnx(model, inputs.options());
    require(compiler::to_text(graph) == compiler::to_text(again), "a second import gives another graph");
  } catch (const InputError &error) {
    require(std::strlen(error.what()) >= kShortest, "a model is refused without a message");
  }
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  static const std::vector<onnx::ModelProto> others = compiler::small_models();
  compiler::ModelRandom random(seed);
  onnx::ModelProto model;
  if (random() % 4 != 0 && model.ParseFromArray(data, static_cast<int>(size))) {
    compiler::change_model(model, others, random);
    const std::string bytes = model.SerializeAsString();
    if (bytes.size() <= max_size) return give({bytes.begin(), bytes.end()}, data, max_size);
  }
  return LLVMFuzzerMutate(data, size, max_size);
}

std::vector<Bytes> fuzz::seeds() {
  std::vector<Bytes> seeds;
  for (const onnx::ModelProto &model : compiler::small_models()) {
    const std::string bytes = model.SerializeAsString();
    seeds.emplace_back(bytes.begin(), bytes.end());
  }
  return seeds;
}
