// Matrix products with seeded values for cx bench.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "driver/compiler/graph.hpp"
#include "driver/runtime/tensor.hpp"

namespace cx::tools {

/// [m, k] by [k, n].
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
};

/// -2 to 2: sums of their products are exact in every precision, so that a check is exact.
std::vector<float> small_integers(std::size_t count, std::mt19937_64 &random);

std::vector<std::byte> raw(const std::vector<float> &values);

/// An F32 tensor; a constant if there are values, as many as it has elements.
compiler::TensorId add_tensor(compiler::Graph &graph, const std::string &name, const compiler::Shape &shape,
                              const std::vector<float> *values = nullptr);
/// Appends a node of one output.
void add_node(compiler::Graph &graph, const std::string &name, const std::string &op,
              std::vector<compiler::TensorId> inputs, compiler::TensorId output,
              std::map<std::string, compiler::Attribute> attributes = {});

/// Input "a", output "c", one MatMul by the weights ([k, n], row-major).
compiler::Graph product_graph(const std::string &name, const ProductShape &shape, const std::vector<float> &weights);

/// Longest k whose sums of products of small integers are exact.
int64_t longest_exact_k(const std::string &precision);

/// Elements of c = a b that differ from the exact result, over at most `rows` evenly chosen rows.
uint64_t wrong_elements(const ProductShape &shape, const std::vector<float> &a, const std::vector<float> &b,
                        const HostTensor &c, int64_t rows);

}  // namespace cx::tools
