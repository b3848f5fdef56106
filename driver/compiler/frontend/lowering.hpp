// One ONNX node on its way into the graph, and the table of lowerings.
#pragma once

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "driver/compiler/frontend/builder.hpp"

namespace cx::compiler {

/// What a lowering sees of its node. Errors that it throws need no prefix: the importer names node and operator.
class NodeContext {
 public:
  NodeContext(Builder &builder, const onnx::NodeProto &proto, int opset, std::vector<TensorId> inputs,
              std::vector<bool> used_outputs, std::filesystem::path folder);

  Builder &b;
  const int opset;

  const std::string &op() const { return proto_.op_type(); }
  std::size_t input_count() const { return inputs_.size(); }
  bool has_input(std::size_t index) const { return index < inputs_.size() && inputs_[index] != kNoTensor; }
  TensorId input(std::size_t index) const;           ///< throws InputError if absent
  TensorId optional_input(std::size_t index) const;  ///< kNoTensor if absent
  const std::vector<TensorId> &inputs() const { return inputs_; }
  /// Every input, all present.
  std::vector<TensorId> all_inputs() const;

  std::size_t output_count() const { return used_outputs_.size(); }
  bool output_used(std::size_t index) const { return index < used_outputs_.size() && used_outputs_[index]; }
  /// Throws UnsupportedError if an output beyond the first `count` is used.
  void only_outputs(std::size_t count) const;

  bool has_attribute(const std::string &name) const;
  int64_t integer(const std::string &name, int64_t fallback) const;
  float real(const std::string &name, float fallback) const;
  std::string text(const std::string &name, const std::string &fallback) const;
  std::vector<int64_t> integers(const std::string &name, std::vector<int64_t> fallback = {}) const;
  const onnx::AttributeProto *attribute(const std::string &name) const;
  const std::filesystem::path &folder() const { return folder_; }

  /// Values of an input that must be known at compile time. Throws ValueNeededError naming it otherwise.
  std::vector<int64_t> integer_input(std::size_t index, const std::string &role) const;
  const Tensor &constant_input(std::size_t index, const std::string &role) const;

  /// For operators that only the host computes. Throws HostOperatorError when one of these inputs is there and not
  /// known at compile time.
  void require_constants(const std::vector<std::size_t> &indices) const;

  /// A non-negative axis of a tensor of this rank; `limit` = rank, or rank + 1 where one past the end is allowed.
  static int64_t axis(int64_t value, int64_t limit);
  static std::vector<int64_t> axes(std::vector<int64_t> values, int64_t rank);

 private:
  const onnx::AttributeProto *typed_attribute(const std::string &name, onnx::AttributeProto::AttributeType type) const;

  const onnx::NodeProto &proto_;
  std::vector<TensorId> inputs_;
  std::vector<bool> used_outputs_;
  std::filesystem::path folder_;
};

/// [channels] seen as [channels, 1, 1, ...] so that it broadcasts along dimension 1 of a tensor of this rank. Throws
/// InputError naming the role when `values` has another shape.
TensorId per_channel(Builder &b, TensorId values, int64_t rank, int64_t channels, const char *role);

/// Returns the node's outputs, in order; those that are not used may be left out or kNoTensor.
using Lowering = std::function<std::vector<TensorId>(NodeContext &)>;
/// By the operator's name, with its domain and a dot before it unless that is the default domain.
using LoweringTable = std::map<std::string, Lowering>;

void register_elementwise(LoweringTable &table);
void register_shape(LoweringTable &table);
void register_linear(LoweringTable &table);   ///< convolutions and matrix products
void register_pooling(LoweringTable &table);  ///< pooling and reductions
void register_normalisation(LoweringTable &table);
void register_resize(LoweringTable &table);
void register_indexing(LoweringTable &table);      ///< gather, scatter, orders, one-hot codes
void register_trigonometry(LoweringTable &table);  ///< and hyperbolic functions
void register_sampling(LoweringTable &table);      ///< grids, regions, unpooling, columns to images
void register_functions(LoweringTable &table);     ///< activations and normalisations that are spelled out
void register_recurrent(LoweringTable &table);
void register_attention(LoweringTable &table);
void register_einsum(LoweringTable &table);
void register_loss(LoweringTable &table);
void register_signal(LoweringTable &table);
void register_ngrams(LoweringTable &table);  ///< n-grams of integers
void register_quantised(LoweringTable &table);
void register_training(LoweringTable &table);

}  // namespace cx::compiler
