#include "driver/tools/prune.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "driver/compiler/frontend/onnx_file.hpp"
#include "driver/include/cx/error.hpp"
#include "driver/tools/report_table.hpp"
#include "hw/common/num/formats.hpp"

namespace cx::tools {
namespace {

using compiler::Shape;

// ---- patterns ----

[[noreturn]] void bad_pattern(const std::string &text) {
  throw UsageError(fmt::format(
      "pattern '{}': expected unstructured:S, N:M or block:HxW:S, such as unstructured:0.4, 2:4, block:16x16:0.5; S "
      "is the share of zeros from 0 to 1, N from 1 below M, M at most 65535",
      text));
}

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > 65535) return std::nullopt;
  return value;
}

std::optional<double> share(const std::string &text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= 1)) return std::nullopt;
  return value;
}

/// Splits at the first separator.
std::optional<std::pair<std::string, std::string>> split(const std::string &text, char separator) {
  const std::size_t at = text.find(separator);
  if (at == std::string::npos) return std::nullopt;
  return std::pair{text.substr(0, at), text.substr(at + 1)};
}

// ---- matrices in tensors ----

/// Where element (matrix, k, n) lies in the tensor.
struct View {
  int64_t matrices = 0, k = 0, n = 0;
  int64_t matrix_stride = 0, n_stride = 0;
  int64_t inner = 1;  ///< k = outer * inner_size + i lies at outer * outer_stride + i * inner_stride
  int64_t outer_stride = 0, inner_stride = 0;

  int64_t at(int64_t matrix, int64_t row, int64_t column) const {
    return matrix * matrix_stride + column * n_stride + row / inner * outer_stride + row % inner * inner_stride;
  }
  bool operator==(const View &) const = default;
};

/// [M, C/group, kernel...]: K is kernel position by channel.
View convolution_view(const Shape &shape, int64_t group) {
  const int64_t positions =
      std::accumulate(shape.begin() + 2, shape.end(), int64_t{1}, [](int64_t a, int64_t b) { return a * b; });
  View view;
  view.matrices = group;
  view.n = shape[0] / group;
  view.k = positions * shape[1];
  view.n_stride = view.k;
  view.matrix_stride = view.n * view.k;
  view.inner = shape[1];
  view.inner_stride = positions;
  view.outer_stride = 1;
  return view;
}

/// [..., K, N] or transposed.
View product_view(Shape shape, bool transposed) {
  if (shape.size() == 1) shape.push_back(1);
  const std::size_t rank = shape.size();
  View view;
  view.k = shape[rank - (transposed ? 1 : 2)];
  view.n = shape[rank - (transposed ? 2 : 1)];
  view.matrices =
      std::accumulate(shape.begin(), shape.end() - 2, int64_t{1}, [](int64_t a, int64_t b) { return a * b; });
  view.matrix_stride = view.k * view.n;
  view.inner = view.k;
  view.inner_stride = transposed ? 1 : view.n;
  view.n_stride = transposed ? view.k : 1;
  return view;
}

int64_t attribute(const onnx::NodeProto &node, const std::string &name, int64_t fallback) {
  for (const auto &entry : node.attribute())
    if (entry.name() == name) return entry.i();
  return fallback;
}

/// The operand that the hardware keeps; -1 for other operators.
int weight_operand(const onnx::NodeProto &node) {
  if (!node.domain().empty() && node.domain() != "ai.onnx") return -1;
  const bool multiplies = node.op_type() == "Conv" || node.op_type() == "Gemm" || node.op_type() == "MatMul";
  return multiplies && node.input_size() > 1 ? 1 : -1;
}

/// Constants of the main graph by name.
template <typename Model>
auto constants_of(Model &model) {
  using Tensor = std::conditional_t<std::is_const_v<Model>, const onnx::TensorProto, onnx::TensorProto>;
  std::map<std::string, Tensor *> result;
  if constexpr (std::is_const_v<Model>) {
    for (const auto &tensor : model.graph().initializer()) result[tensor.name()] = &tensor;
    for (const auto &node : model.graph().node())
      if (node.op_type() == "Constant" && node.output_size() == 1)
        for (const auto &entry : node.attribute())
          if (entry.name() == "value") result[node.output(0)] = &entry.t();
  } else {
    for (auto &tensor : *model.mutable_graph()->mutable_initializer()) result[tensor.name()] = &tensor;
    for (auto &node : *model.mutable_graph()->mutable_node())
      if (node.op_type() == "Constant" && node.output_size() == 1)
        for (auto &entry : *node.mutable_attribute())
          if (entry.name() == "value") result[node.output(0)] = entry.mutable_t();
  }
  return result;
}

/// Why a tensor cannot be pruned for this node; empty when it can.
std::string obstacle(const onnx::NodeProto &node, const onnx::TensorProto &tensor, const Shape &shape) {
  switch (tensor.data_type()) {
    case onnx::TensorProto::FLOAT:
    case onnx::TensorProto::FLOAT16:
    case onnx::TensorProto::BFLOAT16:
    case onnx::TensorProto::DOUBLE:
      break;
    default:
      return "weights are no floats";
  }
  if (compiler::elements(shape) == 0) return "no elements";
  if (node.op_type() == "Conv") {
    const int64_t group = attribute(node, "group", 1);
    if (shape.size() < 3 || group < 1 || shape[0] % group != 0)
      return "shape " + compiler::to_text(shape) + " is none of a convolution";
    if (group > 1 && shape[1] == 1) return "depthwise, no matrix product";
  } else if (shape.empty() || (node.op_type() == "Gemm" && shape.size() != 2)) {
    return "shape " + compiler::to_text(shape) + " is none of a product";
  }
  return "";
}

View view_of(const onnx::NodeProto &node, const Shape &shape) {
  if (node.op_type() == "Conv") return convolution_view(shape, attribute(node, "group", 1));
  return product_view(shape, node.op_type() == "Gemm" && attribute(node, "transB", 0) != 0);
}

/// One tensor that is to be pruned or checked.
struct Target {
  WeightLayer layer;
  View view;
};

std::string label(const onnx::NodeProto &node) {
  if (!node.name().empty()) return node.name();
  return node.output_size() > 0 ? node.output(0) : node.op_type();
}

/// Nodes that use a tensor otherwise than as this view of weights.
std::string other_use(const onnx::ModelProto &model, const std::string &tensor, const View &view, const Shape &shape) {
  for (const auto &node : model.graph().node()) {
    for (int i = 0; i < node.input_size(); ++i) {
      if (node.input(i) != tensor) continue;
      if (i != weight_operand(node)) return fmt::format("also used by {} '{}'", node.op_type(), label(node));
      if (!(view_of(node, shape) == view)) return fmt::format("seen otherwise by {} '{}'", node.op_type(), label(node));
    }
  }
  for (const auto &output : model.graph().output())
    if (output.name() == tensor) return "also an output";
  return "";
}

std::vector<Target> find_targets(const onnx::ModelProto &model, const std::optional<std::regex> &layers) {
  const auto constants = constants_of(model);
  std::vector<Target> targets;
  std::set<std::string> seen;
  for (const auto &node : model.graph().node()) {
    const int operand = weight_operand(node);
    if (operand < 0 || (layers && !std::regex_search(label(node), *layers))) continue;
    Target target;
    target.layer.name = label(node);
    target.layer.op = node.op_type();
    target.layer.tensor = node.input(operand);
    const auto found = constants.find(target.layer.tensor);
    if (found == constants.end()) {
      target.layer.left_alone = "weights are no constant";
    } else {
      if (!seen.insert(target.layer.tensor).second) continue;
      const Shape shape(found->second->dims().begin(), found->second->dims().end());
      target.layer.left_alone = obstacle(node, *found->second, shape);
      if (target.layer.left_alone.empty()) {
        target.view = view_of(node, shape);
        target.layer.left_alone = other_use(model, target.layer.tensor, target.view, shape);
        target.layer.matrices = target.view.matrices;
        target.layer.k = target.view.k;
        target.layer.n = target.view.n;
        target.layer.elements = compiler::elements(shape);
      }
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

// ---- values ----

std::vector<double> floats_of(const compiler::Tensor &tensor) {
  const auto count = static_cast<std::size_t>(compiler::elements(tensor.shape));
  std::vector<double> result(count);
  const std::byte *data = tensor.data->data();
  if (tensor.type == compiler::Type::F64) {
    std::memcpy(result.data(), data, count * sizeof(double));
  } else {
    const num::DType type = tensor.type == compiler::Type::F32   ? num::DType::FP32
                            : tensor.type == compiler::Type::F16 ? num::DType::FP16
                                                                 : num::DType::BF16;
    std::vector<float> floats(count);
    num::widen(type, data, floats.data(), count);
    std::copy(floats.begin(), floats.end(), result.begin());
  }
  return result;
}

/// Magnitudes of a tensor of floats; NaN counts as infinite.
std::vector<double> magnitudes(const compiler::Tensor &tensor) {
  std::vector<double> result = floats_of(tensor);
  for (double &value : result) value = std::isnan(value) ? std::numeric_limits<double>::infinity() : std::fabs(value);
  return result;
}

int64_t zeros_among(const std::vector<double> &values) { return std::count(values.begin(), values.end(), 0.0); }

double squares(const std::vector<double> &values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return sum;
}

/// Elements that a share means: to the nearest.
int64_t wanted(double sparsity, int64_t count) { return std::llround(sparsity * static_cast<double>(count)); }

/// The `count` indices of least weight; of equal ones the higher indices.
std::vector<int64_t> least(const std::vector<double> &weights, int64_t count) {
  std::vector<int64_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  const auto lighter = [&](int64_t a, int64_t b) {
    const double left = weights[static_cast<std::size_t>(a)], right = weights[static_cast<std::size_t>(b)];
    return left != right ? left < right : a > b;
  };
  if (count < static_cast<int64_t>(order.size()))
    std::nth_element(order.begin(), order.begin() + count, order.end(), lighter);
  order.resize(static_cast<std::size_t>(count));
  return order;
}

/// Calls f(matrix, first k, column) for every group of m neighbours along K.
template <typename F>
void for_groups(const View &view, int64_t m, F &&f) {
  for (int64_t matrix = 0; matrix < view.matrices; ++matrix)
    for (int64_t column = 0; column < view.n; ++column)
      for (int64_t first = 0; first < view.k; first += m) f(matrix, first, column);
}

/// Calls f(first k, first column) for every block of one matrix.
template <typename F>
void for_blocks(const View &view, const PrunePattern &pattern, F &&f) {
  for (int64_t row = 0; row < view.k; row += pattern.height)
    for (int64_t column = 0; column < view.n; column += pattern.width) f(row, column);
}

template <typename F>
void for_elements_of_block(const View &view, const PrunePattern &pattern, int64_t matrix, int64_t row, int64_t column,
                           F &&f) {
  for (int64_t k = row; k < std::min(row + pattern.height, view.k); ++k)
    for (int64_t n = column; n < std::min(column + pattern.width, view.n); ++n)
      f(static_cast<std::size_t>(view.at(matrix, k, n)));
}

std::vector<double> block_squares(const std::vector<double> &values, const View &view, const PrunePattern &pattern) {
  std::vector<double> sums;
  for (int64_t matrix = 0; matrix < view.matrices; ++matrix) {
    for_blocks(view, pattern, [&](int64_t row, int64_t column) {
      double sum = 0;
      for_elements_of_block(view, pattern, matrix, row, column,
                            [&](std::size_t at) { sum += values[at] * values[at]; });
      sums.push_back(sum);
    });
  }
  return sums;
}

// ---- pruning ----

void prune_unstructured(std::vector<double> &values, double sparsity) {
  for (const int64_t at : least(values, wanted(sparsity, static_cast<int64_t>(values.size()))))
    values[static_cast<std::size_t>(at)] = 0;
}

void prune_structured(std::vector<double> &values, const View &view, const PrunePattern &pattern) {
  std::vector<double> group;
  for_groups(view, pattern.m, [&](int64_t matrix, int64_t first, int64_t column) {
    group.clear();
    for (int64_t k = first; k < std::min(first + pattern.m, view.k); ++k)
      group.push_back(values[static_cast<std::size_t>(view.at(matrix, k, column))]);
    const auto size = static_cast<int64_t>(group.size());
    for (const int64_t at : least(group, std::max<int64_t>(0, size - pattern.n)))
      values[static_cast<std::size_t>(view.at(matrix, first + at, column))] = 0;
  });
}

void prune_blocks(std::vector<double> &values, const View &view, const PrunePattern &pattern) {
  const std::vector<double> sums = block_squares(values, view, pattern);
  std::vector<bool> goes(sums.size());
  for (const int64_t at : least(sums, wanted(pattern.sparsity, static_cast<int64_t>(sums.size()))))
    goes[static_cast<std::size_t>(at)] = true;
  std::size_t block = 0;
  for (int64_t matrix = 0; matrix < view.matrices; ++matrix) {
    for_blocks(view, pattern, [&](int64_t row, int64_t column) {
      if (goes[block++])
        for_elements_of_block(view, pattern, matrix, row, column, [&](std::size_t at) { values[at] = 0; });
    });
  }
}

void prune_values(std::vector<double> &values, const View &view, const PrunePattern &pattern) {
  switch (pattern.kind) {
    case PrunePattern::Kind::unstructured:
      return prune_unstructured(values, pattern.sparsity);
    case PrunePattern::Kind::structured:
      return prune_structured(values, view, pattern);
    case PrunePattern::Kind::block:
      return prune_blocks(values, view, pattern);
  }
}

/// Writes data into the model itself, with +0 wherever `values` is 0.
void store(onnx::TensorProto &proto, const compiler::Tensor &tensor, const std::vector<double> *values) {
  std::string raw(reinterpret_cast<const char *>(tensor.data->data()), tensor.data->size());
  const std::size_t size = compiler::bytes_of(tensor.type);
  for (std::size_t i = 0; values != nullptr && i < values->size(); ++i)
    if ((*values)[i] == 0) std::fill_n(raw.begin() + static_cast<std::ptrdiff_t>(i * size), size, '\0');
  proto.clear_float_data();
  proto.clear_double_data();
  proto.clear_int32_data();
  proto.clear_int64_data();
  proto.clear_uint64_data();
  proto.clear_external_data();
  proto.clear_data_location();
  proto.set_raw_data(std::move(raw));
}

/// Data of external files comes along: the result may lie in another folder.
void take_in_external_data(onnx::ModelProto &model, const std::filesystem::path &folder) {
  for (auto &[name, tensor] : constants_of(model))
    if (tensor->data_location() == onnx::TensorProto::EXTERNAL)
      store(*tensor, compiler::read_tensor(*tensor, folder), nullptr);
}

// ---- checking ----

std::string shortage(int64_t zeros, int64_t count, double sparsity, const char *what) {
  const int64_t want = wanted(sparsity, count);
  if (zeros >= want) return "";
  return fmt::format("{} of {} {} are zero, {} wanted: {} too few", zeros, count, what, want, want - zeros);
}

std::string check_structured(const std::vector<double> &values, const View &view, const PrunePattern &pattern) {
  int64_t groups = 0, broken = 0, worst = 0;
  std::string where;
  for_groups(view, pattern.m, [&](int64_t matrix, int64_t first, int64_t column) {
    int64_t nonzeros = 0;
    for (int64_t k = first; k < std::min(first + pattern.m, view.k); ++k)
      nonzeros += values[static_cast<std::size_t>(view.at(matrix, k, column))] != 0 ? 1 : 0;
    ++groups;
    if (nonzeros <= pattern.n) return;
    ++broken;
    if (nonzeros <= worst) return;
    worst = nonzeros;
    where = fmt::format("{}column {}, k {} to {}", view.matrices > 1 ? fmt::format("matrix {}, ", matrix) : "", column,
                        first, std::min(first + pattern.m, view.k) - 1);
  });
  if (broken == 0) return "";
  return fmt::format("{} of {} groups of {} have more than {} non-zeros; {} has {}", broken, groups, pattern.m,
                     pattern.n, where, worst);
}

std::string check_values(const std::vector<double> &values, const View &view, const PrunePattern &pattern) {
  switch (pattern.kind) {
    case PrunePattern::Kind::unstructured:
      return shortage(zeros_among(values), static_cast<int64_t>(values.size()), pattern.sparsity, "elements");
    case PrunePattern::Kind::structured:
      return check_structured(values, view, pattern);
    case PrunePattern::Kind::block: {
      const std::vector<double> sums = block_squares(values, view, pattern);
      return shortage(zeros_among(sums), static_cast<int64_t>(sums.size()), pattern.sparsity, "blocks");
    }
  }
  return "";
}

}  // namespace

PrunePattern PrunePattern::parse(const std::string &text) {
  PrunePattern pattern;
  const auto parts = cx::tools::split(text, ':');
  if (!parts) bad_pattern(text);
  const auto &[head, tail] = *parts;
  if (head == "unstructured") {
    const auto sparsity = share(tail);
    if (!sparsity) bad_pattern(text);
    pattern.sparsity = *sparsity;
    return pattern;
  }
  if (head == "block") {
    pattern.kind = Kind::block;
    const auto sizes = cx::tools::split(tail, ':');
    const auto sides = sizes ? cx::tools::split(sizes->first, 'x') : std::nullopt;
    if (!sides) bad_pattern(text);
    const auto height = whole_number(sides->first), width = whole_number(sides->second);
    const auto sparsity = share(sizes->second);
    if (!height || !width || !sparsity) bad_pattern(text);
    pattern.height = *height;
    pattern.width = *width;
    pattern.sparsity = *sparsity;
    return pattern;
  }
  pattern.kind = Kind::structured;
  const auto n = whole_number(head), m = whole_number(tail);
  if (!n || !m || *n >= *m) bad_pattern(text);
  pattern.n = *n;
  pattern.m = *m;
  return pattern;
}

std::string PrunePattern::text() const {
  switch (kind) {
    case Kind::unstructured:
      return fmt::format("unstructured:{}", sparsity);
    case Kind::structured:
      return fmt::format("{}:{}", n, m);
    case Kind::block:
      return fmt::format("block:{}x{}:{}", height, width, sparsity);
  }
  return "";
}

int64_t PruneReport::violations() const {
  return std::count_if(layers.begin(), layers.end(), [](const WeightLayer &layer) { return !layer.violation.empty(); });
}

PruneReport prune(onnx::ModelProto &model, const std::filesystem::path &folder, const PrunePattern &pattern,
                  const std::optional<std::regex> &layers) {
  PruneReport report{pattern, {}};
  take_in_external_data(model, folder);
  const auto constants = constants_of(model);
  for (Target &target : find_targets(model, layers)) {
    WeightLayer &layer = target.layer;
    if (layer.left_alone.empty()) {
      onnx::TensorProto &proto = *constants.at(layer.tensor);
      const compiler::Tensor tensor = compiler::read_tensor(proto, folder);
      std::vector<double> values = magnitudes(tensor);
      layer.zeros_before = zeros_among(values);
      const double before = squares(values);
      prune_values(values, target.view, pattern);
      layer.zeros = zeros_among(values);
      layer.kept_energy = before > 0 ? squares(values) / before : 1;
      store(proto, tensor, &values);
    }
    report.layers.push_back(std::move(layer));
  }
  return report;
}

PruneReport check_pattern(const onnx::ModelProto &model, const std::filesystem::path &folder,
                          const PrunePattern &pattern, const std::optional<std::regex> &layers) {
  PruneReport report{pattern, {}};
  const auto constants = constants_of(model);
  for (Target &target : find_targets(model, layers)) {
    WeightLayer &layer = target.layer;
    if (layer.left_alone.empty()) {
      const std::vector<double> values = magnitudes(compiler::read_tensor(*constants.at(layer.tensor), folder));
      layer.zeros = layer.zeros_before = zeros_among(values);
      layer.violation = check_values(values, target.view, pattern);
    }
    report.layers.push_back(std::move(layer));
  }
  return report;
}

std::vector<float> weight_matrix(const onnx::ModelProto &model, const std::filesystem::path &folder,
                                 const WeightLayer &layer, int64_t index) {
  for (const Target &target : find_targets(model, std::nullopt)) {
    if (target.layer.tensor != layer.tensor) continue;
    if (!target.layer.left_alone.empty() || index < 0 || index >= target.view.matrices) break;
    const std::vector<double> values = floats_of(compiler::read_tensor(*constants_of(model).at(layer.tensor), folder));
    std::vector<float> matrix;
    for (int64_t k = 0; k < target.view.k; ++k)
      for (int64_t n = 0; n < target.view.n; ++n)
        matrix.push_back(static_cast<float>(values[static_cast<std::size_t>(target.view.at(index, k, n))]));
    return matrix;
  }
  throw InputError(fmt::format("no matrix {} of weights in '{}'", index, layer.tensor));
}

void prune_matrix(std::vector<float> &values, int64_t k, int64_t n, const PrunePattern &pattern) {
  std::vector<double> magnitudes(values.size());
  std::transform(values.begin(), values.end(), magnitudes.begin(), [](float value) { return std::fabs(value); });
  prune_values(magnitudes, product_view({k, n}, false), pattern);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (magnitudes[i] == 0) values[i] = 0;
  }
}

nlohmann::ordered_json prune_json(const PruneReport &report) {
  nlohmann::ordered_json json;
  json["pattern"] = report.pattern.text();
  int64_t elements = 0, zeros = 0;
  auto &list = json["layers"] = nlohmann::ordered_json::array();
  for (const WeightLayer &layer : report.layers) {
    nlohmann::ordered_json entry = {{"name", layer.name}, {"op", layer.op}, {"tensor", layer.tensor}};
    if (!layer.left_alone.empty()) {
      entry["left_alone"] = layer.left_alone;
    } else {
      elements += layer.elements;
      zeros += layer.zeros;
      entry.update({{"matrices", layer.matrices},
                    {"k", layer.k},
                    {"n", layer.n},
                    {"elements", layer.elements},
                    {"zeros_before", layer.zeros_before},
                    {"zeros", layer.zeros},
                    {"sparsity", layer.sparsity()},
                    {"kept_energy", layer.kept_energy}});
      if (!layer.violation.empty()) entry["violation"] = layer.violation;
    }
    list.push_back(std::move(entry));
  }
  json["elements"] = elements;
  json["zeros"] = zeros;
  json["sparsity"] = elements == 0 ? 0 : static_cast<double>(zeros) / static_cast<double>(elements);
  json["violations"] = report.violations();
  return json;
}

std::string prune_table(const PruneReport &report) {
  std::string out =
      fmt::format("pattern {}\n{:<32}{:<8}{:>8}{:>8}{:>9}{:>14}{:>14}{:>10}{:>13}\n", report.pattern.text(), "layer",
                  "op", "K", "N", "matrices", "zeros before", "zeros", "sparsity", "kept energy");
  int64_t elements = 0, zeros = 0;
  for (const WeightLayer &layer : report.layers) {
    const std::string name = layer.name.size() > 31 ? "..." + layer.name.substr(layer.name.size() - 28) : layer.name;
    if (!layer.left_alone.empty()) {
      out += fmt::format("{:<32}{:<8}left alone: {}\n", name, layer.op, layer.left_alone);
      continue;
    }
    elements += layer.elements;
    zeros += layer.zeros;
    out += fmt::format("{:<32}{:<8}{:>8}{:>8}{:>9}{:>14}{:>14}{:>8.2f} %{:>11.3f} %\n", name, layer.op, layer.k,
                       layer.n, layer.matrices, grouped(static_cast<uint64_t>(layer.zeros_before)),
                       grouped(static_cast<uint64_t>(layer.zeros)), 100 * layer.sparsity(), 100 * layer.kept_energy);
    if (!layer.violation.empty()) out += fmt::format("  violates {}: {}\n", report.pattern.text(), layer.violation);
  }
  out += fmt::format("{} of {} weights are zero: {:.2f} %\n", grouped(static_cast<uint64_t>(zeros)),
                     grouped(static_cast<uint64_t>(elements)),
                     elements == 0 ? 0 : 100 * static_cast<double>(zeros) / static_cast<double>(elements));
  return out;
}

}  // namespace cx::tools
