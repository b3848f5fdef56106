// Pruning of the constant weights of an ONNX model, in the K x N matrices that the hardware multiplies.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"

// After the graph header: onnx's macros.
#include <onnx/onnx_pb.h>

#include <filesystem>

namespace cx::tools {

/// Which weights are zero.
struct PrunePattern {
  enum class Kind { unstructured, structured, block };
  Kind kind = Kind::unstructured;
  double sparsity = 0;            ///< unstructured and block: share of elements or blocks that are zero, 0 to 1
  int64_t n = 0, m = 0;           ///< structured: at most n non-zeros among m neighbours along K
  int64_t height = 0, width = 0;  ///< block: along K and along N

  /// "unstructured:0.4", "2:4", "block:16x16:0.5". Throws UsageError that says what was expected.
  static PrunePattern parse(const std::string &text);
  std::string text() const;
};

/// A weight tensor and the matrices in it: K x N each, K being the reduction dimension as the hardware sees it, kernel
/// row, kernel column, channel for convolutions.
struct WeightLayer {
  std::string name;  ///< of the node; of several nodes, that of the first
  std::string op;
  std::string tensor;
  int64_t matrices = 0;  ///< batches or groups
  int64_t k = 0;
  int64_t n = 0;
  std::string left_alone;  ///< why it cannot be pruned; empty: it can

  int64_t elements = 0;
  int64_t zeros_before = 0;
  int64_t zeros = 0;
  /// Sum of squares of what is left by that of all; 1 for a tensor of zeros.
  double kept_energy = 1;
  std::string violation;  ///< of check(): where, by how much; empty: none
  double sparsity() const { return elements == 0 ? 0 : static_cast<double>(zeros) / static_cast<double>(elements); }
};

struct PruneReport {
  PrunePattern pattern;
  std::vector<WeightLayer> layers;  ///< Conv, Gemm and MatMul nodes in the model's order whose names match
  int64_t violations() const;
};

/// Zeroes the weights of least magnitude until the pattern holds; of equal ones, those of lower index stay. Whole
/// blocks go by their sum of squares. Constants are initializers or Constant nodes of the main graph in floats of 16,
/// 32 or 64 bits; data of the result is in the model, not in external files. Throws InputError for tensors that
/// disagree with their data.
PruneReport prune(onnx::ModelProto &model, const std::filesystem::path &folder, const PrunePattern &pattern,
                  const std::optional<std::regex> &layers);

/// The same for the values of one matrix, [k][n] row-major.
void prune_matrix(std::vector<float> &values, int64_t k, int64_t n, const PrunePattern &pattern);

/// Whether the weights satisfy a pattern: WeightLayer::violation.
PruneReport check_pattern(const onnx::ModelProto &model, const std::filesystem::path &folder,
                          const PrunePattern &pattern, const std::optional<std::regex> &layers);

/// K rows of N values of matrix `index`, below layer.matrices, of a layer of one of these reports that was not left
/// alone, rounded to FP32. Throws InputError if the model does not have the layer's tensor, or it disagrees with its
/// data.
std::vector<float> weight_matrix(const onnx::ModelProto &model, const std::filesystem::path &folder,
                                 const WeightLayer &layer, int64_t index);

nlohmann::ordered_json prune_json(const PruneReport &report);
std::string prune_table(const PruneReport &report);

}  // namespace cx::tools
