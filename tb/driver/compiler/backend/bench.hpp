// Builds small graphs, compiles them, runs them in the program simulator and compares with the front-end's evaluator.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "driver/compiler/compiler.hpp"
#include "driver/compiler/graph.hpp"
#include "driver/runtime/program.hpp"

namespace cx::tb {

/// Two tiles of 8 x 8, 512 KiB of scratchpad.
Target tiny_target();
/// Sixteen tiles of 32 x 32, 8 MiB of scratchpad.
Target card_target();

/// A graph under construction; every method adds one thing and returns its tensor.
class GraphMaker {
 public:
  explicit GraphMaker(uint32_t seed) : random_(seed) {}

  compiler::TensorId input(const compiler::Shape &shape, compiler::Type type = compiler::Type::F32);
  compiler::TensorId constant(const compiler::Shape &shape, float low = -1, float high = 1);
  compiler::TensorId scalar(float value);
  compiler::TensorId node(const std::string &op, const std::vector<compiler::TensorId> &inputs,
                          std::map<std::string, compiler::Attribute> attributes, const compiler::Shape &shape,
                          compiler::Type type = compiler::Type::F32);
  compiler::TensorId unary(const std::string &func, compiler::TensorId x, float alpha = 0, float beta = 0);
  compiler::TensorId binary(const std::string &func, compiler::TensorId a, compiler::TensorId b);
  void output(compiler::TensorId id) { graph.outputs.push_back(id); }

  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  std::mt19937 &random() { return random_; }
  compiler::Shape shape(compiler::TensorId id) const { return graph[id].shape; }

  compiler::Graph graph;

 private:
  std::mt19937 random_;
};

/// Random values for every input, within [-1, 1] for floats.
std::map<compiler::TensorId, compiler::Tensor> random_inputs(const compiler::Graph &graph, std::mt19937 &random);

/// Every tensor of the graph, by the front-end's evaluator (double arithmetic).
std::vector<compiler::Tensor> evaluate_graph(const compiler::Graph &graph,
                                             const std::map<compiler::TensorId, compiler::Tensor> &inputs);

/// Graph outputs only, by the test's reference interpreter: faster for whole models of FP32.
std::vector<compiler::Tensor> evaluate_model(const compiler::Graph &graph,
                                             const std::map<compiler::TensorId, compiler::Tensor> &inputs);

struct Comparison {
  double worst = 0;  ///< largest |difference| / (1 + |expected|)
  bool same_for_all_orders = true;
  float largest_half = 0;
  uint64_t instructions = 0;
  std::vector<compiler::Tensor> outputs;  ///< as the simulator left them
};

/// Ranges of ranged_tensors() from known values of every tensor of the graph.
std::map<std::string, float> ranges_of(const compiler::Graph &graph, const std::vector<compiler::Tensor> &values);

/// The same by simulating the graph that measures them, in FP32.
std::map<std::string, float> simulated_ranges(const compiler::Graph &graph, const Target &target,
                                              const std::map<compiler::TensorId, compiler::Tensor> &inputs);

/// Compiles and simulates under several orders of the engines. Throws what these throw. Non-float outputs must be
/// equal.
Comparison compare(const compiler::Graph &graph, const Target &target, const compiler::CompileOptions &options,
                   const std::map<compiler::TensorId, compiler::Tensor> &inputs,
                   const std::vector<compiler::Tensor> &expected, bool all_orders = true);
Comparison compare(const compiler::Graph &graph, const Target &target, compiler::Precision precision,
                   const std::map<compiler::TensorId, compiler::Tensor> &inputs,
                   const std::vector<compiler::Tensor> &expected, bool all_orders = true);

}  // namespace cx::tb
